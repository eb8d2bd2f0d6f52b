//! Data and rows to the server.

use std::io;

use super::Running;
use super::binary::{HEADER, TRAILER};
use super::format::write_cell;
use super::statement::{CopyFormat, CopyIn, CopyOptions, identifiers};
use crate::error::{PgError, PgResult, SqlState};
use crate::types::{
    Encoded, Format, Out, ParamVisitor, Params, Target, ToSql, TypeMap, encode_cell, encode_text,
};

/// How much is put together before it is handed to the connection, in bytes.
const STAGE: usize = 32 * 1024;

/// How much is handed to the connection at once, in bytes. What the socket does not take of it is
/// queued, and so little that the queue's memory can be kept.
const PIECE: usize = 48 * 1024;

/// A COPY from the program into a table, from [`PgConnection::copy_in`](crate::PgConnection::copy_in).
///
/// Rows are taken by [`write_row`](Self::write_row), data as they are by
/// [`write_data`](Self::write_data); it is an [`io::Write`] too, and needs no buffer around it.
/// [`finish`](Self::finish) ends it: only then the rows are stored, all of them or none.
///
/// The program may take its time between two calls: [`io_timeout`](crate::PgConnection::io_timeout)
/// bounds the time in which nothing moves while a call waits. Inside of a
/// [scope](crate::PgConnection::within) the whole COPY ends with it: nothing is stored then, unless
/// `finish` was waiting already.
///
/// An error of the server ends the COPY. It comes from one of the next calls, at the latest from
/// `finish`, and from every call after it.
///
/// # Dropped before its end
///
/// That never waits. It gives the COPY up ([`fail`](Self::fail)): the server stores nothing. The next
/// call waits for the end before it sends anything. A server that does not come to it within a tenth
/// of [`drain_timeout`](crate::PgConfig::drain_timeout), because it is busy with the rows that it has
/// or waits for a lock, is told to cancel the COPY; if it has not ended within `drain_timeout` after
/// that, the connection is broken.
#[derive(Debug)]
#[must_use = "a COPY that is not finished stores nothing"]
pub struct CopyWriter<'c> {
    running: Running<'c>,
    layout: Layout,
    /// What has been written and not handed to the connection: whole rows, and behind them maybe a
    /// row whose writing has panicked.
    staged: Vec<u8>,
    /// How much of it is whole rows.
    whole: usize,
    /// Data were written that are not rows.
    has_data: bool,
    rows: usize,
}

/// How rows look.
#[derive(Debug)]
enum Layout {
    /// The statement has options of its own.
    Unknown,
    /// Lines, the first of which may have the names of the columns.
    Lines { options: CopyOptions, header: String },
    /// Binary, with the names and types of the columns.
    Binary(Vec<(Box<str>, Target)>),
}

impl<'c> CopyWriter<'c> {
    pub(super) fn new(
        running: Running<'c>,
        statement: &CopyIn,
        targets: Vec<(Box<str>, Target)>,
    ) -> PgResult<Self> {
        let (format, columns) = running.announced();
        let layout = match (statement.known_options(), format) {
            (Some(options), Format::Binary) if options.format() == CopyFormat::Binary => {
                if targets.len() != columns {
                    return Err(PgError::Usage(
                        "the table has columns that cannot be written: name those that are to be"
                            .to_owned(),
                    ));
                }
                Layout::Binary(targets)
            }
            (Some(options), Format::Text) => {
                let names = statement.target().map(|target| identifiers(&target.names));
                Layout::Lines { options: options.clone(), header: names.unwrap_or_default() }
            }
            _ => Layout::Unknown,
        };
        let staged = Vec::with_capacity(STAGE + STAGE / 4);
        Ok(Self { running, layout, staged, whole: 0, has_data: false, rows: 0 })
    }

    /// Writes data as they are, in the format of the COPY: the end of a call has no meaning.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`](crate::PgConnection::query); the server's error if it has ended the
    /// COPY, also for what was written before.
    pub fn write_data(&mut self, data: &[u8]) -> PgResult<()> {
        self.running.check()?;
        self.has_data = true;
        self.staged.truncate(self.whole);
        if data.len() < STAGE {
            self.staged.extend_from_slice(data);
            self.whole = self.staged.len();
            return self.hand_over_if_much();
        }
        self.hand_over()?;
        self.push(data)
    }

    /// Writes a row: a tuple, array, slice or vector of values with one for each column.
    ///
    /// In text format and CSV a value goes as its text, which the server reads as the column's type,
    /// as it reads a literal in quotes. In binary a value goes as the column's type exactly, or is
    /// refused: an `i32` goes into `bigint` and `numeric`, but an `i64` never into `timestamp`, and a
    /// number that does not fit into its column is an error.
    ///
    /// ```no_run
    /// # use chopin_pg::{CopyIn, CopyOptions, PgConfig, PgConnection, PgResult};
    /// # fn main() -> PgResult<()> {
    /// # let mut connection = PgConnection::connect(&PgConfig::from_url("")?)?;
    /// let mut writer = connection.copy_in(CopyIn::table("works").options(CopyOptions::csv()))?;
    /// writer.write_row((1, "Ballade, No. 1", 1835))?;
    /// writer.write_row([Some("2"), None, Some("1839")])?;
    /// writer.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`PgError::Parameter`] for a value that cannot be sent: it names row, column and both types.
    /// [`PgError::Usage`] for another number of values than columns, and when the COPY was given as a
    /// text with options: give [`copy_in`](crate::PgConnection::copy_in) a [`CopyIn`] then. Nothing
    /// of such a row is sent, and the next one may be written. Else as
    /// [`write_data`](Self::write_data).
    #[inline]
    pub fn write_row(&mut self, row: impl Params) -> PgResult<()> {
        self.running.check()?;
        self.staged.truncate(self.whole);
        let written = match &self.layout {
            Layout::Binary(_) => self.stage_binary(&row),
            Layout::Lines { .. } => self.stage_line(&row),
            Layout::Unknown => Err(no_rows()),
        };
        if let Err(error) = written {
            self.staged.truncate(self.whole);
            return Err(error);
        }
        self.whole = self.staged.len();
        self.rows += 1;
        self.hand_over_if_much()
    }

    /// How many rows were written by [`write_row`](Self::write_row).
    pub fn rows_written(&self) -> usize {
        self.rows
    }

    /// Ends the COPY; returns the number of rows that the server has stored.
    ///
    /// # Errors
    ///
    /// As [`write_data`](Self::write_data): then nothing is stored.
    pub fn finish(mut self) -> PgResult<u64> {
        self.running.check()?;
        self.staged.truncate(self.whole);
        if matches!(self.layout, Layout::Binary(_)) && (self.rows > 0 || !self.has_data) {
            if self.rows == 0 {
                self.staged.extend_from_slice(HEADER);
            }
            self.staged.extend_from_slice(&TRAILER);
        }
        self.hand_over()?;
        // Here it is certain that nothing is stored; once the end has been sent it is not.
        self.running.begin_step()?;
        let _ = self.running.connection.engine.copy_done(self.running.ticket);
        self.running.connection.flush();
        self.running.wait_for_end()?;
        Ok(self.running.connection.last_affected_rows())
    }

    /// Gives the COPY up: the server stores nothing, and has `reason` in the error that it logs and
    /// answers (57014). A transaction that is open has failed then.
    ///
    /// # Errors
    ///
    /// The server's error if it has ended the COPY before, for another reason;
    /// [`PgError::Usage`] for a reason with a NUL byte. In both cases the server stores nothing.
    pub fn fail(mut self, reason: &str) -> PgResult<()> {
        self.running.check()?;
        match self.running.connection.engine.copy_fail(self.running.ticket, reason) {
            Err(error @ PgError::Usage(_)) => return Err(error),
            Ok(()) | Err(_) => self.running.connection.flush(),
        }
        match self.running.wait_for_end() {
            Err(PgError::Server(error)) if error.code == SqlState::QUERY_CANCELED => Ok(()),
            other => other,
        }
    }

    #[inline]
    fn hand_over_if_much(&mut self) -> PgResult<()> {
        if self.whole < STAGE { Ok(()) } else { self.hand_over() }
    }

    /// Hands what was put together to the connection.
    fn hand_over(&mut self) -> PgResult<()> {
        self.whole = 0;
        if self.staged.is_empty() {
            return Ok(());
        }
        let mut staged = std::mem::take(&mut self.staged);
        let pushed = self.push(&staged);
        staged.clear();
        // One large row does not keep its memory.
        staged.shrink_to(2 * STAGE);
        self.staged = staged;
        pushed
    }

    /// Hands data to the connection, and waits until the socket has taken them.
    fn push(&mut self, data: &[u8]) -> PgResult<()> {
        let running = &mut self.running;
        for piece in data.chunks(PIECE) {
            running.check()?;
            running.begin_step()?;
            loop {
                match running.connection.send_copy_data(running.ticket, piece) {
                    Ok(()) => break,
                    Err(PgError::WouldBlock) => running.send_some()?,
                    // The server has ended it, or the connection: its terminal event says how.
                    Err(_) => return running.wait_for_end(),
                }
            }
            // An error of the server is learned early, and it is not kept waiting with its notices.
            let _ = running.connection.drive();
            running.take_events()?;
            // So that the next piece can go from where it is.
            while running.connection.engine.unsent() > 0 && !running.ended {
                running.send_some()?;
            }
        }
        Ok(())
    }

    /// Puts a row together as a line.
    fn stage_line(&mut self, row: &impl Params) -> PgResult<()> {
        let Layout::Lines { options, header } = &self.layout else { return Err(no_rows()) };
        let (_, columns) = self.running.announced();
        if row.len() != columns {
            return Err(wrong_count(self.rows, row.len(), columns));
        }
        if options.header && self.rows == 0 && !self.has_data {
            // The server passes over this line, whatever it says.
            self.staged.extend_from_slice(header.replace(['\n', '\r'], " ").as_bytes());
            self.staged.push(b'\n');
        }
        let mut text = Vec::new();
        for index in 0..columns {
            if index > 0 {
                self.staged.push(options.delimiter);
            }
            let Some(value) = row.param(index) else { break };
            text.clear();
            let mut out = Out::new(&mut text);
            let encoded = encode_text(value, TypeMap::builtin(), &mut out);
            let overflowed = out.overflowed();
            let cell = match encoded {
                Ok(Encoded::Null) => None,
                Ok(_) if overflowed => {
                    return Err(too_long(self.rows, &format!("number {}", index + 1)));
                }
                Ok(_) => Some(text.as_slice()),
                Err(error) => {
                    return Err(in_cell(error, self.rows, &format!("number {}", index + 1)));
                }
            };
            write_cell(options, cell, columns == 1, &mut self.staged)?;
        }
        self.staged.push(b'\n');
        Ok(())
    }

    /// Puts a row together in binary.
    #[inline]
    fn stage_binary(&mut self, row: &impl Params) -> PgResult<()> {
        let Layout::Binary(columns) = &self.layout else { return Err(no_rows()) };
        if row.len() != columns.len() {
            return Err(wrong_count(self.rows, row.len(), columns.len()));
        }
        if self.rows == 0 && !self.has_data {
            self.staged.extend_from_slice(HEADER);
        }
        // No table has more columns than fit.
        let count = i16::try_from(columns.len()).unwrap_or(i16::MAX);
        self.staged.extend_from_slice(&count.to_be_bytes());
        let (buf, row_number) = (&mut self.staged, self.rows);
        row.visit(&mut Cells { columns: columns.iter(), buf, row: row_number })
    }
}

/// Writes the cells of a row in binary, each with its length before it.
struct Cells<'w> {
    columns: std::slice::Iter<'w, (Box<str>, Target)>,
    buf: &'w mut Vec<u8>,
    row: usize,
}

impl ParamVisitor for Cells<'_> {
    #[inline]
    fn take<T: ToSql + ?Sized>(&mut self, value: &T) -> PgResult<()> {
        let Some((name, target)) = self.columns.next() else { return Ok(()) };
        let start = self.buf.len();
        self.buf.extend_from_slice(&(-1_i32).to_be_bytes());
        let body = self.buf.len();
        let mut out = Out::new(self.buf);
        let present = match encode_cell(value, *target, &mut out) {
            Ok(present) => present,
            Err(error) => return Err(in_cell(error, self.row, name)),
        };
        if out.overflowed() {
            return Err(too_long(self.row, name));
        }
        if present {
            // A value that has not overflowed is not longer than 1 GiB.
            let length = i32::try_from(self.buf.len() - body).unwrap_or(i32::MAX);
            if let Some(place) = self.buf.get_mut(start..body) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        }
        Ok(())
    }
}

/// Data as they are; see [`CopyWriter::write_data`].
impl io::Write for CopyWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_data(data)?;
        Ok(data.len())
    }

    /// Sends all that was written, and waits until the socket has taken it.
    fn flush(&mut self) -> io::Result<()> {
        self.staged.truncate(self.whole);
        self.hand_over()?;
        self.running.renew_deadline();
        while self.running.connection.engine.unsent() > 0 && !self.running.ended {
            self.running.send_some()?;
        }
        Ok(())
    }
}

#[cold]
fn no_rows() -> PgError {
    PgError::Usage(
        "the COPY was given as a text with options, so that it is not known what its rows look \
         like: write data, or give copy_in a CopyIn with CopyOptions"
            .to_owned(),
    )
}

#[cold]
fn wrong_count(row: usize, given: usize, columns: usize) -> PgError {
    PgError::Usage(format!(
        "row {} has {given} values, but the COPY has {columns} columns; nothing of it was sent",
        row + 1
    ))
}

#[cold]
fn too_long(row: usize, column: &str) -> PgError {
    PgError::Usage(format!(
        "row {}, column \"{column}\": the value is longer than a server accepts; nothing of the row \
         was sent",
        row + 1
    ))
}

/// Adds to an error the cell that it happened in.
#[cold]
pub(super) fn in_cell(error: PgError, row: usize, column: &str) -> PgError {
    match error {
        PgError::Parameter(mut parameter) => {
            parameter.column.get_or_insert_with(|| column.to_owned());
            PgError::Parameter(parameter).at_parameter_set(row)
        }
        other => other,
    }
}
