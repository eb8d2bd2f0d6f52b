//! float4 and float8, and their text as PostgreSQL prints it.
//!
//! Source: PostgreSQL documentation, "Floating-Point Types"; `float8out` with the default
//! `extra_float_digits`, which prints the shortest digits that read back as the same number.

use std::fmt;
use std::str::FromStr;

use super::{fixed, sent_as_bytes};
use crate::error::PgResult;
use crate::types::{Cell, Format, FromSql, Oid};

sent_as_bytes!(f32, FLOAT4, Float4);
sent_as_bytes!(f64, FLOAT8, Float8);

impl FromSql<'_> for f32 {
    #[inline]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match (cell.format(), cell.oid()) {
            (Format::Binary, Oid::FLOAT4) => fixed::<Self, 4>(cell).map(Self::from_be_bytes),
            (Format::Text, Oid::FLOAT4) => float_text(cell, Self::is_finite),
            _ => Err(cell.mismatch::<Self>()),
        }
    }
}

impl FromSql<'_> for f64 {
    #[inline(always)]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match cell.binary(Oid::FLOAT8) {
            Some(bytes) => Ok(Self::from_be_bytes(bytes)),
            None => f64_of_any(cell),
        }
    }
}

#[inline(never)]
fn f64_of_any(cell: Cell<'_>) -> PgResult<f64> {
    match (cell.format(), cell.oid()) {
        (Format::Binary, Oid::FLOAT8) => fixed::<f64, 8>(cell).map(f64::from_be_bytes),
        (Format::Text, Oid::FLOAT8) => float_text(cell, f64::is_finite),
        // The digits of a float4 stand for the nearest float4: it has to be read as one first, so
        // that text and binary give the same number.
        (_, Oid::FLOAT4) => f32::from_sql(cell).map(f64::from),
        _ => Err(cell.mismatch::<f64>()),
    }
}

/// A float as the server prints it. `str::parse` knows more spellings than that, and turns what is
/// too large into an infinity.
fn float_text<T>(cell: Cell<'_>, is_finite: impl Fn(T) -> bool) -> PgResult<T>
where
    T: Copy + FromStr,
{
    let text = cell.text::<T>()?;
    let special = matches!(text, "NaN" | "Infinity" | "-Infinity");
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e'));
    match text.parse() {
        Ok(value) if special || (plain && is_finite(value)) => Ok(value),
        _ => Err(cell.invalid::<T>("the text is not a number that fits")),
    }
}

/// A floating-point number whose [`Display`](fmt::Display) is what PostgreSQL prints for it.
pub(in crate::types) struct FloatText<T>(pub(in crate::types) T);

impl fmt::Display for FloatText<f64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        if !value.is_finite() {
            return f.write_str(special(value.is_nan(), value.is_sign_negative()));
        }
        // Below this no number of 17 digits lies half-way between two float8.
        let safe = value.abs() < 1e15;
        write_digits(f, &shortest(value, safe), 15)
    }
}

impl fmt::Display for FloatText<f32> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        if !value.is_finite() {
            return f.write_str(special(value.is_nan(), value.is_sign_negative()));
        }
        // Below this no number of 9 digits lies half-way between two float4.
        let safe = value.abs() < 1e6;
        write_digits(f, &shortest(value, safe), 6)
    }
}

const fn special(is_nan: bool, is_negative: bool) -> &'static str {
    match (is_nan, is_negative) {
        (true, _) => "NaN",
        (false, false) => "Infinity",
        (false, true) => "-Infinity",
    }
}

/// The shortest digits, as `d.ddde±x`, that every correct reader takes for `value`; of several the
/// nearest, and of two equally near ones the even one.
///
/// Rust's own shortest form differs from PostgreSQL's in two points. Of two equally near ones it
/// takes the larger one. And it relies on a reader that rounds a tie to even: it prints `1e23` for the
/// float8 just below that, half-way to the next one, where PostgreSQL prints
/// `9.999999999999999e+22`. No tie is possible with a value that is `safe`.
fn shortest<T>(value: T, safe: bool) -> String
where
    T: Copy + PartialEq + FromStr + fmt::LowerExp,
{
    let any_shortest = format!("{value:e}");
    let mantissa = any_shortest.bytes().take_while(|&byte| byte != b'e');
    let mut places = mantissa.filter(u8::is_ascii_digit).count() - 1;
    let mut text = format!("{value:.places$e}");
    if text.parse().ok() != Some(value) {
        // Just above a power of two the neighbours are twice as far away as below it, and what is
        // nearer may be another number's already.
        text = any_shortest;
    }
    while !safe && is_tie(value, &text) {
        places += 1;
        text = format!("{value:.places$e}");
    }
    text
}

/// Whether `text` lies exactly half-way between `value` and a neighbour, so that the least digit
/// more or less makes it the neighbour's.
fn is_tie<T>(value: T, text: &str) -> bool
where
    T: Copy + PartialEq + FromStr,
{
    /// Further to the right than any digit of a float8 that is not a fraction.
    const FAR: usize = 400;
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return false;
    };
    let mut head = mantissa.to_owned();
    let last = head.pop().and_then(|digit| digit.to_digit(10));
    let Some(less) = last.and_then(|digit| digit.checked_sub(1)) else {
        // A zero at the end: the same number as the text before it, which was a tie.
        return true;
    };
    let point = if mantissa.contains('.') { "" } else { "." };
    let above = format!("{mantissa}{point}{:0<FAR$}1e{exponent}", "");
    let below = format!("{head}{less}{point}{:9<FAR$}e{exponent}", "");
    above.parse().ok() != Some(value) || below.parse().ok() != Some(value)
}

/// Writes `d.ddde±x` the way C's `%g` does: without an exponent from -4 up to, not including,
/// `limit`, which is the number of digits that the type always holds.
fn write_digits(f: &mut fmt::Formatter<'_>, shortest: &str, limit: i32) -> fmt::Result {
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    f.write_str(sign)?;
    if !(-4..limit).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return write!(f, "{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    let digits = mantissa.replace('.', "");
    let Ok(whole) = usize::try_from(exponent + 1) else {
        f.write_str("0.")?;
        for _ in 1..exponent.unsigned_abs() {
            f.write_str("0")?;
        }
        return f.write_str(&digits);
    };
    match digits.split_at_checked(whole) {
        Some((whole, "")) => f.write_str(whole),
        Some(("", fraction)) => write!(f, "0.{fraction}"),
        Some((whole, fraction)) => write!(f, "{whole}.{fraction}"),
        None => write!(f, "{digits:0<whole$}"),
    }
}
