//! Typed binary COPY: each value becomes its column's type exactly, or is refused.

use chopin_pg::types::{Date, Numeric, Timestamp, Timestamptz};
use chopin_pg::{CopyIn, CopyOptions, CopyOut, PgConnection, PgError, PgValue, ToSql};

use super::{content, with_table};
use crate::support::*;

fn binary(table: &str) -> CopyIn {
    CopyIn::table(table).options(CopyOptions::binary())
}

/// The columns of the matrix.
const COLUMNS: [&str; 9] =
    ["int2", "int4", "int8", "float4", "float8", "numeric", "date", "timestamp", "timestamptz"];

/// A value of each numeric Rust type, and its text for people.
fn numbers() -> Vec<(Box<dyn ToSql>, String)> {
    let mut all: Vec<(Box<dyn ToSql>, String)> = Vec::new();
    for number in [0, 1, -7, i16::MIN] {
        all.push((Box::new(number), number.to_string()));
    }
    for number in [1, 40_000, 16_777_217, i32::MIN] {
        all.push((Box::new(number), number.to_string()));
    }
    for number in [1, 1 << 40, 9_007_199_254_740_993, i64::MAX] {
        all.push((Box::new(number), number.to_string()));
    }
    for number in [1, u32::MAX] {
        all.push((Box::new(number), number.to_string()));
    }
    for number in [0.0, 1.5, 0.1, -1e30, f32::INFINITY] {
        all.push((Box::new(number), format!("{}", f64::from(number))));
    }
    for number in [0.0, 2.5, 0.1, 1e300, -3.0] {
        all.push((Box::new(number), format!("{number}")));
    }
    for number in ["0", "42", "-0.5", "12345678901234567890.5", "1e5"] {
        let number = Numeric::new(number).unwrap();
        let text = number.to_string();
        all.push((Box::new(number), text));
    }
    for value in [PgValue::Int8(5), PgValue::Float8(0.25)] {
        let text = value.to_string();
        all.push((Box::new(value), text));
    }
    all.push((Box::new(Some(7i16)), "7".to_owned()));
    all
}

#[test]
fn h49_every_number_becomes_its_column_s_type_exactly_or_is_refused() {
    let mut taken = 0;
    for column in COLUMNS {
        let mut db = with_table(&format!("x {column}"));
        for (value, text) in numbers() {
            let mut writer = db.copy_in(binary("t")).unwrap();
            match writer.write_row([&*value]) {
                Ok(()) => {
                    assert_eq!(writer.finish().unwrap(), 1, "{text} into {column}");
                    taken += 1;
                    assert!(!column.starts_with(['d', 't']), "{text} became a {column}");
                    let same = is_same(&mut db, &text, column, value.rust_type());
                    assert!(same, "{text} ({}) into {column}", value.rust_type());
                }
                Err(error) => {
                    assert!(matches!(&error, PgError::Parameter(_)), "{error}");
                    let error = error.to_string();
                    assert!(error.starts_with("row 1, column \"x\" ("), "{error}");
                    assert!(error.contains(&format!(" as {column}): ")), "{error}");
                    drop(writer);
                }
            }
            db.execute_batch("truncate t").unwrap();
        }
        assert_usable(&mut db);
    }
    assert!(taken > 70, "{taken}");
}

/// Whether the server finds what is stored to be the number that `text` is.
fn is_same(db: &mut PgConnection, text: &str, column: &str, rust_type: &str) -> bool {
    let rust_type = rust_type.rsplit("::").next().unwrap_or_default();
    // A float4 is compared as what it is; its digits are those of the nearest float8.
    let number = match (rust_type, column) {
        ("f32", "float4" | "numeric") => format!("'{text}'::float8::float4"),
        ("f32", _) | ("f64", _) => format!("'{text}'::float8"),
        _ => format!("'{text}'::numeric"),
    };
    // What came from a decimal number is compared by its shortest digits.
    let stored = match (rust_type, column) {
        ("f32" | "f64", "numeric") => "x::float8".to_owned(),
        ("f32" | "f64", _) => "x::float8".to_owned(),
        ("Numeric", "float4" | "float8") => "x::text::numeric".to_owned(),
        (_, "float4" | "float8") => "x::float8::numeric".to_owned(),
        _ => "x::numeric".to_owned(),
    };
    let number = if column == "numeric" && rust_type == "f32" {
        format!("({number})::text::float8")
    } else {
        number
    };
    let sql = format!("select {stored} = {number} from t");
    db.query_one(&sql, &[]).unwrap().get(0).unwrap()
}

#[test]
fn h49_numbers_that_just_fit_and_just_do_not() {
    let mut db = with_table("small int2, real float4, double float8, exact numeric(4,1)");
    let mut writer = db.copy_in(binary("t")).unwrap();
    writer.write_row((i64::from(i16::MAX), 1 << 24, 1i64 << 53, 7)).unwrap();
    for (value, column) in [(40_000i64, "small"), (i64::MIN + 1, "small")] {
        let error = writer.write_row((value, 0, 0, 0)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("row 2, column \"{column}\" (i64 as int2)")), "{error}");
    }
    let error = writer.write_row((0, (1 << 24) + 1, 0, 0)).unwrap_err().to_string();
    assert!(error.contains("column \"real\" (i32 as float4)"), "{error}");
    let error = writer.write_row((0, 0, (1i64 << 53) + 1, 0)).unwrap_err().to_string();
    assert!(error.contains("column \"double\" (i64 as float8)"), "{error}");
    let error = writer.write_row((0, 0, 0, Timestamptz(0))).unwrap_err().to_string();
    assert!(error.contains("column \"exact\" (Timestamptz as numeric)"), "{error}");
    writer.write_row((1, 2, 3, Numeric::new("123.45").unwrap())).unwrap();
    assert_eq!(writer.finish().unwrap(), 2);
    assert_eq!(content(&mut db), "1|2|3|123.5\n32767|1.6777216e+07|9.007199254740992e+15|7.0");
}

#[test]
fn h49_texts_become_every_type_that_is_text() {
    let mut db = connect();
    db.execute_batch(
        "create type pg_temp.mood as enum ('sad', 'happy'); \
         create domain pg_temp.short as varchar(8); \
         create temp table t (a text, b varchar(5), c char(3), d name, e json, f jsonb, g mood, \
         h short, i varchar[], j uuid, k date, l int4, m bool)",
    )
    .unwrap();
    let words = vec!["x", "y"];
    let mut writer = db.copy_in(binary("t")).unwrap();
    let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    writer
        .write_row((
            "té",
            "b",
            "c",
            "d",
            "[1]",
            "{\"a\":1}",
            "happy",
            "h",
            &words,
            uuid,
            "2024-02-29",
            "42",
            "t",
        ))
        .unwrap();
    let owned = String::from("sad");
    let row = ("", "", "", "", "{}", "[]", &owned, "", Vec::<&str>::new(), None::<&str>);
    let row: Vec<&dyn ToSql> = vec![
        &row.0, &row.1, &row.2, &row.3, &row.4, &row.5, &row.6, &row.7, &row.8, &row.9, &row.9,
        &row.9, &row.9,
    ];
    writer.write_row(row).unwrap();
    assert_eq!(writer.finish().unwrap(), 2);
    let rows = db.query_simple("select * from t order by a desc").unwrap();
    assert_eq!(
        printed(&rows),
        format!(
            "té|b|c  |d|[1]|{{\"a\": 1}}|happy|h|{{x,y}}|{uuid}|2024-02-29|42|t\n\
                 ||   ||{{}}|[]|sad||{{}}|NULL|NULL|NULL|NULL"
        )
    );
    // What is no value of an enum only the server knows.
    let mut writer =
        db.copy_in(CopyIn::table("t").columns(["g"]).options(CopyOptions::binary())).unwrap();
    writer.write_row(("neither",)).unwrap();
    let error = writer.finish().unwrap_err();
    assert_eq!(error.as_server().unwrap().code.as_str(), "22P02", "{error}");
    assert_usable(&mut db);
}

#[test]
fn h49_what_has_no_exact_form_is_refused_with_a_hint() {
    let mut db = connect();
    db.execute_batch("create type pg_temp.pair as (a int4, b int4)").unwrap();
    for (column, value) in [
        ("pair", &"(1,2)" as &dyn ToSql),
        ("int4range", &"[1,2)"),
        ("date", &"tomorrow"),
        ("text", &5i32),
        ("text", &b"bytes".as_slice()),
        ("timestamptz", &Timestamp(0)),
        ("timestamp", &Timestamptz(0)),
        ("timestamp", &Date(0)),
        ("int8", &true),
        ("int4[]", &vec![1i64]),
        ("json", &PgValue::Jsonb(b"{}".to_vec())),
        ("money", &5i64),
        ("int4", &1.0f64),
    ] {
        db.execute_batch(&format!("drop table if exists t; create temp table t (x {column})"))
            .unwrap();
        let mut writer = db.copy_in(binary("t")).unwrap();
        let error = writer.write_row([value]).unwrap_err();
        assert!(matches!(&error, PgError::Parameter(_)), "{column}: {error}");
        assert!(error.to_string().contains("use the text format"), "{error}");
        drop(writer);
        assert_usable(&mut db);
    }
}

#[test]
fn b12_every_type_goes_in_and_comes_out_in_binary() {
    let mut db = with_table(
        "a bool, b int2, c int4, d int8, e float4, f float8, g text, h bytea, i uuid, j date, \
         k timestamptz, l numeric, m int4[], n jsonb, o inet",
    );
    let row = (
        (true, 2i16, 3i32, 4i64),
        (1.5f32, -0.0f64, "text", vec![0u8, 255], [7u8; 16]),
        (Date(1), Timestamptz(-1), Numeric::new("-1.50").unwrap(), vec![Some(1), None]),
        (PgValue::Jsonb(b"{\"a\": 1}".to_vec()), "10.0.0.1".parse::<std::net::IpAddr>().unwrap()),
    );
    let ((a, b, c, d), (e, f, g, h, i), (j, k, l, m), (n, o)) = row;
    let mut writer = db.copy_in(binary("t")).unwrap();
    let full: [&dyn ToSql; 15] = [&a, &b, &c, &d, &e, &f, &g, &h, &i, &j, &k, &l, &m, &n, &o];
    writer.write_row(full).unwrap();
    writer.write_row([const { PgValue::Null }; 15]).unwrap();
    assert_eq!(writer.finish().unwrap(), 2);
    let copy = CopyOut::table("t").options(CopyOptions::binary());
    let mut reader = db.copy_out(copy).unwrap();
    let row = reader.next_row().unwrap().unwrap();
    assert!(row.get::<bool>("a").unwrap());
    assert_eq!((row.get::<i16>("b").unwrap(), row.get::<i64>("d").unwrap()), (b, d));
    assert_eq!(row.get::<i64>("c").unwrap(), 3, "an i64 reads an int4, as everywhere");
    assert_eq!((row.get::<f32>("e").unwrap(), row.get::<&str>("g").unwrap()), (e, g));
    assert!(row.get::<f64>("f").unwrap().is_sign_negative());
    assert_eq!(row.get::<&[u8]>("h").unwrap(), h);
    assert_eq!((row.get::<[u8; 16]>("i").unwrap(), row.get::<Date>("j").unwrap()), (i, j));
    assert_eq!((row.get::<Timestamptz>("k").unwrap(), row.get::<Numeric>("l").unwrap()), (k, l));
    assert_eq!(row.get::<Vec<Option<i32>>>("m").unwrap(), m);
    assert_eq!(row.get::<PgValue>("n").unwrap(), n);
    assert_eq!(row.get::<std::net::IpAddr>("o").unwrap(), o);
    let error = row.get::<i32>("g").unwrap_err().to_string();
    assert!(error.contains("column \"g\": cannot read text as i32"), "{error}");
    let row = reader.next_row().unwrap().unwrap();
    assert!((0..15).all(|index| row.is_null(index).unwrap()));
    assert!(reader.next_row().unwrap().is_none());
}

#[test]
fn b12_columns_that_cannot_be_written_have_to_be_left_out() {
    let mut db = with_table("a int4, double int4 generated always as (a * 2) stored");
    let error = db.copy_in(binary("t")).unwrap_err();
    assert!(matches!(&error, PgError::Usage(why) if why.contains("name those")), "{error}");
    let mut writer = db.copy_in(binary("t").columns(["a"])).unwrap();
    writer.write_row((21,)).unwrap();
    assert_eq!(writer.finish().unwrap(), 1);
    assert_eq!(content(&mut db), "21|42");
    let copy = CopyOut::table("t").options(CopyOptions::binary());
    assert!(matches!(db.copy_out(copy), Err(PgError::Usage(_))));
    assert_usable(&mut db);
}

#[test]
fn b12_an_empty_typed_copy_is_a_copy() {
    let mut db = with_table("a int4");
    assert_eq!(db.copy_in(binary("t")).unwrap().finish().unwrap(), 0);
    let copy = CopyOut::table("t").options(CopyOptions::binary());
    let mut reader = db.copy_out(copy).unwrap();
    assert!(reader.next_row().unwrap().is_none());
    assert!(reader.next_row().unwrap().is_none(), "the end stays the end");
}

/// A panic in the program's own code leaves no half row behind.
#[test]
fn h20_a_value_that_panics_leaves_the_copy_going() {
    struct Panics;
    impl ToSql for Panics {
        fn declare(&self, _: &chopin_pg::types::TypeMap) -> chopin_pg::Oid {
            chopin_pg::Oid::INT4
        }
        fn encode(
            &self,
            _: &chopin_pg::types::TypeMap,
            out: &mut chopin_pg::types::Out<'_>,
        ) -> chopin_pg::PgResult<chopin_pg::types::Encoded> {
            out.put_u8(1);
            std::panic::resume_unwind(Box::new("its own panic"));
        }
    }
    let mut db = with_table("a int4, b int4");
    let mut writer = db.copy_in(binary("t")).unwrap();
    writer.write_row((1, 2)).unwrap();
    let row = std::panic::AssertUnwindSafe(|| writer.write_row((3, Panics)));
    std::panic::catch_unwind(row).unwrap_err();
    writer.write_row((4, 5)).unwrap();
    assert_eq!(writer.finish().unwrap(), 2);
    assert_eq!(content(&mut db), "1|2\n4|5");
}
