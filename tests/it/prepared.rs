//! Prepared statements.

use chopin_pg::types::{Numeric, Timestamptz};
use chopin_pg::{Oid, PgConnection, PgError};

use crate::support::*;

/// The names of the statements that the server has for this session.
fn server_statements(db: &mut PgConnection) -> Vec<String> {
    let rows =
        db.query_simple("select name from pg_prepared_statements order by prepare_time, name");
    rows.unwrap().iter().map(|row| row.get(0).unwrap()).collect()
}

#[test]
fn a_statement_runs_again_and_again() {
    let mut db = connect();
    let add = db.prepare("select $1::int4 + $2 as sum").unwrap();
    assert_eq!(add.params(), [Oid::INT4, Oid::INT4]);
    assert_eq!((add.columns()[0].name(), add.columns()[0].type_oid()), ("sum", Oid::INT4));
    for i in 0..10 {
        let rows = db.query_prepared(&add, (i, 1)).unwrap();
        assert_eq!(rows[0].get::<i32>("sum").unwrap(), i + 1);
    }
    let error = db.query_prepared(&add, (1,)).unwrap_err();
    assert!(error.to_string().contains("2 parameters, but 1 were given"), "{error}");
    assert_eq!(server_statements(&mut db).len(), 1);
    assert_usable(&mut db);
}

#[test]
fn integers_and_strings_fit_a_statement_s_types() {
    let mut db = connect();
    let types = db.prepare_typed("select $1, $2, $3", &[Oid::INT8, Oid::FLOAT8, Oid::NUMERIC]);
    let types = types.unwrap();
    assert_eq!(types.params(), [Oid::INT8, Oid::FLOAT8, Oid::NUMERIC]);
    let rows = db.query_prepared(&types, (5i16, i64::MAX, 7)).unwrap();
    let (a, b, c): (i64, f64, Numeric) = rows[0].to().unwrap();
    assert_eq!((a, b, c.as_str()), (5, 9_223_372_036_854_775_807.0, "7"));
    let rows = db.query_prepared(&types, ("6", "1e3", None::<&str>)).unwrap();
    assert_eq!(rows[0].to::<(i64, f64, Option<Numeric>)>().unwrap(), (6, 1000.0, None));
    let error = db.query_prepared(&types, (1, "x", 1)).unwrap_err();
    assert_eq!(error.sql_state().unwrap().as_str(), "22P02");
    assert_usable(&mut db);
}

#[test]
fn a_prepared_statement_stores_what_a_query_stores() {
    let mut db = connect();
    db.execute_batch(
        "set timezone to 'Europe/Berlin'; \
         create temp table t (f float8, ts timestamp, t text, n numeric, i int4)",
    )
    .unwrap();
    let sql = "insert into t values ($1, $2, $3, $4, $5) returning t.*::text";
    let params = (0.1f32, Timestamptz(0), true, 0.1 + 0.2, 7i64);
    let asked = db.query_with(sql, params).unwrap()[0].get::<String>(0).unwrap();
    let insert = db.prepare(sql).unwrap();
    for _ in 0..2 {
        let rows = db.query_prepared(&insert, params).unwrap();
        assert_eq!(rows[0].get::<String>(0).unwrap(), asked);
    }
    assert_eq!(asked, "(0.10000000149011612,\"2000-01-01 01:00:00\",true,0.3,7)");
    // What the server does not coerce, it refuses, as in any query.
    let error = db.query_prepared(&insert, (1.5, "now", "", 1, false)).unwrap_err();
    assert_eq!(error.sql_state().unwrap().as_str(), "42804");
    assert!(error.hint().unwrap().contains("$5: bool -> bool"), "{error}");
    assert_usable(&mut db);
}

#[test]
fn a_statement_that_went_stale_is_prepared_again() {
    let mut db = connect();
    db.execute_batch("create temp table t (a int4); insert into t values (1)").unwrap();
    let all = db.prepare("select * from t").unwrap();
    assert_eq!(db.query_prepared(&all, ()).unwrap()[0].len(), 1);
    db.execute_batch("alter table t add b int4 default 2").unwrap();
    // The server says that the plan is stale (0A000); the driver prepares it again by itself.
    let rows = db.query_prepared(&all, ()).unwrap();
    assert_eq!(rows[0].to::<(i32, i32)>().unwrap(), (1, 2));
}

#[test]
fn dropped_statements_are_closed_by_whatever_runs_next() {
    let (mut one, mut two) = (connect(), connect());
    two.set_statement_cache_capacity(0);
    for i in 0..50 {
        let statement = one.prepare(&format!("select {i}")).unwrap();
        two.query_prepared(&statement, ()).unwrap();
    }
    two.query("select 1", &[]).unwrap();
    assert!(server_statements(&mut two).is_empty());
}

#[test]
fn s10_6_names_are_never_used_twice() {
    let mut db = connect();
    let first = db.prepare("select 1").unwrap();
    let before = server_statements(&mut db);
    db.reset().unwrap();
    assert!(server_statements(&mut db).is_empty());
    assert_eq!(db.query_prepared(&first, ()).unwrap()[0].get::<i32>(0).unwrap(), 1);
    let second = db.prepare("select 2").unwrap();
    let after = server_statements(&mut db);
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|name| !before.contains(name)), "{before:?} {after:?}");
    assert_eq!(db.query_prepared(&second, ()).unwrap()[0].get::<i32>(0).unwrap(), 2);
    // The same behind the driver's back.
    db.execute_batch("deallocate all").unwrap();
    assert_eq!(db.query_prepared(&second, ()).unwrap()[0].get::<i32>(0).unwrap(), 2);
    db.query("discard all", &[]).unwrap();
    assert_eq!(db.query_prepared(&first, ()).unwrap()[0].get::<i32>(0).unwrap(), 1);
}

#[test]
fn a_statement_that_was_deallocated_by_name_is_prepared_again() {
    let mut db = connect();
    let select = db.prepare("select 1").unwrap();
    let name = server_statements(&mut db).pop().unwrap();
    db.execute_batch(&format!("deallocate {name}")).unwrap();
    // Unknown to the server (26000), and prepared again.
    assert_eq!(db.query_prepared(&select, ()).unwrap()[0].get::<i32>(0).unwrap(), 1);
}

#[test]
fn a_statement_works_on_every_connection_of_the_thread() {
    let (mut one, mut two) = (connect(), connect());
    let select = one.prepare("select $1::text || '!'").unwrap();
    assert_eq!(two.query_prepared(&select, ("a",)).unwrap()[0].get::<&str>(0).unwrap(), "a!");
    assert_eq!(two.query_prepared(&select, ("b",)).unwrap()[0].get::<&str>(0).unwrap(), "b!");
    assert_eq!(server_statements(&mut two).len(), 1);
    drop(one);
    assert_eq!(two.query_prepared(&select, ("c",)).unwrap()[0].get::<&str>(0).unwrap(), "c!");
}

#[test]
fn dropped_and_closed_statements_leave_the_server() {
    let mut db = connect();
    let kept = db.prepare("select 'kept'").unwrap();
    for i in 0..20 {
        let statement = db.prepare(&format!("select {i}")).unwrap();
        assert_eq!(db.query_prepared(&statement, ()).unwrap()[0].get::<i32>(0).unwrap(), i);
    }
    // The last one goes with the next prepare; none of the others is left.
    assert_eq!(server_statements(&mut db).len(), 2);
    db.close_statement(&kept).unwrap();
    assert_eq!(server_statements(&mut db).len(), 0);
    assert_eq!(db.query_prepared(&kept, ()).unwrap()[0].get::<&str>(0).unwrap(), "kept");
    assert_eq!(server_statements(&mut db).len(), 1);
}

#[test]
fn a_statement_that_cannot_be_prepared_leaves_nothing() {
    let mut db = connect();
    let error = db.prepare("select nothing from nowhere").unwrap_err();
    assert_eq!(error.sql_state().unwrap().as_str(), "42P01");
    assert!(matches!(db.prepare("select 1\0"), Err(PgError::Usage(_))));
    assert!(server_statements(&mut db).is_empty());
    assert_usable(&mut db);
}

#[test]
fn preparing_in_a_failed_transaction_fails_and_nothing_leaks() {
    let mut db = connect();
    db.set_statement_cache_capacity(0);
    db.begin().unwrap();
    db.query("select 1 / 0", &[]).unwrap_err();
    assert_eq!(db.prepare("select 1").unwrap_err().sql_state().unwrap().as_str(), "25P02");
    db.rollback().unwrap();
    assert!(server_statements(&mut db).is_empty());
    assert_usable(&mut db);
}
