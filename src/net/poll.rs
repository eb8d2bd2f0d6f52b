//! The one waiting function.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// A descriptor to wait for, and what for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// As many sources as a connection has: its own, and that of a cancel. More take memory of their own.
const FEW: usize = 2;

/// Waits in poll(2) until one of the sources is ready or in error, or `deadline` has come; without a
/// source just for the deadline. Returns whether one is ready.
///
/// `left` spares a look at the clock if the caller knows how long it is until then. A signal does
/// not end the wait: it goes on for what is left of the time.
pub(crate) fn wait(
    sources: &[Source<'_>],
    deadline: Option<Instant>,
    left: Option<Duration>,
) -> io::Result<bool> {
    let nothing = libc::pollfd { fd: -1, events: 0, revents: 0 };
    let (mut few, mut many) = ([nothing; FEW], Vec::new());
    let fds = match few.get_mut(..sources.len()) {
        Some(few) => few,
        None => {
            many.resize(sources.len(), nothing);
            many.as_mut_slice()
        }
    };
    for (place, source) in fds.iter_mut().zip(sources) {
        let read = if source.read { libc::POLLIN } else { 0 };
        let write = if source.write { libc::POLLOUT } else { 0 };
        (place.fd, place.events) = (source.fd.as_raw_fd(), read | write);
    }
    let count = libc::nfds_t::try_from(fds.len()).unwrap_or(libc::nfds_t::MAX);
    let mut left = left;
    loop {
        let timeout = left.take().or_else(|| {
            deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
        });
        // SAFETY: the pointer is that of `fds`, which has `count` entries and lives until the end of
        // this function; poll writes only their `revents`. Their descriptors are open: they are
        // borrowed.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), count, milliseconds(timeout)) };
        match ready {
            1.. => return Ok(true),
            0 if timeout.is_none_or(|timeout| timeout > LONGEST) => {}
            0 => return Ok(false),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// The longest that one poll(2) can wait: about 24 days. A longer wait takes several.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// A timeout for poll(2): rounded up, so that it never ends early and spins; -1 for none.
fn milliseconds(timeout: Option<Duration>) -> libc::c_int {
    let Some(timeout) = timeout else { return -1 };
    let up = timeout.subsec_nanos().div_ceil(1_000_000);
    let all = timeout.as_secs().saturating_mul(1_000).saturating_add(up.into());
    libc::c_int::try_from(all).unwrap_or(libc::c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn milliseconds_round_up() {
        let ms = |duration| milliseconds(Some(duration));
        assert_eq!(milliseconds(None), -1);
        assert_eq!(ms(Duration::ZERO), 0);
        assert_eq!(ms(Duration::from_nanos(1)), 1);
        assert_eq!(ms(Duration::from_millis(5)), 5);
        assert_eq!(ms(Duration::from_micros(5_001)), 6);
        assert_eq!(ms(Duration::MAX), libc::c_int::MAX);
    }

    #[test]
    fn waits_for_what_was_asked() -> io::Result<()> {
        let (near, mut far) = UnixStream::pair()?;
        let source = |read, write| Source { fd: near.as_fd(), read, write };
        let soon = Some(Instant::now() + Duration::from_millis(1));
        assert!(!wait(&[source(true, false)], soon, None)?, "nothing to read yet");
        assert!(wait(&[source(true, true)], None, None)?, "but there is room to write");
        let (other, _open) = UnixStream::pair()?;
        let quiet = Source { fd: other.as_fd(), read: true, write: false };
        assert!(!wait(&[quiet, source(true, false)], soon, None)?);
        far.write_all(b"x")?;
        assert!(wait(&[source(true, false)], None, None)?);
        assert!(wait(&[quiet, source(true, false)], None, None)?, "one of two is enough");
        assert!(wait(&[source(true, false), quiet], None, None)?);
        assert!(wait(&[quiet, quiet, source(true, false)], None, None)?, "or one of many");
        assert!(!wait(&[], soon, None)?, "without a source it only waits");
        Ok(())
    }
}
