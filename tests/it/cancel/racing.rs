//! Cancels that race with the end of what they are meant for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use chopin_pg::{CancelToken, SqlState};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// `few`, or `many` where the tests may take long (`cargo xtask test --long`).
fn rounds(few: u32, many: u32) -> u32 {
    if is_long() { many } else { few }
}

/// What became of the cancels.
#[derive(Debug, Default)]
struct Tally {
    hits: u32,
    misses: u32,
}

#[test]
fn h13_s9_15_racing_cancels_hit_their_target_or_nothing() {
    const THREADS: u32 = 4;
    let rounds = rounds(1_000, 10_000) / THREADS;
    let stop = AtomicBool::new(false);
    let tallies: Vec<Tally> = thread::scope(|scope| {
        // Whoever is never cancelled never notices.
        let neighbour = scope.spawn(|| {
            let mut db = PgConnection::connect(&unix_config()).unwrap();
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let row = db.query_one("select $1::int4 from pg_sleep(0.001)", &[&number]);
                assert_eq!(row.unwrap().get::<i32>(0).unwrap(), number);
            }
        });
        let racers: Vec<_> =
            (0..THREADS).map(|seed| scope.spawn(move || race(u64::from(seed), rounds))).collect();
        let tallies = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        stop.store(true, Ordering::Relaxed);
        neighbour.join().unwrap();
        tallies
    });
    let hits: u32 = tallies.iter().map(|tally| tally.hits).sum();
    let misses: u32 = tallies.iter().map(|tally| tally.misses).sum();
    assert_eq!(hits + misses, THREADS * rounds);
    assert!(hits > rounds / 10 && misses > rounds / 10, "no race: {tallies:?}");
}

/// Runs pairs of queries on a connection, the first of which is cancelled by another thread at some
/// moment.
fn race(seed: u64, rounds: u32) -> Tally {
    let mut random = StdRng::seed_from_u64(seed);
    let mut db = PgConnection::connect(&unix_config()).unwrap();
    let (start, started) = channel::<CancelToken>();
    let (end, ended) = channel();
    let canceller = thread::spawn(move || {
        for token in started {
            end.send(token.cancel()).unwrap();
        }
    });
    let mut tally = Tally::default();
    for number in 0..rounds {
        let number = i32::try_from(number).unwrap();
        let seconds = random.random_range(0.0..0.004);
        start.send(db.cancel_token()).unwrap();
        match db.query_one("select $1::int4 from pg_sleep($2)", &[&number, &seconds]) {
            Ok(row) => {
                assert_eq!(row.get::<i32>(0).unwrap(), number);
                tally.misses += 1;
            }
            Err(error) => {
                assert_eq!(error.sql_state(), Some(SqlState::QUERY_CANCELED), "{error}");
                tally.hits += 1;
            }
        }
        ended.recv().unwrap().unwrap();
        // The cancel has arrived: it is too late to hit this one.
        let row = db.query_one("select -$1::int4", &[&number]).unwrap();
        assert_eq!(row.get::<i32>(0).unwrap(), -number);
    }
    drop(start);
    canceller.join().unwrap();
    tally
}

#[test]
fn h13_b25_deadlines_that_race_in_a_pipeline_lose_and_double_nothing() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut db = PgConnection::connect(&unix_config()).unwrap();
    db.execute_batch("create temp table t (x int4)").unwrap();
    let mut next = 0_i32;
    let (mut done, mut undone, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds(150, 3_000) {
        let mut asked = Vec::new();
        for _ in 0..4 {
            next += 1;
            let seconds: f64 = random.random_range(0.0..0.004);
            let time = Duration::from_micros(random.random_range(500..12_000));
            let deadline = Deadline::after(Instant::now(), "within", time);
            let submit = Submit::new(Delivery::Collect).deadline(deadline);
            let sql = "insert into t select $1::int4 from pg_sleep($2) returning x";
            let request = Request::Query { sql, params: &(next, seconds) };
            asked.push((db.submit_with(request, submit).unwrap(), next));
        }
        run(&mut db, 4).unwrap();
        for (ticket, number) in asked {
            match db.take(ticket) {
                Ok(outcome) => {
                    let rows = outcome.expect("its result").into_rows();
                    assert_eq!(rows[0].get::<i32>(0).unwrap(), number, "another's answer");
                    done.push(number);
                }
                Err(PgError::Timeout(_)) => unknown.push(number),
                Err(PgError::NotSent(_)) => undone.push(number),
                Err(error @ PgError::CancelledByNeighbour { .. }) => {
                    assert!(error.is_safe_to_retry(), "{error}");
                    undone.push(number);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    let rows = db.query("select x from t order by x", &[]).unwrap();
    let there: Vec<i32> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert!(there.windows(2).all(|pair| pair[0] < pair[1]), "doubled");
    assert!(done.iter().all(|number| there.binary_search(number).is_ok()), "lost");
    assert!(undone.iter().all(|number| there.binary_search(number).is_err()), "done all the same");
    assert!(!done.is_empty() && !unknown.is_empty());
    assert_usable(&mut db);
}
