//! The end of a group: what became of each of its requests.
//!
//! Certain only at ReadyForQuery. CommandComplete proves nothing: a deferred constraint fails after
//! it, and a later request's error undoes an earlier one that is in the same group.

use std::cell::Cell;
use std::rc::Rc;

use super::buffer::release_both;
use super::cursor::{Cursor, Portal, PortalState};
use super::event::{Delivery, Event, Outcome, Ticket};
use super::flight::{Execute, InFlight, Kind, Sql};
use super::flights::{Failure, Remedy};
use super::prepared::Unwanted;
use super::statement::Statement;
use super::{Engine, Step};
use crate::error::{PgError, ServerError, SqlState, short_type_name};
use crate::types::{Oid, TypeMap};
use crate::wire::backend::TransactionStatus;

impl Engine {
    /// ReadyForQuery: the front group is at its end.
    #[inline]
    pub(super) fn ready(&mut self, status: TransactionStatus) -> Step {
        self.session.set_transaction_status(status);
        if status == TransactionStatus::Idle {
            self.prepared.forget_portals();
        }
        if self.flights.is_failing() {
            return self.ready_after_failure(status);
        }
        (self.ended, _) = self.flights.end();
        self.complete_next()
    }

    /// [`ready`](Self::ready) of a group in which not everything has succeeded.
    #[cold]
    fn ready_after_failure(&mut self, status: TransactionStatus) -> Step {
        let failure = self.flights.take_failure();
        let (count, committed) = self.flights.end();
        if let Some(failure) = failure {
            self.end_failed(count, failure, committed, status);
        }
        self.group_ended();
        Step::Consumed
    }

    /// The buffers and the clock after the end of a group.
    #[inline]
    fn group_ended(&mut self) {
        if self.flights.is_empty() {
            self.flights.release();
            // Nobody may look for more before the next request.
            release_both(&mut self.send, &mut self.recv);
            if !self.clock.is_holding() {
                return self.clock.idle();
            }
        }
        self.flights.skip_answered();
        if self.clock.is_holding() {
            self.stop_holding_if_drained();
        }
    }

    /// Completes the next request of a group that has succeeded.
    #[inline(never)]
    pub(super) fn complete_next(&mut self) -> Step {
        self.ended -= 1;
        let Some(mut request) = self.flights.pop() else { return Step::Consumed };
        let told = if request.delivery.tells_rows() {
            if request.delivery == Delivery::Rows {
                std::mem::swap(&mut self.last_columns, &mut request.columns);
            }
            let ticket = request.ticket;
            self.flights.recycle(request);
            Some(ticket)
        } else {
            self.complete(request)
        };
        if self.ended == 0 {
            self.group_ended();
        }
        let Some(ticket) = told else { return Step::Consumed };
        self.whose = ticket;
        Step::Complete
    }

    /// A request has succeeded for good; its ticket, if somebody wants to know.
    fn complete(&mut self, mut request: Box<InFlight>) -> Option<Ticket> {
        let (mut statement, mut cursor) = (None, None);
        match request.kind {
            Kind::Prepare { .. } => statement = self.keep_prepared(&mut request),
            Kind::Open { .. } => cursor = self.keep_cursor(&mut request),
            _ => {}
        }
        let (ticket, delivery) = (request.ticket, request.delivery);
        if delivery == Delivery::Collect {
            let outcome = Outcome { statement, cursor, ..request.outcome() };
            self.finished.push_back((ticket, Ok(outcome)));
        }
        self.flights.recycle(request);
        (delivery != Delivery::Discard).then_some(ticket)
    }

    /// A cursor was opened: the outcome has it.
    fn keep_cursor(&mut self, request: &mut InFlight) -> Option<Cursor> {
        let Kind::Open { portal } = &request.kind else { return None };
        let portal = Rc::new(Portal {
            name: *portal,
            sql: Rc::from(request.sql.text()),
            columns: request.columns.take(),
            state: Cell::new(PortalState::Open),
            is_wanted: Cell::new(true),
        });
        self.prepared.opened(Rc::clone(&portal));
        Some(Cursor::new(portal))
    }

    /// A statement was prepared: the outcome has it.
    fn keep_prepared(&mut self, request: &mut InFlight) -> Option<Statement> {
        let Kind::Prepare { name } = &mut request.kind else { return None };
        let name = name.take();
        if request.delivery == Delivery::Discard {
            let unwanted = name.map(Unwanted::Statement);
            unwanted.into_iter().for_each(|unwanted| self.prepared.unwanted(unwanted));
            return None;
        }
        let params = std::mem::take(&mut request.aside().params);
        let described = request.columns.take();
        let columns = described.clone().unwrap_or_else(|| Rc::from([]));
        let statement = Statement::new(request.sql.text(), params, columns);
        if let Some(name) = name {
            self.prepared.parsing(&statement, name, 0);
            self.prepared.parsed(&statement, name);
        }
        Some(statement)
    }

    /// The end of a group in which one request failed.
    #[cold]
    fn end_failed(
        &mut self,
        count: usize,
        failure: Failure,
        committed: usize,
        status: TransactionStatus,
    ) {
        let Failure { index: culprit, error, remedy, alone } = failure;
        let idle = status == TransactionStatus::Idle;
        let error = match remedy {
            Remedy::None => error,
            remedy => match self.apply_remedy(remedy, error, culprit, idle && count == 1) {
                Some(error) => error,
                // The request is under way again.
                None => return,
            },
        };
        self.retryable_failures += u64::from(error.is_safe_to_retry());
        let not_run = |error: &PgError| match error {
            PgError::NotRun(_) => error.clone(),
            error => PgError::NotRun(Box::new(error.clone())),
        };
        for index in 0..count {
            let Some(request) = self.flights.pop() else { return };
            if request.standing.cleans_up() {
                // A group of its own, of whose error nobody is told.
                self.clean_up_again(request, &error);
            } else if index == culprit {
                self.undo_statements(&request, true);
                self.fail(request, error.clone());
            } else if alone || index < committed {
                let ticket = self.complete(request);
                self.pending.extend(ticket.map(|ticket| Event::Complete { ticket }));
            } else if index < culprit {
                self.undo_statements(&request, false);
                self.fail(request, PgError::RolledBack);
            } else {
                self.undo_statements(&request, false);
                self.tell_failure(request.ticket, request.delivery, not_run(&error));
            }
        }
    }

    /// What a request that failed, or was not run, was to do to the prepared statements.
    pub(super) fn undo_statements(&mut self, request: &InFlight, is_culprit: bool) {
        for unwanted in request.aside.iter().flat_map(|aside| &aside.closes) {
            self.prepared.unwanted(*unwanted);
        }
        match (&request.kind, &request.sql) {
            (Kind::Execute(Execute { parse: true, name: Some(name), .. }), Sql::Statement(sql)) => {
                self.prepared.not_parsed(sql, *name);
                if is_culprit {
                    // It is no statement at all; the cache has better use for its place.
                    self.catalogue.remove(sql);
                }
            }
            // Maybe parsed, but nobody will know it. To close what does not exist is no error.
            (Kind::Prepare { name: Some(name) }, _) => {
                self.prepared.unwanted(Unwanted::Statement(*name));
            }
            _ => {}
        }
    }

    /// Ends a request that has left the queue with an error.
    pub(super) fn fail(&mut self, request: Box<InFlight>, error: PgError) {
        let mut error = error.with_query(request.sql.text());
        let declared =
            request.aside.as_ref().map(|aside| aside.declared.as_slice()).unwrap_or_default();
        if let PgError::Server(server) = &mut error {
            if let Some(hint) = parameter_hint(server, declared) {
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
        self.row_run = None;
        match delivery {
            Delivery::Discard => return,
            Delivery::Collect => self.finished.push_back((ticket, Err(error.clone()))),
            Delivery::Events | Delivery::Rows => {}
        }
        self.pending.push_back(Event::Failed { ticket, error });
    }
}

/// What to do about an error over parameter types: says what each parameter was declared as.
fn parameter_hint(error: &ServerError, declared: &[(&'static str, Oid)]) -> Option<String> {
    let about_types = [
        SqlState::AMBIGUOUS_PARAMETER,
        SqlState::INDETERMINATE_DATATYPE,
        SqlState::AMBIGUOUS_FUNCTION,
        SqlState::DATATYPE_MISMATCH,
        SqlState::UNDEFINED_FUNCTION,
    ];
    if declared.is_empty() || !about_types.contains(&error.code) {
        return None;
    }
    const SHOWN: usize = 20;
    let list = declared.iter().take(SHOWN).enumerate().map(|(index, (rust_type, oid))| {
        let (rust_type, oid) = (short_type_name(rust_type), TypeMap::builtin().describe(*oid));
        format!("${}: {rust_type} -> {oid}", index + 1)
    });
    let list: Vec<_> = list.collect();
    let more = if declared.len() > SHOWN { ", ..." } else { "" };
    Some(format!(
        "Write $n::type where a parameter is to have another type; they were declared as {}{more}.",
        list.join(", ")
    ))
}
