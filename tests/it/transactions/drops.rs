//! A transaction that is dropped is rolled back, wherever it stands; the drop itself never waits.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use chopin_pg::{PgConfig, Transaction};

use super::*;

/// What happens in a transaction before it is dropped.
const POINTS: &[(&str, fn(&mut Transaction<'_>))] = &[
    ("at once", |_| {}),
    ("after work", |tx| insert(tx, 1).map(drop).unwrap()),
    ("after an error", |tx| drop(tx.execute_batch("select 1 / 0").unwrap_err())),
    ("amid a stream", |tx| {
        let mut rows = tx.stream("insert into t select generate_series(1, 9999) returning x", ());
        assert!(rows.as_mut().unwrap().next().unwrap().is_some());
    }),
    ("before the answers of a pipeline", |tx| {
        let mut pipeline = tx.pipeline();
        pipeline.query("insert into t values (1)", ()).unwrap();
        pipeline.query("select 1 / 0", ()).unwrap();
    }),
    ("with requests in flight", |tx| {
        for _ in 0..2 {
            let request = Request::Simple { sql: "insert into t values (1)" };
            let _ticket = tx.submit(request, Delivery::Discard).unwrap();
        }
    }),
    ("with an open group", |tx| {
        let request = Request::Query { sql: "insert into t values (1)", params: &() };
        let _ticket = tx.submit_with(request, COLLECT.no_sync()).unwrap();
    }),
    ("after a timeout", |tx| {
        tx.set_io_timeout(SHORT);
        let late = tx.execute_batch("insert into t values (1); select pg_sleep(0.3)");
        assert!(matches!(late, Err(PgError::Timeout(_))));
        tx.set_io_timeout(LONG);
    }),
    ("within a savepoint", |tx| {
        tx.savepoint("a").unwrap();
        insert(tx, 1).unwrap();
    }),
    ("after a nested one was forgotten", |tx| {
        let mut inner = tx.begin_transaction().unwrap();
        insert(&mut inner, 1).unwrap();
        std::mem::forget(inner);
    }),
];

#[test]
fn s7_3_drop_rolls_back_at_every_point() {
    for (point, act) in POINTS {
        for nested in [false, true] {
            let mut db = connect_with_table();
            let mut tx = db.begin_transaction().unwrap();
            match nested {
                false => {
                    act(&mut tx);
                    drop(tx);
                }
                true => {
                    insert(&mut tx, -1).unwrap();
                    act(&mut tx.begin_transaction().unwrap());
                    tx.commit().unwrap_or_else(|error| panic!("{point}: {error}"));
                }
            }
            assert_eq!(numbers(&mut db), if nested { vec![-1] } else { vec![] }, "{point}");
            assert_idle(&mut db);
        }
    }
}

#[test]
fn s7_3_h22_drop_during_a_panic_rolls_back() {
    for (point, act) in POINTS {
        let mut db = connect_with_table();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut tx = db.begin_transaction().unwrap();
            act(&mut tx);
            panic_any(*point);
        }));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(point));
        assert_eq!(numbers(&mut db), NONE, "{point}");
        assert_idle(&mut db);
    }
}

#[test]
fn s7_3_unfinished_events_go_on_after_the_drop() {
    let mut db = connect_with_table();
    let mut tx = db.begin_transaction().unwrap();
    let sql = "insert into t select generate_series(1, 100) returning x";
    let _ticket = tx.submit(Request::Query { sql, params: &() }, Delivery::Events).unwrap();
    assert!(matches!(insert(&mut tx, 0), Err(PgError::Busy)));
    assert!(matches!(tx.commit(), Err(PgError::Busy)), "and it is rolled back");
    let mut sum = 0;
    run_events(&mut db, 1, |event| {
        if let chopin_pg::Event::Row { row, .. } = event {
            sum += row.get::<i32>(0).unwrap();
        }
    })
    .unwrap();
    assert_eq!(sum, 5050);
    assert_eq!(numbers(&mut db), NONE);
    assert_idle(&mut db);
}

/// The statements that are sent while `act` runs and a query after it.
fn sent(db: &mut PgConnection, act: impl FnOnce(&mut PgConnection)) -> Vec<String> {
    let lines = traced(db, |db| {
        act(db);
        db.execute_batch("select 1").unwrap();
    });
    let query = |line: &String| Some(line.split_once("\tQuery\t ")?.1.trim_matches('"').to_owned());
    lines.iter().filter_map(query).collect()
}

#[test]
fn s7_3_nothing_is_rolled_back_that_is_not_open() {
    let mut db = connect();
    let committed = sent(&mut db, |db| db.begin_transaction().unwrap().commit().unwrap());
    assert_eq!(committed, ["BEGIN", "COMMIT", "select 1"]);
    let rolled_back = sent(&mut db, |db| db.begin_transaction().unwrap().rollback().unwrap());
    assert_eq!(rolled_back, ["BEGIN", "ROLLBACK", "select 1"]);
    let dropped = sent(&mut db, |db| drop(db.begin_transaction().unwrap()));
    assert_eq!(dropped, ["BEGIN", "ROLLBACK", "select 1"]);
    // A COMMIT or ROLLBACK by hand is seen in the server's answer.
    for end in ["commit", "rollback"] {
        let by_hand = sent(&mut db, |db| {
            let mut tx = db.begin_transaction().unwrap();
            tx.execute_batch(end).unwrap();
        });
        assert_eq!(by_hand, ["BEGIN", end, "select 1"]);
        let by_hand = sent(&mut db, |db| {
            let mut tx = db.begin_transaction().unwrap();
            tx.execute_batch(end).unwrap();
            let error = tx.commit().unwrap_err();
            assert!(matches!(&error, PgError::Usage(_)), "{error}");
            assert!(error.to_string().contains("there is no transaction to commit"), "{error}");
        });
        assert_eq!(by_hand, ["BEGIN", end, "select 1"]);
    }
    assert_eq!(db.drain_notices().count(), 0, "the server had nothing to warn of");
    assert_idle(&mut db);
}

#[test]
fn s7_3_what_could_not_begin_leaves_nothing_open() {
    let mut db = connect_with_table();
    // The server was told to begin, and answers later than the client waits: it is still busy.
    let slow = Request::Query { sql: "select pg_sleep(0.3)", params: &() };
    let _ticket = db.submit(slow, Delivery::Discard).unwrap();
    db.set_io_timeout(Duration::from_millis(10));
    let error = db.begin_transaction().unwrap_err();
    assert!(matches!(error, PgError::Timeout(_) | PgError::NotSent(_)), "{error}");
    db.set_io_timeout(LONG);
    insert(&mut db, 1).unwrap();
    assert_idle(&mut db);
    // Refused before anything was sent: what is open stays as it is.
    db.begin().unwrap();
    let _ticket = db.submit(Request::Query { sql: "select 1", params: &() }, Delivery::Events);
    assert!(matches!(db.begin_transaction(), Err(PgError::Busy)));
    run_events(&mut db, 1, |_| {}).unwrap();
    insert(&mut db, 2).unwrap();
    db.commit().unwrap();
    assert_eq!(numbers(&mut db), [1, 2]);
    // So for a savepoint.
    let mut tx = db.begin_transaction().unwrap();
    let _ticket = tx.submit(Request::Query { sql: "select 1", params: &() }, Delivery::Events);
    assert!(matches!(tx.begin_savepoint("a"), Err(PgError::Busy)));
    run_events(&mut tx, 1, |_| {}).unwrap();
    let _ticket = tx.submit(slow, Delivery::Discard).unwrap();
    tx.set_io_timeout(Duration::from_millis(10));
    let error = tx.begin_savepoint("a").unwrap_err();
    assert!(matches!(error, PgError::Timeout(_) | PgError::NotSent(_)), "{error}");
    tx.set_io_timeout(LONG);
    insert(&mut tx, 3).unwrap();
    tx.commit().unwrap();
    assert_eq!(numbers(&mut db), [1, 2, 3]);
    assert_idle(&mut db);
}

#[test]
fn s7_3_a_drop_behind_a_late_answer_rolls_back_behind_it() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        answer(conn, "BEGIN", b'T')?;
        conn.expect_query("late")?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.send_frames(&[frames::command_complete("LATE"), frames::ready_for_query(b'T')])?;
        answer(conn, "ROLLBACK", b'I')?;
        answer_mine(conn)
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let mut tx = db.begin_transaction().unwrap();
    tx.set_io_timeout(SHORT);
    assert!(matches!(tx.execute_batch("late"), Err(PgError::Timeout(_))));
    drop(tx);
    assert_eq!(db.transaction_status(), TransactionStatus::InTransaction, "as was said last");
    go.send(()).unwrap();
    db.set_io_timeout(LONG);
    end_with_mine(db, server);
}

#[test]
fn h21_s7_3_drop_with_a_full_send_buffer_returns_at_once() {
    let (gone, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        answer(conn, "BEGIN", b'T')?;
        // Reads nothing until the drop is over.
        let gone = wait.lock().unwrap().recv_timeout(Duration::from_secs(10));
        gone.map_err(|_| "the client does not come back from its drop")?;
        for _ in 0..2 {
            conn.expect(b'Q')?;
        }
        conn.send_frames(&[frames::command_complete("ONE"), frames::ready_for_query(b'T')])?;
        conn.send_frames(&[frames::command_complete("TWO"), frames::ready_for_query(b'T')])?;
        answer(conn, "ROLLBACK", b'I')?;
        answer_mine(conn)
    });
    let config = fake_config(&server).max_send_buffer(1 << 20).max_in_flight(2);
    let mut db = PgConnection::connect(&config).unwrap();
    let mut tx = db.begin_transaction().unwrap();
    let large = "x".repeat(15 << 20);
    let mut submit = |sql: &str| tx.submit(Request::Simple { sql }, Delivery::Discard).map(drop);
    submit("").unwrap();
    submit(&large).unwrap();
    assert!(matches!(submit(""), Err(PgError::WouldBlock)), "both limits are reached");
    drop(tx);
    gone.send(()).unwrap();
    end_with_mine(db, server);
}

#[test]
fn s7_3_a_broken_connection_is_rolled_back_by_its_end() {
    let table = testkit::unique("broken");
    let mut db = connect();
    db.execute_batch(&format!("create table {table} (x int4)")).unwrap();
    let mut tx = db.begin_transaction().unwrap();
    tx.execute_batch(&format!("insert into {table} values (1)")).unwrap();
    let mut other = connect();
    other.execute("select pg_terminate_backend($1)", &[&tx.process_id()]).unwrap();
    let error = tx.execute_batch("select pg_sleep(20)").unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::ADMIN_SHUTDOWN));
    assert!(matches!(tx.commit(), Err(PgError::NotSent(_))));
    assert!(db.is_broken());
    let count = other.query_one(&format!("select count(*) from {table}"), &[]).unwrap();
    assert_eq!(count.get::<i64>(0).unwrap(), 0);
    assert!(matches!(db.begin_transaction(), Err(PgError::NotSent(_))));
    other.execute_batch(&format!("drop table {table}")).unwrap();
}

#[test]
fn s7_3_the_simple_and_the_unnamed_mode_know_transactions_too() {
    for mode in [chopin_pg::ExecutionMode::Simple, chopin_pg::ExecutionMode::Unnamed] {
        let config: PgConfig = config().execution_mode(mode);
        let mut db = PgConnection::connect(&config).unwrap();
        db.execute_batch("create temp table t (x int4)").unwrap();
        db.transaction(|tx| tx.execute("insert into t values (1)", &[])).unwrap();
        let mut tx = db.begin_transaction().unwrap();
        tx.execute("insert into t values (2)", &[]).unwrap();
        drop(tx);
        assert_eq!(numbers(&mut db), [1]);
    }
}
