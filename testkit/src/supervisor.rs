//! The process that outlives a test: it runs the server and takes everything away afterwards.
//!
//! A test process can end without a last word (panic in a thread that held everything, Ctrl-C,
//! SIGKILL), statics are never dropped, and a child that dies with its parent (`PDEATHSIG`) dies
//! with the parent's *thread*. What does always happen is that the kernel closes a dead process's
//! files. So each cluster has a supervisor, a small shell process that reads from a pipe whose
//! other end only the owner has, and cleans up at its end of file. Pipes made by the standard
//! library are closed on exec, so no other child of the owner keeps one open.
//!
//! The supervisor runs the script `supervisor.sh` beside this file; its head lists the verbs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::os::{in_own_session, process_exists};
use crate::server::user::ServerUser;

/// The supervisor's program. The shell finds it in its environment, so that a listing of processes
/// shows a short command line.
const SCRIPT: &str = include_str!("supervisor.sh");
const RUN_SCRIPT: &str = "eval \"$TESTKIT_SUPERVISOR\"";

/// How long a shared server stays after its last holder has gone, in seconds: long enough for a
/// runner that starts a process per test to come back, short enough not to be in the way.
const LINGER_SECONDS: &str = "5";

/// How long the supervisor itself may take for what it does at once.
const PROMPT: Duration = Duration::from_secs(30);

/// Waits for something that no descriptor announces: looks for it again and again, soon at first,
/// until `limit`. `None`: it did not happen.
pub(crate) fn wait_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 5 / 4).min(Duration::from_millis(50));
    }
}

/// The owner's end of a supervisor. Dropping it stops the server at once and deletes the folder.
#[derive(Debug)]
pub(crate) struct Supervisor {
    process: Child,
    folder: PathBuf,
}

impl Supervisor {
    /// Starts the supervisor of a new cluster. Its folder is made in the first of `bases` that the
    /// server's user may write to. `server` builds the server's command line for that folder.
    pub(crate) fn spawn(
        user: &ServerUser,
        bases: &[PathBuf],
        server: &dyn Fn(&Path) -> Vec<PathBuf>,
    ) -> Result<Supervisor, Error> {
        let mut refusals = Vec::new();
        for base in bases {
            let folder = base.join(format!("cpg-{}", crate::unique::token()));
            match Supervisor::spawn_in(user, &folder, &server(&folder)) {
                Ok(supervisor) => return Ok(supervisor),
                Err(refusal) => refusals.push(refusal.to_string()),
            }
        }
        let doing = format!("making a folder that user `{}` can write to", user.name());
        Err(Error::Io { doing, source: io::Error::other(refusals.join("; ")) })
    }

    fn spawn_in(user: &ServerUser, folder: &Path, server: &[PathBuf]) -> io::Result<Supervisor> {
        let mut command = user.command("/bin/sh");
        command
            .env("TESTKIT_SUPERVISOR", SCRIPT)
            .args(["-c", RUN_SCRIPT, "testkit-supervisor"])
            .arg(folder)
            .arg(LINGER_SECONDS)
            .args(server)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        in_own_session(&mut command);
        let process = command.spawn()?;
        let mut supervisor = Supervisor { process, folder: folder.to_path_buf() };
        let answer = supervisor.first_line()?;
        match answer.as_str() {
            "made" => Ok(supervisor),
            refusal => Err(io::Error::other(format!("{}: {refusal}", folder.display()))),
        }
    }

    /// The supervisor's only line: `made`, or why it ends.
    fn first_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        if let Some(output) = self.process.stdout.take() {
            BufReader::new(output).read_until(b'\n', &mut line)?;
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// The folder of the cluster, which belongs to the server's user.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the server. It runs when this returns; whether it stays is another matter.
    pub(crate) fn start(&mut self) -> Result<(), Error> {
        // A status of an earlier run must not be taken for this one's.
        let _ = fs::remove_file(self.folder.join("exited"));
        self.say("start")?;
        let seen = || self.pid().is_some() || self.has_exited();
        wait_for(PROMPT, || seen().then_some(())).ok_or_else(|| self.unresponsive())
    }

    /// Sends the server a signal: `TERM`, `INT` or `QUIT`.
    pub(crate) fn signal(&mut self, signal: &str) -> Result<(), Error> {
        self.say(signal)
    }

    /// Lets the server run on for everybody who [holds](hold) it, instead of for this owner.
    pub(crate) fn share(&mut self) -> Result<(), Error> {
        self.say("share")?;
        let shared = self.folder.join("shared");
        let done = wait_for(PROMPT, || shared.exists().then_some(()));
        done.ok_or_else(|| self.unresponsive())
    }

    /// The postmaster's process id, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        server_pid(&self.folder)
    }

    /// The server that was started last has ended.
    pub(crate) fn has_exited(&self) -> bool {
        self.folder.join("exited").exists()
    }

    fn say(&mut self, verb: &str) -> Result<(), Error> {
        let doing = || format!("telling the supervisor of {} to {verb}", self.folder.display());
        match &mut self.process.stdin {
            Some(pipe) => {
                pipe.write_all(format!("{verb}\n").as_bytes()).map_err(Error::io(doing()))
            }
            None => Err(Error::io(doing())(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn unresponsive(&self) -> Error {
        let doing = format!("waiting for the supervisor of {}", self.folder.display());
        Error::Io { doing, source: io::ErrorKind::TimedOut.into() }
    }

    /// Lets go of the supervisor without waiting for its end: others hold the server now.
    pub(crate) fn release(mut self) {
        drop(self.process.stdin.take());
        std::mem::forget(self);
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// The process id of the server that runs in a cluster's folder.
pub(crate) fn server_pid(folder: &Path) -> Option<u32> {
    read_pid(&folder.join("pid"))
}

fn read_pid(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Whether a shared server can be held.
pub(crate) enum Hold {
    /// It is: for as long as the file stays open.
    Held(File),
    /// Its supervisor is about to take it away, or has.
    Gone,
    /// Its supervisor was killed; server and folder may still be there.
    Orphaned,
}

/// Takes hold of the shared server in `folder`.
pub(crate) fn hold(folder: &Path) -> Hold {
    let pipe = folder.join("holders");
    match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&pipe) {
        // First write, then look for `ready`: the supervisor does it the other way round.
        Ok(file) if (&file).write_all(b"+").is_ok() && folder.join("ready").exists() => {
            // A reader alone proves nothing: a `cat` of the supervisor's may outlive it.
            match read_pid(&folder.join("supervisor")) {
                Some(supervisor) if process_exists(supervisor) => Hold::Held(file),
                _ => Hold::Orphaned,
            }
        }
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Hold::Orphaned,
        _ => Hold::Gone,
    }
}

/// Stops an [orphaned](Hold::Orphaned) server and deletes its folder. To be called only if the
/// server was just heard to answer on its socket (`answers`): else the process id in its folder may
/// belong to somebody else by now, and a server whose folder vanishes ends by itself.
pub(crate) fn bury(user: &ServerUser, folder: &Path, answers: bool) -> io::Result<()> {
    if let (true, Some(pid)) = (answers, server_pid(folder)) {
        let mut kill = user.command("/bin/sh");
        kill.args(["-c", "kill -s QUIT \"$1\"", "testkit-bury"]).arg(pid.to_string());
        kill.status()?;
        // The shell that started the server for the supervisor is still there to tell.
        wait_for(PROMPT, || folder.join("exited").exists().then_some(()));
    }
    fs::remove_dir_all(folder)
}
