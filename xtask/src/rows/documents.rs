//! Reads the rows out of docs/FEATURES.md and docs/HAZARDS.md.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::id::RowId;

/// The documents that list rows, by their path in the repository.
const DOCUMENTS: [&str; 2] = ["docs/FEATURES.md", "docs/HAZARDS.md"];

/// One row of a document.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its number.
    pub(crate) id: RowId,
    /// What it says, without the marks for bold and code.
    pub(crate) text: String,
}

/// All rows below `root`, in the order of the documents.
///
/// # Errors
/// When a document cannot be read, has no rows, has a number that is not one, or lists one twice.
pub(crate) fn read(root: &Path) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for name in DOCUMENTS {
        let text =
            fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))?;
        let before = rows.len();
        add_rows(name, &text, &mut rows)?;
        ensure!(rows.len() > before, "{name} has no row such as | S 1.1 | text | or | H1 | text |");
    }
    Ok(rows)
}

fn add_rows(name: &str, document: &str, rows: &mut Vec<Row>) -> Result<()> {
    for (index, line) in document.lines().enumerate() {
        let Some((cell, text)) = first_two_cells(line) else {
            continue;
        };
        if !looks_numbered(&cell) {
            continue;
        }
        let at = format!("{name}:{}", index + 1);
        let id: RowId = cell.parse().with_context(|| at.clone())?;
        if rows.iter().any(|row| row.id == id) {
            bail!("{at}: {id} is listed twice");
        }
        rows.push(Row { id, text });
    }
    Ok(())
}

/// The first two cells of a line of a Markdown table, in which `\|` stands for a bar.
fn first_two_cells(line: &str) -> Option<(String, String)> {
    const BAR: &str = "\u{1}";
    let line = line.trim().strip_prefix('|')?.replace("\\|", BAR);
    let mut cells =
        line.split('|').map(|cell| cell.trim().replace(BAR, "|").replace(['*', '`'], ""));
    Some((cells.next()?, cells.next()?))
}

/// Whether a cell is meant as a number: a heading or a rule of a table is not.
fn looks_numbered(cell: &str) -> bool {
    let digits = cell.strip_prefix(['S', 'B', 'H']).map_or(cell, str::trim_start);
    digits.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(document: &str) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        add_rows("a.md", document, &mut rows).map(|()| rows)
    }

    #[test]
    fn rows_come_with_their_text_and_headings_do_not() {
        let rows = rows_of(
            "# Rows\n| Row | What |\n|---|---|\n| S 1.1 | It is **fast**, `really`. |\n\
             | H2 | a \\| b | more |\n| `s1_1_x` | S 1.1 |\nBut 5 | 6\n",
        );
        let rows: Vec<_> = rows.unwrap().into_iter().map(|row| (row.id, row.text)).collect();
        let fast = (RowId::S(1, 1, None), "It is fast, really.".to_owned());
        assert_eq!(rows, [fast, (RowId::H(2), "a | b".to_owned())]);
    }

    #[test]
    fn a_row_listed_twice_is_an_error_with_its_line() {
        let error = rows_of("| H2 | a |\n| H2 | b |").unwrap_err();
        assert_eq!(error.to_string(), "a.md:2: H2 is listed twice");
    }

    #[test]
    fn a_wrong_number_is_an_error_with_its_line() {
        let error = rows_of("| H2 | a |\n| S 2,5 | b |").unwrap_err();
        assert!(format!("{error:#}").starts_with("a.md:2: \"S 2,5\" is no row"), "{error:#}");
    }

    #[test]
    fn the_documents_of_this_repository_have_rows_of_each_kind() {
        let rows = read(crate::workspace::root()).unwrap();
        for id in [RowId::S(1, 1, None), RowId::S(8, 3, Some('b')), RowId::B(28), RowId::H(50)] {
            assert!(rows.iter().any(|row| row.id == id), "{id}");
        }
    }
}
