//! Streaming rows: one at a time, borrowed, in bounded memory.

use std::rc::Rc;

use super::{CommandTag, Delivery, Event, PgConnection, Submit, Ticket};
use crate::engine::{Message, Request, Step};
use crate::error::PgResult;
use crate::row::{Column, RowRef};
use crate::types::Params;

/// The rows of a query as they come, from [`PgConnection::stream`].
///
/// Not an iterator: each row borrows the receive buffer, and is gone with the next call of
/// [`next`](Self::next).
///
/// ```no_run
/// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
/// let mut rows = connection.stream("select id, title from works order by id", ())?;
/// while let Some(row) = rows.next()? {
///     let (id, title): (i32, &str) = row.to()?;
///     println!("{id}: {title}");
/// }
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// Only as much is in memory as is received at once; a server that sends faster than the program
/// reads is held back by its socket. The program may take its time between two rows:
/// [`io_timeout`](PgConnection::io_timeout) bounds the wait for each.
///
/// Dropped before the end, it never waits: the rest is drained by later calls, and if that takes
/// longer than [`drain_timeout`](crate::PgConfig::drain_timeout), the connection is broken.
#[derive(Debug)]
#[must_use = "a stream that is dropped at once has sent its query for nothing"]
pub struct Rows<'c> {
    connection: &'c mut PgConnection,
    ticket: Ticket,
    columns: Option<Rc<[Column]>>,
    tag: CommandTag,
    state: State,
    /// The call that is being made has waited already.
    waited: bool,
}

/// Where the stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first row of a result, or between two.
    Streaming,
    /// A result has ended; the columns of another one may follow.
    EndOfResult,
    /// The columns of the next result have come.
    NextResult,
    /// The request has ended.
    Done,
}

/// What came next.
enum Found {
    Row(Message),
    /// A result's end, or that of the request.
    End,
}

impl PgConnection {
    /// Runs one statement with parameters and returns its rows as they come.
    ///
    /// The first row is not waited for; an error of the server comes from
    /// [`Rows::next`].
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), as far as the request could not be queued.
    pub fn stream(&mut self, sql: &str, params: impl Params) -> PgResult<Rows<'_>> {
        self.stream_request(Request::Query { sql, params: &params })
    }

    /// [`stream`](Self::stream) of a prepared statement.
    ///
    /// # Errors
    ///
    /// As [`stream`](Self::stream).
    pub fn stream_prepared(
        &mut self,
        statement: &super::Statement,
        params: impl Params,
    ) -> PgResult<Rows<'_>> {
        self.stream_request(Request::Execute { statement, params: &params })
    }

    /// Runs a string of statements without parameters (the simple protocol) and returns their rows
    /// as they come: [`Rows::next_result`] leads from one result to the next.
    ///
    /// # Errors
    ///
    /// As [`stream`](Self::stream).
    pub fn stream_simple(&mut self, sql: &str) -> PgResult<Rows<'_>> {
        self.stream_request(Request::Simple { sql })
    }

    fn stream_request(&mut self, request: Request<'_>) -> PgResult<Rows<'_>> {
        self.last_tag = CommandTag::EMPTY;
        let submit = Submit::new(Delivery::Events).deadline(self.operation_deadline());
        let ticket = self.submit_blocking(request, submit)?;
        let (tag, state) = (CommandTag::EMPTY, State::Streaming);
        Ok(Rows { connection: self, ticket, columns: None, tag, state, waited: false })
    }
}

impl Rows<'_> {
    /// The next row, `None` at the end of the result.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`]. After an error there are no more rows. Rows that came before it
    /// may be of a command that the server has rolled back.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "each row borrows the stream")]
    pub fn next(&mut self) -> PgResult<Option<RowRef<'_>>> {
        match self.find()? {
            Found::Row(message) => Ok(self.connection.engine.row(message)),
            Found::End => Ok(None),
        }
    }

    /// The columns of the current result, waiting for them if they have not come yet; empty for a
    /// statement that returns no rows.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn columns(&mut self) -> PgResult<&[Column]> {
        self.waited = false;
        while self.columns.is_none() && self.state == State::Streaming {
            match self.step()? {
                Some(Found::Row(_)) => break,
                Some(Found::End) | None => {}
            }
        }
        Ok(self.columns.as_deref().unwrap_or_default())
    }

    /// Goes on to the next result of a string of statements, passing over what is left of this one;
    /// `false` when there is none.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn next_result(&mut self) -> PgResult<bool> {
        while let Found::Row(_) = self.find()? {}
        while self.state == State::EndOfResult {
            self.step()?;
        }
        if self.state == State::NextResult {
            self.state = State::Streaming;
        }
        Ok(self.state == State::Streaming)
    }

    /// Calls `work` for each row that is left of the result; returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next), and what `work` returns: the stream can go on after it.
    pub fn for_each(&mut self, mut work: impl FnMut(RowRef<'_>) -> PgResult<()>) -> PgResult<u64> {
        let mut count = 0;
        while let Some(row) = self.next()? {
            count += 1;
            work(row)?;
        }
        Ok(count)
    }

    /// The tag of the last command that has ended, such as `SELECT 12`; empty before its end.
    pub fn command_tag(&self) -> &str {
        self.tag.as_str()
    }

    /// Passes over what is left of all results and waits for the end of the request: only then it
    /// is certain that it succeeded. Returns the number of rows that the last command touched.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn finish(mut self) -> PgResult<u64> {
        while self.next_result()? {}
        Ok(self.tag.rows().unwrap_or(0))
    }

    /// The next row, or the end of the result; of the last one the end of the request.
    #[inline]
    fn find(&mut self) -> PgResult<Found> {
        self.waited = false;
        while self.state == State::Streaming || self.state == State::EndOfResult {
            match self.step()? {
                Some(found @ Found::Row(_)) => return Ok(found),
                Some(Found::End) => break,
                None => {}
            }
        }
        Ok(Found::End)
    }

    /// Takes one event, or waits for more bytes.
    #[inline]
    fn step(&mut self) -> PgResult<Option<Found>> {
        match self.connection.engine.advance() {
            Ok(Some(Step::Row(message))) => Ok(Some(Found::Row(message))),
            Ok(Some(step)) => self.other(step),
            Ok(None) => {
                self.wait();
                Ok(None)
            }
            Err(error) => {
                self.state = State::Done;
                Err(error)
            }
        }
    }

    /// A step that found no row.
    fn other(&mut self, step: Step) -> PgResult<Option<Found>> {
        let connection = &mut *self.connection;
        match step {
            Step::Columns => {
                self.columns = connection.engine.current_columns().cloned();
                if self.state == State::EndOfResult {
                    self.state = State::NextResult;
                    return Ok(Some(Found::End));
                }
            }
            Step::Command(_, tag) => {
                self.tag = tag;
                self.state = State::EndOfResult;
            }
            Step::Complete(ticket) if ticket == self.ticket => {
                connection.last_tag = self.tag;
                self.state = State::Done;
                return Ok(Some(Found::End));
            }
            Step::Complete(ticket) => connection.keep_event(Event::Complete { ticket }),
            Step::Pending => match connection.engine.pop_pending() {
                Some(Event::Failed { ticket, error }) if ticket == self.ticket => {
                    self.state = State::Done;
                    return Err(error);
                }
                event => event.into_iter().for_each(|event| connection.keep_event(event)),
            },
            Step::Row(_) | Step::Consumed | Step::Starved => {}
        }
        Ok(None)
    }

    /// Waits for more bytes. The time for that begins when the program wants the next row.
    fn wait(&mut self) {
        let connection = &mut *self.connection;
        if !std::mem::replace(&mut self.waited, true) {
            let deadline = connection.operation_deadline();
            connection.engine.set_deadline(self.ticket, deadline);
        } else if connection.something_is_late() {
            return;
        }
        connection.turn(None);
    }
}

/// Never waits: what is left is drained by later calls.
impl Drop for Rows<'_> {
    fn drop(&mut self) {
        if self.state != State::Done {
            self.connection.discard(self.ticket);
        }
    }
}
