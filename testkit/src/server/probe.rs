//! Asks the programs of a bin folder what they are and can do.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::user::ServerUser;
use super::{Need, Server};

/// Why a bin folder was not taken.
#[derive(Debug)]
pub(super) enum Rejected {
    /// The server's user may not run what is in it; a copy elsewhere might do.
    Unreachable(String),
    /// It is not the bin folder of a working installation.
    Broken(String),
    /// It works, and is not what is needed.
    Lacking(String),
}

impl Rejected {
    /// The reason in words.
    pub(super) fn reason(self) -> String {
        match self {
            Rejected::Unreachable(reason)
            | Rejected::Broken(reason)
            | Rejected::Lacking(reason) => reason,
        }
    }
}

/// Checks that the programs in `bin_dir` run under `user` and satisfy `need`.
pub(super) fn probe(bin_dir: &Path, need: &Need, user: &ServerUser) -> Result<Server, Rejected> {
    // Links (such as /usr/local/bin/postgres) are followed to the folder of the installation.
    let postgres = bin_dir.join("postgres");
    let postgres = postgres.canonicalize().map_err(|error| unusable(&postgres, &error))?;
    let bin_dir = postgres.parent().unwrap_or(bin_dir).to_path_buf();
    if !bin_dir.join("initdb").exists() {
        return Err(Rejected::Broken("there is no initdb beside postgres".into()));
    }
    let said = run(user.command(&postgres).arg("-V"), user)?;
    let version = said.trim().trim_start_matches("postgres (PostgreSQL) ");
    let server = Server::known(&bin_dir, version)
        .ok_or_else(|| Rejected::Broken(format!("`postgres -V` says {:?}", said.trim())))?;
    if !need.accepts(server.major()) {
        return Err(Rejected::Lacking(format!("it is version {version}")));
    }
    if need.tls && !has_tls(&postgres, user)? {
        return Err(Rejected::Lacking(format!("version {version} was built without TLS")));
    }
    if need.contrib && !has_contrib(&bin_dir, server.major()) {
        return Err(Rejected::Lacking(format!("version {version} comes without contrib")));
    }
    Ok(server)
}

fn unusable(path: &Path, error: &io::Error) -> Rejected {
    Rejected::Broken(format!("{}: {error}", path.display()))
}

/// The value of the read-only setting `ssl_library`: empty in a build without TLS. The folder and
/// the file only have to exist, nothing is read from them.
fn has_tls(postgres: &Path, user: &ServerUser) -> Result<bool, Rejected> {
    let arguments = ["-C", "ssl_library", "-D", "/", "-c", "config_file=/dev/null"];
    Ok(!run(user.command(postgres).args(arguments), user)?.trim().is_empty())
}

/// Whether an extension that every contrib package has is among the shared files, wherever this
/// installation keeps those.
fn has_contrib(bin_dir: &Path, major: u32) -> bool {
    let mut share_folders = vec![
        bin_dir.join("../share/postgresql"),
        bin_dir.join("../share"),
        PathBuf::from(format!("/usr/share/postgresql/{major}")),
    ];
    if let Ok(output) = Command::new(bin_dir.join("pg_config")).arg("--sharedir").output() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            share_folders.insert(0, PathBuf::from(said));
        }
    }
    share_folders.iter().any(|share| share.join("extension/hstore.control").is_file())
}

fn run(command: &mut Command, user: &ServerUser) -> Result<String, Rejected> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Rejected::Broken(format!("{program} fails, {}: {}", output.status, said.trim())))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let reason = format!("user `{}` may not run {program}: {error}", user.name());
            Err(Rejected::Unreachable(reason))
        }
        Err(error) => Err(Rejected::Broken(format!("{program} cannot be run: {error}"))),
    }
}
