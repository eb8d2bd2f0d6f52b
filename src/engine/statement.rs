//! Prepared statements: what they are, whatever connection runs them.

use std::cell::Cell;
use std::fmt;
use std::rc::{Rc, Weak};

use super::keyword::runs_from_description;
use crate::row::Column;
use crate::types::Oid;

/// A prepared statement: its SQL, the types of its parameters, its columns.
///
/// It is a key rather than a name on a server: a connection that has not prepared it yet does so
/// when it first runs it. So it has no lifetime, can be kept and cloned freely, survives
/// [`reset`](crate::PgConnection::reset), and works on every connection of the thread. The server's
/// side of it is closed some time after the last clone is gone.
#[derive(Clone)]
pub struct Statement(Rc<Inner>);

struct Inner {
    id: u64,
    sql: Box<str>,
    params: Box<[Oid]>,
    columns: Rc<[Column]>,
    /// Whether a description, once known, stays right: not so for FETCH, EXECUTE, SHOW, CALL ...
    runs_from_description: bool,
    /// Where a connection has found it last in the list of what its server has.
    hint: Cell<usize>,
}

/// A statement that does not keep itself alive.
#[derive(Clone)]
pub(super) struct WeakStatement(Weak<Inner>);

impl Statement {
    pub(super) fn new(sql: &str, params: Vec<Oid>, columns: Rc<[Column]>) -> Self {
        thread_local! {
            /// Statements and connections stay on their thread, so ids need to be unique there
            /// only.
            static NEXT: Cell<u64> = const { Cell::new(0) };
        }
        let id = NEXT.replace(NEXT.get() + 1);
        let runs_from_description = runs_from_description(sql);
        let params = params.into_boxed_slice();
        let (sql, hint) = (sql.into(), Cell::new(0));
        Self(Rc::new(Inner { id, sql, params, columns, runs_from_description, hint }))
    }

    /// The SQL text.
    pub fn sql(&self) -> &str {
        &self.0.sql
    }

    /// The types of the parameters, `$1` first: as the server inferred them for a statement that
    /// was prepared, as they were declared for one of the cache.
    pub fn params(&self) -> &[Oid] {
        &self.0.params
    }

    /// The columns as they were when the statement was prepared; empty when it returns no rows.
    pub fn columns(&self) -> &[Column] {
        &self.0.columns
    }

    #[inline]
    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    /// Where a connection has found it last in the list of what its server has.
    #[inline]
    pub(super) fn hint(&self) -> usize {
        self.0.hint.get()
    }

    pub(super) fn set_hint(&self, place: usize) {
        self.0.hint.set(place);
    }

    /// Whether it may be run from a description of an earlier run.
    #[inline]
    pub(super) fn runs_from_description(&self) -> bool {
        self.0.runs_from_description
    }

    pub(super) fn downgrade(&self) -> WeakStatement {
        WeakStatement(Rc::downgrade(&self.0))
    }

    /// How many statements and cursors of this thread have lost their last handle so far.
    pub(super) fn dropped() -> u64 {
        DROPPED.get()
    }
}

impl WeakStatement {
    /// The statement, if somebody still has it.
    pub(super) fn upgrade(&self) -> Option<Statement> {
        self.0.upgrade().map(Statement)
    }

    /// Whether somebody still has the statement.
    pub(super) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

thread_local! {
    /// A connection that has seen fewer of these may have some statements or portals to close.
    static DROPPED: Cell<u64> = const { Cell::new(0) };
}

/// Something of this thread that servers have was dropped: a statement, or a cursor.
pub(super) fn note_dropped() {
    // During the end of a thread the counter may be gone, and so are the connections.
    let _ = DROPPED.try_with(|dropped| dropped.set(dropped.get() + 1));
}

impl Drop for Inner {
    fn drop(&mut self) {
        note_dropped();
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement")
            .field("sql", &self.sql())
            .field("params", &self.params())
            .field("columns", &self.columns().len())
            .finish()
    }
}
