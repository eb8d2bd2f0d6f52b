//! Both faces on one connection: neither takes away what belongs to the other.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use chopin_pg::{Delivery, Event, PgConnection, PgError, PgResult, Request, SqlState};
use testkit::fake::FakeServer;
use testkit::frames::{self, Column};

use super::{LONG, numbers};
use crate::support::*;

/// Every blocking call that would take events away from the program.
const BLOCKING_CALLS: &[(&str, fn(&mut PgConnection) -> PgResult<()>)] = &[
    ("query", |db| db.query("select 1", &[]).map(drop)),
    ("query_simple", |db| db.query_simple("select 1").map(drop)),
    ("execute", |db| db.execute("select 1", &[]).map(drop)),
    ("execute_batch", |db| db.execute_batch("select 1")),
    ("execute_many", |db| db.execute_many("select $1", [(1,), (2,)]).map(drop)),
    ("query_many", |db| db.query_many("select $1", [(1,), (2,)]).map(drop)),
    ("prepare", |db| db.prepare("select 1").map(drop)),
    ("begin", PgConnection::begin),
    ("commit", PgConnection::commit),
    ("rollback", PgConnection::rollback),
    ("reset", PgConnection::reset),
    ("clear_statement_cache", PgConnection::clear_statement_cache),
    ("stream", |db| db.stream("select 1", ()).map(drop)),
    ("stream_simple", |db| db.stream_simple("select 1").map(drop)),
    ("pipeline", |db| db.pipeline().query("select 1", ()).map(drop)),
    ("try_fill_read_buf", |db| db.try_fill_read_buf().map(drop)),
    ("try_write", |db| db.try_write().map(drop)),
    ("poll_read", |db| db.poll_read(LONG).map(drop)),
    ("poll_write", |db| db.poll_write(LONG)),
    ("listen", |db| db.listen("c")),
    ("unlisten", |db| db.unlisten("c")),
    ("unlisten_all", PgConnection::unlisten_all),
    ("notify", |db| db.notify("c", "p")),
    ("poll_notification", |db| db.poll_notification().map(drop)),
    ("wait_notification", |db| db.wait_notification(LONG).map(drop)),
    ("create_large_object", |db| db.create_large_object(None).map(drop)),
    ("import_large_object", |db| db.import_large_object(&b""[..]).map(drop)),
];

#[test]
fn b10_blocking_calls_are_refused_while_events_are_to_be_taken() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect_query("select events")?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        let answer = [
            frames::row_description(&[Column::int4("n")]),
            frames::data_row(&[Some(b"1")]),
            frames::command_complete("SELECT 1"),
            frames::ready_for_query(b'I'),
        ];
        conn.send_frames(&answer)?;
        // Nothing of what was refused has been sent.
        conn.expect_query("select 'later'")?;
        conn.send_frames(&answer)?;
        conn.expect_terminate()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let ticket = db.submit(Request::Simple { sql: "select events" }, Delivery::Events).unwrap();
    db.flush();
    let refused = |db: &mut PgConnection, when: &str| {
        for (name, call) in BLOCKING_CALLS {
            let error = call(db).expect_err(name);
            assert!(matches!(error, PgError::Busy), "{name} {when}: {error}");
            assert!(error.to_string().contains("nothing was sent"), "{error}");
        }
        assert_eq!(db.in_flight(), 1, "{when}");
        assert!(db.is_alive() && !db.is_broken(), "{when}");
    };
    refused(&mut db, "before the answer");
    go.send(()).unwrap();
    let mut row_came = false;
    while !row_came {
        let _budget_or_idle = db.drive();
        if let Some(Event::Row { row, .. }) = db.next_event().unwrap() {
            assert_eq!(row.get::<i32>(0).unwrap(), 1);
            row_came = true;
        }
    }
    refused(&mut db, "amid the answer");
    let mut ends = 0;
    run_events(&mut db, 1, |event| {
        assert_eq!(event.ticket(), Some(ticket), "every event is still there");
        ends += 1;
    })
    .unwrap();
    assert_eq!(ends, 2, "the command's and the request's");
    db.query_simple("select 'later'").unwrap();
    drop(db);
    server.join();
}

#[test]
fn b10_collected_requests_go_on_during_blocking_calls() {
    let mut db = connect();
    let submit = |db: &mut PgConnection, sql: &str| {
        db.submit(Request::Query { sql, params: &() }, Delivery::Collect).unwrap()
    };
    let good = [submit(&mut db, "select 1"), submit(&mut db, "select 2")];
    let bad = submit(&mut db, "select 1 / 0");
    let last = submit(&mut db, "select 3");
    assert!(db.take(last).unwrap().is_none(), "nothing has come yet");
    // The blocking calls get their own answers, and leave those of the others alone.
    assert_usable(&mut db);
    let behind = submit(&mut db, "select 4");
    let mut rows = db.stream("select generate_series(5, 7)", ()).unwrap();
    assert_eq!(numbers(&mut rows), [5, 6, 7]);
    drop(rows);
    let value = |db: &mut PgConnection, ticket| {
        let rows = db.take(ticket).unwrap().expect("its result").into_rows();
        rows[0].get::<i32>(0).unwrap()
    };
    assert_eq!((value(&mut db, last), value(&mut db, good[0])), (3, 1), "in any order");
    assert_eq!(db.take(bad).unwrap_err().sql_state(), Some(SqlState::DIVISION_BY_ZERO));
    assert_eq!((value(&mut db, behind), value(&mut db, good[1])), (4, 2));
    assert!(db.take(last).unwrap().is_none(), "a result is taken once");
    // Their terminal events are still to come, each once and in order.
    let mut ends = Vec::new();
    while let Some(event) = db.next_event().unwrap() {
        ends.push((event.ticket().unwrap(), matches!(event, Event::Failed { .. })));
    }
    let expected =
        [(good[0], false), (good[1], false), (bad, true), (last, false), (behind, false)];
    assert_eq!(ends, expected);
    assert_usable(&mut db);
    assert!(db.next_event().unwrap().is_none(), "a blocking call has no event");
}
