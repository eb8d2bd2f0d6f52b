//! Queueing requests: limits, groups, and taking back what could not be written.
//!
//! A request either stands in the send buffer as a whole, or not at all: whatever fails on the way
//! rolls the buffer back to where it was.

use super::Engine;
use super::event::{Delivery, Ticket};
use super::flight::{Aside, Execute, Kind, Sql, Standing};
use super::prepared::Description;
use super::request::{Request, Submit};
use super::statement::Statement;
use super::write::Written;
use crate::config::ExecutionMode;
use crate::error::{PgError, PgResult};
use crate::types::{BindValues, Bound, Params};
use crate::wire::frontend::{self, Unwritable};

impl Engine {
    /// Queues a request; never waits for the server. Its bytes are pending to be sent.
    ///
    /// # Errors
    ///
    /// Nothing is queued and nothing will be sent when
    /// - the connection is broken ([`PgError::NotSent`]),
    /// - it is not ready yet, or a limit is reached: `max_in_flight` requests are unanswered or
    ///   their results not taken, or `max_send_buffer` bytes wait to be sent
    ///   ([`PgError::WouldBlock`]: take events, send, and try again),
    /// - it would join an open group that was taken back because the time of one of its requests was
    ///   over ([`PgError::NotSent`]; the next group begins behind the request with a Sync, or
    ///   [`end_group`](Self::end_group)),
    /// - a [`Request::CopyIn`] stands before it whose data have not ended ([`PgError::Busy`]),
    /// - a parameter cannot be encoded ([`PgError::Parameter`]) or the number of parameters is not
    ///   the statement's,
    /// - the text contains a NUL byte, is a COPY from STDIN or to STDOUT, the message would be
    ///   longer than the protocol allows, or the request cannot stand where it is to stand
    ///   ([`PgError::Usage`]).
    #[inline]
    pub fn submit(&mut self, request: Request<'_>, submit: Submit) -> PgResult<Ticket> {
        if self.lost_group.is_some() {
            return Err(self.refuse_lost(submit.sync || matches!(request, Request::Sync)));
        }
        self.check_submit()?;
        let start = self.send.end();
        let draft = Draft { engine: self, start };
        let ticket = draft.engine.submit_checked(request, &submit)?;
        draft.keep();
        Ok(ticket)
    }

    /// [`submit`](Self::submit) of a request that may be queued. If it fails, it leaves to the
    /// caller what it has written.
    #[inline]
    fn submit_checked(&mut self, request: Request<'_>, submit: &Submit) -> PgResult<Ticket> {
        let mode = submit.mode.unwrap_or(self.mode);
        if mode == ExecutionMode::Cached
            && (self.flights.is_open() || !self.prepared.has_unwanted())
        {
            // The usual case: a statement that the server has, and whose columns are known.
            let known = match request {
                Request::Query { sql, params } => {
                    self.catalogue.find(sql, params).map(|statement| (statement, params))
                }
                Request::Execute { statement, params } => Some((statement.clone(), params)),
                _ => None,
            };
            if let Some((statement, params)) = known {
                if let Some(ticket) = self.submit_known(statement, params, submit)? {
                    return Ok(ticket);
                }
            }
        }
        self.submit_any(request, submit)
    }

    /// [`submit`](Self::submit) of a statement that may be known on this connection; `None` if it
    /// has to be parsed or described first, or does not take such parameters.
    #[inline]
    fn submit_known(
        &mut self,
        statement: Statement,
        params: &dyn Params,
        submit: &Submit,
    ) -> PgResult<Option<Ticket>> {
        let Some(known) = self.prepared.get(&statement).filter(|known| known.parsing.is_none())
        else {
            return Ok(None);
        };
        let Some(Description { columns, template: Some(template), .. }) = &known.description else {
            return Ok(None);
        };
        let bytes_before = self.send.end();
        let buf = self.send.writer();
        let start = buf.len();
        let formats = template.begin(buf);
        let mut values = BindValues::new(buf, formats, statement.params());
        params.bind(&mut values)?;
        match values.end() {
            Bound::Whole => template.end(buf, start, submit.sync)?,
            Bound::TooLong => return Err(Unwritable::TooLong.into()),
            Bound::Misfit => {
                buf.truncate(start);
                return Ok(None);
            }
        }
        let name = Some(known.name);
        let (parse, describe, known, sets_left) = (false, false, true, 0);
        let kind = Kind::Execute(Execute { parse, name, describe, known, sets_left, batch: false });
        let columns = columns.clone();
        self.tickets += 1;
        let (ticket, bytes) = (Ticket(self.tickets), bytes_before..self.send.end());
        let mut request = self.flights.new_request();
        request.begin(ticket, kind, Sql::Statement(statement), submit, bytes);
        request.columns = columns;
        self.clock.notice(submit.deadline);
        self.flights.push(request);
        Ok(Some(ticket))
    }

    /// [`submit`](Self::submit) of any request.
    #[inline(never)]
    fn submit_any(&mut self, request: Request<'_>, submit: &Submit) -> PgResult<Ticket> {
        Self::check_delivery(&request, submit)?;
        let bytes_before = self.send.end();
        if let Request::Close { statement } = request {
            self.prepared.forget(statement);
        }
        // Close is written only here, directly after the Sync of the group before: in a failed
        // group it would be skipped. The simple protocol has none.
        let is_simple = match request {
            Request::Simple { .. } | Request::CopyIn { .. } | Request::CopyOut { .. } => true,
            Request::Query { .. } | Request::Batch { .. } => {
                submit.mode.unwrap_or(self.mode) == ExecutionMode::Simple
            }
            _ => false,
        };
        let mut closes = if self.flights.is_open() || is_simple {
            Vec::new()
        } else {
            self.prepared.take_unwanted()
        };
        let written = self.write(request, submit, &closes);
        let Written { kind, sql, declared, columns, has_sync } = match written {
            Ok(written) => written,
            Err(error) => {
                closes.drain(..).for_each(|unwanted| self.prepared.unwanted(unwanted));
                return Err(error);
            }
        };
        let sync = submit.sync || matches!(request, Request::Sync);
        if sync && !has_sync {
            frontend::sync(self.send.writer());
        }
        if let (Kind::Execute(Execute { parse: true, name: Some(name), .. }), Sql::Statement(sql)) =
            (&kind, &sql)
        {
            self.prepared.parsing(sql, *name, self.flights.next_group());
        }
        self.tickets += 1;
        self.clock.notice(submit.deadline);
        let (ticket, bytes) = (Ticket(self.tickets), bytes_before..self.send.end());
        let mut request = self.flights.new_request();
        request.begin(ticket, kind, sql, submit, bytes);
        request.ends_group = sync || has_sync;
        request.columns = columns;
        self.flights.may_take_data |= request.takes_data();
        if !declared.is_empty() || !closes.is_empty() {
            closes.reverse();
            *request.aside() = Aside { declared, closes, ..Aside::default() };
        }
        if matches!(request.kind, Kind::Fetch { .. }) {
            request.expect_rows();
        }
        request.phase = request.first_phase();
        self.flights.push(request);
        Ok(Ticket(self.tickets))
    }

    /// Queues statements that clean up after a dropped handle, such as ROLLBACK after a transaction:
    /// behind everything else, an open group included, which is ended. Limits do not count, nobody
    /// is told of the answer, and however long it takes, it is not taken back. Nothing but further
    /// cleanups is sent before it has ended. If a cancel hits it, it is written again.
    ///
    /// Does nothing when nothing can be sent any more: the end of the session cleans up then.
    pub(crate) fn submit_cleanup(&mut self, sql: &str) {
        if !self.takes_requests() {
            return;
        }
        if let Some(last) = self.flights.len().checked_sub(1) {
            // It would be taken for data.
            self.give_up_copy(last);
        }
        self.end_group();
        let start = self.send.end();
        let draft = Draft { engine: self, start };
        let submit = Submit::new(Delivery::Discard);
        if draft.engine.submit_any(Request::Simple { sql }, &submit).is_ok() {
            if let Some(request) = draft.engine.flights.last_mut() {
                request.standing = Standing::Cleanup { behind_hit: false };
            }
            draft.engine.clock.hold();
            draft.keep();
        }
    }

    /// Ends the open group with a Sync, if there is one: only then the server answers all of it,
    /// and its requests get their terminal events. Limits do not count.
    pub fn end_group(&mut self) {
        self.lost_group = None;
        if self.flights.is_open() && self.broken.is_none() {
            frontend::sync(self.send.writer());
            self.flights.end_group(self.send.end());
        }
    }

    /// Why a request cannot join a group that was taken back; it is the last one if it `ends` it.
    #[cold]
    fn refuse_lost(&mut self, ends: bool) -> PgError {
        let error = if ends { self.lost_group.take() } else { self.lost_group.clone() };
        PgError::NotSent(Box::new(error.unwrap_or(PgError::WouldBlock)))
    }

    /// Takes the open group back, if there is one and nothing of it was sent: none of its requests
    /// will be run, and no event tells of them. If a part was sent it is ended with a Sync.
    pub(crate) fn drop_open_group(&mut self) {
        if !self.flights.is_open() || self.take_back(self.flights.len().saturating_sub(1)).is_none()
        {
            self.end_group();
        }
    }

    /// Whether a group is open: the last request was submitted without a Sync.
    pub fn has_open_group(&self) -> bool {
        self.flights.is_open() || self.lost_group.is_some()
    }

    /// Whether anything may still be queued: startup is over, and the session is not.
    #[inline]
    fn takes_requests(&self) -> bool {
        self.startup.is_none() && self.broken.is_none() && !self.terminated
    }

    /// Why a request cannot be queued, if so.
    #[inline]
    fn check_submit(&self) -> PgResult<()> {
        if !self.takes_requests() {
            return Err(self.refusal());
        }
        if self.flights.len() + self.finished.len() >= self.limits.in_flight
            || self.send.unsent() > self.limits.send_buffer
        {
            return Err(PgError::WouldBlock);
        }
        if self.flights.takes_data() {
            return Err(PgError::Busy);
        }
        Ok(())
    }

    /// Why a request cannot be delivered so, if so.
    fn check_delivery(request: &Request<'_>, submit: &Submit) -> PgResult<()> {
        if submit.delivery == Delivery::Collect && matches!(request, Request::CopyOut { .. }) {
            return Err(PgError::Usage(
                "the data of a COPY are not collected: they come as events".to_owned(),
            ));
        }
        let makes_handle = matches!(request, Request::Prepare { .. } | Request::OpenCursor { .. });
        if submit.delivery.tells_rows() && makes_handle {
            return Err(PgError::Usage(
                "a statement is prepared and a cursor is opened with Delivery::Collect: no event \
                 carries it"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    #[cold]
    fn refusal(&self) -> PgError {
        match &self.broken {
            Some(error) => PgError::NotSent(Box::new(error.clone())),
            None if self.startup.is_some() => PgError::WouldBlock,
            None => PgError::NotSent(Box::new(was_terminated())),
        }
    }

    /// Queues a Terminate message behind what was begun; groups of which nothing was sent fail as
    /// [`PgError::NotSent`], and no more are taken.
    pub fn terminate(&mut self) {
        if !self.takes_requests() {
            return;
        }
        self.end_group();
        if let Some(last) = self.flights.len().checked_sub(1) {
            self.give_up_copy(last);
        }
        self.terminated = true;
        let mut index = 0;
        while index < self.flights.len() {
            match self.take_back(index) {
                Some(group) => {
                    for request in group {
                        self.fail(request, PgError::NotSent(Box::new(was_terminated())));
                    }
                }
                None => index = self.flights.group_of(index).end,
            }
        }
        frontend::terminate(self.send.writer());
    }
}

/// A request that is being written. Unless it is kept, nothing of it stays in the send buffer:
/// neither after an error nor when a parameter's own code panics.
struct Draft<'e> {
    engine: &'e mut Engine,
    /// The number of its first byte.
    start: u64,
}

impl Draft<'_> {
    #[inline]
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.engine.send.cut(self.start);
    }
}

#[cold]
fn was_terminated() -> PgError {
    PgError::ConnectionClosed("the connection was terminated from this side".to_owned())
}
