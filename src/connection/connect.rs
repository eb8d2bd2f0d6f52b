//! Making a connection.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::PgConnection;
use super::address::addresses;
use super::kept::Kept;
use super::within::Limit;
use crate::config::PgConfig;
use crate::engine::{Catalogue, CommandTag, Deadline, Encryption, Engine, ScramKeyCache};
use crate::error::{PgError, PgResult};
use crate::net::Connecting;

impl PgConnection {
    /// Connects to the server of `config`, logs in, and waits until the session is ready.
    ///
    /// One deadline bounds all of it: name lookup, TCP, startup, authentication. It is the
    /// configuration's [`connect_timeout`](PgConfig::connect_timeout), or its
    /// [`io_timeout`](PgConfig::io_timeout) if none is set. (The system's resolver cannot be
    /// interrupted: a name lookup that takes longer ends the connect when it returns. See
    /// [`PgConfig::resolve`].)
    ///
    /// # Errors
    ///
    /// - [`PgError::Config`] when the configuration cannot be used.
    /// - [`PgError::Io`] when no address of the host can be reached; the text names the host.
    /// - [`PgError::Server`] when the server refuses, for example with `28P01` (wrong password),
    ///   `3D000` (no such database), `53300` (too many connections) or `57P03` (starting up).
    /// - [`PgError::Auth`] when this side refuses: no password to give, or a server that cannot
    ///   prove itself.
    /// - [`PgError::Timeout`] when it takes too long.
    pub fn connect(config: &PgConfig) -> PgResult<Self> {
        let mut connection = Self::start_connect(config)?;
        connection.wait_ready()?;
        Ok(connection)
    }

    /// [`connect`](Self::connect) within `timeout`, whatever the configuration says.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_with_timeout(config: &PgConfig, timeout: Duration) -> PgResult<Self> {
        let deadline = Deadline::after(Instant::now(), "connect_timeout", timeout);
        let mut connection = Self::start_connect_by(config, deadline)?;
        connection.wait_ready()?;
        Ok(connection)
    }

    /// Begins to connect, and returns at once: the start of the non-blocking face.
    ///
    /// Call [`drive`](Self::drive) and [`next_event`](Self::next_event) as the
    /// [sources](Self::sources) get ready, until [`Event::Ready`](crate::engine::Event::Ready) has
    /// come; or [`wait_ready`](Self::wait_ready).
    ///
    /// With a numeric address, as host or as [`hostaddr`](PgConfig::hostaddr), with a Unix-domain
    /// socket, and with a host that was [resolved](PgConfig::resolve) before, this never waits. Any
    /// other host name is looked up by the system's resolver before this returns, which can take a
    /// while.
    ///
    /// # Errors
    ///
    /// [`PgError::Config`] when the configuration cannot be used, [`PgError::Io`] when the host has
    /// no address or none of them can be tried at all. Everything else is told by
    /// [`next_event`](Self::next_event).
    pub fn start_connect(config: &PgConfig) -> PgResult<Self> {
        let limit = config.connect_limit();
        let deadline =
            limit.and_then(|(setting, value)| Deadline::after(Instant::now(), setting, value));
        Self::start_connect_by(config, deadline)
    }

    /// [`start_connect`](Self::start_connect) for a connection that has its statements and the keys
    /// of its SCRAM login in common with others.
    pub(crate) fn start_connect_sharing(
        config: &PgConfig,
        catalogue: &Catalogue,
        keys: &ScramKeyCache,
    ) -> PgResult<Self> {
        let mut connection = Self::start_connect(config)?;
        connection.engine.set_catalogue(catalogue.clone());
        connection.engine.set_scram_keys(keys.clone());
        Ok(connection)
    }

    fn start_connect_by(config: &PgConfig, deadline: Option<Deadline>) -> PgResult<Self> {
        config.validate()?;
        let target = config.target();
        let failed = |error: io::Error| PgError::Io(cannot_connect(&target, &error));
        let addresses = addresses(config).map_err(failed)?;
        let (socket, connecting) = Connecting::start(addresses, Instant::now()).map_err(failed)?;
        Ok(Self {
            engine: Engine::start(config, Encryption::None, deadline)?,
            socket,
            in_login: connecting.is_none(),
            cancelling: None,
            last_cancel: None,
            cancel_limit: config.connect_limit(),
            limit: Limit::IoTimeout,
            connecting: connecting.map(Box::new),
            target: target.into(),
            fresh: None,
            io_timeout: config.get_io_timeout(),
            drain_timeout: config.get_drain_timeout(),
            send_error: None,
            overdue: None,
            set_aside: VecDeque::new(),
            notices: Kept::new(config),
            notice_handler: None,
            notifications: Kept::new(config),
            may_have_kept: false,
            dropped_told: 0,
            last_tag: CommandTag::EMPTY,
            savepoints: 0,
            copy: None,
        })
    }

    /// Waits until a connect that [`start_connect`](Self::start_connect) began is over.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn wait_ready(&mut self) -> PgResult<()> {
        loop {
            if let Err(error) = self.take_events() {
                return Err(self.during_login(error));
            }
            if self.engine.is_ready() {
                return Ok(());
            }
            if !self.something_is_late() {
                self.turn(None);
            }
        }
    }

    /// Says where the connection ended that was to be made; what the server itself says stands
    /// alone.
    #[cold]
    pub(super) fn during_login(&self, error: PgError) -> PgError {
        if !self.in_login {
            return error;
        }
        let text =
            |error: &dyn std::fmt::Display| format!("{error}, during login at {}", self.target);
        match error {
            PgError::ConnectionClosed(why) => PgError::ConnectionClosed(text(&why)),
            PgError::Protocol(what) => PgError::Protocol(text(&what)),
            PgError::Io(error) => PgError::Io(io::Error::new(error.kind(), text(&error))),
            other => other,
        }
    }
}

/// The error that no address of the host can be reached.
pub(super) fn cannot_connect(target: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot connect to {target}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::fake::FakeServer;
    use testkit::fake::scram::{ScramServer, Verdict};

    #[test]
    fn s9_4_connections_share_the_keys_of_their_logins_and_their_statements() {
        let server = FakeServer::start(|conn| {
            conn.startup()?;
            assert_eq!(ScramServer::new("s3cret").authenticate(conn)?, Verdict::Accepted);
            conn.welcome()?;
            conn.drain()
        });
        let config = PgConfig::new("127.0.0.1", server.port(), "ada", "s3cret", "shop");
        let (catalogue, keys) = (Catalogue::new(4), ScramKeyCache::new());
        let connections: Vec<_> = (0..3)
            .map(|_| {
                let mut connection =
                    PgConnection::start_connect_sharing(&config, &catalogue, &keys).unwrap();
                connection.wait_ready().unwrap();
                connection
            })
            .collect();
        assert_eq!(keys.derivations(), 1);
        catalogue.set_capacity(9);
        assert!(connections.iter().all(|shared| shared.engine.catalogue().capacity() == 9));
        drop(connections);
        server.join();
    }
}
