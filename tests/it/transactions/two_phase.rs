//! Two-phase commit, on a server that allows it.

use testkit::Cluster;

use super::*;

/// Identifiers that want to be more than a text.
const IDENTIFIERS: &[&str] = &[
    "plain",
    "",
    "it's",
    r"\",
    r"\'; drop table t; --",
    "'; drop table t; --",
    "\"quoted\"",
    "Für Elise\n🎹",
    "$1",
];

fn prepared(db: &mut PgConnection) -> Vec<String> {
    let rows = db.query("select gid from pg_prepared_xacts order by gid", &[]).unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

#[test]
fn b14_h35_two_phase_commit() {
    let server = Cluster::builder().guc("max_prepared_transactions", "5").start().unwrap();
    let config =
        chopin_pg::PgConfig::new(server.host(), server.port(), server.superuser(), "", "postgres");
    let mut db = PgConnection::connect(&config).unwrap();
    let mut other = PgConnection::connect(&config).unwrap();
    db.execute_batch("create table t (x int4 primary key)").unwrap();
    for conforming in ["on", "off"] {
        for session in [&mut db, &mut other] {
            let sql = format!(
                "set standard_conforming_strings = {conforming}; \
                               set escape_string_warning = off"
            );
            session.execute_batch(&sql).unwrap();
        }
        for gid in IDENTIFIERS.iter().copied().chain(["x".repeat(199).as_str()]) {
            let mut tx = db.begin_transaction().unwrap();
            insert(&mut tx, 1).unwrap();
            tx.prepare_transaction(gid).unwrap();
            assert_eq!(db.transaction_status(), TransactionStatus::Idle);
            assert_eq!(prepared(&mut db), [gid]);
            assert_eq!(numbers(&mut db), NONE);
            other.rollback_prepared(gid).unwrap();

            db.begin().unwrap();
            insert(&mut db, 1).unwrap();
            db.prepare_transaction(gid).unwrap();
            other.commit_prepared(gid).unwrap();
            assert_eq!(numbers(&mut db), [1]);
            let error = other.commit_prepared(gid).unwrap_err();
            assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_OBJECT), "{gid:?}");
            assert!(error.to_string().contains(&format!("\"{gid}\"")), "{error}");
            db.execute_batch("delete from t").unwrap();
        }
    }
    refusals(&mut db, &mut other);
}

/// What cannot be prepared is rolled back.
fn refusals(db: &mut PgConnection, other: &mut PgConnection) {
    assert!(matches!(db.prepare_transaction("a"), Err(PgError::Usage(_))), "none is open");
    for result in [db.commit_prepared("a\0b"), db.rollback_prepared("\0")] {
        assert!(matches!(result, Err(PgError::Usage(_))));
    }
    let mut tx = db.begin_transaction().unwrap();
    insert(&mut tx, 1).unwrap();
    assert!(matches!(tx.prepare_transaction("a\0b"), Err(PgError::Usage(_))));
    let mut tx = db.begin_transaction().unwrap();
    insert(&mut tx, 1).unwrap();
    insert(&mut tx, 1).unwrap_err();
    assert!(matches!(tx.prepare_transaction("a"), Err(PgError::RolledBack)));
    let mut tx = db.begin_transaction().unwrap();
    insert(&mut tx, 1).unwrap();
    let error = tx.prepare_transaction(&"x".repeat(200)).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_PARAMETER_VALUE));
    let mut tx = db.begin_transaction().unwrap();
    let nested = tx.begin_transaction().unwrap();
    assert!(matches!(nested.prepare_transaction("a"), Err(PgError::Usage(_))));
    insert(&mut tx, 2).unwrap();
    tx.commit().unwrap();
    assert_eq!(numbers(db), [2]);
    // The same identifier twice.
    db.begin_transaction().unwrap().prepare_transaction("a").unwrap();
    let mut tx = other.begin_transaction().unwrap();
    insert(&mut tx, 3).unwrap();
    let error = tx.prepare_transaction("a").unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::DUPLICATE_OBJECT));
    db.rollback_prepared("a").unwrap();
    assert_eq!(prepared(db), [] as [&str; 0]);
    assert_eq!(numbers(db), [2]);
    assert_idle(db);
    assert_idle(other);
}

#[test]
fn b14_a_server_that_allows_no_prepared_transactions_says_so() {
    let mut db = connect();
    let tx = db.begin_transaction().unwrap();
    let error = tx.prepare_transaction("a").unwrap_err();
    let state = Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
    assert_eq!(error.sql_state(), state, "{error}");
    assert!(error.hint().unwrap().contains("max_prepared_transactions"));
    assert_idle(&mut db);
}
