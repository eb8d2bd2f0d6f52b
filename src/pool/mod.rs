//! A pool: the connections of one thread to one database.
//!
//! [`PgPool`] is where to begin: it tells how a pool is used, with and without an event loop.
//!
//! # Inside
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the type, checkouts, what it knows of itself |
//! | `config.rs` | its settings |
//! | `slots.rs` | the places for connections, and what each is doing |
//! | `work.rs` | going on with the connections that have something to do |
//! | `serve.rs` | giving connections out, opening and closing them |
//! | `reset.rs` | a connection comes back |
//! | `guard.rs` | a connection that somebody uses |
//! | `waiting.rs` | those who wait for a connection |
//! | `requests.rs`, `kept_params.rs` | requests of many tasks on few connections |
//! | `loads.rs` | which connection has the fewest in flight |
//! | `timers.rs` | when connections are due |
//! | `sources.rs` | what a poller is told |
//! | `stats.rs` | figures |
//! | `local.rs` | the pool of a thread |
//!
//! A connection is lifted out of its slot before anything is done with it that may run code of the
//! program (parameters, handlers, hooks), and nothing of the pool is borrowed meanwhile: that code may
//! use the pool.

mod config;
mod guard;
mod kept_params;
mod loads;
mod local;
mod requests;
mod reset;
mod serve;
mod slots;
mod sources;
mod stats;
mod timers;
mod waiting;
mod work;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use self::config::{PgPoolConfig, ResetPolicy};
pub use self::guard::ConnectionGuard;
pub use self::local::{init_pool, pool};
pub use self::requests::PoolTicket;
pub use self::slots::PoolToken;
pub use self::sources::SourceChange;
pub use self::stats::PoolStats;
pub use self::waiting::AcquireTicket;

use self::loads::Loads;
use self::requests::Queued;
use self::serve::{CheckOut, Connects};
use self::slots::{Phase, Slots};
use self::timers::Timers;
use self::waiting::Waiter;
use crate::auth::ScramKeyCache;
use crate::config::PgConfig;
use crate::connection::{Outcome, PgConnection};
use crate::engine::Catalogue;
use crate::error::{PgError, PgResult};
use crate::net::{Source, wait};

/// The connections of one thread to one database.
///
/// It is a cheap handle: clones are the same pool. It never leaves its thread (`!Send`), so there are
/// no locks; a program with several threads has a pool in each. The connections share their cached
/// statements, and the keys that a SCRAM login derives from the password.
///
/// Three ways to use it, which can be mixed:
///
/// - [`get`](Self::get) waits for a connection, and gives it back when the guard is dropped: for
///   programs that block.
/// - [`acquire`](Self::acquire) asks for one, which comes as an event: for programs with an event loop,
///   where a task needs a connection of its own, for a transaction or for something slow.
/// - [`submit`](Self::submit) sends one statement on whichever connection has the least to do, so that
///   many tasks share few connections.
///
/// ```no_run
/// use chopin_pg::{PgConfig, PgPool};
///
/// let pool = PgPool::connect(PgConfig::from_url("postgres://frederic:secret@localhost/music")?, 10)?;
/// let mut connection = pool.get()?;
/// let title: String = connection.query_one("select title from works where id = $1", &[&18])?.get(0)?;
/// # let _ = title;
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
///
/// # In an event loop
///
/// Nothing here waits but [`connect`](Self::connect), [`connect_with_config`](Self::connect_with_config),
/// [`get`](Self::get) and [`close_all`](Self::close_all). A program with an event loop begins with
/// [`new`](Self::new). Each turn of the loop it
///
/// 1. calls [`on_ready`](Self::on_ready) for each token that its poller reports;
/// 2. calls [`drive`](Self::drive), then takes events by [`next_event`](Self::next_event) until there
///    is none, and asks for more as it likes ([`submit`](Self::submit), [`acquire`](Self::acquire),
///    requests on guards);
/// 3. calls [`update_sources`](Self::update_sources), which sends what was submitted and says what the
///    poller is to watch from now on. A guard that is kept while the loop waits has an
///    [`update_sources`](ConnectionGuard::update_sources) of its own;
/// 4. waits until a source is ready or the [`deadline`](Self::deadline) has come.
///
/// Growing, logging in, checking, resetting, closing and cancelling are states of the connections, on
/// which [`drive`](Self::drive) goes on. It visits only those that are ready or due, so the cost of a
/// turn does not depend on how many connections there are.
///
/// A host name is looked up by the system's resolver, which waits: call
/// [`PgConfig::resolve`] once at the start ([`connect`](Self::connect) does), or give a numeric address
/// or a Unix-domain socket.
///
/// # What comes back
///
/// When a guard is dropped, what was begun on its connection is brought to its end and its
/// [`ResetPolicy`] is applied, before anybody else gets it. What was not sent is taken back. A
/// connection that is not clean within [`reset_timeout`](PgPoolConfig::reset_timeout) is closed, and
/// another one takes its place. A guard that is forgotten (`mem::forget`) costs the pool its place for
/// good.
#[derive(Clone)]
pub struct PgPool {
    shared: Rc<Shared>,
}

/// What the handles and guards of a pool share.
struct Shared {
    state: RefCell<State>,
}

/// All that a pool knows. Its methods run no code of the program.
struct State {
    config: PgPoolConfig,
    /// What is connected to.
    target: Rc<PgConfig>,
    catalogue: Catalogue,
    keys: ScramKeyCache,
    slots: Slots,
    /// The slots that are idle; the one that has been so for the longest time is in front.
    idle: VecDeque<usize>,
    loads: Loads,
    timers: Timers,
    /// The slots that have work for the next drive.
    listed: VecDeque<usize>,
    /// The slots whose sources may have changed.
    changed: Vec<usize>,
    /// What a poller watches is told anew whenever it was ready.
    is_edge_triggered: bool,
    waiters: VecDeque<Waiter>,
    queue: VecDeque<Queued>,
    /// How many connections are claimed for somebody who waits.
    claimed: usize,
    /// None of the requests that wait is late before this moment.
    next_queue_deadline: Option<Instant>,
    /// Something came free since somebody was served last.
    must_serve: bool,
    /// What is to be told.
    events: VecDeque<Told>,
    connects: Connects,
    /// A connection has not given its sign of life in time; the others were not asked yet.
    has_doubts: bool,
    closing: Option<Closing>,
    tickets: u64,
    stats: PoolStats,
    /// The moment of the last turn.
    now: Instant,
}

/// The pool is closed for those who come.
#[derive(Debug)]
struct Closing {
    why: &'static str,
    /// When requests that are still in flight are given up.
    deadline: Option<Instant>,
}

/// Something that is to be told. A guard is made of it when it is fetched: one that lies here would
/// keep its own pool alive.
#[derive(Debug)]
enum Told {
    Acquired(AcquireTicket, PoolToken),
    AcquireFailed(AcquireTicket, PgError),
    Complete(PoolTicket, Outcome),
    Failed(PoolTicket, PgError),
    GuardReady(PoolToken),
}

/// What [`PgPool::next_event`] tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolEvent {
    /// A connection for somebody who has asked by [`PgPool::acquire`].
    Acquired {
        /// Who has asked.
        ticket: AcquireTicket,
        /// The connection. Dropped, it goes back.
        guard: ConnectionGuard,
    },
    /// There is no connection for somebody who has asked by [`PgPool::acquire`].
    AcquireFailed {
        /// Who has asked.
        ticket: AcquireTicket,
        /// Why: [`PgError::PoolTimeout`], [`PgError::PoolExhausted`] from a pool that is being closed,
        /// [`PgError::PoolValidationFailed`], or what the server said when it refused the login.
        error: PgError,
    },
    /// A request of [`PgPool::submit`] is complete, and has committed.
    Complete {
        /// Which one.
        ticket: PoolTicket,
        /// Its result.
        outcome: Outcome,
    },
    /// A request of [`PgPool::submit`] has failed.
    Failed {
        /// Which one.
        ticket: PoolTicket,
        /// Why.
        error: PgError,
    },
    /// A descriptor of a connection under a guard is ready, or its deadline has come: drive that guard
    /// ([`PgConnection::drive`](crate::PgConnection::drive), until it is idle, and `next_event`), and call
    /// its [`update_sources`](ConnectionGuard::update_sources). There may be nothing to do after all, and
    /// the guard may have been given back.
    GuardReady {
        /// That of the guard, by [`ConnectionGuard::token`].
        token: PoolToken,
    },
}

impl PgPool {
    /// A pool without a connection yet; never waits. [`drive`](Self::drive) opens the
    /// [`min_size`](PgPoolConfig::min_size), and more as they are needed.
    ///
    /// # Errors
    ///
    /// [`PgError::Config`] when the settings make no sense.
    pub fn new(target: PgConfig, config: PgPoolConfig) -> PgResult<Self> {
        config.validate()?;
        target.validate()?;
        Ok(Self::with_closing(target, config, None))
    }

    /// A pool of at most `max_size` connections, of which the first is opened at once.
    ///
    /// # Errors
    ///
    /// As [`connect_with_config`](Self::connect_with_config).
    pub fn connect(target: PgConfig, max_size: usize) -> PgResult<Self> {
        Self::connect_with_config(target, PgPoolConfig::new().max_size(max_size))
    }

    /// A pool whose first connections are open: [`min_size`](PgPoolConfig::min_size) of them, at least
    /// one. The host name is looked up once, here.
    ///
    /// # Errors
    ///
    /// [`PgError::Config`] when the settings make no sense; why the first connections could not be
    /// opened, as in [`PgConnection::connect`](crate::PgConnection::connect).
    pub fn connect_with_config(mut target: PgConfig, config: PgPoolConfig) -> PgResult<Self> {
        target.resolve()?;
        let first = config.get_min_size().max(1);
        let pool = Self::new(target, config)?;
        pool.shared.open_first(first)?;
        Ok(pool)
    }

    fn with_closing(target: PgConfig, config: PgPoolConfig, closing: Option<Closing>) -> Self {
        let target = match config.get_connection_timeout() {
            Some(timeout) => target.connect_timeout(Some(timeout)),
            None => target,
        };
        let state = State {
            catalogue: Catalogue::new(target.get_statement_cache_capacity()),
            keys: ScramKeyCache::default(),
            slots: Slots::default(),
            idle: VecDeque::new(),
            loads: Loads::new(config.get_multiplex_window().min(target.get_max_in_flight())),
            timers: Timers::default(),
            listed: VecDeque::new(),
            changed: Vec::new(),
            is_edge_triggered: false,
            waiters: VecDeque::new(),
            queue: VecDeque::new(),
            claimed: 0,
            next_queue_deadline: None,
            must_serve: false,
            events: VecDeque::new(),
            connects: Connects::default(),
            has_doubts: false,
            closing,
            tickets: 0,
            stats: PoolStats::default(),
            now: Instant::now(),
            config,
            target: Rc::new(target),
        };
        Self { shared: Rc::new(Shared { state: RefCell::new(state) }) }
    }

    /// A connection, as soon as there is one.
    ///
    /// Waits, in poll(2), for connections that are being opened, checked or reset, or are busy with
    /// submitted requests, up to [`checkout_timeout`](PgPoolConfig::checkout_timeout); who has asked
    /// by [`acquire`](Self::acquire) before comes first. What happens to the pool's other connections
    /// meanwhile is kept for [`next_event`](Self::next_event).
    ///
    /// # Errors
    ///
    /// - [`PgError::PoolExhausted`] at once when all connections are under guards of this thread: while
    ///   it waits none could come back. Also when the pool is closed.
    /// - [`PgError::PoolTimeout`] after `checkout_timeout`; the text says what the connections were
    ///   doing, and why the last connect failed.
    /// - What the server said, when it refuses the login for good (class 28, a database that does not
    ///   exist).
    /// - [`PgError::PoolValidationFailed`] when a connection was found dead and
    ///   [`auto_reconnect`](PgPoolConfig::auto_reconnect) is off.
    pub fn get(&self) -> PgResult<ConnectionGuard> {
        self.shared.get(&self.shared)
    }

    /// A connection, if one can be had at this moment; never waits. If not, and the pool may grow, a
    /// new one is begun.
    ///
    /// # Errors
    ///
    /// - [`PgError::WouldBlock`] while one is being opened, checked or reset, or is busy with submitted
    ///   requests: [`drive`](Self::drive) the pool and try again, or ask by [`acquire`](Self::acquire).
    /// - [`PgError::PoolExhausted`] when all are under guards, or the pool is closed.
    /// - [`PgError::PoolValidationFailed`] as [`get`](Self::get).
    pub fn try_get(&self) -> PgResult<ConnectionGuard> {
        self.shared.try_get(&self.shared)
    }

    /// A descriptor that was registered under this token is ready. Only notes it; the work is done by
    /// [`drive`](Self::drive). A token of a connection that is gone is ignored.
    pub fn on_ready(&self, token: PoolToken) {
        let state = &mut *self.shared.state.borrow_mut();
        if let Some(slot) = state.slots.find(token) {
            state.list(slot, true);
        }
    }

    /// Goes on with everything that can go on: connections that are ready or due, those who wait,
    /// growth, closing. `now` is the moment of this turn of the loop. Never waits.
    ///
    /// Take all [events](Self::next_event) afterwards.
    pub fn drive(&self, now: Instant) {
        self.shared.drive(now);
    }

    /// The next thing that has happened, `None` when that is all. What has ended can have gone before:
    /// each [`PoolTicket`] and each [`AcquireTicket`] gets exactly one event.
    pub fn next_event(&self) -> Option<PoolEvent> {
        loop {
            let told = self.shared.state.borrow_mut().events.pop_front()?;
            return Some(match told {
                Told::Acquired(ticket, token) => {
                    let Some(guard) = self.shared.hand_over(&self.shared, token) else { continue };
                    PoolEvent::Acquired { ticket, guard }
                }
                Told::AcquireFailed(ticket, error) => PoolEvent::AcquireFailed { ticket, error },
                Told::Complete(ticket, outcome) => PoolEvent::Complete { ticket, outcome },
                Told::Failed(ticket, error) => PoolEvent::Failed { ticket, error },
                Told::GuardReady(token) => PoolEvent::GuardReady { token },
            });
        }
    }

    /// When to call [`drive`](Self::drive) even if no source is ready; a moment that has passed for at
    /// once, `None` for never. It may be earlier than necessary: then that call does nothing.
    pub fn deadline(&self) -> Option<Instant> {
        let state = self.shared.state.borrow();
        // What nobody has taken is there at once.
        if state.events.is_empty() { state.next_moment() } else { Some(state.now) }
    }

    /// Closes idle connections that are too old or have been idle for too long, as
    /// [`drive`](Self::drive) does when their time has come; returns how many.
    pub fn reap(&self) -> usize {
        self.shared.reap(Instant::now())
    }

    /// Sets the most connections that there may be, at least one. Those that are too many are closed:
    /// idle ones at once, others when they come back. A smaller number lowers the
    /// [`min_size`](PgPoolConfig::min_size) too.
    pub fn set_max_size(&self, connections: usize) {
        {
            let state = &mut *self.shared.state.borrow_mut();
            state.config.set_max_size(connections.max(1));
            state.must_serve = true;
        }
        self.shared.shrink();
    }

    /// Closes the pool: who waits and who comes is refused, idle connections are closed at once, those
    /// with submitted requests when these are answered or `deadline` has come, those under guards when
    /// they come back. Never waits; [`is_closed`](Self::is_closed) tells the end.
    ///
    /// Requests that are given up at the deadline fail with [`PgError::ConnectionClosed`], and are not
    /// cancelled: the server may still run what it has got of them, and commit it.
    pub fn start_close(&self, deadline: Option<Instant>) {
        self.shared.start_close("the pool was closed", deadline);
    }

    /// Closes the pool as [`start_close`](Self::start_close), and waits up to `timeout` for submitted
    /// requests that are in flight.
    ///
    /// # Errors
    ///
    /// [`PgError::PoolTimeout`] when connections are left: they are under guards of this thread, which
    /// close them when they are dropped.
    pub fn close_all(&self, timeout: Duration) -> PgResult<()> {
        self.shared.close_all(timeout)
    }

    /// Whether the pool was closed and no connection is left.
    pub fn is_closed(&self) -> bool {
        let state = self.shared.state.borrow();
        state.closing.is_some() && state.slots.len() == 0
    }

    /// How many connections there are, those being opened included.
    pub fn pool_size(&self) -> usize {
        self.shared.state.borrow().slots.len()
    }

    /// How many connections nobody uses.
    pub fn idle_connections(&self) -> usize {
        self.shared.state.borrow().slots.count(&[Phase::Idle])
    }

    /// How many connections are under guards, or were given out and not fetched.
    pub fn active_connections(&self) -> usize {
        self.shared.state.borrow().slots.count(&Phase::IN_USE)
    }

    /// The settings.
    pub fn config(&self) -> PgPoolConfig {
        self.shared.state.borrow().config.clone()
    }

    /// What the pool is doing and has done.
    pub fn stats(&self) -> PoolStats {
        let state = self.shared.state.borrow();
        let count = |phases: &[Phase]| state.slots.count(phases);
        PoolStats {
            size: state.slots.len(),
            max_size: state.config.get_max_size(),
            idle: count(&[Phase::Idle]),
            in_use: count(&Phase::IN_USE),
            multiplexed: count(&[Phase::Shared]),
            connecting: count(&Phase::OPENING),
            recovering: count(&Phase::RECOVERING),
            waiting: state.waiters.len(),
            queued_requests: state.queue.len(),
            key_derivations: state.keys.derivations(),
            ..state.stats
        }
    }
}

impl fmt::Debug for PgPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgPool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl State {
    /// Whether anybody may come.
    fn check_open(&self) -> PgResult<()> {
        match &self.closing {
            Some(closing) => Err(PgError::PoolExhausted(closing.why.to_owned())),
            None => Ok(()),
        }
    }

    /// The next drive visits this slot; with `is_ready` it moves bytes in both directions, else it
    /// only sends.
    fn list(&mut self, slot: usize, is_ready: bool) {
        let Some(found) = self.slots.get_mut(slot) else { return };
        found.is_ready |= is_ready;
        if !std::mem::replace(&mut found.is_listed, true) {
            self.listed.push_back(slot);
        }
    }

    /// The sources of this slot may have changed.
    fn note_change(&mut self, slot: usize) {
        let Some(found) = self.slots.get_mut(slot) else { return };
        if !std::mem::replace(&mut found.is_changed, true) {
            self.changed.push(slot);
        }
    }

    /// Looks at this slot at this moment at the latest.
    fn set_timer(&mut self, slot: usize, at: Option<Instant>) {
        let (Some(found), Some(at)) = (self.slots.get_mut(slot), at) else { return };
        if found.timer.is_none_or(|timer| at < timer) {
            let before = found.timer.replace(at);
            self.timers.enter(slot, before, at);
        }
    }

    /// When there is something to do, even if no source is ready.
    fn next_moment(&self) -> Option<Instant> {
        if !self.listed.is_empty() || self.must_serve {
            return Some(self.now);
        }
        let closing = self.closing.as_ref().and_then(|closing| closing.deadline);
        let closing = closing.filter(|_| self.slots.count(&[Phase::Shared]) > 0);
        let moments = [
            self.timers.next(),
            self.next_waiter_deadline(),
            self.next_queue_deadline,
            self.next_connect(),
            closing,
        ];
        moments.into_iter().flatten().min()
    }
}

impl Shared {
    fn get(&self, pool: &Rc<Self>) -> PgResult<ConnectionGuard> {
        let now = Instant::now();
        if let Some(token) = self.check_out_now(now)? {
            return self.fetch(pool, token);
        }
        let ticket = self.state.borrow_mut().enqueue(now)?;
        loop {
            self.drive(Instant::now());
            let acquired = self.state.borrow_mut().take_acquired(ticket);
            if let Some(result) = acquired {
                return result.and_then(|token| self.fetch(pool, token));
            }
            {
                let state = &mut *self.state.borrow_mut();
                if state.is_hopeless() {
                    state.forget_waiter(ticket);
                    return Err(state.exhausted("waiting would bring none"));
                }
            }
            if let Err(error) = self.wait() {
                self.state.borrow_mut().forget_waiter(ticket);
                return Err(error);
            }
        }
    }

    fn try_get(&self, pool: &Rc<Self>) -> PgResult<ConnectionGuard> {
        let now = Instant::now();
        if let Some(token) = self.check_out_now(now)? {
            return self.fetch(pool, token);
        }
        // Perhaps one has become free since somebody looked.
        self.list_busy();
        self.drive(now);
        if let Some(token) = self.check_out_now(now)? {
            return self.fetch(pool, token);
        }
        let state = &mut *self.state.borrow_mut();
        let more = usize::from(state.coming() == 0);
        state.grow(state.slots.len() + more);
        match state.is_hopeless() {
            true => Err(state.exhausted("waiting would bring none")),
            false => Err(PgError::WouldBlock),
        }
    }

    /// A connection that is idle, unless others wait for one.
    fn check_out_now(&self, now: Instant) -> PgResult<Option<PoolToken>> {
        {
            let state = &mut *self.state.borrow_mut();
            state.check_open()?;
            state.now = now;
            if !state.waiters.is_empty() {
                return Ok(None);
            }
        }
        match self.check_out() {
            CheckOut::Got(token) => Ok(Some(token)),
            CheckOut::Failed(error) => Err(error),
            CheckOut::Nothing => Ok(None),
        }
    }

    /// The guard of a connection that was given out.
    fn fetch(&self, pool: &Rc<Self>, token: PoolToken) -> PgResult<ConnectionGuard> {
        self.hand_over(pool, token).ok_or(PgError::WouldBlock)
    }

    /// Waits until a connection that is busy is ready, or something is due.
    fn wait(&self) -> PgResult<()> {
        let until = self.state.borrow().next_moment();
        let state = self.state.borrow();
        let connections = state.slots.iter().filter(|(_, slot)| slot.phase.is_busy());
        let connections = connections.filter_map(|(_, slot)| slot.connection.as_deref());
        let sources: Vec<Source<'_>> = connections.flat_map(PgConnection::poll_sources).collect();
        wait(&sources, until, None)?;
        drop(sources);
        drop(state);
        self.list_busy();
        Ok(())
    }

    /// Every connection that is busy may have become ready.
    fn list_busy(&self) {
        let state = &mut *self.state.borrow_mut();
        let is_busy = |(at, slot): (usize, &slots::Slot)| slot.phase.is_busy().then_some(at);
        let busy: Vec<usize> = state.slots.iter().filter_map(is_busy).collect();
        busy.into_iter().for_each(|slot| state.list(slot, true));
    }

    fn close_all(&self, timeout: Duration) -> PgResult<()> {
        let deadline = Instant::now().checked_add(timeout);
        self.start_close("the pool was closed", deadline);
        while self.state.borrow().slots.count(&[Phase::Shared]) > 0 {
            self.wait()?;
            self.drive(Instant::now());
        }
        let state = self.state.borrow();
        match state.slots.len() {
            0 => Ok(()),
            _ => Err(PgError::PoolTimeout(format!("closing the pool: {}", state.situation()))),
        }
    }
}
