//! Recording the driver's sessions: only with `CHOPIN_RECORD` set.

use std::sync::LazyLock;
use std::thread;

use chopin_pg::engine::Statement;
use chopin_pg::{Delivery, Event, PgConfig, PgConnection, Request, Submit, Ticket};
use testkit::Cluster;
use testkit::proxy::Recorder;
use testkit::transcript::Secrets;

use super::client::Client;
use super::player::{PASSWORD, folder};
use super::scripts::{SESSIONS, Session};

/// A server with a role for each way to log in.
fn server() -> Cluster {
    let server = Cluster::builder()
        .guc("timezone", "UTC")
        .hba("host all by_scram 127.0.0.1/32 scram-sha-256")
        .hba("host all by_md5 127.0.0.1/32 md5")
        .hba("host all by_password 127.0.0.1/32 password")
        .start()
        .expect("a server");
    let mut client = server.client("postgres").expect("a client");
    for (role, encryption) in [
        ("by_trust", "scram-sha-256"),
        ("by_password", "scram-sha-256"),
        ("by_md5", "md5"),
        ("by_scram", "scram-sha-256"),
    ] {
        let sql = format!(
            "set password_encryption = '{encryption}'; create role {role} login password '{PASSWORD}'"
        );
        client.simple(&sql).expect("a role");
    }
    server
}

/// Writes the transcripts of all sessions anew, once: whoever needs one waits for it.
pub(super) fn record() {
    static RECORDED: LazyLock<()> = LazyLock::new(|| {
        let server = server();
        SESSIONS.iter().for_each(|session| record_session(&server, session));
    });
    LazyLock::force(&RECORDED);
}

fn record_session(server: &Cluster, session: &Session) {
    let recorder = Recorder::start(server.tcp(), Secrets::Keep);
    let config = PgConfig::new("127.0.0.1", recorder.port(), session.role, PASSWORD, "postgres");
    let connection = PgConnection::connect(&config).expect("the server takes connections");
    let mut live = Live { connection, prepared: None };
    (session.script)(&mut live);
    drop(live);
    let transcript = recorder.finish().pop().expect("one connection");
    transcript.save(folder().join(session.name).with_extension("txt")).expect("the file is ours");
}

/// A connection that carries a script out.
struct Live {
    connection: PgConnection,
    /// The request that prepares a statement.
    prepared: Option<Ticket>,
}

impl Client for Live {
    /// What is sent does not depend on it.
    fn delivery(&self) -> Delivery {
        Delivery::Events
    }

    fn submit(&mut self, request: Request<'_>, submit: Submit) {
        let ticket = self.connection.submit_with(request, submit).expect("a request");
        if submit.delivery == Delivery::Collect {
            self.prepared = Some(ticket);
        }
    }

    fn end_group(&mut self) {
        self.connection.end_group();
    }

    /// The connection has nothing else to do, and a test that records is no test: it spins.
    fn settle(&mut self) {
        while self.connection.in_flight() > 0 {
            let _drive = self.connection.drive();
            while let Ok(Some(event)) = self.connection.next_event() {
                assert!(!matches!(event, Event::MessagesDropped { .. }));
            }
            thread::yield_now();
        }
    }

    fn statement(&mut self) -> Statement {
        let ticket = self.prepared.take().expect("a statement was prepared");
        let outcome = self.connection.take(ticket).expect("it could be prepared");
        outcome.and_then(|outcome| outcome.into_statement()).expect("it is prepared")
    }
}
