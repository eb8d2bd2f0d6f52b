//! Moving bytes between the engine and the socket, and waiting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::connect::cannot_connect;
use super::{PgConnection, Ticket};
use crate::engine::{Deadline, Interest};
use crate::error::{PgError, PgResult, Timeout};
use crate::net::{Connecting, Source, wait};

/// The most that one [`PgConnection::drive`] receives, in bytes.
const BUDGET: usize = 256 * 1024;

/// What is left to do after [`PgConnection::drive`], once its events have been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Drive {
    /// Nothing until a source is ready or the deadline has come.
    Idle,
    /// More, without waiting: the budget of one call is used up, or something is due whose answer
    /// may be among what has just come. Other connections may have their turn first.
    Again,
}

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

/// The non-blocking face: moving bytes. See the [type](PgConnection#the-non-blocking-face) for who
/// calls what, and when.
impl PgConnection {
    /// Moves bytes: sends what is pending, receives what is there, up to a budget; goes on with a
    /// connect; ends what has taken too long. Never waits.
    ///
    /// Take all events afterwards, also those that tell an error.
    pub fn drive(&mut self) -> Drive {
        if !self.proceed_connecting() {
            return Drive::Idle;
        }
        // Its answer was not among what came with the last call: now it is late.
        if let Some(at) = self.overdue.take() {
            self.engine.handle_timeout(at);
        }
        self.proceed_cancel();
        self.send();
        let mut received = 0;
        let mut last = None;
        while received < BUDGET && self.engine.interest().read {
            let moved = self.receive();
            last = Some(moved);
            match moved {
                Moved::Bytes(count) => received += count,
                Moved::Nothing | Moved::End => break,
            }
            if !self.engine.recv_was_filled() {
                break;
            }
        }
        // Not while there is no room to read: the server's last words may still be in the socket.
        if last == Some(Moved::Nothing) {
            self.give_up_sending();
        }
        let more = received >= BUDGET && self.engine.recv_was_filled();
        let if_past = |deadline| Some(Instant::now()).filter(|now| deadline <= *now);
        match self.engine.deadline().and_then(if_past) {
            // What has just come may be the answer that would be late otherwise.
            Some(now) if received > 0 => self.overdue = Some(now),
            Some(now) => {
                self.engine.handle_timeout(now);
                self.proceed_cancel();
            }
            None => {}
        }
        if more || self.overdue.is_some() { Drive::Again } else { Drive::Idle }
    }

    /// Sends what is pending, as much as the socket takes; receives nothing. Never waits. What is
    /// left goes with the next [`drive`](Self::drive).
    ///
    /// Call it after [`submit`](Self::submit): it saves the system call by which
    /// [`drive`](Self::drive) would find that there is no answer yet.
    #[inline]
    pub fn flush(&mut self) {
        self.send();
    }

    /// The descriptors to watch, level-triggered, and what for. Ask again before each wait: every
    /// other call may have changed it, [`next_event`](Self::next_event) too.
    ///
    /// - Write readiness is wanted only while something waits to be sent.
    /// - With neither read nor write there is nothing to wait for: events are here that nobody has
    ///   taken, or the connection is broken. Take the descriptor out of epoll then, which tells a
    ///   hang-up even to those who want nothing.
    /// - While a request that has taken too long is being cancelled there are two: the connection's, and
    ///   that of the cancel, which goes away by itself; the next one's has another number.
    /// - While the connection is being made the descriptor can become another one, and there can be
    ///   none for a moment. What is no longer among them has been closed, so epoll has forgotten it;
    ///   what takes its place always has another number.
    pub fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        let pair = |Source { fd, read, write }| (fd, Interest { read, write });
        self.source().into_iter().chain(self.cancel_source()).map(pair)
    }

    /// When to call [`drive`](Self::drive) even if no source is ready; `None` for never. It may be
    /// earlier than necessary: then the call does nothing, and the next answer is exact.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = self.engine.deadline();
        if self.connecting.is_none() && !self.engine.is_holding() {
            return deadline;
        }
        let retry = self.connecting.as_deref().and_then(Connecting::retry_at);
        [retry, self.cancel_deadline(), deadline].into_iter().flatten().min()
    }

    /// The descriptor, and what to wait for at it.
    #[inline]
    pub(super) fn source(&self) -> Option<Source<'_>> {
        match &self.connecting {
            Some(connecting) => connecting.source(&self.socket),
            None => self.connected_source(self.engine.interest()),
        }
    }

    /// The descriptor of a socket that is connected, when the engine wants this.
    #[inline]
    fn connected_source(&self, Interest { read, write }: Interest) -> Option<Source<'_>> {
        let write = write && self.send_error.is_none();
        Some(Source { fd: self.socket.as_fd(), read, write })
    }

    /// Goes on with a connect; whether the socket is connected now.
    #[inline]
    fn proceed_connecting(&mut self) -> bool {
        self.connecting.is_none() || self.try_connect()
    }

    #[cold]
    fn try_connect(&mut self) -> bool {
        let now = Instant::now();
        let Some(connecting) = &mut self.connecting else { return true };
        match connecting.proceed(&mut self.socket, now) {
            Ok(true) => {
                self.connecting = None;
                self.in_login = true;
                return true;
            }
            Ok(false) => {
                if self.engine.deadline().is_some_and(|deadline| deadline <= now) {
                    self.engine.handle_timeout(now);
                }
                if self.engine.broken().is_some() {
                    self.connecting = None;
                }
            }
            Err(error) => {
                self.connecting = None;
                self.engine.hung_up(Some(cannot_connect(&self.target, &error)));
            }
        }
        false
    }

    /// One turn of every blocking loop: send; wait for what the engine wants, until its deadline or
    /// `until`; receive.
    ///
    /// It waits before it receives: right after a request has been sent there is nothing to
    /// receive. Only when the last read filled its buffer more is likely to be there.
    pub(super) fn turn(&mut self, until: Option<Instant>) {
        // Good for this turn only: the next one may come much later.
        let fresh = self.fresh.take();
        if !self.proceed_connecting() {
            let until = [until, self.deadline()].into_iter().flatten().min();
            self.wait(until);
            return;
        }
        if self.may_cancel() {
            if self.turn_behind_cancel() {
                return;
            }
        } else {
            self.send();
        }
        let interest = self.engine.interest();
        if !interest.read {
            // Enough is here to go on with, or nothing more can come.
            return;
        }
        if self.engine.recv_was_filled() && self.receive() != Moved::Nothing {
            return;
        }
        let until = match (until, self.deadline()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let left = fresh.filter(|(at, _)| until == Some(*at)).map(|(_, left)| left);
        match self.wait_at(self.connected_source(interest), until, left) {
            Ok(true) => _ = self.receive(),
            Ok(false) => {}
            Err(error) => self.engine.hung_up(Some(error)),
        }
    }

    /// The first half of a turn while a request is late, or a cancel under way: whether it was all of
    /// it.
    #[cold]
    fn turn_behind_cancel(&mut self) -> bool {
        let was_held = self.engine.is_holding();
        self.proceed_cancel();
        self.send();
        if was_held && !self.engine.is_holding() {
            // The end of a cancel may be all that was waited for.
            return true;
        }
        // What is unsent may be waiting for an end that is here and has not been looked at.
        self.engine.is_holding() && self.engine.has_message()
    }

    /// The turn of a loop that ends when enough has been sent: sends; if the socket takes nothing,
    /// waits until it does or something can be received, and receives that. It does not send behind
    /// that: then there might be nothing left to wait for.
    pub(super) fn turn_to_send(&mut self) {
        self.fresh = None;
        self.proceed_cancel();
        if let Moved::Bytes(_) = self.send() {
            return;
        }
        self.wait(self.deadline());
        if self.engine.interest().read {
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
            self.proceed_cancel();
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
    #[inline]
    fn send(&mut self) -> Moved {
        if self.engine.has_unsent() { self.send_pending() } else { Moved::Nothing }
    }

    fn send_pending(&mut self) -> Moved {
        let pending = self.engine.send_pending();
        if pending.is_empty() || self.send_error.is_some() || self.connecting.is_some() {
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

    /// Sends a piece of COPY data from where it is, if nothing stands before it; what the socket does
    /// not take is queued.
    ///
    /// # Errors
    ///
    /// As [`Engine::copy_data`](crate::engine::Engine::copy_data).
    pub(super) fn send_copy_data(&mut self, ticket: Ticket, data: &[u8]) -> PgResult<()> {
        if self.send_error.is_some() || !self.engine.copy_announce(ticket, data.len())? {
            return self.engine.copy_data(ticket, data);
        }
        let sent = self.socket.send_both(self.engine.send_pending(), data);
        self.engine.copy_sent(*sent.as_ref().unwrap_or(&0), data);
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.send_error = Some(error)
            }
            _ => {}
        }
        Ok(())
    }

    /// Receives what is there.
    #[inline]
    fn receive(&mut self) -> Moved {
        if self.connecting.is_some() {
            return Moved::Nothing;
        }
        let error = match self.socket.recv(self.engine.recv_space()) {
            Ok(0) => None,
            Ok(count) => {
                self.engine.received(count);
                return Moved::Bytes(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.engine.received(0);
                return Moved::Nothing;
            }
            Err(error) => Some(error),
        };
        self.engine.hung_up(self.send_error.take().or(error));
        Moved::End
    }

    /// Waits at the connection's own source, and at that of a cancel if one is under way; whether one
    /// is ready.
    #[inline]
    fn wait_at(
        &self,
        own: Option<Source<'_>>,
        until: Option<Instant>,
        left: Option<Duration>,
    ) -> io::Result<bool> {
        match (own, self.cancel_source()) {
            (Some(own), Some(cancel)) => wait(&[own, cancel], until, left),
            (own, cancel) => wait(own.or(cancel).as_slice(), until, left),
        }
    }

    /// Waits until a source is ready for what is wanted or `until` has come.
    fn wait(&mut self, until: Option<Instant>) {
        if let Err(error) = self.wait_at(self.source(), until, None) {
            self.engine.hung_up(Some(error));
        }
    }

    /// Sends; if nothing can be sent, waits once for answers, until `limit` at most, and takes the
    /// events of what came.
    ///
    /// # Errors
    ///
    /// [`PgError::NotSent`] when `limit` has come; what broke the connection.
    pub(super) fn wait_for_room(&mut self, limit: Option<Deadline>) -> PgResult<()> {
        // That may be room enough; and of a group without a Sync there may be no answer to wait for.
        if let Moved::Bytes(_) = self.send() {
            return Ok(());
        }
        self.turn(limit.map(|limit| limit.at));
        self.take_events()?;
        if self.something_is_late() {
            return self.take_events();
        }
        match limit.filter(|limit| limit.at <= Instant::now()) {
            Some(limit) => {
                let timeout = limit.error("waiting for room to queue a request");
                Err(PgError::NotSent(Box::new(timeout)))
            }
            None => Ok(()),
        }
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
    /// [`PgError::Busy`] while requests that deliver events are unfinished:
    /// [`drive`](Self::drive) is the call then.
    pub fn try_fill_read_buf(&mut self) -> PgResult<usize> {
        self.check_not_busy()?;
        self.take_events()?;
        let moved = self.receive();
        self.take_events()?;
        moved.bytes()
    }

    /// Sends what the socket takes and receives what it has, once each; whether something was
    /// received, or the end. Events are the caller's to take.
    pub(super) fn exchange(&mut self) -> bool {
        self.send();
        self.engine.interest().read && self.receive() != Moved::Nothing
    }

    /// Sends as much of the queued output as the socket takes at this moment; returns the number of
    /// bytes, 0 when nothing is queued. Never waits.
    ///
    /// # Errors
    ///
    /// [`PgError::WouldBlock`] when the socket takes nothing. What broke the connection, when it is
    /// broken. [`PgError::Busy`] as with [`try_fill_read_buf`](Self::try_fill_read_buf).
    pub fn try_write(&mut self) -> PgResult<usize> {
        self.check_not_busy()?;
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

    /// Repeats `attempt`, waiting in between for what the engine wants, until it gives something.
    fn poll<T>(
        &mut self,
        timeout: Duration,
        doing: &'static str,
        attempt: impl FnMut(&mut Self) -> PgResult<Option<T>>,
    ) -> PgResult<T> {
        self.poll_until(Instant::now().checked_add(timeout), attempt)?.ok_or_else(|| {
            PgError::Timeout(Box::new(Timeout { setting: "timeout", value: timeout, doing }))
        })
    }

    /// Repeats `attempt`, waiting in between for what the engine wants, until it gives something or
    /// `deadline` has come.
    pub(super) fn poll_until<T>(
        &mut self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&mut Self) -> PgResult<Option<T>>,
    ) -> PgResult<Option<T>> {
        if self.engine.in_flight() > 0 {
            self.engine.renew_patience(Instant::now());
        }
        loop {
            self.proceed_connecting();
            self.proceed_cancel();
            if let Some(done) = attempt(self)? {
                return Ok(Some(done));
            }
            if self.something_is_late() {
                continue;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                if self.give_up_sending() {
                    continue;
                }
                return Ok(None);
            }
            self.wait([deadline, self.deadline()].into_iter().flatten().min());
        }
    }
}
