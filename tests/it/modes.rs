//! Execution modes: what stays on the server, what goes over the wire, and what works behind a
//! pooler that gives every transaction another session.

mod pooler;
mod text_types;

use chopin_pg::connection::Submit;
use chopin_pg::types::{Date, Format, Numeric, Timestamptz};
use chopin_pg::{
    Delivery, Event, ExecutionMode, PgConnection, PgError, PgResult, PgValue, Request, Rows, ToSql,
    TransactionStatus,
};

use crate::support::*;

on_both_faces! {
    b8_cached_keeps_a_statement_and_the_others_keep_nothing,
    b8_a_request_has_a_mode_of_its_own,
    b8_unnamed_is_one_round_trip_without_names,
    b8_simple_reads_as_the_same_rust_types,
    b8_simple_refuses_parameters_before_anything_is_sent,
    b8_handles_work_in_every_mode,
}

const MODES: [ExecutionMode; 3] =
    [ExecutionMode::Cached, ExecutionMode::Unnamed, ExecutionMode::Simple];

fn b8_cached_keeps_a_statement_and_the_others_keep_nothing(face: Face) {
    assert_eq!(connect().execution_mode(), ExecutionMode::Cached);
    for mode in MODES {
        let configured = PgConnection::connect(&config().execution_mode(mode)).unwrap();
        let mut set = connect();
        set.set_execution_mode(mode);
        for mut db in [configured, set] {
            assert_eq!(db.execution_mode(), mode);
            for _ in 0..3 {
                assert_eq!(printed(&face.query(&mut db, "select 7", ()).unwrap()), "7");
            }
            let kept = usize::from(mode == ExecutionMode::Cached);
            assert_eq!(server_statements(&mut db).len(), kept, "{mode:?}");
            assert_eq!(db.statement_cache_len(), kept);
        }
    }
}

fn b8_a_request_has_a_mode_of_its_own(face: Face) {
    for own in MODES {
        let mut db = PgConnection::connect(&config().execution_mode(own)).unwrap();
        for mode in MODES.into_iter().cycle().take(7) {
            let rows = face.query_in(&mut db, mode, "select 7", ()).unwrap();
            assert_eq!(printed(&rows), "7");
            let text = mode == ExecutionMode::Simple;
            let format = if text { Format::Text } else { Format::Binary };
            assert_eq!(rows[0].columns()[0].format(), format);
            assert_eq!(db.execution_mode(), own, "that of the connection stays");
        }
        assert_eq!(server_statements(&mut db), ["select 7"]);
    }
}

#[test]
fn b8_modes_are_mixed_in_one_pipeline() {
    let mut db = connect();
    let mut tickets = Vec::new();
    for (i, mode) in (0..30).zip(MODES.into_iter().cycle()) {
        let sql = format!("select {}", i % 5);
        let request = Request::Query { sql: &sql, params: &() };
        tickets.push((db.submit_with(request, COLLECT.mode(mode)).unwrap(), i % 5));
    }
    run_events(&mut db, tickets.len(), |_| {}).unwrap();
    for (ticket, expected) in tickets {
        let rows = db.take(ticket).unwrap().unwrap().into_rows();
        assert_eq!(printed(&rows), expected.to_string());
    }
    assert_eq!(server_statements(&mut db).len(), 5);
}

fn b8_unnamed_is_one_round_trip_without_names(face: Face) {
    let mut db = PgConnection::connect(&config().execution_mode(ExecutionMode::Unnamed)).unwrap();
    for i in 0..2 {
        let trace = traced(&mut db, |db| {
            let rows = face.query(db, "select $1::int4 + 1", (i,)).unwrap();
            assert_eq!(printed(&rows), (i + 1).to_string());
        });
        let message = |line: &String| line.split('\t').nth(2).unwrap_or_default().to_owned();
        let names: Vec<String> = trace.iter().map(message).collect();
        let sent = ["Parse", "Bind", "Describe", "Execute", "Sync"];
        assert_eq!(names[..5], sent, "all of it before anything is heard");
        assert!(trace[5..].iter().all(|line| line.starts_with('B')), "{trace:#?}");
        assert!(trace[0].contains("Parse\t \"\" \"select") && trace[1].contains("\t \"\" \"\" "));
    }
}

fn b8_simple_reads_as_the_same_rust_types(face: Face) {
    type Read = (
        (bool, i16, i32, i64, f32, f64),
        (Numeric, String, Vec<u8>, [u8; 16], Date, Timestamptz),
        (Vec<i32>, Vec<Option<String>>, Option<i32>, PgValue),
    );
    let mut db = connect();
    let queries = [
        "select true, -1::int2, 2147483647, '-9223372036854775808'::int8, 0.1::float4, 1e300::float8",
        "select 1.50, 'Étude'::text, '\\x00ff'::bytea, \
         '123e4567-e89b-12d3-a456-426614174000'::uuid, '2024-02-29'::date, \
         '2024-02-29 12:00:00.000001+02'::timestamptz",
        "select '{1,2}'::int4[], '{a,NULL}'::text[], null::int4, '1 mon -00:00:01'::interval",
    ];
    let mut read = |mode| -> Read {
        let [a, b, c] = queries.map(|sql| face.query_in(&mut db, mode, sql, ()).unwrap());
        (a[0].to().unwrap(), b[0].to().unwrap(), c[0].to().unwrap())
    };
    let cached = read(ExecutionMode::Cached);
    assert_eq!(read(ExecutionMode::Unnamed), cached);
    assert_eq!(read(ExecutionMode::Simple), cached);
    assert_eq!(cached.0, (true, -1, i32::MAX, i64::MIN, 0.1, 1e300));

    // Row counts and errors are the same too.
    db.execute_batch("create temp table t (a int4)").unwrap();
    for mode in MODES {
        db.set_execution_mode(mode);
        assert_eq!(db.execute("insert into t values (1), (2)", &[]).unwrap(), 2);
        let error = face.query(&mut db, "select 1 / 0", ()).unwrap_err();
        assert_eq!(error.sql_state().unwrap().as_str(), "22012");
        assert_eq!(error.as_server().unwrap().query.as_deref(), Some("select 1 / 0"));
    }
    assert_usable_without_parameters(&mut db);
}

fn assert_usable_without_parameters(db: &mut PgConnection) {
    assert_eq!(printed(&db.query("select 41 + 1", &[]).unwrap()), "42");
}

fn b8_simple_refuses_parameters_before_anything_is_sent(face: Face) {
    let mut db = PgConnection::connect(&config().execution_mode(ExecutionMode::Simple)).unwrap();
    let trace = traced(&mut db, |db| {
        let error = face.query(db, "select $1::int4", (7,)).unwrap_err();
        assert!(matches!(&error, PgError::Usage(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("simple protocol") && text.contains("nothing was sent"), "{text}");
        let error = db.execute_many("insert into t values ($1)", [(1,), (2,)]).unwrap_err();
        assert!(error.to_string().contains("simple protocol"), "{error}");
    });
    assert_eq!(trace, [""; 0]);
    assert_usable_without_parameters(&mut db);
    let rows = face.query_in(&mut db, ExecutionMode::Unnamed, "select $1::int4", (7,)).unwrap();
    assert_eq!(printed(&rows), "7");

    // It ends each of its queries itself, so it has no place in a group.
    db.set_execution_mode(ExecutionMode::Cached);
    let mut pipeline = db.pipeline();
    pipeline.query("select 1", ()).unwrap();
    let results = pipeline.finish().unwrap();
    assert_eq!(printed(results[0].as_ref().unwrap().rows()), "1");
    let simple = COLLECT.mode(ExecutionMode::Simple);
    let request = Request::Query { sql: "select 1", params: &() };
    let ticket = db.submit_with(request, COLLECT.no_sync()).unwrap();
    for refused in [simple, simple.no_sync()] {
        let error = db.submit_with(request, refused).unwrap_err();
        assert!(error.to_string().contains("no place in a group"), "{error}");
    }
    db.end_group();
    run_events(&mut db, 1, |event| assert_eq!(event.ticket(), Some(ticket))).unwrap();
    assert_eq!(printed(&db.take(ticket).unwrap().unwrap().into_rows()), "1");
}

fn b8_handles_work_in_every_mode(face: Face) {
    let mut db = connect();
    for made in MODES {
        db.set_execution_mode(made);
        let handle = face.prepare(&mut db, "select $1::int8 + 1, $2::text").unwrap();
        assert_eq!(handle.params().len(), 2);
        for run in MODES.into_iter().chain(MODES) {
            db.set_execution_mode(run);
            let params: [(&dyn ToSql, &str); 3] = [(&7, "x"), (&7_i64, "y"), (&"7", "z")];
            for (number, text) in params {
                let rows = face.query_prepared(&mut db, &handle, (number, text)).unwrap();
                assert_eq!(printed(&rows), format!("8|{text}"), "{made:?}, {run:?}");
            }
        }
    }
    db.set_execution_mode(ExecutionMode::Unnamed);
    drop(face.query(&mut db, "select 1", ()).unwrap());
    assert!(server_statements(&mut db).is_empty(), "closed with their handles");
}

/// The first cells of each result of a stream, and its tag.
fn streamed(mut rows: Rows<'_>) -> PgResult<Vec<(Vec<String>, String)>> {
    let mut results = Vec::new();
    loop {
        let mut cells = Vec::new();
        rows.for_each(|row| row.get(0).map(|cell: String| cells.push(cell)))?;
        results.push((cells, rows.command_tag().to_owned()));
        if !rows.next_result()? {
            return Ok(results);
        }
    }
}

#[test]
fn b8_b10_a_simple_connection_streams_each_result_for_itself() {
    let mut db = PgConnection::connect(&config().execution_mode(ExecutionMode::Simple)).unwrap();
    let several = "select 'a' as a; create temp table t (a int4); select 'c' as c, 2 as d";
    let result = |cells: &[&str], tag: &str| {
        (cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>(), tag.to_owned())
    };
    let expected =
        [result(&["a"], "SELECT 1"), result(&[], "CREATE TABLE"), result(&["c"], "SELECT 1")];
    assert_eq!(streamed(db.stream(several, ()).unwrap()).unwrap(), expected);
    // The columns are those of each result.
    let mut rows = db.stream("select 'a' as a; select 'c' as c, 2 as d", ()).unwrap();
    assert_eq!(rows.columns().unwrap().len(), 1);
    assert!(rows.next_result().unwrap());
    assert_eq!(rows.columns().unwrap().len(), 2);
    assert_eq!(rows.finish().unwrap(), 1);
    assert_usable_without_parameters(&mut db);

    // Parameters are refused before anything is sent.
    let sent = traced(&mut db, |db| {
        let error = db.stream("select $1::int4", (7,)).map(drop).unwrap_err();
        assert!(matches!(&error, PgError::Usage(_)), "{error}");
        assert!(error.to_string().contains("simple protocol"), "{error}");
    });
    assert_eq!(sent, [""; 0]);
    assert_usable_without_parameters(&mut db);
}

#[test]
fn b8_b10_a_simple_request_tells_each_result_for_itself() {
    let mut db = connect();
    let submit = Submit::new(Delivery::Events).mode(ExecutionMode::Simple);
    let request =
        Request::Query { sql: "select 'a'; select 'b' where false; select 'c', 2", params: &() };
    let _ticket = db.submit_with(request, submit).unwrap();
    let mut told = Vec::new();
    run_events(&mut db, 1, |event| {
        told.push(match event {
            Event::Columns { columns, .. } => format!("{} columns", columns.len()),
            Event::Row { row, .. } => row.get::<String>(0).unwrap(),
            Event::CommandComplete { tag, .. } => tag.as_str().to_owned(),
            Event::Complete { .. } => "complete".to_owned(),
            other => format!("{other:?}"),
        });
    })
    .unwrap();
    let expected = [
        ["1 columns", "a", "SELECT 1"].as_slice(),
        &["1 columns", "SELECT 0"],
        &["2 columns", "c", "SELECT 1", "complete"],
    ];
    assert_eq!(told, expected.concat());
    let request = Request::Query { sql: "select $1::int4", params: &(7,) };
    let error = db.submit_with(request, submit).unwrap_err();
    assert!(matches!(&error, PgError::Usage(_)), "{error}");
    assert_usable(&mut db);
}

#[test]
fn b8_modes_stream_too() {
    let mut db = connect();
    for mode in MODES {
        db.set_execution_mode(mode);
        let mut rows = db.stream("select n from generate_series(1, 1000) as n", ()).unwrap();
        let mut sum = 0;
        rows.for_each(|row| row.get::<i32>(0).map(|n| sum += n)).unwrap();
        assert_eq!(sum, 500_500);
        drop(rows);
        let request = Request::Query { sql: "select 7", params: &() };
        let ticket = db.submit(request, Delivery::Events).unwrap();
        let mut seen = None;
        run_events(&mut db, 1, |event| {
            assert_eq!(event.ticket(), Some(ticket));
            if let Event::Row { row, .. } = event {
                seen = Some(row.get::<i32>(0).unwrap());
            }
        })
        .unwrap();
        assert_eq!(seen, Some(7));
        assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    }
}
