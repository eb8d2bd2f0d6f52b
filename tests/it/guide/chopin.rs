//! The section "From a Chopin worker" of docs/GUIDE.md.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use chopin_pg::pool::PoolTicket;
use chopin_pg::{
    Outcome, Params, PgConfig, PgError, PgPool, PgPoolConfig, PgResult, PoolEvent, init_pool, pool,
};
use rustix::event::epoll::{self, CreateFlags};

use super::event_loop::await_pool;
use crate::support::*;

/// Once in each worker, before it serves.
fn init_worker(url: &str) -> PgResult<()> {
    init_pool(url, 2)
}

/// The same with settings of one's own, and without waiting for the first connection.
fn init_worker_with(config: PgConfig) -> PgResult<()> {
    let settings = PgPoolConfig::new().max_size(2).checkout_timeout(Duration::from_millis(500));
    PgPool::new(config, settings)?.install()
}

/// A handler that waits. Its worker does nothing else meanwhile.
fn title(work: i32) -> PgResult<Option<String>> {
    let mut db = pool().get()?;
    let row = db.query_opt("select title from works where id = $1", &[&work])?;
    row.map(|row| row.get(0)).transpose()
}

/// Answers a request of a client, later.
type Reply = Box<dyn FnOnce(PgResult<Outcome>)>;

/// The requests of a worker that wait for the database, while the worker does not.
#[derive(Default)]
struct Suspended(HashMap<PoolTicket, Reply>);

impl Suspended {
    /// A handler calls this and returns.
    fn ask(&mut self, sql: &str, params: impl Params, reply: Reply) {
        match pool().submit(sql, params) {
            Ok(ticket) => drop(self.0.insert(ticket, reply)),
            // Nothing was sent, most likely because too much waits already.
            Err(error) => reply(Err(error)),
        }
    }

    /// The worker calls this in each turn, after `pool().on_ready(token)` for what became ready.
    fn turn(&mut self, now: Instant) {
        let pool = pool();
        pool.drive(now);
        while let Some(event) = pool.next_event() {
            let (ticket, result) = match event {
                PoolEvent::Complete { ticket, outcome } => (ticket, Ok(outcome)),
                PoolEvent::Failed { ticket, error } => (ticket, Err(error)),
                _ => continue,
            };
            if let Some(reply) = self.0.remove(&ticket) {
                reply(result);
            }
        }
    }
}

/// Runs it as a worker.
fn in_worker(work: impl FnOnce() + Send + 'static) {
    thread::spawn(work).join().expect("a worker that works");
}

#[test]
fn a_handler_uses_the_pool_of_its_worker() {
    let server = testkit::shared();
    let url = server.url(server.superuser(), None, "postgres");
    in_worker(move || {
        let error = title(1).unwrap_err();
        assert!(error.to_string().contains("call init_pool first"), "{error}");
        init_worker(&url).unwrap();
        assert!(init_worker(&url).is_err(), "once");
        let sql = "create temp table works as select 1 as id, 'Barcarolle' as title";
        pool().get().unwrap().execute_batch(sql).unwrap();
        assert_eq!(title(1).unwrap().as_deref(), Some("Barcarolle"));
        assert_eq!(title(2).unwrap(), None);
    });
    let config = unix_config();
    in_worker(move || {
        init_worker_with(config).unwrap();
        assert_eq!(pool().pool_size(), 0);
        assert_eq!(pool().config().get_checkout_timeout(), Duration::from_millis(500));
        assert_usable(&mut pool().get().unwrap());
    });
}

#[test]
fn a_handler_answers_later() {
    let config = unix_config();
    in_worker(move || {
        init_worker_with(config).unwrap();
        let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
        let mut suspended = Suspended::default();
        let answers = Rc::new(RefCell::new(Vec::new()));
        let reply = |number: i32| -> Reply {
            let answers = Rc::clone(&answers);
            Box::new(move |result| {
                let square = result.and_then(|outcome| outcome.into_rows()[0].get::<i32>(0));
                answers.borrow_mut().push((number, square.map_err(|error| error.to_string())));
            })
        };
        for number in 0..100 {
            suspended.ask("select $1 * $1", (number,), reply(number));
        }
        suspended.ask("set work_mem = 1", (), reply(100));
        assert!(matches!(&answers.borrow()[..], [(100, Err(_))]), "refused at once");
        answers.borrow_mut().clear();
        suspended.ask("select 1 / $1", (0,), reply(101));
        while !suspended.0.is_empty() {
            suspended.turn(Instant::now());
            await_pool(&pool(), &epoll);
        }
        let mut answers = answers.take();
        answers.sort();
        assert_eq!(answers.len(), 101);
        for (number, answer) in &answers[..100] {
            assert_eq!(*answer, Ok(number * number));
        }
        assert!(answers[100].1.as_ref().unwrap_err().contains("division by zero"));
        // The worker ends: what is under way is answered, and nothing more is taken.
        pool().start_close(None);
        assert!(pool().is_closed());
        assert!(matches!(pool().get(), Err(PgError::PoolExhausted(_))));
    });
}
