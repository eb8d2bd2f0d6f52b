//! Connecting, what a connection knows about its session, and its non-blocking primitives.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use chopin_pg::{DEFAULT_IO_TIMEOUT, PgConfig, PgConnection, PgError, TransactionStatus};
use testkit::fake::{Answer, FakeServer};
use testkit::frames::{self, Column};

use crate::support::*;

/// Whether the descriptor is in non-blocking mode, as the system sees it.
fn is_nonblocking(connection: &PgConnection) -> bool {
    let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", connection.raw_fd()));
    let flags = flags.expect("the descriptor is open");
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
    i32::from_str_radix(flags.trim(), 8).expect("an octal number") & libc::O_NONBLOCK != 0
}

#[test]
fn s1_1_s1_10_the_socket_is_and_stays_non_blocking() {
    for config in [config(), unix_config()] {
        let mut db = PgConnection::connect(&config).unwrap();
        assert!(is_nonblocking(&db));
        db.set_nonblocking(true).unwrap();
        let error = db.set_nonblocking(false).unwrap_err();
        assert!(matches!(&error, PgError::Usage(why) if why.contains("poll(2)")), "{error}");
        assert!(is_nonblocking(&db));
        assert_usable(&mut db);
    }
}

#[test]
fn s1_2_s1_4_reading_without_and_with_waiting() {
    let mut db = connect();
    assert!(matches!(db.try_fill_read_buf(), Err(PgError::WouldBlock)));
    let error = db.poll_read(Duration::from_millis(5)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "timed out after 5 ms while waiting for bytes from the server (timeout = 5 ms)"
    );

    let channel = testkit::unique("channel");
    db.execute_batch(&format!("listen {channel}")).unwrap();
    connect().execute_batch(&format!("notify {channel}, 'hello'")).unwrap();
    assert!(db.poll_read(Duration::from_secs(20)).unwrap() > 0);
    let heard: Vec<_> = db.drain_notifications().collect();
    assert_eq!((heard[0].channel.as_str(), heard[0].payload.as_str()), (channel.as_str(), "hello"));
    assert_eq!(heard.len(), 1);
    assert_usable(&mut db);
}

#[test]
fn s1_3_s1_5_s1_6_s10_10_output_leaves_in_order_without_a_reader() {
    // The server reads nothing until it is told to: a request of 8 MiB does not fit into the
    // socket.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        let query = conn.expect(b'Q')?.as_query()?;
        assert!(query.bytes().all(|byte| byte == b' '), "the text arrived as it was sent");
        assert_eq!(query.len(), 8 << 20);
        conn.send_frames(&[frames::empty_query_response(), frames::ready_for_query(b'I')])?;
        conn.expect_query("select 'next'")?;
        conn.answer_query(&Answer::rows(&[Column::text("a")]).row(&[Some(b"next")]))?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    assert_eq!(db.try_write().unwrap(), 0, "nothing is queued");
    db.set_io_timeout(Duration::from_millis(50));
    let error = db.execute_batch(&" ".repeat(8 << 20)).unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    let error = db.poll_write(Duration::from_millis(5)).unwrap_err();
    assert!(error.to_string().contains("sending queued output"), "{error}");
    assert!(matches!(db.try_write(), Err(PgError::WouldBlock)));

    go.send(()).unwrap();
    db.poll_write(Duration::from_secs(20)).unwrap();
    db.set_io_timeout(Duration::from_secs(20));
    assert_eq!(db.query_simple("select 'next'").unwrap()[0].get::<&str>(0).unwrap(), "next");
    drop(db);
    server.join();
}

#[test]
fn s1_7_s1_8_s1_12_time_limits_are_settings() {
    assert_eq!(DEFAULT_IO_TIMEOUT, Duration::from_secs(5));
    let mut db = connect();
    assert_eq!(db.io_timeout(), DEFAULT_IO_TIMEOUT);
    db.set_io_timeout(Duration::from_secs(30));
    assert_eq!(db.io_timeout(), Duration::from_secs(30));

    let config = config().io_timeout(Duration::from_secs(7));
    let mut db = PgConnection::connect_with_timeout(&config, Duration::from_secs(20)).unwrap();
    assert_eq!(db.io_timeout(), Duration::from_secs(7));
    assert_usable(&mut db);

    let silent = FakeServer::start(|conn| {
        conn.startup()?;
        conn.drain()
    });
    let limit = Duration::from_millis(30);
    let error = PgConnection::connect_with_timeout(&fake_config(&silent), limit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "timed out after 30 ms while connecting (connect_timeout = 30 ms)"
    );
    silent.join();
}

#[test]
fn s1_9_the_descriptor_can_be_watched() {
    let db = connect();
    assert_eq!(db.raw_fd(), db.as_raw_fd());
    assert_eq!(db.as_fd().as_raw_fd(), db.raw_fd());
}

#[test]
fn s9_13_unix_sockets_by_folder_and_by_url() {
    let server = testkit::shared();
    let folder = server.socket_dir().to_str().unwrap();
    let encoded = folder.replace('/', "%2F");
    let (user, port) = (server.superuser(), server.port());
    for url in [
        format!("postgres://{user}@{encoded}:{port}/postgres"),
        format!("postgres://{user}@/postgres?host={encoded}&port={port}"),
        format!("postgres:///postgres?host={folder}&port={port}&user={user}"),
    ] {
        let mut db = PgConnection::connect(&PgConfig::from_url(&url).unwrap()).unwrap();
        let row = db.query_one("select inet_client_addr() is null as local", &[]).unwrap();
        assert!(row.get::<bool>("local").unwrap(), "{url}");
        assert!(!db.nodelay(), "a Unix-domain socket has no such delay");
    }
    let error = PgConnection::connect(&PgConfig::new("/nowhere", 1, "a", "", "b")).unwrap_err();
    assert!(error.to_string().contains("cannot connect to /nowhere/.s.PGSQL.1: "), "{error}");
}

#[test]
fn s9_25_s10_9_tcp_nodelay_is_set() {
    assert!(connect().nodelay());
}

#[test]
fn s9_8_parameters_follow_the_session() {
    let mut db = PgConnection::connect(&config().application_name("etude")).unwrap();
    let major = testkit::shared().version().to_string();
    assert!(db.server_param("server_version").unwrap().starts_with(&major));
    assert_eq!(db.server_param("client_encoding"), Some("UTF8"));
    assert_eq!(db.server_param("no_such"), None);
    db.execute_batch("set timezone to 'Europe/Warsaw'").unwrap();
    assert_eq!(db.server_param("TimeZone"), Some("Europe/Warsaw"));
    db.begin().unwrap();
    db.execute_batch("set local timezone to 'UTC'").unwrap();
    assert_eq!(db.server_param("TimeZone"), Some("UTC"));
    db.rollback().unwrap();
    assert_eq!(db.server_param("TimeZone"), Some("Europe/Warsaw"), "a rollback is reported too");
    let row = db.query_one("select current_setting('application_name')", &[]).unwrap();
    assert_eq!(row.get::<&str>(0).unwrap(), "etude");
}

#[test]
fn s9_8_another_client_encoding_breaks_the_connection() {
    let mut db = connect();
    let error = db.execute_batch("set client_encoding to 'LATIN1'").unwrap_err();
    assert!(error.to_string().contains("client_encoding was set to LATIN1"), "{error}");
    assert!(db.is_broken());
    let again = db.query("select 1", &[]).unwrap_err();
    assert!(
        matches!(&again, PgError::NotSent(_)) && again.to_string().contains("LATIN1"),
        "{again}"
    );
}

#[test]
fn transaction_status_and_process_id_are_the_servers() {
    let mut db = connect();
    let pid: i32 = db.query_one("select pg_backend_pid()", &[]).unwrap().get(0).unwrap();
    assert_eq!(db.process_id(), pid);
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    db.begin().unwrap();
    assert_eq!(db.transaction_status(), TransactionStatus::InTransaction);
    db.query("select 1 / 0", &[]).unwrap_err();
    assert_eq!(db.transaction_status(), TransactionStatus::Failed);
    db.rollback().unwrap();
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    // Whoever changes it: the status is the server's, nothing is counted here.
    db.query_simple("begin; select 1").unwrap();
    assert_eq!(db.transaction_status(), TransactionStatus::InTransaction);
    db.commit().unwrap();
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
}

#[test]
fn commit_of_a_failed_transaction_is_an_error() {
    let mut db = connect();
    db.begin().unwrap();
    db.query("select 1 / 0", &[]).unwrap_err();
    assert!(matches!(db.commit(), Err(PgError::RolledBack)));
    assert_usable(&mut db);
}

#[test]
fn s9_10_is_alive_sees_what_has_arrived() {
    let mut db = connect();
    assert!(db.is_alive());
    let mut other = connect();
    other.query("select pg_terminate_backend($1)", &[&db.process_id()]).unwrap();
    db.poll_read(Duration::from_secs(20)).unwrap_err();
    assert!(!db.is_alive());
    assert!(db.is_broken());
}

#[test]
fn reset_brings_the_session_back() {
    let mut db = connect();
    let zone = db.server_param("TimeZone").unwrap().to_owned();
    db.execute_batch("create temp table t (a int4); set timezone to 'Asia/Tokyo'").unwrap();
    db.begin().unwrap();
    db.query("select 1 / 0", &[]).unwrap_err();
    db.reset().unwrap();
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert_eq!(db.server_param("TimeZone"), Some(zone.as_str()));
    assert!(db.query("select * from t", &[]).is_err());
    assert_usable(&mut db);
}

#[test]
fn reset_after_a_timeout_sees_the_transaction_that_was_begun_meanwhile() {
    let mut db = connect();
    db.set_io_timeout(Duration::from_millis(50));
    let error = db.execute_batch("begin; select pg_sleep(0.3)").unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    assert_eq!(db.transaction_status(), TransactionStatus::Idle, "as far as is known");
    db.set_io_timeout(Duration::from_secs(20));
    db.reset().unwrap();
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert_usable(&mut db);
}

#[test]
fn notices_reach_the_handler_or_are_kept() {
    use std::{cell::RefCell, rc::Rc};

    let mut db = connect();
    let raise = "do $$ begin raise notice 'tempo %', 'rubato' using hint = 'freely'; end $$";
    db.execute(raise, &[]).unwrap();
    let kept: Vec<_> = db.drain_notices().collect();
    assert_eq!(
        (kept[0].message.as_str(), kept[0].hint.as_deref()),
        ("tempo rubato", Some("freely"))
    );
    assert_eq!(kept.len(), 1);

    let heard = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&heard);
    db.set_notice_handler(move |notice| sink.borrow_mut().push(notice.message.clone()));
    db.execute(raise, &[]).unwrap();
    assert_eq!(*heard.borrow(), ["tempo rubato"]);
    assert_eq!(db.drain_notices().count(), 0);
    db.clear_notice_handler();
    db.execute_batch("do $$ begin for i in 1..5000 loop raise notice '%', i; end loop; end $$")
        .unwrap();
    assert_eq!(db.dropped_messages(), 5000 - 4096, "the loss is counted");
    assert_eq!(db.drain_notices().next().unwrap().message, (5000 - 4096 + 1).to_string());
    assert_usable(&mut db);
}

#[test]
fn protocol_3_2_is_negotiated_down_by_older_servers() {
    use chopin_pg::config::ProtocolVersion;
    let config = config().max_protocol_version(ProtocolVersion::V3_2);
    let mut db = PgConnection::connect(&config).unwrap();
    assert_usable(&mut db);

    let modern = FakeServer::start(|conn| {
        let startup = conn.startup()?;
        assert_eq!(startup.version, (3, 2));
        conn.send_frames(&[
            frames::negotiate_protocol_version(3 << 16, &[]),
            frames::authentication_ok(),
            frames::backend_key_data(7, &[9; 256]),
            frames::ready_for_query(b'I'),
        ])?;
        conn.drain()
    });
    let config = fake_config(&modern).max_protocol_version(ProtocolVersion::V3_2);
    assert_eq!(PgConnection::connect(&config).unwrap().process_id(), 7);
    modern.join();

    // Somebody who speaks something else.
    let other = FakeServer::start(|conn| {
        conn.first_packet()?;
        conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
        conn.drain()
    });
    let error = PgConnection::connect(&fake_config(&other)).unwrap_err().to_string();
    assert!(error.contains("is this a PostgreSQL server?, during login at 127.0.0.1:"), "{error}");
    other.join();

    // A version that was not asked for is refused.
    let eager = FakeServer::start(|conn| {
        conn.startup()?;
        conn.send(&frames::negotiate_protocol_version((3 << 16) | 9, &[]))?;
        conn.drain()
    });
    let error = PgConnection::connect(&fake_config(&eager)).unwrap_err();
    assert!(error.to_string().contains("NegotiateProtocolVersion"), "{error}");
    eager.join();
}
