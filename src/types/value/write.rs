//! [`PgValue`]s as parameters, and their binary form.

use std::mem::discriminant;

use super::PgValue;
use crate::error::{PgError, PgResult};
use crate::types::array::{array_type, encode_list};
use crate::types::numeric::encode_text as encode_numeric;
use crate::types::text::encode_jsonb;
use crate::types::traits::unsendable;
use crate::types::{
    Date, Encoded, Inet, Interval, Oid, Out, Point, StaticType, Time, Timestamp, Timestamptz,
    ToSql, TypeMap,
};

impl PgValue {
    /// The value in the binary form of [`type_oid`](Self::type_oid); `None` for NULL.
    ///
    /// ```
    /// use chopin_pg::types::PgValue;
    ///
    /// assert_eq!(PgValue::Int2(256).to_binary_bytes()?, Some(vec![1, 0]));
    /// assert_eq!(PgValue::Null.to_binary_bytes()?, None);
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PgError::Parameter`] when the value is not one of its type, or its type cannot be told
    /// ([`Range`](Self::Range), an [`Array`](Self::Array) without a value).
    pub fn to_binary_bytes(&self) -> PgResult<Option<Vec<u8>>> {
        if !self.is_null() && self.type_oid() == Oid::UNSPECIFIED {
            return Err(unsendable::<Self>(
                None,
                "the type is not known, so it has no binary form",
            ));
        }
        let mut bytes = Vec::new();
        let mut out = Out::new(&mut bytes);
        // What is sent as text although its type is known is text or json, whose binary form is the
        // same.
        let encoded = self.encode(TypeMap::builtin(), &mut out)?;
        if out.overflowed() {
            return Err(unsendable::<Self>(None, "the value is longer than 2 GiB"));
        }
        Ok((encoded != Encoded::Null).then_some(bytes))
    }

    /// Whether the value is sent in binary format: every type but strings, json and ranges.
    pub fn prefers_binary(&self) -> bool {
        match self {
            Self::Null | Self::Text(_) | Self::Json(_) | Self::Range(_) => false,
            Self::Array(items) => array_oid(items) != Oid::UNSPECIFIED,
            _ => true,
        }
    }
}

/// The array type of the first element that is not NULL, unspecified where there is none.
pub(super) fn array_oid(items: &[PgValue]) -> Oid {
    let first = items.iter().find(|item| !item.is_null());
    first.map_or(Oid::UNSPECIFIED, |item| array_type(item.type_oid(), TypeMap::builtin()))
}

impl ToSql for PgValue {
    fn declare(&self, _: &TypeMap) -> Oid {
        match self {
            Self::Text(_) | Self::Json(_) => Oid::UNSPECIFIED,
            other => other.type_oid(),
        }
    }

    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        match self {
            Self::Null => Ok(Encoded::Null),
            Self::Bool(value) => value.encode(types, out),
            Self::Char(value) => value.encode(types, out),
            Self::Int2(value) => value.encode(types, out),
            Self::Int4(value) => value.encode(types, out),
            Self::Int8(value) => value.encode(types, out),
            Self::Oid(value) => value.encode(types, out),
            Self::Float4(value) => value.encode(types, out),
            Self::Float8(value) => value.encode(types, out),
            Self::Text(text) | Self::Json(text) | Self::Range(text) => text.encode(types, out),
            Self::Bytes(bytes) => bytes.encode(types, out),
            Self::Jsonb(text) => encode_jsonb(text, out),
            Self::Uuid(bytes) => bytes.encode(types, out),
            Self::Date(days) => Date(*days).encode(types, out),
            Self::Time(micros) => Time(*micros).encode(types, out),
            Self::Timestamp(micros) => Timestamp(*micros).encode(types, out),
            Self::Timestamptz(micros) => Timestamptz(*micros).encode(types, out),
            Self::Interval { months, days, microseconds } => {
                Interval { months: *months, days: *days, microseconds: *microseconds }
                    .encode(types, out)
            }
            Self::Inet(text) => {
                let inet: Inet = text.parse().map_err(|error| malformed("inet", &error))?;
                inet.encode(types, out)
            }
            Self::Numeric(text) => match encode_numeric(text, out) {
                Ok(()) => Ok(Encoded::Binary),
                Err(why) => Err(unsendable::<Self>(Some("numeric"), why)),
            },
            Self::Array(items) => encode_array(self, items, types, out),
            Self::MacAddr(bytes) => bytes.encode(types, out),
            Self::Point { x, y } => Point { x: *x, y: *y }.encode(types, out),
            Self::Unknown { oid: Oid::UNSPECIFIED, .. } => Err(unsendable::<Self>(
                None,
                "the value could not be written, or its type is not known",
            )),
            Self::Unknown { bytes, .. } => {
                out.put(bytes);
                Ok(Encoded::Binary)
            }
        }
    }

    fn to_sql(&self) -> PgValue {
        self.clone()
    }
}

/// The type is told by the value, so NULL and an empty list of `PgValue`s are unspecified.
impl StaticType for PgValue {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::UNSPECIFIED
    }
}

/// Elements of one type go as an array of that type. Without a type there is only the text form: a
/// list of nothing but NULL, of ranges, of lists.
fn encode_array(
    array: &PgValue,
    items: &[PgValue],
    types: &TypeMap,
    out: &mut Out<'_>,
) -> PgResult<Encoded> {
    let mut present = items.iter().filter(|item| !item.is_null());
    if let Some(first) = present.next() {
        let same = |item: &PgValue| {
            discriminant(item) == discriminant(first) && item.type_oid() == first.type_oid()
        };
        if let Some(other) = present.find(|item| !same(item)) {
            let name = |item: &PgValue| types.describe(item.type_oid());
            let why =
                format!("the elements are of several types: {} and {}", name(first), name(other));
            return Err(unsendable::<PgValue>(None, why));
        }
        if types.array_of(first.type_oid()).is_some() {
            return encode_list(items, first.type_oid(), types, out);
        }
    }
    out.put(&array.to_text_bytes()?.unwrap_or_default());
    Ok(Encoded::Text)
}

/// The text of a variant that keeps text is not a value of the variant's type.
#[cold]
fn malformed(name: &str, error: &PgError) -> PgError {
    let why = match error {
        PgError::TypeConversion(conversion) => conversion.message.clone(),
        other => other.to_string(),
    };
    unsendable::<PgValue>(Some(name), why)
}
