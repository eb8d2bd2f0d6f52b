//! What chopin-pg's tests need around them: bytes and processes, no driver.
//!
//! Throwaway PostgreSQL clusters are the half that runs real servers:
//!
//! - [`shared`] gives the one server that all tests of a run use, [`Cluster::builder`] a server of a
//!   test's own, with any setting, login rule, or TLS. Nothing of either stays behind, however the
//!   test ends.
//! - [`Need`] says which capabilities a test asks of its server; [`Server::find`] finds programs
//!   that have them on the machine (`CHOPIN_PG_BIN` names a bin folder to prefer), or fetches some.
//! - [`raw::RawClient`] is a small client for set-up and as a second opinion.
//! - [`fake`], [`frames`], [`transport`], [`proxy`] and [`transcript`] are the rude half: a scripted
//!   server, messages built by hand, relays that cut and stop, and recordings of real sessions.
//! - [`pooler`] stands between a client and a real server as a transaction pooler does, and gives
//!   each transaction another session on purpose.
//! - `crowd` is a scripted server for more clients than there can be threads (Linux only).
//! - [`unique`] keeps tests on a shared server out of each other's way.
//!
//! ```no_run
//! let cluster = testkit::shared();
//! let table = testkit::unique("orders");
//! let mut client = cluster.client("postgres")?;
//! client.simple(&format!("CREATE TABLE {table} (id int)"))?;
//! # Ok::<(), testkit::Error>(())
//! ```

mod acceptor;
mod bridge;
mod cluster;
#[cfg(target_os = "linux")]
pub mod crowd;
mod error;
pub mod fake;
mod files;
pub mod frames;
mod os;
pub mod pooler;
mod progress;
pub mod proxy;
pub mod raw;
mod server;
mod shared;
mod socket;
mod supervisor;
pub mod transcript;
pub mod transport;
mod unique;

pub use cluster::{Builder, Cluster, Shutdown};
pub use error::Error;
pub use server::{Need, Server};
pub use shared::{shared, shared_with, try_shared};
pub use socket::Target;
pub use unique::unique;
