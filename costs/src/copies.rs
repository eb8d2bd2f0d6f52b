//! Rows in bulk: typed binary COPY.

use std::hint::black_box;

use chopin_pg::{CopyIn, CopyOptions, CopyOut, PgConfig, PgConnection};

use crate::Result;
use crate::cost::Cost;

/// What each row has for its text: 32 characters.
const LABEL: &str = "0123456789abcdef0123456789abcdef";

/// W4in: rows of an int4, a text of 32 characters and a float8, written one by one.
///
/// # Errors
///
/// Those of the connection.
pub(crate) fn written(config: &PgConfig, rows: usize) -> Result<Cost> {
    let mut connection = PgConnection::connect(config)?;
    connection.execute_batch("create temp table notes (id int4, label text, value float8)")?;
    let last = i32::try_from(rows)?;
    Cost::of(rows, || {
        let copy = CopyIn::table("notes").options(CopyOptions::binary());
        let mut writer = connection.copy_in(copy)?;
        for id in 0..last {
            writer.write_row((id, LABEL, 0.5))?;
        }
        assert_eq!(writer.finish()?, u64::try_from(rows)?);
        Ok(())
    })
}

/// W4out: the same rows, read one by one, every value decoded and none copied.
///
/// # Errors
///
/// Those of the connection.
pub(crate) fn read(config: &PgConfig, rows: usize) -> Result<Cost> {
    let mut connection = PgConnection::connect(config)?;
    connection.execute_batch(&format!(
        "create temp table notes as
         select id, md5(id::text) as label, id / float8 '7' as value from generate_series(1, {rows}) id"
    ))?;
    Cost::of(rows, || {
        let copy = CopyOut::table("notes").options(CopyOptions::binary());
        let mut reader = connection.copy_out(copy)?;
        let mut count = 0;
        while let Some(row) = reader.next_row()? {
            let note: (i32, &str, f64) = row.to()?;
            black_box(note);
            count += 1;
        }
        assert_eq!(count, rows);
        Ok(())
    })
}
