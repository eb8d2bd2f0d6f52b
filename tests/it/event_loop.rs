//! The non-blocking face: connecting, driving, events, many connections in one loop.
//!
//! The loop is that of examples/event_loop.rs, so that it is tested too.

#[path = "../../examples/event_loop.rs"]
#[allow(dead_code)]
pub(crate) mod example;

mod connecting;
mod driving;
mod events;
mod faces;
mod many;

use std::time::{Duration, Instant};

use chopin_pg::{Delivery, Event, PgConfig, PgConnection, PgError, PgResult, Request, Ticket};
use testkit::fake::FakeConn;
use testkit::frames;

use self::example::EventLoop;
use crate::support::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// The time that is given to what is to take too long.
const SHORT: Duration = Duration::from_millis(50);

/// A loop with one connection, which tells its events as texts.
struct Single {
    event_loop: EventLoop,
    /// All events so far that have not been asked for.
    told: Vec<String>,
    /// When the test has failed.
    limit: Instant,
}

impl Single {
    /// Begins to connect.
    fn start(config: &PgConfig) -> PgResult<Self> {
        Ok(Self::of(PgConnection::start_connect(config)?))
    }

    fn of(connection: PgConnection) -> Self {
        let mut event_loop = EventLoop::new().expect("epoll");
        event_loop.add(connection);
        Self { event_loop, told: Vec::new(), limit: Instant::now() + 3 * LONG }
    }

    /// Connects, and takes the events of that.
    fn connect(config: &PgConfig) -> Self {
        let mut single = Self::start(config).expect("an address that can be tried");
        single.until("ready");
        single.told.clear();
        single
    }

    fn db(&mut self) -> &mut PgConnection {
        &mut self.event_loop.members[0].connection
    }

    /// Queues a query whose one column is text.
    fn query(&mut self, sql: &str, delivery: Delivery) -> Ticket {
        let request = Request::Query { sql, params: &() };
        self.db().submit(request, delivery).expect("a request that can be queued")
    }

    /// Queues a text for the simple protocol.
    fn simple(&mut self, sql: &str) -> Ticket {
        let request = Request::Simple { sql };
        self.db().submit(request, Delivery::Events).expect("a request that can be queued")
    }

    /// One turn.
    ///
    /// # Errors
    ///
    /// What broke the connection.
    fn turn(&mut self) -> PgResult<()> {
        let told = &mut self.told;
        self.event_loop.turn(0, |connection| {
            while let Some(event) = connection.next_event()? {
                told.push(tell(&event));
            }
            Ok(())
        })
    }

    /// Waits for the next turn.
    fn wait(&mut self) {
        let due = &mut self.event_loop.members[0].due;
        *due = Some(due.map_or(self.limit, |due| due.min(self.limit)));
        self.event_loop.wait().expect("epoll");
        assert!(Instant::now() < self.limit, "it does not come; so far: {:?}", self.told);
    }

    /// Turns and waits until this event has come; takes all events up to it.
    #[track_caller]
    fn until(&mut self, event: &str) -> Vec<String> {
        loop {
            if let Some(place) = self.told.iter().position(|told| told == event) {
                return self.told.drain(..=place).collect();
            }
            if let Err(error) = self.turn() {
                panic!("the connection broke: {error}; before: {:?}", self.told);
            }
            if self.told.iter().all(|told| told != event) {
                self.wait();
            }
        }
    }

    /// Turns and waits until so many requests have ended; takes all events.
    #[track_caller]
    fn until_ended(&mut self, count: usize) -> Vec<String> {
        let ended = |told: &[String]| {
            let is_end = |told: &&String| *told == "complete" || told.starts_with("failed: ");
            told.iter().filter(is_end).count()
        };
        loop {
            self.turn().expect("a connection that works");
            if ended(&self.told) >= count {
                return std::mem::take(&mut self.told);
            }
            self.wait();
        }
    }

    /// Turns and waits until the connection breaks; the events before, and the error.
    fn until_broken(mut self) -> (Vec<String>, PgError) {
        loop {
            if let Err(error) = self.turn() {
                assert!(self.db().is_broken());
                return (self.told, error);
            }
            self.wait();
        }
    }
}

/// An event as a text, without its ticket.
fn tell(event: &Event<'_>) -> String {
    match event {
        Event::Ready => "ready".to_owned(),
        Event::Columns { columns, .. } => format!("{} columns", columns.len()),
        Event::Row { row, .. } => format!("row {}", row.get::<&str>(0).expect("a text")),
        Event::CommandComplete { tag, .. } => format!("command {tag}"),
        Event::Complete { .. } => "complete".to_owned(),
        Event::Failed { error, .. } => format!("failed: {error}"),
        Event::Notice(notice) => format!("notice {}", notice.message),
        Event::Notification(said) => format!("notification {} {}", said.channel, said.payload),
        Event::ParameterStatus { name, value } => format!("parameter {name} = {value}"),
        Event::MessagesDropped { count } => format!("dropped {count}"),
        other => panic!("an event that no test knows: {other:?}"),
    }
}

/// The messages of a row with one text.
fn text_row(text: &str) -> Vec<u8> {
    frames::data_row(&[Some(text.as_bytes())])
}

/// Plays a login, then answers simple queries: with themselves, until the client hangs up.
fn echo(conn: &mut FakeConn) -> testkit::fake::FakeResult {
    conn.login()?;
    loop {
        let frame = conn.receive()?;
        if frame.tag == b'X' {
            return Ok(());
        }
        let sql = frame.as_query()?;
        let answer = testkit::fake::Answer::rows(&[frames::Column::text("sql")]);
        conn.answer_query(&answer.row(&[Some(sql.as_bytes())]))?;
    }
}

#[test]
fn b23_the_example_brings_everything_to_its_end() {
    let server = testkit::shared();
    let url = server.url(server.superuser(), None, "postgres");
    let (mut report, wake_ups) = example::run(&url, 8).unwrap();
    let squares = (0..1000).filter(|n| ![100, 200, 300, 400, 500].contains(n)).map(|n| n * n);
    assert_eq!(report.sum, 8 * squares.sum::<i64>());
    assert_eq!((report.large, report.notices), (8 << 20, 8));
    assert_eq!(report.failures.remove("ERROR: 22012: division by zero"), Some(16));
    // On a machine that stands still for long enough a nap is over before anybody looks at it.
    let late = "timed out after 20 ms while waiting for the answer to a query (patience = 20 ms)";
    let late = report.failures.remove(late).unwrap_or_default();
    assert_eq!(report.failures.len(), 0, "{report:?}");
    assert_eq!(report.answered + 16 + late, 8 * 1000);
    assert!(wake_ups > 0);
}
