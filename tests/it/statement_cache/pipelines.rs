//! Cached statements in pipelines: stale ones, failing ones, evicted ones.

use chopin_pg::{Delivery, PgConnection, PgError, PgResult, PipelineResult, Request, Row};

use super::changes::session;
use super::query;
use crate::support::*;

on_both_faces! {
    b9_h14_a_stale_statement_in_a_pipeline_was_not_run,
    h14_a_parse_that_fails_in_a_pipeline_fails_nobody_else,
    h14_a_parse_that_fails_in_a_transaction_fails_with_it,
    h14_eviction_while_in_flight,
    h50_closes_are_not_lost_between_errors,
}

/// Sends all groups without waiting, and returns what became of each query.
fn pipeline(face: Face, db: &mut PgConnection, groups: &[&[&str]]) -> Vec<PgResult<String>> {
    let results: Vec<PgResult<Vec<Row>>> = match face {
        Face::Blocking => {
            let mut pipeline = db.pipeline();
            for group in groups {
                for sql in *group {
                    pipeline.query(sql, ()).unwrap();
                }
                pipeline.sync().unwrap();
            }
            let results = pipeline.finish().unwrap().into_iter();
            results.map(|result| result.map(PipelineResult::into_rows)).collect()
        }
        Face::NonBlocking => {
            let mut tickets = Vec::new();
            for group in groups {
                let submit = |sql: &&str| db.submit_with(query(sql), COLLECT.no_sync()).unwrap();
                tickets.extend(group.iter().map(submit));
                db.end_group();
            }
            run_events(db, tickets.len(), |_| {}).unwrap();
            let take = |ticket| db.take(ticket).map(|outcome| outcome.unwrap().into_rows());
            tickets.into_iter().map(take).collect()
        }
    };
    results.into_iter().map(|result| result.map(|rows| printed(&rows))).collect()
}

/// What became of a query in a few words.
fn fate(result: &PgResult<String>) -> String {
    match result {
        Ok(rows) => rows.clone(),
        Err(PgError::Server(error)) => error.code.to_string(),
        Err(PgError::NotRun(error)) => format!("not run: {}", error.sql_state().unwrap()),
        Err(PgError::RolledBack) => "rolled back".to_owned(),
        Err(error) => panic!("{error}"),
    }
}

fn fates(face: Face, db: &mut PgConnection, groups: &[&[&str]]) -> Vec<String> {
    pipeline(face, db, groups).iter().map(fate).collect()
}

fn b9_h14_a_stale_statement_in_a_pipeline_was_not_run(face: Face) {
    let (mut db, _) = session();
    let works = "select * from works";
    face.query(&mut db, works, ()).unwrap();
    let groups: &[&[&str]] = &[&["select 1", works, "select 2"], &["select 3"]];
    for column in ["b", "c"] {
        // By its group it is known that nothing of it has happened, and the next time it is right.
        let change = format!("alter table works add {column} text default '{column}'");
        db.execute_batch(&change).unwrap();
        let refused = ["rolled back", "not run: 0A000", "not run: 0A000", "3"];
        assert_eq!(fates(face, &mut db, groups), refused);
        let now = format!("1{}", if column == "b" { "|b" } else { "|b|c" });
        assert_eq!(fates(face, &mut db, groups), ["1", &now, "2", "3"]);
    }
    // Alone in its group it is run again, if nothing was sent behind it.
    db.execute_batch("alter table works drop b, drop c").unwrap();
    let groups: &[&[&str]] = &[&[works], &["select 1"], &[works]];
    assert_eq!(fates(face, &mut db, groups), ["not run: 0A000", "1", "1"]);
    assert_eq!(fates(face, &mut db, groups), ["1", "1", "1"]);
    // Of lost statements the same, each by itself.
    db.execute_batch("do $$ begin execute 'deallocate all'; end $$").unwrap();
    let groups: &[&[&str]] = &[&["select 2", works], &["values (4)"]];
    assert_eq!(fates(face, &mut db, groups), ["not run: 26000", "not run: 26000", "4"]);
    assert_eq!(fates(face, &mut db, groups), ["rolled back", "not run: 26000", "4"]);
    assert_eq!(fates(face, &mut db, groups), ["2", "1", "4"]);
}

fn h14_a_parse_that_fails_in_a_pipeline_fails_nobody_else(face: Face) {
    let mut db = connect();
    let table = testkit::unique("later");
    let create = format!("create temp table {table} as select 7 as a");
    let select = format!("select * from {table}");
    let groups: &[&[&str]] =
        &[&[&select, &select], &["select 1", &select], &[&create], &[&select, &select], &[&select]];
    let expected =
        ["42P01", "not run: 42P01", "rolled back", "42P01", "", "7", "7", "7"].map(str::to_owned);
    assert_eq!(fates(face, &mut db, groups), expected);
    assert_eq!(printed(&face.query(&mut db, &select, ()).unwrap()), "7");
    let kept = server_statements(&mut db);
    assert_eq!(kept.iter().filter(|sql| **sql == select).count(), 1);
    assert_eq!(kept.len(), db.engine().prepared_statements());
    // A statement whose Parse was skipped is not there either.
    let groups: &[&[&str]] = &[&["select 1 / 0", "select 2"], &["select 2"]];
    assert_eq!(fates(face, &mut db, groups), ["22012", "not run: 22012", "2"]);
    assert_eq!(printed(&face.query(&mut db, "select 2", ()).unwrap()), "2");
}

fn h14_a_parse_that_fails_in_a_transaction_fails_with_it(face: Face) {
    let (mut db, _) = session();
    let (works, later) = ("select * from works", "select * from later");
    let create = "create table later as select 7 as a";
    let groups: &[&[&str]] = &[&[works, later], &[later, works], &[create], &[later]];
    db.begin().unwrap();
    let failed = ["rolled back", "42P01", "25P02", "not run: 25P02", "25P02", "25P02"];
    assert_eq!(fates(face, &mut db, groups), failed);
    db.rollback().unwrap();
    let groups: &[&[&str]] = &[&[works, create, later], &[later, works]];
    assert_eq!(fates(face, &mut db, groups), ["1", "", "7", "7", "1"]);
}

fn h14_eviction_while_in_flight(face: Face) {
    let mut db = PgConnection::connect(&config().statement_cache_capacity(1)).unwrap();
    let texts = ["select 'a'", "select 'b'", "select 1, 2", "values (3)"];
    let answers = ["a", "b", "1|2", "3"];
    for size in [1, 2, 3, 7] {
        let many: Vec<&str> = texts.into_iter().cycle().take(40).collect();
        let groups: Vec<&[&str]> = many.chunks(size).collect();
        let expected: Vec<&str> = answers.into_iter().cycle().take(40).collect();
        assert_eq!(fates(face, &mut db, &groups), expected, "groups of {size}");
        assert!(server_statements(&mut db).len() <= 1);
        db.begin().unwrap();
        assert_eq!(fates(face, &mut db, &groups), expected, "in a transaction");
        db.rollback().unwrap();
    }
    // A handle that is dropped while it is being run.
    let handle = face.prepare(&mut db, "select $1::int4").unwrap();
    let request = Request::Execute { statement: &handle, params: &(7,) };
    let tickets = [0; 3].map(|_| db.submit(request, Delivery::Collect).unwrap());
    drop(handle);
    db.flush();
    run_events(&mut db, tickets.len(), |_| {}).unwrap();
    for ticket in tickets {
        assert_eq!(printed(&db.take(ticket).unwrap().unwrap().into_rows()), "7");
    }
    assert!(server_statements(&mut db).len() <= 1);
    assert_eq!(db.engine().prepared_statements(), server_statements(&mut db).len());
}

/// In a group that fails it would be skipped.
#[test]
fn h50_a_close_waits_for_the_end_of_an_open_group() {
    let mut db = connect();
    let handle = db.prepare("select 'dropped'").unwrap();
    let trace = traced(&mut db, |db| {
        let mut tickets = vec![db.submit_with(query("select 1"), COLLECT.no_sync()).unwrap()];
        drop(handle);
        for sql in ["select 1 / 0", "select 2"] {
            tickets.push(db.submit_with(query(sql), COLLECT.no_sync()).unwrap());
        }
        db.end_group();
        tickets.push(db.submit(query("select 3"), Delivery::Collect).unwrap());
        run_events(db, tickets.len(), |_| {}).unwrap();
        let ends: Vec<bool> = tickets.into_iter().map(|ticket| db.take(ticket).is_ok()).collect();
        assert_eq!(ends, [false, false, false, true]);
    });
    let sent: Vec<&str> = trace
        .iter()
        .filter(|line| line.starts_with('F'))
        .filter_map(|line| line.split('\t').nth(2))
        .collect();
    let close = sent.iter().position(|name| *name == "Close").unwrap();
    assert_eq!(sent.iter().position(|name| *name == "Sync").unwrap() + 1, close, "{sent:?}");
    assert_eq!(server_statements(&mut db).len(), db.engine().prepared_statements());
}

/// 12,000 texts give way to each other; what the server has stays within the capacity.
fn h50_closes_are_not_lost_between_errors(face: Face) {
    const CAPACITY: usize = 8;
    let mut db = PgConnection::connect(&config().statement_cache_capacity(CAPACITY)).unwrap();
    let mut failed = 0;
    for round in 0..120 {
        let texts: Vec<String> = (0..100)
            .map(|i| match (round + i) % 10 {
                // Fails at Parse; at Bind, where constants are computed; at the end of its rows.
                3 => format!("select nothing_{round}_{i}"),
                6 => format!("select {round}{i} / 0"),
                9 => format!("select {round}{i} / (3 - n) from generate_series(1, 3) as n"),
                _ => format!("select {round}, {i}"),
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let groups: Vec<&[&str]> = texts.chunks(1 + round % 5).collect();
        let results = pipeline(face, &mut db, &groups);
        assert_eq!(results.len(), 100);
        for (i, result) in results.iter().enumerate() {
            match result {
                Ok(rows) => assert_eq!(*rows, format!("{round}|{i}")),
                Err(_) => failed += 1,
            }
        }
        if round % 20 == 0 {
            assert!(server_statements(&mut db).len() <= CAPACITY);
        }
    }
    assert!(failed > 1000, "{failed}");
    let left = server_statements(&mut db);
    assert!(left.len() <= CAPACITY, "{left:?}");
    assert_eq!(left.len(), db.engine().prepared_statements());
    assert_usable(&mut db);
}
