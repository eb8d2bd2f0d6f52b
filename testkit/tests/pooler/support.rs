//! Clients of the pooler, messages for them to say, and what a transaction can leave behind.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use testkit::frames::{Frame, FrameBuffer, message};
use testkit::pooler::{Pooler, Pooling};
use testkit::raw::RawClient;
use testkit::transport::Target;

pub(crate) const MY_PID: &str = "SELECT pg_backend_pid()";

pub(crate) fn pooler(pooling: Pooling) -> Pooler {
    Pooler::start(testkit::shared().tcp(), pooling)
}

pub(crate) fn connect(pooler: &Pooler) -> RawClient {
    let target = Target::port(pooler.port());
    RawClient::connect(&target, "postgres", "postgres", None).unwrap()
}

/// A socket on which nothing has been said yet.
pub(crate) fn bare(pooler: &Pooler) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", pooler.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// A session with the server itself.
pub(crate) fn direct() -> RawClient {
    testkit::shared().client("postgres").unwrap()
}

/// The backend in which the client's next transaction runs.
#[track_caller]
pub(crate) fn backend_of(client: &mut RawClient) -> u32 {
    client.value(MY_PID).unwrap().unwrap().parse().unwrap()
}

/// How many different ones there are.
pub(crate) fn distinct<T: Ord>(items: impl IntoIterator<Item = T>) -> usize {
    items.into_iter().collect::<BTreeSet<T>>().len()
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Bind without parameters, and Execute, of the unnamed portal.
pub(crate) fn bind_and_execute(statement: &str) -> Vec<u8> {
    let bind = message(b'B', format!("\0{statement}\0\0\0\0\0\0\0").as_bytes());
    [bind, message(b'E', b"\0\0\0\0\0")].concat()
}

pub(crate) fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// A whole group: a statement that has no name, in one round trip.
pub(crate) fn unnamed(sql: &str) -> Vec<u8> {
    [parse("", sql), bind_and_execute(""), sync()].concat()
}

/// What the server says up to its ReadyForQuery, that included.
#[track_caller]
pub(crate) fn answer(client: &mut RawClient) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.last().is_none_or(|frame: &Frame| frame.tag != b'Z') {
        frames.push(client.receive().unwrap());
    }
    frames
}

#[track_caller]
pub(crate) fn ask(client: &mut RawClient, messages: &[u8]) -> Vec<Frame> {
    client.write(messages).unwrap();
    answer(client)
}

pub(crate) fn tags(frames: &[Frame]) -> String {
    frames.iter().map(|frame| char::from(frame.tag)).collect()
}

/// The SQLSTATE of the ErrorResponse among them.
pub(crate) fn error_code(frames: &[Frame]) -> Option<String> {
    let error = frames.iter().find(|frame| frame.tag == b'E')?;
    let mut fields = error.body.split(|byte| *byte == 0);
    let code = fields.find_map(|field| field.strip_prefix(b"C"))?;
    Some(String::from_utf8_lossy(code).into_owned())
}

/// The text of the only cell of the first row.
pub(crate) fn cell(frames: &[Frame]) -> String {
    let row = frames.iter().find(|frame| frame.tag == b'D').expect("a row");
    String::from_utf8(row.body[6..].to_vec()).unwrap()
}

/// A client on a bare socket, which can go without a Terminate, and speak while it listens.
pub(crate) struct Bare {
    pub(crate) stream: TcpStream,
    pub(crate) received: FrameBuffer,
}

impl Bare {
    pub(crate) fn connect(pooler: &Pooler) -> Bare {
        let mut client = Bare { stream: bare(pooler), received: FrameBuffer::new() };
        client.say(&message(0, b"\0\x03\0\0user\0postgres\0\0")[1..]);
        client.hear(b'Z');
        client
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads up to a message with this tag.
    #[track_caller]
    pub(crate) fn hear(&mut self, tag: u8) -> Frame {
        loop {
            match self.received.take_frame().unwrap() {
                Some(frame) if frame.tag == tag => return frame,
                Some(_) => continue,
                None => {}
            }
            let mut piece = [0; 64 * 1024];
            let count = self.stream.read(&mut piece).unwrap();
            assert!(count > 0, "the pooler hangs up");
            self.received.push(&piece[..count]);
        }
    }
}

/// What a transaction can leave behind: a row in a table of its own, and a lock.
pub(crate) struct Trace {
    pub(crate) table: String,
    pub(crate) key: u32,
}

impl Trace {
    pub(crate) fn new() -> Trace {
        let table = testkit::unique("trace");
        let mut client = direct();
        client.simple(&format!("CREATE TABLE {table} (note text)")).unwrap();
        let oid = client.value(&format!("SELECT '{table}'::regclass::oid")).unwrap();
        Trace { table, key: oid.unwrap().parse().unwrap() }
    }

    /// A statement that leaves both to the end of its transaction.
    pub(crate) fn insert(&self) -> String {
        let Trace { table, key } = self;
        format!("INSERT INTO {table} SELECT 'x' FROM pg_advisory_xact_lock({key})")
    }

    pub(crate) fn copy(&self) -> String {
        format!("COPY {} FROM STDIN", self.table)
    }

    /// The rows, as soon as nobody holds the lock.
    pub(crate) fn rows(&self) -> String {
        let Trace { table, key } = self;
        let mut client = direct();
        client.simple(&format!("SELECT pg_advisory_lock({key})")).unwrap();
        client.value(&format!("SELECT count(*) FROM {table}")).unwrap().unwrap()
    }
}
