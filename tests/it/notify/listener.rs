//! The listener that connects again, through its blocking calls and in an event loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use chopin_pg::{Drive, ListenerEvent, PgConfig, PgConnection, PgError, PgListener, SqlState};
use rustix::event::{PollFd, PollFlags, poll};
use testkit::fake::{Answer, FakeConn, FakeResult, FakeServer, script};
use testkit::frames;

use super::{INJECTIONS, LONG, SHORT, until_some};
use crate::support::*;

impl Face {
    /// A listener that listens.
    fn listener(self, config: &PgConfig, channels: &[&str]) -> PgListener {
        match self {
            Self::Blocking => PgListener::connect(config, channels.iter().copied()).unwrap(),
            Self::NonBlocking => {
                let mut listener = PgListener::start(config, channels.iter().copied()).unwrap();
                assert!(!listener.is_listening());
                assert_eq!(self.next(&mut listener), "connected");
                listener
            }
        }
    }

    /// The next event of a connection that lasts, as a text.
    #[track_caller]
    fn next_while_connected(self, listener: &mut PgListener) -> String {
        let next = self.next(listener);
        assert!(!next.starts_with("lost") && !next.starts_with("failed"), "{next}");
        next
    }

    /// The next event, as a text.
    #[track_caller]
    fn next(self, listener: &mut PgListener) -> String {
        match self {
            Self::Blocking => told(listener.wait_event(LONG).expect("an event")),
            Self::NonBlocking => told(next_of_loop(listener)),
        }
    }
}

/// The event loop of a program with one listener: it waits for what that says, and nothing else.
#[track_caller]
fn next_of_loop(listener: &mut PgListener) -> ListenerEvent {
    let limit = Instant::now() + LONG;
    loop {
        let drive = listener.drive();
        if let Some(event) = listener.next_event() {
            return event;
        }
        if drive == Drive::Again {
            continue;
        }
        let now = Instant::now();
        assert!(now < limit, "no event comes");
        let until = listener.deadline().map_or(limit, |deadline| deadline.min(limit));
        let timeout = until.saturating_duration_since(now).try_into().expect("a short time");
        let mut watched: Vec<_> = listener
            .sources()
            .map(|(fd, interest)| {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, interest.read);
                flags.set(PollFlags::OUT, interest.write);
                PollFd::from_borrowed_fd(fd, flags)
            })
            .collect();
        poll(&mut watched, Some(&timeout)).expect("poll");
    }
}

fn told(event: ListenerEvent) -> String {
    let brief = |error: PgError| match error.sql_state() {
        Some(state) => state.to_string(),
        None => error.to_string(),
    };
    match event {
        ListenerEvent::Connected => "connected".to_owned(),
        ListenerEvent::Reconnected => "reconnected".to_owned(),
        ListenerEvent::Listening { channel } => format!("listening to {channel}"),
        ListenerEvent::Notification(heard) => format!("{}: {}", heard.channel, heard.payload),
        ListenerEvent::Notice(notice) => format!("notice: {}", notice.message),
        ListenerEvent::Lost { error } => format!("lost: {}", brief(error)),
        ListenerEvent::ConnectFailed { error } => format!("failed: {}", brief(error)),
        other => panic!("{other:?}"),
    }
}

on_both_faces!(
    b13_the_gap_after_a_lost_connection_is_told,
    b13_channels_come_and_go,
    b13_what_was_heard_before_the_loss_comes_first,
    b13_it_tries_until_a_server_takes_it,
    b13_a_channel_that_is_added_without_a_connection_is_told,
    b13_a_slow_program_loses_nothing,
    b13_a_silent_server_is_found_out,
    b13_a_server_that_answers_is_left_alone,
);

fn b13_the_gap_after_a_lost_connection_is_told(face: Face) {
    let channels = ["gap", "other gap"].map(testkit::unique);
    let names = channels.each_ref().map(String::as_str);
    let mut listener = face.listener(&config(), &names);
    let mut other = connect();
    other.notify(names[0], "before").unwrap();
    assert_eq!(face.next(&mut listener), format!("{}: before", names[0]));

    for round in 0..3 {
        let process = listener.connection().expect("a connection").process_id();
        let gone = "select pg_terminate_backend($1, 10000)";
        other.query(gone, &[&process]).unwrap();
        other.notify(names[0], "into the gap").unwrap();
        assert!(listener.is_listening(), "it has not looked yet");
        assert_eq!(face.next(&mut listener), "lost: 57P01");
        assert!(!listener.is_listening());
        assert!(listener.connection().is_none());
        // Connecting again is a state with a deadline, not a wait.
        assert_eq!(listener.sources().count(), 0);
        assert!(listener.deadline().is_some());

        assert_eq!(face.next(&mut listener), "reconnected");
        assert_ne!(listener.connection().expect("a connection").process_id(), process);
        other.notify(names[1], &round.to_string()).unwrap();
        assert_eq!(face.next(&mut listener), format!("{}: {round}", names[1]));
    }
}

fn b13_channels_come_and_go(face: Face) {
    let mut listener = face.listener(&config(), &[]);
    let mut other = connect();
    for channel in INJECTIONS {
        listener.listen(*channel).unwrap();
        listener.listen(*channel).unwrap();
    }
    let mut sorted = INJECTIONS.to_vec();
    sorted.sort_unstable();
    assert!(listener.channels().eq(sorted));
    for channel in INJECTIONS {
        // Other tests notify these channels.
        let is_told = |next: &String| next.starts_with("listening to ");
        let told =
            std::iter::repeat_with(|| face.next_while_connected(&mut listener)).find(is_told);
        assert_eq!(told, Some(format!("listening to {channel}")));
    }
    let marker = testkit::unique("marker");
    for payload in ["with", "without"] {
        for channel in INJECTIONS {
            other.notify(channel, &format!("{payload} {marker}")).unwrap();
        }
        let mine = format!(": {payload} {marker}");
        let expected = if payload == "with" { INJECTIONS } else { &INJECTIONS[..2] };
        for channel in expected {
            loop {
                let next = face.next_while_connected(&mut listener);
                if let Some(heard) = next.strip_suffix(&mine) {
                    assert_eq!(heard, *channel);
                    break;
                }
            }
        }
        for channel in &INJECTIONS[2..] {
            listener.unlisten(channel);
        }
        // This is answered behind the UNLISTENs.
        listener.listen(marker.as_str()).unwrap();
        while face.next_while_connected(&mut listener) != format!("listening to {marker}") {}
        assert!(listener.unlisten(&marker));
        assert!(!listener.unlisten(&marker));
    }
    for (channel, what) in [("", "empty"), ("a\0b", "a NUL byte"), (&"x".repeat(64), "64 bytes")] {
        let error = listener.listen(channel).unwrap_err();
        assert!(matches!(&error, PgError::Usage(why) if why.contains(what)), "{error}");
        let error = PgListener::start(&config(), [channel]).unwrap_err();
        assert!(matches!(&error, PgError::Usage(why) if why.contains(what)), "{error}");
    }
}

/// A server's side of a listener's begin.
fn take_listener(conn: &mut FakeConn, sql: &str) -> FakeResult {
    conn.login()?;
    conn.expect_query(sql)?;
    conn.answer_query(&Answer::command("LISTEN"))
}

fn fatal(code: &str) -> Vec<u8> {
    frames::error_response(&[(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', "no")])
}

fn b13_what_was_heard_before_the_loss_comes_first(face: Face) {
    let server = FakeServer::start_each(vec![
        script(|conn| {
            take_listener(conn, "LISTEN \"a\"; LISTEN \"b\"")?;
            conn.send_frames(&[
                frames::notification_response(7, "a", "last but one"),
                frames::notice_response(&[(b'S', "NOTICE"), (b'C', "00000"), (b'M', "bye")]),
                frames::notification_response(7, "b", "last"),
                fatal("57P01"),
            ])?;
            conn.hang_up()
        }),
        script(|conn| {
            take_listener(conn, "LISTEN \"a\"; LISTEN \"b\"")?;
            conn.drain()
        }),
    ]);
    let mut listener = face.listener(&fake_config(&server), &["a", "b"]);
    for event in ["a: last but one", "notice: bye", "b: last", "lost: 57P01", "reconnected"] {
        assert_eq!(face.next(&mut listener), event);
    }
    drop(listener);
    server.join();
}

fn b13_it_tries_until_a_server_takes_it(face: Face) {
    let server = FakeServer::start_each(vec![
        script(|conn| {
            conn.startup()?;
            conn.send_frames(&[fatal("57P03")])?;
            conn.hang_up()
        }),
        script(|conn| {
            conn.login()?;
            conn.expect_query("LISTEN \"a\"")?;
            let refused = &[(b'S', "ERROR"), (b'C', "25006"), (b'M', "during recovery")];
            conn.send_frames(&[frames::error_response(refused), frames::ready_for_query(b'I')])?;
            conn.drain()
        }),
        script(|conn| {
            conn.login()?;
            conn.expect_query("LISTEN \"a\"")?;
            conn.hang_up()
        }),
        script(|conn| {
            take_listener(conn, "LISTEN \"a\"")?;
            conn.drain()
        }),
    ]);
    let mut listener = PgListener::start(&fake_config(&server), ["a"]).unwrap();
    assert_eq!(face.next(&mut listener), "failed: 57P03");
    assert_eq!(face.next(&mut listener), "failed: 25006");
    let hung_up = face.next(&mut listener);
    assert!(hung_up.starts_with("failed: ") && hung_up.contains("closed"), "{hung_up}");
    // It is the first time all the same: there was nothing to miss.
    assert_eq!(face.next(&mut listener), "connected");
    drop(listener);
    server.join();
}

fn b13_a_channel_that_is_added_without_a_connection_is_told(face: Face) {
    let server = FakeServer::start_each(vec![
        script(|conn| {
            take_listener(conn, "LISTEN \"a\"; LISTEN \"b\"")?;
            conn.expect_query("LISTEN \"c\"")?;
            conn.hang_up()
        }),
        script(|conn| {
            take_listener(conn, "LISTEN \"a\"; LISTEN \"b\"; LISTEN \"c\"; LISTEN \"d\"")?;
            conn.hang_up()
        }),
        script(|conn| {
            take_listener(conn, "LISTEN \"a\"; LISTEN \"b\"; LISTEN \"c\"; LISTEN \"d\"")?;
            conn.drain()
        }),
    ]);
    let mut listener = PgListener::start(&fake_config(&server), ["a"]).unwrap();
    listener.listen("b").unwrap();
    listener.listen("gone").unwrap();
    assert!(listener.unlisten("gone"));
    assert_eq!(face.next(&mut listener), "connected");
    assert_eq!(face.next(&mut listener), "listening to b");
    // The connection is lost before the answer.
    listener.listen("c").unwrap();
    assert!(face.next(&mut listener).starts_with("lost"));
    listener.listen("d").unwrap();
    assert_eq!(face.next(&mut listener), "reconnected");
    assert_eq!(face.next(&mut listener), "listening to c");
    assert_eq!(face.next(&mut listener), "listening to d");
    // Once.
    assert!(face.next(&mut listener).starts_with("lost"));
    assert_eq!(face.next(&mut listener), "reconnected");
    assert!(listener.wait_event(SHORT).is_none());
    drop(listener);
    server.join();
}

fn b13_a_slow_program_loses_nothing(face: Face) {
    const BURST: usize = 6;
    let server = FakeServer::start(|conn| {
        take_listener(conn, "LISTEN \"a\"")?;
        let burst = vec![frames::notification_response(7, "a", "burst"); BURST];
        conn.send_frames(&burst)?;
        conn.expect_query("LISTEN \"b\"")?;
        conn.answer_query(&Answer::command("LISTEN"))?;
        conn.send_frames(&[frames::notification_response(7, "b", "end")])?;
        conn.drain()
    });
    let io_timeout = Duration::from_millis(500);
    let mut listener = face.listener(&fake_config(&server).io_timeout(io_timeout), &["a"]);
    assert_eq!(face.next(&mut listener), "a: burst");
    listener.listen("b").unwrap();
    for _ in 1..BURST {
        // The program's work: all of it takes longer than the server may be silent.
        std::thread::sleep(io_timeout / 4);
        assert_eq!(face.next(&mut listener), "a: burst");
    }
    // And some more, while the answer waits to be read.
    std::thread::sleep(io_timeout * 6 / 5);
    assert_eq!(face.next(&mut listener), "listening to b");
    assert_eq!(face.next(&mut listener), "b: end");
    drop(listener);
    server.join();
}

fn b13_a_silent_server_is_found_out(face: Face) {
    let server = FakeServer::start_each(vec![
        script(|conn| {
            take_listener(conn, "LISTEN \"a\"")?;
            // The question whether it is there.
            conn.expect_query("")?;
            conn.drain()
        }),
        script(|conn| {
            take_listener(conn, "LISTEN \"a\"")?;
            conn.drain()
        }),
    ]);
    // Enough for its LISTENs on a machine that is busy.
    let io_timeout = Duration::from_secs(1);
    let config = fake_config(&server).connect_timeout(Some(LONG)).io_timeout(io_timeout);
    let mut listener = face.listener(&config, &["a"]);
    listener.set_heartbeat(SHORT);
    assert_eq!(
        face.next(&mut listener),
        "lost: timed out after 1 s while waiting for an answer or a notification (io_timeout = 1 s)"
    );
    listener.set_heartbeat(Duration::MAX);
    assert_eq!(face.next(&mut listener), "reconnected");
    drop(listener);
    server.join();
}

fn b13_a_server_that_answers_is_left_alone(face: Face) {
    let server = FakeServer::start(|conn| {
        take_listener(conn, "LISTEN \"a\"")?;
        for _ in 0..5 {
            conn.expect_query("")?;
            conn.send_frames(&[frames::empty_query_response(), frames::ready_for_query(b'I')])?;
        }
        conn.send_frames(&[frames::notification_response(7, "a", "still here")])?;
        conn.drain()
    });
    let mut listener = face.listener(&fake_config(&server), &["a"]);
    listener.set_heartbeat(Duration::from_millis(5));
    assert_eq!(face.next(&mut listener), "a: still here");
    drop(listener);
    server.join();
}

#[test]
fn b13_the_first_connect_tells_its_error() {
    let config = config().database(testkit::unique("no_such_database"));
    let error = PgListener::connect(&config, ["a"]).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_CATALOG_NAME));
    let error = PgListener::connect(&config.port(0), ["a"]).unwrap_err();
    assert!(matches!(error, PgError::Config(_)), "{error}");
}

#[test]
fn b13_waiting_for_events_ends_with_the_time() {
    let channel = testkit::unique("time");
    let mut listener = PgListener::connect(&config(), [channel.as_str()]).unwrap();
    assert!(listener.wait_event(SHORT).is_none());
    assert!(listener.wait_event(Duration::ZERO).is_none());
    connect().notify(&channel, "now").unwrap();
    let event = listener.events().next().expect("no end");
    assert_eq!(told(event), format!("{channel}: now"));
}

#[test]
fn h21_h22_dropping_a_listener_never_waits_and_never_panics() {
    // A server that reads nothing any more: what is queued does not fit into the socket.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        wait.lock().unwrap().recv().unwrap();
        Ok(())
    });
    let channels = (0..100_000).map(|number| format!("{number:060}"));
    let mut listener = PgListener::start(&fake_config(&server), channels).unwrap();
    until_some(|| {
        assert!(listener.wait_event(Duration::from_millis(1)).is_none());
        listener.connection().filter(|connection| connection.in_flight() > 0).map(drop)
    });
    assert!(listener.sources().all(|(_, interest)| interest.write), "there is more to send");
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _dropped = listener;
        std::panic::panic_any("unwinding");
    }));
    assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"unwinding"));
    go.send(()).unwrap();
    server.join();

    let mut db = connect();
    db.listen("h22").unwrap();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _dropped = db.notifications();
        std::panic::panic_any("unwinding");
    }));
    assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"unwinding"));
    assert_usable(&mut db);
}

#[test]
fn a_listener_of_its_own_thread_can_be_made_anywhere() {
    let config = config();
    let channel = testkit::unique("thread");
    std::thread::scope(|scope| {
        let (ready, is_ready) = super::channel_of_unit();
        let listening = scope.spawn(|| {
            let mut listener = PgListener::connect(&config, [channel.as_str()]).unwrap();
            let ready = ready;
            ready.send(()).unwrap();
            listener.wait_event(LONG).map(told)
        });
        is_ready.recv().unwrap();
        PgConnection::connect(&config).unwrap().notify(&channel, "from outside").unwrap();
        assert_eq!(listening.join().unwrap(), Some(format!("{channel}: from outside")));
    });
}
