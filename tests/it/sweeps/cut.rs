//! A recorded session in which an exchange is cut short at a byte, and the query behind it.

use std::ops::Range;
use std::time::{Duration, Instant};

use chopin_pg::connection::Deadline;
use chopin_pg::engine::Statement;
use chopin_pg::{Delivery, PgError, Request, Submit};
use testkit::frames::{self, Column, Frame};

use crate::replay::{Client, Log, Player, Recorded, Session};
use crate::support;

/// The query behind the exchange; its answer is 42.
const NEXT_QUERY: &str = "select $1::int4 + 1 as answer";

/// What happens in the middle of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// The deadline comes; the answer comes to its end later.
    Timeout,
    /// The deadline comes, and nothing more within the grace period.
    Silence,
    /// Nobody wants the answer any more.
    Discard,
    /// The server hangs up.
    HangUp,
}

/// Whose deadline comes, or who is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victims {
    All,
    First,
    Last,
}

/// When the next query is submitted and sent, if it can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Before the answer comes: it stands behind the exchange as in a pipeline.
    Before,
    /// After the fault.
    After,
}

/// How a session is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) delivery: Delivery,
    pub(super) fault: Fault,
    pub(super) victims: Victims,
    pub(super) next: Next,
    /// How many bytes of the answers in the last exchange come before the fault.
    pub(super) at: usize,
}

/// One exchange of a session: requests that are submitted together, and their answers.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// Its number, from 1.
    number: usize,
    /// The numbers of its requests.
    pub(super) requests: Range<usize>,
}

impl Exchange {
    /// What no session comes to.
    const NEVER: Self = Self { number: usize::MAX, requests: 0..0 };

    /// The last one of a session.
    pub(super) fn last(session: &Session, recorded: &Recorded) -> Self {
        let plan = Plan {
            delivery: Delivery::Events,
            fault: Fault::None,
            victims: Victims::All,
            next: Next::After,
            at: 0,
        };
        let mut cut = Cut::new(recorded, Self::NEVER, plan);
        (session.script)(&mut cut);
        Self { number: cut.over, requests: cut.last_requests }
    }

    /// Whether a request of it is one of those that the fault is about.
    pub(super) fn is_victim(&self, request: usize, victims: Victims) -> bool {
        self.requests.contains(&request)
            && match victims {
                Victims::All => true,
                Victims::First => request == self.requests.start,
                Victims::Last => request + 1 == self.requests.end,
            }
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) log: Log,
    /// The requests of the last exchange that had ended before the fault.
    pub(super) ended: Vec<usize>,
    /// The number of the next query; what it was refused with, if it was.
    pub(super) next: Result<usize, PgError>,
    pub(super) is_broken: bool,
    /// How long the answers in the last exchange are.
    pub(super) length: usize,
}

/// Carries out a script up to an exchange, and cuts that.
pub(super) struct Cut<'r> {
    plan: Plan,
    exchange: Exchange,
    player: Player<'r>,
    log: Log,
    /// How many exchanges are over.
    over: usize,
    /// The requests of the last one of them.
    last_requests: Range<usize>,
    /// How many requests have been submitted.
    submitted: usize,
    limit: Deadline,
    ended: Vec<usize>,
    next: Option<Result<usize, PgError>>,
    next_server: NextServer,
    length: usize,
}

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(1);

/// How long its late answer may take, unless the configuration says otherwise.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

impl<'r> Cut<'r> {
    /// Runs a session, with a fault in this exchange.
    pub(super) fn run(
        session: &Session,
        recorded: &'r Recorded,
        exchange: &Exchange,
        plan: Plan,
    ) -> Heard {
        let mut cut = Self::new(recorded, exchange.clone(), plan);
        (session.script)(&mut cut);
        Heard {
            is_broken: cut.player.engine.broken().is_some(),
            log: cut.log,
            ended: cut.ended,
            next: cut.next.expect("the last exchange came"),
            length: cut.length,
        }
    }

    fn new(recorded: &'r Recorded, exchange: Exchange, plan: Plan) -> Self {
        let limit = Deadline::after(Instant::now(), "io_timeout", LIMIT).expect("soon");
        Self {
            plan,
            exchange,
            player: Player::logged_in(recorded),
            log: Log::default(),
            over: 0,
            last_requests: 0..1,
            submitted: 0,
            limit,
            ended: Vec::new(),
            next: None,
            next_server: NextServer::default(),
            length: 0,
        }
    }

    /// Everything that is pending goes out; the next query's server sees its part.
    fn send(&mut self) {
        let server = &mut self.next_server;
        self.player.send_but(|frame| server.takes(frame));
    }

    /// The answers come, up to so many bytes.
    fn hear(&mut self, most: usize) {
        let mut left = most;
        loop {
            self.send();
            let count = self.player.available().min(left);
            if count == 0 {
                return;
            }
            self.player.feed(count);
            self.length += count;
            left -= count;
            self.log.hear(&mut self.player.engine);
        }
    }

    fn cut(&mut self) {
        self.send();
        if self.plan.next == Next::Before {
            self.submit_next();
        }
        let at = if self.plan.fault == Fault::None { usize::MAX } else { self.plan.at };
        self.hear(at);
        let has_ended = |request: &usize| self.log.about(*request).any(is_terminal);
        self.ended = self.exchange.requests.clone().filter(has_ended).collect();
        self.fault();
        if self.plan.next == Next::After {
            self.submit_next();
        }
        if self.plan.fault == Fault::Silence {
            self.player.engine.handle_timeout(self.limit.at + DRAIN_TIMEOUT);
        }
        self.log.hear(&mut self.player.engine);
        if self.player.engine.broken().is_some() {
            return;
        }
        self.hear(usize::MAX);
        // The server answers in order: the next query comes behind all that.
        let answer = std::mem::take(&mut self.next_server.answer);
        support::feed(&mut self.player.engine, &answer);
        self.log.hear(&mut self.player.engine);
        let engine = &self.player.engine;
        assert!(engine.broken().is_some() || engine.in_flight() == 0, "{}", self.log.text());
    }

    fn fault(&mut self) {
        let requests = self.exchange.requests.clone();
        let is_hit = |request: &usize| {
            self.exchange.is_victim(*request, self.plan.victims) && !self.ended.contains(request)
        };
        let hit: Vec<usize> = requests.filter(is_hit).collect();
        let engine = &mut self.player.engine;
        match self.plan.fault {
            Fault::None => {}
            Fault::Timeout | Fault::Silence => {
                if !hit.is_empty() {
                    // What has come so far has not moved it.
                    assert_eq!(engine.deadline(), Some(self.limit.at));
                }
                engine.handle_timeout(self.limit.at);
            }
            Fault::Discard => {
                let patience = Deadline::after(self.limit.at, "drain_timeout", DRAIN_TIMEOUT);
                hit.iter().for_each(|request| engine.discard(self.log.ticket(*request), patience));
            }
            Fault::HangUp => engine.hung_up(None),
        }
        self.log.hear(engine);
    }

    fn submit_next(&mut self) {
        let request = Request::Query { sql: NEXT_QUERY, params: &(41,) };
        let submitted = self.player.engine.submit(request, Submit::new(self.plan.delivery));
        self.next = Some(submitted.map(|ticket| self.log.submitted(ticket)));
        self.next_server.is_awaited = true;
        self.send();
    }
}

impl Client for Cut<'_> {
    fn delivery(&self) -> Delivery {
        self.plan.delivery
    }

    fn submit(&mut self, request: Request<'_>, submit: Submit) {
        self.submitted += 1;
        let is_timed = matches!(self.plan.fault, Fault::Timeout | Fault::Silence);
        let is_limited = is_timed && self.exchange.is_victim(self.submitted, self.plan.victims);
        let submit = submit.deadline(is_limited.then_some(self.limit));
        let ticket = self.player.engine.submit(request, submit).expect("a request");
        self.log.submitted(ticket);
    }

    fn end_group(&mut self) {
        self.player.engine.end_group();
    }

    fn settle(&mut self) {
        self.over += 1;
        self.last_requests = self.last_requests.end..self.submitted + 1;
        if self.over == self.exchange.number {
            self.cut();
        } else {
            self.hear(usize::MAX);
        }
    }

    fn statement(&mut self) -> Statement {
        self.log.statement.take().expect("a statement was prepared")
    }
}

/// Whether a line of the log is the end of its request.
pub(super) fn is_terminal(line: &str) -> bool {
    line == "complete" || line.starts_with("failed: ")
}

/// The server's answer to the next query.
#[derive(Debug, Default)]
struct NextServer {
    /// The query has been submitted.
    is_awaited: bool,
    /// Its first message has come.
    has_begun: bool,
    answer: Vec<u8>,
}

impl NextServer {
    /// Takes a message if it belongs to the next query: its own ones, and Close before it.
    fn takes(&mut self, frame: &Frame) -> bool {
        let is_first = match frame.tag {
            b'C' => true,
            b'P' => frame.as_parse().expect("a Parse").sql == NEXT_QUERY,
            _ => false,
        };
        self.has_begun |= self.is_awaited && is_first;
        if !self.has_begun {
            return false;
        }
        self.answer.extend(match frame.tag {
            b'C' => frames::close_complete(),
            b'P' => frames::parse_complete(),
            b'B' => frames::bind_complete(),
            b'D' => frames::row_description(&[Column::int4("answer").binary()]),
            b'E' => {
                let row = frames::data_row(&[Some(&42_i32.to_be_bytes())]);
                [row, frames::command_complete("SELECT 1")].concat()
            }
            b'S' => frames::ready_for_query(b'I'),
            other => panic!("the next query has a message {:?}", char::from(other)),
        });
        true
    }
}
