//! A web server without a framework: a thread for each core, each with its own listener
//! (SO_REUSEPORT), epoll loop and connections to PostgreSQL. Nothing is shared between the threads, and
//! nothing waits but epoll.
//!
//! `cargo run --release --example http_epoll -- --setup`, then `curl localhost:8080/queries?n=3`;
//! DATABASE_URL says where the database is. The routes are those of the TechEmpower benchmarks and
//! one that is slow: `/db`, `/queries?n=`, `/updates?n=`, `/fortunes`, `/slow?ms=`.
//!
//! | file | what lives there |
//! |---|---|
//! | `main.rs` | options, threads, the end |
//! | `worker.rs` | the loop of a thread |
//! | `tasks.rs` | what requests ask of the database |
//! | `client.rs` | a client: its requests and answers, in order |
//! | `http.rs`, `routes.rs` | requests, responses, what can be asked for |
//! | `poller.rs` | epoll, shared by clients and two pools |
//! | `tables.rs` | the tables |

mod client;
mod http;
mod poller;
mod routes;
mod tables;
mod tasks;
mod worker;

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use chopin_pg::{PgConfig, PgPool, PgPoolConfig, PgResult};
use clap::Parser;
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use self::tasks::Tasks;
use self::worker::Worker;

/// How many clients may wait to be let in.
const BACKLOG: i32 = 1024;

/// A web server on PostgreSQL, with an event loop for each core.
#[derive(Clone, Parser)]
pub(crate) struct Options {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// How many threads; as many as there are cores unless given
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Where the database is
    #[arg(long, env = "DATABASE_URL", default_value = "postgres://localhost/postgres")]
    pub(crate) url: String,
    /// Connections of each thread that many requests share
    #[arg(long, default_value_t = 2)]
    pub(crate) pool_size: usize,
    /// Connections of each thread for /slow, each for one request at a time
    #[arg(long, default_value_t = 4)]
    pub(crate) slow_pool_size: usize,
    /// How many requests may wait for a connection of each pool before others are refused
    #[arg(long, default_value_t = 4096)]
    pub(crate) max_waiting: usize,
    /// Make the tables first
    #[arg(long)]
    pub(crate) setup: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(&Options::parse())?;
    println!("listening on http://{}", server.address());
    let stop = server.stop_handle();
    ctrlc::set_handler(move || stop.stop())?;
    server.join()
}

/// The server, as long as it runs.
pub(crate) struct Server {
    address: SocketAddr,
    stop: StopHandle,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// Tells the server to end, from any thread.
#[derive(Clone)]
pub(crate) struct StopHandle(Arc<OwnedFd>);

impl StopHandle {
    /// Takes no more requests; [`Server::join`] returns when those that were taken are answered.
    pub(crate) fn stop(&self) {
        // It can only fail when it has been called 2^64 times.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl Server {
    /// Starts the threads. Each has a connection to the database then.
    ///
    /// # Errors
    ///
    /// When there is no database, or the address cannot be listened on.
    pub(crate) fn start(options: &Options) -> Result<Self, Box<dyn Error>> {
        let config = PgConfig::from_url(&options.url)?.application_name("http_epoll");
        if options.setup {
            tables::set_up(&config)?;
        }
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let first = listener(options.listen)?;
        // The system has chosen the port if it was 0; the others listen on the same one.
        let first = TcpListener::from(first);
        let address = first.local_addr()?;
        let mut listeners = vec![OwnedFd::from(first)];
        let count = options.threads.map_or_else(thread::available_parallelism, |count| {
            count.try_into().map_err(|_| io::Error::other("a server needs a thread"))
        })?;
        for _ in 1..count.get() {
            listeners.push(listener(address)?);
        }
        let mut server = Self { address, stop: StopHandle(wake), threads: Vec::new() };
        let (ready, is_ready) = mpsc::channel();
        for (number, listener) in listeners.into_iter().enumerate() {
            let (config, options) = (config.clone(), options.clone());
            let (stop, ready) = (server.stop_handle(), ready.clone());
            let thread = thread::Builder::new().name(format!("worker-{number}"));
            server.threads.push(thread.spawn(move || {
                // However it ends, the others go with it: half a server would only seem to serve.
                let stop = StopAtEnd(stop);
                let tasks = match tasks(&config, &options) {
                    Ok(tasks) => tasks,
                    Err(error) => return ready.send(Err(error)).map_err(io::Error::other),
                };
                ready.send(Ok(())).map_err(io::Error::other)?;
                Worker::new(listener, stop.0.0.clone(), tasks)?.run()
            })?);
        }
        for _ in &server.threads {
            is_ready.recv()??;
        }
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Waits until the server has ended.
    ///
    /// # Errors
    ///
    /// What a thread has ended by.
    pub(crate) fn join(self) -> Result<(), Box<dyn Error>> {
        for thread in self.threads {
            thread.join().map_err(|_| "a thread has panicked")??;
        }
        Ok(())
    }
}

/// Ends the server when it is dropped.
struct StopAtEnd(StopHandle);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The pools of a thread. This is the one time that it waits for the database: the name of the host is
/// looked up, and if no connection can be made the server does not start.
fn tasks(config: &PgConfig, options: &Options) -> PgResult<Tasks> {
    let pool = |size| {
        let settings = PgPoolConfig::new().max_size(size).max_waiting(options.max_waiting);
        PgPool::connect_with_config(config.clone(), settings)
    };
    Ok(Tasks::new(pool(options.pool_size)?, pool(options.slow_pool_size)?))
}

/// A socket that listens together with those of the other threads.
fn listener(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}
