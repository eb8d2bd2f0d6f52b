//! Names that nobody else uses: on a shared server, other tests, other threads, other processes and
//! earlier runs live side by side.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

/// A name for a table, role or database that no other test uses: `prefix`, shortened if need be so
/// that the whole fits into PostgreSQL's 63 bytes, and a unique end. It needs no quotes if `prefix`
/// does not.
pub fn unique(prefix: &str) -> String {
    const LONGEST_NAME: usize = 63;
    let end = token();
    let mut length = prefix.len().min(LONGEST_NAME - 1 - end.len());
    while !prefix.is_char_boundary(length) {
        length -= 1;
    }
    format!("{}_{end}", &prefix[..length])
}

/// Lower-case letters and digits that no other call on this machine returns, 19 at most.
pub(crate) fn token() -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    // Process ids come again, though not within the same microsecond after the first call.
    let started = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_micros());
    let mut rest =
        (started << 44) | (u128::from(process::id()) << 20) | u128::from(call & 0xf_ffff);
    let mut digits = Vec::new();
    while rest > 0 {
        digits.push(char::from_digit(u32::try_from(rest % 36).unwrap_or(0), 36).unwrap_or('0'));
        rest /= 36;
    }
    digits.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_fit_and_need_no_quotes() {
        let (a, b) = (unique("t"), unique("t"));
        assert_ne!(a, b);
        assert!(
            a.starts_with("t_")
                && a.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        );
        let long = unique(&"ä".repeat(63));
        assert!(long.len() <= 63 && long.starts_with("ää"), "{long}");
    }
}
