//! `cargo xtask test`: every test of the workspace.

use std::process::ExitCode;

use anyhow::{Context, Result};
use testkit::{Need, Server};

use crate::workspace;

/// The options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Let the tests that can go on for longer do so, with more rounds and larger values
    #[arg(long)]
    long: bool,

    /// Passed on to `cargo test`, for example: -- --test tidy
    #[arg(last = true, value_name = "ARGS")]
    cargo_test: Vec<String>,
}

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

    let mut cargo = workspace::cargo();
    cargo.args(["test", "--workspace", "--all-features"]).args(&args.cargo_test);
    if args.long {
        cargo.env("CHOPIN_TEST_LONG", "1");
    }
    workspace::run(&mut cargo)
}
