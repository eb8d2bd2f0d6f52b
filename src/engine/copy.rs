//! COPY between the server and the program.
//!
//! A COPY is one simple query: a group of its own. In the extended protocol the server swallows a
//! Sync that comes while it waits for data, and this way there is none to swallow. Nothing may
//! follow a COPY FROM STDIN before its data have ended, because the server would take it for data or
//! drop it: until then other requests are refused as [`PgError::Busy`].
//!
//! An error of the server ends a COPY at once, ReadyForQuery included. What data it still finds
//! behind that it drops, so that nobody has to agree on where they end.
//!
//! Source: PostgreSQL documentation, "COPY Operations".

use std::collections::VecDeque;

use super::answer::out_of_place;
use super::buffer::Message;
use super::event::{Event, Ticket};
use super::flight::{InFlight, Kind, Phase, Standing};
use super::flights::Flights;
use super::keyword::{copy_direction, is_one_statement};
use super::{Engine, Step};
use crate::error::{PgError, PgResult};
use crate::types::Format;
use crate::wire::Backend;
use crate::wire::backend::{CopyResponse, tag};
use crate::wire::frontend;

/// The most data in one CopyData message. The server has to hold a whole one.
const LONGEST_MESSAGE: usize = 1 << 20;

/// How far a COPY had come when its deadline was looked at: what is on the move is not late.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Up to which byte this side had sent.
    sent: u64,
    /// Data have come since.
    received: bool,
}

impl Engine {
    /// Queues data of a [`Request::CopyIn`](super::Request::CopyIn), cut wherever the caller likes.
    /// That can begin at once: an error of the statement itself comes as that of its ticket.
    ///
    /// # Errors
    ///
    /// Nothing is queued then.
    /// - [`PgError::WouldBlock`] when more than `max_send_buffer` bytes wait to be sent: send, take
    ///   events, and try again.
    /// - The server's error when it has ended this COPY; the ticket's terminal event tells it too.
    /// - [`PgError::Usage`] when the ticket is of no COPY FROM STDIN, or of one that has ended.
    /// - [`PgError::NotSent`] when the connection is broken.
    pub fn copy_data(&mut self, ticket: Ticket, data: &[u8]) -> PgResult<()> {
        self.open_copy(ticket)?;
        if self.send.unsent() > self.limits.send_buffer {
            return Err(PgError::WouldBlock);
        }
        for piece in data.chunks(LONGEST_MESSAGE) {
            frontend::copy_data(self.send.writer(), piece)?;
        }
        self.flights.grow_last(self.send.end());
        Ok(())
    }

    /// The data of a COPY FROM STDIN are complete; its ticket ends with the server's answer. Limits
    /// do not count.
    ///
    /// # Errors
    ///
    /// As [`copy_data`](Self::copy_data), but for `WouldBlock`.
    pub fn copy_done(&mut self, ticket: Ticket) -> PgResult<()> {
        self.open_copy(ticket)?;
        frontend::copy_done(self.send.writer());
        self.end_copy();
        Ok(())
    }

    /// Gives a COPY FROM STDIN up: the server keeps nothing of it, and its ticket fails with an
    /// error that has `reason` in its text. Limits do not count.
    ///
    /// # Errors
    ///
    /// As [`copy_done`](Self::copy_done); [`PgError::Usage`] for a reason with a NUL byte.
    pub fn copy_fail(&mut self, ticket: Ticket, reason: &str) -> PgResult<()> {
        self.open_copy(ticket)?;
        frontend::copy_fail(self.send.writer(), reason)?;
        self.end_copy();
        if let Some(Kind::CopyIn { failed, .. }) =
            self.flights.last_mut().map(|last| &mut last.kind)
        {
            *failed = true;
        }
        Ok(())
    }

    /// Announces `length` bytes of data that the transport sends itself, from where they are, behind
    /// what is pending: the announcement alone. [`copy_sent`](Self::copy_sent) has to be the next
    /// call. `false`, and nothing is announced, when they have to be queued instead.
    ///
    /// # Errors
    ///
    /// As [`copy_data`](Self::copy_data), but for `WouldBlock`.
    pub(crate) fn copy_announce(&mut self, ticket: Ticket, length: usize) -> PgResult<bool> {
        self.open_copy(ticket)?;
        let is_held_back = self.send_limit() != u64::MAX;
        if self.send.unsent() > 0 || self.tracing.is_on() || is_held_back || length == 0 {
            return Ok(false);
        }
        frontend::copy_data_header(self.send.writer(), length)?;
        Ok(true)
    }

    /// The transport has written the first `count` bytes of what is pending and of the `data` behind
    /// it, which were announced. The others are queued.
    pub(crate) fn copy_sent(&mut self, count: usize, data: &[u8]) {
        let header = self.send.unsent();
        self.send.sent(count.min(header));
        let direct = count.saturating_sub(header);
        if direct > 0 {
            self.send.pass_by(direct);
        }
        self.send.writer().extend_from_slice(data.get(direct..).unwrap_or_default());
        self.flights.grow_last(self.send.end());
    }

    /// The next piece of the data of a COPY, if it is the next thing that has come, whole. Otherwise
    /// [`advance`](Self::advance) knows what is.
    #[inline]
    pub(crate) fn next_copied(&mut self) -> Option<Message> {
        if !self.pending.is_empty() || self.ended > 0 || self.tracing.is_on() {
            return None;
        }
        let request = self.flights.current_mut()?;
        let Kind::CopyOut { progress } = &mut request.kind else { return None };
        if request.phase != Phase::CopyData {
            return None;
        }
        let (tag::COPY_DATA, data) = self.recv.peek(self.limits.message_size)? else { return None };
        progress.received = true;
        let length = data.len();
        Some(self.recv.skip(tag::COPY_DATA, length))
    }

    /// The next piece of the data of a COPY, as a step. [`Step::Starved`] means that the next message
    /// is another one, or has not come.
    pub(super) fn step_copy_data(&mut self) -> Step {
        let Some(request) = self.flights.current_mut() else { return Step::Starved };
        let Some((tag::COPY_DATA, data)) = self.recv.peek(self.limits.message_size) else {
            return Step::Starved;
        };
        let length = data.len();
        self.whose = request.ticket;
        self.found = self.recv.skip(tag::COPY_DATA, length);
        request.copied()
    }

    /// How many bytes wait to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.send.unsent()
    }

    /// The statement is a single COPY of this `call`, `copy_in` or `copy_out`.
    pub(super) fn check_copy(sql: &str, call: &'static str) -> PgResult<()> {
        let (direction, other) = match call {
            "copy_in" => ("COPY ... FROM STDIN", "copy_out"),
            _ => ("COPY ... TO STDOUT", "copy_in"),
        };
        Err(PgError::Usage(match copy_direction(sql) {
            Some(found) if found == call && is_one_statement(sql) => return Ok(()),
            Some(found) if found == call => {
                format!("{call} takes one statement, not several; nothing was sent")
            }
            Some(_) => {
                format!(
                    "{call} takes {direction}; this COPY goes through {other}; nothing was sent"
                )
            }
            None => format!("{call} takes {direction} and nothing else; nothing was sent"),
        }))
    }

    /// Whether the request at `index` is a COPY that has moved since its deadline was set, or one
    /// that waits for the program: then the time does not count. It always does when the deadline is
    /// that of the whole COPY.
    pub(super) fn copy_moves(&mut self, index: usize) -> bool {
        let (sent, all_sent) = (self.send.sent_up_to(), self.send.unsent() == 0);
        let Some(request) = self.flights.get_mut(index) else { return false };
        let is_for_a_step = request.deadline.is_some_and(|limit| limit.is_for_a_step());
        if !is_for_a_step || request.standing != Standing::Wanted || !request.is_sent(sent) {
            return false;
        }
        let waits_for_program = request.phase == Phase::CopyIn && all_sent && request.takes_data();
        match &mut request.kind {
            Kind::CopyIn { progress, .. } | Kind::CopyOut { progress } => {
                let moved = progress.sent < sent.min(request.bytes.end) || progress.received;
                *progress = Progress { sent, received: false };
                moved || waits_for_program
            }
            _ => false,
        }
    }

    /// From here on it counts whether the request at `index` moves, if it is a COPY.
    pub(super) fn mark_progress(&mut self, index: usize) {
        let sent = self.send.sent_up_to();
        if let Some(request) = self.flights.get_mut(index) {
            if let Kind::CopyIn { progress, .. } | Kind::CopyOut { progress } = &mut request.kind {
                *progress = Progress { sent, received: false };
            }
        }
    }

    /// Nobody has data any more for the COPY FROM STDIN at `index`, if it is one: the server is told,
    /// whatever the limits say, so that the COPY comes to an end.
    pub(super) fn give_up_copy(&mut self, index: usize) {
        if !self.flights.get(index).is_some_and(InFlight::takes_data) {
            return;
        }
        let reason = "the program gave this COPY up";
        // It has no NUL byte and is short: it can be written.
        let _ = frontend::copy_fail(self.send.writer(), reason);
        self.end_copy();
    }

    /// The data of the last request have ended.
    fn end_copy(&mut self) {
        self.flights.grow_last(self.send.end());
        if let Some(Kind::CopyIn { open, .. }) = self.flights.last_mut().map(|last| &mut last.kind)
        {
            *open = false;
        }
    }

    /// Checks that `ticket` is a COPY FROM STDIN that takes data; it is the last request then.
    fn open_copy(&self, ticket: Ticket) -> PgResult<()> {
        match self.flights.last() {
            Some(last) if last.ticket == ticket && last.takes_data() => Ok(()),
            _ => Err(self.no_open_copy(ticket)),
        }
    }

    #[cold]
    fn no_open_copy(&self, ticket: Ticket) -> PgError {
        if let Some(error) = &self.broken {
            return PgError::NotSent(Box::new(error.clone()));
        }
        let request = self.flights.find(ticket).and_then(|index| self.flights.get(index));
        match (request, self.flights.front_error()) {
            (Some(request), Some(error)) if matches!(request.kind, Kind::CopyIn { .. }) => {
                error.clone().with_query(request.sql.text())
            }
            _ => PgError::Usage(
                "no COPY FROM STDIN takes data under this ticket: it has ended, or is another \
                 request; nothing was sent"
                    .to_owned(),
            ),
        }
    }
}

/// Takes a message of the kinds that only a COPY is answered by, for a COPY that may wait for it.
pub(super) fn step_copy(
    request: &mut InFlight,
    pending: &mut VecDeque<Event<'static>>,
    answer: Backend<'_>,
    at: Message,
) -> PgResult<Step> {
    let (ticket, tells) = (request.ticket, request.delivery.tells_rows());
    let begins = |response: CopyResponse<'_>| {
        let format = if response.format == 0 { Format::Text } else { Format::Binary };
        (format, response.columns.filter(Result::is_ok).count())
    };
    match (&mut request.kind, request.phase, answer) {
        (Kind::CopyIn { .. }, Phase::CopyStart, Backend::CopyInResponse(response)) => {
            request.phase = Phase::CopyIn;
            let (format, columns) = begins(response);
            pending.extend(tells.then_some(Event::CopyIn { ticket, format, columns }));
        }
        (Kind::CopyOut { .. }, Phase::CopyStart, Backend::CopyOutResponse(response)) => {
            request.phase = Phase::CopyData;
            let (format, columns) = begins(response);
            pending.extend(tells.then_some(Event::CopyOut { ticket, format, columns }));
        }
        (_, Phase::CopyData, Backend::CopyData(_)) => return Ok(request.copied()),
        (_, Phase::CopyData, Backend::CopyDone) => request.phase = Phase::CopyEnd,
        _ => return Err(out_of_place(at.tag)),
    }
    Ok(Step::Consumed)
}

impl InFlight {
    /// Data of this COPY have come.
    #[inline]
    pub(super) fn copied(&mut self) -> Step {
        if let Kind::CopyOut { progress } = &mut self.kind {
            progress.received = true;
        }
        if self.delivery.tells_rows() { Step::CopyData } else { Step::Consumed }
    }

    /// Whether a command is complete with this answer, when everything before byte `sent` has left.
    pub(super) fn is_command_end(&self, answer: Backend<'_>, sent: u64) -> bool {
        match (self.phase, answer) {
            (Phase::PortalRows | Phase::Command, Backend::EmptyQueryResponse) => true,
            // Not before its data have ended, and gone.
            (Phase::CopyIn, Backend::CommandComplete { .. }) => {
                !self.takes_data() && self.bytes.end <= sent
            }
            (phase, Backend::CommandComplete { .. }) => matches!(
                phase,
                Phase::PortalRows
                    | Phase::Command
                    | Phase::CommandRows
                    | Phase::CopyOut
                    | Phase::CopyEnd
            ),
            _ => false,
        }
    }

    /// Whether it is a COPY FROM STDIN whose data have not ended.
    #[inline]
    pub(super) fn takes_data(&self) -> bool {
        matches!(self.kind, Kind::CopyIn { open: true, .. })
    }

    /// Whether it is a COPY FROM STDIN that the program has failed: then the server's 57014 is its
    /// answer to that.
    pub(super) fn is_failed_copy(&self) -> bool {
        matches!(self.kind, Kind::CopyIn { failed: true, .. })
    }

    /// The end of what the server needs to run it. The data of a COPY are not among it: the server
    /// may be busy with what it has of them, and not read on.
    pub(super) fn end_of_statement(&self) -> u64 {
        match self.kind {
            Kind::CopyIn { statement: Some(length), .. } => self.bytes.start + u64::from(length),
            _ => self.bytes.end,
        }
    }

    /// Whether it is a COPY through the connection.
    pub(super) fn is_copy(&self) -> bool {
        matches!(self.kind, Kind::CopyIn { .. } | Kind::CopyOut { .. })
    }
}

impl Flights {
    /// Whether the last request is a COPY FROM STDIN whose data have not ended, so that nothing may
    /// follow it.
    #[inline]
    pub(super) fn takes_data(&self) -> bool {
        self.may_take_data && self.last().is_some_and(InFlight::takes_data)
    }

    /// The last request, a COPY FROM STDIN, has grown up to the byte before the one numbered `end`.
    fn grow_last(&mut self, end: u64) {
        let Some(last) = self.last_mut() else { return };
        let length = last.bytes.end - last.bytes.start;
        if let Kind::CopyIn { statement, .. } = &mut last.kind {
            // Nothing stood behind it so far. No message is longer than a `u32` tells.
            statement.get_or_insert(u32::try_from(length).unwrap_or(u32::MAX));
        }
        last.bytes.end = end;
    }
}
