//! A scripted server for a crowd: thousands of clients in one thread, with little memory for each.
//!
//! The [`fake`](crate::fake) server plays any script, in a thread for each connection, and ten
//! thousand threads are too many. This one plays a single script, out of one epoll(7) loop: it lets
//! everybody in without a password, and answers the statement [`POINT`]. Whoever says anything else
//! is told so with a FATAL error, and hung up on.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use crate::fake::SERVER_PARAMETERS;
use crate::frames::{self, Bind, Column, FirstPacket, Frame, FrameBuffer, Malformed, Subject};

/// The statement that is answered. `id` is an int4; there is a point for every one, with the
/// int4 columns `a`, twice the id, and `b`, three times the id.
pub const POINT: &str = "select a, b from points where id = $1";

const COLUMNS: [Column<'static>; 2] = [Column::int4("a"), Column::int4("b")];

/// PostgreSQL's number for the type int4.
const INT4_OID: u32 = 23;

/// How many clients may wait to be accepted; the system has a limit of its own.
const BACKLOG: i32 = 4096;

/// The keys of what epoll watches; clients have smaller ones.
const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// The server. It serves while [`serve_until`](Self::serve_until) runs; dropping it hangs up on
/// everybody.
#[derive(Debug)]
pub struct Crowd {
    listener: TcpListener,
    epoll: OwnedFd,
    clients: HashMap<u64, Client>,
    /// The key of the next client.
    next: u64,
}

/// A client that is connected.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    session: Session,
}

impl Crowd {
    /// Begins to listen on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn listen() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // A second time, for the longer backlog.
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { listener, epoll, clients: HashMap::new(), next: 0 })
    }

    /// The port that it listens on.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Serves until `stop` can be read from, or has been hung up on.
    ///
    /// # Errors
    /// Of epoll, and of accepting: the limit of open files is the likely one. A client that goes
    /// away or misbehaves is no error.
    pub fn serve_until(&mut self, stop: impl AsFd) -> io::Result<()> {
        epoll::add(&self.epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
        let mut events = Vec::with_capacity(1024);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    STOP => return Ok(epoll::delete(&self.epoll, &stop)?),
                    LISTENER => self.accept()?,
                    client => self.serve(client),
                }
            }
        }
    }

    /// Takes in everybody who waits.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => return Err(error),
                },
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let key = EventData::new_u64(self.next);
            epoll::add(&self.epoll, &stream, key, EventFlags::IN)?;
            self.clients.insert(self.next, Client { stream, session: Session::default() });
            self.next += 1;
        }
    }

    /// Reads what a client says, once, and answers. A client that has gone is forgotten, which closes
    /// its socket, so that epoll forgets it too.
    fn serve(&mut self, key: u64) {
        let stays = self.clients.get_mut(&key).is_some_and(Client::serve);
        if !stays {
            self.clients.remove(&key);
        }
    }
}

impl Client {
    /// Whether it stays.
    fn serve(&mut self) -> bool {
        let mut said = [0; 4096];
        let count = match self.stream.read(&mut said) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        };
        let mut answer = Vec::new();
        let stays = self.session.hear(said.get(..count).unwrap_or_default(), &mut answer);
        // An answer fits into the socket of a client that reads; of one that does not, the server is
        // rid.
        self.stream.write_all(&answer).is_ok() && stays
    }
}

/// What the server knows of a client's session. Knows no socket.
#[derive(Debug, Default)]
struct Session {
    heard: FrameBuffer,
    is_logged_in: bool,
    /// The id that the last Bind asks for, and the formats of its columns.
    bound: Option<(i32, [i16; COLUMNS.len()])>,
}

impl Session {
    /// Takes in what was said and puts what there is to say behind `answer`; whether the session goes
    /// on.
    fn hear(&mut self, said: &[u8], answer: &mut Vec<u8>) -> bool {
        self.heard.push(said);
        self.answer(answer).unwrap_or_else(|error| {
            let fields = [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "0A000")];
            let text = error.to_string();
            answer.extend(frames::error_response(&[&fields[..], &[(b'M', &text)]].concat()));
            false
        })
    }

    fn answer(&mut self, answer: &mut Vec<u8>) -> Result<bool, Malformed> {
        while !self.is_logged_in {
            let Some(packet) = self.heard.take_first_packet()? else { return Ok(true) };
            match FirstPacket::decode(&packet)? {
                FirstPacket::SslRequest | FirstPacket::GssEncRequest => answer.push(b'N'),
                FirstPacket::CancelRequest { .. } => return Ok(false),
                FirstPacket::Startup(_) => {
                    welcome(answer);
                    self.is_logged_in = true;
                }
            }
        }
        while let Some(frame) = self.heard.take_frame()? {
            if frame.tag == b'X' {
                return Ok(false);
            }
            self.answer_frame(&frame, answer)?;
        }
        Ok(true)
    }

    fn answer_frame(&mut self, frame: &Frame, answer: &mut Vec<u8>) -> Result<(), Malformed> {
        match frame.tag {
            b'P' => {
                let sql = frame.as_parse()?.sql;
                if sql != POINT {
                    return Err(Malformed::new(format!("{sql:?} is not {POINT:?}")));
                }
                answer.extend(frames::parse_complete());
            }
            b'D' => {
                let mut formats = [0; COLUMNS.len()];
                match frame.as_describe()? {
                    Subject::Statement(_) => {
                        answer.extend(frames::parameter_description(&[INT4_OID]));
                    }
                    Subject::Portal(_) => formats = self.bound()?.1,
                }
                let with_format = |index| Column { format: formats[index], ..COLUMNS[index] };
                let columns: [Column<'_>; COLUMNS.len()] = std::array::from_fn(with_format);
                answer.extend(frames::row_description(&columns));
            }
            b'B' => {
                self.bound = Some(bind(&frame.as_bind()?)?);
                answer.extend(frames::bind_complete());
            }
            b'E' => {
                let (id, formats) = self.bound()?;
                let values = [id.wrapping_mul(2), id.wrapping_mul(3)];
                let [a, b] = std::array::from_fn(|index| match formats[index] {
                    0 => values[index].to_string().into_bytes(),
                    _ => values[index].to_be_bytes().to_vec(),
                });
                answer.extend(frames::data_row(&[Some(&a), Some(&b)]));
                answer.extend(frames::command_complete("SELECT 1"));
            }
            b'C' => answer.extend(frames::close_complete()),
            b'S' => answer.extend(frames::ready_for_query(b'I')),
            // Whatever there is to say is sent at once.
            b'H' => {}
            _ => {
                let said = frame.describe(frames::Direction::Frontend);
                return Err(Malformed::new(format!("{said} is not in the script")));
            }
        }
        Ok(())
    }

    fn bound(&self) -> Result<(i32, [i16; COLUMNS.len()]), Malformed> {
        self.bound.ok_or_else(|| Malformed::new("nothing has been bound"))
    }
}

/// The id that a Bind asks for, and in which formats.
fn bind(bind: &Bind) -> Result<(i32, [i16; COLUMNS.len()]), Malformed> {
    let id = match (bind.params.as_slice(), bind.param_formats.as_slice()) {
        ([Some(id)], [1]) => id.as_slice().try_into().ok().map(i32::from_be_bytes),
        _ => None,
    };
    let id = id.ok_or_else(|| Malformed::new("the parameter is not one binary int4"))?;
    Ok((id, std::array::from_fn(|index| bind.result_format(index))))
}

/// The answer to a StartupMessage, up to the first ReadyForQuery.
fn welcome(answer: &mut Vec<u8>) {
    answer.extend(frames::authentication_ok());
    for (name, value) in SERVER_PARAMETERS {
        answer.extend(frames::parameter_status(name, value));
    }
    answer.extend(frames::backend_key_data(1, &[0; 4]));
    answer.extend(frames::ready_for_query(b'I'));
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    const STARTUP: &[u8] = b"\0\0\0\x11\0\x03\0\0user\0me\0\0";

    /// Parse, Bind of id 7 with binary results, Execute, Sync.
    fn ask(sql: &str) -> Vec<u8> {
        let parse = [&b"\0"[..], sql.as_bytes(), b"\0\0\0"].concat();
        let bind = b"\0\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x07\0\x01\0\x01";
        [(b'P', &parse[..]), (b'B', bind), (b'E', b"\0\0\0\0\0"), (b'S', b"")]
            .map(|(tag, body)| frames::message(tag, body))
            .concat()
    }

    fn point_of_7() -> Vec<u8> {
        [
            frames::parse_complete(),
            frames::bind_complete(),
            frames::data_row(&[Some(b"\0\0\0\x0e"), Some(b"\0\0\0\x15")]),
            frames::command_complete("SELECT 1"),
            frames::ready_for_query(b'I'),
        ]
        .concat()
    }

    #[test]
    fn a_point_is_answered_in_whatever_pieces_it_is_asked_for() {
        let said = [STARTUP, &ask(POINT)].concat();
        for size in [1, 7, said.len()] {
            let (mut session, mut answer) = (Session::default(), Vec::new());
            for piece in said.chunks(size) {
                assert!(session.hear(piece, &mut answer));
            }
            assert!(answer.starts_with(&frames::authentication_ok()));
            assert!(answer.ends_with(&point_of_7()));
        }
    }

    #[test]
    fn anything_else_ends_the_session_and_says_why() {
        for (said, why) in [
            (ask("select 1"), "\"select 1\" is not \"select a, b"),
            (frames::message(b'Q', b"select 1\0"), "Query ('Q') \"select 1\\x00\" is not in the"),
            (frames::message(b'E', b"\0\0\0\0\0"), "nothing has been bound"),
        ] {
            let (mut session, mut answer) = (Session::default(), Vec::new());
            assert!(!session.hear(&[STARTUP, &said].concat(), &mut answer));
            let told = String::from_utf8_lossy(&answer);
            assert!(told.contains("FATAL") && told.contains(why), "{told}");
        }
    }

    #[test]
    fn a_crowd_is_served_until_it_is_stopped() {
        let mut crowd = Crowd::listen().unwrap();
        let port = crowd.port().unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let serving = thread::spawn(move || crowd.serve_until(stopped));
        let mut clients: Vec<TcpStream> =
            (0..100).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
        for client in &mut clients {
            client.write_all(&[STARTUP, &ask(POINT)].concat()).unwrap();
        }
        for client in &mut clients {
            let mut answer = vec![0];
            while !answer.ends_with(&point_of_7()) {
                let mut more = [0; 512];
                let count = client.read(&mut more).unwrap();
                assert!(count > 0, "the server hangs up");
                answer.extend(&more[..count]);
            }
            client.write_all(&frames::message(b'X', b"")).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        drop(stop);
        serving.join().unwrap().unwrap();
    }
}
