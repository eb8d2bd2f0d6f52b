//! What the engine tells its caller: events, outcomes, and the small types in them.

use std::fmt;
use std::rc::Rc;

use crate::error::{PgError, ServerError};
use crate::row::{Column, Row, RowRef, RowSet};
use crate::types::Format;

use super::cursor::Cursor;
use super::statement::Statement;
use super::{Engine, Step};

/// The number of a request, given out by [`Engine::submit`](super::Engine::submit). Unique for a
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use]
pub struct Ticket(pub(super) u64);

impl Ticket {
    /// That of no request.
    pub(crate) const NONE: Self = Self(0);
}

/// How the answer to a request reaches the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Through [`Engine::next_event`](super::Engine::next_event): rows one by one, borrowed,
    /// nothing copied.
    Events,
    /// As [`Events`](Self::Events), but only rows and the terminal event: neither the columns (each
    /// row has them) nor the tags of commands. The results of a string of several statements are
    /// not told apart.
    Rows,
    /// Rows are collected; only the terminal event surfaces, then
    /// [`Engine::take`](super::Engine::take) gives the [`Outcome`].
    Collect,
    /// Not at all: the answer is drained.
    Discard,
}

/// Something that the received bytes mean.
///
/// Each ticket gets exactly one of [`Complete`](Event::Complete) and [`Failed`](Event::Failed), at
/// the ReadyForQuery of its group: never at CommandComplete, because a deferred constraint fails
/// after it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Authentication and startup are over; requests are answered from here on.
    Ready,
    /// The columns of the rows that follow. It can come twice, if the request had to be written
    /// again before its first row.
    Columns {
        /// Whose rows.
        ticket: Ticket,
        /// The columns.
        columns: &'a Rc<[Column]>,
    },
    /// A row.
    Row {
        /// Whose row.
        ticket: Ticket,
        /// The row, borrowed from the receive buffer.
        row: RowRef<'a>,
    },
    /// One command of a request is done, but its group can still fail.
    CommandComplete {
        /// Whose command.
        ticket: Ticket,
        /// What it did.
        tag: CommandTag,
    },
    /// As many rows as a [`Request::Fetch`](super::Request::Fetch) has asked for have come, and there
    /// may be more. Without it the cursor is at its end.
    PortalSuspended {
        /// Which request.
        ticket: Ticket,
    },
    /// The server is ready for the data of a COPY FROM STDIN (CopyInResponse).
    CopyIn {
        /// Whose data.
        ticket: Ticket,
        /// Binary, or text, which CSV is too.
        format: Format,
        /// How many columns a row has.
        columns: usize,
    },
    /// Data of a COPY TO STDOUT follow (CopyOutResponse).
    CopyOut {
        /// Whose data.
        ticket: Ticket,
        /// Binary, or text, which CSV is too.
        format: Format,
        /// How many columns a row has.
        columns: usize,
    },
    /// A piece of the data of a COPY TO STDOUT. Servers send a row in each, but a program should not
    /// rely on where one ends.
    CopyData {
        /// Whose data.
        ticket: Ticket,
        /// The bytes, borrowed from the receive buffer.
        data: &'a [u8],
    },
    /// The request succeeded. Terminal.
    Complete {
        /// Which.
        ticket: Ticket,
    },
    /// The request failed. Terminal.
    Failed {
        /// Which.
        ticket: Ticket,
        /// Why.
        error: PgError,
    },
    /// The server has something to say (NoticeResponse).
    Notice(Box<ServerError>),
    /// Somebody has notified a channel that this session listens to.
    Notification(Notification),
    /// A run-time parameter of the session has a new value (ParameterStatus).
    ParameterStatus {
        /// Its name.
        name: Box<str>,
        /// Its value.
        value: Box<str>,
    },
    /// So many notices and notifications were kept for nobody for too long, and had to give way to
    /// newer ones. Only a connection that is used through blocking calls too keeps any.
    MessagesDropped {
        /// How many, since this event came last.
        count: u64,
    },
}

impl Delivery {
    /// Whether rows become events.
    #[inline]
    pub(super) fn tells_rows(self) -> bool {
        matches!(self, Self::Events | Self::Rows)
    }
}

impl Event<'_> {
    /// Whether it is the terminal event of this request.
    pub(crate) fn is_end_of(&self, ticket: Option<Ticket>) -> bool {
        matches!(self, Self::Complete { .. } | Self::Failed { .. }) && self.ticket() == ticket
    }

    /// The request that the event is about, if it is about one.
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Columns { ticket, .. }
            | Self::Row { ticket, .. }
            | Self::CommandComplete { ticket, .. }
            | Self::PortalSuspended { ticket }
            | Self::CopyIn { ticket, .. }
            | Self::CopyOut { ticket, .. }
            | Self::CopyData { ticket, .. }
            | Self::Complete { ticket }
            | Self::Failed { ticket, .. } => Some(*ticket),
            _ => None,
        }
    }
}

impl Engine {
    /// The event that a step led to, if it is one that borrows nothing; `None` for what stands in the
    /// receive buffer: rows, columns, data, the tags of commands.
    pub(crate) fn own_event(&mut self, step: Step) -> Option<Event<'static>> {
        match step {
            Step::Complete => Some(Event::Complete { ticket: self.whose }),
            Step::Pending => self.pop_pending(),
            _ => None,
        }
    }

    /// The next of the events that stand in no received byte.
    pub(super) fn pop_pending(&mut self) -> Option<Event<'static>> {
        let event = self.pending.pop_front();
        self.release_queues();
        event
    }
}

/// A message from another session's NOTIFY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The server process that notified.
    pub process_id: i32,
    /// The channel.
    pub channel: String,
    /// The payload, may be empty.
    pub payload: String,
}

/// What a command did, as CommandComplete says it: `INSERT 0 5`, `SELECT 12`, `CREATE TABLE`.
#[derive(Clone, Copy)]
pub struct CommandTag {
    /// Only those up to the length count.
    bytes: [u8; Self::LONGEST],
    length: u8,
}

impl CommandTag {
    /// PostgreSQL builds tags in 64 bytes (`COMPLETION_TAG_BUFSIZE`), a NUL among them.
    const LONGEST: usize = 63;

    /// The tag of an empty query, which has none.
    pub(crate) const EMPTY: Self = Self { bytes: [0; Self::LONGEST], length: 0 };

    /// Whether a tag is one that a server can send: not longer, ASCII, without NUL.
    #[inline]
    pub(super) fn is_one(text: &[u8]) -> bool {
        // Eight bytes at a time: a byte is zero or not ASCII where this leaves its highest bit.
        let bad = |word: u64| (word.wrapping_sub(ONES) | word) & HIGH_BITS != 0;
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
        let mut words = text.chunks_exact(8);
        let whole =
            words.all(|word| word.try_into().is_ok_and(|word| !bad(u64::from_ne_bytes(word))));
        let rest = words.remainder().iter().all(|byte| (1..128).contains(byte));
        whole && rest && text.len() <= Self::LONGEST
    }

    /// A tag that [is one](Self::is_one); an empty one for anything else.
    #[inline]
    pub(super) fn new(text: &[u8]) -> Self {
        let mut tag = Self::EMPTY;
        tag.set(text);
        tag
    }

    /// Makes it a tag that [is one](Self::is_one); an empty one for anything else.
    #[inline]
    pub(super) fn set(&mut self, text: &[u8]) {
        self.length = 0;
        let room = self.bytes.get_mut(..text.len());
        if let (Some(room), Ok(length)) = (room, text.len().try_into()) {
            room.copy_from_slice(text);
            self.length = length;
        }
    }

    /// Makes it an empty one.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    /// Whether its text is this.
    #[inline]
    pub(super) fn is(&self, text: &[u8]) -> bool {
        let own = self.as_bytes();
        if own.len() != text.len() || !(8..=16).contains(&text.len()) {
            return own == text;
        }
        // Nearly every tag is so long: the first eight bytes and the last ones are all of it.
        own.first_chunk::<8>() == text.first_chunk() && own.last_chunk::<8>() == text.last_chunk()
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The number of rows that the command touched; `None` for commands that do not count rows.
    pub fn rows(&self) -> Option<u64> {
        let (words, number) = self.as_str().rsplit_once(' ')?;
        words.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(number)?.parse().ok()
    }
}

impl PartialEq for CommandTag {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for CommandTag {}

impl fmt::Debug for CommandTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandTag({:?})", self.as_str())
    }
}

impl fmt::Display for CommandTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one command returned.
#[derive(Debug)]
pub struct CommandResult {
    pub(super) rows: Option<Rc<RowSet>>,
    pub(super) tag: CommandTag,
}

impl CommandResult {
    pub(super) const NOTHING: Self = Self { rows: None, tag: CommandTag::EMPTY };

    /// The command's tag; an empty one for an empty query.
    pub fn tag(&self) -> CommandTag {
        self.tag
    }

    /// The columns, `None` when the command returns no rows at all, as an INSERT without RETURNING.
    pub fn columns(&self) -> Option<&[Column]> {
        self.rows.as_ref().map(|rows| rows.columns().as_ref())
    }

    /// The columns, as they are shared with the rows.
    pub(crate) fn shared_columns(&self) -> Option<Rc<[Column]>> {
        self.rows.as_ref().map(|rows| Rc::clone(rows.columns()))
    }

    /// How many rows came.
    pub fn len(&self) -> usize {
        self.rows.as_ref().map_or(0, |rows| rows.len())
    }

    /// Whether no rows came.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows.
    pub fn into_rows(self) -> Vec<Row> {
        self.rows.map(RowSet::rows).unwrap_or_default()
    }
}

/// The finished result of a collected request.
#[derive(Debug)]
pub struct Outcome {
    /// The results of all commands but the last; only the simple protocol has several.
    pub(super) earlier: Vec<CommandResult>,
    pub(super) last: CommandResult,
    pub(super) statement: Option<Statement>,
    pub(super) cursor: Option<Cursor>,
    /// How many rows each parameter set of a batch touched.
    pub(super) counts: Vec<u64>,
}

impl Outcome {
    pub(super) const NOTHING: Self = Self {
        earlier: Vec::new(),
        last: CommandResult::NOTHING,
        statement: None,
        cursor: None,
        counts: Vec::new(),
    };

    /// The result of the last command.
    pub fn last(&self) -> &CommandResult {
        &self.last
    }

    /// The results of all commands in order; never empty.
    pub fn results(&self) -> impl DoubleEndedIterator<Item = &CommandResult> {
        self.earlier.iter().chain([&self.last])
    }

    /// The results of all commands in order; never empty.
    pub fn into_results(self) -> impl DoubleEndedIterator<Item = CommandResult> {
        self.earlier.into_iter().chain([self.last])
    }

    /// The rows of the last command.
    pub fn into_rows(self) -> Vec<Row> {
        self.last.into_rows()
    }

    /// How many rows each parameter set of a batch touched, in the order of the sets; empty for
    /// everything else.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The statement that a [`Request::Prepare`](super::Request::Prepare) made.
    pub fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }

    /// The cursor that a [`Request::OpenCursor`](super::Request::OpenCursor) opened.
    pub fn into_cursor(self) -> Option<Cursor> {
        self.cursor
    }

    /// The statement that a [`Request::Prepare`](super::Request::Prepare) made.
    pub fn into_statement(self) -> Option<Statement> {
        self.statement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_7_command_tags_count_rows() {
        for (tag, rows) in [
            ("INSERT 0 5", Some(5)),
            ("UPDATE 7", Some(7)),
            ("SELECT 18446744073709551615", Some(u64::MAX)),
            ("MERGE 0", Some(0)),
            ("COPY 3", Some(3)),
            ("CREATE TABLE", None),
            ("BEGIN", None),
            ("", None),
            (" 4", None),
        ] {
            assert!(CommandTag::is_one(tag.as_bytes()));
            let parsed = CommandTag::new(tag.as_bytes());
            assert_eq!((parsed.as_str(), parsed.rows()), (tag, rows));
        }
        assert!(CommandTag::is_one(&[b'A'; 63]));
        assert!(CommandTag::is_one(b"SELECT 10"));
        for no_tag in [&b"SELECT\x0010"[..], b"SEL\xc3CT 1", b"\0BCDEFGH", b"ABCDEFG\0"] {
            assert!(!CommandTag::is_one(no_tag));
        }
        for no_tag in [&[b'A'; 64][..], "é".as_bytes(), b"A\0B"] {
            assert!(!CommandTag::is_one(no_tag));
        }
    }
}
