//! Text and CSV against the server, with generated values: what is written here it reads as the same
//! cells, and what it writes is read here as its cells.

use std::cell::RefCell;

use chopin_pg::{CopyIn, CopyOptions, CopyOut, PgConnection};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::with_table;
use crate::support::*;

/// The options that are tried: every byte that is special in one of them occurs in the values.
fn all_options() -> Vec<CopyOptions> {
    vec![
        CopyOptions::text(),
        CopyOptions::text().delimiter(b'|').null("NULL"),
        CopyOptions::text().delimiter(b'"').null("N"),
        CopyOptions::text().delimiter(b',').null("\\-").header(true),
        CopyOptions::csv(),
        CopyOptions::csv().delimiter(b'|').null("NULL").header(true),
        CopyOptions::csv().quote(b'\'').escape(b'\\').null("N"),
        CopyOptions::csv().delimiter(b'\t').quote(b'|').escape(b'N').null("-"),
        CopyOptions::csv().delimiter(b'N').quote(b'\\').null("\"\""),
    ]
}

/// Cells, rich in what is special.
fn cells() -> impl Strategy<Value = Option<String>> {
    let special = prop::sample::select(vec![
        "\\", "\"", "'", "\t", "\n", "\r", "\r\n", "|", ",", "N", "\\N", "\\.", "NULL", "-", "\\-",
        "\"\"", " ", "é", "漢", "𝄞", "\u{8}", "\u{b}", "\u{c}", "\u{1}", "\u{7f}", "a", "x41",
        "101", "\n\\.\n", "\\x",
    ]);
    let text = prop::collection::vec(special, 0..5).prop_map(|parts| parts.concat());
    prop::option::weighted(0.9, text)
}

type TextRow = (Option<String>, Option<String>);

/// What the server has in `t`, by a way that has nothing to do with COPY.
fn stored(db: &mut PgConnection) -> Vec<TextRow> {
    let rows = db.query("select a, b from t order by id", &[]).unwrap();
    rows.iter().map(|row| row.to().unwrap()).collect()
}

fn round_trip(db: &mut PgConnection, options: &CopyOptions, rows: &[TextRow]) {
    db.execute_batch("truncate t").unwrap();
    let copy = CopyIn::table("t").columns(["id", "a", "b"]).options(options.clone());
    let mut writer = db.copy_in(copy).unwrap();
    for (id, (a, b)) in (0..).zip(rows) {
        writer.write_row((id, a, b)).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), rows.len() as u64, "{options:?}");
    assert_eq!(stored(db), rows, "as the server reads it: {options:?}");
    let copy = CopyOut::query("select a, b from t order by id").options(options.clone());
    let mut reader = db.copy_out(copy).unwrap();
    let mut read = Vec::new();
    while let Some(row) = reader.next_row().unwrap() {
        read.push(row.to::<TextRow>().unwrap());
    }
    // In text format the server itself does not tell a string from NULL that reads the same.
    let is_ambiguous = |cell: &Option<String>| {
        options.format() == chopin_pg::CopyFormat::Text
            && ["NULL", "N"]
                .iter()
                .any(|null| cell.as_deref() == Some(null) && *options == options.clone().null(null))
    };
    let shown = |cell: &Option<String>| cell.clone().filter(|_| !is_ambiguous(cell));
    let expected: Vec<_> = rows.iter().map(|(a, b)| (shown(a), shown(b))).collect();
    assert_eq!(read, expected, "as it reads the server: {options:?}");
}

#[test]
fn b12_the_server_reads_what_is_written_and_the_other_way_round() {
    let db = RefCell::new(with_table("id int4, a text, b text"));
    let rows = prop::collection::vec((cells(), cells()), 40..60);
    let config =
        ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&rows, |rows| {
            for options in all_options() {
                round_trip(&mut db.borrow_mut(), &options, &rows);
            }
            Ok(())
        })
        .unwrap();
    assert_usable(&mut db.borrow_mut());
}

/// A line with one cell is where `\.` and the empty string are most like something else.
#[test]
fn b12_single_cells_are_told_from_the_end_and_from_null() {
    let mut db = with_table("id serial, a text");
    let cells =
        [Some("\\."), None, Some(""), Some("\\N"), Some("\n\\.\n"), Some("NULL"), Some(" ")];
    for options in all_options() {
        if options.format() == chopin_pg::CopyFormat::Text && options.clone().null("") == options {
            continue;
        }
        db.execute_batch("truncate t restart identity").unwrap();
        let copy = CopyIn::table("t").columns(["a"]).options(options.clone());
        let mut writer = db.copy_in(copy).unwrap();
        for cell in cells {
            writer.write_row((cell,)).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 7, "{options:?}");
        let rows = db.query("select a from t order by id", &[]).unwrap();
        let stored: Vec<Option<&str>> = rows.iter().map(|row| row.get(0).unwrap()).collect();
        assert_eq!(stored, cells, "{options:?}");
    }
    let mut writer = db
        .copy_in(CopyIn::table("t").columns(["a"]).options(CopyOptions::text().null("")))
        .unwrap();
    let error = writer.write_row(("",)).unwrap_err().to_string();
    assert!(error.contains("cannot be told from NULL"), "{error}");
    writer.write_row((None::<&str>,)).unwrap();
    assert_eq!(writer.finish().unwrap(), 1);
}

#[test]
fn h35_names_and_options_of_a_copy_stay_data() {
    let mut db = connect();
    let (table, column) = ("t\"; drop table x; --", "a\", b) from stdin; --");
    db.execute_batch(&format!(
        "create temp table \"{}\" (\"{}\" text)",
        table.replace('"', "\"\""),
        column.replace('"', "\"\"")
    ))
    .unwrap();
    let options = CopyOptions::csv().null("); drop table x; --").quote(b'\'');
    let copy = CopyIn::table(("pg_temp", table)).columns([column]).options(options.clone());
    let mut writer = db.copy_in(copy).unwrap();
    writer.write_row(("it's",)).unwrap();
    writer.write_row((None::<&str>,)).unwrap();
    assert_eq!(writer.finish().unwrap(), 2);
    for options in [options, CopyOptions::binary()] {
        let copy = CopyOut::table(table).columns([column]).options(options);
        let mut reader = db.copy_out(copy).unwrap();
        assert_eq!(reader.next_row().unwrap().unwrap().get::<&str>(column).unwrap(), "it's");
        assert!(reader.next_row().unwrap().unwrap().is_null(0).unwrap());
        assert!(reader.next_row().unwrap().is_none());
    }
    assert_eq!(db.insert_many(table, [column], [("three",)]).unwrap(), 1);
    // A string constant means the same with the old way to read backslashes.
    db.execute_batch("set standard_conforming_strings = off").unwrap();
    let copy = CopyIn::table(table).columns([column]).options(CopyOptions::text());
    let mut writer = db.copy_in(copy).unwrap();
    writer.write_row((None::<&str>,)).unwrap();
    assert_eq!(writer.finish().unwrap(), 1);
}
