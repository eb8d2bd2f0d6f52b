//! The loop of every blocking call: submit, move bytes, take events, wait.

use std::time::Instant;

use super::within::Limit;
use super::{CommandTag, Deadline, Delivery, Event, PgConnection, Submit, Ticket};
use crate::config::ExecutionMode;
use crate::engine::{IO_TIMEOUT, Outcome, Request, Step};
use crate::error::{PgError, PgResult};

impl PgConnection {
    /// Runs a command to its end, and keeps its tag.
    #[inline]
    pub(super) fn run(&mut self, request: Request<'_>) -> PgResult<Outcome> {
        self.run_in(None, request)
    }

    /// [`run`](Self::run) in another mode than the connection's.
    #[inline]
    pub(super) fn run_in(
        &mut self,
        mode: Option<ExecutionMode>,
        request: Request<'_>,
    ) -> PgResult<Outcome> {
        self.last_tag = CommandTag::EMPTY;
        let outcome = self.ask_in(mode, request)?;
        self.last_tag = outcome.last().tag();
        Ok(outcome)
    }

    /// Brings one request to its end. One that is no command leaves the last command's tag alone.
    pub(super) fn ask(&mut self, request: Request<'_>) -> PgResult<Outcome> {
        self.ask_in(None, request)
    }

    /// [`ask`](Self::ask) in another mode than the connection's.
    #[inline]
    pub(super) fn ask_in(
        &mut self,
        mode: Option<ExecutionMode>,
        request: Request<'_>,
    ) -> PgResult<Outcome> {
        let mut submit = Submit::new(Delivery::Collect).deadline(self.begin_operation());
        submit.mode = mode;
        let ticket = self.submit_blocking(request, submit)?;
        self.finish(ticket)
    }

    /// The mode of a request of our own with parameters: another than the connection's if that is the
    /// simple one, which has none.
    pub(crate) fn mode_for_params(&self) -> Option<ExecutionMode> {
        let is_simple = self.execution_mode() == ExecutionMode::Simple;
        is_simple.then_some(ExecutionMode::Unnamed)
    }

    /// The deadline of an operation that begins now: in [`io_timeout`](Self::io_timeout), or that of
    /// the [scope](Self::within). For [`submit_with`](Self::submit_with).
    pub fn operation_deadline(&self) -> Option<Deadline> {
        match self.limit {
            Limit::IoTimeout => Deadline::after(Instant::now(), IO_TIMEOUT, self.io_timeout),
            Limit::Scope(deadline) => deadline,
        }
    }

    /// [`operation_deadline`](Self::operation_deadline) for a call that waits next.
    #[inline]
    pub(super) fn begin_operation(&mut self) -> Option<Deadline> {
        let deadline = self.operation_deadline();
        let is_whole = matches!(self.limit, Limit::IoTimeout);
        self.fresh = deadline.filter(|_| is_whole).map(|limit| (limit.at, self.io_timeout));
        deadline
    }

    /// How long what nobody wants any more may take to come to its end.
    pub(super) fn patience(&self) -> Option<Deadline> {
        Deadline::after(Instant::now(), "drain_timeout", self.drain_timeout)
    }

    /// Queues the request of a blocking call; waits for room if a limit is reached.
    #[inline(always)]
    pub(super) fn submit_blocking(
        &mut self,
        request: Request<'_>,
        submit: Submit,
    ) -> PgResult<Ticket> {
        self.begin_call()?;
        let submitted = self.engine.submit(request, submit);
        if let Err(PgError::WouldBlock) = submitted {
            return self.submit_when_possible(request, submit);
        }
        submitted
    }

    /// [`submit_blocking`](Self::submit_blocking) when a limit is reached.
    #[cold]
    fn submit_when_possible(&mut self, request: Request<'_>, submit: Submit) -> PgResult<Ticket> {
        let deadline = submit.deadline.or_else(|| self.operation_deadline());
        // The data of a COPY that the server has ended may still be on their way.
        while self.engine.in_flight() > 0 || self.engine.unsent() > 0 {
            self.wait_for_room(deadline)?;
            match self.engine.submit(request, submit) {
                Err(PgError::WouldBlock) => {}
                other => return other,
            }
        }
        Err(PgError::WouldBlock)
    }

    /// A blocking call that asks the server for something begins, if it may be made.
    #[inline]
    pub(super) fn begin_call(&mut self) -> PgResult<()> {
        if self.engine.in_flight() > 0 {
            return self.begin_call_behind_others();
        }
        self.check_no_open_group()
    }

    /// [`begin_call`](Self::begin_call) while something is unanswered.
    #[cold]
    fn begin_call_behind_others(&mut self) -> PgResult<()> {
        self.check_not_busy()?;
        self.check_no_open_group()?;
        if self.engine.in_flight() > 0 {
            // While the program did something else nobody has looked for late answers.
            self.engine.renew_patience(Instant::now());
        }
        Ok(())
    }

    /// Whether a blocking call may be made: not while events are to be taken that it would swallow.
    #[inline]
    pub(super) fn check_not_busy(&mut self) -> PgResult<()> {
        if self.engine.in_flight() > 0 {
            self.give_up_forgotten_copy();
            if self.engine.has_event_requests() {
                return Err(PgError::Busy);
            }
        }
        Ok(())
    }

    /// Whether a blocking call would become part of a group that the program has not ended.
    #[inline]
    pub(super) fn check_no_open_group(&self) -> PgResult<()> {
        if self.engine.has_open_group() { Err(group_is_open()) } else { Ok(()) }
    }

    /// Moves bytes and waits until a collected request is finished.
    #[inline]
    pub(super) fn finish(&mut self, ticket: Ticket) -> PgResult<Outcome> {
        loop {
            self.turn(None);
            let taken = self.take_events_but(Some(ticket));
            if let Some(outcome) = self.engine.take(ticket)? {
                return Ok(outcome);
            }
            taken?;
            while self.something_is_late() {
                let taken = self.take_events_but(Some(ticket));
                if let Some(outcome) = self.engine.take(ticket)? {
                    return Ok(outcome);
                }
                taken?;
            }
        }
    }

    /// Takes all events that the received bytes mean.
    pub(super) fn take_events(&mut self) -> PgResult<()> {
        self.take_events_but(None)
    }

    /// Takes all events that the received bytes mean, but for the terminal one of `own`.
    #[inline]
    fn take_events_but(&mut self, own: Option<Ticket>) -> PgResult<()> {
        loop {
            match self.engine.advance() {
                Step::Starved => return Ok(()),
                Step::Broken => return Err(self.engine.breakage()),
                Step::Complete if Some(self.engine.whose()) == own => {}
                step => match self.engine.own_event(step) {
                    Some(event) if event.is_end_of(own) => {}
                    Some(event) => self.keep_event(event),
                    // Results are collected.
                    None => {}
                },
            }
        }
    }

    /// Keeps an event that is not about the call that is being made: the end of another request
    /// for [`next_event`](Self::next_event), messages until they are fetched.
    pub(super) fn keep_event(&mut self, event: Event<'static>) {
        self.may_have_kept = true;
        match event {
            Event::Complete { .. } | Event::Failed { .. } => self.set_aside.push_back(event),
            Event::Notice(notice) => match &mut self.notice_handler {
                Some(handler) => handler(&notice),
                None => self.notices.keep(*notice),
            },
            Event::Notification(notification) => self.notifications.keep(notification),
            Event::Ready => self.in_login = false,
            // Parameters are kept by the session.
            _ => {}
        }
    }
}

#[cold]
fn group_is_open() -> PgError {
    PgError::Usage(
        "a group of requests is open, which this would belong to: call end_group first".to_owned(),
    )
}
