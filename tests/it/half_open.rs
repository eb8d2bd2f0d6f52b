//! Peers that vanish without a word: what the system is told to do about them, and what a request
//! to one comes to.

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use chopin_pg::{Deadline, Delivery, Event, PgConfig, PgConnection, PgError, Request, Ticket};
use rustix::net::sockopt;
use testkit::fake::FakeServer;
use testkit::transport::{Policy, Relay};

use crate::support::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);

/// The configuration of the shared server, through a relay.
fn through(relay: &Relay) -> PgConfig {
    config().host("127.0.0.1").port(relay.port())
}

/// What the kernel has of the settings of TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    keepalives: bool,
    idle: Duration,
    interval: Duration,
    count: u32,
    #[cfg(target_os = "linux")]
    user_timeout: u32,
}

impl Options {
    fn of(socket: impl AsFd) -> Self {
        Self {
            keepalives: sockopt::socket_keepalive(&socket).unwrap(),
            idle: sockopt::tcp_keepidle(&socket).unwrap(),
            interval: sockopt::tcp_keepintvl(&socket).unwrap(),
            count: sockopt::tcp_keepcnt(&socket).unwrap(),
            #[cfg(target_os = "linux")]
            user_timeout: sockopt::tcp_user_timeout(&socket).unwrap(),
        }
    }

    /// Those of a socket that nobody has set anything on.
    fn of_the_system() -> Self {
        let server = testkit::shared();
        Self::of(std::net::TcpStream::connect((server.host(), server.port())).unwrap())
    }
}

/// A configuration with all settings, and what the kernel makes of it.
fn all_set() -> (PgConfig, Options) {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let config = config()
        .keepalives_idle(seconds(61))
        .keepalives_interval(Some(Duration::from_millis(7_001)))
        .keepalives_count(Some(4))
        .tcp_user_timeout(Some(Duration::from_micros(9_500)));
    let options = Options {
        keepalives: true,
        idle: Duration::from_secs(61),
        interval: Duration::from_secs(8),
        count: 4,
        #[cfg(target_os = "linux")]
        user_timeout: 10,
    };
    (config, options)
}

#[test]
fn h26_b6_the_kernel_has_the_settings() {
    let system = Options::of_the_system();
    let (config, options) = all_set();
    assert!(!system.keepalives && system != options);

    let default = PgConnection::connect(&crate::support::config()).unwrap();
    assert_eq!(Options::of(&default), Options { keepalives: true, ..system.clone() });
    let mut set = PgConnection::connect(&config).unwrap();
    assert_eq!(Options::of(&set), options);
    assert_usable(&mut set);

    // Without keepalives nothing says when they would come.
    let off = PgConnection::connect(&config.keepalives(false)).unwrap();
    let expected = Options {
        #[cfg(target_os = "linux")]
        user_timeout: 10,
        ..system
    };
    assert_eq!(Options::of(&off), expected);
}

#[test]
fn h26_b6_a_url_sets_them() {
    let server = testkit::shared();
    let (user, host, port) = (server.superuser(), server.host(), server.port());
    let url = format!(
        "postgres://{user}@{host}:{port}/postgres?keepalives_idle=61&keepalives_interval=8\
         &keepalives_count=4&tcp_user_timeout=10&keepalives=1"
    );
    let connection = PgConnection::connect(&PgConfig::from_url(&url).unwrap()).unwrap();
    assert_eq!(Options::of(&connection), all_set().1);
}

#[test]
fn h26_cancels_have_them_too() {
    let (config, options) = all_set();
    let connection = PgConnection::connect(&config).unwrap();
    let cancelling = connection.cancel_token().start_cancel().unwrap();
    let (socket, _) = cancelling.sources().next().expect("it is under way");
    assert_eq!(Options::of(socket), options);
}

#[test]
fn h26_b6_a_unix_socket_ignores_them() {
    let (all, _) = all_set();
    let config = all.host(unix_config().host);
    assert_usable(&mut PgConnection::connect(&config).unwrap());
    // Even one that no system takes.
    let config = config.keepalives_idle(Some(Duration::MAX));
    assert_usable(&mut PgConnection::connect(&config).unwrap());
}

#[test]
fn h26_b6_a_value_that_the_system_does_not_take_is_an_error_that_names_the_setting() {
    let error = PgConnection::connect(&config().keepalives_count(Some(u32::MAX))).unwrap_err();
    assert!(matches!(error, PgError::Io(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("cannot connect to"), "{text}");
    assert!(text.contains("keepalives_count = 2147483647: Invalid argument"), "{text}");
}

/// Nothing comes back any more: a request ends at its deadline, and the connection is given up when
/// the late answer has not come in time either.
fn h26_a_request_to_a_silent_peer_ends_at_its_deadline(face: Face) {
    let relay = Relay::start(testkit::shared().tcp(), Policy::default());
    let limits = through(&relay).drain_timeout(SHORT);
    let mut connection = PgConnection::connect(&limits).unwrap();
    assert_usable(&mut connection);
    connection.set_io_timeout(SHORT);
    relay.silence();

    let error = match face {
        Face::Blocking => connection.query("select 1", &[]).unwrap_err(),
        Face::NonBlocking => {
            let submit = COLLECT.deadline(Deadline::after(Instant::now(), "io_timeout", SHORT));
            let request = Request::Query { sql: "select 1", params: &() };
            submit_and_take(&mut connection, request, submit).unwrap_err()
        }
    };
    assert_eq!(
        error.to_string(),
        "timed out after 50 ms while waiting for the answer to a query (io_timeout = 50 ms)"
    );
    assert!(!error.is_safe_to_retry(), "it may have arrived");

    connection.set_io_timeout(LONG);
    let error = match face {
        Face::Blocking => connection.query("select 2", &[]).unwrap_err(),
        Face::NonBlocking => {
            let request = Request::Query { sql: "select 2", params: &() };
            let ticket = connection.submit(request, Delivery::Collect).unwrap();
            connection.flush();
            let mut told = None;
            let end = run_events(&mut connection, 1, |event| match event {
                Event::Failed { ticket: failed, error } if failed == ticket => told = Some(error),
                other => panic!("{other:?}"),
            });
            assert!(matches!(end, Err(PgError::Timeout(_))), "what broke the connection: {end:?}");
            told.unwrap()
        }
    };
    assert!(matches!(error, PgError::NotSent(_)), "{error}");
    assert!(error.to_string().contains("drain_timeout = 50 ms"), "{error}");
    assert!(connection.is_broken());

    // It was the way that was lost, not the server.
    let mut next = PgConnection::connect(&limits).unwrap();
    let rows = face.query(&mut next, "select 3", ()).unwrap();
    assert_eq!(printed(&rows), "3");
}

on_both_faces!(h26_a_request_to_a_silent_peer_ends_at_its_deadline);

#[test]
fn h26_all_requests_in_flight_to_a_silent_peer_fail_once_each() {
    let relay = Relay::start(testkit::shared().tcp(), Policy::default());
    let limits = through(&relay).io_timeout(10 * SHORT).drain_timeout(SHORT);
    let mut connection = PgConnection::connect(&limits).unwrap();
    assert_usable(&mut connection);
    relay.silence();

    let submit = |number: i32| {
        let request = Request::Query { sql: "select $1::int4", params: &(number,) };
        connection.submit(request, Delivery::Collect).unwrap()
    };
    let tickets: Vec<Ticket> = (0..5).map(submit).collect();
    connection.flush();
    let mut failed = Vec::new();
    run_events(&mut connection, tickets.len(), |event| match event {
        Event::Failed { ticket, error: PgError::Timeout(_) } => failed.push(ticket),
        other => panic!("{other:?}"),
    })
    .unwrap();
    assert_eq!(failed, tickets);
    while connection.is_alive() {}
    assert!(connection.is_broken(), "given up after drain_timeout");
}

/// The server takes nothing any more, and does not say so.
#[test]
#[cfg(target_os = "linux")]
fn h26_b6_tcp_user_timeout_ends_a_connection_whose_bytes_nobody_takes() {
    let (over, is_over) = channel::<()>();
    let is_over = Mutex::new(is_over);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        // The sender is dropped when the client has seen the end.
        let _dropped = is_over.lock().unwrap().recv();
        Ok(())
    });
    let limits = fake_config(&server).io_timeout(LONG).tcp_user_timeout(Some(2 * SHORT));
    let mut connection = PgConnection::connect(&limits).unwrap();
    // More than the buffers of both ends have room for.
    let large = vec![0_u8; 64 << 20];
    let error = connection.query("select length($1)", &[&large]).unwrap_err();
    assert!(
        matches!(&error, PgError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut),
        "{error}"
    );
    assert!(connection.is_broken());
    drop(over);
    server.join();
}
