//! Doing work again after an error that is safe to retry.

use std::time::{Duration, Instant};

use crate::error::{PgResult, retry_with};
use crate::net::wait;

/// Calls `work` until it succeeds, fails with an error that is not [safe to
/// retry](crate::PgError::is_safe_to_retry), or has been repeated `max_retries` times. Between two
/// calls it waits, longer each time, for a random part of a growing limit
/// ([`Backoff`](crate::error::Backoff)).
///
/// Repeated is only what the server surely did not do: serialization failures, deadlocks, requests
/// that were never sent, and connects that were refused because the server is starting or full. A
/// timeout never is. `work` should be a whole transaction, and begin with what makes a new one
/// possible; [`run_serializable`](crate::PgConnection::run_serializable) and
/// [`run_with_retries`](crate::TransactionBuilder::run_with_retries) do that by themselves.
///
/// ```no_run
/// use chopin_pg::retry;
/// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
/// let sum: i64 = retry(5, || {
///     connection.begin()?;
///     let row = connection.query_one("select sum(balance)::int8 from accounts", &[]);
///     match row {
///         Ok(row) => connection.commit().and_then(|()| row.get(0)),
///         Err(error) => {
///             connection.rollback()?;
///             Err(error)
///         }
///     }
/// })?;
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// # Errors
///
/// The error of the last call.
pub fn retry<T>(max_retries: u32, work: impl FnMut() -> PgResult<T>) -> PgResult<T> {
    retry_with(max_retries, pause, work)
}

/// Waits. A failure of poll(2) without descriptors only makes the pause shorter.
pub(super) fn pause(time: Duration) {
    let _ = wait(&[], Instant::now().checked_add(time), None);
}
