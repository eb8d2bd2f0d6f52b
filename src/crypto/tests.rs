//! Differential tests: this floor against independent implementations, with random inputs.
//!
//! Whatever uses SHA-256 runs with the processor's compression and with the portable one, so that
//! one machine tests both. Messages come in random pieces, so that every place where a piece can
//! end within a block is met.

use std::num::NonZeroU32;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use ::hmac::Mac as _;
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::Digest as _;

use super::hmac::HmacKey;
use super::sha256::{Compressor, Sha256};
use super::{DIGEST_LEN, base64, constant_time_eq, hex, hmac_sha256, md5, pbkdf2, sha256};

/// The processor's compression function and the portable one.
fn compressors() -> [Compressor; 2] {
    [Compressor::detect(), Compressor::PORTABLE]
}

/// A message in pieces, many of them shorter, some longer than a block.
fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let piece = prop_oneof![vec(any::<u8>(), 0..64), vec(any::<u8>(), 0..300)];
    vec(piece, 0..8)
}

/// A key, on both sides of a block's length.
fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..160)
}

/// Bytes that base64 decoders disagree about if they disagree about anything.
fn nearly_base64() -> impl Strategy<Value = Vec<u8>> {
    let symbols = prop_oneof![
        8 => prop::sample::select(b"ABQgwxyz0189+/".to_vec()),
        2 => Just(b'='),
        1 => any::<u8>(),
    ];
    vec(symbols, 0..20)
}

fn slices(pieces: &[Vec<u8>]) -> Vec<&[u8]> {
    pieces.iter().map(Vec::as_slice).collect()
}

#[test]
fn s8_3_sha256_uses_the_instructions_that_are_there() {
    #[cfg(target_arch = "x86_64")]
    let present = is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1");
    #[cfg(target_arch = "aarch64")]
    let present = cfg!(target_endian = "little") && std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let present = false;
    let [detected, portable] = compressors();
    assert_eq!(detected != portable, present);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn s8_3_sha256_agrees_with_rustcrypto(pieces in pieces()) {
        let whole = pieces.concat();
        let expected: [u8; DIGEST_LEN] = sha2::Sha256::digest(&whole).into();
        prop_assert_eq!(sha256(&whole), expected);
        for compressor in compressors() {
            let mut hash = Sha256::with(compressor);
            for piece in &pieces {
                hash.update(piece);
            }
            prop_assert_eq!(hash.finish(), expected);
        }
    }

    #[test]
    fn s8_3_hmac_agrees_with_rustcrypto(key in key(), pieces in pieces()) {
        let mut reference = ::hmac::Hmac::<sha2::Sha256>::new_from_slice(&key)
            .expect("HMAC takes keys of any length");
        reference.update(&pieces.concat());
        let expected: [u8; DIGEST_LEN] = reference.finalize().into_bytes().into();
        prop_assert_eq!(hmac_sha256(&key, &slices(&pieces)), expected);
        for compressor in compressors() {
            let key = HmacKey::with(compressor, &key);
            prop_assert_eq!(key.authenticate(&slices(&pieces)), expected);
        }
    }

    #[test]
    fn s9_14_md5_agrees_with_rustcrypto(pieces in pieces()) {
        let expected: [u8; 16] = ::md5::Md5::digest(pieces.concat()).into();
        prop_assert_eq!(md5(&slices(&pieces)), expected);
        prop_assert_eq!(hex(&expected).map(char::from).iter().collect::<String>(),
            format!("{:032x}", u128::from_be_bytes(expected)));
    }

    #[test]
    fn s8_3_base64_encodes_like_the_base64_crate(bytes in vec(any::<u8>(), 0..300)) {
        let text = base64::encode(&bytes);
        prop_assert_eq!(&text, &STANDARD.encode(&bytes));
        prop_assert_eq!(base64::decode(text.as_bytes()), Ok(bytes));
    }

    #[test]
    fn h31_equality_agrees_with_the_plain_one(a in vec(0..2_u8, 0..6), b in vec(0..2_u8, 0..6)) {
        prop_assert_eq!(constant_time_eq(&a, &b), a == b);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn s9_4_pbkdf2_agrees_with_rustcrypto(
        password in key(),
        salt in vec(any::<u8>(), 0..100),
        iterations in 1..40_u32,
    ) {
        let expected =
            ::pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, DIGEST_LEN>(&password, &salt, iterations);
        let iterations = NonZeroU32::new(iterations).expect("the range begins at 1");
        for compressor in compressors() {
            let derived = pbkdf2::derive(compressor, &password, &salt, iterations);
            prop_assert_eq!(derived, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn h32_base64_is_as_strict_as_the_base64_crate(text in nearly_base64()) {
        prop_assert_eq!(base64::decode(&text).ok(), STANDARD.decode(&text).ok());
    }
}
