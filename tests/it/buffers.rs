//! Lengths of everything, limits, and memory that is given back; and ends of connections whose
//! buffers are full.

mod drops;
mod memory;

use std::iter::once;

use chopin_pg::connection::Submit;
use chopin_pg::{Delivery, ExecutionMode, PgConfig, PgConnection, PgError, Request};
use testkit::fake::scram::{ScramServer, Verdict};
use testkit::fake::{FakeConn, FakeServer};
use testkit::frames::{self, Column};

use crate::support::*;

const LONG: std::time::Duration = std::time::Duration::from_secs(60);

/// 64 MiB.
const LONGEST: usize = 64 << 20;

/// All lengths up to 70, and from there every power of two up to `most` with its neighbours.
fn lengths(most: usize) -> impl Iterator<Item = usize> {
    let powers = (7..=most.ilog2()).flat_map(|power| {
        let power = 1usize << power;
        [power - 1, power, power + 1]
    });
    (0..=70).chain(powers)
}

/// Which texts of about the longest length a face is tried with: they take their time.
fn longest_of(face: Face) -> &'static [usize] {
    match face {
        Face::Blocking => &[LONGEST - 1, LONGEST],
        Face::NonBlocking => &[LONGEST + 1],
    }
}

/// A text of this length in which no part looks like another.
fn text(length: usize) -> String {
    let mut text = String::with_capacity(length + 8);
    for number in 0u32.. {
        if text.len() >= length {
            break;
        }
        text.push_str(&number.to_string());
        text.push(' ');
    }
    text.truncate(length);
    text
}

fn connect_patiently() -> PgConnection {
    PgConnection::connect(&config().io_timeout(LONG)).unwrap()
}

on_both_faces!(
    h16_parameters_and_values_of_every_length_come_back,
    h16_texts_of_every_length_are_run,
    h16_a_value_of_a_gibibyte_is_refused_and_nothing_is_sent,
    h17_a_message_over_the_limit_breaks_the_connection,
    h17_the_limit_is_the_program_s_to_set,
);

fn h16_parameters_and_values_of_every_length_come_back(face: Face) {
    let mut db = connect_patiently();
    let longest = text(LONGEST + 1);
    for length in lengths(1 << 17) {
        let (text, bytes) = (&longest[..length], &longest.as_bytes()[..length]);
        let sql = "select $1::text, $2::bytea, $3::text[], $4::int4";
        let params = (text, bytes, vec![text, "", text], 7);
        let rows = face.query(&mut db, sql, params).unwrap();
        let (came, bytes_came, list, seven): (&str, &[u8], Vec<&str>, i32) = rows[0].to().unwrap();
        assert!(came == text && bytes_came == bytes && list == [text, "", text], "{length}");
        assert_eq!(seven, 7);
    }
    // The large ones one way on each face.
    let filled = "x".repeat(LONGEST + 1);
    for power in (18..=LONGEST.ilog2()).step_by(2) {
        for length in (1usize << power) - 1..=(1 << power) + 1 {
            let number = i32::try_from(length).unwrap();
            match face {
                Face::Blocking => assert_goes(&mut db, &longest.as_bytes()[..length], number),
                Face::NonBlocking => assert_comes(face, &mut db, &filled[..length], number),
            }
        }
    }
    assert_usable(&mut db);
}

/// A parameter of `length` bytes arrives at the server, and so does what stands behind it.
#[track_caller]
fn assert_goes(db: &mut PgConnection, bytes: &[u8], length: i32) {
    let sql = "select octet_length($1), substr($1, $2), $3::int4";
    let row = db.query_one(sql, &[&bytes, &(length - 9), &7]).unwrap();
    let (came, end, seven): (i32, &[u8], i32) = row.to().unwrap();
    assert_eq!((came, Some(end), seven), (length, bytes.last_chunk::<10>().map(|end| &end[..]), 7));
}

/// A value of `length` bytes comes from the server, and so does what stands behind it.
#[track_caller]
fn assert_comes(face: Face, db: &mut PgConnection, filled: &str, length: i32) {
    let rows = face.query(db, "select repeat('x', $1), $2::int4", (length, 7)).unwrap();
    let (came, seven): (&str, i32) = rows[0].to().unwrap();
    assert!(came == filled && seven == 7, "{length}");
}

/// A statement of this length, and the text that it returns.
fn statement(filling: &str, length: usize) -> (String, Option<&str>) {
    match length.checked_sub("select ''".len()) {
        Some(room) => (format!("select '{}'", &filling[..room]), Some(&filling[..room])),
        None => (" ".repeat(length), None),
    }
}

fn h16_texts_of_every_length_are_run(face: Face) {
    let mut db = connect_patiently();
    let filling = text(LONGEST + 1);
    for length in lengths(1 << 17).chain(longest_of(face).iter().copied()) {
        let (sql, expected) = statement(&filling, length);
        assert_eq!(sql.len(), length);
        let modes: &[ExecutionMode] = match length {
            LONGEST => &[ExecutionMode::Simple],
            length if length > 1 << 20 => &[ExecutionMode::Cached],
            _ => &[ExecutionMode::Cached, ExecutionMode::Unnamed, ExecutionMode::Simple],
        };
        for mode in modes.iter().copied() {
            let rows = face.query_in(&mut db, mode, &sql, ()).unwrap();
            let came = rows.first().map(|row| row.get::<&str>(0).unwrap());
            assert!(came == expected, "{length} {mode:?}");
        }
        if length <= 1 << 20 {
            let statement = face.prepare(&mut db, &sql).unwrap();
            assert!(statement.sql() == sql);
            let rows = face.query_prepared(&mut db, &statement, ()).unwrap();
            assert!(rows.first().map(|row| row.get::<&str>(0).unwrap()) == expected, "{length}");
        }
    }
    assert_usable(&mut db);
}

fn h16_a_value_of_a_gibibyte_is_refused_and_nothing_is_sent(face: Face) {
    let mut db = connect_patiently();
    // Of pages that nobody ever touches.
    let gibibyte = vec![0u8; 1 << 30];
    let refused = |error: PgError| {
        let text = error.to_string();
        assert!(text.contains("longer than a server accepts"), "{text}");
        assert!(!error.is_safe_to_retry(), "it never fits: {text}");
    };
    let statement = face.prepare(&mut db, "select $1::int4, $2::bytea").unwrap();
    for _ in 0..2 {
        // Unknown to the server, then known.
        for params in [(1, gibibyte.as_slice()), (1, &[])] {
            let queried = face.query(&mut db, "select $1::int4, $2::bytea", params);
            let prepared = face.query_prepared(&mut db, &statement, params);
            if params.1.is_empty() {
                queried.and(prepared).unwrap();
            } else {
                refused(queried.unwrap_err());
                refused(prepared.unwrap_err());
            }
        }
        assert_usable(&mut db);
    }
    // In a list, in a batch behind a set that fits, and in a group that goes on without it.
    refused(face.query(&mut db, "select $1::bytea[]", (vec![gibibyte.as_slice()],)).unwrap_err());
    let sets = [(b"fits".as_slice(),), (&gibibyte,)];
    refused(db.execute_many("select $1::bytea", sets).unwrap_err());
    let mut pipeline = db.pipeline();
    pipeline.query("select 'before'", ()).unwrap();
    refused(pipeline.query("select $1::bytea", (&gibibyte,)).unwrap_err());
    pipeline.query("select 'behind'", ()).unwrap();
    let results = pipeline.finish().unwrap();
    let texts: Vec<String> =
        results.into_iter().map(|result| result.unwrap().rows()[0].get(0).unwrap()).collect();
    assert_eq!(texts, ["before", "behind"]);
    assert_usable(&mut db);
}

fn h17_a_message_over_the_limit_breaks_the_connection(face: Face) {
    let limit = PgConfig::MIN_MESSAGE_SIZE;
    let connect = || PgConnection::connect(&config().max_message_size(limit)).unwrap();
    let over = |error: &PgError| {
        let text = error.to_string();
        assert!(matches!(error, PgError::BufferOverflow(_)), "{text}");
        assert!(text.contains("are more than the limit of 65536 bytes"), "{text}");
        assert!(text.contains("(max_message_size = 65536)"), "{text}");
    };
    // A row is one message, of two bytes and four for each cell beside the cells.
    let most = i32::try_from(limit).unwrap() - 6;
    let mut db = connect();
    let row = &face.query(&mut db, "select repeat('x', $1)", (most,)).unwrap()[0];
    assert_eq!(row.get::<&str>(0).unwrap().len(), limit - 6);
    over(&face.query(&mut db, "select repeat('x', $1)", (most + 1,)).unwrap_err());
    assert!(db.is_broken());
    let again = face.query(&mut db, "select 1", ()).unwrap_err();
    assert!(matches!(&again, PgError::NotSent(why) if matches!(**why, PgError::BufferOverflow(_))));

    // Whoever else waits is told too; what came before has its answer.
    let mut db = connect();
    let large = Request::Query { sql: "select repeat('x', 100000)", params: &() };
    let small = Request::Query { sql: "select 1", params: &() };
    let tickets =
        [small, large, small].map(|request| db.submit(request, Delivery::Collect).unwrap());
    match face {
        Face::Blocking => over(&db.query("select 1", &[]).unwrap_err()),
        Face::NonBlocking => over(&run_events(&mut db, 3, |_| {}).unwrap_err()),
    }
    assert_eq!(db.take(tickets[0]).unwrap().unwrap().last().len(), 1);
    over(&db.take(tickets[1]).unwrap_err());
    over(&db.take(tickets[2]).unwrap_err());
}

fn h17_the_limit_is_the_program_s_to_set(face: Face) {
    // It is told as soon as the length is there, and whatever kind of message it is.
    let answers: [(&str, fn() -> Vec<u8>); 3] = [
        ("row", || {
            let column = frames::row_description(&[Column::text("t")]);
            [column, frames::raw(b'D', 200_004, b"")].concat()
        }),
        ("notice", || frames::raw(b'N', 200_004, b"")),
        ("error", || frames::raw(b'E', 200_004, b"")),
    ];
    for (what, answer) in answers {
        let server = FakeServer::start(move |conn| {
            conn.login()?;
            conn.expect_query("select 1")?;
            conn.send(&answer())?;
            conn.drain()
        });
        let config = fake_config(&server).io_timeout(LONG).max_message_size(199_999);
        let mut db = PgConnection::connect(&config).unwrap();
        let error = face.query_in(&mut db, ExecutionMode::Simple, "select 1", ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "200000 bytes are more than the limit of 199999 bytes (max_message_size = 199999)",
            "{what}"
        );
        assert!(db.is_broken());
        drop(db);
        server.join();
    }
}

/// Logs in with passwords of every length; `ask` is how the server asks for one, and checks it.
fn passwords(
    lengths: impl Iterator<Item = usize>,
    ask: fn(&mut FakeConn, &str) -> testkit::fake::FakeResult,
) {
    let longest = text(LONGEST + 1);
    for length in lengths {
        let password = longest[..length].to_owned();
        let expected = password.clone();
        let server = FakeServer::start(move |conn| {
            conn.startup()?;
            ask(conn, &expected)?;
            conn.expect_eof()
        });
        let config = fake_config(&server).io_timeout(LONG).password(password);
        let result = PgConnection::connect(&config);
        if length == 0 {
            // Nobody has one.
            let error = result.map(drop).unwrap_err();
            assert!(matches!(error, PgError::Auth(_)), "{error}");
            assert!(error.to_string().contains("asks for a password"), "{error}");
        } else {
            drop(result.unwrap());
        }
        server.join();
    }
}

#[test]
fn h16_passwords_of_every_length_are_sent_whole() {
    let few = [LONGEST - 1, LONGEST, LONGEST + 1];
    passwords(lengths(1 << 18).chain(few), |conn, expected| {
        conn.send(&frames::authentication_cleartext_password())?;
        if expected.is_empty() {
            return Ok(());
        }
        if conn.expect(b'p')?.as_password()? != expected {
            return Err("another password came".into());
        }
        conn.send(&frames::authentication_ok())?;
        conn.welcome()
    });
}

#[test]
fn h16_passwords_of_every_length_are_proved() {
    passwords(lengths(1 << 14).chain(once(LONGEST)), |conn, expected| {
        if expected.is_empty() {
            return conn.send(&frames::authentication_sasl(&["SCRAM-SHA-256"]));
        }
        match ScramServer::new(expected).iterations(2).authenticate(conn)? {
            Verdict::Accepted => conn.welcome(),
            verdict => Err(format!("the proof is {verdict:?}").into()),
        }
    });
}

/// Submits without a deadline.
const EVENTS: Submit = Submit::new(Delivery::Events);
