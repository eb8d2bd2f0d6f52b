//! One server for all tests of a run.

use testkit::{Cluster, Error, Need, Shutdown, shared, shared_with};

use crate::child::{Elsewhere, Player, exists, kill, role, say, stay, wait_until};

fn say_where(cluster: &Cluster) {
    say(format!("{} {}", cluster.port(), cluster.socket_dir().display()));
}

#[test]
fn all_threads_get_the_same_server_with_room_for_many_sessions() {
    let threads = [(); 8].map(|()| std::thread::spawn(|| std::ptr::from_ref(shared()).addr()));
    let mine = std::ptr::from_ref(shared()).addr();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), mine);
    }
    let mut client = shared().client("postgres").unwrap();
    let room = client.value("SHOW max_connections").unwrap().unwrap();
    assert!(room.parse::<u32>().unwrap() >= 500, "{room}");
    let sessions = [(); 150].map(|()| shared().client("postgres").unwrap());
    let count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
    let count = client.value(count).unwrap().unwrap();
    assert!(count.parse::<usize>().unwrap() > sessions.len(), "{count}");
}

#[test]
fn nobody_stops_the_shared_server() {
    for refused in
        [shared().stop(Shutdown::Fast), shared().restart(), shared().signal(Shutdown::Immediate)]
    {
        assert!(matches!(refused, Err(Error::Shared)), "{refused:?}");
    }
    assert!(exists(shared().pid().unwrap()));
}

#[test]
fn processes_of_a_run_share_one_server_until_the_last_has_gone() {
    const NAME: &str = "sharing::processes_of_a_run_share_one_server_until_the_last_has_gone";
    if role().is_some() {
        let cluster = shared_with(Need { tls: true, ..Need::default() });
        assert!(cluster.ca_cert_path().unwrap().exists());
        cluster.client("postgres").unwrap();
        say_where(cluster);
        return stay();
    }
    // Both at the same time, and the first of them in a cache folder.
    let run = Elsewhere::new();
    let mut one = Player::start(run.again(NAME, "one"));
    let mut two = Player::start(run.again(NAME, "two"));
    let place = one.hear();
    assert_eq!(two.hear(), place);
    // One after another, without a moment in which two of them run: as a test runner does it.
    assert!(one.end().success());
    assert!(two.end().success());
    let mut three = Player::start(run.again(NAME, "three"));
    assert_eq!(three.hear(), place);
    // The last one ends without a last word.
    let (_, folder) = place.split_once(' ').unwrap();
    let pid = std::fs::read_to_string(format!("{folder}/pid")).unwrap().trim().parse().unwrap();
    assert!(exists(pid));
    assert!(kill("KILL", three.id()));
    three.ended();
    wait_until("the shared server has gone", || !exists(pid));
    wait_until("its folder has gone", || !std::path::Path::new(folder).exists());
    // And the next run gets another one.
    let mut next = Player::start(run.again(NAME, "next"));
    assert_ne!(next.hear(), place);
    next.end();
}

#[test]
fn what_a_killed_supervisor_left_is_replaced_and_taken_away() {
    const NAME: &str = "sharing::what_a_killed_supervisor_left_is_replaced_and_taken_away";
    if role().is_some() {
        let cluster = shared();
        cluster.client("postgres").unwrap();
        say_where(cluster);
        return stay();
    }
    let run = Elsewhere::new();
    let mut one = Player::start(run.again(NAME, "one"));
    let place = one.hear();
    let (_, folder) = place.split_once(' ').unwrap();
    let process = |file: &str| -> u32 {
        let path = format!("{folder}/{file}");
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    };
    let (supervisor, postmaster) = (process("supervisor"), process("pid"));
    assert!(kill("KILL", supervisor));
    one.end();
    wait_until("the supervisor has gone", || !exists(supervisor));
    assert!(exists(postmaster), "nobody was left to stop it");

    let mut two = Player::start(run.again(NAME, "two"));
    assert_ne!(two.hear(), place);
    wait_until("the old postmaster has gone", || !exists(postmaster));
    assert!(!std::path::Path::new(folder).exists());
    assert!(two.end().success());
}
