//! The commands as a developer calls them: what they print and how they end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `xtask` with these arguments; what `pg` writes down goes to `target`.
fn xtask(target: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(arguments).env("CARGO_TARGET_DIR", target).output().expect("xtask starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder for the state of `pg`; whatever still runs at the end is stopped.
struct Playground(tempfile::TempDir);

impl Playground {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn pg(&self, arguments: &[&str]) -> Output {
        xtask(self.0.path(), &[&["pg"], arguments].concat())
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        self.pg(&["stop"]);
    }
}

/// The URL in what `pg start` printed.
fn url_in(text: &str) -> &str {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("DATABASE_URL="));
    line.unwrap_or_else(|| panic!("no URL in: {text}"))
}

/// The folder of the server that `pg start` has written down.
fn folder_of_server(playground: &Playground) -> PathBuf {
    let state = fs::read_to_string(playground.0.path().join("pg/server"))
        .expect("a server is written down");
    let control =
        state.lines().find_map(|line| line.strip_prefix("control ")).expect("a control socket");
    Path::new(control).parent().expect("a socket is in a folder").to_owned()
}

/// Whether somebody listens where this URL points.
fn answers(url: &str) -> bool {
    let address =
        url.split('@').nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
    std::net::TcpStream::connect(address).is_ok()
}

#[test]
fn a_server_to_play_with_outlives_its_command_and_is_stopped_by_another() {
    let playground = Playground::new();
    let started = playground.pg(&["start"]);
    assert!(started.status.success(), "{}", stderr(&started));
    let text = stdout(&started);
    let url = url_in(&text);
    assert!(
        text.contains(&format!("psql {url}")) && text.contains("cargo xtask pg stop"),
        "{text}"
    );
    assert!(answers(url));
    let folder = folder_of_server(&playground);
    assert!(folder.exists());

    let again = playground.pg(&["start"]);
    assert!(again.status.success(), "{}", stderr(&again));
    assert!(stdout(&again).contains("is running already"), "{}", stdout(&again));
    assert_eq!(url_in(&stdout(&again)), url);

    let stopped = playground.pg(&["stop"]);
    assert!(stopped.status.success(), "{}", stderr(&stopped));
    assert!(stdout(&stopped).contains("has been stopped"), "{}", stdout(&stopped));
    assert!(!folder.exists(), "{} is left behind", folder.display());
    assert_eq!(stdout(&playground.pg(&["stop"])), "No server is running.\n");
}

#[test]
fn another_version_than_the_running_one_is_refused_and_that_one_stays() {
    let playground = Playground::new();
    let text = stdout(&playground.pg(&["start"]));
    // The default is never as old as this.
    let other = playground.pg(&["start", "--version", "12"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(stderr(&other).contains("stop this one first"), "{}", stderr(&other));
    assert!(answers(url_in(&text)));
}

#[test]
fn a_version_that_nobody_has_is_a_wrong_argument() {
    let output = Playground::new().pg(&["start", "--version", "11"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("12..=18"), "{}", stderr(&output));
}

#[test]
fn a_check_of_rows_that_do_not_exist_or_are_written_wrong_ends_with_1() {
    for (check, message) in [
        ("H999", "error: \"H999\": the documents have no row H999\n"),
        ("1.1-H5", "error: \"1.1-H5\": a range has rows of one kind, S 1.1 and H5 differ\n"),
        ("1.1;H5", "error: \"1.1;H5\" is no row: rows are written 2.26, S 2.26, 8.3b, B6 or H14\n"),
    ] {
        let output = xtask(Path::new("unused"), &["rows", "--check", check]);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), message));
    }
}
