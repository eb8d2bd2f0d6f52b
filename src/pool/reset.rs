//! A connection comes back.
//!
//! ```text
//! guard dropped -> what the driver keeps of the last use is forgotten, what was not sent is taken back
//!               -> Draining    until what was sent has come to its end
//!               -> Resetting   until the statements of the policy are answered, if there are any
//!               -> Idle        once the hook after_return agrees
//! ```
//!
//! One that takes longer than `reset_timeout`, or whose reset fails, is closed.

use std::rc::Rc;
use std::thread;
use std::time::Instant;

use super::config::ResetPolicy;
use super::slots::{Phase, PoolToken};
use super::work::Verdict;
use super::{Shared, State};
use crate::connection::{
    Deadline, Delivery, Event, PgConnection, Request, Submit, TransactionStatus,
};
use crate::error::PgResult;

/// The setting that bounds it.
const RESET_TIMEOUT: &str = "reset_timeout";

impl Shared {
    /// A connection comes back from its guard. Never waits, and runs no code of the program but the
    /// drop of handlers that it has left on the connection.
    pub(super) fn give_back(&self, token: PoolToken, mut connection: Box<PgConnection>) {
        let (target, policy, patience, deadline) = {
            let state = &mut *self.state.borrow_mut();
            state.now = Instant::now();
            let Some(slot) = state.slots.find(token) else { return };
            if let Some(found) = state.slots.get_mut(slot) {
                found.came_back = state.now;
            }
            let config = &state.config;
            // Half of the time for what was begun to come to its end, the other for a cancel.
            let patience = state.target.get_drain_timeout().min(config.get_reset_timeout() / 2);
            let patience = Deadline::after(state.now, "drain_timeout", patience);
            let policy = config.get_reset_policy().clone();
            (Rc::clone(&state.target), policy, patience, state.reset_deadline(slot))
        };
        let is_broken = connection.is_broken();
        if !is_broken {
            connection.forget_user(&target, patience);
        }
        let has_hook = self.state.borrow().config.after_return.is_some();
        let is_left_by_panic = thread::panicking() && policy == ResetPolicy::None;
        let needs_reset = needs_reset(&policy, &connection);
        let is_quiet = connection.is_quiet();
        let mut begun = Ok(false);
        if is_quiet && needs_reset && !is_broken {
            begun = begin_reset(&mut connection, &policy, deadline);
        }
        let dead = {
            let state = &mut *self.state.borrow_mut();
            state.now = Instant::now();
            let Some(slot) = state.slots.find(token) else { return };
            state.stats.returns += 1;
            if is_broken || begun.is_err() {
                state.stats.broken += u64::from(is_broken);
                state.stats.failed_resets += u64::from(!is_broken);
                state.remove(slot);
                Some(connection)
            } else if is_left_by_panic || state.is_unwanted(slot) {
                state.remove(slot);
                Some(connection)
            } else {
                let phase = if begun.is_ok_and(|begun| begun) {
                    state.stats.resets += 1;
                    Some(Phase::Resetting)
                } else if is_quiet && !has_hook {
                    None
                } else {
                    Some(Phase::Draining)
                };
                if let Some(found) = state.slots.get_mut(slot) {
                    found.connection = Some(connection);
                }
                match phase {
                    Some(phase) => state.recover(slot, phase),
                    None => state.put_idle(slot),
                }
                None
            }
        };
        drop(dead);
    }

    /// Goes on with a connection that came back.
    pub(super) fn go_on_recovering(
        &self,
        slot: usize,
        phase: Phase,
        connection: &mut PgConnection,
    ) -> PgResult<Verdict> {
        let mut has_failed = false;
        while let Some(event) = connection.next_event()? {
            has_failed |= matches!(event, Event::Failed { .. });
        }
        let policy = self.state.borrow().config.get_reset_policy().clone();
        if !connection.is_quiet() && !has_failed {
            return Ok(Verdict::Stay);
        }
        connection.forget_results();
        if phase == Phase::Draining && !has_failed && needs_reset(&policy, connection) {
            let deadline = self.state.borrow().reset_deadline(slot);
            if begin_reset(connection, &policy, deadline)? {
                self.state.borrow_mut().stats.resets += 1;
                return Ok(Verdict::Phase(Phase::Resetting));
            }
        }
        let hook = self.state.borrow().config.after_return.clone();
        let is_refused = !has_failed && hook.is_some_and(|hook| hook(connection).is_err());
        let is_open = policy != ResetPolicy::None && is_in_transaction(connection);
        if has_failed || is_open {
            self.state.borrow_mut().stats.failed_resets += 1;
        }
        // What the hook has left undone would be for the next user.
        if has_failed || is_open || is_refused || !connection.is_quiet() {
            return Ok(Verdict::Close);
        }
        connection.forget_results();
        Ok(Verdict::Free)
    }
}

fn is_in_transaction(connection: &PgConnection) -> bool {
    connection.transaction_status() != TransactionStatus::Idle
}

/// Whether a connection on which nothing goes on has to be asked for something before it is clean.
fn needs_reset(policy: &ResetPolicy, connection: &PgConnection) -> bool {
    policy.sql().is_some() || (*policy != ResetPolicy::None && is_in_transaction(connection))
}

/// Asks for what makes it clean; whether that was anything.
fn begin_reset(
    connection: &mut PgConnection,
    policy: &ResetPolicy,
    deadline: Option<Deadline>,
) -> PgResult<bool> {
    let rollback = is_in_transaction(connection).then_some("ROLLBACK");
    let mut count = 0;
    // Each by itself: DISCARD ALL cannot run together with anything else.
    for sql in rollback.into_iter().chain(policy.sql()) {
        let submit = Submit::new(Delivery::Collect).deadline(deadline);
        let _ticket = connection.submit_with(Request::Simple { sql }, submit)?;
        count += 1;
    }
    connection.flush();
    Ok(count > 0)
}

impl State {
    /// When a connection that came back is to be clean.
    pub(super) fn reset_deadline(&self, slot: usize) -> Option<Deadline> {
        let came_back = self.slots.get(slot)?.came_back;
        Deadline::after(came_back, RESET_TIMEOUT, self.config.get_reset_timeout())
    }

    /// A connection is being made clean from now on.
    fn recover(&mut self, slot: usize, phase: Phase) {
        self.slots.set_phase(slot, phase, self.now);
        self.list(slot, true);
        self.note_change(slot);
    }

    /// Whether a connection that came back is not clean in time.
    pub(super) fn is_reset_late(&self, slot: usize) -> bool {
        let phase = self.slots.get(slot).map(|found| found.phase);
        let is_recovering = phase.is_some_and(|phase| Phase::RECOVERING.contains(&phase));
        is_recovering && self.reset_deadline(slot).is_some_and(|limit| limit.at <= self.now)
    }
}
