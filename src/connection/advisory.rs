//! Advisory locks: locks on numbers that mean something to the programs that take them.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::query::exactly_one;
use super::{PgConnection, TransactionStatus};
use crate::error::{PgError, PgResult, SqlState};
use crate::row::Row;

/// What an advisory lock is on: one number of 64 bits, or two of 32. The two kinds never meet.
///
/// The functions take what can become one: `42_i64` and `(1, 2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdvisoryKey {
    /// One number.
    One(i64),
    /// Two numbers, such as a kind of thing and its number.
    Two(i32, i32),
}

impl From<i64> for AdvisoryKey {
    fn from(key: i64) -> Self {
        Self::One(key)
    }
}

impl From<(i32, i32)> for AdvisoryKey {
    fn from((first, second): (i32, i32)) -> Self {
        Self::Two(first, second)
    }
}

impl fmt::Display for AdvisoryKey {
    /// As the arguments of a lock function: `-1`, `1, 2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(key) => write!(f, "{key}"),
            Self::Two(first, second) => write!(f, "{first}, {second}"),
        }
    }
}

/// An advisory lock that the session holds until this is dropped, from
/// [`PgConnection::advisory_lock`] and its like.
///
/// It derefs to the connection, so that this can be used, and further locks taken, while the lock is
/// held. Dropping it never waits and never panics: unlocking is queued behind what is in flight, and
/// sent as far as the socket takes it. A session that ends unlocks too.
///
/// A transaction that is begun with [`begin`](PgConnection::begin) while the lock is held has to be
/// ended before: in one that has failed the server refuses to unlock, and the lock stays until the
/// session ends. ([`transaction`](PgConnection::transaction) and its like always end before.)
#[derive(Debug)]
#[must_use = "a lock that is dropped is unlocked"]
pub struct AdvisoryLock<'c> {
    connection: &'c mut PgConnection,
    /// The statement that unlocks.
    unlock: String,
    held: bool,
}

/// Advisory locks.
///
/// Those of the session are taken outside of a transaction, and held until they are unlocked: what
/// is done under the lock is committed by then. Those of a transaction (`xact`) end with it.
///
/// Waiting for a lock takes at most [`io_timeout`](Self::io_timeout). A pooler that gives each
/// transaction another session allows only those of a transaction.
///
/// ```no_run
/// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
/// const MIGRATIONS: i64 = 7_318_349;
/// let mut lock = connection.advisory_lock(MIGRATIONS)?;
/// lock.transaction(|tx| tx.execute_batch("create table if not exists works (id int8)"))?;
/// lock.unlock()?;
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// Source: PostgreSQL documentation, "Advisory Locks".
impl PgConnection {
    /// Waits until the session has the lock that nobody else can have at the same time.
    ///
    /// # Errors
    ///
    /// [`PgError::Usage`] inside of a transaction; else as [`query`](Self::query). After a
    /// [`PgError::Timeout`] or a cancel (57014) nobody knows whether the server gave the lock, so it
    /// is unlocked; the server warns if it was not held. A session that holds the same lock already
    /// may lose that one by it: take a lock once.
    pub fn advisory_lock(&mut self, key: impl Into<AdvisoryKey>) -> PgResult<AdvisoryLock<'_>> {
        self.lock("pg_advisory_lock", "pg_advisory_unlock", key.into()).map(|(lock, _)| lock)
    }

    /// [`advisory_lock`](Self::advisory_lock) that others can share who ask for a shared one too.
    ///
    /// # Errors
    ///
    /// As [`advisory_lock`](Self::advisory_lock).
    pub fn advisory_lock_shared(
        &mut self,
        key: impl Into<AdvisoryKey>,
    ) -> PgResult<AdvisoryLock<'_>> {
        let locked = self.lock("pg_advisory_lock_shared", "pg_advisory_unlock_shared", key.into());
        locked.map(|(lock, _)| lock)
    }

    /// [`advisory_lock`](Self::advisory_lock) if it is free; `None` if somebody has it.
    ///
    /// # Errors
    ///
    /// As [`advisory_lock`](Self::advisory_lock).
    pub fn try_advisory_lock(
        &mut self,
        key: impl Into<AdvisoryKey>,
    ) -> PgResult<Option<AdvisoryLock<'_>>> {
        let locked = self.lock("pg_try_advisory_lock", "pg_advisory_unlock", key.into());
        locked.and_then(AdvisoryLock::if_got)
    }

    /// [`advisory_lock_shared`](Self::advisory_lock_shared) if it is free; `None` if somebody has it
    /// alone.
    ///
    /// # Errors
    ///
    /// As [`advisory_lock`](Self::advisory_lock).
    pub fn try_advisory_lock_shared(
        &mut self,
        key: impl Into<AdvisoryKey>,
    ) -> PgResult<Option<AdvisoryLock<'_>>> {
        let locked =
            self.lock("pg_try_advisory_lock_shared", "pg_advisory_unlock_shared", key.into());
        locked.and_then(AdvisoryLock::if_got)
    }

    /// Waits until the open transaction has the lock that nobody else can have at the same time; it
    /// is unlocked with the transaction's end.
    ///
    /// # Errors
    ///
    /// [`PgError::Usage`] outside of a transaction, where the lock would be gone at once; else as
    /// [`query`](Self::query).
    pub fn advisory_xact_lock(&mut self, key: impl Into<AdvisoryKey>) -> PgResult<()> {
        self.lock_xact("pg_advisory_xact_lock", key.into()).map(drop)
    }

    /// [`advisory_xact_lock`](Self::advisory_xact_lock) that others can share who ask for a shared
    /// one too.
    ///
    /// # Errors
    ///
    /// As [`advisory_xact_lock`](Self::advisory_xact_lock).
    pub fn advisory_xact_lock_shared(&mut self, key: impl Into<AdvisoryKey>) -> PgResult<()> {
        self.lock_xact("pg_advisory_xact_lock_shared", key.into()).map(drop)
    }

    /// [`advisory_xact_lock`](Self::advisory_xact_lock) if it is free; whether it was.
    ///
    /// # Errors
    ///
    /// As [`advisory_xact_lock`](Self::advisory_xact_lock).
    pub fn try_advisory_xact_lock(&mut self, key: impl Into<AdvisoryKey>) -> PgResult<bool> {
        self.lock_xact("pg_try_advisory_xact_lock", key.into())?.get(0)
    }

    /// [`advisory_xact_lock_shared`](Self::advisory_xact_lock_shared) if it is free; whether it was.
    ///
    /// # Errors
    ///
    /// As [`advisory_xact_lock`](Self::advisory_xact_lock).
    pub fn try_advisory_xact_lock_shared(&mut self, key: impl Into<AdvisoryKey>) -> PgResult<bool> {
        self.lock_xact("pg_try_advisory_xact_lock_shared", key.into())?.get(0)
    }

    /// Calls a lock function of the session; what it returned, too.
    fn lock(
        &mut self,
        lock: &str,
        unlock: &str,
        key: AdvisoryKey,
    ) -> PgResult<(AdvisoryLock<'_>, Row)> {
        if self.settled_status()? != TransactionStatus::Idle {
            return Err(PgError::Usage(
                "a session's advisory lock is taken before the transaction begins, so that it is \
                 unlocked after the commit; inside, advisory_xact_lock is the call"
                    .to_owned(),
            ));
        }
        let unlock = format!("SELECT {unlock}({key})");
        let mut guard = AdvisoryLock { connection: self, unlock, held: true };
        match guard.connection.call_lock(lock, key) {
            Ok(answer) => Ok((guard, answer)),
            Err(error) => {
                // The server may still give it; or it gave it just before it was cancelled: the lock
                // is the session's, and outlives the statement that failed.
                guard.held = matches!(error, PgError::Timeout(_))
                    || error.sql_state() == Some(SqlState::QUERY_CANCELED);
                Err(error)
            }
        }
    }

    /// Calls a lock function of the transaction; what it returned.
    fn lock_xact(&mut self, function: &str, key: AdvisoryKey) -> PgResult<Row> {
        if self.settled_status()? == TransactionStatus::Idle {
            return Err(PgError::Usage(
                "no transaction is open that could hold the advisory lock: it would be gone at once"
                    .to_owned(),
            ));
        }
        self.call_lock(function, key)
    }

    /// What a lock function returns: a boolean if it does not wait.
    fn call_lock(&mut self, function: &str, key: AdvisoryKey) -> PgResult<Row> {
        exactly_one(self.query_simple(&format!("SELECT {function}({key})"))?)
    }
}

impl<'c> AdvisoryLock<'c> {
    /// The lock, if the answer is that the server gave it.
    fn if_got((mut lock, answer): (Self, Row)) -> PgResult<Option<Self>> {
        lock.held = answer.get(0)?;
        Ok(lock.held.then_some(lock))
    }

    /// Unlocks, and waits for it; whether the session still had the lock. (A
    /// [`reset`](PgConnection::reset) unlocks everything.)
    ///
    /// # Errors
    ///
    /// As [`query`](PgConnection::query). Unlocking is queued then, as when it is dropped: the server
    /// warns if the lock is gone by then.
    pub fn unlock(mut self) -> PgResult<bool> {
        let result = self.connection.query_simple(&self.unlock);
        // What was not answered in time may have been cancelled before it unlocked anything.
        self.held = result.is_err();
        exactly_one(result?)?.get(0)
    }
}

impl Deref for AdvisoryLock<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection
    }
}

impl DerefMut for AdvisoryLock<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection
    }
}

/// Never waits: unlocking is queued behind what is in flight.
impl Drop for AdvisoryLock<'_> {
    fn drop(&mut self) {
        if self.held {
            self.connection.clean_up(&self.unlock);
        }
    }
}
