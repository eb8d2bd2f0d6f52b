//! Which server is taken, and under which conditions a cluster still comes up.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use testkit::{Cluster, Error, Need, Server};

use crate::child::{Elsewhere, Player, again, role, say};

/// Runs a test again in a role and returns the one line that it says.
fn heard_from(command: Command) -> String {
    let mut child = Player::start(command);
    let said = child.hear();
    assert!(child.end().success());
    said
}

/// The body of most children here: whether a cluster comes up, and where.
fn try_a_cluster(need: Need) {
    match Cluster::builder().need(need).start() {
        Ok(cluster) => {
            let encoding = cluster.client("postgres").unwrap().value("SHOW server_encoding");
            say(format!("{} {}", cluster.socket_dir().display(), encoding.unwrap().unwrap()));
        }
        Err(error) => say(error.to_string().replace('\n', " ")),
    }
}

/// A folder for PATH with nothing but links to these programs, as they are found now.
fn make_path(folder: &Path, programs: &[&str]) {
    fs::create_dir(folder).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    for program in programs {
        let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|p| p.exists());
        symlink(found.unwrap(), folder.join(program)).unwrap();
    }
}

#[test]
fn the_named_folder_comes_first() {
    const NAME: &str = "finding::the_named_folder_comes_first";
    if role().is_some() {
        let found = Server::find(&Need::default());
        return say(match &found {
            Ok(server) => server.bin_dir().display().to_string(),
            Err(error) => error.to_string(),
        });
    }
    let named = Server::find(&Need::major(18)).unwrap();
    let mut command = again(NAME, "child");
    command.env("CHOPIN_PG_BIN", named.bin_dir());
    assert_eq!(heard_from(command), named.bin_dir().to_str().unwrap());

    // A wrong name is not passed over in silence.
    let mut command = again(NAME, "child");
    command.env("CHOPIN_PG_BIN", "/nonexistent/bin");
    let error = heard_from(command);
    assert!(error.contains("CHOPIN_PG_BIN=/nonexistent/bin: "), "{error}");
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn a_server_that_nobody_has_is_an_error_with_three_ways_to_help() {
    const NAME: &str = "finding::a_server_that_nobody_has_is_an_error_with_three_ways_to_help";
    if role().is_some() {
        let error = Server::find(&Need::major(11)).unwrap_err();
        assert!(matches!(error, Error::NoServer { .. }), "{error:?}");
        return say(error.to_string().replace('\n', " "));
    }
    let place = Elsewhere::new();
    make_path(&place.path("bin"), &["id", "sh"]);
    let mut command = place.again(NAME, "child");
    command.env("PATH", place.path("bin"));
    let error = heard_from(command);
    for part in [
        "no PostgreSQL 11 was found",
        "CHOPIN_PG_BIN",
        "(1)",
        "npm",
        "pip",
        "apt-get install",
        "(3)",
    ] {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
}

#[test]
fn a_user_id_without_an_account_is_explained() {
    const NAME: &str = "finding::a_user_id_without_an_account_is_explained";
    if role().is_some() {
        return try_a_cluster(Need::default());
    }
    let place = Elsewhere::new();
    make_path(&place.path("bin"), &["sh"]);
    let id = place.path("bin/id");
    fs::write(&id, "#!/bin/sh\ncase $1 in -u) echo 54321 ;; *) echo 54321; exit 1 ;; esac\n")
        .unwrap();
    fs::set_permissions(&id, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = place.again(NAME, "child");
    command.env("PATH", place.path("bin"));
    let error = heard_from(command);
    assert!(error.contains("the user id 54321 of this process has no account"), "{error}");
}

#[test]
fn temporary_files_go_where_the_servers_user_can_follow() {
    const NAME: &str = "finding::temporary_files_go_where_the_servers_user_can_follow";
    if role().is_some() {
        return try_a_cluster(Need::default());
    }
    let place = Elsewhere::new();
    let closed = place.path("closed");
    fs::create_dir(&closed).unwrap();
    // For root: only root may enter. For everybody else: not even we may write.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let deep = place.path("deep/").join("d".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    for folder in [&closed, &deep] {
        let mut command = again(NAME, "child");
        command.env("TMPDIR", folder);
        let said = heard_from(command);
        assert!(said.starts_with("/tmp/") && said.ends_with(" UTF8"), "{said}");
    }
}

#[test]
fn a_fetched_server_under_a_folder_only_root_may_enter_is_copied_out() {
    const NAME: &str = "finding::a_fetched_server_under_a_folder_only_root_may_enter_is_copied_out";
    let need = Need::major(99);
    if role().is_some() {
        return match Server::find(&need) {
            Ok(server) => say(server.bin_dir().display()),
            Err(error) => say(error.to_string().replace('\n', " ")),
        };
    }
    // What an earlier run has fetched. It can do nothing but state its version.
    let place = Elsewhere::new();
    let package = "testkit/servers/fetched-npm-99.1/native/bin";
    let bin = place.path("target").join(package);
    fs::create_dir_all(&bin).unwrap();
    for program in ["postgres", "initdb"] {
        fs::write(bin.join(program), "#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n").unwrap();
        fs::set_permissions(bin.join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(place.path("target"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(place.path("temporary")).unwrap();
    let mut command = place.again(NAME, "child");
    command.env("TMPDIR", place.path("temporary"));
    let found = heard_from(command);
    let own_uid = fs::metadata(place.path("target")).unwrap().uid();
    let reachable = if own_uid == 0 { place.path("temporary") } else { bin };
    assert!(Path::new(&found).starts_with(&reachable), "{found}");
}

#[test]
fn locale_settings_do_not_change_what_a_cluster_is() {
    const NAME: &str = "finding::locale_settings_do_not_change_what_a_cluster_is";
    if role().is_some() {
        return try_a_cluster(Need::default());
    }
    // With a cache of its own, so that initdb runs; two at a time, so that it runs once.
    let place = Elsewhere::new();
    let [one, two] = ["one", "two"].map(|role| {
        let mut command = place.again(NAME, role);
        command.env("LANG", "C").env("LC_ALL", "xx_XX.nonsense").env("PGDATA", "/nonexistent");
        std::thread::spawn(move || heard_from(command))
    });
    for child in [one, two] {
        let said = child.join().unwrap();
        assert!(said.ends_with(" UTF8"), "{said}");
    }
    let prepared = fs::read_dir(place.path("target/testkit/templates")).unwrap();
    let names: Vec<_> = prepared.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "one prepared folder and the lock: {names:?}");
}
