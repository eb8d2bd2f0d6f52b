//! Reads what `--check` is given: `1.1-1.12, 8.3b, B8, H31-H32`.

use anyhow::{Context, Result, bail, ensure};

use super::documents::Row;
use super::id::RowId;

/// The rows that `selection` names, in its order, each once.
///
/// Items are separated by commas. A range goes over whole numbers of one phase, or of one kind,
/// and includes the lettered rows on its way.
///
/// # Errors
/// When an item is no row and no range, or names a row that the documents do not have.
pub(crate) fn select(selection: &str, rows: &[Row]) -> Result<Vec<RowId>> {
    let mut chosen = Vec::new();
    for item in selection.split(',').map(str::trim) {
        ensure!(!item.is_empty(), "\"{selection}\": there is nothing before or after a comma");
        let named = match item.split_once('-') {
            None => vec![item.parse()?],
            Some((first, last)) => {
                range(first.parse()?, last.parse()?, rows).with_context(|| format!("\"{item}\""))?
            }
        };
        for id in named {
            ensure!(
                rows.iter().any(|row| row.id == id),
                "\"{item}\": the documents have no row {id}"
            );
            if !chosen.contains(&id) {
                chosen.push(id);
            }
        }
    }
    Ok(chosen)
}

/// Every row from `first` to `last`. A whole number between them is named, so it must exist.
fn range(first: RowId, last: RowId, rows: &[Row]) -> Result<Vec<RowId>> {
    ensure!(first < last, "a range goes upwards, {first} to {last} does not");
    let mut named: Vec<RowId> = match (first, last) {
        (RowId::S(phase, from, _), RowId::S(end, to, _)) if phase == end => {
            (from..=to).map(|number| RowId::S(phase, number, None)).collect()
        }
        (RowId::S(..), RowId::S(..)) => bail!("a range stays in one phase"),
        (RowId::B(from), RowId::B(to)) => (from..=to).map(RowId::B).collect(),
        (RowId::H(from), RowId::H(to)) => (from..=to).map(RowId::H).collect(),
        _ => bail!("a range has rows of one kind, {first} and {last} differ"),
    };
    named.extend(rows.iter().map(|row| row.id));
    named.extend([first, last]);
    named.retain(|id| (first..=last).contains(id));
    named.sort_unstable();
    named.dedup();
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a selection gives from a small set of rows, or its whole error.
    fn selected(selection: &str) -> Result<String, String> {
        let known = [
            "S 1.1", "S 1.2", "S 1.4", "S 8.3", "S 8.3b", "S 8.3c", "S 8.4", "B1", "B8", "H1",
            "H2", "H3",
        ];
        let rows: Vec<Row> =
            known.iter().map(|id| Row { id: id.parse().unwrap(), text: String::new() }).collect();
        match select(selection, &rows) {
            Ok(ids) => Ok(ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    #[test]
    fn single_rows_and_ranges() {
        assert_eq!(selected("1.1").unwrap(), "S 1.1");
        assert_eq!(selected("B8, H2,S 1.4").unwrap(), "B8 H2 S 1.4");
        assert_eq!(selected("1.1-1.2,H1-H3").unwrap(), "S 1.1 S 1.2 H1 H2 H3");
    }

    #[test]
    fn a_range_takes_the_lettered_rows_on_its_way() {
        assert_eq!(selected("8.3-8.4").unwrap(), "S 8.3 S 8.3b S 8.3c S 8.4");
        assert_eq!(selected("8.3b-8.4").unwrap(), "S 8.3b S 8.3c S 8.4");
        assert_eq!(selected("8.3").unwrap(), "S 8.3");
    }

    #[test]
    fn a_row_named_twice_counts_once() {
        assert_eq!(selected("H2,H1-H3,H2").unwrap(), "H2 H1 H3");
    }

    #[test]
    fn a_row_that_does_not_exist_is_an_error_also_inside_a_range() {
        assert_eq!(selected("H4").unwrap_err(), "\"H4\": the documents have no row H4");
        assert_eq!(
            selected("1.1-1.4").unwrap_err(),
            "\"1.1-1.4\": the documents have no row S 1.3"
        );
        assert_eq!(
            selected("8.3-8.3x").unwrap_err(),
            "\"8.3-8.3x\": the documents have no row S 8.3x"
        );
    }

    #[test]
    fn wrong_syntax_is_an_error_that_quotes_it() {
        assert_eq!(
            selected("1.1,,H1").unwrap_err(),
            "\"1.1,,H1\": there is nothing before or after a comma"
        );
        assert!(selected("").unwrap_err().contains("nothing before or after"));
        assert!(selected("1.1-4").unwrap_err().starts_with("\"4\" is no row"));
        assert!(selected("H1 H2").unwrap_err().starts_with("\"H1 H2\" is no row"));
        assert_eq!(
            selected("1.4-1.1").unwrap_err(),
            "\"1.4-1.1\": a range goes upwards, S 1.4 to S 1.1 does not"
        );
        assert_eq!(selected("1.1-8.3").unwrap_err(), "\"1.1-8.3\": a range stays in one phase");
        assert!(selected("B1-H3").unwrap_err().contains("rows of one kind"));
    }
}
