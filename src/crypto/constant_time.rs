//! Comparing without telling, by the time it takes, where two secrets differ.

use std::hint::black_box;

/// Whether `a` and `b` hold the same bytes.
///
/// The time depends on the lengths alone, which are not secret anywhere this is used; the bytes
/// are all looked at, whether or not an earlier one differs.
pub(crate) fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    // `black_box` keeps the compiler from seeing that the result is decided before the end.
    let difference = a.iter().zip(b).fold(0, |seen, (x, y)| black_box(seen | (x ^ y)));
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::constant_time_eq;

    #[test]
    fn h31_equality_looks_at_every_byte() {
        let original: Vec<u8> = (0..=255).collect();
        assert!(constant_time_eq(&original, &original.clone()));
        for at in 0..original.len() {
            for bit in 0..8 {
                let mut changed = original.clone();
                changed[at] ^= 1 << bit;
                assert!(!constant_time_eq(&original, &changed), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn h31_equality_needs_equal_lengths() {
        assert!(constant_time_eq(b"", b""));
        assert!(!constant_time_eq(b"", b"\0"));
        assert!(!constant_time_eq(b"abc", b"ab"));
        assert!(!constant_time_eq(b"ab", b"abc"));
    }
}
