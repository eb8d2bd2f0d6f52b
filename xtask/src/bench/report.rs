//! What was measured, in words.

use std::time::Duration;

/// How long requests took.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(super) fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    /// What so many of a hundred requests did not exceed; zero if there were none.
    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// /db alone.
    pub(super) alone: Latencies,
    /// /db while others ask for /slow.
    pub(super) beside: Latencies,
    /// Those others.
    pub(super) slow: Latencies,
}

impl Found {
    /// How many times as long the median request takes beside slow ones.
    fn ratio(&self) -> f64 {
        let median = |latencies: &Latencies| latencies.percentile(50).as_secs_f64();
        median(&self.beside) / median(&self.alone)
    }
}

/// The latencies beside each other.
pub(super) fn table(found: &Found, clients: usize, slow_clients: usize) -> String {
    let mut table = format!("{:<36}{:>9}{:>12}{:>12}\n", "", "requests", "median", "p99");
    for (name, latencies) in [
        (format!("/db, {clients} clients, alone"), &found.alone),
        (format!("/db, {clients} clients, beside /slow"), &found.beside),
        (format!("/slow, {slow_clients} clients"), &found.slow),
    ] {
        let milliseconds = |percent| latencies.percentile(percent).as_secs_f64() * 1000.0;
        let (median, p99) = (milliseconds(50), milliseconds(99));
        let count = latencies.count();
        table += &format!("{name:<36}{count:>9}{median:>9.3} ms{p99:>9.3} ms\n");
    }
    table
        + &format!(
            "beside /slow the median of /db is {:.2} times that of /db alone\n",
            found.ratio()
        )
}

/// What to say if /db takes too long beside /slow.
pub(super) fn over_the_limit(found: &Found, limit: f64) -> Option<String> {
    // Also when there is no ratio, for want of requests.
    let is_within = found.ratio() <= limit;
    (!is_within).then(|| {
        let ratio = found.ratio();
        format!("the medians of /db are to differ by a factor of {limit} at most: {ratio:.2}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latencies(milliseconds: impl IntoIterator<Item = u64>) -> Latencies {
        Latencies(milliseconds.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let hundred = latencies((1..=100).rev());
        for percent in [1, 50, 99, 100] {
            let expected = Duration::from_millis(u64::try_from(percent).unwrap());
            assert_eq!(hundred.percentile(percent), expected);
        }
        assert_eq!(latencies([3, 1, 2]).percentile(50), Duration::from_millis(2));
        assert_eq!(latencies([7]).percentile(99), Duration::from_millis(7));
        assert_eq!(latencies([]).percentile(50), Duration::ZERO);
    }

    #[test]
    fn the_table_has_both_medians_and_their_ratio() {
        let found = Found {
            alone: latencies([1, 2, 3]),
            beside: latencies([2, 3, 40]),
            slow: latencies([100]),
        };
        assert_eq!(
            table(&found, 8, 100),
            "                                     requests      median         p99\n\
             /db, 8 clients, alone                       3    2.000 ms    3.000 ms\n\
             /db, 8 clients, beside /slow                3    3.000 ms   40.000 ms\n\
             /slow, 100 clients                          1  100.000 ms  100.000 ms\n\
             beside /slow the median of /db is 1.50 times that of /db alone\n"
        );
        assert_eq!(over_the_limit(&found, 1.5), None);
        assert_eq!(
            over_the_limit(&found, 1.4).unwrap(),
            "the medians of /db are to differ by a factor of 1.4 at most: 1.50"
        );
        assert!(over_the_limit(&Found::default(), 1.5).is_some(), "without requests");
    }
}
