//! `cargo xtask bench http`: whether slow requests delay quick ones, and whether workers wait anywhere
//! but in epoll.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::{Cluster, Need, Server as PostgreSql};

use super::load::{Clients, Load};
use super::report::{self, Found, Latencies};
use super::server::Server;
use super::waits::Watch;
use crate::costs::tools;

/// How long everything runs before it counts.
const WARM_UP: Duration = Duration::from_millis(500);

/// How long the system calls of the workers are watched.
const WATCHED: Duration = Duration::from_secs(3);

/// The options of `cargo xtask bench http`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fail if the median latency of /db beside /slow is more than so many times that of /db alone
    #[arg(long, value_name = "RATIO")]
    check_ratio: Option<f64>,

    /// Fail if a worker waits anywhere but in epoll (strace tells)
    #[arg(long)]
    check_waits: bool,

    /// The threads of the server
    #[arg(long, default_value_t = 1)]
    threads: usize,

    /// Its connections for /slow, for each thread
    #[arg(long, default_value_t = 10)]
    slow_pool_size: usize,

    /// Clients that ask for /db, one request at a time
    #[arg(long, default_value_t = 8)]
    clients: usize,

    /// Clients that ask for /slow, one request at a time
    #[arg(long, default_value_t = 100)]
    slow_clients: usize,

    /// Rounds, each with /db alone and beside /slow
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// How many seconds each half of a round takes
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// Measures, prints, and says whether it is as it should be.
///
/// # Errors
/// When the example or the server cannot be built or started, or an answer is not as it should be.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let half = Duration::try_from_secs_f64(args.seconds).context("--seconds makes no sense")?;
    ensure!(args.clients > 0 && args.slow_clients > 0, "without clients there is nothing to see");
    if args.check_waits {
        tools::provide(&["strace"])?;
    }
    PostgreSql::find(&Need::default()).context("no PostgreSQL for the server")?;
    let executable = Server::build()?;
    let connections = args.threads * (args.slow_pool_size + 2) + 10;
    let cluster = Cluster::builder().guc("max_connections", connections.to_string()).start()?;
    let server = Server::start(&executable, &cluster, args.threads, args.slow_pool_size)?;
    let load = Load::new(server.address());

    let mut failures = Vec::new();
    if args.check_waits {
        failures.extend(watch(args, &server, &load)?);
    }
    let found = measure(args, half, &load)?;
    server.stop()?;

    println!(
        "PostgreSQL {}; worker threads: {}; rounds: {} of 2 x {} s\n",
        cluster.version(),
        args.threads,
        args.rounds,
        args.seconds
    );
    println!("{}", report::table(&found, args.clients, args.slow_clients));
    failures.extend(args.check_ratio.and_then(|limit| report::over_the_limit(&found, limit)));
    for failure in &failures {
        println!("FAILED {failure}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The latencies of both halves of all rounds. The halves take turns, so that what else goes on in
/// this machine hits both.
fn measure(args: &Args, half: Duration, load: &Load) -> Result<Found> {
    let mut found = Found::default();
    load.run(WARM_UP, &[Clients { count: args.clients, target: "/db" }])?;
    for round in 1..=args.rounds {
        eprintln!("round {round} of {} ...", args.rounds);
        let db = Clients { count: args.clients, target: "/db" };
        let slow = Clients { count: args.slow_clients, target: "/slow" };
        // Whoever comes first in one round comes second in the next.
        for is_beside in [round % 2 == 0, round % 2 == 1] {
            if is_beside {
                let [beside, slow] = load.run(half, &[db, slow])?.try_into().map_err(wrong)?;
                found.beside.extend(beside);
                found.slow.extend(slow);
            } else {
                let [alone] = load.run(half, &[db])?.try_into().map_err(wrong)?;
                found.alone.extend(alone);
            }
        }
    }
    Ok(found)
}

fn wrong(found: Vec<Latencies>) -> anyhow::Error {
    anyhow::anyhow!("{} kinds of clients have told what they found", found.len())
}

/// What the workers wait in while requests of all kinds are under way; what of it is wrong.
fn watch(args: &Args, server: &Server, load: &Load) -> Result<Vec<String>> {
    eprintln!("watching the workers ...");
    let watch = Watch::start(&server.workers()?)?;
    // From the start on: also when connections are opened, a worker must not wait.
    let targets = ["/db", "/queries?n=20", "/updates?n=20", "/fortunes"];
    let mut clients: Vec<Clients> = targets.map(|target| Clients { count: 2, target }).into();
    clients.push(Clients { count: args.slow_clients, target: "/slow" });
    load.run(WATCHED, &clients)?;
    let calls = watch.end()?;
    println!("{}", calls.table());
    Ok(calls.failures())
}
