//! The fake server's SCRAM over the wire, against a client that says the example of RFC 7677.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use testkit::fake::scram::{Flaw, ScramServer, Verdict};
use testkit::fake::{FakeResult, FakeServer};
use testkit::frames::{self, Frame, FrameBuffer};

const STARTUP: &[u8] = b"\0\0\0\x13\0\x03\0\0user\0user\0\0";
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// The server of the RFC's example.
fn server(password: &str) -> ScramServer {
    ScramServer::new(password)
        .salt(b"\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81")
        .nonce("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
}

fn play(server: ScramServer, verdict: Verdict) -> FakeServer {
    FakeServer::start(move |conn| -> FakeResult {
        conn.startup()?;
        assert_eq!(server.authenticate(conn)?, verdict);
        if verdict == Verdict::Accepted {
            conn.welcome()?;
        }
        if verdict != Verdict::Refused {
            conn.expect_eof()?;
        }
        Ok(())
    })
}

struct Client {
    stream: TcpStream,
    received: FrameBuffer,
}

impl Client {
    /// Connects and sends the first message; the mechanisms have been offered.
    fn begin(server: &FakeServer) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        let mut client = Self { stream, received: FrameBuffer::new() };
        client.stream.write_all(STARTUP).unwrap();
        let offer = client.receive().unwrap();
        assert_eq!(offer.to_bytes(), frames::authentication_sasl(&["SCRAM-SHA-256"]));
        let length = u8::try_from(CLIENT_FIRST.len()).unwrap();
        let initial = [b"SCRAM-SHA-256\0\0\0\0", &[length][..], CLIENT_FIRST.as_bytes()].concat();
        client.send(&initial);
        client
    }

    fn send(&mut self, body: &[u8]) {
        self.stream.write_all(&frames::message(b'p', body)).unwrap();
    }

    /// The next message, `None` at the end of file.
    fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.received.take_frame().unwrap() {
                return Some(frame);
            }
            let mut buffer = [0; 1024];
            match self.stream.read(&mut buffer).unwrap() {
                0 => return None,
                count => self.received.push(&buffer[..count]),
            }
        }
    }

    fn expect(&mut self, message: &[u8]) {
        let frame = self.receive().expect("the server hung up");
        assert_eq!(frame.to_bytes(), message, "{frame:?}");
    }
}

#[test]
fn the_right_password_is_accepted() {
    let server = play(server("pencil"), Verdict::Accepted);
    let mut client = Client::begin(&server);
    client.expect(&frames::authentication_sasl_continue(SERVER_FIRST.as_bytes()));
    client.send(CLIENT_FINAL.as_bytes());
    client.expect(&frames::authentication_sasl_final(SERVER_FINAL.as_bytes()));
    client.expect(&frames::authentication_ok());
    assert_eq!(client.receive().unwrap().tag, b'S', "the welcome follows");
    drop(client);
    server.join();
}

#[test]
fn a_wrong_password_is_refused_as_by_a_real_server() {
    let server = play(server("pen"), Verdict::Refused);
    let mut client = Client::begin(&server);
    client.expect(&frames::authentication_sasl_continue(SERVER_FIRST.as_bytes()));
    client.send(CLIENT_FINAL.as_bytes());
    let error = client.receive().unwrap();
    assert_eq!(error.tag, b'E');
    assert!(error.body.starts_with(b"SFATAL\0VFATAL\0C28P01\0Mpassword"), "{error:?}");
    assert_eq!(client.receive(), None);
    server.join();
}

#[test]
fn h31_flaws_after_the_proof_come_with_authentication_ok() {
    let cases = [
        (Flaw::NoServerFinal, None),
        (Flaw::ErrorAttribute("other-error"), Some("e=other-error")),
        (Flaw::Missing('v'), Some("")),
        (Flaw::ShortSignature(0), Some("v=")),
        (Flaw::GarbageSignature, Some("v=*not base64*")),
        (Flaw::WrongSignature, Some("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8=")),
    ];
    for (flaw, server_final) in cases {
        let server = play(server("pencil").flaw(flaw), Verdict::Flawed);
        let mut client = Client::begin(&server);
        client.expect(&frames::authentication_sasl_continue(SERVER_FIRST.as_bytes()));
        client.send(CLIENT_FINAL.as_bytes());
        if let Some(server_final) = server_final {
            client.expect(&frames::authentication_sasl_final(server_final.as_bytes()));
        }
        client.expect(&frames::authentication_ok());
        drop(client);
        server.join();
    }
}

#[test]
fn h31_authentication_ok_can_come_instead_of_server_first() {
    let server = play(server("pencil").flaw(Flaw::OkTooEarly), Verdict::Flawed);
    let mut client = Client::begin(&server);
    client.expect(&frames::authentication_ok());
    drop(client);
    server.join();
}

#[test]
fn h32_a_client_that_answers_a_flawed_server_first_fails_the_script() {
    let server = play(server("pencil").flaw(Flaw::NonceReplaced), Verdict::Flawed);
    let mut client = Client::begin(&server);
    let server_first = "r=%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    client.expect(&frames::authentication_sasl_continue(server_first.as_bytes()));
    client.send(CLIENT_FINAL.as_bytes());
    let text = server.try_join(Duration::from_secs(20)).unwrap_err().to_string();
    let expected = "expected the end of the connection, the client sent PasswordMessage ('p')";
    assert!(text.contains(expected), "{text}");
}
