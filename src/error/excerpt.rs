//! The line of SQL that an error is in, with a caret under the place, the way psql shows it.
//!
//! ```text
//! LINE 2:   from customers where nme = $1
//!                                ^
//! ```

use std::fmt;
use std::ops::Range;

/// How many columns of a long line are shown.
const WIDTH: usize = 60;

/// How many columns stay visible from the caret on, if the line goes on that far.
const AFTER_CARET: usize = 10;

/// One line of an SQL text and the place in it that an error points at.
///
/// Columns are those of a terminal with a fixed-width font: an ideograph takes two, a combining
/// mark none.
#[derive(Debug)]
pub(super) struct Excerpt<'a> {
    /// The number of the line in the whole text, from 1.
    number: usize,
    line: &'a str,
    /// How many columns of the line are before the caret.
    caret: usize,
}

impl<'a> Excerpt<'a> {
    /// The line that has character number `position`, which counts from 1 as the server's
    /// positions do; the place just behind the last character counts too, because "syntax error at
    /// end of input" points there. `None` if the text has no such place.
    pub(super) fn at(sql: &'a str, position: u32) -> Option<Self> {
        let mut wanted = usize::try_from(position).ok()?.checked_sub(1)?;
        let mut rest = sql;
        let mut number = 1;
        loop {
            let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
            let (line, tail) = rest.split_at_checked(end)?;
            let length = line.chars().count();
            if wanted <= length {
                let caret = line.chars().take(wanted).map(columns).sum();
                return Some(Self { number, line, caret });
            }
            let line_break = if tail.starts_with("\r\n") { 2 } else { 1 };
            // Past the last line there is no line break to step over, and nothing more to point at.
            let next = tail.get(line_break..)?;
            // The place between a \r and its \n is taken as the end of the line.
            if wanted < length + line_break {
                let caret = line.chars().map(columns).sum();
                return Some(Self { number, line, caret });
            }
            wanted -= length + line_break;
            number += 1;
            rest = next;
        }
    }

    /// Which columns of the line are shown: all if they are few; else the first ones if the caret
    /// is well within them; else those that end a little behind the caret.
    fn window(&self) -> Range<usize> {
        // A line may be of any length, but what is far behind the caret makes no difference.
        let far = self.caret.saturating_add(WIDTH + AFTER_CARET);
        let mut width = 0;
        for character in self.line.chars() {
            width += columns(character);
            if width > far {
                break;
            }
        }
        let end = width.min(WIDTH.max(self.caret.saturating_add(AFTER_CARET)));
        end.saturating_sub(WIDTH)..end
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CUT: &str = "...";
        let window = self.window();
        let (mut shown, mut shown_columns, mut before_caret) = (String::new(), 0, 0);
        let (mut cut_left, mut cut_right) = (false, false);
        let mut column = 0;
        for character in self.line.chars() {
            let next = column + columns(character);
            if column < window.start {
                cut_left = true;
            } else if next > window.end {
                cut_right = true;
                break;
            } else {
                if column == self.caret {
                    before_caret = shown_columns;
                }
                // Tabs and other control characters would move the caret out of place.
                shown.push(if character.is_control() { ' ' } else { character });
                shown_columns += columns(character);
            }
            column = next;
        }
        if self.caret >= column {
            before_caret = shown_columns;
        }
        let label = format!("LINE {}: {}", self.number, if cut_left { CUT } else { "" });
        let indent = label.len() + before_caret;
        writeln!(f, "{label}{shown}{}", if cut_right { CUT } else { "" })?;
        write!(f, "{:indent$}^", "")
    }
}

/// How many columns of a terminal a character takes. Control characters are shown as a blank.
fn columns(character: char) -> usize {
    match u32::from(character) {
        // Combining marks, joiners, variation selectors.
        0x0300..=0x036f
        | 0x0483..=0x0489
        | 0x0591..=0x05bd
        | 0x0610..=0x061a
        | 0x064b..=0x065f
        | 0x0e31
        | 0x0e34..=0x0e3a
        | 0x0e47..=0x0e4e
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff
        | 0x200b..=0x200f
        | 0x20d0..=0x20ff
        | 0x3099..=0x309a
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f
        | 0xfeff => 0,
        // East Asian wide and full-width characters, emoji.
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xa960..=0xa97c
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff01..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The excerpt for the first place of `needle` in `sql`; for an empty one, for the end.
    fn show(sql: &str, needle: &str) -> String {
        let at = match needle {
            "" => sql.len(),
            needle => sql.find(needle).expect("the needle"),
        };
        let position = sql[..at].chars().count() + 1;
        show_at(sql, position).expect("an excerpt")
    }

    fn show_at(sql: &str, position: usize) -> Option<String> {
        let position = u32::try_from(position).expect("a short text");
        Excerpt::at(sql, position).map(|excerpt| excerpt.to_string())
    }

    /// Two lines: the text and a caret behind `indent` blanks.
    fn lines(text: &str, indent: usize) -> String {
        format!("{text}\n{}^", " ".repeat(indent))
    }

    // The expected excerpts of this and the next three tests are what psql 15 showed.

    #[test]
    fn s4_11_the_caret_stands_under_the_place() {
        assert_eq!(show("select nme from t", "nme"), lines("LINE 1: select nme from t", 15));
        let three_lines = "select\n\tid,\n\tnme\nfrom t";
        assert_eq!(show(three_lines, "nme"), lines("LINE 3:  nme", 9));
        let windows = "select id\r\nfrom t\r\nwhere nme = 1";
        assert_eq!(show(windows, "nme"), lines("LINE 3: where nme = 1", 14));
        let tabs = "select 'a\tb',\tnme from t";
        assert_eq!(show(tabs, "nme"), lines("LINE 1: select 'a b', nme from t", 22));
    }

    #[test]
    fn s4_11_the_end_of_the_text_is_a_place_too() {
        assert_eq!(show("select 1 +", ""), lines("LINE 1: select 1 +", 18));
        assert_eq!(show("select 1 +\n", ""), lines("LINE 2: ", 8));
    }

    #[test]
    fn s4_11_wide_characters_take_two_columns() {
        assert_eq!(
            show("select '日本語', nme, 'é' from t", "nme"),
            lines("LINE 1: select '日本語', nme, 'é' from t", 25)
        );
        let long = format!("select '{}', nme, '日本語日本語' from t", "日本語".repeat(11));
        assert_eq!(
            show(&long, "nme"),
            lines("LINE 1: ...本語日本語日本語日本語日本語日本語日本語日本語', nme, '日本...", 60)
        );
    }

    #[test]
    fn s4_11_a_long_line_is_cut_around_the_caret() {
        let ids = |count| "id, ".repeat(count);
        assert_eq!(
            show(&format!("select {}nme from t", ids(16)), "nme"),
            lines("LINE 1: ..., id, id, id, id, id, id, id, id, id, id, id, id, nme from t", 61)
        );
        assert_eq!(
            show(&format!("select nme, {}id from t where id = 1", ids(15)), "nme"),
            lines("LINE 1: select nme, id, id, id, id, id, id, id, id, id, id, id, id, ...", 15)
        );
        assert_eq!(
            show(&format!("select {}nme, {}id from t", ids(10), ids(12)), "nme"),
            lines("LINE 1: select id, id, id, id, id, id, id, id, id, id, nme, id, id, ...", 55)
        );
        assert_eq!(
            show(&format!("select {}idid from t", ids(13)), "idid"),
            lines("LINE 1: ..., id, id, id, id, id, id, id, id, id, id, id, id, idid from ...", 61)
        );
    }

    #[test]
    fn s4_11_combining_marks_take_no_column_and_control_characters_one() {
        assert_eq!(show("select 'e\u{301}', x", "x"), lines("LINE 1: select 'e\u{301}', x", 20));
        assert_eq!(show("select '\u{1b}[2J', x", "x"), lines("LINE 1: select ' [2J', x", 23));
    }

    #[test]
    fn s4_11_a_place_outside_the_text_has_no_excerpt() {
        assert_eq!(show_at("select", 0), None);
        assert_eq!(show_at("select", 8), None);
        assert_eq!(show_at("a\r\nb", 6), None);
        assert_eq!(show_at("", 2), None);
        assert_eq!(show_at("", 1), Some(lines("LINE 1: ", 8)));
        assert!(Excerpt::at("select", u32::MAX).is_none());
    }

    #[test]
    fn s4_11_a_place_in_a_line_break_is_the_end_of_its_line() {
        assert_eq!(show_at("ab\ncd", 3), Some(lines("LINE 1: ab", 10)));
        assert_eq!(show_at("ab\r\ncd", 4), Some(lines("LINE 1: ab", 10)));
        assert_eq!(show_at("ab\r\ncd", 5), Some(lines("LINE 2: cd", 8)));
    }

    proptest! {
        #[test]
        fn s4_11_any_text_and_place_give_two_short_lines_or_nothing(
            sql in "([a-z\\t\\n\\r 日é\u{301}🦀]|[a-z]{30}|日{20}|\\PC){0,12}",
            position in 0_usize..400,
        ) {
            let places = 1..=sql.chars().count() + 1;
            let excerpt = show_at(&sql, position);
            prop_assert_eq!(excerpt.is_some(), places.contains(&position));
            if let Some(excerpt) = excerpt {
                let lines: Vec<&str> = excerpt.split('\n').collect();
                prop_assert_eq!(lines.len(), 2, "{:?}", &excerpt);
                let width = |text: &str| text.chars().map(columns).sum::<usize>();
                prop_assert!(lines[0].starts_with("LINE "));
                prop_assert!(width(lines[0]) <= "LINE 12: ......".len() + WIDTH);
                prop_assert!(width(lines[1]) <= width(lines[0]) + 1, "{}", &excerpt);
            }
        }
    }
}
