//! Whole sessions, from the connect to the close.

use chopin_pg::{ConnectionGuard, PgConfig, PgConnection, PgPool, PgResult, SqlState};

use crate::Result;
use crate::cost::Cost;

/// The role that has a password. `cargo xtask costs` sets its server up to ask for it.
const ROLE: &str = "chopin_pg_costs";
const PASSWORD: &str = "prelude op. 28";

/// W5: a session with SCRAM-SHA-256 and one query, each of them as the first of its process: the keys
/// are derived from the password every time.
///
/// # Errors
///
/// Those of the connections; when the server lets the role in without its password.
pub(crate) fn first(config: &PgConfig, sessions: usize) -> Result<Cost> {
    let config = with_password(config)?;
    in_turn(sessions, || PgConnection::connect(&config))
}

/// W5 again: the same from a pool whose connections have the keys already, so that none are derived.
///
/// # Errors
///
/// As [`first`]; when keys were derived all the same.
pub(crate) fn again(config: &PgConfig, sessions: usize) -> Result<Cost> {
    let pool = PgPool::connect(with_password(config)?, 1)?;
    ConnectionGuard::close(pool.get()?);
    let derived = pool.stats().key_derivations;
    let cost = in_turn(sessions, || pool.get().map(ConnectionGuard::detach))?;
    match pool.stats().key_derivations {
        now if now == derived => Ok(cost),
        now => Err(format!("{} keys were derived again", now - derived).into()),
    }
}

/// The configuration of the role that has a password, once the role is there.
fn with_password(config: &PgConfig) -> Result<PgConfig> {
    PgConnection::connect(config)?.execute_batch(&format!(
        "drop role if exists {ROLE};
         set password_encryption = 'scram-sha-256';
         create role {ROLE} login password '{PASSWORD}'"
    ))?;
    let config = config.clone().user(ROLE);
    match PgConnection::connect(&config.clone().password("wrong")) {
        Err(error) if error.sql_state() == Some(SqlState::INVALID_PASSWORD) => {
            Ok(config.password(PASSWORD))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err(format!("the server asks {ROLE} for no password").into()),
    }
}

/// One session after the other.
fn in_turn(sessions: usize, connect: impl Fn() -> PgResult<PgConnection>) -> Result<Cost> {
    Cost::of(sessions, || {
        for _ in 0..sessions {
            let mut connection = connect()?;
            let row = connection.query_one("select 1", &[])?;
            assert_eq!(row.get::<i32>(0)?, 1);
        }
        Ok(())
    })
}
