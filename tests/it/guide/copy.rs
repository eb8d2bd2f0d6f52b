//! The section "COPY" of docs/GUIDE.md.

use std::io::{self, Write};

use chopin_pg::{
    CopyIn, CopyOptions, CopyOut, Delivery, Event, PgConnection, PgError, PgResult, Request,
};

use crate::support::*;

fn load_works(db: &mut PgConnection, works: &[(i32, &str, Option<i16>)]) -> PgResult<u64> {
    let copy = CopyIn::table("works").columns(["id", "title", "year"]);
    let mut writer = db.copy_in(copy.options(CopyOptions::binary()))?;
    for (id, title, year) in works {
        writer.write_row((id, title, year))?;
    }
    writer.finish()
}

fn load_csv(db: &mut PgConnection, mut file: impl io::Read) -> io::Result<u64> {
    let copy = CopyIn::table("works").options(CopyOptions::csv().header(true));
    let mut writer = db.copy_in(copy).map_err(io::Error::other)?;
    io::copy(&mut file, &mut writer)?;
    writer.finish().map_err(io::Error::other)
}

fn titles(db: &mut PgConnection) -> PgResult<Vec<String>> {
    let copy = CopyOut::query("select id, title from works order by id");
    let mut reader = db.copy_out(copy.options(CopyOptions::binary()))?;
    let mut titles = Vec::new();
    while let Some(row) = reader.next_row()? {
        let (id, title): (i32, &str) = row.to()?;
        titles.push(format!("{id}: {title}"));
    }
    Ok(titles)
}

fn export_csv(db: &mut PgConnection, mut file: impl Write) -> io::Result<u64> {
    let copy = CopyOut::table("works").options(CopyOptions::csv().header(true));
    let mut reader = db.copy_out(copy).map_err(io::Error::other)?;
    io::copy(&mut reader, &mut file)?;
    reader.finish().map_err(io::Error::other)
}

fn load_until(db: &mut PgConnection, last: i32) -> PgResult<()> {
    let copy = CopyIn::table("works").options(CopyOptions::binary());
    let mut writer = db.copy_in(copy)?;
    for id in 1.. {
        if id > last {
            return writer.fail("too many works");
        }
        writer.write_row((id, "untitled", None::<i16>))?;
    }
    Ok(())
}

fn insert_works(db: &mut PgConnection) -> PgResult<u64> {
    let works = [(1, "Ballade No. 1", Some(1835)), (2, "Ballade No. 5", None)];
    db.insert_many("works", ["id", "title", "year"], works)
}

fn load_by_events(db: &mut PgConnection, lines: &[&str]) -> PgResult<()> {
    let request = Request::CopyIn { sql: "copy works from stdin (format csv)" };
    let ticket = db.submit(request, Delivery::Events)?;
    let mut lines = lines.iter().peekable();
    let mut is_open = true;
    loop {
        while let Some(line) = lines.peek() {
            match db.copy_data(ticket, line.as_bytes()) {
                Ok(()) => lines.next(),
                // Enough is queued for now; or the server has refused the data.
                Err(PgError::WouldBlock | PgError::Server(_)) => break,
                Err(error) => return Err(error),
            };
        }
        if lines.peek().is_none() && is_open {
            db.copy_done(ticket)?;
            is_open = false;
        }
        // An event loop waits here for `db.sources()` and `db.deadline()`.
        let _budget_or_idle = db.drive();
        while let Some(event) = db.next_event()? {
            match event {
                Event::Complete { .. } => return Ok(()),
                Event::Failed { error, .. } => return Err(error),
                _ => {}
            }
        }
    }
}

fn make_works() -> PgConnection {
    let mut db = connect();
    db.execute_batch("create temp table works (id int4 primary key, title text, year int2)")
        .unwrap();
    db
}

#[test]
fn b12_the_guide_s_typed_rows_go_in_and_out() {
    let mut db = make_works();
    let works = [(1, "Ballade No. 1", Some(1835)), (2, "Ballade No. 2", None)];
    assert_eq!(load_works(&mut db, &works).unwrap(), 2);
    assert_eq!(titles(&mut db).unwrap(), ["1: Ballade No. 1", "2: Ballade No. 2"]);
    load_until(&mut db, 10).unwrap();
    assert_usable(&mut db);
}

#[test]
fn b12_the_guide_s_files_go_in_and_out() {
    let mut db = make_works();
    let file = "id,title,year\n1,\"Ballade, No. 1\",1835\n2,,\n";
    assert_eq!(load_csv(&mut db, file.as_bytes()).unwrap(), 2);
    let mut out = Vec::new();
    assert_eq!(export_csv(&mut db, &mut out).unwrap(), 2);
    assert_eq!(String::from_utf8(out).unwrap(), file);
}

#[test]
fn b12_the_guide_s_other_copies() {
    let mut db = make_works();
    load_until(&mut db, 1000).unwrap();
    assert_eq!(titles(&mut db).unwrap(), [""; 0]);
    assert_eq!(insert_works(&mut db).unwrap(), 2);
    load_by_events(&mut db, &["3,\"three\",\n", "4,four,1842\n"]).unwrap();
    assert_eq!(titles(&mut db).unwrap()[2..], ["3: three", "4: four"]);
    let error = load_by_events(&mut db, &["3,again,\n"]).unwrap_err();
    assert_eq!(error.sql_state(), Some(chopin_pg::SqlState::UNIQUE_VIOLATION));
}
