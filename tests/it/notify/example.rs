//! The program examples/listen.rs, run against a real server.

#[path = "../../../examples/listen.rs"]
#[allow(dead_code)]
mod listen;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, TryRecvError, channel};

use clap::Parser;

use self::listen::{Options, run};
use super::LONG;
use crate::support::*;

/// Hands each line on.
struct Lines(Sender<String>, String);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1 += std::str::from_utf8(bytes).expect("UTF-8");
        while let Some((line, rest)) = self.1.split_once('\n') {
            self.0.send(line.to_owned()).map_err(io::Error::other)?;
            self.1 = rest.to_owned();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn b13_the_example_prints_and_connects_again() {
    let server = testkit::shared();
    let url = server.url(server.superuser(), None, "postgres");
    let (jobs, news) = (testkit::unique("jobs"), testkit::unique("news"));
    let arguments = ["listen", "--url", &url, "--count", "3", &jobs, &news];
    let options = Options::parse_from(arguments);
    let (lines, printed) = channel();
    let example = std::thread::spawn(move || {
        let stop = AtomicBool::new(false);
        run(&options, &stop, &mut Lines(lines, String::new())).expect("the example works")
    });
    let line = || printed.recv_timeout(LONG).expect("a line");
    let mut db = connect();
    let process = db.process_id();
    assert_eq!(line(), format!("listening to {jobs}, {news}"));
    db.notify(&jobs, "42").unwrap();
    assert_eq!(line(), format!("{jobs} (process {process}): 42"));
    let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where application_name = 'listen' and query like '%' || $1 || '%'";
    let ended: i64 = db.query_one(sql, &[&jobs]).unwrap().get(0).unwrap();
    assert_eq!(ended, 1);
    let lost = line();
    assert!(lost.starts_with("connection lost: FATAL: 57P01"), "{lost}");
    assert_eq!(line(), "connected again; notifications may have been missed");
    db.notify(&news, "one").unwrap();
    db.notify(&jobs, "two").unwrap();
    assert_eq!(line(), format!("{news} (process {process}): one"));
    assert_eq!(line(), format!("{jobs} (process {process}): two"));
    assert_eq!(example.join().unwrap(), 3);
}

#[test]
fn b13_the_example_ends_when_it_is_told_to() {
    let server = testkit::shared();
    let url = server.url(server.superuser(), None, "postgres");
    let channel_name = testkit::unique("stop");
    let options = Options::parse_from(["listen", "--url", &url, &channel_name]);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (lines, printed) = channel();
    let (ended, end) = channel();
    std::thread::spawn(move || {
        let heard = run(&options, &stopped, &mut Lines(lines, String::new())).expect("it works");
        ended.send(heard)
    });
    let line = || printed.recv_timeout(LONG).expect("a line");
    assert_eq!(line(), format!("listening to {channel_name}"));
    connect().notify(&channel_name, "one").unwrap();
    assert!(line().ends_with("one"));
    assert_eq!(end.try_recv(), Err(TryRecvError::Empty), "it waits for more");
    stop.store(true, Ordering::Relaxed);
    assert_eq!(end.recv_timeout(LONG), Ok(1));
    let nowhere = Options::parse_from(["listen", "--url", "postgres://ada@localhost:1/x", "c"]);
    assert!(run(&nowhere, &stop, &mut io::sink()).is_err());
}
