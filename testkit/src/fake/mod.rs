//! A scripted server: says exactly what a test wants, checks exactly what the client says.
//!
//! [`FakeServer`] listens on a loopback port and on a unix socket; a *script*, a function of one
//! [`FakeConn`], plays the server's side of a connection in a thread of its own. What goes wrong
//! in a script (an unexpected message, a wait that takes too long, a failed assertion) makes the
//! test fail with a text that says what was expected, what came, and the last messages before it:
//! [`FakeServer::join`] panics with it, and so does dropping the server. A script that never
//! ran because nobody connected is a failure as well.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::TcpStream;
//! use testkit::fake::{Answer, FakeServer};
//! use testkit::frames::{self, Column};
//!
//! let server = FakeServer::start(|conn| {
//!     let startup = conn.login()?;
//!     assert_eq!(startup.param("user"), Some("me"));
//!     conn.expect_query("SELECT 1")?;
//!     conn.answer_query(&Answer::rows(&[Column::int4("n")]).row(&[Some(b"1")]))?;
//!     conn.expect_terminate()
//! });
//!
//! // The client: usually a driver with `server.url("me", "app")`.
//! let mut client = TcpStream::connect(("127.0.0.1", server.port()))?;
//! client.write_all(b"\0\0\0\x11\0\x03\0\0user\0me\0\0")?;
//! client.write_all(&frames::message(b'Q', b"SELECT 1\0"))?;
//! client.write_all(&frames::message(b'X', b""))?;
//! let mut answers = Vec::new();
//! client.read_to_end(&mut answers)?;
//! assert!(answers.ends_with(&frames::ready_for_query(b'I')));
//!
//! drop(client);
//! server.join();
//! # Ok::<(), std::io::Error>(())
//! ```

mod answer;
mod conn;
pub mod scram;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::acceptor::{Acceptor, FINISH_LIMIT, address_methods, panic_text};
use crate::frames::Malformed;
use crate::socket::Stream;

pub use answer::Answer;
pub use conn::{FakeConn, SERVER_PARAMETERS};

/// Why a script failed, as text for the person who reads the test's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeError(String);

/// The process id and the secret key in a CancelRequest.
pub type CancelRequest = (i32, Vec<u8>);

/// What a script returns.
pub type FakeResult = Result<(), FakeError>;

/// A script for one connection; [`script`] makes one of a closure.
pub type Script = Box<dyn FnOnce(&mut FakeConn) -> FakeResult + Send>;

/// Boxes a closure for [`FakeServer::start_each`].
pub fn script(play: impl FnOnce(&mut FakeConn) -> FakeResult + Send + 'static) -> Script {
    Box::new(play)
}

impl fmt::Display for FakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FakeError {}

impl From<String> for FakeError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for FakeError {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<Malformed> for FakeError {
    fn from(error: Malformed) -> Self {
        Self(format!("the client sent a malformed message: {error}"))
    }
}

impl From<io::Error> for FakeError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// A scripted server; see the module's documentation.
///
/// Dropping it is the same as [`join`](Self::join), except while a panic is under way already:
/// then what the scripts have to say is printed, and nothing is waited for.
#[derive(Debug)]
#[must_use = "dropping the server at once fails: nobody can have connected yet"]
pub struct FakeServer {
    acceptor: Acceptor<()>,
    /// How many connections must come: one for each script, at least one.
    expected: usize,
    cancel_requests: Arc<Mutex<Vec<CancelRequest>>>,
    joined: bool,
}

impl FakeServer {
    /// Starts a server that plays the same script for every connection; at least one must come.
    /// [`FakeConn::index`] tells the connections apart.
    ///
    /// # Panics
    /// If the machine has no free port or no folder for temporary files.
    pub fn start(script: impl Fn(&mut FakeConn) -> FakeResult + Send + Sync + 'static) -> Self {
        Self::listen(1, move |conn| script(conn))
    }

    /// Starts a server that plays the first script for the first connection and so on; as many
    /// connections must come as there are scripts, no more and no fewer. CancelRequests that come after
    /// them are told by [`cancel_requests`](Self::cancel_requests), and are no error.
    ///
    /// # Panics
    /// If the machine has no free port or no folder for temporary files.
    ///
    /// ```
    /// use std::net::TcpStream;
    /// use testkit::fake::{FakeServer, script};
    ///
    /// let server = FakeServer::start_each(vec![
    ///     script(|conn| conn.reset()),
    ///     script(|conn| conn.expect_eof()),
    /// ]);
    /// let first = TcpStream::connect(("127.0.0.1", server.port()))?;
    /// let second = TcpStream::connect(("127.0.0.1", server.port()))?;
    /// drop((first, second));
    /// server.join();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn start_each(scripts: Vec<Script>) -> Self {
        let count = scripts.len();
        let scripts: Vec<_> = scripts.into_iter().map(Some).collect();
        let scripts = Mutex::new(scripts);
        Self::listen(count, move |conn| {
            let mut scripts = scripts.lock().unwrap_or_else(PoisonError::into_inner);
            let script = scripts.get_mut(conn.index()).and_then(Option::take);
            drop(scripts);
            match script {
                Some(script) => script(conn),
                None => {
                    // A cancel may be repeated any number of times.
                    conn.set_limit(Duration::from_secs(2));
                    match conn.startup() {
                        Err(cancelled) if conn.cancel_request().is_some() => Err(cancelled),
                        _ => Err(format!("came, but there are scripts for only {count}").into()),
                    }
                }
            }
        })
    }

    fn listen(
        expected: usize,
        play: impl Fn(&mut FakeConn) -> FakeResult + Send + Sync + 'static,
    ) -> Self {
        let cancel_requests = Arc::default();
        let cancelled: Arc<Mutex<Vec<_>>> = Arc::clone(&cancel_requests);
        let session = move |index, stream: Arc<Stream>, _: &_| {
            let mut conn = FakeConn::new(index, stream);
            let played = catch_unwind(AssertUnwindSafe(|| play(&mut conn)));
            let cancel_request = conn.cancel_request();
            let is_cancel = cancel_request.is_some();
            // Before it is hung up: whoever has seen that finds it here.
            cancelled.lock().unwrap_or_else(PoisonError::into_inner).extend(cancel_request);
            let result = match played {
                Ok(Err(_)) if is_cancel => Ok(()),
                Ok(Ok(())) => Ok(()),
                Ok(Err(FakeError(text))) => Err(text),
                Err(panic) => Err(panic_text(panic.as_ref())),
            };
            // The end of file, not a RST that a close with unread bytes would send; a script
            // that hung up by itself is no error.
            let _already = conn.hang_up();
            result.map_err(|failure| format!("{failure}{}", conn.last_messages()))
        };
        let acceptor = Acceptor::start(session).expect("a loopback port and a unix socket");
        Self { acceptor, expected, cancel_requests, joined: false }
    }

    /// The CancelRequests that came to scripts that wait for a StartupMessage, in order. Each has been
    /// hung up on, as a real server does.
    pub fn cancel_requests(&self) -> Vec<CancelRequest> {
        self.cancel_requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    address_methods!();

    /// Waits for as many connections as the scripts need and for all scripts to end, for half a
    /// minute at most; takes no more connections then.
    ///
    /// Drop or close the clients first when the scripts wait for that.
    ///
    /// # Panics
    /// If a script failed, is not done, or never ran: with the reason of each.
    #[track_caller]
    pub fn join(self) {
        if let Err(failures) = self.try_join(FINISH_LIMIT) {
            panic!("{failures}");
        }
    }

    /// As [`join`](Self::join) with another limit, for a test that wants to look at the failure.
    ///
    /// # Errors
    /// What `join` panics with.
    pub fn try_join(mut self, limit: Duration) -> FakeResult {
        self.joined = true;
        self.failures(limit).map_or(Ok(()), |failures| Err(FakeError(failures)))
    }

    fn failures(&mut self, limit: Duration) -> Option<String> {
        let ends = self.acceptor.finish(self.expected, limit);
        let mut failures: Vec<String> = ends
            .into_iter()
            .filter_map(|end| end.result.err().map(|why| (end.index, why)))
            .map(|(index, why)| format!("connection {}: {why}", index + 1))
            .collect();
        let came = self.acceptor.accepted();
        if came < self.expected {
            let expected = self.expected;
            failures.push(format!("{came} connections came, but there are scripts for {expected}"));
        }
        (!failures.is_empty()).then(|| format!("the fake server: {}", failures.join("\n")))
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        if self.joined {
            return;
        }
        if thread::panicking() {
            if let Some(failures) = self.failures(Duration::ZERO) {
                eprintln!("while the test fails already: {failures}");
            }
        } else if let Some(failures) = self.failures(FINISH_LIMIT) {
            panic!("{failures}");
        }
    }
}
