//! Large objects: files inside the database, read and written in pieces.
//!
//! The server's functions do the work (`lo_open`, `loread`, `lowrite` and so on). Writes, and the
//! pieces of a copy, are pipelined: several are on their way before the first is answered.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::query::exactly_one;
use super::{Delivery, PgConnection, Submit, Ticket, TransactionStatus};
use crate::engine::Request;
use crate::error::{PgError, PgResult};
use crate::row::Row;
use crate::types::{FromSql, Oid, Params};

/// The most that one request reads or writes, in bytes: 128 of the server's pages of a large
/// object, and far from the limits of a message and of the functions' 32-bit lengths.
const CHUNK: usize = 256 * 1024;

/// How many requests are on their way at a time.
const WINDOW: usize = 8;

/// For what a large object is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargeObjectMode {
    /// Reading, as the object was when it was opened: with the snapshot of that statement, which in
    /// `REPEATABLE READ` and `SERIALIZABLE` is that of the whole transaction.
    Read,
    /// Writing. The server lets the object be read too, with what others have committed since.
    Write,
    /// Reading and writing; the server makes no difference to [`Write`](Self::Write).
    ReadWrite,
}

impl LargeObjectMode {
    /// `INV_READ` and `INV_WRITE` of `libpq/libpq-fs.h`.
    const fn flags(self) -> i32 {
        match self {
            Self::Read => 0x40000,
            Self::Write => 0x20000,
            Self::ReadWrite => 0x60000,
        }
    }
}

/// An open large object, from [`PgConnection::open_large_object`]: [`Read`], [`Write`] and [`Seek`]
/// with 64-bit positions.
///
/// ```no_run
/// use std::io::{Read, Seek, SeekFrom, Write};
/// use chopin_pg::LargeObjectMode;
/// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
///
/// connection.transaction(|tx| {
///     let oid = tx.create_large_object(None)?;
///     let mut object = tx.open_large_object(oid, LargeObjectMode::ReadWrite)?;
///     object.write_all(b"Nocturne")?;
///     object.seek(SeekFrom::Start(3))?;
///     let mut text = String::new();
///     object.read_to_string(&mut text)?;
///     assert_eq!(text, "turne");
///     object.close()
/// })?;
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// - A read is one round trip, of at most 256 KiB: a [`BufReader`](io::BufReader) makes few of many
///   small ones. [`copy_to`](Self::copy_to) keeps several reads on their way.
/// - A write does not wait for its answer, unless several are unanswered.
///   [`flush`](Write::flush), [`close`](Self::close) and every read wait for all, and tell the
///   error of one. Many small writes are better made by a [`BufWriter`](io::BufWriter); flush it
///   before it is dropped, for then it swallows the error of what it still held.
/// - A seek costs nothing: the position goes to the server with the next read or write. What lies
///   behind the end reads as nothing; a write behind the end leaves a gap of zeros, which takes no
///   space.
///
/// An error of the server fails the transaction, as always. In an [`io::Error`] it is inside, and
/// `PgError::from` gets it out again, as does `?` in a function that returns [`PgResult`].
///
/// [`io_timeout`](PgConnection::io_timeout) limits each wait for an answer, not a copy as a whole;
/// for that there is [`within`](PgConnection::within). What takes too long is cancelled, which
/// fails the transaction too. An error of a source or target that is copied from or to does not: use
/// [`transaction`](PgConnection::transaction), so that no half object is committed.
///
/// The requests have parameters: on a connection in
/// [`ExecutionMode::Simple`](crate::ExecutionMode::Simple) they are made in
/// [`ExecutionMode::Unnamed`](crate::ExecutionMode::Unnamed).
///
/// Dropped without [`close`](Self::close) it never waits: writes that are under way are done, and the
/// object is closed behind them. If one of them fails, nobody is told here; but the transaction has
/// failed with it, so that its COMMIT reports [`PgError::RolledBack`].
///
/// Source: PostgreSQL documentation, "Large Objects".
#[derive(Debug)]
pub struct LargeObject<'c> {
    connection: &'c mut PgConnection,
    oid: Oid,
    /// The server's descriptor.
    descriptor: i32,
    /// Where the next read or write is.
    position: u64,
    /// The server will be at the same position when it has done what it is asked.
    in_step: bool,
    /// Requests that have not been answered, oldest first.
    unanswered: VecDeque<(Ticket, Asked)>,
    is_closed: bool,
}

/// What a request was that has not been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Seek,
    /// At most so many bytes.
    Read(usize),
    /// So many bytes.
    Write(usize),
}

/// Large objects. All but [`create_large_object`](Self::create_large_object) and
/// [`unlink_large_object`](Self::unlink_large_object) need an open transaction.
impl PgConnection {
    /// Creates an empty large object, with this number or a free one, and returns its number.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query): the server refuses a number that is taken (`23505`).
    pub fn create_large_object(&mut self, oid: Option<Oid>) -> PgResult<Oid> {
        self.ask_value("select pg_catalog.lo_create($1)", (oid.unwrap_or(Oid::UNSPECIFIED),))
    }

    /// Opens a large object, at its beginning.
    ///
    /// # Errors
    ///
    /// [`PgError::Usage`] outside of a transaction: the server closes a large object with the
    /// transaction that has opened it. Else as [`query`](Self::query): the server refuses a number
    /// that no object has (`42704`).
    pub fn open_large_object(
        &mut self,
        oid: Oid,
        mode: LargeObjectMode,
    ) -> PgResult<LargeObject<'_>> {
        self.check_in_transaction()?;
        let descriptor =
            self.ask_value("select pg_catalog.lo_open($1, $2)", (oid, mode.flags()))?;
        Ok(LargeObject {
            connection: self,
            oid,
            descriptor,
            position: 0,
            in_step: true,
            unanswered: VecDeque::new(),
            is_closed: false,
        })
    }

    /// Deletes a large object.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query): the server refuses a number that no object has (`42704`).
    pub fn unlink_large_object(&mut self, oid: Oid) -> PgResult<()> {
        self.ask_value::<i32>("select pg_catalog.lo_unlink($1)", (oid,)).map(drop)
    }

    /// Creates a large object with everything that `source` has to read, and returns its number.
    ///
    /// Several pieces are on their way to the server at a time.
    ///
    /// # Errors
    ///
    /// As [`open_large_object`](Self::open_large_object), and [`PgError::Io`] with an error of
    /// `source`. There is an object with a part of it then, unless the transaction is rolled back.
    pub fn import_large_object(&mut self, source: impl Read) -> PgResult<Oid> {
        self.check_in_transaction()?;
        let oid = self.create_large_object(None)?;
        let mut object = self.open_large_object(oid, LargeObjectMode::Write)?;
        object.copy_from(source)?;
        object.close()?;
        Ok(oid)
    }

    /// Writes the contents of a large object to `target`, and returns their length in bytes.
    ///
    /// Several pieces are on their way from the server at a time.
    ///
    /// # Errors
    ///
    /// As [`open_large_object`](Self::open_large_object), and [`PgError::Io`] with an error of
    /// `target`.
    pub fn export_large_object(&mut self, oid: Oid, target: impl Write) -> PgResult<u64> {
        let mut object = self.open_large_object(oid, LargeObjectMode::Read)?;
        let length = object.copy_to(target)?;
        object.close()?;
        Ok(length)
    }

    fn check_in_transaction(&mut self) -> PgResult<()> {
        match self.settled_status()? {
            TransactionStatus::Idle if !self.is_broken() => Err(PgError::Usage(
                "a large object is open within a transaction only: call begin first".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// The only value that a query returns.
    fn ask_value<T: for<'a> FromSql<'a>>(&mut self, sql: &str, params: impl Params) -> PgResult<T> {
        let request = Request::Query { sql, params: &params };
        let outcome = self.ask_in(self.mode_for_params(), request)?;
        exactly_one(outcome.into_rows())?.get(0)
    }
}

impl LargeObject<'_> {
    /// The object's number.
    pub fn oid(&self) -> Oid {
        self.oid
    }

    /// Where the next read or write is, in bytes from the beginning.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The object's size in bytes.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`], also for a write before.
    pub fn size(&mut self) -> PgResult<u64> {
        self.settle()?;
        let end = libc::SEEK_END;
        self.in_step = false;
        let sql = "select pg_catalog.lo_lseek64($1, 0, $2)";
        let size: i64 = self.connection.ask_value(sql, (self.descriptor, end))?;
        u64::try_from(size).map_err(|_| unexpected("lo_lseek64", size))
    }

    /// Makes the object so many bytes long: cuts off what is behind, or adds zeros, which take no
    /// space. The position stays.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`], also for a write before. The server refuses it if the object is
    /// open for reading alone (`55000`), and a size over 4 TiB.
    pub fn truncate(&mut self, size: u64) -> PgResult<()> {
        self.settle()?;
        let size = to_i64(size)?;
        let sql = "select pg_catalog.lo_truncate64($1, $2)";
        self.connection.ask_value::<i32>(sql, (self.descriptor, size)).map(drop)
    }

    /// Writes everything that `source` has to read at the position, and returns its length. Several
    /// pieces are on their way at a time; at the end all have been answered.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`]; [`PgError::Io`] with an error of `source`. A part of it has been
    /// written then.
    pub fn copy_from(&mut self, mut source: impl Read) -> PgResult<u64> {
        let mut piece = Vec::with_capacity(CHUNK);
        let start = self.position;
        loop {
            piece.clear();
            let limit = u64::try_from(CHUNK).unwrap_or(u64::MAX);
            source.by_ref().take(limit).read_to_end(&mut piece)?;
            if piece.is_empty() {
                self.settle()?;
                return Ok(self.position - start);
            }
            self.write_piece(&piece)?;
        }
    }

    /// Writes everything from the position to the end to `target`, and returns its length. Several
    /// pieces are on their way at a time.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`]; [`PgError::Io`] with an error of `target`. The position is
    /// behind what `target` has taken then, as far as whole pieces go.
    pub fn copy_to(&mut self, mut target: impl Write) -> PgResult<u64> {
        self.settle()?;
        let start = self.position;
        if let Err(error) = self.copy_pieces(&mut target) {
            // Pieces that are still on their way have moved the server, and nobody wants them.
            self.give_up();
            return Err(error);
        }
        Ok(self.position - start)
    }

    /// Closes the object, once all writes have been answered.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`], also for a write before.
    pub fn close(mut self) -> PgResult<()> {
        self.settle()?;
        self.is_closed = true;
        let sql = "select pg_catalog.lo_close($1)";
        self.connection.ask_value::<i32>(sql, (self.descriptor,)).map(drop)
    }

    fn copy_pieces(&mut self, target: &mut impl Write) -> PgResult<()> {
        let mut is_at_end = false;
        loop {
            while !is_at_end && self.unanswered.len() < WINDOW {
                match self.queue_read(CHUNK) {
                    Err(PgError::WouldBlock) if !self.unanswered.is_empty() => break,
                    other => other?,
                }
            }
            let Some((asked, row)) = self.next_answer()? else { return Ok(()) };
            let Asked::Read(most) = asked else { continue };
            let piece = piece_of(&row, most)?;
            target.write_all(piece)?;
            self.position += piece.len() as u64;
            // What was asked for behind the end comes with nothing in it.
            is_at_end |= piece.len() < most;
        }
    }

    /// Reads once, at the position.
    fn read_piece(&mut self, into: &mut [u8]) -> PgResult<usize> {
        self.settle()?;
        let most = into.len().min(CHUNK);
        if most == 0 {
            return Ok(0);
        }
        self.queue_read(most)?;
        while let Some((asked, row)) = self.next_answer()? {
            if asked == Asked::Read(most) {
                let piece = piece_of(&row, most)?;
                if let Some(room) = into.get_mut(..piece.len()) {
                    room.copy_from_slice(piece);
                }
                self.position += piece.len() as u64;
                return Ok(piece.len());
            }
        }
        Err(PgError::Protocol("a read was left without an answer".to_owned()))
    }

    /// Queues one write, at the position; waits for the oldest if there are too many.
    fn write_piece(&mut self, piece: &[u8]) -> PgResult<()> {
        while self.unanswered.len() >= WINDOW {
            self.next_answer()?;
        }
        loop {
            let queued = self.seek_if_out_of_step().and_then(|()| {
                let sql = "select pg_catalog.lowrite($1, $2)";
                self.queue(Asked::Write(piece.len()), sql, &(self.descriptor, piece))
            });
            match queued {
                Err(PgError::WouldBlock) if !self.unanswered.is_empty() => {
                    self.next_answer()?;
                }
                other => {
                    other?;
                    self.position += piece.len() as u64;
                    return Ok(());
                }
            }
        }
    }

    fn queue_read(&mut self, most: usize) -> PgResult<()> {
        self.seek_if_out_of_step()?;
        let length = i32::try_from(most).unwrap_or(i32::MAX);
        let sql = "select pg_catalog.loread($1, $2)";
        self.queue(Asked::Read(most), sql, &(self.descriptor, length))
    }

    /// The server is told the position, if it does not know it.
    fn seek_if_out_of_step(&mut self) -> PgResult<()> {
        if !self.in_step {
            let (position, start) = (to_i64(self.position)?, libc::SEEK_SET);
            let sql = "select pg_catalog.lo_lseek64($1, $2, $3)";
            self.queue(Asked::Seek, sql, &(self.descriptor, position, start))?;
            self.in_step = true;
        }
        Ok(())
    }

    /// Queues a request and sends it. With requests of this object unanswered it does not wait for
    /// room: [`PgError::WouldBlock`] says to take an answer first.
    fn queue(&mut self, asked: Asked, sql: &str, params: &dyn Params) -> PgResult<()> {
        let connection = &mut *self.connection;
        connection.begin_call()?;
        // Each has its time when it is waited for.
        let mut submit = Submit::new(Delivery::Collect);
        submit.mode = connection.mode_for_params();
        let limit = connection.operation_deadline();
        let ticket = loop {
            match connection.engine.submit(Request::Query { sql, params }, submit) {
                Err(PgError::WouldBlock)
                    if self.unanswered.is_empty() && connection.in_flight() > 0 =>
                {
                    connection.wait_for_room(limit)?;
                }
                other => break other?,
            }
        };
        connection.flush();
        self.unanswered.push_back((ticket, asked));
        Ok(())
    }

    /// Waits until everything has been answered.
    fn settle(&mut self) -> PgResult<()> {
        while self.next_answer()?.is_some() {}
        Ok(())
    }

    /// Waits for the oldest answer; `None` when none is awaited.
    fn next_answer(&mut self) -> PgResult<Option<(Asked, Row)>> {
        let Some((ticket, asked)) = self.unanswered.pop_front() else { return Ok(None) };
        let answer = self.connection.result_of(ticket).and_then(|outcome| {
            let row = exactly_one(outcome.into_rows())?;
            if let Asked::Write(length) = asked {
                let written: i32 = row.get(0)?;
                if usize::try_from(written) != Ok(length) {
                    return Err(unexpected("lowrite", i64::from(written)));
                }
            }
            Ok(row)
        });
        // Its end may have come while an older one was waited for.
        self.connection.set_aside.retain(|event| event.ticket() != Some(ticket));
        match answer {
            Ok(row) => Ok(Some((asked, row))),
            Err(error) => {
                self.give_up();
                Err(error)
            }
        }
    }

    /// Nobody wants the answers that are awaited any more.
    fn give_up(&mut self) {
        self.in_step = false;
        for (ticket, _) in std::mem::take(&mut self.unanswered) {
            self.connection.discard(ticket);
        }
    }
}

impl Read for LargeObject<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_piece(into)?)
    }
}

impl Write for LargeObject<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..CHUNK).unwrap_or(bytes);
        if !piece.is_empty() {
            self.write_piece(piece)?;
        }
        Ok(piece.len())
    }

    /// Waits until the server has done all writes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(self.settle()?)
    }
}

impl Seek for LargeObject<'_> {
    /// Only a position from the end asks the server, for the [`size`](LargeObject::size).
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a position before the beginning, or over 2⁶³; the
    /// transaction goes on.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.size()?.checked_add_signed(offset),
        };
        let position = position.filter(|position| i64::try_from(*position).is_ok());
        let position = position.ok_or_else(|| {
            let what = "a position before the beginning of the large object, or over 2^63";
            io::Error::new(io::ErrorKind::InvalidInput, what)
        })?;
        self.in_step &= position == self.position;
        self.position = position;
        Ok(position)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.position)
    }
}

/// Never waits. Writes that are under way are done, and the object is closed behind them.
impl Drop for LargeObject<'_> {
    fn drop(&mut self) {
        for (ticket, asked) in std::mem::take(&mut self.unanswered) {
            match asked {
                Asked::Read(_) => self.connection.discard(ticket),
                Asked::Write(_) | Asked::Seek => self.connection.disown(ticket),
            }
        }
        if !self.is_closed {
            self.connection.clean_up(&format!("select pg_catalog.lo_close({})", self.descriptor));
        }
    }
}

/// The bytes of an answer to `loread`, of which there are not more than asked for.
fn piece_of(row: &Row, most: usize) -> PgResult<&[u8]> {
    let piece: &[u8] = row.get(0)?;
    if piece.len() > most {
        let what = format!("loread returned {} bytes where {most} were asked for", piece.len());
        return Err(PgError::Protocol(what));
    }
    Ok(piece)
}

fn unexpected(function: &str, value: i64) -> PgError {
    PgError::Protocol(format!("{function} returned {value}"))
}

/// A size or position as the server counts them.
fn to_i64(size: u64) -> PgResult<i64> {
    i64::try_from(size)
        .map_err(|_| PgError::Usage(format!("a large object cannot have {size} bytes")))
}
