//! What a pool needs to give a connection to somebody else.

use super::kept::Kept;
use super::within::Limit;
use super::{CommandTag, Deadline, PgConnection};
use crate::config::PgConfig;
use crate::error::PgError;
use crate::net::Source;

impl PgConnection {
    /// Forgets whoever has used the connection: what was not sent is taken back, nobody wants the
    /// answers to the rest, which have until `patience` to come, and what the driver keeps is as `config`
    /// says. What the server keeps stays.
    pub(crate) fn forget_user(&mut self, config: &PgConfig, patience: Option<Deadline>) {
        self.give_up_forgotten_copy();
        self.io_timeout = config.get_io_timeout();
        self.limit = Limit::IoTimeout;
        self.engine.discard_all(patience);
        self.engine.set_execution_mode(config.get_execution_mode());
        self.engine.catalogue().set_capacity(config.get_statement_cache_capacity());
        self.engine.set_tracer(None);
        self.notice_handler = None;
        self.set_aside.clear();
        self.last_tag = CommandTag::EMPTY;
        self.savepoints = 0;
        self.fresh = None;
        self.notices = Kept::new(config);
        self.notifications = Kept::new(config);
        self.dropped_told = 0;
    }

    /// Drops notices and notifications that nobody has fetched.
    pub(crate) fn forget_messages(&mut self) {
        self.notices.drain().for_each(drop);
        self.notifications.drain().for_each(drop);
        self.dropped_told = self.dropped_messages();
    }

    /// Drops results that nobody has taken.
    pub(crate) fn forget_results(&mut self) {
        self.engine.forget_results();
        self.set_aside.clear();
    }

    /// Whether nothing goes on: everything is sent and answered, and no cancel is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight() == 0 && !self.engine.has_unsent() && self.cancelling.is_none()
    }

    /// Breaks the connection: whatever is in flight fails with `error`.
    pub(crate) fn break_with(&mut self, error: PgError) {
        self.engine.break_with(error);
    }

    /// What to wait for.
    pub(crate) fn poll_sources(&self) -> impl Iterator<Item = Source<'_>> {
        self.source().into_iter().chain(self.cancel_source())
    }
}
