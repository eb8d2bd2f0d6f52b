//! Where the workspace is, and how its cargo is called.

use std::ffi::OsString;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use cargo_metadata::Message;

/// The root of the repository: the folder above xtask.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The folder for what is built and never committed.
pub(crate) fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target")))
}

/// The cargo that runs us, in the repository's root. Its output goes where ours goes, so that
/// its progress is seen.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Builds the program of a package as a user's release build would be, and says where it is.
///
/// # Errors
/// When it does not compile.
pub(crate) fn build_release(package: &str) -> Result<PathBuf> {
    executable(&["--release", "--package", package])
}

/// Builds a program with `cargo build` and these arguments, and says where it is.
///
/// # Errors
/// When it does not compile.
pub(crate) fn executable(arguments: &[&str]) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.arg("build").args(arguments);
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut building = cargo.spawn().context("cannot start cargo")?;
    let stdout = building.stdout.take().context("cargo has no stdout")?;
    let mut executable = None;
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message? {
            executable = artifact.executable.or(executable);
        }
    }
    let what = arguments.join(" ");
    ensure!(building.wait()?.success(), "cargo build {what} fails");
    Ok(executable.with_context(|| format!("cargo build {what} has made no program"))?.into())
}

/// Runs a command to its end; its exit status is the answer, good or bad.
///
/// # Errors
/// When the program cannot be started at all.
pub(crate) fn run(command: &mut Command) -> Result<ExitCode> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", Path::new(command.get_program()).display()))?;
    Ok(exit_code(status))
}

/// The status that a shell would give: the program's own, or 128 and the signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;

    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_root_is_where_the_workspace_is() {
        assert!(root().join("tests").is_dir() && root().join("src/lib.rs").is_file());
    }

    #[test]
    fn exit_codes_pass_through_as_in_a_shell() {
        let of = |raw| format!("{:?}", exit_code(ExitStatus::from_raw(raw)));
        assert_eq!(of(0), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(of(3 << 8), format!("{:?}", ExitCode::from(3)));
        let killed = 9;
        assert_eq!(of(killed), format!("{:?}", ExitCode::from(137)));
    }
}
