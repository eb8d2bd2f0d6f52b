//! What a pool has done, in figures.

use std::time::Duration;

/// What a pool is doing and has done, from [`PgPool::stats`](super::PgPool::stats).
///
/// The first group are gauges, as they are now; the second are counters since the pool was made,
/// which never go down; the third are high-water marks. OpenTelemetry's
/// `db.client.connection.*` metrics map to them: `count` with the states `idle` and `used` to
/// [`idle`](Self::idle) and [`in_use`](Self::in_use), `max` to [`max_size`](Self::max_size),
/// `pending_requests` to [`waiting`](Self::waiting), `timeouts` to
/// [`checkout_timeouts`](Self::checkout_timeouts), `wait_time` to [`wait_time`](Self::wait_time) over
/// [`waits`](Self::waits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// All connections, those being opened included.
    pub size: usize,
    /// The most connections that there may be.
    pub max_size: usize,
    /// Connections that nobody uses.
    pub idle: usize,
    /// Connections under guards, forgotten ones included.
    pub in_use: usize,
    /// Connections that carry requests of [`submit`](super::PgPool::submit).
    pub multiplexed: usize,
    /// Connections that are being opened or checked.
    pub connecting: usize,
    /// Connections that came back and are not clean yet.
    pub recovering: usize,
    /// How many wait for a connection: [`acquire`](super::PgPool::acquire) and
    /// [`get`](super::PgPool::get).
    pub waiting: usize,
    /// Requests of [`submit`](super::PgPool::submit) that wait for a place on a connection.
    pub queued_requests: usize,

    /// Connections that were opened, up to being ready.
    pub connections_created: u64,
    /// Connections that were closed, for whatever reason.
    pub connections_closed: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Connections that were given out.
    pub checkouts: u64,
    /// Connections that came back.
    pub returns: u64,
    /// Checkouts that had to wait.
    pub waits: u64,
    /// How long they have waited, all together.
    pub wait_time: Duration,
    /// Checkouts that ended by [`PgError::PoolTimeout`](crate::PgError::PoolTimeout).
    pub checkout_timeouts: u64,
    /// Checkouts and requests that were refused with
    /// [`PgError::PoolExhausted`](crate::PgError::PoolExhausted).
    pub exhausted: u64,
    /// Connections that were found dead, failed their check, or were broken when they came back.
    pub broken: u64,
    /// Connections that were closed for their age or for being idle.
    pub expired: u64,
    /// Connections that needed a round trip to be clean after they came back.
    pub resets: u64,
    /// Connections that were closed because their reset failed or took too long.
    pub failed_resets: u64,
    /// Requests that [`submit`](super::PgPool::submit) has taken.
    pub requests: u64,
    /// How often SCRAM keys were derived from the password, which is the expensive part of a login.
    pub key_derivations: u64,

    /// The most connections that there were at a time.
    pub most_size: usize,
    /// The most connections that were under guards at a time.
    pub most_in_use: usize,
    /// The most that waited for a connection at a time.
    pub most_waiting: usize,
    /// The most requests of [`submit`](super::PgPool::submit) that waited for a place at a time.
    pub most_queued_requests: usize,
}
