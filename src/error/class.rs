//! What kind of cause an error has, and whether the work may be done again.

use super::{PgError, SqlState};

/// The kind of cause that an error has.
///
/// It describes the cause and nothing else: an error may well be
/// [`Transient`](ErrorClass::Transient) while nobody knows whether the server did the work. Ask
/// [`PgError::is_safe_to_retry`] before doing it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// It may go away by itself: a lost connection, a deadlock, a server that restarts or is short
    /// of resources.
    Transient,
    /// It will be the same next time: bad SQL, a violated constraint, a wrong password.
    Permanent,
    /// It arose in the program itself: a misuse, an unsuitable value, its own time limit, nothing
    /// to read yet, events that it has not taken yet.
    Client,
    /// The pool had no connection to give.
    Pool,
}

impl ErrorClass {
    /// The kind of cause that a SQLSTATE stands for: transient or permanent.
    ///
    /// | SQLSTATE | class |
    /// |---|---|
    /// | `08` connection exception | transient, but not `08P01` protocol violation |
    /// | `25P03`, `25P04` transaction ended by a timeout | transient |
    /// | `40` transaction rollback | transient, but not `40002` integrity constraint violation |
    /// | `53` insufficient resources | transient |
    /// | `55006`, `55P03` object in use, lock not available | transient |
    /// | `57` operator intervention | transient, but not `57P04` database dropped |
    /// | `58030` I/O error of the server | transient |
    /// | all others, among them `22`, `23`, `28`, `42` | permanent |
    pub fn of(state: SqlState) -> Self {
        let transient = match state {
            SqlState::PROTOCOL_VIOLATION
            | SqlState::TRANSACTION_INTEGRITY_CONSTRAINT_VIOLATION
            | SqlState::DATABASE_DROPPED => false,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            | SqlState::TRANSACTION_TIMEOUT
            | SqlState::OBJECT_IN_USE
            | SqlState::LOCK_NOT_AVAILABLE
            | SqlState::IO_ERROR => true,
            _ => matches!(state.class(), "08" | "40" | "53" | "57"),
        };
        if transient { Self::Transient } else { Self::Permanent }
    }
}

impl PgError {
    /// The kind of cause that this error has.
    ///
    /// [`PgError::NotSent`] and [`PgError::NotRun`] have the class of their reason. A
    /// [`PgError::Timeout`] is [`ErrorClass::Client`]: the program's own patience ended; what the
    /// server did is unknown.
    pub fn classify(&self) -> ErrorClass {
        match self {
            Self::Server(error) | Self::CancelledByNeighbour { error, .. } => {
                ErrorClass::of(error.code)
            }
            Self::Io(_) | Self::ConnectionClosed(_) => ErrorClass::Transient,
            Self::Protocol(_) | Self::Auth(_) | Self::RolledBack => ErrorClass::Permanent,
            Self::Timeout(_)
            | Self::WouldBlock
            | Self::BufferOverflow(_)
            | Self::TypeConversion(_)
            | Self::Parameter(_)
            | Self::Rows { .. }
            | Self::Column(_)
            | Self::Config(_)
            | Self::Usage(_)
            | Self::Busy => ErrorClass::Client,
            Self::NotSent(reason) | Self::NotRun(reason) => reason.classify(),
            Self::PoolTimeout(_) | Self::PoolExhausted(_) | Self::PoolValidationFailed(_) => {
                ErrorClass::Pool
            }
        }
    }

    /// Whether the cause may go away by itself: [`classify`](Self::classify) says
    /// [`ErrorClass::Transient`].
    ///
    /// This does **not** mean that the work may be done again: a connection may break after the
    /// server did the work. Use [`is_safe_to_retry`](Self::is_safe_to_retry) for that.
    pub fn is_transient(&self) -> bool {
        self.classify() == ErrorClass::Transient
    }

    /// Whether it is certain that the work was not done, and doing it again may succeed.
    ///
    /// This is so for exactly these:
    ///
    /// * `40001` serialization failure and `40P01` deadlock: the server rolled the transaction
    ///   back. Repeat the whole transaction, not the statement.
    /// * [`PgError::NotSent`]: the request never reached the server.
    /// * [`PgError::NotRun`]: the request reached the server, which did not run it. If it
    ///   was part of a transaction or a group that failed, repeat all of that.
    /// * [`PgError::CancelledByNeighbour`], if its work is `undone`: the cancel that hit it was meant
    ///   for another request. If it was part of a transaction or a group, repeat all of that.
    /// * `57P03` cannot connect now and `53300` too many connections, as the answer to a
    ///   connection attempt.
    ///
    /// A [`PgError::Timeout`] never is, nor is a connection that broke: the server may have done
    /// the work, and an INSERT would be done twice. Nor is [`PgError::RolledBack`]: nothing was
    /// done, but whether the transaction may be repeated depends on the error that made it fail.
    /// Nor is [`PgError::Busy`]: nothing was sent, but the same call is refused until the events
    /// of the unfinished requests have been taken. Nor are the errors of a pool that gave no connection
    /// ([`ErrorClass::Pool`]): nothing was sent, but asking again at once makes it worse.
    pub fn is_safe_to_retry(&self) -> bool {
        match self {
            Self::NotSent(_) | Self::NotRun(_) => true,
            Self::CancelledByNeighbour { undone, .. } => *undone,
            Self::Server(error) => match error.code {
                SqlState::SERIALIZATION_FAILURE | SqlState::DEADLOCK_DETECTED => true,
                // A function may raise these codes too, but only a refused connection attempt ends
                // with them.
                SqlState::CANNOT_CONNECT_NOW | SqlState::TOO_MANY_CONNECTIONS => {
                    error.severity.ends_session() && error.query.is_none()
                }
                _ => false,
            },
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::super::sqlstate_table::NAMES;
    use super::super::{BufferOverflow, ConversionError, ParameterError, Timeout};
    use super::*;

    fn server_error(severity: &str, code: &str) -> PgError {
        PgError::from_fields([(b'S', severity), (b'C', code), (b'M', "message")])
    }

    fn timeout() -> PgError {
        let value = Duration::from_secs(5);
        let doing = "waiting for the answer to a query";
        Timeout { setting: "io_timeout", value, doing }.into()
    }

    /// Errors of this side, one of each variant, with the class that each must have.
    fn own_errors() -> Vec<(PgError, ErrorClass)> {
        let why = || "why".to_owned();
        let overflow = BufferOverflow { size: 11, limit: 10, setting: "max_message_size" };
        let (rust_type, pg_type) = ("i16", why());
        let conversion = ConversionError { column: None, rust_type, pg_type, message: why() };
        let parameter = ParameterError {
            index: None,
            set: None,
            column: None,
            rust_type,
            pg_type: None,
            message: why(),
        };
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        vec![
            (PgError::Io(reset), ErrorClass::Transient),
            (PgError::ConnectionClosed(why()), ErrorClass::Transient),
            (PgError::Protocol(why()), ErrorClass::Permanent),
            (PgError::Auth(why()), ErrorClass::Permanent),
            (PgError::RolledBack, ErrorClass::Permanent),
            (timeout(), ErrorClass::Client),
            (PgError::WouldBlock, ErrorClass::Client),
            (overflow.into(), ErrorClass::Client),
            (conversion.into(), ErrorClass::Client),
            (parameter.into(), ErrorClass::Client),
            (PgError::Rows { expected: "exactly one row", got: 2 }, ErrorClass::Client),
            (PgError::Column(why()), ErrorClass::Client),
            (PgError::Config(why()), ErrorClass::Client),
            (PgError::Usage(why()), ErrorClass::Client),
            (PgError::Busy, ErrorClass::Client),
            (PgError::PoolTimeout(why()), ErrorClass::Pool),
            (PgError::PoolExhausted(why()), ErrorClass::Pool),
            (PgError::PoolValidationFailed(why()), ErrorClass::Pool),
        ]
    }

    #[test]
    fn s4_3_every_error_of_this_side_has_a_class() {
        for (error, class) in own_errors() {
            assert_eq!(error.classify(), class, "{error:?}");
            assert_eq!(error.is_transient(), class == ErrorClass::Transient, "{error:?}");
        }
    }

    #[test]
    fn s4_7_pool_errors_are_a_class_of_their_own() {
        let why = "2 held, 0 being opened";
        for error in [
            PgError::PoolTimeout(why.to_owned()),
            PgError::PoolExhausted(why.to_owned()),
            PgError::PoolValidationFailed(why.to_owned()),
        ] {
            assert_eq!(error.classify(), ErrorClass::Pool);
            assert!(error.to_string().ends_with(why), "{error}");
            assert!(!error.is_transient() && !error.is_safe_to_retry());
        }
    }

    #[test]
    fn s4_4_sqlstate_classes_are_mapped() {
        let transient = [
            "08000", "08006", "08001", "25P03", "25P04", "40000", "40001", "40003", "40P01",
            "53000", "53100", "53200", "53300", "55006", "55P03", "57000", "57014", "57P01",
            "57P02", "57P03", "57P05", "58030",
        ];
        let permanent = [
            "08P01", "0A000", "22012", "22P02", "23502", "23503", "23505", "25P02", "26000",
            "28000", "28P01", "40002", "42501", "42601", "42703", "42P01", "54000", "55000",
            "57P04", "58P01", "P0001", "XX000", "ZZ999",
        ];
        for (codes, class) in
            [(&transient[..], ErrorClass::Transient), (&permanent[..], ErrorClass::Permanent)]
        {
            for code in codes {
                assert_eq!(server_error("ERROR", code).classify(), class, "{code}");
            }
        }
    }

    #[test]
    fn s10_8_would_block_is_no_transient_error() {
        assert_eq!(PgError::WouldBlock.classify(), ErrorClass::Client);
        let error = PgError::from(io::Error::from(io::ErrorKind::WouldBlock));
        assert_eq!(error.classify(), ErrorClass::Client);
        assert!(!error.is_transient() && !error.is_safe_to_retry());
    }

    #[test]
    fn h2_a_timeout_is_neither_transient_nor_safe_to_retry() {
        assert!(!timeout().is_transient());
        assert!(!timeout().is_safe_to_retry());
        let by_the_system = PgError::Io(io::Error::from(io::ErrorKind::TimedOut));
        assert!(!by_the_system.is_safe_to_retry());
        let by_the_server = server_error("ERROR", "57014");
        assert!(!by_the_server.is_safe_to_retry());
    }

    #[test]
    fn h2_exactly_what_was_surely_not_done_is_safe_to_retry() {
        for (state, _) in NAMES {
            let code = state.as_str();
            let error = server_error("ERROR", code);
            assert_eq!(error.is_safe_to_retry(), ["40001", "40P01"].contains(&code), "{code}");
        }
        for (error, _) in own_errors() {
            assert!(!error.is_safe_to_retry(), "{error:?}");
            for wrap in [PgError::NotSent, PgError::NotRun] {
                let not_done = wrap(Box::new(error.clone()));
                assert!(not_done.is_safe_to_retry(), "{not_done:?}");
            }
        }
        let not_run = PgError::NotRun(Box::new(server_error("ERROR", "23505")));
        assert!(not_run.is_safe_to_retry(), "another request's failure says nothing of this one");
    }

    #[test]
    fn h13_what_another_ones_cancel_has_hit_may_be_tried_again_if_all_of_it_is_undone() {
        let fields = [(b'S', "ERROR"), (b'C', "57014"), (b'M', "canceling statement")];
        let server = crate::error::ServerError::from_fields(fields).expect("all fields");
        for undone in [true, false] {
            let error = Box::new(server.clone());
            let error = PgError::CancelledByNeighbour { error, undone };
            assert_eq!(error.is_safe_to_retry(), undone);
            assert_eq!(error.classify(), ErrorClass::Transient);
            assert_eq!(error.to_string().contains("safe to try again"), undone, "{error}");
            assert!(error.to_string().contains("57014: canceling statement"), "{error}");
        }
    }

    #[test]
    fn h2_a_refused_connection_attempt_is_safe_to_retry() {
        for code in ["57P03", "53300"] {
            assert!(server_error("FATAL", code).is_safe_to_retry(), "{code}");
            let raised_by_a_function = server_error("ERROR", code);
            assert!(!raised_by_a_function.is_safe_to_retry(), "{code}");
            let while_a_query_ran = server_error("FATAL", code).with_query("select f()");
            assert!(!while_a_query_ran.is_safe_to_retry(), "{code}");
        }
        assert!(!server_error("FATAL", "57P01").is_safe_to_retry(), "the session may have worked");
    }

    #[test]
    fn s8_3_what_was_not_sent_or_not_run_has_the_class_of_its_reason() {
        for (error, class) in own_errors() {
            assert_eq!(PgError::NotSent(Box::new(error.clone())).classify(), class);
            assert_eq!(PgError::NotRun(Box::new(error)).classify(), class);
        }
        let deadlock = PgError::NotRun(Box::new(server_error("ERROR", "40P01")));
        assert_eq!(deadlock.classify(), ErrorClass::Transient);
    }
}
