//! Numbers of types, and what a stock server says about each.

use std::fmt;

use super::oid_table;

/// The number that a server knows a type by.
///
/// The types that every server has are constants of this type, named as in `pg_type` in upper
/// case, an array after its element: [`Oid::INT4`] is `int4`, [`Oid::INT4_ARRAY`] is `int4[]`.
/// Types made with CREATE TYPE or by an extension have numbers from 16384 on that differ from
/// database to database.
///
/// Source: PostgreSQL documentation, "Object Identifier Types", and the catalogue `pg_type`.
///
/// ```
/// use chopin_pg::types::Oid;
///
/// assert_eq!(Oid::new(23), Oid::INT4);
/// assert_eq!(Oid::INT4.name(), Some("int4"));
/// assert_eq!(Oid::INT4.to_string(), "23");
/// assert_eq!(Oid::new(16_384).name(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(u32);

impl Oid {
    /// No type: the server infers a parameter's type from where the parameter stands.
    pub const UNSPECIFIED: Self = Self(0);

    /// The type with the given number.
    #[inline]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The name of a type that every server has, as in `pg_type`: `int4`, and `_int4` for its
    /// array.
    pub fn name(self) -> Option<&'static str> {
        oid_table::builtin(self.0).map(|info| info.name)
    }
}

impl fmt::Display for Oid {
    /// The number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Oid {
    /// The number and the name, if it is known: `Oid(23 int4)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "Oid({self} {name})"),
            None => write!(f, "Oid({self})"),
        }
    }
}

/// What a type is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TypeKind {
    /// A type of its own.
    Base,
    /// An array of another type, in PostgreSQL's array format (this includes `int2vector` and
    /// `oidvector`).
    Array,
    /// A range over another type.
    Range,
    /// A set of ranges.
    Multirange,
    /// A type of functions' arguments and results, not of columns, such as `record` or `void`.
    Pseudo,
}

/// What a stock server's `pg_type` says about a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypeInfo {
    /// The type's number.
    pub oid: u32,
    /// The type's name, as in `pg_type`: `int4`, and `_int4` for its array.
    pub name: &'static str,
    /// What the type is made of.
    pub kind: TypeKind,
    /// The element type of an array, else 0.
    pub element: u32,
    /// The array type that has this type as its element, 0 if there is none.
    pub array: u32,
    /// The type that a range is over, or the range type that a multirange is a set of, else 0.
    pub subtype: u32,
    /// How many bytes a value takes in the memory of a server of the newest version; -1: variable;
    /// -2: as many as up to a NUL. (`typlen`; a value on the wire may have another length.)
    pub len: i16,
}

/// The rows of the generated table, one constructor for each kind of type.
impl TypeInfo {
    pub(super) const fn base(oid: u32, name: &'static str, len: i16, array: u32) -> Self {
        Self { oid, name, kind: TypeKind::Base, element: 0, array, subtype: 0, len }
    }

    pub(super) const fn array(oid: u32, name: &'static str, element: u32, array: u32) -> Self {
        Self { kind: TypeKind::Array, element, ..Self::base(oid, name, -1, array) }
    }

    pub(super) const fn range(oid: u32, name: &'static str, subtype: u32, array: u32) -> Self {
        Self { kind: TypeKind::Range, subtype, ..Self::base(oid, name, -1, array) }
    }

    pub(super) const fn multirange(oid: u32, name: &'static str, range: u32, array: u32) -> Self {
        Self { kind: TypeKind::Multirange, subtype: range, ..Self::base(oid, name, -1, array) }
    }

    pub(super) const fn pseudo(oid: u32, name: &'static str, len: i16, array: u32) -> Self {
        Self { kind: TypeKind::Pseudo, ..Self::base(oid, name, len, array) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::oid_table::{TYPES, builtin};
    use super::*;

    fn info(oid: Oid) -> TypeInfo {
        *builtin(oid.get()).unwrap_or_else(|| panic!("{oid:?} is not in the table"))
    }

    /// The constants against the names that `pg_type` has for their numbers.
    fn assert_names(expected: &[(Oid, u32, &str)]) {
        for &(oid, number, name) in expected {
            assert_eq!((oid.get(), oid.name()), (number, Some(name)));
        }
    }

    #[test]
    fn s2_15_core_scalar_oids() {
        assert_names(&[
            (Oid::BOOL, 16, "bool"),
            (Oid::BYTEA, 17, "bytea"),
            (Oid::CHAR, 18, "char"),
            (Oid::NAME, 19, "name"),
            (Oid::INT8, 20, "int8"),
            (Oid::INT2, 21, "int2"),
            (Oid::INT4, 23, "int4"),
            (Oid::TEXT, 25, "text"),
            (Oid::OID, 26, "oid"),
            (Oid::JSON, 114, "json"),
            (Oid::XML, 142, "xml"),
            (Oid::POINT, 600, "point"),
            (Oid::CIDR, 650, "cidr"),
            (Oid::FLOAT4, 700, "float4"),
            (Oid::FLOAT8, 701, "float8"),
            (Oid::MONEY, 790, "money"),
            (Oid::MACADDR, 829, "macaddr"),
            (Oid::INET, 869, "inet"),
            (Oid::BPCHAR, 1042, "bpchar"),
            (Oid::VARCHAR, 1043, "varchar"),
            (Oid::DATE, 1082, "date"),
            (Oid::TIME, 1083, "time"),
            (Oid::TIMESTAMP, 1114, "timestamp"),
            (Oid::TIMESTAMPTZ, 1184, "timestamptz"),
            (Oid::INTERVAL, 1186, "interval"),
            (Oid::TIMETZ, 1266, "timetz"),
            (Oid::NUMERIC, 1700, "numeric"),
            (Oid::RECORD, 2249, "record"),
            (Oid::VOID, 2278, "void"),
            (Oid::UUID, 2950, "uuid"),
            (Oid::JSONB, 3802, "jsonb"),
        ]);
        assert_eq!(info(Oid::INT4).kind, TypeKind::Base);
        assert_eq!(info(Oid::INT4).len, 4);
        assert_eq!(info(Oid::TEXT).len, -1);
        assert_eq!(info(Oid::VOID).kind, TypeKind::Pseudo);
    }

    #[test]
    fn s2_16_array_oids() {
        assert_names(&[
            (Oid::BOOL_ARRAY, 1000, "_bool"),
            (Oid::BYTEA_ARRAY, 1001, "_bytea"),
            (Oid::INT2_ARRAY, 1005, "_int2"),
            (Oid::INT4_ARRAY, 1007, "_int4"),
            (Oid::TEXT_ARRAY, 1009, "_text"),
            (Oid::VARCHAR_ARRAY, 1015, "_varchar"),
            (Oid::INT8_ARRAY, 1016, "_int8"),
            (Oid::FLOAT4_ARRAY, 1021, "_float4"),
            (Oid::FLOAT8_ARRAY, 1022, "_float8"),
            (Oid::NUMERIC_ARRAY, 1231, "_numeric"),
            (Oid::UUID_ARRAY, 2951, "_uuid"),
            (Oid::JSONB_ARRAY, 3807, "_jsonb"),
        ]);
        assert_eq!(info(Oid::INT4_ARRAY).kind, TypeKind::Array);
        assert_eq!(info(Oid::INT4_ARRAY).element, Oid::INT4.get());
        // These two look like base types by their names, but arrays they are.
        assert_eq!(info(Oid::INT2VECTOR).element, Oid::INT2.get());
        assert_eq!(info(Oid::OIDVECTOR).element, Oid::OID.get());
        // And these have elements in pg_type without being arrays.
        assert_eq!(info(Oid::NAME).kind, TypeKind::Base);
        assert_eq!(info(Oid::POINT).kind, TypeKind::Base);
    }

    #[test]
    fn s2_17_range_oids() {
        let ranges = [
            (Oid::INT4RANGE, 3904, Oid::INT4, Oid::INT4MULTIRANGE, Oid::INT4RANGE_ARRAY),
            (Oid::NUMRANGE, 3906, Oid::NUMERIC, Oid::NUMMULTIRANGE, Oid::NUMRANGE_ARRAY),
            (Oid::TSRANGE, 3908, Oid::TIMESTAMP, Oid::TSMULTIRANGE, Oid::TSRANGE_ARRAY),
            (Oid::TSTZRANGE, 3910, Oid::TIMESTAMPTZ, Oid::TSTZMULTIRANGE, Oid::TSTZRANGE_ARRAY),
            (Oid::DATERANGE, 3912, Oid::DATE, Oid::DATEMULTIRANGE, Oid::DATERANGE_ARRAY),
            (Oid::INT8RANGE, 3926, Oid::INT8, Oid::INT8MULTIRANGE, Oid::INT8RANGE_ARRAY),
        ];
        for (range, number, subtype, multirange, array) in ranges {
            assert_eq!(range.get(), number);
            assert_eq!(info(range).kind, TypeKind::Range);
            assert_eq!(info(range).subtype, subtype.get());
            assert_eq!(info(range).array, array.get());
            assert_eq!(info(multirange).kind, TypeKind::Multirange);
            assert_eq!(info(multirange).subtype, range.get());
        }
    }

    #[test]
    fn the_table_is_sorted_and_consistent() {
        assert!(TYPES.windows(2).all(|pair| pair[0].oid < pair[1].oid));
        for info in &TYPES {
            assert_eq!(builtin(info.oid), Some(info));
            if info.array != 0 {
                assert_eq!(builtin(info.array).map(|array| array.element), Some(info.oid));
            }
            if info.element != 0 {
                assert_eq!(info.kind, TypeKind::Array, "{info:?}");
                assert!(builtin(info.element).is_some(), "{info:?}");
            }
            if info.subtype != 0 {
                assert!(builtin(info.subtype).is_some(), "{info:?}");
            }
        }
    }

    #[test]
    fn a_number_outside_the_table_has_no_name() {
        for number in [0, 1, 15, 9_999, 16_384, u32::MAX] {
            assert_eq!(Oid::new(number).name(), None);
        }
        assert_eq!(Oid::UNSPECIFIED.get(), 0);
    }

    #[test]
    fn debug_names_the_type_and_display_is_the_number() {
        assert_eq!(format!("{:?}", Oid::INT4), "Oid(23 int4)");
        assert_eq!(format!("{:?}", Oid::new(16_400)), "Oid(16400)");
        assert_eq!(Oid::INT4.to_string(), "23");
        assert_eq!(format!("{:>6}", Oid::INT4), "    23");
    }
}
