//! The section "Event loop" of docs/GUIDE.md.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use chopin_pg::pool::{PoolTicket, PoolToken, SourceChange};
use chopin_pg::{
    ConnectionGuard, Deadline, Delivery, Drive, Event, Outcome, PgError, PgPool, PgPoolConfig,
    PgResult, PoolEvent, Request, Submit, Ticket,
};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::support::*;

/// Does as the pool says.
pub(crate) fn watch(epoll: &OwnedFd, change: SourceChange<'_>) -> io::Result<()> {
    let SourceChange { fd, token, before, after, .. } = change;
    let Some(interest) = after else { return Ok(epoll::delete(epoll, fd)?) };
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN, interest.read);
    flags.set(EventFlags::OUT, interest.write);
    let data = EventData::new_u64(token.into());
    match before {
        None => Ok(epoll::add(epoll, fd, data, flags)?),
        Some(_) => Ok(epoll::modify(epoll, fd, data, flags)?),
    }
}

/// Waits until a descriptor is ready or something is due.
fn wait(pool: &PgPool, epoll: &OwnedFd) -> io::Result<()> {
    pool.update_sources(|change| watch(epoll, change))?;
    let timeout = pool.deadline().map(|at| at.saturating_duration_since(Instant::now()));
    let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
    let mut ready = Vec::with_capacity(64);
    match epoll::wait(epoll, spare_capacity(&mut ready), timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    for event in ready {
        pool.on_ready(PoolToken::from(event.data.u64()));
    }
    Ok(())
}

/// Waits for a pool of another section.
pub(super) fn await_pool(pool: &PgPool, epoll: &OwnedFd) {
    wait(pool, epoll).expect("epoll");
}

/// What is under way: the work whose title each ticket brings.
#[derive(Default)]
struct Titles {
    asked: HashMap<PoolTicket, i32>,
    found: HashMap<i32, PgResult<String>>,
}

impl Titles {
    fn ask(&mut self, pool: &PgPool, work: i32) {
        match pool.submit("select title from works where id = $1", (work,)) {
            Ok(ticket) => drop(self.asked.insert(ticket, work)),
            // Nothing was sent. PoolExhausted says that too much waits already.
            Err(error) => drop(self.found.insert(work, Err(error))),
        }
    }

    /// One turn of the loop.
    fn turn(&mut self, pool: &PgPool) {
        pool.drive(Instant::now());
        while let Some(event) = pool.next_event() {
            let (ticket, result) = match event {
                PoolEvent::Complete { ticket, outcome } => (ticket, title(outcome)),
                PoolEvent::Failed { ticket, error } => (ticket, Err(error)),
                _ => continue,
            };
            if let Some(work) = self.asked.remove(&ticket) {
                self.found.insert(work, result);
            }
        }
    }
}

fn title(outcome: Outcome) -> PgResult<String> {
    let rows = outcome.into_rows();
    rows.first().map_or(Ok("unknown".to_owned()), |row| row.get(0))
}

/// A report that takes its time, on a connection of its own.
struct Report {
    guard: ConnectionGuard,
    ticket: Ticket,
}

impl Report {
    fn start(mut guard: ConnectionGuard, epoll: &OwnedFd) -> PgResult<Self> {
        let sql = "select count(*), pg_sleep(0.05) from works";
        let deadline = Deadline::after(Instant::now(), "report", Duration::from_secs(60));
        let submit = Submit::new(Delivery::Collect).deadline(deadline);
        let ticket = guard.submit_with(Request::Query { sql, params: &() }, submit)?;
        guard.update_sources(|change| watch(epoll, change)).map_err(PgError::Io)?;
        Ok(Self { guard, ticket })
    }

    /// After `PoolEvent::GuardReady` with the guard's token; `None` if it is not over.
    fn go_on(&mut self, epoll: &OwnedFd) -> PgResult<Option<i64>> {
        loop {
            let drive = self.guard.drive();
            while let Some(event) = self.guard.next_event()? {
                match event {
                    Event::Complete { .. } => {
                        let outcome = self.guard.take(self.ticket)?;
                        let rows = outcome.map_or(Vec::new(), |outcome| outcome.into_rows());
                        return rows.first().map(|row| row.get(0)).transpose();
                    }
                    Event::Failed { error, .. } => return Err(error),
                    _ => {}
                }
            }
            if drive == Drive::Idle {
                self.guard.update_sources(|change| watch(epoll, change)).map_err(PgError::Io)?;
                return Ok(None);
            }
        }
    }
}

/// A pool whose connections find a table of works, each its own.
fn pool(settings: PgPoolConfig) -> (PgPool, OwnedFd) {
    let settings = settings.after_connect(|connection| {
        let sql = "create temp table works as select i as id, 'Opus ' || i as title \
             from generate_series(1, 100) i";
        connection.submit(Request::Simple { sql }, Delivery::Collect).map(drop)
    });
    let pool = PgPool::new(unix_config(), settings).unwrap();
    (pool, epoll::create(CreateFlags::CLOEXEC).unwrap())
}

#[test]
fn titles_come_by_the_tickets_that_they_were_asked_with() {
    let (pool, epoll) = pool(PgPoolConfig::new().max_size(2).max_waiting(100));
    let mut titles = Titles::default();
    // The 102nd is refused: nothing is connected, so all of them wait.
    (1..=101).for_each(|work| titles.ask(&pool, work));
    while !titles.asked.is_empty() {
        titles.turn(&pool);
        wait(&pool, &epoll).unwrap();
    }
    let found = |work| titles.found[&work].as_ref();
    assert_eq!(titles.found.len(), 101);
    for work in 1..=100 {
        assert_eq!(*found(work).unwrap(), format!("Opus {work}"));
    }
    assert!(matches!(found(101), Err(PgError::PoolExhausted(_))));
    titles.ask(&pool, 101);
    while !titles.asked.is_empty() {
        titles.turn(&pool);
        wait(&pool, &epoll).unwrap();
    }
    assert_eq!(*titles.found[&101].as_ref().unwrap(), "unknown");
}

#[test]
fn a_report_goes_on_across_turns() {
    let (pool, epoll) = pool(PgPoolConfig::new().max_size(1));
    let asked = pool.acquire().unwrap();
    let mut report: Option<Report> = None;
    let count = loop {
        pool.drive(Instant::now());
        let mut count = None;
        while let Some(event) = pool.next_event() {
            match event {
                PoolEvent::Acquired { ticket, guard } if ticket == asked => {
                    report = Some(Report::start(guard, &epoll).unwrap());
                }
                PoolEvent::GuardReady { token } => {
                    let report = report.as_mut().filter(|report| report.guard.token() == token);
                    count = report.and_then(|report| report.go_on(&epoll).unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
        if let Some(count) = count {
            break count;
        }
        wait(&pool, &epoll).unwrap();
    };
    assert_eq!(count, 100);
    drop(report);
    assert_eq!(pool.stats().idle, 1);
}
