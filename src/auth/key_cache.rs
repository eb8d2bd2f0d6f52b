//! The keys of SCRAM logins that succeeded, for the logins that follow.
//!
//! Deriving keys is what a login costs its client, and it is meant to cost. But the result depends
//! on nothing that is new in each login: connections that share a cache pay once.
//!
//! An entry stands under a *name*: an authentication code, with a random key of the cache's own,
//! over everything that the keys depend on and the user. So the password decides too whether there
//! is a hit, without being kept: who has another password gets other keys, never those of somebody
//! else. Entries do not go stale, for the same name always stands for the same keys; a password
//! that was changed on the server has a new salt there, and with it another name.
//!
//! What a server may ask for is checked before the cache is asked, so a limit that was lowered
//! counts for keys that are here already. And what a server answers is checked against these keys
//! as against any other.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::rc::Rc;

use super::scram::{KeyParameters, ScramKeys};
use crate::crypto::{self, DIGEST_LEN, HmacKey, SecretArray, constant_time_eq};

/// The most entries: one serves a pool; a few more, one whose servers have different salts.
const CAPACITY: usize = 4;

/// The keys that SCRAM logins derive from the password, shared by the connections of a thread.
///
/// A login that finds its keys here derives none. Keys come in when the server has proved itself,
/// so a refused login leaves none behind. There are a few at most, those that were not used for
/// the longest time give way, and all are overwritten in the end.
///
/// A handle: clones are the same cache. An engine gets one by
/// [`set_scram_keys`](crate::engine::Engine::set_scram_keys).
///
/// ```
/// use chopin_pg::PgConfig;
/// use chopin_pg::engine::{Encryption, Engine, ScramKeyCache};
///
/// # fn main() -> chopin_pg::PgResult<()> {
/// let config = PgConfig::new("localhost", 5432, "ada", "s3cret", "shop");
/// let keys = ScramKeyCache::new();
/// for _ in 0..2 {
///     let mut engine = Engine::start(&config, Encryption::None, None)?;
///     engine.set_scram_keys(keys.clone());
///     // The login, over some transport: the second one derives nothing.
/// }
/// assert!(keys.derivations() <= 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ScramKeyCache(Rc<Shared>);

#[derive(Default)]
struct Shared {
    /// What names are made with, from the first login on.
    naming: OnceCell<HmacKey>,
    /// The one that was used last is at the back. Behind an Rc, so that moving an entry leaves no
    /// copy of its keys where it was.
    entries: RefCell<VecDeque<Rc<NamedKeys>>>,
    derivations: Cell<u64>,
}

/// Keys, and what they stand under in the cache.
#[derive(Debug)]
pub(crate) struct NamedKeys {
    name: SecretArray<DIGEST_LEN>,
    keys: ScramKeys,
}

impl NamedKeys {
    pub(crate) fn keys(&self) -> &ScramKeys {
        &self.keys
    }
}

impl ScramKeyCache {
    /// A cache without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many times keys had to be derived because they were not here.
    pub fn derivations(&self) -> u64 {
        self.0.derivations.get()
    }

    /// The keys for this login: those that are here, or else new ones, which do not come in before
    /// [`keep`](Self::keep).
    ///
    /// # Errors
    ///
    /// If the operating system has no random bytes for the key that names are made with.
    pub(super) fn find_or_derive(
        &self,
        user: &str,
        password: &[u8],
        parameters: &KeyParameters,
    ) -> io::Result<Rc<NamedKeys>> {
        let name = self.name(user, password, parameters)?;
        if let Some(found) = self.find(&name) {
            return Ok(found);
        }
        self.0.derivations.set(self.0.derivations.get().saturating_add(1));
        let keys = ScramKeys::derive(password, parameters);
        Ok(Rc::new(NamedKeys { name, keys }))
    }

    /// Takes in keys with which the server has proved itself.
    pub(crate) fn keep(&self, keys: Rc<NamedKeys>) {
        // Several logins may have derived the same keys at the same time.
        if self.find(&keys.name).is_some() {
            return;
        }
        let mut entries = self.0.entries.borrow_mut();
        if entries.len() >= CAPACITY {
            entries.pop_front();
        }
        entries.push_back(keys);
    }

    /// The entry under `name`, which counts as used now.
    fn find(&self, name: &SecretArray<DIGEST_LEN>) -> Option<Rc<NamedKeys>> {
        let mut entries = self.0.entries.borrow_mut();
        let is_it =
            |entry: &Rc<NamedKeys>| constant_time_eq(entry.name.as_bytes(), name.as_bytes());
        let index = entries.iter().position(is_it)?;
        let found = entries.remove(index)?;
        entries.push_back(Rc::clone(&found));
        Some(found)
    }

    fn name(
        &self,
        user: &str,
        password: &[u8],
        parameters: &KeyParameters,
    ) -> io::Result<SecretArray<DIGEST_LEN>> {
        let KeyParameters { salt, iterations } = parameters;
        // The lengths in front, so that no two lists of parts are the same bytes. Names never
        // leave the process: the byte order is its own.
        let name = self.naming_key()?.authenticate(&[
            &user.len().to_ne_bytes(),
            &salt.len().to_ne_bytes(),
            &iterations.get().to_ne_bytes(),
            user.as_bytes(),
            salt,
            password,
        ]);
        Ok(SecretArray::new(name))
    }

    /// What names are made with. Drawn when it is first needed, so that a cache which no login
    /// uses asks for no random bytes.
    fn naming_key(&self) -> io::Result<&HmacKey> {
        if let Some(key) = self.0.naming.get() {
            return Ok(key);
        }
        let mut random = [0; DIGEST_LEN];
        crypto::random(&mut random)?;
        let key = self.0.naming.get_or_init(|| HmacKey::new(&random));
        crypto::wipe(&mut random);
        Ok(key)
    }
}

impl fmt::Debug for ScramKeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeyCache")
            .field("entries", &self.0.entries.borrow().len())
            .field("derivations", &self.derivations())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
