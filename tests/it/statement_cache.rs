//! The statement cache: its key, its limits, and what makes its entries stale.

mod changes;
mod numbers;
mod pipelines;
mod utility;

use chopin_pg::{
    Delivery, ExecutionMode, Oid, PgConnection, PgError, PgValue, Request, Statement, ToSql,
    TransactionStatus,
};

use crate::support::*;

on_both_faces! {
    s9_2_a_repeated_query_is_prepared_once,
    s9_2_the_key_is_the_whole_text_and_the_declared_types,
    s9_2_a_null_without_a_type_goes_with_any_entry,
    s9_2_s9_17_a_capacity_of_0_caches_nothing,
    s9_2_comments_and_parentheses_do_not_hide_a_select,
    s9_2_a_text_over_64_kib_is_run_and_not_cached,
    s9_17_the_server_keeps_the_statements_that_were_used_last,
    s9_21_reset_empties_the_server_and_the_cache_goes_on,
    s9_23_s10_5_clearing_closes_each_statement,
    b8_a_statement_lives_beside_its_connection_and_after_it,
}

fn query(sql: &str) -> Request<'_> {
    Request::Query { sql, params: &() }
}

fn s9_2_a_repeated_query_is_prepared_once(face: Face) {
    let mut db = connect();
    let sql = "select $1::int4 + 1";
    for i in 0..50 {
        assert_eq!(printed(&face.query(&mut db, sql, (i,)).unwrap()), (i + 1).to_string());
    }
    assert_eq!(server_statements(&mut db), [sql]);
    assert_eq!(db.statement_cache_len(), 1);
    let runs = "select generic_plans + custom_plans from pg_prepared_statements";
    assert_eq!(printed(&db.query_simple(runs).unwrap()), "50");

    let trace = traced(&mut db, |db| drop(face.query(db, sql, (1,)).unwrap()));
    let names: Vec<&str> = trace.iter().filter_map(|line| line.split('\t').nth(2)).collect();
    let sent = ["Bind", "Execute", "Sync"];
    let heard = ["BindComplete", "DataRow", "CommandComplete", "ReadyForQuery"];
    assert_eq!(names, [&sent[..], &heard].concat());
}

fn s9_2_the_key_is_the_whole_text_and_the_declared_types(face: Face) {
    let mut db = connect();
    let texts = ["select $1, 1", "select $1, 2", "select $1,  1", "SELECT $1, 1", "select $1, 1 "];
    for sql in texts.into_iter().chain(texts) {
        let expected = if sql.ends_with('2') { "7|2" } else { "7|1" };
        assert_eq!(printed(&face.query(&mut db, sql, (7,)).unwrap()), expected);
    }
    assert_eq!(server_statements(&mut db), texts);

    db.clear_statement_cache().unwrap();
    let sql = "select $1";
    let typed = |db: &mut PgConnection, param: &dyn ToSql| {
        let rows = face.query(db, sql, (param,)).unwrap();
        (rows[0].columns()[0].type_name(), printed(&rows))
    };
    let params: [(&dyn ToSql, &str, &str); 6] = [
        (&7_i32, "int4", "7"),
        (&7_i64, "int8", "7"),
        (&0.5_f64, "float8", "0.5"),
        (&"seven", "text", "seven"),
        (&true, "bool", "t"),
        (&vec![7], "int4[]", "{7}"),
    ];
    for (param, type_name, expected) in params.into_iter().chain(params) {
        assert_eq!(typed(&mut db, param), (type_name.to_owned(), expected.to_owned()));
    }
    assert_eq!(server_statements(&mut db).len(), params.len());
    assert_eq!(typed(&mut db, &None::<i32>), ("int4".to_owned(), "NULL".to_owned()));
    assert_eq!(server_statements(&mut db).len(), params.len(), "this NULL has a type");
}

fn s9_2_a_null_without_a_type_goes_with_any_entry(face: Face) {
    let mut db = connect();
    let sql = "select $1::int8 is null, pg_typeof($1)::text, coalesce($2, 'none')";
    let mut ask = |number: &dyn ToSql, text: &dyn ToSql| {
        let rows = face.query(&mut db, sql, (number, text)).unwrap();
        (printed(&rows), server_statements(&mut db).len())
    };
    let no_number = "t|bigint|a".to_owned();
    assert_eq!(ask(&7_i64, &"a"), ("f|bigint|a".to_owned(), 1));
    assert_eq!(ask(&PgValue::Null, &"a"), (no_number.clone(), 1));
    assert_eq!(ask(&PgValue::Null, &None::<&str>), ("t|bigint|none".to_owned(), 1));
    assert_eq!(ask(&8_i64, &PgValue::Null), ("f|bigint|none".to_owned(), 1));
    // As the first of its text it is left to the server, and what has a type comes beside it.
    for (param, type_name) in [(PgValue::Null, "text"), (PgValue::Int4(7), "int4")] {
        let rows = face.query(&mut db, "select $1", (&param,)).unwrap();
        assert_eq!(rows[0].columns()[0].type_name(), type_name);
        assert_eq!(rows[0].get::<PgValue>(0).unwrap(), param);
    }
    assert_eq!(server_statements(&mut db).len(), 3);
}

fn s9_2_s9_17_a_capacity_of_0_caches_nothing(face: Face) {
    let off = PgConnection::connect(&config().statement_cache_capacity(0)).unwrap();
    let mut turned_off = connect();
    face.query(&mut turned_off, "select 1", ()).unwrap();
    turned_off.set_statement_cache_capacity(0);
    for mut db in [off, turned_off] {
        for i in 0..3 {
            let rows = face.query(&mut db, "select $1::int4", (i,)).unwrap();
            assert_eq!(printed(&rows), i.to_string());
        }
        assert_eq!((server_statements(&mut db).len(), db.statement_cache_len()), (0, 0));
        db.set_statement_cache_capacity(1);
        face.query(&mut db, "select 2", ()).unwrap();
        assert_eq!(server_statements(&mut db), ["select 2"], "and it can be turned on");
    }
}

fn s9_2_comments_and_parentheses_do_not_hide_a_select(face: Face) {
    let mut db = connect();
    let texts = [
        "-- select\n select 1",
        "/* a /* ( */ */ (select 1)",
        " \n\t((select 1) union all (select 1) limit 1)",
        "(/* b */ values (1))",
        "with one as (select 1) table one",
        "select 1 -- ; select 2",
    ];
    for sql in texts.into_iter().chain(texts) {
        assert_eq!(printed(&face.query(&mut db, sql, ()).unwrap()), "1", "{sql}");
    }
    assert_eq!(server_statements(&mut db), texts);
}

fn s9_2_a_text_over_64_kib_is_run_and_not_cached(face: Face) {
    let mut db = connect();
    for (length, cached) in [(64 * 1024, 1), (64 * 1024 + 1, 0)] {
        let mut sql = "select $1::int4 + 1 --".to_owned();
        sql.extend(std::iter::repeat_n('-', length - sql.len()));
        for i in 0..3 {
            assert_eq!(printed(&face.query(&mut db, &sql, (i,)).unwrap()), (i + 1).to_string());
        }
        assert_eq!((server_statements(&mut db).len(), db.statement_cache_len()), (cached, cached));
        db.clear_statement_cache().unwrap();
    }
}

fn s9_17_the_server_keeps_the_statements_that_were_used_last(face: Face) {
    let mut db = PgConnection::connect(&config().statement_cache_capacity(3)).unwrap();
    let run = |db: &mut PgConnection, tags: &[i32]| {
        for tag in tags {
            let rows = face.query(db, &format!("select {tag}"), ()).unwrap();
            assert_eq!(printed(&rows), tag.to_string());
        }
        let mut kept = server_statements(db);
        kept.sort();
        kept
    };
    assert_eq!(run(&mut db, &[1, 2, 3]), ["select 1", "select 2", "select 3"]);
    assert_eq!(run(&mut db, &[1, 4]), ["select 1", "select 3", "select 4"]);
    assert_eq!(run(&mut db, &[2]), ["select 1", "select 2", "select 4"]);
    let many: Vec<i32> = (0..100).collect();
    assert_eq!(run(&mut db, &many), ["select 97", "select 98", "select 99"]);
    db.set_statement_cache_capacity(1);
    assert_eq!(server_statements(&mut db), ["select 99"]);
    db.set_statement_cache_capacity(2);
    assert_eq!(run(&mut db, &[5]), ["select 5", "select 99"]);
}

fn s9_21_reset_empties_the_server_and_the_cache_goes_on(face: Face) {
    let mut db = connect();
    let handle = face.prepare(&mut db, "select 'kept'").unwrap();
    let all_right = |db: &mut PgConnection| {
        assert_eq!(printed(&face.query(db, "select $1::int4", (7,)).unwrap()), "7");
        assert_eq!(printed(&face.query_prepared(db, &handle, ()).unwrap()), "kept");
        assert_eq!((server_statements(db).len(), db.statement_cache_len()), (2, 1));
    };
    all_right(&mut db);
    db.reset().unwrap();
    assert!(server_statements(&mut db).is_empty());
    all_right(&mut db);

    db.begin().unwrap();
    face.query(&mut db, "select nothing", ()).unwrap_err();
    db.reset().unwrap();
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert!(server_statements(&mut db).is_empty());
    all_right(&mut db);

    // What is being prepared when it is called comes first.
    db.reset().unwrap();
    let request = Request::Query { sql: "select $1::int4", params: &(9,) };
    let ticket = db.submit(request, Delivery::Collect).unwrap();
    db.reset().unwrap();
    run_events(&mut db, 1, |event| assert_eq!(event.ticket(), Some(ticket))).unwrap();
    assert_eq!(printed(&db.take(ticket).unwrap().unwrap().into_rows()), "9");
    assert!(server_statements(&mut db).is_empty());
    all_right(&mut db);
}

fn s9_23_s10_5_clearing_closes_each_statement(face: Face) {
    let mut db = connect();
    let handle = face.prepare(&mut db, "select 'kept'").unwrap();
    let fill = |db: &mut PgConnection| {
        for i in 0..5 {
            let rows = face.query(db, &format!("select {i}"), ()).unwrap();
            assert_eq!(printed(&rows), i.to_string());
        }
        assert_eq!(printed(&face.query_prepared(db, &handle, ()).unwrap()), "kept");
        assert_eq!((server_statements(db).len(), db.statement_cache_len()), (6, 5));
    };
    fill(&mut db);
    let trace = traced(&mut db, |db| db.clear_statement_cache().unwrap());
    let count = |what: &str| trace.iter().filter(|line| line.contains(what)).count();
    assert_eq!((count("\tClose\t S \"chopin_"), count("\tCloseComplete")), (6, 6), "{trace:#?}");
    assert_eq!((count("Sync"), count("DEALLOCATE"), trace.len()), (1, 0, 14), "{trace:#?}");
    assert!(server_statements(&mut db).is_empty());

    // Whatever the transaction, and whatever mode queries have.
    fill(&mut db);
    db.begin().unwrap();
    face.query(&mut db, "select 1 / 0", ()).unwrap_err();
    db.clear_statement_cache().unwrap();
    db.rollback().unwrap();
    assert!(server_statements(&mut db).is_empty());
    fill(&mut db);
    db.set_execution_mode(ExecutionMode::Simple);
    let trace = traced(&mut db, |db| db.clear_statement_cache().unwrap());
    assert_eq!(trace.iter().filter(|line| line.contains("CloseComplete")).count(), 6, "{trace:#?}");
    db.set_execution_mode(ExecutionMode::Cached);

    // With events to come it is refused, and what is under way is closed when it is there.
    fill(&mut db);
    let ticket = db.submit(query("select 6"), Delivery::Events).unwrap();
    assert!(matches!(db.clear_statement_cache(), Err(PgError::Busy)));
    run_events(&mut db, 1, |event| assert_eq!(event.ticket(), Some(ticket))).unwrap();
    let ticket = db.submit(query("select 7"), Delivery::Collect).unwrap();
    db.clear_statement_cache().unwrap();
    assert_eq!(printed(&db.take(ticket).unwrap().unwrap().into_rows()), "7");
    assert!(server_statements(&mut db).is_empty());
}

/// A program's own type, which holds a connection and its statements side by side.
struct Works {
    db: PgConnection,
    find: Statement,
}

impl Works {
    fn open(face: Face) -> Self {
        let mut db = connect();
        let sql = "select title from (values (1, 'Ballade'), (2, 'Étude')) as w (id, title) \
                   where id = $1";
        let find = face.prepare(&mut db, sql).unwrap();
        Self { db, find }
    }

    fn find(&mut self, face: Face, id: i32) -> String {
        printed(&face.query_prepared(&mut self.db, &self.find, (id,)).unwrap())
    }
}

fn b8_a_statement_lives_beside_its_connection_and_after_it(face: Face) {
    let mut all: Vec<Works> = (0..3).map(|_| Works::open(face)).collect();
    all.rotate_left(1);
    for works in &mut all {
        assert_eq!((works.find(face, 1), works.find(face, 2)), ("Ballade".into(), "Étude".into()));
        assert_eq!(works.find.params(), [Oid::INT4]);
        assert_eq!(works.find.columns()[0].name(), "title");
    }
    let Works { db, find } = all.pop().unwrap();
    drop((db, all));
    let mut db = connect();
    for _ in 0..2 {
        assert_eq!(printed(&face.query_prepared(&mut db, &find, (2,)).unwrap()), "Étude");
    }
    assert_eq!(server_statements(&mut db), [find.sql()]);
    let clone = find.clone();
    drop(find);
    assert_eq!(server_statements(&mut db), [clone.sql()]);
    drop(clone);
    assert!(server_statements(&mut db).is_empty(), "closed with the last handle");
}
