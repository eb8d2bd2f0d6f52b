//! LISTEN and NOTIFY.

mod anywhere;
mod example;
mod listener;
mod storm;

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use chopin_pg::connection::Submit;
use chopin_pg::{
    Delivery, Event, ExecutionMode, Notification, PgConnection, PgError, Request, SqlState,
};
use rustix::event::{PollFd, PollFlags, poll};
use testkit::fake::{Answer, FakeServer};
use testkit::frames;

use crate::support::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// The time that is given to what does not come.
const SHORT: Duration = Duration::from_millis(30);

/// Names and payloads that try to be more than that.
const INJECTIONS: &[&str] = &[
    "plain",
    "Two Words, UPPER and lower",
    "quoted \"name\"",
    "\"; drop table works; --",
    "'; drop table works; --",
    "back\\slash \\' $1 $$",
    "Étude – 練習曲",
    "*",
];

impl Face {
    fn listen(self, db: &mut PgConnection, channel: &str) -> chopin_pg::PgResult<()> {
        match self {
            Self::Blocking => db.listen(channel),
            Self::NonBlocking => {
                let ticket = db.submit_listen(channel, Delivery::Collect)?;
                finish(db, ticket)
            }
        }
    }

    fn unlisten(self, db: &mut PgConnection, channel: &str) -> chopin_pg::PgResult<()> {
        match self {
            Self::Blocking => db.unlisten(channel),
            Self::NonBlocking => {
                let ticket = db.submit_unlisten(channel, Delivery::Collect)?;
                finish(db, ticket)
            }
        }
    }

    /// The next notification, which must come.
    #[track_caller]
    fn heard(self, db: &mut PgConnection) -> Notification {
        match self {
            Self::Blocking => {
                db.wait_notification(LONG).expect("a connection").expect("a notification")
            }
            Self::NonBlocking => until_some(|| {
                let _again = db.drive();
                while let Some(event) = db.next_event().expect("a connection") {
                    if let Event::Notification(heard) = event {
                        return Some(heard);
                    }
                }
                None
            }),
        }
    }
}

/// Looks again and again until there is something; what never comes is a failure.
#[track_caller]
fn until_some<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < limit, "it does not come");
        std::thread::yield_now();
    }
}

/// Runs events until a request has ended that is all that is in flight.
fn finish(db: &mut PgConnection, ticket: chopin_pg::Ticket) -> chopin_pg::PgResult<()> {
    db.flush();
    run_events(db, 1, |event| assert_eq!(event.ticket().unwrap_or(ticket), ticket))?;
    db.take(ticket).map(drop)
}

on_both_faces!(
    s6_1_s6_2_s6_3_s8_7_what_one_notifies_the_other_hears,
    h35_channels_and_payloads_stay_data,
    s6_8_what_is_not_listened_to_any_more_is_not_heard,
    h30_names_that_cannot_be_sent_are_refused,
    h1_a_listen_that_comes_late_takes_nobodys_answer,
);

fn s6_1_s6_2_s6_3_s8_7_what_one_notifies_the_other_hears(face: Face) {
    let (mut db, mut other) = (connect(), connect());
    let (one, two) = (testkit::unique("one"), testkit::unique("two"));
    face.listen(&mut db, &one).unwrap();
    face.listen(&mut db, &two).unwrap();
    other.notify(&one, "first").unwrap();
    other.notify(&two, "").unwrap();
    other.execute_batch(&format!("notify {one}, 'third'")).unwrap();
    for (channel, payload) in [(&one, "first"), (&two, ""), (&one, "third")] {
        let expected = Notification {
            process_id: other.process_id(),
            channel: channel.clone(),
            payload: payload.to_owned(),
        };
        assert_eq!(face.heard(&mut db), expected);
    }
    // What this session itself notifies comes too; a transaction tells it with its commit, and the
    // same thing once.
    db.begin().unwrap();
    db.notify(&one, "mine").unwrap();
    db.notify(&one, "mine").unwrap();
    db.notify(&two, "also mine").unwrap();
    assert_eq!(db.poll_notification().unwrap(), None);
    db.commit().unwrap();
    let own: Vec<_> = db.drain_notifications().map(|heard| heard.payload).collect();
    assert_eq!(own, ["mine", "also mine"]);
    assert_usable(&mut db);
}

fn h35_channels_and_payloads_stay_data(face: Face) {
    let mut db = connect();
    for text in INJECTIONS {
        face.listen(&mut db, text).unwrap();
    }
    let pairs = || INJECTIONS.iter().zip(INJECTIONS.iter().rev());
    for (round, (channel, payload)) in pairs().chain(pairs()).enumerate() {
        // The second time as parts of the text, for the simple protocol has no parameters.
        if round == INJECTIONS.len() {
            db.set_execution_mode(ExecutionMode::Simple);
        }
        db.notify(channel, payload).unwrap();
        // Other tests notify these channels too.
        let own = db.process_id();
        let mut kept = db.drain_notifications().filter(|heard| heard.process_id == own);
        let heard = kept.next().expect("heard with the answer");
        assert_eq!(kept.next(), None);
        assert_eq!((heard.channel.as_str(), heard.payload.as_str()), (*channel, *payload));
    }
    db.set_execution_mode(ExecutionMode::Cached);
    let listening = db.query("select pg_listening_channels()", &[]).unwrap();
    let mut listening: Vec<String> = listening.iter().map(|row| row.get(0).unwrap()).collect();
    let mut expected = INJECTIONS.to_vec();
    listening.sort();
    expected.sort_unstable();
    assert_eq!(listening, expected);
    for text in INJECTIONS {
        face.unlisten(&mut db, text).unwrap();
    }
    assert!(db.query("select pg_listening_channels()", &[]).unwrap().is_empty());
}

fn s6_8_what_is_not_listened_to_any_more_is_not_heard(face: Face) {
    let mut db = connect();
    let channels = ["a", "b", "c"].map(testkit::unique);
    for channel in &channels {
        face.listen(&mut db, channel).unwrap();
    }
    let heard = |db: &mut PgConnection| -> Vec<String> {
        channels.iter().for_each(|channel| db.notify(channel, "x").unwrap());
        db.drain_notifications().map(|heard| heard.channel).collect()
    };
    assert_eq!(heard(&mut db), channels);
    face.unlisten(&mut db, &channels[1]).unwrap();
    assert_eq!(heard(&mut db), [channels[0].as_str(), &channels[2]]);
    db.unlisten_all().unwrap();
    assert!(heard(&mut db).is_empty());
}

fn h30_names_that_cannot_be_sent_are_refused(face: Face) {
    let mut db = connect();
    let error = face.listen(&mut db, "a\0b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "refused: \"a\\0b\" cannot be used as a name: it contains a NUL byte"
    );
    let longest = "x".repeat(63);
    face.listen(&mut db, &longest).unwrap();
    let error = face.listen(&mut db, &"x".repeat(64)).unwrap_err();
    assert!(matches!(&error, PgError::Usage(why) if why.contains("64 bytes")), "{error}");
    assert!(matches!(face.unlisten(&mut db, &"x".repeat(64)), Err(PgError::Usage(_))));
    let error = face.listen(&mut db, "").unwrap_err();
    assert!(matches!(&error, PgError::Usage(why) if why.contains("it is empty")), "{error}");
    db.notify(&longest, "the longest").unwrap();
    assert_eq!(face_payload(&mut db), "the longest");
    assert_usable(&mut db);
}

/// The payload of what was heard with the last answer.
fn face_payload(db: &mut PgConnection) -> String {
    db.poll_notification().unwrap().expect("a notification").payload
}

#[test]
fn h30_payloads_and_channels_that_the_server_refuses() {
    let mut db = connect();
    for (channel, payload, message) in [
        ("", "x", "channel name cannot be empty"),
        (&"x".repeat(64), "x", "channel name too long"),
        ("c", &"x".repeat(8000), "payload string too long"),
        ("c", &"x".repeat(1 << 20), "payload string too long"),
    ] {
        let error = db.notify(channel, payload).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::INVALID_PARAMETER_VALUE), "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert_usable(&mut db);
    }
    for (channel, payload) in [("c\0", "x"), ("c", "x\0")] {
        let error = db.notify(channel, payload).unwrap_err();
        assert!(matches!(error, PgError::Parameter(_)), "{error}");
        assert_usable(&mut db);
    }
}

#[test]
fn h16_payloads_of_every_length_come_back() {
    let mut db = connect();
    let channel = testkit::unique("lengths");
    db.listen(&channel).unwrap();
    let around = |length: usize| [length - 1, length, length + 1];
    let lengths = (0..13).flat_map(|power| around(1 << power)).chain([7999]);
    for length in lengths {
        let payload = "ö!".repeat(length).chars().take(length / 2).collect::<String>();
        db.notify(&channel, &payload).unwrap();
        assert_eq!(face_payload(&mut db), payload);
    }
    db.notify(&channel, &"x".repeat(7999)).unwrap();
    assert_eq!(face_payload(&mut db).len(), 7999);
}

#[test]
fn s6_5_s6_6_s6_7_counting_draining_polling() {
    let (mut db, mut other) = (connect(), connect());
    let channel = testkit::unique("kept");
    db.listen(&channel).unwrap();
    assert_eq!(db.poll_notification().unwrap(), None);
    assert_eq!((db.has_notifications(), db.notification_count()), (false, 0));
    for number in 0..5 {
        db.notify(&channel, &number.to_string()).unwrap();
    }
    assert_eq!((db.has_notifications(), db.notification_count()), (true, 5));
    assert_eq!(face_payload(&mut db), "0");
    assert_eq!(db.wait_notification(SHORT).unwrap().unwrap().payload, "1");
    assert_eq!(db.notification_count(), 3);
    let left: Vec<_> = db.drain_notifications().map(|heard| heard.payload).collect();
    assert_eq!(left, ["2", "3", "4"]);
    assert_eq!((db.has_notifications(), db.notification_count()), (false, 0));
    // What is at the socket is found by polling, and what was kept is first.
    db.notify(&channel, "kept").unwrap();
    other.notify(&channel, "from the socket").unwrap();
    assert_eq!(face_payload(&mut db), "kept");
    let heard = until_some(|| db.poll_notification().unwrap());
    assert_eq!(heard.payload, "from the socket");
    assert_eq!(db.dropped_notifications(), 0);
    assert_usable(&mut db);
}

#[test]
fn b13_waiting_ends_with_a_notification_or_the_time() {
    let mut db = connect();
    let channel = testkit::unique("wait");
    db.listen(&channel).unwrap();
    assert_eq!(db.wait_notification(SHORT).unwrap(), None);
    assert_eq!(db.wait_notification(Duration::ZERO).unwrap(), None);
    // Somebody notifies while it waits; there is no end to the time but that.
    std::thread::scope(|scope| {
        let channel = &channel;
        let (waiting, go) = channel_of_unit();
        scope.spawn(move || {
            let mut other = connect();
            go.recv().unwrap();
            other.notify(channel, "hello").unwrap();
        });
        waiting.send(()).unwrap();
        assert_eq!(db.wait_notification(Duration::MAX).unwrap().unwrap().payload, "hello");
    });
    assert_usable(&mut db);
}

fn channel_of_unit() -> (std::sync::mpsc::Sender<()>, std::sync::mpsc::Receiver<()>) {
    channel()
}

#[test]
fn b13_the_iterator_ends_when_nothing_comes() {
    let mut db = connect();
    let channel = testkit::unique("iterator");
    db.listen(&channel).unwrap();
    connect()
        .execute(
            &format!("select pg_notify('{channel}', i::text) from generate_series(1, 1000) i"),
            &[],
        )
        .unwrap();
    let mut heard = db.notifications().timeout(LONG);
    let numbers: Vec<i32> =
        heard.by_ref().take(1000).map(|heard| heard.unwrap().payload.parse().unwrap()).collect();
    assert!(numbers.into_iter().eq(1..=1000));
    let mut none = heard.timeout(SHORT);
    assert!(none.next().is_none());
    assert!(none.next().is_none(), "the end stays the end");
    assert_usable(&mut db);
}

#[test]
fn b13_a_lost_connection_is_an_error_behind_what_was_heard() {
    let mut db = connect();
    let channel = testkit::unique("lost");
    db.listen(&channel).unwrap();
    db.notify(&channel, "kept").unwrap();
    let mut other = connect();
    other.notify(&channel, "last").unwrap();
    // The end of the session must not overtake it: a server process that sees both looks at that
    // first.
    let mut arrived = [PollFd::new(&db, PollFlags::IN)];
    assert_eq!(poll(&mut arrived, Some(&LONG.try_into().unwrap())).unwrap(), 1);
    other.query("select pg_terminate_backend($1)", &[&db.process_id()]).unwrap();
    let mut heard = db.notifications();
    let mut next = || heard.next().expect("an item");
    assert_eq!(next().unwrap().payload, "kept");
    assert_eq!(next().unwrap().payload, "last");
    assert_eq!(next().unwrap_err().sql_state(), Some(SqlState::ADMIN_SHUTDOWN));
    assert!(heard.next().is_none());
    assert!(db.is_broken());
    assert_eq!(
        db.wait_notification(LONG).unwrap_err().sql_state(),
        Some(SqlState::ADMIN_SHUTDOWN),
        "the error stays"
    );
    assert_eq!(db.poll_notification().unwrap_err().sql_state(), Some(SqlState::ADMIN_SHUTDOWN));
}

#[test]
fn h23_polling_alone_brings_a_cancel_to_its_end() {
    let mut db = connect();
    let channel = testkit::unique("poll");
    db.listen(&channel).unwrap();
    db.set_io_timeout(SHORT);
    let error = db.execute("select pg_sleep(60)", &[]).unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    db.set_io_timeout(LONG);
    // The late answer, and the end of the cancel, which comes on a connection of its own.
    until_some(|| {
        assert_eq!(db.poll_notification().unwrap(), None);
        (db.in_flight() == 0 && db.sources().count() == 1).then_some(())
    });
    connect().notify(&channel, "all is well").unwrap();
    let heard = until_some(|| db.poll_notification().unwrap());
    assert_eq!(heard.payload, "all is well");
    assert_usable(&mut db);
}

#[test]
fn h30_in_simple_mode_too() {
    let mut db = PgConnection::connect(&config().execution_mode(ExecutionMode::Simple)).unwrap();
    let channel = testkit::unique("simple");
    db.listen(&channel).unwrap();
    db.notify(&channel, "no 'parameters' \\ here").unwrap();
    assert_eq!(face_payload(&mut db), "no 'parameters' \\ here");
    for (channel, payload) in [("c\0", "x"), ("c", "x\0")] {
        let error = db.notify(channel, payload).unwrap_err();
        assert!(matches!(&error, PgError::Usage(why) if why.contains("NUL")), "{error}");
    }
    let error = db.notify(&channel, &"x".repeat(8000)).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_PARAMETER_VALUE));
    db.unlisten(&channel).unwrap();
    db.execute_batch("select 1").unwrap();
}

#[test]
fn b13_what_ends_listening() {
    let mut db = connect();
    let channel = testkit::unique("end");
    let listens = |db: &mut PgConnection| {
        !db.query("select pg_listening_channels()", &[]).unwrap().is_empty()
    };
    db.begin().unwrap();
    db.listen(&channel).unwrap();
    db.rollback().unwrap();
    assert!(!listens(&mut db));
    db.listen(&channel).unwrap();
    assert!(listens(&mut db));
    db.reset().unwrap();
    assert!(!listens(&mut db));
}

#[test]
fn b13_notices_do_not_end_the_wait() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.send_frames(&[
            frames::notice_response(&[(b'S', "NOTICE"), (b'C', "00000"), (b'M', "tuning")]),
            frames::parameter_status("TimeZone", "Europe/Warsaw"),
        ])?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.send_frames(&[
            frames::notice_response(&[(b'S', "NOTICE"), (b'C', "00000"), (b'M', "silence")]),
            frames::notification_response(7, "hall", "applause"),
        ])?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    assert_eq!(db.wait_notification(SHORT).unwrap(), None);
    go.send(()).unwrap();
    assert_eq!(db.wait_notification(LONG).unwrap().unwrap().payload, "applause");
    let notices: Vec<_> = db.drain_notices().map(|notice| notice.message).collect();
    assert_eq!(notices, ["tuning", "silence"]);
    assert_eq!(db.server_param("TimeZone"), Some("Europe/Warsaw"));
    drop(db);
    server.join();
}

#[test]
fn h20_what_drips_does_not_extend_the_wait() {
    // Notices for as long as the client is there: only the client's own deadline ends this.
    let server = FakeServer::start(|conn| {
        conn.login()?;
        let notice = frames::notice_response(&[(b'S', "NOTICE"), (b'C', "00000"), (b'M', "tick")]);
        let limit = Instant::now() + LONG;
        while conn.drip(&notice, Duration::from_millis(1)).is_ok() {
            assert!(Instant::now() < limit, "the client waits on");
        }
        Ok(())
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    assert_eq!(db.wait_notification(SHORT).unwrap(), None);
    drop(db);
    server.join();
}

fn h1_a_listen_that_comes_late_takes_nobodys_answer(face: Face) {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect_query("LISTEN \"jobs\"")?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.answer_query(&Answer::command("LISTEN"))?;
        conn.send_frames(&[frames::notification_response(7, "jobs", "late")])?;
        conn.expect_query("select 'mine'")?;
        conn.answer_query(&Answer::command("MINE"))?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    db.set_io_timeout(SHORT);
    let error = face.listen(&mut db, "jobs").unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    go.send(()).unwrap();
    db.set_io_timeout(LONG);
    let request = Request::Simple { sql: "select 'mine'" };
    match face {
        Face::Blocking => db.execute_batch("select 'mine'").unwrap(),
        Face::NonBlocking => {
            let submit = Submit::new(Delivery::Collect).deadline(db.operation_deadline());
            let ticket = db.submit_with(request, submit).unwrap();
            let mut late = Vec::new();
            run_events(&mut db, 1, |event| match event {
                Event::Notification(heard) => late.push(heard.payload),
                event => assert_eq!(event.ticket(), Some(ticket)),
            })
            .unwrap();
            assert_eq!(db.take(ticket).unwrap().unwrap().last().tag().as_str(), "MINE");
            assert_eq!(late, ["late"]);
        }
    }
    if face_is_blocking(face) {
        assert_eq!(db.last_command_tag(), "MINE");
        assert_eq!(face_payload(&mut db), "late");
    }
    drop(db);
    server.join();
}

fn face_is_blocking(face: Face) -> bool {
    matches!(face, Face::Blocking)
}
