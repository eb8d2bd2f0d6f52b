//! What `pg start` leaves behind for later commands: which server runs, and how to talk to its
//! holder. One file under the target folder, a name and a value on each line.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::workspace;

/// The server to play with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    /// Its major version.
    pub(super) version: u32,
    /// Where programs connect to.
    pub(super) url: String,
    /// The control socket of its holder.
    pub(super) control: PathBuf,
}

impl State {
    /// The folder of the file, which exists afterwards.
    pub(super) fn folder() -> Result<PathBuf> {
        let folder = workspace::target().join("pg");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    fn file() -> Result<PathBuf> {
        Ok(Self::folder()?.join("server"))
    }

    /// What was written last. `None` if nothing was, or it was removed.
    pub(super) fn read() -> Result<Option<Self>> {
        let file = Self::file()?;
        match fs::read_to_string(&file) {
            Ok(text) => {
                let state = Self::parse(&text);
                state.map(Some).with_context(|| format!("{} is damaged, delete it", file.display()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// Also when there is one: somebody else has started a server at the same moment.
    pub(super) fn write(&self) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(Self::folder()?)?;
        file.write_all(self.text().as_bytes())?;
        file.persist_noclobber(Self::file()?).context("another server is being started")?;
        Ok(())
    }

    /// Removes the file, if it is there.
    pub(super) fn remove() -> Result<()> {
        let file = Self::file()?;
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", file.display()))
            }
            _ => Ok(()),
        }
    }

    fn text(&self) -> String {
        format!("version {}\nurl {}\ncontrol {}\n", self.version, self.url, self.control.display())
    }

    fn parse(text: &str) -> Option<Self> {
        let value =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Some(Self {
            version: value("version")?.parse().ok()?,
            url: value("url")?.to_owned(),
            control: value("control")?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let state = State {
            version: 18,
            url: "postgresql://postgres@127.0.0.1:5433/postgres".to_owned(),
            control: "/a folder/xtask".into(),
        };
        assert_eq!(State::parse(&state.text()), Some(state));
    }

    #[test]
    fn what_is_cut_off_is_damaged() {
        assert_eq!(State::parse("version 18\nurl postgresql://"), None);
        assert_eq!(State::parse("version x\nurl a\ncontrol b\n"), None);
    }
}
