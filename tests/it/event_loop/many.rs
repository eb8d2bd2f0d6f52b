//! Many connections with many requests of all kinds, driven by one loop.

use std::collections::HashMap;

use chopin_pg::connection::Deadline;
use chopin_pg::{Outcome, RowRef, SqlState, Submit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// The most requests that a connection has in flight.
const WINDOW: usize = 16;

/// The length of a large answer, in bytes.
const LARGE: usize = 50_000;

/// What is asked for. Every answer carries the tag that was sent with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    /// One of a few statements.
    Cached,
    /// A statement that nobody has asked for before, and nobody will again.
    New,
    /// Fails when it is run; the error carries the tag.
    Failing,
    /// Fails when it is parsed; the error carries the tag.
    Unknown,
    /// Several rows.
    Rows,
    /// About 50 KB.
    Large,
    /// Takes a few milliseconds.
    Slow,
    /// By the simple protocol.
    Simple,
    /// Takes longer than it may, or almost.
    Late,
}

impl Kind {
    fn random(random: &mut StdRng) -> Self {
        match random.random_range(0..1000) {
            0..700 => Self::Cached,
            700..760 => Self::New,
            760..800 => Self::Failing,
            800..830 => Self::Unknown,
            830..910 => Self::Rows,
            910..920 => Self::Large,
            920..930 => Self::Slow,
            _ => Self::Simple,
        }
    }

    /// How many rows the answer to the request with this tag has; `None` if it fails.
    fn rows(self, tag: i64) -> Option<i64> {
        match self {
            Self::Failing | Self::Unknown => None,
            Self::Rows => Some(tag % 10),
            _ => Some(1),
        }
    }

    fn submit(self, tag: i64, delivery: Delivery, db: &mut PgConnection) -> PgResult<Ticket> {
        let mut query = |sql: &str| db.submit(Request::Query { sql, params: &(tag,) }, delivery);
        match self {
            Self::Cached => query(match tag % 4 {
                0 => "select $1",
                1 => "select $1 as tag, 'one'",
                2 => "select tag from (values ($1)) as answers (tag)",
                _ => "with answer as (select $1 as tag) select tag, tag + 1 from answer",
            }),
            Self::New => query(&format!("select $1 /* {tag} */")),
            Self::Failing => query("select ('tag ' || $1)::int4"),
            Self::Unknown => query(&format!("select $1 from \"tag {tag}\"")),
            Self::Rows => query("select $1, i from generate_series(1, $1 % 10) i"),
            Self::Large => query("select $1, repeat(md5($1::text), 1563)"),
            Self::Slow => query("select $1 from pg_sleep(0.001 + $1 % 4 * 0.001)"),
            Self::Simple => {
                let sql = format!("select {tag}::int8");
                db.submit(Request::Simple { sql: &sql }, delivery)
            }
            Self::Late => {
                let sql = "select $1 from pg_sleep(0.003)";
                let deadline = Deadline::after(
                    Instant::now(),
                    "patience",
                    Duration::from_millis(tag.unsigned_abs() % 8),
                );
                let submit = Submit::new(delivery).deadline(deadline);
                db.submit_with(Request::Query { sql, params: &(tag,) }, submit)
            }
        }
    }

    /// Checks that a row is an answer to the request with this tag.
    fn check(self, tag: i64, row: RowRef<'_>) {
        assert_eq!(row.get::<i64>(0).expect("a tag"), tag, "{self:?}");
        if self == Self::Large {
            assert_eq!(row.get::<&str>(1).expect("a text").len() / 1000, LARGE / 1000);
        }
    }

    /// Checks that an error is the one of the request with this tag.
    fn check_error(self, tag: i64, error: &PgError) {
        let (state, text) = match self {
            Self::Failing => (SqlState::INVALID_TEXT_REPRESENTATION, format!("\"tag {tag}\"")),
            Self::Unknown => (SqlState::UNDEFINED_TABLE, format!("\"tag {tag}\"")),
            _ => panic!("{self:?} {tag}: {error}"),
        };
        assert_eq!(error.sql_state(), Some(state), "{error}");
        assert!(error.to_string().contains(&text), "{self:?} {tag}: {error}");
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
    open: HashMap<Ticket, Open>,
}

/// All of it.
struct Work {
    requests: i64,
    /// Some requests are discarded, and some are given too little time.
    is_rough: bool,
    random: StdRng,
    shares: Vec<Share>,
    submitted: i64,
    ended: HashMap<Kind, i64>,
    discarded: i64,
    timed_out: i64,
}

impl Work {
    fn new(connections: usize, requests: i64, is_rough: bool) -> Self {
        Self {
            requests,
            is_rough,
            random: StdRng::seed_from_u64(0x00c4_0914),
            shares: (0..connections).map(|_| Share::default()).collect(),
            submitted: 0,
            ended: HashMap::new(),
            discarded: 0,
            timed_out: 0,
        }
    }

    /// Drives all connections until everything has ended.
    fn run(&mut self, config: &PgConfig) -> EventLoop {
        let mut event_loop = EventLoop::new().expect("epoll");
        for _ in &self.shares {
            event_loop.add(PgConnection::start_connect(config).expect("an address"));
        }
        let mut turns: Vec<usize> = (0..self.shares.len()).collect();
        loop {
            for index in turns {
                let turn = event_loop.turn(index, |db| {
                    self.take_events(index, db)?;
                    self.submit(index, db)
                });
                turn.unwrap_or_else(|error: PgError| panic!("connection {index}: {error}"));
            }
            let is_open = |share: &Share| !share.open.is_empty();
            if self.submitted == self.requests && !self.shares.iter().any(is_open) {
                return event_loop;
            }
            turns = event_loop.wait().expect("epoll");
        }
    }

    /// Takes all events of a connection and checks them.
    fn take_events(&mut self, index: usize, db: &mut PgConnection) -> PgResult<()> {
        let Share { is_ready, open } = &mut self.shares[index];
        while let Some(event) = db.next_event()? {
            let ticket = event.ticket();
            let request = ticket.and_then(|ticket| open.get_mut(&ticket));
            match (event, request) {
                (Event::Row { row, .. }, Some(request)) => {
                    assert_eq!(request.delivery, Delivery::Events);
                    request.kind.check(request.tag, row);
                    request.rows += 1;
                }
                (Event::Columns { .. } | Event::CommandComplete { .. }, Some(request)) => {
                    assert_eq!(request.delivery, Delivery::Events);
                }
                (event @ (Event::Complete { .. } | Event::Failed { .. }), Some(_)) => {
                    let (ticket, failure) = match event {
                        Event::Failed { ticket, error } => (ticket, Some(error)),
                        event => (event.ticket().expect("an end has a ticket"), None),
                    };
                    let request = open.remove(&ticket).expect("it is open");
                    *self.ended.entry(request.kind).or_default() += 1;
                    self.timed_out += i64::from(failure.is_some() && request.kind == Kind::Late);
                    let outcome = db.take(ticket);
                    if let (true, Some(PgError::CancelledByNeighbour { .. })) =
                        (self.is_rough, &failure)
                    {
                        // The cancel of a late one before it came too late for that one.
                        continue;
                    }
                    check_end(&request, failure, outcome);
                }
                (Event::Ready, None) => assert!(!std::mem::replace(is_ready, true)),
                (Event::ParameterStatus { .. }, None) => {}
                (event, _) => panic!("nobody has asked for {event:?}"),
            }
        }
        Ok(())
    }

    /// Queues a few requests.
    fn submit(&mut self, index: usize, db: &mut PgConnection) -> PgResult<()> {
        let Share { is_ready, open } = &mut self.shares[index];
        let window = self.random.random_range(1..=WINDOW);
        while *is_ready && open.len() < window && self.submitted < self.requests {
            self.submitted += 1;
            let tag = self.submitted;
            let is_late = self.is_rough && self.random.random_range(0..100) == 0;
            let kind = if is_late { Kind::Late } else { Kind::random(&mut self.random) };
            let delivery = if self.random.random() { Delivery::Events } else { Delivery::Collect };
            let ticket = kind.submit(tag, delivery, db)?;
            let request = Open { kind, tag, delivery, rows: 0 };
            assert!(open.insert(ticket, request).is_none(), "a ticket is given out once");
        }
        if self.is_rough && self.random.random_range(0..20) == 0 {
            if let Some(ticket) = open.keys().min().copied() {
                open.remove(&ticket);
                db.discard(ticket);
                self.discarded += 1;
            }
        }
        Ok(())
    }
}

/// Checks the end of a request: by its terminal event, and by what was collected.
fn check_end(request: &Open, failure: Option<PgError>, outcome: PgResult<Option<Outcome>>) {
    let Open { kind, tag, delivery, rows } = request;
    if let (Kind::Late, Some(PgError::Timeout(_) | PgError::NotSent(_))) = (kind, &failure) {
        return;
    }
    assert_eq!(failure.is_none(), kind.rows(*tag).is_some(), "{kind:?} {tag}: {failure:?}");
    if let Some(error) = &failure {
        kind.check_error(*tag, error);
    }
    match (outcome, delivery) {
        (Ok(None), Delivery::Events) => {
            assert_eq!(*rows, kind.rows(*tag).unwrap_or(0), "{kind:?} {tag}");
        }
        (Ok(Some(outcome)), Delivery::Collect) => {
            let rows = outcome.into_rows();
            assert_eq!(i64::try_from(rows.len()).ok(), kind.rows(*tag), "{kind:?} {tag}");
            for row in &rows {
                assert_eq!(row.get::<i64>(0).expect("a tag"), *tag, "{kind:?}");
            }
        }
        (Err(error), Delivery::Collect) => kind.check_error(*tag, &error),
        (outcome, _) => panic!("{kind:?} {tag}: {outcome:?}"),
    }
}

/// A small cache, so that statements are evicted and closed all the time.
fn config_of_many() -> PgConfig {
    config().statement_cache_capacity(8).io_timeout(4 * LONG)
}

#[test]
fn b23_one_loop_drives_200_connections_with_100_000_requests() {
    let mut work = Work::new(200, 100_000, false);
    let mut event_loop = work.run(&config_of_many());
    assert_eq!(work.ended.values().sum::<i64>(), 100_000);
    assert_eq!(work.ended.len(), 8, "of every kind: {:?}", work.ended);
    // And nothing more comes of any.
    for member in &mut event_loop.members {
        assert_eq!(member.connection.in_flight(), 0);
        assert!(member.connection.next_event().unwrap().is_none());
    }
}

#[test]
fn b23_h1_answers_keep_their_tags_whatever_is_late_or_discarded() {
    let mut work = Work::new(20, 10_000, true);
    let mut event_loop = work.run(&config_of_many());
    assert_eq!(work.ended.values().sum::<i64>() + work.discarded, 10_000);
    assert!(work.timed_out > 0 && work.discarded > 10, "{} {}", work.timed_out, work.discarded);
    for member in &mut event_loop.members {
        assert_usable(&mut member.connection);
    }
}
