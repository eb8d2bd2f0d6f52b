use std::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::types::ToParam;
use crate::types::testing::{binary, refused, sent, text};

/// `value` goes out as `bytes` of type `oid`, and both its formats are read back as it.
fn assert_both_ways<T>(value: T, oid: Oid, bytes: &[u8], printed: &str)
where
    T: ToSql + StaticType + PartialEq + Debug + for<'a> FromSql<'a>,
{
    assert_eq!(sent(&value), (oid, Encoded::Binary, bytes.to_vec()));
    assert_eq!(T::static_type(TypeMap::builtin()), oid);
    assert_eq!(binary::<T>(oid, bytes).unwrap(), value);
    assert_eq!(text::<T>(oid, printed).unwrap(), value, "{printed}");
    let dynamic = value.to_sql();
    assert_eq!(dynamic.to_string(), printed);
    assert_eq!(value.to_param(), dynamic);
    assert_eq!(dynamic, PgValue::from_binary(oid, bytes).unwrap());
}

#[test]
fn s2_1_bool_both_ways() {
    assert_both_ways(false, Oid::BOOL, &[0], "f");
    assert_both_ways(true, Oid::BOOL, &[1], "t");
}

#[test]
fn s2_1_integers_both_ways() {
    assert_both_ways(0x0102_i16, Oid::INT2, &[1, 2], "258");
    assert_both_ways(i16::MIN, Oid::INT2, &[0x80, 0], "-32768");
    assert_both_ways(0x0102_0304, Oid::INT4, &[1, 2, 3, 4], "16909060");
    assert_both_ways(-1, Oid::INT4, &[0xFF; 4], "-1");
    assert_both_ways(
        i64::MAX,
        Oid::INT8,
        &[0x7F, 255, 255, 255, 255, 255, 255, 255],
        "9223372036854775807",
    );
    assert_both_ways(i64::MIN, Oid::INT8, &[0x80, 0, 0, 0, 0, 0, 0, 0], "-9223372036854775808");
}

#[test]
fn s2_1_oid_both_ways() {
    assert_both_ways(u32::MAX, Oid::OID, &[0xFF; 4], "4294967295");
    assert_both_ways(Oid::new(0x8000_0000), Oid::OID, &[0x80, 0, 0, 0], "2147483648");
}

#[test]
fn s2_1_char_both_ways() {
    assert_both_ways(114_i8, Oid::CHAR, b"r", "r");
    assert_both_ways(0_i8, Oid::CHAR, &[0], "");
    assert_both_ways(-1_i8, Oid::CHAR, &[0xFF], "\\377");
    // As PostgreSQL 15 prints it.
    let raw = Cell::new(Oid::CHAR, Format::Text, &[0x80]);
    assert_eq!(i8::from_sql(raw).unwrap(), -128);
    for no_char in ["ab", "\\12", "\\400", "\\3777", "\\08a"] {
        assert!(text::<i8>(Oid::CHAR, no_char).is_err(), "{no_char}");
    }
}

#[test]
fn s2_1_floats_both_ways() {
    assert_both_ways(1.5_f32, Oid::FLOAT4, &[0x3F, 0xC0, 0, 0], "1.5");
    assert_both_ways(-0.1_f64, Oid::FLOAT8, &[0xBF, 0xB9, 153, 153, 153, 153, 153, 154], "-0.1");
    assert_both_ways(f32::INFINITY, Oid::FLOAT4, &[0x7F, 0x80, 0, 0], "Infinity");
    assert_both_ways(f64::NEG_INFINITY, Oid::FLOAT8, &[0xFF, 0xF0, 0, 0, 0, 0, 0, 0], "-Infinity");
    assert_eq!(f64::NAN.to_sql().to_string(), "NaN");
    assert!(text::<f64>(Oid::FLOAT8, "NaN").unwrap().is_nan());
    assert!(text::<f32>(Oid::FLOAT4, "NaN").unwrap().is_nan());
    let nan = sent(&f64::NAN);
    assert!(binary::<f64>(Oid::FLOAT8, &nan.2).unwrap().is_nan());
}

/// The right-hand sides are what a PostgreSQL 15 prints.
#[test]
fn s2_30_floats_are_printed_as_the_server_does() {
    for (value, printed) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (100.0, "100"),
        (0.0001, "0.0001"),
        (0.00012, "0.00012"),
        (0.00001, "1e-05"),
        (123_456.789, "123456.789"),
        (999_999_999_999_999.0, "999999999999999"),
        (1e15, "1e+15"),
        (1.25e15, "1.25e+15"),
        (-1.5e-300, "-1.5e-300"),
        (5e-324, "5e-324"),
        (f64::MAX, "1.7976931348623157e+308"),
        (9_007_199_254_740_992.0, "9.007199254740992e+15"),
        // A tie for those who read 1e23 and do not round to even.
        (1e23, "9.999999999999999e+22"),
        // Half-way between 743049573401031.2 and .3.
        (743_049_573_401_031.0 + 0.25, "743049573401031.2"),
    ] {
        assert_eq!(PgValue::Float8(value).to_string(), printed);
    }
    for (value, printed) in [
        (0.1, "0.1"),
        (123_456.0, "123456"),
        (999_999.0, "999999"),
        (1e6, "1e+06"),
        (16_777_216.0, "1.6777216e+07"),
        (f32::MAX, "3.4028235e+38"),
        (1e-45, "1e-45"),
        (-2_362_894.0 - 0.25, "-2.3628942e+06"),
    ] {
        assert_eq!(PgValue::Float4(value).to_string(), printed);
    }
}

#[test]
fn s2_3_uuid_both_ways() {
    let uuid = [
        0x12_u8, 0x3E, 0x45, 0x67, 0xE8, 0x9B, 0x12, 0xD3, 0xA4, 0x56, 0x42, 0x66, 0x14, 0x17,
        0x40, 0,
    ];
    assert_both_ways(uuid, Oid::UUID, &uuid, "123e4567-e89b-12d3-a456-426614174000");
    assert_both_ways([0xFF_u8; 16], Oid::UUID, &[0xFF; 16], "ffffffff-ffff-ffff-ffff-ffffffffffff");
}

#[test]
fn s2_41_uuid_text_is_read_in_its_canonical_form_only() {
    let upper = "123E4567-E89B-12D3-A456-426614174000";
    assert_eq!(text::<[u8; 16]>(Oid::UUID, upper).unwrap()[..4], [0x12, 0x3E, 0x45, 0x67]);
    for no_uuid in [
        "",
        "123e4567-e89b-12d3-a456-42661417400",
        "123e4567-e89b-12d3-a456-4266141740000",
        "123e4567e89b12d3a456426614174000",
        "{123e4567-e89b-12d3-a456-426614174000}",
        "123e4567-e89b-12d3-a456_426614174000",
        "123e4567-e89b-12d3-a456-42661417400g",
        "-123e4567-e89b-12d3-a456-42661417400",
        "123e4567-e89b-12d3-a456-4266141740é",
    ] {
        assert!(text::<[u8; 16]>(Oid::UUID, no_uuid).is_err(), "{no_uuid}");
    }
}

#[test]
fn s2_36_integers_widen_and_never_narrow() {
    for format in [Format::Binary, Format::Text] {
        let cell = |oid, bytes, text: &'static str| match format {
            Format::Binary => Cell::new(oid, format, bytes),
            Format::Text => Cell::new(oid, format, text.as_bytes()),
        };
        let int2 = cell(Oid::INT2, &[0xFF, 0xFE], "-2");
        let int4 = cell(Oid::INT4, &[0xFF, 0xFF, 0xFF, 0xFE], "-2");
        let int8 = cell(Oid::INT8, &[0xFF, 255, 255, 255, 255, 255, 255, 0xFE], "-2");
        assert_eq!(i16::from_sql(int2).unwrap(), -2);
        assert_eq!(i32::from_sql(int2).unwrap(), -2);
        assert_eq!(i64::from_sql(int2).unwrap(), -2);
        assert_eq!(i32::from_sql(int4).unwrap(), -2);
        assert_eq!(i64::from_sql(int4).unwrap(), -2);
        assert_eq!(i64::from_sql(int8).unwrap(), -2);
        let message = i16::from_sql(int4).unwrap_err().to_string();
        assert!(message.contains("int4") && message.contains("i16"), "{message}");
        assert!(i16::from_sql(int8).is_err());
        assert!(i32::from_sql(int8).is_err());
        assert!(u32::from_sql(int4).is_err());
        assert!(i64::from_sql(cell(Oid::OID, &[0; 4], "0")).is_err());
        assert!(f64::from_sql(int4).is_err());
    }
}

#[test]
fn s2_36_f64_reads_float4_exactly_in_both_formats() {
    let sent = sent(&0.1_f32).2;
    assert_eq!(binary::<f64>(Oid::FLOAT4, &sent).unwrap(), f64::from(0.1_f32));
    assert_eq!(text::<f64>(Oid::FLOAT4, "0.1").unwrap(), f64::from(0.1_f32));
    assert!(binary::<f32>(Oid::FLOAT8, &[0; 8]).is_err());
    assert!(text::<f32>(Oid::FLOAT8, "1").is_err());
}

#[test]
fn s2_36_text_is_read_as_the_server_prints_it() {
    for no_bool in ["", "true", "T", "1", "tt"] {
        assert!(text::<bool>(Oid::BOOL, no_bool).is_err(), "{no_bool}");
    }
    for no_int4 in ["", "+1", " 1", "1 ", "1.0", "2147483648", "-", "1e3", "٣"] {
        assert!(text::<i32>(Oid::INT4, no_int4).is_err(), "{no_int4}");
    }
    for no_float in ["", "inf", "nan", "infinity", "1e999", " 1", "0x1p3", "1E5", "-", "1.5.0"] {
        assert!(text::<f64>(Oid::FLOAT8, no_float).is_err(), "{no_float}");
    }
    assert!(text::<f32>(Oid::FLOAT4, "1e39").is_err());
    let no_utf8 = Cell::new(Oid::INT4, Format::Text, &[0xFF]);
    assert!(i32::from_sql(no_utf8).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn s2_21_a_value_of_the_wrong_length_is_an_error() {
    fn refuses<T: for<'a> FromSql<'a> + Debug>(oid: Oid, length: usize) {
        for wrong in (0..20).filter(|wrong| *wrong != length) {
            let error = binary::<T>(oid, &vec![0; wrong]).unwrap_err().to_string();
            assert!(error.contains(oid.name().unwrap()), "{error}");
        }
        assert!(binary::<T>(oid, &vec![0; length]).is_ok());
    }
    refuses::<bool>(Oid::BOOL, 1);
    refuses::<i8>(Oid::CHAR, 1);
    refuses::<i16>(Oid::INT2, 2);
    refuses::<i32>(Oid::INT4, 4);
    refuses::<i32>(Oid::INT2, 2);
    refuses::<i64>(Oid::INT8, 8);
    refuses::<i64>(Oid::INT4, 4);
    refuses::<i64>(Oid::INT2, 2);
    refuses::<u32>(Oid::OID, 4);
    refuses::<Oid>(Oid::OID, 4);
    refuses::<f32>(Oid::FLOAT4, 4);
    refuses::<f64>(Oid::FLOAT8, 8);
    refuses::<f64>(Oid::FLOAT4, 4);
    refuses::<[u8; 16]>(Oid::UUID, 16);
    assert!(binary::<bool>(Oid::BOOL, &[2]).is_err(), "neither true nor false");
}

#[test]
fn s2_35_none_declares_the_type_that_some_would() {
    let types = TypeMap::builtin();
    for (none, oid) in [
        (&None::<bool> as &dyn ToSql, Oid::BOOL),
        (&None::<i16>, Oid::INT2),
        (&None::<i32>, Oid::INT4),
        (&None::<i64>, Oid::INT8),
        (&None::<f32>, Oid::FLOAT4),
        (&None::<f64>, Oid::FLOAT8),
        (&None::<&str>, Oid::UNSPECIFIED),
        (&None::<Vec<u8>>, Oid::BYTEA),
        (&None::<[u8; 16]>, Oid::UUID),
    ] {
        assert_eq!(sent(none), (oid, Encoded::Null, vec![]));
        assert_eq!(none.to_sql(), PgValue::Null);
    }
    assert_eq!(sent(&Some(7_i16)), (Oid::INT2, Encoded::Binary, vec![0, 7]));
    assert_eq!(Some(7_i16).declare(types), Oid::INT2);
    assert_eq!(Some(7_i16).to_sql(), PgValue::Int2(7));
}

#[test]
fn s2_37_null_is_read_by_option_only() {
    assert_eq!(Option::<i32>::from_null().unwrap(), None);
    assert_eq!(binary::<Option<i32>>(Oid::INT4, &[0, 0, 0, 9]).unwrap(), Some(9));
    assert!(binary::<Option<i32>>(Oid::INT8, &[0; 8]).is_err());
    let error = i32::from_null().unwrap_err().to_string();
    assert!(error.contains("NULL") && error.contains("Option"), "{error}");
}

#[test]
fn s4_10_to_param_is_there_on_every_parameter_type() {
    assert_eq!(18_i32.to_param(), PgValue::Int4(18));
    assert_eq!("a".to_param(), PgValue::Text("a".into()));
    assert_eq!("a".to_owned().to_param(), PgValue::Text("a".into()));
    assert_eq!(None::<i64>.to_param(), PgValue::Null);
    assert_eq!((&&1.5).to_param(), PgValue::Float8(1.5));
    assert_eq!(PgValue::Bool(true).to_param(), PgValue::Bool(true));
    assert_eq!([1_i16, 2].to_param(), PgValue::Array(vec![PgValue::Int2(1), PgValue::Int2(2)]));
    let dynamic: &dyn ToSql = &7_i64;
    assert_eq!(dynamic.to_param(), PgValue::Int8(7));
}

#[test]
fn s2_33_references_and_boxes_are_what_they_point_to() {
    let boxed: Vec<Box<dyn ToSql>> = vec![Box::new(1_i16), Box::new("a"), Box::new(None::<bool>)];
    assert_eq!(sent(&boxed[0]), (Oid::INT2, Encoded::Binary, vec![0, 1]));
    assert_eq!(sent(&boxed[1]), (Oid::UNSPECIFIED, Encoded::Text, b"a".to_vec()));
    assert_eq!(sent(&boxed[2]), (Oid::BOOL, Encoded::Null, vec![]));
    assert_eq!(boxed[0].rust_type(), "i16");
    assert_eq!(sent(&&&5_i16), sent(&5_i16));
    assert!(refused(&"\0").contains("str"));
}

proptest! {
    #[test]
    fn s2_29_binary_is_read_back(a: i16, b: i32, c: i64, d: u32, e: [u8; 16], f: i8, g: bool) {
        prop_assert_eq!(binary::<i16>(Oid::INT2, &sent(&a).2).unwrap(), a);
        prop_assert_eq!(binary::<i32>(Oid::INT4, &sent(&b).2).unwrap(), b);
        prop_assert_eq!(binary::<i64>(Oid::INT8, &sent(&c).2).unwrap(), c);
        prop_assert_eq!(binary::<u32>(Oid::OID, &sent(&d).2).unwrap(), d);
        prop_assert_eq!(binary::<[u8; 16]>(Oid::UUID, &sent(&e).2).unwrap(), e);
        prop_assert_eq!(binary::<i8>(Oid::CHAR, &sent(&f).2).unwrap(), f);
        prop_assert_eq!(binary::<bool>(Oid::BOOL, &sent(&g).2).unwrap(), g);
    }

    #[test]
    fn s2_31_text_is_read_back(a: i16, b: i32, c: i64, d: u32, e: [u8; 16], f: i8, g: bool) {
        prop_assert_eq!(text::<i16>(Oid::INT2, &a.to_sql().to_string()).unwrap(), a);
        prop_assert_eq!(text::<i32>(Oid::INT4, &b.to_sql().to_string()).unwrap(), b);
        prop_assert_eq!(text::<i64>(Oid::INT8, &c.to_sql().to_string()).unwrap(), c);
        prop_assert_eq!(text::<u32>(Oid::OID, &d.to_sql().to_string()).unwrap(), d);
        prop_assert_eq!(text::<[u8; 16]>(Oid::UUID, &e.to_sql().to_string()).unwrap(), e);
        prop_assert_eq!(text::<i8>(Oid::CHAR, &f.to_sql().to_string()).unwrap(), f);
        prop_assert_eq!(text::<bool>(Oid::BOOL, &g.to_sql().to_string()).unwrap(), g);
    }

    #[test]
    fn s2_31_floats_are_read_back_bit_for_bit(bits4: u32, bits8: u64) {
        let (float4, float8) = (f32::from_bits(bits4), f64::from_bits(bits8));
        let read4: f32 = text(Oid::FLOAT4, &PgValue::Float4(float4).to_string()).unwrap();
        let read8: f64 = text(Oid::FLOAT8, &PgValue::Float8(float8).to_string()).unwrap();
        prop_assert!(read4.to_bits() == bits4 || float4.is_nan() && read4.is_nan());
        prop_assert!(read8.to_bits() == bits8 || float8.is_nan() && read8.is_nan());
    }

    #[test]
    fn s2_36_whatever_the_bytes_reading_never_panics(oid in 0_u32..120, bytes: Vec<u8>) {
        for format in [Format::Binary, Format::Text] {
            let cell = Cell::new(Oid::new(oid), format, &bytes);
            let _ = (bool::from_sql(cell), i8::from_sql(cell), i16::from_sql(cell));
            let _ = (i32::from_sql(cell), i64::from_sql(cell), u32::from_sql(cell));
            let _ = (f32::from_sql(cell), f64::from_sql(cell), <[u8; 16]>::from_sql(cell));
        }
    }
}
