//! The options of a cluster, and what becomes of them: files in its folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{Certificates, Cluster, KeptBy, launch, template};
use crate::error::Error;
use crate::files::temporary_folders;
use crate::server::user::ServerUser;
use crate::server::{Need, Server};
use crate::supervisor::Supervisor;

/// Who is let in behind the rules that a test adds: everybody, from this machine.
const TRUST: &str = "\
local all         all              trust
host  all         all 127.0.0.1/32 trust
host  all         all ::1/128      trust
local replication all              trust
host  replication all 127.0.0.1/32 trust
host  replication all ::1/128      trust
";

/// What every cluster is set to before the test's own settings. Nothing has to survive a power cut;
/// what was committed does survive a crash of the server.
const SETTINGS: [(&str, &str); 3] =
    [("fsync", "off"), ("full_page_writes", "off"), ("shared_buffers", "16MB")];

/// Settings that [`Cluster`] answers questions about and therefore keeps to itself.
const OWN_SETTINGS: [&str; 5] =
    ["port", "listen_addresses", "unix_socket_directories", "data_directory", "hba_file"];

/// The longest path of a socket that both Linux (107 bytes) and macOS (103) take.
const LONGEST_SOCKET_PATH: usize = 103;

/// What a cluster's folder and socket add to the path of a temporary folder, at most.
const SOCKET_PATH_INSIDE: usize = "/cpg-0123456789012345678/.s.PGSQL.65535".len();

/// Options for a new [`Cluster`].
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    need: Need,
    settings: Vec<(String, String)>,
    rules: Vec<String>,
    only_own_rules: bool,
}

impl Builder {
    /// All that the server has to be and to have. With [`Need::tls`] TLS is also switched on.
    pub fn need(mut self, need: Need) -> Builder {
        self.need = need;
        self
    }

    /// Exactly this major version.
    pub fn major(mut self, major: u32) -> Builder {
        self.need.major = Some(major);
        self
    }

    /// A server with TLS, switched on with a certificate for `localhost`, 127.0.0.1 and ::1 that an
    /// authority of the cluster's own has signed, see [`Cluster::ca_cert_path`].
    pub fn tls(mut self) -> Builder {
        self.need.tls = true;
        self
    }

    /// A server with the contrib extensions.
    pub fn contrib(mut self) -> Builder {
        self.need.contrib = true;
        self
    }

    /// A line of postgresql.conf. The last one for a name counts.
    pub fn guc(mut self, name: impl Into<String>, value: impl Into<String>) -> Builder {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// A line of pg_hba.conf, such as `host all alice 127.0.0.1/32 scram-sha-256`. The first line
    /// that matches a connection counts; behind the lines given here stand those that let everybody
    /// in, see [`Builder::only_own_hba`].
    pub fn hba(mut self, line: impl Into<String>) -> Builder {
        self.rules.push(line.into());
        self
    }

    /// Leaves out the lines that let everybody in. [`Cluster::client`] then works only if a line
    /// given with [`Builder::hba`] lets the superuser in without a password.
    pub fn only_own_hba(mut self) -> Builder {
        self.only_own_rules = true;
        self
    }

    /// Finds a server, prepares its folder and starts it. When this returns, the server answers.
    ///
    /// # Errors
    /// [`Error::NoServer`] if none satisfies the need, [`Error::Option`] for a setting that cannot
    /// be made, [`Error::Start`] with the log if the server does not come up, and the other kinds
    /// of [`Error`] for what the machine refuses.
    pub fn start(self) -> Result<Cluster, Error> {
        self.start_on(&mut launch::free_port)
    }

    /// As [`Builder::start`], on one of `ports`.
    fn start_on(self, ports: &mut dyn FnMut() -> io::Result<u16>) -> Result<Cluster, Error> {
        self.check()?;
        let server = Server::find(&self.need)?;
        let user = ServerUser::get()?;
        let program = server.bin_dir().join("postgres");
        let mut supervisor = Supervisor::spawn(user, &folders_for_sockets(), &|folder| {
            vec![program.clone(), "-D".into(), folder.join("data")]
        })?;
        let folder = supervisor.folder().to_path_buf();
        template::copy_to(&folder.join("data"), &server, user)?;
        let certificates = match self.need.tls {
            true => Some(Certificates::make(&folder, user)?),
            false => None,
        };
        self.configure(&folder, certificates.as_ref())?;
        let port = launch::start_on_a_free_port(&mut supervisor, ports)?;
        let kept_by = KeptBy::Owner(Mutex::new(supervisor));
        Ok(Cluster { folder, port, server, certificates, kept_by })
    }

    fn check(&self) -> Result<(), Error> {
        for (name, value) in &self.settings {
            let proper = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if name.is_empty() || !name.chars().all(proper) {
                return Err(Error::Option(format!("{name:?} is not the name of a setting")));
            }
            if OWN_SETTINGS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
                return Err(Error::Option(format!("testkit itself sets {name}")));
            }
            if value.contains(['\n', '\r', '\0']) {
                return Err(Error::Option(format!("the value of {name} is more than one line")));
            }
        }
        match self.rules.iter().find(|rule| rule.contains(['\n', '\r', '\0'])) {
            Some(rule) => {
                Err(Error::Option(format!("more than one line of pg_hba.conf: {rule:?}")))
            }
            None => Ok(()),
        }
    }

    /// Writes pg_hba.conf, and behind what initdb has put into postgresql.conf our settings.
    fn configure(&self, folder: &Path, certificates: Option<&Certificates>) -> Result<(), Error> {
        let data = folder.join("data");
        let write = |name: &str, text: String| {
            let path = data.join(name);
            fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))
        };
        let mut rules: Vec<&str> = self.rules.iter().map(String::as_str).collect();
        if !self.only_own_rules {
            rules.push(TRUST);
        }
        write("pg_hba.conf", format!("{}\n", rules.join("\n")))?;

        let conf = data.join("postgresql.conf");
        let mut text =
            fs::read_to_string(&conf).map_err(Error::io(format!("reading {}", conf.display())))?;
        let mut add = |name: &str, value: &str| text.push_str(&setting_line(name, value));
        SETTINGS.iter().for_each(|(name, value)| add(name, value));
        for (name, value) in certificates.iter().flat_map(|certificates| certificates.settings()) {
            add(name, &value);
        }
        self.settings.iter().for_each(|(name, value)| add(name, value));
        add("unix_socket_directories", &folder.to_string_lossy());
        text.push_str(&format!("include '{}'\n", launch::NETWORK_CONF));
        write("postgresql.conf", text)
    }
}

/// A line of postgresql.conf: quotes are doubled and backslashes too.
pub(super) fn setting_line(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// The temporary folders in which the path of a socket does not get too long.
fn folders_for_sockets() -> Vec<PathBuf> {
    let mut folders = temporary_folders();
    let longest = LONGEST_SOCKET_PATH - SOCKET_PATH_INSIDE;
    folders.retain(|folder| folder.as_os_str().len() <= longest);
    folders
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_port_that_somebody_took_meanwhile_is_passed_over() {
        // Taken for IPv4 alone: the server would start, on the other address.
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let taken_port = taken.local_addr().unwrap().port();
        let mut offered = vec![launch::free_port().unwrap(), taken_port];
        let mut ports = || Ok(offered.pop().expect("two ports are enough"));
        let cluster = Cluster::builder().start_on(&mut ports).unwrap();
        assert_ne!(cluster.port(), taken_port);
        assert!(cluster.log().contains("Address already in use"), "{}", cluster.log());
        assert!(TcpStream::connect((cluster.host(), cluster.port())).is_ok());
    }

    #[test]
    fn setting_values_are_quoted() {
        assert_eq!(setting_line("a.b", r"it's \d"), "a.b = 'it''s \\\\d'\n");
    }

    #[test]
    fn settings_that_would_break_out_of_their_line_or_mislead_are_refused() {
        let refusal = |name: &str, value: &str| {
            Cluster::builder().guc(name, value).start().unwrap_err().to_string()
        };
        assert_eq!(refusal("Port", "1"), "testkit itself sets Port");
        assert_eq!(
            refusal("work_mem", "1\nfsync = on"),
            "the value of work_mem is more than one line"
        );
        assert_eq!(refusal("work mem", "1"), "\"work mem\" is not the name of a setting");
        let two_lines = Cluster::builder().hba("local all all md5\nlocal").start().unwrap_err();
        assert!(two_lines.to_string().starts_with("more than one line of pg_hba.conf"));
    }
}
