//! The statements that queries are cached as, shared by the connections of a pool.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use super::statement::Statement;
use crate::types::{Encoded, Oid, Out, Params, TypeMap};

/// The longest SQL text that is cached, in bytes: what is longer was put together for one use.
pub(super) const LONGEST_CACHED: usize = 64 * 1024;

/// The statements of a cache: for each SQL text and list of declared parameter types one
/// [`Statement`].
///
/// Several connections of a thread may share one; each keeps for itself which of the statements its
/// server has. When there are more than the capacity, the one that was not used for the longest
/// time gives way; each connection closes its server's side of it a little later.
#[derive(Clone)]
pub struct Catalogue(Rc<RefCell<Entries>>);

struct Entries {
    /// By the hash of the SQL text. The hash only finds the bucket: text and types are compared.
    buckets: HashMap<u64, Vec<Entry>, BuildHasherDefault<Unhashed>>,
    capacity: usize,
    count: usize,
    /// Counts look-ups: the age of an entry.
    tick: u64,
    hash: fn(&[u8]) -> u64,
}

struct Entry {
    statement: Statement,
    /// The tick of its last use.
    used: u64,
}

impl Catalogue {
    /// A catalogue for at most `capacity` statements; 0 caches none.
    pub fn new(capacity: usize) -> Self {
        Self::with_hash(capacity, hash)
    }

    pub(super) fn with_hash(capacity: usize, hash: fn(&[u8]) -> u64) -> Self {
        let buckets = HashMap::default();
        Self(Rc::new(RefCell::new(Entries { buckets, capacity, count: 0, tick: 0, hash })))
    }

    /// How many statements are in it.
    pub fn len(&self) -> usize {
        self.0.borrow().count
    }

    /// Whether there are none in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most statements that it holds.
    pub fn capacity(&self) -> usize {
        self.0.borrow().capacity
    }

    /// Sets the most statements that it holds; those that are too many give way at once.
    pub fn set_capacity(&self, capacity: usize) {
        let mut entries = self.0.borrow_mut();
        entries.capacity = capacity;
        while entries.count > capacity {
            entries.evict();
        }
    }

    /// Forgets all statements.
    pub fn clear(&self) {
        let mut entries = self.0.borrow_mut();
        entries.buckets.clear();
        entries.count = 0;
    }

    /// The statement for this text with these parameters, if it is here.
    #[inline]
    pub(super) fn find(&self, sql: &str, params: &dyn Params) -> Option<Statement> {
        let mut entries = self.0.borrow_mut();
        if entries.count == 0 {
            return None;
        }
        entries.tick += 1;
        let (tick, hash) = (entries.tick, (entries.hash)(sql.as_bytes()));
        let bucket = entries.buckets.get_mut(&hash)?;
        let fits = |entry: &&mut Entry| {
            entry.statement.sql() == sql && types_fit(entry.statement.params(), params)
        };
        let entry = bucket.iter_mut().find(fits)?;
        entry.used = tick;
        Some(entry.statement.clone())
    }

    /// Keeps a statement that [`find`](Self::find) did not find.
    pub(super) fn insert(&self, statement: Statement) {
        let mut entries = self.0.borrow_mut();
        if entries.capacity == 0 {
            return;
        }
        while entries.count >= entries.capacity {
            entries.evict();
        }
        entries.tick += 1;
        entries.count += 1;
        let (used, hash) = (entries.tick, (entries.hash)(statement.sql().as_bytes()));
        entries.buckets.entry(hash).or_default().push(Entry { statement, used });
    }

    /// Forgets a statement that turned out to be none.
    pub(super) fn remove(&self, statement: &Statement) {
        let mut entries = self.0.borrow_mut();
        let hash = (entries.hash)(statement.sql().as_bytes());
        entries.remove(hash, |entry| entry.statement.id() == statement.id());
    }
}

impl Entries {
    /// Removes the entry that was not used for the longest time.
    fn evict(&mut self) {
        let all = self
            .buckets
            .iter()
            .flat_map(|(hash, bucket)| bucket.iter().map(move |entry| (entry.used, *hash)));
        match all.min() {
            Some((used, hash)) => self.remove(hash, |entry| entry.used == used),
            None => self.count = 0,
        }
    }

    fn remove(&mut self, hash: u64, is_it: impl Fn(&Entry) -> bool) {
        let Some(bucket) = self.buckets.get_mut(&hash) else { return };
        let before = bucket.len();
        bucket.retain(|entry| !is_it(entry));
        self.count -= before - bucket.len();
        if bucket.is_empty() {
            self.buckets.remove(&hash);
        }
    }
}

/// Whether parameters go with the declared types of a statement: each declares itself as the same
/// type. A NULL without a type goes with every type.
#[inline]
fn types_fit(types: &[Oid], params: &dyn Params) -> bool {
    params.len() == types.len()
        && types.iter().enumerate().all(|(index, expected)| {
            params.param(index).is_some_and(|param| {
                let declared = param.declare(TypeMap::builtin());
                declared == *expected || (declared == Oid::UNSPECIFIED && is_null(param))
            })
        })
}

/// Whether a value is NULL. Only asked for values that declare no type.
#[cold]
fn is_null(param: &dyn crate::types::ToSql) -> bool {
    let mut scratch = Vec::new();
    matches!(param.encode(TypeMap::builtin(), &mut Out::new(&mut scratch)), Ok(Encoded::Null))
}

/// A hash of an SQL text, eight bytes at a time. Not one that withstands an attacker: who can
/// choose the texts that a program runs needs no collisions, and at worst a bucket is long.
#[inline]
pub(super) fn hash(text: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let hash = (hash ^ word).wrapping_mul(FACTOR);
        hash ^ (hash >> 32)
    };
    let mut chunks = text.chunks_exact(8);
    let mut hash = text.len() as u64;
    for chunk in &mut chunks {
        hash = mix(hash, chunk.try_into().map_or(0, u64::from_le_bytes));
    }
    let rest = chunks.remainder().iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    mix(hash, rest)
}

/// Hashes of texts, and numbers that count up, are spread enough as they are.
#[derive(Default)]
pub(super) struct Unhashed(u64);

impl Hasher for Unhashed {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
    #[inline]
    fn write_u64(&mut self, number: u64) {
        // The map takes the top bits for its tags.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes);
    }
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalogue({} of {} statements)", self.len(), self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PgValue;

    fn add(catalogue: &Catalogue, sql: &str, types: &[Oid]) -> Statement {
        let statement = Statement::new(sql, types.to_vec(), Rc::from([]));
        catalogue.insert(statement.clone());
        statement
    }

    fn found(catalogue: &Catalogue, sql: &str, params: &dyn Params) -> Option<u64> {
        catalogue.find(sql, params).map(|statement| statement.id())
    }

    #[test]
    fn h5_texts_with_the_same_hash_are_told_apart() {
        let catalogue = Catalogue::with_hash(10, |_| 7);
        let one = add(&catalogue, "select 1", &[]);
        let two = add(&catalogue, "select 2", &[]);
        assert_eq!(found(&catalogue, "select 1", &()), Some(one.id()));
        assert_eq!(found(&catalogue, "select 2", &()), Some(two.id()));
        assert_eq!(found(&catalogue, "select 3", &()), None);
        catalogue.remove(&one);
        assert_eq!(found(&catalogue, "select 1", &()), None);
        assert_eq!(found(&catalogue, "select 2", &()), Some(two.id()));
    }

    #[test]
    fn s9_2_declared_types_are_part_of_the_key() {
        let catalogue = Catalogue::new(10);
        let int4 = add(&catalogue, "select $1", &[Oid::INT4]);
        let int8 = add(&catalogue, "select $1", &[Oid::INT8]);
        let text = add(&catalogue, "select $1", &[Oid::UNSPECIFIED]);
        assert_eq!(found(&catalogue, "select $1", &(1_i32,)), Some(int4.id()));
        assert_eq!(found(&catalogue, "select $1", &(1_i64,)), Some(int8.id()));
        assert_eq!(found(&catalogue, "select $1", &("1",)), Some(text.id()));
        assert_eq!(found(&catalogue, "select $1", &(1.5,)), None);
        assert_eq!(found(&catalogue, "select $1", &()), None);
    }

    #[test]
    fn s9_2_a_null_without_a_type_goes_with_any() {
        let catalogue = Catalogue::new(10);
        let int8 = add(&catalogue, "select $1", &[Oid::INT8]);
        assert_eq!(found(&catalogue, "select $1", &(PgValue::Null,)), Some(int8.id()));
        assert_eq!(found(&catalogue, "select $1", &(None::<i32>,)), None, "this one has a type");
    }

    #[test]
    fn s9_17_the_one_not_used_for_the_longest_time_gives_way() {
        let catalogue = Catalogue::new(2);
        add(&catalogue, "a", &[]);
        add(&catalogue, "b", &[]);
        assert!(found(&catalogue, "a", &()).is_some());
        add(&catalogue, "c", &[]);
        assert!(found(&catalogue, "b", &()).is_none());
        assert!(found(&catalogue, "a", &()).is_some());
        assert_eq!(catalogue.len(), 2);
        catalogue.set_capacity(1);
        assert!(found(&catalogue, "a", &()).is_some(), "the one used last stays");
        catalogue.set_capacity(0);
        assert!(catalogue.is_empty());
        add(&catalogue, "d", &[]);
        assert!(catalogue.is_empty(), "a capacity of 0 keeps none");
    }

    #[test]
    fn the_hash_depends_on_every_byte() {
        let text = "select a, b from t where id = $1";
        for index in 0..text.len() {
            let mut other = text.as_bytes().to_vec();
            other[index] ^= 1;
            assert_ne!(hash(text.as_bytes()), hash(&other), "byte {index}");
        }
        assert_ne!(hash(b""), hash(b"\0"));
    }
}
