//! Bytes to messages and back: PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2.
//!
//! This floor is pure. It borrows what it parses, allocates nothing, trusts nothing: a malformed
//! message is a [`Malformed`] that says what and where. It knows no connection, no state and no
//! order of messages; those are the engine's.
//!
//! * [`frame`] finds the next message in a run of bytes.
//! * [`reader`] is the only place that takes received bytes apart.
//! * [`backend`] are the messages that a server sends.
//! * [`frontend`] writes the messages that a client sends.
//! * [`trace`] shows messages of both sides as lines of text.
//!
//! Source: PostgreSQL documentation, "Frontend/Backend Protocol", "Message Formats".
//!
//! This module is public so that tools can stand on it, and unstable: it may change in any release.

pub mod backend;
mod description;
pub mod frame;
pub mod frontend;
pub mod reader;
#[cfg(test)]
mod tests;
pub mod trace;

pub use self::backend::Backend;
pub use self::frame::Frame;
pub use self::reader::{Malformed, Reader};
