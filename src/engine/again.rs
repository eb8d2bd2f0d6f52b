//! Writing a request a second time: its prepared statement was stale, or the server cannot send one
//! of its columns in binary; or it cleans up, and a cancel hit it that was meant for another.
//!
//! The first two only where nothing can have changed by it: the server did nothing for the request, no
//! transaction was open, and nothing was sent behind it. Else it fails as not run, which is safe to
//! try again.

use super::Engine;
use super::flight::{Execute, InFlight, Kind, Sql, Standing};
use super::flights::Remedy;
use super::keyword::is_call;
use super::prepared::{BINARY, Name, NameText};
use crate::error::{PgError, PgResult, SqlState};
use crate::types::Oid;
use crate::wire::frame::{self, Front};
use crate::wire::frontend::{self, Target};

/// The type byte of a Bind message.
const BIND: u8 = b'B';

impl Engine {
    /// Does something about the error of the request at `index` of the front group, and writes the
    /// request again if it `may`: when the group has no others. `None` when it is under way; else
    /// the error that it fails with.
    pub(super) fn apply_remedy(
        &mut self,
        remedy: Remedy,
        error: PgError,
        index: usize,
        may: bool,
    ) -> Option<PgError> {
        let helps = match remedy {
            Remedy::None => false,
            Remedy::ParseAgain => {
                self.forget_stale(index);
                true
            }
            Remedy::AskForText => self.learn_text(index),
        };
        let nothing_behind = {
            let sent = self.send.sent_up_to();
            !self.flights.get(1).is_some_and(|request| request.is_sent(sent))
        };
        if helps && may && nothing_behind && self.write_again(remedy).is_ok_and(|written| written) {
            return None;
        }
        Some(match remedy {
            Remedy::ParseAgain => PgError::NotRun(Box::new(error)),
            Remedy::None | Remedy::AskForText => error,
        })
    }

    /// The statement of a request is not what it was when it was prepared.
    fn forget_stale(&mut self, index: usize) {
        let Some(request) = self.flights.get(index) else { return };
        if let (Kind::Execute(Execute { name: Some(name), .. }), Sql::Statement(statement)) =
            (&request.kind, &request.sql)
        {
            // It may have been prepared under another name since.
            if self.prepared.get(statement).is_some_and(|known| known.name == *name) {
                self.prepared.forget(statement);
            }
        }
    }

    /// Learns from the columns of a request what has to be asked for as text; whether it helps to
    /// ask again. It cannot help for ever: each time more is asked for as text.
    fn learn_text(&mut self, index: usize) -> bool {
        let Some(request) = self.flights.get(index) else { return false };
        let helps = self.prepared.learn_text_types(request.columns.as_deref().unwrap_or_default());
        let has_description = match (&request.kind, &request.sql) {
            (Kind::Execute(Execute { name: Some(_), .. }), Sql::Statement(statement)) => {
                statement.runs_from_description()
            }
            _ => false,
        };
        if !has_description && self.prepared.blind_formats(request.sql.text()).is_none() {
            self.prepared.ask_text(request.sql.text());
            return true;
        }
        helps
    }

    /// Writes the front request again, from its own bytes; whether that could be done.
    fn write_again(&mut self, remedy: Remedy) -> PgResult<bool> {
        let at = self.send.sent_up_to();
        let Some(request) = self.flights.get(0) else { return Ok(false) };
        let Kind::Execute(Execute { name, .. }) = &request.kind else { return Ok(false) };
        let Some(bytes) = self.send.kept(request.bytes.start, request.bytes.end) else {
            return Ok(false);
        };
        // A procedure may have committed what it did before its result could not be sent.
        let may_have_committed = remedy == Remedy::AskForText && is_call(request.sql.text());
        let has_begun = request.has_rows || request.commands > 0 || may_have_committed;
        if request.standing != Standing::Wanted || has_begun || self.terminated {
            return Ok(false);
        }
        let types: Vec<Oid> = match &request.sql {
            Sql::Statement(statement) => statement.params().to_vec(),
            _ => request
                .aside
                .iter()
                .flat_map(|aside| &aside.declared)
                .map(|(_, oid)| *oid)
                .collect(),
        };
        let formats = match remedy {
            Remedy::AskForText if name.is_some() => {
                self.prepared.formats(request.columns.as_deref().unwrap_or_default())
            }
            // The columns are not known, or are others now.
            _ => self.prepared.blind_formats(request.sql.text()),
        };
        let formats = formats.as_deref().unwrap_or(BINARY);
        let new_name = name.is_some().then(|| self.prepared.new_name());
        let name_text = NameText::of(new_name);
        let mut message = Vec::new();
        let oids = types.iter().map(|oid| oid.get());
        frontend::parse(&mut message, &name_text, request.sql.text(), oids)?;
        let mut rest = bytes;
        let mut binds = 0;
        while let Ok(Front::Whole(frame, size)) = frame::next(rest, usize::MAX) {
            if frame.tag == BIND {
                frontend::bind_again(&mut message, frame.body, &name_text, formats)?;
                if binds == 0 {
                    frontend::describe(&mut message, Target::Portal(""))?;
                }
                frontend::execute(&mut message, "", 0)?;
                binds += 1;
            }
            rest = rest.get(size..).unwrap_or_default();
        }
        if binds == 0 {
            return Ok(false);
        }
        frontend::sync(&mut message);
        self.put_again(&message, at, new_name);
        Ok(true)
    }

    /// Writes a cleanup again that has left the front with this error, if a cancel is to blame: behind
    /// what has been sent, which are cleanups only, and before all else. (The server looks for cancels
    /// before it runs a ROLLBACK, and nobody would know that it did not.)
    pub(super) fn clean_up_again(&mut self, mut request: Box<InFlight>, error: &PgError) {
        let Standing::Cleanup { behind_hit } = request.standing else { return };
        let was_hit = error.sql_state() == Some(SqlState::QUERY_CANCELED);
        let is_refused = error.sql_state() == Some(SqlState::IN_FAILED_SQL_TRANSACTION);
        if self.terminated || !(was_hit || (behind_hit && is_refused)) {
            return;
        }
        if was_hit {
            for other in self.flights.iter_mut().filter(|other| other.standing.cleans_up()) {
                other.standing = Standing::Cleanup { behind_hit: true };
            }
        }
        let mut message = Vec::new();
        if frontend::query(&mut message, request.sql.text()).is_err() {
            return;
        }
        let place = self.flights.iter().take_while(|other| other.standing.cleans_up()).count();
        let mut at = self.send.sent_up_to();
        if let Some(before) = place.checked_sub(1).and_then(|last| self.flights.get(last)) {
            // Tickets do not fall along the queue.
            request.ticket = before.ticket;
            at = at.max(before.bytes.end);
        }
        let length = message.len() as u64;
        self.send.insert(at, &message);
        self.flights.move_back(place, length);
        request.bytes = at..at + length;
        request.standing = Standing::Cleanup { behind_hit: false };
        request.phase = request.first_phase();
        (request.commands, request.has_rows) = (0, false);
        (request.columns, request.rows, request.aside) = (None, None, None);
        self.flights.insert(place, request);
        self.clock.hold();
    }

    /// The front request starts anew with these bytes.
    fn put_again(&mut self, message: &[u8], at: u64, name: Option<Name>) {
        let length = message.len() as u64;
        self.send.insert(at, message);
        self.flights.move_back(1, length);
        let Some(request) = self.flights.get_mut(0) else { return };
        request.bytes = at..at + length;
        if let Some(aside) = &mut request.aside {
            aside.closes.clear();
        }
        request.columns = None;
        request.rows = None;
        if let Kind::Execute(execute) = &mut request.kind {
            (execute.parse, execute.describe, execute.known) = (true, true, false);
            execute.name = name;
        }
        request.phase = request.first_phase();
        if let (Some(name), Sql::Statement(statement)) = (name, &request.sql) {
            // Of no group that could still be open.
            self.prepared.parsing(statement, name, 0);
        }
    }
}
