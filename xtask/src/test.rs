//! `cargo xtask test`: every test of the workspace.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use testkit::{Need, Server};

use crate::workspace;

/// The options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Let the tests that can go on for longer do so, with more rounds and larger values
    #[arg(long)]
    long: bool,

    /// Instead of the tests: thousands of connections in one thread, in a release build
    #[arg(long, conflicts_with_all = ["long", "cargo_test"])]
    scale: bool,

    /// Passed on to `cargo test`, for example: -- --test tidy
    #[arg(last = true, value_name = "ARGS")]
    cargo_test: Vec<String>,
}

/// The program of [`scale`], and what it is to do.
const SCALE: &str = "chopin-pg-scale";
const SCALE_PARTS: [&str; 2] = ["queries", "connections"];

/// Runs unit, integration and documentation tests, and compiles the examples. All features are on:
/// the tests of what is behind a feature would be left out silently otherwise.
///
/// # Errors
/// When there is no server and none can be fetched, or cargo cannot be started.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    // Here, where it is seen: inside the tests the first one of each program would seem to hang.
    let server = Server::find(&Need::default()).context("no server for the tests")?;
    eprintln!(
        "The tests use PostgreSQL {} and fetch others if they need them.",
        server.version_text()
    );

    if args.scale {
        return scale();
    }
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--workspace", "--all-features"]).args(&args.cargo_test);
    if args.long {
        cargo.env("CHOPIN_TEST_LONG", "1");
    }
    workspace::run(&mut cargo)
}

/// Runs each part of the scale tier in a process of its own, since one of them measures memory. The
/// first that fails ends it.
fn scale() -> Result<ExitCode> {
    let program = workspace::build_release(SCALE)?;
    for part in SCALE_PARTS {
        let code = workspace::run(Command::new(&program).arg(part))?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}
