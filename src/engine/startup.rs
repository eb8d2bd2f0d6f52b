//! Everything before the first ReadyForQuery: encryption, authentication, the first facts about the
//! session.
//!
//! ```text
//!            +-- Encryption::None ----------------------------+
//! begin -----+                                                v
//!            +-- SSLRequest -> 'S' -> (transport: TLS) -> StartupMessage -> Authenticate -> Settle -> ready
//!                           -> 'N' -> only if plaintext is allowed ^
//! ```
//!
//! The machine never trusts an AuthenticationOk that comes while SCRAM is unfinished: the server
//! has to prove itself first (RFC 5802, section 3).

use std::rc::Rc;

use super::answer::{any_time, out_of_place};
use super::buffer::{Message, Next, RecvBuffer};
use super::event::Event;
use super::{Engine, Step};
use crate::auth::md5::md5_password;
use crate::auth::scram::{ChannelBinding, ScramClient};
use crate::auth::{NamedKeys, ScramKeyCache};
use crate::config::PgConfig;
use crate::crypto::SecretBytes;
use crate::error::{PgError, PgResult, ServerError};
use crate::wire::Backend;
use crate::wire::backend::Authentication;
use crate::wire::{frame, frontend};

/// The longest message that is taken before the first ReadyForQuery, in bytes. Real ones are below
/// 1 KiB; an error with a long text fits.
const MAX_STARTUP_MESSAGE: usize = 64 * 1024;

/// Whether a connection asks for TLS before it says anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Plaintext; nothing is asked.
    None,
    /// TLS if the server has it, else plaintext.
    Preferred,
    /// TLS, or the connection fails.
    Required,
}

/// Something that the transport has to do before the engine can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportAction {
    /// Do the TLS handshake, then call [`Engine::tls_started`].
    StartTls,
}

/// Where startup stands, and what it needs until it is over.
#[derive(Debug)]
pub(super) struct Startup {
    state: State,
    encryption: Encryption,
    /// The StartupMessage, while encryption comes first.
    startup_message: Vec<u8>,
    user: Box<str>,
    password: Option<SecretBytes>,
    /// The server has asked for the password.
    was_asked: bool,
    /// tls-server-end-point data of the TLS connection (RFC 5929).
    channel_binding: Option<Vec<u8>>,
    max_scram_iterations: u32,
    /// Keys of earlier logins, if this connection shares them with others.
    scram_keys: Option<ScramKeyCache>,
}

#[derive(Debug)]
enum State {
    /// SSLRequest is on its way; one byte comes back.
    Encryption,
    /// The transport does the TLS handshake.
    Handshake,
    /// StartupMessage is on its way, or the server has asked for something and got it.
    Authenticate,
    /// SCRAM: the first message is on its way, the server's first one comes back.
    ScramFirst(Box<ScramClient>),
    /// SCRAM: the proof is on its way, the server's own comes back, and AuthenticationOk behind it.
    /// With the keys of the proof, if they are to be kept when the server has proved itself too.
    ScramFinal(Box<ScramClient>, Option<Rc<NamedKeys>>),
    /// Authenticated; parameters and the backend key come until ReadyForQuery.
    Settle,
}

impl Startup {
    /// The first packet goes to `out`.
    pub(super) fn begin(
        config: &PgConfig,
        encryption: Encryption,
        out: &mut Vec<u8>,
    ) -> PgResult<Self> {
        let mut startup_message = Vec::new();
        let version = config.get_max_protocol_version().code();
        frontend::startup(&mut startup_message, version, config.startup_parameters())
            .map_err(|error| PgError::Config(error.to_string()))?;
        let state = if encryption == Encryption::None {
            out.append(&mut startup_message);
            State::Authenticate
        } else {
            frontend::ssl_request(out);
            State::Encryption
        };
        Ok(Self {
            state,
            encryption,
            startup_message,
            user: config.user.as_str().into(),
            password: config.secret_password().map(|password| {
                let password = password.as_str().as_bytes();
                let mut secret = SecretBytes::with_capacity(password.len());
                secret.extend_from_slice(password);
                secret
            }),
            was_asked: false,
            channel_binding: None,
            max_scram_iterations: config.get_max_scram_iterations(),
            scram_keys: None,
        })
    }

    /// Whether the next byte is the answer to an SSLRequest, which is no message.
    pub(super) fn expects_encryption_byte(&self) -> bool {
        matches!(self.state, State::Encryption | State::Handshake)
    }

    /// Reads the answer to an SSLRequest.
    pub(super) fn encryption_byte(
        &mut self,
        recv: &mut RecvBuffer,
        out: &mut Vec<u8>,
    ) -> PgResult<Step> {
        let protocol = |what: &str| Err(PgError::Protocol(what.to_owned()));
        match (&self.state, recv.unread()) {
            (_, []) => return Ok(Step::Starved),
            (State::Handshake, _) => {
                return protocol("the server sent plaintext after it had agreed to TLS");
            }
            // Anything behind the answer was sent before the channel was secure (CVE-2021-23222).
            (_, [b'S' | b'N', _, ..]) => {
                return protocol("the server sent more than one byte in answer to SSLRequest");
            }
            (_, [b'S']) => self.state = State::Handshake,
            (_, [b'N']) if self.encryption == Encryption::Preferred => {
                out.append(&mut self.startup_message);
                self.state = State::Authenticate;
            }
            (_, [b'N']) => {
                return Err(PgError::Config(
                    "the server does not support TLS, but sslmode requires it".to_owned(),
                ));
            }
            // An ErrorResponse here is not authenticated by anything, so its text is not shown
            // (CVE-2024-10977).
            _ => return protocol("the server answered SSLRequest with neither S nor N"),
        }
        recv.consume(1);
        Ok(Step::Consumed)
    }

    /// Takes an Authentication message; the answer goes to `out`.
    fn authenticate(&mut self, request: Authentication<'_>, out: &mut Vec<u8>) -> PgResult<()> {
        let state = std::mem::replace(&mut self.state, State::Authenticate);
        self.state = match (state, request) {
            (State::Authenticate, Authentication::Ok) => self.settle(),
            (State::ScramFinal(scram, _), Authentication::Ok) if scram.is_verified() => {
                self.settle()
            }
            (State::Authenticate, Authentication::CleartextPassword) => {
                let password = self.take_password()?;
                // Room first, so that no copy is left behind where the buffer grew from.
                out.reserve(password.as_bytes().len() + frame::HEADER + 1);
                frontend::password(out, password.as_bytes())?;
                State::Authenticate
            }
            (State::Authenticate, Authentication::Md5Password { salt }) => {
                let password = self.take_password()?;
                let hashed = md5_password(self.user.as_bytes(), password.as_bytes(), salt);
                frontend::password(out, hashed.as_bytes())?;
                State::Authenticate
            }
            (State::Authenticate, Authentication::Sasl(offered)) => {
                let mut mechanisms = Vec::new();
                for mechanism in offered {
                    mechanisms.push(mechanism?);
                }
                State::ScramFirst(Box::new(self.begin_scram(&mechanisms, out)?))
            }
            (State::ScramFirst(mut scram), Authentication::SaslContinue(challenge)) => {
                let (answer, keys) = self.prove(&mut scram, challenge)?;
                frontend::sasl_response(out, answer.as_bytes())?;
                State::ScramFinal(scram, keys)
            }
            (State::ScramFinal(mut scram, keys), Authentication::SaslFinal(proof)) => {
                scram.verify(proof)?;
                if let (Some(cache), Some(keys)) = (&self.scram_keys, keys) {
                    cache.keep(keys);
                }
                State::ScramFinal(scram, None)
            }
            (State::ScramFirst(_) | State::ScramFinal(..), Authentication::Ok) => {
                return Err(PgError::Auth(
                    "the server claims success before it has proved in SCRAM that it knows the password"
                        .to_owned(),
                ));
            }
            (_, request) => return Err(unexpected(&request)),
        };
        Ok(())
    }

    /// The password, once: no exchange needs it twice.
    fn take_password(&mut self) -> PgResult<SecretBytes> {
        if std::mem::replace(&mut self.was_asked, true) {
            return Err(PgError::Auth("the server asks for the password twice".to_owned()));
        }
        self.password.take().ok_or_else(|| {
            PgError::Auth(format!(
                "the server asks for a password, and none is configured for user \"{}\"",
                self.user
            ))
        })
    }

    /// Authenticated: the password has done its work, and is wiped.
    fn settle(&mut self) -> State {
        self.password = None;
        State::Settle
    }

    /// Chooses a mechanism and sends the client's first message.
    fn begin_scram(&mut self, offered: &[&[u8]], out: &mut Vec<u8>) -> PgResult<ScramClient> {
        let is_offered = |name: &str| offered.contains(&name.as_bytes());
        let plus_offered = is_offered("SCRAM-SHA-256-PLUS");
        let binding = match self.channel_binding.take() {
            Some(data) if plus_offered => ChannelBinding::TlsServerEndPoint(data),
            Some(_) => ChannelBinding::SupportedNotUsed,
            None => ChannelBinding::None,
        };
        let password = self.take_password()?;
        let scram = ScramClient::new(password.as_bytes(), binding, self.max_scram_iterations)?;
        if !is_offered(scram.mechanism()) {
            let names: Vec<_> = offered.iter().map(|name| String::from_utf8_lossy(name)).collect();
            return Err(PgError::Auth(format!(
                "the server offers only these SASL mechanisms: {}; this driver has {}",
                names.join(", "),
                scram.mechanism()
            )));
        }
        frontend::sasl_initial_response(out, scram.mechanism(), scram.client_first().as_bytes())?;
        Ok(scram)
    }

    /// The client's final message, and the keys that it was made with if they may be kept.
    fn prove(
        &self,
        scram: &mut ScramClient,
        challenge: &[u8],
    ) -> PgResult<(String, Option<Rc<NamedKeys>>)> {
        let Some(cache) = &self.scram_keys else {
            return Ok((scram.client_final(challenge)?, None));
        };
        let parameters = scram.challenge(challenge)?;
        let keys = scram.find_keys(cache, &self.user, &parameters)?;
        Ok((scram.prove(keys.keys())?, Some(keys)))
    }
}

/// The error for an Authentication message that cannot be answered.
fn unexpected(request: &Authentication<'_>) -> PgError {
    let method = match request {
        Authentication::KerberosV5 => "Kerberos V5",
        Authentication::Gss | Authentication::GssContinue(_) => "GSSAPI",
        Authentication::Sspi => "SSPI",
        Authentication::Unknown(code) => {
            return PgError::Auth(format!(
                "the server asks for an authentication method (code {code}) that this driver does not know"
            ));
        }
        _ => {
            return PgError::Protocol(
                "an Authentication message came where the exchange does not allow it".to_owned(),
            );
        }
    };
    PgError::Auth(format!("the server asks for {method}, which this driver does not support"))
}

impl Engine {
    /// Takes the keys of a SCRAM login from this cache if they are there, and brings them in if
    /// they are not: the connections of a pool share one. To be called before the first bytes are
    /// received; after the login it has no effect.
    pub fn set_scram_keys(&mut self, keys: ScramKeyCache) {
        if let Some(startup) = &mut self.startup {
            startup.scram_keys = Some(keys);
        }
    }

    /// What the transport has to do before anything else.
    pub fn transport_action(&self) -> Option<TransportAction> {
        match self.startup.as_ref()?.state {
            State::Handshake => Some(TransportAction::StartTls),
            _ => None,
        }
    }

    /// The transport has done the TLS handshake. `channel_binding` is the tls-server-end-point data
    /// of the server's certificate (RFC 5929), which SCRAM-SHA-256-PLUS binds the exchange to.
    ///
    /// Plaintext that was received meanwhile breaks the connection: whoever sent it is not the
    /// server (CVE-2021-23222).
    pub fn tls_started(&mut self, channel_binding: Option<Vec<u8>>) {
        let injected = !self.recv.unread().is_empty();
        if let Some(startup) = &mut self.startup {
            if matches!(startup.state, State::Handshake) && !injected {
                startup.channel_binding = channel_binding;
                self.send.writer().append(&mut startup.startup_message);
                startup.state = State::Authenticate;
            }
        }
    }

    /// [`step_any`](Self::step_any) before the first ReadyForQuery.
    #[cold]
    pub(super) fn step_before_ready(&mut self) -> PgResult<Step> {
        if let Some(startup) = &mut self.startup {
            if startup.expects_encryption_byte() {
                self.tracing.received_encryption_answer(self.recv.unread());
                return startup.encryption_byte(&mut self.recv, self.send.writer());
            }
        }
        // Nobody who has not logged in, or has not proved to be the server, needs more.
        match self.recv.next(MAX_STARTUP_MESSAGE.min(self.limits.message_size))? {
            Next::Message(message) => {
                if let (true, Some(frame)) = (self.tracing.is_on(), self.recv.frame(message)) {
                    self.tracing.received(frame);
                }
                self.step_startup(message)
            }
            Next::Incomplete => Ok(Step::Starved),
            Next::TooLong(size) => Err(PgError::Protocol(format!(
                "a message of {size} bytes was announced before the login was over; \
                 is this a PostgreSQL server?"
            ))),
        }
    }

    /// Takes a message that came before the first ReadyForQuery.
    pub(super) fn step_startup(&mut self, message: Message) -> PgResult<Step> {
        let (Some(frame), Some(startup)) = (self.recv.frame(message), self.startup.as_mut()) else {
            return Ok(Step::Starved);
        };
        let settled = matches!(startup.state, State::Settle);
        match Backend::parse(frame)? {
            Backend::Authentication(request) if !settled => {
                startup.authenticate(request, self.send.writer())?;
            }
            Backend::NegotiateProtocolVersion { newest, mut options } => {
                let minor = u16::try_from(newest & 0xffff).unwrap_or_default();
                let is_first = matches!(startup.state, State::Authenticate) && !startup.was_asked;
                if newest >> 16 != 3 || minor >= self.session.protocol_minor() || !is_first {
                    return Err(PgError::Protocol(
                        "NegotiateProtocolVersion came at the wrong time or asks for a newer version"
                            .to_owned(),
                    ));
                }
                if let Some(option) = options.next() {
                    let option = String::from_utf8_lossy(option?).into_owned();
                    return Err(PgError::Protocol(format!(
                        "the server refuses the protocol option {option}, which was not asked for"
                    )));
                }
                self.session.set_protocol_minor(minor);
            }
            Backend::BackendKeyData { process_id, secret_key } if settled => {
                self.session.set_backend_key(process_id, secret_key.as_bytes());
            }
            Backend::ReadyForQuery(status) if settled => {
                self.session.set_transaction_status(status);
                self.startup = None;
                // The password, and the key for cancelling, have passed through.
                self.send.wipe_sent();
                self.send.release();
                self.recv.wipe_read();
                self.clock.started();
                // The login has told much in turn; behind it there is rarely anything to tell.
                self.pending.shrink_to_fit();
                self.pending.reserve_exact(1);
                self.pending.push_back(Event::Ready);
            }
            Backend::ErrorResponse(fields) => {
                return Err(ServerError::parse(fields)?.into());
            }
            // Until the login is over the server has nothing else to tell.
            message if settled || matches!(message, Backend::NoticeResponse(_)) => {
                return any_time(&mut self.session, &mut self.pending, frame.tag, message);
            }
            _ => return Err(out_of_place(frame.tag)),
        }
        Ok(Step::Consumed)
    }
}

#[cfg(test)]
mod tests;
