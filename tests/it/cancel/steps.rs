//! A deadline at every step of the protocol, against a scripted server that knows how far it was.

use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use testkit::fake::{Answer, FakeConn, FakeResult, FakeServer, script};
use testkit::frames::{self, Column, FirstPacket};

use super::*;

on_both_faces! {
    b25_h1_a_deadline_at_each_step_of_an_answer,
    b25_a_server_that_ignores_the_cancel_costs_the_connection,
    b25_a_cancel_that_is_refused_leaves_the_drain,
    b25_a_cancel_without_end_costs_the_connection,
}

/// Waits for the CancelRequest of the first session.
fn expect_cancel(conn: &mut FakeConn) -> FakeResult {
    match conn.first_packet()? {
        FirstPacket::CancelRequest { process_id: 4242, .. } => Ok(()),
        other => Err(format!("no CancelRequest of the session: {other:?}").into()),
    }
}

fn cancelled() -> Vec<u8> {
    let error = [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', "57014"), (b'M', "canceling statement")];
    frames::error_response(&error)
}

fn answer_42(conn: &mut FakeConn) -> FakeResult {
    let answer = Answer::rows(&[Column::int4("answer").binary()]);
    conn.answer_extended(&answer.row(&[Some(&42_i32.to_be_bytes())]))?;
    Ok(())
}

fn text<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

fn b25_h1_a_deadline_at_each_step_of_an_answer(face: Face) {
    let row = frames::data_row(&[Some(b"late")]);
    let (half, _) = row.split_at(row.len() / 2);
    let steps: [(&str, Vec<u8>, Vec<u8>); 7] = [
        ("nothing", vec![], cancelled()),
        ("ParseComplete", frames::parse_complete(), cancelled()),
        ("BindComplete", frames::bind_complete(), cancelled()),
        ("RowDescription", frames::row_description(&[Column::text("a").binary()]), cancelled()),
        ("a row", row.clone(), cancelled()),
        ("half a row", half.to_vec(), [&row[half.len()..], &cancelled()].concat()),
        // Too late to be cancelled, and not ended yet.
        ("CommandComplete", frames::command_complete("SELECT 3"), vec![]),
    ];
    let mut before = Vec::new();
    for (step, bytes, rest) in steps {
        before.extend(bytes);
        let said = before.clone();
        if step == "half a row" {
            before.truncate(before.len() - half.len());
            before.extend(&row);
        }
        let (cancel, heard) = channel();
        let (go, wait) = channel::<()>();
        let server = FakeServer::start_each(vec![
            script(move |conn| {
                conn.login()?;
                conn.expect_all(b"PBDES")?;
                conn.send(&said)?;
                heard.recv().map_err(text)?;
                conn.send(&[rest, frames::ready_for_query(b'I')].concat())?;
                go.send(()).map_err(text)?;
                answer_42(conn)?;
                conn.expect_terminate()
            }),
            script(move |conn| {
                expect_cancel(conn)?;
                cancel.send(()).map_err(text)?;
                wait.recv().map_err(text).map_err(Into::into)
            }),
        ]);
        let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
        let error = query_within(face, &mut db, SHORT, "select a").unwrap_err();
        assert!(matches!(error, PgError::Timeout(_)), "{step}: {error}");
        let rows = face.query(&mut db, "select $1::int4 + 1 as answer", (41,)).unwrap();
        assert_eq!(rows[0].get::<i32>("answer").unwrap(), 42, "{step}");
        drop(db);
        server.join();
    }
}

#[test]
fn b25_h1_nothing_is_sent_before_the_cancel_has_ended() {
    let (cancel, heard) = channel();
    let (go, wait) = channel::<()>();
    let ended = Arc::new(AtomicBool::new(false));
    let has_ended = Arc::clone(&ended);
    let server = FakeServer::start_each(vec![
        script(move |conn| {
            conn.login()?;
            conn.expect_query("select 'late'")?;
            heard.recv().map_err(text)?;
            conn.send_frames(&[cancelled(), frames::ready_for_query(b'I')])?;
            conn.expect_query("select 'mine'")?;
            assert!(has_ended.load(Ordering::SeqCst), "it was sent too early");
            conn.answer_query(&Answer::rows(&[Column::text("a")]).row(&[Some(b"mine")]))?;
            conn.drain()
        }),
        script(move |conn| {
            expect_cancel(conn)?;
            cancel.send(()).map_err(text)?;
            wait.recv().map_err(text)?;
            ended.store(true, Ordering::SeqCst);
            Ok(())
        }),
    ]);
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    let deadline = Deadline::after(Instant::now(), "within", SHORT);
    let submit = Submit::new(Delivery::Events).deadline(deadline);
    let _late = db.submit_with(Request::Simple { sql: "select 'late'" }, submit).unwrap();
    let ends = run(&mut db, 1).unwrap();
    assert_timeout(ends[0].1.as_ref().unwrap_err());
    // Its answer comes; what follows waits all the same.
    let _mine = db.submit(Request::Simple { sql: "select 'mine'" }, Delivery::Events).unwrap();
    while db.in_flight() > 1 {
        wait_and_drive(&mut db);
    }
    for _ in 0..100 {
        let _drive = db.drive();
        assert!(db.next_event().unwrap().is_none());
        assert_eq!(db.engine().send_pending(), b"");
    }
    assert_eq!(descriptors(&db).len(), 2);
    go.send(()).unwrap();
    assert!(run(&mut db, 1).unwrap()[0].1.is_ok());
    drop(db);
    server.join();
}

fn wait_and_drive(db: &mut PgConnection) {
    wait(db.sources(), db.deadline());
    let _drive = db.drive();
    assert!(db.next_event().unwrap().is_none());
}

#[test]
fn b25_a_request_that_is_sent_in_part_is_cancelled_when_all_of_it_is_sent() {
    let (go, wait_for_timeout) = channel::<()>();
    let (cancel, heard) = channel();
    let server = FakeServer::start_each(vec![
        script(move |conn| {
            conn.login()?;
            // Nothing is read until the time has run out.
            wait_for_timeout.recv().map_err(text)?;
            conn.expect_all(b"PBDES")?;
            heard.recv().map_err(text)?;
            conn.send_frames(&[cancelled(), frames::ready_for_query(b'I')])?;
            answer_42(conn)?;
            conn.expect_terminate()
        }),
        script(move |conn| {
            expect_cancel(conn)?;
            cancel.send(()).map_err(text).map_err(Into::into)
        }),
    ]);
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    // More than any socket buffer takes.
    let large = vec![7_u8; 32 << 20];
    let error = db.within(SHORT).query("select $1", &[&large]).unwrap_err();
    assert_timeout(&error);
    assert!(!db.engine().send_pending().is_empty());
    assert_eq!(descriptors(&db).len(), 1, "the server would not listen to it yet");
    go.send(()).unwrap();
    assert_usable(&mut db);
    drop(db);
    server.join();
}

#[test]
fn b25_what_was_not_sent_is_taken_back_and_nothing_is_cancelled() {
    let (go, wait) = channel::<()>();
    let server = FakeServer::start_each(vec![script(move |conn| {
        conn.login()?;
        wait.recv().map_err(text)?;
        answer_42(conn)?;
        answer_42(conn)?;
        conn.expect_terminate()
    })]);
    let config = fake_config(&server).max_send_buffer(64 << 20);
    let mut db = PgConnection::connect(&config).unwrap();
    // More than any socket buffer takes: what is behind it stays here.
    let large = vec![7_u8; 32 << 20];
    let submit = Submit::new(Delivery::Events);
    let request = Request::Query { sql: "select $1", params: &(&large,) };
    let first = db.submit_with(request, submit).unwrap();
    let deadline = Deadline::after(Instant::now(), "within", SHORT);
    let request = Request::Query { sql: "select 2", params: &() };
    let late = db.submit_with(request, submit.deadline(deadline)).unwrap();
    let ends = run(&mut db, 1).unwrap();
    let [(ticket, Err(error @ PgError::NotSent(_)))] = ends.as_slice() else {
        panic!("{ends:?}");
    };
    assert_eq!(*ticket, late);
    assert!(error.is_safe_to_retry() && error.to_string().contains("within = 50 ms"), "{error}");
    go.send(()).unwrap();
    let ends = run(&mut db, 1).unwrap();
    assert!(matches!(ends.as_slice(), [(ticket, Ok(()))] if *ticket == first), "{ends:?}");
    assert_usable(&mut db);
    drop(db);
    server.join();
}

fn b25_a_server_that_ignores_the_cancel_costs_the_connection(face: Face) {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_all(b"PBDES")?;
        conn.drain()
    });
    let config = fake_config(&server).drain_timeout(Duration::from_millis(300));
    let mut db = PgConnection::connect(&config).unwrap();
    assert_timeout(&query_within(face, &mut db, SHORT, "select 1").unwrap_err());
    assert!(!db.is_broken());
    let error = match face {
        Face::Blocking => db.query("select 2", &[]).unwrap_err(),
        Face::NonBlocking => run(&mut db, 1).unwrap_err(),
    };
    assert!(error.to_string().contains("drain_timeout = 300 ms"), "{error}");
    assert!(db.is_broken());
    let key = (4242, 4242_i32.wrapping_mul(0x0101_4321).to_be_bytes().to_vec());
    let requests = server.cancel_requests();
    assert!(requests.iter().all(|request| *request == key), "{requests:?}");
    assert!(requests.len() > 1, "the first one may have come too early: {requests:?}");
    drop(db);
    server.join();
}

fn b25_a_cancel_that_is_refused_leaves_the_drain(face: Face) {
    let (go, wait_for_refusal) = channel::<()>();
    let server = FakeServer::start_each(vec![script(move |conn| {
        conn.login()?;
        conn.expect_all(b"PBDES")?;
        wait_for_refusal.recv().map_err(text)?;
        let end = [frames::parse_complete(), frames::bind_complete(), frames::no_data()];
        conn.send_frames(&end)?;
        conn.send_frames(&[frames::command_complete("DONE"), frames::ready_for_query(b'I')])?;
        answer_42(conn)?;
        conn.expect_terminate()
    })]);
    // A way to the server's socket that can be taken away.
    let folder = std::env::temp_dir().join(testkit::unique("refused"));
    std::fs::create_dir(&folder).unwrap();
    let name = format!(".s.PGSQL.{}", server.port());
    symlink(server.socket_dir().join(&name), folder.join(&name)).unwrap();
    let mut db =
        PgConnection::connect(&fake_config(&server).host(folder.to_str().unwrap())).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_timeout(&query_within(face, &mut db, SHORT, "select 1").unwrap_err());
    assert_eq!(descriptors(&db).len(), 1);
    let error = db.cancel_query().unwrap_err();
    assert!(matches!(&error, PgError::Io(_)), "{error}");
    go.send(()).unwrap();
    let rows = face.query(&mut db, "select $1::int4 + 1 as answer", (41,)).unwrap();
    assert_eq!(rows[0].get::<i32>("answer").unwrap(), 42);
    drop(db);
    server.join();
}

fn b25_a_cancel_without_end_costs_the_connection(face: Face) {
    let (go, wait) = channel::<()>();
    let (cancel, heard) = channel();
    let server = FakeServer::start_each(vec![
        script(move |conn| {
            conn.login()?;
            conn.expect_all(b"PBDES")?;
            heard.recv().map_err(text)?;
            conn.send_frames(&[cancelled(), frames::ready_for_query(b'I')])?;
            conn.drain()
        }),
        script(move |conn| {
            expect_cancel(conn)?;
            cancel.send(()).map_err(text)?;
            wait.recv().map_err(text).map_err(Into::into)
        }),
    ]);
    let config = fake_config(&server).drain_timeout(Duration::from_millis(300));
    let mut db = PgConnection::connect(&config).unwrap();
    assert_timeout(&query_within(face, &mut db, SHORT, "select 1").unwrap_err());
    // The session is idle again, but nobody knows when the cancel arrives.
    let error = match face {
        Face::Blocking => db.query("select 2", &[]).unwrap_err(),
        Face::NonBlocking => run(&mut db, 1).unwrap_err(),
    };
    let error = error.to_string();
    assert!(error.contains("waiting for the end of a cancel request"), "{error}");
    assert!(error.contains("drain_timeout = 300 ms"), "{error}");
    assert!(db.is_broken());
    go.send(()).unwrap();
    drop(db);
    server.join();
}

#[test]
fn h22_a_connection_that_is_dropped_while_it_cancels_waits_for_nothing() {
    let (go, wait) = channel::<()>();
    let (cancel, heard) = channel();
    let server = FakeServer::start_each(vec![
        script(|conn| {
            conn.login()?;
            conn.expect_query("select 1")?;
            conn.expect_terminate()
        }),
        script(move |conn| {
            expect_cancel(conn)?;
            cancel.send(()).map_err(text)?;
            wait.recv().map_err(text)?;
            conn.expect_eof()
        }),
    ]);
    let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
    assert_timeout(&db.within(SHORT).execute_batch("select 1").unwrap_err());
    heard.recv().unwrap();
    drop(db);
    go.send(()).unwrap();
    server.join();
}

#[test]
fn b25_a_cancel_that_is_still_connecting_is_given_up_when_it_is_of_no_use() {
    // A listener of whose clients only the first is let in; the next one waits in its queue, the
    // others before it.
    let folder = std::env::temp_dir().join(testkit::unique("queue"));
    std::fs::create_dir(&folder).unwrap();
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    let path = folder.join(".s.PGSQL.1");
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = std::os::unix::net::UnixListener::from(socket);
    let config = chopin_pg::PgConfig::new(folder.to_str().unwrap(), 1, "a", "", "b");
    let mut db = PgConnection::start_connect(&config).unwrap();
    let _drive = db.drive();
    let (session, _) = listener.accept().unwrap();
    let filler = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let say = |messages: &[Vec<u8>]| {
        use std::io::Write;
        (&session).write_all(&messages.concat()).unwrap();
    };
    say(&[
        frames::authentication_ok(),
        frames::backend_key_data(4242, b"key!"),
        frames::ready_for_query(b'I'),
    ]);
    db.wait_ready().unwrap();
    assert_timeout(&db.within(SHORT).execute_batch("select 1").unwrap_err());
    assert!(db.deadline().is_some_and(|at| at < Instant::now() + SHORT), "it will try again");
    say(&[frames::command_complete("DONE"), frames::ready_for_query(b'I')]);
    let _mine = db.submit(Request::Simple { sql: "select 2" }, Delivery::Events).unwrap();
    while db.in_flight() > 1 || !db.engine().send_pending().is_empty() {
        wait(db.sources(), db.deadline());
        let _drive = db.drive();
        assert!(db.next_event().unwrap().is_none());
        db.flush();
    }
    let _drive = db.drive();
    assert!(!db.engine().is_holding());
    assert_eq!(descriptors(&db).len(), 1);
    session.shutdown(Shutdown::Both).unwrap();
    drop(filler);
    std::fs::remove_dir_all(&folder).unwrap();
}
