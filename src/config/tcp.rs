//! What the system does over TCP to notice a peer that has vanished without a word.
//!
//! Source: PostgreSQL documentation, libpq, "Parameter Key Words".

use std::time::Duration;

use super::PgConfig;

/// The settings of [`PgConfig`] that only TCP has. `None` is what the system has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TcpSettings {
    keepalives: bool,
    keepalives_idle: Option<Duration>,
    keepalives_interval: Option<Duration>,
    keepalives_count: Option<u32>,
    user_timeout: Option<Duration>,
}

impl Default for TcpSettings {
    fn default() -> Self {
        Self {
            keepalives: true,
            keepalives_idle: None,
            keepalives_interval: None,
            keepalives_count: None,
            user_timeout: None,
        }
    }
}

/// Zero is as good as nothing, as in libpq.
fn unless_zero(time: Option<Duration>) -> Option<Duration> {
    time.filter(|time| !time.is_zero())
}

/// Finding out that the server has vanished: a machine that lost its power, a firewall that forgot
/// the connection.
///
/// Nothing ever comes from such a peer, not even an end of file. A request that is in flight ends at
/// its deadline ([`io_timeout`](Self::io_timeout)) in any case; these settings make the system end
/// the connection, also one on which nothing is in flight. They have libpq's names and meanings, and
/// apply to TCP only.
///
/// Unless set, each has the system's value, and so has one that is set to zero. What a system lacks
/// is ignored. Linux has all of them, macOS, FreeBSD and NetBSD have all but `tcp_user_timeout`; a
/// value that a system does not take (Linux takes at most 32,767 seconds and 127 probes) is an error
/// of the connect, which names the setting.
impl PgConfig {
    /// Sets whether the system asks a peer that has been silent for long whether it is still there.
    /// The default is `true`.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert!(config.get_keepalives());
    /// assert!(!config.keepalives(false).get_keepalives());
    /// ```
    #[must_use]
    pub fn keepalives(mut self, keepalives: bool) -> Self {
        self.tcp.keepalives = keepalives;
        self
    }

    /// Sets after how long a silence the system asks for the first time; in whole seconds, rounded
    /// up. `None` and zero mean the system's, which is two hours nearly everywhere: routers and
    /// firewalls often forget a connection much earlier.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.keepalives_idle(Some(Duration::from_secs(60)));
    /// assert_eq!(config.get_keepalives_idle(), Some(Duration::from_secs(60)));
    /// assert_eq!(config.keepalives_idle(None).get_keepalives_idle(), None);
    /// ```
    #[must_use]
    pub fn keepalives_idle(mut self, silence: Option<Duration>) -> Self {
        self.tcp.keepalives_idle = unless_zero(silence);
        self
    }

    /// Sets after what time the system asks again when no answer has come; in whole seconds, rounded
    /// up. `None` and zero mean the system's.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.keepalives_interval(Some(Duration::from_secs(10)));
    /// assert_eq!(config.get_keepalives_interval(), Some(Duration::from_secs(10)));
    /// ```
    #[must_use]
    pub fn keepalives_interval(mut self, interval: Option<Duration>) -> Self {
        self.tcp.keepalives_interval = unless_zero(interval);
        self
    }

    /// Sets how many times the system asks in vain before it takes the connection for dead. `None`
    /// and zero mean the system's.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.keepalives_count(Some(3));
    /// assert_eq!(config.get_keepalives_count(), Some(3));
    /// ```
    #[must_use]
    pub fn keepalives_count(mut self, probes: Option<u32>) -> Self {
        self.tcp.keepalives_count = probes.filter(|probes| *probes > 0);
        self
    }

    /// Sets how long what was sent may stay unacknowledged before the system ends the connection; in
    /// whole milliseconds, rounded up. `None` and zero mean the system's, which is about a quarter of
    /// an hour on Linux. Linux only.
    ///
    /// It finds what keepalives do not: they say nothing while something waits to be acknowledged.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.tcp_user_timeout(Some(Duration::from_secs(20)));
    /// assert_eq!(config.get_tcp_user_timeout(), Some(Duration::from_secs(20)));
    /// ```
    #[must_use]
    pub fn tcp_user_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.tcp.user_timeout = unless_zero(timeout);
        self
    }

    /// Whether the system asks a silent peer, see [`keepalives`](Self::keepalives).
    pub fn get_keepalives(&self) -> bool {
        self.tcp.keepalives
    }

    /// After how long a silence, see [`keepalives_idle`](Self::keepalives_idle).
    pub fn get_keepalives_idle(&self) -> Option<Duration> {
        self.tcp.keepalives_idle
    }

    /// How long an answer is awaited, see [`keepalives_interval`](Self::keepalives_interval).
    pub fn get_keepalives_interval(&self) -> Option<Duration> {
        self.tcp.keepalives_interval
    }

    /// How many times it asks, see [`keepalives_count`](Self::keepalives_count).
    pub fn get_keepalives_count(&self) -> Option<u32> {
        self.tcp.keepalives_count
    }

    /// How long an acknowledgement may take, see [`tcp_user_timeout`](Self::tcp_user_timeout).
    pub fn get_tcp_user_timeout(&self) -> Option<Duration> {
        self.tcp.user_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PgConfig {
        PgConfig::new("localhost", 5432, "ada", "", "shop")
    }

    #[test]
    fn b6_h26_keepalives_are_on_and_the_rest_is_the_systems() {
        for config in [sample(), PgConfig::from_url("postgres://ada@localhost").unwrap()] {
            assert!(config.get_keepalives());
            assert_eq!(config.get_keepalives_idle(), None);
            assert_eq!(config.get_keepalives_interval(), None);
            assert_eq!(config.get_keepalives_count(), None);
            assert_eq!(config.get_tcp_user_timeout(), None);
        }
    }

    #[test]
    fn b6_h26_a_url_says_the_same_as_the_methods() {
        let url = "postgres://ada@localhost/shop?keepalives=0&keepalives_idle=60\
             &keepalives_interval=10&keepalives_count=3&tcp_user_timeout=1500";
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let config = sample()
            .keepalives(false)
            .keepalives_idle(seconds(60))
            .keepalives_interval(seconds(10))
            .keepalives_count(Some(3))
            .tcp_user_timeout(Some(Duration::from_millis(1_500)));
        assert_eq!(PgConfig::from_url(url).unwrap(), config);
        // Each setting is one of its own.
        assert!(!config.get_keepalives());
        assert_eq!(config.get_keepalives_idle(), seconds(60));
        assert_eq!(config.get_keepalives_interval(), seconds(10));
        assert_eq!(config.get_keepalives_count(), Some(3));
        assert_eq!(config.get_tcp_user_timeout(), Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn b6_h26_zero_is_the_systems() {
        let zero = Some(Duration::ZERO);
        let config = sample()
            .keepalives_idle(zero)
            .keepalives_interval(zero)
            .keepalives_count(Some(0))
            .tcp_user_timeout(zero);
        assert_eq!(config, sample());
    }
}
