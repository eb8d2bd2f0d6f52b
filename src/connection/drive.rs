//! Moving bytes between the engine and the socket, and waiting.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::PgConnection;
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
    /// Runs one request to its end.
    pub(super) fn run(&mut self, request: Request<'_>) -> PgResult<Outcome> {
        let deadline = Deadline::after(Instant::now(), "io_timeout", self.io_timeout);
        let ticket = self.engine.submit(request, Delivery::Collect, deadline)?;
        let outcome = self.finish(ticket)?;
        self.last_tag = outcome.last().tag();
        Ok(outcome)
    }

    /// Moves bytes and waits until a collected request is finished.
    fn finish(&mut self, ticket: Ticket) -> PgResult<Outcome> {
        loop {
            let taken = self.take_events();
            if let Some(outcome) = self.engine.take(ticket)? {
                return Ok(outcome);
            }
            taken?;
            self.turn()?;
        }
    }

    /// One turn of every blocking loop: send, receive, and if nothing came, wait for what the engine
    /// wants.
    pub(super) fn turn(&mut self) -> PgResult<()> {
        if self.send() != Moved::End && self.receive() == Moved::Nothing {
            self.wait(self.engine.deadline())?;
        }
        // Also when bytes keep coming: a deadline is for the whole operation.
        let now = Instant::now();
        if self.engine.deadline().is_some_and(|deadline| deadline <= now) {
            self.engine.handle_timeout(now);
        }
        Ok(())
    }

    /// Sends what the socket takes now.
    fn send(&mut self) -> Moved {
        let pending = self.engine.send_pending();
        if pending.is_empty() {
            return Moved::Nothing;
        }
        match self.socket.send(pending) {
            Ok(count) => {
                self.engine.sent(count);
                Moved::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Moved::Nothing,
            Err(error) => {
                // The server may have said why before it hung up.
                while let Moved::Bytes(_) = self.receive() {}
                self.engine.hung_up(Some(error));
                Moved::End
            }
        }
    }

    /// Receives what is there.
    fn receive(&mut self) -> Moved {
        match self.socket.recv(self.engine.recv_space()) {
            Ok(0) => {
                self.engine.hung_up(None);
                Moved::End
            }
            Ok(count) => {
                self.engine.received(count);
                Moved::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Moved::Nothing,
            Err(error) => {
                self.engine.hung_up(Some(error));
                Moved::End
            }
        }
    }

    /// Waits until the socket is ready for what the engine wants or `until` has come; says whether
    /// it is ready.
    pub(super) fn wait(&self, until: Option<Instant>) -> PgResult<bool> {
        let interest = self.engine.interest();
        let source = Source { fd: self.socket.as_fd(), read: interest.read, write: interest.write };
        Ok(wait(Some(source), until)?)
    }

    /// Takes all events that the received bytes mean.
    pub(super) fn take_events(&mut self) -> PgResult<()> {
        while let Some(event) = self.engine.next_event()? {
            match event {
                Event::Notice(notice) => match &mut self.notice_handler {
                    Some(handler) => handler(&notice),
                    None => Self::keep(&mut self.notices, &mut self.dropped_messages, *notice),
                },
                Event::Notification(notification) => {
                    let queue = &mut self.notifications;
                    Self::keep(queue, &mut self.dropped_messages, notification);
                }
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
        let deadline = Instant::now().checked_add(timeout);
        loop {
            self.send();
            match self.try_fill_read_buf() {
                Err(PgError::WouldBlock) => {}
                other => return other,
            }
            self.wait_until(deadline, timeout, "waiting for bytes from the server")?;
        }
    }

    /// Waits until all queued output is sent. Bytes that come meanwhile are taken in, so that two
    /// sides that are both busy with sending cannot lock each other.
    ///
    /// # Errors
    ///
    /// [`PgError::Timeout`] when output is left after `timeout`; the connection stays as it is.
    /// What broke the connection, when it is broken.
    pub fn poll_write(&mut self, timeout: Duration) -> PgResult<()> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            self.send();
            self.take_events()?;
            if self.engine.send_pending().is_empty() {
                return Ok(());
            }
            match self.try_fill_read_buf() {
                Err(PgError::WouldBlock) => {}
                other => {
                    other?;
                    continue;
                }
            }
            self.wait_until(deadline, timeout, "sending queued output")?;
        }
    }

    /// Waits for the socket; [`PgError::Timeout`] when `deadline` comes first.
    fn wait_until(
        &self,
        deadline: Option<Instant>,
        value: Duration,
        doing: &'static str,
    ) -> PgResult<()> {
        if self.wait(deadline)? {
            return Ok(());
        }
        Err(PgError::Timeout(Box::new(Timeout { setting: "timeout", value, doing })))
    }
}
