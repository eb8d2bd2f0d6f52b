//! Submit, events, results: the non-blocking face. The [type](PgConnection) has the contract.

use std::time::Instant;

use super::{Delivery, Event, PgConnection, Request, Submit, Ticket};
use crate::engine::{Engine, Outcome, Step};
use crate::error::{PgError, PgResult};

impl PgConnection {
    /// Queues a request, as a group of its own; never waits. It has
    /// [`io_timeout`](Self::io_timeout) to be answered.
    ///
    /// Requests are sent and answered in order; many may be queued before the first is answered.
    /// Call [`flush`](Self::flush) or [`drive`](Self::drive) to send them.
    ///
    /// # Errors
    ///
    /// As [`Engine::submit`]; nothing is queued then. For [`PgError::WouldBlock`](crate::PgError) that is:
    /// drive, take events and outcomes, and submit again; if it is an open group that fills the limit,
    /// [`end_group`](Self::end_group) comes first.
    #[inline]
    pub fn submit(&mut self, request: Request<'_>, delivery: Delivery) -> PgResult<Ticket> {
        let deadline = self.operation_deadline();
        self.submit_with(request, Submit::new(delivery).deadline(deadline))
    }

    /// [`submit`](Self::submit) with all that can be said: another deadline or none, another
    /// execution mode, no Sync.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    #[inline]
    pub fn submit_with(&mut self, request: Request<'_>, submit: Submit) -> PgResult<Ticket> {
        if self.copy.is_some() {
            return self.submit_behind_copy(request, submit);
        }
        self.engine.submit(request, submit)
    }

    /// [`submit_with`](Self::submit_with) while a COPY of a blocking call is not known to be over.
    #[cold]
    fn submit_behind_copy(&mut self, request: Request<'_>, submit: Submit) -> PgResult<Ticket> {
        match self.engine.submit(request, submit) {
            Err(PgError::Busy) => {
                self.give_up_forgotten_copy();
                self.engine.submit(request, submit)
            }
            other => other,
        }
    }

    /// Ends the group of the requests that were submitted without a Sync
    /// ([`Submit::no_sync`]); does nothing if none is open.
    pub fn end_group(&mut self) {
        self.engine.end_group();
    }

    /// Queues data of a [`Request::CopyIn`]; never waits. They can begin at once, before
    /// [`Event::CopyIn`], and be cut anywhere. Call [`flush`](Self::flush) or [`drive`](Self::drive)
    /// to send them.
    ///
    /// A COPY has its deadline for each step, not for the whole: it is late only when nothing has
    /// moved for that time, and not while it is the program that is waited for.
    ///
    /// ```no_run
    /// # use chopin_pg::{Delivery, PgConfig, PgConnection, PgError, PgResult, Request};
    /// # fn main() -> PgResult<()> {
    /// # let mut connection = PgConnection::connect(&PgConfig::from_url("")?)?;
    /// # let mut lines = ["1\tone\n", "2\ttwo\n"].into_iter();
    /// let request = Request::CopyIn { sql: "copy t from stdin" };
    /// let ticket = connection.submit(request, Delivery::Events)?;
    /// for line in lines {
    ///     while let Err(PgError::WouldBlock) = connection.copy_data(ticket, line.as_bytes()) {
    ///         // Enough is queued. Here the event loop has its turn.
    ///         # let _ = connection.drive();
    ///     }
    /// }
    /// connection.copy_done(ticket)?;
    /// // Event::Complete or Event::Failed ends it.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Engine::copy_data`]; nothing is queued then. For
    /// [`PgError::WouldBlock`](crate::PgError) that is: drive, take events, and try again. Once the
    /// server has ended the COPY, its error.
    pub fn copy_data(&mut self, ticket: Ticket, data: &[u8]) -> PgResult<()> {
        self.engine.copy_data(ticket, data)
    }

    /// The data of a [`Request::CopyIn`] are complete; its ticket ends with the server's answer.
    ///
    /// # Errors
    ///
    /// As [`Engine::copy_done`].
    pub fn copy_done(&mut self, ticket: Ticket) -> PgResult<()> {
        self.engine.copy_done(ticket)
    }

    /// Gives a [`Request::CopyIn`] up: the server keeps nothing of it, and its ticket fails with an
    /// error that has `reason` in its text.
    ///
    /// # Errors
    ///
    /// As [`Engine::copy_fail`].
    pub fn copy_fail(&mut self, ticket: Ticket, reason: &str) -> PgResult<()> {
        self.engine.copy_fail(ticket, reason)
    }

    /// The next event, `None` when there is none until more has been received.
    ///
    /// # Errors
    ///
    /// What broke the connection, once every ticket has got its terminal event.
    #[inline]
    pub fn next_event(&mut self) -> PgResult<Option<Event<'_>>> {
        if self.may_have_kept {
            if let Some(event) = self.kept_event() {
                return Ok(Some(event));
            }
        }
        match self.engine.advance() {
            Step::Starved => Ok(None),
            // The two that come most often are not looked at a second time.
            Step::Row => {
                let ticket = self.engine.whose();
                Ok(self.engine.row().map(|row| Event::Row { ticket, row }))
            }
            Step::Complete => Ok(Some(Event::Complete { ticket: self.engine.whose() })),
            Step::Pending => Ok(self.pending_event()),
            Step::Broken => Err(self.during_login(self.engine.breakage())),
            step => Ok(self.engine.event(step)),
        }
    }

    /// The next of the events that were met during blocking calls.
    #[cold]
    fn kept_event(&mut self) -> Option<Event<'static>> {
        if let Some(event) = self.set_aside.pop_front() {
            return Some(event);
        }
        self.may_have_kept = false;
        let count = self.dropped_messages() - self.dropped_told;
        self.dropped_told += count;
        (count > 0).then_some(Event::MessagesDropped { count })
    }

    /// The next of the events that stand in no received byte.
    fn pending_event(&mut self) -> Option<Event<'_>> {
        let event = self.engine.own_event(Step::Pending);
        match (&event, &mut self.notice_handler) {
            (Some(Event::Ready), _) => self.in_login = false,
            (Some(Event::Notice(notice)), Some(handler)) => handler(notice),
            _ => {}
        }
        event
    }

    /// The finished result of a request with [`Delivery::Collect`], once; `None` while there is
    /// none. It is there when the request's terminal event has come. One that came during a blocking
    /// call is kept for [`next_event`](Self::next_event), so call that from time to time too.
    ///
    /// # Errors
    ///
    /// Why the request failed.
    #[inline]
    pub fn take(&mut self, ticket: Ticket) -> PgResult<Option<Outcome>> {
        self.engine.take(ticket)
    }

    /// Nobody wants the answer to `ticket` any more; no event comes for it from now on. What was
    /// sent is done all the same, its answer is drained when it comes, and counts as in flight until
    /// then. If it has not ended within [`drain_timeout`](crate::PgConfig::drain_timeout) it is
    /// cancelled as if it had timed out. To end it at once, use a
    /// [`cancel_token`](Self::cancel_token) while it is at the front.
    pub fn discard(&mut self, ticket: Ticket) {
        let patience = self.patience();
        self.set_aside.retain(|event| event.ticket() != Some(ticket));
        self.engine.discard(ticket, patience);
    }

    /// Nobody wants the answer to `ticket` any more, but what it does is wanted: it is sent in any
    /// case.
    pub(super) fn disown(&mut self, ticket: Ticket) {
        self.set_aside.retain(|event| event.ticket() != Some(ticket));
        self.engine.disown(ticket);
    }

    /// Nobody wants more of the rows of `ticket`, a stream's.
    pub(super) fn stop(&mut self, ticket: Ticket) {
        self.set_aside.retain(|event| event.ticket() != Some(ticket));
        self.engine.stop(ticket, Instant::now());
    }

    /// How many requests are unanswered, those included that nobody wants any more.
    pub fn in_flight(&self) -> usize {
        self.engine.in_flight()
    }

    /// The machine under the connection, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}
