//! Connections for tests, and a transport for engines that have none.

use chopin_pg::engine::Engine;
use chopin_pg::{PgConfig, PgConnection};
use testkit::fake::FakeServer;

/// The configuration of the shared server, over TCP.
pub(crate) fn config() -> PgConfig {
    let server = testkit::shared();
    PgConfig::new(server.host(), server.port(), server.superuser(), "", "postgres")
}

/// The configuration of the shared server, over its Unix-domain socket.
pub(crate) fn unix_config() -> PgConfig {
    let server = testkit::shared();
    let folder = server.socket_dir().to_str().expect("a socket folder that is UTF-8");
    PgConfig::new(folder, server.port(), server.superuser(), "", "postgres")
}

/// A new connection to the shared server.
pub(crate) fn connect() -> PgConnection {
    PgConnection::connect(&config()).expect("the shared server takes connections")
}

/// The configuration of a scripted server.
pub(crate) fn fake_config(server: &FakeServer) -> PgConfig {
    PgConfig::new("127.0.0.1", server.port(), "frederic", "secret", "music")
}

/// The next query on the connection gets its own, right answer.
#[track_caller]
pub(crate) fn assert_usable(connection: &mut PgConnection) {
    let row = connection.query_one("select $1::int4 + 1 as answer", &[&41]);
    let answer: i32 = row.and_then(|row| row.get("answer")).expect("the connection is usable");
    assert_eq!(answer, 42);
    assert!(!connection.is_broken());
}

/// Hands bytes to an engine as a transport does.
pub(crate) fn feed(engine: &mut Engine, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let space = engine.recv_space();
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        engine.received(count);
        bytes = &bytes[count..];
    }
}

/// Everything that is pending goes out; returns it.
pub(crate) fn send_all(engine: &mut Engine) -> Vec<u8> {
    let bytes = engine.send_pending().to_vec();
    engine.sent(bytes.len());
    bytes
}
