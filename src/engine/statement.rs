//! Prepared statements, and what a connection knows about them.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::rc::{Rc, Weak};

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
    sql: Rc<str>,
    params: Vec<Oid>,
    columns: Rc<[Column]>,
}

impl Statement {
    pub(super) fn new(sql: Rc<str>, params: Vec<Oid>, columns: Rc<[Column]>) -> Self {
        thread_local! {
            /// Statements and connections stay on their thread, so ids need to be unique there
            /// only.
            static NEXT: Cell<u64> = const { Cell::new(0) };
        }
        let id = NEXT.replace(NEXT.get() + 1);
        Self(Rc::new(Inner { id, sql, params, columns }))
    }

    /// The SQL text.
    pub fn sql(&self) -> &str {
        &self.0.sql
    }

    /// The types of the parameters, `$1` first, as the server inferred them.
    pub fn params(&self) -> &[Oid] {
        &self.0.params
    }

    /// The columns as they were when the statement was prepared; empty when it returns no rows.
    pub fn columns(&self) -> &[Column] {
        &self.0.columns
    }

    pub(super) fn shared_sql(&self) -> Rc<str> {
        Rc::clone(&self.0.sql)
    }
}

thread_local! {
    /// How many statements of this thread have lost their last handle: a connection that has seen
    /// fewer has some to close.
    static DROPPED: Cell<u64> = const { Cell::new(0) };
}

impl Drop for Inner {
    fn drop(&mut self) {
        // During the end of a thread the counter may be gone, and so are the connections.
        let _ = DROPPED.try_with(|dropped| dropped.set(dropped.get() + 1));
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

/// The name of a statement on one server connection: `chopin_5f3a90c1_1`, `chopin_5f3a90c1_2` ...
///
/// Never used twice. The first number is the connection's own, drawn at random: behind a pooler
/// that hands server connections around, a name can never mean the statement of another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    connection: u32,
    number: u64,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chopin_{:08x}_{}", self.connection, self.number)
    }
}

/// The statements that one connection has prepared.
#[derive(Debug, Default)]
pub(super) struct Statements {
    known: HashMap<u64, (Name, Weak<Inner>)>,
    /// Prepared on the server, and nobody wants them any more.
    unwanted: Vec<Name>,
    /// Names given out so far. Kept when everything else is forgotten: a name is never used again.
    names: u64,
    /// What the names of this connection begin with.
    connection: u32,
    /// [`DROPPED`] when the statements without a handle were last looked for.
    seen_dropped: u64,
}

impl Statements {
    /// `connection` is a random number that tells this connection's names from all others.
    pub(super) fn new(connection: u32) -> Self {
        Self { connection, ..Self::default() }
    }

    /// A name that was never used on this connection.
    pub(super) fn new_name(&mut self) -> Name {
        self.names += 1;
        Name { connection: self.connection, number: self.names }
    }

    /// The name of `statement` on this connection's server.
    pub(super) fn name(&self, statement: &Statement) -> Option<Name> {
        self.known.get(&statement.0.id).map(|(name, _)| *name)
    }

    /// The server has `statement` under `name` now.
    pub(super) fn prepared(&mut self, statement: &Statement, name: Name) {
        let known = (name, Rc::downgrade(&statement.0));
        if let Some((earlier, _)) = self.known.insert(statement.0.id, known) {
            if earlier != name {
                self.unwanted.push(earlier);
            }
        }
    }

    /// `statement` is not wanted on this connection any more.
    pub(super) fn forget(&mut self, statement: &Statement) {
        if let Some((name, _)) = self.known.remove(&statement.0.id) {
            self.unwanted.push(name);
        }
    }

    /// The server has `name` but nobody wants it.
    pub(super) fn unwanted(&mut self, name: Name) {
        self.unwanted.push(name);
    }

    /// The names to close: those of statements whose last handle is gone, and those not wanted for
    /// another reason.
    pub(super) fn take_unwanted(&mut self) -> Vec<Name> {
        let dropped = DROPPED.get();
        if self.seen_dropped != dropped {
            self.seen_dropped = dropped;
            let unwanted = &mut self.unwanted;
            self.known.retain(|_, (name, statement)| {
                let wanted = statement.strong_count() > 0;
                if !wanted {
                    unwanted.push(*name);
                }
                wanted
            });
        }
        std::mem::take(&mut self.unwanted)
    }

    /// The server has forgotten all statements (DISCARD ALL, DEALLOCATE ALL).
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.unwanted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(sql: &str) -> Statement {
        Statement::new(sql.into(), Vec::new(), Rc::from([]))
    }

    #[test]
    fn s10_6_clearing_keeps_the_counter() {
        let mut statements = Statements::default();
        let first = statements.new_name();
        let select = statement("select 1");
        statements.prepared(&select, first);
        statements.clear();
        assert_eq!(statements.name(&select), None);
        let second = statements.new_name();
        assert_ne!(first, second, "a name of before the clear is not used again");
    }

    #[test]
    fn statements_without_a_handle_are_closed_once() {
        let mut statements = Statements::default();
        let (kept, dropped) = (statement("select 1"), statement("select 1"));
        let names = [statements.new_name(), statements.new_name()];
        statements.prepared(&kept, names[0]);
        statements.prepared(&dropped, names[1]);
        assert_eq!(statements.take_unwanted(), []);
        drop(dropped);
        assert_eq!(statements.take_unwanted(), [names[1]]);
        assert_eq!(statements.take_unwanted(), []);
        assert_eq!(statements.name(&kept), Some(names[0]));
    }
}
