//! What a message means for the request at the front of the queue.
//!
//! Answers come in the order of the requests, so every message belongs to the front one, but for
//! those that can come at any time. A message that the front request does not wait for is a
//! violation of the protocol and breaks the connection: from there on nothing could be attributed
//! with certainty.

use std::collections::VecDeque;
use std::rc::Rc;

use super::event::{CommandTag, Delivery, Event, Notification, Ticket};
use super::flight::{InFlight, Kind, Phase};
use super::statement::Statement;
use super::{Engine, Session, Step};
use crate::error::{PgError, PgResult, ServerError, SqlState, short_type_name};
use crate::row::{Column, split_cells};
use crate::types::{Format, Oid, TypeMap};
use crate::wire::backend::{Field, List, TransactionStatus, tag};
use crate::wire::{Backend, Frame, frontend};

impl Engine {
    /// Takes the message of `size` bytes that was just consumed.
    #[inline]
    pub(super) fn step_answer(&mut self, size: usize) -> PgResult<Step> {
        let Some(frame) = self.recv.consumed(size) else {
            return Ok(Step::Starved);
        };
        if frame.tag == tag::DATA_ROW {
            return Self::data_row(&mut self.in_flight.front_mut(), frame, &mut self.cells, size);
        }
        let tag = frame.tag;
        let message = Backend::parse(frame)?;
        let sent = self.send.sent_up_to();
        // Nothing that comes can be the answer to a request of which nothing was sent.
        let Some(request) = self.in_flight.front_mut().filter(|request| request.is_sent(sent))
        else {
            return unasked(&mut self.session, &mut self.pending, tag, message);
        };
        match (request.phase, message) {
            (Phase::Close(left), Backend::CloseComplete) => {
                request.phase =
                    if left > 1 { Phase::Close(left - 1) } else { request.first_phase() };
            }
            (Phase::Parse, Backend::ParseComplete) => self.parse_complete(),
            (Phase::StatementParameters, Backend::ParameterDescription(list)) => {
                let types = list.map(|oid| Ok(Oid::new(oid?))).collect::<PgResult<Vec<_>>>()?;
                if let Kind::Prepare { params, .. } = &mut request.kind {
                    *params = types;
                }
                request.phase = Phase::StatementColumns;
            }
            (Phase::StatementColumns, Backend::RowDescription(fields)) => {
                request.columns = Some(columns(fields)?);
                request.phase = Phase::Sync;
            }
            (Phase::StatementColumns, Backend::NoData) => request.phase = Phase::Sync,
            (Phase::Bind, Backend::BindComplete) => request.phase = Phase::PortalColumns,
            (Phase::PortalColumns, Backend::RowDescription(fields)) => {
                request.phase = Phase::PortalRows;
                self.describe(columns(fields)?);
            }
            (Phase::Command, Backend::RowDescription(fields)) => {
                request.phase = Phase::CommandRows;
                self.describe(columns(fields)?);
            }
            (Phase::PortalColumns, Backend::NoData) => request.phase = Phase::PortalRows,
            (
                Phase::PortalRows | Phase::Command | Phase::CommandRows | Phase::CopyOut,
                Backend::CommandComplete { tag },
            ) => self.command_complete(command_tag(tag)?),
            (Phase::PortalRows | Phase::Command, Backend::EmptyQueryResponse) => {
                self.command_complete(CommandTag::EMPTY);
            }
            (Phase::PortalRows | Phase::Command, Backend::CopyInResponse(_)) => {
                self.refuse_copy_in()?;
            }
            (Phase::PortalRows | Phase::Command, Backend::CopyOutResponse(_)) => {
                refuse_copy_out(request);
            }
            (Phase::CopyOut, Backend::CopyData(_) | Backend::CopyDone) => {}
            (Phase::Sync, Backend::ReadyForQuery(status)) => self.ready_for_query(status),
            (Phase::Command, Backend::ReadyForQuery(status)) if request.completed => {
                self.ready_for_query(status);
            }
            (_, Backend::ErrorResponse(fields)) => {
                self.error_response(ServerError::parse(fields)?)?;
            }
            (_, message) => return any_time(&mut self.session, &mut self.pending, tag, message),
        }
        Ok(Step::Consumed)
    }

    /// A row: to the arena of a collected request, to the caller as an event, or to nobody.
    #[inline]
    fn data_row(
        request: &mut Option<&mut InFlight>,
        frame: Frame<'_>,
        cells: &mut Vec<usize>,
        size: usize,
    ) -> PgResult<Step> {
        let Some(request) = request.as_mut() else {
            return Err(out_of_place(tag::DATA_ROW));
        };
        let (Phase::PortalRows | Phase::CommandRows, Some(columns)) =
            (request.phase, request.columns.as_deref())
        else {
            return Err(out_of_place(tag::DATA_ROW));
        };
        let Some((count, body)) = frame.body.split_first_chunk() else {
            return Err(PgError::Protocol("malformed DataRow: it has no cell count".to_owned()));
        };
        let count = i16::from_be_bytes(*count);
        if usize::try_from(count) != Ok(columns.len()) {
            return Err(PgError::Protocol(format!(
                "a DataRow has {count} cells, but {} columns were described",
                columns.len()
            )));
        }
        match (request.delivery, &mut request.rows) {
            (Delivery::Collect, Some(rows)) => rows.push(body)?,
            (Delivery::Events, _) => {
                cells.clear();
                split_cells(body, columns.len(), 0, cells)?;
                return Ok(Step::Row(request.ticket, size));
            }
            // Drained, but still looked at: what is malformed must not pass because nobody wants
            // it.
            _ => {
                cells.clear();
                split_cells(body, columns.len(), 0, cells)?;
            }
        }
        Ok(Step::Consumed)
    }

    /// The columns of the rows that follow.
    fn describe(&mut self, columns: Rc<[Column]>) {
        let Some(request) = self.in_flight.front_mut() else {
            return;
        };
        request.describe(Some(Rc::clone(&columns)));
        if request.delivery == Delivery::Events {
            self.pending.push_back(Event::Columns { ticket: request.ticket, columns });
        }
    }

    fn parse_complete(&mut self) {
        let Some(request) = self.in_flight.front_mut() else {
            return;
        };
        request.phase = match &request.kind {
            Kind::Prepare { .. } => Phase::StatementParameters,
            Kind::Execute { statement, .. } => {
                if let Some((statement, name)) = statement {
                    self.statements.prepared(statement, *name);
                }
                Phase::Bind
            }
            Kind::Simple | Kind::Sync => Phase::Sync,
        };
    }

    /// A command is done. It is not certain yet: the request is complete at ReadyForQuery only.
    fn command_complete(&mut self, tag: CommandTag) {
        if matches!(tag.as_str(), "DISCARD ALL" | "DEALLOCATE ALL") {
            self.statements.clear();
        }
        let Some(request) = self.in_flight.front_mut() else {
            return;
        };
        request.phase =
            if matches!(request.kind, Kind::Simple) { Phase::Command } else { Phase::Sync };
        request.command_complete(tag);
        if request.delivery == Delivery::Events {
            self.pending.push_back(Event::CommandComplete { ticket: request.ticket, tag });
        }
    }

    /// The server wants COPY data that nobody has: it is told so, if nothing is on its way to it
    /// that it would take for data.
    fn refuse_copy_in(&mut self) -> PgResult<()> {
        let why = "COPY from STDIN goes through copy_in, not through a query; the COPY was refused";
        let sent = self.send.sent_up_to();
        if self.in_flight.iter().skip(1).any(|request| request.is_sent(sent)) {
            return Err(PgError::Protocol(format!(
                "{why}; the requests behind it are lost in its data"
            )));
        }
        let Some(request) = self.in_flight.front_mut() else {
            return Ok(());
        };
        request.error.get_or_insert_with(|| PgError::Usage(why.to_owned()));
        let mut refusal = Vec::new();
        frontend::copy_fail(&mut refusal, why)?;
        // The Sync behind a COPY of the extended protocol was swallowed while the server waited for
        // data.
        if !matches!(request.kind, Kind::Simple) {
            frontend::sync(&mut refusal);
        }
        // Before the requests of which nothing was sent.
        let at = request.bytes.end.max(sent);
        let length = refusal.len() as u64;
        request.bytes.end = at + length;
        self.send.insert(at, &refusal);
        for later in self.in_flight.iter_mut().skip(1) {
            later.bytes = later.bytes.start + length..later.bytes.end + length;
        }
        Ok(())
    }

    fn error_response(&mut self, error: ServerError) -> PgResult<()> {
        let Some(request) = self.in_flight.front_mut() else {
            return Err(error.into());
        };
        let ends_session = error.severity.ends_session();
        match (request.phase, &request.kind) {
            // Closes that the server did not get to.
            (Phase::Close(left), _) => {
                let done = request.closes.len().saturating_sub(left);
                request.closes.drain(..done);
                request.closes.drain(..).for_each(|name| self.statements.unwanted(name));
            }
            // Parsed, but nobody will know it.
            (
                Phase::StatementParameters | Phase::StatementColumns | Phase::Sync,
                Kind::Prepare { name, .. },
            ) if request.error.is_none() => self.statements.unwanted(*name),
            // The statement is stale, or gone; the next execution prepares it again.
            (Phase::Bind, Kind::Execute { statement: Some((statement, _)), .. })
                if is_stale(error.code) =>
            {
                self.statements.forget(statement);
            }
            _ => {}
        }
        if ends_session {
            return Err(error.into());
        }
        request.phase = Phase::Sync;
        request.error.get_or_insert_with(|| error.into());
        Ok(())
    }

    /// The end of the group: now it is certain what became of the request.
    fn ready_for_query(&mut self, status: TransactionStatus) {
        self.session.set_transaction_status(status);
        let Some(mut request) = self.in_flight.pop_front() else {
            return;
        };
        self.drained();
        let params = request.params;
        if let Some(error) = request.error.take() {
            self.fail(request, error);
        } else {
            self.complete(request);
        }
        self.declared.drain(..params);
    }

    fn complete(&mut self, mut request: InFlight) {
        if let Kind::Prepare { name, params } = request.kind {
            if request.delivery == Delivery::Discard {
                self.statements.unwanted(name);
            } else {
                let columns = request.columns.unwrap_or_else(|| Rc::from([]));
                let statement = Statement::new(request.sql, params, columns);
                self.statements.prepared(&statement, name);
                request.outcome.statement = Some(statement);
            }
        }
        match request.delivery {
            Delivery::Discard => return,
            Delivery::Collect => self.finished.push((request.ticket, Ok(request.outcome))),
            Delivery::Events => {}
        }
        self.pending.push_back(Event::Complete { ticket: request.ticket });
    }

    /// Ends a request that has left the queue with an error.
    pub(super) fn fail(&mut self, request: InFlight, error: PgError) {
        let mut error = error.with_query(&request.sql);
        if let PgError::Server(server) = &mut error {
            if let Some(hint) = self.parameter_hint(server, request.params) {
                server.hint = Some(match server.hint.take() {
                    Some(first) => format!("{first}\n{hint}"),
                    None => hint,
                });
            }
        }
        self.tell_failure(request.ticket, request.delivery, error);
    }

    /// The terminal event of a request that failed.
    pub(super) fn tell_failure(&mut self, ticket: Ticket, delivery: Delivery, error: PgError) {
        match delivery {
            Delivery::Discard => return,
            Delivery::Collect => self.finished.push((ticket, Err(error.clone()))),
            Delivery::Events => {}
        }
        self.pending.push_back(Event::Failed { ticket, error });
    }

    /// What to do about an error over parameter types: says what each parameter was declared as.
    fn parameter_hint(&self, error: &ServerError, params: usize) -> Option<String> {
        let about_types = [
            SqlState::AMBIGUOUS_PARAMETER,
            SqlState::INDETERMINATE_DATATYPE,
            SqlState::AMBIGUOUS_FUNCTION,
            SqlState::DATATYPE_MISMATCH,
            SqlState::UNDEFINED_FUNCTION,
        ];
        if params == 0 || !about_types.contains(&error.code) {
            return None;
        }
        const SHOWN: usize = 20;
        let list = self.declared.iter().take(params.min(SHOWN)).enumerate();
        let list = list.map(|(index, (rust_type, oid))| {
            let (rust_type, oid) = (short_type_name(rust_type), TypeMap::builtin().describe(*oid));
            format!("${}: {rust_type} -> {oid}", index + 1)
        });
        let list: Vec<_> = list.collect();
        let more = if params > SHOWN { ", ..." } else { "" };
        Some(format!(
            "Write $n::type where a parameter is to have another type; they were declared as {}{more}.",
            list.join(", ")
        ))
    }
}

/// Takes a message that answers nothing: an error that the server says to nobody in particular ends
/// the session, or it ended while we were idle.
fn unasked(
    session: &mut Session,
    pending: &mut VecDeque<Event<'static>>,
    tag: u8,
    message: Backend<'_>,
) -> PgResult<Step> {
    match message {
        Backend::ErrorResponse(fields) => Err(ServerError::parse(fields)?.into()),
        message => any_time(session, pending, tag, message),
    }
}

/// Takes a message that can come at any time; anything else is out of place.
pub(super) fn any_time(
    session: &mut Session,
    pending: &mut VecDeque<Event<'static>>,
    tag: u8,
    message: Backend<'_>,
) -> PgResult<Step> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    pending.push_back(match message {
        Backend::NoticeResponse(fields) => Event::Notice(Box::new(ServerError::parse(fields)?)),
        Backend::NotificationResponse { process_id, channel, payload } => {
            let (channel, payload) = (text(channel), text(payload));
            Event::Notification(Notification { process_id, channel, payload })
        }
        Backend::ParameterStatus { name, value } => {
            let (name, value) = (text(name), text(value));
            session.set_parameter(&name, &value)?;
            Event::ParameterStatus { name: name.into(), value: value.into() }
        }
        _ => return Err(out_of_place(tag)),
    });
    Ok(Step::Consumed)
}

/// The server sends COPY data that nobody wants: they are dropped, and the request fails.
fn refuse_copy_out(request: &mut InFlight) {
    request.phase = Phase::CopyOut;
    request.error.get_or_insert_with(|| {
        let why = "COPY to STDOUT goes through copy_out, not through a query: its data were dropped; \
                   the other statements of the text were run";
        PgError::Usage(why.to_owned())
    });
}

/// Whether an error instead of BindComplete says that a statement is not what it was when it was
/// prepared: its result type changed (0A000), it is unknown (26000), its objects changed (class
/// 42).
fn is_stale(code: SqlState) -> bool {
    matches!(code, SqlState::FEATURE_NOT_SUPPORTED | SqlState::INVALID_SQL_STATEMENT_NAME)
        || code.class() == "42"
}

fn command_tag(tag: &[u8]) -> PgResult<CommandTag> {
    CommandTag::new(tag).ok_or_else(|| {
        PgError::Protocol(format!(
            "a CommandComplete has a tag that no command has: {:?}",
            String::from_utf8_lossy(tag)
        ))
    })
}

#[cold]
pub(super) fn out_of_place(tag: u8) -> PgError {
    PgError::Protocol(format!(
        "{} came where the protocol does not allow it",
        Backend::name(tag).unwrap_or("a message of unknown type")
    ))
}

/// The columns of a RowDescription.
fn columns(fields: List<'_, Field<'_>>) -> PgResult<Rc<[Column]>> {
    let mut columns = Vec::with_capacity(fields.at_most());
    for field in fields {
        let field = field?;
        let Some(format) = Format::from_code(field.format) else {
            return Err(PgError::Protocol(format!(
                "a RowDescription has the unknown format code {}",
                field.format
            )));
        };
        columns.push(Column {
            name: String::from_utf8_lossy(field.name).into(),
            oid: Oid::new(field.type_oid),
            format,
            table_oid: field.table_oid,
            column_number: field.column_number,
            type_length: field.type_length,
            type_modifier: field.type_modifier,
        });
    }
    Ok(columns.into())
}
