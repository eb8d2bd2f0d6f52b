//! What the server has said about the session.

use std::ops::Range;

use crate::error::{PgError, PgResult};
use crate::wire::backend::TransactionStatus;

/// The state of the session as the server last reported it. Nothing in it is guessed or counted on
/// this side.
#[derive(Debug)]
pub struct Session {
    status: TransactionStatus,
    process_id: i32,
    secret_key: SecretKey,
    protocol_minor: u16,
    /// Run-time parameters: the name of each and its value, both with a NUL behind them. A server
    /// reports about fifteen, so a list is the fastest map; and one block of memory instead of thirty
    /// is a kilobyte less for a session.
    parameters: String,
}

/// How much room is made at a time for parameters, in bytes: those of a login take three times that.
const ROOM: usize = 128;

/// The secret that a CancelRequest must carry. Not shown, and wiped when it is dropped.
pub(super) type SecretKey = crate::crypto::SecretBytes;

impl Default for Session {
    fn default() -> Self {
        Self {
            status: TransactionStatus::Idle,
            process_id: 0,
            secret_key: SecretKey::with_capacity(0),
            protocol_minor: 0,
            parameters: String::new(),
        }
    }
}

impl Session {
    /// The transaction status of the last ReadyForQuery.
    pub fn transaction_status(&self) -> TransactionStatus {
        self.status
    }

    /// The process on the server that serves this session.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// The secret that a CancelRequest for this session must carry; empty when the server gave none.
    pub(crate) fn secret_key(&self) -> &[u8] {
        self.secret_key.as_bytes()
    }

    /// The value of a run-time parameter that the server reports (`server_version`, `TimeZone`
    /// ...).
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.place_of(name).and_then(|place| self.parameters.get(place))
    }

    /// Where the value of a run-time parameter stands.
    fn place_of(&self, name: &str) -> Option<Range<usize>> {
        let mut texts = self.parameters.split_terminator('\0');
        let mut start = 0;
        while let (Some(known), Some(value)) = (texts.next(), texts.next()) {
            start += known.len() + 1;
            let end = start + value.len();
            if known == name {
                return Some(start..end);
            }
            start = end + 1;
        }
        None
    }

    /// The minor version of protocol 3 that is spoken.
    pub fn protocol_minor(&self) -> u16 {
        self.protocol_minor
    }

    pub(super) fn set_transaction_status(&mut self, status: TransactionStatus) {
        self.status = status;
    }

    pub(super) fn set_protocol_minor(&mut self, minor: u16) {
        self.protocol_minor = minor;
    }

    pub(super) fn set_backend_key(&mut self, process_id: i32, secret_key: &[u8]) {
        self.process_id = process_id;
        self.secret_key = SecretKey::with_capacity(secret_key.len());
        self.secret_key.extend_from_slice(secret_key);
    }

    /// Keeps a ParameterStatus. Its texts ended with a NUL in the message, and have none.
    ///
    /// # Errors
    ///
    /// [`PgError::Protocol`] when `client_encoding` is no longer UTF8: every text after it would be
    /// read wrong.
    pub(super) fn set_parameter(&mut self, name: &str, value: &str) -> PgResult<()> {
        if name == "client_encoding" && value != "UTF8" {
            return Err(PgError::Protocol(format!(
                "the session's client_encoding was set to {value}; this driver speaks UTF8 only"
            )));
        }
        match self.place_of(name) {
            Some(place) => self.parameters.replace_range(place, value),
            None => {
                let more = name.len() + value.len() + 2;
                if self.parameters.capacity() - self.parameters.len() < more {
                    self.parameters.reserve_exact(more.next_multiple_of(ROOM));
                }
                for text in [name, "\0", value, "\0"] {
                    self.parameters.push_str(text);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_names_whatever_stands_in_them() {
        let mut session = Session::default();
        let mut set = |name: &str, value: &str| session.set_parameter(name, value).unwrap();
        set("application_name", "");
        set("TimeZone", "UTC");
        set("UTC", "no time zone");
        set("search_path", "\"$user\", größe");
        set("TimeZone", "America/Argentina/Buenos_Aires");
        set("application_name", &"x".repeat(1_000));
        set("UTC", "");
        let longest = "x".repeat(1_000);
        for (name, value) in [
            ("application_name", longest.as_str()),
            ("TimeZone", "America/Argentina/Buenos_Aires"),
            ("UTC", ""),
            ("search_path", "\"$user\", größe"),
        ] {
            assert_eq!(session.parameter(name), Some(value), "{name}");
        }
        for name in ["", "timezone", "America/Argentina/Buenos_Aires", "TimeZone\0"] {
            assert_eq!(session.parameter(name), None, "{name:?}");
        }
    }
}
