//! The statements that one connection has prepared, to be found fast.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::catalogue::Unhashed;
use super::prepared::Known;
use super::statement::Statement;

/// For each statement what the server has of it.
///
/// A statement carries a hint where it was found last, on whichever connection of the thread. So the
/// one that is run most often is found by one comparison, and only another one by its hash.
#[derive(Debug, Default)]
pub(super) struct KnownStatements {
    list: Vec<Known>,
    /// Where each stands in the list, by the id of the statement.
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
        let place = *self.places.get(&statement.id())?;
        statement.set_hint(place);
        self.list.get(place)
    }

    pub(super) fn get_mut(&mut self, statement: &Statement) -> Option<&mut Known> {
        let place = *self.places.get(&statement.id())?;
        self.list.get_mut(place)
    }

    /// What the server has of a statement from now on; returns what it had.
    pub(super) fn insert(&mut self, known: Known) -> Option<Known> {
        let earlier = self.remove(known.id);
        self.places.insert(known.id, self.list.len());
        if self.list.is_empty() {
            // Of many connections most have one statement.
            self.list.reserve_exact(1);
        }
        self.list.push(known);
        earlier
    }

    /// The server has nothing of the statement with this id any more; returns what it had.
    pub(super) fn remove(&mut self, id: u64) -> Option<Known> {
        let place = self.places.remove(&id)?;
        let removed = self.list.swap_remove(place);
        if let Some(moved) = self.list.get(place) {
            self.places.insert(moved.id, place);
        }
        Some(removed)
    }

    /// Keeps those of which `keep` says so.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Known) -> bool) {
        self.list.retain(keep);
        self.places.clear();
        let places = self.list.iter().enumerate().map(|(place, known)| (known.id, place));
        self.places.extend(places);
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

    #[test]
    fn each_is_found_wherever_the_others_have_moved_it() {
        let mut lists = [KnownStatements::default(), KnownStatements::default()];
        let statements = ["a", "b", "c", "d"].map(statement);
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
            assert_eq!((found(one), found(other)), (4, 4));
        }
        assert_eq!(one.remove(statements[0].id()).map(|known| known.id), Some(statements[0].id()));
        assert!(one.remove(statements[0].id()).is_none() && one.get(&statements[0]).is_none());
        assert_eq!((found(one), found(other)), (3, 4));
        other.retain(|known| known.id != statements[1].id());
        assert_eq!((found(one), found(other), other.len()), (3, 3, 3));
        assert!(other.get_mut(&statements[1]).is_none() && other.get_mut(&statements[2]).is_some());
        assert!(other.insert(known(&statements[2])).is_some(), "it was there before");
        assert_eq!((found(other), other.len()), (3, 3));
    }

    fn known(statement: &Statement) -> Known {
        Known::parsing(statement, crate::engine::prepared::Prepared::new(1).new_name(), 0)
    }
}
