//! Giving connections out, opening and closing them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::guard::ConnectionGuard;
use super::slots::{MOST_SLOTS, Phase, PoolToken};
use super::{Closing, Shared, State, Told};
use crate::connection::{Deadline, Delivery, PgConnection, Request, Submit};
use crate::error::{Backoff, ErrorClass, PgError, PgResult, random_part};

/// How long a sign of life is good for: a connection that was checked for somebody who did not wait
/// for the answer is not checked again at once.
const FRESH: Duration = Duration::from_millis(500);

/// What is known of attempts to connect.
#[derive(Debug, Default)]
pub(super) struct Connects {
    /// The pauses between attempts, since the last one that succeeded.
    backoff: Option<Backoff>,
    /// No attempt is made before this moment.
    next: Option<Instant>,
    /// Why the last one failed, unless one has succeeded since.
    pub(super) error: Option<PgError>,
}

/// What an attempt to give a connection out led to.
pub(super) enum CheckOut {
    /// A connection, [`Phase::Reserved`] from now on.
    Got(PoolToken),
    /// None is there at this moment.
    Nothing,
    /// None that was there is sound.
    Failed(PgError),
}

impl Shared {
    /// Gives what is free to those who wait, opens what is needed.
    pub(super) fn serve(&self) {
        self.state.borrow_mut().must_serve = false;
        self.shrink();
        self.check_doubted();
        // Who has asked first is served first, whatever it is for.
        if self.state.borrow().is_request_first() {
            self.serve_queue();
        }
        self.serve_waiters();
        self.serve_queue();
        {
            let state = &mut *self.state.borrow_mut();
            state.claim();
            state.grow(0);
        }
        self.end_closing();
    }

    fn serve_waiters(&self) {
        while !self.state.borrow().waiters.is_empty() {
            match self.check_out() {
                CheckOut::Got(token) => {
                    let state = &mut *self.state.borrow_mut();
                    match state.pop_waiter() {
                        Some(ticket) => state.events.push_back(Told::Acquired(ticket, token)),
                        None => {
                            state.slots.find(token).into_iter().for_each(|at| state.put_idle(at))
                        }
                    }
                }
                CheckOut::Failed(error) => {
                    let state = &mut *self.state.borrow_mut();
                    if let Some(ticket) = state.pop_waiter() {
                        state.events.push_back(Told::AcquireFailed(ticket, error));
                    }
                }
                CheckOut::Nothing => return,
            }
        }
    }

    /// Takes an idle connection that is sound; begins to check one where that is wanted.
    pub(super) fn check_out(&self) -> CheckOut {
        loop {
            let (slot, hook) = {
                let state = &mut *self.state.borrow_mut();
                // So many are being checked as are waited for: they are given out then.
                let awaited = state.waiters.len().max(1);
                let is_enough = state.slots.count(&[Phase::Checking]) >= awaited;
                if is_enough && state.idle.front().is_some_and(|slot| state.needs_check(*slot)) {
                    return CheckOut::Nothing;
                }
                let Some(slot) = state.take_idle() else { return CheckOut::Nothing };
                (slot, state.config.before_checkout.clone())
            };
            let Some(mut lifted) = self.lift(slot) else { continue };
            let token = lifted.token();
            if self.state.borrow().is_expired(slot) {
                self.state.borrow_mut().stats.expired += 1;
                drop(lifted);
                self.close(token);
                continue;
            }
            let connection = lifted.connection();
            let is_sound = connection.is_alive();
            // What came while nobody used it is for nobody.
            connection.forget_messages();
            let mut error = None;
            if is_sound && !self.state.borrow().needs_check(slot) {
                match hook.map_or(Ok(()), |hook| hook(connection)) {
                    Ok(()) => {
                        drop(lifted);
                        let state = &mut *self.state.borrow_mut();
                        // The hook may have closed the pool.
                        return match state.slots.find(token) {
                            Some(slot) => CheckOut::Got(state.reserve(slot)),
                            None => CheckOut::Nothing,
                        };
                    }
                    Err(refused) => error = Some(refused),
                }
            } else if is_sound {
                match self.start_check(slot, Phase::Checking, connection) {
                    Ok(()) => continue,
                    Err(failed) => error = Some(failed),
                }
            }
            drop(lifted);
            if let Some(error) = self.lose(token, error) {
                return CheckOut::Failed(error);
            }
        }
    }

    /// A connection has not given its sign of life in time: all others that are idle are asked, for
    /// they may have lost the same server. One after the other they could use up the patience of
    /// whoever waits.
    fn check_doubted(&self) {
        let doubted = {
            let state = &mut *self.state.borrow_mut();
            if !std::mem::take(&mut state.has_doubts) {
                return;
            }
            let idle = std::mem::take(&mut state.idle);
            let (doubted, fresh): (VecDeque<usize>, _) =
                idle.into_iter().partition(|slot| state.needs_check(*slot));
            state.idle = fresh;
            doubted
        };
        for slot in doubted {
            let Some(mut lifted) = self.lift(slot) else { continue };
            let token = lifted.token();
            let begun = self.start_check(slot, Phase::Doubted, lifted.connection());
            drop(lifted);
            if begun.is_err() {
                self.state.borrow_mut().stats.broken += 1;
                self.close(token);
            }
        }
    }

    /// Asks a connection that was idle for a sign of life; `phase` says for whom.
    fn start_check(
        &self,
        slot: usize,
        phase: Phase,
        connection: &mut PgConnection,
    ) -> PgResult<()> {
        let (sql, submit) = {
            let state = self.state.borrow();
            let (setting, limit) = state.config.validation_limit();
            let deadline = Deadline::after(Instant::now(), setting, limit);
            let sql = state.config.get_validation_query().map(str::to_owned);
            (sql, Submit::new(Delivery::Collect).deadline(deadline))
        };
        let request = sql.as_deref().map_or(Request::Sync, |sql| Request::Simple { sql });
        let _ticket = connection.submit_with(request, submit)?;
        connection.flush();
        let deadline = connection.deadline();
        let state = &mut *self.state.borrow_mut();
        state.slots.set_phase(slot, phase, state.now);
        state.set_timer(slot, deadline);
        state.note_change(slot);
        Ok(())
    }

    /// A connection is of no use when it is to be given out; the error, if no other one may take its
    /// place.
    fn lose(&self, token: PoolToken, error: Option<PgError>) -> Option<PgError> {
        let is_replaced = {
            let state = &mut *self.state.borrow_mut();
            state.stats.broken += 1;
            state.config.get_auto_reconnect()
        };
        self.close(token);
        (!is_replaced).then(|| found_dead(error))
    }

    /// The guard of a connection that was given out; `None` if it is gone.
    pub(super) fn hand_over(&self, pool: &Rc<Self>, token: PoolToken) -> Option<ConnectionGuard> {
        let state = &mut *self.state.borrow_mut();
        let slot = state.slots.find(token)?;
        let connection = state.slots.get_mut(slot)?.connection.take()?;
        state.slots.set_phase(slot, Phase::Held, state.now);
        state.stats.checkouts += 1;
        Some(ConnectionGuard::new(Rc::clone(pool), token, connection))
    }

    /// A connection was taken out of the pool for good.
    pub(super) fn forget(&self, token: PoolToken) {
        let state = &mut *self.state.borrow_mut();
        if let Some(slot) = state.slots.find(token) {
            let _gone = state.remove(slot);
        }
    }

    /// Opens the first connections, and waits until they are ready.
    pub(super) fn open_first(&self, count: usize) -> PgResult<()> {
        loop {
            {
                let state = &mut *self.state.borrow_mut();
                if state.slots.count(&[Phase::Idle]) >= count {
                    return Ok(());
                }
                if let Some(error) = &state.connects.error {
                    return Err(error.clone());
                }
                state.grow(count);
            }
            self.wait()?;
            self.drive(Instant::now());
        }
    }

    pub(super) fn reap(&self, now: Instant) -> usize {
        let idle: Vec<PoolToken> = {
            let state = &mut *self.state.borrow_mut();
            state.now = now;
            state.idle.iter().map(|slot| state.slots.token(*slot)).collect()
        };
        idle.into_iter().filter(|token| self.close_if_unwanted(*token)).count()
    }

    /// Closes a connection that is idle, and not to be kept; whether it was so.
    pub(super) fn close_if_unwanted(&self, token: PoolToken) -> bool {
        {
            let state = &mut *self.state.borrow_mut();
            if !state.slots.find(token).is_some_and(|slot| state.is_idle_unwanted(slot)) {
                return false;
            }
            let is_surplus =
                state.closing.is_some() || state.slots.len() > state.config.get_max_size();
            state.stats.expired += u64::from(!is_surplus);
        }
        self.close(token);
        true
    }

    /// Closes idle connections that are too many.
    pub(super) fn shrink(&self) {
        loop {
            let surplus = self.state.borrow().surplus();
            let Some(token) = surplus else { return };
            self.close(token);
        }
    }

    pub(super) fn start_close(&self, why: &'static str, deadline: Option<Instant>) {
        {
            let state = &mut *self.state.borrow_mut();
            state.now = Instant::now();
            state.closing = Some(Closing { why, deadline });
            let error = PgError::PoolExhausted(why.to_owned());
            state.fail_waiters(&error);
            state.fail_queue(&error);
        }
        self.end_closing();
    }

    /// While the pool is being closed: closes what nobody uses any more.
    fn end_closing(&self) {
        let unused: Vec<usize> = {
            let state = self.state.borrow();
            let Some(closing) = &state.closing else { return };
            let is_over = closing.deadline.is_some_and(|deadline| deadline <= state.now);
            let is_unused = |phase: Phase| match phase {
                Phase::Vacant | Phase::Held | Phase::Reserved => false,
                Phase::Shared => is_over,
                _ => true,
            };
            let unused = state.slots.iter().filter(|(_, slot)| is_unused(slot.phase));
            unused.map(|(slot, _)| slot).collect()
        };
        for slot in unused {
            // One that is just being worked on is closed when that is over.
            let Some(mut lifted) = self.lift(slot) else { continue };
            let token = lifted.token();
            let connection = lifted.connection();
            // The requests that it still carries are told of its end.
            connection.break_with(PgError::ConnectionClosed(
                "the pool was closed before the answer came; it is unknown what became of the request"
                    .to_owned(),
            ));
            let _ended = self.take_answers(slot, connection);
            drop(lifted);
            self.close(token);
        }
    }
}

impl State {
    /// Nobody uses the connection of this slot from now on, and it is clean.
    pub(super) fn put_idle(&mut self, slot: usize) {
        self.loads.set(slot, None);
        self.slots.set_phase(slot, Phase::Idle, self.now);
        self.unclaim(slot);
        // Somebody waits for one that has just been checked.
        match self.slots.get(slot).is_some_and(|found| found.checked == Some(self.now)) {
            true => self.idle.push_front(slot),
            false => self.idle.push_back(slot),
        }
        self.must_serve |=
            !self.waiters.is_empty() || !self.queue.is_empty() || self.is_unwanted(slot);
        self.set_timer(slot, self.idle_moment(slot));
        self.note_change(slot);
    }

    /// When a connection that nobody uses is to be looked at: its age is over, or it has been idle for
    /// too long.
    pub(super) fn idle_moment(&self, slot: usize) -> Option<Instant> {
        let found = self.slots.get(slot)?;
        let timeout = self.config.get_idle_timeout();
        let idle_end = timeout.and_then(|timeout| found.since.checked_add(timeout));
        let moments = [found.expires, idle_end].into_iter().flatten();
        moments.filter(|at| *at > self.now).min()
    }

    /// A connection has come to the end of what it did for the pool.
    pub(super) fn came_free(&mut self, slot: usize) {
        let now = self.now;
        let phase = self.slots.get(slot).map(|found| found.phase);
        match phase {
            Some(Phase::Connecting | Phase::Preparing) => {
                self.stats.connections_created += 1;
                self.connects = Connects::default();
                self.note_checked(slot, now);
            }
            Some(Phase::Checking | Phase::Doubted) => self.note_checked(slot, now),
            _ => {}
        }
        self.put_idle(slot);
    }

    /// A connection that was checked for somebody who waits did not prove to be alive.
    pub(super) fn check_failed(&mut self, error: PgError) {
        self.has_doubts |= matches!(error, PgError::Timeout(_));
        if self.config.get_auto_reconnect() {
            return;
        }
        if let Some(ticket) = self.pop_waiter() {
            self.events.push_back(Told::AcquireFailed(ticket, found_dead(Some(error))));
        }
    }

    fn note_checked(&mut self, slot: usize, now: Instant) {
        if let Some(found) = self.slots.get_mut(slot) {
            found.checked = Some(now);
        }
    }

    /// The slot's connection is given out.
    fn reserve(&mut self, slot: usize) -> PoolToken {
        self.slots.set_phase(slot, Phase::Reserved, self.now);
        if let Some(found) = self.slots.get_mut(slot) {
            found.checked = None;
            found.is_ready = false;
        }
        // What was to be done is done; a guard enters a time of its own.
        self.drop_timer(slot);
        let in_use = self.slots.count(&Phase::IN_USE);
        self.stats.most_in_use = self.stats.most_in_use.max(in_use);
        self.slots.token(slot)
    }

    /// Whether a connection has to give a sign of life before it is given out.
    fn needs_check(&self, slot: usize) -> bool {
        let checked = self.slots.get(slot).and_then(|found| found.checked);
        let is_fresh =
            checked.is_some_and(|checked| self.now.saturating_duration_since(checked) < FRESH);
        self.config.get_test_on_checkout() && !is_fresh
    }

    pub(super) fn is_expired(&self, slot: usize) -> bool {
        let expires = self.slots.get(slot).and_then(|found| found.expires);
        expires.is_some_and(|expires| expires <= self.now)
    }

    /// Whether a connection that nobody uses is not to be kept.
    pub(super) fn is_unwanted(&self, slot: usize) -> bool {
        self.closing.is_some()
            || self.slots.len() > self.config.get_max_size()
            || self.is_expired(slot)
    }

    /// Whether the connection of this slot is idle, and not to be kept.
    pub(super) fn is_idle_unwanted(&self, slot: usize) -> bool {
        let Some(found) = self.slots.get(slot).filter(|found| found.phase == Phase::Idle) else {
            return false;
        };
        let idle_for = self.now.saturating_duration_since(found.since);
        let is_too_long = self.config.get_idle_timeout().is_some_and(|timeout| idle_for >= timeout);
        self.is_unwanted(slot) || (is_too_long && self.slots.len() > self.config.get_min_size())
    }

    /// An idle connection that is one too many.
    fn surplus(&self) -> Option<PoolToken> {
        let slot = self.idle.front().filter(|_| self.slots.len() > self.config.get_max_size())?;
        Some(self.slots.token(*slot))
    }

    /// The connection that has been idle for the longest time; not one that is just being looked at.
    pub(super) fn take_idle(&mut self) -> Option<usize> {
        let is_there =
            |slot: &usize| self.slots.get(*slot).is_some_and(|found| found.connection.is_some());
        let place = self.idle.iter().position(is_there)?;
        self.idle.remove(place)
    }

    /// Gives the slot's connection up; it is returned to be dropped.
    pub(super) fn remove(&mut self, slot: usize) -> Option<Box<PgConnection>> {
        self.loads.set(slot, None);
        self.unclaim(slot);
        self.drop_timer(slot);
        match self.slots.get(slot).map_or(Phase::Vacant, |found| found.phase) {
            Phase::Vacant | Phase::Connecting | Phase::Preparing => {}
            phase => {
                self.stats.connections_closed += 1;
                if phase == Phase::Idle {
                    self.idle.retain(|idle| *idle != slot);
                }
            }
        }
        self.must_serve = true;
        self.slots.vacate(slot)
    }

    /// Whoever waits while all connections carry requests of many has one of them: no more are put on
    /// it.
    fn claim(&mut self) {
        let coming = self.coming();
        // Or it cannot grow, for now.
        let can_grow = self.slots.len() < self.config.get_max_size();
        if can_grow && self.connects.error.is_none() {
            return;
        }
        while self.waiters.len() > coming + self.claimed {
            let Some((slot, _)) = self.loads.least() else { return };
            if let Some(found) = self.slots.get_mut(slot) {
                found.is_claimed = true;
            }
            self.loads.set(slot, None);
            self.claimed += 1;
        }
    }

    fn drop_timer(&mut self, slot: usize) {
        let entry = self.slots.get_mut(slot).and_then(|found| found.timer.take());
        self.timers.remove(slot, entry);
    }

    fn unclaim(&mut self, slot: usize) {
        let found = self.slots.get_mut(slot);
        if found.is_some_and(|found| std::mem::take(&mut found.is_claimed)) {
            self.claimed = self.claimed.saturating_sub(1);
        }
    }

    /// How many connections will soon be free for whoever waits. One that is being drained may take as
    /// long as what was begun on it.
    pub(super) fn coming(&self) -> usize {
        self.slots.count(&Phase::OPENING) + self.slots.count(&[Phase::Resetting])
    }

    /// Opens as many connections as are needed, so that there are `at_least` so many.
    pub(super) fn grow(&mut self, at_least: usize) {
        if self.closing.is_some() || self.connects.next.is_some_and(|next| next > self.now) {
            return;
        }
        self.connects.next = None;
        loop {
            let opening = self.slots.count(&[Phase::Connecting, Phase::Preparing]);
            let coming = self.coming();
            let is_loaded = self.idle.is_empty()
                && (!self.queue.is_empty() || self.loads.least().is_some_and(|(_, load)| load > 0));
            let missing = self.config.get_min_size().max(at_least).saturating_sub(self.slots.len());
            let wanted = (self.waiters.len() > coming && self.idle.is_empty())
                || (is_loaded && opening == 0)
                || missing > 0;
            // After a failure one attempt at a time shows whether it is over; the first login derives
            // the keys for the others.
            let is_first = self.stats.connections_created == 0;
            let is_tried = (self.connects.error.is_some() || is_first) && opening > 0;
            let is_full = self.slots.len() >= self.config.get_max_size().min(MOST_SLOTS);
            if !wanted || is_tried || is_full {
                return;
            }
            if !self.open() {
                return;
            }
        }
    }

    /// Begins to open a connection; whether that has not failed at once.
    fn open(&mut self) -> bool {
        match PgConnection::start_connect_sharing(&self.target, &self.catalogue, &self.keys) {
            Ok(connection) => {
                let expires = self.expiry();
                let slot = self.slots.insert(Box::new(connection), expires, self.now);
                self.stats.most_size = self.stats.most_size.max(self.slots.len());
                self.list(slot, true);
                self.note_change(slot);
                true
            }
            Err(error) => {
                self.connect_failed(error);
                false
            }
        }
    }

    /// When the age of a connection that is opened now is over: up to a tenth earlier than said, by
    /// chance.
    fn expiry(&self) -> Option<Instant> {
        let lifetime = self.config.get_max_lifetime()?;
        self.now.checked_add(lifetime.saturating_sub(random_part(lifetime / 10)))
    }

    /// A connection could not be opened.
    pub(super) fn connect_failed(&mut self, error: PgError) {
        self.stats.connect_failures += 1;
        // Attempts that were under way together count as one.
        if self.connects.next.is_none_or(|next| next <= self.now) {
            let backoff = self.connects.backoff.get_or_insert_with(Backoff::random);
            let pause = backoff.next().unwrap_or(Backoff::MAX_DELAY);
            self.connects.next = self.now.checked_add(pause);
        }
        // Who waits would wait for nothing, unless a connection comes free that is there.
        if is_for_good(&error) && self.slots.len() == 0 {
            self.fail_waiters(&error);
            self.fail_queue(&error);
        }
        self.connects.error = Some(error);
    }

    /// When the next attempt to connect is made, after one has failed; `None` if there is no need to
    /// wait, or for one at all.
    pub(super) fn next_connect(&self) -> Option<Instant> {
        let is_needed = !self.waiters.is_empty()
            || !self.queue.is_empty()
            || self.slots.len() < self.config.get_min_size();
        let has_room = self.slots.len() < self.config.get_max_size() && self.closing.is_none();
        self.connects.next.filter(|_| is_needed && has_room)
    }

    /// Whether no connection can come free as long as this thread waits: all are under guards.
    pub(super) fn is_hopeless(&self) -> bool {
        let held = self.slots.count(&Phase::IN_USE);
        held == self.slots.len() && held >= self.config.get_max_size()
    }
}

/// The error of a checkout, when no other connection may take the place of a dead one.
fn found_dead(error: Option<PgError>) -> PgError {
    let why = error.map(|error| format!(": {error}")).unwrap_or_default();
    PgError::PoolValidationFailed(format!(
        "a connection was found dead when it was to be given out, and auto_reconnect is off{why}"
    ))
}

/// Whether another attempt to connect would fail in the same way: the server refuses this login, or
/// this side does.
fn is_for_good(error: &PgError) -> bool {
    match error {
        PgError::Auth(_) | PgError::Config(_) => true,
        PgError::Server(_) => error.classify() == ErrorClass::Permanent,
        _ => false,
    }
}
