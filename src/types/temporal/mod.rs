//! date, time, timestamp, timestamptz and interval as the plain numbers that the server keeps.
//!
//! The epoch is 2000-01-01 in the proleptic Gregorian calendar, the unit a day or a microsecond.
//! Every value of the server has exactly one here and back, infinities and years BC included;
//! nothing is rounded but [`SystemTime`](std::time::SystemTime), which is finer than a microsecond.
//!
//! Binary values are those numbers. Text is read as the server writes it: dates and timestamps in
//! DateStyle `ISO` with any zone offset, intervals in every IntervalStyle. The other DateStyles
//! leave open which number is the month and write zones as ambiguous abbreviations, so their text
//! is refused, never guessed.
//!
//! `Display` writes what psql shows with the server's default settings and TimeZone UTC.
//!
//! Source: PostgreSQL documentation, "Date/Time Types".

mod calendar;
mod date;
mod interval;
mod interval_text;
mod scan;
mod time;
mod timestamp;

pub use self::date::Date;
pub use self::interval::Interval;
pub use self::time::Time;
pub use self::timestamp::{Timestamp, Timestamptz};

/// Microseconds in a day.
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Why a text in another DateStyle is refused.
const NOT_ISO: &str = "the text is not a value in DateStyle ISO, the only one that is unambiguous: \
                       SET datestyle TO 'ISO', or read the value in binary with a parameterised query";

/// The codec of a type that is one number on the wire: `parse` reads its text, `check` its number.
macro_rules! number_codec {
    ($type:ident($number:ty), $oid:ident, $put:ident) => {
        impl ToSql for $type {
            #[inline]
            fn declare(&self, _: &TypeMap) -> Oid {
                Oid::$oid
            }
            #[inline]
            fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
                out.$put(self.0);
                Ok(Encoded::Binary)
            }
        }

        impl StaticType for $type {
            fn static_type(_: &TypeMap) -> Oid {
                Oid::$oid
            }
        }

        impl FromSql<'_> for $type {
            #[inline(always)]
            fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
                let number = cell.binary(Oid::$oid).map(<$number>::from_be_bytes);
                match number.map(Self::check) {
                    Some(Ok(value)) => Ok(value),
                    checked => Self::other(cell, checked),
                }
            }
        }

        impl $type {
            /// A cell that is not in binary, or not right.
            #[inline(never)]
            fn other(
                cell: Cell<'_>,
                checked: Option<Result<Self, &'static str>>,
            ) -> PgResult<Self> {
                if cell.oid() != Oid::$oid {
                    return Err(cell.mismatch::<Self>());
                }
                let value = match (checked, cell.format()) {
                    (Some(checked), _) => checked,
                    (None, Format::Binary) => Err("the value has the wrong length"),
                    (None, Format::Text) => Self::parse(cell.text::<Self>()?),
                };
                value.map_err(|why| cell.invalid::<Self>(why))
            }
        }

        impl FromStr for $type {
            type Err = PgError;

            /// Reads the text form that the server writes, dates in DateStyle ISO.
            fn from_str(text: &str) -> PgResult<Self> {
                Self::from_sql(Cell::new(Oid::$oid, Format::Text, text.as_bytes()))
            }
        }
    };
}
use number_codec;
