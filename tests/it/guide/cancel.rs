//! The section "Cancelling and deadlines" of docs/GUIDE.md.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use chopin_pg::{
    CancelToken, Deadline, Delivery, PgConnection, PgError, PgResult, Request, Submit, Ticket,
};

use crate::support::*;

/// The newest orders, if the database has them in time.
fn newest_orders(db: &mut PgConnection) -> PgResult<Vec<i32>> {
    let sql = "select id from orders order by id desc limit 10";
    let rows = db.within(Duration::from_millis(200)).query(sql, &[])?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// Moves money, in half a second for all of it.
fn transfer(db: &mut PgConnection, from: i32, to: i32, cents: i64) -> PgResult<()> {
    db.within(Duration::from_millis(500)).transaction(|tx| {
        tx.execute("update accounts set cents = cents - $2 where id = $1", &[&from, &cents])?;
        tx.execute("update accounts set cents = cents + $2 where id = $1", &[&to, &cents])?;
        Ok(())
    })
}

/// Cancels what the connection runs when a line comes in.
fn cancel_on_enter(token: CancelToken, mut input: impl Read + Send + 'static) {
    thread::spawn(move || -> io::Result<()> {
        input.read_exact(&mut [0])?;
        if let Err(error) = token.cancel() {
            eprintln!("not cancelled: {error}");
        }
        Ok(())
    });
}

/// The first measurements that are too high, at most so many.
fn first_too_high(db: &mut PgConnection, limit: f64, most: usize) -> PgResult<Vec<i64>> {
    let mut found = Vec::new();
    let mut rows = db.stream("select id, value from measurements order by id", ())?;
    while let Some(row) = rows.next()? {
        let (id, value): (i64, f64) = row.to()?;
        if value > limit {
            found.push(id);
        }
        if found.len() == most {
            rows.cancel()?;
            return Ok(found);
        }
    }
    Ok(found)
}

/// Asks for a report that may take a minute.
fn submit_report(db: &mut PgConnection) -> PgResult<Ticket> {
    let limit = Deadline::after(Instant::now(), "report limit", Duration::from_secs(60));
    let submit = Submit::new(Delivery::Collect).deadline(limit);
    let ticket =
        db.submit_with(Request::Query { sql: "select * from report", params: &() }, submit)?;
    db.flush();
    Ok(ticket)
}

#[test]
fn b25_a_call_with_a_deadline() {
    let mut db = connect();
    db.execute_batch("create temp table orders as select generate_series(1, 50) as id").unwrap();
    assert_eq!(newest_orders(&mut db).unwrap(), (41..=50).rev().collect::<Vec<_>>());
    db.execute_batch(
        "drop table orders;
         create temp view orders as select 1 as id from pg_sleep(600)",
    )
    .unwrap();
    let error = newest_orders(&mut db).unwrap_err();
    assert!(error.to_string().contains("(within = 200 ms)"), "{error}");
    assert_usable(&mut db);
}

#[test]
fn b25_a_transaction_with_a_deadline() {
    let table = testkit::unique("accounts");
    let mut db = connect();
    db.execute_batch(&format!(
        "create table {table} (id int4, cents int8);
         insert into {table} values (1, 100), (2, 0);
         create temp view accounts as select * from {table}"
    ))
    .unwrap();
    transfer(&mut db, 1, 2, 30).unwrap();
    let mut other = connect();
    other.begin().unwrap();
    other.execute(&format!("select from {table} where id = 2 for update"), &[]).unwrap();
    let error = transfer(&mut db, 1, 2, 30).unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    other.rollback().unwrap();
    let rows = db.query("select cents from accounts order by id", &[]).unwrap();
    let cents: Vec<i64> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(cents, [70, 30]);
    db.execute_batch(&format!("drop table {table} cascade")).unwrap();
}

#[test]
fn b7_cancelling_from_another_thread() {
    let mut db = connect();
    let (input, mut enter) = UnixStream::pair().unwrap();
    cancel_on_enter(db.cancel_token(), input);
    let process_id = db.process_id();
    let user = thread::spawn(move || {
        crate::cancel::await_sleep(process_id);
        enter.write_all(b"\n").unwrap();
    });
    let error = db.within(Duration::MAX).query("select pg_sleep(600)", &[]).unwrap_err();
    assert_eq!(error.sql_state(), Some(chopin_pg::SqlState::QUERY_CANCELED));
    user.join().unwrap();
    assert_usable(&mut db);
}

#[test]
fn b10_ending_a_stream() {
    let mut db = connect();
    db.execute_batch(
        "create temp table measurements (id int8 primary key, value float8);
         insert into measurements select n, n % 10 from generate_series(1, 300000) n",
    )
    .unwrap();
    assert_eq!(first_too_high(&mut db, 8.5, 3).unwrap(), [9, 19, 29]);
    assert_eq!(db.in_flight(), 0);
    assert_usable(&mut db);
}

#[test]
fn b25_a_deadline_of_a_request() {
    let mut db = connect();
    db.execute_batch("create temp table report as select 42 as total").unwrap();
    let ticket = submit_report(&mut db).unwrap();
    let left = db.deadline().unwrap().saturating_duration_since(Instant::now());
    assert!(left > Duration::from_secs(30), "{left:?}");
    run_events(&mut db, 1, |_| {}).unwrap();
    assert_eq!(db.take(ticket).unwrap().unwrap().into_rows().len(), 1);
}
