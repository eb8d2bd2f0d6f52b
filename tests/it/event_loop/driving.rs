//! Moving bytes: no connection starves another, none spins, and time ends what takes too long.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use chopin_pg::{Drive, SqlState};
use rustix::event::{PollFd, PollFlags, poll};
use testkit::fake::{Answer, FakeServer};
use testkit::frames::Column;

use super::*;

/// Waits until the socket has something to read or has been hung up, without the event loop.
#[track_caller]
fn wait_until(connection: &PgConnection, what: PollFlags) {
    let limit = LONG.try_into().expect("a short time");
    let ready = poll(&mut [PollFd::new(connection, what)], Some(&limit)).expect("poll");
    assert_eq!(ready, 1, "it does not come");
}

/// The size of a busy connection's receive buffer, in bytes, unless a message needs more.
const BUFFER: usize = 64 * 1024;

/// What is told of a socket that was hung up, even to those who want nothing else.
const HANG_UP: PollFlags = PollFlags::empty();

/// Drives without taking events until the connection wants no more bytes.
fn fill(connection: &mut PgConnection) {
    let wants_to_read =
        |connection: &PgConnection| connection.sources().any(|(_, interest)| interest.read);
    while wants_to_read(connection) {
        wait_until(connection, PollFlags::IN);
        let _drive = connection.drive();
    }
}

#[test]
fn b23_a_flood_on_one_connection_starves_no_other() {
    static STOP: AtomicBool = AtomicBool::new(false);
    static ROWS: AtomicUsize = AtomicUsize::new(0);
    // Messages that are larger than what one call of drive receives.
    let flood = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("flood")?;
        conn.send(&frames::row_description(&[Column::text("flood")]))?;
        let row = text_row(&"x".repeat(1 << 20));
        while !STOP.load(Ordering::Relaxed) && ROWS.load(Ordering::Relaxed) < 4096 {
            conn.send(&row)?;
            ROWS.fetch_add(1, Ordering::Relaxed);
        }
        conn.send_frames(&[frames::command_complete("SELECT"), frames::ready_for_query(b'I')])?;
        conn.drain()
    });
    let quiet = FakeServer::start(echo);
    let mut event_loop = EventLoop::new().unwrap();
    for server in [&flood, &quiet] {
        event_loop.add(PgConnection::connect(&fake_config(server).io_timeout(LONG)).unwrap());
    }
    let request = Request::Simple { sql: "flood" };
    let ended = event_loop.members[0].connection.submit(request, Delivery::Events).unwrap();
    let (mut rows, mut again, mut answers, mut done) = (0, 0, 0, false);
    let mut turns = vec![0, 1];
    while !done {
        for index in turns {
            let work = |connection: &mut PgConnection| -> PgResult<()> {
                while let Some(event) = connection.next_event()? {
                    match event {
                        Event::Row { row, .. } if index == 0 => {
                            assert_eq!(row.get::<&str>(0)?.len(), 1 << 20);
                            rows += 1;
                        }
                        Event::Complete { ticket } if index == 0 => done = ticket == ended,
                        Event::Complete { .. } => answers += 1,
                        _ => {}
                    }
                }
                if index == 1 && connection.in_flight() == 0 {
                    let request = Request::Simple { sql: "quiet" };
                    let _ticket = connection.submit(request, Delivery::Events)?;
                }
                Ok(())
            };
            event_loop.turn(index, work).unwrap();
        }
        // Only who wants more without waiting is due before any deadline.
        let flooded = event_loop.members[0].due;
        again += usize::from(flooded.is_some_and(|due| due <= Instant::now()));
        STOP.store(again >= 3 && answers >= 100, Ordering::Relaxed);
        turns = event_loop.wait().unwrap();
    }
    assert!(again >= 3, "a budget that is used up is told");
    assert!(answers >= 100, "the other connection went on: {answers}");
    assert_eq!(rows, ROWS.load(Ordering::Relaxed));
    drop(event_loop);
    flood.join();
    quiet.join();
}

#[test]
fn b23_an_idle_connection_wakes_nobody() {
    let mut single = Single::connect(&config());
    assert_eq!(single.db().drive(), Drive::Idle);
    assert_eq!(single.db().deadline(), None);
    assert_eq!(single.event_loop.poll(Some(Duration::ZERO)).unwrap(), 0);
    // Nor after it was used.
    let _ticket = single.query("select 'x'", Delivery::Events);
    assert_eq!(single.until_ended(1), ["1 columns", "row x", "command SELECT 1", "complete"]);
    assert_eq!(single.event_loop.poll(Some(Duration::ZERO)).unwrap(), 0);
}

#[test]
fn b23_events_that_nobody_takes_wake_nobody() {
    let mut single = Single::connect(&config());
    let rows = "select repeat('x', 1000) || i from generate_series(1, 20000) i";
    let _ticket = single.query(rows, Delivery::Events);
    single.db().flush();
    fill(single.db());
    // There is more in the socket; but until events are taken there is no room for it.
    wait_until(single.db(), PollFlags::IN);
    single.event_loop.turn(0, |_| PgResult::Ok(())).unwrap();
    assert_eq!(single.db().drive(), Drive::Idle);
    assert_eq!(single.event_loop.poll(Some(Duration::ZERO)).unwrap(), 0);
    // Taking them makes room, and everything comes.
    let told = single.until_ended(1);
    let numbers = told.iter().filter_map(|told| told.strip_prefix("row ")).map(|row| &row[1000..]);
    assert!(numbers.eq((1..=20000).map(|number| number.to_string())));
    assert_eq!(told.len(), 20003);
}

/// A connection whose receive buffer is full of what `request` returns, and which wants no more; the
/// rest waits in the socket.
fn connect_and_fill(request: Request<'_>) -> (PgConnection, Ticket) {
    let mut db = PgConnection::connect(&config().io_timeout(LONG)).unwrap();
    let ticket = db.submit(request, Delivery::Collect).unwrap();
    db.flush();
    fill(&mut db);
    wait_until(&db, PollFlags::IN);
    (db, ticket)
}

#[test]
fn b23_h42_blocking_calls_go_on_from_a_full_buffer() {
    type Call = fn(&mut PgConnection);
    let calls: [Call; 6] = [
        |db| assert_usable(db),
        |db| {
            assert_eq!(db.query_simple("select 'mine'").unwrap()[0].get::<&str>(0).unwrap(), "mine")
        },
        |db| {
            let mut rows = db.stream("select 'mine'", ()).unwrap();
            assert_eq!(rows.next().unwrap().unwrap().get::<&str>(0).unwrap(), "mine");
            assert!(rows.next().unwrap().is_none());
        },
        |db| {
            let mut pipeline = db.pipeline();
            pipeline.query("select 'mine'", ()).unwrap();
            let result = pipeline.finish().unwrap().remove(0).unwrap();
            assert_eq!(result.rows()[0].get::<&str>(0).unwrap(), "mine");
        },
        |db| {
            assert!(db.try_fill_read_buf().unwrap() > 0);
            assert!(db.poll_read(LONG).unwrap() > 0);
        },
        |db| db.poll_write(LONG).unwrap(),
    ];
    let sql = "select repeat('x', 1000) || i from generate_series(1, 20000) i";
    for call in calls {
        let (mut db, ticket) = connect_and_fill(Request::Query { sql, params: &() });
        call(&mut db);
        assert_usable(&mut db);
        let rows = db.take(ticket).unwrap().expect("the rows of the other one").into_rows();
        let numbers = rows.iter().map(|row| row.get::<&str>(0).unwrap()[1000..].to_owned());
        assert!(numbers.eq((1..=20000).map(|number| number.to_string())));
        let event = db.next_event().unwrap().expect("its end");
        assert!(matches!(event, Event::Complete { ticket: ended } if ended == ticket), "{event:?}");
        assert!(db.next_event().unwrap().is_none());
    }
}

#[test]
fn b23_h42_a_blocking_call_makes_room_before_it_waits() {
    // The server says nothing more before it has been asked the second question.
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("first")?;
        conn.send(&frames::row_description(&[Column::text("first")]))?;
        // More than fits into the receive buffer.
        let rows = (0..200).map(|_| text_row(&"x".repeat(1000)));
        conn.send_frames(&rows.collect::<Vec<_>>())?;
        conn.expect_query("second")?;
        conn.send_frames(&[frames::command_complete("SELECT 200"), frames::ready_for_query(b'I')])?;
        conn.answer_query(&Answer::rows(&[Column::text("second")]).row(&[Some(b"mine")]))?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server).io_timeout(LONG)).unwrap();
    let first = db.submit(Request::Simple { sql: "first" }, Delivery::Collect).unwrap();
    db.flush();
    fill(&mut db);
    let rows = db.query_simple("second").unwrap();
    assert_eq!(rows[0].get::<&str>(0).unwrap(), "mine");
    assert_eq!(db.take(first).unwrap().unwrap().into_rows().len(), 200);
    drop(db);
    server.join();
}

#[test]
fn b23_h42_a_blocking_call_does_not_wait_for_what_is_in_a_full_buffer() {
    // An answer that fills the buffer to its last byte, so that nothing is left in the socket.
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("first")?;
        let begin = frames::row_description(&[Column::text("first")]);
        let end = [frames::command_complete("SELECT 1"), frames::ready_for_query(b'I')].concat();
        let room = BUFFER - begin.len() - end.len() - text_row("").len();
        conn.send(&[begin, text_row(&"x".repeat(room)), end].concat())?;
        conn.expect_query("second")?;
        conn.answer_query(&Answer::rows(&[Column::text("second")]).row(&[Some(b"mine")]))?;
        conn.drain()
    });
    let config = fake_config(&server).io_timeout(LONG).max_in_flight(1);
    let mut db = PgConnection::connect(&config).unwrap();
    let _nobody = db.submit(Request::Simple { sql: "first" }, Delivery::Discard).unwrap();
    db.flush();
    fill(&mut db);
    // There is room for another request only when this one has been answered, and it has been.
    let rows = db.query_simple("second").unwrap();
    assert_eq!(rows[0].get::<&str>(0).unwrap(), "mine");
    drop(db);
    server.join();
}

#[test]
fn b23_output_that_the_socket_does_not_take_waits_for_room() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        let frame = conn.expect(b'Q')?;
        let answer = Answer::rows(&[Column::text("length")]);
        let length = frame.as_query()?.len().to_string();
        conn.answer_query(&answer.row(&[Some(length.as_bytes())]))?;
        conn.drain()
    });
    let mut single = Single::connect(&fake_config(&server).io_timeout(LONG));
    let wants_to_write =
        |connection: &PgConnection| connection.sources().any(|(_, interest)| interest.write);
    let _ticket = single.simple(&"x".repeat(64 << 20));
    // The server does not read yet: when the socket is full there is nothing to do.
    single.turn().unwrap();
    while single.event_loop.poll(Some(SHORT)).unwrap() > 0 {
        single.turn().unwrap();
    }
    assert!(wants_to_write(single.db()));
    go.send(()).unwrap();
    assert_eq!(single.until_ended(1)[1], format!("row {}", 64 << 20));
    assert!(!wants_to_write(single.db()));
    assert_eq!(single.event_loop.poll(Some(Duration::ZERO)).unwrap(), 0);
    drop(single);
    server.join();
}

#[test]
fn b23_a_hang_up_behind_events_that_nobody_takes_wakes_nobody() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("rows")?;
        conn.send(&frames::row_description(&[Column::text("a")]))?;
        conn.send(&text_row(&"x".repeat(1000)).repeat(1000))?;
        conn.reset()
    });
    let mut single = Single::connect(&fake_config(&server));
    let _ticket = single.simple("rows");
    single.db().flush();
    fill(single.db());
    wait_until(single.db(), HANG_UP);
    single.event_loop.turn(0, |_| PgResult::Ok(())).unwrap();
    assert_eq!(single.event_loop.poll(Some(Duration::ZERO)).unwrap(), 0);
    let (told, error) = single.until_broken();
    assert!(told.len() >= 64, "what has come before is told: {}", told.len());
    assert!(told.last().unwrap().starts_with("failed: "), "{:?}", told.last());
    assert!(matches!(error, PgError::Io(_)), "{error}");
    server.join();
}

#[test]
fn b23_h24_the_server_s_last_words_come_also_when_sending_has_failed() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("rows")?;
        conn.send(&frames::row_description(&[Column::text("a")]))?;
        conn.send(&text_row(&"x".repeat(1000)).repeat(100))?;
        let shutdown = [(b'S', "FATAL"), (b'C', "57P01"), (b'M', "the concert is over")];
        conn.send(&frames::error_response(&shutdown))?;
        conn.hang_up()
    });
    let url = server.socket_url("frederic", "music");
    let mut single = Single::connect(&PgConfig::from_url(&url).unwrap());
    let _ticket = single.simple("rows");
    single.db().flush();
    fill(single.db());
    // The server is gone, its last words are in the socket, and sending fails.
    wait_until(single.db(), HANG_UP);
    let _ticket = single.simple("more");
    let _drive = single.db().drive();
    let (told, error) = single.until_broken();
    assert_eq!(told.iter().filter(|told| told.starts_with("row ")).count(), 100);
    let failed = "failed: FATAL: 57P01: the concert is over";
    assert_eq!(told.iter().filter(|told| told.starts_with(failed)).count(), 1, "{:?}", told.last());
    assert_eq!(error.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "{error}");
    server.join();
}

#[test]
fn b23_h20_rows_without_end_do_not_extend_the_deadline() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("rows")?;
        conn.send(&frames::row_description(&[Column::text("a")]))?;
        let rows = text_row(&"x".repeat(1000)).repeat(1000);
        // Until the client hangs up.
        while conn.send(&rows).is_ok() {}
        Ok(())
    });
    let config = fake_config(&server).io_timeout(SHORT).drain_timeout(SHORT);
    let config = config.connect_timeout(Some(LONG));
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.add(PgConnection::connect(&config).unwrap());
    let request = Request::Simple { sql: "rows" };
    let ticket = event_loop.members[0].connection.submit(request, Delivery::Events).unwrap();
    let (mut rows, mut failure) = (0, None);
    let broken = loop {
        let turn = event_loop.turn(0, |connection| -> PgResult<()> {
            while let Some(event) = connection.next_event()? {
                match event {
                    Event::Row { .. } => rows += 1,
                    Event::Failed { ticket: failed, error } if failed == ticket => {
                        assert!(failure.replace(error.to_string()).is_none());
                    }
                    _ => {}
                }
            }
            Ok(())
        });
        if let Err(error) = turn {
            break error;
        }
        assert!(rows < 4_000_000, "four gigabytes in 50 ms");
        event_loop.wait().unwrap();
        // However slow the server is: there is something to read in each turn.
        wait_until(&event_loop.members[0].connection, PollFlags::IN);
    };
    let failure = failure.expect("the query ends before the connection");
    assert_eq!(
        failure,
        "timed out after 50 ms while waiting for the answer to a query (io_timeout = 50 ms)"
    );
    assert!(broken.to_string().contains("(drain_timeout = 50 ms)"), "{broken}");
    drop(event_loop);
    server.join();
}

#[test]
fn b23_h1_a_late_answer_is_drained_before_anything_else_is_sent() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        let column = [Column::text("a")];
        conn.expect_query("late")?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.answer_query(&Answer::rows(&column).row(&[Some(b"late")]))?;
        conn.expect_query("next")?;
        conn.answer_query(&Answer::rows(&column).row(&[Some(b"next")]))?;
        conn.drain()
    });
    let mut single = Single::connect(&fake_config(&server).io_timeout(LONG));
    single.db().set_io_timeout(SHORT);
    let _ticket = single.simple("late");
    let deadline = single.db().deadline().expect("the request has one");
    assert_eq!(
        single.until_ended(1),
        [
            "failed: timed out after 50 ms while waiting for the answer to a query (io_timeout = 50 ms)"
        ]
    );
    assert!(Instant::now() >= deadline);
    assert!(!single.db().is_broken());
    single.db().set_io_timeout(LONG);
    let sent = Rc::new(Cell::new(0));
    let count = Rc::clone(&sent);
    single.db().set_tracer(move |line| count.set(count.get() + i32::from(line.starts_with('F'))));
    let _ticket = single.simple("next");
    assert_eq!(single.db().in_flight(), 2, "the late answer counts");
    single.turn().unwrap();
    assert_eq!(sent.get(), 0, "nothing is sent before the late answer has come");
    assert!(single.db().sources().all(|(_, interest)| !interest.write));
    go.send(()).unwrap();
    assert_eq!(single.until_ended(1), ["1 columns", "row next", "command SELECT 1", "complete"]);
    assert_eq!(sent.get(), 1);
    assert_eq!((single.db().in_flight(), single.db().deadline()), (0, None));
    drop(single);
    server.join();
}

#[test]
fn b23_of_many_requests_only_the_one_that_is_late_fails() {
    let mut single = Single::connect(&config());
    let _first = single.query("select 'first'", Delivery::Events);
    single.db().set_io_timeout(SHORT);
    let _late = single.query("select 'late' from pg_sleep(0.2)", Delivery::Events);
    single.db().set_io_timeout(LONG);
    let _behind = single.query("select 'behind'", Delivery::Events);
    let told = single.until_ended(2);
    assert_eq!(told[1], "row first");
    assert!(told.last().unwrap().starts_with("failed: timed out after 50 ms"), "{told:?}");
    let _next = single.query("select 'next'", Delivery::Events);
    let told = single.until_ended(2);
    let rows: Vec<_> = told.iter().filter(|told| told.starts_with("row ")).collect();
    assert_eq!(rows, ["row behind", "row next"]);
    assert_usable(single.db());
}

#[test]
fn b23_what_is_discarded_is_never_told() {
    let mut single = Single::connect(&config());
    // Sent already: drained.
    let dull = single.query("select 'dull'", Delivery::Events);
    let dull_too = single.query("select 'dull'", Delivery::Collect);
    single.db().flush();
    let mine = single.query("select 'mine'", Delivery::Events);
    single.db().discard(dull);
    single.db().discard(dull_too);
    assert_eq!(single.db().in_flight(), 3, "until it has been drained");
    assert_eq!(single.until_ended(1), ["1 columns", "row mine", "command SELECT 1", "complete"]);
    assert_eq!(single.db().in_flight(), 0);
    // Ended already: it was told.
    single.db().discard(mine);
    // Not sent yet: taken back.
    let dull = single.query("select pg_sleep(60)", Delivery::Events);
    single.db().discard(dull);
    assert_eq!(single.db().in_flight(), 0);
    assert!(single.db().sources().all(|(_, interest)| !interest.write));
    // Finished and not taken: nothing is left of it.
    let dull = single.query("select 'dull'", Delivery::Collect);
    assert_eq!(single.until_ended(1), ["complete"]);
    single.db().discard(dull);
    assert!(single.db().take(dull).unwrap().is_none());
    assert_usable(single.db());
}

#[test]
fn b23_what_is_discarded_and_does_not_end_breaks_the_connection() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("dull")?;
        conn.drain()
    });
    let mut single = Single::connect(&fake_config(&server).drain_timeout(SHORT));
    let dull = single.simple("dull");
    single.turn().unwrap();
    single.db().discard(dull);
    // The deadline of what was discarded is one to wait for, like any other.
    single.turn().unwrap();
    let (told, error) = single.until_broken();
    assert_eq!(told, [""; 0]);
    assert!(error.to_string().contains("(drain_timeout = 50 ms)"), "{error}");
    server.join();
}
