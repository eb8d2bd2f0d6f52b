//! Dropping what is in use never waits and never panics, whatever waits in the buffers.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use chopin_pg::types::{Encoded, Out, TypeMap};
use chopin_pg::{Oid, PgConnection, PgResult, Request, StaticType, ToSql};
use testkit::fake::FakeServer;

use super::{EVENTS, LONG};
use crate::support::*;

/// A server that reads nothing after the login until it is told that the client is gone; then it
/// finds everything that was sent, and the end.
fn stuck_server() -> (FakeServer, Sender<()>) {
    let (gone, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        // Gives up long after a drop that waits would have been noticed.
        let gone = wait.lock().unwrap().recv_timeout(Duration::from_secs(10));
        gone.map_err(|_| "the client does not come back from its drop")?;
        conn.drain()
    });
    (server, gone)
}

/// More than the sockets between a client and a server that does not read can take.
fn too_much() -> String {
    "x".repeat(15 << 20)
}

/// What leaves a connection with a full send buffer, and drops it or a handle on it.
const FULL: &[(&str, fn(PgConnection))] = &[
    ("connection, after a timeout", |mut db| {
        db.set_io_timeout(Duration::from_millis(20));
        db.query("select $1::text", &[&too_much()]).unwrap_err();
    }),
    ("connection, amid its requests", |mut db| {
        let large = too_much();
        let request = Request::Query { sql: "select $1::text", params: &(&large,) };
        db.submit_with(request, EVENTS).map(drop).unwrap();
        db.submit_with(request, COLLECT.no_sync()).map(drop).unwrap();
        let _budget_or_idle = db.drive();
    }),
    ("pipeline", |mut db| {
        let mut pipeline = db.pipeline();
        pipeline.query("select $1::text", (too_much(),)).unwrap();
        pipeline.sync().unwrap();
        pipeline.query("select $1::text", (too_much(),)).unwrap();
        drop(pipeline);
    }),
    ("stream", |mut db| {
        let large = too_much();
        db.set_io_timeout(Duration::from_millis(20));
        let mut rows = db.stream("select $1::text", (&large,)).unwrap();
        rows.next().map(drop).unwrap_err();
        drop(rows);
        db.set_io_timeout(LONG);
        // Unsent as a whole, and not to be sent any more.
        drop(db.stream("select $1::text", (&large,)));
    }),
];

#[test]
fn h21_a_drop_with_a_full_send_buffer_returns_at_once() {
    for (what, fill_and_drop) in FULL {
        let (server, gone) = stuck_server();
        let db = PgConnection::connect(&fake_config(&server).io_timeout(LONG)).unwrap();
        fill_and_drop(db);
        gone.send(()).unwrap_or_else(|_| panic!("{what}: the server has given up"));
        server.join();
    }
}

#[test]
fn h21_h22_so_it_does_during_a_panic() {
    for (what, fill_and_drop) in FULL {
        let (server, gone) = stuck_server();
        let config = fake_config(&server).io_timeout(LONG);
        let unwound = catch_unwind(|| {
            let db = PgConnection::connect(&config).unwrap();
            let _dropped_while_unwinding = DropBy(Some((*fill_and_drop, db)));
            panic_any("the program's own");
        });
        assert_eq!(unwound.unwrap_err().downcast_ref(), Some(&"the program's own"), "{what}");
        gone.send(()).unwrap_or_else(|_| panic!("{what}: the server has given up"));
        server.join();
    }
}

/// Hands a connection to a function when it is dropped.
struct DropBy(Option<(fn(PgConnection), PgConnection)>);

impl Drop for DropBy {
    fn drop(&mut self) {
        let (function, connection) = self.0.take().expect("it is dropped once");
        assert!(std::thread::panicking());
        function(connection);
    }
}

/// Programs that panic while they use a connection, in a call or between two.
const PANICS: &[(&str, fn(&mut PgConnection))] = &[
    ("amid a stream", |db| {
        let mut rows = db.stream("select generate_series(1, 100000)", ()).unwrap();
        assert!(rows.next().unwrap().is_some());
        panic_any(());
    }),
    ("in a row's closure", |db| {
        let mut rows = db.stream("select generate_series(1, 100000)", ()).unwrap();
        rows.for_each(|row| match row.get(0)? {
            100 => panic_any(()),
            _other @ 0..=i32::MAX => Ok(()),
            _ => Ok(()),
        })
        .unwrap();
    }),
    ("amid a string of statements", |db| {
        let mut rows = db.stream_simple("select 1; select 2; select 1 / 0").unwrap();
        assert!(rows.next_result().unwrap());
        panic_any(());
    }),
    ("amid a pipeline", |db| {
        let mut pipeline = db.pipeline();
        pipeline.query("select repeat('x', 1000000)", ()).unwrap();
        pipeline.sync().unwrap();
        pipeline.query("select 1 / 0", ()).unwrap();
        panic_any(());
    }),
    ("in a transaction", |db| {
        db.begin().unwrap();
        db.execute("select 1", &[]).unwrap();
        panic_any(());
    }),
    ("with requests in flight", |db| {
        let request = Request::Query { sql: "select repeat('x', 1000000)", params: &() };
        db.submit_with(request, COLLECT).map(drop).unwrap();
        db.submit_with(request, COLLECT).map(drop).unwrap();
        let _budget_or_idle = db.drive();
        panic_any(());
    }),
    ("in a notice's handler", |db| {
        db.set_notice_handler(|_| panic_any(()));
        db.execute_batch("do 'begin raise notice ''panic''; end'").unwrap();
    }),
    ("in a parameter", |db| {
        db.query("select $1::text, $2::text", &[&"sent before", &Panics]).unwrap();
    }),
    ("in a parameter of a statement that is known", |db| {
        for text in [Some("known"), None] {
            let panics: &dyn ToSql = text.as_ref().map_or(&Panics, |text| text);
            db.query("select $1::text, $2::text", &[&"sent before", panics]).unwrap();
        }
    }),
];

/// A value that cannot be encoded, and does not say so.
#[derive(Debug)]
struct Panics;

impl StaticType for Panics {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::UNSPECIFIED
    }
}

impl ToSql for Panics {
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::UNSPECIFIED
    }

    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        out.put(b"half a value");
        panic_any(());
    }
}

#[test]
fn h22_a_connection_outlives_a_panic_of_its_program() {
    for (what, panics) in PANICS {
        let mut db = connect();
        let unwound = catch_unwind(AssertUnwindSafe(|| panics(&mut db)));
        assert!(unwound.unwrap_err().is::<()>(), "{what}: there was one panic, and no other");
        db.clear_notice_handler();
        if db.transaction_status() != chopin_pg::TransactionStatus::Idle {
            db.rollback().unwrap();
        }
        let usable = catch_unwind(AssertUnwindSafe(|| assert_usable(&mut db)));
        assert!(usable.is_ok(), "{what}");
    }
}

#[test]
fn h22_the_server_sees_the_end_of_a_connection_that_is_dropped_by_a_panic() {
    let mut other = connect();
    for (what, panics) in PANICS {
        let db = connect();
        let process_id = db.process_id();
        let unwound = catch_unwind(AssertUnwindSafe(move || {
            let mut db = db;
            panics(&mut db);
        }));
        assert!(unwound.unwrap_err().is::<()>(), "{what}: there was one panic, and no other");
        let sql = "select exists (select from pg_stat_activity where pid = $1)";
        while other.query_one(sql, &[&process_id]).unwrap().get::<bool>(0).unwrap() {}
    }
}
