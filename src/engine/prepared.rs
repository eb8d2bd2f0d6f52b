//! What one connection's server has prepared, and under which names.

use std::fmt;
use std::io::Write;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::rc::Rc;

use super::catalogue::hash;
use super::cursor::Portal;
use super::known::KnownStatements;
use super::statement::{Statement, WeakStatement};
use crate::row::Column;
use crate::types::{Format, Oid};
use crate::wire::frontend::{self, BindTemplate, Target, Unwritable};

/// The name of a statement on one server connection: `chopin_5f3a90c1_1`, `chopin_5f3a90c1_2` ...
///
/// Never used twice. The first number is the connection's own, drawn at random: behind a pooler
/// that hands server connections around, a name can never mean the statement of another client.
///
/// Two numbers, so that every request can carry one; its [text](Name::text) is made where a message
/// says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    connection: u32,
    number: NonZeroU64,
}

impl Name {
    pub(super) fn text(self) -> NameText {
        let mut text = NameText::UNNAMED;
        let mut room = text.bytes.as_mut_slice();
        // There is room for the longest.
        let _ = write!(room, "chopin_{:08x}_{}", self.connection, self.number);
        text.length = NameText::LONGEST - room.len();
        text
    }
}

/// The text of a name; an empty one is that of the unnamed statement or portal.
pub(super) struct NameText {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl NameText {
    const LONGEST: usize = "chopin_01234567_".len() + u64::MAX.ilog10() as usize + 1;
    const UNNAMED: Self = Self { bytes: [0; Self::LONGEST], length: 0 };

    /// The text of a name, or that of the unnamed statement.
    pub(super) fn of(name: Option<Name>) -> Self {
        name.map_or(Self::UNNAMED, Name::text)
    }
}

impl Deref for NameText {
    type Target = str;

    fn deref(&self) -> &str {
        let text = self.bytes.get(..self.length).unwrap_or_default();
        std::str::from_utf8(text).unwrap_or_default()
    }
}

/// Something that the server has and nobody wants any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwanted {
    Statement(Name),
    Portal(Name),
}

impl Unwanted {
    /// Appends the Close message for it.
    pub(super) fn write_close(self, buf: &mut Vec<u8>) -> Result<(), Unwritable> {
        match self {
            Self::Statement(name) => frontend::close(buf, Target::Statement(&name.text())),
            Self::Portal(name) => frontend::close(buf, Target::Portal(&name.text())),
        }
    }
}

/// A statement as this connection's server has it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The id of the statement.
    pub(super) id: u64,
    pub(super) name: Name,
    /// The group that parses it, until its ParseComplete has come: only requests of the same group
    /// may rely on the name.
    pub(super) parsing: Option<u64>,
    /// What a run returns, once it was described.
    pub(super) description: Option<Description>,
    statement: WeakStatement,
}

impl Known {
    /// A Parse that makes `statement` under `name` is on its way, in `group`.
    pub(super) fn parsing(statement: &Statement, name: Name, group: u64) -> Self {
        let (id, statement) = (statement.id(), statement.downgrade());
        Self { id, name, parsing: Some(group), description: None, statement }
    }
}

/// What running a statement returns.
#[derive(Clone, Debug)]
pub(super) struct Description {
    /// Its columns, `None` when it returns no rows.
    pub(super) columns: Option<Rc<[Column]>>,
    /// The format codes to ask for; `None` for binary everywhere.
    pub(super) formats: Option<Rc<[i16]>>,
    /// What is sent for a run, but for the values; `None` if every run has to be described.
    pub(super) template: Option<Rc<BindTemplate>>,
}

impl Description {
    /// A run of `statement` under `name` returns `columns`, in these formats from now on, whatever
    /// those were in which they were described.
    fn new(
        statement: &Statement,
        name: Name,
        columns: Option<Rc<[Column]>>,
        formats: Option<Rc<[i16]>>,
    ) -> Self {
        let codes = formats.as_deref().unwrap_or(BINARY);
        let columns = columns.map(|columns| in_formats(columns, codes));
        let template = BindTemplate::new(&name.text(), statement.params().len(), codes);
        let template = template.ok().filter(|_| statement.runs_from_description());
        Self { columns, template: template.map(Rc::new), formats }
    }
}

/// Columns as they come when they are asked for by these format codes: one for all, or one for
/// each.
fn in_formats(columns: Rc<[Column]>, codes: &[i16]) -> Rc<[Column]> {
    let formats = || codes.iter().cycle().map(|code| Format::from_code(*code));
    if columns.iter().zip(formats()).all(|(column, format)| Some(column.format) == format) {
        return columns;
    }
    let pairs = columns.iter().zip(formats());
    let in_format = |(column, format): (&Column, Option<Format>)| Column {
        format: format.unwrap_or(column.format),
        ..column.clone()
    };
    pairs.map(in_format).collect()
}

/// The format codes that ask for binary everywhere.
pub(super) const BINARY: &[i16] = &[Format::Binary.code()];

/// The types of a stock server that have no binary output function (`pg_type.typsend` is 0), and
/// their arrays.
const NO_BINARY_OUTPUT: [Oid; 4] =
    [Oid::ACLITEM, Oid::ACLITEM_ARRAY, Oid::GTSVECTOR, Oid::GTSVECTOR_ARRAY];

/// The statements that one connection has prepared.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    known: KnownStatements,
    /// The portals of the transaction.
    portals: Vec<Rc<Portal>>,
    /// On the server, and nobody wants them any more.
    unwanted: Vec<Unwanted>,
    /// Names given out so far. Kept when everything else is forgotten: a name is never used again.
    names: u64,
    /// What the names of this connection begin with.
    connection: u32,
    /// [`Statement::dropped`] when the statements without a handle were last looked for.
    seen_dropped: u64,
    /// Types that the server cannot send in binary.
    text_types: Vec<Oid>,
    /// Hashes of queries that return such types and are not prepared.
    text_queries: Vec<u64>,
}

impl Prepared {
    /// `connection` is a random number that tells this connection's names from all others.
    pub(super) fn new(connection: u32) -> Self {
        Self { connection, ..Self::default() }
    }

    /// A name that was never used on this connection.
    pub(super) fn new_name(&mut self) -> Name {
        self.names += 1;
        let number = NonZeroU64::MIN.saturating_add(self.names - 1);
        Name { connection: self.connection, number }
    }

    /// What the server has of `statement`.
    #[inline]
    pub(super) fn get(&self, statement: &Statement) -> Option<&Known> {
        self.known.get(statement)
    }

    /// A Parse that makes `statement` under `name` is on its way, in `group`.
    pub(super) fn parsing(&mut self, statement: &Statement, name: Name, group: u64) {
        if let Some(earlier) = self.known.insert(Known::parsing(statement, name, group)) {
            self.unwanted.push(Unwanted::Statement(earlier.name));
        }
    }

    /// The server has `statement` under `name` now.
    pub(super) fn parsed(&mut self, statement: &Statement, name: Name) {
        match self.known.get_mut(statement).filter(|known| known.name == name) {
            Some(known) => known.parsing = None,
            // It was dropped from the list while its Parse was on the way.
            None => self.unwanted.push(Unwanted::Statement(name)),
        }
    }

    /// The Parse that was to make `statement` under `name` failed or was never run.
    pub(super) fn not_parsed(&mut self, statement: &Statement, name: Name) {
        if self.get(statement).is_some_and(|known| known.name == name) {
            self.known.remove(statement.id());
        }
    }

    /// What a run of `statement` under `name` returns.
    pub(super) fn described(
        &mut self,
        statement: &Statement,
        name: Name,
        columns: Option<Rc<[Column]>>,
    ) {
        let formats = self.formats(columns.as_deref().unwrap_or_default());
        let known = self.known.get_mut(statement).filter(|known| known.name == name);
        if let Some(known) = known {
            known.description = Some(Description::new(statement, name, columns, formats));
        }
    }

    /// The format codes to ask for; `None` for binary everywhere.
    pub(super) fn formats(&self, columns: &[Column]) -> Option<Rc<[i16]>> {
        let is_text = |column: &Column| self.text_types.contains(&column.type_oid());
        let format = |column| if is_text(column) { Format::Text } else { Format::Binary };
        let needed = !self.text_types.is_empty() && columns.iter().any(is_text);
        needed.then(|| columns.iter().map(|column| format(column).code()).collect())
    }

    /// The format codes for a query whose columns are not known when it is bound: text everywhere if
    /// some of them cannot be sent in binary, else `None`, for binary everywhere.
    pub(super) fn blind_formats(&self, sql: &str) -> Option<Rc<[i16]>> {
        let wants_text =
            !self.text_queries.is_empty() && self.text_queries.contains(&hash(sql.as_bytes()));
        wants_text.then(|| Rc::from([Format::Text.code()]))
    }

    /// A query whose columns are never known when it is bound returns what cannot be sent in binary.
    /// (Queries with the same hash ask for text too, which is slower and no less right.)
    pub(super) fn ask_text(&mut self, sql: &str) {
        const MOST: usize = 1024;
        if self.text_queries.len() == MOST {
            self.text_queries.clear();
        }
        self.text_queries.push(hash(sql.as_bytes()));
    }

    /// The server cannot send some of these columns in the format that was asked for: learns which
    /// types it must be, and says whether another format is asked for from now on.
    ///
    /// The error names no type. So the first of these kinds that is among the columns is taken to
    /// be it: what is known already, and was asked for in binary because the columns were not known
    /// yet; types of a stock server that have no binary output; types that are not of a stock
    /// server; and records, which may hold either.
    pub(super) fn learn_text_types(&mut self, columns: &[Column]) -> bool {
        let is_known = |column: &Column| self.text_types.contains(&column.type_oid());
        if columns.iter().any(|column| column.format() == Format::Binary && is_known(column)) {
            return true;
        }
        let lacks_output = |oid: Oid| NO_BINARY_OUTPUT.contains(&oid);
        let is_foreign = |oid: Oid| oid.name().is_none();
        let is_record = |oid: Oid| matches!(oid, Oid::RECORD | Oid::RECORD_ARRAY);
        let kinds: [&dyn Fn(Oid) -> bool; 3] = [&lacks_output, &is_foreign, &is_record];
        let learned = &mut self.text_types;
        let news = kinds.iter().any(|is_suspect| {
            let before = learned.len();
            for oid in columns.iter().map(Column::type_oid) {
                if is_suspect(oid) && !learned.contains(&oid) {
                    learned.push(oid);
                }
            }
            learned.len() > before
        });
        if news {
            self.ask_described_for_text();
        }
        news
    }

    /// What was described before the last types were learned is asked for in the right formats.
    fn ask_described_for_text(&mut self) {
        let mut known = std::mem::take(&mut self.known);
        for known in known.iter_mut() {
            let described = known.description.take().zip(known.statement.upgrade());
            known.description = described.map(|(Description { columns, .. }, statement)| {
                let formats = self.formats(columns.as_deref().unwrap_or_default());
                Description::new(&statement, known.name, columns, formats)
            });
        }
        self.known = known;
    }

    /// `statement` is not wanted on this connection any more.
    pub(super) fn forget(&mut self, statement: &Statement) {
        if let Some(known) = self.known.remove(statement.id()) {
            self.unwanted.push(Unwanted::Statement(known.name));
        }
    }

    /// The server has this but nobody wants it.
    pub(super) fn unwanted(&mut self, unwanted: Unwanted) {
        self.unwanted.push(unwanted);
    }

    /// The server has a portal now, until the transaction ends.
    pub(super) fn opened(&mut self, portal: Rc<Portal>) {
        self.portals.push(portal);
    }

    /// No transaction is open, and so no portal.
    #[inline]
    pub(super) fn forget_portals(&mut self) {
        if !self.portals.is_empty() {
            self.portals.drain(..).for_each(|portal| portal.gone());
        }
    }

    /// Whether there may be names to close.
    #[inline]
    pub(super) fn has_unwanted(&self) -> bool {
        !self.unwanted.is_empty() || self.seen_dropped != Statement::dropped()
    }

    /// What to close: the statements and portals whose last handle is gone, and those not wanted for
    /// another reason. What is still being parsed waits.
    #[inline]
    pub(super) fn take_unwanted(&mut self) -> Vec<Unwanted> {
        if self.seen_dropped != Statement::dropped() {
            self.find_dropped();
        }
        std::mem::take(&mut self.unwanted)
    }

    #[cold]
    fn find_dropped(&mut self) {
        self.seen_dropped = Statement::dropped();
        let (unwanted, mut all) = (&mut self.unwanted, true);
        self.known.retain(|known| {
            let keep = known.statement.is_alive() || known.parsing.is_some();
            all &= known.statement.is_alive() || !keep;
            if !keep {
                unwanted.push(Unwanted::Statement(known.name));
            }
            keep
        });
        self.portals.retain(|portal| {
            // One that is fetched from has to be looked at again.
            let is_used = Rc::strong_count(portal) > 1;
            let keep = portal.is_wanted.get() || is_used;
            all &= portal.is_wanted.get() || !keep;
            if !keep {
                unwanted.push(Unwanted::Portal(portal.name));
            }
            keep
        });
        if !all {
            // One that is being parsed has to be looked at again.
            self.seen_dropped = self.seen_dropped.wrapping_sub(1);
        }
    }

    /// The server has forgotten all statements (DISCARD ALL, DEALLOCATE ALL); not those whose Parse
    /// is still on its way.
    pub(super) fn clear(&mut self) {
        self.known.retain(|known| known.parsing.is_some());
        self.unwanted.clear();
    }

    /// Nothing is wanted any more on this connection: everything is closed, a little later.
    pub(super) fn forget_all(&mut self) {
        let unwanted = &mut self.unwanted;
        self.known.retain(|known| {
            let parsing = known.parsing.is_some();
            if !parsing {
                unwanted.push(Unwanted::Statement(known.name));
            }
            parsing
        });
    }

    /// How many statements the server has, as far as is known.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

impl fmt::Debug for WeakStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_alive() { "(Statement)" } else { "(dropped Statement)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(sql: &str) -> Statement {
        Statement::new(sql, Vec::new(), Rc::from([]))
    }

    /// Prepares a statement to the end.
    fn prepare(prepared: &mut Prepared, statement: &Statement) -> Name {
        let name = prepared.new_name();
        prepared.parsing(statement, name, 1);
        prepared.parsed(statement, name);
        name
    }

    #[test]
    fn s10_6_clearing_keeps_the_counter() {
        let mut prepared = Prepared::default();
        let select = statement("select 1");
        let first = prepare(&mut prepared, &select);
        prepared.clear();
        assert!(prepared.get(&select).is_none());
        let second = prepared.new_name();
        assert_ne!(first, second, "a name of before the clear is not used again");
    }

    #[test]
    fn statements_without_a_handle_are_closed_once() {
        let mut prepared = Prepared::default();
        let (kept, dropped) = (statement("select 1"), statement("select 1"));
        let names = [prepare(&mut prepared, &kept), prepare(&mut prepared, &dropped)];
        assert_eq!(prepared.take_unwanted(), []);
        drop(dropped);
        assert_eq!(prepared.take_unwanted(), [Unwanted::Statement(names[1])]);
        assert_eq!(prepared.take_unwanted(), []);
        assert_eq!(prepared.get(&kept).map(|known| &known.name), Some(&names[0]));
    }

    #[test]
    fn h14_what_is_being_parsed_outlives_a_clear_and_is_closed_when_it_is_there() {
        let mut prepared = Prepared::default();
        let select = statement("select 1");
        let name = prepared.new_name();
        prepared.parsing(&select, name, 2);
        prepared.clear();
        assert!(prepared.get(&select).is_some(), "its Parse is run after what was discarded");
        let id = select.clone();
        drop(select);
        drop(id);
        assert_eq!(prepared.take_unwanted(), [], "a Close now could come before the Parse");
        prepared.known.iter_mut().for_each(|known| known.parsing = None);
        assert_eq!(prepared.take_unwanted(), [Unwanted::Statement(name)]);
    }
}
