//! Days and the proleptic Gregorian calendar.
//!
//! Years are counted astronomically here: year 0 is 1 BC, year -1 is 2 BC. Only text knows of BC.

use std::fmt;

use super::scan::Scan;

/// Days in the 400 years after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;

/// Days from 0000-03-01, where an era of 400 years that start in March begins, to 2000-01-01.
const ERA_TO_EPOCH: i64 = 730_425;

/// A day of the calendar. Displays as `YYYY-MM-DD`, without its BC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CivilDate {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
}

impl CivilDate {
    /// The day that is `days` after 2000-01-01.
    pub(super) const fn from_days(days: i64) -> Self {
        let days = days + ERA_TO_EPOCH;
        let era = days.div_euclid(DAYS_PER_ERA);
        let day_of_era = days.rem_euclid(DAYS_PER_ERA);
        let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let day_of_year = day_of_era - days_before_year(year_of_era);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let (month, next_year) = match month_from_march {
            0..10 => (month_from_march + 3, 0),
            _ => (month_from_march - 9, 1),
        };
        Self {
            year: era * 400 + year_of_era + next_year,
            month,
            day: day_of_year - days_before_month(month_from_march) + 1,
        }
    }

    /// Days since 2000-01-01, `None` for a day that the calendar does not have.
    pub(super) fn days(self) -> Option<i64> {
        let Self { year, month, day } = self;
        let march_year = if month < 3 { year - 1 } else { year };
        let month_from_march = (month + 9) % 12;
        let days = march_year.div_euclid(400) * DAYS_PER_ERA
            + days_before_year(march_year.rem_euclid(400))
            + days_before_month(month_from_march)
            + day
            - 1
            - ERA_TO_EPOCH;
        (Self::from_days(days) == self).then_some(days)
    }

    /// Takes `YYYY-MM-DD`, four to seven digits in the year. Whether it is BC stands at the end of
    /// the text: see [`era`](Self::era).
    pub(super) fn scan(scan: &mut Scan<'_>) -> Option<Self> {
        let year = scan.digits(4, 7)?;
        let month = scan.eat("-").then(|| scan.digits(2, 2))??;
        let day = scan.eat("-").then(|| scan.digits(2, 2))??;
        Some(Self { year, month, day })
    }

    /// Takes the end of the text, with or without ` BC`, and says which year is meant.
    pub(super) fn era(self, scan: &mut Scan<'_>) -> Option<Self> {
        let before_christ = scan.eat(" BC");
        if !scan.is_empty() || self.year == 0 {
            return None;
        }
        let year = if before_christ { 1 - self.year } else { self.year };
        Some(Self { year, ..self })
    }

    /// What stands at the end of the text: ` BC` or nothing.
    pub(super) const fn suffix(self) -> &'static str {
        if self.year > 0 { "" } else { " BC" }
    }
}

impl fmt::Display for CivilDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let year = if self.year > 0 { self.year } else { 1 - self.year };
        write!(f, "{year:04}-{:02}-{:02}", self.month, self.day)
    }
}

/// Days from the start of an era to the start of its year `year_of_era`, 0 to 399, years starting
/// in March.
const fn days_before_year(year_of_era: i64) -> i64 {
    year_of_era * 365 + year_of_era / 4 - year_of_era / 100
}

/// Days from the 1st of March to the 1st of the month that is `month_from_march` later: 0, 31, 61,
/// 92 ...
const fn days_before_month(month_from_march: i64) -> i64 {
    (153 * month_from_march + 2) / 5
}

#[cfg(test)]
mod tests {
    use super::CivilDate;

    fn civil(year: i64, month: i64, day: i64) -> CivilDate {
        CivilDate { year, month, day }
    }

    #[test]
    fn s8_1_known_days() {
        for (days, date) in [
            (0, civil(2000, 1, 1)),
            (59, civil(2000, 2, 29)),
            (60, civil(2000, 3, 1)),
            (-1, civil(1999, 12, 31)),
            (-10_957, civil(1970, 1, 1)),
            (-730_119, civil(1, 1, 1)),
            (-730_120, civil(0, 12, 31)),
            (-730_426, civil(0, 2, 29)),
            (-2_451_545, civil(-4713, 11, 24)),
            (2_145_031_948, civil(5_874_897, 12, 31)),
        ] {
            assert_eq!(CivilDate::from_days(days), date);
            assert_eq!(date.days(), Some(days));
        }
    }

    #[test]
    fn s8_1_every_day_of_a_thousand_years_follows_the_one_before() {
        let mut before = CivilDate::from_days(-200_001);
        for days in -200_000..200_000 {
            let date = CivilDate::from_days(days);
            assert_eq!(date.days(), Some(days));
            let next = date == civil(before.year, before.month, before.day + 1)
                || date == civil(before.year, before.month + 1, 1) && before.day >= 28
                || date == civil(before.year + 1, 1, 1) && before == civil(before.year, 12, 31);
            assert!(next, "{before:?} is followed by {date:?}");
            before = date;
        }
    }

    #[test]
    fn s8_1_days_that_do_not_exist() {
        for date in [
            civil(2001, 2, 29),
            civil(1900, 2, 29),
            civil(2000, 2, 30),
            civil(2000, 4, 31),
            civil(2000, 1, 0),
            civil(2000, 0, 1),
            civil(2000, 13, 1),
            civil(2000, 1, 32),
        ] {
            assert_eq!(date.days(), None, "{date:?}");
        }
    }
}
