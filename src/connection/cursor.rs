//! Cursors: the rows of one query in pieces, with other requests in between.
//!
//! A stream has the connection for itself until it ends. A cursor does not: it is a portal of the
//! transaction, and each fetch is a request like any other.

use super::{Cursor, PgConnection, Rows, TransactionStatus};
use crate::engine::Request;
use crate::error::{PgError, PgResult};
use crate::row::Row;
use crate::types::Params;

impl PgConnection {
    /// Opens a cursor for one statement: it is bound, and run as far as rows are fetched from it by
    /// [`fetch`](Self::fetch) or [`fetch_stream`](Self::fetch_stream).
    ///
    /// A cursor lives in a transaction, at most until its end; other requests may be made between
    /// two fetches. It sees the data as they were when it was opened, and no
    /// later changes, not even of the same transaction. Dropped, it is closed together
    /// with one of the next requests.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// connection.transaction(|tx| {
    ///     let mut works = tx.query_cursor("select id, title from works", ())?;
    ///     while !works.is_done() {
    ///         for row in tx.fetch(&mut works, 1_000)? {
    ///             let (id, title): (i32, String) = row.to()?;
    ///             tx.execute("insert into titles values ($1, $2)", &[&id, &title])?;
    ///         }
    ///     }
    ///     Ok::<_, chopin_pg::PgError>(())
    /// })?;
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PgError::Usage`] when no transaction is open; else as [`query`](Self::query).
    pub fn query_cursor(&mut self, sql: &str, params: impl Params) -> PgResult<Cursor> {
        if self.settled_status()? == TransactionStatus::Idle && !self.is_broken() {
            return Err(PgError::Usage(
                "a cursor lives in a transaction, and none is open: begin one first; nothing was sent"
                    .to_owned(),
            ));
        }
        let opened = self.ask(Request::OpenCursor { sql, params: &params })?;
        opened.into_cursor().ok_or_else(|| {
            PgError::Protocol("the server has answered, but opened no cursor".to_owned())
        })
    }

    /// Fetches at most `max_rows` rows from a cursor, 0 for all that are left. Fewer come only at the
    /// end, from where on [`Cursor::is_done`] holds, and fetches return nothing without asking the
    /// server.
    ///
    /// # Errors
    ///
    /// [`PgError::Usage`] for more than `i32::MAX` rows, when the transaction of the cursor is over, and
    /// after a fetch that took too long: its rows are lost. The server's error `34000` for a cursor of
    /// another connection. Else as [`query`](Self::query).
    pub fn fetch(&mut self, cursor: &mut Cursor, max_rows: u32) -> PgResult<Vec<Row>> {
        if cursor.is_done() {
            return Ok(Vec::new());
        }
        Ok(self.run(Request::Fetch { cursor, max_rows })?.into_rows())
    }

    /// [`fetch`](Self::fetch) row by row as they come, borrowed. The other rows of the cursor are
    /// there for later fetches.
    ///
    /// A stream that is dropped before its end has fetched all of its rows nevertheless.
    ///
    /// # Errors
    ///
    /// As [`stream`](Self::stream).
    pub fn fetch_stream(&mut self, cursor: &mut Cursor, max_rows: u32) -> PgResult<Rows<'_>> {
        if cursor.is_done() {
            return Ok(Rows::ended(self));
        }
        self.stream_request(Request::Fetch { cursor, max_rows })
    }

    /// Closes a cursor now and waits until the server has done so. To drop it is enough where that
    /// does not matter: its portal is closed later.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub fn close_cursor(&mut self, cursor: Cursor) -> PgResult<()> {
        drop(cursor);
        self.ask(Request::Sync).map(drop)
    }
}
