//! What can be asked of the server, and writing it into the send buffer.
//!
//! A request either stands in the send buffer as a whole, or not at all: whatever fails on the way
//! rolls the buffer back to where it was.

use std::rc::Rc;

use super::Engine;
use super::deadline::Deadline;
use super::event::{Delivery, Outcome, Ticket};
use super::flight::{InFlight, Kind, Phase};
use super::keyword::copy_direction;
use super::statement::{Name, Statement};
use crate::error::{PgError, PgResult};
use crate::types::{Encoded, Format, Oid, Out, Params, ToSql, TypeMap, encode_as};
use crate::wire::frontend::{self, Bound, Target, Unwritable};

/// Something to ask the server for.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Request<'a> {
    /// Run one statement with parameters, in one round trip: Parse, Bind, Describe, Execute, Sync.
    Query {
        /// One SQL statement.
        sql: &'a str,
        /// Its parameters.
        params: &'a dyn Params,
    },
    /// Run a prepared statement: Bind, Describe, Execute, Sync; with a Parse before on a connection
    /// that does not know it.
    Execute {
        /// The statement.
        statement: &'a Statement,
        /// Its parameters.
        params: &'a dyn Params,
    },
    /// Prepare a statement: Parse, Describe, Sync. The [`Outcome`] has it.
    Prepare {
        /// One SQL statement.
        sql: &'a str,
        /// The types of the first parameters; unspecified ones and those that are missing are
        /// inferred.
        types: &'a [Oid],
    },
    /// Run a string of statements without parameters (the simple protocol). Results come in text
    /// format.
    Simple {
        /// Any number of SQL statements.
        sql: &'a str,
    },
    /// Close a prepared statement on this connection; it can still be run again.
    Close {
        /// The statement.
        statement: &'a Statement,
    },
    /// A Sync and nothing else: the shortest question that a server answers.
    Sync,
}

impl Engine {
    /// Queues a request; never waits for the server. Its bytes are pending to be sent.
    ///
    /// # Errors
    ///
    /// Nothing is queued and nothing will be sent when
    /// - the connection is broken ([`PgError::NotSent`]) or not ready yet
    ///   ([`PgError::WouldBlock`]),
    /// - a parameter cannot be encoded ([`PgError::Parameter`]) or the number of parameters is not
    ///   the statement's,
    /// - the text contains a NUL byte, is a COPY from STDIN or to STDOUT, or the message would be
    ///   longer than the protocol allows ([`PgError::Usage`]).
    pub fn submit(
        &mut self,
        request: Request<'_>,
        delivery: Delivery,
        deadline: Option<Deadline>,
    ) -> PgResult<Ticket> {
        if let Some(error) = self.refusal() {
            return Err(error);
        }
        if matches!((&request, delivery), (Request::Prepare { .. }, Delivery::Events)) {
            return Err(PgError::Usage(
                "a statement is prepared with Delivery::Collect: no event carries it".to_owned(),
            ));
        }
        let bytes_before = self.send.end();
        let params_before = self.declared.len();
        // From here on positions in the buffer are those of its writer, which may drop bytes that
        // were sent.
        let mark = self.send.writer().len();
        if let Request::Close { statement } = request {
            self.statements.forget(statement);
        }
        let mut closes = match request {
            // The simple protocol has no Close.
            Request::Simple { .. } => Vec::new(),
            _ => self.statements.take_unwanted(),
        };
        match self.write(request, &closes) {
            Ok((kind, sql)) => {
                self.tickets += 1;
                let mut request = InFlight {
                    ticket: Ticket(self.tickets),
                    kind,
                    phase: Phase::Sync,
                    delivery,
                    deadline,
                    bytes: bytes_before..self.send.end(),
                    sql,
                    params: self.declared.len() - params_before,
                    closes,
                    columns: None,
                    rows: None,
                    outcome: Outcome::NOTHING,
                    completed: false,
                    error: None,
                };
                request.phase = match request.closes.len() {
                    0 => request.first_phase(),
                    count => Phase::Close(count),
                };
                let ticket = request.ticket;
                self.in_flight.push_back(request);
                Ok(ticket)
            }
            Err(error) => {
                self.send.writer().truncate(mark);
                self.declared.truncate(params_before);
                closes.drain(..).for_each(|name| self.statements.unwanted(name));
                Err(error)
            }
        }
    }

    /// Writes the messages of a request.
    fn write(&mut self, request: Request<'_>, closes: &[Name]) -> PgResult<(Kind, Rc<str>)> {
        // Close is written only here, directly after the Sync of the request before: in a failed
        // group it would be skipped.
        for name in closes {
            frontend::close(self.send.writer(), Target::Statement(&name.to_string()))?;
        }
        let (kind, sql) = match request {
            Request::Query { sql, params } => {
                refuse_copy(sql)?;
                self.write_parse(sql, params, &[])?;
                self.write_execute("", params, &[])?;
                (Kind::Execute { parse: true, statement: None }, Rc::from(sql))
            }
            Request::Execute { statement, params } => self.write_statement(statement, params)?,
            Request::Prepare { sql, types } => {
                refuse_copy(sql)?;
                let name = self.statements.new_name();
                let buf = self.send.writer();
                let text = name.to_string();
                frontend::parse(buf, &text, sql, types.iter().map(|oid| oid.get()))?;
                frontend::describe(buf, Target::Statement(&text))?;
                (Kind::Prepare { name, params: Vec::new() }, Rc::from(sql))
            }
            Request::Simple { sql } => {
                refuse_copy(sql)?;
                frontend::query(self.send.writer(), sql)?;
                return Ok((Kind::Simple, Rc::from(sql)));
            }
            Request::Close { .. } | Request::Sync => (Kind::Sync, Rc::from("")),
        };
        frontend::sync(self.send.writer());
        Ok((kind, sql))
    }

    fn write_statement(
        &mut self,
        statement: &Statement,
        params: &dyn Params,
    ) -> PgResult<(Kind, Rc<str>)> {
        let types = statement.params();
        if params.len() != types.len() {
            return Err(PgError::Usage(format!(
                "the statement has {} parameters, but {} were given",
                types.len(),
                params.len()
            )));
        }
        let fits = |(index, inferred): (usize, &Oid)| {
            params.param(index).is_none_or(|param| reads_as(param.declare(BUILTIN), *inferred))
        };
        if !types.iter().enumerate().all(fits) {
            // The server is to coerce as it does in any query, so it has to know the types anew.
            self.write_parse(statement.sql(), params, types)?;
            self.write_execute("", params, &[])?;
            return Ok((Kind::Execute { parse: true, statement: None }, statement.shared_sql()));
        }
        let known = self.statements.name(statement);
        let name = known.unwrap_or_else(|| self.statements.new_name());
        let text = name.to_string();
        if known.is_none() {
            let oids = types.iter().map(|oid| oid.get());
            frontend::parse(self.send.writer(), &text, statement.sql(), oids)?;
        }
        self.write_execute(&text, params, types)?;
        let kind =
            Kind::Execute { parse: known.is_none(), statement: Some((statement.clone(), name)) };
        Ok((kind, statement.shared_sql()))
    }

    /// Parse of the unnamed statement, with the parameters declared as their Rust types say;
    /// `otherwise` has the types of those that say nothing.
    fn write_parse(&mut self, sql: &str, params: &dyn Params, otherwise: &[Oid]) -> PgResult<()> {
        let oids = (0..params.len()).map(|index| {
            let declared = params.param(index).map_or(Oid::UNSPECIFIED, |p| p.declare(BUILTIN));
            match (declared, otherwise.get(index)) {
                (Oid::UNSPECIFIED, Some(inferred)) => inferred.get(),
                (declared, _) => declared.get(),
            }
        });
        frontend::parse(self.send.writer(), "", sql, oids)?;
        Ok(())
    }

    /// Bind, Describe, Execute of the unnamed portal. `types` are those that the statement was
    /// parsed with, where they are not the parameters' own.
    fn write_execute(
        &mut self,
        statement: &str,
        params: &dyn Params,
        types: &[Oid],
    ) -> PgResult<()> {
        let declared = &mut self.declared;
        let buf = self.send.writer();
        let value = |index: usize, buf: &mut Vec<u8>| -> PgResult<Bound> {
            let Some(param) = params.param(index) else {
                return Ok(Bound::Null);
            };
            let oid = types.get(index).copied().unwrap_or_else(|| param.declare(BUILTIN));
            declared.push_back((param.rust_type(), oid));
            encode(param, oid, buf).map_err(|error| error.at_parameter(index + 1))
        };
        frontend::bind(buf, "", statement, params.len(), value, Format::Binary.code())?;
        frontend::describe(buf, Target::Portal(""))?;
        frontend::execute(buf, "", 0)?;
        Ok(())
    }
}

/// What the parameters declare themselves by.
const BUILTIN: &TypeMap = TypeMap::builtin();

/// Whether a parameter that declares itself as `declared` means the same where the server expects
/// `expected`, if it goes as it is or as text.
///
/// A string is what the server makes of it. Of integers the text form is read as just what a cast
/// from the integer type gives, or refused. That is not so for other types: a cast of a float4
/// to float8, or of a timestamptz to timestamp, gives another value than reading its text.
fn reads_as(declared: Oid, expected: Oid) -> bool {
    const INTEGERS: [Oid; 3] = [Oid::INT2, Oid::INT4, Oid::INT8];
    const NUMBERS: [Oid; 6] =
        [Oid::INT2, Oid::INT4, Oid::INT8, Oid::FLOAT4, Oid::FLOAT8, Oid::NUMERIC];
    declared == expected
        || declared == Oid::UNSPECIFIED
        || (INTEGERS.contains(&declared) && NUMBERS.contains(&expected))
}

/// Appends one parameter's value, in a form that the server reads right as type `oid`.
#[inline]
fn encode(param: &dyn ToSql, oid: Oid, buf: &mut Vec<u8>) -> PgResult<Bound> {
    let mut out = Out::new(buf);
    let encoded = encode_as(param, oid, BUILTIN, &mut out)?;
    if out.overflowed() {
        return Err(Unwritable::TooLong.into());
    }
    Ok(match encoded {
        Encoded::Null => Bound::Null,
        Encoded::Text => Bound::Value(Format::Text.code()),
        Encoded::Binary => Bound::Value(Format::Binary.code()),
    })
}

/// COPY from STDIN or to STDOUT changes the course of the protocol, and a Sync behind it is
/// swallowed: it has calls of its own. A COPY from or to a file or program on the server is a
/// command like any other.
fn refuse_copy(sql: &str) -> PgResult<()> {
    match copy_direction(sql) {
        Some(call) => Err(PgError::Usage(format!(
            "this COPY goes through {call}, not through a query; nothing was sent"
        ))),
        None => Ok(()),
    }
}

impl From<Unwritable> for PgError {
    fn from(unwritable: Unwritable) -> Self {
        Self::Usage(format!("{unwritable}; nothing was sent"))
    }
}
