//! Numbers of every type through cached statements: never are bytes of one type read as another.

use chopin_pg::types::{Numeric, TypeMap};
use chopin_pg::{PgValue, ToSql};

use super::changes::answer;
use crate::support::*;

on_both_faces! {
    h3_each_number_is_what_the_server_makes_of_it,
}

/// Values of nine Rust types that could be mistaken for each other, in an order in which each has
/// another type than the one before.
fn numbers() -> Vec<Box<dyn ToSql>> {
    let numeric = |text: &str| Box::new(text.parse::<Numeric>().unwrap());
    vec![
        Box::new(7_i64),
        Box::new(7_i32),
        Box::new(7_i16),
        Box::new(55_i8),
        Box::new(7_u32),
        Box::new(0.1_f32),
        Box::new(0.1_f64),
        numeric("0.00001"),
        Box::new(true),
        Box::new(i64::MAX),
        Box::new(i32::MIN),
        Box::new(i16::MIN),
        Box::new(65_i8),
        Box::new(u32::MAX),
        Box::new(2.5_f32),
        Box::new(2.5_f64),
        numeric("99999999999.5"),
        Box::new(false),
        Box::new((1_i64 << 53) + 1),
        Box::new(f32::MAX),
        Box::new(1e300_f64),
        numeric("NaN"),
        Box::new(f32::NAN),
        Box::new(0.1 + 0.2),
        Box::new(f32::INFINITY),
        Box::new(f64::NEG_INFINITY),
        Box::new(None::<i64>),
        Box::new(None::<f32>),
        Box::new(-0.0_f64),
        Box::new(16_777_217_i32),
    ]
}

/// The value as psql gets it: its text, cast to the type that it is declared as.
fn literal(value: &dyn ToSql) -> String {
    let declared = value.declare(TypeMap::builtin()).name().expect("a type of every server");
    match value.to_sql() {
        PgValue::Null => format!("null::pg_catalog.\"{declared}\""),
        value => format!("'{value}'::pg_catalog.\"{declared}\""),
    }
}

fn h3_each_number_is_what_the_server_makes_of_it(face: Face) {
    const TYPES: [&str; 9] =
        ["int2", "int4", "int8", "float4", "float8", "numeric", "date", "timestamp", "timestamptz"];
    let mut db = connect();
    let columns = TYPES.map(|name| format!("{name} {name}")).join(", ");
    db.execute_batch(&format!("create temp table h3 ({columns})")).unwrap();
    let texts: Vec<String> = TYPES
        .into_iter()
        .flat_map(|to| {
            [
                format!("insert into h3 ({to}) values ($1) returning {to}::text"),
                format!("select ($1::{to})::text"),
            ]
        })
        .collect();
    let mut accepted = 0;
    for sql in &texts {
        let handle = face.prepare(&mut db, sql).unwrap();
        for value in &numbers() {
            let literal = literal(value);
            let expected = answer(db.query_simple(&sql.replace("$1", &literal)));
            // From the cache as soon as the type has come once.
            for _ in 0..2 {
                let cached = face.query(&mut db, sql, (value,));
                assert_eq!(answer(cached), expected, "{literal} in {sql}");
            }
            let prepared = face.query_prepared(&mut db, &handle, (value,));
            assert_eq!(answer(prepared), expected, "{literal} in {sql}, prepared");
            accepted += u32::from(expected.is_ok());
        }
    }
    assert!(accepted > 200, "{accepted}");
    let of_int8 = server_statements(&mut db).into_iter().filter(|sql| *sql == texts[4]).count();
    assert!(of_int8 > 5, "one text, {of_int8} entries");
    assert_usable(&mut db);
}
