//! Doing work again after an error that is safe to retry, with a growing, random pause between the
//! attempts.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::iter::Take;
use std::time::Duration;

use super::{PgError, PgResult};

/// How long to wait before each new attempt: an endless sequence of random delays under a growing
/// ceiling.
///
/// The ceiling starts at 10 ms, doubles with every attempt and stays at 1 s. Each delay is drawn
/// evenly from zero to the ceiling ("full jitter"), so that many clients that failed together do
/// not come back together. The same seed gives the same sequence. It only computes; whoever uses
/// it does the waiting.
///
/// ```
/// use chopin_pg::error::Backoff;
/// use std::time::Duration;
///
/// let delays: Vec<Duration> = Backoff::new(42).take(8).collect();
/// assert!(delays[0] <= Duration::from_millis(10));
/// assert!(delays[2] <= Duration::from_millis(40));
/// assert!(delays[7] <= Backoff::MAX_DELAY);
/// assert!(Backoff::new(42).take(8).eq(delays));
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    ceiling: Duration,
    random: SplitMix64,
}

impl Backoff {
    /// The longest first delay: 10 ms.
    pub const FIRST_DELAY: Duration = Duration::from_millis(10);

    /// The longest delay of all: 1 s.
    pub const MAX_DELAY: Duration = Duration::from_secs(1);

    /// The sequence of delays that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { ceiling: Self::FIRST_DELAY, random: SplitMix64(seed) }
    }

    /// A sequence that is different each time, so that clients do not keep step with each other.
    pub fn random() -> Self {
        Self::new(random_seed())
    }
}

/// A number that is another one each time. The standard library seeds its hash maps from the operating
/// system; that is good enough for a pause.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Evenly between nothing and all of `whole`, another part each time.
pub(crate) fn random_part(whole: Duration) -> Duration {
    part(whole, random_seed())
}

/// As much of `whole` as the upper 32 of these random bits say: a fraction of one, and no float.
fn part(whole: Duration, bits: u64) -> Duration {
    let nanos = (whole.as_nanos() * (u128::from(bits >> 32) + 1)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = part(self.ceiling, self.random.next());
        self.ceiling = Self::MAX_DELAY.min(self.ceiling * 2);
        Some(delay)
    }
}

/// How often one piece of work may be done again, and after what pauses.
///
/// It is data: it neither waits nor reads a clock. A program with an event loop keeps one beside
/// the work, asks [`after`](Self::after) when the work has failed, and sets a timer.
///
/// ```
/// use chopin_pg::PgError;
/// use chopin_pg::error::Retries;
/// use std::time::Duration;
///
/// let deadlock = PgError::from_fields([(b'S', "ERROR"), (b'C', "40P01"), (b'M', "deadlock")]);
/// let mut retries = Retries::new(1);
/// assert!(retries.after(&PgError::RolledBack).is_none(), "not safe to retry");
/// assert!(retries.after(&deadlock).is_some_and(|delay| delay <= Duration::from_millis(10)));
/// assert!(retries.after(&deadlock).is_none(), "once is enough");
///
/// let mut retries = Retries::with_delays([Duration::from_millis(3)]);
/// assert_eq!(retries.after(&deadlock), Some(Duration::from_millis(3)));
/// ```
#[derive(Clone, Debug)]
pub struct Retries<D = Take<Backoff>> {
    delays: D,
}

impl Retries {
    /// So many times, after the pauses of [`Backoff::random`].
    pub fn new(max_retries: u32) -> Self {
        Self::with_delays(
            Backoff::random().take(usize::try_from(max_retries).unwrap_or(usize::MAX)),
        )
    }
}

impl<D: Iterator<Item = Duration>> Retries<D> {
    /// Once after each of these pauses.
    pub fn with_delays(delays: impl IntoIterator<IntoIter = D>) -> Self {
        Self { delays: delays.into_iter() }
    }

    /// The work has failed with `error`: how long to wait before it is done again. `None` when the
    /// error is not [safe to retry](super::PgError::is_safe_to_retry), or it was done again often
    /// enough.
    pub fn after(&mut self, error: &PgError) -> Option<Duration> {
        if error.is_safe_to_retry() { self.delays.next() } else { None }
    }
}

/// Sebastiano Vigna's SplitMix64: small, fast, any seed will do.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Calls `work` until it succeeds, fails with an error that is not [safe to
/// retry](super::PgError::is_safe_to_retry), or has been repeated `max_retries` times; between two
/// calls `wait` is handed the delay to let pass.
///
/// `work` should be a whole transaction: after a serialization failure or a deadlock there is
/// nothing left of the old one. This form is for programs that do their own waiting; it neither
/// sleeps nor reads a clock.
///
/// ```
/// use chopin_pg::PgError;
/// use chopin_pg::error::retry_with;
///
/// let deadlock = [(b'S', "ERROR"), (b'C', "40P01"), (b'M', "deadlock detected")];
/// let mut attempts = 0;
/// let mut delays = Vec::new();
/// let answer = retry_with(5, |delay| delays.push(delay), || {
///     attempts += 1;
///     if attempts < 3 { Err(PgError::from_fields(deadlock)) } else { Ok("done") }
/// });
/// assert_eq!(answer?, "done");
/// assert_eq!(delays.len(), 2);
/// # Ok::<(), PgError>(())
/// ```
///
/// # Errors
///
/// The error of the last attempt.
pub fn retry_with<T>(
    max_retries: u32,
    mut wait: impl FnMut(Duration),
    mut work: impl FnMut() -> PgResult<T>,
) -> PgResult<T> {
    let mut retries = Retries::new(max_retries);
    loop {
        match work() {
            Ok(done) => return Ok(done),
            Err(error) => match retries.after(&error) {
                Some(delay) => wait(delay),
                None => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Timeout;
    use super::*;

    fn deadlock() -> PgError {
        PgError::from_fields([(b'S', "ERROR"), (b'C', "40P01"), (b'M', "deadlock detected")])
    }

    /// Runs work that fails with `failures` in turn and then succeeds; how often it was called,
    /// the delays, the outcome.
    fn run(max_retries: u32, failures: Vec<PgError>) -> (u32, Vec<Duration>, PgResult<()>) {
        let (mut calls, mut delays, mut failures) = (0, Vec::new(), failures.into_iter());
        let outcome = retry_with(
            max_retries,
            |delay| delays.push(delay),
            || {
                calls += 1;
                failures.next().map_or(Ok(()), Err)
            },
        );
        (calls, delays, outcome)
    }

    #[test]
    fn s4_6_retry_backs_off_until_the_work_succeeds() {
        let (calls, delays, outcome) = run(5, vec![deadlock(), deadlock(), deadlock()]);
        assert!(outcome.is_ok());
        assert_eq!((calls, delays.len()), (4, 3));
        for (delay, ceiling) in delays.iter().zip([10, 20, 40]) {
            assert!(*delay > Duration::ZERO && *delay <= Duration::from_millis(ceiling));
        }
    }

    #[test]
    fn s4_6_retry_gives_up_after_the_last_retry() {
        let (calls, delays, outcome) = run(2, vec![deadlock(), deadlock(), deadlock(), deadlock()]);
        assert_eq!(outcome.unwrap_err().to_string(), deadlock().to_string());
        assert_eq!((calls, delays.len()), (3, 2), "no pause behind the last attempt");

        let (calls, delays, outcome) = run(0, vec![deadlock()]);
        assert!(outcome.is_err());
        assert_eq!((calls, delays.len()), (1, 0));
    }

    #[test]
    fn s4_6_retry_stops_at_the_first_error_that_is_not_safe() {
        let unique = [(b'S', "ERROR"), (b'C', "23505"), (b'M', "duplicate key")];
        let (calls, delays, outcome) = run(5, vec![deadlock(), PgError::from_fields(unique)]);
        assert!(outcome.unwrap_err().to_string().contains("23505"));
        assert_eq!((calls, delays.len()), (2, 1));
    }

    #[test]
    fn h2_timeout_is_never_retried() {
        let timeout = Timeout {
            setting: "io_timeout",
            value: Duration::from_secs(5),
            doing: "waiting for the answer to an INSERT",
        };
        let (calls, _, outcome) = run(5, vec![timeout.into()]);
        assert!(matches!(outcome, Err(PgError::Timeout(_))));
        assert_eq!(calls, 1, "the server may have done the INSERT");

        let (calls, _, _) = run(5, vec![PgError::ConnectionClosed("reset by peer".to_owned())]);
        assert_eq!(calls, 1);
        let (calls, _, _) = run(5, vec![PgError::WouldBlock]);
        assert_eq!(calls, 1);
    }

    #[test]
    fn s4_6_what_was_not_sent_or_not_run_is_retried() {
        let not_sent = PgError::NotSent(Box::new(PgError::ConnectionClosed("idle".to_owned())));
        let stale = [(b'S', "ERROR"), (b'C', "26000"), (b'M', "no such prepared statement")];
        let not_run = PgError::NotRun(Box::new(PgError::from_fields(stale)));
        let (calls, _, outcome) = run(5, vec![not_sent, not_run]);
        assert!(outcome.is_ok());
        assert_eq!(calls, 3);
    }

    #[test]
    fn s4_6_a_busy_connection_is_not_retried() {
        let (calls, _, outcome) = run(5, vec![PgError::Busy]);
        assert!(matches!(outcome, Err(PgError::Busy)));
        assert_eq!(calls, 1, "the events are still there however long one waits");
    }

    #[test]
    fn s4_6_delays_grow_to_a_ceiling_and_are_spread_below_it() {
        let ceilings = [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000].map(Duration::from_millis);
        let mut largest = [Duration::ZERO; 10];
        let mut smallest = [Duration::MAX; 10];
        for seed in 0..1000 {
            for (at, delay) in Backoff::new(seed).take(10).enumerate() {
                assert!(delay <= ceilings[at], "seed {seed}: {delay:?}");
                largest[at] = largest[at].max(delay);
                smallest[at] = smallest[at].min(delay);
            }
        }
        for (at, ceiling) in ceilings.into_iter().enumerate() {
            assert!(largest[at] > ceiling * 9 / 10, "attempt {at}: {:?}", largest[at]);
            assert!(smallest[at] < ceiling / 10, "attempt {at}: {:?}", smallest[at]);
        }
    }

    #[test]
    fn s4_6_a_seed_fixes_the_delays_and_random_ones_differ() {
        let delays = |backoff: Backoff| backoff.take(20).collect::<Vec<_>>();
        assert_eq!(delays(Backoff::new(7)), delays(Backoff::new(7)));
        assert_ne!(delays(Backoff::new(7)), delays(Backoff::new(8)));
        assert_ne!(delays(Backoff::random()), delays(Backoff::random()));
    }
}
