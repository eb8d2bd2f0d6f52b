//! `interval`.

use std::fmt;
use std::str::FromStr;

use super::interval_text;
use super::time::write_clock;
use crate::error::{PgError, PgResult};
use crate::types::{Cell, Encoded, Format, FromSql, Oid, Out, StaticType, ToSql, TypeMap};

/// An `interval`: months, days and microseconds, each with its own sign.
///
/// The three are kept apart because a month has no fixed number of days, nor a day of hours. So two
/// intervals are equal when all three are, while SQL also takes `1 mon` and `30 days` for equal;
/// there is no order.
///
/// `Display` writes IntervalStyle `postgres`; every IntervalStyle is read. Servers from 17 on have
/// infinite intervals, which are all fields at their extreme.
///
/// ```
/// use chopin_pg::types::Interval;
///
/// let interval: Interval = "1 year 2 mons -3 days +04:05:06.5".parse()?;
/// assert_eq!(interval, Interval { months: 14, days: -3, microseconds: 14_706_500_000 });
/// assert_eq!("P1Y2M-3DT4H5M6.5S".parse::<Interval>()?, interval);
/// assert_eq!(interval.to_string(), "1 year 2 mons -3 days +04:05:06.5");
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Months; a year is twelve of them.
    pub months: i32,
    /// Days; a week is seven of them.
    pub days: i32,
    /// Microseconds; hours, minutes and seconds are kept in them.
    pub microseconds: i64,
}

impl Interval {
    /// `infinity`: longer than every interval.
    pub const INFINITY: Self = Self { months: i32::MAX, days: i32::MAX, microseconds: i64::MAX };
    /// `-infinity`: shorter than every interval.
    pub const NEG_INFINITY: Self =
        Self { months: i32::MIN, days: i32::MIN, microseconds: i64::MIN };

    /// Whether this is a length of time, not one of the infinities.
    pub fn is_finite(self) -> bool {
        self != Self::INFINITY && self != Self::NEG_INFINITY
    }

    fn from_binary(bytes: &[u8]) -> Option<Self> {
        let (microseconds, rest) = bytes.split_first_chunk()?;
        let (days, rest) = rest.split_first_chunk()?;
        Some(Self {
            months: i32::from_be_bytes(rest.try_into().ok()?),
            days: i32::from_be_bytes(*days),
            microseconds: i64::from_be_bytes(*microseconds),
        })
    }
}

impl ToSql for Interval {
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::INTERVAL
    }
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        out.put_i64(self.microseconds);
        out.put_i32(self.days);
        out.put_i32(self.months);
        Ok(Encoded::Binary)
    }
}

impl StaticType for Interval {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::INTERVAL
    }
}

impl FromSql<'_> for Interval {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        if cell.oid() != Oid::INTERVAL {
            return Err(cell.mismatch::<Self>());
        }
        match cell.format() {
            Format::Binary => {
                Self::from_binary(cell.bytes()).ok_or("the value has the wrong length")
            }
            Format::Text => interval_text::parse(cell.text::<Self>()?),
        }
        .map_err(|why| cell.invalid::<Self>(why))
    }
}

impl FromStr for Interval {
    type Err = PgError;

    /// Reads the text form that the server writes, in any IntervalStyle.
    fn from_str(text: &str) -> PgResult<Self> {
        Self::from_sql(Cell::new(Oid::INTERVAL, Format::Text, text.as_bytes()))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::INFINITY => return f.write_str("infinity"),
            Self::NEG_INFINITY => return f.write_str("-infinity"),
            _ => {}
        }
        let mut separator = "";
        // The server writes a plus only where the field before was negative.
        let mut plus = "";
        for (value, unit) in
            [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")]
        {
            if value == 0 {
                continue;
            }
            let sign = if value > 0 { plus } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            write!(f, "{separator}{sign}{value} {unit}{plural}")?;
            separator = " ";
            plus = if value < 0 { "+" } else { "" };
        }
        if separator.is_empty() || self.microseconds != 0 {
            let sign = if self.microseconds < 0 { "" } else { plus };
            write!(f, "{separator}{sign}")?;
            write_clock(f, self.microseconds)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn interval(months: i32, days: i32, microseconds: i64) -> Interval {
        Interval { months, days, microseconds }
    }

    const SAMPLES: &[(Interval, &str)] = &[
        (interval(0, 0, 0), "00:00:00"),
        (interval(1, 1, 1), "1 mon 1 day 00:00:00.000001"),
        (interval(12, 0, 0), "1 year"),
        (interval(14, -3, 14_706_500_000), "1 year 2 mons -3 days +04:05:06.5"),
        (interval(-14, 3, -14_706_500_000), "-1 years -2 mons +3 days -04:05:06.5"),
        (interval(-1, 0, 5_400_000_000), "-1 mons +01:30:00"),
        (interval(-1, 1, 1_000_000), "-1 mons +1 day 00:00:01"),
        (interval(0, 0, -5_400_000_000), "-01:30:00"),
        (interval(0, -1, 7_380_000_000), "-1 days +02:03:00"),
        (interval(0, 0, 360_000_000_000_000), "100000:00:00"),
        (
            interval(i32::MAX, i32::MIN, i64::MAX),
            "178956970 years 7 mons -2147483648 days +2562047788:00:54.775807",
        ),
        (
            interval(i32::MIN, i32::MAX, i64::MIN),
            "-178956970 years -8 mons +2147483647 days -2562047788:00:54.775808",
        ),
        (Interval::INFINITY, "infinity"),
        (Interval::NEG_INFINITY, "-infinity"),
    ];

    #[test]
    fn s2_5_interval_text_both_ways() {
        for &(value, text) in SAMPLES {
            assert_eq!(value.to_string(), text);
            assert_eq!(text.parse::<Interval>().unwrap(), value, "{text}");
        }
    }

    #[test]
    fn s2_5_interval_binary_both_ways() {
        let types = TypeMap::builtin();
        for &(value, _) in SAMPLES {
            let mut bytes = Vec::new();
            assert_eq!(value.encode(types, &mut Out::new(&mut bytes)).unwrap(), Encoded::Binary);
            let cell = Cell::new(Oid::INTERVAL, Format::Binary, &bytes);
            assert_eq!(Interval::from_sql(cell).unwrap(), value);
        }
        let mut bytes = Vec::new();
        let _ = interval(1, 2, 3).encode(types, &mut Out::new(&mut bytes)).unwrap();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1]);
        assert_eq!(Interval::static_type(types), Oid::INTERVAL);
        assert_eq!(interval(0, 0, 0).declare(types), Oid::INTERVAL);
    }

    #[test]
    fn s8_1_an_interval_of_another_length_or_type_is_an_error() {
        for length in (0..20).filter(|&length| length != 16) {
            let bytes = vec![0; length];
            let cell = Cell::new(Oid::INTERVAL, Format::Binary, &bytes);
            assert!(Interval::from_sql(cell).is_err(), "{length} bytes");
        }
        assert!(Interval::from_sql(Cell::new(Oid::UUID, Format::Binary, &[0; 16])).is_err());
    }

    #[test]
    fn s2_5_only_all_fields_at_their_extreme_are_infinite() {
        assert!(!Interval::INFINITY.is_finite());
        assert!(!Interval::NEG_INFINITY.is_finite());
        assert!(interval(i32::MAX, i32::MAX, i64::MAX - 1).is_finite());
    }
}
