//! date, time, timestamp, timestamptz and interval against the server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chopin_pg::PgConnection;
use chopin_pg::types::{Date, Interval, Time, Timestamp, Timestamptz};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::Need;

use crate::differential::{assert_agrees, assert_each_agrees};
use crate::support::{assert_usable, connect};

const DAY: i64 = 86_400_000_000;

/// Days since 2000-01-01: the infinities, the borders, days around the turn to BC, days of all the
/// range.
fn dates() -> Vec<Date> {
    let mut random = StdRng::seed_from_u64(1);
    let borders = [i32::MIN, -2_451_545, -2_451_544, -1, 0, 1, 2_145_031_948, i32::MAX];
    let mut days = borders.to_vec();
    days.extend(-730_500..-729_700);
    days.extend((0..1000).map(|_| random.random_range(-200_000..200_000)));
    days.extend((0..1000).map(|_| random.random_range(-2_451_545..=2_145_031_948)));
    days.into_iter().map(Date).collect()
}

fn times() -> Vec<Time> {
    let mut random = StdRng::seed_from_u64(2);
    let mut micros = vec![0, 1, DAY - 1, DAY];
    for unit in [1, 10, 1000, 100_000, 1_000_000, 60_000_000] {
        micros.extend((0..300).map(|_| random.random_range(0..DAY / unit) * unit));
    }
    micros.into_iter().map(Time).collect()
}

/// Microseconds since 2000-01-01 00:00:00: the borders, the turn to BC, and all the range in
/// several precisions.
fn timestamps() -> Vec<i64> {
    let mut random = StdRng::seed_from_u64(3);
    let last = 9_223_371_331_199_999_999;
    let first = -211_813_488_000_000_000;
    let first_after_christ = -730_119 * DAY;
    let mut micros = vec![i64::MIN, first, first + 1, -1, 0, 1, last, i64::MAX];
    for unit in [1, 1000, 1_000_000, 3_600_000_000] {
        for (from, to) in [
            (first, last),
            (-DAY * 40_000, DAY * 40_000),
            (first_after_christ - DAY * 500, first_after_christ + DAY * 500),
        ] {
            micros.extend((0..200).map(|_| random.random_range(from / unit..=to / unit) * unit));
        }
    }
    micros
}

/// Every mixture of signs and zeros, plain and huge; not the infinities, which servers before 17 do
/// not have.
fn intervals() -> Vec<Interval> {
    let mut random = StdRng::seed_from_u64(4);
    let mut intervals = Vec::new();
    for months in [0, 1, -1, 11, 12, 13, -12, -14, i32::MIN, i32::MAX] {
        for days in [0, 1, -1, 2, i32::MIN, i32::MAX] {
            for microseconds in [
                0,
                1,
                -1,
                5_400_000_000,
                -5_400_000_000,
                6_500_000,
                -1_000_000,
                i64::MIN + 1,
                i64::MAX - 1,
            ] {
                intervals.push(Interval { months, days, microseconds });
            }
        }
    }
    for _ in 0..2000 {
        let most = 1_i64 << random.random_range(0..62);
        intervals.push(Interval {
            months: random.random_range(-30..30) * random.random_range(0..2),
            days: random.random_range(-40..40) * random.random_range(0..2),
            microseconds: random.random_range(-most..=most),
        });
    }
    intervals
}

#[test]
fn s2_4_dates_agree_with_the_server() {
    let mut db = connect();
    let dates = dates();
    assert_agrees(&mut db, "date", &dates);
    assert_each_agrees(&mut db, "date", &dates[..20]);
}

#[test]
fn s2_4_times_agree_with_the_server() {
    let mut db = connect();
    let times = times();
    assert_agrees(&mut db, "time", &times);
    assert_each_agrees(&mut db, "time without time zone", &times[..20]);
}

#[test]
fn s2_4_timestamps_agree_with_the_server() {
    let mut db = connect();
    let timestamps: Vec<_> = timestamps().into_iter().map(Timestamp).collect();
    assert_agrees(&mut db, "timestamp", &timestamps);
    assert_each_agrees(&mut db, "timestamp without time zone", &timestamps[..20]);
}

#[test]
fn s2_4_timestamptz_agree_with_the_server() {
    let mut db = connect();
    db.execute_batch("set timezone to 'UTC'").unwrap();
    let moments: Vec<_> = timestamps().into_iter().map(Timestamptz).collect();
    assert_agrees(&mut db, "timestamptz", &moments);
    assert_each_agrees(&mut db, "timestamp with time zone", &moments[..20]);
}

#[test]
fn s2_5_intervals_agree_with_the_server() {
    let mut db = connect();
    let intervals = intervals();
    assert_agrees(&mut db, "interval", &intervals);
    assert_each_agrees(&mut db, "interval", &intervals[..20]);
}

#[test]
fn s2_4_system_time_is_a_timestamptz() {
    let mut db = connect();
    let moment = UNIX_EPOCH + Duration::new(1_709_210_096, 789_123_999);
    let row = db
        .query_one("select $1, pg_typeof($1)::text, extract(epoch from $1)::text", &[&moment])
        .unwrap();
    let (read, type_name, epoch): (SystemTime, &str, &str) = row.to().unwrap();
    // The server has microseconds: the 999 ns are cut off.
    assert_eq!(read, UNIX_EPOCH + Duration::new(1_709_210_096, 789_123_000));
    assert_eq!((type_name, epoch), ("timestamp with time zone", "1709210096.789123"));

    let row = db.query_one("select '1969-12-31 23:59:59.25+00'::timestamptz", &[]).unwrap();
    assert_eq!(row.get::<SystemTime>(0).unwrap(), UNIX_EPOCH - Duration::from_millis(750));
    let row = db.query_one("select 'infinity'::timestamptz", &[]).unwrap();
    assert!(row.get::<SystemTime>(0).unwrap_err().to_string().contains("infinity"));
}

#[test]
fn s2_4_a_date_that_the_server_does_not_have_is_an_error() {
    let mut db = connect();
    for beyond in [Date(2_145_031_949), Date(-2_451_546)] {
        let error = db.query("select $1", &[&beyond]).unwrap_err();
        assert!(error.to_string().contains("date out of range"), "{error}");
    }
    let error = db.query("select $1", &[&Timestamp(9_223_371_331_200_000_000)]).unwrap_err();
    assert!(error.to_string().contains("timestamp out of range"), "{error}");
    assert_usable(&mut db);
}

/// What `sql` returns in text, next to what it returns in binary: `compare` gets the text and both
/// as values.
fn in_both_formats<T: for<'a> chopin_pg::types::FromSql<'a>>(
    db: &mut PgConnection,
    sql: &str,
    mut compare: impl FnMut(&str, chopin_pg::PgResult<T>, T),
) {
    let texts = db.query_simple(sql).expect("in text");
    let values = db.query(sql, &[]).expect("in binary");
    assert_eq!(texts.len(), values.len());
    assert!(!values.is_empty());
    for (text, value) in texts.iter().zip(&values) {
        let written: String = text.get(0).expect("the text itself");
        compare(&written, text.get(0), value.get(0).expect("a value in binary"));
    }
}

/// Fills the tables `dates`, `timestamps`, `moments` and `intervals`, each with a column `v`.
fn create_tables(db: &mut PgConnection) {
    db.execute_batch(
        "create temp table dates (v date);
         create temp table timestamps (v timestamp);
         create temp table moments (v timestamptz);
         create temp table intervals (v interval)",
    )
    .unwrap();
    let timestamps: Vec<_> = timestamps().into_iter().map(Timestamp).collect();
    let moments: Vec<_> = timestamps.iter().map(|timestamp| Timestamptz(timestamp.0)).collect();
    db.execute("insert into dates select unnest($1)", &[&dates()]).unwrap();
    db.execute("insert into timestamps select unnest($1)", &[&timestamps]).unwrap();
    db.execute("insert into moments select unnest($1)", &[&moments]).unwrap();
    db.execute("insert into intervals select unnest($1)", &[&intervals()]).unwrap();
}

#[test]
fn h9_every_time_zone_gives_the_same_moments() {
    let mut db = connect();
    create_tables(&mut db);
    for zone in [
        "UTC",
        "Asia/Kolkata",
        "America/St_Johns",
        "America/Sao_Paulo",
        // Minutes and seconds in the offset, before zones were agreed upon.
        "Africa/Monrovia",
        "Europe/Amsterdam",
        "Pacific/Kiritimati",
        "Pacific/Pago_Pago",
        // POSIX zones: beyond what a day has, and with the sign the other way round.
        "FAR-167",
        "<-03>+03",
    ] {
        db.execute_batch(&format!("set timezone to '{zone}'")).unwrap();
        for order in ["MDY", "DMY", "YMD"] {
            db.execute_batch(&format!("set datestyle to 'ISO, {order}'")).unwrap();
            in_both_formats::<Timestamptz>(
                &mut db,
                "select v from moments",
                |text, read, moment| {
                    assert_eq!(read.unwrap(), moment, "{zone}: {text}");
                },
            );
        }
    }
}

#[test]
fn h9_dates_and_timestamps_do_not_depend_on_the_order_of_fields() {
    let mut db = connect();
    create_tables(&mut db);
    for order in ["MDY", "DMY", "YMD"] {
        db.execute_batch(&format!("set datestyle to 'ISO, {order}'")).unwrap();
        in_both_formats::<Date>(&mut db, "select v from dates", |text, read, date| {
            assert_eq!(read.unwrap(), date, "{order}: {text}");
        });
        in_both_formats::<Timestamp>(
            &mut db,
            "select v from timestamps",
            |text, read, timestamp| {
                assert_eq!(read.unwrap(), timestamp, "{order}: {text}");
            },
        );
    }
}

#[test]
fn h9_text_in_another_date_style_is_refused_never_misread() {
    let mut db = connect();
    create_tables(&mut db);
    for style in ["SQL, MDY", "SQL, DMY", "Postgres, MDY", "Postgres, DMY", "German"] {
        for zone in ["UTC", "Asia/Kolkata", "America/St_Johns"] {
            db.execute_batch(&format!("set datestyle to '{style}'; set timezone to '{zone}'"))
                .unwrap();
            in_both_formats::<Date>(&mut db, "select v from dates", |text, read, date| {
                assert_refused(text, read, date, date.is_finite());
            });
            in_both_formats::<Timestamp>(
                &mut db,
                "select v from timestamps",
                |text, read, value| {
                    assert_refused(text, read, value, value.is_finite());
                },
            );
            in_both_formats::<Timestamptz>(
                &mut db,
                "select v from moments",
                |text, read, value| {
                    assert_refused(text, read, value, value.is_finite());
                },
            );
        }
    }
    assert_usable(&mut db);
}

/// Infinity is the same in every style; all else is an error that says what to do.
#[track_caller]
fn assert_refused<T: std::fmt::Debug + PartialEq>(
    text: &str,
    read: chopin_pg::PgResult<T>,
    value: T,
    finite: bool,
) {
    match read {
        Ok(read) => assert!(!finite && read == value, "{text} was read as {read:?}"),
        Err(error) => {
            assert!(finite && error.to_string().contains("SET datestyle"), "{text}: {error}");
        }
    }
}

#[test]
fn h9_intervals_are_the_same_in_every_style() {
    let mut db = connect();
    create_tables(&mut db);
    for style in ["postgres", "postgres_verbose", "sql_standard", "iso_8601"] {
        db.execute_batch(&format!("set intervalstyle to '{style}'")).unwrap();
        in_both_formats::<Interval>(&mut db, "select v from intervals", |text, read, interval| {
            assert_eq!(read.unwrap(), interval, "{style}: {text}");
        });
    }
    db.execute_batch("set intervalstyle to default").unwrap();
    in_both_formats::<Interval>(
        &mut db,
        "select '-01:30'::interval union all select '-1 day 02:03' union all select '1 mon -1 day'",
        |text, read, interval| {
            assert_eq!((read.unwrap(), interval.to_string().as_str()), (interval, text))
        },
    );
}

#[test]
fn h9_infinite_intervals_from_17_on() {
    let server = testkit::shared_with(Need { at_least: 17, ..Need::default() });
    let config =
        chopin_pg::PgConfig::new(server.host(), server.port(), server.superuser(), "", "postgres");
    let mut db = PgConnection::connect(&config).unwrap();
    let infinite = [Interval::INFINITY, Interval::NEG_INFINITY];
    for style in ["postgres", "postgres_verbose", "sql_standard", "iso_8601"] {
        db.execute_batch(&format!("set intervalstyle to '{style}'")).unwrap();
        assert_agrees(&mut db, "interval", &infinite);
        assert_each_agrees(&mut db, "interval", &infinite);
    }
}
