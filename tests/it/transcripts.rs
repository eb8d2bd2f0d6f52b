//! Real sessions, recorded between the driver and a server.

use chopin_pg::engine::{Encryption, Engine};
use chopin_pg::{PgConfig, PgConnection};
use testkit::proxy::Recorder;
use testkit::transcript::{Direction, Secrets, Transcript};

use crate::support::{feed, send_all};

/// What is said in a session of the driver's, in both directions.
fn record(session: impl FnOnce(&mut PgConnection)) -> Transcript {
    let server = testkit::shared();
    let recorder = Recorder::start(server.tcp(), Secrets::Keep);
    let config = PgConfig::new("127.0.0.1", recorder.port(), server.superuser(), "", "postgres");
    session(&mut PgConnection::connect(&config).unwrap());
    recorder.finish().remove(0)
}

#[test]
fn s9_1_s9_3_what_is_said_for_each_way_to_ask() {
    let transcript = record(|db| {
        db.query("select $1::int4", &[&7]).unwrap();
        db.query_simple("select 1; select 2").unwrap();
        let statement = db.prepare("select $1::text").unwrap();
        db.query_prepared(&statement, ("a",)).unwrap();
        drop(statement);
        db.query("select 1 / 0", &[]).unwrap_err();
    });
    let extended = ["Parse", "Bind", "Describe", "Execute", "Sync"];
    let said = [
        &["StartupMessage"][..],
        &extended,
        &["Query"],
        &["Parse", "Describe", "Sync"],
        &["Bind", "Describe", "Execute", "Sync"],
        &["Close"],
        &extended,
        &["Terminate"],
    ];
    assert_eq!(transcript.names(Direction::Frontend), said.concat());
    let answers = transcript.names(Direction::Backend);
    let ready = answers.iter().filter(|name| **name == "ReadyForQuery").count();
    assert_eq!(ready, 6, "one for the login and one for each request: {answers:?}");
}

#[test]
fn a_recorded_login_is_understood_in_any_pieces() {
    let transcript = record(|_| {});
    assert!(transcript.is_exact());
    let bytes = transcript.bytes(Direction::Backend);
    for pieces in testkit::transport::cuts(&bytes, 1849, 200) {
        let config = PgConfig::new("localhost", 5432, "postgres", "", "postgres");
        let mut engine = Engine::start(&config, Encryption::None, None).unwrap();
        send_all(&mut engine);
        for piece in pieces {
            feed(&mut engine, piece);
            while engine.next_event().unwrap().is_some() {}
        }
        assert!(engine.is_ready());
        assert_eq!(engine.session().parameter("client_encoding"), Some("UTF8"));
    }
}
