//! The workloads' program: building it, and running it under a tool.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use testkit::Cluster;

use super::workload::Workload;
use crate::workspace;

const PACKAGE: &str = "chopin-pg-costs";

/// Builds the program as a user's release build would be, and says where it is.
///
/// # Errors
/// When it does not compile.
pub(super) fn build() -> Result<PathBuf> {
    workspace::executable(&["--release", "--package", PACKAGE])
}

/// What the program says of a run.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(super) struct Said {
    pub(super) operations: u32,
    pub(super) allocations: u64,
    pub(super) bytes: u64,
}

impl Said {
    fn read(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("{PACKAGE} printed {line:?}"))
    }
}

/// The program, with the server that it is to use and a folder for what the tools write.
pub(super) struct Program {
    executable: PathBuf,
    socket_folder: PathBuf,
    port: u16,
    user: &'static str,
    folder: PathBuf,
}

impl Program {
    /// # Errors
    /// When the folder cannot be made.
    pub(super) fn new(executable: PathBuf, cluster: &Cluster) -> Result<Self> {
        let folder = workspace::target().join("costs");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let socket_folder = cluster.socket_dir().to_path_buf();
        let (port, user) = (cluster.port(), cluster.superuser());
        Ok(Self { executable, socket_folder, port, user, folder })
    }

    /// Where the tools write.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a workload under `tool`, a program that runs another one.
    ///
    /// # Errors
    /// When either program fails: the error has what they said.
    pub(super) fn run_under(
        &self,
        tool: &str,
        options: &[&OsStr],
        workload: &Workload,
        operations: u32,
    ) -> Result<Said> {
        let mut command = Command::new(tool);
        command.args(options).arg(&self.executable).args([workload.name, &operations.to_string()]);
        command.arg(&self.socket_folder).args([&self.port.to_string(), self.user]);
        let output = command.output().with_context(|| format!("cannot start {tool}"))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{PACKAGE} under {tool} fails, {}: {}", output.status, stderr.trim());
        }
        let said = Said::read(String::from_utf8_lossy(&output.stdout).trim())?;
        ensure!(
            said.operations == operations,
            "{PACKAGE} did {} operations, not {operations}",
            said.operations
        );
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_says_is_read() {
        let said = Said::read(r#"{"operations":200,"allocations":3,"bytes":96}"#).unwrap();
        assert_eq!(said, Said { operations: 200, allocations: 3, bytes: 96 });
        let error = Said::read("hello").unwrap_err();
        assert_eq!(error.to_string(), "chopin-pg-costs printed \"hello\"");
    }
}
