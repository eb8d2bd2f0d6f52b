//! Folders, locks and copies: where testkit keeps what outlives a process, and how processes that
//! run at the same time stay out of each other's way.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::os::{Patience, lock_exclusively};
use crate::server::user::ServerUser;

/// An exclusive lock between processes, held until dropped. Its file stays behind, empty.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock on `path`. `on_wait` is called once if somebody else holds it.
    pub(crate) fn take(path: &Path, on_wait: impl FnOnce()) -> Result<Lock, Error> {
        let doing = || format!("locking {}", path.display());
        let file =
            OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(doing()))?;
        match lock_exclusively(&file, Patience::Try) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                on_wait();
                lock_exclusively(&file, Patience::Wait).map_err(Error::io(doing()))?;
            }
            other => other.map_err(Error::io(doing()))?,
        }
        Ok(Lock { _file: file })
    }
}

/// The folders for short-lived files, best first. TMPDIR may lie where the server's user cannot
/// go, or be too long for a socket's path; the other two are there for that.
pub(crate) fn temporary_folders() -> Vec<PathBuf> {
    let mut folders = vec![std::env::temp_dir()];
    for common in ["/tmp", "/var/tmp"] {
        if !folders.iter().any(|folder| folder == Path::new(common)) {
            folders.push(PathBuf::from(common));
        }
    }
    folders
}

/// Where fetched servers, prepared data folders and the record of the shared server are kept:
/// `testkit` under the workspace's target folder, or, if that cannot be written to, a folder of
/// this user's among the temporary ones.
pub(crate) fn cache_folder() -> Result<PathBuf, Error> {
    let in_target = target_folder().join("testkit");
    let made = fs::create_dir_all(&in_target).and_then(|()| tempfile::tempfile_in(&in_target));
    match made {
        Ok(_probe) => Ok(in_target),
        Err(refusal) => temporary_folders()
            .iter()
            .find_map(|base| private_folder(base).ok())
            .ok_or(refusal)
            .map_err(Error::io(format!("making the folder {}", in_target.display()))),
    }
}

/// The workspace's target folder: the one that holds the running program if cargo built it (this
/// follows every setting of cargo's), else CARGO_TARGET_DIR, else `target` in the workspace. A
/// documentation test, for one, runs from elsewhere.
fn target_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let marked = program.ancestors().skip(1).find(|folder| folder.join("CACHEDIR.TAG").is_file());
    if let Some(folder) = marked {
        return folder.to_path_buf();
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace.join(folder),
        None => workspace.join("target"),
    }
}

/// A folder in `base` that only this user can have made and filled: others may read it, which the
/// server's user has to. A name that somebody else took, or can write to, is an error.
pub(crate) fn private_folder(base: &Path) -> io::Result<PathBuf> {
    let uid = ServerUser::own_uid().map_err(io::Error::other)?;
    let folder = base.join(format!("chopin-testkit-{uid}"));
    match DirBuilder::new().mode(0o755).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(&folder)?;
    if found.is_dir() && found.uid() == uid && found.mode() & 0o022 == 0 {
        Ok(folder)
    } else {
        let reason = format!("{} belongs to, or is open to, somebody else", folder.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
    }
}

/// Copies a folder with everything in it, modes and symbolic links included. `made` is called for
/// each file and for each folder, for these while they are still empty: whoever they are given to
/// can delete what is there at any moment.
pub(crate) fn copy_tree(
    from: &Path,
    to: &Path,
    made: &dyn Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    fs::create_dir(to)?;
    made(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &target, made)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target)?;
            made(&target)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}
