//! One client of the pooler: its login, and then one transaction after another.
//!
//! After the login a single loop serves both sides, without blocking on either, so that neither can
//! wait for the pooler while the pooler waits for the other. It blocks in two places only: in
//! [`Serving::wait`], and in [`Servers::lend`] between two transactions, when the client has got
//! all answers.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;

use super::cancel::{Key, Keys};
use super::exchange::{Exchange, Verdict};
use super::servers::{Backend, Lease, Servers};
use super::{Pooling, Refusal};
use crate::acceptor::LIMIT;
use crate::frames::{self, FirstPacket, Frame, FrameBuffer, Startup, protocol_version};
use crate::socket::{Stream, Wanted, read_some, wait_ready};

/// How many bytes may be on their way in one direction before the pooler reads no more of them.
const ROOM: usize = 1 << 20;

/// Serves a connection to its end. Its failures are the client's to see.
pub(super) fn serve(index: usize, stream: &Stream, servers: &Servers, keys: &Keys) {
    let mut received = FrameBuffer::new();
    let served = match log_in(stream, &mut received, servers, keys) {
        Ok(Login::Startup(startup)) => {
            let key = keys.register(index);
            Serving::begin(stream, received, servers, key, &startup).and_then(Serving::run)
        }
        Ok(Login::Cancelled) => Ok(()),
        Err(end) => Err(end),
    };
    // A client that has gone hears neither the reason nor the end.
    if let Err(End::Refused(refusal)) = served {
        let _gone = write_out(stream, &refusal.to_bytes());
    }
    let _gone = stream.hang_up();
}

/// Why a client is served no longer.
#[derive(Debug)]
enum End {
    /// A connection broke, the client's or the server's.
    Lost,
    /// The pooler has to say why.
    Refused(Refusal),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        End::Lost
    }
}

impl From<frames::Malformed> for End {
    fn from(error: frames::Malformed) -> Self {
        End::Refused(Refusal::new(error.to_string()))
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        End::Refused(refusal)
    }
}

/// Writes all of it, for a limited time.
fn write_out(mut stream: &Stream, bytes: &[u8]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(LIMIT)?;
    stream.write_all(bytes)
}

/// What a connection began with.
enum Login {
    Startup(Startup),
    /// A CancelRequest, which has been passed on.
    Cancelled,
}

/// Answers everything up to the StartupMessage.
fn log_in(
    mut stream: &Stream,
    received: &mut FrameBuffer,
    servers: &Servers,
    keys: &Keys,
) -> Result<Login, End> {
    loop {
        let Some(packet) = received.take_first_packet()? else {
            let mut piece = [0; 4096];
            match read_some(stream, &mut piece)? {
                0 => return Err(End::Lost),
                count => received.push(piece.get(..count).unwrap_or_default()),
            }
            continue;
        };
        match FirstPacket::decode(&packet)? {
            FirstPacket::SslRequest | FirstPacket::GssEncRequest => stream.write_all(b"N")?,
            FirstPacket::CancelRequest { process_id, secret_key } => {
                keys.cancel(process_id, &secret_key, servers.target())?;
                return Ok(Login::Cancelled);
            }
            FirstPacket::Startup(startup) => {
                check_startup(&startup, servers.pooling())?;
                return Ok(Login::Startup(startup));
            }
        }
    }
}

/// Refuses what the server connections are not: they are logged in already.
fn check_startup(startup: &Startup, pooling: &Pooling) -> Result<(), Refusal> {
    let user = startup.param("user").unwrap_or_default();
    let database = startup.param("database").unwrap_or(user);
    if (user, database) != (&pooling.user, &pooling.database) {
        return Err(Refusal::new(format!("no connections of {user} in the database {database}")));
    }
    let is_supported = |name: &str, value: &str| match name {
        "user" | "database" | "application_name" => true,
        "client_encoding" => matches!(value.to_ascii_uppercase().as_str(), "UTF8" | "UTF-8"),
        name => name.starts_with("_pq_."),
    };
    match startup.params.iter().find(|(name, value)| !is_supported(name, value)) {
        Some((name, value)) => {
            Err(Refusal::new(format!("unsupported startup parameter: {name}={value}")))
        }
        None => Ok(()),
    }
}

/// What a client hears at login: the server's own parameters, and a key of the pooler's.
fn welcome(startup: &Startup, servers: &Servers, key: &Key<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let options = startup.params.iter().map(|(name, _)| name.as_str());
    let options: Vec<&str> = options.filter(|name| name.starts_with("_pq_.")).collect();
    if startup.version > (3, 0) || !options.is_empty() {
        bytes.extend(frames::negotiate_protocol_version(protocol_version(3, 0), &options));
    }
    bytes.extend(frames::authentication_ok());
    for (name, value) in servers.parameters() {
        bytes.extend(frames::parameter_status(name, value));
    }
    bytes.extend(frames::backend_key_data(key.process_id(), key.secret_key()));
    bytes.extend(frames::ready_for_query(b'I'));
    bytes
}

/// A client that is logged in.
struct Serving<'a> {
    servers: &'a Servers,
    key: Key<'a>,
    client: Client<'a>,
    /// The server connection of the transaction under way.
    held: Option<Held<'a>>,
    exchange: Exchange,
    /// Where the last transaction ran, or the one under way.
    previous: Option<Backend>,
}

/// The client's side.
struct Client<'a> {
    stream: &'a Stream,
    received: FrameBuffer,
    unsent: Outbox,
    /// What is received has to wait; more of it need not be read.
    stalled: bool,
    /// It has hung up or said Terminate: nothing more comes.
    ended: bool,
    /// It takes nothing more.
    deaf: bool,
}

/// The server's side, while there is one.
struct Held<'a> {
    lease: Lease<'a>,
    unsent: Outbox,
    /// The ReadyForQuery that ended the transaction. The client gets it when the connection has
    /// been given back, so that who has the answer can rely on that.
    last: Option<Frame>,
}

impl<'a> Serving<'a> {
    fn begin(
        stream: &'a Stream,
        received: FrameBuffer,
        servers: &'a Servers,
        key: Key<'a>,
        startup: &Startup,
    ) -> Result<Self, End> {
        stream.set_nonblocking(true)?;
        let unsent = Outbox(welcome(startup, servers, &key));
        let client = Client { stream, received, unsent, stalled: false, ended: false, deaf: false };
        let exchange = Exchange::default();
        Ok(Self { servers, key, client, held: None, exchange, previous: None })
    }

    fn run(mut self) -> Result<(), End> {
        loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) if self.is_over() => return Ok(()),
                Ok(false) => self.wait()?,
                Err(end) => {
                    // What the server said before it died, or before the pooler refused to go on.
                    write_out(self.client.stream, &self.client.unsent.0)?;
                    return Err(end);
                }
            }
        }
    }

    /// Moves what can be moved now; `false` if that is nothing. Answers go first: a client has to
    /// have the last one before its next transaction begins, which may have to wait.
    fn turn(&mut self) -> Result<bool, End> {
        let heard = self.hear_server()?;
        let released = self.release();
        let answered = self.client.flush();
        let listened = self.client.read();
        let took = self.take_messages()?;
        let asked = self.held.as_mut().is_some_and(Held::flush);
        Ok(heard || released || answered || listened || took || asked)
    }

    fn is_over(&self) -> bool {
        self.client.ended && self.held.is_none() && self.client.has_got_all()
    }

    fn hear_server(&mut self) -> Result<bool, End> {
        let Some(held) = &mut self.held else {
            return Ok(false);
        };
        let mut any = false;
        while held.last.is_none() && self.client.unsent.has_room() {
            let Some(frame) = held.lease.server.try_receive().map_err(|_| End::Lost)? else {
                break;
            };
            any = true;
            if self.exchange.heard(&frame) {
                held.last = Some(frame);
            } else {
                self.client.tell(&frame);
            }
        }
        Ok(any)
    }

    /// Gives the server connection back when the transaction is over. COPY data behind a failed
    /// COPY goes out first: half a message must not stay behind.
    fn release(&mut self) -> bool {
        let is_over = |held: &mut Held<'_>| held.last.is_some() && held.unsent.0.is_empty();
        let Some(Held { lease, last, .. }) = self.held.take_if(is_over) else {
            return false;
        };
        self.key.stands_for(None);
        lease.give_back();
        if let Some(last) = last {
            self.client.tell(&last);
        }
        true
    }

    /// Passes the client's messages on as far as it is their turn.
    fn take_messages(&mut self) -> Result<bool, End> {
        let mut any = false;
        while self.may_take() {
            let Some(frame) = self.next_message()? else {
                break;
            };
            any = true;
            match self.exchange.verdict(frame.tag) {
                Verdict::Pass => self.pass(&frame)?,
                Verdict::Ignore => {}
                Verdict::Leave => self.client.leave(),
                Verdict::Refuse(why) => return Err(Refusal::new(why).into()),
            }
        }
        self.client.stalled = !self.may_take();
        Ok(any)
    }

    /// Whether the client's next message has its turn.
    fn may_take(&self) -> bool {
        match &self.held {
            Some(held) => {
                !self.exchange.awaits_answer() && held.last.is_none() && held.unsent.has_room()
            }
            None => self.client.has_got_all(),
        }
    }

    /// The client's next message. One that is gone and has left its transaction open is made to end
    /// it.
    fn next_message(&mut self) -> Result<Option<Frame>, End> {
        let received = &mut self.client.received;
        let frame = received.take_frame()?;
        if frame.is_some() || !self.client.ended || self.held.is_none() {
            return Ok(frame);
        }
        // Behind a message of which the rest never came.
        received.take_rest();
        received.push(&self.exchange.farewell());
        Ok(received.take_frame()?)
    }

    fn pass(&mut self, frame: &Frame) -> Result<(), End> {
        let held = match &mut self.held {
            Some(held) => held,
            None => {
                let lease = self.servers.lend(self.previous)?;
                self.previous = Some(lease.backend());
                self.key.stands_for(Some(&lease.server));
                self.held.insert(Held { lease, unsent: Outbox::default(), last: None })
            }
        };
        self.exchange.said(frame.tag);
        held.unsent.push(&frame.to_bytes());
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let client = Wanted {
            fd: self.client.stream.as_raw_fd(),
            read: self.client.wants_more(),
            write: !self.client.has_got_all(),
        };
        let Some(held) = &self.held else {
            return wait_ready([client]);
        };
        let server = Wanted {
            fd: held.lease.server.stream().as_raw_fd(),
            read: held.last.is_none() && self.client.unsent.has_room(),
            write: !held.unsent.0.is_empty(),
        };
        wait_ready([client, server])
    }
}

impl Held<'_> {
    /// Whether anything went out. What a server does not take any more is dropped: reading from it
    /// tells the rest.
    fn flush(&mut self) -> bool {
        self.unsent.flush(self.lease.server.stream()).unwrap_or_else(|_lost| {
            self.unsent.0.clear();
            true
        })
    }
}

impl Client<'_> {
    fn tell(&mut self, frame: &Frame) {
        if !self.deaf {
            self.unsent.push(&frame.to_bytes());
        }
    }

    fn has_got_all(&self) -> bool {
        self.unsent.0.is_empty()
    }

    fn wants_more(&self) -> bool {
        let is_full = self.stalled && self.received.rest().len() >= ROOM;
        !self.ended && !is_full
    }

    fn leave(&mut self) {
        self.ended = true;
        self.received.take_rest();
    }

    /// Whether anything went out. A client that has gone gets no answers, but what it has said
    /// before is done to the end, as a server does.
    fn flush(&mut self) -> bool {
        self.unsent.flush(self.stream).unwrap_or_else(|_gone| {
            self.deaf = true;
            self.unsent.0.clear();
            true
        })
    }

    /// Whether anything came, be it the end.
    fn read(&mut self) -> bool {
        if !self.wants_more() {
            return false;
        }
        let mut piece = [0; 64 * 1024];
        match read_some(self.stream, &mut piece) {
            Ok(count @ 1..) => self.received.push(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Ok(0) | Err(_) => self.ended = true,
        }
        true
    }
}

/// What a socket has not taken yet.
#[derive(Debug, Default)]
struct Outbox(Vec<u8>);

impl Outbox {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn has_room(&self) -> bool {
        self.0.len() < ROOM
    }

    /// Writes what the socket takes now; whether it took any.
    fn flush(&mut self, mut to: &Stream) -> io::Result<bool> {
        let mut taken = 0;
        while let Some(rest) = self.0.get(taken..).filter(|rest| !rest.is_empty()) {
            match to.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.0.drain(..taken);
        Ok(taken > 0)
    }
}
