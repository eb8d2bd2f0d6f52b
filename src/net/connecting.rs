//! A connection that is being made.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::poll::Source;
use super::socket::Socket;
use super::tcp_options::TcpOptions;

/// Where to connect to, and how.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// A Unix-domain socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr, TcpOptions),
}

/// The addresses of a host name, or the one that `host` spells out; never none.
///
/// A name is looked up by the system's resolver, which cannot be interrupted or bounded in time. A
/// numeric address is only parsed.
pub(crate) fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let addresses: Vec<_> = (bare, port).to_socket_addrs()?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

/// What is left of a connection attempt: the addresses of one host, one after the other.
#[derive(Debug)]
pub(crate) struct Connecting {
    addresses: std::vec::IntoIter<Address>,
    /// The Unix-domain socket whose queue is full, and when to try it again: poll(2) cannot tell.
    retry: Option<(PathBuf, Instant)>,
}

/// How long to leave a Unix-domain socket alone whose queue of connections is full.
const RETRY_AFTER: Duration = Duration::from_millis(2);

impl Connecting {
    /// Begins with the first address that can be tried at all. `None` beside the socket means that
    /// it is connected already.
    pub(crate) fn start(
        addresses: Vec<Address>,
        now: Instant,
    ) -> io::Result<(Socket, Option<Self>)> {
        let mut connecting = Self { addresses: addresses.into_iter(), retry: None };
        let error = io::Error::new(io::ErrorKind::NotFound, "there is no address");
        let (socket, connected) = connecting.next_address(error, now)?;
        Ok((socket, (!connected).then_some(connecting)))
    }

    /// Goes on; whether `socket` is connected now. It may be another socket afterwards. Does no
    /// harm when the source is not ready and the time to retry has not come.
    pub(crate) fn proceed(&mut self, socket: &mut Socket, now: Instant) -> io::Result<bool> {
        if self.retry_at().is_some_and(|at| now < at) {
            return Ok(false);
        }
        let next = match self.retry.take() {
            Some((path, _)) => self.attempt(Address::Unix(path), now),
            // That there is no error does not mean that it is connected.
            None => match socket.connect_result().and_then(|()| socket.is_connected()) {
                Ok(connected) => return Ok(connected),
                Err(error) => Err(error),
            },
        };
        let (new, connected) = next.or_else(|error| self.next_address(error, now))?;
        *socket = new;
        Ok(connected)
    }

    /// What to wait for; `None` if only for [`retry_at`](Self::retry_at).
    pub(crate) fn source<'a>(&self, socket: &'a Socket) -> Option<Source<'a>> {
        let fd = socket.as_fd();
        self.retry.is_none().then_some(Source { fd, read: false, write: true })
    }

    /// When to go on without the source being ready.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry.as_ref().map(|(_, at)| *at)
    }

    /// The first of the addresses that are left that can be tried at all; `error` is what became of
    /// the last one.
    fn next_address(&mut self, mut error: io::Error, now: Instant) -> io::Result<(Socket, bool)> {
        while let Some(address) = self.addresses.next() {
            match self.attempt(address, now) {
                Ok(attempt) => return Ok(attempt),
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }

    /// Tries an address: the socket, and whether it is connected already.
    fn attempt(&mut self, address: Address, now: Instant) -> io::Result<(Socket, bool)> {
        match address {
            Address::Tcp(address, options) => Ok((Socket::connect_tcp(address, options)?, false)),
            // A Unix-domain socket is connected at once, unless its queue is full.
            Address::Unix(path) => {
                let (socket, connected) = Socket::connect_unix(&path)?;
                if !connected {
                    self.retry = Some((path, now + RETRY_AFTER));
                }
                Ok((socket, connected))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wait;
    use super::*;
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    use std::net::{Ipv4Addr, TcpListener};
    use std::os::fd::{AsRawFd, OwnedFd};

    /// A port that refuses connections for as long as the socket is kept: nobody listens.
    fn refusing() -> io::Result<(OwnedFd, Address)> {
        let refusing = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&refusing, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let socket = TcpListener::from(refusing);
        let address = Address::Tcp(socket.local_addr()?, TcpOptions::default());
        Ok((socket.into(), address))
    }

    #[test]
    fn b23_the_addresses_of_a_host_are_tried_one_after_the_other() -> io::Result<()> {
        let (_kept, refusing) = refusing()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let listening = Address::Tcp(listener.local_addr()?, TcpOptions::default());
        let addresses = vec![refusing.clone(), refusing.clone(), listening, refusing];
        let (mut socket, connecting) = Connecting::start(addresses, Instant::now())?;
        let mut connecting = connecting.expect("a TCP connect takes its time");
        let mut descriptors = vec![socket.as_raw_fd()];
        while !connecting.proceed(&mut socket, Instant::now())? {
            descriptors.push(socket.as_raw_fd());
            wait(connecting.source(&socket).as_slice(), None, None)?;
        }
        // Whoever watches the descriptor sees that it has become another one.
        descriptors.dedup();
        assert_eq!(descriptors.len(), 3, "{descriptors:?}");
        // Whoever wants another connection to the same server knows where it is.
        assert!(matches!(socket.address(), Address::Tcp(to, _) if *to == listener.local_addr()?));
        listener.accept()?;
        Ok(())
    }

    #[test]
    fn b23_when_no_address_is_left_the_last_error_is_told() -> io::Result<()> {
        let (_kept, refusing) = refusing()?;
        let (mut socket, connecting) =
            Connecting::start(vec![refusing.clone(), refusing], Instant::now())?;
        let mut connecting = connecting.expect("a TCP connect takes its time");
        let error = loop {
            match connecting.proceed(&mut socket, Instant::now()) {
                Ok(connected) => assert!(!connected),
                Err(error) => break error,
            }
            wait(connecting.source(&socket).as_slice(), None, None)?;
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        Ok(())
    }
}
