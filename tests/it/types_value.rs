//! [`PgValue`] of every variant against a server: sent, read, printed.

use chopin_pg::types::{Encoded, Out, TypeMap};
use chopin_pg::{Oid, PgConnection, PgValue, ToParam, ToSql, Typed, Untyped};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::support::{assert_usable, connect};
use crate::types_scalar::{any_string, literal};

/// A connection to a server that prints values as [`PgValue`] does.
fn connect_in_utc() -> PgConnection {
    let mut db = connect();
    db.execute("set timezone to 'UTC'", &[]).unwrap();
    db
}

/// Values of every variant that has a type, with the type's name and the function that writes its
/// binary form.
fn samples() -> Vec<(PgValue, &'static str, &'static str)> {
    vec![
        (PgValue::Bool(true), "bool", "boolsend"),
        (PgValue::Char(120), "\"char\"", "charsend"),
        (PgValue::Int2(-2), "int2", "int2send"),
        (PgValue::Int4(70_000), "int4", "int4send"),
        (PgValue::Int8(-5_000_000_000), "int8", "int8send"),
        (PgValue::Oid(Oid::new(4_000_000_000)), "oid", "oidsend"),
        (PgValue::Float4(0.1), "float4", "float4send"),
        (PgValue::Float8(1e23), "float8", "float8send"),
        (PgValue::Text("a \"é\"".to_owned()), "text", "textsend"),
        (PgValue::Bytes(vec![0, 255]), "bytea", "byteasend"),
        (PgValue::Json("{\"a\":  [1]}".to_owned()), "json", "json_send"),
        (PgValue::Jsonb(b"{\"a\": [1, 2]}".to_vec()), "jsonb", "jsonb_send"),
        (PgValue::Uuid([7; 16]), "uuid", "uuid_send"),
        (PgValue::Date(8825), "date", "date_send"),
        (PgValue::Date(i32::MIN), "date", "date_send"),
        (PgValue::Time(86_399_999_999), "time", "time_send"),
        (PgValue::Timestamp(-1), "timestamp", "timestamp_send"),
        (PgValue::Timestamp(i64::MAX), "timestamp", "timestamp_send"),
        (PgValue::Timestamptz(762_525_296_789_000), "timestamptz", "timestamptz_send"),
        (
            PgValue::Interval { months: -14, days: 3, microseconds: -3_723_000_001 },
            "interval",
            "interval_send",
        ),
        (PgValue::Inet("10.1.2.3/8".to_owned()), "inet", "inet_send"),
        (PgValue::Inet("fe80::1".to_owned()), "inet", "inet_send"),
        (PgValue::Numeric("-0.000010".to_owned()), "numeric", "numeric_send"),
        (PgValue::Numeric("NaN".to_owned()), "numeric", "numeric_send"),
        (PgValue::MacAddr([8, 0, 43, 1, 2, 3]), "macaddr", "macaddr_send"),
        (PgValue::Point { x: 1.5, y: -2.0 }, "point", "point_send"),
    ]
}

/// The value, and a list that holds it and a NULL.
fn alone_and_in_a_list(
    (value, type_name, send): (PgValue, &str, &str),
) -> [(PgValue, String, String); 2] {
    let list = PgValue::Array(vec![value.clone(), PgValue::Null]);
    [
        (value, type_name.to_owned(), send.to_owned()),
        (list, format!("{type_name}[]"), "array_send".to_owned()),
    ]
}

#[test]
fn s2_34_s2_21_s2_27_every_value_comes_back_as_it_went() {
    let db = &mut connect();
    for (value, type_name, _) in samples().into_iter().flat_map(alone_and_in_a_list) {
        let sql = format!("select $1::{type_name} as value");
        let row = db.query_one(&sql, &[&value]).unwrap();
        assert_eq!(row.get::<PgValue>("value").unwrap(), value);
        assert_eq!(row.columns()[0].type_oid(), value.type_oid());
        // As declared, without a cast; strings and json have no type of their own.
        if !matches!(value, PgValue::Text(_) | PgValue::Json(_)) {
            let row = db.query_one("select $1", &[&value]).unwrap();
            assert_eq!(row.get::<PgValue>(0).unwrap(), value);
            assert_eq!(row.columns()[0].type_oid(), value.type_oid());
        }
    }
}

#[test]
fn s2_29_the_binary_form_is_what_the_servers_own_function_writes() {
    let db = &mut connect();
    for (value, type_name, send) in samples().into_iter().flat_map(alone_and_in_a_list) {
        let bytes = value.to_binary_bytes().unwrap();
        let sql = format!("select {send}({}::{type_name})", literal(&value.to_string()));
        let written: Vec<u8> = db.query_one(&sql, &[]).unwrap().get(0).unwrap();
        assert_eq!(Some(&written), bytes.as_ref(), "{sql}");
        assert_eq!(PgValue::from_binary(value.type_oid(), &written).unwrap(), value);
    }
}

#[test]
fn s2_30_the_text_form_is_what_the_server_prints_and_reads() {
    let db = &mut connect_in_utc();
    for (value, type_name, _) in samples().into_iter().flat_map(alone_and_in_a_list) {
        let text = String::from_utf8(value.to_text_bytes().unwrap().unwrap()).unwrap();
        let sql = format!("select format('%s', $1::{type_name}), $2::{type_name}");
        let row = db.query_one(&sql, &[&value, &text]).unwrap();
        assert_eq!(row.get::<String>(0).unwrap(), text);
        assert_eq!(value.to_string(), text);
        assert_eq!(row.get::<PgValue>(1).unwrap(), value, "{type_name} {text}");
        let row = db.query_one(&format!("select $1::{type_name}"), &[&Untyped(&value)]).unwrap();
        assert_eq!(row.get::<PgValue>(0).unwrap(), value, "{type_name} {text}");
    }
}

#[test]
fn s2_31_the_servers_text_is_the_same_value_as_its_binary() {
    let db = &mut connect();
    for (value, type_name, _) in samples().into_iter().flat_map(alone_and_in_a_list) {
        let sql = format!("select {}::{type_name}", literal(&value.to_string()));
        let in_text = &db.query_simple(&sql).unwrap()[0];
        assert_eq!(in_text.get::<PgValue>(0).unwrap(), value, "{sql}");
        let text: String = in_text.get(0).unwrap();
        assert_eq!(PgValue::from_text(value.type_oid(), &text).unwrap(), value, "{sql}");
        let in_binary = db.query_one(&sql, &[]).unwrap();
        assert_eq!(in_binary.get::<PgValue>(0).unwrap(), value, "{sql}");
    }
}

#[test]
fn s2_32_elements_are_escaped_as_the_server_does() {
    let (db, random) = (&mut connect(), &mut StdRng::seed_from_u64(3));
    let mut strings: Vec<String> = (0..500).map(|_| any_string(random)).collect();
    strings.extend(["", "null", "NULL", "nullx", "a b", "{}", "é"].map(str::to_owned));
    let sql = "select array[u]::text from unnest($1) with ordinality as _ (u, n) order by n";
    let rows = db.query(sql, &[&strings]).unwrap();
    assert_eq!(rows.len(), strings.len());
    for (row, string) in rows.iter().zip(&strings) {
        let printed: &str = row.get(0).unwrap();
        assert_eq!(format!("{{{}}}", PgValue::escape_array_element(string)), printed);
    }
}

#[test]
fn s2_25_the_format_of_each_parameter_is_told_to_the_server() {
    let db = &mut connect();
    // Binary, text, NULL, binary: each is read for what it is.
    let params: [&dyn ToSql; 4] =
        [&PgValue::Int4(7), &PgValue::Text("7".into()), &PgValue::Null, &PgValue::Bytes(vec![7])];
    for (param, binary) in params.iter().zip([true, false, false, true]) {
        let encoded = param.encode(TypeMap::builtin(), &mut Out::new(&mut Vec::new())).unwrap();
        assert_eq!(encoded == Encoded::Binary, binary);
        assert_eq!(param.to_sql().prefers_binary(), binary);
    }
    let row = db.query_one("select $1, $2::int4, $3::int4, $4", &params).unwrap();
    let read: (i32, i32, Option<i32>, Vec<u8>) = row.to().unwrap();
    assert_eq!(read, (7, 7, None, vec![7]));
}

#[test]
fn s2_34_values_without_a_type_take_the_one_of_their_place() {
    let db = &mut connect();
    let sql = "select $1::int4range @> 3, $2::int4[] = '{}', $3::text[] is null, \
               cardinality($4::int4[]), $5::varchar, $6::int4[]";
    let square = PgValue::Array(vec![PgValue::Array(vec![PgValue::Int4(7)])]);
    let params: [&dyn ToSql; 6] = [
        &PgValue::Range("[1,5)".into()),
        &PgValue::Array(vec![]),
        &PgValue::Null,
        &vec![PgValue::Null, PgValue::Null],
        &PgValue::Text("a".into()),
        &square,
    ];
    let row = db.query_one(sql, &params).unwrap();
    let read: (bool, bool, bool, i32, String, PgValue) = row.to().unwrap();
    let PgValue::Unknown { oid, .. } = &read.5 else { panic!("{:?}", read.5) };
    assert_eq!(*oid, Oid::INT4_ARRAY, "of two dimensions, kept as bytes");
    assert_eq!((read.0, read.1, read.2, read.3, &*read.4), (true, true, true, 2, "a"));
    let rows = db.query_simple("select '[1,5)'::int4range, '{\"[1,5)\"}'::int4range[]").unwrap();
    assert_eq!(rows[0].get::<PgValue>(0).unwrap(), PgValue::Range("[1,5)".into()));
    assert_eq!(rows[0].get::<Vec<String>>(1).unwrap(), ["[1,5)"]);
}

#[test]
fn s4_10_parameters_kept_as_values_are_the_same_parameters() {
    let db = &mut connect();
    let kept =
        [18_i32.to_param(), "a".to_param(), None::<i64>.to_param(), vec!["x", "y"].to_param()];
    let params: Vec<&dyn ToSql> = kept.iter().map(|value| value as &dyn ToSql).collect();
    let row = db.query_one("select $1, $2::text, $3::int8, $4", &params).unwrap();
    let read: (i32, String, Option<i64>, Vec<String>) = row.to().unwrap();
    assert_eq!(read, (18, "a".to_owned(), None, vec!["x".to_owned(), "y".to_owned()]));
}

#[test]
fn h8_types_without_a_codec_are_bytes_or_an_error_and_never_garbage() {
    let db = &mut connect();
    db.execute_batch("drop type if exists h8_mood; create type h8_mood as enum ('sad', 'ok')")
        .unwrap();
    let sql = "select '[1,5)'::int4range, '12:00:00+02'::timetz, '1.50'::money, '(1,2),(0,0)'::box, \
               row(1, 'a'), b'101', 'ok'::h8_mood, '{sad,ok}'::h8_mood[]";
    let rows = db.query(sql, &[]).unwrap();
    let row = &rows[0];
    for (index, column) in row.columns().iter().enumerate() {
        let error = row.get::<String>(index).unwrap_err().to_string();
        assert!(error.contains(&column.type_name()), "{error}");
        assert_eq!(error.contains("load_types"), column.type_oid().get() >= 16_384, "{error}");
        let value: PgValue = row.get(index).unwrap();
        let PgValue::Unknown { oid, .. } = &value else { panic!("{value:?}") };
        assert_eq!(*oid, column.type_oid());
        if column.type_oid() != Oid::RECORD {
            let back = db.query_one("select $1 as value", &[&value]).unwrap();
            assert_eq!(back.get::<PgValue>(0).unwrap(), value);
        }
    }
    let rows = db.query_simple(sql).unwrap();
    for (index, printed) in
        ["[1,5)", "12:00:00+02", "$1.50", "(1,2),(0,0)", "(1,a)", "101", "ok", "{sad,ok}"]
            .into_iter()
            .enumerate()
    {
        assert_eq!(rows[0].get::<String>(index).unwrap(), printed);
        assert_eq!(rows[0].get::<PgValue>(index).unwrap().to_string(), printed);
    }
    db.execute("drop type h8_mood", &[]).unwrap();
}

#[test]
fn h30_values_that_cannot_be_sent_are_refused_before_anything_is() {
    let db = &mut connect();
    let mixed = PgValue::Array(vec![PgValue::Int4(1), PgValue::Text("a".into())]);
    let nameless = PgValue::Unknown { oid: Oid::UNSPECIFIED, bytes: vec![] };
    for (value, why) in [
        (&mixed as &dyn ToSql, "int4 and text"),
        (&nameless, "type is not known"),
        (&PgValue::Json("\0".into()), "NUL"),
        (&PgValue::Numeric("one".into()), "numeric"),
        (&PgValue::Inet("nowhere".into()), "inet"),
        (&Typed(PgValue::Unknown { oid: Oid::MONEY, bytes: vec![0; 8] }, Oid::TEXT), "binary"),
    ] {
        let error = db.query("select $1", &[value]).unwrap_err().to_string();
        assert!(error.contains("$1") && error.contains(why), "{error}");
        assert_usable(db);
    }
}
