//! The connection machine without I/O: bytes in, events out; requests in, bytes out.
//!
//! [`Engine`] owns its buffers and a queue of what is in flight. It owns no socket, reads no clock
//! and spawns nothing: whoever has a transport moves the bytes, and time is an argument.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the type, moving bytes through it, its events |
//! | `startup.rs` | everything before the first ReadyForQuery |
//! | `request.rs` | what can be asked, and how |
//! | `submit.rs` | queueing a request: limits, groups, taking back what could not be written |
//! | `write.rs` | the messages of a request |
//! | `statement.rs` | a prepared statement, whatever connection runs it |
//! | `cursor.rs` | a portal that is fetched from in pieces |
//! | `catalogue.rs` | the statement cache, shared by connections |
//! | `prepared.rs` | what one connection's server has prepared |
//! | `known.rs` | finding what it has prepared |
//! | `keyword.rs` | what kind of statement a text begins with |
//! | `flight.rs` | a request in flight: what it waits for, what it has returned |
//! | `flights.rs` | the queue of the requests in flight, and their groups |
//! | `step.rs` | consuming what was received, one message after the other |
//! | `answer.rs` | what a message means for the request whose answer comes |
//! | `copy.rs` | COPY from and to the program |
//! | `usual.rs` | the four messages that nearly every answer consists of, on a short way |
//! | `rows.rs` | the rows among the messages |
//! | `group.rs` | the end of a group: what became of each request |
//! | `again.rs` | writing a request a second time |
//! | `deadline.rs` | a moment, and the setting that it comes from |
//! | `time.rs` | deadlines, and what is not wanted any more |
//! | `cancel.rs` | when a CancelRequest is wanted, and whom it may have hit |
//! | `session.rs` | what the server says about the session |
//! | `event.rs` | what the caller is told |
//! | `buffer.rs`, `lease.rs` | the two buffers, and where their memory comes from |
//! | `tracing.rs` | telling a tracer each message |
//!
//! This module is public so that tools can stand on it, and unstable: it may change in any release.

mod again;
mod answer;
mod buffer;
mod cancel;
mod catalogue;
mod copy;
mod cursor;
mod deadline;
mod event;
mod flight;
mod flights;
mod group;
mod keyword;
mod known;
mod lease;
mod prepared;
mod request;
mod rows;
mod session;
mod startup;
mod statement;
mod step;
mod submit;
mod time;
mod tracing;
mod usual;
mod write;

use std::collections::VecDeque;
use std::rc::Rc;

pub use self::catalogue::Catalogue;
pub use self::cursor::Cursor;
pub use self::deadline::Deadline;
pub use self::event::{CommandResult, CommandTag, Delivery, Event, Notification, Outcome, Ticket};
pub use self::request::{ParamSets, Request, Submit};
pub use self::session::Session;
pub use self::startup::{Encryption, TransportAction};
pub use self::statement::Statement;
pub use self::tracing::Tracer;
pub use crate::auth::ScramKeyCache;
pub use crate::wire::backend::TransactionStatus;

use self::answer::tag_text;
pub(crate) use self::buffer::Message;
use self::buffer::{RecvBuffer, SendBuffer};
use self::cancel::Cancel;
pub(crate) use self::deadline::IO_TIMEOUT;
use self::flights::{Flights, MOST_KEPT};
pub(crate) use self::keyword::{changes_session, has_copy_options};
use self::prepared::Prepared;
use self::startup::Startup;
pub(crate) use self::step::Step;
use self::time::Clock;
use self::tracing::Tracing;
use self::usual::LastTag;
use crate::config::{ExecutionMode, PgConfig};
use crate::crypto;
use crate::error::{PgError, PgResult};
use crate::row::{Column, RowRef, Span};

/// What the transport should wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Bytes to receive.
    pub read: bool,
    /// Room to send.
    pub write: bool,
}

/// One PostgreSQL session as a machine that consumes and produces bytes.
///
/// # The call contract
///
/// 1. [`start`](Engine::start) makes an engine whose first bytes are already pending.
/// 2. Whenever [`send_pending`](Engine::send_pending) is not empty, the transport writes some of it
///    and says how much with [`sent`](Engine::sent).
/// 3. When bytes can be received, the transport reads into [`recv_space`](Engine::recv_space) and
///    says how many with [`received`](Engine::received); at end of file or an error it calls
///    [`hung_up`](Engine::hung_up), once.
/// 4. After either, the caller takes events from [`next_event`](Engine::next_event) until there are
///    none. An event borrows the engine; its bytes are gone with the next call of `recv_space`.
/// 5. [`submit`](Engine::submit) queues a request at any time after [`Event::Ready`]; it never
///    depends on an answer that has not come. Every ticket gets exactly one terminal event, also
///    when the connection breaks. The result of a request with [`Delivery::Collect`] is fetched
///    with [`take`](Engine::take) after its terminal event.
/// 6. At [`deadline`](Engine::deadline) the caller calls
///    [`handle_timeout`](Engine::handle_timeout), and takes events again.
/// 7. If [`transport_action`](Engine::transport_action) returns something, the transport does it
///    before anything else.
/// 8. When [`wants_cancel`](Engine::wants_cancel) says so, the caller sends a CancelRequest over a
///    connection of its own, between [`cancel_sent`](Engine::cancel_sent) and
///    [`cancel_ended`](Engine::cancel_ended). One that cannot may leave it: then late answers are
///    only drained.
///
/// # Groups
///
/// The requests up to one Sync are a group. A request is a group of its own, unless it is submitted
/// without a Sync ([`Submit::no_sync`]): then it waits for [`end_group`](Engine::end_group), or for
/// a request with one. A group that fails leaves nothing behind: the requests before the error get
/// [`PgError::RolledBack`], the one in error the server's error, those after it
/// [`PgError::NotRun`]; an error at the Sync itself belongs to the last request. (Without an open
/// transaction a group is one transaction; what a COMMIT inside it has committed stays complete. A
/// CALL or DO that commits cannot be told from one that does not: put nothing before it into its group.)
#[derive(Debug)]
pub struct Engine {
    recv: RecvBuffer,
    send: SendBuffer,
    /// `None` from the first ReadyForQuery on.
    startup: Option<Startup>,
    flights: Flights,
    /// What this connection's server has prepared.
    prepared: Prepared,
    /// The statements that queries are cached as.
    catalogue: Catalogue,
    /// How queries are run unless the request says otherwise.
    mode: ExecutionMode,
    session: Session,
    /// Events that stand in no received byte: what a message caused beyond itself, timeouts,
    /// failures after a break.
    pending: VecDeque<Event<'static>>,
    /// Results of collected requests, until they are taken.
    finished: VecDeque<(Ticket, PgResult<Outcome>)>,
    /// The message that the last step has found: a row, or the tag of a command.
    found: Message,
    /// Whose row or command it is, or who is complete, by the last step.
    whose: Ticket,
    /// Where the cells of the row in the current event are.
    cells: Vec<Span>,
    /// The columns of the request with [`Delivery::Rows`] that was completed last.
    last_columns: Option<Rc<[Column]>>,
    /// The tag of the command that was done last.
    last_tag: LastTag,
    /// How many requests at the front of the queue are complete and have not been told.
    ended: usize,
    /// How many requests the server failed with an error that is safe to retry.
    retryable_failures: u64,
    /// The last two messages were rows with these columns, which were delivered as events, and nothing
    /// has happened since: the next row takes a short way.
    row_run: Option<Rc<[Column]>>,
    /// The open group was taken back because its time was over: what is still submitted to it is
    /// refused, up to its end.
    lost_group: Option<PgError>,
    tickets: u64,
    clock: Clock,
    cancel: Cancel,
    limits: Limits,
    /// The transport has ended; what is still in the receive buffer counts, then this does.
    end: Option<PgError>,
    /// Why this engine is broken for good.
    broken: Option<PgError>,
    /// A Terminate has been queued: nothing may follow it.
    terminated: bool,
    tracing: Tracing,
}

/// How much there may be of everything.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Bytes in the body of a received message.
    message_size: usize,
    /// Requests that are unanswered, or whose results were not taken.
    in_flight: usize,
    /// Bytes that wait to be sent, above which nothing more is queued.
    send_buffer: usize,
}

impl Engine {
    /// An engine for a new connection, with the first packet pending. `deadline` is for the whole
    /// startup.
    ///
    /// # Errors
    ///
    /// [`PgError::Config`] when the configuration cannot be sent.
    pub fn start(
        config: &PgConfig,
        encryption: Encryption,
        deadline: Option<Deadline>,
    ) -> PgResult<Self> {
        config.validate()?;
        let mut connection = [0; 4];
        crypto::random(&mut connection)?;
        let mut engine = Self {
            recv: RecvBuffer::default(),
            send: SendBuffer::default(),
            startup: None,
            flights: Flights::default(),
            prepared: Prepared::new(u32::from_ne_bytes(connection)),
            catalogue: Catalogue::new(config.get_statement_cache_capacity()),
            mode: config.get_execution_mode(),
            session: Session::default(),
            pending: VecDeque::new(),
            finished: VecDeque::new(),
            found: Message::NONE,
            whose: Ticket::NONE,
            cells: Vec::new(),
            row_run: None,
            last_columns: None,
            last_tag: LastTag::NONE,
            ended: 0,
            retryable_failures: 0,
            lost_group: None,
            tickets: 0,
            clock: Clock::new(config, deadline),
            cancel: Cancel::default(),
            limits: Limits {
                message_size: config.get_max_message_size(),
                in_flight: config.get_max_in_flight(),
                send_buffer: config.get_max_send_buffer(),
            },
            end: None,
            broken: None,
            terminated: false,
            tracing: Tracing::default(),
        };
        engine.session.set_protocol_minor(config.get_max_protocol_version().minor());
        engine.startup = Some(Startup::begin(config, encryption, engine.send.writer())?);
        Ok(engine)
    }

    /// The bytes that the transport should write now.
    #[inline]
    pub fn send_pending(&self) -> &[u8] {
        self.send.pending(self.send_limit())
    }

    /// Whether anything waits to be sent, now or later.
    #[inline]
    pub(crate) fn has_unsent(&self) -> bool {
        self.send.unsent() > 0
    }

    /// The transport has written the first `count` bytes of [`send_pending`](Self::send_pending).
    #[inline]
    pub fn sent(&mut self, count: usize) {
        if self.tracing.is_on() {
            self.tracing.sent(&self.send, count);
        }
        self.send.sent(count);
    }

    /// Where the transport should read to; never empty.
    #[inline]
    pub fn recv_space(&mut self) -> &mut [u8] {
        self.recv.space()
    }

    /// The transport has read `count` bytes to the front of [`recv_space`](Self::recv_space).
    #[inline]
    pub fn received(&mut self, count: usize) {
        self.recv.received(count);
    }

    /// Whether the last read filled the space that it was given, so that there may be more to read
    /// at once.
    #[inline]
    pub fn recv_was_filled(&self) -> bool {
        self.recv.was_filled()
    }

    /// The transport has ended: end of file (`None`) or an error. What was received before still
    /// counts.
    pub fn hung_up(&mut self, error: Option<std::io::Error>) {
        if self.end.is_none() {
            self.end = Some(match error {
                Some(error) => PgError::Io(error),
                None => PgError::ConnectionClosed("the server closed the connection".to_owned()),
            });
        }
    }

    /// Whether a message is here that has not been looked at.
    pub(crate) fn has_message(&self) -> bool {
        self.recv.has_whole_message()
    }

    /// What the transport should wait for.
    ///
    /// Reading is wanted even while output is pending: a server that is blocked on writing to us
    /// reads nothing. It is not wanted while the receive buffer is full of events that nobody has
    /// taken.
    pub fn interest(&self) -> Interest {
        // During the TLS handshake the socket is the transport's: not a byte may be taken for ours.
        let alive = self.broken.is_none() && self.transport_action().is_none();
        let full = self.recv.is_full() && self.recv.has_whole_message();
        let sends = self.has_unsent() && !self.send_pending().is_empty();
        Interest { read: alive && !full, write: alive && sends }
    }

    /// The next event that the received bytes mean, `None` when more bytes are needed first.
    ///
    /// # Errors
    ///
    /// What broke the connection, once every ticket has got its terminal event.
    #[inline]
    pub fn next_event(&mut self) -> PgResult<Option<Event<'_>>> {
        match self.advance() {
            Step::Starved => Ok(None),
            Step::Broken => Err(self.breakage()),
            step => Ok(self.event(step)),
        }
    }

    /// What broke the connection.
    #[cold]
    pub(crate) fn breakage(&self) -> PgError {
        let unknown = || PgError::ConnectionClosed("the connection is broken".to_owned());
        self.broken.clone().unwrap_or_else(unknown)
    }

    /// The event that a step led to; it borrows what the step has found.
    #[inline]
    pub(crate) fn event(&mut self, step: Step) -> Option<Event<'_>> {
        match step {
            Step::Row => {
                let ticket = self.whose;
                self.row().map(|row| Event::Row { ticket, row })
            }
            Step::Columns => {
                let request = self.flights.current()?;
                let (columns, ticket) = (request.columns.as_ref()?, request.ticket);
                Some(Event::Columns { ticket, columns })
            }
            Step::Command => {
                Some(Event::CommandComplete { ticket: self.whose, tag: self.command_tag() })
            }
            Step::Complete => Some(Event::Complete { ticket: self.whose }),
            Step::CopyData => {
                let ticket = self.whose;
                self.copied(self.found).map(|data| Event::CopyData { ticket, data })
            }
            Step::Pending => self.pop_pending(),
            Step::Starved | Step::Consumed | Step::Broken => None,
        }
    }

    /// The row that a step has found.
    #[inline]
    pub(crate) fn row(&self) -> Option<RowRef<'_>> {
        let columns = self.flights.current()?.columns.as_deref()?;
        let cells = self.recv.frame(self.found)?.body.get(2..)?;
        Some(RowRef::new(columns, cells, &self.cells))
    }

    /// The message that a step has found.
    #[inline]
    pub(crate) fn found(&self) -> Message {
        self.found
    }

    /// The data of a COPY in a message that was found.
    #[inline]
    pub(crate) fn copied(&self, message: Message) -> Option<&[u8]> {
        self.recv.frame(message).map(|frame| frame.body)
    }

    /// Whose row, command or data it is, or who is complete, as a step has found.
    #[inline]
    pub(crate) fn whose(&self) -> Ticket {
        self.whose
    }

    /// The tag of the command that a step has found to be done.
    #[inline]
    pub(crate) fn command_tag(&self) -> CommandTag {
        let frame = self.recv.frame(self.found);
        frame.map_or(CommandTag::EMPTY, |frame| CommandTag::new(tag_text(frame)))
    }

    /// The columns of the request that was completed last, which delivered rows alone.
    #[inline]
    pub(crate) fn take_last_columns(&mut self) -> Option<Rc<[Column]>> {
        self.last_columns.take()
    }

    /// The tag of the command that was done last.
    #[inline]
    pub(crate) fn last_tag(&self) -> &CommandTag {
        self.last_tag.get()
    }

    /// The columns that a step has found.
    pub(crate) fn current_columns(&self) -> Option<&Rc<[Column]>> {
        self.flights.current()?.columns.as_ref()
    }

    /// The finished result of a request with [`Delivery::Collect`], once; `None` while there is
    /// none.
    ///
    /// # Errors
    ///
    /// Why the request failed.
    #[inline]
    pub fn take(&mut self, ticket: Ticket) -> PgResult<Option<Outcome>> {
        let is_first = self.finished.front().is_some_and(|(first, _)| *first == ticket);
        let taken = if is_first { self.finished.pop_front() } else { self.take_later(ticket) };
        self.release_queues();
        taken.map(|(_, result)| result).transpose()
    }

    /// A finished result that is not the first one.
    #[cold]
    fn take_later(&mut self, ticket: Ticket) -> Option<(Ticket, PgResult<Outcome>)> {
        let place = self.finished.iter().position(|(finished, _)| *finished == ticket);
        place.and_then(|place| self.finished.remove(place))
    }

    /// Gives back what queues have grown to that are empty now.
    #[inline]
    pub(super) fn release_queues(&mut self) {
        if self.pending.capacity() > MOST_KEPT && self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
        if self.finished.capacity() > MOST_KEPT && self.finished.is_empty() {
            self.finished = VecDeque::new();
        }
    }

    /// How many requests are unanswered, those that nobody wants any more included.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Whether waiting for answers can make no room for another request: so many requests of the open
    /// group are in flight that the limit is reached, and none of them ends before the group does.
    pub fn is_full_of_open_group(&self) -> bool {
        let open = self.flights.len().checked_sub(1).filter(|_| self.flights.is_open());
        open.is_some_and(|last| {
            self.flights.group_of(last).len() + self.finished.len() >= self.limits.in_flight
        })
    }

    /// Whether requests are unanswered that deliver events.
    pub fn has_event_requests(&self) -> bool {
        self.flights.iter().any(|request| request.delivery.tells_rows())
    }

    /// How many requests the server has failed so far with an error that is [safe to
    /// retry](PgError::is_safe_to_retry). One that only shared the group of such a request does not
    /// count.
    pub(crate) fn retryable_failures(&self) -> u64 {
        self.retryable_failures
    }

    /// Whether startup is over.
    pub fn is_ready(&self) -> bool {
        self.startup.is_none() && self.broken.is_none()
    }

    /// Why this connection is broken for good, `None` if it is not.
    pub fn broken(&self) -> Option<&PgError> {
        self.broken.as_ref()
    }

    /// What the server has said about the session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The statements that queries of this connection are cached as.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Uses another catalogue from now on, that of the connections of a pool.
    pub fn set_catalogue(&mut self, catalogue: Catalogue) {
        self.catalogue = catalogue;
    }

    /// How queries are run unless the request says otherwise.
    pub fn execution_mode(&self) -> ExecutionMode {
        self.mode
    }

    /// Sets how queries are run unless the request says otherwise.
    pub fn set_execution_mode(&mut self, mode: ExecutionMode) {
        self.mode = mode;
    }

    /// How many prepared statements the server has for this connection, as far as is known here.
    pub fn prepared_statements(&self) -> usize {
        self.prepared.len()
    }

    /// Empties the statement cache; the server's side of each statement is closed with the next
    /// group. Statements that somebody has a handle to are prepared again when they are next run.
    pub fn clear_statement_cache(&mut self) {
        self.catalogue.clear();
        self.prepared.forget_all();
    }

    /// Hands a line for each message that is sent or received to `tracer` from now on, in the form
    /// of libpq's `PQtrace` without time stamps; secrets are masked. `None` ends that.
    pub fn set_tracer(&mut self, tracer: Option<Tracer>) {
        self.row_run = None;
        self.tracing.set(tracer, self.send.sent_up_to());
    }

    /// Broken for good: every ticket gets its terminal event, nothing is sent any more.
    ///
    /// The request whose answer was awaited met the error, unless its group had one of its own
    /// already. What stood behind it fails without it being said to be at fault: as not sent, if
    /// so, else with the error that broke the connection.
    #[cold]
    pub(crate) fn break_with(&mut self, error: PgError) {
        if self.broken.is_some() {
            return;
        }
        self.row_run = None;
        while self.ended > 0 {
            if self.complete_next() == Step::Complete {
                self.pending.push_back(Event::Complete { ticket: self.whose });
            }
        }
        let sent = self.send.sent_up_to();
        let current = self.flights.current().map(|request| request.ticket);
        let (requests, failure) = self.flights.take_all();
        for (index, request) in requests.into_iter().enumerate() {
            let own = failure.as_ref().filter(|failure| failure.index == index);
            if !request.is_sent(sent) {
                let cause = PgError::NotSent(Box::new(error.clone()));
                self.tell_failure(request.ticket, request.delivery, cause);
            } else if let Some(failure) = own {
                self.fail(request, failure.error.clone());
            } else if failure.is_none() && current == Some(request.ticket) {
                self.fail(request, error.clone());
            } else {
                self.tell_failure(request.ticket, request.delivery, error.clone());
            }
        }
        if self.startup.take().is_some() {
            // The password may have passed through.
            self.send.wipe_all();
            self.recv.wipe_read();
        }
        self.clock.started();
        self.clock.idle();
        self.cancel = Cancel::default();
        self.prepared = Prepared::default();
        self.send.clear();
        self.broken = Some(error);
    }
}

/// What passed through the buffers of a login does not go to another connection.
impl Drop for Engine {
    fn drop(&mut self) {
        if self.startup.is_some() {
            self.send.wipe_all();
            self.recv.consume(usize::MAX);
            self.recv.wipe_read();
        }
    }
}
