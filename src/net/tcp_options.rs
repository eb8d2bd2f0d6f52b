//! What the system does over TCP to notice a peer that has vanished.

use std::time::Duration;

/// How a TCP socket finds out that nobody is at the other end any more. `None` leaves what the
/// system has, and what the system lacks is ignored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TcpOptions {
    /// Whether a silent peer is asked if it is still there; the next three say when.
    pub(crate) keepalives: bool,
    /// After how long a silence.
    pub(crate) keepalives_idle: Option<Duration>,
    /// After what time again, when no answer comes.
    pub(crate) keepalives_interval: Option<Duration>,
    /// How many times in vain.
    pub(crate) keepalives_count: Option<u32>,
    /// How long what was sent may stay unacknowledged.
    pub(crate) user_timeout: Option<Duration>,
}

/// An integer option as setsockopt(2) takes it.
pub(super) struct SocketOption {
    pub(super) level: libc::c_int,
    pub(super) name: libc::c_int,
    pub(super) value: libc::c_int,
    /// The setting that it comes from, for errors.
    pub(super) setting: &'static str,
}

/// The options of TCP that a system has, by their names there.
struct Names {
    /// Seconds of silence until the first probe.
    idle: Option<libc::c_int>,
    /// Seconds between probes.
    interval: Option<libc::c_int>,
    /// How many probes there are.
    count: Option<libc::c_int>,
    /// Milliseconds until what was sent must be acknowledged.
    user_timeout: Option<libc::c_int>,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const NAMES: Names = Names {
    idle: Some(libc::TCP_KEEPIDLE),
    interval: Some(libc::TCP_KEEPINTVL),
    count: Some(libc::TCP_KEEPCNT),
    user_timeout: Some(libc::TCP_USER_TIMEOUT),
};
#[cfg(any(target_os = "freebsd", target_os = "dragonfly", target_os = "netbsd"))]
const NAMES: Names = Names {
    idle: Some(libc::TCP_KEEPIDLE),
    interval: Some(libc::TCP_KEEPINTVL),
    count: Some(libc::TCP_KEEPCNT),
    user_timeout: None,
};
#[cfg(target_vendor = "apple")]
const NAMES: Names = Names {
    idle: Some(libc::TCP_KEEPALIVE),
    interval: Some(libc::TCP_KEEPINTVL),
    count: Some(libc::TCP_KEEPCNT),
    user_timeout: None,
};
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_os = "dragonfly",
    target_os = "netbsd",
    target_vendor = "apple"
)))]
const NAMES: Names = Names { idle: None, interval: None, count: None, user_timeout: None };

impl TcpOptions {
    /// The options to set on a socket.
    pub(super) fn to_set(self) -> impl Iterator<Item = SocketOption> {
        let on = self.keepalives.then_some(SocketOption {
            level: libc::SOL_SOCKET,
            name: libc::SO_KEEPALIVE,
            value: 1,
            setting: "keepalives",
        });
        let seconds = |time: Option<Duration>| time.map(|time| whole(time, 1_000));
        let probes = self.keepalives_count.map(|count| count.try_into().unwrap_or(MOST));
        let keepalives = [
            tcp("keepalives_idle", NAMES.idle, seconds(self.keepalives_idle)),
            tcp("keepalives_interval", NAMES.interval, seconds(self.keepalives_interval)),
            tcp("keepalives_count", NAMES.count, probes),
        ];
        let keepalives = keepalives.into_iter().filter(move |_| self.keepalives).flatten();
        let milliseconds = self.user_timeout.map(|time| whole(time, 1));
        on.into_iter().chain(keepalives).chain(tcp(
            "tcp_user_timeout",
            NAMES.user_timeout,
            milliseconds,
        ))
    }
}

/// An option of TCP, if the system has it and there is a value for it.
fn tcp(
    setting: &'static str,
    name: Option<libc::c_int>,
    value: Option<libc::c_int>,
) -> Option<SocketOption> {
    let (name, value) = name.zip(value)?;
    Some(SocketOption { level: libc::IPPROTO_TCP, name, value, setting })
}

/// The largest value of an option.
const MOST: libc::c_int = libc::c_int::MAX;

/// A time in units of so many milliseconds, rounded up: zero would not mean "at once".
fn whole(time: Duration, milliseconds: u128) -> libc::c_int {
    let units = time.as_nanos().div_ceil(milliseconds * 1_000_000);
    units.try_into().unwrap_or(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h26_times_are_rounded_up_to_what_the_system_counts() {
        let time = Duration::from_micros;
        for (time, seconds, milliseconds) in [
            (time(1), 1, 1),
            (time(1_000), 1, 1),
            (time(1_001), 1, 2),
            (time(1_000_000), 1, 1_000),
            (time(1_000_001), 2, 1_001),
            (Duration::MAX, MOST, MOST),
        ] {
            assert_eq!((whole(time, 1_000), whole(time, 1)), (seconds, milliseconds), "{time:?}");
        }
    }
}
