//! The contracts of the engine (docs/DESIGN.md, "The engine"), one by one: engines without a socket
//! against a scripted server, and against a random one.

mod again;
mod answers;
mod cancel;
mod groups;
mod random;
mod sending;
mod server;
mod statements;
mod time;

use chopin_pg::engine::{
    Delivery, Encryption, Engine, Event, Outcome, ParamSets, Request, Statement, Submit, Ticket,
};
use chopin_pg::{PgConfig, PgError, PgResult};
use testkit::frames::{self, Frame, FrameBuffer};

use self::server::Server;
use crate::support::feed;

/// An engine that has logged in, and the server at the other end of its wire.
#[derive(Debug)]
struct Session {
    engine: Engine,
    server: Server,
    tickets: Vec<Ticket>,
}

impl Session {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: PgConfig) -> Self {
        let mut engine = Engine::start(&config, Encryption::None, None).expect("a configuration");
        let startup = engine.send_pending().len();
        engine.sent(startup);
        feed(&mut engine, &frames::authentication_ok());
        feed(&mut engine, &frames::backend_key_data(1, &[1; 4]));
        feed(&mut engine, &frames::ready_for_query(b'I'));
        let mut session = Self { engine, server: Server::default(), tickets: Vec::new() };
        assert_eq!(session.told(), ["ready"]);
        session
    }

    /// Submits a request; its number, counted from 1.
    fn submit(&mut self, request: Request<'_>, submit: Submit) -> PgResult<usize> {
        let ticket = self.engine.submit(request, submit)?;
        self.tickets.push(ticket);
        Ok(self.tickets.len())
    }

    /// Submits a query whose rows hold its own number.
    fn submit_query(&mut self, sql: &str, submit: Submit) -> PgResult<usize> {
        let number = (self.tickets.len() + 1).to_string();
        self.submit(Request::Query { sql, params: &(number.as_str(),) }, submit)
    }

    /// Submits a query as a group of its own, which delivers events.
    fn query(&mut self, sql: &str) {
        self.submit_query(sql, Submit::new(Delivery::Events)).expect("it is queued");
    }

    /// Submits a query as a part of the open group.
    fn add(&mut self, sql: &str) {
        let submit = Submit::new(Delivery::Events).no_sync();
        self.submit_query(sql, submit).expect("it is queued");
    }

    /// Submits queries as one group.
    fn group(&mut self, texts: &[&str]) {
        for sql in texts {
            self.add(sql);
        }
        self.engine.end_group();
    }

    /// Submits one statement with several sets of parameters.
    fn batch(&mut self, sql: &str, sets: impl ParamSets) {
        let submit = Submit::new(Delivery::Events);
        self.submit(Request::Batch { sql, sets: &sets }, submit).expect("it is queued");
    }

    /// Prepares a statement to the end.
    fn prepare(&mut self, sql: &str) -> Statement {
        let request = Request::Prepare { sql, types: &[] };
        let number = self.submit(request, Submit::new(Delivery::Collect)).expect("it is queued");
        self.turn();
        assert_eq!(self.told(), [format!("{number} complete")]);
        let outcome = self.take(number).expect("it is prepared").expect("an outcome");
        outcome.into_statement().expect("a statement")
    }

    /// Prepares a statement for nobody.
    fn prepare_discarded(&mut self, sql: &str) {
        let request = Request::Prepare { sql, types: &[] };
        self.submit(request, Submit::new(Delivery::Discard)).expect("it is queued");
    }

    /// Runs a prepared statement whose rows hold the request's own number.
    fn execute(&mut self, statement: &Statement) {
        let number = (self.tickets.len() + 1).to_string();
        let request = Request::Execute { statement, params: &(number.as_str(),) };
        self.submit(request, Submit::new(Delivery::Events)).expect("it is queued");
    }

    fn last(&self) -> Ticket {
        *self.tickets.last().expect("a ticket")
    }

    /// The finished result of the request with this number.
    fn take(&mut self, number: usize) -> PgResult<Option<Outcome>> {
        self.engine.take(self.tickets[number - 1])
    }

    /// Everything that may be sent goes to the server; returns the messages.
    fn send(&mut self) -> Vec<Frame> {
        let count = self.engine.send_pending().len();
        self.send_some(count)
    }

    /// `count` bytes go to the server; returns the messages that they complete.
    fn send_some(&mut self, count: usize) -> Vec<Frame> {
        let bytes = self.engine.send_pending()[..count].to_vec();
        self.engine.sent(count);
        self.server.receive(&bytes)
    }

    /// What the server has said comes.
    fn receive(&mut self) {
        let said = self.server.said();
        feed(&mut self.engine, &said);
    }

    /// Everything goes, and the answers come; returns the messages that went.
    fn turn(&mut self) -> Vec<Frame> {
        let sent = self.send();
        self.receive();
        sent
    }

    /// Bytes come that the server did not say.
    fn hear(&mut self, messages: &[Vec<u8>]) {
        feed(&mut self.engine, &messages.concat());
    }

    /// The events so far, a line each: the number of the request, and what is told of it.
    #[track_caller]
    fn told(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(line) = self.told_one().expect("the connection is whole") {
            all.push(line);
        }
        all
    }

    /// The events up to the error that broke the connection, and that error.
    #[track_caller]
    fn told_to_the_end(&mut self) -> (Vec<String>, PgError) {
        let mut all = Vec::new();
        loop {
            match self.told_one() {
                Ok(line) => all.push(line.expect("the connection is broken")),
                Err(error) => return (all, error),
            }
        }
    }

    fn told_one(&mut self) -> PgResult<Option<String>> {
        Ok(self.engine.next_event()?.map(|event| line(&self.tickets, &event)))
    }

    /// The next query gets its own, right answer, and nothing is left over.
    #[track_caller]
    fn assert_usable(&mut self) {
        assert_eq!(self.told(), [""; 0], "nothing more is told of what was before");
        let number = self.tickets.len() + 1;
        self.query("select rows 2");
        let mut lines = Vec::new();
        while !self.turn().is_empty() {
            lines.extend(self.told());
        }
        let (row, end) = (format!("{number} row {number}"), format!("{number} complete"));
        let rows: Vec<_> = lines.iter().filter(|line| line.contains(" row ")).collect();
        assert_eq!(rows, [&row, &row], "{lines:?}");
        assert_eq!(lines.last(), Some(&end));
        assert_eq!((self.engine.in_flight(), self.engine.send_pending()), (0, &[][..]));
    }
}

fn config() -> PgConfig {
    PgConfig::new("localhost", 5432, "frederic", "secret", "music")
}

/// An event as a line, with the number of its request in `tickets`.
fn line(tickets: &[Ticket], event: &Event<'_>) -> String {
    let what = match event {
        Event::Ready => "ready".to_owned(),
        Event::Columns { columns, .. } => format!("columns {}", columns.len()),
        Event::Row { row, .. } => format!("row {}", row.get::<&str>(0).expect("a tag")),
        Event::CommandComplete { tag, .. } => tag.to_string(),
        Event::Complete { .. } => "complete".to_owned(),
        Event::Failed { error, .. } => format!("failed: {}", brief(error)),
        Event::Notice(notice) => format!("notice {}", notice.message),
        Event::Notification(notification) => format!("notification {}", notification.payload),
        Event::ParameterStatus { name, value } => format!("parameter {name} = {value}"),
        other => format!("{other:?}"),
    };
    match event.ticket() {
        Some(ticket) => {
            let place = tickets.iter().position(|known| *known == ticket);
            format!("{} {what}", place.expect("a ticket that was given out") + 1)
        }
        None => what,
    }
}

/// What kind of error it is, in a word or two: the SQLSTATE of a server's.
fn brief(error: &PgError) -> String {
    match error {
        PgError::Server(error) => error.code.as_str().to_owned(),
        PgError::RolledBack => "rolled back".to_owned(),
        PgError::NotRun(why) => format!("not run: {}", brief(why)),
        PgError::NotSent(why) => format!("not sent: {}", brief(why)),
        PgError::Timeout(timeout) => timeout.setting.to_owned(),
        PgError::ConnectionClosed(_) => "closed".to_owned(),
        PgError::Io(error) => format!("{:?}", error.kind()),
        PgError::Protocol(_) => "protocol".to_owned(),
        PgError::Usage(_) => "usage".to_owned(),
        PgError::CancelledByNeighbour { undone: true, .. } => "hit".to_owned(),
        PgError::CancelledByNeighbour { undone: false, .. } => "hit, maybe half done".to_owned(),
        other => format!("{other:?}"),
    }
}

/// The tags of messages, as a text.
fn tags(frames: &[Frame]) -> String {
    frames.iter().map(|frame| char::from(frame.tag)).collect()
}

/// The messages that are pending, which stay so.
fn pending(engine: &Engine) -> Vec<Frame> {
    let mut buffer = FrameBuffer::new();
    buffer.push(engine.send_pending());
    std::iter::from_fn(|| buffer.take_frame().expect("well-formed messages")).collect()
}

/// An ErrorResponse.
fn error(code: &str) -> Vec<u8> {
    frames::error_response(&[(b'S', "ERROR"), (b'V', "ERROR"), (b'C', code), (b'M', "no")])
}

/// A FATAL ErrorResponse.
fn fatal(code: &str) -> Vec<u8> {
    frames::error_response(&[(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', "the end")])
}
