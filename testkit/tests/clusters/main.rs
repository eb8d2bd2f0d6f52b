//! Throwaway clusters against the real thing: servers, accounts, signals and other processes.

mod access;
mod child;
mod cleanup;
mod finding;
mod lifecycle;
mod sharing;
