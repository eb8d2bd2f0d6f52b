//! Errors in every place of a pipeline: who is told what, and what is left.

use std::time::Duration;

use chopin_pg::{PgConnection, PgError, Request, SqlState, TransactionStatus};
use testkit::fake::FakeServer;
use testkit::frames;

use super::{Command, connect_with_table, ends_of, fates, run_groups, stored};
use crate::support::*;

const INSERT: &str = "insert into t values ($1)";

/// Statements that fail: when they are parsed, planned, run.
const CULPRITS: [(&str, &str); 3] = [
    ("selec", "42601"),
    ("select 1 / 0", "22012"),
    ("select 1 / (3 - i) from generate_series(1, 5) i", "22012"),
];

on_both_faces!(
    h29_b11_the_request_that_failed_is_the_one_that_is_told,
    h29_b11_in_a_transaction_the_whole_of_it_has_failed,
    h47_an_error_at_the_end_of_a_group_is_that_of_its_last_request,
    h29_what_was_committed_inside_a_group_stays_complete,
    h29_a_command_that_commits_by_itself_stays_complete,
    h29_the_end_of_a_session_is_told_to_every_request,
    b11_a_failed_group_leaves_the_statement_cache_right,
);

/// Each error in each place of a group of three; the groups around it are not affected.
fn h29_b11_the_request_that_failed_is_the_one_that_is_told(face: Face) {
    let mut db = connect_with_table();
    for (culprit, state) in CULPRITS {
        for place in 0..3 {
            let mut group: [Command<'_>; 3] =
                [(INSERT, &(11,)), (INSERT, &(12,)), (INSERT, &(13,))];
            group[place] = (culprit, &());
            let before: &[Command<'_>] = &[(INSERT, &(1,))];
            let after: &[Command<'_>] = &[(INSERT, &(2,)), (INSERT, &(3,))];
            let results = run_groups(face, &mut db, &[before, &group, after]);
            let mut expected = vec!["INSERT 0 1"; 6];
            expected[1..=place].fill("rolled back");
            expected[1 + place] = state;
            expected[2 + place..4].fill("not run");
            assert_eq!(fates(&results), expected, "{culprit} in place {place}");

            let error = results[1 + place].as_ref().unwrap_err();
            let query = error.as_server().and_then(|server| server.query.as_deref());
            assert_eq!(query, Some(culprit));
            for (result, not_run) in results[1..4].iter().zip(&expected[1..4]) {
                let error = result.as_ref().unwrap_err();
                assert_eq!(error.is_safe_to_retry(), *not_run == "not run", "{error}");
                let is_told_why = *not_run != "rolled back";
                assert_eq!(error.sql_state().is_some(), is_told_why, "{error}");
            }
            assert_eq!(stored(&mut db), [1, 2, 3]);
            db.execute("delete from t", &[]).unwrap();
            assert_usable(&mut db);
        }
    }
}

fn h29_b11_in_a_transaction_the_whole_of_it_has_failed(face: Face) {
    let mut db = connect_with_table();
    db.execute("insert into t values (0)", &[]).unwrap();
    for place in 0..3 {
        db.begin().unwrap();
        db.execute("insert into t values (10)", &[]).unwrap();
        let mut group: [Command<'_>; 3] = [(INSERT, &(11,)), (INSERT, &(12,)), (INSERT, &(13,))];
        group[place] = ("select 1 / 0", &());
        let after: &[Command<'_>] = &[(INSERT, &(2,)), (INSERT, &(3,))];
        let results = run_groups(face, &mut db, &[&group, after]);
        let mut expected = ["not run"; 5];
        expected[..place].fill("rolled back");
        expected[place] = "22012";
        // The next group is refused by the server itself.
        expected[3] = "25P02";
        assert_eq!(fates(&results), expected);
        assert_eq!(db.transaction_status(), TransactionStatus::Failed);
        assert!(matches!(db.commit(), Err(PgError::RolledBack)));
        assert_eq!(stored(&mut db), [0]);
    }
}

fn h47_an_error_at_the_end_of_a_group_is_that_of_its_last_request(face: Face) {
    let mut db = connect_with_table();
    let twice: &[Command<'_>] = &[(INSERT, &(1,)), (INSERT, &(1,)), ("select 1", &())];
    let good: &[Command<'_>] = &[(INSERT, &(2,))];
    let alone: &[Command<'_>] = &[("insert into t values (3), (3)", &())];
    let results = run_groups(face, &mut db, &[twice, good, alone]);
    let expected = ["rolled back", "rolled back", "23505", "INSERT 0 1", "23505"];
    assert_eq!(fates(&results), expected);
    assert_eq!(stored(&mut db), [2]);

    // In a transaction the groups succeed; COMMIT fails.
    db.begin().unwrap();
    let results = run_groups(face, &mut db, &[twice, &[("commit", &())], good]);
    let expected = ["INSERT 0 1", "INSERT 0 1", "SELECT 1", "23505", "23505"];
    assert_eq!(fates(&results), expected, "2 is there already");
    assert_eq!(stored(&mut db), [2]);
    assert_usable(&mut db);
}

fn h29_what_was_committed_inside_a_group_stays_complete(face: Face) {
    let mut db = connect_with_table();
    let group: &[Command<'_>] = &[
        ("begin", &()),
        (INSERT, &(1,)),
        ("commit", &()),
        (INSERT, &(2,)),
        ("select 1 / 0", &()),
        (INSERT, &(3,)),
    ];
    let results = run_groups(face, &mut db, &[group]);
    let expected = ["BEGIN", "INSERT 0 1", "COMMIT", "rolled back", "22012", "not run"];
    assert_eq!(fates(&results), expected);
    assert_eq!(stored(&mut db), [1]);
    assert_usable(&mut db);
}

/// Newer servers run it in the first place of a group only, and refuse it elsewhere.
fn h29_a_command_that_commits_by_itself_stays_complete(face: Face) {
    let mut db = connect_with_table();
    for (command, tag) in [("vacuum t", "VACUUM"), ("discard all", "DISCARD ALL")] {
        let group: &[Command<'_>] =
            &[(command, &()), (INSERT, &(2,)), ("select 1 / 0", &()), (INSERT, &(3,))];
        let results = run_groups(face, &mut db, &[group]);
        if tag == "DISCARD ALL" {
            // With it went the prepared statements, those that follow in its own group too.
            assert_eq!(fates(&results), [tag, "not run", "not run", "not run"]);
        } else {
            assert_eq!(fates(&results), [tag, "rolled back", "22012", "not run"]);
            assert_eq!(stored(&mut db), [0; 0]);
        }
        assert_usable(&mut db);
    }
}

fn h29_the_end_of_a_session_is_told_to_every_request(face: Face) {
    const END: &str = "select pg_terminate_backend(pg_backend_pid())";
    let mut db = connect();
    let one: &[Command<'_>] = &[("select 1", &())];
    let ending: &[Command<'_>] = &[("select 2", &()), (END, &()), ("select 3", &())];
    let results = run_groups(face, &mut db, &[one, ending, one, one]);
    let mut expected = vec!["57P01"; 6];
    expected[0] = "SELECT 1";
    assert_eq!(fates(&results), expected);
    for result in &results[1..] {
        let error = result.as_ref().unwrap_err();
        assert!(!matches!(error, PgError::NotRun(_)), "whether it was run nobody knows: {error}");
        assert!(!error.is_safe_to_retry(), "{error}");
    }
    assert!(db.is_broken());
    let error = db.query("select 1", &[]).unwrap_err();
    assert!(matches!(error, PgError::NotSent(_)), "{error}");
    assert_eq!(error.sql_state(), Some(SqlState::ADMIN_SHUTDOWN));
}

fn b11_a_failed_group_leaves_the_statement_cache_right(face: Face) {
    let mut db = connect_with_table();
    // Statements that were parsed in a group that failed, that were not parsed because it did, and
    // that never can be.
    for round in 0..3 {
        let first: &[Command<'_>] =
            &[("select 'a'", &()), ("select 1 / 0", &()), ("select 'b'", &()), ("selec", &())];
        let second: &[Command<'_>] =
            &[("select 'b'", &()), ("select 'a'", &()), ("select 'b'", &())];
        let results = run_groups(face, &mut db, &[first, second]);
        let expected =
            ["rolled back", "22012", "not run", "not run", "SELECT 1", "SELECT 1", "SELECT 1"];
        assert_eq!(fates(&results), expected, "round {round}");
    }
    assert_usable(&mut db);
    let on_server = db.query_simple("select count(*)::int4 from pg_prepared_statements").unwrap();
    let on_server: i32 = on_server[0].get(0).unwrap();
    assert!(on_server <= 4, "{on_server} statements for the four that can be prepared");
}

#[test]
fn h29_a_fatal_error_reaches_requests_that_were_never_sent() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        // Reads one group of what is a large pipeline, and ends the session.
        conn.answer_extended(&testkit::fake::Answer::command("SET"))?;
        let fields = [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "57P01"), (b'M', "shutting down")];
        conn.send(&frames::error_response(&fields))?;
        conn.shutdown_write()?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let large = "x".repeat(1 << 20);
    let tickets: Vec<_> = (0..12)
        .map(|number| {
            let request = Request::Query { sql: "set", params: &(large.as_str(), number) };
            db.submit_with(request, COLLECT).unwrap()
        })
        .collect();
    let results = ends_of(&mut db, &tickets);
    assert_eq!(fates(&results[..1]), ["SET"]);
    assert!(results[1..].iter().all(|result| {
        let state = result.as_ref().unwrap_err().sql_state();
        state == Some(SqlState::ADMIN_SHUTDOWN)
    }));
    // Which of them the server can have seen is known.
    let sent: Vec<bool> =
        results.iter().map(|result| !matches!(result, Err(PgError::NotSent(_)))).collect();
    assert!(sent.is_sorted_by(|one, next| one >= next), "{sent:?}");
    assert!(sent[0] && db.is_broken());
    drop(db);
    server.join();
}

#[test]
fn h20_a_pipeline_that_is_not_answered_ends_in_time() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.answer_extended(&testkit::fake::Answer::command("SET"))?;
        // Silence, until the client has given up.
        conn.drain()
    });
    let short = Duration::from_millis(50);
    let config = fake_config(&server).io_timeout(short).drain_timeout(short);
    let mut db = PgConnection::connect(&config).unwrap();
    let mut pipeline = db.pipeline();
    for _ in 0..1000 {
        pipeline.query("set", ()).unwrap();
        pipeline.sync().unwrap();
    }
    let results = pipeline.finish().unwrap();
    assert_eq!(results.len(), 1000);
    assert!(results[0].is_ok());
    let text = results[1].as_ref().unwrap_err().to_string();
    assert!(text.contains("(io_timeout = 50 ms)"), "{text}");
    assert!(results[2..].iter().all(|result| {
        let text = result.as_ref().unwrap_err().to_string();
        text.contains("io_timeout = 50 ms") || text.contains("drain_timeout = 50 ms")
    }));
    assert!(db.is_broken(), "the late answers did not come");
    drop(db);
    server.join();
}
