//! How to reach a server and how to behave there: [`PgConfig`].
//!
//! A configuration is plain data: it is `Clone`, `Send` and `Sync`, opens nothing and asks nobody.
//! Names and meanings are libpq's wherever libpq has the setting; those that libpq does not have
//! (such as [`PgConfig::io_timeout`]) are set by methods only, so that a connection URL never means
//! one thing here and another to a later psql.
//!
//! This floor knows the words of the configuration, not the protocol, the sockets or the
//! authentication that they steer.
//!
//! * `address` knows where the server is without asking (the asking is
//!   [`PgConfig::resolve`], on the floor of the connections);
//! * `builder` has the methods that change and read single settings, `tcp` those that only TCP has;
//! * `url` cuts a connection URL into settings, `percent` decodes the pieces;
//! * `execution_mode` and `protocol_version` have the settings that are a choice of names;
//! * `settings` has libpq's keywords, their values and the defaults.

mod address;
mod builder;
mod execution_mode;
mod percent;
mod protocol_version;
mod settings;
mod tcp;
mod url;

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::address::{Resolved, is_numeric};
pub use self::execution_mode::ExecutionMode;
pub use self::protocol_version::ProtocolVersion;
use self::tcp::TcpSettings;
use crate::crypto::SecretString;
use crate::error::{PgError, PgResult};

/// How long an operation may take if the program sets nothing: five seconds.
///
/// See [`PgConfig::io_timeout`].
///
/// ```
/// use std::time::Duration;
/// use chopin_pg::{DEFAULT_IO_TIMEOUT, PgConfig};
///
/// let config = PgConfig::new("localhost", 5432, "ada", "", "shop");
/// assert_eq!(config.get_io_timeout(), DEFAULT_IO_TIMEOUT);
/// assert_eq!(DEFAULT_IO_TIMEOUT, Duration::from_secs(5));
/// ```
pub const DEFAULT_IO_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a list of hosts is refused.
const SEVERAL_HOSTS: &str =
    "several hosts (a comma in host, hostaddr or port) are not supported yet";

/// What bounds the time of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectTimeout {
    /// Nothing of its own: `io_timeout` does.
    IoTimeout,
    After(Duration),
    Never,
}

/// Where the server is, who logs in, and how the connection behaves.
///
/// Made by [`new`](Self::new) or [`from_url`](Self::from_url); every other setting has a default
/// and a method that changes it, which takes the configuration and gives it back:
///
/// ```
/// use std::time::Duration;
/// use chopin_pg::PgConfig;
///
/// let config = PgConfig::new("db.example.com", 5432, "ada", "s3cret", "shop")
///     .application_name("till")
///     .connect_timeout(Some(Duration::from_secs(2)));
/// assert_eq!(config.target(), "db.example.com:5432");
/// ```
///
/// Settings are not checked as they are set, but all together by [`validate`](Self::validate),
/// which every connect calls first.
///
/// The password never appears in `Debug`, and its memory is overwritten when the configuration is
/// dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgConfig {
    /// A name, an IP address without brackets, or the directory of a unix socket: the latter begins
    /// with `/`, or with `@` in Linux's abstract namespace.
    ///
    /// A name is looked up by each connect, unless there is a [`hostaddr`](Self::hostaddr) or the
    /// name was [resolved](Self::resolve) before.
    pub host: String,
    /// The TCP port, or the number at the end of a unix socket's file name.
    pub port: u16,
    /// The role to log in as.
    pub user: String,
    /// The database to connect to; empty means the one that has the user's name.
    pub database: String,
    hostaddr: Option<String>,
    /// What [`resolve`](Self::resolve) has found.
    resolved: Option<Resolved>,
    password: Option<SecretString>,
    application_name: Option<String>,
    options: Option<String>,
    connect_timeout: ConnectTimeout,
    tcp: TcpSettings,
    io_timeout: Duration,
    drain_timeout: Duration,
    max_message_size: usize,
    max_scram_iterations: u32,
    max_protocol_version: ProtocolVersion,
    execution_mode: ExecutionMode,
    statement_cache_capacity: usize,
    max_in_flight: usize,
    max_send_buffer: usize,
    max_kept_messages: usize,
    max_kept_bytes: usize,
}

/// The defaults, and the limits of what can be set.
impl PgConfig {
    /// The host of a URL that names none. (libpq takes the directory of unix sockets that it was
    /// built with, which only the server's packager knows.)
    pub const DEFAULT_HOST: &'static str = "localhost";

    /// The port of a URL that names none.
    pub const DEFAULT_PORT: u16 = 5432;

    /// See [`drain_timeout`](Self::drain_timeout).
    pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

    /// See [`max_scram_iterations`](Self::max_scram_iterations).
    pub const DEFAULT_MAX_SCRAM_ITERATIONS: u32 = 100_000;

    /// The largest [`max_message_size`](Self::max_message_size), and its default, in bytes: no
    /// value in PostgreSQL can be larger than 1 GiB - 1.
    pub const MAX_MESSAGE_SIZE: usize = crate::wire::frame::MAX_MESSAGE_SIZE;

    /// The smallest [`max_message_size`](Self::max_message_size), in bytes: ample for the
    /// messages of a login and for an error with its fields.
    pub const MIN_MESSAGE_SIZE: usize = 64 * 1024;

    /// See [`statement_cache_capacity`](Self::statement_cache_capacity).
    pub const DEFAULT_STATEMENT_CACHE_CAPACITY: usize = 256;

    /// See [`max_in_flight`](Self::max_in_flight).
    pub const DEFAULT_MAX_IN_FLIGHT: usize = 65_536;

    /// In bytes (16 MiB), see [`max_send_buffer`](Self::max_send_buffer).
    pub const DEFAULT_MAX_SEND_BUFFER: usize = 1 << 24;

    /// See [`max_kept_messages`](Self::max_kept_messages).
    pub const DEFAULT_MAX_KEPT_MESSAGES: usize = 4096;

    /// In bytes (4 MiB), see [`max_kept_bytes`](Self::max_kept_bytes).
    pub const DEFAULT_MAX_KEPT_BYTES: usize = 1 << 22;
}

/// Making a configuration.
impl PgConfig {
    /// A configuration with the five things that say where to connect and as whom.
    ///
    /// `host` may also be the directory of a unix socket, see [`PgConfig::host`](field@Self::host).
    /// An empty `password` means none, an empty `database` the one that has the user's name.
    ///
    /// ```
    /// use chopin_pg::PgConfig;
    ///
    /// let config = PgConfig::new("localhost", 5432, "ada", "s3cret", "shop");
    /// assert_eq!((config.host.as_str(), config.port), ("localhost", 5432));
    /// assert_eq!((config.user.as_str(), config.database.as_str()), ("ada", "shop"));
    ///
    /// let socket = PgConfig::new("/run/postgresql", 5432, "ada", "", "shop");
    /// assert!(socket.is_unix());
    /// ```
    pub fn new(host: &str, port: u16, user: &str, password: &str, database: &str) -> Self {
        let config = Self {
            host: host.to_owned(),
            port,
            user: user.to_owned(),
            database: database.to_owned(),
            hostaddr: None,
            resolved: None,
            password: None,
            application_name: None,
            options: None,
            connect_timeout: ConnectTimeout::IoTimeout,
            tcp: TcpSettings::default(),
            io_timeout: DEFAULT_IO_TIMEOUT,
            drain_timeout: Self::DEFAULT_DRAIN_TIMEOUT,
            max_message_size: Self::MAX_MESSAGE_SIZE,
            max_scram_iterations: Self::DEFAULT_MAX_SCRAM_ITERATIONS,
            max_protocol_version: ProtocolVersion::default(),
            execution_mode: ExecutionMode::default(),
            statement_cache_capacity: Self::DEFAULT_STATEMENT_CACHE_CAPACITY,
            max_in_flight: Self::DEFAULT_MAX_IN_FLIGHT,
            max_send_buffer: Self::DEFAULT_MAX_SEND_BUFFER,
            max_kept_messages: Self::DEFAULT_MAX_KEPT_MESSAGES,
            max_kept_bytes: Self::DEFAULT_MAX_KEPT_BYTES,
        };
        config.password(password)
    }

    /// Reads a connection URL, with libpq's grammar and meaning:
    ///
    /// ```text
    /// postgres://user:password@host:port/dbname?keyword=value&keyword=value
    /// ```
    ///
    /// The scheme may also be `postgresql`; all the rest may be left out. A user that is left out
    /// is taken from the environment variable `USER` or else `LOGNAME`, a database from the user;
    /// the host is then `localhost` and the port 5432. No other environment variable and no file is
    /// read.
    ///
    /// Characters with a meaning are percent-encoded, and the bytes are UTF-8: `p@ss/wörd` is
    /// written `p%40ss%2Fw%C3%B6rd`. An IPv6 address stands in brackets, with its zone if need be:
    /// `[::1]`, `[fe80::1%25eth0]`. The directory of a unix socket is given as
    /// `?host=/run/postgresql`, or percent-encoded in the place of the host.
    ///
    /// | keyword | value |
    /// |---|---|
    /// | `host`, `port`, `user`, `password`, `dbname` | overrides what stands in front of the `?` |
    /// | `hostaddr` | see [`hostaddr`](Self::hostaddr); without a host it is the host too |
    /// | `application_name` | see [`application_name`](Self::application_name) |
    /// | `options` | see [`options`](Self::options) |
    /// | `connect_timeout` | seconds; zero or less: no limit; absent: `io_timeout` limits |
    /// | `keepalives` | 0: off; see [`keepalives`](Self::keepalives) |
    /// | `keepalives_idle`, `keepalives_interval` | seconds; zero or less: the system's |
    /// | `keepalives_count` | a number; zero or less: the system's |
    /// | `tcp_user_timeout` | milliseconds; zero or less: the system's |
    /// | `client_encoding` | `UTF8` or `auto`: text is always UTF8 |
    /// | `max_protocol_version` | `3.0`, `3.2` or `latest` |
    /// | `sslmode` | `disable`, `allow` or `prefer`: plaintext, as this build has no TLS |
    ///
    /// Of a keyword that is repeated the last value counts. An empty value is as good as none.
    ///
    /// ```
    /// use chopin_pg::PgConfig;
    ///
    /// # fn main() -> chopin_pg::PgResult<()> {
    /// let config = PgConfig::from_url("postgres://zo%C3%AB:s3cret@[::1]/shop?connect_timeout=3")?;
    /// assert_eq!(config.user, "zoë");
    /// assert_eq!(config.target(), "[::1]:5432");
    ///
    /// let config = PgConfig::from_url("postgres://ada@/shop?host=/run/postgresql")?;
    /// assert_eq!(config.target(), "/run/postgresql/.s.PGSQL.5432");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`PgError::Config`] says which part is wrong and why: not a connection URL, a bad
    /// percent-escape, bytes that are not UTF-8, a zero byte, an unknown keyword (it lists the
    /// known ones), one of libpq's that is not supported yet, a value that the keyword does not
    /// have, several hosts, or a `sslmode` that demands TLS. No part of the password is ever in
    /// the error.
    ///
    /// ```
    /// # use chopin_pg::PgConfig;
    /// let error = PgConfig::from_url("postgres://ada@db/shop?sslmode=require").unwrap_err();
    /// assert!(error.to_string().contains("this build has no TLS"));
    /// ```
    pub fn from_url(url: &str) -> PgResult<Self> {
        url::parse(url)?.into_config()
    }
}

/// What the settings amount to.
impl PgConfig {
    /// The directory of the unix socket, if [`host`](field@Self::host) is one and there is no
    /// [`hostaddr`](Self::hostaddr) to go to instead. A directory that begins with `@` is in Linux's
    /// abstract namespace and in no file system.
    ///
    /// ```
    /// use std::path::Path;
    /// use chopin_pg::PgConfig;
    ///
    /// let config = PgConfig::new("/run/postgresql", 5432, "ada", "", "shop");
    /// assert_eq!(config.socket_dir(), Some(Path::new("/run/postgresql")));
    /// assert_eq!(config.host("localhost").socket_dir(), None);
    /// ```
    pub fn socket_dir(&self) -> Option<&Path> {
        let is_directory = self.hostaddr.is_none() && self.host.starts_with(['/', '@']);
        is_directory.then(|| Path::new(&self.host))
    }

    /// The unix socket itself, `.s.PGSQL.` and the port in [`socket_dir`](Self::socket_dir).
    ///
    /// ```
    /// use std::path::Path;
    /// use chopin_pg::PgConfig;
    ///
    /// let config = PgConfig::new("/run/postgresql", 5433, "ada", "", "shop");
    /// let path = config.socket_path();
    /// assert_eq!(path.as_deref(), Some(Path::new("/run/postgresql/.s.PGSQL.5433")));
    /// ```
    pub fn socket_path(&self) -> Option<PathBuf> {
        self.socket_dir().map(|directory| directory.join(format!(".s.PGSQL.{}", self.port)))
    }

    /// Whether the server is reached through a unix socket.
    ///
    /// ```
    /// # use chopin_pg::PgConfig;
    /// assert!(PgConfig::new("/run/postgresql", 5432, "ada", "", "shop").is_unix());
    /// assert!(!PgConfig::new("localhost", 5432, "ada", "", "shop").is_unix());
    /// ```
    pub fn is_unix(&self) -> bool {
        self.socket_dir().is_some()
    }

    /// Where the server is, as errors name it.
    ///
    /// ```
    /// # use chopin_pg::PgConfig;
    /// let config = PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert_eq!(config.target(), "localhost:5432");
    /// assert_eq!(config.clone().host("::1").target(), "[::1]:5432");
    /// assert_eq!(config.clone().host("/run/postgresql").target(), "/run/postgresql/.s.PGSQL.5432");
    /// assert_eq!(config.hostaddr("10.0.0.7").target(), "localhost:5432 (10.0.0.7)");
    /// ```
    pub fn target(&self) -> String {
        let Self { host, port, .. } = self;
        let target = match self.socket_path() {
            Some(path) => path.display().to_string(),
            None if host.contains(':') => format!("[{host}]:{port}"),
            None => format!("{host}:{port}"),
        };
        match self.get_hostaddr() {
            Some(address) if address != host => format!("{target} ({address})"),
            _ => target,
        }
    }

    /// The parameters of the StartupMessage, in its order: names and values.
    ///
    /// `client_encoding` is always `UTF8`; what is not set is left to the server.
    ///
    /// Source: PostgreSQL documentation, "Message Formats", StartupMessage.
    ///
    /// ```
    /// # use chopin_pg::PgConfig;
    /// let config = PgConfig::new("localhost", 5432, "ada", "s3cret", "shop");
    /// let parameters: Vec<_> = config.startup_parameters().collect();
    /// let expected = [("user", "ada"), ("database", "shop"), ("client_encoding", "UTF8")];
    /// assert_eq!(parameters, expected);
    /// ```
    pub fn startup_parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        let database = Some(self.database.as_str()).filter(|database| !database.is_empty());
        let parameters = [
            ("user", Some(self.user.as_str())),
            ("database", database),
            ("application_name", self.get_application_name()),
            ("options", self.get_options()),
            ("client_encoding", Some("UTF8")),
        ];
        parameters.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// Checks all settings. Every connect does so before anything is opened.
    ///
    /// ```
    /// # use chopin_pg::PgConfig;
    /// let config = PgConfig::new("localhost", 5432, "ada", "", "shop");
    /// assert!(config.validate().is_ok());
    /// let error = config.user("ada\0").validate().unwrap_err();
    /// assert!(error.to_string().contains("the user name has a zero byte"));
    /// ```
    ///
    /// # Errors
    ///
    /// [`PgError::Config`] names the first setting that cannot be used: text with a zero byte,
    /// several hosts, an empty host or user name, a `hostaddr` that is no IP address, port 0, or a
    /// limit that is out of its range.
    pub fn validate(&self) -> PgResult<()> {
        self.first_flaw().map_or(Ok(()), |flaw| Err(PgError::Config(flaw)))
    }

    fn first_flaw(&self) -> Option<String> {
        let texts = [
            ("the host", Some(self.host.as_str())),
            ("hostaddr", self.get_hostaddr()),
            ("the user name", Some(self.user.as_str())),
            ("the password", self.password.as_ref().map(SecretString::as_str)),
            ("the database name", Some(self.database.as_str())),
            ("application_name", self.get_application_name()),
            ("options", self.get_options()),
        ];
        for (name, text) in texts {
            if text.is_some_and(|text| text.contains('\0')) {
                return Some(format!(
                    "{name} has a zero byte, which no text in PostgreSQL can hold"
                ));
            }
        }
        let hostaddr = self.get_hostaddr();
        if self.host.contains(',') || hostaddr.is_some_and(|address| address.contains(',')) {
            return Some(SEVERAL_HOSTS.to_owned());
        }
        let (least, most) = (Self::MIN_MESSAGE_SIZE, Self::MAX_MESSAGE_SIZE);
        let flaw = if self.host.is_empty() {
            "the host is empty".to_owned()
        } else if let Some(address) = hostaddr.filter(|address| !is_numeric(address)) {
            format!(
                "hostaddr {address:?} is no IP address (one without brackets; names go into host)"
            )
        } else if self.port == 0 {
            "the port is 0, which no server listens on".to_owned()
        } else if self.user.is_empty() {
            "the user name is empty".to_owned()
        } else if self.io_timeout.is_zero() {
            "io_timeout is zero, so that nothing could be done in time (Duration::MAX means no \
             limit)"
                .to_owned()
        } else if !(least..=most).contains(&self.max_message_size) {
            let size = self.max_message_size;
            format!("max_message_size is {size} bytes, which is not from {least} to {most}")
        } else if self.max_scram_iterations == 0 {
            "max_scram_iterations is 0, so that no SCRAM login could succeed".to_owned()
        } else if self.max_in_flight == 0 {
            "max_in_flight is 0, so that no request could be submitted".to_owned()
        } else if self.max_send_buffer == 0 {
            "max_send_buffer is 0 bytes, but the least is 1".to_owned()
        } else {
            return None;
        };
        Some(flaw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PgConfig {
        PgConfig::new("localhost", 5432, "ada", "hunter2", "shop")
    }

    #[test]
    fn s1_12_default_io_timeout() {
        assert_eq!(DEFAULT_IO_TIMEOUT, Duration::from_secs(5));
        assert_eq!(sample().get_io_timeout(), DEFAULT_IO_TIMEOUT);
        // Who sets nothing cannot hang in the connect either.
        assert_eq!(sample().connect_limit(), Some(("io_timeout", DEFAULT_IO_TIMEOUT)));
        let url = PgConfig::from_url("postgres://ada@localhost").unwrap();
        assert_eq!(url.connect_limit(), Some(("io_timeout", DEFAULT_IO_TIMEOUT)));
    }

    #[test]
    fn s8_3f_new_takes_its_five_arguments() {
        let config = sample();
        assert_eq!(config.host, "localhost");
        assert_eq!(config.port, 5432);
        assert_eq!(config.user, "ada");
        assert_eq!(config.database, "shop");
        assert_eq!(config.secret_password().map(SecretString::as_str), Some("hunter2"));
        assert_eq!(config.password("").secret_password(), None);
    }

    #[test]
    fn s8_3f_a_clone_is_independent_and_any_thread_may_have_it() {
        fn any_thread_may_have<T: Clone + Send + Sync + 'static>(_: &T) {}
        let config = sample();
        any_thread_may_have(&config);
        let other = config.clone().user("bob").password("other");
        assert_eq!(config, sample());
        assert_ne!(other, config);
    }

    #[test]
    fn s8_3f_setters_and_getters_agree() {
        let config = sample()
            .password("p")
            .host("db")
            .port(1)
            .user("u")
            .database("d")
            .hostaddr("10.0.0.7")
            .application_name("a")
            .options("-c x=y")
            .connect_timeout(Some(Duration::from_secs(1)))
            .io_timeout(Duration::from_secs(2))
            .drain_timeout(Duration::from_secs(3))
            .max_message_size(1 << 20)
            .max_scram_iterations(5)
            .max_protocol_version(ProtocolVersion::V3_2)
            .execution_mode(ExecutionMode::Simple)
            .statement_cache_capacity(6)
            .max_in_flight(7)
            .max_send_buffer(8)
            .max_kept_messages(9)
            .max_kept_bytes(10);
        assert_eq!((config.host.as_str(), config.port), ("db", 1));
        assert_eq!((config.user.as_str(), config.database.as_str()), ("u", "d"));
        assert_eq!(config.secret_password().map(SecretString::as_str), Some("p"));
        assert_eq!(config.get_hostaddr(), Some("10.0.0.7"));
        assert_eq!(config.clone().hostaddr("").get_hostaddr(), None);
        assert_eq!(config.get_application_name(), Some("a"));
        assert_eq!(config.get_options(), Some("-c x=y"));
        assert_eq!(config.connect_limit(), Some(("connect_timeout", Duration::from_secs(1))));
        assert_eq!(config.get_io_timeout(), Duration::from_secs(2));
        assert_eq!(config.get_drain_timeout(), Duration::from_secs(3));
        assert_eq!(config.get_max_message_size(), 1 << 20);
        assert_eq!(config.get_max_scram_iterations(), 5);
        assert_eq!(config.get_max_protocol_version(), ProtocolVersion::V3_2);
        assert_eq!(config.get_execution_mode(), ExecutionMode::Simple);
        assert_eq!(config.get_statement_cache_capacity(), 6);
        assert_eq!(config.get_max_in_flight(), 7);
        assert_eq!(config.get_max_send_buffer(), 8);
        assert_eq!((config.get_max_kept_messages(), config.get_max_kept_bytes()), (9, 10));
        config.validate().unwrap();
    }

    #[test]
    fn b8_statements_are_cached_unless_the_program_says_otherwise() {
        for config in [sample(), PgConfig::from_url("postgres://ada@localhost").unwrap()] {
            assert_eq!(config.get_execution_mode(), ExecutionMode::Cached);
            assert_eq!(config.get_statement_cache_capacity(), 256);
            let off = config.statement_cache_capacity(0);
            assert_eq!(off.get_statement_cache_capacity(), 0);
            off.validate().unwrap();
        }
    }

    #[test]
    fn b11_pipelines_are_bounded_by_default() {
        for config in [sample(), PgConfig::from_url("postgres://ada@localhost").unwrap()] {
            assert_eq!(config.get_max_in_flight(), 65_536);
            assert_eq!(config.get_max_send_buffer(), 16 * 1024 * 1024);
        }
    }

    #[test]
    fn s8_3f_what_libpq_does_not_have_is_no_keyword_of_a_url() {
        for keyword in
            ["execution_mode", "statement_cache_capacity", "max_in_flight", "max_send_buffer"]
        {
            let error = PgConfig::from_url(&format!("postgres://ada@db?{keyword}=1")).unwrap_err();
            assert!(error.to_string().contains(keyword), "{error}");
        }
    }

    #[test]
    fn s8_3f_validate_names_the_setting() {
        for (config, what) in [
            (sample().host(""), "the host is empty"),
            (sample().host("a,b"), "several hosts"),
            (sample().host("/a\0"), "the host has a zero byte"),
            (sample().hostaddr("db"), "hostaddr \"db\" is no IP address"),
            (
                sample().hostaddr("[::1]"),
                "hostaddr \"[::1]\" is no IP address (one without brackets",
            ),
            (sample().hostaddr("10.0.0.1,10.0.0.2"), "several hosts"),
            (sample().hostaddr("::1\0"), "hostaddr has a zero byte"),
            (sample().port(0), "the port is 0"),
            (sample().user(""), "the user name is empty"),
            (sample().user("\0"), "the user name has a zero byte"),
            (sample().password("hunter2\0"), "the password has a zero byte"),
            (sample().database("a\0"), "the database name has a zero byte"),
            (sample().application_name("a\0"), "application_name has a zero byte"),
            (sample().options("a\0"), "options has a zero byte"),
            (sample().io_timeout(Duration::ZERO), "io_timeout is zero"),
            (sample().max_message_size(65_535), "max_message_size is 65535 bytes"),
            (sample().max_message_size(1 << 30), "max_message_size is 1073741824 bytes"),
            (sample().max_scram_iterations(0), "max_scram_iterations is 0"),
            (sample().max_in_flight(0), "max_in_flight is 0"),
            (sample().max_send_buffer(0), "max_send_buffer is 0 bytes"),
        ] {
            let error = config.validate().expect_err(what).to_string();
            assert!(error.contains(what), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        for config in [
            sample(),
            sample().hostaddr("10.0.0.7"),
            sample().hostaddr("fe80::1%eth0"),
            sample().password(""),
            sample().database(""),
            sample().max_message_size(PgConfig::MIN_MESSAGE_SIZE),
            sample().max_message_size(PgConfig::MAX_MESSAGE_SIZE),
            sample().io_timeout(Duration::MAX),
            sample().drain_timeout(Duration::ZERO),
            sample().max_in_flight(1).max_send_buffer(1),
            sample().max_in_flight(usize::MAX).max_send_buffer(usize::MAX),
        ] {
            config.validate().unwrap();
        }
    }

    #[test]
    fn h37_debug_shows_no_password() {
        let url = PgConfig::from_url("postgres://ada:hunter%32@host/db").unwrap();
        for config in [sample(), sample().password("hunter2".to_owned()), url] {
            for text in [format!("{config:?}"), format!("{config:#?}")] {
                assert!(!text.contains("hunter2"), "{text}");
                assert!(text.contains("<secret>"), "{text}");
                assert!(text.contains("ada"), "the rest is there: {text}");
            }
        }
    }

    #[test]
    fn h37_no_startup_parameter_holds_the_password() {
        assert!(sample().startup_parameters().all(|(_, value)| value != "hunter2"));
    }

    #[test]
    fn b6_startup_parameters_always_ask_for_utf8() {
        let config = sample().application_name("till").options("-c geqo=off");
        assert_eq!(
            config.startup_parameters().collect::<Vec<_>>(),
            [
                ("user", "ada"),
                ("database", "shop"),
                ("application_name", "till"),
                ("options", "-c geqo=off"),
                ("client_encoding", "UTF8"),
            ]
        );
        let bare = PgConfig::new("localhost", 5432, "ada", "", "").application_name("").options("");
        assert_eq!(
            bare.startup_parameters().collect::<Vec<_>>(),
            [("user", "ada"), ("client_encoding", "UTF8")]
        );
    }

    #[test]
    fn b6_connect_timeout_is_set_unset_or_off() {
        let second = Duration::from_secs(1);
        assert_eq!(sample().io_timeout(second).connect_limit(), Some(("io_timeout", second)));
        assert_eq!(sample().connect_timeout(None).connect_limit(), None);
        assert_eq!(sample().connect_timeout(Some(Duration::ZERO)).connect_limit(), None);
    }

    #[test]
    fn s9_13_a_host_that_is_a_directory_means_a_unix_socket() {
        let config = sample().host("/run/postgresql").port(5433);
        assert!(config.is_unix());
        assert_eq!(config.socket_dir(), Some(Path::new("/run/postgresql")));
        assert_eq!(config.target(), "/run/postgresql/.s.PGSQL.5433");
        assert_eq!(sample().host("/tmp/").target(), "/tmp/.s.PGSQL.5432");
        for host in ["localhost", "10.0.0.1", "::1", "relative/directory"] {
            assert!(!sample().host(host).is_unix(), "{host}");
            assert_eq!(sample().host(host).socket_path(), None, "{host}");
        }
    }

    #[test]
    fn s9_13_hostaddr_is_where_a_connect_goes_whatever_the_host_is() {
        let config = sample().host("/run/postgresql").hostaddr("::1");
        assert!(!config.is_unix());
        assert_eq!(config.socket_path(), None);
        assert_eq!(sample().hostaddr("::1").target(), "localhost:5432 (::1)");
        assert_eq!(sample().host("::1").hostaddr("::1").target(), "[::1]:5432");
    }
}
