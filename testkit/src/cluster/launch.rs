//! Starting a server on a free port, knowing when it answers, and stopping it.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use super::builder::setting_line;
use super::{HOST, SHUTDOWN_LIMIT, SUPERUSER, Shutdown, log_in};
use crate::error::Error;
use crate::raw::{RawClient, RawError};
use crate::socket::Target;
use crate::supervisor::{Supervisor, wait_for};

/// The file in the data folder that names port and addresses. postgresql.conf includes it.
pub(super) const NETWORK_CONF: &str = "testkit-network.conf";

/// How often another port is tried when somebody was quicker to take the one that was free.
const PORT_TRIES: usize = 10;

/// How long a server may take until it answers. Recovery after a crash takes the longest.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How many lines of the log go into an error.
const LOG_LINES: usize = 30;

/// What the server logs when it cannot listen where it was told to (its messages are in English:
/// the data folder is prepared without a locale). It goes on if it can listen somewhere else.
const COULD_NOT_BIND: &str = "could not bind";

/// SQLSTATE `cannot_connect_now`: the server is starting up, or shutting down.
const CANNOT_CONNECT_NOW: &str = "57P03";

/// Starts the server on one of `ports` that nobody else uses, and returns the port.
pub(super) fn start_on_a_free_port(
    supervisor: &mut Supervisor,
    ports: &mut dyn FnMut() -> io::Result<u16>,
) -> Result<u16, Error> {
    let mut tries = 0;
    loop {
        let port = ports().map_err(Error::io("looking for a free port"))?;
        write_network_conf(&supervisor.folder().join("data"), port)?;
        tries += 1;
        match start(supervisor, port) {
            Ok(()) => return Ok(port),
            Err(Error::Start { log, .. }) if log.contains(COULD_NOT_BIND) && tries < PORT_TRIES => {
            }
            Err(error) => return Err(error),
        }
    }
}

/// A port that was free a moment ago, chosen by the kernel.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((HOST, 0))?.local_addr()?.port())
}

/// Tells the server its port and addresses.
fn write_network_conf(data: &Path, port: u16) -> Result<(), Error> {
    // A machine without IPv6 refuses this; so does one where somebody has the same port there, and
    // then 127.0.0.1 alone will do.
    let addresses = match TcpListener::bind(("::1", port)) {
        Ok(_) => format!("{HOST},::1"),
        Err(_) => HOST.to_owned(),
    };
    let path = data.join(NETWORK_CONF);
    let text =
        setting_line("port", &port.to_string()) + &setting_line("listen_addresses", &addresses);
    fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))
}

/// Starts the server and waits until it answers on all its addresses.
pub(super) fn start(supervisor: &mut Supervisor, port: u16) -> Result<(), Error> {
    let log_before = log_in(supervisor.folder()).len();
    supervisor.start()?;
    let outcome = wait_for(START_LIMIT, || {
        if answers(supervisor.folder(), port) {
            Some(Ok(()))
        } else if supervisor.has_exited() {
            Some(Err("it ended"))
        } else {
            None
        }
    });
    let log = log_in(supervisor.folder());
    let log = log.get(log_before..).unwrap_or_default();
    match outcome {
        Some(Ok(())) if !log.contains(COULD_NOT_BIND) => Ok(()),
        Some(Ok(())) => {
            stop(supervisor, Shutdown::Immediate)?;
            Err(failed(&format!("port {port} was taken on one of its addresses"), log))
        }
        Some(Err(reason)) => Err(failed(reason, log)),
        None => {
            stop(supervisor, Shutdown::Immediate)?;
            Err(failed(&format!("it did not answer for {START_LIMIT:?}"), log))
        }
    }
}

/// A real connection gets a real answer: a login, or a refusal by the test's own rules.
pub(crate) fn answers(folder: &Path, port: u16) -> bool {
    // Not asked before it says so itself: the log would fill with refusals.
    if !says_ready(folder) {
        return false;
    }
    match RawClient::connect(&Target::socket(folder, port), SUPERUSER, "postgres", None) {
        Ok(_) | Err(RawError::Authentication(_)) => true,
        Err(RawError::Server(error)) => error.code() != CANNOT_CONNECT_NOW,
        Err(_) => false,
    }
}

/// The postmaster's own word on its state, the eighth line of its lock file.
fn says_ready(folder: &Path) -> bool {
    const STATE_LINE: usize = 8;
    let lock_file = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    lock_file.lines().nth(STATE_LINE - 1).is_some_and(|state| state.trim() == "ready")
}

fn failed(reason: &str, log: &str) -> Error {
    let lines: Vec<&str> = log.lines().collect();
    let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    Error::Start { reason: reason.to_owned(), log: end }
}

/// Shuts the server down and waits for its end.
pub(super) fn stop(supervisor: &mut Supervisor, shutdown: Shutdown) -> Result<(), Error> {
    supervisor.signal(shutdown.signal())?;
    wait_for(SHUTDOWN_LIMIT, || supervisor.has_exited().then_some(())).ok_or_else(|| {
        Error::Stop(format!("it still runs {SHUTDOWN_LIMIT:?} after a {shutdown:?} shutdown"))
    })
}
