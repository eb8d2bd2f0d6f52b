//! Streams that are ended early, or go on slowly: time and memory have bounds all the same.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use chopin_pg::{Delivery, Event, PgConnection, PgError, Request};
use testkit::fake::FakeServer;
use testkit::frames::{self, Column};

use super::{LONG, numbers};
use crate::support::*;

const SHORT: Duration = Duration::from_millis(50);

/// Waits until a session waits for its client to read.
fn await_held_back(process_id: i32) {
    let sql = "select wait_event is not distinct from 'ClientWrite' from pg_stat_activity \
         where pid = $1";
    let mut other = connect();
    while !other.query_one(sql, &[&process_id]).unwrap().get::<bool>(0).unwrap() {}
}

#[test]
fn h1_b10_a_stream_may_be_dropped_anywhere() {
    const SQL: &str = "select generate_series(1, $1)";
    let mut db = connect();
    db.execute_batch("create temp table t (x int4)").unwrap();
    for total in [0, 1, 10, 20_000] {
        for taken in [0, 1, 2, total / 2, total - 1, total, total + 1] {
            let mut rows = db.stream(SQL, (total,)).unwrap();
            // Without a question nothing was sent; with one, everything.
            if taken % 2 == 1 {
                assert_eq!(rows.columns().unwrap().len(), 1);
            }
            for number in 1..=taken {
                let row = rows.next().unwrap().map(|row| row.get::<i32>(0).unwrap());
                assert_eq!(row, (number <= total).then_some(number));
            }
            drop(rows);
            // Whatever comes next gets its own answer, of every kind.
            match taken % 4 {
                0 => assert_usable(&mut db),
                1 => {
                    let mut rows = db.stream("select generate_series(-2, $1)", (-1,)).unwrap();
                    assert_eq!(numbers(&mut rows), [-2, -1]);
                }
                2 => assert_eq!(
                    db.query_simple("select 3 as a").unwrap()[0].get::<i32>("a").unwrap(),
                    3
                ),
                _ => {
                    let mut pipeline = db.pipeline();
                    pipeline.query("insert into t values ($1)", (total,)).unwrap();
                    let results = pipeline.finish().unwrap();
                    assert_eq!(results[0].as_ref().unwrap().command_tag(), "INSERT 0 1");
                }
            }
            assert_usable(&mut db);
        }
    }
}

#[test]
fn h1_b10_discarded_events_never_come() {
    let mut db = connect();
    for total in [0, 1, 20_000] {
        let discarded = Request::Query { sql: "select generate_series(1, $1)", params: &(total,) };
        let discarded = db.submit(discarded, Delivery::Events).unwrap();
        // Sent, and partly received.
        let _budget_or_idle = db.drive();
        db.discard(discarded);
        let own = Request::Query { sql: "select 'own'", params: &() };
        let own = db.submit(own, Delivery::Events).unwrap();
        let mut texts = Vec::new();
        run_events(&mut db, 1, |event| {
            assert_eq!(event.ticket(), Some(own));
            if let Event::Row { row, .. } = event {
                texts.push(row.get::<String>(0).unwrap());
            }
        })
        .unwrap();
        assert_eq!(texts, ["own"]);
        assert_usable(&mut db);
    }
}

#[test]
fn h1_b25_a_stream_that_does_not_end_is_cancelled() {
    // A server sends this for many minutes.
    const ENDLESS: &str = "select generate_series(1, 1000000000)";
    let patient =
        || PgConnection::connect(&config().drain_timeout(Duration::from_secs(1))).unwrap();
    let mut db = patient();
    let mut rows = db.stream(ENDLESS, ()).unwrap();
    assert_eq!(rows.next().unwrap().expect("a row").get::<i32>(0).unwrap(), 1);
    drop(rows);
    assert_eq!(db.in_flight(), 1, "a drop does not wait");
    assert_usable(&mut db);

    // Or at once, when the program says so.
    let mut rows = db.stream(ENDLESS, ()).unwrap();
    assert_eq!(rows.next().unwrap().expect("a row").get::<i32>(0).unwrap(), 1);
    rows.cancel().unwrap();
    assert_eq!(db.in_flight(), 0);
    assert_usable(&mut db);

    // The same on the other face.
    let mut db = patient();
    let endless = Request::Query { sql: ENDLESS, params: &() };
    let endless = db.submit(endless, Delivery::Events).unwrap();
    let mut started = false;
    while !started {
        let _budget_or_idle = db.drive();
        while let Some(event) = db.next_event().unwrap() {
            if matches!(event, Event::Row { .. }) {
                started = true;
                break;
            }
        }
    }
    db.discard(endless);
    let own = Request::Query { sql: "select 42", params: &() };
    let own = db.submit(own, Delivery::Events).unwrap();
    let mut answers = Vec::new();
    run_events(&mut db, 1, |event| {
        assert_eq!(event.ticket(), Some(own), "{event:?}");
        if let Event::Row { row, .. } = event {
            answers.push(row.get::<i32>(0).unwrap());
        }
    })
    .unwrap();
    assert_eq!(answers, [42]);
    assert_usable(&mut db);
}

#[test]
fn b10_a_slow_reader_does_not_time_out() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect_query("select rows")?;
        conn.send(&frames::row_description(&[Column::int4("n")]))?;
        for number in ["1", "2", "3"] {
            // Each row is sent when it is wanted, long after the one before.
            wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
            conn.send(&frames::data_row(&[Some(number.as_bytes())]))?;
        }
        conn.send_frames(&[frames::command_complete("SELECT 3"), frames::ready_for_query(b'I')])?;
        conn.expect_terminate()
    });
    let mut db = PgConnection::connect(&fake_config(&server).io_timeout(SHORT)).unwrap();
    let mut rows = db.stream_simple("select rows").unwrap();
    for number in 1..=3 {
        // The program takes longer than a whole operation may: that is its own time.
        std::thread::sleep(2 * SHORT);
        go.send(()).unwrap();
        assert_eq!(rows.next().unwrap().expect("a row").get::<i32>(0).unwrap(), number);
    }
    std::thread::sleep(2 * SHORT);
    assert_eq!(rows.finish().unwrap(), 3);
    drop(db);
    server.join();
}

#[test]
fn b10_a_server_that_stops_sending_times_out() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect_query("select rows")?;
        let row = frames::data_row(&[Some(b"1")]);
        conn.send_frames(&[frames::row_description(&[Column::int4("n")]), row.clone()])?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.send_frames(&[
            row,
            frames::command_complete("SELECT 2"),
            frames::ready_for_query(b'I'),
        ])?;
        conn.expect_query("select 'own'")?;
        let own = frames::data_row(&[Some(b"own")]);
        conn.send_frames(&[frames::row_description(&[Column::text("t")]), own])?;
        conn.send_frames(&[frames::command_complete("SELECT 1"), frames::ready_for_query(b'I')])?;
        conn.expect_terminate()
    });
    let mut db = PgConnection::connect(&fake_config(&server).io_timeout(SHORT)).unwrap();
    let mut rows = db.stream_simple("select rows").unwrap();
    assert!(rows.next().unwrap().is_some());
    let error = rows.next().unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    assert!(error.to_string().contains("(io_timeout = 50 ms)"), "{error}");
    assert!(!error.is_safe_to_retry());
    assert!(rows.next().unwrap().is_none());
    drop(rows);
    // The late rest is nobody's.
    go.send(()).unwrap();
    db.set_io_timeout(LONG);
    let mut rows = db.stream_simple("select 'own'").unwrap();
    assert_eq!(rows.next().unwrap().expect("a row").get::<&str>(0).unwrap(), "own");
    assert_eq!(rows.finish().unwrap(), 1);
    drop(db);
    server.join();
}

/// A server that answers a simple query with one row, long and byte by byte, until the client
/// hangs up.
fn dripping_server() -> FakeServer {
    FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("select rows")?;
        let row = frames::data_row(&[Some(b"1")]);
        conn.send_frames(&[frames::row_description(&[Column::text("t")]), row])?;
        let long = frames::data_row(&[Some(&[b'x'; 100_000])]);
        while conn.drip(&long, Duration::from_millis(1)).is_ok() {}
        Ok(())
    })
}

#[test]
fn h20_drips_inside_a_row_do_not_extend_the_time_for_it() {
    let server = dripping_server();
    let config = fake_config(&server).io_timeout(SHORT).drain_timeout(SHORT);
    let mut db = PgConnection::connect(&config).unwrap();
    let mut rows = db.stream_simple("select rows").unwrap();
    assert!(rows.next().unwrap().is_some());
    let error = rows.next().unwrap_err();
    assert!(error.to_string().contains("(io_timeout = 50 ms)"), "{error}");
    drop(rows);
    // Nor the time for draining the rest.
    db.set_io_timeout(LONG);
    let error = db.query_simple("select 1").unwrap_err();
    assert!(matches!(error, PgError::NotSent(_)), "{error}");
    assert!(error.to_string().contains("drain_timeout = 50 ms"), "{error}");
    assert!(db.is_broken());
    drop(db);
    server.join();
}

#[test]
fn h20_drips_inside_a_row_do_not_extend_the_time_of_a_request() {
    let server = dripping_server();
    let config = fake_config(&server).io_timeout(SHORT).drain_timeout(SHORT);
    let mut db = PgConnection::connect(&config).unwrap();
    db.submit(Request::Simple { sql: "select rows" }, Delivery::Events).map(drop).unwrap();
    let (mut rows, mut error) = (0, None);
    run_events(&mut db, 1, |event| match event {
        Event::Row { .. } => rows += 1,
        Event::Failed { error: why, .. } => error = Some(why),
        _ => {}
    })
    .unwrap();
    let error = error.expect("it fails");
    assert_eq!(rows, 1);
    assert!(error.to_string().contains("(io_timeout = 50 ms)"), "{error}");
    drop(db);
    server.join();
}

/// The pages of memory that a value lies in.
fn pages(value: &[u8]) -> impl Iterator<Item = usize> {
    let start = value.as_ptr().addr();
    start / 4096..=(start + value.len()) / 4096
}

#[test]
fn b10_h42_two_hundred_megabytes_pass_through_a_few_pages() {
    let mut db = connect();
    db.set_io_timeout(LONG);
    let sql = "select repeat(chr(65 + i % 26), 10000) from generate_series(1, 20000) i";
    let mut rows = db.stream(sql, ()).unwrap();
    let mut letters = (b'A'..=b'Z').cycle().skip(1);
    let (mut touched, mut bytes) = (HashSet::new(), 0);
    while let Some(row) = rows.next().unwrap() {
        let text = row.get::<&str>(0).unwrap().as_bytes();
        let letter = letters.next().expect("a cycle");
        assert!(text.iter().all(|byte| *byte == letter), "after {bytes} bytes");
        bytes += text.len();
        touched.extend(pages(text));
    }
    assert_eq!(bytes, 200_000_000);
    // Wherever the rows lay while they could be read, it was in little memory.
    assert!(touched.len() * 4096 <= 1 << 20, "{} pages", touched.len());
    assert_eq!(rows.finish().unwrap(), 20_000);
    assert_usable(&mut db);
}

/// Fifty megabytes, more than sockets hold: `i` is the number of the row.
const FIFTY_MEGABYTES: &str = "select i::int4, repeat('x', 10000) from generate_series(1, 5000) i";

#[test]
fn h42_a_server_is_held_back_while_the_program_reads_no_rows() {
    let mut db = connect();
    db.set_io_timeout(LONG);
    let process_id = db.process_id();
    let mut rows = db.stream(FIFTY_MEGABYTES, ()).unwrap();
    assert_eq!(rows.next().unwrap().expect("a row").get::<i32>(0).unwrap(), 1);
    await_held_back(process_id);
    let mut number = 1;
    let count = rows.for_each(|row| {
        number += 1;
        assert_eq!(row.to::<(i32, &str)>()?, (number, "x".repeat(10_000).as_str()));
        Ok(())
    });
    assert_eq!(count.unwrap(), 4999);
    drop(rows);
    assert_usable(&mut db);
}

/// How many received bytes a connection holds that nobody has taken.
fn unread(db: &PgConnection) -> usize {
    let shown = format!("{:?}", db.engine());
    let rest = shown.split("RecvBuffer(").nth(1).expect("the receive buffer is shown");
    rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a number of bytes")
}

#[test]
fn h42_a_server_is_held_back_while_the_program_takes_no_events() {
    let mut db = connect();
    db.set_io_timeout(LONG);
    let request = Request::Query { sql: FIFTY_MEGABYTES, params: &() };
    db.submit(request, Delivery::Events).map(drop).unwrap();
    while db.sources().any(|(_, interest)| interest.read) {
        let _budget_or_idle = db.drive();
        assert!(unread(&db) <= 131_072, "it goes on reading");
    }
    await_held_back(db.process_id());
    for _ in 0..1000 {
        let _budget_or_idle = db.drive();
        assert!(db.sources().all(|(_, interest)| !interest.read), "it would spin");
    }
    assert!((60_000..=131_072).contains(&unread(&db)), "{} bytes are unread", unread(&db));
    let mut number = 0;
    run_events(&mut db, 1, |event| {
        if let Event::Row { row, .. } = event {
            number += 1;
            assert_eq!(row.get::<i32>(0).unwrap(), number);
        }
    })
    .unwrap();
    assert_eq!(number, 5000);
    assert_eq!(unread(&db), 0);
    assert_usable(&mut db);
}
