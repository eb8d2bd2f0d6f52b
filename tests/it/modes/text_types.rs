//! Types that the server cannot send in binary: asked for as text, as soon as that is known.

use chopin_pg::types::Format;
use chopin_pg::{
    Delivery, Event, ExecutionMode, PgConnection, PgError, PgValue, Request, SqlState,
    TransactionStatus,
};

use crate::support::*;

on_both_faces! {
    contract_5_a_query_is_run_again_for_text,
    contract_5_privileges_are_listed_at_once,
    contract_5_each_type_is_learned_once,
    contract_5_several_types_in_one_row,
    contract_5_other_columns_stay_binary,
    contract_5_in_a_transaction_the_next_one_is_right,
    contract_5_behind_the_first_row_the_next_one_is_right,
    contract_5_in_a_pipeline_the_next_one_is_right,
    contract_5_handles_and_statements_that_are_always_described,
    contract_5_a_statement_that_is_stale_as_well,
}

/// A session with types of its own in its search_path: `mute` has only input and output functions,
/// `pair` has a column of it.
fn connect_with_types() -> PgConnection {
    let mut db = connect();
    let schema = testkit::unique("mute");
    db.execute_batch(&format!(
        "set client_min_messages to warning; create schema {schema}; set search_path to {schema}; \
         create type mute; \
         create function mute_in(cstring) returns mute language internal immutable strict \
         as 'textin'; \
         create function mute_out(mute) returns cstring language internal immutable strict \
         as 'textout'; \
         create type mute (input = mute_in, output = mute_out, like = text); \
         create type pair as (n int4, m mute)"
    ))
    .unwrap();
    db
}

/// Queries of one row and column each, and what psql prints.
const QUERIES: [(&str, &str); 8] = [
    ("select 'postgres=r/postgres'::aclitem", "postgres=r/postgres"),
    ("select '{postgres=r/postgres,=w/postgres}'::aclitem[]", "{postgres=r/postgres,=w/postgres}"),
    ("select null::gtsvector", "NULL"),
    ("select 'a b'::mute", "a b"),
    ("select array['a b', null]::mute[]", "{\"a b\",NULL}"),
    ("select row(1, 'a b'::mute)", "(1,\"a b\")"),
    ("select row(7, 'a')::pair", "(7,a)"),
    ("select row(1, 'postgres=r/postgres'::aclitem)", "(1,postgres=r/postgres)"),
];

#[test]
fn contract_5_psql_prints_the_same() {
    let mut db = connect_with_types();
    for (sql, text) in QUERIES {
        assert_eq!(printed(&db.query_simple(sql).unwrap()), text);
    }
}

fn contract_5_a_query_is_run_again_for_text(face: Face) {
    for mode in [ExecutionMode::Cached, ExecutionMode::Unnamed] {
        for (sql, text) in QUERIES {
            let mut db = connect_with_types();
            db.set_execution_mode(mode);
            for _ in 0..3 {
                let rows = face.query(&mut db, sql, ()).unwrap();
                assert_eq!(printed(&rows), text, "{sql}");
                assert_eq!(rows[0].columns()[0].format(), Format::Text);
                let string: Option<String> = rows[0].get(0).unwrap();
                assert_eq!(string.as_deref().unwrap_or("NULL"), text);
                if string.is_some() {
                    assert_eq!(rows[0].get::<PgValue>(0).unwrap(), PgValue::Text(text.to_owned()));
                }
            }
            assert_usable(&mut db);
        }
    }
}

/// What the error is met by in practice: the privileges of all tables of a stock server.
fn contract_5_privileges_are_listed_at_once(face: Face) {
    let mut db = connect();
    let sql = "select relname, relacl, relkind from pg_class where oid < 16384 \
               order by relacl is null, oid";
    let expected = printed(&db.query_simple(sql).unwrap());
    assert!(expected.lines().count() > 300);
    for mode in [ExecutionMode::Cached, ExecutionMode::Unnamed] {
        for _ in 0..2 {
            let rows = face.query_in(&mut db, mode, sql, ()).unwrap();
            assert_eq!(printed(&rows), expected);
        }
    }
}

fn contract_5_each_type_is_learned_once(face: Face) {
    for mode in [ExecutionMode::Cached, ExecutionMode::Unnamed] {
        let mut db = connect_with_types();
        db.set_execution_mode(mode);
        for round in 0..3 {
            for (sql, text) in QUERIES {
                let trace = traced(&mut db, |db| {
                    let rows = face.query(db, sql, ()).unwrap();
                    assert_eq!(printed(&rows), text, "{sql} in round {round}");
                    assert_eq!(rows[0].columns()[0].format(), Format::Text);
                });
                let failed = trace.iter().any(|line| line.contains("ErrorResponse"));
                assert!(round == 0 || !failed, "{sql} in round {round}: {trace:#?}");
            }
        }
        assert_usable(&mut db);
    }
}

fn contract_5_several_types_in_one_row(face: Face) {
    for mode in [ExecutionMode::Cached, ExecutionMode::Unnamed] {
        let mut db = connect_with_types();
        db.set_execution_mode(mode);
        let sql = "select 'a'::mute, '=r/postgres'::aclitem, row(1, 'b'::mute), 7";
        for _ in 0..3 {
            let rows = face.query(&mut db, sql, ()).unwrap();
            assert_eq!(printed(&rows), "a|=r/postgres|(1,b)|7");
        }
        assert_usable(&mut db);
    }
}

fn contract_5_other_columns_stay_binary(face: Face) {
    let mut db = connect_with_types();
    let sql = "select $1, 'a'::mute, 2.5::float8, '{1}'::int4[]";
    for i in 0..3 {
        let rows = face.query(&mut db, sql, (i,)).unwrap();
        assert_eq!(
            rows[0].to::<(i32, String, f64, Vec<i32>)>().unwrap(),
            (i, "a".into(), 2.5, vec![1])
        );
        let formats = rows[0].columns().iter().map(|column| column.format());
        let binary = Format::Binary;
        assert!(formats.eq([binary, Format::Text, binary, binary]));
    }
}

fn contract_5_in_a_transaction_the_next_one_is_right(face: Face) {
    for mode in [ExecutionMode::Cached, ExecutionMode::Unnamed] {
        let mut db = connect_with_types();
        db.set_execution_mode(mode);
        for (sql, text) in QUERIES {
            db.begin().unwrap();
            match face.query(&mut db, sql, ()) {
                // Learned by an earlier one.
                Ok(rows) => assert_eq!(printed(&rows), text, "{sql}"),
                Err(error) => {
                    // The server's error: something may have happened before.
                    assert!(matches!(error, PgError::Server(_)), "{error}");
                    assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_FUNCTION));
                    assert_eq!(db.transaction_status(), TransactionStatus::Failed);
                    db.rollback().unwrap();
                    db.begin().unwrap();
                    assert_eq!(printed(&face.query(&mut db, sql, ()).unwrap()), text, "{sql}");
                }
            }
            assert_eq!(printed(&face.query(&mut db, sql, ()).unwrap()), text, "{sql}");
            db.commit().unwrap();
        }
    }
}

/// The members of a record are looked at value by value, so that rows may have come before.
fn contract_5_behind_the_first_row_the_next_one_is_right(face: Face) {
    let sql = "select row(n, case when n > 1 then '=r/postgres'::aclitem end) \
               from generate_series(1, 2) as n";
    for mode in [ExecutionMode::Cached, ExecutionMode::Unnamed] {
        let mut db = connect();
        db.set_execution_mode(mode);
        let error = face.query(&mut db, sql, ()).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_FUNCTION));
        for _ in 0..2 {
            let rows = face.query(&mut db, sql, ()).unwrap();
            assert_eq!(printed(&rows), "(1,)\n(2,=r/postgres)");
        }
        // A row that the program has seen does not come again.
        let mut db = connect();
        db.set_execution_mode(mode);
        let mut rows = db.stream(sql, ()).unwrap();
        assert_eq!(rows.next().unwrap().unwrap().columns()[0].format(), Format::Binary);
        let error = rows.next().unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_FUNCTION));
        drop(rows);
        assert_usable(&mut db);
    }
}

fn contract_5_in_a_pipeline_the_next_one_is_right(face: Face) {
    let mut db = connect_with_types();
    let group = ["select 1", "select 'a'::mute", "select 2"];
    let mut ask = || -> Vec<Result<String, PgError>> {
        match face {
            Face::Blocking => {
                let mut pipeline = db.pipeline();
                for sql in group {
                    pipeline.query(sql, ()).unwrap();
                }
                let results = pipeline.finish().unwrap().into_iter();
                results.map(|result| result.map(|result| printed(result.rows()))).collect()
            }
            Face::NonBlocking => {
                let query = |sql| Request::Query { sql, params: &() };
                let tickets =
                    group.map(|sql| db.submit_with(query(sql), COLLECT.no_sync()).unwrap());
                db.end_group();
                run_events(&mut db, tickets.len(), |_| {}).unwrap();
                let take = |ticket| db.take(ticket).map(|all| printed(&all.unwrap().into_rows()));
                tickets.map(take).into()
            }
        }
    };
    let first = ask();
    assert!(matches!(first[0], Err(PgError::RolledBack)), "{first:?}");
    assert!(
        matches!(&first[1], Err(error @ PgError::Server(_))
        if error.sql_state() == Some(SqlState::UNDEFINED_FUNCTION)),
        "{first:?}"
    );
    assert!(matches!(first[2], Err(PgError::NotRun(_))), "{first:?}");
    for _ in 0..2 {
        let next: Result<Vec<String>, PgError> = ask().into_iter().collect();
        assert_eq!(next.unwrap(), ["1", "a", "2"]);
    }
}

fn contract_5_handles_and_statements_that_are_always_described(face: Face) {
    let mut db = connect_with_types();
    db.execute_batch("prepare p as select 1, 'a'::mute").unwrap();
    let [select, execute] =
        ["select 1, 'a'::mute", "execute p"].map(|sql| face.prepare(&mut db, sql).unwrap());
    for _ in 0..3 {
        for handle in [&select, &execute] {
            let rows = face.query_prepared(&mut db, handle, ()).unwrap();
            assert_eq!(printed(&rows), "1|a", "{}", handle.sql());
        }
        assert_eq!(printed(&face.query(&mut db, "execute p", ()).unwrap()), "1|a");
    }
}

fn contract_5_a_statement_that_is_stale_as_well(face: Face) {
    let mut db = connect_with_types();
    db.execute_batch("create temp table t (a int4, m mute); insert into t values (1, 'a')")
        .unwrap();
    let sql = "select * from t";
    assert_eq!(printed(&face.query(&mut db, sql, ()).unwrap()), "1|a");
    // The formats that were asked for are those of other columns.
    db.execute_batch("alter table t drop a").unwrap();
    assert_eq!(printed(&face.query(&mut db, sql, ()).unwrap()), "a");
    db.execute_batch("alter table t add b int4 default 2, add c mute default 'c'").unwrap();
    for _ in 0..2 {
        assert_eq!(printed(&face.query(&mut db, sql, ()).unwrap()), "a|2|c");
    }
    db.execute_batch("alter table t drop m, drop c").unwrap();
    let rows = face.query(&mut db, sql, ()).unwrap();
    assert_eq!((printed(&rows).as_str(), rows[0].columns()[0].format()), ("2", Format::Binary));
}

#[test]
fn contract_5_streams_are_run_again_too() {
    for mode in [ExecutionMode::Cached, ExecutionMode::Unnamed] {
        let mut db = connect_with_types();
        db.set_execution_mode(mode);
        let sql = "select n, 'a'::mute from generate_series(1, 3) as n";
        for _ in 0..3 {
            let mut rows = db.stream(sql, ()).unwrap();
            let mut seen = Vec::new();
            rows.for_each(|row| row.to::<(i32, String)>().map(|row| seen.push(row))).unwrap();
            assert_eq!(seen, [1, 2, 3].map(|n| (n, "a".to_owned())));
            assert_eq!(rows.columns().unwrap()[1].format(), Format::Text);
        }
        let sql = "select '=r/postgres'::aclitem";
        let ticket = db.submit(Request::Query { sql, params: &() }, Delivery::Events).unwrap();
        let mut seen = Vec::new();
        run_events(&mut db, 1, |event| {
            assert_eq!(event.ticket(), Some(ticket));
            if let Event::Row { row, .. } = event {
                seen.push(row.get::<String>(0).unwrap());
            }
        })
        .unwrap();
        assert_eq!(seen, ["=r/postgres"]);
    }
}
