//! What numerics look like: the text that `numeric_in` reads, and the one that `numeric_out`
//! writes.

/// The most digits before the point: the weight of the first base-10000 digit is a 16-bit integer
/// on the wire.
pub(super) const MAX_WHOLE_DIGITS: usize = 131_072;

/// The most digits after the point: the scale has 14 bits in the server's storage.
pub(super) const MAX_SCALE: usize = 16_383;

const NO_NUMBER: &str = "the text is not a number";
const TOO_MANY_DIGITS: &str =
    "a numeric has at most 131072 digits before and 16383 after its point";

/// A text that was read as a numeric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed<'a> {
    NaN,
    Infinity { negative: bool },
    Finite(Decimal<'a>),
}

/// A finite number in its text: `whole.fraction * 10^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal<'a> {
    /// Below zero; zero itself has no sign.
    pub(super) negative: bool,
    /// The digits before the point, without the zeros at the front: none for a number below one.
    pub(super) whole: &'a str,
    /// The digits behind the point, with the zeros at the end.
    pub(super) fraction: &'a str,
    /// How many digits further to the right the point really stands.
    pub(super) exponent: isize,
    /// How many digits stand behind the point once the exponent is worked in.
    pub(super) scale: usize,
}

/// Reads what `numeric_in` reads: a sign, digits with a point, an exponent; `NaN`, `Infinity` or
/// `inf` in any case.
pub(super) fn parse(text: &str) -> Result<Parsed<'_>, &'static str> {
    let text = text.trim_ascii();
    if text.eq_ignore_ascii_case("nan") {
        return Ok(Parsed::NaN);
    }
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.eq_ignore_ascii_case("infinity") || unsigned.eq_ignore_ascii_case("inf") {
        return Ok(Parsed::Infinity { negative });
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !is_digits(whole) || !is_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(NO_NUMBER);
    }
    let scale = fraction.len().saturating_add_signed(-exponent);
    let whole = whole.trim_start_matches('0');
    let leading_zeros = match whole {
        "" => fraction.bytes().position(|byte| byte != b'0'),
        _ => Some(0),
    };
    let whole_digits = leading_zeros
        .map_or(0, |zeros| whole.len().saturating_add_signed(exponent).saturating_sub(zeros));
    if whole_digits > MAX_WHOLE_DIGITS || scale > MAX_SCALE {
        return Err(TOO_MANY_DIGITS);
    }
    let negative = negative && leading_zeros.is_some();
    Ok(Parsed::Finite(Decimal { negative, whole, fraction, exponent, scale }))
}

/// Reads what follows the `e`. Every exponent beyond the limit is out of range, but for zero, where
/// the server has a limit of about this size, too.
fn parse_exponent(text: &str) -> Result<isize, &'static str> {
    const LIMIT: usize = 1 << 30;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !is_digits(digits) {
        return Err(NO_NUMBER);
    }
    match text.parse::<isize>() {
        Ok(exponent) if exponent.unsigned_abs() < LIMIT => Ok(exponent),
        _ => Err(TOO_MANY_DIGITS),
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Decimal<'_> {
    /// The number without exponent, as the server prints it. What [`parse`] lets through bounds its
    /// length.
    pub(super) fn canonical(&self) -> String {
        let Self { negative, whole, fraction, exponent, scale } = *self;
        let is_zero = whole.is_empty() && fraction.bytes().all(|byte| byte == b'0');
        let shift = exponent.unsigned_abs();
        // All digits, with as many zeros more on one side that the point comes to stand `scale`
        // from the end.
        let digits = if is_zero {
            "0".repeat(scale)
        } else if exponent > 0 {
            [whole, fraction, &"0".repeat(shift.saturating_sub(fraction.len()))].concat()
        } else {
            [&"0".repeat(shift.saturating_sub(whole.len())), whole, fraction].concat()
        };
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
        compose(negative, whole, fraction)
    }
}

/// The number with these digits before and behind its point, as the server prints it: without zeros
/// at the front, and zero without a sign.
pub(super) fn compose(negative: bool, whole: &str, fraction: &str) -> String {
    let is_zero = [whole, fraction].iter().all(|digits| digits.bytes().all(|digit| digit == b'0'));
    let sign = if negative && !is_zero { "-" } else { "" };
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let point = if fraction.is_empty() { "" } else { "." };
    [sign, whole, point, fraction].concat()
}

/// The number as the server prints it.
pub(super) fn canonical(text: &str) -> Result<String, &'static str> {
    Ok(match parse(text)? {
        Parsed::NaN => "NaN".to_owned(),
        Parsed::Infinity { negative: false } => "Infinity".to_owned(),
        Parsed::Infinity { negative: true } => "-Infinity".to_owned(),
        Parsed::Finite(decimal) => decimal.canonical(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_7_numeric_text_becomes_what_the_server_prints() {
        for (text, printed) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("+1", "1"),
            (" \t12.50\n", "12.50"),
            ("007", "7"),
            ("00.700", "0.700"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-.05", "-0.05"),
            ("1e3", "1000"),
            ("1E+3", "1000"),
            ("1.50e1", "15.0"),
            ("1.50e2", "150"),
            ("1.50e3", "1500"),
            ("1e-3", "0.001"),
            ("12e-1", "1.2"),
            ("12e-2", "0.12"),
            ("12.3e-3", "0.0123"),
            ("0.05e1", "0.5"),
            ("0.05e2", "5"),
            ("0.05e3", "50"),
            ("0e5", "0"),
            ("0e-5", "0.00000"),
            ("0.00e1", "0.0"),
            ("-0e200000", "0"),
            ("0.00001", "0.00001"),
            ("nan", "NaN"),
            ("NaN", "NaN"),
            ("inf", "Infinity"),
            ("+Infinity", "Infinity"),
            ("-INF", "-Infinity"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(printed), "{text}");
            assert_eq!(canonical(printed).as_deref(), Ok(printed), "{printed}");
        }
    }

    #[test]
    fn h4_numeric_text_up_to_the_limits() {
        let longest = format!("{}.{}", "9".repeat(MAX_WHOLE_DIGITS), "9".repeat(MAX_SCALE));
        assert_eq!(canonical(&longest).unwrap(), longest);
        let zeros_in_front = format!("{}{longest}", "0".repeat(200_000));
        assert_eq!(canonical(&zeros_in_front).unwrap(), longest);
        let largest = canonical("1e131071").unwrap();
        assert_eq!(largest, format!("1{}", "0".repeat(131_071)));
        let smallest = canonical("1e-16383").unwrap();
        assert_eq!(smallest, format!("0.{}1", "0".repeat(16_382)));
        let shifted = format!("0.{}1e200000", "0".repeat(100_000));
        assert_eq!(canonical(&shifted).unwrap(), format!("1{}", "0".repeat(99_999)));
        for text in [
            &"9".repeat(MAX_WHOLE_DIGITS + 1),
            &format!("0.{}", "0".repeat(MAX_SCALE + 1)),
            "1e131072",
            "0.1e131073",
            "1e-16384",
            "0e-16384",
            "1e999999999",
            "1e-999999999",
            "1e99999999999999999999",
            "0e99999999999999999999",
        ] {
            assert_eq!(canonical(text), Err(TOO_MANY_DIGITS));
        }
    }

    #[test]
    fn s8_1_what_is_no_number_is_an_error() {
        for text in [
            "", " ", "+", "-", ".", "-.", "e5", ".e5", "1e", "1e+", "1e5.5", "1.2.3", "1 2", "--1",
            "+-1", "1e--1", "1e 5", "0x10", "1_000", "1,5", "٣", "-nan", "infin", "1a", "1\0",
        ] {
            assert_eq!(canonical(text), Err(NO_NUMBER), "{text:?}");
        }
    }
}
