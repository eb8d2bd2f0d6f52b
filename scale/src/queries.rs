//! 2,000 connections to a real server with 200,000 queries of all kinds, in one loop.
//!
//! Every request has a number, its tag, and everything that comes back carries it: an answer that
//! belongs to another request, of the same connection or of another one, is found.

mod kind;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use chopin_pg::{Delivery, Event, Outcome, PgConfig, PgConnection, PgError, PgResult, Ticket};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::Cluster;

use self::kind::Kind;
use crate::Result;
use crate::example::EventLoop;
use crate::process::{allow_connections, grouped, mib, peak_memory};

const CONNECTIONS: usize = 2_000;

const QUERIES: usize = 200_000;

/// The most requests that a connection has in flight.
const WINDOW: usize = 4;

/// How long anything may take: connecting too, while the server starts 2,000 processes.
const PATIENCE: Duration = Duration::from_secs(300);

/// The rows of the table that points are selected from.
const POINTS: i32 = 10_000;

/// Starts a server for so many connections, and asks it all the queries.
///
/// # Errors
///
/// When the system refuses so many, or a connection is lost.
///
/// # Panics
///
/// When an answer is wrong.
pub(crate) fn main() -> Result<()> {
    allow_connections(CONNECTIONS)?;
    eprintln!("starting a server with a process for each of {CONNECTIONS} connections ...");
    let cluster =
        Cluster::builder().guc("max_connections", (CONNECTIONS + 10).to_string()).start()?;
    println!("{}", run(&cluster, CONNECTIONS, QUERIES)?);
    Ok(())
}

/// Asks all queries, the same number on each connection, and checks all answers.
fn run(cluster: &Cluster, connections: usize, queries: usize) -> Result<Report> {
    let table = testkit::unique("points");
    cluster.client("postgres")?.simple(&format!(
        "create table {table} (id int4 primary key, label text not null);
         insert into {table} select id, 'point ' || id from generate_series(0, {POINTS} - 1) id;
         analyze {table}"
    ))?;
    let mut work = Work::new(&table, connections, queries / connections);
    let mut event_loop = EventLoop::new()?;
    let start = Instant::now();
    for config in configs(cluster).iter().cycle().take(connections) {
        event_loop.add(PgConnection::start_connect(config)?);
    }
    work.connect(&mut event_loop)?;
    let connecting = start.elapsed();
    let start = Instant::now();
    work.ask(&mut event_loop)?;
    let asking = start.elapsed();
    // Nobody has left, and nothing more comes.
    for member in &mut event_loop.members {
        assert_eq!(member.connection.in_flight(), 0);
        assert!(member.connection.next_event()?.is_none());
    }
    Ok(Report {
        version: cluster.version(),
        connections,
        ended: work.ended,
        wake_ups: event_loop.wake_ups,
        connecting,
        asking,
        peak_memory: peak_memory()?,
    })
}

/// The two ways to the server.
fn configs(cluster: &Cluster) -> [PgConfig; 2] {
    let folder = cluster.socket_dir().display().to_string();
    [cluster.host().to_owned(), folder].map(|host| {
        PgConfig::new(&host, cluster.port(), cluster.superuser(), "", "postgres")
            .statement_cache_capacity(16)
            .io_timeout(PATIENCE)
    })
}

/// What was done, and what it took.
struct Report {
    version: u32,
    connections: usize,
    ended: BTreeMap<Kind, usize>,
    wake_ups: usize,
    connecting: Duration,
    asking: Duration,
    /// In KiB.
    peak_memory: u64,
}

impl Report {
    fn queries(&self) -> usize {
        self.ended.values().sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, connections, wake_ups, connecting, asking, .. } = self;
        let (connections, queries) = (grouped(*connections), grouped(self.queries()));
        writeln!(
            f,
            "{connections} connections to PostgreSQL {version}, one thread, one epoll loop"
        )?;
        let (connecting, asking) = (connecting.as_secs_f64(), asking.as_secs_f64());
        writeln!(f, "  {:>10}  until all are connected", format!("{connecting:.1} s"))?;
        writeln!(f, "  {queries:>10}  queries, each answer with its own tag ({asking:.1} s)")?;
        for (kind, count) in &self.ended {
            writeln!(f, "  {:>10}  {}", grouped(*count), kind.title())?;
        }
        writeln!(f, "  {:>10}  wake-ups", grouped(*wake_ups))?;
        write!(f, "  {:>10}  of memory at most", mib(self.peak_memory))
    }
}

/// A request that has not ended.
struct Open {
    kind: Kind,
    tag: i64,
    delivery: Delivery,
    /// Rows so far.
    rows: i64,
}

/// One connection's share of the work.
#[derive(Default)]
struct Share {
    is_ready: bool,
    /// How many requests it has submitted.
    submitted: usize,
    open: HashMap<Ticket, Open>,
}

/// All of it.
struct Work {
    /// The text of the query for a point.
    point: String,
    /// How many requests each connection submits.
    each: usize,
    shares: Vec<Share>,
    random: StdRng,
    /// The last tag that was given to a request.
    tag: i64,
    /// How many connections are not ready. Nobody asks anything before it is none.
    connecting: usize,
    ended: BTreeMap<Kind, usize>,
}

impl Work {
    fn new(table: &str, connections: usize, each: usize) -> Self {
        Self {
            point: format!("select $1::int8, label from {table} where id = $2"),
            each,
            shares: (0..connections).map(|_| Share::default()).collect(),
            random: StdRng::seed_from_u64(0x00c4_0914),
            tag: 0,
            connecting: connections,
            ended: BTreeMap::new(),
        }
    }

    /// Drives all connections until they are ready.
    fn connect(&mut self, event_loop: &mut EventLoop) -> PgResult<()> {
        self.drive(event_loop, |work| work.connecting == 0)
    }

    /// Drives all connections until every request has ended.
    fn ask(&mut self, event_loop: &mut EventLoop) -> PgResult<()> {
        let all = self.each * self.shares.len();
        self.drive(event_loop, |work| work.ended.values().sum::<usize>() == all)
    }

    /// Drives all connections, each at least once.
    fn drive(
        &mut self,
        event_loop: &mut EventLoop,
        is_done: impl Fn(&Self) -> bool,
    ) -> PgResult<()> {
        let mut turns: Vec<usize> = (0..self.shares.len()).collect();
        loop {
            for index in turns {
                event_loop.turn(index, |connection| {
                    self.take_events(index, connection)?;
                    self.submit(index, connection)
                })?;
            }
            if is_done(self) {
                return Ok(());
            }
            turns = event_loop.wait()?;
        }
    }

    /// Takes all events of a connection and checks them.
    fn take_events(&mut self, index: usize, connection: &mut PgConnection) -> PgResult<()> {
        let Share { is_ready, open, .. } = &mut self.shares[index];
        while let Some(event) = connection.next_event()? {
            let request = event.ticket().and_then(|ticket| open.get_mut(&ticket));
            let (ticket, failure) = match (event, request) {
                (Event::Row { row, .. }, Some(request)) => {
                    assert_ne!(request.delivery, Delivery::Collect);
                    request.kind.check_row(request.tag, row);
                    request.rows += 1;
                    continue;
                }
                (Event::Columns { .. } | Event::CommandComplete { .. }, Some(request)) => {
                    assert_eq!(request.delivery, Delivery::Events);
                    continue;
                }
                (Event::Ready, None) => {
                    assert!(!std::mem::replace(is_ready, true), "ready comes once");
                    self.connecting -= 1;
                    continue;
                }
                (Event::ParameterStatus { .. }, None) => continue,
                (Event::Complete { ticket }, Some(_)) => (ticket, None),
                (Event::Failed { ticket, error }, Some(_)) => (ticket, Some(error)),
                (event, _) => panic!("nobody has asked for {event:?}"),
            };
            let request = open.remove(&ticket).expect("it is open");
            check_end(&request, failure, connection.take(ticket));
            *self.ended.entry(request.kind).or_default() += 1;
        }
        Ok(())
    }

    /// Queues a few requests.
    fn submit(&mut self, index: usize, connection: &mut PgConnection) -> PgResult<()> {
        let share = &mut self.shares[index];
        let window = self.random.random_range(1..=WINDOW);
        while self.connecting == 0 && share.open.len() < window && share.submitted < self.each {
            self.tag += 1;
            let (tag, kind) = (self.tag, Kind::random(&mut self.random));
            let delivery = match self.random.random_range(0..3) {
                0 => Delivery::Events,
                1 => Delivery::Rows,
                _ => Delivery::Collect,
            };
            let ticket = kind.submit(tag, &self.point, delivery, connection)?;
            let request = Open { kind, tag, delivery, rows: 0 };
            assert!(share.open.insert(ticket, request).is_none(), "a ticket is given out once");
            share.submitted += 1;
        }
        Ok(())
    }
}

/// Checks the end of a request: by its terminal event, and by what was collected.
fn check_end(request: &Open, failure: Option<PgError>, outcome: PgResult<Option<Outcome>>) {
    let Open { kind, tag, delivery, rows } = request;
    let expected = kind.rows(*tag);
    assert_eq!(failure.is_none(), expected.is_some(), "{kind:?} {tag}: {failure:?}");
    if let Some(error) = &failure {
        kind.check_error(*tag, error);
    }
    match (outcome, delivery) {
        (Ok(None), Delivery::Events | Delivery::Rows) => {
            assert_eq!(*rows, expected.unwrap_or(0), "{kind:?} {tag}");
        }
        (Ok(Some(outcome)), Delivery::Collect) => {
            let rows = outcome.into_rows();
            assert_eq!(i64::try_from(rows.len()).ok(), expected, "{kind:?} {tag}");
            rows.iter().for_each(|row| kind.check_row(*tag, row.as_ref()));
        }
        (Err(error), Delivery::Collect) => kind.check_error(*tag, &error),
        (outcome, _) => panic!("{kind:?} {tag}: {outcome:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_asks_its_share_and_every_kind_is_asked() {
        let report = run(testkit::shared(), 20, 4_000).unwrap();
        assert_eq!((report.queries(), report.ended.len()), (4_000, Kind::COUNT));
        let text = report.to_string();
        assert!(text.starts_with("20 connections to PostgreSQL "), "{text}");
        assert!(text.contains("4,000  queries, each answer with its own tag"), "{text}");
    }
}
