//! Transactions with options, and those that are run again after a conflict.

use std::fmt;
use std::time::Duration;

use super::{Transaction, TransactionStatus};
use crate::connection::retry::pause;
use crate::connection::{Delivery, PgConnection, Request, Ticket};
use crate::error::{Backoff, PgError, PgResult};

/// How much a transaction sees of others that run at the same time.
///
/// Source: PostgreSQL documentation, "Transaction Isolation".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IsolationLevel {
    /// PostgreSQL treats it as [`ReadCommitted`](Self::ReadCommitted).
    ReadUncommitted,
    /// Each statement sees what was committed before it began. The server's default.
    ReadCommitted,
    /// All statements see what was committed before the first of them.
    RepeatableRead,
    /// As if transactions were run one after the other; those for which that fails, fail with
    /// 40001 and may be run again.
    Serializable,
}

impl fmt::Display for IsolationLevel {
    /// As in SQL: `SERIALIZABLE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadUncommitted => "READ UNCOMMITTED",
            Self::ReadCommitted => "READ COMMITTED",
            Self::RepeatableRead => "REPEATABLE READ",
            Self::Serializable => "SERIALIZABLE",
        })
    }
}

/// A transaction to be begun, from [`PgConnection::build_transaction`]. What is not said is as the
/// session's defaults say.
///
/// ```no_run
/// use chopin_pg::IsolationLevel;
/// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
/// let report = connection.build_transaction().isolation(IsolationLevel::Serializable);
/// let mut tx = report.read_only(true).deferrable(true).begin()?;
/// let rows = tx.query("select * from works", &[])?;
/// tx.commit()?;
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before it is begun"]
pub struct TransactionBuilder<'c> {
    connection: &'c mut PgConnection,
    isolation: Option<IsolationLevel>,
    read_only: Option<bool>,
    deferrable: Option<bool>,
}

impl PgConnection {
    /// Begins a transaction with options: isolation level, read only, deferrable.
    pub fn build_transaction(&mut self) -> TransactionBuilder<'_> {
        TransactionBuilder { connection: self, isolation: None, read_only: None, deferrable: None }
    }

    /// Runs `work` in a serializable transaction, and again after a serialization failure or a
    /// deadlock, up to `max_retries` times, after the growing, random pauses of [`Backoff`]:
    /// [`run_with_retries`](TransactionBuilder::run_with_retries), which has the rules.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// let on_call: i64 = connection.run_serializable(5, |tx| {
    ///     let count = tx.query_one("select count(*) from doctors where on_call", &[])?.get(0)?;
    ///     if count > 1 {
    ///         tx.execute("update doctors set on_call = false where name = 'Alice'", &[])?;
    ///     }
    ///     Ok::<_, chopin_pg::PgError>(count)
    /// })?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run_with_retries`](TransactionBuilder::run_with_retries).
    pub fn run_serializable<T, E: From<PgError>>(
        &mut self,
        max_retries: u32,
        work: impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let delays = (0..max_retries).zip(Backoff::random()).map(|(_, delay)| delay);
        let builder = self.build_transaction().isolation(IsolationLevel::Serializable);
        builder.run_with_retries(delays, work)
    }
}

impl<'c> TransactionBuilder<'c> {
    /// With this isolation level.
    pub fn isolation(mut self, level: IsolationLevel) -> Self {
        self.isolation = Some(level);
        self
    }

    /// Read only, or not.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = Some(read_only);
        self
    }

    /// Deferrable, or not: a serializable read only transaction waits at its first statement until
    /// it can run without ever meeting or causing a serialization failure.
    pub fn deferrable(mut self, deferrable: bool) -> Self {
        self.deferrable = Some(deferrable);
        self
    }

    /// Begins it.
    ///
    /// # Errors
    ///
    /// [`PgError::Usage`] when a transaction is open already; else as
    /// [`query`](PgConnection::query), and no transaction of this call stays open.
    pub fn begin(self) -> PgResult<Transaction<'c>> {
        let sql = self.sql();
        begin(self.connection, &sql)
    }

    /// Runs `work` in it, as [`PgConnection::transaction`] does.
    ///
    /// # Errors
    ///
    /// That of `work`, also if the ROLLBACK fails too; else those of [`begin`](Self::begin) and
    /// [`Transaction::commit`].
    pub fn run<T, E: From<PgError>>(
        self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin()?.run(work)
    }

    /// Runs `work` in it, and again in a new transaction when the server has failed a statement or
    /// the COMMIT with an error that is [safe to retry](PgError::is_safe_to_retry): a serialization
    /// failure (40001), a deadlock (40P01), a prepared statement that had become stale. What error
    /// `work` makes of that does not matter.
    ///
    /// There is a pause before each new attempt, the next of `delays`; when there are no more, the
    /// error is returned. `Backoff::random().take(5)` are pauses that grow at random, and any
    /// iterator will do. A program with an event loop of its own finds the same rule as data in
    /// [`Retries`](crate::error::Retries).
    ///
    /// `work` may run several times: what it does besides the database happens as often, and what it
    /// changes outside of itself has to be set anew. It is never run again when nobody knows
    /// whether it was committed ([`PgError::Timeout`] or a lost connection during the COMMIT), nor
    /// when the ROLLBACK failed. It must not run COMMIT as a statement.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), of the last attempt.
    pub fn run_with_retries<T, E: From<PgError>>(
        self,
        delays: impl IntoIterator<Item = Duration>,
        mut work: impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let sql = self.sql();
        let mut delays = delays.into_iter();
        loop {
            match attempt(self.connection, &sql, &mut work) {
                Attempt::Last(result) => return result,
                Attempt::Repeatable(error) => match delays.next() {
                    Some(delay) => pause(delay),
                    None => return Err(error),
                },
            }
        }
    }

    /// The non-blocking face: queues the BEGIN, as [`PgConnection::submit`] does. It and what
    /// follows need not wait for each other; a `COMMIT` of a transaction that has failed ends as
    /// [`PgError::RolledBack`].
    ///
    /// # Errors
    ///
    /// As [`PgConnection::submit`].
    pub fn submit(self, delivery: Delivery) -> PgResult<Ticket> {
        let sql = self.sql();
        self.connection.submit(Request::Simple { sql: &sql }, delivery)
    }

    /// The statement that begins it.
    fn sql(&self) -> String {
        let mut sql = "BEGIN".to_owned();
        if let Some(level) = self.isolation {
            sql += &format!(" ISOLATION LEVEL {level}");
        }
        sql += match self.read_only {
            Some(true) => " READ ONLY",
            Some(false) => " READ WRITE",
            None => "",
        };
        sql += match self.deferrable {
            Some(true) => " DEFERRABLE",
            Some(false) => " NOT DEFERRABLE",
            None => "",
        };
        sql
    }
}

/// Begins a transaction that is no part of another one.
fn begin<'c>(connection: &'c mut PgConnection, sql: &str) -> PgResult<Transaction<'c>> {
    if connection.settled_status()? != TransactionStatus::Idle {
        return Err(PgError::Usage(
            "a transaction is open already: one within it (begin_transaction, transaction) has no \
             options of its own"
                .to_owned(),
        ));
    }
    Transaction::begin(connection, sql)
}

/// How an attempt at a transaction ended.
enum Attempt<T, E> {
    /// With this.
    Last(Result<T, E>),
    /// Nothing was committed, and it may succeed if it is done again.
    Repeatable(E),
}

fn attempt<T, E: From<PgError>>(
    connection: &mut PgConnection,
    sql: &str,
    work: &mut impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
) -> Attempt<T, E> {
    let mut tx = match begin(connection, sql) {
        Ok(tx) => tx,
        Err(error) => return Attempt::Last(Err(error.into())),
    };
    // What failed before the BEGIN is none of the work's.
    let failures = tx.engine.retryable_failures();
    let (error, is_undone) = match work(&mut tx) {
        Ok(done) => match tx.commit() {
            Ok(()) => return Attempt::Last(Ok(done)),
            Err(error) => {
                // The work had kept to itself what made the transaction fail.
                let is_undone = error.is_safe_to_retry() || matches!(error, PgError::RolledBack);
                (error.into(), is_undone)
            }
        },
        Err(error) => (error, tx.rollback().is_ok()),
    };
    if is_undone && connection.engine.retryable_failures() > failures {
        Attempt::Repeatable(error)
    } else {
        Attempt::Last(Err(error))
    }
}
