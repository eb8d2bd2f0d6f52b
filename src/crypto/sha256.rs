//! SHA-256 (FIPS 180-4), by the processor's own instructions where it has them.
//!
//! The choice is made at run time, each time a hash or a key schedule is begun (the answer is
//! cached by the standard library, so it costs a few loads), and does not change the result:
//!
//! | processor | used when present |
//! |---|---|
//! | x86-64 | SHA extensions, with SSSE3 and SSE4.1 |
//! | AArch64, little-endian | Armv8 SHA2 |
//! | any other | the portable code of this file |
//!
//! The processor-specific files hold one function each, the compression of one block; padding,
//! buffering and byte order are here, once.

use super::blocks::{BLOCK_LEN, BlockBuffer, words};
use super::wipe::wipe;

#[cfg(target_arch = "aarch64")]
#[path = "sha256/aarch64.rs"]
mod processor;
#[cfg(target_arch = "x86_64")]
#[path = "sha256/x86.rs"]
mod processor;

/// Bytes in a digest.
pub(crate) const DIGEST_LEN: usize = 32;

/// The eight chaining variables a to h.
pub(super) type State = [u32; 8];

/// A message block as its sixteen big-endian words.
///
/// Words, not bytes, because PBKDF2 feeds one compression's words to the next: thousands of times
/// no byte order needs to be changed.
pub(super) type Block = [u32; 16];

/// The chaining variables before the first block (FIPS 180-4, 5.3.3).
pub(super) const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The round constants (FIPS 180-4, 4.2.2), four rounds a line as the instructions take them.
#[rustfmt::skip]
static ROUND_CONSTANTS: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// The compression function in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Compressor(Choice);

/// Private, so that nothing but [`Compressor::detect`] can choose the processor's instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Choice {
    Portable,
    /// Invariant: `processor::is_available` said yes.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Processor,
}

impl Compressor {
    /// Plain Rust, for every processor.
    #[cfg(test)]
    pub(super) const PORTABLE: Self = Self(Choice::Portable);

    /// The fastest one that this processor can run.
    pub(super) fn detect() -> Self {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if processor::is_available() {
            return Self(Choice::Processor);
        }
        Self(Choice::Portable)
    }

    /// Mixes `block` into `state`.
    #[inline]
    pub(super) fn compress(self, state: &mut State, block: &Block) {
        match self.0 {
            Choice::Portable => compress_portable(state, block),
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            #[allow(unsafe_code)]
            // SAFETY: the processor has the instructions, by the invariant of `Choice::Processor`.
            Choice::Processor => unsafe { processor::compress(state, block) },
        }
    }
}

/// A running SHA-256 hash.
#[derive(Clone)]
pub(crate) struct Sha256 {
    state: State,
    input: BlockBuffer,
    compressor: Compressor,
}

impl Sha256 {
    /// The hash of no bytes so far.
    pub(crate) fn new() -> Self {
        Self::with(Compressor::detect())
    }

    /// As [`Sha256::new`], with a chosen compression function.
    pub(super) fn with(compressor: Compressor) -> Self {
        Self::resume(INITIAL, 0, compressor)
    }

    /// Goes on from `state`, which whole blocks of together `absorbed` bytes have led to.
    pub(super) fn resume(state: State, absorbed: u64, compressor: Compressor) -> Self {
        Self { state, input: BlockBuffer::after(absorbed), compressor }
    }

    /// Appends `data` to the message.
    pub(crate) fn update(&mut self, data: &[u8]) {
        let Self { state, input, compressor } = self;
        input.update(data, |block| compress_bytes(*compressor, state, block));
    }

    /// The digest of the message.
    pub(crate) fn finish(mut self) -> [u8; DIGEST_LEN] {
        let Self { state, input, compressor } = &mut self;
        input.finish(u64::to_be_bytes, |block| compress_bytes(*compressor, state, block));
        digest(state)
    }
}

impl Drop for Sha256 {
    fn drop(&mut self) {
        wipe(&mut self.state);
    }
}

/// The SHA-256 digest of `data`.
pub(crate) fn sha256(data: &[u8]) -> [u8; DIGEST_LEN] {
    let mut hash = Sha256::new();
    hash.update(data);
    hash.finish()
}

/// The chaining variables as the bytes of a digest.
pub(super) fn digest(state: &State) -> [u8; DIGEST_LEN] {
    let mut bytes = [0; DIGEST_LEN];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// Mixes a block of bytes into `state` and leaves no copy of it.
fn compress_bytes(compressor: Compressor, state: &mut State, block: &[u8; BLOCK_LEN]) {
    let mut block = words(block, u32::from_be_bytes);
    compressor.compress(state, &block);
    wipe(&mut block);
}

/// The compression function as FIPS 180-4, 6.2.2 has it.
///
/// The message schedule is kept as its last sixteen words: round t of each later sixteen replaces
/// word t by W(t) = s1(W(t-2)) + W(t-7) + s0(W(t-15)) + W(t-16).
fn compress_portable(state: &mut State, block: &Block) {
    let mut schedule = *block;
    let mut variables = *state;
    for (sixteen, constants) in ROUND_CONSTANTS.chunks_exact(4).enumerate() {
        for (at, constant) in constants.as_flattened().iter().enumerate() {
            if sixteen > 0 {
                let [two, seven, fifteen] =
                    [14, 9, 1].map(|ahead| schedule[(at + ahead) % schedule.len()]);
                let s0 = fifteen.rotate_right(7) ^ fifteen.rotate_right(18) ^ (fifteen >> 3);
                let s1 = two.rotate_right(17) ^ two.rotate_right(19) ^ (two >> 10);
                schedule[at] = schedule[at].wrapping_add(s0).wrapping_add(seven).wrapping_add(s1);
            }
            round(&mut variables, constant.wrapping_add(schedule[at]));
        }
    }
    for (word, variable) in state.iter_mut().zip(variables) {
        *word = word.wrapping_add(variable);
    }
    wipe(&mut schedule);
    wipe(&mut variables);
}

/// One round; `input` is the round's constant plus its schedule word.
#[inline(always)]
fn round(variables: &mut State, input: u32) {
    let [a, b, c, d, e, f, g, h] = *variables;
    let sum1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
    let choice = (e & f) ^ (!e & g);
    let t1 = h.wrapping_add(sum1).wrapping_add(choice).wrapping_add(input);
    let sum0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
    let majority = (a & b) ^ (a & c) ^ (b & c);
    let t2 = sum0.wrapping_add(majority);
    *variables = [t1.wrapping_add(t2), a, b, c, d.wrapping_add(t1), e, f, g];
}

#[cfg(test)]
mod tests {
    use super::super::wipe::bytes_after_drop;
    use super::*;

    /// Hashes `message` with the processor's and with the portable compression.
    fn both_hex(message: &[u8]) -> String {
        let [detected, portable] = [Compressor::detect(), Compressor::PORTABLE].map(|compressor| {
            let mut hash = Sha256::with(compressor);
            hash.update(message);
            hash.finish()
        });
        assert_eq!(detected, portable, "{} bytes", message.len());
        assert_eq!(sha256(message), detected);
        detected.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The examples of FIPS 180-4 and NIST's additional ones (SHA256.pdf, "Secure Hashing" page).
    #[test]
    fn s8_3_sha256_nist_vectors() {
        for (message, expected) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (
                "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn\
                 hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
                "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
            ),
        ] {
            assert_eq!(both_hex(message.as_bytes()), expected, "{message}");
        }
        assert_eq!(
            both_hex(&[b'a'; 1_000_000]),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
        );
        for (byte, length, expected) in [
            (0xbd, 1, "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b"),
            (0, 55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7"),
            (0, 56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb"),
            (0, 57, "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785"),
            (0, 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"),
            (0, 1000, "541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53"),
            (b'A', 1000, "c2e686823489ced2017f6059b8b239318b6364f6dcd835d0a519105a1eadd6e4"),
            (b'U', 1005, "f4d62ddec0f3dd90ea1380fa16a5ff8dc4c54b21740650f24afc4120903552b0"),
            (0, 1_000_000, "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025"),
        ] {
            assert_eq!(both_hex(&vec![byte; length]), expected, "{length} times {byte:#x}");
        }
    }

    #[test]
    fn s8_3_sha256_pieces_make_the_whole() {
        let message: Vec<u8> = (0..=255).cycle().take(200).collect();
        for length in 0..=message.len() {
            let whole = sha256(&message[..length]);
            for split in 0..=length {
                let mut hash = Sha256::new();
                hash.update(&message[..split]);
                let mut other = hash.clone();
                hash.update(&message[split..length]);
                assert_eq!(hash.finish(), whole, "{length} bytes split at {split}");
                other.update(b"something else");
                assert_ne!(other.finish(), whole, "a clone goes its own way");
            }
        }
    }

    #[test]
    fn h37_sha256_states_are_wiped_on_drop() {
        let mut hash = Sha256::new();
        hash.update(&[0x5a; 100]);
        let state = hash.state;
        let left = bytes_after_drop(hash);
        assert!(!left.contains(&0x5a), "{left:x?}");
        for word in state {
            assert!(!left.windows(4).any(|bytes| bytes == word.to_ne_bytes()), "{left:x?}");
        }
    }
}
