//! Connecting without waiting: every phase has its sources and its deadline, and every failure its
//! own words.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Instant;

use chopin_pg::{Drive, Interest, SqlState};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use testkit::fake::FakeServer;
use testkit::fake::scram::{ScramServer, Verdict};

use super::*;

const READ: Interest = Interest { read: true, write: false };
const WRITE: Interest = Interest { read: false, write: true };

/// What is to be watched at which descriptor; the ways to ask for it agree.
#[track_caller]
fn interest(connection: &PgConnection) -> Option<Interest> {
    let mut sources = connection.sources();
    let (fd, interest) = sources.next()?;
    assert!(sources.next().is_none());
    assert_eq!(fd.as_raw_fd(), connection.as_raw_fd());
    assert_eq!(connection.as_fd().as_raw_fd(), connection.as_raw_fd());
    assert_eq!(connection.raw_fd(), connection.as_raw_fd());
    Some(interest)
}

/// The error of a connect that fails, as its user sees it, wherever it shows.
fn failure(config: &PgConfig) -> PgError {
    match Single::start(config) {
        Ok(single) => {
            let (told, error) = single.until_broken();
            assert_eq!(told, [""; 0]);
            error
        }
        Err(error) => error,
    }
}

#[test]
fn b23_each_phase_of_a_connect_says_what_it_waits_for() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        let step = || wait.lock().unwrap().recv().map_err(|error| error.to_string());
        conn.startup()?;
        step()?;
        assert_eq!(ScramServer::new("secret").authenticate(conn)?, Verdict::Accepted);
        step()?;
        conn.welcome()?;
        step()?;
        conn.send(&frames::parameter_status("TimeZone", "Asia/Tokyo"))?;
        conn.drain()
    });
    let config = fake_config(&server).connect_timeout(Some(LONG));
    let before = Instant::now();
    let mut single = Single::start(&config).unwrap();
    // TCP: to be writable says that it is connected.
    assert_eq!(interest(single.db()), Some(WRITE));
    let deadline = single.db().deadline().expect("a connect ends at some time");
    assert!(before + LONG <= deadline && deadline <= Instant::now() + LONG);
    while interest(single.db()) == Some(WRITE) {
        single.turn().unwrap();
    }
    // Login: the server's turn. One deadline is for all of it.
    assert_eq!(interest(single.db()), Some(READ));
    assert_eq!(single.db().deadline(), Some(deadline));
    assert!(single.db().next_event().unwrap().is_none());
    go.send(()).unwrap();
    single.wait();
    single.turn().unwrap();
    assert_eq!(interest(single.db()), Some(READ));
    assert_eq!(single.db().deadline(), Some(deadline));
    assert_eq!(single.told, [""; 0]);
    // Ready, once.
    go.send(()).unwrap();
    let told = single.until("ready");
    assert!(told.iter().any(|told| told == "parameter server_encoding = UTF8"), "{told:?}");
    assert_eq!(interest(single.db()), Some(READ));
    assert_eq!(single.db().deadline(), None);
    assert_eq!(single.db().drive(), Drive::Idle);
    go.send(()).unwrap();
    assert_eq!(single.until("parameter TimeZone = Asia/Tokyo").len(), 1);
    drop(single);
    server.join();
}

#[test]
fn b23_a_unix_socket_is_connected_at_once() {
    let mut single = Single::start(&unix_config()).unwrap();
    assert_eq!(interest(single.db()), Some(Interest { read: true, write: true }), "to log in");
    let told = single.until("ready");
    assert_eq!(told.iter().filter(|told| *told == "ready").count(), 1);
    assert_eq!(interest(single.db()), Some(READ));
    assert_usable(single.db());
}

#[test]
fn b23_wait_ready_ends_what_start_connect_began() {
    let mut db = PgConnection::start_connect(&config()).unwrap();
    db.wait_ready().unwrap();
    assert!(db.next_event().unwrap().is_none(), "who has waited for it is not told again");
    assert_usable(&mut db);
    let server = FakeServer::start(|conn| conn.drain());
    let config = fake_config(&server).connect_timeout(Some(SHORT));
    let error = PgConnection::start_connect(&config).unwrap().wait_ready().unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    server.join();
}

#[test]
fn b23_waiting_for_bytes_goes_on_with_a_connect() {
    for config in [config(), unix_config()] {
        let mut db = PgConnection::start_connect(&config.connect_timeout(Some(LONG))).unwrap();
        let mut received = 0;
        while matches!(
            db.submit(Request::Simple { sql: "select 'first'" }, Delivery::Collect),
            Err(PgError::WouldBlock)
        ) {
            received += db.poll_read(LONG).unwrap();
        }
        assert!(received > 0);
        db.poll_write(LONG).unwrap();
        assert_usable(&mut db);
    }
}

#[test]
fn b23_waiting_until_all_is_sent_goes_on_with_a_connect() {
    let server = FakeServer::start(|conn| {
        conn.startup()?;
        conn.send(&frames::authentication_ok())?;
        conn.welcome()?;
        conn.drain()
    });
    let config = fake_config(&server).connect_timeout(Some(LONG));
    let mut db = PgConnection::start_connect(&config).unwrap();
    db.poll_write(LONG).unwrap();
    assert!(db.engine().send_pending().is_empty(), "the startup packet has left");
    db.wait_ready().unwrap();
    drop(db);
    server.join();
}

#[test]
fn b23_what_moves_bytes_without_waiting_may_be_called_during_a_connect() {
    let mut db = PgConnection::start_connect(&config().connect_timeout(Some(LONG))).unwrap();
    // The socket is not ours to read or write yet.
    assert!(matches!(db.try_fill_read_buf(), Err(PgError::WouldBlock)));
    assert!(matches!(db.try_write(), Err(PgError::WouldBlock)));
    db.flush();
    db.wait_ready().unwrap();
    assert_usable(&mut db);
}

#[test]
fn b23_waiting_during_a_connect_ends_as_the_connect_does() {
    let listener = TcpListener::from(bound());
    let refused = PgConfig::new("127.0.0.1", listener.local_addr().unwrap().port(), "f", "", "m");
    let (queue, full) = full_listener();
    let silent = FakeServer::start(|conn| conn.drain());
    let configs = [
        (&refused, "cannot connect to 127.0.0.1"),
        (&full, "while connecting to the server's address (connect_timeout = 50 ms)"),
        (&fake_config(&silent), "while connecting (connect_timeout = 50 ms)"),
    ];
    for (config, expected) in configs {
        let config = config.clone().connect_timeout(Some(SHORT));
        // On the loopback a refusal may be told at once.
        let told = PgConnection::start_connect(&config).and_then(|mut db| {
            let error = db.poll_read(LONG).unwrap_err();
            assert!(db.is_broken());
            assert_eq!(db.sources().count(), usize::from(interest(&db).is_some()));
            assert_eq!(interest(&db).unwrap_or_default(), Interest::default(), "nothing more");
            assert_eq!(db.poll_write(LONG).unwrap_err().to_string(), error.to_string());
            Err::<(), _>(error)
        });
        let error = told.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // Its own time limit ends the waiting and nothing else.
    let config = full.connect_timeout(Some(LONG));
    let mut db = PgConnection::start_connect(&config).unwrap();
    for _ in 0..2 {
        let error = db.poll_read(SHORT).unwrap_err().to_string();
        assert!(error.contains("waiting for bytes from the server (timeout = 50 ms)"), "{error}");
        assert!(!db.is_broken());
    }
    drop((db, queue));
    silent.join();
}

/// An address that takes no more connections, and what fills it.
fn full_listener() -> ((TcpListener, Vec<TcpStream>), PgConfig) {
    // A listener with room for one, which nobody accepts: no further handshake gets through.
    let listener = bound();
    listen(&listener, 0).unwrap();
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, 4 * SHORT) {
        queue.push(stream);
    }
    let config = PgConfig::new("127.0.0.1", address.port(), "frederic", "", "music");
    ((listener, queue), config)
}

#[test]
fn b23_a_refused_port_and_a_missing_socket_are_named() {
    // Bound, so that nobody else gets the port, and nobody listens.
    let refusing = TcpListener::from(bound());
    let port = refusing.local_addr().unwrap().port();
    let error = failure(&PgConfig::new("127.0.0.1", port, "frederic", "", "music"));
    assert!(
        matches!(&error, PgError::Io(why) if why.kind() == std::io::ErrorKind::ConnectionRefused)
    );
    let expected = format!("cannot connect to 127.0.0.1:{port}: ");
    assert!(error.to_string().contains(&expected), "{error}");

    let error = failure(&PgConfig::new("/no/such/folder", 1, "frederic", "", "music"));
    assert!(matches!(&error, PgError::Io(why) if why.kind() == std::io::ErrorKind::NotFound));
    let expected = "cannot connect to /no/such/folder/.s.PGSQL.1: ";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn b23_of_several_addresses_the_one_that_listens_is_found() {
    // Where `localhost` is ::1 too, that one comes first and refuses.
    let server = FakeServer::start(echo);
    let config = PgConfig::new("localhost", server.port(), "frederic", "secret", "music");
    let mut single = Single::connect(&config);
    let _ticket = single.simple("select 'found'");
    assert!(single.until_ended(1).contains(&"row select 'found'".to_owned()));
    drop(single);
    server.join();
}

#[test]
fn b23_a_wrong_password_is_the_server_s_error() {
    let server = FakeServer::start(|conn| {
        conn.startup()?;
        assert_eq!(ScramServer::new("another").authenticate(conn)?, Verdict::Refused);
        Ok(())
    });
    let (told, error) = Single::start(&fake_config(&server)).unwrap().until_broken();
    assert_eq!(told, [""; 0]);
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_PASSWORD), "{error}");
    server.join();
}

#[test]
fn b23_h19_a_silent_server_runs_into_the_deadline_in_each_phase() {
    type Script = fn(&mut FakeConn) -> testkit::fake::FakeResult;
    let scripts: [Script; 3] = [
        |conn| conn.drain(),
        |conn| {
            conn.startup()?;
            conn.send(&frames::authentication_cleartext_password())?;
            conn.drain()
        },
        |conn| {
            conn.startup()?;
            conn.send(&frames::authentication_ok())?;
            conn.drain()
        },
    ];
    for script in scripts {
        let server = FakeServer::start(script);
        let config = fake_config(&server).connect_timeout(Some(SHORT));
        assert_eq!(
            failure(&config).to_string(),
            "timed out after 50 ms while connecting (connect_timeout = 50 ms)"
        );
        server.join();
    }
}

#[test]
fn b23_h19_an_address_that_does_not_answer_runs_into_the_deadline() {
    let (_queue, config) = full_listener();
    let mut single = Single::start(&config.connect_timeout(Some(SHORT))).unwrap();
    assert_eq!(interest(single.db()), Some(WRITE));
    let (_, error) = single.until_broken();
    assert_eq!(
        error.to_string(),
        "timed out after 50 ms while connecting to the server's address (connect_timeout = 50 ms)"
    );
}

#[test]
fn b23_a_unix_socket_whose_queue_is_full_is_tried_again() {
    let folder = new_folder();
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(folder.join(".s.PGSQL.1")).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let listener = UnixListener::from(listener);
    let config = PgConfig::new(folder.to_str().unwrap(), 1, "frederic", "", "music");
    let config = config.connect_timeout(Some(LONG));
    let mut queued = Vec::new();
    let mut single = loop {
        let mut single = Single::start(&config).unwrap();
        if interest(single.db()).is_none() {
            break single;
        }
        queued.push(single);
    };
    // There is nothing to watch, so it is the deadline that brings the next attempt.
    single.turn().unwrap();
    let retry = single.db().deadline().expect("a time to try again");
    assert!(retry < Instant::now() + LONG / 2, "not the end of the connect");
    for _ in 0..3 {
        single.wait();
        single.turn().unwrap();
        assert_eq!(interest(single.db()), None);
    }
    for _ in &queued {
        listener.accept().unwrap();
    }
    while interest(single.db()).is_none() {
        single.wait();
        single.turn().unwrap();
    }
    let (mut server, _) = listener.accept().unwrap();
    single.turn().unwrap();
    let login = [frames::authentication_ok(), frames::ready_for_query(b'I')].concat();
    std::io::Write::write_all(&mut server, &login).unwrap();
    single.until("ready");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// A TCP socket with a port of its own, which does not listen.
fn bound() -> OwnedFd {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port");
    socket
}

/// A new folder for a socket.
fn new_folder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(testkit::unique("queue"));
    std::fs::create_dir(&folder).unwrap();
    folder
}
