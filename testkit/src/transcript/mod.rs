//! Transcripts: what client and server said to each other, message by message, as a text file
//! that people can read and from which the exact bytes come back.
//!
//! A [`Tape`] makes one out of the two byte streams (a [`crate::proxy::Recorder`] feeds it from
//! real connections; a test may feed it from memory). [`Transcript`] saves and loads it. One line
//! is one message:
//!
//! ```text
//! F - StartupMessage 24 "\0\x03\0\0user\0me\0\0"
//! B R AuthenticationOk 8 "\0\0\0\0"
//! B Z ReadyForQuery 5 "I"
//! F Q Query 13 "SELECT 1\0"
//! ```
//!
//! that is: who spoke (`F`rontend or `B`ackend), the tag (`-` if the message has none), the name
//! for the reader, the value of the length word, and the body, as `"text"` with the escapes
//! `\\ \" \0 \n \r \t \xHH` or as `x"hexadecimal"` when most of it is not text. What could not be
//! split into messages (the one-byte answer to an SSLRequest, everything after TLS began, a
//! message cut off by the end) has the names `EncryptionAnswer` and `Fragment`, the tag `-`, and
//! its number of bytes as the length. Empty lines and lines that start with `#` mean nothing. A
//! line ends with `masked` when a secret was taken out of it.
//!
//! ```
//! use testkit::frames;
//! use testkit::transcript::{Direction, Secrets, Tape, Transcript};
//!
//! let mut tape = Tape::new(Secrets::Keep);
//! tape.feed(Direction::Frontend, b"\0\0\0\x11\0\x03\0\0user\0me\0\0");
//! tape.feed(Direction::Backend, &frames::authentication_ok());
//! tape.feed(Direction::Backend, &frames::ready_for_query(b'I'));
//! let transcript = tape.finish();
//!
//! let text = transcript.to_string();
//! assert!(text.ends_with("B Z ReadyForQuery 5 \"I\"\n"));
//! let again: Transcript = text.parse()?;
//! assert_eq!(again, transcript);
//! # Ok::<(), testkit::transcript::TranscriptError>(())
//! ```

mod text;

use std::path::Path;
use std::{fmt, fs, io};

pub use crate::frames::Direction;
use crate::frames::{FirstPacket, Frame, FrameBuffer, message_name};

/// Whether passwords and keys stay in a transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// Every byte is kept: the transcript is exact.
    Keep,
    /// Passwords, SASL messages, MD5 salts and cancel keys are replaced by stars. The messages stay
    /// well-formed, but they are no longer the ones that were sent. SQL texts are kept as they
    /// are, so a password in an `ALTER ROLE` stays.
    Mask,
}

/// How an entry's bytes are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A tag, a length word and a body.
    Tagged,
    /// A length word and a body, as in a StartupMessage.
    Untagged,
    /// Just bytes.
    Bare,
}

/// One message, or a piece of the stream that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    direction: Direction,
    shape: Shape,
    name: &'static str,
    bytes: Vec<u8>,
    masked: bool,
}

impl Entry {
    /// Who said it.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// How the bytes are framed.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The documentation's name of the message, `Unknown` if the protocol has no such tag,
    /// `EncryptionAnswer` or `Fragment` if it is no message.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Everything as it was on the wire, tag and length included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What stands behind tag and length.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.header_len()..).unwrap_or_default()
    }

    /// Whether a secret was replaced by stars.
    pub fn is_masked(&self) -> bool {
        self.masked
    }

    fn header_len(&self) -> usize {
        match self.shape {
            Shape::Tagged => 5,
            Shape::Untagged => 4,
            Shape::Bare => 0,
        }
    }
}

/// A session's messages in the order in which they passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    entries: Vec<Entry>,
}

impl Transcript {
    /// The messages.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether every byte is the one that was sent: nothing was masked.
    pub fn is_exact(&self) -> bool {
        !self.entries.iter().any(Entry::is_masked)
    }

    /// All bytes of one direction, to be played back to a client or server in memory.
    pub fn bytes(&self, direction: Direction) -> Vec<u8> {
        let said = self.entries.iter().filter(|entry| entry.direction == direction);
        said.flat_map(|entry| entry.bytes()).copied().collect()
    }

    /// The names of one direction's messages, for a short assertion about a session's course.
    pub fn names(&self, direction: Direction) -> Vec<&'static str> {
        let said = self.entries.iter().filter(|entry| entry.direction == direction);
        said.map(Entry::name).collect()
    }

    /// Writes the text form to a file.
    ///
    /// # Errors
    /// As [`fs::write`].
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        fs::write(path, self.to_string())
    }

    /// Reads a file that [`save`](Self::save) or a person wrote.
    ///
    /// # Errors
    /// The file cannot be read, or the first line that is not as the module's documentation
    /// says; the text names the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TranscriptError> {
        let path = path.as_ref();
        let in_file = |what: String| TranscriptError(format!("{}: {what}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| in_file(error.to_string()))?;
        text.parse().map_err(|error: TranscriptError| in_file(error.0))
    }
}

/// Why a text is no transcript: the line's number and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscriptError(String);

impl fmt::Display for TranscriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TranscriptError {}

/// Turns the two byte streams of a session into a [`Transcript`], whatever pieces they come in.
#[derive(Debug)]
pub struct Tape {
    secrets: Secrets,
    frontend: FrameBuffer,
    backend: FrameBuffer,
    /// The StartupMessage (or CancelRequest) has not come yet: the frontend's packets have no tag.
    before_startup: bool,
    /// An encryption request is unanswered: the backend's next byte is no message.
    answer_due: bool,
    /// Encrypted, or broken beyond splitting: what comes is kept in the pieces it comes in.
    opaque: bool,
    /// The last Authentication code, which says what the frontend's `p` is.
    authentication: i32,
    entries: Vec<Entry>,
}

impl Tape {
    /// An empty tape, at the very start of a connection.
    pub fn new(secrets: Secrets) -> Self {
        Self {
            secrets,
            frontend: FrameBuffer::new(),
            backend: FrameBuffer::new(),
            before_startup: true,
            answer_due: false,
            opaque: false,
            authentication: 0,
            entries: Vec::new(),
        }
    }

    /// Adds bytes of one direction; complete messages become entries at once, so feed them before
    /// passing them on and the order is the order of cause and effect.
    pub fn feed(&mut self, direction: Direction, bytes: &[u8]) {
        self.buffer(direction).push(bytes);
        while self.take_entry(direction) {}
    }

    /// The transcript; what is left of messages that never became complete is a `Fragment`.
    pub fn finish(mut self) -> Transcript {
        for direction in [Direction::Frontend, Direction::Backend] {
            self.take_fragment(direction);
        }
        Transcript { entries: self.entries }
    }

    fn buffer(&mut self, direction: Direction) -> &mut FrameBuffer {
        match direction {
            Direction::Frontend => &mut self.frontend,
            Direction::Backend => &mut self.backend,
        }
    }

    /// Moves one entry from the buffer to the tape; `false` when there is none.
    fn take_entry(&mut self, direction: Direction) -> bool {
        if self.opaque {
            return self.take_fragment(direction);
        }
        if direction == Direction::Backend && self.answer_due {
            return self.take_encryption_answer();
        }
        if direction == Direction::Frontend && self.before_startup {
            return match self.frontend.take_first_packet() {
                Ok(Some(packet)) => self.add_first_packet(packet),
                Ok(None) => false,
                Err(_) => self.give_up(direction),
            };
        }
        match self.buffer(direction).take_frame() {
            Ok(Some(frame)) => self.add_frame(direction, &frame),
            Ok(None) => false,
            Err(_) => self.give_up(direction),
        }
    }

    /// From here on nothing can be split any more.
    fn give_up(&mut self, direction: Direction) -> bool {
        self.opaque = true;
        self.take_fragment(direction)
    }

    fn take_fragment(&mut self, direction: Direction) -> bool {
        let bytes = self.buffer(direction).take_rest();
        !bytes.is_empty() && self.add(direction, Shape::Bare, "Fragment", bytes)
    }

    fn take_encryption_answer(&mut self) -> bool {
        let Some(&answer) = self.backend.rest().first() else {
            return false;
        };
        self.answer_due = false;
        // Servers older than the request say ErrorResponse, a message like any other.
        if answer == b'E' {
            return true;
        }
        self.backend.take_byte();
        self.opaque = answer != b'N';
        self.add(Direction::Backend, Shape::Bare, "EncryptionAnswer", vec![answer])
    }

    fn add_first_packet(&mut self, packet: Vec<u8>) -> bool {
        let name = match FirstPacket::decode(&packet) {
            Ok(first) => {
                let is_request =
                    matches!(first, FirstPacket::SslRequest | FirstPacket::GssEncRequest);
                self.answer_due = is_request;
                self.before_startup = is_request;
                first.name()
            }
            Err(_) => {
                self.before_startup = false;
                "Unknown"
            }
        };
        self.add(Direction::Frontend, Shape::Untagged, name, packet)
    }

    fn add_frame(&mut self, direction: Direction, frame: &Frame) -> bool {
        let name = match (direction, frame.tag) {
            (Direction::Backend, b'R') => {
                self.authentication =
                    frame.body.first_chunk().map_or(-1, |code| i32::from_be_bytes(*code));
                authentication_name(self.authentication)
            }
            (Direction::Frontend, b'p') => match self.authentication {
                7..=9 => "GSSResponse",
                10 => "SASLInitialResponse",
                11 => "SASLResponse",
                _ => "PasswordMessage",
            },
            (_, tag) => message_name(direction, tag).unwrap_or("Unknown"),
        };
        self.add(direction, Shape::Tagged, name, frame.to_bytes())
    }

    /// Always `true`: an entry was added.
    fn add(
        &mut self,
        direction: Direction,
        shape: Shape,
        name: &'static str,
        bytes: Vec<u8>,
    ) -> bool {
        let mut entry = Entry { direction, shape, name, bytes, masked: false };
        if self.secrets == Secrets::Mask {
            mask(&mut entry);
        }
        self.entries.push(entry);
        true
    }
}

fn authentication_name(code: i32) -> &'static str {
    match code {
        0 => "AuthenticationOk",
        2 => "AuthenticationKerberosV5",
        3 => "AuthenticationCleartextPassword",
        5 => "AuthenticationMD5Password",
        6 => "AuthenticationSCMCredential",
        7 => "AuthenticationGSS",
        8 => "AuthenticationGSSContinue",
        9 => "AuthenticationSSPI",
        10 => "AuthenticationSASL",
        11 => "AuthenticationSASLContinue",
        12 => "AuthenticationSASLFinal",
        _ => "Authentication",
    }
}

/// Puts stars in the place of a secret, with true lengths around them. The number of stars says
/// nothing about the secret.
fn mask(entry: &mut Entry) {
    const STARS: &[u8] = b"****";
    let body = entry.body();
    // How much of the body stays in front of the stars.
    let kept = match entry.name {
        "PasswordMessage" | "SASLResponse" | "GSSResponse" => 0,
        "SASLInitialResponse" => body.iter().position(|byte| *byte == 0).map_or(0, |nul| nul + 1),
        "AuthenticationMD5Password"
        | "AuthenticationGSSContinue"
        | "AuthenticationSASLContinue"
        | "AuthenticationSASLFinal"
        | "BackendKeyData" => 4,
        "CancelRequest" => 8,
        _ => return,
    };
    let mut body = body.get(..kept).unwrap_or(body).to_vec();
    match entry.name {
        "PasswordMessage" => body.extend_from_slice(b"****\0"),
        "SASLInitialResponse" => body.extend_from_slice(b"\0\0\0\x04****"),
        _ => body.extend_from_slice(STARS),
    }
    entry.bytes = text::framed(entry.shape, entry.bytes.first().copied().unwrap_or(0), &body);
    entry.masked = true;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames;

    const STARTUP: &[u8] = b"\0\0\0\x11\0\x03\0\0user\0me\0\0";
    const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

    /// A whole session: who said what, in order.
    fn session() -> Vec<(Direction, Vec<u8>)> {
        use Direction::{Backend, Frontend};
        let initial = b"SCRAM-SHA-256\0\0\0\0\x11n,,n=,r=nonce0123";
        vec![
            (Frontend, SSL_REQUEST.to_vec()),
            (Backend, b"N".to_vec()),
            (Frontend, STARTUP.to_vec()),
            (Backend, frames::authentication_sasl(&["SCRAM-SHA-256"])),
            (Frontend, frames::message(b'p', initial)),
            (Backend, frames::authentication_sasl_continue(b"r=nonce0123abc,s=c2FsdA==,i=4096")),
            (Frontend, frames::message(b'p', b"c=biws,r=nonce0123abc,p=cHJvb2Y=")),
            (Backend, frames::authentication_sasl_final(b"v=c2lnbmF0dXJl")),
            (Backend, frames::authentication_ok()),
            (Backend, frames::backend_key_data(7, b"keys")),
            (Backend, frames::ready_for_query(b'I')),
            (Frontend, frames::message(b'Q', b"SELECT 'a \"b\" \\ \xc3\xa9'\0")),
            (Backend, frames::row_description(&[frames::Column::text("?column?")])),
            (Backend, frames::data_row(&[Some(b"tab\tand\nline")])),
            (Backend, frames::command_complete("SELECT 1")),
            (Backend, frames::ready_for_query(b'I')),
            (Backend, frames::message(b'?', b"\x00\xff\xfe")),
            (Frontend, frames::message(b'X', b"")),
        ]
    }

    fn record(secrets: Secrets, piece: usize) -> Transcript {
        let mut tape = Tape::new(secrets);
        for (direction, bytes) in session() {
            bytes.chunks(piece).for_each(|piece| tape.feed(direction, piece));
        }
        tape.finish()
    }

    #[test]
    fn messages_are_named_in_order() {
        let names: Vec<_> = record(Secrets::Keep, 1).entries().iter().map(Entry::name).collect();
        let expected = [
            "SSLRequest",
            "EncryptionAnswer",
            "StartupMessage",
            "AuthenticationSASL",
            "SASLInitialResponse",
            "AuthenticationSASLContinue",
            "SASLResponse",
            "AuthenticationSASLFinal",
            "AuthenticationOk",
            "BackendKeyData",
            "ReadyForQuery",
            "Query",
            "RowDescription",
            "DataRow",
            "CommandComplete",
            "ReadyForQuery",
            "Unknown",
            "Terminate",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn bytes_are_exact_whatever_the_pieces() {
        for piece in [1, 2, 3, 7, 1000] {
            let transcript = record(Secrets::Keep, piece);
            assert!(transcript.is_exact());
            let said: Vec<_> = transcript
                .entries()
                .iter()
                .map(|entry| (entry.direction(), entry.bytes().to_vec()))
                .collect();
            assert_eq!(said, session(), "in pieces of {piece}");
            let again: Transcript = transcript.to_string().parse().unwrap();
            assert_eq!(again, transcript);
        }
    }

    #[test]
    fn h37_masked_transcripts_hold_no_secret() {
        let transcript = record(Secrets::Mask, 1000);
        assert!(!transcript.is_exact());
        let text = transcript.to_string();
        for secret in ["nonce0123", "c2FsdA", "cHJvb2Y", "c2lnbmF0dXJl", "keys"] {
            assert!(!text.contains(secret), "{secret} is in\n{text}");
        }
        assert!(text.contains("SCRAM-SHA-256"), "the mechanism is no secret");
        let again: Transcript = text.parse().unwrap();
        assert_eq!(again, transcript);
        // Still messages: cut along their lengths, they give the same names.
        let mut tape = Tape::new(Secrets::Keep);
        for entry in transcript.entries() {
            tape.feed(entry.direction(), entry.bytes());
        }
        assert_eq!(tape.finish().names(Direction::Backend), transcript.names(Direction::Backend));
        let initial = &transcript.entries()[4];
        let frame = Frame { tag: b'p', body: initial.body().to_vec() };
        assert_eq!(frame.as_sasl_initial_response().unwrap().data.unwrap(), b"****");
    }

    #[test]
    fn h37_plain_passwords_md5_salts_and_cancel_keys_are_masked() {
        let mut tape = Tape::new(Secrets::Mask);
        tape.feed(Direction::Frontend, STARTUP);
        tape.feed(Direction::Backend, &frames::authentication_md5_password(*b"SALT"));
        tape.feed(Direction::Frontend, &frames::message(b'p', b"md5secret\0"));
        tape.feed(Direction::Backend, &frames::authentication_cleartext_password());
        tape.feed(Direction::Frontend, &frames::message(b'p', b"secret\0"));
        let text = tape.finish().to_string();
        assert!(!text.contains("secret") && !text.contains("SALT"), "{text}");
        assert!(text.ends_with("F p PasswordMessage 9 \"****\\0\" masked\n"), "{text}");

        let mut tape = Tape::new(Secrets::Mask);
        tape.feed(Direction::Frontend, b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07keys");
        let masked = tape.finish().bytes(Direction::Frontend);
        assert_eq!(masked, b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07****");
    }

    #[test]
    fn what_cannot_be_split_is_kept_as_fragments() {
        let mut tape = Tape::new(Secrets::Keep);
        tape.feed(Direction::Frontend, SSL_REQUEST);
        tape.feed(Direction::Backend, b"S");
        // Whatever encrypted bytes look like, they are no messages.
        tape.feed(Direction::Frontend, STARTUP);
        tape.feed(Direction::Backend, &frames::ready_for_query(b'I'));
        let transcript = tape.finish();
        assert_eq!(transcript.names(Direction::Frontend), ["SSLRequest", "Fragment"]);
        assert_eq!(transcript.names(Direction::Backend), ["EncryptionAnswer", "Fragment"]);
        assert_eq!(transcript.bytes(Direction::Backend), b"SZ\0\0\0\x05I");
        assert_eq!(transcript.to_string().parse(), Ok(transcript));
    }

    #[test]
    fn a_message_cut_off_or_with_an_impossible_length_is_a_fragment() {
        let mut tape = Tape::new(Secrets::Keep);
        tape.feed(Direction::Frontend, STARTUP);
        tape.feed(Direction::Backend, &frames::raw(b'D', 100, b"too short"));
        let transcript = tape.finish();
        assert_eq!(transcript.names(Direction::Backend), ["Fragment"]);

        let mut tape = Tape::new(Secrets::Keep);
        tape.feed(Direction::Frontend, STARTUP);
        tape.feed(Direction::Backend, &frames::raw(b'D', 2, b"rest"));
        tape.feed(Direction::Backend, &frames::ready_for_query(b'I'));
        let transcript = tape.finish();
        assert_eq!(transcript.names(Direction::Backend), ["Fragment", "Fragment"]);
        assert_eq!(transcript.to_string().parse(), Ok(transcript));
    }

    #[test]
    fn an_old_servers_error_answers_an_encryption_request() {
        let mut tape = Tape::new(Secrets::Keep);
        tape.feed(Direction::Frontend, SSL_REQUEST);
        tape.feed(Direction::Backend, &frames::error_response(&[(b'M', "what?")]));
        assert_eq!(tape.finish().names(Direction::Backend), ["ErrorResponse"]);
    }

    #[test]
    fn files_come_back_and_errors_name_the_file_and_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("session.txt");
        let transcript = record(Secrets::Keep, 5);
        transcript.save(&path).unwrap();
        assert_eq!(Transcript::load(&path), Ok(transcript));
        fs::write(&path, "# fine\n\nF Q Query 6 \"x\n").unwrap();
        let error = Transcript::load(&path).unwrap_err().to_string();
        assert!(error.contains("session.txt: line 3: "), "{error}");
        let missing = Transcript::load(directory.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none: No such file"), "{missing}");
    }
}
