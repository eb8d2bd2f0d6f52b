//! The two buffers of a connection: bytes that came, bytes that go.

use std::fmt;

use crate::crypto::wipe;
use crate::wire::frame::{self, Front};
use crate::wire::{Frame, Malformed};

/// What a buffer starts with.
const INITIAL: usize = 8 * 1024;

/// A buffer that has grown past this gives its memory back once it is empty.
const KEEP: usize = 64 * 1024;

/// Received bytes: filled at the end, consumed at the front by a cursor.
///
/// Nothing moves per message; the tail is moved to the front only when space runs out. The buffer
/// doubles when it is full, so it is never larger than twice what came: no declared length is
/// trusted.
#[derive(Default)]
pub(super) struct RecvBuffer {
    /// Wholly initialised; `start..end` has been received and not consumed.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl RecvBuffer {
    /// Where the next bytes go; never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > KEEP {
                self.bytes = Vec::new();
            }
        }
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            self.bytes.resize((self.bytes.len() * 2).max(INITIAL), 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes were written to the front of [`space`](Self::space).
    pub(super) fn received(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// What has been received and not consumed.
    pub(super) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The next message, if it is whole.
    pub(super) fn front(&self, limit: usize) -> Result<Front<'_>, Malformed> {
        frame::next(self.unread(), limit)
    }

    /// Moves the cursor over `count` bytes. They stay where they are until [`space`](Self::space)
    /// is called.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// The message of `size` bytes that was consumed last.
    pub(super) fn consumed(&self, size: usize) -> Option<Frame<'_>> {
        let start = self.start.checked_sub(size)?;
        match frame::next(self.bytes.get(start..self.start)?, usize::MAX) {
            Ok(Front::Whole(frame, _)) => Some(frame),
            _ => None,
        }
    }

    /// Overwrites everything but what is unread.
    pub(super) fn wipe_read(&mut self) {
        wipe(self.bytes.get_mut(..self.start).unwrap_or_default());
        wipe(self.bytes.get_mut(self.end..).unwrap_or_default());
    }

    /// Whether the next message is here to the end, so that it can be consumed without reading
    /// more.
    pub(super) fn has_whole_message(&self) -> bool {
        !matches!(self.front(usize::MAX), Ok(Front::Incomplete { .. }))
    }

    /// Whether much is unread, so that reading more should wait if some of it can be consumed.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.start >= KEEP
    }
}

/// How much, not what: passwords, keys, parameters and rows pass through.
impl fmt::Debug for RecvBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecvBuffer({} bytes unread)", self.end - self.start)
    }
}

/// Bytes to send, numbered from the beginning of the connection.
#[derive(Default)]
pub(super) struct SendBuffer {
    bytes: Vec<u8>,
    /// How many of `bytes` have been sent.
    head: usize,
    /// The number of the first byte in `bytes`.
    base: u64,
}

impl SendBuffer {
    /// The number of the byte that will be appended next.
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// The number of the byte that will be sent next.
    pub(super) fn sent_up_to(&self) -> u64 {
        self.base + self.head as u64
    }

    /// The buffer to append messages to.
    pub(super) fn writer(&mut self) -> &mut Vec<u8> {
        if self.head == self.bytes.len() {
            self.discard_sent();
        }
        &mut self.bytes
    }

    /// What is to be sent, up to the byte numbered `limit`.
    pub(super) fn pending(&self, limit: u64) -> &[u8] {
        let end = usize::try_from(limit.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.bytes.get(self.head..end.min(self.bytes.len())).unwrap_or_default()
    }

    /// The first `count` pending bytes have been sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.head = (self.head + count).min(self.bytes.len());
        if self.head == self.bytes.len() || (self.head > KEEP && self.head > self.bytes.len() / 2) {
            self.discard_sent();
        }
    }

    /// Takes the bytes numbered `from..to` out again; none of them may have been sent. Later bytes
    /// get lower numbers.
    pub(super) fn remove(&mut self, from: u64, to: u64) {
        debug_assert!(from >= self.sent_up_to() && from <= to && to <= self.end());
        let place = |number: u64| usize::try_from(number.saturating_sub(self.base)).ok();
        if let (Some(from), Some(to)) = (place(from), place(to)) {
            if self.head <= from && from <= to && to <= self.bytes.len() {
                self.bytes.drain(from..to);
            }
        }
    }

    /// Puts `more` before the byte numbered `at`, which must not have been sent. Later bytes get
    /// higher numbers.
    pub(super) fn insert(&mut self, at: u64, more: &[u8]) {
        debug_assert!(at >= self.sent_up_to() && at <= self.end());
        let place = usize::try_from(at.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let tail = self.bytes.split_off(place.clamp(self.head, self.bytes.len()));
        self.bytes.extend_from_slice(more);
        self.bytes.extend_from_slice(&tail);
    }

    /// Overwrites what has been sent, in the whole allocation.
    pub(super) fn wipe_sent(&mut self) {
        self.discard_sent();
        let unsent = self.bytes.len();
        self.bytes.resize(self.bytes.capacity(), 0);
        wipe(self.bytes.get_mut(unsent..).unwrap_or_default());
        self.bytes.truncate(unsent);
    }

    /// Overwrites everything, and forgets what has not been sent.
    pub(super) fn wipe_all(&mut self) {
        self.bytes.truncate(self.head);
        self.wipe_sent();
    }

    /// Forgets everything that has not been sent.
    pub(super) fn clear(&mut self) {
        self.base = self.sent_up_to();
        self.head = 0;
        self.bytes = Vec::new();
    }

    fn discard_sent(&mut self) {
        self.base += self.head as u64;
        self.bytes.drain(..self.head);
        self.head = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        }
    }
}

/// How much, not what.
impl fmt::Debug for SendBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendBuffer({} bytes unsent)", self.bytes.len() - self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_space_is_reused_and_grows_only_when_full() {
        let mut buffer = RecvBuffer::default();
        assert_eq!(buffer.space().len(), INITIAL);
        buffer.received(INITIAL);
        buffer.consume(INITIAL - 10);
        assert_eq!(buffer.space().len(), INITIAL - 10, "the tail was moved to the front");
        assert_eq!(buffer.unread().len(), 10);
        buffer.received(INITIAL - 10);
        assert_eq!(buffer.space().len(), INITIAL, "a full buffer doubles");
        assert_eq!(buffer.unread().len(), INITIAL);
    }

    #[test]
    fn a_large_receive_buffer_is_given_back_when_it_is_empty() {
        let mut buffer = RecvBuffer::default();
        while buffer.unread().len() <= KEEP {
            let room = buffer.space().len();
            buffer.received(room);
        }
        buffer.consume(usize::MAX);
        assert_eq!(buffer.space().len(), INITIAL);
    }

    #[test]
    fn h37_what_was_sent_and_received_can_be_wiped() {
        let mut send = SendBuffer::default();
        send.writer().extend_from_slice(b"secret");
        send.writer().extend_from_slice(b"unsent");
        send.sent(6);
        send.wipe_sent();
        assert_eq!(send.pending(u64::MAX), b"unsent");
        assert_eq!((send.sent_up_to(), send.end()), (6, 12));

        send.wipe_all();
        assert_eq!((send.pending(u64::MAX), send.sent_up_to(), send.end()), (&b""[..], 6, 6));

        // In two reads: the secret stands behind what came last.
        let mut recv = RecvBuffer::default();
        recv.space()[..10].copy_from_slice(b"a  secret.");
        recv.received(10);
        recv.consume(10);
        recv.space()[..6].copy_from_slice(b"b rest");
        recv.received(6);
        recv.consume(2);
        recv.wipe_read();
        assert_eq!(recv.bytes[..10], *b"\0\0rest\0\0\0\0");
        assert_eq!(recv.unread(), b"rest");
        let shown = format!("{send:?} {recv:?}");
        assert_eq!(shown, "SendBuffer(0 bytes unsent) RecvBuffer(4 bytes unread)");
    }

    #[test]
    fn sent_bytes_keep_their_numbers() {
        let mut buffer = SendBuffer::default();
        buffer.writer().extend_from_slice(b"first");
        assert_eq!(buffer.end(), 5);
        buffer.sent(3);
        assert_eq!(buffer.pending(u64::MAX), b"st");
        assert_eq!(buffer.pending(4), b"s");
        buffer.writer().extend_from_slice(b"second");
        assert_eq!((buffer.sent_up_to(), buffer.end()), (3, 11));
        buffer.remove(5, 11);
        assert_eq!(buffer.pending(u64::MAX), b"st");
        buffer.sent(2);
        buffer.writer().extend_from_slice(b"third");
        assert_eq!((buffer.sent_up_to(), buffer.end()), (5, 10));
        buffer.sent(1);
        buffer.insert(7, b"--");
        assert_eq!(buffer.pending(u64::MAX), b"h--ird");
        buffer.clear();
        assert_eq!((buffer.sent_up_to(), buffer.end()), (6, 6));
    }
}
