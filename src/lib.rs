//! PostgreSQL for programs that own their threads: thread-per-core servers with their own event
//! loop, and plain synchronous programs.
//!
//! No async runtime, no background threads, no locks; the default build depends on `libc` alone.
//!
//! ```no_run
//! use chopin_pg::{PgConfig, PgConnection};
//!
//! # fn main() -> chopin_pg::PgResult<()> {
//! let config = PgConfig::from_url("postgres://frederic:secret@localhost/music")?;
//! let mut connection = PgConnection::connect(&config)?;
//! connection.execute("insert into works (title, year) values ($1, $2)", &[&"Ballade No. 1", &1835])?;
//! for row in connection.query("select title, year from works where year > $1", &[&1830])? {
//!     let (title, year): (String, i32) = row.to()?;
//!     println!("{title} ({year})");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Where to look:
//!
//! * [`PgConfig`] says where to connect and how, [`PgConnection`] is a connection: its page has the
//!   contract of the non-blocking face too.
//! * [`Row`] reads columns by index or name; [`types`] lists which Rust types go with which SQL
//!   types.
//! * [`PgError`] says what went wrong, with everything that the server told.
//! * Transactions: [`transaction`](PgConnection::transaction) with a closure,
//!   [`begin_transaction`](PgConnection::begin_transaction) as a guard,
//!   [`run_serializable`](PgConnection::run_serializable) with retries.
//! * COPY: [`copy_in`](PgConnection::copy_in), [`copy_out`](PgConnection::copy_out), and
//!   [`insert_many`](PgConnection::insert_many) for rows that are in memory.
//! * LISTEN and NOTIFY: [`listen`](PgConnection::listen), [`notify`](PgConnection::notify),
//!   [`notifications`](PgConnection::notifications); [`PgListener`] connects again by itself.
//! * Rows that do not fit into memory: [`stream`](PgConnection::stream), and cursors, which let other
//!   requests in between: [`query_cursor`](PgConnection::query_cursor),
//!   [`fetch`](PgConnection::fetch).
//! * Large objects: [`open_large_object`](PgConnection::open_large_object), and [`LargeObject`] to
//!   read, write and seek.
//! * Time: [`within`](PgConnection::within) bounds a call or several together; a [`CancelToken`]
//!   cancels from elsewhere.
//! * [`wire`] and [`engine`] are the protocol without I/O. They are public and unstable.
//!
//! `docs/GUIDE.md` in the repository has a section for each of these features, with functions to
//! start from; `examples/` has whole programs.

#![deny(unsafe_code, missing_docs)]

mod auth;
pub mod config;
pub mod connection;
mod crypto;
pub mod engine;
pub mod error;
mod net;
pub mod pool;
pub mod row;
pub mod types;
pub mod wire;

pub use crate::config::{ExecutionMode, PgConfig, ProtocolVersion};
pub use crate::connection::{
    AdvisoryKey, AdvisoryLock, CancelToken, Cancelling, CommandTag, CopyFormat, CopyIn,
    CopyOptions, CopyOut, CopyReader, CopyWriter, Cursor, DEFAULT_IO_TIMEOUT, Deadline, Delivery,
    Drive, Event, Interest, IsolationLevel, LargeObject, LargeObjectMode, ListenerEvent,
    Notification, Notifications, Outcome, ParamSets, PgConnection, PgListener, Pipeline,
    PipelineResult, Request, Rows, SimpleResult, Statement, Submit, TableName, Ticket, Transaction,
    TransactionBuilder, TransactionStatus, Within, quote_identifier, quote_literal, retry,
};
pub use crate::error::{ErrorClass, Notice, PgError, PgResult, ServerError, SqlState};
pub use crate::pool::{
    ConnectionGuard, PgPool, PgPoolConfig, PoolEvent, PoolStats, ResetPolicy, init_pool, pool,
};
pub use crate::row::{Column, FromRow, Row, RowRef};
pub use crate::types::{FromSql, Oid, Params, PgValue, StaticType, ToParam, ToSql, Typed, Untyped};

/// The example of the README is compiled with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
