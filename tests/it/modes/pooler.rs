//! Behind a transaction pooler, which gives every transaction another session.

use chopin_pg::{
    ExecutionMode, PgConfig, PgConnection, PgError, PgResult, PipelineResult, Request, Row,
};
use testkit::pooler::{Pooler, Pooling};

use crate::support::*;

on_both_faces! {
    b8_unnamed_works_in_whatever_session,
    b8_unnamed_works_in_pipelines_across_sessions,
    b8_unnamed_handles_work_in_whatever_session,
    b8_b9_cached_recovers_from_every_lost_statement,
    b8_b9_cached_in_a_transaction_fails_as_not_run,
    b8_b9_cached_in_a_pipeline_is_right_or_not_run,
    b8_b9_two_cached_clients_never_get_each_others_statements,
}

fn start() -> Pooler {
    Pooler::start(testkit::shared().tcp(), Pooling::default())
}

fn connect_in(pooler: &Pooler, mode: ExecutionMode) -> PgConnection {
    let config = PgConfig::new("127.0.0.1", pooler.port(), "postgres", "", "postgres");
    PgConnection::connect(&config.execution_mode(mode)).unwrap()
}

/// The statements that a client has left in the sessions, which it does not have to itself.
fn left_behind(db: &mut PgConnection) -> Vec<String> {
    (0..2).flat_map(|_| server_statements(db)).collect()
}

/// One of a few texts of different shapes, and its answer for `i`.
fn question(i: i32) -> (&'static str, String) {
    match i % 3 {
        0 => ("select $1::int4 + 1", (i + 1).to_string()),
        1 => ("select $1::int4, 'tag ' || $1", format!("{i}|tag {i}")),
        _ => ("select n from generate_series($1::int4, $1 + 1) as n", format!("{i}\n{}", i + 1)),
    }
}

fn b8_unnamed_works_in_whatever_session(face: Face) {
    let pooler = start();
    let mut db = connect_in(&pooler, ExecutionMode::Unnamed);
    for i in 0..1000 {
        let (sql, expected) = question(i);
        assert_eq!(printed(&face.query(&mut db, sql, (i,)).unwrap()), expected);
    }
    assert_eq!((pooler.served_by().len(), pooler.switches()), (1000, 999));
    assert!(left_behind(&mut db).is_empty());
}

/// `count` questions in groups of `size`, sent without waiting; what became of each.
fn pipeline(face: Face, db: &mut PgConnection, count: i32, size: i32) -> Vec<PgResult<Vec<Row>>> {
    match face {
        Face::Blocking => {
            let mut pipeline = db.pipeline();
            for i in 0..count {
                pipeline.query(question(i).0, (i,)).unwrap();
                if i % size == size - 1 {
                    pipeline.sync().unwrap();
                }
            }
            let results = pipeline.finish().unwrap().into_iter();
            results.map(|result| result.map(PipelineResult::into_rows)).collect()
        }
        Face::NonBlocking => {
            let mut tickets = Vec::new();
            for i in 0..count {
                let request = Request::Query { sql: question(i).0, params: &(i,) };
                let last = i % size == size - 1 || i == count - 1;
                let submit = if last { COLLECT } else { COLLECT.no_sync() };
                tickets.push(db.submit_with(request, submit).unwrap());
            }
            db.flush();
            run_events(db, tickets.len(), |_| {}).unwrap();
            let take = |ticket| db.take(ticket).map(|outcome| outcome.unwrap().into_rows());
            tickets.into_iter().map(take).collect()
        }
    }
}

fn b8_unnamed_works_in_pipelines_across_sessions(face: Face) {
    let pooler = start();
    let mut db = connect_in(&pooler, ExecutionMode::Unnamed);
    for size in [1, 2, 7] {
        let before = pooler.served_by().len();
        let results = pipeline(face, &mut db, 350, size);
        for (i, result) in (0..).zip(results) {
            assert_eq!(printed(&result.unwrap()), question(i).1);
        }
        assert_eq!(pooler.served_by().len() - before, usize::try_from(350 / size).unwrap());
    }
    assert!(left_behind(&mut db).is_empty());
}

fn b8_unnamed_handles_work_in_whatever_session(face: Face) {
    let pooler = start();
    let mut db = connect_in(&pooler, ExecutionMode::Unnamed);
    let handles = [0, 1, 2].map(|i| face.prepare(&mut db, question(i).0).unwrap());
    for (i, handle) in (0..300).zip(handles.iter().cycle()) {
        let rows = face.query_prepared(&mut db, handle, (i,)).unwrap();
        assert_eq!(printed(&rows), question(i).1);
    }
    let sets: Vec<(i32,)> = (0..50).map(|i| (i,)).collect();
    for _ in 0..4 {
        assert_eq!(db.execute_many_prepared(&handles[0], sets.as_slice()).unwrap(), [1; 50]);
    }
    assert_eq!(pooler.switches() + 1, pooler.served_by().len());
    assert!(left_behind(&mut db).is_empty());
}

fn b8_b9_cached_recovers_from_every_lost_statement(face: Face) {
    let pooler = start();
    let mut db = connect_in(&pooler, ExecutionMode::Cached);
    for i in 0..100 {
        let (sql, expected) = question(i);
        assert_eq!(printed(&face.query(&mut db, sql, (i,)).unwrap()), expected);
    }
    let handle = face.prepare(&mut db, "select $1::text || '!'").unwrap();
    for _ in 0..10 {
        assert_eq!(printed(&face.query_prepared(&mut db, &handle, ("a",)).unwrap()), "a!");
    }
    // It works, and it costs: that is what the unnamed mode is for.
    assert!(pooler.served_by().len() > 150, "{} transactions", pooler.served_by().len());
}

fn b8_b9_cached_in_a_transaction_fails_as_not_run(face: Face) {
    let pooler = start();
    let mut db = connect_in(&pooler, ExecutionMode::Cached);
    let (sql, expected) = question(1);
    let mut refused = 0;
    for _ in 0..12 {
        db.begin().unwrap();
        for _ in 0..3 {
            match face.query(&mut db, sql, (1,)) {
                Ok(rows) => assert_eq!(printed(&rows), expected),
                Err(error) => {
                    assert!(matches!(error, PgError::NotRun(_)), "{error}");
                    assert!(error.is_safe_to_retry());
                    assert_eq!(error.sql_state().unwrap().as_str(), "26000");
                    refused += 1;
                    break;
                }
            }
        }
        db.rollback().unwrap();
    }
    assert!(refused > 0);
}

fn b8_b9_cached_in_a_pipeline_is_right_or_not_run(face: Face) {
    let pooler = start();
    let mut db = connect_in(&pooler, ExecutionMode::Cached);
    let (mut right, mut not_run) = (0, 0);
    for size in [1, 2, 5] {
        for _ in 0..4 {
            for (i, result) in (0..).zip(pipeline(face, &mut db, 30, size)) {
                match result {
                    Ok(rows) => {
                        assert_eq!(printed(&rows), question(i).1);
                        right += 1;
                    }
                    Err(PgError::NotRun(error)) => {
                        assert_eq!(error.sql_state().unwrap().as_str(), "26000");
                        not_run += 1;
                    }
                    Err(PgError::RolledBack) => assert!(size > 1),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
    assert!(right > 0 && not_run > 0, "{right} right, {not_run} not run");
    let rows = face.query_in(&mut db, ExecutionMode::Unnamed, "select $1::int4", (7,)).unwrap();
    assert_eq!(printed(&rows), "7");
}

fn b8_b9_two_cached_clients_never_get_each_others_statements(face: Face) {
    let pooler = start();
    let mut clients = [(); 2].map(|()| connect_in(&pooler, ExecutionMode::Cached));
    for i in 0..60 {
        // Each prepares the texts in another order.
        for (db, i) in clients.iter_mut().zip([i, i + 1 + i % 2]) {
            let (sql, expected) = question(i);
            assert_eq!(printed(&face.query(db, sql, (i,)).unwrap()), expected);
        }
    }
}
