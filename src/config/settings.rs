//! libpq's settings by their keywords, and what this driver makes of them.
//!
//! Parsing and meaning are apart, as in libpq: first every value is only stored, and a repeated
//! keyword replaces the earlier value; then [`Settings::into_config`] checks what is left and fills
//! in the defaults. This file does not know how a connection string is written.
//!
//! Source: PostgreSQL documentation, libpq, "Parameter Key Words".

use std::env;
use std::ffi::OsString;
use std::time::Duration;

use super::{PgConfig, ProtocolVersion};
use crate::crypto::SecretString;
use crate::error::{PgError, PgResult};

/// A setting of libpq that this driver has too, under libpq's name and with libpq's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Host,
    Hostaddr,
    Port,
    User,
    Password,
    Dbname,
    Sslmode,
    ApplicationName,
    ConnectTimeout,
    Keepalives,
    KeepalivesIdle,
    KeepalivesInterval,
    KeepalivesCount,
    TcpUserTimeout,
    Options,
    ClientEncoding,
    MaxProtocolVersion,
}

/// In the order in which errors list them.
const KEYWORDS: [(&str, Keyword); 17] = [
    ("host", Keyword::Host),
    ("hostaddr", Keyword::Hostaddr),
    ("port", Keyword::Port),
    ("user", Keyword::User),
    ("password", Keyword::Password),
    ("dbname", Keyword::Dbname),
    ("sslmode", Keyword::Sslmode),
    ("application_name", Keyword::ApplicationName),
    ("connect_timeout", Keyword::ConnectTimeout),
    ("keepalives", Keyword::Keepalives),
    ("keepalives_idle", Keyword::KeepalivesIdle),
    ("keepalives_interval", Keyword::KeepalivesInterval),
    ("keepalives_count", Keyword::KeepalivesCount),
    ("tcp_user_timeout", Keyword::TcpUserTimeout),
    ("options", Keyword::Options),
    ("client_encoding", Keyword::ClientEncoding),
    ("max_protocol_version", Keyword::MaxProtocolVersion),
];

/// The other settings of libpq 18: good names, which deserve another answer than a misspelt one.
const NOT_SUPPORTED: [&str; 35] = [
    "channel_binding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "load_balance_hosts",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslkeylogfile",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
];

impl Keyword {
    /// The keyword of this name. An error calls an unknown name `shown`.
    ///
    /// # Errors
    ///
    /// [`PgError::Config`]: libpq knows it but this driver does not, or nobody knows it; the latter
    /// lists the keywords there are.
    pub(super) fn from_name(name: &str, shown: &str) -> PgResult<Self> {
        if let Some((_, keyword)) = KEYWORDS.iter().find(|(known, _)| *known == name) {
            return Ok(*keyword);
        }
        Err(PgError::Config(if NOT_SUPPORTED.contains(&name) {
            format!("libpq's setting `{name}` is not supported yet")
        } else {
            let known = KEYWORDS.map(|(known, _)| known).join(", ");
            format!("unknown setting {shown}; the known ones are {known}")
        }))
    }
}

/// The values of a connection string, unchecked: the last one of each keyword.
#[derive(Default)]
pub(super) struct Settings {
    host: Option<String>,
    hostaddr: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<SecretString>,
    dbname: Option<String>,
    sslmode: Option<String>,
    application_name: Option<String>,
    connect_timeout: Option<String>,
    keepalives: Option<String>,
    keepalives_idle: Option<String>,
    keepalives_interval: Option<String>,
    keepalives_count: Option<String>,
    tcp_user_timeout: Option<String>,
    options: Option<String>,
    client_encoding: Option<String>,
    max_protocol_version: Option<String>,
}

impl Settings {
    /// Stores a value, in place of an earlier one.
    pub(super) fn set(&mut self, keyword: Keyword, value: String) {
        let slot = match keyword {
            Keyword::Password => {
                self.password = Some(SecretString::from(value));
                return;
            }
            Keyword::Host => &mut self.host,
            Keyword::Hostaddr => &mut self.hostaddr,
            Keyword::Port => &mut self.port,
            Keyword::User => &mut self.user,
            Keyword::Dbname => &mut self.dbname,
            Keyword::Sslmode => &mut self.sslmode,
            Keyword::ApplicationName => &mut self.application_name,
            Keyword::ConnectTimeout => &mut self.connect_timeout,
            Keyword::Keepalives => &mut self.keepalives,
            Keyword::KeepalivesIdle => &mut self.keepalives_idle,
            Keyword::KeepalivesInterval => &mut self.keepalives_interval,
            Keyword::KeepalivesCount => &mut self.keepalives_count,
            Keyword::TcpUserTimeout => &mut self.tcp_user_timeout,
            Keyword::Options => &mut self.options,
            Keyword::ClientEncoding => &mut self.client_encoding,
            Keyword::MaxProtocolVersion => &mut self.max_protocol_version,
        };
        *slot = Some(value);
    }

    /// The configuration that the settings and the defaults amount to.
    ///
    /// # Errors
    ///
    /// [`PgError::Config`]: a value that its setting does not have, a demand for TLS, several
    /// hosts, or no user name to be found.
    pub(super) fn into_config(self) -> PgResult<PgConfig> {
        self.into_config_for(|variable| env::var_os(variable))
    }

    /// [`Settings::into_config`] for a program whose environment is `variable`.
    fn into_config_for(self, variable: impl Fn(&str) -> Option<OsString>) -> PgResult<PgConfig> {
        if let Some(mode) = &self.sslmode {
            check_sslmode(mode)?;
        }
        if let Some(encoding) = &self.client_encoding {
            check_client_encoding(encoding)?;
        }
        let hostaddr = given(self.hostaddr);
        let host = given(self.host)
            .or_else(|| hostaddr.clone())
            .unwrap_or_else(|| PgConfig::DEFAULT_HOST.to_owned());
        let port = given(self.port).map_or(Ok(PgConfig::DEFAULT_PORT), |port| parse_port(&port))?;
        let user = given(self.user).map_or_else(|| os_user_name(variable), Ok)?;
        let database = given(self.dbname).unwrap_or_else(|| user.clone());

        let mut config = PgConfig::new(&host, port, &user, "", &database);
        config.password = self.password.filter(|password| !password.as_str().is_empty());
        config.hostaddr = hostaddr;
        config.application_name = given(self.application_name);
        config.options = given(self.options);
        if let Some(seconds) = self.connect_timeout {
            config = config.connect_timeout(parse_seconds("connect_timeout", &seconds)?);
        }
        if let Some(number) = self.keepalives {
            config = config.keepalives(parse_whole("keepalives", &number, "number")? != 0);
        }
        if let Some(seconds) = self.keepalives_idle {
            config = config.keepalives_idle(parse_seconds("keepalives_idle", &seconds)?);
        }
        if let Some(seconds) = self.keepalives_interval {
            config = config.keepalives_interval(parse_seconds("keepalives_interval", &seconds)?);
        }
        if let Some(number) = self.keepalives_count {
            let count = parse_whole("keepalives_count", &number, "number")?;
            config = config.keepalives_count(u32::try_from(count).ok());
        }
        if let Some(number) = self.tcp_user_timeout {
            let timeout = parse_whole("tcp_user_timeout", &number, "number of milliseconds")?;
            let timeout = u64::try_from(timeout).ok().map(Duration::from_millis);
            config = config.tcp_user_timeout(timeout);
        }
        if let Some(version) = self.max_protocol_version {
            config.max_protocol_version = parse_protocol_version(&version)?;
        }
        config.validate()?;
        Ok(config)
    }
}

/// libpq takes an empty value for none, except where a number or a word of a list is asked for.
fn given(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

/// A build without TLS connects in plaintext where libpq would too if the server had no TLS, and
/// nowhere else.
fn check_sslmode(mode: &str) -> PgResult<()> {
    match mode {
        "disable" | "allow" | "prefer" => Ok(()),
        "require" | "verify-ca" | "verify-full" => Err(PgError::Config(format!(
            "sslmode={mode} demands TLS, and this build has no TLS; over a network that you trust, \
             sslmode=disable connects in plaintext"
        ))),
        _ => Err(PgError::Config(format!(
            "sslmode {mode:?} is none of disable, allow, prefer, require, verify-ca, verify-full"
        ))),
    }
}

/// The driver speaks UTF-8 only. Like the server, this ignores case and everything that is neither
/// letter nor digit.
fn check_client_encoding(encoding: &str) -> PgResult<()> {
    let is_alphanumeric = |c: &char| c.is_ascii_alphanumeric();
    let name: String = encoding.chars().filter(is_alphanumeric).collect();
    match name.to_ascii_lowercase().as_str() {
        "" | "auto" | "utf8" | "unicode" => Ok(()),
        _ => Err(PgError::Config(format!(
            "client_encoding {encoding:?} is not possible: text is always UTF8 here, whatever the \
             encoding of the database"
        ))),
    }
}

/// The text is not part of the error: what stands in place of a port may be the rest of a password
/// with a plain `/` in it.
fn parse_port(text: &str) -> PgResult<u16> {
    match text.trim_ascii().parse() {
        Ok(port) if port != 0 => Ok(port),
        _ if text.contains(',') => Err(PgError::Config(super::SEVERAL_HOSTS.to_owned())),
        _ => Err(PgError::Config(
            "the port is not a number from 1 to 65535 (in a URL, an IPv6 address stands in \
             brackets and a `/` in the password is written %2F)"
                .to_owned(),
        )),
    }
}

/// The value of `keyword`, a number as libpq takes it; `number` says of what, for the error.
fn parse_whole(keyword: &str, text: &str, number: &str) -> PgResult<i32> {
    text.trim_ascii()
        .parse()
        .map_err(|_| PgError::Config(format!("{keyword} {text:?} is not a whole {number}")))
}

/// Whole seconds; negative numbers are as good as zero, which means that there are none.
fn parse_seconds(keyword: &str, text: &str) -> PgResult<Option<Duration>> {
    let seconds = parse_whole(keyword, text, "number of seconds")?;
    Ok(u64::try_from(seconds).ok().map(Duration::from_secs))
}

fn parse_protocol_version(text: &str) -> PgResult<ProtocolVersion> {
    match text {
        "3.0" => Ok(ProtocolVersion::V3_0),
        "3.2" => Ok(ProtocolVersion::V3_2),
        "latest" => Ok(ProtocolVersion::LATEST),
        _ => Err(PgError::Config(format!(
            "max_protocol_version {text:?} is none of 3.0, 3.2, latest"
        ))),
    }
}

/// The user's name in the operating system, as a login leaves it in the environment. (libpq asks
/// the user database instead, which is the same for a user who has logged in.)
fn os_user_name(variable: impl Fn(&str) -> Option<OsString>) -> PgResult<String> {
    let names = ["USER", "LOGNAME"].into_iter().filter_map(variable);
    names.filter_map(|name| name.into_string().ok()).find(|name| !name.is_empty()).ok_or_else(
        || {
            PgError::Config(
                "no user name is given, and the environment variables USER and LOGNAME have none \
             either (in a URL: postgres://user@host/dbname)"
                    .to_owned(),
            )
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &[(&str, &str)], environment: &[(&str, &str)]) -> PgResult<PgConfig> {
        let mut parsed = Settings::default();
        for (name, value) in settings {
            parsed.set(Keyword::from_name(name, &format!("{name:?}"))?, (*value).to_owned());
        }
        parsed.into_config_for(|variable| {
            let found = environment.iter().find(|(name, _)| *name == variable);
            found.map(|(_, value)| value.into())
        })
    }

    fn error(settings: &[(&str, &str)]) -> String {
        config(settings, &[("USER", "ada")]).unwrap_err().to_string()
    }

    #[test]
    fn s9_6_user_and_database_default_to_the_os_user() {
        for environment in [
            &[("USER", "ada")][..],
            &[("LOGNAME", "ada")],
            &[("USER", ""), ("LOGNAME", "ada")],
            &[("USER", "ada"), ("LOGNAME", "bob")],
        ] {
            let config = config(&[], environment).unwrap();
            assert_eq!((config.user.as_str(), config.database.as_str()), ("ada", "ada"));
        }

        let nobody = config(&[("host", "db")], &[]).unwrap_err().to_string();
        assert!(nobody.contains("no user name is given"), "{nobody}");
        assert!(nobody.contains("USER and LOGNAME"), "{nobody}");
    }

    #[test]
    fn s9_6_the_database_defaults_to_the_user() {
        let config = config(&[("user", "bob")], &[("USER", "ada")]).unwrap();
        assert_eq!((config.user.as_str(), config.database.as_str()), ("bob", "bob"));
    }

    #[test]
    fn s9_6_empty_values_are_as_good_as_none() {
        let empty = [
            "host",
            "hostaddr",
            "port",
            "user",
            "password",
            "dbname",
            "application_name",
            "options",
        ];
        let settings = empty.map(|name| (name, ""));
        let none = config(&[], &[("USER", "ada")]).unwrap();
        assert_eq!(config(&settings, &[("USER", "ada")]).unwrap(), none);
    }

    #[test]
    fn s9_13_hostaddr_is_the_host_too_where_there_is_none() {
        let config = |settings| config(settings, &[("USER", "ada")]).unwrap();
        let both = config(&[("host", "db"), ("hostaddr", "10.0.0.7")]);
        assert_eq!((both.host.as_str(), both.get_hostaddr()), ("db", Some("10.0.0.7")));
        let alone = config(&[("hostaddr", "10.0.0.7")]);
        assert_eq!((alone.host.as_str(), alone.get_hostaddr()), ("10.0.0.7", Some("10.0.0.7")));
    }

    #[test]
    fn s9_6_the_last_value_wins_also_over_a_wrong_one() {
        let settings =
            [("port", "none"), ("sslmode", "require"), ("port", "5433"), ("sslmode", "disable")];
        assert_eq!(config(&settings, &[("USER", "ada")]).unwrap().port, 5433);
    }

    #[test]
    fn s9_6_known_unsupported_and_unknown_settings_differ() {
        for (name, _) in KEYWORDS {
            assert!(!NOT_SUPPORTED.contains(&name), "{name} is in both lists");
        }
        for name in NOT_SUPPORTED {
            assert_eq!(
                error(&[(name, "x")]),
                format!("invalid configuration: libpq's setting `{name}` is not supported yet")
            );
        }
        assert_eq!(
            error(&[("sslmod", "x")]),
            "invalid configuration: unknown setting \"sslmod\"; the known ones are host, \
             hostaddr, port, user, password, dbname, sslmode, application_name, connect_timeout, \
             keepalives, keepalives_idle, keepalives_interval, keepalives_count, \
             tcp_user_timeout, options, client_encoding, max_protocol_version"
        );
        // Our own settings are no keywords, so that they never collide with a later libpq.
        for name in ["io_timeout", "Host", "", "HOST", "host "] {
            assert!(error(&[(name, "5")]).contains("unknown setting"), "{name:?}");
        }
    }

    #[test]
    fn s9_6_plaintext_is_never_a_quiet_downgrade() {
        for mode in ["disable", "allow", "prefer"] {
            assert!(config(&[("sslmode", mode)], &[("USER", "ada")]).is_ok(), "{mode}");
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            let error = error(&[("sslmode", mode)]);
            assert!(error.contains(&format!("sslmode={mode} demands TLS")), "{error}");
            assert!(error.contains("this build has no TLS"), "{error}");
        }
        for mode in ["", "on", "Disable", "verify_full"] {
            let error = error(&[("sslmode", mode)]);
            assert!(error.contains(&format!("sslmode {mode:?} is none of")), "{error}");
        }
    }

    #[test]
    fn s9_6_ports_are_numbers_from_1_to_65535() {
        for (text, port) in [("1", 1), ("65535", 65535), (" 5433 ", 5433), ("+7", 7)] {
            assert_eq!(config(&[("port", text)], &[("USER", "ada")]).unwrap().port, port);
        }
        for text in ["0", "65536", "-1", "x", "54 33", "5432x", "99999999999999999999"] {
            let error = error(&[("port", text)]);
            assert!(error.contains("the port is not a number from 1 to 65535"), "{text}: {error}");
        }
    }

    #[test]
    fn b6_connect_timeout_is_in_seconds_and_zero_is_no_limit() {
        let limit = |text| {
            config(&[("connect_timeout", text)], &[("USER", "ada")]).unwrap().get_connect_timeout()
        };
        assert_eq!(limit("1"), Some(Duration::from_secs(1)));
        assert_eq!(limit(" 10 "), Some(Duration::from_secs(10)));
        assert_eq!(limit("0"), None);
        assert_eq!(limit("-1"), None);
        for text in ["", "1.5", "10s", "2147483648"] {
            let error = error(&[("connect_timeout", text)]);
            assert!(error.contains("is not a whole number of seconds"), "{text}: {error}");
        }
    }

    #[test]
    fn b6_h26_the_settings_of_tcp_are_whole_numbers_and_zero_or_less_is_the_systems() {
        let config = |name, text| config(&[(name, text)], &[("USER", "ada")]).unwrap();
        for (text, keepalives) in [("1", true), (" 2 ", true), ("-1", true), ("0", false)] {
            assert_eq!(config("keepalives", text).get_keepalives(), keepalives, "{text:?}");
        }
        for (text, value) in [(" 7 ", Some(7)), ("0", None), ("-7", None)] {
            let seconds = value.map(|value: u32| Duration::from_secs(value.into()));
            assert_eq!(config("keepalives_idle", text).get_keepalives_idle(), seconds);
            assert_eq!(config("keepalives_interval", text).get_keepalives_interval(), seconds);
            assert_eq!(config("keepalives_count", text).get_keepalives_count(), value);
            let milliseconds = value.map(|value| Duration::from_millis(value.into()));
            assert_eq!(config("tcp_user_timeout", text).get_tcp_user_timeout(), milliseconds);
        }
        for (name, what) in [
            ("keepalives", "number"),
            ("keepalives_idle", "number of seconds"),
            ("keepalives_interval", "number of seconds"),
            ("keepalives_count", "number"),
            ("tcp_user_timeout", "number of milliseconds"),
        ] {
            for text in ["", "on", "1.5", "10s", "2147483648"] {
                assert_eq!(
                    error(&[(name, text)]),
                    format!("invalid configuration: {name} {text:?} is not a whole {what}")
                );
            }
        }
    }

    #[test]
    fn b6_client_encoding_is_utf8_or_an_error() {
        for encoding in ["UTF8", "utf-8", "UTF_8", "Unicode", "auto", ""] {
            let settings = [("client_encoding", encoding)];
            assert!(config(&settings, &[("USER", "ada")]).is_ok(), "{encoding}");
        }
        for encoding in ["LATIN1", "SQL_ASCII", "utf16", "WIN1252"] {
            let error = error(&[("client_encoding", encoding)]);
            assert!(error.contains("text is always UTF8"), "{encoding}: {error}");
        }
    }

    #[test]
    fn b6_max_protocol_version_has_libpqs_values() {
        let version = |text| {
            let settings = [("max_protocol_version", text)];
            config(&settings, &[("USER", "ada")]).unwrap().get_max_protocol_version()
        };
        assert_eq!(version("3.0"), ProtocolVersion::V3_0);
        assert_eq!(version("3.2"), ProtocolVersion::V3_2);
        assert_eq!(version("latest"), ProtocolVersion::V3_2);
        for text in ["", "3.1", "3", "4.0", "3.20", "Latest"] {
            let error = error(&[("max_protocol_version", text)]);
            assert!(error.contains("is none of 3.0, 3.2, latest"), "{text}: {error}");
        }
    }
}
