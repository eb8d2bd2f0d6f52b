//! Loads a CSV file into a table, and writes a query's result to one, by COPY.
//!
//! ```text
//! cargo run --example copy_csv -- load --table works works.csv
//! cargo run --example copy_csv -- export --query "select * from works" works.csv
//! ```
//!
//! All good rows of a file are loaded, in one transaction; each of the others is reported with its
//! line and the server's reason. A COPY ends at the first bad row, so a batch runs behind a savepoint:
//! when it fails, the server has said in which line, what stood before it is sent again, and the rest
//! goes on behind it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chopin_pg::{
    CopyIn, CopyOptions, CopyOut, PgConfig, PgConnection, PgError, PgResult, TableName,
};
use clap::{Args, Parser, Subcommand};
use csv::{ByteRecord, ReaderBuilder};
use indicatif::{ProgressBar, ProgressStyle};

/// How many records are sent in one COPY.
const BATCH: usize = 10_000;

const EXIT_CODES: &str = "Exit codes: 0 all rows were copied; 1 an error, nothing was copied; \
                          2 wrong arguments; 3 all good rows were copied, some were rejected.";

/// Load CSV files into PostgreSQL and export queries to them.
#[derive(Debug, Parser)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Where the database is; else DATABASE_URL says it
    #[arg(long, global = true)]
    url: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load a file into a table: its first line names the columns
    Load(Load),
    /// Write what a query returns to a file
    Export(Export),
}

#[derive(Debug, Args)]
struct Load {
    /// The table, as it is called: no quotes, upper case is kept
    #[arg(long)]
    table: String,
    /// The table's schema
    #[arg(long)]
    schema: Option<String>,
    /// What stands between two fields
    #[arg(long, default_value = ",", value_parser = ascii)]
    delimiter: u8,
    /// The field that stands for NULL
    #[arg(long, default_value = "")]
    null: String,
    /// Write rejected lines to this file too, with line number and reason before their fields
    #[arg(long)]
    rejects: Option<PathBuf>,
    /// The file to load
    file: PathBuf,
}

#[derive(Debug, Args)]
struct Export {
    /// The query
    #[arg(long)]
    query: String,
    /// What stands between two fields
    #[arg(long, default_value = ",", value_parser = ascii)]
    delimiter: u8,
    /// The file to write
    file: PathBuf,
}

fn ascii(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err("it has to be one ASCII character".to_owned()),
    }
}

fn main() -> ExitCode {
    match run(&Cli::parse(), &mut io::stdout()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What ends the program early.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Does what the command line says, and tells it to `out`; the exit code.
pub(crate) fn run(cli: &Cli, out: &mut dyn Write) -> Result<u8> {
    let url = match &cli.url {
        Some(url) => url.clone(),
        None => std::env::var("DATABASE_URL")
            .map_err(|_| "say where the database is: --url or DATABASE_URL")?,
    };
    let mut connection =
        PgConnection::connect(&PgConfig::from_url(&url)?.application_name("copy_csv"))?;
    match &cli.command {
        Command::Load(load) => load.run(&mut connection, out),
        Command::Export(export) => export.run(&mut connection, out),
    }
}

/// A record that was not loaded.
struct Reject {
    line: u64,
    reason: String,
    record: ByteRecord,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl Load {
    fn run(&self, connection: &mut PgConnection, out: &mut dyn Write) -> Result<u8> {
        let file = File::open(&self.file).map_err(|error| named(&self.file, &error))?;
        let bar = ProgressBar::new(file.metadata()?.len());
        bar.set_style(ProgressStyle::with_template(
            "{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}",
        )?);
        let mut reader = ReaderBuilder::new()
            .delimiter(self.delimiter)
            .flexible(true)
            .from_reader(bar.wrap_read(file));
        let columns: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        let mut loader = Loader {
            connection,
            copy: CopyIn::table(self.table()).columns(&columns).options(CopyOptions::text()),
            width: columns.len(),
            null: self.null.as_bytes(),
            loaded: 0,
            rejects: Vec::new(),
        };
        loader.connection.begin()?;
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            let mut record = ByteRecord::new();
            while batch.len() < BATCH && reader.read_byte_record(&mut record)? {
                batch.extend(loader.check(record.clone()));
            }
            if batch.is_empty() && record.position().is_none_or(|_| reader.is_done()) {
                break;
            }
            loader.load(&batch)?;
            bar.set_message(format!("{} rows, {} rejected", loader.loaded, loader.rejects.len()));
        }
        let Loader { loaded, mut rejects, .. } = loader;
        connection.commit()?;
        bar.finish_and_clear();
        rejects.sort_by_key(|reject| reject.line);
        self.report(loaded, &rejects, &columns, out)?;
        Ok(if rejects.is_empty() { 0 } else { 3 })
    }

    fn table(&self) -> TableName {
        match &self.schema {
            Some(schema) => (schema.as_str(), self.table.as_str()).into(),
            None => self.table.as_str().into(),
        }
    }

    fn report(
        &self,
        loaded: u64,
        rejects: &[Reject],
        columns: &[String],
        out: &mut dyn Write,
    ) -> Result<()> {
        for reject in rejects {
            writeln!(out, "rejected {reject}")?;
        }
        writeln!(out, "{loaded} rows loaded into {}, {} rejected", self.table(), rejects.len())?;
        let Some(path) = &self.rejects else { return Ok(()) };
        let mut file = csv::WriterBuilder::new()
            .delimiter(self.delimiter)
            .flexible(true)
            .from_path(path)
            .map_err(|error| named(path, &error))?;
        let header = ["line", "reason"].into_iter().chain(columns.iter().map(String::as_str));
        file.write_record(header)?;
        for reject in rejects {
            let line = reject.line.to_string();
            let before = [line.as_bytes(), reject.reason.as_bytes()];
            file.write_record(before.into_iter().chain(&reject.record))?;
        }
        Ok(file.flush()?)
    }
}

/// Loads records by COPY, inside of a transaction.
struct Loader<'c> {
    connection: &'c mut PgConnection,
    copy: CopyIn,
    /// How many columns there are.
    width: usize,
    null: &'c [u8],
    loaded: u64,
    rejects: Vec<Reject>,
}

impl Loader<'_> {
    /// The record, if it can be sent at all.
    fn check(&mut self, record: ByteRecord) -> Option<ByteRecord> {
        let reason = if record.len() != self.width {
            format!("{} fields instead of {}", record.len(), self.width)
        } else if record.iter().any(|field| std::str::from_utf8(field).is_err()) {
            "the text is not UTF-8".to_owned()
        } else if record.iter().any(|field| field.contains(&0)) {
            "a NUL byte, which no text of PostgreSQL can hold".to_owned()
        } else {
            return Some(record);
        };
        self.reject(&record, reason);
        None
    }

    fn reject(&mut self, record: &ByteRecord, reason: String) {
        let line = record.position().map_or(0, csv::Position::line);
        self.rejects.push(Reject { line, reason, record: record.clone() });
    }

    /// Loads the good ones of these records, and notes the others.
    fn load(&mut self, batch: &[ByteRecord]) -> PgResult<()> {
        let mut to_do = Vec::new();
        let mut next = Some(0..batch.len());
        while let Some(range) = next.take().or_else(|| to_do.pop()) {
            let records = &batch[range.clone()];
            if records.is_empty() {
                continue;
            }
            self.connection.execute_batch("savepoint batch")?;
            let error = match self.copy(records) {
                Ok(rows) => {
                    self.loaded += rows;
                    self.connection.execute_batch("release savepoint batch")?;
                    continue;
                }
                Err(error) => error,
            };
            if !is_about_a_row(&error) {
                return Err(error);
            }
            self.connection.execute_batch("rollback to savepoint batch")?;
            match line_of(&error) {
                Some(line) if (1..=records.len()).contains(&line) => {
                    let bad = range.start + line - 1;
                    self.reject(&batch[bad], reason(&error));
                    // What stands before it is known to be good; it goes first.
                    to_do.extend([bad + 1..range.end, range.start..bad]);
                }
                // The server did not say where: that is found by halving.
                _ if records.len() == 1 => self.reject(&records[0], reason(&error)),
                _ => {
                    let middle = range.start + records.len() / 2;
                    to_do.extend([middle..range.end, range.start..middle]);
                }
            }
        }
        Ok(())
    }

    /// Copies records, all or none.
    fn copy(&mut self, records: &[ByteRecord]) -> PgResult<u64> {
        let mut writer = self.connection.copy_in(self.copy.clone())?;
        let mut row = Vec::with_capacity(self.width);
        for record in records {
            row.clear();
            // They have been checked to be UTF-8.
            let fields = record.iter().map(|field| (field, std::str::from_utf8(field)));
            row.extend(fields.map(|(raw, text)| text.ok().filter(|_| raw != self.null)));
            writer.write_row(row.as_slice())?;
        }
        writer.finish()
    }
}

/// Whether it is the data that the server refuses: a value or a constraint, or what a trigger says.
fn is_about_a_row(error: &PgError) -> bool {
    error.sql_state().is_some_and(|code| ["22", "23", "P0"].contains(&code.class()))
}

/// The line of the COPY that an error is about. Each record is one line in text format.
fn line_of(error: &PgError) -> Option<usize> {
    let context = error.as_server()?.context.as_deref()?;
    let copy = context.lines().find(|line| line.starts_with("COPY "))?;
    let (_, line) = copy.rsplit_once(", line ")?;
    let digits = line.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Why the server refused a row, in one line.
fn reason(error: &PgError) -> String {
    let Some(server) = error.as_server() else { return error.to_string() };
    match &server.detail {
        Some(detail) => format!("{} ({detail})", server.message),
        None => server.message.clone(),
    }
}

impl Export {
    fn run(&self, connection: &mut PgConnection, out: &mut dyn Write) -> Result<u8> {
        let options = CopyOptions::csv().header(true).delimiter(self.delimiter);
        let mut reader = connection.copy_out(CopyOut::query(&self.query).options(options))?;
        // Only now: a query that is wrong leaves the file as it was.
        let file = File::create(&self.file).map_err(|error| named(&self.file, &error))?;
        let mut file = BufWriter::new(file);
        let bar = ProgressBar::no_length();
        bar.set_style(ProgressStyle::with_template("{spinner} {bytes}  {bytes_per_sec}")?);
        let bytes = io::copy(&mut bar.wrap_read(&mut reader), &mut file)?;
        let rows = reader.finish()?;
        file.flush()?;
        bar.finish_and_clear();
        writeln!(out, "{rows} rows, {bytes} bytes written to {}", self.file.display())?;
        Ok(0)
    }
}

fn named(path: &Path, error: &dyn fmt::Display) -> String {
    format!("{}: {error}", path.display())
}
