//! Serialization failures and deadlocks, really produced, and doing the work again.

use std::iter::repeat_n;
use std::sync::Barrier;
use std::thread;

use chopin_pg::error::{Backoff, Retries};

use super::*;

/// Two connections, and a table with the rows 1 and 2.
fn two_connections() -> (PgConnection, PgConnection, String) {
    let (mut one, two) = (connect(), connect());
    let table = testkit::unique("conflict");
    let sql = format!("create table {table} (id int4 primary key, x int4)");
    one.execute_batch(&format!("{sql}; insert into {table} values (1, 10), (2, 20)")).unwrap();
    (one, two, table)
}

/// Sets one row to the sum of all. Two that do so at the same time cannot be serialized.
fn write_skew(db: &mut PgConnection, table: &str, id: i32) -> PgResult<u64> {
    let sum: i64 = db.query_one(&format!("select sum(x) from {table}"), &[])?.get(0)?;
    db.execute(
        &format!("update {table} set x = $1 where id = $2"),
        &[&i32::try_from(sum).unwrap(), &id],
    )
}

/// What is in the table; takes it away.
fn end(mut db: PgConnection, table: &str) -> String {
    let rows = db.query(&format!("select x from {table} order by id"), &[]).unwrap();
    db.execute_batch(&format!("drop table {table}")).unwrap();
    assert_idle(&mut db);
    printed(&rows)
}

const NOW: Duration = Duration::ZERO;

#[test]
fn b14_a_serialization_failure_at_commit_is_done_again() {
    let (mut one, mut two, table) = two_connections();
    let mut attempts = 0;
    let done: PgResult<&str> = one.run_serializable(3, |tx| {
        attempts += 1;
        write_skew(tx, &table, 1)?;
        if attempts == 1 {
            // Another session is faster: ours fails at COMMIT, as it does nothing more.
            two.run_serializable(0, |tx| write_skew(tx, &table, 2))?;
        }
        Ok("done")
    });
    assert_eq!(done.unwrap(), "done");
    assert_eq!(attempts, 2);
    assert_eq!(end(one, &table), "40\n30", "one after the other: 30 for row 2, then 40 for row 1");
}

#[test]
fn b14_a_serialization_failure_in_a_statement_is_done_again_whatever_became_of_its_error() {
    let (mut one, mut two, table) = two_connections();
    let update = format!("update {table} set x = x + 1 where id = 1");
    // Told as another error, and not told at all.
    for swallow in [false, true] {
        let mut attempts = 0;
        let mut pauses = Vec::new();
        let delays =
            [NOW, Duration::from_millis(1)].into_iter().inspect(|delay| pauses.push(*delay));
        let builder = one.build_transaction().isolation(IsolationLevel::RepeatableRead);
        let done = builder.run_with_retries(delays, |tx| {
            attempts += 1;
            tx.query("select 1", &[])?;
            if attempts < 3 {
                two.execute(&update, &[]).map_err(|_| OwnError::NotEnough)?;
            }
            match tx.execute(&update, &[]) {
                Err(_) if swallow => Ok(()),
                Err(_) => Err(OwnError::NotEnough),
                Ok(_) => Ok(()),
            }
        });
        done.unwrap();
        assert_eq!(attempts, 3);
        assert_eq!(pauses, [NOW, Duration::from_millis(1)]);
    }
    assert_eq!(end(one, &table), "16\n20");
}

#[test]
fn b14_retries_are_bounded_and_other_errors_are_told_at_once() {
    let (mut one, mut two, table) = two_connections();
    let update = format!("update {table} set x = x + 1 where id = 1");
    let mut attempts = 0;
    let repeatable = one.build_transaction().isolation(IsolationLevel::RepeatableRead);
    let failed: PgResult<u64> = repeatable.run_with_retries(repeat_n(NOW, 2), |tx| {
        attempts += 1;
        tx.query("select 1", &[])?;
        two.execute(&update, &[])?;
        tx.execute(&update, &[])
    });
    assert_eq!(failed.unwrap_err().sql_state(), Some(SqlState::SERIALIZATION_FAILURE));
    assert_eq!(attempts, 3);

    let mut attempts = 0;
    let failed: PgResult<u64> = one.run_serializable(5, |tx| {
        attempts += 1;
        let mut pipeline = tx.pipeline();
        pipeline.query(&format!("insert into {table} values (1, 1)"), ())?;
        pipeline.query("select 1", ())?;
        let mut results = pipeline.finish()?;
        // Not run, as what stood before it failed: that alone is no reason to do it all again.
        Err(results.pop().unwrap().unwrap_err())
    });
    assert!(matches!(failed, Err(PgError::NotRun(_))), "{failed:?}");
    assert_eq!(attempts, 1);

    let mut attempts = 0;
    let failed = one.run_serializable(5, |_| {
        attempts += 1;
        Err::<(), _>(OwnError::NotEnough)
    });
    assert!(matches!(failed, Err(OwnError::NotEnough)));
    assert_eq!(attempts, 1);

    // Inside of a transaction nothing can be done again.
    one.begin().unwrap();
    let refused: PgResult<()> = one.run_serializable(5, |_| panic!("it is not run"));
    assert!(matches!(refused, Err(PgError::Usage(_))));
    one.commit().unwrap();
    assert_eq!(end(one, &table), "13\n20");
}

#[test]
fn b14_a_deadlock_is_done_again() {
    let (one, two, table) = two_connections();
    drop(two);
    // Each holds a row and asks for the other's.
    let each_has_one = Barrier::new(2);
    let crosswise = |ids: [i32; 2]| {
        let mut db = connect();
        db.execute_batch("set deadlock_timeout = '10ms'").unwrap();
        let sql = format!("update {table} set x = x + 1 where id = $1");
        let mut attempts = 0;
        let read_committed = db.build_transaction().isolation(IsolationLevel::ReadCommitted);
        let done: PgResult<u64> =
            read_committed.run_with_retries(Backoff::random().take(50), |tx| {
                attempts += 1;
                tx.execute(&sql, &[&ids[0]])?;
                if attempts == 1 {
                    each_has_one.wait();
                }
                tx.execute(&sql, &[&ids[1]])
            });
        done.unwrap();
        assert_idle(&mut db);
        attempts
    };
    let attempts = thread::scope(|scope| {
        let other = scope.spawn(|| crosswise([2, 1]));
        crosswise([1, 2]) + other.join().unwrap()
    });
    // At least one of them; after that it is a matter of luck.
    assert!(attempts > 2, "{attempts}");
    assert_eq!(end(one, &table), "12\n22");
}

/// A transaction of the non-blocking face as its own small machine: what it waits for is data.
fn attempt(db: &mut PgConnection, table: &str, then: impl FnOnce()) -> PgResult<()> {
    let begin = db.build_transaction().isolation(IsolationLevel::Serializable);
    let begin = begin.submit(Delivery::Collect)?;
    let sum = format!("update {table} set x = (select sum(x) from {table}) where id = 1");
    let update = db.submit(Request::Simple { sql: &sum }, Delivery::Collect)?;
    run_events(db, 2, |_| {})?;
    then();
    let commit = db.submit(Request::Simple { sql: "commit" }, Delivery::Collect)?;
    run_events(db, 1, |_| {})?;
    let results = [begin, update, commit].map(|ticket| db.take(ticket).map(drop));
    results.into_iter().collect()
}

#[test]
fn b14_on_the_non_blocking_face_retries_are_data() {
    let (mut one, mut two, table) = two_connections();
    let mut retries = Retries::with_delays([Duration::from_millis(3)]);
    let mut faster = || {
        two.run_serializable(0, |tx| write_skew(tx, &table, 2)).map(drop).unwrap();
    };
    let error = attempt(&mut one, &table, &mut faster).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::SERIALIZATION_FAILURE));
    assert_eq!(one.transaction_status(), TransactionStatus::Idle);
    assert_eq!(retries.after(&error), Some(Duration::from_millis(3)));
    // A program with an event loop sets a timer; here it does not matter.
    attempt(&mut one, &table, || {}).unwrap();
    assert_eq!(retries.after(&error), None, "once is all that was allowed");
    assert_eq!(end(one, &table), "40\n30");
}

#[test]
fn b14_a_statement_that_had_become_stale_is_done_again() {
    let (mut one, mut two, table) = two_connections();
    let sql = format!("select * from {table} where id = 1");
    one.query(&sql, &[]).unwrap();
    two.execute_batch(&format!("alter table {table} add y int4")).unwrap();
    let mut attempts = 0;
    let done: PgResult<usize> = one.run_serializable(1, |tx| {
        attempts += 1;
        Ok(tx.query(&sql, &[])?[0].len())
    });
    assert_eq!((done.unwrap(), attempts), (3, 2));
    assert_eq!(end(one, &table), "10\n20");
}
