//! A client's connection: its requests in order, its answers in the same order.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::http::{self, MAX_HEAD, Parsed, Request, Response};

/// The most requests of one client that are worked on at a time.
const MOST_OPEN: usize = 32;

/// When so many bytes wait for a client that does not read, nothing more is taken from it.
const MOST_UNSENT: usize = 64 * 1024;

/// How much is read at a time.
const CHUNK: usize = 4 * 1024;

/// A client that is connected.
pub(crate) struct Client {
    stream: TcpStream,
    stage: Stage,
    /// What has come and was not yet understood.
    input: Vec<u8>,
    /// The client has said that it sends nothing more.
    has_ended: bool,
    /// The requests that are not answered, or whose answers have to wait for those before.
    exchanges: VecDeque<Exchange>,
    /// The number of the first of them.
    first: u64,
    /// Answers that were not sent.
    output: Vec<u8>,
    /// When the client last took part: by a whole request, or by reading an answer.
    since: Instant,
    /// What epoll watches; `None` before the first time.
    pub(crate) watched: Option<EventFlags>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Requests are taken.
    Open,
    /// No more are taken; it ends with the last answer.
    Ending,
    /// The last answer is sent. What still comes is thrown away: a socket that is closed while bytes
    /// wait to be read resets the connection, which would take the answer away from the client.
    Lingering,
}

/// A request and its answer.
struct Exchange {
    answer: Option<Response>,
    is_last: bool,
}

impl Client {
    pub(crate) fn new(stream: TcpStream, now: Instant) -> Self {
        Self {
            stream,
            stage: Stage::Open,
            input: Vec::new(),
            has_ended: false,
            exchanges: VecDeque::new(),
            first: 0,
            output: Vec::new(),
            since: now,
            watched: None,
        }
    }

    /// Reads what has come, up to a budget.
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    pub(crate) fn receive(&mut self) -> io::Result<()> {
        self.input.reserve(CHUNK);
        match rustix::io::read(&self.stream, spare_capacity(&mut self.input)) {
            Ok(0) => self.has_ended = true,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if self.stage == Stage::Lingering {
            self.input.clear();
        }
        Ok(())
    }

    /// The next request and its number, if one has come and may be begun.
    pub(crate) fn next_request(&mut self, now: Instant) -> Option<(u64, Request)> {
        let has_room = self.exchanges.len() < MOST_OPEN && self.output.len() < MOST_UNSENT;
        if self.stage != Stage::Open || !has_room {
            return None;
        }
        let number = self.first + self.exchanges.len() as u64;
        match http::parse(&self.input) {
            Parsed::Whole(request, length) => {
                self.input.drain(..length);
                self.since = now;
                self.expect(None, !request.keep_alive);
                Some((number, request))
            }
            Parsed::Refused(answer) => {
                self.expect(Some(answer), true);
                None
            }
            Parsed::Partial => {
                if self.has_ended {
                    self.finish();
                }
                None
            }
        }
    }

    fn expect(&mut self, answer: Option<Response>, is_last: bool) {
        self.exchanges.push_back(Exchange { answer, is_last });
        if is_last {
            self.finish();
        }
    }

    /// No more requests are taken; those that were are answered.
    pub(crate) fn finish(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Ending;
            self.input = Vec::new();
        }
    }

    /// The answer to the request with this number.
    pub(crate) fn answer(&mut self, number: u64, answer: Response) {
        let place = number.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        if let Some(exchange) = place.and_then(|place| self.exchanges.get_mut(place)) {
            exchange.answer = Some(answer);
        }
    }

    /// The requests that are being worked on.
    pub(crate) fn open(&self) -> impl Iterator<Item = u64> {
        let numbered = (self.first..).zip(&self.exchanges);
        numbered.filter(|(_, exchange)| exchange.answer.is_none()).map(|(number, _)| number)
    }

    /// Sends answers whose turn it is; whether there is room for requests that there was not before.
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    pub(crate) fn send(&mut self, date: &str, now: Instant) -> io::Result<bool> {
        let before = self.first;
        while self.output.len() < MOST_UNSENT {
            let Some(Exchange { answer: Some(answer), is_last }) = self.exchanges.front() else {
                break;
            };
            answer.write(&mut self.output, date, *is_last);
            self.exchanges.pop_front();
            self.first += 1;
        }
        let mut sent = 0;
        while sent < self.output.len() {
            match rustix::io::write(&self.stream, &self.output[sent..]) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if sent > 0 {
            self.output.drain(..sent);
            self.since = now;
        }
        if self.stage == Stage::Ending && self.exchanges.is_empty() && self.output.is_empty() {
            self.stream.shutdown(Shutdown::Write)?;
            self.stage = Stage::Lingering;
        }
        Ok(self.first > before || sent > 0)
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> EventFlags {
        let has_room = match self.stage {
            Stage::Open => self.input.len() < MAX_HEAD && self.exchanges.len() < MOST_OPEN,
            stage => stage == Stage::Lingering,
        };
        let mut interest = EventFlags::empty();
        let reads = has_room && !self.has_ended && self.output.len() < MOST_UNSENT;
        interest.set(EventFlags::IN, reads);
        interest.set(EventFlags::OUT, !self.output.is_empty());
        interest
    }

    /// Whether both sides have said all that they had to say.
    pub(crate) fn is_over(&self) -> bool {
        self.stage == Stage::Lingering && self.has_ended
    }

    /// Since when the client is awaited: for a request, or to read its answers. `None` while it waits
    /// for us.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        let is_its_turn = self.exchanges.is_empty() || !self.output.is_empty();
        is_its_turn.then_some(self.since)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
