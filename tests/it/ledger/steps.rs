//! What a teller of the blocking face does inside of a transaction.

use chopin_pg::{PgError, PgResult, SqlState, Transaction};

use rand::Rng;

use super::blocking::{Group, look_at_sum};
use super::books::{Books, Fate, Seen, Transfer, check_tags, fate_of};
use super::{LOG, MOVE, STREAM, TRANSFER};

/// The transfers of a transaction that has not ended.
#[derive(Default)]
pub(super) struct Draft {
    /// They are committed with it.
    kept: Vec<Transfer>,
    /// They were rolled back to a savepoint, or not sent.
    undone: Vec<Transfer>,
    /// They may be a part of it: nobody has waited for their answers.
    unclear: Vec<Transfer>,
}

impl Draft {
    /// The transaction has come to its end by a COMMIT.
    #[track_caller]
    pub(super) fn commit(self, books: &mut Books, result: &PgResult<()>) {
        let fate = fate_of(result);
        if let Err(error) = result {
            books.note(error, books.excuse);
        }
        for transfer in &self.kept {
            books.close(transfer, fate);
        }
        for transfer in &self.unclear {
            let fate = if fate == Fate::Committed { Fate::Unknown } else { fate };
            books.close(transfer, fate);
        }
        for transfer in &self.undone {
            books.close(transfer, Fate::Undone);
        }
    }

    /// No COMMIT was sent.
    #[track_caller]
    pub(super) fn undo(self, books: &mut Books) {
        for transfer in self.kept.iter().chain(&self.undone).chain(&self.unclear) {
            books.close(transfer, Fate::Undone);
        }
    }

    /// Some steps at random.
    ///
    /// # Errors
    ///
    /// That of a step: the transaction is to be rolled back.
    pub(super) fn steps(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        for _ in 0..books.random.random_range(1..4) {
            self.step(tx, books)?;
        }
        Ok(())
    }

    fn step(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        match books.random.random_range(0..14) {
            0 | 1 => self.call(tx, books),
            2 | 3 => self.parts(tx, books),
            4 => self.pipeline(tx, books),
            5 => self.pipeline_dropped(tx, books),
            6 => self.stream(tx, books),
            7 => self.stream_dropped(tx, books),
            8 => self.savepoint(tx, books),
            9 => self.nested(tx, books),
            10 => self.failure(tx, books),
            11 | 12 => self.cursor(tx, books),
            _ => look_at_sum(tx, books),
        }
    }

    /// The next transfer, which is committed if the transaction is.
    fn keep(&mut self, books: &mut Books) -> Transfer {
        let transfer = books.transfer();
        self.kept.push(transfer);
        transfer
    }

    /// The last transfer that was kept is rolled back.
    fn take_back(&mut self) {
        self.undone.extend(self.kept.pop());
    }

    /// A transfer in one statement.
    fn call(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        let transfer = self.keep(books);
        let rows = tx.query_with(TRANSFER, transfer.params())?;
        check_tags(&rows, 1, transfer.number);
        Ok(())
    }

    /// A transfer in three statements.
    fn parts(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        let transfer = self.keep(books);
        for change in transfer.moves() {
            let rows = tx.query_with(MOVE, change)?;
            check_tags(&rows, 1, transfer.number);
        }
        let rows = tx.query_with(LOG, transfer.params())?;
        check_tags(&rows, 1, transfer.number);
        Ok(())
    }

    /// Several groups in one round trip.
    fn pipeline(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        let groups: Vec<_> = (0..3).map(|_| Group::random(books, false)).collect();
        self.kept.extend(groups.iter().filter_map(Group::transfer));
        let mut pipeline = tx.pipeline();
        for group in &groups {
            group.add(&mut pipeline)?;
            pipeline.sync()?;
        }
        let mut results = pipeline.finish()?.into_iter();
        groups.iter().try_for_each(|group| group.take(&mut results))
    }

    /// Nobody waits for the answers. A group without a Sync is not run.
    fn pipeline_dropped(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        let [synced, open] = [(); 2].map(|()| Group::random(books, false));
        self.unclear.extend(synced.transfer());
        self.undone.extend(open.transfer());
        let mut pipeline = tx.pipeline();
        synced.add(&mut pipeline)?;
        pipeline.sync()?;
        open.add(&mut pipeline)?;
        drop(pipeline);
        books.saw(Seen::PipelineDropped);
        Ok(())
    }

    /// A transfer with rows that are read as they come.
    fn stream(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        let transfer = self.keep(books);
        let mut rows = tx.stream(STREAM, transfer.params())?;
        let count = rows.for_each(|row| {
            assert_eq!(row.get::<i64>(0)?, transfer.number, "another's answer");
            Ok(())
        })?;
        assert_eq!(count, 50);
        Ok(())
    }

    /// A transfer with rows of which only the first few are read: what it does is done. If it fails,
    /// so does the transaction. One that is dropped before its first row may not have been sent: it
    /// had to wait for the end of another one.
    fn stream_dropped(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        let wanted = books.random.random_range(0..10);
        let transfer = books.transfer();
        let list = if wanted == 0 { &mut self.unclear } else { &mut self.kept };
        list.push(transfer);
        let mut rows = tx.stream(STREAM, transfer.params())?;
        for number in 1..=wanted {
            let row = rows.next()?.expect("more rows");
            assert_eq!(row.to::<(i64, i32)>().expect("a row"), (transfer.number, number));
        }
        drop(rows);
        books.saw(Seen::RowsDropped);
        Ok(())
    }

    /// A transfer after a savepoint, by single calls.
    fn savepoint(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        tx.savepoint("before \"it\"")?;
        self.call(tx, books)?;
        if books.percent(50) {
            tx.rollback_to("before \"it\"")?;
            self.take_back();
        }
        tx.release_savepoint("before \"it\"")
    }

    /// A transfer in a transaction within the transaction.
    fn nested(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        let mut inner = tx.begin_transaction()?;
        self.call(&mut inner, books)?;
        match books.random.random_range(0..3) {
            0 => {
                drop(inner);
                books.saw(Seen::SavepointDropped);
                self.take_back();
                Ok(())
            }
            1 => {
                inner.rollback()?;
                self.take_back();
                Ok(())
            }
            _ => inner.commit(),
        }
    }

    /// A statement that fails after a transfer, inside of a transaction within the transaction.
    fn failure(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        let result = tx.transaction(|inner| {
            self.call(inner, books)?;
            inner.execute("select 1 / 0", &[])
        });
        let error = result.expect_err("nothing can be divided by zero");
        if error.sql_state() != Some(SqlState::DIVISION_BY_ZERO) {
            return Err(error);
        }
        self.take_back();
        Ok(())
    }

    /// A transfer between two fetches from a cursor.
    fn cursor(&mut self, tx: &mut Transaction<'_>, books: &mut Books) -> PgResult<()> {
        let tag = books.tag();
        let sql = "select $1::int8, i from generate_series(1, 20) i";
        let mut cursor = tx.query_cursor(sql, (tag,))?;
        let check = |rows: &[chopin_pg::Row], numbers: std::ops::RangeInclusive<i32>| {
            let rows = rows.iter().map(|row| row.to::<(i64, i32)>().expect("a row"));
            assert!(rows.eq(numbers.map(|number| (tag, number))), "another's rows");
        };
        check(&tx.fetch(&mut cursor, 5)?, 1..=5);
        self.call(tx, books)?;
        check(&tx.fetch(&mut cursor, 10)?, 6..=15);
        match books.random.random_range(0..3) {
            0 => {
                drop(cursor);
                books.saw(Seen::CursorDropped);
                Ok(())
            }
            1 => tx.close_cursor(cursor),
            _ => {
                check(&tx.fetch(&mut cursor, 10)?, 16..=20);
                assert!(cursor.is_done());
                Ok::<_, PgError>(())
            }
        }
    }
}
