//! Data and rows from the server.

use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::rc::Rc;

use super::binary::{self, Front, malformed};
use super::format::{LineEnd, read_line};
use super::statement::{CopyFormat, CopyOptions, CopyOut};
use super::{Found, Running, text_columns};
use crate::engine::Message;
use crate::error::{PgError, PgResult};
use crate::row::{Column, RowRef, Span, check_cells, spans_of};
use crate::types::Format;

/// A COPY from a table or query to the program, from
/// [`PgConnection::copy_out`](crate::PgConnection::copy_out).
///
/// [`next_row`](Self::next_row) gives row by row, [`read_data`](Self::read_data) the data as they
/// come, [`read_all`](Self::read_all) all of them; it is [`Read`] and [`BufRead`] too. Nothing is
/// copied on the way: rows and data are borrowed from where they were received.
///
/// Only as much is in memory as is received at once; a server that sends faster than the program
/// reads is held back by its socket. [`io_timeout`](crate::PgConnection::io_timeout) bounds the wait
/// for each piece.
///
/// Inside of a [scope](crate::PgConnection::within) the whole COPY ends with it.
///
/// # Dropped before the end
///
/// That never waits. The next call drains the rest before it sends anything, and if the rest does not
/// end soon, it has the server cancel the COPY: outside of a transaction after a tenth of
/// [`drain_timeout`](crate::PgConfig::drain_timeout), because nothing is lost by that; in a
/// transaction, or when the query may write (INSERT, UPDATE, DELETE, MERGE, WITH), after the whole of
/// it. If it has not ended within `drain_timeout` after that, the connection is broken.
///
/// So whoever wants the work of such a query done calls [`finish`](Self::finish).
#[derive(Debug)]
#[must_use = "a COPY that is dropped at once has run for nothing"]
pub struct CopyReader<'c> {
    running: Running<'c>,
    /// The options, if they are known.
    options: Option<CopyOptions>,
    columns: Rc<[Column]>,
    /// The piece that came last, and how much of it has been consumed.
    piece: Option<(Message, usize)>,
    /// What was received of a row before its end had come, behind what has been consumed.
    held: Vec<u8>,
    consumed: usize,
    /// What is looked for next.
    next: Next,
    /// How far the search for the end of a line has come.
    line_end: LineEnd,
    searched: usize,
    /// The cells of the line that was read last.
    row: Vec<u8>,
    spans: Vec<Span>,
}

/// What is looked for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The header of binary data, or a line with the names of the columns.
    Header,
    Row,
    /// Nothing may follow.
    End,
}

/// Where a row, or part of the data, is.
#[derive(Clone, Debug)]
enum Place {
    /// In the receive buffer.
    Received(Message, Range<usize>),
    /// Among what was held.
    Held(Range<usize>),
}

impl<'c> CopyReader<'c> {
    pub(super) fn new(
        running: Running<'c>,
        statement: &CopyOut,
        described: Option<Vec<Column>>,
    ) -> PgResult<Self> {
        let (format, count) = running.announced();
        let options = statement.known_options().cloned();
        let columns: Rc<[Column]> = match described {
            Some(mut columns) => {
                if columns.len() != count {
                    return Err(PgError::Usage(
                        "the table has columns that COPY leaves out: name those that are to be read"
                            .to_owned(),
                    ));
                }
                columns.iter_mut().for_each(|column| column.format = format);
                columns.into()
            }
            None => text_columns(count),
        };
        let is_binary = format == Format::Binary;
        let has_header = is_binary || options.as_ref().is_some_and(|options| options.header);
        let next = if has_header { Next::Header } else { Next::Row };
        let spans = vec![Span::default(); spans_of(columns.len())];
        Ok(Self {
            running,
            options,
            columns,
            piece: None,
            held: Vec::new(),
            consumed: 0,
            next,
            line_end: LineEnd::default(),
            searched: 0,
            row: Vec::new(),
            spans,
        })
    }

    /// The columns. Those of a COPY that was given as a text have no names and types of their own:
    /// they are text, and called `column1` and so on.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The next piece of the data as they are, `None` at their end. Where a piece ends has no
    /// meaning.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`](crate::PgConnection::query).
    pub fn read_data(&mut self) -> PgResult<Option<&[u8]>> {
        let Some(place) = self.available()? else { return Ok(None) };
        let length = data_at(&self.running, &self.held, &place).len();
        self.consume_data(length);
        Ok(Some(data_at(&self.running, &self.held, &place)))
    }

    /// All data that are left.
    ///
    /// # Errors
    ///
    /// As [`read_data`](Self::read_data).
    pub fn read_all(&mut self) -> PgResult<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(data) = self.read_data()? {
            all.extend_from_slice(data);
        }
        Ok(all)
    }

    /// The next row, `None` at the end: only then it is certain that the COPY succeeded.
    ///
    /// A cell of text format or CSV is read as a cell of a simple query is: as `&str`, or as any type
    /// that goes with the column's. The line with the names of the columns is passed over, if the
    /// options have one.
    ///
    /// # Errors
    ///
    /// [`PgError::Usage`] when the COPY was given as a text with options: give
    /// [`copy_out`](crate::PgConnection::copy_out) a [`CopyOut`] then. [`PgError::Protocol`] for data
    /// that are no rows. Else as [`read_data`](Self::read_data).
    #[inline]
    pub fn next_row(&mut self) -> PgResult<Option<RowRef<'_>>> {
        // Nearly always the next row is here, the only one in its message.
        if let Some(place) = self.next_whole_row() {
            return Ok(Some(self.binary_row(&place)));
        }
        let Some(place) = self.find_row()? else { return Ok(None) };
        if self.is_binary() {
            return Ok(Some(self.binary_row(&place)));
        }
        self.take_line_apart(&place)?;
        Ok(Some(RowRef::new(&self.columns, &self.row, &self.spans)))
    }

    /// Passes over what is left, and waits for the end; returns the number of rows that the COPY had.
    ///
    /// # Errors
    ///
    /// As [`read_data`](Self::read_data).
    pub fn finish(mut self) -> PgResult<u64> {
        self.running.wait_for_end()?;
        Ok(self.running.connection.last_affected_rows())
    }

    #[inline]
    fn is_binary(&self) -> bool {
        self.options.as_ref().is_some_and(|options| options.format == CopyFormat::Binary)
    }

    /// The next piece of data that is not empty; `None` at the end.
    #[inline]
    fn next_piece(&mut self) -> PgResult<Option<(Message, usize)>> {
        if let Some((message, consumed)) = self.piece {
            let length = self.running.connection.engine.copied(message).map_or(0, <[u8]>::len);
            if consumed < length {
                return Ok(Some((message, consumed)));
            }
        }
        self.piece = None;
        self.running.check()?;
        self.running.waited = false;
        loop {
            match self.running.step()? {
                Found::Data(message) => {
                    self.running.waited = false;
                    let piece = self.running.connection.engine.copied(message);
                    if piece.is_some_and(|piece| !piece.is_empty()) {
                        self.piece = Some((message, 0));
                        return Ok(self.piece);
                    }
                }
                Found::Nothing if self.running.ended => return Ok(None),
                Found::Nothing => self.running.wait(),
                Found::Other => {}
            }
        }
    }

    /// Data that have been received and not consumed; `None` at the end.
    fn available(&mut self) -> PgResult<Option<Place>> {
        if self.consumed < self.held.len() {
            return Ok(Some(Place::Held(self.consumed..self.held.len())));
        }
        let Some((message, consumed)) = self.next_piece()? else { return Ok(None) };
        let length = self.running.connection.engine.copied(message).map_or(0, <[u8]>::len);
        Ok(Some(Place::Received(message, consumed..length)))
    }

    /// The first `count` available bytes have been used.
    #[inline]
    fn consume_data(&mut self, count: usize) {
        if self.consumed < self.held.len() {
            self.consumed = self.consumed.saturating_add(count).min(self.held.len());
        } else if let Some((_, consumed)) = &mut self.piece {
            *consumed = consumed.saturating_add(count);
        }
    }

    /// The next row, if it is a binary one and all that is in the next message.
    #[inline]
    fn next_whole_row(&mut self) -> Option<Place> {
        if let Some((message, consumed)) = self.piece {
            let length = self.running.connection.engine.copied(message).map_or(0, <[u8]>::len);
            if consumed < length {
                return None;
            }
            self.piece = None;
        }
        let has_data = self.consumed < self.held.len();
        if has_data || self.next != Next::Row || !self.is_binary() || self.running.ended {
            return None;
        }
        let message = self.running.connection.engine.next_copied()?;
        self.running.waited = false;
        let data = self.running.connection.engine.copied(message)?;
        match binary::row(data, self.columns.len()) {
            Ok(Front::Whole(length)) if length == data.len() => {
                Some(Place::Received(message, 0..length))
            }
            _ => {
                self.piece = (!data.is_empty()).then_some((message, 0));
                None
            }
        }
    }

    /// Where the next row is, its end included; `None` at the end.
    #[inline]
    fn find_row(&mut self) -> PgResult<Option<Place>> {
        if self.options.is_none() {
            return Err(no_rows());
        }
        loop {
            let Some(place) = self.available()? else { return self.at_end() };
            let front = self.front(&place)?;
            match (front, self.next) {
                (_, Next::End) => return Err(malformed("data follow its end")),
                (Front::Whole(length), next) => {
                    self.consume_data(length);
                    (self.next, self.searched) = (Next::Row, 0);
                    if next == Next::Row {
                        return Ok(Some(match place {
                            Place::Held(range) => Place::Held(range.start..range.start + length),
                            Place::Received(message, range) => {
                                Place::Received(message, range.start..range.start + length)
                            }
                        }));
                    }
                }
                (Front::End, _) => {
                    self.consume_data(2);
                    self.next = Next::End;
                }
                (Front::Incomplete, _) => {
                    if !self.hold_more(&place)? {
                        return self.at_end();
                    }
                }
            }
        }
    }

    /// What stands at the front of the data at `place`.
    #[inline]
    fn front(&mut self, place: &Place) -> PgResult<Front> {
        let Some(options) = &self.options else { return Err(no_rows()) };
        let data = data_at(&self.running, &self.held, place);
        if options.format != CopyFormat::Binary {
            let fresh = data.get(self.searched..).unwrap_or_default();
            return Ok(match self.line_end.find(options, fresh) {
                Some(end) => Front::Whole(self.searched + end),
                None => {
                    self.searched = data.len();
                    Front::Incomplete
                }
            });
        }
        match self.next {
            Next::Header => binary::header(data),
            Next::Row => binary::row(data, self.columns.len()),
            Next::End => Ok(Front::Incomplete),
        }
    }

    /// What is there of a row is kept until more has come; whether something came.
    fn hold_more(&mut self, place: &Place) -> PgResult<bool> {
        match place {
            Place::Held(_) => {
                self.held.drain(..self.consumed);
            }
            Place::Received(..) => self.held.clear(),
        }
        self.consumed = 0;
        if let Place::Held(_) = place {
            if self.next_piece()?.is_none() {
                return Ok(false);
            }
        }
        if let Some((message, consumed)) = self.piece.take() {
            let piece = self.running.connection.engine.copied(message).unwrap_or_default();
            self.held.extend_from_slice(piece.get(consumed..).unwrap_or_default());
        }
        Ok(true)
    }

    /// No more data come: they have to be complete.
    fn at_end(&mut self) -> PgResult<Option<Place>> {
        let left = self.consumed..self.held.len();
        if self.is_binary() {
            return match self.next {
                Next::End => Ok(None),
                _ => Err(malformed("it ends without its trailer")),
            };
        }
        if left.is_empty() || self.next == Next::Header {
            return Ok(None);
        }
        // The end of the last line may be missing.
        self.consumed = left.end;
        Ok(Some(Place::Held(left)))
    }

    /// The row that was found at `place`.
    #[inline]
    fn binary_row(&mut self, place: &Place) -> RowRef<'_> {
        let bytes = data_at(&self.running, &self.held, place);
        // Behind the number of cells.
        let cells = bytes.get(2..).unwrap_or_default();
        if !self.spans.is_empty() {
            // It has been checked when it was found.
            let _ = check_cells(cells, self.columns.len(), &mut self.spans);
        }
        RowRef::new(&self.columns, cells, &self.spans)
    }

    /// Takes the line at `place` apart.
    fn take_line_apart(&mut self, place: &Place) -> PgResult<()> {
        let mut row = std::mem::take(&mut self.row);
        let Some(options) = &self.options else { return Err(no_rows()) };
        let count = match read_line(options, data_at(&self.running, &self.held, place), &mut row)? {
            // A line without cells is one of a table without columns.
            1 if self.columns.is_empty() && row.len() == size_of::<i32>() => {
                row.clear();
                0
            }
            count => count,
        };
        self.row = row;
        let columns = self.columns.len();
        if count != columns {
            return Err(PgError::Protocol(format!(
                "a row of the COPY has {count} cells, but there are {columns} columns"
            )));
        }
        check_cells(&self.row, columns, &mut self.spans)?;
        Ok(())
    }
}

/// The data at a place.
#[inline]
fn data_at<'a>(running: &'a Running<'_>, held: &'a [u8], place: &Place) -> &'a [u8] {
    let data = match place {
        Place::Received(message, range) => {
            let piece = running.connection.engine.copied(*message);
            piece.and_then(|piece| piece.get(range.clone()))
        }
        Place::Held(range) => held.get(range.clone()),
    };
    data.unwrap_or_default()
}

/// The data as they are.
impl Read for CopyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let data = self.fill_buf()?;
        let count = data.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), data.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}

/// The data as they are, borrowed from where they were received.
impl BufRead for CopyReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.available()? {
            Some(place) => Ok(data_at(&self.running, &self.held, &place)),
            None => Ok(&[]),
        }
    }

    fn consume(&mut self, count: usize) {
        self.consume_data(count);
    }
}

#[cold]
fn no_rows() -> PgError {
    PgError::Usage(
        "the COPY was given as a text with options, so that it is not known what its rows look \
         like: read data, or give copy_out a CopyOut with CopyOptions"
            .to_owned(),
    )
}
