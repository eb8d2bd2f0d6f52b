//! [`PgValue`]: one SQL value of any type, for code that learns only at run time what it handles.
//!
//! A `PgValue` carries a value, not a type: `text` and `varchar` are both [`PgValue::Text`], `inet`
//! and `cidr` both [`PgValue::Inet`]. Each variant leaves the bytes to the Rust type that stands
//! behind it, so that both ways agree.

mod read;
mod text;
mod write;

#[cfg(test)]
mod tests;

use super::Oid;

/// One SQL value, of any type.
///
/// Reading: every cell can be read as a `PgValue`, also NULL. A type without a variant comes as its
/// text in text format and as [`PgValue::Unknown`] with its bytes in binary.
///
/// Sending: each variant is declared as the type named below. An unspecified one is text that the
/// server parses for whatever type the place calls for.
///
/// [`Display`](std::fmt::Display) shows a value as psql does with the server's default settings and
/// TimeZone UTC; `NULL` for NULL.
///
/// ```
/// use chopin_pg::types::{Oid, PgValue, ToSql};
///
/// assert_eq!(18i32.to_sql(), PgValue::Int4(18));
/// assert_eq!(PgValue::from_text(Oid::INT4_ARRAY, "{1,NULL}")?.to_string(), "{1,NULL}");
/// assert_eq!(PgValue::Date(0).to_string(), "2000-01-01");
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PgValue {
    /// NULL. Sent as an unspecified NULL.
    Null,
    /// bool.
    Bool(bool),
    /// "char": one byte.
    Char(i8),
    /// int2.
    Int2(i16),
    /// int4.
    Int4(i32),
    /// int8.
    Int8(i64),
    /// oid.
    Oid(Oid),
    /// float4.
    Float4(f32),
    /// float8.
    Float8(f64),
    /// text, varchar, bpchar, name, xml; any other type in text format. Sent unspecified.
    Text(String),
    /// bytea.
    Bytes(Vec<u8>),
    /// json, as its text. Sent unspecified, so that it fits jsonb too.
    Json(String),
    /// jsonb, as the UTF-8 bytes of its text.
    Jsonb(Vec<u8>),
    /// uuid.
    Uuid([u8; 16]),
    /// date: days since 2000-01-01; `i32::MIN` and `i32::MAX` are the infinities.
    Date(i32),
    /// time: microseconds since midnight.
    Time(i64),
    /// timestamp: microseconds since 2000-01-01 00:00:00; `i64::MIN` and `i64::MAX` are the
    /// infinities.
    Timestamp(i64),
    /// timestamptz: microseconds since 2000-01-01 00:00:00 UTC; `i64::MIN` and `i64::MAX` are the
    /// infinities.
    Timestamptz(i64),
    /// interval; its three parts are independent of each other.
    Interval {
        /// Months; twelve to the year.
        months: i32,
        /// Days; not always of 24 hours.
        days: i32,
        /// Microseconds.
        microseconds: i64,
    },
    /// inet or cidr, as its text. Sent as inet.
    Inet(String),
    /// numeric, as its exact text: digits, `NaN`, `Infinity` or `-Infinity`.
    Numeric(String),
    /// A one-dimensional array. Sent as the array type of its first element that is not NULL;
    /// without one, unspecified.
    Array(Vec<PgValue>),
    /// macaddr.
    MacAddr([u8; 6]),
    /// point.
    Point {
        /// The first coordinate.
        x: f64,
        /// The second coordinate.
        y: f64,
    },
    /// A range of any type, as its text: `[1,10)`. Sent unspecified.
    Range(String),
    /// A value in binary format of a type that has no variant. Sent back as it came; refused when
    /// its type is unspecified.
    Unknown {
        /// The type.
        oid: Oid,
        /// The value in the type's binary form.
        bytes: Vec<u8>,
    },
}

impl PgValue {
    /// Whether this is NULL.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The type whose values this variant holds: `text` for [`Text`](Self::Text), the array type
    /// for an [`Array`](Self::Array) of elements that tell theirs. [`Oid::UNSPECIFIED`] for NULL,
    /// for ranges and where it cannot be told.
    ///
    /// A parameter is *declared* as this type too, but for [`Text`](Self::Text) and
    /// [`Json`](Self::Json), which are declared as unspecified so that the server may parse them
    /// for another type.
    pub fn type_oid(&self) -> Oid {
        match self {
            Self::Null | Self::Range(_) => Oid::UNSPECIFIED,
            Self::Bool(_) => Oid::BOOL,
            Self::Char(_) => Oid::CHAR,
            Self::Int2(_) => Oid::INT2,
            Self::Int4(_) => Oid::INT4,
            Self::Int8(_) => Oid::INT8,
            Self::Oid(_) => Oid::OID,
            Self::Float4(_) => Oid::FLOAT4,
            Self::Float8(_) => Oid::FLOAT8,
            Self::Text(_) => Oid::TEXT,
            Self::Bytes(_) => Oid::BYTEA,
            Self::Json(_) => Oid::JSON,
            Self::Jsonb(_) => Oid::JSONB,
            Self::Uuid(_) => Oid::UUID,
            Self::Date(_) => Oid::DATE,
            Self::Time(_) => Oid::TIME,
            Self::Timestamp(_) => Oid::TIMESTAMP,
            Self::Timestamptz(_) => Oid::TIMESTAMPTZ,
            Self::Interval { .. } => Oid::INTERVAL,
            Self::Inet(_) => Oid::INET,
            Self::Numeric(_) => Oid::NUMERIC,
            Self::Array(items) => write::array_oid(items),
            Self::MacAddr(_) => Oid::MACADDR,
            Self::Point { .. } => Oid::POINT,
            Self::Unknown { oid, .. } => *oid,
        }
    }
}
