//! `inet` and `cidr`: an IP address and how many of its bits name the network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::error::{PgError, PgResult};
use crate::types::traits::unsendable;
use crate::types::{Cell, Encoded, Format, FromSql, Oid, Out, StaticType, ToSql, TypeMap};

/// The address families on the wire: the server's own numbers, the same on every system.
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 3;

const NOT_AN_ADDRESS: &str = "the text is not an IP address with an optional /prefix";
const PREFIX_TOO_LONG: &str = "the prefix is longer than the address";
const HOST_BITS: &str = "a cidr has no bits set to the right of its prefix";
const MALFORMED: &str = "the bytes are not an IP address";

/// An `inet`: a host's address, and the network that it is in.
///
/// ```
/// use chopin_pg::types::Inet;
///
/// let host: Inet = "192.168.0.17/24".parse()?;
/// assert_eq!(host.addr().to_string(), "192.168.0.17");
/// assert_eq!(host.prefix(), 24);
/// assert_eq!("::1".parse::<Inet>()?.prefix(), 128);
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inet {
    addr: IpAddr,
    prefix: u8,
}

/// A `cidr`: a network. The bits of its address to the right of the prefix are zero.
///
/// ```
/// use chopin_pg::types::Cidr;
///
/// let network: Cidr = "192.168.0.0/24".parse()?;
/// assert_eq!((network.addr().to_string(), network.prefix()), ("192.168.0.0".to_owned(), 24));
/// assert!("192.168.0.17/24".parse::<Cidr>().is_err());
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr(Inet);

impl Inet {
    /// The host `addr` in a network of `prefix` bits.
    ///
    /// # Errors
    ///
    /// [`PgError::Parameter`] when the prefix is longer than the address: 32 bits for IPv4, 128 for
    /// IPv6.
    pub fn new(addr: IpAddr, prefix: u8) -> PgResult<Self> {
        Self::checked(addr, prefix).map_err(|why| unsendable::<Self>(Some("inet"), why))
    }

    /// The address, without its network.
    pub const fn addr(self) -> IpAddr {
        self.addr
    }

    /// How many bits from the left name the network: 32 or 128 for a single host.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    fn checked(addr: IpAddr, prefix: u8) -> Result<Self, &'static str> {
        if prefix > width(addr) { Err(PREFIX_TOO_LONG) } else { Ok(Self { addr, prefix }) }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| NOT_AN_ADDRESS)?;
        match prefix {
            None => Ok(addr.into()),
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                Self::checked(addr, prefix.parse().map_err(|_| PREFIX_TOO_LONG)?)
            }
            Some(_) => Err(NOT_AN_ADDRESS),
        }
    }

    fn from_binary(bytes: &[u8]) -> Result<Self, &'static str> {
        let (&[family, prefix, _, length], addr) = bytes.split_first_chunk().ok_or(MALFORMED)?;
        if usize::from(length) != addr.len() {
            return Err(MALFORMED);
        }
        let addr = match family {
            FAMILY_V4 => <[u8; 4]>::try_from(addr).map(IpAddr::from),
            FAMILY_V6 => <[u8; 16]>::try_from(addr).map(IpAddr::from),
            _ => return Err(MALFORMED),
        };
        Self::checked(addr.map_err(|_| MALFORMED)?, prefix)
    }

    fn put(self, is_cidr: bool, out: &mut Out<'_>) {
        let (family, length) = match self.addr {
            IpAddr::V4(_) => (FAMILY_V4, 4),
            IpAddr::V6(_) => (FAMILY_V6, 16),
        };
        out.put(&[family, self.prefix, u8::from(is_cidr), length]);
        match self.addr {
            IpAddr::V4(addr) => out.put(&addr.octets()),
            IpAddr::V6(addr) => out.put(&addr.octets()),
        }
    }
}

impl Cidr {
    /// The network at `addr` with `prefix` bits.
    ///
    /// # Errors
    ///
    /// [`PgError::Parameter`] when the prefix is longer than the address, or bits to the right of
    /// it are set.
    pub fn new(addr: IpAddr, prefix: u8) -> PgResult<Self> {
        Inet::checked(addr, prefix)
            .and_then(Self::checked)
            .map_err(|why| unsendable::<Self>(Some("cidr"), why))
    }

    /// The first address of the network.
    pub const fn addr(self) -> IpAddr {
        self.0.addr
    }

    /// How many bits from the left name the network.
    pub const fn prefix(self) -> u8 {
        self.0.prefix
    }

    fn checked(inet: Inet) -> Result<Self, &'static str> {
        let prefix = u32::from(inet.prefix);
        let host_bits = match inet.addr {
            IpAddr::V4(addr) => addr.to_bits().checked_shl(prefix).unwrap_or(0) != 0,
            IpAddr::V6(addr) => addr.to_bits().checked_shl(prefix).unwrap_or(0) != 0,
        };
        if host_bits { Err(HOST_BITS) } else { Ok(Self(inet)) }
    }
}

/// The whole address as the prefix: a single host.
impl From<IpAddr> for Inet {
    fn from(addr: IpAddr) -> Self {
        Self { addr, prefix: width(addr) }
    }
}

impl From<Cidr> for Inet {
    fn from(network: Cidr) -> Self {
        network.0
    }
}

/// How many bits the address has.
const fn width(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl ToSql for Inet {
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::INET
    }
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        self.put(false, out);
        Ok(Encoded::Binary)
    }
}

impl StaticType for Inet {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::INET
    }
}

/// Read from inet, and from cidr, where it is the network's first address.
impl FromSql<'_> for Inet {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match (cell.oid(), cell.format()) {
            (Oid::INET | Oid::CIDR, Format::Binary) => Self::from_binary(cell.bytes()),
            (Oid::INET | Oid::CIDR, Format::Text) => Self::parse(cell.text::<Self>()?),
            _ => return Err(cell.mismatch::<Self>()),
        }
        .map_err(|why| cell.invalid::<Self>(why))
    }
}

impl FromStr for Inet {
    type Err = PgError;

    /// Reads the text form that the server writes.
    fn from_str(text: &str) -> PgResult<Self> {
        Self::from_sql(Cell::new(Oid::INET, Format::Text, text.as_bytes()))
    }
}

/// As the server writes it: the prefix is left out where it is the whole address.
impl fmt::Display for Inet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_addr(f, self.addr)?;
        if self.prefix == width(self.addr) { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl ToSql for Cidr {
    fn declare(&self, _: &TypeMap) -> Oid {
        Oid::CIDR
    }
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        self.0.put(true, out);
        Ok(Encoded::Binary)
    }
}

impl StaticType for Cidr {
    fn static_type(_: &TypeMap) -> Oid {
        Oid::CIDR
    }
}

impl FromSql<'_> for Cidr {
    fn from_sql(cell: Cell<'_>) -> PgResult<Self> {
        match (cell.oid(), cell.format()) {
            (Oid::CIDR, Format::Binary) => Inet::from_binary(cell.bytes()),
            (Oid::CIDR, Format::Text) => Inet::parse(cell.text::<Self>()?),
            _ => return Err(cell.mismatch::<Self>()),
        }
        .and_then(Self::checked)
        .map_err(|why| cell.invalid::<Self>(why))
    }
}

impl FromStr for Cidr {
    type Err = PgError;

    /// Reads the text form that the server writes.
    fn from_str(text: &str) -> PgResult<Self> {
        Self::from_sql(Cell::new(Oid::CIDR, Format::Text, text.as_bytes()))
    }
}

/// As the server writes it: always with the prefix.
impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_addr(f, self.0.addr)?;
        write!(f, "/{}", self.0.prefix)
    }
}

/// Writes the address as the server does. It differs from Rust in one thing: the last 32 bits of an
/// IPv6 address that is zero up to them are written like an IPv4 address, unless the upper 16 of
/// them are zero, too.
fn write_addr(f: &mut fmt::Formatter<'_>, addr: IpAddr) -> fmt::Result {
    match addr {
        IpAddr::V6(addr) => match addr.segments() {
            [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
                write!(f, "::{}", Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
            }
            _ => write!(f, "{addr}"),
        },
        IpAddr::V4(addr) => write!(f, "{addr}"),
    }
}

/// The binary form of an inet value from its text: what a parameter of type inet carries.
///
/// Family (2 for IPv4, 3 for IPv6), prefix length, a flag that is 1 for cidr, the address's length
/// in bytes, the address.
///
/// ```
/// use chopin_pg::types::encode_inet_binary;
///
/// assert_eq!(encode_inet_binary("10.0.0.1/8")?, [2, 8, 0, 4, 10, 0, 0, 1]);
/// assert!(encode_inet_binary("10.0.0.256").is_err());
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// # Errors
///
/// [`PgError::TypeConversion`] when the text is no address.
pub fn encode_inet_binary(text: &str) -> PgResult<Vec<u8>> {
    let inet: Inet = text.parse()?;
    let mut bytes = Vec::new();
    let _binary = inet.encode(TypeMap::builtin(), &mut Out::new(&mut bytes))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As inet prints it; as cidr prints it where it is a network; the binary form of the inet.
    const SAMPLES: &[(&str, Option<&str>, &[u8])] = &[
        ("192.168.0.17", Some("192.168.0.17/32"), &[2, 32, 0, 4, 192, 168, 0, 17]),
        ("192.168.0.17/24", None, &[2, 24, 0, 4, 192, 168, 0, 17]),
        ("192.168.0.0/24", Some("192.168.0.0/24"), &[2, 24, 0, 4, 192, 168, 0, 0]),
        ("0.0.0.0/0", Some("0.0.0.0/0"), &[2, 0, 0, 4, 0, 0, 0, 0]),
        ("0.0.0.1/0", None, &[2, 0, 0, 4, 0, 0, 0, 1]),
        ("::/0", Some("::/0"), &[3, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("::1", Some("::1/128"), &[3, 128, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (
            "2001:db8::/32",
            Some("2001:db8::/32"),
            &[3, 32, 0, 16, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "2001:db8::1/64",
            None,
            &[3, 64, 0, 16, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
        (
            "::ffff:1.2.3.4",
            Some("::ffff:1.2.3.4/128"),
            &[3, 128, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 1, 2, 3, 4],
        ),
        (
            "::1.2.3.4/126",
            Some("::1.2.3.4/126"),
            &[3, 126, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        ),
    ];

    #[test]
    fn s2_6_inet_and_cidr_text_both_ways() {
        for &(text, network, _) in SAMPLES {
            let inet: Inet = text.parse().unwrap();
            assert_eq!(inet.to_string(), text);
            let cidr = Cidr::new(inet.addr(), inet.prefix());
            assert_eq!(cidr.as_ref().ok().map(Cidr::to_string).as_deref(), network, "{text}");
            match (cidr, network) {
                (Ok(cidr), Some(network)) => {
                    assert_eq!(network.parse::<Cidr>().unwrap(), cidr);
                    assert_eq!(Inet::from(cidr), inet);
                }
                _ => assert!(text.parse::<Cidr>().unwrap_err().to_string().contains("prefix")),
            }
        }
    }

    #[test]
    fn s2_23_inet_and_cidr_binary_is_read() {
        for &(text, network, bytes) in SAMPLES {
            let inet = Inet::from_sql(Cell::new(Oid::INET, Format::Binary, bytes)).unwrap();
            assert_eq!(inet.to_string(), text);
            let mut flagged = bytes.to_vec();
            flagged[2] = 1;
            let cell = Cell::new(Oid::CIDR, Format::Binary, &flagged);
            assert_eq!(Inet::from_sql(cell).unwrap(), inet);
            let cidr = Cidr::from_sql(cell).ok().map(|cidr| cidr.to_string());
            assert_eq!(cidr.as_deref(), network);
        }
    }

    #[test]
    fn s2_24_encode_inet_binary_from_text() {
        let types = TypeMap::builtin();
        for &(text, network, expected) in SAMPLES {
            let mut bytes = Vec::new();
            let inet: Inet = text.parse().unwrap();
            let written = inet.encode(types, &mut Out::new(&mut bytes)).unwrap();
            assert_eq!((written, &bytes[..]), (Encoded::Binary, expected), "{text}");
            assert_eq!(encode_inet_binary(text).unwrap(), expected, "{text}");
            if let Some(network) = network {
                bytes.clear();
                let cidr: Cidr = network.parse().unwrap();
                assert_eq!(cidr.encode(types, &mut Out::new(&mut bytes)).unwrap(), Encoded::Binary);
                assert_eq!(bytes[2], 1);
                assert_eq!((&bytes[..2], &bytes[3..]), (&expected[..2], &expected[3..]));
            }
        }
        assert_eq!(Inet::static_type(types), Oid::INET);
        assert_eq!(Cidr::static_type(types), Oid::CIDR);
    }

    #[test]
    fn s2_6_a_prefix_is_as_long_as_the_address_at_most() {
        let host = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(Inet::from(host).prefix(), 32);
        let error = Inet::new(host, 33).unwrap_err().to_string();
        assert!(error.contains("longer than the address"), "{error}");
        assert!(Cidr::new(host, 31).unwrap_err().to_string().contains("no bits set"));
        assert!(Inet::new(IpAddr::from([0_u16; 8]), 129).is_err());
    }

    #[test]
    fn s8_1_what_is_no_address_is_an_error() {
        for text in [
            "",
            "/24",
            "10/8",
            "10.0.0.1/",
            "10.0.0.1/33",
            "10.0.0.1/+8",
            "10.0.0.1/256",
            "10.0.0.1/8/8",
            "10.0.0.256",
            "10.0.0.1 ",
            "::1/129",
            "::g",
            "fe80::1%eth0",
            "host",
        ] {
            assert!(text.parse::<Inet>().is_err(), "{text:?}");
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
        for &(_, _, bytes) in SAMPLES {
            for length in 0..bytes.len() {
                let cell = Cell::new(Oid::INET, Format::Binary, &bytes[..length]);
                assert!(Inet::from_sql(cell).is_err(), "{bytes:?} cut to {length}");
            }
        }
        for bytes in [
            &[1, 32, 0, 4, 10, 0, 0, 1][..],
            &[4, 32, 0, 4, 10, 0, 0, 1],
            &[3, 32, 0, 4, 10, 0, 0, 1],
            &[2, 33, 0, 4, 10, 0, 0, 1],
            &[2, 32, 0, 16, 10, 0, 0, 1],
            &[2, 32, 0, 4, 10, 0, 0, 1, 0],
        ] {
            let cell = Cell::new(Oid::INET, Format::Binary, bytes);
            assert!(Inet::from_sql(cell).is_err(), "{bytes:?}");
        }
        let text = Cell::new(Oid::TEXT, Format::Text, b"10.0.0.1");
        assert!(Inet::from_sql(text).is_err());
        assert!(Cidr::from_sql(Cell::new(Oid::INET, Format::Text, b"10.0.0.0/8")).is_err());
    }
}
