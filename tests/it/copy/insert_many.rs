//! Many rows into a table: the same result as arrays and by COPY.

use chopin_pg::{PgConnection, PgError, SqlState};

use super::{content, with_table};
use crate::support::*;

/// The statements that the call sends, by their first word.
fn ways(db: &mut PgConnection, rows: usize) -> Vec<String> {
    let lines = traced(db, |db| {
        let rows: Vec<_> = (0..i64::try_from(rows).unwrap()).map(|id| (id, "word")).collect();
        let count = db.insert_many("t", ["id", "word"], rows.as_slice()).unwrap();
        assert_eq!(count, rows.len() as u64);
    });
    let statement = |line: &String| {
        let text = line.split('"').nth(if line.contains("\tParse\t") { 3 } else { 1 })?;
        (line.contains("\tParse\t") || line.contains("\tQuery\t"))
            .then(|| text.split(' ').next().unwrap_or_default().to_owned())
    };
    lines.iter().filter_map(statement).collect()
}

#[test]
fn b17_insert_many_picks_arrays_or_copy() {
    let mut db = with_table("id int8, word text");
    db.set_statement_cache_capacity(0);
    assert_eq!(ways(&mut db, 0), [""; 0], "nothing is sent for nothing");
    assert_eq!(ways(&mut db, 1), ["SELECT", "INSERT"]);
    assert_eq!(ways(&mut db, 1_000), ["SELECT", "INSERT"]);
    assert_eq!(ways(&mut db, 1_001), ["SELECT", "COPY"]);
    let sums = db.query_one("select count(*), sum(id)::int8 from t", &[]).unwrap();
    assert_eq!(sums.to::<(i64, i64)>().unwrap(), (2002, 499_500 + 500_500));
    // Few rows, but large ones.
    let large = "x".repeat(300_000);
    let rows: Vec<_> = (0..5i64).map(|id| (id, large.as_str())).collect();
    assert_eq!(db.insert_many("t", ["id", "word"], &rows).unwrap(), 5);
    assert_usable(&mut db);
}

#[test]
fn b17_both_ways_give_the_same() {
    let mut db = connect();
    db.execute_batch(
        "create type pg_temp.mood as enum ('sad', 'happy'); \
         create temp table wide (id int8 generated always as identity, a numeric(6,2), b varchar(9), \
         c jsonb, d timestamptz, e float8, f char(4)); \
         create temp table labels (id int4, mood mood, list int4[])",
    )
    .unwrap();
    let columns = ["id", "a", "b", "c", "d", "e", "f"];
    let row = |id: i32| {
        let odd = id % 2 == 1;
        (
            id,
            id,
            odd.then_some("a,\"b\"\n"),
            "{\"k\": [1]}",
            chopin_pg::types::Timestamptz(5),
            0.1,
            "x",
        )
    };
    let few: Vec<_> = (0..40).map(row).collect();
    let many: Vec<_> = (0..1040).map(row).collect();
    let sql = "select id, a, b, c, d, e, f from wide where id < 40 order by id";
    assert_eq!(db.insert_many("wide", columns, &few).unwrap(), 40);
    let by_arrays = printed(&db.query_simple(sql).unwrap());
    db.execute_batch("truncate wide").unwrap();
    assert_eq!(db.insert_many("wide", columns, &many).unwrap(), 1040);
    assert_eq!(printed(&db.query_simple(sql).unwrap()), by_arrays);
    // Types that have no array of PostgreSQL's own, or are one.
    let rows = [(1, "happy", vec![1, 2]), (2, "sad", vec![])];
    assert_eq!(db.insert_many("labels", ["id", "mood", "list"], rows).unwrap(), 2);
    let found = printed(&db.query_simple("select * from labels order by id").unwrap());
    assert_eq!(found, "1|happy|{1,2}\n2|sad|{}");
}

#[test]
fn b17_errors_are_the_same_both_ways_and_nothing_is_inserted() {
    let mut db = with_table("id int4 primary key, word text");
    for count in [10i64, 2_000] {
        let mut rows: Vec<_> = (0..count).map(|id| (id, Some("word"))).collect();
        rows[7].0 = 6;
        let error = db.insert_many("t", ["id", "word"], &rows).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::UNIQUE_VIOLATION), "{count}");
        rows[7].0 = 1 << 40;
        let error = db.insert_many("t", ["id", "word"], &rows).unwrap_err();
        assert!(matches!(&error, PgError::Parameter(_)), "{error}");
        assert!(error.to_string().starts_with("row 8, column \"id\" (i64 as int4)"), "{error}");
        let error = db.insert_many("t", ["id"], &rows).unwrap_err();
        assert!(
            matches!(&error, PgError::Usage(why) if why.contains("row 1 has 2 values")),
            "{error}"
        );
        let error = db.insert_many("t", ["id", "wrd"], &rows).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::UNDEFINED_COLUMN));
        assert_eq!(content(&mut db), "");
    }
    assert_usable(&mut db);
}

#[test]
fn b17_h35_schemas_and_all_columns() {
    let mut db = connect();
    db.execute_batch("create temp table \"Order's\" (\"the id\" int4, \"a\"\"b\" text)").unwrap();
    for count in [3, 1_500] {
        let rows: Vec<_> = (0..count).map(|id| (id, "x")).collect();
        let none: [&str; 0] = [];
        let inserted = db.insert_many(("pg_temp", "Order's"), none, &rows).unwrap();
        assert_eq!(inserted, rows.len() as u64);
        let inserted = db.insert_many("Order's", ["the id", "a\"b"], &rows).unwrap();
        assert_eq!(inserted, rows.len() as u64);
    }
    db.set_execution_mode(chopin_pg::ExecutionMode::Simple);
    assert_eq!(db.insert_many("Order's", ["the id"], [(1,)]).unwrap(), 1);
    db.set_execution_mode(chopin_pg::ExecutionMode::Cached);
    assert_usable(&mut db);
}
