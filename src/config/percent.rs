//! Percent-decoding of the pieces of a connection URL, as UTF-8.
//!
//! It follows libpq in what it accepts: plain blanks around a piece do not count and blanks inside
//! must be escaped (as in libpq 18), `%00` is refused, and `+` is a plus sign. It is stricter in
//! two points, because libpq would only fail later and less clearly: the result must be UTF-8, and
//! control characters must be escaped.

use crate::crypto::SecretBytes;
use crate::error::{PgError, PgResult};

/// Decodes one piece of a connection URL. `part` names it in errors, as in `the password`.
///
/// # Errors
///
/// [`PgError::Config`] names the part and what is wrong with it, never its text: it may be a
/// password.
pub(super) fn decode(text: &str, part: &str) -> PgResult<String> {
    // Decoding never lengthens, so this allocation never moves and leaves no copy behind.
    let mut bytes = Vec::with_capacity(text.len());
    let flaw = match decode_into(&mut bytes, text.trim_matches(' ')) {
        Ok(()) => match String::from_utf8(bytes) {
            Ok(decoded) => return Ok(decoded),
            Err(error) => {
                bytes = error.into_bytes();
                "is not UTF-8 once its percent-escapes are decoded"
            }
        },
        Err(flaw) => flaw,
    };
    // It may be the beginning of a password: wiped as it is dropped.
    drop(SecretBytes::from(bytes));
    Err(PgError::Config(format!("{part} in the connection URL {flaw}")))
}

/// Appends the decoded `text` to `bytes`, or says what is wrong with it.
fn decode_into(bytes: &mut Vec<u8>, text: &str) -> Result<(), &'static str> {
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => escaped_byte(&mut rest)
                .ok_or("has a `%` without two hex digits behind it (a plain `%` is written %25)")?,
            b' ' => return Err("has a plain blank inside (a blank is written %20)"),
            0 => 0,
            _ if byte.is_ascii_control() => {
                return Err("has a plain control character (a line feed is written %0A)");
            }
            _ => byte,
        };
        if decoded == 0 {
            return Err("has a zero byte, which no text in PostgreSQL can hold");
        }
        bytes.push(decoded);
    }
    Ok(())
}

/// The byte that the two hex digits of an escape stand for.
fn escaped_byte(rest: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let high = hex_digit(rest.next()?)?;
    let low = hex_digit(rest.next()?)?;
    Some(high << 4 | low)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Encodes every byte that is not a letter or a digit.
#[cfg(test)]
pub(super) fn encode(text: &str) -> String {
    let escape = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> String {
        decode(text, "the password").unwrap_err().to_string()
    }

    #[test]
    fn h40_percent_encoding_is_utf8() {
        for (text, decoded) in [
            ("", ""),
            ("plain", "plain"),
            ("p%C3%A4ss%20w%c3%b6rd", "päss wörd"),
            ("%F0%9F%90%98", "🐘"),
            ("unescaped-ä-🐘", "unescaped-ä-🐘"),
            ("%25", "%"),
            ("%2525", "%25"),
            ("a+b", "a+b"),
            ("%09%0A%7f", "\t\n\u{7f}"),
        ] {
            assert_eq!(decode(text, "the user name").unwrap(), decoded, "{text:?}");
        }
    }

    #[test]
    fn h40_blanks_around_a_piece_do_not_count() {
        assert_eq!(decode("  name ", "the user name").unwrap(), "name");
        assert_eq!(decode("%20name%20", "the user name").unwrap(), " name ");
        assert_eq!(
            error("two words"),
            "invalid configuration: the password in the connection URL has a plain blank inside \
             (a blank is written %20)"
        );
    }

    #[test]
    fn h40_malformed_escapes_are_errors_that_name_the_part() {
        for text in ["%", "a%", "%4", "%zz", "%4z", "%+4", "% 4", "%é9", "100%"] {
            assert_eq!(
                error(text),
                "invalid configuration: the password in the connection URL has a `%` without two \
                 hex digits behind it (a plain `%` is written %25)",
                "{text:?}"
            );
        }
    }

    #[test]
    fn h40_bytes_that_are_not_utf8_are_errors_that_name_the_part() {
        // Latin-1, a stray continuation, a cut sequence, an overlong form, a surrogate.
        for text in ["p%E4ss", "%A4", "%C3", "%C0%AF", "%ED%A0%80", "ä%C3"] {
            assert_eq!(
                error(text),
                "invalid configuration: the password in the connection URL is not UTF-8 once its \
                 percent-escapes are decoded",
                "{text:?}"
            );
        }
    }

    #[test]
    fn h40_zero_bytes_and_control_characters_are_errors() {
        for text in ["a%00b", "a\0b"] {
            assert_eq!(
                error(text),
                "invalid configuration: the password in the connection URL has a zero byte, which \
                 no text in PostgreSQL can hold",
                "{text:?}"
            );
        }
        for text in ["a\nb", "trailing\n", "\t"] {
            assert!(error(text).contains("has a plain control character"), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn h40_what_was_encoded_decodes_to_itself(text in "[^\0]*") {
            prop_assert_eq!(decode(&encode(&text), "it").unwrap(), text);
        }
    }
}
