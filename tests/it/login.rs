//! Authentication: every method against a real server, every lie against a scripted one.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::LazyLock;

use chopin_pg::{PgConfig, PgConnection, PgError, SqlState};
use testkit::Cluster;
use testkit::fake::FakeServer;
use testkit::fake::scram::{Flaw, ScramServer, Verdict};
use testkit::frames;

use crate::support::*;

const PASSWORD: &str = "prélude ♪ op.28";

/// A server with one role per authentication method.
static SERVER: LazyLock<Cluster> = LazyLock::new(|| {
    let server = Cluster::builder()
        .hba("host all by_scram 127.0.0.1/32 scram-sha-256")
        .hba("host all by_md5 127.0.0.1/32 md5")
        .hba("host all by_password 127.0.0.1/32 password")
        .hba("host all by_trust 127.0.0.1/32 trust")
        .hba("host all nobody 127.0.0.1/32 reject")
        .start()
        .expect("a server");
    let mut client = server.client("postgres").expect("a client");
    for (role, encryption) in [
        ("by_scram", "scram-sha-256"),
        ("by_md5", "md5"),
        ("by_password", "scram-sha-256"),
        ("by_trust", "md5"),
    ] {
        let sql = format!(
            "set password_encryption = '{encryption}'; create role {role} login password '{PASSWORD}'"
        );
        client.simple(&sql).expect("a role");
    }
    server
});

fn login_as(role: &str, password: &str) -> PgConfig {
    PgConfig::new(SERVER.host(), SERVER.port(), role, password, "postgres")
}

#[test]
fn s9_4_s9_5_s9_14_every_password_method_logs_in() {
    for role in ["by_scram", "by_md5", "by_password", "by_trust"] {
        let mut db = PgConnection::connect(&login_as(role, PASSWORD)).unwrap();
        let row = db.query_one("select current_user::text", &[]).unwrap();
        assert_eq!(row.get::<&str>(0).unwrap(), role);
    }
}

#[test]
fn a_wrong_or_missing_password_is_a_clear_error() {
    for role in ["by_scram", "by_md5", "by_password"] {
        let error = PgConnection::connect(&login_as(role, "wrong")).unwrap_err();
        assert_eq!(error.sql_state(), Some(SqlState::INVALID_PASSWORD), "{role}: {error}");
        assert!(!error.is_safe_to_retry());
        let without = format!("postgres://{role}@127.0.0.1:{}/postgres", SERVER.port());
        let error = PgConnection::connect(&PgConfig::from_url(&without).unwrap()).unwrap_err();
        let PgError::Auth(why) = &error else { panic!("{role}: {error}") };
        assert!(why.contains("asks for a password") && why.contains(role), "{why}");
    }
    let error = PgConnection::connect(&login_as("nobody", "")).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION), "{error}");
    let mut config = login_as("by_trust", "");
    config.database = "no such database".to_owned();
    let error = PgConnection::connect(&config).unwrap_err();
    assert_eq!(error.sql_state(), Some(SqlState::INVALID_CATALOG_NAME), "{error}");
}

#[test]
fn h37_secrets_are_shown_nowhere() {
    let config = login_as("by_scram", PASSWORD);
    assert!(!format!("{config:?}").contains(PASSWORD));
    let db = PgConnection::connect(&config).unwrap();
    assert!(!format!("{db:?}").contains(PASSWORD));
    for role in ["by_scram", "by_md5", "by_password"] {
        let error = PgConnection::connect(&login_as(role, "hunter2 is wrong")).unwrap_err();
        for shown in [format!("{error}"), format!("{error:#}"), format!("{error:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    let url = format!("postgres://by_scram:hunter2@127.0.0.1:{}/x?nonsense=1", SERVER.port());
    let error = PgConfig::from_url(&url).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

/// Logs in at a server that plays SCRAM with a flaw.
fn scram_with(flaw: Flaw) -> PgError {
    let server = FakeServer::start(move |conn| {
        conn.startup()?;
        match ScramServer::new("secret").flaw(flaw.clone()).authenticate(conn)? {
            Verdict::Flawed => {}
            other => return Err(format!("the exchange ended with {other:?}").into()),
        }
        // Whoever falls for it would see a session that works.
        let _ = conn.welcome();
        conn.drain()
    });
    let result = PgConnection::connect(&fake_config(&server));
    let error = result.expect_err("a server that does not prove itself");
    server.join();
    error
}

#[test]
fn h31_success_is_refused_before_the_server_has_proved_itself() {
    for flaw in [
        Flaw::WrongSignature,
        Flaw::ShortSignature(31),
        Flaw::ShortSignature(0),
        Flaw::GarbageSignature,
        Flaw::Missing('v'),
        Flaw::NoServerFinal,
        Flaw::OkTooEarly,
        Flaw::ErrorAttribute("other-error"),
    ] {
        let error = scram_with(flaw.clone());
        assert!(matches!(error, PgError::Auth(_)), "{flaw:?}: {error}");
    }
    let text = scram_with(Flaw::OkTooEarly).to_string();
    assert!(text.contains("before it has proved"), "{text}");
}

#[test]
fn h32_a_server_s_scram_parameters_are_checked() {
    for flaw in [
        Flaw::NonceReplaced,
        Flaw::NonceNotExtended,
        Flaw::IterationCount("0"),
        Flaw::IterationCount("-1"),
        Flaw::IterationCount("4294967296"),
        Flaw::IterationCount("many"),
        Flaw::IterationCount("100001"),
        Flaw::EmptySalt,
        Flaw::GarbageSalt,
        Flaw::MandatoryExtension,
        Flaw::Missing('r'),
        Flaw::Missing('s'),
        Flaw::Missing('i'),
    ] {
        let error = scram_with(flaw.clone());
        assert!(matches!(error, PgError::Auth(_)), "{flaw:?}: {error}");
    }
    // The cap on iterations is a setting.
    let server = FakeServer::start(|conn| {
        conn.startup()?;
        match ScramServer::new("secret").iterations(100_001).authenticate(conn)? {
            Verdict::Accepted => conn.welcome()?,
            other => return Err(format!("the exchange ended with {other:?}").into()),
        }
        conn.drain()
    });
    PgConnection::connect(&fake_config(&server).max_scram_iterations(100_001)).unwrap();
    server.join();
}

#[test]
fn methods_that_the_driver_does_not_have_are_named() {
    for (request, name) in [
        (frames::authentication_kerberos_v5(), "Kerberos V5"),
        (frames::authentication_gss(), "GSSAPI"),
        (frames::authentication_sspi(), "SSPI"),
        (frames::authentication(99, b""), "code 99"),
        (frames::authentication_sasl(&["OAUTHBEARER"]), "OAUTHBEARER"),
    ] {
        let server = FakeServer::start(move |conn| {
            conn.startup()?;
            conn.send(&request)?;
            conn.drain()
        });
        let error = PgConnection::connect(&fake_config(&server)).unwrap_err();
        assert!(matches!(&error, PgError::Auth(why) if why.contains(name)), "{error}");
        server.join();
    }
}

#[test]
fn exchanges_out_of_order_are_refused() {
    for frames in [
        vec![frames::authentication_sasl_continue(b"r=x,s=eA==,i=1")],
        vec![frames::authentication_sasl_final(b"v=eA==")],
        vec![frames::authentication_ok(), frames::authentication_cleartext_password()],
        vec![frames::authentication_ok(), frames::authentication_ok()],
        vec![frames::ready_for_query(b'I')],
        vec![frames::backend_key_data(1, &[0; 4])],
        vec![frames::authentication_ok(), frames::data_row(&[])],
    ] {
        let server = FakeServer::start(move |conn| {
            conn.startup()?;
            conn.send_frames(&frames)?;
            conn.drain()
        });
        let error = PgConnection::connect(&fake_config(&server)).unwrap_err();
        assert!(matches!(&error, PgError::Protocol(_)), "{error}");
        server.join();
    }
}

/// A name that nobody may ever register (RFC 6761).
const UNKNOWN_HOST: &str = "no.such.host.invalid";

#[test]
fn s9_13_hostaddr_is_connected_to_and_the_host_is_never_looked_up() {
    let by_name = config().host(UNKNOWN_HOST);
    let error = PgConnection::connect(&by_name).unwrap_err();
    assert!(matches!(&error, PgError::Io(_)), "{error}");
    assert!(error.to_string().contains(UNKNOWN_HOST), "{error}");

    assert_usable(&mut PgConnection::connect(&by_name.hostaddr("127.0.0.1")).unwrap());
    let url = format!(
        "postgres://{}@{UNKNOWN_HOST}:{}/postgres?hostaddr=127.0.0.1",
        config().user,
        config().port
    );
    assert_usable(&mut PgConnection::connect(&PgConfig::from_url(&url).unwrap()).unwrap());
}

#[test]
fn s9_13_an_error_at_a_hostaddr_names_the_host_and_the_address() {
    // Nobody listens on a port that is only bound.
    let bound = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&bound, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let bound = TcpListener::from(bound);
    let port = bound.local_addr().unwrap().port();

    let config = config().host(UNKNOWN_HOST).port(port).hostaddr("127.0.0.1");
    let error = PgConnection::connect(&config).unwrap_err();
    let where_to = format!("{UNKNOWN_HOST}:{port} (127.0.0.1)");
    assert!(error.to_string().contains(&where_to), "{error}");
    assert!(matches!(&error, PgError::Io(error) if error.kind() == ErrorKind::ConnectionRefused));
}

#[test]
fn s9_13_a_host_is_resolved_before_it_is_connected_to() {
    let mut config = config().host("localhost");
    for _ in 0..2 {
        config.resolve().unwrap();
        assert_usable(&mut PgConnection::connect(&config).unwrap());
    }
    assert_usable(&mut PgConnection::connect(&config.clone()).unwrap());

    // A host that is set afterwards is another one.
    let error = PgConnection::connect(&config.clone().host(UNKNOWN_HOST)).unwrap_err();
    assert!(error.to_string().contains(UNKNOWN_HOST), "{error}");
    assert_usable(&mut PgConnection::connect(&config).unwrap());
}

#[test]
fn s9_13_a_host_that_cannot_be_resolved_is_named() {
    let error = config().host(UNKNOWN_HOST).resolve().unwrap_err();
    assert!(matches!(&error, PgError::Io(_)), "{error}");
    let what = format!("cannot look up the host \"{UNKNOWN_HOST}\": ");
    assert!(error.to_string().contains(&what), "{error}");

    let error = config().host("").resolve().unwrap_err();
    assert!(matches!(&error, PgError::Config(_)), "{error}");
}
