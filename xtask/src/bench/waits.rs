//! What threads of another process wait in, seen by strace.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::costs::strace::{Calls, calls, explained};

/// Where an event loop waits.
const EPOLL: [&str; 3] = ["epoll_wait", "epoll_pwait", "epoll_pwait2"];

/// Other calls that wait. A read or a write is none on a descriptor that is non-blocking.
const WAITS: [&str; 20] = [
    "clock_nanosleep",
    "flock",
    "fsync",
    "futex",
    "futex_wait",
    "futex_waitv",
    "io_getevents",
    "io_uring_enter",
    "msgrcv",
    "nanosleep",
    "pause",
    "poll",
    "ppoll",
    "pselect6",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "select",
    "semtimedop",
    "wait4",
    "waitid",
];

/// Strace, attached to threads.
pub(super) struct Watch {
    strace: Child,
    stderr: BufReader<ChildStderr>,
    table: NamedTempFile,
}

impl Watch {
    /// Attaches it to threads of a process that is not ours alone; returns when it is.
    ///
    /// # Errors
    /// When strace is not there or may not.
    pub(super) fn start(threads: &[u32]) -> Result<Self> {
        let table = NamedTempFile::new()?;
        let mut command = Command::new("strace");
        command.args(["-c", "-o"]).arg(table.path());
        for thread in threads {
            command.args(["-p", &thread.to_string()]);
        }
        let mut strace = command.stderr(Stdio::piped()).spawn().context("cannot start strace")?;
        let stderr = strace.stderr.take().context("strace has no stderr")?;
        let mut watch = Self { strace, stderr: BufReader::new(stderr), table };
        for _ in threads {
            let mut line = String::new();
            watch.stderr.read_line(&mut line)?;
            if !line.contains(" attached") {
                watch.stderr.read_line(&mut line)?;
                return Err(explained(anyhow::anyhow!("{}", line.trim())));
            }
        }
        Ok(watch)
    }

    /// Detaches it; which calls there were, and how many.
    ///
    /// # Errors
    /// When what strace says is not understood.
    pub(super) fn end(mut self) -> Result<Waits> {
        kill_process(Pid::from_child(&self.strace), Signal::INT)?;
        self.strace.wait()?;
        let text = std::fs::read_to_string(self.table.path())?;
        if text.is_empty() {
            bail!("strace has seen nothing");
        }
        Waits::new(calls(&text)?)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Threads that are traced go on when strace ends.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// The system calls of threads that serve.
#[derive(Debug)]
pub(super) struct Waits {
    calls: Calls,
}

impl Waits {
    fn new(calls: Calls) -> Result<Self> {
        let count = |name: &str| calls.get(name).copied().unwrap_or_default();
        let waits: u64 = EPOLL.iter().map(|name| count(name)).sum();
        ensure!(waits > 0 && count("recvfrom") > 0, "nothing was served meanwhile: {calls:?}");
        Ok(Self { calls })
    }

    /// All calls, the most frequent first.
    pub(super) fn table(&self) -> String {
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
        let lines = calls.iter().map(|(name, count)| format!("{count:>9} {name}\n"));
        format!("system calls of the workers under load:\n{}", lines.collect::<String>())
    }

    /// The calls that should not be there.
    pub(super) fn failures(&self) -> Vec<String> {
        let waits = self.calls.iter().filter(|(name, _)| WAITS.contains(&name.as_str()));
        waits.map(|(name, count)| format!("workers waited in {name} ({count} times)")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(calls: &[(&str, u64)]) -> Result<Waits> {
        Waits::new(calls.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())
    }

    #[test]
    fn only_epoll_may_wait() {
        let found = waits(&[("epoll_pwait", 7), ("recvfrom", 9)]).unwrap();
        assert_eq!(found.failures(), [""; 0]);
        let expected =
            "system calls of the workers under load:\n        9 recvfrom\n        7 epoll_pwait\n";
        assert_eq!(found.table(), expected);
        let found =
            waits(&[("epoll_wait", 7), ("futex", 2), ("poll", 1), ("recvfrom", 9)]).unwrap();
        let expected = ["workers waited in futex (2 times)", "workers waited in poll (1 times)"];
        assert_eq!(found.failures(), expected);
    }

    #[test]
    fn without_any_work_nothing_is_proved() {
        let error = waits(&[("epoll_pwait", 1)]).unwrap_err().to_string();
        assert!(error.starts_with("nothing was served meanwhile"), "{error}");
        assert!(waits(&[("recvfrom", 1)]).is_err());
    }
}
