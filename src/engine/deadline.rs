//! A moment, and the setting that it comes from.

use std::time::{Duration, Instant};

use crate::error::{PgError, Timeout};

/// The moment at which an operation has taken too long, and the setting that says so.
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

    pub(super) fn error(&self, doing: &'static str) -> PgError {
        let Self { setting, value, .. } = *self;
        PgError::Timeout(Box::new(Timeout { setting, value, doing }))
    }
}
