//! Rust values at the border to SQL: which type a parameter is declared as, how it is written, how
//! a cell is read.
//!
//! Three rules hold everywhere in this module:
//!
//! * **A parameter declares its own type** ([`ToSql::declare`]), so the server never reads bytes of
//!   one width as another type; it coerces from there as it does for any typed expression. Strings
//!   are the exception on purpose: they are declared as *unspecified* and sent as text, so that a
//!   `&str` works for `uuid`, enums, `json`, `date` and whatever else the server can parse.
//! * **A cell is read exactly or not at all.** Widening that loses nothing is allowed (`i64` from
//!   `int2`, `int4`, `int8`; `f64` from `float4`); everything else is an error that names both
//!   types.
//! * **Binary and text are equal citizens.** Results of the extended protocol come in binary, those
//!   of the simple protocol in text; each codec reads both.
//!
//! | Rust | declared as | read from |
//! |---|---|---|
//! | `bool` | bool | bool |
//! | `i16`, `i32`, `i64` | int2, int4, int8 | the same and every narrower integer |
//! | `i8` | "char" | "char" |
//! | `u32`, [`Oid`] | oid | oid |
//! | `f32`, `f64` | float4, float8 | the same; `f64` also from float4 |
//! | `&str`, `String`, `Cow<str>`, `Box<str>` | unspecified (text) | strings (see below) |
//! | `&[u8]`, `Vec<u8>` | bytea | bytea |
//! | `[u8; 16]` | uuid | uuid |
//! | [`Date`], [`Time`], [`Timestamp`], [`Timestamptz`], [`Interval`] | themselves | themselves |
//! | `SystemTime` | timestamptz | timestamptz |
//! | [`Numeric`] | numeric | numeric, int2, int4, int8 |
//! | `IpAddr`, `Ipv4Addr`, `Ipv6Addr`, [`Inet`], [`Cidr`] | inet, cidr | inet, cidr |
//! | `[u8; 6]` | macaddr | macaddr |
//! | `(f64, f64)`, [`Point`] | point | point |
//! | `Vec<T>`, `&[T]`, `[T; N]` | array of `T`; strings as `text[]` | one-dimensional arrays of `T` |
//! | `Option<T>` | as `T` | as `T`, or NULL |
//! | [`PgValue`] | by its variant | every type above |
//!
//! Strings are read from text, varchar, bpchar, name, "char", json, jsonb and xml, and from every
//! cell in text format, whatever its type: there it is the server's own text.
//!
//! This floor is pure: it knows bytes and types, no connection and no message.

mod array;
mod bind;
mod cell;
mod convert;
mod geometric;
mod inet;
mod map;
mod numeric;
mod oid;
mod oid_table;
mod out;
mod params;
mod scalar;
mod temporal;
#[cfg(test)]
mod testing;
mod text;
mod traits;
mod typed;
mod value;

pub use self::bind::BindValues;
pub use self::cell::{Cell, Format};
pub use self::geometric::Point;
pub use self::inet::{Cidr, Inet, encode_inet_binary};
pub use self::map::TypeMap;
pub use self::numeric::Numeric;
pub use self::oid::Oid;
pub use self::oid_table::{TypeInfo, TypeKind};
pub use self::out::Out;
pub use self::params::{ParamVisitor, Params};
pub use self::temporal::{Date, Interval, Time, Timestamp, Timestamptz};
pub use self::traits::{Encoded, FromSql, StaticType, ToParam, ToSql};
pub use self::typed::{Typed, Untyped};
pub use self::value::PgValue;

pub(crate) use self::array::put_array_header;
pub(crate) use self::bind::{Bound, reads_as};
pub(crate) use self::convert::{Target, encode_cell};
pub(crate) use self::typed::{encode_as, encode_text};
