//! Errors of the server: every field, what they tell the user, and that the connection goes on.

use chopin_pg::error::Severity;
use chopin_pg::{ErrorClass, PgError, SqlState, retry};

use crate::support::*;

#[test]
fn s4_1_s8_9_the_server_s_fields_arrive_in_their_places() {
    let mut db = connect();
    let table = testkit::unique("works");
    db.execute_batch(&format!(
        "create table {table} (id int4 constraint {table}_key unique, title text not null, \
         year int4 constraint {table}_year check (year > 1000)); insert into {table} values (1, 'a', 1835)"
    ))
    .unwrap();

    let error = db.execute(&format!("insert into {table} values (1, 'b', 1836)"), &[]).unwrap_err();
    let server = error.as_server().unwrap();
    assert_eq!(server.severity, Severity::Error);
    assert_eq!(server.code, SqlState::UNIQUE_VIOLATION);
    assert_eq!(
        server.message,
        format!("duplicate key value violates unique constraint \"{table}_key\"")
    );
    assert_eq!(error.detail(), Some("Key (id)=(1) already exists."));
    assert_eq!(server.schema.as_deref(), Some("public"));
    assert_eq!(server.table.as_deref(), Some(table.as_str()));
    assert_eq!(server.constraint.as_deref(), Some(format!("{table}_key").as_str()));
    assert!(server.file.is_some() && server.line.is_some() && server.routine.is_some());
    assert_usable(&mut db);

    let error =
        db.execute(&format!("insert into {table} values (2, null, 1836)"), &[]).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::NOT_NULL_VIOLATION));
    assert_eq!(error.as_server().unwrap().column.as_deref(), Some("title"));
    assert_usable(&mut db);

    let error = db.execute(&format!("insert into {table} values (2, 'c', 7)"), &[]).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::CHECK_VIOLATION));
    assert_eq!(error.classify(), ErrorClass::Permanent);
    assert_usable(&mut db);

    let function = "do $$ begin execute 'select ' || 'nope'; end $$";
    let error = db.execute(function, &[]).unwrap_err();
    let server = error.as_server().unwrap();
    assert_eq!(server.internal_query.as_deref(), Some("select nope"));
    assert_eq!(server.internal_position, Some(8));
    assert!(server.context.as_deref().unwrap().contains("inline_code_block"));
    assert_usable(&mut db);

    let error = db.query("select 'x'::int4", &[]).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_TEXT_REPRESENTATION));
    db.execute_batch(&format!("drop table {table}")).unwrap();
}

#[test]
fn s4_11_the_query_has_its_own_field_and_the_position_its_caret() {
    let mut db = connect();
    let sql = "select title,\n       yaer\nfrom (select 'é'::text as title, 1 as year) works";
    let error = db.query(sql, &[]).unwrap_err();
    let server = error.as_server().unwrap();
    assert_eq!(server.query.as_deref(), Some(sql));
    assert_eq!(server.internal_query, None);
    assert!(!error.to_string().contains("from (select"), "the plain form is short: {error}");
    let shown = format!("{error:#}");
    assert!(shown.contains("LINE 2:        yaer\n               ^"), "{shown}");
    // The same for every way to run it.
    assert_eq!(db.execute_batch(sql).unwrap_err().as_server().unwrap().query.as_deref(), Some(sql));
    assert_eq!(db.prepare(sql).unwrap_err().as_server().unwrap().query.as_deref(), Some(sql));
}

#[test]
fn errors_over_parameter_types_say_what_was_declared() {
    let mut db = connect();
    let error = db.query("select * from pg_class where relname = $1", &[&7]).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_FUNCTION));
    let hint = error.hint().unwrap();
    assert!(hint.contains("$n::type") && hint.contains("$1: i32 -> int4"), "{hint}");
    let error = db.query("select $1", &[&None::<&str>]);
    assert!(error.is_ok(), "an undecided parameter is text");
    let error = db.query("select $2::int4 + $1", &[&true, &1.5]).unwrap_err();
    assert!(error.hint().unwrap().contains("$1: bool -> bool, $2: f64 -> float8"), "{error}");
    assert_usable(&mut db);
}

#[test]
fn s4_6_h2_retry_repeats_a_serialization_failure_and_nothing_else() {
    let table = testkit::unique("counter");
    let mut db = connect();
    db.execute_batch(&format!("create table {table} (n int4); insert into {table} values (0)"))
        .unwrap();
    let mut other = connect();
    let mut attempts = 0;
    retry(3, || {
        attempts += 1;
        db.execute_batch("begin isolation level serializable")?;
        let work = (|| {
            db.query(&format!("select n from {table}"), &[])?;
            if attempts == 1 {
                other.execute(&format!("update {table} set n = n + 10"), &[])?;
            }
            db.execute(&format!("update {table} set n = n + 1"), &[])
        })();
        match work {
            Ok(_) => db.commit(),
            Err(error) => db.rollback().and(Err(error)),
        }
    })
    .unwrap();
    assert_eq!(attempts, 2, "the first attempt failed with 40001");
    let n: i32 = db.query_one(&format!("select n from {table}"), &[]).unwrap().get(0).unwrap();
    assert_eq!(n, 11);

    let mut attempts = 0;
    let result = retry(3, || {
        attempts += 1;
        db.execute("select 1 / 0", &[])
    });
    assert_eq!((attempts, result.unwrap_err().sql_state()), (1, Some(SqlState::DIVISION_BY_ZERO)));
    db.execute_batch(&format!("drop table {table}")).unwrap();
}

#[test]
fn s4_8_s4_9_errors_are_errors_of_the_standard_library() {
    let error: Box<dyn std::error::Error + Send + Sync> = Box::new(PgError::WouldBlock);
    assert!(error.downcast_ref::<PgError>().is_some());
    let refused =
        chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::new("127.0.0.1", 1, "a", "", "b"));
    let error = refused.unwrap_err();
    assert!(matches!(&error, PgError::Io(_)), "{error}");
    assert!(error.to_string().contains("cannot connect to 127.0.0.1:1: "), "{error}");
}
