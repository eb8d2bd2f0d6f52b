//! The work that requests ask for, on two pools.
//!
//! What is quick goes through [`PgPool::submit`] on one pool: few connections carry it all, and a row
//! by its key never takes long. `/slow` gets connections of its own from the other pool, one for each
//! request at a time, so that the slow ones wait for each other and nobody waits for them.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use chopin_pg::pool::{AcquireTicket, PoolTicket, PoolToken};
use chopin_pg::{
    ConnectionGuard, Deadline, Delivery, Drive, ErrorClass, Event, Outcome, PgError, PgPool,
    PgResult, PoolEvent, Request, Row, Submit, Ticket,
};
use rand::Rng;
use serde::Serialize;

use super::http::{Response, Status};
use super::poller::{Space, watch};
use super::routes::Route;
use super::tables::WORLDS;

/// How much longer than `/slow` is to take it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Names a request: whose it is, and which of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) client: u64,
    pub(crate) number: u64,
}

/// A row of `world`.
#[derive(Clone, Copy, Debug, Serialize)]
struct World {
    id: i32,
    #[serde(rename = "randomNumber")]
    random_number: i32,
}

impl World {
    fn random_id() -> i32 {
        rand::rng().random_range(1..=WORLDS)
    }
}

/// The quick work of a request.
struct Task {
    step: Step,
    /// How many answers are to come.
    missing: usize,
    worlds: Vec<World>,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The row of `/db`.
    Row,
    /// The rows of `/queries`.
    Rows,
    /// The rows of `/updates`.
    RowsToUpdate,
    /// The updates of `/updates`.
    Updates,
    /// The rows of `/fortunes`.
    Fortunes,
}

/// A `/slow` that has its connection, for as long as it takes.
struct Slow {
    address: Address,
    guard: ConnectionGuard,
    ticket: Ticket,
}

/// All work of one thread.
pub(crate) struct Tasks {
    quick: PgPool,
    slow: PgPool,
    tasks: HashMap<Address, Task>,
    /// Whose answer each ticket of the quick pool is.
    open: HashMap<PoolTicket, Address>,
    /// Who waits for a connection of the slow pool, and how long the work takes that is to be done.
    waiting: HashMap<AcquireTicket, (Address, Duration)>,
    running: HashMap<PoolToken, Slow>,
    /// What is ready to be sent.
    answers: Vec<(Address, Response)>,
}

impl Tasks {
    pub(crate) fn new(quick: PgPool, slow: PgPool) -> Self {
        Self {
            quick,
            slow,
            tasks: HashMap::new(),
            open: HashMap::new(),
            waiting: HashMap::new(),
            running: HashMap::new(),
            answers: Vec::new(),
        }
    }

    /// Begins what a request asks for.
    ///
    /// # Errors
    ///
    /// The answer, if there already is one: that there is too much to do.
    pub(crate) fn begin(&mut self, address: Address, route: Route) -> Result<(), Response> {
        let (step, missing) = match route {
            Route::Db => (Step::Row, 1),
            Route::Queries(count) => (Step::Rows, count),
            Route::Updates(count) => (Step::RowsToUpdate, count),
            Route::Fortunes => (Step::Fortunes, 1),
            Route::Slow(duration) => {
                let ticket = self.slow.acquire().map_err(|error| failure(&error))?;
                self.waiting.insert(ticket, (address, duration));
                return Ok(());
            }
        };
        self.tasks.insert(address, Task { step, missing, worlds: Vec::new() });
        self.submit(address).map_err(|error| {
            self.abandon(address);
            failure(&error)
        })
    }

    /// Submits the statements of a task's step. They leave together, when the loop's turn ends.
    fn submit(&mut self, address: Address) -> PgResult<()> {
        let Some(task) = self.tasks.get_mut(&address) else { return Ok(()) };
        match task.step {
            Step::Row | Step::Rows | Step::RowsToUpdate => {
                let sql = "select id, randomnumber from world where id = $1";
                for _ in 0..task.missing {
                    self.open.insert(self.quick.submit(sql, (World::random_id(),))?, address);
                }
            }
            Step::Updates => {
                let sql = "update world set randomnumber = $1 where id = $2";
                for world in &mut task.worlds {
                    world.random_number = World::random_id();
                    let params = (world.random_number, world.id);
                    self.open.insert(self.quick.submit(sql, params)?, address);
                }
            }
            Step::Fortunes => {
                let ticket = self.quick.submit("select id, message from fortune", ())?;
                self.open.insert(ticket, address);
            }
        }
        Ok(())
    }

    /// Nobody waits for this answer any more. What was not sent is not done.
    pub(crate) fn abandon(&mut self, address: Address) {
        if self.tasks.remove(&address).is_some() {
            self.open.retain(|ticket, whose| {
                let is_its = *whose == address;
                if is_its {
                    self.quick.discard(*ticket);
                }
                !is_its
            });
            return;
        }
        self.waiting.retain(|ticket, (whose, _)| {
            let is_its = *whose == address;
            if is_its {
                self.slow.cancel_acquire(*ticket);
            }
            !is_its
        });
        // Its connection goes back to the pool, which takes care of what runs on it.
        self.running.retain(|_, slow| slow.address != address);
    }

    /// A descriptor of the quick pool is ready.
    pub(crate) fn quick_is_ready(&self, token: u64) {
        self.quick.on_ready(token.into());
    }

    /// A descriptor of the slow pool is ready.
    pub(crate) fn slow_is_ready(&self, token: u64) {
        self.slow.on_ready(token.into());
    }

    /// Goes on with everything; what has been answered.
    pub(crate) fn drive(&mut self, epoll: &OwnedFd, now: Instant) -> Vec<(Address, Response)> {
        self.quick.drive(now);
        while let Some(event) = self.quick.next_event() {
            match event {
                PoolEvent::Complete { ticket, outcome } => self.go_on(ticket, outcome),
                PoolEvent::Failed { ticket, error } => self.fail(ticket, &error),
                _ => {}
            }
        }
        self.slow.drive(now);
        while let Some(event) = self.slow.next_event() {
            match event {
                PoolEvent::Acquired { ticket, guard } => self.start_slow(ticket, guard, epoll),
                PoolEvent::AcquireFailed { ticket, error } => {
                    if let Some((address, _)) = self.waiting.remove(&ticket) {
                        self.answers.push((address, failure(&error)));
                    }
                }
                PoolEvent::GuardReady { token } => self.go_on_slow(token, epoll),
                _ => {}
            }
        }
        std::mem::take(&mut self.answers)
    }

    /// A statement is done.
    fn go_on(&mut self, ticket: PoolTicket, outcome: Outcome) {
        let Some(address) = self.open.remove(&ticket) else { return };
        let Some(task) = self.tasks.get_mut(&address) else { return };
        match task.take(outcome) {
            Ok(Some(answer)) => {
                self.tasks.remove(&address);
                self.answers.push((address, answer));
            }
            Ok(None) if task.missing > 0 => {}
            // The next step.
            Ok(None) => {
                task.missing = task.worlds.len();
                if let Err(error) = self.submit(address) {
                    self.end(address, &error);
                }
            }
            Err(error) => self.end(address, &error),
        }
    }

    /// A statement has failed, and its request with it.
    fn fail(&mut self, ticket: PoolTicket, error: &PgError) {
        if let Some(address) = self.open.remove(&ticket) {
            self.end(address, error);
        }
    }

    fn end(&mut self, address: Address, error: &PgError) {
        self.abandon(address);
        self.answers.push((address, failure(error)));
    }

    /// A `/slow` has got its connection.
    fn start_slow(&mut self, ticket: AcquireTicket, mut guard: ConnectionGuard, epoll: &OwnedFd) {
        let Some((address, duration)) = self.waiting.remove(&ticket) else { return };
        let request =
            Request::Query { sql: "select pg_sleep($1)", params: &(duration.as_secs_f64(),) };
        let deadline =
            Deadline::after(Instant::now(), "the patience of /slow", duration + PATIENCE);
        let submit = Submit::new(Delivery::Collect).deadline(deadline);
        let begun = guard.submit_with(request, submit).and_then(|ticket| {
            watch_guard(&mut guard, epoll)?;
            Ok(ticket)
        });
        match begun {
            Ok(ticket) => {
                self.running.insert(guard.token(), Slow { address, guard, ticket });
            }
            Err(error) => self.answers.push((address, failure(&error))),
        }
    }

    /// The connection of a `/slow` is ready.
    fn go_on_slow(&mut self, token: PoolToken, epoll: &OwnedFd) {
        let Some(slow) = self.running.get_mut(&token) else { return };
        let ended = slow.go_on().and_then(|is_over| {
            watch_guard(&mut slow.guard, epoll)?;
            Ok(is_over)
        });
        let answer = match ended {
            Ok(false) => return,
            Ok(true) => Response::json(&"slept"),
            Err(error) => failure(&error),
        };
        // The guard is dropped with it: the connection goes back.
        if let Some(slow) = self.running.remove(&token) {
            self.answers.push((slow.address, answer));
        }
    }

    /// Sends what was submitted, and tells epoll what to watch for the pools.
    ///
    /// # Errors
    ///
    /// Those of epoll.
    pub(crate) fn update_sources(&self, epoll: &OwnedFd) -> io::Result<()> {
        self.quick.update_sources(|change| watch(epoll, Space::QuickPool, change))?;
        self.slow.update_sources(|change| watch(epoll, Space::SlowPool, change))
    }

    /// When to call [`drive`](Self::drive) at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.quick.deadline(), self.slow.deadline()].into_iter().flatten().min()
    }

    /// Begins to close the pools.
    pub(crate) fn start_close(&self, deadline: Instant) {
        self.quick.start_close(Some(deadline));
        self.slow.start_close(Some(deadline));
    }

    /// Whether the pools are closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.quick.is_closed() && self.slow.is_closed()
    }
}

impl Task {
    /// One answer of the server; that to the client, if this was the last.
    fn take(&mut self, outcome: Outcome) -> PgResult<Option<Response>> {
        self.missing -= 1;
        let rows = outcome.into_rows();
        match self.step {
            Step::Row | Step::Rows | Step::RowsToUpdate => {
                for row in &rows {
                    let (id, random_number) = row.to()?;
                    self.worlds.push(World { id, random_number });
                }
            }
            Step::Updates => {}
            Step::Fortunes => return fortunes(&rows).map(Some),
        }
        if self.missing > 0 {
            return Ok(None);
        }
        Ok(match self.step {
            Step::Row => Some(Response::json(&self.worlds.first())),
            Step::RowsToUpdate => {
                self.step = Step::Updates;
                None
            }
            _ => Some(Response::json(&self.worlds)),
        })
    }
}

impl Slow {
    /// Goes on; whether it is over.
    fn go_on(&mut self) -> PgResult<bool> {
        loop {
            let drive = self.guard.drive();
            while let Some(event) = self.guard.next_event()? {
                match event {
                    Event::Complete { ticket } if ticket == self.ticket => return Ok(true),
                    Event::Failed { ticket, error } if ticket == self.ticket => return Err(error),
                    _ => {}
                }
            }
            if drive == Drive::Idle {
                return Ok(false);
            }
        }
    }
}

fn watch_guard(guard: &mut ConnectionGuard, epoll: &OwnedFd) -> PgResult<()> {
    guard.update_sources(|change| watch(epoll, Space::SlowPool, change)).map_err(PgError::Io)
}

/// The page of `/fortunes`.
fn fortunes(rows: &[Row]) -> PgResult<Response> {
    let mut fortunes = vec![(0, "Additional fortune added at request time.")];
    for row in rows {
        fortunes.push(row.to()?);
    }
    fortunes.sort_unstable_by_key(|(_, message)| *message);
    let mut page = "<!DOCTYPE html><html><head><title>Fortunes</title></head><body><table>\
         <tr><th>id</th><th>message</th></tr>"
        .to_owned();
    for (id, message) in fortunes {
        let message = html_escape::encode_safe(message);
        page.push_str(&format!("<tr><td>{id}</td><td>{message}</td></tr>"));
    }
    page.push_str("</table></body></html>");
    Ok(Response::html(page))
}

/// The answer when the database fails. What has failed is for the log, not for the client.
fn failure(error: &PgError) -> Response {
    let is_full = matches!(error, PgError::PoolExhausted(_));
    // To refuse is what one does with too much work: a line for each would only be more of it.
    if !is_full {
        eprintln!("{error}");
    }
    Response::status(match error {
        PgError::NotSent(_) => Status::ServiceUnavailable,
        PgError::Timeout(_) => Status::GatewayTimeout,
        error if error.classify() == ErrorClass::Pool => Status::ServiceUnavailable,
        _ => Status::InternalServerError,
    })
}
