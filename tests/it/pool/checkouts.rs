//! Getting a connection, and giving it back.

use chopin_pg::{PgError, ResetPolicy, SqlState};

use super::*;

#[test]
fn s3_9_s3_10_s3_11_s3_17_s10_15_h27_all_are_held() {
    let pool = pool(PgPoolConfig::new().max_size(2));
    let mut first = pool.get().unwrap();
    let mut second = pool.get().unwrap();
    assert_ne!(pid(&mut first), pid(&mut second), "two guards at a time");
    assert_eq!((pool.pool_size(), pool.active_connections(), pool.idle_connections()), (2, 2, 0));

    for error in [pool.get().unwrap_err(), pool.try_get().unwrap_err()] {
        assert_eq!(
            error.to_string(),
            "no connection from the pool: waiting would bring none: 2 of at most 2 \
             connections are open, \
             2 under guards"
        );
        assert!(matches!(error, PgError::PoolExhausted(_)));
    }
    assert_eq!(pool.stats().checkout_timeouts, 0, "at once");

    let given_back = pid(&mut first);
    drop(first);
    assert_eq!((pool.active_connections(), pool.idle_connections()), (1, 1));
    let mut again = pool.try_get().unwrap();
    assert_eq!(pid(&mut again), given_back);
    let stats = pool.stats();
    assert_eq!((stats.checkouts, stats.returns, stats.exhausted), (3, 1, 2));
    assert_eq!((stats.most_size, stats.most_in_use), (2, 2));
}

#[test]
fn s3_9_try_get_never_waits() {
    let pool = pool(PgPoolConfig::new().max_size(1));
    let error = pool.try_get().unwrap_err();
    assert!(matches!(error, PgError::WouldBlock), "{error}: a connect is under way");
    let mut event_loop = Loop::new(&pool);
    event_loop.until(|stats| stats.idle == 1);
    let mut guard = pool.try_get().unwrap();
    assert_usable(&mut guard);
    assert!(matches!(pool.try_get().unwrap_err(), PgError::PoolExhausted(_)));
    // A reset is under way.
    guard.begin().unwrap();
    drop(guard);
    // (On a busy machine it may be over already.)
    let tried = pool.try_get();
    assert!(matches!(tried, Ok(_) | Err(PgError::WouldBlock)), "{tried:?}");
    drop(tried);
    event_loop.until(|stats| stats.idle == 1);
    let mut guard = pool.try_get().unwrap();
    assert_eq!(guard.transaction_status(), TransactionStatus::Idle);
    assert_usable(&mut guard);
}

#[test]
fn s3_19_s10_2_s3_7_h28_dead_connections_are_replaced() {
    let pool = pool(PgPoolConfig::new().max_size(1));
    let mut guard = pool.get().unwrap();
    let dead = pid(&mut guard);
    terminate(dead);
    let error = guard.query("select 1", &[]).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::ADMIN_SHUTDOWN));
    drop(guard);
    assert_eq!((pool.pool_size(), pool.stats().broken), (0, 1), "thrown away on return");

    let mut guard = pool.get().unwrap();
    let next = pid(&mut guard);
    assert_ne!(next, dead);
    drop(guard);
    terminate(next);
    let mut guard = pool.get().unwrap();
    assert_ne!(pid(&mut guard), next, "found dead at the checkout");
    assert_usable(&mut guard);
}

#[test]
fn s3_7_s3_6_without_auto_reconnect_a_dead_one_is_an_error() {
    let pool = pool(PgPoolConfig::new().max_size(1).auto_reconnect(false));
    let dead = pid(&mut pool.get().unwrap());
    terminate(dead);
    let error = pool.get().unwrap_err();
    assert!(matches!(error, PgError::PoolValidationFailed(_)), "{error}");
    assert_usable(&mut pool.get().unwrap());
}

#[test]
fn s3_6_connections_are_tested_at_the_checkout() {
    let seen =
        "select count(*) from pg_stat_activity where pid = $1 and query = 'select ''alive'''";
    let config = PgPoolConfig::new().max_size(1).test_on_checkout(true);
    let pool = pool(config.validation_query("select 'alive'"));
    let pid = pid(&mut pool.get().unwrap());
    let guard = pool.get().unwrap();
    let count: i64 = connect().query_one(seen, &[&pid]).unwrap().get(0).unwrap();
    assert_eq!(count, 1, "it was the last thing that the session was asked");
    drop(guard);
}

#[test]
fn s3_4_s3_10_the_checkout_timeout_is_an_error_that_says_why() {
    // A server that accepts and says nothing.
    let server = testkit::fake::FakeServer::start(|conn| {
        conn.startup()?;
        conn.expect_eof()
    });
    let config = PgPoolConfig::new().max_size(1).checkout_timeout(Duration::from_millis(60));
    let pool = PgPool::new(fake_config(&server), config).unwrap();
    let error = pool.get().unwrap_err();
    assert_eq!(
        error.to_string(),
        "timed out waiting for a pooled connection: checkout_timeout = 60 ms: 1 of at most 1 \
         connections are open, 1 being opened or checked"
    );
    assert_eq!(pool.stats().checkout_timeouts, 1);
    drop(pool);
    server.join();
}

#[test]
fn s3_15_connect_tells_at_once_what_is_wrong() {
    let wrong = unix_config().database("no_such_database");
    let error = PgPool::connect(wrong.clone(), 3).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_CATALOG_NAME), "{error}");
    // So does the first checkout of a pool that opens its connections later.
    let pool = PgPool::new(wrong, PgPoolConfig::new()).unwrap();
    let error = pool.get().unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_CATALOG_NAME), "{error}");
    assert_eq!(pool.stats().connect_failures, 1);

    let eager =
        PgPool::connect_with_config(unix_config(), PgPoolConfig::new().min_size(3)).unwrap();
    assert_eq!((eager.pool_size(), eager.idle_connections()), (3, 3));
    assert_eq!(PgPool::connect(unix_config(), 3).unwrap().idle_connections(), 1);
}

#[test]
fn s3_14_b24_a_forgotten_guard_costs_its_place() {
    let pool = pool(PgPoolConfig::new().max_size(2).reset_policy(ResetPolicy::DiscardAll));
    std::mem::forget(pool.get().unwrap());
    let mut other = pool.get().unwrap();
    assert_usable(&mut other);
    assert!(matches!(pool.get().unwrap_err(), PgError::PoolExhausted(_)));
    drop(other);
    assert_usable(&mut pool.get().unwrap());
    assert_eq!(pool.stats().in_use, 1);
}

#[test]
fn s3_8_s8_5_idle_connections_are_used_in_turn() {
    let pool = pool(PgPoolConfig::new().max_size(3));
    let mut guards = [pool.get().unwrap(), pool.get().unwrap(), pool.get().unwrap()];
    let pids = guards.each_mut().map(pid);
    let [first, second, third] = guards;
    // The one that came back first is the next one, so that none of them rots.
    drop(second);
    drop(third);
    drop(first);
    for expected in [pids[1], pids[2], pids[0], pids[1], pids[2], pids[0]] {
        let mut guard = pool.get().unwrap();
        assert_eq!(pid(&mut guard), expected);
        let text: String = guard.query_one("select $1 || '!'", &[&"own"]).unwrap().get(0).unwrap();
        assert_eq!(text, "own!");
    }
    let stats = pool.stats();
    assert_eq!((stats.connections_created, stats.checkouts, stats.returns), (3, 9, 9));
}

/// How often this thread has given up the processor because it waited for something.
fn waits() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("Linux counts them").trim().parse().unwrap()
}

#[test]
fn h27_calls_that_do_not_block_never_wait() {
    // A server that lets in, and then says nothing more; and one that never says anything.
    let answers_logins = testkit::fake::FakeServer::start(|conn| {
        conn.login()?;
        conn.drain()
    });
    let silent = testkit::fake::FakeServer::start(|conn| {
        conn.startup()?;
        conn.drain()
    });
    for server in [&answers_logins, &silent] {
        let config = PgPoolConfig::new().max_size(3).max_waiting(10_000);
        let pool = PgPool::new(fake_config(server), config.test_on_checkout(true)).unwrap();
        let mut event_loop = Loop::new(&pool);
        assert!(matches!(pool.try_get().unwrap_err(), PgError::WouldBlock));
        event_loop.wait();
        let before = waits();
        for _ in 0..1_000 {
            // One that has just logged in needs no check.
            let tried = pool.try_get();
            assert!(matches!(tried, Ok(_) | Err(PgError::WouldBlock)), "{tried:?}");
            drop(tried);
            let _acquired = pool.acquire().unwrap();
            let _submitted = pool.submit("select 1", ()).unwrap();
            event_loop.turn();
            let epoll = &event_loop.epoll;
            pool.update_sources(|change| watch(epoll, change)).unwrap();
            pool.reap();
        }
        pool.start_close(Some(Instant::now()));
        event_loop.turn();
        assert!(waits() - before < 20, "{} waits in 6,000 calls", waits() - before);
        assert!(pool.is_closed());
    }
    answers_logins.join();
    silent.join();
}
