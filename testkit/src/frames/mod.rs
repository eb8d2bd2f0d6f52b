//! Protocol messages as bytes: builders for what a server says, decoders for what a client says.
//!
//! The builders ([`data_row`], [`ready_for_query`], ...) make one well-formed message each, named
//! after the message in the PostgreSQL documentation ("Message Formats"); [`raw`] makes the lies.
//! [`FrameBuffer`] cuts a byte stream into [`Frame`]s, and the `as_*` methods of [`Frame`] decode
//! the frontend's common ones strictly: a byte too few or too many is an error, because it is
//! the client under test that wrote them.
//!
//! Everything here is pure: no sockets, no clock. It shares no code with chopin-pg's own codec on
//! purpose, so that a test compares two independent readings of the documentation.
//!
//! ```
//! use testkit::frames::{self, Column, FrameBuffer};
//!
//! let answer = [
//!     frames::row_description(&[Column::int4("n")]),
//!     frames::data_row(&[Some(b"1"), None]),
//!     frames::command_complete("SELECT 1"),
//!     frames::ready_for_query(b'I'),
//! ]
//! .concat();
//!
//! let mut buffer = FrameBuffer::new();
//! buffer.push(&answer);
//! let mut tags = Vec::new();
//! while let Some(frame) = buffer.take_frame()? {
//!     tags.push(frame.tag);
//! }
//! assert_eq!(tags, b"TDCZ");
//! # Ok::<(), frames::Malformed>(())
//! ```

mod backend;
mod frontend;

use std::fmt;

pub use backend::*;
pub use frontend::{
    Bind, Execute, FirstPacket, Parse, SaslInitialResponse, Startup, Subject, cancel_request,
};

/// The longest message that [`FrameBuffer`] believes in: PostgreSQL's own limit, 1 GiB - 1.
pub const MAX_MESSAGE: usize = 0x3fff_ffff;

/// The longest startup packet a PostgreSQL server reads, length word included.
pub const MAX_FIRST_PACKET: usize = 10_000;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The client.
    Frontend,
    /// The server.
    Backend,
}

/// The documentation's name of the message with this tag, `None` if the protocol has no such tag.
///
/// The frontend's `p` is `PasswordMessage` here; which of its four kinds it is depends on what
/// the server asked for.
pub fn message_name(direction: Direction, tag: u8) -> Option<&'static str> {
    let name = match (direction, tag) {
        (_, b'c') => "CopyDone",
        (_, b'd') => "CopyData",
        (Direction::Frontend, b'B') => "Bind",
        (Direction::Frontend, b'C') => "Close",
        (Direction::Frontend, b'D') => "Describe",
        (Direction::Frontend, b'E') => "Execute",
        (Direction::Frontend, b'F') => "FunctionCall",
        (Direction::Frontend, b'H') => "Flush",
        (Direction::Frontend, b'P') => "Parse",
        (Direction::Frontend, b'Q') => "Query",
        (Direction::Frontend, b'S') => "Sync",
        (Direction::Frontend, b'X') => "Terminate",
        (Direction::Frontend, b'f') => "CopyFail",
        (Direction::Frontend, b'p') => "PasswordMessage",
        (Direction::Backend, b'1') => "ParseComplete",
        (Direction::Backend, b'2') => "BindComplete",
        (Direction::Backend, b'3') => "CloseComplete",
        (Direction::Backend, b'A') => "NotificationResponse",
        (Direction::Backend, b'C') => "CommandComplete",
        (Direction::Backend, b'D') => "DataRow",
        (Direction::Backend, b'E') => "ErrorResponse",
        (Direction::Backend, b'G') => "CopyInResponse",
        (Direction::Backend, b'H') => "CopyOutResponse",
        (Direction::Backend, b'I') => "EmptyQueryResponse",
        (Direction::Backend, b'K') => "BackendKeyData",
        (Direction::Backend, b'N') => "NoticeResponse",
        (Direction::Backend, b'R') => "Authentication",
        (Direction::Backend, b'S') => "ParameterStatus",
        (Direction::Backend, b'T') => "RowDescription",
        (Direction::Backend, b'V') => "FunctionCallResponse",
        (Direction::Backend, b'W') => "CopyBothResponse",
        (Direction::Backend, b'Z') => "ReadyForQuery",
        (Direction::Backend, b'n') => "NoData",
        (Direction::Backend, b's') => "PortalSuspended",
        (Direction::Backend, b't') => "ParameterDescription",
        (Direction::Backend, b'v') => "NegotiateProtocolVersion",
        _ => return None,
    };
    Some(name)
}

/// One tagged message, whoever sent it.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The message's first byte.
    pub tag: u8,
    /// What follows the length word.
    pub body: Vec<u8>,
}

impl Frame {
    /// The message as it was on the wire: tag, length, body.
    pub fn to_bytes(&self) -> Vec<u8> {
        message(self.tag, &self.body)
    }

    /// One line for people: the name, the tag and the beginning of the body.
    ///
    /// ```
    /// use testkit::frames::{Direction, Frame};
    ///
    /// let frame = Frame { tag: b'Q', body: b"SELECT 1\0".to_vec() };
    /// assert_eq!(frame.describe(Direction::Frontend), r#"Query ('Q') "SELECT 1\x00""#);
    /// ```
    pub fn describe(&self, direction: Direction) -> String {
        format!("{} \"{}\"", describe_tag(direction, self.tag), preview(&self.body))
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame('{}' \"{}\")", self.tag.escape_ascii(), preview(&self.body))
    }
}

/// `Parse ('P')`, or `a message of unknown tag ('?')`.
pub(crate) fn describe_tag(direction: Direction, tag: u8) -> String {
    let name = message_name(direction, tag).unwrap_or("a message of unknown tag");
    format!("{name} ('{}')", tag.escape_ascii())
}

/// The first bytes, escaped, with the number of those left out.
pub(crate) fn preview(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    match bytes.split_at_checked(SHOWN) {
        Some((head, rest)) if !rest.is_empty() => {
            format!("{}... and {} bytes more", head.escape_ascii(), rest.len())
        }
        _ => bytes.escape_ascii().to_string(),
    }
}

/// Bytes that are not the message they claim to be; says which message, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(String);

impl Malformed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// Cuts a byte stream into messages; bytes go in as they come, messages come out when complete.
///
/// Works for either direction. Its memory grows with the bytes pushed, never with a length
/// that was only declared.
#[derive(Clone, Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// How much of `bytes` has been taken out already.
    taken: usize,
}

impl FrameBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// What has been pushed and not been taken.
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// Takes one byte out, such as the answer to an SSLRequest.
    pub fn take_byte(&mut self) -> Option<u8> {
        let byte = self.rest().first().copied()?;
        self.taken += 1;
        Some(byte)
    }

    /// Takes everything out, message or not.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.rest().to_vec();
        self.taken = self.bytes.len();
        rest
    }

    /// Takes the next tagged message; `None` while it is not complete.
    ///
    /// # Errors
    /// A declared length below 4 or above [`MAX_MESSAGE`]. Nothing is taken then.
    pub fn take_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let Some((&tag, rest)) = self.rest().split_first() else {
            return Ok(None);
        };
        let Some(length) = declared_length(rest) else {
            return Ok(None);
        };
        let length = usize::try_from(length).ok().filter(|n| (4..=MAX_MESSAGE).contains(n));
        let Some(length) = length else {
            let header = preview(self.rest().get(..5).unwrap_or_default());
            return Err(Malformed::new(format!("no message starts with \"{header}\"")));
        };
        let Some(body) = rest.get(4..length) else {
            return Ok(None);
        };
        let frame = Frame { tag, body: body.to_vec() };
        self.taken += 1 + length;
        Ok(Some(frame))
    }

    /// Takes the bytes of the next untagged packet, as a client sends them before the session
    /// begins; `None` while it is not complete. [`FirstPacket::decode`] reads them.
    ///
    /// # Errors
    /// A declared length below 8 or above [`MAX_FIRST_PACKET`]. Nothing is taken then.
    pub fn take_first_packet(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        let Some(length) = declared_length(self.rest()) else {
            return Ok(None);
        };
        let Some(length) =
            usize::try_from(length).ok().filter(|n| (8..=MAX_FIRST_PACKET).contains(n))
        else {
            return Err(Malformed::new(format!(
                "startup packet: length {length} is not within 8 to {MAX_FIRST_PACKET}"
            )));
        };
        let Some(packet) = self.rest().get(..length) else {
            return Ok(None);
        };
        let packet = packet.to_vec();
        self.taken += length;
        Ok(Some(packet))
    }
}

/// The big-endian Int32 at the start, if its four bytes are here.
fn declared_length(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|word| i32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_whatever_the_pieces() {
        let stream = [message(b'Q', b"SELECT 1\0"), message(b'S', b"")].concat();
        for size in 1..=stream.len() {
            let mut buffer = FrameBuffer::new();
            let mut frames = Vec::new();
            for piece in stream.chunks(size) {
                buffer.push(piece);
                while let Some(frame) = buffer.take_frame().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames.len(), 2, "in pieces of {size}");
            assert_eq!(frames[0], Frame { tag: b'Q', body: b"SELECT 1\0".to_vec() });
            assert_eq!(frames.iter().flat_map(Frame::to_bytes).collect::<Vec<_>>(), stream);
            assert!(buffer.rest().is_empty());
        }
    }

    #[test]
    fn absurd_lengths_are_errors_and_reserve_nothing() {
        for length in [i32::MIN, -1, 0, 3, 0x4000_0000, i32::MAX] {
            let mut buffer = FrameBuffer::new();
            buffer.push(&raw(b'D', length, b""));
            let error = buffer.take_frame().unwrap_err();
            assert!(error.to_string().contains("no message starts with \"D"), "{error}");
        }
        let mut buffer = FrameBuffer::new();
        buffer.push(&raw(b'D', 0x3fff_ffff, b"few"));
        assert_eq!(buffer.take_frame(), Ok(None));
        assert!(buffer.bytes.capacity() < 1024);
    }

    #[test]
    fn first_packets_keep_to_the_servers_limits() {
        for length in [-1, 0, 7, 10_001] {
            let mut buffer = FrameBuffer::new();
            buffer.push(&i32::to_be_bytes(length));
            let error = buffer.take_first_packet().unwrap_err().to_string();
            assert!(error.contains(&format!("length {length} is not within 8")), "{error}");
        }
        let mut buffer = FrameBuffer::new();
        buffer.push(&[0, 0, 0, 8, 4, 210, 22]);
        assert_eq!(buffer.take_first_packet(), Ok(None));
        buffer.push(&[47, b'x']);
        assert_eq!(buffer.take_first_packet(), Ok(Some(vec![0, 0, 0, 8, 4, 210, 22, 47])));
        assert_eq!(buffer.take_rest(), b"x");
        assert!(buffer.rest().is_empty());
    }

    #[test]
    fn long_bodies_are_shown_short() {
        let frame = Frame { tag: 0xff, body: vec![b'a'; 100] };
        let text = frame.describe(Direction::Backend);
        assert!(text.starts_with("a message of unknown tag ('\\xff') \"aaa"), "{text}");
        assert!(text.ends_with("aaa... and 20 bytes more\""), "{text}");
    }
}
