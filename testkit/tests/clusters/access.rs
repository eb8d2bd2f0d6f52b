//! Who is let in: login rules and TLS.

use std::io::{Read, Write};
use std::net::TcpStream;

use testkit::raw::{RawClient, RawError};
use testkit::{Cluster, Error};

/// Codes of Authentication messages: the protocol documentation's "Message Formats".
const AUTHENTICATION_MD5: u32 = 5;
const AUTHENTICATION_SASL: u32 = 10;

#[test]
fn each_login_rule_makes_the_server_ask_for_its_method() {
    let cluster = Cluster::builder()
        .hba("host all clear 127.0.0.1/32 password")
        .hba("host all digest 127.0.0.1/32 md5")
        .hba("host all scram 127.0.0.1/32 scram-sha-256")
        .hba("host all nobody_at_all 127.0.0.1/32 reject")
        .start()
        .unwrap();
    let mut admin = cluster.client("postgres").unwrap();
    for (role, encryption) in
        [("clear", "scram-sha-256"), ("digest", "md5"), ("scram", "scram-sha-256")]
    {
        admin.simple(&format!("SET password_encryption = '{encryption}'")).unwrap();
        admin.simple(&format!("CREATE ROLE {role} LOGIN PASSWORD 'sesame'")).unwrap();
    }
    let log_in = |role: &str, password: Option<&str>| {
        RawClient::connect(&cluster.tcp(), role, "postgres", password)
    };

    let mut client = log_in("clear", Some("sesame")).unwrap();
    assert_eq!(client.value("SELECT current_user").unwrap().as_deref(), Some("clear"));
    assert_eq!(log_in("clear", Some("wrong")).unwrap_err().code(), Some("28P01"));
    assert!(matches!(log_in("clear", None), Err(RawError::Authentication(3))));
    for (role, code) in [("digest", AUTHENTICATION_MD5), ("scram", AUTHENTICATION_SASL)] {
        match log_in(role, Some("sesame")) {
            Err(RawError::Authentication(asked)) => assert_eq!(asked, code, "{role}"),
            other => panic!("{role}: {other:?}"),
        }
    }
    assert_eq!(log_in("nobody_at_all", None).unwrap_err().code(), Some("28000"));
    assert!(log_in("postgres", None).is_ok(), "behind the test's rules everybody is let in");
}

#[test]
fn without_the_default_rules_only_the_tests_own_count() {
    let cluster = Cluster::builder()
        .only_own_hba()
        .hba("host postgres postgres 127.0.0.1/32 trust")
        .start()
        .unwrap();
    match cluster.client("postgres") {
        Err(Error::Client(error)) => assert_eq!(error.code(), Some("28000"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(RawClient::connect(&cluster.tcp(), "postgres", "postgres", None).is_ok());
}

#[test]
fn a_server_that_lets_nobody_of_us_in_is_up_all_the_same() {
    let cluster =
        Cluster::builder().only_own_hba().hba("local all stranger trust").start().unwrap();
    let refusal = RawClient::connect(&cluster.tcp(), "postgres", "postgres", None).unwrap_err();
    assert_eq!(refusal.code(), Some("28000"), "{refusal}");
}

/// What the server answers to an SSLRequest.
fn answer_to_ssl_request(cluster: &Cluster) -> u8 {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let mut stream = TcpStream::connect((cluster.host(), cluster.port())).unwrap();
    stream.write_all(&SSL_REQUEST).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    answer[0]
}

#[test]
fn tls_is_offered_where_it_was_asked_for_and_only_there() {
    let with = Cluster::builder().tls().start().unwrap();
    assert_eq!(answer_to_ssl_request(&with), b'S');
    let authority = std::fs::read_to_string(with.ca_cert_path().unwrap()).unwrap();
    assert!(authority.starts_with("-----BEGIN CERTIFICATE-----"), "{authority}");
    let mut client = with.client("postgres").unwrap();
    let certificate = client.value("SHOW ssl_cert_file").unwrap().unwrap();
    assert_eq!(certificate, with.server_cert_path().unwrap().to_str().unwrap());

    let without = Cluster::builder().start().unwrap();
    assert_eq!(answer_to_ssl_request(&without), b'N');
    assert_eq!(without.ca_cert_path(), None);
}

#[test]
fn a_rule_can_ask_for_tls() {
    let cluster =
        Cluster::builder().tls().hba("hostnossl all all 127.0.0.1/32 reject").start().unwrap();
    let refusal = RawClient::connect(&cluster.tcp(), "postgres", "postgres", None).unwrap_err();
    assert_eq!(refusal.code(), Some("28000"), "{refusal}");
    assert!(refusal.to_string().contains("no encryption"), "{refusal}");
}

#[test]
fn the_raw_client_keeps_results_apart_and_survives_an_error() {
    let mut client = testkit::shared().client("postgres").unwrap();
    let results = client
        .simple("SELECT 1 AS a, NULL AS b, '' AS c WHERE true; ; SELECT 2 WHERE false")
        .unwrap();
    assert_eq!(results.len(), 2, "{results:?}");
    let names: Vec<&str> = results[0].columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(results[0].columns[0].type_oid, 23);
    assert_eq!(results[0].rows, [[Some("1".to_owned()), None, Some(String::new())]]);
    assert_eq!((results[0].tag.as_str(), results[1].tag.as_str()), ("SELECT 1", "SELECT 0"));
    assert!(results[1].rows.is_empty());

    let error = client.simple("SELECT 1; SELECT 1/0; SELECT 3").unwrap_err();
    assert_eq!(error.code(), Some("22012"), "{error}");
    client.simple("CREATE TEMP TABLE t (a int)").unwrap();
    assert_eq!(client.simple("COPY t FROM STDIN").unwrap_err().code(), Some("57014"));
    assert_eq!(client.simple("").unwrap()[0].tag, "");
    assert_eq!(client.transaction_status(), b'I');
    client.simple("BEGIN").unwrap();
    assert_eq!(client.transaction_status(), b'T');
    let id = client.value("SELECT pg_backend_pid()").unwrap().unwrap();
    assert_eq!(id, client.process_id().to_string());
    assert_eq!(client.parameter("application_name"), Some("testkit"));
    client.simple("SET application_name = 'renamed'").unwrap();
    assert_eq!(client.parameter("application_name"), Some("renamed"));
}

#[test]
fn the_raw_client_speaks_message_by_message() {
    let mut client = testkit::shared().client("postgres").unwrap();
    client.send(b'Q', b"SELECT 7\0").unwrap();
    let mut tags = Vec::new();
    loop {
        let frame = client.receive().unwrap();
        tags.push(frame.tag);
        if frame.tag == b'Z' {
            break;
        }
    }
    assert_eq!(tags, b"TDCZ");
}
