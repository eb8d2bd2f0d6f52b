//! Logins, COPY, much at once, cancelling, and what is refused.

use std::io::{Read, Write};
use std::thread;

use testkit::frames::{self, cancel_request, message};
use testkit::pooler::{Pooler, Pooling};
use testkit::raw::RawClient;
use testkit::transport::Target;

use crate::support::*;

#[test]
fn the_servers_parameters_and_a_key_of_the_poolers_are_told_at_login() {
    let pooler = pooler(Pooling::default());
    let (client, direct) = (connect(&pooler), direct());
    assert_eq!(client.parameters(), direct.parameters());
    assert!(client.parameter("server_version").is_some());
    assert_ne!(client.secret_key(), connect(&pooler).secret_key());
    assert_eq!(client.transaction_status(), b'I');
    assert!(pooler.served_by().is_empty());
}

#[test]
fn requests_for_encryption_and_newer_protocols_are_turned_down() {
    let pooler = pooler(Pooling::default());
    let mut client = bare(&pooler);
    let mut answer = [0];
    for request in [b"\0\0\0\x08\x04\xd2\x16\x2f", b"\0\0\0\x08\x04\xd2\x16\x30"] {
        client.write_all(request).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"N");
    }
    let startup = b"\0\x03\0\x02user\0postgres\0_pq_.new\x001\0\0";
    client.write_all(&message(0, startup)[1..]).unwrap();
    client.write_all(&message(b'X', b"")).unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).unwrap();
    let lower = frames::negotiate_protocol_version(frames::protocol_version(3, 0), &["_pq_.new"]);
    assert!(heard.starts_with(&[lower, frames::authentication_ok()].concat()));
    assert!(heard.ends_with(&frames::ready_for_query(b'I')));
}

#[test]
fn logins_that_the_server_connections_do_not_have_are_refused() {
    let database = testkit::unique("pooled");
    testkit::shared().create_database(&database).unwrap();
    let pooler = pooler(Pooling::default().login("postgres", &database));
    let target = Target::port(pooler.port());
    let mut client = RawClient::connect(&target, "postgres", &database, None).unwrap();
    let current = client.value("SELECT current_database()").unwrap();
    assert_eq!(current.as_deref(), Some(database.as_str()));

    let login = [("user", "postgres"), ("database", database.as_str())];
    let refused = [
        (vec![("user", "postgres")], "no connections of postgres in the database postgres"),
        (vec![("user", "me"), login[1]], "no connections of me in the database"),
        (vec![login[0], login[1], ("options", "-c geqo=off")], "parameter: options=-c geqo=off"),
    ];
    for (parameters, reason) in refused {
        let error = RawClient::connect_with(&target, &parameters, None).unwrap_err();
        assert_eq!(error.code(), Some("08P01"));
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
#[should_panic(expected = "the pooler: ")]
fn a_server_that_is_not_there_is_said_at_the_start() {
    let _never = Pooler::start(Target::socket("/nonexistent", 1), Pooling::default());
}

#[test]
fn copy_passes_in_either_protocol_and_fails_without_a_stray_answer() {
    let table = testkit::unique("copied");
    let pooler = pooler(Pooling::default());
    let mut client = connect(&pooler);
    client.simple(&format!("CREATE TABLE {table} (id int)")).unwrap();
    let copy = format!("COPY {table} FROM STDIN");
    let data = |lines: &[u8]| [message(b'd', lines), message(b'c', b"")].concat();
    let extended = [parse("", &copy), bind_and_execute(""), sync()].concat();

    // Sent without waiting for CopyInResponse, and with another transaction behind it.
    let groups = [query(&copy), data(b"1\n"), query(MY_PID)].concat();
    assert_eq!(tags(&ask(&mut client, &groups)), "GCZ");
    assert_eq!(tags(&answer(&mut client)), "TDCZ");
    let groups = [extended.clone(), data(b"2\n"), sync(), query(MY_PID)].concat();
    assert_eq!(tags(&ask(&mut client, &groups)), "12GCZ");
    assert_eq!(tags(&answer(&mut client)), "TDCZ");

    let groups = [query(&copy), data(b"three\n"), query(MY_PID)].concat();
    assert_eq!(tags(&ask(&mut client, &groups)), "GEZ");
    assert_eq!(tags(&answer(&mut client)), "TDCZ");
    let groups = [extended, data(b"three\n"), sync(), query(MY_PID)].concat();
    assert_eq!(tags(&ask(&mut client, &groups)), "12GEZ");
    assert_eq!(tags(&answer(&mut client)), "TDCZ");
    // The data comes when the COPY has failed already: it belongs to no transaction.
    let groups = [query("COPY no_such_table FROM STDIN"), data(b"4\n"), query(MY_PID)].concat();
    assert_eq!(tags(&ask(&mut client, &groups)), "EZ");
    assert_eq!(tags(&answer(&mut client)), "TDCZ");

    assert_eq!(pooler.served_by().len(), 11);
    let sum = client.value(&format!("SELECT sum(id) FROM {table}")).unwrap();
    assert_eq!(sum.as_deref(), Some("3"));
    let all = ask(&mut client, &query(&format!("COPY {table} TO STDOUT")));
    assert_eq!(tags(&all), "HddcCZ");
}

#[test]
fn much_goes_both_ways_at_the_same_time() {
    const SIZE: usize = 3 << 20;
    let pooler = pooler(Pooling::default());
    let mut client = Bare::connect(&pooler);
    let mut speaking = client.stream.try_clone().unwrap();
    let group = unnamed(&format!("SELECT '{}'", "x".repeat(SIZE)));
    let speaker = thread::spawn(move || (0..10).try_for_each(|_| speaking.write_all(&group)));
    for _ in 0..10 {
        assert_eq!(client.hear(b'D').body.len(), SIZE + 6);
        assert_eq!(client.hear(b'Z').body, b"I");
    }
    speaker.join().unwrap().unwrap();
    assert_eq!(pooler.switches(), 9);
}

/// Two clients, of which the first waits for the lock of the trace, in the backend that the other
/// one was served by last.
fn one_waits_where_another_was(pooler: &Pooler, trace: &Trace) -> (RawClient, RawClient) {
    let (mut waiting, mut other) = (connect(pooler), connect(pooler));
    backend_of(&mut waiting);
    let last = backend_of(&mut other);
    let lock = format!("PERFORM pg_advisory_xact_lock({})", trace.key);
    let block = format!("DO $$ BEGIN RAISE NOTICE 'begun'; {lock}; END $$");
    waiting.write(&query(&block)).unwrap();
    assert_eq!(waiting.receive().unwrap().tag, b'N');
    assert_eq!(pooler.served_by().last(), Some(&last));
    (waiting, other)
}

/// Returns when the request has been dealt with.
fn cancel(pooler: &Pooler, client: &RawClient, secret_key: &[u8]) {
    let mut stream = bare(pooler);
    stream.write_all(&cancel_request(client.process_id(), secret_key)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_cancel_request_reaches_the_backend_of_the_clients_transaction() {
    let trace = Trace::new();
    let mut direct = direct();
    direct.simple(&format!("SELECT pg_advisory_lock({})", trace.key)).unwrap();
    let pooler = pooler(Pooling::default());
    let (mut waiting, _other) = one_waits_where_another_was(&pooler, &trace);
    cancel(&pooler, &waiting, waiting.secret_key());
    assert_eq!(error_code(&answer(&mut waiting)).as_deref(), Some("57014"));
    backend_of(&mut waiting);
}

#[test]
fn a_cancel_request_reaches_no_transaction_of_others() {
    let trace = Trace::new();
    let mut direct = direct();
    direct.simple(&format!("SELECT pg_advisory_lock({})", trace.key)).unwrap();
    let pooler = pooler(Pooling::default());
    let (mut waiting, other) = one_waits_where_another_was(&pooler, &trace);
    cancel(&pooler, &other, other.secret_key());
    cancel(&pooler, &waiting, b"none");
    drop(direct);
    assert_eq!(tags(&answer(&mut waiting)), "CZ");
}

#[test]
fn what_is_not_supported_is_refused_with_the_reason() {
    let pooler = pooler(Pooling::default());
    let trace = Trace::new();
    let cases = [
        ([parse("", "SELECT 1"), query("SELECT 2")].concat(), "came before the Sync"),
        ([unnamed(&trace.copy()), query("SELECT 2")].concat(), "nothing but COPY data"),
        (b"Q\0\0\0\x01".to_vec(), "no message starts with"),
    ];
    for (messages, reason) in cases {
        let mut client = connect(&pooler);
        client.write(&[messages, query("SELECT 3")].concat()).unwrap();
        let frame = std::iter::repeat_with(|| client.receive().unwrap())
            .find(|frame| frame.tag == b'E')
            .unwrap();
        let text = String::from_utf8_lossy(&frame.body).into_owned();
        assert!(text.contains(reason), "{text}");
    }
    let mut client = connect(&pooler);
    assert_eq!(distinct([(); 4].map(|()| backend_of(&mut client))), 2);
}
