//! The settings of a pool.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::PgConnection;
use crate::error::{PgError, PgResult};

/// A function of the program that a pool calls with one of its connections.
pub(super) type Hook = Arc<dyn Fn(&mut PgConnection) -> PgResult<()> + Send + Sync>;

/// What is done to a connection before somebody else gets it.
///
/// Under every policy requests that were not sent are taken back, answers that nobody has taken are
/// read to their end, and what the driver itself keeps of the last use is forgotten: settings of the
/// connection such as [`io_timeout`](PgConnection::io_timeout), handlers, notices, notifications.
///
/// | left behind | `None` | `Rollback` | `Session` | `DiscardAll` |
/// |---|---|---|---|---|
/// | open or failed transaction | stays | rolled back | rolled back | rolled back |
/// | settings (`SET`), role | stay | stay | reset | reset |
/// | temporary tables | stay | stay | dropped | dropped |
/// | advisory locks of the session | stay | stay | released | released |
/// | `LISTEN` | stays | stays | ended | ended |
/// | cursors `WITH HOLD` | stay | stay | closed | closed |
/// | prepared statements | stay | stay | stay | dropped |
///
/// A connection that had nothing to roll back costs no round trip under `None` and `Rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetPolicy {
    /// Nothing: the next user finds the session as the last one has left it. (One that is left by a
    /// panic is closed.)
    None,
    /// An open transaction is rolled back.
    #[default]
    Rollback,
    /// What a session has is reset, but for its prepared statements: `CLOSE ALL; SET SESSION
    /// AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); DISCARD TEMP;
    /// DISCARD SEQUENCES`.
    Session,
    /// `DISCARD ALL`: every statement is prepared again afterwards.
    DiscardAll,
    /// These statements of your own, after a `ROLLBACK` if a transaction is open.
    Custom(String),
}

/// What `ResetPolicy::Session` runs.
const SESSION: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
     SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

impl ResetPolicy {
    /// What is run after an open transaction has been rolled back.
    pub(super) fn sql(&self) -> Option<&str> {
        match self {
            Self::None | Self::Rollback => None,
            Self::Session => Some(SESSION),
            Self::DiscardAll => Some("DISCARD ALL"),
            Self::Custom(sql) => Some(sql),
        }
    }
}

/// The settings of a [`PgPool`](super::PgPool).
///
/// ```
/// use chopin_pg::pool::{PgPoolConfig, ResetPolicy};
/// use std::time::Duration;
///
/// let config = PgPoolConfig::new()
///     .max_size(16)
///     .min_size(2)
///     .checkout_timeout(Duration::from_secs(2))
///     .max_lifetime(Some(Duration::from_secs(30 * 60)))
///     .reset_policy(ResetPolicy::Session);
/// assert_eq!(config.get_max_size(), 16);
/// ```
#[derive(Clone)]
pub struct PgPoolConfig {
    max_size: usize,
    min_size: usize,
    max_lifetime: Option<Duration>,
    idle_timeout: Option<Duration>,
    checkout_timeout: Duration,
    connection_timeout: Option<Duration>,
    test_on_checkout: bool,
    validation_query: Option<String>,
    validation_timeout: Duration,
    auto_reconnect: bool,
    reset_policy: ResetPolicy,
    reset_timeout: Duration,
    multiplex_window: usize,
    max_waiting: usize,
    pub(super) after_connect: Option<Hook>,
    pub(super) before_checkout: Option<Hook>,
    pub(super) after_return: Option<Hook>,
}

impl Default for PgPoolConfig {
    fn default() -> Self {
        Self {
            max_size: 10,
            min_size: 0,
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            idle_timeout: Some(Duration::from_secs(10 * 60)),
            checkout_timeout: Duration::from_secs(5),
            connection_timeout: None,
            test_on_checkout: false,
            validation_query: None,
            validation_timeout: Duration::from_secs(1),
            auto_reconnect: true,
            reset_policy: ResetPolicy::default(),
            reset_timeout: Duration::from_secs(5),
            multiplex_window: 32,
            max_waiting: 1024,
            after_connect: None,
            before_checkout: None,
            after_return: None,
        }
    }
}

impl PgPoolConfig {
    /// The default settings; each method names its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most connections that there are at a time; 10 unless set.
    #[must_use]
    pub fn max_size(mut self, connections: usize) -> Self {
        self.max_size = connections;
        self
    }

    /// How many connections are kept up even if nobody needs them; 0 unless set. They are opened at
    /// the start, and again when some are lost.
    #[must_use]
    pub fn min_size(mut self, connections: usize) -> Self {
        self.min_size = connections;
        self
    }

    /// How old a connection may get; 30 minutes unless set, `None` for any age. Each one has up to a
    /// tenth less, by chance, so that those which were opened together do not end together. A
    /// connection in use is closed when it comes back.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.max_lifetime = lifetime;
        self
    }

    /// How long a connection may be idle before it is closed, unless it is one of the
    /// [`min_size`](Self::min_size); 10 minutes unless set, `None` for any time.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How long [`get`](super::PgPool::get) and [`acquire`](super::PgPool::acquire) wait for a
    /// connection; 5 seconds unless set.
    #[must_use]
    pub fn checkout_timeout(mut self, timeout: Duration) -> Self {
        self.checkout_timeout = timeout;
        self
    }

    /// How long opening a connection may take; what the
    /// [`PgConfig`](crate::PgConfig::connect_timeout) says unless set.
    #[must_use]
    pub fn connection_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.connection_timeout = timeout;
        self
    }

    /// Whether a connection is asked for a sign of life, by the
    /// [`validation_query`](Self::validation_query), before it is given out; `false` unless set.
    ///
    /// Without it a connection is looked at without a round trip, which finds every end that the
    /// server or the network has told of. A server that has vanished without a word is found by a
    /// question only; see [`validation_timeout`](Self::validation_timeout).
    #[must_use]
    pub fn test_on_checkout(mut self, test: bool) -> Self {
        self.test_on_checkout = test;
        self
    }

    /// What [`test_on_checkout`](Self::test_on_checkout) runs. Unless set it is a Sync, the shortest
    /// question that a server answers.
    #[must_use]
    pub fn validation_query(mut self, sql: impl Into<String>) -> Self {
        self.validation_query = Some(sql.into());
        self
    }

    /// How long the sign of life may take that [`test_on_checkout`](Self::test_on_checkout) asks for;
    /// one second unless set, and never more than half of the
    /// [`checkout_timeout`](Self::checkout_timeout): a connection that does not answer in this time is
    /// closed, and there must be time left for another one.
    ///
    /// When one has not answered, all others that are idle are asked at once, as they may have lost the
    /// same server; nobody waits for them, a new connection is opened meanwhile.
    #[must_use]
    pub fn validation_timeout(mut self, timeout: Duration) -> Self {
        self.validation_timeout = timeout;
        self
    }

    /// Whether another connection takes the place of one that is found dead when it is to be given
    /// out; `true` unless set. Otherwise [`PgError::PoolValidationFailed`] tells of it.
    #[must_use]
    pub fn auto_reconnect(mut self, reconnect: bool) -> Self {
        self.auto_reconnect = reconnect;
        self
    }

    /// What is done to a connection that comes back; [`ResetPolicy::Rollback`] unless set.
    #[must_use]
    pub fn reset_policy(mut self, policy: ResetPolicy) -> Self {
        self.reset_policy = policy;
        self
    }

    /// How long it may take until a connection that came back can be given out again, from the end of
    /// the last use on; 5 seconds unless set. One that is not clean by then is closed.
    #[must_use]
    pub fn reset_timeout(mut self, timeout: Duration) -> Self {
        self.reset_timeout = timeout;
        self
    }

    /// How many requests of [`submit`](super::PgPool::submit) may be in flight on one connection; 32
    /// unless set, at least 1.
    #[must_use]
    pub fn multiplex_window(mut self, requests: usize) -> Self {
        self.multiplex_window = requests.max(1);
        self
    }

    /// How many may wait: so many of [`acquire`](super::PgPool::acquire), and so many requests of
    /// [`submit`](super::PgPool::submit) beyond those in flight; 1,024 unless set. Whoever comes then
    /// is refused at once, before the wait would be for nothing.
    #[must_use]
    pub fn max_waiting(mut self, waiting: usize) -> Self {
        self.max_waiting = waiting;
        self
    }

    /// Calls `hook` with every new connection, before anybody gets it. An error closes the connection
    /// and counts as a failure to connect.
    ///
    /// It is called once for each connection, so what it sets is there for all users only if nothing
    /// takes it back: the reset policies `Session` and `DiscardAll` undo a `SET`, and what the driver
    /// keeps (handlers, [`io_timeout`](PgConnection::io_timeout)) is forgotten when the connection first
    /// comes back. What is to last belongs into the [`PgConfig`](crate::PgConfig), such as
    /// [`options`](crate::PgConfig::options), or is set by [`before_checkout`](Self::before_checkout).
    ///
    /// The hook may [submit](PgConnection::submit) requests without waiting, with
    /// [`Delivery::Collect`](crate::Delivery::Collect) or `Discard`: the connection is ready when all are
    /// answered, and lost if one fails. In a program with an event loop that is the way; a blocking
    /// call in the hook blocks the loop.
    ///
    /// ```
    /// use chopin_pg::{Delivery, Request, pool::PgPoolConfig};
    ///
    /// let config = PgPoolConfig::new().after_connect(|connection| {
    ///     let sql = "set statement_timeout = '2s'";
    ///     connection.submit(Request::Simple { sql }, Delivery::Collect).map(|_ticket| ())
    /// });
    /// # let _ = config;
    /// ```
    #[must_use]
    pub fn after_connect(
        mut self,
        hook: impl Fn(&mut PgConnection) -> PgResult<()> + Send + Sync + 'static,
    ) -> Self {
        self.after_connect = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` with every connection directly before it is given out. An error means that it is of
    /// no use: it is closed and another one is taken. What it submits is left to whoever gets the
    /// connection.
    #[must_use]
    pub fn before_checkout(
        mut self,
        hook: impl Fn(&mut PgConnection) -> PgResult<()> + Send + Sync + 'static,
    ) -> Self {
        self.before_checkout = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` with every connection that came back, once it has been reset. An error closes it, and
    /// so does a request that the hook leaves unanswered.
    #[must_use]
    pub fn after_return(
        mut self,
        hook: impl Fn(&mut PgConnection) -> PgResult<()> + Send + Sync + 'static,
    ) -> Self {
        self.after_return = Some(Arc::new(hook));
        self
    }

    /// See [`max_size`](Self::max_size).
    pub fn get_max_size(&self) -> usize {
        self.max_size
    }

    /// See [`min_size`](Self::min_size).
    pub fn get_min_size(&self) -> usize {
        self.min_size
    }

    /// See [`max_lifetime`](Self::max_lifetime).
    pub fn get_max_lifetime(&self) -> Option<Duration> {
        self.max_lifetime
    }

    /// See [`idle_timeout`](Self::idle_timeout).
    pub fn get_idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// See [`checkout_timeout`](Self::checkout_timeout).
    pub fn get_checkout_timeout(&self) -> Duration {
        self.checkout_timeout
    }

    /// See [`connection_timeout`](Self::connection_timeout).
    pub fn get_connection_timeout(&self) -> Option<Duration> {
        self.connection_timeout
    }

    /// See [`test_on_checkout`](Self::test_on_checkout).
    pub fn get_test_on_checkout(&self) -> bool {
        self.test_on_checkout
    }

    /// See [`validation_query`](Self::validation_query).
    pub fn get_validation_query(&self) -> Option<&str> {
        self.validation_query.as_deref()
    }

    /// See [`validation_timeout`](Self::validation_timeout).
    pub fn get_validation_timeout(&self) -> Duration {
        self.validation_timeout
    }

    /// See [`auto_reconnect`](Self::auto_reconnect).
    pub fn get_auto_reconnect(&self) -> bool {
        self.auto_reconnect
    }

    /// See [`reset_policy`](Self::reset_policy).
    pub fn get_reset_policy(&self) -> &ResetPolicy {
        &self.reset_policy
    }

    /// See [`reset_timeout`](Self::reset_timeout).
    pub fn get_reset_timeout(&self) -> Duration {
        self.reset_timeout
    }

    /// See [`multiplex_window`](Self::multiplex_window).
    pub fn get_multiplex_window(&self) -> usize {
        self.multiplex_window
    }

    /// See [`max_waiting`](Self::max_waiting).
    pub fn get_max_waiting(&self) -> usize {
        self.max_waiting
    }

    /// How long a sign of life may take: the setting that says so, and its value.
    pub(super) fn validation_limit(&self) -> (&'static str, Duration) {
        let half = self.checkout_timeout / 2;
        match half.is_zero() || self.validation_timeout <= half {
            true => ("validation_timeout", self.validation_timeout),
            false => ("half of checkout_timeout", half),
        }
    }

    /// Whether the settings make sense together.
    ///
    /// # Errors
    ///
    /// [`PgError::Config`] when they do not.
    pub(super) fn validate(&self) -> PgResult<()> {
        let wrong = |why: String| Err(PgError::Config(why));
        if self.max_size == 0 {
            return wrong("max_size is 0: such a pool could never give a connection".to_owned());
        }
        if self.max_lifetime == Some(Duration::ZERO) || self.idle_timeout == Some(Duration::ZERO) {
            return wrong(
                "max_lifetime and idle_timeout cannot be 0: no connection could be given out; None is \
                 for no limit"
                    .to_owned(),
            );
        }
        if self.min_size > self.max_size {
            return wrong(format!(
                "min_size ({}) is more than max_size ({})",
                self.min_size, self.max_size
            ));
        }
        if self.validation_timeout.is_zero() {
            return wrong(
                "validation_timeout is zero, so that no connection could answer in time".to_owned(),
            );
        }
        Ok(())
    }

    pub(super) fn set_max_size(&mut self, connections: usize) {
        self.max_size = connections;
        self.min_size = self.min_size.min(connections);
    }
}

impl fmt::Debug for PgPoolConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgPoolConfig")
            .field("max_size", &self.max_size)
            .field("min_size", &self.min_size)
            .field("max_lifetime", &self.max_lifetime)
            .field("idle_timeout", &self.idle_timeout)
            .field("checkout_timeout", &self.checkout_timeout)
            .field("connection_timeout", &self.connection_timeout)
            .field("test_on_checkout", &self.test_on_checkout)
            .field("validation_query", &self.validation_query)
            .field("validation_timeout", &self.validation_timeout)
            .field("auto_reconnect", &self.auto_reconnect)
            .field("reset_policy", &self.reset_policy)
            .field("reset_timeout", &self.reset_timeout)
            .field("multiplex_window", &self.multiplex_window)
            .field("max_waiting", &self.max_waiting)
            .finish_non_exhaustive()
    }
}
