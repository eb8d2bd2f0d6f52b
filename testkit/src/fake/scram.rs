//! The server's side of SCRAM-SHA-256, honest or flawed on demand.
//!
//! [`ScramServer`] plays the exchange of RFC 5802 and RFC 7677 as PostgreSQL does ("SASL
//! Authentication" in the documentation): it really verifies the client's proof, and its own
//! signature is right unless a [`Flaw`] says otherwise. The cryptography is RustCrypto's, not
//! chopin-pg's.
//!
//! ```no_run
//! use testkit::fake::FakeServer;
//! use testkit::fake::scram::{Flaw, ScramServer, Verdict};
//!
//! // A server that knows the password.
//! let honest = FakeServer::start(|conn| {
//!     conn.startup()?;
//!     assert_eq!(ScramServer::new("secret").authenticate(conn)?, Verdict::Accepted);
//!     conn.welcome()?;
//!     conn.expect_terminate()
//! });
//!
//! // An impostor: a client that goes on after this has been betrayed.
//! let impostor = FakeServer::start(|conn| {
//!     conn.startup()?;
//!     ScramServer::new("secret").flaw(Flaw::WrongSignature).authenticate(conn)?;
//!     conn.expect_eof()
//! });
//! # // The clients would be drivers under test.
//! # drop((honest, impostor));
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::{FakeConn, FakeError};
use crate::frames;

/// The one mechanism, without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";

/// What a dishonest or broken server does wrong. Everything before it is right.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// The nonce of server-first is another one, not an extension of the client's.
    NonceReplaced,
    /// The nonce of server-first is the client's own, with nothing added.
    NonceNotExtended,
    /// The iteration count of server-first is this text, such as `0`, `-1`, `4294967296`, `many`.
    IterationCount(&'static str),
    /// The salt of server-first is empty.
    EmptySalt,
    /// The salt of server-first is no base64.
    GarbageSalt,
    /// This attribute is missing: `r`, `s` or `i` of server-first, or `v` of server-final.
    Missing(char),
    /// server-first begins with the mandatory extension `m=`, which no client may ignore.
    MandatoryExtension,
    /// The signature of server-final is one that only somebody without the key would send.
    WrongSignature,
    /// The signature of server-final is right as far as it goes, but cut after this many bytes.
    ShortSignature(usize),
    /// The signature of server-final is no base64.
    GarbageSignature,
    /// server-final is `e=` with this value (RFC 5802 section 7), such as `invalid-proof`, and
    /// AuthenticationOk follows all the same.
    ErrorAttribute(&'static str),
    /// AuthenticationOk follows the client's proof without a server-final.
    NoServerFinal,
    /// AuthenticationOk comes instead of server-first.
    OkTooEarly,
}

impl Flaw {
    /// Whether it shows in server-first, so that a careful client sends no proof any more.
    fn is_in_server_first(&self) -> bool {
        match self {
            Self::NonceReplaced
            | Self::NonceNotExtended
            | Self::IterationCount(_)
            | Self::EmptySalt
            | Self::GarbageSalt
            | Self::MandatoryExtension => true,
            Self::Missing(attribute) => *attribute != 'v',
            _ => false,
        }
    }
}

/// How the exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a refused client is not logged in"]
pub enum Verdict {
    /// The proof was right; AuthenticationOk has been sent, [`FakeConn::welcome`] comes next.
    Accepted,
    /// The proof was wrong; the error 28P01 has been sent as a real server does, and the
    /// connection ended.
    Refused,
    /// The flawed message has been sent, and AuthenticationOk with it if the flaw comes after
    /// the client's proof. Whether the client fell for it is for the script to see.
    Flawed,
}

/// A server that knows one password.
#[derive(Clone, Debug)]
pub struct ScramServer {
    password: String,
    salt: Vec<u8>,
    iterations: u32,
    nonce: String,
    flaw: Option<Flaw>,
}

impl ScramServer {
    /// An honest server with a fixed salt of 16 bytes, 4096 iterations and a fixed nonce.
    pub fn new(password: &str) -> Self {
        Self {
            password: password.to_owned(),
            salt: b"0123456789abcdef".to_vec(),
            iterations: 4096,
            nonce: "3rfcNHYJY1ZVvWVs7jAnY2".to_owned(),
            flaw: None,
        }
    }

    /// Sets the salt.
    #[must_use]
    pub fn salt(mut self, salt: &[u8]) -> Self {
        self.salt = salt.to_vec();
        self
    }

    /// Sets the iteration count, really computed with.
    #[must_use]
    pub fn iterations(mut self, iterations: u32) -> Self {
        self.iterations = iterations;
        self
    }

    /// Sets what the server adds to the client's nonce.
    #[must_use]
    pub fn nonce(mut self, nonce: &str) -> Self {
        self.nonce = nonce.to_owned();
        self
    }

    /// Makes the server misbehave.
    #[must_use]
    pub fn flaw(mut self, flaw: Flaw) -> Self {
        self.flaw = Some(flaw);
        self
    }

    /// Plays the exchange, from AuthenticationSASL on; the StartupMessage has been received.
    ///
    /// # Errors
    /// The client chose another mechanism, broke a rule of RFC 5802, or as [`FakeConn::receive`]
    /// and [`FakeConn::send`].
    pub fn authenticate(&self, conn: &mut FakeConn) -> Result<Verdict, FakeError> {
        conn.send(&frames::authentication_sasl(&[MECHANISM]))?;
        let initial = conn.expect(b'p')?.as_sasl_initial_response()?;
        if initial.mechanism != MECHANISM {
            return Err(format!("the client chose the mechanism {:?}", initial.mechanism).into());
        }
        if self.flaw == Some(Flaw::OkTooEarly) {
            conn.send(&frames::authentication_ok())?;
            return Ok(Verdict::Flawed);
        }
        let client_first = text(initial.data.unwrap_or_default())?;
        let exchange = self.server_first(&client_first)?;
        conn.send(&frames::authentication_sasl_continue(exchange.server_first.as_bytes()))?;
        if self.flaw.as_ref().is_some_and(Flaw::is_in_server_first) {
            return Ok(Verdict::Flawed);
        }
        let client_final = text(conn.expect(b'p')?.as_sasl_response()?.to_vec())?;
        let Some(server_final) = exchange.server_final(&client_final)? else {
            conn.send(&frames::error_response(&[
                (b'S', "FATAL"),
                (b'V', "FATAL"),
                (b'C', "28P01"),
                (b'M', "password authentication failed"),
            ]))?;
            conn.hang_up()?;
            return Ok(Verdict::Refused);
        };
        let mut last = Vec::new();
        if self.flaw != Some(Flaw::NoServerFinal) {
            last.extend(frames::authentication_sasl_final(server_final.as_bytes()));
        }
        last.extend(frames::authentication_ok());
        conn.send(&last)?;
        Ok(if self.flaw.is_some() { Verdict::Flawed } else { Verdict::Accepted })
    }

    /// Answers a client-first-message without a connection.
    ///
    /// # Errors
    /// The message is not `n,,` or `y,,` followed by `n=` and `r=` attributes.
    pub fn server_first(&self, client_first: &str) -> Result<Exchange, FakeError> {
        let broken = || FakeError::from(format!("no client-first-message: {client_first:?}"));
        let bare = ["n,,", "y,,"].iter().find_map(|gs2| client_first.strip_prefix(gs2));
        let bare = bare.ok_or_else(broken)?;
        let gs2_header = client_first.strip_suffix(bare).ok_or_else(broken)?;
        let (user, client_nonce) = bare.split_once(",r=").ok_or_else(broken)?;
        if !user.starts_with("n=") || client_nonce.is_empty() || client_nonce.contains(',') {
            return Err(broken());
        }
        let nonce = match self.flaw {
            Some(Flaw::NonceReplaced) => self.nonce.clone(),
            Some(Flaw::NonceNotExtended) => client_nonce.to_owned(),
            _ => format!("{client_nonce}{}", self.nonce),
        };
        let salt = match self.flaw {
            Some(Flaw::EmptySalt) => String::new(),
            Some(Flaw::GarbageSalt) => "*not base64*".to_owned(),
            _ => BASE64.encode(&self.salt),
        };
        let iterations = match self.flaw {
            Some(Flaw::IterationCount(count)) => count.to_owned(),
            _ => self.iterations.to_string(),
        };
        let mut attributes: Vec<String> = [('r', &nonce), ('s', &salt), ('i', &iterations)]
            .into_iter()
            .filter(|(name, _)| self.flaw != Some(Flaw::Missing(*name)))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if self.flaw == Some(Flaw::MandatoryExtension) {
            attributes.insert(0, "m=unheard-of".to_owned());
        }
        Ok(Exchange {
            server: self.clone(),
            gs2_header: gs2_header.to_owned(),
            client_first_bare: bare.to_owned(),
            nonce,
            server_first: attributes.join(","),
        })
    }
}

/// An exchange after the client's first message.
#[derive(Clone, Debug)]
pub struct Exchange {
    server: ScramServer,
    gs2_header: String,
    client_first_bare: String,
    nonce: String,
    /// The server-first-message.
    pub server_first: String,
}

impl Exchange {
    /// Checks a client-final-message and gives the server-final-message; `None` if the proof is
    /// wrong, which is what a wrong password leads to.
    ///
    /// # Errors
    /// The message breaks a rule of RFC 5802: its nonce or channel binding is not the one of
    /// this exchange, or there is no well-formed proof at its end.
    pub fn server_final(&self, client_final: &str) -> Result<Option<String>, FakeError> {
        let broken = |what: &str| FakeError::from(format!("{what} in {client_final:?}"));
        let (without_proof, proof) =
            client_final.split_once(",p=").ok_or_else(|| broken("no proof"))?;
        let binding = format!("c={},r={}", BASE64.encode(&self.gs2_header), self.nonce);
        if without_proof != binding {
            return Err(broken(&format!("not {binding:?}")));
        }
        let proof = BASE64.decode(proof).map_err(|_| broken("a proof that is not base64"))?;
        if proof.len() != 32 {
            return Err(broken("a proof that is not 32 bytes long"));
        }
        let first = (&self.client_first_bare, &self.server_first);
        let auth_message = format!("{},{},{without_proof}", first.0, first.1);
        let keys = self.server.keys();
        let client_signature = hmac(&keys.stored, auth_message.as_bytes());
        let client_key: Vec<u8> =
            proof.iter().zip(client_signature).map(|(proof, byte)| proof ^ byte).collect();
        if Sha256::digest(client_key)[..] != keys.stored {
            return Ok(None);
        }
        let mut signature = hmac(&keys.server, auth_message.as_bytes()).to_vec();
        Ok(Some(match &self.server.flaw {
            Some(Flaw::WrongSignature) => {
                signature[31] ^= 1;
                format!("v={}", BASE64.encode(&signature))
            }
            Some(Flaw::ShortSignature(length)) => {
                signature.truncate(*length);
                format!("v={}", BASE64.encode(&signature))
            }
            Some(Flaw::GarbageSignature) => "v=*not base64*".to_owned(),
            Some(Flaw::Missing('v')) => String::new(),
            Some(Flaw::ErrorAttribute(value)) => format!("e={value}"),
            _ => format!("v={}", BASE64.encode(&signature)),
        }))
    }
}

/// What a real server stores instead of the password.
struct Keys {
    stored: [u8; 32],
    server: [u8; 32],
}

impl ScramServer {
    fn keys(&self) -> Keys {
        let salted: [u8; 32] = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(
            self.password.as_bytes(),
            &self.salt,
            self.iterations,
        );
        let stored = Sha256::digest(hmac(&salted, b"Client Key")).into();
        Keys { stored, server: hmac(&salted, b"Server Key") }
    }
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

fn text(bytes: Vec<u8>) -> Result<String, FakeError> {
    String::from_utf8(bytes).map_err(|_| "the client's SASL data is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of RFC 7677 section 3.
    const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn rfc_server() -> ScramServer {
        ScramServer::new("pencil")
            .salt(&BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap())
            .nonce("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    }

    #[test]
    fn the_rfc_7677_example_is_played_exactly() {
        let exchange = rfc_server().server_first(CLIENT_FIRST).unwrap();
        assert_eq!(exchange.server_first, SERVER_FIRST);
        assert_eq!(exchange.server_final(CLIENT_FINAL).unwrap().as_deref(), Some(SERVER_FINAL));
    }

    #[test]
    fn a_wrong_password_gives_no_server_final() {
        let server = ScramServer { password: "pen".into(), ..rfc_server() };
        let exchange = server.server_first(CLIENT_FIRST).unwrap();
        assert_eq!(exchange.server_final(CLIENT_FINAL), Ok(None));
    }

    #[test]
    fn clients_that_break_the_rules_are_told_apart_from_wrong_passwords() {
        let exchange = rfc_server().server_first(CLIENT_FIRST).unwrap();
        let cases = [
            (CLIENT_FINAL.replace("c=biws", "c=eSws"), "not \"c=biws,r="),
            (CLIENT_FINAL.replace("%hv", "%hw"), "not \"c=biws,r="),
            (CLIENT_FINAL.replace("p=dHz", "p=*"), "a proof that is not base64"),
            (CLIENT_FINAL.replace("p=dHzb", "p="), "a proof that is not 32 bytes long"),
            ("c=biws".to_owned(), "no proof"),
        ];
        for (client_final, what) in cases {
            let error = exchange.server_final(&client_final).unwrap_err().to_string();
            assert!(error.starts_with(what), "{error}");
        }
        for client_first in ["", "n,,n=user", "p=tls-unique,,n=,r=a", "n,,r=a", "n,,n=,r="] {
            let error = rfc_server().server_first(client_first).unwrap_err().to_string();
            assert!(error.starts_with("no client-first-message"), "{client_first}: {error}");
        }
    }

    #[test]
    fn each_flaw_of_server_first_changes_what_it_says() {
        let nonce = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let salt = "s=W22ZaJ0SNY7soEsUEjb6gQ==";
        let cases = [
            (Flaw::NonceReplaced, format!("r=%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,{salt},i=4096")),
            (Flaw::NonceNotExtended, format!("r=rOprNGfwEbeRWgbNEkqO,{salt},i=4096")),
            (Flaw::IterationCount("0"), format!("{nonce},{salt},i=0")),
            (Flaw::EmptySalt, format!("{nonce},s=,i=4096")),
            (Flaw::GarbageSalt, format!("{nonce},s=*not base64*,i=4096")),
            (Flaw::Missing('r'), format!("{salt},i=4096")),
            (Flaw::Missing('s'), format!("{nonce},i=4096")),
            (Flaw::Missing('i'), format!("{nonce},{salt}")),
            (Flaw::MandatoryExtension, format!("m=unheard-of,{nonce},{salt},i=4096")),
        ];
        for (flaw, expected) in cases {
            assert!(flaw.is_in_server_first(), "{flaw:?}");
            let exchange = rfc_server().flaw(flaw).server_first(CLIENT_FIRST).unwrap();
            assert_eq!(exchange.server_first, expected);
        }
    }

    #[test]
    fn each_flaw_of_server_final_changes_what_it_says() {
        let cases = [
            (Flaw::WrongSignature, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G8="),
            (Flaw::ShortSignature(0), "v="),
            (Flaw::ShortSignature(3), "v=6rri"),
            (Flaw::GarbageSignature, "v=*not base64*"),
            (Flaw::Missing('v'), ""),
            (Flaw::ErrorAttribute("invalid-proof"), "e=invalid-proof"),
        ];
        for (flaw, expected) in cases {
            assert!(!flaw.is_in_server_first(), "{flaw:?}");
            let exchange = rfc_server().flaw(flaw).server_first(CLIENT_FIRST).unwrap();
            assert_eq!(exchange.server_first, SERVER_FIRST);
            assert_eq!(exchange.server_final(CLIENT_FINAL).unwrap().as_deref(), Some(expected));
        }
    }
}
