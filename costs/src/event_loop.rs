//! Many connections in one thread.

use std::os::fd::OwnedFd;

use chopin_pg::{PgConfig, PgConnection};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::Result;
use crate::client::Client;
use crate::cost::Cost;
use crate::points::{LATE, make_points};

/// The schema with the points that all connections share.
const SCHEMA: &str = "chopin_pg_costs";

/// W6, W6k: one query under way on each of so many connections, which one epoll(7) loop serves.
///
/// # Errors
///
/// Those of the connections, and of epoll; when the system allows fewer open files.
pub(crate) fn many_connections<const CONNECTIONS: u32>(
    config: &PgConfig,
    queries: usize,
) -> Result<Cost> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;

    let config = config.clone().options(format!("-c search_path={SCHEMA}"));
    let mut owner = PgConnection::connect(&config)?;
    owner.execute_batch(&format!(
        "drop schema if exists {SCHEMA} cascade; create schema {SCHEMA}"
    ))?;
    make_points(&mut owner, "unlogged")?;

    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut clients = Vec::new();
    for index in 0..CONNECTIONS {
        let client = Client::new(PgConnection::connect(&config)?)?;
        epoll::add(&epoll, &client, EventData::new_u64(index.into()), EventFlags::IN)?;
        clients.push(client);
    }
    let cost = ask(&mut clients, &epoll, queries)?;
    owner.execute_batch(&format!("drop schema {SCHEMA} cascade"))?;
    Ok(cost)
}

/// Has a query under way on each of the clients until all have been answered.
fn ask(clients: &mut [Client], epoll: &OwnedFd, queries: usize) -> Result<Cost> {
    let mut ready = Vec::with_capacity(clients.len());
    Cost::of(queries, || {
        let (mut asked, mut answered) = (0, 0);
        for client in clients.iter_mut().take(queries) {
            client.ask()?;
            client.send();
            asked += 1;
        }
        while answered < queries {
            std::thread::sleep(LATE);
            epoll::wait(epoll, spare_capacity(&mut ready), None)?;
            for event in ready.drain(..) {
                let client = &mut clients[usize::try_from(event.data.u64())?];
                client.take_answers()?;
                if client.waits() {
                    continue;
                }
                answered += 1;
                if asked < queries {
                    client.ask()?;
                    client.send();
                    asked += 1;
                }
            }
        }
        Ok(())
    })
}
