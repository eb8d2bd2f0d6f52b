//! What a message means for the request at the front of the queue.
//!
//! Answers come in the order of the requests, so every message belongs to the front one, but for
//! those that can come at any time. A message that the front request does not wait for is a
//! violation of the protocol and breaks the connection: from there on nothing could be attributed
//! with certainty.

use std::collections::VecDeque;
use std::rc::Rc;

use super::buffer::Message;
use super::copy::step_copy;
use super::event::{CommandTag, Delivery, Event, Notification};
use super::flight::{Execute, InFlight, Kind, Phase, Sql};
use super::flights::{Flights, Remedy};
use super::keyword::{is_commit, runs_from_description};
use super::{Engine, Session, Step};
use crate::error::{PgError, PgResult, ServerError, SqlState};
use crate::row::Column;
use crate::types::{Format, Oid};
use crate::wire::backend::{Field, List, tag};
use crate::wire::{Backend, Frame, Malformed, frontend};

impl Engine {
    /// Takes a message that was just consumed.
    pub(super) fn step_answer(&mut self, message: Message) -> PgResult<Step> {
        let Some(frame) = self.recv.frame(message) else { return Ok(Step::Starved) };
        let phase = self.flights.current().map(|request| request.phase);
        if let (tag::DATA_ROW, Some(Phase::PortalRows | Phase::CommandRows)) = (frame.tag, phase) {
            return self.data_row(message);
        }
        // Nothing that comes can be the answer to a request of which nothing was sent.
        let sent = self.send.sent_up_to();
        match self.flights.current() {
            Some(request) if request.is_sent(sent) => self.step_request(message),
            _ => self.between_answers(message),
        }
    }

    /// Takes a message while a request is waiting for one.
    fn step_request(&mut self, message: Message) -> PgResult<Step> {
        let sent = self.send.sent_up_to();
        let Some(frame) = self.recv.frame(message) else { return Ok(Step::Starved) };
        let answer = Backend::parse(frame)?;
        let Some(request) = self.flights.current_mut() else { return Ok(Step::Starved) };
        match (request.phase, answer) {
            (Phase::Close, Backend::CloseComplete) => {
                request.aside().closes.pop();
                request.phase = request.first_phase();
                if request.phase == Phase::Answered {
                    self.flights.answered();
                }
            }
            (Phase::Parse, Backend::ParseComplete) => self.parse_complete(),
            (Phase::CopyStart | Phase::CopyData, answer) if is_of_copy(frame.tag) => {
                (self.whose, self.found) = (request.ticket, message);
                return step_copy(request, &mut self.pending, answer, message);
            }
            (Phase::StatementParameters, Backend::ParameterDescription(list)) => {
                let types = list.map(|oid| Ok(Oid::new(oid?))).collect::<PgResult<Vec<_>>>()?;
                request.aside().params = types;
                request.phase = Phase::StatementColumns;
            }
            (Phase::StatementColumns, Backend::RowDescription(fields)) => {
                request.columns = Some(columns(fields)?);
                self.flights.answered();
            }
            (Phase::StatementColumns, Backend::NoData) => {
                self.flights.answered();
            }
            (Phase::Bind, Backend::BindComplete) => {
                if request.bound() {
                    return Ok(tell_columns(request));
                }
            }
            (Phase::PortalColumns, Backend::RowDescription(fields)) => {
                let columns = columns(fields)?;
                return Ok(self.described(Some(columns)));
            }
            (Phase::PortalColumns, Backend::NoData) => return Ok(self.described(None)),
            (Phase::Command, Backend::RowDescription(fields)) => {
                request.describe(columns(fields)?);
                request.phase = Phase::CommandRows;
                return Ok(tell_columns(request));
            }
            (_, answer) if request.is_command_end(answer, sent) => {
                return self.command_complete(message);
            }
            (Phase::PortalRows, Backend::PortalSuspended)
                if matches!(request.kind, Kind::Fetch { .. }) =>
            {
                self.portal_suspended();
            }
            (Phase::PortalRows | Phase::Command, Backend::CopyInResponse(_)) => {
                self.refuse_copy_in()?;
            }
            (Phase::PortalRows | Phase::Command, Backend::CopyOutResponse(_)) => {
                self.refuse_copy_out();
            }
            (Phase::CopyOut, Backend::CopyData(_) | Backend::CopyDone) => {}
            (Phase::Sync, Backend::ReadyForQuery(status)) if request.can_end(sent) => {
                return Ok(self.ready(status));
            }
            (Phase::Command, Backend::ReadyForQuery(status)) if request.commands > 0 => {
                return Ok(self.ready(status));
            }
            (_, Backend::ErrorResponse(fields)) => {
                self.error_response(ServerError::parse(fields)?)?;
            }
            (_, answer) => {
                return any_time(&mut self.session, &mut self.pending, frame.tag, answer);
            }
        }
        Ok(Step::Consumed)
    }

    /// Takes a message that comes while nothing is awaited: between the requests of an open group,
    /// or while the connection is idle.
    fn between_answers(&mut self, message: Message) -> PgResult<Step> {
        let Some(frame) = self.recv.frame(message) else { return Ok(Step::Starved) };
        match Backend::parse(frame)? {
            Backend::ErrorResponse(fields) => {
                let error = ServerError::parse(fields)?;
                // Until the Sync of its group an error belongs to the request before. An error that
                // the server says to nobody ends the session, or it ended while we were idle.
                let sent = self.send.sent_up_to();
                if error.severity.ends_session() || !self.flights.has_answered(sent) {
                    return Err(error.into());
                }
                self.flights.fail_answered(error.into());
                Ok(Step::Consumed)
            }
            answer => any_time(&mut self.session, &mut self.pending, frame.tag, answer),
        }
    }

    /// What a portal returns is known now.
    fn described(&mut self, columns: Option<Rc<[Column]>>) -> Step {
        let Some(request) = self.flights.current_mut() else { return Step::Consumed };
        if let Kind::Open { .. } = request.kind {
            request.columns = columns;
            self.flights.answered();
            return Step::Consumed;
        }
        request.phase = Phase::PortalRows;
        if let (Kind::Execute(Execute { name: Some(name), .. }), Sql::Statement(statement)) =
            (&request.kind, &request.sql)
        {
            self.prepared.described(statement, *name, columns.clone());
        }
        match columns {
            Some(columns) => {
                request.describe(columns);
                tell_columns(request)
            }
            None => Step::Consumed,
        }
    }

    fn parse_complete(&mut self) {
        let Some(request) = self.flights.current_mut() else { return };
        request.phase = match &mut request.kind {
            Kind::Prepare { .. } => Phase::StatementParameters,
            Kind::Execute(execute) => {
                execute.parse = false;
                if let (Some(name), Sql::Statement(statement)) = (execute.name, &request.sql) {
                    self.prepared.parsed(statement, name);
                }
                Phase::Bind
            }
            Kind::Open { .. } => Phase::Bind,
            Kind::Fetch { .. }
            | Kind::Simple
            | Kind::Sync
            | Kind::CopyIn { .. }
            | Kind::CopyOut { .. } => Phase::Sync,
        };
    }

    /// As many rows as were asked for have come, and there may be more.
    fn portal_suspended(&mut self) {
        self.last_tag.set(b"");
        let Some(request) = self.flights.current() else { return };
        if request.delivery == Delivery::Events {
            self.pending.push_back(Event::PortalSuspended { ticket: request.ticket });
        }
        self.flights.answered();
    }

    /// A command is done (CommandComplete, EmptyQueryResponse). It is not certain yet: the request
    /// is complete at ReadyForQuery only.
    fn command_complete(&mut self, message: Message) -> PgResult<Step> {
        let text = self.recv.frame(message).map(tag_text).unwrap_or_default();
        if !CommandTag::is_one(text) {
            return Err(no_command_tag(text));
        }
        if commits(text) {
            self.flights.commit();
        }
        match text {
            b"DISCARD ALL" | b"DEALLOCATE ALL" => self.prepared.clear(),
            b"ROLLBACK" => refuse_commit(&mut self.flights),
            _ => {}
        }
        let Some(request) = self.flights.current_mut() else { return Ok(Step::Consumed) };
        let (ticket, delivery) = (request.ticket, request.delivery);
        if request.command_done(text) {
            self.flights.answered();
        }
        self.last_tag.set(text);
        if delivery != Delivery::Events {
            return Ok(Step::Consumed);
        }
        (self.whose, self.found) = (ticket, message);
        Ok(Step::Command)
    }

    /// The server wants COPY data that nobody has: it is told so, if nothing is on its way to it
    /// that it would take for data.
    fn refuse_copy_in(&mut self) -> PgResult<()> {
        let why = "COPY from STDIN goes through copy_in, not through a query; the COPY was refused";
        let sent = self.send.sent_up_to();
        let (first, follower) = (self.flights.current(), self.flights.after_current());
        if follower.is_some_and(|request| request.is_sent(sent)) {
            return Err(PgError::Protocol(format!(
                "{why}; the requests behind it are lost in its data"
            )));
        }
        let Some(request) = first else { return Ok(()) };
        let has_sync = request.ends_group && !matches!(request.kind, Kind::Simple);
        let at = request.bytes.end.max(sent);
        self.flights.refuse(PgError::Usage(why.to_owned()));
        let mut refusal = Vec::new();
        frontend::copy_fail(&mut refusal, why)?;
        // The Sync behind a COPY of the extended protocol is swallowed while the server waits for
        // data. That of an open group is still to come.
        if has_sync {
            frontend::sync(&mut refusal);
        }
        // Before the requests of which nothing was sent.
        self.send.insert(at, &refusal);
        let length = refusal.len() as u64;
        self.flights.grow_current(at + length, length);
        Ok(())
    }

    /// The server sends COPY data that nobody wants: they are dropped, and the request fails.
    fn refuse_copy_out(&mut self) {
        if let Some(request) = self.flights.current_mut() {
            request.phase = Phase::CopyOut;
        }
        self.flights.refuse(PgError::Usage(
            "COPY to STDOUT goes through copy_out, not through a query: its data were dropped; \
             the other statements of the text were run"
                .to_owned(),
        ));
    }

    fn error_response(&mut self, error: ServerError) -> PgResult<()> {
        if error.severity.ends_session() {
            return Err(error.into());
        }
        if let Some(Kind::CopyIn { open, .. }) =
            self.flights.current_mut().map(|request| &mut request.kind)
        {
            // It takes no more data.
            *open = false;
        }
        let Some(request) = self.flights.current() else { return Err(error.into()) };
        let remedy = match (request.phase, &request.kind) {
            (Phase::Bind, Kind::Execute(Execute { known: true, .. }))
                if request.commands == 0 && is_stale(error.code) =>
            {
                Remedy::ParseAgain
            }
            (Phase::PortalRows, Kind::Execute(_) | Kind::Fetch { .. })
                if lacks_binary_output(&error) =>
            {
                Remedy::AskForText
            }
            _ => Remedy::None,
        };
        let sets = match &request.kind {
            // A statement that cannot be parsed is wrong with every set; at the Sync all of a batch
            // have been run.
            _ if matches!(request.phase, Phase::Parse | Phase::Sync) => None,
            Kind::Execute(execute) if execute.sets_left + request.commands > 0 => {
                Some(request.commands)
            }
            _ => None,
        };
        let error = match error.code {
            SqlState::QUERY_CANCELED if self.may_be_hit_by_neighbour(request) => {
                PgError::CancelledByNeighbour {
                    error: Box::new(error),
                    undone: is_undone_as_a_whole(request),
                }
            }
            _ => PgError::from(error),
        };
        let error = sets.into_iter().fold(error, PgError::at_parameter_set);
        self.flights.fail(error, remedy);
        Ok(())
    }
}

/// A ROLLBACK is done. For a COMMIT that is no success: the transaction had failed before.
fn refuse_commit(flights: &mut Flights) {
    // Behind a statement that has succeeded no transaction is failed: it can only be the first.
    let is_refused = |request: &InFlight| request.commands == 0 && is_commit(request.sql.text());
    if flights.current().is_some_and(is_refused) {
        flights.refuse(PgError::RolledBack);
    }
}

/// Whether only a COPY is answered by a message of this type.
fn is_of_copy(kind: u8) -> bool {
    matches!(kind, tag::COPY_IN_RESPONSE | tag::COPY_OUT_RESPONSE | tag::COPY_DATA | tag::COPY_DONE)
}

#[inline]
fn tell_columns(request: &InFlight) -> Step {
    match request.delivery {
        Delivery::Events => Step::Columns,
        _ => Step::Consumed,
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

/// Whether what the group has done so far is committed by this command, as far as its tag tells:
/// some commands that cannot run inside a transaction force it (PostgreSQL documentation,
/// "Pipelining"). CREATE INDEX CONCURRENTLY and its like are not among them: their last step is
/// undone by a later error in the group. Whether CALL or DO have committed no tag tells.
fn commits(tag: &[u8]) -> bool {
    matches!(
        tag,
        b"COMMIT"
            | b"PREPARE TRANSACTION"
            | b"COMMIT PREPARED"
            | b"ROLLBACK PREPARED"
            | b"DISCARD ALL"
            | b"CREATE DATABASE"
            | b"DROP DATABASE"
            | b"CREATE TABLESPACE"
            | b"DROP TABLESPACE"
            | b"ALTER SYSTEM"
            | b"VACUUM"
    )
}

/// Whether an error instead of BindComplete says that a statement is not what it was when it was
/// prepared: its result type changed (0A000), it is unknown (26000), its objects changed (class
/// 42).
fn is_stale(code: SqlState) -> bool {
    matches!(code, SqlState::FEATURE_NOT_SUPPORTED | SqlState::INVALID_SQL_STATEMENT_NAME)
        || code.class() == "42"
}

/// Whether the server failed because a type has no binary output function. Both routines that find
/// out raise it; the message may be in any language.
fn lacks_binary_output(error: &ServerError) -> bool {
    error.code == SqlState::UNDEFINED_FUNCTION
        && matches!(error.routine.as_deref(), Some("getTypeBinaryOutputInfo" | "array_send"))
}

/// Whether nothing at all is left of what a request did when it has failed: procedures, DO and
/// strings of statements may have committed a part of it before, and so may commands that run
/// outside of transactions.
fn is_undone_as_a_whole(request: &InFlight) -> bool {
    match request.kind {
        Kind::Execute(_) | Kind::Fetch { .. } => runs_from_description(request.sql.text()),
        // A COPY through the connection is one statement.
        Kind::Prepare { .. }
        | Kind::Open { .. }
        | Kind::Sync
        | Kind::CopyIn { .. }
        | Kind::CopyOut { .. } => true,
        Kind::Simple => false,
    }
}

/// The tag in a CommandComplete; an EmptyQueryResponse has an empty body.
#[inline]
pub(super) fn tag_text(frame: Frame<'_>) -> &[u8] {
    frame.body.split_last().map_or(&[], |(_nul, text)| text)
}

#[cold]
fn no_command_tag(text: &[u8]) -> PgError {
    PgError::Protocol(format!(
        "a CommandComplete has a tag that no command has: {:?}",
        String::from_utf8_lossy(text)
    ))
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

impl From<Malformed> for PgError {
    fn from(malformed: Malformed) -> Self {
        Self::Protocol(malformed.to_string())
    }
}
