//! Making a connection.

use std::io;
use std::time::{Duration, Instant};

use super::PgConnection;
use super::kept::Kept;
use crate::config::PgConfig;
use crate::engine::{CommandTag, Deadline, Encryption, Engine};
use crate::error::{PgError, PgResult, Timeout};
use crate::net::{Address, Connecting, Progress, Socket, wait};

impl PgConnection {
    /// Connects to the server of `config`, logs in, and waits until the session is ready.
    ///
    /// One deadline bounds all of it: name lookup, TCP, startup, authentication. It is the
    /// configuration's [`connect_timeout`](PgConfig::connect_timeout), or its
    /// [`io_timeout`](PgConfig::io_timeout) if none is set. (The system's resolver cannot be
    /// interrupted: a name lookup that takes longer ends the connect when it returns.)
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
        let limit = config.connect_limit();
        let deadline =
            limit.and_then(|(setting, value)| Deadline::after(Instant::now(), setting, value));
        Self::connect_by(config, deadline)
    }

    /// [`connect`](Self::connect) within `timeout`, whatever the configuration says.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_with_timeout(config: &PgConfig, timeout: Duration) -> PgResult<Self> {
        Self::connect_by(config, Deadline::after(Instant::now(), "connect_timeout", timeout))
    }

    fn connect_by(config: &PgConfig, deadline: Option<Deadline>) -> PgResult<Self> {
        config.validate()?;
        let socket = open(config, deadline)?;
        let mut connection = Self {
            engine: Engine::start(config, Encryption::None, deadline)?,
            socket,
            io_timeout: config.get_io_timeout(),
            send_error: None,
            notices: Kept::new(),
            notice_handler: None,
            notifications: Kept::new(),
            last_tag: CommandTag::EMPTY,
        };
        loop {
            connection.take_events().map_err(|error| during_login(error, config))?;
            if connection.engine.is_ready() {
                return Ok(connection);
            }
            if !connection.something_is_late() {
                connection.turn();
            }
        }
    }
}

/// Says where the connection ended that was to be made; what the server itself says stands alone.
fn during_login(error: PgError, config: &PgConfig) -> PgError {
    let text =
        |error: &dyn std::fmt::Display| format!("{error}, during login at {}", config.target());
    match error {
        PgError::ConnectionClosed(why) => PgError::ConnectionClosed(text(&why)),
        PgError::Protocol(what) => PgError::Protocol(text(&what)),
        PgError::Io(error) => PgError::Io(io::Error::new(error.kind(), text(&error))),
        other => other,
    }
}

/// A connected socket to the first address of the host that answers.
fn open(config: &PgConfig, deadline: Option<Deadline>) -> PgResult<Socket> {
    let failed = |error: io::Error| {
        let text = format!("cannot connect to {}: {error}", config.target());
        PgError::Io(io::Error::new(error.kind(), text))
    };
    let addresses = match config.socket_path() {
        Some(path) => vec![Address::Unix(path)],
        None => Address::resolve(&config.host, config.port).map_err(failed)?,
    };
    let mut progress = Connecting::start(addresses, Instant::now()).map_err(failed)?;
    loop {
        let connecting = match progress {
            Progress::Connected(socket) => return Ok(socket),
            Progress::Pending(connecting) => connecting,
        };
        let until = [deadline.map(|limit| limit.at), connecting.retry_at()];
        let ready = wait(connecting.source(), until.into_iter().flatten().min())?;
        let now = Instant::now();
        // A socket that is not writable has no result yet; that it has no error does not mean that
        // it is connected.
        let is_late = |limit: &Deadline| !ready && limit.at <= now;
        if let Some(Deadline { setting, value, .. }) = deadline.filter(is_late) {
            let doing = "connecting to the server's address";
            return Err(PgError::Timeout(Box::new(Timeout { setting, value, doing })));
        }
        progress = connecting.proceed(now).map_err(failed)?;
    }
}
