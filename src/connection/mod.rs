//! Connections: the engine and a socket, put together.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the type, what it knows about its session, its end |
//! | `connect.rs` | making one: startup, one deadline over all of it |
//! | `address.rs` | which addresses it goes to; `PgConfig::resolve` |
//! | `drive.rs` | moving bytes between engine and socket, and waiting |
//! | `nonblocking.rs` | submit, events, results: the non-blocking face |
//! | `blocking.rs` | the loop of every blocking call |
//! | `query.rs` | queries, the simple protocol |
//! | `prepared.rs` | prepared statements, batches, the statement cache |
//! | `rows.rs` | streaming rows |
//! | `copy/` | COPY in and out, many rows into a table |
//! | `pipeline.rs` | several requests in one round trip |
//! | `cursor.rs` | cursors: rows in pieces, with other requests in between |
//! | `notify.rs` | LISTEN and NOTIFY |
//! | `listener.rs` | a listener that connects again |
//! | `large_object.rs` | large objects |
//! | `kept.rs` | notices and notifications that nobody has fetched yet |
//! | `transaction.rs`, `transaction/` | transactions: single calls, guards, savepoints, retries |
//! | `advisory.rs` | advisory locks |
//! | `quote.rs` | names and texts as parts of a statement |
//! | `within.rs` | a time limit for what is done inside a scope |
//! | `cancel.rs` | cancelling from anywhere, and what has taken too long |
//! | `reuse.rs` | what a pool needs to give a connection to somebody else |
//! | `retry.rs` | doing work again after an error that is safe to retry |
//!
//! Every blocking call is the same small loop: submit to the engine, move bytes, take events, wait
//! in poll(2). There is no second path.

mod address;
mod advisory;
mod blocking;
mod cancel;
mod connect;
mod copy;
mod cursor;
mod drive;
mod kept;
mod large_object;
mod listener;
mod nonblocking;
mod notify;
mod pipeline;
mod prepared;
mod query;
mod quote;
mod retry;
mod reuse;
mod rows;
mod transaction;
mod within;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

pub use self::advisory::{AdvisoryKey, AdvisoryLock};
pub use self::cancel::{CancelToken, Cancelling};
pub use self::copy::{CopyFormat, CopyIn, CopyOptions, CopyOut, CopyReader, CopyWriter, TableName};
pub use self::drive::Drive;
pub use self::large_object::{LargeObject, LargeObjectMode};
pub use self::listener::{ListenerEvent, PgListener};
pub use self::notify::Notifications;
pub use self::pipeline::{Pipeline, PipelineResult};
pub use self::query::SimpleResult;
pub use self::quote::{quote_identifier, quote_literal};
pub use self::retry::retry;
pub use self::rows::Rows;
pub use self::transaction::{IsolationLevel, Transaction, TransactionBuilder};
pub use self::within::Within;
pub use crate::config::DEFAULT_IO_TIMEOUT;
pub use crate::engine::{
    CommandTag, Cursor, Deadline, Delivery, Event, Interest, Notification, Outcome, ParamSets,
    Request, Statement, Submit, Ticket, TransactionStatus,
};

use self::kept::Kept;
use self::within::Limit;
use crate::engine::Engine;
use crate::error::{Notice, PgError, PgResult};
use crate::net::{Connecting, Socket};

/// How many reads [`PgConnection::is_alive`] makes at most: a server that never stops sending is
/// alive.
const MOST_LOOKS: usize = 64;

/// A connection to a PostgreSQL server.
///
/// It has two faces, which can be mixed. The calls of the blocking one ([`query`](Self::query),
/// [`stream`](Self::stream), [`pipeline`](Self::pipeline) and so on) return when their answer is
/// there, within [`io_timeout`](Self::io_timeout). The socket is non-blocking all the same: a call
/// waits in poll(2), with one deadline for the whole operation. The
/// [non-blocking face](#the-non-blocking-face) is for programs with an event loop.
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
/// An error of the server leaves the connection usable. After a timeout it stays usable too: the
/// server is told to cancel the statement, what it still answers is dropped, and the next call gets
/// its own answer; the time that this takes counts for that call, which is taken back as not sent if
/// its own `io_timeout` ends first. (A cancelled statement fails, so a transaction that it was part
/// of has failed too.) Only a server that does not come to the end within
/// [`drain_timeout`](crate::PgConfig::drain_timeout) costs the connection. An I/O error, a violation of
/// the protocol or the end of the session breaks the connection for good
/// ([`is_broken`](Self::is_broken)): every later call fails with [`PgError::NotSent`], whose source
/// is what broke it.
///
/// # The non-blocking face
///
/// A program with an event loop of its own never waits in a call. It
///
/// 1. begins with [`start_connect`](Self::start_connect);
/// 2. calls [`drive`](Self::drive), then [`next_event`](Self::next_event) until there is none,
///    whatever `drive` has moved;
/// 3. from [`Event::Ready`] on queues requests by [`submit`](Self::submit), as many as it likes
///    without waiting for answers, and sends them by [`flush`](Self::flush);
/// 4. asks [`sources`](Self::sources) and [`deadline`](Self::deadline) what there is to wait for,
///    since steps 2 and 3 may have changed both;
/// 5. goes on with step 2 when a source is ready or the deadline has come. After [`Drive::Again`]
///    it does so without waiting, once other connections have had their turn.
///
/// Requests can be queued at any other time too; steps 3 and 4 belong together.
///
/// What each answer obliges to:
///
/// | answer | what to do |
/// |---|---|
/// | [`Event::Row`] | read it now: it borrows the connection |
/// | [`Event::Complete`], [`Event::Failed`] | the ticket has ended; [`take`](Self::take) what was collected |
/// | `Ok(None)` of `next_event` | wait |
/// | an error of `next_event` | the connection is broken, all tickets have ended before: drop it |
/// | [`PgError::WouldBlock`] of `submit` | see [`submit`](Self::submit): drive, take events, try again |
///
/// A program that takes no events for a while is sent no more than fits: the connection asks for
/// nothing to read until there is room again, and the server is held back.
///
/// A program that uses both faces takes all events before a blocking call: while requests that
/// deliver events are unfinished, such a call is refused with [`PgError::Busy`].
///
/// The loop for one connection, on epoll (here through the crate rustix):
///
/// ```
/// use chopin_pg::{Delivery, Drive, Event, PgConfig, PgConnection, Request};
/// use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
/// use rustix::{buffer::spare_capacity, io::Errno};
/// use std::{os::fd::AsRawFd, time::Instant};
///
/// # let server = testkit::shared();
/// # let url = server.url(server.superuser(), None, "postgres");
/// let mut connection = PgConnection::start_connect(&PgConfig::from_url(&url)?)?;
/// let epoll = epoll::create(CreateFlags::CLOEXEC)?;
/// let mut ready_sources = Vec::with_capacity(8);
/// let mut watched = None;
/// let (mut sum, mut done) = (0, false);
/// while !done {
///     let drive = connection.drive();
///     let mut ready = false;
///     while let Some(event) = connection.next_event()? {
///         match event {
///             Event::Ready => ready = true,
///             Event::Row { row, .. } => sum += row.get::<i32>(0)?,
///             Event::Complete { .. } => done = true,
///             Event::Failed { error, .. } => return Err(error.into()),
///             _ => {}
///         }
///     }
///     if ready {
///         let sql = "select generate_series(1, $1)";
///         let _ticket = connection.submit(Request::Query { sql, params: &(3,) }, Delivery::Events)?;
///         connection.flush();
///     }
///     if done || drive == Drive::Again {
///         continue;
///     }
///     for (fd, interest) in connection.sources() {
///         let mut flags = EventFlags::empty();
///         flags.set(EventFlags::IN, interest.read);
///         flags.set(EventFlags::OUT, interest.write);
///         let key = EventData::new_u64(0);
///         match watched.replace(fd.as_raw_fd()) == Some(fd.as_raw_fd()) {
///             true => epoll::modify(&epoll, fd, key, flags)?,
///             false => epoll::add(&epoll, fd, key, flags)?,
///         }
///     }
///     let left = connection.deadline().map(|at| at.saturating_duration_since(Instant::now()));
///     let timeout = left.map(TryInto::try_into).transpose()?;
///     match epoll::wait(&epoll, spare_capacity(&mut ready_sources), timeout.as_ref()) {
///         Ok(_) | Err(Errno::INTR) => ready_sources.clear(),
///         Err(error) => return Err(error.into()),
///     }
/// }
/// assert_eq!(sum, 1 + 2 + 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `examples/event_loop.rs` is a whole program of this kind, with many connections and many
/// requests in flight on each.
pub struct PgConnection {
    engine: Engine,
    /// The socket, while it is connected or being connected or failed to be.
    socket: Socket,
    /// What is left to do for a connect.
    connecting: Option<Box<Connecting>>,
    /// Connected, and not ready yet.
    in_login: bool,
    /// The cancel of a request that has taken too long, while it is under way.
    cancelling: Option<Box<Cancelling>>,
    /// The number that the descriptor of the last one had.
    last_cancel: Option<RawFd>,
    /// What limits a cancel that the program asks for: a setting, and its value.
    cancel_limit: Option<(&'static str, Duration)>,
    /// Where it goes to, for errors.
    target: Box<str>,
    /// The deadline of the operation that has just begun, and how long it is until then: its first
    /// wait need not look at the clock.
    fresh: Option<(Instant, Duration)>,
    io_timeout: Duration,
    /// What limits an operation.
    limit: Limit,
    drain_timeout: Duration,
    /// Why nothing can be sent any more; told when everything that the server said has been read.
    send_error: Option<io::Error>,
    /// When `drive` found that something had taken too long, and left it the answer that had just
    /// come.
    overdue: Option<Instant>,
    /// Terminal events that came during a blocking call, for `next_event`.
    set_aside: VecDeque<Event<'static>>,
    notices: Kept<Notice>,
    notice_handler: Option<NoticeHandler>,
    notifications: Kept<Notification>,
    /// Something was set aside or kept since there was nothing to tell of it.
    may_have_kept: bool,
    /// How many dropped messages an event has told.
    dropped_told: u64,
    last_tag: CommandTag,
    /// How many guards of savepoints there are: names the next one. Says nothing about the
    /// transaction.
    savepoints: u32,
    /// The COPY of a [`CopyWriter`] or [`CopyReader`] that is in use. If it is there when another
    /// call is made, the handle was forgotten.
    copy: Option<Ticket>,
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
    /// or hung up. (While requests that deliver events are unfinished it does not look: that is
    /// told by [`drive`](Self::drive) and [`next_event`](Self::next_event).)
    pub fn is_alive(&mut self) -> bool {
        self.proceed_cancel();
        for _ in 0..MOST_LOOKS {
            match self.try_fill_read_buf() {
                Ok(_) => {}
                Err(PgError::WouldBlock) if self.give_up_sending() => {}
                Err(PgError::WouldBlock) => break,
                Err(PgError::Busy) => return !self.is_broken(),
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
    /// keeping it. ([`next_event`](Self::next_event) returns it as an event all the same.)
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
    /// At most [`max_kept_messages`](crate::PgConfig::max_kept_messages) and
    /// [`max_kept_bytes`](crate::PgConfig::max_kept_bytes) are kept; the oldest give way, and
    /// [`dropped_messages`](Self::dropped_messages) counts them.
    pub fn drain_notices(&mut self) -> impl Iterator<Item = Notice> + '_ {
        self.notices.drain()
    }

    /// How many notices and notifications were dropped because nobody fetched them in time.
    pub fn dropped_messages(&self) -> u64 {
        self.notices.dropped() + self.notifications.dropped()
    }

    /// The socket's descriptor, to watch it. While a connect is under way it may change. Nothing
    /// else may be done with it.
    pub fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Hands a line for each message that is sent or received to `tracer` from now on, for bug
    /// reports: the text form of libpq's `PQtrace` without time stamps. Passwords, keys and what
    /// proves them are masked; SQL texts, parameters and rows are not.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// connection.set_tracer(|line| eprintln!("{line}"));
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// To trace a login, set it between [`start_connect`](Self::start_connect) and
    /// [`wait_ready`](Self::wait_ready).
    pub fn set_tracer(&mut self, tracer: impl FnMut(&str) + 'static) {
        self.engine.set_tracer(Some(Box::new(tracer)));
    }

    /// Ends what [`set_tracer`](Self::set_tracer) began.
    pub fn clear_tracer(&mut self) {
        self.engine.set_tracer(None);
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
    /// The socket's descriptor. While a connect is under way it may change, and
    /// [`sources`](Self::sources) says whether there is something to wait for at it.
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
        let pending = self.engine.send_pending();
        if !pending.is_empty() && self.connecting.is_none() {
            // If the socket does not take it, the server finds out by the hang-up.
            let _ = self.socket.send(pending);
        }
    }
}
