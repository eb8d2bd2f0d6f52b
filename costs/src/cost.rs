//! What a piece of work allocates, and the time that it takes.

use std::alloc::System;
use std::fs;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::Result;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a number of operations took from the allocator and from the CPU.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    operations: usize,
    /// Requests for a new block, or for another size of one.
    allocations: usize,
    /// How many bytes were asked for.
    bytes: usize,
    /// The time that the CPU worked for this process, in it and for it in the kernel, in nanoseconds.
    cpu_nanos: u64,
}

/// The CPU time of this thread so far, in nanoseconds; the program has no other. Read from a file,
/// because rustix calls clock_gettime(2) through the vDSO, which programs under valgrind do not have.
///
/// # Errors
///
/// When the system has no such file: it is Linux's.
fn cpu_nanos() -> Result<u64> {
    let text = fs::read_to_string(SCHEDSTAT).map_err(|error| format!("{SCHEDSTAT}: {error}"))?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().map_err(|_| format!("{SCHEDSTAT} has {text:?}").into())
}

/// Has the time on the CPU in front, the kernel's work for the thread included.
const SCHEDSTAT: &str = "/proc/thread-self/schedstat";

impl Cost {
    /// Counts what `work`, which is so many operations, allocates, and takes its time.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    pub(crate) fn of(operations: usize, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let start = cpu_nanos()?;
        let region = Region::new(ALLOCATOR);
        work()?;
        let change = region.change();
        let cpu_nanos = cpu_nanos()? - start;
        let allocations = change.allocations + change.reallocations;
        Ok(Self { operations, allocations, bytes: change.bytes_allocated, cpu_nanos })
    }

    /// One line of JSON.
    pub(crate) fn to_json(&self) -> String {
        let Self { operations, allocations, bytes, cpu_nanos } = self;
        let counts = format!(r#""allocations":{allocations},"bytes":{bytes}"#);
        format!(r#"{{"operations":{operations},{counts},"cpu_nanos":{cpu_nanos}}}"#)
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn new_and_growing_blocks_count_and_freed_ones_do_not() {
        // Other tests allocate at the same time: there can be more.
        let cost = Cost::of(2, || {
            let mut block: Vec<u8> = black_box(Vec::with_capacity(1_000));
            block.reserve_exact(black_box(3_000));
            drop(black_box(block));
            Ok(())
        });
        let cost = cost.unwrap();
        assert!(cost.allocations >= 2 && cost.bytes >= 3_000, "{cost:?}");
    }

    #[test]
    fn the_time_is_the_cpu_s() {
        let before = cpu_nanos().unwrap();
        // The file is behind by a tick of the scheduler at most: some more than that.
        while cpu_nanos().unwrap() < before + 1_000_000 {
            black_box(before);
        }
    }

    #[test]
    fn what_fails_costs_nothing_but_its_error() {
        assert_eq!(Cost::of(1, || Err("no".into())).unwrap_err().to_string(), "no");
    }

    #[test]
    fn costs_are_printed_as_json() {
        let cost = Cost { operations: 200, allocations: 3, bytes: 96, cpu_nanos: 7_000 };
        assert_eq!(
            cost.to_json(),
            r#"{"operations":200,"allocations":3,"bytes":96,"cpu_nanos":7000}"#
        );
    }
}
