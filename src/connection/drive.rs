//! Moving bytes between the engine and the socket, and waiting.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::{CommandTag, PgConnection};
use crate::engine::{Deadline, Delivery, Event, Outcome, Request, Ticket};
use crate::error::{PgError, PgResult, Timeout};
use crate::net::{Source, wait};

/// What became of one attempt to move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    /// This many bytes moved, at least one.
    Bytes(usize),
    /// The socket is not ready.
    Nothing,
    /// The connection has ended, and the engine knows.
    End,
}

impl Moved {
    /// The number of bytes; an end has been told as the engine's error already.
    fn bytes(self) -> PgResult<usize> {
        match self {
            Self::Bytes(count) => Ok(count),
            Self::Nothing | Self::End => Err(PgError::WouldBlock),
        }
    }
}

impl PgConnection {
    /// Runs a command to its end, and keeps its tag.
    pub(super) fn run(&mut self, request: Request<'_>) -> PgResult<Outcome> {
        self.last_tag = CommandTag::EMPTY;
        let outcome = self.ask(request)?;
        self.last_tag = outcome.last().tag();
        Ok(outcome)
    }

    /// Brings one request to its end. One that is no command leaves the last command's tag alone.
    pub(super) fn ask(&mut self, request: Request<'_>) -> PgResult<Outcome> {
        let deadline = Deadline::after(Instant::now(), "io_timeout", self.io_timeout);
        let ticket = self.engine.submit(request, Delivery::Collect, deadline)?;
        self.finish(ticket)
    }

    /// Moves bytes and waits until a collected request is finished.
    fn finish(&mut self, ticket: Ticket) -> PgResult<Outcome> {
        self.turn();
        loop {
            let taken = self.take_events();
            if let Some(outcome) = self.engine.take(ticket)? {
                return Ok(outcome);
            }
            taken?;
            if !self.something_is_late() {
                self.turn();
            }
        }
    }

    /// One turn of every blocking loop: send, receive; if nothing came, wait for what the engine
    /// wants, and receive what came then.
    pub(super) fn turn(&mut self) {
        self.send();
        if self.receive() == Moved::Nothing && self.wait(self.engine.deadline()) {
            self.receive();
        }
    }

    /// Ends what has taken too long; whether there was something, so that there are events to take.
    ///
    /// Comes after the events of what has been received: an answer that is here is not late.
    pub(super) fn something_is_late(&mut self) -> bool {
        let Some(deadline) = self.engine.deadline() else {
            return false;
        };
        let now = Instant::now();
        if deadline <= now && !self.give_up_sending() {
            self.engine.handle_timeout(now);
        }
        deadline <= now
    }

    /// Ends the connection if nothing can be sent any more, and nothing more was heard since;
    /// whether that was so.
    pub(super) fn give_up_sending(&mut self) -> bool {
        let error = self.send_error.take();
        let failed = error.is_some();
        if failed {
            self.engine.hung_up(error);
        }
        failed
    }

    /// Sends what the socket takes now.
    fn send(&mut self) -> Moved {
        let pending = self.engine.send_pending();
        if pending.is_empty() || self.send_error.is_some() {
            return Moved::Nothing;
        }
        match self.socket.send(pending) {
            Ok(count) => {
                self.engine.sent(count);
                Moved::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Moved::Nothing,
            Err(error) => {
                // The server may have said why before it hung up: it is read to the end first.
                self.send_error = Some(error);
                Moved::Nothing
            }
        }
    }

    /// Receives what is there.
    fn receive(&mut self) -> Moved {
        let error = match self.socket.recv(self.engine.recv_space()) {
            Ok(0) => None,
            Ok(count) => {
                self.engine.received(count);
                return Moved::Bytes(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Moved::Nothing,
            Err(error) => Some(error),
        };
        self.engine.hung_up(self.send_error.take().or(error));
        Moved::End
    }

    /// Waits until the socket is ready for what the engine wants or `until` has come; says whether
    /// it is ready.
    fn wait(&mut self, until: Option<Instant>) -> bool {
        let interest = self.engine.interest();
        let write = interest.write && self.send_error.is_none();
        let source = Source { fd: self.socket.as_fd(), read: interest.read, write };
        wait(Some(source), until).unwrap_or_else(|error| {
            self.engine.hung_up(Some(error));
            true
        })
    }

    /// Takes all events that the received bytes mean.
    pub(super) fn take_events(&mut self) -> PgResult<()> {
        while let Some(event) = self.engine.next_event()? {
            match event {
                Event::Notice(notice) => match &mut self.notice_handler {
                    Some(handler) => handler(&notice),
                    None => self.notices.keep(*notice),
                },
                Event::Notification(notification) => self.notifications.keep(notification),
                // Results are collected, parameters are kept by the session, and `Ready` shows in
                // `is_ready`.
                _ => {}
            }
        }
        Ok(())
    }

    /// Receives what the socket has at this moment and takes it in; returns the number of bytes.
    /// Never waits.
    ///
    /// What came is looked at: notices and notifications are kept, and the end of the session is
    /// noticed.
    ///
    /// # Errors
    ///
    /// [`PgError::WouldBlock`] when there is nothing. What broke the connection, when it is broken.
    pub fn try_fill_read_buf(&mut self) -> PgResult<usize> {
        self.take_events()?;
        let moved = self.receive();
        self.take_events()?;
        moved.bytes()
    }

    /// Sends as much of the queued output as the socket takes at this moment; returns the number of
    /// bytes, 0 when nothing is queued. Never waits.
    ///
    /// # Errors
    ///
    /// [`PgError::WouldBlock`] when the socket takes nothing. What broke the connection, when it is
    /// broken.
    pub fn try_write(&mut self) -> PgResult<usize> {
        if self.engine.send_pending().is_empty() {
            return self.take_events().map(|()| 0);
        }
        let moved = self.send();
        self.take_events()?;
        moved.bytes()
    }

    /// Waits until bytes from the server are here and takes them in; returns their number. Queued
    /// output keeps moving meanwhile.
    ///
    /// # Errors
    ///
    /// [`PgError::Timeout`] when nothing came within `timeout`; the connection stays as it is. What
    /// broke the connection, when it is broken.
    pub fn poll_read(&mut self, timeout: Duration) -> PgResult<usize> {
        self.poll(timeout, "waiting for bytes from the server", |connection| {
            connection.send();
            match connection.try_fill_read_buf() {
                Err(PgError::WouldBlock) => Ok(None),
                other => other.map(Some),
            }
        })
    }

    /// Waits until all queued output is sent. Bytes that come meanwhile are taken in, so that two
    /// sides that are both busy with sending cannot lock each other.
    ///
    /// # Errors
    ///
    /// [`PgError::Timeout`] when output is left after `timeout`; the connection stays as it is.
    /// What broke the connection, when it is broken.
    pub fn poll_write(&mut self, timeout: Duration) -> PgResult<()> {
        self.poll(timeout, "sending queued output", |connection| {
            connection.send();
            match connection.try_fill_read_buf() {
                Ok(_) | Err(PgError::WouldBlock) => {}
                Err(error) => return Err(error),
            }
            Ok(connection.engine.send_pending().is_empty().then_some(()))
        })
    }

    /// Repeats `attempt`, waiting in between for what the engine wants, until it gives something or
    /// `timeout` is over.
    fn poll<T>(
        &mut self,
        timeout: Duration,
        doing: &'static str,
        mut attempt: impl FnMut(&mut Self) -> PgResult<Option<T>>,
    ) -> PgResult<T> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(done) = attempt(self)? {
                return Ok(done);
            }
            if self.something_is_late() {
                continue;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                if self.give_up_sending() {
                    continue;
                }
                let timeout = Timeout { setting: "timeout", value: timeout, doing };
                return Err(PgError::Timeout(Box::new(timeout)));
            }
            self.wait([deadline, self.engine.deadline()].into_iter().flatten().min());
        }
    }
}
