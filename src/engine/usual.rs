//! The usual answers: those of a statement that the server has and whose columns are known.
//!
//! BindComplete, DataRow, CommandComplete and ReadyForQuery make up nearly everything that a server
//! sends, and are told apart by their type and the phase alone. What is not usual about them, or is
//! none of them, is left to [`answer`](super::answer), which takes every message in every phase.

use std::rc::Rc;

use super::buffer::split_message;
use super::event::{CommandTag, Delivery};
use super::flight::Phase;
use super::rows::{cells, note_cells};
use super::{Engine, Step};
use crate::wire::backend::{TransactionStatus, tag};

impl Engine {
    /// Takes messages as long as they are usual and lead to nothing. [`Step::Starved`] means that
    /// the next one is not usual, or has not come; what is wrong with one is found on the long way.
    #[inline]
    pub(super) fn step_usual(&mut self) -> Step {
        let sent = self.send.sent_up_to();
        let Some(mut request) = self.flights.current_mut() else { return Step::Starved };
        if !request.is_sent(sent) || self.tracing.is_on() {
            return Step::Starved;
        }
        if request.phase == Phase::CopyData {
            return self.step_copy_data();
        }
        let Some(mut unread) = self.recv.unread_within(self.limits.message_size) else {
            return Step::Starved;
        };
        while let Some((kind, body, behind)) = split_message(unread) {
            match (kind, request.phase) {
                (tag::DATA_ROW, Phase::PortalRows) => {
                    let Some(columns) = request.columns.as_deref().map(<[_]>::len) else { break };
                    let Ok(row) = cells(body, columns) else { break };
                    let in_run = std::mem::replace(&mut request.has_rows, true);
                    if let (Delivery::Collect, Some(rows)) = (request.delivery, &mut request.rows) {
                        // Nobody else has the set until it is finished.
                        let Some(Ok(())) = Rc::get_mut(rows).map(|set| set.push(row)) else {
                            break;
                        };
                        unread = behind;
                        continue;
                    }
                    // A row that is drained is checked too.
                    if note_cells(row, columns, &mut self.cells).is_err() {
                        break;
                    }
                    if request.delivery.tells_rows() {
                        if in_run {
                            self.row_run.clone_from(&request.columns);
                        }
                        self.whose = request.ticket;
                        self.found = self.recv.consume_to(behind.len(), kind, body.len());
                        return Step::Row;
                    }
                }
                (tag::BIND_COMPLETE, Phase::Bind) if body.is_empty() && !request.describes() => {
                    request.portal_made();
                    if request.delivery == Delivery::Events && request.has_news_of_columns() {
                        self.recv.consume_to(behind.len(), kind, 0);
                        return Step::Columns;
                    }
                }
                (tag::COMMAND_COMPLETE, Phase::PortalRows) => {
                    let [text @ .., 0] = body else { break };
                    if !self.last_tag.accept(text) {
                        break;
                    }
                    let (ticket, delivery) = (request.ticket, request.delivery);
                    let is_answered = request.command_ends(text);
                    if delivery == Delivery::Events {
                        if is_answered {
                            self.flights.skip_answered();
                        }
                        self.whose = ticket;
                        self.found = self.recv.consume_to(behind.len(), kind, body.len());
                        return Step::Command;
                    }
                    if is_answered {
                        unread = behind;
                        match self.flights.next_mut() {
                            Some(next) if next.phase != Phase::Answered && next.is_sent(sent) => {
                                request = next;
                            }
                            _ => {
                                self.flights.skip_answered();
                                break;
                            }
                        }
                        continue;
                    }
                }
                (tag::READY_FOR_QUERY, Phase::Sync) if body == b"I" && request.can_end(sent) => {
                    self.recv.consume_to(behind.len(), kind, 1);
                    return self.ready(TransactionStatus::Idle);
                }
                _ => break,
            }
            unread = behind;
        }
        let left = unread.len();
        self.recv.consume_but(left);
        Step::Starved
    }
}

/// The tag of the command that was done last.
#[derive(Debug)]
pub(super) struct LastTag {
    tag: CommandTag,
    /// It is a tag without consequences for the session.
    is_plain: bool,
}

impl LastTag {
    pub(super) const NONE: Self = Self { tag: CommandTag::EMPTY, is_plain: false };

    #[inline]
    pub(super) fn get(&self) -> &CommandTag {
        &self.tag
    }

    /// The tag of any command, or an empty one for none.
    pub(super) fn set(&mut self, text: &[u8]) {
        self.tag.set(text);
        self.is_plain = false;
    }

    /// Notes the tag of a command without consequences for the session; whether it is one. COMMIT,
    /// DISCARD ALL, VACUUM and others have some; none of them begins as these do.
    #[inline]
    fn accept(&mut self, text: &[u8]) -> bool {
        // A tag is often like the one before.
        if self.is_plain && self.tag.is(text) {
            return true;
        }
        let begins_so =
            matches!(text, [b'S' | b'I' | b'U' | b'M', ..]) || text.starts_with(b"DELETE");
        if !begins_so || !CommandTag::is_one(text) {
            return false;
        }
        self.tag.set(text);
        self.is_plain = true;
        true
    }
}
