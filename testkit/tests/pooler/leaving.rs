//! The ends of clients, of server sessions, and of the pooler.

use std::io::Read;
use std::net::Shutdown;

use testkit::fake::{FakeServer, script};
use testkit::frames::{self, message};
use testkit::pooler::{Pooler, Pooling};
use testkit::raw::RawError;
use testkit::transport::Target;

use crate::support::*;

/// Lets a client go in whatever state `leave` brings it to. Then there must be no trace of it, and
/// both server connections must serve others as before.
#[track_caller]
fn assert_leaves_no_trace(leave: impl FnOnce(&mut Bare, &Trace)) {
    let trace = Trace::new();
    let pooler = pooler(Pooling::default());
    let mut other = connect(&pooler);
    let before = [backend_of(&mut other), backend_of(&mut other)];
    let mut client = Bare::connect(&pooler);
    leave(&mut client, &trace);
    drop(client);
    assert_eq!(trace.rows(), "0");
    assert_eq!([backend_of(&mut other), backend_of(&mut other)], before);
    assert_eq!(pooler.served_by().len(), 5);
    other.simple("BEGIN").unwrap();
    assert_eq!(other.transaction_status(), b'T');
}

#[test]
fn a_client_that_goes_in_a_transaction_leaves_no_trace() {
    let begin = |client: &mut Bare, trace: &Trace| {
        client.say(&query(&format!("BEGIN; {}", trace.insert())));
        assert_eq!(client.hear(b'Z').body, b"T");
    };
    assert_leaves_no_trace(begin);
    assert_leaves_no_trace(|client, trace| {
        begin(client, trace);
        client.say(&message(b'X', b""));
    });
    assert_leaves_no_trace(|client, trace| {
        begin(client, trace);
        client.say(&query("SELECT 1/0"));
        assert_eq!(client.hear(b'Z').body, b"E");
    });
    assert_leaves_no_trace(|client, trace| {
        begin(client, trace);
        client.say(&query("COMMIT")[..9]);
    });
}

#[test]
fn a_client_that_goes_before_its_sync_leaves_no_trace() {
    let insert = |trace: &Trace| [parse("", &trace.insert()), bind_and_execute("")].concat();
    let flush = message(b'H', b"");
    assert_leaves_no_trace(|client, trace| {
        client.say(&[insert(trace), flush.clone()].concat());
        client.hear(b'C');
    });
    assert_leaves_no_trace(|client, trace| {
        let fail = [parse("", "SELECT 1/0"), bind_and_execute("")].concat();
        client.say(&[insert(trace), fail, flush.clone()].concat());
        client.hear(b'E');
    });
    assert_leaves_no_trace(|client, trace| {
        let copy = [parse("", &trace.copy()), bind_and_execute(""), sync()].concat();
        client.say(&[insert(trace), copy].concat());
        client.hear(b'G');
        client.say(&message(b'd', b"x\n"));
    });
}

#[test]
fn a_client_that_goes_in_a_copy_leaves_no_trace() {
    for begin in ["", "BEGIN; "] {
        assert_leaves_no_trace(|client, trace| {
            client.say(&query(&format!("{begin}{}; {}", trace.insert(), trace.copy())));
            client.hear(b'G');
            client.say(&message(b'd', b"x\n"));
        });
    }
}

#[test]
fn what_a_client_has_sent_before_it_goes_is_done() {
    let trace = Trace::new();
    let pooler = pooler(Pooling::default());
    let mut client = Bare::connect(&pooler);
    let insert = [query(&trace.insert()), unnamed(&trace.insert())].concat();
    client.say(&[query("SELECT 1"), insert, message(b'X', b"")].concat());
    client.hear(b'Z');
    let mut rest = client.received.take_rest();
    client.stream.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&frames::ready_for_query(b'I')));
    assert_eq!(trace.rows(), "2");

    // A half-closed connection gets its answers, too.
    let mut client = Bare::connect(&pooler);
    client.say(&[query("SELECT 1"), query(&trace.insert())].concat());
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.hear(b'C').body, b"SELECT 1\0");
    assert_eq!(client.hear(b'C').body, b"INSERT 0 1\0");
    assert_eq!(trace.rows(), "3");
}

#[test]
fn a_session_that_the_server_ends_is_replaced() {
    let pooler = pooler(Pooling::default());
    let mut client = connect(&pooler);
    let terminate = |backend: u32| {
        let ended = format!("SELECT pg_terminate_backend({backend}, 60000)");
        assert_eq!(direct().value(&ended).unwrap().as_deref(), Some("t"));
    };
    let idle = backend_of(&mut client);
    let other = backend_of(&mut client);
    terminate(idle);
    let replaced = backend_of(&mut client);
    assert!(replaced != idle && replaced != other);

    client.simple("BEGIN").unwrap();
    terminate(other);
    assert_eq!(client.receive().map(|frame| error_code(&[frame])).unwrap().unwrap(), "57P01");
    assert!(matches!(client.receive(), Err(RawError::Io(_))));
    let mut client = connect(&pooler);
    assert_eq!(backend_of(&mut client), replaced);
    assert!(![idle, other, replaced].contains(&backend_of(&mut client)));
}

#[test]
fn dropping_the_pooler_ends_its_connections() {
    let trace = Trace::new();
    let pooler = pooler(Pooling::connections(3));
    let mut in_transaction = connect(&pooler);
    in_transaction.simple(&format!("BEGIN; {}", trace.insert())).unwrap();
    let mut idle = connect(&pooler);
    backend_of(&mut idle);
    drop(pooler);
    for client in [&mut in_transaction, &mut idle] {
        assert!(client.value(MY_PID).is_err());
    }
    assert_eq!(trace.rows(), "0");
}

#[test]
fn dropping_the_pooler_waits_for_no_answer() {
    let server = FakeServer::start_each(vec![
        script(|conn| {
            conn.login()?;
            conn.expect_query("SELECT 1")?;
            conn.send(&frames::notice_response(&[(b'M', "this takes long")]))?;
            conn.expect_eof()
        }),
        script(|conn| {
            conn.login()?;
            conn.expect_terminate()
        }),
    ]);
    let pooler = Pooler::start(Target::port(server.port()), Pooling::default());
    let mut client = connect(&pooler);
    client.write(&query("SELECT 1")).unwrap();
    assert_eq!(client.receive().unwrap().tag, b'N');
    drop(pooler);
    assert!(client.receive().is_err());
    server.join();
}
