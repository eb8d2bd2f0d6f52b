//! bool, numbers, strings, bytes, json, uuid and their arrays against the server's own text.
//!
//! Each value goes to the server as a parameter, comes back in binary, and comes back in text
//! format from the literal that the server printed for it. Dates, numerics, addresses and points
//! have tests of their own.

use std::fmt::Debug;

use chopin_pg::types::Format;
use chopin_pg::{FromSql, Oid, PgConnection, PgError, PgValue, StaticType, ToSql, Typed, Untyped};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{assert_usable, connect};

/// The same values in every run.
fn random() -> StdRng {
    StdRng::seed_from_u64(2)
}

/// A string literal of SQL.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The server takes each value for the same as we do: it prints what we print, and what it sends
/// back is the value, in binary and in text format. Values are compared as Rust prints them, so
/// that NaN is NaN and -0 is not 0.
#[track_caller]
fn assert_server_agrees<T>(
    db: &mut PgConnection,
    sql_type: &str,
    values: impl IntoIterator<Item = T>,
) where
    T: ToSql + Debug + for<'a> FromSql<'a>,
{
    let sql = format!("select $1::{sql_type} as value, format('%s', $1::{sql_type}) as printed");
    for value in values {
        let expected = format!("{value:?}");
        let row = db.query_one(&sql, &[&value]).unwrap();
        let printed: String = row.get("printed").unwrap();
        assert_eq!(value.to_sql().to_string(), printed, "{sql_type} {expected}");
        let binary: T = row.get("value").unwrap();
        assert_eq!(format!("{binary:?}"), expected, "{sql_type} in binary");

        let rows = db.query_simple(&format!("select {}::{sql_type}", literal(&printed))).unwrap();
        let text: T = rows[0].get(0).unwrap();
        assert_eq!(format!("{text:?}"), expected, "{sql_type} {printed} in text format");
        let dynamic: PgValue = rows[0].get(0).unwrap();
        assert_eq!(dynamic.to_string(), printed);
        assert_eq!(format!("{dynamic:?}"), format!("{:?}", row.get::<PgValue>("value").unwrap()));
    }
}

/// A string of a few characters of every length in UTF-8, and of what arrays and literals treat in
/// a special way.
pub(crate) fn any_string(random: &mut StdRng) -> String {
    const SPECIAL: &[char] =
        &['"', '\\', '{', '}', ',', ' ', '\'', '\n', '\t', 'N', 'u', ';', '\u{a0}'];
    let length = random.random_range(0..12);
    let mut any_char = || match random.random_range(0..3) {
        0 => random.random_range('\u{1}'..='\u{7f}'),
        1 => random.random_range('\u{80}'..=char::MAX),
        _ => SPECIAL[random.random_range(0..SPECIAL.len())],
    };
    (0..length).map(|_| any_char()).collect()
}

fn any_bytes(random: &mut StdRng) -> Vec<u8> {
    (0..random.random_range(0..20)).map(|_| random.random()).collect()
}

#[test]
fn s2_1_s2_21_bool_and_integers_agree_with_the_server() {
    let (db, random) = (&mut connect(), &mut random());
    assert_server_agrees(db, "bool", [false, true]);
    assert_server_agrees(db, "int2", [0, 1, -1, i16::MIN, i16::MAX]);
    assert_server_agrees(db, "int4", [0, 1, -1, i32::MIN, i32::MAX]);
    assert_server_agrees(db, "int8", [0, 1, -1, i64::MIN, i64::MAX]);
    assert_server_agrees(db, "oid", [0, 1, u32::MAX]);
    assert_server_agrees(db, "oid", [Oid::TEXT, Oid::new(0x8000_0001)]);
    let bits: Vec<u64> =
        (0..100).map(|_| random.random::<u64>() >> random.random_range(0..64)).collect();
    assert_server_agrees(
        db,
        "int8",
        bits.iter().map(|bits| i64::from_ne_bytes(bits.to_ne_bytes())),
    );
}

#[test]
fn s2_1_s2_21_floats_agree_with_the_server() {
    let (db, random) = (&mut connect(), &mut random());
    let special = [0.0, -0.0, 1.0, 1e15, 1e-5, 1e23, 5e-324, f64::MAX, f64::MIN_POSITIVE];
    let special = special.into_iter().chain([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    assert_server_agrees(db, "float8", special);
    let special = [0.0, -0.0, 1.0, 1e6, 1e-5, 16_777_216.0, 1e-45, f32::MAX];
    let special = special.into_iter().chain([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    assert_server_agrees(db, "float4", special);

    // Bits of every kind, whole numbers and quarters around the end of the digits that fit, decimal
    // fractions: thousands at once.
    let mut float8 = Vec::new();
    let mut float4 = Vec::new();
    for _ in 0..5000 {
        let (exponent, digits) = (random.random_range(-2..60), random.random_range(0..12));
        let (bits8, bits4) = (random.random::<u64>(), random.random::<u32>());
        let whole = f64::from_bits((1023 + 52) << 52 | bits8 >> 12) * 2_f64.powi(exponent);
        float8.extend([f64::from_bits(bits8), whole, f64::from(bits4) / 10_f64.powi(digits)]);
        let whole = f32::from_bits((127 + 23) << 23 | bits4 >> 9) * 2_f32.powi(exponent);
        let small = f32::from(random.random::<i16>());
        float4.extend([f32::from_bits(bits4), whole, small / 10_f32.powi(digits)]);
    }
    assert_server_agrees(db, "float8[]", [float8]);
    assert_server_agrees(db, "float4[]", [float4]);
}

#[test]
fn s2_1_strings_agree_with_the_server() {
    let (db, random) = (&mut connect(), &mut random());
    let strings: Vec<String> = (0..200).map(|_| any_string(random)).collect();
    for sql_type in ["text", "varchar", "xml"] {
        let strings = strings.iter().filter(|_| sql_type != "xml").cloned();
        assert_server_agrees(db, sql_type, strings.chain(["".to_owned(), "aé😀".to_owned()]));
    }
    assert_server_agrees(db, "name", ["", "pg_class", "é"].map(str::to_owned));
    assert_server_agrees(db, "bpchar", ["a  ", "é"].map(str::to_owned));
    assert_server_agrees(db, "char(3)", ["a  ", "é  "].map(str::to_owned));
}

#[test]
fn s2_1_s2_22_s2_40_bytea_agrees_with_the_server_in_both_of_its_text_forms() {
    let (db, random) = (&mut connect(), &mut random());
    let all = (0..=255).collect::<Vec<u8>>();
    assert_server_agrees(db, "bytea", [vec![], vec![0], all.clone()]);
    assert_server_agrees(db, "bytea", (0..100).map(|_| any_bytes(random)));
    db.execute("set bytea_output to 'escape'", &[]).unwrap();
    for bytes in [vec![], all].into_iter().chain((0..100).map(|_| any_bytes(random))) {
        let sql = format!("select {}::bytea", literal(&bytes.to_sql().to_string()));
        let rows = db.query_simple(&sql).unwrap();
        assert_eq!(rows[0].get::<Vec<u8>>(0).unwrap(), bytes);
        assert_eq!(rows[0].get::<PgValue>(0).unwrap(), PgValue::Bytes(bytes));
    }
}

/// Of every byte, also of those above 127, which servers print in two different ways.
#[test]
fn s2_1_char_is_every_byte() {
    let db = &mut connect();
    for value in i8::MIN..=i8::MAX {
        let row = db.query_one("select $1 as value", &[&value]).unwrap();
        assert_eq!(row.get::<i8>(0).unwrap(), value);
    }
    db.execute("create temp table chars (value \"char\")", &[]).unwrap();
    for value in i8::MIN..=i8::MAX {
        db.execute("insert into chars values ($1)", &[&value]).unwrap();
    }
    let rows = db.query_simple("select value from chars").unwrap();
    let read: Vec<i8> = rows.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(read, (i8::MIN..=i8::MAX).collect::<Vec<_>>());
    let binary = db.query("select value from chars where value < 'z'", &[]).unwrap();
    for row in binary {
        let (byte, string): (i8, String) =
            row.to().map(|(byte,)| byte).and_then(|byte| Ok((byte, row.get(0)?))).unwrap();
        assert_eq!(string, PgValue::Char(byte).to_string());
    }
}

#[test]
fn s2_2_s2_22_json_agrees_with_the_server() {
    let db = &mut connect();
    let samples = ["null", "1", "\"é\\n\"", "[1, 2]", "{\"a\": {\"b\": [null]}}"];
    assert_server_agrees(db, "json", samples.map(str::to_owned));
    assert_server_agrees(db, "json", samples.map(|text| PgValue::Json(text.to_owned())));
    assert_server_agrees(db, "jsonb", samples.map(str::to_owned));
    assert_server_agrees(db, "jsonb", samples.map(|text| PgValue::Jsonb(text.into())));
    let row =
        db.query_one("select $1::jsonb ->> 'a'", &[&PgValue::Json("{\"a\": 7}".into())]).unwrap();
    assert_eq!(row.get::<String>(0).unwrap(), "7");
}

#[test]
fn s2_3_s2_41_uuid_agrees_with_the_server() {
    let random = &mut random();
    assert_server_agrees(&mut connect(), "uuid", (0..50).map(|_| random.random::<[u8; 16]>()));
}

#[test]
fn s2_8_s2_27_s2_38_arrays_agree_with_the_server() {
    let (db, random) = (&mut connect(), &mut random());
    assert_server_agrees(db, "int4[]", [vec![], vec![None], vec![Some(1), None, Some(-1)]]);
    assert_server_agrees(db, "bool[]", [[true, false]]);
    assert_server_agrees(db, "uuid[]", [vec![[7_u8; 16], [9; 16]]]);
    assert_server_agrees(db, "\"char\"[]", [vec![97_i8, 0, 34]]);
    for _ in 0..50 {
        let count = random.random_range(0..8);
        let strings = (0..count).map(|_| random.random_bool(0.9).then(|| any_string(random)));
        let strings: Vec<Option<String>> = strings.collect();
        assert_server_agrees(db, "text[]", [strings.clone()]);
        assert_server_agrees(db, "varchar[]", [strings]);
        let bytes = (0..count).map(|_| any_bytes(random)).collect::<Vec<_>>();
        assert_server_agrees(db, "bytea[]", [bytes]);
    }
    assert_server_agrees(
        db,
        "json[]",
        [vec![r#"{"a": "\"b\\"}"#.to_owned(), "null".to_owned()]].map(json),
    );
}

/// The strings as a list of json.
fn json(list: Vec<String>) -> PgValue {
    PgValue::Array(list.into_iter().map(PgValue::Json).collect())
}

#[test]
fn s2_27_s2_38_bounds_and_dimensions_of_the_servers_arrays() {
    let db = &mut connect();
    let bounds = "select '[2:4]={1,NULL,3}'::int2[]";
    let square = "select '{{1,2},{3,4}}'::int4[]";
    let vectors = "select '1 2 3'::int2vector, ''::oidvector, '{(1,1),(0,0);(3,3),(2,2)}'::box[]";
    for rows in [db.query(bounds, &[]).unwrap(), db.query_simple(bounds).unwrap()] {
        assert_eq!(rows[0].get::<Vec<Option<i64>>>(0).unwrap(), [Some(1), None, Some(3)]);
        assert_eq!(rows[0].get::<[Option<i16>; 3]>(0).unwrap(), [Some(1), None, Some(3)]);
    }
    for rows in [db.query(square, &[]).unwrap(), db.query_simple(square).unwrap()] {
        let error = rows[0].get::<Vec<i32>>(0).unwrap_err().to_string();
        assert!(error.contains("more than one dimension"), "{error}");
        let value: PgValue = rows[0].get(0).unwrap();
        let back = db.query_one("select $1::int4[] = '{{1,2},{3,4}}'::int4[]", &[&value]).unwrap();
        assert!(back.get::<bool>(0).unwrap());
    }
    for rows in [db.query(vectors, &[]).unwrap(), db.query_simple(vectors).unwrap()] {
        assert_eq!(rows[0].get::<Vec<i16>>(0).unwrap(), [1, 2, 3]);
        assert_eq!(rows[0].get::<Vec<Oid>>(1).unwrap(), []);
    }
    let boxes: Vec<String> = db.query_simple(vectors).unwrap()[0].get(2).unwrap();
    assert_eq!(boxes, ["(1,1),(0,0)", "(3,3),(2,2)"]);
}

#[test]
fn s2_25_parameters_and_results_are_binary_where_they_have_a_binary_form() {
    let db = &mut connect();
    let params: [&dyn ToSql; 3] = [&1, &"x", &vec![1_u8]];
    let row = db.query_one("select $1, $2::text, $3", &params).unwrap();
    assert!(row.columns().iter().all(|column| column.format() == Format::Binary));
    let rows = db.query_simple("select 1, 'x'::text, '\\x01'::bytea").unwrap();
    assert!(rows[0].columns().iter().all(|column| column.format() == Format::Text));
    for row in [&row, &rows[0]] {
        let read: (i32, String, Vec<u8>) = row.to().unwrap();
        assert_eq!(read, (1, "x".to_owned(), vec![1]));
    }
}

#[test]
fn s2_33_the_server_sees_the_type_that_rust_declares() {
    fn type_of(db: &mut PgConnection, param: &dyn ToSql) -> String {
        let row = db.query_one("select pg_typeof($1)::text", &[param]).unwrap();
        row.get(0).unwrap()
    }
    fn assert_type<T: ToSql + StaticType>(db: &mut PgConnection, value: T, name: &str) {
        assert_eq!(type_of(db, &value), name);
        assert_eq!(type_of(db, &None::<T>), name);
        assert_eq!(type_of(db, &vec![value]), format!("{name}[]"));
        assert_eq!(type_of(db, &Vec::<T>::new()), format!("{name}[]"));
    }
    let db = &mut connect();
    assert_type(db, true, "boolean");
    assert_type(db, 1_i8, "\"char\"");
    assert_type(db, 1_i16, "smallint");
    assert_type(db, 1_i32, "integer");
    assert_type(db, 1_i64, "bigint");
    assert_type(db, 1_u32, "oid");
    assert_type(db, Oid::TEXT, "oid");
    assert_type(db, 1_f32, "real");
    assert_type(db, 1_f64, "double precision");
    assert_type(db, vec![1_u8], "bytea");
    assert_type(db, [1_u8; 16], "uuid");
    assert_eq!(type_of(db, &["a"]), "text[]");
    assert_eq!(type_of(db, &Typed("{}", Oid::JSONB)), "jsonb");
    assert_eq!(type_of(db, &PgValue::Array(vec![PgValue::Null, PgValue::Int2(1)])), "smallint[]");
}

#[test]
fn s2_33_a_string_takes_the_type_that_its_place_asks_for() {
    let db = &mut connect();
    db.execute_batch(
        "drop type if exists s2_33_mood; create type s2_33_mood as enum ('sad', 'ok')",
    )
    .unwrap();
    let sql = "select $1::uuid::text, $2 = any(enum_range(null::s2_33_mood)), $3::jsonb ->> 'a', \
               $4::date + 1 = '2024-03-01', $5 + 1::int8, $6 = any($7)";
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    let row =
        db.query_one(sql, &[&uuid, &"ok", &"{\"a\": 1}", &"2024-02-29", &"41", &"b", &["a", "b"]]);
    let read: (String, bool, String, bool, i64, bool) = row.unwrap().to().unwrap();
    assert_eq!(read, (uuid.to_owned(), true, "1".to_owned(), true, 42, true));
    db.execute("drop type s2_33_mood", &[]).unwrap();
}

#[test]
fn s2_33_typed_and_untyped_are_parsed_for_the_type_they_are_needed_as() {
    let db = &mut connect();
    let sql = "select $1::text, $2::text, $3::text, $4 || 'x', $5 = any('{7,8}'::text[])";
    let params: [&dyn ToSql; 5] = [
        &Typed(7_i64, Oid::FLOAT8),
        &Typed(0.1_f64, Oid::NUMERIC),
        &Typed([1_i64, 2], Oid::FLOAT4_ARRAY),
        &Untyped(7),
        &Untyped(8_i64),
    ];
    let read: (String, String, String, String, bool) =
        db.query_one(sql, &params).unwrap().to().unwrap();
    assert_eq!(read, ("7".to_owned(), "0.1".to_owned(), "{1,2}".to_owned(), "7x".to_owned(), true));
    // The server refuses the text of a value that its type does not have; it never rounds.
    let error = db.query_one("select $1", &[&Typed(0.5_f64, Oid::INT8)]).unwrap_err();
    assert_eq!(error.sql_state().map(|state| state.to_string()).as_deref(), Some("22P02"));
    assert_usable(db);
}

#[test]
fn s2_35_s2_37_null_goes_and_comes_as_none() {
    let db = &mut connect();
    let params: [&dyn ToSql; 4] = [&None::<i32>, &None::<&str>, &None::<Vec<i64>>, &PgValue::Null];
    let sql = "select $1, $2::text, $3, $4::uuid";
    let row = db.query_one(sql, &params).unwrap();
    let read: (Option<i32>, Option<String>, Option<Vec<i64>>, PgValue) = row.to().unwrap();
    assert_eq!(read, (None, None, None, PgValue::Null));
    let error = row.get::<i32>(0).unwrap_err().to_string();
    assert!(error.contains("NULL") && error.contains("Option"), "{error}");
    let row = db.query_one("select $1::int4", &[&Some(7)]).unwrap();
    assert_eq!(row.get::<Option<i32>>(0).unwrap(), Some(7));
}

#[test]
fn s2_36_what_would_lose_something_is_an_error_that_names_column_and_types() {
    let db = &mut connect();
    let sql = "select 7::int2 as small, 7::int4 as medium, 7::int8 as large, 0.1::float4 as real, \
               7::numeric as exact";
    for rows in [db.query(sql, &[]).unwrap(), db.query_simple(sql).unwrap()] {
        let row = &rows[0];
        assert_eq!(row.get::<i64>("small").unwrap(), 7);
        assert_eq!(row.get::<i64>("medium").unwrap(), 7);
        assert_eq!(row.get::<i32>("small").unwrap(), 7);
        assert_eq!(row.get::<f64>("real").unwrap(), f64::from(0.1_f32));
        let error = row.get::<i32>("large").unwrap_err();
        assert!(matches!(error, PgError::TypeConversion(_)));
        let error = error.to_string();
        assert!(
            error.contains("\"large\"") && error.contains("int8") && error.contains("i32"),
            "{error}"
        );
        assert!(row.get::<f64>("exact").is_err());
        assert!(row.get::<f64>("large").is_err());
        assert!(row.get::<bool>("small").is_err());
    }
}

#[test]
fn h30_a_nul_byte_in_a_string_is_refused_before_anything_is_sent() {
    let db = &mut connect();
    let params: [&dyn ToSql; 4] =
        [&"a\0b", &vec!["\0"], &PgValue::Json("\0".into()), &Untyped(vec!["\0"])];
    for param in params {
        let error = db.query("select $1::text", &[param]).unwrap_err();
        assert!(matches!(error, PgError::Parameter(_)), "{error}");
        assert!(error.to_string().contains("$1") && error.to_string().contains("NUL"), "{error}");
        assert_usable(db);
    }
    let error = db.query("select $1::int4, $2::text", &[&1, &"\0"]).unwrap_err().to_string();
    assert!(error.contains("$2"), "{error}");
    assert_usable(db);
}
