//! From the counts of two runs to the costs of one operation.

use anyhow::Result;

use super::callgrind;
use super::program::Program;
use super::strace::{self, Calls};
use super::workload::{Costs, Workload};

/// Of a system call that is rarer than this, nothing is told.
const RARE: f64 = 0.005;

const NANOS_PER_MICRO: f64 = 1_000.0;

/// What the costs consist of, in words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Details {
    /// How much is allocated; empty if next to nothing is.
    pub(super) allocations: String,
    /// Which system calls there are.
    pub(super) system_calls: String,
}

/// Runs a workload under each tool, or under a clock, shorter and longer, and takes the differences.
///
/// # Errors
/// When a run fails.
pub(super) fn count(program: &Program, workload: &Workload) -> Result<(Costs, Details)> {
    let [short, long] = workload.runs;
    let operations = long - short;

    let (mut instructions, mut cpu_time) = (None, None);
    let (least_said, most_said) = if workload.is_timed() {
        let (least, most) = (program.run(workload, short)?, program.run(workload, long)?);
        cpu_time = Some(each(least.cpu_nanos, most.cpu_nanos, operations) / NANOS_PER_MICRO);
        (least, most)
    } else {
        let (least, least_said) = callgrind::run(program, workload, short)?;
        let (most, most_said) = callgrind::run(program, workload, long)?;
        instructions = Some(each(least, most, operations));
        (least_said, most_said)
    };
    let allocations = each(least_said.allocations, most_said.allocations, operations);
    let bytes = each(least_said.bytes, most_said.bytes, operations);

    let least = strace::run(program, workload, short)?;
    let most = strace::run(program, workload, long)?;
    let calls = calls_each(&least, &most, operations);
    let system_calls = calls.iter().map(|(_, calls)| calls).sum();
    Ok((
        Costs { instructions, cpu_time, allocations, system_calls },
        Details { allocations: size(bytes), system_calls: breakdown(&calls) },
    ))
}

/// How much each operation adds to what the shorter run has. Of what is rare, the longer run may
/// have less.
fn each(least: u64, most: u64, operations: u32) -> f64 {
    // Counts of runs of a few seconds are far below 2^53.
    (most as f64 - least as f64) / f64::from(operations)
}

/// The system calls of each operation, the most frequent first.
fn calls_each<'a>(least: &Calls, most: &'a Calls, operations: u32) -> Vec<(&'a str, f64)> {
    let before = |name| least.get(name).copied().unwrap_or(0);
    let calls = most.iter().map(|(name, &most)| (name, each(before(name), most, operations)));
    let mut calls: Vec<(&str, f64)> = calls.map(|(name, calls)| (name.as_str(), calls)).collect();
    calls.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    calls
}

fn breakdown(calls: &[(&str, f64)]) -> String {
    let frequent = calls.iter().filter(|(_, calls)| *calls >= RARE);
    let words: Vec<String> = frequent.map(|(name, calls)| format!("{name} {calls:.2}")).collect();
    words.join(", ")
}

fn size(bytes: f64) -> String {
    if bytes < 0.5 { String::new() } else { format!("{bytes:.0} bytes") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(calls: &[(&str, u64)]) -> Calls {
        calls.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn what_both_runs_have_cancels_out() {
        let least = calls(&[("connect", 1), ("recvfrom", 104), ("sendto", 102), ("brk", 3)]);
        let most = calls(&[("connect", 1), ("recvfrom", 504), ("sendto", 302), ("mmap", 1)]);
        let costs = calls_each(&least, &most, 200);
        let expected = [("recvfrom", 2.0), ("sendto", 1.0), ("mmap", 0.005), ("connect", 0.0)];
        assert_eq!(costs, expected);
        assert_eq!(breakdown(&costs), "recvfrom 2.00, sendto 1.00, mmap 0.01");
    }

    #[test]
    fn the_longer_run_may_have_less() {
        assert_eq!(each(12, 10, 2), -1.0);
    }

    #[test]
    fn sizes_are_told_if_there_is_something() {
        assert_eq!(size(0.1), "");
        assert_eq!(size(362.4), "362 bytes");
    }
}
