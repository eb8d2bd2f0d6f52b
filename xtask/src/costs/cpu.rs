//! One CPU for client, server and tools together.
//!
//! With more of them the server goes on answering while the client looks, and the scheduler decides
//! how much it finds: the counts of two runs differ. (Where one CPU is not enough for that, the
//! workloads come late for their answers, or make the server slow where they are to wait.)

use anyhow::Result;

/// Leaves one CPU to this thread, and to the processes that it starts from here on.
///
/// # Errors
/// When the system refuses, or knows no such thing: callgrind and strace need Linux anyway.
#[cfg(target_os = "linux")]
pub(super) fn only_one() -> Result<()> {
    use anyhow::Context;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let allowed = sched_getaffinity(None).context("cannot ask for the CPUs of this process")?;
    let cpu = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).context("no CPU at all")?;
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).context("cannot restrict this process to one CPU")
}

/// As above.
#[cfg(not(target_os = "linux"))]
pub(super) fn only_one() -> Result<()> {
    anyhow::bail!("costs are counted with callgrind and strace, which needs Linux")
}
