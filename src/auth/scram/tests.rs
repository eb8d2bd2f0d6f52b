//! The exchange against the RFC's numbers, against what PostgreSQL stores, and against a server
//! written with other implementations of the primitives. What must be refused is in `refusals.rs`.

use std::sync::LazyLock;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use hmac::Mac as _;
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::Digest as _;

use super::*;

mod refusals;

const RFC_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const RFC_SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const RFC_CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const RFC_SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// The keys of the RFC's user, derived once.
static RFC_KEYS: LazyLock<ScramKeys> = LazyLock::new(|| {
    let mut client = rfc_client();
    let parameters = client.challenge(RFC_SERVER_FIRST.as_bytes()).expect("a good message");
    client.derive_keys(&parameters)
});

/// A client with the user, password and nonce of RFC 7677, section 3.
fn rfc_client() -> ScramClient {
    let nonce = RFC_NONCE.to_owned();
    ScramClient::with_nonce(b"pencil", ChannelBinding::None, 10_000, "user", nonce)
}

/// As [`rfc_client`], after it has sent its proof.
fn rfc_client_that_proved() -> ScramClient {
    let mut client = rfc_client();
    client.client_final(RFC_SERVER_FIRST.as_bytes()).expect("the RFC's message is good");
    client
}

/// What a fresh client says to `server_first`, in which `{r}` stands for a good nonce.
fn refusal(server_first: &str) -> ScramError {
    let server_first = server_first.replace("{r}", &format!("{RFC_NONCE}more"));
    let mut client = rfc_client();
    let error = client.client_final(server_first.as_bytes()).expect_err(&server_first);
    // Nothing can be made good again, not even with a good message.
    let again = client.client_final(RFC_SERVER_FIRST.as_bytes());
    assert_eq!(again, Err(ScramError::OutOfOrder), "{server_first}");
    error
}

/// What a client that has sent its proof says to `server_final`.
fn final_refusal(server_final: &[u8]) -> ScramError {
    let mut client = rfc_client_that_proved();
    let error = client.verify(server_final).expect_err("must be refused");
    assert!(!client.is_verified());
    assert_eq!(client.verify(RFC_SERVER_FINAL.as_bytes()), Err(ScramError::OutOfOrder));
    assert!(!client.is_verified());
    error
}

// The exchange as it should be

#[test]
fn s9_4_scram_rfc7677_exchange() {
    let mut client = rfc_client();
    assert_eq!(client.mechanism(), "SCRAM-SHA-256");
    assert_eq!(client.client_first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let client_final = client.client_final(RFC_SERVER_FIRST.as_bytes());
    assert_eq!(client_final.as_deref(), Ok(RFC_CLIENT_FINAL));
    assert!(!client.is_verified());
    assert_eq!(client.verify(RFC_SERVER_FINAL.as_bytes()), Ok(()));
    assert!(client.is_verified());
}

/// The same numbers one level down: every intermediate value that the RFC's exchange implies.
#[test]
fn s9_4_scram_rfc7677_primitives() {
    let salt = base64::decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
    let salted = pbkdf2_hmac_sha256(b"pencil", &salt, NonZeroU32::new(4096).expect("not 0"));
    let client_key = hmac_sha256(&salted, &[b"Client Key"]);
    let stored_key = sha256(&client_key);
    let server_key = hmac_sha256(&salted, &[b"Server Key"]);
    let (without_proof, proof) = RFC_CLIENT_FINAL.split_once(",p=").expect("a proof");
    let auth_message = format!("n=user,r={RFC_NONCE},{RFC_SERVER_FIRST},{without_proof}");

    let client_signature = hmac_sha256(&stored_key, &[auth_message.as_bytes()]);
    let computed: Vec<u8> = client_key.iter().zip(client_signature).map(|(k, s)| k ^ s).collect();
    assert_eq!(base64::encode(&computed), proof);
    let server_signature = hmac_sha256(&server_key, &[auth_message.as_bytes()]);
    assert_eq!(format!("v={}", base64::encode(&server_signature)), RFC_SERVER_FINAL);
}

/// Against what PostgreSQL 15 put into `pg_authid.rolpassword`:
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
#[test]
fn s9_4_scram_keys_are_those_the_server_stores() {
    for (password, stored) in [
        (
            "secret",
            "SCRAM-SHA-256$4096:+ZEQelIf9jmb8tnappC6aw==$\
             kfQR/mRMEJwLvSBkhdkHQCUCfE3XzcCY97FU5mnCXy0=:\
             NAjwr6IMVo3mAllT0EZQYEjJchl3FaN2ObC4rlXoRBg=",
        ),
        (
            "pä,=ss wörd",
            "SCRAM-SHA-256$4096:On8Mx1uRZj9kCMzCdOARsw==$\
             X6B/pjmt56wxauYKT5tVEzyWElmnKNDqxpqKAk7PsyM=:\
             kXRFecoRRC6R+B3RByquj0USRmcDAGG7XjBQ2qxXXgo=",
        ),
    ] {
        let (salt, _) = stored[19..].split_once('$').expect("a salt");
        let parameters = KeyParameters {
            salt: base64::decode(salt.as_bytes()).expect("base64"),
            iterations: NonZeroU32::new(4096).expect("not 0"),
        };
        let keys = ScramKeys::derive(password.as_bytes(), &parameters);
        let computed = format!(
            "SCRAM-SHA-256$4096:{salt}${}:{}",
            base64::encode(&sha256(keys.client.as_bytes())),
            base64::encode(keys.server.as_bytes()),
        );
        assert_eq!(computed, stored);
    }
}

#[test]
fn s9_4_scram_kept_keys_give_the_same_proof() {
    let mut first = rfc_client();
    let parameters = first.challenge(RFC_SERVER_FIRST.as_bytes()).expect("a good message");
    let keys = first.derive_keys(&parameters);
    assert_eq!(first.prove(&keys).as_deref(), Ok(RFC_CLIENT_FINAL));

    // The second connection knows no password at all.
    let nonce = RFC_NONCE.to_owned();
    let mut second = ScramClient::with_nonce(b"", ChannelBinding::None, 10_000, "user", nonce);
    assert_eq!(second.challenge(RFC_SERVER_FIRST.as_bytes()), Ok(parameters));
    assert_eq!(second.prove(&keys.clone()).as_deref(), Ok(RFC_CLIENT_FINAL));
    assert_eq!(second.verify(RFC_SERVER_FINAL.as_bytes()), Ok(()));
}

#[test]
fn s9_4_scram_user_name_is_left_to_the_startup_message() {
    let client = ScramClient::new(b"pencil", ChannelBinding::None, 4096).expect("random bytes");
    assert!(client.client_first().starts_with("n,,n=,r="), "{}", client.client_first());
}

#[test]
fn s9_4_scram_optional_extensions_are_ignored() {
    let mut client = rfc_client();
    let extended = format!("{RFC_SERVER_FIRST},x=1,Q=a=b");
    let client_final = client.client_final(extended.as_bytes()).expect("extensions may come");
    // The proof covers them, so it is another one.
    assert!(!RFC_CLIENT_FINAL.ends_with(&client_final[client_final.len() - 44..]));

    let mut client = rfc_client_that_proved();
    assert_eq!(client.verify(format!("{RFC_SERVER_FINAL},x=1").as_bytes()), Ok(()));
}

// A server of other parts

/// A server that knows `password`, built from the RustCrypto and base64 crates.
struct Server {
    password: Vec<u8>,
    salt: Vec<u8>,
    iterations: u32,
    binding: Vec<u8>,
}

impl Server {
    fn hmac(key: &[u8], message: &str) -> [u8; 32] {
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key).expect("any length");
        mac.update(message.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn first(&self, client_first_bare: &str) -> String {
        let (_, nonce) = client_first_bare.split_once(",r=").expect("a nonce");
        format!("r={nonce}+/x,s={},i={}", STANDARD.encode(&self.salt), self.iterations)
    }

    /// Checks the client's proof and gives the server's, or says what is wrong.
    fn finish(&self, client_first_bare: &str, client_final: &str) -> Result<String, &'static str> {
        let (without_proof, proof) = client_final.split_once(",p=").ok_or("no proof")?;
        let binding = format!("c={},", STANDARD.encode(&self.binding));
        if !without_proof.starts_with(&binding) {
            return Err("channel bindings differ");
        }
        let auth_message =
            format!("{client_first_bare},{},{without_proof}", self.first(client_first_bare));
        let salted = pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(
            &self.password,
            &self.salt,
            self.iterations,
        );
        let stored = sha2::Sha256::digest(Self::hmac(&salted, "Client Key"));
        let signature = Self::hmac(&stored, &auth_message);
        let proof = STANDARD.decode(proof).map_err(|_| "proof not in base64")?;
        let client_key: Vec<u8> = proof.iter().zip(signature).map(|(p, s)| p ^ s).collect();
        if sha2::Sha256::digest(client_key) != stored {
            return Err("wrong password");
        }
        let server_key = Self::hmac(&salted, "Server Key");
        Ok(format!("v={}", STANDARD.encode(Self::hmac(&server_key, &auth_message))))
    }
}

/// Runs an exchange whose client-first message must begin with `header`.
fn log_in(mut client: ScramClient, header: &str, server: &Server) -> Result<(), &'static str> {
    let client_first = client.client_first();
    let bare = client_first.strip_prefix(header).ok_or("wrong header")?;
    let client_final = client.client_final(server.first(bare).as_bytes()).expect("good message");
    let server_final = server.finish(bare, &client_final)?;
    client.verify(server_final.as_bytes()).map_err(|_| "server not trusted")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn s9_4_scram_logs_in_to_an_independent_server(
        password in vec(any::<u8>(), 0..100),
        salt in vec(any::<u8>(), 1..40),
        iterations in 1..20_u32,
        certificate_hash in vec(any::<u8>(), 0..64),
    ) {
        let bound = ["p=tls-server-end-point,,".as_bytes(), &certificate_hash].concat();
        for (channel_binding, header, binding, mechanism) in [
            (ChannelBinding::None, "n,,", b"n,,".to_vec(), "SCRAM-SHA-256"),
            (ChannelBinding::SupportedNotUsed, "y,,", b"y,,".to_vec(), "SCRAM-SHA-256"),
            (
                ChannelBinding::TlsServerEndPoint(certificate_hash),
                "p=tls-server-end-point,,",
                bound,
                "SCRAM-SHA-256-PLUS",
            ),
        ] {
            let client = ScramClient::new(&password, channel_binding.clone(), iterations)?;
            prop_assert_eq!(client.mechanism(), mechanism);
            let mut server =
                Server { password: password.clone(), salt: salt.clone(), iterations, binding };
            prop_assert_eq!(log_in(client, header, &server), Ok(()));

            let client = ScramClient::new(&password, channel_binding.clone(), iterations)?;
            server.password.push(b'x');
            prop_assert_eq!(log_in(client, header, &server), Err("wrong password"));

            let client = ScramClient::new(&password, channel_binding, iterations)?;
            server.binding.push(b'x');
            prop_assert_eq!(log_in(client, header, &server), Err("channel bindings differ"));
        }
    }
}

// Nonce and secrets

#[test]
fn h32_nonces_are_fresh_and_printable() {
    let firsts: std::collections::HashSet<String> = (0..1000)
        .map(|_| ScramClient::new(b"", ChannelBinding::None, 1).expect("random").client_first())
        .collect();
    assert_eq!(firsts.len(), 1000);
    for first in firsts {
        let nonce = first.strip_prefix("n,,n=,r=").expect("the form of a client-first message");
        assert_eq!(base64::decode(nonce.as_bytes()).map(|nonce| nonce.len()), Ok(NONCE_LEN));
    }
}

#[test]
fn h32_no_nonce_without_random_bytes() {
    let error = random_nonce(|_| Err(io::Error::other("no entropy"))).expect_err("no weaker one");
    assert_eq!(error.to_string(), "no entropy");
}

#[test]
fn h37_scram_shows_no_secret() {
    let mut client = rfc_client();
    let mut shown = format!("{client:?}");
    let parameters = client.challenge(RFC_SERVER_FIRST.as_bytes()).expect("a good message");
    let keys = client.derive_keys(&parameters);
    shown += &format!("{client:?} {keys:?}");
    client.prove(&keys).expect("in order");
    shown += &format!("{client:?}");
    for secret in [b"pencil", &keys.client.as_bytes()[..], &keys.server.as_bytes()[..]] {
        assert!(!shown.contains(&*String::from_utf8_lossy(secret)), "{shown}");
        assert!(!shown.contains(&format!("{secret:?}")), "{shown}");
    }
    assert!(shown.contains("<secret>"));
}

#[test]
fn h37_scram_drops_the_password_when_the_proof_is_out() {
    let mut client = rfc_client();
    assert_eq!(client.password.as_bytes(), b"pencil");
    client.client_final(RFC_SERVER_FIRST.as_bytes()).expect("a good message");
    assert_eq!(client.password.as_bytes(), b"");
}

#[test]
fn h37_scram_errors_are_clear_and_distinct() {
    let errors = [
        ScramError::OutOfOrder,
        ScramError::Malformed("a salt (s=)"),
        ScramError::MandatoryExtension,
        ScramError::NonceNotExtended,
        ScramError::EmptySalt,
        ScramError::NoIterations,
        ScramError::TooManyIterations { requested: 5, limit: 4 },
        ScramError::Rejected("invalid-proof".to_owned()),
        ScramError::WrongServerSignature,
    ];
    let texts: std::collections::HashSet<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), errors.len());
    assert!(texts.iter().all(|text| text.contains("SCRAM")), "{texts:?}");
}
