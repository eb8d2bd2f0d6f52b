//! Servers that vanish without a word.

use std::collections::HashSet;

use chopin_pg::pool::PoolTicket;
use chopin_pg::{Deadline, PgError};
use testkit::transport::{Policy, Relay};

use super::*;

const SHORT: Duration = Duration::from_millis(50);

/// A way to the shared server that can fall silent.
fn way() -> Relay {
    Relay::start(testkit::shared().tcp(), Policy::default())
}

/// A pool of connections to the shared server through a relay.
fn pool_through(relay: &Relay, config: PgPoolConfig) -> PgPool {
    let target = crate::support::config().host("127.0.0.1").port(relay.port());
    let target = target.connect_timeout(Some(LONG));
    let target = target.io_timeout(10 * SHORT).drain_timeout(2 * SHORT);
    PgPool::new(target, config).expect("settings that make sense")
}

/// Opens so many connections, and gives them back in this order.
fn open(pool: &PgPool, count: usize) {
    let guards: Vec<_> = (0..count).map(|_| pool.get().unwrap()).collect();
    guards.into_iter().for_each(drop);
    assert_eq!(pool.idle_connections(), count);
}

#[test]
fn h26_b24_requests_of_many_fail_once_each_and_the_connection_is_replaced() {
    let relay = way();
    let pool = pool_through(&relay, PgPoolConfig::new().max_size(1));
    open(&pool, 1);
    relay.silence();
    let mut event_loop = Loop::new(&pool);
    let mut open: HashSet<PoolTicket> =
        (0..5).map(|number| pool.submit("select $1 + 0", (number,)).unwrap()).collect();
    for event in event_loop.events(5) {
        let PoolEvent::Failed { ticket, error } = event else { panic!("{event:?}") };
        assert!(open.remove(&ticket), "one error for each");
        assert!(matches!(error, PgError::Timeout(_)), "{error}");
        assert!(!error.is_safe_to_retry());
    }
    assert!(open.is_empty());

    // While the late answers are awaited nothing is put on that connection: this one is done by the
    // next.
    assert_eq!(pool.pool_size(), 1);
    let patient = Deadline::after(Instant::now(), "patience", LONG);
    let next = pool.submit_until("select $1 || '!'", ("next",), patient).unwrap();
    match event_loop.event() {
        PoolEvent::Complete { ticket, outcome } if ticket == next => {
            assert_eq!(outcome.into_rows()[0].get::<&str>(0).unwrap(), "next!");
        }
        other => panic!("{other:?}"),
    }
    let stats = pool.stats();
    assert_eq!((stats.broken, stats.connections_created, stats.size), (1, 2, 1));
}

#[test]
fn h26_a_guard_whose_server_vanished_is_replaced() {
    let relay = way();
    let pool = pool_through(&relay, PgPoolConfig::new().max_size(1));
    let mut guard = pool.get().unwrap();
    assert_usable(&mut guard);
    relay.silence();
    let error = guard.query("select 1", &[]).unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    drop(guard);
    let mut guard = pool.get().unwrap();
    assert_usable(&mut guard);
    let stats = pool.stats();
    assert_eq!((stats.connections_created, stats.connections_closed), (2, 1));
}

/// Eight connections whose server vanished while they were idle. One is asked, for as long as
/// `validation_timeout` says; then another one is opened, whatever becomes of the others. There is not
/// the time to ask one after the other.
fn h26_s3_6_an_idle_connection_whose_server_vanished_is_not_given_out(face: Face) {
    let relay = way();
    let config = PgPoolConfig::new().max_size(8).test_on_checkout(true);
    let config = config.validation_timeout(10 * SHORT).checkout_timeout(60 * SHORT);
    let pool = pool_through(&relay, config);
    open(&pool, 8);
    relay.silence();
    let mut event_loop = Loop::new(&pool);
    let mut guard = match face {
        Face::Blocking => pool.get().unwrap(),
        Face::NonBlocking => event_loop.acquire(),
    };
    assert_usable(&mut guard);
    // The others were asked at the same time, and are gone too.
    event_loop.until(|stats| stats.size == 1);
    let stats = pool.stats();
    assert_eq!((stats.broken, stats.connections_created, stats.in_use), (8, 9, 1));
}

/// One of two connections has lost its server: the other one proves that it has not.
fn h26_s3_6_a_doubted_connection_that_answers_is_kept(face: Face) {
    let relay = way();
    let config = PgPoolConfig::new().max_size(2).test_on_checkout(true).checkout_timeout(LONG);
    let pool = pool_through(&relay, config.validation_timeout(10 * SHORT));
    let silent = pool.get().unwrap();
    relay.silence();
    let mut sound = pool.get().unwrap();
    let sound_pid = pid(&mut sound);
    drop(silent);
    drop(sound);
    let mut event_loop = Loop::new(&pool);
    let guard = match face {
        Face::Blocking => pool.get().unwrap(),
        Face::NonBlocking => event_loop.acquire(),
    };
    event_loop.until(|stats| stats.connecting == 0);
    let mut guards = vec![guard];
    guards.extend(pool.try_get());
    assert!(guards.iter_mut().any(|guard| pid(guard) == sound_pid));
    guards.iter_mut().for_each(|guard| assert_usable(guard));
    assert_eq!(pool.stats().broken, 1);
}

on_both_faces!(
    h26_s3_6_an_idle_connection_whose_server_vanished_is_not_given_out,
    h26_s3_6_a_doubted_connection_that_answers_is_kept,
);

#[test]
fn h26_s3_6_a_check_leaves_time_for_another_connection() {
    let relay = way();
    let config = PgPoolConfig::new().max_size(1).test_on_checkout(true);
    // The check has half of this.
    let config = config.checkout_timeout(20 * SHORT).validation_timeout(LONG);
    let pool = pool_through(&relay, config);
    open(&pool, 1);
    relay.silence();
    assert_usable(&mut pool.get().unwrap());
}

#[test]
fn h26_s3_7_without_auto_reconnect_a_check_in_vain_is_an_error() {
    let relay = way();
    let config = PgPoolConfig::new().max_size(1).test_on_checkout(true).auto_reconnect(false);
    let pool = pool_through(&relay, config.validation_timeout(SHORT));
    open(&pool, 1);
    relay.silence();
    let error = pool.get().unwrap_err();
    assert!(matches!(error, PgError::PoolValidationFailed(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "pooled connection failed its check: a connection was found dead when it was to be given out, \
         and auto_reconnect is off: timed out after 50 ms while waiting for the answer to a query \
         (validation_timeout = 50 ms)"
    );
    assert_usable(&mut pool.get().unwrap());
}

#[test]
fn s3_6_a_validation_timeout_of_zero_is_refused() {
    let config = PgPoolConfig::new().validation_timeout(Duration::ZERO);
    let error = PgPool::new(unix_config(), config).unwrap_err();
    assert!(error.to_string().contains("validation_timeout is zero"), "{error}");
    assert_eq!(PgPoolConfig::new().get_validation_timeout(), Duration::from_secs(1));
}
