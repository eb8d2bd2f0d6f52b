//! What a piece of work allocates.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::Result;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a number of operations took from the allocator.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    operations: usize,
    /// Requests for a new block, or for another size of one.
    allocations: usize,
    /// How many bytes were asked for.
    bytes: usize,
}

impl Cost {
    /// Counts what `work`, which is so many operations, allocates.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    pub(crate) fn of(operations: usize, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let region = Region::new(ALLOCATOR);
        work()?;
        let change = region.change();
        let allocations = change.allocations + change.reallocations;
        Ok(Self { operations, allocations, bytes: change.bytes_allocated })
    }

    /// One line of JSON.
    pub(crate) fn to_json(&self) -> String {
        let Self { operations, allocations, bytes } = self;
        format!(r#"{{"operations":{operations},"allocations":{allocations},"bytes":{bytes}}}"#)
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
    fn what_fails_costs_nothing_but_its_error() {
        assert_eq!(Cost::of(1, || Err("no".into())).unwrap_err().to_string(), "no");
    }

    #[test]
    fn costs_are_printed_as_json() {
        let cost = Cost { operations: 200, allocations: 3, bytes: 96 };
        assert_eq!(cost.to_json(), r#"{"operations":200,"allocations":3,"bytes":96}"#);
    }
}
