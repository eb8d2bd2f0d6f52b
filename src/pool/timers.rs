//! When the slots of a pool are due.

use std::collections::BTreeSet;
use std::time::Instant;

/// Moments at which slots are to be looked at, one for each slot at most. An entry may be too early,
/// never too late: whoever looks and finds nothing to do enters the next one.
#[derive(Debug, Default)]
pub(super) struct Timers {
    entries: BTreeSet<(Instant, usize)>,
}

impl Timers {
    /// Looks at a slot at this moment, instead of at another one.
    pub(super) fn enter(&mut self, slot: usize, instead_of: Option<Instant>, at: Instant) {
        self.remove(slot, instead_of);
        self.entries.insert((at, slot));
    }

    /// Does not look at a slot that has this entry.
    pub(super) fn remove(&mut self, slot: usize, entry: Option<Instant>) {
        if let Some(at) = entry {
            self.entries.remove(&(at, slot));
        }
    }

    /// A slot that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        self.next().filter(|at| *at <= now)?;
        self.entries.pop_first().map(|(_, slot)| slot)
    }

    /// When the next slot is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn b24_a_slot_has_one_entry() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timers = Timers::default();
        timers.enter(1, None, at(50));
        timers.enter(2, None, at(20));
        timers.enter(1, Some(at(50)), at(10));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.pop_due(at(30)), Some(1));
        assert_eq!(timers.pop_due(at(30)), Some(2));
        assert_eq!(
            (timers.pop_due(at(90)), timers.next()),
            (None, None),
            "the first entry is gone"
        );
        timers.enter(3, None, at(40));
        timers.remove(3, Some(at(40)));
        assert_eq!(timers.next(), None);
    }
}
