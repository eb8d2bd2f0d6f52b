//! Tellers of the non-blocking face: one thread drives all of their connections.

use std::time::{Duration, Instant};

use chopin_pg::connection::Deadline;
use chopin_pg::{
    Delivery, Drive, Event, Outcome, PgConfig, PgConnection, PgResult, Request, RowRef, Submit,
    Ticket, TransactionStatus,
};
use rand::Rng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{Shutdown, shutdown};

use super::books::{
    ACCOUNTS, Books, Excuse, FOREVER, Fate, Note, START, Seen, Tally, Transfer, check_tags, fate_of,
};
use super::{LOG, LONG, MOVE, STREAM, SUM, TRANSFER, connect_teller};

/// The most operations that a teller has open.
const WINDOW: usize = 6;

/// All tellers do so many operations each, many at a time; returns their notes.
pub(super) fn run(
    books: Vec<Books>,
    config: &PgConfig,
    operations: u32,
) -> Vec<(Vec<Note>, Tally)> {
    let teller = |books| Teller {
        books,
        db: connect_teller(config),
        open: Vec::new(),
        left: operations,
        phase: Phase::Working,
        had_deadline: false,
    };
    let mut tellers: Vec<Teller> = books.into_iter().map(teller).collect();
    loop {
        let mut again = false;
        for teller in &mut tellers {
            again |= teller.turn(config) == Drive::Again;
        }
        if tellers.iter().all(Teller::is_done) {
            break;
        }
        if !again {
            wait(&tellers);
        }
    }
    tellers.into_iter().map(|teller| teller.books.into_notes()).collect()
}

/// Waits until a source of a connection is ready or a deadline has come.
fn wait(tellers: &[Teller]) {
    let mut fds = Vec::new();
    for (fd, interest) in tellers.iter().flat_map(|teller| teller.db.sources()) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.read);
        flags.set(PollFlags::OUT, interest.write);
        fds.push(PollFd::from_borrowed_fd(fd, flags));
    }
    let next = tellers.iter().filter_map(Teller::deadline).min();
    // Without a deadline nothing is in flight, and a poll might wait forever: that is a failure.
    let left = next.map_or(LONG, |at| at.saturating_duration_since(Instant::now()));
    let left: Timespec = left.try_into().expect("a short time");
    match poll(&mut fds, Some(&left)) {
        Ok(0) => assert!(next.is_some(), "nobody waits for anything, and not all is done"),
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => panic!("poll: {error}"),
    }
}

/// What a teller is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It begins operations.
    Working,
    /// It begins no more, and cancels what is in flight until nothing is.
    Cancelling,
    /// The connection was cut.
    Lost,
}

struct Teller {
    books: Books,
    db: PgConnection,
    open: Vec<Operation>,
    /// How many operations are left to begin.
    left: u32,
    phase: Phase,
    /// A request on this connection had a deadline: its cancel may hit others.
    had_deadline: bool,
}

/// Something that was asked for, by one request or several.
struct Operation {
    kind: Kind,
    transfer: Option<Transfer>,
    parts: Vec<Part>,
    excuse: Excuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tag,
    Audit,
    /// A transfer in one request.
    Call,
    /// The same, with many rows.
    Stream,
    /// A transfer in three requests of one group.
    Group,
    /// BEGIN, a transfer, COMMIT in one group.
    TransactionInGroup,
    /// BEGIN, a transfer, COMMIT, each a group of its own.
    Transaction,
    /// Ends a transaction that has failed and was left open.
    Rollback,
}

/// One request.
struct Part {
    ticket: Ticket,
    delivery: Delivery,
    /// What every row begins with, and how many there are; `None` for a command.
    expected: Option<(i64, usize)>,
    /// Rows that have come as events.
    rows: usize,
    end: Option<PgResult<()>>,
}

impl Teller {
    fn is_done(&self) -> bool {
        self.left == 0 && self.is_idle()
    }

    fn is_idle(&self) -> bool {
        self.open.is_empty() && self.db.in_flight() == 0
    }

    fn deadline(&self) -> Option<Instant> {
        let again = Instant::now() + Duration::from_millis(2);
        let again = (self.phase == Phase::Cancelling).then_some(again);
        self.db.deadline().into_iter().chain(again).min()
    }

    fn turn(&mut self, config: &PgConfig) -> Drive {
        let drive = self.db.drive();
        if let Err(error) = self.take_events() {
            assert_eq!(self.phase, Phase::Lost, "{error}");
            assert!(self.open.is_empty(), "every ticket ends before that is told");
            self.connect(config);
        }
        if self.phase == Phase::Cancelling {
            if self.open.is_empty() {
                self.phase = Phase::Working;
            } else {
                self.db.cancel_query().expect("a cancel");
            }
        }
        if self.phase == Phase::Working {
            self.roll_back_if_left();
            self.begin_operations();
            self.disturb(config);
            self.db.flush();
        }
        // What was begun in this turn may have been taken back: nothing will wake this teller.
        if self.is_idle() && self.left > 0 { Drive::Again } else { drive }
    }

    fn connect(&mut self, config: &PgConfig) {
        self.db = connect_teller(config);
        (self.phase, self.had_deadline) = (Phase::Working, false);
    }

    /// Takes all events and checks them.
    ///
    /// # Errors
    ///
    /// What broke the connection.
    fn take_events(&mut self) -> PgResult<()> {
        while let Some(event) = self.db.next_event()? {
            let Some(ticket) = event.ticket() else {
                assert!(matches!(event, Event::Notice(_)), "nobody has asked for {event:?}");
                continue;
            };
            let place = self.open.iter_mut().enumerate().find_map(|(index, operation)| {
                let part = operation.parts.iter_mut().find(|part| part.ticket == ticket);
                part.map(|part| (index, operation.kind, part))
            });
            let Some((index, kind, part)) = place else { panic!("nobody waits for {event:?}") };
            assert!(part.end.is_none(), "there is nothing after the end: {event:?}");
            let end = match event {
                Event::Row { row, .. } => {
                    part.check_row(row, kind);
                    continue;
                }
                Event::Columns { .. } | Event::CommandComplete { .. } => continue,
                Event::Complete { .. } => Ok(()),
                Event::Failed { error, .. } => Err(error),
                event => panic!("nobody has asked for {event:?}"),
            };
            part.check_end(&end, self.db.take(ticket));
            part.end = Some(end);
            if self.open[index].parts.iter().all(|part| part.end.is_some()) {
                let operation = self.open.remove(index);
                operation.settle(&mut self.books);
            }
        }
        Ok(())
    }

    /// A group that begins a transaction and fails leaves it open.
    fn roll_back_if_left(&mut self) {
        if self.is_idle() {
            let status = self.db.transaction_status();
            assert_ne!(status, TransactionStatus::InTransaction, "a COMMIT was not done");
            if status == TransactionStatus::Failed {
                self.books.saw(Seen::LeftInTransaction);
                self.begin(Kind::Rollback, None, Excuse::default(), None);
            }
        }
    }

    fn begin_operations(&mut self) {
        let window = self.books.random.random_range(1..=WINDOW);
        while self.phase == Phase::Working && self.open.len() < window && self.left > 0 {
            self.left -= 1;
            self.begin_operation();
        }
    }

    fn begin_operation(&mut self) {
        let books = &mut self.books;
        let kind = match books.random.random_range(0..100) {
            0..15 => Kind::Tag,
            15..18 => Kind::Audit,
            18..40 => Kind::Call,
            40..50 => Kind::Stream,
            50..70 => Kind::Group,
            70..85 => Kind::TransactionInGroup,
            _ => Kind::Transaction,
        };
        let has_transfer = !matches!(kind, Kind::Tag | Kind::Audit);
        let mut transfer = has_transfer.then(|| books.short_transfer());
        // Of a transaction in several groups the COMMIT must not be taken back.
        let can_be_ended = has_transfer && kind != Kind::Transaction;
        let disturbance = if can_be_ended { books.random.random_range(0..100) } else { 100 };
        let mut limit = None;
        if disturbance < 12 {
            limit = Some(Duration::from_micros(books.random.random_range(0..8_000)));
            self.had_deadline = true;
        }
        if let (Some(transfer), 0..6 | 12..15) = (&mut transfer, disturbance) {
            transfer.nap = FOREVER;
        }
        if (12..15).contains(&disturbance) {
            self.phase = Phase::Cancelling;
        }
        let deadline = limit.is_some();
        let excuse = Excuse { deadline, neighbour: self.had_deadline, ..Excuse::default() };
        self.begin(kind, transfer, excuse, limit);
        if self.phase == Phase::Cancelling {
            for operation in &mut self.open {
                operation.excuse.cancel = true;
            }
        }
    }

    /// Queues the requests of an operation.
    fn begin(
        &mut self,
        kind: Kind,
        transfer: Option<Transfer>,
        excuse: Excuse,
        limit: Option<Duration>,
    ) {
        let delivery = if self.books.percent(50) { Delivery::Events } else { Delivery::Collect };
        let deadline = limit.and_then(|limit| Deadline::after(Instant::now(), "patience", limit));
        let one = Submit::new(delivery).deadline(deadline);
        let tag = transfer.map_or_else(|| self.books.tag(), |transfer| transfer.number);
        let mut requests = Requests { db: &mut self.db, parts: Vec::new() };
        match (kind, &transfer) {
            (Kind::Call, Some(transfer)) => {
                let request = Request::Query { sql: TRANSFER, params: &transfer.params() };
                requests.submit(request, one, Some((tag, 1)));
            }
            (Kind::Stream, Some(transfer)) => {
                let request = Request::Query { sql: STREAM, params: &transfer.params() };
                requests.submit(request, one, Some((tag, 50)));
            }
            (Kind::Group, Some(transfer)) => {
                for change in transfer.moves() {
                    let request = Request::Query { sql: MOVE, params: &change };
                    requests.submit(request, one.no_sync(), Some((tag, 1)));
                }
                let request = Request::Query { sql: LOG, params: &transfer.params() };
                requests.submit(request, one, Some((tag, 1)));
            }
            (Kind::TransactionInGroup, Some(transfer)) => {
                let transfer = transfer.params();
                let request = Request::Query { sql: TRANSFER, params: &transfer };
                requests.submit(Request::Query { sql: "begin", params: &() }, one.no_sync(), None);
                requests.submit(request, one.no_sync(), Some((tag, 1)));
                requests.submit(Request::Query { sql: "commit", params: &() }, one, None);
            }
            (Kind::Transaction, Some(transfer)) => {
                let transfer = transfer.params();
                let request = Request::Query { sql: TRANSFER, params: &transfer };
                requests.submit(Request::Simple { sql: "begin" }, one, None);
                requests.submit(request, one, Some((tag, 1)));
                requests.submit(Request::Simple { sql: "commit" }, one, None);
            }
            (Kind::Audit, _) => {
                let request = Request::Query { sql: SUM, params: &(tag,) };
                requests.submit(request, Submit::new(Delivery::Events), Some((tag, 1)));
            }
            (Kind::Rollback, _) => requests.submit(Request::Simple { sql: "rollback" }, one, None),
            _ => {
                let request = Request::Query { sql: "select $1::int8", params: &(tag,) };
                requests.submit(request, one, Some((tag, 1)));
            }
        }
        let parts = requests.parts;
        self.open.push(Operation { kind, transfer, parts, excuse });
    }

    /// Something is discarded, or the connection is cut or dropped, at random.
    fn disturb(&mut self, config: &PgConfig) {
        if self.phase != Phase::Working || self.open.is_empty() {
            return;
        }
        match self.books.random.random_range(0..400) {
            0..10 => {
                let place = self.books.random.random_range(0..self.open.len());
                self.discard(place);
            }
            10..14 => {
                // What is sent before the hang-up is a matter of luck.
                if self.books.percent(50) {
                    self.db.flush();
                }
                shutdown(&self.db, Shutdown::Both).expect("a socket that is connected");
                self.phase = Phase::Lost;
                for operation in &mut self.open {
                    operation.excuse.loss = true;
                }
            }
            14..16 => {
                if self.books.percent(50) {
                    self.db.flush();
                }
                for operation in std::mem::take(&mut self.open) {
                    operation.give_up(&mut self.books);
                }
                self.books.saw(Seen::ConnectionDropped);
                self.connect(config);
            }
            _ => {}
        }
    }

    /// Nobody wants the answer to an open operation any more.
    fn discard(&mut self, place: usize) {
        let is_short = |transfer: &Transfer| transfer.nap < FOREVER;
        let Operation { kind, transfer, parts, .. } = &self.open[place];
        // Its COMMIT must not be taken back; and of what takes forever somebody must know.
        if *kind == Kind::Transaction || !transfer.as_ref().is_none_or(is_short) {
            return;
        }
        for part in parts {
            self.db.discard(part.ticket);
        }
        self.books.saw(Seen::Discarded);
        self.open.remove(place).give_up(&mut self.books);
    }
}

/// The requests of an operation, while they are queued.
struct Requests<'c> {
    db: &'c mut PgConnection,
    parts: Vec<Part>,
}

impl Requests<'_> {
    fn submit(&mut self, request: Request<'_>, submit: Submit, expected: Option<(i64, usize)>) {
        let ticket = self.db.submit_with(request, submit).expect("a request that can be queued");
        let delivery = submit.delivery;
        self.parts.push(Part { ticket, delivery, expected, rows: 0, end: None });
    }
}

impl Part {
    /// Checks a row that has come as an event.
    fn check_row(&mut self, row: RowRef<'_>, kind: Kind) {
        let (tag, _) = self.expected.expect("a command has no rows");
        assert_eq!(row.get::<i64>(0).expect("a tag"), tag, "another's answer");
        if kind == Kind::Audit {
            let sum: i64 = row.get(1).expect("a sum");
            assert_eq!(sum, START * i64::from(ACCOUNTS), "the sum has changed");
        }
        self.rows += 1;
    }

    /// Checks the answer when it has come to its end.
    fn check_end(&self, end: &PgResult<()>, outcome: PgResult<Option<Outcome>>) {
        let (tag, count) = self.expected.unwrap_or_default();
        match (self.delivery, end, outcome) {
            (Delivery::Collect, Ok(()), Ok(Some(outcome))) => {
                check_tags(&outcome.into_rows(), count, tag);
            }
            (Delivery::Collect, Err(error), Err(taken)) => {
                assert_eq!(error.to_string(), taken.to_string());
            }
            (Delivery::Events, Ok(()), Ok(None)) => assert_eq!(self.rows, count, "{tag}"),
            (Delivery::Events, Err(_), Ok(None)) => {}
            (_, end, outcome) => panic!("{tag} ended as {end:?}, with {outcome:?}"),
        }
    }
}

impl Operation {
    /// All of its requests have ended.
    fn settle(self, books: &mut Books) {
        let ends: Vec<_> = self.parts.into_iter().filter_map(|part| part.end).collect();
        for error in ends.iter().filter_map(|end| end.as_ref().err()) {
            books.note(error, self.excuse);
        }
        let fate = match (self.kind, ends.as_slice()) {
            (Kind::Transaction, [begin, transfer, commit]) => {
                transaction_fate(begin, transfer, commit)
            }
            (_, [.., last]) => fate_of(last),
            (_, []) => panic!("an operation without a request"),
        };
        match (self.kind, &self.transfer) {
            (_, Some(transfer)) => books.close(transfer, fate),
            (Kind::Audit, None) if fate == Fate::Committed => books.saw(Seen::Audit),
            (Kind::Tag, None) if fate == Fate::Committed => books.saw(Seen::Tag),
            _ => {}
        }
    }

    /// Nobody will know what becomes of it.
    fn give_up(self, books: &mut Books) {
        if let Some(transfer) = &self.transfer {
            let fate = if transfer.nap < 0.0 { Fate::Undone } else { Fate::Unknown };
            books.close(transfer, fate);
        }
    }
}

/// What is known of a transfer between a BEGIN and a COMMIT that did not wait for each other.
fn transaction_fate(begin: &PgResult<()>, transfer: &PgResult<()>, commit: &PgResult<()>) -> Fate {
    match (begin, fate_of(transfer)) {
        // It was no part of a transaction.
        (Err(_), fate) => fate,
        (Ok(()), Fate::Undone) => Fate::Undone,
        (Ok(()), _) => fate_of(commit),
    }
}
