//! Large objects.

mod faults;

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use chopin_pg::{LargeObjectMode, Oid, PgConnection, PgError, SqlState};

use crate::support::*;

/// Bytes that follow from a seed; no two places in them look alike.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A connection within a transaction, which ends with the test.
fn in_transaction() -> PgConnection {
    let mut db = connect();
    db.begin().unwrap();
    db
}

/// What the server itself says is in a large object.
fn contents(db: &mut PgConnection, oid: Oid) -> Vec<u8> {
    db.query_one("select lo_get($1)", &[&oid]).unwrap().get(0).unwrap()
}

fn new_object(db: &mut PgConnection, contents: &[u8]) -> Oid {
    db.query_one("select lo_from_bytea(0, $1)", &[&contents]).unwrap().get(0).unwrap()
}

#[test]
fn b17_what_is_written_is_read_back() {
    let mut db = in_transaction();
    for (length, piece) in [(0, 1), (1, 1), (2048, 100), (100_000, 4096), (3_000_001, 700_000)] {
        let expected = bytes(length, 7);
        let oid = db.create_large_object(None).unwrap();
        let mut object = db.open_large_object(oid, LargeObjectMode::ReadWrite).unwrap();
        assert_eq!((object.oid(), object.position()), (oid, 0));
        for piece in expected.chunks(piece) {
            object.write_all(piece).unwrap();
        }
        assert_eq!(object.position(), length as u64);
        assert_eq!(object.size().unwrap(), length as u64);
        assert_eq!(object.read(&mut [0; 10]).unwrap(), 0, "it is at its end");
        object.rewind().unwrap();
        let mut read = Vec::new();
        object.read_to_end(&mut read).unwrap();
        assert!(read == expected, "{length} bytes in pieces of {piece}");
        object.close().unwrap();
        assert!(contents(&mut db, oid) == expected);
        assert_usable(&mut db);
    }
}

#[test]
fn b17_import_and_export() {
    let mut db = in_transaction();
    for length in [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 10_000_000] {
        let expected = bytes(length, 8);
        let oid = db.import_large_object(expected.as_slice()).unwrap();
        let mut exported = Vec::new();
        assert_eq!(db.export_large_object(oid, &mut exported).unwrap(), length as u64);
        assert!(exported == expected, "{length} bytes");
        db.unlink_large_object(oid).unwrap();
    }
    assert_eq!(db.next_event().unwrap().map(|event| format!("{event:?}")), None, "nothing is left");
    assert_usable(&mut db);
    db.commit().unwrap();
}

#[test]
fn b17_pieces_are_on_their_way_together() {
    let mut db = in_transaction();
    let oid = new_object(&mut db, &bytes(5 * 256 * 1024, 9));
    let lines = traced(&mut db, |db| {
        db.export_large_object(oid, io::sink()).unwrap();
    });
    let sent_before_the_first_piece = lines
        .iter()
        .skip_while(|line| !line.contains("loread"))
        .take_while(|line| !line.contains("DataRow"))
        .filter(|line| line.contains("Execute"))
        .count();
    assert!(sent_before_the_first_piece > 5, "{lines:#?}");
}

#[test]
fn b17_positions_beyond_4_gib() {
    const FAR: u64 = (1 << 40) + 12_345;
    let mut db = in_transaction();
    let oid = db.create_large_object(None).unwrap();
    let mut object = db.open_large_object(oid, LargeObjectMode::ReadWrite).unwrap();
    for (position, text) in [(5_000_000_000, "five billion"), (FAR, "a terabyte"), (3, "near")] {
        assert_eq!(object.seek(SeekFrom::Start(position)).unwrap(), position);
        object.write_all(text.as_bytes()).unwrap();
        assert_eq!(object.stream_position().unwrap(), position + text.len() as u64);
    }
    assert_eq!(object.size().unwrap(), FAR + 10);
    // What lies between is zeros.
    let mut read = [1; 20];
    object.seek(SeekFrom::Start(5_000_000_000 - 4)).unwrap();
    object.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"\0\0\0\0five billion\0\0\0\0");
    assert_eq!(object.seek(SeekFrom::End(-8)).unwrap(), FAR + 2);
    let mut text = String::new();
    object.read_to_string(&mut text).unwrap();
    assert_eq!(text, "terabyte");
    assert_eq!(object.seek(SeekFrom::Current(-4)).unwrap(), FAR + 6);
    text.clear();
    object.read_to_string(&mut text).unwrap();
    assert_eq!(text, "byte");
    // Behind the end there is nothing.
    assert_eq!(object.seek(SeekFrom::End(1 << 20)).unwrap(), FAR + 10 + (1 << 20));
    assert_eq!(object.read(&mut read).unwrap(), 0);
    object.truncate(5_000_000_004).unwrap();
    assert_eq!(object.size().unwrap(), 5_000_000_004);
    object.seek(SeekFrom::End(-4)).unwrap();
    text.clear();
    object.read_to_string(&mut text).unwrap();
    assert_eq!(text, "five");
    // It grows as well, and the position stays.
    object.truncate(6_000_000_000).unwrap();
    assert_eq!((object.position(), object.size().unwrap()), (5_000_000_004, 6_000_000_000));
    object.close().unwrap();
    assert_usable(&mut db);
}

#[test]
fn b17_seeking_to_nowhere_leaves_the_transaction_alone() {
    let mut db = in_transaction();
    let oid = new_object(&mut db, b"0123456789");
    let mut object = db.open_large_object(oid, LargeObjectMode::Read).unwrap();
    object.seek(SeekFrom::Start(4)).unwrap();
    for to in [
        SeekFrom::Current(-5),
        SeekFrom::End(-11),
        SeekFrom::Start(u64::MAX),
        SeekFrom::Current(i64::MAX),
    ] {
        let error = object.seek(to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{to:?}: {error}");
    }
    let mut rest = String::new();
    object.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "456789");
    // What the server does not take is its own error, with the read.
    object.seek(SeekFrom::Start(1 << 62)).unwrap();
    let error = PgError::from(object.read(&mut [0]).unwrap_err());
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_PARAMETER_VALUE), "{error}");
    drop(object);
    assert!(matches!(db.commit(), Err(PgError::RolledBack)));
    assert_usable(&mut db);
}

#[test]
fn b17_short_reads_and_overwriting() {
    let mut db = in_transaction();
    let oid = new_object(&mut db, b"0123456789");
    let mut object = db.open_large_object(oid, LargeObjectMode::ReadWrite).unwrap();
    let mut buffer = [0; 4];
    assert_eq!(object.read(&mut []).unwrap(), 0);
    assert_eq!((object.read(&mut buffer).unwrap(), &buffer), (4, b"0123"));
    assert_eq!(object.write(b"").unwrap(), 0);
    object.write_all(b"ab").unwrap();
    assert_eq!((object.read(&mut buffer).unwrap(), &buffer), (4, b"6789"));
    assert_eq!(object.read(&mut buffer).unwrap(), 0);
    object.seek(SeekFrom::Start(8)).unwrap();
    assert_eq!((object.read(&mut buffer).unwrap(), &buffer[..2]), (2, &b"89"[..]));
    object.rewind().unwrap();
    let first = BufReader::with_capacity(3, &mut object).bytes().map(|byte| byte.unwrap());
    assert!(first.eq(*b"0123ab6789"));
    object.close().unwrap();
    // One write is no more than a request may have; std's write_all goes on.
    let mut object = db.open_large_object(oid, LargeObjectMode::Write).unwrap();
    assert_eq!(object.write(&vec![1; 1 << 20]).unwrap(), 256 * 1024);
    object.flush().unwrap();
    object.close().unwrap();
    assert_eq!(contents(&mut db, oid).len(), 256 * 1024);
}

#[test]
fn b17_copying_from_and_to_the_middle() {
    let mut db = in_transaction();
    let oid = new_object(&mut db, &bytes(1_000_000, 1));
    let mut object = db.open_large_object(oid, LargeObjectMode::ReadWrite).unwrap();
    object.seek(SeekFrom::Start(500_000)).unwrap();
    let middle = bytes(900_000, 2);
    assert_eq!(object.copy_from(middle.as_slice()).unwrap(), 900_000);
    assert_eq!(object.position(), 1_400_000);
    object.seek(SeekFrom::Start(499_998)).unwrap();
    let mut copied = Vec::new();
    assert_eq!(object.copy_to(&mut copied).unwrap(), 900_002);
    assert!(copied[..2] == bytes(1_000_000, 1)[499_998..500_000] && copied[2..] == middle);
    assert_eq!(object.position(), 1_400_000);
    // And on it goes where it stands.
    object.write_all(b"end").unwrap();
    object.seek(SeekFrom::End(-4)).unwrap();
    copied.clear();
    assert_eq!(object.copy_to(&mut copied).unwrap(), 4);
    assert_eq!(copied[1..], *b"end");
}

#[test]
fn b17_numbers_given_and_taken() {
    let mut db = in_transaction();
    let free = db.create_large_object(None).unwrap();
    db.unlink_large_object(free).unwrap();
    assert_eq!(db.create_large_object(Some(free)).unwrap(), free);
    let error = db.create_large_object(Some(free)).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION));
    db.rollback().unwrap();
    let error = db.unlink_large_object(free).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_OBJECT));
    assert_usable(&mut db);
    // Without a transaction one is created and deleted too.
    let oid = db.create_large_object(None).unwrap();
    db.unlink_large_object(oid).unwrap();
}
