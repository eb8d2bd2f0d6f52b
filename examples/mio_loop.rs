//! A pool in an event loop of mio: a thousand small queries share its connections while a transaction
//! has one of its own.
//!
//! `cargo run --example mio_loop [queries]`; DATABASE_URL says where the database is.

use std::error::Error;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Instant;

use chopin_pg::pool::{PoolToken, SourceChange};
use chopin_pg::{
    ConnectionGuard, Delivery, Drive, Event, PgConfig, PgPool, PgPoolConfig, PgResult, PoolEvent,
    Request, Ticket,
};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

/// How many queries are under way at a time.
const WINDOW: i64 = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("DATABASE_URL").unwrap_or("postgres://localhost/postgres".into());
    let queries = std::env::args().nth(1).map_or(Ok(1000), |queries| queries.parse())?;
    let report = run(&url, queries)?;
    println!("{:>9} queries; the squares add up to {}", report.answered, report.sum);
    println!("{:>9} is what the transaction has counted", report.counted);
    println!("{:>9} connections at most", report.connections);
    Ok(())
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) answered: i64,
    /// The sum of the squares of the numbers below that.
    pub(crate) sum: i64,
    /// What the transaction has found.
    pub(crate) counted: i64,
    /// The most connections that there were.
    pub(crate) connections: usize,
}

/// Runs the loop until everything is answered.
pub(crate) fn run(url: &str, queries: i64) -> Result<Report, Box<dyn Error>> {
    let config = PgConfig::from_url(url)?.application_name("mio_loop");
    // The one call that waits, before there is anything else to do: it finds the server.
    let pool = PgPool::connect_with_config(config, PgPoolConfig::new().max_size(3))?;
    // Mio tells what became ready, and once: what is registered anew is looked at again.
    pool.set_edge_triggered(true);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    let mut report = Report::default();
    let mut transaction = None;
    let mut asked = 0;
    let mut is_open = true;
    let _ticket = pool.acquire()?;
    loop {
        pool.drive(Instant::now());
        while let Some(event) = pool.next_event() {
            match event {
                PoolEvent::Complete { outcome, .. } => {
                    report.answered += 1;
                    for row in outcome.into_rows() {
                        report.sum += row.get::<i64>(0)?;
                    }
                }
                PoolEvent::Acquired { guard, .. } => {
                    let started = transaction.insert(Transaction::start(guard)?);
                    started.guard.update_sources(|change| watch(poll.registry(), change))?;
                }
                PoolEvent::GuardReady { token } => {
                    let ready = transaction.as_mut().filter(|own| own.guard.token() == token);
                    let Some(own) = ready else { continue };
                    match own.go_on()? {
                        Some(count) => {
                            report.counted = count;
                            is_open = false;
                            // Dropped, the guard gives its connection back to the others.
                            transaction = None;
                        }
                        None => {
                            own.guard.update_sources(|change| watch(poll.registry(), change))?
                        }
                    }
                }
                PoolEvent::Failed { error, .. } | PoolEvent::AcquireFailed { error, .. } => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        if report.answered == queries && !is_open {
            report.connections = pool.stats().most_size;
            return Ok(report);
        }
        while asked < queries.min(report.answered + WINDOW) {
            let _ticket = pool.submit("select $1 * $1", (asked,))?;
            asked += 1;
        }
        // What was submitted leaves here, in one write for each connection.
        pool.update_sources(|change| watch(poll.registry(), change))?;
        let timeout = pool.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            pool.on_ready(PoolToken::from(u64::try_from(event.token().0)?));
        }
    }
}

/// Does as the pool says.
fn watch(registry: &Registry, change: SourceChange<'_>) -> io::Result<()> {
    let SourceChange { fd, token, before, after, .. } = change;
    let fd = fd.as_raw_fd();
    let mut source = SourceFd(&fd);
    let interest = match after.map(|after| (after.read, after.write)) {
        Some((true, true)) => Interest::READABLE | Interest::WRITABLE,
        Some((false, true)) => Interest::WRITABLE,
        Some(_) => Interest::READABLE,
        None => return registry.deregister(&mut source),
    };
    let token = Token(usize::try_from(u64::from(token)).map_err(io::Error::other)?);
    match before {
        None => registry.register(&mut source, token, interest),
        Some(_) => registry.reregister(&mut source, token, interest),
    }
}

/// Work on a connection of its own, across turns of the loop.
struct Transaction {
    guard: ConnectionGuard,
    count: Ticket,
    commit: Ticket,
}

impl Transaction {
    /// Asks for all of it at once; nothing here waits for an answer.
    fn start(mut guard: ConnectionGuard) -> PgResult<Self> {
        let mut submit = |sql| guard.submit(Request::Query { sql, params: &() }, Delivery::Collect);
        let _begin = submit("begin isolation level repeatable read")?;
        let _create =
            submit("create temp table numbers on commit drop as select generate_series(1, 500)")?;
        let count = submit("select count(*) from numbers")?;
        let commit = submit("commit")?;
        Ok(Self { guard, count, commit })
    }

    /// Goes on; what was counted, once it is committed.
    fn go_on(&mut self) -> PgResult<Option<i64>> {
        loop {
            let drive = self.guard.drive();
            let mut is_committed = false;
            while let Some(event) = self.guard.next_event()? {
                match event {
                    Event::Failed { error, .. } => return Err(error),
                    Event::Complete { ticket } => is_committed |= ticket == self.commit,
                    _ => {}
                }
            }
            if is_committed {
                let rows =
                    self.guard.take(self.count)?.map_or(Vec::new(), |found| found.into_rows());
                return rows.first().map(|row| row.get(0)).transpose();
            }
            if drive == Drive::Idle {
                return Ok(None);
            }
        }
    }
}
