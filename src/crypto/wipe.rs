//! Overwriting secrets, and the owners that do it when they are dropped.
//!
//! [`wipe`] is the one place that overwrites. The owners differ in what they hold: [`SecretArray`]
//! a derived key of fixed length, [`SecretBytes`] and [`SecretString`] a password or a token. None
//! of them can be printed: `Debug` writes `<secret>` and there is no `Display`.

use std::fmt;
use std::mem;
use std::sync::atomic::{Ordering, compiler_fence};

use super::constant_time::constant_time_eq;

/// What `Debug` prints in place of a secret.
const HIDDEN: &str = "<secret>";

/// Overwrites every value with its default (zero, for the integers this is used with).
///
/// The compiler may not drop these writes, although nothing reads the memory afterwards.
#[allow(unsafe_code)]
pub(crate) fn wipe<T: Copy + Default>(values: &mut [T]) {
    for value in values {
        // SAFETY: `value` is an exclusive reference, so it is valid for writes and aligned; `T` is
        // `Copy`, so overwriting it skips no destructor.
        unsafe { std::ptr::write_volatile(value, T::default()) };
    }
    // Keeps later accesses (the memory's next owner) behind the writes.
    compiler_fence(Ordering::SeqCst);
}

/// Overwrites the whole allocation of `bytes`, the unused capacity included, and empties it.
fn wipe_allocation(bytes: &mut Vec<u8>) {
    bytes.clear();
    // Within the capacity, so this neither allocates nor moves: it only makes every byte reachable.
    bytes.resize(bytes.capacity(), 0);
    wipe(bytes);
    bytes.clear();
}

/// A key or signature of `N` bytes that is wiped when dropped.
#[derive(Clone)]
pub(crate) struct SecretArray<const N: usize>([u8; N]);

impl<const N: usize> SecretArray<N> {
    /// Takes over `bytes`.
    pub(crate) fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// The secret itself.
    pub(crate) fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> Drop for SecretArray<N> {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl<const N: usize> fmt::Debug for SecretArray<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Bytes of any length that are wiped, with all of their allocation, when dropped.
///
/// Growing moves the bytes to a larger allocation and wipes the one that is left.
#[derive(Clone, Default)]
pub(crate) struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// No bytes, and room for `capacity` of them before the first move.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The secret itself.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends `more`.
    pub(crate) fn extend_from_slice(&mut self, more: &[u8]) {
        let needed = self.0.len() + more.len();
        if needed > self.0.capacity() {
            let mut grown = Vec::with_capacity(needed.max(self.0.capacity() * 2));
            grown.extend_from_slice(&self.0);
            wipe_allocation(&mut mem::replace(&mut self.0, grown));
        }
        self.0.extend_from_slice(more);
    }
}

impl From<Vec<u8>> for SecretBytes {
    /// Takes over the allocation: nothing is copied.
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        wipe_allocation(&mut self.0);
    }
}

impl PartialEq for SecretBytes {
    /// Takes the same time whichever bytes differ.
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(&self.0, &other.0)
    }
}

impl Eq for SecretBytes {}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Text that is wiped, with all of its allocation, when dropped.
#[derive(Clone, Default)]
pub(crate) struct SecretString(String);

impl SecretString {
    /// The secret itself.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretString {
    /// Takes over the allocation: nothing is copied.
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for SecretString {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Drop for SecretString {
    fn drop(&mut self) {
        wipe_allocation(&mut mem::take(&mut self.0).into_bytes());
    }
}

impl PartialEq for SecretString {
    /// Takes the same time whichever bytes differ.
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for SecretString {}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Drops a value in place and returns what its memory holds afterwards.
///
/// Only for types without heap memory or padding, which is what the callers pass.
#[cfg(test)]
#[allow(unsafe_code)]
pub(super) fn bytes_after_drop<T>(value: T) -> Vec<u8> {
    let mut slot = mem::ManuallyDrop::new(value);
    let address: *const u8 = (&raw const slot).cast();
    // SAFETY: the value is dropped exactly once, here, and not used as a `T` again.
    unsafe { mem::ManuallyDrop::drop(&mut slot) };
    // Bytes are read one by one, volatile, so that the compiler cannot reason about the dead value.
    // SAFETY: the slot is still a live local of `size_of::<T>()` bytes; the callers' types have no
    // padding that was never written.
    (0..size_of::<T>()).map(|at| unsafe { address.add(at).read_volatile() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h37_wipe_overwrites_every_value() {
        let mut bytes = [0xa5_u8; 37];
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 37]);

        let mut words = [0xdead_beef_u32; 8];
        wipe(&mut words);
        assert_eq!(words, [0; 8]);
    }

    #[test]
    fn h37_wiping_covers_the_unused_capacity() {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(b"hunter2 and something longer");
        bytes.truncate(3);
        let allocation = bytes.as_ptr();
        wipe_allocation(&mut bytes);
        assert!(bytes.is_empty());
        assert_eq!(bytes.as_ptr(), allocation, "wiped in place, not moved");

        #[allow(unsafe_code)]
        // SAFETY: `wipe_allocation` resized to the capacity before it cleared, so all 64 bytes are
        // initialised, and the allocation has not moved since.
        unsafe {
            bytes.set_len(64);
        }
        assert!(bytes.iter().all(|byte| *byte == 0), "{bytes:?}");
    }

    #[test]
    fn h37_secret_array_is_wiped_on_drop() {
        assert_eq!(bytes_after_drop(SecretArray::new([0x5a; 32])), [0; 32]);
    }

    #[test]
    fn h37_growing_keeps_the_bytes_and_the_capacity_ahead() {
        let mut secret = SecretBytes::with_capacity(4);
        let mut expected = Vec::new();
        for round in 0..100_u8 {
            secret.extend_from_slice(&[round; 3]);
            expected.extend_from_slice(&[round; 3]);
            assert_eq!(secret.as_bytes(), expected);
        }
    }

    #[test]
    fn h37_debug_never_shows_a_secret() {
        assert_eq!(format!("{:?}", SecretArray::new(*b"hunter2")), "<secret>");
        assert_eq!(format!("{:?}", SecretBytes::from(&b"hunter2"[..])), "<secret>");
        assert_eq!(format!("{:?}", SecretString::from("hunter2")), "<secret>");
        assert_eq!(
            format!("{:#?}", Some(SecretString::from("hunter2"))),
            "Some(\n    <secret>,\n)"
        );
    }

    #[test]
    fn secrets_compare_by_content() {
        assert_eq!(SecretString::from("a"), SecretString::from("a".to_owned()));
        assert_ne!(SecretString::from("a"), SecretString::from("ab"));
        assert_eq!(SecretBytes::from(vec![1, 2]), SecretBytes::from(&[1, 2][..]));
        assert_ne!(SecretBytes::from(vec![1, 2]), SecretBytes::from(vec![1, 3]));
        assert_eq!(SecretString::from("hunter2").as_str(), "hunter2");
    }
}
