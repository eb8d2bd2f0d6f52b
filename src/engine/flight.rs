//! A request in flight: what it is, what it waits for, what it has returned so far.

use std::ops::Range;
use std::rc::Rc;

use super::copy::Progress;
use super::cursor::Portal;
use super::deadline::Deadline;
use super::event::{CommandResult, CommandTag, Delivery, Outcome, Ticket};
use super::prepared::{Name, Unwanted};
use super::request::Submit;
use super::statement::Statement;
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
    /// Parse, Bind of a named portal, Describe.
    Open { portal: Name },
    /// Execute of a named portal.
    Fetch { portal: Rc<Portal> },
    /// Query.
    Simple,
    /// Query with a COPY from the program; `open` until the data have ended, on whichever side, and
    /// `failed` when the program has failed it. The length of the Query is `statement`, once
    /// something stands behind it.
    CopyIn { open: bool, failed: bool, statement: Option<u32>, progress: Progress },
    /// Query with a COPY to the program.
    CopyOut { progress: Progress },
    /// Nothing but what stands before the Sync.
    Sync,
}

/// The course of an execution.
#[derive(Clone, Copy, Debug)]
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

/// Whether anybody waits for a request. What nobody waits for is drained, and
/// [`Delivery::Discard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The program waits for it.
    Wanted,
    /// The program has discarded it; the work is done all the same, and what follows is sent behind
    /// it.
    Discarded,
    /// The program wants no more of its rows. Nothing new is sent until it has ended, so that a
    /// cancel, should it come to that, can hit nothing else.
    Stopped,
    /// It cleans up after a dropped handle: nothing but more of its kind is sent until it has ended,
    /// so that it can be written again should a cancel hit it that was meant for something before.
    Cleanup {
        /// One before it was hit: where that was a ROLLBACK, this one is refused, and is written
        /// again too.
        behind_hit: bool,
    },
    /// It has taken too long: it is cancelled when it is at the front, and nothing new is sent until
    /// it has ended.
    Late,
}

impl Standing {
    /// Whether it cleans up after a dropped handle.
    pub(super) fn cleans_up(self) -> bool {
        matches!(self, Self::Cleanup { .. })
    }

    /// Whether what follows waits for its end.
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::Stopped | Self::Cleanup { .. } | Self::Late)
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
    /// Whether anybody waits for it.
    pub(super) standing: Standing,
    /// When it has taken too long; of a request that was given up, how long its answer is drained
    /// before the next step is taken.
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
    /// What it closes, in the reverse order of the Close messages.
    pub(super) closes: Vec<Unwanted>,
    /// The parameter types that the server has inferred.
    pub(super) params: Vec<Oid>,
    /// What all commands but the last have returned.
    pub(super) earlier: Vec<CommandResult>,
    /// How many rows each parameter set has touched.
    pub(super) counts: Vec<u64>,
}

impl InFlight {
    /// A request that nobody has made.
    pub(super) const NONE: Self = Self {
        ticket: Ticket::NONE,
        kind: Kind::Sync,
        phase: Phase::Bind,
        delivery: Delivery::Discard,
        ends_group: false,
        standing: Standing::Wanted,
        deadline: None,
        bytes: 0..0,
        sql: Sql::Nothing,
        columns: None,
        rows: None,
        has_rows: false,
        commands: 0,
        tag: CommandTag::EMPTY,
        aside: None,
    };

    /// Makes it a request that was submitted so, and written as these bytes. Everything else is as
    /// in [`NONE`](Self::NONE).
    #[inline(always)]
    pub(super) fn begin(
        &mut self,
        ticket: Ticket,
        kind: Kind,
        sql: Sql,
        submit: &Submit,
        bytes: Range<u64>,
    ) {
        self.ticket = ticket;
        self.kind = kind;
        self.sql = sql;
        self.delivery = submit.delivery;
        self.ends_group = submit.sync;
        self.deadline = submit.deadline;
        self.bytes = bytes;
    }

    /// Makes it one that nobody has made.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        // What stands in the rest is written anew by `begin`.
        (self.kind, self.sql) = (Kind::Sync, Sql::Nothing);
        (self.columns, self.rows) = (None, None);
        if self.aside.is_some() {
            self.aside = None;
        }
        (self.phase, self.commands) = (Phase::Bind, 0);
        (self.standing, self.has_rows) = (Standing::Wanted, false);
        self.tag.clear();
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
            Kind::Execute(Execute { parse: true, .. })
            | Kind::Prepare { .. }
            | Kind::Open { .. } => Phase::Parse,
            Kind::Execute(_) => Phase::Bind,
            Kind::Fetch { .. } => Phase::PortalRows,
            Kind::Simple => Phase::Command,
            Kind::CopyIn { .. } | Kind::CopyOut { .. } => Phase::CopyStart,
            Kind::Sync if self.ends_group => Phase::Sync,
            Kind::Sync => Phase::Answered,
        }
    }

    /// The phase that follows the last message of its own.
    #[inline]
    pub(super) fn phase_when_answered(&self) -> Phase {
        if self.ends_group { Phase::Sync } else { Phase::Answered }
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
        matches!(self.kind, Kind::Execute(Execute { describe: true, .. }) | Kind::Open { .. })
    }

    /// A portal was made. Its columns are described next, or known from an earlier run: then they
    /// are in force, and whether they are to be told is returned.
    #[inline]
    pub(super) fn bound(&mut self) -> bool {
        let is_described = match &mut self.kind {
            Kind::Execute(execute) => std::mem::take(&mut execute.describe),
            Kind::Open { .. } => true,
            _ => false,
        };
        if is_described {
            self.phase = Phase::PortalColumns;
            return false;
        }
        self.portal_made();
        self.has_news_of_columns()
    }

    /// A portal was made whose columns are known: its rows follow.
    #[inline]
    pub(super) fn portal_made(&mut self) {
        self.phase = Phase::PortalRows;
        self.expect_rows();
    }

    /// Whether the columns of the portal that was made have not been told.
    #[inline]
    pub(super) fn has_news_of_columns(&self) -> bool {
        self.commands == 0 && self.columns.is_some()
    }

    /// Rows of the columns in force may come.
    #[inline]
    pub(super) fn expect_rows(&mut self) {
        if self.delivery == Delivery::Collect && self.rows.is_none() {
            self.rows =
                self.columns.as_ref().map(|columns| Rc::new(RowSet::new(Rc::clone(columns))));
        }
    }

    /// A command is done, with this tag. Whether that was the last one of the request.
    #[inline(always)]
    pub(super) fn command_done(&mut self, tag: &[u8]) -> bool {
        self.commands += 1;
        if self.delivery == Delivery::Collect {
            self.tag.set(tag);
            self.collect_result();
        }
        match &mut self.kind {
            Kind::Execute(Execute { sets_left: 0, .. }) => true,
            Kind::Execute(execute) => {
                execute.sets_left -= 1;
                self.phase = Phase::Bind;
                false
            }
            Kind::Simple => {
                self.columns = None;
                self.phase = Phase::Command;
                false
            }
            Kind::Fetch { portal } => {
                portal.done();
                true
            }
            _ => true,
        }
    }

    /// [`command_done`](Self::command_done); whether the answer of the next request comes then.
    #[inline]
    pub(super) fn command_ends(&mut self, tag: &[u8]) -> bool {
        if self.command_done(tag) {
            self.phase = self.phase_when_answered();
        }
        self.phase == Phase::Answered
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
    #[inline(never)]
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
    pub(super) fn outcome(&mut self) -> Outcome {
        let last = CommandResult { rows: self.rows.take(), tag: self.tag };
        let Some(aside) = self.aside.take() else { return Outcome { last, ..Outcome::NOTHING } };
        let Aside { mut earlier, counts, .. } = *aside;
        let last = earlier.pop().unwrap_or(last);
        Outcome { earlier, last, counts, ..Outcome::NOTHING }
    }
}
