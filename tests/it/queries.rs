//! Queries and their results.

use chopin_pg::{PgError, PgValue, Row};

use crate::support::*;

#[test]
fn s8_4_s9_1_s2_25_parameters_and_results_in_binary() {
    let mut db = connect();
    let rows = db
        .query(
            "select $1::int4 as i, $2::text as t, $3::float8 as f, $4::bool as b, $5::bytea as y, \
             null::int8 as n",
            &[&7, &"żal", &1.5, &true, &[0u8, 255].as_slice()],
        )
        .unwrap();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert!(row.columns().iter().all(|column| column.format() == chopin_pg::types::Format::Binary));
    let values: (i32, &str, f64, bool, &[u8], Option<i64>) = row.to().unwrap();
    assert_eq!(values, (7, "żal", 1.5, true, [0u8, 255].as_slice(), None));
    assert_eq!(row.get::<i64>("i").unwrap(), 7, "widening loses nothing");
    assert_eq!(row.get::<PgValue>(1).unwrap(), PgValue::Text("żal".into()));
    assert_eq!(row.get_by_name::<String>("t").unwrap(), "żal");
    assert_eq!(row.get_typed::<Option<i32>>(5).unwrap(), None);
    assert!(row.is_null("n").unwrap() && !row.is_null(0).unwrap());
    assert_usable(&mut db);
}

#[test]
fn parameters_come_as_slices_arrays_tuples_and_vectors() {
    let mut db = connect();
    let sum = |rows: Vec<Row>| rows[0].get::<i32>(0).unwrap();
    let sql = "select $1::int4 + $2::int4";
    assert_eq!(sum(db.query(sql, &[&1, &2]).unwrap()), 3);
    assert_eq!(sum(db.query_with(sql, (1, 2i16)).unwrap()), 3);
    assert_eq!(sum(db.query_with(sql, [1, 2]).unwrap()), 3);
    assert_eq!(sum(db.query_with(sql, vec![Some(1), Some(2)]).unwrap()), 3);
    assert_eq!(sum(db.query_with(sql, [1, 2].as_slice()).unwrap()), 3);
    assert_eq!(sum(db.query_with("select 3", ()).unwrap()), 3);
    assert_eq!(db.execute_with("select 1 where $1", (false,)).unwrap(), 0);
}

#[test]
fn s9_3_h12_result_sets_are_kept_apart() {
    let mut db = connect();
    let results = db
        .query_simple_results(
            "select 1 as a; create temp table t (x int4); ; insert into t values (1), (2); \
             select x as b, x * 10 as c from t order by x",
        )
        .unwrap();
    let tags: Vec<_> = results.iter().map(|result| result.command_tag()).collect();
    assert_eq!(tags, ["SELECT 1", "CREATE TABLE", "INSERT 0 2", "SELECT 2"]);
    assert_eq!(results[0].columns().len(), 1);
    assert_eq!(results[0].rows()[0].get::<i32>("a").unwrap(), 1);
    assert!(results[1].columns().is_empty() && results[1].rows().is_empty());
    assert_eq!(results[2].affected_rows(), 2);
    assert_eq!(results[3].rows()[1].to::<(i32, i64)>().unwrap(), (2, 20));
    // The plain form gives the rows of the last statement that returns rows, and never a mixture.
    let rows = db.query_simple("select 1; select 2 as b; set timezone to 'UTC'").unwrap();
    assert_eq!((rows.len(), rows[0].get::<&str>("b").unwrap()), (1, "2"));
    assert!(db.query_simple("").unwrap().is_empty());
    assert_usable(&mut db);
}

#[test]
fn s9_7_h11_row_counts_belong_to_their_own_command() {
    let mut db = connect();
    assert_eq!((db.last_affected_rows(), db.last_command_tag()), (0, ""));
    db.execute_batch("create temp table t (x int4)").unwrap();
    assert_eq!((db.last_affected_rows(), db.last_command_tag()), (0, "CREATE TABLE"));
    assert_eq!(db.execute("insert into t select generate_series(1, 5)", &[]).unwrap(), 5);
    assert_eq!((db.last_affected_rows(), db.last_command_tag()), (5, "INSERT 0 5"));
    assert_eq!(db.execute("", &[]).unwrap(), 0, "an empty statement touches nothing");
    assert_eq!((db.last_affected_rows(), db.last_command_tag()), (0, ""));
    assert_eq!(db.execute("update t set x = x where x > 2", &[]).unwrap(), 3);
    assert_eq!(db.execute("-- nothing", &[]).unwrap(), 0);
    assert_eq!(db.execute("delete from t where false", &[]).unwrap(), 0);
    assert_eq!(db.execute("select * from t", &[]).unwrap(), 5);
    assert!(db.execute("insert into t values (1 / 0)", &[]).is_err());
    assert_eq!((db.last_affected_rows(), db.last_command_tag()), (0, ""), "it failed");
    db.query_simple("").unwrap();
    assert_eq!(db.last_affected_rows(), 0);
    assert_eq!(db.query("", &[]).unwrap().len(), 0);
    assert_usable(&mut db);
}

#[test]
fn s9_11_one_row_or_at_most_one() {
    let mut db = connect();
    assert_eq!(db.query_one("select 5", &[]).unwrap().get::<i32>(0).unwrap(), 5);
    assert!(db.query_opt("select 1 where false", &[]).unwrap().is_none());
    assert!(db.query_opt("select 1", &[]).unwrap().is_some());
    for (sql, got) in [("select 1 where false", 0), ("select generate_series(1, 3)", 3)] {
        let error = db.query_one(sql, &[]).unwrap_err();
        assert!(matches!(error, PgError::Rows { got: rows, .. } if rows == got), "{error}");
    }
    let error = db.query_opt("select generate_series(1, 2)", &[]).unwrap_err();
    assert!(error.to_string().contains("at most one row"), "{error}");
    assert_usable(&mut db);
}

#[test]
fn s9_20_s10_13_a_batch_is_one_transaction_and_stops_at_the_first_error() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4); insert into t values (1)").unwrap();
    let error = db
        .execute_batch("insert into t values (2); select 1 / 0; insert into t values (3)")
        .unwrap_err();
    assert_eq!(error.sql_state().unwrap().as_str(), "22012");
    let count: i64 = db.query_one("select count(*) from t", &[]).unwrap().get(0).unwrap();
    assert_eq!(count, 1);
    db.execute_batch("").unwrap();
    assert_usable(&mut db);
}

#[test]
fn s10_12_rows_share_their_columns_and_their_memory() {
    let mut db = connect();
    let rows = db.query("select i, i::text as t from generate_series(1, 1000) i", &[]).unwrap();
    assert_eq!(rows.len(), 1000);
    let columns = rows[0].columns().as_ptr();
    assert!(rows.iter().all(|row| std::ptr::eq(row.columns().as_ptr(), columns)));
    let numbers: Vec<i32> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=1000));
    // One after the other in one arena, as they came: 4 bytes of length before each text.
    let texts: Vec<&str> = rows.iter().map(|row| row.get("t").unwrap()).collect();
    let distance = texts[1].as_ptr() as usize - texts[0].as_ptr() as usize;
    assert_eq!(distance, 1 + (4 + 4) + 4);
    let (kept, detached) = (rows[499].clone(), rows[499].detach());
    drop(rows);
    assert_eq!(kept.get::<&str>("t").unwrap(), "500");
    assert_eq!(detached.to::<(i32, String)>().unwrap(), (500, "500".into()));
}

#[test]
fn rows_without_columns_and_columns_without_names() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4); insert into t values (1), (2)").unwrap();
    let rows = db.query("select from t", &[]).unwrap();
    assert_eq!((rows.len(), rows[0].len(), rows[0].is_empty()), (2, 0, true));
    let row = db.query_one("select 1 as a, 2 as a, 3", &[]).unwrap();
    assert_eq!(row.get::<i32>("a").unwrap(), 1, "the first of several");
    assert_eq!(row.get::<i32>("?column?").unwrap(), 3);
    let error = row.get::<i32>("b").unwrap_err();
    assert_eq!(error.to_string(), "there is no column named \"b\": the row has 3 (a, a, ?column?)");
    assert!(matches!(row.get::<i32>(3), Err(PgError::Column(_))));
    let error = row.to::<(i32, i32)>().unwrap_err();
    assert!(error.to_string().contains("3 columns, but is read as a tuple of 2"), "{error}");
}

#[test]
fn a_conversion_error_names_the_column_and_both_types() {
    let mut db = connect();
    let row = db.query_one("select 'x'::text as name, null::int4 as year", &[]).unwrap();
    let error = row.get::<i32>("name").unwrap_err();
    assert!(error.to_string().starts_with("column \"name\": cannot read text as i32"), "{error}");
    let error = row.get::<i32>("year").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("column \"year\"") && text.contains("int4") && text.contains("NULL"),
        "{text}"
    );
    assert_eq!(row.get::<Option<i32>>("year").unwrap(), None);
}

#[test]
fn h48_copy_through_a_query_is_refused_and_the_connection_usable() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4)").unwrap();
    for sql in ["COPY t FROM STDIN", " /* c */ copy t (x) from stdin with (format csv)"] {
        for error in [
            db.execute(sql, &[]).unwrap_err(),
            db.query(sql, &[]).unwrap_err(),
            db.execute_batch(sql).unwrap_err(),
            db.prepare(sql).unwrap_err(),
        ] {
            assert!(matches!(&error, PgError::Usage(why) if why.contains("copy_in")), "{error}");
        }
        assert_usable(&mut db);
    }
    let error = db.query("copy t to stdout", &[]).unwrap_err();
    assert!(error.to_string().contains("copy_out"), "{error}");
    assert_usable(&mut db);
    // Hidden behind another statement it is met by its CopyInResponse.
    for sql in ["select 1; copy t from stdin; select 2", "select 1; copy t from stdin"] {
        let error = db.execute_batch(sql).unwrap_err();
        assert!(matches!(&error, PgError::Usage(why) if why.contains("copy_in")), "{error}");
        assert_usable(&mut db);
    }
    let error =
        db.query_simple("insert into t values (1); copy t to stdout; select 2").unwrap_err();
    assert!(error.to_string().contains("copy_out"), "{error}");
    assert_usable(&mut db);
    // What needs no data from this side is a command like any other.
    let file = std::env::temp_dir().join(testkit::unique("copy"));
    let error = db.execute(&format!("copy t from '{}'", file.display()), &[]).unwrap_err();
    assert_eq!(error.sql_state().unwrap().as_str(), "58P01");
    assert_eq!(db.execute("copy t from program 'echo 7'", &[]).unwrap(), 1);
    assert_usable(&mut db);
}

#[test]
fn large_values_come_and_go_whole() {
    let mut db = connect();
    let text = "0123456789abcdef".repeat(1 << 18);
    let row = db.query_one(
        "select $1::text as t, length($1) as n, md5($1) = md5($2) as same",
        &[&text, &text],
    );
    let row = row.unwrap();
    assert_eq!(row.get::<i32>("n").unwrap(), 4 << 20);
    assert!(row.get::<bool>("same").unwrap());
    assert_eq!(row.get::<&str>("t").unwrap(), text);
    let rows = db.query("select repeat('x', i) from generate_series(1, 3000) i", &[]).unwrap();
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(row.get::<&str>(0).unwrap().len(), index + 1);
    }
    assert_usable(&mut db);
}
