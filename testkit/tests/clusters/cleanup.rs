//! Nothing stays behind, however a test ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};

use testkit::{Cluster, Shutdown};

use crate::child::{Player, again, exists, kill, role, say, stay, wait_until};

/// What a cluster has on the machine while it runs.
struct Traces {
    folder: PathBuf,
    postmaster: u32,
}

impl Traces {
    fn of(cluster: &Cluster) -> Traces {
        let folder = cluster.socket_dir().to_path_buf();
        Traces { folder, postmaster: cluster.pid().unwrap() }
    }

    fn said_by(child: &mut Player) -> Traces {
        let folder = PathBuf::from(child.hear());
        let traces = Traces { folder, postmaster: child.hear().parse().unwrap() };
        assert!(exists(traces.postmaster) && traces.folder.join("data").is_dir());
        traces
    }

    fn say(&self) {
        say(self.folder.display());
        say(self.postmaster);
    }

    fn wait_until_gone(&self) {
        wait_until("the postmaster has gone", || !exists(self.postmaster));
        wait_until("the folder has gone", || !self.folder.exists());
        wait_until("the supervisor has gone", || processes_with(&self.folder).is_empty());
    }
}

/// Names of the processes that have this folder in their command line: postmaster and supervisor.
fn processes_with(folder: &Path) -> String {
    let listing = std::process::Command::new("ps").args(["-e", "-o", "args="]).output().unwrap();
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let folder = folder.to_str().unwrap();
    listing.lines().filter(|line| line.contains(folder)).collect::<Vec<_>>().join("\n")
}

/// The body of a child: a cluster with a busy session, until the end comes.
fn run_a_cluster_until_the_end() {
    let cluster = Cluster::builder().start().unwrap();
    let _client = cluster.client("postgres").unwrap();
    Traces::of(&cluster).say();
    stay();
}

fn dies_of(signal: &str, number: i32, test: &str) {
    if role().is_some() {
        return run_a_cluster_until_the_end();
    }
    let mut command = again(test, "victim");
    command.process_group(0);
    let mut child = Player::start(command);
    let traces = Traces::said_by(&mut child);
    // The whole group, as a terminal does it for Ctrl-C and runners do it after a time limit.
    assert!(kill(signal, format!("-{}", child.id())));
    assert_eq!(child.ended().signal(), Some(number));
    traces.wait_until_gone();
}

#[test]
fn a_test_killed_with_sigkill_leaves_nothing_behind() {
    dies_of("KILL", 9, "cleanup::a_test_killed_with_sigkill_leaves_nothing_behind");
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    dies_of("INT", 2, "cleanup::ctrl_c_leaves_nothing_behind");
}

#[test]
fn a_closed_terminal_leaves_nothing_behind() {
    dies_of("HUP", 1, "cleanup::a_closed_terminal_leaves_nothing_behind");
}

#[test]
fn a_test_killed_while_its_cluster_is_being_made_leaves_nothing_behind() {
    const NAME: &str =
        "cleanup::a_test_killed_while_its_cluster_is_being_made_leaves_nothing_behind";
    if role().is_some() {
        return run_a_cluster_until_the_end();
    }
    // The clusters in this temporary folder are this child's.
    let home = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let clusters = || -> Vec<PathBuf> {
        let content = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap());
        let clusters = content.filter(|e| e.file_name().to_string_lossy().starts_with("cpg-"));
        clusters.map(|entry| entry.path()).collect()
    };
    // Prepares what clusters are copied from, so that the child begins to copy at once.
    drop(Cluster::builder().start().unwrap());
    let mut command = again(NAME, "victim");
    command.env("TMPDIR", home.path());
    let child = Player::start(command);
    wait_until("the data folder appears", || {
        clusters().iter().any(|folder| folder.join("data").exists())
    });
    assert!(kill("KILL", child.id()));
    child.ended();
    wait_until("the folder has gone", || clusters().is_empty());
    wait_until("the supervisor has gone", || processes_with(home.path()).is_empty());
}

#[test]
fn a_process_that_never_drops_its_cluster_leaves_nothing_behind() {
    const NAME: &str = "cleanup::a_process_that_never_drops_its_cluster_leaves_nothing_behind";
    if role().is_some() {
        let cluster = Cluster::builder().start().unwrap();
        Traces::of(&cluster).say();
        stay();
        std::mem::forget(cluster);
        return;
    }
    let mut child = Player::start(again(NAME, "forgetful"));
    let traces = Traces::said_by(&mut child);
    assert!(child.end().success());
    traces.wait_until_gone();
}

#[test]
fn a_panic_leaves_nothing_behind() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let cluster = Cluster::builder().start().unwrap();
        sender.send(Traces::of(&cluster)).unwrap();
        panic!("on purpose");
    });
    let traces = receiver.recv().unwrap();
    thread.join().unwrap_err();
    assert!(!exists(traces.postmaster) && !traces.folder.exists(), "drop waits for the end");
}

#[test]
fn a_dropped_cluster_is_gone_at_once_whatever_its_state() {
    let running = Cluster::builder().start().unwrap();
    let _client = running.client("postgres").unwrap();
    let stopped = Cluster::builder().start().unwrap();
    let frozen = Cluster::builder().start().unwrap();
    let traces = [&running, &stopped, &frozen].map(Traces::of);
    stopped.stop(Shutdown::Fast).unwrap();
    assert!(kill("STOP", frozen.pid().unwrap()));
    drop((running, stopped, frozen));
    for traces in traces {
        assert!(!exists(traces.postmaster) && !traces.folder.exists());
        assert_eq!(processes_with(&traces.folder), "");
    }
}

#[test]
fn a_crashed_server_is_noticed_and_leaves_nothing_behind() {
    let cluster = Cluster::builder().start().unwrap();
    let traces = Traces::of(&cluster);
    assert!(kill("KILL", traces.postmaster));
    wait_until("the crash is noticed", || cluster.pid().is_none());
    drop(cluster);
    assert!(!traces.folder.exists());
}
