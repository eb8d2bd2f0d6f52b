//! The driver with thousands of connections in one thread: `cargo xtask test --scale`.
//!
//! ```text
//! chopin-pg-scale queries       2,000 connections to a real server, 200,000 queries
//! chopin-pg-scale connections   10,000 connections to a scripted server, and their memory
//! chopin-pg-scale serve         that scripted server, in a process of its own
//! ```
//!
//! A program of its own, because it is to be a release build, because memory can only be said of a
//! whole process, and because it takes too long for every run of the tests; those run it in small.
//! It prints what it has measured, and fails if an answer is wrong or a limit is exceeded. The
//! event loop is that of examples/event_loop.rs. It needs Linux, for epoll and /proc.

#[cfg(target_os = "linux")]
mod connections;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod queries;

#[cfg(target_os = "linux")]
#[path = "../../examples/event_loop.rs"]
#[allow(dead_code)]
mod example;

use std::error::Error;
use std::process::ExitCode;

/// Whatever goes wrong ends the program.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: chopin-pg-scale queries | connections | serve";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["queries"] => queries::main(),
        ["connections"] => connections::main(),
        ["serve"] => connections::serve(),
        _ => Err(USAGE.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn run(_arguments: &[&str]) -> Result<()> {
    Err("this needs Linux, for epoll and /proc".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_arguments_are_told_what_there_is() {
        assert_eq!(run(&[]).unwrap_err().to_string(), USAGE);
        assert_eq!(run(&["queries", "10"]).unwrap_err().to_string(), USAGE);
    }
}
