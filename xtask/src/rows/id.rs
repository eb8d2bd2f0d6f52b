//! The numbers of rows: how they are written, and how the names of tests carry them.

use std::fmt;
use std::str::FromStr;

/// The number of a row of docs/FEATURES.md (S, B) or docs/HAZARDS.md (H).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowId {
    /// Standard equipment: a phase, a number in it, and a letter where rows were put in between.
    S(u16, u16, Option<char>),
    /// What goes beyond it.
    B(u16),
    /// A hazard.
    H(u16),
}

impl RowId {
    /// The rows that a test function proves: those that its name begins with.
    ///
    /// `s2_26_keeps_digits` proves S 2.26, `s8_3b_h2_retry` S 8.3b and H2, `sleeps_never` none.
    pub(crate) fn of_test(name: &str) -> Vec<Self> {
        let words: Vec<&str> = name.split('_').collect();
        let mut rows = Vec::new();
        let mut rest = words.as_slice();
        while let Some((row, after)) = Self::leading(rest) {
            rows.push(row);
            rest = after;
        }
        rows
    }

    fn leading<'a, 'w>(words: &'a [&'w str]) -> Option<(Self, &'a [&'w str])> {
        let (first, rest) = words.split_first()?;
        if let Some(phase) = first.strip_prefix('s').and_then(number) {
            let (second, rest) = rest.split_first()?;
            let (number, letter) = lettered(second)?;
            return Some((Self::S(phase, number, letter), rest));
        }
        let plain = |letter| first.strip_prefix(letter).and_then(number);
        let row = plain('b').map(Self::B).or_else(|| plain('h').map(Self::H))?;
        Some((row, rest))
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Through `pad`, so that a table can give a width.
        f.pad(&match self {
            Self::S(phase, number, None) => format!("S {phase}.{number}"),
            Self::S(phase, number, Some(letter)) => format!("S {phase}.{number}{letter}"),
            Self::B(number) => format!("B{number}"),
            Self::H(number) => format!("H{number}"),
        })
    }
}

/// A text that is no number of a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotARow(String);

impl fmt::Display for NotARow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is no row: rows are written 2.26, S 2.26, 8.3b, B6 or H14", self.0)
    }
}

impl std::error::Error for NotARow {}

impl FromStr for RowId {
    type Err = NotARow;

    /// Reads `S 2.26`, the same without the blank or without the S, `B6` and `H14`.
    fn from_str(text: &str) -> Result<Self, NotARow> {
        let text = text.trim();
        let row = match text.chars().next() {
            Some('B') => text.strip_prefix('B').and_then(number).map(Self::B),
            Some('H') => text.strip_prefix('H').and_then(number).map(Self::H),
            _ => {
                let bare = text.strip_prefix('S').map_or(text, str::trim_start);
                bare.split_once('.').and_then(|(phase, rest)| {
                    let (number, letter) = lettered(rest)?;
                    Some(Self::S(self::number(phase)?, number, letter))
                })
            }
        };
        row.ok_or_else(|| NotARow(text.to_owned()))
    }
}

/// A number as rows have it: digits only, no leading zero.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits && !text.starts_with('0') { text.parse().ok() } else { None }
}

/// A number that may have a small letter behind it.
fn lettered(text: &str) -> Option<(u16, Option<char>)> {
    match text.strip_suffix(|last: char| last.is_ascii_lowercase()) {
        Some(digits) => Some((number(digits)?, text.chars().last())),
        None => Some((number(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::RowId::{B, H, S};
    use super::*;

    #[test]
    fn test_names_prove_the_rows_they_begin_with() {
        assert_eq!(RowId::of_test("s2_26_numeric_keeps_digits"), [S(2, 26, None)]);
        assert_eq!(RowId::of_test("s8_3b_classes"), [S(8, 3, Some('b'))]);
        assert_eq!(RowId::of_test("h14"), [H(14)]);
        assert_eq!(RowId::of_test("h11_h12_counts_and_sets"), [H(11), H(12)]);
        let three = [S(9, 22, None), S(9, 24, None), S(10, 1, None)];
        assert_eq!(RowId::of_test("s9_22_s9_24_s10_1_broken"), three);
        assert_eq!(RowId::of_test("b6_h19_s1_7_connect"), [B(6), H(19), S(1, 7, None)]);
    }

    #[test]
    fn numbers_behind_the_rows_are_words() {
        assert_eq!(RowId::of_test("s2_26_100_digits"), [S(2, 26, None)]);
        assert_eq!(RowId::of_test("h2_reads_s1_1_too"), [H(2)]);
    }

    #[test]
    fn ordinary_names_prove_nothing() {
        for name in [
            "sleeps_never",
            "s3_bucket",
            "s3",
            "b",
            "h_14_x",
            "base64",
            "s2_x26",
            "S2_26_x",
            "h014_x",
        ] {
            assert_eq!(RowId::of_test(name), [], "{name}");
        }
    }

    #[test]
    fn rows_are_read_as_they_are_shown() {
        for text in ["S 2.26", "S 8.3b", "B6", "H14"] {
            assert_eq!(text.parse::<RowId>().map(|row| row.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("S2.26".parse(), Ok(S(2, 26, None)));
        assert_eq!(" 10.4 ".parse(), Ok(S(10, 4, None)));
    }

    #[test]
    fn everything_else_is_no_row_and_says_so() {
        for text in [
            "", "5", "1.", ".5", "1.x", "1.5bc", "1.05", "+1.5", "B", "Bx", "H1.2", "Q7", "1.99999",
        ] {
            let error = text.parse::<RowId>().expect_err(text);
            assert!(error.to_string().starts_with(&format!("\"{text}\" is no row")), "{error}");
        }
    }
}
