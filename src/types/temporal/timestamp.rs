//! `timestamp` and `timestamptz`, and `SystemTime` as the latter.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::calendar::CivilDate;
use super::scan::Scan;
use super::time::{scan_time, write_clock};
use super::{MICROS_PER_DAY, NOT_ISO, number_codec};
use crate::error::{PgError, PgResult};
use crate::types::traits::unsendable;
use crate::types::{Cell, Encoded, Format, FromSql, Oid, Out, StaticType, ToSql, TypeMap};

/// Microseconds from 1970-01-01 to 2000-01-01.
const UNIX_TO_EPOCH: i128 = 946_684_800_000_000;

/// The timestamps that the server has: 4714-11-24 BC to the end of the year 294276.
const RANGE: Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// Why a timestamp outside of [`RANGE`] is refused.
const OUT_OF_RANGE: &str = "the timestamp is not between 4714-11-24 BC and the end of 294276";

/// A `timestamp` (without time zone): microseconds since 2000-01-01 00:00:00, negative before it.
///
/// The server's timestamps go from 4714-11-24 BC to the end of the year 294276; `i64::MIN` and
/// `i64::MAX` are the infinities.
///
/// ```
/// use chopin_pg::types::Timestamp;
///
/// let timestamp: Timestamp = "2000-01-02 00:00:00.5".parse()?;
/// assert_eq!(timestamp, Timestamp(86_400_500_000));
/// assert_eq!(Timestamp(-1).to_string(), "1999-12-31 23:59:59.999999");
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A `timestamptz` (timestamp with time zone): microseconds since 2000-01-01 00:00:00 UTC, negative
/// before it.
///
/// It is a moment; the server keeps no zone with it. Text is read with whatever offset stands in it
/// and written in UTC. [`SystemTime`] converts to and from it and can be sent and read in its
/// place.
///
/// ```
/// use std::time::{Duration, SystemTime, UNIX_EPOCH};
/// use chopin_pg::types::Timestamptz;
///
/// let moment: Timestamptz = "2000-01-01 05:30:00+05:30".parse()?;
/// assert_eq!(moment, Timestamptz(0));
/// assert_eq!(moment.to_string(), "2000-01-01 00:00:00+00");
/// assert_eq!(SystemTime::try_from(moment)?, UNIX_EPOCH + Duration::from_secs(946_684_800));
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamptz(pub i64);

impl Timestamp {
    /// `infinity`: later than every timestamp.
    pub const INFINITY: Self = Self(i64::MAX);
    /// `-infinity`: earlier than every timestamp.
    pub const NEG_INFINITY: Self = Self(i64::MIN);

    /// Whether this is a point in time, not one of the infinities.
    pub const fn is_finite(self) -> bool {
        self.0 != i64::MAX && self.0 != i64::MIN
    }

    fn check(micros: i64) -> Result<Self, &'static str> {
        Ok(Self(micros))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        parse(text, |_| Some(0)).map(Self)
    }
}

impl Timestamptz {
    /// `infinity`: later than every moment.
    pub const INFINITY: Self = Self(i64::MAX);
    /// `-infinity`: earlier than every moment.
    pub const NEG_INFINITY: Self = Self(i64::MIN);

    /// Whether this is a moment, not one of the infinities.
    pub const fn is_finite(self) -> bool {
        self.0 != i64::MAX && self.0 != i64::MIN
    }

    fn check(micros: i64) -> Result<Self, &'static str> {
        Ok(Self(micros))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        parse(text, scan_offset).map(Self)
    }

    fn system_time(self) -> Result<SystemTime, &'static str> {
        if !self.is_finite() {
            return Err("infinity has no SystemTime; read it as a Timestamptz");
        }
        let micros = i128::from(self.0) + UNIX_TO_EPOCH;
        let distance = u64::try_from(micros.unsigned_abs()).ok().map(Duration::from_micros);
        match distance {
            Some(after) if micros >= 0 => UNIX_EPOCH.checked_add(after),
            Some(before) => UNIX_EPOCH.checked_sub(before),
            None => None,
        }
        .ok_or("SystemTime does not reach that far on this machine")
    }
}

number_codec!(Timestamp(i64), TIMESTAMP, put_i64);
number_codec!(Timestamptz(i64), TIMESTAMPTZ, put_i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_timestamp(f, self.0, "")
    }
}

impl fmt::Display for Timestamptz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_timestamp(f, self.0, "+00")
    }
}

impl TryFrom<SystemTime> for Timestamptz {
    type Error = PgError;

    /// The last whole microsecond that is not after `time`.
    fn try_from(time: SystemTime) -> PgResult<Self> {
        let nanos = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i128::try_from(after.as_nanos()),
            Err(before) => i128::try_from(before.duration().as_nanos()).map(|nanos| -nanos),
        };
        nanos
            .ok()
            .map(|nanos| nanos.div_euclid(1000) - UNIX_TO_EPOCH)
            .and_then(in_range)
            .map(Self)
            .ok_or_else(|| unsendable::<SystemTime>(Some("timestamptz"), OUT_OF_RANGE))
    }
}

impl TryFrom<Timestamptz> for SystemTime {
    type Error = PgError;

    fn try_from(moment: Timestamptz) -> PgResult<Self> {
        moment.system_time().map_err(|why| {
            Cell::new(Oid::TIMESTAMPTZ, Format::Binary, &moment.0.to_be_bytes())
                .invalid::<Self>(why)
        })
    }
}

/// Sent as a timestamptz: the nanoseconds below the last whole microsecond are cut off, toward the
/// past.
impl ToSql for SystemTime {
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::TIMESTAMPTZ
    }
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        Timestamptz::try_from(*self)?.encode(types, out)
    }
}

impl StaticType for SystemTime {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::TIMESTAMPTZ
    }
}

/// Read from a timestamptz, exactly; the infinities are an error.
impl FromSql<'_> for SystemTime {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        if cell.oid() != Oid::TIMESTAMPTZ {
            return Err(cell.mismatch::<Self>());
        }
        let moment = Timestamptz::from_sql(cell)?;
        moment.system_time().map_err(|why| cell.invalid::<Self>(why))
    }
}

fn in_range(micros: i128) -> Option<i64> {
    i64::try_from(micros).ok().filter(|micros| RANGE.contains(micros))
}

/// Reads `YYYY-MM-DD HH:MM:SS[.ffffff][offset][ BC]`; `offset` takes the seconds that the clock is
/// ahead of UTC.
fn parse(
    text: &str,
    offset: impl FnOnce(&mut Scan<'_>) -> Option<i64>,
) -> Result<i64, &'static str> {
    match text {
        "infinity" => return Ok(i64::MAX),
        "-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let mut scan = Scan::new(text);
    let read = || {
        let date = CivilDate::scan(&mut scan)?;
        let time = scan.eat(" ").then(|| scan_time(&mut scan))??;
        let offset = offset(&mut scan)?;
        Some((date.era(&mut scan)?, time, offset))
    };
    let (date, time, offset) = read().ok_or(NOT_ISO)?;
    let days = date.days().ok_or("the calendar has no such day")?;
    if time > MICROS_PER_DAY {
        return Err("the time of day is after 24:00:00");
    }
    let midnight = i128::from(days) * i128::from(MICROS_PER_DAY);
    in_range(midnight + i128::from(time - offset * 1_000_000)).ok_or(OUT_OF_RANGE)
}

/// Takes `+HH`, `+HH:MM` or `+HH:MM:SS`, in seconds. POSIX zones may be more than 99 hours away.
fn scan_offset(scan: &mut Scan<'_>) -> Option<i64> {
    let sign = scan.sign()?;
    let mut seconds = scan.digits(2, 3)? * 3600;
    for unit in [60, 1] {
        let mut ahead = *scan;
        if let Some(sixtieths) = ahead.colon_sixtieths() {
            seconds += sixtieths * unit;
            *scan = ahead;
        }
    }
    Some(sign * seconds)
}

fn write_timestamp(f: &mut fmt::Formatter<'_>, micros: i64, offset: &str) -> fmt::Result {
    match micros {
        i64::MAX => f.write_str("infinity"),
        i64::MIN => f.write_str("-infinity"),
        _ => {
            let date = CivilDate::from_days(micros.div_euclid(MICROS_PER_DAY));
            write!(f, "{date} ")?;
            write_clock(f, micros.rem_euclid(MICROS_PER_DAY))?;
            write!(f, "{offset}{}", date.suffix())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: &[(i64, &str)] = &[
        (0, "2000-01-01 00:00:00"),
        (1, "2000-01-01 00:00:00.000001"),
        (-1, "1999-12-31 23:59:59.999999"),
        (762_611_696_789_000, "2024-03-01 12:34:56.789"),
        (-63_082_281_600_000_000, "0001-01-01 00:00:00"),
        (-63_082_281_600_000_001, "0001-12-31 23:59:59.999999 BC"),
        (-211_813_488_000_000_000, "4714-11-24 00:00:00 BC"),
        (252_455_616_000_000_000, "10000-01-01 00:00:00"),
        (9_223_371_331_199_999_999, "294276-12-31 23:59:59.999999"),
        (i64::MAX, "infinity"),
        (i64::MIN, "-infinity"),
    ];

    /// The sample as a timestamptz in UTC: the offset stands before the BC.
    fn in_utc(text: &str) -> String {
        match text.strip_suffix(" BC") {
            Some(text) => format!("{text}+00 BC"),
            None if text.ends_with("infinity") => text.to_owned(),
            None => format!("{text}+00"),
        }
    }

    #[test]
    fn s2_4_timestamp_text_both_ways() {
        for &(micros, text) in SAMPLES {
            assert_eq!(Timestamp(micros).to_string(), text);
            assert_eq!(text.parse::<Timestamp>().unwrap(), Timestamp(micros), "{text}");
            let text = in_utc(text);
            assert_eq!(Timestamptz(micros).to_string(), text);
            assert_eq!(text.parse::<Timestamptz>().unwrap(), Timestamptz(micros), "{text}");
        }
    }

    #[test]
    fn s2_4_timestamp_binary_both_ways() {
        let types = TypeMap::builtin();
        for &(micros, _) in SAMPLES {
            let mut bytes = Vec::new();
            let written = Timestamp(micros).encode(types, &mut Out::new(&mut bytes)).unwrap();
            assert_eq!((written, &bytes[..]), (Encoded::Binary, &micros.to_be_bytes()[..]));
            let cell = Cell::new(Oid::TIMESTAMP, Format::Binary, &bytes);
            assert_eq!(Timestamp::from_sql(cell).unwrap(), Timestamp(micros));
            assert!(Timestamptz::from_sql(cell).is_err());

            bytes.clear();
            let written = Timestamptz(micros).encode(types, &mut Out::new(&mut bytes)).unwrap();
            assert_eq!((written, &bytes[..]), (Encoded::Binary, &micros.to_be_bytes()[..]));
            let cell = Cell::new(Oid::TIMESTAMPTZ, Format::Binary, &bytes);
            assert_eq!(Timestamptz::from_sql(cell).unwrap(), Timestamptz(micros));
            assert!(Timestamp::from_sql(cell).is_err());
        }
        assert_eq!(Timestamp::static_type(types), Oid::TIMESTAMP);
        assert_eq!(Timestamp(0).declare(types), Oid::TIMESTAMP);
        assert_eq!(Timestamptz::static_type(types), Oid::TIMESTAMPTZ);
        assert_eq!(Timestamptz(0).declare(types), Oid::TIMESTAMPTZ);
    }

    #[test]
    fn h9_every_offset_means_the_same_moment() {
        for text in [
            "2000-01-01 00:00:00+00",
            "2000-01-01 05:30:00+05:30",
            "1999-12-31 21:00:00-03",
            "2000-01-01 01:24:36+01:24:36",
            "1999-12-31 19:03:58-04:56:02",
            "2000-01-07 23:00:00+167",
        ] {
            assert_eq!(text.parse::<Timestamptz>().unwrap(), Timestamptz(0), "{text}");
        }
        let before_christ: Timestamptz = "0001-12-31 23:00:00-01:00 BC".parse().unwrap();
        assert_eq!(before_christ.to_string(), "0001-01-01 00:00:00+00");
        // The latest moment, on a clock that shows the next year already.
        let latest: Timestamptz = "294277-01-01 13:59:59.999999+14".parse().unwrap();
        assert_eq!(latest, Timestamptz(9_223_371_331_199_999_999));
    }

    #[test]
    fn h9_other_date_styles_are_refused_by_name() {
        for text in [
            "05/04/2024 12:34:56.789",
            "04.05.2024 12:34:56.789",
            "Sat May 04 12:34:56.789 2024",
            "Sat 04 May 12:34:56.789 2024",
        ] {
            let error = text.parse::<Timestamp>().unwrap_err().to_string();
            assert!(error.contains("DateStyle"), "{text}: {error}");
            let error = format!("{text} IST").parse::<Timestamptz>().unwrap_err().to_string();
            assert!(error.contains("DateStyle"), "{text} IST: {error}");
        }
        assert!("2024-05-04 12:34:56".parse::<Timestamptz>().is_err(), "no offset");
        assert!("2024-05-04 12:34:56+02".parse::<Timestamp>().is_err(), "an offset");
    }

    #[test]
    fn s8_1_what_is_no_timestamp_is_an_error() {
        for text in [
            "",
            "2024-05-04",
            "2024-05-04 ",
            "2024-02-30 00:00:00",
            "2024-05-04 25:00:00",
            "2024-05-04 24:00:01",
            "294277-01-01 00:00:00",
            "4714-11-23 00:00:00 BC",
            "0000-01-01 00:00:00",
            "9999999-12-31 00:00:00",
            "2024-05-04 00:00:00 AD",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
        for offset in ["+", "+1", "+1234", "+01:", "+01:60", "+01:00:60", "+01:00:00:00", "Z"] {
            let text = format!("2024-05-04 00:00:00{offset}");
            assert!(text.parse::<Timestamptz>().is_err(), "{text}");
        }
        for bytes in [&[][..], &[0; 4], &[0; 7], &[0; 9]] {
            let cell = Cell::new(Oid::TIMESTAMPTZ, Format::Binary, bytes);
            assert!(Timestamptz::from_sql(cell).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn s2_4_system_time_is_read_exactly_and_sent_down_to_the_microsecond() {
        let epoch = UNIX_EPOCH + Duration::from_secs(946_684_800);
        for (micros, time) in [
            (0, epoch),
            (1, epoch + Duration::from_micros(1)),
            (-946_684_800_000_001, UNIX_EPOCH - Duration::from_micros(1)),
            (RANGE.start, epoch - Duration::from_micros(211_813_488_000_000_000)),
            (RANGE.end - 1, epoch + Duration::from_micros(9_223_371_331_199_999_999)),
        ] {
            assert_eq!(SystemTime::try_from(Timestamptz(micros)).unwrap(), time);
            assert_eq!(Timestamptz::try_from(time).unwrap(), Timestamptz(micros));
        }
        // Cut off toward the past on both sides of 1970.
        for (nanos, micros) in [(999, 0), (1000, 1), (1999, 1)] {
            let after = Timestamptz::try_from(UNIX_EPOCH + Duration::from_nanos(nanos)).unwrap();
            assert_eq!(after.0, micros - 946_684_800_000_000);
        }
        for (nanos, micros) in [(1, -1), (1000, -1), (1001, -2)] {
            let before = Timestamptz::try_from(UNIX_EPOCH - Duration::from_nanos(nanos)).unwrap();
            assert_eq!(before.0, micros - 946_684_800_000_000);
        }
    }

    #[test]
    fn s2_4_system_time_out_of_range_is_an_error() {
        let epoch = UNIX_EPOCH + Duration::from_secs(946_684_800);
        let late = epoch + Duration::from_micros(9_223_371_331_200_000_000);
        let early = epoch - Duration::from_micros(211_813_488_000_000_001);
        for time in [late, early] {
            let mut bytes = Vec::new();
            let error = time.encode(TypeMap::builtin(), &mut Out::new(&mut bytes)).unwrap_err();
            assert!(error.to_string().contains("294276"), "{error}");
            assert!(bytes.is_empty());
        }
        for infinite in [i64::MAX, i64::MIN] {
            let bytes = infinite.to_be_bytes();
            let cell = Cell::new(Oid::TIMESTAMPTZ, Format::Binary, &bytes);
            let error = SystemTime::from_sql(cell).unwrap_err().to_string();
            assert!(error.contains("infinity"), "{error}");
            assert!(SystemTime::try_from(Timestamptz(infinite)).is_err());
        }
        let cell = Cell::new(Oid::TIMESTAMP, Format::Binary, &[0; 8]);
        assert!(SystemTime::from_sql(cell).is_err());
    }
}
