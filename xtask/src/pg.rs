//! `cargo xtask pg`: a server to play with, which stays until it is stopped.
//!
//! A cluster of testkit lives as long as the process that holds it. So `pg start` starts a holder,
//! this program again as `pg serve`, in the background: it holds the cluster, listens on a control
//! socket in the cluster's folder, and writes down where that is. `pg stop` asks the holder to end.
//! It never goes by a process id, which may be somebody else's by then. If the holder is killed,
//! testkit's supervisor takes server, folder and socket away, and what was written down is stale.

mod state;

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testkit::{Cluster, Need, Server};

use state::State;

/// The name of the control socket in the cluster's folder.
const CONTROL: &str = "xtask";

/// What the holder says on its stdout when others can find it.
const READY: &str = "ready";

/// How long a client of the control socket may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to do with the server to play with.
#[derive(clap::Subcommand)]
pub(crate) enum Action {
    /// Start a server and say how to reach it
    Start(Choice),
    /// Stop it and delete its data
    Stop,
    /// Hold a server until told to stop; what `start` starts
    #[command(hide = true)]
    Serve(Choice),
}

/// Which server.
#[derive(clap::Args)]
pub(crate) struct Choice {
    /// The major version of PostgreSQL, 12 to 18; any from 15 on if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(12..=18))]
    version: Option<u32>,
}

impl Choice {
    fn need(&self) -> Need {
        self.version.map_or_else(Need::default, Need::major)
    }
}

/// Starts, stops or holds the server.
///
/// # Errors
/// When there is no such server and none can be fetched, or another version is running.
pub(crate) fn run(action: &Action) -> Result<ExitCode> {
    match action {
        Action::Start(choice) => start(choice)?,
        Action::Stop => stop()?,
        Action::Serve(choice) => serve(choice)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn start(choice: &Choice) -> Result<()> {
    if let Some(state) = running()? {
        println!("PostgreSQL {} is running already.", state.version);
        println!("{}", how_to_reach(&state));
        let other = choice.version.is_some_and(|version| version != state.version);
        ensure!(!other, "to get another version, stop this one first: cargo xtask pg stop");
        return Ok(());
    }
    // Found, and if need be fetched, here: the holder has no terminal to show it on.
    Server::find(&choice.need())?;
    start_holder(choice)?;
    let state = running()?.context("the server has ended again")?;
    println!("PostgreSQL {} is running. Its data is gone when it is stopped.", state.version);
    println!("{}", how_to_reach(&state));
    Ok(())
}

fn how_to_reach(state: &State) -> String {
    let url = &state.url;
    format!("\n  DATABASE_URL={url}\n  psql {url}\n\nStop it with: cargo xtask pg stop")
}

/// Returns when the holder is ready; what it says when it is not is the error.
fn start_holder(choice: &Choice) -> Result<()> {
    let log = State::folder()?.join("holder.log");
    let log_file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut holder = Command::new(env::current_exe().context("cannot find this program")?)
        .args(["pg", "serve"])
        .args(choice.version.map(|version| format!("--version={version}")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        // Ctrl-C in this terminal is not for it.
        .process_group(0)
        .spawn()
        .context("cannot start this program in the background")?;
    let mut line = String::new();
    if let Some(stdout) = holder.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.trim_end() != READY {
        holder.wait()?;
        bail!("the server did not start: {}", fs::read_to_string(&log)?.trim_end());
    }
    Ok(())
}

fn stop() -> Result<()> {
    let Some(state) = running()? else {
        println!("No server is running.");
        return Ok(());
    };
    let answer = ask(&state, "stop")?;
    ensure!(answer == "stopped", "the holder of the server did not stop it: {answer:?}");
    println!("PostgreSQL {} has been stopped and its data deleted.", state.version);
    Ok(())
}

/// The server that was started last, if its holder answers. What was written down of one that does
/// not is removed.
fn running() -> Result<Option<State>> {
    let Some(state) = State::read()? else {
        return Ok(None);
    };
    match ask(&state, "status") {
        Ok(answer) if answer == "running" => Ok(Some(state)),
        // The server has crashed under its holder, which is of no use any more.
        Ok(_) => ask(&state, "stop").map(|_| None).context("cannot stop a server that crashed"),
        Err(error) if is_gone(&error) => {
            State::remove()?;
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot ask {}", state.control.display())),
    }
}

/// Nobody listens on the socket, or it was closed before it could answer.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    [BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof]
        .contains(&error.kind())
}

/// Sends one line to the holder; its answer is one line.
fn ask(state: &State, question: &str) -> io::Result<String> {
    let mut socket = UnixStream::connect(&state.control)?;
    writeln!(socket, "{question}")?;
    let mut answer = String::new();
    match BufReader::new(socket).read_line(&mut answer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(answer.trim_end().to_owned()),
    }
}

/// The holder: starts a cluster, and answers on its control socket until it is asked to stop.
fn serve(choice: &Choice) -> Result<()> {
    let cluster = Cluster::builder().need(choice.need()).start()?;
    let control = cluster.socket_dir().join(CONTROL);
    let listener = UnixListener::bind(&control).context("cannot make the control socket")?;
    let state = State {
        version: cluster.version(),
        url: cluster.url(cluster.superuser(), None, "postgres"),
        control,
    };
    state.write()?;
    println!("{READY}");
    for socket in listener.incoming() {
        let mut socket = socket?;
        match question(&socket).unwrap_or_default().as_str() {
            "status" => {
                let status = if cluster.pid().is_some() { "running" } else { "ended" };
                // Who has gone meanwhile does not need the answer.
                let _ = writeln!(socket, "{status}");
            }
            "stop" => {
                drop(cluster);
                State::remove()?;
                let _ = writeln!(socket, "stopped");
                return Ok(());
            }
            _ => {}
        }
    }
    Ok(())
}

fn question(socket: &UnixStream) -> io::Result<String> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
