//! What a user sees: the driver against real servers, and against a scripted one where a real
//! server cannot misbehave.
//!
//! Test functions carry the numbers of the rows in docs/FEATURES.md and docs/HAZARDS.md that they
//! prove.

mod broken;
mod buffers;
mod cancel;
mod catalog;
mod contracts;
mod copy;
mod cursors;
mod differential;
mod errors;
mod event_loop;
mod examples;
mod guide;
mod half_open;
mod large_objects;
mod ledger;
mod limits;
mod login;
mod messages;
mod modes;
mod notify;
mod pipelines;
mod pool;
mod prepared;
mod queries;
mod replay;
mod session;
mod statement_cache;
mod streaming;
mod support;
mod sweeps;
mod timeouts;
mod transactions;
mod transcripts;
mod types_net;
mod types_numeric;
mod types_scalar;
mod types_temporal;
mod types_value;
