//! Plain threads that wait for the database: each has a pool of its own, takes jobs from a channel, and
//! does each in a transaction.
//!
//! `cargo run --example worker_threads -- --threads 4 --jobs 1000`; DATABASE_URL says where the
//! database is. The jobs are transfers between accounts, some of more than there is.

use std::error::Error;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use chopin_pg::{PgConfig, PgConnection, PgError, PgResult, Transaction, init_pool, pool};
use clap::Parser;

/// How many accounts there are, and what is in each at the beginning.
const ACCOUNTS: i32 = 10;
const BALANCE: i64 = 100;

/// Transfers between accounts, in transactions on several threads.
#[derive(Parser)]
pub(crate) struct Options {
    /// Where the database is
    #[arg(long, env = "DATABASE_URL", default_value = "postgres://localhost/postgres")]
    pub(crate) url: String,
    /// How many threads
    #[arg(long, default_value_t = 4)]
    pub(crate) threads: usize,
    /// How many transfers
    #[arg(long, default_value_t = 1000)]
    pub(crate) jobs: i32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let start = Instant::now();
    let totals = run(&options)?;
    println!("{:>7} transfers on {} threads", totals.done, options.threads);
    println!("{:>7} refused, because there was not enough", totals.refused);
    println!("{:>7} in all accounts, as at the beginning", totals.balance);
    println!("{:>7.2} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// What became of the jobs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) done: i32,
    pub(crate) refused: i32,
    /// What is in all accounts together.
    pub(crate) balance: i64,
}

/// A transfer.
struct Job {
    from: i32,
    to: i32,
    amount: i64,
}

/// Makes the accounts, runs the jobs, and looks at the accounts again.
pub(crate) fn run(options: &Options) -> Result<Totals, Box<dyn Error>> {
    let mut db = PgConnection::connect(&PgConfig::from_url(&options.url)?)?;
    db.execute_batch(
        "drop table if exists worker_threads; \
         create table worker_threads (id int4 primary key, balance int8 check (balance >= 0))",
    )?;
    let sql = "insert into worker_threads select id, $2 from generate_series(1, $1::int4) id";
    db.execute(sql, &[&ACCOUNTS, &BALANCE])?;

    let (sender, receiver) = mpsc::channel();
    for number in 0..options.jobs {
        let (from, to) = (1 + number % ACCOUNTS, 1 + number * 7 % ACCOUNTS);
        sender.send(Job { from, to, amount: i64::from(number % 120) })?;
    }
    drop(sender);
    let jobs = Mutex::new(receiver);
    let mut totals = Totals::default();
    thread::scope(|scope| {
        let start = |_| scope.spawn(|| work(&options.url, &jobs));
        let workers: Vec<_> = (0..options.threads).map(start).collect();
        for worker in workers {
            let part = worker.join().map_err(|_| "a worker has panicked")??;
            totals.done += part.done;
            totals.refused += part.refused;
        }
        Ok::<_, Box<dyn Error>>(())
    })?;

    let row = db.query_one("select sum(balance)::int8 from worker_threads", &[])?;
    totals.balance = row.get(0)?;
    db.execute_batch("drop table worker_threads")?;
    Ok(totals)
}

/// A worker: takes jobs as long as there are any.
fn work(url: &str, jobs: &Mutex<Receiver<Job>>) -> PgResult<Totals> {
    // Blocking work needs one connection at a time. The pool is closed when the thread ends.
    init_pool(url, 1)?;
    let mut totals = Totals::default();
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return Ok(totals) };
        match do_job(&job) {
            Ok(()) => totals.done += 1,
            Err(Failure::NotEnough) => totals.refused += 1,
            Err(Failure::Database(error)) => return Err(error),
        }
    }
}

/// Why a transfer is not made.
enum Failure {
    NotEnough,
    Database(PgError),
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Self {
        Self::Database(error)
    }
}

fn do_job(job: &Job) -> Result<(), Failure> {
    // The pool is this thread's, from anywhere: functions far below need not be handed it.
    let mut db = pool().get()?;
    db.transaction(|tx| transfer(tx, job))
}

/// What returns an error is rolled back.
fn transfer(tx: &mut Transaction<'_>, job: &Job) -> Result<(), Failure> {
    // Whoever locks in the same order as all others is never deadlocked with them.
    let sql = "select id, balance from worker_threads where id in ($1, $2) order by id for update";
    for row in tx.query(sql, &[&job.from, &job.to])? {
        let (id, balance): (i32, i64) = row.to()?;
        if id == job.from && balance < job.amount {
            return Err(Failure::NotEnough);
        }
    }
    let sql = "update worker_threads set balance = balance + $2 where id = $1";
    tx.execute(sql, &[&job.from, &-job.amount])?;
    tx.execute(sql, &[&job.to, &job.amount])?;
    Ok(())
}
