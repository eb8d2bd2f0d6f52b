//! The two buffers of a connection: bytes that came, bytes that go.

use std::fmt;

use super::lease::{self, LARGE, SMALL};
use crate::crypto::wipe;
use crate::wire::frame::{self, Front};
use crate::wire::{Frame, Malformed};

/// Received bytes: filled at the end, consumed at the front by a cursor.
///
/// Nothing moves per message; the tail is moved to the front only when space runs out. The buffer
/// doubles when it is full: no declared length is trusted, only what has come. Empty, it is given
/// back to the thread.
#[derive(Default)]
pub(super) struct RecvBuffer {
    /// Wholly initialised; `start..end` has been received and not consumed.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read filled the space that it was given, so that there may be more.
    filled: bool,
    /// The last read brought much, so that more room is worth it.
    busy: bool,
}

/// A message that was consumed, by its place in the buffer. Copy, so that it outlives the borrow of
/// the buffer; good until [`RecvBuffer::space`] is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message {
    pub(super) tag: u8,
    start: usize,
    end: usize,
}

impl Message {
    /// None: there is no such place.
    pub(super) const NONE: Self = Self { tag: 0, start: 1, end: 0 };
}

/// What stands at the front of the received bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// A whole message; the cursor has moved over it.
    Message(Message),
    /// Its end has not come yet.
    Incomplete,
    /// Its body is declared to have this many bytes, which is over the limit.
    TooLong(u64),
}

impl RecvBuffer {
    /// Where the next bytes go; never empty.
    #[inline]
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = lease::lease_recv(self.busy);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.bytes.len() {
            self.make_room();
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// The end of the buffer is reached: the tail moves to the front, or the buffer doubles.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.bytes.len() < LARGE {
            let mut larger = lease::lease_recv(true);
            if let (Some(room), Some(tail)) =
                (larger.get_mut(..self.end), self.bytes.get(..self.end))
            {
                room.copy_from_slice(tail);
            }
            // It may be the buffer of a login.
            wipe(&mut self.bytes);
            lease::return_recv(std::mem::replace(&mut self.bytes, larger));
        } else if self.bytes.len() > LARGE && self.end <= LARGE / 2 {
            // It had to grow for one large message, which is gone.
            let mut smaller = lease::lease_recv(true);
            if let (Some(room), Some(tail)) =
                (smaller.get_mut(..self.end), self.bytes.get(..self.end))
            {
                room.copy_from_slice(tail);
            }
            self.bytes = smaller;
        } else if self.end > self.bytes.len() / 2 {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
    }

    /// `count` bytes were written to the front of [`space`](Self::space).
    #[inline]
    pub(super) fn received(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
        self.filled = self.end == self.bytes.len();
        self.busy = count >= SMALL;
    }

    /// Whether the last read filled its space, so that there may be more in the socket.
    #[inline]
    pub(super) fn was_filled(&self) -> bool {
        self.filled
    }

    /// What has been received and not consumed.
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The next message, if it is whole: the cursor moves over it, and its bytes stay where they
    /// are until [`space`](Self::space) is called.
    #[inline]
    pub(super) fn next(&mut self, limit: usize) -> Result<Next, Malformed> {
        let Some(unread) = self.bytes.get(self.start..self.end) else {
            return Ok(Next::Incomplete);
        };
        Ok(match frame::next(unread, limit)? {
            Front::Whole(frame, size) => {
                let (start, end) = (self.start + frame::HEADER, self.start + size);
                self.start = end;
                Next::Message(Message { tag: frame.tag, start, end })
            }
            Front::Incomplete { .. } => Next::Incomplete,
            Front::TooLong { declared } => Next::TooLong(declared),
        })
    }

    /// What is unread, if it is so little that no whole message in it can be over the limit.
    #[inline]
    pub(super) fn unread_within(&self, limit: usize) -> Option<&[u8]> {
        let unread = self.bytes.get(..self.end)?.get(self.start..)?;
        (unread.len() <= limit).then_some(unread)
    }

    /// Type and body of the next message, if it is whole, and nothing unread can be over the limit.
    #[inline]
    pub(super) fn peek(&self, limit: usize) -> Option<(u8, &[u8])> {
        let (tag, body, _) = split_message(self.unread_within(limit)?)?;
        Some((tag, body))
    }

    /// Moves the cursor over the message that [`peek`](Self::peek) has shown, with a body of
    /// `length` bytes.
    #[inline]
    pub(super) fn skip(&mut self, tag: u8, length: usize) -> Message {
        let start = self.start + frame::HEADER;
        self.start = start + length;
        Message { tag, start, end: self.start }
    }

    /// Moves the cursor so that `left` bytes are left unread.
    #[inline]
    pub(super) fn consume_but(&mut self, left: usize) {
        self.start = self.end.saturating_sub(left);
    }

    /// Moves the cursor so that `left` bytes are left unread; the message before them has a body of
    /// `length` bytes.
    #[inline]
    pub(super) fn consume_to(&mut self, left: usize, tag: u8, length: usize) -> Message {
        self.consume_but(left);
        Message { tag, start: self.start.saturating_sub(length), end: self.start }
    }

    /// A message that was consumed; `None` if its bytes are not here any more.
    #[inline]
    pub(super) fn frame(&self, message: Message) -> Option<Frame<'_>> {
        let body = self.bytes.get(message.start..message.end)?;
        Some(Frame { tag: message.tag, body })
    }

    /// Moves the cursor over `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// Whether it has no memory, and so nothing in it.
    #[inline]
    pub(super) fn is_released(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gives the memory back if there is nothing in it.
    pub(super) fn release_if_empty(&mut self) {
        lease::return_recv(self.take_if_empty());
    }

    /// The memory, if there is nothing in it.
    #[inline]
    fn take_if_empty(&mut self) -> Vec<u8> {
        if self.start < self.end {
            return Vec::new();
        }
        (self.start, self.end) = (0, 0);
        std::mem::take(&mut self.bytes)
    }

    /// Overwrites everything but what is unread.
    pub(super) fn wipe_read(&mut self) {
        wipe(self.bytes.get_mut(..self.start).unwrap_or_default());
        wipe(self.bytes.get_mut(self.end..).unwrap_or_default());
    }

    /// Whether the next message is here to the end, so that it can be consumed without reading
    /// more.
    pub(super) fn has_whole_message(&self) -> bool {
        !matches!(frame::next(self.unread(), usize::MAX), Ok(Front::Incomplete { .. }))
    }

    /// Whether much is unread, so that reading more should wait if some of it can be consumed.
    pub(super) fn is_full(&self) -> bool {
        self.end - self.start >= LARGE
    }
}

/// Type and body of the first message, if it is whole, and what stands behind it.
#[inline]
pub(super) fn split_message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([tag, length @ ..], rest) = bytes.split_first_chunk::<{ frame::HEADER }>()?;
    // The length counts itself. Negative ones, and those below 4, are beyond any end as this.
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?.wrapping_sub(4);
    let (body, behind) = rest.split_at_checked(length)?;
    Some((*tag, body, behind))
}

impl Drop for RecvBuffer {
    fn drop(&mut self) {
        lease::return_recv(std::mem::take(&mut self.bytes));
    }
}

/// How much, not what: passwords, keys, parameters and rows pass through.
impl fmt::Debug for RecvBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecvBuffer({} bytes unread)", self.end - self.start)
    }
}

/// Gives back the memory of both buffers, as far as there is nothing in them.
#[inline]
pub(super) fn release_both(send: &mut SendBuffer, recv: &mut RecvBuffer) {
    lease::give_back(send.take_if_sent(), recv.take_if_empty());
}

/// Bytes to send, numbered from the beginning of the connection.
///
/// A little of what was sent is kept until the buffer is [released](Self::release), so that a
/// request can be written again when its prepared statement turns out to be stale.
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
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// The number of the byte that will be sent next.
    #[inline]
    pub(super) fn sent_up_to(&self) -> u64 {
        self.base + self.head as u64
    }

    /// How many bytes wait to be sent.
    #[inline]
    pub(super) fn unsent(&self) -> usize {
        self.bytes.len() - self.head
    }

    /// The buffer to append messages to.
    #[inline]
    pub(super) fn writer(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = lease::lease_send();
        }
        &mut self.bytes
    }

    /// What is to be sent, up to the byte numbered `limit`.
    #[inline]
    pub(super) fn pending(&self, limit: u64) -> &[u8] {
        let end = usize::try_from(limit.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.bytes.get(self.head..end.min(self.bytes.len())).unwrap_or_default()
    }

    /// The bytes numbered `from..to`, if they are still here.
    pub(super) fn kept(&self, from: u64, to: u64) -> Option<&[u8]> {
        let place = |number: u64| usize::try_from(number.checked_sub(self.base)?).ok();
        self.bytes.get(place(from)?..place(to)?)
    }

    /// The first `count` pending bytes have been sent.
    #[inline]
    pub(super) fn sent(&mut self, count: usize) {
        self.head = (self.head + count).min(self.bytes.len());
        if self.head > LARGE && self.head > self.bytes.len() / 2 {
            self.discard_sent();
        }
    }

    /// Gives the memory back if everything was sent; nothing of it is needed any more.
    pub(super) fn release(&mut self) {
        lease::return_send(self.take_if_sent());
    }

    /// The memory, if everything was sent.
    #[inline]
    fn take_if_sent(&mut self) -> Vec<u8> {
        if self.head < self.bytes.len() {
            return Vec::new();
        }
        self.base += self.head as u64;
        self.head = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Takes the bytes numbered `from..to` out again; none of them may have been sent. Later bytes
    /// get lower numbers.
    pub(super) fn remove(&mut self, from: u64, to: u64) {
        debug_assert!(from >= self.sent_up_to() && from <= to && to <= self.end());
        let place = |number: u64| usize::try_from(number.saturating_sub(self.base)).ok();
        if let (Some(from), Some(to)) = (place(from), place(to)) {
            if self.head <= from && from <= to && to <= self.bytes.len() {
                self.bytes.drain(from..to);
                self.shrink();
            }
        }
    }

    /// Takes all bytes out again from the one numbered `from` on, which must not have been sent.
    pub(super) fn cut(&mut self, from: u64) {
        let place = usize::try_from(from.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.bytes.truncate(place.max(self.head));
        self.shrink();
    }

    /// Gives memory back that was needed for what is no longer there.
    fn shrink(&mut self) {
        if self.bytes.capacity() > LARGE && self.bytes.len() <= LARGE {
            self.bytes.shrink_to(LARGE);
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
        self.bytes.truncate(self.head);
        self.release();
    }

    /// `count` bytes were sent that never stood here, behind everything that did.
    pub(super) fn pass_by(&mut self, count: usize) {
        debug_assert_eq!(self.unsent(), 0);
        self.discard_sent();
        self.base += count as u64;
    }

    fn discard_sent(&mut self) {
        self.base += self.head as u64;
        self.bytes.drain(..self.head);
        self.head = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > LARGE {
            self.bytes = Vec::new();
        }
    }
}

impl Drop for SendBuffer {
    fn drop(&mut self) {
        lease::return_send(std::mem::take(&mut self.bytes));
    }
}

/// How much, not what.
impl fmt::Debug for SendBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendBuffer({} bytes unsent)", self.unsent())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills all the space that the buffer has.
    fn fill(buffer: &mut RecvBuffer) -> usize {
        let room = buffer.space().len();
        buffer.received(room);
        room
    }

    #[test]
    fn receive_space_is_reused_and_grows_only_when_full() {
        let mut buffer = RecvBuffer::default();
        assert_eq!(fill(&mut buffer), SMALL);
        buffer.consume(SMALL - 10);
        assert_eq!(buffer.space().len(), LARGE - 10, "what comes fast gets more room");
        assert_eq!(buffer.unread().len(), 10);
        assert_eq!(fill(&mut buffer), LARGE - 10);
        buffer.consume(LARGE - 10);
        assert_eq!(buffer.space().len(), LARGE - 10, "the tail was moved to the front");
        assert_eq!(fill(&mut buffer), LARGE - 10);
        assert_eq!(buffer.space().len(), LARGE, "a full buffer doubles");
        assert_eq!(buffer.unread().len(), LARGE);
    }

    #[test]
    fn h41_a_large_receive_buffer_is_given_back_when_it_is_empty() {
        let mut buffer = RecvBuffer::default();
        while buffer.unread().len() <= LARGE {
            fill(&mut buffer);
        }
        buffer.consume(usize::MAX);
        buffer.release_if_empty();
        assert_eq!(buffer.bytes.capacity(), 0);
        buffer.received(0);
        assert!(buffer.space().len() <= LARGE);
    }

    #[test]
    fn h41_a_large_send_buffer_is_given_back_when_it_is_sent() {
        let mut buffer = SendBuffer::default();
        buffer.writer().resize(100 << 20, 0);
        buffer.sent(100 << 20);
        assert!(buffer.bytes.capacity() <= LARGE);
        assert_eq!((buffer.sent_up_to(), buffer.end()), (100 << 20, 100 << 20));
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
        assert_eq!(buffer.kept(1, 7), Some(&b"irstse"[..]));
        buffer.remove(5, 11);
        assert_eq!(buffer.pending(u64::MAX), b"st");
        buffer.sent(2);
        buffer.release();
        assert_eq!(buffer.kept(1, 4), None);
        buffer.writer().extend_from_slice(b"third");
        assert_eq!((buffer.sent_up_to(), buffer.end()), (5, 10));
        buffer.sent(1);
        buffer.insert(7, b"--");
        assert_eq!(buffer.pending(u64::MAX), b"h--ird");
        buffer.clear();
        assert_eq!((buffer.sent_up_to(), buffer.end()), (6, 6));
    }
}
