//! Transactions: single calls, guards, closures, savepoints, options, retries, two-phase commit;
//! advisory locks.

mod advisory;
mod conflicts;
mod drops;
mod nested;
mod races;
mod two_phase;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use chopin_pg::{
    Delivery, IsolationLevel, PgConnection, PgError, PgResult, Request, SqlState, TransactionStatus,
};
use testkit::fake::{Answer, FakeConn, FakeError, FakeServer};
use testkit::frames;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);

/// Nothing is in `t`.
const NONE: [i32; 0] = [];

/// A connection with an empty table `t`.
fn connect_with_table() -> PgConnection {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4 primary key)").unwrap();
    db
}

fn insert(db: &mut PgConnection, x: i32) -> PgResult<u64> {
    db.execute("insert into t values ($1)", &[&x])
}

/// What is in `t`.
#[track_caller]
fn numbers(db: &mut PgConnection) -> Vec<i32> {
    let rows = db.query("select x from t order by x", &[]).expect("the connection is usable");
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

/// Whether the server, too, is outside of a transaction: inside of one the two times are the same
/// in every statement.
#[track_caller]
fn assert_idle(db: &mut PgConnection) {
    assert_usable(db);
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert_eq!(db.in_flight(), 0);
}

/// Runs a simple statement through a face.
fn run(face: Face, db: &mut PgConnection, sql: &str) -> PgResult<()> {
    match face {
        Face::Blocking => db.execute_batch(sql),
        Face::NonBlocking => submit_and_take(db, Request::Simple { sql }, COLLECT).map(drop),
    }
}

on_both_faces!(
    s7_1_begin_commit_rollback,
    s7_6_the_status_is_that_of_the_last_ready_for_query,
    h10_a_commit_that_rolls_back_is_an_error,
);

fn s7_1_begin_commit_rollback(face: Face) {
    let mut db = connect_with_table();
    run(face, &mut db, "begin").unwrap();
    face.query(&mut db, "insert into t values ($1)", (1,)).unwrap();
    run(face, &mut db, "commit").unwrap();
    run(face, &mut db, "begin").unwrap();
    face.query(&mut db, "insert into t values ($1)", (2,)).unwrap();
    run(face, &mut db, "rollback").unwrap();
    assert_eq!(numbers(&mut db), [1]);
    assert_idle(&mut db);
}

#[test]
fn s7_1_s8_8_begin_commit_and_rollback_as_calls() {
    let mut db = connect_with_table();
    db.begin().unwrap();
    insert(&mut db, 1).unwrap();
    db.commit().unwrap();
    db.begin().unwrap();
    insert(&mut db, 2).unwrap();
    db.rollback().unwrap();
    assert_eq!(numbers(&mut db), [1]);
    assert_idle(&mut db);
}

fn s7_6_the_status_is_that_of_the_last_ready_for_query(face: Face) {
    use TransactionStatus::{Failed, Idle, InTransaction};
    let mut db = connect_with_table();
    for (sql, status) in [
        ("select 1", Idle),
        ("select 1 / 0", Idle),
        ("begin", InTransaction),
        ("begin", InTransaction),
        ("savepoint a", InTransaction),
        ("select 1 / 0", Failed),
        ("select 1", Failed),
        ("rollback to a", InTransaction),
        ("commit and chain", InTransaction),
        ("select 1 / 0", Failed),
        ("rollback and chain", InTransaction),
        ("commit", Idle),
        ("commit", Idle),
        ("start transaction; select 1", InTransaction),
        ("rollback; begin; select 1 / 0", Failed),
        ("end", Idle),
    ] {
        let _either = run(face, &mut db, sql);
        assert_eq!(db.transaction_status(), status, "{sql}");
    }
    assert_idle(&mut db);
}

/// What is asked to commit a transaction that has failed, and the status afterwards.
const COMMITS: &[(&str, TransactionStatus)] = &[
    ("commit", TransactionStatus::Idle),
    ("COMMIT TRANSACTION", TransactionStatus::Idle),
    ("end", TransactionStatus::Idle),
    (" ; /* now */ End Work", TransactionStatus::Idle),
    ("commit and chain", TransactionStatus::InTransaction),
    ("prepare transaction 'x'", TransactionStatus::Idle),
];

fn h10_a_commit_that_rolls_back_is_an_error(face: Face) {
    let mut db = connect_with_table();
    for (sql, status) in COMMITS {
        // The extended protocol takes one statement, and no empty one before it.
        for extended in [false, true].into_iter().take(if sql.starts_with(' ') { 1 } else { 2 }) {
            db.begin().unwrap();
            insert(&mut db, 1).unwrap();
            db.execute_batch("select 1 / 0").unwrap_err();
            assert_eq!(db.transaction_status(), TransactionStatus::Failed);
            let result = match extended {
                false => run(face, &mut db, sql),
                true => face.query(&mut db, sql, ()).map(drop),
            };
            assert!(matches!(result, Err(PgError::RolledBack)), "{sql}: {result:?}");
            assert_eq!(db.transaction_status(), *status, "{sql}");
            db.rollback().unwrap();
            assert_eq!(numbers(&mut db), NONE);
        }
    }
    // Whoever asks for a rollback gets one.
    for sql in ["rollback", "abort", "rollback and chain", "rollback; select 1"] {
        db.begin().unwrap();
        db.execute_batch("select 1 / 0").unwrap_err();
        run(face, &mut db, sql).unwrap();
    }
    db.rollback().unwrap();
    assert_idle(&mut db);
}

#[test]
fn h10_b14_every_way_of_committing_tells_that_it_was_a_rollback() {
    let mut db = connect_with_table();
    let fail = |db: &mut PgConnection| drop(db.execute_batch("select 1 / 0").unwrap_err());
    db.begin().unwrap();
    fail(&mut db);
    assert!(matches!(db.commit(), Err(PgError::RolledBack)));

    let mut tx = db.begin_transaction().unwrap();
    fail(&mut tx);
    let error = tx.commit().unwrap_err();
    assert_eq!(
        error.to_string(),
        "rolled back: the transaction that this belongs to failed, nothing of it was committed"
    );

    let swallowed: PgResult<()> = db.transaction(|tx| {
        insert(tx, 1)?;
        fail(tx);
        Ok(())
    });
    assert!(matches!(swallowed, Err(PgError::RolledBack)));

    // In a pipeline, what stands behind it in its group is run all the same: outside.
    db.begin().unwrap();
    fail(&mut db);
    let mut pipeline = db.pipeline();
    pipeline.query("commit", ()).unwrap();
    pipeline.query("insert into t values (2)", ()).unwrap();
    let results = pipeline.finish().unwrap();
    assert!(matches!(results[0], Err(PgError::RolledBack)));
    assert_eq!(results[1].as_ref().unwrap().affected_rows(), 1);
    assert_eq!(numbers(&mut db), [2]);

    // As events: first what the server said, then that it is no success.
    db.begin().unwrap();
    fail(&mut db);
    let ticket = db.submit(Request::Simple { sql: "commit" }, Delivery::Events).unwrap();
    let mut told = Vec::new();
    run_events(&mut db, 1, |event| told.push(format!("{event:?}"))).unwrap();
    let expected = [
        format!("CommandComplete {{ ticket: {ticket:?}, tag: CommandTag(\"ROLLBACK\") }}"),
        format!("Failed {{ ticket: {ticket:?}, error: RolledBack }}"),
    ];
    assert_eq!(told, expected);
    assert_idle(&mut db);
}

#[derive(Debug)]
enum OwnError {
    NotEnough,
    Database(PgError),
}

impl From<PgError> for OwnError {
    fn from(error: PgError) -> Self {
        Self::Database(error)
    }
}

#[test]
fn s7_5_s8_8_a_closure_commits_or_rolls_back() {
    let mut db = connect_with_table();
    let done = db.transaction(|tx| {
        assert_eq!(tx.transaction_status(), TransactionStatus::InTransaction);
        insert(tx, 1)?;
        Ok::<_, PgError>("done")
    });
    assert_eq!(done.unwrap(), "done");
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);

    let refused = db.transaction(|tx| {
        insert(tx, 2)?;
        Err::<(), _>(OwnError::NotEnough)
    });
    assert!(matches!(refused, Err(OwnError::NotEnough)));
    assert_eq!(db.transaction_status(), TransactionStatus::Idle, "it was waited for");

    let failed = db.transaction(|tx| {
        insert(tx, 3)?;
        insert(tx, 3)?;
        Ok::<(), OwnError>(())
    });
    let Err(OwnError::Database(error)) = failed else { panic!("{failed:?}") };
    assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION));
    assert_eq!(numbers(&mut db), [1]);
    assert_idle(&mut db);
}

#[test]
fn s7_5_h22_a_panic_in_the_closure_rolls_back() {
    let mut db = connect_with_table();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        db.transaction(|tx| -> PgResult<()> {
            insert(tx, 1)?;
            tx.transaction(|tx| -> PgResult<()> {
                insert(tx, 2)?;
                panic!("no more");
            })
        })
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"no more"));
    assert_eq!(numbers(&mut db), NONE);
    assert_idle(&mut db);
}

#[test]
fn s7_5_the_error_of_the_closure_is_told_when_the_rollback_fails_too() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        answer(conn, "BEGIN", b'T')?;
        conn.expect_query("ROLLBACK")?;
        conn.hang_up()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let failed = db.transaction(|_| Err::<(), _>(OwnError::NotEnough));
    assert!(matches!(failed, Err(OwnError::NotEnough)));
    assert!(db.is_broken());
    server.join();
}

/// Expects a statement that is its own tag, and answers it with this status.
fn answer(conn: &mut FakeConn, sql: &str, status: u8) -> Result<(), FakeError> {
    conn.expect_query(sql)?;
    conn.send_frames(&[frames::command_complete(sql), frames::ready_for_query(status)])
}

/// The end of a script: what the client asks in [`end_with_mine`], and its end.
fn answer_mine(conn: &mut FakeConn) -> Result<(), FakeError> {
    answer(conn, "MINE", b'I')?;
    conn.drain()
}

/// The connection is outside of a transaction, and gets the answer to its own next query. Ends both.
#[track_caller]
fn end_with_mine(mut db: PgConnection, server: FakeServer) {
    db.execute_batch("MINE").unwrap();
    assert_eq!(db.last_command_tag(), "MINE");
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    drop(db);
    server.join();
}

#[test]
fn s7_3_a_deferred_constraint_fails_the_commit() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4 unique deferrable initially deferred)").unwrap();
    let twice = "insert into t values (1), (1)";
    let mut tx = db.begin_transaction().unwrap();
    tx.execute(twice, &[]).unwrap();
    let error = tx.commit().unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION));
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);

    let failed: PgResult<()> = db.transaction(|tx| tx.execute(twice, &[]).map(drop));
    assert_eq!(failed.unwrap_err().sql_state(), Some(SqlState::UNIQUE_VIOLATION));

    // Non-blocking: everything in one go.
    let begin = db.build_transaction().submit(Delivery::Collect).unwrap();
    let insert = db.submit(Request::Simple { sql: twice }, Delivery::Collect).unwrap();
    let commit = db.submit(Request::Simple { sql: "commit" }, Delivery::Collect).unwrap();
    run_events(&mut db, 3, |_| {}).unwrap();
    assert!(db.take(begin).unwrap().is_some() && db.take(insert).unwrap().is_some());
    let error = db.take(commit).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION));
    assert_eq!(numbers(&mut db), NONE);
    assert_idle(&mut db);
}

#[test]
fn s7_4_a_transaction_offers_what_a_connection_does() {
    let mut db = connect_with_table();
    let mut tx = db.begin_transaction().unwrap();
    assert_eq!(tx.execute("insert into t values ($1)", &[&1]).unwrap(), 1);
    assert_eq!(tx.query("select x from t", &[]).unwrap().len(), 1);
    assert_eq!(tx.query_simple("select x from t").unwrap()[0].get::<i32>(0).unwrap(), 1);
    tx.savepoint("a").unwrap();
    insert(&mut tx, 1).unwrap_err();
    tx.rollback_to("a").unwrap();
    let mut rows = tx.stream("insert into t values (2), (3) returning x", ()).unwrap();
    assert_eq!(rows.next().unwrap().unwrap().get::<i32>(0).unwrap(), 2);
    drop(rows);
    let mut pipeline = tx.pipeline();
    pipeline.query("insert into t values (4)", ()).unwrap();
    assert!(pipeline.finish().unwrap()[0].is_ok());
    tx.commit().unwrap();
    assert_eq!(numbers(&mut db), [1, 2, 3, 4]);
    assert_idle(&mut db);
}

#[test]
fn s7_4_an_error_in_the_middle_fails_the_rest() {
    let mut db = connect_with_table();
    let mut tx = db.begin_transaction().unwrap();
    insert(&mut tx, 1).unwrap();
    insert(&mut tx, 1).unwrap_err();
    let error = insert(&mut tx, 2).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::IN_FAILED_SQL_TRANSACTION));
    tx.rollback().unwrap();
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert_eq!(numbers(&mut db), NONE);
    assert_idle(&mut db);
}

/// What the server says of the transaction that is open.
fn characteristics(db: &mut PgConnection) -> String {
    let sql = "select current_setting('transaction_isolation'), \
               current_setting('transaction_read_only'), current_setting('transaction_deferrable')";
    printed(&[db.query_one(sql, &[]).unwrap()])
}

#[test]
fn b14_isolation_read_only_and_deferrable() {
    use IsolationLevel::{ReadCommitted, ReadUncommitted, RepeatableRead, Serializable};
    let mut db = connect();
    for level in [ReadUncommitted, ReadCommitted, RepeatableRead, Serializable] {
        let mut tx = db.build_transaction().isolation(level).begin().unwrap();
        let expected = format!("{}|off|off", level.to_string().to_lowercase());
        assert_eq!(characteristics(&mut tx), expected);
    }
    let report = db.build_transaction().isolation(Serializable).read_only(true).deferrable(true);
    let told: PgResult<_> = report.run(|tx| Ok(characteristics(tx)));
    assert_eq!(told.unwrap(), "serializable|on|on");
    let refused: PgResult<u64> =
        db.build_transaction().read_only(true).run(|tx| tx.execute("create table u ()", &[]));
    let read_only = Some(SqlState::READ_ONLY_SQL_TRANSACTION);
    assert_eq!(refused.unwrap_err().sql_state(), read_only);
    // What is said counts, whatever the session's defaults are; what is not said is theirs.
    db.execute_batch(
        "set default_transaction_read_only = on; set default_transaction_deferrable = on; \
         set default_transaction_isolation = 'repeatable read'",
    )
    .unwrap();
    let told: PgResult<_> = db.transaction(|tx| Ok(characteristics(tx)));
    assert_eq!(told.unwrap(), "repeatable read|on|on");
    let told: PgResult<_> = db
        .build_transaction()
        .isolation(ReadCommitted)
        .read_only(false)
        .deferrable(false)
        .run(|tx| Ok(characteristics(tx)));
    assert_eq!(told.unwrap(), "read committed|off|off");

    let ticket = db.build_transaction().isolation(Serializable).submit(Delivery::Collect).unwrap();
    run_events(&mut db, 1, |_| {}).unwrap();
    assert_eq!(db.take(ticket).unwrap().unwrap().last().tag().as_str(), "BEGIN");
    assert_eq!(characteristics(&mut db), "serializable|on|on");
    let error = db.build_transaction().isolation(Serializable).begin().unwrap_err();
    assert!(matches!(&error, PgError::Usage(why) if why.contains("open already")), "{error}");
    assert_eq!(db.transaction_status(), TransactionStatus::InTransaction, "that one goes on");
    db.commit().unwrap();
    assert_idle(&mut db);
}

#[test]
fn h2_b14_a_commit_that_is_answered_too_late_is_told_and_never_repeated() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        for begin in ["BEGIN", "BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE"] {
            conn.expect_query(begin)?;
            conn.send_frames(&[frames::command_complete("BEGIN"), frames::ready_for_query(b'T')])?;
            conn.expect_query("COMMIT")?;
            wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
            conn.send_frames(&[frames::command_complete("COMMIT"), frames::ready_for_query(b'I')])?;
            // It might have been cancelled before it began. Outside of a transaction this is nothing.
            answer(conn, "ROLLBACK", b'I')?;
            conn.expect_query("select 1")?;
            conn.answer_query(&Answer::command("SELECT 1"))?;
        }
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let mut attempts = 0;
    for way in 0..3 {
        db.set_io_timeout(LONG);
        let result = match way {
            0 => {
                let mut tx = db.begin_transaction().unwrap();
                tx.set_io_timeout(SHORT);
                tx.commit()
            }
            1 => db.transaction(|tx| {
                tx.set_io_timeout(SHORT);
                Ok(())
            }),
            _ => db.run_serializable(5, |tx| {
                attempts += 1;
                tx.set_io_timeout(SHORT);
                Ok(())
            }),
        };
        assert!(matches!(result, Err(PgError::Timeout(_))), "{way}: {result:?}");
        go.send(()).unwrap();
        db.set_io_timeout(LONG);
        db.execute_batch("select 1").unwrap();
        assert_eq!(db.last_command_tag(), "SELECT 1");
    }
    assert_eq!(attempts, 1, "it may have been committed");
    drop(db);
    server.join();
}

#[test]
fn b14_a_commit_that_is_never_answered_ends_the_connection() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        answer(conn, "BEGIN", b'T')?;
        conn.expect_query("COMMIT")?;
        conn.drain()
    });
    let config = fake_config(&server).drain_timeout(SHORT);
    let mut db = PgConnection::connect(&config).unwrap();
    let mut tx = db.begin_transaction().unwrap();
    tx.set_io_timeout(SHORT);
    assert!(matches!(tx.commit(), Err(PgError::Timeout(_))));
    db.set_io_timeout(LONG);
    let error = db.begin_transaction().unwrap_err();
    assert!(matches!(error, PgError::NotSent(_)), "{error}");
    assert!(db.is_broken());
    drop(db);
    server.join();
}

#[test]
fn h2_b14_a_connection_that_is_lost_in_a_commit_is_told_and_not_repeated() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("BEGIN ISOLATION LEVEL SERIALIZABLE")?;
        conn.send_frames(&[frames::command_complete("BEGIN"), frames::ready_for_query(b'T')])?;
        conn.expect_query("COMMIT")?;
        conn.hang_up()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let mut attempts = 0;
    let result: PgResult<()> = db.run_serializable(5, |_| {
        attempts += 1;
        Ok(())
    });
    assert!(matches!(result, Err(PgError::ConnectionClosed(_))), "{result:?}");
    assert_eq!(attempts, 1);
    assert!(db.is_broken());
    server.join();
}
