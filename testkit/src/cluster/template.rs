//! Prepared data folders: initdb runs once per server version, every cluster gets a copy.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use super::SUPERUSER;
use crate::error::Error;
use crate::files::{Lock, cache_folder, copy_tree, temporary_folders};
use crate::server::Server;
use crate::server::user::ServerUser;
use crate::supervisor::Supervisor;

/// How a data folder is prepared: the same on every machine, whatever its locale settings, and
/// with everybody let in until a test says otherwise.
const INITDB_OPTIONS: [&str; 8] =
    ["--no-locale", "-E", "UTF8", "-U", SUPERUSER, "-A", "trust", "--no-sync"];

/// Copies a prepared data folder for this server to `target`, with the owner and mode that the
/// server insists on. The first call for a server version prepares it.
pub(super) fn copy_to(target: &Path, server: &Server, user: &ServerUser) -> Result<(), Error> {
    let template = ensure(server, user)?;
    let doing = || format!("copying {} to {}", template.display(), target.display());
    copy_tree(&template, target, &|path| user.give(path)).map_err(Error::io(doing()))
}

/// The prepared folder, made if need be.
fn ensure(server: &Server, user: &ServerUser) -> Result<PathBuf, Error> {
    let templates = cache_folder()?.join("templates");
    let doing = || format!("preparing a data folder in {}", templates.display());
    fs::create_dir_all(&templates).map_err(Error::io(doing()))?;
    let template = templates.join(name_for(server));
    if template.exists() {
        return Ok(template);
    }
    let _lock = Lock::take(&templates.join("lock"), || {})?;
    if template.exists() {
        return Ok(template);
    }
    // initdb runs where the server's user can write, the result is kept where we can. It gets its
    // name only when it is complete.
    let scratch = Supervisor::spawn(user, &temporary_folders(), &|_| Vec::new())?;
    let fresh = scratch.folder().join("data");
    run_initdb(&fresh, server, user)?;
    let partial = tempfile::tempdir_in(&templates).map_err(Error::io(doing()))?;
    let copy = partial.path().join("data");
    copy_tree(&fresh, &copy, &|_| Ok(())).map_err(Error::io(doing()))?;
    fs::rename(&copy, &template).map_err(Error::io(doing()))?;
    Ok(template)
}

/// A name that changes when the server or the way of preparing changes.
fn name_for(server: &Server) -> String {
    let mut hasher = DefaultHasher::new();
    (server.bin_dir(), server.version_text(), INITDB_OPTIONS).hash(&mut hasher);
    format!("{}-{:016x}", server.major(), hasher.finish())
}

fn run_initdb(folder: &Path, server: &Server, user: &ServerUser) -> Result<(), Error> {
    let mut initdb = user.command(server.bin_dir().join("initdb"));
    initdb.args(INITDB_OPTIONS).arg("-D").arg(folder);
    let output = initdb.output().map_err(Error::io("running initdb"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Program {
        doing: format!("initdb as user `{}` fails, {}", user.name(), output.status),
        said: said.trim().to_owned(),
    })
}
