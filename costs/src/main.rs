//! One workload of the driver, for tools that count what it costs.
//!
//! ```text
//! chopin-pg-costs WORKLOAD OPERATIONS SOCKET_FOLDER PORT USER
//! ```
//!
//! `cargo xtask costs` runs it under callgrind and under strace, each time with two numbers of
//! operations: the difference between the two runs is the cost of the operations alone, without
//! connecting and without the making of tables. What the workload's loop allocates the program
//! counts itself, and the time that it takes; it prints that as one line of JSON. What it leaves on
//! the server is a role without rights: its tables are temporary, or dropped at the end.

mod client;
mod copies;
mod cost;
#[cfg(target_os = "linux")]
mod event_loop;
mod points;
mod readings;
mod sessions;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use chopin_pg::PgConfig;

use cost::Cost;

/// Whatever goes wrong ends the program.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A function that does a number of operations.
type Workload = fn(&PgConfig, usize) -> Result<Cost>;

const USAGE: &str = "usage: chopin-pg-costs WORKLOAD OPERATIONS SOCKET_FOLDER PORT USER";

/// The database that every server has.
const DATABASE: &str = "postgres";

/// A large result is one operation for the driver, and under callgrind it takes fifty times as long.
const IO_TIMEOUT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(cost) => {
            println!("{}", cost.to_json());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<Cost> {
    let [name, operations, socket_folder, port, user] = arguments else {
        return Err(USAGE.into());
    };
    let workload = workload(name)?;
    let operations = operations.parse().map_err(|_| format!("{operations:?} is no number"))?;
    let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    let config = PgConfig::new(socket_folder, port, user, "", DATABASE).io_timeout(IO_TIMEOUT);
    workload(&config, operations)
}

fn workload(name: &str) -> Result<Workload> {
    match name {
        "w1" => Ok(points::sequential),
        "w2" => Ok(points::pipelined),
        "w2b" => Ok(points::batched),
        "w2q" => Ok(points::in_flight),
        "w3s" => Ok(readings::streamed),
        "w3c" => Ok(readings::collected),
        "w4in" => Ok(copies::written),
        "w4out" => Ok(copies::read),
        "w5" => Ok(sessions::first),
        "w5p" => Ok(sessions::again),
        #[cfg(target_os = "linux")]
        "w6" => Ok(event_loop::many_connections::<64>),
        #[cfg(target_os = "linux")]
        "w6k" => Ok(event_loop::many_connections::<1_000>),
        _ => Err(format!("no workload is called {name:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        run(&arguments).unwrap_err().to_string()
    }

    #[test]
    fn arguments_that_are_wrong_are_named() {
        assert_eq!(error(&[]), USAGE);
        assert_eq!(error(&["w1", "10", "/run", "5432"]), USAGE);
        assert_eq!(error(&["w9", "10", "/run", "5432", "me"]), "no workload is called \"w9\"");
        assert_eq!(error(&["w1", "ten", "/run", "5432", "me"]), "\"ten\" is no number");
        assert_eq!(error(&["w1", "10", "/run", "65536", "me"]), "\"65536\" is no port");
    }

    #[test]
    fn a_server_that_is_not_there_is_an_error() {
        let folder = "/nonexistent";
        let error = error(&["w1", "10", folder, "5432", "me"]);
        assert!(error.contains("/nonexistent/.s.PGSQL.5432"), "{error}");
    }
}
