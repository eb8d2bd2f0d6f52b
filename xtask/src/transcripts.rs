//! `cargo xtask transcripts`: the recorded sessions of tests/transcripts anew.
//!
//! Sessions of psql and of libpq's pipelines (through pgbench) are recorded here, between the
//! program and a throwaway server, by testkit's proxy. Those of the driver, and the files with what
//! the engine makes of each session, are written by the tests that replay them: they are run with
//! `CHOPIN_RECORD` set.
//!
//! What is recorded is read by everybody: it has no dates, no paths, and the passwords and keys in
//! it are those of a server that is gone.

use std::env;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use testkit::Cluster;
use testkit::proxy::Recorder;
use testkit::transcript::{Entry, Secrets, Transcript};

use crate::workspace;

/// The folder of the transcripts in the repository.
const FOLDER: &str = "tests/transcripts";

/// Of every role that logs in with one. The tests that replay the sessions know it too.
const PASSWORD: &str = "prelude op. 28";

/// The program that talks to the server.
#[derive(Clone, Copy, Debug)]
enum Program {
    /// Its input is sent statement by statement in the simple protocol; `\;` joins two.
    Psql,
    /// Its input is one script, run once in the extended protocol.
    Pgbench,
}

/// A session to be recorded.
struct Session {
    /// The transcript's file name without its ending.
    name: &'static str,
    program: Program,
    role: &'static str,
    input: &'static str,
}

const fn psql(name: &'static str, input: &'static str) -> Session {
    Session { name, program: Program::Psql, role: "postgres", input }
}

const fn login(name: &'static str, role: &'static str) -> Session {
    Session { name, program: Program::Psql, role, input: "select current_user;" }
}

const fn pgbench(name: &'static str, input: &'static str) -> Session {
    Session { name, program: Program::Pgbench, role: "postgres", input }
}

const SESSIONS: &[Session] = &[
    login("psql_login_trust", "by_trust"),
    login("psql_login_cleartext", "by_password"),
    login("psql_login_md5", "by_md5"),
    login("psql_login_scram", "by_scram"),
    psql(
        "psql_several_results",
        "select 1 as one \\; select 'zwei' as two \\; values (1, null), (2, 'b');",
    ),
    psql("psql_empty_query", "select 1;\n;\n-- nothing\nselect 2;"),
    psql("psql_error", "select nme from pg_class;\nselect 1 / 0;\nselect 1;"),
    psql(
        "psql_error_in_the_middle",
        "create temp table t (x int4);\n\
         insert into t values (1) \\; select 1 / 0 \\; insert into t values (2);\n\
         select count(*) from t;",
    ),
    psql(
        "psql_deferred_constraint",
        "create temp table parent (id int4 primary key);\n\
         create temp table child (id int4 references parent deferrable initially deferred);\n\
         insert into child values (1) \\; select 'rolled back';\n\
         begin;\n\
         insert into child values (2);\n\
         commit;\n\
         select count(*) from child;",
    ),
    psql(
        "psql_notices",
        "do $$ begin\n\
         raise notice 'one';\n\
         raise warning 'two' using detail = 'a detail', hint = 'a hint';\n\
         end $$;\n\
         drop table if exists nowhere;\n\
         select 1;",
    ),
    psql(
        "psql_notification",
        "listen etude;\nnotify etude, 'op. 10';\nselect pg_notify('etude', 'op. 25');\nselect 1;",
    ),
    psql(
        "psql_big_rows",
        "select repeat('x', 20000) as big, null as none;\n\
         select n, repeat('y', 100) as y from generate_series(1, 20) n;",
    ),
    psql(
        "psql_transaction",
        "create temp table t (x int4);\n\
         begin;\ninsert into t values (1);\nrollback;\n\
         begin;\nselect 1 / 0;\nselect 1;\ncommit;\n\
         select count(*) from t;",
    ),
    psql(
        "psql_parameter_status",
        "set timezone = 'Europe/Warsaw';\nset application_name = 'étude';\nreset all;",
    ),
    pgbench(
        "libpq_pipeline",
        "\\set n 41\n\\startpipeline\n\
         select :n::int4 + 1 as answer;\nselect null as none;\nselect 'x' as y where false;\n\
         \\endpipeline\n",
    ),
    pgbench(
        "libpq_pipeline_error_first",
        "\\startpipeline\nselect nme from pg_class;\nselect 1;\nselect 2;\n\\endpipeline\n",
    ),
    pgbench(
        "libpq_pipeline_error_in_the_middle",
        "\\set n 0\n\\startpipeline\nselect 1;\nselect 1 / :n::int4;\nselect 2;\n\\endpipeline\n",
    ),
    pgbench(
        "libpq_pipeline_error_last",
        "\\startpipeline\nselect 1;\nselect 2;\nselect 1 / 0;\n\\endpipeline\n",
    ),
    pgbench(
        "libpq_pipeline_error_at_sync",
        "\\startpipeline\ninsert into child values (7);\nselect 1;\n\\endpipeline\n",
    ),
];

/// Records all sessions.
///
/// # Errors
/// When there is no server, it came without psql or pgbench, or a session was not recorded to its
/// end.
pub(crate) fn run() -> Result<ExitCode> {
    let server = server()?;
    let folder = workspace::root().join(FOLDER);
    fs::create_dir_all(&folder)?;
    for session in SESSIONS {
        let transcript = record(&server, session).with_context(|| session.name.to_owned())?;
        transcript.save(folder.join(session.name).with_extension("txt"))?;
        println!("{}: {} messages", session.name, transcript.entries().len());
    }
    drop(server);
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--package", "chopin-pg", "--test", "it", "replay::"]);
    workspace::run(cargo.env("CHOPIN_RECORD", "1"))
}

/// A server with a role for each way to log in.
fn server() -> Result<Cluster> {
    let server = Cluster::builder()
        .guc("timezone", "UTC")
        .hba("host all by_scram 127.0.0.1/32 scram-sha-256")
        .hba("host all by_md5 127.0.0.1/32 md5")
        .hba("host all by_password 127.0.0.1/32 password")
        .start()?;
    let mut client = server.client("postgres")?;
    for (role, encryption) in [
        ("by_trust", "scram-sha-256"),
        ("by_password", "scram-sha-256"),
        ("by_md5", "md5"),
        ("by_scram", "scram-sha-256"),
    ] {
        client.simple(&format!(
            "set password_encryption = '{encryption}'; create role {role} login password '{PASSWORD}'"
        ))?;
    }
    client.simple(
        "create table parent (id int4 primary key); \
         create table child (id int4 references parent deferrable initially deferred)",
    )?;
    Ok(server)
}

/// Records a session that was answered to its end: at an error pgbench leaves without waiting for
/// the end of its pipeline, so that it takes some luck to see that too.
fn record(server: &Cluster, session: &Session) -> Result<Transcript> {
    const ATTEMPTS: usize = 50;
    for _ in 0..ATTEMPTS {
        let transcript = record_once(server, session)?;
        let names: Vec<_> = transcript.entries().iter().map(Entry::name).collect();
        if names.ends_with(&["ReadyForQuery", "Terminate"]) {
            return Ok(transcript);
        }
    }
    bail!("in {ATTEMPTS} attempts it never came to its end")
}

fn record_once(server: &Cluster, session: &Session) -> Result<Transcript> {
    let recorder = Recorder::start(server.tcp(), Secrets::Keep);
    let mut program = match session.program {
        Program::Psql => {
            let mut psql = client_program(server.bin_dir(), "psql");
            psql.args(["--no-psqlrc", "--quiet", "--dbname=postgres"]);
            psql
        }
        Program::Pgbench => {
            let mut pgbench = client_program(server.bin_dir(), "pgbench");
            pgbench.args(["--no-vacuum", "--transactions=1", "--protocol=extended"]);
            pgbench.args(["--file=-", "postgres"]);
            pgbench
        }
    };
    // The first login asks for encryption, which the recorder declines.
    let ssl = if session.name == "psql_login_trust" { "prefer" } else { "disable" };
    program
        .args(["--host=127.0.0.1", &format!("--port={}", recorder.port())])
        .arg(format!("--username={}", session.role))
        .envs([("PGPASSWORD", PASSWORD), ("PGCLIENTENCODING", "UTF8")])
        .envs([("PGSSLMODE", ssl), ("PGGSSENCMODE", "disable")]);
    feed(&mut program, session.input)?;
    // Before it starts, pgbench looks on another connection whether the server answers.
    recorder.finish().pop().context("no connection came")
}

/// A program that came with the server, without the settings of whoever records.
fn client_program(folder: &Path, name: &str) -> Command {
    let mut command = Command::new(folder.join(name));
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("PG") {
            command.env_remove(variable);
        }
    }
    command
}

/// Runs a program to its end with this input. What it prints is of no interest, and whether it
/// is content neither: errors are recorded on purpose.
fn feed(program: &mut Command, input: &str) -> Result<()> {
    program.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = program
        .spawn()
        .with_context(|| format!("cannot start {}", Path::new(program.get_program()).display()))?;
    running.stdin.take().context("no stdin")?.write_all(input.as_bytes())?;
    let status = running.wait()?;
    ensure!(status.code().is_some(), "the program was ended by a signal");
    Ok(())
}
