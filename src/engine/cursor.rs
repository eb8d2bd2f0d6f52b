//! Cursors: portals that are fetched from in pieces.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use super::prepared::Name;
use super::statement::note_dropped;
use crate::error::{PgError, PgResult};
use crate::row::Column;

/// A portal on the server: a query that has been bound, and is run as far as rows are fetched from
/// it.
///
/// It lives until it is dropped or its transaction ends, whichever comes first, on the connection
/// that opened it; later it refuses fetches ([`PgError::Usage`]). A handle that is dropped closes its
/// portal with one of the next requests. After a fetch that took too long it refuses others: the rows
/// of that one are lost.
///
/// Source: PostgreSQL documentation, "Message Flow", "Extended Query" (named portals).
pub struct Cursor {
    portal: Rc<Portal>,
}

/// What is known of a portal.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) name: Name,
    pub(super) sql: Rc<str>,
    /// The columns of its rows, `None` when it returns none.
    pub(super) columns: Option<Rc<[Column]>>,
    pub(super) state: Cell<PortalState>,
    /// Somebody has the handle.
    pub(super) is_wanted: Cell<bool>,
}

/// What becomes of a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortalState {
    /// Rows may be left.
    Open,
    /// It has been run to its end.
    Done,
    /// Rows were fetched from it that nobody has got: the fetch took too long.
    LostRows,
    /// Its transaction is over.
    Gone,
}

impl Portal {
    /// Why nothing can be fetched, if so.
    pub(super) fn check(&self) -> PgResult<()> {
        let why = match self.state.get() {
            PortalState::Open | PortalState::Done => return Ok(()),
            PortalState::LostRows => {
                "a fetch from this cursor took too long, and its rows are lost: to go on would leave \
                 them out; nothing was sent"
            }
            PortalState::Gone => {
                "the transaction of this cursor is over, and the cursor with it; nothing was sent"
            }
        };
        Err(PgError::Usage(why.to_owned()))
    }

    /// It has been run to its end.
    pub(super) fn done(&self) {
        if self.state.get() == PortalState::Open {
            self.state.set(PortalState::Done);
        }
    }

    /// Its transaction is over.
    pub(super) fn gone(&self) {
        if self.state.get() != PortalState::Done {
            self.state.set(PortalState::Gone);
        }
    }
}

impl Cursor {
    pub(super) fn new(portal: Rc<Portal>) -> Self {
        Self { portal }
    }

    pub(super) fn portal(&self) -> &Rc<Portal> {
        &self.portal
    }

    /// Whether all rows have been fetched. The server finds that out when a fetch asks for more
    /// rows than are left: a fetch of just the last ones does not tell.
    pub fn is_done(&self) -> bool {
        self.portal.state.get() == PortalState::Done
    }

    /// The columns of its rows; empty for a statement that returns none.
    pub fn columns(&self) -> &[Column] {
        self.portal.columns.as_deref().unwrap_or_default()
    }

    /// The SQL text.
    pub fn sql(&self) -> &str {
        &self.portal.sql
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.portal.is_wanted.set(false);
        note_dropped();
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("sql", &self.sql())
            .field("columns", &self.columns().len())
            .field("is_done", &self.is_done())
            .finish()
    }
}
