//! System calls, counted by strace.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::program::Program;
use super::workload::Workload;

/// How often each system call was made, by name.
pub(crate) type Calls = BTreeMap<String, u64>;

/// What to do where strace is not allowed to do its work.
const FORBIDDEN: &str = "strace may not trace a process here; in a container, allow ptrace \
                         (docker run --cap-add=SYS_PTRACE), and see /proc/sys/kernel/yama/ptrace_scope";

/// The system calls of one run of the program, from its start to its end.
///
/// # Errors
/// When strace or the program fails, or the table is not understood.
pub(super) fn run(program: &Program, workload: &Workload, operations: u32) -> Result<Calls> {
    let table = program.folder().join(format!("strace.{}", workload.name));
    let options = ["-f".as_ref(), "-c".as_ref(), "-o".as_ref(), table.as_os_str(), "--".as_ref()];
    program.run_under("strace", &options, workload, operations).map_err(explained)?;
    let text =
        fs::read_to_string(&table).with_context(|| format!("cannot read {}", table.display()))?;
    calls(&text).with_context(|| format!("{}", table.display()))
}

/// An error that comes from a sandbox says so.
pub(crate) fn explained(error: anyhow::Error) -> anyhow::Error {
    let said = format!("{error:#}");
    let forbidden = said.contains("ptrace") || said.contains("PTRACE");
    if forbidden { error.context(FORBIDDEN) } else { error }
}

/// Reads the table of `strace -c`: a line for each system call, between two rules. The numbers are
/// right-aligned with the headings, and the column `errors` is blank where there were none.
///
/// # Errors
/// When the table is not understood.
pub(crate) fn calls(table: &str) -> Result<Calls> {
    let mut lines = table.lines();
    let heading = lines.next().context("strace wrote no table")?;
    let (before, _) = heading.split_once("calls ").context("the table has no column `calls`")?;
    let end = before.len() + "calls".len();
    let is_rule = |line: &&str| line.starts_with("---");
    lines.next().filter(is_rule).context("the table has no rule below its headings")?;
    let mut calls = Calls::new();
    for line in lines.take_while(|line| !is_rule(line)) {
        let count = line.get(..end).and_then(|text| text.split_whitespace().last());
        let count = count.and_then(|count| count.parse().ok());
        let name = line.get(end..).and_then(|text| text.split_whitespace().last());
        let (Some(count), Some(name)) = (count, name) else {
            anyhow::bail!("the table has the line {line:?}");
        };
        calls.insert(name.to_owned(), count);
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 50.36    0.099643          37      2664       161 recvfrom
 48.04    0.095038          37      2504           sendto
  1.41    0.002782          17       162           poll
  0.00    0.000000           0         1         1 access
------ ----------- ----------- --------- --------- ------------------
100.00    0.197463          36      5331       162 total
";

    #[test]
    fn the_calls_of_a_table_are_read() {
        let expected = [("access", 1), ("poll", 162), ("recvfrom", 2_664), ("sendto", 2_504)];
        let expected: Calls = expected.map(|(name, count)| (name.to_owned(), count)).into();
        assert_eq!(calls(TABLE).unwrap(), expected);
    }

    #[test]
    fn another_table_is_an_error() {
        let error = |text: &str| format!("{:#}", calls(text).unwrap_err());
        assert_eq!(error(""), "strace wrote no table");
        assert_eq!(error("System call usage summary"), "the table has no column `calls`");
        let no_rule = TABLE.replacen("------", "", 1);
        assert_eq!(error(&no_rule), "the table has no rule below its headings");
        let cut = TABLE.replace("     162           poll", "");
        assert!(error(&cut).starts_with("the table has the line"), "{}", error(&cut));
    }

    #[test]
    fn a_sandbox_is_named() {
        let said = "strace: ptrace(PTRACE_TRACEME, ...): Operation not permitted";
        assert_eq!(explained(anyhow::anyhow!(said)).to_string(), FORBIDDEN);
        assert_eq!(explained(anyhow::anyhow!("no server")).to_string(), "no server");
    }
}
