//! PBKDF2 with HMAC-SHA-256 (RFC 8018, section 5.2), for one block of output.
//!
//! With one digest of output it is the function `Hi` of SCRAM (RFC 5802, section 2.2), and nearly
//! all of the time that a first connection costs its client: PostgreSQL's default is 4,096
//! iterations. The key is mixed in once and each iteration is two compressions.

use std::num::NonZeroU32;

use super::hmac::{DigestBlock, HmacKey};
use super::sha256::{Compressor, DIGEST_LEN, State, digest};
use super::wipe::wipe;

/// The key of one digest's length that `iterations` rounds make of `password` and `salt`.
pub(crate) fn pbkdf2_hmac_sha256(
    password: &[u8],
    salt: &[u8],
    iterations: NonZeroU32,
) -> [u8; DIGEST_LEN] {
    derive(Compressor::detect(), password, salt, iterations)
}

/// As [`pbkdf2_hmac_sha256`], with a chosen compression function.
pub(super) fn derive(
    compressor: Compressor,
    password: &[u8],
    salt: &[u8],
    iterations: NonZeroU32,
) -> [u8; DIGEST_LEN] {
    /// INT(1): the number of the only block of output.
    const BLOCK_NUMBER: [u8; 4] = 1_u32.to_be_bytes();

    let key = HmacKey::with(compressor, password);
    let mut first = key.authenticate(&[salt, &BLOCK_NUMBER]);
    let mut latest = DigestBlock::new(&first);
    wipe(&mut first);

    let mut sum: State = [0; 8];
    add(&mut sum, &latest);
    for _ in 1..iterations.get() {
        key.authenticate_in_place(&mut latest);
        add(&mut sum, &latest);
    }
    let derived = digest(&sum);
    wipe(&mut sum);
    derived
}

/// Adds (exclusive or) the digest of an iteration to the sum of those before it.
fn add(sum: &mut State, latest: &DigestBlock) {
    for (sum, word) in sum.iter_mut().zip(latest.digest_words()) {
        *sum ^= word;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived_hex(password: &str, salt: &str, iterations: u32) -> String {
        let iterations = NonZeroU32::new(iterations).expect("the vectors iterate");
        pbkdf2_hmac_sha256(password.as_bytes(), salt.as_bytes(), iterations)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// RFC 7914, section 11; the first of each output's two blocks.
    #[test]
    fn s9_4_pbkdf2_rfc7914() {
        assert_eq!(
            derived_hex("passwd", "salt", 1),
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc",
        );
        assert_eq!(
            derived_hex("Password", "NaCl", 80_000),
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56",
        );
    }

    /// The SHA-256 counterparts of RFC 6070's vectors, widely published.
    #[test]
    fn s9_4_pbkdf2_sha256_counterparts_of_rfc6070() {
        for (iterations, expected) in [
            (1, "120fb6cffcf8b32c43e7225256c4f837a86548c92ccc35480805987cb70be17b"),
            (2, "ae4d0c95af6b46d32d0adff928f06dd02a303f8ef3c251dfd6e2d85a95474c43"),
            (4096, "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a"),
        ] {
            assert_eq!(derived_hex("password", "salt", iterations), expected, "{iterations}");
        }
        assert_eq!(
            derived_hex("passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096,),
            "348c89dbcbd32b2f32d814b8116e84cf2b17347ebc1800181c4e2a1fb8dd53e1",
        );
    }
}
