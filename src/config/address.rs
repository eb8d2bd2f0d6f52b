//! The server's address in numbers, for connects that are not to ask the system's resolver.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::PgConfig;

/// What a host name was found to stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// The name: addresses of another host are of no use after the host was changed.
    host: String,
    /// In the order in which they are to be tried; their port means nothing.
    addresses: Vec<SocketAddr>,
}

impl PgConfig {
    /// The host name that a connect has to look up; `None` where it knows an address, or did so
    /// before anything was [resolved](PgConfig::resolve).
    pub(crate) fn name_to_resolve(&self) -> Option<&str> {
        let is_name = self.hostaddr.is_none() && !self.is_unix() && !is_numeric(&self.host);
        is_name.then_some(self.host.as_str())
    }

    /// The addresses that the host was found to have, with the port.
    pub(crate) fn resolved_addresses(&self) -> Option<impl Iterator<Item = SocketAddr> + '_> {
        let resolved = self.resolved.as_ref().filter(|resolved| resolved.host == self.host)?;
        Some(resolved.addresses.iter().map(|address| {
            let mut address = *address;
            address.set_port(self.port);
            address
        }))
    }

    /// Remembers the addresses that the host was found to have.
    pub(crate) fn set_resolved_addresses(&mut self, addresses: Vec<SocketAddr>) {
        self.resolved = Some(Resolved { host: self.host.clone(), addresses });
    }
}

/// Whether `text` is an IP address, for IPv6 perhaps with a zone (RFC 4007): there is nothing to
/// look up.
pub(super) fn is_numeric(text: &str) -> bool {
    let has_zone =
        |(address, zone): (&str, &str)| address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty();
    text.parse::<IpAddr>().is_ok() || text.split_once('%').is_some_and(has_zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(host: &str) -> PgConfig {
        PgConfig::new(host, 5432, "ada", "", "shop")
    }

    #[test]
    fn s9_13_addresses_in_numbers_are_told_from_names() {
        for address in ["127.0.0.1", "::1", "2001:db8::7", "fe80::1%eth0", "::ffff:10.0.0.1"] {
            assert!(is_numeric(address), "{address}");
            assert_eq!(config(address).name_to_resolve(), None, "{address}");
        }
        for name in ["localhost", "1.2.3", "10.0.0.256", "db%eth0", "10.0.0.1%eth0", "fe80::1%", ""]
        {
            assert!(!is_numeric(name), "{name}");
            assert_eq!(config(name).name_to_resolve(), Some(name));
        }
        for socket in ["/run/postgresql", "@chopin"] {
            assert_eq!(config(socket).name_to_resolve(), None, "{socket}");
        }
        assert_eq!(config("db").hostaddr("10.0.0.7").name_to_resolve(), None);
    }

    #[test]
    fn s9_13_resolved_addresses_are_those_of_this_host_at_any_port() {
        let mut config = config("db");
        config.set_resolved_addresses(vec![
            "10.0.0.7:0".parse().unwrap(),
            "[fe80::1%3]:0".parse().unwrap(),
        ]);
        let addresses = |config: &PgConfig| -> Option<Vec<String>> {
            Some(config.resolved_addresses()?.map(|address| address.to_string()).collect())
        };
        let expected = ["10.0.0.7:5432", "[fe80::1%3]:5432"].map(str::to_owned);
        assert_eq!(addresses(&config).unwrap(), expected);
        let other_port = addresses(&config.clone().port(9)).unwrap();
        assert_eq!(other_port, ["10.0.0.7:9", "[fe80::1%3]:9"]);

        assert_eq!(addresses(&config.clone().host("other")), None);
        config.host = "other".to_owned();
        assert_eq!(addresses(&config), None);
        assert_eq!(addresses(&config.host("db")).unwrap(), expected);
    }
}
