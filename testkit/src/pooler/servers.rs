//! The pooler's server connections: which transaction gets which, and what has become of them.
//!
//! Knows nothing of clients but which server process each one had last.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Pooling, Refusal, Switch};
use crate::acceptor::{LIMIT, Live};
use crate::raw::{RawClient, RawError};
use crate::socket::Target;

/// The server connections, most of the time idle and in here.
#[derive(Debug)]
pub(super) struct Servers {
    target: Target,
    pooling: Pooling,
    /// What the server reported at login.
    parameters: Vec<(String, String)>,
    /// The sockets, also those of connections that are lent.
    sockets: Live,
    state: Mutex<State>,
    /// A connection has come back, or the end has come.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    slots: Vec<Slot>,
    /// The slot of the last transaction: the turn goes on behind it.
    last: usize,
    /// The server process of each transaction.
    served_by: Vec<u32>,
    switches: usize,
    closed: bool,
}

/// The place of one server connection.
#[derive(Debug)]
enum Slot {
    Idle(RawClient),
    Lent,
    /// The connection was lost or given up; the next transaction makes a new one.
    Vacant,
}

/// The server process that a transaction ran in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    slot: usize,
    process_id: u32,
}

impl Servers {
    /// Connects and logs in as often as `pooling` says.
    pub(super) fn connect(target: Target, pooling: Pooling) -> Result<Servers, RawError> {
        let mut servers = Servers {
            target,
            pooling,
            parameters: Vec::new(),
            sockets: Live::default(),
            state: Mutex::new(State {
                slots: Vec::new(),
                last: 0,
                served_by: Vec::new(),
                switches: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        };
        let connections: Vec<RawClient> =
            (0..servers.pooling.connections).map(|_| servers.log_in()).collect::<Result<_, _>>()?;
        if let Some(first) = connections.first() {
            servers.parameters = first.parameters().to_vec();
        }
        let mut state = servers.state();
        // The first transaction has its turn behind the last slot.
        state.last = connections.len().saturating_sub(1);
        state.slots = connections.into_iter().map(Slot::Idle).collect();
        drop(state);
        Ok(servers)
    }

    fn log_in(&self) -> Result<RawClient, RawError> {
        let Pooling { user, database, .. } = &self.pooling;
        let server = RawClient::connect(&self.target, user, database, None)?;
        server.stream().set_nonblocking(true)?;
        self.sockets.add(server.stream());
        Ok(server)
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn pooling(&self) -> &Pooling {
        &self.pooling
    }

    pub(super) fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    pub(super) fn served_by(&self) -> Vec<u32> {
        self.state().served_by.clone()
    }

    pub(super) fn switches(&self) -> usize {
        self.state().switches
    }

    /// A connection for a transaction of a client that had `previous` last. Waits until one is
    /// free that the client may have.
    pub(super) fn lend(&self, previous: Option<Backend>) -> Result<Lease<'_>, Refusal> {
        let (slot, idle) = self.take(previous)?;
        let place = Place { servers: self, slot, returned: None };
        let server = match idle.into_usable() {
            Some(server) => server,
            None => self.log_in().map_err(|error| {
                Refusal::new(format!("the server cannot be reached again: {error}"))
            })?,
        };
        let backend = Backend { slot, process_id: server.process_id() };
        let mut state = self.state();
        state.served_by.push(backend.process_id);
        if previous.is_some_and(|previous| previous.process_id != backend.process_id) {
            state.switches += 1;
        }
        Ok(Lease { server, backend, place })
    }

    /// The next slot whose turn it is, and what was in it.
    fn take(&self, previous: Option<Backend>) -> Result<(usize, Slot), Refusal> {
        let none_yet = |state: &mut State| !state.closed && self.turn(state, previous).is_none();
        let waited = self.changed.wait_timeout_while(self.state(), LIMIT, none_yet);
        let (mut state, _timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Refusal::new("it is being shut down"));
        }
        let Some(index) = self.turn(&state, previous) else {
            return Err(Refusal::new(format!(
                "no server connection that this client may have came free within {LIMIT:?}"
            )));
        };
        state.last = index;
        let slot = state.slots.get_mut(index).map(|slot| std::mem::replace(slot, Slot::Lent));
        Ok((index, slot.unwrap_or(Slot::Vacant)))
    }

    /// The first slot behind the last transaction's that is free and may follow `previous`.
    fn turn(&self, state: &State, previous: Option<Backend>) -> Option<usize> {
        let count = state.slots.len();
        let in_turn = (1..=count).map(|step| (state.last + step) % count);
        let may_follow = |slot: usize| match (previous, self.pooling.switch) {
            (None, _) => true,
            (Some(previous), Switch::EveryTransaction) => slot != previous.slot,
            (Some(previous), Switch::Never) => slot == previous.slot,
        };
        in_turn
            .filter(|slot| may_follow(*slot))
            .find(|slot| !matches!(state.slots.get(*slot), Some(Slot::Lent) | None))
    }

    /// Ends all connections, also those that are lent; whoever waits for one is refused.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        // The idle ones first: they get a Terminate, for which their sockets must be open.
        state.slots.clear();
        drop(state);
        self.changed.notify_all();
        self.sockets.cut();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The idle connection, if it is still one that can be used. What the server has said
    /// meanwhile is dropped: nobody was there to hear it.
    fn into_usable(self) -> Option<RawClient> {
        let Slot::Idle(mut server) = self else {
            return None;
        };
        loop {
            match server.try_receive() {
                Ok(None) => return Some(server),
                // NoticeResponse, NotificationResponse, ParameterStatus.
                Ok(Some(frame)) if matches!(frame.tag, b'N' | b'A' | b'S') => {}
                Ok(Some(_)) | Err(_) => return None,
            }
        }
    }
}

/// A server connection for the time of one transaction.
///
/// Dropped without [`give_back`](Self::give_back), it is closed, and the server rolls back.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    pub(super) server: RawClient,
    backend: Backend,
    place: Place<'a>,
}

impl Lease<'_> {
    pub(super) fn backend(&self) -> Backend {
        self.backend
    }

    /// The transaction is over, the next one may have the connection.
    pub(super) fn give_back(self) {
        let Lease { server, mut place, .. } = self;
        place.returned = Some(server);
    }
}

/// A slot that is lent, until this is dropped.
#[derive(Debug)]
struct Place<'a> {
    servers: &'a Servers,
    slot: usize,
    returned: Option<RawClient>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.servers.state();
        // No slot is left when everything has been closed.
        if let Some(slot) = state.slots.get_mut(self.slot) {
            *slot = self.returned.take().map_or(Slot::Vacant, Slot::Idle);
        }
        drop(state);
        self.servers.changed.notify_all();
    }
}
