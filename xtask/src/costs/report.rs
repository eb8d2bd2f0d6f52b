//! The table, and what is wrong with the costs in it.

use super::baseline::has_grown;
use super::count::Details;
use super::workload::{Cost, Costs, Workload};

/// A workload and what it cost.
pub(super) struct Measured {
    pub(super) workload: &'static Workload,
    pub(super) costs: Costs,
    pub(super) details: Details,
    /// What it cost before, if that compares.
    pub(super) baseline: Option<Costs>,
}

impl Measured {
    fn is_marked(&self, cost: Cost) -> bool {
        self.costs.get(cost).is_some_and(|counted| self.workload.is_marked(cost, counted))
    }

    fn details(&self, cost: Cost) -> &str {
        match cost {
            Cost::Instructions | Cost::CpuTime => "",
            Cost::Allocations => &self.details.allocations,
            Cost::SystemCalls => &self.details.system_calls,
        }
    }
}

/// How far apart the instructions of two forms of a workload may be, as a part of one.
const SAME: f64 = 0.1;

/// One line of the table: its cells.
type Line = [String; 9];

const HEADINGS: [&str; 9] =
    ["", "workload", "per operation", "counted", "goal", "ratio", "before", "change", ""];

/// The columns with numbers, which are aligned on the right.
const NUMBERS: std::ops::Range<usize> = 3..8;

/// What stands behind a ratio that is marked, and what it means.
const MARK: &str = "!";
const LEGEND: &str = "! more than twice the goal";

/// All costs, each beside its goal and what it was before.
pub(super) fn table(measured: &[Measured]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    for measured in measured {
        let counts =
            Cost::ALL.into_iter().filter_map(|cost| Some((cost, measured.costs.get(cost)?)));
        for (place, (cost, counted)) in counts.enumerate() {
            lines.push(line(measured, cost, counted, place == 0));
        }
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(width);
    let mut table = String::new();
    for line in &lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - cell.len());
            let parts = if NUMBERS.contains(&column) { [&padding, cell] } else { [cell, &padding] };
            text.extend(parts.map(String::as_str));
            text.push_str("  ");
        }
        table.push_str(text.trim_end());
        table.push('\n');
    }
    if measured.iter().any(|measured| Cost::ALL.into_iter().any(|cost| measured.is_marked(cost))) {
        table.push_str(LEGEND);
        table.push('\n');
    }
    table
}

fn line(measured: &Measured, cost: Cost, counted: f64, is_first: bool) -> Line {
    let Measured { workload, baseline, .. } = measured;
    let goal = workload.goal(cost);
    let before = baseline.and_then(|before| before.get(cost));
    // As wide as the mark, so that the numbers stand below each other.
    let mark = if measured.is_marked(cost) { MARK } else { " " };
    let once = |text: &str| if is_first { text.to_owned() } else { String::new() };
    [
        once(workload.name),
        once(workload.title),
        cost.name().to_owned(),
        number(cost, counted),
        goal.map(goal_number).unwrap_or_default(),
        goal.map(|goal| ratio(counted, goal) + mark).unwrap_or_default(),
        before.map(|before| number(cost, before)).unwrap_or_default(),
        before.map(|before| change(before, counted)).unwrap_or_default(),
        measured.details(cost).to_owned(),
    ]
}

/// Instructions and microseconds as whole numbers, the others to a hundredth of the finest goal.
fn number(cost: Cost, value: f64) -> String {
    match cost {
        Cost::Instructions | Cost::CpuTime => with_separators(&format!("{value:.0}")),
        Cost::Allocations | Cost::SystemCalls => format!("{value:.4}"),
    }
}

/// A goal as it was set.
fn goal_number(goal: f64) -> String {
    with_separators(&goal.to_string())
}

/// With a comma between each three digits in front of the decimal point.
fn with_separators(number: &str) -> String {
    let (whole, fraction) = number.split_at(number.find('.').unwrap_or(number.len()));
    let (sign, mut digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut groups = Vec::new();
    while digits.len() > 3 {
        let (front, group) = digits.split_at(digits.len() - 3);
        groups.push(group);
        digits = front;
    }
    groups.push(digits);
    groups.reverse();
    format!("{sign}{}{fraction}", groups.join(","))
}

fn ratio(counted: f64, goal: f64) -> String {
    if goal == 0.0 { "-".to_owned() } else { format!("{:.2}", counted / goal) }
}

fn change(before: f64, now: f64) -> String {
    if before == 0.0 {
        return "-".to_owned();
    }
    format!("{:+.1} %", (now / before - 1.0) * 100.0)
}

/// The costs that are over their goals, and should not be.
pub(super) fn over_the_goal(measured: &[Measured]) -> Vec<String> {
    let mut failures = Vec::new();
    for Measured { workload, costs, .. } in measured {
        for cost in Cost::ALL {
            let Some(counted) =
                costs.get(cost).filter(|counted| workload.is_over_goal(cost, *counted))
            else {
                continue;
            };
            failures.push(format!(
                "{}: {} {}, over the goal of {}",
                workload.name,
                number(cost, counted),
                cost.name(),
                workload.goal(cost).map(goal_number).unwrap_or_default()
            ));
        }
    }
    failures
}

/// The costs that have grown, and the workloads that were never saved. The baseline compares.
pub(super) fn over_the_baseline(measured: &[Measured]) -> Vec<String> {
    let mut failures = Vec::new();
    for Measured { workload, costs, baseline, .. } in measured {
        let name = workload.name;
        let Some(baseline) = baseline else {
            failures.push(format!("{name}: not in the baseline; cargo xtask costs --save {name}"));
            continue;
        };
        for cost in Cost::ALL {
            let (Some(before), Some(now)) = (baseline.get(cost), costs.get(cost)) else {
                continue;
            };
            if has_grown(cost, before, now) {
                failures.push(format!(
                    "{name}: {} {}, grown from {}",
                    number(cost, now),
                    cost.name(),
                    number(cost, before)
                ));
            }
        }
    }
    failures
}

/// The forms of a workload whose instructions are not those of the workload itself, by more than a
/// tenth.
pub(super) fn unlike_their_family(measured: &[Measured]) -> Vec<String> {
    let mut failures = Vec::new();
    for Measured { workload, costs, .. } in measured {
        let family = workload
            .variant_of
            .and_then(|name| measured.iter().find(|measured| measured.workload.name == name));
        let (Some(family), Some(now)) = (family, costs.instructions) else {
            continue;
        };
        let Some(there) = family.costs.instructions else {
            continue;
        };
        if (now / there - 1.0).abs() > SAME {
            failures.push(format!(
                "{}: {} instructions, and {} has {}: more than a tenth apart",
                workload.name,
                number(Cost::Instructions, now),
                family.workload.name,
                number(Cost::Instructions, there)
            ));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &str, now: [f64; 3], before: Option<[f64; 3]>) -> Measured {
        let costs = |[instructions, allocations, system_calls]: [f64; 3]| Costs {
            instructions: Some(instructions),
            cpu_time: None,
            allocations,
            system_calls,
        };
        Measured {
            workload: Workload::called(name).unwrap(),
            costs: costs(now),
            details: Details { allocations: String::new(), system_calls: "poll 1.00".into() },
            baseline: before.map(costs),
        }
    }

    #[test]
    fn the_table_has_goals_and_baseline_beside_the_counts() {
        let measured = [
            measured("w1", [1_234.4, 0.0, 3.0], Some([1_000.0, 0.0, 4.0])),
            measured("w2b", [99.0, 0.01, 0.03], None),
            measured("w3c", [390.0, 0.00021, 0.0123], None),
        ];
        let expected = "
     workload                            per operation  counted   goal  ratio  before   change
w1   select by key, one after the other  instructions     1,234  1,000  1.23    1,000  +23.4 %
                                         allocations     0.0000      0     -   0.0000        -
                                         system calls    3.0000      3  1.00   4.0000  -25.0 %  poll 1.00
w2b  the same, a batch of 100            instructions        99
                                         allocations     0.0100
                                         system calls    0.0300                                 poll 1.00
w3c  the same, collected as owned rows   instructions       390    400  0.97
                                         allocations     0.0002  0.001  0.21
                                         system calls    0.0123                                 poll 1.00
";
        assert_eq!(table(&measured), expected.trim_start_matches('\n'));
    }

    #[test]
    fn instructions_over_twice_the_goal_are_marked() {
        let expected = "
    workload                               per operation  counted  goal  ratio  before  change
w2  the same, 100 in a pipeline, one Sync  instructions     1,230   600  2.05!
                                           allocations     0.0000     0     -
                                           system calls    0.0300  0.03  1.00                   poll 1.00
! more than twice the goal
";
        let measured = [measured("w2", [1_230.0, 0.0, 0.03], None)];
        assert_eq!(table(&measured), expected.trim_start_matches('\n'));
    }

    #[test]
    fn what_is_timed_has_its_time_in_place_of_instructions() {
        let mut w5 = measured("w5", [0.0, 101.0, 20.5], None);
        (w5.costs.instructions, w5.costs.cpu_time) = (None, Some(1_612.3));
        w5.details.system_calls.clear();
        let expected = "
    workload                                 per operation      counted  goal  ratio  before  change
w5  connect, SCRAM-SHA-256, select 1, close  CPU microseconds     1,612   800  2.02!
                                             allocations       101.0000
                                             system calls       20.5000
! more than twice the goal
";
        assert_eq!(table(&[w5]), expected.trim_start_matches('\n'));
    }

    #[test]
    fn forms_of_a_workload_that_are_more_than_a_tenth_apart_fail() {
        let two = |other| {
            [measured("w6", [1_000.0, 0.0, 2.0], None), measured("w6k", [other, 0.0, 2.0], None)]
        };
        assert_eq!(unlike_their_family(&two(1_099.0)), [""; 0]);
        assert_eq!(unlike_their_family(&two(901.0)), [""; 0]);
        assert_eq!(
            unlike_their_family(&two(1_101.0)),
            ["w6k: 1,101 instructions, and w6 has 1,000: more than a tenth apart"]
        );
        assert_eq!(unlike_their_family(&two(899.0)).len(), 1);
        assert_eq!(unlike_their_family(&two(1_101.0)[1..]), [""; 0]);
    }

    #[test]
    fn numbers_are_grouped_in_threes() {
        for (number, expected) in [
            ("1", "1"),
            ("100", "100"),
            ("1000", "1,000"),
            ("1234567", "1,234,567"),
            ("-123", "-123"),
            ("-1234", "-1,234"),
            ("0.0012", "0.0012"),
            ("1234.5", "1,234.5"),
        ] {
            assert_eq!(with_separators(number), expected);
        }
    }

    #[test]
    fn allocations_and_system_calls_over_their_goals_fail() {
        let fine = measured("w1", [2_001.0, 0.001, 3.06], None);
        assert_eq!(over_the_goal(&[fine]), [""; 0]);
        let over = measured("w1", [2_001.0, 1.0, 4.0], None);
        assert_eq!(
            over_the_goal(&[over]),
            [
                "w1: 1.0000 allocations, over the goal of 0",
                "w1: 4.0000 system calls, over the goal of 3",
            ]
        );
    }

    #[test]
    fn a_count_that_has_grown_fails() {
        let before = Some([1_000.0, 0.0, 3.0]);
        let fine = measured("w1", [1_050.0, 0.0005, 3.0], before);
        assert_eq!(over_the_baseline(&[fine]), [""; 0]);
        let grown = measured("w1", [1_200.0, 1.0, 4.0], before);
        assert_eq!(
            over_the_baseline(&[grown]),
            [
                "w1: 1,200 instructions, grown from 1,000",
                "w1: 1.0000 allocations, grown from 0.0000",
                "w1: 4.0000 system calls, grown from 3.0000",
            ]
        );
    }

    #[test]
    fn a_workload_without_a_baseline_fails_and_the_message_says_what_to_do() {
        assert_eq!(
            over_the_baseline(&[measured("w6", [900.0, 0.0, 2.0], None)]),
            ["w6: not in the baseline; cargo xtask costs --save w6"]
        );
    }
}
