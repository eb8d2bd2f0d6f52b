//! The recorder between a client and a server, fake and real.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use testkit::fake::{Answer, FakeServer};
use testkit::frames::{self, Column};
use testkit::proxy::Recorder;
use testkit::raw::RawClient;
use testkit::transcript::{Direction, Secrets, Transcript};
use testkit::transport::Target;

const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const STARTUP: &[u8] = b"\0\0\0\x11\0\x03\0\0user\0me\0\0";

fn fake() -> FakeServer {
    FakeServer::start(|conn| {
        conn.login()?;
        assert_eq!(conn.encryption_requests(), 0, "the recorder answers for itself");
        conn.expect_query("SELECT 1")?;
        conn.answer_query(&Answer::rows(&[Column::int4("n")]).row(&[Some(b"1")]))?;
        conn.expect_eof()
    })
}

#[test]
fn a_session_is_recorded_to_the_byte() {
    let server = fake();
    let recorder = Recorder::start(Target::port(server.port()), Secrets::Keep);
    let mut client = TcpStream::connect(("127.0.0.1", recorder.port())).unwrap();
    let mut said = Vec::new();
    let mut heard = vec![0];
    for piece in [SSL_REQUEST, STARTUP, &frames::message(b'Q', b"SELECT 1\0")] {
        client.write_all(piece).unwrap();
        said.extend_from_slice(piece);
        if piece == SSL_REQUEST {
            client.read_exact(&mut heard).unwrap();
            assert_eq!(heard, b"N");
        }
    }
    client.write_all(&frames::message(b'X', b"")).unwrap();
    said.extend(frames::message(b'X', b""));
    client.read_to_end(&mut heard).unwrap();
    drop(client);
    server.join();

    let transcripts = recorder.finish();
    let [transcript] = transcripts.as_slice() else { panic!("one connection, one transcript") };
    assert!(transcript.is_exact());
    assert_eq!(transcript.bytes(Direction::Frontend), said);
    assert_eq!(transcript.bytes(Direction::Backend), heard);
    assert_eq!(
        transcript.names(Direction::Frontend),
        ["SSLRequest", "StartupMessage", "Query", "Terminate"]
    );
    let order: Vec<_> = transcript.entries().iter().map(|entry| entry.name()).collect();
    let place = |name| order.iter().position(|found| *found == name).unwrap();
    assert!(place("SSLRequest") < place("EncryptionAnswer"));
    assert!(place("StartupMessage") < place("AuthenticationOk"));
    assert!(place("Query") < place("RowDescription"));

    let file = tempfile::NamedTempFile::new().unwrap();
    transcript.save(file.path()).unwrap();
    assert_eq!(Transcript::load(file.path()).as_ref(), Ok(transcript));
}

#[test]
fn each_connection_has_its_transcript_through_unix_sockets_too() {
    let server = fake();
    let target = Target::socket(server.socket_dir(), server.port());
    let recorder = Recorder::start(target, Secrets::Mask);
    for user in ["first", "second"] {
        let target = Target::socket(recorder.socket_dir(), recorder.port());
        let mut client = RawClient::connect(&target, user, "app", None).unwrap();
        assert_eq!(client.value("SELECT 1").unwrap().as_deref(), Some("1"));
    }
    assert_eq!(recorder.connections(), 2);
    server.join();
    let texts: Vec<_> = recorder.finish().iter().map(Transcript::to_string).collect();
    assert_eq!(texts.len(), 2);
    assert!(texts[0].contains("user\\0first\\0") && texts[1].contains("user\\0second\\0"));
}

#[test]
fn h37_passwords_stay_out_of_a_masked_recording() {
    let server = FakeServer::start(|conn| {
        conn.startup()?;
        conn.send(&frames::authentication_cleartext_password())?;
        assert_eq!(
            conn.expect(b'p')?.as_password()?,
            "hunter2",
            "masked on paper, not on the wire"
        );
        conn.send(&frames::authentication_ok())?;
        conn.welcome()?;
        conn.expect_eof()
    });
    let recorder = Recorder::start(Target::port(server.port()), Secrets::Mask);
    let target = Target::port(recorder.port());
    drop(RawClient::connect(&target, "me", "app", Some("hunter2")).unwrap());
    server.join();
    let transcript = recorder.finish().remove(0);
    assert!(!transcript.is_exact());
    let text = transcript.to_string();
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("F p PasswordMessage 9 \"****\\0\" masked\n"), "{text}");
}

#[test]
fn what_is_no_protocol_is_passed_on_and_kept_as_it_is() {
    let server = FakeServer::start(|conn| {
        conn.send(b"\0\0\0\0\0 no message")?;
        conn.drain()
    });
    let recorder = Recorder::start(Target::port(server.port()), Secrets::Keep);
    let mut client = TcpStream::connect(("127.0.0.1", recorder.port())).unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, b"\0\0\0\0\0 no message");
    server.join();
    let transcript = recorder.finish().remove(0);
    assert_eq!(transcript.bytes(Direction::Frontend), b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(transcript.bytes(Direction::Backend), heard);
    assert_eq!(transcript.to_string().parse(), Ok(transcript));
}

#[test]
fn a_server_that_is_not_there_is_a_failure_with_its_name() {
    let recorder = Recorder::start(Target::socket("/nonexistent", 1), Secrets::Keep);
    drop(TcpStream::connect(("127.0.0.1", recorder.port())).unwrap());
    let panic = catch_unwind(AssertUnwindSafe(|| recorder.finish())).unwrap_err();
    let text = panic.downcast::<String>().unwrap();
    assert!(text.contains("connection 1: cannot connect to Unix(\"/nonexistent/"), "{text}");
}

#[test]
fn a_real_servers_session_is_recorded_and_reads_back() {
    let cluster = testkit::shared();
    let recorder = Recorder::start(Target::port(cluster.port()), Secrets::Mask);
    let target = Target::port(recorder.port());
    let mut client = RawClient::connect(&target, "postgres", "postgres", None).unwrap();
    assert_eq!(client.value("SELECT 40 + 2 AS answer").unwrap().as_deref(), Some("42"));
    let error = client.simple("SELECT 1/0").unwrap_err();
    assert_eq!(error.code(), Some("22012"));
    drop(client);

    let transcript = recorder.finish().remove(0);
    let backend = transcript.names(Direction::Backend);
    assert!(backend.starts_with(&["AuthenticationOk", "ParameterStatus"]), "{backend:?}");
    assert!(!backend.contains(&"Unknown") && !backend.contains(&"Fragment"), "{backend:?}");
    let text = transcript.to_string();
    assert!(text.contains("F Q Query 28 \"SELECT 40 + 2 AS answer\\0\"\n"), "{text}");
    assert!(text.contains("B D DataRow 12 \"\\0\\x01\\0\\0\\0\\x0242\"\n"), "{text}");
    assert!(text.contains("division by zero"), "{text}");
    assert_eq!(text.parse(), Ok(transcript));
}
