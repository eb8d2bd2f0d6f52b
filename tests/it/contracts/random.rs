//! Random sessions: whatever is asked, answered, cut, discarded, late or broken off, each ticket
//! ends once, and what is told of it is what the server did.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chopin_pg::ExecutionMode;
use chopin_pg::engine::Deadline;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;

/// What is done in a session without trouble.
const STATEMENTS: [&str; 11] = [
    "select rows 0",
    "select rows 1",
    "select rows 3",
    "select rows 40",
    "select noisy 2",
    "set x",
    "commit",
    "select parse-error",
    "select bind-error",
    "select run-error 2",
    "select deferred",
];

/// What is done besides where there is trouble: it makes what was sent behind it stale, or is
/// written a second time.
const TROUBLESOME: [&str; 3] = ["discard all", "select acl 1", "select acl 2"];

/// A request of a session.
#[derive(Clone, Debug)]
enum Ask {
    Query(&'static str),
    Simple(&'static str),
    /// A statement with so many sets of parameters.
    Batch(&'static str, usize),
    Prepare(&'static str),
    /// A statement that was prepared.
    Run(Statement),
    Close(Statement),
    Sync,
}

impl Ask {
    /// The error that it meets at once, if any.
    fn fails(&self) -> Option<&'static str> {
        let (sql, is_run) = match self {
            Self::Query(sql) | Self::Simple(sql) | Self::Batch(sql, _) => (*sql, true),
            Self::Prepare(sql) => (*sql, false),
            Self::Run(statement) => (statement.sql(), true),
            Self::Close(_) | Self::Sync => return None,
        };
        match sql {
            "select parse-error" => Some("42601"),
            "select bind-error" if is_run => Some("22P02"),
            "select run-error 2" if is_run => Some("22012"),
            _ => None,
        }
    }

    fn runs_text(&self, text: &str) -> bool {
        match self {
            Self::Query(sql) | Self::Simple(sql) | Self::Batch(sql, _) => *sql == text,
            Self::Run(statement) => statement.sql() == text,
            Self::Prepare(_) | Self::Close(_) | Self::Sync => false,
        }
    }

    /// How often its parameter is among what was done, when it is complete.
    fn runs(&self) -> usize {
        match self {
            Self::Query(_) | Self::Simple(_) | Self::Run(_) => 1,
            Self::Batch(_, sets) => *sets,
            Self::Prepare(_) | Self::Close(_) | Self::Sync => 0,
        }
    }
}

/// The model: what becomes of the requests of a group, in order.
fn ends_of(group: &[Ask]) -> Vec<String> {
    let (mut committed, mut deferred, mut failure) = (0, false, None);
    for (at, ask) in group.iter().enumerate() {
        match ask.fails() {
            Some(code) => failure = Some((at, code)),
            // It meets the error that was deferred.
            None if ask.runs_text("commit") && deferred => failure = Some((at, "23503")),
            None if ask.runs_text("commit") => committed = at + 1,
            None => deferred |= ask.runs_text("select deferred"),
        }
        if failure.is_some() {
            break;
        }
    }
    let failure = failure.or(deferred.then(|| (group.len() - 1, "23503")));
    let end = |at: usize| match failure {
        Some((culprit, code)) if at == culprit => format!("failed: {code}"),
        Some((culprit, code)) if at > culprit => format!("failed: not run: {code}"),
        Some(_) if at >= committed => "failed: rolled back".to_owned(),
        _ => "complete".to_owned(),
    };
    (0..group.len()).map(end).collect()
}

/// How a session is disturbed.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    /// The connection ends somewhere.
    ends: bool,
    /// Requests are discarded, time out, and statements go stale.
    everything: bool,
}

/// A session in which everything happens at random.
struct Chaos {
    session: Session,
    random: StdRng,
    trouble: Trouble,
    /// What the server has said and has not come yet.
    on_the_way: Vec<u8>,
    asked: Vec<Ask>,
    deliveries: Vec<Delivery>,
    /// Where the open group begins, in `asked`.
    open_from: usize,
    /// What the model says of each request; nothing yet while its group is open.
    expected: Vec<String>,
    /// What was told at the end of each request, by its number.
    ends: HashMap<usize, String>,
    /// Requests whose end nobody wants to know.
    unwanted: HashSet<usize>,
    /// Statements that were prepared.
    statements: Vec<Statement>,
    now: Instant,
}

impl Chaos {
    fn new(seed: u64, trouble: Trouble) -> Self {
        let config = config()
            .statement_cache_capacity(4)
            .max_in_flight(20)
            .drain_timeout(Duration::from_secs(1 << 20));
        Self {
            session: Session::with(config),
            random: StdRng::seed_from_u64(seed),
            trouble,
            on_the_way: Vec::new(),
            asked: Vec::new(),
            deliveries: Vec::new(),
            open_from: 0,
            expected: Vec::new(),
            ends: HashMap::new(),
            unwanted: HashSet::new(),
            statements: Vec::new(),
            now: Instant::now(),
        }
    }

    /// Runs the session; the error that it was broken by, if it was.
    fn run(&mut self) -> Option<PgError> {
        for _ in 0..self.random.random_range(10..300) {
            match self.random.random_range(0..100) {
                0..30 => self.submit(),
                30..35 => self.end_group(),
                35..55 => self.send(),
                55..75 => self.receive(),
                75..95 => {
                    let most = self.random.random_range(1..20);
                    if let Err(error) = self.take_events(most) {
                        return Some(error);
                    }
                }
                95..99 if self.trouble.everything => self.disturb(),
                99 if self.trouble.ends => {
                    self.session.engine.hung_up(None);
                    break;
                }
                _ => {}
            }
        }
        self.finish().err()
    }

    fn any_ask(&mut self) -> Ask {
        let is_troublesome = self.trouble.everything && self.random.random_ratio(1, 8);
        let texts: &[&str] = if is_troublesome { &TROUBLESOME } else { &STATEMENTS };
        let sql = texts.choose(&mut self.random).expect("a text");
        let statement = self.statements.choose(&mut self.random).cloned();
        match (self.random.random_range(0..20), statement) {
            (0..2, _) if self.open_from == self.asked.len() => Ask::Simple(sql),
            // Each set of a COMMIT would be committed by itself.
            (2..4, _) if *sql != "commit" => Ask::Batch(sql, self.random.random_range(1..4)),
            (4..6, _) => Ask::Prepare(sql),
            (6..9, Some(statement)) => Ask::Run(statement),
            (9, Some(statement)) => Ask::Close(statement),
            (10, _) => Ask::Sync,
            _ => Ask::Query(sql),
        }
    }

    fn any_submit(&mut self, ask: &Ask) -> Submit {
        let told = [Delivery::Events, Delivery::Rows, Delivery::Collect, Delivery::Discard];
        let kept = [Delivery::Collect, Delivery::Discard];
        let deliveries = if matches!(ask, Ask::Prepare(_)) { &kept[..] } else { &told[..] };
        let mut submit = Submit::new(*deliveries.choose(&mut self.random).expect("a delivery"));
        submit.sync = matches!(ask, Ask::Simple(_) | Ask::Sync) || self.random.random_bool(0.5);
        if self.random.random_ratio(1, 5) {
            submit = submit.mode(ExecutionMode::Unnamed);
        }
        if self.trouble.everything && self.random.random_ratio(1, 10) {
            let patience = Duration::from_secs(self.random.random_range(0..50));
            // A drain that ends too late breaks the connection.
            let later = if submit.delivery == Delivery::Discard { 1 << 20 } else { 0 };
            let patience = patience + Duration::from_secs(later);
            submit = submit.deadline(Deadline::after(self.now, "io_timeout", patience));
        }
        submit
    }

    fn submit(&mut self) {
        let ask = self.any_ask();
        let submit = self.any_submit(&ask);
        let number = (self.session.tickets.len() + 1).to_string();
        let params = (number.as_str(),);
        let submitted = match &ask {
            Ask::Query(sql) => self.session.submit(Request::Query { sql, params: &params }, submit),
            Ask::Simple(sql) => {
                let text = format!("{sql}#{number}");
                self.session.submit(Request::Simple { sql: &text }, submit)
            }
            Ask::Batch(sql, count) => {
                let sets = vec![params; *count];
                self.session.submit(Request::Batch { sql, sets: &sets }, submit)
            }
            Ask::Prepare(sql) => self.session.submit(Request::Prepare { sql, types: &[] }, submit),
            Ask::Run(statement) => {
                self.session.submit(Request::Execute { statement, params: &params }, submit)
            }
            Ask::Close(statement) => self.session.submit(Request::Close { statement }, submit),
            Ask::Sync => self.session.submit(Request::Sync, submit),
        };
        match submitted {
            Ok(number) => {
                self.asked.push(ask);
                self.deliveries.push(submit.delivery);
                if submit.delivery == Delivery::Discard {
                    self.unwanted.insert(number);
                }
                if submit.sync {
                    self.close_group();
                }
            }
            Err(PgError::WouldBlock) => {
                if self.session.engine.is_full_of_open_group() {
                    self.end_group();
                }
            }
            // The open group was taken back: nothing more of it is run.
            Err(PgError::NotSent(_)) => self.end_group(),
            Err(error) => panic!("{ask:?}: {error}"),
        }
    }

    fn end_group(&mut self) {
        self.session.engine.end_group();
        self.close_group();
    }

    /// The model knows what becomes of the open group.
    fn close_group(&mut self) {
        self.expected.extend(ends_of(&self.asked[self.open_from..]));
        self.open_from = self.asked.len();
    }

    /// All of so many, or some.
    fn some_of(&mut self, all: usize) -> usize {
        if self.random.random_bool(0.4) { all } else { self.random.random_range(0..=all) }
    }

    fn send(&mut self) {
        let count = self.some_of(self.session.engine.send_pending().len());
        self.session.send_some(count);
        self.on_the_way.extend(self.session.server.said());
    }

    fn receive(&mut self) {
        let count = self.some_of(self.on_the_way.len());
        let rest = self.on_the_way.split_off(count);
        feed(&mut self.session.engine, &self.on_the_way);
        self.on_the_way = rest;
    }

    fn disturb(&mut self) {
        match self.random.random_range(0..5) {
            0 => self.session.server.go_stale("0A000"),
            1 => {
                self.now += Duration::from_secs(self.random.random_range(0..30));
                self.session.engine.handle_timeout(self.now);
                // Maybe the open group was taken back.
                if !self.session.engine.has_open_group() {
                    self.close_group();
                }
            }
            2 => self.session.engine.clear_statement_cache(),
            3 => self.statements.clear(),
            _ => {
                let tickets = self.session.tickets.len();
                if tickets > 0 {
                    let number = self.random.random_range(1..=tickets);
                    self.session.engine.discard(self.session.tickets[number - 1], None);
                    self.unwanted.insert(number);
                }
            }
        }
    }

    /// Takes at most so many events.
    fn take_events(&mut self, most: usize) -> PgResult<()> {
        for _ in 0..most {
            let Some(line) = self.session.told_one()? else { return Ok(()) };
            self.take_line(&line);
        }
        Ok(())
    }

    fn take_line(&mut self, line: &str) {
        let Some((number, what)) = line.split_once(' ') else { panic!("{line}") };
        let Ok(number) = number.parse::<usize>() else {
            assert!(["notice", "notification", "parameter"].contains(&number), "{line}");
            return;
        };
        assert!(!self.ends.contains_key(&number), "after its end: {line}");
        assert!(!self.unwanted.contains(&number), "to nobody: {line}");
        let delivery = self.deliveries[number - 1];
        if what == "complete" || what.starts_with("failed: ") {
            self.ends.insert(number, what.to_owned());
            if delivery == Delivery::Collect {
                self.take_result(number, what);
            }
        } else if let Some(tag) = what.strip_prefix("row ") {
            assert_eq!(tag, number.to_string(), "a row of another request");
            assert!(delivery != Delivery::Collect);
        } else {
            assert!(delivery == Delivery::Events, "{delivery:?}: {line}");
        }
    }

    fn take_result(&mut self, number: usize, end: &str) {
        match self.session.take(number) {
            Ok(Some(outcome)) => {
                assert_eq!(end, "complete");
                self.statements.extend(outcome.statement().cloned());
                let rows = outcome.into_rows();
                assert!(rows.iter().all(|row| row.get::<String>(0).unwrap() == number.to_string()));
            }
            Ok(None) => panic!("{number}: no result"),
            Err(error) => assert_eq!(end, format!("failed: {}", brief(&error))),
        }
        assert!(self.session.take(number).unwrap().is_none(), "a result is taken once");
    }

    /// Everything that is asked is answered.
    fn finish(&mut self) -> PgResult<()> {
        self.end_group();
        loop {
            self.on_the_way.extend(self.session.server.said());
            feed(&mut self.session.engine, &self.on_the_way);
            self.on_the_way.clear();
            self.take_events(usize::MAX)?;
            if self.session.send().is_empty() {
                return Ok(());
            }
        }
    }

    /// Each ticket has ended once, as it had to, whether the connection is whole or not.
    fn check(&self, broken: Option<&PgError>) {
        let committed = self.session.server.committed();
        for (ask, number) in self.asked.iter().zip(1..) {
            let times = committed.iter().filter(|tag| **tag == number.to_string()).count();
            assert!(times == 0 || times == ask.runs(), "{number} was done {times} times: {ask:?}");
            let Some(end) = self.ends.get(&number) else {
                assert!(self.unwanted.contains(&number), "{number} has no end");
                continue;
            };
            match end.as_str() {
                "complete" => assert_eq!(times, ask.runs(), "{number} is complete: {ask:?}"),
                "failed: io_timeout" => assert!(self.trouble.everything),
                "failed: closed" => assert!(broken.is_some()),
                _ => assert_eq!(times, 0, "{number} {end}, and was done: {ask:?}"),
            }
            if !self.trouble.everything && !end.ends_with("closed") {
                assert_eq!(*end, self.expected[number - 1], "{number}: {ask:?}");
            }
        }
    }

    /// The connection is as it was at the beginning: usable, and nothing has leaked.
    fn check_usable(&mut self) {
        self.statements.clear();
        self.asked.clear();
        let session = &mut self.session;
        session.assert_usable();
        session.assert_usable();
        let (known, there) = (session.engine.prepared_statements(), session.server.statements());
        assert!(there.len() <= known, "{there:?}, of which {known} are known");
        assert!(known <= session.engine.catalogue().len() + 1, "{known} are known");
    }
}

/// Plays so many random sessions.
fn play(seeds: std::ops::Range<u64>, trouble: Trouble) {
    for seed in seeds {
        let played = std::panic::catch_unwind(|| {
            let mut chaos = Chaos::new(seed, trouble);
            let broken = chaos.run();
            chaos.check(broken.as_ref());
            match broken {
                Some(error) => assert!(trouble.ends && brief(&error) == "closed", "{error}"),
                None => chaos.check_usable(),
            }
        });
        assert!(played.is_ok(), "the session with seed {seed} of {trouble:?}");
    }
}

#[test]
fn contract_1_h29_h47_random_sessions_end_as_the_model_says() {
    play(0..500, Trouble::default());
}

#[test]
fn contract_1_random_sessions_that_break_off_end_every_ticket_once() {
    play(1000..1500, Trouble { ends: true, ..Trouble::default() });
}

#[test]
fn contract_1_contract_2_h1_h14_random_trouble_never_mixes_an_answer() {
    play(2000..2500, Trouble { everything: true, ends: false });
    play(3000..3500, Trouble { everything: true, ends: true });
}
