//! What the system says of this process, and allows it.

use std::fs;

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::Result;

/// Descriptors for everything but the connections.
const OTHERS: u64 = 64;

/// Raises the limit of open files to what this process may have.
///
/// # Errors
///
/// When that is too few for so many connections; the text says what to do. What the system refuses.
pub(crate) fn allow_connections(connections: usize) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    let needed = u64::try_from(connections)? + OTHERS;
    check_limit(limit.maximum, needed)?;
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// `maximum` is `None` where there is no limit.
fn check_limit(maximum: Option<u64>, needed: u64) -> Result<()> {
    match maximum {
        Some(maximum) if maximum < needed => Err(format!(
            "{needed} open files are needed for this, and the hard limit is {maximum}: raise it, \
             for example with `ulimit -Hn {needed}` as root, `nofile` in \
             /etc/security/limits.conf, or `docker run --ulimit nofile={needed}`"
        )
        .into()),
        _ => Ok(()),
    }
}

/// How much memory this process has (`VmRSS`), in KiB.
///
/// # Errors
///
/// When /proc does not say it.
pub(crate) fn memory() -> Result<u64> {
    status("VmRSS:")
}

/// How much memory this process has had at most (`VmHWM`), in KiB.
///
/// # Errors
///
/// When /proc does not say it.
pub(crate) fn peak_memory() -> Result<u64> {
    status("VmHWM:")
}

fn status(field: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let line = line.ok_or_else(|| format!("/proc/self/status has no {field}"))?.trim();
    let number =
        line.strip_suffix(" kB").ok_or_else(|| format!("{field} {line:?} is not in kB"))?;
    Ok(number.parse()?)
}

/// KiB as MiB, for people.
pub(crate) fn mib(kib: u64) -> String {
    format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
}

/// With a comma between each three digits.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_says_what_is_needed() {
        assert!(check_limit(None, 10_064).is_ok() && check_limit(Some(10_064), 10_064).is_ok());
        let error = check_limit(Some(4_096), 10_064).unwrap_err().to_string();
        assert!(
            error.starts_with("10064 open files are needed for this, and the hard limit is 4096")
        );
    }

    #[test]
    fn a_process_has_memory() {
        let (now, most) = (memory().unwrap(), peak_memory().unwrap());
        assert!(now > 100 && most >= now, "{now} {most}");
        assert!(status("VmNothing:").is_err());
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(
            (mib(0), mib(1_535), mib(40_960)),
            ("0.0 MiB".into(), "1.4 MiB".into(), "40.0 MiB".into())
        );
        assert_eq!(
            (grouped(0), grouped(999), grouped(200_000)),
            ("0".into(), "999".into(), "200,000".into())
        );
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
