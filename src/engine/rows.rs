//! Rows: to the arena of a collected request, to the caller as events, or to nobody.
//!
//! They come in runs, so once the first of a run has been found to be in place, those behind it
//! take a short way.

use std::rc::Rc;

use super::answer::out_of_place;
use super::buffer::Message;
use super::event::Delivery;
use super::{Engine, Step};
use crate::error::{PgError, PgResult};
use crate::row::{RowRef, Span, check_cells, spans_of};
use crate::wire::Malformed;
use crate::wire::backend::tag;

impl Engine {
    /// Takes a DataRow of the current request, which waits for one.
    pub(super) fn data_row(&mut self, message: Message) -> PgResult<Step> {
        let Some(request) = self.flights.current_mut() else { return Ok(Step::Consumed) };
        let Some(columns) = request.columns.as_deref().map(<[_]>::len) else {
            return Err(out_of_place(tag::DATA_ROW));
        };
        request.has_rows = true;
        if request.delivery == Delivery::Collect {
            // Nobody else has the set until it is finished.
            if let Some(rows) = request.rows.as_mut().and_then(Rc::get_mut) {
                let Some(frame) = self.recv.frame(message) else { return Ok(Step::Starved) };
                rows.push(cells(frame.body, columns)?)?;
                return Ok(Step::Consumed);
            }
        }
        let (ticket, events) = (request.ticket, request.delivery.tells_rows());
        let Some(frame) = self.recv.frame(message) else { return Ok(Step::Starved) };
        note_cells(cells(frame.body, columns)?, columns, &mut self.cells)?;
        if !events {
            return Ok(Step::Consumed);
        }
        (self.whose, self.found) = (ticket, message);
        Ok(Step::Row)
    }

    /// The next row of a run of rows that are delivered as events. `None` at its end, or if the
    /// next one has not come whole, or something is wrong with it: [`advance`](Self::advance) knows.
    #[inline]
    pub(crate) fn next_of_run(&mut self) -> Option<Message> {
        let columns = self.row_run.as_ref()?.len();
        let (tag::DATA_ROW, body) = self.recv.peek(self.limits.message_size)? else { return None };
        let row = cells(body, columns).ok()?;
        check_cells(row, columns, &mut self.cells).ok()?;
        let length = body.len();
        Some(self.recv.skip(tag::DATA_ROW, length))
    }

    /// A row of a run.
    #[inline]
    pub(crate) fn row_of_run(&self, message: Message) -> Option<RowRef<'_>> {
        let cells = self.recv.frame(message)?.body.get(2..)?;
        Some(RowRef::new(self.row_run.as_deref()?, cells, &self.cells))
    }
}

/// Checks the cells of a row, and notes where they are. A row that is drained is checked too: what is
/// malformed must not pass because nobody wants it.
#[inline(always)]
pub(super) fn note_cells(
    row: &[u8],
    columns: usize,
    spans: &mut Vec<Span>,
) -> Result<(), Malformed> {
    if spans.len() != spans_of(columns) {
        spans.resize(spans_of(columns), Span::default());
    }
    check_cells(row, columns, spans)
}

/// The cells in the body of a DataRow, of which there must be as many as described.
#[inline]
pub(super) fn cells(body: &[u8], columns: usize) -> PgResult<&[u8]> {
    match body.split_first_chunk() {
        Some((count, cells)) if usize::from(u16::from_be_bytes(*count)) == columns => Ok(cells),
        count => Err(wrong_cell_count(count.map(|(count, _)| i16::from_be_bytes(*count)), columns)),
    }
}

#[cold]
fn wrong_cell_count(count: Option<i16>, columns: usize) -> PgError {
    PgError::Protocol(match count {
        Some(count) => {
            format!("a DataRow has {count} cells, but {columns} columns were described")
        }
        None => "malformed DataRow: it has no cell count".to_owned(),
    })
}
