//! Deadlines, and what nobody wants any more. Time is an argument: none passes here.

use std::time::{Duration, Instant};

use chopin_pg::engine::Deadline;

use super::*;

/// A session whose time is counted from its beginning.
pub(super) struct Timed {
    session: Session,
    start: Instant,
}

impl std::ops::Deref for Timed {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl std::ops::DerefMut for Timed {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// How long a late answer may take, in seconds.
pub(super) const DRAIN: u64 = 100;

impl Timed {
    pub(super) fn new() -> Self {
        let session = Session::with(config().drain_timeout(Duration::from_secs(DRAIN)));
        Self { session, start: Instant::now() }
    }

    pub(super) fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    pub(super) fn due(&self, seconds: u64) -> Option<Deadline> {
        Deadline::after(self.start, "io_timeout", Duration::from_secs(seconds))
    }

    /// Submits a query that may take until `seconds`.
    pub(super) fn query_until(&mut self, sql: &str, seconds: u64) {
        let submit = Submit::new(Delivery::Events).deadline(self.due(seconds));
        self.submit_query(sql, submit).expect("it is queued");
    }

    /// [`query_until`](Self::query_until), as a part of the open group.
    pub(super) fn add_until(&mut self, sql: &str, seconds: u64) {
        let submit = Submit::new(Delivery::Events).deadline(self.due(seconds));
        self.submit_query(sql, submit.no_sync()).expect("it is queued");
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        let now = self.at(seconds);
        self.engine.handle_timeout(now);
    }
}

#[test]
fn what_was_not_sent_is_taken_back_with_its_whole_group() {
    let mut session = Timed::new();
    session.query("select rows 1");
    session.send();
    let before = session.engine.in_flight();
    session.add_until("select rows 1", 30);
    session.add_until("select rows 2", 10);
    session.add("select rows 3");
    session.engine.end_group();
    session.query_until("select rows 4", 20);
    assert_eq!(session.engine.deadline(), Some(session.at(10)));
    session.pass(9);
    assert_eq!((session.told(), session.engine.in_flight()), (Vec::new(), before + 4));
    session.pass(10);
    let expected = [2, 3, 4].map(|number| format!("{number} failed: not sent: io_timeout"));
    assert_eq!(session.told(), expected);
    assert_eq!(session.engine.in_flight(), before + 1);
    assert_eq!(session.engine.deadline(), Some(session.at(20)));
    // The others go as if it had never been there.
    session.turn();
    let ends: Vec<_> =
        session.told().into_iter().filter(|line| line.ends_with("complete")).collect();
    assert_eq!(ends, ["1 complete", "5 complete"]);
    assert_eq!(session.server.committed(), ["1", "5"]);
    session.assert_usable();
}

#[test]
fn what_was_not_sent_is_safe_to_try_again_and_tells_why() {
    let mut session = Timed::new();
    session.query_until("select rows 1", 10);
    session.pass(10);
    let ticket = session.last();
    let Some(Event::Failed { ticket: failed, error }) = session.engine.next_event().unwrap() else {
        panic!("it has failed");
    };
    assert_eq!(failed, ticket);
    assert!(error.is_safe_to_retry());
    assert!(error.to_string().contains("io_timeout = 10 s"), "{error}");
    assert_eq!(session.engine.send_pending(), b"");
    session.assert_usable();
}

#[test]
fn h1_what_was_sent_is_drained_and_nothing_new_is_sent_meanwhile() {
    let mut session = Timed::new();
    session.query_until("select rows 2", 10);
    session.send();
    session.query("select rows 1");
    session.pass(10);
    assert_eq!(session.told(), ["1 failed: io_timeout"]);
    assert_eq!(session.send(), []);
    session.query("select rows 3");
    assert_eq!(session.send(), [], "nor what is queued later");
    assert!(session.engine.interest().read && !session.engine.interest().write);
    // Its answer comes in two parts; only the end frees the way.
    let said = session.server.said();
    feed(&mut session.engine, &said[..said.len() - 1]);
    assert_eq!((session.told(), session.send()), (vec![], vec![]));
    feed(&mut session.engine, &said[said.len() - 1..]);
    assert_eq!(session.told(), [""; 0]);
    assert_eq!(tags(&session.turn()), "PBDESPBDES");
    let ends: Vec<_> =
        session.told().into_iter().filter(|line| line.ends_with("complete")).collect();
    assert_eq!(ends, ["2 complete", "3 complete"]);
    assert_eq!(session.engine.deadline(), None);
    session.assert_usable();
}

#[test]
fn what_waits_for_a_late_answer_can_run_out_of_time_itself() {
    let mut session = Timed::new();
    session.query_until("select rows 2", 10);
    session.send();
    session.pass(10);
    session.told();
    session.query_until("select rows 1", 20);
    assert_eq!(session.engine.deadline(), Some(session.at(20)));
    session.pass(20);
    let told = session.engine.next_event().unwrap();
    let Some(Event::Failed { error: PgError::NotSent(why), .. }) = told else {
        panic!("{told:?}");
    };
    assert!(why.to_string().contains("the late answer to an earlier query"), "{why}");
    session.receive();
    session.assert_usable();
}

#[test]
fn h1_two_late_answers_are_both_awaited() {
    for later_first in [false, true] {
        let mut session = Timed::new();
        let (one, two) = if later_first { (20, 10) } else { (10, 20) };
        session.query_until("select rows 1", one);
        session.query_until("select rows 2", two);
        session.send();
        session.query("select rows 3");
        session.pass(10);
        session.pass(20);
        assert_eq!(session.told().len(), 2);
        // The answer to the first alone does not free the way.
        let said = session.server.said();
        let first = 1 + said.windows(6).position(|bytes| bytes == b"Z\0\0\0\x05I").unwrap() + 5;
        feed(&mut session.engine, &said[..first]);
        assert_eq!((session.told(), session.send()), (vec![], vec![]));
        assert_eq!(session.engine.in_flight(), 2);
        feed(&mut session.engine, &said[first..]);
        assert_eq!(session.told(), [""; 0]);
        session.turn();
        assert_eq!(session.told().last().unwrap(), "3 complete");
        session.assert_usable();
    }
}

#[test]
fn h1_a_late_answer_that_does_not_come_breaks_the_connection() {
    let mut session = Timed::new();
    session.query_until("select rows 1", 10);
    session.query("select rows 1");
    session.send();
    session.query("select rows 1");
    session.pass(10);
    assert_eq!(session.told(), ["1 failed: io_timeout"]);
    assert_eq!(session.engine.deadline(), Some(session.at(10 + DRAIN)));
    session.pass(10 + DRAIN - 1);
    assert_eq!(session.told(), [""; 0]);
    session.pass(10 + DRAIN);
    let (lines, error) = session.told_to_the_end();
    assert_eq!(lines, ["2 failed: drain_timeout", "3 failed: not sent: drain_timeout"]);
    assert_eq!(brief(&error), "drain_timeout");
}

#[test]
fn a_group_that_was_begun_is_sent_to_its_end_while_a_late_answer_is_awaited() {
    let mut session = Timed::new();
    session.add_until("select rows 1", 10);
    session.add("select rows 2");
    session.engine.end_group();
    session.send_some(3);
    session.query("select rows 3");
    session.pass(10);
    assert_eq!(session.told(), ["1 failed: io_timeout"]);
    assert_eq!(tags(&session.turn()), "PBDEPBDES", "and no byte of what comes behind it");
    assert_eq!(session.told(), ["2 columns 1", "2 row 2", "2 row 2", "2 SELECT 2", "2 complete"]);
    session.turn();
    assert_eq!(session.told().last().unwrap(), "3 complete");
    session.assert_usable();
}

#[test]
fn a_request_that_was_not_sent_in_a_group_that_was_begun_times_out_with_it() {
    let mut session = Timed::new();
    session.add("select rows 1");
    session.send();
    session.add_until("select rows 2", 10);
    session.engine.end_group();
    session.query("select rows 3");
    session.pass(10);
    assert_eq!(session.told(), ["2 failed: io_timeout"], "it cannot be taken out of the group");
    assert_eq!(tags(&session.turn()), "PBDES");
    assert_eq!(
        session.told(),
        ["1 columns 1", "1 row 1", "1 SELECT 1", "1 complete"],
        "the first one's answer was not late"
    );
    session.turn();
    assert_eq!(session.told().last().unwrap(), "3 complete");
    session.assert_usable();
}

#[test]
fn a_late_request_in_an_open_group_holds_what_comes_behind_the_group() {
    let mut session = Timed::new();
    session.add_until("select rows 1", 10);
    session.send();
    session.pass(10);
    session.receive();
    assert_eq!(session.told(), ["1 failed: io_timeout"]);
    // The group goes on to its end.
    session.add("select rows 2");
    session.engine.end_group();
    session.query("select rows 3");
    assert_eq!(tags(&session.turn()), "PBDES");
    assert_eq!(session.told().last().unwrap(), "2 complete");
    session.turn();
    assert_eq!(session.told().last().unwrap(), "3 complete");
    session.assert_usable();
}

#[test]
fn an_answer_that_is_there_is_not_late() {
    let mut session = Timed::new();
    session.add_until("select rows 0", 10);
    session.add_until("select rows 0", 10);
    session.engine.end_group();
    session.turn();
    // Its end has been told of one, and not yet of the other.
    while session.told_one().unwrap().unwrap() != "1 complete" {}
    session.pass(10);
    assert_eq!(session.told(), ["2 complete"]);
    // So for one whose end was taken, and for a result.
    let submit = Submit::new(Delivery::Collect).deadline(session.due(10));
    let number = session.submit_query("select rows 1", submit).unwrap();
    session.turn();
    assert_eq!(session.told(), ["3 complete"]);
    session.pass(10);
    assert_eq!(session.told(), [""; 0]);
    assert!(session.take(number).unwrap().is_some());
    session.assert_usable();
}

#[test]
fn s1_11_a_deadline_may_be_changed_while_the_request_is_wanted() {
    let mut session = Timed::new();
    session.query_until("select rows 1", 10);
    session.send();
    let (ticket, later) = (session.last(), session.due(20));
    session.engine.set_deadline(ticket, later);
    session.pass(10);
    assert_eq!(session.told(), [""; 0]);
    assert_eq!(session.engine.deadline(), Some(session.at(20)));
    session.pass(20);
    assert_eq!(session.told(), ["1 failed: io_timeout"]);
    // Not when it is only drained.
    session.engine.set_deadline(ticket, None);
    session.pass(20 + DRAIN);
    assert_eq!(brief(&session.told_to_the_end().1), "drain_timeout");
}

#[test]
fn a_stale_request_that_is_late_is_not_written_again() {
    let mut session = Timed::new();
    session.query("select rows 1");
    session.turn();
    session.told();
    session.server.go_stale("0A000");
    session.query_until("select rows 1", 10);
    session.send();
    session.pass(10);
    session.receive();
    assert_eq!(session.told(), ["2 failed: io_timeout"]);
    assert_eq!(session.engine.in_flight(), 0);
    assert_eq!(session.engine.send_pending(), b"");
    session.assert_usable();
    assert_eq!(session.server.committed(), ["1", "3"]);
}

#[test]
fn a_request_that_is_written_again_keeps_its_deadline() {
    let mut session = Timed::new();
    session.query("select rows 1");
    session.turn();
    session.told();
    for is_sent_again in [true, false] {
        session.server.go_stale("0A000");
        session.query_until("select rows 1", 10);
        let number = session.tickets.len();
        session.turn();
        assert_eq!(session.told(), [""; 0]);
        assert_eq!(session.engine.deadline(), Some(session.at(10)));
        if is_sent_again {
            session.send();
        }
        session.pass(10);
        let end = if is_sent_again { "io_timeout" } else { "not sent: io_timeout" };
        assert_eq!(session.told(), [format!("{number} failed: {end}")]);
        session.receive();
        session.assert_usable();
    }
}

#[test]
fn what_is_discarded_before_it_was_sent_is_never_run() {
    // Whatever else waits, before and behind it.
    for behind in [None, Some(false), Some(true)] {
        let mut session = Session::new();
        session.query("select rows 1");
        session.send();
        session.query("select rows 2");
        let ticket = session.last();
        match behind {
            None => {}
            Some(false) => session.query("select rows 3"),
            Some(true) => session.add("select rows 3"),
        }
        session.engine.discard(ticket, None);
        session.engine.end_group();
        session.turn();
        session.told();
        assert!(!session.server.committed().contains(&"2".to_owned()));
        assert_eq!(session.engine.in_flight(), 0);
        session.assert_usable();
    }
}

#[test]
fn what_is_discarded_in_a_group_is_run_with_the_group() {
    for at in 0..3 {
        for is_sent in [false, true] {
            let mut session = Session::new();
            session.group(&["select rows 1", "select rows 1", "select rows 1"]);
            if is_sent {
                session.send();
            }
            session.engine.discard(session.tickets[at], None);
            session.turn();
            let ends: Vec<_> =
                session.told().into_iter().filter(|line| line.ends_with("complete")).collect();
            let others = (1..=3).filter(|number| *number != at + 1);
            let others: Vec<_> = others.map(|number| format!("{number} complete")).collect();
            assert_eq!(ends, others);
            assert_eq!(session.server.committed(), ["1", "2", "3"]);
            session.assert_usable();
        }
    }
    // Also while the group is open and it is alone in it: others may come.
    let mut session = Session::new();
    session.add("select rows 1");
    session.engine.discard(session.last(), None);
    session.add("select rows 1");
    session.engine.end_group();
    session.turn();
    session.told();
    assert_eq!(session.server.committed(), ["1", "2"]);
    session.assert_usable();
}

#[test]
fn what_is_discarded_is_awaited_with_patience() {
    let mut session = Timed::new();
    session.query_until("select rows 1", 10);
    session.send();
    let (ticket, patience) = (session.last(), session.due(20));
    session.engine.discard(ticket, patience);
    session.pass(19);
    assert_eq!(session.told(), [""; 0], "its own deadline does not count any more");
    // Others are sent meanwhile.
    session.query("select rows 1");
    assert_eq!(tags(&session.send()), "PBDES");
    session.receive();
    assert_eq!(session.told().last().unwrap(), "2 complete");
    session.pass(20);
    session.assert_usable();

    let mut session = Timed::new();
    session.query("select rows 1");
    session.send();
    let (ticket, patience) = (session.last(), session.due(20));
    session.engine.discard(ticket, patience);
    session.pass(20);
    assert_eq!(session.told(), [""; 0]);
    // From now on it is as late as any other.
    assert!(session.engine.wants_cancel().is_some());
    session.query("select rows 1");
    assert_eq!(session.send(), []);
    session.pass(20 + DRAIN);
    let (lines, error) = session.told_to_the_end();
    assert_eq!(lines, ["2 failed: not sent: drain_timeout"]);
    assert_eq!(brief(&error), "drain_timeout");
}

#[test]
fn discarding_what_is_late_already_does_not_lengthen_the_wait() {
    for patience in [None, Some(10 * DRAIN)] {
        let mut session = Timed::new();
        session.query_until("select rows 1", 10);
        session.send();
        session.pass(10);
        assert_eq!(session.told(), ["1 failed: io_timeout"]);
        let (ticket, patience) = (session.last(), patience.and_then(|later| session.due(later)));
        session.engine.discard(ticket, patience);
        session.pass(10 + DRAIN);
        assert_eq!(brief(&session.told_to_the_end().1), "drain_timeout");
    }
    // It may shorten it.
    let mut session = Timed::new();
    session.query_until("select rows 1", 10);
    session.send();
    session.pass(10);
    session.told();
    let (ticket, patience) = (session.last(), session.due(20));
    session.engine.discard(ticket, patience);
    session.pass(20);
    assert_eq!(brief(&session.told_to_the_end().1), "io_timeout");
}

#[test]
fn a_terminate_waits_for_no_late_answer() {
    let mut session = Timed::new();
    session.query_until("select rows 1", 10);
    session.send_some(3);
    session.query("select rows 1");
    session.pass(10);
    session.told();
    session.engine.terminate();
    assert_eq!(tags(&session.send()), "PBDESX", "what was begun, and the end");
    assert_eq!(session.told(), ["2 failed: not sent: closed"]);
}

/// Submits a query whose answer nobody wants from the beginning, and which may take until `seconds`.
fn submit_for_nobody(session: &mut Timed, sql: &str, seconds: u64) {
    let submit = Submit::new(Delivery::Discard).deadline(session.due(seconds));
    session.submit_query(sql, submit).expect("it is queued");
}

#[test]
fn h1_what_nobody_wants_from_the_beginning_is_drained_when_it_is_late() {
    let mut session = Timed::new();
    submit_for_nobody(&mut session, "select rows 3", 10);
    session.send();
    session.pass(10);
    assert_eq!(session.told(), [""; 0], "it has a grace period as any other");
    // What comes behind waits for the late answer.
    session.query("select rows 1");
    assert!(session.send().is_empty());
    session.pass(10 + DRAIN - 1);
    assert_eq!(session.told(), [""; 0]);
    session.receive();
    assert_eq!(session.told(), [""; 0]);
    session.turn();
    assert_eq!(session.told(), ["2 columns 1", "2 row 2", "2 SELECT 1", "2 complete"]);
    assert_eq!(session.server.committed(), ["1", "2"]);
    session.assert_usable();

    // The grace period has an end.
    let mut session = Timed::new();
    submit_for_nobody(&mut session, "select rows 3", 10);
    session.send();
    session.pass(10);
    session.pass(10 + DRAIN);
    let (lines, error) = session.told_to_the_end();
    assert_eq!((lines, brief(&error)), (vec![], "drain_timeout".to_owned()));
}

#[test]
fn what_nobody_wants_and_was_not_sent_is_taken_back_in_silence() {
    let mut session = Timed::new();
    submit_for_nobody(&mut session, "select rows 1", 10);
    session.pass(10);
    assert_eq!((session.told(), session.engine.in_flight()), (vec![], 0));
    assert!(session.send().is_empty());
    session.assert_usable();
    assert_eq!(session.server.committed(), ["2"]);
}

#[test]
fn a_deadline_of_what_nobody_wants_may_be_changed() {
    let mut session = Timed::new();
    submit_for_nobody(&mut session, "select rows 1", 10);
    session.send();
    let (ticket, later) = (session.last(), session.due(1000));
    session.engine.set_deadline(ticket, later);
    session.pass(999);
    session.query("select rows 1");
    session.send();
    session.receive();
    assert_eq!(session.told().last().unwrap(), "2 complete");
    session.assert_usable();
}

#[test]
fn what_nobody_wants_from_the_beginning_is_run_again_when_its_statement_is_stale() {
    for code in ["0A000", "26000"] {
        let mut session = Session::new();
        let statement = session.prepare("select rows 1");
        session.server.go_stale(code);
        let execute = Request::Execute { statement: &statement, params: &("mine",) };
        session.submit(execute, Submit::new(Delivery::Discard)).expect("it is queued");
        while !session.turn().is_empty() {
            assert_eq!(session.told(), [""; 0]);
        }
        assert_eq!(session.server.committed(), ["mine"], "it was to be run, whoever asks for rows");
        session.assert_usable();
        // But not what was wanted, and is not any more.
        session.server.go_stale(code);
        let execute = Request::Execute { statement: &statement, params: &("given up",) };
        session.submit(execute, Submit::new(Delivery::Events)).expect("it is queued");
        session.send();
        let ticket = session.last();
        session.engine.discard(ticket, None);
        while !session.turn().is_empty() {}
        assert_eq!(session.told(), [""; 0]);
        assert!(!session.server.committed().contains(&"given up".to_owned()));
        session.assert_usable();
    }
}

#[test]
fn many_groups_that_were_not_sent_each_name_their_own_limit() {
    let mut session = Timed::new();
    session.query_until("select rows 1", 5000);
    session.send();
    session.query_until("select rows 1", 10);
    session.add_until("select rows 1", 5000);
    session.add_until("select rows 1", 20);
    session.engine.end_group();
    session.query_until("select rows 1", 5000);
    session.query_until("select rows 1", 30);
    session.pass(30);
    let limit_of = |event: Option<Event<'_>>| match event {
        Some(Event::Failed { error: PgError::NotSent(why), .. }) => match *why {
            PgError::Timeout(timeout) => timeout.value.as_secs(),
            other => panic!("{other}"),
        },
        other => panic!("{other:?}"),
    };
    let limits: Vec<_> = (0..4).map(|_| limit_of(session.engine.next_event().unwrap())).collect();
    assert_eq!(limits, [10, 20, 20, 30], "a request without one has its group's");
    session.turn();
    assert_eq!(ends_of(&mut session), ["1 complete", "5 complete"]);
    assert_eq!(session.server.committed(), ["1", "5"]);
    session.assert_usable();
}

#[test]
fn contract_1_the_rest_of_a_group_that_was_taken_back_is_not_run_alone() {
    let mut session = Timed::new();
    session.add_until("select rows 1", 10);
    session.pass(10);
    assert!(session.engine.has_open_group(), "the program has not ended it");
    let refused = |submitted| {
        let Err(PgError::NotSent(why)) = submitted else { panic!("{submitted:?}") };
        assert!(matches!(*why, PgError::Timeout(_)), "{why}");
    };
    refused(session.submit_query("select rows 1", Submit::new(Delivery::Events).no_sync()));
    refused(session.submit_query("select rows 1", Submit::new(Delivery::Events)));
    assert!(!session.engine.has_open_group(), "the last one had a Sync");
    assert_eq!(session.engine.send_pending(), b"");
    assert_eq!(session.told(), ["1 failed: not sent: io_timeout"]);
    session.assert_usable();
    // Or it is ended without another request.
    session.add_until("select rows 1", 20);
    session.pass(20);
    session.engine.end_group();
    assert_eq!(session.engine.send_pending(), b"");
    session.told();
    session.assert_usable();
    assert_eq!(
        session.server.committed(),
        ["2", "4"],
        "nothing but the two that show it is usable"
    );
}

/// The ends among what is told.
fn ends_of(session: &mut Session) -> Vec<String> {
    session.told().into_iter().filter(|line| line.contains("complete")).collect()
}
