//! Recorded logins with SCRAM, replayed: here, because the client's nonce has to be the recorded
//! one. All other sessions of tests/transcripts are replayed by tests/it/replay.rs.

use testkit::frames::{FirstPacket, Frame};
use testkit::transcript::{Direction, Transcript};
use testkit::transport::cuts;

use super::{Encryption, Engine};
use crate::config::PgConfig;
use crate::crypto::{base64, chosen};
use crate::engine::{Delivery, Request, Submit};

mod shared_keys;

/// Of the role that the sessions log in as.
const PASSWORD: &str = "prelude op. 28";

/// How often each session is replayed in random pieces.
const RANDOM_CUTS: usize = 1000;

/// What one side says until the other one speaks.
struct Turn {
    direction: Direction,
    bytes: Vec<u8>,
    /// The queries among it.
    queries: Vec<String>,
}

/// A recorded session.
struct Session {
    config: PgConfig,
    /// What was drawn at random for it.
    nonce: Vec<u8>,
    turns: Vec<Turn>,
}

fn load(name: &str) -> Session {
    let path = format!("{}/tests/transcripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let transcript = Transcript::load(path).expect("a transcript");
    let mut turns: Vec<Turn> = Vec::new();
    let (mut config, mut nonce) = (None, Vec::new());
    for entry in transcript.entries() {
        let frame = Frame { tag: entry.bytes()[0], body: entry.body().to_vec() };
        let mut queries = Vec::new();
        match entry.name() {
            "StartupMessage" => {
                let Ok(FirstPacket::Startup(startup)) = FirstPacket::decode(entry.bytes()) else {
                    panic!("{name}: a StartupMessage");
                };
                let param = |name| startup.param(name).unwrap_or_default();
                let (user, database) = (param("user"), param("database"));
                let new = PgConfig::new("localhost", 5432, user, PASSWORD, database);
                config = Some(new.application_name(param("application_name")));
            }
            "SASLInitialResponse" => {
                let first = frame.as_sasl_initial_response().expect("SCRAM").data.expect("data");
                let text = first.strip_prefix(b"n,,n=,r=").expect("a client-first message");
                nonce = base64::decode(text).expect("base64");
            }
            "Query" => queries.push(frame.as_query().expect("a query")),
            _ => {}
        }
        match turns.last_mut().filter(|turn| turn.direction == entry.direction()) {
            Some(turn) => {
                turn.bytes.extend_from_slice(entry.bytes());
                turn.queries.extend(queries);
            }
            None => {
                let (direction, bytes) = (entry.direction(), entry.bytes().to_vec());
                turns.push(Turn { direction, bytes, queries });
            }
        }
    }
    Session { config: config.expect("a StartupMessage"), nonce, turns }
}

/// Plays a session: the engine has to send what the client sent, and receives the server's turns in
/// these pieces. Returns its events.
fn play<'a>(session: &Session, mut pieces: impl Iterator<Item = Vec<&'a [u8]>>) -> Vec<String> {
    chosen::choose(session.nonce.clone());
    let mut engine = Engine::start(&session.config, Encryption::None, None).expect("a config");
    let mut events = Vec::new();
    for turn in &session.turns {
        if turn.direction == Direction::Frontend {
            for sql in &turn.queries {
                let submit = Submit::new(Delivery::Events);
                let _ticket = engine.submit(Request::Simple { sql }, submit).expect("a query");
            }
            if turn.bytes.starts_with(b"X") {
                engine.terminate();
            }
            let sent = engine.send_pending().to_vec();
            assert_eq!(sent.escape_ascii().to_string(), turn.bytes.escape_ascii().to_string());
            engine.sent(sent.len());
            continue;
        }
        for piece in pieces.next().expect("pieces of each turn") {
            engine.recv_space()[..piece.len()].copy_from_slice(piece);
            engine.received(piece.len());
            while let Some(event) = engine.next_event().expect("nothing breaks") {
                events.push(format!("{event:?}"));
            }
        }
    }
    assert!(engine.is_ready());
    events
}

/// Replays a session whole, byte by byte and in random pieces.
fn replay(name: &str) {
    let session = load(name);
    let answers = session.turns.iter().filter(|turn| turn.direction == Direction::Backend);
    let mut ways: Vec<_> = answers.map(|turn| cuts(&turn.bytes, 1839, 2 + RANDOM_CUTS)).collect();
    let mut next_way = || ways.iter_mut().map(|turn| turn.next().expect("a way")).collect();
    let first: Vec<_> = next_way();
    let whole = play(&session, first.into_iter());
    assert!(whole.iter().any(|event| event == "Ready"), "{whole:#?}");
    assert!(whole.iter().any(|event| event.contains("by_scram")), "{whole:#?}");
    for way in 0..=RANDOM_CUTS {
        let pieces: Vec<_> = next_way();
        assert_eq!(play(&session, pieces.into_iter()), whole, "{name}, way {way}");
    }
}

#[test]
fn s9_4_a_login_of_the_driver_with_scram_is_the_same_in_any_pieces() {
    replay("driver_login_scram");
}

#[test]
fn s9_4_a_login_of_psql_with_scram_is_ours_byte_for_byte() {
    replay("psql_login_scram");
}
