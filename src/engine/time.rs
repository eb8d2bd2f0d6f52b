//! Deadlines, and requests that nobody wants any more. Time is an argument here; no clock is read.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::cursor::PortalState;
use super::deadline::Deadline;
use super::event::{Delivery, Event, Ticket};
use super::flight::{InFlight, Kind, Standing};
use super::keyword::{copies_only, reads};
use super::{Engine, PgConfig};
use crate::error::PgError;
use crate::wire::backend::TransactionStatus;

/// What the engine knows of time.
#[derive(Debug)]
pub(super) struct Clock {
    /// For the whole startup.
    startup: Option<Deadline>,
    /// How long the late answer to a request that timed out may take before the connection is given
    /// up.
    drain_timeout: Duration,
    /// Late answers are awaited, or the end of a cancel; nothing new is sent meanwhile.
    holding: bool,
    /// When a request was found to have taken too long for the last time.
    late_since: Option<Instant>,
    /// Nothing is due before this moment. It may have become too early since: the deadlines of
    /// requests that have ended are not taken out.
    next: Option<Instant>,
}

impl Clock {
    pub(super) fn new(config: &PgConfig, startup: Option<Deadline>) -> Self {
        let drain_timeout = config.get_drain_timeout();
        let next = startup.map(|limit| limit.at);
        Self { startup, drain_timeout, holding: false, late_since: None, next }
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

    /// Nothing new is sent until what holds it back has ended.
    pub(super) fn hold(&mut self) {
        self.holding = true;
    }

    #[inline]
    pub(super) fn is_holding(&self) -> bool {
        self.holding
    }

    /// When a request was found to have taken too long for the last time.
    pub(super) fn late_since(&self) -> Option<Instant> {
        self.late_since
    }

    /// Until when a late answer is awaited from `now` on.
    fn patience(&self, now: Instant) -> Option<Deadline> {
        Deadline::after(now, "drain_timeout", self.drain_timeout)
    }
}

/// A stream that is stopped has this part of the patience to come to its end by itself, if it only
/// reads: a tenth.
const PART_FOR_READERS: u32 = 10;

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
    /// request that was sent fails with [`PgError::Timeout`]: it is late. When it is at the front a
    /// cancel is [wanted](Self::wants_cancel). Its answer is drained when it comes, so that it can
    /// never be taken for the answer to something else, and nothing new is sent meanwhile. If it does
    /// not come within the grace period (`drain_timeout`), or a cancel does not end in that time, the
    /// connection is broken.
    ///
    /// What was [discarded](Self::discard) or [stopped](Self::stop) and has not ended in the time that
    /// it was given is late from then on too.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_due = |deadline: &Deadline| deadline.at <= now;
        if let Some(deadline) = self.clock.startup.filter(is_due) {
            let is_connected = self.send.sent_up_to() > 0;
            let doing =
                if is_connected { "connecting" } else { "connecting to the server's address" };
            return self.break_with(deadline.error(doing));
        }
        if let Some(deadline) = self.cancel.deadline().filter(is_due) {
            return self.break_with(deadline.error("waiting for the end of a cancel request"));
        }
        self.cancel.pass(now);
        // What is behind one that was late before has waited for that one's end.
        let first_late = self.flights.iter().position(|request| request.standing.holds());
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
            let (ticket, delivery, standing) = (request.ticket, request.delivery, request.standing);
            let is_sent = request.is_sent(self.send.sent_up_to());
            let doing = if first_late.is_some_and(|first| index > first) {
                "waiting for the late answer to an earlier query"
            } else if self.cancel.is_under_way() && !is_sent {
                "waiting for the end of a cancel request"
            } else if request.is_copy() && deadline.is_for_a_step() {
                "waiting for a COPY to go on"
            } else if request.is_copy() {
                "waiting for the end of a COPY"
            } else {
                "waiting for the answer to a query"
            };
            let error = deadline.error(doing);
            if self.take_back_due(index, now, doing) {
                index = self.ended;
                continue;
            }
            if standing == Standing::Late {
                let doing = "waiting for the late answer to a query that nobody waits for any more";
                return self.break_with(deadline.error(doing));
            }
            self.abandon(index, Standing::Late, self.clock.patience(now));
            self.tell_failure(ticket, delivery, error);
            self.clock.late_since = Some(now);
            index += 1;
        }
        if self.clock.is_holding() {
            self.stop_holding_if_drained();
        } else {
            self.find_next_deadline();
        }
    }

    /// Takes back the group of the request at `index`, if nothing of it was sent, and all groups
    /// directly behind it that are late too: they fail as not sent. Whether there was one.
    fn take_back_due(&mut self, index: usize, now: Instant, doing: &'static str) -> bool {
        let due_of = |request: &InFlight| request.deadline.filter(|limit| limit.at <= now);
        let sent = self.send.sent_up_to();
        if self.flights.get(index).is_none_or(|request| request.is_sent(sent)) {
            return false;
        }
        let mut groups = self.flights.group_of(index);
        // Together: each time something is taken out, all that is behind it is moved.
        while let Some(next) = self.flights.group_from(groups.end) {
            if !self.flights.range(next.clone()).any(|request| due_of(request).is_some()) {
                break;
            }
            groups.end = next.end;
        }
        let takes_open = self.flights.is_open() && groups.end == self.flights.len();
        let Some(taken) = self.take_back_groups(groups) else { return false };
        let mut errors = Vec::new();
        for group in taken.chunk_by(|request, _| !request.ends_group) {
            let Some(first) = group.iter().find_map(|request| due_of(request)) else { continue };
            let error = first.error(doing);
            errors.extend(group.iter().map(|_| error.clone()));
        }
        if takes_open {
            // What the program submits next is part of this group, and must not be run alone.
            self.lost_group = errors.last().cloned();
        }
        for (request, error) in taken.into_iter().zip(errors) {
            self.fail(request, PgError::NotSent(Box::new(error)));
        }
        true
    }

    /// Nobody has driven the connection for a while, and goes on now: what nobody waits for has had
    /// its time without anybody looking, so it gets it again. The answer may be there.
    pub fn renew_patience(&mut self, now: Instant) {
        if self.clock.next.is_none_or(|next| next > now) {
            return;
        }
        let patience = self.clock.patience(now);
        for request in self.flights.iter_mut() {
            let is_over = request.deadline.is_some_and(|limit| limit.at <= now);
            if is_over && request.standing != Standing::Wanted {
                request.deadline = patience;
            }
        }
        self.cancel.renew(now, patience);
        self.find_next_deadline();
    }

    fn find_next_deadline(&mut self) {
        let all = self.flights.iter().filter_map(|request| request.deadline);
        let all = all.chain(self.clock.startup).map(|deadline| deadline.at);
        self.clock.next = all.chain(self.cancel.next()).min();
    }

    /// Gives a request another deadline: one that streams has one for each step.
    pub fn set_deadline(&mut self, ticket: Ticket, deadline: Option<Deadline>) {
        let Some(index) = self.flights.find(ticket) else { return };
        if let Some(request) = self.flights.get_mut(index) {
            if request.standing == Standing::Wanted {
                request.deadline = deadline;
                self.clock.notice(deadline);
                self.mark_progress(index);
            }
        }
    }

    /// Nobody wants the answer to `ticket` any more. If its group is nothing but this request and
    /// nothing of it was sent it is taken back, else the work is done and its answer is drained when
    /// it comes. If it has not come to its end by `patience`, it is [late](Self::handle_timeout), and
    /// cancelled. No event follows.
    pub fn discard(&mut self, ticket: Ticket, patience: Option<Deadline>) {
        let Some(index) = self.forget(ticket) else { return };
        let (earlier, standing) = match self.flights.get(index) {
            // It is drained already.
            Some(request) if request.delivery == Delivery::Discard => {
                (request.deadline, request.standing)
            }
            _ => (None, Standing::Wanted),
        };
        let standing = if standing == Standing::Wanted { Standing::Discarded } else { standing };
        let patience = earlier.into_iter().chain(patience).min_by_key(|limit| limit.at);
        self.abandon(index, standing, patience);
    }

    /// Nobody wants any of the answers any more: as [`discard`](Self::discard) of all requests, and
    /// groups of which nothing was sent are taken back as a whole; but not what cleans up. Results that
    /// nobody has taken are dropped.
    pub(crate) fn discard_all(&mut self, patience: Option<Deadline>) {
        self.drop_open_group();
        let mut end = self.flights.len();
        while let Some(last) = end.checked_sub(1) {
            let group = self.flights.group_of(last);
            end = group.start;
            if self.flights.range(group.clone()).any(|request| request.standing.cleans_up()) {
                continue;
            }
            if self.take_back(last).is_none() {
                for index in group {
                    let request = self.flights.get(index);
                    let wanted = request.filter(|it| it.standing == Standing::Wanted);
                    if let Some(ticket) = wanted.map(|request| request.ticket) {
                        self.discard(ticket, patience);
                    }
                }
            }
        }
        self.forget_results();
    }

    /// Drops results that nobody has taken.
    pub(crate) fn forget_results(&mut self) {
        self.finished.clear();
        self.pending
            .retain(|event| !matches!(event, Event::Complete { .. } | Event::Failed { .. }));
    }

    /// Nobody wants more of the rows of `ticket`, or has more data for it. As
    /// [`discard`](Self::discard), but nothing new is sent until it has ended, so that a cancel would
    /// hit it alone. A statement that only reads, outside of a transaction, is cancelled after a tenth
    /// of the grace period (`drain_timeout`), and so is a COPY FROM STDIN that is given up by this:
    /// nothing is lost by it. Any other has the whole of it, for a cancel undoes its work.
    pub fn stop(&mut self, ticket: Ticket, now: Instant) {
        let Some(index) = self.forget(ticket) else { return };
        let standing = self.standing_if_begun(index, Standing::Stopped);
        let patience = if self.has_nothing_to_lose(index) {
            let part = self.clock.drain_timeout / PART_FOR_READERS;
            Deadline::after(now, "drain_timeout", part)
        } else {
            self.clock.patience(now)
        };
        self.abandon(index, standing, patience);
    }

    /// Nobody wants more of the rows of `ticket`, and it is to end now: as if its time was over.
    pub fn stop_now(&mut self, ticket: Ticket, now: Instant) {
        let Some(index) = self.forget(ticket) else { return };
        let standing = self.standing_if_begun(index, Standing::Late);
        self.abandon(index, standing, self.clock.patience(now));
        self.clock.late_since = Some(now);
    }

    /// The standing of a request that is to hold back what follows: only one that was begun does so,
    /// for else nothing would ever be sent. One that is late stays it.
    fn standing_if_begun(&self, index: usize, standing: Standing) -> Standing {
        let sent = self.send.sent_up_to();
        match self.flights.get(index) {
            Some(request) if request.standing == Standing::Late => Standing::Late,
            Some(request) if request.is_sent(sent) => standing,
            _ => Standing::Discarded,
        }
    }

    /// Whether nothing is lost when a request is cancelled: it is a statement that only reads, as far
    /// as its text tells, and no transaction would fail with it; or a COPY FROM STDIN whose data have
    /// not ended, which fails anyway.
    fn has_nothing_to_lose(&self, index: usize) -> bool {
        let Some(request) = self.flights.get(index) else { return false };
        let only_reads = match request.kind {
            Kind::Execute(_) => reads(request.sql.text()),
            Kind::CopyOut { .. } => copies_only(request.sql.text()),
            _ => return index == 0 && request.takes_data(),
        };
        only_reads
            && index == 0
            && self.flights.is_alone(index)
            && self.session.transaction_status() == TransactionStatus::Idle
    }

    /// Nothing more is told of `ticket`; its place, if an answer to it is still to come.
    fn forget(&mut self, ticket: Ticket) -> Option<usize> {
        let index = self.flights.find(ticket);
        let request = index.and_then(|index| self.flights.get(index));
        if request.is_none_or(|request| request.standing != Standing::Wanted) {
            self.forget_end(ticket);
        }
        let index = index?;
        let is_taken_back = self.flights.is_alone(index) && self.take_back(index).is_some();
        (!is_taken_back).then_some(index)
    }

    /// Drops the end of a request and its result, if they wait to be told and taken. There is one of
    /// each at most, and of many that are discarded the first is most likely in front.
    fn forget_end(&mut self, ticket: Ticket) {
        if let Some(at) = self.finished.iter().position(|(finished, _)| *finished == ticket) {
            self.finished.remove(at);
        }
        if let Some(at) = self.pending.iter().position(|event| event.ticket() == Some(ticket)) {
            self.pending.remove(at);
        }
        self.release_queues();
    }

    /// Nobody wants the answer to `ticket` any more, but what it does is wanted: it is never taken
    /// back. Its answer is drained whenever it comes. No event follows.
    pub(crate) fn disown(&mut self, ticket: Ticket) {
        self.leave(ticket, None);
    }

    /// [`disown`](Self::disown) of what is late if it has not ended by `patience`.
    pub(crate) fn leave(&mut self, ticket: Ticket, patience: Option<Deadline>) {
        self.forget_end(ticket);
        let index = self.flights.find(ticket);
        let request = index.and_then(|index| self.flights.get(index));
        if let (Some(index), Some(Standing::Wanted)) = (index, request.map(|it| it.standing)) {
            self.abandon(index, Standing::Discarded, patience);
        }
    }

    /// Removes the group that a request belongs to, if nothing of it was sent.
    pub(super) fn take_back(&mut self, index: usize) -> Option<Vec<Box<InFlight>>> {
        self.take_back_groups(self.flights.group_of(index))
    }

    /// [`take_back`](Self::take_back) of groups that follow each other.
    fn take_back_groups(&mut self, groups: Range<usize>) -> Option<Vec<Box<InFlight>>> {
        let sent = self.send.sent_up_to();
        self.flights.get(groups.start).filter(|request| !request.is_sent(sent))?;
        let taken = self.flights.take_out(groups);
        if let (Some(first), Some(last)) = (taken.first(), taken.last()) {
            self.send.remove(first.bytes.start, last.bytes.end);
        }
        for request in &taken {
            self.undo_statements(request, false);
        }
        Some(taken)
    }

    /// Lets the answer of a request be drained.
    fn abandon(&mut self, index: usize, standing: Standing, patience: Option<Deadline>) {
        self.row_run = None;
        self.give_up_copy(index);
        if let Some(request) = self.flights.get_mut(index) {
            if let (Kind::Fetch { portal }, Standing::Late) = (&request.kind, standing) {
                portal.state.set(PortalState::LostRows);
            }
            request.deadline = patience;
            request.rows = None;
            request.delivery = Delivery::Discard;
            request.standing = standing;
            self.clock.holding |= standing.holds();
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

    /// The end of the last group that has been sent in part; or of the first cleanups, if nothing but
    /// cleanups holds the others back.
    fn end_of_started(&self) -> u64 {
        let sent = self.send.sent_up_to();
        let started = self.flights.iter().rposition(|request| request.is_sent(sent));
        let mut last = started.map(|index| self.flights.group_of(index).end - 1);
        let holds_cleanups =
            |request: &InFlight| request.standing.holds() && !request.standing.cleans_up();
        if !self.cancel.is_under_way() && !self.flights.iter().any(holds_cleanups) {
            last = last.max(self.end_of_first_cleanups().map(|end| end - 1));
        }
        let last = last.and_then(|index| self.flights.get(index));
        last.map_or(sent, |request| request.bytes.end.max(sent))
    }

    /// The place behind the first cleanup and those that follow it directly.
    fn end_of_first_cleanups(&self) -> Option<usize> {
        let cleans_up = |request: &InFlight| request.standing.cleans_up();
        let first = self.flights.iter().position(cleans_up)?;
        Some(first + self.flights.iter().skip(first).take_while(|one| cleans_up(one)).count())
    }

    /// A group or a cancel has come to its end: if none that holds the others back is left, sending
    /// goes on. Finds the next deadline too.
    #[cold]
    pub(super) fn stop_holding_if_drained(&mut self) {
        let is_late = |request: &InFlight| request.standing.holds();
        if !self.cancel.is_under_way() && !self.flights.iter().any(is_late) {
            self.clock.holding = false;
            self.cancel.forget_target();
        }
        self.find_next_deadline();
    }

    /// Whether nothing new is sent, because a late answer is awaited, or the end of a cancel.
    #[inline]
    pub fn is_holding(&self) -> bool {
        self.clock.is_holding()
    }
}
