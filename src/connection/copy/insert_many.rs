//! Many rows into a table, whichever way is faster.

use super::statement::{Columns, CopyIn, CopyOptions, TableName};
use super::{CopyWriter, PgConnection, Running};
use crate::connection::ParamSets;
use crate::engine::Request;
use crate::error::{PgError, PgResult};
use crate::types::{Encoded, Oid, Out, Target, ToSql, TypeMap, encode_cell, put_array_header};

/// The most rows that go as arrays.
const MOST_AS_ARRAYS: usize = 1_000;

/// The most bytes that go as arrays: they are put together in memory before any of them is sent.
const MOST_BYTES: usize = 1 << 20;

impl PgConnection {
    /// Inserts many rows into a table; returns how many. Either all are inserted or none.
    ///
    /// Up to 1,000 rows and 1 MiB go as one `INSERT ... SELECT FROM unnest(...)` with an array for
    /// each column, if every column's type is one of PostgreSQL's own and no array. Everything else
    /// goes by COPY in binary, which has no limit. Both give the same rows: each value is inserted as
    /// its column's type exactly or refused, as by [`CopyWriter::write_row`], and values for
    /// `generated always as identity` columns are taken.
    ///
    /// The table's triggers fire for each row either way. Its rules, should it have any, are applied
    /// by INSERT only.
    ///
    /// ```no_run
    /// # use chopin_pg::{PgConfig, PgConnection, PgResult};
    /// # fn main() -> PgResult<()> {
    /// # let mut connection = PgConnection::connect(&PgConfig::from_url("")?)?;
    /// let works = [(1, "Ballade No. 1", Some(1835)), (2, "Ballade No. 5", None)];
    /// let count = connection.insert_many(("music", "works"), ["id", "title", "year"], works)?;
    /// assert_eq!(count, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`copy_in`](Self::copy_in) and [`CopyWriter::write_row`].
    pub fn insert_many<S: Into<String>>(
        &mut self,
        table: impl Into<TableName>,
        columns: impl IntoIterator<Item = S>,
        rows: impl ParamSets,
    ) -> PgResult<u64> {
        if rows.is_empty() {
            return Ok(0);
        }
        let names: Vec<String> = columns.into_iter().map(Into::into).collect();
        let columns = Columns { table: table.into(), names };
        let targets = self.describe_targets(&columns.describing_query())?;
        if rows.len() <= MOST_AS_ARRAYS {
            if let Some(arrays) = arrays(&targets, &rows)? {
                return self.insert_arrays(&columns, &arrays);
            }
        }
        let copy = CopyIn::table(columns.table).columns(columns.names);
        let copy = copy.options(CopyOptions::binary());
        let running = Running::start(self, Request::CopyIn { sql: &copy.sql() })?;
        let mut writer = CopyWriter::new(running, &copy, targets)?;
        for index in 0..rows.len() {
            let Some(row) = rows.set(index) else { break };
            writer.write_row(row)?;
        }
        writer.finish()
    }

    fn insert_arrays(&mut self, columns: &Columns, arrays: &[ColumnArray]) -> PgResult<u64> {
        let numbers: Vec<_> = (1..=arrays.len()).map(|number| format!("${number}")).collect();
        let sql = format!(
            "INSERT INTO {}{} OVERRIDING SYSTEM VALUE SELECT * FROM unnest({})",
            columns.table,
            columns.list(),
            numbers.join(", ")
        );
        let mode = self.mode_for_params();
        let outcome = self.run_in(mode, Request::Query { sql: &sql, params: &arrays })?;
        Ok(outcome.last().tag().rows().unwrap_or(0))
    }
}

/// The values of a column, as an array.
struct ColumnArray {
    oid: Oid,
    bytes: Vec<u8>,
}

impl ToSql for ColumnArray {
    fn declare(&self, _: &TypeMap) -> Oid {
        self.oid
    }
    fn encode(&self, _: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        out.put(&self.bytes);
        Ok(Encoded::Binary)
    }
}

/// The rows as an array for each column; `None` if they are too large or the array type of a column
/// is not known.
fn arrays(
    targets: &[(Box<str>, Target)],
    rows: &dyn ParamSets,
) -> PgResult<Option<Vec<ColumnArray>>> {
    let types = TypeMap::builtin();
    let mut arrays = Vec::with_capacity(targets.len());
    let mut size = 0;
    for (index, (name, target)) in targets.iter().enumerate() {
        let Some(oid) = types.array_of(target.oid()) else { return Ok(None) };
        let mut bytes = Vec::new();
        let mut out = Out::new(&mut bytes);
        // Only as many rows as go as arrays come here.
        let count = i32::try_from(rows.len()).unwrap_or(i32::MAX);
        put_array_header(target.oid(), count, &mut out);
        for number in 0..rows.len() {
            let Some(row) = rows.set(number) else { break };
            if row.len() != targets.len() {
                return Err(PgError::Usage(format!(
                    "row {} has {} values, but there are {} columns; nothing was sent",
                    number + 1,
                    row.len(),
                    targets.len()
                )));
            }
            let Some(value) = row.param(index) else { break };
            let written = out.element(|out| encode_cell(value, *target, out));
            written.map_err(|error| super::writer::in_cell(error, number, name))?;
            if out.overflowed() || size + out.len() > MOST_BYTES {
                return Ok(None);
            }
        }
        size += out.len();
        arrays.push(ColumnArray { oid, bytes });
    }
    Ok(Some(arrays).filter(|arrays| !arrays.is_empty()))
}
