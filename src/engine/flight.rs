//! One request in flight: what it is, what it waits for, what it has got so far.

use std::ops::Range;
use std::rc::Rc;

use super::deadline::Deadline;
use super::event::{CommandResult, CommandTag, Delivery, Outcome, Ticket};
use super::statement::{Name, Statement};
use crate::error::PgError;
use crate::row::{Column, RowSet};

/// The message that a request waits for next. An ErrorResponse may come instead of any of them and
/// leads to `Sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// This many CloseComplete.
    Close(usize),
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
    /// ReadyForQuery.
    Sync,
}

/// What a request is; what follows what in its answer.
#[derive(Debug)]
pub(super) enum Kind {
    /// Bind, Describe, Execute of a statement; `parse` when a Parse goes before, with the name that
    /// it makes.
    Execute { parse: bool, statement: Option<(Statement, Name)> },
    /// Parse, Describe.
    Prepare { name: Name, params: Vec<crate::types::Oid> },
    /// Query.
    Simple,
    /// Nothing but what stands before the Sync.
    Sync,
}

/// A request from `submit` to its ReadyForQuery.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) ticket: Ticket,
    pub(super) kind: Kind,
    pub(super) phase: Phase,
    pub(super) delivery: Delivery,
    pub(super) deadline: Option<Deadline>,
    /// Where its bytes are in the stream of sent bytes.
    pub(super) bytes: Range<u64>,
    pub(super) sql: Rc<str>,
    /// How many entries of the engine's `declared` are its own.
    pub(super) params: usize,
    /// Statements that it closes.
    pub(super) closes: Vec<Name>,
    /// The columns in force.
    pub(super) columns: Option<Rc<[Column]>>,
    pub(super) rows: Option<RowSet>,
    pub(super) outcome: Outcome,
    /// Whether `outcome.last` is the result of a command.
    pub(super) completed: bool,
    /// Why it has failed; told at ReadyForQuery.
    pub(super) error: Option<PgError>,
}

impl InFlight {
    /// Whether any of its bytes has left, when everything before byte `sent` has.
    pub(super) fn is_sent(&self, sent: u64) -> bool {
        self.bytes.start < sent
    }

    pub(super) fn columns(&self) -> Option<&[Column]> {
        self.columns.as_deref()
    }

    /// The phase after the last CloseComplete: where the request itself begins.
    pub(super) fn first_phase(&self) -> Phase {
        match self.kind {
            Kind::Execute { parse: true, .. } | Kind::Prepare { .. } => Phase::Parse,
            Kind::Execute { parse: false, .. } => Phase::Bind,
            Kind::Simple => Phase::Command,
            Kind::Sync => Phase::Sync,
        }
    }

    /// The columns of the rows that follow, or none.
    pub(super) fn describe(&mut self, columns: Option<Rc<[Column]>>) {
        self.rows = match (&columns, self.delivery) {
            (Some(columns), Delivery::Collect) => Some(RowSet::new(Rc::clone(columns))),
            _ => None,
        };
        self.columns = columns;
    }

    /// A command is done: its rows and tag become a result.
    pub(super) fn command_complete(&mut self, tag: CommandTag) {
        let result = CommandResult { rows: self.rows.take(), tag };
        self.columns = None;
        let earlier = std::mem::replace(&mut self.outcome.last, result);
        if self.completed {
            self.outcome.earlier.push(earlier);
        }
        self.completed = true;
    }
}
