//! `point`.
//!
//! Source: PostgreSQL documentation, "Geometric Types".

use std::fmt;
use std::str::FromStr;

use super::scalar::FloatText;
use super::{Cell, Encoded, Format, FromSql, Oid, Out, StaticType, ToSql, TypeMap};
use crate::error::{PgError, PgResult};

/// A `point` of the plane. `(f64, f64)` is sent and read in its place.
///
/// ```
/// use chopin_pg::types::Point;
///
/// let point: Point = "(1.5,-2)".parse()?;
/// assert_eq!(point, Point { x: 1.5, y: -2.0 });
/// assert_eq!(point.to_string(), "(1.5,-2)");
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Upwards.
    pub y: f64,
}

impl Point {
    fn from_binary(bytes: &[u8]) -> Option<Self> {
        let (x, y) = bytes.split_first_chunk()?;
        Some(Self { x: f64::from_be_bytes(*x), y: f64::from_be_bytes(y.try_into().ok()?) })
    }

    fn from_text(text: &str) -> Option<Self> {
        let (x, y) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
        let read = |number: &str| {
            f64::from_sql(Cell::new(Oid::FLOAT8, Format::Text, number.as_bytes())).ok()
        };
        Some(Self { x: read(x)?, y: read(y)? })
    }
}

impl ToSql for Point {
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::POINT
    }
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        out.put(&self.x.to_be_bytes());
        out.put(&self.y.to_be_bytes());
        Ok(Encoded::Binary)
    }
}

impl StaticType for Point {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::POINT
    }
}

impl FromSql<'_> for Point {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        if cell.oid() != Oid::POINT {
            return Err(cell.mismatch::<Self>());
        }
        match cell.format() {
            Format::Binary => Self::from_binary(cell.bytes())
                .ok_or_else(|| cell.invalid::<Self>("the value is not two float8")),
            Format::Text => Self::from_text(cell.text::<Self>()?)
                .ok_or_else(|| cell.invalid::<Self>("the text is not a point (x,y)")),
        }
    }
}

impl FromStr for Point {
    type Err = PgError;

    /// Reads the text form that the server writes.
    fn from_str(text: &str) -> PgResult<Self> {
        Self::from_sql(Cell::new(Oid::POINT, Format::Text, text.as_bytes()))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", FloatText(self.x), FloatText(self.y))
    }
}

impl From<(f64, f64)> for Point {
    fn from((x, y): (f64, f64)) -> Self {
        Self { x, y }
    }
}

impl From<Point> for (f64, f64) {
    fn from(point: Point) -> Self {
        (point.x, point.y)
    }
}

impl ToSql for (f64, f64) {
    fn declare(&self, types: &TypeMap) -> Oid {
        Point::from(*self).declare(types)
    }
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        Point::from(*self).encode(types, out)
    }
}

impl StaticType for (f64, f64) {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::POINT
    }
}

impl FromSql<'_> for (f64, f64) {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        Point::from_sql(cell).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: &[((f64, f64), &str)] = &[
        ((0.0, 0.0), "(0,0)"),
        ((1.5, -2.0), "(1.5,-2)"),
        ((-0.0, 0.1), "(-0,0.1)"),
        ((1e15, 1e-5), "(1e+15,1e-05)"),
        ((123_456_789_012_345.0, 0.0001), "(123456789012345,0.0001)"),
        ((f64::MAX, 5e-324), "(1.7976931348623157e+308,5e-324)"),
        ((f64::INFINITY, f64::NEG_INFINITY), "(Infinity,-Infinity)"),
    ];

    #[test]
    fn s2_10_point_text_both_ways() {
        for &((x, y), text) in SAMPLES {
            assert_eq!(Point { x, y }.to_string(), text);
            assert_eq!(text.parse::<Point>().unwrap(), Point { x, y }, "{text}");
        }
        let nan: Point = "(NaN,1)".parse().unwrap();
        assert!(nan.x.is_nan());
        assert_eq!(nan.to_string(), "(NaN,1)");
    }

    #[test]
    fn s2_28_point_binary_both_ways() {
        let types = TypeMap::builtin();
        for &((x, y), _) in SAMPLES {
            let mut bytes = Vec::new();
            let written = Point { x, y }.encode(types, &mut Out::new(&mut bytes)).unwrap();
            assert_eq!(written, Encoded::Binary);
            assert_eq!(bytes, [x.to_be_bytes(), y.to_be_bytes()].concat());
            let cell = Cell::new(Oid::POINT, Format::Binary, &bytes);
            assert_eq!(Point::from_sql(cell).unwrap(), Point { x, y });
            assert_eq!(<(f64, f64)>::from_sql(cell).unwrap(), (x, y));
            let mut pair = Vec::new();
            let _ = (x, y).encode(types, &mut Out::new(&mut pair)).unwrap();
            assert_eq!(pair, bytes);
        }
        assert_eq!(Point::static_type(types), Oid::POINT);
        assert_eq!(<(f64, f64)>::static_type(types), Oid::POINT);
        assert_eq!((0.0, 0.0).declare(types), Oid::POINT);
    }

    #[test]
    fn s8_1_what_is_no_point_is_an_error() {
        for text in
            ["", "()", "(1)", "(1,)", "(,1)", "(1,2", "1,2", "(1,2,3)", "(a,b)", "(1e999,0)"]
        {
            assert!(text.parse::<Point>().is_err(), "{text:?}");
        }
        for length in [0, 8, 15, 17, 24] {
            let bytes = vec![0; length];
            let cell = Cell::new(Oid::POINT, Format::Binary, &bytes);
            assert!(Point::from_sql(cell).is_err(), "{length} bytes");
        }
        assert!(Point::from_sql(Cell::new(Oid::UUID, Format::Binary, &[0; 16])).is_err());
        assert!(<(f64, f64)>::from_sql(Cell::new(Oid::LSEG, Format::Binary, &[0; 16])).is_err());
    }
}
