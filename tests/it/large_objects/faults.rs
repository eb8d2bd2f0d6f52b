//! Large objects when something goes wrong.

use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use chopin_pg::{ExecutionMode, LargeObjectMode, PgConnection, PgError, PgResult, SqlState};
use testkit::fake::{Answer, FakeServer};
use testkit::frames::Column;

use super::{bytes, contents, in_transaction, new_object};
use crate::support::*;

const LONG: Duration = Duration::from_secs(20);

/// Takes or gives so many bytes, then fails.
struct Faulty(usize);

impl Faulty {
    fn step(&mut self, wanted: usize) -> io::Result<usize> {
        let count = wanted.min(self.0);
        self.0 -= count;
        match count {
            0 => Err(io::Error::new(io::ErrorKind::StorageFull, "no more")),
            count => Ok(count),
        }
    }
}

impl Write for Faulty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.step(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Faulty {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.step(into.len())
    }
}

#[test]
fn b17_outside_of_a_transaction_it_is_refused() {
    let mut db = connect();
    let oid = db.create_large_object(None).unwrap();
    let refused = "refused: a large object is open within a transaction only: call begin first";
    let error = db.open_large_object(oid, LargeObjectMode::Read).unwrap_err();
    assert_eq!(error.to_string(), refused);
    assert_eq!(db.import_large_object(&b"x"[..]).unwrap_err().to_string(), refused);
    assert_eq!(db.export_large_object(oid, io::sink()).unwrap_err().to_string(), refused);
    assert_usable(&mut db);
    // In a failed one the server says it.
    db.begin().unwrap();
    assert!(db.execute_batch("select 1 / 0").is_err());
    let error = db.open_large_object(oid, LargeObjectMode::Read).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::IN_FAILED_SQL_TRANSACTION));
    db.rollback().unwrap();
    db.unlink_large_object(oid).unwrap();
}

#[test]
fn b17_errors_of_the_server_are_inside_and_come_out() {
    let mut db = in_transaction();
    let oid = new_object(&mut db, b"read only");
    db.execute_batch("savepoint s").unwrap();
    let mut object = db.open_large_object(oid, LargeObjectMode::Read).unwrap();
    // The write is on its way; the next thing that waits tells.
    object.write_all(b"x").unwrap();
    let error = object.flush().unwrap_err();
    let inside = error.source().or(error.get_ref().map(|inside| inside as &dyn Error));
    assert!(inside.is_some(), "{error:?}");
    assert!(error.to_string().contains("not opened for writing"), "{error}");
    let error = PgError::from(error);
    assert_eq!(error.sql_state(), Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE));
    assert!(error.as_server().unwrap().query.as_deref().unwrap().contains("lowrite"));
    let error = object.close().unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::IN_FAILED_SQL_TRANSACTION));
    db.execute_batch("rollback to s").unwrap();
    assert_usable(&mut db);

    // `?` gets it out.
    fn read(db: &mut PgConnection, oid: chopin_pg::Oid) -> PgResult<()> {
        let mut object = db.open_large_object(oid, LargeObjectMode::Read)?;
        object.write_all(b"x")?;
        Ok(object.flush()?)
    }
    assert!(matches!(read(&mut db, oid), Err(PgError::Server(_))));
    db.execute_batch("rollback to s").unwrap();
    let error = db.open_large_object(chopin_pg::Oid::new(1), LargeObjectMode::Read).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_OBJECT));
    db.rollback().unwrap();
    assert_usable(&mut db);
}

#[test]
fn b17_h6_a_target_or_source_that_fails_leaves_all_in_step() {
    let mut db = in_transaction();
    let expected = bytes(4_000_000, 3);
    let oid = new_object(&mut db, &expected);
    let mut object = db.open_large_object(oid, LargeObjectMode::Read).unwrap();
    let error = object.copy_to(Faulty(1_000_000)).unwrap_err();
    assert!(matches!(&error, PgError::Io(io) if io.kind() == io::ErrorKind::StorageFull));
    // The position is behind the last whole piece, and the answers that nobody wanted are not
    // taken for another's.
    assert_eq!(object.position(), 3 * 256 * 1024);
    let mut rest = Vec::new();
    object.copy_to(&mut rest).unwrap();
    assert!(rest == expected[3 * 256 * 1024..]);
    object.close().unwrap();
    assert!(db.export_large_object(oid, Faulty(0)).is_err());
    assert_usable(&mut db);

    let mut object = db.open_large_object(oid, LargeObjectMode::Write).unwrap();
    let error = object.copy_from(Faulty(1_000_000)).unwrap_err();
    assert!(matches!(&error, PgError::Io(io) if io.kind() == io::ErrorKind::StorageFull));
    object.seek(SeekFrom::Start(0)).unwrap();
    object.write_all(b"still in step").unwrap();
    object.close().unwrap();
    assert_eq!(contents(&mut db, oid)[..13], *b"still in step");
    assert!(matches!(db.import_large_object(Faulty(10)), Err(PgError::Io(_))));
    db.commit().unwrap();
}

#[test]
fn b17_h21_h22_dropping_does_what_was_written() {
    let mut db = in_transaction();
    let oid = db.create_large_object(None).unwrap();
    let expected = bytes(1_000_000, 4);
    let mut object = db.open_large_object(oid, LargeObjectMode::Write).unwrap();
    object.write_all(&expected).unwrap();
    drop(object);
    assert!(contents(&mut db, oid) == expected);
    // It is closed too: numbers are given out again.
    let descriptors: Vec<i32> = (0..3)
        .map(|_| {
            drop(db.open_large_object(oid, LargeObjectMode::Read).unwrap());
            let sql = "select lo_open($1, 262144)";
            db.query_one(sql, &[&oid]).unwrap().get(0).unwrap()
        })
        .collect();
    assert_eq!(descriptors, [0, 1, 2]);
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let mut object = db.open_large_object(oid, LargeObjectMode::Write).unwrap();
        object.write_all(b"unwinding").unwrap();
        std::panic::panic_any("unwinding");
    }));
    assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"unwinding"));
    assert_eq!(contents(&mut db, oid)[..9], *b"unwinding");
    db.commit().unwrap();
    assert_eq!(db.in_flight(), 0);
    db.unlink_large_object(oid).unwrap();
}

#[test]
fn b17_a_write_that_fails_unseen_fails_the_commit() {
    let mut db = in_transaction();
    let oid = new_object(&mut db, b"read only");
    let mut object = db.open_large_object(oid, LargeObjectMode::Read).unwrap();
    object.write_all(b"x").unwrap();
    drop(object);
    assert!(matches!(db.commit(), Err(PgError::RolledBack)));
    assert_usable(&mut db);
}

#[test]
fn b17_h21_what_was_written_is_never_taken_back() {
    // A server that reads nothing while the object is dropped: most of the writes are unsent then,
    // for a Unix-domain socket takes far less than they are.
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect_query("BEGIN")?;
        conn.send_frames(&[
            testkit::frames::command_complete("BEGIN"),
            testkit::frames::ready_for_query(b'T'),
        ])?;
        let number = |n: &'static [u8]| Answer::rows(&[Column::int4("n")]).row(&[Some(n)]);
        conn.answer_extended(&number(&[0, 0, 0, 5]))?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        for _ in 0..8 {
            let group = conn.answer_extended(&number(&[0, 4, 0, 0]))?;
            let bind = group.iter().find_map(|frame| frame.as_bind().ok()).expect("a Bind");
            let [_, Some(piece)] = bind.params.as_slice() else { panic!("{bind:?}") };
            assert_eq!(piece.len(), 256 * 1024);
        }
        conn.expect_query("select pg_catalog.lo_close(5)")?;
        conn.answer_query(&Answer::command("SELECT 1"))?;
        conn.expect_query("COMMIT")?;
        conn.answer_query(&Answer::command("COMMIT"))?;
        conn.drain()
    });
    let folder = server.socket_dir().to_str().unwrap();
    let config = fake_config(&server).host(folder).io_timeout(LONG).drain_timeout(Duration::ZERO);
    let mut db = PgConnection::connect(&config).unwrap();
    db.begin().unwrap();
    let mut object = db.open_large_object(chopin_pg::Oid::new(7), LargeObjectMode::Write).unwrap();
    object.write_all(&vec![1; 8 * 256 * 1024]).unwrap();
    drop(object);
    go.send(()).unwrap();
    db.commit().unwrap();
    drop(db);
    server.join();
}

#[test]
fn b17_h21_dropping_closes_even_when_a_limit_is_reached() {
    for config in [config().max_in_flight(1), config().max_send_buffer(1)] {
        let mut db = PgConnection::connect(&config).unwrap();
        db.begin().unwrap();
        let oid = db.create_large_object(None).unwrap();
        let mut object = db.open_large_object(oid, LargeObjectMode::Write).unwrap();
        object.write_all(&bytes(200_000, 6)).unwrap();
        drop(object);
        // The number of the descriptor is free again.
        let sql = "select lo_open($1, 262144)";
        assert_eq!(db.query_one(sql, &[&oid]).unwrap().get::<i32>(0).unwrap(), 0);
        assert!(contents(&mut db, oid) == bytes(200_000, 6));
    }
}

#[test]
fn b17_in_every_execution_mode() {
    let modes = [ExecutionMode::Cached, ExecutionMode::Unnamed, ExecutionMode::Simple];
    for mode in modes {
        let mut db = PgConnection::connect(&config().execution_mode(mode)).unwrap();
        db.begin().unwrap();
        let expected = bytes(3_000_000, 5);
        let oid = db.import_large_object(expected.as_slice()).unwrap();
        let mut exported = Vec::new();
        db.export_large_object(oid, &mut exported).unwrap();
        assert!(exported == expected, "{mode:?}");
        let mut object = db.open_large_object(oid, LargeObjectMode::ReadWrite).unwrap();
        object.truncate(9).unwrap();
        assert_eq!(object.seek(SeekFrom::End(-1)).unwrap(), 8);
        object.write_all(b"drop").unwrap();
        drop(object);
        exported.clear();
        db.export_large_object(oid, &mut exported).unwrap();
        assert!(exported[..8] == expected[..8] && exported[8..] == *b"drop", "{mode:?}");
        db.unlink_large_object(oid).unwrap();
        db.commit().unwrap();
        assert_eq!(db.execution_mode(), mode);
    }
}

#[test]
fn b17_what_takes_too_long_fails_the_transaction() {
    let mut db = connect();
    let oid = new_object(&mut db, b"old");
    // Another session has changed the same page, and does not commit.
    let mut other = connect();
    other.begin().unwrap();
    other.query("select lo_put($1, 0, 'other')", &[&oid]).unwrap();
    db.begin().unwrap();
    db.set_io_timeout(Duration::from_millis(300));
    let mut object = db.open_large_object(oid, LargeObjectMode::Write).unwrap();
    object.write_all(b"new").unwrap();
    let error = PgError::from(object.flush().unwrap_err());
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    drop(object);
    db.set_io_timeout(LONG);
    assert!(matches!(db.commit(), Err(PgError::RolledBack)));
    other.commit().unwrap();
    assert_eq!(contents(&mut db, oid), b"other");
    db.unlink_large_object(oid).unwrap();
}

#[test]
fn b17_limits_of_the_configuration_are_kept() {
    for config in
        [config().max_in_flight(1), config().max_send_buffer(1), config().max_in_flight(3)]
    {
        let mut db = PgConnection::connect(&config).unwrap();
        db.begin().unwrap();
        let expected = bytes(3_000_000, 5);
        let oid = db.import_large_object(expected.as_slice()).unwrap();
        let mut exported = Vec::new();
        db.export_large_object(oid, &mut exported).unwrap();
        assert!(exported == expected);
        let mut object = db.open_large_object(oid, LargeObjectMode::ReadWrite).unwrap();
        object.seek(SeekFrom::Start(1_000_000)).unwrap();
        object.write_all(b"x").unwrap();
        let mut next = [0];
        object.read_exact(&mut next).unwrap();
        assert_eq!(next[0], expected[1_000_001]);
        drop(object);
        assert_usable(&mut db);
    }
}

#[test]
fn b17_a_server_that_gives_more_than_asked_for_is_refused() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("BEGIN")?;
        conn.send_frames(&[
            testkit::frames::command_complete("BEGIN"),
            testkit::frames::ready_for_query(b'T'),
        ])?;
        let answer = Answer::rows(&[Column::int4("n")]).row(&[Some(&[0, 0, 0, 5])]);
        conn.answer_extended(&answer)?;
        let answer = Answer::rows(&[Column::new("loread", 17, -1)]).row(&[Some(b"four")]);
        conn.answer_extended(&answer)?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    db.begin().unwrap();
    let mut object = db.open_large_object(chopin_pg::Oid::new(7), LargeObjectMode::Read).unwrap();
    let error = object.read(&mut [0; 3]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(
        error.to_string().contains("loread returned 4 bytes where 3 were asked for"),
        "{error}"
    );
    drop(object);
    drop(db);
    server.join();
}
