//! Ends of connections: what is told, that it is told once and for good, and that nothing waits.

use std::time::Duration;

use chopin_pg::{ErrorClass, PgConnection, PgError, SqlState};
use testkit::fake::{FakeServer, script};
use testkit::frames::{self, Column};
use testkit::transport::{Cut, Ending, Policy, Relay};
use testkit::{Cluster, Shutdown};

use crate::support::*;

/// A FATAL error.
fn fatal(code: &str, message: &str) -> Vec<u8> {
    frames::error_response(&[(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', message)])
}

#[test]
fn h24_a_terminated_session_delivers_the_server_s_words() {
    // While a query runs.
    let mut db = connect();
    let pid = db.process_id();
    let killer = std::thread::spawn(move || {
        let mut other = connect();
        let running = "select count(*) from pg_stat_activity \
             where pid = $1 and wait_event = 'PgSleep'";
        while other.query_one(running, &[&pid]).unwrap().get::<i64>(0).unwrap() == 0 {}
        other.query("select pg_terminate_backend($1)", &[&pid]).unwrap();
    });
    db.set_io_timeout(Duration::from_secs(30));
    let error = db.query("select pg_sleep(60)", &[]).unwrap_err();
    killer.join().unwrap();
    assert_eq!(error.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "{error}");
    assert!(db.is_broken());
    let again = db.query("select 1", &[]).unwrap_err();
    assert!(matches!(again, PgError::NotSent(_)), "{again}");
    assert_eq!(again.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "the reason is repeated");

    // While nobody looks.
    let mut db = connect();
    connect().query("select pg_terminate_backend($1)", &[&db.process_id()]).unwrap();
    let ended = db.poll_read(Duration::from_secs(20)).unwrap_err();
    assert_eq!(ended.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "{ended}");
    assert!(db.is_broken());
}

#[test]
fn h24_fatal_and_hang_up_in_one_packet_at_login() {
    for (code, state, retry) in [
        ("57P03", SqlState::CANNOT_CONNECT_NOW, true),
        ("53300", SqlState::TOO_MANY_CONNECTIONS, true),
        ("57P01", SqlState::ADMIN_SHUTDOWN, false),
        ("28000", SqlState::INVALID_AUTHORIZATION_SPECIFICATION, false),
    ] {
        let server = FakeServer::start(move |conn| {
            conn.startup()?;
            conn.send(&fatal(code, "not now"))?;
            conn.hang_up()
        });
        let error = PgConnection::connect(&fake_config(&server)).unwrap_err();
        assert_eq!(error.sql_state(), Some(state));
        assert_eq!(error.to_string(), format!("FATAL: {code}: not now"));
        assert_eq!(error.is_safe_to_retry(), retry, "{code}");
        server.join();
    }
    // The server has said it before it read anything, and has reset the connection since.
    let server = FakeServer::start(|conn| {
        conn.send(&fatal("53300", "too many clients already"))?;
        conn.hang_up()
    });
    let error = PgConnection::connect(&fake_config(&server)).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::TOO_MANY_CONNECTIONS), "{error}");
    server.join();
}

#[test]
fn h24_a_real_server_that_is_full_or_shuts_down() {
    let server = Cluster::builder()
        .guc("max_connections", "4")
        .guc("superuser_reserved_connections", "0")
        .start()
        .unwrap();
    let config =
        chopin_pg::PgConfig::new(server.host(), server.port(), server.superuser(), "", "postgres");
    let mut open = Vec::new();
    let full = loop {
        match PgConnection::connect(&config) {
            Ok(db) => open.push(db),
            Err(error) => break error,
        }
    };
    assert_eq!(full.sql_state(), Some(SqlState::TOO_MANY_CONNECTIONS), "{full}");
    assert!(full.is_safe_to_retry());
    server.stop(Shutdown::Fast).unwrap();
    for mut db in open {
        let error = db.query("select 1", &[]).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "{error}");
        assert!(db.is_broken());
    }
}

#[test]
fn s8_9_s9_22_s9_24_s10_1_s10_16_h25_a_hang_up_at_every_byte_breaks_for_good() {
    let shared = testkit::shared();
    let config = |relay: &Relay| {
        chopin_pg::PgConfig::new("127.0.0.1", relay.port(), shared.superuser(), "", "postgres")
    };
    let exchange = |db: &mut PgConnection| -> Result<(), PgError> {
        let row = db.query_one("select 'abc' as t, 7::int8 as n", &[])?;
        assert_eq!(row.to::<(&str, i64)>()?, ("abc", 7));
        let error = db.query_simple("select 1; select 1 / 0").unwrap_err();
        assert!(
            error.as_server().is_some_and(|server| server.code == SqlState::DIVISION_BY_ZERO)
                || db.is_broken()
        );
        db.query_one("select 8", &[]).map(drop)
    };
    let whole = Relay::start(shared.tcp(), Policy::default());
    exchange(&mut PgConnection::connect(&config(&whole)).unwrap()).unwrap();
    let all = whole.bytes_from_server();
    for stop in 0..all {
        let ending = if stop % 2 == 0 { Ending::Close } else { Ending::Reset };
        let relay = Relay::start(shared.tcp(), Policy::default().stop_after(stop, ending));
        let mut db = match PgConnection::connect(&config(&relay)) {
            Ok(db) => db,
            Err(error) => {
                assert!(
                    matches!(error, PgError::Io(_) | PgError::ConnectionClosed(_)),
                    "{stop}: {error}"
                );
                continue;
            }
        };
        let error = exchange(&mut db).expect_err("the connection ends");
        let error = match error {
            PgError::NotSent(error) => *error,
            error => error,
        };
        assert!(matches!(error, PgError::Io(_) | PgError::ConnectionClosed(_)), "{stop}: {error}");
        assert!(db.is_broken());
        let again = db.execute("select 1", &[]).unwrap_err();
        assert!(matches!(again, PgError::NotSent(_)), "{stop}: {again}");
        assert!(!db.is_alive());
    }
}

#[test]
fn bytes_in_any_pieces_mean_the_same() {
    let shared = testkit::shared();
    for cut in [Cut::Every(1), Cut::Every(7), Cut::Random { seed: 1810, most: 40 }] {
        let relay = Relay::start(shared.tcp(), Policy::cut(cut));
        let config =
            chopin_pg::PgConfig::new("127.0.0.1", relay.port(), shared.superuser(), "", "postgres");
        let mut db = PgConnection::connect(&config).unwrap();
        let rows = db.query("select i, repeat('é', i) from generate_series(1, 50) i", &[]).unwrap();
        for (row, expected) in rows.iter().zip(1i32..) {
            let (i, text): (i32, &str) = row.to().unwrap();
            assert_eq!((i, text.chars().count()), (expected, usize::try_from(expected).unwrap()));
        }
        assert_eq!(rows.len(), 50);
        let large = db.query_one("select repeat('x', 300000)", &[]).unwrap();
        assert_eq!(large.get::<&str>(0).unwrap().len(), 300_000);
        assert!(db.query("select 1 / 0", &[]).is_err());
        assert_usable(&mut db);
    }
}

#[test]
fn s10_7_a_message_over_the_limit_breaks_the_connection() {
    let mut db = PgConnection::connect(&config().max_message_size(64 * 1024)).unwrap();
    let row = db.query_one("select repeat('x', 60000)", &[]).unwrap();
    assert_eq!(row.get::<&str>(0).unwrap().len(), 60_000);
    let error = db.query("select repeat('x', 100000)", &[]).unwrap_err();
    assert!(matches!(error, PgError::BufferOverflow(_)), "{error}");
    assert!(error.to_string().contains("max_message_size = 65536"), "{error}");
    assert!(db.is_broken());
}

#[test]
fn s9_24_messages_out_of_place_break_the_connection() {
    let columns = [Column::int4("a").binary()];
    let row = || frames::data_row(&[Some(&7i32.to_be_bytes())]);
    let begin = || {
        vec![frames::parse_complete(), frames::bind_complete(), frames::row_description(&columns)]
    };
    let with = |mut frames: Vec<Vec<u8>>, more: Vec<Vec<u8>>| {
        frames.extend(more);
        frames
    };
    let cases = [
        ("BindComplete before ParseComplete", vec![frames::bind_complete()]),
        (
            "a row before its description",
            vec![frames::parse_complete(), frames::bind_complete(), row()],
        ),
        ("too many cells", with(begin(), vec![frames::data_row(&[None, None])])),
        ("too few cells", with(begin(), vec![frames::data_row(&[])])),
        (
            "a cell longer than the row",
            with(begin(), vec![frames::message(b'D', b"\0\x01\0\0\0\x09x")]),
        ),
        ("a negative cell", with(begin(), vec![frames::message(b'D', b"\0\x01\xff\xff\xff\xfe")])),
        ("ReadyForQuery before the end", with(begin(), vec![frames::ready_for_query(b'I')])),
        ("a second ParseComplete", with(begin(), vec![frames::parse_complete()])),
        ("PortalSuspended that nobody asked for", with(begin(), vec![frames::portal_suspended()])),
        ("CopyData out of the blue", with(begin(), vec![frames::copy_data(b"x")])),
        ("CopyBothResponse", with(begin(), vec![frames::copy_both_response(0, &[])])),
        ("an authentication request", vec![frames::authentication_ok()]),
        ("BackendKeyData", vec![frames::backend_key_data(1, &[0; 4])]),
        ("an unknown message", vec![frames::message(b'~', b"")]),
        ("a length below 4", vec![frames::raw(b'1', 3, b"")]),
        (
            "an unknown format",
            vec![
                frames::parse_complete(),
                frames::bind_complete(),
                frames::row_description(&[Column { format: 2, ..Column::int4("a") }]),
            ],
        ),
    ];
    for (what, frames) in cases {
        let server = FakeServer::start(move |conn| {
            conn.login()?;
            conn.expect_all(b"PBDES")?;
            conn.send_frames(&frames)?;
            conn.drain()
        });
        let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
        let error = db.query("select 7", &[]).expect_err(what);
        assert!(matches!(error, PgError::Protocol(_)), "{what}: {error}");
        assert_eq!(error.classify(), ErrorClass::Permanent, "{what}");
        assert!(db.is_broken(), "{what}");
        assert!(matches!(db.query("select 7", &[]), Err(PgError::NotSent(_))));
        drop(db);
        server.join();
    }
}

#[test]
fn s9_9_s9_26_s10_4_a_drop_says_terminate_and_never_waits() {
    // In the ordinary case Terminate arrives.
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_terminate()
    });
    drop(PgConnection::connect(&fake_config(&server)).unwrap());
    server.join();

    // With a full send buffer and a peer that reads nothing the drop is over all the same; during a
    // panic too.
    let (dropped, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let stuck = || {
        let wait = std::sync::Arc::clone(&wait);
        script(move |conn| {
            conn.login()?;
            // Reads nothing before the client is gone.
            wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
            conn.drain()
        })
    };
    let server = FakeServer::start_each(vec![stuck(), stuck()]);
    let config = fake_config(&server).io_timeout(Duration::from_millis(20));
    let fill = |db: &mut PgConnection| {
        assert!(matches!(db.execute_batch(&" ".repeat(8 << 20)), Err(PgError::Timeout(_))));
    };
    let mut db = PgConnection::connect(&config).unwrap();
    fill(&mut db);
    drop(db);
    dropped.send(()).unwrap();
    let panicked = std::panic::catch_unwind(|| {
        let mut db = PgConnection::connect(&config).unwrap();
        fill(&mut db);
        std::panic::resume_unwind(Box::new("unwinding"));
    });
    assert_eq!(*panicked.unwrap_err().downcast::<&str>().unwrap(), "unwinding");
    dropped.send(()).unwrap();
    server.join();
}
