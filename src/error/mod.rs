//! What can go wrong, and what a program can do about it.
//!
//! Every fallible function of the crate returns [`PgResult`]. A [`PgError`] answers four questions:
//!
//! * **What happened?** Its [`Display`](std::fmt::Display) says what was being done, with what,
//!   and what to do now. An error of the server shows severity, SQLSTATE, message, detail and
//!   hint; the alternate form `{:#}` adds the line of SQL with a caret under the position, as psql
//!   does.
//! * **Which error is it?** [`PgError::sql_state`] is the server's code, to be compared with the
//!   constants of [`SqlState`]; [`PgError::as_server`] gives all fields of the server's answer.
//! * **What kind of cause?** [`PgError::classify`] puts it into one of the four [`ErrorClass`]es.
//! * **May I do it again?** [`PgError::is_safe_to_retry`], and nothing else, decides that. A
//!   timeout is never safe to retry: the server may have done the work.
//!
//! ```
//! use chopin_pg::{PgError, PgResult, SqlState};
//!
//! fn insert_user() -> PgResult<u64> {
//!     // conn.execute("INSERT INTO users (name) VALUES ($1)", &[&"ada"])
//!     # Err(PgError::from_fields([(b'S', "ERROR"), (b'C', "23505"), (b'M', "duplicate key")]))
//! }
//!
//! match insert_user() {
//!     Ok(_) => println!("welcome"),
//!     Err(error) if error.sql_state() == Some(SqlState::UNIQUE_VIOLATION) => {
//!         println!("that name is taken");
//!     }
//!     Err(error) => eprintln!("{error:#}"),
//! }
//! ```
//!
//! This module is pure: it knows the fields of an ErrorResponse, but no message framing, no
//! connection, no clock.

mod class;
mod conversion;
mod display;
mod excerpt;
mod io_error;
mod limit;
mod retry;
mod server;
mod severity;
mod sqlstate;
mod sqlstate_table;

use std::io;
use std::sync::Arc;

pub use self::class::ErrorClass;
pub(crate) use self::conversion::short_type_name;
pub use self::conversion::{ConversionError, ParameterError};
pub(crate) use self::limit::show_duration;
pub use self::limit::{BufferOverflow, Timeout};
pub(crate) use self::retry::random_part;
pub use self::retry::{Backoff, Retries, retry_with};
pub use self::server::{Notice, ServerError};
pub use self::severity::Severity;
pub use self::sqlstate::SqlState;

/// What every fallible function of this crate returns.
pub type PgResult<T> = Result<T, PgError>;

/// Everything that can go wrong between a program and its database.
///
/// It is [`Clone`], because one broken connection fails every request that was in flight, and
/// `Send + Sync`, so that it can leave its thread. It is at most four words wide, so that results
/// stay cheap to return.
#[derive(Debug)]
#[non_exhaustive]
pub enum PgError {
    /// The server refused or failed: its ErrorResponse with every field.
    Server(Box<ServerError>),
    /// The peer broke the protocol; what it did and where. The connection is broken.
    Protocol(String),
    /// The operating system reported an error on the connection.
    Io(io::Error),
    /// The time allowed by a setting ran out. Whether the server did the work is unknown.
    Timeout(Box<Timeout>),
    /// A non-blocking call has nothing to give yet; wait for readiness and call again.
    WouldBlock,
    /// The connection is gone; why. Every later use of a broken connection repeats what broke it.
    ConnectionClosed(String),
    /// A message or buffer would outgrow the limit set for it.
    BufferOverflow(Box<BufferOverflow>),
    /// A value of a result cannot be read as the Rust type that was asked for.
    TypeConversion(Box<ConversionError>),
    /// A Rust value cannot be sent as a parameter. Nothing was sent.
    Parameter(Box<ParameterError>),
    /// A query returned another number of rows than the call wants (`query_one`, `query_opt`).
    Rows {
        /// How many rows the call wants, in words: `exactly one row`.
        expected: &'static str,
        /// How many rows came.
        got: u64,
    },
    /// There is no such column in the row; which was asked for, and which there are.
    Column(String),
    /// The client itself refused to go on with the authentication: a method that the configuration
    /// forbids, or a server that could not prove itself. (A password that the server refuses is
    /// [`PgError::Server`], class 28.)
    Auth(String),
    /// The configuration cannot be used: a malformed URL, an unknown key, an unsupported value.
    Config(String),
    /// The call was refused, because it could never work. Nothing was sent, with one exception: a
    /// COPY that stands behind other statements shows itself only in the server's answer; it is
    /// refused then, and the text says so.
    Usage(String),
    /// The transaction that the request belongs to failed, and nothing of it was committed:
    ///
    /// * a COMMIT was answered by ROLLBACK, because the transaction had failed before; or
    /// * the request's own command succeeded, but its group (the requests up to one Sync, which
    ///   are one transaction) failed later, so that the server undid its work.
    ///
    /// The error that made the transaction fail is reported to the request that it happened in.
    RolledBack,
    /// The request surely never reached the server, so it is safe to try again;
    /// [`source`](std::error::Error::source) says why it was not sent.
    NotSent(Box<PgError>),
    /// The server surely did not run the request, so it is safe to try again: an earlier request
    /// of its group failed, or the prepared statement that it was to run was stale;
    /// [`source`](std::error::Error::source) is that error.
    NotRun(Box<PgError>),
    /// The request was hit by the cancel of an earlier one, which had taken too long: a cancel names
    /// no request, and the server had gone on to this one. Its statement failed, as if somebody had
    /// cancelled it.
    CancelledByNeighbour {
        /// What the server said: `57014`.
        error: Box<ServerError>,
        /// Whether its work is undone as a whole, so that it is safe to try again; inside a transaction
        /// that is the whole transaction. `false` for what may have committed a part of its work
        /// before: a procedure, DO, a string of statements, a command that cannot run inside of a
        /// transaction.
        undone: bool,
    },
    /// A blocking call was refused because requests that deliver events are unfinished, or a request
    /// because a COPY FROM STDIN before it still takes data. Nothing was sent: take the events or end
    /// the COPY first, then call again.
    Busy,
    /// No connection of the pool came free within the checkout timeout; why.
    PoolTimeout(String),
    /// The pool has no connection to give, and does not let anybody wait for one; why: all are under
    /// guards of this thread, as many wait already as may, the pool is closed, or this thread has none.
    PoolExhausted(String),
    /// A pooled connection did not pass its check, and no sound one could be had.
    PoolValidationFailed(String),
}

impl PgError {
    /// The error that the fields of an ErrorResponse describe: pairs of a field's type byte and
    /// its value.
    ///
    /// The type bytes are those of the PostgreSQL documentation, "Error and Notice Message
    /// Fields". It is handy for tests without a server. Without one of the fields `S`, `C` and
    /// `M`, which the server always sends, it is a [`PgError::Protocol`] that says so.
    ///
    /// ```
    /// use chopin_pg::PgError;
    ///
    /// let error = PgError::from_fields([
    ///     (b'S', "ERROR"),
    ///     (b'C', "42P01"),
    ///     (b'M', "relation \"user\" does not exist"),
    /// ]);
    /// assert_eq!(error.to_string(), "ERROR: 42P01: relation \"user\" does not exist");
    /// ```
    pub fn from_fields<T: Into<String>>(fields: impl IntoIterator<Item = (u8, T)>) -> Self {
        match ServerError::from_fields(fields) {
            Ok(error) => error.into(),
            Err(error) => error,
        }
    }

    /// The server's own error with all its fields, also when it is the reason of a
    /// [`PgError::NotSent`] or a [`PgError::NotRun`], and that of a
    /// [`PgError::CancelledByNeighbour`].
    pub fn as_server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) | Self::CancelledByNeighbour { error, .. } => Some(error),
            Self::NotSent(reason) | Self::NotRun(reason) => reason.as_server(),
            _ => None,
        }
    }

    /// The SQLSTATE of a server error, `None` for an error that arose on this side.
    pub fn sql_state(&self) -> Option<SqlState> {
        self.as_server().map(|error| error.code)
    }

    /// The server's hint: a suggestion what to do about the problem.
    pub fn hint(&self) -> Option<&str> {
        self.as_server()?.hint.as_deref()
    }

    /// The server's detail: more about the problem than its message says.
    pub fn detail(&self) -> Option<&str> {
        self.as_server()?.detail.as_deref()
    }

    /// The same error, with the SQL text that was running if it is a server error that has none
    /// yet.
    ///
    /// The text goes to [`ServerError::query`], a field of its own: the message stays the server's.
    #[must_use]
    pub fn with_query(mut self, sql: &str) -> Self {
        if let Self::Server(error) | Self::CancelledByNeighbour { error, .. } = &mut self {
            error.query.get_or_insert_with(|| Arc::from(sql));
        }
        self
    }

    /// The same error, with the parameter's number (`$1` is 1) if it is a parameter error that has
    /// none yet.
    #[must_use]
    pub fn at_parameter(mut self, number: usize) -> Self {
        if let Self::Parameter(error) = &mut self {
            error.index.get_or_insert(number);
        }
        self
    }

    /// The same error, with the parameter set of a batch that it happened in (counted from 0) if
    /// it is a server error or a parameter error that has none yet.
    ///
    /// The number goes to [`ServerError::parameter_set`] or [`ParameterError::set`].
    #[must_use]
    pub fn at_parameter_set(mut self, set: usize) -> Self {
        let slot = match &mut self {
            Self::Server(error) | Self::CancelledByNeighbour { error, .. } => {
                &mut error.parameter_set
            }
            Self::Parameter(error) => &mut error.set,
            _ => return self,
        };
        slot.get_or_insert(set);
        self
    }
}

impl Clone for PgError {
    fn clone(&self) -> Self {
        match self {
            Self::Server(error) => Self::Server(error.clone()),
            Self::Protocol(what) => Self::Protocol(what.clone()),
            Self::Io(error) => Self::Io(clone_io(error)),
            Self::Timeout(timeout) => Self::Timeout(timeout.clone()),
            Self::WouldBlock => Self::WouldBlock,
            Self::ConnectionClosed(why) => Self::ConnectionClosed(why.clone()),
            Self::BufferOverflow(overflow) => Self::BufferOverflow(overflow.clone()),
            Self::TypeConversion(error) => Self::TypeConversion(error.clone()),
            Self::Parameter(error) => Self::Parameter(error.clone()),
            Self::Rows { expected, got } => Self::Rows { expected, got: *got },
            Self::Column(what) => Self::Column(what.clone()),
            Self::Auth(why) => Self::Auth(why.clone()),
            Self::Config(what) => Self::Config(what.clone()),
            Self::Usage(why) => Self::Usage(why.clone()),
            Self::RolledBack => Self::RolledBack,
            Self::NotSent(reason) => Self::NotSent(reason.clone()),
            Self::NotRun(reason) => Self::NotRun(reason.clone()),
            Self::CancelledByNeighbour { error, undone } => {
                Self::CancelledByNeighbour { error: error.clone(), undone: *undone }
            }
            Self::Busy => Self::Busy,
            Self::PoolTimeout(why) => Self::PoolTimeout(why.clone()),
            Self::PoolExhausted(why) => Self::PoolExhausted(why.clone()),
            Self::PoolValidationFailed(why) => Self::PoolValidationFailed(why.clone()),
        }
    }
}

/// An I/O error with the same kind, code and text. (An error of the standard library is not
/// `Clone`, because it may carry any other error inside; that one is kept as its text.)
fn clone_io(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl std::error::Error for PgError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::NotSent(reason) | Self::NotRun(reason) => Some(&**reason),
            _ => None,
        }
    }
}

impl From<ServerError> for PgError {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl From<Timeout> for PgError {
    fn from(timeout: Timeout) -> Self {
        Self::Timeout(Box::new(timeout))
    }
}

impl From<BufferOverflow> for PgError {
    fn from(overflow: BufferOverflow) -> Self {
        Self::BufferOverflow(Box::new(overflow))
    }
}

impl From<ConversionError> for PgError {
    fn from(error: ConversionError) -> Self {
        Self::TypeConversion(Box::new(error))
    }
}

impl From<ParameterError> for PgError {
    fn from(error: ParameterError) -> Self {
        Self::Parameter(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::time::Duration;

    use super::*;

    /// What the server answers to a row that is already there.
    fn duplicate_key() -> PgError {
        PgError::from_fields([
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', "23505"),
            (b'M', "duplicate key value violates unique constraint \"t_pkey\""),
            (b'D', "Key (id)=(1) already exists."),
            (b'H', "Take another one."),
        ])
    }

    /// What a request fails with that was hit by another one's cancel.
    fn cancelled_by_neighbour(undone: bool) -> PgError {
        let fields = [(b'S', "ERROR"), (b'C', "57014"), (b'M', "canceling statement")];
        let error = ServerError::from_fields(fields).expect("all fields");
        PgError::CancelledByNeighbour { error: Box::new(error), undone }
    }

    /// One error of each variant.
    fn every_variant() -> Vec<PgError> {
        let timeout =
            Timeout { setting: "io_timeout", value: Duration::from_secs(5), doing: "connecting" };
        let overflow = BufferOverflow { size: 11, limit: 10, setting: "max_message_size" };
        let conversion = ConversionError {
            column: None,
            rust_type: "i16",
            pg_type: "int8".to_owned(),
            message: "out of range".to_owned(),
        };
        let parameter = ParameterError {
            index: None,
            set: None,
            column: None,
            rust_type: "str",
            pg_type: None,
            message: "a NUL byte".to_owned(),
        };
        let why = || "why".to_owned();
        vec![
            duplicate_key(),
            PgError::Protocol(why()),
            PgError::Io(io::Error::from_raw_os_error(104)),
            timeout.into(),
            PgError::WouldBlock,
            PgError::ConnectionClosed(why()),
            overflow.into(),
            conversion.into(),
            parameter.into(),
            PgError::Rows { expected: "exactly one row", got: 0 },
            PgError::Column(why()),
            PgError::Auth(why()),
            PgError::Config(why()),
            PgError::Usage(why()),
            PgError::RolledBack,
            PgError::NotSent(Box::new(PgError::WouldBlock)),
            PgError::NotRun(Box::new(PgError::RolledBack)),
            cancelled_by_neighbour(true),
            PgError::Busy,
            PgError::PoolTimeout(why()),
            PgError::PoolExhausted(why()),
            PgError::PoolValidationFailed(why()),
        ]
    }

    #[test]
    fn s4_9_errors_cross_threads_and_stay_small() {
        fn is_a_good_error<E: Error + Clone + Send + Sync + 'static>() {}
        is_a_good_error::<PgError>();
        assert!(size_of::<PgError>() <= 32, "{} bytes", size_of::<PgError>());
    }

    #[test]
    fn s4_9_a_clone_says_the_same() {
        for error in every_variant() {
            let clone = error.clone();
            assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&clone));
            assert_eq!(error.to_string(), clone.to_string());
            assert_eq!(format!("{error:?}"), format!("{clone:?}"));
        }
    }

    #[test]
    fn s4_9_a_cloned_io_error_keeps_its_kind_its_code_and_its_text() {
        let refused = PgError::Io(io::Error::from(io::ErrorKind::ConnectionRefused));
        let reset = PgError::Io(io::Error::from_raw_os_error(104));
        let own = PgError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "half a message"));
        for error in [refused, reset, own] {
            let (PgError::Io(error), PgError::Io(clone)) = (&error, &error.clone()) else {
                panic!("the clone of an I/O error is another variant");
            };
            assert_eq!(error.kind(), clone.kind());
            assert_eq!(error.raw_os_error(), clone.raw_os_error());
            assert_eq!(error.to_string(), clone.to_string());
        }
    }

    #[test]
    fn s4_8_io_errors_become_would_block_or_stay() {
        let from = |kind| PgError::from(io::Error::from(kind));
        assert!(matches!(from(io::ErrorKind::WouldBlock), PgError::WouldBlock));
        // The operating system's timeout is not one of our settings: which one would it be?
        assert!(matches!(from(io::ErrorKind::TimedOut), PgError::Io(_)));
        assert!(matches!(from(io::ErrorKind::ConnectionReset), PgError::Io(_)));
        let error = from(io::ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string(), "I/O error: unexpected end of file");
    }

    #[test]
    fn s4_8_the_source_leads_to_the_cause() {
        let reset = PgError::Io(io::Error::from_raw_os_error(104));
        let source = reset.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.and_then(io::Error::raw_os_error), Some(104));

        let not_sent = PgError::NotSent(Box::new(PgError::ConnectionClosed("by us".to_owned())));
        let source = not_sent.source().and_then(|source| source.downcast_ref::<PgError>());
        assert!(matches!(source, Some(PgError::ConnectionClosed(why)) if why == "by us"));

        let not_run = PgError::NotRun(Box::new(duplicate_key()));
        let source = not_run.source().and_then(|source| source.downcast_ref::<PgError>());
        let state = source.and_then(PgError::sql_state);
        assert_eq!(state, Some(SqlState::UNIQUE_VIOLATION));

        assert!(duplicate_key().source().is_none(), "the text says all; no second copy of it");
    }

    #[test]
    fn s4_5_accessors_give_the_server_s_fields() {
        let error = duplicate_key();
        assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION));
        assert_eq!(error.detail(), Some("Key (id)=(1) already exists."));
        assert_eq!(error.hint(), Some("Take another one."));
        assert!(!error.is_transient());

        for wrap in [PgError::NotSent, PgError::NotRun] {
            let wrapped = wrap(Box::new(error.clone()));
            assert_eq!(wrapped.sql_state(), Some(SqlState::UNIQUE_VIOLATION));
            assert_eq!(wrapped.hint(), Some("Take another one."));
        }

        for error in every_variant().iter().skip(1) {
            if matches!(error, PgError::CancelledByNeighbour { .. }) {
                assert_eq!(error.sql_state(), Some(SqlState::QUERY_CANCELED));
                continue;
            }
            assert!(error.as_server().is_none());
            assert!(error.sql_state().is_none() && error.hint().is_none());
            assert!(error.detail().is_none());
        }
    }

    #[test]
    fn s4_11_the_query_has_a_field_of_its_own() {
        let error = duplicate_key().with_query("insert into t values (1)");
        let server = error.as_server().expect("a server error");
        assert_eq!(server.query.as_deref(), Some("insert into t values (1)"));
        assert_eq!(server.message, "duplicate key value violates unique constraint \"t_pkey\"");

        let again = error.with_query("commit");
        let query = again.as_server().and_then(|server| server.query.as_deref());
        assert_eq!(query, Some("insert into t values (1)"), "the first text is the right one");

        assert!(matches!(PgError::WouldBlock.with_query("select 1"), PgError::WouldBlock));
    }

    #[test]
    fn a_parameter_s_number_is_added_once_and_only_where_it_belongs() {
        let errors = every_variant();
        let find = |text: &str| {
            let found = errors.iter().find(|error| error.to_string().contains(text));
            found.expect("the variant").clone()
        };
        let parameter = find("a NUL byte").at_parameter(2).at_parameter(1);
        assert!(parameter.to_string().starts_with("parameter $2 "), "{parameter}");
        let closed = find("connection closed").at_parameter(2);
        assert_eq!(closed.to_string(), "connection closed: why");
    }

    #[test]
    fn s4_11_a_parameter_set_is_added_once_and_only_where_it_belongs() {
        for error in every_variant() {
            let had_a_place = matches!(
                error,
                PgError::Server(_) | PgError::Parameter(_) | PgError::CancelledByNeighbour { .. }
            );
            let before = error.to_string();
            let after = error.at_parameter_set(17).at_parameter_set(3);
            let set = match &after {
                PgError::Server(error) | PgError::CancelledByNeighbour { error, .. } => {
                    error.parameter_set
                }
                PgError::Parameter(error) => error.set,
                _ => None,
            };
            assert_eq!(set, had_a_place.then_some(17), "{after:?}");
            assert_eq!(after.to_string() != before, had_a_place, "{after}");
        }
        let message = "duplicate key value violates unique constraint \"t_pkey\"";
        let error = duplicate_key().at_parameter_set(17);
        assert_eq!(error.as_server().map(|server| server.message.as_str()), Some(message));
    }
}
