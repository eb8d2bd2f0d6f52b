//! Servers that misbehave, or are not the server at all.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

// Servers that have not proved themselves

#[test]
fn h31_a_wrong_server_signature_is_refused() {
    let good = base64::decode(&RFC_SERVER_FINAL.as_bytes()[2..]).expect("base64");
    for at in 0..good.len() {
        let mut wrong = good.clone();
        wrong[at] ^= 1;
        let server_final = format!("v={}", base64::encode(&wrong));
        assert_eq!(final_refusal(server_final.as_bytes()), ScramError::WrongServerSignature);
    }
    for length in [0, 1, 31, 33, 64] {
        let mut wrong = good.clone();
        wrong.resize(length, 0);
        let server_final = format!("v={}", base64::encode(&wrong));
        assert_eq!(final_refusal(server_final.as_bytes()), ScramError::WrongServerSignature);
    }
}

#[test]
fn h31_a_server_final_without_a_signature_is_refused() {
    let expected = ScramError::Malformed("a server signature (v=)");
    for server_final in ["", "v", "=", ",", "V=", "x=1", "r=abc", "p=AAAA"] {
        assert_eq!(final_refusal(server_final.as_bytes()), expected, "{server_final:?}");
    }
    assert_eq!(final_refusal(b"v=\xff"), ScramError::Malformed("UTF-8 text"));
    for server_final in ["v=6rri", &RFC_SERVER_FINAL[..RFC_SERVER_FINAL.len() - 1]] {
        let error = final_refusal(server_final.as_bytes());
        assert_ne!(error, ScramError::OutOfOrder, "{server_final}");
    }
    for behind in [",", ",x", ",x=", ",1=2", ",v=again", " ", "\0", "\n"] {
        let error = final_refusal(format!("{RFC_SERVER_FINAL}{behind}").as_bytes());
        assert!(matches!(error, ScramError::Malformed(_)), "{behind:?}: {error}");
    }
    let error = final_refusal(format!("{RFC_SERVER_FINAL},m=x").as_bytes());
    assert_eq!(error, ScramError::MandatoryExtension);
}

#[test]
fn h31_nobody_is_verified_before_the_end() {
    let mut client = rfc_client();
    assert!(!client.is_verified());
    assert_eq!(client.verify(RFC_SERVER_FINAL.as_bytes()), Err(ScramError::OutOfOrder));
    assert!(!client.is_verified());

    let mut client = rfc_client();
    client.challenge(RFC_SERVER_FIRST.as_bytes()).expect("a good message");
    assert!(!client.is_verified());
    assert_eq!(client.verify(RFC_SERVER_FINAL.as_bytes()), Err(ScramError::OutOfOrder));

    let client = rfc_client_that_proved();
    assert!(!client.is_verified());
}

#[test]
fn h31_messages_out_of_order_are_refused() {
    let mut client = rfc_client_that_proved();
    let again = client.client_final(RFC_SERVER_FIRST.as_bytes());
    assert_eq!(again, Err(ScramError::OutOfOrder));
    assert_eq!(client.verify(RFC_SERVER_FINAL.as_bytes()), Err(ScramError::OutOfOrder));

    let mut client = rfc_client_that_proved();
    assert_eq!(client.verify(RFC_SERVER_FINAL.as_bytes()), Ok(()));
    assert_eq!(client.verify(RFC_SERVER_FINAL.as_bytes()), Err(ScramError::OutOfOrder));
    assert!(!client.is_verified(), "a second server-final message spoils the first");

    let keys =
        ScramKeys::derive(b"pencil", &KeyParameters { salt: vec![1], iterations: NonZeroU32::MIN });
    assert_eq!(rfc_client().prove(&keys), Err(ScramError::OutOfOrder));
}

#[test]
fn h31_the_servers_own_error_is_surfaced() {
    let error = final_refusal(b"e=invalid-proof");
    assert_eq!(error, ScramError::Rejected("invalid-proof".to_owned()));
    assert_eq!(error.to_string(), "the server rejected the SCRAM exchange: invalid-proof");
    assert_eq!(refusal("e=unknown-user"), ScramError::Rejected("unknown-user".to_owned()));
    assert_eq!(final_refusal(b"e="), ScramError::Rejected("no reason given".to_owned()));

    // It is the word of somebody unknown: nothing that would act on a terminal, and no flood.
    let flood = format!("e=\u{1b}[2J\u{202e}{}", "x".repeat(1000));
    let error = final_refusal(flood.as_bytes());
    assert_eq!(error, ScramError::Rejected(format!("[2J{}", "x".repeat(61))));
}

// Challenges that a client must not answer

#[test]
fn h32_server_nonce_must_extend_the_clients() {
    for nonce in [
        "",
        "other",
        &RFC_NONCE[..RFC_NONCE.len() - 1],
        RFC_NONCE,
        &RFC_NONCE.to_lowercase(),
        &format!("x{RFC_NONCE}more"),
        &format!("{}Xmore", &RFC_NONCE[..RFC_NONCE.len() - 1]),
    ] {
        let error = refusal(&format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
        assert_eq!(error, ScramError::NonceNotExtended, "{nonce:?}");
    }
    for own in [" ", "\0", "\u{7f}", "é", "more\n"] {
        let error = refusal(&format!("r={RFC_NONCE}{own},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
        assert_eq!(error, ScramError::Malformed("a nonce of printable characters"), "{own:?}");
    }
}

#[test]
fn h32_iterations_are_at_least_one_and_within_the_limit() {
    let refuse = |count: &str| refusal(&format!("r={{r}},s=QUJD,i={count}"));
    assert_eq!(refuse("0"), ScramError::NoIterations);
    for requested in [10_001, 4_294_967_295, 4_294_967_296, u64::MAX] {
        let error = refuse(&requested.to_string());
        assert_eq!(error, ScramError::TooManyIterations { requested, limit: 10_000 });
        assert!(error.to_string().contains(&requested.to_string()), "{error}");
        assert!(error.to_string().contains("10000"), "{error}");
    }
    for count in
        ["", "-1", "+1", "00", "01", "1 ", " 1", "1.0", "1e3", "0x10", "٣", "18446744073709551616"]
    {
        let expected = ScramError::Malformed("the iteration count as a number");
        assert_eq!(refuse(count), expected, "{count:?}");
    }
    // The limit itself is allowed.
    let parameters = rfc_client().challenge(format!("r={RFC_NONCE}x,s=QUJD,i=10000").as_bytes());
    assert_eq!(parameters.map(|parameters| parameters.iterations.get()), Ok(10_000));
}

#[test]
fn h32_salt_must_be_there_and_be_base64() {
    assert_eq!(refusal("r={r},s=,i=4096"), ScramError::EmptySalt);
    for salt in ["A", "AA", "AA=", "AB==", "====", "QUJ D", "QUJD\n", "QU-_", "é"] {
        let error = refusal(&format!("r={{r}},s={salt},i=4096"));
        assert_eq!(error, ScramError::Malformed("the salt in base64"), "{salt:?}");
    }
}

#[test]
fn h32_mandatory_extensions_are_refused() {
    for server_first in [
        "m=x,r={r},s=QUJD,i=4096",
        "r={r},m=x,s=QUJD,i=4096",
        "r={r},s=QUJD,m=x,i=4096",
        "r={r},s=QUJD,i=4096,m=x",
        "r={r},s=QUJD,i=4096,x=y,m=",
    ] {
        assert_eq!(refusal(server_first), ScramError::MandatoryExtension, "{server_first}");
    }
}

#[test]
fn h32_garbage_is_refused() {
    for server_first in [
        "",
        ",",
        ",,,",
        "r",
        "r=",
        "r={r}",
        "r={r},",
        "r={r},s=QUJD",
        "r={r},s=QUJD,",
        "r={r},s=QUJD,i",
        "r={r},i=4096,s=QUJD",
        "s=QUJD,r={r},i=4096",
        "R={r},s=QUJD,i=4096",
        " r={r},s=QUJD,i=4096",
        "r={r},s=QUJD,i=4096,",
        "r={r},s=QUJD,i=4096,x",
        "r={r},s=QUJD,i=4096,x=",
        "r={r},s=QUJD,i=4096,xy=1",
        "r={r},s=QUJD,i=4096,1=1",
        "r={r},s=QUJD,i=4096,é=1",
        "r={r},s=QUJD,i=4096,i=1",
        "r={r},s=QUJD,i=4096,r=other",
        "r={r},s=QUJD,i=4096\0",
    ] {
        let error = refusal(server_first);
        let is_refused = matches!(error, ScramError::Malformed(_) | ScramError::NonceNotExtended);
        assert!(is_refused, "{server_first:?}: {error}");
    }
    let mut client = rfc_client();
    let error = client.client_final(b"r=\xff\xfe,s=QUJD,i=4096");
    assert_eq!(error, Err(ScramError::Malformed("UTF-8 text")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// Nothing that comes from the network makes it panic, and only the right answer satisfies it.
    #[test]
    fn h31_any_change_to_the_servers_messages_is_noticed(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        keep in any::<prop::sample::Index>(),
        noise in vec(any::<u8>(), 0..200),
    ) {
        let damaged = |message: &str| {
            let mut changed = message.as_bytes().to_vec();
            changed[at.index(message.len())] = byte;
            let cut = message.as_bytes()[..keep.index(message.len())].to_vec();
            [changed, cut, noise.clone()]
        };
        for server_final in damaged(RFC_SERVER_FINAL) {
            let mut client = rfc_client();
            client.challenge(RFC_SERVER_FIRST.as_bytes()).expect("a good message");
            client.prove(&RFC_KEYS).expect("in order");
            let is_right = server_final == RFC_SERVER_FINAL.as_bytes();
            prop_assert_eq!(client.verify(&server_final).is_ok(), is_right);
            prop_assert_eq!(client.is_verified(), is_right);
        }
        for server_first in damaged(RFC_SERVER_FIRST) {
            // Another salt, count or nonce of the server's own can pass: the proof depends on it,
            // and the server will not accept that.
            let mut client = rfc_client();
            if let Ok(parameters) = client.challenge(&server_first) {
                prop_assert!(!parameters.salt.is_empty() && parameters.iterations.get() <= 10_000);
                let client_final = client.prove(&RFC_KEYS).expect("in order");
                let is_right = server_first == RFC_SERVER_FIRST.as_bytes();
                prop_assert_eq!(client_final == RFC_CLIENT_FINAL, is_right);
            }
        }
    }
}
