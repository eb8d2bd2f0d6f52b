//! Contract 1: one terminal event for each ticket, at ReadyForQuery, and each with the right end.

use super::server::COMMITTING;
use super::*;

/// What is told of each request at its end, in order.
fn ends(session: &mut Session) -> Vec<String> {
    let is_end = |line: &String| line.ends_with(" complete") || line.contains(" failed: ");
    session.told().into_iter().filter(is_end).collect()
}

#[test]
fn contract_1_h47_success_is_told_at_ready_for_query_and_not_before() {
    for submit in [Submit::new(Delivery::Events), Submit::new(Delivery::Collect)] {
        let mut session = Session::new();
        let number = session.submit_query("select rows 1", submit).unwrap();
        session.send();
        let said = session.server.said();
        let ready = said.len() - frames::ready_for_query(b'I').len();
        feed(&mut session.engine, &said[..ready]);
        let before: Vec<_> = match submit.delivery {
            Delivery::Events => {
                ["columns 1", "row 1", "SELECT 1"].map(|told| format!("1 {told}")).into()
            }
            _ => Vec::new(),
        };
        assert_eq!(session.told(), before);
        assert!(session.take(number).unwrap().is_none(), "no result before its end either");
        feed(&mut session.engine, &said[ready..]);
        assert_eq!(session.told(), ["1 complete"]);
        if submit.delivery == Delivery::Collect {
            assert_eq!(session.take(number).unwrap().unwrap().last().len(), 1);
            assert!(session.take(number).unwrap().is_none(), "a result is taken once");
        }
        session.assert_usable();
    }
}

#[test]
fn contract_1_h47_an_error_behind_command_complete_fails_the_request() {
    let mut session = Session::new();
    session.query("select deferred");
    session.turn();
    assert_eq!(session.told(), ["1 columns 1", "1 SELECT 0", "1 failed: 23503"]);
    let number = session.submit_query("select deferred", Submit::new(Delivery::Collect)).unwrap();
    session.turn();
    assert_eq!(session.told(), ["2 failed: 23503"]);
    assert_eq!(brief(&session.take(number).unwrap_err()), "23503");
    assert_eq!(session.server.committed(), [""; 0]);
    session.assert_usable();
}

#[test]
fn contract_1_h29_the_culprit_has_the_error_and_the_others_know_their_part() {
    for (culprit, code) in
        [("parse-error", "42601"), ("bind-error", "22P02"), ("run-error 3", "22012")]
    {
        for at in 0..4 {
            let mut session = Session::new();
            let culprit = format!("select {culprit}");
            let mut texts = ["select rows 1", "select rows 2"].repeat(2);
            texts[at] = &culprit;
            session.group(&texts);
            session.query("select rows 1");
            session.turn();
            let expected = (0..4).map(|index| match index {
                _ if index < at => format!("{} failed: rolled back", index + 1),
                _ if index == at => format!("{} failed: {code}", index + 1),
                _ => format!("{} failed: not run: {code}", index + 1),
            });
            let expected: Vec<_> = expected.chain(["5 complete".to_owned()]).collect();
            assert_eq!(ends(&mut session), expected);
            assert_eq!(session.server.committed(), ["5"]);
            session.assert_usable();
        }
    }
}

#[test]
fn contract_1_h47_an_error_at_the_sync_is_the_last_request_s() {
    let mut session = Session::new();
    session.group(&["select deferred", "select rows 1", "select rows 2"]);
    session.turn();
    let expected = ["1 failed: rolled back", "2 failed: rolled back", "3 failed: 23503"];
    assert_eq!(ends(&mut session), expected);
    session.assert_usable();
}

#[test]
fn contract_1_what_a_commit_inside_a_group_has_committed_stays_complete() {
    let mut session = Session::new();
    session.group(&["select rows 1", "commit", "select rows 1", "select run-error 0", "commit"]);
    session.turn();
    let expected = [
        "1 complete",
        "2 complete",
        "3 failed: rolled back",
        "4 failed: 22012",
        "5 failed: not run: 22012",
    ];
    assert_eq!(ends(&mut session), expected);
    assert_eq!(session.server.committed(), ["1", "2"]);
    // It is the group's, and not the next one's.
    session.group(&["select rows 1", "select run-error 0"]);
    session.turn();
    assert_eq!(ends(&mut session), ["6 failed: rolled back", "7 failed: 22012"]);
    // The error of the Sync is the last one's, though that is the commit itself.
    session.group(&["select rows 1", "commit", "select deferred"]);
    session.turn();
    assert_eq!(ends(&mut session), ["8 complete", "9 complete", "10 failed: 23503"]);
    session.assert_usable();
}

#[test]
fn contract_1_what_commits_by_itself_keeps_what_stands_before_it() {
    for command in COMMITTING {
        for delivery in [Delivery::Events, Delivery::Rows, Delivery::Collect] {
            let mut session = Session::new();
            // Others behind it: DISCARD ALL takes the statements of those before with it.
            for sql in ["select rows 1", command, "select rows 2", "select run-error 0", command] {
                let submit = Submit::new(delivery).no_sync();
                session.submit_query(sql, submit).expect("it is queued");
            }
            session.engine.end_group();
            session.turn();
            let expected = [
                "1 complete",
                "2 complete",
                "3 failed: rolled back",
                "4 failed: 22012",
                "5 failed: not run: 22012",
            ];
            assert_eq!(ends(&mut session), expected, "{command}");
            assert_eq!(session.server.committed(), ["1", "2"], "{command}");
            session.assert_usable();
        }
    }
    // Others do not, though their names begin alike.
    for command in ["create table", "drop table", "discard temp", "deallocate all", "analyze"] {
        let mut session = Session::new();
        session.group(&["select rows 1", command, "select run-error 0"]);
        session.turn();
        let expected = ["1 failed: rolled back", "2 failed: rolled back", "3 failed: 22012"];
        assert_eq!(ends(&mut session), expected, "{command}");
        session.assert_usable();
    }
}

#[test]
fn contract_1_a_group_that_has_failed_takes_many_more_until_its_sync() {
    let mut session = Session::new();
    session.add("select run-error 0");
    session.turn();
    session.told();
    for _ in 0..100 {
        session.add("select rows 1");
    }
    session.turn();
    assert_eq!(session.told(), [""; 0]);
    session.query("select rows 1");
    // It is the Sync of the failed group; what comes now is another.
    session.query("select rows 1");
    session.turn();
    let told = ends(&mut session);
    assert_eq!(told.len(), 103);
    assert_eq!(told[0], "1 failed: 22012");
    for (number, line) in (2..=102).zip(&told[1..]) {
        assert_eq!(*line, format!("{number} failed: not run: 22012"));
    }
    assert_eq!(told[102], "103 complete");
    session.assert_usable();
}

#[test]
fn contract_1_a_group_is_told_only_when_it_ends_however_late_that_is() {
    let mut session = Session::new();
    session.add("select rows 1");
    assert_eq!(tags(&session.turn()), "PBDE");
    assert_eq!(session.told(), ["1 columns 1", "1 row 1", "1 SELECT 1"]);
    session.add("select run-error 0");
    session.turn();
    assert_eq!(session.told(), ["2 columns 1"]);
    // The group has failed, and still takes what belongs to it.
    session.add("select rows 1");
    session.turn();
    assert_eq!(session.told(), [""; 0]);
    session.engine.end_group();
    assert_eq!(tags(&session.turn()), "S");
    let expected = ["1 failed: rolled back", "2 failed: 22012", "3 failed: not run: 22012"];
    assert_eq!(session.told(), expected);
    session.assert_usable();
}

#[test]
fn contract_1_an_error_between_two_requests_is_of_the_one_before() {
    // The next one is not there yet, or is and was not sent.
    for next_is_queued in [false, true] {
        let mut session = Session::new();
        session.add("select rows 0");
        session.turn();
        if next_is_queued {
            session.add("select rows 0");
        }
        session.hear(&[error("57014")]);
        if !next_is_queued {
            session.add("select rows 0");
        }
        session.told();
        session.engine.end_group();
        // What the server skips.
        session.engine.sent(session.engine.send_pending().len());
        session.hear(&[frames::ready_for_query(b'I')]);
        assert_eq!(ends(&mut session), ["1 failed: 57014", "2 failed: not run: 57014"]);
    }
}

#[test]
fn contract_1_every_ticket_ends_once_when_the_connection_does() {
    // A group in which a request has failed, one under way, one partly sent, one not sent.
    let mut session = Session::new();
    session.group(&["select rows 1", "select run-error 0", "select rows 1"]);
    session.group(&["select rows 1", "select rows 1"]);
    session.send();
    session.query("select rows 1");
    session.send_some(3);
    session.query("select rows 1");
    let said = session.server.said();
    // Up to the error.
    let mut buffer = FrameBuffer::new();
    buffer.push(&said);
    loop {
        let frame = buffer.take_frame().unwrap().expect("an error");
        feed(&mut session.engine, &frame.to_bytes());
        if frame.tag == b'E' {
            break;
        }
    }
    session.told();
    session.engine.hung_up(None);
    let (lines, broken) = session.told_to_the_end();
    assert_eq!(
        lines,
        [
            "1 failed: closed",
            "2 failed: 22012",
            "3 failed: closed",
            "4 failed: closed",
            "5 failed: closed",
            "6 failed: closed",
            "7 failed: not sent: closed",
        ]
    );
    assert_eq!(brief(&broken), "closed");
    assert_eq!(brief(&session.engine.next_event().unwrap_err()), "closed", "again and again");
}

#[test]
fn contract_1_an_empty_request_inside_a_group_has_its_end_too() {
    // A Close writes nothing inside a group, and a Sync ends it.
    for closes_something in [false, true] {
        let mut session = Session::new();
        let statement = session.prepare("select rows 1");
        let no_sync = Submit::new(Delivery::Events).no_sync();
        if closes_something {
            // At the head of the group it is written.
            session.submit(Request::Close { statement: &statement }, no_sync).unwrap();
        }
        session.add("select rows 1");
        session.submit(Request::Close { statement: &statement }, no_sync).unwrap();
        session.submit(Request::Close { statement: &statement }, no_sync).unwrap();
        session.add("select rows 1");
        session.submit(Request::Close { statement: &statement }, no_sync).unwrap();
        session.engine.end_group();
        session.turn();
        let last = session.tickets.len();
        let expected: Vec<_> = (2..=last).map(|number| format!("{number} complete")).collect();
        assert_eq!(ends(&mut session), expected);
        session.assert_usable();
        session.assert_usable();
        assert_eq!(session.server.statements().len(), session.engine.prepared_statements());
    }
}

#[test]
fn contract_1_a_group_of_nothing_but_empty_requests_can_be_taken_back_or_ended() {
    let no_sync = Submit::new(Delivery::Events).no_sync();
    let now = std::time::Instant::now();
    let due = chopin_pg::engine::Deadline::after(now, "io_timeout", std::time::Duration::ZERO);
    for (is_behind, is_due) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut session = Session::new();
        let statement = session.prepare("select rows 1");
        let close = Request::Close { statement: &statement };
        session.submit(close, Submit::new(Delivery::Discard)).unwrap();
        session.turn();
        session.told();
        if is_behind {
            session.query("select rows 0");
            session.send();
        }
        let first = session.tickets.len() + 1;
        session.submit(close, no_sync).unwrap();
        session.submit(close, no_sync.deadline(due.filter(|_| is_due))).unwrap();
        if is_due {
            session.engine.handle_timeout(now);
        }
        session.engine.end_group();
        session.turn();
        let end = if is_due { "failed: not sent: io_timeout" } else { "complete" };
        let mut expected: Vec<_> =
            (first..first + 2).map(|number| format!("{number} {end}")).collect();
        if is_behind {
            expected.push(format!("{} complete", first - 1));
        }
        let mut told = ends(&mut session);
        told.sort_by_key(|line| line.split(' ').next() == Some(&(first - 1).to_string()));
        assert_eq!(told, expected);
        session.assert_usable();
    }
}

#[test]
fn contract_1_a_sync_ends_the_open_group() {
    for submit in [Submit::new(Delivery::Events), Submit::new(Delivery::Events).no_sync()] {
        let mut session = Session::new();
        session.add("select rows 0");
        session.submit(Request::Sync, submit).unwrap();
        assert!(!session.engine.has_open_group());
        session.query("select rows 0");
        session.turn();
        assert_eq!(ends(&mut session), ["1 complete", "2 complete", "3 complete"]);
        session.assert_usable();
    }
}
