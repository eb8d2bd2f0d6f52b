//! 10,000 connections that are idle, and the memory that they take.
//!
//! The server is testkit's crowd, in a process of its own, so that the memory is that of the client
//! alone.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chopin_pg::{Delivery, Event, PgConfig, PgConnection, PgResult, Request};
use testkit::crowd::{Crowd, POINT};

use crate::Result;
use crate::example::EventLoop;
use crate::process::{allow_connections, grouped, memory, mib};

const CONNECTIONS: usize = 10_000;

/// How much more memory there may be with all connections than before the first, in KiB.
const MOST_MEMORY: u64 = 40 * 1024;

/// How many connections are busy at a time. A connection that is busy has buffers.
const AT_A_TIME: usize = 250;

/// How long everything together may take at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// Starts the server in another process, makes the connections, and checks their memory.
///
/// # Errors
///
/// When the system refuses so many, an answer is wrong, or they take too much memory.
pub(crate) fn main() -> Result<()> {
    allow_connections(CONNECTIONS)?;
    let server = Server::start()?;
    let report = run(server.port, CONNECTIONS)?;
    println!("{report}");
    let most = report.connected.max(report.idle);
    if most > MOST_MEMORY {
        return Err(format!("{} are more than {}", mib(most), mib(MOST_MEMORY)).into());
    }
    Ok(())
}

/// Is the server: prints its port, and serves until its input ends.
///
/// # Errors
///
/// When the system refuses so many connections.
pub(crate) fn serve() -> Result<()> {
    allow_connections(CONNECTIONS)?;
    let mut crowd = Crowd::listen()?;
    println!("{}", crowd.port()?);
    Ok(crowd.serve_until(io::stdin())?)
}

/// The server's process. It ends with this one, however that ends.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start() -> Result<Self> {
        let mut server = Command::new(std::env::current_exe()?);
        server.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = server.spawn()?;
        let mut said = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        match said.trim().parse() {
            Ok(port) => Ok(Self { process, port }),
            Err(_) => Err(format!("the server ends, {}", process.wait()?).into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _its_status = self.process.wait();
    }
}

/// What was measured: memory in KiB, as the difference to that before the first connection.
struct Report {
    connections: usize,
    before: u64,
    /// When all were connected and each had asked once.
    connected: u64,
    /// When each had asked again.
    idle: u64,
    connecting: Duration,
    asking: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, before, connected, idle, connecting, asking } = self;
        let number = grouped(*connections);
        let each = *connected.max(idle) * 1024 / u64::try_from(*connections).unwrap_or(u64::MAX);
        let each = grouped(usize::try_from(each).unwrap_or(usize::MAX));
        writeln!(f, "{number} connections to a scripted server, one thread, one epoll loop")?;
        writeln!(f, "  {:>10}  before the first connection", mib(*before))?;
        writeln!(
            f,
            "  {:>10}  more with all of them connected, one query each ({:.1} s)",
            mib(*connected),
            connecting.as_secs_f64()
        )?;
        writeln!(
            f,
            "  {:>10}  more after another query each ({:.1} s)",
            mib(*idle),
            asking.as_secs_f64()
        )?;
        write!(f, "  {each:>10}  bytes each; the limit is {} in all", mib(MOST_MEMORY))
    }
}

/// Makes the connections and asks each of them twice.
fn run(port: u16, connections: usize) -> Result<Report> {
    let config = PgConfig::new("127.0.0.1", port, "frederic", "", "music").io_timeout(PATIENCE);
    let before = memory()?;
    let more = || memory().map(|now| now.saturating_sub(before));
    let mut crowd = Clients { event_loop: EventLoop::new()?, states: Vec::new() };

    let start = Instant::now();
    for first in (0..connections).step_by(AT_A_TIME) {
        let group = first..connections.min(first + AT_A_TIME);
        for _ in group.clone() {
            crowd.event_loop.add(PgConnection::start_connect(&config)?);
            crowd.states.push(State::Connecting);
        }
        crowd.until_answered(group)?;
    }
    let (connecting, connected) = (start.elapsed(), more()?);

    let start = Instant::now();
    for first in (0..connections).step_by(AT_A_TIME) {
        let group = first..connections.min(first + AT_A_TIME);
        crowd.states[group.clone()].fill(State::Ready);
        crowd.until_answered(group)?;
    }
    let (asking, idle) = (start.elapsed(), more()?);
    Ok(Report { connections, before, connected, idle, connecting, asking })
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    /// It can be asked.
    Ready,
    /// It has been asked; the answer has come or not.
    Asked {
        has_come: bool,
    },
    /// It has answered.
    Idle,
}

/// The connections in their loop.
struct Clients {
    event_loop: EventLoop,
    states: Vec<State>,
}

impl Clients {
    /// Drives all connections until each of this group has answered a question.
    fn until_answered(&mut self, group: std::ops::Range<usize>) -> Result<()> {
        let mut turns: Vec<usize> = group.clone().collect();
        loop {
            for index in turns {
                let state = &mut self.states[index];
                let id = i32::try_from(index).unwrap_or(i32::MAX);
                self.event_loop.turn(index, |connection| turn(connection, state, id))?;
            }
            if self.states[group.clone()].iter().all(|state| *state == State::Idle) {
                return Ok(());
            }
            turns = self.event_loop.wait()?;
        }
    }
}

/// Takes the events of a connection, and asks it for the point with this id when it is ready.
fn turn(connection: &mut PgConnection, state: &mut State, id: i32) -> PgResult<()> {
    while let Some(event) = connection.next_event()? {
        match (event, *state) {
            (Event::Ready, State::Connecting) => *state = State::Ready,
            (Event::Row { row, .. }, State::Asked { has_come: false }) => {
                assert_eq!(row.to::<(i32, i32)>()?, (2 * id, 3 * id));
                *state = State::Asked { has_come: true };
            }
            (Event::Complete { .. }, State::Asked { has_come: true }) => *state = State::Idle,
            (Event::Failed { error, .. }, _) => return Err(error),
            (Event::ParameterStatus { .. }, State::Connecting) => {}
            (event, state) => panic!("connection {id} is {state:?}, and there comes {event:?}"),
        }
    }
    if *state == State::Ready {
        let request = Request::Query { sql: POINT, params: &(id,) };
        let _ticket = connection.submit(request, Delivery::Rows)?;
        *state = State::Asked { has_come: false };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn connections_are_made_and_asked_in_groups() {
        let mut crowd = Crowd::listen().unwrap();
        let port = crowd.port().unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let serving = thread::spawn(move || crowd.serve_until(stopped));
        let report = run(port, 2 * AT_A_TIME + 1).unwrap();
        let text = report.to_string();
        assert!(text.starts_with("501 connections to a scripted server"), "{text}");
        drop(stop);
        serving.join().unwrap().unwrap();
    }
}
