//! Throwaway clusters: a PostgreSQL server of a test's own, gone without a trace afterwards.

mod builder;
mod launch;
mod template;
mod tls;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use builder::Builder;
pub(crate) use launch::answers;
pub(crate) use tls::Certificates;

use crate::error::Error;
use crate::raw::RawClient;
use crate::server::Server;
use crate::socket::Target;
use crate::supervisor::{Supervisor, server_pid};

/// The host that clusters listen on, together with its IPv6 counterpart where there is one.
const HOST: &str = "127.0.0.1";

/// The role that owns a cluster.
pub(crate) const SUPERUSER: &str = "postgres";

/// How long a server may take to shut down. A smart shutdown waits for its clients.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(60);

/// The ways to shut a server down, by PostgreSQL's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Lets the clients finish; no new ones (SIGTERM).
    Smart,
    /// Ends the sessions, rolling back (SIGINT).
    Fast,
    /// Ends at once, recovers at the next start (SIGQUIT).
    Immediate,
}

impl Shutdown {
    fn signal(self) -> &'static str {
        match self {
            Shutdown::Smart => "TERM",
            Shutdown::Fast => "INT",
            Shutdown::Immediate => "QUIT",
        }
    }
}

/// A running PostgreSQL server with a data folder of its own.
///
/// Dropping it stops the server and deletes everything, and so does the end of the process, however
/// it comes. It listens on a port of 127.0.0.1 (and ::1 where there is one) and on a unix socket.
/// Unless [`Builder::hba`] says otherwise it lets everybody in.
///
/// ```no_run
/// # fn main() -> Result<(), testkit::Error> {
/// let cluster = testkit::Cluster::builder().guc("max_connections", "20").start()?;
/// let url = cluster.url("postgres", None, "postgres");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    server: Server,
    certificates: Option<Certificates>,
    kept_by: KeptBy,
}

/// What keeps the server alive.
#[derive(Debug)]
pub(crate) enum KeptBy {
    /// Its supervisor, which is ours alone.
    Owner(Mutex<Supervisor>),
    /// An open pipe, one of many: the server is shared.
    Holders { _pipe: fs::File },
}

impl Cluster {
    /// Options for a new cluster.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A cluster that runs already.
    pub(crate) fn attach(
        folder: PathBuf,
        port: u16,
        server: Server,
        certificates: Option<Certificates>,
        kept_by: KeptBy,
    ) -> Cluster {
        Cluster { folder, port, server, certificates, kept_by }
    }

    /// The numeric address that the server listens on.
    pub fn host(&self) -> &'static str {
        HOST
    }

    /// The port, the same on TCP and in the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the unix socket, an absolute path. Everything of the cluster is in it.
    pub fn socket_dir(&self) -> &Path {
        &self.folder
    }

    /// The server's data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The name of the superuser.
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// The server's major version, such as 15.
    pub fn version(&self) -> u32 {
        self.server.major()
    }

    /// The folder with the server's programs, and whatever clients came with them.
    pub fn bin_dir(&self) -> &Path {
        self.server.bin_dir()
    }

    /// The certificate (PEM) of the authority that signed the server's; `None` without
    /// [`Builder::tls`].
    pub fn ca_cert_path(&self) -> Option<PathBuf> {
        self.certificates.as_ref().map(Certificates::authority)
    }

    /// The server's certificate (PEM), for `localhost`, 127.0.0.1 and ::1; `None` without
    /// [`Builder::tls`].
    pub fn server_cert_path(&self) -> Option<PathBuf> {
        self.certificates.as_ref().map(Certificates::server)
    }

    /// A connection URL over TCP. User, password and database may be any text.
    pub fn url(&self, user: &str, password: Option<&str>, database: &str) -> String {
        let password = password.map(|text| format!(":{}", percent_encoded(text)));
        format!(
            "postgresql://{}{}@{HOST}:{}/{}",
            percent_encoded(user),
            password.unwrap_or_default(),
            self.port,
            percent_encoded(database)
        )
    }

    /// Where the server listens on TCP.
    pub fn tcp(&self) -> Target {
        Target::port(self.port)
    }

    /// The server's unix socket.
    pub fn unix(&self) -> Target {
        Target::socket(&self.folder, self.port)
    }

    /// A session of the superuser in `database`, over the unix socket.
    ///
    /// # Errors
    /// [`Error::Client`] if the server does not run or its rules do not let the superuser in.
    pub fn client(&self, database: &str) -> Result<RawClient, Error> {
        Ok(RawClient::connect(&self.unix(), SUPERUSER, database, None)?)
    }

    /// Makes an empty database of this name, which is quoted.
    ///
    /// # Errors
    /// [`Error::Client`], for example if there is one already.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        let quoted = name.replace('"', "\"\"");
        self.client("postgres")?.simple(&format!("CREATE DATABASE \"{quoted}\""))?;
        Ok(())
    }

    /// What the server has logged so far, over all its starts.
    pub fn log(&self) -> String {
        log_in(&self.folder)
    }

    /// The postmaster's process id; `None` while the server is stopped.
    pub fn pid(&self) -> Option<u32> {
        server_pid(&self.folder)
    }

    /// Asks the server to shut down and returns at once.
    ///
    /// # Errors
    /// [`Error::Shared`] on a shared server.
    pub fn signal(&self, shutdown: Shutdown) -> Result<(), Error> {
        self.supervisor()?.signal(shutdown.signal())
    }

    /// Shuts the server down and returns when it has ended; at once if it does not run.
    ///
    /// # Errors
    /// [`Error::Shared`] on a shared server; [`Error::Stop`] if it takes longer than a minute, as a
    /// smart shutdown does while clients stay.
    pub fn stop(&self, shutdown: Shutdown) -> Result<(), Error> {
        launch::stop(&mut *self.supervisor()?, shutdown)
    }

    /// Starts the server again on the same port; if it still runs, after a fast shutdown.
    ///
    /// # Errors
    /// As for [`Cluster::stop`]; [`Error::Start`] if it does not come up again, for example because
    /// somebody has taken its port.
    pub fn restart(&self) -> Result<(), Error> {
        let mut supervisor = self.supervisor()?;
        launch::stop(&mut supervisor, Shutdown::Fast)?;
        launch::start(&mut supervisor, self.port)
    }

    fn supervisor(&self) -> Result<MutexGuard<'_, Supervisor>, Error> {
        match &self.kept_by {
            KeptBy::Owner(supervisor) => {
                Ok(supervisor.lock().unwrap_or_else(PoisonError::into_inner))
            }
            KeptBy::Holders { .. } => Err(Error::Shared),
        }
    }

    /// Hands the server over to all who hold it. `hold_it` makes this process the first of them,
    /// before the supervisor loses its owner.
    pub(crate) fn share(
        mut self,
        hold_it: impl FnOnce() -> Result<fs::File, Error>,
    ) -> Result<Cluster, Error> {
        self.supervisor()?.share()?;
        let pipe = hold_it()?;
        if let KeptBy::Owner(supervisor) =
            std::mem::replace(&mut self.kept_by, KeptBy::Holders { _pipe: pipe })
        {
            supervisor.into_inner().unwrap_or_else(PoisonError::into_inner).release();
        }
        Ok(self)
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }
}

/// The log in a cluster's folder.
fn log_in(folder: &Path) -> String {
    let bytes = fs::read(folder.join("log")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Everything but letters, digits and `-._~` as `%XX`, byte for byte.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_parts_may_hold_any_text() {
        assert_eq!(percent_encoded("p@ss:wörd/%"), "p%40ss%3Aw%C3%B6rd%2F%25");
    }
}
