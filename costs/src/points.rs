//! Points, looked up by their primary key.

use std::time::Duration;

use chopin_pg::{PgConfig, PgConnection, PgResult};
use rustix::event::{PollFd, PollFlags, poll};

use crate::Result;
use crate::client::Client;
use crate::cost::Cost;

/// How many there are.
const POINTS: i32 = 1_000;

/// How many are asked for at a time where more than one are.
const AT_A_TIME: usize = 100;

/// How long a client that has asked for many things does something else.
///
/// When it comes back all answers are there. Else the scheduler decided how many there are when it
/// looks, and the counts of two runs would differ by a factor of ten. (The sleep counts too: it is
/// one system call for all of them.)
pub(crate) const LATE: Duration = Duration::from_millis(10);

pub(crate) const SELECT: &str = "select a, b from points where id = $1";

/// The id of the first point.
pub(crate) const FIRST: i32 = 0;

/// The id of the point after this one: the first one comes after the last.
pub(crate) fn after(id: i32) -> i32 {
    if id + 1 == POINTS { FIRST } else { id + 1 }
}

/// The columns of a point, so that answers can be checked.
pub(crate) fn point(id: i32) -> (i32, i32) {
    (2 * id, 3 * id)
}

/// The ids of points, one for each query.
fn ids(queries: usize) -> impl Iterator<Item = i32> {
    std::iter::successors(Some(FIRST), |id| Some(after(*id))).take(queries)
}

/// Makes the table, which is temporary or whatever else stands in front of `table`.
pub(crate) fn make_points(connection: &mut PgConnection, kind: &str) -> PgResult<()> {
    connection.execute_batch(&format!(
        "create {kind} table points (id int4 primary key, a int4 not null, b int4 not null);
         insert into points select id, 2 * id, 3 * id from generate_series(0, {POINTS} - 1) as id;
         analyze points"
    ))
}

/// From now on the server thinks for a millisecond about each point.
///
/// A client that has asked has to wait then. A tool that counts makes it so slow that the answer
/// would be there before it looks, and the calls that wait would not be counted.
fn make_points_slow(connection: &mut PgConnection) -> PgResult<()> {
    connection.execute_batch(
        "alter table points rename to quick_points;
         create temp view points as
             select id, a, b from quick_points where pg_sleep(0.001) is not null",
    )
}

/// W1: one query after the other.
///
/// # Errors
///
/// Those of the connection.
pub(crate) fn sequential(config: &PgConfig, queries: usize) -> Result<Cost> {
    let mut connection = PgConnection::connect(config)?;
    make_points(&mut connection, "temp")?;
    make_points_slow(&mut connection)?;
    let select = connection.prepare(SELECT)?;
    Cost::of(queries, || {
        for id in ids(queries) {
            let mut count = 0;
            let mut rows = connection.stream_prepared(&select, (id,))?;
            while let Some(row) = rows.next()? {
                let found: (i32, i32) = row.to()?;
                assert_eq!(found, point(id));
                count += 1;
            }
            assert_eq!(count, 1);
        }
        Ok(())
    })
}

/// W2: 100 queries in a pipeline that ends with a Sync, then all their answers.
///
/// # Errors
///
/// Those of the connection, and of poll(2).
pub(crate) fn pipelined(config: &PgConfig, queries: usize) -> Result<Cost> {
    in_turns(config, queries, |client, ids| {
        for _ in ids {
            client.ask_in_group()?;
        }
        client.end_group();
        client.send();
        Ok(())
    })
}

/// W2b: the same as a batch, which is one request.
///
/// # Errors
///
/// Those of the connection, and of poll(2).
pub(crate) fn batched(config: &PgConfig, queries: usize) -> Result<Cost> {
    in_turns(config, queries, |client, ids| {
        client.ask_many(ids)?;
        client.send();
        Ok(())
    })
}

/// W2q: 100 queries under way, each of them for itself, then all their answers.
///
/// # Errors
///
/// Those of the connection, and of poll(2).
pub(crate) fn in_flight(config: &PgConfig, queries: usize) -> Result<Cost> {
    in_turns(config, queries, |client, ids| {
        for _ in ids {
            client.ask()?;
        }
        client.send();
        // The server sends each answer when it has it.
        std::thread::sleep(LATE);
        Ok(())
    })
}

/// Again and again asks for 100 points and takes the answers.
fn in_turns(
    config: &PgConfig,
    queries: usize,
    ask: impl Fn(&mut Client, &[(i32,)]) -> Result<()>,
) -> Result<Cost> {
    let mut client = Client::connect(config)?;
    let ids: Vec<(i32,)> = ids(queries).map(|id| (id,)).collect();
    Cost::of(queries, || {
        for ids in ids.chunks(AT_A_TIME) {
            ask(&mut client, ids)?;
            while client.waits() {
                poll(&mut [PollFd::new(&client, PollFlags::IN)], None)?;
                client.take_answers()?;
            }
        }
        Ok(())
    })
}
