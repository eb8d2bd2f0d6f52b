//! Tellers of the blocking face.

use std::cell::Cell;
use std::thread::Scope;
use std::time::Duration;

use chopin_pg::{
    Delivery, PgConfig, PgConnection, PgError, PgResult, PipelineResult, Request, TransactionStatus,
};

use rand::Rng;

use super::assistant::{Assistant, Deed};
use super::books::{Books, Excuse, Fate, Note, START, Seen, Tally, Transfer, check_tags, fate_of};
use super::steps::Draft;
use super::{ACCOUNTS, LOG, MOVE, STREAM, SUM, TRANSFER, connect_teller};

/// A teller does its operations, one after the other; returns its notes.
pub(super) fn run<'scope>(
    scope: &'scope Scope<'scope, '_>,
    books: Books,
    config: &'scope PgConfig,
    operations: u32,
) -> (Vec<Note>, Tally) {
    let assistant = Assistant::new(scope, config);
    let db = connect_teller(config);
    let mut teller = Teller { books, config, db };
    for _ in 0..operations {
        teller.disturbed_operation(&assistant);
    }
    assistant.join();
    teller.books.into_notes()
}

struct Teller<'c> {
    books: Books,
    config: &'c PgConfig,
    db: PgConnection,
}

impl Teller<'_> {
    /// One operation, which may be disturbed.
    fn disturbed_operation(&mut self, assistant: &Assistant<'_>) {
        let Self { books, db, .. } = self;
        let moment = Duration::from_micros(books.random.random_range(0..6_000));
        books.excuse = Excuse::default();
        books.takes_forever = false;
        match books.random.random_range(0..100) {
            0..8 => {
                books.excuse.deadline = true;
                books.takes_forever = books.percent(50);
                operation(&mut db.within(moment), books);
            }
            8..16 => {
                books.excuse.cancel = true;
                books.takes_forever = books.percent(50);
                let token = db.cancel_token();
                let again = books.takes_forever;
                let deed = if again { Deed::CancelAgain(token) } else { Deed::Cancel(token) };
                assistant.begin(deed, moment);
                operation(db, books);
                assistant.end();
            }
            16..18 => {
                books.excuse.loss = true;
                // Nothing can be done after that, so the operation ends there for sure.
                books.takes_forever = books.percent(50);
                let deed = match books.random.random() {
                    true => Deed::Terminate(db.process_id()),
                    false => Deed::hangup(db),
                };
                assistant.begin(deed, moment);
                operation(db, books);
                if assistant.end() {
                    *db = connect_teller(self.config);
                }
            }
            18 => {
                leave(db, books);
                *db = connect_teller(self.config);
            }
            _ => operation(db, books),
        }
        self.look_after();
    }

    /// The next operation begins outside of a transaction. One is left open only if the ROLLBACK
    /// itself was cancelled.
    fn look_after(&mut self) {
        let Self { books, db, .. } = self;
        let excuse = std::mem::take(&mut books.excuse);
        let cancelled = excuse.cancel;
        let tag = books.tag();
        match db.query("select $1::int8", &[&tag]) {
            Ok(rows) => check_tags(&rows, 1, tag),
            Err(error) => {
                assert!(cancelled, "left in a transaction, {excuse:?}: {error}");
                books.note(&error, books.excuse);
            }
        }
        if db.transaction_status() != TransactionStatus::Idle {
            assert!(cancelled, "left in a transaction");
            books.saw(Seen::LeftInTransaction);
            db.rollback().expect("an undisturbed ROLLBACK");
        }
        assert_eq!(db.in_flight(), 0);
    }
}

/// One operation at random.
fn operation(db: &mut PgConnection, books: &mut Books) {
    match books.random.random_range(0..100) {
        0..15 => call(db, books),
        15..30 => stream(db, books),
        30..50 => pipeline(db, books),
        50..55 => batch(db, books),
        55..60 => discard(db, books),
        60..75 => closure(db, books),
        75..90 => guard(db, books),
        90..93 => serializable(db, books),
        93..96 => audit(db, books),
        _ => tag(db, books),
    }
}

/// A transfer in one statement.
fn call(db: &mut PgConnection, books: &mut Books) {
    let transfer = books.transfer();
    let result = db.query_with(TRANSFER, transfer.params());
    if let Ok(rows) = &result {
        check_tags(rows, 1, transfer.number);
    }
    books.settle(&transfer, &result);
}

/// A transfer with many rows, of which only some are read.
fn stream(db: &mut PgConnection, books: &mut Books) {
    let wanted = books.random.random_range(0..60);
    // What is dropped is awaited by the next call.
    let is_dropped = books.percent(50);
    let transfer = if is_dropped { books.short_transfer() } else { books.transfer() };
    let mut rows = match db.stream(STREAM, transfer.params()) {
        Ok(rows) => rows,
        error => return books.settle(&transfer, &error),
    };
    for number in 1..=wanted {
        match rows.next() {
            Ok(Some(row)) => {
                assert_eq!(row.to::<(i64, i32)>().expect("a row"), (transfer.number, number));
            }
            end => {
                let end = end.map(|row| assert!(row.is_none() && number == 51));
                return books.settle(&transfer, &end);
            }
        }
    }
    if is_dropped {
        drop(rows);
        books.saw(Seen::RowsDropped);
        books.close(&transfer, unknown(&transfer));
    } else if books.percent(40) {
        let cancelled = rows.cancel();
        books.saw(Seen::RowsCancelled);
        if let Err(error) = &cancelled {
            books.note(error, books.excuse);
        }
        books.close(&transfer, unknown(&transfer));
    } else {
        let finished = rows.finish();
        books.settle(&transfer, &finished);
    }
}

/// What is known of a transfer that nobody waits for.
fn unknown(transfer: &Transfer) -> Fate {
    if transfer.nap < 0.0 { Fate::Undone } else { Fate::Unknown }
}

/// What a group of a pipeline is to do.
pub(super) enum Group {
    /// A transfer in one request.
    Call(Transfer),
    /// A transfer in three requests.
    Parts(Transfer),
    Tag(i64),
}

impl Group {
    pub(super) fn random(books: &mut Books, short: bool) -> Self {
        let kind = books.random.random_range(0..4);
        let transfer = if short { Books::short_transfer } else { Books::transfer };
        match kind {
            0 => Self::Tag(books.tag()),
            1 => Self::Call(transfer(books)),
            _ => Self::Parts(transfer(books)),
        }
    }

    pub(super) fn transfer(&self) -> Option<&Transfer> {
        match self {
            Self::Call(transfer) | Self::Parts(transfer) => Some(transfer),
            Self::Tag(_) => None,
        }
    }

    /// Queues its requests, without the Sync.
    pub(super) fn add(&self, pipeline: &mut chopin_pg::Pipeline<'_>) -> PgResult<()> {
        match self {
            Self::Tag(tag) => pipeline.query("select $1::int8", (*tag,)).map(drop),
            Self::Call(transfer) => pipeline.query(TRANSFER, transfer.params()).map(drop),
            Self::Parts(transfer) => {
                for change in transfer.moves() {
                    pipeline.query(MOVE, change)?;
                }
                pipeline.query(LOG, transfer.params()).map(drop)
            }
        }
    }

    /// Takes the results of its requests from the front, and checks their tags. What became of the
    /// last one.
    pub(super) fn take(
        &self,
        results: &mut impl Iterator<Item = PgResult<PipelineResult>>,
    ) -> PgResult<()> {
        let (requests, tag) = match self {
            Self::Tag(tag) => (1, *tag),
            Self::Call(transfer) => (1, transfer.number),
            Self::Parts(transfer) => (3, transfer.number),
        };
        let mut last = Ok(());
        for _ in 0..requests {
            last = results.next().expect("a result for each request").map(|result| {
                check_tags(result.rows(), 1, tag);
            });
        }
        last
    }
}

/// Several transfers in one round trip, or none of it: dropped at some point.
fn pipeline(db: &mut PgConnection, books: &mut Books) {
    let is_dropped = books.percent(25);
    let count = books.random.random_range(1..6);
    let mut groups = Vec::new();
    let mut refusal = None;
    let mut pipeline = db.pipeline();
    for _ in 0..count {
        let group = Group::random(books, is_dropped);
        let added = group.add(&mut pipeline).and_then(|()| pipeline.sync());
        groups.push(group);
        if let Err(error) = added {
            refusal = Some(error);
            break;
        }
    }
    if is_dropped || refusal.is_some() {
        drop_pipeline(pipeline, &groups, books);
        refusal.into_iter().for_each(|error| books.note(&error, books.excuse));
        return;
    }
    let mut results = pipeline.finish().expect("every request has a result").into_iter();
    for group in &groups {
        let result = group.take(&mut results);
        match group.transfer() {
            Some(transfer) => books.settle(transfer, &result),
            None => {
                books.saw(Seen::Tag);
                result.unwrap_or_else(|error| books.note(&error, books.excuse));
            }
        }
    }
    assert!(results.next().is_none());
}

/// A pipeline whose answers nobody wants. One more group without a Sync is not run.
fn drop_pipeline(mut pipeline: chopin_pg::Pipeline<'_>, groups: &[Group], books: &mut Books) {
    let unfinished = Group::Parts(books.short_transfer());
    let _added_or_broken = unfinished.add(&mut pipeline);
    drop(pipeline);
    books.saw(Seen::PipelineDropped);
    for transfer in groups.iter().filter_map(Group::transfer) {
        books.close(transfer, unknown(transfer));
    }
    if let Some(transfer) = unfinished.transfer() {
        books.close(transfer, Fate::Undone);
    }
}

/// Several transfers, all or none.
fn batch(db: &mut PgConnection, books: &mut Books) {
    let count = books.random.random_range(1..5);
    let transfers: Vec<_> = (0..count).map(|_| books.transfer()).collect();
    let sets: Vec<_> = transfers.iter().map(Transfer::params).collect();
    let mut pipeline = db.pipeline();
    let added = pipeline.batch(TRANSFER, &sets);
    let result = added.and_then(|_| pipeline.finish()?.remove(0));
    if let Ok(result) = &result {
        assert_eq!(result.rows().len(), transfers.len());
        for (row, transfer) in result.rows().iter().zip(&transfers) {
            assert_eq!(row.get::<i64>(0).expect("a tag"), transfer.number);
        }
    }
    for transfer in &transfers {
        books.close(transfer, fate_of(&result));
    }
    result.map(drop).unwrap_or_else(|error| books.note(&error, books.excuse));
}

/// Requests of the other face, of which nobody wants the answer; blocking calls go on at once.
fn discard(db: &mut PgConnection, books: &mut Books) {
    for _ in 0..books.random.random_range(1..4) {
        let transfer = books.short_transfer();
        let request = Request::Query { sql: TRANSFER, params: &transfer.params() };
        match db.submit(request, Delivery::Collect) {
            Ok(ticket) => {
                if books.percent(50) {
                    db.flush();
                }
                db.discard(ticket);
                books.saw(Seen::Discarded);
                books.close(&transfer, unknown(&transfer));
            }
            error => books.settle(&transfer, &error),
        }
    }
    tag(db, books);
}

/// Requests in flight, and the connection is dropped.
fn leave(db: &mut PgConnection, books: &mut Books) {
    for _ in 0..books.random.random_range(1..4) {
        let transfer = books.short_transfer();
        let request = Request::Query { sql: TRANSFER, params: &transfer.params() };
        let ticket = db.submit(request, Delivery::Collect).expect("a request that can be queued");
        if books.percent(50) {
            db.flush();
        }
        if books.percent(20) {
            db.discard(ticket);
        }
        books.close(&transfer, unknown(&transfer));
    }
    books.saw(Seen::ConnectionDropped);
}

/// A transaction as a closure, which may fail.
fn closure(db: &mut PgConnection, books: &mut Books) {
    let mut draft = Draft::default();
    let fails = books.percent(15);
    let reaches_commit = Cell::new(false);
    let result = db.transaction(|tx| {
        draft.steps(tx, books)?;
        if fails {
            return Err(PgError::Usage("on purpose".to_owned()));
        }
        reaches_commit.set(true);
        Ok(())
    });
    match (reaches_commit.get(), result) {
        (true, result) => draft.commit(books, &result),
        (false, result) => {
            draft.undo(books);
            match result.expect_err("it did not come to its end") {
                PgError::Usage(why) if why == "on purpose" => books.saw(Seen::TransactionDropped),
                error => books.note(&error, books.excuse),
            }
        }
    }
}

/// A transaction as a guard, which may be dropped at any point.
fn guard(db: &mut PgConnection, books: &mut Books) {
    let mut draft = Draft::default();
    let mut tx = match db.begin_transaction() {
        Ok(tx) => tx,
        Err(error) => return books.note(&error, books.excuse),
    };
    if let Err(error) = draft.steps(&mut tx, books) {
        drop(tx);
        draft.undo(books);
        return books.note(&error, books.excuse);
    }
    match books.random.random_range(0..10) {
        0..2 => {
            drop(tx);
            books.saw(Seen::TransactionDropped);
            draft.undo(books);
        }
        2 => {
            let result = tx.rollback();
            result.unwrap_or_else(|error| books.note(&error, books.excuse));
            draft.undo(books);
        }
        3 => {
            // The program does not notice that a statement has failed. One that was not sent in time
            // has not made the transaction fail.
            let failed = tx.execute("select 1 / 0", &[]);
            let failure = failed.expect_err("nothing can be divided by zero");
            let result = tx.commit();
            let is_refused = result.is_err() || matches!(failure, PgError::NotSent(_));
            assert!(is_refused, "committed after {failure:?}; {:?}", books.excuse);
            draft.commit(books, &result);
        }
        _ => {
            let result = tx.commit();
            draft.commit(books, &result);
        }
    }
}

/// A serializable transaction that is done again after a conflict: once in the end, or not at all.
fn serializable(db: &mut PgConnection, books: &mut Books) {
    let transfer = books.transfer();
    let (attempts, reaches_commit) = (Cell::new(0), Cell::new(false));
    let result = db.run_serializable(10, |tx| {
        attempts.set(attempts.get() + 1);
        reaches_commit.set(false);
        let sql = "select $1::int8 from accounts where id = $2";
        let rows = tx.query(sql, &[&transfer.number, &transfer.source])?;
        check_tags(&rows, 1, transfer.number);
        let rows = tx.query_with(TRANSFER, transfer.params())?;
        check_tags(&rows, 1, transfer.number);
        reaches_commit.set(true);
        Ok::<_, PgError>(())
    });
    for _ in 1..attempts.get() {
        books.saw(Seen::Retried);
    }
    if reaches_commit.get() {
        books.settle(&transfer, &result);
    } else {
        books.note(&result.expect_err("it did not come to its end"), books.excuse);
        books.close(&transfer, Fate::Undone);
    }
}

/// At any moment the sum is what it was.
pub(super) fn look_at_sum(db: &mut PgConnection, books: &mut Books) -> PgResult<()> {
    let tag = books.tag();
    let row = db.query_one(SUM, &[&tag])?;
    let whole = START * i64::from(ACCOUNTS);
    assert_eq!(row.to::<(i64, i64)>().expect("a sum"), (tag, whole), "the sum has changed");
    books.saw(Seen::Audit);
    Ok(())
}

fn audit(db: &mut PgConnection, books: &mut Books) {
    look_at_sum(db, books).unwrap_or_else(|error| books.note(&error, books.excuse));
}

/// Nothing but a tag.
fn tag(db: &mut PgConnection, books: &mut Books) {
    let tag = books.tag();
    match db.query("select $1::int8", &[&tag]) {
        Ok(rows) => {
            check_tags(&rows, 1, tag);
            books.saw(Seen::Tag);
        }
        Err(error) => books.note(&error, books.excuse),
    }
}
