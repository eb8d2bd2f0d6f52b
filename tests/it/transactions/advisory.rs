//! Advisory locks: guards of the session, and those of a transaction.

use chopin_pg::{AdvisoryKey, AdvisoryLock};

use super::*;

/// A key that no other test uses, as each runs in a process of its own number or later.
fn key(number: i32) -> AdvisoryKey {
    AdvisoryKey::Two(i32::try_from(std::process::id()).unwrap_or(0), number)
}

/// How many advisory locks the session of this process has, and of which modes.
fn held(db: &mut PgConnection, process_id: i32) -> String {
    let sql = "select mode from pg_locks where locktype = 'advisory' and granted and pid = $1 \
               order by mode";
    printed(&db.query(sql, &[&process_id]).unwrap())
}

#[test]
fn b17_a_session_lock_is_held_until_it_is_unlocked_or_dropped() {
    let (mut db, mut other) = (connect(), connect());
    let process_id = db.process_id();
    for key in [AdvisoryKey::One(i64::from(process_id) << 32), key(1)] {
        let mut lock = db.advisory_lock(key).unwrap();
        assert_usable(&mut lock);
        assert_eq!(held(&mut other, process_id), "ExclusiveLock");
        assert!(other.try_advisory_lock(key).unwrap().is_none());
        assert!(other.try_advisory_lock_shared(key).unwrap().is_none());
        assert!(lock.unlock().unwrap());
        assert_eq!(held(&mut other, process_id), "");

        let lock = db.advisory_lock_shared(key).unwrap();
        assert!(other.try_advisory_lock(key).unwrap().is_none());
        let shared = other.try_advisory_lock_shared(key).unwrap().expect("a shared one");
        assert!(shared.unlock().unwrap());
        assert!(lock.unlock().unwrap());

        // Dropped: unlocking goes before the next query.
        drop(db.try_advisory_lock(key).unwrap().expect("it is free"));
        assert_idle(&mut db);
        assert_eq!(held(&mut other, process_id), "");
    }
    // Both forms of keys, as they are written in a program.
    assert!(db.try_advisory_lock(i64::MIN + i64::from(process_id)).unwrap().is_some());
    assert!(db.try_advisory_lock((i32::MIN, process_id)).unwrap().is_some());
    assert_idle(&mut db);
    assert_eq!(db.drain_notices().count(), 0, "nothing was unlocked that was not locked");
}

#[test]
fn b17_locks_can_be_held_together_and_around_transactions() {
    let (mut db, mut other) = (connect_with_table(), connect());
    let process_id = db.process_id();
    let mut first = db.advisory_lock(key(2)).unwrap();
    let mut second = first.advisory_lock_shared(key(3)).unwrap();
    assert_eq!(held(&mut other, process_id), "ExclusiveLock\nShareLock");
    second.transaction(|tx| insert(tx, 1)).unwrap();
    let failed: PgResult<u64> = second.transaction(|tx| {
        insert(tx, 2)?;
        insert(tx, 2)
    });
    assert!(failed.is_err());
    // A transaction that is dropped in its failed state ends before the lock does.
    let mut tx = second.begin_transaction().unwrap();
    insert(&mut tx, 1).unwrap_err();
    drop(tx);
    drop(second);
    assert!(first.unlock().unwrap());
    assert_eq!(held(&mut other, process_id), "");
    // Unlocked by something else meanwhile.
    let mut lock = db.advisory_lock(key(2)).unwrap();
    lock.reset().unwrap();
    assert!(!lock.unlock().unwrap());
    assert_idle(&mut db);
}

#[test]
fn b17_h21_h22_a_lock_is_unlocked_by_a_panic_and_behind_what_is_in_flight() {
    let (mut db, mut other) = (connect(), connect());
    let process_id = db.process_id();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut lock = db.advisory_lock(key(4)).unwrap();
        let request = Request::Query { sql: "select 1", params: &() };
        let _ticket = lock.submit_with(request, COLLECT.no_sync()).unwrap();
        panic!("no more");
    }));
    assert!(panicked.is_err());
    assert_usable(&mut db);
    assert_eq!(held(&mut other, process_id), "");
}

#[test]
fn b17_a_lock_that_is_given_too_late_is_unlocked() {
    let (mut db, mut other) = (connect(), connect());
    let process_id = db.process_id();
    let held_by_other: AdvisoryLock<'_> = other.advisory_lock(key(5)).unwrap();
    db.set_io_timeout(SHORT);
    assert!(matches!(db.advisory_lock(key(5)), Err(PgError::Timeout(_))));
    held_by_other.unlock().unwrap();
    db.set_io_timeout(LONG);
    assert_idle(&mut db);
    assert_eq!(held(&mut other, process_id), "");
}

#[test]
fn b17_a_lock_of_a_transaction_ends_with_it() {
    let (mut db, mut other) = (connect(), connect());
    let process_id = db.process_id();
    let mut tx = db.begin_transaction().unwrap();
    tx.advisory_xact_lock(key(6)).unwrap();
    tx.advisory_xact_lock_shared(key(7)).unwrap();
    assert_eq!(held(&mut other, process_id), "ExclusiveLock\nShareLock");
    let mut other_tx = other.begin_transaction().unwrap();
    assert!(!other_tx.try_advisory_xact_lock(key(6)).unwrap());
    assert!(!other_tx.try_advisory_xact_lock(key(7)).unwrap());
    assert!(other_tx.try_advisory_xact_lock_shared(key(7)).unwrap());
    assert!(!other_tx.try_advisory_xact_lock_shared(key(6)).unwrap());
    tx.commit().unwrap();
    assert!(other_tx.try_advisory_xact_lock(key(6)).unwrap());
    drop(other_tx);
    assert_eq!(held(&mut other, process_id), "");
    assert_idle(&mut other);
}

#[test]
fn b17_a_lock_that_would_not_do_what_it_looks_like_is_refused() {
    let mut db = connect();
    for result in [
        db.advisory_xact_lock(key(8)),
        db.advisory_xact_lock_shared(key(8)),
        db.try_advisory_xact_lock(key(8)).map(drop),
        db.try_advisory_xact_lock_shared(key(8)).map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, PgError::Usage(_)), "{error}");
        assert!(error.to_string().contains("no transaction is open"), "{error}");
    }
    let mut tx = db.begin_transaction().unwrap();
    let error = tx.advisory_lock(key(8)).unwrap_err();
    assert!(matches!(error, PgError::Usage(_)), "{error}");
    assert!(error.to_string().contains("before the transaction begins"), "{error}");
    assert_eq!(tx.transaction_status(), TransactionStatus::InTransaction);
    tx.commit().unwrap();
    assert_idle(&mut db);
}
