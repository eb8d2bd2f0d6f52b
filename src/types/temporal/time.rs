//! `time`: the time of day without a zone.

use std::fmt;
use std::str::FromStr;

use super::scan::Scan;
use super::{MICROS_PER_DAY, number_codec};
use crate::error::{PgError, PgResult};
use crate::types::{Cell, Encoded, Format, FromSql, Oid, Out, StaticType, ToSql, TypeMap};

/// A `time`: microseconds since midnight, 0 to 86,400,000,000. The last one is `24:00:00`, which
/// the server keeps apart from `00:00:00`.
///
/// ```
/// use chopin_pg::types::Time;
///
/// let time: Time = "12:30:00.5".parse()?;
/// assert_eq!(time, Time(45_000_500_000));
/// assert_eq!(time.to_string(), "12:30:00.5");
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    fn check(micros: i64) -> Result<Self, &'static str> {
        match micros {
            0..=MICROS_PER_DAY => Ok(Self(micros)),
            _ => Err("the time is not between 00:00:00 and 24:00:00"),
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut scan = Scan::new(text);
        match scan_time(&mut scan) {
            Some(micros) if scan.is_empty() => Self::check(micros),
            _ => Err("the text is not a time of day (HH:MM:SS)"),
        }
    }
}

number_codec!(Time(i64), TIME, put_i64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_clock(f, self.0)
    }
}

/// Takes the time of day in microseconds; up to `99:59:59.999999`, which is for the caller to
/// check.
pub(super) fn scan_time(scan: &mut Scan<'_>) -> Option<i64> {
    i64::try_from(scan.clock(2, 2)?).ok()
}

/// Writes `[-]HH:MM:SS[.ffffff]`, without the zeros at the end of the fraction.
pub(super) fn write_clock(f: &mut fmt::Formatter<'_>, micros: i64) -> fmt::Result {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let seconds = micros / 1_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    write!(f, "{sign}{hours:02}:{minutes:02}:{:02}", seconds % 60)?;
    let mut fraction = micros % 1_000_000;
    if fraction == 0 {
        return Ok(());
    }
    let mut width = 6;
    while fraction % 10 == 0 {
        fraction /= 10;
        width -= 1;
    }
    write!(f, ".{fraction:0width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: &[(i64, &str)] = &[
        (0, "00:00:00"),
        (1, "00:00:00.000001"),
        (100_000, "00:00:00.1"),
        (45_000_500_000, "12:30:00.5"),
        (86_399_999_999, "23:59:59.999999"),
        (86_400_000_000, "24:00:00"),
    ];

    #[test]
    fn s2_4_time_text_both_ways() {
        for &(micros, text) in SAMPLES {
            assert_eq!(Time(micros).to_string(), text);
            assert_eq!(text.parse::<Time>().unwrap(), Time(micros), "{text}");
        }
    }

    #[test]
    fn s2_4_time_binary_both_ways() {
        let types = TypeMap::builtin();
        for &(micros, _) in SAMPLES {
            let mut bytes = Vec::new();
            let written = Time(micros).encode(types, &mut Out::new(&mut bytes)).unwrap();
            assert_eq!((written, &bytes[..]), (Encoded::Binary, &micros.to_be_bytes()[..]));
            let cell = Cell::new(Oid::TIME, Format::Binary, &bytes);
            assert_eq!(Time::from_sql(cell).unwrap(), Time(micros));
        }
        assert_eq!(Time::static_type(types), Oid::TIME);
        assert_eq!(Time(0).declare(types), Oid::TIME);
    }

    #[test]
    fn s8_1_what_is_no_time_is_an_error() {
        for text in [
            "",
            "1:00:00",
            "01:00",
            "01:00:00.",
            "01:00:00.1234567",
            "24:00:00.000001",
            "25:00:00",
            "00:60:00",
            "00:00:60",
            "-01:00:00",
            "01:00:00+01",
            "01:00:00 PM",
            "٠١:00:00",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text:?}");
        }
        for micros in [-1, 86_400_000_001, i64::MIN, i64::MAX] {
            let bytes = i64::to_be_bytes(micros);
            let cell = Cell::new(Oid::TIME, Format::Binary, &bytes);
            assert!(Time::from_sql(cell).is_err(), "{micros}");
        }
        assert!(Time::from_sql(Cell::new(Oid::TIME, Format::Binary, &[0; 4])).is_err());
        assert!(Time::from_sql(Cell::new(Oid::TIMETZ, Format::Binary, &[0; 8])).is_err());
    }

    #[test]
    fn s8_1_display_of_a_number_that_is_no_time_does_not_panic() {
        assert_eq!(Time(-1).to_string(), "-00:00:00.000001");
        assert_eq!(Time(i64::MIN).to_string(), "-2562047788:00:54.775808");
    }
}
