//! A moment, and the setting that it comes from.

use std::time::{Duration, Instant};

use crate::error::{PgError, Timeout};

/// The setting of the deadlines that are for one step each.
pub(crate) const IO_TIMEOUT: &str = "io_timeout";

/// The moment at which an operation has taken too long, and the setting that says so.
///
/// A COPY is one operation of many steps. A deadline whose setting is `io_timeout` bounds the time in
/// which nothing of it moves: the engine sets it anew while data come or go. Any other is the moment
/// at which the whole COPY has taken too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// The setting that allowed this much time, for the error.
    pub setting: &'static str,
    /// The setting's value.
    pub value: Duration,
}

impl Deadline {
    /// The deadline of an operation that begins `now` and may take what `setting` says: `value`.
    ///
    /// `None` for a time so long that it has no end.
    pub fn after(now: Instant, setting: &'static str, value: Duration) -> Option<Self> {
        now.checked_add(value).map(|at| Self { at, setting, value })
    }

    /// Whether it is for one step, and set anew for the next one.
    pub(crate) fn is_for_a_step(&self) -> bool {
        self.setting == IO_TIMEOUT
    }

    /// The same time again, from `now` on.
    pub(super) fn again(self, now: Instant) -> Option<Self> {
        Self::after(now, self.setting, self.value)
    }

    /// That it has come while the engine or the connection was `doing` this.
    pub(crate) fn error(&self, doing: &'static str) -> PgError {
        let Self { setting, value, .. } = *self;
        PgError::Timeout(Box::new(Timeout { setting, value, doing }))
    }
}
