//! What disturbs a teller of the blocking face from another thread.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use chopin_pg::{CancelToken, PgConfig, PgConnection};
use rustix::net::{Shutdown, shutdown};

/// What is done to a connection.
#[derive(Debug)]
pub(super) enum Deed {
    /// Whatever it runs is cancelled, once.
    Cancel(CancelToken),
    /// Whatever it runs is cancelled, and again, until the teller has done.
    CancelAgain(CancelToken),
    /// The network goes away: nobody says goodbye.
    Hangup(OwnedFd),
    /// The server ends the session.
    Terminate(i32),
}

impl Deed {
    /// [`Hangup`](Self::Hangup) of this connection.
    pub(super) fn hangup(db: &PgConnection) -> Self {
        Self::Hangup(db.as_fd().try_clone_to_owned().expect("a copy of the descriptor"))
    }

    fn act(&self, config: &PgConfig) {
        match self {
            Self::Cancel(token) | Self::CancelAgain(token) => token.cancel().expect("a cancel"),
            // It may have been closed before.
            Self::Hangup(socket) => drop(shutdown(socket, Shutdown::Both)),
            Self::Terminate(process) => {
                let mut db = PgConnection::connect(config).expect("a connection");
                db.query("select pg_terminate_backend($1)", &[process]).expect("an order");
            }
        }
    }
}

/// What the assistant is told.
enum Order {
    /// To do this after some time.
    Begin(Deed, Duration),
    /// The teller has done: what has not been done until now is not done any more.
    Over,
}

/// The thread that does it.
pub(super) struct Assistant<'scope> {
    orders: Sender<Order>,
    /// Whether it was done.
    reports: Receiver<bool>,
    thread: ScopedJoinHandle<'scope, ()>,
}

impl<'scope> Assistant<'scope> {
    pub(super) fn new(scope: &'scope Scope<'scope, '_>, config: &'scope PgConfig) -> Self {
        let (orders, receiver) = channel();
        let (sender, reports) = channel();
        let thread = scope.spawn(move || assist(&receiver, &sender, config));
        Self { orders, reports, thread }
    }

    /// Begins to disturb, after some time.
    pub(super) fn begin(&self, deed: Deed, after: Duration) {
        self.orders.send(Order::Begin(deed, after)).expect("the assistant listens");
    }

    /// Ends it; whether it was done. Nothing comes of it from now on.
    pub(super) fn end(&self) -> bool {
        self.orders.send(Order::Over).expect("the assistant listens");
        self.reports.recv().expect("the assistant answers")
    }

    /// Waits for the end of the thread.
    pub(super) fn join(self) {
        drop(self.orders);
        self.thread.join().expect("an assistant that has done its work");
    }
}

fn assist(orders: &Receiver<Order>, reports: &Sender<bool>, config: &PgConfig) {
    while let Ok(Order::Begin(deed, after)) = orders.recv() {
        let (mut is_done, mut pause) = (false, after);
        while orders.recv_timeout(pause).is_err_and(|error| error == RecvTimeoutError::Timeout) {
            deed.act(config);
            is_done = true;
            pause = match deed {
                Deed::CancelAgain(_) => Duration::from_millis(2),
                _ => Duration::MAX,
            };
        }
        if reports.send(is_done).is_err() {
            return;
        }
    }
}
