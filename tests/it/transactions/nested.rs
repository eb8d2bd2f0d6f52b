//! Savepoints: single calls, and transactions within transactions.

use super::*;

#[test]
fn s7_2_s8_8_savepoints_by_single_calls() {
    let mut db = connect_with_table();
    db.begin().unwrap();
    insert(&mut db, 1).unwrap();
    db.savepoint("a").unwrap();
    insert(&mut db, 2).unwrap();
    db.savepoint("b").unwrap();
    insert(&mut db, 2).unwrap_err();
    assert_eq!(db.transaction_status(), TransactionStatus::Failed);
    db.rollback_to("b").unwrap();
    assert_eq!(db.transaction_status(), TransactionStatus::InTransaction);
    db.release_savepoint("b").unwrap();
    assert_eq!(numbers(&mut db), [1, 2]);
    db.rollback_to("a").unwrap();
    db.rollback_to("a").unwrap();
    insert(&mut db, 3).unwrap();
    db.release_savepoint("a").unwrap();
    db.commit().unwrap();
    assert_eq!(numbers(&mut db), [1, 3]);
    assert_eq!(db.savepoint("a").unwrap_err().sql_state().unwrap().as_str(), "25P01");
    assert_idle(&mut db);
}

/// Names that want to be more than a name.
const NAMES: &[&str] = &[
    "plain",
    "Upper and lower",
    "\"",
    "\"\"; rollback; --",
    "a\"; drop table t; --",
    "'; drop table t; --",
    "$1",
    "\\",
    "Für Elise\n\t🎹",
    "select",
    "chopin",
];

#[test]
fn h35_s7_2_a_savepoint_may_have_any_name() {
    let mut db = connect_with_table();
    let longest = "é".repeat(31) + "x";
    for name in NAMES.iter().copied().chain([longest.as_str()]) {
        db.begin().unwrap();
        db.savepoint(name).unwrap();
        insert(&mut db, 1).unwrap();
        db.rollback_to(name).unwrap();
        db.release_savepoint(name).unwrap();
        let error = db.rollback_to(name).unwrap_err();
        let undefined = Some(SqlState::INVALID_SAVEPOINT_SPECIFICATION);
        assert_eq!(error.sql_state(), undefined, "{name:?}: {error}");
        assert!(error.to_string().contains(&format!("savepoint \"{name}\"")), "{error}");
        db.rollback().unwrap();
        let mut tx = db.begin_transaction().unwrap();
        let mut inner = tx.begin_savepoint(name).unwrap();
        insert(&mut inner, 2).unwrap();
        drop(inner);
        tx.begin_savepoint(name).unwrap().commit().unwrap();
        tx.commit().unwrap();
        assert_eq!(numbers(&mut db), NONE, "{name:?}");
    }
    assert_eq!(db.drain_notices().count(), 0, "no name was cut short");
    assert_idle(&mut db);
}

#[test]
fn h35_s7_2_what_is_no_name_is_refused_before_anything_is_sent() {
    let mut db = connect_with_table();
    let mut tx = db.begin_transaction().unwrap();
    for name in ["", "a\0b", &"x".repeat(64), &"é".repeat(32)] {
        for result in [
            tx.savepoint(name),
            tx.rollback_to(name),
            tx.release_savepoint(name),
            tx.begin_savepoint(name).map(drop),
        ] {
            let error = result.unwrap_err();
            assert!(matches!(error, PgError::Usage(_)), "{error}");
            assert!(error.to_string().contains("cannot be used as a name"), "{error}");
        }
    }
    insert(&mut tx, 1).unwrap();
    tx.commit().unwrap();
    assert_eq!(numbers(&mut db), [1]);
}

#[test]
fn s7_7_s8_8_nested_transactions_are_savepoints() {
    let mut db = connect_with_table();
    let done: PgResult<()> = db.transaction(|tx| {
        insert(tx, 1)?;
        // Commits.
        tx.transaction(|tx| insert(tx, 2))?;
        // Is undone alone, and what failed in it is usable again.
        let failed: PgResult<()> = tx.transaction(|tx| {
            insert(tx, 3)?;
            tx.transaction(|tx| insert(tx, 4))?;
            insert(tx, 1).map(drop)
        });
        assert_eq!(failed.unwrap_err().sql_state(), Some(SqlState::UNIQUE_VIOLATION));
        assert_eq!(tx.transaction_status(), TransactionStatus::InTransaction);
        // Fails, and says nothing of it.
        let swallowed: PgResult<()> = tx.transaction(|tx| {
            insert(tx, 5)?;
            insert(tx, 5).unwrap_err();
            Ok(())
        });
        assert!(matches!(swallowed, Err(PgError::RolledBack)));
        assert_eq!(tx.transaction_status(), TransactionStatus::InTransaction);
        // By guards, three deep: the innermost commits, the one around it does not.
        let mut second = tx.begin_transaction()?;
        insert(&mut second, 6)?;
        let mut third = second.begin_transaction()?;
        insert(&mut third, 7)?;
        third.commit()?;
        second.rollback()?;
        insert(tx, 8).map(drop)
    });
    done.unwrap();
    assert_eq!(numbers(&mut db), [1, 2, 8]);
    assert_idle(&mut db);

    let undone: PgResult<()> = db.transaction(|tx| {
        tx.transaction(|tx| insert(tx, 9))?;
        insert(tx, 1).map(drop)
    });
    assert!(undone.is_err());
    assert_eq!(numbers(&mut db), [1, 2, 8], "the inner commit was a part of it");
}

/// Knows nothing of who calls it.
fn transfer(db: &mut PgConnection, x: i32) -> PgResult<u64> {
    db.transaction(|tx| {
        insert(tx, x)?;
        insert(tx, -x)
    })
}

#[test]
fn s7_7_a_transaction_inside_of_one_is_a_part_of_it() {
    let mut db = connect_with_table();
    transfer(&mut db, 1).unwrap();
    db.begin().unwrap();
    transfer(&mut db, 2).unwrap();
    assert_eq!(db.transaction_status(), TransactionStatus::InTransaction);
    db.rollback().unwrap();
    let mut tx = db.begin_transaction().unwrap();
    transfer(&mut tx, 3).unwrap();
    assert!(transfer(&mut tx, 3).is_err());
    tx.commit().unwrap();
    assert_eq!(numbers(&mut db), [-3, -1, 1, 3]);
    // In a transaction that has failed nothing can begin.
    let mut tx = db.begin_transaction().unwrap();
    insert(&mut tx, 1).unwrap_err();
    let error = tx.begin_transaction().unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::IN_FAILED_SQL_TRANSACTION));
    drop(tx);
    // What a dropped one has queued is awaited before it is asked what is open.
    drop(db.begin_transaction().unwrap());
    transfer(&mut db, 4).unwrap();
    assert_eq!(numbers(&mut db), [-4, -3, -1, 1, 3, 4]);
    assert_idle(&mut db);
}

#[test]
fn s7_7_the_names_of_savepoints_are_few_and_differ() {
    let mut db = connect();
    let lines = traced(&mut db, |db| {
        for _ in 0..2 {
            let mut tx = db.begin_transaction().unwrap();
            let mut second = tx.begin_transaction().unwrap();
            second.begin_transaction().unwrap().commit().unwrap();
            second.commit().unwrap();
            let inner = tx.begin_transaction().unwrap();
            std::mem::forget(inner);
            drop(tx.begin_transaction().unwrap());
            tx.commit().unwrap();
        }
    });
    let name =
        |line: &String| Some(line.split_once("SAVEPOINT \"")?.1.split_once('"')?.0.to_owned());
    let set = |line: &&String| line.contains(" \"SAVEPOINT ");
    let names: Vec<_> = lines.iter().filter(set).filter_map(name).collect();
    let once = ["chopin_1", "chopin_2", "chopin_1", "chopin_2"];
    assert_eq!(names, once.repeat(2));
    assert_idle(&mut db);
}

#[test]
fn s7_7_a_savepoint_is_not_rolled_back_twice() {
    let mut db = connect_with_table();
    let mut tx = db.begin_transaction().unwrap();
    insert(&mut tx, 1).unwrap();
    // The transaction ends inside of the nested one.
    let mut inner = tx.begin_transaction().unwrap();
    inner.execute_batch("commit").unwrap();
    drop(inner);
    insert(&mut tx, 2).unwrap();
    assert_eq!(tx.transaction_status(), TransactionStatus::Idle);
    assert!(matches!(tx.begin_savepoint("a"), Err(PgError::Server(_))));
    drop(tx);
    assert_eq!(numbers(&mut db), [1, 2]);
    assert_idle(&mut db);
}
