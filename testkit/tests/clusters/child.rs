//! Other processes for tests that need some: this test binary, run again with one test only. In the
//! second process the test finds a [`role`] and plays it.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, read_to_string, stdin};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const ROLE: &str = "CHOPIN_TESTKIT_TEST_ROLE";

/// What lines meant for the parent begin with: the test harness prints lines of its own.
const MARK: &str = "child says: ";

/// How long a test waits for something that ends by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The part that this process plays; `None` in the process that the test runner started.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// In a child: says a line to the parent.
pub(crate) fn say(line: impl std::fmt::Display) {
    println!("\n{MARK}{line}");
}

/// In a child: stays until the parent lets it go, or ends.
pub(crate) fn stay() {
    read_to_string(stdin()).unwrap();
}

/// The command that runs this binary again with one test, given by its whole name, in a role.
pub(crate) fn again(test: &str, role: &str) -> Command {
    again_as(&std::env::current_exe().unwrap(), test, role)
}

/// As [`again`], with another copy of this binary.
pub(crate) fn again_as(program: &Path, test: &str, role: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture"]).env(ROLE, role);
    command
}

/// Lets the signals of a terminal end the child, also where the test runner was started in the
/// background or under nohup: what is ignored there would be ignored by the child too.
#[allow(unsafe_code, reason = "std cannot set a child's signal dispositions")]
fn end_by_signals(command: &mut Command) {
    let by_default = || {
        for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            // SAFETY: signal(2) with SIG_DFL installs no handler and touches no memory.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec and calls only signal(2), which is
    // async-signal-safe.
    unsafe { command.pre_exec(by_default) };
}

/// A running child.
pub(crate) struct Player {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Player {
    pub(crate) fn start(mut command: Command) -> Player {
        end_by_signals(&mut command);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Player { process, output }
    }

    /// The next line that the child says to us.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let length = self.output.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "the child ended without a word");
            if let Some(said) = line.trim_end().strip_prefix(MARK) {
                return said.to_owned();
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Lets the child go, and waits for its end.
    pub(crate) fn end(mut self) -> ExitStatus {
        drop(self.process.stdin.take());
        self.process.wait().unwrap()
    }

    /// Waits for the end of a child that does not stay.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

/// Waits until something has come about that nobody announces; fails after a minute.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process exists.
pub(crate) fn exists(pid: u32) -> bool {
    kill("0", pid)
}

/// Sends a signal, `KILL` for example; a negative `pid` means a process group. `false`: there is
/// none to send it to.
pub(crate) fn kill(signal: &str, pid: impl std::fmt::Display) -> bool {
    let mut kill = Command::new("/bin/sh");
    kill.args(["-c", "kill -s \"$1\" -- \"$2\" 2>/dev/null", "kill", signal]).arg(pid.to_string());
    kill.status().unwrap().success()
}

/// A place for children that have an empty cache: a copy of this binary outside of cargo's target
/// folder, and a target folder of its own.
pub(crate) struct Elsewhere {
    home: tempfile::TempDir,
}

impl Elsewhere {
    pub(crate) fn new() -> Elsewhere {
        let home = tempfile::Builder::new().prefix("tk").tempdir_in("/tmp").unwrap();
        // The server's user has to get to the temporary files.
        std::fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        let elsewhere = Elsewhere { home };
        // By another process: a file that this one has open for writing, and so for a moment
        // every process that another test starts meanwhile, cannot be run.
        let mut copy = Command::new("cp");
        copy.arg(std::env::current_exe().unwrap()).arg(elsewhere.path("program"));
        assert!(copy.status().unwrap().success());
        std::fs::create_dir(elsewhere.path("target")).unwrap();
        elsewhere
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs one test of this binary there.
    pub(crate) fn again(&self, test: &str, role: &str) -> Command {
        let mut command = again_as(&self.path("program"), test, role);
        command.env("CARGO_TARGET_DIR", self.path("target"));
        command
    }
}
