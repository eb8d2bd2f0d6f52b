//! One thread of the server: an epoll loop with its own listener, clients and pools.
//!
//! The only place where it waits is [`Worker::wait`].

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::client::Client;
use super::poller::{self, Space};
use super::routes::Route;
use super::tasks::{Address, Tasks};

/// The most clients of a thread. Others wait in the listener's queue.
const MOST_CLIENTS: usize = 10_000;

/// The most clients that are let in before the others have their turn again.
const MOST_AT_ONCE: usize = 64;

/// How long a client may be silent. Each is looked at once in this time, so it may be twice as long.
const SILENCE: Duration = Duration::from_secs(60);

/// How long nobody is let in after that has failed; mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How long what is under way may take when the server ends.
const GRACE: Duration = Duration::from_secs(5);

/// A thread's server.
pub(crate) struct Worker {
    epoll: OwnedFd,
    /// `None` once the server ends.
    listener: Option<OwnedFd>,
    /// Whether epoll watches the listener.
    is_listening: bool,
    /// When to listen again after a failure.
    pause: Option<Instant>,
    /// Readable when the server is to end.
    wake: Arc<OwnedFd>,
    clients: HashMap<u64, Client>,
    /// How many clients there have been: their numbers are never used again.
    admitted: u64,
    /// The clients whose turn it is.
    turns: Vec<u64>,
    /// When to look whether a client still takes part; in order.
    looks: VecDeque<(Instant, u64)>,
    tasks: Tasks,
    date: Date,
    /// When what is under way is given up, once the server ends.
    deadline: Option<Instant>,
}

impl Worker {
    /// # Errors
    ///
    /// Those of epoll.
    pub(crate) fn new(listener: OwnedFd, wake: Arc<OwnedFd>, tasks: Tasks) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        poller::set(&epoll, wake.as_fd(), Space::Wake.with(0), false, EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener: Some(listener),
            is_listening: false,
            pause: None,
            wake,
            clients: HashMap::new(),
            admitted: 0,
            turns: Vec::new(),
            looks: VecDeque::new(),
            tasks,
            date: Date::default(),
            deadline: None,
        })
    }

    /// Serves until the server is told to end, and what is under way has ended.
    ///
    /// # Errors
    ///
    /// Those of epoll. What happens to a client or to the database is no error here.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut ready = Vec::with_capacity(256);
        let mut now = Instant::now();
        loop {
            if let Some(deadline) = self.deadline {
                if self.clients.is_empty() {
                    self.tasks.start_close(deadline);
                }
                if self.tasks.is_closed() || deadline <= now {
                    return Ok(());
                }
            }
            self.wait(&mut ready, now)?;
            now = Instant::now();
            for event in ready.drain(..) {
                self.on_ready(event, now)?;
            }
            for (address, answer) in self.tasks.drive(&self.epoll, now) {
                if let Some(client) = self.clients.get_mut(&address.client) {
                    client.answer(address.number, answer);
                    self.turns.push(address.client);
                }
            }
            self.date.update();
            for id in std::mem::take(&mut self.turns) {
                self.turn(id, now)?;
            }
            self.look_at_clients(now);
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self, ready: &mut Vec<epoll::Event>, now: Instant) -> io::Result<()> {
        self.listen(now)?;
        self.tasks.update_sources(&self.epoll)?;
        let look = self.looks.front().map(|(at, _)| *at);
        let moments = [self.tasks.deadline(), look, self.pause, self.deadline];
        let first = moments.into_iter().flatten().min();
        let timeout = first.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        match epoll::wait(&self.epoll, spare_capacity(ready), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn on_ready(&mut self, event: epoll::Event, now: Instant) -> io::Result<()> {
        match Space::split(event.data) {
            Some((Space::QuickPool, token)) => self.tasks.quick_is_ready(token),
            Some((Space::SlowPool, token)) => self.tasks.slow_is_ready(token),
            Some((Space::Client, id)) => {
                let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
                let flags = event.flags;
                let is_lost = flags.intersects(EventFlags::ERR | EventFlags::HUP);
                if is_lost || (flags.contains(EventFlags::IN) && client.receive().is_err()) {
                    self.drop_client(id);
                } else {
                    self.turns.push(id);
                }
            }
            Some((Space::Listener, _)) => self.accept(now),
            Some((Space::Wake, _)) => self.end(now)?,
            None => {}
        }
        Ok(())
    }

    /// Lets clients in.
    fn accept(&mut self, now: Instant) {
        let Some(listener) = &self.listener else { return };
        for _ in 0..MOST_AT_ONCE.min(MOST_CLIENTS.saturating_sub(self.clients.len())) {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::accept_with(listener, flags) {
                Ok(socket) => {
                    let stream = TcpStream::from(socket);
                    if stream.set_nodelay(true).is_err() {
                        continue; // It has gone already.
                    }
                    self.admitted += 1;
                    self.clients.insert(self.admitted, Client::new(stream, now));
                    self.looks.push_back((now + SILENCE, self.admitted));
                    self.turns.push(self.admitted);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(error) => {
                    eprintln!("a client cannot be let in: {}", io::Error::from(error));
                    self.pause = Some(now + PAUSE);
                    return;
                }
            }
        }
    }

    /// Watches the listener as long as there is room.
    fn listen(&mut self, now: Instant) -> io::Result<()> {
        self.pause = self.pause.filter(|until| *until > now);
        let Some(listener) = &self.listener else { return Ok(()) };
        let has_room = self.clients.len() < MOST_CLIENTS && self.pause.is_none();
        if has_room != self.is_listening {
            match has_room {
                true => {
                    let data = Space::Listener.with(0);
                    poller::set(&self.epoll, listener.as_fd(), data, false, EventFlags::IN)?;
                }
                false => epoll::delete(&self.epoll, listener)?,
            }
            self.is_listening = has_room;
        }
        Ok(())
    }

    /// A client's turn: begins what it asks for, and sends what is answered.
    fn turn(&mut self, id: u64, now: Instant) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&id) else { return Ok(()) };
        let is_lost = loop {
            while let Some((number, request)) = client.next_request(now) {
                let address = Address { client: id, number };
                let begun = Route::parse(&request.target)
                    .and_then(|route| self.tasks.begin(address, route));
                if let Err(answer) = begun {
                    client.answer(number, answer);
                }
            }
            match client.send(&self.date.text, now) {
                // There may be room for what it has sent before.
                Ok(true) => {}
                Ok(false) => break client.is_over(),
                Err(_) => break true,
            }
        };
        if is_lost {
            self.drop_client(id);
            return Ok(());
        }
        let interest = client.interest();
        if client.watched != Some(interest) {
            // Also for nothing at all: that it hangs up is told even then, and is of interest.
            let is_known = client.watched.replace(interest).is_some();
            let data = Space::Client.with(id);
            poller::set(&self.epoll, client.as_fd(), data, is_known, interest)?;
        }
        Ok(())
    }

    /// A client has gone: nobody waits for its answers.
    fn drop_client(&mut self, id: u64) {
        if let Some(client) = self.clients.remove(&id) {
            for number in client.open() {
                self.tasks.abandon(Address { client: id, number });
            }
        }
    }

    /// Drops clients that take no part any more.
    fn look_at_clients(&mut self, now: Instant) {
        while let Some((_, id)) = self.looks.front().copied().filter(|(at, _)| *at <= now) {
            self.looks.pop_front();
            let Some(client) = self.clients.get(&id) else { continue };
            let since = client.silent_since();
            if since.is_some_and(|since| now.saturating_duration_since(since) >= SILENCE) {
                self.drop_client(id);
            } else {
                self.looks.push_back((now + SILENCE, id));
            }
        }
    }

    /// The server ends: nobody is let in, and no more requests are taken.
    fn end(&mut self, now: Instant) -> io::Result<()> {
        // It stays readable for the other threads.
        epoll::delete(&self.epoll, &*self.wake)?;
        self.listener = None;
        self.pause = None;
        let deadline = now + GRACE;
        self.deadline = Some(deadline);
        for (id, client) in &mut self.clients {
            client.finish();
            self.turns.push(*id);
        }
        Ok(())
    }
}

/// The time as HTTP writes it.
#[derive(Default)]
struct Date {
    /// Its second since 1970.
    second: u64,
    text: String,
}

impl Date {
    fn update(&mut self) {
        let now = SystemTime::now();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second != second {
            *self = Self { second, text: httpdate::fmt_http_date(now) };
        }
    }
}
