//! Prepared statements.

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
fn a_parameter_of_another_type_is_sent_as_text_never_as_bytes_of_another_width() {
    let mut db = connect();
    let types = db.prepare_typed("select $1, $2, $3::text", &[Oid::INT8, Oid::FLOAT8]).unwrap();
    assert_eq!(types.params(), [Oid::INT8, Oid::FLOAT8, Oid::TEXT]);
    let rows = db.query_prepared(&types, (5i16, 7i64, 2.5)).unwrap();
    assert_eq!(rows[0].to::<(i64, f64, &str)>().unwrap(), (5, 7.0, "2.5"));
    let rows = db.query_prepared(&types, ("6", "1e3", None::<&str>)).unwrap();
    assert_eq!(rows[0].to::<(i64, f64, Option<&str>)>().unwrap(), (6, 1000.0, None));
    let error = db.query_prepared(&types, (2.5, 1.0, "")).unwrap_err();
    assert_eq!(error.sql_state().unwrap().as_str(), "22P02", "2.5 is no bigint");
    assert_usable(&mut db);
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
    let error = db.query_prepared(&select, ()).unwrap_err();
    assert_eq!(error.sql_state().unwrap().as_str(), "26000");
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
    db.begin().unwrap();
    db.query("select 1 / 0", &[]).unwrap_err();
    assert_eq!(db.prepare("select 1").unwrap_err().sql_state().unwrap().as_str(), "25P02");
    db.rollback().unwrap();
    assert!(server_statements(&mut db).is_empty());
    assert_usable(&mut db);
}
