//! An event loop of one's own: one thread, epoll, several connections with many requests in flight
//! on each. Among the requests are some that fail, one that takes too long, and one whose answer is
//! large.
//!
//! `cargo run --example event_loop [connections]`; DATABASE_URL says where the server is.
//!
//! [`EventLoop`] is what any program of this kind needs, and chopin-pg's own tests run it too;
//! [`Client`] is this program's work. Epoll is Linux's; kqueue, or the crates mio and polling, take
//! its place elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use chopin_pg::connection::Deadline;
use chopin_pg::{
    Delivery, Drive, Event, Interest, PgConfig, PgConnection, PgError, PgResult, Request, Submit,
    Ticket,
};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// How many requests each connection is asked.
const REQUESTS: i64 = 1000;

/// How many of them may be unanswered at a time.
const WINDOW: usize = 32;

fn main() -> PgResult<()> {
    let url = std::env::var("DATABASE_URL").unwrap_or("postgres://localhost/postgres".into());
    let connections = std::env::args().nth(1).and_then(|number| number.parse().ok()).unwrap_or(8);
    let start = Instant::now();
    let (report, wake_ups) = run(&url, connections)?;
    println!("{connections} connections, {REQUESTS} requests each, {WINDOW} at a time");
    println!("{:>9} answered; the squares add up to {}", report.answered, report.sum);
    println!("{:>9} bytes in large answers", report.large);
    println!("{:>9} notices", report.notices);
    for (error, count) in &report.failures {
        println!("{count:>9} failed: {error}");
    }
    println!("{wake_ups:>9} wake-ups in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Runs the loop until each client has all its answers; what came, and how often epoll woke it.
pub(crate) fn run(url: &str, connections: usize) -> PgResult<(Report, usize)> {
    let config = PgConfig::from_url(url)?.application_name("event_loop");
    let mut event_loop = EventLoop::new()?;
    let mut clients = Vec::new();
    for _ in 0..connections {
        event_loop.add(PgConnection::start_connect(&config)?);
        clients.push(Client::default());
    }
    let mut report = Report::default();
    // Everybody has a first turn, to be watched from then on.
    let mut turns: Vec<usize> = (0..connections).collect();
    loop {
        for index in turns {
            event_loop.turn(index, |connection| {
                clients[index].take_events(connection, &mut report)?;
                clients[index].submit_more(connection)
            })?;
        }
        if clients.iter().all(Client::is_done) {
            return Ok((report, event_loop.wake_ups));
        }
        turns = event_loop.wait()?;
    }
}

/// Connections, and epoll to wait for them.
pub(crate) struct EventLoop {
    epoll: OwnedFd,
    pub(crate) members: Vec<Member>,
    events: Vec<epoll::Event>,
    /// How often epoll has said that something is ready.
    pub(crate) wake_ups: usize,
}

/// A connection in the loop.
pub(crate) struct Member {
    pub(crate) connection: PgConnection,
    /// What epoll watches for it.
    watched: Vec<(RawFd, Interest)>,
    /// When it has its next turn, even if nothing gets ready.
    pub(crate) due: Option<Instant>,
}

impl EventLoop {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, members: Vec::new(), events: Vec::with_capacity(256), wake_ups: 0 })
    }

    /// Takes a connection in; its index.
    pub(crate) fn add(&mut self, connection: PgConnection) -> usize {
        self.members.push(Member { connection, watched: Vec::new(), due: None });
        self.members.len() - 1
    }

    /// One turn of a connection: moves bytes, does the `work` (take all events, submit more), sends
    /// what it submitted, and watches what there is to wait for now.
    pub(crate) fn turn<E: From<io::Error>>(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut PgConnection) -> Result<(), E>,
    ) -> Result<(), E> {
        let member = &mut self.members[index];
        let drive = member.connection.drive();
        work(&mut member.connection)?;
        member.connection.flush();
        // More to do without waiting: it is due at once, but the others have their turn first.
        member.due = match drive {
            Drive::Again => Some(Instant::now()),
            Drive::Idle => member.connection.deadline(),
        };
        let key = EventData::new_u64(index as u64);
        member.watch(&self.epoll, key).map_err(E::from)
    }

    /// Waits until there is something to do; the connections whose turn it is.
    pub(crate) fn wait(&mut self) -> io::Result<Vec<usize>> {
        // With thousands of connections a heap or a timer wheel finds the first.
        let first = self.members.iter().filter_map(|member| member.due).min();
        let now = Instant::now();
        self.poll(first.map(|due| due.saturating_duration_since(now)))?;
        let ready = self.events.drain(..).map(|event| event.data.u64());
        let mut turns: Vec<usize> = ready.filter_map(|key| usize::try_from(key).ok()).collect();
        let now = Instant::now();
        let is_due = |member: &Member| member.due.is_some_and(|due| due <= now);
        turns.extend((0..self.members.len()).filter(|index| is_due(&self.members[*index])));
        turns.sort_unstable();
        turns.dedup();
        Ok(turns)
    }

    /// Waits until something is ready, for at most so long; how many connections are.
    pub(crate) fn poll(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.wake_ups += usize::from(!self.events.is_empty());
        Ok(self.events.len())
    }
}

impl Member {
    /// Tells epoll what has changed; mostly nothing has.
    fn watch(&mut self, epoll: &OwnedFd, key: EventData) -> io::Result<()> {
        let connection = &self.connection;
        // What is no source any more has been closed, and epoll has forgotten it.
        self.watched.retain(|(raw, _)| connection.sources().any(|(fd, _)| fd.as_raw_fd() == *raw));
        for (fd, interest) in connection.sources() {
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, interest.read);
            flags.set(EventFlags::OUT, interest.write);
            let place = self.watched.iter().position(|(raw, _)| *raw == fd.as_raw_fd());
            match place {
                None if flags.is_empty() => {}
                None => {
                    epoll::add(epoll, fd, key, flags)?;
                    self.watched.push((fd.as_raw_fd(), interest));
                }
                Some(place) if self.watched[place].1 == interest => {}
                // Not with empty flags: epoll tells a hang-up even then, again and again.
                Some(place) if flags.is_empty() => {
                    epoll::delete(epoll, fd)?;
                    self.watched.remove(place);
                }
                Some(place) => {
                    epoll::modify(epoll, fd, key, flags)?;
                    self.watched[place].1 = interest;
                }
            }
        }
        Ok(())
    }
}

/// What came, of all connections together.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Requests that succeeded.
    pub(crate) answered: i64,
    /// The sum of all squares.
    pub(crate) sum: i64,
    /// Bytes in large answers.
    pub(crate) large: usize,
    pub(crate) notices: usize,
    /// Error texts, and how often each came.
    pub(crate) failures: BTreeMap<String, i64>,
}

/// The work on one connection.
#[derive(Default)]
struct Client {
    is_ready: bool,
    /// How many requests have been submitted.
    asked: i64,
    /// What was asked with each request that has not ended.
    open: HashMap<Ticket, Job>,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Job {
    /// The square of a number, as an event.
    Square,
    /// A text of a megabyte, collected.
    Large,
    /// Something that the server refuses.
    Impossible,
    /// Something that the server says without being asked.
    Notice,
    /// More time than there is.
    Nap,
}

impl Client {
    fn is_done(&self) -> bool {
        self.asked == REQUESTS && self.open.is_empty()
    }

    fn take_events(&mut self, connection: &mut PgConnection, report: &mut Report) -> PgResult<()> {
        // An error of next_event means that the connection is lost. This program ends with it;
        // another one would drop the connection and begin a new one.
        while let Some(event) = connection.next_event()? {
            match event {
                Event::Ready => self.is_ready = true,
                Event::Row { ticket, row } if self.open.get(&ticket) == Some(&Job::Square) => {
                    report.sum += row.get::<i64>(0)?;
                }
                Event::Notice(_) => report.notices += 1,
                Event::Failed { ticket, error } => {
                    self.open.remove(&ticket);
                    *report.failures.entry(error.to_string()).or_default() += 1;
                }
                Event::Complete { ticket } => {
                    report.answered += 1;
                    if self.open.remove(&ticket) == Some(Job::Large) {
                        let outcome = connection.take(ticket)?;
                        for row in outcome.into_iter().flat_map(|outcome| outcome.into_rows()) {
                            report.large += row.get::<&str>(0)?.len();
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps the window full: nothing here waits for an answer.
    fn submit_more(&mut self, connection: &mut PgConnection) -> PgResult<()> {
        while self.is_ready && self.asked < REQUESTS && self.open.len() < WINDOW {
            let job = match self.asked {
                100 => Job::Large,
                200 | 300 => Job::Impossible,
                400 => Job::Notice,
                500 => Job::Nap,
                _ => Job::Square,
            };
            match self.submit(connection, job) {
                Ok(ticket) => self.open.insert(ticket, job),
                // A limit of the configuration is reached: the next turn goes on.
                Err(PgError::WouldBlock) => return Ok(()),
                Err(error) => return Err(error),
            };
            self.asked += 1;
        }
        Ok(())
    }

    fn submit(&self, connection: &mut PgConnection, job: Job) -> PgResult<Ticket> {
        let number = self.asked;
        let query = |sql| Request::Query { sql, params: &() };
        match job {
            Job::Square => {
                let request = Request::Query { sql: "select $1 * $1", params: &(number,) };
                connection.submit(request, Delivery::Events)
            }
            Job::Large => {
                connection.submit(query("select repeat('x', 1 << 20)"), Delivery::Collect)
            }
            Job::Impossible => connection.submit(query("select 1 / 0"), Delivery::Events),
            Job::Notice => {
                let sql = "do $$ begin raise notice 'half way'; end $$";
                connection.submit(Request::Simple { sql }, Delivery::Events)
            }
            Job::Nap => {
                let patience = Duration::from_millis(20);
                let deadline = Deadline::after(Instant::now(), "patience", patience);
                let submit = Submit::new(Delivery::Events).deadline(deadline);
                connection.submit_with(query("select pg_sleep(0.1)"), submit)
            }
        }
    }
}
