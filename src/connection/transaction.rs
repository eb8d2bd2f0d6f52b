//! Transactions by single calls, and bringing a session back to its first state.

use super::{PgConnection, TransactionStatus};
use crate::engine::Request;
use crate::error::{PgError, PgResult};

impl PgConnection {
    /// Begins a transaction.
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
    /// As [`query`](Self::query).
    pub fn begin(&mut self) -> PgResult<()> {
        self.execute_batch("BEGIN")
    }

    /// Commits the transaction.
    ///
    /// # Errors
    ///
    /// [`PgError::RolledBack`] when the transaction had failed, so that the server rolled it back
    /// instead; else as [`query`](Self::query).
    pub fn commit(&mut self) -> PgResult<()> {
        let outcome = self.run(Request::Simple { sql: "COMMIT" })?;
        if outcome.last().tag().as_str() == "ROLLBACK" {
            return Err(PgError::RolledBack);
        }
        Ok(())
    }

    /// Rolls the transaction back.
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
        if self.engine.in_flight() > 0 {
            // A late answer is awaited, and may change the transaction status.
            self.ask(Request::Sync)?;
        }
        if self.transaction_status() != TransactionStatus::Idle {
            self.rollback()?;
        }
        self.execute_batch("DISCARD ALL")
    }
}
