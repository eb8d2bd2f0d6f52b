//! Queries: with parameters, and by the simple protocol.

use std::rc::Rc;

use super::{CommandTag, PgConnection};
use crate::config::ExecutionMode;
use crate::engine::{CommandResult, Request};
use crate::error::{PgError, PgResult};
use crate::row::{Column, Row};
use crate::types::{Params, ToSql};

/// What one statement of a simple query returned.
#[derive(Clone, Debug)]
pub struct SimpleResult {
    columns: Option<Rc<[Column]>>,
    rows: Vec<Row>,
    tag: CommandTag,
}

impl SimpleResult {
    /// The columns; empty for a statement that returns no rows.
    pub fn columns(&self) -> &[Column] {
        self.columns.as_deref().unwrap_or_default()
    }

    /// The rows, in text format.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows, in text format.
    pub fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    /// The statement's command tag, such as `SELECT 3`; empty for an empty statement.
    pub fn command_tag(&self) -> &str {
        self.tag.as_str()
    }

    /// The number of rows that the statement touched; 0 for statements that count none.
    pub fn affected_rows(&self) -> u64 {
        self.tag.rows().unwrap_or(0)
    }
}

impl From<CommandResult> for SimpleResult {
    fn from(result: CommandResult) -> Self {
        let columns = result.shared_columns();
        Self { columns, tag: result.tag(), rows: result.into_rows() }
    }
}

impl PgConnection {
    /// Runs one statement with parameters and returns its rows.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// let rows = connection.query("select name from users where id = $1", &[&7])?;
    /// for row in &rows {
    ///     println!("{}", row.get::<&str>("name")?);
    /// }
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// - [`PgError::Server`] for an error of the server, with the query in its own field; the
    ///   connection stays usable.
    /// - [`PgError::Parameter`] when a parameter cannot be encoded, [`PgError::Usage`] when the
    ///   text cannot be sent; nothing was sent then.
    /// - [`PgError::Timeout`] when the answer takes longer than [`io_timeout`](Self::io_timeout).
    ///   Whether the server did the work is unknown.
    /// - [`PgError::Io`], [`PgError::Protocol`], [`PgError::ConnectionClosed`] when the connection
    ///   broke under the query.
    /// - [`PgError::NotSent`] when nothing was sent: the connection was broken before, or the time was
    ///   over before there was room. [`PgError::NotRun`] when a statement of the cache had become
    ///   stale inside a transaction, so that it could not be prepared again by itself.
    /// - [`PgError::Busy`] while requests that deliver events are unfinished, [`PgError::Usage`] while
    ///   a group is open, [`PgError::WouldBlock`] when the results that nobody has taken fill
    ///   `max_in_flight`: only programs that use the non-blocking face too meet these.
    pub fn query(&mut self, sql: &str, params: &[&dyn ToSql]) -> PgResult<Vec<Row>> {
        self.query_with(sql, params)
    }

    /// [`query`](Self::query) with parameters of any form: a tuple, an array, a slice, a `Vec`.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// let rows = connection.query_with("select $1::int4, $2::text", (1, "one"))?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn query_with(&mut self, sql: &str, params: impl Params) -> PgResult<Vec<Row>> {
        Ok(self.run(Request::Query { sql, params: &params })?.into_rows())
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Errors
    ///
    /// [`PgError::Rows`] for any other number of rows; else as [`query`](Self::query).
    pub fn query_one(&mut self, sql: &str, params: &[&dyn ToSql]) -> PgResult<Row> {
        exactly_one(self.query(sql, params)?)
    }

    /// Runs a statement that returns one row or none.
    ///
    /// # Errors
    ///
    /// [`PgError::Rows`] for more than one row; else as [`query`](Self::query).
    pub fn query_opt(&mut self, sql: &str, params: &[&dyn ToSql]) -> PgResult<Option<Row>> {
        at_most_one(self.query(sql, params)?)
    }

    /// Runs one statement with parameters and returns the number of rows that it touched, 0 for a
    /// statement that counts none. Rows that it returns are dropped.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn execute(&mut self, sql: &str, params: &[&dyn ToSql]) -> PgResult<u64> {
        self.execute_with(sql, params)
    }

    /// [`execute`](Self::execute) with parameters of any form: a tuple, an array, a slice, a `Vec`.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn execute_with(&mut self, sql: &str, params: impl Params) -> PgResult<u64> {
        let outcome = self.run(Request::Query { sql, params: &params })?;
        Ok(outcome.last().tag().rows().unwrap_or(0))
    }

    /// Runs one statement with parameters in another [`ExecutionMode`] than the connection's, and
    /// returns its rows.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`PgError::Usage`] for parameters in
    /// [`ExecutionMode::Simple`].
    pub fn query_in(
        &mut self,
        mode: ExecutionMode,
        sql: &str,
        params: impl Params,
    ) -> PgResult<Vec<Row>> {
        Ok(self.run_in(Some(mode), Request::Query { sql, params: &params })?.into_rows())
    }

    /// How queries are run: [`ExecutionMode::Cached`] unless the configuration says otherwise.
    pub fn execution_mode(&self) -> ExecutionMode {
        self.engine.execution_mode()
    }

    /// Sets how queries are run, from the next one on.
    pub fn set_execution_mode(&mut self, mode: ExecutionMode) {
        self.engine.set_execution_mode(mode);
    }

    /// Runs a string of statements without parameters (the simple protocol) and returns the rows of
    /// the last statement that returns rows.
    ///
    /// Values come in text format; they are read as the same Rust types, and as `String` whatever
    /// their type. [`query_simple_results`](Self::query_simple_results) keeps the results of
    /// several statements apart.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query). The statements form one implicit transaction, unless the string
    /// has BEGIN and COMMIT of its own.
    pub fn query_simple(&mut self, sql: &str) -> PgResult<Vec<Row>> {
        let outcome = self.run(Request::Simple { sql })?;
        let last = outcome.into_results().rev().find(|result| result.columns().is_some());
        Ok(last.map(CommandResult::into_rows).unwrap_or_default())
    }

    /// Runs a string of statements without parameters (the simple protocol) and returns the result
    /// of each, in order.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// let results = connection.query_simple_results("select 1; select 'two'")?;
    /// assert_eq!(results[0].rows()[0].get::<i32>(0)?, 1);
    /// assert_eq!(results[1].rows()[0].get::<&str>(0)?, "two");
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query_simple`](Self::query_simple).
    pub fn query_simple_results(&mut self, sql: &str) -> PgResult<Vec<SimpleResult>> {
        let outcome = self.run(Request::Simple { sql })?;
        Ok(outcome.into_results().map(SimpleResult::from).collect())
    }

    /// Runs a string of statements without parameters for what they do. The first error stops it.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// connection.execute_batch("create table a (x int4); create table b (y text)")?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query_simple`](Self::query_simple).
    pub fn execute_batch(&mut self, sql: &str) -> PgResult<()> {
        self.run(Request::Simple { sql }).map(drop)
    }
}

pub(super) fn exactly_one(rows: Vec<Row>) -> PgResult<Row> {
    match <[Row; 1]>::try_from(rows) {
        Ok([row]) => Ok(row),
        Err(rows) => Err(PgError::Rows { expected: "exactly one row", got: rows.len() as u64 }),
    }
}

fn at_most_one(rows: Vec<Row>) -> PgResult<Option<Row>> {
    if rows.is_empty() {
        return Ok(None);
    }
    match <[Row; 1]>::try_from(rows) {
        Ok([row]) => Ok(Some(row)),
        Err(rows) => Err(PgError::Rows { expected: "at most one row", got: rows.len() as u64 }),
    }
}
