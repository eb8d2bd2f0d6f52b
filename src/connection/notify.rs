//! LISTEN and NOTIFY on one connection. `listener.rs` has the listener that reconnects.

use std::iter::FusedIterator;
use std::time::{Duration, Instant};

use super::quote::{quote_identifier, quote_literal};
use super::{Delivery, Event, Notification, PgConnection, Ticket};
use crate::config::ExecutionMode;
use crate::engine::{Request, Step};
use crate::error::PgResult;

/// The notifications of a connection as they come, from [`PgConnection::notifications`].
///
/// ```no_run
/// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
/// use std::time::Duration;
///
/// connection.listen("jobs")?;
/// for notification in connection.notifications().timeout(Duration::from_secs(60)) {
///     println!("{}", notification?.payload);
/// }
/// println!("none for a minute");
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Debug)]
#[must_use = "an iterator does nothing unless it is asked"]
pub struct Notifications<'c> {
    connection: &'c mut PgConnection,
    timeout: Duration,
    ended: bool,
}

/// Listening, notifying, and what has been heard.
///
/// Source: PostgreSQL documentation, "Asynchronous Operations", "LISTEN", "NOTIFY".
impl PgConnection {
    /// Listens to a channel from now on; inside a transaction from its commit on, and not at all if
    /// it is rolled back.
    ///
    /// The name is quoted: it is taken as it is, upper case and blanks too.
    ///
    /// It belongs to the session: [`reset`](Self::reset) ends it, and so does the loss of the
    /// connection, which a [`PgListener`](crate::PgListener) makes good. Behind a pooler that
    /// gives each transaction another session nothing is heard.
    ///
    /// # Errors
    ///
    /// As [`execute_batch`](Self::execute_batch). [`PgError::Usage`](crate::PgError::Usage) for what is
    /// no name ([`quote_identifier`]): of one with more than 63 bytes the server would cut the end
    /// off, and listen to another channel.
    pub fn listen(&mut self, channel: &str) -> PgResult<()> {
        self.execute_batch(&listen_sql(channel)?)
    }

    /// Does not listen to a channel any more. What has been notified before may still come.
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub fn unlisten(&mut self, channel: &str) -> PgResult<()> {
        self.execute_batch(&unlisten_sql(channel)?)
    }

    /// Does not listen to any channel any more.
    ///
    /// # Errors
    ///
    /// As [`execute_batch`](Self::execute_batch).
    pub fn unlisten_all(&mut self) -> PgResult<()> {
        self.execute_batch("UNLISTEN *")
    }

    /// Notifies all sessions that listen to a channel, inside a transaction with its commit. The
    /// same payload to the same channel within one transaction is delivered once.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), in [`ExecutionMode::Simple`] as
    /// [`execute_batch`](Self::execute_batch). The server refuses a payload of 8,000 bytes or more
    /// (`22023`), and an empty channel or one of more than 63 bytes.
    pub fn notify(&mut self, channel: &str, payload: &str) -> PgResult<()> {
        if self.execution_mode() == ExecutionMode::Simple {
            // It has no parameters.
            let (channel, payload) = (quote_literal(channel)?, quote_literal(payload)?);
            return self
                .execute_batch(&format!("select pg_catalog.pg_notify({channel}, {payload})"));
        }
        let sql = "select pg_catalog.pg_notify($1, $2)";
        self.execute_with(sql, (channel, payload)).map(drop)
    }

    /// Queues [`listen`](Self::listen) on the non-blocking face.
    ///
    /// Notifying needs no function of its own there: it is the query
    /// `select pg_notify($1, $2)` with the channel and the payload as parameters.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit); [`PgError::Usage`](crate::PgError::Usage) as with
    /// [`listen`](Self::listen).
    pub fn submit_listen(&mut self, channel: &str, delivery: Delivery) -> PgResult<Ticket> {
        self.submit(Request::Simple { sql: &listen_sql(channel)? }, delivery)
    }

    /// Queues [`unlisten`](Self::unlisten) on the non-blocking face.
    ///
    /// # Errors
    ///
    /// As [`submit_listen`](Self::submit_listen).
    pub fn submit_unlisten(&mut self, channel: &str, delivery: Delivery) -> PgResult<Ticket> {
        self.submit(Request::Simple { sql: &unlisten_sql(channel)? }, delivery)
    }

    /// The next notification that is here, `None` when there is none. Looks at the socket, and
    /// never waits.
    ///
    /// Those that came during other calls are first, oldest first. Notices that come meanwhile go to
    /// the handler, or are kept for [`drain_notices`](Self::drain_notices).
    ///
    /// # Errors
    ///
    /// What broke the connection, when all notifications that came before have been returned.
    /// [`PgError::Busy`](crate::PgError::Busy) while requests that deliver events are unfinished: then
    /// notifications are events too.
    pub fn poll_notification(&mut self) -> PgResult<Option<Notification>> {
        // That ends what is late too, and goes on with its cancel.
        self.wait_notification(Duration::ZERO)
    }

    /// Waits for the next notification; `None` when there was none within `timeout`.
    /// [`Duration::MAX`] is for ever, [`Duration::ZERO`] does not wait.
    ///
    /// The server delivers notifications between transactions only: inside one it waits for
    /// nothing.
    ///
    /// ```no_run
    /// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
    /// use std::time::Duration;
    ///
    /// connection.listen("jobs")?;
    /// while let Some(job) = connection.wait_notification(Duration::from_secs(60))? {
    ///     println!("{} from process {}", job.payload, job.process_id);
    /// }
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`poll_notification`](Self::poll_notification).
    pub fn wait_notification(&mut self, timeout: Duration) -> PgResult<Option<Notification>> {
        if let Some(kept) = self.notifications.pop() {
            return Ok(Some(kept));
        }
        self.check_not_busy()?;
        let deadline = Instant::now().checked_add(timeout);
        self.poll_until(deadline, Self::find_notification)
    }

    /// Notifications as they come, one after the other; waits for each.
    ///
    /// It ends with an error, or when none has come for a [`timeout`](Notifications::timeout).
    /// While it is used nothing is dropped, however many come: what has not been asked for stays in
    /// the socket, and holds the server back.
    pub fn notifications(&mut self) -> Notifications<'_> {
        Notifications { connection: self, timeout: Duration::MAX, ended: false }
    }

    /// The notifications that came during other calls since the last call, oldest first. Does not
    /// look at the socket; [`poll_notification`](Self::poll_notification) does.
    ///
    /// At most [`max_kept_messages`](crate::PgConfig::max_kept_messages) are kept; the oldest give way,
    /// and are told: by [`Event::MessagesDropped`], which counts notices too, to
    /// [`next_event`](Self::next_event), and by
    /// [`dropped_notifications`](Self::dropped_notifications).
    pub fn drain_notifications(&mut self) -> impl Iterator<Item = Notification> + '_ {
        self.notifications.drain()
    }

    /// Whether notifications are kept that came during other calls. Does not look at the socket.
    pub fn has_notifications(&self) -> bool {
        self.notification_count() > 0
    }

    /// How many notifications are kept that came during other calls. Does not look at the socket.
    pub fn notification_count(&self) -> usize {
        self.notifications.len()
    }

    /// How many notifications have been dropped on this connection so far, because more came during
    /// other calls than are [kept](crate::PgConfig::max_kept_messages). A program that sees the number
    /// grow reads the state anew that it is notified of.
    pub fn dropped_notifications(&self) -> u64 {
        self.notifications.dropped()
    }

    /// The next notification of what has been received, after one look at the socket at most.
    fn find_notification(&mut self) -> PgResult<Option<Notification>> {
        let received = self.received_notification()?;
        if received.is_none() && self.exchange() {
            return self.received_notification();
        }
        Ok(received)
    }

    /// The next notification of what has been received. What comes behind it is left where it is,
    /// so that none has to give way to another.
    fn received_notification(&mut self) -> PgResult<Option<Notification>> {
        loop {
            let event = match self.engine.advance() {
                Step::Starved => return Ok(None),
                Step::Broken => return Err(self.engine.breakage()),
                step => self.engine.own_event(step),
            };
            match event {
                Some(Event::Notification(notification)) => return Ok(Some(notification)),
                Some(event) => self.keep_event(event),
                // Results are collected.
                None => {}
            }
        }
    }
}

impl Notifications<'_> {
    /// Ends when none has come for so long.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Iterator for Notifications<'_> {
    type Item = PgResult<Notification>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.connection.wait_notification(self.timeout);
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

impl FusedIterator for Notifications<'_> {}

/// The command that listens to a channel.
pub(super) fn listen_sql(channel: &str) -> PgResult<String> {
    Ok(format!("LISTEN {}", quote_identifier(channel)?))
}

/// The command that ends what [`listen_sql`] began.
pub(super) fn unlisten_sql(channel: &str) -> PgResult<String> {
    Ok(format!("UNLISTEN {}", quote_identifier(channel)?))
}
