//! A recording proxy: stands between a client and a real server and writes down what they say.
//!
//! For comparing our sessions with those of psql and libpq, and for golden traces: the
//! [`Transcript`]s it gives can be saved, read by people, and played back byte by byte.
//!
//! Requests for encryption (SSLRequest, GSSENCRequest) are answered with `N` by the proxy itself,
//! since an encrypted session could not be read; a client that insists on TLS says so and leaves.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use testkit::fake::{Answer, FakeServer};
//! use testkit::frames;
//! use testkit::proxy::Recorder;
//! use testkit::transcript::{Direction, Secrets};
//! use testkit::transport::Target;
//!
//! let server = FakeServer::start(|conn| {
//!     conn.login()?;
//!     conn.expect_query("BEGIN")?;
//!     conn.answer_query(&Answer::command("BEGIN"))?;
//!     conn.expect_terminate()
//! });
//! let recorder = Recorder::start(Target::port(server.port()), Secrets::Mask);
//!
//! // The client: usually psql, or a driver with `recorder.url("me", "app")`.
//! let mut client = TcpStream::connect(("127.0.0.1", recorder.port()))?;
//! client.write_all(b"\0\0\0\x11\0\x03\0\0user\0me\0\0")?;
//! client.write_all(&frames::message(b'Q', b"BEGIN\0"))?;
//! client.write_all(&frames::message(b'X', b""))?;
//! client.read_to_end(&mut Vec::new())?;
//! drop(client);
//!
//! let transcript = recorder.finish().remove(0);
//! assert_eq!(transcript.names(Direction::Frontend), ["StartupMessage", "Query", "Terminate"]);
//! assert!(transcript.to_string().contains("F Q Query 10 \"BEGIN\\0\"\n"));
//! # server.join();
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::acceptor::{Acceptor, FINISH_LIMIT, LIMIT, Live, address_methods};
use crate::bridge::{self, Passed};
use crate::frames::{FirstPacket, FrameBuffer};
use crate::socket::{Stream, Target, read_some};
use crate::transcript::{Direction, Secrets, Tape, Transcript};

/// A recording proxy in front of a real server, on a loopback port and a unix socket of its own.
///
/// Dropping it without [`finish`](Self::finish) ends all connections and forgets what they said.
#[derive(Debug)]
#[must_use = "a recorder that is dropped records nothing"]
pub struct Recorder {
    acceptor: Acceptor<Transcript>,
}

impl Recorder {
    /// Starts recording in front of `target`.
    ///
    /// # Panics
    /// If the machine has no free port or no folder for temporary files.
    pub fn start(target: Target, secrets: Secrets) -> Self {
        let session = move |_, client: Arc<Stream>, live: &Live| {
            let server = target.connect(LIMIT);
            let server =
                server.map_err(|error| format!("cannot connect to {target:?}: {error}"))?;
            let server = Arc::new(server);
            live.add(&server);
            Ok(record(&client, &server, secrets))
        };
        let acceptor = Acceptor::start(session).expect("a loopback port and a unix socket");
        Self { acceptor }
    }

    address_methods!();

    /// Takes no more connections, waits for the sessions to end, for half a minute at most, and
    /// gives a transcript for each connection in the order they came.
    ///
    /// Close the clients first.
    ///
    /// # Panics
    /// If the server could not be reached, or a session is still going on.
    #[track_caller]
    pub fn finish(mut self) -> Vec<Transcript> {
        let ends = self.acceptor.finish(0, FINISH_LIMIT);
        let transcript = |end: crate::acceptor::End<Transcript>| match end.result {
            Ok(transcript) => transcript,
            Err(why) => panic!("the recorder: connection {}: {why}", end.index + 1),
        };
        ends.into_iter().map(transcript).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.acceptor.cut();
    }
}

fn record(client: &Stream, server: &Stream, secrets: Secrets) -> Transcript {
    let tape = Mutex::new(Tape::new(secrets));
    // Written down before it is passed on: an answer can never stand before its question.
    let pass = |direction, bytes: &[u8], mut to: &Stream| -> Passed {
        tape.lock().unwrap_or_else(PoisonError::into_inner).feed(direction, bytes);
        to.write_all(bytes).map(ControlFlow::Continue)
    };
    let began = refuse_encryption(client, &tape)
        .and_then(|first_bytes| pass(Direction::Frontend, &first_bytes, server));
    if began.is_ok() {
        bridge::join(
            client,
            server,
            |bytes| pass(Direction::Frontend, bytes, server),
            |bytes| pass(Direction::Backend, bytes, client),
        );
    }
    tape.into_inner().unwrap_or_else(PoisonError::into_inner).finish()
}

/// Answers requests for encryption with `N`; gives what the client has sent after them.
fn refuse_encryption(mut client: &Stream, tape: &Mutex<Tape>) -> io::Result<Vec<u8>> {
    let mut received = FrameBuffer::new();
    let mut buffer = [0; 4096];
    loop {
        match received.take_first_packet() {
            Ok(Some(packet)) => {
                let first = FirstPacket::decode(&packet);
                if !matches!(first, Ok(FirstPacket::SslRequest | FirstPacket::GssEncRequest)) {
                    return Ok([packet, received.take_rest()].concat());
                }
                let mut tape = tape.lock().unwrap_or_else(PoisonError::into_inner);
                tape.feed(Direction::Frontend, &packet);
                tape.feed(Direction::Backend, b"N");
                drop(tape);
                client.write_all(b"N")?;
            }
            Ok(None) => match read_some(client, &mut buffer)? {
                0 => return Ok(received.take_rest()),
                count => received.push(buffer.get(..count).unwrap_or_default()),
            },
            Err(_) => return Ok(received.take_rest()),
        }
    }
}
