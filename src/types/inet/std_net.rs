//! The addresses of `std::net`, sent as inet and read from inet and cidr without their prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Inet;
use crate::error::PgResult;
use crate::types::{Cell, Encoded, FromSql, Oid, Out, StaticType, ToSql, TypeMap};

/// The address in the cell; a cell of another type is an error of `T`.
fn read<T>(cell: Cell<'_>) -> PgResult<IpAddr> {
    match cell.oid() {
        Oid::INET | Oid::CIDR => Inet::from_sql(cell).map(Inet::addr),
        _ => Err(cell.mismatch::<T>()),
    }
}

impl FromSql<'_> for IpAddr {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        read::<Self>(cell)
    }
}

impl FromSql<'_> for Ipv4Addr {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match read::<Self>(cell)? {
            IpAddr::V4(addr) => Ok(addr),
            IpAddr::V6(_) => Err(cell.invalid::<Self>("the address is IPv6; read it as an IpAddr")),
        }
    }
}

impl FromSql<'_> for Ipv6Addr {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match read::<Self>(cell)? {
            IpAddr::V6(addr) => Ok(addr),
            IpAddr::V4(_) => Err(cell.invalid::<Self>("the address is IPv4; read it as an IpAddr")),
        }
    }
}

macro_rules! sent_as_inet {
    ($($address:ty),+) => {$(
        impl ToSql for $address {
            fn declare(&self, _: &TypeMap) -> Oid {
                Oid::INET
            }
            fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
                Inet::from(IpAddr::from(*self)).encode(types, out)
            }
        }

        impl StaticType for $address {
            fn static_type(_: &TypeMap) -> Oid {
                Oid::INET
            }
        }
    )+};
}

sent_as_inet!(IpAddr, Ipv4Addr, Ipv6Addr);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Format;

    fn text<'a, T: FromSql<'a>>(text: &'a str) -> PgResult<T> {
        T::from_sql(Cell::new(Oid::INET, Format::Text, text.as_bytes()))
    }

    #[test]
    fn s2_39_addresses_are_sent_as_a_single_host() {
        let types = TypeMap::builtin();
        let v4 = Ipv4Addr::new(10, 0, 0, 1);
        let mut bytes = Vec::new();
        assert_eq!(v4.encode(types, &mut Out::new(&mut bytes)).unwrap(), Encoded::Binary);
        assert_eq!(bytes, [2, 32, 0, 4, 10, 0, 0, 1]);
        assert_eq!(IpAddr::from_sql(Cell::new(Oid::INET, Format::Binary, &bytes)).unwrap(), v4);

        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        bytes.clear();
        assert_eq!(
            IpAddr::from(v6).encode(types, &mut Out::new(&mut bytes)).unwrap(),
            Encoded::Binary
        );
        assert_eq!(bytes[..4], [3, 128, 0, 16]);
        assert_eq!(Ipv6Addr::from_sql(Cell::new(Oid::INET, Format::Binary, &bytes)).unwrap(), v6);
        for oid in [v4.declare(types), v6.declare(types), IpAddr::static_type(types)] {
            assert_eq!(oid, Oid::INET);
        }
    }

    #[test]
    fn s2_39_the_prefix_is_stripped() {
        assert_eq!(text::<IpAddr>("10.0.0.1/8").unwrap(), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(text::<Ipv6Addr>("::1/64").unwrap(), Ipv6Addr::LOCALHOST);
        let network = Cell::new(Oid::CIDR, Format::Text, b"10.0.0.0/8");
        assert_eq!(Ipv4Addr::from_sql(network).unwrap(), Ipv4Addr::new(10, 0, 0, 0));
    }

    #[test]
    fn s2_39_the_other_family_is_an_error() {
        let error = text::<Ipv4Addr>("::1").unwrap_err().to_string();
        assert!(error.contains("IPv6"), "{error}");
        let error = text::<Ipv6Addr>("127.0.0.1").unwrap_err().to_string();
        assert!(error.contains("IPv4"), "{error}");
        // Not even where one would fit into the other.
        assert!(text::<Ipv4Addr>("::ffff:127.0.0.1").is_err());
        let uuid = Cell::new(Oid::UUID, Format::Binary, &[0; 16]);
        assert!(Ipv6Addr::from_sql(uuid).unwrap_err().to_string().contains("Ipv6Addr"));
    }
}
