//! Values as the type of a column, exactly: where the server coerces nothing, as in a binary COPY.
//!
//! A value goes as it is if its own type is the column's. Else it is converted if nothing is lost by
//! it, and refused otherwise: bytes of one type are never taken for another.
//!
//! | value | columns that take it |
//! |---|---|
//! | integers | integers and oid that it fits into; floats that have it exactly; numeric |
//! | floats | floats that have it exactly; numeric: the shortest digits that mean it |
//! | [`Numeric`] | integers whose text it is; floats whose shortest digits it is |
//! | text | types whose binary form is their text; jsonb; what [`PgValue`] reads from text |
//! | lists of strings | arrays of types whose binary form is their text |

use super::numeric::encode_text as encode_numeric;
use super::scalar::FloatText;
use super::text::{encode_jsonb, is_text};
use super::{Cell, Encoded, Format, FromSql, Numeric, Oid, Out, PgValue, ToSql, TypeMap};
use crate::error::{ParameterError, PgError, PgResult};

/// What a cell is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    oid: Oid,
    /// The binary form of the type is its text.
    is_text: bool,
}

impl Target {
    /// A column of type `oid`; `is_text` if it is known of a type that is not in every server that
    /// its binary form is its text, as that of an enum is its label.
    pub(crate) fn new(oid: Oid, text: bool) -> Self {
        // A "char" is one byte.
        Self { oid, is_text: text || (is_text(oid) && oid != Oid::CHAR) }
    }

    /// The column's type.
    pub(crate) const fn oid(self) -> Oid {
        self.oid
    }
}

/// Appends a value in the binary form of the column's type; `false` for NULL, of which nothing is
/// appended.
///
/// # Errors
///
/// [`PgError::Parameter`] when the value cannot be sent, or cannot become a value of that type
/// without loss. What was appended by then stays.
#[inline]
pub(crate) fn encode_cell<T: ToSql + ?Sized>(
    value: &T,
    target: Target,
    out: &mut Out<'_>,
) -> PgResult<bool> {
    let start = out.len();
    match value.encode(BUILTIN, out)? {
        Encoded::Null => Ok(false),
        Encoded::Text if target.is_text => Ok(true),
        Encoded::Binary if value.declare(BUILTIN) == target.oid => Ok(true),
        encoded => match convert(value.declare(BUILTIN), encoded, target, start, out) {
            Some(()) => Ok(true),
            None => Err(misfit(value.rust_type(), target)),
        },
    }
}

const BUILTIN: &TypeMap = TypeMap::builtin();

#[cold]
fn misfit(rust_type: &'static str, target: Target) -> PgError {
    PgError::Parameter(Box::new(ParameterError {
        index: None,
        set: None,
        column: None,
        rust_type,
        pg_type: Some(BUILTIN.describe(target.oid)),
        message: "the value is not one of the column's type exactly, and COPY in binary coerces \
                  nothing: give a value of that type, or use the text format, where the server reads \
                  the value's text"
            .to_owned(),
    }))
}

/// Replaces what was written from `start` on by the form of the column's type. `None` when that is
/// not possible without loss; what is written then is of no use.
fn convert(
    declared: Oid,
    encoded: Encoded,
    target: Target,
    start: usize,
    out: &mut Out<'_>,
) -> Option<()> {
    let bytes = out.written(start);
    if encoded == Encoded::Text {
        let text = std::str::from_utf8(bytes).ok()?.to_owned();
        out.truncate(start);
        return put_text(&text, target.oid, out);
    }
    match declared {
        Oid::INT2 | Oid::INT4 | Oid::INT8 | Oid::OID => {
            let number = integer(declared, bytes)?;
            out.truncate(start);
            put_integer(number, target.oid, out)
        }
        Oid::FLOAT4 => {
            let number = f32::from_be_bytes(<[u8; 4]>::try_from(bytes).ok()?);
            out.truncate(start);
            match target.oid {
                Oid::FLOAT8 => out.put(&f64::from(number).to_be_bytes()),
                Oid::NUMERIC => encode_numeric(&FloatText(number).to_string(), out).ok()?,
                _ => return None,
            }
            Some(())
        }
        Oid::FLOAT8 => {
            let number = f64::from_be_bytes(<[u8; 8]>::try_from(bytes).ok()?);
            out.truncate(start);
            match target.oid {
                Oid::FLOAT4 => out.put(&narrow(number)?.to_be_bytes()),
                Oid::NUMERIC => encode_numeric(&FloatText(number).to_string(), out).ok()?,
                _ => return None,
            }
            Some(())
        }
        Oid::NUMERIC => {
            let number = Numeric::from_sql(Cell::new(Oid::NUMERIC, Format::Binary, bytes)).ok()?;
            out.truncate(start);
            put_numeric(&number, target.oid, out)
        }
        // Type after type whose binary form is its text: the same bytes mean the same.
        declared if target.is_text && is_text(declared) && declared != Oid::CHAR => Some(()),
        Oid::TEXT_ARRAY => {
            let element = BUILTIN.element_of(target.oid).filter(|oid| is_text(*oid))?;
            if element == Oid::CHAR {
                return None;
            }
            // The element type stands behind the number of dimensions and the flags.
            bytes.get_mut(8..12)?.copy_from_slice(&element.get().to_be_bytes());
            Some(())
        }
        _ => None,
    }
}

/// An integer from its binary form.
fn integer(oid: Oid, bytes: &[u8]) -> Option<i64> {
    Some(match oid {
        Oid::INT2 => i16::from_be_bytes(bytes.try_into().ok()?).into(),
        Oid::INT4 => i32::from_be_bytes(bytes.try_into().ok()?).into(),
        Oid::OID => u32::from_be_bytes(bytes.try_into().ok()?).into(),
        _ => i64::from_be_bytes(bytes.try_into().ok()?),
    })
}

fn put_integer(number: i64, oid: Oid, out: &mut Out<'_>) -> Option<()> {
    match oid {
        Oid::INT2 => out.put_i16(number.try_into().ok()?),
        Oid::INT4 => out.put_i32(number.try_into().ok()?),
        Oid::INT8 => out.put_i64(number),
        Oid::OID => out.put_u32(number.try_into().ok()?),
        // Both have a whole number exactly whose significant bits they have room for.
        Oid::FLOAT4 if significant_bits(number) <= f32::MANTISSA_DIGITS => {
            out.put(&(number as f32).to_be_bytes());
        }
        Oid::FLOAT8 if significant_bits(number) <= f64::MANTISSA_DIGITS => {
            out.put(&(number as f64).to_be_bytes());
        }
        Oid::NUMERIC => put_integer_as_numeric(number, out),
        _ => return None,
    }
    Some(())
}

/// How many binary digits a number has between its first and its last 1.
fn significant_bits(number: i64) -> u32 {
    let size = number.unsigned_abs();
    match size {
        0 => 0,
        _ => u64::BITS - size.leading_zeros() - size.trailing_zeros(),
    }
}

/// A whole number in the binary form of numeric, see [`Numeric`]: digits to base 10000. Written
/// here because nothing may be allocated for each row.
fn put_integer_as_numeric(number: i64, out: &mut Out<'_>) {
    const BASE: u64 = 10_000;
    /// As many as `u64::MAX` has.
    const MOST: usize = 5;
    let mut digits = [0u16; MOST];
    let (mut rest, mut groups) = (number.unsigned_abs(), 0u16);
    for digit in digits.iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *digit = u16::try_from(rest % BASE).unwrap_or_default();
        rest /= BASE;
        groups += 1;
    }
    let first = MOST - usize::from(groups);
    let digits = digits.get(first..).unwrap_or_default();
    let zeros = digits.iter().rev().take_while(|digit| **digit == 0).count();
    let digits = digits.get(..digits.len() - zeros).unwrap_or_default();
    let sign: u16 = if number < 0 { 0x4000 } else { 0 };
    let count = u16::try_from(digits.len()).unwrap_or_default();
    for field in [count, groups.saturating_sub(1), sign, 0] {
        out.put(&field.to_be_bytes());
    }
    digits.iter().for_each(|digit| out.put(&digit.to_be_bytes()));
}

/// The float4 that is exactly this float8.
fn narrow(number: f64) -> Option<f32> {
    if number.is_nan() {
        return Some(f32::NAN);
    }
    // What is exactly a float4 is printed by digits that are read as that float4.
    let narrow: f32 = number.to_string().parse().ok()?;
    (f64::from(narrow) == number).then_some(narrow)
}

fn put_numeric(number: &Numeric, oid: Oid, out: &mut Out<'_>) -> Option<()> {
    let text = number.as_str();
    // Zeros at the end are a matter of the scale, which a float does not have.
    let digits = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    let is = |shown: String| Numeric::new(&shown).is_ok_and(|n| digits(n.as_str()) == digits(text));
    match oid {
        Oid::FLOAT4 => {
            let float: f32 = text.parse().ok()?;
            is(FloatText(float).to_string()).then(|| out.put(&float.to_be_bytes()))
        }
        Oid::FLOAT8 => {
            let float: f64 = text.parse().ok()?;
            is(FloatText(float).to_string()).then(|| out.put(&float.to_be_bytes()))
        }
        Oid::INT2 | Oid::INT4 | Oid::INT8 | Oid::OID => put_integer(text.parse().ok()?, oid, out),
        _ => None,
    }
}

/// The value of a type that its text means, as the server prints it.
fn put_text(text: &str, oid: Oid, out: &mut Out<'_>) -> Option<()> {
    if oid == Oid::JSONB {
        return encode_jsonb(text.as_bytes(), out).ok().map(drop);
    }
    let value = PgValue::from_text(oid, text).ok()?;
    let is_of_type = value.declare(BUILTIN) == oid;
    (is_of_type && value.encode(BUILTIN, out).ok()? == Encoded::Binary).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Date, Timestamptz};

    fn converted(value: &dyn ToSql, oid: Oid) -> Option<Vec<u8>> {
        let mut bytes = b"before".to_vec();
        let mut out = Out::new(&mut bytes);
        let done = encode_cell(value, Target::new(oid, false), &mut out);
        match done {
            Ok(present) => {
                assert!(present);
                assert_eq!(bytes.drain(..6).as_slice(), b"before");
                Some(bytes)
            }
            Err(PgError::Parameter(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn becomes(value: &dyn ToSql, oid: Oid, expected: PgValue) {
        let bytes = converted(value, oid).unwrap_or_else(|| panic!("{} is refused", oid));
        assert_eq!(PgValue::from_binary(oid, &bytes).unwrap(), expected);
    }

    #[test]
    fn h49_integers_become_what_has_them_exactly() {
        becomes(&7i16, Oid::INT8, PgValue::Int8(7));
        becomes(&i64::from(i32::MIN), Oid::INT4, PgValue::Int4(i32::MIN));
        becomes(&u32::MAX, Oid::INT8, PgValue::Int8(u32::MAX.into()));
        becomes(&-3i32, Oid::FLOAT4, PgValue::Float4(-3.0));
        becomes(&(1i64 << 62), Oid::FLOAT8, PgValue::Float8(2f64.powi(62)));
        becomes(&i64::MIN, Oid::FLOAT4, PgValue::Float4(-(2f32.powi(63))));
        for number in [0, 1, -1, 9999, 10_000, -120_000_000, 100_000_001, i64::MIN, i64::MAX] {
            becomes(&number, Oid::NUMERIC, PgValue::Numeric(number.to_string()));
        }
        for (value, oid) in [
            (&(1i64 << 31) as &dyn ToSql, Oid::INT4),
            (&-1i32, Oid::OID),
            (&16_777_217i32, Oid::FLOAT4),
            (&i64::MAX, Oid::FLOAT8),
            (&0i64, Oid::TIMESTAMP),
            (&0i32, Oid::DATE),
            (&0i16, Oid::TEXT),
            (&0i64, Oid::MONEY),
        ] {
            assert_eq!(converted(value, oid), None, "{oid:?}");
        }
    }

    #[test]
    fn h49_floats_and_numerics_become_what_has_them_exactly() {
        becomes(&0.1f32, Oid::FLOAT8, PgValue::Float8(f64::from(0.1f32)));
        becomes(&0.5f64, Oid::FLOAT4, PgValue::Float4(0.5));
        becomes(&0.1f64, Oid::NUMERIC, PgValue::Numeric("0.1".into()));
        becomes(&f64::NEG_INFINITY, Oid::FLOAT4, PgValue::Float4(f32::NEG_INFINITY));
        let numeric = |text: &str| Numeric::new(text).unwrap();
        becomes(&numeric("42"), Oid::INT2, PgValue::Int2(42));
        becomes(&numeric("0.10"), Oid::FLOAT8, PgValue::Float8(0.1));
        becomes(&numeric("100"), Oid::FLOAT4, PgValue::Float4(100.0));
        for (value, oid) in [
            (&0.1f64 as &dyn ToSql, Oid::FLOAT4),
            (&1e300f64, Oid::FLOAT4),
            (&3.0f64, Oid::INT4),
            (&1.0f32, Oid::TIMESTAMPTZ),
            (&numeric("42.0"), Oid::INT4),
            (&numeric("40000"), Oid::INT2),
            (&numeric("0.1000000000000000055"), Oid::FLOAT8),
            (&Timestamptz(5), Oid::INT8),
            (&Date(5), Oid::TIMESTAMP),
        ] {
            assert_eq!(converted(value, oid), None, "{oid:?}");
        }
    }

    #[test]
    fn h49_text_becomes_what_it_means() {
        becomes(&"abc", Oid::VARCHAR, PgValue::Text("abc".into()));
        becomes(&r#"{"a": 1}"#, Oid::JSON, PgValue::Json(r#"{"a": 1}"#.into()));
        becomes(&"[]", Oid::JSONB, PgValue::Jsonb(b"[]".to_vec()));
        becomes(&"42", Oid::INT4, PgValue::Int4(42));
        becomes(&"2000-01-02", Oid::DATE, PgValue::Date(1));
        becomes(&"x", Oid::CHAR, PgValue::Char(120));
        let words = vec!["a".to_owned(), "b".to_owned()];
        let text = |text: &str| PgValue::Text(text.into());
        becomes(&words, Oid::VARCHAR_ARRAY, PgValue::Array(vec![text("a"), text("b")]));
        for (text, oid) in [
            ("four", Oid::INT4),
            ("yesterday", Oid::DATE),
            ("[1,2)", Oid::INT4RANGE),
            ("10.0.0.0/8", Oid::CIDR),
            ("1.5", Oid::new(90_000)),
        ] {
            assert_eq!(converted(&text, oid), None, "{text}");
        }
        assert_eq!(converted(&words, Oid::INT4_ARRAY), None);
        assert_eq!(converted(&b"bytes".as_slice(), Oid::TEXT), None);
        let mut bytes = Vec::new();
        let label =
            encode_cell(&"happy", Target::new(Oid::new(90_000), true), &mut Out::new(&mut bytes));
        assert!(label.unwrap());
        assert_eq!(bytes, b"happy");
    }

    #[test]
    fn h49_the_refusal_names_both_types_and_says_what_to_do() {
        let mut bytes = Vec::new();
        let target = Target::new(Oid::TIMESTAMPTZ, false);
        let error = encode_cell(&5i64, target, &mut Out::new(&mut bytes)).unwrap_err().to_string();
        assert!(error.contains("(i64 as timestamptz)") && error.contains("text format"), "{error}");
    }
}
