//! How bad the server thinks it is.

use std::fmt;

/// The severity of an error or a notice, independent of the server's language.
///
/// Source: PostgreSQL documentation, "Error and Notice Message Fields", field `V`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// The whole server stops all sessions.
    Panic,
    /// This session ends.
    Fatal,
    /// The statement failed; the session goes on.
    Error,
    /// A notice: something that the user should look at.
    Warning,
    /// A notice: something that may be of help to the user.
    Notice,
    /// A notice for developers.
    Debug,
    /// A notice that the user asked for, such as the output of VACUUM VERBOSE.
    Info,
    /// A notice that is meant for the server's log.
    Log,
    /// A word that this version does not know, or one in the server's language from a server
    /// before 9.6.
    Other,
}

impl Severity {
    /// The severity that the server names with `word`.
    pub fn from_word(word: &str) -> Self {
        match word {
            "PANIC" => Self::Panic,
            "FATAL" => Self::Fatal,
            "ERROR" => Self::Error,
            "WARNING" => Self::Warning,
            "NOTICE" => Self::Notice,
            "DEBUG" => Self::Debug,
            "INFO" => Self::Info,
            "LOG" => Self::Log,
            _ => Self::Other,
        }
    }

    /// Whether the server ends the session with this message.
    pub fn ends_session(self) -> bool {
        matches!(self, Self::Panic | Self::Fatal)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panic => "PANIC",
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Log => "LOG",
            Self::Other => "UNKNOWN SEVERITY",
        })
    }
}
