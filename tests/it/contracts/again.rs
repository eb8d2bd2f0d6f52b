//! Contract 5: types without a binary output are learned and asked for as text; and requests that
//! are written a second time, whatever for.

use chopin_pg::ExecutionMode;
use chopin_pg::types::Format;

use super::*;

/// The formats that the Binds ask for, in order.
fn asked(frames: &[Frame]) -> Vec<Format> {
    let binds = frames.iter().filter_map(|frame| frame.as_bind().ok());
    let format = |code| if code == 0 { Format::Text } else { Format::Binary };
    binds.map(|bind| format(bind.result_format(0))).collect()
}

/// Returns what no server can send in binary.
const ACL: &str = "select acl 2";

#[test]
fn contract_5_what_cannot_come_in_binary_is_asked_for_as_text_at_once() {
    for mode in [ExecutionMode::Cached, ExecutionMode::Unnamed] {
        for submit in [Submit::new(Delivery::Events), Submit::new(Delivery::Collect)] {
            let mut session = Session::new();
            let number = session.submit_query(ACL, submit.mode(mode)).unwrap();
            assert_eq!(asked(&session.turn()), [Format::Binary]);
            let first_part = session.told();
            // Written again: the same statement and parameters, and text.
            let sent = session.turn();
            assert_eq!(tags(&sent), "PBDES");
            assert_eq!(sent[0].as_parse().unwrap().sql, ACL);
            assert_eq!(sent[1].as_bind().unwrap().params, [Some(b"1".to_vec())]);
            assert_eq!(asked(&sent), [Format::Text]);
            let lines = session.told();
            if submit.delivery == Delivery::Events {
                assert_eq!(first_part, ["1 columns 1"]);
                let expected = ["1 columns 1", "1 row 1", "1 row 1", "1 SELECT 2", "1 complete"];
                assert_eq!(lines, expected);
            } else {
                assert_eq!((first_part, lines), (Vec::new(), vec!["1 complete".to_owned()]));
                let rows = session.take(number).unwrap().unwrap().into_rows();
                let texts: Vec<&str> = rows.iter().map(|row| row.get(0).unwrap()).collect();
                assert_eq!(texts, ["1", "1"]);
            }
            // From the next execution on there is no second try.
            session.submit_query(ACL, Submit::new(Delivery::Events).mode(mode)).unwrap();
            assert_eq!(asked(&session.turn()), [Format::Text]);
            assert_eq!(session.told().last().unwrap(), "2 complete");
            assert_eq!(session.server.committed(), ["1", "2"]);
            session.assert_usable();
        }
    }
}

#[test]
fn contract_5_every_new_text_is_helped_not_the_first_alone() {
    for mode in [ExecutionMode::Cached, ExecutionMode::Unnamed] {
        let mut session = Session::new();
        for rows in 1..5 {
            let submit = Submit::new(Delivery::Events).mode(mode);
            let number = session.submit_query(&format!("select acl {rows}"), submit).unwrap();
            session.turn();
            session.told();
            session.turn();
            assert_eq!(session.told().last().unwrap(), &format!("{number} complete"));
        }
    }
    // A prepared statement, which is described without being run.
    let mut session = Session::new();
    session.query("select acl 1");
    session.turn();
    session.told();
    session.turn();
    session.told();
    let statement = session.prepare(ACL);
    for _ in 0..2 {
        session.execute(&statement);
        session.turn();
        session.told();
        session.turn();
        let last = session.tickets.len();
        assert_eq!(session.told().last(), Some(&format!("{last} complete")).filter(|_| last == 3));
        session.assert_usable();
    }
}

#[test]
fn contract_5_where_it_is_not_run_again_the_next_execution_asks_for_text() {
    type Case = (&'static str, fn(&mut Session));
    let cases: [Case; 3] = [
        ("something was sent behind", |session| {
            session.query(ACL);
            session.query("select rows 1");
            session.turn();
        }),
        ("in a group", |session| {
            session.group(&[ACL, "select rows 1"]);
            session.turn();
        }),
        ("in a transaction", |session| {
            session.query("begin");
            session.query(ACL);
            session.turn();
            session.query("rollback");
            session.turn();
        }),
    ];
    for (what, run) in cases {
        for statement_is_known in [false, true] {
            let mut session = Session::new();
            if statement_is_known {
                // Known by its name, and never run.
                session.group(&["select run-error 0", ACL]);
                session.turn();
                session.told();
            }
            run(&mut session);
            let lines = session.told();
            let failed = lines.iter().filter(|line| line.ends_with("failed: 42883")).count();
            assert_eq!(failed, 1, "{what}: {lines:?}");
            assert!(session.engine.send_pending().is_empty(), "{what}");
            session.query(ACL);
            let sent = session.turn();
            assert_eq!(asked(&sent), [Format::Text], "{what}");
            assert!(session.told().last().unwrap().ends_with("complete"));
            session.assert_usable();
        }
    }
}

#[test]
fn contract_5_the_culprit_s_columns_are_learned_from_not_the_group_s_first() {
    let mut session = Session::new();
    session.group(&["select rows 1", "select rows 2", ACL]);
    session.turn();
    assert_eq!(session.told().last().unwrap(), "3 failed: 42883");
    session.query(ACL);
    assert_eq!(asked(&session.turn()), [Format::Text]);
    session.told();
    session.query("select rows 1");
    assert_eq!(asked(&session.turn()), [Format::Binary], "what was not at fault stays binary");
    session.told();
    session.assert_usable();
}

#[test]
fn contract_5_an_error_behind_the_first_row_is_told_and_learned_from() {
    // An array type has a binary output, of which the first array that is not NULL shows that it
    // cannot be used.
    let no_output = frames::error_response(&[
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', "42883"),
        (b'M', "no binary output function available for type aclitem"),
        (b'R', "array_send"),
    ]);
    for delivery in [Delivery::Events, Delivery::Collect] {
        let mut session = Session::new();
        let number = session.submit_query(ACL, Submit::new(delivery)).unwrap();
        session.engine.sent(session.engine.send_pending().len());
        let column = frames::Column::new("acl", 1034, -1).binary();
        session.hear(&[
            frames::parse_complete(),
            frames::bind_complete(),
            frames::row_description(&[column]),
            frames::data_row(&[None]),
            no_output.clone(),
            frames::ready_for_query(b'I'),
        ]);
        let mut failed = None;
        while let Some(event) = session.engine.next_event().unwrap() {
            if let Event::Failed { error, .. } = event {
                failed = Some(brief(&error));
            }
        }
        assert_eq!(failed.as_deref(), Some("42883"));
        assert_eq!(session.take(number).is_err(), delivery == Delivery::Collect);
        session.query(ACL);
        assert_eq!(asked(&session.send()), [Format::Text]);
    }
}

#[test]
fn contract_5_a_description_says_the_format_that_the_cells_come_in() {
    // The second run was described in binary after the first had taught that it has to be text.
    let mut session = Session::new();
    session.query(ACL);
    session.query(ACL);
    session.turn();
    session.told();
    session.turn();
    session.told();
    for _ in 0..3 {
        session.query(ACL);
        assert_eq!(asked(&session.turn()), [Format::Text]);
        let mut formats = Vec::new();
        while let Some(event) = session.engine.next_event().unwrap() {
            if let Event::Columns { columns, .. } = event {
                formats.push(columns[0].format());
            }
        }
        assert_eq!(formats, [Format::Text]);
    }
}

#[test]
fn contract_5_h2_a_procedure_is_not_run_a_second_time() {
    // What it did may have been committed by the time that its result cannot be sent.
    let mut session = Session::new();
    session.query("call acl 1");
    session.turn();
    assert_eq!(session.told(), ["1 columns 1", "1 failed: 42883"]);
    assert!(session.engine.send_pending().is_empty());
    session.query("call acl 1");
    assert_eq!(asked(&session.turn()), [Format::Text]);
    assert_eq!(session.told().last().unwrap(), "2 complete");
    session.assert_usable();

    // So it is with a real one.
    let mut db = crate::support::connect();
    let (table, procedure) = (testkit::unique("calls"), testkit::unique("commits"));
    db.execute_batch(&format!(
        "create table {table} (a int4); \
         create procedure {procedure}(inout acl aclitem) language plpgsql as $$ begin \
         insert into {table} values (1); commit; acl := makeaclitem(10, 10, 'select', false); \
         end $$"
    ))
    .unwrap();
    let error = db.query(&format!("call {procedure}(null)"), &[]).unwrap_err();
    assert_eq!(brief(&error), "42883");
    let runs = db.query_one(&format!("select count(*) from {table}"), &[]).unwrap();
    assert_eq!(runs.get::<i64>(0).unwrap(), 1);
    let rows = db.query(&format!("call {procedure}(null)"), &[]).unwrap();
    assert!(rows[0].get::<String>(0).unwrap().contains("=r/"));
    db.execute_batch(&format!("drop procedure {procedure}; drop table {table}")).unwrap();
}

#[test]
fn contract_5_a_type_that_stays_out_of_reach_is_not_tried_for_ever() {
    // The server refuses text too.
    let mut session = Session::new();
    session.query("select acl 1");
    let refusal = || {
        frames::error_response(&[
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', "42883"),
            (b'M', "no"),
            (b'R', "getTypeBinaryOutputInfo"),
        ])
    };
    for attempt in 0..2 {
        session.engine.sent(session.engine.send_pending().len());
        let column = frames::Column::new("acl", 1033, -1);
        session.hear(&[
            frames::parse_complete(),
            frames::bind_complete(),
            frames::row_description(&[frames::Column { format: 1 - attempt, ..column }]),
            refusal(),
            frames::ready_for_query(b'I'),
        ]);
        let end = session.told().pop().unwrap();
        assert_eq!(end == "1 failed: 42883", attempt == 1, "{end}");
    }
    assert!(session.engine.send_pending().is_empty());
    assert_eq!(session.engine.in_flight(), 0);
}
