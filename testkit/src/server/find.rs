//! The order in which bin folders are looked for.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::fetch;
use super::probe::{Rejected, probe};
use super::user::ServerUser;
use super::{Need, Server};
use crate::error::Error;
use crate::files::{Lock, cache_folder, copy_tree, private_folder, temporary_folders};

/// The variable that names a bin folder to take before all others.
const BIN_VARIABLE: &str = "CHOPIN_PG_BIN";

/// Where packages put bin folders: the parent of one folder per version, that folder's prefix, and
/// the path inside it.
const PACKAGED: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// See [`Server::find`]. An answer is remembered: probing costs two program starts.
pub(super) fn find(need: &Need) -> Result<Server, Error> {
    static FOUND: Mutex<Option<HashMap<Need, Server>>> = Mutex::new(None);
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let found = found.get_or_insert_default();
    if let Some(server) = found.get(need) {
        return Ok(server.clone());
    }
    let server = Search { need, user: ServerUser::get()?, tried: Vec::new() }.run()?;
    found.insert(*need, server.clone());
    Ok(server)
}

/// One search, which remembers what it has tried.
struct Search<'a> {
    need: &'a Need,
    user: &'a ServerUser,
    tried: Vec<String>,
}

impl Search<'_> {
    fn run(mut self) -> Result<Server, Error> {
        if let Some(server) = self.named()?.or_else(|| self.installed()) {
            return Ok(server);
        }
        let servers = cache_folder()?.join("servers");
        fs::create_dir_all(&servers)
            .map_err(Error::io(format!("making the folder {}", servers.display())))?;
        if let Some(server) = self.fetched(&servers) {
            return Ok(server);
        }
        let _lock = Lock::take(&servers.join("lock"), || {
            crate::progress::say("waiting for another process that is fetching PostgreSQL ...");
        })?;
        // The holder of the lock may have fetched what is needed here too.
        if let Some(server) = self.fetched(&servers) {
            return Ok(server);
        }
        for way in fetch::ways(self.need) {
            match way.fetch(&servers) {
                Ok(()) => {
                    if let Some(server) = self.fetched(&servers).or_else(|| self.packaged()) {
                        return Ok(server);
                    }
                    self.tried.push(format!("{}: what came does not serve", way.describe()));
                }
                Err(reason) => self.tried.push(format!("{}: {reason}", way.describe())),
            }
        }
        Err(Error::NoServer { need: *self.need, tried: self.tried })
    }

    /// The folder that the developer names. One that lacks what this test needs is passed over;
    /// one that does not work at all is an error, so that no other is taken silently.
    fn named(&mut self) -> Result<Option<Server>, Error> {
        let Some(folder) = std::env::var_os(BIN_VARIABLE).map(PathBuf::from) else {
            self.tried.push(format!("{BIN_VARIABLE}: not set"));
            return Ok(None);
        };
        let described = |reason| format!("{BIN_VARIABLE}={}: {reason}", folder.display());
        match probe(&folder, self.need, self.user) {
            Ok(server) => Ok(Some(server)),
            Err(Rejected::Lacking(reason)) => {
                self.tried.push(described(reason));
                Ok(None)
            }
            Err(Rejected::Broken(reason) | Rejected::Unreachable(reason)) => {
                Err(Error::Option(described(reason)))
            }
        }
    }

    /// What is on this machine already, our own fetched servers apart.
    fn installed(&mut self) -> Option<Server> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut on_path = std::env::split_paths(&path)
            .filter(|folder| folder.is_absolute() && folder.join("postgres").exists())
            .peekable();
        if on_path.peek().is_none() {
            self.tried.push("PATH: no postgres in any of its folders".into());
        }
        on_path.find_map(|folder| self.take("PATH", &folder)).or_else(|| self.packaged())
    }

    fn packaged(&mut self) -> Option<Server> {
        let mut any = false;
        for (parent, prefix, inside) in PACKAGED {
            for folder in versions_in(Path::new(parent), prefix) {
                any = true;
                if let Some(server) = self.take("package", &folder.join(inside)) {
                    return Some(server);
                }
            }
        }
        if !any {
            let parents: Vec<&str> = PACKAGED.iter().map(|(parent, ..)| *parent).collect();
            self.tried.push(format!("packages: nothing in {}", parents.join(", ")));
        }
        None
    }

    /// The newest of the servers that were fetched before and satisfy the need.
    fn fetched(&mut self, servers: &Path) -> Option<Server> {
        versions_in(servers, fetch::PREFIX)
            .iter()
            .filter_map(|folder| self.take_fetched(folder))
            .max_by_key(Server::major)
    }

    /// A fetched server, or a copy of it where the server's user can run it: the target folder may
    /// lie under one that only root may enter.
    fn take_fetched(&mut self, folder: &Path) -> Option<Server> {
        let inside = fetch::bin_inside(folder)?;
        match probe(&folder.join(&inside), self.need, self.user) {
            Ok(server) => Some(server),
            Err(Rejected::Unreachable(reason)) => {
                self.tried.push(reason);
                temporary_folders().iter().find_map(|base| match copied(folder, base) {
                    Ok(copy) => self.take("copy", &copy.join(&inside)),
                    Err(error) => {
                        self.tried.push(error.to_string());
                        None
                    }
                })
            }
            Err(Rejected::Broken(reason) | Rejected::Lacking(reason)) => {
                self.tried.push(format!("fetched before: {}: {reason}", folder.display()));
                None
            }
        }
    }

    fn take(&mut self, origin: &str, bin_dir: &Path) -> Option<Server> {
        match probe(bin_dir, self.need, self.user) {
            Ok(server) => Some(server),
            Err(rejected) => {
                let reason = rejected.reason();
                self.tried.push(format!("{origin}: {}: {reason}", bin_dir.display()));
                None
            }
        }
    }
}

/// The folders in `parent` whose names start with `prefix`, highest version number first.
fn versions_in(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut folders: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| (numbers_in(&entry.file_name().to_string_lossy()), entry.path()))
        .collect();
    folders.sort();
    folders.into_iter().rev().map(|(_, path)| path).collect()
}

/// `npm-17.10.0-beta.17` -> 17, 10, 0, 17.
fn numbers_in(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// A copy of a fetched server in a temporary folder that the server's user can enter, made once.
fn copied(folder: &Path, base: &Path) -> Result<PathBuf, Error> {
    let doing = || format!("copying {} to {}", folder.display(), base.display());
    let home = private_folder(base).map_err(Error::io(doing()))?;
    let name = folder.file_name().unwrap_or_default();
    let copy = home.join(name);
    let _lock = Lock::take(&home.join("lock"), || {})?;
    if !copy.exists() {
        let partial = tempfile::tempdir_in(&home).map_err(Error::io(doing()))?;
        let unfinished = partial.path().join(name);
        copy_tree(folder, &unfinished, &|_| Ok(())).map_err(Error::io(doing()))?;
        fs::rename(&unfinished, &copy).map_err(Error::io(doing()))?;
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first_by_number_not_by_letter() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["9.6", "15", "npm-17.10.0-beta.17", "18"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let names = |prefix| -> Vec<String> {
            let folders = versions_in(parent.path(), prefix);
            folders.iter().map(|f| f.file_name().unwrap().to_str().unwrap().into()).collect()
        };
        assert_eq!(names(""), ["18", "npm-17.10.0-beta.17", "15", "9.6"]);
        assert_eq!(names("npm"), ["npm-17.10.0-beta.17"]);
        assert!(versions_in(Path::new("/nonexistent"), "").is_empty());
    }
}
