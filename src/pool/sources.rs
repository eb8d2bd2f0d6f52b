//! What a poller is told.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

use super::slots::{Phase, PoolToken};
use super::{PgPool, Shared};
use crate::connection::{Interest, PgConnection};

/// A change of what a poller is to watch, from [`PgPool::update_sources`].
///
/// A descriptor that is new to the poller has no `before`: add it. One without `after` is not to be
/// watched any more, and still open: delete it. With both the interest is another one: modify it. A
/// descriptor that was closed is not told of, as epoll and kqueue forget it by themselves.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SourceChange<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// What [`PgPool::on_ready`] is to be told when it is ready. Two descriptors can have the same: a
    /// connection's, and that of a cancel which is under way for it.
    pub token: PoolToken,
    /// What it was watched for until now; `None` if it was not.
    pub before: Option<Interest>,
    /// What it is to be watched for; `None` for not any more.
    pub after: Option<Interest>,
}

impl PgPool {
    /// Sends what was submitted, and tells `change` what a poller is to watch from now on, where it is
    /// something else than before. Level-triggered readiness is meant, as epoll and kqueue have it by
    /// themselves.
    ///
    /// Guards that are in use tell of their own connections
    /// ([`ConnectionGuard::update_sources`](super::ConnectionGuard::update_sources)).
    ///
    /// ```no_run
    /// use chopin_pg::{PgPool, pool::SourceChange};
    /// use rustix::event::epoll::{self, EventData, EventFlags};
    /// use std::{io, os::fd::OwnedFd};
    ///
    /// fn update(pool: &PgPool, epoll: &OwnedFd) -> io::Result<()> {
    ///     pool.update_sources(|SourceChange { fd, token, before, after, .. }| {
    ///         let Some(interest) = after else { return Ok(epoll::delete(epoll, fd)?) };
    ///         let mut flags = EventFlags::empty();
    ///         flags.set(EventFlags::IN, interest.read);
    ///         flags.set(EventFlags::OUT, interest.write);
    ///         let data = EventData::new_u64(token.into());
    ///         match before {
    ///             None => Ok(epoll::add(epoll, fd, data, flags)?),
    ///             Some(_) => Ok(epoll::modify(epoll, fd, data, flags)?),
    ///         }
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// What `change` returns; the same change is told again by the next call.
    pub fn update_sources(
        &self,
        change: impl FnMut(SourceChange<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.shared.flush();
        self.shared.update_sources(change)
    }

    /// Whether the poller reports readiness only when it begins (edge-triggered, as mio does):
    /// then [`update_sources`](Self::update_sources) tells of each connection that was visited, also if
    /// its interest is the same, so that registering it anew makes the poller look again. `false` unless
    /// set.
    pub fn set_edge_triggered(&self, is_edge_triggered: bool) {
        self.shared.state.borrow_mut().is_edge_triggered = is_edge_triggered;
    }

    /// Sends what was submitted since the last [`drive`](Self::drive), one write for each connection;
    /// never waits. [`update_sources`](Self::update_sources) does it too.
    pub fn flush(&self) {
        self.shared.flush();
    }
}

impl Shared {
    fn update_sources(
        &self,
        mut change: impl FnMut(SourceChange<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let (slot, token) = {
                let state = &mut *self.state.borrow_mut();
                let Some(slot) = state.changed.pop() else { return Ok(()) };
                let Some(found) = state.slots.get_mut(slot) else { continue };
                found.is_changed = false;
                if found.phase == Phase::Vacant {
                    continue;
                }
                (slot, state.slots.token(slot))
            };
            // One under a guard is the guard's to tell.
            let Some(mut lifted) = self.lift(slot) else { continue };
            let told = self.tell_changes(token, lifted.connection(), &mut change);
            drop(lifted);
            if told.is_err() {
                self.state.borrow_mut().note_change(slot);
                return told;
            }
        }
    }

    /// A connection under a guard is to be driven at this moment at the latest.
    pub(super) fn note_deadline(&self, token: PoolToken, deadline: Option<Instant>) {
        let state = &mut *self.state.borrow_mut();
        if let Some(slot) = state.slots.find(token) {
            state.set_timer(slot, deadline);
        }
    }

    /// Tells of a connection what is watched otherwise from now on.
    pub(super) fn tell_changes(
        &self,
        token: PoolToken,
        connection: &PgConnection,
        mut change: impl FnMut(SourceChange<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let watched = {
            let state = &mut *self.state.borrow_mut();
            let Some(slot) = state.slots.find(token) else { return Ok(()) };
            state.slots.get(slot).map(|found| found.watched).unwrap_or_default()
        };
        let anew = self.state.borrow().is_edge_triggered;
        let mut now = [None; 2];
        let mut result = Ok(());
        for (place, (fd, interest)) in now.iter_mut().zip(connection.sources()) {
            let number = fd.as_raw_fd();
            let before = interest_at(&watched, number);
            let after = Some(interest).filter(|interest| interest.read || interest.write);
            let is_told = result.is_err() || (before == after && !(anew && after.is_some()));
            if !is_told {
                result = change(SourceChange { fd, token, before, after });
            }
            let known = if result.is_ok() { after } else { before };
            *place = known.map(|interest| (number, interest));
        }
        let state = &mut *self.state.borrow_mut();
        if let Some(found) = state.slots.find(token).and_then(|slot| state.slots.get_mut(slot)) {
            found.watched = now;
        }
        result
    }
}

/// What a descriptor is watched for.
fn interest_at(watched: &[Option<(RawFd, Interest)>; 2], number: RawFd) -> Option<Interest> {
    watched.iter().flatten().find(|(fd, _)| *fd == number).map(|(_, interest)| *interest)
}
