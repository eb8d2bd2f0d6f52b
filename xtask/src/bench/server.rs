//! The web server of examples/http_epoll, as a process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use testkit::Cluster;

use crate::workspace;

const EXAMPLE: &str = "http_epoll";

/// The server, for as long as it is needed. Dropped, it is killed.
pub(super) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Builds it as one that is to be fast.
    ///
    /// # Errors
    /// When it does not compile.
    pub(super) fn build() -> Result<PathBuf> {
        workspace::executable(&["--release", "--package", "chopin-pg", "--example", EXAMPLE])
    }

    /// Starts it, and makes its tables in the cluster.
    ///
    /// # Errors
    /// When it does not start; it has told why on stderr.
    pub(super) fn start(
        executable: &Path,
        cluster: &Cluster,
        threads: usize,
        slow_pool_size: usize,
    ) -> Result<Self> {
        let url = cluster.url(cluster.superuser(), None, "postgres");
        let mut command = Command::new(executable);
        command.args(["--setup", "--listen", "127.0.0.1:0", "--url", &url]);
        command.args(["--threads", &threads.to_string()]);
        command.args(["--slow-pool-size", &slow_pool_size.to_string()]);
        let child = command.stdout(Stdio::piped()).spawn().context("cannot start the server")?;
        let mut server = Self { child, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let stdout = server.child.stdout.take().context("the server has no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.with_context(|| format!("the server says {line:?}"))?;
        server.address = address.parse()?;
        Ok(server)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The threads that serve.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(super) fn workers(&self) -> Result<Vec<u32>> {
        let mut workers = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let task = task?;
            if fs::read_to_string(task.path().join("comm"))?.starts_with("worker-") {
                workers.push(task.file_name().to_string_lossy().parse()?);
            }
        }
        ensure!(!workers.is_empty(), "the server has no workers");
        Ok(workers)
    }

    /// Tells it to end, as Ctrl-C does, and waits for that.
    ///
    /// # Errors
    /// When it does not end in order.
    pub(super) fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::INT)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, mostly; then these do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
