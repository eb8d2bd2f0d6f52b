//! Numbers, lengths and strings at and beyond what the protocol can carry.

use chopin_pg::{PgError, ToSql};

use crate::support::*;

#[test]
fn h30_too_many_parameters_and_columns_are_clear_errors() {
    let mut db = connect();
    let params: Vec<i32> = vec![1; 65_536];
    let error = db.query_with("select 1", &params).unwrap_err();
    assert!(
        error.to_string().contains("65536 parameters are more than the protocol allows (65535)"),
        "{error}"
    );
    assert_usable(&mut db);
    let list: Vec<String> = (1..=65_535).map(|n| format!("(${n}::int4)")).collect();
    let sql = format!("select sum(x) from (values {}) v (x)", list.join(","));
    db.set_io_timeout(std::time::Duration::from_secs(60));
    let row = db.query_with(&sql, &params[..65_535]).unwrap().remove(0);
    assert_eq!(row.get::<i64>(0).unwrap(), 65_535);

    let columns = |count: usize| format!("select {}", vec!["1"; count].join(","));
    let row = db.query_one(&columns(1664), &[]).unwrap();
    assert_eq!((row.len(), row.get::<i32>(1663).unwrap()), (1664, 1));
    let error = db.query_one(&columns(1665), &[]).unwrap_err();
    assert_eq!(error.sql_state().unwrap().as_str(), "54011");
    assert_usable(&mut db);
}

#[test]
fn h30_nul_bytes_are_refused_where_they_cannot_be() {
    let mut db = connect();
    let refused = |error: PgError, what: &str| {
        let text = error.to_string();
        assert!(text.contains("NUL"), "{what}: {text}");
    };
    refused(db.query("select 1\0", &[]).unwrap_err(), "query");
    refused(db.execute_batch("select\0 1").unwrap_err(), "simple query");
    refused(db.prepare("\0").unwrap_err(), "prepare");
    let error = db.query("select $1::text, $2::text", &[&"good", &"a\0b"]).unwrap_err();
    let PgError::Parameter(parameter) = &error else { panic!("{error}") };
    assert_eq!(parameter.index, Some(2));
    refused(error, "parameter");
    refused(db.query("select $1::text[]", &[&vec!["a\0b"]]).unwrap_err(), "element");
    refused(
        db.query("select $1", &[&chopin_pg::PgValue::Text("\0".into())]).unwrap_err(),
        "PgValue",
    );
    let moved = ToSql::to_sql(&"a\0b");
    refused(db.query("select $1::text", &[&moved]).unwrap_err(), "converted");
    assert_usable(&mut db);
    // Quotes and other letters are data.
    let row = db.query_one("select $1::text", &[&"'; drop table \"x\"; --"]).unwrap();
    assert_eq!(row.get::<&str>(0).unwrap(), "'; drop table \"x\"; --");
    let row = db.query_one("select 1 as \"we\"\"ird\"", &[]).unwrap();
    assert_eq!(row.get::<i32>("we\"ird").unwrap(), 1);
}

#[test]
fn h36_a_value_that_no_length_can_carry_is_refused_and_nothing_is_sent() {
    // 512 parameters of 4 MiB are 2 GiB: no single value is too long, but the message is.
    let mut db = connect();
    let value = vec![b'x'; 4 << 20];
    let params: Vec<&[u8]> = vec![&value; 512];
    let error = db.query_with("select 1", &params).unwrap_err();
    assert!(
        matches!(&error, PgError::Usage(why) if why.contains("longer than a server accepts")),
        "{error}"
    );
    assert_usable(&mut db);
    // A list of the same, as one value.
    let error = db.query("select $1::bytea[]", &[&params]).unwrap_err();
    assert!(error.to_string().contains("longer than a server accepts"), "{error}");
    assert_usable(&mut db);
}

#[test]
fn h16_values_and_texts_near_a_gibibyte_work_or_are_refused_whole() {
    const GIBIBYTE: usize = 1 << 30;
    let mut db = connect();
    db.set_io_timeout(std::time::Duration::from_secs(120));
    // The largest that are tried: the server itself takes less than a gibibyte in one value, and
    // says so.
    let sizes: &[usize] = if is_long() {
        &[GIBIBYTE / 2, GIBIBYTE - 4096, GIBIBYTE + 4096]
    } else {
        &[GIBIBYTE / 16]
    };
    for &size in sizes {
        let value = vec![b'x'; size];
        let asked = db.query_one("select length($1::bytea)", &[&value.as_slice()]);
        drop(value);
        match asked {
            Ok(row) => assert_eq!(row.get::<i32>(0).unwrap(), i32::try_from(size).unwrap()),
            Err(error) => {
                assert!(size >= GIBIBYTE - 4096, "{size}: {error}");
                assert_is_clear(&error, size);
            }
        }
        recover(&mut db);
        // The text of a query.
        let sql = format!("select 7 --{}", "x".repeat(size));
        let asked = db.query_simple(&sql);
        drop(sql);
        match asked {
            Ok(rows) => assert_eq!(rows[0].get::<i32>(0).unwrap(), 7),
            Err(error) => {
                assert!(size >= GIBIBYTE / 2, "{size}: {error}");
                assert_is_clear(&error, size);
            }
        }
        recover(&mut db);
    }
}

/// What a server that is asked too much says, or this side for it.
#[track_caller]
fn assert_is_clear(error: &PgError, size: usize) {
    println!("{size} bytes: {error:.200}");
    let is_refused = matches!(error, PgError::Usage(why) if why.contains("longer than"));
    let by_the_server = error.sql_state().is_some_and(|state| {
        // program_limit_exceeded, out_of_memory, protocol_violation.
        ["54000", "53200", "08P01"].contains(&state.as_str())
    });
    assert!(is_refused || by_the_server, "{error}");
}

/// The connection is whole, or a server that lost its place in the stream has ended it: a new one.
#[track_caller]
fn recover(db: &mut chopin_pg::PgConnection) {
    if db.is_broken() {
        *db = connect();
        db.set_io_timeout(std::time::Duration::from_secs(120));
    }
    assert_usable(db);
}
