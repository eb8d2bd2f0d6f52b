//! A time limit for what is done inside a scope.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::{Deadline, PgConnection};

/// What limits an operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// `io_timeout`, from its beginning.
    IoTimeout,
    /// The moment at which a scope ends; `None` for never.
    Scope(Option<Deadline>),
}

/// A connection whose operations have a common deadline, from [`PgConnection::within`].
#[derive(Debug)]
#[must_use = "the limit is in force only for what is called through this"]
pub struct Within<'c> {
    connection: &'c mut PgConnection,
    /// What was in force before.
    outer: Limit,
}

impl PgConnection {
    /// The connection with a deadline `time` from now, in place of [`io_timeout`](Self::io_timeout):
    /// for one operation with all its phases, or for all that are called through the guard together.
    /// It may be longer than `io_timeout`; [`Duration::MAX`] is no limit at all.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// let rows = connection.within(Duration::from_millis(50)).query("select now()", &[])?;
    ///
    /// // Two seconds for all of it.
    /// let mut limited = connection.within(Duration::from_secs(2));
    /// limited.begin()?;
    /// limited.execute("update accounts set balance = 0", &[])?;
    /// limited.commit()?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// It counts for everything that takes `io_timeout` otherwise: the blocking calls, streams, COPYs
    /// and pipelines (which end with it as a whole, however long the program takes between two rows),
    /// and [`submit`](Self::submit). Inside another scope the earlier of both deadlines counts. What
    /// takes too long fails as with `io_timeout`; the error says `within = 50 ms`.
    pub fn within(&mut self, time: Duration) -> Within<'_> {
        let outer = self.limit;
        let inner = Deadline::after(Instant::now(), "within", time);
        let around = match outer {
            Limit::IoTimeout => None,
            Limit::Scope(deadline) => deadline,
        };
        let earlier = inner.into_iter().chain(around).min_by_key(|deadline| deadline.at);
        self.limit = Limit::Scope(earlier);
        Within { connection: self, outer }
    }
}

impl Deref for Within<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection
    }
}

impl DerefMut for Within<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection
    }
}

/// What was in force before is in force again.
impl Drop for Within<'_> {
    fn drop(&mut self) {
        self.connection.limit = self.outer;
    }
}
