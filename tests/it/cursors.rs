//! Cursors: portals that are fetched from in pieces.

use std::time::Duration;

use chopin_pg::{
    Cursor, Delivery, Event, ExecutionMode, PgConnection, PgError, Request, Row, TransactionStatus,
};

use crate::support::*;

fn numbers(rows: &[Row]) -> Vec<i32> {
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

fn open(db: &mut PgConnection, last: i32) -> Cursor {
    db.query_cursor("select generate_series(1, $1)", (last,)).unwrap()
}

/// The portals that this session has, but for the unnamed one.
fn portals(db: &mut PgConnection) -> i64 {
    let counted = db.query_one("select count(*) from pg_cursors where name like 'chopin%'", &[]);
    counted.unwrap().get(0).unwrap()
}

fn server_code(error: &PgError) -> &str {
    error.as_server().map_or("", |error| error.code.as_str())
}

#[test]
fn b10_a_cursor_is_fetched_in_pieces_with_other_requests_in_between() {
    let mut db = connect();
    db.begin().unwrap();
    let mut one = open(&mut db, 10);
    let mut other = open(&mut db, 5);
    assert_eq!(one.columns()[0].name(), "generate_series");
    assert_eq!(one.sql(), "select generate_series(1, $1)");
    assert_eq!(numbers(&db.fetch(&mut one, 4).unwrap()), [1, 2, 3, 4]);
    assert_usable(&mut db);
    assert_eq!(numbers(&db.fetch(&mut other, 3).unwrap()), [1, 2, 3]);
    assert_eq!(numbers(&db.fetch(&mut one, 4).unwrap()), [5, 6, 7, 8]);
    assert_eq!(db.last_command_tag(), "", "the command is not done");
    assert!(!one.is_done());
    assert_eq!(numbers(&db.fetch(&mut one, 4).unwrap()), [9, 10]);
    assert!(one.is_done() && !other.is_done());
    assert_eq!(db.last_command_tag(), "SELECT 2", "what the last fetch has brought");
    assert!(db.fetch(&mut one, 4).unwrap().is_empty());
    assert_eq!(numbers(&db.fetch(&mut other, 0).unwrap()), [4, 5]);
    assert!(other.is_done());
    db.commit().unwrap();
    assert_usable(&mut db);
}

#[test]
fn b10_the_end_is_known_when_a_fetch_meets_it() {
    let mut db = connect();
    db.begin().unwrap();
    let mut cursor = open(&mut db, 4);
    assert_eq!(numbers(&db.fetch(&mut cursor, 2).unwrap()), [1, 2]);
    assert_eq!(numbers(&db.fetch(&mut cursor, 2).unwrap()), [3, 4]);
    assert!(!cursor.is_done(), "the server has not looked for a fifth");
    assert!(db.fetch(&mut cursor, 2).unwrap().is_empty());
    assert!(cursor.is_done());
    db.rollback().unwrap();
}

#[test]
fn b10_a_cursor_is_fetched_by_events() {
    let mut db = connect();
    db.begin().unwrap();
    let sql = "select generate_series(1, $1)";
    let opening = db.submit(Request::OpenCursor { sql, params: &(5,) }, Delivery::Collect).unwrap();
    run_events(&mut db, 1, |_| {}).unwrap();
    let cursor = db.take(opening).unwrap().unwrap().into_cursor().unwrap();

    // Two fetches and a query between them, all under way at once.
    let fetch = Request::Fetch { cursor: &cursor, max_rows: 3 };
    let first = db.submit(fetch, Delivery::Events).unwrap();
    let query = Request::Query { sql: "select 7", params: &() };
    let between = db.submit(query, Delivery::Rows).unwrap();
    let second = db.submit(fetch, Delivery::Events).unwrap();
    let mut told = Vec::new();
    run_events(&mut db, 3, |event| {
        told.push(match event {
            Event::Row { ticket, row } => (ticket, format!("row {}", row.get::<i32>(0).unwrap())),
            Event::PortalSuspended { ticket } => (ticket, "suspended".to_owned()),
            Event::CommandComplete { ticket, tag } => (ticket, tag.to_string()),
            Event::Complete { ticket } => (ticket, "complete".to_owned()),
            other => panic!("{other:?}"),
        });
    })
    .unwrap();
    let of = |ticket| -> Vec<&str> {
        told.iter().filter(|(whose, _)| *whose == ticket).map(|(_, what)| what.as_str()).collect()
    };
    assert_eq!(of(first), ["row 1", "row 2", "row 3", "suspended", "complete"]);
    assert_eq!(of(between), ["row 7", "complete"]);
    assert_eq!(of(second), ["row 4", "row 5", "SELECT 2", "complete"]);
    assert!(cursor.is_done());
    db.rollback().unwrap();
    assert_usable(&mut db);
}

#[test]
fn b10_a_fetch_is_streamed() {
    let mut db = connect();
    db.begin().unwrap();
    let mut cursor = open(&mut db, 1_000);
    let mut rows = db.fetch_stream(&mut cursor, 600).unwrap();
    let mut sum = 0;
    while let Some(row) = rows.next().unwrap() {
        sum += row.get::<i32>(0).unwrap();
    }
    assert_eq!((sum, rows.command_tag()), ((1..=600).sum(), ""));
    drop(rows);
    // Of the next hundred only one is looked at; they have been fetched all the same.
    let mut rows = db.fetch_stream(&mut cursor, 100).unwrap();
    assert_eq!(rows.next().unwrap().unwrap().get::<i32>(0).unwrap(), 601);
    drop(rows);
    let left = db.fetch(&mut cursor, 0).unwrap();
    assert_eq!(numbers(&left), (701..=1_000).collect::<Vec<_>>());
    db.rollback().unwrap();
}

#[test]
fn b10_a_cursor_needs_a_transaction() {
    let mut db = connect();
    let error = db.query_cursor("select 1", ()).unwrap_err();
    assert!(matches!(error, PgError::Usage(_)), "{error}");
    assert!(error.to_string().contains("begin one first"), "{error}");
    assert_usable(&mut db);

    // It ends with its transaction, whatever has become of that.
    for end in [PgConnection::commit, PgConnection::rollback] {
        db.begin().unwrap();
        let mut cursor = open(&mut db, 3);
        end(&mut db).unwrap();
        // Nothing is sent, so that a new transaction would not fail by it.
        db.begin().unwrap();
        let error = db.fetch(&mut cursor, 1).unwrap_err();
        assert!(matches!(&error, PgError::Usage(why) if why.contains("is over")), "{error}");
        assert_usable(&mut db);
        db.rollback().unwrap();
    }
    // One of another connection is not found either, and is never mistaken for one of its own.
    let mut other = connect();
    other.begin().unwrap();
    let own = open(&mut other, 3);
    db.begin().unwrap();
    let mut foreign = open(&mut db, 3);
    let error = other.fetch(&mut foreign, 1).unwrap_err();
    assert_eq!(server_code(&error), "34000", "{error}");
    drop(own);
    other.rollback().unwrap();
    assert_usable(&mut other);
}

#[test]
fn b10_errors_of_a_cursor_are_those_of_its_transaction() {
    let mut db = connect();
    db.begin().unwrap();
    let error = db.query_cursor("select 1 from nowhere", ()).unwrap_err();
    assert_eq!(server_code(&error), "42P01", "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
    assert_eq!(db.transaction_status(), TransactionStatus::Failed);
    db.rollback().unwrap();

    db.begin().unwrap();
    let mut cursor =
        db.query_cursor("select 12 / (4 - i) from generate_series(1, 9) i", ()).unwrap();
    assert_eq!(numbers(&db.fetch(&mut cursor, 2).unwrap()), [4, 6]);
    let error = db.fetch(&mut cursor, 2).unwrap_err();
    assert_eq!(server_code(&error), "22012", "{error}");
    assert!(!cursor.is_done());
    db.rollback().unwrap();
    assert_usable(&mut db);

    let error = db.begin().and_then(|()| {
        let mut cursor = open(&mut db, 1);
        db.fetch(&mut cursor, u32::MAX)
    });
    let error = error.unwrap_err();
    assert!(matches!(&error, PgError::Usage(_)), "{error}");
    assert!(error.to_string().contains("4294967295 rows are more than"), "{error}");
    db.rollback().unwrap();
    assert_usable(&mut db);
}

#[test]
fn b10_a_cursor_that_is_dropped_is_closed() {
    let mut db = connect();
    db.begin().unwrap();
    let kept = open(&mut db, 1);
    for _ in 0..100 {
        let mut cursor = open(&mut db, 3);
        db.fetch(&mut cursor, 1).unwrap();
    }
    db.execute("select 1", &[]).unwrap();
    assert_eq!(portals(&mut db), 1, "only the one that is kept");
    db.close_cursor(kept).unwrap();
    assert_eq!(portals(&mut db), 0);

    // Also one that is dropped while it is fetched from, by events.
    let cursor = open(&mut db, 1);
    let fetch = Request::Fetch { cursor: &cursor, max_rows: 1 };
    let _ticket = db.submit(fetch, Delivery::Rows).unwrap();
    drop(cursor);
    db.flush();
    let _ticket = db.submit(Request::Sync, Delivery::Events).unwrap();
    run_events(&mut db, 2, |_| {}).unwrap();
    db.query_in(ExecutionMode::Unnamed, "select 1", ()).unwrap();
    assert_eq!(portals(&mut db), 0);

    // A Close that a failed transaction has skipped does no harm.
    let cursor = open(&mut db, 1);
    db.execute("select 1 / 0", &[]).unwrap_err();
    db.close_cursor(cursor).unwrap();
    db.rollback().unwrap();
    assert_usable(&mut db);
    assert_eq!(db.engine().prepared_statements(), 4, "that of the queries, and no portal");
}

#[test]
fn b10_statements_without_rows_are_done_at_once() {
    let mut db = connect();
    db.begin().unwrap();
    db.execute_batch("create temp table bits (bit int4)").unwrap();
    let mut cursor = db.query_cursor("insert into bits values ($1), (2)", (1,)).unwrap();
    assert!(cursor.columns().is_empty());
    assert_eq!(db.fetch(&mut cursor, 1).unwrap().len(), 0);
    assert!(cursor.is_done());
    assert_eq!(db.last_command_tag(), "INSERT 0 2");
    // The server would refuse to run it again, and the transaction would have failed.
    assert!(db.fetch_stream(&mut cursor, 1).unwrap().next().unwrap().is_none());
    assert!(db.fetch(&mut cursor, 1).unwrap().is_empty());
    assert_eq!(numbers(&db.query("select bit from bits", &[]).unwrap()), [1, 2]);
    db.rollback().unwrap();
}

#[test]
fn b10_columns_without_binary_output_come_as_text_from_the_next_cursor_on() {
    let mut db = connect();
    let sql = "select 'postgres=r/postgres'::aclitem, 1";
    db.begin().unwrap();
    let mut cursor = db.query_cursor(sql, ()).unwrap();
    let error = db.fetch(&mut cursor, 1).unwrap_err();
    assert_eq!(server_code(&error), "42883", "{error}");
    db.rollback().unwrap();

    db.begin().unwrap();
    let mut cursor = db.query_cursor(sql, ()).unwrap();
    let rows = db.fetch(&mut cursor, 1).unwrap();
    assert_eq!(rows[0].get::<i32>(1).unwrap(), 1);
    db.rollback().unwrap();
    assert_usable(&mut db);
}

#[test]
fn h15_notifications_between_the_fetches_of_a_cursor_are_kept() {
    let (mut db, mut other) = (connect(), connect());
    let channel = testkit::unique("cursor");
    db.listen(&channel).unwrap();
    db.begin().unwrap();
    let mut cursor = open(&mut db, 6);
    for payload in ["one", "two", "three"] {
        other.notify(&channel, payload).unwrap();
        assert_eq!(db.fetch(&mut cursor, 2).unwrap().len(), 2);
    }
    // The server tells them when the transaction is over.
    db.commit().unwrap();
    assert_usable(&mut db);
    let payloads: Vec<_> = db.drain_notifications().map(|note| note.payload).collect();
    assert_eq!(payloads, ["one", "two", "three"]);
}

#[test]
fn h1_h20_a_fetch_that_takes_too_long_leaves_nothing_behind() {
    let mut db = connect();
    db.begin().unwrap();
    let sql = "select i from generate_series(1, 1000) i where pg_sleep(0.02) is not null";
    let mut cursor = db.query_cursor(sql, ()).unwrap();
    assert_eq!(numbers(&db.fetch(&mut cursor, 1).unwrap()), [1]);
    // Rows trickle in all the time: that is no progress of the operation.
    let error = db.within(Duration::from_millis(100)).fetch(&mut cursor, 0).unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    // The rows of that fetch are lost: nothing is fetched that would pass over them.
    assert!(!cursor.is_done());
    let error = db.fetch(&mut cursor, 1).unwrap_err();
    assert!(matches!(&error, PgError::Usage(why) if why.contains("rows are lost")), "{error}");
    assert!(db.fetch_stream(&mut cursor, 1).is_err());
    db.rollback().unwrap();
    assert_usable(&mut db);
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
}

#[test]
fn b10_cursors_are_opened_by_handles_only() {
    let mut db = connect();
    let request = Request::OpenCursor { sql: "select 1", params: &() };
    let error = db.submit(request, Delivery::Events).unwrap_err();
    assert!(error.to_string().contains("Delivery::Collect"), "{error}");
    assert_usable(&mut db);
    let shown = {
        db.begin().unwrap();
        format!("{:?}", open(&mut db, 2))
    };
    assert!(shown.contains("generate_series") && shown.contains("is_done: false"), "{shown}");
    assert_eq!(db.last_command_tag(), "BEGIN");
    db.rollback().unwrap();
}
