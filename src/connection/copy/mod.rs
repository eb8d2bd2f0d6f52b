//! COPY on the blocking face: rows in bulk, in and out.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | beginning a COPY, what both directions have in common |
//! | `statement.rs` | table, columns and options as data, and the SQL text of them |
//! | `format.rs` | rows as lines of text and CSV |
//! | `binary.rs` | what stands around and between the rows of a binary COPY |
//! | `writer.rs` | [`CopyWriter`]: data and rows to the server |
//! | `reader.rs` | [`CopyReader`]: data and rows from the server |
//! | `insert_many.rs` | many rows into a table, whichever way is faster |
//!
//! The engine sends and receives the data; how rows look in them is known here. The non-blocking face
//! of a COPY is [`Request::CopyIn`] and [`Request::CopyOut`].

mod binary;
mod format;
mod insert_many;
mod reader;
mod statement;
mod writer;

use std::rc::Rc;

pub use self::reader::CopyReader;
pub use self::statement::{CopyFormat, CopyIn, CopyOptions, CopyOut, TableName};
pub use self::writer::CopyWriter;

use super::{CommandTag, Delivery, Event, PgConnection, Submit, Ticket};
use crate::config::ExecutionMode;
use crate::engine::{Message, Request, Step};
use crate::error::{PgError, PgResult};
use crate::row::Column;
use crate::types::{Format, Oid, Target, TypeMap};

impl PgConnection {
    /// Begins a COPY from the program into a table.
    ///
    /// `statement` is a [`CopyIn`], or the text of a `COPY ... FROM STDIN`. With a [`CopyIn`] the
    /// writer knows format and options, and takes rows; with a text that has options of its own it
    /// takes data only ([`CopyWriter::write_data`]).
    ///
    /// In binary format the columns are described first, so that each value goes as its column's type
    /// exactly or is refused: in a COPY the server coerces nothing.
    ///
    /// Should somebody alter a column's type between that and the COPY, the server takes the bytes for
    /// the new type: it refuses what is not as long as the new type's values are, but it stores an
    /// `int8` in a column that has become `float8` as another number, without an error. That cannot
    /// happen inside of a transaction that has read or locked the table before, because ALTER TABLE
    /// waits for its end.
    ///
    /// ```no_run
    /// # use chopin_pg::{CopyIn, CopyOptions, PgConfig, PgConnection, PgResult};
    /// # fn main() -> PgResult<()> {
    /// # let mut connection = PgConnection::connect(&PgConfig::from_url("")?)?;
    /// let copy = CopyIn::table("works").columns(["id", "title"]).options(CopyOptions::binary());
    /// let mut writer = connection.copy_in(copy)?;
    /// writer.write_row((1, "Ballade No. 1"))?;
    /// writer.write_row((2, None::<&str>))?;
    /// assert_eq!(writer.finish()?, 2);
    ///
    /// let mut writer = connection.copy_in("copy works (id, title) from stdin (format csv)")?;
    /// writer.write_data(b"3,\"Ballade, No. 3\"\n")?;
    /// writer.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query). [`PgError::Usage`] for anything but one COPY FROM STDIN: nothing is
    /// sent then.
    pub fn copy_in(&mut self, statement: impl Into<CopyIn>) -> PgResult<CopyWriter<'_>> {
        let statement = statement.into();
        let options = statement.known_options();
        let is_binary = options.is_some_and(|options| options.format() == CopyFormat::Binary);
        let targets = match statement.target().filter(|_| is_binary) {
            Some(target) => self.describe_targets(&target.describing_query())?,
            None => Vec::new(),
        };
        let running = Running::start(self, Request::CopyIn { sql: &statement.sql() })?;
        CopyWriter::new(running, &statement, targets)
    }

    /// Begins a COPY from a table or query to the program.
    ///
    /// `statement` is a [`CopyOut`], or the text of a `COPY ... TO STDOUT`. With a [`CopyOut`] the
    /// columns are described first, and the reader gives rows whose cells are read as any type that
    /// goes with the column's, in every format. With a text that has no options it gives rows of
    /// text, else data only.
    ///
    /// ```no_run
    /// # use chopin_pg::{CopyOptions, CopyOut, PgConfig, PgConnection, PgResult};
    /// # fn main() -> PgResult<()> {
    /// # let mut connection = PgConnection::connect(&PgConfig::from_url("")?)?;
    /// let copy = CopyOut::query("select id, title from works").options(CopyOptions::binary());
    /// let mut reader = connection.copy_out(copy)?;
    /// while let Some(row) = reader.next_row()? {
    ///     let (id, title): (i32, Option<&str>) = row.to()?;
    ///     println!("{id}: {title:?}");
    /// }
    /// reader.finish()?;
    ///
    /// let mut file = std::fs::File::create("works.csv")?;
    /// let mut reader = connection.copy_out("copy works to stdout (format csv, header)")?;
    /// std::io::copy(&mut reader, &mut file)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`copy_in`](Self::copy_in).
    pub fn copy_out(&mut self, statement: impl Into<CopyOut>) -> PgResult<CopyReader<'_>> {
        let statement = statement.into();
        let columns = match statement.describing_query() {
            Some(query) => Some(self.describe(&query)?),
            None => None,
        };
        let running = Running::start(self, Request::CopyOut { sql: &statement.sql() })?;
        CopyReader::new(running, &statement, columns)
    }

    /// The columns of a query, without running it.
    fn describe(&mut self, sql: &str) -> PgResult<Vec<Column>> {
        let request = Request::Prepare { sql, types: &[] };
        // There is nothing to close afterwards.
        let outcome = self.ask_in(Some(ExecutionMode::Unnamed), request)?;
        Ok(outcome.statement().map(|statement| statement.columns().to_vec()).unwrap_or_default())
    }

    /// What the values of a query's columns have to become, with the columns' names.
    fn describe_targets(&mut self, sql: &str) -> PgResult<Vec<(Box<str>, Target)>> {
        let columns = self.describe(sql)?;
        let is_unknown = |column: &&Column| TypeMap::builtin().info(column.oid).is_none();
        let unknown: Vec<u32> =
            columns.iter().filter(is_unknown).map(|column| column.oid.get()).collect();
        let text = if unknown.is_empty() { Vec::new() } else { self.text_types(unknown)? };
        let target = |column: Column| {
            let target = Target::new(column.oid, text.contains(&column.oid));
            (column.name, target)
        };
        Ok(columns.into_iter().map(target).collect())
    }

    /// Those of some types of which the binary form is the text: enums, and citext.
    fn text_types(&mut self, types: Vec<u32>) -> PgResult<Vec<Oid>> {
        let sql = "select t.oid from pg_catalog.pg_type t join pg_catalog.pg_proc p \
                   on p.oid = t.typreceive where t.oid = any($1) and p.proname in \
                   ('enum_recv', 'textrecv', 'varcharrecv', 'bpcharrecv', 'citextrecv')";
        let rows = self.query_in(ExecutionMode::Unnamed, sql, (types,))?;
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Gives up a COPY whose handle was forgotten instead of dropped: nobody can go on with it.
    #[cold]
    pub(super) fn give_up_forgotten_copy(&mut self) {
        if let Some(ticket) = self.copy.take() {
            self.stop(ticket);
        }
    }
}

/// A COPY that a handle was made for.
#[derive(Debug)]
struct Running<'c> {
    connection: &'c mut PgConnection,
    ticket: Ticket,
    /// Format and number of columns, as the server has announced them.
    began: Option<(Format, usize)>,
    /// Its terminal event has come.
    ended: bool,
    /// Why it failed, if it did.
    failure: Option<PgError>,
    /// There is a deadline for what is waited for.
    waited: bool,
}

/// What was found by one step over what has been received.
#[derive(Clone, Copy, Debug)]
enum Found {
    /// A piece of data.
    Data(Message),
    /// Something else, which has been dealt with.
    Other,
    /// Nothing more is here.
    Nothing,
}

impl<'c> Running<'c> {
    /// Sends the statement, and waits until the server has begun with it.
    fn start(connection: &'c mut PgConnection, request: Request<'_>) -> PgResult<Self> {
        connection.last_tag = CommandTag::EMPTY;
        let submit = Submit::new(Delivery::Rows).deadline(connection.operation_deadline());
        let ticket = connection.submit_blocking(request, submit)?;
        connection.copy = Some(ticket);
        connection.flush();
        let mut running =
            Self { connection, ticket, began: None, ended: false, failure: None, waited: true };
        while running.began.is_none() && !running.ended {
            if matches!(running.step()?, Found::Nothing) {
                running.wait();
            }
        }
        Ok(running)
    }

    /// The format that the server has announced, and the number of columns.
    fn announced(&self) -> (Format, usize) {
        self.began.unwrap_or((Format::Text, 0))
    }

    /// Why it failed, if it did: said again to who goes on all the same.
    #[inline]
    fn check(&self) -> PgResult<()> {
        match &self.failure {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Looks at the next of what has been received.
    #[inline]
    fn step(&mut self) -> PgResult<Found> {
        if self.ended {
            return Ok(Found::Nothing);
        }
        match self.connection.engine.advance() {
            Step::Starved => Ok(Found::Nothing),
            Step::CopyData => Ok(Found::Data(self.connection.engine.found())),
            Step::Broken => {
                let error = self.connection.engine.breakage();
                Err(self.failed(error))
            }
            step => self.other(step),
        }
    }

    #[cold]
    fn other(&mut self, step: Step) -> PgResult<Found> {
        match self.connection.engine.own_event(step) {
            Some(Event::Complete { ticket }) if ticket == self.ticket => {
                self.connection.last_tag = *self.connection.engine.last_tag();
                self.end();
            }
            Some(Event::Failed { ticket, error }) if ticket == self.ticket => {
                return Err(self.failed(error));
            }
            Some(
                Event::CopyIn { ticket, format, columns }
                | Event::CopyOut { ticket, format, columns },
            ) if ticket == self.ticket => self.began = Some((format, columns)),
            Some(event) => self.connection.keep_event(event),
            None => {}
        }
        Ok(Found::Other)
    }

    fn failed(&mut self, error: PgError) -> PgError {
        self.failure = Some(error.clone());
        self.end();
        error
    }

    fn end(&mut self) {
        self.ended = true;
        self.connection.copy = None;
    }

    /// What follows is a step of its own: it has the whole time, or what is left of the
    /// [scope](PgConnection::within). Whether it is the whole time.
    fn renew_deadline(&mut self) -> bool {
        let deadline = self.connection.operation_deadline();
        self.connection.engine.set_deadline(self.ticket, deadline);
        self.waited = true;
        deadline.is_none_or(|limit| limit.is_for_a_step())
    }

    /// [`renew_deadline`](Self::renew_deadline) of a step that is not to begin when the scope has
    /// ended.
    fn begin_step(&mut self) -> PgResult<()> {
        if !self.renew_deadline() && self.connection.something_is_late() {
            self.take_events()?;
        }
        Ok(())
    }

    /// Moves bytes, and waits if there is nothing to move. The time for that begins with the first
    /// wait of a step. The end of a scope is not put off by data that keep coming.
    fn wait(&mut self) {
        let has_time = !self.waited && self.renew_deadline();
        if has_time || !self.connection.something_is_late() {
            self.connection.turn(None);
        }
    }

    /// Sends something, or waits until that is possible; takes the events of what has come meanwhile.
    fn send_some(&mut self) -> PgResult<()> {
        if !self.connection.something_is_late() {
            self.connection.turn_to_send();
        }
        self.take_events()
    }

    /// Takes the events of what has been received.
    fn take_events(&mut self) -> PgResult<()> {
        while !matches!(self.step()?, Found::Nothing) {}
        Ok(())
    }

    /// Waits for the end of the COPY, dropping what data come.
    fn wait_for_end(&mut self) -> PgResult<()> {
        self.waited = false;
        while !self.ended {
            match self.step()? {
                Found::Nothing => self.wait(),
                Found::Data(_) => self.waited = false,
                Found::Other => {}
            }
        }
        self.check()
    }
}

/// Never waits: a COPY to the server is given up, the rest of one from it is drained, or cancelled, by
/// later calls.
impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.copy = None;
            self.connection.stop(self.ticket);
            // The server is told at once, as far as the socket takes it.
            self.connection.flush();
        }
    }
}

/// The columns of rows that the server has not described: as many as it has announced, of text.
fn text_columns(count: usize) -> Rc<[Column]> {
    let column = |index: usize| Column {
        name: format!("column{}", index + 1).into(),
        oid: Oid::TEXT,
        format: Format::Text,
        table_oid: 0,
        column_number: 0,
        type_length: -1,
        type_modifier: -1,
    };
    (0..count).map(column).collect()
}
