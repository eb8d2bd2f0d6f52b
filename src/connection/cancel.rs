//! Cancelling: from anywhere by a [`CancelToken`], and what has taken too long by the connection
//! itself.
//!
//! PostgreSQL is told to cancel over a connection of its own, which carries one CancelRequest and is
//! then closed by the server (PostgreSQL documentation, "Canceling Requests in Progress"). The server
//! closes it after it has signalled the session, so whoever waits for that end knows that the cancel
//! cannot hit anything that is sent later.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::connect::cannot_connect;
use super::{Deadline, Interest, PgConnection, Ticket};
use crate::crypto::SecretBytes;
use crate::error::{PgError, PgResult};
use crate::net::{Address, Connecting, Socket, Source, wait};
use crate::wire::frontend;

/// Cancels what a connection is running, from any thread and at any time.
///
/// It is a small handle that can be cloned and sent to other threads, and stays good as long as the
/// session lasts; later it does nothing. It knows the address that the connection is really
/// connected to, and the session's secret key: that is not shown, and wiped with the last clone.
///
/// ```no_run
/// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
/// use std::sync::mpsc::{RecvTimeoutError, channel};
/// use std::{thread, time::Duration};
///
/// let token = connection.cancel_token();
/// let (done, watched) = channel::<()>();
/// let watch = thread::spawn(move || match watched.recv_timeout(Duration::from_secs(1)) {
///     Err(RecvTimeoutError::Timeout) => token.cancel(),
///     // It has ended before.
///     _ => Ok(()),
/// });
/// let error = connection.execute_batch("select pg_sleep(60)").unwrap_err();
/// drop(done);
/// watch.join().expect("a cancel never panics")?;
/// assert_eq!(error.sql_state(), Some(chopin_pg::SqlState::QUERY_CANCELED));
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// # What it hits
///
/// A cancel names no request: the server cancels the statement that the session runs at the moment at
/// which the cancel arrives, and does nothing if it runs none. The statement fails with `57014`
/// ([`SqlState::QUERY_CANCELED`](crate::SqlState::QUERY_CANCELED)), or has ended before. When
/// [`cancel`](Self::cancel) has returned the cancel has arrived, so it cannot hit what is sent after
/// that.
#[derive(Clone)]
pub struct CancelToken(Arc<Session>);

/// The session of a [`CancelToken`].
struct Session {
    address: Address,
    /// The address as the configuration has it, for errors.
    target: Box<str>,
    process_id: i32,
    secret_key: SecretBytes,
    /// The setting that limits a cancel, and its value.
    limit: Option<(&'static str, Duration)>,
}

impl CancelToken {
    /// Cancels what the connection runs, and waits until the server has done so: when this has
    /// returned, the cancel cannot hit anything that is sent later. Whether it hit anything is told by
    /// what becomes of the statement.
    ///
    /// It may take as long as a connect: the configuration's
    /// [`connect_timeout`](crate::PgConfig::connect_timeout), or its
    /// [`io_timeout`](crate::PgConfig::io_timeout) if none is set.
    ///
    /// # Errors
    ///
    /// - [`PgError::Io`] when the server cannot be reached. A connection that it refuses cancels
    ///   nothing.
    /// - [`PgError::Timeout`] when it takes too long: then it may still hit a later statement.
    /// - [`PgError::Usage`] when the server gave the session no key to cancel with, as some poolers do,
    ///   or has not given it yet.
    pub fn cancel(&self) -> PgResult<()> {
        self.start_cancel()?.finish()
    }

    /// Begins to cancel and returns at once: [`cancel`](Self::cancel) for programs with an event loop.
    ///
    /// # Errors
    ///
    /// As [`cancel`](Self::cancel), as far as it is known at once.
    pub fn start_cancel(&self) -> PgResult<Cancelling> {
        let now = Instant::now();
        let limit = self.0.limit;
        let deadline = limit.and_then(|(setting, value)| Deadline::after(now, setting, value));
        Cancelling::start(self, now, deadline)
    }

    /// The process on the server whose work is cancelled, as in `pg_stat_activity.pid`.
    pub fn process_id(&self) -> i32 {
        self.0.process_id
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("target", &self.0.target)
            .field("process_id", &self.0.process_id)
            .field("secret_key", &self.0.secret_key)
            .finish()
    }
}

/// A cancel that is under way, from [`CancelToken::start_cancel`].
///
/// Call [`drive`](Self::drive) until it is ready, whenever one of the [sources](Self::sources) is, or
/// the [deadline](Self::deadline) has come. Dropped before that, the cancel may arrive or not, and
/// hit whatever the session runs then.
#[derive(Debug)]
pub struct Cancelling {
    token: CancelToken,
    socket: Socket,
    /// What is left to do for the connect.
    connecting: Option<Connecting>,
    /// The CancelRequest.
    packet: SecretBytes,
    /// How many bytes of it have been sent.
    sent: usize,
    /// It is being sent: it may hit from now on.
    has_begun: bool,
    deadline: Option<Deadline>,
    /// What became of it.
    result: Option<PgResult<()>>,
}

impl Cancelling {
    fn start(token: &CancelToken, now: Instant, deadline: Option<Deadline>) -> PgResult<Self> {
        let Session { address, target, process_id, secret_key, .. } = &*token.0;
        if secret_key.as_bytes().is_empty() {
            return Err(PgError::Usage(
                "the server gave this session no key, so nothing can be cancelled".to_owned(),
            ));
        }
        let mut packet = Vec::with_capacity(12 + secret_key.as_bytes().len());
        frontend::cancel_request(&mut packet, *process_id, secret_key.as_bytes())?;
        let packet = SecretBytes::from(packet);
        let (socket, connecting) = Connecting::start(vec![address.clone()], now)
            .map_err(|error| PgError::Io(cannot_connect(target, &error)))?;
        let token = token.clone();
        Ok(Self {
            token,
            socket,
            connecting,
            packet,
            sent: 0,
            has_begun: false,
            deadline,
            result: None,
        })
    }

    /// Goes on with the cancel; never waits. It is ready when the server has closed its connection:
    /// from then on the cancel cannot hit anything that is sent later.
    ///
    /// # Errors
    ///
    /// As [`CancelToken::cancel`]. Nothing more happens after one, and each later call repeats it.
    pub fn drive(&mut self) -> Poll<PgResult<()>> {
        let now = Instant::now();
        if self.result.is_none() {
            self.result = match self.connect(now) {
                Ok(true) => self.exchange(),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            };
        }
        if let (None, Some(deadline)) =
            (&self.result, self.deadline.filter(|limit| limit.at <= now))
        {
            self.result = Some(Err(deadline.error("cancelling a query")));
        }
        self.result.clone().map_or(Poll::Pending, Poll::Ready)
    }

    /// Drives it to its end, and waits in between.
    fn finish(mut self) -> PgResult<()> {
        loop {
            if let Poll::Ready(result) = self.drive() {
                return result;
            }
            wait(self.source().as_slice(), self.deadline(), None)?;
        }
    }

    /// Goes on with the connect; whether the socket is connected.
    fn connect(&mut self, now: Instant) -> PgResult<bool> {
        let Some(connecting) = &mut self.connecting else { return Ok(true) };
        let connected = connecting.proceed(&mut self.socket, now);
        let connected =
            connected.map_err(|error| PgError::Io(cannot_connect(&self.token.0.target, &error)))?;
        if connected {
            self.connecting = None;
        }
        Ok(connected)
    }

    /// Sends the CancelRequest, and looks whether the server has closed the connection: nothing else
    /// is expected of it. What became of that, if anything did.
    fn exchange(&mut self) -> Option<PgResult<()>> {
        self.has_begun = true;
        while let Some(rest @ [_, ..]) = self.packet.as_bytes().get(self.sent..) {
            match self.socket.send(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Err(PgError::Io(error))),
            }
        }
        // A server that goes on talking is bounded by the deadline.
        match self.socket.recv(&mut [0; 256]) {
            Ok(0) => Some(Ok(())),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(Ok(())),
            Err(error) => Some(Err(PgError::Io(error))),
        }
    }

    /// The descriptor to watch, level-triggered, and what for; as
    /// [`PgConnection::sources`], at most one. There is none for a moment while a server's queue of
    /// connections is full, and none when it is over.
    pub fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        let pair = |Source { fd, read, write }| (fd, Interest { read, write });
        self.source().into_iter().map(pair)
    }

    fn source(&self) -> Option<Source<'_>> {
        if self.result.is_some() {
            return None;
        }
        if let Some(connecting) = &self.connecting {
            return connecting.source(&self.socket);
        }
        let write = self.sent < self.packet.as_bytes().len();
        Some(Source { fd: self.socket.as_fd(), read: !write, write })
    }

    /// When to call [`drive`](Self::drive) even if no source is ready; `None` for never.
    pub fn deadline(&self) -> Option<Instant> {
        let retry = self.connecting.as_ref().and_then(Connecting::retry_at);
        retry.into_iter().chain(self.deadline.map(|limit| limit.at)).min()
    }
}

impl AsFd for Cancelling {
    /// The socket's descriptor. It may change while it connects.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Cancelling {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl PgConnection {
    /// A handle to cancel what this connection runs, from other threads too. Ask for it when the
    /// connection is ready: the server gives the key for it at the end of the login.
    pub fn cancel_token(&self) -> CancelToken {
        let session = self.engine.session();
        CancelToken(Arc::new(Session {
            address: self.socket.address().clone(),
            target: self.target.clone(),
            process_id: session.process_id(),
            secret_key: SecretBytes::from(session.secret_key()),
            limit: self.cancel_limit,
        }))
    }

    /// Cancels what this connection runs, which requests of the non-blocking face have begun: the
    /// one at the front fails with `57014`, if it has not ended before. Waits until the cancel has
    /// arrived, so that nothing that is sent later is hit. Does nothing when nothing is in flight.
    ///
    /// What is in flight is not sent or received here: that is left to [`drive`](Self::drive) and the
    /// blocking calls. Another thread that wants to cancel a blocking call takes a
    /// [`cancel_token`](Self::cancel_token).
    ///
    /// ```no_run
    /// # use chopin_pg::{Delivery, PgConfig, PgConnection, Request};
    /// # let mut connection = PgConnection::connect(&PgConfig::from_url("")?)?;
    /// let request = Request::Simple { sql: "select pg_sleep(60)" };
    /// let ticket = connection.submit(request, Delivery::Collect)?;
    /// connection.flush();
    /// connection.cancel_query()?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`CancelToken::cancel`]. The connection stays usable.
    pub fn cancel_query(&mut self) -> PgResult<()> {
        if self.engine.in_flight() == 0 {
            return Ok(());
        }
        let cancelling = self.cancel_token().start_cancel()?;
        self.engine.trace_cancel_request(cancelling.packet.as_bytes());
        cancelling.finish()
    }

    /// Cancels a stream of which nobody wants more, and waits for its end.
    pub(super) fn stop_now(&mut self, ticket: Ticket) -> PgResult<()> {
        self.engine.stop_now(ticket, Instant::now());
        // The end of what stood before it may be here.
        self.take_events()?;
        while self.engine.is_holding() {
            self.turn(None);
            self.take_events()?;
            if self.something_is_late() {
                self.take_events()?;
            }
        }
        Ok(())
    }

    /// Goes on with the cancel of what has taken too long, if there is something to do. Never waits.
    #[inline]
    pub(super) fn proceed_cancel(&mut self) {
        if self.may_cancel() {
            self.go_on_cancelling();
        }
    }

    /// Whether something has taken too long, or is being cancelled.
    #[inline]
    pub(super) fn may_cancel(&self) -> bool {
        self.engine.is_holding() || self.cancelling.is_some()
    }

    #[cold]
    fn go_on_cancelling(&mut self) {
        let is_wanted = self.engine.wants_cancel().is_some();
        let now = Instant::now();
        match &self.cancelling {
            // The engine waits for its end.
            Some(cancelling) if cancelling.has_begun && self.engine.broken().is_none() => {}
            // What it was to hit has ended before it was sent.
            Some(_) if !is_wanted => self.cancelling = None,
            Some(_) => {}
            None if is_wanted => {
                // How long it may take is the engine's concern.
                match Cancelling::start(&self.cancel_token(), now, None) {
                    Ok(cancelling) => self.watch_cancel(cancelling),
                    Err(_) => return self.engine.cancel_ended(now),
                }
            }
            None => {}
        }
        let Some(cancelling) = &mut self.cancelling else { return };
        let result = match cancelling.connect(now) {
            Ok(true) => {
                if !cancelling.has_begun {
                    self.engine.trace_cancel_request(cancelling.packet.as_bytes());
                    self.engine.cancel_sent();
                }
                cancelling.exchange()
            }
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        };
        // If it failed the answer is only drained.
        if result.is_some() {
            self.cancelling = None;
            self.engine.cancel_ended(now);
        }
    }

    /// The cancel becomes a [source](Self::sources). Whoever has not asked for them since the last one
    /// was closed would take a descriptor of the same number for it.
    fn watch_cancel(&mut self, mut cancelling: Cancelling) {
        if self.last_cancel == Some(cancelling.as_raw_fd()) {
            // If it cannot be had, then there are no numbers left anyway.
            let _ = cancelling.socket.renumber();
        }
        self.last_cancel = Some(cancelling.as_raw_fd());
        self.cancelling = Some(Box::new(cancelling));
    }

    /// The descriptor of the cancel, and what to wait for at it.
    #[inline]
    pub(super) fn cancel_source(&self) -> Option<Source<'_>> {
        self.cancelling.as_deref().and_then(Cancelling::source)
    }

    /// When there is something to do for the cancel.
    pub(super) fn cancel_deadline(&self) -> Option<Instant> {
        match &self.cancelling {
            Some(cancelling) => cancelling.deadline(),
            None => self.engine.wants_cancel(),
        }
    }
}
