//! One server for all tests of a run, whatever the runner: threads of one process, one process
//! after another (`cargo test`), or a process per test (nextest).
//!
//! Whoever needs it holds a pipe of the server's supervisor open until the process ends; the kernel
//! counts the holders. The supervisor takes the server away some seconds after the last one has
//! gone. Under the cache folder lie, for each [`Need`], a lock that is held while somebody looks
//! for the server or starts it, and a record that says where it is. So servers are shared within
//! one target folder.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::cluster::{Certificates, Cluster, KeptBy, answers};
use crate::error::Error;
use crate::files::{Lock, cache_folder};
use crate::server::user::ServerUser;
use crate::server::{Need, Server};
use crate::supervisor::{Hold, bury, hold};

/// How many sessions all tests together may have open.
const MAX_CONNECTIONS: &str = "600";

/// The server that all tests of a run share, if any PostgreSQL from 15 on will do. Tests keep apart
/// by names, see [`unique`](crate::unique), or by [databases](Cluster::create_database).
///
/// # Panics
/// If there is no such server, with the text of [`Error`]. See [`try_shared`].
pub fn shared() -> &'static Cluster {
    shared_with(Need::default())
}

/// The server that all tests with this need share. With [`Need::tls`] it has TLS switched on.
///
/// # Panics
/// If there is no such server, with the text of [`Error`]. See [`try_shared`].
pub fn shared_with(need: Need) -> &'static Cluster {
    match try_shared(need) {
        Ok(cluster) => cluster,
        Err(error) => panic!("no shared server: {error}"),
    }
}

/// As [`shared_with`], for who wants to handle the failure.
///
/// # Errors
/// As for [`Builder::start`](crate::Builder::start).
pub fn try_shared(need: Need) -> Result<&'static Cluster, Error> {
    static HELD: Mutex<Option<HashMap<String, &'static Cluster>>> = Mutex::new(None);
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let held = held.get_or_insert_default();
    if let Some(cluster) = held.get(&need.key()) {
        return Ok(cluster);
    }
    let cluster: &'static Cluster = Box::leak(Box::new(join_or_start(need)?));
    held.insert(need.key(), cluster);
    Ok(cluster)
}

fn join_or_start(need: Need) -> Result<Cluster, Error> {
    let records = cache_folder()?.join("shared");
    fs::create_dir_all(&records)
        .map_err(Error::io(format!("making the folder {}", records.display())))?;
    let _lock = Lock::take(&records.join(format!("{}.lock", need.key())), || {})?;
    let record = records.join(need.key());
    let earlier = fs::read_to_string(&record).ok().and_then(|text| Record::from_text(&text));
    if let Some(cluster) = earlier.and_then(join) {
        return Ok(cluster);
    }
    start(need, &record)
}

/// Takes hold of the server that an earlier process has recorded, if it is still there. What a
/// killed supervisor has left is taken away.
fn join(record: Record) -> Option<Cluster> {
    let alive = || answers(&record.folder, record.port);
    match hold(&record.folder) {
        Hold::Held(pipe) if alive() => {
            let certificates = record.tls.then(|| Certificates::of(&record.folder));
            let kept_by = KeptBy::Holders { _pipe: pipe };
            Some(Cluster::attach(record.folder, record.port, record.server, certificates, kept_by))
        }
        Hold::Held(_) | Hold::Gone => None,
        Hold::Orphaned => {
            let buried = ServerUser::get().map(|user| bury(user, &record.folder, alive()));
            if let Ok(Err(error)) = buried {
                crate::progress::say(&format!("{}: {error}", record.folder.display()));
            }
            None
        }
    }
}

/// Starts the server, records it, and holds it like everybody else.
fn start(need: Need, path: &Path) -> Result<Cluster, Error> {
    let cluster = Cluster::builder().need(need).guc("max_connections", MAX_CONNECTIONS).start()?;
    let record = Record {
        folder: cluster.socket_dir().to_path_buf(),
        port: cluster.port(),
        server: cluster.server().clone(),
        tls: need.tls,
    };
    let doing = || format!("sharing the server in {}", record.folder.display());
    let ready = record.folder.join("ready");
    cluster.share(|| {
        fs::write(&ready, "").map_err(Error::io(doing()))?;
        write_whole(path, &record.to_text()).map_err(Error::io(doing()))?;
        match hold(&record.folder) {
            Hold::Held(pipe) => Ok(pipe),
            Hold::Gone | Hold::Orphaned => Err(Error::io(doing())(ErrorKind::BrokenPipe.into())),
        }
    })
}

/// Writes a file so that nobody ever sees half of it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, path)
}

/// Where a shared server is and what it is, for the next process.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    folder: PathBuf,
    port: u16,
    server: Server,
    tls: bool,
}

impl Record {
    /// One value a line.
    fn to_text(&self) -> String {
        let (folder, bin_dir) = (self.folder.display(), self.server.bin_dir().display());
        let (port, tls, version) = (self.port, self.tls, self.server.version_text());
        format!("{folder}\n{port}\n{tls}\n{bin_dir}\n{version}\n")
    }

    /// `None` for what [`Record::to_text`] does not write, such as the record of another release.
    fn from_text(text: &str) -> Option<Record> {
        let mut lines = text.lines();
        let folder = PathBuf::from(lines.next()?);
        let port = lines.next()?.parse().ok()?;
        let tls = lines.next()?.parse().ok()?;
        let server = Server::known(Path::new(lines.next()?), lines.next()?)?;
        Some(Record { folder, port, server, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let server = Server::known(Path::new("/usr/lib/pg 15/bin"), "15.8 (Debian)").unwrap();
        let folder = PathBuf::from("/tmp/cpg-1");
        let record = Record { folder, port: 5432, server, tls: true };
        assert_eq!(Record::from_text(&record.to_text()), Some(record));
        assert_eq!(Record::from_text("/tmp/cpg-1\n5432\n"), None);
    }
}
