//! Blocking sockets that may be TCP or unix, and the two things std has no call for: waiting on
//! several of them, and ending a connection with a RST.
//!
//! Knows no protocol. Shared by the fake server, the relay, the recorder and the pooler.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket, such as `/run/postgresql/.s.PGSQL.5432`.
    Unix(PathBuf),
}

impl Target {
    /// The loopback interface's port.
    pub fn port(port: u16) -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// The unix socket that a server of this port makes in its socket directory.
    pub fn socket(directory: impl AsRef<Path>, port: u16) -> Self {
        Self::Unix(directory.as_ref().join(format!(".s.PGSQL.{port}")))
    }

    pub(crate) fn connect(&self, limit: Duration) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => Stream::from_tcp(TcpStream::connect_timeout(address, limit)?),
            Self::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<PathBuf> for Target {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

/// A connected socket, blocking unless told otherwise; reads and writes go through `&Stream`, so
/// that threads share one.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Nagle's algorithm would put the pieces together again that a test cut on purpose.
    pub(crate) fn from_tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    pub(crate) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(on),
            Self::Unix(stream) => stream.set_nonblocking(on),
        }
    }

    /// Limits each later read; `limit` must not be zero.
    pub(crate) fn set_read_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            Self::Unix(stream) => stream.set_read_timeout(Some(limit)),
        }
    }

    /// Limits each later write; `limit` must not be zero.
    pub(crate) fn set_write_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(limit)),
            Self::Unix(stream) => stream.set_write_timeout(Some(limit)),
        }
    }

    /// A peer that has gone already is no error here: the result is what was wanted.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        let _gone_already = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    /// Says that nothing more will come, and reads and forgets what the peer has sent already: a
    /// close with unread bytes would send a RST. The socket does not block any more.
    pub(crate) fn hang_up(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write);
        self.set_nonblocking(true)?;
        while matches!(read_some(self, &mut [0; 4096]), Ok(1..)) {}
        Ok(())
    }

    /// Makes the close of the last handle send a RST instead of a FIN. `false`: a unix socket,
    /// which has no such thing.
    pub(crate) fn reset_on_close(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(stream) => linger_zero(stream).map(|()| true),
            Self::Unix(_) => Ok(false),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buf),
            Stream::Unix(stream) => (&mut &*stream).read(buf),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(buf),
            Stream::Unix(stream) => (&mut &*stream).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// SO_LINGER with a time of zero; std's `TcpStream::set_linger` is not stable.
#[allow(unsafe_code, reason = "setsockopt(SO_LINGER) has no stable std counterpart")]
fn linger_zero(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = libc::socklen_t::try_from(size_of::<libc::linger>()).expect("a small struct");
    // SAFETY: the descriptor is open, it is borrowed from `stream`; the pointer and the size
    // describe `linger`, which lives to the end of the call and is only read.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What to wait for on a descriptor. When it is nothing, the descriptor is left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) fd: RawFd,
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Wanted {
    fn as_pollfd(self) -> libc::pollfd {
        let read = if self.read { libc::POLLIN } else { 0 };
        let write = if self.write { libc::POLLOUT } else { 0 };
        // poll(2) reports a hang-up unasked, for ever, but skips negative descriptors.
        let fd = if self.read || self.write { self.fd } else { -1 };
        libc::pollfd { fd, events: read | write, revents: 0 }
    }
}

/// Waits until at least one descriptor can be read (or accepted from, or has hung up).
pub(crate) fn wait_readable<const N: usize>(descriptors: [RawFd; N]) -> io::Result<()> {
    wait_ready(descriptors.map(|fd| Wanted { fd, read: true, write: false }))
}

/// Waits until at least one descriptor is ready for something that is wanted of it, or has failed.
#[allow(unsafe_code, reason = "std has no poll(2)")]
pub(crate) fn wait_ready<const N: usize>(wanted: [Wanted; N]) -> io::Result<()> {
    let mut polled = wanted.map(Wanted::as_pollfd);
    let count = libc::nfds_t::try_from(polled.len()).expect("a handful of descriptors");
    loop {
        // SAFETY: `polled` is an array of `count` pollfd, borrowed mutably for the call.
        let result = unsafe { libc::poll(polled.as_mut_ptr(), count, -1) };
        if result >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Whether a failed read or write only says that the peer has gone.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
    )
}

/// Whether a read or write ran into the limit set for it.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Reads what is there, waiting for at least one byte; 0 when the peer has ended or is gone.
pub(crate) fn read_some(mut from: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_gone(&error) => return Ok(0),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn reset_on_close_gives_the_peer_a_reset() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Stream::from_tcp(listener.accept().unwrap().0).unwrap();
        assert!(stream.reset_on_close().unwrap());
        drop(stream);
        let error = peer.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_unix_socket_says_that_it_cannot_reset() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(!Stream::Unix(one).reset_on_close().unwrap());
    }

    #[test]
    fn a_target_names_the_servers_own_socket() {
        let target = Target::socket("/run/postgresql", 5432);
        assert_eq!(target, Target::Unix(PathBuf::from("/run/postgresql/.s.PGSQL.5432")));
    }
}
