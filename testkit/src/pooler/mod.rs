//! A scripted transaction pooler: what PgBouncer does in transaction mode, at its worst.
//!
//! Clients log in at the [`Pooler`], which keeps a few connections to a real server. A client has
//! one of them for a transaction, from its first message to the ReadyForQuery that says idle; the
//! next transaction gets *another* one, in turn. A real pooler does so under load; here it happens
//! every time, so that whatever a driver leaves in a session (a prepared statement, a setting, a
//! LISTEN) is reliably not there when it is needed. Nothing resets a session in between: a
//! statement that was left on a server connection is in the way when its turn comes again.
//!
//! What it does in detail:
//!
//! - Messages up to a Sync or a Query are passed on as they come. What stands behind waits in the
//!   pooler until their ReadyForQuery is there. So pipelined groups, each a transaction of its own,
//!   change the server connection like any others, whatever the timing.
//! - Everybody is let in, as `user` and into the `database` that the server connections have. A
//!   client hears their ParameterStatus messages. Startup parameters that would have to be set in a
//!   session are refused, and so are other users and databases; `application_name` is ignored.
//!   Requests for encryption are answered with `N`, newer protocols with version 3.0.
//! - BackendKeyData is the pooler's own. A CancelRequest with it reaches the backend that runs the
//!   client's transaction at that moment, if one does.
//! - A client that leaves, with a Terminate or without, ends nothing but itself. What it has sent
//!   before is done; a transaction that it has left open is rolled back before anybody else gets
//!   the server connection.
//! - When the server ends a session, its last words and the end of file reach the client that has a
//!   transaction there. The next transaction in that place gets a new connection.
//! - What is not supported ends the client's session with an error that says so: a Query in front
//!   of the Sync of an extended group, and anything else than COPY data during COPY FROM STDIN.
//!
//! ```no_run
//! use testkit::pooler::{Pooler, Pooling};
//! use testkit::raw::RawClient;
//! use testkit::transport::Target;
//!
//! let pooler = Pooler::start(testkit::shared().tcp(), Pooling::default());
//! let target = Target::port(pooler.port());
//! let mut client = RawClient::connect(&target, "postgres", "postgres", None)?;
//! let one = client.value("SELECT pg_backend_pid()")?;
//! let other = client.value("SELECT pg_backend_pid()")?;
//! assert_ne!(one, other);
//! assert_eq!((pooler.served_by().len(), pooler.switches()), (2, 1));
//! # Ok::<(), testkit::raw::RawError>(())
//! ```

mod cancel;
mod client;
mod exchange;
mod servers;

use std::sync::Arc;

use crate::acceptor::{Acceptor, Live, address_methods};
use crate::cluster::SUPERUSER;
use crate::frames::error_response;
use crate::socket::{Stream, Target};

use cancel::Keys;
use servers::Servers;

/// When a client's next transaction gets another server connection than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Every time. If other clients have all the others, it waits for one of them.
    EveryTransaction,
    /// Never: a client's transactions all run on the server connection of its first. Between them
    /// other clients may have it.
    Never,
}

/// What server connections a [`Pooler`] has and how it hands them out.
///
/// ```
/// use testkit::pooler::{Pooling, Switch};
///
/// let default = Pooling::default();
/// let quiet = Pooling::connections(1).switch(Switch::Never).login("app", "orders");
/// # let _ = (default, quiet);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pooling {
    connections: usize,
    switch: Switch,
    user: String,
    database: String,
}

impl Default for Pooling {
    /// Two server connections.
    fn default() -> Self {
        Self::connections(2)
    }
}

impl Pooling {
    /// This many server connections, of the superuser `postgres` in the database `postgres`;
    /// another one for every transaction.
    pub fn connections(count: usize) -> Self {
        Self {
            connections: count,
            switch: Switch::EveryTransaction,
            user: SUPERUSER.to_owned(),
            database: "postgres".to_owned(),
        }
    }

    /// When to change the server connection.
    #[must_use]
    pub fn switch(self, switch: Switch) -> Self {
        Self { switch, ..self }
    }

    /// Whose connections they are, and in which database. The server must not ask for a password.
    #[must_use]
    pub fn login(self, user: &str, database: &str) -> Self {
        Self { user: user.to_owned(), database: database.to_owned(), ..self }
    }
}

/// A transaction pooler in front of a real server, on a loopback port and a unix socket of its own;
/// see the [module](self).
///
/// Dropping it ends all connections, those of clients and those to the server.
#[derive(Debug)]
#[must_use = "a pooler that is dropped serves nobody"]
pub struct Pooler {
    acceptor: Acceptor<()>,
    servers: Arc<Servers>,
}

impl Pooler {
    /// Opens the server connections and starts serving.
    ///
    /// # Panics
    /// If the server does not let the pooler in; if there are too few connections to switch
    /// between; if the machine has no free port or no folder for temporary files.
    #[track_caller]
    pub fn start(target: Target, pooling: Pooling) -> Self {
        let least = if pooling.switch == Switch::Never { 1 } else { 2 };
        assert!(pooling.connections >= least, "{pooling:?}: at least {least} connections");
        let servers = Servers::connect(target, pooling);
        let servers = Arc::new(servers.unwrap_or_else(|error| panic!("the pooler: {error}")));
        let keys = Keys::default();
        let pool = Arc::clone(&servers);
        let session = move |index, stream: Arc<Stream>, _: &Live| {
            client::serve(index, &stream, &pool, &keys);
            Ok(())
        };
        let acceptor = Acceptor::start(session).expect("a loopback port and a unix socket");
        Self { acceptor, servers }
    }

    address_methods!();

    /// The process id of the backend that served each transaction so far, in the order in which
    /// they began. One under way is among them.
    pub fn served_by(&self) -> Vec<u32> {
        self.servers.served_by()
    }

    /// How often a client's transaction ran in another backend than its transaction before.
    pub fn switches(&self) -> usize {
        self.servers.switches()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.acceptor.cut();
        self.servers.close();
    }
}

/// What the pooler itself has to say to a client, after which it hangs up.
#[derive(Debug)]
struct Refusal(String);

impl Refusal {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// A FATAL ErrorResponse, protocol_violation whatever it is, as PgBouncer's are.
    fn to_bytes(&self) -> Vec<u8> {
        let message = format!("pooler: {}", self.0);
        error_response(&[
            (b'S', "FATAL"),
            (b'V', "FATAL"),
            (b'C', "08P01"),
            (b'M', message.as_str()),
        ])
    }
}
