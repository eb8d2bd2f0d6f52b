//! The binary form of numerics: a header of four 16-bit integers and digits to base 10000.
//!
//! | field | meaning |
//! |---|---|
//! | ndigits | how many base-10000 digits follow, unsigned |
//! | weight | the first digit counts 10000^weight |
//! | sign | 0x0000 plus, 0x4000 minus, 0xC000 NaN, 0xD000 Infinity, 0xF000 -Infinity |
//! | dscale | how many decimal digits are shown after the point |
//!
//! The point always stands between two base-10000 digits. Zeros at either end of the digits are
//! left out.
//!
//! Source: `numeric_send` and `numeric_recv` in PostgreSQL's `numeric.c`.

use std::iter::{repeat, repeat_n};

use super::text::{Decimal, MAX_SCALE, Parsed, compose, parse};
use crate::types::Out;

const PLUS: u16 = 0x0000;
const MINUS: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEG_INFINITY: u16 = 0xF000;

/// How many decimal digits one base-10000 digit is.
const GROUP: usize = 4;

const MALFORMED: &str = "the bytes are not a numeric";

/// Writes the binary form of the number that `text` means; nothing when it means none.
///
/// # Errors
///
/// What is wrong with the text, see [`Numeric::new`](super::Numeric::new).
pub(in crate::types) fn encode_text(text: &str, out: &mut Out<'_>) -> Result<(), &'static str> {
    match parse(text)? {
        Parsed::NaN => put_header(out, 0, 0, NAN, 0),
        Parsed::Infinity { negative: false } => put_header(out, 0, 0, INFINITY, 0),
        Parsed::Infinity { negative: true } => put_header(out, 0, 0, NEG_INFINITY, 0),
        Parsed::Finite(decimal) if decimal.exponent == 0 => put_finite(out, &decimal),
        Parsed::Finite(decimal) => return encode_text(&decimal.canonical(), out),
    }
    .ok_or(MALFORMED)
}

fn put_header(
    out: &mut Out<'_>,
    digits: usize,
    weight: i16,
    sign: u16,
    scale: usize,
) -> Option<()> {
    out.put(&u16::try_from(digits).ok()?.to_be_bytes());
    out.put_i16(weight);
    out.put(&sign.to_be_bytes());
    out.put(&u16::try_from(scale).ok()?.to_be_bytes());
    Some(())
}

/// Writes a number without exponent.
fn put_finite(out: &mut Out<'_>, decimal: &Decimal<'_>) -> Option<()> {
    let whole = decimal.whole.as_bytes().rchunks(GROUP).rev();
    let fraction = decimal.fraction.as_bytes().chunks(GROUP);
    let groups_before_point = whole.len();
    let groups = whole.map(value).chain(fraction.map(value_left_aligned));
    let leading_zeros = groups.clone().take_while(|&group| group == 0).count();
    let trailing_zeros = groups.clone().rev().take_while(|&group| group == 0).count();
    let count = groups.clone().count().saturating_sub(leading_zeros + trailing_zeros);
    let weight = match count {
        0 => 0,
        _ => i32::try_from(groups_before_point).ok()? - 1 - i32::try_from(leading_zeros).ok()?,
    };
    let sign = if decimal.negative { MINUS } else { PLUS };
    put_header(out, count, i16::try_from(weight).ok()?, sign, decimal.scale)?;
    groups.skip(leading_zeros).take(count).for_each(|group| out.put(&group.to_be_bytes()));
    Some(())
}

/// The number that at most four ASCII digits are.
fn value(digits: &[u8]) -> u16 {
    digits.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'))
}

/// The number that at most four ASCII digits are with zeros behind them.
fn value_left_aligned(digits: &[u8]) -> u16 {
    (digits.len()..GROUP).fold(value(digits), |value, _| value * 10)
}

/// Reads the binary form as the text that the server prints.
///
/// # Errors
///
/// What is wrong with the bytes. However many digits the header declares, memory is taken only for
/// those that are there and for the zeros between them and the point, at most 131072 + 16383.
pub(super) fn decode_binary(bytes: &[u8]) -> Result<String, &'static str> {
    let (&[n0, n1, w0, w1, s0, s1, d0, d1], digits) =
        bytes.split_first_chunk::<8>().ok_or(MALFORMED)?;
    let count = usize::from(u16::from_be_bytes([n0, n1]));
    let scale = usize::from(u16::from_be_bytes([d0, d1]));
    if digits.len() != 2 * count || scale > MAX_SCALE {
        return Err(MALFORMED);
    }
    let negative = match u16::from_be_bytes([s0, s1]) {
        PLUS => false,
        MINUS => true,
        NAN if count == 0 => return Ok("NaN".to_owned()),
        INFINITY if count == 0 => return Ok("Infinity".to_owned()),
        NEG_INFINITY if count == 0 => return Ok("-Infinity".to_owned()),
        _ => return Err(MALFORMED),
    };
    let groups = digits.iter().step_by(2).zip(digits.iter().skip(1).step_by(2));
    let groups = groups.map(|(&high, &low)| u16::from_be_bytes([high, low]));
    if groups.clone().any(|group| group > 9999) {
        return Err(MALFORMED);
    }
    let groups_before_point = i32::from(i16::from_be_bytes([w0, w1])) + 1;
    let zeros_after_point = usize::try_from(-groups_before_point).unwrap_or(0);
    let whole_groups = usize::try_from(groups_before_point).unwrap_or(0);
    let mut groups = repeat_n(0, zeros_after_point).chain(groups).chain(repeat(0));
    let whole = decimal_digits(groups.by_ref().take(whole_groups));
    let mut fraction = decimal_digits(groups.take(scale.div_ceil(GROUP)));
    // The server, too, shows no digit behind the scale.
    fraction.truncate(scale);
    Ok(compose(negative, &whole, &fraction))
}

/// Four decimal digits for each base-10000 digit.
fn decimal_digits(groups: impl Iterator<Item = u16>) -> String {
    groups
        .flat_map(|group| [group / 1000, group / 100 % 10, group / 10 % 10, group % 10])
        .filter_map(|digit| char::from_digit(u32::from(digit), 10))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::text::MAX_WHOLE_DIGITS;
    use super::*;

    fn encode(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_text(text, &mut Out::new(&mut bytes)).unwrap();
        bytes
    }

    fn wire(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
        let count = u16::try_from(digits.len()).unwrap();
        let weight = u16::from_be_bytes(weight.to_be_bytes());
        let fields = [count, weight, sign, scale];
        fields.iter().chain(digits).flat_map(|field| field.to_be_bytes()).collect()
    }

    /// Taken from `numeric_send` of a server.
    fn samples() -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("0", wire(0, PLUS, 0, &[])),
            ("0.00", wire(0, PLUS, 2, &[])),
            ("1", wire(0, PLUS, 0, &[1])),
            ("-1", wire(0, MINUS, 0, &[1])),
            ("9999", wire(0, PLUS, 0, &[9999])),
            ("10000", wire(1, PLUS, 0, &[1])),
            ("10001", wire(1, PLUS, 0, &[1, 1])),
            ("123456789", wire(2, PLUS, 0, &[1, 2345, 6789])),
            ("100000000.5", wire(2, PLUS, 1, &[1, 0, 0, 5000])),
            ("1.50", wire(0, PLUS, 2, &[1, 5000])),
            ("12.000", wire(0, PLUS, 3, &[12])),
            ("0.1", wire(-1, PLUS, 1, &[1000])),
            ("0.0001", wire(-1, PLUS, 4, &[1])),
            ("0.00001", wire(-2, PLUS, 5, &[1000])),
            ("-0.000012340000", wire(-2, MINUS, 12, &[1234])),
            ("0.000000001", wire(-3, PLUS, 9, &[1000])),
            ("1.00000001", wire(0, PLUS, 8, &[1, 0, 1])),
            ("NaN", wire(0, NAN, 0, &[])),
            ("Infinity", wire(0, INFINITY, 0, &[])),
            ("-Infinity", wire(0, NEG_INFINITY, 0, &[])),
        ]
    }

    #[test]
    fn s2_26_numeric_binary_both_ways() {
        for (text, bytes) in samples() {
            assert_eq!(encode(text), bytes, "{text}");
            assert_eq!(decode_binary(&bytes).as_deref(), Ok(text));
        }
    }

    #[test]
    fn s2_26_one_hundred_thousandth_is_not_a_tenth() {
        assert_eq!(decode_binary(&wire(-2, PLUS, 5, &[1000])).as_deref(), Ok("0.00001"));
        assert_eq!(decode_binary(&wire(-1, PLUS, 1, &[1000])).as_deref(), Ok("0.1"));
    }

    #[test]
    fn s2_7_numeric_text_with_an_exponent_is_sent_too() {
        assert_eq!(encode("1.5e-3"), encode("0.0015"));
        assert_eq!(encode("-15e7"), encode("-150000000"));
        assert_eq!(encode("+0015.0"), encode("15.0"));
        assert_eq!(encode("-0.00"), encode("0.00"));
        let mut bytes = Vec::new();
        assert!(encode_text("1e131072", &mut Out::new(&mut bytes)).is_err());
        assert!(encode_text("one", &mut Out::new(&mut bytes)).is_err());
        assert!(bytes.is_empty());
    }

    #[test]
    fn h4_numeric_binary_up_to_the_limits() {
        let largest = format!("1{}", "0".repeat(MAX_WHOLE_DIGITS - 1));
        assert_eq!(encode(&largest), wire(i16::MAX, PLUS, 0, &[1000]));
        assert_eq!(decode_binary(&encode(&largest)).unwrap(), largest);
        let smallest = format!("0.{}1", "0".repeat(MAX_SCALE - 1));
        assert_eq!(encode(&smallest), wire(-4096, PLUS, 16_383, &[10]));
        assert_eq!(decode_binary(&encode(&smallest)).unwrap(), smallest);
        let longest = format!("-{}.{}", "9".repeat(MAX_WHOLE_DIGITS), "9".repeat(MAX_SCALE));
        let bytes = encode(&longest);
        assert_eq!(bytes.len(), 8 + 2 * (32_768 + 4096));
        assert_eq!(decode_binary(&bytes).unwrap(), longest);
    }

    #[test]
    fn h4_numeric_with_zeros_that_the_server_would_leave_out() {
        for (bytes, text) in [
            (wire(2, PLUS, 0, &[0, 0, 5]), "5"),
            (wire(1, PLUS, 1, &[0, 5, 5000, 0, 0]), "5.5"),
            (wire(-1, PLUS, 6, &[0, 1200]), "0.000012"),
            (wire(0, MINUS, 2, &[]), "0.00"),
            (wire(-30_000, PLUS, 2, &[1]), "0.00"),
            (wire(0, PLUS, 1, &[1, 2345]), "1.2"),
        ] {
            assert_eq!(decode_binary(&bytes).as_deref(), Ok(text));
        }
    }

    #[test]
    fn s8_1_malformed_numerics_are_errors() {
        for (_, bytes) in samples() {
            for length in 0..bytes.len() {
                assert!(decode_binary(&bytes[..length]).is_err(), "{bytes:?} cut to {length}");
            }
            assert!(decode_binary(&[&bytes[..], &[0]].concat()).is_err());
            assert!(decode_binary(&[&bytes[..], &[0, 0]].concat()).is_err());
        }
        for bytes in [
            wire(0, PLUS, 0, &[10_000]),
            wire(0, PLUS, 0, &[u16::MAX]),
            wire(0, PLUS, 16_384, &[1]),
            wire(0, 0x8000, 0, &[1]),
            wire(0, NAN, 0, &[1]),
        ] {
            assert!(decode_binary(&bytes).is_err(), "{bytes:?}");
        }
        // 65535 digits declared, none sent.
        assert!(decode_binary(&[255, 255, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
