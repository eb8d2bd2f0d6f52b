//! The requests in flight: what each waits for, and which group it belongs to.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use super::copy::Progress;
use super::deadline::Deadline;
use super::event::{CommandResult, CommandTag, Delivery, Outcome, Ticket};
use super::prepared::Name;
use super::request::Submit;
use super::statement::Statement;
use crate::error::PgError;
use crate::row::{Column, RowSet};
use crate::types::Oid;

/// The message that a request waits for next. An ErrorResponse may come instead of any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// CloseComplete, once for each of the request's `closes`.
    Close,
    /// ParseComplete.
    Parse,
    /// ParameterDescription.
    StatementParameters,
    /// RowDescription or NoData of a statement.
    StatementColumns,
    /// BindComplete.
    Bind,
    /// RowDescription or NoData of a portal.
    PortalColumns,
    /// DataRow, or what ends a portal's rows: CommandComplete, EmptyQueryResponse.
    PortalRows,
    /// Simple protocol: the first message of a command's answer, or ReadyForQuery.
    Command,
    /// Simple protocol: DataRow, or CommandComplete.
    CommandRows,
    /// The rest of a COPY that nobody asked for, up to CommandComplete.
    CopyOut,
    /// CopyInResponse or CopyOutResponse.
    CopyStart,
    /// CommandComplete, once the data have been sent.
    CopyIn,
    /// CopyData, or CopyDone.
    CopyData,
    /// CommandComplete, behind CopyDone.
    CopyEnd,
    /// Nothing: its answer is complete, the next request's follows.
    Answered,
    /// ReadyForQuery.
    Sync,
}

/// What a request is; what follows what in its answer.
#[derive(Debug)]
pub(super) enum Kind {
    /// Bind and Execute, maybe several times, maybe with a Parse and a Describe before.
    Execute(Execute),
    /// Parse, Describe.
    Prepare { name: Option<Name> },
    /// Query.
    Simple,
    /// Query with a COPY from the program; `open` until the data have ended, on whichever side.
    CopyIn { open: bool, progress: Progress },
    /// Query with a COPY to the program.
    CopyOut { progress: Progress },
    /// Nothing but what stands before the Sync.
    Sync,
}

/// The course of an execution.
#[derive(Debug)]
pub(super) struct Execute {
    /// A Parse goes before, and its ParseComplete has not come.
    pub(super) parse: bool,
    /// The name that the statement has on the server; `None` for the unnamed one.
    pub(super) name: Option<Name>,
    /// A Describe stands between the next Bind and its Execute.
    pub(super) describe: bool,
    /// The server had the statement when this was written: an error instead of BindComplete says
    /// that it is stale.
    pub(super) known: bool,
    /// How many further parameter sets follow the one that is being run.
    pub(super) sets_left: usize,
    /// It is a batch: the rows that each set touches are counted.
    pub(super) batch: bool,
}

/// The SQL text of a request, for errors.
#[derive(Debug)]
pub(super) enum Sql {
    /// That of a statement.
    Statement(Statement),
    /// Its own.
    Text(Rc<str>),
    /// None.
    Nothing,
}

impl Sql {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Statement(statement) => statement.sql(),
            Self::Text(text) => text,
            Self::Nothing => "",
        }
    }
}

/// A request from `submit` to its ReadyForQuery.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) ticket: Ticket,
    pub(super) kind: Kind,
    pub(super) phase: Phase,
    pub(super) delivery: Delivery,
    /// Its last message is a Sync.
    pub(super) ends_group: bool,
    /// Nobody waits for it any more, and nothing new is sent until its answer has been drained.
    pub(super) late: bool,
    /// It was given up after it had been sent: its answer is only drained.
    pub(super) abandoned: bool,
    /// When it has taken too long; of a request that was given up, when to give up draining.
    pub(super) deadline: Option<Deadline>,
    /// Where its bytes are in the stream of sent bytes.
    pub(super) bytes: Range<u64>,
    pub(super) sql: Sql,
    /// The columns in force.
    pub(super) columns: Option<Rc<[Column]>>,
    /// Collected rows of the command that is being run.
    pub(super) rows: Option<Rc<RowSet>>,
    /// A row has come.
    pub(super) has_rows: bool,
    /// Commands that are complete.
    pub(super) commands: usize,
    /// The tag of the last of them.
    pub(super) tag: CommandTag,
    /// What only some requests have.
    pub(super) aside: Option<Box<Aside>>,
}

/// What most requests have nothing of: it would only make them larger.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Its parameters, if they were declared in a Parse: Rust type and declared type, for errors.
    pub(super) declared: Vec<(&'static str, Oid)>,
    /// Statements that it closes, in the reverse order of their Close messages.
    pub(super) closes: Vec<Name>,
    /// The parameter types that the server has inferred.
    pub(super) params: Vec<Oid>,
    /// What all commands but the last have returned.
    pub(super) earlier: Vec<CommandResult>,
    /// How many rows each parameter set has touched.
    pub(super) counts: Vec<u64>,
}

impl InFlight {
    /// A request that was written as these bytes.
    #[inline]
    pub(super) fn new(
        ticket: Ticket,
        kind: Kind,
        sql: Sql,
        submit: &Submit,
        bytes: Range<u64>,
    ) -> Self {
        Self {
            ticket,
            kind,
            phase: Phase::Bind,
            delivery: submit.delivery,
            ends_group: submit.sync,
            late: false,
            abandoned: false,
            deadline: submit.deadline,
            bytes,
            sql,
            columns: None,
            rows: None,
            has_rows: false,
            commands: 0,
            tag: CommandTag::EMPTY,
            aside: None,
        }
    }

    /// Whether any of its bytes has left, when everything before byte `sent` has.
    #[inline]
    pub(super) fn is_sent(&self, sent: u64) -> bool {
        self.bytes.start < sent
    }

    /// The phase in which the request begins.
    #[inline]
    pub(super) fn first_phase(&self) -> Phase {
        match &self.kind {
            _ if self.aside.as_ref().is_some_and(|aside| !aside.closes.is_empty()) => Phase::Close,
            Kind::Execute(Execute { parse: true, .. }) | Kind::Prepare { .. } => Phase::Parse,
            Kind::Execute(_) => Phase::Bind,
            Kind::Simple => Phase::Command,
            Kind::CopyIn { .. } | Kind::CopyOut { .. } => Phase::CopyStart,
            Kind::Sync if self.ends_group => Phase::Sync,
            Kind::Sync => Phase::Answered,
        }
    }

    /// Whether ReadyForQuery can come, when everything before byte `sent` has left: its Sync is
    /// among it. (A simple query needs none, and ends by itself while a CopyFail is on its way; so
    /// does a COPY in which the server met an error, while data are on their way.)
    #[inline]
    pub(super) fn can_end(&self, sent: u64) -> bool {
        self.bytes.end <= sent || matches!(self.kind, Kind::Simple | Kind::CopyIn { .. })
    }

    /// Whether the columns of the next portal are described.
    #[inline]
    pub(super) fn describes(&self) -> bool {
        matches!(self.kind, Kind::Execute(Execute { describe: true, .. }))
    }

    /// A portal was made. Its columns are described next, or known from an earlier run: then they
    /// are in force, and whether they are to be told is returned.
    #[inline]
    pub(super) fn bound(&mut self) -> bool {
        if let Kind::Execute(execute) = &mut self.kind {
            if std::mem::take(&mut execute.describe) {
                self.phase = Phase::PortalColumns;
                return false;
            }
        }
        self.phase = Phase::PortalRows;
        if self.delivery == Delivery::Collect && self.rows.is_none() {
            self.rows =
                self.columns.as_ref().map(|columns| Rc::new(RowSet::new(Rc::clone(columns))));
        }
        self.commands == 0 && self.columns.is_some()
    }

    /// A command is done, with this tag. Whether that was the last one of the request.
    #[inline]
    pub(super) fn command_done(&mut self, tag: &[u8]) -> bool {
        self.commands += 1;
        if self.delivery != Delivery::Events {
            self.tag = CommandTag::new(tag);
        }
        if self.delivery == Delivery::Collect {
            self.collect_result();
        }
        match &mut self.kind {
            Kind::Simple => {
                self.columns = None;
                self.phase = Phase::Command;
                false
            }
            Kind::Execute(execute) if execute.sets_left > 0 => {
                execute.sets_left -= 1;
                self.phase = Phase::Bind;
                false
            }
            _ => true,
        }
    }

    /// The columns of the rows that follow.
    #[inline]
    pub(super) fn describe(&mut self, columns: Rc<[Column]>) {
        if self.delivery == Delivery::Collect && self.rows.is_none() {
            self.rows = Some(Rc::new(RowSet::new(Rc::clone(&columns))));
        }
        self.columns = Some(columns);
    }

    /// What only some requests have.
    pub(super) fn aside(&mut self) -> &mut Aside {
        self.aside.get_or_insert_default()
    }

    /// A command is done, and its result is to be collected. The sets of a batch have one result
    /// together.
    fn collect_result(&mut self) {
        match &self.kind {
            Kind::Execute(execute) if execute.batch => {
                let count = self.tag.rows().unwrap_or(0);
                self.aside().counts.push(count);
            }
            Kind::Simple => {
                let result = CommandResult { rows: self.rows.take(), tag: self.tag };
                self.aside().earlier.push(result);
            }
            _ => {}
        }
    }

    /// What it has returned.
    #[inline]
    pub(super) fn outcome(self) -> Outcome {
        let last = CommandResult { rows: self.rows, tag: self.tag };
        let Some(aside) = self.aside else { return Outcome { last, ..Outcome::NOTHING } };
        let Aside { mut earlier, counts, .. } = *aside;
        let last = earlier.pop().unwrap_or(last);
        Outcome { earlier, last, counts, statement: None }
    }
}

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
    queue: VecDeque<InFlight>,
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
        self.queue.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut InFlight> {
        self.queue.get_mut(index)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &InFlight> + ExactSizeIterator {
        self.queue.iter()
    }

    pub(super) fn find(&self, ticket: Ticket) -> Option<usize> {
        // Tickets are given out in the order of the queue.
        self.queue.binary_search_by_key(&ticket, |request| request.ticket).ok()
    }

    /// The last request.
    #[inline]
    pub(super) fn last(&self) -> Option<&InFlight> {
        self.queue.back()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut InFlight> {
        self.queue.back_mut()
    }

    /// The error of the front group.
    pub(super) fn front_error(&self) -> Option<&PgError> {
        self.failure.as_ref().map(|failure| &failure.error)
    }

    /// The request whose answer comes now.
    #[inline]
    pub(super) fn current(&self) -> Option<&InFlight> {
        self.queue.get(self.answering)
    }

    /// The request whose answer comes now.
    #[inline]
    pub(super) fn current_mut(&mut self) -> Option<&mut InFlight> {
        self.queue.get_mut(self.answering)
    }

    /// Puts a request behind the others.
    #[inline]
    pub(super) fn push(&mut self, request: InFlight) {
        if !self.open {
            self.group += 1;
        }
        self.open = !request.ends_group;
        let is_awaited = self.answering == self.queue.len();
        self.queue.push_back(request);
        if is_awaited {
            self.skip_answered();
        }
        if self.failure.is_some() {
            // It may belong to a group that has failed already: then it will not be run.
            self.await_sync();
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
    #[inline]
    pub(super) fn answered(&mut self) {
        let Some(request) = self.queue.get_mut(self.answering) else { return };
        if request.ends_group {
            request.phase = Phase::Sync;
            return;
        }
        request.phase = Phase::Answered;
        self.skip_answered();
    }

    /// What needs no answer, or has it, is not waited for: a request that has written nothing.
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

    /// The request behind the current one.
    pub(super) fn after_current(&self) -> Option<&InFlight> {
        self.queue.get(self.answering + 1)
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
        let last = self.queue.iter().position(|request| request.ends_group);
        self.answering = last.unwrap_or(self.queue.len());
        if let Some(request) = self.queue.get_mut(self.answering) {
            request.phase = Phase::Sync;
        }
    }

    /// The front group is at its end: its length, its error, and how many of its requests are
    /// committed whatever the error. The requests are to be popped.
    #[inline]
    pub(super) fn end(&mut self) -> (usize, Option<Failure>, usize) {
        let count = self.answering + 1;
        self.answering = 0;
        let committed = std::mem::take(&mut self.committed);
        if self.failure.is_none() && self.refusal.is_none() {
            return (count, None, committed);
        }
        let failure = match (self.failure.take(), self.refusal.take()) {
            // The server's error is about what this side did to it.
            (Some(failure), Some(refusal)) if failure.index == refusal.index => {
                Some(Failure { error: refusal.error, ..failure })
            }
            (failure, refusal) => failure.or(refusal),
        };
        (count, failure, committed)
    }

    #[inline]
    pub(super) fn drop_front(&mut self) {
        self.queue.pop_front();
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<InFlight> {
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
        let end = (index..self.queue.len()).find(is_end).map_or(self.queue.len(), |end| end + 1);
        start..end
    }

    /// Takes a group out, of which nothing was sent. The bytes of those behind it are renumbered.
    pub(super) fn take_out(&mut self, group: Range<usize>) -> Vec<InFlight> {
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

    /// `length` bytes were put before the requests from `index` on.
    pub(super) fn move_back(&mut self, index: usize, length: u64) {
        for later in self.queue.iter_mut().skip(index) {
            later.bytes = later.bytes.start + length..later.bytes.end + length;
        }
    }

    /// Gives back what a long pipeline has made the empty queue grow to.
    #[inline]
    pub(super) fn release(&mut self) {
        if self.queue.capacity() > MOST_KEPT {
            self.queue = VecDeque::new();
        }
    }

    /// Everything, when the connection breaks: the requests, and the error of the front group.
    pub(super) fn take_all(&mut self) -> (Vec<InFlight>, Option<Failure>) {
        self.answering = 0;
        self.open = false;
        let failure = self.failure.take().or(self.refusal.take());
        (self.queue.drain(..).collect(), failure)
    }
}
