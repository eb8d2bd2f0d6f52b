//! COPY on the non-blocking face: what comes in which order, and what stands before and behind it.

use std::cell::RefCell;
use std::rc::Rc;

use chopin_pg::types::Format;
use chopin_pg::{Delivery, Event, PgConnection, PgError, Request, Ticket};
use testkit::fake::FakeServer;
use testkit::frames;

use super::{Outcome, content, store, with_table};
use crate::support::*;

fn query(db: &mut PgConnection, sql: &str) -> Ticket {
    db.submit(Request::Query { sql, params: &() }, Delivery::Events).unwrap()
}

/// What comes until `left` requests have ended, a line for each event.
fn told(db: &mut PgConnection, left: usize) -> Vec<String> {
    let mut lines = Vec::new();
    run_events(db, left, |event| {
        lines.push(match event {
            Event::Row { row, .. } => format!("row {}", row.get::<i32>(0).unwrap()),
            Event::CopyIn { format, columns, .. } => format!("copy in {format:?} {columns}"),
            Event::CopyOut { format, columns, .. } => format!("copy out {format:?} {columns}"),
            Event::CopyData { data, .. } => format!("data {:?}", String::from_utf8_lossy(data)),
            Event::CommandComplete { tag, .. } => tag.to_string(),
            Event::Complete { .. } => "complete".to_owned(),
            Event::Failed { error, .. } => error.to_string(),
            Event::Columns { .. } => return,
            event => panic!("{event:?}"),
        });
    })
    .unwrap();
    lines
}

#[test]
fn b12_a_copy_stands_in_a_pipeline_of_requests() {
    let mut db = with_table("id int4");
    let _ticket = query(&mut db, "select 1");
    let _ticket = query(&mut db, "select 2");
    let copy = Request::CopyIn { sql: "copy t from stdin" };
    let ticket = db.submit(copy, Delivery::Events).unwrap();
    db.copy_data(ticket, b"7\n8").unwrap();
    // Nothing may follow it before its data have ended: the server would take it for data.
    for request in [Request::Sync, copy, Request::Query { sql: "select 3", params: &() }] {
        assert!(matches!(db.submit(request, Delivery::Events), Err(PgError::Busy)));
    }
    assert!(matches!(db.query("select 4", &[]), Err(PgError::Busy)));
    db.copy_data(ticket, b"\n").unwrap();
    db.copy_done(ticket).unwrap();
    let _ticket = query(&mut db, "select 3");
    let _ticket =
        db.submit(Request::CopyOut { sql: "copy t to stdout" }, Delivery::Events).unwrap();
    let _ticket = query(&mut db, "select 4");
    assert_eq!(
        told(&mut db, 6),
        [
            "row 1",
            "SELECT 1",
            "complete",
            "row 2",
            "SELECT 1",
            "complete",
            "copy in Text 1",
            "COPY 2",
            "complete",
            "row 3",
            "SELECT 1",
            "complete",
            "copy out Text 1",
            "data \"7\\n\"",
            "data \"8\\n\"",
            "COPY 2",
            "complete",
            "row 4",
            "SELECT 1",
            "complete",
        ]
    );
    assert_usable(&mut db);
}

#[test]
fn h6_a_copy_that_fails_leaves_the_requests_around_it_alone() {
    let mut db = with_table("id int4");
    let _ticket = query(&mut db, "select 1");
    let copy = Request::CopyIn { sql: "copy t from stdin" };
    let ticket = db.submit(copy, Delivery::Events).unwrap();
    db.copy_data(ticket, b"seven\n").unwrap();
    db.copy_done(ticket).unwrap();
    let _ticket = query(&mut db, "select 3");
    let failing = "copy (select 1 / i from generate_series(0, 1) i) to stdout";
    let _ticket = db.submit(Request::CopyOut { sql: failing }, Delivery::Events).unwrap();
    let _ticket = query(&mut db, "select 4");
    let told = told(&mut db, 5);
    assert_eq!(told[..4], ["row 1", "SELECT 1", "complete", "copy in Text 1"]);
    assert!(told[4].starts_with("ERROR: 22P02: invalid input syntax"), "{}", told[4]);
    assert_eq!(told[5..8], ["row 3", "SELECT 1", "complete"]);
    assert_eq!(told[8], "copy out Text 1");
    assert!(told[9].starts_with("ERROR: 22012: division by zero"), "{}", told[9]);
    assert_eq!(told[10..], ["row 4", "SELECT 1", "complete"]);
}

#[test]
fn b12_events_of_binary_say_so() {
    let mut db = connect();
    let sql = "copy (select 1, 2) to stdout (format binary)";
    let _ticket = db.submit(Request::CopyOut { sql }, Delivery::Events).unwrap();
    let mut seen = None;
    run_events(&mut db, 1, |event| {
        if let Event::CopyOut { format, columns, .. } = event {
            seen = Some((format, columns));
        }
    })
    .unwrap();
    assert_eq!(seen, Some((Format::Binary, 2)));
}

#[test]
fn h23_data_that_do_not_fit_are_refused_until_there_is_room() {
    let mut db = PgConnection::connect(&config().max_send_buffer(100_000)).unwrap();
    super::make_table(&mut db, "id int4");
    let ticket = db.submit(Request::CopyIn { sql: "copy t from stdin" }, Delivery::Events).unwrap();
    let lines = b"1234567\n".repeat(1000);
    let (mut outcome, mut written, mut refused) = (Outcome::default(), 0, 0);
    // The first time nothing is sent meanwhile.
    while db.copy_data(ticket, &lines).is_ok() {
        written += 1;
    }
    assert_eq!(written, 100_000 / 8_000 + 1, "the limit, and what goes over it");
    while written < 500 {
        match db.copy_data(ticket, &lines) {
            Ok(()) => written += 1,
            Err(PgError::WouldBlock) => {
                refused += 1;
                outcome.drive(&mut db, ticket);
                let waits_for_both = db.sources().all(|(_, interest)| interest.read);
                assert!(waits_for_both, "it waits for room and reads nothing");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0);
    db.copy_done(ticket).unwrap();
    assert_eq!(outcome.end(&mut db, ticket).unwrap(), 500_000);
    assert_eq!(outcome.events, ["copy in", "command", "complete"]);
}

#[test]
fn b12_a_collected_copy_has_its_tag() {
    let mut db = with_table("id int4");
    let ticket =
        db.submit(Request::CopyIn { sql: "copy t from stdin" }, Delivery::Collect).unwrap();
    db.copy_data(ticket, b"1\n2\n").unwrap();
    db.copy_done(ticket).unwrap();
    run_events(&mut db, 1, |event| assert!(matches!(event, Event::Complete { .. }))).unwrap();
    assert_eq!(db.take(ticket).unwrap().unwrap().last().tag().as_str(), "COPY 2");
    assert_eq!(content(&mut db), "1\n2");
}

#[test]
fn h15_notices_of_a_copy_come_in_order() {
    for face in [Face::Blocking, Face::NonBlocking] {
        let mut db = with_table("id int4");
        db.execute_batch(
            "create function pg_temp.say() returns trigger language plpgsql as \
             $$ begin raise notice 'row %', new.id; return new; end $$; \
             create trigger say before insert on t for each row execute function pg_temp.say()",
        )
        .unwrap();
        let heard = Rc::new(RefCell::new(Vec::new()));
        let handler = Rc::clone(&heard);
        db.set_notice_handler(move |notice| handler.borrow_mut().push(notice.message.clone()));
        assert_eq!(store(face, &mut db, "copy t from stdin", &[b"1\n2\n", b"3\n"]).unwrap(), 3);
        assert_eq!(*heard.borrow(), ["row 1", "row 2", "row 3"]);
        assert_usable(&mut db);
    }
}

#[test]
fn h15_messages_between_the_data_of_a_copy_come_in_order() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        for _ in 0..2 {
            conn.expect(b'Q')?;
            conn.send_frames(&[
                frames::notification_response(7, "c", "before"),
                frames::copy_out_response(0, &[0]),
                frames::copy_data(b"1\n"),
                frames::notification_response(7, "c", "between"),
                frames::copy_data(b"2\n"),
                frames::copy_done(),
                frames::notification_response(7, "c", "behind"),
                frames::command_complete("COPY 2"),
                frames::ready_for_query(b'I'),
            ])?;
        }
        conn.expect(b'Q')?;
        conn.send_frames(&[
            frames::copy_in_response(0, &[0]),
            frames::notification_response(7, "c", "in"),
        ])?;
        conn.expect_all(b"dc")?;
        conn.send_frames(&[
            frames::notification_response(7, "c", "done"),
            frames::command_complete("COPY 1"),
            frames::ready_for_query(b'I'),
        ])?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let data = db.copy_out("copy t to stdout").unwrap().read_all().unwrap();
    assert_eq!(data, b"1\n2\n");
    let payloads: Vec<_> = db.drain_notifications().map(|told| told.payload).collect();
    assert_eq!(payloads, ["before", "between", "behind"]);

    let ticket = db.submit(Request::CopyOut { sql: "copy t to stdout" }, Delivery::Events).unwrap();
    let mut outcome = Outcome::default();
    outcome.end(&mut db, ticket).unwrap();
    assert_eq!(
        outcome.events,
        [
            "notification",
            "copy out",
            "data",
            "notification",
            "data",
            "notification",
            "command",
            "complete"
        ]
    );

    let mut writer = db.copy_in("copy t from stdin").unwrap();
    writer.write_data(b"1\n").unwrap();
    assert_eq!(writer.finish().unwrap(), 1);
    let payloads: Vec<_> = db.drain_notifications().map(|told| told.payload).collect();
    assert_eq!(payloads, ["in", "done"]);
    drop(db);
    server.join();
}
