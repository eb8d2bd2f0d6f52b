//! What can be asked of the server, and writing it into the send buffer.
//!
//! A request either stands in the send buffer as a whole, or not at all: whatever fails on the way
//! rolls the buffer back to where it was.

use std::rc::Rc;

use super::Engine;
use super::event::{Outcome, Ticket};
use super::flight::{InFlight, Kind, Phase};
use super::keyword::Words;
use super::statement::{Name, Statement};
use super::time::Deadline;
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

/// How the answer to a request reaches the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Through [`Engine::next_event`]: rows one by one, borrowed, nothing copied.
    Events,
    /// Rows are collected; only the terminal event surfaces, then [`Engine::take`] gives the
    /// [`Outcome`].
    Collect,
    /// Not at all: the answer is drained.
    Discard,
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
        if let Some(error) = &self.broken {
            return Err(PgError::NotSent(Box::new(error.clone())));
        }
        if self.startup.is_some() {
            return Err(PgError::WouldBlock);
        }
        let bytes_before = self.send.end();
        let params_before = self.declared.len();
        // From here on positions in the buffer are those of its writer, which may drop bytes that
        // were sent.
        let mark = self.send.writer().len();
        let mut closes = match request {
            Request::Close { statement } => {
                self.statements.forget(statement);
                self.statements.take_unwanted()
            }
            Request::Prepare { .. } => self.statements.take_unwanted(),
            _ => Vec::new(),
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
                self.write_parse(sql, params)?;
                self.write_execute("", params, |_| Oid::UNSPECIFIED)?;
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
        let declared = |index: usize| types.get(index).copied().unwrap_or(Oid::UNSPECIFIED);
        let known = self.statements.name(statement);
        let name = known.unwrap_or_else(|| self.statements.new_name());
        let text = name.to_string();
        if known.is_none() {
            let oids = types.iter().map(|oid| oid.get());
            frontend::parse(self.send.writer(), &text, statement.sql(), oids)?;
        }
        self.write_execute(&text, params, declared)?;
        let kind =
            Kind::Execute { parse: known.is_none(), statement: Some((statement.clone(), name)) };
        Ok((kind, statement.shared_sql()))
    }

    /// Parse of the unnamed statement, with the parameters declared as their Rust types say.
    fn write_parse(&mut self, sql: &str, params: &dyn Params) -> PgResult<()> {
        let types = TypeMap::builtin();
        let declare = |param: &dyn ToSql| param.declare(types);
        let oids = (0..params.len())
            .map(|index| params.param(index).map_or(Oid::UNSPECIFIED, declare).get());
        frontend::parse(self.send.writer(), "", sql, oids)?;
        Ok(())
    }

    /// Bind, Describe, Execute of the unnamed portal. `expected` is the type that the server reads
    /// a parameter as, where the statement has been parsed with it.
    fn write_execute(
        &mut self,
        statement: &str,
        params: &dyn Params,
        expected: impl Fn(usize) -> Oid,
    ) -> PgResult<()> {
        let types = TypeMap::builtin();
        let declared = &mut self.declared;
        let buf = self.send.writer();
        let value = |index: usize, buf: &mut Vec<u8>| -> PgResult<Bound> {
            let Some(param) = params.param(index) else {
                return Ok(Bound::Null);
            };
            let oid = match expected(index) {
                Oid::UNSPECIFIED => param.declare(types),
                oid => oid,
            };
            declared.push_back((param.rust_type(), oid));
            encode(param, oid, types, buf).map_err(|error| error.at_parameter(index + 1))
        };
        frontend::bind(buf, "", statement, params.len(), value, Format::Binary.code())?;
        frontend::describe(buf, Target::Portal(""))?;
        frontend::execute(buf, "", 0)?;
        Ok(())
    }
}

/// Appends one parameter's value, in a form that the server reads right as type `oid`.
#[inline]
fn encode(param: &dyn ToSql, oid: Oid, types: &TypeMap, buf: &mut Vec<u8>) -> PgResult<Bound> {
    let mut out = Out::new(buf);
    let encoded = encode_as(param, oid, types, &mut out)?;
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
    let mut words = Words(sql);
    if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("copy")) {
        return Ok(());
    }
    for word in words {
        let call = if word.eq_ignore_ascii_case("stdin") {
            "copy_in"
        } else if word.eq_ignore_ascii_case("stdout") {
            "copy_out"
        } else {
            continue;
        };
        return Err(PgError::Usage(format!(
            "COPY with {} goes through {call}, not through a query; nothing was sent",
            word.to_ascii_uppercase()
        )));
    }
    Ok(())
}

impl From<Unwritable> for PgError {
    fn from(unwritable: Unwritable) -> Self {
        Self::Usage(format!("{unwritable}; nothing was sent"))
    }
}
