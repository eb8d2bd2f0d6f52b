//! Going on with the connections that have something to do.

use std::time::Instant;

use super::requests::load_of;
use super::slots::{Phase, PoolToken};
use super::{Shared, State, Told};
use crate::connection::{Drive, Event, PgConnection};
use crate::error::{PgError, PgResult};

/// A connection that is lifted out of its slot while something is done with it that may run code of
/// the program. It goes back by itself, unless its slot has been given up meanwhile.
pub(super) struct Lifted<'s> {
    shared: &'s Shared,
    token: PoolToken,
    connection: Option<Box<PgConnection>>,
}

impl Lifted<'_> {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        match &mut self.connection {
            Some(connection) => connection,
            None => unreachable!("it is taken out by the last use only"),
        }
    }

    pub(super) fn token(&self) -> PoolToken {
        self.token
    }

    /// Takes it out for good.
    pub(super) fn into_box(mut self) -> Option<Box<PgConnection>> {
        self.connection.take()
    }
}

impl Drop for Lifted<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let dead = {
            let state = &mut *self.shared.state.borrow_mut();
            let slot = state.slots.find(self.token);
            let dead = match slot.and_then(|slot| state.slots.get_mut(slot)) {
                Some(found) => found.connection.replace(connection),
                None => Some(connection),
            };
            // Code of the program has panicked: what was on its way to somebody is idle again.
            if let Some(slot) = slot.filter(|_| std::thread::panicking()) {
                if state.slots.get(slot).is_some_and(|found| found.phase == Phase::Idle) {
                    state.idle.retain(|idle| *idle != slot);
                    state.put_idle(slot);
                }
            }
            dead
        };
        drop(dead);
    }
}

/// What becomes of a connection that was visited.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It goes on as before.
    Stay,
    /// It does something else from now on.
    Phase(Phase),
    /// It is free for whoever needs it.
    Free,
    /// It is of no use any more.
    Close,
    /// It could not be opened.
    ConnectFailed(PgError),
}

impl Shared {
    /// Goes on with everything that can go on.
    pub(super) fn drive(&self, now: Instant) {
        let count = {
            let state = &mut *self.state.borrow_mut();
            state.now = now;
            state.fire_timers();
            state.listed.len()
        };
        for _ in 0..count {
            let Some(slot) = self.state.borrow_mut().listed.pop_front() else { break };
            self.visit(slot);
        }
        self.serve();
        {
            // What has come free in this turn has gone to those who wait before.
            let state = &mut *self.state.borrow_mut();
            state.expire_waiters();
            state.expire_queue();
        }
        self.flush();
    }

    /// Sends what was submitted.
    pub(super) fn flush(&self) {
        let count = self.state.borrow().listed.len();
        for _ in 0..count {
            let slot = {
                let state = &mut *self.state.borrow_mut();
                let Some(slot) = state.listed.pop_front() else { break };
                if state.slots.get(slot).is_some_and(|found| found.is_ready) {
                    // It is for the next drive.
                    state.listed.push_back(slot);
                    continue;
                }
                slot
            };
            self.visit(slot);
        }
    }

    /// Goes on with one connection: sends, and receives if it is ready.
    fn visit(&self, slot: usize) {
        let (phase, is_ready) = {
            let state = &mut *self.state.borrow_mut();
            let Some(found) = state.slots.get_mut(slot) else { return };
            found.is_listed = false;
            let is_ready = std::mem::take(&mut found.is_ready);
            let phase = found.phase;
            if phase == Phase::Held && is_ready {
                let token = state.slots.token(slot);
                state.events.push_back(Told::GuardReady(token));
            }
            (phase, is_ready)
        };
        let Some(mut lifted) = self.lift(slot) else { return };
        let connection = lifted.connection();
        let mut verdict = Verdict::Stay;
        let mut has_more = false;
        if is_ready {
            has_more = connection.drive() == Drive::Again;
            verdict = self.go_on(slot, phase, connection);
        } else {
            connection.flush();
        }
        self.settle(slot, lifted, verdict);
        if has_more {
            self.state.borrow_mut().list(slot, true);
        }
    }

    /// What a connection has to tell, and what it does from now on.
    fn go_on(&self, slot: usize, phase: Phase, connection: &mut PgConnection) -> Verdict {
        let verdict = match phase {
            Phase::Vacant | Phase::Held | Phase::Reserved => Ok(Verdict::Stay),
            Phase::Connecting => return self.go_on_connecting(connection),
            Phase::Preparing => return go_on_preparing(connection),
            Phase::Checking | Phase::Doubted => go_on_checking(connection),
            Phase::Idle => go_on_idle(connection),
            Phase::Shared => {
                self.take_answers(slot, connection).map(|()| match connection.is_quiet() {
                    true => Verdict::Free,
                    false => Verdict::Stay,
                })
            }
            Phase::Draining | Phase::Resetting => self.go_on_recovering(slot, phase, connection),
        };
        verdict.unwrap_or_else(|error| {
            let state = &mut *self.state.borrow_mut();
            state.stats.broken += 1;
            if phase == Phase::Checking {
                state.check_failed(error);
            }
            Verdict::Close
        })
    }

    fn go_on_connecting(&self, connection: &mut PgConnection) -> Verdict {
        loop {
            match connection.next_event() {
                Ok(Some(Event::Ready)) => break,
                Ok(Some(_)) => {}
                Ok(None) => return Verdict::Stay,
                Err(error) => return Verdict::ConnectFailed(error),
            }
        }
        let hook = self.state.borrow().config.after_connect.clone();
        if let Some(Err(error)) = hook.map(|hook| hook(connection)) {
            return Verdict::ConnectFailed(error);
        }
        match connection.in_flight() {
            0 => Verdict::Free,
            _ => {
                connection.flush();
                Verdict::Phase(Phase::Preparing)
            }
        }
    }

    /// Enters what became of a connection that was visited.
    fn settle(&self, slot: usize, mut lifted: Lifted<'_>, verdict: Verdict) {
        let token = lifted.token();
        let connection = lifted.connection();
        let (deadline, load) = (connection.deadline(), load_of(connection));
        if let Verdict::Close | Verdict::ConnectFailed(_) = verdict {
            let dead = lifted.into_box();
            {
                let state = &mut *self.state.borrow_mut();
                if state.slots.find(token).is_some() {
                    state.remove(slot);
                }
                if let Verdict::ConnectFailed(error) = verdict {
                    state.connect_failed(error);
                }
            }
            drop(dead);
            return;
        }
        drop(lifted);
        let is_over = {
            let state = &mut *self.state.borrow_mut();
            // Code of the program may have closed it from there.
            if state.slots.find(token).is_none() {
                return;
            }
            state.note_change(slot);
            state.set_timer(slot, deadline);
            let phase = match verdict {
                Verdict::Phase(phase) => {
                    state.slots.set_phase(slot, phase, state.now);
                    phase
                }
                Verdict::Free => {
                    state.came_free(slot);
                    Phase::Idle
                }
                _ => state.slots.get(slot).map_or(Phase::Vacant, |found| found.phase),
            };
            match phase {
                Phase::Shared => state.loaded(slot, load),
                Phase::Idle => state.set_timer(slot, state.idle_moment(slot)),
                Phase::Draining | Phase::Resetting => {
                    state.set_timer(slot, state.reset_deadline(slot).map(|limit| limit.at));
                }
                _ => {}
            }
            state.is_reset_late(slot)
        };
        if is_over {
            self.state.borrow_mut().stats.failed_resets += 1;
            self.close(token);
        } else {
            self.close_if_unwanted(token);
        }
    }

    /// Lifts a connection out of its slot.
    pub(super) fn lift(&self, slot: usize) -> Option<Lifted<'_>> {
        let state = &mut *self.state.borrow_mut();
        let connection = state.slots.get_mut(slot)?.connection.take()?;
        let token = state.slots.token(slot);
        Some(Lifted { shared: self, token, connection: Some(connection) })
    }

    /// Closes a connection that is in its slot.
    pub(super) fn close(&self, token: PoolToken) {
        let dead = {
            let state = &mut *self.state.borrow_mut();
            state.slots.find(token).and_then(|slot| state.remove(slot))
        };
        drop(dead);
    }
}

/// What the hook after_connect has submitted is awaited.
fn go_on_preparing(connection: &mut PgConnection) -> Verdict {
    loop {
        match connection.next_event() {
            Ok(Some(Event::Failed { error, .. })) => return Verdict::ConnectFailed(error),
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => return Verdict::ConnectFailed(error),
        }
    }
    if !connection.is_quiet() {
        return Verdict::Stay;
    }
    connection.forget_results();
    Verdict::Free
}

/// A sign of life is awaited.
fn go_on_checking(connection: &mut PgConnection) -> PgResult<Verdict> {
    while let Some(event) = connection.next_event()? {
        if let Event::Failed { error, .. } = event {
            return Err(error);
        }
    }
    if !connection.is_quiet() {
        return Ok(Verdict::Stay);
    }
    connection.forget_results();
    Ok(Verdict::Free)
}

/// Nobody uses it; what it tells interests nobody, but for its end.
fn go_on_idle(connection: &mut PgConnection) -> PgResult<Verdict> {
    while connection.next_event()?.is_some() {}
    connection.forget_results();
    Ok(Verdict::Stay)
}

impl State {
    /// Lists the slots that are due.
    fn fire_timers(&mut self) {
        while let Some(slot) = self.timers.pop_due(self.now) {
            if let Some(found) = self.slots.get_mut(slot) {
                found.timer = None;
                self.list(slot, true);
            }
        }
    }
}
