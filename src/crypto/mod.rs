//! The cryptography that PostgreSQL's password exchanges need, and nothing more.
//!
//! SHA-256, HMAC and PBKDF2 for SCRAM-SHA-256, MD5 for the older exchange, base64, a comparison
//! that takes the same time whatever differs, random bytes from the operating system, and owners of
//! secrets that wipe themselves.
//!
//! This is a pure floor: it imports nothing from the rest of the crate, knows no protocol message
//! and no configuration. It reaches outside in two places: [`random`](fn@random) asks the operating
//! system, and [`sha256`](mod@sha256) uses the processor's own instructions where it has them.
//!
//! Everything here is checked against the published vectors of its standard beside the code, and
//! against independent implementations with random inputs in `tests.rs`.
//!
//! # Secrets in memory
//!
//! Hash states, key schedules and passwords are overwritten before their memory is given back
//! ([`wipe`](mod@wipe)). That is a best effort, as in every language with an optimising compiler:
//! what the compiler keeps in registers or spills for its own purposes is out of reach.

pub(crate) mod base64;
mod blocks;
mod constant_time;
mod hmac;
mod md5;
mod pbkdf2;
mod random;
mod sha256;
mod wipe;

pub(crate) use constant_time::constant_time_eq;
pub(crate) use hmac::{HmacKey, hmac_sha256};
pub(crate) use md5::{hex, md5};
pub(crate) use pbkdf2::pbkdf2_hmac_sha256;
#[cfg(test)]
pub(crate) use random::chosen;
pub(crate) use random::random;
pub(crate) use sha256::{DIGEST_LEN, sha256};
pub(crate) use wipe::{SecretArray, SecretBytes, SecretString, wipe};

#[cfg(test)]
mod tests;
