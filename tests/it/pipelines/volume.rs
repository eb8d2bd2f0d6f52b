//! Pipelines that are larger than everything in between: both sides have much to send, and neither
//! may wait for the other to read.

use chopin_pg::types::Params;
use chopin_pg::{Event, PgConfig, PgConnection, PgError, Request, Row};

use crate::support::*;

/// How many requests.
const REQUESTS: i32 = 2000;

/// How many bytes go or come, or both, for each.
const BYTES: usize = 30_000;

/// How the requests are put into groups.
#[derive(Clone, Copy, Debug)]
enum Groups {
    /// One of all.
    One,
    /// Each request is its own.
    Each,
}

/// Runs all requests through a face, and hands the row of each to `check`.
fn run<P: Params>(
    face: Face,
    config: &PgConfig,
    groups: Groups,
    sql: &str,
    params: impl Fn(i32) -> P,
    check: impl Fn(i32, &Row),
) {
    let mut db = PgConnection::connect(&config.clone().io_timeout(LONG)).unwrap();
    match face {
        Face::Blocking => {
            let mut pipeline = db.pipeline();
            for number in 0..REQUESTS {
                pipeline.query(sql, params(number)).unwrap();
                if matches!(groups, Groups::Each) {
                    pipeline.sync().unwrap();
                }
            }
            let results = pipeline.finish().unwrap();
            assert_eq!(results.len(), usize::try_from(REQUESTS).unwrap());
            for (number, result) in (0..).zip(results) {
                check(number, &result.unwrap().rows()[0]);
            }
        }
        Face::NonBlocking => run_non_blocking(&mut db, groups, sql, params, check),
    }
    assert_usable(&mut db);
}

fn run_non_blocking<P: Params>(
    db: &mut PgConnection,
    groups: Groups,
    sql: &str,
    params: impl Fn(i32) -> P,
    check: impl Fn(i32, &Row),
) {
    let submit = match groups {
        Groups::One => COLLECT.no_sync(),
        Groups::Each => COLLECT,
    };
    let mut tickets = std::collections::VecDeque::new();
    let (mut submitted, mut ended) = (0, 0);
    let count = |event: &Event<'_>| match event {
        Event::Complete { .. } => 1,
        Event::Failed { error, .. } => panic!("{error}"),
        _ => 0,
    };
    while submitted < REQUESTS {
        let params = params(submitted);
        match db.submit_with(Request::Query { sql, params: &params }, submit) {
            Ok(ticket) => {
                tickets.push_back(ticket);
                submitted += 1;
            }
            Err(PgError::WouldBlock) => {
                let _budget_or_idle = db.drive();
                while let Some(event) = db.next_event().unwrap() {
                    ended += count(&event);
                }
                let waits_for_both = db.sources().all(|(_, interest)| interest.read);
                assert!(waits_for_both, "it waits for room and reads nothing");
            }
            Err(error) => panic!("{error}"),
        }
    }
    db.end_group();
    let all = usize::try_from(REQUESTS).unwrap();
    run_events(db, all - ended, |event| ended += count(&event)).unwrap();
    assert_eq!(ended, all);
    for (number, ticket) in (0..).zip(tickets) {
        check(number, &db.take(ticket).unwrap().unwrap().into_rows()[0]);
    }
}

const LONG: std::time::Duration = std::time::Duration::from_secs(120);

/// A byte for each number.
fn letter(number: i32) -> u8 {
    b'A' + u8::try_from(number % 26).expect("a letter")
}

#[track_caller]
fn assert_is_filled(number: i32, bytes: &[u8]) {
    assert_eq!(bytes.len(), BYTES, "{number}");
    assert!(bytes.iter().all(|byte| *byte == letter(number)), "{number}");
}

fn large_answers(face: Face, config: &PgConfig, groups: Groups) {
    let sql = "select repeat(chr($1), $2)";
    let params = |number: i32| (i32::from(letter(number)), i32::try_from(BYTES).unwrap());
    run(face, config, groups, sql, params, |number, row| {
        assert_is_filled(number, row.get::<&str>(0).unwrap().as_bytes());
    });
}

fn large_parameters(face: Face, config: &PgConfig, groups: Groups) {
    let sql = "select $1::int4, octet_length($2), get_byte($2, $3)";
    let last = i32::try_from(BYTES).unwrap() - 1;
    let params = |number: i32| (number, vec![letter(number); BYTES], last);
    run(face, config, groups, sql, params, |number, row| {
        assert_eq!(row.to::<(i32, i32, i32)>().unwrap(), (number, last + 1, letter(number).into()));
    });
}

fn large_both_ways(face: Face, config: &PgConfig, groups: Groups) {
    let params = |number: i32| (vec![letter(number); BYTES],);
    run(face, config, groups, "select $1::bytea", params, |number, row| {
        assert_is_filled(number, row.get(0).unwrap());
    });
}

fn every_load(face: Face, config: &PgConfig) {
    // Both at once is the one that locks up where somebody waits for room without reading.
    large_both_ways(face, config, Groups::One);
    large_both_ways(face, config, Groups::Each);
    large_answers(face, config, Groups::One);
    large_answers(face, config, Groups::Each);
    large_parameters(face, config, Groups::One);
    large_parameters(face, config, Groups::Each);
}

fn h23_full_buffers_on_both_sides_never_lock_up_over_tcp(face: Face) {
    every_load(face, &config());
}

fn h23_full_buffers_on_both_sides_never_lock_up_over_a_unix_socket(face: Face) {
    every_load(face, &unix_config());
}

on_both_faces!(
    h23_full_buffers_on_both_sides_never_lock_up_over_tcp,
    h23_full_buffers_on_both_sides_never_lock_up_over_a_unix_socket,
);
