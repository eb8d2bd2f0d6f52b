//! Two-phase commit: a transaction is prepared in one session, and committed or rolled back later
//! by whoever knows its identifier.

use super::Transaction;
use crate::connection::{PgConnection, quote_literal};
use crate::error::{PgError, PgResult};

/// Two-phase commit, for transaction managers. The server's `max_prepared_transactions` has to be
/// above zero. A prepared transaction keeps its locks, also over a restart of the server, until it
/// is ended: `pg_prepared_xacts` lists them.
///
/// Source: PostgreSQL documentation, "PREPARE TRANSACTION".
impl PgConnection {
    /// Prepares the open transaction under the identifier `gid` (at most 199 bytes) for
    /// [`commit_prepared`](Self::commit_prepared); the session is outside of a transaction then.
    ///
    /// # Errors
    ///
    /// [`PgError::RolledBack`] when the transaction had failed, so that the server rolled it back
    /// instead; [`PgError::Usage`] when none is open; else as [`query`](Self::query), after an error
    /// of the server the transaction was rolled back.
    pub fn prepare_transaction(&mut self, gid: &str) -> PgResult<()> {
        let sql = format!("PREPARE TRANSACTION {}", quote_literal(gid)?);
        if self.is_surely_idle() {
            return Err(PgError::Usage("there is no transaction to prepare".to_owned()));
        }
        self.execute_batch(&sql)
    }

    /// Commits a prepared transaction, from whatever session. Outside of a transaction only.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn commit_prepared(&mut self, gid: &str) -> PgResult<()> {
        let sql = format!("COMMIT PREPARED {}", quote_literal(gid)?);
        self.execute_batch(&sql)
    }

    /// Rolls a prepared transaction back, from whatever session. Outside of a transaction only.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn rollback_prepared(&mut self, gid: &str) -> PgResult<()> {
        let sql = format!("ROLLBACK PREPARED {}", quote_literal(gid)?);
        self.execute_batch(&sql)
    }
}

impl Transaction<'_> {
    /// Prepares the transaction instead of committing it: see
    /// [`PgConnection::prepare_transaction`].
    ///
    /// # Errors
    ///
    /// As [`PgConnection::prepare_transaction`]; [`PgError::Usage`] for a nested transaction, as only
    /// a whole one can be prepared. What is not prepared is rolled back.
    pub fn prepare_transaction(mut self, gid: &str) -> PgResult<()> {
        if self.is_nested() {
            return Err(PgError::Usage("a nested transaction cannot be prepared".to_owned()));
        }
        self.check_open("prepare")?;
        let result = PgConnection::prepare_transaction(&mut self, gid);
        self.ended(result)
    }
}
