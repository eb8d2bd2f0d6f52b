//! One connection of the fake server, from the script's side.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{CancelRequest, FakeError};
use crate::acceptor::LIMIT;
use crate::frames::{
    self, Direction, FirstPacket, Frame, FrameBuffer, Startup, describe_tag, preview,
};
use crate::socket::{Stream, is_timeout, read_some};

/// What a server of PostgreSQL 15 reports at login besides `application_name` and
/// `session_authorization`, which [`FakeConn::welcome`] takes from the StartupMessage.
pub const SERVER_PARAMETERS: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("integer_datetimes", "on"),
    ("IntervalStyle", "postgres"),
    ("is_superuser", "on"),
    ("server_encoding", "UTF8"),
    ("server_version", "15.13 (fake)"),
    ("standard_conforming_strings", "on"),
    ("TimeZone", "UTC"),
];

/// How many messages a failure's text looks back.
const LOOK_BACK: usize = 12;

/// A client's connection, as the script sees it.
///
/// Each call that waits for the client gives up after 20 seconds, or after what
/// [`set_limit`](Self::set_limit) says. Once the script has hung up, every further call fails.
#[derive(Debug)]
pub struct FakeConn {
    index: usize,
    /// `None` after the script has hung up.
    stream: Option<Arc<Stream>>,
    received: FrameBuffer,
    limit: Duration,
    startup: Option<Startup>,
    encryption_requests: usize,
    /// What a CancelRequest named that came instead of a StartupMessage.
    cancel_request: Option<CancelRequest>,
    /// Descriptions of the last messages, oldest first.
    last: VecDeque<String>,
}

impl FakeConn {
    pub(super) fn new(index: usize, stream: Arc<Stream>) -> Self {
        Self {
            index,
            stream: Some(stream),
            received: FrameBuffer::new(),
            limit: LIMIT,
            startup: None,
            encryption_requests: 0,
            cancel_request: None,
            last: VecDeque::new(),
        }
    }

    /// The connection's number, counted from 0 in the order of acceptance.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Changes how long each later wait for the client may take.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The process id that [`welcome`](Self::welcome) reports: another one for each connection.
    pub fn process_id(&self) -> i32 {
        4242 + i32::try_from(self.index).unwrap_or(0)
    }

    /// The cancel key that [`welcome`](Self::welcome) reports: 4 bytes, or 32 for a client that
    /// speaks protocol 3.2; another one for each connection.
    pub fn secret_key(&self) -> Vec<u8> {
        let long = self.startup.as_ref().is_some_and(|startup| startup.version >= (3, 2));
        let word = self.process_id().wrapping_mul(0x0101_4321).to_be_bytes();
        word.repeat(if long { 8 } else { 1 })
    }

    /// What a CancelRequest named that came instead of a StartupMessage.
    pub(super) fn cancel_request(&self) -> Option<CancelRequest> {
        self.cancel_request.clone()
    }

    /// How many SSLRequests and GSSENCRequests [`startup`](Self::startup) has answered with `N`.
    pub fn encryption_requests(&self) -> usize {
        self.encryption_requests
    }

    // Waiting for the client.

    /// Waits for an untagged packet, whatever it is; answers nothing.
    ///
    /// # Errors
    /// The client hung up, took too long, or sent something malformed.
    pub fn first_packet(&mut self) -> Result<FirstPacket, FakeError> {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(packet) = self.received.take_first_packet()? {
                let first = FirstPacket::decode(&packet)?;
                self.remember(format!("F {} \"{}\"", first.name(), preview(&packet)));
                return Ok(first);
            }
            self.fill(deadline, "a StartupMessage")?;
        }
    }

    /// Waits for the StartupMessage, and answers requests for encryption before it with `N`.
    ///
    /// A CancelRequest instead ends the script with an error that is none for the server: as a real
    /// one it hangs up without a word, and keeps the request for `FakeServer::cancel_requests`. A
    /// script that wants to see it takes the [`first_packet`](Self::first_packet).
    ///
    /// # Errors
    /// A CancelRequest came instead, the client hung up, took too long, or sent something
    /// malformed.
    pub fn startup(&mut self) -> Result<Startup, FakeError> {
        loop {
            match self.first_packet()? {
                FirstPacket::SslRequest | FirstPacket::GssEncRequest => {
                    self.encryption_requests += 1;
                    self.send(b"N")?;
                }
                FirstPacket::Startup(startup) => {
                    self.startup = Some(startup.clone());
                    return Ok(startup);
                }
                FirstPacket::CancelRequest { process_id, secret_key } => {
                    self.cancel_request = Some((process_id, secret_key));
                    return Err("expected a StartupMessage, the client sent a CancelRequest".into());
                }
            }
        }
    }

    /// A whole login without a password: [`startup`](Self::startup), then AuthenticationOk and
    /// what [`welcome`](Self::welcome) says, in one write.
    ///
    /// # Errors
    /// As [`startup`](Self::startup) and [`send`](Self::send).
    pub fn login(&mut self) -> Result<Startup, FakeError> {
        let startup = self.startup()?;
        let bytes = [frames::authentication_ok(), self.welcome_messages()].concat();
        self.send(&bytes)?;
        Ok(startup)
    }

    /// What a server says after AuthenticationOk, in one write: the [`SERVER_PARAMETERS`],
    /// BackendKeyData, ReadyForQuery.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn welcome(&mut self) -> Result<(), FakeError> {
        let bytes = self.welcome_messages();
        self.send(&bytes)
    }

    fn welcome_messages(&self) -> Vec<u8> {
        let param = |name| self.startup.as_ref().and_then(|startup| startup.param(name));
        let own = [
            ("application_name", param("application_name").unwrap_or_default()),
            ("session_authorization", param("user").unwrap_or_default()),
        ];
        let mut bytes = Vec::new();
        for (name, value) in own.iter().chain(SERVER_PARAMETERS) {
            bytes.extend(frames::parameter_status(name, value));
        }
        bytes.extend(frames::backend_key_data(self.process_id(), &self.secret_key()));
        bytes.extend(frames::ready_for_query(b'I'));
        bytes
    }

    /// Waits for the next message, whatever it is.
    ///
    /// # Errors
    /// The client hung up, took too long, or sent something malformed.
    pub fn receive(&mut self) -> Result<Frame, FakeError> {
        self.receive_for("a message")
    }

    /// Waits for the next message, which must have this tag.
    ///
    /// # Errors
    /// Another message came, or as [`receive`](Self::receive).
    pub fn expect(&mut self, tag: u8) -> Result<Frame, FakeError> {
        let wanted = describe_tag(Direction::Frontend, tag);
        let frame = self.receive_for(&wanted)?;
        if frame.tag == tag {
            return Ok(frame);
        }
        let came = frame.describe(Direction::Frontend);
        Err(format!("expected {wanted}, the client sent {came}").into())
    }

    /// Waits for messages with exactly these tags, as in `expect_all(b"PBDES")`.
    ///
    /// # Errors
    /// As [`expect`](Self::expect).
    pub fn expect_all(&mut self, tags: &[u8]) -> Result<Vec<Frame>, FakeError> {
        tags.iter().map(|tag| self.expect(*tag)).collect()
    }

    /// Waits for a simple Query with exactly this text.
    ///
    /// # Errors
    /// Another message or another text came, or as [`receive`](Self::receive).
    pub fn expect_query(&mut self, sql: &str) -> Result<(), FakeError> {
        let came = self.expect(b'Q')?.as_query()?;
        if came == sql {
            return Ok(());
        }
        Err(format!("expected the query {sql:?}, the client sent {came:?}").into())
    }

    /// Waits for the client to hang up without another word, a Terminate excepted, which is
    /// answered as in [`expect_terminate`](Self::expect_terminate).
    ///
    /// # Errors
    /// Something else came, or the client did not hang up in time.
    pub fn expect_eof(&mut self) -> Result<(), FakeError> {
        match self.receive_or_eof("the end of the connection")? {
            None => Ok(()),
            Some(frame) if frame.tag == b'X' => self.answer_terminate(),
            Some(frame) => {
                let came = frame.describe(Direction::Frontend);
                Err(format!("expected the end of the connection, the client sent {came}").into())
            }
        }
    }

    /// Waits for a Terminate, says the end of file as a server does that exits, and waits for the
    /// client to hang up without another word.
    ///
    /// # Errors
    /// Something else came, or the client did not hang up in time.
    pub fn expect_terminate(&mut self) -> Result<(), FakeError> {
        self.expect(b'X')?;
        self.answer_terminate()
    }

    /// Reads and forgets what the client sends until it hangs up.
    ///
    /// # Errors
    /// The client did not hang up in time.
    pub fn drain(&mut self) -> Result<(), FakeError> {
        let deadline = Instant::now() + self.limit;
        while self.fill_or_eof(deadline, "the end of the connection")? {
            self.received.take_rest();
        }
        Ok(())
    }

    // Speaking to the client.

    /// Sends bytes as they are, in one write if the socket takes them.
    ///
    /// # Errors
    /// The client has gone, or did not read in time.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), FakeError> {
        self.remember_sent(bytes);
        self.write(bytes)
    }

    /// Sends several messages in one write.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_frames(&mut self, frames: &[Vec<u8>]) -> Result<(), FakeError> {
        self.send(&frames.concat())
    }

    /// Sends ReadyForQuery with this status: `I`, `T` or `E`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn ready(&mut self, status: u8) -> Result<(), FakeError> {
        self.send(&frames::ready_for_query(status))
    }

    /// Sends one byte at a time with a pause after each.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn drip(&mut self, bytes: &[u8], pause: Duration) -> Result<(), FakeError> {
        self.remember_sent(bytes);
        for byte in bytes {
            self.write(std::slice::from_ref(byte))?;
            thread::sleep(pause);
        }
        Ok(())
    }

    // Going away.

    /// Ends the connection as a server process that exits: everything sent arrives, then the end
    /// of file; nothing is read any more.
    ///
    /// What the client has sent already is read and forgotten, because closing a socket with
    /// unread bytes sends a RST instead.
    ///
    /// # Errors
    /// The script has hung up before.
    pub fn hang_up(&mut self) -> Result<(), FakeError> {
        Ok(self.take_stream()?.hang_up()?)
    }

    /// Ends the connection with a RST. What has been sent and not been read may be lost.
    ///
    /// # Errors
    /// The client came through the unix socket, which knows no RST, or the script has hung up
    /// before.
    pub fn reset(&mut self) -> Result<(), FakeError> {
        let stream = self.take_stream()?;
        if stream.reset_on_close()? {
            return Ok(());
        }
        Err("a connection through a unix socket cannot be reset".into())
    }

    /// Says that nothing more will come, while the client may go on sending.
    ///
    /// # Errors
    /// The script has hung up before.
    pub fn shutdown_write(&mut self) -> Result<(), FakeError> {
        self.stream()?.shutdown(Shutdown::Write);
        self.remember("B end of file".to_owned());
        Ok(())
    }

    // Inside.

    fn take_stream(&mut self) -> Result<Arc<Stream>, FakeError> {
        self.stream.take().ok_or_else(hung_up)
    }

    fn stream(&self) -> Result<&Stream, FakeError> {
        self.stream.as_deref().ok_or_else(hung_up)
    }

    fn receive_for(&mut self, wanted: &str) -> Result<Frame, FakeError> {
        self.receive_or_eof(wanted)?
            .ok_or_else(|| format!("expected {wanted}, the client hung up").into())
    }

    fn receive_or_eof(&mut self, wanted: &str) -> Result<Option<Frame>, FakeError> {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(frame) = self.received.take_frame()? {
                self.remember(format!("F {}", frame.describe(Direction::Frontend)));
                return Ok(Some(frame));
            }
            if !self.fill_or_eof(deadline, wanted)? {
                let rest = self.received.rest();
                if rest.is_empty() {
                    return Ok(None);
                }
                let cut = preview(rest);
                return Err(format!("the client hung up within a message: \"{cut}\"").into());
            }
        }
    }

    fn answer_terminate(&mut self) -> Result<(), FakeError> {
        self.shutdown_write()?;
        match self.receive_or_eof("the end of the connection")? {
            None => Ok(()),
            Some(frame) => {
                let came = frame.describe(Direction::Frontend);
                Err(format!("after its Terminate the client sent {came}").into())
            }
        }
    }

    fn fill(&mut self, deadline: Instant, wanted: &str) -> Result<(), FakeError> {
        if self.fill_or_eof(deadline, wanted)? {
            return Ok(());
        }
        Err(format!("expected {wanted}, the client hung up").into())
    }

    /// Reads once; `false` at the end of file. A reset counts as one: a client that closes with
    /// unread bytes sends it without wanting to.
    fn fill_or_eof(&mut self, deadline: Instant, wanted: &str) -> Result<bool, FakeError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let too_late = format!("waited {:?} for {wanted} from the client, in vain", self.limit);
        if left.is_zero() {
            return Err(too_late.into());
        }
        let stream = self.stream()?;
        stream.set_read_timeout(left)?;
        let mut buffer = [0; 64 * 1024];
        match read_some(stream, &mut buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.received.push(buffer.get(..count).unwrap_or_default());
                Ok(true)
            }
            Err(error) if is_timeout(&error) => Err(too_late.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FakeError> {
        let deadline = Instant::now() + self.limit;
        let mut stream = self.stream()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let written = if left.is_zero() {
                Err(io::ErrorKind::TimedOut.into())
            } else {
                stream.set_write_timeout(left)?;
                stream.write(rest)
            };
            match written {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let why = if is_timeout(&error) {
                        format!("the client did not read for {:?}", self.limit)
                    } else {
                        error.to_string()
                    };
                    let (rest, all) = (rest.len(), bytes.len());
                    return Err(format!("cannot send the last {rest} of {all} bytes: {why}").into());
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, line: String) {
        if self.last.len() == LOOK_BACK {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn remember_sent(&mut self, bytes: &[u8]) {
        let mut buffer = FrameBuffer::new();
        buffer.push(bytes);
        while let Ok(Some(frame)) = buffer.take_frame() {
            self.remember(format!("B {}", frame.describe(Direction::Backend)));
        }
        if !buffer.rest().is_empty() {
            self.remember(format!("B bytes \"{}\"", preview(buffer.rest())));
        }
    }

    /// The end of the conversation, as an appendix to a failure.
    pub(super) fn last_messages(&self) -> String {
        if self.last.is_empty() {
            return "\n  (nothing was said before)".to_owned();
        }
        let lines: String = self.last.iter().map(|line| format!("\n    {line}")).collect();
        format!("\n  the last messages before (F client, B script):{lines}")
    }
}

fn hung_up() -> FakeError {
    "the script has hung up already".into()
}
