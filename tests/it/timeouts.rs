//! Time limits: an operation ends at its deadline, and a late answer is never taken for another's.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use chopin_pg::{PgConnection, PgError, retry};
use testkit::fake::{Answer, FakeConn, FakeServer};
use testkit::frames::{self, Column};
use testkit::transport::{Ending, Policy, Relay};

use crate::support::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);

#[test]
fn s1_11_h2_a_timeout_is_told_and_never_retried() {
    let table = testkit::unique("once");
    // A way to the server that can be taken away: then nothing can be cancelled over it.
    let folder = std::env::temp_dir().join(testkit::unique("way"));
    std::fs::create_dir(&folder).unwrap();
    let shared = testkit::shared();
    let name = format!(".s.PGSQL.{}", shared.port());
    std::os::unix::fs::symlink(shared.socket_dir().join(&name), folder.join(&name)).unwrap();
    let config = unix_config().host(folder.to_str().unwrap()).drain_timeout(LONG);
    for is_cancelled in [true, false] {
        let mut db = PgConnection::connect(&config).unwrap();
        db.execute_batch(&format!("create table {table} (x int4)")).unwrap();
        if !is_cancelled {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        // The insert waits for a lock that is held until after the timeout.
        let mut holder = connect();
        holder.begin().unwrap();
        holder.execute_batch(&format!("lock table {table}")).unwrap();
        db.set_io_timeout(SHORT);
        let mut attempts = 0;
        let error = retry(5, || {
            attempts += 1;
            db.execute(&format!("insert into {table} values (1)"), &[])
        })
        .unwrap_err();
        assert_eq!(attempts, 1);
        assert!(matches!(error, PgError::Timeout(_)));
        assert!(!error.is_safe_to_retry());
        assert_eq!(
            error.to_string(),
            "timed out after 50 ms while waiting for the answer to a query (io_timeout = 50 ms)"
        );
        db.set_io_timeout(LONG);
        if is_cancelled {
            // The lock is still held.
            assert_usable(&mut db);
        }
        holder.commit().unwrap();
        // The next query gets its own answer, after the late one was drained. Without the cancel the
        // server has done the work all the same.
        let count: i64 =
            db.query_one(&format!("select count(*) from {table}"), &[]).unwrap().get(0).unwrap();
        assert_eq!(count, i64::from(!is_cancelled), "one INSERT became one row, or none");
        assert_usable(&mut db);
        db.execute_batch(&format!("drop table {table}")).unwrap();
    }
}

#[test]
fn what_waits_behind_a_late_answer_is_not_sent_and_says_so() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect_query("select 'late'")?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        let column = [Column::text("a")];
        conn.answer_query(&Answer::rows(&column).row(&[Some(b"late")]))?;
        conn.expect_query("select 'mine'")?;
        conn.answer_query(&Answer::rows(&column).row(&[Some(b"mine")]))?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server).io_timeout(SHORT)).unwrap();
    assert!(matches!(db.query_simple("select 'late'"), Err(PgError::Timeout(_))));
    // While the late answer is awaited nothing is sent: this one is taken back.
    let error = db.query_simple("select 'never sent'").unwrap_err();
    assert!(
        matches!(&error, PgError::NotSent(why) if matches!(**why, PgError::Timeout(_))),
        "{error}"
    );
    assert!(error.is_safe_to_retry());
    assert!(error.to_string().contains("the late answer to an earlier query"), "{error}");
    go.send(()).unwrap();
    db.set_io_timeout(LONG);
    assert_eq!(db.query_simple("select 'mine'").unwrap()[0].get::<&str>(0).unwrap(), "mine");
    drop(db);
    server.join();
}

#[test]
fn without_the_late_answer_the_connection_is_given_up() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("select 1")?;
        conn.drain()
    });
    let config = fake_config(&server).io_timeout(SHORT).drain_timeout(SHORT);
    let mut db = PgConnection::connect(&config).unwrap();
    assert!(matches!(db.query_simple("select 1"), Err(PgError::Timeout(_))));
    assert!(!db.is_broken());
    db.set_io_timeout(LONG);
    let error = db.query_simple("select 2").unwrap_err();
    assert!(matches!(error, PgError::NotSent(_)), "{error}");
    assert!(error.to_string().contains("drain_timeout = 50 ms"), "{error}");
    assert!(db.is_broken());
    // Whoever asks finds out too, without a call that fails.
    drop(db);
    let mut db = PgConnection::connect(&config).unwrap();
    assert!(matches!(db.query_simple("select 1"), Err(PgError::Timeout(_))));
    while db.is_alive() {}
    assert!(db.is_broken());
    drop(db);
    server.join();
}

#[test]
fn an_answer_that_is_here_is_not_late() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        // The answer to a question that has not been asked yet.
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.send_frames(&[frames::command_complete("DONE"), frames::ready_for_query(b'I')])?;
        conn.expect_query("select 1")?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    go.send(()).unwrap();
    let socket = std::os::fd::AsFd::as_fd(&db).try_clone_to_owned().unwrap();
    let socket = std::net::TcpStream::from(socket);
    while !socket.peek(&mut [0; 16]).is_ok_and(|count| count == 16) {}
    drop(socket);
    // It has arrived, so even an operation without any time has its answer.
    db.set_io_timeout(Duration::ZERO);
    db.execute_batch("select 1").unwrap();
    assert_eq!(db.last_command_tag(), "DONE");
    drop(db);
    server.join();
}

#[test]
fn a_copy_that_shows_up_late_is_refused_before_what_waits_behind_it() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4)").unwrap();
    db.set_io_timeout(SHORT);
    let error = db.execute_batch("select pg_sleep(0.3); copy t from stdin").unwrap_err();
    assert!(matches!(error, PgError::Timeout(_)), "{error}");
    db.set_io_timeout(LONG);
    assert_usable(&mut db);
}

#[test]
fn h20_an_answer_in_drips_does_not_extend_the_deadline() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("select 1")?;
        let row = frames::data_row(&[Some(b"x")]);
        conn.send(&frames::row_description(&[Column::text("a")]))?;
        // Until the client hangs up.
        while conn.drip(&row, Duration::from_millis(1)).is_ok() {}
        Ok(())
    });
    let config = fake_config(&server).io_timeout(SHORT).drain_timeout(SHORT);
    let mut db = PgConnection::connect(&config).unwrap();
    assert!(matches!(db.query_simple("select 1"), Err(PgError::Timeout(_))));
    drop(db);
    server.join();
}

#[test]
fn h19_one_deadline_bounds_every_phase_of_a_connect() {
    type Script = fn(&mut FakeConn) -> testkit::fake::FakeResult;
    let scripts: [(&str, Script); 5] = [
        ("accepts and says nothing", |conn| conn.drain()),
        ("reads the startup packet and says nothing", |conn| {
            conn.startup()?;
            conn.drain()
        }),
        ("asks for a password and says no more", |conn| {
            conn.startup()?;
            conn.send(&frames::authentication_cleartext_password())?;
            conn.drain()
        }),
        ("is satisfied and never ready", |conn| {
            conn.startup()?;
            conn.send(&frames::authentication_ok())?;
            conn.drain()
        }),
        ("drips for ever", |conn| {
            conn.startup()?;
            conn.send(&frames::authentication_ok())?;
            let parameter = frames::parameter_status("application_name", "drip");
            while conn.drip(&parameter, Duration::from_millis(1)).is_ok() {}
            Ok(())
        }),
    ];
    for (what, script) in scripts {
        let server = FakeServer::start(script);
        let config = fake_config(&server).connect_timeout(Some(SHORT));
        let error = PgConnection::connect(&config).expect_err(what);
        assert!(matches!(error, PgError::Timeout(_)), "{what}: {error}");
        assert!(error.to_string().contains("(connect_timeout = 50 ms)"), "{what}: {error}");
        server.join();
    }
    // Without a connect_timeout it is io_timeout that bounds the connect.
    let server = FakeServer::start(|conn| conn.drain());
    let error = PgConnection::connect(&fake_config(&server).io_timeout(SHORT)).unwrap_err();
    assert!(error.to_string().contains("(io_timeout = 50 ms)"), "{error}");
    server.join();
}

#[test]
fn h19_an_address_that_does_not_answer_ends_at_the_deadline() {
    // A listener whose queue is full: the handshake of the next connection is never finished.
    let listener = std::os::unix::net::UnixListener::bind(
        std::env::temp_dir().join(format!("{}.sock", testkit::unique("full"))),
    );
    let listener = listener.expect("a socket");
    let path = listener.local_addr().unwrap().as_pathname().unwrap().to_owned();
    let folder = std::env::temp_dir().join(testkit::unique("full"));
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(&path, folder.join(".s.PGSQL.1")).unwrap();
    let config = chopin_pg::PgConfig::new(folder.to_str().unwrap(), 1, "a", "", "b")
        .connect_timeout(Some(SHORT));
    // Each attempt stays in the queue, which nobody empties; when it is full, connecting itself
    // does not get through.
    let errors: Vec<String> =
        (0..3).map(|_| PgConnection::connect(&config).unwrap_err().to_string()).collect();
    assert!(errors.iter().all(|error| error.contains("connect_timeout = 50 ms")), "{errors:?}");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn h19_a_handshake_that_is_never_finished_ends_at_the_deadline() {
    // A listener that accepts nobody: when its queue is full, no handshake gets through any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, 4 * SHORT) {
        queue.push(stream);
    }
    let config = chopin_pg::PgConfig::new("127.0.0.1", address.port(), "a", "", "b");
    let error = PgConnection::connect(&config.connect_timeout(Some(SHORT))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "timed out after 50 ms while connecting to the server's address (connect_timeout = 50 ms)"
    );
}

#[test]
fn a_server_that_hangs_inside_a_message_runs_into_the_deadline_at_every_byte() {
    let shared = testkit::shared();
    let whole = Relay::start(shared.tcp(), Policy::default());
    let config = |relay: &Relay| {
        chopin_pg::PgConfig::new("127.0.0.1", relay.port(), shared.superuser(), "", "postgres")
    };
    let mut db = PgConnection::connect(&config(&whole)).unwrap();
    let startup = whole.bytes_from_server();
    db.query("select 'abc'", &[]).unwrap();
    let all = whole.bytes_from_server();
    drop(db);
    for stop in (startup..all).step_by(3) {
        let relay = Relay::start(shared.tcp(), Policy::default().stop_after(stop, Ending::Hang));
        let limits = config(&relay).drain_timeout(Duration::from_millis(5));
        let mut db = PgConnection::connect(&limits).unwrap();
        db.set_io_timeout(Duration::from_millis(20));
        let error = db.query("select 'abc'", &[]).unwrap_err();
        assert!(matches!(error, PgError::Timeout(_)), "{stop}: {error}");
        let error = db.query("select 'def'", &[]).unwrap_err();
        assert!(matches!(error, PgError::NotSent(_)), "{stop}: {error}");
    }
}

/// A pause of the program, in which it does not look at the connection.
fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[test]
fn h1_a_late_answer_that_came_during_a_pause_is_there_and_not_late() {
    let (sent, wait) = channel::<()>();
    let server = FakeServer::start_each(vec![
        Box::new(move |conn: &mut FakeConn| {
            conn.login()?;
            conn.expect_query("select 'late'")?;
            // The client has given up by now, and its cancel has come.
            wait.recv().map_err(|error| error.to_string())?;
            // More than is received at once.
            let column = [Column::text("a")];
            let mut answer = Answer::rows(&column);
            for _ in 0..100 {
                answer = answer.row(&[Some(&[b'x'; 1_000])]);
            }
            conn.answer_query(&answer)?;
            conn.expect_query("select 'mine'")?;
            conn.answer_query(&Answer::rows(&column).row(&[Some(b"mine")]))?;
            conn.drain()
        }),
        Box::new(|conn: &mut FakeConn| conn.login().map(drop)),
    ]);
    let config = fake_config(&server).io_timeout(SHORT).drain_timeout(4 * SHORT);
    let mut db = PgConnection::connect(&config).unwrap();
    assert!(matches!(db.query_simple("select 'late'"), Err(PgError::Timeout(_))));
    sent.send(()).unwrap();
    pause(6 * SHORT);
    db.set_io_timeout(LONG);
    assert_eq!(db.query_simple("select 'mine'").unwrap()[0].get::<&str>(0).unwrap(), "mine");
    drop(db);
    server.join();
}

#[test]
fn h20_the_time_that_a_program_takes_between_columns_and_rows_is_its_own() {
    let limit = 10 * SHORT;
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect_query("select 'slow'")?;
        conn.send_frames(&[frames::row_description(&[Column::text("a")])])?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.send_frames(&[
            frames::data_row(&[Some(b"slow")]),
            frames::command_complete("SELECT 1"),
            frames::ready_for_query(b'I'),
        ])?;
        conn.drain()
    });
    let mut db = PgConnection::connect(&fake_config(&server).io_timeout(limit)).unwrap();
    let mut rows = db.stream_simple("select 'slow'").unwrap();
    assert_eq!(rows.columns().unwrap().len(), 1);
    pause(limit + SHORT);
    go.send(()).unwrap();
    assert_eq!(rows.next().unwrap().unwrap().get::<&str>(0).unwrap(), "slow");
    assert!(rows.next().unwrap().is_none());
    drop(rows);
    drop(db);
    server.join();
}
