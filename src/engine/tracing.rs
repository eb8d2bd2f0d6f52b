//! Telling a tracer each message, in the text form of libpq's `PQtrace`.

use std::fmt;

use super::buffer::SendBuffer;
use crate::wire::Frame;
use crate::wire::frame::{self, Front};
use crate::wire::trace::{self, Detail, Line, Sender};

/// Who is told a line for each message.
pub type Tracer = Box<dyn FnMut(&str)>;

/// Who is told, if anybody.
#[derive(Default)]
pub(super) struct Tracing {
    tracer: Option<Tracer>,
    /// The messages before this byte have been traced.
    traced: u64,
    /// What is sent next is a packet of startup, which has no type byte.
    before_startup: bool,
}

impl Tracing {
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.tracer.is_some()
    }

    /// Traces what is sent from byte `from` on, and what is received from now on.
    pub(super) fn set(&mut self, tracer: Option<Tracer>, from: u64) {
        self.tracer = tracer;
        self.before_startup = from == 0;
        self.traced = self.traced.max(from);
    }

    /// The first `count` pending bytes have been sent: traces the messages that begin among them,
    /// which are still whole in the buffer.
    #[cold]
    pub(super) fn sent(&mut self, send: &SendBuffer, count: usize) {
        let up_to = send.sent_up_to() + count as u64;
        while self.traced < up_to {
            let Some(bytes) = send.kept(self.traced, send.end()) else { break };
            let size = match frame::next(bytes, usize::MAX) {
                _ if self.before_startup => self.first_packet(bytes),
                Ok(Front::Whole(frame, size)) => {
                    self.tell(trace::line(Sender::Frontend, frame, Detail::Full));
                    size
                }
                _ => break,
            };
            self.traced += size as u64;
        }
        self.traced = self.traced.max(up_to);
    }

    /// A CancelRequest goes out, over a connection of its own.
    #[cold]
    pub(super) fn cancel_request(&mut self, packet: &[u8]) {
        self.tell(trace::first_packet(packet.get(4..).unwrap_or_default(), Detail::Full));
    }

    /// Traces the packets of startup, which have no type byte; their size.
    fn first_packet(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.first_chunk().map(|length| u32::from_be_bytes(*length));
        let size = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(bytes.len());
        self.tell(trace::first_packet(bytes.get(4..size).unwrap_or_default(), Detail::Full));
        // Another one follows an SSLRequest, which is eight bytes long.
        self.before_startup = size == 8;
        size
    }

    #[cold]
    pub(super) fn received(&mut self, frame: Frame<'_>) {
        self.tell(trace::line(Sender::Backend, frame, Detail::Full));
    }

    /// The one byte that answers an SSLRequest, if it has come.
    pub(super) fn received_encryption_answer(&mut self, unread: &[u8]) {
        if let (Some([answer, ..]), true) = (unread.get(..1), self.is_on()) {
            self.tell(trace::ssl_response(*answer));
        }
    }

    fn tell(&mut self, line: Line<'_>) {
        if let Some(tracer) = &mut self.tracer {
            tracer(&line.to_string());
        }
    }
}

impl fmt::Debug for Tracing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Tracing" } else { "(not traced)" })
    }
}
