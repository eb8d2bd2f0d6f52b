//! Readings of sensors, many at a time.

use std::hint::black_box;

use chopin_pg::types::Timestamptz;
use chopin_pg::{PgConfig, PgConnection, PgResult};

use crate::Result;
use crate::cost::Cost;

const SELECT: &str = "select id, steps, label, value, taken_at, is_valid, sensor from readings";

/// A row: the label has 32 characters, the sensor is a uuid.
type Reading<'a> = (i32, i64, &'a str, f64, Timestamptz, bool, [u8; 16]);

fn make_readings(connection: &mut PgConnection, rows: usize) -> PgResult<()> {
    connection.execute_batch(&format!(
        "create temp table readings as
         select id, id * int8 '1000000007' as steps, md5(id::text) as label,
             id / float8 '7' as value,
             timestamptz '2024-01-01 00:00:00+00' + id * interval '1 second' as taken_at,
             id % 2 = 0 as is_valid, md5(id::text)::uuid as sensor
         from generate_series(1, {rows}) as id"
    ))
}

/// W3s: row by row, every value decoded and none copied.
///
/// # Errors
///
/// Those of the connection.
pub(crate) fn streamed(config: &PgConfig, rows: usize) -> Result<Cost> {
    let mut connection = PgConnection::connect(config)?;
    make_readings(&mut connection, rows)?;
    Cost::of(rows, || {
        let mut count = 0;
        let mut readings = connection.stream(SELECT, ())?;
        while let Some(row) = readings.next()? {
            let reading: Reading<'_> = row.to()?;
            black_box(reading);
            count += 1;
        }
        assert_eq!(count, rows);
        Ok(())
    })
}

/// W3c: all of a result collected as owned rows, then every value decoded.
///
/// # Errors
///
/// Those of the connection.
pub(crate) fn collected(config: &PgConfig, rows: usize) -> Result<Cost> {
    let mut connection = PgConnection::connect(config)?;
    make_readings(&mut connection, rows)?;
    Cost::of(rows, || {
        let readings = connection.query(SELECT, &[])?;
        assert_eq!(readings.len(), rows);
        for row in &readings {
            let reading: Reading<'_> = row.to()?;
            black_box(reading);
        }
        Ok(())
    })
}
