//! The text form of [`PgValue`]s.

use std::borrow::Cow;
use std::fmt::{self, Display};

use super::PgValue;
use crate::error::PgResult;
use crate::types::array::escape_element;
use crate::types::inet::MacAddrText;
use crate::types::scalar::{CharText, FloatText, UuidText};
use crate::types::text::{BytesText, refuse_nul};
use crate::types::traits::unsendable;
use crate::types::{Date, Interval, Point, Time, Timestamp, Timestamptz};

impl PgValue {
    /// The value in its text form, which the server reads as the same value; `None` for NULL.
    ///
    /// ```
    /// use chopin_pg::types::PgValue;
    ///
    /// let list = PgValue::Array(vec![PgValue::Text("a b".into()), PgValue::Null]);
    /// assert_eq!(list.to_text_bytes()?, Some(br#"{"a b",NULL}"#.to_vec()));
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PgError::Parameter`](crate::PgError::Parameter) when there is no such text: a string with
    /// a NUL byte, an [`Unknown`](Self::Unknown) type, a [`Char`](Self::Char) that is not ASCII
    /// (whose text PostgreSQL 15 and earlier misread).
    pub fn to_text_bytes(&self) -> PgResult<Option<Vec<u8>>> {
        if self.is_null() {
            return Ok(None);
        }
        self.check_text()?;
        Ok(Some(self.to_string().into_bytes()))
    }

    /// The text of an element as it stands inside an array: in quotes where it could be taken for
    /// something else.
    ///
    /// ```
    /// use chopin_pg::types::PgValue;
    ///
    /// assert_eq!(PgValue::escape_array_element("plain"), "plain");
    /// assert_eq!(PgValue::escape_array_element("null"), "\"null\"");
    /// assert_eq!(PgValue::escape_array_element("say \"hi\""), r#""say \"hi\"""#);
    /// ```
    pub fn escape_array_element(text: &str) -> Cow<'_, str> {
        escape_element(text)
    }

    /// Refuses a value whose [`Display`] the server would not read as that value.
    fn check_text(&self) -> PgResult<()> {
        match self {
            Self::Text(text)
            | Self::Json(text)
            | Self::Inet(text)
            | Self::Numeric(text)
            | Self::Range(text) => refuse_nul(text),
            Self::Jsonb(text) => match std::str::from_utf8(text) {
                Ok(text) => refuse_nul(text),
                Err(_) => Err(unsendable::<Self>(Some("jsonb"), "the bytes are not UTF-8")),
            },
            Self::Char(i8::MIN..0) => {
                Err(unsendable::<Self>(Some("\"char\""), "a byte above 127 has no text form"))
            }
            Self::Unknown { .. } => {
                Err(unsendable::<Self>(None, "only the binary form of the value is known"))
            }
            Self::Array(items) => items.iter().try_for_each(Self::check_text),
            _ => Ok(()),
        }
    }
}

/// What psql shows for the value with the server's default settings and TimeZone UTC, but `NULL`
/// for NULL. The bytes of an [`Unknown`](PgValue::Unknown) type are shown as a bytea is.
impl Display for PgValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(value) => f.write_str(if *value { "t" } else { "f" }),
            Self::Char(value) => CharText(*value).fmt(f),
            Self::Int2(value) => value.fmt(f),
            Self::Int4(value) => value.fmt(f),
            Self::Int8(value) => value.fmt(f),
            Self::Oid(value) => value.fmt(f),
            Self::Float4(value) => FloatText(*value).fmt(f),
            Self::Float8(value) => FloatText(*value).fmt(f),
            Self::Text(text)
            | Self::Json(text)
            | Self::Inet(text)
            | Self::Numeric(text)
            | Self::Range(text) => f.write_str(text),
            Self::Bytes(bytes) | Self::Unknown { bytes, .. } => BytesText(bytes).fmt(f),
            Self::Jsonb(text) => f.write_str(&String::from_utf8_lossy(text)),
            Self::Uuid(bytes) => UuidText(*bytes).fmt(f),
            Self::Date(days) => Date(*days).fmt(f),
            Self::Time(micros) => Time(*micros).fmt(f),
            Self::Timestamp(micros) => Timestamp(*micros).fmt(f),
            Self::Timestamptz(micros) => Timestamptz(*micros).fmt(f),
            &Self::Interval { months, days, microseconds } => {
                Interval { months, days, microseconds }.fmt(f)
            }
            Self::Array(items) => write_array(f, items),
            Self::MacAddr(bytes) => MacAddrText(*bytes).fmt(f),
            &Self::Point { x, y } => Point { x, y }.fmt(f),
        }
    }
}

fn write_array(f: &mut fmt::Formatter<'_>, items: &[PgValue]) -> fmt::Result {
    f.write_str("{")?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(",")?;
        }
        match item {
            PgValue::Null | PgValue::Array(_) => item.fmt(f)?,
            item => f.write_str(&escape_element(&item.to_string()))?,
        }
    }
    f.write_str("}")
}
