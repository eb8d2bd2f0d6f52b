//! COPY in and out: text, csv and binary; errors and drops at every point.

mod cancels;
mod drops;
mod errors;
mod events;
mod example;
mod formats;
mod insert_many;
mod reading;
mod time;
mod typed;
mod volume;

use std::io::{BufRead, Read, Write};

use chopin_pg::{
    CopyIn, CopyOptions, CopyOut, Delivery, Event, PgConnection, PgError, PgResult, Request,
    SqlState, Ticket,
};

use crate::support::*;

/// A connection with an empty temporary table `t` of these columns.
fn with_table(columns: &str) -> PgConnection {
    let mut db = connect();
    make_table(&mut db, columns);
    db
}

fn make_table(db: &mut PgConnection, columns: &str) {
    db.execute_batch(&format!("create temp table t ({columns})")).unwrap();
}

/// What table `t` has, as `psql -At` prints it.
fn content(db: &mut PgConnection) -> String {
    printed(&db.query_simple("select * from t order by 1").unwrap())
}

/// Copies data in, given in `pieces`, through a face.
fn store(face: Face, db: &mut PgConnection, sql: &str, pieces: &[&[u8]]) -> PgResult<u64> {
    if let Face::Blocking = face {
        let mut writer = db.copy_in(sql)?;
        for piece in pieces {
            writer.write_data(piece)?;
        }
        return writer.finish();
    }
    let ticket = db.submit(Request::CopyIn { sql }, Delivery::Events)?;
    let mut outcome = Outcome::default();
    for piece in pieces {
        while let Err(error) = db.copy_data(ticket, piece) {
            match error {
                PgError::WouldBlock => outcome.drive(db, ticket),
                // The terminal event tells it too.
                error => {
                    assert!(matches!(error, PgError::Server(_)), "{error}");
                    return outcome.end(db, ticket);
                }
            }
        }
    }
    if outcome.ended.is_none() {
        db.copy_done(ticket)?;
    }
    outcome.end(db, ticket)
}

/// Copies data out through a face.
fn fetch(face: Face, db: &mut PgConnection, sql: &str) -> PgResult<Vec<u8>> {
    if let Face::Blocking = face {
        return db.copy_out(sql)?.read_all();
    }
    let ticket = db.submit(Request::CopyOut { sql }, Delivery::Events)?;
    let mut outcome = Outcome::default();
    outcome.end(db, ticket)?;
    Ok(outcome.data)
}

/// What the events of a COPY have told.
#[derive(Default)]
struct Outcome {
    ended: Option<PgResult<()>>,
    rows: u64,
    data: Vec<u8>,
    events: Vec<&'static str>,
}

impl Outcome {
    /// One turn of an event loop.
    fn drive(&mut self, db: &mut PgConnection, own: Ticket) {
        let _budget_or_idle = db.drive();
        loop {
            let event = match db.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return,
                // The terminal event has told it already.
                Err(_) if self.ended.is_some() => return,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(event.ticket().unwrap_or(own), own);
            self.events.push(match event {
                Event::CopyIn { .. } => "copy in",
                Event::CopyOut { .. } => "copy out",
                Event::CopyData { data, .. } => {
                    self.data.extend_from_slice(data);
                    "data"
                }
                Event::CommandComplete { tag, .. } => {
                    self.rows = tag.rows().unwrap();
                    "command"
                }
                Event::Complete { .. } => {
                    assert!(self.ended.replace(Ok(())).is_none());
                    "complete"
                }
                Event::Failed { error, .. } => {
                    assert!(self.ended.replace(Err(error)).is_none());
                    "failed"
                }
                Event::Notice(_) => "notice",
                Event::Notification(_) => "notification",
                event => panic!("{event:?}"),
            });
        }
    }

    /// Turns until the request has ended.
    fn end(&mut self, db: &mut PgConnection, own: Ticket) -> PgResult<u64> {
        db.flush();
        while self.ended.is_none() {
            self.drive(db, own);
            std::thread::yield_now();
        }
        self.ended.take().unwrap().map(|()| self.rows)
    }
}

#[test]
fn s5_1_s5_2_s5_3_s8_6_data_go_in_as_they_are() {
    let mut db = with_table("id int4, word text");
    let mut writer = db.copy_in("copy t from stdin").unwrap();
    writer.write_data(b"1\tone\n2\t").unwrap();
    writer.write_data(b"").unwrap();
    writer.write_data("zwölf\n3\t\\N\n".as_bytes()).unwrap();
    assert_eq!(writer.finish().unwrap(), 3);
    assert_eq!((db.last_command_tag(), db.last_affected_rows()), ("COPY 3", 3));
    assert_eq!(content(&mut db), "1|one\n2|zwölf\n3|NULL");
    assert_usable(&mut db);
}

#[test]
fn s5_2_s8_6_rows_are_escaped_for_the_format_in_force() {
    let mut db = with_table("id int4, word text");
    let tricky = "a\tb\\c\nd\re,f\"g";
    for options in [
        CopyOptions::text(),
        CopyOptions::text().delimiter(b'|').null("NULL"),
        CopyOptions::csv(),
        CopyOptions::csv().header(true).delimiter(b';').quote(b'\''),
        CopyOptions::binary(),
    ] {
        let mut writer = db.copy_in(CopyIn::table("t").options(options.clone())).unwrap();
        writer.write_row((1, tricky)).unwrap();
        writer.write_row((2, None::<&str>)).unwrap();
        writer.write_row([&3 as &dyn chopin_pg::ToSql, &""]).unwrap();
        assert_eq!(writer.rows_written(), 3);
        assert_eq!(writer.finish().unwrap(), 3, "{options:?}");
        let rows = db.query("select word from t order by id", &[]).unwrap();
        let words: Vec<Option<String>> = rows.iter().map(|row| row.get(0).unwrap()).collect();
        assert_eq!(words, [Some(tricky.to_owned()), None, Some(String::new())], "{options:?}");
        db.execute_batch("truncate t").unwrap();
    }
    // A text without options is one of text format; of one with options that is not known.
    let mut writer = db.copy_in("copy t (word, id) from stdin").unwrap();
    writer.write_row(["a\\b", "1"]).unwrap();
    assert_eq!(writer.finish().unwrap(), 1);
    assert_eq!(content(&mut db), "1|a\\b");
    let mut writer = db.copy_in("copy t from stdin (format csv)").unwrap();
    let error = writer.write_row((1, "one")).unwrap_err();
    assert!(matches!(&error, PgError::Usage(why) if why.contains("CopyOptions")), "{error}");
    writer.write_data(b"2,\"a,b\"\n").unwrap();
    assert_eq!(writer.finish().unwrap(), 1);
    assert_eq!(content(&mut db), "1|a\\b\n2|a,b");
}

#[test]
fn s5_2_a_writer_is_an_io_write() {
    let mut db = with_table("id int4, word text");
    let mut writer = db.copy_in("copy t from stdin (format csv)").unwrap();
    for number in 1..=3 {
        writeln!(writer, "{number},\"number {number}\"").unwrap();
    }
    writer.flush().unwrap();
    let copied = std::io::copy(&mut &b"4,four\n"[..], &mut writer).unwrap();
    assert_eq!(copied, 7);
    assert_eq!(writer.finish().unwrap(), 4);
    assert_eq!(content(&mut db), "1|number 1\n2|number 2\n3|number 3\n4|four");
    // An error of the server comes as an io::Error that has it inside.
    let mut writer = db.copy_in("copy t from stdin (format csv)").unwrap();
    writer.write_all(b"five,5\n").unwrap();
    let error = loop {
        if let Err(error) = writer.write_all(b"6,six\n").and_then(|()| writer.flush()) {
            break error;
        }
    };
    let inner = error.get_ref().and_then(|error| error.downcast_ref::<PgError>()).unwrap();
    assert_eq!(inner.sql_state(), Some(SqlState::INVALID_TEXT_REPRESENTATION));
    drop(writer);
    assert_usable(&mut db);
}

#[test]
fn s5_4_s5_5_s8_6_data_come_out_in_chunks_or_as_a_whole() {
    let mut db = connect();
    let sql = "copy (select i, 'number ' || i from generate_series(1, 3) i) to stdout (format csv)";
    let whole = b"1,number 1\n2,number 2\n3,number 3\n";
    let mut reader = db.copy_out(sql).unwrap();
    let mut data = Vec::new();
    while let Some(chunk) = reader.read_data().unwrap() {
        assert!(!chunk.is_empty());
        data.extend_from_slice(chunk);
    }
    assert_eq!(data, whole);
    assert_eq!(reader.read_data().unwrap(), None, "the end stays the end");
    assert_eq!(reader.finish().unwrap(), 3);
    assert_eq!(db.last_command_tag(), "COPY 3");
    assert_eq!(db.copy_out(sql).unwrap().read_all().unwrap(), whole);
    // As a file: byte by byte, line by line, and both in turn.
    let mut reader = db.copy_out(sql).unwrap();
    let mut byte = [0];
    reader.read_exact(&mut byte).unwrap();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!((byte, line.as_str()), ([b'1'], ",number 1\n"));
    assert_eq!(reader.read_data().unwrap().unwrap(), b"2,number 2\n");
    let lines: Vec<_> = reader.lines().map(Result::unwrap).collect();
    assert_eq!(lines, ["3,number 3"]);
    assert_usable(&mut db);
}

#[test]
fn s5_6_s8_6_s9_19_a_copy_that_is_given_up_stores_nothing() {
    let mut db = with_table("id int4");
    for rows in [0, 1, 100_000] {
        let mut writer = db.copy_in("copy t from stdin").unwrap();
        for id in 0..rows {
            writer.write_row((id,)).unwrap();
        }
        writer.fail("the file ended too early").unwrap();
        assert_eq!(content(&mut db), "");
    }
    // The server has the reason in its error.
    let ticket = db.submit(Request::CopyIn { sql: "copy t from stdin" }, Delivery::Events).unwrap();
    db.copy_data(ticket, b"1\n").unwrap();
    db.copy_fail(ticket, "the file ended too early").unwrap();
    let error = Outcome::default().end(&mut db, ticket).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::QUERY_CANCELED));
    assert!(error.to_string().contains("the file ended too early"), "{error}");
    // A reason that cannot be sent is refused, and the COPY is given up all the same.
    let error = db.copy_in("copy t from stdin").unwrap().fail("a\0b").unwrap_err();
    assert!(matches!(error, PgError::Usage(_)), "{error}");
    assert_eq!(content(&mut db), "");
    assert_usable(&mut db);
}

#[test]
fn b12_both_directions_are_a_round_trip() {
    let mut db = with_table("id int4, word text, at timestamptz");
    db.execute_batch(
        "insert into t values (1, 'a''b', 'epoch'), (2, null, null), (3, '', 'infinity')",
    )
    .unwrap();
    let before = content(&mut db);
    for options in [CopyOptions::text(), CopyOptions::csv().header(true), CopyOptions::binary()] {
        let copy = CopyOut::table("t").options(options.clone());
        let data = db.copy_out(copy).unwrap().read_all().unwrap();
        db.execute_batch("truncate t").unwrap();
        let mut writer = db.copy_in(CopyIn::table("t").options(options)).unwrap();
        writer.write_data(&data).unwrap();
        assert_eq!(writer.finish().unwrap(), 3);
        assert_eq!(content(&mut db), before);
    }
}
