//! The ledger: eight connections move money between accounts by every means that the driver has,
//! and are disturbed at random points.
//!
//! A *transfer* moves an amount between two accounts, and writes its unique number into a log in
//! the same transaction. What became of it is known to its *teller*, who has one connection, and
//! notes it:
//!
//! - committed: the driver has said so. It must be in the log, once.
//! - undone: the driver has said that it failed, or was not run. It must not be in the log.
//! - unknown: a timeout, a connection that was lost during the COMMIT, something that was dropped or
//!   discarded. It may be in the log, at most once.
//!
//! In the end the notes are compared with the log, and the log with the balances. The transfer's
//! number is also the *tag* that every answer about it carries, so that no answer can be taken for
//! that to something else. All errors have to be ones that the teller can expect at that point.
//!
//! | file | what lives there |
//! |---|---|
//! | `books.rs` | transfers, what is known of them, the comparison in the end |
//! | `blocking.rs` | tellers of the blocking face, a thread for each |
//! | `steps.rs` | what they do in transactions |
//! | `assistant.rs` | what disturbs them from another thread |
//! | `event_loop.rs` | tellers of the non-blocking face, all in one thread |
//!
//! A new kind of operation is a function in `blocking.rs` and an arm of its `operation`; one that
//! can be a part of a transaction is the same in `steps.rs`.
//!
//! Nothing is left to luck that has to occur: a transfer can be told to sleep for an hour in its
//! COMMIT (by a deferred trigger), so that a deadline or a cancel surely comes before its end. With
//! the same seed every teller asks for the same, but the order among them is up to the machine.

mod assistant;
mod blocking;
mod books;
mod event_loop;
mod steps;

use std::collections::HashMap;
use std::time::Duration;

use chopin_pg::{PgConfig, PgConnection};

use self::books::{ACCOUNTS, Books, START, Seen, Tally};
use crate::support::*;

/// How many tellers there are of each face.
const BLOCKING: u32 = 5;
const NON_BLOCKING: u32 = 3;

/// Longer than anything takes that comes to an end.
const LONG: Duration = Duration::from_secs(120);

/// A whole transfer in one statement; returns its number.
const TRANSFER: &str = "select transfer($1, $2, $3, $4, $5)";

/// A transfer in three: two changes of a balance, and the entry in the log. Each returns the
/// transfer's number.
const MOVE: &str = "update accounts set balance = balance + $2 where id = $1 returning $3::int8";
const LOG: &str = "insert into log values ($1, $2, $3, $4, $5) returning number";

/// A transfer with many rows, each with its number.
const STREAM: &str = "with done as materialized (select transfer($1, $2, $3, $4, $5) as number)
    select number, i from done, generate_series(1, 50) i";

/// The sum of all balances, and a tag.
const SUM: &str = "select $1::int8, sum(balance)::int8 from accounts";

/// The tables, and what a transfer does.
fn schema(name: &str) -> String {
    format!(
        "create schema {name};
        set search_path to {name};
        create table accounts (id int4 primary key, balance int8 not null);
        insert into accounts select id, {START} from generate_series(1, {ACCOUNTS}) id;
        -- Without a key, so that a number can be there twice.
        create table log (number int8, source int4, target int4, amount int8, nap float8);
        create function transfer(number int8, source int4, target int4, amount int8, nap float8)
        returns int8 language plpgsql as $$ begin
            update accounts set balance = balance + case id when source then -amount else amount end
            where id = least(source, target);
            update accounts set balance = balance + case id when source then -amount else amount end
            where id = greatest(source, target);
            insert into log values (number, source, target, amount, nap);
            return number;
        end $$;
        create function at_commit() returns trigger language plpgsql as $$ begin
            if new.nap < 0 then
                raise 'transfer % is refused', new.number using errcode = 'LE001';
            end if;
            perform pg_sleep(new.nap);
            return null;
        end $$;
        create constraint trigger at_commit after insert on log deferrable initially deferred
        for each row when (new.nap <> 0) execute function at_commit()"
    )
}

/// The configuration of the tellers: deadlocks end soon, and so do sessions whose client has gone.
/// A small statement cache, so that statements are evicted and closed all the time.
fn config_of_tellers(schema: &str) -> PgConfig {
    let options = format!(
        "-c search_path={schema} -c deadlock_timeout=10ms -c client_connection_check_interval=10ms"
    );
    unix_config().options(options).io_timeout(LONG).drain_timeout(LONG).statement_cache_capacity(6)
}

/// A new connection for a teller. As long as its session lasts it holds a lock, so that one can wait
/// for the end of all.
fn connect_teller(config: &PgConfig) -> PgConnection {
    let mut db = PgConnection::connect(config).expect("the shared server takes connections");
    db.query("select pg_advisory_lock_shared('log'::regclass::oid::int8)", &[]).expect("a lock");
    db
}

/// Waits until the sessions of all tellers have ended, also of those that were lost.
fn wait_for_end_of_all(db: &mut PgConnection) {
    db.query("select pg_advisory_lock('log'::regclass::oid::int8)", &[]).expect("their end");
}

/// The seed: a random one unless `CHOPIN_TEST_SEED` has one.
fn seed() -> u64 {
    match std::env::var("CHOPIN_TEST_SEED") {
        Ok(seed) => seed.parse().expect("CHOPIN_TEST_SEED is a number"),
        Err(_) => rand::random(),
    }
}

#[test]
fn h1_h13_no_transfer_is_lost_or_doubled_whatever_happens() {
    let seed = seed();
    let operations = if is_long() { 200_000 } else { 12_000 };
    println!("CHOPIN_TEST_SEED={seed}");
    let schema_name = testkit::unique("ledger");
    let config = config_of_tellers(&schema_name);
    let mut db = PgConnection::connect(&config).unwrap();
    db.execute_batch(&schema(&schema_name)).unwrap();

    let share = operations / (BLOCKING + NON_BLOCKING);
    let all_notes = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for teller in 1..=BLOCKING {
            let (books, config) = (Books::new(seed, teller), &config);
            threads.push(scope.spawn(move || vec![blocking::run(scope, books, config, share)]));
        }
        let tellers = BLOCKING + 1..=BLOCKING + NON_BLOCKING;
        let all_books = tellers.map(|teller| Books::new(seed, teller)).collect();
        threads.push(scope.spawn(|| event_loop::run(all_books, &config, share)));
        let notes = threads.into_iter().map(|thread| thread.join().expect("no teller fails"));
        notes.collect::<Vec<_>>().concat()
    });

    let mut by_number = HashMap::new();
    for note in all_notes.iter().flat_map(|(notes, _)| notes) {
        assert!(by_number.insert(note.number, *note).is_none(), "{note:?} has ended twice");
    }
    wait_for_end_of_all(&mut db);
    let unknown_committed = books::compare(&mut db, &by_number);
    let (blocking, non_blocking) = all_notes.split_at(usize::try_from(BLOCKING).unwrap());
    for (face, notes) in [("blocking", blocking), ("non-blocking", non_blocking)] {
        let tally = sum_of(notes.iter().map(|(_, tally)| tally));
        println!("{face}: {tally:?}");
        check_tally(&tally, face == "blocking", u64::from(operations));
    }
    println!("{unknown_committed} of those that are unknown were committed");
    assert!(unknown_committed > 0);
    db.execute_batch(&format!("drop schema {schema_name} cascade")).unwrap();
}

fn sum_of<'a>(tallies: impl Iterator<Item = &'a Tally>) -> Tally {
    let mut sum = Tally::new();
    for (what, count) in tallies.flatten() {
        *sum.entry(*what).or_default() += count;
    }
    sum
}

/// Everything has really occurred that occurs by construction.
#[track_caller]
fn check_tally(tally: &Tally, is_blocking: bool, operations: u64) {
    let count = |what: &Seen| tally.get(what).copied().unwrap_or_default();
    let often = [Seen::Committed, Seen::Undone, Seen::Tag];
    let both = [
        Seen::Unknown,
        Seen::Audit,
        Seen::Timeout,
        Seen::Cancelled,
        Seen::Refused,
        Seen::RolledBack,
        Seen::ConnectionLost,
        Seen::ConnectionDropped,
        Seen::Discarded,
    ];
    let of_blocking = [
        Seen::RowsDropped,
        Seen::RowsCancelled,
        Seen::PipelineDropped,
        Seen::TransactionDropped,
        Seen::SavepointDropped,
        Seen::CursorDropped,
    ];
    for what in &often {
        assert!(count(what) > operations / 100, "{what:?} is rare: {tally:?}");
    }
    for what in both.iter().chain(of_blocking.iter().filter(|_| is_blocking)) {
        assert!(count(what) > operations / 4_000, "{what:?} is very rare: {tally:?}");
    }
}
