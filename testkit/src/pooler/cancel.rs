//! CancelRequests: a client knows a key of the pooler's own; the server wants that of the backend
//! that runs the client's transaction at this moment.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::acceptor::LIMIT;
use crate::frames::cancel_request;
use crate::raw::RawClient;
use crate::socket::{Target, read_some};

/// The first process id that clients are told; far above those that systems give, so that nobody
/// takes it for a backend's.
const FIRST_PROCESS_ID: i32 = 1_000_000_000;

/// Every client under way, by the process id that it was told.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<HashMap<i32, Arc<Held>>>);

/// What a client's key stands for.
#[derive(Debug)]
struct Held {
    secret_key: [u8; 4],
    /// The process id and the key of the backend that runs a transaction of the client's.
    backend: Mutex<Option<(u32, Vec<u8>)>>,
}

impl Keys {
    /// A key for a new client, by its number.
    pub(super) fn register(&self, index: usize) -> Key<'_> {
        let index = i32::try_from(index).unwrap_or_default();
        let process_id = FIRST_PROCESS_ID.wrapping_add(index);
        let secret_key = process_id.wrapping_mul(0x0101_4321).to_be_bytes();
        let held = Arc::new(Held { secret_key, backend: Mutex::new(None) });
        self.with(|keys| keys.insert(process_id, Arc::clone(&held)));
        Key { keys: self, process_id, held }
    }

    /// Passes a request on to the backend that runs the client's transaction, and returns when the
    /// server has done with it. A request for nobody, or for a client without a transaction, is
    /// none: servers answer neither.
    pub(super) fn cancel(
        &self,
        process_id: i32,
        secret_key: &[u8],
        target: &Target,
    ) -> io::Result<()> {
        let held = self.with(|keys| keys.get(&process_id).cloned());
        let Some(held) = held.filter(|held| held.secret_key == secret_key) else {
            return Ok(());
        };
        // Locked to the end, so that it cannot hit the next transaction on that connection.
        let backend = held.backend.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((process_id, secret_key)) = &*backend else {
            return Ok(());
        };
        let stream = target.connect(LIMIT)?;
        stream.set_read_timeout(LIMIT)?;
        (&stream).write_all(&cancel_request(*process_id, secret_key))?;
        while read_some(&stream, &mut [0; 64])? > 0 {}
        Ok(())
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<i32, Arc<Held>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A client's key, good until it is dropped.
#[derive(Debug)]
pub(super) struct Key<'a> {
    keys: &'a Keys,
    process_id: i32,
    held: Arc<Held>,
}

impl Key<'_> {
    pub(super) fn process_id(&self) -> i32 {
        self.process_id
    }

    pub(super) fn secret_key(&self) -> &[u8] {
        &self.held.secret_key
    }

    /// From now on the key stands for this server connection, or for none. Waits for a
    /// CancelRequest that is on its way to the one before.
    pub(super) fn stands_for(&self, server: Option<&RawClient>) {
        let backend = server.map(|server| (server.process_id(), server.secret_key().to_vec()));
        *self.held.backend.lock().unwrap_or_else(PoisonError::into_inner) = backend;
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        self.keys.with(|keys| keys.remove(&self.process_id));
    }
}
