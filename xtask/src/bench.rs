//! `cargo xtask bench`: what a clock says of whole programs.
//!
//! Clients, program and server share this machine, so the numbers themselves are worth little: what is
//! checked is how two of them, measured in turn, compare.

mod http;
mod load;
mod report;
mod server;
mod waits;

use std::process::ExitCode;

use anyhow::Result;

/// What is measured.
#[derive(clap::Subcommand)]
pub(crate) enum Subject {
    /// examples/http_epoll: quick requests alone, and beside slow ones
    Http(http::Args),
}

/// Measures it, and prints what was found.
///
/// # Errors
/// When a program or a server is missing and cannot be had, or does not do its work.
pub(crate) fn run(subject: &Subject) -> Result<ExitCode> {
    match subject {
        Subject::Http(args) => http::run(args),
    }
}
