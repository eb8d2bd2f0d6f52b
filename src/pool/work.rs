//! Going on with the connections that have something to do.

use std::time::Instant;

use super::slots::{Phase, PoolToken};
use super::{Shared, State, Told};
use crate::connection::{Delivery, Drive, Event, PgConnection, Request, Submit};
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
            match slot.and_then(|slot| state.slots.get_mut(slot)) {
                Some(found) => found.connection.replace(connection),
                None => Some(connection),
            }
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
        let mut listed = {
            let state = &mut *self.state.borrow_mut();
            state.now = now;
            state.fire_timers();
            state.expire_waiters();
            state.expire_queue();
            std::mem::take(&mut state.listed)
        };
        for slot in listed.drain(..) {
            self.visit(slot);
        }
        // The list keeps its memory.
        {
            let state = &mut *self.state.borrow_mut();
            std::mem::swap(&mut state.listed, &mut listed);
            state.listed.append(&mut listed);
        }
        self.serve();
        self.flush();
    }

    /// Sends what was submitted.
    pub(super) fn flush(&self) {
        let mut listed = std::mem::take(&mut self.state.borrow_mut().listed);
        listed.retain(|&slot| {
            let is_ready = self.state.borrow().slots.get(slot).is_some_and(|found| found.is_ready);
            if !is_ready {
                self.visit(slot);
            }
            is_ready
        });
        let state = &mut *self.state.borrow_mut();
        std::mem::swap(&mut state.listed, &mut listed);
        state.listed.append(&mut listed);
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
            Phase::Draining | Phase::Resetting => self.go_on_recovering(phase, connection),
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
        let connection = lifted.connection();
        let (deadline, in_flight) = (connection.deadline(), connection.in_flight());
        let is_holding = connection.is_holding();
        if let Verdict::Close | Verdict::ConnectFailed(_) = verdict {
            let dead = lifted.into_box();
            {
                let state = &mut *self.state.borrow_mut();
                state.remove(slot);
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
                // What is put on it now would wait, perhaps for a server that is gone.
                Phase::Shared if is_holding => state.loads.set(slot, None),
                Phase::Shared => state.loaded(slot, in_flight),
                Phase::Idle => state.set_timer(slot, state.idle_moment(slot)),
                Phase::Resetting => {
                    let end = state.now.checked_add(state.config.get_reset_timeout());
                    state.set_timer(slot, end);
                }
                _ => {}
            }
            state.is_reset_late(slot)
        };
        if is_over {
            self.state.borrow_mut().stats.failed_resets += 1;
            self.close(slot);
        } else {
            self.close_if_unwanted(slot);
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
    pub(super) fn close(&self, slot: usize) {
        let dead = self.state.borrow_mut().remove(slot);
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

/// Asks for a sign of life.
pub(super) fn begin_check(
    connection: &mut PgConnection,
    sql: Option<&str>,
    submit: Submit,
) -> PgResult<()> {
    let request = sql.map_or(Request::Sync, |sql| Request::Simple { sql });
    let _ticket =
        connection.submit_with(request, Submit { delivery: Delivery::Collect, ..submit })?;
    connection.flush();
    Ok(())
}

impl State {
    /// Lists the slots that are due.
    fn fire_timers(&mut self) {
        while let Some((at, slot)) = self.timers.pop_due(self.now) {
            let Some(found) = self.slots.get_mut(slot) else { continue };
            // Another entry may have taken its place, or another connection.
            if found.timer == Some(at) {
                found.timer = None;
                self.list(slot, true);
            }
        }
    }
}
