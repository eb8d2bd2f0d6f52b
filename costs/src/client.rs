//! A connection that does not wait.

use std::os::fd::{AsFd, BorrowedFd};

use chopin_pg::{
    Delivery, Drive, Event, Interest, PgConfig, PgConnection, Request, Statement, Submit,
};

use crate::Result;
use crate::points::{FIRST, SELECT, after, make_points, point};

/// What there is to wait for while answers are missing and everything is sent.
const ANSWERS: Interest = Interest { read: true, write: false };

/// A connection that is asked for one point after the other, and checks the answers when they come.
pub(crate) struct Client {
    connection: PgConnection,
    select: Statement,
    /// The id of the point to ask for next.
    next: i32,
    /// The id of the next point to come.
    expected: i32,
    /// How many requests are unanswered.
    open: usize,
}

impl Client {
    /// Connects, and makes the points of this connection.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) fn connect(config: &PgConfig) -> Result<Self> {
        let mut connection = PgConnection::connect(config)?;
        make_points(&mut connection, "temp")?;
        Self::new(connection)
    }

    /// Of a connection that finds points which are there.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) fn new(mut connection: PgConnection) -> Result<Self> {
        let select = connection.prepare(SELECT)?;
        Ok(Self { connection, select, next: FIRST, expected: FIRST, open: 0 })
    }

    /// Asks for a point, in a request of its own. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) fn ask(&mut self) -> Result<()> {
        self.submit(Submit::new(Delivery::Rows))
    }

    /// Asks for a point, in a request of the group that is open. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) fn ask_in_group(&mut self) -> Result<()> {
        self.submit(Submit::new(Delivery::Rows).no_sync())
    }

    #[inline]
    fn submit(&mut self, submit: Submit) -> Result<()> {
        let request = Request::Execute { statement: &self.select, params: &(self.next,) };
        let _ticket = self.connection.submit_with(request, submit)?;
        self.next = after(self.next);
        self.open += 1;
        Ok(())
    }

    /// Ends the group.
    pub(crate) fn end_group(&mut self) {
        self.connection.end_group();
    }

    /// Asks for the points with these ids, the next ones, in one request. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(crate) fn ask_many(&mut self, ids: &[(i32,)]) -> Result<()> {
        let request = Request::ExecuteBatch { statement: &self.select, sets: &ids };
        let _ticket = self.connection.submit_with(request, Submit::new(Delivery::Rows))?;
        self.next = ids.last().map_or(self.next, |(last,)| after(*last));
        self.open += 1;
        Ok(())
    }

    /// Sends what was asked. It is so little that the socket takes all of it, so that the caller has
    /// only answers to wait for.
    pub(crate) fn send(&mut self) {
        self.connection.flush();
        assert!(self.connection.sources().all(|(_, interest)| interest == ANSWERS));
    }

    /// Whether there are answers to come.
    pub(crate) fn waits(&self) -> bool {
        self.open > 0
    }

    /// Takes the answers that have come, without waiting for more.
    ///
    /// # Errors
    ///
    /// Those of the connection, and of each query.
    pub(crate) fn take_answers(&mut self) -> Result<()> {
        loop {
            let drive = self.connection.drive();
            while let Some(event) = self.connection.next_event()? {
                match event {
                    Event::Row { row, .. } => {
                        let found: (i32, i32) = row.to()?;
                        assert_eq!(found, point(self.expected));
                        self.expected = after(self.expected);
                    }
                    Event::Complete { .. } => self.open -= 1,
                    Event::Failed { error, .. } => return Err(error.into()),
                    _ => {}
                }
            }
            if drive == Drive::Idle {
                break;
            }
        }
        assert!(self.waits() || self.expected == self.next, "a point has not come");
        Ok(())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
