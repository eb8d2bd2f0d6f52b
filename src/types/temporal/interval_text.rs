//! Intervals as the server writes them, in each of the four IntervalStyles.
//!
//! | IntervalStyle | 1 year 2 months, -3 days, 4:05:06.5 | signs |
//! |---|---|---|
//! | `postgres` | `1 year 2 mons -3 days +04:05:06.5` | each field its own |
//! | `postgres_verbose` | `@ 1 year 2 mons -3 days 4 hours 5 mins 6.5 secs` | each its own; `ago` turns all |
//! | `sql_standard` | `+1-2 -3 +4:05:06.5` | one before everything, or each its own where they differ |
//! | `iso_8601` | `P1Y2M-3DT4H5M6.5S` | each its own |
//!
//! The four cannot be taken for one another: `P` begins iso_8601 only, a unit is written out in the
//! two of postgres only, and what has neither means the same in `postgres` and `sql_standard`.

use super::Interval;
use super::scan::Scan;

const UNREADABLE: &str = "the text is not an interval";
const OUT_OF_RANGE: &str = "the interval is out of range";

/// The most digits that a field of an interval has: hours, up to 2562047788.
const FIELD_DIGITS: usize = 10;

/// Microseconds in a second, a minute and an hour.
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Reads an interval in whatever IntervalStyle it is written.
pub(super) fn parse(text: &str) -> Result<Interval, &'static str> {
    match text {
        "infinity" => return Ok(Interval::INFINITY),
        "-infinity" => return Ok(Interval::NEG_INFINITY),
        _ => {}
    }
    let sum = if let Some(fields) = text.strip_prefix('P') {
        iso_8601(fields)
    } else if let Some(fields) = text.strip_prefix("@ ") {
        postgres_verbose(fields)
    } else if text.bytes().any(|byte| byte.is_ascii_alphabetic()) {
        postgres(text)
    } else {
        sql_standard(text)
    };
    sum.ok_or(UNREADABLE)?.interval().ok_or(OUT_OF_RANGE)
}

/// The fields that were read so far, wide enough for any that are written: the extremes are reached
/// from both sides.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    months: i64,
    days: i64,
    microseconds: i128,
}

impl Sum {
    fn interval(self) -> Option<Interval> {
        Some(Interval {
            months: i32::try_from(self.months).ok()?,
            days: i32::try_from(self.days).ok()?,
            microseconds: i64::try_from(self.microseconds).ok()?,
        })
    }

    fn negated(self) -> Self {
        Self { months: -self.months, days: -self.days, microseconds: -self.microseconds }
    }

    /// Adds a number of `unit`s. Only seconds have fractions.
    fn add(&mut self, number: Number, unit: Unit) -> Option<()> {
        match unit {
            Unit::Months(months) => self.months += number.integer()? * months,
            Unit::Days => self.days += number.integer()?,
            Unit::Micros(SECOND) => self.microseconds += i128::from(number.millionths),
            Unit::Micros(micros) => {
                self.microseconds += i128::from(number.integer()?) * i128::from(micros);
            }
        }
        Some(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Months(i64),
    Days,
    Micros(i64),
}

/// A signed number with up to six digits behind its point.
#[derive(Clone, Copy, Debug)]
struct Number {
    millionths: i64,
}

impl Number {
    fn scan(scan: &mut Scan<'_>) -> Option<Self> {
        let sign = scan.sign().unwrap_or(1);
        let whole = scan.digits(1, FIELD_DIGITS)?;
        let fraction = scan.fraction()?;
        Some(Self { millionths: sign * (whole * 1_000_000 + fraction) })
    }

    fn integer(self) -> Option<i64> {
        (self.millionths % 1_000_000 == 0).then_some(self.millionths / 1_000_000)
    }
}

/// `1 year 2 mons -3 days +04:05:06.5`.
fn postgres(text: &str) -> Option<Sum> {
    let mut sum = Sum::default();
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            sum.microseconds += signed_clock(word)?;
            return words.next().is_none().then_some(sum);
        }
        sum.add(number(word)?, unit(words.next()?)?)?;
    }
    Some(sum)
}

/// What follows the `@ `: `1 year 2 mons -3 days 4 hours 5 mins 6.5 secs ago`, or `0`.
fn postgres_verbose(text: &str) -> Option<Sum> {
    if text == "0" {
        return Some(Sum::default());
    }
    let (text, ago) = match text.strip_suffix(" ago") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut sum = Sum::default();
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        sum.add(number(word)?, unit(words.next()?)?)?;
    }
    Some(if ago { sum.negated() } else { sum })
}

/// `0`, `1-2`, `3 4:05:06`, `4:05:06`, where a sign at the front holds for all of it, or `+1-2 -3
/// +4:05:06`, where each part has its own. A time alone is also what `postgres` writes.
fn sql_standard(text: &str) -> Option<Sum> {
    let mut words = text.split(' ');
    let mut sum = Sum::default();
    match (words.next()?, words.next(), words.next(), words.next()) {
        ("0", None, None, None) => {}
        (time, None, None, None) if time.contains(':') => sum.microseconds = signed_clock(time)?,
        (years, None, None, None) => sum.months = signed_years(years)?,
        (days, Some(time), None, None) => {
            sum.days = number(days)?.integer()?;
            let time = clock(time)?;
            sum.microseconds = if days.starts_with('-') { -time } else { time };
        }
        (years, Some(days), Some(time), None) => {
            if [years, days, time].iter().any(|part| !part.starts_with(['+', '-'])) {
                return None;
            }
            sum.months = signed_years(years)?;
            sum.days = number(days)?.integer()?;
            sum.microseconds = signed_clock(time)?;
        }
        _ => return None,
    }
    Some(sum)
}

/// What follows the `P`: `1Y2M-3DT4H5M6.5S`.
fn iso_8601(text: &str) -> Option<Sum> {
    let mut scan = Scan::new(text);
    let mut sum = Sum::default();
    let mut time = false;
    while !scan.is_empty() {
        if !time && scan.eat("T") {
            time = true;
        }
        let number = Number::scan(&mut scan)?;
        let unit = [
            ("Y", false, Unit::Months(12)),
            ("M", false, Unit::Months(1)),
            ("D", false, Unit::Days),
            ("H", true, Unit::Micros(HOUR)),
            ("M", true, Unit::Micros(MINUTE)),
            ("S", true, Unit::Micros(SECOND)),
        ]
        .into_iter()
        .find_map(|(letter, of_time, unit)| {
            (of_time == time && scan.eat(letter)).then_some(unit)
        })?;
        sum.add(number, unit)?;
    }
    (!text.is_empty()).then_some(sum)
}

fn unit(word: &str) -> Option<Unit> {
    Some(match word.strip_suffix('s').unwrap_or(word) {
        "year" => Unit::Months(12),
        "mon" => Unit::Months(1),
        "day" => Unit::Days,
        "hour" => Unit::Micros(HOUR),
        "min" => Unit::Micros(MINUTE),
        "sec" => Unit::Micros(SECOND),
        _ => return None,
    })
}

fn number(word: &str) -> Option<Number> {
    let mut scan = Scan::new(word);
    let number = Number::scan(&mut scan)?;
    scan.is_empty().then_some(number)
}

/// `[+-]Y-M` in months.
fn signed_years(word: &str) -> Option<i64> {
    let mut scan = Scan::new(word);
    let sign = scan.sign().unwrap_or(1);
    let years = scan.digits(1, FIELD_DIGITS)?;
    let months = scan.eat("-").then(|| scan.digits(1, 2))??;
    (scan.is_empty() && months < 12).then_some(sign * (years * 12 + months))
}

/// `[+-]H:MM:SS[.ffffff]` in microseconds.
fn signed_clock(word: &str) -> Option<i128> {
    match word.strip_prefix('-') {
        Some(word) => clock(word).map(|micros| -micros),
        None => clock(word.strip_prefix('+').unwrap_or(word)),
    }
}

/// `H:MM:SS[.ffffff]` in microseconds.
fn clock(word: &str) -> Option<i128> {
    let mut scan = Scan::new(word);
    let micros = scan.clock(1, FIELD_DIGITS)?;
    scan.is_empty().then_some(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_reads(text: &str, months: i32, days: i32, microseconds: i64) {
        assert_eq!(parse(text), Ok(Interval { months, days, microseconds }), "{text}");
    }

    #[test]
    fn h9_intervals_of_style_postgres() {
        assert_reads("00:00:00", 0, 0, 0);
        assert_reads("1 year 2 mons -3 days +04:05:06.5", 14, -3, 14_706_500_000);
        assert_reads("-01:30:00", 0, 0, -5_400_000_000);
        assert_reads("-00:00:00.000001", 0, 0, -1);
        assert_reads("-1 days +02:03:00", 0, -1, 7_380_000_000);
        assert_reads("-1 years -1 mons", -13, 0, 0);
    }

    #[test]
    fn h9_intervals_of_style_postgres_verbose() {
        assert_reads("@ 0", 0, 0, 0);
        assert_reads("@ 1 year 2 mons -3 days 4 hours 5 mins 6.5 secs", 14, -3, 14_706_500_000);
        assert_reads("@ 1 hour 30 mins ago", 0, 0, -5_400_000_000);
        assert_reads("@ 1 day -2 hours -3 mins ago", 0, -1, 7_380_000_000);
        assert_reads("@ 0.000001 secs ago", 0, 0, -1);
        assert_reads("@ 1 sec", 0, 0, 1_000_000);
        assert_reads("@ 2147483648 days ago", 0, i32::MIN, 0);
    }

    #[test]
    fn h9_intervals_of_style_sql_standard() {
        assert_reads("0", 0, 0, 0);
        assert_reads("1-2", 14, 0, 0);
        assert_reads("-1-2", -14, 0, 0);
        assert_reads("3 4:05:06", 0, 3, 14_706_000_000);
        assert_reads("-3 4:05:06", 0, -3, -14_706_000_000);
        assert_reads("-1:30:00", 0, 0, -5_400_000_000);
        assert_reads("-0 0:00:01", 0, 0, -1_000_000);
        assert_reads("+0-0 -1 +2:03:00", 0, -1, 7_380_000_000);
        assert_reads("+1-2 -3 +4:05:06.5", 14, -3, 14_706_500_000);
        assert_reads("-1-2 +3 -4:05:06.5", -14, 3, -14_706_500_000);
    }

    #[test]
    fn h9_intervals_of_style_iso_8601() {
        assert_reads("PT0S", 0, 0, 0);
        assert_reads("P1Y2M-3DT4H5M6.5S", 14, -3, 14_706_500_000);
        assert_reads("PT-1H-30M", 0, 0, -5_400_000_000);
        assert_reads("P-1DT2H3M", 0, -1, 7_380_000_000);
        assert_reads("PT-0.000001S", 0, 0, -1);
        assert_reads("P-1Y-2M", -14, 0, 0);
        assert_reads("P1MT1M", 1, 0, 60_000_000);
    }

    #[test]
    fn h9_infinite_intervals() {
        assert_eq!(parse("infinity"), Ok(Interval::INFINITY));
        assert_eq!(parse("-infinity"), Ok(Interval::NEG_INFINITY));
    }

    #[test]
    fn s8_1_what_is_no_interval_is_an_error() {
        for text in [
            "",
            " ",
            "1",
            "-",
            "@",
            "@ ",
            "@ 1",
            "@ ago",
            "ago",
            "day",
            "1 fortnight",
            "1 day ",
            "1 day 1",
            "1  day",
            "1.5 days",
            "04:05",
            "4:5:6",
            "04:05:06 1 day",
            "1-12",
            "1-2 3",
            "1-2 3 4:05:06",
            "+1-2 -3 4:05:06",
            "+1-2 3 +4:05:06",
            "3 -4:05:06",
            "3 4:05:06 5",
            "P",
            "PT",
            "P1",
            "PT1",
            "P1H",
            "PT1Y",
            "P1DT",
            "P1.5D",
            "P1Y2M3DT4H5M6.1234567S",
            "PTT1S",
            "12345678901 days",
            "--1 days",
            "1 dayss",
            "Infinity",
            "+infinity",
        ] {
            assert_eq!(parse(text), Err(UNREADABLE), "{text:?}");
        }
        for text in [
            "2147483648 days",
            "-2147483649 days",
            "178956970 years 8 mons",
            "2562047788:00:54.775808",
            "PT9999999999H",
        ] {
            assert_eq!(parse(text), Err(OUT_OF_RANGE), "{text:?}");
        }
    }
}
