//! uuid as its sixteen bytes.
//!
//! Source: PostgreSQL documentation, "UUID Type"; `uuid_out` and `uuid_send`.

use std::fmt;

use super::fixed;
use crate::error::PgResult;
use crate::types::{Cell, Encoded, Format, FromSql, Oid, Out, PgValue, StaticType, ToSql, TypeMap};

/// How many bytes stand between two hyphens of the text form: `8-4-4-4-12` hexadecimal digits.
const GROUPS: [usize; 5] = [4, 2, 2, 2, 6];

impl ToSql for [u8; 16] {
    #[inline]
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::UUID
    }
    #[inline]
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        out.put(self);
        Ok(Encoded::Binary)
    }
    fn to_sql(&self) -> PgValue {
        PgValue::Uuid(*self)
    }
}

impl StaticType for [u8; 16] {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::UUID
    }
}

impl FromSql<'_> for [u8; 16] {
    #[inline]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match (cell.format(), cell.oid()) {
            (Format::Binary, Oid::UUID) => fixed::<Self, 16>(cell),
            (Format::Text, Oid::UUID) => parse(cell.bytes()).ok_or_else(|| {
                cell.invalid::<Self>(
                    "the text is not 32 hexadecimal digits in groups of 8-4-4-4-12",
                )
            }),
            _ => Err(cell.mismatch::<Self>()),
        }
    }
}

/// Reads the form that the server prints, in either case.
fn parse(text: &[u8]) -> Option<[u8; 16]> {
    let mut uuid = [0; 16];
    let mut places = uuid.iter_mut();
    let mut rest = text;
    for (index, bytes) in GROUPS.into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(b"-")?;
        }
        for place in places.by_ref().take(bytes) {
            let (pair, behind) = rest.split_first_chunk::<2>()?;
            *place = hex_byte(*pair)?;
            rest = behind;
        }
    }
    rest.is_empty().then_some(uuid)
}

/// The byte that two hexadecimal digits stand for.
pub(in crate::types) fn hex_byte([high, low]: [u8; 2]) -> Option<u8> {
    Some(hex_digit(high)? << 4 | hex_digit(low)?)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Shows a uuid as the server does: lower-case, in groups of 8-4-4-4-12 digits.
pub(in crate::types) struct UuidText(pub(in crate::types) [u8; 16]);

impl fmt::Display for UuidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.iter();
        for (index, count) in GROUPS.into_iter().enumerate() {
            if index > 0 {
                f.write_str("-")?;
            }
            for byte in bytes.by_ref().take(count) {
                write!(f, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}
