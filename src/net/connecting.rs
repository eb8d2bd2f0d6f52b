//! A connection that is being made.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::poll::Source;
use super::socket::Socket;

/// Where to connect to.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A Unix-domain socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

impl Address {
    /// The addresses of a host name, or the one that `host` spells out.
    ///
    /// A name is looked up by the system's resolver, which cannot be interrupted or bounded in
    /// time.
    pub(crate) fn resolve(host: &str, port: u16) -> io::Result<Vec<Self>> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let addresses: Vec<_> = (bare, port).to_socket_addrs()?.map(Self::Tcp).collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addresses)
    }
}

/// How far a connection has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// It is there.
    Connected(Socket),
    /// Wait until the [source](Connecting::source) is ready or [`retry_at`](Connecting::retry_at)
    /// has come.
    Pending(Connecting),
}

/// A connection attempt: the addresses of one host, one after the other.
#[derive(Debug)]
pub(crate) struct Connecting {
    addresses: std::vec::IntoIter<Address>,
    current: Option<Socket>,
    /// The Unix-domain socket whose queue is full, and when to try it again: poll(2) cannot tell.
    retry: Option<(PathBuf, Instant)>,
    last_error: Option<io::Error>,
}

/// How long to leave a Unix-domain socket alone whose queue of connections is full.
const RETRY_AFTER: Duration = Duration::from_millis(2);

impl Connecting {
    /// Begins with the first address.
    pub(crate) fn start(addresses: Vec<Address>, now: Instant) -> io::Result<Progress> {
        let addresses = addresses.into_iter();
        Self { addresses, current: None, retry: None, last_error: None }.next_address(now)
    }

    /// Goes on after the source became ready or the time to retry has come.
    pub(crate) fn proceed(mut self, now: Instant) -> io::Result<Progress> {
        if let Some((path, at)) = self.retry.take() {
            if now < at {
                self.retry = Some((path, at));
                return Ok(Progress::Pending(self));
            }
            return self.attempt(Address::Unix(path), now);
        }
        match self.current.take() {
            Some(socket) => match socket.connect_result() {
                Ok(()) => Ok(Progress::Connected(socket)),
                Err(error) => {
                    self.last_error = Some(error);
                    self.next_address(now)
                }
            },
            None => self.next_address(now),
        }
    }

    /// What to wait for.
    pub(crate) fn source(&self) -> Option<Source<'_>> {
        let fd = self.current.as_ref()?.as_fd();
        Some(Source { fd, read: false, write: true })
    }

    /// When to go on without the source being ready.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry.as_ref().map(|(_, at)| *at)
    }

    fn next_address(mut self, now: Instant) -> io::Result<Progress> {
        match self.addresses.next() {
            Some(address) => self.attempt(address, now),
            None => Err(self
                .last_error
                .unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no address"))),
        }
    }

    fn attempt(mut self, address: Address, now: Instant) -> io::Result<Progress> {
        let attempt = match &address {
            Address::Tcp(address) => Socket::connect_tcp(address),
            Address::Unix(path) => Socket::connect_unix(path),
        };
        match (attempt, address) {
            // A Unix-domain socket is connected at once or not at all.
            (Ok(socket), Address::Unix(_)) => Ok(Progress::Connected(socket)),
            (Ok(socket), Address::Tcp(_)) => {
                self.current = Some(socket);
                Ok(Progress::Pending(self))
            }
            (Err(error), Address::Unix(path)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.retry = Some((path, now + RETRY_AFTER));
                Ok(Progress::Pending(self))
            }
            (Err(error), _) => {
                self.last_error = Some(error);
                self.next_address(now)
            }
        }
    }
}
