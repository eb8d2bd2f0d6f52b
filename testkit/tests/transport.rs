//! The relay between real sockets.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use testkit::fake::{Answer, FakeServer};
use testkit::frames::{self, Column};
use testkit::raw::RawClient;
use testkit::transport::{Cut, Ending, Policy, Relay, Target};

const GREETING: &[u8] = b"hello from the server";

/// Says its greeting and then listens.
fn greeter() -> FakeServer {
    FakeServer::start(|conn| {
        conn.send(GREETING)?;
        conn.drain()
    })
}

fn connect(relay: &Relay) -> TcpStream {
    TcpStream::connect(("127.0.0.1", relay.port())).unwrap()
}

#[test]
fn a_session_survives_every_way_of_cutting() {
    let policies = [
        Policy::default(),
        Policy::one_byte(),
        Policy::cut(Cut::Every(3)).pause(Duration::from_micros(1)),
        Policy::cut(Cut::Random { seed: 1, most: 9 }),
    ];
    for policy in policies {
        let server = FakeServer::start(|conn| {
            conn.login()?;
            conn.expect_query("SELECT 'long enough to be cut'")?;
            conn.answer_query(&Answer::rows(&[Column::text("t")]).row(&[Some(b"long enough")]))?;
            conn.expect_eof()
        });
        let relay = Relay::start(Target::port(server.port()), policy);
        let target = Target::socket(relay.socket_dir(), relay.port());
        let mut client = RawClient::connect(&target, "me", "app", None).unwrap();
        let value = client.value("SELECT 'long enough to be cut'").unwrap();
        assert_eq!(value.as_deref(), Some("long enough"));
        drop(client);
        server.join();
    }
}

#[test]
fn h25_a_server_dies_after_any_byte() {
    let greeting_len = u64::try_from(GREETING.len()).unwrap();
    for bytes in 0..=greeting_len {
        let server = greeter();
        let policy = Policy::default().stop_after(bytes, Ending::Close);
        let relay = Relay::start(Target::port(server.port()), policy);
        let mut heard = Vec::new();
        connect(&relay).read_to_end(&mut heard).unwrap();
        assert_eq!(heard, &GREETING[..usize::try_from(bytes).unwrap()]);
        assert_eq!(relay.bytes_from_server(), bytes);
        server.join();
    }
}

#[test]
fn a_reset_comes_after_exactly_the_bytes() {
    for bytes in [0, 5] {
        let server = greeter();
        let policy = Policy::default().stop_after(bytes, Ending::Reset);
        let relay = Relay::start(Target::port(server.port()), policy);
        let mut heard = Vec::new();
        let error = connect(&relay).read_to_end(&mut heard).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(heard, &GREETING[..heard.len()]);
        assert_eq!(relay.bytes_from_server(), bytes);
        server.join();
    }
}

#[test]
fn to_stop_after_no_byte_takes_no_word_from_the_server() {
    let server = FakeServer::start(|conn| conn.expect_eof());
    let policy = Policy::default().stop_after(0, Ending::Close);
    let relay = Relay::start(Target::port(server.port()), policy);
    assert_eq!(connect(&relay).read(&mut [0; 1]).unwrap(), 0);
    server.join();
}

#[test]
fn a_unix_client_sees_the_end_of_file_instead_of_a_reset() {
    let server = greeter();
    let policy = Policy::default().stop_after(5, Ending::Reset);
    let relay = Relay::start(Target::port(server.port()), policy);
    let path = relay.socket_dir().join(format!(".s.PGSQL.{}", relay.port()));
    let mut heard = Vec::new();
    UnixStream::connect(path).unwrap().read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"hello");
    server.join();
}

#[test]
fn a_hang_leaves_the_connection_open_and_silent() {
    for bytes in [0, 5] {
        let server = FakeServer::start(|conn| {
            conn.send(GREETING)?;
            conn.expect_query("are you there?")?;
            conn.send(b"of course")
        });
        let policy = Policy::default().stop_after(bytes, Ending::Hang);
        let relay = Relay::start(Target::port(server.port()), policy);
        let mut client = connect(&relay);
        let mut heard = vec![0; usize::try_from(bytes).unwrap()];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(heard, &GREETING[..heard.len()]);
        client.write_all(&frames::message(b'Q', b"are you there?\0")).unwrap();
        server.join();
        // The server has heard us, answered, and hung up; none of it comes through.
        client.set_nonblocking(true).unwrap();
        let error = client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
fn silence_falls_on_the_connections_that_there_are() {
    let server = FakeServer::start(|conn| {
        conn.send(GREETING)?;
        // What is said before the silence arrives, what is said in it does not.
        let heard = conn.index() == 1;
        conn.expect_query("hello")?;
        conn.send(b"!")?;
        if heard {
            conn.expect_query("are you there?")?;
            conn.send(b"!")?;
        }
        conn.expect_eof()
    });
    let relay = Relay::start(Target::port(server.port()), Policy::default());
    let greeted = || {
        let mut client = connect(&relay);
        client.read_exact(&mut [0; GREETING.len()]).unwrap();
        client.write_all(&frames::message(b'Q', b"hello\0")).unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
        client
    };
    let mut silent = greeted();
    relay.silence();
    let mut later = greeted();
    for client in [&mut silent, &mut later] {
        client.write_all(&frames::message(b'Q', b"are you there?\0")).unwrap();
    }
    later.read_exact(&mut [0; 1]).unwrap();
    silent.set_nonblocking(true).unwrap();
    let error = silent.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    drop((silent, later));
    server.join();
}

#[test]
fn dropping_the_relay_ends_its_connections() {
    let server = greeter();
    let relay = Relay::start(Target::port(server.port()), Policy::default());
    let mut client = connect(&relay);
    client.read_exact(&mut [0; GREETING.len()]).unwrap();
    drop(relay);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    server.join();
}

#[test]
fn a_server_that_is_not_there_is_the_end_of_file() {
    let nowhere = Target::socket("/nonexistent", 1);
    let relay = Relay::start(nowhere, Policy::default());
    assert_eq!(connect(&relay).read(&mut [0; 1]).unwrap(), 0);
}

#[test]
#[should_panic(expected = "a piece has at least one byte")]
fn an_empty_piece_is_the_tests_mistake() {
    let _never = Policy::cut(Cut::Random { seed: 0, most: 0 });
}
