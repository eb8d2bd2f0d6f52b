//! What the server has said about the session.

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
    /// Run-time parameters; a server reports about fifteen, so a list is the fastest map.
    parameters: Vec<(Box<str>, Box<str>)>,
}

/// The secret that a CancelRequest must carry. Not shown, and wiped when it is dropped.
pub(super) type SecretKey = crate::crypto::SecretBytes;

impl Default for Session {
    fn default() -> Self {
        Self {
            status: TransactionStatus::Idle,
            process_id: 0,
            secret_key: SecretKey::with_capacity(0),
            protocol_minor: 0,
            parameters: Vec::new(),
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
        self.parameters.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
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

    /// Keeps a ParameterStatus.
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
        match self.parameters.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, known)) => *known = value.into(),
            None => self.parameters.push((name.into(), value.into())),
        }
        Ok(())
    }
}
