//! How a client proves to a PostgreSQL server who it is, without sending what it knows.
//!
//! Each exchange is a small machine over message *contents*: bytes in, bytes out, no socket and no
//! message headers. The engine carries what they produce in SASLInitialResponse, SASLResponse and
//! PasswordMessage, and hands them what came in the Authentication messages.
//!
//! See "Authentication" in the PostgreSQL documentation's chapter *Frontend/Backend Protocol*,
//! section *Message Flow*, and the section *SASL Authentication*.

mod key_cache;
pub(crate) mod md5;
pub(crate) mod scram;

pub(crate) use self::key_cache::NamedKeys;
pub use self::key_cache::ScramKeyCache;
use crate::error::PgError;

impl From<scram::ScramError> for PgError {
    fn from(error: scram::ScramError) -> Self {
        Self::Auth(error.to_string())
    }
}
