//! Many connections in one thread.

use chopin_pg::PgConfig;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::Result;
use crate::client::Client;
use crate::cost::Cost;
use crate::points::LATE;

const CONNECTIONS: u32 = 64;

/// W6: one query under way on each of 64 connections, which one epoll(7) loop serves.
///
/// # Errors
///
/// Those of the connections, and of epoll.
pub(crate) fn many_connections(config: &PgConfig, queries: usize) -> Result<Cost> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut clients = Vec::new();
    for index in 0..CONNECTIONS {
        let client = Client::connect(config)?;
        epoll::add(&epoll, &client, EventData::new_u64(index.into()), EventFlags::IN)?;
        clients.push(client);
    }
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
            epoll::wait(&epoll, spare_capacity(&mut ready), None)?;
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
