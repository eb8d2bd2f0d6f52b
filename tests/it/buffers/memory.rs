//! Memory that was needed once is given back.
//!
//! How much memory there is can only be said of a whole process, so each test has one of its own.

use std::process::Command;

use chopin_pg::{Delivery, PgConnection, PgError, Request};

use super::{EVENTS, LONG, connect_patiently};
use crate::support::*;

/// Names the test that a process was started for.
const ALONE: &str = "CHOPIN_PG_TEST_ALONE";

/// Runs `work`, the test of this name, in a process of its own.
fn alone(test: &str, work: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some_and(|name| name == test) {
        return work();
    }
    // So that the server is there before, and not started by the other process.
    testkit::shared();
    let program = std::env::current_exe().expect("the path of this program");
    let run =
        Command::new(program).args([test, "--exact", "--nocapture"]).env(ALONE, test).output();
    let run = run.expect("a second process");
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && told.contains("1 passed"),
        "{told}{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

/// How much memory this process has, in MB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a system with /proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the resident set");
    let kilobytes = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    kilobytes.expect("a number") / 1000
}

/// Large enough to have memory of its own, which the allocator gives back to the system at once.
const SIZE: usize = 40_000_000;

/// A row of this size.
const LARGE: &str = "select repeat('x', 40000000)";

/// The same with little behind it.
const LARGE_AND_SMALL: &str =
    "select case i when 1 then repeat('x', 40000000) else 'small' end from generate_series(1, 3) i";

#[track_caller]
fn assert_is_large(text: &str) {
    assert_eq!(text.len(), SIZE);
    assert!(memory() > 40, "{} MB", memory());
}

/// What brings much into the process, and takes it out again.
const WAYS: &[(&str, fn(&mut PgConnection))] = &[
    ("hundred megabytes", |db| {
        let row = db.query_one("select repeat('x', 100000000)", &[]).unwrap();
        assert_eq!(row.get::<&str>(0).unwrap().len(), 100_000_000);
    }),
    ("stream of a hundred megabytes", |db| {
        let mut rows = db.stream("select repeat('x', 100000000)", ()).unwrap();
        let row = rows.next().unwrap().unwrap();
        assert_eq!(row.get::<&str>(0).unwrap().len(), 100_000_000);
        assert_eq!(rows.finish().unwrap(), 1);
    }),
    ("query", |db| {
        let rows = db.query(LARGE, &[]).unwrap();
        assert_is_large(rows[0].get(0).unwrap());
    }),
    ("simple query", |db| {
        let rows = db.query_simple(LARGE).unwrap();
        assert_is_large(rows[0].get(0).unwrap());
    }),
    ("stream to its end", |db| {
        let mut rows = db.stream(LARGE, ()).unwrap();
        assert_is_large(rows.next().unwrap().unwrap().get(0).unwrap());
        assert!(rows.next().unwrap().is_none());
    }),
    ("stream that is finished", |db| {
        let mut rows = db.stream(LARGE_AND_SMALL, ()).unwrap();
        assert_is_large(rows.next().unwrap().unwrap().get(0).unwrap());
        assert_eq!(rows.finish().unwrap(), 3);
    }),
    ("stream that is passed over", |db| {
        assert_eq!(db.stream_simple(LARGE).unwrap().finish().unwrap(), 1);
    }),
    ("stream that is dropped", |db| {
        let mut rows = db.stream(LARGE_AND_SMALL, ()).unwrap();
        assert_is_large(rows.next().unwrap().unwrap().get(0).unwrap());
        drop(rows);
        assert_usable(db);
    }),
    ("pipeline", |db| {
        let mut pipeline = db.pipeline();
        pipeline.query(LARGE, ()).unwrap();
        let results = pipeline.finish().unwrap();
        assert_is_large(results[0].as_ref().unwrap().rows()[0].get(0).unwrap());
    }),
    ("events", |db| {
        let request = Request::Query { sql: LARGE_AND_SMALL, params: &() };
        db.submit_with(request, EVENTS).map(drop).unwrap();
        run_events(db, 1, |_| {}).unwrap();
    }),
    ("collected request", |db| {
        let request = Request::Query { sql: LARGE, params: &() };
        let ticket = db.submit_with(request, COLLECT).unwrap();
        run_events(db, 1, |_| {}).unwrap();
        let rows = db.take(ticket).unwrap().unwrap().into_rows();
        assert_is_large(rows[0].get(0).unwrap());
    }),
    ("discarded request", |db| {
        let request = Request::Query { sql: LARGE, params: &() };
        let ticket = db.submit_with(request, COLLECT).unwrap();
        db.flush();
        db.discard(ticket);
        assert_usable(db);
    }),
    ("parameter", |db| {
        let large = "x".repeat(SIZE);
        let row = db.query_one("select octet_length($1)", &[&large]).unwrap();
        assert_eq!(usize::try_from(row.get::<i32>(0).unwrap()), Ok(SIZE));
    }),
    ("text of a query", |db| {
        let sql = format!("select '{}'", "x".repeat(SIZE));
        db.query(&sql, &[]).unwrap();
    }),
    ("pipeline of parameters", |db| {
        let large = "x".repeat(1_000_000);
        let mut pipeline = db.pipeline();
        for _ in 0..SIZE / 1_000_000 {
            pipeline.query("select octet_length($1)", (&large,)).unwrap();
        }
        assert!(pipeline.finish().unwrap().iter().all(Result::is_ok));
    }),
    ("request that is not sent", |db| {
        let large = vec![b'x'; SIZE];
        let request = Request::Query { sql: "select $1::bytea", params: &(large,) };
        let ticket = db.submit(request, Delivery::Collect).unwrap();
        db.discard(ticket);
    }),
    ("message that is not written", |db| {
        let large = vec![b'x'; SIZE];
        let error = db.query_with("select $1, $2", (large.as_slice(), "\0")).unwrap_err();
        assert!(matches!(error, PgError::Parameter(_)), "{error}");
    }),
];

#[test]
fn h41_a_hundred_megabytes_are_given_back() {
    alone("buffers::memory::h41_a_hundred_megabytes_are_given_back", || {
        let mut db = connect_patiently();
        db.set_io_timeout(LONG);
        assert_usable(&mut db);
        let before = memory();
        for (what, way) in WAYS {
            way(&mut db);
            let left = memory().saturating_sub(before);
            assert!(left < 20, "{what} leaves {left} MB behind");
        }
        assert_usable(&mut db);
    });
}
