//! Transactions and advisory locks.

use std::time::{Duration, Instant};

use chopin_pg::error::Retries;
use chopin_pg::{Delivery, IsolationLevel, PgConnection, PgError, PgResult, Request, SqlState};

use crate::support::*;

fn transfer(db: &mut PgConnection, from: i32, to: i32, amount: i64) -> PgResult<()> {
    db.transaction(|tx| {
        let sql = "update accounts set balance = balance - $1 where id = $2";
        tx.execute(sql, &[&amount, &from])?;
        let sql = "update accounts set balance = balance + $1 where id = $2";
        tx.execute(sql, &[&amount, &to])?;
        Ok(())
    })
}

fn import(db: &mut PgConnection, titles: &[&str]) -> PgResult<Vec<String>> {
    let mut refused = Vec::new();
    let mut tx = db.begin_transaction()?;
    for title in titles {
        // What fails is undone alone; what has succeeded stays.
        let one = tx.transaction(|tx| tx.execute("insert into works values ($1)", &[title]));
        match one {
            Err(error) if error.sql_state() == Some(SqlState::UNIQUE_VIOLATION) => {
                refused.push(error.to_string());
            }
            other => drop(other?),
        }
    }
    tx.commit()?;
    Ok(refused)
}

fn go_off_call(db: &mut PgConnection, name: &str) -> PgResult<bool> {
    db.run_serializable(5, |tx| {
        let count: i64 = tx.query_one("select count(*) from doctors where on_call", &[])?.get(0)?;
        if count < 2 {
            return Ok(false);
        }
        tx.execute("update doctors set on_call = false where name = $1", &[&name])?;
        Ok(true)
    })
}

enum Next {
    Done,
    Again { at: Instant },
    GiveUp(PgError),
}

/// The transaction has ended with `result`: the first error of its requests, the COMMIT included.
fn after(result: PgResult<()>, retries: &mut Retries, now: Instant) -> Next {
    match result {
        Ok(()) => Next::Done,
        Err(error) => match retries.after(&error) {
            Some(delay) => Next::Again { at: now + delay },
            None => Next::GiveUp(error),
        },
    }
}

fn migrate(db: &mut PgConnection) -> PgResult<bool> {
    const MIGRATIONS: i64 = 7_318_349;
    let Some(mut lock) = db.try_advisory_lock(MIGRATIONS)? else {
        return Ok(false); // Somebody else is at it.
    };
    lock.transaction(|tx| tx.execute_batch("create table if not exists schema_version (n int4)"))?;
    lock.unlock()
}

fn number(db: &mut PgConnection, sql: &str) -> i64 {
    db.query_one(sql, &[]).unwrap().get(0).unwrap()
}

#[test]
fn b14_transfer_moves_all_or_nothing() {
    let mut db = connect();
    let table = "create temp table accounts (id int4, balance int8 check (balance >= 0)); \
                 insert into accounts values (1, 100), (2, 0)";
    db.execute_batch(table).unwrap();
    transfer(&mut db, 1, 2, 30).unwrap();
    let error = transfer(&mut db, 1, 2, 71).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::CHECK_VIOLATION));
    // As a part of another transaction, which is undone.
    let mut tx = db.begin_transaction().unwrap();
    transfer(&mut tx, 1, 2, 70).unwrap();
    drop(tx);
    assert_eq!(number(&mut db, "select balance from accounts where id = 1"), 70);
    assert_eq!(number(&mut db, "select balance from accounts where id = 2"), 30);
    assert_usable(&mut db);
}

#[test]
fn s7_7_import_keeps_what_can_be_kept() {
    let mut db = connect();
    db.execute_batch("create temp table works (title text primary key)").unwrap();
    let refused = import(&mut db, &["Ballade", "Étude", "Ballade", "Nocturne"]).unwrap();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].contains("(title)=(Ballade) already exists"), "{refused:?}");
    assert_eq!(number(&mut db, "select count(*) from works"), 3);
}

#[test]
fn b14_one_doctor_stays_on_call() {
    let mut db = connect();
    let table = "create temp table doctors (name text, on_call bool); \
                 insert into doctors values ('Alice', true), ('Bob', true)";
    db.execute_batch(table).unwrap();
    assert!(go_off_call(&mut db, "Alice").unwrap());
    assert!(!go_off_call(&mut db, "Bob").unwrap());
    assert_eq!(number(&mut db, "select count(*) from doctors where on_call"), 1);
}

#[test]
fn b14_what_comes_after_a_transaction_of_an_event_loop() {
    let mut db = connect();
    let begin = db.build_transaction().isolation(IsolationLevel::Serializable);
    let begin = begin.submit(Delivery::Collect).unwrap();
    let fails = "do $$ begin raise sqlstate '40001'; end $$";
    let tickets = [
        begin,
        db.submit(Request::Simple { sql: fails }, Delivery::Collect).unwrap(),
        db.submit(Request::Simple { sql: "commit" }, Delivery::Collect).unwrap(),
    ];
    run_events(&mut db, 3, |_| {}).unwrap();
    let results = tickets.map(|ticket| db.take(ticket).map(drop));
    let (mut retries, now) = (Retries::new(1), Instant::now());
    let first_error =
        |results: &[PgResult<()>; 3]| results.iter().cloned().collect::<PgResult<()>>();
    match after(first_error(&results), &mut retries, now) {
        Next::Again { at } => assert!(at - now <= Duration::from_millis(10)),
        Next::Done | Next::GiveUp(_) => panic!("once more is allowed"),
    }
    match after(first_error(&results), &mut retries, now) {
        Next::GiveUp(error) => assert_eq!(error.sql_state(), Some(SqlState::SERIALIZATION_FAILURE)),
        Next::Done | Next::Again { .. } => panic!("once more was all"),
    }
    assert!(matches!(after(Ok(()), &mut retries, now), Next::Done));
    assert_usable(&mut db);
}

#[test]
fn b17_only_one_migrates() {
    let (mut db, mut other) = (connect(), connect());
    db.execute_batch("set search_path to pg_temp").unwrap();
    let lock = other.advisory_lock(7_318_349_i64).unwrap();
    assert!(!migrate(&mut db).unwrap());
    drop(lock);
    assert_usable(&mut other);
    assert!(migrate(&mut db).unwrap());
    assert_eq!(number(&mut db, "select count(*) from pg_temp.schema_version"), 0);
    assert_usable(&mut db);
}
