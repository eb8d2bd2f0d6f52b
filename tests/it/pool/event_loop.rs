//! The pool in an event loop.

use chopin_pg::{Deadline, Delivery, Event, PgError, Request, Submit};

use super::*;

#[test]
fn b24_acquire_is_first_come_first_served() {
    let pool = pool(PgPoolConfig::new().max_size(1));
    let mut event_loop = Loop::new(&pool);
    let guard = event_loop.acquire();
    let tickets = [pool.acquire().unwrap(), pool.acquire().unwrap(), pool.acquire().unwrap()];
    assert!(event_loop.turn().is_empty());
    pool.cancel_acquire(tickets[1]);
    let mut held = guard;
    for expected in [tickets[0], tickets[2]] {
        let before = pid(&mut held);
        drop(held);
        match event_loop.event() {
            PoolEvent::Acquired { ticket, guard } => {
                assert_eq!(ticket, expected);
                held = guard;
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pid(&mut held), before);
    }
}

#[test]
fn b24_waiting_is_bounded_in_number_and_in_time() {
    let config = PgPoolConfig::new().max_size(1).min_size(1).max_waiting(2);
    let pool = pool(config.checkout_timeout(Duration::from_millis(30)));
    let mut event_loop = Loop::new(&pool);
    event_loop.until(|stats| stats.idle == 1);
    let guard = event_loop.acquire();
    let tickets = [pool.acquire().unwrap(), pool.acquire().unwrap()];
    let error = pool.acquire().unwrap_err();
    assert_eq!(
        error.to_string(),
        "no connection from the pool: max_waiting (2) wait already: 1 of at most 1 connections are \
         open, 1 under \
         guards"
    );
    let mut failed = Vec::new();
    for event in event_loop.events(2) {
        match event {
            PoolEvent::AcquireFailed { ticket, error: PgError::PoolTimeout(_) } => {
                failed.push(ticket)
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(failed, tickets);
    drop(guard);
    assert_usable(&mut event_loop.acquire());
}

#[test]
fn b24_a_guard_lives_across_turns_of_the_loop() {
    let pool = pool(PgPoolConfig::new().max_size(2).min_size(2));
    let mut event_loop = Loop::new(&pool);
    event_loop.until(|stats| stats.idle == 2);
    let mut guard = event_loop.acquire();
    let request = Request::Query { sql: "select pg_sleep(0.2), 42", params: &() };
    let ticket = guard.submit(request, Delivery::Collect).unwrap();
    let mut quick = 0;
    let answer = loop {
        let epoll = &event_loop.epoll;
        guard.update_sources(|change| watch(epoll, change)).unwrap();
        if event_loop.pool.stats().multiplexed == 0 {
            let _quick = pool.submit("select 'quick'", ()).unwrap();
        }
        event_loop.wait();
        let mut is_over = false;
        for event in event_loop.turn() {
            match event {
                PoolEvent::GuardReady { token } => {
                    assert_eq!(token, guard.token());
                    let _ = guard.drive();
                    while let Some(event) = guard.next_event().unwrap() {
                        is_over |= matches!(event, Event::Complete { .. });
                    }
                }
                PoolEvent::Complete { .. } => quick += 1,
                other => panic!("{other:?}"),
            }
        }
        if is_over {
            break guard.take(ticket).unwrap().unwrap();
        }
    };
    assert_eq!(answer.into_rows()[0].get::<i32>(1).unwrap(), 42);
    assert!(quick > 3, "the others went on meanwhile: {quick}");
    drop(guard);
    while pool.stats().idle < pool.stats().size {
        event_loop.turn();
        event_loop.wait();
    }
}

#[test]
fn b24_the_deadline_of_a_guard_is_one_of_the_pool() {
    let config = unix_config().connect_timeout(None);
    let pool = PgPool::new(config, PgPoolConfig::new().max_size(1)).unwrap();
    let mut event_loop = Loop::new(&pool);
    let mut guard = event_loop.acquire();
    let request = Request::Query { sql: "select pg_sleep(600)", params: &() };
    let deadline = Deadline::after(Instant::now(), "patience", Duration::from_millis(50));
    let submit = Submit::new(Delivery::Events).deadline(deadline);
    let own = guard.submit_with(request, submit).unwrap();
    // The loop waits for nothing but what the pool and the guard have told it.
    let error = loop {
        let epoll = &event_loop.epoll;
        guard.update_sources(|change| watch(epoll, change)).unwrap();
        match event_loop.event() {
            PoolEvent::GuardReady { token } => assert_eq!(token, guard.token()),
            other => panic!("{other:?}"),
        }
        let _idle = guard.drive();
        match guard.next_event().unwrap() {
            Some(Event::Failed { ticket, error }) if ticket == own => break error,
            None => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    assert!(error.to_string().contains("patience = 50 ms"), "{error}");
    drop(guard);
    event_loop.until(|stats| stats.idle == 1);
    assert_usable(&mut event_loop.acquire());
}

#[test]
fn b24_what_is_asked_after_a_drive_is_due_at_once() {
    let pool = pool(PgPoolConfig::new().max_size(1));
    let is_due = || pool.deadline().is_some_and(|at| at <= Instant::now());
    let mut event_loop = Loop::new(&pool);
    assert!(event_loop.turn().is_empty());
    assert!(!is_due());
    // Nothing is open: a request needs a connection that a drive begins.
    let submitted = pool.submit("select 1", ()).unwrap();
    assert!(is_due());
    let event = event_loop.event();
    assert!(matches!(event, PoolEvent::Complete { ticket, .. } if ticket == submitted));
    event_loop.until(|stats| stats.idle == 1);
    assert!(!is_due());
    // An idle connection is given out by a drive.
    let acquired = pool.acquire().unwrap();
    assert!(is_due());
    let mut events = event_loop.turn();
    assert!(matches!(&events[..], [PoolEvent::Acquired { ticket, .. }] if *ticket == acquired));
    let PoolEvent::Acquired { guard: first, .. } = events.remove(0) else { panic!() };
    // Another one has to be opened.
    pool.set_max_size(2);
    assert!(event_loop.turn().is_empty());
    assert!(!is_due());
    let acquired = pool.acquire().unwrap();
    assert!(is_due());
    let event = event_loop.event();
    assert!(matches!(event, PoolEvent::Acquired { ticket, .. } if ticket == acquired));
    drop(first);
}
