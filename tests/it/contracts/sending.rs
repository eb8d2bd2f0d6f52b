//! Contracts 3, 7 and 10: what is sent never depends on an answer, what the machine waits for, and
//! how much there may be of everything.

use chopin_pg::ExecutionMode;
use chopin_pg::engine::Interest;

use super::*;

/// Parse, as (name, text), and Bind, as (statement, parameters), in the order of the messages.
fn statements(frames: &[Frame]) -> Vec<String> {
    let lines = frames.iter().filter_map(|frame| match frame.tag {
        b'P' => frame.as_parse().map(|parse| format!("P {} {}", parse.name, parse.sql)).ok(),
        b'B' => frame.as_bind().map(|bind| format!("B {}", bind.statement)).ok(),
        _ => None,
    });
    lines.collect()
}

/// The only name in a list of [`statements`] that is not the unnamed one.
fn name(lines: &[String]) -> String {
    let words = lines.iter().filter_map(|line| line.split(' ').nth(1));
    let mut names: Vec<_> = words.filter(|word| word.starts_with("chopin_")).collect();
    names.dedup();
    assert_eq!(names.len(), 1, "{lines:?}");
    names[0].to_owned()
}

#[test]
fn contract_3_a_new_statement_goes_out_in_one_write() {
    let mut session = Session::new();
    session.query("select rows 2");
    let sent = session.turn();
    assert_eq!(tags(&sent), "PBDES");
    let parse = sent[0].as_parse().unwrap();
    let bind = sent[1].as_bind().unwrap();
    assert_eq!((parse.sql.as_str(), &parse.name), ("select rows 2", &bind.statement));
    assert!(!parse.name.is_empty());
    assert_eq!(bind.params, [Some(b"1".to_vec())]);
    assert_eq!(bind.result_formats, [1]);
    session.told();
    // Known, it needs neither Parse nor Describe.
    session.query("select rows 2");
    let sent = session.turn();
    assert_eq!(tags(&sent), "BES");
    assert_eq!(sent[0].as_bind().unwrap().statement, parse.name);
    assert_eq!(session.told(), ["2 columns 1", "2 row 2", "2 row 2", "2 SELECT 2", "2 complete"]);
}

#[test]
fn contract_3_b8_groups_with_the_same_new_text_do_not_rely_on_each_other() {
    let mut session = Session::new();
    for _ in 0..3 {
        session.query("select rows 1");
    }
    let sent = session.send();
    assert_eq!(tags(&sent), "PBDESPBDESPBDES");
    let lines = statements(&sent);
    let name = name(&lines);
    let expected = [
        format!("P {name} select rows 1"),
        format!("B {name}"),
        "P  select rows 1".to_owned(),
        "B ".to_owned(),
        "P  select rows 1".to_owned(),
        "B ".to_owned(),
    ];
    assert_eq!(lines, expected);
    session.receive();
    session.told();
    // From now on by its name.
    session.query("select rows 1");
    assert_eq!(statements(&session.turn()), [format!("B {name}")]);
    session.told();
    session.assert_usable();
    assert_eq!(session.server.statements().len(), session.engine.prepared_statements());
}

#[test]
fn contract_3_b8_within_a_group_the_name_is_used_at_once() {
    let mut session = Session::new();
    for _ in 0..3 {
        session.add("select rows 1");
    }
    // Another group while it is open is none: this one belongs to it.
    session.query("select rows 1");
    // But this one does not.
    session.query("select rows 1");
    let sent = session.send();
    assert_eq!(tags(&sent), "PBDEBDEBDEBDESPBDES");
    let lines = statements(&sent);
    let name = name(&lines);
    assert_eq!(lines[0], format!("P {name} select rows 1"));
    assert!(lines[1..5].iter().all(|line| *line == format!("B {name}")));
    assert_eq!(lines[5..], ["P  select rows 1", "B "]);
    session.receive();
    assert_eq!(session.told().iter().filter(|line| line.ends_with("complete")).count(), 5);
    session.assert_usable();
}

#[test]
fn contract_3_b8_a_parse_that_fails_takes_nothing_else_with_it() {
    let mut session = Session::new();
    for _ in 0..2 {
        session.query("select parse-error");
        session.query("select rows 1");
    }
    session.group(&["select rows 1", "select parse-error", "select parse-error"]);
    session.query("select rows 1");
    session.turn();
    let lines = session.told();
    let ends: Vec<_> =
        lines.iter().filter(|line| line.contains("failed") || line.ends_with("complete")).collect();
    assert_eq!(
        ends,
        [
            "1 failed: 42601",
            "2 complete",
            "3 failed: 42601",
            "4 complete",
            "5 failed: rolled back",
            "6 failed: 42601",
            "7 failed: not run: 42601",
            "8 complete",
        ]
    );
    assert_eq!(session.engine.prepared_statements(), 1);
    assert_eq!(session.engine.catalogue().len(), 1, "what is no statement is not kept");
    session.assert_usable();
}

#[test]
fn contract_3_a_group_that_was_skipped_leaves_no_name_that_is_relied_on() {
    // The Parse of the second request is skipped; that of the next group was its own.
    let mut session = Session::new();
    session.group(&["select run-error 0", "select rows 1"]);
    session.query("select rows 1");
    session.turn();
    session.told();
    session.query("select rows 1");
    assert!(tags(&session.turn()).starts_with('P'));
    session.told();
    session.query("select rows 1");
    assert_eq!(tags(&session.turn()), "BES");
    session.told();
    session.assert_usable();
}

#[test]
fn contract_3_s10_6_names_are_never_used_twice() {
    // The server would not bear it.
    let mut session = Session::with(config().statement_cache_capacity(2));
    for round in 0..50 {
        for rows in 0..4 {
            session.query(&format!("select rows {rows}"));
        }
        match round % 5 {
            0 => session.query("discard all"),
            1 => session.query("select parse-error"),
            2 => session.group(&["select run-error 0", "select rows 1", "select rows 2"]),
            3 => session.engine.clear_statement_cache(),
            _ => session.server.go_stale("0A000"),
        }
        if round % 3 == 0 {
            session.turn();
            session.told();
        }
    }
    session.turn();
    session.told();
    session.assert_usable();
    assert!(session.server.statements().len() <= 3, "{:?}", session.server.statements());
}

#[test]
fn contract_3_statements_that_are_not_cached_carry_their_parse() {
    let mut session = Session::new();
    let unnamed = Submit::new(Delivery::Events).mode(ExecutionMode::Unnamed);
    for _ in 0..2 {
        session.submit_query("select rows 1", unnamed).unwrap();
        session.query("begin");
        session.query("rollback");
    }
    let lines = statements(&session.turn());
    assert_eq!(lines.iter().filter(|line| line.starts_with("P  ")).count(), 6, "{lines:?}");
    session.told();
    assert_eq!(session.engine.prepared_statements(), 0);
    session.assert_usable();
}

#[test]
fn contract_4_h3_parameters_are_declared_by_their_rust_types() {
    const BOOL: u32 = 16;
    const INT2: u32 = 21;
    const INT4: u32 = 23;
    const INT8: u32 = 20;
    const FLOAT4: u32 = 700;
    const FLOAT8: u32 = 701;
    let mut session = Session::new();
    let params = (1i16, 2i32, 3i64, 4f32, 5f64, true, "6", None::<i64>);
    let request = Request::Query { sql: "select rows 0", params: &params };
    session.submit(request, Submit::new(Delivery::Events)).unwrap();
    let sent = session.turn();
    session.told();
    let (parse, bind) = (sent[0].as_parse().unwrap(), sent[1].as_bind().unwrap());
    assert_eq!(parse.type_oids, [INT2, INT4, INT8, FLOAT4, FLOAT8, BOOL, 0, INT8]);
    let lengths: Vec<_> = bind.params.iter().map(|value| value.as_ref().map(Vec::len)).collect();
    let widths = [Some(2), Some(4), Some(8), Some(4), Some(8), Some(1), Some(1), None];
    assert_eq!(lengths, widths);
    assert_eq!(bind.param_formats[..7], [1, 1, 1, 1, 1, 1, 0]);

    // Of other types it is another statement; the first one's types do not count.
    let request = Request::Query { sql: "select rows 0", params: &("1",) };
    session.submit(request, Submit::new(Delivery::Events)).unwrap();
    assert_eq!(session.turn()[0].as_parse().unwrap().type_oids, [0]);
    session.told();
    assert_eq!(session.engine.catalogue().len(), 2);
}

#[test]
fn contract_4_h3_a_batch_has_the_types_of_its_first_set() {
    let mut session = Session::new();
    let sets: Vec<Vec<&dyn chopin_pg::ToSql>> = vec![vec![&1i64], vec![&2i32], vec![&"3"]];
    session.batch("select rows 0", &sets);
    let sent = session.turn();
    assert_eq!(sent[0].as_parse().unwrap().type_oids, [20]);
    let values: Vec<_> = sent
        .iter()
        .filter_map(|frame| frame.as_bind().ok())
        .map(|bind| (bind.param_formats[0], bind.params[0].clone().unwrap()))
        .collect();
    // What is not of the declared width goes as text, or as that width; never as its own bytes.
    for ((format, value), number) in values.into_iter().zip(1i64..) {
        match format {
            0 => assert_eq!(value, number.to_string().as_bytes()),
            _ => assert_eq!(value, number.to_be_bytes()),
        }
    }
    // What would have to be coerced is refused, and nothing is queued.
    let sets: Vec<Vec<&dyn chopin_pg::ToSql>> = vec![vec![&1i64], vec![&2.5f64]];
    let before = session.engine.in_flight();
    let request = Request::Batch { sql: "select rows 0", sets: &sets };
    let refused = session.submit(request, Submit::new(Delivery::Events)).unwrap_err();
    assert_eq!(brief(&refused), "usage");
    assert_eq!((session.engine.in_flight(), session.engine.send_pending()), (before, &[][..]));
}

#[test]
fn contract_7_reading_is_wanted_while_output_is_pending() {
    let mut session = Session::new();
    let interest = |read, write| Interest { read, write };
    assert_eq!(session.engine.interest(), interest(true, false));
    session.query("select rows 1");
    assert_eq!(session.engine.interest(), interest(true, true));
    session.send_some(7);
    assert_eq!(session.engine.interest(), interest(true, true));
    session.send();
    assert_eq!(session.engine.interest(), interest(true, false));
}

#[test]
fn contract_7_h42_a_full_buffer_of_events_that_nobody_takes_ends_the_reading() {
    let mut session = Session::new();
    session.query("select rows 100000");
    session.send();
    let said = session.server.said();
    let mut rest = &said[..];
    while session.engine.interest().read {
        let (piece, behind) = rest.split_at(rest.len().min(1000));
        feed(&mut session.engine, piece);
        rest = behind;
    }
    assert!(!rest.is_empty(), "it does not take everything at once");
    assert_eq!(session.engine.interest(), Interest::default());
    // Sending goes on.
    session.query("select rows 1");
    assert_eq!(session.engine.interest(), Interest { read: false, write: true });
    // Taking events makes room, and in the end nothing was lost.
    let mut rows = 0;
    loop {
        match session.told_one().unwrap() {
            Some(line) if line == "1 row 1" => rows += 1,
            Some(line) if line == "1 complete" => break,
            Some(_) => {}
            None => {
                assert!(session.engine.interest().read);
                let (piece, behind) = rest.split_at(rest.len().min(1000));
                feed(&mut session.engine, piece);
                rest = behind;
            }
        }
    }
    assert_eq!(rows, 100_000);
    session.turn();
    session.told();
    session.assert_usable();
}

#[test]
fn contract_10_requests_in_flight_are_bounded() {
    let mut session = Session::with(config().max_in_flight(3));
    let collect = Submit::new(Delivery::Collect);
    let full = |session: &mut Session| {
        let before = session.engine.send_pending().to_vec();
        for submit in [Submit::new(Delivery::Events), collect.no_sync()] {
            let refused = session.submit_query("select rows 1", submit);
            assert!(matches!(refused, Err(PgError::WouldBlock)));
        }
        let refused = session.submit(Request::Sync, Submit::new(Delivery::Discard));
        assert!(matches!(refused, Err(PgError::WouldBlock)));
        assert_eq!(session.engine.send_pending(), before, "nothing was queued");
    };
    session.query("select rows 1");
    let taken_late = session.submit_query("select rows 1", collect).unwrap();
    session.submit_query("select rows 1", collect.no_sync()).unwrap();
    full(&mut session);
    assert!(!session.engine.is_full_of_open_group(), "answers make room");
    // The end of a group needs no room.
    session.engine.end_group();
    session.send();
    full(&mut session);
    session.receive();
    assert_eq!(session.told().len(), 6);
    // One of three was an event, two are results that nobody has taken.
    let failing = session.submit_query("select run-error 0", collect).unwrap();
    full(&mut session);
    session.turn();
    assert_eq!(session.told(), ["4 failed: 22012"]);
    full(&mut session);
    assert!(session.take(failing).is_err());
    session.query("select rows 1");
    full(&mut session);
    assert!(session.take(taken_late).unwrap().is_some());
    session.query("select rows 1");
    full(&mut session);
    session.turn();
    session.told();
    assert!(session.take(3).unwrap().is_some());
    session.assert_usable();
}

#[test]
fn contract_10_a_group_that_fills_the_limit_says_that_waiting_is_in_vain() {
    let mut session = Session::with(config().max_in_flight(2));
    session.add("select rows 1");
    assert!(!session.engine.is_full_of_open_group());
    session.add("select rows 1");
    assert!(session.engine.is_full_of_open_group());
    session.turn();
    session.told();
    assert!(session.engine.is_full_of_open_group(), "answered, and in the group still");
    session.engine.end_group();
    assert!(!session.engine.is_full_of_open_group());
    session.turn();
    assert_eq!(session.told(), ["1 complete", "2 complete"]);
    session.assert_usable();
}

#[test]
fn contract_10_the_send_buffer_is_bounded() {
    let mut session = Session::with(config().max_send_buffer(10_000));
    let large = "x".repeat(1 << 20);
    let events = Submit::new(Delivery::Events);
    session.query("select rows 1");
    // Below the limit there is room for one request, however large it is.
    let request = Request::Query { sql: "select rows 0", params: &(large.as_str(),) };
    session.submit(request, events).unwrap();
    let pending = session.engine.send_pending().len();
    assert!(pending > 1 << 20);
    let refused = session.submit_query("select rows 1", events);
    assert!(matches!(refused, Err(PgError::WouldBlock)));
    assert_eq!((session.engine.send_pending().len(), session.engine.in_flight()), (pending, 2));
    session.send_some(pending - 10_001);
    let refused = session.submit_query("select rows 1", events);
    assert!(matches!(refused, Err(PgError::WouldBlock)), "one byte too many");
    session.send_some(1);
    session.query("select rows 1");
    session.turn();
    assert_eq!(session.told().last().unwrap(), "3 complete");
    session.assert_usable();
}

#[test]
fn contract_10_b25_idle_connections_lend_their_buffers_to_each_other() {
    let (mut one, mut two) = (Session::new(), Session::new());
    one.query("select rows 1");
    let sends = one.engine.send_pending().as_ptr();
    one.send();
    let receives = one.engine.recv_space().as_ptr();
    one.receive();
    assert_eq!(one.told().last().unwrap(), "1 complete");
    two.query("select rows 1");
    assert_eq!(two.engine.send_pending().as_ptr(), sends, "given back with the last answer");
    two.send();
    assert_eq!(two.engine.recv_space().as_ptr(), receives, "given back with the last event");
    // While one is in use the other has its own.
    assert_ne!(one.engine.recv_space().as_ptr(), receives);
    two.receive();
    assert_eq!(two.told().last().unwrap(), "1 complete");
}

#[test]
fn contract_10_what_cannot_be_encoded_leaves_nothing() {
    let mut session = Session::new();
    session.query("select rows 0");
    session.turn();
    session.told();
    session.add("select rows 1");
    let before = session.engine.send_pending().to_vec();
    for sql in ["select rows 0", "select rows 2", "begin"] {
        for submit in [Submit::new(Delivery::Events), Submit::new(Delivery::Events).no_sync()] {
            let params: &dyn chopin_pg::types::Params = &("a\0b",);
            let refused = session.submit(Request::Query { sql, params }, submit).unwrap_err();
            assert!(matches!(refused, PgError::Parameter(_)), "{refused}");
            let sets = [("good",), ("b\0d",)];
            let batch = Request::Batch { sql, sets: &sets };
            assert!(session.submit(batch, submit).is_err());
        }
    }
    assert!(
        session.submit(Request::Simple { sql: "begin" }, Submit::new(Delivery::Events)).is_err()
    );
    assert_eq!(session.engine.send_pending(), before);
    assert!(session.engine.has_open_group(), "the group goes on");
    session.engine.end_group();
    session.turn();
    assert_eq!(session.told().last().unwrap(), "2 complete");
    session.assert_usable();
}
