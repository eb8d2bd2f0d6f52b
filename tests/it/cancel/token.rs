//! Cancel tokens, and `cancel_query`.

use std::sync::mpsc::channel;
use std::task::Poll;
use std::thread;

use chopin_pg::config::PgConfig;
use chopin_pg::{CancelToken, ProtocolVersion, SqlState};
use testkit::fake::{FakeConn, FakeServer, script};
use testkit::frames::{self, FirstPacket};

use super::*;

#[track_caller]
fn assert_cancelled<T: std::fmt::Debug>(result: PgResult<T>) {
    let error = result.unwrap_err();
    assert!(matches!(error, PgError::Server(_)), "{error}");
    assert_eq!(error.sql_state(), Some(SqlState::QUERY_CANCELED));
}

#[test]
fn b7_a_blocking_call_is_cancelled_from_another_thread() {
    for config in [config(), unix_config()] {
        let mut db = PgConnection::connect(&config).unwrap();
        let token = db.cancel_token();
        let other = thread::spawn(move || {
            await_sleep(token.process_id());
            token.clone().cancel()
        });
        assert_cancelled(db.query(SLEEP, &[]));
        other.join().unwrap().unwrap();
        assert_usable(&mut db);
    }
}

#[test]
fn s9_15_cancel_query_cancels_what_is_running() {
    for config in [config(), unix_config()] {
        let mut db = PgConnection::connect(&config).unwrap();
        let request = |sql| Request::Query { sql, params: &() };
        let first = db.submit(request(SLEEP), Delivery::Collect).unwrap();
        let second = db.submit(request("select 2"), Delivery::Collect).unwrap();
        db.flush();
        await_sleep(db.process_id());
        db.cancel_query().unwrap();
        run(&mut db, 2).unwrap();
        assert_cancelled(db.take(first));
        let rows = db.take(second).unwrap().unwrap().into_rows();
        assert_eq!(rows[0].get::<i32>(0).unwrap(), 2);
        assert_usable(&mut db);
    }
}

#[test]
fn s9_15_cancel_query_does_nothing_when_nothing_runs() {
    let server = FakeServer::start_each(vec![script(|conn| {
        conn.login()?;
        conn.expect_terminate()
    })]);
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    db.cancel_query().unwrap();
    drop(db);
    server.join();
}

#[test]
fn b7_a_cancel_without_waiting_in_a_call() {
    for config in [config(), unix_config()] {
        let mut db = PgConnection::connect(&config).unwrap();
        let request = Request::Query { sql: SLEEP, params: &() };
        let ticket = db.submit(request, Delivery::Collect).unwrap();
        db.flush();
        await_sleep(db.process_id());
        let mut cancelling = db.cancel_token().start_cancel().unwrap();
        while cancelling.drive().is_pending() {
            wait(cancelling.sources(), cancelling.deadline());
        }
        assert_eq!(cancelling.sources().count(), 0, "there is nothing to wait for any more");
        assert!(matches!(cancelling.drive(), Poll::Ready(Ok(()))), "it stays so");
        run(&mut db, 1).unwrap();
        assert_cancelled(db.take(ticket));
        assert_usable(&mut db);
    }
}

#[test]
fn b7_a_token_says_which_session_and_not_the_key() {
    fn is_portable<T: Clone + Send + Sync + 'static>(_: &T) {}
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.drain()
    });
    let db = PgConnection::connect(&fake_config(&server)).unwrap();
    let token = db.cancel_token();
    is_portable(&token);
    assert_eq!(token.process_id(), db.process_id());
    let text = format!("{token:?}");
    assert!(text.contains("4242") && text.contains("<secret>"), "{text}");
    drop(db);
    // A token without a session does nothing.
    let mut cancelling = token.start_cancel().unwrap();
    let text = format!("{cancelling:?}");
    assert!(text.contains("<secret>") && !text.contains("packet: ["), "{text}");
    while cancelling.drive().is_pending() {
        wait(cancelling.sources(), cancelling.deadline());
    }
    server.join();
}

/// The CancelRequest of a session with a scripted server.
fn cancel_request(config: impl Fn(&FakeServer) -> PgConfig) -> (i32, Vec<u8>) {
    let (tell, told) = channel();
    let tell = std::sync::Mutex::new(tell);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        let own = (conn.process_id(), conn.secret_key());
        tell.lock().unwrap().send(own).map_err(|error| error.to_string())?;
        conn.drain()
    });
    let db = PgConnection::connect(&config(&server)).unwrap();
    db.cancel_token().cancel().unwrap();
    let requests = server.cancel_requests();
    drop(db);
    server.join();
    assert_eq!(requests, [told.recv().unwrap()]);
    requests.into_iter().next().unwrap()
}

#[test]
fn b6_b7_a_cancel_carries_the_session_s_key_long_or_short() {
    let newest = |config: PgConfig| config.max_protocol_version(ProtocolVersion::V3_2);
    let folder = |server: &FakeServer| server.socket_dir().to_str().expect("UTF-8").to_owned();
    assert_eq!(cancel_request(fake_config).1.len(), 4);
    assert_eq!(cancel_request(|server| newest(fake_config(server))).1.len(), 32);
    // It goes to where the session is: here through a Unix-domain socket.
    let unix = |server: &FakeServer| newest(fake_config(server)).host(folder(server));
    assert_eq!(cancel_request(unix).1.len(), 32);
}

#[test]
fn b7_a_cancel_that_the_server_refuses_or_ignores_says_so() {
    let (go, wait) = channel::<()>();
    let server = FakeServer::start_each(vec![
        script(|conn| {
            conn.login()?;
            conn.drain()
        }),
        // What is no end is not taken for one.
        script(move |conn: &mut FakeConn| {
            assert!(matches!(conn.first_packet()?, FirstPacket::CancelRequest { .. }));
            conn.send(&frames::notice_response(&[(b'S', "NOTICE"), (b'M', "later")]))?;
            wait.recv().map_err(|error| error.to_string())?;
            Ok(())
        }),
        // An end by force is one too.
        script(|conn| {
            assert!(matches!(conn.first_packet()?, FirstPacket::CancelRequest { .. }));
            conn.reset()
        }),
    ]);
    let config = fake_config(&server).connect_timeout(Some(Duration::from_millis(200)));
    let db = PgConnection::connect(&config).unwrap();
    let token = db.cancel_token();
    let error = token.cancel().unwrap_err();
    assert_eq!(
        error.to_string(),
        "timed out after 200 ms while cancelling a query (connect_timeout = 200 ms)"
    );
    go.send(()).unwrap();
    token.cancel().unwrap();
    drop(db);
    let port = server.port();
    server.join();
    let error = token.cancel().unwrap_err();
    assert!(matches!(error, PgError::Io(_)), "{error}");
    assert!(error.to_string().contains(&format!("cannot connect to 127.0.0.1:{port}")), "{error}");
}

#[test]
fn b7_a_session_without_a_key_cannot_be_cancelled() {
    let server = FakeServer::start(|conn| {
        conn.startup()?;
        conn.send_frames(&[frames::authentication_ok(), frames::ready_for_query(b'I')])?;
        conn.drain()
    });
    let db = PgConnection::connect(&fake_config(&server)).unwrap();
    let error = db.cancel_token().cancel().unwrap_err();
    assert!(matches!(error, PgError::Usage(_)), "{error}");
    assert!(error.to_string().contains("no key"), "{error}");
    drop(db);
    server.join();
}

#[test]
fn h13_what_is_sent_after_a_cancel_has_returned_is_not_hit() {
    let mut db = PgConnection::connect(&unix_config()).unwrap();
    let token: CancelToken = db.cancel_token();
    for number in 0..200 {
        token.cancel().unwrap();
        let row = db.query_one("select $1::int4 from pg_sleep(0.0001)", &[&number]).unwrap();
        assert_eq!(row.get::<i32>(0).unwrap(), number);
    }
}
