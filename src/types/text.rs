//! Strings and byte strings: text and its relatives, "char", json, jsonb and xml as text, bytea.
//!
//! A string parameter is declared as unspecified and sent as text, so that the server parses it for
//! whatever type the place calls for. A NUL byte cannot be part of a PostgreSQL string and is
//! refused.
//!
//! Source: PostgreSQL documentation, "Character Types", "Binary Data Types", "JSON Types".

use std::borrow::Cow;
use std::fmt;

use super::scalar::{hex_byte, octal};
use super::traits::unsendable;
use super::{Cell, Encoded, Format, FromSql, Oid, Out, PgValue, StaticType, ToSql, TypeMap};
use crate::error::{PgError, PgResult};

/// The only version of jsonb's binary form: a byte before the text.
const JSONB_VERSION: u8 = 1;

impl ToSql for str {
    #[inline]
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::UNSPECIFIED
    }
    #[inline]
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        refuse_nul(self)?;
        out.put(self.as_bytes());
        Ok(Encoded::Text)
    }
    fn to_sql(&self) -> PgValue {
        PgValue::Text(self.to_owned())
    }
}

/// Refuses a string that PostgreSQL cannot hold.
#[inline]
pub(super) fn refuse_nul(text: &str) -> PgResult<()> {
    if text.as_bytes().contains(&0) { Err(holds_nul(text)) } else { Ok(()) }
}

#[cold]
fn holds_nul(text: &str) -> PgError {
    let offset = text.find('\0').unwrap_or_default();
    let why = format!("a NUL byte at offset {offset}, which no string of PostgreSQL can hold");
    unsendable::<str>(Some("text"), why)
}

/// Alone a string takes the type that the server infers; in a list it is `text`.
impl StaticType for str {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::UNSPECIFIED
    }
    fn element_type(_: &TypeMap) -> Oid {
        Oid::TEXT
    }
}

impl ToSql for String {
    #[inline]
    fn declare(&self, types: &TypeMap) -> Oid {
        self.as_str().declare(types)
    }
    #[inline]
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        self.as_str().encode(types, out)
    }
    fn to_sql(&self) -> PgValue {
        self.as_str().to_sql()
    }
}

impl StaticType for String {
    fn static_type(types: &TypeMap) -> Oid {
        str::static_type(types)
    }
    fn element_type(types: &TypeMap) -> Oid {
        str::element_type(types)
    }
}

/// The text of a cell for the string type `T`; borrowed unless a "char" above 127 has to be spelled
/// out.
#[inline]
fn string<'a, T>(cell: Cell<'a>) -> PgResult<Cow<'a, str>> {
    match (cell.format(), cell.oid()) {
        (Format::Binary, Oid::TEXT | Oid::VARCHAR) => cell.text::<T>().map(Cow::Borrowed),
        _ => less_common_string::<T>(cell),
    }
}

fn less_common_string<'a, T>(cell: Cell<'a>) -> PgResult<Cow<'a, str>> {
    match (cell.format(), cell.oid()) {
        (_, Oid::CHAR) => char_string::<T>(cell),
        (Format::Binary, Oid::JSONB) => jsonb::<T>(cell).map(Cow::Borrowed),
        (Format::Binary, oid) if !is_text(oid) => Err(unreadable::<T>(cell)),
        _ => cell.text::<T>().map(Cow::Borrowed),
    }
}

/// The text of a "char": nothing for zero, octal digits behind a backslash for a byte above 127. Up
/// to PostgreSQL 15 the server itself prints such a byte as it is, which is not UTF-8.
fn char_string<'a, T>(cell: Cell<'a>) -> PgResult<Cow<'a, str>> {
    match (cell.format(), cell.bytes()) {
        (Format::Binary, [0]) => Ok(Cow::Borrowed("")),
        (_, [byte]) if !byte.is_ascii() => Ok(Cow::Owned(format!("\\{byte:03o}"))),
        (Format::Text, _) | (Format::Binary, [_]) => cell.text::<T>().map(Cow::Borrowed),
        _ => Err(cell.invalid::<T>("the value is not one byte")),
    }
}

/// Whether the binary form of type `oid` is its text.
pub(super) const fn is_text(oid: Oid) -> bool {
    matches!(
        oid,
        Oid::TEXT
            | Oid::VARCHAR
            | Oid::BPCHAR
            | Oid::NAME
            | Oid::CHAR
            | Oid::UNKNOWN
            | Oid::CSTRING
            | Oid::JSON
            | Oid::XML
    )
}

/// Writes JSON text as jsonb.
pub(super) fn encode_jsonb(text: &[u8], out: &mut Out<'_>) -> PgResult<Encoded> {
    out.put_u8(JSONB_VERSION);
    out.put(text);
    Ok(Encoded::Binary)
}

/// The JSON text of a jsonb cell in binary format.
fn jsonb<'a, T>(cell: Cell<'a>) -> PgResult<&'a str> {
    match cell.bytes() {
        [JSONB_VERSION, text @ ..] => Cell::new(cell.oid(), Format::Text, text).text::<T>(),
        [version, ..] => Err(cell.invalid::<T>(format!("jsonb of an unknown version: {version}"))),
        [] => Err(cell.invalid::<T>("the value is empty, without a version")),
    }
}

/// The error for a cell whose type `T` does not read; for a type that is not known at all it says
/// how to read it nevertheless.
#[cold]
pub(super) fn unreadable<T>(cell: Cell<'_>) -> PgError {
    match TypeMap::builtin().info(cell.oid()) {
        Some(_) => cell.mismatch::<T>(),
        None => cell.invalid::<T>(
            "the type is not one of PostgreSQL's own: cast it in the SQL (`column::text`), or read it as \
             PgValue, which keeps its bytes; registering such types (`load_types`) is still to come",
        ),
    }
}

impl<'a> FromSql<'a> for &'a str {
    #[inline(always)]
    fn from_sql(cell: Cell<'a>) -> PgResult<Self> {
        match (cell.format(), cell.oid()) {
            (Format::Binary, Oid::TEXT | Oid::VARCHAR) => cell.text::<Self>(),
            _ => borrowed(cell),
        }
    }
}

/// The text of a cell of another type.
#[inline(never)]
fn borrowed(cell: Cell<'_>) -> PgResult<&str> {
    match string::<&str>(cell)? {
        Cow::Borrowed(text) => Ok(text),
        Cow::Owned(_) => Err(cell.invalid::<&str>(
            "a \"char\" above 127 is not text that could be borrowed; read it as String or i8",
        )),
    }
}

impl<'a> FromSql<'a> for Cow<'a, str> {
    #[inline]
    fn from_sql(cell: Cell<'a>) -> PgResult<Self> {
        string::<Self>(cell)
    }
    fn from_sql_owned(cell: Cell<'_>) -> PgResult<Self> {
        string::<Self>(cell).map(|text| Cow::Owned(text.into_owned()))
    }
}

impl FromSql<'_> for String {
    #[inline]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        string::<Self>(cell).map(Cow::into_owned)
    }
    fn from_sql_owned(cell: Cell<'_>) -> PgResult<Self> {
        Self::from_sql(cell)
    }
}

impl FromSql<'_> for Box<str> {
    #[inline]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        string::<Self>(cell).map(Self::from)
    }
    fn from_sql_owned(cell: Cell<'_>) -> PgResult<Self> {
        Self::from_sql(cell)
    }
}

/// bytea.
impl ToSql for [u8] {
    #[inline]
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::BYTEA
    }
    #[inline]
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        out.put(self);
        Ok(Encoded::Binary)
    }
    fn to_sql(&self) -> PgValue {
        PgValue::Bytes(self.to_owned())
    }
}

impl StaticType for [u8] {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::BYTEA
    }
}

impl ToSql for Vec<u8> {
    #[inline]
    fn declare(&self, types: &TypeMap) -> Oid {
        self.as_slice().declare(types)
    }
    #[inline]
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        self.as_slice().encode(types, out)
    }
    fn to_sql(&self) -> PgValue {
        self.as_slice().to_sql()
    }
}

impl StaticType for Vec<u8> {
    fn static_type(types: &TypeMap) -> Oid {
        <[u8]>::static_type(types)
    }
}

/// The bytes of a bytea cell; borrowed in binary format, decoded in text format.
#[inline]
fn bytes<'a, T>(cell: Cell<'a>) -> PgResult<Cow<'a, [u8]>> {
    match (cell.format(), cell.oid()) {
        (Format::Binary, Oid::BYTEA) => Ok(Cow::Borrowed(cell.bytes())),
        (Format::Text, Oid::BYTEA) => match decode_bytea(cell.bytes()) {
            Some(bytes) => Ok(Cow::Owned(bytes)),
            None => Err(cell.invalid::<T>("the text is neither of bytea's two forms")),
        },
        _ => Err(cell.mismatch::<T>()),
    }
}

/// Reads bytea's text, as the server prints it with `bytea_output` set to `hex` or to `escape`.
fn decode_bytea(text: &[u8]) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix(b"\\x") {
        let pairs = digits.chunks_exact(2);
        return pairs
            .remainder()
            .is_empty()
            .then_some(())
            .and_then(|()| pairs.map(|pair| hex_byte(pair.try_into().ok()?)).collect());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Some(bytes),
            [b'\\', b'\\', behind @ ..] => {
                bytes.push(b'\\');
                behind
            }
            [b'\\', escaped @ ..] => {
                let (digits, behind) = escaped.split_first_chunk::<3>()?;
                bytes.push(octal(digits)?);
                behind
            }
            [byte, behind @ ..] => {
                bytes.push(*byte);
                behind
            }
        };
    }
}

/// Shows bytes as bytea's text in its `hex` form.
pub(super) struct BytesText<'a>(pub(super) &'a [u8]);

impl fmt::Display for BytesText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\\x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<'a> FromSql<'a> for &'a [u8] {
    #[inline]
    fn from_sql(cell: Cell<'a>) -> PgResult<Self> {
        match (cell.format(), cell.oid()) {
            (Format::Binary, Oid::BYTEA) => Ok(cell.bytes()),
            (Format::Text, Oid::BYTEA) => Err(cell.invalid::<Self>(
                "in text format the bytes have to be decoded and cannot be borrowed; read it as Vec<u8>",
            )),
            _ => Err(cell.mismatch::<Self>()),
        }
    }
}

impl<'a> FromSql<'a> for Cow<'a, [u8]> {
    #[inline]
    fn from_sql(cell: Cell<'a>) -> PgResult<Self> {
        bytes::<Self>(cell)
    }
    fn from_sql_owned(cell: Cell<'_>) -> PgResult<Self> {
        bytes::<Self>(cell).map(|bytes| Cow::Owned(bytes.into_owned()))
    }
}

impl FromSql<'_> for Vec<u8> {
    #[inline]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        bytes::<Self>(cell).map(Cow::into_owned)
    }
    fn from_sql_owned(cell: Cell<'_>) -> PgResult<Self> {
        Self::from_sql(cell)
    }
}

impl FromSql<'_> for Box<[u8]> {
    #[inline]
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        bytes::<Self>(cell).map(Self::from)
    }
    fn from_sql_owned(cell: Cell<'_>) -> PgResult<Self> {
        Self::from_sql(cell)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::testing::{binary, refused, sent, text};

    #[test]
    fn s2_33_strings_are_sent_as_text_of_no_declared_type() {
        let expected = (Oid::UNSPECIFIED, Encoded::Text, "añ€😀".as_bytes().to_vec());
        assert_eq!(sent(&"añ€😀"), expected);
        assert_eq!(sent(&"añ€😀".to_owned()), expected);
        assert_eq!(sent(&Box::<str>::from("añ€😀")), expected);
        assert_eq!(sent(&Cow::Borrowed("añ€😀")), expected);
        assert_eq!(sent(&""), (Oid::UNSPECIFIED, Encoded::Text, vec![]));
        assert_eq!("a".to_sql(), PgValue::Text("a".into()));
        let types = TypeMap::builtin();
        assert_eq!(String::static_type(types), Oid::UNSPECIFIED);
        assert_eq!(<&str>::element_type(types), Oid::TEXT);
    }

    #[test]
    fn h30_a_nul_byte_in_a_string_is_refused_by_its_place() {
        let error = refused(&"ab\0c");
        assert!(error.contains("NUL") && error.contains("offset 2"), "{error}");
        assert!(refused(&"\0".to_owned()).contains("NUL"));
        assert!(refused(&["a", "\0"]).contains("NUL"));
        assert!(refused(&PgValue::Text("\0".into())).contains("NUL"));
        assert!(refused(&PgValue::Json("\0".into())).contains("NUL"));
        // Not an error yet, and no NULL or cut string either: encoding it is what fails.
        assert_eq!("ab\0c".to_sql(), PgValue::Text("ab\0c".into()));
    }

    #[test]
    fn s2_36_strings_are_read_from_every_type_of_text() {
        let named = [
            Oid::TEXT,
            Oid::VARCHAR,
            Oid::BPCHAR,
            Oid::NAME,
            Oid::UNKNOWN,
            Oid::CSTRING,
            Oid::JSON,
            Oid::XML,
        ];
        for oid in named {
            assert_eq!(binary::<String>(oid, "añ😀".as_bytes()).unwrap(), "añ😀");
            assert_eq!(binary::<&str>(oid, b"").unwrap(), "");
            assert_eq!(text::<Box<str>>(oid, "x").unwrap(), "x".into());
            let error = binary::<String>(oid, &[b'a', 0xFF]).unwrap_err().to_string();
            assert!(error.contains("UTF-8"), "{error}");
        }
        assert!(matches!(binary::<Cow<'_, str>>(Oid::TEXT, b"x").unwrap(), Cow::Borrowed("x")));
    }

    #[test]
    fn s2_36_in_text_format_every_type_is_its_text() {
        assert_eq!(text::<String>(Oid::INT4, "7").unwrap(), "7");
        assert_eq!(text::<&str>(Oid::BYTEA, "\\x00").unwrap(), "\\x00");
        assert_eq!(text::<&str>(Oid::JSONB, "{}").unwrap(), "{}");
        assert_eq!(text::<&str>(Oid::new(99_999), "a label").unwrap(), "a label");
    }

    #[test]
    fn h8_no_string_is_made_of_the_binary_form_of_another_type() {
        for oid in [Oid::INT4, Oid::BYTEA, Oid::UUID, Oid::INT4RANGE, Oid::RECORD, Oid::MONEY] {
            let error = binary::<String>(oid, b"abcd").unwrap_err().to_string();
            assert!(error.contains(oid.name().unwrap()) && error.contains("String"), "{error}");
        }
        for oid in [16_385, 0x8000_0001, u32::MAX] {
            let error = binary::<String>(Oid::new(oid), b"abcd").unwrap_err().to_string();
            assert!(error.contains(&oid.to_string()), "{error}");
            for way_out in ["`column::text`", "PgValue", "load_types"] {
                assert!(error.contains(way_out), "{error}");
            }
        }
    }

    #[test]
    fn s2_36_a_char_is_read_as_the_server_prints_it() {
        assert_eq!(binary::<&str>(Oid::CHAR, b"r").unwrap(), "r");
        assert_eq!(binary::<&str>(Oid::CHAR, &[0]).unwrap(), "");
        assert_eq!(binary::<String>(Oid::CHAR, &[0xFF]).unwrap(), "\\377");
        assert_eq!(binary::<String>(Oid::CHAR, &[0x80]).unwrap(), "\\200");
        assert_eq!(text::<String>(Oid::CHAR, "\\377").unwrap(), "\\377");
        // As PostgreSQL 15 prints it.
        let raw = Cell::new(Oid::CHAR, Format::Text, &[0xFF]);
        assert_eq!(String::from_sql(raw).unwrap(), "\\377");
        assert!(<&str>::from_sql(raw).unwrap_err().to_string().contains("String"));
        for wrong in [&[][..], b"ab"] {
            assert!(binary::<String>(Oid::CHAR, wrong).is_err());
        }
    }

    #[test]
    fn s2_22_jsonb_is_read_behind_its_version() {
        assert_eq!(binary::<String>(Oid::JSONB, b"\x01{\"a\": 1}").unwrap(), "{\"a\": 1}");
        assert_eq!(binary::<&str>(Oid::JSONB, b"\x01").unwrap(), "");
        let error = binary::<String>(Oid::JSONB, b"\x02{}").unwrap_err().to_string();
        assert!(error.contains("version: 2"), "{error}");
        assert!(binary::<String>(Oid::JSONB, b"").is_err());
        assert!(binary::<String>(Oid::JSONB, b"\x01\xFF").is_err());
    }

    #[test]
    fn s2_33_bytes_are_sent_as_bytea() {
        let expected = (Oid::BYTEA, Encoded::Binary, vec![0, 1, 255]);
        assert_eq!(sent(&[0_u8, 1, 255].as_slice()), expected);
        assert_eq!(sent(&vec![0_u8, 1, 255]), expected);
        assert_eq!(sent(&Box::<[u8]>::from([0, 1, 255])), expected);
        assert_eq!(sent(&Cow::<[u8]>::Owned(vec![0, 1, 255])), expected);
        assert_eq!(vec![1_u8].to_sql(), PgValue::Bytes(vec![1]));
    }

    #[test]
    fn s2_40_bytea_is_read_in_both_formats() {
        assert_eq!(binary::<Vec<u8>>(Oid::BYTEA, &[0, 255]).unwrap(), [0, 255]);
        assert_eq!(binary::<&[u8]>(Oid::BYTEA, &[0, 255]).unwrap(), [0, 255]);
        assert_eq!(*binary::<Box<[u8]>>(Oid::BYTEA, &[1]).unwrap(), [1]);
        let borrowed = binary::<Cow<'_, [u8]>>(Oid::BYTEA, &[1]).unwrap();
        assert!(matches!(borrowed, Cow::Borrowed([1])));
        for (printed, bytes) in [
            ("\\x", &b""[..]),
            ("\\x00fFa1", &[0, 0xFF, 0xA1]),
            ("", b""),
            ("a b", b"a b"),
            ("\\\\x00", b"\\x00"),
            ("\\000\\377\\\\'", b"\0\xFF\\'"),
        ] {
            assert_eq!(text::<Vec<u8>>(Oid::BYTEA, printed).unwrap(), bytes, "{printed}");
            assert_eq!(text::<Cow<'_, [u8]>>(Oid::BYTEA, printed).unwrap(), bytes);
        }
        for no_bytea in ["\\x0", "\\x0g", "\\x0 0", "\\", "\\1", "\\18", "\\400", "\\12a", "\\n"] {
            assert!(text::<Vec<u8>>(Oid::BYTEA, no_bytea).is_err(), "{no_bytea}");
        }
        assert!(binary::<Vec<u8>>(Oid::TEXT, b"a").is_err());
        assert!(binary::<&[u8]>(Oid::TEXT, b"a").is_err());
    }

    #[test]
    fn s2_40_borrowed_bytes_are_read_in_binary_only() {
        let error = text::<&[u8]>(Oid::BYTEA, "\\x00").unwrap_err().to_string();
        assert!(error.contains("Vec<u8>"), "{error}");
    }

    proptest! {
        #[test]
        fn s2_31_bytea_text_is_read_back(bytes: Vec<u8>) {
            let printed = bytes.to_sql().to_string();
            prop_assert_eq!(text::<Vec<u8>>(Oid::BYTEA, &printed).unwrap(), bytes);
        }

        #[test]
        fn s2_31_whatever_the_text_bytea_never_panics(printed in "[\\\\x0-9a-g]{0,12}") {
            let _ = text::<Vec<u8>>(Oid::BYTEA, &printed);
        }

        #[test]
        fn s2_36_strings_are_read_back(value: String) {
            prop_assume!(!value.contains('\0'));
            let (_, _, bytes) = sent(&value);
            prop_assert_eq!(binary::<&str>(Oid::TEXT, &bytes).unwrap(), &value);
        }
    }
}
