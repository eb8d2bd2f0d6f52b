//! Starting, settings, stopping, starting again.

use std::os::unix::fs::MetadataExt;

use testkit::raw::RawClient;
use testkit::{Cluster, Error, Need, Shutdown, Target, unique};

use crate::child::{exists, wait_until};

fn value(client: &mut RawClient, sql: &str) -> String {
    client.value(sql).unwrap().unwrap()
}

#[test]
fn a_cluster_answers_on_all_its_addresses() {
    let cluster = Cluster::builder().start().unwrap();
    let major = cluster.version();
    assert!(major >= 15, "the default is any version from 15 on, not {major}");
    let mut targets = vec![cluster.unix(), cluster.tcp()];
    if std::net::TcpListener::bind(("::1", 0)).is_ok() {
        targets.push(Target::Tcp(([0, 0, 0, 0, 0, 0, 0, 1], cluster.port()).into()));
    }
    for target in targets {
        let mut client =
            RawClient::connect(&target, cluster.superuser(), "postgres", None).unwrap();
        let version = value(&mut client, "SHOW server_version_num");
        assert_eq!(version.parse::<u32>().unwrap() / 10_000, major, "{target:?}");
        let folder = value(&mut client, "SHOW data_directory");
        assert_eq!(folder, cluster.data_dir().to_str().unwrap(), "{target:?}");
    }
    assert!(cluster.bin_dir().join("postgres").exists());
}

#[test]
fn every_cluster_speaks_utf8_without_a_locale_in_utc() {
    let cluster = Cluster::builder().start().unwrap();
    let mut client = cluster.client("postgres").unwrap();
    assert_eq!(value(&mut client, "SHOW server_encoding"), "UTF8");
    assert_eq!(value(&mut client, "SHOW lc_messages"), "C");
    let collation = "SELECT datcollate FROM pg_database WHERE datname = 'postgres'";
    assert_eq!(value(&mut client, collation), "C");
    assert_eq!(value(&mut client, "SHOW timezone"), "UTC");
    assert_eq!(value(&mut client, "SHOW fsync"), "off");
}

#[test]
fn clusters_are_copies_of_one_prepared_folder_and_apart_from_then_on() {
    let (one, two) = (Cluster::builder().start().unwrap(), Cluster::builder().start().unwrap());
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    let mut clients = [&one, &two].map(|cluster| cluster.client("postgres").unwrap());
    let identifiers = clients.each_mut().map(|client| value(client, identifier));
    assert_eq!(identifiers[0], identifiers[1], "initdb ran again");
    clients[0].simple("CREATE TABLE only_here ()").unwrap();
    let elsewhere = clients[1].simple("TABLE only_here").unwrap_err();
    assert_eq!(elsewhere.code(), Some("42P01"));
    let folder = std::fs::metadata(one.data_dir()).unwrap();
    assert_eq!(folder.mode() & 0o777, 0o700);
    assert_ne!(folder.uid(), 0, "the server does not run as root");
}

#[test]
fn settings_arrive_as_they_are_written_and_the_last_one_counts() {
    let text = r"it's a \n 'text' # with everything";
    let cluster = Cluster::builder()
        .guc("testkit.text", text)
        .guc("max_connections", "7")
        .guc("max_connections", "17")
        .guc("fsync", "on")
        .start()
        .unwrap();
    let mut client = cluster.client("postgres").unwrap();
    assert_eq!(value(&mut client, "SHOW testkit.text"), text);
    assert_eq!(value(&mut client, "SHOW max_connections"), "17");
    assert_eq!(value(&mut client, "SHOW fsync"), "on");
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let error = Cluster::builder().guc("work_mem", "plenty").start().unwrap_err();
    assert!(matches!(error, Error::Start { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("invalid value for parameter \"work_mem\": \"plenty\""), "{text}");
}

#[test]
fn a_stopped_server_starts_again_on_its_port_with_its_data() {
    let cluster = Cluster::builder().start().unwrap();
    let port = cluster.port();
    cluster.client("postgres").unwrap().simple("CREATE TABLE kept AS SELECT 1 AS one").unwrap();
    let first = cluster.pid().unwrap();
    cluster.stop(Shutdown::Fast).unwrap();
    assert_eq!(cluster.pid(), None);
    assert!(!exists(first));
    assert!(matches!(cluster.client("postgres"), Err(Error::Client(_))));
    cluster.stop(Shutdown::Fast).unwrap();

    cluster.restart().unwrap();
    assert_ne!(cluster.pid().unwrap(), first);
    assert_eq!(cluster.port(), port);
    let mut client = cluster.client("postgres").unwrap();
    assert_eq!(value(&mut client, "SELECT one FROM kept"), "1");

    // And while it runs.
    cluster.restart().unwrap();
    let ended = client.simple("SELECT 1").unwrap_err();
    assert_eq!(ended.code(), Some("57P01"), "{ended}");
    assert_eq!(value(&mut cluster.client("postgres").unwrap(), "SELECT one FROM kept"), "1");
}

#[test]
fn a_smart_shutdown_waits_for_its_clients_and_lets_no_new_ones_in() {
    let cluster = Cluster::builder().start().unwrap();
    let mut client = cluster.client("postgres").unwrap();
    cluster.signal(Shutdown::Smart).unwrap();
    wait_until("new clients are refused", || match cluster.client("postgres") {
        Err(Error::Client(error)) => {
            assert_eq!(error.code(), Some("57P03"), "{error}");
            true
        }
        _ => false,
    });
    assert_eq!(value(&mut client, "SELECT 'still here'"), "still here");
    drop(client);
    cluster.stop(Shutdown::Smart).unwrap();
    assert!(cluster.log().contains("database system is shut down"), "{}", cluster.log());
}

#[test]
fn after_an_immediate_shutdown_the_server_recovers() {
    let cluster = Cluster::builder().start().unwrap();
    cluster.client("postgres").unwrap().simple("CREATE TABLE kept ()").unwrap();
    cluster.stop(Shutdown::Immediate).unwrap();
    cluster.restart().unwrap();
    cluster.client("postgres").unwrap().simple("TABLE kept").unwrap();
    assert!(cluster.log().contains("automatic recovery in progress"), "{}", cluster.log());
}

#[test]
fn a_taken_port_is_an_error_at_restart() {
    let cluster = Cluster::builder().start().unwrap();
    cluster.stop(Shutdown::Fast).unwrap();
    let taken = std::net::TcpListener::bind((cluster.host(), cluster.port())).unwrap();
    let error = cluster.restart().unwrap_err().to_string();
    assert!(error.contains("Address already in use"), "{error}");
    drop(taken);
    cluster.restart().unwrap();
}

#[test]
fn databases_of_any_name_are_made() {
    let cluster = testkit::shared();
    let name = unique("Wörd \"quoted\"");
    cluster.create_database(&name).unwrap();
    let mut client = cluster.client(&name).unwrap();
    assert_eq!(value(&mut client, "SELECT current_database()"), name);
    let again = cluster.create_database(&name).unwrap_err().to_string();
    assert!(again.contains("42P04"), "{again}");
}

#[test]
fn the_url_has_everything_a_client_needs() {
    let cluster = testkit::shared();
    let port = cluster.port();
    assert_eq!(
        cluster.url("bob", Some("s3cret/"), "data"),
        format!("postgresql://bob:s3cret%2F@127.0.0.1:{port}/data")
    );
    assert_eq!(cluster.url("bob", None, "b"), format!("postgresql://bob@127.0.0.1:{port}/b"));
}

#[test]
fn several_capabilities_are_had_at_once() {
    let need = Need { tls: true, contrib: true, ..Need::major(18) };
    let cluster = Cluster::builder().need(need).start().unwrap();
    assert_eq!(cluster.version(), 18);
    let mut client = cluster.client("postgres").unwrap();
    assert_eq!(value(&mut client, "SHOW ssl"), "on");
    client.simple("CREATE EXTENSION hstore").unwrap();
    assert_eq!(value(&mut client, "SELECT 'a=>1'::hstore -> 'a'"), "1");
}
