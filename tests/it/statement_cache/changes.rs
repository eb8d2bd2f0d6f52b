//! Cached statements in a world that has changed: a table of changes, each tried alone, before and
//! inside a transaction, and with a prepared handle.

use chopin_pg::{
    Delivery, Event, PgConnection, PgError, PgResult, Request, Row, SqlState, TransactionStatus,
};

use super::query;
use crate::support::*;

on_both_faces! {
    b9_h14_a_changed_world_is_noticed_at_once,
    b9_h14_a_changed_world_is_noticed_through_a_handle,
    b9_h14_a_change_before_a_transaction_fails_it_once,
    b9_h14_a_change_in_a_transaction_fails_it_and_goes_with_it,
    b9_h14_a_stale_batch_is_run_once,
}

/// Something that changes what a text means while the server has it prepared. `{s}` stands for a
/// schema, which is the search_path, and `{s}_b` for another one; `works (a)` is in both.
struct Change {
    sql: &'static str,
    change: &'static str,
    /// What the query returns before.
    before: &'static str,
    /// What it returns afterwards, rows or an SQLSTATE.
    after: Result<&'static str, &'static str>,
    /// What the server answers to the stale statement; `None` where it notices by itself, or the
    /// driver does.
    refusal: Option<&'static str>,
}

const CHANGES: &[Change] = &[
    Change {
        sql: "select * from works",
        change: "alter table works add b text default 'x'",
        before: "1",
        after: Ok("1|x"),
        refusal: Some("0A000"),
    },
    Change {
        sql: "update works set a = a where a = 1 returning *",
        change: "alter table works add b text default 'x'",
        before: "1",
        after: Ok("1|x"),
        refusal: Some("0A000"),
    },
    Change {
        sql: "table works",
        change: "alter table works alter a type text using 'was ' || a",
        before: "1",
        after: Ok("was 1"),
        refusal: Some("0A000"),
    },
    Change {
        sql: "select a from works",
        change: "alter table works alter a type int8 using a + 5000000000",
        before: "1",
        after: Ok("5000000001"),
        refusal: Some("0A000"),
    },
    Change {
        sql: "select a from works",
        change: "alter table works rename a to b",
        before: "1",
        after: Err("42703"),
        refusal: Some("42703"),
    },
    Change {
        sql: "select * from works",
        change: "drop table works",
        before: "1",
        after: Err("42P01"),
        refusal: Some("42P01"),
    },
    Change {
        sql: "select * from works",
        change: "drop table works; create table works (t text, a int4); \
                 insert into works values ('new', 2)",
        before: "1",
        after: Ok("new|2"),
        refusal: Some("0A000"),
    },
    Change {
        sql: "select * from works",
        change: "drop table works; create table works (a int4); insert into works values (3)",
        before: "1",
        after: Ok("3"),
        refusal: None,
    },
    Change {
        sql: "select * from works",
        change: "set search_path to {s}_b; alter table works add b bool default true",
        before: "1",
        after: Ok("2|t"),
        refusal: Some("0A000"),
    },
    Change {
        sql: "select * from works",
        change: "set search_path to {s}_b",
        before: "1",
        after: Ok("2"),
        refusal: None,
    },
    Change {
        sql: "select twice(a) from works",
        change: "drop function twice; create function twice(int4) returns text \
                 language sql as 'select $1 || '' twice'''",
        before: "2",
        after: Ok("1 twice"),
        refusal: Some("0A000"),
    },
    Change {
        sql: "select * from works",
        change: "deallocate all",
        before: "1",
        after: Ok("1"),
        refusal: None,
    },
    Change {
        sql: "select * from works",
        change: "do $$ declare p text; begin for p in select name from pg_prepared_statements \
                 loop execute 'deallocate ' || p; end loop; end $$",
        before: "1",
        after: Ok("1"),
        refusal: Some("26000"),
    },
];

/// A session with `works` and another one in two schemas of its own, of which the first is the
/// search_path; and the name of that.
pub(super) fn session() -> (PgConnection, String) {
    let mut db = connect();
    let schema = testkit::unique("cache");
    let sql = "create schema {s}_b; create table {s}_b.works (a int4); \
               insert into {s}_b.works values (2); \
               create schema {s}; set search_path to {s}; \
               create table works (a int4); insert into works values (1); \
               create function twice(int4) returns int4 language sql as 'select 2 * $1'";
    db.execute_batch(&sql.replace("{s}", &schema)).unwrap();
    (db, schema)
}

/// Rows or the server's own error.
pub(super) fn answer(result: PgResult<Vec<Row>>) -> Result<String, String> {
    match result {
        Ok(rows) => Ok(printed(&rows)),
        Err(PgError::Server(error)) => Err(error.code.to_string()),
        Err(error) => panic!("{error}"),
    }
}

impl Change {
    /// A session in which the server has the query prepared.
    fn session(&self, face: Face) -> (PgConnection, String) {
        let (mut db, schema) = session();
        for _ in 0..2 {
            assert_eq!(printed(&face.query(&mut db, self.sql, ()).unwrap()), self.before);
        }
        (db, self.change.replace("{s}", &schema))
    }

    #[track_caller]
    fn assert_after(&self, result: PgResult<Vec<Row>>) {
        let after = self.after.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(answer(result), after, "{} after {}", self.sql, self.change);
    }

    /// The first run in a transaction in which the statement is stale.
    #[track_caller]
    fn assert_in_transaction(&self, face: Face, db: &mut PgConnection) {
        let result = face.query(db, self.sql, ());
        let Some(refusal) = self.refusal else {
            return self.assert_after(result);
        };
        let error = result.unwrap_err();
        assert!(matches!(error, PgError::NotRun(_)), "{}: {error}", self.change);
        assert!(error.is_safe_to_retry());
        assert_eq!(error.sql_state().unwrap().as_str(), refusal);
        assert_eq!(db.transaction_status(), TransactionStatus::Failed);
        let error = face.query(db, self.sql, ()).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::IN_FAILED_SQL_TRANSACTION));
    }
}

fn b9_h14_a_changed_world_is_noticed_at_once(face: Face) {
    for change in CHANGES {
        let (mut db, sql) = change.session(face);
        db.execute_batch(&sql).unwrap();
        for _ in 0..3 {
            change.assert_after(face.query(&mut db, change.sql, ()));
        }
        assert_usable(&mut db);
    }
}

fn b9_h14_a_changed_world_is_noticed_through_a_handle(face: Face) {
    for change in CHANGES {
        let (mut db, sql) = change.session(face);
        let handle = face.prepare(&mut db, change.sql).unwrap();
        let rows = face.query_prepared(&mut db, &handle, ()).unwrap();
        assert_eq!(printed(&rows), change.before);
        db.execute_batch(&sql).unwrap();
        for _ in 0..3 {
            change.assert_after(face.query_prepared(&mut db, &handle, ()));
        }
        assert_usable(&mut db);
    }
}

fn b9_h14_a_change_before_a_transaction_fails_it_once(face: Face) {
    for change in CHANGES {
        let (mut db, sql) = change.session(face);
        db.execute_batch(&sql).unwrap();
        db.begin().unwrap();
        change.assert_in_transaction(face, &mut db);
        db.rollback().unwrap();
        db.begin().unwrap();
        change.assert_after(face.query(&mut db, change.sql, ()));
        db.rollback().unwrap();
        change.assert_after(face.query(&mut db, change.sql, ()));
    }
}

fn b9_h14_a_change_in_a_transaction_fails_it_and_goes_with_it(face: Face) {
    for change in CHANGES {
        let (mut db, sql) = change.session(face);
        db.begin().unwrap();
        db.execute_batch(&sql).unwrap();
        change.assert_in_transaction(face, &mut db);
        db.rollback().unwrap();
        for _ in 0..3 {
            let rows = face.query(&mut db, change.sql, ()).unwrap();
            assert_eq!(printed(&rows), change.before, "{}", change.change);
        }
    }
}

#[test]
fn h14_s9_21_discard_all_is_noticed_however_it_is_run() {
    let mut db = connect();
    let discard: [fn(&mut PgConnection); 4] = [
        |db| db.execute_batch("discard all").unwrap(),
        |db| db.execute_batch("select 1; deallocate all").unwrap(),
        |db| drop(db.query("discard all", &[]).unwrap()),
        |db| drop(submit_and_take(db, query("discard all"), COLLECT).unwrap()),
    ];
    for discard in discard {
        assert_eq!(printed(&db.query("select $1::int4", &[&7]).unwrap()), "7");
        discard(&mut db);
        assert_eq!(db.engine().prepared_statements(), 0, "the driver knows");
        // Also inside a transaction there is nothing to recover from.
        db.begin().unwrap();
        assert_eq!(printed(&db.query("select $1::int4", &[&8]).unwrap()), "8");
        db.commit().unwrap();
        assert_eq!(server_statements(&mut db), ["select $1::int4"]);
    }
    // What is prepared behind it stays, though its Parse was sent before the server forgot the rest.
    let requests = [query("discard all"), query("select 7")];
    let tickets = requests.map(|request| db.submit(request, Delivery::Collect).unwrap());
    run_events(&mut db, tickets.len(), |_| {}).unwrap();
    assert_eq!(tickets.map(|ticket| db.take(ticket).unwrap().unwrap().last().len()), [0, 1]);
    assert_eq!(server_statements(&mut db), ["select 7"]);
}

#[test]
fn b9_h14_a_stale_stream_is_run_again_before_its_first_row() {
    let (mut db, _) = session();
    db.query("select * from works", &[]).unwrap();
    db.execute_batch("alter table works add b int4 default 2").unwrap();
    let mut rows = db.stream("select * from works", ()).unwrap();
    assert_eq!(rows.columns().unwrap().len(), 2);
    assert_eq!(rows.next().unwrap().unwrap().to::<(i32, i32)>().unwrap(), (1, 2));
    assert!(rows.next().unwrap().is_none());
    drop(rows);

    db.execute_batch("alter table works add c int4 default 3").unwrap();
    let ticket = db.submit(query("select * from works"), Delivery::Events).unwrap();
    let mut seen = Vec::new();
    run_events(&mut db, 1, |event| {
        assert_eq!(event.ticket(), Some(ticket));
        seen.push(match event {
            Event::Columns { columns, .. } => format!("{} columns", columns.len()),
            Event::Row { row, .. } => format!("{:?}", row.to::<(i32, i32, i32)>().unwrap()),
            Event::CommandComplete { tag, .. } => tag.to_string(),
            Event::Complete { .. } => "complete".to_owned(),
            other => panic!("{other:?}"),
        });
    })
    .unwrap();
    assert_eq!(seen, ["3 columns", "(1, 2, 3)", "SELECT 1", "complete"]);
}

fn b9_h14_a_stale_batch_is_run_once(face: Face) {
    let (mut db, _) = session();
    let sql = "insert into works values ($1) returning *";
    let insert = |db: &mut PgConnection, sets: [(i32,); 3]| match face {
        Face::Blocking => printed(&db.query_many(sql, sets).unwrap()),
        Face::NonBlocking => {
            let request = Request::Batch { sql, sets: &sets };
            printed(&submit_and_take(db, request, COLLECT).unwrap().into_rows())
        }
    };
    assert_eq!(insert(&mut db, [(2,), (3,), (4,)]), "2\n3\n4");
    db.execute_batch("alter table works add b text default 'x'").unwrap();
    assert_eq!(insert(&mut db, [(5,), (6,), (7,)]), "5|x\n6|x\n7|x");
    let all = face.query(&mut db, "select count(*), sum(a) from works", ()).unwrap();
    assert_eq!(printed(&all), "7|28");
}
