//! MD5 (RFC 1321), for the password exchange that PostgreSQL had before SCRAM.
//!
//! MD5 is broken as a hash: it is here because servers still ask for it, and is used for nothing
//! else. Whether an MD5 request is answered at all is decided by the policy of the `auth` floor.

use super::blocks::{BLOCK_LEN, BlockBuffer, words};
use super::wipe::wipe;

/// Bytes in a digest.
const DIGEST_LEN: usize = 16;

/// The chaining variables A to D.
type State = [u32; 4];

/// The chaining variables before the first block (RFC 1321, 3.3).
const INITIAL: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// How far each of the four rounds rotates in its four kinds of step (RFC 1321, 3.4).
const ROTATIONS: [[u32; 4]; 4] =
    [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The table T: step i adds the integer part of 2^32 |sin(i + 1)| (RFC 1321, 3.4).
#[rustfmt::skip]
static SINES: [[u32; 16]; 4] = [
    [
        0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee,
        0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
        0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be,
        0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    ],
    [
        0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa,
        0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
        0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed,
        0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    ],
    [
        0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c,
        0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
        0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05,
        0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    ],
    [
        0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039,
        0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
        0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1,
        0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
    ],
];

/// The MD5 digest of the concatenation of `parts`.
pub(crate) fn md5(parts: &[&[u8]]) -> [u8; DIGEST_LEN] {
    let mut state = INITIAL;
    let mut input = BlockBuffer::after(0);
    for part in parts {
        input.update(part, |block| compress(&mut state, block));
    }
    input.finish(u64::to_le_bytes, |block| compress(&mut state, block));

    let mut digest = [0; DIGEST_LEN];
    for (chunk, word) in digest.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    wipe(&mut state);
    digest
}

/// A digest as lower-case hexadecimal digits, the form in which PostgreSQL stores and hashes it.
pub(crate) fn hex(digest: &[u8; DIGEST_LEN]) -> [u8; 2 * DIGEST_LEN] {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut digits = [0; 2 * DIGEST_LEN];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(digest) {
        pair.copy_from_slice(&[byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)]));
    }
    digits
}

/// Mixes a block into the state (RFC 1321, 3.4).
fn compress(state: &mut State, block: &[u8; BLOCK_LEN]) {
    let mut block = words(block, u32::from_le_bytes);
    let [mut a, mut b, mut c, mut d] = *state;
    for (round, sines) in SINES.iter().enumerate() {
        for (step, sine) in sines.iter().enumerate() {
            let (mixed, word) = match round {
                0 => ((b & c) | (!b & d), step),
                1 => ((b & d) | (c & !d), 5 * step + 1),
                2 => (b ^ c ^ d, 3 * step + 5),
                _ => (c ^ (b | !d), 7 * step),
            };
            let sum = a
                .wrapping_add(mixed)
                .wrapping_add(block[word % block.len()])
                .wrapping_add(*sine)
                .rotate_left(ROTATIONS[round][step % 4]);
            (a, b, c, d) = (d, b.wrapping_add(sum), b, c);
        }
    }
    for (word, variable) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(variable);
    }
    wipe(&mut block);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn md5_hex(parts: &[&[u8]]) -> String {
        hex(&md5(parts)).map(char::from).iter().collect()
    }

    /// RFC 1321, appendix A.5.
    #[test]
    fn s9_14_md5_rfc1321_suite() {
        for (message, expected) in [
            ("", "d41d8cd98f00b204e9800998ecf8427e"),
            ("a", "0cc175b9c0f1b6a831c399e269772661"),
            ("abc", "900150983cd24fb0d6963f7d28e17f72"),
            ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
            ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
            (
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
                "d174ab98d277d9f5a5611c2c9f419d9f",
            ),
            (
                "12345678901234567890123456789012345678901234567890123456789012345678901234567890",
                "57edf4a22be3c955ac49da2e2107b67a",
            ),
        ] {
            assert_eq!(md5_hex(&[message.as_bytes()]), expected, "{message}");
            let (head, tail) = message.as_bytes().split_at(message.len() / 3);
            assert_eq!(md5_hex(&[head, b"", tail]), expected, "{message} in parts");
        }
    }

    #[test]
    fn s9_14_md5_hex_is_lower_case_and_padded() {
        let digest = *b"\x00\x01\x0a\xa0\xff\x10\x7f\x80\x00\x00\x00\x00\x00\x00\x00\xfe";
        assert_eq!(&hex(&digest), b"00010aa0ff107f8000000000000000fe");
    }
}
