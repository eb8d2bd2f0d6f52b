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
    /// Nothing is due before this moment. It may have become too early since: the deadlines of
    /// requests that have ended are not taken out.
    next: Option<Instant>,
}

impl Clock {
    pub(super) fn new(config: &PgConfig, startup: Option<Deadline>) -> Self {
        let drain_timeout = config.get_drain_timeout();
        Self { startup, drain_timeout, holding: false, next: startup.map(|limit| limit.at) }
    }

    /// Startup is over.
    pub(super) fn started(&mut self) {
        self.startup = None;
        self.next = None;
    }

    /// There is a deadline.
    #[inline]
    pub(super) fn notice(&mut self, deadline: Option<Deadline>) {
        if let Some(deadline) = deadline {
            self.next = Some(self.next.map_or(deadline.at, |next| next.min(deadline.at)));
        }
    }

    /// Nothing is in flight: what is unsent may go, and nothing can be late.
    #[inline]
    pub(super) fn idle(&mut self) {
        self.holding = false;
        self.next = None;
    }

    #[inline]
    pub(super) fn is_holding(&self) -> bool {
        self.holding
    }
}

impl Engine {
    /// A moment at which [`handle_timeout`](Self::handle_timeout) is to be called: not later than
    /// the first deadline, maybe earlier.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.clock.next
    }

    /// Ends what has taken too long by `now`.
    ///
    /// A group of which nothing was sent is taken back, and fails as [`PgError::NotSent`]. A
    /// request that was sent fails with [`PgError::Timeout`]; its answer is drained when it comes,
    /// so that it can never be taken for the answer to something else, and nothing new is sent
    /// meanwhile. If it does not come within the grace period (`drain_timeout`), the connection is
    /// broken.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_due = |deadline: &Deadline| deadline.at <= now;
        if let Some(deadline) = self.clock.startup.filter(is_due) {
            let is_connected = self.send.sent_up_to() > 0;
            let doing =
                if is_connected { "connecting" } else { "connecting to the server's address" };
            return self.break_with(deadline.error(doing));
        }
        // Those that are complete already are not late.
        let mut index = self.ended;
        while let Some(request) = self.flights.get(index) {
            let Some(deadline) = request.deadline.filter(is_due) else {
                index += 1;
                continue;
            };
            if self.copy_moves(index) {
                if let Some(request) = self.flights.get_mut(index) {
                    request.deadline = deadline.again(now);
                }
                index += 1;
                continue;
            }
            let Some(request) = self.flights.get(index) else { break };
            let (ticket, delivery) = (request.ticket, request.delivery);
            let abandoned = request.abandoned;
            let error = deadline.error(match self.clock.holding {
                true => "waiting for the late answer to an earlier query",
                false if request.is_copy() => "waiting for a COPY to go on",
                false => "waiting for the answer to a query",
            });
            if let Some(group) = self.take_back(index) {
                for request in group {
                    self.fail(request, PgError::NotSent(Box::new(error.clone())));
                }
                index = self.ended;
                continue;
            }
            if abandoned {
                let doing = "waiting for the late answer to a query that nobody waits for any more";
                return self.break_with(deadline.error(doing));
            }
            let patience = Deadline::after(now, "drain_timeout", self.clock.drain_timeout);
            self.abandon(index, patience);
            if let Some(request) = self.flights.get_mut(index) {
                request.late = true;
            }
            self.tell_failure(ticket, delivery, error);
            self.clock.holding = true;
            index += 1;
        }
        self.find_next_deadline();
    }

    fn find_next_deadline(&mut self) {
        let all = self.flights.iter().filter_map(|request| request.deadline);
        self.clock.next = all.chain(self.clock.startup).map(|deadline| deadline.at).min();
    }

    /// Gives a request another deadline: one that streams has one for each step.
    pub fn set_deadline(&mut self, ticket: Ticket, deadline: Option<Deadline>) {
        let Some(index) = self.flights.find(ticket) else { return };
        if let Some(request) = self.flights.get_mut(index) {
            if !request.abandoned {
                request.deadline = deadline;
                self.clock.notice(deadline);
                self.mark_progress(index);
            }
        }
    }

    /// Nobody wants the answer to `ticket` any more. If its group is nothing but this request and
    /// nothing of it was sent it is taken back, else its answer is drained when it comes; if it has
    /// not come to its end by `patience`, the connection is broken. No event follows.
    pub fn discard(&mut self, ticket: Ticket, patience: Option<Deadline>) {
        self.finished.retain(|(finished, _)| *finished != ticket);
        self.pending.retain(|event| event.ticket() != Some(ticket));
        let Some(index) = self.flights.find(ticket) else { return };
        if self.flights.is_alone(index) && self.take_back(index).is_some() {
            return;
        }
        let is_drained = |request: &&InFlight| request.delivery == Delivery::Discard;
        let earlier = self.flights.get(index).filter(is_drained).and_then(|late| late.deadline);
        self.abandon(index, earlier.into_iter().chain(patience).min_by_key(|limit| limit.at));
    }

    /// Removes the group that a request belongs to, if nothing of it was sent.
    pub(super) fn take_back(&mut self, index: usize) -> Option<Vec<InFlight>> {
        let group = self.flights.group_of(index);
        let sent = self.send.sent_up_to();
        self.flights.get(group.start).filter(|request| !request.is_sent(sent))?;
        let taken = self.flights.take_out(group);
        if let (Some(first), Some(last)) = (taken.first(), taken.last()) {
            self.send.remove(first.bytes.start, last.bytes.end);
        }
        for request in &taken {
            self.undo_statements(request, false);
        }
        Some(taken)
    }

    /// Lets the answer of a request be drained.
    fn abandon(&mut self, index: usize, patience: Option<Deadline>) {
        self.row_run = None;
        self.give_up_copy(index);
        if let Some(request) = self.flights.get_mut(index) {
            request.deadline = patience;
            request.rows = None;
            request.delivery = Delivery::Discard;
            request.abandoned = true;
            self.clock.notice(patience);
        }
    }

    /// Up to where bytes may be sent: everything, or while a late answer is awaited only the groups
    /// that were begun.
    #[inline]
    pub(super) fn send_limit(&self) -> u64 {
        // A Terminate is the last thing that is sent, and needs no answer.
        if self.clock.holding && !self.terminated { self.end_of_started() } else { u64::MAX }
    }

    /// The end of the last group that has been sent in part.
    fn end_of_started(&self) -> u64 {
        let sent = self.send.sent_up_to();
        let started = self.flights.iter().rposition(|request| request.is_sent(sent));
        let last = started.and_then(|index| self.flights.get(self.flights.group_of(index).end - 1));
        last.map_or(sent, |request| request.bytes.end.max(sent))
    }

    /// A group has come to its end: if no late answer is awaited any more, sending goes on.
    #[cold]
    pub(super) fn stop_holding_if_drained(&mut self) {
        if !self.flights.iter().any(|request| request.late) {
            self.clock.holding = false;
            self.find_next_deadline();
        }
    }
}
