//! Deadlines of a COPY: they bound the time without progress, and never that of the program.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use chopin_pg::{Delivery, Event, PgConnection, PgError, Request};
use testkit::fake::{Answer, FakeServer};
use testkit::frames;

use super::Outcome;
use crate::support::*;

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_secs(20);

/// Lets time pass: a server's, so that nothing here sleeps.
fn pass(time: Duration) {
    connect().query("select pg_sleep($1)", &[&time.as_secs_f64()]).unwrap();
}

#[test]
fn h20_a_copy_that_does_not_begin_ends_at_the_deadline() {
    let table = testkit::unique("locked");
    let mut db = connect();
    db.execute_batch(&format!("create table {table} (id int4)")).unwrap();
    for direction in ["from stdin", "to stdout"] {
        let mut holder = connect();
        holder.begin().unwrap();
        holder.execute_batch(&format!("lock table {table}")).unwrap();
        db.set_io_timeout(SHORT);
        let sql = format!("copy {table} {direction}");
        let error = match direction {
            "from stdin" => db.copy_in(&sql).map(drop).unwrap_err(),
            _ => db.copy_out(&sql).map(drop).unwrap_err(),
        };
        assert!(matches!(error, PgError::Timeout(_)), "{error}");
        assert_eq!(
            error.to_string(),
            "timed out after 60 ms while waiting for a COPY to go on (io_timeout = 60 ms)"
        );
        // The late answer is drained: a COPY FROM has been given up meanwhile.
        holder.commit().unwrap();
        db.set_io_timeout(LONG);
        assert_usable(&mut db);
        let count = db.query_one(&format!("select count(*) from {table}"), &[]).unwrap();
        assert_eq!(count.get::<i64>(0).unwrap(), 0);
    }
    db.execute_batch(&format!("drop table {table}")).unwrap();
}

#[test]
fn h21_a_server_that_takes_nothing_more_ends_a_writer() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect(b'Q')?;
        conn.send(&frames::copy_in_response(0, &[0]))?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        while conn.receive()?.tag == b'd' {}
        conn.send(&frames::error_response(&[
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', "57014"),
            (b'M', "COPY from stdin failed"),
        ]))?;
        conn.ready(b'I')?;
        conn.expect_query("select 1")?;
        conn.answer_query(&Answer::command("SELECT 0"))?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server).io_timeout(LONG)).unwrap();
    let mut writer = db.copy_in("copy t from stdin").unwrap();
    drop(writer.write_data(b"1\n"));
    drop(writer);
    go.send(()).unwrap();
    db.execute_batch("select 1").unwrap();
    drop(db);
    server.join();

    // One that never reads again: a timeout, then the connection is given up.
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect(b'Q')?;
        conn.send(&frames::copy_in_response(0, &[0]))?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.drain()
    });
    let config = fake_config(&server).io_timeout(SHORT).drain_timeout(SHORT);
    let mut db = PgConnection::connect(&config).unwrap();
    let mut writer = db.copy_in("copy t from stdin").unwrap();
    let data = vec![b'1'; 1 << 20];
    let error = loop {
        if let Err(error) = writer.write_data(&data) {
            break error;
        }
    };
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    assert!(matches!(writer.finish(), Err(PgError::Timeout(_))));
    db.set_io_timeout(LONG);
    let error = db.query_simple("select 1").unwrap_err();
    assert!(error.to_string().contains("drain_timeout"), "{error}");
    assert!(db.is_broken());
    go.send(()).unwrap();
    drop(db);
    server.join();
}

/// Each piece comes well within the time, all of them together take much longer.
#[test]
fn h20_a_slow_reader_s_time_is_for_each_piece() {
    // Much shorter than the time for a piece, so that a machine that stands still for a moment does
    // not take it all.
    const PAUSE: Duration = Duration::from_millis(20);
    const PATIENCE: Duration = Duration::from_secs(1);
    const PIECES: u64 = 15;
    let server = FakeServer::start(|conn| {
        conn.login()?;
        for _ in 0..2 {
            conn.expect(b'Q')?;
            conn.send(&frames::copy_out_response(0, &[0]))?;
            for _ in 0..PIECES {
                // The pauses lie between the bytes of an empty message.
                conn.drip(&frames::copy_data(b""), PAUSE)?;
                conn.send(&frames::copy_data(b"1\n"))?;
            }
            conn.send_frames(&[
                frames::copy_done(),
                frames::command_complete(&format!("COPY {PIECES}")),
                frames::ready_for_query(b'I'),
            ])?;
        }
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server).io_timeout(PATIENCE)).unwrap();
    let start = Instant::now();
    let data = db.copy_out("copy t to stdout").unwrap().read_all().unwrap();
    assert!(start.elapsed() > PATIENCE);
    assert_eq!(data, b"1\n".repeat(15));
    let ticket = db.submit(Request::CopyOut { sql: "copy t to stdout" }, Delivery::Events).unwrap();
    let mut outcome = Outcome::default();
    assert_eq!(outcome.end(&mut db, ticket).unwrap(), PIECES);
    assert_eq!(outcome.data, data);
    drop(db);
    server.join();
}

/// A message that drips in byte by byte is no progress.
#[test]
fn h20_a_dripping_message_does_not_hold_off_the_deadline() {
    for blocking in [true, false] {
        let server = FakeServer::start(|conn| {
            conn.login()?;
            conn.expect(b'Q')?;
            conn.send(&frames::copy_out_response(0, &[0]))?;
            // It ends when the client has gone.
            while conn.drip(&frames::copy_data(&[b'1'; 4000]), SHORT / 20).is_ok() {}
            Ok(())
        });
        let config = fake_config(&server).io_timeout(SHORT).drain_timeout(SHORT);
        let mut db = PgConnection::connect(&config).unwrap();
        let error = if blocking {
            db.copy_out("copy t to stdout").unwrap().read_all().unwrap_err()
        } else {
            let request = Request::CopyOut { sql: "copy t to stdout" };
            let ticket = db.submit(request, Delivery::Events).unwrap();
            Outcome::default().end(&mut db, ticket).unwrap_err()
        };
        assert!(matches!(error, PgError::Timeout(_)), "{error}");
        drop(db);
        server.join();
    }
}

#[test]
fn h20_the_program_s_own_time_does_not_count() {
    let mut db = PgConnection::connect(&config().io_timeout(SHORT)).unwrap();
    super::make_table(&mut db, "id int4");
    let mut writer = db.copy_in("copy t from stdin").unwrap();
    for id in 0..3 {
        writer.write_row((id,)).unwrap();
        pass(2 * SHORT);
    }
    writer.write_data(&b"7\n".repeat(50_000)).unwrap();
    pass(2 * SHORT);
    assert_eq!(writer.finish().unwrap(), 50_003);
    let mut reader = db.copy_out("copy t to stdout").unwrap();
    assert_eq!(reader.read_data().unwrap().unwrap(), b"0\n");
    pass(2 * SHORT);
    assert_eq!(reader.read_data().unwrap().unwrap(), b"1\n");
    pass(2 * SHORT);
    assert_eq!(reader.finish().unwrap(), 50_003);

    // On the non-blocking face too: it is the program that is waited for.
    let ticket = db.submit(Request::CopyIn { sql: "copy t from stdin" }, Delivery::Events).unwrap();
    let mut outcome = Outcome::default();
    for _ in 0..3 {
        db.copy_data(ticket, b"8\n").unwrap();
        while db.engine().interest().write || outcome.events.is_empty() {
            outcome.drive(&mut db, ticket);
        }
        pass(2 * SHORT);
        outcome.drive(&mut db, ticket);
        assert_eq!(outcome.events, ["copy in"]);
    }
    db.copy_done(ticket).unwrap();
    assert_eq!(outcome.end(&mut db, ticket).unwrap(), 3);
    assert_usable(&mut db);
}

#[test]
fn h20_a_copy_that_was_never_sent_is_taken_back_with_its_data() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    // A server that a cancel does nothing to.
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect_query("select 'late'")?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.answer_query(&Answer::command("LATE"))?;
        conn.expect_query("select 'mine'")?;
        conn.answer_query(&Answer::command("MINE"))?;
        conn.drain()
    });
    let config = fake_config(&server).io_timeout(SHORT).drain_timeout(LONG);
    let mut db = PgConnection::connect(&config).unwrap();
    assert!(matches!(db.execute_batch("select 'late'"), Err(PgError::Timeout(_))));
    // Held back until the late answer has come, which it does not in time.
    let ticket = db.submit(Request::CopyIn { sql: "copy t from stdin" }, Delivery::Events).unwrap();
    db.copy_data(ticket, b"1\n").unwrap();
    let error = Outcome::default().end(&mut db, ticket).unwrap_err();
    assert!(matches!(error, PgError::NotSent(_)), "{error}");
    assert!(matches!(db.copy_data(ticket, b"1\n"), Err(PgError::Usage(_))));
    go.send(()).unwrap();
    db.set_io_timeout(LONG);
    db.execute_batch("select 'mine'").unwrap();
    assert_eq!(db.last_command_tag(), "MINE");
    drop(db);
    server.join();
}

#[test]
fn h20_a_copy_that_is_late_fails_once_and_is_given_up() {
    let table = testkit::unique("late");
    let mut holder = connect();
    holder.execute_batch(&format!("create table {table} (id int4)")).unwrap();
    holder.begin().unwrap();
    holder.execute_batch(&format!("lock table {table}")).unwrap();
    let mut db = connect();
    db.set_io_timeout(SHORT);
    let sql = format!("copy {table} from stdin");
    let ticket = db.submit(Request::CopyIn { sql: &sql }, Delivery::Events).unwrap();
    db.copy_data(ticket, b"1\n").unwrap();
    let error = Outcome::default().end(&mut db, ticket).unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    assert!(db.copy_data(ticket, b"2\n").is_err());
    holder.commit().unwrap();
    db.set_io_timeout(LONG);
    let own = db.submit(Request::Sync, Delivery::Events).unwrap();
    run_events(&mut db, 1, |event| {
        assert!(matches!(event, Event::Complete { ticket } if ticket == own));
    })
    .unwrap();
    let count = db.query_one(&format!("select count(*) from {table}"), &[]).unwrap();
    assert_eq!(count.get::<i64>(0).unwrap(), 0);
    holder.execute_batch(&format!("drop table {table}")).unwrap();
}
