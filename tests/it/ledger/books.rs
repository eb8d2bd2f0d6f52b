//! What a teller knows of its transfers, and what the ledger must therefore say.

use std::collections::{BTreeMap, HashMap};
use std::panic::Location;

use chopin_pg::{PgConnection, PgError, PgResult, Row, SqlState};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How many accounts there are; their numbers begin with 1.
pub(super) const ACCOUNTS: i32 = 100;

/// What is on each account in the beginning.
pub(super) const START: i64 = 1_000_000;

/// A nap, in seconds, that nobody ever waits for: whatever takes it has to be ended.
pub(super) const FOREVER: f64 = 3_600.0;

/// In place of a nap: the server refuses the transfer, but only when it commits.
const REFUSED: f64 = -1.0;

/// The error of that.
const REFUSAL: &str = "LE001";

/// Money that is moved from one account to another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    /// Unique; also the tag that every answer about it carries.
    pub(super) number: i64,
    pub(super) source: i32,
    pub(super) target: i32,
    pub(super) amount: i64,
    /// How long the COMMIT takes, in seconds; [`REFUSED`].
    pub(super) nap: f64,
}

impl Transfer {
    pub(super) fn params(&self) -> (i64, i32, i32, i64, f64) {
        (self.number, self.source, self.target, self.amount, self.nap)
    }

    /// The two changes of balances, as parameters of [`MOVE`](super::MOVE).
    pub(super) fn moves(&self) -> [(i32, i64, i64); 2] {
        let mut moves =
            [(self.source, -self.amount, self.number), (self.target, self.amount, self.number)];
        // In the order in which everybody locks accounts.
        moves.sort();
        moves
    }
}

/// What is known of a transfer that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It must be in the log.
    Committed,
    /// It must not be in the log.
    Undone,
    /// It may be either.
    Unknown,
}

/// What is known of a transfer whose commit ended in this way.
pub(super) fn fate_of<T>(commit: &PgResult<T>) -> Fate {
    let error = match commit {
        Ok(_) => return Fate::Committed,
        Err(error) => error,
    };
    match error {
        _ if error.is_safe_to_retry() => Fate::Undone,
        PgError::RolledBack => Fate::Undone,
        PgError::Server(error) if !error.severity.ends_session() => Fate::Undone,
        // Among the last: a neighbour's cancel that has hit something which may have committed.
        _ => Fate::Unknown,
    }
}

/// What is noted of a transfer that has ended.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "place and excuse are there to be printed")]
pub(super) struct Note {
    pub(super) number: i64,
    pub(super) fate: Fate,
    /// Where it was noted.
    place: &'static Location<'static>,
    excuse: Excuse,
}

/// What happens while transfers are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    Committed,
    Undone,
    Unknown,
    Tag,
    Audit,
    Retried,
    Timeout,
    NotSent,
    Cancelled,
    CancelledByNeighbour,
    Refused,
    Conflict,
    RolledBack,
    NotRun,
    InFailedTransaction,
    ConnectionLost,
    ConnectionDropped,
    Discarded,
    RowsDropped,
    RowsCancelled,
    PipelineDropped,
    TransactionDropped,
    SavepointDropped,
    CursorDropped,
    LeftInTransaction,
}

/// How often each of that has happened.
pub(super) type Tally = BTreeMap<Seen, u64>;

/// What explains the errors that a teller meets. Any other one is a failure of the test.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Excuse {
    /// It has a deadline that may come.
    pub(super) deadline: bool,
    /// Something before it had one.
    pub(super) neighbour: bool,
    /// Somebody cancels.
    pub(super) cancel: bool,
    /// The connection is lost.
    pub(super) loss: bool,
}

/// The notes of one teller.
pub(super) struct Books {
    pub(super) random: StdRng,
    /// The last number that was given out.
    last: i64,
    notes: Vec<Note>,
    pub(super) tally: Tally,
    /// What may go wrong at present.
    pub(super) excuse: Excuse,
    /// Whether the transfers take forever at present, so that what is to end them hits for sure.
    pub(super) takes_forever: bool,
}

impl Books {
    /// The notes of the teller with this number.
    pub(super) fn new(seed: u64, teller: u32) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed ^ u64::from(teller) << 32),
            last: i64::from(teller) << 40,
            notes: Vec::new(),
            tally: Tally::new(),
            excuse: Excuse::default(),
            takes_forever: false,
        }
    }

    /// Whether to do something that is done so often in a hundred times.
    pub(super) fn percent(&mut self, share: u32) -> bool {
        self.random.random_range(0..100) < share
    }

    /// A number that nobody else has.
    pub(super) fn tag(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    /// The next transfer.
    pub(super) fn transfer(&mut self) -> Transfer {
        let short = self.short_transfer();
        if self.takes_forever { Transfer { nap: FOREVER, ..short } } else { short }
    }

    /// The next transfer, which does not take forever in any case: somebody waits for its end.
    pub(super) fn short_transfer(&mut self) -> Transfer {
        let number = self.tag();
        let source = self.random.random_range(1..=ACCOUNTS);
        let target = (source + self.random.random_range(0..ACCOUNTS - 1)) % ACCOUNTS + 1;
        let nap = match self.random.random_range(0..100) {
            0..4 => self.random.random_range(0.000_1..0.004),
            4..7 => REFUSED,
            _ => 0.0,
        };
        Transfer { number, source, target, amount: self.random.random_range(1..100), nap }
    }

    /// It has happened.
    pub(super) fn saw(&mut self, what: Seen) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// A transfer has come to its end.
    #[track_caller]
    pub(super) fn close(&mut self, transfer: &Transfer, fate: Fate) {
        let is_possible = (0.0..FOREVER).contains(&transfer.nap);
        assert!(is_possible || fate != Fate::Committed, "{transfer:?} cannot be committed");
        self.saw(match fate {
            Fate::Committed => Seen::Committed,
            Fate::Undone => Seen::Undone,
            Fate::Unknown => Seen::Unknown,
        });
        let (place, excuse) = (Location::caller(), self.excuse);
        self.notes.push(Note { number: transfer.number, fate, place, excuse });
    }

    /// A transfer has come to its end in this way.
    #[track_caller]
    pub(super) fn settle<T>(&mut self, transfer: &Transfer, commit: &PgResult<T>) {
        if let Err(error) = commit {
            self.note(error, self.excuse);
        }
        self.close(transfer, fate_of(commit));
    }

    /// Counts an error, which must have an excuse.
    #[track_caller]
    pub(super) fn note(&mut self, error: &PgError, excuse: Excuse) {
        let (what, is_excused) = match error {
            PgError::Timeout(_) => (Seen::Timeout, excuse.deadline),
            PgError::NotSent(_) => (Seen::NotSent, excuse.deadline || excuse.loss),
            PgError::CancelledByNeighbour { .. } => {
                (Seen::CancelledByNeighbour, excuse.deadline || excuse.neighbour)
            }
            PgError::Io(_) | PgError::ConnectionClosed(_) => (Seen::ConnectionLost, excuse.loss),
            PgError::RolledBack => (Seen::RolledBack, true),
            PgError::NotRun(_) => (Seen::NotRun, true),
            PgError::Server(error) => match error.code {
                SqlState::QUERY_CANCELED => (Seen::Cancelled, excuse.cancel),
                SqlState::ADMIN_SHUTDOWN => (Seen::ConnectionLost, excuse.loss),
                SqlState::DEADLOCK_DETECTED | SqlState::SERIALIZATION_FAILURE => {
                    (Seen::Conflict, true)
                }
                SqlState::IN_FAILED_SQL_TRANSACTION => (Seen::InFailedTransaction, true),
                code => (Seen::Refused, code.as_str() == REFUSAL),
            },
            _ => panic!("nothing excuses this: {error}"),
        };
        assert!(is_excused, "{excuse:?} does not excuse this: {error}");
        self.saw(what);
    }

    /// What was noted, to be compared with the ledger.
    pub(super) fn into_notes(self) -> (Vec<Note>, Tally) {
        (self.notes, self.tally)
    }
}

/// Checks that all rows carry this tag, and that there are so many.
#[track_caller]
pub(super) fn check_tags(rows: &[Row], count: usize, tag: i64) {
    assert_eq!(rows.len(), count, "the answer to {tag}");
    for row in rows {
        assert_eq!(row.get::<i64>(0).expect("a tag"), tag, "another's answer");
    }
}

/// Compares what all tellers know with what is in the database, when nobody works on it any more;
/// returns how many of the transfers of which that was unknown were committed.
pub(super) fn compare(db: &mut PgConnection, notes: &HashMap<i64, Note>) -> usize {
    let rows = db.query("select number from log order by number", &[]).expect("the log");
    let log: Vec<i64> = rows.iter().map(|row| row.get(0).expect("a number")).collect();
    let doubled: Vec<_> = log.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    let find = |fate, is_in_log| {
        let is_one = |note: &&Note| {
            note.fate == fate && log.binary_search(&note.number).is_ok() == is_in_log
        };
        notes.values().filter(is_one).collect::<Vec<_>>()
    };
    let lost = find(Fate::Committed, false);
    assert!(lost.is_empty(), "lost: {lost:?}");
    let not_undone = find(Fate::Undone, true);
    assert!(not_undone.is_empty(), "committed all the same: {not_undone:?}");
    let invented: Vec<_> = log.iter().filter(|number| !notes.contains_key(number)).collect();
    assert!(invented.is_empty(), "nobody has asked for {invented:?}");

    let sql = "select number from log where nap = $1 or nap < 0";
    let impossible = db.query(sql, &[&FOREVER]).expect("the log");
    assert!(impossible.is_empty(), "the server commits no such transfer");
    check_balances(db);
    find(Fate::Unknown, true).len()
}

/// Every balance is what it was, and what the log says.
fn check_balances(db: &mut PgConnection) {
    let sql = "with changes (account, change) as (
            select source, -amount from log union all select target, amount from log)
        select id, balance, $1::int8 + coalesce(sum(change), 0)::int8
        from accounts left join changes on account = id group by id, balance order by id";
    let rows = db.query(sql, &[&START]).expect("the accounts");
    assert_eq!(rows.len(), usize::try_from(ACCOUNTS).expect("a small number"));
    let mut sum = 0;
    for row in rows {
        let (id, balance, by_log): (i32, i64, i64) = row.to().expect("an account");
        assert_eq!(balance, by_log, "account {id}");
        sum += balance;
    }
    assert_eq!(sum, START * i64::from(ACCOUNTS));
}
