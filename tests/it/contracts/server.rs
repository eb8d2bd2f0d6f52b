//! A server without a socket: it reads messages and answers them as PostgreSQL does, at once and in
//! order.
//!
//! It knows just enough of the extended protocol to hold the engine to it: statements by name, one
//! portal, what is skipped up to the Sync after an error, what is committed there. What a statement
//! does stands in its text, behind a keyword that makes the engine treat it as what it is:
//!
//! | text | what happens |
//! |---|---|
//! | `select rows n` | n rows |
//! | `select parse-error` | 42601 instead of ParseComplete |
//! | `select bind-error` | 22P02 instead of BindComplete |
//! | `select run-error n` | 22012 after n rows |
//! | `select deferred` | CommandComplete, then 23503 at the Sync |
//! | `select acl n`, `call acl n` | n rows of a type that has no binary output |
//! | `select noisy n` | n rows among notices, notifications and parameters |
//! | `copy-in`, `copy-out` | a COPY that the driver cannot see coming |
//! | `commit`, `begin`, `rollback`, `deallocate all` | what they say |
//! | one of [`COMMITTING`] | what was done so far is committed |
//! | `fatal` | 57P01, and the end |
//!
//! Each row holds the first parameter, or in the simple protocol what stands behind a `#`: it tells
//! whose row it is.

use std::collections::{HashMap, HashSet};

use testkit::frames::{self, Bind, Column, Frame, FrameBuffer, Subject};

/// An `aclitem`, which no server can send in binary.
const ACLITEM: u32 = 1033;

/// Commands that cannot run inside a transaction, and commit what the group has done before them.
pub(super) const COMMITTING: [&str; 10] = [
    "create database",
    "drop database",
    "create tablespace",
    "drop tablespace",
    "alter system",
    "vacuum",
    "discard all",
    "prepare transaction",
    "commit prepared",
    "rollback prepared",
];

/// The server's end of a session.
#[derive(Debug, Default)]
pub(super) struct Server {
    input: FrameBuffer,
    output: Vec<u8>,
    /// The text of each prepared statement; the empty name is the unnamed one.
    statements: HashMap<String, String>,
    /// Names that were ever given to a statement.
    names: HashSet<String>,
    /// Statements whose Bind fails, and with which code.
    stale: HashMap<String, &'static str>,
    portal: Option<Portal>,
    /// After an error: everything up to the Sync is skipped.
    skipping: bool,
    /// What was done in this transaction.
    done: Vec<String>,
    /// What was done for good, in order.
    committed: Vec<String>,
    /// The commit at the Sync will fail.
    deferred: bool,
    status: Status,
    /// A COPY from the client is under way; in the simple protocol, or not.
    copying: Option<bool>,
    ended: bool,
}

/// The transaction status of a ReadyForQuery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Status {
    #[default]
    Idle,
    Transaction,
    Failed,
}

#[derive(Debug)]
struct Portal {
    sql: String,
    bind: Bind,
}

/// An error's SQLSTATE and the routine that raised it.
type Failed = (&'static str, &'static str);

impl Server {
    /// Takes what a client has sent; returns its messages.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.input.push(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = self.input.take_frame().expect("messages that are well formed") {
            if !self.ended {
                self.take(&frame);
            }
            frames.push(frame);
        }
        frames
    }

    /// What it has said since this was last asked.
    pub(super) fn said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// What was done for good, in order: the first parameter of each run.
    pub(super) fn committed(&self) -> &[String] {
        &self.committed
    }

    /// The names of the prepared statements, but for the unnamed one.
    pub(super) fn statements(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.statements.keys().map(String::as_str).collect();
        names.retain(|name| !name.is_empty());
        names.sort_by_key(|name| (name.len(), *name));
        names
    }

    /// All statements go stale: binding them fails with `code` from now on.
    pub(super) fn go_stale(&mut self, code: &'static str) {
        let named = self.statements.keys().filter(|name| !name.is_empty());
        self.stale.extend(named.map(|name| (name.clone(), code)));
    }

    /// A statement is not there any more, as after a DEALLOCATE that the engine knows nothing of.
    pub(super) fn forget(&mut self, name: &str) {
        self.statements.remove(name).expect("a statement with this name");
    }

    fn take(&mut self, frame: &Frame) {
        if self.copying.is_some() && matches!(frame.tag, b'S' | b'H') {
            return;
        }
        if self.skipping && frame.tag != b'S' {
            return;
        }
        let taken = match frame.tag {
            b'P' => self.parse(frame),
            b'B' => self.bind(frame),
            b'D' => self.describe(frame),
            b'E' => self.execute(),
            b'C' => {
                let Ok(Subject::Statement(name)) = frame.as_close() else { panic!("{frame:?}") };
                self.statements.remove(&name);
                self.output.extend(frames::close_complete());
                Ok(())
            }
            b'f' => match self.copying.take() {
                Some(true) => return self.fail_query(),
                Some(false) => Err(("57014", "ProcessCopyFail")),
                None => Ok(()),
            },
            b'S' => return self.sync(),
            b'Q' => return self.query(&frame.as_query().expect("a Query")),
            b'X' => {
                self.ended = true;
                Ok(())
            }
            _ => panic!("{frame:?} has no place here"),
        };
        if let Err(failed) = taken {
            self.fail(failed);
            self.skipping = true;
        }
    }

    fn fail(&mut self, (code, routine): Failed) {
        let severity = if code == "57P01" { "FATAL" } else { "ERROR" };
        let fields =
            [(b'S', severity), (b'V', severity), (b'C', code), (b'M', "no"), (b'R', routine)];
        self.output.extend(frames::error_response(&fields));
        self.ended |= severity == "FATAL";
        self.done.clear();
        if self.status == Status::Transaction {
            self.status = Status::Failed;
        }
    }

    fn parse(&mut self, frame: &Frame) -> Result<(), Failed> {
        let parse = frame.as_parse().expect("a Parse");
        if parse.sql.contains("parse-error") {
            return Err(("42601", "scanner_yyerror"));
        }
        assert!(parse.name.is_empty() || self.names.insert(parse.name.clone()), "used before");
        self.statements.insert(parse.name, parse.sql);
        self.output.extend(frames::parse_complete());
        Ok(())
    }

    fn bind(&mut self, frame: &Frame) -> Result<(), Failed> {
        let bind = frame.as_bind().expect("a Bind");
        if let Some(code) = self.stale.get(&bind.statement) {
            return Err((code, "RevalidateCachedQuery"));
        }
        let Some(sql) = self.statements.get(&bind.statement).cloned() else {
            return Err(("26000", "FetchPreparedStatement"));
        };
        if self.status == Status::Failed && sql != "rollback" {
            return Err(("25P02", "exec_bind_message"));
        }
        if sql.contains("bind-error") {
            return Err(("22P02", "pg_strtoint32"));
        }
        self.portal = Some(Portal { sql, bind });
        self.output.extend(frames::bind_complete());
        Ok(())
    }

    fn describe(&mut self, frame: &Frame) -> Result<(), Failed> {
        let (sql, format) = match frame.as_describe().expect("a Describe") {
            Subject::Statement(name) => {
                let sql = self.statements.get(&name).ok_or(("26000", "FetchPreparedStatement"))?;
                self.output.extend(frames::parameter_description(&[25]));
                (sql.as_str(), 0)
            }
            Subject::Portal(_) => {
                let portal = self.portal.as_ref().ok_or(("34000", "exec_describe_portal"))?;
                (portal.sql.as_str(), portal.bind.result_format(0))
            }
        };
        self.output.extend(match column(sql) {
            Some(column) => frames::row_description(&[Column { format, ..column }]),
            None => frames::no_data(),
        });
        Ok(())
    }

    fn execute(&mut self) -> Result<(), Failed> {
        let Portal { sql, bind } = self.portal.take().ok_or(("34000", "exec_execute_message"))?;
        let tag = match bind.params.first() {
            Some(Some(tag)) => String::from_utf8(tag.clone()).expect("a parameter that is text"),
            _ => String::new(),
        };
        match sql.as_str() {
            "copy-in" => {
                self.output.extend(frames::copy_in_response(0, &[0]));
                self.copying = Some(false);
                return Ok(());
            }
            "fatal" => return Err(("57P01", "ProcessInterrupts")),
            _ => {}
        }
        if sql.contains(" acl ") && bind.result_format(0) == 1 {
            return Err(("42883", "getTypeBinaryOutputInfo"));
        }
        self.run(&sql, &tag)
    }

    /// Runs a statement up to its CommandComplete.
    fn run(&mut self, sql: &str, tag: &str) -> Result<(), Failed> {
        let rows = count(sql);
        for number in 0..rows {
            if sql.contains("noisy") {
                self.make_noise(number);
            }
            self.output.extend(frames::data_row(&[Some(tag.as_bytes())]));
        }
        if sql.contains("run-error") {
            return Err(("22012", "int4div"));
        }
        if sql == "copy-out" {
            self.output.extend(frames::copy_out_response(0, &[0]));
            self.output.extend(frames::copy_data(b"1\n"));
            self.output.extend(frames::copy_done());
        }
        self.deferred |= sql.contains("deferred");
        if !tag.is_empty() {
            self.done.push(tag.to_owned());
        }
        let command = match sql {
            "deallocate all" => {
                self.statements.retain(|name, _| name.is_empty());
                sql.to_uppercase()
            }
            sql if COMMITTING.contains(&sql) => {
                if std::mem::take(&mut self.deferred) {
                    return Err(("23503", "RI_FKey_check"));
                }
                if sql == "discard all" {
                    self.statements.retain(|name, _| name.is_empty());
                }
                self.committed.append(&mut self.done);
                sql.to_uppercase()
            }
            "create table" | "drop table" | "discard temp" | "analyze" => sql.to_uppercase(),
            "begin" => {
                self.status = Status::Transaction;
                "BEGIN".to_owned()
            }
            "commit" => {
                if std::mem::take(&mut self.deferred) {
                    return Err(("23503", "RI_FKey_check"));
                }
                self.commit();
                "COMMIT".to_owned()
            }
            "rollback" => {
                self.status = Status::Idle;
                self.done.clear();
                "ROLLBACK".to_owned()
            }
            _ => format!("SELECT {rows}"),
        };
        self.output.extend(frames::command_complete(&command));
        Ok(())
    }

    fn make_noise(&mut self, number: usize) {
        let text = number.to_string();
        let notice = [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', text.as_str())];
        self.output.extend(frames::notice_response(&notice));
        self.output.extend(frames::notification_response(7, "jobs", &text));
        self.output.extend(frames::parameter_status("application_name", &text));
    }

    fn commit(&mut self) {
        self.status = Status::Idle;
        self.committed.append(&mut self.done);
    }

    fn sync(&mut self) {
        if std::mem::take(&mut self.deferred) && !self.skipping && self.status == Status::Idle {
            self.fail(("23503", "RI_FKey_check"));
        }
        self.skipping = false;
        self.portal = None;
        if self.status == Status::Idle {
            self.commit();
        }
        self.ready();
    }

    fn ready(&mut self) {
        let status = match self.status {
            Status::Idle => b'I',
            Status::Transaction => b'T',
            Status::Failed => b'E',
        };
        self.output.extend(frames::ready_for_query(status));
    }

    /// The simple protocol: statements between semicolons, one transaction.
    fn query(&mut self, text: &str) {
        for sql in text.split(';').map(str::trim) {
            let (sql, tag) = sql.split_once('#').unwrap_or((sql, ""));
            let sql = sql.trim();
            if sql == "copy-in" {
                self.output.extend(frames::copy_in_response(0, &[0]));
                self.copying = Some(true);
                return;
            }
            let failed = match sql {
                _ if sql.contains("parse-error") => Err(("42601", "scanner_yyerror")),
                _ if sql.contains("bind-error") => Err(("22P02", "pg_strtoint32")),
                "fatal" => Err(("57P01", "ProcessInterrupts")),
                _ => {
                    let described = column(sql).map(|column| frames::row_description(&[column]));
                    self.output.extend(described.unwrap_or_default());
                    self.run(sql, tag)
                }
            };
            let failed = match std::mem::take(&mut self.deferred) {
                true => failed.and(Err(("23503", "RI_FKey_check"))),
                false => failed,
            };
            if let Err(failed) = failed {
                self.fail(failed);
                break;
            }
        }
        if self.ended {
            return;
        }
        if self.status == Status::Idle {
            self.commit();
        }
        self.ready();
    }

    /// The COPY of a simple query has failed.
    fn fail_query(&mut self) {
        self.fail(("57014", "ProcessCopyFail"));
        self.ready();
    }
}

/// The column of the rows that a statement returns.
fn column(sql: &str) -> Option<Column<'static>> {
    let oid = if sql.contains(" acl ") { ACLITEM } else { 25 };
    let returns_rows = sql.starts_with("select") || sql.starts_with("call");
    returns_rows.then_some(Column::new("tag", oid, -1))
}

/// The number of rows at the end of a text.
fn count(sql: &str) -> usize {
    sql.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}
