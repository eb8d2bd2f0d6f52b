//! A connection that somebody uses.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use super::Shared;
use super::slots::PoolToken;
use super::sources::SourceChange;
use crate::connection::PgConnection;

/// A connection of a pool, for as long as somebody needs it. It is used like a
/// [`PgConnection`]; dropped, it goes back to the pool, which never waits and never panics.
///
/// A guard owns its connection: there may be several at a time, and each can be kept across turns of an
/// event loop. It keeps the pool alive, too.
#[must_use = "a guard that is dropped gives its connection back"]
pub struct ConnectionGuard {
    shared: Rc<Shared>,
    token: PoolToken,
    /// `None` only while it is being dropped.
    connection: Option<Box<PgConnection>>,
}

impl ConnectionGuard {
    pub(super) fn new(shared: Rc<Shared>, token: PoolToken, connection: Box<PgConnection>) -> Self {
        Self { shared, token, connection: Some(connection) }
    }

    /// The number under which the pool's connection is registered with a poller: that of
    /// [`PoolEvent::GuardReady`](super::PoolEvent::GuardReady).
    pub fn token(&self) -> PoolToken {
        self.token
    }

    /// What a poller is to watch of this connection from now on, if it is something else than before:
    /// as [`PgPool::update_sources`](super::PgPool::update_sources). A program that keeps a guard while
    /// it waits calls it before each wait in which the connection has something new to wait for: when it
    /// has just got the guard, and after it has done anything with it. It sends what
    /// was submitted, and the pool's [`deadline`](super::PgPool::deadline) includes the connection's from
    /// then on.
    ///
    /// # Errors
    ///
    /// What `change` returns; the same change is told again by the next call.
    pub fn update_sources(
        &mut self,
        change: impl FnMut(SourceChange<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.flush();
        self.shared.note_deadline(self.token, connection.deadline());
        self.shared.tell_changes(self.token, connection, change)
    }

    /// Takes the connection out of the pool for good: its place is free for another one. A poller that
    /// watches its descriptors still does: take them out.
    pub fn detach(mut guard: Self) -> PgConnection {
        guard.shared.forget(guard.token);
        match guard.connection.take() {
            Some(connection) => *connection,
            None => unreachable!("a guard has its connection until it is dropped"),
        }
    }

    /// Closes the connection instead of giving it back.
    pub fn close(guard: Self) {
        drop(Self::detach(guard));
    }
}

impl Deref for ConnectionGuard {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match &self.connection {
            Some(connection) => connection,
            None => unreachable!("a guard has its connection until it is dropped"),
        }
    }
}

impl DerefMut for ConnectionGuard {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("a guard has its connection until it is dropped"),
        }
    }
}

impl fmt::Debug for ConnectionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ConnectionGuard");
        debug.field("token", &self.token).field("connection", &self.connection).finish()
    }
}

/// Gives the connection back. Never waits.
impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.shared.give_back(self.token, connection);
        }
    }
}
