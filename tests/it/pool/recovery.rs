//! Servers that restart, and sessions that are ended.

use std::collections::HashMap;

use chopin_pg::PgError;
use rand::{Rng, SeedableRng, rngs::StdRng};
use testkit::{Cluster, Shutdown};

use super::*;

/// Takes long enough for the server to be ended in between.
const INSERT: &str = "insert into numbers select $1 from pg_sleep(0.002)";

/// What became of requests that insert their own numbers.
#[derive(Debug, Default)]
struct Outcomes {
    done: Vec<i32>,
    failed: Vec<i32>,
    /// Surely not done.
    not_done: Vec<i32>,
}

/// Keeps 50 inserts in flight until `total` have ended; `disturb` is called with how many have.
fn run_inserts(event_loop: &mut Loop, total: i32, mut disturb: impl FnMut(usize)) -> Outcomes {
    let (mut open, mut next) = (HashMap::new(), 0);
    let mut outcomes = Outcomes::default();
    let ended =
        |outcomes: &Outcomes| outcomes.done.len() + outcomes.failed.len() + outcomes.not_done.len();
    while ended(&outcomes) < usize::try_from(total).unwrap() {
        while next < total && open.len() < 50 {
            let ticket = event_loop.pool.submit(INSERT, (next,)).unwrap();
            assert!(open.insert(ticket, next).is_none());
            next += 1;
        }
        for event in event_loop.turn() {
            match event {
                PoolEvent::Complete { ticket, .. } => {
                    outcomes.done.push(open.remove(&ticket).expect("one answer for each"));
                }
                PoolEvent::Failed { ticket, error } => {
                    let number = open.remove(&ticket).expect("one answer for each");
                    match error.is_safe_to_retry() {
                        true => outcomes.not_done.push(number),
                        false => outcomes.failed.push(number),
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        event_loop.pool.flush();
        disturb(ended(&outcomes));
        event_loop.wait();
    }
    assert!(open.is_empty());
    outcomes
}

/// What the server has is what was reported: all that was done, nothing that surely was not, and
/// nothing twice.
fn check_inserts(target: &PgConfig, outcomes: &Outcomes) {
    let mut db = chopin_pg::PgConnection::connect(target).unwrap();
    let rows = db.query("select n, count(*) from numbers group by n", &[]).unwrap();
    let there: HashMap<i32, i64> = rows.iter().map(|row| row.to().unwrap()).collect();
    assert!(there.values().all(|count| *count == 1), "nothing is done twice");
    assert!(outcomes.done.iter().all(|number| there.contains_key(number)));
    assert!(!outcomes.not_done.iter().any(|number| there.contains_key(number)), "{outcomes:?}");
}

fn cluster_config(server: &Cluster) -> PgConfig {
    let folder = server.socket_dir().to_str().unwrap();
    PgConfig::new(folder, server.port(), server.superuser(), "", "postgres")
}

#[test]
fn h28_b24_a_restart_of_the_server_under_load() {
    let server = Cluster::builder().start().unwrap();
    let target = cluster_config(&server);
    let mut db = chopin_pg::PgConnection::connect(&target).unwrap();
    db.execute_batch("create table numbers (n int)").unwrap();
    drop(db);
    let config = PgPoolConfig::new().max_size(4).min_size(4);
    let pool = PgPool::new(target.clone(), config).unwrap();
    let mut event_loop = Loop::new(&pool);
    event_loop.until(|stats| stats.idle == 4);
    let mut is_restarted = false;
    let outcomes = run_inserts(&mut event_loop, 1_500, |ended| {
        if ended >= 500 && !is_restarted {
            is_restarted = true;
            server.stop(Shutdown::Immediate).unwrap();
            server.restart().unwrap();
        }
    });
    event_loop.until(|stats| stats.idle == 4);
    check_inserts(&target, &outcomes);
    assert!(outcomes.done.len() > 1_000, "it goes on by itself: {}", outcomes.done.len());
    assert!(!outcomes.failed.is_empty(), "those in flight fail once");
}

#[test]
fn h28_b24_random_ends_of_sessions_under_load() {
    let server = testkit::shared();
    let target = unix_config().application_name("h28_b24_random_ends");
    let mut db = chopin_pg::PgConnection::connect(&target).unwrap();
    server.create_database("h28_b24_random_ends").unwrap();
    let target = target.database("h28_b24_random_ends");
    let mut setup = chopin_pg::PgConnection::connect(&target).unwrap();
    setup.execute_batch("create table numbers (n int)").unwrap();
    drop(setup);
    let config = PgPoolConfig::new().max_size(4).min_size(4);
    let pool = PgPool::new(target.clone(), config).unwrap();
    let mut event_loop = Loop::new(&pool);
    let mut random = StdRng::seed_from_u64(2_028);
    let mut kills = 0;
    let outcomes = run_inserts(&mut event_loop, 1_500, |_| {
        if random.random_ratio(1, 8) {
            let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
                 where datname = 'h28_b24_random_ends' order by random() limit 1";
            kills += db.query(sql, &[]).unwrap().len();
        }
    });
    assert!(kills > 5);
    event_loop.until(|stats| stats.idle == 4);
    check_inserts(&target, &outcomes);
    assert!(outcomes.done.len() > 200, "{}", outcomes.done.len());
}

#[test]
fn h19_b24_failed_connects_are_repeated_with_growing_pauses() {
    // Refused for now: nobody may be told that it is for good.
    let server = testkit::fake::FakeServer::start(|conn| {
        conn.startup()?;
        conn.send(&testkit::frames::error_response(&[
            (b'S', "FATAL"),
            (b'V', "FATAL"),
            (b'C', "57P03"),
            (b'M', "the database system is starting up"),
        ]))?;
        conn.hang_up()
    });
    let config = PgPoolConfig::new().max_size(2).checkout_timeout(Duration::from_millis(300));
    let pool = PgPool::new(fake_config(&server), config).unwrap();
    let error = pool.get().unwrap_err();
    assert!(matches!(error, PgError::PoolTimeout(_)), "{error}");
    assert!(error.to_string().contains("the last attempt to connect failed"), "{error}");
    assert!(error.to_string().contains("the database system is starting up"), "{error}");
    let failures = pool.stats().connect_failures;
    assert!((2..40).contains(&failures), "pauses between {failures} attempts");
    drop(pool);
    server.join();
}

#[test]
fn b24_a_transaction_that_is_left_open_by_a_request_breaks_its_connection() {
    let server = testkit::fake::FakeServer::start(|conn| {
        conn.login()?;
        conn.answer_extended(&testkit::fake::Answer::command("SELECT 0").status(b'T'))?;
        conn.drain()
    });
    let pool = PgPool::new(fake_config(&server), PgPoolConfig::new().max_size(1)).unwrap();
    let mut event_loop = Loop::new(&pool);
    let first = pool.submit("select open_a_transaction()", ()).unwrap();
    let second = pool.submit("select 'follows'", ()).unwrap();
    let events = event_loop.events(2);
    let told: Vec<_> = events
        .iter()
        .map(|event| match event {
            PoolEvent::Failed { ticket, error: PgError::ConnectionClosed(why) } => {
                (*ticket, &**why)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((told[0].0, told[1].0), (first, second));
    assert!(told[0].1.starts_with("this request has left a transaction open"), "{told:?}");
    assert!(told[1].1.starts_with("a submitted request before this one has left"), "{told:?}");
    assert!(told[1].1.contains("it is unknown what became"), "{told:?}");
    drop(pool);
    drop(event_loop);
    server.join();
}
