//! What can be asked of the server, and how.

use super::cursor::Cursor;
use super::deadline::Deadline;
use super::event::Delivery;
use super::statement::Statement;
use crate::config::ExecutionMode;
use crate::types::{Oid, Params};

/// Something to ask the server for.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Request<'a> {
    /// Run one statement with parameters, in one round trip. How is said by the
    /// [`ExecutionMode`]: through the statement cache unless told otherwise.
    Query {
        /// One SQL statement.
        sql: &'a str,
        /// Its parameters.
        params: &'a dyn Params,
    },
    /// Run a prepared statement: Bind, Execute, Sync; with a Parse before on a connection that does
    /// not have it.
    Execute {
        /// The statement.
        statement: &'a Statement,
        /// Its parameters.
        params: &'a dyn Params,
    },
    /// Run one statement once for each of several sets of parameters: Bind and Execute for each,
    /// one Sync. Either all of it is done or nothing. Rows that the runs return are put together.
    Batch {
        /// One SQL statement.
        sql: &'a str,
        /// The sets. The types are those of the first set.
        sets: &'a dyn ParamSets,
    },
    /// [`Batch`](Self::Batch) with a prepared statement.
    ExecuteBatch {
        /// The statement.
        statement: &'a Statement,
        /// The sets.
        sets: &'a dyn ParamSets,
    },
    /// Prepare a statement: Parse, Describe, Sync. The [`Outcome`](super::Outcome) has it.
    Prepare {
        /// One SQL statement.
        sql: &'a str,
        /// The types of the first parameters; unspecified ones and those that are missing are
        /// inferred.
        types: &'a [Oid],
    },
    /// Run a string of statements without parameters (the simple protocol). Results come in text
    /// format. It is a group of its own.
    Simple {
        /// Any number of SQL statements.
        sql: &'a str,
    },
    /// Open a cursor for one statement: Parse, Bind, Describe, Sync. The [`Outcome`](super::Outcome)
    /// has it. It lives in a transaction, so one must be open when this is run.
    OpenCursor {
        /// One SQL statement.
        sql: &'a str,
        /// Its parameters.
        params: &'a dyn Params,
    },
    /// Fetch rows from a cursor: Execute, Sync.
    Fetch {
        /// The cursor; one of the same connection.
        cursor: &'a Cursor,
        /// How many rows at most; 0 for all that are left.
        max_rows: u32,
    },
    /// COPY from the program: its data go by [`Engine::copy_data`](super::Engine::copy_data) and end
    /// with [`copy_done`](super::Engine::copy_done) or [`copy_fail`](super::Engine::copy_fail). Until
    /// then no other request is taken ([`PgError::Busy`](crate::PgError::Busy)). It is a group of its
    /// own.
    CopyIn {
        /// One `COPY ... FROM STDIN`.
        sql: &'a str,
    },
    /// COPY to the program: the data come as [`Event::CopyData`](super::Event::CopyData). It is a
    /// group of its own.
    CopyOut {
        /// One `COPY ... TO STDOUT`.
        sql: &'a str,
    },
    /// Close a prepared statement on this connection; it can still be run again.
    Close {
        /// The statement.
        statement: &'a Statement,
    },
    /// Nothing but a Sync: the shortest question that a server answers, and the end of an open
    /// group.
    Sync,
}

/// Several sets of parameters for one statement: slices, arrays and vectors of anything that is
/// [`Params`], and references to them.
pub trait ParamSets {
    /// How many sets there are.
    fn len(&self) -> usize;

    /// The set with this index, from 0; `None` past the end.
    fn set(&self, index: usize) -> Option<&dyn Params>;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<P: Params> ParamSets for [P] {
    fn len(&self) -> usize {
        <[P]>::len(self)
    }
    fn set(&self, index: usize) -> Option<&dyn Params> {
        self.get(index).map(|set| set as &dyn Params)
    }
}

impl<P: Params, const N: usize> ParamSets for [P; N] {
    fn len(&self) -> usize {
        N
    }
    fn set(&self, index: usize) -> Option<&dyn Params> {
        self.as_slice().set(index)
    }
}

impl<P: Params> ParamSets for Vec<P> {
    fn len(&self) -> usize {
        Vec::len(self)
    }
    fn set(&self, index: usize) -> Option<&dyn Params> {
        self.as_slice().set(index)
    }
}

impl<S: ParamSets + ?Sized> ParamSets for &S {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn set(&self, index: usize) -> Option<&dyn Params> {
        (**self).set(index)
    }
}

/// One set, as the only one.
#[derive(Clone, Copy)]
pub(super) struct OneSet<'a>(pub(super) &'a dyn Params);

impl ParamSets for OneSet<'_> {
    #[inline]
    fn len(&self) -> usize {
        1
    }
    #[inline]
    fn set(&self, index: usize) -> Option<&dyn Params> {
        (index == 0).then_some(self.0)
    }
}

/// How a request is submitted.
///
/// ```
/// use chopin_pg::engine::{Delivery, Submit};
///
/// let submit = Submit::new(Delivery::Events).no_sync();
/// assert!(!submit.sync);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Submit {
    /// How the answer reaches the caller.
    pub delivery: Delivery,
    /// When it has taken too long; `None` for never.
    pub deadline: Option<Deadline>,
    /// How queries are run; `None` for the connection's own way.
    pub mode: Option<ExecutionMode>,
    /// Whether a Sync follows, which ends the group. Without one the request waits for those that
    /// come after it: they succeed or fail together, up to
    /// [`Engine::end_group`](super::Engine::end_group).
    pub sync: bool,
}

impl Submit {
    /// A request that is a group of its own, without a deadline.
    pub const fn new(delivery: Delivery) -> Self {
        Self { delivery, deadline: None, mode: None, sync: true }
    }

    /// With this deadline.
    #[must_use]
    pub const fn deadline(mut self, deadline: Option<Deadline>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Run in this mode.
    #[must_use]
    pub const fn mode(mut self, mode: ExecutionMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Without a Sync: the group stays open.
    #[must_use]
    pub const fn no_sync(mut self) -> Self {
        self.sync = false;
        self
    }
}
