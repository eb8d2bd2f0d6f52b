//! The connection machine without I/O: bytes in, events out; requests in, bytes out.
//!
//! [`Engine`] owns its buffers and a queue of what is in flight. It owns no socket, reads no clock
//! and spawns nothing: whoever has a transport moves the bytes, and time is an argument.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the type, and moving bytes through it |
//! | `startup.rs` | everything before the first ReadyForQuery |
//! | `request.rs` | what can be asked, and writing it into the send buffer |
//! | `keyword.rs` | what kind of statement a text begins with |
//! | `flight.rs` | one request in flight: what it waits for next |
//! | `answer.rs` | what a message means for the request at the front of the queue |
//! | `deadline.rs` | a moment, and the setting that it comes from |
//! | `time.rs` | deadlines, and what is not wanted any more |
//! | `statement.rs` | prepared statements and their names |
//! | `session.rs` | what the server says about the session |
//! | `event.rs` | what the caller is told |
//! | `buffer.rs` | the two buffers |
//!
//! This module is public so that tools can stand on it, and unstable: it may change in any release.

mod answer;
mod buffer;
mod deadline;
mod event;
mod flight;
mod keyword;
mod request;
mod session;
mod startup;
mod statement;
mod time;

use std::collections::VecDeque;

pub use self::deadline::Deadline;
pub use self::event::{CommandResult, CommandTag, Delivery, Event, Notification, Outcome, Ticket};
pub use self::request::Request;
pub use self::session::Session;
pub use self::startup::{Encryption, TransportAction};
pub use self::statement::Statement;
pub use crate::wire::backend::TransactionStatus;

use self::buffer::{RecvBuffer, SendBuffer};
use self::flight::InFlight;
use self::startup::Startup;
use self::statement::Statements;
use self::time::Clock;
use crate::config::PgConfig;
use crate::crypto;
use crate::error::{BufferOverflow, PgError, PgResult};
use crate::row::RowRef;
use crate::types::Oid;
use crate::wire::frame::Front;
use crate::wire::{Malformed, frontend};

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
/// 5. [`submit`](Engine::submit) queues a request at any time after [`Event::Ready`]. Every ticket
///    gets exactly one terminal event, also when the connection breaks. The result of a request
///    with [`Delivery::Collect`] is fetched with [`take`](Engine::take) after its terminal event.
/// 6. At [`deadline`](Engine::deadline) the caller calls
///    [`handle_timeout`](Engine::handle_timeout), and takes events again.
/// 7. If [`transport_action`](Engine::transport_action) returns something, the transport does it
///    before anything else.
#[derive(Debug)]
pub struct Engine {
    recv: RecvBuffer,
    send: SendBuffer,
    /// `None` from the first ReadyForQuery on.
    startup: Option<Startup>,
    /// Requests in the order of their answers: those that were sent before those that were not.
    in_flight: VecDeque<InFlight>,
    /// Parameters of the requests in flight: Rust type and declared type, for error messages. Each
    /// request has its count.
    declared: VecDeque<(&'static str, Oid)>,
    statements: Statements,
    session: Session,
    /// Events that stand in no received byte: what a message caused beyond itself, timeouts,
    /// failures after a break.
    pending: VecDeque<Event<'static>>,
    /// Results of collected requests, until they are taken.
    finished: Vec<(Ticket, PgResult<Outcome>)>,
    /// Where the cells of the row in the current event begin.
    cells: Vec<usize>,
    tickets: u64,
    clock: Clock,
    max_message_size: usize,
    /// The transport has ended; what is still in the receive buffer counts, then this does.
    end: Option<PgError>,
    /// Why this engine is broken for good.
    broken: Option<PgError>,
    /// A Terminate has been queued: nothing may follow it.
    terminated: bool,
}

/// The longest message that is taken before the first ReadyForQuery, in bytes. Real ones are below
/// 1 KiB; an error with a long text fits.
const MAX_STARTUP_MESSAGE: usize = 64 * 1024;

/// What one step over the receive buffer led to. Copy, so that the borrow of the buffer begins
/// after the loop.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// No whole message is there.
    Starved,
    /// A message was consumed; what it caused, if anything, is in `pending`.
    Consumed,
    /// The message of this size, just consumed, is a row for this ticket.
    Row(Ticket, usize),
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
            in_flight: VecDeque::new(),
            declared: VecDeque::new(),
            statements: Statements::new(u32::from_ne_bytes(connection)),
            session: Session::default(),
            pending: VecDeque::new(),
            finished: Vec::new(),
            cells: Vec::new(),
            tickets: 0,
            clock: Clock::new(config, deadline),
            max_message_size: config.get_max_message_size(),
            end: None,
            broken: None,
            terminated: false,
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

    /// The transport has written the first `count` bytes of [`send_pending`](Self::send_pending).
    #[inline]
    pub fn sent(&mut self, count: usize) {
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

    /// What the transport should wait for.
    ///
    /// Reading is wanted even while output is pending: a server that is blocked on writing to us
    /// reads nothing. It is not wanted while the receive buffer is full of events that nobody has
    /// taken.
    pub fn interest(&self) -> Interest {
        // During the TLS handshake the socket is the transport's: not a byte may be taken for ours.
        let alive = self.broken.is_none() && self.transport_action().is_none();
        let full = self.recv.is_full() && self.recv.has_whole_message();
        Interest { read: alive && !full, write: alive && !self.send_pending().is_empty() }
    }

    /// The next event that the received bytes mean, `None` when more bytes are needed first.
    ///
    /// # Errors
    ///
    /// What broke the connection, once every ticket has got its terminal event.
    #[inline]
    pub fn next_event(&mut self) -> PgResult<Option<Event<'_>>> {
        let (ticket, size) = loop {
            if !self.pending.is_empty() {
                return Ok(self.pending.pop_front());
            }
            if let Some(error) = &self.broken {
                return Err(error.clone());
            }
            match self.step() {
                Ok(Step::Row(ticket, size)) => break (ticket, size),
                Ok(Step::Consumed) => {}
                Ok(Step::Starved) => match self.end.take() {
                    Some(error) => self.break_with(error),
                    None => return Ok(None),
                },
                Err(error) => self.break_with(error),
            }
        };
        Ok(self.row_event(ticket, size))
    }

    /// The row that was consumed last, as an event that borrows it.
    fn row_event(&self, ticket: Ticket, size: usize) -> Option<Event<'_>> {
        let columns = self.in_flight.front()?.columns()?;
        let cells = self.recv.consumed(size)?.body.get(2..)?;
        Some(Event::Row { ticket, row: RowRef::new(columns, cells, &self.cells) })
    }

    /// Consumes one message.
    #[inline]
    fn step(&mut self) -> PgResult<Step> {
        if let Some(startup) = &mut self.startup {
            if startup.expects_encryption_byte() {
                return startup.encryption_byte(&mut self.recv, self.send.writer());
            }
        }
        let limit = match self.startup {
            // Nobody who has not logged in, or has not proved to be the server, needs more.
            Some(_) => MAX_STARTUP_MESSAGE.min(self.max_message_size),
            None => self.max_message_size,
        };
        let size = match self.recv.front(limit)? {
            Front::Whole(_, size) => size,
            Front::Incomplete { .. } => return Ok(Step::Starved),
            Front::TooLong { declared } if self.startup.is_some() => {
                return Err(PgError::Protocol(format!(
                    "a message of {declared} bytes was announced before the login was over; \
                     is this a PostgreSQL server?"
                )));
            }
            Front::TooLong { declared } => {
                return Err(PgError::BufferOverflow(Box::new(BufferOverflow {
                    size: declared,
                    limit: limit as u64,
                    setting: "max_message_size",
                })));
            }
        };
        self.recv.consume(size);
        if self.startup.is_some() { self.step_startup(size) } else { self.step_answer(size) }
    }

    /// The finished result of a request with [`Delivery::Collect`], once; `None` while there is
    /// none.
    ///
    /// # Errors
    ///
    /// Why the request failed.
    pub fn take(&mut self, ticket: Ticket) -> PgResult<Option<Outcome>> {
        match self.finished.iter().position(|(finished, _)| *finished == ticket) {
            Some(place) => self.finished.swap_remove(place).1.map(Some),
            None => Ok(None),
        }
    }

    /// How many requests are unanswered, those that nobody wants any more included.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
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

    /// Queues a Terminate message behind what was begun; requests of which nothing was sent fail as
    /// [`PgError::NotSent`], and no more are taken.
    pub fn terminate(&mut self) {
        if !self.is_ready() || self.terminated {
            return;
        }
        self.terminated = true;
        let mut index = 0;
        while index < self.in_flight.len() {
            match self.take_back(index) {
                Some(request) => self.fail(request, PgError::NotSent(Box::new(was_terminated()))),
                None => index += 1,
            }
        }
        frontend::terminate(self.send.writer());
    }

    /// Why nothing can be submitted, if so.
    fn refusal(&self) -> Option<PgError> {
        if let Some(error) = &self.broken {
            return Some(PgError::NotSent(Box::new(error.clone())));
        }
        if self.startup.is_some() {
            return Some(PgError::WouldBlock);
        }
        self.terminated.then(|| PgError::NotSent(Box::new(was_terminated())))
    }

    /// Broken for good: every ticket gets its terminal event, nothing is sent any more.
    ///
    /// The request at the front met the error, unless it had one of its own already. What stood
    /// behind it fails without it being said to be at fault: as not sent, if so, else with the
    /// error that broke the connection.
    #[cold]
    fn break_with(&mut self, error: PgError) {
        if self.broken.is_some() {
            return;
        }
        let sent = self.send.sent_up_to();
        let mut first = true;
        while let Some(mut request) = self.in_flight.pop_front() {
            let params = request.params;
            if !request.is_sent(sent) {
                let cause = PgError::NotSent(Box::new(error.clone()));
                self.tell_failure(request.ticket, request.delivery, cause);
            } else if first {
                let cause = request.error.take().unwrap_or_else(|| error.clone());
                self.fail(request, cause);
            } else {
                self.tell_failure(request.ticket, request.delivery, error.clone());
            }
            first = false;
            self.declared.drain(..params);
        }
        if self.startup.take().is_some() {
            // The password may have passed through.
            self.send.wipe_all();
            self.recv.wipe_read();
        }
        self.clock.started();
        self.clock.stop_holding();
        self.statements.clear();
        self.send.clear();
        self.broken = Some(error);
    }
}

#[cold]
fn was_terminated() -> PgError {
    PgError::ConnectionClosed("the connection was terminated from this side".to_owned())
}

impl From<Malformed> for PgError {
    fn from(malformed: Malformed) -> Self {
        Self::Protocol(malformed.to_string())
    }
}
