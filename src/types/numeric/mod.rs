//! `numeric` as exact text.
//!
//! A numeric has up to 131072 digits before its point and 16383 after it, more than any number type
//! of Rust holds; so its text is the value, and the binary form on the wire is translated from and
//! to it without loss.
//!
//! Source: PostgreSQL documentation, "Arbitrary Precision Numbers"; `numeric_in`, `numeric_out`,
//! `numeric_send`.

mod binary;
mod text;

use std::fmt;
use std::str::FromStr;

use self::binary::decode_binary;
pub(super) use self::binary::encode_text;
use super::traits::unsendable;
use super::{Cell, Encoded, Format, FromSql, Oid, Out, StaticType, ToSql, TypeMap};
use crate::error::{PgError, PgResult};

/// A `numeric`: a decimal number of any precision, kept as the text that the server prints for it.
///
/// It is `NaN`, `Infinity`, `-Infinity`, or digits with at most one point and nothing superfluous:
/// no sign of plus, no exponent, no zeros at the front. Zeros at the end are part of it: `1.50` has
/// a scale of 2. So `1.5` and `1.50` are different here, while SQL takes them for equal.
///
/// There is no arithmetic; give the text to a decimal library, or to `str::parse` for the nearest
/// `f64`.
///
/// ```
/// use chopin_pg::types::Numeric;
///
/// let price: Numeric = "+0012.50".parse()?;
/// assert_eq!(price.as_str(), "12.50");
/// assert_eq!("-1.5e-3".parse::<Numeric>()?.as_str(), "-0.0015");
/// assert_eq!(Numeric::from(42).as_str(), "42");
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Numeric(String);

impl Numeric {
    /// The number that `text` means: digits with an optional sign, point and exponent, or `NaN`,
    /// `Infinity`, `inf` in any case, with blanks around it.
    ///
    /// # Errors
    ///
    /// [`PgError::TypeConversion`] when it is no number, or one with more than 131072 digits before
    /// or 16383 after its point.
    pub fn new(text: &str) -> PgResult<Self> {
        Self::from_sql(Cell::new(Oid::NUMERIC, Format::Text, text.as_bytes()))
    }

    /// The number as the server prints it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ToSql for Numeric {
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::NUMERIC
    }
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        match encode_text(&self.0, out) {
            Ok(()) => Ok(Encoded::Binary),
            Err(why) => Err(unsendable::<Self>(Some("numeric"), why)),
        }
    }
}

impl StaticType for Numeric {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::NUMERIC
    }
}

impl FromSql<'_> for Numeric {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match (cell.oid(), cell.format()) {
            (Oid::NUMERIC, Format::Binary) => decode_binary(cell.bytes()),
            (Oid::NUMERIC, Format::Text) => text::canonical(cell.text::<Self>()?),
            (Oid::INT2 | Oid::INT4 | Oid::INT8, _) => return i64::from_sql(cell).map(Self::from),
            _ => return Err(cell.mismatch::<Self>()),
        }
        .map(Self)
        .map_err(|why| cell.invalid::<Self>(why))
    }
}

impl FromStr for Numeric {
    type Err = PgError;

    /// The same as [`Numeric::new`].
    fn from_str(text: &str) -> PgResult<Self> {
        Self::new(text)
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Numeric {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Numeric> for String {
    fn from(number: Numeric) -> Self {
        number.0
    }
}

macro_rules! from_integer {
    ($($integer:ty),+) => {$(
        impl From<$integer> for Numeric {
            fn from(number: $integer) -> Self {
                Self(number.to_string())
            }
        }
    )+};
}

from_integer!(i8, i16, i32, i64, i128, u8, u16, u32, u64, u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_7_numeric_declares_itself_and_is_sent_in_binary() {
        let types = TypeMap::builtin();
        let number = Numeric::new("12.50").unwrap();
        assert_eq!(number.declare(types), Oid::NUMERIC);
        assert_eq!(Numeric::static_type(types), Oid::NUMERIC);
        let mut bytes = Vec::new();
        assert_eq!(number.encode(types, &mut Out::new(&mut bytes)).unwrap(), Encoded::Binary);
        let cell = Cell::new(Oid::NUMERIC, Format::Binary, &bytes);
        assert_eq!(Numeric::from_sql(cell).unwrap(), number);
        assert_eq!(number.to_string(), "12.50");
        assert_eq!(format!("{number:>8}|"), "   12.50|");
        assert_eq!(String::from(number), "12.50");
    }

    #[test]
    fn s2_7_numeric_reads_integers_exactly() {
        for (oid, bytes, text) in [
            (Oid::INT2, &i16::MIN.to_be_bytes()[..], "-32768"),
            (Oid::INT4, &i32::MAX.to_be_bytes()[..], "2147483647"),
            (Oid::INT8, &i64::MIN.to_be_bytes()[..], "-9223372036854775808"),
        ] {
            let number = Numeric::from_sql(Cell::new(oid, Format::Binary, bytes)).unwrap();
            assert_eq!(number.as_str(), text);
            let cell = Cell::new(oid, Format::Text, text.as_bytes());
            assert_eq!(Numeric::from_sql(cell).unwrap(), number);
        }
        assert_eq!(Numeric::from(u128::MAX).as_str(), "340282366920938463463374607431768211455");
    }

    #[test]
    fn s2_7_numeric_does_not_read_floats_or_money() {
        for oid in [Oid::FLOAT4, Oid::FLOAT8, Oid::MONEY, Oid::TEXT] {
            let cell = Cell::new(oid, Format::Text, b"1");
            let error = Numeric::from_sql(cell).unwrap_err().to_string();
            assert!(error.contains("Numeric"), "{error}");
        }
    }
}
