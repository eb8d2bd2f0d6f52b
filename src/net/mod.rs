//! Sockets: the only place with file descriptors, and the only place that waits.
//!
//! * [`Socket`] is a connected, non-blocking stream over TCP or a Unix-domain socket.
//! * [`Connecting`] is one on its way: it tries the addresses of a host one after the other.
//! * [`TcpOptions`] say what the system does to notice a peer that has vanished.
//! * [`look_up`] asks the system's resolver for the addresses of a host.
//! * [`wait`] is the one function of the crate that waits.
//!
//! This floor moves bytes. It knows no protocol, reads no configuration, and decides nothing about
//! time: deadlines are arguments.

mod connecting;
mod poll;
mod socket;
mod tcp_options;

pub(crate) use self::connecting::{Address, Connecting, look_up};
pub(crate) use self::poll::{Source, wait};
pub(crate) use self::socket::Socket;
pub(crate) use self::tcp_options::TcpOptions;
