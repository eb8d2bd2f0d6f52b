//! What the scripts of sessions speak through, and the log of what they hear.

use std::fmt::Write;

use chopin_pg::engine::{CommandResult, Engine, Statement};
use chopin_pg::types::Params;
use chopin_pg::{
    Column, Delivery, Event, Outcome, PgError, PgValue, Request, RowRef, Submit, Ticket,
};

/// How the line begins that says what broke the connection.
pub(crate) const BROKEN: &str = "broken: ";

/// A cell with more bytes than this is shown by its length and a checksum.
const LONGEST_SHOWN: usize = 80;

/// Who carries a script out: an engine that hears a transcript, or a connection that is recorded.
pub(crate) trait Client {
    /// How requests are to be answered; but a statement is always prepared with
    /// [`Delivery::Collect`].
    fn delivery(&self) -> Delivery;

    /// Queues a request.
    fn submit(&mut self, request: Request<'_>, submit: Submit);

    /// Ends the open group.
    fn end_group(&mut self);

    /// Moves bytes until everything that was queued is answered.
    fn settle(&mut self);

    /// The statement that was prepared last.
    fn statement(&mut self) -> Statement;

    /// Queues a statement with parameters, as a group of its own.
    fn query(&mut self, sql: &str, params: &dyn Params) {
        self.submit(Request::Query { sql, params }, Submit::new(self.delivery()));
    }

    /// Queues a statement with parameters in the open group, or opens one.
    fn add(&mut self, sql: &str, params: &dyn Params) {
        self.submit(Request::Query { sql, params }, Submit::new(self.delivery()).no_sync());
    }

    /// [`query`](Self::query), and its answer.
    fn ask(&mut self, sql: &str, params: &dyn Params) {
        self.query(sql, params);
        self.settle();
    }

    /// A string of statements in the simple protocol, and its answer.
    fn simple(&mut self, sql: &str) {
        self.submit(Request::Simple { sql }, Submit::new(self.delivery()));
        self.settle();
    }

    /// A statement, prepared.
    fn prepare(&mut self, sql: &str) -> Statement {
        self.submit(Request::Prepare { sql, types: &[] }, Submit::new(Delivery::Collect));
        self.settle();
        self.statement()
    }
}

/// What was heard, one line for each event. Requests are numbered in the order in which they were
/// submitted.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) lines: Vec<Line>,
    tickets: Vec<Ticket>,
    /// The statement that was prepared last.
    pub(crate) statement: Option<Statement>,
}

/// An event, or a result that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The number of the request that it is about, from 1.
    pub(crate) request: Option<usize>,
    pub(crate) text: String,
}

impl Log {
    /// A request was submitted; its number.
    pub(crate) fn submitted(&mut self, ticket: Ticket) -> usize {
        self.tickets.push(ticket);
        self.tickets.len()
    }

    /// The ticket of the request with this number.
    pub(crate) fn ticket(&self, number: usize) -> Ticket {
        self.tickets[number - 1]
    }

    /// Takes all events that an engine has, and the results that they announce.
    pub(crate) fn hear(&mut self, engine: &mut Engine) {
        loop {
            let ended = match engine.next_event() {
                Ok(Some(event)) => self.event(&event),
                Ok(None) => return,
                Err(error) => return self.broken(&error),
            };
            let Some(ticket) = ended else { continue };
            let number = self.number(ticket);
            match engine.take(ticket) {
                Ok(Some(outcome)) => self.outcome(number, outcome),
                Ok(None) => {}
                Err(error) => self.line(number, &format!("result: {error}")),
            }
        }
    }

    /// Writes down, once, what broke the connection.
    fn broken(&mut self, error: &PgError) {
        let text = format!("{BROKEN}{error}");
        if self.lines.last().is_none_or(|line| line.text != text) {
            self.line(None, &text);
        }
    }

    /// Writes an event down; the request that has ended with it.
    fn event(&mut self, event: &Event<'_>) -> Option<Ticket> {
        let number = event.ticket().and_then(|ticket| self.number(ticket));
        let text = match event {
            Event::Ready => "ready".to_owned(),
            Event::Columns { columns, .. } => format!("columns {}", show_columns(columns)),
            Event::Row { row, .. } => format!("row {}", show_row(*row)),
            Event::CommandComplete { tag, .. } => format!("command {tag}"),
            Event::Complete { .. } => "complete".to_owned(),
            Event::Failed { error, .. } => format!("failed: {error:#}"),
            Event::Notice(notice) => format!("notice: {notice:#}"),
            Event::Notification(heard) => {
                format!("notification {} {:?}", heard.channel, heard.payload)
            }
            Event::ParameterStatus { name, value } => format!("parameter {name} = {value}"),
            other => format!("{other:?}"),
        };
        self.line(number, &text);
        match event {
            Event::Complete { ticket } | Event::Failed { ticket, .. } => Some(*ticket),
            _ => None,
        }
    }

    /// Writes a collected result down.
    fn outcome(&mut self, number: Option<usize>, outcome: Outcome) {
        if let Some(statement) = outcome.statement() {
            let columns = show_columns(statement.columns());
            self.line(number, &format!("statement {:?} {columns}", statement.params()));
            self.statement = Some(statement.clone());
            return;
        }
        if !outcome.counts().is_empty() {
            self.line(number, &format!("counts {:?}", outcome.counts()));
        }
        for result in outcome.into_results() {
            self.result(number, result);
        }
    }

    fn result(&mut self, number: Option<usize>, result: CommandResult) {
        if let Some(columns) = result.columns() {
            self.line(number, &format!("result {}", show_columns(columns)));
        }
        let tag = result.tag();
        for row in result.into_rows() {
            self.line(number, &format!("row {}", show_row(row.as_ref())));
        }
        self.line(number, &format!("result {tag}"));
    }

    fn number(&self, ticket: Ticket) -> Option<usize> {
        Some(self.tickets.iter().position(|known| *known == ticket)? + 1)
    }

    /// Writes a line down.
    pub(crate) fn line(&mut self, request: Option<usize>, text: &str) {
        self.lines.push(Line { request, text: text.to_owned() });
    }

    /// The lines about one request.
    pub(crate) fn about(&self, request: usize) -> impl Iterator<Item = &str> {
        let about = self.lines.iter().filter(move |line| line.request == Some(request));
        about.map(|line| line.text.as_str())
    }

    /// All lines, as text; further lines of an error are indented.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let number = line.request.map(|number| format!("{number} ")).unwrap_or_default();
            writeln!(text, "{number}{}", line.text.replace('\n', "\n    ")).expect("a string");
        }
        text
    }
}

fn show_columns(columns: &[Column]) -> String {
    let column =
        |column: &Column| format!("{} {} {:?}", column.name(), column.type_name(), column.format());
    format!("({})", columns.iter().map(column).collect::<Vec<_>>().join(", "))
}

fn show_row(row: RowRef<'_>) -> String {
    let cells = (0..row.len()).map(|index| match row.get::<PgValue>(index) {
        Ok(value) => show_cell(&value.to_string()),
        Err(error) => error.to_string(),
    });
    cells.collect::<Vec<_>>().join(" | ")
}

fn show_cell(text: &str) -> String {
    if text.len() <= LONGEST_SHOWN {
        return text.to_owned();
    }
    // FNV-1a: the same on every machine.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("({} bytes, {hash:016x})", text.len())
}
