//! The programs in examples/ that use a pool, run as their users run them.

mod http;
mod threads;

use chopin_pg::{PgConfig, PgConnection};

/// A database of a test's own.
struct Database {
    url: String,
}

impl Database {
    fn new(prefix: &str) -> Self {
        let server = testkit::shared();
        let name = testkit::unique(prefix);
        server.create_database(&name).expect("a new database");
        Self { url: server.url(server.superuser(), None, &name) }
    }

    fn connect(&self) -> PgConnection {
        let config = PgConfig::from_url(&self.url).expect("a URL");
        PgConnection::connect(&config).expect("a connection")
    }
}
