//! What psql and libpq asked in a recorded session, as requests of ours.

use chopin_pg::{ExecutionMode, Request, Submit};
use testkit::frames::Frame;
use testkit::transcript::{Direction, Entry, Transcript};

use super::client::Client;

/// Carries out what stands in a transcript behind the login: each Query is a request in the simple
/// protocol; Parse, Bind, Describe and Execute of libpq's unnamed statement are one that is run
/// unnamed, in the group that the Sync ends.
pub(super) fn script(transcript: &Transcript) -> impl Fn(&mut dyn Client) + '_ {
    move |client| {
        let mut sql = String::new();
        let entries = transcript.entries().iter();
        for entry in entries.filter(|entry| entry.direction() == Direction::Frontend) {
            match entry.name() {
                "Query" => client.simple(&frame(entry).as_query().expect("a Query")),
                "Parse" => {
                    let parse = frame(entry).as_parse().expect("a Parse");
                    assert_eq!((parse.name.as_str(), parse.type_oids.len()), ("", 0));
                    sql = parse.sql;
                }
                "Bind" => {
                    let bind = frame(entry).as_bind().expect("a Bind");
                    assert_eq!((bind.statement.as_str(), bind.portal.as_str()), ("", ""));
                    // Text of unspecified type, as strings of ours are.
                    let text = |value: Vec<u8>| String::from_utf8(value).expect("UTF-8");
                    let params: Vec<_> =
                        bind.params.into_iter().map(|param| param.map(text)).collect();
                    let submit = Submit::new(client.delivery()).mode(ExecutionMode::Unnamed);
                    let request = Request::Query { sql: &sql, params: &params };
                    client.submit(request, submit.no_sync());
                }
                "Sync" => {
                    client.end_group();
                    client.settle();
                }
                _ => {}
            }
        }
    }
}

fn frame(entry: &Entry) -> Frame {
    Frame { tag: entry.bytes()[0], body: entry.body().to_vec() }
}
