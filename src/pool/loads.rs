//! Which of the connections that carry requests of many has the fewest in flight.

/// No slot.
const NONE: usize = usize::MAX;

/// Slots by their load: for each load below the window a list of the slots that have it. Every
/// change takes the same time, however many there are.
#[derive(Debug)]
pub(super) struct Loads {
    /// For each load the first slot, or [`NONE`].
    heads: Vec<usize>,
    /// For each slot its neighbours in the list of its load.
    links: Vec<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    /// Its load; [`NONE`] if it is in no list.
    load: usize,
    before: usize,
    after: usize,
}

impl Loads {
    /// For loads below `window`.
    pub(super) fn new(window: usize) -> Self {
        Self { heads: vec![NONE; window], links: Vec::new() }
    }

    /// The slot has this load from now on. One that is as high as the window, or none, takes it out.
    pub(super) fn set(&mut self, slot: usize, load: Option<usize>) {
        if self.links.len() <= slot {
            if load.is_none() {
                return;
            }
            self.links.resize(slot + 1, Link { load: NONE, before: NONE, after: NONE });
        }
        let load = load.filter(|load| *load < self.heads.len()).unwrap_or(NONE);
        let Some(link) = self.links.get(slot).copied().filter(|link| link.load != load) else {
            return;
        };
        if link.load != NONE {
            match self.links.get_mut(link.before) {
                Some(before) => before.after = link.after,
                None => self.put_head(link.load, link.after),
            }
            if let Some(after) = self.links.get_mut(link.after) {
                after.before = link.before;
            }
        }
        let after = self.heads.get(load).copied().unwrap_or(NONE);
        if let Some(after) = self.links.get_mut(after) {
            after.before = slot;
        }
        self.put_head(load, slot);
        if let Some(link) = self.links.get_mut(slot) {
            *link = Link { load, before: NONE, after };
        }
    }

    /// A slot with the lowest load, and that load.
    pub(super) fn least(&self) -> Option<(usize, usize)> {
        let load = self.heads.iter().position(|head| *head != NONE)?;
        self.heads.get(load).map(|slot| (*slot, load))
    }

    fn put_head(&mut self, load: usize, slot: usize) {
        if let Some(head) = self.heads.get_mut(load) {
            *head = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b24_the_least_loaded_slot_is_found() {
        let mut loads = Loads::new(4);
        assert_eq!(loads.least(), None);
        for (slot, load) in [(0, 2), (1, 1), (2, 3), (3, 1), (4, 4)] {
            loads.set(slot, Some(load));
        }
        assert_eq!(loads.least(), Some((3, 1)), "4 is as high as the window");
        loads.set(3, Some(3));
        assert_eq!(loads.least(), Some((1, 1)));
        loads.set(1, None);
        assert_eq!(loads.least(), Some((0, 2)));
        loads.set(4, Some(0));
        assert_eq!(loads.least(), Some((4, 0)));
    }

    /// Against a plain list, in a long random sequence.
    #[test]
    fn b24_the_lists_of_loads_stay_right() {
        let (mut loads, mut plain) = (Loads::new(5), [None; 20]);
        let mut random = 1_u64;
        for _ in 0..10_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let slot = usize::try_from((random >> 33) % 20).expect("below 20");
            let load = usize::try_from((random >> 40) % 7).ok().filter(|load| *load < 6);
            loads.set(slot, load);
            plain[slot] = load.filter(|load| *load < 5);
            let least = plain.iter().flatten().min().copied();
            assert_eq!(loads.least().map(|(_, load)| load), least);
            if let Some((slot, load)) = loads.least() {
                assert_eq!(plain[slot], Some(load));
            }
        }
    }
}
