//! What a COPY is about, as data: table, columns, options; and the SQL text of it.

use std::fmt::Write;

use crate::connection::quote::quoted;
use crate::engine::has_copy_options;

/// The format of a COPY's data.
///
/// Source: PostgreSQL documentation, "COPY", "File Formats".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyFormat {
    /// A line for each row, a tab between two cells, backslashes before what is special.
    #[default]
    Text,
    /// Comma separated values.
    Csv,
    /// The binary forms of the values.
    Binary,
}

/// The format of a COPY, and what stands for what in it. Rows are written and read as the options
/// say.
///
/// ```
/// use chopin_pg::CopyOptions;
///
/// let options = CopyOptions::csv().header(true).delimiter(b';').null("NULL");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    pub(super) format: CopyFormat,
    pub(super) delimiter: u8,
    pub(super) null: String,
    pub(super) quote: u8,
    pub(super) escape: u8,
    pub(super) header: bool,
}

impl CopyOptions {
    /// Text format: tabs between cells, `\N` for NULL.
    pub fn text() -> Self {
        let (format, null) = (CopyFormat::Text, "\\N".to_owned());
        Self { format, delimiter: b'\t', null, quote: b'"', escape: b'"', header: false }
    }

    /// CSV: commas between cells, `"` around those that need it, nothing at all for NULL (the empty
    /// string is `""`).
    pub fn csv() -> Self {
        let null = String::new();
        Self { format: CopyFormat::Csv, delimiter: b',', null, ..Self::text() }
    }

    /// Binary: the only format in which each value goes in its own form. It has no other options.
    pub fn binary() -> Self {
        Self { format: CopyFormat::Binary, ..Self::text() }
    }

    /// What stands between two cells: one ASCII character.
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// What stands for NULL.
    #[must_use]
    pub fn null(mut self, null: &str) -> Self {
        null.clone_into(&mut self.null);
        self
    }

    /// What stands around a cell in CSV: one ASCII character; the escape character too, until
    /// [`escape`](Self::escape) says otherwise.
    #[must_use]
    pub fn quote(mut self, quote: u8) -> Self {
        (self.quote, self.escape) = (quote, quote);
        self
    }

    /// What stands in CSV before a quote or itself inside of quotes: one ASCII character.
    #[must_use]
    pub fn escape(mut self, escape: u8) -> Self {
        self.escape = escape;
        self
    }

    /// Whether the first line has the names of the columns. (In text format only servers from
    /// PostgreSQL 15 on have one.)
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }

    /// The format.
    pub fn format(&self) -> CopyFormat {
        self.format
    }

    /// As they stand in the statement.
    fn sql(&self) -> String {
        let mut sql = String::from("(FORMAT ");
        let character = |byte: u8| literal(&char::from(byte).to_string());
        match self.format {
            CopyFormat::Binary => return sql + "binary)",
            CopyFormat::Text => sql.push_str("text"),
            CopyFormat::Csv => sql.push_str("csv"),
        }
        sql =
            format!("{sql}, DELIMITER {}, NULL {}", character(self.delimiter), literal(&self.null));
        if self.format == CopyFormat::Csv {
            let (quote, escape) = (character(self.quote), character(self.escape));
            sql = format!("{sql}, QUOTE {quote}, ESCAPE {escape}");
        }
        if self.header {
            sql.push_str(", HEADER true");
        }
        sql + ")"
    }
}

/// The default of COPY is the text format.
impl Default for CopyOptions {
    fn default() -> Self {
        Self::text()
    }
}

/// The name of a table, with its schema if it has one. Names are data: they are quoted, so that any
/// will do, and upper case is kept.
///
/// ```
/// use chopin_pg::TableName;
///
/// let table: TableName = "notes".into();
/// let in_schema: TableName = ("music", "notes").into();
/// assert_eq!(in_schema.to_string(), r#""music"."notes""#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    schema: Option<String>,
    name: String,
}

impl From<&str> for TableName {
    fn from(name: &str) -> Self {
        Self { schema: None, name: name.to_owned() }
    }
}

impl From<&String> for TableName {
    fn from(name: &String) -> Self {
        name.as_str().into()
    }
}

impl From<(&str, &str)> for TableName {
    fn from((schema, name): (&str, &str)) -> Self {
        Self { schema: Some(schema.to_owned()), name: name.to_owned() }
    }
}

/// As it stands in an SQL text.
impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", quoted(schema))?;
        }
        f.write_str(&quoted(&self.name))
    }
}

/// A table and some of its columns, or all of them.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    pub(super) table: TableName,
    pub(super) names: Vec<String>,
}

impl Columns {
    /// The names of the columns in parentheses; nothing for all of them.
    pub(super) fn list(&self) -> String {
        match self.names.as_slice() {
            [] => String::new(),
            names => format!(" ({})", identifiers(names)),
        }
    }

    /// A query whose columns are those of the table.
    pub(super) fn describing_query(&self) -> String {
        match self.names.as_slice() {
            [] => format!("SELECT * FROM {}", self.table),
            names => format!("SELECT {} FROM {}", identifiers(names), self.table),
        }
    }
}

/// COPY from the program into a table: what [`PgConnection::copy_in`](crate::PgConnection::copy_in)
/// takes, also made from a text by `into()`.
///
/// ```
/// use chopin_pg::{CopyIn, CopyOptions};
///
/// let copy = CopyIn::table(("music", "works")).columns(["title", "year"]).options(CopyOptions::csv());
/// assert_eq!(
///     copy.sql(),
///     r#"COPY "music"."works" ("title", "year") FROM STDIN "#.to_owned()
///         + r#"(FORMAT csv, DELIMITER E',', NULL E'', QUOTE E'"', ESCAPE E'"')"#
/// );
/// ```
#[derive(Clone, Debug)]
pub struct CopyIn(Statement);

/// COPY to the program, from a table or a query: what
/// [`PgConnection::copy_out`](crate::PgConnection::copy_out) takes, also made from a text by
/// `into()`.
///
/// ```
/// use chopin_pg::{CopyOptions, CopyOut};
///
/// let copy = CopyOut::query("select title from works where year < 1830").options(CopyOptions::binary());
/// assert!(copy.sql().ends_with("TO STDOUT (FORMAT binary)"));
/// ```
#[derive(Clone, Debug)]
pub struct CopyOut(Statement);

/// What both directions have in common.
#[derive(Clone, Debug)]
struct Statement {
    source: Source,
    options: CopyOptions,
}

#[derive(Clone, Debug)]
enum Source {
    /// The program's own COPY statement.
    Raw(String),
    Table(Columns),
    Query(String),
}

impl CopyIn {
    /// Into all columns of a table, as a text format COPY.
    pub fn table(table: impl Into<TableName>) -> Self {
        Self(Statement::of_table(table.into()))
    }

    /// Into these columns.
    #[must_use]
    pub fn columns<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.0.set_columns(columns);
        self
    }

    /// In this format. A COPY that was given as a text has its own options.
    #[must_use]
    pub fn options(mut self, options: CopyOptions) -> Self {
        self.0.options = options;
        self
    }

    /// The statement's text.
    pub fn sql(&self) -> String {
        match &self.0.source {
            // Of a query there is no COPY in this direction, and none is ever made.
            Source::Raw(sql) | Source::Query(sql) => sql.clone(),
            Source::Table(columns) => {
                let (table, list) = (&columns.table, columns.list());
                format!("COPY {table}{list} FROM STDIN {}", self.0.options.sql())
            }
        }
    }

    /// The options in force, if they are known.
    pub(super) fn known_options(&self) -> Option<&CopyOptions> {
        self.0.known_options()
    }

    /// Table and columns, if they are known.
    pub(super) fn target(&self) -> Option<&Columns> {
        match &self.0.source {
            Source::Table(columns) => Some(columns),
            _ => None,
        }
    }
}

impl CopyOut {
    /// From all columns of a table, as a text format COPY.
    pub fn table(table: impl Into<TableName>) -> Self {
        Self(Statement::of_table(table.into()))
    }

    /// From a query: one SELECT, VALUES, or INSERT, UPDATE or DELETE with RETURNING.
    pub fn query(query: &str) -> Self {
        let source = Source::Query(query.to_owned());
        Self(Statement { source, options: CopyOptions::text() })
    }

    /// From these columns of the table.
    #[must_use]
    pub fn columns<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.0.set_columns(columns);
        self
    }

    /// In this format. A COPY that was given as a text has its own options.
    #[must_use]
    pub fn options(mut self, options: CopyOptions) -> Self {
        self.0.options = options;
        self
    }

    /// The statement's text.
    pub fn sql(&self) -> String {
        let options = self.0.options.sql();
        match &self.0.source {
            Source::Raw(sql) => sql.clone(),
            Source::Table(columns) => {
                format!("COPY {}{} TO STDOUT {options}", columns.table, columns.list())
            }
            // The query may end with a comment up to the end of its line.
            Source::Query(query) => format!("COPY ({}\n) TO STDOUT {options}", without_end(query)),
        }
    }

    /// The options in force, if they are known.
    pub(super) fn known_options(&self) -> Option<&CopyOptions> {
        self.0.known_options()
    }

    /// A query with the same columns, for what is not the program's own statement.
    pub(super) fn describing_query(&self) -> Option<String> {
        match &self.0.source {
            Source::Raw(_) => None,
            Source::Table(columns) => Some(columns.describing_query()),
            Source::Query(query) => Some(without_end(query).to_owned()),
        }
    }
}

impl Statement {
    fn of_table(table: TableName) -> Self {
        let source = Source::Table(Columns { table, names: Vec::new() });
        Self { source, options: CopyOptions::text() }
    }

    fn raw(sql: &str) -> Self {
        Self { source: Source::Raw(sql.to_owned()), options: CopyOptions::text() }
    }

    fn set_columns<S: Into<String>>(&mut self, names: impl IntoIterator<Item = S>) {
        if let Source::Table(columns) = &mut self.source {
            columns.names = names.into_iter().map(Into::into).collect();
        }
    }

    fn known_options(&self) -> Option<&CopyOptions> {
        match &self.source {
            Source::Raw(sql) if has_copy_options(sql) => None,
            _ => Some(&self.options),
        }
    }
}

impl From<&str> for CopyIn {
    /// One `COPY ... FROM STDIN`.
    fn from(sql: &str) -> Self {
        Self(Statement::raw(sql))
    }
}

impl From<&String> for CopyIn {
    fn from(sql: &String) -> Self {
        sql.as_str().into()
    }
}

impl From<&str> for CopyOut {
    /// One `COPY ... TO STDOUT`.
    fn from(sql: &str) -> Self {
        Self(Statement::raw(sql))
    }
}

impl From<&String> for CopyOut {
    fn from(sql: &String) -> Self {
        sql.as_str().into()
    }
}

/// A query without the semicolon at its end.
fn without_end(query: &str) -> &str {
    query.trim_end_matches(|c: char| c == ';' || c.is_whitespace())
}

/// Names in quotes, with commas between them.
pub(super) fn identifiers(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// A string constant, in the form that means the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    let mut literal = String::from("E'");
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            literal.push('\\');
        }
        let _ = literal.write_char(c);
    }
    literal + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h35_names_and_options_stay_data() {
        let copy = CopyIn::table(("s\"; drop table x; --", "T t"))
            .columns(["a\"b", "c, d"])
            .options(CopyOptions::text().delimiter(b'\'').null("\\'; drop"));
        assert_eq!(
            copy.sql(),
            r#"COPY "s""; drop table x; --"."T t" ("a""b", "c, d") FROM STDIN "#.to_owned()
                + r"(FORMAT text, DELIMITER E'\'', NULL E'\\\'; drop')"
        );
        assert_eq!(
            CopyOut::table("t").options(CopyOptions::csv().quote(b'\'').header(true)).sql(),
            r#"COPY "t" TO STDOUT (FORMAT csv, DELIMITER E',', NULL E'', "#.to_owned()
                + r"QUOTE E'\'', ESCAPE E'\'', HEADER true)"
        );
    }

    #[test]
    fn b12_a_query_may_end_with_a_semicolon_or_a_comment() {
        let copy = CopyOut::query("select 1 ; ").options(CopyOptions::binary());
        assert_eq!(copy.sql(), "COPY (select 1\n) TO STDOUT (FORMAT binary)");
        let copy = CopyOut::query("select 1 -- one").options(CopyOptions::binary());
        assert_eq!(copy.sql(), "COPY (select 1 -- one\n) TO STDOUT (FORMAT binary)");
    }

    #[test]
    fn b12_the_options_of_a_text_are_known_if_it_has_none() {
        for sql in
            ["copy t from stdin", "copy t (a, b) from stdin; -- all", "/* c */ COPY t FROM STDIN"]
        {
            assert!(CopyIn::from(sql).known_options().is_some(), "{sql}");
        }
        for sql in [
            "copy t from stdin (format csv)",
            "copy t from stdin with csv",
            "copy t from stdin delimiter ';'",
            "copy binary t from stdin",
            "copy t from stdin where a > 1",
        ] {
            assert!(CopyIn::from(sql).known_options().is_none(), "{sql}");
        }
    }
}
