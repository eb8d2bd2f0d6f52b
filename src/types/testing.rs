//! What the tests of the codecs have in common.

use super::{Cell, Encoded, Format, FromSql, Oid, Out, ToSql, TypeMap};
use crate::error::PgResult;

/// How `value` goes out: its declared type, its format and its bytes.
pub(super) fn sent(value: &dyn ToSql) -> (Oid, Encoded, Vec<u8>) {
    let types = TypeMap::builtin();
    let mut bytes = Vec::new();
    let encoded = value.encode(types, &mut Out::new(&mut bytes)).unwrap();
    (value.declare(types), encoded, bytes)
}

/// Why `value` does not go out.
pub(super) fn refused(value: &dyn ToSql) -> String {
    let mut bytes = Vec::new();
    value.encode(TypeMap::builtin(), &mut Out::new(&mut bytes)).unwrap_err().to_string()
}

/// A cell in binary format read as a `T`.
pub(super) fn binary<'a, T: FromSql<'a>>(oid: Oid, bytes: &'a [u8]) -> PgResult<T> {
    T::from_sql(Cell::new(oid, Format::Binary, bytes))
}

/// A cell in text format read as a `T`.
pub(super) fn text<'a, T: FromSql<'a>>(oid: Oid, text: &'a str) -> PgResult<T> {
    T::from_sql(Cell::new(oid, Format::Text, text.as_bytes()))
}
