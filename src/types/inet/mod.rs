//! inet, cidr and macaddr, and the addresses of `std::net`.
//!
//! Source: PostgreSQL documentation, "Network Address Types"; `inet_send` and `macaddr_send`.

mod address;
mod macaddr;
mod std_net;

pub use self::address::{Cidr, Inet, encode_inet_binary};
pub(super) use self::macaddr::MacAddrText;
