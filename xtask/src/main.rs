//! The developer commands of chopin-pg, run as `cargo xtask <command>`.
//!
//! Each command is a file of its own with a `run`; its options are documented on its arguments,
//! which is what `--help` shows. Commands print what they find to stdout and how they get on to
//! stderr. Their exit status is 0, 1 for a failure that they explain, 2 for wrong arguments, or
//! that of the program that they run.

mod bench;
mod catalog;
mod costs;
mod demo;
mod features;
mod pg;
mod rows;
mod test;
mod transcripts;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The developer commands of chopin-pg
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get and start a throwaway server, and run examples/quickstart.rs against it
    Demo,
    /// Run every test
    Test(test::Args),
    /// Print each row of docs/FEATURES.md and docs/HAZARDS.md with the tests that prove it
    Rows(rows::Args),
    /// A server to play with
    #[command(subcommand)]
    Pg(pg::Action),
    /// Check the driver with each feature alone, none, all, and the pairs that interact
    Features,
    /// Record the sessions in tests/transcripts anew, and what the tests compare them with
    Transcripts,
    /// Write the tables that come from PostgreSQL's own catalogue anew
    Catalog(catalog::Args),
    /// Count what an operation costs the driver, beside the goals and the last saved counts
    Costs(costs::Args),
    /// Measure whole programs by the clock
    #[command(subcommand)]
    Bench(bench::Subject),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo => demo::run(),
        Command::Test(args) => test::run(&args),
        Command::Rows(args) => rows::run(&args),
        Command::Pg(action) => pg::run(&action),
        Command::Features => features::run(),
        Command::Transcripts => transcripts::run(),
        Command::Catalog(args) => catalog::run(&args),
        Command::Costs(args) => costs::run(&args),
        Command::Bench(subject) => bench::run(&subject),
    }
}
