//! The generated tables against the catalogue of a live server.

use std::collections::HashMap;

use chopin_pg::SqlState;
use chopin_pg::types::{Oid, TypeMap};

use crate::support::connect;

/// The types that the driver's table is made of, as the server has them now.
const TYPES: &str = "
    select t.oid, t.typname, t.typarray, t.typlen, e.oid
    from pg_type t
    left join pg_type e on e.oid = t.typelem and 'array_in'::regproc = t.typinput
    where t.oid < 10000 and t.typtype in ('b', 'p', 'r', 'm') and e.typtype is distinct from 'c'";

/// A row of [`TYPES`]: name, array type, length, element type.
type Found = (String, Oid, i16, Option<Oid>);

fn types_of_the_server() -> HashMap<Oid, Found> {
    let mut db = connect();
    let rows = db.query(TYPES, &[]).unwrap();
    let types: HashMap<_, _> = rows
        .iter()
        .map(|row| {
            let (oid, name, array, len, element): (Oid, String, Oid, i16, Option<Oid>) =
                row.to().unwrap();
            (oid, (name, array, len, element))
        })
        .collect();
    assert!(types.len() > 150, "only {} types", types.len());
    types
}

/// The constants have the numbers that the server gives types of those names.
#[track_caller]
fn assert_numbers(constants: &[(Oid, &str)]) {
    let mut db = connect();
    for (constant, name) in constants {
        let row = db.query_one("select $1::regtype::oid", &[name]);
        let number: Oid = row.and_then(|row| row.get(0)).unwrap();
        assert_eq!(*constant, number, "{name}");
    }
}

#[test]
fn s2_15_core_scalar_oids_are_the_server_s() {
    assert_numbers(&[
        (Oid::BOOL, "boolean"),
        (Oid::BYTEA, "bytea"),
        (Oid::CHAR, "\"char\""),
        (Oid::NAME, "name"),
        (Oid::INT8, "bigint"),
        (Oid::INT2, "smallint"),
        (Oid::INT4, "integer"),
        (Oid::TEXT, "text"),
        (Oid::OID, "oid"),
        (Oid::JSON, "json"),
        (Oid::XML, "xml"),
        (Oid::POINT, "point"),
        (Oid::CIDR, "cidr"),
        (Oid::FLOAT4, "real"),
        (Oid::FLOAT8, "double precision"),
        (Oid::MACADDR, "macaddr"),
        (Oid::INET, "inet"),
        (Oid::BPCHAR, "character"),
        (Oid::VARCHAR, "character varying"),
        (Oid::DATE, "date"),
        (Oid::TIME, "time without time zone"),
        (Oid::TIMESTAMP, "timestamp without time zone"),
        (Oid::TIMESTAMPTZ, "timestamp with time zone"),
        (Oid::INTERVAL, "interval"),
        (Oid::TIMETZ, "time with time zone"),
        (Oid::NUMERIC, "numeric"),
        (Oid::UUID, "uuid"),
        (Oid::JSONB, "jsonb"),
    ]);
}

#[test]
fn s2_16_array_oids_are_the_server_s() {
    assert_numbers(&[
        (Oid::BOOL_ARRAY, "boolean[]"),
        (Oid::BYTEA_ARRAY, "bytea[]"),
        (Oid::INT2_ARRAY, "smallint[]"),
        (Oid::INT4_ARRAY, "integer[]"),
        (Oid::INT8_ARRAY, "bigint[]"),
        (Oid::TEXT_ARRAY, "text[]"),
        (Oid::VARCHAR_ARRAY, "character varying[]"),
        (Oid::FLOAT4_ARRAY, "real[]"),
        (Oid::FLOAT8_ARRAY, "double precision[]"),
        (Oid::NUMERIC_ARRAY, "numeric[]"),
        (Oid::TIMESTAMPTZ_ARRAY, "timestamp with time zone[]"),
        (Oid::UUID_ARRAY, "uuid[]"),
        (Oid::JSONB_ARRAY, "jsonb[]"),
    ]);
}

#[test]
fn s2_17_range_oids_and_their_subtypes_are_the_server_s() {
    assert_numbers(&[
        (Oid::INT4RANGE, "int4range"),
        (Oid::INT8RANGE, "int8range"),
        (Oid::NUMRANGE, "numrange"),
        (Oid::TSRANGE, "tsrange"),
        (Oid::TSTZRANGE, "tstzrange"),
        (Oid::DATERANGE, "daterange"),
        (Oid::INT4MULTIRANGE, "int4multirange"),
        (Oid::DATEMULTIRANGE, "datemultirange"),
    ]);
    let mut db = connect();
    let rows = db.query("select rngtypid, rngsubtype from pg_range where rngtypid < 10000", &[]);
    let rows = rows.unwrap();
    assert_eq!(rows.len(), 6);
    for row in &rows {
        let (range, subtype): (Oid, Oid) = row.to().unwrap();
        let info = TypeMap::builtin().info(range).expect("a known range");
        assert_eq!(info.subtype, subtype.get(), "{range:?}");
    }
}

#[test]
fn s2_15_s2_16_s2_17_the_whole_table_agrees_with_the_server() {
    for (oid, (name, array, len, element)) in types_of_the_server() {
        // A server may be older than the table, and newer than it.
        let Some(info) = TypeMap::builtin().info(oid) else { continue };
        assert_eq!(info.name, name, "{oid:?}");
        // PostgreSQL 16 made it longer.
        if oid != Oid::ACLITEM {
            assert_eq!(info.len, len, "{oid:?}");
        }
        assert_eq!(info.array, array.get(), "the array type of {oid:?}");
        if let Some(element) = element {
            assert_eq!(info.element, element.get(), "the element type of {oid:?}");
        }
    }
}

#[test]
fn s4_4_condition_names_are_the_server_s() {
    let mut db = connect();
    for (state, name) in [
        (SqlState::UNIQUE_VIOLATION, "unique_violation"),
        (SqlState::SERIALIZATION_FAILURE, "serialization_failure"),
        (SqlState::DEADLOCK_DETECTED, "deadlock_detected"),
        (SqlState::CANNOT_CONNECT_NOW, "cannot_connect_now"),
        (SqlState::TOO_MANY_CONNECTIONS, "too_many_connections"),
        (SqlState::LOCK_NOT_AVAILABLE, "lock_not_available"),
        (SqlState::INVALID_TEXT_REPRESENTATION, "invalid_text_representation"),
    ] {
        assert_eq!(state.name(), Some(name));
        let block = format!("do $$ begin raise {name}; end $$");
        let error = db.query_simple(&block).unwrap_err();
        assert_eq!(error.sql_state(), Some(state), "{error}");
    }
}
