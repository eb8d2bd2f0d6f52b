//! Requests of many tasks on few connections.

use std::time::Instant;

use super::kept_params::KeptParams;
use super::slots::Phase;
use super::{PgPool, Shared, State, Told};
use crate::connection::{
    Deadline, Delivery, Event, Outcome, PgConnection, Request, Submit, Ticket, TransactionStatus,
};
use crate::engine::{IO_TIMEOUT, changes_session};
use crate::error::{PgError, PgResult};
use crate::types::Params;

/// Names a request that a pool carries, from [`PgPool::submit`]. Unique for a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use]
pub struct PoolTicket(pub(super) u64);

/// A request that waits for a place on a connection.
#[derive(Debug)]
pub(super) struct Queued {
    ticket: PoolTicket,
    sql: Box<str>,
    params: KeptParams,
    deadline: Option<Deadline>,
}

/// What became of an attempt to put a request on a connection.
enum Placed {
    /// It is there.
    On(PoolTicket),
    /// There is no room on any connection.
    Nowhere,
}

impl PgPool {
    /// Queues one statement on the connection that has the fewest requests in flight, and returns at
    /// once: the answer comes as [`PoolEvent::Complete`](super::PoolEvent::Complete) or
    /// [`PoolEvent::Failed`](super::PoolEvent::Failed). It has
    /// [`io_timeout`](crate::PgConfig::io_timeout) to be answered, waiting included.
    ///
    /// Many tasks share few connections in this way: up to
    /// [`multiplex_window`](super::PgPoolConfig::multiplex_window) requests are in flight on each, and
    /// what is submitted before [`flush`](Self::flush) or [`drive`](Self::drive) leaves in one write
    /// per connection. The statement commits by itself, and is cached and prepared as in
    /// [`query`](crate::PgConnection::query). Requests on one connection are answered in order, so one that
    /// takes long delays those behind it: such a statement belongs on a connection of its own
    /// ([`acquire`](Self::acquire)).
    ///
    /// ```no_run
    /// # use chopin_pg::{PgConfig, PgPool};
    /// # let pool = PgPool::connect(PgConfig::from_url("")?, 4)?;
    /// let ticket = pool.submit("select title from works where id = $1", (18,))?;
    /// # let _ = ticket;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// What would change the session or its transaction for the others is refused by its first word:
    /// BEGIN, START, COMMIT, END, ROLLBACK, ABORT, SAVEPOINT, RELEASE, PREPARE, EXECUTE, DECLARE, LISTEN,
    /// UNLISTEN, SET, RESET, COPY, DISCARD, DEALLOCATE, LOAD. What hides behind another word is not
    /// seen: a function that calls `set_config`, DO, an advisory lock of the session, a temporary
    /// table. If a statement leaves a transaction open all the same, the connection is closed, which rolls
    /// that transaction back: the statement fails, and so do the requests behind it, with an unknown
    /// outcome.
    ///
    /// # Errors
    ///
    /// Nothing is queued then.
    /// - [`PgError::Usage`] for a statement of the list above, and as
    ///   [`PgConnection::submit`].
    /// - [`PgError::Parameter`] when a parameter cannot be encoded.
    /// - [`PgError::PoolExhausted`] when there is no room and
    ///   [`max_waiting`](super::PgPoolConfig::max_waiting) requests wait already, or the pool is closed.
    pub fn submit(&self, sql: &str, params: impl Params) -> PgResult<PoolTicket> {
        let deadline = self.shared.state.borrow().request_deadline();
        self.submit_until(sql, params, deadline)
    }

    /// [`submit`](Self::submit) with another deadline, or none.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn submit_until(
        &self,
        sql: &str,
        params: impl Params,
        deadline: Option<Deadline>,
    ) -> PgResult<PoolTicket> {
        if let Some(word) = changes_session(sql) {
            return Err(refused(word));
        }
        self.shared.submit(sql, &params, deadline)
    }

    /// Nobody wants the answer to `ticket` any more: no event comes for it from now on. A request that
    /// still waits is dropped; what was sent is done all the same.
    pub fn discard(&self, ticket: PoolTicket) {
        self.shared.discard(ticket);
    }
}

#[cold]
fn refused(word: &str) -> PgError {
    PgError::Usage(format!(
        "{word} changes the session or its transaction, which others share; get a connection of your \
         own with acquire() or get(); nothing was sent"
    ))
}

/// How many requests are in flight on a connection; `None` if it takes none for now: it waits
/// for a late answer, perhaps of a server that is gone.
pub(super) fn load_of(connection: &PgConnection) -> Option<usize> {
    (!connection.engine().is_holding()).then_some(connection.in_flight())
}

#[cold]
fn left_open_by(who: &str) -> PgError {
    PgError::ConnectionClosed(format!(
        "{who} has left a transaction open, so the connection was closed, and what the transaction \
         did was rolled back; it is unknown what became of the others on this connection"
    ))
}

impl Shared {
    fn submit(
        &self,
        sql: &str,
        params: &dyn Params,
        deadline: Option<Deadline>,
    ) -> PgResult<PoolTicket> {
        self.state.borrow().check_open()?;
        // Who waits already comes first.
        let (is_first, takes_idle) = {
            let state = self.state.borrow();
            (state.queue.is_empty(), state.waiters.is_empty())
        };
        if is_first {
            if let Placed::On(ticket) = self.place(sql, params, deadline, None, takes_idle)? {
                return Ok(ticket);
            }
        }
        {
            let state = &mut *self.state.borrow_mut();
            let most = state.config.get_max_waiting();
            if state.queue.len() >= most {
                return Err(state.exhausted(&format!("max_waiting ({most}) requests wait already")));
            }
        }
        // Code of the program encodes the parameters: nothing is borrowed meanwhile.
        let params = KeptParams::new(params)?;
        let state = &mut *self.state.borrow_mut();
        state.check_open()?;
        let ticket = state.next_pool_ticket();
        let limit = deadline.map(|deadline| deadline.at);
        state.next_queue_deadline = state.next_queue_deadline.into_iter().chain(limit).min();
        state.queue.push_back(Queued { ticket, sql: sql.into(), params, deadline });
        state.stats.requests += 1;
        state.stats.most_queued_requests = state.stats.most_queued_requests.max(state.queue.len());
        // The next drive comes at once, if it may open a connection for it.
        state.must_serve |= state.slots.len() < state.config.get_max_size();
        Ok(ticket)
    }

    /// Puts a request on the connection with the lowest load.
    fn place(
        &self,
        sql: &str,
        params: &dyn Params,
        deadline: Option<Deadline>,
        ticket: Option<PoolTicket>,
        takes_idle: bool,
    ) -> PgResult<Placed> {
        loop {
            let Some(slot) = self.state.borrow_mut().find_room(takes_idle) else {
                return Ok(Placed::Nowhere);
            };
            let Some(mut lifted) = self.lift(slot) else { return Ok(Placed::Nowhere) };
            let token = lifted.token();
            let connection = lifted.connection();
            if connection.in_flight() == 0
                && connection.transaction_status() != TransactionStatus::Idle
            {
                // Whoever had it has left a transaction open, which the request would be a part of.
                drop(lifted);
                self.close(token);
                continue;
            }
            // It is visited in any case, also if code of the program panics in a parameter.
            self.state.borrow_mut().list(slot, false);
            let mut submit = Submit::new(Delivery::Collect).deadline(deadline);
            submit.mode = connection.mode_for_params();
            let submitted = connection.submit_with(Request::Query { sql, params }, submit);
            let load = load_of(connection);
            drop(lifted);
            let state = &mut *self.state.borrow_mut();
            if state.slots.find(token).is_none() {
                // The pool was closed from there.
                return Ok(Placed::Nowhere);
            }
            state.loaded(slot, load);
            match submitted {
                Ok(own) => {
                    let ticket = ticket.unwrap_or_else(|| {
                        state.stats.requests += 1;
                        state.next_pool_ticket()
                    });
                    if let Some(slot) = state.slots.get_mut(slot) {
                        slot.requests.push_back((own, ticket));
                    }
                    return Ok(Placed::On(ticket));
                }
                // Its own limits are reached before the window is: until it is ready.
                Err(PgError::WouldBlock) => state.loads.set(slot, None),
                // It broke without being noticed; its end is looked at soon.
                Err(PgError::NotSent(_)) => {
                    state.loads.set(slot, None);
                    state.list(slot, true);
                }
                Err(error) => {
                    state.list(slot, true);
                    return Err(error);
                }
            }
        }
    }

    /// Puts requests that wait on connections that have room.
    pub(super) fn serve_queue(&self) {
        loop {
            let (queued, takes_idle) = {
                let state = &mut *self.state.borrow_mut();
                let takes_idle = state.waiters.is_empty() || state.is_request_first();
                let Some(queued) = state.queue.pop_front() else { return };
                (queued, takes_idle)
            };
            let Queued { ticket, sql, params, deadline } = &queued;
            match self.place(sql, params, *deadline, Some(*ticket), takes_idle) {
                Ok(Placed::On(_)) => {}
                Ok(Placed::Nowhere) => {
                    self.state.borrow_mut().queue.push_front(queued);
                    return;
                }
                Err(error) => {
                    self.state.borrow_mut().events.push_back(Told::Failed(*ticket, error));
                }
            }
        }
    }

    /// Takes the answers to requests of many; whether the connection is sound.
    pub(super) fn take_answers(&self, slot: usize, connection: &mut PgConnection) -> PgResult<()> {
        while let Some(event) = connection.next_event()? {
            let (ticket, error) = match event {
                Event::Complete { ticket } => (ticket, None),
                Event::Failed { ticket, error } => (ticket, Some(error)),
                _ => continue,
            };
            let taken = connection.take(ticket);
            let left_open = connection.transaction_status() != TransactionStatus::Idle;
            let result = match (error, taken) {
                (Some(error), _) | (None, Err(error)) => Err(error),
                (None, Ok(_)) if left_open => Err(left_open_by("this request")),
                (None, Ok(outcome)) => outcome.ok_or(PgError::WouldBlock),
            };
            self.state.borrow_mut().answered(slot, ticket, result);
            if left_open && !connection.is_broken() {
                connection.break_with(left_open_by("a submitted request before this one"));
            }
        }
        Ok(())
    }

    fn discard(&self, ticket: PoolTicket) {
        let found = self.state.borrow_mut().forget_request(ticket);
        if let Some((slot, own)) = found {
            if let Some(mut lifted) = self.lift(slot) {
                lifted.connection().discard(own);
            }
            let state = &mut *self.state.borrow_mut();
            state.list(slot, true);
        }
    }
}

impl State {
    fn next_pool_ticket(&mut self) -> PoolTicket {
        self.tickets += 1;
        PoolTicket(self.tickets)
    }

    /// The deadline of a request that is submitted now.
    fn request_deadline(&self) -> Option<Deadline> {
        let value = self.target.get_io_timeout();
        Deadline::after(Instant::now(), IO_TIMEOUT, value)
    }

    /// Whether a request has waited for longer than whoever waits for a connection.
    pub(super) fn is_request_first(&self) -> bool {
        let request = self.queue.front().map(|queued| queued.ticket.0);
        let waiter = self.waiters.front().map(|waiter| waiter.ticket.0);
        request.is_some_and(|request| waiter.is_none_or(|waiter| request < waiter))
    }

    /// A connection that has room for a request: an idle one, if it may be taken, or the one with the
    /// lowest load.
    fn find_room(&mut self, takes_idle: bool) -> Option<usize> {
        if takes_idle {
            if let Some(slot) = self.take_idle() {
                self.slots.set_phase(slot, Phase::Shared, self.now);
                return Some(slot);
            }
        }
        self.loads.least().map(|(slot, _)| slot)
    }

    /// A connection that carries requests of many has this load.
    pub(super) fn loaded(&mut self, slot: usize, load: Option<usize>) {
        let is_claimed = self.slots.get(slot).is_none_or(|slot| slot.is_claimed);
        // One that is too old takes no more, so that it comes to its end.
        let takes_more = !is_claimed && !self.is_expired(slot);
        self.loads.set(slot, load.filter(|_| takes_more));
    }

    /// A request has come to its end.
    fn answered(&mut self, slot: usize, own: Ticket, result: PgResult<Outcome>) {
        let Some(slot) = self.slots.get_mut(slot) else { return };
        // Nearly always it is the first one.
        let Some(place) = slot.requests.iter().position(|(ticket, _)| *ticket == own) else {
            return;
        };
        let Some((_, ticket)) = slot.requests.remove(place) else { return };
        self.events.push_back(match result {
            Ok(outcome) => Told::Complete(ticket, outcome),
            Err(error) => Told::Failed(ticket, error),
        });
    }

    /// Nothing more is told of a request; where it is, if it was put on a connection.
    fn forget_request(&mut self, ticket: PoolTicket) -> Option<(usize, Ticket)> {
        self.queue.retain(|queued| queued.ticket != ticket);
        self.events.retain(|told| match told {
            Told::Complete(ended, _) | Told::Failed(ended, _) => *ended != ticket,
            _ => true,
        });
        self.slots.iter_mut().find_map(|(index, slot)| {
            let is_its = |(_, carried): &(Ticket, PoolTicket)| *carried == ticket;
            let place = slot.requests.iter().position(is_its)?;
            slot.requests.remove(place).map(|(own, _)| (index, own))
        })
    }

    /// Requests that have waited too long are told so; nothing of them was sent.
    pub(super) fn expire_queue(&mut self) {
        let now = self.now;
        if self.next_queue_deadline.is_none_or(|next| next > now) {
            return;
        }
        let is_over = |queued: &Queued| queued.deadline.is_some_and(|limit| limit.at <= now);
        while let Some(place) = self.queue.iter().position(is_over) {
            let Some(queued) = self.queue.remove(place) else { return };
            let Some(deadline) = queued.deadline else { return };
            let timeout = deadline.error("waiting for a place on a connection of the pool");
            let error = PgError::NotSent(Box::new(timeout));
            self.events.push_back(Told::Failed(queued.ticket, error));
        }
        let deadlines = self.queue.iter().filter_map(|queued| queued.deadline);
        self.next_queue_deadline = deadlines.map(|deadline| deadline.at).min();
    }

    /// All requests that wait are told of `error`: none of them was sent.
    pub(super) fn fail_queue(&mut self, error: &PgError) {
        for Queued { ticket, .. } in std::mem::take(&mut self.queue) {
            let error = PgError::NotSent(Box::new(error.clone()));
            self.events.push_back(Told::Failed(ticket, error));
        }
    }
}
