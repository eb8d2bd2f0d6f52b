//! Pipelines: several requests in one round trip, explicit and implicit, on both faces.

mod batches;
mod failures;
mod volume;

use std::time::Duration;

use chopin_pg::connection::CommandTag;
use chopin_pg::{
    Delivery, Event, ExecutionMode, Params, PgConnection, PgError, PgResult, Request, Row, Submit,
    Ticket, TransactionStatus,
};
use testkit::fake::FakeServer;
use testkit::frames;

use crate::support::*;

/// The one value of the one row.
fn value(rows: &[Row]) -> i32 {
    assert_eq!(rows.len(), 1);
    rows[0].get(0).expect("an int4")
}

/// The numbers in the table `t`.
fn stored(db: &mut PgConnection) -> Vec<i32> {
    let rows = db.query("select x from t order by x", &[]).expect("the table");
    rows.iter().map(|row| row.get(0).expect("an int4")).collect()
}

/// A connection with a table `t` of numbers, whose unique constraint is checked at the end of a
/// transaction.
fn connect_with_table() -> PgConnection {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4 unique deferrable initially deferred)").unwrap();
    db
}

#[test]
fn s9_16_b11_requests_of_every_kind_are_answered_in_their_order() {
    let mut db = connect_with_table();
    let add = db.prepare("select $1::int4 + $2").unwrap();
    let insert = db.prepare("insert into t values ($1)").unwrap();
    for round in 0..3 {
        let mut pipeline = db.pipeline();
        let places = [
            pipeline.query("select $1::int4 as n", (round,)).unwrap(),
            pipeline.query_prepared(&add, (round, 40)).unwrap(),
            pipeline.prepare("select $1::int8 * 2").unwrap(),
            pipeline.batch("insert into t values ($1)", [(1,), (2,), (3,)]).unwrap(),
        ];
        pipeline.sync().unwrap();
        // A second one ends nothing.
        pipeline.sync().unwrap();
        let more = [
            pipeline.batch_prepared(&insert, [(4,), (5,)]).unwrap(),
            pipeline.query("delete from t where x < 4", ()).unwrap(),
            pipeline.query("select x from t order by x", ()).unwrap(),
            pipeline.query("", ()).unwrap(),
            pipeline.query("delete from t returning x", ()).unwrap(),
        ];
        assert_eq!((places, more), ([0, 1, 2, 3], [4, 5, 6, 7, 8]));
        let results: Vec<_> =
            pipeline.finish().unwrap().into_iter().map(|result| result.unwrap()).collect();
        assert_eq!(results.len(), 9);
        assert_eq!((value(results[0].rows()), value(results[1].rows())), (round, round + 40));
        assert_eq!(results[0].columns()[0].name(), "n");
        let doubled = results[2].statement().expect("what was prepared").clone();
        assert!(results[2].rows().is_empty() && results[2].columns().is_empty());
        assert_eq!((results[3].counts(), results[3].affected_rows()), (&[1, 1, 1][..], 3));
        assert_eq!((results[4].counts(), results[4].affected_rows()), (&[1, 1][..], 2));
        let tags: Vec<_> = results[5..].iter().map(|result| result.command_tag()).collect();
        assert_eq!(tags, ["DELETE 3", "SELECT 2", "", "DELETE 2"]);
        assert_eq!((results[5].affected_rows(), results[7].affected_rows()), (3, 0));
        let left: Vec<i32> = results[6].rows().iter().map(|row| row.get(0).unwrap()).collect();
        assert_eq!(left, [4, 5]);
        let prepared = results.iter().map(|result| result.statement().is_some());
        assert_eq!(prepared.filter(|is_some| *is_some).count(), 1);
        // A statement of a pipeline is one like any other.
        assert_eq!(db.query_prepared(&doubled, (21,)).unwrap()[0].get::<i64>(0).unwrap(), 42);
        assert_usable(&mut db);
    }
    assert!(db.pipeline().finish().unwrap().is_empty());
    let mut pipeline = db.pipeline();
    pipeline.sync().unwrap();
    assert!(pipeline.finish().unwrap().is_empty());
    assert_usable(&mut db);
}

/// A server that answers three queries of the extended protocol, which must all be there before it
/// says a word, and end in a Sync together or each in its own.
fn server_of_three(own_syncs: bool) -> FakeServer {
    FakeServer::start(move |conn| {
        conn.login()?;
        let mut answer = Vec::new();
        for number in [1i32, 2, 3] {
            conn.expect_all(b"PBDE")?;
            answer.extend([frames::parse_complete(), frames::bind_complete()].concat());
            answer.extend(frames::row_description(&[frames::Column::int4("n").binary()]));
            answer.extend(frames::data_row(&[Some(&number.to_be_bytes())]));
            answer.extend(frames::command_complete("SELECT 1"));
            if own_syncs || number == 3 {
                conn.expect(b'S')?;
                answer.extend(frames::ready_for_query(b'I'));
            }
        }
        conn.send(&answer)?;
        conn.expect_terminate()
    })
}

#[test]
fn s9_16_no_request_waits_for_the_answer_of_another() {
    for own_syncs in [false, true] {
        let server = server_of_three(own_syncs);
        let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
        let mut pipeline = db.pipeline();
        for sql in ["select 1", "select 2", "select 3"] {
            pipeline.query(sql, ()).unwrap();
            if own_syncs {
                pipeline.sync().unwrap();
            }
        }
        let results = pipeline.finish().unwrap();
        let numbers: Vec<_> =
            results.iter().map(|result| value(result.as_ref().unwrap().rows())).collect();
        assert_eq!(numbers, [1, 2, 3]);
        drop(db);
        server.join();

        let server = server_of_three(own_syncs);
        let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
        let tickets = ["select 1", "select 2", "select 3"].map(|sql| {
            let submit = if own_syncs { COLLECT } else { COLLECT.no_sync() };
            db.submit_with(Request::Query { sql, params: &() }, submit).unwrap()
        });
        db.end_group();
        run_events(&mut db, 3, |_| {}).unwrap();
        let numbers = tickets.map(|ticket| value(&db.take(ticket).unwrap().unwrap().into_rows()));
        assert_eq!(numbers, [1, 2, 3]);
        drop(db);
        server.join();
    }
}

#[test]
fn b11_a_thousand_requests_may_be_submitted_before_the_first_is_sent() {
    let mut db = connect();
    let prepared = db.prepare("select $1::int4, 'prepared'").unwrap();
    // New and known statements, prepared ones and such that fail, by events and collected.
    let mut expected = Vec::new();
    for number in 0..1000 {
        let sql = format!("select $1::int4, 'new {number}'");
        let (text, request) = match number % 5 {
            0 => ("known", Request::Query { sql: "select $1::int4, 'known'", params: &(number,) }),
            1 => ("prepared", Request::Execute { statement: &prepared, params: &(number,) }),
            2 => ("22012", Request::Query { sql: "select 1 / ($1 - $1)", params: &(number,) }),
            _ => ("new", Request::Query { sql: &sql, params: &(number,) }),
        };
        let delivery = if number % 2 == 0 { Delivery::Events } else { Delivery::Collect };
        let ticket = db.submit(request, delivery).unwrap();
        let text = if text == "new" { format!("new {number}") } else { text.to_owned() };
        expected.push((ticket, number, text));
    }
    assert_eq!(db.in_flight(), 1000);
    let read = |number: i32, text: &str| format!("{number} {text}");
    let (mut answers, mut ends) = (Vec::new(), Vec::new());
    run_events(&mut db, 1000, |event| match event {
        Event::Row { ticket, row } => {
            let (number, text): (i32, &str) = row.to().unwrap();
            answers.push((ticket, read(number, text)));
        }
        Event::Complete { ticket } => ends.push((ticket, None)),
        Event::Failed { ticket, error } => {
            ends.push((ticket, error.sql_state().map(|state| state.to_string())));
        }
        _ => {}
    })
    .unwrap();
    let mut events = answers.into_iter();
    for ((ticket, number, text), end) in expected.into_iter().zip(ends) {
        let failed = text == "22012";
        assert_eq!(end, (ticket, failed.then(|| text.clone())), "{number}");
        if number % 2 == 1 {
            match db.take(ticket) {
                Ok(outcome) => {
                    let rows = outcome.expect("it was collected").into_rows();
                    let (came, came_text): (i32, &str) = rows[0].to().unwrap();
                    assert_eq!(read(came, came_text), read(number, &text));
                }
                Err(error) => assert!(failed, "{error}"),
            }
        } else if !failed {
            assert_eq!(events.next(), Some((ticket, read(number, &text))));
        }
    }
    assert!(events.next().is_none());
    assert_usable(&mut db);
}

#[test]
fn b11_what_cannot_be_queued_leaves_the_pipeline_as_it_was() {
    let mut db = connect_with_table();
    let add = db.prepare("select $1::int4 + $2").unwrap();
    // As well before it is known to the server as after.
    db.query("select $1::text, $2::text", &[&"a", &"b"]).unwrap();
    let mut pipeline = db.pipeline();
    pipeline.query("insert into t values (1)", ()).unwrap();
    let error = pipeline.query("select $1::bytea, $2::text", ([1u8].as_slice(), "\0")).unwrap_err();
    assert!(matches!(&error, PgError::Parameter(why) if why.index == Some(2)), "{error}");
    let text = |error: PgError| error.to_string();
    let error = pipeline.query("select $1::text, $2::text", ("good", "a\0b")).unwrap_err();
    assert!(matches!(&error, PgError::Parameter(why) if why.index == Some(2)), "{error}");
    assert!(text(pipeline.query("select 1\0", ()).unwrap_err()).contains("NUL"));
    assert!(text(pipeline.prepare("\0").unwrap_err()).contains("NUL"));
    let error = pipeline.query_prepared(&add, (1,)).unwrap_err();
    assert!(text(error).contains("2 parameters, but 1 were given"));
    let error = pipeline.query("select 1", vec![1; 65_536]).unwrap_err();
    assert!(text(error).contains("65536 parameters are more than"));
    let error = pipeline.query("copy t from stdin", ()).unwrap_err();
    assert!(text(error).contains("copy_in"));
    let error = pipeline.batch("insert into t values ($1)", Vec::<(i32,)>::new()).unwrap_err();
    assert!(text(error).contains("the batch has no parameter sets"));
    assert_eq!(pipeline.query("select x from t", ()).unwrap(), 1, "only two are in it");
    let results = pipeline.finish().unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(results[0].as_ref().unwrap().affected_rows(), 1);
    assert_eq!(value(results[1].as_ref().unwrap().rows()), 1);

    // The simple protocol has no place in a pipeline.
    db.set_execution_mode(ExecutionMode::Simple);
    let mut pipeline = db.pipeline();
    let error = pipeline.query("select 1", ()).unwrap_err();
    assert!(text(error).contains("the simple protocol has no place in a group"));
    assert!(pipeline.finish().unwrap().is_empty());
    db.set_execution_mode(ExecutionMode::Unnamed);
    let mut pipeline = db.pipeline();
    pipeline.query("select $1 + 1", (1,)).unwrap();
    assert_eq!(value(pipeline.finish().unwrap()[0].as_ref().unwrap().rows()), 2);
    assert_usable(&mut db);
}

#[test]
fn b11_a_dropped_pipeline_runs_what_was_synced_and_nothing_else() {
    let mut db = connect_with_table();
    let mut expected = Vec::new();
    for (round, (requests, syncs)) in
        [(1, 0), (2, 0), (3, 1), (2, 2), (100, 30)].into_iter().enumerate()
    {
        let first = i32::try_from(round).unwrap() * 1000;
        let mut pipeline = db.pipeline();
        for number in 0..requests {
            pipeline.query("insert into t values ($1)", (first + number,)).unwrap();
            pipeline.query("select repeat('x', 10000)", ()).unwrap();
            if number < syncs {
                expected.push(first + number);
                pipeline.sync().unwrap();
            }
        }
        drop(pipeline);
        assert_usable(&mut db);
        assert!(!db.engine().has_open_group());
        assert_eq!((stored(&mut db), db.in_flight()), (expected.clone(), 0));
    }
    // A single request neither; nor in a transaction, where the next one would have belonged to it.
    let sent = traced(&mut db, |db| {
        db.pipeline().query("insert into t values (1)", ()).map(drop).unwrap();
        db.pipeline().prepare("select 'never asked for'").map(drop).unwrap();
    });
    assert_eq!(sent, [""; 0]);
    db.begin().unwrap();
    db.pipeline().query("delete from t", ()).map(drop).unwrap();
    assert_eq!(stored(&mut db), expected);
    db.rollback().unwrap();
    assert_eq!(stored(&mut db), expected);
    assert!(!server_statements(&mut db).iter().any(|sql| sql.contains("never")));
    assert!(db.next_event().unwrap().is_none(), "nobody is told of what was dropped");
    assert_usable(&mut db);
}

#[test]
fn b11_a_dropped_pipeline_ends_the_group_that_was_sent_in_part() {
    // So little fits that adding the second sends the first.
    let mut db = PgConnection::connect(&config().max_send_buffer(1)).unwrap();
    db.execute_batch("create temp table t (x int4)").unwrap();
    let mut pipeline = db.pipeline();
    pipeline.query("insert into t values (1)", ()).unwrap();
    pipeline.query("insert into t values (2)", ()).unwrap();
    drop(pipeline);
    assert!(!db.engine().has_open_group());
    assert_eq!(stored(&mut db), [1, 2]);
    assert!(db.next_event().unwrap().is_none());
    assert_usable(&mut db);
}

#[test]
fn b11_a_pipeline_leaves_no_events_behind() {
    let mut db = connect();
    let foreign = Request::Query { sql: "select 7", params: &() };
    let foreign = db.submit(foreign, Delivery::Collect).unwrap();
    for finish in [true, false] {
        let mut pipeline = db.pipeline();
        for sql in ["select 1", "select 1 / 0", "select 3"] {
            pipeline.query(sql, ()).unwrap();
            pipeline.query(sql, ()).unwrap();
            pipeline.sync().unwrap();
        }
        if finish {
            assert_eq!(pipeline.finish().unwrap().len(), 6);
        } else {
            drop(pipeline);
        }
        assert_usable(&mut db);
    }
    // Only what was submitted has one.
    let event = db.next_event().unwrap().expect("the end of what was submitted");
    assert!(matches!(event, Event::Complete { ticket } if ticket == foreign), "{event:?}");
    assert!(db.next_event().unwrap().is_none());
    assert_eq!(value(&db.take(foreign).unwrap().unwrap().into_rows()), 7);
}

#[test]
fn b11_a_pipeline_does_not_join_a_group_of_the_other_face() {
    let mut db = connect_with_table();
    let insert = Request::Query { sql: "insert into t values (1)", params: &() };
    let open = db.submit_with(insert, COLLECT.no_sync()).unwrap();
    // Its error would undo what the program has submitted.
    let error = db.pipeline().query("select 1 / 0", ()).unwrap_err();
    assert!(error.to_string().contains("call end_group first"), "{error}");
    db.pipeline().sync().unwrap();
    assert!(db.pipeline().finish().unwrap().is_empty());
    assert!(db.engine().has_open_group(), "it is the program's to end");
    assert!(db.stream("select 1", ()).map(drop).unwrap_err().to_string().contains("end_group"));
    assert!(db.query("select 1", &[]).unwrap_err().to_string().contains("end_group"));
    db.end_group();
    let mut pipeline = db.pipeline();
    pipeline.query("select 1 / 0", ()).unwrap();
    assert!(pipeline.finish().unwrap()[0].is_err());
    assert_eq!(db.take(open).unwrap().unwrap().last().tag().as_str(), "INSERT 0 1");
    assert_eq!(stored(&mut db), [1]);
}

#[test]
fn b11_a_group_that_cannot_grow_says_so_and_many_groups_may_follow() {
    let mut db = PgConnection::connect(&config().max_in_flight(10)).unwrap();
    let mut pipeline = db.pipeline();
    for number in 0..10 {
        pipeline.query("select $1::int4", (number,)).unwrap();
    }
    let error = pipeline.query("select 10", ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "refused: the group has as many requests as may be in flight (max_in_flight): call sync"
    );
    // So it does, and the pipeline goes on: its results are not lost, and more come.
    pipeline.sync().unwrap();
    for number in 10..105 {
        pipeline.query("select $1::int4", (number,)).unwrap();
        if number % 7 == 0 {
            pipeline.sync().unwrap();
        }
    }
    let results = pipeline.finish().unwrap();
    let numbers: Vec<_> = results.into_iter().map(|result| value(result.unwrap().rows())).collect();
    assert_eq!(numbers, (0..105).collect::<Vec<_>>());
    assert_usable(&mut db);

    // The other face is told to take events first, whatever the limit is about.
    let submit = |db: &mut PgConnection| {
        db.submit(Request::Query { sql: "select 1", params: &() }, Delivery::Collect)
    };
    let tickets: Vec<_> = (0..10).map(|_| submit(&mut db).unwrap()).collect();
    assert!(matches!(submit(&mut db), Err(PgError::WouldBlock)));
    run_events(&mut db, 10, |_| {}).unwrap();
    assert!(matches!(submit(&mut db), Err(PgError::WouldBlock)), "results are to be taken too");
    // What nobody can make room for is told, not waited for.
    assert!(matches!(db.pipeline().query("select 1", ()), Err(PgError::WouldBlock)));
    assert!(matches!(db.query("select 1", &[]), Err(PgError::WouldBlock)));
    for ticket in tickets {
        assert_eq!(value(&db.take(ticket).unwrap().unwrap().into_rows()), 1);
    }
    assert_usable(&mut db);
}

#[test]
fn b11_a_small_send_buffer_only_makes_more_turns() {
    let mut db = PgConnection::connect(&config().max_send_buffer(1)).unwrap();
    let mut pipeline = db.pipeline();
    for number in 0..500 {
        pipeline.query("select $1::int4, $2", (number, "x".repeat(5000))).unwrap();
    }
    let results = pipeline.finish().unwrap();
    for (result, number) in results.into_iter().zip(0..) {
        let row = result.unwrap().into_rows().remove(0);
        assert_eq!(row.to::<(i32, &str)>().unwrap(), (number, "x".repeat(5000).as_str()));
    }
    // Two requests wait only where the first could not be sent.
    let request = Request::Query { sql: "select 1", params: &() };
    let first = db.submit(request, Delivery::Collect).unwrap();
    assert!(matches!(db.submit(request, Delivery::Collect), Err(PgError::WouldBlock)));
    db.flush();
    let second = db.submit(request, Delivery::Collect).unwrap();
    run_events(&mut db, 2, |_| {}).unwrap();
    assert!(db.take(first).unwrap().is_some() && db.take(second).unwrap().is_some());
    assert_usable(&mut db);
}

/// What one request of a group is to do.
type Command<'a> = (&'a str, &'a dyn Params);

/// Runs groups of requests through a face; of each request its tag.
fn run_groups(
    face: Face,
    db: &mut PgConnection,
    groups: &[&[Command<'_>]],
) -> Vec<PgResult<String>> {
    match face {
        Face::Blocking => {
            let mut pipeline = db.pipeline();
            for group in groups {
                for (sql, params) in *group {
                    pipeline.query(sql, params).unwrap();
                }
                pipeline.sync().unwrap();
            }
            let results = pipeline.finish().unwrap().into_iter();
            results.map(|result| result.map(|result| result.command_tag().to_owned())).collect()
        }
        Face::NonBlocking => {
            let mut tickets = Vec::new();
            for group in groups {
                for (sql, params) in *group {
                    let request = Request::Query { sql, params };
                    tickets.push(db.submit_with(request, COLLECT.no_sync()).unwrap());
                }
                db.end_group();
            }
            ends_of(db, &tickets)
        }
    }
}

/// Runs events until all these collected requests have ended, each once and in order; then takes
/// their results.
fn ends_of(db: &mut PgConnection, tickets: &[Ticket]) -> Vec<PgResult<String>> {
    let mut ends = Vec::new();
    let broken = run_events(db, tickets.len(), |event| match event {
        Event::Complete { ticket } | Event::Failed { ticket, .. } => ends.push(ticket),
        _ => {}
    });
    assert_eq!(broken.is_err(), db.is_broken());
    assert_eq!(ends, tickets);
    let tag = |tag: CommandTag| tag.as_str().to_owned();
    let take = |ticket: &Ticket| {
        let outcome = db.take(*ticket)?.expect("a result of each that has ended");
        Ok(tag(outcome.last().tag()))
    };
    tickets.iter().map(take).collect()
}

/// What became of each request, in a few words.
fn fates(results: &[PgResult<String>]) -> Vec<String> {
    let fate = |result: &PgResult<String>| match result {
        Ok(tag) => tag.clone(),
        Err(PgError::RolledBack) => "rolled back".to_owned(),
        Err(PgError::NotRun(_)) => "not run".to_owned(),
        Err(error) => error.sql_state().map_or_else(|| error.to_string(), |s| s.to_string()),
    };
    results.iter().map(fate).collect()
}

#[test]
fn s9_16_the_groups_of_a_transaction_are_parts_of_it() {
    let mut db = connect_with_table();
    let mut pipeline = db.pipeline();
    pipeline.query("begin", ()).unwrap();
    pipeline.query("insert into t values (1)", ()).unwrap();
    pipeline.sync().unwrap();
    pipeline.query("insert into t values (2)", ()).unwrap();
    pipeline.sync().unwrap();
    let results = pipeline.finish().unwrap();
    assert!(results.iter().all(|result| result.is_ok()));
    assert_eq!(db.transaction_status(), TransactionStatus::InTransaction);
    db.rollback().unwrap();
    assert!(stored(&mut db).is_empty());
    // On the other face a whole transaction as one group.
    let submit = Submit::new(Delivery::Collect).no_sync();
    let tickets = ["begin", "insert into t values (3)", "commit"]
        .map(|sql| db.submit_with(Request::Query { sql, params: &() }, submit).unwrap());
    db.end_group();
    let tags = ends_of(&mut db, &tickets);
    assert_eq!(fates(&tags), ["BEGIN", "INSERT 0 1", "COMMIT"]);
    assert_eq!(db.transaction_status(), TransactionStatus::Idle);
    assert_eq!(stored(&mut db), [3]);
}

#[test]
fn b11_what_was_synced_behind_a_late_answer_is_run_though_the_pipeline_is_dropped() {
    let mut db = connect();
    db.execute_batch("create temp table kept (x int4)").unwrap();
    let error = db.within(Duration::from_millis(20)).query("select pg_sleep(0.3)", &[]);
    assert!(matches!(error, Err(PgError::Timeout(_))));
    // Nothing can be sent yet. A group of one request is a group like any other.
    let mut pipeline = db.pipeline();
    pipeline.query("insert into kept values (1)", ()).unwrap();
    pipeline.sync().unwrap();
    drop(pipeline);
    let count: i64 = db.query_one("select count(*) from kept", &[]).unwrap().get(0).unwrap();
    assert_eq!(count, 1);
}
