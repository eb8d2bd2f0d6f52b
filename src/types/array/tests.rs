use proptest::prelude::*;

use super::*;
use crate::types::testing::{binary, refused, sent, text};

/// A binary array: header, then elements with their length.
fn array(header: &[i32], elements: &[Option<&[u8]>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = header.iter().flat_map(|number| number.to_be_bytes()).collect();
    for element in elements {
        let length = element.map_or(-1, |element| i32::try_from(element.len()).unwrap());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(element.unwrap_or_default());
    }
    bytes
}

#[test]
fn s2_38_lists_are_sent_as_the_array_type_of_their_elements() {
    let expected = array(&[1, 1, 23, 2, 1], &[Some(&[0, 0, 0, 7]), Some(&[255, 255, 255, 255])]);
    let expected = (Oid::INT4_ARRAY, Encoded::Binary, expected);
    assert_eq!(sent(&vec![7, -1]), expected);
    assert_eq!(sent(&[7, -1]), expected);
    assert_eq!(sent(&[7, -1].as_slice()), expected);
    assert_eq!(sent(&Box::<[i32]>::from([7, -1])), expected);
    assert_eq!(sent(&[&7, &-1]), expected);
    for (list, oid) in [
        (&vec![true] as &dyn ToSql, Oid::BOOL_ARRAY),
        (&vec![1_i16], Oid::INT2_ARRAY),
        (&vec![1_i64], Oid::INT8_ARRAY),
        (&vec![1_f32], Oid::FLOAT4_ARRAY),
        (&vec![1_f64], Oid::FLOAT8_ARRAY),
        (&vec![vec![1_u8]], Oid::BYTEA_ARRAY),
        (&vec![[0_u8; 16]], Oid::UUID_ARRAY),
        (&vec![Oid::TEXT], Oid::OID_ARRAY),
    ] {
        let (declared, encoded, _) = sent(list);
        assert_eq!((declared, encoded), (oid, Encoded::Binary));
    }
}

#[test]
fn s2_38_lists_of_strings_are_text_arrays() {
    let expected = array(&[1, 1, 25, 2, 1], &[Some(b"a,b"), Some(b"")]);
    assert_eq!(sent(&["a,b", ""]), (Oid::TEXT_ARRAY, Encoded::Binary, expected.clone()));
    assert_eq!(sent(&vec!["a,b".to_owned(), String::new()]).2, expected);
}

#[test]
fn s2_38_null_elements_are_options() {
    let expected = array(&[1, 1, 21, 3, 1], &[Some(&[0, 1]), None, Some(&[0, 2])]);
    assert_eq!(sent(&[Some(1_i16), None, Some(2)]).2, expected);
    let list: Vec<Option<i16>> = binary(Oid::INT2_ARRAY, &expected).unwrap();
    assert_eq!(list, [Some(1), None, Some(2)]);
    let list: Vec<Option<i16>> = text(Oid::INT2_ARRAY, "{1,NULL,2}").unwrap();
    assert_eq!(list, [Some(1), None, Some(2)]);
    let error = binary::<Vec<i16>>(Oid::INT2_ARRAY, &expected).unwrap_err().to_string();
    assert!(error.contains("element 1") && error.contains("Option"), "{error}");
    assert!(text::<Vec<i16>>(Oid::INT2_ARRAY, "{NULL}").is_err());
}

#[test]
fn s2_38_empty_lists_keep_their_type() {
    let empty = array(&[0, 1, 20], &[]);
    assert_eq!(sent(&Vec::<i64>::new()), (Oid::INT8_ARRAY, Encoded::Binary, empty.clone()));
    assert_eq!(sent(&None::<Vec<i64>>), (Oid::INT8_ARRAY, Encoded::Null, vec![]));
    assert_eq!(sent(&None::<[&str; 3]>).0, Oid::TEXT_ARRAY);
    assert_eq!(binary::<Vec<i64>>(Oid::INT8_ARRAY, &empty).unwrap(), Vec::<i64>::new());
    assert_eq!(text::<Vec<i64>>(Oid::INT8_ARRAY, "{}").unwrap(), Vec::<i64>::new());
}

#[test]
fn s2_27_elements_are_read_as_single_cells_are() {
    let bytes = array(&[1, 0, 21, 2, 1], &[Some(&[0, 1]), Some(&[0, 2])]);
    assert_eq!(binary::<Vec<i64>>(Oid::INT2_ARRAY, &bytes).unwrap(), [1, 2]);
    assert_eq!(binary::<Box<[i32]>>(Oid::INT2_ARRAY, &bytes).unwrap(), [1, 2].into());
    let error = binary::<Vec<bool>>(Oid::INT2_ARRAY, &bytes).unwrap_err().to_string();
    assert!(error.contains("int2") && error.contains("element 0"), "{error}");
    let names = array(&[1, 0, 19, 2, 1], &[Some(b"ab"), Some(b"")]);
    assert_eq!(binary::<Vec<&str>>(Oid::NAME_ARRAY, &names).unwrap(), ["ab", ""]);
}

#[test]
fn s2_27_a_fixed_number_of_elements_has_to_fit() {
    let bytes = array(&[1, 0, 21, 2, 1], &[Some(&[0, 1]), Some(&[0, 2])]);
    assert_eq!(binary::<[i16; 2]>(Oid::INT2_ARRAY, &bytes).unwrap(), [1, 2]);
    let error = binary::<[i16; 3]>(Oid::INT2_ARRAY, &bytes).unwrap_err().to_string();
    assert!(error.contains("2 elements instead of 3"), "{error}");
}

#[test]
fn s2_27_lower_bounds_are_dropped() {
    let bytes = array(&[1, 0, 21, 1, -5], &[Some(&[0, 9])]);
    assert_eq!(binary::<Vec<i16>>(Oid::INT2_ARRAY, &bytes).unwrap(), [9]);
    assert_eq!(text::<Vec<i16>>(Oid::INT2_ARRAY, "[-5:-4]={9,8}").unwrap(), [9, 8]);
}

#[test]
fn s2_27_more_than_one_dimension_is_an_error_that_says_so() {
    let bytes = array(&[2, 0, 21, 1, 1, 2, 1], &[Some(&[0, 1]), Some(&[0, 2])]);
    let error = binary::<Vec<i16>>(Oid::INT2_ARRAY, &bytes).unwrap_err().to_string();
    assert!(error.contains("more than one dimension"), "{error}");
    for printed in ["{{1,2}}", "[1:1][1:2]={{1,2}}"] {
        let error = text::<Vec<i16>>(Oid::INT2_ARRAY, printed).unwrap_err().to_string();
        assert!(error.contains("more than one dimension"), "{error}");
    }
    assert!(refused(&[[1, 2], [3, 4]]).contains("one dimension"));
}

#[test]
fn s2_27_what_is_no_array_is_a_mismatch() {
    for format in [Format::Binary, Format::Text] {
        let error = Vec::<i32>::from_sql(Cell::new(Oid::INT4, format, &[0; 4])).unwrap_err();
        assert!(error.to_string().contains("int4"), "{error}");
        let error = Vec::<i32>::from_sql(Cell::new(Oid::new(77_777), format, b"{1}")).unwrap_err();
        assert!(error.to_string().contains("::text"), "{error}");
    }
}

#[test]
fn h36_no_count_and_no_length_is_believed() {
    let good = array(&[1, 0, 21, 2, 1], &[Some(&[0, 1]), Some(&[0, 2])]);
    for cut in 0..good.len() {
        assert!(binary::<Vec<i16>>(Oid::INT2_ARRAY, &good[..cut]).is_err(), "{cut}");
    }
    let mut longer = good;
    longer.push(0);
    assert!(binary::<Vec<i16>>(Oid::INT2_ARRAY, &longer).is_err());
    for (header, why) in [
        (&[-1, 0, 21][..], "dimensions"),
        (&[7, 0, 21], "dimensions"),
        (&[i32::MAX, 0, 21], "dimensions"),
        (&[1, 0, 21, -1, 1], "negative"),
        (&[1, 0, 21, i32::MIN, 1], "negative"),
        // Would be 32 GiB of strings if it were reserved.
        (&[1, 0, 21, i32::MAX, 1], "ends"),
        (&[1, 0, 21, 1, 1, -2], "negative"),
        (&[1, 0, 21, 1, 1, i32::MAX], "length"),
        (&[0, 0, 21, 1], "left"),
    ] {
        let error = binary::<Vec<Option<i16>>>(Oid::INT2_ARRAY, &array(header, &[])).unwrap_err();
        assert!(error.to_string().contains(why), "{header:?}: {error}");
    }
}

#[test]
fn s2_32_array_text_is_read_with_quotes_and_escapes() {
    for (printed, elements) in [
        ("{}", &[][..]),
        ("{a}", &[Some("a")]),
        ("{a,NULL,\"NULL\"}", &[Some("a"), None, Some("NULL")]),
        (r#"{"","a b","a,b","{}"}"#, &[Some(""), Some("a b"), Some("a,b"), Some("{}")]),
        (r#"{"say \"hi\"","\\","é😀"}"#, &[Some("say \"hi\""), Some("\\"), Some("é😀")]),
        ("[0:1]={x,y}", &[Some("x"), Some("y")]),
    ] {
        let list: Vec<Option<String>> = text(Oid::TEXT_ARRAY, printed).unwrap();
        assert_eq!(list.iter().map(Option::as_deref).collect::<Vec<_>>(), elements, "{printed}");
    }
    for no_array in [
        "",
        "a",
        "{",
        "{a",
        "{a,}",
        "{,a}",
        "{a}b",
        "{a},",
        "}",
        "{\"a}",
        "{\"a\"b}",
        "{a\"b\"}",
        "{\"a\\",
        "{a{b}}",
        "{a\\b}",
        "[1:2={a,b}",
        "[1:2]{a,b}",
        "[1]={a}",
        "[a:b]={a}",
        "=",
        "[99999999999:1]={a}",
    ] {
        assert!(text::<Vec<Option<String>>>(Oid::TEXT_ARRAY, no_array).is_err(), "{no_array}");
    }
}

#[test]
fn s2_32_elements_without_escapes_are_borrowed() {
    let list: Vec<&str> = text(Oid::TEXT_ARRAY, r#"{a,"b c"}"#).unwrap();
    assert_eq!(list, ["a", "b c"]);
    let error = text::<Vec<&str>>(Oid::TEXT_ARRAY, r#"{"\""}"#).unwrap_err().to_string();
    assert!(error.contains("owned"), "{error}");
    /// Owns its text, and does not say so.
    #[derive(Debug)]
    struct Label(#[allow(dead_code)] String);
    impl<'a> FromSql<'a> for Label {
        fn from_sql(cell: Cell<'a>) -> PgResult<Self> {
            String::from_sql(cell).map(Self)
        }
    }
    let error = text::<Vec<Label>>(Oid::TEXT_ARRAY, r#"{"\""}"#).unwrap_err().to_string();
    assert!(error.contains("from_sql_owned"), "{error}");
    let bytes: Vec<Option<Vec<u8>>> = text(Oid::BYTEA_ARRAY, r#"{"\\x00ff",NULL}"#).unwrap();
    assert_eq!(bytes, [Some(vec![0, 255]), None]);
    let chars: Vec<i8> = text(Oid::CHAR_ARRAY, r#"{"",a,"\\377"}"#).unwrap();
    assert_eq!(chars, [0, 97, -1]);
}

#[test]
fn s2_32_types_with_a_text_form_of_their_own() {
    assert_eq!(text::<Vec<i16>>(Oid::INT2VECTOR, "1 2 -3").unwrap(), [1, 2, -3]);
    assert_eq!(text::<Vec<Oid>>(Oid::OIDVECTOR, "").unwrap(), []);
    assert!(text::<Vec<i16>>(Oid::INT2VECTOR, "1 x").is_err());
    let boxes: Vec<String> = text(Oid::BOX_ARRAY, "{(1,1),(0,0);(3,3),(2,2)}").unwrap();
    assert_eq!(boxes, ["(1,1),(0,0)", "(3,3),(2,2)"]);
}

#[test]
fn s2_32_elements_are_escaped_as_the_server_does() {
    for (element, escaped) in [
        ("a", "a"),
        ("a'b", "a'b"),
        ("é\u{a0}", "é\u{a0}"),
        ("", r#""""#),
        ("NULL", r#""NULL""#),
        ("null", r#""null""#),
        ("nullx", "nullx"),
        ("a b", r#""a b""#),
        ("a,b", r#""a,b""#),
        ("a;b", "a;b"),
        ("{}", r#""{}""#),
        ("\t\u{b}", "\"\t\u{b}\""),
        (r#"say "hi""#, r#""say \"hi\"""#),
        (r"\", r#""\\""#),
    ] {
        assert_eq!(escape_element(element), escaped);
    }
}

#[test]
fn s2_38_elements_of_a_type_without_an_array_type_are_refused() {
    struct Nameless;
    impl ToSql for Nameless {
        fn declare(&self, _: &TypeMap) -> Oid {
            Oid::new(77_777)
        }
        fn encode(&self, _: &TypeMap, _: &mut Out<'_>) -> PgResult<Encoded> {
            Ok(Encoded::Text)
        }
    }
    impl StaticType for Nameless {
        fn static_type(_: &TypeMap) -> Oid {
            Oid::new(77_777)
        }
    }
    assert!(refused(&[Nameless]).contains("77777"));

    /// Says int4 and writes text.
    struct Liar;
    impl ToSql for Liar {
        fn declare(&self, _: &TypeMap) -> Oid {
            Oid::INT4
        }
        fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
            out.put(b"1");
            Ok(Encoded::Text)
        }
    }
    impl StaticType for Liar {
        fn static_type(_: &TypeMap) -> Oid {
            Oid::INT4
        }
    }
    assert!(refused(&[Liar]).contains("element 0"));
}

#[test]
fn s2_38_an_element_of_another_type_than_the_list_is_refused() {
    /// Is one type or another, as its value has it.
    enum Number {
        Whole(i64),
        Broken(f64),
    }
    impl ToSql for Number {
        fn declare(&self, types: &TypeMap) -> Oid {
            match self {
                Self::Whole(number) => number.declare(types),
                Self::Broken(number) => number.declare(types),
            }
        }
        fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
            match self {
                Self::Whole(number) => number.encode(types, out),
                Self::Broken(number) => number.encode(types, out),
            }
        }
    }
    impl StaticType for Number {
        fn static_type(types: &TypeMap) -> Oid {
            i64::static_type(types)
        }
    }
    assert_eq!(sent(&[Number::Whole(1)]), sent(&[1_i64]));
    assert_eq!(sent(&[None, Some(Number::Whole(1))]), sent(&[None, Some(1_i64)]));
    let error = refused(&[Number::Whole(1), Number::Broken(1.5)]);
    assert!(error.contains("element 1") && error.contains("float8"), "{error}");
    assert!(error.contains("int8[]"), "{error}");
}

proptest! {
    #[test]
    fn s2_38_lists_of_numbers_are_read_back(list: Vec<Option<i64>>) {
        let read: Vec<Option<i64>> = binary(Oid::INT8_ARRAY, &sent(&list).2).unwrap();
        prop_assert_eq!(&read, &list);
        let read: Vec<Option<i64>> = text(Oid::INT8_ARRAY, &list.to_sql().to_string()).unwrap();
        prop_assert_eq!(&read, &list);
    }

    #[test]
    fn s2_38_lists_of_strings_are_read_back(list: Vec<Option<String>>) {
        prop_assume!(!list.iter().flatten().any(|string| string.contains('\0')));
        let read: Vec<Option<String>> = binary(Oid::TEXT_ARRAY, &sent(&list).2).unwrap();
        prop_assert_eq!(&read, &list);
        let read: Vec<Option<String>> =
            text(Oid::TEXT_ARRAY, &list.to_sql().to_string()).unwrap();
        prop_assert_eq!(&read, &list);
    }

    #[test]
    fn s2_32_whatever_the_text_reading_never_panics(printed in "[\\[:\\]={}\",\\\\a0é ]{0,16}") {
        let _ = text::<Vec<Option<String>>>(Oid::TEXT_ARRAY, &printed);
    }

    #[test]
    fn h36_whatever_the_bytes_reading_never_panics(
        dimensions in 0..3, count in -1..5, rest: Vec<u8>,
    ) {
        let mut bytes = array(&[dimensions, 0, 25, count, 1], &[]);
        bytes.extend(rest);
        let _ = binary::<Vec<Option<String>>>(Oid::TEXT_ARRAY, &bytes);
    }
}
