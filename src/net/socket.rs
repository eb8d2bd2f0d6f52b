//! A connected, non-blocking stream socket.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Address, TcpOptions};

/// A non-blocking stream over TCP or a Unix-domain socket; closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    address: Address,
}

/// Flags of send(2): a peer that has hung up is an error, not a signal.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: libc::c_int = 0;

/// The most that one send(2) is given: macOS refuses lengths that do not fit into an int.
const LONGEST_SEND: usize = 1 << 30;

impl Socket {
    /// Begins to connect to an address. Whether it worked is told by
    /// [`connect_result`](Self::connect_result) once the socket is writable.
    pub(super) fn connect_tcp(address: SocketAddr, options: TcpOptions) -> io::Result<Self> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let socket = Self::new(family, Address::Tcp(address, options))?;
        // Requests are small and go out whole: waiting for more to send would only delay them.
        socket.set_option(libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        // Before it connects, so that they bound the handshake too.
        for option in options.to_set() {
            socket.set_option(option.level, option.name, option.value).map_err(|error| {
                let text = format!("{} = {}: {error}", option.setting, option.value);
                io::Error::new(error.kind(), text)
            })?;
        }
        socket.connect(&RawAddress::tcp(&address)?)?;
        Ok(socket)
    }

    /// Connects to a Unix-domain socket; whether it is connected. It is not when the server's queue
    /// of connections is full: a new attempt is needed then. A path that begins with `@` is in the
    /// abstract namespace (Linux).
    pub(super) fn connect_unix(path: &Path) -> io::Result<(Self, bool)> {
        let address = RawAddress::unix(path)?;
        let socket = Self::new(libc::AF_UNIX, Address::Unix(path.to_owned()))?;
        match socket.connect(&address) {
            Ok(()) => Ok((socket, true)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok((socket, false)),
            Err(error) => Err(error),
        }
    }

    fn new(family: libc::c_int, address: Address) -> io::Result<Self> {
        // SAFETY: socket(2) takes no pointers.
        let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM, 0) })?;
        // SAFETY: `fd` was just opened, and nothing else owns it.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, address };
        // SAFETY: fcntl(2) with these commands takes an integer. Two calls instead of SOCK_CLOEXEC
        // | SOCK_NONBLOCK, which not every system has.
        check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
        // SAFETY: as above.
        let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
        // SAFETY: as above.
        check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
        #[cfg(target_vendor = "apple")]
        socket.set_option(libc::SOL_SOCKET, libc::SO_NOSIGPIPE, 1)?;
        Ok(socket)
    }

    /// Where it goes to.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Gives the descriptor another number.
    pub(crate) fn renumber(&mut self) -> io::Result<()> {
        // While both are open they cannot have the same.
        self.fd = self.fd.try_clone()?;
        Ok(())
    }

    /// Sets an integer socket option; 1 switches a boolean one on.
    fn set_option(
        &self,
        level: libc::c_int,
        option: libc::c_int,
        value: libc::c_int,
    ) -> io::Result<()> {
        // SAFETY: the pointer and the length describe `value`, which setsockopt(2) only reads.
        check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                std::ptr::from_ref(&value).cast(),
                socket_length(size_of_val(&value))?,
            )
        })?;
        Ok(())
    }

    /// The value of an integer socket option.
    fn option(&self, level: libc::c_int, option: libc::c_int) -> io::Result<libc::c_int> {
        let mut value: libc::c_int = 0;
        let mut length = socket_length(size_of_val(&value))?;
        // SAFETY: the pointers describe `value` and `length`, which live on this stack;
        // getsockopt(2) writes at most `length` bytes.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                std::ptr::from_mut(&mut value).cast(),
                &mut length,
            )
        })?;
        Ok(value)
    }

    fn connect(&self, address: &RawAddress) -> io::Result<()> {
        let start = std::ptr::from_ref(&address.storage).cast();
        // SAFETY: the pointer and the length describe a sockaddr struct inside `storage`, which
        // connect(2) only reads.
        let done = check(unsafe { libc::connect(self.fd.as_raw_fd(), start, address.length) });
        match done {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
            // Interrupted: the connection is still being made, as with EINPROGRESS.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What became of the connection attempt, once the socket is writable.
    pub(super) fn connect_result(&self) -> io::Result<()> {
        match self.option(libc::SOL_SOCKET, libc::SO_ERROR)? {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Whether there is a peer: not so while the connection attempt is under way.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        // SAFETY: sockaddr_storage is plain integers, for which zeros are a value.
        let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut length = socket_length(size_of_val(&address))?;
        let start = std::ptr::from_mut(&mut address).cast();
        // SAFETY: the pointers describe `address` and `length`, which live on this stack;
        // getpeername(2) writes at most `length` bytes.
        match check(unsafe { libc::getpeername(self.fd.as_raw_fd(), start, &mut length) }) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether TCP_NODELAY is on; an error for a Unix-domain socket.
    pub(crate) fn nodelay(&self) -> io::Result<bool> {
        self.option(libc::IPPROTO_TCP, libc::TCP_NODELAY).map(|value| value != 0)
    }

    /// Reads what is there; 0 at end of file, [`io::ErrorKind::WouldBlock`] when nothing is there.
    #[inline]
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        transfer(|| {
            // SAFETY: pointer and length describe `buffer`, which recv(2) fills from the front.
            unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) }
        })
    }

    /// Writes what there is room for; [`io::ErrorKind::WouldBlock`] when there is none.
    #[inline]
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        // Some systems refuse more at once; a short write is no harm.
        let bytes = bytes.get(..LONGEST_SEND).unwrap_or(bytes);
        transfer(|| {
            let (start, length) = (bytes.as_ptr().cast(), bytes.len());
            // SAFETY: pointer and length describe `bytes`, which send(2) only reads.
            unsafe { libc::send(self.fd.as_raw_fd(), start, length, SEND_FLAGS) }
        })
    }

    /// [`send`](Self::send) of two pieces, one behind the other.
    pub(crate) fn send_both(&self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let second = second.get(..LONGEST_SEND - first.len()).unwrap_or(second);
        let piece = |bytes: &[u8]| libc::iovec {
            // sendmsg(2) reads only, although it takes a pointer to what could be written.
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut pieces = [piece(first), piece(second)];
        // SAFETY: a msghdr is plain data, for which all zeros are "nothing".
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = pieces.as_mut_ptr();
        message.msg_iovlen = 2;
        // SAFETY: the message names `pieces`, which name `first` and `second`; all of them outlive
        // the call, and sendmsg(2) only reads what they name.
        transfer(|| unsafe { libc::sendmsg(self.fd.as_raw_fd(), &message, SEND_FLAGS) })
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Repeats a transfer that a signal has interrupted.
#[inline]
fn transfer(mut call: impl FnMut() -> libc::ssize_t) -> io::Result<usize> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The result of a system call, or the error behind its -1.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A socket address as the system calls take it.
struct RawAddress {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl RawAddress {
    /// `address` is one of the sockaddr structs, of which the first `length` bytes count.
    fn new<T: Copy>(address: T, length: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) }
        // SAFETY: sockaddr_storage is plain integers, for which zeros are a value.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        // SAFETY: `storage` is at least as large as `T` (asserted above) and aligned for every
        // sockaddr struct, which is what it exists for; `T` is Copy, so nothing is dropped or
        // shared by writing it bytewise.
        unsafe { std::ptr::from_mut(&mut storage).cast::<T>().write(address) };
        let length = socket_length(length)?;
        Ok(Self { storage, length })
    }

    fn tcp(address: &SocketAddr) -> io::Result<Self> {
        match address {
            SocketAddr::V4(v4) => {
                // SAFETY: sockaddr_in is plain integers, for which zeros are a value.
                let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
                raw.sin_family = family(libc::AF_INET)?;
                raw.sin_port = v4.port().to_be();
                raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                Self::new(raw, size_of_val(&raw))
            }
            SocketAddr::V6(v6) => {
                // SAFETY: sockaddr_in6 is plain integers, for which zeros are a value.
                let mut raw: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
                raw.sin6_family = family(libc::AF_INET6)?;
                raw.sin6_port = v6.port().to_be();
                raw.sin6_addr.s6_addr = v6.ip().octets();
                raw.sin6_scope_id = v6.scope_id();
                raw.sin6_flowinfo = v6.flowinfo();
                Self::new(raw, size_of_val(&raw))
            }
        }
    }

    fn unix(path: &Path) -> io::Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        // SAFETY: sockaddr_un is plain integers, for which zeros are a value.
        let mut raw: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        raw.sun_family = family(libc::AF_UNIX)?;
        // A path has a NUL behind it; an abstract name has one in place of its first character and
        // none behind it.
        let abstract_name = cfg!(target_os = "linux") && bytes.starts_with(b"@");
        let room = raw.sun_path.len() - usize::from(!abstract_name);
        if bytes.len() > room {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the path of a Unix-domain socket is {} bytes long, at most {room} fit",
                    bytes.len()
                ),
            ));
        }
        for (place, byte) in raw.sun_path.iter_mut().zip(bytes) {
            *place = libc::c_char::from_ne_bytes([*byte]);
        }
        if abstract_name {
            raw.sun_path.first_mut().into_iter().for_each(|first| *first = 0);
        }
        let length = std::mem::offset_of!(libc::sockaddr_un, sun_path)
            + bytes.len()
            + usize::from(!abstract_name);
        Self::new(raw, length)
    }
}

/// A length as the system calls take it.
fn socket_length(length: usize) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(length).map_err(io::Error::other)
}

/// An address family as the sockaddr structs hold it.
fn family(family: libc::c_int) -> io::Result<libc::sa_family_t> {
    libc::sa_family_t::try_from(family).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_13_a_socket_path_that_is_too_long_is_an_error() {
        let path = format!("/{}", "x".repeat(200));
        let error = Socket::connect_unix(Path::new(&path)).expect_err("it does not fit");
        assert!(error.to_string().contains("201 bytes long, at most 10"), "{error}");
    }
}
