//! Connections: the engine and a socket, put together.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the type, what it knows about its session, its end |
//! | `connect.rs` | making one: addresses, startup, one deadline over all of it |
//! | `drive.rs` | moving bytes between engine and socket, and the loop of every blocking call |
//! | `kept.rs` | notices and notifications that nobody has fetched yet |
//! | `query.rs` | queries, prepared statements, the simple protocol |
//! | `transaction.rs` | begin, commit, rollback, reset |
//! | `retry.rs` | doing work again after an error that is safe to retry |
//!
//! Every blocking call is the same small loop: submit to the engine, move bytes, take events, wait
//! in poll(2). There is no second path.

mod connect;
mod drive;
mod kept;
mod query;
mod retry;
mod transaction;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

pub use self::query::SimpleResult;
pub use self::retry::retry;
pub use crate::config::DEFAULT_IO_TIMEOUT;
pub use crate::engine::{CommandTag, Notification, Statement, TransactionStatus};

use self::kept::Kept;
use crate::engine::Engine;
use crate::error::{Notice, PgError, PgResult};
use crate::net::Socket;

/// How many reads [`PgConnection::is_alive`] makes at most: a server that never stops sending is
/// alive.
const MOST_LOOKS: usize = 64;

/// A connection to a PostgreSQL server.
///
/// The calls of this face block until their answer is there, for [`io_timeout`](Self::io_timeout)
/// at most. The socket is non-blocking all the same: a call waits in poll(2), with one deadline for
/// the whole operation.
///
/// A connection belongs to its thread (`!Send`): there are no locks in it, and its rows share
/// memory with each other. Dropping it says goodbye to the server in one non-blocking write.
///
/// ```no_run
/// use chopin_pg::{PgConfig, PgConnection};
///
/// let config = PgConfig::from_url("postgres://frederic:secret@localhost/music")?;
/// let mut connection = PgConnection::connect(&config)?;
/// for row in connection.query("select id, title from works where year > $1", &[&1830])? {
///     let (id, title): (i32, String) = row.to()?;
///     println!("{id}: {title}");
/// }
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// # After an error
///
/// An error of the server leaves the connection usable. After a timeout it stays usable too, as
/// long as the late answer comes within [`drain_timeout`](crate::PgConfig::drain_timeout): it is
/// dropped, and the next call gets its own answer; the time that this takes counts for that call,
/// which is taken back as not sent if its own `io_timeout` ends first. An I/O error, a violation of
/// the protocol or the end of the session breaks the connection for good
/// ([`is_broken`](Self::is_broken)): every later call fails with [`PgError::NotSent`], whose source
/// is what broke it.
pub struct PgConnection {
    engine: Engine,
    socket: Socket,
    io_timeout: Duration,
    /// Why nothing can be sent any more; told when everything that the server said has been read.
    send_error: Option<io::Error>,
    notices: Kept<Notice>,
    notice_handler: Option<NoticeHandler>,
    notifications: Kept<Notification>,
    last_tag: CommandTag,
}

type NoticeHandler = Box<dyn FnMut(&Notice)>;

impl PgConnection {
    /// How long one operation may take; [`DEFAULT_IO_TIMEOUT`] unless the configuration says
    /// otherwise.
    pub fn io_timeout(&self) -> Duration {
        self.io_timeout
    }

    /// Sets how long one operation may take, from the next one on. Zero gives an operation no time
    /// at all.
    pub fn set_io_timeout(&mut self, timeout: Duration) {
        self.io_timeout = timeout;
    }

    /// The transaction status as the server last reported it.
    ///
    /// After a [`PgError::Timeout`] it is that of before the request: what the server did with it
    /// is known when its late answer has been drained, with the next call.
    pub fn transaction_status(&self) -> TransactionStatus {
        self.engine.session().transaction_status()
    }

    /// The process on the server that serves this connection, as in `pg_stat_activity.pid`.
    pub fn process_id(&self) -> i32 {
        self.engine.session().process_id()
    }

    /// The value of a run-time parameter that the server reports: `server_version`, `TimeZone`,
    /// `application_name`, `standard_conforming_strings` and others. It follows every `SET`.
    ///
    /// Source: PostgreSQL documentation, "Asynchronous Operations" (ParameterStatus).
    pub fn server_param(&self, name: &str) -> Option<&str> {
        self.engine.session().parameter(name)
    }

    /// The number of rows that the last command touched: 0 for a command that counts none, for an
    /// empty query, and after a command that failed.
    pub fn last_affected_rows(&self) -> u64 {
        self.last_tag.rows().unwrap_or(0)
    }

    /// The tag of the last command, such as `INSERT 0 5`; empty before the first one, after an
    /// empty query, and after a command that failed.
    pub fn last_command_tag(&self) -> &str {
        self.last_tag.as_str()
    }

    /// Whether the connection is of no more use, and why is told by the next call on it.
    pub fn is_broken(&self) -> bool {
        self.engine.broken().is_some()
    }

    /// Whether the connection can be used, going by what has already arrived: looks at the socket
    /// without waiting and without a round trip, and so finds a server that has ended the session
    /// or hung up.
    pub fn is_alive(&mut self) -> bool {
        for _ in 0..MOST_LOOKS {
            match self.try_fill_read_buf() {
                Ok(_) => {}
                Err(PgError::WouldBlock) if self.give_up_sending() => {}
                Err(PgError::WouldBlock) => break,
                Err(_) => return false,
            }
        }
        // A late answer may have been awaited for too long.
        if self.something_is_late() {
            let _broken = self.take_events();
        }
        !self.is_broken()
    }

    /// Hands every notice to `handler` from now on, in order with everything else, instead of
    /// keeping it.
    ///
    /// The handler runs inside the call that met the notice; it cannot use the connection.
    pub fn set_notice_handler(&mut self, handler: impl FnMut(&Notice) + 'static) {
        self.notice_handler = Some(Box::new(handler));
    }

    /// Notices are kept again, for [`drain_notices`](Self::drain_notices).
    pub fn clear_notice_handler(&mut self) {
        self.notice_handler = None;
    }

    /// The notices that came since the last call, oldest first.
    ///
    /// At most 4,096 messages or 4 MiB are kept; the oldest give way, and
    /// [`dropped_messages`](Self::dropped_messages) counts them.
    pub fn drain_notices(&mut self) -> impl Iterator<Item = Notice> + '_ {
        self.notices.drain()
    }

    /// The notifications that came since the last call, oldest first. At most 4,096 are kept, as
    /// with [`drain_notices`](Self::drain_notices).
    pub fn drain_notifications(&mut self) -> impl Iterator<Item = Notification> + '_ {
        self.notifications.drain()
    }

    /// How many notices and notifications were dropped because nobody fetched them in time.
    pub fn dropped_messages(&self) -> u64 {
        self.notices.dropped() + self.notifications.dropped()
    }

    /// The socket's descriptor, to watch it. Nothing else may be done with it.
    pub fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether TCP_NODELAY is set: always on TCP, never on a Unix-domain socket, which has no such
    /// delay.
    pub fn nodelay(&self) -> bool {
        self.socket.nodelay().unwrap_or(false)
    }

    /// Confirms that the socket is non-blocking, which it always is.
    ///
    /// # Errors
    ///
    /// [`PgError::Usage`] for `false`: the blocking calls wait in poll(2), which gives them their
    /// deadlines; a blocking socket would take these away.
    pub fn set_nonblocking(&mut self, nonblocking: bool) -> PgResult<()> {
        if nonblocking {
            return Ok(());
        }
        Err(PgError::Usage(
            "the socket stays non-blocking: blocking calls wait in poll(2), so that every one has a deadline"
                .to_owned(),
        ))
    }
}

impl fmt::Debug for PgConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgConnection")
            .field("process_id", &self.process_id())
            .field("transaction_status", &self.transaction_status())
            .field("broken", &self.engine.broken())
            .finish_non_exhaustive()
    }
}

impl AsFd for PgConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for PgConnection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Says Terminate in one non-blocking write and closes the socket. Never waits.
impl Drop for PgConnection {
    fn drop(&mut self) {
        self.engine.terminate();
        if self.engine.send_pending().is_empty() {
            return;
        }
        // If the socket does not take it, the server finds out by the hang-up.
        let _ = self.socket.send(self.engine.send_pending());
    }
}
