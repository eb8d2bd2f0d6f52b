//! The pooler between clients and a real server.

mod leaving;
mod serving;
mod support;
mod turns;
