//! A deadline for an operation, or for several together.

use chopin_pg::SqlState;

use super::*;

on_both_faces! { b25_an_operation_has_a_deadline_of_its_own }

fn b25_an_operation_has_a_deadline_of_its_own(face: Face) {
    let mut db = connect();
    let error = query_within(face, &mut db, SHORT, SLEEP).unwrap_err();
    assert_eq!(
        error.to_string(),
        "timed out after 50 ms while waiting for the answer to a query (within = 50 ms)"
    );
    // It does not outlive the operation, and may be longer than io_timeout.
    db.set_io_timeout(SHORT);
    let rows = query_within(face, &mut db, LONG, "select 'slept' from pg_sleep(0.2)").unwrap();
    assert_eq!(rows[0].get::<&str>(0).unwrap(), "slept");
    let error = db.query(SLEEP, &[]).unwrap_err();
    assert!(error.to_string().contains("(io_timeout = 50 ms)"), "{error}");
    db.set_io_timeout(LONG);
    assert_usable(&mut db);
}

#[test]
fn b25_a_scope_bounds_all_that_is_done_in_it() {
    let mut db = connect();
    let mut limited = db.within(Duration::from_millis(200));
    limited.begin().unwrap();
    let mut nap = || limited.query("select from pg_sleep(0.03)", &[]);
    let error = loop {
        if let Err(error) = nap() {
            break error;
        }
    };
    assert!(error.to_string().contains("within = 200 ms"), "{error}");
    // Nothing more is sent in it.
    let error = limited.rollback().unwrap_err();
    assert!(matches!(error, PgError::NotSent(_)), "{error}");
    // Its end is that of the limit.
    drop(limited);
    db.rollback().unwrap();
    assert_usable(&mut db);
}

#[test]
fn b25_inside_of_a_scope_the_earlier_deadline_counts() {
    let mut db = connect();
    let mut outer = db.within(SHORT);
    let error = outer.within(LONG).query(SLEEP, &[]).unwrap_err();
    assert!(error.to_string().contains("(within = 50 ms)"), "{error}");
    drop(outer);
    let mut outer = db.within(LONG);
    let error = outer.within(SHORT).query(SLEEP, &[]).unwrap_err();
    assert!(error.to_string().contains("(within = 50 ms)"), "{error}");
    assert_usable(&mut outer);
    // No limit is none for what is around it.
    let mut all_day = outer.within(Duration::MAX);
    assert_usable(&mut all_day);
}

#[test]
fn b25_prepare_pipeline_stream_and_simple_end_at_the_deadline() {
    let mut db = connect();
    let sleep = db.prepare(SLEEP).unwrap();
    let error = db.within(SHORT).query_prepared(&sleep, ()).unwrap_err();
    assert_timeout(&error);
    let error = db.within(SHORT).execute_batch(SLEEP).unwrap_err();
    assert_timeout(&error);
    let error = db.within(SHORT).execute(SLEEP, &[]).unwrap_err();
    assert_timeout(&error);
    // Preparing waits for a lock.
    let table = testkit::unique("locked");
    let mut holder = connect();
    holder.execute_batch(&format!("create table {table} ()")).unwrap();
    holder.begin().unwrap();
    holder.execute_batch(&format!("lock table {table}")).unwrap();
    let error = db.within(SHORT).prepare(&format!("select * from {table}")).unwrap_err();
    assert_timeout(&error);
    holder.execute_batch(&format!("drop table {table}; commit")).unwrap();

    let mut limited = db.within(SHORT);
    let mut pipeline = limited.pipeline();
    pipeline.query("select 1", ()).unwrap();
    pipeline.sync().unwrap();
    pipeline.query(SLEEP, ()).unwrap();
    let results = pipeline.finish().unwrap();
    assert!(results[0].is_ok());
    assert_timeout(results[1].as_ref().unwrap_err());
    drop(limited);

    // Each row comes in time, all of them do not.
    let mut limited = db.within(Duration::from_millis(200));
    let mut rows = limited
        .stream("select pg_sleep(0.02), repeat('x', 9000) from generate_series(1, 100000)", ())
        .unwrap();
    let error = loop {
        match rows.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("2,000 seconds have passed"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("(within = 200 ms)"), "{error}");
    drop(rows);
    drop(limited);
    assert_usable(&mut db);
}

#[test]
fn b25_a_timeout_in_a_transaction_fails_the_transaction() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4)").unwrap();
    db.begin().unwrap();
    db.execute("insert into t values (1)", &[]).unwrap();
    assert_timeout(&db.within(SHORT).query(SLEEP, &[]).unwrap_err());
    // Its statement was cancelled, and a statement that fails takes its transaction along.
    let error = db.query("select 1", &[]).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::IN_FAILED_SQL_TRANSACTION));
    assert!(matches!(db.commit(), Err(PgError::RolledBack)));
    let count = db.query_one("select count(*) from t", &[]).unwrap();
    assert_eq!(count.get::<i64>(0).unwrap(), 0);
    // A savepoint brings it back.
    db.begin().unwrap();
    db.execute_batch("insert into t values (2); savepoint s").unwrap();
    assert_timeout(&db.within(SHORT).query(SLEEP, &[]).unwrap_err());
    db.execute_batch("rollback to s").unwrap();
    db.commit().unwrap();
    let row = db.query_one("select x from t", &[]).unwrap();
    assert_eq!(row.get::<i32>(0).unwrap(), 2);
}
