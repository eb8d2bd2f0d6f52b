//! Cancelling, and what happens when time runs out.
