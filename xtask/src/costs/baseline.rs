//! The costs that were saved, and whether they compare.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::workload::{Cost, Costs};
use crate::workspace;

/// From the repository's root. It is committed.
pub(super) const FILE: &str = "costs/baseline.json";

/// How far costs may grow, as a factor.
const GROWTH: f64 = 1.1;

/// How far costs may grow besides, so that next to nothing is not more than nothing.
fn tolerance(cost: Cost) -> f64 {
    match cost {
        Cost::Instructions => 2.0,
        // Another machine, or a busy one, takes another time.
        Cost::CpuTime => f64::INFINITY,
        Cost::Allocations => 0.001,
        Cost::SystemCalls => 0.005,
    }
}

/// Whether a cost has grown by more than is tolerated.
pub(super) fn has_grown(cost: Cost, before: f64, now: f64) -> bool {
    now > before * GROWTH + tolerance(cost)
}

/// What decides how many instructions the same source text becomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Toolchain {
    rustc: String,
    target: String,
}

impl Toolchain {
    /// The one that cargo builds with here.
    ///
    /// # Errors
    /// When rustc does not say what it is.
    pub(super) fn current() -> Result<Self> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut rustc = Command::new(rustc);
        let output = rustc.arg("-vV").current_dir(workspace::root()).output();
        let output = output.context("cannot start rustc")?;
        ensure!(output.status.success(), "rustc -vV fails, {}", output.status);
        Self::read(&String::from_utf8_lossy(&output.stdout))
    }

    /// From what `rustc -vV` says.
    fn read(said: &str) -> Result<Self> {
        let rustc = said.lines().next().filter(|line| line.starts_with("rustc "));
        let target = said.lines().find_map(|line| line.strip_prefix("host: "));
        let (Some(rustc), Some(target)) = (rustc, target) else {
            anyhow::bail!("rustc -vV says {said:?}");
        };
        Ok(Self { rustc: rustc.to_owned(), target: target.to_owned() })
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.rustc, self.target)
    }
}

/// The saved costs by workload, and what they were counted with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    #[serde(flatten)]
    toolchain: Option<Toolchain>,
    workloads: BTreeMap<String, Costs>,
}

fn file() -> PathBuf {
    workspace::root().join(FILE)
}

impl Baseline {
    /// The committed one; an empty one if there is none.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a baseline.
    pub(super) fn read() -> Result<Self> {
        Self::read_from(&file())
    }

    fn read_from(file: &Path) -> Result<Self> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.with_context(|| format!("cannot read {FILE}"))?,
        };
        serde_json::from_str(&text).with_context(|| format!("{FILE} is not a baseline"))
    }

    /// Whether it is for this toolchain.
    pub(super) fn is_from(&self, toolchain: &Toolchain) -> bool {
        self.toolchain.as_ref() == Some(toolchain)
    }

    /// Why a run with this toolchain, which is another one, is not compared.
    pub(super) fn why_not_compared(&self, current: &Toolchain) -> String {
        match &self.toolchain {
            None => format!("there is no {FILE}; to write it: cargo xtask costs --save"),
            Some(saved) => format!("{FILE} was saved with {saved}, and this is {current}"),
        }
    }

    /// What a workload cost when it was saved, if that was with this toolchain.
    pub(super) fn of(&self, workload: &str, toolchain: &Toolchain) -> Option<Costs> {
        self.workloads.get(workload).copied().filter(|_| self.is_from(toolchain))
    }

    /// Writes these costs into the file. Those of other workloads stay if the toolchain is the same.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn save<'a>(
        &mut self,
        toolchain: &Toolchain,
        costs: impl Iterator<Item = (&'a str, Costs)>,
    ) -> Result<()> {
        self.update(toolchain, costs);
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file(), text).with_context(|| format!("cannot write {FILE}"))
    }

    fn update<'a>(&mut self, toolchain: &Toolchain, costs: impl Iterator<Item = (&'a str, Costs)>) {
        if !self.is_from(toolchain) {
            *self = Self { toolchain: Some(toolchain.clone()), workloads: BTreeMap::new() };
        }
        self.workloads.extend(costs.map(|(workload, costs)| (workload.to_owned(), rounded(costs))));
    }
}

/// Without the digits that are different in every run.
fn rounded(costs: Costs) -> Costs {
    let to = |digits: f64, value: f64| (value * digits).round() / digits;
    Costs {
        instructions: costs.instructions.map(|value| to(1.0, value)),
        cpu_time: None,
        allocations: to(10_000.0, costs.allocations),
        system_calls: to(10_000.0, costs.system_calls),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: Costs = Costs {
        instructions: Some(1_000.4),
        cpu_time: None,
        allocations: 0.0,
        system_calls: 3.00001,
    };

    fn toolchain(rustc: &str) -> Toolchain {
        Toolchain { rustc: rustc.into(), target: "x86_64-unknown-linux-gnu".into() }
    }

    fn saved(rustc: &str) -> Baseline {
        let mut baseline = Baseline::default();
        baseline.update(&toolchain(rustc), [("w1", COSTS), ("w2", COSTS)].into_iter());
        baseline
    }

    #[test]
    fn more_than_a_tenth_is_growth() {
        assert!(!has_grown(Cost::Instructions, 1_000.0, 1_100.0));
        assert!(has_grown(Cost::Instructions, 1_000.0, 1_103.0));
        assert!(has_grown(Cost::SystemCalls, 3.0, 4.0));
        assert!(has_grown(Cost::SystemCalls, 0.03, 0.04));
        assert!(has_grown(Cost::Allocations, 0.0, 1.0));
        assert!(!has_grown(Cost::Instructions, 1_000.0, 500.0));
        assert!(!has_grown(Cost::CpuTime, 1.0, 1e6));
    }

    #[test]
    fn next_to_nothing_is_no_growth() {
        assert!(!has_grown(Cost::Allocations, 0.0, 0.0009));
        assert!(has_grown(Cost::Allocations, 0.0, 0.0011));
        assert!(!has_grown(Cost::SystemCalls, 0.0, 0.004));
        assert!(!has_grown(Cost::Instructions, 10.0, 12.9));
    }

    #[test]
    fn the_toolchain_is_what_rustc_says() {
        let said = "rustc 1.95.0 (5980761 2026-04-14)\nbinary: rustc\nhost: aarch64-apple-darwin\n";
        let toolchain = Toolchain::read(said).unwrap();
        let expected = "rustc 1.95.0 (5980761 2026-04-14), aarch64-apple-darwin";
        assert_eq!(toolchain.to_string(), expected);
        assert_eq!(Toolchain::read("hello").unwrap_err().to_string(), "rustc -vV says \"hello\"");
    }

    #[test]
    fn only_costs_of_the_same_toolchain_compare() {
        let baseline = saved("rustc 1.95.0");
        assert!(baseline.is_from(&toolchain("rustc 1.95.0")));
        assert!(baseline.of("w1", &toolchain("rustc 1.95.0")).is_some());
        assert_eq!(baseline.of("w6", &toolchain("rustc 1.95.0")), None);

        let newer = toolchain("rustc 1.96.0");
        assert!(!baseline.is_from(&newer));
        assert_eq!(baseline.of("w1", &newer), None);
        assert_eq!(
            baseline.why_not_compared(&newer),
            "costs/baseline.json was saved with rustc 1.95.0, x86_64-unknown-linux-gnu, and this is \
             rustc 1.96.0, x86_64-unknown-linux-gnu"
        );
        assert_eq!(
            Baseline::default().why_not_compared(&newer),
            "there is no costs/baseline.json; to write it: cargo xtask costs --save"
        );
    }

    #[test]
    fn saving_some_keeps_the_others_of_the_same_toolchain_only() {
        let less = Costs { instructions: Some(900.0), ..COSTS };
        let mut baseline = saved("rustc 1.95.0");
        baseline.update(&toolchain("rustc 1.95.0"), [("w1", less)].into_iter());
        let instructions = |baseline: &Baseline| -> Vec<f64> {
            baseline.workloads.values().filter_map(|costs| costs.instructions).collect()
        };
        assert_eq!(instructions(&baseline), [900.0, 1_000.0]);
        baseline.update(&toolchain("rustc 1.96.0"), [("w1", less)].into_iter());
        assert_eq!(instructions(&baseline), [900.0]);
    }

    #[test]
    fn a_saved_baseline_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("baseline.json");
        assert_eq!(Baseline::read_from(&file).unwrap(), Baseline::default());
        let baseline = saved("rustc 1.95.0");
        fs::write(&file, serde_json::to_string(&baseline).unwrap()).unwrap();
        assert_eq!(Baseline::read_from(&file).unwrap(), baseline);
        let timed = Costs { instructions: None, cpu_time: Some(700.0), ..COSTS };
        let mut with_time = saved("rustc 1.95.0");
        with_time.update(&toolchain("rustc 1.95.0"), [("w5", timed)].into_iter());
        fs::write(&file, serde_json::to_string(&with_time).unwrap()).unwrap();
        let read = Baseline::read_from(&file).unwrap().workloads["w5"];
        assert_eq!((read.instructions, read.cpu_time, read.system_calls), (None, None, 3.0));
        fs::write(&file, "{}").unwrap();
        let error = Baseline::read_from(&file).unwrap_err();
        assert_eq!(error.to_string(), "costs/baseline.json is not a baseline");
    }
}
