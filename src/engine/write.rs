//! Writing the messages of a request into the send buffer.

use std::rc::Rc;

use super::Engine;
use super::catalogue::LONGEST_CACHED;
use super::copy::Progress;
use super::cursor::Portal;
use super::flight::{Execute, Kind, Sql};
use super::keyword::{copy_direction, runs_from_description};
use super::prepared::{BINARY, Name, NameText, Unwanted};
use super::request::{OneSet, ParamSets, Request, Submit};
use super::statement::Statement;
use crate::config::ExecutionMode;
use crate::error::{PgError, PgResult, short_type_name};
use crate::row::Column;
use crate::types::{Encoded, Format, Oid, Out, Params, ToSql, TypeMap, encode_as, reads_as};
use crate::wire::frontend::{self, Bound, Target, Unwritable};

/// A request as it was written.
pub(super) struct Written {
    pub(super) kind: Kind,
    pub(super) sql: Sql,
    /// Rust type and declared type of each parameter, if a Parse declared them.
    pub(super) declared: Vec<(&'static str, Oid)>,
    /// The columns, if they are known and will not be described.
    pub(super) columns: Option<Rc<[Column]>>,
    /// It needs no Sync: the simple protocol.
    pub(super) has_sync: bool,
}

impl Written {
    /// Of a batch.
    fn batch(mut self) -> Self {
        if let Kind::Execute(execute) = &mut self.kind {
            execute.batch = true;
        }
        self
    }

    fn new(kind: Kind, sql: Sql) -> Self {
        Self { kind, sql, declared: Vec::new(), columns: None, has_sync: false }
    }
}

/// How a statement is to be found on the server.
struct Plan {
    name: Option<Name>,
    parse: bool,
    known: bool,
    describe: bool,
    columns: Option<Rc<[Column]>>,
    /// The format codes to ask for; `None` for binary everywhere.
    formats: Option<Rc<[i16]>>,
}

impl Plan {
    /// To be parsed, under this name or as the unnamed statement.
    fn parse(name: Option<Name>) -> Self {
        Self { name, parse: true, known: false, describe: true, columns: None, formats: None }
    }
}

impl Engine {
    /// Writes the messages of a request, but for its Sync.
    #[inline]
    pub(super) fn write(
        &mut self,
        request: Request<'_>,
        submit: &Submit,
        closes: &[Unwanted],
    ) -> PgResult<Written> {
        for unwanted in closes {
            unwanted.write_close(self.send.writer())?;
        }
        let mode = submit.mode.unwrap_or(self.mode);
        match request {
            Request::Query { sql, params } => self.write_query(sql, &OneSet(params), submit, false),
            Request::Batch { sql, sets } => {
                self.write_query(sql, sets, submit, true).map(Written::batch)
            }
            Request::Execute { statement, params } => {
                self.write_execute(statement, &OneSet(params), mode)
            }
            Request::ExecuteBatch { statement, sets } => {
                self.write_execute(statement, sets, mode).map(Written::batch)
            }
            Request::Prepare { sql, types } => self.write_prepare(sql, types, mode),
            Request::Simple { sql } => self.write_simple(sql, submit),
            Request::OpenCursor { sql, params } => self.write_open(sql, params),
            Request::Fetch { cursor, max_rows } => self.write_fetch(cursor.portal(), max_rows),
            Request::CopyIn { sql } => {
                Self::check_copy(sql, "copy_in")?;
                let kind = Kind::CopyIn {
                    open: true,
                    failed: false,
                    statement: None,
                    progress: Progress::default(),
                };
                self.write_string(sql, submit, kind)
            }
            Request::CopyOut { sql } => {
                Self::check_copy(sql, "copy_out")?;
                self.write_string(sql, submit, Kind::CopyOut { progress: Progress::default() })
            }
            Request::Close { .. } | Request::Sync => Ok(Written::new(Kind::Sync, Sql::Nothing)),
        }
    }

    /// A query: a statement of the cache where that is possible, else the unnamed one.
    fn write_query(
        &mut self,
        sql: &str,
        sets: &dyn ParamSets,
        submit: &Submit,
        is_batch: bool,
    ) -> PgResult<Written> {
        let first = first_set(sets)?;
        match submit.mode.unwrap_or(self.mode) {
            ExecutionMode::Cached => {}
            ExecutionMode::Unnamed => return self.write_unnamed(sql, &[], sets),
            ExecutionMode::Simple if first.is_empty() && !is_batch => {
                return self.write_simple(sql, submit);
            }
            ExecutionMode::Simple => {
                return Err(PgError::Usage(
                    "the simple protocol has no parameters; nothing was sent".to_owned(),
                ));
            }
        }
        if let Some(statement) = self.catalogue.find(sql, first) {
            return self.write_statement(statement, sets);
        }
        if self.catalogue.capacity() == 0
            || sql.len() > LONGEST_CACHED
            || !runs_from_description(sql)
        {
            return self.write_unnamed(sql, &[], sets);
        }
        let types = declare(first, &[]).collect();
        let statement = Statement::new(sql, types, Rc::from([]));
        let written = self.write_statement(statement.clone(), sets)?;
        self.catalogue.insert(statement);
        Ok(written)
    }

    /// A statement that somebody has prepared.
    fn write_execute(
        &mut self,
        statement: &Statement,
        sets: &dyn ParamSets,
        mode: ExecutionMode,
    ) -> PgResult<Written> {
        let first = first_set(sets)?;
        let types = statement.params();
        if first.len() != types.len() {
            return Err(wrong_count(types.len(), first.len()));
        }
        if mode == ExecutionMode::Cached && misfit(first, types).is_none() {
            return self.write_statement(statement.clone(), sets);
        }
        // The server is to coerce as it does in any query, so it has to know the types anew.
        self.write_unnamed(statement.sql(), types, sets)
    }

    /// Parse of the unnamed statement, with the parameters declared as their Rust types say;
    /// `otherwise` has the types of those that say nothing.
    fn write_unnamed(
        &mut self,
        sql: &str,
        otherwise: &[Oid],
        sets: &dyn ParamSets,
    ) -> PgResult<Written> {
        refuse_copy(sql)?;
        let first = first_set(sets)?;
        let types: Vec<Oid> = declare(first, otherwise).collect();
        let formats = self.prepared.blind_formats(sql);
        let plan = Plan { formats, ..Plan::parse(None) };
        self.write_sets(plan, sql, &types, sets, || Sql::Text(Rc::from(sql)))
    }

    /// Runs a statement under the name that the server has it by, or is given now.
    #[inline]
    fn write_statement(&mut self, statement: Statement, sets: &dyn ParamSets) -> PgResult<Written> {
        let plan = self.plan(&statement);
        let sql = Sql::Statement(statement.clone());
        self.write_sets(plan, statement.sql(), statement.params(), sets, || sql)
    }

    /// How `statement` is to be run on this connection.
    #[inline]
    fn plan(&mut self, statement: &Statement) -> Plan {
        let Some(known) = self.prepared.get(statement) else {
            return Plan::parse(Some(self.prepared.new_name()));
        };
        if known.parsing.is_some_and(|group| group != self.flights.next_group()) {
            // Whether that Parse will succeed nobody knows: this request carries its own.
            let formats = self.prepared.blind_formats(statement.sql());
            return Plan { formats, ..Plan::parse(None) };
        }
        let description = known.description.as_ref();
        let description = description.filter(|_| statement.runs_from_description());
        let formats = match description {
            Some(description) => description.formats.clone(),
            None => self.prepared.blind_formats(statement.sql()),
        };
        Plan {
            name: Some(known.name),
            parse: false,
            known: known.parsing.is_none(),
            describe: description.is_none(),
            columns: description.and_then(|description| description.columns.clone()),
            formats,
        }
    }

    /// Parse if planned, then Bind, Describe if planned, Execute for each set.
    fn write_sets(
        &mut self,
        plan: Plan,
        sql: &str,
        types: &[Oid],
        sets: &dyn ParamSets,
        text: impl FnOnce() -> Sql,
    ) -> PgResult<Written> {
        let Plan { name, parse, known, describe, columns, formats } = plan;
        let statement = NameText::of(name);
        let buf = self.send.writer();
        let mut declared = Vec::new();
        if parse {
            frontend::parse(buf, &statement, sql, types.iter().map(|oid| oid.get()))?;
            declared = sets.set(0).map(|first| rust_types(first, types)).unwrap_or_default();
        }
        let mut describe_next = describe;
        let formats = formats.as_deref().unwrap_or(BINARY);
        for index in 0..sets.len() {
            let Some(set) = sets.set(index) else { break };
            if index > 0 {
                // The first one is what the types were taken from, or was compared with them.
                check_types(set, types).map_err(|error| in_set(error, index, sets.len()))?;
            }
            let bound = write_bind(buf, "", &statement, set, types, formats);
            bound.map_err(|error| in_set(error, index, sets.len()))?;
            if std::mem::take(&mut describe_next) {
                frontend::describe(buf, Target::Portal(""))?;
            }
            frontend::execute(buf, "", 0)?;
        }
        let sets_left = sets.len().saturating_sub(1);
        let kind = Kind::Execute(Execute { parse, name, describe, known, sets_left, batch: false });
        Ok(Written { kind, sql: text(), declared, columns, has_sync: false })
    }

    fn write_prepare(
        &mut self,
        sql: &str,
        types: &[Oid],
        mode: ExecutionMode,
    ) -> PgResult<Written> {
        refuse_copy(sql)?;
        let name = match mode {
            ExecutionMode::Cached => Some(self.prepared.new_name()),
            ExecutionMode::Unnamed | ExecutionMode::Simple => None,
        };
        let text = NameText::of(name);
        let buf = self.send.writer();
        frontend::parse(buf, &text, sql, types.iter().map(|oid| oid.get()))?;
        frontend::describe(buf, Target::Statement(&text))?;
        Ok(Written::new(Kind::Prepare { name }, Sql::Text(Rc::from(sql))))
    }

    /// Parse of the unnamed statement, Bind of a named portal, Describe.
    fn write_open(&mut self, sql: &str, params: &dyn Params) -> PgResult<Written> {
        refuse_copy(sql)?;
        let types: Vec<Oid> = declare(params, &[]).collect();
        let formats = self.prepared.blind_formats(sql);
        let portal = self.prepared.new_name();
        let name = portal.text();
        let buf = self.send.writer();
        frontend::parse(buf, "", sql, types.iter().map(|oid| oid.get()))?;
        let formats = formats.as_deref().unwrap_or(BINARY);
        write_bind(buf, &name, "", params, &types, formats)?;
        frontend::describe(buf, Target::Portal(&name))?;
        let declared = rust_types(params, &types);
        let written = Written::new(Kind::Open { portal }, Sql::Text(Rc::from(sql)));
        Ok(Written { declared, ..written })
    }

    /// Execute of a named portal.
    fn write_fetch(&mut self, portal: &Rc<Portal>, max_rows: u32) -> PgResult<Written> {
        portal.check()?;
        let max_rows = i32::try_from(max_rows).map_err(|_| {
            PgError::Usage(format!(
                "{max_rows} rows are more than one fetch can ask for; nothing was sent"
            ))
        })?;
        frontend::execute(self.send.writer(), &portal.name.text(), max_rows)?;
        let (kind, sql) = (Kind::Fetch { portal: Rc::clone(portal) }, Rc::clone(&portal.sql));
        let written = Written::new(kind, Sql::Text(sql));
        Ok(Written { columns: portal.columns.clone(), ..written })
    }

    fn write_simple(&mut self, sql: &str, submit: &Submit) -> PgResult<Written> {
        refuse_copy(sql)?;
        self.write_string(sql, submit, Kind::Simple)
    }

    /// A Query message.
    fn write_string(&mut self, sql: &str, submit: &Submit, kind: Kind) -> PgResult<Written> {
        if self.flights.is_open() || !submit.sync {
            return Err(PgError::Usage(
                "the simple protocol has no place in a group: it ends each of its queries itself; \
                 nothing was sent"
                    .to_owned(),
            ));
        }
        frontend::query(self.send.writer(), sql)?;
        Ok(Written { has_sync: true, ..Written::new(kind, Sql::Text(Rc::from(sql))) })
    }
}

/// The set that the types are taken from.
fn first_set(sets: &dyn ParamSets) -> PgResult<&dyn Params> {
    sets.set(0).ok_or_else(|| PgError::Usage("the batch has no parameter sets".to_owned()))
}

/// The first parameter that would not be read right as the type that the statement has for it.
#[inline]
pub(super) fn misfit(params: &dyn Params, types: &[Oid]) -> Option<usize> {
    types.iter().enumerate().position(|(index, expected)| {
        params.param(index).is_some_and(|param| !reads_as(param.declare(BUILTIN), *expected))
    })
}

/// Every set of a batch has to go with the types of the first.
fn check_types(params: &dyn Params, types: &[Oid]) -> PgResult<()> {
    let Some(index) = misfit(params, types) else { return Ok(()) };
    let expected = types.get(index).map(|oid| BUILTIN.describe(*oid)).unwrap_or_default();
    let Some(param) = params.param(index) else { return Ok(()) };
    let (declared, rust_type) = (param.declare(BUILTIN), short_type_name(param.rust_type()));
    Err(PgError::Usage(format!(
        "parameter ${} is {rust_type} ({}), but the batch has {expected} there; \
         all sets of a batch have the same types; nothing was sent",
        index + 1,
        BUILTIN.describe(declared),
    )))
}

/// Rust type and declared type of each parameter, for errors.
fn rust_types(params: &dyn Params, types: &[Oid]) -> Vec<(&'static str, Oid)> {
    let rust_type = |index| params.param(index).map_or("", |param| param.rust_type());
    types.iter().enumerate().map(|(index, oid)| (rust_type(index), *oid)).collect()
}

/// One Bind. `types` are those that the statement was parsed with.
#[inline]
fn write_bind(
    buf: &mut Vec<u8>,
    portal: &str,
    statement: &str,
    params: &dyn Params,
    types: &[Oid],
    formats: &[i16],
) -> PgResult<()> {
    if params.len() != types.len() {
        return Err(wrong_count(types.len(), params.len()));
    }
    let value = |index: usize, buf: &mut Vec<u8>| -> PgResult<Bound> {
        let Some((param, oid)) = params.param(index).zip(types.get(index)) else {
            return Ok(Bound::Null);
        };
        encode(param, *oid, buf).map_err(|error| error.at_parameter(index + 1))
    };
    frontend::bind(buf, portal, statement, types.len(), value, formats)
}

/// The types that parameters declare themselves as; `otherwise` has those of the ones that declare
/// nothing.
fn declare<'a>(
    params: &'a dyn Params,
    otherwise: &'a [Oid],
) -> impl ExactSizeIterator<Item = Oid> + 'a {
    (0..params.len()).map(move |index| {
        let declared = params.param(index).map_or(Oid::UNSPECIFIED, |p| p.declare(BUILTIN));
        match (declared, otherwise.get(index)) {
            (Oid::UNSPECIFIED, Some(inferred)) => *inferred,
            (declared, _) => declared,
        }
    })
}

/// What the parameters declare themselves by.
const BUILTIN: &TypeMap = TypeMap::builtin();

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

#[cold]
fn wrong_count(expected: usize, given: usize) -> PgError {
    PgError::Usage(format!("the statement has {expected} parameters, but {given} were given"))
}

/// Adds to an error the parameter set of a batch that it happened in.
#[cold]
fn in_set(error: PgError, set: usize, sets: usize) -> PgError {
    match error {
        error if sets == 1 => error,
        PgError::Usage(why) => PgError::Usage(format!("{why} (in parameter set {set})")),
        error => error.at_parameter_set(set),
    }
}

impl From<Unwritable> for PgError {
    fn from(unwritable: Unwritable) -> Self {
        Self::Usage(format!("{unwritable}; nothing was sent"))
    }
}
