//! What a user sees: the driver against real servers, and against a scripted one where a real server cannot misbehave.
//!
//! Test functions carry the numbers of the rows in docs/FEATURES.md and docs/HAZARDS.md that they prove.

mod support;

mod session;
