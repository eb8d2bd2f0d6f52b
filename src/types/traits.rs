//! The traits between Rust values and SQL values.

use std::borrow::Cow;

use super::{Cell, Format, Oid, Out, PgValue, TypeMap};
use crate::error::{ConversionError, ParameterError, PgError, PgResult};

/// What [`ToSql::encode`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Encoded {
    /// The value in its text form.
    Text,
    /// The value in the binary form of the type that [`ToSql::declare`] names.
    Binary,
    /// NULL: nothing was written.
    Null,
}

/// A Rust value that can be a parameter of a query.
///
/// The declared type and the bytes belong together: [`encode`](ToSql::encode) writes the binary
/// form of exactly the type that [`declare`](ToSql::declare) names, or the text form.
///
/// ```
/// use chopin_pg::types::{Encoded, Oid, Out, ToSql, TypeMap};
/// use chopin_pg::PgResult;
///
/// /// Degrees, kept in the database as float8.
/// struct Degrees(f64);
///
/// impl ToSql for Degrees {
///     fn declare(&self, types: &TypeMap) -> Oid {
///         self.0.declare(types)
///     }
///     fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
///         self.0.encode(types, out)
///     }
/// }
/// ```
pub trait ToSql {
    /// The type that this parameter is declared as; [`Oid::UNSPECIFIED`] leaves it to the server to
    /// infer one.
    fn declare(&self, types: &TypeMap) -> Oid;

    /// Appends the value to `out`.
    ///
    /// # Errors
    ///
    /// [`PgError::Parameter`] when the value cannot be represented, for example a string with a NUL
    /// byte. Whatever was written by then is rolled back: no half-written message leaves.
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded>;

    /// The name of the Rust type, for error messages.
    fn rust_type(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// The value as a [`PgValue`], for code that keeps parameters of mixed types.
    ///
    /// A value that cannot be encoded becomes a [`PgValue::Unknown`] without a type, which is
    /// refused as a parameter: it never turns into NULL.
    fn to_sql(&self) -> PgValue {
        let types = TypeMap::builtin();
        let mut bytes = Vec::new();
        let mut out = Out::new(&mut bytes);
        let format = match self.encode(types, &mut out) {
            Ok(Encoded::Text) => Format::Text,
            Ok(Encoded::Binary) => Format::Binary,
            Ok(Encoded::Null) => return PgValue::Null,
            Err(_) => {
                return PgValue::Unknown { oid: Oid::UNSPECIFIED, bytes };
            }
        };
        let oid = match self.declare(types) {
            Oid::UNSPECIFIED => Oid::TEXT,
            oid => oid,
        };
        match PgValue::from_sql(Cell::new(oid, format, &bytes)) {
            Ok(value) => value,
            Err(_) => PgValue::Unknown { oid: Oid::UNSPECIFIED, bytes },
        }
    }
}

/// A Rust type whose declared SQL type is known without a value: what `None` and an empty list are
/// declared as.
pub trait StaticType {
    /// The type that a value of this Rust type is declared as.
    fn static_type(types: &TypeMap) -> Oid;

    /// The type of this Rust type as an element of an array. The same as
    /// [`static_type`](Self::static_type), but for strings: alone they are unspecified, in a list
    /// they are `text`.
    fn element_type(types: &TypeMap) -> Oid {
        Self::static_type(types)
    }
}

/// A Rust type that a cell can be read as.
///
/// `'a` is the life of the bytes that the server sent: `&'a str` and `&'a [u8]` borrow them.
pub trait FromSql<'a>: Sized {
    /// Reads a value that is not NULL.
    ///
    /// # Errors
    ///
    /// [`PgError::TypeConversion`] when the cell's type is not one that this Rust type reads, or
    /// its bytes are not a value of that type.
    fn from_sql(cell: Cell<'a>) -> PgResult<Self>;

    /// Reads NULL.
    ///
    /// # Errors
    ///
    /// [`PgError::TypeConversion`] for every type that has no room for NULL; wrap it in `Option`.
    fn from_null() -> PgResult<Self> {
        Err(PgError::TypeConversion(Box::new(ConversionError {
            column: None,
            rust_type: std::any::type_name::<Self>(),
            pg_type: "NULL".to_owned(),
            message: "the value is NULL; read it as an Option".to_owned(),
        })))
    }

    /// Reads a value that is not NULL from bytes that do not live as long as `'a`: an element of an
    /// array in text format whose escapes had to be resolved. Implement it as
    /// `Self::from_sql(cell)` for a type that borrows nothing and whose text may hold a quote or a
    /// backslash.
    ///
    /// # Errors
    ///
    /// Those of [`from_sql`](Self::from_sql); [`PgError::TypeConversion`] always, unless it is
    /// implemented.
    fn from_sql_owned(cell: Cell<'_>) -> PgResult<Self> {
        Err(cell.invalid::<Self>(
            "the text of this element holds escapes and cannot be borrowed: read it as an owned type such \
             as String; if this is a type of your own that borrows nothing, implement \
             `FromSql::from_sql_owned` for it",
        ))
    }
}

/// The former name of [`ToSql::to_sql`]: every parameter type has it.
pub trait ToParam {
    /// The value as a [`PgValue`].
    fn to_param(&self) -> PgValue;
}

impl<T: ToSql + ?Sized> ToParam for T {
    fn to_param(&self) -> PgValue {
        self.to_sql()
    }
}

impl<T: ToSql + ?Sized> ToSql for &T {
    #[inline]
    fn declare(&self, types: &TypeMap) -> Oid {
        (**self).declare(types)
    }
    #[inline]
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        (**self).encode(types, out)
    }
    fn rust_type(&self) -> &'static str {
        (**self).rust_type()
    }
    fn to_sql(&self) -> PgValue {
        (**self).to_sql()
    }
}

impl<T: StaticType + ?Sized> StaticType for &T {
    fn static_type(types: &TypeMap) -> Oid {
        T::static_type(types)
    }
    fn element_type(types: &TypeMap) -> Oid {
        T::element_type(types)
    }
}

impl<T: ToSql + ?Sized> ToSql for Box<T> {
    #[inline]
    fn declare(&self, types: &TypeMap) -> Oid {
        (**self).declare(types)
    }
    #[inline]
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        (**self).encode(types, out)
    }
    fn rust_type(&self) -> &'static str {
        (**self).rust_type()
    }
    fn to_sql(&self) -> PgValue {
        (**self).to_sql()
    }
}

impl<T: StaticType + ?Sized> StaticType for Box<T> {
    fn static_type(types: &TypeMap) -> Oid {
        T::static_type(types)
    }
    fn element_type(types: &TypeMap) -> Oid {
        T::element_type(types)
    }
}

impl<T: ToSql + ToOwned + ?Sized> ToSql for Cow<'_, T> {
    #[inline]
    fn declare(&self, types: &TypeMap) -> Oid {
        (**self).declare(types)
    }
    #[inline]
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        (**self).encode(types, out)
    }
    fn rust_type(&self) -> &'static str {
        (**self).rust_type()
    }
    fn to_sql(&self) -> PgValue {
        (**self).to_sql()
    }
}

impl<T: StaticType + ToOwned + ?Sized> StaticType for Cow<'_, T> {
    fn static_type(types: &TypeMap) -> Oid {
        T::static_type(types)
    }
    fn element_type(types: &TypeMap) -> Oid {
        T::element_type(types)
    }
}

impl<T: ToSql + StaticType> ToSql for Option<T> {
    #[inline]
    fn declare(&self, types: &TypeMap) -> Oid {
        match self {
            Some(value) => value.declare(types),
            None => T::static_type(types),
        }
    }
    #[inline]
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        match self {
            Some(value) => value.encode(types, out),
            None => Ok(Encoded::Null),
        }
    }
    fn to_sql(&self) -> PgValue {
        self.as_ref().map_or(PgValue::Null, ToSql::to_sql)
    }
}

impl<T: StaticType> StaticType for Option<T> {
    fn static_type(types: &TypeMap) -> Oid {
        T::static_type(types)
    }
    fn element_type(types: &TypeMap) -> Oid {
        T::element_type(types)
    }
}

impl<'a, T: FromSql<'a>> FromSql<'a> for Option<T> {
    #[inline]
    fn from_sql(cell: Cell<'a>) -> PgResult<Self> {
        T::from_sql(cell).map(Some)
    }
    #[inline]
    fn from_null() -> PgResult<Self> {
        Ok(None)
    }
    fn from_sql_owned(cell: Cell<'_>) -> PgResult<Self> {
        T::from_sql_owned(cell).map(Some)
    }
}

/// The error for a value of Rust type `T` that cannot be sent. Its place in the parameter list is
/// added by the caller, who knows it.
#[cold]
pub(crate) fn unsendable<T: ?Sized>(pg_type: Option<&str>, why: impl Into<String>) -> PgError {
    PgError::Parameter(Box::new(ParameterError {
        index: None,
        set: None,
        column: None,
        rust_type: std::any::type_name::<T>(),
        pg_type: pg_type.map(str::to_owned),
        message: why.into(),
    }))
}
