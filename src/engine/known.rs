//! The statements that one connection has prepared, to be found fast.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::catalogue::Unhashed;
use super::prepared::Known;
use super::statement::Statement;

/// So many are looked through one by one: most connections have few, and a map takes room.
const FEW: usize = 16;

/// For each statement what the server has of it.
///
/// A statement carries a hint where it was found last, on whichever connection of the thread. So the
/// one that is run most often is found by one comparison, and only another one by its hash.
#[derive(Debug, Default)]
pub(super) struct KnownStatements {
    list: Vec<Known>,
    /// Where each stands in the list, by the id of the statement; empty while there are few.
    places: HashMap<u64, usize, BuildHasherDefault<Unhashed>>,
}

impl KnownStatements {
    #[inline]
    pub(super) fn get(&self, statement: &Statement) -> Option<&Known> {
        match self.list.get(statement.hint()) {
            Some(known) if known.id == statement.id() => Some(known),
            _ => self.find(statement),
        }
    }

    /// [`get`](Self::get) of a statement that is not where it was found last.
    #[cold]
    fn find(&self, statement: &Statement) -> Option<&Known> {
        let place = self.place_of(statement.id())?;
        statement.set_hint(place);
        self.list.get(place)
    }

    pub(super) fn get_mut(&mut self, statement: &Statement) -> Option<&mut Known> {
        let place = self.place_of(statement.id())?;
        self.list.get_mut(place)
    }

    /// Where a statement stands in the list.
    fn place_of(&self, id: u64) -> Option<usize> {
        match self.places.is_empty() {
            true => self.list.iter().position(|known| known.id == id),
            false => self.places.get(&id).copied(),
        }
    }

    /// What the server has of a statement from now on; returns what it had.
    pub(super) fn insert(&mut self, known: Known) -> Option<Known> {
        let earlier = self.remove(known.id);
        if self.list.is_empty() {
            // Of many connections most have one statement.
            self.list.reserve_exact(1);
        }
        let (id, place) = (known.id, self.list.len());
        self.list.push(known);
        if !self.places.is_empty() {
            self.places.insert(id, place);
        } else if self.list.len() > FEW {
            self.note_places();
        }
        earlier
    }

    /// Fills the map with where each stands.
    fn note_places(&mut self) {
        let all = self.list.iter().enumerate();
        self.places.extend(all.map(|(place, known)| (known.id, place)));
    }

    /// The server has nothing of the statement with this id any more; returns what it had.
    pub(super) fn remove(&mut self, id: u64) -> Option<Known> {
        let place = self.place_of(id)?;
        let removed = self.list.swap_remove(place);
        if self.places.remove(&id).is_some() {
            if let Some(moved) = self.list.get(place) {
                self.places.insert(moved.id, place);
            }
        }
        Some(removed)
    }

    /// Keeps those of which `keep` says so.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Known) -> bool) {
        self.list.retain(keep);
        if !self.places.is_empty() {
            self.places.clear();
            self.note_places();
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Known> {
        self.list.iter_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn statement(sql: &str) -> Statement {
        Statement::new(sql, Vec::new(), Rc::from([]))
    }

    /// Few are looked through, for more there is a map.
    #[test]
    fn each_is_found_wherever_the_others_have_moved_it() {
        [4, FEW, FEW + 1, 3 * FEW].into_iter().for_each(check_a_list_of);
    }

    fn check_a_list_of(count: usize) {
        let mut lists = [KnownStatements::default(), KnownStatements::default()];
        let statements: Vec<_> = (0..count).map(|n| statement(&n.to_string())).collect();
        let [one, other] = &mut lists;
        statements.iter().for_each(|statement| assert!(one.insert(known(statement)).is_none()));
        statements.iter().rev().for_each(|statement| _ = other.insert(known(statement)));
        let found = |list: &KnownStatements| {
            statements
                .iter()
                .filter(|it| list.get(it).is_some_and(|known| known.id == it.id()))
                .count()
        };
        for _ in 0..2 {
            // What is found in the one leaves hints that are wrong for the other.
            assert_eq!((found(one), found(other)), (count, count));
        }
        assert_eq!(one.remove(statements[0].id()).map(|known| known.id), Some(statements[0].id()));
        assert!(one.remove(statements[0].id()).is_none() && one.get(&statements[0]).is_none());
        assert_eq!((found(one), found(other)), (count - 1, count));
        other.retain(|known| known.id != statements[1].id());
        assert_eq!((found(one), found(other), other.len()), (count - 1, count - 1, count - 1));
        assert!(other.get_mut(&statements[1]).is_none() && other.get_mut(&statements[2]).is_some());
        assert!(other.insert(known(&statements[2])).is_some(), "it was there before");
        assert_eq!((found(other), other.len()), (count - 1, count - 1));
        for (place, statement) in statements.iter().enumerate() {
            assert_eq!(other.remove(statement.id()).is_some(), place != 1);
        }
        assert_eq!((found(other), other.len()), (0, 0));
    }

    #[test]
    fn few_statements_have_no_map_whatever_goes_of_them() {
        let statements: Vec<_> = (0..FEW).map(|n| statement(&n.to_string())).collect();
        let mut list = KnownStatements::default();
        statements.iter().for_each(|statement| assert!(list.insert(known(statement)).is_none()));
        list.retain(|known| known.id != statements[3].id());
        assert!(list.remove(statements[5].id()).is_some());
        assert_eq!((list.len(), list.places.capacity()), (FEW - 2, 0));
    }

    fn known(statement: &Statement) -> Known {
        Known::parsing(statement, crate::engine::prepared::Prepared::new(1).new_name(), 0)
    }
}
