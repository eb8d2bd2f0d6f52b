//! Rows out of data that come in any pieces, and data that are no rows.

use chopin_pg::{CopyOptions, CopyOut, PgConnection, PgError, PgResult};
use testkit::fake::{FakeConn, FakeServer};
use testkit::frames::{self, Column};

use crate::support::*;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const ROWS: [&[u8]; 3] = [
    b"\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x03one",
    b"\0\x02\0\0\0\x04\0\0\0\x02\xff\xff\xff\xff",
    b"\0\x02\0\0\0\x04\0\0\0\x03\0\0\0\0",
];
const TRAILER: &[u8] = b"\xff\xff";

/// Answers one binary COPY of an int4 and a text with these pieces of data.
fn serve(conn: &mut FakeConn, pieces: &[Vec<u8>]) -> Result<(), testkit::fake::FakeError> {
    // Parse, Describe and Sync come first.
    conn.expect_all(b"PDS")?;
    let columns = [Column::int4("id"), Column::text("word")];
    conn.send_frames(&[
        frames::parse_complete(),
        frames::parameter_description(&[]),
        frames::row_description(&columns),
        frames::ready_for_query(b'I'),
    ])?;
    conn.expect(b'Q')?;
    conn.send(&frames::copy_out_response(1, &[1, 1]))?;
    for piece in pieces {
        conn.send(&frames::copy_data(piece))?;
    }
    conn.send_frames(&[
        frames::copy_done(),
        frames::command_complete("COPY 3"),
        frames::ready_for_query(b'I'),
    ])
}

/// All rows of a binary COPY whose data come in these pieces.
fn read(db: &mut PgConnection) -> PgResult<Vec<(i32, Option<String>)>> {
    let copy = CopyOut::table("t").options(CopyOptions::binary());
    let mut reader = db.copy_out(copy)?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row.to()?);
    }
    Ok(rows)
}

/// Reads the COPY of each list of pieces.
fn with_pieces(
    list: Vec<Vec<Vec<u8>>>,
    mut check: impl FnMut(usize, PgResult<Vec<(i32, Option<String>)>>),
) {
    let count = list.len();
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        for pieces in &list {
            serve(conn, pieces)?;
        }
        conn.expect_query("select 1")?;
        conn.answer_query(&testkit::fake::Answer::command("SELECT 0"))?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    for index in 0..count {
        check(index, read(&mut db));
    }
    db.execute_batch("select 1").unwrap();
    drop(db);
    server.join();
}

#[test]
fn h22_binary_rows_may_be_cut_anywhere() {
    let whole = [HEADER, ROWS[0], ROWS[1], ROWS[2], TRAILER].concat();
    let mut list: Vec<Vec<Vec<u8>>> = vec![
        // As servers send them, all at once, and byte by byte.
        vec![[HEADER, ROWS[0]].concat(), ROWS[1].to_vec(), ROWS[2].to_vec(), TRAILER.to_vec()],
        vec![whole.clone()],
        whole.iter().map(|byte| vec![*byte]).collect(),
    ];
    list.extend((0..=whole.len()).map(|at| vec![whole[..at].to_vec(), whole[at..].to_vec()]));
    with_pieces(list, |index, rows| {
        let rows = rows.unwrap_or_else(|error| panic!("{index}: {error}"));
        assert_eq!(rows, [(1, Some("one".to_owned())), (2, None), (3, Some(String::new()))]);
    });
}

#[test]
fn h18_binary_data_that_are_no_rows_are_errors_and_the_connection_is_usable() {
    let cases: [(Vec<u8>, &str); 7] = [
        (b"PGCOPX\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec(), "signature"),
        (b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0".to_vec(), "flags"),
        ([HEADER, b"\0\x03"].concat(), "3 cells, but there are 2 columns"),
        ([HEADER, b"\0\x02\xff\xff\xff\xf0"].concat(), "the length of a cell is negative"),
        ([HEADER, ROWS[0]].concat(), "ends without its trailer"),
        ([HEADER, ROWS[0], TRAILER, ROWS[1]].concat(), "data follow its end"),
        (Vec::new(), "ends without its trailer"),
    ];
    let list = cases.iter().map(|(data, _)| vec![data.clone()]).collect();
    with_pieces(list, |index, rows| {
        let error = rows.unwrap_err();
        assert!(matches!(error, PgError::Protocol(_)), "{error}");
        assert!(error.to_string().contains(cases[index].1), "{error}");
    });
}

#[test]
fn h49_cells_that_are_no_values_name_their_column() {
    let short = [HEADER, b"\0\x02\0\0\0\x02\0\x01\xff\xff\xff\xff", TRAILER].concat();
    with_pieces(vec![vec![short]], |_, rows| {
        let error = rows.unwrap_err().to_string();
        assert!(error.contains("\"id\"") && error.contains("2 bytes instead of 4"), "{error}");
    });
}

#[test]
fn b12_rows_of_every_format_are_read_as_types() {
    let mut db = connect();
    let query = "select i as id, 'w ' || i as word, i * 1.5 as half, null::date as never \
                 from generate_series(1, 3) i";
    for options in [
        CopyOptions::text(),
        CopyOptions::text().delimiter(b'|').null("-"),
        CopyOptions::csv(),
        CopyOptions::csv().header(true).delimiter(b';').quote(b'\'').escape(b'\\').null("NULL"),
        CopyOptions::binary(),
    ] {
        let mut reader = db.copy_out(CopyOut::query(query).options(options.clone())).unwrap();
        let names: Vec<_> = reader.columns().iter().map(|column| column.name()).collect();
        assert_eq!(names, ["id", "word", "half", "never"]);
        let mut count = 0;
        while let Some(row) = reader.next_row().unwrap() {
            count += 1;
            let (id, word, half): (i32, &str, chopin_pg::types::Numeric) =
                (row.get("id").unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
            assert_eq!((id, word), (count, format!("w {count}").as_str()), "{options:?}");
            assert_eq!(half.as_str(), format!("{:.1}", f64::from(id) * 1.5));
            assert!(row.is_null("never").unwrap());
        }
        assert_eq!(count, 3, "{options:?}");
        assert_eq!(reader.finish().unwrap(), 3);
    }
    assert_usable(&mut db);
}

#[test]
fn b12_wide_rows_and_rows_without_columns_are_read() {
    let mut db = connect();
    let wide: Vec<String> = (1..=200).map(|number| format!("{number} as c{number}")).collect();
    let wide = format!("select {}", wide.join(", "));
    for options in [CopyOptions::csv(), CopyOptions::binary()] {
        let mut reader = db.copy_out(CopyOut::query(&wide).options(options.clone())).unwrap();
        let row = reader.next_row().unwrap().unwrap();
        assert_eq!((row.get::<i32>(0).unwrap(), row.get::<i32>("c200").unwrap()), (1, 200));
        assert!(reader.next_row().unwrap().is_none());
        drop(reader);
        let empty = CopyOut::query("select from generate_series(1, 2)").options(options);
        let mut reader = db.copy_out(empty).unwrap();
        let mut count = 0;
        while let Some(row) = reader.next_row().unwrap() {
            assert!(row.is_empty());
            count += 1;
        }
        assert_eq!(count, 2);
    }
}

#[test]
fn s5_4_rows_of_a_text_are_text_and_those_with_options_are_refused() {
    let mut db = connect();
    let mut reader = db.copy_out("copy (select 1, 'a' || chr(9), null) to stdout").unwrap();
    let names: Vec<_> = reader.columns().iter().map(|column| column.name()).collect();
    assert_eq!(names, ["column1", "column2", "column3"]);
    let row = reader.next_row().unwrap().unwrap();
    let cells: (&str, &str, Option<&str>) = row.to().unwrap();
    assert_eq!(cells, ("1", "a\t", None));
    drop(reader);
    let mut reader = db.copy_out("copy (select 1) to stdout csv").unwrap();
    let error = reader.next_row().unwrap_err();
    assert!(matches!(&error, PgError::Usage(why) if why.contains("CopyOptions")), "{error}");
    assert_eq!(reader.read_all().unwrap(), b"1\n");
    drop(reader);
    assert_usable(&mut db);
}
