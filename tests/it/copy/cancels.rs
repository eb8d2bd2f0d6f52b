//! COPY, deadlines of a scope, and cancels: what ends it, and what a cancel may hit.

use std::mem::forget;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use chopin_pg::{Deadline, Delivery, Event, PgConnection, PgError, Request, Submit};
use testkit::fake::FakeServer;
use testkit::frames;

use super::{Outcome, content, with_table};
use crate::support::*;

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(60);

/// Reads rows that never come to an end.
const ENDLESS: &str = "copy (select generate_series(1, 1000000000000)) to stdout";

#[track_caller]
fn assert_ended_with_scope(error: &PgError) {
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "timed out after 60 ms while waiting for the end of a COPY (within = 60 ms)"
    );
}

#[test]
fn b25_h20_a_scope_ends_a_copy_whose_data_keep_moving() {
    let mut db = with_table("id int4");
    let mut limited = db.within(SHORT);
    let mut writer = limited.copy_in("copy t from stdin").unwrap();
    let error = loop {
        if let Err(error) = writer.write_data(&b"1\n".repeat(30_000)) {
            break error;
        }
    };
    assert_ended_with_scope(&error);
    assert!(matches!(writer.finish(), Err(PgError::Timeout(_))));
    drop(limited);
    assert_eq!(content(&mut db), "");
    // To compile so large a query takes longer than the scope.
    db.execute_batch("set jit = off").unwrap();
    let mut limited = db.within(SHORT);
    let error = limited.copy_out(ENDLESS).unwrap().finish().unwrap_err();
    assert_ended_with_scope(&error);
    drop(limited);
    let mut limited = db.within(SHORT);
    let mut reader = limited.copy_out(ENDLESS).unwrap();
    let error = loop {
        if let Err(error) = reader.next_row() {
            break error;
        }
    };
    assert_ended_with_scope(&error);
    drop(reader);
    drop(limited);
    assert_usable(&mut db);
}

#[test]
fn b25_h20_a_scope_ends_a_copy_that_an_event_loop_keeps_moving() {
    let mut db = with_table("id int4");
    let submit = || {
        let deadline = Deadline::after(Instant::now(), "within", SHORT);
        Submit::new(Delivery::Events).deadline(deadline)
    };
    let request = Request::CopyIn { sql: "copy t from stdin" };
    let ticket = db.submit_with(request, submit()).unwrap();
    let mut outcome = Outcome::default();
    while outcome.ended.is_none() {
        // It tells the failure too.
        let _full_or_ended = db.copy_data(ticket, &b"1\n".repeat(10_000));
        outcome.drive(&mut db, ticket);
    }
    assert_ended_with_scope(&outcome.ended.unwrap().unwrap_err());
    assert_eq!(content(&mut db), "");
    db.execute_batch("set jit = off").unwrap();
    let ticket = db.submit_with(Request::CopyOut { sql: ENDLESS }, submit()).unwrap();
    let error = Outcome::default().end(&mut db, ticket).unwrap_err();
    assert_ended_with_scope(&error);
    assert_usable(&mut db);
}

/// The end is not sent any more, so that nothing can be stored.
#[test]
fn b25_h2_a_copy_is_not_finished_after_its_scope() {
    let mut db = with_table("id int4");
    let mut limited = db.within(SHORT);
    let mut writer = limited.copy_in("copy t from stdin").unwrap();
    writer.write_row((1,)).unwrap();
    connect().query("select from pg_sleep(0.1)", &[]).unwrap();
    assert_ended_with_scope(&writer.finish().unwrap_err());
    drop(limited);
    assert_eq!(content(&mut db), "");
    assert_usable(&mut db);
}

/// A table with a key that somebody else is about to store.
fn contended(holder: &mut PgConnection) -> String {
    let table = testkit::unique("contended");
    holder.execute_batch(&format!("create table {table} (id int4 primary key)")).unwrap();
    holder.begin().unwrap();
    holder.execute_batch(&format!("insert into {table} values (1)")).unwrap();
    table
}

/// The server waits inside of the COPY and reads no more of its data, which fill all buffers.
#[test]
fn b25_h21_a_copy_that_is_stuck_on_the_server_is_cancelled() {
    let mut holder = connect();
    let table = contended(&mut holder);
    let sql = format!("copy {table} from stdin");
    let mut db = connect();
    let process_id = db.process_id();
    for blocking in [true, false] {
        db.set_io_timeout(SHORT);
        let error = if blocking {
            let mut writer = db.copy_in(&sql).unwrap();
            loop {
                if let Err(error) = writer.write_data(&b"1\n".repeat(200_000)) {
                    break error;
                }
            }
        } else {
            let ticket = db.submit(Request::CopyIn { sql: &sql }, Delivery::Events).unwrap();
            let mut outcome = Outcome::default();
            while outcome.ended.is_none() {
                let _full_or_ended = db.copy_data(ticket, &b"1\n".repeat(200_000));
                outcome.drive(&mut db, ticket);
            }
            outcome.ended.unwrap().unwrap_err()
        };
        assert!(matches!(error, PgError::Timeout(_)), "{error}");
        assert!(error.to_string().contains("a COPY to go on (io_timeout = "), "{error}");
        db.set_io_timeout(LONG);
        // The other's row is still locked.
        assert_usable(&mut db);
        assert_eq!(db.process_id(), process_id);
    }
    // Before it has begun too: all of the statement is there, but not the data behind it.
    holder.execute_batch(&format!("lock table {table}")).unwrap();
    db.set_io_timeout(SHORT);
    let ticket = db.submit(Request::CopyIn { sql: &sql }, Delivery::Events).unwrap();
    while db.copy_data(ticket, &b"1\n".repeat(200_000)).is_ok() {
        db.flush();
    }
    let error = Outcome::default().end(&mut db, ticket).unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    db.set_io_timeout(LONG);
    assert_usable(&mut db);
    holder.rollback().unwrap();
    holder.execute_batch(&format!("drop table {table}")).unwrap();
}

#[test]
fn b25_h1_a_stuck_writer_may_be_dropped_or_forgotten() {
    let mut holder = connect();
    let table = contended(&mut holder);
    let config = config().drain_timeout(Duration::from_secs(2));
    let mut db = PgConnection::connect(&config).unwrap();
    for is_dropped in [true, false] {
        let mut writer = db.copy_in(&format!("copy {table} from stdin")).unwrap();
        writer.write_data(&b"1\n".repeat(16_000)).unwrap();
        if is_dropped {
            drop(writer);
        } else {
            forget(writer);
        }
        assert_usable(&mut db);
    }
    holder.rollback().unwrap();
    holder.execute_batch(&format!("drop table {table}")).unwrap();
}

/// The COPY was sent while the cancel of what stands before it was under way.
#[test]
fn b25_s5_6_a_copy_that_the_program_fails_is_not_cancelled_by_a_neighbour() {
    let mut db = with_table("id int4");
    for blocking in [true, false] {
        let deadline = Deadline::after(Instant::now(), "within", SHORT);
        let submit = Submit::new(Delivery::Collect).deadline(deadline);
        let slow = Request::Query { sql: "select from pg_sleep(600)", params: &() };
        let slow = db.submit_with(slow, submit).unwrap();
        if blocking {
            let mut writer = db.copy_in("copy t from stdin").unwrap();
            writer.write_row((1,)).unwrap();
            writer.fail("no more of it").unwrap();
        } else {
            let request = Request::CopyIn { sql: "copy t from stdin" };
            let ticket = db.submit(request, Delivery::Events).unwrap();
            db.flush();
            let mut told = None;
            let mut has_begun = false;
            while told.is_none() {
                let _drive = db.drive();
                while let Some(event) = db.next_event().unwrap() {
                    match event {
                        Event::CopyIn { .. } => has_begun = true,
                        Event::Failed { ticket: of, error } if of == ticket => told = Some(error),
                        _ => {}
                    }
                }
                if std::mem::take(&mut has_begun) {
                    db.copy_fail(ticket, "no more of it").unwrap();
                }
                std::thread::yield_now();
            }
            let error = told.unwrap();
            assert!(matches!(error, PgError::Server(_)), "{error}");
            assert!(error.to_string().contains("no more of it"), "{error}");
        }
        assert!(matches!(db.take(slow), Err(PgError::Timeout(_))));
        assert_eq!(content(&mut db), "");
    }
    assert_usable(&mut db);
}

/// What follows is not sent before the reader's COPY has ended, so that its cancel hits nothing else.
#[test]
fn h13_b25_nothing_is_sent_behind_a_reader_that_was_dropped() {
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect(b'Q')?;
        conn.send(&frames::copy_out_response(0, &[0]))?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.send_frames(&[
            frames::copy_data(b"1\n"),
            frames::copy_done(),
            frames::command_complete("COPY 1"),
            frames::ready_for_query(b'I'),
        ])?;
        conn.expect_query("select 'mine'")?;
        conn.answer_query(&testkit::fake::Answer::command("SELECT 0"))?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server).drain_timeout(LONG)).unwrap();
    drop(db.copy_out("copy t to stdout").unwrap());
    let mine = Request::Simple { sql: "select 'mine'" };
    let mine = db.submit(mine, Delivery::Events).unwrap();
    db.flush();
    assert!(db.engine().is_holding());
    assert_eq!(db.engine().send_pending(), b"");
    go.send(()).unwrap();
    run_events(&mut db, 1, |event| assert_eq!(event.ticket(), Some(mine))).unwrap();
    drop(db);
    server.join();
}

#[test]
fn b25_h1_readers_without_end_may_be_dropped_or_forgotten() {
    let config = config().drain_timeout(Duration::from_secs(2));
    let mut db = PgConnection::connect(&config).unwrap();
    for is_dropped in [true, false] {
        let mut reader = db.copy_out(ENDLESS).unwrap();
        assert!(reader.next_row().unwrap().is_some());
        if is_dropped {
            drop(reader);
        } else {
            forget(reader);
        }
        // Sent behind a reader that is still cancelled it would be hit.
        let next = Request::Query { sql: "select 7", params: &() };
        let ticket = db.submit(next, Delivery::Collect).unwrap();
        assert_usable(&mut db);
        assert_eq!(db.take(ticket).unwrap().unwrap().into_rows()[0].get::<i32>(0).unwrap(), 7);
    }
    // In a transaction that would fail with it, it has more time, and does not need it.
    db.begin().unwrap();
    let sql = "copy (select generate_series(1, 100000)) to stdout";
    drop(db.copy_out(sql).unwrap());
    assert_usable(&mut db);
    db.commit().unwrap();
}
