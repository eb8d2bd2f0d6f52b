//! Who the server runs as. PostgreSQL refuses to run as root, and initdb refuses a user id without
//! an account.

use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::error::Error;

/// The accounts that root hands the server to, best first.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// The account under which server programs run: this process's own, or, for root, another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUser {
    name: String,
    /// User and group id to change to before a program is run; `None`: they are ours already.
    change_to: Option<(u32, u32)>,
}

impl ServerUser {
    /// Looks the account up, once per process.
    pub(crate) fn get() -> Result<&'static ServerUser, Error> {
        static FOUND: OnceLock<ServerUser> = OnceLock::new();
        if let Some(user) = FOUND.get() {
            return Ok(user);
        }
        let user = ServerUser::look_up()?;
        Ok(FOUND.get_or_init(|| user))
    }

    fn look_up() -> Result<ServerUser, Error> {
        let uid = ServerUser::own_uid()?;
        if uid != 0 {
            // Without an account, `id -un` fails on some systems and prints the number on others.
            return match id(&["-un"]) {
                Ok(name) if name != uid.to_string() => Ok(ServerUser { name, change_to: None }),
                _ => Err(Error::User(format!(
                    "the user id {uid} of this process has no account (passwd entry), and \
                     PostgreSQL's initdb refuses to run without one: run the tests as a user that \
                     has one, or add a line for {uid} to /etc/passwd"
                ))),
            };
        }
        for name in UNPRIVILEGED {
            let ids = (id(&["-u", name]), id(&["-g", name]));
            if let (Ok(Ok(uid)), Ok(Ok(gid))) = (ids.0.map(|s| s.parse()), ids.1.map(|s| s.parse()))
            {
                return Ok(ServerUser { name: name.into(), change_to: Some((uid, gid)) });
            }
        }
        Err(Error::User(
            "this process runs as root, PostgreSQL refuses to, and there is no account `postgres` \
             or `nobody` to run it under"
                .into(),
        ))
    }

    /// The user id of this process, in effect.
    pub(crate) fn own_uid() -> Result<u32, Error> {
        let said = id(&["-u"]).map_err(Error::io("asking `id -u` for the user id"))?;
        said.parse().map_err(|_| Error::User(format!("`id -u` said {said:?}, not a number")))
    }

    /// The account's name, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs as this user, in a folder that everybody may be in, and with an
    /// environment in which neither locales nor PG variables change what the server does.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.current_dir("/");
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            let speaks_of_locale = name_text.starts_with("LC_") || name_text.starts_with("LANG");
            if speaks_of_locale || name_text.starts_with("PG") {
                command.env_remove(&name);
            }
        }
        // initdb takes the server's time zone from here, and times it some 0.1 s faster so.
        command.env("TZ", "UTC");
        if let Some((uid, gid)) = self.change_to {
            // With a user id set, root's supplementary groups are dropped by the standard library.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes a file or folder this user's.
    pub(crate) fn give(&self, path: &Path) -> io::Result<()> {
        match self.change_to {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

/// What `id` says: the account database, with whatever the machine has configured behind it.
fn id(arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("id").args(arguments).output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
