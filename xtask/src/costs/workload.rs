//! The workloads, and what they may cost.

use serde::{Deserialize, Serialize};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Those of the client's process outside the kernel.
    Instructions,
    /// The time that the CPU works for the client's process, in the kernel too, in microseconds.
    CpuTime,
    /// Requests to the allocator for a new block or for another size of one.
    Allocations,
    /// Of the client's process.
    SystemCalls,
}

impl Cost {
    pub(super) const ALL: [Self; 4] =
        [Self::Instructions, Self::CpuTime, Self::Allocations, Self::SystemCalls];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::CpuTime => "CPU microseconds",
            Self::Allocations => "allocations",
            Self::SystemCalls => "system calls",
        }
    }
}

/// What an operation costs. Each workload has its instructions counted, or else its time taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Costs {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instructions: Option<f64>,
    /// The machine's as much as the driver's: never saved, and compared with nothing.
    #[serde(skip)]
    pub(super) cpu_time: Option<f64>,
    pub(super) allocations: f64,
    pub(super) system_calls: f64,
}

impl Costs {
    pub(super) fn get(&self, cost: Cost) -> Option<f64> {
        match cost {
            Cost::Instructions => self.instructions,
            Cost::CpuTime => self.cpu_time,
            Cost::Allocations => Some(self.allocations),
            Cost::SystemCalls => Some(self.system_calls),
        }
    }
}

/// From this multiple of their goal on, instructions and time are marked in the table. Instructions
/// fail by growing only, and time never does.
const MARKED: f64 = 2.0;

/// A goal of no allocations stands for less than one in a thousand operations, because buffers grow
/// at first.
const NEXT_TO_NO_ALLOCATIONS: f64 = 0.001;

/// System calls may be a little over their goal, as a factor: now and then one is interrupted.
const INTERRUPTED: f64 = 1.02;

/// One kind of work, and what an operation of it should cost.
#[derive(Debug)]
pub(super) struct Workload {
    /// The name by which the command and the workloads' program know it.
    pub(super) name: &'static str,
    /// What it is, and what one operation of it is.
    pub(super) title: &'static str,
    /// The numbers of operations of the shorter and the longer run.
    pub(super) runs: [u32; 2],
    /// The workload that this one is another form of. Whoever asks for one gets both, and their
    /// instructions have to be about the same.
    pub(super) variant_of: Option<&'static str>,
    instructions: Option<f64>,
    cpu_time: Option<f64>,
    allocations: Option<f64>,
    system_calls: Option<f64>,
}

/// What a workload is that says nothing else: a form of no other, without goals.
const PLAIN: Workload = Workload {
    name: "",
    title: "",
    runs: [0, 0],
    variant_of: None,
    instructions: None,
    cpu_time: None,
    allocations: None,
    system_calls: None,
};

impl Workload {
    pub(super) fn called(name: &str) -> Option<&'static Self> {
        WORKLOADS.iter().find(|workload| workload.name == name)
    }

    /// The name that it has in common with its other forms.
    pub(super) fn family(&self) -> &'static str {
        self.variant_of.unwrap_or(self.name)
    }

    /// Whether its time is taken instead of its instructions: that of work for which the CPU has
    /// instructions of its own, such as SHA-256, which valgrind does not know.
    pub(super) fn is_timed(&self) -> bool {
        self.cpu_time.is_some()
    }

    /// What an operation should cost, if that was said.
    pub(super) fn goal(&self, cost: Cost) -> Option<f64> {
        match cost {
            Cost::Instructions => self.instructions,
            Cost::CpuTime => self.cpu_time,
            Cost::Allocations => self.allocations,
            Cost::SystemCalls => self.system_calls,
        }
    }

    /// Whether so much is far over the goal. A design that cannot come nearer is to be found early.
    pub(super) fn is_marked(&self, cost: Cost, counted: f64) -> bool {
        let goal = self.goal(cost).filter(|_| matches!(cost, Cost::Instructions | Cost::CpuTime));
        goal.is_some_and(|goal| counted > goal * MARKED)
    }

    /// Whether so much fails, whatever an operation has cost before.
    pub(super) fn is_over_goal(&self, cost: Cost, counted: f64) -> bool {
        self.goal(cost).is_some_and(|goal| match cost {
            Cost::Instructions | Cost::CpuTime => false,
            Cost::Allocations => counted > goal.max(NEXT_TO_NO_ALLOCATIONS),
            Cost::SystemCalls => counted > goal * INTERRUPTED,
        })
    }
}

/// The goals are those for which the driver was designed. A large result takes as many system calls
/// as it has pieces.
pub(super) const WORKLOADS: [Workload; 12] = [
    Workload {
        name: "w1",
        title: "select by key, one after the other",
        runs: [200, 1_200],
        instructions: Some(1_000.0),
        allocations: Some(0.0),
        system_calls: Some(3.0),
        ..PLAIN
    },
    Workload {
        name: "w2",
        title: "the same, 100 in a pipeline, one Sync",
        runs: [2_000, 22_000],
        instructions: Some(600.0),
        allocations: Some(0.0),
        system_calls: Some(0.03),
        ..PLAIN
    },
    Workload { name: "w2b", title: "the same, a batch of 100", runs: [2_000, 22_000], ..PLAIN },
    Workload {
        name: "w2q",
        title: "the same, 100 in flight, a Sync each",
        runs: [2_000, 22_000],
        instructions: Some(800.0),
        allocations: Some(0.0),
        system_calls: Some(0.2),
        ..PLAIN
    },
    Workload {
        name: "w3s",
        title: "rows of 7 columns, streamed",
        runs: [10_000, 110_000],
        instructions: Some(300.0),
        allocations: Some(0.0),
        ..PLAIN
    },
    Workload {
        name: "w3c",
        title: "the same, collected as owned rows",
        runs: [10_000, 110_000],
        instructions: Some(400.0),
        allocations: Some(0.001),
        ..PLAIN
    },
    Workload {
        name: "w4in",
        title: "typed rows of 3 columns, binary COPY in",
        runs: [10_000, 110_000],
        instructions: Some(120.0),
        allocations: Some(0.0),
        ..PLAIN
    },
    Workload {
        name: "w4out",
        title: "typed rows of 3 columns, binary COPY out",
        runs: [10_000, 110_000],
        instructions: Some(200.0),
        allocations: Some(0.0),
        ..PLAIN
    },
    Workload {
        name: "w5",
        title: "connect, SCRAM-SHA-256, select 1, close",
        runs: [100, 600],
        cpu_time: Some(800.0),
        ..PLAIN
    },
    Workload {
        name: "w5p",
        title: "the same again from the same pool",
        runs: [100, 600],
        variant_of: Some("w5"),
        cpu_time: Some(200.0),
        ..PLAIN
    },
    Workload {
        name: "w6",
        title: "select by key, 64 connections, one loop",
        runs: [1_000, 11_000],
        instructions: Some(1_000.0),
        allocations: Some(0.0),
        system_calls: Some(2.1),
        ..PLAIN
    },
    Workload {
        name: "w6k",
        title: "the same, 1,000 connections",
        runs: [2_000, 22_000],
        variant_of: Some("w6"),
        instructions: Some(1_000.0),
        allocations: Some(0.0),
        system_calls: Some(2.1),
        ..PLAIN
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_found_by_name() {
        assert_eq!(Workload::called("w2q").unwrap().title, "the same, 100 in flight, a Sync each");
        assert!(Workload::called("w9").is_none());
    }

    #[test]
    fn the_longer_run_is_longer_and_pipelines_are_full() {
        for workload in &WORKLOADS {
            let [short, long] = workload.runs;
            assert!(short < long, "{}", workload.name);
            assert!(short % 100 == 0 && long % 100 == 0, "{}", workload.name);
        }
    }

    #[test]
    fn forms_of_a_workload_stand_together_behind_it() {
        for (place, workload) in WORKLOADS.iter().enumerate() {
            if workload.variant_of.is_some() {
                let before = &WORKLOADS[place - 1];
                assert_eq!(before.family(), workload.family(), "{}", workload.name);
                assert!(Workload::called(workload.family()).is_some(), "{}", workload.name);
            }
        }
    }

    #[test]
    fn time_over_the_goal_is_marked_and_does_not_fail() {
        let w5 = Workload::called("w5").unwrap();
        assert!(w5.is_timed() && !Workload::called("w1").unwrap().is_timed());
        assert!(w5.is_marked(Cost::CpuTime, 1_601.0) && !w5.is_marked(Cost::CpuTime, 1_600.0));
        assert!(!w5.is_over_goal(Cost::CpuTime, 1e6));
    }

    #[test]
    fn instructions_over_twice_the_goal_are_marked_and_do_not_fail() {
        let w1 = Workload::called("w1").unwrap();
        assert!(!w1.is_marked(Cost::Instructions, 2_000.0));
        assert!(w1.is_marked(Cost::Instructions, 2_001.0));
        assert!(!w1.is_over_goal(Cost::Instructions, 2_001.0));
        assert!(!w1.is_marked(Cost::SystemCalls, 7.0));
    }

    #[test]
    fn allocations_and_system_calls_over_the_goal_fail() {
        let fails =
            |name, cost, counted| Workload::called(name).unwrap().is_over_goal(cost, counted);
        assert!(!fails("w1", Cost::Allocations, 0.001));
        assert!(fails("w1", Cost::Allocations, 0.002));
        assert!(!fails("w1", Cost::SystemCalls, 3.06));
        assert!(fails("w1", Cost::SystemCalls, 3.07));
        assert!(!fails("w3c", Cost::Allocations, 0.001));
        assert!(fails("w3c", Cost::Allocations, 0.002));
    }

    #[test]
    fn where_no_goal_was_set_nothing_is_over_it() {
        let w2b = Workload::called("w2b").unwrap();
        for cost in Cost::ALL {
            assert!(!w2b.is_marked(cost, 1e6) && !w2b.is_over_goal(cost, 1e6), "{cost:?}");
        }
        assert!(!Workload::called("w3s").unwrap().is_over_goal(Cost::SystemCalls, 1e6));
    }
}
