//! Which addresses a connect goes to, and how it comes to know them.

use std::io;

use crate::config::PgConfig;
use crate::error::{PgError, PgResult};
use crate::net::{self, Address, TcpOptions};

impl PgConfig {
    /// Looks the host up, once: every later connect with this configuration and its clones goes to
    /// the addresses that were found, in their order, without asking the system's resolver.
    ///
    /// For programs in which a connect must not wait: one with an event loop calls this at its
    /// start. The lookup itself may wait, as long as the resolver does, for it can be neither
    /// interrupted nor bounded.
    ///
    /// Does nothing where there is nothing to look up: with a numeric address as host, with
    /// [`hostaddr`](Self::hostaddr), and with a Unix-domain socket. Called again it looks up again;
    /// until then a change of the name's addresses goes unnoticed. A [`host`](field@Self::host)
    /// that is set later is looked up by its connects.
    ///
    /// ```
    /// use chopin_pg::PgConfig;
    ///
    /// # fn main() -> chopin_pg::PgResult<()> {
    /// let mut config = PgConfig::new("localhost", 5432, "ada", "s3cret", "shop");
    /// config.resolve()?;
    /// // From here on no connect waits for a name.
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`PgError::Config`] when the configuration cannot be used; [`PgError::Io`] when the name has
    /// no address or the resolver fails, which names the host. Addresses that were found before stay
    /// in use.
    pub fn resolve(&mut self) -> PgResult<()> {
        self.validate()?;
        let Some(name) = self.name_to_resolve() else { return Ok(()) };
        let found = net::look_up(name, self.port).map_err(|error| {
            let text = format!("cannot look up the host {name:?}: {error}");
            PgError::Io(io::Error::new(error.kind(), text))
        })?;
        self.set_resolved_addresses(found);
        Ok(())
    }
}

/// The addresses to try one after the other. Asks the system's resolver if the host is a name that
/// was not [resolved](PgConfig::resolve) before.
pub(super) fn addresses(config: &PgConfig) -> io::Result<Vec<Address>> {
    if let Some(path) = config.socket_path() {
        return Ok(vec![Address::Unix(path)]);
    }
    let options = tcp_options(config);
    let tcp = |address| Address::Tcp(address, options);
    if let (None, Some(found)) = (config.get_hostaddr(), config.resolved_addresses()) {
        return Ok(found.map(tcp).collect());
    }
    let host = config.get_hostaddr().unwrap_or(&config.host);
    Ok(net::look_up(host, config.port)?.into_iter().map(tcp).collect())
}

/// What the configuration says of TCP.
fn tcp_options(config: &PgConfig) -> TcpOptions {
    TcpOptions {
        keepalives: config.get_keepalives(),
        keepalives_idle: config.get_keepalives_idle(),
        keepalives_interval: config.get_keepalives_interval(),
        keepalives_count: config.get_keepalives_count(),
        user_timeout: config.get_tcp_user_timeout(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that nobody may ever register (RFC 6761): asking the resolver for it fails.
    const UNKNOWN: &str = "no.such.host.invalid";

    fn config(host: &str) -> PgConfig {
        PgConfig::new(host, 5432, "ada", "", "shop")
    }

    fn addresses_of(config: &PgConfig) -> Vec<String> {
        let addresses = addresses(config).expect("nobody is asked");
        addresses
            .iter()
            .map(|address| match address {
                Address::Tcp(address, _) => address.to_string(),
                Address::Unix(path) => path.display().to_string(),
            })
            .collect()
    }

    #[test]
    fn s9_13_the_resolver_is_not_asked_where_the_address_is_known() {
        assert!(addresses(&config(UNKNOWN)).is_err());
        let mut resolved = config(UNKNOWN);
        let found = ["[2001:db8::7]:0", "10.0.0.7:0"].map(|found| found.parse().expect("numbers"));
        resolved.set_resolved_addresses(found.to_vec());
        for (config, expected) in [
            (resolved.clone(), vec!["[2001:db8::7]:5432", "10.0.0.7:5432"]),
            (resolved.clone().port(9), vec!["[2001:db8::7]:9", "10.0.0.7:9"]),
            (resolved.clone().hostaddr("10.0.0.8"), vec!["10.0.0.8:5432"]),
            (resolved.clone().host("10.0.0.9"), vec!["10.0.0.9:5432"]),
            (resolved.clone().host("/tmp"), vec!["/tmp/.s.PGSQL.5432"]),
            (config(UNKNOWN).hostaddr("::1"), vec!["[::1]:5432"]),
            (config("/tmp").hostaddr("127.0.0.1"), vec!["127.0.0.1:5432"]),
        ] {
            assert_eq!(addresses_of(&config), expected, "{config:?}");
        }
        // What was found for one name says nothing about another one.
        assert!(addresses(&resolved.host("neither.is.this.invalid")).is_err());
    }

    #[test]
    fn s9_13_resolve_does_nothing_where_there_is_nothing_to_look_up() {
        for known in [
            config("127.0.0.1"),
            config("::1"),
            config("/run/postgresql"),
            config("@chopin"),
            config(UNKNOWN).hostaddr("127.0.0.1"),
        ] {
            let mut config = known.clone();
            config.resolve().expect("nobody is asked");
            assert_eq!(config, known);
        }
    }

    #[test]
    fn s9_13_a_lookup_that_fails_leaves_what_was_found_before() {
        let mut config = config(UNKNOWN);
        config.set_resolved_addresses(vec!["10.0.0.7:0".parse().expect("numbers")]);
        assert!(config.resolve().is_err());
        assert_eq!(addresses_of(&config), ["10.0.0.7:5432"]);
    }
}
