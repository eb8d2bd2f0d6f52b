//! The listening half that the fake server, the relay, the recorder and the pooler share: one
//! loopback port and one unix socket, a thread for each connection, and an end that loses no
//! connection and no failure.
//!
//! Knows no protocol: a session is a function from a stream to a result.

use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::socket::{Stream, wait_readable};

/// How long anything in here waits before it gives up with an error.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// How long `finish` waits for sessions: longer than [`LIMIT`], so that a session stuck in one of
/// its own waits gets to say which.
pub(crate) const FINISH_LIMIT: Duration = Duration::from_secs(25);

/// The longest path of a unix socket that every platform takes.
const MAX_SOCKET_PATH: usize = 103;

/// Where an [`Acceptor`] listens. Dropping it removes the socket's directory.
#[derive(Debug)]
pub(crate) struct Address {
    port: u16,
    directory: TempDir,
}

impl Address {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn socket_dir(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn url(&self, user_info: &str, path: &str) -> String {
        format!("postgres://{user_info}@127.0.0.1:{}/{path}", self.port)
    }

    pub(crate) fn socket_url(&self, user_info: &str, path: &str) -> String {
        let directory = self.directory.path().display().to_string();
        let host = directory.replace('%', "%25").replace('/', "%2F");
        format!("postgres://{user_info}@{host}:{}/{path}", self.port)
    }
}

/// The public methods by which a user finds the listener in the field `acceptor`.
macro_rules! address_methods {
    () => {
        /// The TCP port on 127.0.0.1.
        pub fn port(&self) -> u16 {
            self.acceptor.address().port()
        }

        /// The directory of the unix socket `.s.PGSQL.<port>`, as libpq's `host` takes it.
        pub fn socket_dir(&self) -> &std::path::Path {
            self.acceptor.address().socket_dir()
        }

        /// A connection URL over TCP: `postgres://<user_info>@127.0.0.1:<port>/<path>`, where
        /// `user_info` is `user` or `user:password`, and `path` the database with what may follow,
        /// as in `app?sslmode=disable`.
        pub fn url(&self, user_info: &str, path: &str) -> String {
            self.acceptor.address().url(user_info, path)
        }

        /// The same over the unix socket, its directory percent-encoded as the host.
        pub fn socket_url(&self, user_info: &str, path: &str) -> String {
            self.acceptor.address().socket_url(user_info, path)
        }

        /// How many connections have been accepted so far.
        pub fn connections(&self) -> usize {
            self.acceptor.accepted()
        }
    };
}
pub(crate) use address_methods;

/// The sockets of the sessions under way, so that an owner who goes away can end them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live(Arc<Mutex<LiveStreams>>);

#[derive(Debug, Default)]
struct LiveStreams {
    streams: Vec<Weak<Stream>>,
    /// No more are wanted: a stream that comes now is cut at once.
    cut: bool,
}

impl Live {
    pub(crate) fn add(&self, stream: &Arc<Stream>) {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        live.streams.retain(|stream| stream.strong_count() > 0);
        live.streams.push(Arc::downgrade(stream));
        if live.cut {
            stream.shutdown(Shutdown::Both);
        }
    }

    /// Shuts them all down, also those to come; their sessions see the end of file.
    pub(crate) fn cut(&self) {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        live.cut = true;
        for stream in live.streams.iter().filter_map(Weak::upgrade) {
            stream.shutdown(Shutdown::Both);
        }
    }
}

/// How many connections have been accepted, for others to ask and to wait for.
#[derive(Debug, Default)]
struct Count {
    value: Mutex<usize>,
    changed: Condvar,
}

impl Count {
    fn get(&self) -> usize {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more and gives its number, from 0.
    fn next(&self) -> usize {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        *value += 1;
        self.changed.notify_all();
        *value - 1
    }

    fn wait_for(&self, least: usize, deadline: Instant) {
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        // Whether enough came, the caller sees from the count.
        let _enough = self.changed.wait_timeout_while(value, left, |value| *value < least);
    }
}

/// How the session of a connection ended; the text says why it failed.
#[derive(Debug)]
pub(crate) struct End<T> {
    /// The connection's number, counted from 0 in the order of acceptance.
    pub(crate) index: usize,
    pub(crate) result: Result<T, String>,
}

/// Listens and runs a session in a thread of its own for each connection.
#[derive(Debug)]
pub(crate) struct Acceptor<T> {
    address: Address,
    /// Its other end sits in the accepting thread; closing this one stops the accepting.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<io::Result<()>>>,
    accepted: Arc<Count>,
    ends: Receiver<End<T>>,
    live: Live,
}

impl<T: Send + 'static> Acceptor<T> {
    /// Starts listening. `session` gets the connection's number, its stream, and the list to
    /// which it adds whatever other socket it opens.
    pub(crate) fn start<F>(session: F) -> io::Result<Self>
    where
        F: Fn(usize, Arc<Stream>, &Live) -> Result<T, String> + Send + Sync + 'static,
    {
        let tcp = TcpListener::bind(("127.0.0.1", 0))?;
        let port = tcp.local_addr()?.port();
        let directory = short_directory()?;
        let unix = UnixListener::bind(directory.path().join(format!(".s.PGSQL.{port}")))?;
        tcp.set_nonblocking(true)?;
        unix.set_nonblocking(true)?;
        let (stop, stopped) = UnixStream::pair()?;
        stopped.set_nonblocking(true)?;
        let (sender, ends) = channel();
        let accepted = Arc::new(Count::default());
        let live = Live::default();
        let accepting = Accepting {
            tcp,
            unix,
            stopped,
            session: Arc::new(session),
            sender,
            accepted: Arc::clone(&accepted),
            live: live.clone(),
        };
        let thread =
            thread::Builder::new().name(format!("accept {port}")).spawn(move || accepting.run())?;
        let address = Address { port, directory };
        Ok(Self { address, stop: Some(stop), thread: Some(thread), accepted, ends, live })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.get()
    }

    /// Waits for at least `expected` connections, stops accepting, after the connections made so
    /// far have been taken, and waits for all sessions: `limit` for all of that. A session that
    /// is not done by then is reported as failed and its socket cut. The ends come in the
    /// connections' order.
    pub(crate) fn finish(&mut self, expected: usize, limit: Duration) -> Vec<End<T>> {
        let deadline = Instant::now() + limit;
        self.accepted.wait_for(expected, deadline);
        let mut ends: Vec<End<T>> = Vec::new();
        if let Err(error) = self.stop_accepting() {
            let index = self.accepted();
            ends.push(End { index, result: Err(format!("cannot accept: {error}")) });
        }
        let accepted = self.accepted();
        let mut done = vec![false; accepted];
        while done.contains(&false) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(end) = self.ends.recv_timeout(left) else {
                break;
            };
            done[end.index] = true;
            ends.push(end);
        }
        for (index, _) in done.iter().enumerate().filter(|(_, done)| !**done) {
            let result = Err(format!("not done after {limit:?}"));
            ends.push(End { index, result });
        }
        self.live.cut();
        ends.sort_by_key(|end| end.index);
        ends
    }
}

impl<T> Acceptor<T> {
    /// Stops accepting and ends all sessions by cutting their sockets; nobody wants their results.
    pub(crate) fn cut(&mut self) {
        // Whether it could accept to the end matters to nobody any more.
        let _unwanted = self.stop_accepting();
        self.live.cut();
    }

    fn stop_accepting(&mut self) -> io::Result<()> {
        self.stop = None;
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the accepting thread panicked")))
    }
}

/// A directory whose socket path fits into a `sockaddr_un`, wherever TMPDIR points.
fn short_directory() -> io::Result<TempDir> {
    let prefix = "pg-";
    let directory = tempfile::Builder::new().prefix(prefix).tempdir()?;
    let longest = directory.path().join(".s.PGSQL.65535");
    if longest.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok(directory);
    }
    tempfile::Builder::new().prefix(prefix).tempdir_in("/tmp")
}

/// What the accepting thread owns.
struct Accepting<T, F> {
    tcp: TcpListener,
    unix: UnixListener,
    stopped: UnixStream,
    session: Arc<F>,
    sender: Sender<End<T>>,
    accepted: Arc<Count>,
    live: Live,
}

impl<T, F> Accepting<T, F>
where
    T: Send + 'static,
    F: Fn(usize, Arc<Stream>, &Live) -> Result<T, String> + Send + Sync + 'static,
{
    fn run(&self) -> io::Result<()> {
        loop {
            let descriptors =
                [self.tcp.as_raw_fd(), self.unix.as_raw_fd(), self.stopped.as_raw_fd()];
            wait_readable(descriptors)?;
            // Asked before accepting: a connection made before the stop is in the backlog by now.
            let stop = self.stop_asked();
            while let Some(stream) = self.accept()? {
                self.spawn(stream)?;
            }
            if stop {
                return Ok(());
            }
        }
    }

    /// The owner never writes: the end of file is the only thing that can be read.
    fn stop_asked(&self) -> bool {
        matches!(io::Read::read(&mut &self.stopped, &mut [0]), Ok(0))
    }

    fn accept(&self) -> io::Result<Option<Stream>> {
        loop {
            let accepted = match self.tcp.accept() {
                Ok((stream, _)) => Stream::from_tcp(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.unix.accept().map(|(stream, _)| Stream::Unix(stream))
                }
                Err(error) => Err(error),
            };
            match accepted {
                Ok(stream) => {
                    // On the BSDs and macOS an accepted socket inherits the listener's mode.
                    stream.set_nonblocking(false)?;
                    return Ok(Some(stream));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(None),
                    // The client has gone before it was accepted, or a signal came: go on.
                    io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::Interrupted
                    | io::ErrorKind::InvalidInput => {}
                    _ => return Err(error),
                },
            }
        }
    }

    fn spawn(&self, stream: Stream) -> io::Result<()> {
        let stream = Arc::new(stream);
        self.live.add(&stream);
        let index = self.accepted.next();
        let (session, sender, live) =
            (Arc::clone(&self.session), self.sender.clone(), self.live.clone());
        thread::Builder::new().name(format!("session {index}")).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| session(index, stream, &live)))
                .unwrap_or_else(|panic| Err(panic_text(panic.as_ref())));
            // Nobody listens any more when the owner gave up waiting.
            let _nobody = sender.send(End { index, result });
        })?;
        Ok(())
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("with something that is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn connections_made_before_the_end_all_get_their_session() {
        let mut acceptor = Acceptor::start(|index, _, _| Ok(index)).unwrap();
        let port = acceptor.address().port();
        let socket = acceptor.address().socket_dir().join(format!(".s.PGSQL.{port}"));
        let tcp: Vec<_> = (0..20).map(|_| TcpStream::connect(("127.0.0.1", port))).collect();
        let unix: Vec<_> = (0..20).map(|_| UnixStream::connect(&socket)).collect();
        assert!(tcp.iter().all(Result::is_ok) && unix.iter().all(Result::is_ok));
        let ends = acceptor.finish(0, LIMIT);
        let indices: Vec<_> = ends.into_iter().map(|end| end.result.unwrap()).collect();
        assert_eq!(indices, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn the_end_waits_for_expected_connections() {
        let mut acceptor = Acceptor::start(|index, _, _| Ok(index)).unwrap();
        let port = acceptor.address().port();
        let client = thread::spawn(move || TcpStream::connect(("127.0.0.1", port)));
        assert_eq!(acceptor.finish(1, LIMIT).len(), 1);
        assert!(client.join().unwrap().is_ok());
    }

    #[test]
    fn a_panic_is_the_sessions_end() {
        let mut acceptor =
            Acceptor::start(|_, _, _| -> Result<(), String> { panic!("on purpose") }).unwrap();
        let _client = TcpStream::connect(("127.0.0.1", acceptor.address().port())).unwrap();
        let end = acceptor.finish(0, LIMIT).pop().unwrap();
        assert_eq!(end.result.unwrap_err(), "panicked: on purpose");
    }

    #[test]
    fn a_session_that_does_not_end_is_reported_and_cut() {
        let mut acceptor = Acceptor::start(|_, stream, _| {
            let ended = crate::socket::read_some(&stream, &mut [0; 1]);
            ended.map_err(|error| error.to_string())
        })
        .unwrap();
        let client = TcpStream::connect(("127.0.0.1", acceptor.address().port())).unwrap();
        let end = acceptor.finish(1, Duration::from_millis(1)).pop().unwrap();
        assert_eq!(end.result.unwrap_err(), "not done after 1ms");
        let cut = io::Read::read(&mut &client, &mut [0; 1]).unwrap();
        assert_eq!(cut, 0, "the client sees the end of file");
    }

    #[test]
    fn urls_name_the_port_and_the_socket() {
        let directory = tempfile::Builder::new().prefix("50%-").tempdir().unwrap();
        let path = directory.path().display().to_string();
        let address = Address { port: 7, directory };
        assert_eq!(address.url("me:pw", "db?a=b"), "postgres://me:pw@127.0.0.1:7/db?a=b");
        let url = address.socket_url("me", "db");
        let host = url.strip_prefix("postgres://me@").and_then(|url| url.strip_suffix(":7/db"));
        assert_eq!(host.unwrap().replace("%2F", "/").replace("%25", "%"), path);
        assert!(url.contains("50%25-"), "{url}");
    }

    #[test]
    fn the_socket_path_is_short_enough() {
        let directory = short_directory().unwrap();
        assert!(directory.path().as_os_str().len() < MAX_SOCKET_PATH - 14);
    }
}
