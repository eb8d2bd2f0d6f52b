//! A cursor over the text of a value, for the formats that are read digit by digit.

/// What is left of the text. Every method takes its piece off the front, or nothing when it is not
/// there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { rest: text.as_bytes() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `text` if the rest begins with it.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text.as_bytes()) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Takes the one byte that `accept` maps to something.
    fn byte<T>(&mut self, accept: impl FnOnce(u8) -> Option<T>) -> Option<T> {
        let (&first, rest) = self.rest.split_first()?;
        let value = accept(first)?;
        self.rest = rest;
        Some(value)
    }

    fn digit(&mut self) -> Option<i64> {
        self.byte(|byte| byte.is_ascii_digit().then(|| i64::from(byte - b'0')))
    }

    /// Takes a run of digits, `None` unless it has at least `min` and at most `max` of them. `max`
    /// stays below 19, so that the number fits.
    pub(super) fn digits(&mut self, min: usize, max: usize) -> Option<i64> {
        let mut value = 0;
        let mut count = 0;
        while let Some(digit) = self.digit() {
            if count == max {
                return None;
            }
            value = value * 10 + digit;
            count += 1;
        }
        (count >= min).then_some(value)
    }

    /// Takes `-` or `+`: -1 or 1, `None` where no sign stands.
    pub(super) fn sign(&mut self) -> Option<i64> {
        self.byte(|byte| match byte {
            b'-' => Some(-1),
            b'+' => Some(1),
            _ => None,
        })
    }

    /// Takes a fraction of a second in microseconds: 0 where no point stands, `None` for a point
    /// without digits or with more than six.
    pub(super) fn fraction(&mut self) -> Option<i64> {
        if !self.eat(".") {
            return Some(0);
        }
        let mut micros = self.digit()? * 100_000;
        let mut unit = 10_000;
        while let Some(digit) = self.digit() {
            if unit == 0 {
                return None;
            }
            micros += digit * unit;
            unit /= 10;
        }
        Some(micros)
    }

    /// Takes `HH:MM:SS[.ffffff]` in microseconds; the hour has `min` to `max` digits.
    pub(super) fn clock(&mut self, min: usize, max: usize) -> Option<i128> {
        let hours = self.digits(min, max)?;
        let minutes = self.colon_sixtieths()?;
        let seconds = self.colon_sixtieths()?;
        let micros = self.fraction()?;
        let seconds = i128::from(hours) * 3600 + i128::from(minutes * 60 + seconds);
        Some(seconds * 1_000_000 + i128::from(micros))
    }

    /// Takes `:MM` or `:SS`.
    pub(super) fn colon_sixtieths(&mut self) -> Option<i64> {
        if !self.eat(":") {
            return None;
        }
        self.digits(2, 2).filter(|&value| value < 60)
    }
}

#[cfg(test)]
mod tests {
    use super::Scan;

    #[test]
    fn s8_1_digits_keep_to_their_count() {
        assert_eq!(Scan::new("123").digits(2, 3), Some(123));
        assert_eq!(Scan::new("1234").digits(2, 3), None);
        assert_eq!(Scan::new("1").digits(2, 3), None);
        assert_eq!(Scan::new("").digits(0, 3), Some(0));
    }

    #[test]
    fn s8_1_fractions_are_microseconds() {
        assert_eq!(Scan::new("").fraction(), Some(0));
        assert_eq!(Scan::new(".5").fraction(), Some(500_000));
        assert_eq!(Scan::new(".000001").fraction(), Some(1));
        assert_eq!(Scan::new(".0000001").fraction(), None);
        assert_eq!(Scan::new(".").fraction(), None);
    }

    #[test]
    fn s8_1_a_clock_takes_sixty_of_nothing() {
        assert_eq!(Scan::new("01:02:03.5").clock(2, 2), Some(3_723_500_000));
        assert_eq!(Scan::new("01:60:00").clock(2, 2), None);
        assert_eq!(Scan::new("01:00:60").clock(2, 2), None);
        assert_eq!(Scan::new("1:00:00").clock(2, 2), None);
        assert_eq!(Scan::new("01:00").clock(2, 2), None);
    }
}
