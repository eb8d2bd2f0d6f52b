//! The cache alone; logins that use it are in the engine's startup tests.

use std::num::NonZeroU32;

use super::*;

fn parameters(salt: &[u8], iterations: u32) -> KeyParameters {
    let iterations = NonZeroU32::new(iterations).expect("not 0");
    KeyParameters { salt: salt.to_vec(), iterations }
}

/// The keys for a login that only its salt tells from others.
fn salted(cache: &ScramKeyCache, salt: &[u8]) -> Rc<NamedKeys> {
    cache.find_or_derive("ada", b"s3cret", &parameters(salt, 2)).expect("random bytes")
}

#[test]
fn s9_4_keys_come_into_the_cache_only_when_they_are_kept() {
    let cache = ScramKeyCache::new();
    let keys = salted(&cache, b"salt");
    assert!(!Rc::ptr_eq(&keys, &salted(&cache, b"salt")));
    assert_eq!(cache.derivations(), 2);

    cache.keep(Rc::clone(&keys));
    let other_handle = cache.clone();
    assert!(Rc::ptr_eq(&keys, &salted(&other_handle, b"salt")));
    assert_eq!((cache.derivations(), other_handle.derivations()), (2, 2));
    assert_eq!(ScramKeyCache::new().derivations(), 0);
}

#[test]
fn s9_4_everything_that_the_keys_depend_on_decides_whether_they_are_found() {
    let logins = [
        ("ada", "s3cret", "salt", 2),
        ("bob", "s3cret", "salt", 2),
        ("ada", "s3cre", "salt", 2),
        ("ada", "", "salt", 2),
        ("ada", "s3cret", "sal", 2),
        ("ada", "s3cret", "salt", 3),
        // The same bytes in one row, cut elsewhere.
        ("adas", "s3cret", "alt", 2),
        ("ada", "ts3cret", "sal", 2),
        ("ad", "s3cret", "asalt", 2),
    ];
    for this in logins {
        let cache = ScramKeyCache::new();
        let find = |(user, password, salt, iterations): (&str, &str, &str, u32)| {
            let parameters = parameters(salt.as_bytes(), iterations);
            cache.find_or_derive(user, password.as_bytes(), &parameters).expect("random bytes")
        };
        let keys = find(this);
        cache.keep(Rc::clone(&keys));
        for other in logins {
            assert_eq!(Rc::ptr_eq(&keys, &find(other)), this == other, "{this:?} {other:?}");
        }
    }
}

#[test]
fn h37_the_keys_that_were_not_used_for_the_longest_time_give_way_and_are_gone() {
    let cache = ScramKeyCache::new();
    let kept: Vec<_> = (0..CAPACITY)
        .map(|number| {
            let keys = salted(&cache, &[7, u8::try_from(number).expect("few")]);
            let entry = Rc::downgrade(&keys);
            cache.keep(keys);
            entry
        })
        .collect();
    assert!(kept.iter().all(|entry| entry.upgrade().is_some()));

    salted(&cache, &[7, 0]);
    cache.keep(salted(&cache, b"one more"));
    let left: Vec<_> = kept.iter().map(|entry| entry.upgrade().is_some()).collect();
    assert_eq!(left, [true, false, true, true], "the second was used the longest time ago");
    drop(cache);
    // Nobody has them any more: they were dropped, and with that overwritten.
    assert!(kept.iter().all(|entry| entry.strong_count() == 0));
}

#[test]
fn s9_4_keys_of_logins_at_the_same_time_come_in_once() {
    let cache = ScramKeyCache::new();
    let (first, second) = (salted(&cache, b"salt"), salted(&cache, b"salt"));
    cache.keep(Rc::clone(&first));
    cache.keep(second);
    assert_eq!(cache.0.entries.borrow().len(), 1);
    assert!(Rc::ptr_eq(&first, &salted(&cache, b"salt")));
}

#[test]
fn h37_the_cache_shows_no_secret() {
    let cache = ScramKeyCache::new();
    let keys = salted(&cache, b"salt");
    cache.keep(Rc::clone(&keys));
    assert_eq!(format!("{cache:?}"), "ScramKeyCache { entries: 1, derivations: 1, .. }");
    let shown = format!("{keys:?}");
    assert!(shown.starts_with("NamedKeys { name: <secret>, keys: "), "{shown}");
    assert_eq!(shown.matches("<secret>").count(), 3, "{shown}");
}
