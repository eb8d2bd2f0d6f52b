//! Parameters that are declared as another type than their own.

use super::{Encoded, Oid, Out, PgValue, StaticType, ToSql, TypeMap};
use crate::error::PgResult;

/// A parameter that is declared as a type of your choice.
///
/// The value goes as it is if that is the type that it declares anyway. Otherwise its text form is
/// sent, and the server reads it as it reads a literal in quotes: bytes of one type are never taken
/// for another.
///
/// ```
/// use chopin_pg::types::{Encoded, Oid, Out, ToSql, Typed, TypeMap};
///
/// // `SELECT $1` alone would leave it to the server which type the string has.
/// let types = TypeMap::builtin();
/// let param = Typed("2024-02-29", Oid::DATE);
/// assert_eq!(param.declare(types), Oid::DATE);
///
/// // An i32 for a numeric parameter: the text `18`.
/// let mut bytes = Vec::new();
/// let encoded = Typed(18, Oid::NUMERIC).encode(types, &mut Out::new(&mut bytes))?;
/// assert_eq!((encoded, &bytes[..]), (Encoded::Text, &b"18"[..]));
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typed<T>(pub T, pub Oid);

/// A parameter whose type the server infers from where it stands, as it does for a literal in
/// quotes.
///
/// Its text form is sent. Use it where the type that a Rust value declares is in the way: an `i32`
/// cannot be compared with a `text` column, `Untyped(18)` can.
///
/// ```
/// use chopin_pg::types::{Encoded, Oid, Out, ToSql, TypeMap, Untyped};
///
/// let types = TypeMap::builtin();
/// assert_eq!(Untyped(18).declare(types), Oid::UNSPECIFIED);
///
/// let mut bytes = Vec::new();
/// let encoded = Untyped(18).encode(types, &mut Out::new(&mut bytes))?;
/// assert_eq!((encoded, &bytes[..]), (Encoded::Text, &b"18"[..]));
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untyped<T>(pub T);

/// Writes the text form of `value`, whichever form it has by itself.
pub(crate) fn encode_text<T: ToSql + ?Sized>(
    value: &T,
    types: &TypeMap,
    out: &mut Out<'_>,
) -> PgResult<Encoded> {
    if value.declare(types) == Oid::UNSPECIFIED {
        // Without a declared type there is no binary form: it is text or NULL already.
        return value.encode(types, out);
    }
    match value.to_sql().to_text_bytes()? {
        Some(text) => {
            out.put(&text);
            Ok(Encoded::Text)
        }
        None => Ok(Encoded::Null),
    }
}

/// Writes `value` in a form that a server which expects type `oid` reads right: as it is when it
/// declares that type, else its text form.
#[inline]
pub(crate) fn encode_as<T: ToSql + ?Sized>(
    value: &T,
    oid: Oid,
    types: &TypeMap,
    out: &mut Out<'_>,
) -> PgResult<Encoded> {
    if value.declare(types) == oid {
        value.encode(types, out)
    } else {
        encode_text(value, types, out)
    }
}

impl<T: ToSql> ToSql for Typed<T> {
    fn declare(&self, _: &TypeMap) -> Oid {
        self.1
    }
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        encode_as(&self.0, self.1, types, out)
    }
    fn rust_type(&self) -> &'static str {
        self.0.rust_type()
    }
    fn to_sql(&self) -> PgValue {
        self.0.to_sql()
    }
}

impl<T: ToSql> ToSql for Untyped<T> {
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::UNSPECIFIED
    }
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        encode_text(&self.0, types, out)
    }
    fn rust_type(&self) -> &'static str {
        self.0.rust_type()
    }
    fn to_sql(&self) -> PgValue {
        self.0.to_sql()
    }
}

/// Alone unspecified, in a list `text`, as strings are.
impl<T> StaticType for Untyped<T> {
    fn static_type(types: &TypeMap) -> Oid {
        str::static_type(types)
    }
    fn element_type(types: &TypeMap) -> Oid {
        str::element_type(types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::testing::{refused, sent};

    #[test]
    fn s2_33_typed_sends_its_own_type_as_it_is() {
        assert_eq!(sent(&Typed(7, Oid::INT4)), (Oid::INT4, Encoded::Binary, vec![0, 0, 0, 7]));
        let bytes = Typed([1_u8, 2].as_slice(), Oid::BYTEA);
        assert_eq!(sent(&bytes), (Oid::BYTEA, Encoded::Binary, vec![1, 2]));
        assert_eq!(sent(&Typed("{}", Oid::JSONB)), (Oid::JSONB, Encoded::Text, b"{}".to_vec()));
    }

    #[test]
    fn s2_33_typed_sends_another_type_as_text() {
        for (value, printed) in [
            (&Typed(7_i64, Oid::FLOAT8) as &dyn ToSql, "7"),
            (&Typed(0.1_f64, Oid::INT8), "0.1"),
            (&Typed(true, Oid::TEXT), "t"),
            (&Typed(vec![0_u8, 255], Oid::TEXT), "\\x00ff"),
            (&Typed(["a b", "c"], Oid::NAME_ARRAY), "{\"a b\",c}"),
            (&Typed(PgValue::Date(0), Oid::TIMESTAMPTZ), "2000-01-01"),
            (&Typed(PgValue::Point { x: 1.0, y: 2.0 }, Oid::TEXT), "(1,2)"),
        ] {
            let (declared, encoded, bytes) = sent(value);
            assert_ne!(declared, Oid::UNSPECIFIED);
            assert_eq!((encoded, bytes), (Encoded::Text, printed.as_bytes().to_vec()));
        }
        assert_eq!(Typed(7, Oid::TEXT).to_sql(), PgValue::Int4(7));
        assert_eq!(Typed(7, Oid::TEXT).rust_type(), "i32");
    }

    #[test]
    fn s2_33_untyped_sends_text_of_no_declared_type() {
        let seven = (Oid::UNSPECIFIED, Encoded::Text, b"7".to_vec());
        assert_eq!(sent(&Untyped(7)), seven);
        assert_eq!(sent(&Untyped("7")), seven);
        assert_eq!(sent(&Some(Untyped(7))), seven);
        assert_eq!(sent(&Untyped([7, 8])).2, b"{7,8}");
        assert_eq!(Untyped(7).to_sql(), PgValue::Int4(7));
    }

    #[test]
    fn s2_33_lists_of_untyped_values_are_text_arrays() {
        let (declared, encoded, bytes) = sent(&[Untyped(7), Untyped(8)]);
        assert_eq!((declared, encoded), (Oid::TEXT_ARRAY, Encoded::Binary));
        assert_eq!(bytes, sent(&["7", "8"]).2);
    }

    #[test]
    fn s2_35_null_stays_null() {
        assert_eq!(sent(&Typed(None::<i32>, Oid::INT8)), (Oid::INT8, Encoded::Null, vec![]));
        assert_eq!(sent(&Untyped(None::<i32>)), (Oid::UNSPECIFIED, Encoded::Null, vec![]));
        assert_eq!(sent(&Untyped(None::<&str>)), (Oid::UNSPECIFIED, Encoded::Null, vec![]));
        assert_eq!(sent(&None::<Untyped<i32>>), (Oid::UNSPECIFIED, Encoded::Null, vec![]));
    }

    #[test]
    fn h30_what_has_no_text_is_refused() {
        assert!(refused(&Untyped("\0")).contains("NUL"));
        assert!(refused(&Typed(vec!["\0"], Oid::NAME_ARRAY)).contains("NUL"));
        let unknown = PgValue::Unknown { oid: Oid::MONEY, bytes: vec![0; 8] };
        assert!(refused(&Typed(unknown.clone(), Oid::NUMERIC)).contains("binary"));
        assert_eq!(sent(&Typed(unknown, Oid::MONEY)).2, [0; 8]);
    }
}
