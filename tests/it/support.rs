//! Connections for tests, their two faces, and a transport for engines that have none.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use chopin_pg::connection::Submit;
use chopin_pg::engine::Engine;
use chopin_pg::{
    Delivery, Drive, Event, ExecutionMode, Outcome, Params, PgConfig, PgConnection, PgResult,
    PgValue, Request, Row, Statement,
};
use testkit::fake::FakeServer;

/// The configuration of the shared server, over TCP.
pub(crate) fn config() -> PgConfig {
    let server = testkit::shared();
    PgConfig::new(server.host(), server.port(), server.superuser(), "", "postgres")
}

/// The configuration of the shared server, over its Unix-domain socket.
pub(crate) fn unix_config() -> PgConfig {
    let server = testkit::shared();
    let folder = server.socket_dir().to_str().expect("a socket folder that is UTF-8");
    PgConfig::new(folder, server.port(), server.superuser(), "", "postgres")
}

/// A new connection to the shared server.
pub(crate) fn connect() -> PgConnection {
    PgConnection::connect(&config()).expect("the shared server takes connections")
}

/// The configuration of a scripted server.
pub(crate) fn fake_config(server: &FakeServer) -> PgConfig {
    PgConfig::new("127.0.0.1", server.port(), "frederic", "secret", "music")
}

/// Whether tests that take long or much memory are to run with their full sizes
/// (`cargo xtask test --long`).
pub(crate) fn is_long() -> bool {
    std::env::var_os("CHOPIN_TEST_LONG").is_some_and(|value| value == "1")
}

/// The next query on the connection gets its own, right answer.
#[track_caller]
pub(crate) fn assert_usable(connection: &mut PgConnection) {
    let row = connection.query_one("select $1::int4 + 1 as answer", &[&41]);
    let answer: i32 = row.and_then(|row| row.get("answer")).expect("the connection is usable");
    assert_eq!(answer, 42);
    assert!(!connection.is_broken());
}

/// The event loop of a program with one connection and nothing else to do: hands every event to
/// `take` until `left` requests have ended.
///
/// # Errors
///
/// What broke the connection.
pub(crate) fn run_events(
    connection: &mut PgConnection,
    mut left: usize,
    mut take: impl FnMut(Event<'_>),
) -> PgResult<()> {
    // Some requests have no deadline: what never ends should be a failure.
    let patience = Instant::now() + Duration::from_secs(120);
    while left > 0 {
        if connection.drive() == Drive::Idle {
            assert!(Instant::now() < patience, "{left} requests do not end");
            std::thread::yield_now();
        }
        while let Some(event) = connection.next_event()? {
            left -= usize::from(matches!(event, Event::Complete { .. } | Event::Failed { .. }));
            take(event);
        }
    }
    Ok(())
}

/// Submits one request and runs events until its collected result can be taken.
///
/// # Errors
///
/// As `submit` and `take`; what broke the connection.
pub(crate) fn submit_and_take(
    connection: &mut PgConnection,
    request: Request<'_>,
    submit: Submit,
) -> PgResult<Outcome> {
    let ticket = connection.submit_with(request, submit)?;
    connection.flush();
    run_events(connection, 1, |event| assert_eq!(event.ticket().unwrap_or(ticket), ticket))?;
    connection.take(ticket).map(|outcome| outcome.expect("the result of a request that has ended"))
}

/// How the non-blocking face asks for what the blocking one returns.
pub(crate) const COLLECT: Submit = Submit::new(Delivery::Collect);

/// One of the two faces of a connection: what it is asked for is the same through both. See
/// [`on_both_faces`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Face {
    Blocking,
    NonBlocking,
}

impl Face {
    pub(crate) fn query(
        self,
        connection: &mut PgConnection,
        sql: &str,
        params: impl Params,
    ) -> PgResult<Vec<Row>> {
        match self {
            Self::Blocking => connection.query_with(sql, params),
            Self::NonBlocking => {
                let request = Request::Query { sql, params: &params };
                submit_and_take(connection, request, COLLECT).map(Outcome::into_rows)
            }
        }
    }

    pub(crate) fn query_in(
        self,
        connection: &mut PgConnection,
        mode: ExecutionMode,
        sql: &str,
        params: impl Params,
    ) -> PgResult<Vec<Row>> {
        match self {
            Self::Blocking => connection.query_in(mode, sql, params),
            Self::NonBlocking => {
                let request = Request::Query { sql, params: &params };
                submit_and_take(connection, request, COLLECT.mode(mode)).map(Outcome::into_rows)
            }
        }
    }

    pub(crate) fn prepare(self, connection: &mut PgConnection, sql: &str) -> PgResult<Statement> {
        match self {
            Self::Blocking => connection.prepare(sql),
            Self::NonBlocking => {
                let outcome =
                    submit_and_take(connection, Request::Prepare { sql, types: &[] }, COLLECT)?;
                Ok(outcome.into_statement().expect("the statement that was prepared"))
            }
        }
    }

    pub(crate) fn query_prepared(
        self,
        connection: &mut PgConnection,
        statement: &Statement,
        params: impl Params,
    ) -> PgResult<Vec<Row>> {
        match self {
            Self::Blocking => connection.query_prepared(statement, params),
            Self::NonBlocking => {
                let request = Request::Execute { statement, params: &params };
                submit_and_take(connection, request, COLLECT).map(Outcome::into_rows)
            }
        }
    }
}

/// Makes two tests of each of these functions, which take a [`Face`]: `name::blocking` and
/// `name::non_blocking`.
macro_rules! on_both_faces {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn blocking() {
                super::$name($crate::support::Face::Blocking);
            }

            #[test]
            fn non_blocking() {
                super::$name($crate::support::Face::NonBlocking);
            }
        }
    )+};
}
pub(crate) use on_both_faces;

/// Rows as `psql -At` prints them: a line for each, `|` between the cells; only that NULL is `NULL`.
pub(crate) fn printed(rows: &[Row]) -> String {
    let cell = |row: &Row, index| row.get::<PgValue>(index).expect("a value").to_string();
    let line = |row: &Row| (0..row.len()).map(|i| cell(row, i)).collect::<Vec<_>>().join("|");
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The wire trace of what `act` does on the connection.
pub(crate) fn traced(
    connection: &mut PgConnection,
    act: impl FnOnce(&mut PgConnection),
) -> Vec<String> {
    let lines = Rc::new(RefCell::new(Vec::new()));
    let tracer = Rc::clone(&lines);
    connection.set_tracer(move |line| tracer.borrow_mut().push(line.to_owned()));
    act(connection);
    connection.clear_tracer();
    lines.take()
}

/// The SQL texts that the server has prepared statements of for this session, oldest first. The
/// query for them closes first what is to be closed, and leaves nothing itself.
pub(crate) fn server_statements(connection: &mut PgConnection) -> Vec<String> {
    let sql = "select statement from pg_prepared_statements order by prepare_time, name";
    let rows = connection.query_in(ExecutionMode::Unnamed, sql, ()).expect("the statements");
    rows.iter().map(|row| row.get(0).expect("a text")).collect()
}

/// Hands bytes to an engine as a transport does.
pub(crate) fn feed(engine: &mut Engine, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let space = engine.recv_space();
        let count = space.len().min(bytes.len());
        space[..count].copy_from_slice(&bytes[..count]);
        engine.received(count);
        bytes = &bytes[count..];
    }
}

/// Everything that is pending goes out; returns it.
pub(crate) fn send_all(engine: &mut Engine) -> Vec<u8> {
    let bytes = engine.send_pending().to_vec();
    engine.sent(bytes.len());
    bytes
}
