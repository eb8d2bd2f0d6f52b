//! A transaction that is rolled back unless it is committed.

use std::ops::{Deref, DerefMut};

use super::TransactionStatus;
use crate::connection::PgConnection;
use crate::error::{PgError, PgResult, SqlState};

/// A transaction, from [`PgConnection::begin_transaction`], or a savepoint inside of one.
///
/// It is rolled back when it is dropped, unless [`commit`](Self::commit) was called. It offers
/// everything that the connection does, as it derefs to it: queries, streams, pipelines,
/// [`savepoint`](PgConnection::savepoint) and [`rollback_to`](PgConnection::rollback_to), and
/// transactions within this one.
///
/// ```no_run
/// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
/// let mut tx = connection.begin_transaction()?;
/// tx.execute("update accounts set balance = balance - 10 where id = $1", &[&1])?;
/// tx.execute("update accounts set balance = balance + 10 where id = $1", &[&2])?;
/// tx.commit()?;
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// # Dropping it
///
/// Never waits and never panics, also during a panic: ROLLBACK is queued behind what is in flight,
/// whatever the limits are, and sent as far as the socket takes it. The next call on the connection
/// gets its own answer behind that. Nothing is queued when the server has said that no transaction
/// is open any more, or the connection is broken.
///
/// # Statements that end it
///
/// A COMMIT or ROLLBACK that is run as a statement inside ends the transaction like any other, and
/// what follows is outside of it. [`commit`](Self::commit) says that there was nothing to commit;
/// a drop does nothing then.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'c> {
    connection: &'c mut PgConnection,
    /// The quoted name of the savepoint that it is; `None` when it is a whole transaction.
    savepoint: Option<String>,
    /// Nobody has ended it yet, as far as this side has asked for.
    open: bool,
}

/// Transactions that end by themselves.
impl PgConnection {
    /// Runs `work` in a transaction: commits if it returns `Ok`, rolls back if it returns an error
    /// or panics.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// let left: i64 = connection.transaction(|tx| {
    ///     tx.execute("update accounts set balance = balance + 10 where id = $1", &[&2])?;
    ///     let sql = "update accounts set balance = balance - 10 where id = $1 returning balance";
    ///     tx.query_one(sql, &[&1])?.get(0)
    /// })?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// `work` gets a reference, so it cannot commit by itself:
    ///
    /// ```compile_fail,E0507
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// connection.transaction(|tx| tx.commit())?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// The error may be of any type that a [`PgError`] can become. If a transaction is open
    /// already, `work` becomes a part of it: as
    /// [`begin_transaction`](Self::begin_transaction) says.
    ///
    /// # Errors
    ///
    /// That of `work`, also if the ROLLBACK fails too; else those of
    /// [`begin_transaction`](Self::begin_transaction) and [`Transaction::commit`].
    pub fn transaction<T, E: From<PgError>>(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin_transaction()?.run(work)
    }

    /// Begins a transaction that is rolled back when it is dropped, unless it is
    /// [committed](Transaction::commit) before.
    ///
    /// If a transaction is open already, as the server said last, it is a savepoint in that one: its
    /// work is committed with the outer transaction, and rolled back alone. So functions that use
    /// transactions can call each other. [`build_transaction`](Self::build_transaction) has options,
    /// and refuses to be part of another one.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query). No transaction of this call stays open then.
    pub fn begin_transaction(&mut self) -> PgResult<Transaction<'_>> {
        match self.settled_status()? {
            TransactionStatus::Idle => Transaction::begin(self, "BEGIN"),
            _ => Transaction::nest(self),
        }
    }
}

impl<'c> Transaction<'c> {
    /// A transaction that this statement begins; none is open.
    pub(super) fn begin(connection: &'c mut PgConnection, sql: &str) -> PgResult<Self> {
        connection.savepoints = 0;
        Self { connection, savepoint: None, open: true }.begun_by(sql)
    }

    /// A savepoint under a quoted name.
    pub(super) fn set_savepoint(connection: &'c mut PgConnection, name: String) -> PgResult<Self> {
        let sql = format!("SAVEPOINT {name}");
        connection.savepoints = connection.savepoints.saturating_add(1);
        Self { connection, savepoint: Some(name), open: true }.begun_by(&sql)
    }

    fn begun_by(mut self, sql: &str) -> PgResult<Self> {
        match self.connection.execute_batch(sql) {
            Ok(()) => Ok(self),
            Err(error) => {
                // The server may still do what was not answered in time; all else has not begun.
                self.open = matches!(error, PgError::Timeout(_));
                Err(error)
            }
        }
    }

    /// Commits what was done. Of a savepoint: what was done becomes a part of the transaction
    /// around it.
    ///
    /// # Errors
    ///
    /// - [`PgError::RolledBack`] when the transaction had failed, so that the server rolled it back
    ///   instead; of a savepoint when something failed since, so that it was rolled back to.
    /// - The server's error when it finds only now that it cannot commit: a deferred constraint, a
    ///   serialization failure. It was rolled back.
    /// - [`PgError::Timeout`], or what broke the connection: nobody knows whether it was committed.
    /// - [`PgError::Usage`] when it is open no more: a COMMIT or ROLLBACK was run as a statement
    ///   inside.
    /// - [`PgError::Busy`], [`PgError::NotSent`] and others for which nothing was sent: it is rolled
    ///   back.
    pub fn commit(mut self) -> PgResult<()> {
        self.check_open("commit")?;
        let result = match &self.savepoint {
            None => self.connection.commit(),
            Some(name) => self.connection.release_quoted(name),
        };
        match self.ended(result) {
            Err(error)
                if self.savepoint.is_some()
                    && error.sql_state() == Some(SqlState::IN_FAILED_SQL_TRANSACTION) =>
            {
                // If that fails it is queued.
                let _ = self.rollback();
                Err(PgError::RolledBack)
            }
            result => result,
        }
    }

    /// Rolls back what was done, and waits for it. Of a savepoint: what was done since; the
    /// transaction around it goes on. Does nothing when it is open no more.
    ///
    /// # Errors
    ///
    /// As [`query`](PgConnection::query). What was not sent is queued, as when it is dropped.
    pub fn rollback(mut self) -> PgResult<()> {
        if self.connection.is_surely_idle() {
            return Ok(());
        }
        let result = self.connection.execute_batch(&self.rollback_sql());
        self.ended(result)
    }

    /// Runs `work` and ends the transaction as its result says.
    pub(super) fn run<T, E: From<PgError>>(
        mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        match work(&mut self) {
            Ok(done) => {
                self.commit()?;
                Ok(done)
            }
            Err(error) => {
                // Why the work failed is what the caller has to know.
                let _ = self.rollback();
                Err(error)
            }
        }
    }

    /// Whether it is a savepoint.
    pub(super) fn is_nested(&self) -> bool {
        self.savepoint.is_some()
    }

    /// Nothing can be kept of what has been ended by hand.
    pub(super) fn check_open(&self, what: &str) -> PgResult<()> {
        if self.connection.is_surely_idle() {
            return Err(PgError::Usage(format!(
                "there is no transaction to {what}: a COMMIT or ROLLBACK was run inside of it"
            )));
        }
        Ok(())
    }

    /// Takes the result of what was to end it. What was not answered in time is cancelled, and the
    /// server may have been about to begin with it: then the transaction has failed and is still
    /// open, so a ROLLBACK follows, which does nothing if it has ended. (For a savepoint that is left
    /// to the transaction around it: one that has been released cannot be rolled back to.)
    pub(super) fn ended(&mut self, result: PgResult<()>) -> PgResult<()> {
        if result.is_ok() || self.is_nested() && matches!(result, Err(PgError::Timeout(_))) {
            self.open = false;
        }
        result
    }

    fn rollback_sql(&self) -> String {
        match &self.savepoint {
            None => "ROLLBACK".to_owned(),
            Some(name) => format!("ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}"),
        }
    }
}

impl Deref for Transaction<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection
    }
}

/// Never waits: see the [type](Transaction#dropping-it).
impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.savepoint.is_some() {
            self.connection.savepoints = self.connection.savepoints.saturating_sub(1);
        }
        if self.open && !self.connection.is_surely_idle() {
            self.connection.clean_up(&self.rollback_sql());
        }
    }
}
