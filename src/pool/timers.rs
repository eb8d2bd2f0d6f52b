//! When the slots of a pool are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Moments at which slots are to be looked at. An entry may be too early, never too late: whoever
/// looks and finds nothing to do enters the next one.
#[derive(Debug, Default)]
pub(super) struct Timers {
    entries: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Timers {
    /// Looks at a slot at this moment.
    pub(super) fn enter(&mut self, at: Instant, slot: usize) {
        self.entries.push(Reverse((at, slot)));
    }

    /// A slot that is due, and since when.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        self.next().filter(|at| *at <= now)?;
        self.entries.pop().map(|Reverse(entry)| entry)
    }

    /// When the next slot is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.peek().map(|Reverse((at, _))| *at)
    }
}
