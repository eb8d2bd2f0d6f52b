//! Transactions.
//!
//! | file | what lives there |
//! |---|---|
//! | `transaction.rs` | begin, commit, rollback, reset as single calls; the status |
//! | `guard.rs` | a transaction that is rolled back unless it is committed; the closure form |
//! | `builder.rs` | isolation level, read only, deferrable; doing it again after a conflict |
//! | `savepoint.rs` | savepoints, by single calls and as nested transactions |
//! | `two_phase.rs` | two-phase commit |
//!
//! Whether a transaction is open is what the server said last (ReadyForQuery); nothing here counts.

mod builder;
mod guard;
mod savepoint;
mod two_phase;

pub use self::builder::{IsolationLevel, TransactionBuilder};
pub use self::guard::Transaction;

use super::{PgConnection, TransactionStatus};
use crate::engine::Request;
use crate::error::PgResult;

/// Transactions by single calls, as their SQL commands. [`transaction`](PgConnection::transaction)
/// is safer: it never leaves one open.
impl PgConnection {
    /// Begins a transaction. Inside of one it does nothing but make the server warn.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// connection.begin()?;
    /// connection.execute("update accounts set balance = balance - 10 where id = $1", &[&1])?;
    /// connection.execute("update accounts set balance = balance + 10 where id = $1", &[&2])?;
    /// connection.commit()?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query). After a [`PgError::Timeout`](crate::PgError::Timeout) the
    /// transaction may have begun, so [`rollback`](Self::rollback) comes next.
    pub fn begin(&mut self) -> PgResult<()> {
        self.execute_batch("BEGIN")
    }

    /// Commits the transaction.
    ///
    /// # Errors
    ///
    /// [`PgError::RolledBack`](crate::PgError::RolledBack) when the transaction had failed, so that
    /// the server rolled it back instead. A deferred constraint or a serialization failure may be
    /// found only now: nothing is committed then either. Else as [`query`](Self::query); after a
    /// [`PgError::Timeout`](crate::PgError::Timeout) or a lost connection nobody knows whether it
    /// was committed.
    pub fn commit(&mut self) -> PgResult<()> {
        self.execute_batch("COMMIT")
    }

    /// Rolls the transaction back. Outside of one it does nothing but make the server warn.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn rollback(&mut self) -> PgResult<()> {
        self.execute_batch("ROLLBACK")
    }

    /// Brings the session back to its first state: rolls back what is open, then `DISCARD ALL`
    /// (settings, temporary tables, advisory locks, LISTENs, prepared statements).
    /// [`Statement`](super::Statement)s stay usable: they are prepared again when they are next
    /// run.
    ///
    /// Notices and notifications that were kept stay until they are fetched.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn reset(&mut self) -> PgResult<()> {
        if self.settled_status()? != TransactionStatus::Idle {
            self.rollback()?;
        }
        self.execute_batch("DISCARD ALL")
    }

    /// The transaction status once nothing is in flight: a late answer, or what a dropped handle
    /// has queued, may change it, and is awaited.
    pub(super) fn settled_status(&mut self) -> PgResult<TransactionStatus> {
        if self.engine.in_flight() > 0 {
            self.ask(Request::Sync)?;
        }
        Ok(self.transaction_status())
    }

    /// Whether it is certain that no transaction is open: nothing that is in flight can have begun
    /// one.
    fn is_surely_idle(&self) -> bool {
        self.engine.in_flight() == 0 && self.transaction_status() == TransactionStatus::Idle
    }

    /// Queues statements that clean up after a dropped handle, and sends what the socket takes.
    /// Never waits; limits do not count.
    pub(super) fn clean_up(&mut self, sql: &str) {
        self.engine.submit_cleanup(sql);
        self.flush();
    }
}
