//! HMAC-SHA-256 (RFC 2104).
//!
//! The key is mixed in once, by [`HmacKey::new`]; each message then starts from the two states that
//! this led to. PBKDF2 authenticates thousands of messages with one key, so it matters there.

use super::blocks::{BLOCK_LEN, words};
use super::sha256::{Block, Compressor, DIGEST_LEN, INITIAL, Sha256, State};
use super::wipe::wipe;

/// A key, as the SHA-256 states after the inner and the outer padded key block.
///
/// Whoever has these states can authenticate as if they had the key: they are wiped when dropped.
#[derive(Clone)]
pub(crate) struct HmacKey {
    inner: State,
    outer: State,
    compressor: Compressor,
}

impl HmacKey {
    /// Mixes in `key`, of any length.
    pub(crate) fn new(key: &[u8]) -> Self {
        Self::with(Compressor::detect(), key)
    }

    /// As [`HmacKey::new`], with a chosen compression function.
    pub(super) fn with(compressor: Compressor, key: &[u8]) -> Self {
        let mut padded = [0; BLOCK_LEN];
        if key.len() > BLOCK_LEN {
            let mut hash = Sha256::with(compressor);
            hash.update(key);
            let mut hashed = hash.finish();
            padded[..DIGEST_LEN].copy_from_slice(&hashed);
            wipe(&mut hashed);
        } else {
            padded[..key.len()].copy_from_slice(key);
        }
        let after = |pad: u8| {
            let mut state = INITIAL;
            let mut block = words(&padded, u32::from_be_bytes);
            for word in &mut block {
                *word ^= u32::from_ne_bytes([pad; 4]);
            }
            compressor.compress(&mut state, &block);
            wipe(&mut block);
            state
        };
        let key = Self { inner: after(0x36), outer: after(0x5c), compressor };
        wipe(&mut padded);
        key
    }

    /// The authentication code of the concatenation of `parts`.
    pub(crate) fn authenticate(&self, parts: &[&[u8]]) -> [u8; DIGEST_LEN] {
        let resume = |state| Sha256::resume(state, BLOCK_LEN as u64, self.compressor);
        let mut inner = resume(self.inner);
        for part in parts {
            inner.update(part);
        }
        let mut outer = resume(self.outer);
        let mut hashed = inner.finish();
        outer.update(&hashed);
        wipe(&mut hashed);
        outer.finish()
    }

    /// Replaces the digest in `message` by its authentication code, in two compressions.
    pub(super) fn authenticate_in_place(&self, message: &mut DigestBlock) {
        let DigestBlock { block, state } = message;
        for start in [&self.inner, &self.outer] {
            *state = *start;
            self.compressor.compress(state, block);
            block[..state.len()].copy_from_slice(state);
        }
    }
}

impl Drop for HmacKey {
    fn drop(&mut self) {
        wipe(&mut self.inner);
        wipe(&mut self.outer);
    }
}

/// A message of one digest, padded to the only block that is left to compress once the key block
/// has been: the same for the inner and for the outer hash.
pub(super) struct DigestBlock {
    block: Block,
    /// Where the compressions happen; here so that it is wiped with the block.
    state: State,
}

impl DigestBlock {
    /// Pads `digest`.
    pub(super) fn new(digest: &[u8; DIGEST_LEN]) -> Self {
        let mut padded = [0; BLOCK_LEN];
        padded[..DIGEST_LEN].copy_from_slice(digest);
        padded[DIGEST_LEN] = 0x80;
        let mut block = words(&padded, u32::from_be_bytes);
        wipe(&mut padded);
        // The length in bits, of the key block and the digest together.
        block[15] = 8 * (64 + 32);
        Self { block, state: [0; 8] }
    }

    /// The digest, as words.
    pub(super) fn digest_words(&self) -> &[u32] {
        &self.block[..self.state.len()]
    }
}

impl Drop for DigestBlock {
    fn drop(&mut self) {
        wipe(&mut self.block);
        wipe(&mut self.state);
    }
}

/// The authentication code under `key` of the concatenation of `parts`.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; DIGEST_LEN] {
    HmacKey::new(key).authenticate(parts)
}

#[cfg(test)]
mod tests {
    use super::super::wipe::bytes_after_drop;
    use super::*;

    /// RFC 4231, section 4: key, data, HMAC-SHA-256. Case 5 asks for the first 128 bits only.
    #[test]
    fn s8_3_hmac_rfc4231() {
        let counting: Vec<u8> = (1..=25).collect();
        let cases: [(&[u8], &[u8], &str); 7] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 20],
                &[0xdd; 50],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
            ),
            (
                &counting,
                &[0xcd; 50],
                "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            ),
            (&[0x0c; 20], b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                &[0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size \
                  data. The key needs to be hashed before being used by the HMAC algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (number, (key, data, expected)) in (1..).zip(cases) {
            let code = hmac_sha256(key, &[data]);
            let hex: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(hex.starts_with(expected), "case {number}: {hex}");
            // The same in pieces, from a key that is used twice.
            let key = HmacKey::new(key);
            let (head, tail) = data.split_at(data.len() / 2);
            assert_eq!(key.authenticate(&[head, b"", tail]), code, "case {number}");
            assert_eq!(key.clone().authenticate(&[data]), code, "case {number}");
        }
    }

    #[test]
    fn h37_hmac_keys_are_wiped_on_drop() {
        let key = HmacKey::new(b"hunter2");
        let states = [key.inner, key.outer].concat();
        assert!(states.iter().all(|word| *word != 0));
        let left = bytes_after_drop(key);
        for word in states {
            let word = word.to_ne_bytes();
            assert!(!left.windows(4).any(|bytes| bytes == word), "{left:x?}");
        }

        let message = DigestBlock::new(&[0x5a; DIGEST_LEN]);
        assert!(!bytes_after_drop(message).contains(&0x5a));
    }
}
