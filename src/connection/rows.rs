//! Streaming rows: one at a time, borrowed, in bounded memory.

use std::rc::Rc;
use std::time::Instant;

use super::{CommandTag, Deadline, Delivery, Event, PgConnection, Submit, Ticket};
use crate::config::ExecutionMode;
use crate::engine::{Request, Step};
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
/// # Dropped before the end
///
/// That never waits. The next call drains the rest before it sends anything, and if the rest does
/// not end soon, it has the server cancel the statement: a SELECT, VALUES or TABLE outside of a
/// transaction after a tenth of [`drain_timeout`](crate::PgConfig::drain_timeout) (half a second
/// unless set), because nothing is lost by that; everything else after the whole of it, because a
/// cancel undoes the statement's work and fails its transaction. If it has not ended within
/// `drain_timeout` after that, the connection is broken.
///
/// A query of which nothing could be sent yet, because another one is still being drained, is taken
/// back: it is not run.
///
/// So whoever wants the work done calls [`finish`](Self::finish), and whoever wants no more of it and
/// no wait calls [`cancel`](Self::cancel).
#[derive(Debug)]
#[must_use = "a stream that is dropped at once has sent its query for nothing"]
pub struct Rows<'c> {
    connection: &'c mut PgConnection,
    ticket: Ticket,
    columns: Option<Rc<[Column]>>,
    tag: CommandTag,
    state: State,
    /// How the next result begins, in [`State::NextResult`].
    next: Option<Box<Beginning>>,
    /// A row that was met on the way to the columns.
    ahead: bool,
    /// The next row has been waited for in this call, until this moment at most. Each has its own
    /// deadline: the program may take its time between two.
    waited: bool,
    until: Option<Deadline>,
}

/// Where the stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first row of a result, or between two.
    Streaming,
    /// A result has ended; another one may follow.
    EndOfResult,
    /// The next result has begun.
    NextResult,
    /// The request has ended.
    Done,
}

/// What the next result of a string of statements begins with.
#[derive(Debug)]
enum Beginning {
    /// Its columns.
    Columns(Option<Rc<[Column]>>),
    /// Its end: the command returns no rows.
    End(CommandTag),
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
    /// as they come: [`Rows::next_result`] leads from the result of one statement to that of the
    /// next.
    ///
    /// # Errors
    ///
    /// As [`stream`](Self::stream).
    pub fn stream_simple(&mut self, sql: &str) -> PgResult<Rows<'_>> {
        self.stream_request(Request::Simple { sql })
    }

    #[inline(always)]
    pub(super) fn stream_request(&mut self, request: Request<'_>) -> PgResult<Rows<'_>> {
        self.last_tag.clear();
        // Only a string of statements has several results to keep apart.
        let several = match request {
            Request::Simple { .. } => true,
            Request::Query { .. } => self.execution_mode() == ExecutionMode::Simple,
            _ => false,
        };
        let delivery = if several { Delivery::Events } else { Delivery::Rows };
        // Its deadline begins when the first row is waited for.
        let ticket = self.submit_blocking(request, Submit::new(delivery))?;
        self.flush();
        Ok(Rows::new(self, ticket, State::Streaming))
    }
}

impl<'c> Rows<'c> {
    #[inline]
    fn new(connection: &'c mut PgConnection, ticket: Ticket, state: State) -> Self {
        let (columns, tag, next, until) = (None, CommandTag::EMPTY, None, None);
        let (ahead, waited) = (false, false);
        Self { connection, ticket, columns, tag, state, next, ahead, waited, until }
    }

    /// A stream of nothing.
    pub(super) fn ended(connection: &'c mut PgConnection) -> Self {
        connection.last_tag.clear();
        Self::new(connection, Ticket::NONE, State::Done)
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
        if !self.ahead {
            // Nearly always the next row is here.
            if let Some(message) = self.connection.engine.next_of_run() {
                return Ok(self.connection.engine.row_of_run(message));
            }
        }
        self.find_row()
    }

    /// [`next`](Self::next) of a row that does not follow right behind another one.
    #[inline(never)]
    fn find_row(&mut self) -> PgResult<Option<RowRef<'_>>> {
        if !self.find(false)? {
            return Ok(None);
        }
        Ok(self.connection.engine.row())
    }

    /// The columns of the current result, waiting for them if they have not come yet; empty for a
    /// statement that returns no rows.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn columns(&mut self) -> PgResult<&[Column]> {
        if self.columns.is_none() && !self.ahead && self.state == State::Streaming {
            self.ahead = self.find(true)?;
            if self.ahead {
                self.columns = self.connection.engine.current_columns().cloned();
            }
        }
        Ok(self.columns.as_deref().unwrap_or_default())
    }

    /// Goes on to the result of the next one of a string of statements, passing over what is left of
    /// this one; `false` when there is none. Every statement has a result, if maybe without columns.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn next_result(&mut self) -> PgResult<bool> {
        while self.find(false)? {}
        (self.columns, self.tag, self.state) = match self.next.take().map(|next| *next) {
            Some(Beginning::Columns(columns)) => (columns, CommandTag::EMPTY, State::Streaming),
            Some(Beginning::End(tag)) => (None, tag, State::EndOfResult),
            None => return Ok(false),
        };
        Ok(true)
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

    /// The tag of the result's command, such as `SELECT 12`; empty before its end.
    pub fn command_tag(&self) -> &str {
        match self.state {
            State::Done => self.connection.last_tag.as_str(),
            _ => self.tag.as_str(),
        }
    }

    /// Passes over what is left of all results and waits for the end of the request: only then it
    /// is certain that it succeeded. Returns the number of rows that the last command touched.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn finish(mut self) -> PgResult<u64> {
        while self.next_result()? {}
        Ok(self.connection.last_affected_rows())
    }

    /// Ends the stream now: has the server cancel the statement, and waits until it has ended. What
    /// it has done is undone; a transaction that it is part of has failed then, unless it came to its
    /// end before the cancel reached it.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// let mut rows = connection.stream("select * from measurements", ())?;
    /// for _ in 0..3 {
    ///     let _row = rows.next()?;
    /// }
    /// rows.cancel()?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What broke the connection: also that the statement has not ended within
    /// [`drain_timeout`](crate::PgConfig::drain_timeout).
    pub fn cancel(mut self) -> PgResult<()> {
        if self.state == State::Done {
            return Ok(());
        }
        self.state = State::Done;
        self.connection.stop_now(self.ticket)
    }

    /// Finds the next row; `false` at the end of the result, of the last one at the end of the
    /// request, or where the columns are, or would be, if these are asked for.
    #[inline]
    fn find(&mut self, columns: bool) -> PgResult<bool> {
        if std::mem::take(&mut self.ahead) {
            return Ok(true);
        }
        // The program may have taken its time since the last call.
        self.waited = false;
        while self.state == State::Streaming || self.state == State::EndOfResult {
            match self.connection.engine.advance() {
                Step::Row => return Ok(true),
                Step::Columns => {
                    let found = self.connection.engine.current_columns().cloned();
                    if self.state == State::EndOfResult {
                        self.next_begins(Beginning::Columns(found));
                    } else {
                        self.columns = found;
                    }
                    if columns {
                        break;
                    }
                }
                Step::Command => {
                    let tag = self.connection.engine.command_tag();
                    if self.state == State::EndOfResult {
                        self.next_begins(Beginning::End(tag));
                    } else {
                        (self.tag, self.state) = (tag, State::EndOfResult);
                    }
                    if columns {
                        break;
                    }
                }
                Step::Complete if self.connection.engine.whose() == self.ticket => {
                    let connection = &mut *self.connection;
                    if self.state == State::Streaming {
                        self.columns = connection.engine.take_last_columns();
                        connection.last_tag = *connection.engine.last_tag();
                    } else {
                        connection.last_tag = self.tag;
                    }
                    self.state = State::Done;
                }
                Step::Starved => self.wait(),
                Step::Broken => {
                    self.state = State::Done;
                    return Err(self.connection.engine.breakage());
                }
                step => self.other(step)?,
            }
        }
        Ok(false)
    }

    fn next_begins(&mut self, with: Beginning) {
        (self.next, self.state) = (Some(Box::new(with)), State::NextResult);
    }

    /// An event that is not about the stream, or its failure.
    #[cold]
    fn other(&mut self, step: Step) -> PgResult<()> {
        match self.connection.engine.own_event(step) {
            Some(Event::Failed { ticket, error }) if ticket == self.ticket => {
                self.state = State::Done;
                Err(error)
            }
            Some(event) => {
                self.connection.keep_event(event);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Waits for more bytes. The time for that begins when the program wants the next row.
    fn wait(&mut self) {
        let connection = &mut *self.connection;
        if !std::mem::replace(&mut self.waited, true) {
            self.until = connection.begin_operation();
        } else {
            // The engine is told of it only when it is over, which is rare.
            if self.until.is_some_and(|until| until.at <= Instant::now()) {
                connection.engine.set_deadline(self.ticket, self.until);
            }
            if connection.something_is_late() {
                return;
            }
        }
        connection.turn(self.until.map(|until| until.at));
    }
}

/// Never waits: what is left is drained, or cancelled, by later calls.
impl Drop for Rows<'_> {
    fn drop(&mut self) {
        if self.state != State::Done {
            self.connection.stop(self.ticket);
        }
    }
}
