//! A listener that outlives its connections.
//!
//! It is a state machine on the non-blocking face of a [`PgConnection`]: connecting again is a state
//! with a deadline, never a wait. The blocking calls are a loop around it.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::notify::{listen_sql, unlisten_sql};
use super::{
    Delivery, Drive, Event, Interest, Notification, PgConnection, Request, Submit, Ticket,
};
use crate::config::PgConfig;
use crate::error::{Backoff, Notice, PgError, PgResult, Timeout};
use crate::net::wait;

/// Listens to channels on a connection of its own, and connects again when that is lost.
///
/// What is notified while there is no connection is lost: the server keeps nothing for those who do
/// not listen. So the listener says when it does not ([`ListenerEvent::Lost`]) and when it does
/// again ([`ListenerEvent::Reconnected`]): that is when a program reads the state anew that it is
/// notified of. Nothing else is ever lost: notifications that the program does not fetch stay in
/// the socket, and hold the server back.
///
/// ```no_run
/// use chopin_pg::{ListenerEvent, PgConfig, PgListener};
///
/// let config = PgConfig::from_url("postgres://frederic:secret@localhost/music")?;
/// let mut listener = PgListener::connect(&config, ["jobs"])?;
/// // What there is to do already would be read here.
/// for event in listener.events() {
///     match event {
///         ListenerEvent::Notification(job) => println!("to do: {}", job.payload),
///         ListenerEvent::Reconnected => println!("some may have been missed: read all anew"),
///         ListenerEvent::Lost { error } => println!("lost the connection: {error}"),
///         _ => {}
///     }
/// }
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// # Connecting again
///
/// It never gives up: a program that wants to drops it, or looks at the errors first. Between two
/// attempts it lets a random time pass that grows up to a second ([`Backoff`]). Each attempt has the
/// configuration's [`connect_timeout`](PgConfig::connect_timeout).
///
/// A server that is gone without a word is found out by a question that is asked after
/// [some silence](Self::set_heartbeat). If it then says nothing for
/// [`io_timeout`](PgConfig::io_timeout), it counts as gone. However long the program takes for
/// what has come already, that is not held against the server.
///
/// # The non-blocking face
///
/// As with a connection: [`drive`](Self::drive), then [`next_event`](Self::next_event) until there
/// is none, then wait for the [`sources`](Self::sources) and the [`deadline`](Self::deadline). There
/// are times without a source, when only the deadline is waited for. (A host name that was not
/// [resolved](PgConfig::resolve) before is looked up by the system's resolver within `drive`, which
/// can take a while.)
#[derive(Debug)]
pub struct PgListener {
    config: PgConfig,
    /// What to listen to.
    channels: BTreeSet<String>,
    /// `None` between two attempts.
    connection: Option<PgConnection>,
    /// When to connect again.
    retry_at: Option<Instant>,
    backoff: Backoff,
    /// What is to be asked of the server when it has answered what is asked.
    to_ask: VecDeque<Ask>,
    asked: Option<Asked>,
    /// Channels of [`listen`](Self::listen) that nothing is asked about yet: the next connection
    /// listens to them, and tells so.
    added: BTreeSet<String>,
    /// Since when this connection listens.
    listening_since: Option<Instant>,
    /// Whether there was a connection that listened.
    had_connection: bool,
    heartbeat: Duration,
    /// When the server said something last.
    heard_at: Instant,
    read: Read,
    told: VecDeque<ListenerEvent>,
}

/// What is known of bytes that wait to be read: what nobody has read yet is not late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// There may be some.
    Open,
    /// All events of what has been received are taken.
    Taken,
    /// The same, and the socket has been read to its end after that.
    Looked,
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    ask: Ask,
    at: Instant,
}

/// What a [`PgListener`] tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenerEvent {
    /// It listens to all its channels from here on, for the first time. (After
    /// [`PgListener::connect`] this has been told already.)
    Connected,
    /// It listens to all its channels again. What was notified since [`Lost`](Self::Lost) has been
    /// missed.
    Reconnected,
    /// It listens to a channel from here on that [`PgListener::listen`] has added. If it was added
    /// while there was no connection, this comes after [`Connected`](Self::Connected) or
    /// [`Reconnected`](Self::Reconnected).
    Listening {
        /// The channel.
        channel: String,
    },
    /// Somebody has notified a channel.
    Notification(Notification),
    /// The server has something to say.
    Notice(Box<Notice>),
    /// It does not listen any more: the connection has ended. It will connect again.
    Lost {
        /// Why.
        error: PgError,
    },
    /// An attempt to connect, or to listen on the new connection, has failed. There will be another
    /// one.
    ConnectFailed {
        /// Why.
        error: PgError,
    },
}

/// Something to ask the server for.
#[derive(Debug)]
enum Ask {
    /// To listen to all channels.
    ListenAll {
        /// Those of them that have been added since the last connection.
        added: BTreeSet<String>,
    },
    Listen(String),
    Unlisten(String),
    /// Whether it is still there.
    Heartbeat,
}

impl PgListener {
    /// How long the server may be silent before it is asked whether it is there, unless
    /// [`set_heartbeat`](Self::set_heartbeat) says otherwise: 30 s.
    pub const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(30);

    /// Connects and listens; returns when it listens to all channels.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::connect`], and as [`start`](Self::start): the first attempt is the only
    /// one.
    pub fn connect<C: Into<String>>(
        config: &PgConfig,
        channels: impl IntoIterator<Item = C>,
    ) -> PgResult<Self> {
        let mut listener = Self::start(config, channels)?;
        let mut earlier = VecDeque::new();
        loop {
            match listener.wait_event(Duration::MAX) {
                Some(ListenerEvent::Connected) => break,
                Some(ListenerEvent::ConnectFailed { error }) => return Err(error),
                other => earlier.extend(other),
            }
        }
        earlier.append(&mut listener.told);
        listener.told = earlier;
        Ok(listener)
    }

    /// Begins to connect, and returns at once: the start of the non-blocking face. A failure is an
    /// event already, and there will be another attempt.
    ///
    /// # Errors
    ///
    /// [`PgError::Config`] when the configuration cannot be used, [`PgError::Usage`] as with
    /// [`listen`](Self::listen).
    pub fn start<C: Into<String>>(
        config: &PgConfig,
        channels: impl IntoIterator<Item = C>,
    ) -> PgResult<Self> {
        config.validate()?;
        let mut listener = Self {
            config: config.clone(),
            channels: BTreeSet::new(),
            connection: None,
            retry_at: None,
            backoff: Backoff::random(),
            to_ask: VecDeque::new(),
            asked: None,
            added: BTreeSet::new(),
            listening_since: None,
            had_connection: false,
            heartbeat: Self::DEFAULT_HEARTBEAT,
            heard_at: Instant::now(),
            read: Read::Open,
            told: VecDeque::new(),
        };
        for channel in channels {
            listener.listen(channel)?;
        }
        // `Connected` tells of them.
        listener.added.clear();
        listener.connect_again();
        Ok(listener)
    }

    /// Adds a channel, if it is not among the [channels](Self::channels) yet. Never waits:
    /// [`ListenerEvent::Listening`] tells from when on it is listened to, after however many
    /// connections.
    ///
    /// # Errors
    ///
    /// [`PgError::Usage`] for a name that no server takes: empty, with a zero byte, or of more than
    /// 63 bytes.
    pub fn listen(&mut self, channel: impl Into<String>) -> PgResult<()> {
        let channel = channel.into();
        if channel.is_empty() {
            return Err(PgError::Usage("the name of the channel is empty".to_owned()));
        }
        listen_sql(&channel)?;
        if self.channels.insert(channel.clone()) {
            self.change(Ask::Listen(channel));
        }
        Ok(())
    }

    /// Takes a channel out; whether it was among the [channels](Self::channels). Never waits: what
    /// is under way may still come.
    pub fn unlisten(&mut self, channel: &str) -> bool {
        let channel = self.channels.take(channel);
        let was_there = channel.is_some();
        channel.into_iter().for_each(|channel| self.change(Ask::Unlisten(channel)));
        was_there
    }

    /// What it listens to, or will when it is connected, in alphabetical order.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(String::as_str)
    }

    /// Whether it listens at this moment, as far as is known.
    pub fn is_listening(&self) -> bool {
        self.listening_since.is_some()
    }

    /// The connection of this moment, to look at; `None` between two attempts.
    pub fn connection(&self) -> Option<&PgConnection> {
        self.connection.as_ref()
    }

    /// Sets after how much silence the server is asked whether it is there;
    /// [`Duration::MAX`] for never.
    pub fn set_heartbeat(&mut self, silence: Duration) {
        self.heartbeat = silence;
    }

    /// Waits for the next event; `None` when there was none within `timeout`, during which it
    /// connects again if necessary. [`Duration::MAX`] is for ever, [`Duration::ZERO`] does not wait.
    pub fn wait_event(&mut self, timeout: Duration) -> Option<ListenerEvent> {
        let until = Instant::now().checked_add(timeout);
        loop {
            // What is here is taken before more is received.
            if let Some(event) = self.next_event() {
                return Some(event);
            }
            let drive = self.drive();
            if let Some(event) = self.next_event() {
                return Some(event);
            }
            if drive == Drive::Again {
                continue;
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return None;
            }
            let until = [until, self.deadline()].into_iter().flatten().min();
            match &mut self.connection {
                Some(connection) => connection.turn(until),
                // A failure of poll(2) without descriptors only makes the pause shorter.
                None => drop(wait(&[], until, None)),
            }
        }
    }

    /// Events as they come, without an end; waits for each.
    pub fn events(&mut self) -> impl Iterator<Item = ListenerEvent> + '_ {
        std::iter::from_fn(|| self.wait_event(Duration::MAX))
    }

    /// Moves bytes, as [`PgConnection::drive`]; connects again when it is time; asks a silent server
    /// whether it is there. Never waits.
    pub fn drive(&mut self) -> Drive {
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.connect_again();
        }
        if self.heartbeat_at().is_some_and(|at| at <= now) {
            self.to_ask.push_back(Ask::Heartbeat);
        }
        self.ask_next();
        let drive = self.connection.as_mut().map_or(Drive::Idle, PgConnection::drive);
        self.read = match (self.read, drive) {
            (Read::Taken | Read::Looked, Drive::Idle) => Read::Looked,
            _ => Read::Open,
        };
        drive
    }

    /// The descriptors to watch, as [`PgConnection::sources`]; none between two attempts to
    /// connect.
    pub fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        self.connection.iter().flat_map(PgConnection::sources)
    }

    /// When to call [`drive`](Self::drive) even if no source is ready.
    pub fn deadline(&self) -> Option<Instant> {
        let connection = self.connection.as_ref().and_then(PgConnection::deadline);
        let own = [self.retry_at, self.heartbeat_at(), self.answer_due_at()];
        own.into_iter().chain([connection]).flatten().min()
    }

    /// The next event, `None` when there is none until more has been received.
    pub fn next_event(&mut self) -> Option<ListenerEvent> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Some(event);
            }
            let event = match self.connection.as_mut()?.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => match self.silence() {
                    None => return None,
                    Some(error) => {
                        self.lose(error);
                        continue;
                    }
                },
                Err(error) => {
                    self.lose(error);
                    continue;
                }
            };
            (self.heard_at, self.read) = (Instant::now(), Read::Open);
            match event {
                Event::Notification(notification) => {
                    return Some(ListenerEvent::Notification(notification));
                }
                Event::Notice(notice) => return Some(ListenerEvent::Notice(notice)),
                Event::Ready => {
                    let added = std::mem::take(&mut self.added);
                    self.to_ask = VecDeque::from([Ask::ListenAll { added }]);
                    self.ask_next();
                }
                Event::Complete { ticket } => self.answered(ticket),
                Event::Failed { error, .. } => self.lose(error),
                _ => {}
            }
        }
    }

    /// Nothing is left of what has been received. If that has been so for too long while an answer
    /// is awaited, the error that says it.
    fn silence(&mut self) -> Option<PgError> {
        let has_looked = self.read == Read::Looked;
        self.read = Read::Taken;
        self.answer_due_at().filter(|at| has_looked && *at <= Instant::now()).map(|_| {
            let (setting, value) = ("io_timeout", self.config.get_io_timeout());
            let doing = "waiting for an answer or a notification";
            PgError::Timeout(Box::new(Timeout { setting, value, doing }))
        })
    }

    /// Begins to connect.
    fn connect_again(&mut self) {
        self.retry_at = None;
        match PgConnection::start_connect(&self.config) {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => self.lose(error),
        }
    }

    /// The connection is of no more use.
    fn lose(&mut self, error: PgError) {
        self.connection = None;
        let asked = self.asked.take().map(|asked| asked.ask);
        for ask in asked.into_iter().chain(self.to_ask.drain(..)) {
            match ask {
                Ask::ListenAll { added } => self.added.extend(added),
                Ask::Listen(channel) => _ = self.added.insert(channel),
                Ask::Unlisten(_) | Ask::Heartbeat => {}
            }
        }
        self.added.retain(|channel| self.channels.contains(channel));
        let listened = self.listening_since.take();
        let now = Instant::now();
        // A server that hangs up on us again and again is not to be asked again at once.
        if listened.is_some_and(|since| now.duration_since(since) >= Backoff::MAX_DELAY) {
            self.backoff = Backoff::random();
        }
        let delay = self.backoff.next().unwrap_or(Backoff::MAX_DELAY);
        self.retry_at = Some(now + delay);
        self.told.push_back(match listened {
            Some(_) => ListenerEvent::Lost { error },
            None => ListenerEvent::ConnectFailed { error },
        });
    }

    /// The channels have changed. A connection that is not ready yet asks for all of them later.
    fn change(&mut self, ask: Ask) {
        let asked = self.asked.as_ref().map(|asked| &asked.ask);
        if self.is_listening() || matches!(asked, Some(Ask::ListenAll { .. })) {
            self.to_ask.push_back(ask);
            return self.ask_next();
        }
        match ask {
            Ask::Listen(channel) => _ = self.added.insert(channel),
            Ask::Unlisten(channel) => _ = self.added.remove(&channel),
            Ask::ListenAll { .. } | Ask::Heartbeat => {}
        }
    }

    /// Asks the next question, once the one before has been answered.
    fn ask_next(&mut self) {
        while self.asked.is_none() {
            let Some(connection) = &mut self.connection else { return };
            let Some(ask) = self.to_ask.pop_front() else { return };
            let sql = match &ask {
                Ask::ListenAll { .. } => {
                    let all: PgResult<Vec<_>> =
                        self.channels.iter().map(|channel| listen_sql(channel)).collect();
                    all.map(|commands| commands.join("; "))
                }
                Ask::Listen(channel) => listen_sql(channel),
                Ask::Unlisten(channel) => unlisten_sql(channel),
                // The shortest text that is answered.
                Ask::Heartbeat => Ok(String::new()),
            };
            // Its answer may stand behind any number of notifications, so that it is the silence
            // that has a limit.
            let submit = Submit::new(Delivery::Collect);
            let asked =
                sql.and_then(|sql| connection.submit_with(Request::Simple { sql: &sql }, submit));
            match asked {
                Ok(ticket) => {
                    self.asked = Some(Asked { ticket, ask, at: Instant::now() });
                    connection.flush();
                }
                // It is asked with the next drive.
                Err(PgError::WouldBlock) => return self.to_ask.push_front(ask),
                Err(error) => {
                    self.to_ask.push_front(ask);
                    return self.lose(error);
                }
            }
        }
    }

    /// The server has answered what was asked.
    fn answered(&mut self, ticket: Ticket) {
        if let Some(connection) = &mut self.connection {
            if let Err(error) = connection.take(ticket) {
                return self.lose(error);
            }
        }
        match self.asked.take_if(|asked| asked.ticket == ticket).map(|asked| asked.ask) {
            Some(Ask::ListenAll { added }) => {
                self.listening_since = Some(self.heard_at);
                self.told.push_back(match std::mem::replace(&mut self.had_connection, true) {
                    false => ListenerEvent::Connected,
                    true => ListenerEvent::Reconnected,
                });
                let told = |channel| ListenerEvent::Listening { channel };
                self.told.extend(added.into_iter().map(told));
            }
            Some(Ask::Listen(channel)) => {
                self.told.push_back(ListenerEvent::Listening { channel });
            }
            Some(Ask::Unlisten(_) | Ask::Heartbeat) | None => {}
        }
        self.ask_next();
    }

    /// When the server is to be asked whether it is there.
    fn heartbeat_at(&self) -> Option<Instant> {
        let is_quiet = self.is_listening() && self.asked.is_none() && self.to_ask.is_empty();
        self.heard_at.checked_add(self.heartbeat).filter(|_| is_quiet)
    }

    /// When the server counts as gone if it says nothing until then.
    fn answer_due_at(&self) -> Option<Instant> {
        let asked = self.asked.as_ref()?;
        self.heard_at.max(asked.at).checked_add(self.config.get_io_timeout())
    }
}
