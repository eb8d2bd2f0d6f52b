//! The programs that counting and watching take.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Sees to it that the programs are on PATH. On Debian, whose packages have the same names, root
/// installs those that are missing.
///
/// # Errors
/// When one is missing and not installed; the error says how to.
pub(crate) fn provide(tools: &[&'static str]) -> Result<()> {
    let missing = absent(tools);
    if missing.is_empty() {
        return Ok(());
    }
    let tried = if may_install() { install(&missing) } else { Ok(()) };
    let missing = absent(tools);
    ensure!(missing.is_empty(), how_to_install(&missing, tried.err()));
    Ok(())
}

/// Those that are not on PATH.
fn absent(tools: &[&'static str]) -> Vec<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &&str| env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    tools.iter().copied().filter(|tool| !is_there(tool)).collect()
}

/// What to do about programs that are missing, and why that was not done here.
fn how_to_install(missing: &[&str], failure: Option<anyhow::Error>) -> String {
    let failure = failure.map(|failure| format!(": {failure:#}")).unwrap_or_default();
    format!(
        "this cannot be done without {}, not found on PATH; install with the system's package \
         manager (Debian: apt-get install {}){failure}",
        missing.join(" and "),
        missing.join(" ")
    )
}

fn install(missing: &[&str]) -> Result<()> {
    eprintln!("installing {} with apt-get ...", missing.join(" and "));
    apt_get(&["update"])?;
    apt_get(&[&["install", "--no-install-recommends"], missing].concat())
}

/// Only root may, and only Debian's packages have the names that we know.
fn may_install() -> bool {
    let is_root = || {
        let id = Command::new("id").arg("-u").output();
        id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
    };
    Path::new("/etc/debian_version").exists() && is_root()
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(arguments);
    let output = command.output().context("apt-get cannot be run")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("apt-get {} fails, {}: {}", arguments.join(" "), output.status, said.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_what_to_install() {
        const TOOLS: [&str; 2] = ["valgrind", "strace"];
        assert_eq!(
            how_to_install(&TOOLS, None),
            "this cannot be done without valgrind and strace, not found on PATH; install with \
             the system's package manager (Debian: apt-get install valgrind strace)"
        );
        let failed = how_to_install(&TOOLS[..1], Some(anyhow::anyhow!("no network")));
        assert!(failed.ends_with("(Debian: apt-get install valgrind): no network"), "{failed}");
    }
}
