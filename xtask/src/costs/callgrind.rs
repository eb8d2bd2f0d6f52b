//! Instructions, counted by valgrind's callgrind.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, ensure};

use super::program::{Program, Said};
use super::workload::Workload;

/// The instructions of one run of the program from its start to its end, and what it said.
///
/// The profile of the last run stays in the program's folder.
///
/// # Errors
/// When valgrind or the program fails, or the profile is not understood.
pub(super) fn run(program: &Program, workload: &Workload, operations: u32) -> Result<(u64, Said)> {
    let profile = program.folder().join(format!("callgrind.{}", workload.name));
    let mut out_file = OsString::from("--callgrind-out-file=");
    out_file.push(&profile);
    let options = ["--quiet".as_ref(), "--tool=callgrind".as_ref(), out_file.as_os_str()];
    let said = program.run_under("valgrind", &options, workload, operations)?;
    let text = fs::read_to_string(&profile)
        .with_context(|| format!("cannot read {}", profile.display()))?;
    Ok((total(&text).with_context(|| format!("{}", profile.display()))?, said))
}

/// The sum of a profile, whose only event is to be `Ir`, the instructions.
fn total(profile: &str) -> Result<u64> {
    let field = |name: &str| profile.lines().find_map(|line| line.strip_prefix(name));
    let events = field("events:").context("the profile does not name its events")?.trim();
    ensure!(events == "Ir", "the profile counts {events:?} and not just Ir");
    let total = field("totals:").context("the profile has no line `totals:`")?.trim();
    total.parse().with_context(|| format!("the profile's total is {total:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
# callgrind format
version: 1
creator: callgrind-3.19.0
pid: 29710
cmd:  chopin-pg-costs w1 1200
part: 1

desc: I1 cache:
desc: Trigger: Program termination

positions: line
events: Ir
summary: 41684930

ob=(1) chopin-pg-costs
fl=(1) points.rs
fn=(1) sequential
25 12

totals: 41684931
";

    #[test]
    fn the_total_of_a_profile_is_read() {
        assert_eq!(total(PROFILE).unwrap(), 41_684_931);
    }

    #[test]
    fn another_profile_is_an_error() {
        let error = |text: &str| format!("{:#}", total(text).unwrap_err());
        assert_eq!(error(""), "the profile does not name its events");
        let cache = PROFILE.replace("events: Ir", "events: Ir Dr");
        assert_eq!(error(&cache), "the profile counts \"Ir Dr\" and not just Ir");
        let cut = PROFILE.replace("totals: 41684931\n", "");
        assert_eq!(error(&cut), "the profile has no line `totals:`");
        let several = PROFILE.replace("totals: 41684931", "totals: 1 2");
        assert!(
            error(&several).starts_with("the profile's total is \"1 2\""),
            "{}",
            error(&several)
        );
    }
}
