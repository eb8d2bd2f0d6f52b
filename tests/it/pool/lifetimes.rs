//! How long connections live, and how many there are.

use std::collections::BTreeSet;

use chopin_pg::{Delivery, PgError, Request, SqlState};

use super::*;

#[test]
fn s3_3_s3_12_s3_16_idle_and_old_connections_are_closed() {
    let config = PgPoolConfig::new().max_size(3).min_size(1);
    let pool = pool(config.idle_timeout(Some(Duration::from_millis(40))));
    let mut event_loop = Loop::new(&pool);
    let guards = [event_loop.acquire(), event_loop.acquire(), event_loop.acquire()];
    drop(guards);
    assert_eq!(pool.reap(), 0, "not yet");
    event_loop.until(|stats| stats.size == 1);
    assert_eq!(pool.stats().expired, 2, "all but min_size");

    let pool = super::pool(PgPoolConfig::new().max_lifetime(Some(Duration::from_millis(50))));
    let mut event_loop = Loop::new(&pool);
    let guard = event_loop.acquire();
    event_loop.until(|stats| stats.in_use == 1);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(pool.pool_size(), 1, "it is in use");
    drop(guard);
    assert_eq!(pool.pool_size(), 0, "closed when it comes back");
}

/// A connection that has its next request before it has answered the one before is never idle.
#[test]
fn s3_16_a_connection_that_is_never_idle_grows_old_too() {
    let lifetime = Duration::from_millis(100);
    let pool = pool(PgPoolConfig::new().max_size(1).max_lifetime(Some(lifetime)));
    let mut event_loop = Loop::new(&pool);
    let ask = || pool.submit("select pg_backend_pid(), pg_sleep(0.005)", ()).expect("room");
    let mut asked = vec![ask(), ask(), ask()];
    let mut pids = BTreeSet::new();
    // The loop's own limit is there if that never comes.
    while pids.len() < 4 {
        for event in event_loop.events(1) {
            let PoolEvent::Complete { ticket, outcome } = event else { panic!("{event:?}") };
            assert_eq!(ticket, asked.remove(0), "who asks first is served first");
            pids.insert(outcome.into_rows()[0].get::<i32>(0).unwrap());
            asked.push(ask());
        }
    }
    let stats = pool.stats();
    assert_eq!((stats.expired, stats.broken), (3, 0));
}

#[test]
fn s3_2_min_size_is_kept_up() {
    let pool = pool(PgPoolConfig::new().max_size(4).min_size(2));
    let mut event_loop = Loop::new(&pool);
    event_loop.until(|stats| stats.idle == 2);
    let mut guard = event_loop.acquire();
    terminate(pid(&mut guard));
    drop(guard);
    event_loop.until(|stats| stats.connections_created == 3 && stats.idle == 2);
    let guard = event_loop.acquire();
    ConnectionGuard::close(guard);
    event_loop.until(|stats| stats.connections_created == 4 && stats.idle == 2);
}

#[test]
fn s3_18_s10_14_the_pool_is_resized_at_run_time() {
    let pool = pool(PgPoolConfig::new().max_size(1));
    let first = pool.get().unwrap();
    assert!(matches!(pool.get().unwrap_err(), PgError::PoolExhausted(_)));
    pool.set_max_size(3);
    let (second, third) = (pool.get().unwrap(), pool.get().unwrap());
    assert_eq!(pool.pool_size(), 3);
    drop(third);
    pool.set_max_size(1);
    assert_eq!(pool.pool_size(), 2, "the idle one is closed at once");
    drop(second);
    assert_eq!(pool.pool_size(), 1, "another when it comes back");
    drop(first);
    assert_eq!((pool.pool_size(), pool.idle_connections()), (1, 1));
    assert_usable(&mut pool.get().unwrap());
}

#[test]
fn s3_13_close_all_is_graceful() {
    let pool = pool(PgPoolConfig::new().max_size(4));
    let mut event_loop = Loop::new(&pool);
    let mut guard = event_loop.acquire();
    let slow = pool.submit("select pg_sleep(0.05)", ()).unwrap();
    event_loop.until(|stats| stats.multiplexed == 1);
    let error = pool.close_all(LONG).unwrap_err();
    assert!(matches!(error, PgError::PoolTimeout(_)), "{error}");
    assert!(error.to_string().contains("1 under guards"), "{error}");
    assert!(
        matches!(pool.next_event(), Some(PoolEvent::Complete { ticket, .. }) if ticket == slow)
    );
    for error in [
        pool.get().unwrap_err(),
        pool.try_get().unwrap_err(),
        pool.acquire().unwrap_err(),
        pool.submit("select 1", ()).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "no connection from the pool: the pool was closed");
    }
    assert_usable(&mut guard);
    assert!(!pool.is_closed());
    drop(guard);
    assert!(pool.is_closed());
}

#[test]
fn s3_13_start_close_gives_requests_up_at_its_deadline() {
    let pool = pool(PgPoolConfig::new().max_size(1));
    let mut event_loop = Loop::new(&pool);
    let slow = pool.submit("select pg_sleep(20)", ()).unwrap();
    event_loop.until(|stats| stats.multiplexed == 1);
    let waits = pool.acquire().unwrap();
    pool.start_close(Instant::now().checked_add(Duration::from_millis(30)));
    let events = event_loop.events(2);
    assert!(matches!(
        &events[..],
        [
            PoolEvent::AcquireFailed { ticket, error: PgError::PoolExhausted(_) },
            PoolEvent::Failed { ticket: given_up, error: PgError::ConnectionClosed(why) },
        ] if *ticket == waits && *given_up == slow && why.contains("it is unknown what became")
    ));
    assert!(pool.is_closed());
}

#[test]
fn b24_hooks_are_called_with_the_connection() {
    let config = PgPoolConfig::new()
        .max_size(1)
        .after_connect(|connection| {
            let sql = "set application_name = 'by the hook'";
            connection.submit(Request::Simple { sql }, Delivery::Collect).map(|_ticket| ())
        })
        .before_checkout(|connection| match connection.server_param("application_name") {
            Some("by the hook") => Ok(()),
            other => Err(PgError::Usage(format!("not prepared: {other:?}"))),
        })
        .after_return(|connection| match connection.server_param("application_name") {
            Some("spoilt") => Err(PgError::Usage("spoilt".to_owned())),
            _ => Ok(()),
        });
    let pool = pool(config);
    let mut guard = pool.get().unwrap();
    let first = pid(&mut guard);
    drop(guard);
    let mut guard = pool.get().unwrap();
    assert_eq!(pid(&mut guard), first);
    guard.execute("set application_name = 'spoilt'", &[]).unwrap();
    drop(guard);
    let mut guard = pool.get().unwrap();
    assert_ne!(pid(&mut guard), first);

    // What the hook has submitted fails: so does the connect.
    let pool = super::pool(PgPoolConfig::new().after_connect(|connection| {
        let request = Request::Simple { sql: "set no_such_setting = 1" };
        connection.submit(request, Delivery::Collect).map(|_ticket| ())
    }));
    let error = pool.get().unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_OBJECT), "{error}");
}

#[test]
fn s3_1_s3_5_s8_3d_settings() {
    let config = PgPoolConfig::new()
        .max_size(7)
        .min_size(2)
        .max_lifetime(None)
        .idle_timeout(Some(Duration::from_secs(1)))
        .checkout_timeout(Duration::from_secs(2))
        .connection_timeout(Some(Duration::from_millis(70)))
        .test_on_checkout(true)
        .validation_query("select 1")
        .auto_reconnect(false);
    assert_eq!((config.get_max_size(), config.get_min_size()), (7, 2));
    assert_eq!(
        (config.get_max_lifetime(), config.get_idle_timeout()),
        (None, Some(Duration::from_secs(1)))
    );
    assert_eq!(config.get_checkout_timeout(), Duration::from_secs(2));
    assert!(config.get_test_on_checkout() && !config.get_auto_reconnect());
    assert_eq!(config.get_validation_query(), Some("select 1"));
    for wrong in [PgPoolConfig::new().max_size(0), PgPoolConfig::new().max_size(1).min_size(2)] {
        let error = PgPool::new(unix_config(), wrong).unwrap_err();
        assert!(matches!(error, PgError::Config(_)), "{error}");
    }
    // connection_timeout, against a server that says nothing.
    let server = testkit::fake::FakeServer::start(|conn| {
        conn.startup()?;
        conn.expect_eof()
    });
    let error = PgPool::connect_with_config(fake_config(&server), config.min_size(0)).unwrap_err();
    assert!(error.to_string().contains("connect_timeout = 70 ms"), "{error}");
    server.join();
}

#[test]
fn b24_init_pool_is_for_its_thread() {
    let none = chopin_pg::pool().get().unwrap_err();
    assert_eq!(
        none.to_string(),
        "no connection from the pool: this thread has no pool: call init_pool first"
    );
    let url = testkit::shared().url(testkit::shared().superuser(), None, "postgres");
    let own = url.clone();
    let worker = std::thread::spawn(move || {
        /// Uses the pool while the thread ends.
        struct AtExit;
        impl Drop for AtExit {
            fn drop(&mut self) {
                let pool = chopin_pg::pool();
                let result = pool.get().map(|mut guard| pid(&mut guard));
                assert!(matches!(result, Ok(_) | Err(PgError::PoolExhausted(_))));
            }
        }
        thread_local!(static AT_EXIT: AtExit = const { AtExit });
        AT_EXIT.with(|_| ());
        chopin_pg::init_pool(&own, 2).unwrap();
        let twice = chopin_pg::init_pool(&own, 2).unwrap_err();
        assert_eq!(twice.to_string(), "refused: this thread has a pool already");
        let mut guard = chopin_pg::pool().get().unwrap();
        assert_usable(&mut guard);
        pid(&mut guard)
    });
    let pid = worker.join().unwrap();
    let mut other = connect();
    let is_there = "select count(*) from pg_stat_activity where pid = $1";
    while other.query_one(is_there, &[&pid]).unwrap().get::<i64>(0).unwrap() > 0 {}
    assert!(chopin_pg::pool().get().is_err(), "it was that thread's");
}
