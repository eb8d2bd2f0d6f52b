//! Cancels: when one is wanted, what waits for its end, and whom it has hit. Here a cancel is three
//! calls; over sockets it is in tests/it/cancel.rs.

use std::time::Duration;

use super::time::{DRAIN, Timed};
use super::*;

impl Timed {
    fn wants_cancel(&self) -> bool {
        self.engine.wants_cancel().is_some()
    }

    fn cancel_ends(&mut self, seconds: u64) {
        let now = self.at(seconds);
        self.engine.cancel_ended(now);
    }

    /// One statement was cancelled, all that the server has said besides is lost.
    fn hear_cancelled(&mut self) {
        self.server.said();
        self.hear(&[error("57014"), frames::ready_for_query(b'I')]);
    }

    /// Submits text for the simple protocol.
    fn simple(&mut self, sql: &str) {
        let submit = Submit::new(Delivery::Events);
        self.submit(Request::Simple { sql }, submit).expect("it is queued");
    }
}

/// The end of an answer without rows.
fn done() -> [Vec<u8>; 5] {
    [
        frames::parse_complete(),
        frames::bind_complete(),
        frames::no_data(),
        frames::command_complete("DONE"),
        frames::ready_for_query(b'I'),
    ]
}

#[test]
fn b25_sending_goes_on_when_both_the_target_and_the_cancel_have_ended() {
    for target_first in [false, true] {
        let mut session = Timed::new();
        session.query_until("select rows 2", 10);
        session.send();
        session.query("select rows 1");
        assert!(!session.wants_cancel());
        session.pass(10);
        assert_eq!(session.told(), ["1 failed: io_timeout"]);
        assert_eq!(session.engine.wants_cancel(), Some(session.at(10)));
        session.engine.cancel_sent();
        assert!(!session.wants_cancel(), "one is enough");
        for half in 0..2 {
            assert_eq!(session.send(), [], "{half}");
            if target_first == (half == 0) {
                session.hear_cancelled();
                assert_eq!(session.told(), [""; 0], "its end was told before");
            } else {
                session.cancel_ends(11);
            }
        }
        assert_eq!(tags(&session.turn()), "PBDES");
        assert_eq!(session.told().last().unwrap(), "2 complete");
        assert_eq!(session.engine.deadline(), None);
        session.assert_usable();
    }
}

#[test]
fn b25_a_cancel_that_was_not_sent_before_its_target_ended_is_not_wanted_any_more() {
    let mut session = Timed::new();
    session.query_until("select rows 2", 10);
    session.send();
    session.pass(10);
    session.told();
    assert!(session.wants_cancel());
    session.receive();
    assert_eq!(session.told(), [""; 0]);
    assert!(!session.wants_cancel());
    assert!(!session.engine.is_holding());
    session.assert_usable();
}

#[test]
fn b25_a_cancel_is_wanted_only_for_the_request_at_the_front() {
    let mut session = Timed::new();
    session.query("select rows 1");
    session.query_until("select rows 2", 10);
    session.query("select rows 1");
    session.send();
    session.pass(10);
    assert_eq!(session.told(), ["2 failed: io_timeout"]);
    assert!(!session.wants_cancel(), "it would hit the first one");
    session.server.said();
    session.hear(&done());
    assert_eq!(session.told(), ["1 DONE", "1 complete"]);
    assert!(session.wants_cancel());
    session.hear(&done());
    assert_eq!(session.told(), [""; 0]);
    assert!(!session.wants_cancel(), "it would hit the third one");
    session.hear(&done());
    assert_eq!(session.told(), ["3 DONE", "3 complete"]);
}

#[test]
fn b25_a_cancel_waits_until_its_target_is_sent_as_a_whole() {
    let mut session = Timed::new();
    session.query_until("select rows 2", 10);
    session.send_some(10);
    session.pass(10);
    assert_eq!(session.told(), ["1 failed: io_timeout"]);
    assert!(!session.wants_cancel(), "a server that waits for the rest ignores it");
    session.send();
    assert!(session.wants_cancel());
    session.engine.cancel_sent();
    session.hear_cancelled();
    session.cancel_ends(10);
    session.server = Server::default();
    session.assert_usable();
}

#[test]
fn b25_in_a_group_the_request_that_runs_is_cancelled_and_the_group_fails_with_it() {
    for late in 0..3 {
        let mut session = Timed::new();
        for number in 0..3 {
            let limit = if number == late { 10 } else { 1000 };
            // Each with a Parse of its own.
            session.add_until(&format!("select rows {number}"), limit);
        }
        session.engine.end_group();
        session.send();
        session.pass(10);
        assert_eq!(session.told(), [format!("{} failed: io_timeout", late + 1)]);
        session.server.said();
        // A server keeps the answers back up to the Sync: nobody knows which of them is running.
        assert!(session.wants_cancel(), "{late}");
        session.engine.cancel_sent();
        for _ in 0..late {
            session.hear(&done()[..4]);
            session.told();
        }
        session.hear(&[error("57014")]);
        assert_eq!(session.told(), [""; 0]);
        session.cancel_ends(11);
        assert!(!session.wants_cancel(), "what is left of the group is skipped");
        session.hear(&[frames::ready_for_query(b'I')]);
        let ends: Vec<String> = (0..3)
            .filter(|number| *number != late)
            .map(|number| match number < late {
                true => format!("{} failed: rolled back", number + 1),
                false => format!("{} failed: not run: 57014", number + 1),
            })
            .collect();
        assert_eq!(session.told(), ends);
        session.server = Server::default();
        session.assert_usable();
    }
}

#[test]
fn b25_what_is_hit_in_place_of_a_late_one_of_its_group_is_told_so() {
    for hit in [0, 2] {
        let mut session = Timed::new();
        for number in 0..3 {
            let limit = if number == 1 { 10 } else { 1000 };
            session.add_until(&format!("select rows {number}"), limit);
        }
        session.engine.end_group();
        session.send();
        session.pass(10);
        session.server.said();
        session.engine.cancel_sent();
        session.cancel_ends(10);
        for _ in 0..hit {
            session.hear(&done()[..4]);
        }
        session.hear(&[error("57014"), frames::ready_for_query(b'I')]);
        let mut told = session.told();
        told.retain(|line| line.contains("failed"));
        let expected = match hit {
            0 => ["2 failed: io_timeout", "1 failed: hit", "3 failed: not run: hit"],
            _ => ["2 failed: io_timeout", "1 failed: rolled back", "3 failed: hit"],
        };
        assert_eq!(told, expected);
        session.server = Server::default();
        session.assert_usable();
    }
}

#[test]
fn b25_the_sync_of_a_group_can_be_cancelled() {
    let mut session = Timed::new();
    session.add("select rows 1");
    session.add_until("select rows 2", 10);
    session.engine.end_group();
    session.send();
    session.server.said();
    session.hear(&done()[..4]);
    session.hear(&done()[..4]);
    assert_eq!(session.told(), ["1 DONE", "2 DONE"]);
    // A deferred constraint is checked for a long time.
    session.pass(10);
    assert_eq!(session.told(), ["2 failed: io_timeout"]);
    assert!(session.wants_cancel());
    session.engine.cancel_sent();
    session.cancel_ends(10);
    session.hear_cancelled();
    assert_eq!(session.told(), ["1 failed: rolled back"]);
    session.server = Server::default();
    session.assert_usable();
}

#[test]
fn h13_a_follower_that_is_hit_is_told_so() {
    type Submits = fn(&mut Timed);
    let followers: [(Submits, &str); 5] = [
        (|session| session.query("select rows 1"), "hit"),
        (|session| session.query("insert rows 1"), "hit"),
        (|session| session.query("call p()"), "hit, maybe half done"),
        (|session| session.query("vacuum"), "hit, maybe half done"),
        (|session| session.simple("insert into t values (1); commit"), "hit, maybe half done"),
    ];
    for (submit, told) in followers {
        for ended in [false, true] {
            let mut session = Timed::new();
            session.query_until("select rows 1", 10);
            submit(&mut session);
            session.send();
            session.server.said();
            session.pass(10);
            session.engine.cancel_sent();
            // The target comes to its end, the server goes on, and only then the cancel arrives.
            session.hear(&done());
            if ended {
                session.cancel_ends(10);
            }
            session.hear(&[error("57014"), frames::ready_for_query(b'I')]);
            let end = format!("2 failed: {told}");
            assert_eq!(session.told(), ["1 failed: io_timeout".to_owned(), end]);
            if !ended {
                assert!(session.engine.is_holding());
                session.cancel_ends(10);
            }
            // What is sent from here on is no neighbour.
            session.query("select rows 1");
            session.send();
            session.hear_cancelled();
            assert_eq!(session.told(), ["3 failed: 57014"]);
        }
    }
}

#[test]
fn b25_what_a_cancel_does_not_stop_is_cancelled_again_and_given_up_in_the_end() {
    let mut session = Timed::new();
    session.query_until("select rows 1", 10);
    session.send();
    session.pass(10);
    session.told();
    let mut now = session.at(10);
    for pause in [100, 200, 400] {
        assert!(session.wants_cancel());
        session.engine.cancel_sent();
        session.engine.cancel_ended(now);
        assert!(!session.wants_cancel());
        assert_eq!(session.engine.deadline(), Some(now + Duration::from_millis(pause)));
        now += Duration::from_millis(pause);
        session.engine.handle_timeout(now);
    }
    // One that cannot be sent is tried again too.
    session.engine.cancel_ended(now);
    assert!(!session.wants_cancel());
    assert_eq!(session.engine.deadline(), Some(now + Duration::from_millis(800)));
    session.pass(10 + DRAIN);
    assert_eq!(brief(&session.told_to_the_end().1), "drain_timeout");
    assert!(!session.wants_cancel() && !session.engine.is_holding());
}

#[test]
fn b25_a_cancel_without_end_breaks_the_connection() {
    for target_ends in [false, true] {
        let mut session = Timed::new();
        session.query_until("select rows 1", 10);
        session.send();
        session.pass(10);
        session.told();
        session.engine.cancel_sent();
        if target_ends {
            session.hear_cancelled();
            assert_eq!(session.told(), [""; 0]);
        }
        session.query_until("select rows 1", 20);
        let told_first = session.engine.deadline();
        assert_eq!(told_first, Some(session.at(20)));
        session.pass(20);
        let Some(Event::Failed { error: PgError::NotSent(why), .. }) =
            session.engine.next_event().unwrap()
        else {
            panic!("it is taken back");
        };
        let waited = match target_ends {
            true => "waiting for the end of a cancel request",
            false => "waiting for the late answer to an earlier query",
        };
        assert!(why.to_string().contains(waited), "{why}");
        assert_eq!(session.engine.deadline(), Some(session.at(10 + DRAIN)));
        session.pass(10 + DRAIN);
        let (_, error) = session.told_to_the_end();
        assert!(error.to_string().contains("the end of a cancel request"), "{error}");
        assert_eq!(brief(&error), "drain_timeout");
    }
}

#[test]
fn b25_several_that_time_out_at_once_say_what_they_waited_for() {
    let mut session = Timed::new();
    session.query_until("select rows 1", 10);
    session.query_until("select rows 1", 10);
    session.send();
    session.query_until("select rows 1", 10);
    session.pass(10);
    let mut waited = Vec::new();
    while let Some(Event::Failed { error, .. }) = session.engine.next_event().unwrap() {
        waited.push(error.to_string());
    }
    let own = "timed out after 10 s while waiting for the answer to a query (io_timeout = 10 s)";
    assert_eq!(waited, [own, own, &format!("not sent: {own}")]);
    // A later one did wait for them.
    session.query_until("select rows 1", 20);
    session.pass(20);
    let Some(Event::Failed { error, .. }) = session.engine.next_event().unwrap() else {
        panic!("it has failed");
    };
    assert!(error.to_string().contains("the late answer to an earlier query"), "{error}");
}

#[test]
fn h1_two_late_requests_are_cancelled_one_after_the_other() {
    let mut session = Timed::new();
    session.query_until("select rows 1", 10);
    session.query_until("select rows 1", 10);
    session.send();
    session.query("select rows 1");
    session.pass(10);
    session.told();
    session.engine.cancel_sent();
    session.hear_cancelled();
    assert_eq!(session.told(), [""; 0]);
    assert!(!session.wants_cancel(), "the first one's has not ended");
    session.cancel_ends(11);
    assert!(session.wants_cancel());
    session.engine.cancel_sent();
    session.cancel_ends(12);
    assert_eq!(session.send(), []);
    session.hear_cancelled();
    assert_eq!(session.told(), [""; 0]);
    session.server = Server::default();
    assert_eq!(tags(&session.turn()), "PBDES");
    assert_eq!(session.told().last().unwrap(), "3 complete");
    session.assert_usable();
}

#[test]
fn b10_what_is_stopped_holds_back_what_follows_until_it_has_ended() {
    let mut session = Timed::new();
    session.query("select rows 2");
    session.send();
    let (ticket, now) = (session.last(), session.at(0));
    session.engine.stop(ticket, now);
    session.query("select rows 1");
    assert_eq!(session.send(), []);
    assert!(!session.wants_cancel(), "it may end by itself");
    session.receive();
    assert_eq!(session.told(), [""; 0]);
    assert_eq!(tags(&session.turn()), "PBDES");
    assert_eq!(session.told().last().unwrap(), "2 complete");
    session.assert_usable();
}

#[test]
fn b10_what_is_stopped_is_cancelled_at_once_only_if_nothing_is_lost_by_it() {
    let quick = DRAIN / 10;
    for (sql, status, patience) in [
        ("select rows 1", b'I', quick),
        ("/* all */ (values (1))", b'I', quick),
        ("select rows 1", b'T', DRAIN),
        ("insert rows 1", b'I', DRAIN),
        ("with x as (insert rows 1) select", b'I', DRAIN),
    ] {
        let mut session = Timed::new();
        session.simple("begin");
        session.send();
        session.server.said();
        session.hear(&[frames::command_complete("BEGIN"), frames::ready_for_query(status)]);
        session.told();
        session.query(sql);
        session.send();
        let (ticket, now) = (session.last(), session.at(0));
        session.engine.stop(ticket, now);
        session.pass(patience - 1);
        assert!(!session.wants_cancel(), "{sql}");
        session.pass(patience);
        assert!(session.wants_cancel(), "{sql}");
        session.pass(patience + DRAIN);
        assert_eq!(brief(&session.told_to_the_end().1), "drain_timeout", "{sql}");
    }
    // Or when the program says so.
    let mut session = Timed::new();
    session.query("select rows 1");
    session.send();
    let (ticket, now) = (session.last(), session.at(0));
    session.engine.stop_now(ticket, now);
    assert!(session.wants_cancel());
    session.receive();
    assert_eq!(session.told(), [""; 0]);
    session.assert_usable();
}

#[test]
fn a_terminate_wants_no_cancel() {
    let mut session = Timed::new();
    session.query_until("select rows 1", 10);
    session.send();
    session.pass(10);
    session.told();
    session.engine.terminate();
    assert!(!session.wants_cancel(), "the session ends anyway");
}
