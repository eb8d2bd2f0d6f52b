//! examples/http_epoll: what its clients see.

#[path = "../../../examples/http_epoll/main.rs"]
#[allow(dead_code, reason = "the program's own main is not called")]
mod http_epoll;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use chopin_pg::PgConnection;
use clap::{CommandFactory, Parser};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{set_socket_linger, set_socket_send_buffer_size};
use serde_json::Value;

use self::http_epoll::{Options, Server};
use super::Database;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// The server, and its database.
struct Site {
    database: Database,
    server: Server,
}

impl Site {
    fn start(options: &[&str]) -> Self {
        let database = Database::new("site");
        let all = ["http_epoll", "--setup", "--listen", "127.0.0.1:0", "--url", &database.url];
        let options = Options::try_parse_from(all.iter().chain(options)).expect("options");
        let server = Server::start(&options).expect("a server");
        Self { database, server }
    }

    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.server.address()).expect("the server listens");
        stream.set_read_timeout(Some(LONG)).expect("a time limit");
        Client(BufReader::new(stream))
    }

    fn db(&self) -> PgConnection {
        self.database.connect()
    }

    /// Waits until so many `/slow` run.
    fn await_slow(&self, db: &mut PgConnection, count: i64) {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() \
             and state = 'active' and query like 'select pg_sleep%'";
        while db.query_one(sql, &[]).unwrap().get::<i64>(0).unwrap() != count {}
    }

    /// Ends the sessions that `/slow` runs on.
    fn terminate_slow(&self, db: &mut PgConnection) {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and query like 'select pg_sleep%'";
        db.query(sql, &[]).unwrap();
    }

    fn end(self) {
        self.server.stop_handle().stop();
        self.server.join().expect("an orderly end");
    }
}

/// A client of the server.
struct Client(BufReader<TcpStream>);

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    /// The header fields, in lower case.
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        assert!(self.head.contains("content-type: application/json\r\n"), "{self:?}");
        serde_json::from_str(&self.body).expect("JSON")
    }
}

impl Client {
    fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    fn send(&mut self, bytes: &str) {
        self.stream().write_all(bytes.as_bytes()).expect("the server reads");
    }

    /// Asks for several things in one packet.
    fn ask(&mut self, targets: &[&str]) {
        let text = |target: &&str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.send(&targets.iter().map(text).collect::<String>());
    }

    fn answer(&mut self) -> Answer {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let from = head.len();
            assert!(self.0.read_line(&mut head).expect("an answer") > 0, "it ends: {head:?}");
            let line = head[from..].to_ascii_lowercase();
            head.replace_range(from.., &line);
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("the body");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        Answer { status, head, body: String::from_utf8(body).expect("UTF-8") }
    }

    fn get(&mut self, target: &str) -> Answer {
        self.ask(&[target]);
        self.answer()
    }

    /// Whether an answer, or the end, is there.
    fn is_answered(&mut self) -> bool {
        self.stream().set_nonblocking(true).unwrap();
        let result = self.0.fill_buf().map(<[u8]>::len);
        self.stream().set_nonblocking(false).unwrap();
        match result {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    fn assert_ended(&mut self) {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).expect("an orderly end");
        assert_eq!(rest, "");
    }
}

/// The keys and numbers of rows of `world`, as the server tells them.
fn worlds(rows: &Value) -> Vec<(i32, i32)> {
    let number = |row: &Value, key: &str| {
        i32::try_from(row[key].as_i64().expect("a number")).expect("a small number")
    };
    let row = |row| (number(row, "id"), number(row, "randomNumber"));
    rows.as_array().expect("rows").iter().map(row).collect()
}

#[test]
fn b24_each_route_has_its_answer() {
    let site = Site::start(&["--threads", "2"]);
    let (mut db, mut client) = (site.db(), site.client());
    let stored = |db: &mut PgConnection, id: i32| -> i32 {
        let sql = "select randomnumber from world where id = $1";
        db.query_one(sql, &[&id]).unwrap().get(0).unwrap()
    };

    let answer = client.get("/db");
    for field in ["server: chopin-pg\r\n", "date: ", " gmt\r\n"] {
        assert!(answer.head.contains(field), "{answer:?}");
    }
    let [(id, number)] = worlds(&Value::Array(vec![answer.json()]))[..] else { panic!() };
    assert_eq!(stored(&mut db, id), number);

    let queries =
        [("", 1), ("?n=0", 1), ("?n=x", 1), ("?n=20", 20), ("?a=b&n=20", 20), ("?n=501", 500)];
    for (query, count) in queries {
        let rows = worlds(&client.get(&format!("/queries{query}")).json());
        assert_eq!(rows.len(), count, "{query}");
        assert!(rows.iter().all(|(id, _)| (1..=10_000).contains(id)));
        assert_eq!(stored(&mut db, rows[0].0), rows[0].1);
    }
    assert_eq!(client.get("/queries?n=-1").json().as_array().unwrap().len(), 1);

    let rows = worlds(&client.get("/updates?n=20").json());
    assert_eq!(rows.len(), 20);
    for (id, _) in &rows {
        let told = |number| rows.contains(&(*id, number));
        assert!(told(stored(&mut db, *id)), "the row {id} is as told");
    }

    let page = client.get("/fortunes");
    assert!(page.head.contains("content-type: text/html; charset=utf-8\r\n"), "{page:?}");
    let rows: Vec<&str> = page.body.split("<tr><td>").skip(1).collect();
    assert_eq!(rows.len(), 7);
    assert!(rows[0].starts_with("4</td><td>&lt;script&gt;"), "{}", rows[0]);
    assert!(rows[2].starts_with("0</td><td>Additional fortune"), "{}", rows[2]);
    assert!(rows.iter().any(|row| row.contains("Practise &amp; be patient.")));
    assert!(rows[6].contains("フレームワークのベンチマーク"), "{}", rows[6]);

    assert_eq!(client.get("/slow?ms=1").json(), "slept");
    let missing = client.get("/nothing");
    assert_eq!((missing.status, &*missing.body), (404, "404 Not Found\n"));
    assert_eq!(client.get("/db").status, 200, "on the same connection");
    drop(client);
    site.end();
}

#[test]
fn b24_requests_in_one_packet_are_answered_in_order() {
    let site = Site::start(&["--threads", "1"]);
    let mut client = site.client();
    for _ in 0..10 {
        client.ask(&["/slow?ms=20", "/queries?n=3", "/nothing", "/updates?n=2", "/slow?ms=1"]);
        client.ask(&["/fortunes", "/db"]);
        assert_eq!(client.answer().json(), "slept");
        assert_eq!(worlds(&client.answer().json()).len(), 3);
        assert_eq!(client.answer().status, 404);
        assert_eq!(worlds(&client.answer().json()).len(), 2);
        assert_eq!(client.answer().json(), "slept");
        assert!(client.answer().body.starts_with("<!DOCTYPE html>"));
        assert!(client.answer().json().is_object());
    }
    // More than are worked on at a time, and in pieces.
    let requests = "GET /db HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let (first, second) = requests.split_at(1001);
    client.send(first);
    client.send(second);
    for _ in 0..200 {
        assert!(client.answer().json().is_object());
    }
    drop(client);
    site.end();
}

#[test]
fn b24_h27_a_slow_request_delays_nobody() {
    let site = Site::start(&["--threads", "1", "--slow-pool-size", "1"]);
    let mut db = site.db();
    let (mut slow, mut quick) = (site.client(), site.client());
    slow.ask(&["/slow?ms=60000", "/db"]);
    site.await_slow(&mut db, 1);
    for _ in 0..100 {
        quick.ask(&["/db", "/queries?n=10", "/updates?n=3", "/fortunes"]);
        for _ in 0..4 {
            assert_eq!(quick.answer().status, 200);
        }
    }
    assert!(!slow.is_answered(), "it runs all the time");
    // What happens to its connection is an answer too, and the next one gets another.
    site.terminate_slow(&mut db);
    assert_eq!(slow.answer().status, 500);
    assert_eq!(slow.answer().status, 200);
    assert_eq!(slow.get("/slow?ms=1").json(), "slept");
    drop((slow, quick));
    site.end();
}

#[test]
fn b24_what_is_too_much_is_refused_at_once() {
    let options = ["--threads", "1", "--slow-pool-size", "1", "--max-waiting", "1"];
    let site = Site::start(&options);
    let mut db = site.db();
    let mut first = site.client();
    first.ask(&["/slow?ms=60000"]);
    site.await_slow(&mut db, 1);
    // One of these waits, the other one is refused.
    let (mut second, mut third) = (site.client(), site.client());
    second.ask(&["/slow?ms=1"]);
    third.ask(&["/slow?ms=1"]);
    let wait = |clients: [&Client; 2]| {
        let mut fds = clients.map(|client| PollFd::new(client.stream(), PollFlags::IN));
        let limit = Timespec::try_from(LONG).unwrap();
        assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1);
    };
    wait([&second, &third]);
    if second.is_answered() {
        std::mem::swap(&mut second, &mut third);
    }
    let refused = third.answer();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.head.contains("retry-after: 1\r\n"), "{refused:?}");
    // One who hangs up leaves the queue, so that there is room for another.
    let mut fourth = site.client();
    assert_eq!(fourth.get("/db").status, 200);
    set_socket_linger(second.stream(), Some(Duration::ZERO)).unwrap();
    drop(second);
    fourth.ask(&["/slow?ms=1"]);
    assert_eq!(third.get("/slow?ms=1").status, 503);
    site.terminate_slow(&mut db);
    assert_eq!(first.answer().status, 500);
    assert_eq!(fourth.answer().json(), "slept");
    assert_eq!(third.get("/slow?ms=1").json(), "slept", "the one who was refused tries again");
    drop((first, third, fourth));
    site.end();
}

#[test]
fn b24_clients_end_as_they_like() {
    let site = Site::start(&["--threads", "1"]);
    // Half: it has said all, and wants its answers.
    let mut half = site.client();
    half.ask(&["/slow?ms=20", "/db"]);
    half.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(half.answer().json(), "slept");
    assert!(half.answer().json().is_object());
    half.assert_ended();
    // In the middle of a request.
    let mut cut = site.client();
    cut.send("GET /db HTTP/1.1\r\nHo");
    cut.stream().shutdown(Shutdown::Write).unwrap();
    cut.assert_ended();
    // As it says itself.
    for request in
        ["GET /db HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n", "GET /db HTTP/1.0\r\n\r\n"]
    {
        let mut last = site.client();
        last.send(&request.repeat(2));
        let answer = last.answer();
        assert!(answer.json().is_object());
        assert!(answer.head.contains("connection: close\r\n"), "{answer:?}");
        last.assert_ended();
    }
    let mut kept = site.client();
    kept.send(&"GET /db HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".repeat(2));
    assert_eq!((kept.answer().status, kept.answer().status), (200, 200));
    drop((half, cut, kept));
    site.end();
}

#[test]
fn b24_bad_requests_are_answered_and_end_the_connection() {
    let site = Site::start(&["--threads", "1"]);
    let long = format!("GET /db HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(9_000));
    let endless = format!("GET /{}", "x".repeat(9_000));
    for (request, status) in [
        ("hello\r\n\r\n", 400),
        ("GET /db HTTP/1.1\r\n\r\n", 400),
        ("POST /db HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        ("GET /db HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 413),
        ("GET /db HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        (&long, 431),
        (&endless, 431),
    ] {
        let mut client = site.client();
        client.ask(&["/db"]);
        client.send(request);
        assert_eq!(client.answer().status, 200, "what came before is answered");
        let answer = client.answer();
        assert_eq!(answer.status, status, "{request:.40}");
        assert!(answer.head.contains("connection: close\r\n"), "{answer:?}");
        assert_eq!(answer.head.contains("allow: get\r\n"), status == 405);
        client.assert_ended();
    }
    site.end();
}

#[test]
fn b24_a_client_that_does_not_read_is_not_read_from() {
    let site = Site::start(&["--threads", "1"]);
    let mut deaf = site.client();
    set_socket_send_buffer_size(deaf.stream(), 16 * 1024).unwrap();
    deaf.stream().set_nonblocking(true).unwrap();
    let pad = "x".repeat(2_000);
    let request = format!("GET /fortunes HTTP/1.1\r\nHost: x\r\nX: {pad}\r\n\r\n");
    let mut sent = 0;
    loop {
        match deaf.stream().write(&request.as_bytes()[sent % request.len()..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let limit = Timespec::try_from(Duration::from_millis(300)).unwrap();
                let mut fds = [PollFd::new(deaf.stream(), PollFlags::OUT)];
                if poll(&mut fds, Some(&limit)).unwrap() == 0 {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 64 << 20, "the server reads on and on");
    }
    // Others are served meanwhile.
    assert_eq!(site.client().get("/db").status, 200);
    // And so is this one when it reads at last.
    deaf.stream().set_nonblocking(false).unwrap();
    for _ in 0..sent / request.len() {
        assert!(deaf.answer().body.contains("Additional fortune"));
    }
    drop(deaf);
    site.end();
}

#[test]
fn b24_the_server_ends_with_what_it_has_begun() {
    let site = Site::start(&["--threads", "2"]);
    let mut db = site.db();
    let (mut busy, mut idle) = (site.client(), site.client());
    assert_eq!(idle.get("/db").status, 200);
    busy.ask(&["/slow?ms=200", "/db"]);
    site.await_slow(&mut db, 1);
    site.server.stop_handle().stop();
    idle.assert_ended();
    assert_eq!(busy.answer().json(), "slept");
    assert_eq!(busy.answer().status, 200);
    busy.assert_ended();
    drop((busy, idle));
    let address = site.server.address();
    site.server.join().expect("an orderly end");
    let gone = TcpStream::connect(address).map(|_| ()).map_err(|error| error.kind());
    assert_eq!(gone, Err(ErrorKind::ConnectionRefused));
    let sql = "select count(*) from pg_stat_activity \
         where datname = current_database() and application_name = 'http_epoll'";
    while db.query_one(sql, &[]).unwrap().get::<i64>(0).unwrap() > 0 {}
}

#[test]
fn b24_the_server_says_why_it_does_not_start() {
    let start = |arguments: &[&str]| {
        let options = Options::try_parse_from(["http_epoll"].iter().chain(arguments)).unwrap();
        Server::start(&options).map(|_| ()).unwrap_err().to_string()
    };
    let server = testkit::shared();
    let url = server.url(server.superuser(), None, "no_such_database");
    let error = start(&["--listen", "127.0.0.1:0", "--url", &url]);
    assert!(error.contains("database \"no_such_database\" does not exist"), "{error}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = start(&["--listen", &taken.local_addr().unwrap().to_string(), "--url", &url]);
    assert!(error.contains("in use"), "{error}");
    let error = start(&["--listen", "127.0.0.1:0", "--url", &url, "--threads", "0"]);
    assert_eq!(error, "a server needs a thread");
    Options::command().debug_assert();
}
