//! Requests of many tasks on few connections.

use std::collections::HashMap;

use chopin_pg::PgError;

use super::*;

#[test]
fn b24_requests_of_many_share_connections_and_get_their_own_answers() {
    let pool = pool(PgPoolConfig::new().max_size(3).multiplex_window(8));
    let mut event_loop = Loop::new(&pool);
    let (mut expected, mut next, mut done) = (HashMap::new(), 0, 0);
    while done < 3_000 {
        while next < 3_000 && expected.len() < 100 {
            let ticket = match next % 3 {
                0 => pool.submit("select $1 || '!'", (next.to_string(),)).unwrap(),
                1 => pool.submit("select ($1 + 0)::text || '!'", (next,)).unwrap(),
                _ => pool.submit("select 1 / ($1 - $1)", (next,)).unwrap(),
            };
            expected.insert(ticket, next);
            next += 1;
        }
        for event in event_loop.turn() {
            match event {
                PoolEvent::Complete { ticket, outcome } => {
                    let number = expected.remove(&ticket).expect("its own ticket");
                    let text: String = outcome.into_rows()[0].get(0).unwrap();
                    assert_eq!(text, format!("{number}!"));
                }
                PoolEvent::Failed { ticket, error } => {
                    let number = expected.remove(&ticket).expect("its own ticket");
                    assert_eq!(number % 3, 2, "{error}");
                    assert_eq!(error.sql_state(), Some(chopin_pg::SqlState::DIVISION_BY_ZERO));
                }
                other => panic!("{other:?}"),
            }
            done += 1;
        }
        event_loop.wait();
    }
    let stats = pool.stats();
    assert_eq!((stats.size, stats.requests), (3, 3_000));
    assert!(stats.most_queued_requests >= 100 - 3 * 8, "{stats:?}");
    event_loop.until(|stats| stats.idle == 3);
}

#[test]
fn b24_what_changes_the_session_is_refused() {
    let pool = pool(PgPoolConfig::new());
    for sql in [
        "begin",
        " start transaction",
        "COMMIT",
        "end",
        "rollback",
        "abort",
        "savepoint a",
        "release a",
        "prepare p as select 1",
        "execute p",
        "declare c cursor for select 1",
        "listen c",
        "unlisten c",
        "set a = b",
        "reset all",
        "copy t from stdin",
        "discard all",
        "deallocate all",
        "-- x\rset a = b",
        "load 'x'",
        "/* a /* b */ */ -- c\n (; set x to y",
    ] {
        let error = pool.submit(sql, ()).unwrap_err();
        assert!(matches!(error, PgError::Usage(_)), "{sql}: {error}");
        assert!(error.to_string().contains("acquire() or get()"), "{error}");
    }
    let mut event_loop = Loop::new(&pool);
    let ticket = pool.submit("(select 'settled' as setting)", ()).unwrap();
    let event = event_loop.event();
    assert!(matches!(event, PoolEvent::Complete { ticket: own, .. } if own == ticket));
}

#[test]
fn b24_requests_and_waiters_are_served_in_the_order_in_which_they_came() {
    let pool = pool(PgPoolConfig::new().max_size(1));
    let mut event_loop = Loop::new(&pool);
    let mut held = event_loop.acquire();
    // All wait: nobody may starve, whichever kind it is.
    let mut expected = Vec::new();
    for _ in 0..3 {
        expected.push(format!("{:?}", pool.submit("select 'request'", ()).unwrap()));
        expected.push(format!("{:?}", pool.acquire().unwrap()));
    }
    let mut came = Vec::new();
    while came.len() < expected.len() {
        drop(held);
        held = 'acquired: loop {
            let mut acquired = None;
            for event in event_loop.events(1) {
                match event {
                    PoolEvent::Complete { ticket, .. } => came.push(format!("{ticket:?}")),
                    PoolEvent::Acquired { ticket, guard } => {
                        came.push(format!("{ticket:?}"));
                        acquired = Some(guard);
                    }
                    PoolEvent::GuardReady { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            if let Some(guard) = acquired {
                break 'acquired guard;
            }
        };
    }
    // Requests that wait go together, as they share a connection.
    let requests = |told: &[String]| -> Vec<String> {
        told.iter().filter(|ticket| ticket.starts_with("Pool")).cloned().collect()
    };
    assert_eq!(requests(&came), requests(&expected));
    assert_eq!(came.first(), expected.first());
    came.retain(|ticket| ticket.starts_with("Acquire"));
    expected.retain(|ticket| ticket.starts_with("Acquire"));
    assert_eq!(came, expected);
}

#[test]
fn b24_somebody_who_waits_gets_one_of_the_connections_that_carry_requests() {
    let pool = pool(PgPoolConfig::new().max_size(2).multiplex_window(4));
    let mut event_loop = Loop::new(&pool);
    let keep_busy = |pool: &PgPool, in_flight: &mut usize| {
        while *in_flight < 16 {
            let _ticket = pool.submit("select 1", ()).unwrap();
            *in_flight += 1;
        }
    };
    let mut in_flight = 0;
    keep_busy(&pool, &mut in_flight);
    while pool.stats().multiplexed < 2 {
        in_flight -= event_loop.events(1).len();
        keep_busy(&pool, &mut in_flight);
    }
    let asked = pool.acquire().unwrap();
    let guard = 'acquired: loop {
        keep_busy(&pool, &mut in_flight);
        for event in event_loop.events(1) {
            match event {
                PoolEvent::Complete { .. } => in_flight -= 1,
                PoolEvent::Acquired { ticket, guard } if ticket == asked => break 'acquired guard,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(pool.stats().in_use, 1);
    drop(guard);
}

#[test]
fn b24_a_request_that_nobody_wants_tells_nothing() {
    let pool = pool(PgPoolConfig::new().max_size(1).multiplex_window(1));
    let mut event_loop = Loop::new(&pool);
    event_loop.pool.drive(Instant::now());
    let tickets: Vec<_> = (0..3).map(|n| pool.submit("select $1::int4", (n,)).unwrap()).collect();
    event_loop.until(|stats| stats.multiplexed == 1);
    // The one that is in flight, and one that waits.
    pool.discard(tickets[0]);
    pool.discard(tickets[1]);
    match event_loop.event() {
        PoolEvent::Complete { ticket, outcome } => {
            assert_eq!(ticket, tickets[2]);
            assert_eq!(outcome.into_rows()[0].get::<i32>(0).unwrap(), 2);
        }
        other => panic!("{other:?}"),
    }
    event_loop.until(|stats| stats.idle == 1);
}

#[test]
fn b24_requests_that_wait_too_long_were_not_sent() {
    let target = unix_config().io_timeout(Duration::from_millis(50));
    let pool = PgPool::new(target, PgPoolConfig::new().max_size(1)).unwrap();
    let mut event_loop = Loop::new(&pool);
    let guard = event_loop.acquire();
    let waits = pool.submit("select 1", ()).unwrap();
    match event_loop.event() {
        PoolEvent::Failed { ticket, error } => {
            assert_eq!(ticket, waits);
            assert!(matches!(error, PgError::NotSent(_)) && error.is_safe_to_retry(), "{error}");
            assert!(error.to_string().contains("waiting for a place on a connection"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    drop(guard);
    let next = pool.submit("select 1", ()).unwrap();
    assert!(matches!(event_loop.event(), PoolEvent::Complete { ticket, .. } if ticket == next));
}

#[test]
fn b24_code_of_the_program_may_use_the_pool() {
    /// A parameter that uses the pool while it is encoded.
    struct Nosy(PgPool);
    impl chopin_pg::ToSql for Nosy {
        fn declare(&self, types: &chopin_pg::types::TypeMap) -> chopin_pg::Oid {
            7_i32.declare(types)
        }
        fn encode(
            &self,
            types: &chopin_pg::types::TypeMap,
            out: &mut chopin_pg::types::Out<'_>,
        ) -> chopin_pg::PgResult<chopin_pg::types::Encoded> {
            drop(self.0.try_get());
            let _inner = self.0.submit("select 1", ()).unwrap();
            7_i32.encode(types, out)
        }
    }
    let pool = pool(PgPoolConfig::new().max_size(2));
    let mut event_loop = Loop::new(&pool);
    for _ in 0..3 {
        let outer = pool.submit("select $1 + 35", (Nosy(pool.clone()),)).unwrap();
        let mut answers = 0;
        for event in event_loop.events(2) {
            match event {
                PoolEvent::Complete { ticket, outcome } if ticket == outer => {
                    assert_eq!(outcome.into_rows()[0].get::<i32>(0).unwrap(), 42);
                    answers += 1;
                }
                PoolEvent::Complete { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(answers, 1);
    }
}

#[test]
fn b24_a_connection_at_its_own_limits_makes_no_busy_loop() {
    let target = unix_config().max_in_flight(64).max_send_buffer(1024);
    let pool = PgPool::new(target, PgPoolConfig::new().max_size(1)).unwrap();
    let mut event_loop = Loop::new(&pool);
    let large = "x".repeat(200_000);
    for _ in 0..8 {
        let _ticket = pool.submit("select length($1), pg_sleep(0.02)", (&large,)).unwrap();
    }
    let (mut turns, mut done) = (0, 0);
    while done < 8 {
        done += event_loop.turn().len();
        turns += 1;
        event_loop.wait();
    }
    assert!(turns < 500, "{turns} turns of the loop for 8 answers");
}

#[test]
fn b24_hooks_may_close_the_pool() {
    for at in 0..3 {
        let close = |_: &mut chopin_pg::PgConnection| {
            chopin_pg::pool().start_close(None);
            Ok(())
        };
        let config = PgPoolConfig::new().max_size(2);
        let config = match at {
            0 => config.after_connect(close),
            1 => config.before_checkout(close),
            _ => config.after_return(close),
        };
        std::thread::spawn(move || {
            let pool = pool(config);
            pool.install().unwrap();
            let mut event_loop = Loop::new(&pool);
            let mut ended = 0;
            let _asked = pool.acquire().unwrap();
            while ended == 0 {
                event_loop.wait();
                ended += event_loop.turn().len();
            }
            while !pool.is_closed() {
                event_loop.wait();
                event_loop.turn();
            }
            assert_eq!(pool.pool_size(), 0);
        })
        .join()
        .unwrap();
    }
}

#[test]
fn b24_a_parameter_that_panics_costs_nothing() {
    /// A parameter that cannot be encoded at all.
    struct Broken;
    impl chopin_pg::ToSql for Broken {
        fn declare(&self, types: &chopin_pg::types::TypeMap) -> chopin_pg::Oid {
            7_i32.declare(types)
        }
        fn encode(
            &self,
            _: &chopin_pg::types::TypeMap,
            _: &mut chopin_pg::types::Out<'_>,
        ) -> chopin_pg::PgResult<chopin_pg::types::Encoded> {
            std::panic::resume_unwind(Box::new("in a parameter"))
        }
    }
    let pool = pool(PgPoolConfig::new().max_size(1).min_size(1));
    let mut event_loop = Loop::new(&pool);
    event_loop.until(|stats| stats.idle == 1);
    let submit = std::panic::AssertUnwindSafe(|| pool.submit("select $1", (Broken,)));
    assert!(std::panic::catch_unwind(submit).is_err());
    event_loop.until(|stats| stats.idle == 1);
    assert_usable(&mut event_loop.acquire());
}
