//! Large COPYs, in both directions at once, and data of every length.

use std::time::Duration;

use chopin_pg::{CopyIn, CopyOptions, CopyOut, Delivery, PgConfig, PgConnection, PgError, Request};
use rustix::net::sockopt;
use testkit::transport::{Cut, Ending, Policy, Relay};

use super::{Outcome, fetch, store};
use crate::support::*;

/// How many rows.
const ROWS: usize = 2000;

/// How many bytes each has.
const BYTES: usize = 30_000;

const LONG: Duration = Duration::from_secs(60);

/// A connection with small socket buffers.
fn connect_narrow(config: &PgConfig) -> PgConnection {
    let db = PgConnection::connect(&config.clone().io_timeout(LONG)).unwrap();
    // Smaller ones make TCP wait for acknowledgements that are delayed.
    sockopt::set_socket_send_buffer_size(&db, 32 * 1024).unwrap();
    sockopt::set_socket_recv_buffer_size(&db, 32 * 1024).unwrap();
    db
}

on_both_faces!(
    h16_chunks_of_every_length,
    h21_a_copy_in_which_the_server_is_lost_is_an_error,
    h22_a_copy_comes_whole_however_it_is_cut,
    h23_large_rows_go_in_and_come_out_through_narrow_sockets,
    h23_a_server_that_talks_while_it_is_written_to_never_locks_up,
);

fn h23_large_rows_go_in_and_come_out_through_narrow_sockets(face: Face) {
    for config in [config(), unix_config()] {
        let mut db = connect_narrow(&config);
        super::make_table(&mut db, "word text");
        let row = [vec![b'x'; BYTES], b"\n".to_vec()].concat();
        let rows = vec![row.as_slice(); ROWS];
        assert_eq!(store(face, &mut db, "copy t from stdin", &rows).unwrap(), ROWS as u64);
        let data = fetch(face, &mut db, "copy t to stdout").unwrap();
        assert_eq!(data.len(), ROWS * (BYTES + 1));
        assert!(data.chunks(BYTES + 1).all(|line| line == row));
        assert_usable(&mut db);
    }
}

/// The server answers every row with a notice as large: it stops reading when nobody reads these.
fn h23_a_server_that_talks_while_it_is_written_to_never_locks_up(face: Face) {
    let mut db = connect_narrow(&config());
    super::make_table(&mut db, "word text");
    db.execute_batch(
        "create function pg_temp.say() returns trigger language plpgsql as \
         $$ begin raise notice '%', new.word; return null; end $$; \
         create trigger say before insert on t for each row execute function pg_temp.say()",
    )
    .unwrap();
    let heard = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = std::rc::Rc::clone(&heard);
    db.set_notice_handler(move |notice| {
        assert_eq!(notice.message.len(), BYTES);
        count.set(count.get() + 1);
    });
    let row = [vec![b'x'; BYTES], b"\n".to_vec()].concat();
    let rows = vec![row.as_slice(); ROWS];
    assert_eq!(store(face, &mut db, "copy t from stdin", &rows).unwrap(), 0);
    assert_eq!(heard.get(), ROWS);
    assert_usable(&mut db);
}

fn relayed(relay: &Relay) -> PgConfig {
    PgConfig::new("127.0.0.1", relay.port(), testkit::shared().superuser(), "", "postgres")
}

fn h22_a_copy_comes_whole_however_it_is_cut(face: Face) {
    let policies = [Policy::one_byte(), Policy::cut(Cut::Random { seed: 7, most: 11 })];
    for policy in policies {
        let relay = Relay::start(testkit::shared().tcp(), policy);
        let mut db = PgConnection::connect(&relayed(&relay)).unwrap();
        super::make_table(&mut db, "id int4, word text");
        let data = b"1\tone\n2\ttwo\n".as_slice();
        assert_eq!(store(face, &mut db, "copy t from stdin", &[data, data]).unwrap(), 4);
        assert_eq!(fetch(face, &mut db, "copy t to stdout").unwrap(), [data, data].concat());
        let error = store(face, &mut db, "copy t from stdin", &[data, b"x\n"]).unwrap_err();
        assert!(error.as_server().is_some(), "{error}");
        assert_usable(&mut db);
    }
}

/// The server dies after any number of bytes: an error each time, and the ticket ends once.
fn h21_a_copy_in_which_the_server_is_lost_is_an_error(face: Face) {
    let shared = testkit::shared();
    let act = |config: &PgConfig| -> chopin_pg::PgResult<()> {
        let mut db = PgConnection::connect(config).unwrap();
        let sql = "copy (select i, 'row' from generate_series(1, 3) i) to stdout";
        assert_eq!(fetch(face, &mut db, sql)?, b"1\trow\n2\trow\n3\trow\n");
        db.query_simple("create temp table t (id int4)")?;
        assert_eq!(store(face, &mut db, "copy t from stdin", &[b"1\n"])?, 1);
        Ok(())
    };
    let whole = Relay::start(shared.tcp(), Policy::default());
    drop(PgConnection::connect(&relayed(&whole)).unwrap());
    let startup = whole.bytes_from_server();
    act(&relayed(&whole)).unwrap();
    let all = whole.bytes_from_server() - startup;
    for stop in startup..all {
        let relay = Relay::start(shared.tcp(), Policy::default().stop_after(stop, Ending::Close));
        let error = act(&relayed(&relay)).unwrap_err();
        let is_lost =
            matches!(error, PgError::ConnectionClosed(_) | PgError::Io(_) | PgError::NotSent(_));
        assert!(is_lost, "{stop}: {error}");
    }
}

/// Every power of two, one less and one more.
fn lengths(most: u32) -> impl Iterator<Item = usize> {
    (0..=most).flat_map(|power| {
        let length = 1usize << power;
        [length - 1, length, length + 1]
    })
}

fn h16_chunks_of_every_length(face: Face) {
    let mut db = PgConnection::connect(&config().io_timeout(LONG)).unwrap();
    db.execute_batch(
        "create temp table t (id serial, word text); alter table t alter word set storage external",
    )
    .unwrap();
    let data = vec![b'x'; (1 << 26) + 1];
    // The largest go once, between others.
    let largest = if matches!(face, Face::Blocking) { (1 << 26) + 1 } else { (1 << 26) - 1 };
    let all: Vec<usize> = lengths(21).chain([largest]).collect();
    for length in &all {
        let pieces: [&[u8]; 3] = [b"y", &data[..*length], b"z\n"];
        let stored = store(face, &mut db, "copy t (word) from stdin", &pieces);
        assert_eq!(stored.unwrap(), 1, "{length}");
    }
    let rows = db.query("select octet_length(word) from t order by id", &[]).unwrap();
    let found: Vec<usize> =
        rows.iter().map(|row| row.get::<i32>(0).unwrap().try_into().unwrap()).collect();
    assert_eq!(found, all.iter().map(|length| length + 2).collect::<Vec<_>>());
}

#[test]
fn h16_cells_of_every_length() {
    let mut db = PgConnection::connect(&config().io_timeout(LONG)).unwrap();
    db.execute_batch("create temp table t (id serial, word bytea)").unwrap();
    let data = vec![b'x'; (1 << 20) + 1];
    for length in lengths(20) {
        let copy = CopyIn::table("t").columns(["word"]).options(CopyOptions::binary());
        let mut writer = db.copy_in(copy).unwrap();
        writer.write_row((&data[..length],)).unwrap();
        assert_eq!(writer.finish().unwrap(), 1);
    }
    let copy = CopyOut::query("select word from t order by id").options(CopyOptions::binary());
    let mut reader = db.copy_out(copy).unwrap();
    for length in lengths(20) {
        let row = reader.next_row().unwrap().unwrap();
        assert!(row.get::<&[u8]>(0).unwrap() == &data[..length], "{length}");
    }
    assert!(reader.next_row().unwrap().is_none());
}

#[test]
fn h16_a_message_over_the_limit_ends_the_connection_with_a_clear_error() {
    let mut db = PgConnection::connect(&config().max_message_size(100_000)).unwrap();
    let sql = "copy (select repeat('x', 200000)) to stdout";
    let error = db.copy_out(sql).unwrap().read_all().unwrap_err();
    assert!(matches!(error, PgError::BufferOverflow(_)), "{error}");
    assert!(db.is_broken());
}

#[test]
fn h41_memory_does_not_grow_with_the_copy() {
    let mut db = PgConnection::connect(&config().max_send_buffer(1 << 20)).unwrap();
    super::make_table(&mut db, "word text");
    let ticket = db.submit(Request::CopyIn { sql: "copy t from stdin" }, Delivery::Events).unwrap();
    let mut outcome = Outcome::default();
    let row = [vec![b'x'; BYTES], b"\n".to_vec()].concat();
    let mut most = 0;
    for _ in 0..ROWS {
        while let Err(PgError::WouldBlock) = db.copy_data(ticket, &row) {
            outcome.drive(&mut db, ticket);
        }
        most = most.max(db.engine().send_pending().len());
    }
    db.copy_done(ticket).unwrap();
    assert_eq!(outcome.end(&mut db, ticket).unwrap(), ROWS as u64);
    assert!(most <= (1 << 20) + 2 * row.len(), "{most} bytes waited to be sent");
    assert_eq!(db.engine().send_pending().len(), 0);
}
