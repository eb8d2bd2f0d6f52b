//! The usual answers: those of a statement that the server has and whose columns are known.
//!
//! BindComplete, DataRow, CommandComplete and ReadyForQuery make up nearly everything that a server
//! sends, and are told apart by their type and the phase alone. What is not usual about them, or is
//! none of them, is left to [`answer`](super::answer), which takes every message in every phase.

use std::rc::Rc;

use super::event::{CommandTag, Delivery};
use super::flight::Phase;
use super::rows::cells;
use super::{Engine, Step};
use crate::error::PgResult;
use crate::row::{Span, check_cells, spans_of};
use crate::wire::backend::{TransactionStatus, tag};

impl Engine {
    /// Takes messages as long as they are usual and lead to nothing. [`Step::Starved`] means that
    /// the next one is not usual, or has not come.
    #[inline]
    pub(super) fn step_usual(&mut self) -> PgResult<Step> {
        let (limit, sent) = (self.limits.message_size, self.send.sent_up_to());
        let Some(request) = self.flights.current_mut() else { return Ok(Step::Starved) };
        if !request.is_sent(sent) || self.tracing.is_on() {
            return Ok(Step::Starved);
        }
        while let Some((kind, body)) = self.recv.peek(limit) {
            match (kind, request.phase) {
                (tag::DATA_ROW, Phase::PortalRows) => {
                    let Some(columns) = request.columns.as_deref().map(<[_]>::len) else { break };
                    let row = cells(body, columns)?;
                    request.has_rows = true;
                    if let (Delivery::Collect, Some(rows)) = (request.delivery, &mut request.rows) {
                        // Nobody else has the set until it is finished.
                        let Some(rows) = Rc::get_mut(rows) else { break };
                        rows.push(row)?;
                        self.recv.skip(kind, body.len());
                        continue;
                    }
                    if self.cells.len() != spans_of(columns) {
                        self.cells.resize(spans_of(columns), Span::default());
                    }
                    // A row that is drained is checked too.
                    check_cells(row, columns, &mut self.cells)?;
                    let message = self.recv.skip(kind, body.len());
                    if request.delivery.tells_rows() {
                        self.row_run.clone_from(&request.columns);
                        return Ok(Step::Row(message));
                    }
                }
                (tag::COPY_DATA, Phase::CopyData) => {
                    let message = self.recv.skip(kind, body.len());
                    return Ok(request.copied(message));
                }
                (tag::BIND_COMPLETE, Phase::Bind) if body.is_empty() && !request.describes() => {
                    self.recv.skip(kind, 0);
                    if request.bound() && request.delivery == Delivery::Events {
                        return Ok(Step::Columns);
                    }
                }
                (tag::COMMAND_COMPLETE, Phase::PortalRows) => {
                    let [text @ .., 0] = body else { break };
                    // Some commands have consequences: COMMIT, DISCARD ALL, VACUUM and others. None
                    // of them is among those that begin so.
                    let is_plain = matches!(text, [b'S' | b'I' | b'U' | b'M', ..])
                        || text.starts_with(b"DELETE");
                    if !is_plain || !CommandTag::is_one(text) {
                        break;
                    }
                    let (ticket, delivery) = (request.ticket, request.delivery);
                    let is_last = request.command_done(text);
                    let message = self.recv.skip(kind, body.len());
                    if is_last {
                        self.flights.answered();
                    }
                    return Ok(match delivery {
                        Delivery::Events => Step::Command(ticket, message),
                        _ => Step::Consumed,
                    });
                }
                (tag::READY_FOR_QUERY, Phase::Sync) if body == b"I" && request.can_end(sent) => {
                    self.recv.skip(kind, 1);
                    return Ok(self.ready(TransactionStatus::Idle));
                }
                _ => break,
            }
        }
        Ok(Step::Starved)
    }
}
