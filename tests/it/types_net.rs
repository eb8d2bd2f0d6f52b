//! inet, cidr, macaddr, the addresses of `std::net`, and point, against the server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use chopin_pg::types::{Cidr, Inet, Point};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::differential::{assert_agrees, assert_each_agrees};
use crate::support::connect;

/// Addresses of both families, those of IPv6 with runs of zeros in all places.
fn addresses() -> Vec<IpAddr> {
    let mut random = StdRng::seed_from_u64(6);
    let mut addresses: Vec<IpAddr> = vec![
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::BROADCAST.into(),
        Ipv6Addr::UNSPECIFIED.into(),
        Ipv6Addr::LOCALHOST.into(),
        Ipv6Addr::from_bits(u128::MAX).into(),
    ];
    for _ in 0..500 {
        addresses.push(Ipv4Addr::from_bits(random.random()).into());
    }
    for _ in 0..3000 {
        let zeros: u8 = random.random();
        let segments = std::array::from_fn(|place| match zeros >> place & 1 {
            0 => random.random::<u16>() >> random.random_range(0..16),
            _ => 0,
        });
        addresses.push(Ipv6Addr::from(segments).into());
    }
    // ::a.b.c.d and ::ffff:a.b.c.d, which are written with an IPv4 address at their end, and their
    // neighbours.
    for marker in [0, 0xffff, 0xfffe, 1] {
        for low in [0, 1, 0xffff, 0x1_0000, 0x0102_0304, u32::MAX] {
            addresses.push(Ipv6Addr::from_bits(marker << 32 | u128::from(low)).into());
        }
    }
    addresses
}

fn hosts() -> Vec<Inet> {
    let mut random = StdRng::seed_from_u64(7);
    let mut hosts = Vec::new();
    for addr in addresses() {
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        hosts.push(Inet::new(addr, random.random_range(0..=longest)).unwrap());
        hosts.push(addr.into());
    }
    hosts
}

/// The networks that the hosts are in.
fn networks() -> Vec<Cidr> {
    hosts()
        .into_iter()
        .map(|host| {
            let host_bits = match host.addr() {
                IpAddr::V4(_) => 32 - u32::from(host.prefix()),
                IpAddr::V6(_) => 128 - u32::from(host.prefix()),
            };
            let addr: IpAddr = match host.addr() {
                IpAddr::V4(addr) => {
                    let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                    Ipv4Addr::from_bits(addr.to_bits() & mask).into()
                }
                IpAddr::V6(addr) => {
                    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                    Ipv6Addr::from_bits(addr.to_bits() & mask).into()
                }
            };
            Cidr::new(addr, host.prefix()).unwrap()
        })
        .collect()
}

#[test]
fn s2_6_s2_23_s2_24_inet_agrees_with_the_server() {
    let mut db = connect();
    let hosts = hosts();
    assert_agrees(&mut db, "inet", &hosts);
    assert_each_agrees(&mut db, "inet", &hosts[..20]);
}

#[test]
fn s2_6_s2_23_s2_24_cidr_agrees_with_the_server() {
    let mut db = connect();
    let networks = networks();
    assert_agrees(&mut db, "cidr", &networks);
    assert_each_agrees(&mut db, "cidr", &networks[..20]);
}

#[test]
fn s2_39_std_addresses_both_ways() {
    let mut db = connect();
    for addr in addresses().into_iter().step_by(97) {
        let row = db.query_one("select $1, pg_typeof($1)::text, host($1)", &[&addr]).unwrap();
        let (read, type_name, host): (IpAddr, &str, &str) = row.to().unwrap();
        assert_eq!((read, type_name), (addr, "inet"));
        assert_eq!(host.parse::<IpAddr>().unwrap(), addr);
    }
    let v4 = Ipv4Addr::new(10, 1, 2, 3);
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let row = db.query_one("select $1, $2", &[&v4, &v6]).unwrap();
    assert_eq!(row.to::<(Ipv4Addr, Ipv6Addr)>().unwrap(), (v4, v6));
}

#[test]
fn s2_39_the_prefix_is_stripped_and_the_other_family_refused() {
    let mut db = connect();
    let sql = "select '10.1.2.3/8'::inet as host, '10.0.0.0/8'::cidr as net, '::1'::inet as local";
    for row in [&db.query_one(sql, &[]).unwrap(), &db.query_simple(sql).unwrap()[0]] {
        assert_eq!(row.get::<IpAddr>("host").unwrap(), Ipv4Addr::new(10, 1, 2, 3));
        assert_eq!(row.get::<Ipv4Addr>("net").unwrap(), Ipv4Addr::new(10, 0, 0, 0));
        assert_eq!(row.get::<Inet>("net").unwrap(), "10.0.0.0/8".parse().unwrap());
        let error = row.get::<Ipv4Addr>("local").unwrap_err().to_string();
        assert!(error.contains("\"local\"") && error.contains("IPv6"), "{error}");
        assert!(row.get::<Ipv6Addr>("host").unwrap_err().to_string().contains("IPv4"));
        assert!(row.get::<Cidr>("host").unwrap_err().to_string().contains("Cidr"));
    }
}

#[test]
fn s2_9_s2_28_macaddr_agrees_with_the_server() {
    let mut db = connect();
    let mut random = StdRng::seed_from_u64(9);
    let mut addresses: Vec<[u8; 6]> = (0..500).map(|_| random.random()).collect();
    addresses.extend([[0; 6], [0xff; 6], [0x08, 0x00, 0x2b, 0x01, 0x02, 0x03]]);

    let sql = "select v, v::text from unnest($1) with ordinality as u (v, n) order by n";
    let rows = db.query(sql, &[&addresses]).unwrap();
    assert_eq!(rows.len(), addresses.len());
    let mut values = Vec::new();
    for (row, address) in rows.iter().zip(&addresses) {
        let (read, text): ([u8; 6], &str) = row.to().unwrap();
        assert_eq!(&read, address, "{text}");
        let shown = chopin_pg::PgValue::MacAddr(read).to_string();
        assert_eq!(shown, text);
        values.push(format!("('{text}'::macaddr)"));
    }
    let rows = db.query_simple(&format!("values {}", values.join(","))).unwrap();
    for (row, address) in rows.iter().zip(&addresses) {
        assert_eq!(&row.get::<[u8; 6]>(0).unwrap(), address);
    }
    let row = db.query_one("select $1, pg_typeof($1)::text", &[&addresses[0]]).unwrap();
    assert_eq!(row.to::<([u8; 6], &str)>().unwrap(), (addresses[0], "macaddr"));
}

/// Coordinates in which every border of the server's number format lies: exponents, halves of the
/// last digit, integers that are no longer exact, subnormal numbers.
fn coordinates() -> Vec<f64> {
    let mut random = StdRng::seed_from_u64(10);
    let mut numbers = vec![0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, f64::NAN, f64::INFINITY];
    for exponent in -30..30 {
        for mantissa in
            ["1", "9", "123456789012345", "999999999999999", "9.5", "1.0000000000000002"]
        {
            numbers.push(format!("{mantissa}e{exponent}").parse().unwrap());
        }
    }
    for exponent in -1074..1024 {
        numbers.push(2_f64.powi(exponent));
    }
    // Exactly between two neighbours: 1e23 and its like.
    numbers.extend((15..45).map(|exponent| 10_f64.powi(exponent)));
    numbers.extend((0..2000).map(|n| 9_007_199_254_740_000.0 + f64::from(n)));
    numbers.extend((0..5000).map(|_| f64::from_bits(random.random())));
    let negative: Vec<f64> = numbers.iter().map(|number| -number).collect();
    numbers.extend(negative);
    // The sign of a NaN, and all else that its bits can carry, does not outlive text.
    numbers.into_iter().map(|number| if number.is_nan() { f64::NAN } else { number }).collect()
}

#[test]
fn s2_10_s2_28_points_agree_with_the_server() {
    let mut db = connect();
    let numbers = coordinates();
    let points: Vec<Point> =
        numbers.iter().zip(numbers.iter().rev()).map(|(&x, &y)| Point { x, y }).collect();
    assert_agrees(&mut db, "point", &points);
    assert_each_agrees(&mut db, "point", &points[..20]);
}

#[test]
fn s2_10_a_pair_is_a_point() {
    let mut db = connect();
    let row = db.query_one("select $1, $1[0], pg_typeof($1)::text", &[&(1.5, -2.0)]).unwrap();
    let ((x, y), first, type_name): ((f64, f64), f64, &str) = row.to().unwrap();
    assert_eq!(((x, y), first, type_name), ((1.5, -2.0), 1.5, "point"));
}
