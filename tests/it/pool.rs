//! The pool: checkouts, what comes back, many requests on few connections, event loops.

mod checkouts;
mod event_loop;
mod half_open;
mod lifetimes;
mod multiplex;
mod recovery;
mod resets;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use chopin_pg::pool::PoolToken;
use chopin_pg::{
    ConnectionGuard, PgConfig, PgPool, PgPoolConfig, PoolEvent, PoolStats, TransactionStatus,
};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags};
use rustix::io::Errno;

use crate::guide::event_loop::watch;
use crate::support::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A pool without a connection yet.
fn pool(config: PgPoolConfig) -> PgPool {
    PgPool::new(unix_config(), config).expect("settings that make sense")
}

/// The process on the server that a guard's connection belongs to.
fn pid(guard: &mut ConnectionGuard) -> i32 {
    guard.query_one("select pg_backend_pid()", &[]).unwrap().get(0).unwrap()
}

/// Ends a session, and waits until it is gone.
fn terminate(pid: i32) {
    let mut other = connect();
    other.query("select pg_terminate_backend($1, 20000)", &[&pid]).unwrap();
}

/// A pool in an epoll loop, as a program has it.
struct Loop {
    pool: PgPool,
    epoll: OwnedFd,
    /// When the test has failed.
    limit: Instant,
}

impl Loop {
    fn new(pool: &PgPool) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
        Self { pool: pool.clone(), epoll, limit: Instant::now() + 3 * LONG }
    }

    /// Goes on, and takes all events; waits for nothing.
    fn turn(&mut self) -> Vec<PoolEvent> {
        self.pool.drive(Instant::now());
        std::iter::from_fn(|| self.pool.next_event()).collect()
    }

    /// Waits until a source is ready or something is due.
    #[track_caller]
    fn wait(&mut self) {
        let epoll = &self.epoll;
        self.pool.update_sources(|change| watch(epoll, change)).expect("epoll");
        let now = Instant::now();
        assert!(now < self.limit, "it does not come: {:?}", self.pool.stats());
        let until = self.pool.deadline().map_or(self.limit, |at| at.min(self.limit));
        let timeout = until.saturating_duration_since(now).try_into().expect("a short time");
        let mut ready = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        for event in ready {
            self.pool.on_ready(PoolToken::from(event.data.u64()));
        }
    }

    /// Turns and waits until so many events have come.
    #[track_caller]
    fn events(&mut self, count: usize) -> Vec<PoolEvent> {
        let mut events = Vec::new();
        loop {
            events.extend(self.turn());
            if events.len() >= count {
                return events;
            }
            self.wait();
        }
    }

    /// Turns and waits until the one event has come.
    #[track_caller]
    fn event(&mut self) -> PoolEvent {
        let mut events = self.events(1);
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    /// Turns and waits until a connection has been acquired.
    #[track_caller]
    fn acquire(&mut self) -> ConnectionGuard {
        let asked = self.pool.acquire().expect("room to wait");
        match self.event() {
            PoolEvent::Acquired { ticket, mut guard } if ticket == asked => {
                guard.update_sources(|change| watch(&self.epoll, change)).expect("epoll");
                guard
            }
            other => panic!("{other:?}"),
        }
    }

    /// Turns and waits until the pool is as wanted; no event may come.
    #[track_caller]
    fn until(&mut self, is_so: impl Fn(&PoolStats) -> bool) {
        loop {
            let events = self.turn();
            assert!(events.is_empty(), "{events:?}");
            if is_so(&self.pool.stats()) {
                return;
            }
            self.wait();
        }
    }
}
