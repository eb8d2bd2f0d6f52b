//! Prepared statements, batches, and the cache that plain queries go through.

use super::{ParamSets, PgConnection, Statement};
use crate::engine::Request;
use crate::error::{PgError, PgResult};
use crate::row::Row;
use crate::types::{Oid, Params};

impl PgConnection {
    /// Prepares a statement; the server infers the types of its parameters.
    ///
    /// The [`Statement`] has no lifetime and is not tied to this connection. A parameter whose Rust
    /// type is not the one that the server inferred is coerced by the server as in any query: an
    /// `i32` for a `numeric` parameter works, and bytes are never taken for those of another type.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// let insert = connection.prepare("insert into notes (pitch, name) values ($1, $2)")?;
    /// for (pitch, name) in [(60, "C4"), (62, "D4")] {
    ///     connection.execute_prepared(&insert, (pitch, name))?;
    /// }
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn prepare(&mut self, sql: &str) -> PgResult<Statement> {
        self.prepare_typed(sql, &[])
    }

    /// [`prepare`](Self::prepare) with declared types for the first parameters;
    /// [`Oid::UNSPECIFIED`] leaves one to the server.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn prepare_typed(&mut self, sql: &str, types: &[Oid]) -> PgResult<Statement> {
        self.ask(Request::Prepare { sql, types })?.into_statement().ok_or_else(|| {
            PgError::Protocol("preparing a statement was answered without one".to_owned())
        })
    }

    /// Runs a prepared statement and returns its rows. A connection that has not prepared it does
    /// so first, in the same round trip.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`PgError::Usage`] when the number of parameters is not the
    /// statement's.
    pub fn query_prepared(
        &mut self,
        statement: &Statement,
        params: impl Params,
    ) -> PgResult<Vec<Row>> {
        Ok(self.run(Request::Execute { statement, params: &params })?.into_rows())
    }

    /// Runs a prepared statement and returns the number of rows that it touched.
    ///
    /// # Errors
    ///
    /// As [`query_prepared`](Self::query_prepared).
    pub fn execute_prepared(
        &mut self,
        statement: &Statement,
        params: impl Params,
    ) -> PgResult<u64> {
        let outcome = self.run(Request::Execute { statement, params: &params })?;
        Ok(outcome.last().tag().rows().unwrap_or(0))
    }

    /// Closes a prepared statement on this connection. It is not needed: a statement whose last
    /// handle is gone is closed by itself, a little later.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn close_statement(&mut self, statement: &Statement) -> PgResult<()> {
        self.ask(Request::Close { statement }).map(drop)
    }

    /// Runs one statement once for each of several parameter sets, in one round trip, and returns
    /// the number of rows that each run touched. Either all of it is done or nothing.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// let counts = connection.execute_many(
    ///     "insert into notes (pitch, name) values ($1, $2)",
    ///     [(60, "C4"), (62, "D4"), (64, "E4")],
    /// )?;
    /// assert_eq!(counts, [1, 1, 1]);
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// All sets are encoded before the first is sent: very many are better given in portions.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query). An error of the server says which set it is about
    /// ([`ServerError::parameter_set`](crate::ServerError::parameter_set)). [`PgError::Usage`] when
    /// the types of a set are not those of the first.
    pub fn execute_many(&mut self, sql: &str, sets: impl ParamSets) -> PgResult<Vec<u64>> {
        if sets.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.run(Request::Batch { sql, sets: &sets })?.counts().to_vec())
    }

    /// [`execute_many`](Self::execute_many) of a prepared statement.
    ///
    /// # Errors
    ///
    /// As [`execute_many`](Self::execute_many).
    pub fn execute_many_prepared(
        &mut self,
        statement: &Statement,
        sets: impl ParamSets,
    ) -> PgResult<Vec<u64>> {
        if sets.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.run(Request::ExecuteBatch { statement, sets: &sets })?.counts().to_vec())
    }

    /// Runs one statement once for each of several parameter sets, in one round trip, and returns
    /// the rows of all runs together, in order.
    ///
    /// # Errors
    ///
    /// As [`execute_many`](Self::execute_many).
    pub fn query_many(&mut self, sql: &str, sets: impl ParamSets) -> PgResult<Vec<Row>> {
        if sets.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.run(Request::Batch { sql, sets: &sets })?.into_rows())
    }

    /// How many statements the cache has for plain queries.
    pub fn statement_cache_len(&self) -> usize {
        self.engine.catalogue().len()
    }

    /// Sets how many statements the cache may have; 0 turns it off. Those that are too many are
    /// closed with the next request.
    pub fn set_statement_cache_capacity(&mut self, capacity: usize) {
        self.engine.catalogue().set_capacity(capacity);
    }

    /// Empties the statement cache, and closes on the server everything that this connection has
    /// prepared there, each statement by its own Close.
    ///
    /// A [`Statement`] that somebody holds stays usable: it is prepared again when it is next run.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn clear_statement_cache(&mut self) -> PgResult<()> {
        self.check_not_busy()?;
        self.engine.clear_statement_cache();
        self.ask(Request::Sync).map(drop)
    }
}
