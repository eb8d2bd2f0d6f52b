//! Notifications come in order with everything else, whatever else is going on.

use chopin_pg::{Delivery, Event, PgConnection, PgError, Request};
use testkit::fake::FakeServer;
use testkit::frames::{self, Column};

use super::LONG;
use crate::support::*;

/// The payloads that have been kept.
fn kept(db: &mut PgConnection) -> Vec<String> {
    db.drain_notifications().map(|heard| heard.payload).collect()
}

fn listening(channel: &str) -> PgConnection {
    let mut db = connect();
    db.set_io_timeout(LONG);
    db.listen(channel).unwrap();
    db
}

#[test]
fn s6_4_h15_during_queries_and_errors() {
    let mut db = listening("h15_queries");
    for number in 0..100 {
        db.notify("h15_queries", &format!("{number} query")).unwrap();
        let error = db.execute_batch(&format!(
            "notify h15_queries, '{number} before'; commit; select 1 / 0; notify h15_queries, 'no'"
        ));
        assert!(error.is_err());
    }
    let expected: Vec<String> = (0..100)
        .flat_map(|number| [format!("{number} query"), format!("{number} before")])
        .collect();
    assert_eq!(kept(&mut db), expected);
    assert_usable(&mut db);
}

#[test]
fn h15_in_pipelines_with_errors() {
    let mut db = listening("h15_pipelines");
    let mut pipeline = db.pipeline();
    let notify = "select pg_notify('h15_pipelines', $1)";
    for number in 0..300 {
        pipeline.query(notify, (number.to_string(),)).unwrap();
        if number % 3 == 0 {
            pipeline.query("select 1 / 0", ()).unwrap();
        }
        pipeline.sync().unwrap();
    }
    pipeline.finish().unwrap();
    let expected: Vec<String> =
        (0..300).filter(|number| number % 3 != 0).map(|number| number.to_string()).collect();
    assert_eq!(kept(&mut db), expected);
    // As events they stand between the answers.
    for number in 0..100 {
        let request = Request::Query { sql: notify, params: &(number.to_string(),) };
        let _ = db.submit(request, Delivery::Collect).unwrap();
    }
    let mut order = Vec::new();
    run_events(&mut db, 100, |event| match event {
        Event::Notification(heard) => order.push(heard.payload),
        Event::Complete { .. } => order.push("end".to_owned()),
        other => panic!("{other:?}"),
    })
    .unwrap();
    let expected: Vec<String> = (0..100).flat_map(|n| [n.to_string(), "end".to_owned()]).collect();
    assert_eq!(order, expected);
}

#[test]
fn h15_h1_in_drains() {
    let mut db = listening("h15_drains");
    let sql = "select pg_notify('h15_drains', 'streamed'), i from generate_series(1, 100000) i";
    let mut rows = db.stream(sql, ()).unwrap();
    assert!(rows.next().unwrap().is_some());
    drop(rows);
    assert_usable(&mut db);
    let request =
        Request::Query { sql: "select pg_notify('h15_drains', 'discarded')", params: &() };
    let ticket = db.submit(request, Delivery::Collect).unwrap();
    db.flush();
    db.discard(ticket);
    assert_usable(&mut db);
    assert_eq!(kept(&mut db), ["streamed", "discarded"]);
}

/// What a server may send at any place: notifications before, between and behind rows, and before
/// and behind an error.
fn play(conn: &mut testkit::fake::FakeConn) -> testkit::fake::FakeResult {
    conn.login()?;
    let heard = |payload| frames::notification_response(7, "hall", payload);
    conn.expect_query("select rows")?;
    conn.send_frames(&[
        heard("1"),
        frames::row_description(&[Column::text("a")]),
        heard("2"),
        frames::data_row(&[Some(b"x")]),
        heard("3"),
        frames::data_row(&[Some(b"y")]),
        heard("4"),
        frames::command_complete("SELECT 2"),
        heard("5"),
        frames::ready_for_query(b'I'),
        heard("6"),
    ])?;
    conn.expect_query("select error")?;
    conn.send_frames(&[
        heard("7"),
        frames::error_response(&[(b'S', "ERROR"), (b'C', "22012"), (b'M', "division by zero")]),
        heard("8"),
        frames::ready_for_query(b'I'),
        heard("9"),
    ])?;
    conn.expect_query("select end")?;
    conn.send_frames(&[frames::command_complete("SELECT 0"), frames::ready_for_query(b'I')])?;
    conn.drain()
}

const ALL: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];

#[test]
fn h15_between_any_two_messages_of_blocking_calls() {
    for streamed in [false, true] {
        let server = FakeServer::start(play);
        let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
        let sql = "select rows";
        let rows = match streamed {
            false => db.query_simple(sql).unwrap().len(),
            true => {
                let mut rows = db.stream_simple(sql).unwrap();
                let mut count = 0;
                while let Some(row) = rows.next().unwrap() {
                    assert!(["x", "y"].contains(&row.get::<&str>(0).unwrap()));
                    count += 1;
                }
                count
            }
        };
        assert_eq!(rows, 2);
        assert!(matches!(db.execute_batch("select error"), Err(PgError::Server(_))));
        db.execute_batch("select end").unwrap();
        assert_eq!(kept(&mut db), ALL);
        drop(db);
        server.join();
    }
}

#[test]
fn h15_between_any_two_messages_as_events() {
    let server = FakeServer::start(play);
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let mut told = Vec::new();
    for sql in ["select rows", "select error", "select end"] {
        let _ = db.submit(Request::Simple { sql }, Delivery::Events).unwrap();
        run_events(&mut db, 1, |event| match event {
            Event::Notification(heard) => told.push(heard.payload),
            Event::Row { row, .. } => told.push(row.get::<&str>(0).unwrap().to_owned()),
            Event::Complete { .. } => told.push("complete".to_owned()),
            Event::Failed { .. } => told.push("failed".to_owned()),
            _ => {}
        })
        .unwrap();
    }
    // The end of a request is told at its ReadyForQuery.
    let expected =
        ["1", "2", "x", "3", "y", "4", "5", "complete", "6", "7", "8", "failed", "9", "complete"];
    assert_eq!(told, expected);
    drop(db);
    server.join();
}
