//! Handles that are dropped or forgotten at any point: no call waits, and the connection stays
//! usable.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;

use chopin_pg::{
    CopyIn, CopyOptions, CopyReader, CopyWriter, Delivery, Event, PgConnection, Request,
};
use testkit::fake::FakeServer;
use testkit::frames;

use super::{content, with_table};
use crate::support::*;

/// Gets rid of a handle in every way.
const WAYS: [(&str, fn(CopyWriter<'_>), fn(CopyReader<'_>)); 3] = [
    ("drop", |writer| drop(writer), |reader| drop(reader)),
    ("forget", |writer| forget(writer), |reader| forget(reader)),
    (
        "unwind",
        |writer| {
            let unwound = catch_unwind(AssertUnwindSafe(move || {
                let _writer = writer;
                std::panic::resume_unwind(Box::new("the program's own panic"));
            }));
            unwound.unwrap_err();
        },
        |reader| {
            let unwound = catch_unwind(AssertUnwindSafe(move || {
                let _reader = reader;
                std::panic::resume_unwind(Box::new("the program's own panic"));
            }));
            unwound.unwrap_err();
        },
    ),
];

/// Whatever comes next gets its own answer, of every kind.
fn assert_all_usable(db: &mut PgConnection, turn: usize) {
    match turn % 5 {
        0 => {}
        1 => assert_eq!(db.query_simple("select 3 as a").unwrap()[0].get::<i32>("a").unwrap(), 3),
        2 => {
            let mut rows = db.stream("select generate_series(1, 3)", ()).unwrap();
            let mut count = 0;
            while rows.next().unwrap().is_some() {
                count += 1;
            }
            assert_eq!(count, 3);
        }
        3 => {
            let query = Request::Query { sql: "select 7", params: &() };
            let ticket = db.submit(query, Delivery::Events).unwrap();
            let mut found = None;
            run_events(db, 1, |event| {
                if let Event::Row { row, ticket: of } = event {
                    assert_eq!(of, ticket);
                    found = Some(row.get::<i32>(0).unwrap());
                }
            })
            .unwrap();
            assert_eq!(found, Some(7));
        }
        _ => {
            let data = db.copy_out("copy (select 5) to stdout").unwrap().read_all().unwrap();
            assert_eq!(data, b"5\n");
        }
    }
    assert_usable(db);
}

#[test]
fn h1_h6_a_writer_may_be_dropped_or_forgotten_anywhere() {
    let mut turn = 0;
    for (way, get_rid, _) in WAYS {
        let mut db = with_table("id int4");
        for rows in [0, 1, 1_000, 40_000] {
            for options in [CopyOptions::text(), CopyOptions::binary()] {
                let mut writer = db.copy_in(CopyIn::table("t").options(options)).unwrap();
                for id in 0..rows {
                    writer.write_row((id,)).unwrap();
                }
                get_rid(writer);
                // A question over the events of a COPY that was forgotten is not asked here.
                assert_all_usable(&mut db, if way == "forget" { 0 } else { turn });
                assert_eq!(content(&mut db), "", "{way} after {rows} rows");
                turn += 1;
            }
        }
        // After an error.
        let mut writer = db.copy_in("copy t from stdin").unwrap();
        while writer.write_data(&b"no number\n".repeat(10_000)).is_ok() {}
        get_rid(writer);
        assert_usable(&mut db);
        // With an error that nobody has seen yet.
        let mut writer = db.copy_in("copy t from stdin").unwrap();
        writer.write_data(&b"no number\n".repeat(10_000)).unwrap_or_default();
        get_rid(writer);
        assert_usable(&mut db);
    }
}

#[test]
fn h1_h6_a_reader_may_be_dropped_or_forgotten_anywhere() {
    let mut turn = 0;
    for (way, _, get_rid) in WAYS {
        let mut db = connect();
        for total in [0, 1, 20_000] {
            for taken in [0, 1, total / 2, total, total + 1] {
                let sql = format!("copy (select generate_series(1, {total})) to stdout");
                let mut reader = db.copy_out(&sql).unwrap();
                for number in 1..=taken {
                    let row = reader.next_row().unwrap().map(|row| row.get::<String>(0).unwrap());
                    assert_eq!(row, (number <= total).then(|| number.to_string()));
                }
                get_rid(reader);
                assert_all_usable(&mut db, if way == "forget" { 0 } else { turn });
                turn += 1;
            }
        }
        let mut reader =
            db.copy_out("copy (select 1 / (5 - generate_series(1, 9))) to stdout").unwrap();
        while reader.read_data().is_ok() {}
        get_rid(reader);
        assert_usable(&mut db);
    }
}

#[test]
fn h1_a_forgotten_writer_is_in_nobody_s_way() {
    let mut db = with_table("id int4");
    let mut writer = db.copy_in("copy t from stdin").unwrap();
    writer.write_row((1,)).unwrap();
    forget(writer);
    let query = Request::Query { sql: "select 7", params: &() };
    let ticket = db.submit(query, Delivery::Collect).unwrap();
    run_events(&mut db, 1, |_| {}).unwrap();
    assert_eq!(db.take(ticket).unwrap().unwrap().into_rows()[0].get::<i32>(0).unwrap(), 7);
    let mut writer = db.copy_in("copy t from stdin").unwrap();
    writer.write_row((2,)).unwrap();
    forget(writer);
    let mut writer = db.copy_in("copy t from stdin").unwrap();
    writer.write_row((3,)).unwrap();
    assert_eq!(writer.finish().unwrap(), 1);
    assert_eq!(content(&mut db), "3");
    assert!(db.is_alive());
}

#[test]
fn h20_a_drop_with_full_buffers_returns_at_once() {
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect(b'Q')?;
        conn.send(&frames::copy_in_response(0, &[0]))?;
        // It reads nothing until both handles are gone.
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        loop {
            match conn.receive()?.tag {
                b'd' => {}
                b'f' => break,
                tag => return Err(format!("{} inside a COPY", char::from(tag)).into()),
            }
        }
        conn.send(&frames::error_response(&[
            (b'S', "ERROR"),
            (b'V', "ERROR"),
            (b'C', "57014"),
            (b'M', "given up"),
        ]))?;
        conn.ready(b'I')?;
        conn.expect_query("select 1")?;
        conn.answer_query(&testkit::fake::Answer::command("SELECT 0"))?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    // More than all socket buffers take, so that much of it waits in the connection.
    let ticket = db.submit(Request::CopyIn { sql: "copy t from stdin" }, Delivery::Events).unwrap();
    let data = vec![b'1'; 1 << 20];
    while db.copy_data(ticket, &data).is_ok() {
        db.flush();
    }
    db.discard(ticket);
    go.send(()).unwrap();
    db.execute_batch("select 1").unwrap();
    drop(db);
    server.join();
}

#[test]
fn h1_dropping_the_connection_in_a_copy_gives_it_up() {
    let table = testkit::unique("given_up");
    let mut other = connect();
    other.execute_batch(&format!("create table {table} (id int4)")).unwrap();
    for blocking in [true, false] {
        let mut db = connect();
        let pid = db.process_id();
        let sql = format!("copy {table} from stdin");
        if blocking {
            let mut writer = db.copy_in(&sql).unwrap();
            writer.write_row((1,)).unwrap();
            forget(writer);
        } else {
            let ticket = db.submit(Request::CopyIn { sql: &sql }, Delivery::Events).unwrap();
            db.copy_data(ticket, b"1\n").unwrap();
            db.flush();
        }
        drop(db);
        let gone = "select count(*) = 0 from pg_stat_activity where pid = $1";
        while !other.query_one(gone, &[&pid]).unwrap().get::<bool>(0).unwrap() {}
        let count = other.query_one(&format!("select count(*) from {table}"), &[]).unwrap();
        assert_eq!(count.get::<i64>(0).unwrap(), 0);
    }
    other.execute_batch(&format!("drop table {table}")).unwrap();
}

#[test]
fn h1_a_discarded_copy_tells_no_event() {
    let mut db = with_table("id int4");
    for sent in [false, true] {
        let ticket =
            db.submit(Request::CopyIn { sql: "copy t from stdin" }, Delivery::Events).unwrap();
        db.copy_data(ticket, b"1\n").unwrap();
        if sent {
            db.flush();
        }
        db.discard(ticket);
        let own = db.submit(Request::Sync, Delivery::Events).unwrap();
        run_events(&mut db, 1, |event| assert_eq!(event.ticket(), Some(own))).unwrap();
        let ticket =
            db.submit(Request::CopyOut { sql: "copy t to stdout" }, Delivery::Events).unwrap();
        if sent {
            db.flush();
        }
        db.discard(ticket);
        let own = db.submit(Request::Sync, Delivery::Events).unwrap();
        run_events(&mut db, 1, |event| assert_eq!(event.ticket(), Some(own))).unwrap();
    }
    assert_eq!(content(&mut db), "");
}
