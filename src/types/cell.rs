//! One value as it came from the server: its type, its format and its bytes.

use super::{Oid, TypeMap};
use crate::error::{ConversionError, PgError};

/// How a value is written: PostgreSQL's format codes 0 and 1.
///
/// Source: PostgreSQL documentation, "Formats and Format Codes".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The type's text form, as its input and output functions use it (format code 0).
    Text,
    /// The type's binary form, as its send and receive functions use it (format code 1).
    Binary,
}

impl Format {
    /// The format code on the wire: 0 for text, 1 for binary.
    pub const fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }

    /// The format of a code on the wire, `None` for a code that the protocol does not know.
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Text),
            1 => Some(Self::Binary),
            _ => None,
        }
    }
}

/// A value that is not NULL, borrowed from the bytes that the server sent.
///
/// What a [`FromSql`](super::FromSql) implementation reads.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    oid: Oid,
    format: Format,
    bytes: &'a [u8],
}

impl<'a> Cell<'a> {
    /// A cell of type `oid` whose value is `bytes` in `format`.
    #[inline]
    pub const fn new(oid: Oid, format: Format, bytes: &'a [u8]) -> Self {
        Self { oid, format, bytes }
    }

    /// The cell's type, as the server described it.
    #[inline]
    pub const fn oid(self) -> Oid {
        self.oid
    }

    /// Whether the bytes are text or binary.
    #[inline]
    pub const fn format(self) -> Format {
        self.format
    }

    /// The value's bytes, without the length that stands before them on the wire.
    #[inline]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes of a value of this type that came in binary with just this length, as nearly every
    /// one does.
    #[inline(always)]
    pub(super) fn binary<const N: usize>(self, oid: Oid) -> Option<[u8; N]> {
        let is_expected = matches!(self.format, Format::Binary) && self.oid == oid;
        self.bytes.try_into().ok().filter(|_| is_expected)
    }

    /// The bytes as text.
    ///
    /// # Errors
    ///
    /// [`PgError::TypeConversion`] when they are not valid UTF-8. The driver keeps
    /// `client_encoding` at UTF8, so this means that the bytes are not text at all.
    #[inline(always)]
    pub fn text<T>(self) -> Result<&'a str, PgError> {
        match std::str::from_utf8(self.bytes) {
            Ok(text) => Ok(text),
            Err(_) => Err(self.invalid::<T>("the bytes are not UTF-8")),
        }
    }

    /// The error for a cell of a type that `T` cannot be read from.
    #[cold]
    #[inline(never)]
    pub fn mismatch<T>(self) -> PgError {
        let message = "this Rust type does not read that SQL type; read it as one that does, as a \
                       PgValue, or cast it in the SQL";
        self.conversion::<T>(message.to_owned())
    }

    /// The error for a cell of the right type whose bytes make no sense: too short, too long, out
    /// of range.
    #[cold]
    #[inline(never)]
    pub fn invalid<T>(self, why: impl Into<String>) -> PgError {
        self.conversion::<T>(why.into())
    }

    fn conversion<T>(self, message: String) -> PgError {
        PgError::TypeConversion(Box::new(ConversionError {
            column: None,
            rust_type: std::any::type_name::<T>(),
            pg_type: TypeMap::builtin().describe(self.oid),
            message,
        }))
    }
}
