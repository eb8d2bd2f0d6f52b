//! `cargo xtask demo`: examples/quickstart.rs against a real server.

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result};
use testkit::Cluster;

use crate::workspace;

/// The variable that names the demo's server, for us and for the example.
const DATABASE_URL: &str = "DATABASE_URL";

/// Runs the example against the server that `DATABASE_URL` names, or against a throwaway one that
/// is gone afterwards. The example's exit status is the answer.
///
/// # Errors
/// When there is no server and none can be fetched, or cargo cannot be started.
pub(crate) fn run() -> Result<ExitCode> {
    if env::var_os(DATABASE_URL).is_some_and(|url| !url.is_empty()) {
        // Not shown: a password may be in it.
        eprintln!("The demo uses the server that {DATABASE_URL} names.");
        return quickstart(None);
    }
    eprintln!("The demo gets and starts a throwaway PostgreSQL server ...");
    let cluster = Cluster::builder().start().context("no server for the demo")?;
    eprintln!(
        "PostgreSQL {} listens on {}:{} and is gone when the demo ends.",
        cluster.version(),
        cluster.host(),
        cluster.port()
    );
    quickstart(Some(cluster.url(cluster.superuser(), None, "postgres")))
}

fn quickstart(url: Option<String>) -> Result<ExitCode> {
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--package", "chopin-pg", "--example", "quickstart"]);
    cargo.envs(url.map(|url| (DATABASE_URL, url)));
    workspace::run(&mut cargo)
}
