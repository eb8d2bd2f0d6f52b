//! Those who wait for a connection.

use std::time::{Duration, Instant};

use crate::error::{PgError, PgResult, show_duration};

use super::slots::{Phase, PoolToken};
use super::{PgPool, State, Told};

/// Names somebody who waits for a connection, from [`PgPool::acquire`]. Unique for a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use]
pub struct AcquireTicket(pub(super) u64);

/// Somebody who waits for a connection.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: AcquireTicket,
    since: Instant,
    /// `None` for as long as it takes.
    deadline: Option<Instant>,
}

impl Waiter {
    /// How long it has waited.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

impl PgPool {
    /// Asks for a connection, and returns at once: it comes as
    /// [`PoolEvent::Acquired`](super::PoolEvent::Acquired), or
    /// [`PoolEvent::AcquireFailed`](super::PoolEvent::AcquireFailed) says why not, within
    /// [`checkout_timeout`](super::PgPoolConfig::checkout_timeout). Who asks first is served first.
    ///
    /// This is [`get`](Self::get) for programs with an event loop. It waits for guards that are held,
    /// too: the loop can give them back meanwhile.
    ///
    /// # Errors
    ///
    /// [`PgError::PoolExhausted`] when [`max_waiting`](super::PgPoolConfig::max_waiting) wait already,
    /// or the pool is closed.
    pub fn acquire(&self) -> PgResult<AcquireTicket> {
        let mut state = self.shared.state.borrow_mut();
        let most = state.config.get_max_waiting();
        if state.waiters.len() >= most {
            return Err(state.exhausted(&format!("max_waiting ({most}) wait already")));
        }
        state.enqueue(Instant::now())
    }

    /// Whoever asked for a connection by [`acquire`](Self::acquire) does not want it any more: no event
    /// comes for the ticket from now on.
    pub fn cancel_acquire(&self, ticket: AcquireTicket) {
        self.shared.state.borrow_mut().forget_waiter(ticket);
    }
}

impl State {
    /// Enters somebody who waits from `now` on.
    pub(super) fn enqueue(&mut self, now: Instant) -> PgResult<AcquireTicket> {
        self.check_open()?;
        self.tickets += 1;
        let ticket = AcquireTicket(self.tickets);
        let deadline = now.checked_add(self.config.get_checkout_timeout());
        self.waiters.push_back(Waiter { ticket, since: now, deadline });
        self.stats.most_waiting = self.stats.most_waiting.max(self.waiters.len());
        // A connection may be idle, or is to be opened or claimed: the next drive comes at once.
        self.must_serve = true;
        Ok(ticket)
    }

    /// The one who has waited longest has come to an end.
    pub(super) fn pop_waiter(&mut self) -> Option<AcquireTicket> {
        let waiter = self.waiters.pop_front()?;
        self.stats.waits += 1;
        self.stats.wait_time += waiter.waited(self.now);
        Some(waiter.ticket)
    }

    /// Nobody waits under this ticket any more.
    pub(super) fn forget_waiter(&mut self, ticket: AcquireTicket) {
        self.waiters.retain(|waiter| waiter.ticket != ticket);
        if let Some(Ok(token)) = self.take_acquired(ticket) {
            if let Some(slot) = self.slots.find(token) {
                self.put_idle(slot);
            }
        }
    }

    /// What became of a wait that is over: it is not told any more.
    pub(super) fn take_acquired(&mut self, ticket: AcquireTicket) -> Option<PgResult<PoolToken>> {
        let place = self.events.iter().position(|told| match told {
            Told::Acquired(acquired, _) | Told::AcquireFailed(acquired, _) => *acquired == ticket,
            _ => false,
        })?;
        match self.events.remove(place)? {
            Told::Acquired(_, token) => Some(Ok(token)),
            Told::AcquireFailed(_, error) => Some(Err(error)),
            _ => None,
        }
    }

    /// Those who have waited too long are told so.
    pub(super) fn expire_waiters(&mut self) {
        let is_over =
            |waiter: &Waiter, now| waiter.deadline.is_some_and(|deadline| deadline <= now);
        while self.waiters.front().is_some_and(|waiter| is_over(waiter, self.now)) {
            let Some(ticket) = self.pop_waiter() else { return };
            self.stats.checkout_timeouts += 1;
            let error = self.checkout_timeout();
            self.events.push_back(Told::AcquireFailed(ticket, error));
        }
    }

    /// When the first of those who wait has waited too long.
    pub(super) fn next_waiter_deadline(&self) -> Option<Instant> {
        self.waiters.front().and_then(|waiter| waiter.deadline)
    }

    /// All who wait are told of `error`.
    pub(super) fn fail_waiters(&mut self, error: &PgError) {
        while let Some(ticket) = self.pop_waiter() {
            self.events.push_back(Told::AcquireFailed(ticket, error.clone()));
        }
    }

    /// Nothing came within `checkout_timeout`.
    fn checkout_timeout(&self) -> PgError {
        let value = show_duration(self.config.get_checkout_timeout());
        PgError::PoolTimeout(format!("checkout_timeout = {value}: {}", self.situation()))
    }

    /// The pool cannot give what is asked for; why.
    pub(super) fn exhausted(&mut self, why: &str) -> PgError {
        self.stats.exhausted += 1;
        PgError::PoolExhausted(format!("{why}: {}", self.situation()))
    }

    /// What the connections of the pool are doing, for errors.
    pub(super) fn situation(&self) -> String {
        let mut text = format!(
            "{} of at most {} connections are open",
            self.slots.len(),
            self.config.get_max_size()
        );
        let phases: [(&[Phase], &str); 5] = [
            (&[Phase::Held], "under guards"),
            (&[Phase::Reserved], "given out and not fetched"),
            (&Phase::OPENING, "being opened or checked"),
            (&Phase::RECOVERING, "being reset"),
            (&[Phase::Shared], "busy with submitted requests"),
        ];
        for (phases, doing) in phases {
            match self.slots.count(phases) {
                0 => {}
                count => text.push_str(&format!(", {count} {doing}")),
            }
        }
        if let Some(error) = &self.connects.error {
            text.push_str(&format!("; the last attempt to connect failed: {error}"));
        }
        text
    }
}
