//! The fake server against clients that behave, and clients that do not.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use testkit::Target;
use testkit::fake::{Answer, FakeServer, SERVER_PARAMETERS, script};
use testkit::frames::{self, Column, FirstPacket, FrameBuffer};
use testkit::raw::{RawClient, RawError};

const STARTUP: &[u8] = b"\0\0\0\x11\0\x03\0\0user\0me\0\0";

fn connect(server: &FakeServer) -> TcpStream {
    TcpStream::connect(("127.0.0.1", server.port())).unwrap()
}

fn log_in(target: &Target) -> RawClient {
    RawClient::connect(target, "me", "app", None).unwrap()
}

/// What the server says until the end of file.
fn read_all(mut client: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The text with which the server reports its scripts' failures.
fn failure(server: FakeServer) -> String {
    server.try_join(Duration::from_secs(20)).unwrap_err().to_string()
}

#[test]
fn a_cancel_request_in_place_of_a_login_is_told_and_hung_up_on() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.drain()
    });
    let client = log_in(&Target::port(server.port()));
    let mut cancel = connect(&server);
    cancel.write_all(&frames::cancel_request(4242, b"key!")).unwrap();
    assert_eq!(read_all(cancel), b"");
    assert_eq!(server.cancel_requests(), [(4242, b"key!".to_vec())]);
    drop(client);
    server.join();
}

#[test]
fn a_client_logs_in_through_both_doors() {
    let server = FakeServer::start(|conn| {
        let startup = conn.login()?;
        assert_eq!(startup.param("user"), Some("me"));
        assert_eq!(startup.param("database"), Some("app"));
        conn.expect_query("SELECT 1")?;
        conn.answer_query(&Answer::rows(&[Column::int4("n")]).row(&[Some(b"1")]).row(&[None]))?;
        conn.expect_eof()
    });
    let doors = [Target::port(server.port()), Target::socket(server.socket_dir(), server.port())];
    for (index, door) in (0..).zip(doors) {
        let mut client = log_in(&door);
        assert_eq!(client.process_id(), 4242 + index, "each connection has its own");
        for (name, value) in SERVER_PARAMETERS {
            assert_eq!(client.parameter(name), Some(*value));
        }
        assert_eq!(client.parameter("session_authorization"), Some("me"));
        let results = client.simple("SELECT 1").unwrap();
        assert_eq!(results[0].columns[0].name, "n");
        assert_eq!(results[0].rows, [[Some("1".to_owned())], [None]]);
        assert_eq!(results[0].tag, "SELECT 2");
    }
    assert_eq!(server.connections(), 2);
    server.join();
}

#[test]
fn urls_lead_to_the_server() {
    let server = FakeServer::start(|conn| conn.expect_eof());
    let port = server.port();
    assert_eq!(server.url("me", "app"), format!("postgres://me@127.0.0.1:{port}/app"));
    let url = server.socket_url("me", "app");
    let host = url.strip_prefix("postgres://me@").unwrap();
    let host = host.strip_suffix(&format!(":{port}/app")).unwrap().replace("%2F", "/");
    drop(UnixStream::connect(format!("{host}/.s.PGSQL.{port}")).unwrap());
    server.join();
}

#[test]
fn encryption_is_declined_and_counted() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        assert_eq!(conn.encryption_requests(), 2);
        conn.expect_eof()
    });
    let mut client = connect(&server);
    let mut answer = [0; 1];
    for request in [b"\0\0\0\x08\x04\xd2\x16\x30", b"\0\0\0\x08\x04\xd2\x16\x2f"] {
        client.write_all(request).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"N");
    }
    client.write_all(STARTUP).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert!(read_all(client).starts_with(&frames::authentication_ok()));
    server.join();
}

#[test]
fn b6_clients_of_protocol_3_2_get_a_long_key_and_can_cancel_with_it() {
    let server = FakeServer::start_each(vec![
        script(|conn| {
            conn.login()?;
            assert_eq!(conn.secret_key().len(), 32);
            conn.expect_eof()
        }),
        script(|conn| match conn.first_packet()? {
            FirstPacket::CancelRequest { process_id: 4242, secret_key } => {
                assert_eq!(secret_key.len(), 32);
                conn.expect_eof()
            }
            other => Err(format!("no cancel request: {other:?}").into()),
        }),
    ]);
    let mut client = connect(&server);
    client.write_all(b"\0\0\0\x11\0\x03\0\x02user\0me\0\0").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut buffer = FrameBuffer::new();
    buffer.push(&read_all(client));
    let mut key_data = None;
    while let Some(frame) = buffer.take_frame().unwrap() {
        if frame.tag == b'K' {
            key_data = Some(frame.body);
        }
    }
    let request = [b"\0\0\0\x2c\x04\xd2\x16\x2e", key_data.unwrap().as_slice()].concat();
    connect(&server).write_all(&request).unwrap();
    server.join();
}

#[test]
fn an_extended_query_is_answered_as_a_server_would() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        let answer = Answer::rows(&[Column::int4("n")]).row(&[Some(&7i32.to_be_bytes())]);
        let group = conn.answer_extended(&answer)?;
        assert_eq!(group.iter().map(|frame| frame.tag).collect::<Vec<_>>(), b"PDHBDECS");
        assert_eq!(group[3].as_bind()?.params, [Some(b"\0\0\0\x05".to_vec())]);
        let group = conn.answer_extended(&Answer::command("LISTEN").parameters(&[25]))?;
        assert_eq!(group[0].as_parse()?.sql, "LISTEN x");
        conn.expect_terminate()
    });
    let mut client = log_in(&Target::port(server.port()));
    client.send(b'P', b"s1\0SELECT $1\0\0\x01\0\0\0\x17").unwrap();
    client.send(b'D', b"Ss1\0").unwrap();
    client.send(b'H', b"").unwrap();
    let n = Column::int4("n");
    let expect = |client: &mut RawClient, answers: &[Vec<u8>]| {
        for answer in answers {
            let frame = client.receive().unwrap();
            assert_eq!(frame.to_bytes(), *answer, "{frame:?}");
        }
    };
    let described = [
        frames::parse_complete(),
        frames::parameter_description(&[23]),
        frames::row_description(&[n]),
    ];
    expect(&mut client, &described);
    client.send(b'B', b"\0s1\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x05\0\x01\0\x01").unwrap();
    client.send(b'D', b"P\0").unwrap();
    client.send(b'E', b"\0\0\0\0\0").unwrap();
    client.send(b'C', b"Ss1\0").unwrap();
    client.send(b'S', b"").unwrap();
    let executed = [
        frames::bind_complete(),
        frames::row_description(&[n.binary()]),
        frames::data_row(&[Some(b"\0\0\0\x07")]),
        frames::command_complete("SELECT 1"),
        frames::close_complete(),
        frames::ready_for_query(b'I'),
    ];
    expect(&mut client, &executed);
    client.send(b'P', b"\0LISTEN x\0\0\0").unwrap();
    client.send(b'D', b"S\0").unwrap();
    client.send(b'S', b"").unwrap();
    let no_rows = [
        frames::parse_complete(),
        frames::parameter_description(&[25]),
        frames::no_data(),
        frames::ready_for_query(b'I'),
    ];
    expect(&mut client, &no_rows);
    drop(client);
    server.join();
}

#[test]
fn an_unexpected_message_fails_with_both_and_the_conversation() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_all(b"PB").map(drop)
    });
    let mut client = connect(&server);
    client.write_all(STARTUP).unwrap();
    client.write_all(&frames::message(b'P', b"\0SELECT 1\0\0\0")).unwrap();
    client.write_all(&frames::message(b'Q', b"SELECT 2\0")).unwrap();
    let text = failure(server);
    let expected =
        r#"connection 1: expected Bind ('B'), the client sent Query ('Q') "SELECT 2\x00""#;
    assert!(text.contains(expected), "{text}");
    for line in [r#"B ReadyForQuery ('Z') "I""#, r#"F Parse ('P') "\x00SELECT 1"#] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn other_failures_are_reported_with_their_reason() {
    let wrong_text = FakeServer::start(|conn| conn.expect_query("SELECT 1"));
    connect(&wrong_text).write_all(&frames::message(b'Q', b"SELECT 2\0")).unwrap();
    let text = failure(wrong_text);
    assert!(text.contains(r#"the query "SELECT 1", the client sent "SELECT 2""#), "{text}");

    let cut = FakeServer::start(|conn| conn.receive().map(drop));
    connect(&cut).write_all(b"Q\0\0\0\x0dSEL").unwrap();
    let text = failure(cut);
    assert!(text.contains(r#"hung up within a message: "Q\x00\x00\x00\rSEL""#), "{text}");

    let gone = FakeServer::start(|conn| conn.startup().map(drop));
    drop(connect(&gone));
    let text = failure(gone);
    assert!(text.contains("expected a StartupMessage, the client hung up"), "{text}");
    assert!(text.contains("(nothing was said before)"), "{text}");

    let malformed =
        FakeServer::start(|conn| conn.expect(b'B')?.as_bind().map(drop).map_err(Into::into));
    connect(&malformed).write_all(&frames::message(b'B', b"\0")).unwrap();
    let text = failure(malformed);
    assert!(text.contains("malformed message: Bind: no NUL ends the statement name"), "{text}");

    let talkative = FakeServer::start(|conn| conn.expect_terminate());
    let goodbye = [frames::message(b'X', b""), frames::message(b'S', b"")].concat();
    connect(&talkative).write_all(&goodbye).unwrap();
    let text = failure(talkative);
    assert!(text.contains("after its Terminate the client sent Sync ('S')"), "{text}");
}

#[test]
fn a_failed_assertion_in_a_script_fails_the_test() {
    let server = FakeServer::start(|conn| {
        assert_eq!(conn.startup()?.param("user"), Some("you"));
        Ok(())
    });
    connect(&server).write_all(STARTUP).unwrap();
    let text = failure(server);
    assert!(text.contains("panicked: assertion"), "{text}");
    assert!(text.contains("Some(\"me\")") && text.contains("F StartupMessage"), "{text}");
}

#[test]
#[should_panic(expected = "the fake server: connection 1: on purpose")]
fn join_panics_with_the_scripts_failure() {
    let server = FakeServer::start(|_| Err("on purpose".into()));
    let _client = connect(&server);
    server.join();
}

#[test]
fn dropping_the_server_panics_too() {
    let server = FakeServer::start(|_| Err("on purpose".into()));
    let _client = connect(&server);
    let panic = catch_unwind(AssertUnwindSafe(|| drop(server))).unwrap_err();
    assert!(panic.downcast::<String>().unwrap().contains("connection 1: on purpose"));
}

#[test]
fn scripts_that_never_run_are_a_failure() {
    let nobody = FakeServer::start(|_| Ok(()));
    let text = nobody.try_join(Duration::from_millis(1)).unwrap_err().to_string();
    assert!(text.contains("0 connections came, but there are scripts for 1"), "{text}");

    let too_few = FakeServer::start_each(vec![script(|_| Ok(())), script(|_| Ok(()))]);
    drop(connect(&too_few));
    let text = too_few.try_join(Duration::from_millis(1)).unwrap_err().to_string();
    assert!(text.contains("1 connections came, but there are scripts for 2"), "{text}");
}

#[test]
fn a_connection_too_many_is_a_failure() {
    let server = FakeServer::start_each(vec![script(|conn| conn.expect_eof())]);
    drop((connect(&server), connect(&server)));
    let text = failure(server);
    assert!(text.contains("connection 2: came, but there are scripts for only 1"), "{text}");
}

#[test]
fn a_panicking_test_keeps_its_own_panic() {
    let panic = catch_unwind(|| {
        let server = FakeServer::start(|conn| conn.expect_eof());
        let _client = connect(&server);
        let _server_is_dropped_first = server;
        panic!("the test's own");
    })
    .unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the test's own");
}

#[test]
fn every_wait_has_a_limit() {
    let server = FakeServer::start(|conn| {
        conn.set_limit(Duration::from_millis(1));
        conn.expect(b'Q').map(drop)
    });
    let _silent = connect(&server);
    let text = failure(server);
    assert!(text.contains("waited 1ms for Query ('Q') from the client, in vain"), "{text}");

    let server = FakeServer::start(|conn| {
        conn.set_limit(Duration::from_millis(1));
        conn.send(&vec![0; 64 << 20])
    });
    let _deaf = connect(&server);
    let text = failure(server);
    assert!(text.contains("of 67108864 bytes: the client did not read for 1ms"), "{text}");
}

#[test]
fn hanging_up_is_no_reset_even_with_bytes_unread() {
    for hang_up_in_script in [true, false] {
        let (sent, wait_sent) = channel();
        let wait_sent = Mutex::new(wait_sent);
        let server = FakeServer::start(move |conn| {
            conn.startup()?;
            conn.send(b"!")?;
            wait_sent.lock().unwrap().recv().unwrap();
            conn.send(b"last words")?;
            if hang_up_in_script {
                conn.hang_up()?;
                assert!(conn.send(b"x").is_err() && conn.hang_up().is_err());
            }
            Ok(())
        });
        let mut client = connect(&server);
        client.write_all(STARTUP).unwrap();
        client.read_exact(&mut [0; 1]).unwrap();
        // The script has taken the startup message; this one it will not take.
        client.write_all(&frames::message(b'Q', b"SELECT 1\0")).unwrap();
        sent.send(()).unwrap();
        server.join();
        assert!(client.take_error().unwrap().is_none(), "no RST has come");
        assert_eq!(read_all(client), b"last words");
    }
}

#[test]
fn a_terminate_is_answered_with_the_end_of_file() {
    let server = FakeServer::start_each(vec![
        script(|conn| conn.expect_terminate()),
        script(|conn| conn.expect_eof()),
    ]);
    for _ in 0..2 {
        let mut client = connect(&server);
        client.write_all(&frames::message(b'X', b"")).unwrap();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
    server.join();
}

#[test]
fn a_reset_is_a_reset() {
    let server = FakeServer::start(|conn| conn.reset());
    let error = connect(&server).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let path = server.socket_dir().join(format!(".s.PGSQL.{}", server.port()));
    drop(UnixStream::connect(path).unwrap());
    let text = failure(server);
    assert!(text.contains("connection 2: a connection through a unix socket cannot"), "{text}");
}

#[test]
fn after_shutdown_write_the_client_may_go_on() {
    let server = FakeServer::start(|conn| {
        conn.shutdown_write()?;
        conn.expect_query("still there")?;
        conn.drain()
    });
    let mut client = connect(&server);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    client.write_all(&frames::message(b'Q', b"still there\0")).unwrap();
    client.write_all(b"and then rubbish").unwrap();
    drop(client);
    server.join();
}

#[test]
fn dripped_bytes_arrive_whole() {
    let answer = frames::ready_for_query(b'E');
    let dripped = answer.clone();
    let server = FakeServer::start(move |conn| {
        conn.drip(&dripped, Duration::from_micros(1))?;
        conn.send_frames(&[frames::no_data(), frames::no_data()])?;
        conn.ready(b'T')
    });
    let expected = [answer, frames::no_data(), frames::no_data(), frames::ready_for_query(b'T')];
    assert_eq!(read_all(connect(&server)), expected.concat());
    server.join();
}

#[test]
fn a_scripted_error_reaches_the_client() {
    let server = FakeServer::start(|conn| {
        conn.startup()?;
        conn.send(&frames::error_response(&[
            (b'S', "FATAL"),
            (b'C', "53300"),
            (b'M', "sorry, too many clients already"),
        ]))?;
        conn.hang_up()
    });
    let target = Target::port(server.port());
    let Err(RawError::Server(error)) = RawClient::connect(&target, "me", "app", None) else {
        panic!("logged in");
    };
    assert_eq!((error.code(), error.message()), ("53300", "sorry, too many clients already"));
    server.join();
}
