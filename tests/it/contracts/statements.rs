//! Statements: what became stale, what is closed, what the server has forgotten.

use super::*;

/// What a server says instead of BindComplete of a statement that is not what it was.
const STALE: [&str; 4] = ["0A000", "26000", "42P01", "42703"];

/// The names of the statements that are closed.
fn closed(frames: &[Frame]) -> Vec<String> {
    let names = frames.iter().filter_map(|frame| match frame.as_close() {
        Ok(frames::Subject::Statement(name)) => Some(name),
        _ => None,
    });
    names.collect()
}

/// A session whose server has a statement; its name.
fn known() -> (Session, String) {
    let mut session = Session::new();
    session.query("select rows 1");
    let sent = session.turn();
    session.told();
    (session, sent[0].as_parse().unwrap().name)
}

#[test]
fn b9_h14_a_stale_statement_is_parsed_anew_and_run() {
    for code in STALE {
        for delivery in [Delivery::Events, Delivery::Rows, Delivery::Collect] {
            let (mut session, old) = known();
            session.server.go_stale(code);
            session.submit_query("select rows 1", Submit::new(delivery)).unwrap();
            assert_eq!(tags(&session.turn()), "BES");
            let nothing: [&str; 0] = [];
            assert_eq!(session.told(), nothing, "nobody hears of it");
            let again = session.turn();
            assert_eq!(tags(&again), "PBDES");
            let (parse, bind) = (again[0].as_parse().unwrap(), again[1].as_bind().unwrap());
            assert_eq!(parse.sql, "select rows 1");
            assert_ne!(parse.name, old);
            assert_eq!((&bind.statement, &bind.params), (&parse.name, &vec![Some(b"2".to_vec())]));
            assert_eq!(session.told().last().unwrap(), "2 complete");
            // The old one is closed, the new one is used.
            session.query("select rows 1");
            let next = session.turn();
            assert_eq!((tags(&next).as_str(), closed(&next)), ("CBES", vec![old]));
            assert_eq!(next[1].as_bind().unwrap().statement, parse.name);
            session.told();
            assert_eq!(session.server.committed(), ["1", "2", "3"], "each once");
            session.assert_usable();
        }
    }
}

#[test]
fn b9_h14_it_is_run_before_what_waited_behind_it() {
    let (mut session, _) = known();
    session.server.go_stale("0A000");
    session.query("select rows 1");
    session.send();
    session.query("select rows 1");
    session.group(&["select rows 2", "select rows 3"]);
    session.receive();
    assert_eq!(session.told(), [""; 0]);
    session.turn();
    // The second was written with the old name, and with others behind it.
    let lines = session.told();
    assert!(lines.contains(&"3 failed: not run: 0A000".to_owned()), "{lines:?}");
    assert_eq!(session.server.committed(), ["1", "2", "4", "5"]);
    session.assert_usable();
}

#[test]
fn b9_h14_with_something_sent_behind_it_was_not_run_and_may_be_tried_again() {
    let (mut session, old) = known();
    session.server.go_stale("0A000");
    let number = session.submit_query("select rows 1", Submit::new(Delivery::Collect)).unwrap();
    session.query("select rows 2");
    session.turn();
    let lines = session.told();
    assert_eq!(lines[0], "2 failed: not run: 0A000");
    assert_eq!(lines.last().unwrap(), "3 complete");
    assert!(session.take(number).unwrap_err().is_safe_to_retry());
    // And then it works, at once.
    session.query("select rows 1");
    let sent = session.turn();
    assert_eq!((tags(&sent).as_str(), closed(&sent)), ("CPBDES", vec![old]));
    assert_eq!(session.told().last().unwrap(), "4 complete");
    assert_eq!(session.server.committed(), ["1", "3", "4"]);
    session.assert_usable();
}

#[test]
fn b9_h14_one_byte_sent_behind_it_is_enough() {
    let (mut session, _) = known();
    session.server.go_stale("26000");
    session.query("select rows 1");
    let first = session.engine.send_pending().len();
    session.query("select rows 2");
    session.send_some(first + 1);
    session.receive();
    assert_eq!(session.told(), ["2 failed: not run: 26000"]);
    session.turn();
    assert_eq!(session.told().last().unwrap(), "3 complete");
    session.assert_usable();
}

#[test]
fn b9_h14_in_a_group_the_culprit_s_statement_is_dropped_and_no_other() {
    for at in 0..3 {
        let texts = ["select rows 1", "select rows 2", "select rows 3"];
        let mut session = Session::new();
        session.group(&texts);
        session.turn();
        session.told();
        // Only the one: the others' names are good still.
        let statements: Vec<_> =
            session.server.statements().into_iter().map(str::to_owned).collect();
        session.server.forget(&statements[at]);
        session.group(&texts);
        session.turn();
        let expected = (0..3).map(|index| match index {
            _ if index < at => format!("{} failed: rolled back", index + 4),
            _ => format!("{} failed: not run: 26000", index + 4),
        });
        let told: Vec<_> =
            session.told().into_iter().filter(|line| line.contains("failed")).collect();
        assert_eq!(told, expected.collect::<Vec<_>>());
        // The whole group again, and it works.
        session.group(&texts);
        let sent = session.turn();
        assert_eq!(closed(&sent), [statements[at].as_str()]);
        assert_eq!(sent.iter().filter(|frame| frame.tag == b'P').count(), 1);
        let told: Vec<_> =
            session.told().into_iter().filter(|line| line.ends_with("complete")).collect();
        assert_eq!(told, ["7 complete", "8 complete", "9 complete"]);
        session.assert_usable();
    }
}

#[test]
fn b9_h14_in_a_transaction_nothing_is_run_again() {
    let (mut session, _) = known();
    session.query("begin");
    session.turn();
    session.told();
    session.server.go_stale("0A000");
    session.query("select rows 1");
    session.turn();
    assert_eq!(session.told(), ["3 failed: not run: 0A000"]);
    assert!(session.engine.send_pending().is_empty());
    session.query("rollback");
    session.query("select rows 1");
    session.turn();
    assert_eq!(session.told().last().unwrap(), "5 complete");
    session.assert_usable();
}

#[test]
fn b9_h14_an_error_of_a_first_run_is_its_own() {
    // Its own Parse went before it, by name or not, or in the same group: nothing can be stale.
    let mut session = Session::new();
    session.query("select rows 1");
    session.query("select rows 1");
    session.group(&["select rows 2", "select rows 2"]);
    session.engine.sent(session.engine.send_pending().len());
    for _ in 0..2 {
        let said = [frames::parse_complete(), error("42P01"), frames::ready_for_query(b'I')];
        session.hear(&said);
    }
    session.hear(&[
        frames::parse_complete(),
        frames::bind_complete(),
        frames::no_data(),
        frames::command_complete("SELECT 0"),
        error("42P01"),
        frames::ready_for_query(b'I'),
    ]);
    let failed: Vec<_> = session.told().into_iter().filter(|l| l.contains("failed")).collect();
    assert_eq!(
        failed,
        ["1 failed: 42P01", "2 failed: 42P01", "3 failed: rolled back", "4 failed: 42P01"]
    );
    assert!(session.engine.send_pending().is_empty());
}

#[test]
fn b9_h14_an_error_of_the_run_itself_says_nothing_of_the_statement() {
    // The same codes, after BindComplete; and others instead of it.
    let (mut session, name) = known();
    session.query("select rows 1");
    session.engine.sent(session.engine.send_pending().len());
    session.hear(&[frames::bind_complete(), error("42P01"), frames::ready_for_query(b'I')]);
    assert_eq!(session.told(), ["2 columns 1", "2 failed: 42P01"]);
    session.query("select rows 1");
    session.engine.sent(session.engine.send_pending().len());
    session.hear(&[error("57014"), frames::ready_for_query(b'I')]);
    assert_eq!(session.told(), ["3 failed: 57014"]);
    session.query("select rows 1");
    let sent = session.turn();
    assert_eq!(tags(&sent), "BES");
    assert_eq!(sent[0].as_bind().unwrap().statement, name);
    session.told();
    session.assert_usable();
}

#[test]
fn b9_h14_what_is_stale_again_is_not_tried_for_ever() {
    let (mut session, _) = known();
    session.server.go_stale("0A000");
    session.query("select rows 1");
    session.turn();
    session.told();
    // The second attempt is refused with the same words.
    let again = session.engine.send_pending().to_vec();
    session.engine.sent(again.len());
    session.hear(&[frames::parse_complete(), error("0A000"), frames::ready_for_query(b'I')]);
    assert_eq!(session.told(), ["2 failed: 0A000"]);
    assert!(session.engine.send_pending().is_empty());
    assert_eq!(session.engine.in_flight(), 0);
}

#[test]
fn b9_h14_a_stale_batch_is_run_as_a_whole_or_not_at_all() {
    let (mut session, _) = known();
    session.server.go_stale("0A000");
    let sets = [("a",), ("b",), ("c",)];
    let request = Request::Batch { sql: "select rows 1", sets: &sets };
    let number = session.submit(request, Submit::new(Delivery::Collect)).unwrap();
    assert_eq!(tags(&session.turn()), "BEBEBES");
    session.told();
    assert_eq!(tags(&session.turn()), "PBDEBEBES");
    assert_eq!(session.told(), ["2 complete"]);
    let outcome = session.take(number).unwrap().unwrap();
    assert_eq!(outcome.counts(), [1, 1, 1]);
    assert_eq!(outcome.last().len(), 3);
    assert_eq!(session.server.committed(), ["1", "a", "b", "c"]);
    session.assert_usable();
    // At its second set it is no longer a question of the statement.
    session.batch("select rows 1", sets);
    session.engine.sent(session.engine.send_pending().len());
    session.hear(&[
        frames::bind_complete(),
        frames::command_complete("SELECT 0"),
        error("0A000"),
        frames::ready_for_query(b'I'),
    ]);
    assert_eq!(session.told().last().unwrap(), "4 failed: 0A000");
}

#[test]
fn b9_h14_what_nobody_waits_for_is_not_run_again() {
    let (mut session, _) = known();
    session.server.go_stale("0A000");
    session.query("select rows 1");
    let ticket = session.last();
    session.send();
    session.engine.discard(ticket, None);
    session.receive();
    session.assert_usable();
    assert_eq!(session.server.committed(), ["1", "3"]);
}

#[test]
fn b9_h14_a_prepared_statement_is_helped_like_a_cached_one() {
    let mut session = Session::new();
    let statement = session.prepare("select rows 1");
    session.execute(&statement);
    session.turn();
    session.told();
    session.server.go_stale("26000");
    session.execute(&statement);
    session.turn();
    assert_eq!(session.told(), [""; 0]);
    session.turn();
    assert_eq!(session.told().last().unwrap(), "3 complete");
    session.assert_usable();
}

#[test]
fn h14_after_discard_all_everything_is_parsed_anew() {
    for all in ["discard all", "deallocate all"] {
        let (mut session, old) = known();
        session.query(all);
        session.turn();
        session.told();
        assert_eq!(session.engine.prepared_statements(), 0);
        session.query("select rows 1");
        let sent = session.turn();
        assert_eq!(tags(&sent), "PBDES", "{all}: and nothing is closed that is not there");
        assert_ne!(sent[0].as_parse().unwrap().name, old);
        assert_eq!(session.told().last().unwrap(), "3 complete");
        session.assert_usable();
    }
}

#[test]
fn h14_what_is_parsed_behind_discard_all_survives_it() {
    for in_one_group in [false, true] {
        let mut session = Session::new();
        if in_one_group {
            session.group(&["discard all", "select rows 1"]);
        } else {
            session.query("discard all");
            session.query("select rows 1");
        }
        session.turn();
        session.told();
        session.query("select rows 1");
        assert_eq!(tags(&session.turn()), "BES");
        assert_eq!(session.told().last().unwrap(), "3 complete");
        // What was parsed before it does not.
        session.query("select rows 2");
        session.query("discard all");
        session.turn();
        session.told();
        session.query("select rows 2");
        assert_eq!(tags(&session.turn()), "PBDES");
        session.told();
        session.assert_usable();
    }
}

#[test]
fn h14_statements_used_across_a_discard_all_that_is_on_its_way_are_helped() {
    let (mut session, _) = known();
    session.query("discard all");
    session.query("select rows 1");
    session.turn();
    session.told();
    session.turn();
    assert_eq!(session.told().last().unwrap(), "3 complete");
    session.assert_usable();
}

#[test]
fn h50_statements_are_closed_at_the_head_of_a_group_only() {
    let mut session = Session::with(config().statement_cache_capacity(1));
    session.query("select rows 1");
    let old = session.turn()[0].as_parse().unwrap().name;
    session.told();
    session.query("select rows 2");
    session.turn();
    session.told();
    // In the midst of a group it would be skipped if the group failed.
    session.add("select rows 2");
    let sent = session.send();
    assert_eq!(closed(&sent), [old], "this is a head");
    session.add("select rows 3");
    session.add("select run-error 0");
    session.add("select rows 2");
    session.engine.end_group();
    let sent = session.turn();
    assert_eq!(closed(&sent), [""; 0]);
    session.told();
    // The simple protocol has no place for it.
    session
        .submit(Request::Simple { sql: "select rows 1#x" }, Submit::new(Delivery::Events))
        .unwrap();
    assert_eq!(tags(&session.turn()), "Q");
    session.told();
    session.assert_usable();
    session.assert_usable();
    let at_most = session.engine.prepared_statements();
    assert_eq!(session.server.statements().len(), at_most);
    assert!(at_most <= 2);
}

#[test]
fn h50_a_close_that_was_not_done_is_sent_again() {
    let closing = || {
        let mut session = Session::new();
        let statement = session.prepare("select rows 1");
        drop(statement);
        session.query("select rows 2");
        session
    };
    // Skipped, for whatever reason.
    let mut session = closing();
    let name = closed(&pending(&session.engine));
    session.engine.sent(session.engine.send_pending().len());
    session.hear(&[error("57014"), frames::ready_for_query(b'I')]);
    assert_eq!(session.told(), ["2 failed: 57014"]);
    session.query("select rows 2");
    assert_eq!(closed(&session.turn()), name);
    session.told();
    // Taken back before it was sent.
    let mut session = closing();
    let name = closed(&pending(&session.engine));
    session.engine.discard(session.last(), None);
    assert!(session.engine.send_pending().is_empty());
    session.query("select rows 2");
    assert_eq!(closed(&session.turn()), name);
    session.told();
    session.query("select rows 2");
    assert_eq!(closed(&session.turn()), [""; 0], "once");
    session.told();
    // Refused before it was written.
    let mut session = Session::new();
    drop(session.prepare("select rows 1"));
    let refused = Request::Query { sql: "select rows 2", params: &("\0",) };
    assert!(session.submit(refused, Submit::new(Delivery::Events)).is_err());
    session.query("select rows 2");
    assert_eq!(closed(&session.turn()).len(), 1);
    session.told();
    assert_eq!(session.server.statements().len(), 1);
}

#[test]
fn h50_nothing_leaks_over_evictions_with_errors_between() {
    let mut session = Session::with(config().statement_cache_capacity(3));
    for round in 0..2000 {
        let sql = format!("select rows {}", round % 7);
        match round % 11 {
            0 => session.group(&[&sql, "select run-error 0", "select rows 1"]),
            1 => session.group(&["select parse-error", &sql]),
            2 => session.group(&[&sql, "select deferred"]),
            3 => session.prepare_discarded(&sql),
            _ => session.query(&sql),
        }
        if round % 4 == 0 {
            session.turn();
            session.told();
        }
        assert!(session.server.statements().len() <= 16, "{round}");
    }
    session.turn();
    session.told();
    session.assert_usable();
    session.assert_usable();
    assert_eq!(session.server.statements().len(), session.engine.prepared_statements());
    assert!(session.engine.prepared_statements() <= 4);
}

#[test]
fn h50_a_statement_closed_while_its_parse_is_on_the_way_is_closed_behind_it() {
    let mut session = Session::new();
    let statement = session.prepare("select rows 1");
    session
        .submit(Request::Close { statement: &statement }, Submit::new(Delivery::Events))
        .unwrap();
    session.turn();
    assert_eq!(session.told(), ["2 complete"]);
    assert_eq!(session.server.statements(), [""; 0]);
    // It can be run all the same, and closed again before that is answered.
    session.execute(&statement);
    session
        .submit(Request::Close { statement: &statement }, Submit::new(Delivery::Events))
        .unwrap();
    session.execute(&statement);
    let sent = session.turn();
    assert_eq!(tags(&sent), "PBDESCSPBDES");
    let lines = session.told();
    assert_eq!(lines.iter().filter(|line| line.ends_with("complete")).count(), 3);
    session.execute(&statement);
    assert!(tags(&session.turn()).ends_with("BES"));
    session.told();
    assert_eq!(session.server.statements().len(), 1);
    session.assert_usable();
}
