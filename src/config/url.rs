//! Connection URLs: `postgres://user:password@host:port/dbname?keyword=value&...`
//!
//! The grammar is libpq's own, which is laxer than RFC 3986: the user name and password reach to
//! the first `@` if that comes before the first `/`, the password may hold `:` and `?`, the
//! database name may hold `/`. Every piece is percent-decoded after it was cut out.
//!
//! No error shows the URL or a piece that may hold the password, also when the URL was cut in the
//! wrong place because a character in the password is not escaped.
//!
//! Source: PostgreSQL documentation, libpq, "Connection URIs".

use super::percent::decode;
use super::settings::{Keyword, Settings};
use crate::error::{PgError, PgResult};

/// Cuts a connection URL into its settings. Their values are not checked yet.
///
/// # Errors
///
/// [`PgError::Config`]: it is no connection URL, a piece cannot be decoded, a keyword is unknown or
/// not supported, or there are several hosts.
pub(super) fn parse(url: &str) -> PgResult<Settings> {
    let mut settings = Settings::default();
    let rest =
        url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")).ok_or_else(
            || error("the connection URL does not begin with postgres:// or postgresql://"),
        )?;
    let rest = parse_userinfo(rest, &mut settings)?;
    let rest = parse_host_and_port(rest, &mut settings)?;

    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if let Some(dbname) = path.strip_prefix('/') {
        set_unless_empty(&mut settings, Keyword::Dbname, dbname, "the database name")?;
    }
    parse_query(query, &mut settings)?;
    Ok(settings)
}

/// Takes `user:password@` off the front, and returns the rest.
fn parse_userinfo<'a>(text: &'a str, settings: &mut Settings) -> PgResult<&'a str> {
    let (userinfo, rest) = split_before(text, &['@', '/']);
    let Some(rest) = rest.strip_prefix('@') else {
        return Ok(text);
    };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    set_unless_empty(settings, Keyword::User, user, "the user name")?;
    set_unless_empty(settings, Keyword::Password, password, "the password")?;
    Ok(rest)
}

/// Takes `host:port` or `[IPv6 address]:port` off the front; the rest is empty or begins with `/`
/// or `?`.
fn parse_host_and_port<'a>(text: &'a str, settings: &mut Settings) -> PgResult<&'a str> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']').ok_or_else(|| {
                error("an IPv6 address in the connection URL has no closing bracket `]`")
            })?;
            if host.is_empty() {
                return Err(error("the brackets in the connection URL have no IPv6 address"));
            }
            if !(rest.is_empty() || rest.starts_with([':', '/', '?', ','])) {
                return Err(error(
                    "behind the `]` of an IPv6 address, the connection URL goes on neither with \
                     `:` and a port nor with `/` or `?`",
                ));
            }
            (host, rest)
        }
        None => split_before(text, &[':', '/', '?', ',']),
    };
    // At the front it is an abstract socket. Elsewhere it is most likely a password's second half.
    if host.strip_prefix('@').unwrap_or(host).contains('@') {
        return Err(error(
            "the host in the connection URL has an `@` (in a user name or password, `@` is \
             written %40)",
        ));
    }
    let (port, rest) = match rest.strip_prefix(':') {
        Some(rest) => split_before(rest, &['/', '?', ',']),
        None => ("", rest),
    };
    if rest.starts_with(',') {
        return Err(error(super::SEVERAL_HOSTS));
    }
    set_unless_empty(settings, Keyword::Host, host, "the host")?;
    set_unless_empty(settings, Keyword::Port, port, "the port")?;
    Ok(rest)
}

/// Stores every `keyword=value`.
fn parse_query(query: &str, settings: &mut Settings) -> PgResult<()> {
    let mut rest = query;
    let mut number = 0_usize;
    let mut follows_password = false;
    while !rest.is_empty() {
        let (parameter, tail) = rest.split_once('&').unwrap_or((rest, ""));
        rest = tail;
        number += 1;
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(error(&format!(
                "parameter {number} of the connection URL has no `=` (in a value, `&` is written \
                 %26)"
            )));
        };
        if value.contains('=') {
            return Err(error(&format!(
                "parameter {number} of the connection URL has more than one `=` (in a value, `=` \
                 is written %3D)"
            )));
        }
        // What libpq takes over from JDBC.
        let (name, value) = match (name, value) {
            ("ssl", "true") => ("sslmode", "require"),
            other => other,
        };
        let name = decode(name, &format!("the name of parameter {number}"))?;
        let shown = match follows_password {
            // It may be the rest of a password with a plain `&` in it.
            true => format!("in parameter {number}, behind the password (in it, `&` is %26)"),
            false => format!("{name:?}"),
        };
        let keyword = Keyword::from_name(&name, &shown)?;
        let value = decode(value, &format!("the value of `{name}`"))?;
        follows_password = keyword == Keyword::Password;
        settings.set(keyword, value);
    }
    Ok(())
}

/// Stores a piece, decoded, if there is one.
fn set_unless_empty(
    settings: &mut Settings,
    keyword: Keyword,
    piece: &str,
    part: &str,
) -> PgResult<()> {
    if !piece.is_empty() {
        settings.set(keyword, decode(piece, part)?);
    }
    Ok(())
}

/// What stands before the first of the `delimiters`, and the rest with it.
fn split_before<'a>(text: &'a str, delimiters: &[char]) -> (&'a str, &'a str) {
    text.split_at(text.find(delimiters).unwrap_or(text.len()))
}

fn error(what: &str) -> PgError {
    PgError::Config(what.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::PgConfig;
    use super::super::percent::encode;
    use super::*;

    fn config(url: &str) -> PgConfig {
        PgConfig::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn error_of(url: &str) -> String {
        PgConfig::from_url(url).expect_err(url).to_string()
    }

    #[test]
    fn s9_6_every_piece_of_a_url_is_taken() {
        let full = config(
            "postgresql://ada:s3cret@db.example.com:5433/shop?application_name=till&\
             connect_timeout=7&options=-c%20geqo%3Doff&sslmode=prefer&client_encoding=utf8&\
             max_protocol_version=3.2",
        );
        let expected = PgConfig::new("db.example.com", 5433, "ada", "s3cret", "shop")
            .application_name("till")
            .connect_timeout(Some(std::time::Duration::from_secs(7)))
            .options("-c geqo=off")
            .max_protocol_version(super::super::ProtocolVersion::V3_2);
        assert_eq!(full, expected);
    }

    #[test]
    fn s9_6_urls_that_libpq_takes() {
        let local = PgConfig::new("localhost", 5432, "ada", "", "ada");
        for (url, expected) in [
            ("postgres://ada@", local.clone()),
            ("postgres://ada:@", local.clone()),
            ("postgres://ada@:", local.clone()),
            ("postgres://ada@/", local.clone()),
            ("postgres://ada@/?", local.clone()),
            ("postgres://ada@?", local.clone()),
            ("postgres://?user=ada", local.clone()),
            ("postgres:///?user=ada&", local.clone()),
            ("postgres://ada@host", local.clone().host("host")),
            ("postgres://ada@host:", local.clone().host("host")),
            ("postgres://ada@host:9/", local.clone().host("host").port(9)),
            ("postgres://ada@:9", local.clone().port(9)),
            ("postgres://ada@host/db", local.clone().host("host").database("db")),
            ("postgres://ada@host?port=9", local.clone().host("host").port(9)),
            ("postgres://ada:a:b?c@host", local.clone().host("host").password("a:b?c")),
            ("postgres://:pw@host?user=ada", local.clone().host("host").password("pw")),
            ("postgres://ada@host/a/b@c", local.clone().host("host").database("a/b@c")),
            ("postgres://ada@host/db#1", local.clone().host("host").database("db#1")),
            ("postgres://host/db?user=ada", local.clone().host("host").database("db")),
            ("postgres://ada@ host ", local.clone().host("host")),
        ] {
            assert_eq!(config(url), expected, "{url}");
        }
    }

    #[test]
    fn s9_6_parameters_replace_what_stands_in_front_and_the_last_one_wins() {
        let config = config(
            "postgres://a:a@a:1/a?user=b&password=b&host=b&port=2&dbname=b&user=c&password=c&\
             host=c&port=3&dbname=c",
        );
        assert_eq!(config, PgConfig::new("c", 3, "c", "c", "c"));
    }

    #[test]
    fn s9_6_ipv6_literals_stand_in_brackets() {
        for (url, host, port) in [
            ("postgres://ada@[::1]", "::1", 5432),
            ("postgres://ada@[::1]:5433/db", "::1", 5433),
            ("postgres://ada@[2001:db8::7]?port=9", "2001:db8::7", 9),
            ("postgres://ada@[fe80::1%25eth0]:9/", "fe80::1%eth0", 9),
        ] {
            let config = config(url);
            assert_eq!((config.host.as_str(), config.port), (host, port), "{url}");
            assert_eq!(config.target(), format!("[{host}]:{port}"));
        }
        for (url, what) in [
            ("postgres://ada@[::1", "no closing bracket"),
            ("postgres://ada@[]/db", "have no IPv6 address"),
            ("postgres://ada@[::1]5432/db", "behind the `]`"),
            ("postgres://ada@::1/db", "an IPv6 address stands in brackets"),
            ("postgres://ada@[fe80::1%eth0]/", "the host in the connection URL has a `%`"),
        ] {
            assert!(error_of(url).contains(what), "{url}: {}", error_of(url));
        }
    }

    #[test]
    fn s9_13_hostaddr_in_urls() {
        for (url, host, address) in [
            ("postgres://ada@db/?hostaddr=10.0.0.7", "db", "10.0.0.7"),
            ("postgres://ada@db/?hostaddr=::1", "db", "::1"),
            ("postgres://ada@db/?hostaddr=fe80::1%25eth0", "db", "fe80::1%eth0"),
            ("postgres://ada@/?hostaddr=10.0.0.7", "10.0.0.7", "10.0.0.7"),
        ] {
            let config = config(url);
            assert_eq!(
                (config.host.as_str(), config.get_hostaddr()),
                (host, Some(address)),
                "{url}"
            );
        }
    }

    #[test]
    fn s9_13_unix_sockets_in_urls() {
        for (url, directory, target) in [
            ("postgres://ada@%2Ftmp%2Fs/db", "/tmp/s", "/tmp/s/.s.PGSQL.5432"),
            ("postgres://ada@%2Ftmp%2Fs:9/db", "/tmp/s", "/tmp/s/.s.PGSQL.9"),
            ("postgres://ada@/db?host=/tmp/s", "/tmp/s", "/tmp/s/.s.PGSQL.5432"),
            ("postgres:///db?host=/tmp/s&user=ada&port=9", "/tmp/s", "/tmp/s/.s.PGSQL.9"),
            ("postgres://ada@x:9/db?host=%2Ftmp%2fs", "/tmp/s", "/tmp/s/.s.PGSQL.9"),
            ("postgres://ada@%40chopin/db", "@chopin", "@chopin/.s.PGSQL.5432"),
            ("postgres://ada@@chopin/db", "@chopin", "@chopin/.s.PGSQL.5432"),
            ("postgres://ada@/db?host=/tmp/k%C3%BC", "/tmp/kü", "/tmp/kü/.s.PGSQL.5432"),
        ] {
            let config = config(url);
            assert_eq!(config.socket_dir(), Some(directory.as_ref()), "{url}");
            assert_eq!(config.target(), target, "{url}");
            assert_eq!(config.database, "db", "{url}");
        }
    }

    #[test]
    fn s9_6_errors_say_what_is_wrong_and_where() {
        for (url, what) in [
            ("", "does not begin with postgres:// or postgresql://"),
            ("mysql://ada@host/db", "does not begin with postgres:// or postgresql://"),
            ("POSTGRES://ada@host/db", "does not begin with postgres:// or postgresql://"),
            ("host=localhost user=ada", "does not begin with postgres:// or postgresql://"),
            ("postgres://ada@a,b/db", "several hosts"),
            ("postgres://ada@a:1,b:2/db", "several hosts"),
            ("postgres://ada@[::1],[::2]/db", "several hosts"),
            ("postgres://ada@a%2Cb/db", "several hosts"),
            ("postgres://ada@/db?host=a,b", "several hosts"),
            ("postgres://ada@a/db?port=1,2", "several hosts"),
            ("postgres://ada@a/db?hostaddr=10.0.0.1,10.0.0.2", "several hosts"),
            ("postgres://ada@a/db?hostaddr=b", "hostaddr \"b\" is no IP address"),
            ("postgres://ada@host:none/db", "the port is not a number from 1 to 65535"),
            ("postgres://ada@host:0/db", "the port is not a number from 1 to 65535"),
            ("postgres://ada@host/db?sslmod=disable", "unknown setting \"sslmod\""),
            ("postgres://ada@host/db?io_timeout=5", "unknown setting \"io_timeout\""),
            ("postgres://ada@host/db?sslrootcert=x", "libpq's setting `sslrootcert` is not supp"),
            ("postgres://ada@host/db?sslmode=require", "this build has no TLS"),
            ("postgres://ada@host/db?ssl=true", "this build has no TLS"),
            ("postgres://ada@host/db?ssl=false", "unknown setting \"ssl\""),
            ("postgres://ada@host/db?port", "parameter 1 of the connection URL has no `=`"),
            ("postgres://ada@host/db?port=1&&port=2", "parameter 2 of the connection URL has no"),
            ("postgres://ada@host/db?options=-ca=b", "parameter 1 of the connection URL has more"),
            ("postgres://ada@host/db?password=x&y=z", "unknown setting in parameter 2, behind the"),
            ("postgres://ada@host/db?password=x&sslkey=y", "`sslkey` is not supported yet"),
            ("postgres://ada@host/db?=x", "unknown setting \"\""),
        ] {
            assert!(error_of(url).contains(what), "{url}: {}", error_of(url));
        }
    }

    #[test]
    fn h40_errors_name_the_piece_that_cannot_be_decoded() {
        for (url, part) in [
            ("postgres://%C3@host/db", "the user name in"),
            ("postgres://ada:%C3@host/db", "the password in"),
            ("postgres://ada@%C3/db", "the host in"),
            ("postgres://ada@host:%C3/db", "the port in"),
            ("postgres://ada@host/%C3", "the database name in"),
            ("postgres://ada@host/db?%C3=x", "the name of parameter 1 in"),
            ("postgres://ada@host/db?port=1&options=%C3", "the value of `options` in"),
        ] {
            for (flaw, what) in [
                ("%C3", "is not UTF-8"),
                ("%zz", "has a `%` without two hex digits"),
                ("a%00", "has a zero byte"),
                ("a\0", "has a zero byte"),
                ("a b", "has a plain blank"),
            ] {
                let error = error_of(&url.replace("%C3", flaw));
                assert!(error.contains(part) && error.contains(what), "{url} {flaw}: {error}");
            }
        }
    }

    #[test]
    fn h40_non_ascii_users_passwords_and_databases() {
        let expected = PgConfig::new("host", 5432, "zoë", "pässwörd🐘", "müller");
        for url in [
            "postgres://zo%C3%AB:p%C3%A4ssw%c3%b6rd%F0%9F%90%98@host/m%C3%BCller",
            "postgres://zoë:pässwörd🐘@host/müller",
            "postgres://host?user=zo%C3%AB&password=pässw%C3%B6rd%F0%9F%90%98&dbname=m%C3%BCller",
        ] {
            assert_eq!(config(url), expected, "{url}");
        }
    }

    #[test]
    fn h37_no_error_shows_a_piece_of_the_password() {
        for url in [
            "postgres://ada:hunter2%zz@host/db",
            "postgres://ada:hunter2%00@host/db",
            "postgres://ada:hunter2%FF@host/db",
            "postgres://ada:hunter2 @host/d b",
            // Cut in the wrong place, because a character of the password is not escaped.
            "postgres://ada:hunter2/x@host/db",
            "postgres://ada:x/hunter2@host/db",
            "postgres://ada:x@hunter2@host/db",
            "postgres://ada:x@ähunter2@host/db",
            "postgres://ada:x@@hunter2@host/db",
            "postgres://ada:hunter2,x/@host/db",
            "postgres://ada:[hunter2/@host/db",
            "postgres://ada@host/db?password=x&hunter2",
            "postgres://ada@host/db?password=x&hunter2=y",
            "postgres://ada@host/db?password=x&y=hunter2",
            "postgres://ada@host/db?password=x=hunter2",
            "postgres://ada@host/db?password=hunter2%",
            "postgres://ada@host/db?password=hunter2&port=x",
            "postgres://ada@host/db?sslpassword=hunter2",
            "postgres:/ada:hunter2@host/db",
            "host=db password=hunter2",
        ] {
            let error = PgConfig::from_url(url).expect_err(url);
            for text in [error.to_string(), format!("{error:#}"), format!("{error:?}")] {
                assert!(!text.contains("hunter2"), "{url}: {text}");
            }
        }
    }

    /// Text that mostly looks like a URL, so that the parser gets past its first line.
    fn url_like() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("ada".to_owned()),
            Just("?host=".to_owned()),
            Just("&port=".to_owned()),
            Just("[::1]".to_owned()),
            "[:/?#@&=,%\\[\\]]",
            "%[0-9a-f]{2}",
            "\\PC{0,3}",
        ];
        prop::collection::vec(piece, 0..12)
            .prop_map(|pieces| format!("postgres://{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn s9_6_any_text_is_a_config_or_an_error(url in prop_oneof![".*", url_like()]) {
            match PgConfig::from_url(&url) {
                Ok(config) => prop_assert!(config.validate().is_ok()),
                Err(error) => prop_assert!(matches!(error, PgError::Config(_)), "{error:?}"),
            }
        }

        #[test]
        fn h40_an_encoded_url_gives_back_what_went_in(
            host in "[^\0,]+",
            port in 1_u16..,
            user in "[^\0]+",
            password in "[^\0]*",
            database in "[^\0]+",
            options in "[^\0]*",
        ) {
            let expected =
                PgConfig::new(&host, port, &user, &password, &database).options(&options);
            let [host, user, password, database, options] =
                [host, user, password, database, options].map(|text| encode(&text));
            let url = format!(
                "postgres://{user}:{password}@{host}:{port}/{database}?options={options}"
            );
            prop_assert_eq!(config(&url), expected.clone());
            let url = format!(
                "postgresql://?options={options}&user={user}&password={password}&dbname={database}\
                 &port={port}&host={host}"
            );
            prop_assert_eq!(config(&url), expected);
        }
    }
}
