//! `cargo xtask rows`: which tests prove which rows of the documents.
//!
//! A test proves the rows that its name begins with; nothing else is asked. See [`scan`] for what
//! counts as a test, [`id::RowId::of_test`] for the names.

mod documents;
mod id;
mod scan;
mod selection;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;

use crate::workspace;
use documents::Row;
use id::RowId;
use scan::Test;

/// The options of `cargo xtask rows`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail if one of these rows has no test, for example "1.1-1.12,8.3b,B8,H31-H32"
    #[arg(long, value_name = "ROWS")]
    check: Option<String>,
}

/// Prints every row with its tests, or checks that the rows of `--check` have some.
///
/// # Errors
/// When documents or sources cannot be read, or `--check` is not a selection of their rows.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let rows = documents::read(workspace::root())?;
    let chosen = args.check.as_deref().map(|check| selection::select(check, &rows)).transpose()?;
    let tests = scan::tests(workspace::root())?;
    let (report, complete) = match chosen {
        None => (listing(&rows, &tests), true),
        Some(chosen) => verdict(&chosen, &rows, &tests),
    };
    print(&report)?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes to stdout; a reader that has seen enough, as `head` has, is no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn proofs(id: RowId, tests: &[Test]) -> impl Iterator<Item = &Test> {
    tests.iter().filter(move |test| test.rows.contains(&id))
}

/// Every row with its tests, then the counts.
fn listing(rows: &[Row], tests: &[Test]) -> String {
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(text, "{:<8}{}", row.id, first_words(&row.text));
        let before = text.len();
        for test in proofs(row.id, tests) {
            let _ = writeln!(text, "{:8}  {}  {}", "", test.place, test.name);
        }
        if text.len() == before {
            let _ = writeln!(text, "{:8}  no test", "");
        }
    }
    text.push('\n');
    for (kind, title) in [('S', "standard equipment"), ('B', "beyond it"), ('H', "hazards")] {
        let of_kind = || rows.iter().filter(|row| row.id.to_string().starts_with(kind));
        let proven = of_kind().filter(|row| proofs(row.id, tests).next().is_some()).count();
        let _ =
            writeln!(text, "{kind}: {proven} of {} rows have a test ({title})", of_kind().count());
    }
    let _ = writeln!(text, "{} tests carry the number of a row", tests.len());
    text + &strays(rows, tests)
}

/// The tests whose names begin with the number of a row that does not exist: a slip, or `b64_`.
fn strays(rows: &[Row], tests: &[Test]) -> String {
    let mut text = String::new();
    for test in tests {
        for id in test.rows.iter().filter(|id| rows.iter().all(|row| row.id != **id)) {
            let _ = writeln!(
                text,
                "note: {}: {} names {id}, which no document lists",
                test.place, test.name
            );
        }
    }
    text
}

/// Says whether all chosen rows have tests, and names those that have none.
fn verdict(chosen: &[RowId], rows: &[Row], tests: &[Test]) -> (String, bool) {
    let lacking: Vec<&Row> = rows
        .iter()
        .filter(|row| chosen.contains(&row.id) && proofs(row.id, tests).next().is_none())
        .collect();
    if lacking.is_empty() {
        let count =
            tests.iter().filter(|test| test.rows.iter().any(|id| chosen.contains(id))).count();
        return (
            format!("each of the {} rows has a test; {count} tests in all\n", chosen.len()),
            true,
        );
    }
    let mut text = format!("{} of the {} rows have no test:\n", lacking.len(), chosen.len());
    for row in lacking {
        let _ = writeln!(text, "{:<8}{}", row.id, first_words(&row.text));
    }
    (text + &strays(rows, tests), false)
}

/// The beginning of a row's text, cut between words to fit a line of a terminal.
fn first_words(text: &str) -> String {
    const WIDTH: usize = 70;
    let mut line = String::new();
    for word in text.trim_start_matches("Never:").split_whitespace() {
        if line.chars().count() + word.chars().count() >= WIDTH {
            return line + " ...";
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str) -> Row {
        Row { id: id.parse().unwrap(), text: format!("Text of {id}.") }
    }

    fn test(name: &str) -> Test {
        Test { name: name.to_owned(), place: "a.rs:7".to_owned(), rows: RowId::of_test(name) }
    }

    #[test]
    fn the_listing_shows_tests_gaps_and_counts() {
        let text =
            listing(&[row("S 1.1"), row("B6"), row("H2")], &[test("s1_1_h2_a"), test("h2_b")]);
        assert_eq!(
            text,
            "S 1.1   Text of S 1.1.\n          a.rs:7  s1_1_h2_a\n\
             B6      Text of B6.\n          no test\n\
             H2      Text of H2.\n          a.rs:7  s1_1_h2_a\n          a.rs:7  h2_b\n\
             \nS: 1 of 1 rows have a test (standard equipment)\n\
             B: 0 of 1 rows have a test (beyond it)\n\
             H: 1 of 1 rows have a test (hazards)\n\
             2 tests carry the number of a row\n"
        );
    }

    #[test]
    fn a_check_names_the_rows_without_a_test() {
        let rows = [row("H1"), row("H2"), row("H3")];
        let (text, complete) = verdict(&[RowId::H(1), RowId::H(2)], &rows, &[test("h2_a")]);
        assert_eq!(
            (text.as_str(), complete),
            ("1 of the 2 rows have no test:\nH1      Text of H1.\n", false)
        );
        let (text, complete) = verdict(&[RowId::H(2)], &rows, &[test("h2_a"), test("h3_b")]);
        assert_eq!(
            (text.as_str(), complete),
            ("each of the 1 rows has a test; 1 tests in all\n", true)
        );
    }

    #[test]
    fn a_test_of_a_row_that_does_not_exist_is_noted() {
        let text = strays(&[row("H1")], &[test("h1_a"), test("b64_pads")]);
        assert_eq!(text, "note: a.rs:7: b64_pads names B64, which no document lists\n");
    }

    #[test]
    fn long_texts_are_cut_between_words() {
        let line = first_words(&format!("Never: {}", "word ".repeat(40)));
        assert!(
            line.starts_with("word word") && line.ends_with("word ...") && line.len() < 75,
            "{line}"
        );
    }
}
