//! Cancelling, and what happens when time runs out. The rules are tested one by one in
//! tests/it/contracts/cancel.rs; here they go over sockets.

mod deadlines;
mod racing;
mod steps;
mod token;
mod within;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use chopin_pg::{
    Deadline, Delivery, Drive, Event, PgConnection, PgError, PgResult, Request, Submit,
};
use chopin_pg::{Interest, Row, Ticket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::*;

/// The time that is given to what is to take too long.
const SHORT: Duration = Duration::from_millis(50);

/// Longer than anything here takes, and shorter than the statements that are cancelled.
const LONG: Duration = Duration::from_secs(60);

/// A statement that takes ten minutes.
const SLEEP: &str = "select 'slept' from pg_sleep(600)";

/// Waits at sources as an event loop does, until one is ready or `deadline` has come.
fn wait<'fd>(
    sources: impl Iterator<Item = (std::os::fd::BorrowedFd<'fd>, Interest)>,
    deadline: Option<Instant>,
) {
    let sources: Vec<_> = sources.collect();
    let mut fds: Vec<PollFd<'_>> = sources
        .iter()
        .filter(|(_, interest)| interest.read || interest.write)
        .map(|(fd, interest)| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, interest.read);
            flags.set(PollFlags::OUT, interest.write);
            PollFd::from_borrowed_fd(*fd, flags)
        })
        .collect();
    let left = deadline.map_or(LONG, |at| at.saturating_duration_since(Instant::now()));
    let timeout = Timespec::try_from(left).expect("a time");
    let ready = poll(&mut fds, Some(&timeout)).expect("poll");
    assert!(ready > 0 || deadline.is_some(), "nothing comes");
}

/// Runs an event loop until so many requests have ended; how each did.
///
/// # Errors
///
/// What broke the connection.
fn run(db: &mut PgConnection, count: usize) -> PgResult<Vec<(Ticket, PgResult<()>)>> {
    let mut ends = Vec::new();
    loop {
        let drive = db.drive();
        while let Some(event) = db.next_event()? {
            match event {
                Event::Complete { ticket } => ends.push((ticket, Ok(()))),
                Event::Failed { ticket, error } => ends.push((ticket, Err(error))),
                _ => {}
            }
        }
        db.flush();
        if ends.len() >= count {
            return Ok(ends);
        }
        if drive == Drive::Idle {
            wait(db.sources(), db.deadline());
        }
    }
}

/// Runs a query that may take so long.
fn query_within(
    face: Face,
    db: &mut PgConnection,
    time: Duration,
    sql: &str,
) -> PgResult<Vec<Row>> {
    match face {
        Face::Blocking => db.within(time).query(sql, &[]),
        Face::NonBlocking => {
            let deadline = Deadline::after(Instant::now(), "within", time);
            let submit = Submit::new(Delivery::Collect).deadline(deadline);
            let ticket = db.submit_with(Request::Query { sql, params: &() }, submit)?;
            for (ended, _) in run(db, 1)? {
                assert_eq!(ended, ticket);
            }
            db.take(ticket).map(|outcome| outcome.expect("its result").into_rows())
        }
    }
}

/// Waits until the session with this process id is inside of pg_sleep.
pub(crate) fn await_sleep(process_id: i32) {
    let mut other = connect();
    let limit = Instant::now() + LONG;
    let sql = "select from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'";
    while other.query(sql, &[&process_id]).unwrap().is_empty() {
        assert!(Instant::now() < limit, "it does not sleep");
    }
}

#[track_caller]
fn assert_timeout(error: &PgError) {
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    assert!(!error.is_safe_to_retry());
    assert!(error.to_string().contains("waiting for the answer to a query (within = "), "{error}");
}

/// The descriptors of all sources.
fn descriptors(db: &PgConnection) -> Vec<i32> {
    use std::os::fd::AsRawFd;
    db.sources().map(|(fd, _)| fd.as_fd().as_raw_fd()).collect()
}
