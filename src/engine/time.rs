//! Deadlines, and requests that nobody wants any more. Time is an argument here; no clock is read.

use std::time::{Duration, Instant};

use super::deadline::Deadline;
use super::event::{Delivery, Ticket};
use super::flight::InFlight;
use super::{Engine, PgConfig};
use crate::error::PgError;

/// What the engine knows of time.
#[derive(Debug)]
pub(super) struct Clock {
    /// For the whole startup.
    startup: Option<Deadline>,
    /// How long the late answer to a request that timed out may take before the connection is given
    /// up.
    drain_timeout: Duration,
    /// Late answers are awaited; nothing new is sent meanwhile.
    holding: bool,
    /// Up to when; `None` while none is awaited, and for a `drain_timeout` without an end.
    drain: Option<Deadline>,
}

impl Clock {
    pub(super) fn new(config: &PgConfig, startup: Option<Deadline>) -> Self {
        Self { startup, drain_timeout: config.get_drain_timeout(), holding: false, drain: None }
    }

    /// Startup is over.
    pub(super) fn started(&mut self) {
        self.startup = None;
    }

    /// What is unsent may go.
    pub(super) fn stop_holding(&mut self) {
        self.holding = false;
        self.drain = None;
    }
}

impl Engine {
    /// The next moment at which [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let requests = self.in_flight.iter().filter_map(|request| request.deadline);
        let others = [self.clock.startup, self.clock.drain];
        requests.chain(others.into_iter().flatten()).map(|deadline| deadline.at).min()
    }

    /// Ends what has taken too long by `now`.
    ///
    /// A request of which nothing was sent is taken back and fails as [`PgError::NotSent`]. One
    /// that was sent fails with [`PgError::Timeout`]; its answer is drained when it comes, so that
    /// it can never be taken for the answer to something else, and nothing new is sent meanwhile.
    /// If it does not come within the grace period (`drain_timeout`), the connection is broken.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_due = |deadline: &Deadline| deadline.at <= now;
        if let Some(deadline) = self.clock.startup.filter(is_due) {
            return self.break_with(deadline.error("connecting"));
        }
        if let Some(deadline) = self.clock.drain.filter(is_due) {
            return self.break_with(
                deadline.error("waiting for the late answer to a query that timed out"),
            );
        }
        let mut index = 0;
        while let Some(request) = self.in_flight.get(index) {
            let (ticket, deadline) = (request.ticket, request.deadline.filter(is_due));
            let Some(deadline) = deadline else {
                index += 1;
                continue;
            };
            let error = deadline.error(match self.clock.holding {
                true => "waiting for the late answer to an earlier query",
                false => "waiting for the answer to a query",
            });
            if let Some(request) = self.take_back(index) {
                self.fail(request, PgError::NotSent(Box::new(error)));
                continue;
            }
            let delivery = self.abandon(index);
            self.tell_failure(ticket, delivery, error);
            if !self.clock.holding {
                self.clock.holding = true;
                self.clock.drain = Deadline::after(now, "drain_timeout", self.clock.drain_timeout);
            }
            index += 1;
        }
    }

    /// Nobody wants the answer to `ticket` any more. If nothing of the request was sent it is taken
    /// back, else its answer is drained when it comes. No event follows.
    pub fn discard(&mut self, ticket: Ticket) {
        self.finished.retain(|(finished, _)| *finished != ticket);
        self.pending.retain(|event| event.ticket() != Some(ticket));
        if let Some(index) = self.in_flight.iter().position(|request| request.ticket == ticket) {
            if self.take_back(index).is_none() {
                self.abandon(index);
            }
        }
    }

    /// Removes a request of which nothing was sent.
    pub(super) fn take_back(&mut self, index: usize) -> Option<InFlight> {
        let sent = self.send.sent_up_to();
        self.in_flight.get(index).filter(|request| !request.is_sent(sent))?;
        let before: usize = self.in_flight.iter().take(index).map(|request| request.params).sum();
        let request = self.in_flight.remove(index)?;
        self.send.remove(request.bytes.start, request.bytes.end);
        self.declared.drain(before..before + request.params);
        let length = request.bytes.end - request.bytes.start;
        for later in self.in_flight.iter_mut().skip(index) {
            later.bytes = later.bytes.start - length..later.bytes.end - length;
        }
        request.closes.iter().for_each(|name| self.statements.unwanted(*name));
        Some(request)
    }

    /// Lets the answer of a request be drained; returns how it was to be delivered.
    fn abandon(&mut self, index: usize) -> Delivery {
        let Some(request) = self.in_flight.get_mut(index) else {
            return Delivery::Discard;
        };
        request.deadline = None;
        request.rows = None;
        std::mem::replace(&mut request.delivery, Delivery::Discard)
    }

    /// Up to where bytes may be sent: everything, or while a late answer is awaited only what has
    /// been begun.
    #[inline]
    pub(super) fn send_limit(&self) -> u64 {
        // A Terminate is the last thing that is sent, and needs no answer.
        let holding = self.clock.holding && !self.terminated;
        if holding { self.send_limit_of_started() } else { u64::MAX }
    }

    /// The end of the last request that has been sent in part.
    pub(super) fn send_limit_of_started(&self) -> u64 {
        let sent = self.send.sent_up_to();
        let started = self.in_flight.iter().rev().find(|request| request.is_sent(sent));
        started.map_or(sent, |request| request.bytes.end.max(sent))
    }

    /// The answer of a request has come to its end: if no late answer is awaited any more, sending
    /// goes on.
    pub(super) fn drained(&mut self) {
        let sent = self.send.sent_up_to();
        // Requests that are to be drained but were not sent wait for this hold to end themselves.
        let late =
            |request: &InFlight| request.delivery == Delivery::Discard && request.is_sent(sent);
        if self.clock.holding && !self.in_flight.iter().any(late) {
            self.clock.stop_holding();
        }
    }
}
