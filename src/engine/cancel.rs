//! When a CancelRequest is wanted, and whom it may have hit.
//!
//! It travels over a connection of its own, which is not the engine's: the engine says that one is
//! [wanted](Engine::wants_cancel) and is told when it is [sent](Engine::cancel_sent) and when it
//! [has ended](Engine::cancel_ended). Nothing in it names a request: the server cancels whatever it
//! runs when the signal arrives. So it is sent only while its target is in the group at the front,
//! and nothing new is sent until both the target and the cancel have ended. (Which request of a group
//! is running nobody knows: the server keeps answers back up to the Sync. They fail together.) The data
//! of a COPY need not have been sent: a server that is stuck in one does not read them. What else was
//! sent before may be hit all the same, and is told so ([`PgError::CancelledByNeighbour`]).
//!
//! [`PgError::CancelledByNeighbour`]: crate::PgError::CancelledByNeighbour

use std::time::{Duration, Instant};

use super::Engine;
use super::deadline::Deadline;
use super::event::Ticket;
use super::flight::{InFlight, Standing};

/// How long the target of a cancel is left alone before it gets another one; doubled each time.
///
/// A cancel can come too early: the server has answered the request before, and has not begun with
/// this one. It does nothing then.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What the engine knows of the CancelRequests for its requests.
#[derive(Debug)]
pub(super) struct Cancel {
    /// One has been sent, and its end has not been told.
    is_under_way: bool,
    /// When its end has been awaited for too long.
    deadline: Option<Deadline>,
    /// The request that the last one was for, which needs no other for now.
    target: Option<Ticket>,
    /// When the target needs another one.
    again_at: Option<Instant>,
    /// That moment has come.
    is_due_again: bool,
    pause: Duration,
    /// What was sent before this byte was there while a cancel was under way.
    exposed_up_to: u64,
}

impl Default for Cancel {
    fn default() -> Self {
        Self {
            is_under_way: false,
            deadline: None,
            target: None,
            again_at: None,
            is_due_again: false,
            pause: FIRST_PAUSE,
            exposed_up_to: 0,
        }
    }
}

impl Cancel {
    /// One has been sent, and its end has not been told.
    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// When its end has been awaited for too long.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Its end is awaited anew, if it has been for too long.
    pub(super) fn renew(&mut self, now: Instant, deadline: Option<Deadline>) {
        if self.deadline.is_some_and(|limit| limit.at <= now) {
            self.deadline = deadline;
        }
    }

    /// When something is to be done.
    pub(super) fn next(&self) -> Option<Instant> {
        let deadline = self.deadline.map(|limit| limit.at);
        deadline.into_iter().chain(self.again_at).min()
    }

    /// It is `now`: the target may need another one.
    pub(super) fn pass(&mut self, now: Instant) {
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            self.is_due_again = true;
        }
    }

    /// The target has ended.
    pub(super) fn forget_target(&mut self) {
        (self.target, self.again_at, self.is_due_again) = (None, None, false);
    }

    /// The same target is left alone for longer each time.
    fn aim_at(&mut self, target: Ticket) {
        let is_new = self.target.replace(target) != Some(target);
        self.pause = if is_new { FIRST_PAUSE } else { self.pause.saturating_mul(2) };
        self.is_due_again = false;
    }
}

impl Engine {
    /// Since when a CancelRequest is wanted; `None` if none is. It is wanted while a request of the
    /// group whose answer is awaited has taken too long, and no longer: a cancel that has not been
    /// sent by then is to be given up.
    ///
    /// What is [late](Self::handle_timeout) is not over: its answer has to come to its end.
    #[inline]
    pub fn wants_cancel(&self) -> Option<Instant> {
        if !self.clock.is_holding() {
            return None;
        }
        self.cancel_wanted_since()
    }

    #[cold]
    fn cancel_wanted_since(&self) -> Option<Instant> {
        let is_possible = !self.cancel.is_under_way && !self.terminated && self.broken.is_none();
        let target = self.late_at_front().filter(|_| is_possible)?;
        let is_aimed_at = self.cancel.target == Some(target) && !self.cancel.is_due_again;
        self.clock.late_since().filter(|_| !is_aimed_at)
    }

    /// The request in the group that the server is working on that has taken too long, if one has.
    fn late_at_front(&self) -> Option<Ticket> {
        // Of a group that has failed or ended nothing runs any more.
        if self.ended > 0 || self.flights.has_failed() {
            return None;
        }
        let mut group = self.flights.group_of(0).filter_map(|index| self.flights.get(index));
        let request = group.find(|request| request.standing == Standing::Late)?;
        // While a part of it has not been sent the server waits for that, and ignores a cancel.
        (request.end_of_statement() <= self.send.sent_up_to()).then_some(request.ticket)
    }

    /// The CancelRequest that is [wanted](Self::wants_cancel) is being written: from now on it may
    /// hit, and nothing new is sent before its [end](Self::cancel_ended).
    pub fn cancel_sent(&mut self) {
        let Some(target) = self.late_at_front() else { return };
        let index = self.flights.find(target);
        let request = index.and_then(|index| self.flights.get(index));
        self.cancel.deadline = request.and_then(|request| request.deadline);
        self.cancel.is_under_way = true;
        self.cancel.aim_at(target);
    }

    /// The server has closed the connection of the CancelRequest, by `now`: it has done what it
    /// does, and hits nothing that is sent from here on. Or the CancelRequest could not be sent; then
    /// the answer is only drained, and after a pause it is tried again.
    pub fn cancel_ended(&mut self, now: Instant) {
        if std::mem::take(&mut self.cancel.is_under_way) {
            self.cancel.exposed_up_to = self.send.sent_up_to();
            self.cancel.deadline = None;
        } else if let Some(target) = self.late_at_front() {
            self.cancel.aim_at(target);
        }
        self.cancel.again_at = now.checked_add(self.cancel.pause);
        self.stop_holding_if_drained();
    }

    /// Whether a cancel that was meant for another request may have hit this one.
    pub(super) fn may_be_hit_by_neighbour(&self, request: &InFlight) -> bool {
        let is_exposed =
            self.cancel.is_under_way || request.bytes.start < self.cancel.exposed_up_to;
        is_exposed && request.standing != Standing::Late && !request.is_failed_copy()
    }

    /// Traces a CancelRequest, the whole packet.
    pub(crate) fn trace_cancel_request(&mut self, packet: &[u8]) {
        if self.tracing.is_on() {
            self.tracing.cancel_request(packet);
        }
    }
}
