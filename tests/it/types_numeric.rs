//! numeric against the server.

use std::time::Duration;

use chopin_pg::types::Numeric;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::differential::{assert_agrees, assert_each_agrees};
use crate::support::{assert_usable, connect};

fn numeric(text: &str) -> Numeric {
    text.parse().unwrap_or_else(|error| panic!("{text:.100}: {error}"))
}

/// Decimal digits as runs, since the trouble is where runs of zeros meet the borders of base-10000
/// digits.
fn digits(random: &mut StdRng, runs: usize) -> String {
    let mut digits = String::new();
    for _ in 0..random.random_range(0..=runs) {
        let length = random.random_range(1..=9);
        match random.random_range(0..4) {
            0 => digits.push_str(&"0".repeat(length)),
            1 => digits.push_str(&"9".repeat(length)),
            _ => digits.extend((0..length).map(|_| char::from(random.random_range(b'0'..=b'9')))),
        }
    }
    digits
}

/// A number as somebody might write it: with zeros in front, without digits before the point, with
/// an exponent.
fn written(random: &mut StdRng) -> String {
    let sign = ["", "", "-", "+"][random.random_range(0..4)];
    let runs = if random.random_range(0..1000) == 0 { 200 } else { 4 };
    let mut text = format!("{sign}{}", digits(random, runs));
    if random.random_range(0..4) > 0 {
        text.push('.');
        text.push_str(&digits(random, runs));
    }
    if !text.contains(|c: char| c.is_ascii_digit()) {
        text.push('7');
    }
    if random.random_range(0..5) == 0 {
        text.push_str(&format!("e{}", random.random_range(-30..30)));
    }
    text
}

#[test]
fn h4_a_hundred_thousand_numerics_are_what_the_server_prints() {
    let mut db = connect();
    db.set_io_timeout(Duration::from_secs(60));
    let mut random = StdRng::seed_from_u64(4);
    let written: Vec<String> = (0..100_000).map(|_| written(&mut random)).collect();
    let numbers: Vec<Numeric> = written.iter().map(|text| numeric(text)).collect();

    // The server reads the same text; what it prints is the judge.
    let sql = "select t::numeric::text from unnest($1) with ordinality as u (t, n) order by n";
    let rows = db.query(sql, &[&written]).unwrap();
    assert_eq!(rows.len(), numbers.len());
    for ((row, number), written) in rows.iter().zip(&numbers).zip(&written) {
        assert_eq!(number.as_str(), row.get::<&str>(0).unwrap(), "{written}");
    }
    assert_agrees(&mut db, "numeric", &numbers);
}

#[test]
fn h4_numerics_of_every_power_of_ten() {
    let mut db = connect();
    let powers = (-16_383..131_072).step_by(509).chain(-100..100).chain([131_071]);
    let numbers: Vec<Numeric> = powers
        .flat_map(|power| [numeric(&format!("1e{power}")), numeric(&format!("-9e{power}"))])
        .collect();
    assert_agrees(&mut db, "numeric", &numbers);
}

#[test]
fn h4_numerics_at_the_limits() {
    let mut db = connect();
    let nines = format!("{}.{}", "9".repeat(131_072), "9".repeat(16_383));
    let sparse = format!("-1{}.{}1", "0".repeat(131_071), "0".repeat(16_382));
    let numbers: Vec<Numeric> = [
        &nines,
        &sparse,
        "1e131071",
        "1e-16383",
        "0e-16383",
        "0.00001",
        "0.1",
        "-0.0",
        "1.50",
        "NaN",
        "Infinity",
        "-Infinity",
    ]
    .into_iter()
    .map(numeric)
    .collect();
    assert_agrees(&mut db, "numeric", &numbers);
    assert_each_agrees(&mut db, "numeric", &numbers);

    // One digit more on either side is more than the server has, and is refused before it is sent.
    for beyond in [format!("1{}", "0".repeat(131_072)), format!("0.{}1", "0".repeat(16_383))] {
        assert!(Numeric::new(&beyond).unwrap_err().to_string().contains("131072 digits"));
        assert!(db.query("select $1::text::numeric", &[&beyond]).is_err());
    }
    assert_usable(&mut db);
}

#[test]
fn h4_one_hundred_thousandth_is_not_a_tenth() {
    let mut db = connect();
    let sql = "select 0.00001::numeric as small, 0.1::numeric as tenth, $1 = 0.00001 as equal";
    let row = db.query_one(sql, &[&numeric("0.00001")]).unwrap();
    assert_eq!(row.get::<Numeric>("small").unwrap().as_str(), "0.00001");
    assert_eq!(row.get::<Numeric>("tenth").unwrap().as_str(), "0.1");
    assert!(row.get::<bool>("equal").unwrap());
}

#[test]
fn s2_7_numeric_reads_the_integer_types() {
    let mut db = connect();
    let sql =
        "select (-32768)::int2, 2147483647::int4, -9223372036854775807::int8 - 1, 1.5::float8";
    for row in [&db.query_one(sql, &[]).unwrap(), &db.query_simple(sql).unwrap()[0]] {
        assert_eq!(row.get::<Numeric>(0).unwrap().as_str(), "-32768");
        assert_eq!(row.get::<Numeric>(1).unwrap().as_str(), "2147483647");
        assert_eq!(row.get::<Numeric>(2).unwrap().as_str(), "-9223372036854775808");
        let error = row.get::<Numeric>(3).unwrap_err().to_string();
        assert!(error.contains("float8") && error.contains("Numeric"), "{error}");
    }
}
