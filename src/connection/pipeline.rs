//! Several requests in one round trip.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{CommandTag, Delivery, PgConnection, Statement, Submit, Ticket};
use crate::engine::{Outcome, ParamSets, Request};
use crate::error::{PgError, PgResult};
use crate::row::{Column, Row};
use crate::types::Params;

/// Requests that are queued together and answered together, from [`PgConnection::pipeline`].
///
/// Requests are sent without waiting for the answers of those before them. Those between two calls
/// of [`sync`](Self::sync) are a group: it succeeds or fails as a whole (outside of a transaction
/// the server runs it as one). Groups do not affect each other.
///
/// ```no_run
/// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
/// let mut pipeline = connection.pipeline();
/// pipeline.query("insert into works (title) values ($1)", ("Barcarolle",))?;
/// pipeline.query("select count(*) from works", ())?;
/// let results = pipeline.finish()?;
/// let [insert, count] = <[_; 2]>::try_from(results).expect("two results");
/// assert_eq!(insert?.affected_rows(), 1);
/// println!("{} works", count?.rows()[0].get::<i64>(0)?);
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// In a group that fails, the request in error has the server's error, those before it
/// [`PgError::RolledBack`], those after it [`PgError::NotRun`].
///
/// Whatever the sizes, it cannot lock up: when much is queued, adding to it sends and receives.
///
/// Dropped without [`finish`](Self::finish) it never waits. The groups that were ended with
/// [`sync`](Self::sync) are run, if they can be sent, and their answers are drained by later calls.
/// Of the last one nothing is run, unless a part of it had to be sent already to make room: then it
/// is run as it stands.
#[derive(Debug)]
pub struct Pipeline<'c> {
    connection: &'c mut PgConnection,
    /// Requests whose results have not been taken.
    tickets: VecDeque<Ticket>,
    results: Vec<PgResult<PipelineResult>>,
    /// The first request of all.
    first: Option<Ticket>,
    /// Requests so far.
    count: usize,
}

/// What one request of a pipeline returned.
#[derive(Debug)]
pub struct PipelineResult {
    columns: Option<Rc<[Column]>>,
    rows: Vec<Row>,
    tag: CommandTag,
    counts: Vec<u64>,
    statement: Option<Statement>,
}

impl PipelineResult {
    /// The columns; empty for a request that returns no rows.
    pub fn columns(&self) -> &[Column] {
        self.columns.as_deref().unwrap_or_default()
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows.
    pub fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    /// The command's tag, such as `INSERT 0 5`.
    pub fn command_tag(&self) -> &str {
        self.tag.as_str()
    }

    /// The number of rows that were touched, 0 for a command that counts none; of a batch the sum.
    pub fn affected_rows(&self) -> u64 {
        match self.counts.as_slice() {
            [] => self.tag.rows().unwrap_or(0),
            counts => counts.iter().sum(),
        }
    }

    /// How many rows each parameter set of a [batch](Pipeline::batch) touched.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The statement that [`Pipeline::prepare`] made.
    pub fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }
}

impl From<Outcome> for PipelineResult {
    fn from(outcome: Outcome) -> Self {
        let last = outcome.last();
        let columns = last.shared_columns();
        let (tag, counts) = (last.tag(), outcome.counts().to_vec());
        let statement = outcome.statement().cloned();
        Self { columns, rows: outcome.into_rows(), tag, counts, statement }
    }
}

impl PgConnection {
    /// Begins a pipeline: several requests in one round trip.
    pub fn pipeline(&mut self) -> Pipeline<'_> {
        let (tickets, results) = (VecDeque::new(), Vec::new());
        Pipeline { connection: self, tickets, results, first: None, count: 0 }
    }
}

impl Pipeline<'_> {
    /// Adds a statement with parameters; returns the place of its result.
    ///
    /// # Errors
    ///
    /// Nothing was added when a parameter cannot be encoded or the text cannot be sent
    /// ([`PgError::Parameter`], [`PgError::Usage`]); the pipeline goes on. What broke the
    /// connection. So for every method that adds something.
    pub fn query(&mut self, sql: &str, params: impl Params) -> PgResult<usize> {
        self.add(Request::Query { sql, params: &params })
    }

    /// Adds a run of a prepared statement.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn query_prepared(
        &mut self,
        statement: &Statement,
        params: impl Params,
    ) -> PgResult<usize> {
        self.add(Request::Execute { statement, params: &params })
    }

    /// Adds one run of a statement for each of several parameter sets, which have one result
    /// together.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query); [`PgError::Usage`] when there is no set, or the types of one are
    /// not those of the first.
    pub fn batch(&mut self, sql: &str, sets: impl ParamSets) -> PgResult<usize> {
        self.add(Request::Batch { sql, sets: &sets })
    }

    /// [`batch`](Self::batch) of a prepared statement.
    ///
    /// # Errors
    ///
    /// As [`batch`](Self::batch).
    pub fn batch_prepared(
        &mut self,
        statement: &Statement,
        sets: impl ParamSets,
    ) -> PgResult<usize> {
        self.add(Request::ExecuteBatch { statement, sets: &sets })
    }

    /// Adds preparing a statement; its result has it.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn prepare(&mut self, sql: &str) -> PgResult<usize> {
        self.add(Request::Prepare { sql, types: &[] })
    }

    /// Ends the group: what follows does not depend on what was added before.
    ///
    /// # Errors
    ///
    /// None that are not told by the results; the connection may be
    /// [broken](PgConnection::is_broken).
    pub fn sync(&mut self) -> PgResult<()> {
        self.end_group();
        self.connection.flush();
        Ok(())
    }

    /// Ends the last group, waits for all answers, and returns them in the order in which the
    /// requests were added.
    ///
    /// # Errors
    ///
    /// None of a request: each has its own in the list. What broke the connection is in the list
    /// too.
    pub fn finish(mut self) -> PgResult<Vec<PgResult<PipelineResult>>> {
        self.end_group();
        while let Some(ticket) = self.tickets.front().copied() {
            let result = self.connection.result_of(ticket);
            self.tickets.pop_front();
            self.results.push(result.map(PipelineResult::from));
        }
        Ok(std::mem::take(&mut self.results))
    }

    fn add(&mut self, request: Request<'_>) -> PgResult<usize> {
        if self.first.is_none() {
            self.connection.begin_call()?;
        }
        let submit = Submit::new(Delivery::Collect).no_sync();
        loop {
            match self.connection.engine.submit(request, submit) {
                Err(PgError::WouldBlock) => self.make_room()?,
                Err(error) => return Err(error),
                Ok(ticket) => {
                    self.first.get_or_insert(ticket);
                    self.tickets.push_back(ticket);
                    self.count += 1;
                    return Ok(self.count - 1);
                }
            }
        }
    }

    /// Ends the open group, if it is one of this pipeline.
    fn end_group(&mut self) {
        if self.first.is_some() {
            self.connection.engine.end_group();
        }
    }

    /// A limit is reached: takes results, or waits for some.
    fn make_room(&mut self) -> PgResult<()> {
        let before = self.tickets.len();
        self.take_results();
        if self.tickets.len() < before {
            return Ok(());
        }
        if self.connection.engine.is_full_of_open_group() {
            return Err(PgError::Usage(
                "the group has as many requests as may be in flight (max_in_flight): call sync"
                    .to_owned(),
            ));
        }
        if self.connection.engine.in_flight() == 0 {
            // It is full of results that the program has not taken.
            return Err(PgError::WouldBlock);
        }
        let limit = self.connection.operation_deadline();
        self.connection.wait_for_room(limit)
    }

    /// Takes the results that are there.
    fn take_results(&mut self) {
        while let Some(ticket) = self.tickets.front() {
            let result = match self.connection.engine.take(*ticket) {
                Ok(None) => return,
                Ok(Some(outcome)) => Ok(outcome.into()),
                Err(error) => Err(error),
            };
            self.results.push(result);
            self.tickets.pop_front();
        }
    }
}

impl PgConnection {
    /// Waits for the result of a request without a deadline of its own: from now on it has one.
    pub(super) fn result_of(&mut self, ticket: Ticket) -> PgResult<Outcome> {
        if let Some(outcome) = self.engine.take(ticket)? {
            return Ok(outcome);
        }
        let deadline = self.operation_deadline();
        self.engine.set_deadline(ticket, deadline);
        self.finish(ticket)
    }
}

/// Never waits: the last group is taken back, or ended if a part of it was sent; answers are drained
/// by later calls.
impl Drop for Pipeline<'_> {
    fn drop(&mut self) {
        if self.first.is_some() {
            self.connection.engine.drop_open_group();
        }
        // What was ended with a Sync is not taken back.
        self.connection.flush();
        // What became of its requests was told by their results, or nobody wants to know.
        let first = self.first;
        self.connection.set_aside.retain(|event| first.is_none() || event.ticket() < first);
        let patience = self.connection.patience();
        for ticket in std::mem::take(&mut self.tickets) {
            self.connection.engine.leave(ticket, patience);
        }
    }
}
