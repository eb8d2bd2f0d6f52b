//! The places for connections, and what each is doing.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::time::Instant;

use super::requests::PoolTicket;
use crate::connection::{Interest, PgConnection, Ticket};

/// Names a connection of a pool to a poller: what [`PgPool::on_ready`](super::PgPool::on_ready) is
/// told when one of its descriptors is ready.
///
/// It is a number below 2^48, so that a program can tell several pools and its own descriptors
/// apart by the 16 bits above. A token of a connection that is gone
/// is not that of another one before sixteen million others have had the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolToken(u64);

/// The bits of a token that are the number of the slot; as many again are its generation.
const SLOT_BITS: u32 = 24;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// The most slots that a pool can have.
pub(super) const MOST_SLOTS: usize = 1 << SLOT_BITS;

impl PoolToken {
    fn new(slot: usize, generation: u64) -> Self {
        Self(((generation & SLOT_MASK) << SLOT_BITS) | (slot as u64 & SLOT_MASK))
    }

    pub(super) fn slot(self) -> usize {
        usize::try_from(self.0 & SLOT_MASK).unwrap_or(usize::MAX)
    }
}

impl From<PoolToken> for u64 {
    fn from(token: PoolToken) -> Self {
        token.0
    }
}

impl From<u64> for PoolToken {
    /// The token with this number; what a program has put above its 48 bits is cut off.
    fn from(number: u64) -> Self {
        Self(number & ((1 << (2 * SLOT_BITS)) - 1))
    }
}

/// What a slot's connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is none.
    Vacant,
    /// It is being connected and logged in.
    Connecting,
    /// What the hook `after_connect` has submitted is awaited.
    Preparing,
    /// Its sign of life is awaited.
    Checking,
    /// Another one gave none in time, so it was asked too; nobody counts on its answer.
    Doubted,
    /// Nobody uses it.
    Idle,
    /// It carries requests of many.
    Shared,
    /// It was given to somebody who waits, and has not been fetched.
    Reserved,
    /// It is under a guard.
    Held,
    /// It came back, and what was begun on it is brought to its end.
    Draining,
    /// It came back, and its reset is awaited.
    Resetting,
}

impl Phase {
    /// It is being opened or checked.
    pub(super) const OPENING: [Self; 4] =
        [Self::Connecting, Self::Preparing, Self::Checking, Self::Doubted];
    /// Somebody has it, or will fetch it.
    pub(super) const IN_USE: [Self; 2] = [Self::Held, Self::Reserved];
    /// It came back, and is being made clean.
    pub(super) const RECOVERING: [Self; 2] = [Self::Draining, Self::Resetting];

    /// Whether something goes on in it that the pool itself brings to an end.
    pub(super) fn is_busy(self) -> bool {
        !matches!(self, Self::Vacant | Self::Idle | Self::Reserved | Self::Held)
    }
}

/// A place for a connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) phase: Phase,
    /// Counts the connections that were here.
    generation: u64,
    /// `None` while it is vacant, held, or lifted out to be worked on.
    pub(super) connection: Option<Box<PgConnection>>,
    /// When its age is over.
    pub(super) expires: Option<Instant>,
    /// Since when it is in its phase.
    pub(super) since: Instant,
    /// When it came back from its guard.
    pub(super) came_back: Instant,
    /// When its last sign of life came.
    pub(super) checked: Option<Instant>,
    /// What a poller watches of it: descriptors, and what for.
    pub(super) watched: [Option<(RawFd, Interest)>; 2],
    /// Its earliest entry among the timers.
    pub(super) timer: Option<Instant>,
    /// Something may have come for it, or it is due.
    pub(super) is_ready: bool,
    /// It is in the list of those that have work.
    pub(super) is_listed: bool,
    /// It is in the list of those whose sources may have changed.
    pub(super) is_changed: bool,
    /// No more requests are put on it: somebody waits for it to come free.
    pub(super) is_claimed: bool,
    /// The requests of many that it carries, in order.
    pub(super) requests: VecDeque<(Ticket, PoolTicket)>,
}

/// How many phases there are.
const PHASES: usize = Phase::Resetting as usize + 1;

/// All slots of a pool. Those that become vacant are used again.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    vacant: Vec<usize>,
    /// How many slots have each phase.
    counts: [usize; PHASES],
}

impl Slots {
    pub(super) fn get(&self, slot: usize) -> Option<&Slot> {
        self.slots.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Slot> {
        self.slots.get_mut(slot)
    }

    /// The slot of a connection that is still there.
    pub(super) fn find(&self, token: PoolToken) -> Option<usize> {
        let slot = token.slot();
        let found = self.slots.get(slot).filter(|found| found.phase != Phase::Vacant);
        found.filter(|found| PoolToken::new(slot, found.generation) == token).map(|_| slot)
    }

    /// The token of a slot's connection.
    pub(super) fn token(&self, slot: usize) -> PoolToken {
        PoolToken::new(slot, self.slots.get(slot).map_or(0, |found| found.generation))
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    /// How many have one of these phases.
    pub(super) fn count(&self, phases: &[Phase]) -> usize {
        phases.iter().filter_map(|phase| self.counts.get(*phase as usize)).sum()
    }

    /// The slot is in this phase from `now` on.
    pub(super) fn set_phase(&mut self, slot: usize, phase: Phase, now: Instant) {
        let Some(found) = self.slots.get_mut(slot) else { return };
        if let Some(count) = self.counts.get_mut(found.phase as usize) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.counts.get_mut(phase as usize) {
            *count += 1;
        }
        (found.phase, found.since) = (phase, now);
    }

    /// All slots, vacant ones too.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Slot)> {
        self.slots.iter_mut().enumerate()
    }

    /// All slots, vacant ones too.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots.iter().enumerate()
    }

    /// Puts a connection that has just been begun into a slot.
    pub(super) fn insert(
        &mut self,
        connection: Box<PgConnection>,
        expires: Option<Instant>,
        now: Instant,
    ) -> usize {
        let slot = self.vacant.pop().unwrap_or(self.slots.len());
        let generation = self.slots.get(slot).map_or(0, |old| old.generation.wrapping_add(1));
        let new = Slot {
            phase: Phase::Vacant,
            generation,
            connection: Some(connection),
            expires,
            since: now,
            came_back: now,
            checked: None,
            watched: [None; 2],
            timer: None,
            is_ready: false,
            is_listed: false,
            is_changed: false,
            is_claimed: false,
            requests: VecDeque::new(),
        };
        match self.slots.get_mut(slot) {
            // The lists that it may still be in go by these.
            Some(old) => {
                let (is_listed, is_changed) = (old.is_listed, old.is_changed);
                *old = Slot { is_listed, is_changed, ..new };
            }
            None => self.slots.push(new),
        }
        self.set_phase(slot, Phase::Connecting, now);
        slot
    }

    /// Makes a slot vacant; what was in it is returned, to be dropped where its drop may run code of
    /// the program.
    pub(super) fn vacate(&mut self, slot: usize) -> Option<Box<PgConnection>> {
        let now = self.slots.get(slot).filter(|old| old.phase != Phase::Vacant)?.since;
        self.set_phase(slot, Phase::Vacant, now);
        self.vacant.push(slot);
        let old = self.slots.get_mut(slot)?;
        debug_assert!(old.requests.is_empty(), "they have been told of the end");
        old.requests = VecDeque::new();
        old.connection.take()
    }
}
