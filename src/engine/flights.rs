//! The queue of the requests in flight, and the groups that they form.

use std::collections::VecDeque;
use std::ops::Range;

use super::event::Ticket;
use super::flight::{InFlight, Phase};
use crate::error::PgError;

/// Why a group failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// The place of the request that failed, from the front of the queue.
    pub(super) index: usize,
    pub(super) error: PgError,
    /// What can be done about it.
    pub(super) remedy: Remedy,
    /// The server does not know of it: the rest of the group succeeded.
    pub(super) alone: bool,
}

/// What can be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing.
    None,
    /// The prepared statement was stale and nothing was run: it is parsed anew.
    ParseAgain,
    /// The server cannot send a column in binary: it is asked for as text.
    AskForText,
}

/// For how many entries an empty queue keeps its room.
pub(super) const MOST_KEPT: usize = 1024;

/// The requests in flight, in the order of their answers: those that were sent before those that
/// were not, and the requests of a group one after the other.
#[derive(Debug, Default)]
pub(super) struct Flights {
    queue: VecDeque<Box<InFlight>>,
    /// Requests that have ended, to be used again.
    spare: Vec<Box<InFlight>>,
    /// How many requests of the front group have been answered: the place of the one whose answer
    /// comes now. After an error it is the place of the one that waits for ReadyForQuery.
    answering: usize,
    /// The error of the front group.
    failure: Option<Failure>,
    /// A request of the front group that this side refuses to complete, whatever the server says
    /// of it.
    refusal: Option<Failure>,
    /// How many requests of the front group stand before or are a COMMIT that succeeded: what
    /// fails later cannot undo them.
    committed: usize,
    /// The last group has no Sync yet.
    open: bool,
    /// A COPY FROM STDIN was queued since the queue was empty.
    pub(super) may_take_data: bool,
    /// The number of the last group.
    group: u64,
}

impl Flights {
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether the last group has no Sync yet.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The number of the group that a request would belong to that is pushed now.
    #[inline]
    pub(super) fn next_group(&self) -> u64 {
        if self.open { self.group } else { self.group + 1 }
    }

    pub(super) fn get(&self, index: usize) -> Option<&InFlight> {
        self.queue.get(index).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut InFlight> {
        self.queue.get_mut(index).map(Box::as_mut)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &InFlight> + ExactSizeIterator {
        self.queue.iter().map(Box::as_ref)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut InFlight> {
        self.queue.iter_mut().map(Box::as_mut)
    }

    #[inline]
    pub(super) fn find(&self, ticket: Ticket) -> Option<usize> {
        if self.queue.front().is_some_and(|request| request.ticket == ticket) {
            return Some(0);
        }
        // Tickets are given out in the order of the queue.
        self.queue.binary_search_by_key(&ticket, |request| request.ticket).ok()
    }

    /// The last request.
    #[inline]
    pub(super) fn last(&self) -> Option<&InFlight> {
        self.queue.back().map(Box::as_ref)
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut InFlight> {
        self.queue.back_mut().map(Box::as_mut)
    }

    /// The error of the front group.
    pub(super) fn front_error(&self) -> Option<&PgError> {
        self.failure.as_ref().map(|failure| &failure.error)
    }

    /// The request whose answer comes now.
    #[inline]
    pub(super) fn current(&self) -> Option<&InFlight> {
        self.get(self.answering)
    }

    /// The request whose answer comes now.
    #[inline]
    pub(super) fn current_mut(&mut self) -> Option<&mut InFlight> {
        self.get_mut(self.answering)
    }

    /// The current request is answered; the one behind it, whose answer comes now, unless it needs
    /// none: then what [needs none](Self::skip_answered) is to be skipped.
    #[inline]
    pub(super) fn next_mut(&mut self) -> Option<&mut InFlight> {
        self.answering += 1;
        self.get_mut(self.answering)
    }

    /// A request to be made and then [pushed](Self::push).
    #[inline]
    pub(super) fn new_request(&mut self) -> Box<InFlight> {
        self.spare.pop().unwrap_or_else(|| Box::new(InFlight::NONE))
    }

    /// Takes back a request that has ended.
    #[inline(always)]
    pub(super) fn recycle(&mut self, mut request: Box<InFlight>) {
        request.clear();
        if self.spare.len() < MOST_KEPT {
            self.spare.push(request);
        }
    }

    /// Puts a request behind the others.
    #[inline(always)]
    pub(super) fn push(&mut self, request: Box<InFlight>) {
        if !self.open {
            self.group += 1;
        }
        self.open = !request.ends_group;
        let is_awaited = self.answering == self.queue.len();
        self.queue.push_back(request);
        if is_awaited && self.failure.is_some() {
            // It belongs to a group that has failed already: it will not be run.
            self.await_sync_from(self.answering);
        } else if is_awaited {
            self.skip_answered();
        }
    }

    /// The last request of the open group is its last; `end` is the number of the byte behind its
    /// Sync.
    pub(super) fn end_group(&mut self, end: u64) {
        self.open = false;
        let last = self.queue.len().saturating_sub(1);
        let Some(request) = self.queue.get_mut(last) else { return };
        request.ends_group = true;
        request.bytes.end = end;
        if request.phase == Phase::Answered {
            request.phase = Phase::Sync;
            self.answering = self.answering.min(last);
        }
        if self.failure.is_some() {
            self.await_sync();
        }
    }

    /// The answer of the current request is complete.
    pub(super) fn answered(&mut self) {
        if let Some(request) = self.current_mut() {
            request.phase = request.phase_when_answered();
            self.skip_answered();
        }
    }

    /// What needs no answer, or has it, is not waited for: a request that has written nothing.
    #[inline]
    pub(super) fn skip_answered(&mut self) {
        while self.current().is_some_and(|request| request.phase == Phase::Answered) {
            self.answering += 1;
        }
    }

    /// The current request, and all before it in its group, are committed.
    pub(super) fn commit(&mut self) {
        self.committed = self.answering + 1;
    }

    /// The front group has failed, by the request whose answer is coming. The first error counts.
    pub(super) fn fail(&mut self, error: PgError, remedy: Remedy) {
        self.fail_at(self.answering, error, remedy);
    }

    /// The front group has failed between two requests, by the one that was answered last.
    pub(super) fn fail_answered(&mut self, error: PgError) {
        self.fail_at(self.answering.saturating_sub(1), error, Remedy::None);
    }

    fn fail_at(&mut self, index: usize, error: PgError, remedy: Remedy) {
        if self.failure.is_none() {
            self.failure = Some(Failure { index, error, remedy, alone: false });
            self.await_sync();
        }
    }

    /// The current request is to fail with this error, whatever the server says of it.
    pub(super) fn refuse(&mut self, error: PgError) {
        let (index, remedy) = (self.answering, Remedy::None);
        self.refusal.get_or_insert(Failure { index, error, remedy, alone: true });
    }

    /// Whether requests of the front group have been answered, and the group has no end yet.
    pub(super) fn has_answered(&self, sent: u64) -> bool {
        self.answering > 0 && self.queue.front().is_some_and(|request| request.is_sent(sent))
    }

    /// Whether the front group has failed: the server skips what is left of it.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// The request behind the current one.
    pub(super) fn after_current(&self) -> Option<&InFlight> {
        self.get(self.answering + 1)
    }

    /// `length` bytes more belong to the current request, the last of which is numbered `end - 1`.
    pub(super) fn grow_current(&mut self, end: u64, length: u64) {
        if let Some(request) = self.current_mut() {
            request.bytes.end = end;
        }
        self.move_back(self.answering + 1, length);
    }

    /// The server skips everything up to the Sync of the front group.
    fn await_sync(&mut self) {
        self.await_sync_from(0);
    }

    /// [`await_sync`](Self::await_sync) of which is known that the Sync does not come before the
    /// request at `index`.
    fn await_sync_from(&mut self, index: usize) {
        let behind = self.queue.range(index..).position(|request| request.ends_group);
        self.answering = behind.map_or(self.queue.len(), |last| index + last);
        if let Some(request) = self.queue.get_mut(self.answering) {
            request.phase = Phase::Sync;
        }
    }

    /// Whether the front group has failed, on whichever side.
    #[inline]
    pub(super) fn is_failing(&self) -> bool {
        self.failure.is_some() || self.refusal.is_some()
    }

    /// Why the front group has failed.
    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        match (self.failure.take(), self.refusal.take()) {
            // The server's error is about what this side did to it.
            (Some(failure), Some(refusal)) if failure.index == refusal.index => {
                Some(Failure { error: refusal.error, ..failure })
            }
            (failure, refusal) => failure.or(refusal),
        }
    }

    /// The front group is at its end: its length, and how many of its requests are committed
    /// whatever the error. The requests are to be popped.
    #[inline]
    pub(super) fn end(&mut self) -> (usize, usize) {
        let count = self.answering + 1;
        self.answering = 0;
        (count, std::mem::take(&mut self.committed))
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Box<InFlight>> {
        self.queue.pop_front()
    }

    /// Whether the request at `index` is a group of its own, which has its Sync.
    pub(super) fn is_alone(&self, index: usize) -> bool {
        let ends_group = |at: usize| self.queue.get(at).is_some_and(|request| request.ends_group);
        ends_group(index) && index.checked_sub(1).is_none_or(ends_group)
    }

    /// The places of the group that the request at `index` belongs to.
    pub(super) fn group_of(&self, index: usize) -> Range<usize> {
        let is_end = |at: &usize| self.queue.get(*at).is_some_and(|request| request.ends_group);
        let start = (0..index).rev().find(is_end).map_or(0, |end| end + 1);
        start..self.group_end(index)
    }

    /// The places of the group that begins at `start`, if one does.
    pub(super) fn group_from(&self, start: usize) -> Option<Range<usize>> {
        (start < self.queue.len()).then(|| start..self.group_end(start))
    }

    /// The requests at these places.
    pub(super) fn range(&self, places: Range<usize>) -> impl Iterator<Item = &InFlight> {
        self.queue.range(places).map(Box::as_ref)
    }

    /// The place behind the group of the request at `index`.
    fn group_end(&self, index: usize) -> usize {
        let behind = self.queue.range(index..).position(|request| request.ends_group);
        behind.map_or(self.queue.len(), |last| index + last + 1)
    }

    /// Takes a group out, of which nothing was sent. The bytes of those behind it are renumbered.
    pub(super) fn take_out(&mut self, group: Range<usize>) -> Vec<Box<InFlight>> {
        if group.end == self.queue.len() {
            self.open = false;
        }
        let taken: Vec<_> = self.queue.drain(group.clone()).collect();
        let length: u64 = taken.iter().map(|request| request.bytes.end - request.bytes.start).sum();
        for later in self.queue.iter_mut().skip(group.start) {
            later.bytes = later.bytes.start - length..later.bytes.end - length;
        }
        if group.start == 0 {
            self.answering = 0;
            self.skip_answered();
        }
        taken
    }

    /// Puts a request, with its Sync, between two groups, or before or behind all.
    pub(super) fn insert(&mut self, index: usize, request: Box<InFlight>) {
        self.queue.insert(index.min(self.queue.len()), request);
    }

    /// `length` bytes were put before the requests from `index` on.
    pub(super) fn move_back(&mut self, index: usize, length: u64) {
        for later in self.queue.iter_mut().skip(index) {
            later.bytes = later.bytes.start + length..later.bytes.end + length;
        }
    }

    /// Gives back what a long pipeline has made the empty queue grow to.
    #[inline]
    pub(super) fn release(&mut self) {
        self.may_take_data = false;
        if self.queue.capacity() > MOST_KEPT {
            self.queue = VecDeque::new();
            self.spare = Vec::new();
        }
    }

    /// Everything, when the connection breaks: the requests, and the error of the front group.
    pub(super) fn take_all(&mut self) -> (Vec<Box<InFlight>>, Option<Failure>) {
        self.answering = 0;
        self.open = false;
        let failure = self.failure.take().or(self.refusal.take());
        (self.queue.drain(..).collect(), failure)
    }
}
