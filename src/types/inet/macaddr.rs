//! `macaddr` as `[u8; 6]`.

use std::fmt;

use crate::error::PgResult;
use crate::types::scalar::fixed;
use crate::types::{Cell, Encoded, Format, FromSql, Oid, Out, StaticType, ToSql, TypeMap};

impl ToSql for [u8; 6] {
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::MACADDR
    }
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        out.put(self);
        Ok(Encoded::Binary)
    }
}

impl StaticType for [u8; 6] {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::MACADDR
    }
}

impl FromSql<'_> for [u8; 6] {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        if cell.oid() != Oid::MACADDR {
            return Err(cell.mismatch::<Self>());
        }
        match cell.format() {
            Format::Binary => fixed::<Self, 6>(cell),
            Format::Text => parse(cell.text::<Self>()?)
                .ok_or_else(|| cell.invalid::<Self>("the text is not a macaddr xx:xx:xx:xx:xx:xx")),
        }
    }
}

/// A macaddr whose [`Display`](fmt::Display) is what the server prints: `08:00:2b:01:02:03`.
pub(in crate::types) struct MacAddrText(pub(in crate::types) [u8; 6]);

impl fmt::Display for MacAddrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Reads what the server prints.
fn parse(text: &str) -> Option<[u8; 6]> {
    let mut address = [0; 6];
    let mut pairs = text.split(':');
    for byte in &mut address {
        let pair = pairs.next()?;
        if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: [u8; 6] = [0x08, 0x00, 0x2b, 0x01, 0x02, 0xff];

    #[test]
    fn s2_9_macaddr_text_both_ways() {
        assert_eq!(MacAddrText(ADDRESS).to_string(), "08:00:2b:01:02:ff");
        for text in ["08:00:2b:01:02:ff", "08:00:2B:01:02:FF"] {
            let cell = Cell::new(Oid::MACADDR, Format::Text, text.as_bytes());
            assert_eq!(<[u8; 6]>::from_sql(cell).unwrap(), ADDRESS);
        }
    }

    #[test]
    fn s2_9_s2_28_macaddr_binary_both_ways() {
        let types = TypeMap::builtin();
        let mut bytes = Vec::new();
        assert_eq!(ADDRESS.encode(types, &mut Out::new(&mut bytes)).unwrap(), Encoded::Binary);
        assert_eq!(bytes, ADDRESS);
        let cell = Cell::new(Oid::MACADDR, Format::Binary, &bytes);
        assert_eq!(<[u8; 6]>::from_sql(cell).unwrap(), ADDRESS);
        assert_eq!(ADDRESS.declare(types), Oid::MACADDR);
        assert_eq!(<[u8; 6]>::static_type(types), Oid::MACADDR);
    }

    #[test]
    fn s8_1_what_is_no_macaddr_is_an_error() {
        for text in [
            "",
            "08:00:2b:01:02",
            "08:00:2b:01:02:03:04",
            "8:0:2b:1:2:3",
            "08-00-2b-01-02-03",
            "08:00:2b:01:02:0g",
            "+8:00:2b:01:02:03",
            "08:00:2b:01:02:03:",
            "08002b:010203",
        ] {
            let cell = Cell::new(Oid::MACADDR, Format::Text, text.as_bytes());
            assert!(<[u8; 6]>::from_sql(cell).is_err(), "{text:?}");
        }
        for length in [0, 5, 7, 8] {
            let bytes = vec![0; length];
            let cell = Cell::new(Oid::MACADDR, Format::Binary, &bytes);
            assert!(<[u8; 6]>::from_sql(cell).is_err(), "{length} bytes");
        }
        let bytea = Cell::new(Oid::BYTEA, Format::Binary, &ADDRESS);
        assert!(<[u8; 6]>::from_sql(bytea).is_err());
    }
}
