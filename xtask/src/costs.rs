//! `cargo xtask costs`: what one operation costs the driver, in instructions, allocations and
//! system calls.
//!
//! Counted, not timed: a client shares the machine with its server, so that a clock would mostly
//! measure PostgreSQL, while these counts repeat to about a percent. The workloads are in the
//! package `chopin-pg-costs`, whose release build runs here against a throwaway server on a unix
//! socket. Each runs twice under callgrind and twice under strace, with a smaller and a larger
//! number of operations: the difference between the two is the cost of the operations alone, without
//! start, login and tables. Allocations are counted by the program itself, around its loop.
//!
//! Of work for which the CPU has instructions that callgrind does not know the time is taken instead,
//! the CPU's own for the client's process; it is only shown.
//!
//! What fails are allocations and system calls over their goals, forms of one workload whose
//! instructions differ, and every count that has grown against `costs/baseline.json`. How the compiler
//! works decides the instructions, so the latter holds for the compiler that the baseline was saved
//! with.

mod baseline;
mod callgrind;
mod count;
mod cpu;
mod program;
mod report;
pub(crate) mod strace;
pub(crate) mod tools;
mod workload;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use testkit::{Cluster, Need, Server};

use baseline::{Baseline, Toolchain};
use program::Program;
use report::Measured;
use workload::{WORKLOADS, Workload};

use crate::workspace;

/// The options of `cargo xtask costs`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The workloads; all of them if none is named
    #[arg(value_parser = workloads())]
    workloads: Vec<&'static Workload>,

    /// Write the counts into the baseline that later runs are compared with
    #[arg(long)]
    save: bool,
}

fn workloads() -> impl TypedValueParser<Value = &'static Workload> {
    let names = PossibleValuesParser::new(WORKLOADS.iter().map(|workload| workload.name));
    names.try_map(|name| Workload::called(&name).ok_or("there is no such workload"))
}

/// Enough for the workload with the most of them.
const MAX_CONNECTIONS: &str = "1100";

/// The role of the workload that logs in with a password; that makes the role itself.
const ROLE_WITH_PASSWORD: &str = "chopin_pg_costs";

/// The workloads with these names and the other forms of them; all if none is named.
fn chosen(named: &[&Workload]) -> Vec<&'static Workload> {
    let is_chosen = |workload: &&Workload| {
        named.is_empty() || named.iter().any(|named| named.family() == workload.family())
    };
    WORKLOADS.iter().filter(is_chosen).collect()
}

/// Counts the costs of the chosen workloads, prints them, and compares or saves them.
///
/// # Errors
/// When callgrind, strace or a server are missing and cannot be installed, or one of them or the
/// workloads' program fails.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    tools::provide(&["valgrind", "strace"])?;
    // What takes all the CPUs that it can get comes before there is only one.
    Server::find(&Need::default()).context("no server for the workloads")?;
    let executable = workspace::build_release(program::PACKAGE)?;
    cpu::only_one()?;
    let cluster = Cluster::builder()
        .guc("max_connections", MAX_CONNECTIONS)
        .hba(format!("local all {ROLE_WITH_PASSWORD} scram-sha-256"))
        .start()?;
    let program = Program::new(executable, &cluster)?;

    let toolchain = Toolchain::current()?;
    let mut baseline = Baseline::read()?;
    let mut measured = Vec::new();
    for workload in chosen(&args.workloads) {
        eprintln!("counting {}: {} ...", workload.name, workload.title);
        let (costs, details) = count::count(&program, workload)
            .with_context(|| format!("cannot count the costs of {}", workload.name))?;
        let baseline = baseline.of(workload.name, &toolchain);
        measured.push(Measured { workload, costs, details, baseline });
    }

    println!("PostgreSQL {} on one CPU, {toolchain}\n", cluster.version());
    println!("{}", report::table(&measured));
    let mut failures = report::over_the_goal(&measured);
    failures.extend(report::unlike_their_family(&measured));
    if args.save {
        let counts = measured.iter().map(|measured| (measured.workload.name, measured.costs));
        baseline.save(&toolchain, counts)?;
        println!("saved in {}", baseline::FILE);
    } else if baseline.is_from(&toolchain) {
        failures.extend(report::over_the_baseline(&measured));
    } else {
        println!("not compared: {}", baseline.why_not_compared(&toolchain));
    }
    for failure in &failures {
        println!("FAILED {failure}");
    }
    println!("profiles for callgrind_annotate: {}", program.folder().display());
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_workload_are_chosen_together_and_nothing_twice() {
        let names = |named: &[&str]| -> Vec<&str> {
            let named: Vec<&Workload> =
                named.iter().map(|name| Workload::called(name).unwrap()).collect();
            chosen(&named).iter().map(|workload| workload.name).collect()
        };
        assert_eq!(names(&["w6", "w1"]), ["w1", "w6", "w6k"]);
        assert_eq!(names(&["w6k", "w6"]), ["w6", "w6k"]);
        assert_eq!(names(&["w2"]), ["w2"]);
        assert_eq!(names(&[]).len(), WORKLOADS.len());
    }
}
