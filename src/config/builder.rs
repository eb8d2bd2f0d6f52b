//! One method to change and one to read each setting of [`PgConfig`].

use std::time::Duration;

use super::{ConnectTimeout, ExecutionMode, PgConfig, ProtocolVersion};
use crate::crypto::SecretString;

/// Changing settings.
impl PgConfig {
    /// Sets the [`host`](field@Self::host).
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert_eq!(config.host("10.0.0.7").target(), "10.0.0.7:5432");
    /// ```
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = host.into();
        self
    }

    /// Sets the IP address to connect to, without brackets; an empty one means none.
    ///
    /// With it no connect looks the [`host`](field@Self::host) up, so that none waits for the
    /// system's resolver. The host stays the server's name in errors. Libpq's `hostaddr`.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("db.example.com", 5432, "ada", "", "shop");
    /// let config = config.hostaddr("10.0.0.7");
    /// assert_eq!(config.get_hostaddr(), Some("10.0.0.7"));
    /// assert_eq!(config.target(), "db.example.com:5432 (10.0.0.7)");
    /// assert!(config.hostaddr("db.example.com").validate().is_err());
    /// ```
    #[must_use]
    pub fn hostaddr(mut self, address: impl Into<String>) -> Self {
        self.hostaddr = Some(address.into()).filter(|address| !address.is_empty());
        self
    }

    /// Sets the [`port`](field@Self::port).
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert_eq!(config.port(5433).target(), "localhost:5433");
    /// ```
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the [`user`](field@Self::user). The database stays what it is.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert_eq!(config.user("bob").user, "bob");
    /// ```
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// Sets the [`database`](field@Self::database).
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert_eq!(config.database("billing").database, "billing");
    /// ```
    #[must_use]
    pub fn database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// Sets the password; an empty one means none.
    ///
    /// A `String` is taken over without a copy and wiped in the end; a `&str` is copied, and the
    /// original stays in the caller's care.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.password("s3cret");
    /// assert!(!format!("{config:?}").contains("s3cret"));
    /// ```
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        let password = SecretString::from(password.into());
        self.password = Some(password).filter(|password| !password.as_str().is_empty());
        self
    }

    /// Sets the name under which the session appears in `pg_stat_activity` and in the server's log;
    /// an empty one means none.
    ///
    /// The server keeps its first 63 bytes.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert_eq!(config.application_name("till").get_application_name(), Some("till"));
    /// ```
    #[must_use]
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = Some(name.into()).filter(|name| !name.is_empty());
        self
    }

    /// Sets command-line options for the server's side of the session, such as
    /// `-c statement_timeout=5s`; an empty text means none.
    ///
    /// Blanks separate options, `\ ` is a blank within one, `\\` a backslash.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.options("-c search_path=shop -c geqo=off");
    /// assert_eq!(config.get_options(), Some("-c search_path=shop -c geqo=off"));
    /// ```
    #[must_use]
    pub fn options(mut self, options: impl Into<String>) -> Self {
        self.options = Some(options.into()).filter(|options| !options.is_empty());
        self
    }

    /// Sets how long a whole connect may take, from the name lookup to the first ReadyForQuery.
    ///
    /// `None` means no limit, and so does zero, as in libpq. As long as this is not called,
    /// [`io_timeout`](Self::io_timeout) is the limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert_eq!(config.get_connect_timeout(), Some(Duration::from_secs(5)));
    /// let config = config.connect_timeout(Some(Duration::from_secs(2)));
    /// assert_eq!(config.get_connect_timeout(), Some(Duration::from_secs(2)));
    /// assert_eq!(config.connect_timeout(None).get_connect_timeout(), None);
    /// ```
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.connect_timeout = match timeout {
            None | Some(Duration::ZERO) => ConnectTimeout::Never,
            Some(timeout) => ConnectTimeout::After(timeout),
        };
        self
    }

    /// Sets how long one operation may take, over all its phases: a query, an execute, a prepare,
    /// and the connect too unless it has a [`connect_timeout`](Self::connect_timeout). The default
    /// is [`DEFAULT_IO_TIMEOUT`](super::DEFAULT_IO_TIMEOUT).
    ///
    /// [`Duration::MAX`] means no limit; zero is refused by [`validate`](Self::validate).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.io_timeout(Duration::from_millis(300));
    /// assert_eq!(config.get_io_timeout(), Duration::from_millis(300));
    /// ```
    #[must_use]
    pub fn io_timeout(mut self, timeout: Duration) -> Self {
        self.io_timeout = timeout;
        self
    }

    /// Sets the grace period after a request has timed out: that long its answer is awaited and thrown
    /// away while the server is told to cancel it, and if it has not come by then the connection is
    /// given up as broken. A request that was discarded, or whose stream was dropped, has this time
    /// first to end by itself (a stream that only reads a tenth of it, outside of a transaction). The
    /// default is five seconds; zero gives the connection up at once.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.drain_timeout(Duration::from_secs(1));
    /// assert_eq!(config.get_drain_timeout(), Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Sets the size, in bytes, above which a message from the server breaks the connection instead
    /// of filling the memory: from [`MIN_MESSAGE_SIZE`](Self::MIN_MESSAGE_SIZE) to
    /// [`MAX_MESSAGE_SIZE`](Self::MAX_MESSAGE_SIZE), which is the default.
    ///
    /// A row is one message, so this is also the limit of a row.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.max_message_size(16 << 20);
    /// assert_eq!(config.get_max_message_size(), 16 << 20);
    /// assert!(config.max_message_size(100).validate().is_err());
    /// ```
    #[must_use]
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = bytes;
        self
    }

    /// Sets how many rounds of hashing a server may ask for in a SCRAM login; one that asks for
    /// more is refused.
    ///
    /// The server chooses the number before it has proved who it is, and this side has to compute
    /// them while everything else on the thread waits: without a limit, a hostile server could keep
    /// a program busy for many minutes with one login. The default of 100,000 is 24 times
    /// PostgreSQL's own (`scram_iterations`, 4096) and some tens of milliseconds of work. Raise it
    /// if your server was set to more.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.max_scram_iterations(600_000);
    /// assert_eq!(config.get_max_scram_iterations(), 600_000);
    /// ```
    #[must_use]
    pub fn max_scram_iterations(mut self, iterations: u32) -> Self {
        self.max_scram_iterations = iterations;
        self
    }

    /// Sets the newest protocol version to ask for; a server that only knows an older one says so,
    /// and that one is used.
    ///
    /// The default is 3.0, as in libpq 18: some poolers refuse the login when they are asked for
    /// more.
    ///
    /// ```
    /// # use chopin_pg::ProtocolVersion;
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert_eq!(config.get_max_protocol_version(), ProtocolVersion::V3_0);
    /// let config = config.max_protocol_version(ProtocolVersion::LATEST);
    /// assert_eq!(config.get_max_protocol_version(), ProtocolVersion::V3_2);
    /// ```
    #[must_use]
    pub fn max_protocol_version(mut self, version: ProtocolVersion) -> Self {
        self.max_protocol_version = version;
        self
    }

    /// Sets how queries are executed. The default is [`ExecutionMode::Cached`]; behind a
    /// transaction pooler take [`ExecutionMode::Unnamed`].
    ///
    /// ```
    /// # use chopin_pg::ExecutionMode;
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert_eq!(config.get_execution_mode(), ExecutionMode::Cached);
    /// let config = config.execution_mode(ExecutionMode::Unnamed);
    /// assert_eq!(config.get_execution_mode(), ExecutionMode::Unnamed);
    /// ```
    #[must_use]
    pub fn execution_mode(mut self, mode: ExecutionMode) -> Self {
        self.execution_mode = mode;
        self
    }

    /// Sets how many prepared statements a connection keeps at most in
    /// [`ExecutionMode::Cached`]; the one that was not used for the longest time makes room for
    /// the next.
    ///
    /// The default is 256. Zero switches the cache off: every query goes through the unnamed
    /// statement.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert_eq!(config.get_statement_cache_capacity(), 256);
    /// let config = config.statement_cache_capacity(32);
    /// assert_eq!(config.get_statement_cache_capacity(), 32);
    /// ```
    #[must_use]
    pub fn statement_cache_capacity(mut self, statements: usize) -> Self {
        self.statement_cache_capacity = statements;
        self
    }

    /// Sets how many requests may be in flight at a time on a connection: unanswered, or answered
    /// but not taken yet. Beyond that a submit answers
    /// [`PgError::WouldBlock`](crate::PgError::WouldBlock) and queues nothing.
    ///
    /// The default is 65,536; zero is refused by [`validate`](Self::validate).
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.max_in_flight(1_000);
    /// assert_eq!(config.get_max_in_flight(), 1_000);
    /// assert!(config.max_in_flight(0).validate().is_err());
    /// ```
    #[must_use]
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// Sets how many bytes may wait to be sent on a connection: while there are more, a submit
    /// answers [`PgError::WouldBlock`](crate::PgError::WouldBlock) and queues nothing.
    ///
    /// A single request may be larger, for it is the bytes already waiting that count. The default
    /// is 16 MiB; zero is refused by [`validate`](Self::validate).
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.max_send_buffer(1 << 20);
    /// assert_eq!(config.get_max_send_buffer(), 1 << 20);
    /// assert!(config.max_send_buffer(0).validate().is_err());
    /// ```
    #[must_use]
    pub fn max_send_buffer(mut self, bytes: usize) -> Self {
        self.max_send_buffer = bytes;
        self
    }

    /// Sets how many notices, and how many notifications, a connection keeps for a program that
    /// fetches them later. Beyond that the oldest give way, and an event tells how many
    /// ([`Event::MessagesDropped`](crate::Event::MessagesDropped)).
    ///
    /// The default is 4,096. Zero keeps none.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.max_kept_messages(100_000);
    /// assert_eq!(config.get_max_kept_messages(), 100_000);
    /// ```
    #[must_use]
    pub fn max_kept_messages(mut self, messages: usize) -> Self {
        self.max_kept_messages = messages;
        self
    }

    /// Sets how many bytes the texts of the notices, and those of the notifications, may have that
    /// a connection [keeps](Self::max_kept_messages). The newest of each is kept however large it
    /// is.
    ///
    /// The default is 4 MiB.
    ///
    /// ```
    /// # let config = chopin_pg::PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// let config = config.max_kept_bytes(1 << 26);
    /// assert_eq!(config.get_max_kept_bytes(), 1 << 26);
    /// ```
    #[must_use]
    pub fn max_kept_bytes(mut self, bytes: usize) -> Self {
        self.max_kept_bytes = bytes;
        self
    }
}

/// Reading settings. The methods have the `get_` of [`std::process::Command`], because the plain
/// names are those of the methods that change them.
impl PgConfig {
    /// The password, if there is one.
    pub(crate) fn secret_password(&self) -> Option<&SecretString> {
        self.password.as_ref()
    }

    /// The IP address to connect to, see [`hostaddr`](Self::hostaddr).
    pub fn get_hostaddr(&self) -> Option<&str> {
        self.hostaddr.as_deref()
    }

    /// The name of the session, see [`application_name`](Self::application_name).
    pub fn get_application_name(&self) -> Option<&str> {
        self.application_name.as_deref()
    }

    /// The server's command-line options, see [`options`](Self::options).
    pub fn get_options(&self) -> Option<&str> {
        self.options.as_deref()
    }

    /// How long a whole connect may take: [`connect_timeout`](Self::connect_timeout) if it was set,
    /// else [`io_timeout`](Self::io_timeout). `None` means no limit.
    pub fn get_connect_timeout(&self) -> Option<Duration> {
        self.connect_limit().map(|(_, timeout)| timeout)
    }

    /// The setting that limits a connect, by name for the error, and its value; `None` means no
    /// limit.
    pub(crate) fn connect_limit(&self) -> Option<(&'static str, Duration)> {
        match self.connect_timeout {
            ConnectTimeout::IoTimeout => Some(("io_timeout", self.io_timeout)),
            ConnectTimeout::After(timeout) => Some(("connect_timeout", timeout)),
            ConnectTimeout::Never => None,
        }
    }

    /// How long one operation may take, see [`io_timeout`](Self::io_timeout).
    pub fn get_io_timeout(&self) -> Duration {
        self.io_timeout
    }

    /// How long a late answer is awaited, see [`drain_timeout`](Self::drain_timeout).
    pub fn get_drain_timeout(&self) -> Duration {
        self.drain_timeout
    }

    /// The limit of one message in bytes, see [`max_message_size`](Self::max_message_size).
    pub fn get_max_message_size(&self) -> usize {
        self.max_message_size
    }

    /// The limit of SCRAM's rounds, see [`max_scram_iterations`](Self::max_scram_iterations).
    pub fn get_max_scram_iterations(&self) -> u32 {
        self.max_scram_iterations
    }

    /// The version to ask for, see [`max_protocol_version`](Self::max_protocol_version).
    pub fn get_max_protocol_version(&self) -> ProtocolVersion {
        self.max_protocol_version
    }

    /// How queries are executed, see [`execution_mode`](Self::execution_mode).
    pub fn get_execution_mode(&self) -> ExecutionMode {
        self.execution_mode
    }

    /// How many statements are kept prepared, see
    /// [`statement_cache_capacity`](Self::statement_cache_capacity).
    pub fn get_statement_cache_capacity(&self) -> usize {
        self.statement_cache_capacity
    }

    /// How many requests may be in flight, see [`max_in_flight`](Self::max_in_flight).
    pub fn get_max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    /// How many bytes may wait to be sent, see [`max_send_buffer`](Self::max_send_buffer).
    pub fn get_max_send_buffer(&self) -> usize {
        self.max_send_buffer
    }

    /// How many messages of a kind are kept, see [`max_kept_messages`](Self::max_kept_messages).
    pub fn get_max_kept_messages(&self) -> usize {
        self.max_kept_messages
    }

    /// How many bytes of their texts are kept, see [`max_kept_bytes`](Self::max_kept_bytes).
    pub fn get_max_kept_bytes(&self) -> usize {
        self.max_kept_bytes
    }
}
