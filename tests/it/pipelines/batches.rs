//! Batches: one statement, many parameter sets.

use chopin_pg::connection::ParamSets;
use chopin_pg::{Delivery, Event, ExecutionMode, PgConnection, PgError, Request, SqlState};

use super::{connect_with_table, stored};
use crate::support::*;

const INSERT: &str = "insert into t values ($1)";

#[test]
fn b11_a_batch_counts_each_set_and_joins_the_rows() {
    let mut db = connect_with_table();
    // New, cached, and through every kind of list.
    for sets in [vec![(1,), (2,), (3,)], vec![(4,)], (5..100).map(|x| (x,)).collect()] {
        let counts = db.execute_many(INSERT, &sets).unwrap();
        assert_eq!(counts, vec![1; sets.len()]);
    }
    assert_eq!(stored(&mut db), (1..100).collect::<Vec<_>>());
    let counts = db.execute_many("delete from t where x > $1", [(98,), (49,), (1000,), (9,)]);
    assert_eq!(counts.unwrap(), [1, 49, 0, 40]);
    assert_eq!(db.last_command_tag(), "DELETE 40");

    let rows = db.query_many(
        "select $1::int4 + i from generate_series(0, $2) i",
        [(10, 2), (20, -1), (30, 0)],
    );
    let numbers: Vec<i32> = rows.unwrap().iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(numbers, [10, 11, 12, 30]);
    let rows = db.query_many("insert into t values ($1) returning x * 2", [[101], [102]]).unwrap();
    let numbers: Vec<i32> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(numbers, [202, 204]);
    assert_usable(&mut db);
}

#[test]
fn b11_a_prepared_statement_runs_as_a_batch() {
    let mut db = connect_with_table();
    let insert = db.prepare(INSERT).unwrap();
    assert_eq!(db.execute_many_prepared(&insert, [(1,), (2,)]).unwrap(), [1, 1]);
    // Integers of another width and strings are what the server's type makes of them.
    assert_eq!(db.execute_many_prepared(&insert, [(3i64,), (4,)]).unwrap(), [1, 1]);
    assert_eq!(db.execute_many_prepared(&insert, [("5",), ("6",)]).unwrap(), [1, 1]);
    let error = db.execute_many_prepared(&insert, [("7",), ("eight",)]).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_TEXT_REPRESENTATION));
    assert_eq!(error.as_server().unwrap().parameter_set, Some(1));
    assert_eq!(stored(&mut db), [1, 2, 3, 4, 5, 6]);
    assert!(db.execute_many_prepared(&insert, Vec::<(i32,)>::new()).unwrap().is_empty());
    db.execute_batch("drop table t").unwrap();
    assert!(db.execute_many_prepared(&insert, [(1,)]).is_err());
    assert_usable(&mut db);
}

#[test]
fn b11_an_error_names_its_set_and_leaves_nothing_of_the_others() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4 primary key)").unwrap();
    for (place, sets) in [[1, 1, 2, 3], [1, 2, 2, 3], [1, 2, 3, 3]].into_iter().enumerate() {
        let sets = sets.map(|x| (x,));
        let error = db.execute_many(INSERT, sets).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION));
        assert_eq!(error.as_server().unwrap().parameter_set, Some(place + 1), "{error}");
        let line = format!("PARAMETER SET: {}", place + 1);
        assert!(error.to_string().ends_with(&line), "{error}");
        assert!(stored(&mut db).is_empty());
        let error = db.query_many("insert into t values ($1) returning x", sets).unwrap_err();
        assert_eq!(error.as_server().unwrap().parameter_set, Some(place + 1), "{error}");
        assert!(stored(&mut db).is_empty());
    }
    // The first set is the one that a batch of one has too.
    let error = db.execute_many("select 1 / $1", [(0,), (1,)]).unwrap_err();
    assert_eq!(error.as_server().unwrap().parameter_set, Some(0));
    // In a transaction, it has failed as a whole.
    db.begin().unwrap();
    db.execute_many(INSERT, [(1,), (2,)]).unwrap();
    assert!(db.execute_many(INSERT, [(3,), (1,)]).is_err());
    assert!(matches!(db.commit(), Err(PgError::RolledBack)));
    assert!(stored(&mut db).is_empty());
    assert_usable(&mut db);
}

#[test]
fn b11_h47_an_error_of_no_single_set_names_none() {
    let mut db = connect_with_table();
    let set = |error: &PgError| error.as_server().expect("a server's error").parameter_set;
    // The statement itself is wrong.
    let error = db.execute_many("insert into nowhere values ($1)", [(1,), (2,)]).unwrap_err();
    assert_eq!((error.sql_state(), set(&error)), (Some(SqlState::UNDEFINED_TABLE), None));
    // Only at the end of all it shows that two sets do not go together.
    let error = db.execute_many(INSERT, [(1,), (2,), (1,)]).unwrap_err();
    assert_eq!((error.sql_state(), set(&error)), (Some(SqlState::UNIQUE_VIOLATION), None));
    assert!(stored(&mut db).is_empty());
    assert_usable(&mut db);
}

#[test]
fn b11_sets_that_do_not_go_together_are_refused_and_nothing_is_sent() {
    let mut db = connect_with_table();
    let refused = |error: PgError, text: &str| {
        assert!(error.to_string().contains(text), "{error}");
    };
    let one: &dyn chopin_pg::ToSql = &1;
    let mixed = [[one], [&2.5f64], [&3]];
    let error = db.execute_many(INSERT, mixed).unwrap_err();
    refused(error, "parameter $1 is f64 (float8), but the batch has int4 there");
    let error = db.execute_many(INSERT, mixed).unwrap_err();
    refused(error, "nothing was sent (in parameter set 1)");
    let error = db.execute_many(INSERT, vec![vec![1], vec![2, 3]]).unwrap_err();
    refused(error, "1 parameters, but 2 were given (in parameter set 1)");
    let error = db.execute_many("select $1::text", [("a",), ("b\0",)]).unwrap_err();
    assert!(
        matches!(&error, PgError::Parameter(why) if (why.index, why.set) == (Some(1), Some(1))),
        "{error}"
    );
    // NULL goes with every type, and strings with strings.
    let counts = db.execute_many(INSERT, [Some(1), None, Some(2)].map(|x| (x,))).unwrap();
    assert_eq!(counts, [1, 1, 1]);
    db.execute("delete from t where x is null", &[]).unwrap();
    assert_eq!(stored(&mut db), [1, 2]);

    assert!(db.execute_many(INSERT, Vec::<(i32,)>::new()).unwrap().is_empty());
    assert!(db.query_many(INSERT, Vec::<(i32,)>::new()).unwrap().is_empty());
    let sets = Vec::<(i32,)>::new();
    let empty = db.submit(Request::Batch { sql: INSERT, sets: &sets }, Delivery::Collect);
    refused(empty.unwrap_err(), "the batch has no parameter sets");
    db.set_execution_mode(ExecutionMode::Simple);
    refused(db.execute_many(INSERT, [(1,), (2,)]).unwrap_err(), "nothing was sent");
    db.set_execution_mode(ExecutionMode::Unnamed);
    assert_eq!(db.execute_many(INSERT, [(3,), (4,)]).unwrap(), [1, 1]);
    assert_eq!(stored(&mut db), [1, 2, 3, 4]);
    assert_usable(&mut db);
}

#[test]
fn b11_a_batch_may_have_ten_thousand_sets() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4 primary key, y text)").unwrap();
    let sets: Vec<_> = (0..10_000).map(|x| (x, format!("text {x}"))).collect();
    let insert = "insert into t values ($1, $2)";
    assert_eq!(db.execute_many(insert, &sets).unwrap(), vec![1; 10_000]);
    let rows = db.query_many(
        "select y from t where x = $1",
        sets.iter().map(|(x, _)| (*x,)).collect::<Vec<_>>(),
    );
    let rows = rows.unwrap();
    assert_eq!(rows.len(), 10_000);
    for (row, (_, text)) in rows.iter().zip(&sets) {
        assert_eq!(row.get::<&str>(0).unwrap(), text);
    }
    let again: Vec<_> = (10_000..19_999).chain([7]).map(|x| (x, "again")).collect();
    let error = db.execute_many(insert, &again).unwrap_err();
    assert_eq!(error.as_server().unwrap().parameter_set, Some(9_999));
    assert_eq!(stored(&mut db).len(), 10_000);
    assert_usable(&mut db);
}

#[test]
fn b11_a_batch_delivers_events() {
    let mut db = connect_with_table();
    let sql = "insert into t select generate_series(1, $1) + $2 returning x";
    let told = |db: &mut PgConnection, sets: &dyn ParamSets| {
        let ticket = db.submit(Request::Batch { sql, sets }, Delivery::Events).unwrap();
        let mut told = Vec::new();
        run_events(db, 1, |event| {
            assert_eq!(event.ticket(), Some(ticket));
            told.push(match event {
                Event::Columns { columns, .. } => columns[0].name().to_owned(),
                Event::Row { row, .. } => row.get::<i32>(0).unwrap().to_string(),
                Event::CommandComplete { tag, .. } => tag.to_string(),
                Event::Complete { .. } => "complete".to_owned(),
                Event::Failed { error, .. } => {
                    let server = error.as_server().expect("a server's error");
                    format!("{} in set {:?}", server.code, server.parameter_set)
                }
                other => format!("{other:?}"),
            });
        })
        .unwrap();
        told
    };
    let good = ["x", "11", "12", "INSERT 0 2", "INSERT 0 0", "31", "INSERT 0 1", "complete"];
    for _ in 0..2 {
        assert_eq!(told(&mut db, &[(2, 10), (0, 20), (1, 30)]), good);
        assert_eq!(stored(&mut db), [11, 12, 31]);
        db.execute("delete from t", &[]).unwrap();
    }
    let bad = told(&mut db, &[(1, 10), (1, i32::MAX), (1, 30)]);
    assert_eq!(bad, ["x", "11", "INSERT 0 1", "22003 in set Some(1)"]);
    assert!(stored(&mut db).is_empty());
    assert_usable(&mut db);
}

#[test]
fn b11_a_batch_is_one_request_of_its_group() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4 primary key)").unwrap();
    let mut pipeline = db.pipeline();
    pipeline.query("insert into t values (1)", ()).unwrap();
    pipeline.batch(INSERT, [(2,), (3,), (1,), (4,)]).unwrap();
    pipeline.batch(INSERT, [(5,), (6,)]).unwrap();
    pipeline.sync().unwrap();
    pipeline.batch(INSERT, [(7,), (8,)]).unwrap();
    let results = pipeline.finish().unwrap();
    assert!(matches!(results[0], Err(PgError::RolledBack)));
    let error = results[1].as_ref().unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION));
    assert_eq!(error.as_server().unwrap().parameter_set, Some(2));
    let error = results[2].as_ref().unwrap_err();
    assert!(matches!(error, PgError::NotRun(_)) && error.is_safe_to_retry());
    assert_eq!(results[3].as_ref().unwrap().counts(), [1, 1]);
    assert_eq!(stored(&mut db), [7, 8]);
    assert_usable(&mut db);
}
