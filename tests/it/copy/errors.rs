//! Errors: before a COPY, at its start, in its middle and at its end.

use std::io::{self, BufRead};

use chopin_pg::{CopyIn, CopyOptions, Delivery, PgError, Request, SqlState};
use testkit::fake::FakeServer;
use testkit::frames;

use super::{Outcome, content, fetch, store, with_table};
use crate::support::*;

on_both_faces!(
    s5_1_another_kind_of_statement_is_refused,
    h6_an_error_at_the_start,
    h6_an_error_in_the_middle,
    h6_an_error_at_the_end,
    h6_an_error_of_copy_out,
);

fn s5_1_another_kind_of_statement_is_refused(face: Face) {
    let mut db = with_table("id int4");
    for (sql, says) in [
        ("select 1", "copy_in takes COPY ... FROM STDIN and nothing else"),
        ("", "nothing else"),
        ("copy t from '/etc/passwd'", "nothing else"),
        ("copy t to stdout", "goes through copy_out"),
        ("copy t from stdin; copy t from stdin", "one statement, not several"),
        ("copy t from stdin; (select 1)", "one statement, not several"),
    ] {
        let error = store(face, &mut db, sql, &[b"1\n"]).unwrap_err();
        assert!(matches!(&error, PgError::Usage(why) if why.contains(says)), "{sql}: {error}");
        assert!(error.to_string().contains("nothing was sent"), "{error}");
        assert_usable(&mut db);
    }
    for (sql, says) in [
        ("table t", "copy_out takes COPY ... TO STDOUT and nothing else"),
        ("copy t from stdin", "goes through copy_in"),
        ("copy t to stdout; drop table t", "one statement, not several"),
    ] {
        let error = fetch(face, &mut db, sql).unwrap_err();
        assert!(matches!(&error, PgError::Usage(why) if why.contains(says)), "{sql}: {error}");
        assert_usable(&mut db);
    }
    // A semicolon or comment behind it is no other statement.
    assert_eq!(store(face, &mut db, "copy t from stdin ; -- all", &[b"1\n"]).unwrap(), 1);
    assert_eq!(content(&mut db), "1");
}

fn h6_an_error_at_the_start(face: Face) {
    let mut db = with_table("id int4");
    for in_transaction in [false, true] {
        if in_transaction {
            db.begin().unwrap();
        }
        let error = store(face, &mut db, "copy no_such from stdin", &[b"1\n", b"2\n"]).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_TABLE));
        assert_eq!(error.as_server().unwrap().query.as_deref(), Some("copy no_such from stdin"));
        if in_transaction {
            db.rollback().unwrap();
        }
        assert_usable(&mut db);
        assert_eq!(store(face, &mut db, "copy t from stdin", &[b"1\n"]).unwrap(), 1);
        db.execute_batch("truncate t").unwrap();
    }
}

fn h6_an_error_in_the_middle(face: Face) {
    let mut db = with_table("id int4");
    // Much is buffered behind the row that fails, wherever it stands.
    let good = b"12345678\n".repeat(20_000);
    for position in [0, 1, 15, 29] {
        let mut pieces = vec![good.as_slice(); 30];
        pieces[position] = b"no number\n";
        let error = store(face, &mut db, "copy t from stdin", &pieces).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::INVALID_TEXT_REPRESENTATION));
        let line = position * 20_000 + 1;
        let context = error.as_server().unwrap().context.clone().unwrap();
        assert_eq!(context, format!("COPY t, line {line}, column id: \"no number\""));
        assert_usable(&mut db);
        assert_eq!(content(&mut db), "");
    }
    assert_eq!(store(face, &mut db, "copy t from stdin", &[&good]).unwrap(), 20_000);
}

fn h6_an_error_at_the_end(face: Face) {
    let mut db = with_table("id int4, unique (id) deferrable initially deferred");
    let error = store(face, &mut db, "copy t from stdin", &[b"1\n2\n", b"1\n"]).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION));
    assert_usable(&mut db);
    assert_eq!(content(&mut db), "");
    // The last row is not complete.
    make_pairs(&mut db);
    let error = store(face, &mut db, "copy pairs from stdin", &[b"1\t2\n3"]).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::BAD_COPY_FILE_FORMAT));
    assert_usable(&mut db);
}

fn make_pairs(db: &mut chopin_pg::PgConnection) {
    db.execute_batch("create temp table pairs (a int4, b int4)").unwrap();
}

fn h6_an_error_of_copy_out(face: Face) {
    let mut db = connect();
    // At the start, after one row, after many.
    for (rows, size) in [(0, 0), (1, 3), (50_000, 3)] {
        let sql = format!(
            "copy (select 1000 / ({rows} - i) from generate_series(0, 100000) i) to stdout"
        );
        let error = fetch(face, &mut db, &sql).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::DIVISION_BY_ZERO), "{size}");
        assert_usable(&mut db);
    }
    let error = fetch(face, &mut db, "copy no_such to stdout").unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_TABLE));
    assert_usable(&mut db);
}

#[test]
fn h6_the_error_comes_from_every_later_call() {
    let mut db = with_table("id int4");
    let mut writer = db.copy_in("copy t from stdin").unwrap();
    let lines = b"no number\n".repeat(10_000);
    let mut first = None;
    for _ in 0..100 {
        if let Err(error) = writer.write_data(&lines) {
            first = Some(error.to_string());
            break;
        }
    }
    let first = first.expect("an error while data are written");
    assert_eq!(writer.write_data(b"1\n").unwrap_err().to_string(), first);
    assert_eq!(writer.write_row((1,)).unwrap_err().to_string(), first);
    assert_eq!(writer.finish().unwrap_err().to_string(), first);
    assert_usable(&mut db);
    // Who gives up learns that it had failed before.
    let mut writer = db.copy_in("copy t from stdin").unwrap();
    while writer.write_data(&lines).is_ok() {}
    assert_eq!(writer.fail("why").unwrap_err().to_string(), first);
    assert_usable(&mut db);
}

#[test]
fn h6_a_value_that_is_refused_leaves_the_copy_going() {
    let mut db = with_table("id int4, word text");
    for options in [CopyOptions::text(), CopyOptions::csv(), CopyOptions::binary()] {
        let mut writer = db.copy_in(CopyIn::table("t").options(options)).unwrap();
        writer.write_row((1, "one")).unwrap();
        let error = writer.write_row((2, "a\0b")).unwrap_err();
        assert!(matches!(&error, PgError::Parameter(p) if p.set == Some(1)), "{error}");
        assert!(error.to_string().starts_with("row 2, column "), "{error}");
        let error = writer.write_row((2,)).unwrap_err().to_string();
        assert!(error.contains("row 2 has 1 values, but the COPY has 2 columns"), "{error}");
        writer.write_row((2, "two")).unwrap();
        assert_eq!(writer.finish().unwrap(), 2);
        assert_eq!(content(&mut db), "1|one\n2|two");
        db.execute_batch("truncate t").unwrap();
    }
}

#[test]
fn h48_copies_inside_of_strings_of_statements_are_still_refused() {
    let mut db = with_table("id int4");
    let error = db.execute_batch("select 1; copy t from stdin").unwrap_err();
    assert!(matches!(&error, PgError::Usage(why) if why.contains("copy_in")), "{error}");
    assert_usable(&mut db);
}

/// Whatever else a server answers a COPY with breaks the connection, and the ticket ends.
#[test]
fn h6_answers_that_are_out_of_place_break_the_connection() {
    let cases: [(&str, Vec<Vec<u8>>); 6] = [
        ("copy t from stdin", vec![frames::copy_out_response(0, &[0])]),
        ("copy t to stdout", vec![frames::copy_in_response(0, &[0])]),
        ("copy t to stdout", vec![frames::copy_both_response(0, &[0])]),
        ("copy t from stdin", vec![frames::command_complete("COPY 0")]),
        // Complete before the data are.
        (
            "copy t from stdin",
            vec![
                frames::copy_in_response(0, &[0]),
                frames::command_complete("COPY 0"),
                frames::ready_for_query(b'I'),
            ],
        ),
        ("copy t to stdout", vec![frames::copy_out_response(0, &[0]), frames::data_row(&[None])]),
    ];
    for (sql, answer) in cases {
        let server = FakeServer::start(move |conn| {
            conn.login()?;
            conn.expect(b'Q')?;
            conn.send_frames(&answer)?;
            conn.drain()
        });
        let mut db = chopin_pg::PgConnection::connect(&fake_config(&server)).unwrap();
        let request = match sql {
            "copy t to stdout" => Request::CopyOut { sql },
            _ => Request::CopyIn { sql },
        };
        let ticket = db.submit(request, Delivery::Events).unwrap();
        db.flush();
        let (mut failed, mut broken) = (0, None);
        while broken.is_none() {
            let _budget_or_idle = db.drive();
            loop {
                match db.next_event() {
                    Ok(Some(chopin_pg::Event::Failed { ticket: of, .. })) => {
                        assert_eq!(of, ticket);
                        failed += 1;
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        broken = Some(error);
                        break;
                    }
                }
            }
        }
        assert!(matches!(broken, Some(PgError::Protocol(_))), "{sql}: {broken:?}");
        assert_eq!(failed, 1, "{sql}");
        assert!(matches!(db.copy_data(ticket, b"1\n"), Err(PgError::NotSent(_))));
        drop(db);
        server.join();
    }
}

#[test]
fn h20_a_server_that_ends_in_the_middle_is_heard() {
    let mut db = with_table("id int4");
    let (mut other, pid) = (connect(), db.process_id());
    let mut writer = db.copy_in("copy t from stdin").unwrap();
    writer.write_row((1,)).unwrap();
    // The session is ended by another one; the server says so in a FATAL error.
    other.query_one("select pg_terminate_backend($1)", &[&pid]).unwrap();
    let error = loop {
        if let Err(error) = writer.write_data(&[b'1', b'\n'].repeat(100_000)) {
            break error;
        }
    };
    assert_eq!(error.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "{error}");
    assert!(writer.finish().is_err());
    assert!(db.is_broken());
}

#[test]
fn h20_a_server_that_hangs_up_is_an_io_error_of_its_own_kind() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("copy t to stdout")?;
        conn.send_frames(&[frames::copy_out_response(0, &[0]), frames::copy_data(b"1\n")])?;
        conn.hang_up()
    });
    let mut db = chopin_pg::PgConnection::connect(&fake_config(&server)).unwrap();
    let mut reader = db.copy_out("copy t to stdout").unwrap();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "1\n", "what came before it counts");
    let error = reader.read_line(&mut line).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    assert!(matches!(PgError::from(error), PgError::ConnectionClosed(_)));
    drop(reader);
    assert!(db.is_broken());
    server.join();
}

#[test]
fn h6_a_ticket_that_takes_no_data_says_so() {
    let mut db = with_table("id int4");
    let ticket = db.submit(Request::CopyIn { sql: "copy t from stdin" }, Delivery::Events).unwrap();
    db.copy_done(ticket).unwrap();
    for error in [
        db.copy_data(ticket, b"1\n").unwrap_err(),
        db.copy_done(ticket).unwrap_err(),
        db.copy_fail(ticket, "why").unwrap_err(),
    ] {
        assert!(matches!(error, PgError::Usage(_)), "{error}");
    }
    assert_eq!(Outcome::default().end(&mut db, ticket).unwrap(), 0);
    assert!(matches!(db.copy_data(ticket, b"1\n"), Err(PgError::Usage(_))));
    let error = db.submit(Request::CopyOut { sql: "copy t to stdout" }, Delivery::Collect);
    assert!(matches!(error, Err(PgError::Usage(_))));
    assert_usable(&mut db);
}
