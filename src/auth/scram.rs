//! The client's side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677).
//!
//! ```text
//!  client                                     server
//!    | client-first   n,,n=,r=<nonce>           |   ScramClient::client_first
//!    |----------------------------------------->|
//!    |    server-first   r=<nonce+>,s=<salt>,i=<n>  ScramClient::client_final checks it,
//!    |<-----------------------------------------|   derives the keys and answers
//!    | client-final   c=<binding>,r=<nonce+>,p=<proof>
//!    |----------------------------------------->|
//!    |    server-final   v=<signature>          |   ScramClient::verify
//!    |<-----------------------------------------|
//! ```
//!
//! Both sides prove that they know the password. Only after [`ScramClient::verify`] has returned
//! `Ok`, and [`ScramClient::is_verified`] is true, has the server done so: a login that ends before
//! must be refused.
//!
//! The user name is sent empty: PostgreSQL takes the one of the startup message and ignores this.
//!
//! # Passwords
//!
//! The bytes of the password are used as they are. RFC 5802 asks for SASLprep first, which changes
//! no ASCII password; libpq, too, takes the bytes as they are where SASLprep does not apply. A
//! caller who needs it normalises before calling.
//!
//! # Time
//!
//! Deriving the keys is meant to be slow, and the server says how slow. That part stands alone, as
//! [`ScramKeys::derive`], so that its result can be kept and used for the next connection (by
//! [`ScramKeyCache`]):
//!
//! ```text
//! client_final(server_first)  =  let parameters = challenge(server_first)?;
//!                                let keys = derive_keys(&parameters);    or find_keys in a cache
//!                                prove(&keys)
//! ```

use std::error::Error;
use std::fmt;
use std::io;
use std::mem;
use std::num::NonZeroU32;
use std::rc::Rc;

use super::{NamedKeys, ScramKeyCache};
use crate::crypto::{
    self, DIGEST_LEN, HmacKey, SecretArray, SecretBytes, base64, constant_time_eq, hmac_sha256,
    pbkdf2_hmac_sha256, sha256,
};

/// Random bytes in the client's nonce, as in libpq.
const NONCE_LEN: usize = 18;

/// The longest error text of the server that is passed on.
const REJECTION_LIMIT: usize = 64;

/// What the client says about binding the exchange to the TLS session it runs in.
///
/// It decides the mechanism and the header (`gs2-header` in RFC 5802) that the proof covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    /// This client does not bind: no TLS, or channel binding is switched off.
    None,
    /// This client could bind but the server did not offer it.
    ///
    /// A server that did offer it learns of the contradiction, and that someone between the two
    /// removed its offer.
    SupportedNotUsed,
    /// Bound to the server's certificate: its hash, as RFC 5929, section 4.1 defines it.
    TlsServerEndPoint(Vec<u8>),
}

impl ChannelBinding {
    /// The header that opens the client-first message.
    fn header(&self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::SupportedNotUsed => "y,,",
            Self::TlsServerEndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// What is bound to, beyond the header.
    fn data(&self) -> &[u8] {
        match self {
            Self::None | Self::SupportedNotUsed => &[],
            Self::TlsServerEndPoint(hash) => hash,
        }
    }
}

/// Why an exchange failed. No variant carries a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScramError {
    /// A message came, or was asked for, that the exchange has no place for at this point.
    OutOfOrder,
    /// The server's message does not follow the grammar; says what was expected.
    Malformed(&'static str),
    /// The server demands an extension (`m=`), and this client knows none.
    MandatoryExtension,
    /// The server's nonce is not the client's with something of its own behind it.
    NonceNotExtended,
    /// The server sent an empty salt.
    EmptySalt,
    /// The server asked for no iterations at all.
    NoIterations,
    /// The server asked for more iterations than the client is willing to compute.
    TooManyIterations {
        /// What the server asked for.
        requested: u64,
        /// The client's limit.
        limit: u32,
    },
    /// The server ended the exchange (`e=`); its reason, with anything unprintable taken out.
    Rejected(String),
    /// The server does not know the password's keys: it is not who it claims to be.
    WrongServerSignature,
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfOrder => f.write_str("a SCRAM message came out of order"),
            Self::Malformed(expected) => {
                write!(f, "malformed SCRAM message from the server: expected {expected}")
            }
            Self::MandatoryExtension => {
                f.write_str("the server requires a SCRAM extension that is not supported")
            }
            Self::NonceNotExtended => {
                f.write_str("the server's SCRAM nonce does not extend the client's")
            }
            Self::EmptySalt => f.write_str("the server sent an empty SCRAM salt"),
            Self::NoIterations => f.write_str("the server asked for 0 SCRAM iterations"),
            Self::TooManyIterations { requested, limit } => write!(
                f,
                "the server asked for {requested} SCRAM iterations, more than the limit of {limit}"
            ),
            Self::Rejected(reason) => {
                write!(f, "the server rejected the SCRAM exchange: {reason}")
            }
            Self::WrongServerSignature => f.write_str(
                "the server's SCRAM signature is wrong: it does not know this user's password",
            ),
        }
    }
}

impl Error for ScramError {}

/// What the keys depend on beside the password: with the user, the name to keep them under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct KeyParameters {
    /// The salt of this user's password; never empty.
    pub(crate) salt: Vec<u8>,
    /// Rounds of key derivation, within the client's limit.
    pub(crate) iterations: NonZeroU32,
}

/// The keys that a password leads to: enough to log in with, so as secret as the password.
#[derive(Debug, Clone)]
pub(crate) struct ScramKeys {
    client: SecretArray<DIGEST_LEN>,
    server: SecretArray<DIGEST_LEN>,
}

impl ScramKeys {
    /// Derives the keys; the time this takes grows with `parameters.iterations`.
    pub(crate) fn derive(password: &[u8], parameters: &KeyParameters) -> Self {
        let KeyParameters { salt, iterations } = parameters;
        let salted = SecretArray::new(pbkdf2_hmac_sha256(password, salt, *iterations));
        let salted = HmacKey::new(salted.as_bytes());
        Self {
            client: SecretArray::new(salted.authenticate(&[b"Client Key"])),
            server: SecretArray::new(salted.authenticate(&[b"Server Key"])),
        }
    }

    /// Shows that the client knows its key, to a server that stored the key's hash.
    fn client_proof(&self, auth_message: &[&[u8]]) -> [u8; DIGEST_LEN] {
        let stored = SecretArray::new(sha256(self.client.as_bytes()));
        let mut proof = hmac_sha256(stored.as_bytes(), auth_message);
        for (byte, key) in proof.iter_mut().zip(self.client.as_bytes()) {
            *byte ^= key;
        }
        proof
    }

    /// What the server has to answer to show that it knows its key.
    fn server_signature(&self, auth_message: &[&[u8]]) -> SecretArray<DIGEST_LEN> {
        SecretArray::new(hmac_sha256(self.server.as_bytes(), auth_message))
    }
}

/// How far an exchange has come.
#[derive(Debug)]
enum State {
    /// The server-first message is awaited.
    Started,
    /// It has come and was found good: the keys are awaited.
    Challenged {
        /// The message as it came: the proof covers it.
        server_first: String,
        /// The nonce of both sides.
        nonce: String,
    },
    /// The proof is out, and this is the only signature that the server may answer with.
    Proved { server_signature: SecretArray<DIGEST_LEN> },
    /// The server has proved itself.
    Verified,
    /// Something was wrong; nothing can be made good again.
    Failed,
}

/// One SCRAM exchange from the client's side.
///
/// The order of calls: [`client_first`](Self::client_first); [`client_final`](Self::client_final),
/// or [`challenge`](Self::challenge) and [`prove`](Self::prove) with keys that are known already;
/// [`verify`](Self::verify). After an error every further call fails. The password is wiped as soon
/// as the proof is made, or when the client is dropped.
#[derive(Debug)]
pub(crate) struct ScramClient {
    password: SecretBytes,
    channel_binding: ChannelBinding,
    max_iterations: u32,
    nonce: String,
    /// The client-first message without the channel binding header: the proof covers it.
    client_first_bare: String,
    state: State,
}

impl ScramClient {
    /// Begins an exchange with a fresh nonce.
    ///
    /// `max_iterations` limits the work that the server may ask for.
    ///
    /// # Errors
    ///
    /// If the operating system has no random bytes for the nonce: no weaker one is used.
    pub(crate) fn new(
        password: &[u8],
        channel_binding: ChannelBinding,
        max_iterations: u32,
    ) -> io::Result<Self> {
        let nonce = random_nonce(crypto::random)?;
        Ok(Self::with_nonce(password, channel_binding, max_iterations, "", nonce))
    }

    /// Begins an exchange with a given user name and nonce; both free of commas and equal signs.
    fn with_nonce(
        password: &[u8],
        channel_binding: ChannelBinding,
        max_iterations: u32,
        user: &str,
        nonce: String,
    ) -> Self {
        Self {
            password: password.into(),
            channel_binding,
            max_iterations,
            client_first_bare: format!("n={user},r={nonce}"),
            nonce,
            state: State::Started,
        }
    }

    /// The name to choose among the mechanisms that the server offers in AuthenticationSASL.
    pub(crate) fn mechanism(&self) -> &'static str {
        match self.channel_binding {
            ChannelBinding::None | ChannelBinding::SupportedNotUsed => "SCRAM-SHA-256",
            ChannelBinding::TlsServerEndPoint(_) => "SCRAM-SHA-256-PLUS",
        }
    }

    /// The client-first message, for SASLInitialResponse.
    pub(crate) fn client_first(&self) -> String {
        format!("{}{}", self.channel_binding.header(), self.client_first_bare)
    }

    /// Takes the server-first message, from AuthenticationSASLContinue, and gives the client-final
    /// message, for SASLResponse.
    ///
    /// # Errors
    ///
    /// Those of [`ScramClient::challenge`].
    pub(crate) fn client_final(&mut self, server_first: &[u8]) -> Result<String, ScramError> {
        let parameters = self.challenge(server_first)?;
        let keys = self.derive_keys(&parameters);
        self.prove(&keys)
    }

    /// Takes the server-first message and says what the keys have to be derived from.
    ///
    /// # Errors
    ///
    /// If the message is malformed, demands an extension or is an error of the server's; if its
    /// nonce does not extend the client's, its salt is empty, or its iteration count is 0 or above
    /// the limit; if this is not the next step.
    pub(crate) fn challenge(&mut self, server_first: &[u8]) -> Result<KeyParameters, ScramError> {
        // Whatever returns early leaves the exchange failed.
        let State::Started = mem::replace(&mut self.state, State::Failed) else {
            return Err(ScramError::OutOfOrder);
        };
        let server_first = text(server_first)?;
        let mut attributes = server_first.split(',');
        let nonce = value_of(&mut attributes, "r=", "a nonce (r=)")?;
        let salt = value_of(&mut attributes, "s=", "a salt (s=)")?;
        let iterations = value_of(&mut attributes, "i=", "an iteration count (i=)")?;
        check_extensions(attributes)?;

        self.check_nonce(nonce)?;
        let parameters = KeyParameters {
            salt: parse_salt(salt)?,
            iterations: self.parse_iterations(iterations)?,
        };
        self.state =
            State::Challenged { nonce: nonce.to_owned(), server_first: server_first.to_owned() };
        Ok(parameters)
    }

    /// Derives the keys from this exchange's password.
    ///
    /// To be called between [`challenge`](Self::challenge) and [`prove`](Self::prove): outside, the
    /// password may be gone already.
    pub(crate) fn derive_keys(&self, parameters: &KeyParameters) -> ScramKeys {
        ScramKeys::derive(self.password.as_bytes(), parameters)
    }

    /// The keys of this exchange's password for `user`: those in the cache, or else new ones.
    ///
    /// To be called as [`derive_keys`](Self::derive_keys).
    ///
    /// # Errors
    ///
    /// If the operating system has no random bytes for the cache.
    pub(crate) fn find_keys(
        &self,
        cache: &ScramKeyCache,
        user: &str,
        parameters: &KeyParameters,
    ) -> io::Result<Rc<NamedKeys>> {
        cache.find_or_derive(user, self.password.as_bytes(), parameters)
    }

    /// The client-final message, which proves that the client knows `keys`.
    ///
    /// # Errors
    ///
    /// If there was no challenge, or it was answered already.
    pub(crate) fn prove(&mut self, keys: &ScramKeys) -> Result<String, ScramError> {
        let State::Challenged { server_first, nonce } =
            mem::replace(&mut self.state, State::Failed)
        else {
            return Err(ScramError::OutOfOrder);
        };
        self.password = SecretBytes::default();
        let binding = [self.channel_binding.header().as_bytes(), self.channel_binding.data()];
        let mut message = format!("c={},r={nonce}", base64::encode(&binding.concat()));
        // AuthMessage of RFC 5802, section 3; `message` lacks only the proof.
        let auth_message: [&[u8]; 5] = [
            self.client_first_bare.as_bytes(),
            b",",
            server_first.as_bytes(),
            b",",
            message.as_bytes(),
        ];
        let proof = base64::encode(&keys.client_proof(&auth_message));
        let server_signature = keys.server_signature(&auth_message);
        message.push_str(",p=");
        message.push_str(&proof);
        self.state = State::Proved { server_signature };
        Ok(message)
    }

    /// Takes the server-final message, from AuthenticationSASLFinal, and checks the server's proof.
    ///
    /// # Errors
    ///
    /// If the signature is wrong, the message is malformed or is an error of the server's; if this
    /// is not the next step.
    pub(crate) fn verify(&mut self, server_final: &[u8]) -> Result<(), ScramError> {
        let State::Proved { server_signature } = mem::replace(&mut self.state, State::Failed)
        else {
            return Err(ScramError::OutOfOrder);
        };
        let mut attributes = text(server_final)?.split(',');
        let signature = value_of(&mut attributes, "v=", "a server signature (v=)")?;
        check_extensions(attributes)?;
        let signature = base64::decode(signature.as_bytes())
            .map_err(|_| ScramError::Malformed("the server signature in base64"))?;
        if !constant_time_eq(&signature, server_signature.as_bytes()) {
            return Err(ScramError::WrongServerSignature);
        }
        self.state = State::Verified;
        Ok(())
    }

    /// Whether the server has proved itself: without it, AuthenticationOk is not to be believed.
    pub(crate) fn is_verified(&self) -> bool {
        matches!(self.state, State::Verified)
    }

    /// Checks that the server put something of its own behind the client's nonce.
    fn check_nonce(&self, nonce: &str) -> Result<(), ScramError> {
        match nonce.strip_prefix(self.nonce.as_str()) {
            None | Some("") => Err(ScramError::NonceNotExtended),
            Some(own) if own.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
            Some(_) => Err(ScramError::Malformed("a nonce of printable characters")),
        }
    }

    /// Reads the iteration count and holds it against the limit.
    fn parse_iterations(&self, digits: &str) -> Result<NonZeroU32, ScramError> {
        const EXPECTED: ScramError = ScramError::Malformed("the iteration count as a number");
        if digits == "0" {
            return Err(ScramError::NoIterations);
        }
        // `parse` takes a sign and leading zeros, the grammar does not.
        if !digits.starts_with(|digit| matches!(digit, '1'..='9')) {
            return Err(EXPECTED);
        }
        let requested: u64 = digits.parse().map_err(|_| EXPECTED)?;
        u32::try_from(requested)
            .ok()
            .filter(|iterations| *iterations <= self.max_iterations)
            .and_then(NonZeroU32::new)
            .ok_or(ScramError::TooManyIterations { requested, limit: self.max_iterations })
    }
}

/// A nonce of [`NONCE_LEN`] bytes from `random`, in base64 (which has no comma).
fn random_nonce(random: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<String> {
    let mut nonce = [0; NONCE_LEN];
    random(&mut nonce)?;
    Ok(base64::encode(&nonce))
}

/// A message of the server as the text that it must be.
fn text(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("UTF-8 text"))
}

/// The value of the next attribute, which must be the one that `name` (letter and equal sign) says.
fn value_of<'a>(
    attributes: &mut impl Iterator<Item = &'a str>,
    name: &str,
    expected: &'static str,
) -> Result<&'a str, ScramError> {
    let attribute = attributes.next().unwrap_or_default();
    if attribute.starts_with("m=") {
        return Err(ScramError::MandatoryExtension);
    }
    if let Some(reason) = attribute.strip_prefix("e=") {
        return Err(ScramError::Rejected(printable(reason)));
    }
    attribute.strip_prefix(name).ok_or(ScramError::Malformed(expected))
}

/// Checks that what follows the known attributes are optional extensions, which may be ignored.
fn check_extensions<'a>(attributes: impl Iterator<Item = &'a str>) -> Result<(), ScramError> {
    /// The letters that RFC 5802, section 5.1 gave a meaning, and with it a place.
    const TAKEN: &[u8] = b"aceimnprsv";

    for attribute in attributes {
        match attribute.as_bytes() {
            [b'm', b'=', ..] => return Err(ScramError::MandatoryExtension),
            [name, b'=', _, ..] if name.is_ascii_alphabetic() && !TAKEN.contains(name) => {}
            _ => return Err(ScramError::Malformed("nothing but extensions at the end")),
        }
    }
    Ok(())
}

/// The salt's bytes.
fn parse_salt(text: &str) -> Result<Vec<u8>, ScramError> {
    let salt =
        base64::decode(text.as_bytes()).map_err(|_| ScramError::Malformed("the salt in base64"))?;
    if salt.is_empty() { Err(ScramError::EmptySalt) } else { Ok(salt) }
}

/// The server's reason, fit for an error message: it comes from a peer that has proved nothing.
fn printable(reason: &str) -> String {
    let is_printable = |c: &char| c.is_ascii_graphic() || *c == ' ';
    let shown: String = reason.chars().filter(is_printable).take(REJECTION_LIMIT).collect();
    if shown.is_empty() { "no reason given".to_owned() } else { shown }
}

#[cfg(test)]
mod tests;
