//! Writing a request a second time: its prepared statement was stale, or the server cannot send one
//! of its columns in binary.
//!
//! Only where nothing can have changed by it: the server did nothing for the request, no
//! transaction was open, and nothing was sent behind it. Else it fails as not run, which is safe to
//! try again.

use std::rc::Rc;

use super::Engine;
use super::event::Delivery;
use super::flight::{Execute, Kind, Remedy, Sql};
use super::prepared::Name;
use crate::error::{PgError, PgResult};
use crate::types::{Format, Oid};
use crate::wire::frame::{self, Front};
use crate::wire::frontend::{self, Target};

/// The type byte of a Bind message.
const BIND: u8 = b'B';

impl Engine {
    /// Does something about the error of the front request, and writes the request again if it
    /// `may`. `None` when it is under way; else the error that it fails with.
    pub(super) fn apply_remedy(
        &mut self,
        remedy: Remedy,
        error: PgError,
        may: bool,
    ) -> Option<PgError> {
        let helps = match remedy {
            Remedy::None => false,
            Remedy::ParseAgain => {
                self.forget_stale();
                true
            }
            Remedy::AskForText => self.learn_text(),
        };
        let nothing_behind = {
            let sent = self.send.sent_up_to();
            !self.flights.get(1).is_some_and(|request| request.is_sent(sent))
        };
        if helps && may && nothing_behind && self.write_again().is_ok_and(|written| written) {
            return None;
        }
        Some(match remedy {
            Remedy::ParseAgain => PgError::NotRun(Box::new(error)),
            Remedy::None | Remedy::AskForText => error,
        })
    }

    /// The statement of the front request is not what it was when it was prepared.
    fn forget_stale(&mut self) {
        if let Some(Sql::Statement(statement)) = self.flights.get(0).map(|request| &request.sql) {
            self.prepared.forget(statement);
        }
    }

    /// Learns from the columns of the front request what has to be asked for as text; whether that
    /// was news.
    fn learn_text(&mut self) -> bool {
        let Some(request) = self.flights.get(0) else { return false };
        let news = self.prepared.learn_text_types(request.columns.as_deref().unwrap_or_default());
        let is_unnamed = matches!(&request.kind, Kind::Execute(Execute { name: None, .. }));
        if is_unnamed && !self.prepared.wants_text(request.sql.text()) {
            self.prepared.ask_text(request.sql.text());
            return true;
        }
        news
    }

    /// Writes the front request again, from its own bytes; whether that could be done.
    fn write_again(&mut self) -> PgResult<bool> {
        let at = self.send.sent_up_to();
        let Some(request) = self.flights.get(0) else { return Ok(false) };
        let Kind::Execute(Execute { again: false, name, .. }) = &request.kind else {
            return Ok(false);
        };
        let Some(bytes) = self.send.kept(request.bytes.start, request.bytes.end) else {
            return Ok(false);
        };
        if request.delivery == Delivery::Discard || request.commands > 0 || request.late {
            return Ok(false);
        }
        let types: Vec<Oid> = match &request.sql {
            Sql::Statement(statement) => statement.params().to_vec(),
            _ => request.declared.iter().map(|(_, oid)| *oid).collect(),
        };
        let formats = match name {
            None => Some(Rc::from([Format::Text.code()])),
            Some(_) => self.prepared.formats(request.columns.as_deref().unwrap_or_default()),
        };
        let binary = [Format::Binary.code()];
        let formats = formats.as_deref().unwrap_or(&binary);
        let new_name = name.is_some().then(|| self.prepared.new_name());
        let name_text = new_name.as_ref().map_or("", Name::as_str);
        let mut message = Vec::new();
        let oids = types.iter().map(|oid| oid.get());
        frontend::parse(&mut message, name_text, request.sql.text(), oids)?;
        let mut rest = bytes;
        let mut binds = 0;
        while let Ok(Front::Whole(frame, size)) = frame::next(rest, usize::MAX) {
            if frame.tag == BIND {
                frontend::bind_again(&mut message, frame.body, name_text, formats)?;
                if binds == 0 {
                    frontend::describe(&mut message, Target::Portal(""))?;
                }
                frontend::execute(&mut message, "", 0)?;
                binds += 1;
            }
            rest = rest.get(size..).unwrap_or_default();
        }
        frontend::sync(&mut message);
        self.put_again(&message, at, new_name);
        Ok(binds > 0)
    }

    /// The front request starts anew with these bytes.
    fn put_again(&mut self, message: &[u8], at: u64, name: Option<Name>) {
        let length = message.len() as u64;
        self.send.insert(at, message);
        self.flights.move_back(1, length);
        let Some(request) = self.flights.get_mut(0) else { return };
        request.bytes = at..at + length;
        request.closes.clear();
        request.columns = None;
        request.rows = None;
        if let Kind::Execute(execute) = &mut request.kind {
            let known = false;
            let sets_left = execute.sets_left;
            let parse = true;
            *execute = Execute {
                parse,
                name: name.clone(),
                describe: true,
                known,
                sets_left,
                again: true,
            };
        }
        request.phase = request.first_phase();
        if let (Some(name), Sql::Statement(statement)) = (name, &request.sql) {
            // Of no group that could still be open.
            self.prepared.parsing(statement, name, 0);
        }
    }
}
