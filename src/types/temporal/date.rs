//! `date`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::calendar::CivilDate;
use super::scan::Scan;
use super::{NOT_ISO, number_codec};
use crate::error::{PgError, PgResult};
use crate::types::{Cell, Encoded, Format, FromSql, Oid, Out, StaticType, ToSql, TypeMap};

/// The dates that the server has: 4714-11-24 BC to 5874897-12-31.
const RANGE: RangeInclusive<i32> = -2_451_545..=2_145_031_948;

/// A `date`: days since 2000-01-01, negative before it.
///
/// The server's dates go from 4714-11-24 BC to 5874897-12-31; `i32::MIN` and `i32::MAX` are the
/// infinities.
///
/// ```
/// use chopin_pg::types::Date;
///
/// let date: Date = "2024-02-29".parse()?;
/// assert_eq!(date, Date(8825));
/// assert_eq!(Date(-730_120).to_string(), "0001-12-31 BC");
/// assert!(date < Date::INFINITY);
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(pub i32);

impl Date {
    /// `infinity`: later than every date.
    pub const INFINITY: Self = Self(i32::MAX);
    /// `-infinity`: earlier than every date.
    pub const NEG_INFINITY: Self = Self(i32::MIN);

    /// Whether this is a day of the calendar, not one of the infinities.
    pub const fn is_finite(self) -> bool {
        self.0 != i32::MAX && self.0 != i32::MIN
    }

    fn check(days: i32) -> Result<Self, &'static str> {
        Ok(Self(days))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "infinity" => return Ok(Self::INFINITY),
            "-infinity" => return Ok(Self::NEG_INFINITY),
            _ => {}
        }
        let mut scan = Scan::new(text);
        let date =
            CivilDate::scan(&mut scan).and_then(|date| date.era(&mut scan)).ok_or(NOT_ISO)?;
        let days = date.days().ok_or("the calendar has no such day")?;
        match i32::try_from(days) {
            Ok(days) if RANGE.contains(&days) => Ok(Self(days)),
            _ => Err("the date is not between 4714-11-24 BC and 5874897-12-31"),
        }
    }
}

number_codec!(Date(i32), DATE, put_i32);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::INFINITY => f.write_str("infinity"),
            Self::NEG_INFINITY => f.write_str("-infinity"),
            Self(days) => {
                let date = CivilDate::from_days(i64::from(days));
                write!(f, "{date}{}", date.suffix())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: &[(i32, &str)] = &[
        (0, "2000-01-01"),
        (8825, "2024-02-29"),
        (-1, "1999-12-31"),
        (-730_119, "0001-01-01"),
        (-730_120, "0001-12-31 BC"),
        (-2_451_545, "4714-11-24 BC"),
        (2_921_940, "10000-01-01"),
        (2_145_031_948, "5874897-12-31"),
        (i32::MAX, "infinity"),
        (i32::MIN, "-infinity"),
    ];

    #[test]
    fn s2_4_date_text_both_ways() {
        for &(days, text) in SAMPLES {
            assert_eq!(Date(days).to_string(), text);
            assert_eq!(text.parse::<Date>().unwrap(), Date(days), "{text}");
        }
    }

    #[test]
    fn s2_4_date_binary_both_ways() {
        let types = TypeMap::builtin();
        for &(days, _) in SAMPLES {
            let mut bytes = Vec::new();
            let written = Date(days).encode(types, &mut Out::new(&mut bytes)).unwrap();
            assert_eq!((written, &bytes[..]), (Encoded::Binary, &days.to_be_bytes()[..]));
            let cell = Cell::new(Oid::DATE, Format::Binary, &bytes);
            assert_eq!(Date::from_sql(cell).unwrap(), Date(days));
        }
        assert_eq!(Date::static_type(types), Oid::DATE);
        assert_eq!(Date(0).declare(types), Oid::DATE);
    }

    #[test]
    fn h9_other_date_styles_are_refused_by_name() {
        // The 4th of May in SQL, German and Postgres style, each in both orders where it has two.
        for text in ["05/04/2024", "04/05/2024", "04.05.2024", "05-04-2024", "04-05-2024"] {
            let error = text.parse::<Date>().unwrap_err().to_string();
            assert!(error.contains("DateStyle"), "{text}: {error}");
        }
    }

    #[test]
    fn s8_1_what_is_no_date_is_an_error() {
        for text in [
            "",
            "2024",
            "2024-02",
            "2024-2-9",
            "2024-02-30",
            "2023-02-29",
            "0000-01-01",
            "x",
            "24-02-09",
            "2024-02-09 ",
            " 2024-02-09",
            "2024-02-09 AD",
            "2024-02-09 BC BC",
            "99999999-01-01",
            "9999999-01-01",
            "5874898-01-01",
            "4714-11-23 BC",
            "2024-02-09x",
            "٢٠٢٤-02-09",
            "Infinity",
        ] {
            assert!(text.parse::<Date>().is_err(), "{text:?}");
        }
        for bytes in [&[][..], &[0; 3], &[0; 5], &[0; 8]] {
            let cell = Cell::new(Oid::DATE, Format::Binary, bytes);
            assert!(Date::from_sql(cell).is_err(), "{bytes:?}");
        }
        let timestamp = Cell::new(Oid::TIMESTAMP, Format::Binary, &[0; 4]);
        assert!(Date::from_sql(timestamp).is_err());
    }
}
