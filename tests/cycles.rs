//! Connections come and go ten thousand times and leave nothing behind: no descriptor, no memory.
//!
//! A test binary of its own, because it counts what a whole process has. Each test goes through its
//! cycles in a second process, in which nothing else happens; the servers belong to the first one.

use std::alloc::System;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use chopin_pg::{
    Delivery, Drive, Event, PgConfig, PgConnection, PgError, PgResult, Request, SqlState,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketType, bind, socket};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use testkit::fake::scram::ScramServer;
use testkit::fake::{FakeConn, FakeResult, FakeServer};
use testkit::frames;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Tells the second process where the servers are: a URL on each line.
const SERVERS: &str = "CHOPIN_PG_TEST_CYCLES";

/// Longer than anything here takes that is to come to its end.
const LONG: Duration = Duration::from_secs(20);

/// The time that is given to what is to take too long.
const SHORT: Duration = Duration::from_millis(1);

/// How many times everything is done before anything is counted: buffers are made, and kept.
const WARM_UP: usize = 5;

/// What a process has.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    /// In blocks that were allocated and not freed, in bytes.
    memory: usize,
}

impl Holdings {
    fn now() -> Self {
        let open = std::fs::read_dir("/proc/self/fd").expect("a system with /proc");
        let descriptors = open.count();
        let stats = COUNTED.stats();
        Self { descriptors, memory: stats.bytes_allocated - stats.bytes_deallocated }
    }
}

/// Has this test go through its cycles in a second process.
fn run_alone(test: &str, servers: &[String]) {
    let mut second = Command::new(std::env::current_exe().expect("the path of this program"));
    second.args([test, "--exact", "--nocapture"]).env(SERVERS, servers.join("\n"));
    let run = second.output().expect("a second process");
    let told = String::from_utf8_lossy(&run.stdout);
    let complaints = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && told.contains("1 passed"), "{told}{complaints}");
}

/// The servers, if this is the second process.
fn servers() -> Option<Vec<PgConfig>> {
    let urls = std::env::var(SERVERS).ok()?;
    Some(urls.lines().map(|url| PgConfig::from_url(url).expect("a URL")).collect())
}

/// Goes through so many cycles. Nothing may be left of them.
#[track_caller]
fn go_through(cycles: usize, mut cycle: impl FnMut(usize)) {
    (0..cycles.min(WARM_UP)).for_each(&mut cycle);
    let before = Holdings::now();
    (0..cycles).for_each(&mut cycle);
    assert_eq!(Holdings::now(), before, "after {cycles} cycles and before them");
}

/// Connects through the blocking face, or through the other one.
fn connect(config: &PgConfig, cycle: usize) -> PgResult<PgConnection> {
    if cycle % 2 == 0 {
        return PgConnection::connect(config);
    }
    let mut connection = PgConnection::start_connect(config)?;
    loop {
        let drive = connection.drive();
        while let Some(event) = connection.next_event()? {
            if let Event::Ready = event {
                return Ok(connection);
            }
        }
        if drive == Drive::Idle {
            wait(&connection);
        }
    }
}

/// Waits for what the connection waits for.
fn wait(connection: &PgConnection) {
    let mut sources = Vec::new();
    for (fd, interest) in connection.sources() {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.read);
        flags.set(PollFlags::OUT, interest.write);
        sources.push(PollFd::from_borrowed_fd(fd, flags));
    }
    let deadline = connection.deadline().expect("everything here has a deadline");
    let left = deadline.saturating_duration_since(Instant::now());
    poll(&mut sources, Some(&left.try_into().expect("a short time"))).expect("it can wait");
}

/// A way for a connect to a scripted server to end, and what the program is told.
struct Way {
    name: &'static str,
    /// What the server does.
    play: fn(&mut FakeConn) -> FakeResult,
    /// What the program does and is told.
    end: fn(&PgConfig, usize),
}

const WAYS: [Way; 9] = [
    Way {
        name: "hung up on at once",
        play: |conn| conn.hang_up(),
        end: |config, cycle| {
            let error = connect(config, cycle).unwrap_err();
            assert!(matches!(error, PgError::ConnectionClosed(_) | PgError::Io(_)), "{error}");
        },
    },
    Way {
        name: "hung up on behind the StartupMessage",
        play: |conn| {
            conn.startup()?;
            conn.hang_up()
        },
        end: |config, cycle| {
            let error = connect(config, cycle).unwrap_err();
            assert!(matches!(error, PgError::ConnectionClosed(_)), "{error}");
        },
    },
    Way {
        name: "wrong password",
        play: |conn| {
            conn.startup()?;
            ScramServer::new("another").iterations(2).authenticate(conn).map(drop)
        },
        end: |config, cycle| {
            let error = connect(config, cycle).unwrap_err();
            assert_eq!(error.sql_state(), Some(SqlState::INVALID_PASSWORD), "{error}");
        },
    },
    Way {
        name: "FATAL behind the authentication",
        play: |conn| {
            conn.startup()?;
            let fields = [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "53300"), (b'M', "no more")];
            conn.send_frames(&[frames::authentication_ok(), frames::error_response(&fields)])?;
            conn.hang_up()
        },
        end: |config, cycle| {
            let error = connect(config, cycle).unwrap_err();
            assert_eq!(error.sql_state(), Some(SqlState::TOO_MANY_CONNECTIONS), "{error}");
        },
    },
    Way {
        name: "garbage",
        play: |conn| {
            conn.startup()?;
            conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
            conn.hang_up()
        },
        end: |config, cycle| {
            let error = connect(config, cycle).unwrap_err();
            assert!(matches!(error, PgError::Protocol(_)), "{error}");
        },
    },
    Way {
        name: "silence",
        play: |conn| conn.drain(),
        end: |config, cycle| {
            let config = config.clone().connect_timeout(Some(SHORT));
            let error = connect(&config, cycle).unwrap_err();
            assert!(matches!(error, PgError::Timeout(_)), "{error}");
        },
    },
    Way {
        name: "given up somewhere in the login",
        play: |conn| {
            let _it_may_have_gone = conn.login();
            conn.drain()
        },
        end: |config, cycle| {
            let mut connection = PgConnection::start_connect(config).unwrap();
            for _ in 0..cycle % 3 {
                if connection.deadline().is_none() {
                    // Logged in: nothing more comes.
                    break;
                }
                let _more = connection.drive();
                while connection.next_event().unwrap().is_some() {}
                if cycle % 2 == 0 && connection.deadline().is_some() {
                    wait(&connection);
                }
            }
        },
    },
    Way {
        name: "hung up on in a query",
        play: |conn| {
            conn.login()?;
            conn.receive()?;
            conn.hang_up()
        },
        end: |config, cycle| {
            let mut connection = connect(config, cycle).unwrap();
            let error = connection.query("select 1", &[]).unwrap_err();
            assert!(matches!(error, PgError::ConnectionClosed(_) | PgError::Io(_)), "{error}");
            assert!(connection.is_broken());
        },
    },
    Way {
        name: "closed",
        play: |conn| {
            conn.login()?;
            conn.expect_terminate()
        },
        end: |config, cycle| drop(connect(config, cycle).unwrap()),
    },
];

/// A port that refuses every connect: it is taken, and nobody listens.
fn refusing() -> (OwnedFd, u16) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
    // Not one yet, but it knows its address.
    let socket = TcpListener::from(socket);
    let port = socket.local_addr().expect("its address").port();
    (socket.into(), port)
}

#[test]
fn h44_9_500_connects_that_end_anywhere_leave_nothing_behind() {
    const CYCLES: usize = 9_500 / (WAYS.len() + 1);

    if let Some(servers) = servers() {
        let (_kept, port) = refusing();
        let refusing = [
            PgConfig::new("127.0.0.1", port, "frederic", "secret", "music"),
            PgConfig::new("/nonexistent", port, "frederic", "secret", "music"),
        ];
        return go_through(CYCLES, |cycle| {
            let error = connect(&refusing[cycle / 2 % 2], cycle).unwrap_err();
            assert!(matches!(error, PgError::Io(_)), "{error}");
            for (way, server) in WAYS.iter().zip(servers.chunks(2)) {
                // Over TCP and through the socket, each on both faces.
                (way.end)(&server[cycle / 2 % 2], cycle);
            }
        });
    }
    let servers = WAYS.map(|way| (way.name, FakeServer::start(way.play)));
    let login = "frederic:secret";
    let urls = servers
        .iter()
        .flat_map(|(_, server)| [server.url(login, "music"), server.socket_url(login, "music")]);
    let urls: Vec<String> = urls.collect();
    run_alone("h44_9_500_connects_that_end_anywhere_leave_nothing_behind", &urls);
    for (name, server) in servers {
        assert_eq!(server.connections(), CYCLES + WARM_UP, "{name}");
        server.join();
    }
}

/// What becomes of a session with a real server.
fn end_session(config: &PgConfig, killer: &mut PgConnection, cycle: usize) {
    let config = config.clone().io_timeout(LONG);
    if cycle % 5 == 0 {
        let error = connect(&config.database("no such database"), cycle).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::INVALID_CATALOG_NAME), "{error}");
        return;
    }
    let mut connection = connect(&config, cycle).unwrap();
    let row = connection.query_one("select $1::int8", &[&7_i64]).unwrap();
    assert_eq!(row.get::<i64>(0).unwrap(), 7);
    match cycle % 5 {
        1 => {
            let sql = "select repeat('x', 1000) from generate_series(1, 1000)";
            let request = Request::Query { sql, params: &() };
            let _ticket = connection.submit(request, Delivery::Events).unwrap();
            connection.flush();
            wait(&connection);
            let _more = connection.drive();
            // Dropped in the middle of the answer.
        }
        2 => {
            let pid = connection.process_id();
            killer.query("select pg_terminate_backend($1)", &[&pid]).unwrap();
            let error = connection.query("select pg_sleep(20)", &[]).unwrap_err();
            assert_eq!(error.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "{error}");
        }
        3 => {
            connection.set_io_timeout(SHORT);
            let error = connection.query("select pg_sleep(0.1)", &[]).unwrap_err();
            assert!(matches!(error, PgError::Timeout(_) | PgError::NotSent(_)), "{error}");
            // Dropped while its cancel is under way.
        }
        _ => {}
    }
}

#[test]
fn h44_500_sessions_that_end_anyhow_leave_nothing_behind() {
    if let Some(servers) = servers() {
        let mut killer = PgConnection::connect(&servers[0]).unwrap();
        return go_through(500, |cycle| {
            end_session(&servers[cycle / 2 % 2], &mut killer, cycle);
        });
    }
    let server = testkit::shared();
    let folder = server.socket_dir().display().to_string().replace('/', "%2F");
    let (user, port) = (server.superuser(), server.port());
    let urls =
        [server.url(user, None, "postgres"), format!("postgres://{user}@{folder}:{port}/postgres")];
    run_alone("h44_500_sessions_that_end_anyhow_leave_nothing_behind", &urls);
}
