//! Recorded sessions, replayed in any pieces; wire traces against golden files.
//!
//! `tests/transcripts` has what clients said to real servers, and heard: psql, libpq's pipelines
//! (through pgbench), and this driver. Each session is replayed to an engine without a socket: the
//! same requests are submitted, and it receives what the server said back then, once as a whole, once
//! byte by byte, and in 1,000 random divisions; all that with each delivery. Its events and results
//! must be the same each time, and as the file `.events` beside the transcript has them; what it
//! sends must be what the driver (or psql) sent.
//!
//! `tests/traces` has what a tracer is told of some sessions with a server of today.
//!
//! ```text
//! cargo xtask transcripts                  # records everything anew, and writes the files beside it
//! CHOPIN_BLESS=1 cargo test replay::       # writes .events and traces as they are now
//! ```
//!
//! The first records psql and pgbench itself, and then runs these tests with `CHOPIN_RECORD=1`, by
//! which they record the driver. Logins with SCRAM are replayed beside the code
//! (`src/engine/startup/tests.rs`), where the client's nonce can be chosen.

mod client;
mod golden;
mod libpq;
mod player;
mod recorder;
mod scripts;
mod traces;

use std::collections::BTreeSet;
use std::fs;

use chopin_pg::Delivery;
use testkit::transcript::{Direction, Tape, Transcript};
use testkit::transport::cuts;

pub(crate) use self::client::{BROKEN, Client, Log};
pub(crate) use self::player::{Player, Recorded, folder};
use self::player::{Replay, Replayed};
pub(crate) use self::scripts::Session;

/// How often each session is replayed in random pieces, with each delivery.
const RANDOM_CUTS: usize = 1000;

/// The sessions of other clients, in tests/transcripts.
const LIBPQ: &[&str] = &[
    "libpq_pipeline",
    "libpq_pipeline_error_at_sync",
    "libpq_pipeline_error_first",
    "libpq_pipeline_error_in_the_middle",
    "libpq_pipeline_error_last",
    "psql_big_rows",
    "psql_deferred_constraint",
    "psql_empty_query",
    "psql_error",
    "psql_error_in_the_middle",
    "psql_login_cleartext",
    "psql_login_md5",
    "psql_login_scram",
    "psql_login_trust",
    "psql_notices",
    "psql_notification",
    "psql_parameter_status",
    "psql_several_results",
    "psql_transaction",
];

/// Records the driver's sessions anew if that is what the tests are run for.
fn record_if_wanted() {
    if golden::recording() {
        recorder::record();
    }
}

/// Replays one of the driver's own sessions.
#[track_caller]
fn driver(name: &str) {
    let session = Session::named(name);
    record_if_wanted();
    let recorded = Recorded::load(name);
    replay(name, &recorded, &session.script, |said| {
        let expected = recorded.transcript.bytes(Direction::Frontend);
        assert_eq!(show(&anonymous(said)), show(&anonymous(&expected)), "{name}");
    });
}

/// Replays a session of psql's, whose bytes ours have to be.
#[track_caller]
fn psql(name: &str) {
    let recorded = Recorded::load(name);
    let script = libpq::script(&recorded.transcript);
    replay(name, &recorded, &script, |said| {
        let expected = recorded.transcript.bytes(Direction::Frontend);
        assert_eq!(show(said), show(&expected), "{name}");
    });
}

/// Replays a pipeline of libpq's. It asks for results as text; our messages are the same otherwise.
#[track_caller]
fn pipeline_of_libpq(name: &str) {
    let recorded = Recorded::load(name);
    let script = libpq::script(&recorded.transcript);
    replay(name, &recorded, &script, |said| {
        let mut tape = Tape::new(testkit::transcript::Secrets::Keep);
        tape.feed(Direction::Frontend, said);
        let names = |transcript: &Transcript| transcript.names(Direction::Frontend);
        assert_eq!(names(&tape.finish()), names(&recorded.transcript), "{name}");
    });
}

/// Replays a session in all ways.
#[track_caller]
fn replay(
    name: &str,
    recorded: &Recorded,
    script: &dyn Fn(&mut dyn Client),
    check_said: impl Fn(&[u8]),
) {
    let mut events = String::new();
    for (delivery, seed) in [(Delivery::Events, 1810), (Delivery::Collect, 1849)] {
        let mut ways = cuts(recorded.backend(), seed, 2 + RANDOM_CUTS);
        let pieces = ways.next().expect("the first way, which is whole");
        let whole = Replay::run(recorded, script, delivery, &pieces);
        check_said(&whole.said);
        for (way, pieces) in ways.enumerate() {
            let again = Replay::run(recorded, script, delivery, &pieces);
            assert_same(&again, &whole, || format!("{name}, {delivery:?}, way {}", way + 1));
        }
        events.push_str(&format!("# {delivery:?}\n{}", whole.log.text()));
    }
    golden::check(&format!("transcripts/{name}.events"), &events);
}

#[track_caller]
fn assert_same(again: &Replayed, whole: &Replayed, which: impl Fn() -> String) {
    if again.log.lines != whole.log.lines {
        assert_eq!(again.log.text(), whole.log.text(), "{}", which());
    }
    assert!(
        anonymous(&again.said) == anonymous(&whole.said),
        "{}: it sent something else",
        which()
    );
}

/// The bytes with the same number in all names of statements: each connection draws its own.
fn anonymous(said: &[u8]) -> Vec<u8> {
    const PREFIX: &[u8] = b"chopin_";
    const DIGITS: usize = 8;
    let mut said = said.to_vec();
    for at in 0..said.len() {
        let number = at + PREFIX.len()..at + PREFIX.len() + DIGITS;
        if said[at..].starts_with(PREFIX) && said.len() >= number.end {
            said[number].fill(b'N');
        }
    }
    said
}

/// Bytes as a transcript, so that a difference can be read.
fn show(said: &[u8]) -> String {
    let mut tape = Tape::new(testkit::transcript::Secrets::Keep);
    tape.feed(Direction::Frontend, said);
    tape.finish().to_string()
}

#[test]
fn every_transcript_is_replayed_and_none_is_missing() {
    record_if_wanted();
    let driver = scripts::SESSIONS.iter().map(|session| session.name);
    let known: BTreeSet<String> = LIBPQ.iter().copied().chain(driver).map(str::to_owned).collect();
    let files = fs::read_dir(folder()).expect("the folder is there");
    let names = files.map(|file| file.expect("a file").file_name().into_string().expect("UTF-8"));
    let found: BTreeSet<String> =
        names.filter_map(|name| Some(name.strip_suffix(".txt")?.to_owned())).collect();
    assert_eq!(found, known);
    let tests = include_str!("replay.rs");
    for name in known.iter().filter(|name| !name.ends_with("_scram")) {
        assert!(tests.contains(&format!("(\"{name}\");")), "no test replays {name}");
    }
}

#[test]
fn s9_4_logins_of_the_driver() {
    driver("driver_login_trust");
    driver("driver_login_cleartext");
    driver("driver_login_md5");
}

#[test]
fn s9_4_logins_of_psql() {
    psql("psql_login_trust");
    psql("psql_login_cleartext");
    psql("psql_login_md5");
}

#[test]
fn s9_3_b10_result_sets_of_a_string_of_statements() {
    driver("driver_simple");
    psql("psql_several_results");
    psql("psql_error_in_the_middle");
}

#[test]
fn h11_empty_queries() {
    driver("driver_empty_query");
    psql("psql_empty_query");
}

#[test]
fn s9_1_s9_2_parameters_and_cached_statements() {
    driver("driver_parameters");
    driver("driver_cached");
}

#[test]
fn b8_statements_made_and_closed_and_run_in_each_mode() {
    driver("driver_prepared");
    driver("driver_modes");
}

#[test]
fn errors_in_each_phase() {
    driver("driver_errors");
    psql("psql_error");
}

#[test]
fn h47_deferred_constraints() {
    driver("driver_deferred_constraint");
    psql("psql_deferred_constraint");
}

#[test]
fn s9_18_notices_notifications_and_parameters() {
    driver("driver_messages");
    psql("psql_notices");
    psql("psql_notification");
    psql("psql_parameter_status");
}

#[test]
fn h41_big_rows_of_the_driver() {
    driver("driver_big_rows");
}

#[test]
fn h41_big_rows_of_psql() {
    psql("psql_big_rows");
}

#[test]
fn h10_transactions_that_are_rolled_back() {
    driver("driver_transaction");
    psql("psql_transaction");
}

#[test]
fn s9_16_b11_pipelines() {
    driver("driver_pipeline");
    driver("driver_several_syncs");
    pipeline_of_libpq("libpq_pipeline");
}

#[test]
fn h29_errors_in_every_place_of_a_pipeline_of_the_driver() {
    driver("driver_pipeline_error_first");
    driver("driver_pipeline_error_in_the_middle");
    driver("driver_pipeline_error_last");
    driver("driver_pipeline_error_at_sync");
}

#[test]
fn h29_errors_in_every_place_of_a_pipeline_of_libpq() {
    pipeline_of_libpq("libpq_pipeline_error_first");
    pipeline_of_libpq("libpq_pipeline_error_in_the_middle");
    pipeline_of_libpq("libpq_pipeline_error_last");
    pipeline_of_libpq("libpq_pipeline_error_at_sync");
}

#[test]
fn batches() {
    driver("driver_batch");
    driver("driver_batch_unique_violation");
}

#[test]
fn b9_h14_stale_and_lost_statements_are_written_again() {
    driver("driver_stale");
    driver("driver_lost");
    driver("driver_text_output");
}

#[test]
fn h48_copy_in_a_string_of_statements() {
    driver("driver_copy_in_refused");
    driver("driver_copy_out_refused");
}

#[test]
fn h24_h29_a_session_that_ends_in_the_middle_of_a_pipeline() {
    driver("driver_terminated");
}
