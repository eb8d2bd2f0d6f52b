//! Savepoints, by single calls and as transactions within a transaction.

use super::Transaction;
use crate::connection::{PgConnection, quote_identifier};
use crate::error::PgResult;

/// Savepoints. Names are quoted, so a name is only ever a name; they differ in upper and lower
/// case. Those that begin with `chopin_` are taken by nested transactions.
impl PgConnection {
    /// Sets a savepoint in the transaction, to which [`rollback_to`](Self::rollback_to) leads back.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// connection.transaction(|tx| {
    ///     tx.savepoint("before the guess")?;
    ///     if tx.execute("insert into works (id) values (1)", &[]).is_err() {
    ///         tx.rollback_to("before the guess")?;
    ///     }
    ///     tx.release_savepoint("before the guess")
    /// })?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`quote_identifier`] and [`query`](Self::query).
    pub fn savepoint(&mut self, name: &str) -> PgResult<()> {
        let sql = format!("SAVEPOINT {}", quote_identifier(name)?);
        self.execute_batch(&sql)
    }

    /// Undoes everything since the savepoint, which stays. It makes a transaction usable again that
    /// has failed since.
    ///
    /// # Errors
    ///
    /// As [`savepoint`](Self::savepoint).
    pub fn rollback_to(&mut self, name: &str) -> PgResult<()> {
        let sql = format!("ROLLBACK TO SAVEPOINT {}", quote_identifier(name)?);
        self.execute_batch(&sql)
    }

    /// Forgets the savepoint and those set after it; what was done since stays.
    ///
    /// # Errors
    ///
    /// As [`savepoint`](Self::savepoint).
    pub fn release_savepoint(&mut self, name: &str) -> PgResult<()> {
        let name = quote_identifier(name)?;
        self.release_quoted(&name)
    }

    /// [`release_savepoint`](Self::release_savepoint) of a name that is quoted.
    pub(super) fn release_quoted(&mut self, name: &str) -> PgResult<()> {
        self.execute_batch(&format!("RELEASE SAVEPOINT {name}"))
    }

    /// Sets a savepoint that is rolled back to when it is dropped, unless it is
    /// [committed](Transaction::commit) before:
    /// [`begin_transaction`](Self::begin_transaction) within a transaction, with a name of one's
    /// own for it.
    ///
    /// # Errors
    ///
    /// As [`savepoint`](Self::savepoint); the server refuses it outside of a transaction.
    pub fn begin_savepoint(&mut self, name: &str) -> PgResult<Transaction<'_>> {
        let name = quote_identifier(name)?;
        Transaction::set_savepoint(self, name)
    }
}

impl<'c> Transaction<'c> {
    /// A savepoint with a name that none of the guards around it has. The names are few, as tools
    /// gather statistics by the statements' texts.
    pub(super) fn nest(connection: &'c mut PgConnection) -> PgResult<Self> {
        let name = format!("\"chopin_{}\"", connection.savepoints.saturating_add(1));
        Self::set_savepoint(connection, name)
    }
}
