//! Logins of connections that have their SCRAM keys in common, at a server of testkit's: with other
//! implementations of the primitives than the driver's.

use testkit::fake::scram::{Flaw, ScramServer};
use testkit::frames::{self, Frame};

use super::{Encryption, Engine};
use crate::auth::ScramKeyCache;
use crate::config::PgConfig;
use crate::crypto::chosen;
use crate::error::PgError;

/// How many bytes the client draws for its nonce.
const NONCE_LEN: usize = 18;

fn config() -> PgConfig {
    PgConfig::new("localhost", 5432, "ada", "s3cret", "shop")
}

fn server() -> ScramServer {
    ScramServer::new("s3cret").iterations(7)
}

/// What the client has to say next.
fn said(engine: &mut Engine) -> Vec<u8> {
    let bytes = engine.send_pending().to_vec();
    engine.sent(bytes.len());
    bytes
}

/// Hands bytes to the engine; what breaks it is the error.
fn hear(engine: &mut Engine, bytes: &[u8]) -> Result<(), PgError> {
    engine.recv_space()[..bytes.len()].copy_from_slice(bytes);
    engine.received(bytes.len());
    while engine.next_event()?.is_some() {}
    Ok(())
}

/// Logs in; gives all that the client has said.
fn log_in(
    config: &PgConfig,
    keys: &ScramKeyCache,
    server: &ScramServer,
) -> Result<Vec<u8>, PgError> {
    let mut engine = Engine::start(config, Encryption::None, None)?;
    engine.set_scram_keys(keys.clone());
    let mut all = said(&mut engine);

    hear(&mut engine, &frames::authentication_sasl(&["SCRAM-SHA-256"]))?;
    let initial = said(&mut engine);
    let frame = Frame { tag: initial[0], body: initial[5..].to_vec() };
    let first = frame.as_sasl_initial_response().expect("SCRAM").data.expect("client-first");
    let first = String::from_utf8(first).expect("text");
    let exchange = server.server_first(&first).expect("a good client-first");
    all.extend(initial);

    hear(&mut engine, &frames::authentication_sasl_continue(exchange.server_first.as_bytes()))?;
    let response = said(&mut engine);
    let client_final = std::str::from_utf8(&response[5..]).expect("text");
    let server_final = exchange.server_final(client_final).expect("a good client-final");
    let Some(server_final) = server_final else {
        let fields = [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "28P01"), (b'M', "wrong password")];
        hear(&mut engine, &frames::error_response(&fields))?;
        panic!("an engine that goes on after it was refused");
    };
    all.extend(response);

    hear(&mut engine, &frames::authentication_sasl_final(server_final.as_bytes()))?;
    let welcome = [frames::authentication_ok(), frames::ready_for_query(b'I')].concat();
    hear(&mut engine, &welcome)?;
    assert!(engine.is_ready());
    Ok(all)
}

#[test]
fn s9_4_the_second_login_derives_no_keys_and_says_the_same() {
    let keys = ScramKeyCache::new();
    let log_in = |nonce| {
        chosen::choose(vec![nonce; NONCE_LEN]);
        log_in(&config(), &keys, &server()).expect("the right password")
    };
    let first = log_in(1);
    assert_eq!(keys.derivations(), 1);
    // With the same nonce everything else has to be the same too.
    assert_eq!(first.escape_ascii().to_string(), log_in(1).escape_ascii().to_string());
    assert_eq!(keys.derivations(), 1);
    assert_ne!(first, log_in(2));
    assert_eq!(keys.derivations(), 1);
}

#[test]
fn h32_each_login_has_its_own_nonce_also_with_keys_from_the_cache() {
    let keys = ScramKeyCache::new();
    let all: std::collections::HashSet<_> =
        (0..100).map(|_| log_in(&config(), &keys, &server()).expect("a login")).collect();
    assert_eq!((all.len(), keys.derivations()), (100, 1));
}

#[test]
fn s9_4_another_salt_iteration_count_or_user_derives_other_keys() {
    let keys = ScramKeyCache::new();
    let other_user = config().user("bob");
    let logins = [
        (config(), server()),
        (config(), server().salt(b"another salt")),
        (config(), server().iterations(8)),
        (other_user, server()),
    ];
    for (login, (config, server)) in (1..).zip(&logins) {
        log_in(config, &keys, server).expect("the right password");
        assert_eq!(keys.derivations(), login);
    }
    for (config, server) in &logins {
        log_in(config, &keys, server).expect("the right password");
    }
    assert_eq!(keys.derivations(), 4, "all of them are kept");
}

#[test]
fn s9_4_a_wrong_password_gets_no_keys_of_the_right_one() {
    let keys = ScramKeyCache::new();
    log_in(&config(), &keys, &server()).expect("the right password");
    for attempt in 2..4 {
        let error = log_in(&config().password("guess"), &keys, &server()).expect_err("a guess");
        assert!(error.to_string().contains("wrong password"), "{error}");
        assert_eq!(keys.derivations(), attempt, "what was refused is not kept");
    }
    log_in(&config(), &keys, &server()).expect("the right password");
    assert_eq!(keys.derivations(), 3);

    // A password that was changed at the server and here.
    let changed = ScramServer::new("changed").salt(b"new").iterations(7);
    log_in(&config().password("changed"), &keys, &changed).expect("the new password");
    assert_eq!(keys.derivations(), 4);
    assert!(log_in(&config(), &keys, &changed).is_err());
}

#[test]
fn h31_a_server_that_does_not_prove_itself_leaves_no_keys_and_is_refused_with_kept_ones_too() {
    for flaw in [Flaw::WrongSignature, Flaw::ShortSignature(31), Flaw::Missing('v')] {
        let keys = ScramKeyCache::new();
        let impostor = server().flaw(flaw.clone());
        for attempt in 1..3 {
            let error = log_in(&config(), &keys, &impostor).expect_err("an impostor");
            assert!(matches!(error, PgError::Auth(_)), "{flaw:?}: {error}");
            assert_eq!(keys.derivations(), attempt, "{flaw:?}");
        }
        log_in(&config(), &keys, &server()).expect("the server");
        assert_eq!(keys.derivations(), 3, "{flaw:?}");

        let error = log_in(&config(), &keys, &impostor).expect_err("an impostor");
        assert!(matches!(error, PgError::Auth(_)), "{flaw:?}: {error}");
        log_in(&config(), &keys, &server()).expect("the server");
        assert_eq!(keys.derivations(), 3, "{flaw:?}: no impostor drives out the keys");
    }
}

#[test]
fn h32_what_a_server_may_ask_for_is_checked_before_the_cache() {
    let keys = ScramKeyCache::new();
    log_in(&config(), &keys, &server()).expect("the right password");
    let error = log_in(&config().max_scram_iterations(6), &keys, &server()).expect_err("7 > 6");
    assert!(error.to_string().contains("7 SCRAM iterations, more than the limit of 6"), "{error}");
    let error = log_in(&config(), &keys, &server().flaw(Flaw::EmptySalt)).expect_err("no salt");
    assert!(error.to_string().contains("empty SCRAM salt"), "{error}");
    assert_eq!(keys.derivations(), 1);
}
