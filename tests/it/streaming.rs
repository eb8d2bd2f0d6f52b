//! Streams: rows one at a time, borrowed; their columns, counts and errors.

mod faces;
mod pace;

use std::time::Duration;

use chopin_pg::{
    Delivery, Event, FromRow, Oid, PgConnection, PgError, PgResult, Request, RowRef, Rows, SqlState,
};

use crate::support::*;

const LONG: Duration = Duration::from_secs(60);

/// A hundred thousand rows whose values follow from their number.
const MANY: &str = "select i::int4 as id, i::int8 * i as square, 'row ' || i as name, \
     case when i % 3 = 0 then null else i / 4.0::float8 end as quarter, \
     int4send(i::int4) as bytes \
     from generate_series(1, 100000) i";

/// Checks the row with this number of [`MANY`].
#[track_caller]
fn assert_row_of_many(row: RowRef<'_>, number: i32) {
    let (id, square, name, quarter, bytes): (i32, i64, &str, Option<f64>, &[u8]) =
        row.to().expect("the columns of the query");
    assert_eq!(id, number);
    assert_eq!(square, i64::from(number) * i64::from(number));
    assert_eq!(name.strip_prefix("row "), Some(number.to_string().as_str()));
    assert_eq!(quarter, (number % 3 != 0).then_some(f64::from(number) / 4.0));
    assert_eq!(bytes, number.to_be_bytes());
}

/// All numbers that are left in a stream of one `int4` column.
fn numbers(rows: &mut Rows<'_>) -> Vec<i32> {
    let mut numbers = Vec::new();
    let result = rows.for_each(|row| {
        numbers.push(row.get(0)?);
        Ok(())
    });
    assert_eq!(result.expect("the rows"), numbers.len() as u64);
    numbers
}

#[test]
fn b10_every_row_comes_once_in_order_and_borrowed() {
    let mut db = connect();
    db.set_io_timeout(LONG);
    let mut rows = db.stream(MANY, ()).unwrap();
    for number in 1..=100_000 {
        assert_row_of_many(rows.next().unwrap().expect("a row"), number);
    }
    assert!(rows.next().unwrap().is_none());
    assert!(rows.next().unwrap().is_none(), "the end stays the end");
    assert_eq!(rows.finish().unwrap(), 100_000);
    assert_usable(&mut db);
}

#[test]
fn b10_every_row_is_an_event() {
    let mut db = connect();
    db.set_io_timeout(LONG);
    let ticket = db.submit(Request::Query { sql: MANY, params: &() }, Delivery::Events).unwrap();
    let (mut number, mut told) = (0, Vec::new());
    run_events(&mut db, 1, |event| {
        assert_eq!(event.ticket(), Some(ticket));
        match event {
            Event::Row { row, .. } => {
                number += 1;
                assert_row_of_many(row, number);
            }
            Event::Columns { columns, .. } => {
                told.push(format!("{} columns after {number} rows", columns.len()));
            }
            Event::CommandComplete { tag, .. } => told.push(tag.to_string()),
            other => told.push(format!("{other:?}")),
        }
    })
    .unwrap();
    assert_eq!(number, 100_000);
    let complete = format!("{:?}", Event::Complete { ticket });
    assert_eq!(told, ["5 columns after 0 rows", "SELECT 100000", &complete]);
    assert!(db.take(ticket).unwrap().is_none(), "nothing was collected");
    assert_usable(&mut db);
}

#[test]
fn b10_columns_are_known_before_the_first_row_and_without_one() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4)").unwrap();
    // The first run is described by the server, the next ones from the statement cache.
    for _ in 0..3 {
        let mut rows = db.stream("select 1 as one, $1::text as two", ("x",)).unwrap();
        let columns = rows.columns().unwrap();
        let names: Vec<_> = columns.iter().map(|c| (c.name(), c.type_oid())).collect();
        assert_eq!(names, [("one", Oid::INT4), ("two", Oid::TEXT)]);
        let row: (i32, &str) = rows.next().unwrap().expect("a row").to().unwrap();
        assert_eq!(row, (1, "x"), "asking for the columns has cost no row");
        assert_eq!(rows.finish().unwrap(), 1);

        let mut rows = db.stream("select x as none from t", ()).unwrap();
        assert_eq!(rows.columns().unwrap()[0].name(), "none");
        assert!(rows.next().unwrap().is_none());
        assert_eq!(rows.columns().unwrap().len(), 1, "they stay known");
        assert_eq!(rows.command_tag(), "SELECT 0");
        assert_eq!(rows.finish().unwrap(), 0);

        for (command, tag, count) in
            [("update t set x = 1", "UPDATE 0", 0), ("set datestyle to iso", "SET", 0), ("", "", 0)]
        {
            let mut rows = db.stream(command, ()).unwrap();
            assert!(rows.columns().unwrap().is_empty(), "{command}");
            assert!(rows.next().unwrap().is_none(), "{command}");
            assert_eq!(rows.command_tag(), tag);
            assert_eq!(rows.finish().unwrap(), count);
        }
    }
    // A query that cannot be run has none either.
    let mut rows = db.stream("select nothing", ()).unwrap();
    assert_eq!(rows.columns().unwrap_err().sql_state(), Some(SqlState::UNDEFINED_COLUMN));
    assert!(rows.next().unwrap().is_none());
    drop(rows);
    assert_usable(&mut db);
}

#[test]
fn b10_counts_and_tags_belong_to_the_command() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4)").unwrap();
    let insert = "insert into t select generate_series(1, 7) returning x";
    let mut rows = db.stream(insert, ()).unwrap();
    assert_eq!(rows.command_tag(), "", "it has not ended");
    let mut sum = 0;
    let count = rows.for_each(|row| {
        sum += row.get::<i32>(0)?;
        Ok(())
    });
    assert_eq!((count.unwrap(), sum), (7, 28));
    assert_eq!(rows.command_tag(), "INSERT 0 7");
    assert_eq!(rows.finish().unwrap(), 7);
    assert_eq!((db.last_affected_rows(), db.last_command_tag()), (7, "INSERT 0 7"));

    // Without looking at a row.
    assert_eq!(db.stream(insert, ()).unwrap().finish().unwrap(), 7);
    assert_eq!(db.stream("delete from t", ()).unwrap().finish().unwrap(), 14);
    assert_eq!(db.last_command_tag(), "DELETE 14");

    // An error of the program ends `for_each`, and nothing else.
    let mut rows = db.stream("select generate_series(1, 5)", ()).unwrap();
    let error = rows.for_each(|row| match row.get::<i32>(0)? {
        3 => Err(PgError::Usage("three is enough".to_owned())),
        _ => Ok(()),
    });
    assert!(error.unwrap_err().to_string().contains("three is enough"));
    assert_eq!(numbers(&mut rows), [4, 5]);
    drop(rows);
    assert_usable(&mut db);
}

/// What a program makes of a row by itself.
#[derive(Debug, PartialEq)]
struct Piece<'a> {
    name: &'a str,
    opus: Option<i32>,
}

impl<'a> FromRow<'a> for Piece<'a> {
    fn from_row(row: RowRef<'a>) -> PgResult<Self> {
        Ok(Self { name: row.get("name")?, opus: row.get("opus")? })
    }
}

#[test]
fn b10_rows_are_read_as_tuples_and_by_hand() {
    let mut db = connect();
    let sql = "values ('Berceuse', 57), ('Rondo', null)";
    let sql = format!("select name, opus from ({sql}) v (name, opus)");
    let mut rows = db.stream(&sql, ()).unwrap();
    let piece: Piece<'_> = rows.next().unwrap().expect("a row").to().unwrap();
    assert_eq!(piece, Piece { name: "Berceuse", opus: Some(57) });
    let tuple: (&str, Option<i64>) = rows.next().unwrap().expect("a row").to().unwrap();
    assert_eq!(tuple, ("Rondo", None));
    assert!(rows.next().unwrap().is_none());
    drop(rows);
    // What does not fit is an error of that row alone.
    let mut rows = db.stream(&sql, ()).unwrap();
    let row = rows.next().unwrap().expect("a row");
    let error = row.to::<(&str,)>().unwrap_err();
    assert_eq!(error.to_string(), "the row has 2 columns, but is read as a tuple of 1");
    assert!(matches!(row.to::<(i32, i32)>(), Err(PgError::TypeConversion(_))));
    assert_eq!(rows.next().unwrap().expect("a row").get::<&str>(0).unwrap(), "Rondo");
    drop(rows);
    assert_usable(&mut db);
}

const FAILS_IN_ROW_5000: &str = "select 1 / (5000 - i) from generate_series(1, 10000) i";

#[test]
fn b10_an_error_in_the_middle_comes_behind_the_rows_before_it() {
    let mut db = connect();
    for _ in 0..3 {
        let mut rows = db.stream(FAILS_IN_ROW_5000, ()).unwrap();
        for _ in 1..5000 {
            assert!(rows.next().unwrap().is_some());
        }
        let error = rows.next().unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::DIVISION_BY_ZERO), "{error}");
        let query = error.as_server().and_then(|server| server.query.as_deref());
        assert_eq!(query, Some(FAILS_IN_ROW_5000));
        assert!(rows.next().unwrap().is_none(), "there are no more rows");
        assert_eq!(rows.command_tag(), "");
        assert_eq!(rows.finish().unwrap(), 0, "the error was told");
        assert_eq!((db.last_affected_rows(), db.last_command_tag()), (0, ""));
        assert_usable(&mut db);
    }
    // Whoever only asks for the end is told too.
    let error = db.stream(FAILS_IN_ROW_5000, ()).unwrap().finish().unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::DIVISION_BY_ZERO));
    assert_usable(&mut db);
}

#[test]
fn b10_an_error_in_the_middle_is_the_terminal_event() {
    let mut db = connect();
    let request = Request::Query { sql: FAILS_IN_ROW_5000, params: &() };
    let failing = db.submit(request, Delivery::Events).unwrap();
    let behind = Request::Query { sql: "select 7", params: &() };
    let behind = db.submit(behind, Delivery::Events).unwrap();
    let (mut rows, mut ends) = (Vec::new(), Vec::new());
    run_events(&mut db, 2, |event| match event {
        Event::Row { ticket, row } => rows.push((ticket, row.get::<i32>(0).unwrap())),
        Event::Complete { ticket } => ends.push((ticket, None)),
        Event::Failed { ticket, error } => ends.push((ticket, error.sql_state())),
        _ => {}
    })
    .unwrap();
    assert_eq!(rows.len(), 5000);
    assert!(rows[..4999].iter().all(|(ticket, _)| *ticket == failing));
    assert_eq!(rows[4999], (behind, 7));
    assert_eq!(ends, [(failing, Some(SqlState::DIVISION_BY_ZERO)), (behind, None)]);
    assert_usable(&mut db);
}

/// Of each result of a stream: the names of its columns, the first value of each row, its tag.
fn results(mut rows: Rows<'_>) -> PgResult<Vec<(Vec<String>, Vec<String>, String)>> {
    let mut results = Vec::new();
    loop {
        let names = rows.columns()?.iter().map(|column| column.name().to_owned()).collect();
        let mut values = Vec::new();
        rows.for_each(|row| {
            values.push(row.get(0)?);
            Ok(())
        })?;
        results.push((names, values, rows.command_tag().to_owned()));
        if !rows.next_result()? {
            return Ok(results);
        }
    }
}

/// Texts as [`results`] has them.
fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn b10_h12_the_results_of_a_string_of_statements_are_kept_apart() {
    let mut db = connect();
    let sql = "select generate_series(1, 3) as a; create temp table s (x int4); \
         insert into s values (7), (8); select x, 'y' as y from s order by x; \
         select 1 as none where false; delete from s";
    let result =
        |names: &[&str], values: &[&str], tag: &str| (owned(names), owned(values), tag.to_owned());
    assert_eq!(
        results(db.stream_simple(sql).unwrap()).unwrap(),
        [
            result(&["a"], &["1", "2", "3"], "SELECT 3"),
            result(&[], &[], "CREATE TABLE"),
            result(&[], &[], "INSERT 0 2"),
            result(&["x", "y"], &["7", "8"], "SELECT 2"),
            result(&["none"], &[], "SELECT 0"),
            result(&[], &[], "DELETE 2"),
        ]
    );
    assert_eq!((db.last_affected_rows(), db.last_command_tag()), (2, "DELETE 2"));
    for empty in ["", "-- nothing", ";"] {
        let nothing = results(db.stream_simple(empty).unwrap()).unwrap();
        assert_eq!(nothing, [result(&[], &[], "")], "{empty:?}");
    }

    // What is left of a result is passed over, and never becomes part of the next one.
    let sql = "select generate_series(1, 1000); select generate_series(2001, 3000); select 'end'";
    let mut rows = db.stream_simple(sql).unwrap();
    assert_eq!(rows.next().unwrap().expect("a row").get::<i32>(0).unwrap(), 1);
    assert!(rows.next_result().unwrap());
    assert_eq!(rows.next().unwrap().expect("a row").get::<i32>(0).unwrap(), 2001);
    assert!(rows.next_result().unwrap());
    assert_eq!(rows.next().unwrap().expect("a row").get::<&str>(0).unwrap(), "end");
    assert!(!rows.next_result().unwrap());
    assert!(rows.next().unwrap().is_none());
    drop(rows);
    let mut rows = db.stream_simple(sql).unwrap();
    assert!(rows.next_result().unwrap());
    assert_eq!(numbers(&mut rows), (2001..=3000).collect::<Vec<_>>());
    assert!(rows.next().unwrap().is_none(), "the end of a result stays its end");
    drop(rows);
    assert_eq!(db.stream_simple(sql).unwrap().finish().unwrap(), 1);
    assert_usable(&mut db);
}

#[test]
fn b10_an_error_in_a_string_of_statements_ends_the_stream() {
    let mut db = connect();
    let mut rows = db.stream_simple("select 1; select 1 / 0; select 3").unwrap();
    assert_eq!(rows.next().unwrap().expect("a row").get::<i32>(0).unwrap(), 1);
    // Nothing follows the first result but the error.
    let error = rows.next().unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::DIVISION_BY_ZERO));
    assert!(!rows.next_result().unwrap());
    assert!(rows.next().unwrap().is_none());
    drop(rows);
    assert_usable(&mut db);
    assert!(db.stream_simple("select 1; select 1 / 0").unwrap().next_result().is_err());
    assert!(db.stream_simple("selec").unwrap().finish().is_err());
    assert_usable(&mut db);
}

#[test]
fn b10_a_prepared_statement_streams() {
    let mut db = connect();
    let statement = db.prepare("select generate_series($1::int4, $2)").unwrap();
    for _ in 0..2 {
        let mut rows = db.stream_prepared(&statement, (3, 5)).unwrap();
        assert_eq!(numbers(&mut rows), [3, 4, 5]);
    }
    let error = db.stream_prepared(&statement, (3,)).unwrap_err();
    assert!(error.to_string().contains("2 parameters, but 1 were given"), "{error}");
    assert_usable(&mut db);
}

#[test]
fn b10_a_stream_runs_inside_a_transaction() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4)").unwrap();
    db.begin().unwrap();
    let insert = "insert into t select generate_series(1, 1000) returning x";
    assert_eq!(db.stream(insert, ()).unwrap().finish().unwrap(), 1000);
    // Dropped early, its work is done all the same.
    let mut rows = db.stream(insert, ()).unwrap();
    assert!(rows.next().unwrap().is_some());
    drop(rows);
    db.commit().unwrap();
    let count = |db: &mut PgConnection| {
        db.query_one("select count(*) from t", &[]).unwrap().get::<i64>(0).unwrap()
    };
    assert_eq!(count(&mut db), 2000);
    // An error in a stream fails the transaction, whether somebody was there to see it or not.
    for see in [true, false] {
        db.begin().unwrap();
        let mut rows = db.stream(FAILS_IN_ROW_5000, ()).unwrap();
        if see {
            assert!(numbers_or_error(&mut rows).is_err());
        } else {
            assert!(rows.columns().is_ok());
        }
        drop(rows);
        assert!(matches!(db.commit(), Err(PgError::RolledBack)));
        assert_eq!(count(&mut db), 2000);
    }
}

/// The rest of a stream, for its error.
fn numbers_or_error(rows: &mut Rows<'_>) -> PgResult<u64> {
    rows.for_each(|row| row.get::<i32>(0).map(drop))
}

const TWICE: &str = "insert into t values (1), (1) returning x";

/// A connection with a table `t` whose unique constraint is checked at the end of a transaction.
fn connect_with_deferred_constraint() -> PgConnection {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4 unique deferrable initially deferred)").unwrap();
    db
}

#[test]
fn h47_a_stream_ends_with_the_error_of_a_deferred_constraint() {
    let mut db = connect_with_deferred_constraint();
    let mut rows = db.stream(TWICE, ()).unwrap();
    for _ in 0..2 {
        assert_eq!(rows.next().unwrap().expect("a row").get::<i32>(0).unwrap(), 1);
    }
    let error = rows.next().unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION), "not the end of the rows");
    drop(rows);
    assert_eq!((db.last_affected_rows(), db.last_command_tag()), (0, ""));
    assert!(db.stream(TWICE, ()).unwrap().finish().is_err());
    assert!(db.stream_simple(TWICE).unwrap().finish().is_err());
    assert_eq!(db.query("select * from t", &[]).unwrap().len(), 0);

    // In a transaction it is the COMMIT that fails.
    db.begin().unwrap();
    assert_eq!(db.stream(TWICE, ()).unwrap().finish().unwrap(), 2);
    let error = db.stream("commit", ()).unwrap().finish().unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION));
    assert_eq!(db.query("select * from t", &[]).unwrap().len(), 0);
    assert_usable(&mut db);
}

#[test]
fn h47_the_terminal_event_is_the_error_of_a_deferred_constraint() {
    let mut db = connect_with_deferred_constraint();
    let ticket = db.submit(Request::Query { sql: TWICE, params: &() }, Delivery::Events).unwrap();
    let mut told = Vec::new();
    run_events(&mut db, 1, |event| {
        told.push(match event {
            Event::Columns { .. } => "columns".to_owned(),
            Event::Row { .. } => "row".to_owned(),
            Event::CommandComplete { tag, .. } => tag.to_string(),
            Event::Failed { ticket: failed, error } if failed == ticket => {
                error.sql_state().expect("a server's error").to_string()
            }
            other => format!("{other:?}"),
        });
    })
    .unwrap();
    assert_eq!(told, ["columns", "row", "row", "INSERT 0 2", "23505"]);
    assert_eq!(db.query("select * from t", &[]).unwrap().len(), 0);
}
