//! Types of fixed width: bool, the integers, "char", oid, the floats and uuid.
//!
//! Reading one is a comparison of the type, a check of the length and a byte swap; everything else,
//! the text format and the errors, stays out of line.
//!
//! Source: PostgreSQL's `boolsend`, `int2send` and their like; documentation, "Numeric Types".

mod float;
mod uuid;

pub(super) use self::float::FloatText;
pub(super) use self::uuid::{UuidText, hex_byte};

use std::fmt::{self, Write};
use std::str::FromStr;

use super::{Cell, Encoded, Format, FromSql, Oid, Out, PgValue, StaticType, ToSql, TypeMap};
use crate::error::{PgError, PgResult};

/// [`ToSql`] and [`StaticType`] of a type whose binary form is its big-endian bytes.
macro_rules! sent_as_bytes {
    ($rust:ty, $oid:ident, $variant:ident) => {
        impl $crate::types::ToSql for $rust {
            #[inline]
            fn declare(&self, _: &$crate::types::TypeMap) -> $crate::types::Oid {
                $crate::types::Oid::$oid
            }
            #[inline]
            fn encode(
                &self,
                _: &$crate::types::TypeMap,
                out: &mut $crate::types::Out<'_>,
            ) -> $crate::error::PgResult<$crate::types::Encoded> {
                out.put(&self.to_be_bytes());
                Ok($crate::types::Encoded::Binary)
            }
            fn to_sql(&self) -> $crate::types::PgValue {
                $crate::types::PgValue::$variant(*self)
            }
        }

        impl $crate::types::StaticType for $rust {
            fn static_type(_: &$crate::types::TypeMap) -> $crate::types::Oid {
                $crate::types::Oid::$oid
            }
        }
    };
}
use sent_as_bytes;

sent_as_bytes!(i8, CHAR, Char);
sent_as_bytes!(i16, INT2, Int2);
sent_as_bytes!(i32, INT4, Int4);
sent_as_bytes!(i64, INT8, Int8);

/// The bytes of a value that is always `N` bytes long.
#[inline]
pub(super) fn fixed<T, const N: usize>(cell: Cell<'_>) -> PgResult<[u8; N]> {
    match cell.bytes().try_into() {
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(wrong_length::<T>(cell, N)),
    }
}

#[cold]
#[inline(never)]
fn wrong_length<T>(cell: Cell<'_>, expected: usize) -> PgError {
    let length = cell.bytes().len();
    cell.invalid::<T>(format!("the value has {length} bytes instead of {expected}"))
}

/// An integer as the server prints it: digits, with `-` before them or nothing.
#[inline(never)]
fn integer_text<T: FromStr>(cell: Cell<'_>) -> PgResult<T> {
    let text = cell.text::<T>()?;
    match text.parse() {
        Ok(value) if !text.starts_with('+') => Ok(value),
        _ => Err(cell.invalid::<T>("the text is not an integer that fits")),
    }
}

impl FromSql<'_> for i16 {
    #[inline]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match (cell.format(), cell.oid()) {
            (Format::Binary, Oid::INT2) => fixed::<Self, 2>(cell).map(Self::from_be_bytes),
            (Format::Text, Oid::INT2) => integer_text(cell),
            _ => Err(cell.mismatch::<Self>()),
        }
    }
}

impl FromSql<'_> for i32 {
    #[inline(always)]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match cell.binary(Oid::INT4) {
            Some(bytes) => Ok(Self::from_be_bytes(bytes)),
            None => i32_of_any(cell),
        }
    }
}

#[inline(never)]
fn i32_of_any(cell: Cell<'_>) -> PgResult<i32> {
    match (cell.format(), cell.oid()) {
        (Format::Binary, Oid::INT4) => fixed::<i32, 4>(cell).map(i32::from_be_bytes),
        (Format::Binary, Oid::INT2) => fixed::<i32, 2>(cell).map(i16::from_be_bytes).map(i32::from),
        (Format::Text, Oid::INT4 | Oid::INT2) => integer_text(cell),
        _ => Err(cell.mismatch::<i32>()),
    }
}

impl FromSql<'_> for i64 {
    #[inline(always)]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match cell.binary(Oid::INT8) {
            Some(bytes) => Ok(Self::from_be_bytes(bytes)),
            None => i64_of_any(cell),
        }
    }
}

#[inline(never)]
fn i64_of_any(cell: Cell<'_>) -> PgResult<i64> {
    match (cell.format(), cell.oid()) {
        (Format::Binary, Oid::INT8) => fixed::<i64, 8>(cell).map(i64::from_be_bytes),
        (Format::Binary, Oid::INT4) => fixed::<i64, 4>(cell).map(i32::from_be_bytes).map(i64::from),
        (Format::Binary, Oid::INT2) => fixed::<i64, 2>(cell).map(i16::from_be_bytes).map(i64::from),
        (Format::Text, Oid::INT8 | Oid::INT4 | Oid::INT2) => integer_text(cell),
        _ => Err(cell.mismatch::<i64>()),
    }
}

/// "char" is one byte that PostgreSQL's catalogues use as a small enum; not to be confused with
/// `char(n)`.
impl FromSql<'_> for i8 {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match (cell.format(), cell.oid()) {
            (Format::Binary, Oid::CHAR) => fixed::<Self, 1>(cell).map(Self::from_be_bytes),
            (Format::Text, Oid::CHAR) => char_text(cell),
            _ => Err(cell.mismatch::<Self>()),
        }
    }

    fn from_sql_owned(cell: Cell<'_>) -> PgResult<Self> {
        Self::from_sql(cell)
    }
}

/// A "char" as the server prints it: nothing for zero, one byte, or from PostgreSQL 16 on three
/// octal digits behind a backslash for a byte above 127.
fn char_text(cell: Cell<'_>) -> PgResult<i8> {
    let byte = match cell.bytes() {
        [] => Some(0),
        [byte] => Some(*byte),
        [b'\\', digits @ ..] => octal(digits),
        _ => None,
    };
    match byte {
        Some(byte) => Ok(i8::from_be_bytes([byte])),
        None => Err(cell.invalid::<i8>("the text is not one character")),
    }
}

/// Shows a "char" as the server does: nothing for zero, octal digits for a byte above 127.
pub(super) struct CharText(pub(super) i8);

impl fmt::Display for CharText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.to_be_bytes() {
            [0] => Ok(()),
            [byte] if byte.is_ascii() => f.write_char(char::from(byte)),
            [byte] => write!(f, "\\{byte:03o}"),
        }
    }
}

/// The byte that three octal digits stand for.
pub(super) fn octal(digits: &[u8]) -> Option<u8> {
    let [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7'] = digits else {
        return None;
    };
    Some((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'))
}

impl ToSql for bool {
    #[inline]
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::BOOL
    }
    #[inline]
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        out.put_u8(u8::from(*self));
        Ok(Encoded::Binary)
    }
    fn to_sql(&self) -> PgValue {
        PgValue::Bool(*self)
    }
}

impl StaticType for bool {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::BOOL
    }
}

impl FromSql<'_> for bool {
    #[inline]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match (cell.oid(), cell.format(), cell.bytes()) {
            (Oid::BOOL, Format::Binary, [0]) | (Oid::BOOL, Format::Text, b"f") => Ok(false),
            (Oid::BOOL, Format::Binary, [1]) | (Oid::BOOL, Format::Text, b"t") => Ok(true),
            (Oid::BOOL, _, _) => Err(cell.invalid::<Self>("the value is neither true nor false")),
            _ => Err(cell.mismatch::<Self>()),
        }
    }
}

impl ToSql for u32 {
    #[inline]
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::OID
    }
    #[inline]
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        out.put_u32(*self);
        Ok(Encoded::Binary)
    }
    fn to_sql(&self) -> PgValue {
        PgValue::Oid(Oid::new(*self))
    }
}

impl StaticType for u32 {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::OID
    }
}

impl FromSql<'_> for u32 {
    #[inline]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match (cell.format(), cell.oid()) {
            (Format::Binary, Oid::OID) => fixed::<Self, 4>(cell).map(Self::from_be_bytes),
            (Format::Text, Oid::OID) => integer_text(cell),
            _ => Err(cell.mismatch::<Self>()),
        }
    }
}

impl ToSql for Oid {
    #[inline]
    fn declare(&self, types: &TypeMap) -> Oid {
        self.get().declare(types)
    }
    #[inline]
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        self.get().encode(types, out)
    }
    fn to_sql(&self) -> PgValue {
        PgValue::Oid(*self)
    }
}

impl StaticType for Oid {
    fn static_type(types: &TypeMap) -> Oid {
        u32::static_type(types)
    }
}

impl FromSql<'_> for Oid {
    #[inline]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match (cell.format(), cell.oid()) {
            (Format::Binary | Format::Text, Oid::OID) => u32::from_sql(cell).map(Self::new),
            _ => Err(cell.mismatch::<Self>()),
        }
    }
}

#[cfg(test)]
mod tests;
