//! 10,000 connections that are idle, and the memory that they take.
//!
//! The server is testkit's crowd, in a process of its own, so that the memory is that of the client
//! alone.

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chopin_pg::pool::SourceChange;
use chopin_pg::{PgConfig, PgConnection, PgPool, PgPoolConfig};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use testkit::crowd::{Crowd, POINT};

use crate::Result;
use crate::process::{allow_connections, grouped, memory, mib};

const CONNECTIONS: usize = 10_000;

/// How much more memory there may be with all connections than before the first, in KiB.
const MOST_MEMORY: u64 = 40 * 1024;

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
        writeln!(f, "{number} connections to a scripted server, one thread, one pool")?;
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

/// Makes the connections, those of one pool, and asks each of them twice.
fn run(port: u16, connections: usize) -> Result<Report> {
    let config = PgConfig::new("127.0.0.1", port, "frederic", "", "music").io_timeout(PATIENCE);
    let before = memory()?;
    let more = || memory().map(|now| now.saturating_sub(before));
    let pool = PgPool::new(config, PgPoolConfig::new().max_size(connections))?;

    // All at once are under guards, so each is another connection.
    let start = Instant::now();
    let mut guards = Vec::with_capacity(connections);
    for id in 0..connections {
        let mut guard = pool.get()?;
        ask(&mut guard, id)?;
        guards.push(guard);
    }
    let (connecting, connected) = (start.elapsed(), more()?);
    drop(guards);

    // The one that has been idle for the longest time is given out: each comes once. They are watched
    // by a poller meanwhile.
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut watched = 0;
    pool.update_sources(|SourceChange { fd, token, .. }| {
        watched += 1;
        Ok(epoll::add(&epoll, fd, EventData::new_u64(token.into()), EventFlags::IN)?)
    })?;
    assert_eq!((watched, pool.idle_connections()), (connections, connections));
    let start = Instant::now();
    for id in 0..connections {
        ask(&mut *pool.get()?, id)?;
    }
    let (asking, idle) = (start.elapsed(), more()?);
    assert_eq!((pool.pool_size(), pool.idle_connections()), (connections, connections));
    Ok(Report { connections, before, connected, idle, connecting, asking })
}

/// Asks for the point with this id.
fn ask(connection: &mut PgConnection, id: usize) -> Result<()> {
    let id = i32::try_from(id)?;
    let row = connection.query_one(POINT, &[&id])?;
    assert_eq!(row.to::<(i32, i32)>()?, (2 * id, 3 * id));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn each_connection_is_asked_twice() {
        let mut crowd = Crowd::listen().unwrap();
        let port = crowd.port().unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let serving = thread::spawn(move || crowd.serve_until(stopped));
        let report = run(port, 501).unwrap();
        let text = report.to_string();
        assert!(text.starts_with("501 connections to a scripted server"), "{text}");
        drop(stop);
        serving.join().unwrap().unwrap();
    }
}
