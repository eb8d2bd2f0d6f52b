//! Transactions: single calls, closures, guards, savepoints, retries, two-phase commit.
