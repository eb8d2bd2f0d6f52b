use proptest::prelude::*;

use super::*;
use crate::types::testing::{binary, refused, sent, text};
use crate::types::{Cell, Encoded, Format, FromSql, StaticType, ToSql, TypeMap};

/// Every variant with a type, as the server prints it.
fn samples() -> Vec<(PgValue, Oid, &'static str)> {
    let uuid = *b"0123456789abcdef";
    vec![
        (PgValue::Bool(true), Oid::BOOL, "t"),
        (PgValue::Char(114), Oid::CHAR, "r"),
        (PgValue::Int2(-2), Oid::INT2, "-2"),
        (PgValue::Int4(70_000), Oid::INT4, "70000"),
        (PgValue::Int8(-5_000_000_000), Oid::INT8, "-5000000000"),
        (PgValue::Oid(Oid::new(4_000_000_000)), Oid::OID, "4000000000"),
        (PgValue::Float4(0.5), Oid::FLOAT4, "0.5"),
        (PgValue::Float8(1e300), Oid::FLOAT8, "1e+300"),
        (PgValue::Text("añ b".into()), Oid::TEXT, "añ b"),
        (PgValue::Bytes(vec![0, 0xAB]), Oid::BYTEA, "\\x00ab"),
        (PgValue::Json("{\"a\":  1}".into()), Oid::JSON, "{\"a\":  1}"),
        (PgValue::Jsonb(b"{\"a\": 1}".to_vec()), Oid::JSONB, "{\"a\": 1}"),
        (PgValue::Uuid(uuid), Oid::UUID, "30313233-3435-3637-3839-616263646566"),
        (PgValue::Date(-1), Oid::DATE, "1999-12-31"),
        (PgValue::Date(i32::MAX), Oid::DATE, "infinity"),
        (PgValue::Time(3_723_000_001), Oid::TIME, "01:02:03.000001"),
        (PgValue::Timestamp(-1), Oid::TIMESTAMP, "1999-12-31 23:59:59.999999"),
        (PgValue::Timestamp(i64::MIN), Oid::TIMESTAMP, "-infinity"),
        (PgValue::Timestamptz(0), Oid::TIMESTAMPTZ, "2000-01-01 00:00:00+00"),
        (
            PgValue::Interval { months: 14, days: -3, microseconds: -1_500_000 },
            Oid::INTERVAL,
            "1 year 2 mons -3 days -00:00:01.5",
        ),
        (PgValue::Inet("192.168.0.1/24".into()), Oid::INET, "192.168.0.1/24"),
        (PgValue::Inet("::1".into()), Oid::INET, "::1"),
        (PgValue::Numeric("-12.500".into()), Oid::NUMERIC, "-12.500"),
        (PgValue::Numeric("NaN".into()), Oid::NUMERIC, "NaN"),
        (PgValue::MacAddr([8, 0, 0x2B, 1, 2, 3]), Oid::MACADDR, "08:00:2b:01:02:03"),
        (PgValue::Point { x: 1.5, y: -2.0 }, Oid::POINT, "(1.5,-2)"),
    ]
}

#[test]
fn s2_30_every_variant_has_its_text() {
    for (value, _, printed) in samples() {
        assert_eq!(value.to_string(), printed);
        assert_eq!(value.to_text_bytes().unwrap(), Some(printed.as_bytes().to_vec()));
    }
    assert_eq!(PgValue::Null.to_text_bytes().unwrap(), None);
    assert_eq!(PgValue::Null.to_string(), "NULL");
    assert_eq!(PgValue::Range("[1,5)".into()).to_text_bytes().unwrap(), Some(b"[1,5)".to_vec()));
}

#[test]
fn s2_31_every_variant_is_read_from_its_text() {
    for (value, oid, printed) in samples() {
        assert_eq!(PgValue::from_text(oid, printed).unwrap(), value);
    }
    for oid in [Oid::VARCHAR, Oid::BPCHAR, Oid::NAME, Oid::UNKNOWN, Oid::XML] {
        assert_eq!(PgValue::from_text(oid, "a").unwrap(), PgValue::Text("a".into()));
        assert_eq!(PgValue::from_binary(oid, b"a").unwrap(), PgValue::Text("a".into()));
    }
    assert_eq!(
        PgValue::from_text(Oid::CIDR, "10.0.0.0/8").unwrap(),
        PgValue::Inet("10.0.0.0/8".into())
    );
}

#[test]
fn s2_29_every_variant_has_its_binary_form_and_is_read_from_it() {
    for (value, oid, _) in samples() {
        assert_eq!(value.type_oid(), oid);
        let bytes = value.to_binary_bytes().unwrap().unwrap();
        assert_eq!(PgValue::from_binary(oid, &bytes).unwrap(), value);
    }
    assert_eq!(PgValue::Null.to_binary_bytes().unwrap(), None);
    assert_eq!(PgValue::Jsonb(b"{}".to_vec()).to_binary_bytes().unwrap().unwrap(), b"\x01{}");
}

#[test]
fn s2_34_every_variant_is_declared_as_its_type() {
    for (value, oid, _) in samples() {
        let (declared, encoded, bytes) = sent(&value);
        assert_eq!(Some(bytes), value.to_binary_bytes().unwrap());
        match value {
            PgValue::Text(_) | PgValue::Json(_) => {
                assert_eq!((declared, encoded), (Oid::UNSPECIFIED, Encoded::Text));
                assert!(!value.prefers_binary());
            }
            _ => {
                assert_eq!((declared, encoded), (oid, Encoded::Binary));
                assert!(value.prefers_binary());
            }
        }
        assert_eq!(value.to_sql(), value);
    }
    assert_eq!(sent(&PgValue::Null), (Oid::UNSPECIFIED, Encoded::Null, vec![]));
    assert_eq!(sent(&None::<PgValue>), (Oid::UNSPECIFIED, Encoded::Null, vec![]));
    let range = PgValue::Range("[1,5)".into());
    assert_eq!(sent(&range), (Oid::UNSPECIFIED, Encoded::Text, b"[1,5)".to_vec()));
    assert!(!range.prefers_binary() && !PgValue::Null.prefers_binary());
}

#[test]
fn s2_25_a_parameter_tells_its_format() {
    let params: [(&dyn ToSql, Encoded); 6] = [
        (&1_i32, Encoded::Binary),
        (&"text", Encoded::Text),
        (&vec![1_u8], Encoded::Binary),
        (&PgValue::Json("{}".into()), Encoded::Text),
        (&PgValue::Jsonb(b"{}".to_vec()), Encoded::Binary),
        (&None::<i32>, Encoded::Null),
    ];
    for (param, encoded) in params {
        assert_eq!(sent(param).1, encoded);
    }
}

#[test]
fn s2_8_arrays_are_sent_as_the_type_of_their_elements() {
    let list = PgValue::Array(vec![PgValue::Null, PgValue::Int8(7)]);
    assert_eq!(list.type_oid(), Oid::INT8_ARRAY);
    assert_eq!(sent(&list), sent(&[None, Some(7_i64)]));
    assert!(list.prefers_binary());
    let texts = PgValue::Array(vec![PgValue::Text("a".into())]);
    assert_eq!(sent(&texts), sent(&["a"]));
    for (value, oid, _) in samples() {
        let list = PgValue::Array(vec![value, PgValue::Null]);
        let array = TypeMap::builtin().array_of(oid).unwrap();
        let (declared, encoded, bytes) = sent(&list);
        assert_eq!((declared, encoded), (array, Encoded::Binary));
        assert_eq!(PgValue::from_binary(array, &bytes).unwrap(), list);
        let printed = String::from_utf8(list.to_text_bytes().unwrap().unwrap()).unwrap();
        assert_eq!(PgValue::from_text(array, &printed).unwrap(), list);
    }
}

#[test]
fn s2_8_arrays_without_a_type_are_sent_as_unspecified_text() {
    let range = PgValue::Range("[1,2)".into());
    let inner = PgValue::Array(vec![PgValue::Int4(1), PgValue::Int4(2)]);
    for (items, printed) in [
        (vec![], "{}"),
        (vec![PgValue::Null, PgValue::Null], "{NULL,NULL}"),
        (vec![range, PgValue::Null], "{\"[1,2)\",NULL}"),
        (vec![inner.clone(), inner], "{{1,2},{1,2}}"),
    ] {
        let list = PgValue::Array(items.clone());
        let expected = (Oid::UNSPECIFIED, Encoded::Text, printed.as_bytes().to_vec());
        assert_eq!(sent(&list), expected);
        assert_eq!(sent(&items), expected, "a Vec of values is the same");
        assert!(!list.prefers_binary());
        let error = list.to_binary_bytes().unwrap_err().to_string();
        assert!(error.contains("type is not known"), "{error}");
    }
}

#[test]
fn s2_8_elements_of_several_types_are_refused_by_name() {
    let mixed = PgValue::Array(vec![PgValue::Int4(1), PgValue::Null, PgValue::Text("a".into())]);
    let error = refused(&mixed);
    assert!(error.contains("int4") && error.contains("text"), "{error}");
    let lists = PgValue::Array(vec![PgValue::Array(vec![]), PgValue::Int4(1)]);
    assert!(refused(&lists).contains("int4"));
}

#[test]
fn s2_38_lists_of_values_are_sent_as_an_array() {
    let list = vec![PgValue::Null, PgValue::Int4(7)];
    assert_eq!(sent(&list), sent(&[None, Some(7_i32)]));
    assert_eq!(PgValue::static_type(TypeMap::builtin()), Oid::UNSPECIFIED);
    let read: Vec<PgValue> = binary(Oid::INT4_ARRAY, &sent(&list).2).unwrap();
    assert_eq!(read, list);
    let read: Vec<PgValue> = text(Oid::TEXT_ARRAY, r#"{"\\",NULL}"#).unwrap();
    assert_eq!(read, [PgValue::Text("\\".into()), PgValue::Null]);
}

#[test]
fn s2_27_arrays_of_more_dimensions_keep_their_bytes_or_their_text() {
    let bytes = [2, 0, 23, 1, 1, 1, 1, 4, 9].map(i32::to_be_bytes).concat();
    let unknown = PgValue::Unknown { oid: Oid::INT4_ARRAY, bytes: bytes.clone() };
    assert_eq!(PgValue::from_binary(Oid::INT4_ARRAY, &bytes).unwrap(), unknown);
    assert_eq!(sent(&unknown), (Oid::INT4_ARRAY, Encoded::Binary, bytes));
    let printed = PgValue::from_text(Oid::INT4_ARRAY, "{{9}}").unwrap();
    assert_eq!(printed, PgValue::Text("{{9}}".into()));
}

#[test]
fn h8_types_without_a_variant_are_bytes_or_the_servers_text() {
    for oid in [Oid::TIMETZ, Oid::MONEY, Oid::INT4RANGE, Oid::RECORD, Oid::BOX, Oid::MONEY_ARRAY]
        .into_iter()
        .chain([Oid::new(16_384), Oid::new(0x8000_0000), Oid::new(u32::MAX)])
    {
        let value = PgValue::from_binary(oid, b"abcd").unwrap();
        assert_eq!(value, PgValue::Unknown { oid, bytes: b"abcd".to_vec() });
        assert_eq!(sent(&value), (oid, Encoded::Binary, b"abcd".to_vec()));
        assert_eq!(value.to_string(), "\\x61626364");
        assert!(value.to_text_bytes().is_err());
    }
    assert_eq!(PgValue::from_text(Oid::MONEY, "$1").unwrap(), PgValue::Text("$1".into()));
    assert_eq!(PgValue::from_text(Oid::new(16_384), "ok").unwrap(), PgValue::Text("ok".into()));
    assert_eq!(PgValue::from_text(Oid::MONEY_ARRAY, "{$1}").unwrap(), PgValue::Text("{$1}".into()));
    for range in [
        Oid::INT4RANGE,
        Oid::INT8RANGE,
        Oid::NUMRANGE,
        Oid::TSRANGE,
        Oid::TSTZRANGE,
        Oid::DATERANGE,
    ] {
        assert_eq!(PgValue::from_text(range, "empty").unwrap(), PgValue::Range("empty".into()));
    }
}

#[test]
fn s2_34_what_could_not_be_written_is_refused_and_never_null() {
    /// Fails to encode.
    struct Broken;
    impl ToSql for Broken {
        fn declare(&self, _: &TypeMap) -> Oid {
            Oid::INT4
        }
        fn encode(
            &self,
            types: &TypeMap,
            out: &mut crate::types::Out<'_>,
        ) -> crate::error::PgResult<Encoded> {
            "\0".encode(types, out)
        }
    }
    let value = Broken.to_sql();
    assert_eq!(value, PgValue::Unknown { oid: Oid::UNSPECIFIED, bytes: vec![] });
    assert!(refused(&value).contains("not known"));
    assert!(refused(&PgValue::Array(vec![value.clone()])).contains("parameter"));
    assert!(refused(&PgValue::Inet("no address".into())).contains("inet"));
    assert!(refused(&PgValue::Numeric("one".into())).contains("numeric"));
    assert!(value.to_binary_bytes().is_err());
}

#[test]
fn h30_what_the_server_would_misread_has_no_text_bytes() {
    for value in [
        PgValue::Text("\0".into()),
        PgValue::Json("\0".into()),
        PgValue::Range("\0".into()),
        PgValue::Jsonb(vec![0]),
        PgValue::Jsonb(vec![0xFF]),
        PgValue::Char(-1),
        PgValue::Unknown { oid: Oid::MONEY, bytes: vec![0; 8] },
    ] {
        assert!(value.to_text_bytes().is_err(), "{value:?}");
        assert!(PgValue::Array(vec![value]).to_text_bytes().is_err());
    }
}

#[test]
fn s8_1_null_and_option_of_a_value() {
    assert_eq!(PgValue::from_null().unwrap(), PgValue::Null);
    assert!(PgValue::Null.is_null() && !PgValue::Bool(false).is_null());
    assert_eq!(Option::<PgValue>::from_null().unwrap(), None);
    assert_eq!(PgValue::Null.type_oid(), Oid::UNSPECIFIED);
}

#[test]
fn s8_1_bytes_that_are_no_value_are_an_error() {
    assert!(PgValue::from_binary(Oid::INT4, &[0; 3]).is_err());
    assert!(PgValue::from_text(Oid::INT4, "x").is_err());
    assert!(PgValue::from_binary(Oid::TEXT, &[0xFF]).is_err());
    let no_text = Cell::new(Oid::new(16_384), Format::Text, &[0xFF]);
    assert!(PgValue::from_sql(no_text).is_err());
}

proptest! {
    #[test]
    fn s8_1_whatever_the_bytes_reading_never_panics(oid in 0_u32..4000, bytes: Vec<u8>) {
        for format in [Format::Binary, Format::Text] {
            let _ = PgValue::from_sql(Cell::new(Oid::new(oid), format, &bytes));
        }
    }

    #[test]
    fn s2_8_text_arrays_keep_every_string(list: Vec<Option<String>>) {
        prop_assume!(!list.iter().flatten().any(|string| string.contains('\0')));
        let value = list.to_sql();
        let printed = String::from_utf8(value.to_text_bytes().unwrap().unwrap()).unwrap();
        prop_assert_eq!(PgValue::from_text(Oid::TEXT_ARRAY, &printed).unwrap(), value);
    }
}
