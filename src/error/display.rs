//! Errors as people read them.

use std::fmt;

use super::excerpt::Excerpt;
use super::{PgError, ServerError};

impl fmt::Display for ServerError {
    /// `ERROR: 42703: column "nme" does not exist`, then DETAIL and HINT, each on a line of its
    /// own; of a batch the last line is the PARAMETER SET.
    ///
    /// The alternate form `{:#}` shows all that psql shows, in its order: behind the message the
    /// line of SQL with a caret under the position, and behind the hint the internal query (QUERY)
    /// and the CONTEXT.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.localized_severity, self.code, self.message)?;
        if f.alternate() {
            self.fmt_position(f)?;
        }
        fmt_labelled(f, "DETAIL", self.detail.as_deref())?;
        fmt_labelled(f, "HINT", self.hint.as_deref())?;
        if f.alternate() {
            fmt_labelled(f, "QUERY", self.internal_query.as_deref())?;
            fmt_labelled(f, "CONTEXT", self.context.as_deref())?;
        }
        fmt_labelled(f, "PARAMETER SET", self.parameter_set)
    }
}

impl ServerError {
    /// The place of the error: in the program's SQL, else in the server's internal query; as a
    /// line with a caret, or as a number if that text is not known or has no such place.
    fn fmt_position(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (position, sql) = match (self.position, self.internal_position) {
            (Some(position), _) => (position, self.query.as_deref()),
            (None, Some(position)) => (position, self.internal_query.as_deref()),
            (None, None) => return Ok(()),
        };
        match sql.and_then(|sql| Excerpt::at(sql, position)) {
            Some(excerpt) => write!(f, "\n{excerpt}"),
            None => write!(f, " at character {position}"),
        }
    }
}

fn fmt_labelled<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    value: Option<T>,
) -> fmt::Result {
    match value {
        Some(value) => write!(f, "\n{label}: {value}"),
        None => Ok(()),
    }
}

impl fmt::Display for PgError {
    /// One error, complete in itself: the reason of a wrapped error is part of the text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Protocol(what) => write!(f, "protocol violation: {what}"),
            Self::Io(error) => write!(f, "I/O error: {error}"),
            Self::Timeout(timeout) => timeout.fmt(f),
            Self::WouldBlock => f.write_str("not ready yet: the call would have to wait"),
            Self::ConnectionClosed(why) => write!(f, "connection closed: {why}"),
            Self::BufferOverflow(overflow) => overflow.fmt(f),
            Self::TypeConversion(error) => error.fmt(f),
            Self::Parameter(error) => error.fmt(f),
            Self::Rows { expected, got: 1 } => write!(f, "expected {expected}, got 1 row"),
            Self::Rows { expected, got } => write!(f, "expected {expected}, got {got} rows"),
            Self::Column(what) => f.write_str(what),
            Self::Auth(why) => write!(f, "authentication refused by the client: {why}"),
            Self::Config(what) => write!(f, "invalid configuration: {what}"),
            Self::Usage(why) => write!(f, "refused: {why}"),
            Self::RolledBack => f.write_str(
                "rolled back: the transaction that this belongs to failed, nothing of it was \
                 committed",
            ),
            Self::NotSent(reason) => {
                f.write_str("not sent: ")?;
                reason.fmt(f)
            }
            Self::NotRun(reason) => {
                f.write_str("not run, safe to try again: ")?;
                reason.fmt(f)
            }
            Self::CancelledByNeighbour { error, undone } => {
                f.write_str("hit by the cancel of an earlier request that had taken too long")?;
                f.write_str(if *undone { ", safe to try again: " } else { ": " })?;
                error.fmt(f)
            }
            Self::Busy => f.write_str(
                "busy: requests that deliver events, or a COPY from this side, are unfinished; nothing \
                 was sent, take their events or end the COPY first",
            ),
            Self::PoolTimeout(why) => write!(f, "timed out waiting for a pooled connection: {why}"),
            Self::PoolExhausted(why) => write!(f, "no connection from the pool: {why}"),
            Self::PoolValidationFailed(why) => {
                write!(f, "pooled connection failed its check: {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What the server reports for a column that is not there.
    fn undefined_column(position: &str) -> PgError {
        PgError::from_fields([
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', "42703"),
            (b'M', "column \"idid\" does not exist"),
            (b'H', "Perhaps you meant to reference the column \"t.id\"."),
            (b'P', position),
            (b'F', "parse_relation.c"),
        ])
    }

    #[test]
    fn s4_9_display_shows_severity_sqlstate_message_detail_and_hint() {
        let error = PgError::from_fields([
            (b'S', "FEHLER"),
            (b'V', "ERROR"),
            (b'C', "23505"),
            (b'M', "duplicate key value"),
            (b'D', "Key (id)=(1) already exists."),
            (b'H', "Take another one."),
            (b'P', "3"),
            (b'W', "a function"),
        ]);
        assert_eq!(
            error.to_string(),
            "FEHLER: 23505: duplicate key value\n\
             DETAIL: Key (id)=(1) already exists.\n\
             HINT: Take another one."
        );
    }

    #[test]
    fn s4_11_alternate_display_shows_the_query_with_a_caret() {
        let error = undefined_column("12").with_query("select id, idid from t");
        assert_eq!(
            format!("{error:#}"),
            "ERROR: 42703: column \"idid\" does not exist\n\
             LINE 1: select id, idid from t\n\
             \u{20}                  ^\n\
             HINT: Perhaps you meant to reference the column \"t.id\"."
        );
        assert!(!error.to_string().contains("LINE"), "{error}");
        for wrap in [PgError::NotSent, PgError::NotRun] {
            let wrapped = format!("{:#}", wrap(Box::new(error.clone())));
            assert!(wrapped.contains("\nLINE 1: select id, idid from t\n"), "{wrapped}");
        }
    }

    #[test]
    fn s8_3_a_position_without_its_place_is_shown_as_a_number() {
        let unknown = undefined_column("12");
        assert!(format!("{unknown:#}").contains("\" does not exist at character 12\nHINT: "));
        let outside = undefined_column("12").with_query("select");
        assert!(format!("{outside:#}").contains("\" does not exist at character 12\nHINT: "));
    }

    #[test]
    fn s8_3_an_error_inside_a_function_shows_the_internal_query_and_the_context() {
        let error = PgError::from_fields([
            (b'S', "ERROR"),
            (b'C', "42703"),
            (b'M', "column \"nme\" does not exist"),
            (b'p', "9"),
            (b'q', "(select nme\nfrom t)"),
            (b'W', "PL/pgSQL function bad() line 1 at RETURN"),
        ]);
        assert_eq!(
            format!("{:#}", error.with_query("select bad()")),
            "ERROR: 42703: column \"nme\" does not exist\n\
             LINE 1: (select nme\n\
             \u{20}               ^\n\
             QUERY: (select nme\n\
             from t)\n\
             CONTEXT: PL/pgSQL function bad() line 1 at RETURN"
        );
    }

    #[test]
    fn s4_11_an_error_in_a_batch_shows_its_parameter_set() {
        let fields = [
            (b'S', "ERROR"),
            (b'C', "23505"),
            (b'M', "duplicate key value"),
            (b'D', "Key (id)=(1) already exists."),
            (b'W', "a function"),
        ];
        let error = PgError::from_fields(fields);
        assert!(!format!("{error} {error:#}").contains("PARAMETER SET"), "{error:#}");
        let error = error.at_parameter_set(17);
        assert_eq!(
            error.to_string(),
            "ERROR: 23505: duplicate key value\n\
             DETAIL: Key (id)=(1) already exists.\n\
             PARAMETER SET: 17"
        );
        let all = format!("{error:#}");
        assert!(all.ends_with("\nCONTEXT: a function\nPARAMETER SET: 17"), "{all}");
    }

    #[test]
    fn s4_9_errors_of_this_side_say_what_happened_to_what() {
        let why = || "why".to_owned();
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens");
        let cases = [
            (PgError::Protocol(why()), "protocol violation: why"),
            (PgError::Io(refused), "I/O error: nobody listens"),
            (PgError::WouldBlock, "not ready yet: the call would have to wait"),
            (PgError::ConnectionClosed(why()), "connection closed: why"),
            (
                PgError::Rows { expected: "exactly one row", got: 0 },
                "expected exactly one row, got 0 rows",
            ),
            (PgError::Rows { expected: "no row", got: 1 }, "expected no row, got 1 row"),
            (PgError::Column(why()), "why"),
            (PgError::Auth(why()), "authentication refused by the client: why"),
            (PgError::Config(why()), "invalid configuration: why"),
            (PgError::Usage(why()), "refused: why"),
            (
                PgError::RolledBack,
                "rolled back: the transaction that this belongs to failed, nothing of it was \
                 committed",
            ),
            (
                PgError::NotSent(Box::new(PgError::ConnectionClosed(why()))),
                "not sent: connection closed: why",
            ),
            (
                PgError::NotRun(Box::new(PgError::Usage(why()))),
                "not run, safe to try again: refused: why",
            ),
            (
                PgError::Busy,
                "busy: requests that deliver events, or a COPY from this side, are unfinished; nothing \
                 was sent, take their events or end the COPY first",
            ),
            (PgError::PoolTimeout(why()), "timed out waiting for a pooled connection: why"),
            (PgError::PoolExhausted(why()), "no connection from the pool: why"),
            (PgError::PoolValidationFailed(why()), "pooled connection failed its check: why"),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }
}
