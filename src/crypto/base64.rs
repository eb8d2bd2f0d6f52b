//! Base64 (RFC 4648, section 4): the standard alphabet, with padding.
//!
//! Decoding is strict. SCRAM's messages are signed as they were sent, so a text that another
//! decoder would read differently, or not at all, has no business in one: white space, missing or
//! misplaced padding and set bits behind the last byte are refused.

use std::error::Error;
use std::fmt;

/// The digits in the order of their values.
const DIGITS: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Fills the last group of four up.
const PADDING: u8 = b'=';

/// Bits in a digit.
const DIGIT_BITS: u32 = 6;

/// Why a text is not the base64 of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// Its length is no multiple of four.
    Length,
    /// The byte at this position is neither a digit nor padding in its place.
    Symbol(usize),
    /// The last digit has bits set that belong to no byte.
    TrailingBits,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("base64 text whose length is no multiple of four"),
            Self::Symbol(at) => write!(f, "no base64 digit at byte {at}"),
            Self::TrailingBits => f.write_str("base64 text with bits behind its last byte"),
        }
    }
}

impl Error for DecodeError {}

/// The base64 text of `bytes`.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let [first, second, third] = [0, 1, 2].map(|at| group.get(at).copied().unwrap_or(0));
        let bits = u32::from_be_bytes([0, first, second, third]);
        for at in 0..4 {
            // n bytes are told by n + 1 digits.
            let symbol = if at <= group.len() { digit(bits, at) } else { PADDING };
            text.push(char::from(symbol));
        }
    }
    text
}

/// The digit at place `at`, from the left, of a group of 24 bits.
fn digit(bits: u32, at: usize) -> u8 {
    let [.., value] = (bits >> (18 - 6 * at)).to_be_bytes();
    DIGITS[usize::from(value & 63)]
}

/// The bytes that `text` is the base64 of.
///
/// # Errors
///
/// If `text` is not what [`encode`] makes of any bytes.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if text.len() % 4 != 0 {
        return Err(DecodeError::Length);
    }
    let padding = text.iter().rev().take(2).take_while(|symbol| **symbol == PADDING).count();
    let digits = text.len() - padding;
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut pending = 0_u32;
    let mut pending_bits = 0;
    for (at, symbol) in text.iter().take(digits).enumerate() {
        let value = value(*symbol).ok_or(DecodeError::Symbol(at))?;
        pending = (pending << DIGIT_BITS) | u32::from(value);
        pending_bits += DIGIT_BITS;
        if pending_bits >= u8::BITS {
            pending_bits -= u8::BITS;
            let [.., byte] = (pending >> pending_bits).to_be_bytes();
            bytes.push(byte);
            pending &= (1 << pending_bits) - 1;
        }
    }
    if pending != 0 { Err(DecodeError::TrailingBits) } else { Ok(bytes) }
}

/// The value of a digit, if it is one.
fn value(symbol: u8) -> Option<u8> {
    match symbol {
        b'A'..=b'Z' => Some(symbol - b'A'),
        b'a'..=b'z' => Some(symbol - b'a' + 26),
        b'0'..=b'9' => Some(symbol - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, section 10.
    #[test]
    fn s8_3_base64_rfc4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text.as_bytes()).as_deref(), Ok(bytes.as_bytes()), "{text}");
        }
    }

    #[test]
    fn s8_3_base64_all_lengths() {
        let bytes: Vec<u8> = (0..=255).rev().chain(0..=255).collect();
        for length in 0..=bytes.len() {
            let text = encode(&bytes[..length]);
            assert_eq!(text.len(), length.div_ceil(3) * 4);
            assert_eq!(decode(text.as_bytes()).as_deref(), Ok(&bytes[..length]), "{text}");
        }
    }

    #[test]
    fn s8_3_base64_every_digit() {
        let text: String = DIGITS.map(char::from).iter().collect();
        let bytes = decode(text.as_bytes()).expect("64 digits are 48 bytes");
        assert_eq!(bytes.len(), 48);
        assert_eq!(encode(&bytes), text);
    }

    #[test]
    fn h32_base64_decoding_is_strict() {
        use DecodeError::{Length, Symbol, TrailingBits};
        for (text, error) in [
            ("Z", Length),
            ("Zg", Length),
            ("Zg=", Length),
            ("Zg==\n", Length),
            ("Zm9vY", Length),
            ("=", Length),
            ("====", Symbol(0)),
            ("Z===", Symbol(1)),
            ("=Zg=", Symbol(0)),
            ("Zg=A", Symbol(2)),
            ("Zg==Zg==", Symbol(2)),
            ("Zm8=Zm8=", Symbol(3)),
            ("Zm 9", Symbol(2)),
            ("\nZm9", Symbol(0)),
            ("Zm9\0", Symbol(3)),
            ("Zm-_", Symbol(2)),
            ("Zmä", Symbol(2)),
            ("Zh==", TrailingBits),
            ("Zn==", TrailingBits),
            ("Zm9=", TrailingBits),
            ("AB==", TrailingBits),
        ] {
            assert_eq!(decode(text.as_bytes()), Err(error), "{text:?}");
        }
        assert_eq!(decode(&[0xff; 4]), Err(Symbol(0)));
    }

    #[test]
    fn decode_errors_say_what_is_wrong() {
        assert_eq!(DecodeError::Symbol(7).to_string(), "no base64 digit at byte 7");
        assert!(DecodeError::Length.to_string().contains("multiple of four"));
        assert!(DecodeError::TrailingBits.to_string().contains("behind its last byte"));
    }
}
