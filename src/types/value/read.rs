//! Cells to [`PgValue`]s.

use super::PgValue;
use crate::error::PgResult;
use crate::types::array::has_several_dimensions;
use crate::types::{
    Cell, Cidr, Date, Format, FromSql, Inet, Interval, Numeric, Oid, Point, Time, Timestamp,
    Timestamptz, TypeKind, TypeMap,
};

impl PgValue {
    /// Reads the binary form of a value of type `oid`.
    ///
    /// ```
    /// use chopin_pg::types::{Oid, PgValue};
    ///
    /// assert_eq!(PgValue::from_binary(Oid::INT2, &[1, 0])?, PgValue::Int2(256));
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PgError::TypeConversion`](crate::PgError::TypeConversion) when the bytes are not a value
    /// of that type.
    pub fn from_binary(oid: Oid, bytes: &[u8]) -> PgResult<Self> {
        Self::from_sql(Cell::new(oid, Format::Binary, bytes))
    }

    /// Reads the text form of a value of type `oid`, as the server prints it.
    ///
    /// ```
    /// use chopin_pg::types::{Oid, PgValue};
    ///
    /// assert_eq!(PgValue::from_text(Oid::BOOL, "t")?, PgValue::Bool(true));
    /// assert_eq!(PgValue::from_text(Oid::INT4RANGE, "[1,10)")?, PgValue::Range("[1,10)".into()));
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PgError::TypeConversion`](crate::PgError::TypeConversion) when the text is not a value of
    /// that type.
    pub fn from_text(oid: Oid, text: &str) -> PgResult<Self> {
        Self::from_sql(Cell::new(oid, Format::Text, text.as_bytes()))
    }
}

impl FromSql<'_> for PgValue {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match cell.oid() {
            Oid::BOOL => bool::from_sql(cell).map(Self::Bool),
            Oid::CHAR => i8::from_sql(cell).map(Self::Char),
            Oid::INT2 => i16::from_sql(cell).map(Self::Int2),
            Oid::INT4 => i32::from_sql(cell).map(Self::Int4),
            Oid::INT8 => i64::from_sql(cell).map(Self::Int8),
            Oid::OID => Oid::from_sql(cell).map(Self::Oid),
            Oid::FLOAT4 => f32::from_sql(cell).map(Self::Float4),
            Oid::FLOAT8 => f64::from_sql(cell).map(Self::Float8),
            Oid::TEXT
            | Oid::VARCHAR
            | Oid::BPCHAR
            | Oid::NAME
            | Oid::UNKNOWN
            | Oid::CSTRING
            | Oid::XML => String::from_sql(cell).map(Self::Text),
            Oid::BYTEA => Vec::from_sql(cell).map(Self::Bytes),
            Oid::JSON => String::from_sql(cell).map(Self::Json),
            Oid::JSONB => String::from_sql(cell).map(|text| Self::Jsonb(text.into_bytes())),
            Oid::UUID => FromSql::from_sql(cell).map(Self::Uuid),
            Oid::DATE => Date::from_sql(cell).map(|Date(days)| Self::Date(days)),
            Oid::TIME => Time::from_sql(cell).map(|Time(micros)| Self::Time(micros)),
            Oid::TIMESTAMP => {
                Timestamp::from_sql(cell).map(|Timestamp(micros)| Self::Timestamp(micros))
            }
            Oid::TIMESTAMPTZ => {
                Timestamptz::from_sql(cell).map(|Timestamptz(micros)| Self::Timestamptz(micros))
            }
            Oid::INTERVAL => {
                let Interval { months, days, microseconds } = Interval::from_sql(cell)?;
                Ok(Self::Interval { months, days, microseconds })
            }
            Oid::INET => Inet::from_sql(cell).map(|inet| Self::Inet(inet.to_string())),
            Oid::CIDR => Cidr::from_sql(cell).map(|cidr| Self::Inet(cidr.to_string())),
            Oid::NUMERIC => Numeric::from_sql(cell).map(|numeric| Self::Numeric(numeric.into())),
            Oid::MACADDR => FromSql::from_sql(cell).map(Self::MacAddr),
            Oid::POINT => Point::from_sql(cell).map(|Point { x, y }| Self::Point { x, y }),
            oid => match TypeMap::builtin().element_of(oid) {
                Some(element) if has_variant(element) && !has_several_dimensions(cell) => {
                    Vec::from_sql(cell).map(Self::Array)
                }
                _ => without_variant(cell),
            },
        }
    }

    fn from_null() -> PgResult<Self> {
        Ok(Self::Null)
    }

    fn from_sql_owned(cell: Cell<'_>) -> PgResult<Self> {
        Self::from_sql(cell)
    }
}

/// Whether cells of type `oid` have a variant of their own in both formats.
fn has_variant(oid: Oid) -> bool {
    matches!(
        oid,
        Oid::BOOL
            | Oid::CHAR
            | Oid::INT2
            | Oid::INT4
            | Oid::INT8
            | Oid::OID
            | Oid::FLOAT4
            | Oid::FLOAT8
            | Oid::TEXT
            | Oid::VARCHAR
            | Oid::BPCHAR
            | Oid::NAME
            | Oid::CSTRING
            | Oid::XML
            | Oid::BYTEA
            | Oid::JSON
            | Oid::JSONB
            | Oid::UUID
            | Oid::DATE
            | Oid::TIME
            | Oid::TIMESTAMP
            | Oid::TIMESTAMPTZ
            | Oid::INTERVAL
            | Oid::INET
            | Oid::CIDR
            | Oid::NUMERIC
            | Oid::MACADDR
            | Oid::POINT
    )
}

/// A cell of another type: its text, or its bytes as they are.
fn without_variant(cell: Cell<'_>) -> PgResult<PgValue> {
    let kind = TypeMap::builtin().info(cell.oid()).map(|info| info.kind);
    match (cell.format(), kind) {
        (Format::Text, Some(TypeKind::Range)) => {
            cell.text::<PgValue>().map(|text| PgValue::Range(text.to_owned()))
        }
        (Format::Text, _) => cell.text::<PgValue>().map(|text| PgValue::Text(text.to_owned())),
        (Format::Binary, _) => {
            Ok(PgValue::Unknown { oid: cell.oid(), bytes: cell.bytes().to_owned() })
        }
    }
}
