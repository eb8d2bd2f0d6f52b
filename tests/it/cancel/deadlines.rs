//! A deadline that passes while a real server works: its statement is cancelled, what is sent next
//! gets its own answer.

use chopin_pg::{ExecutionMode, Outcome, PgConfig};
use testkit::pooler::{Pooler, Pooling};

use super::*;
use crate::event_loop::example::EventLoop;

on_both_faces! {
    b25_h1_what_takes_too_long_is_cancelled,
    b25_h1_a_row_that_does_not_come_is_cancelled,
}

fn b25_h1_what_takes_too_long_is_cancelled(face: Face) {
    for config in [config(), unix_config()] {
        let mut db = PgConnection::connect(&config).unwrap();
        let process_id = db.process_id();
        for number in 0..5 {
            assert_timeout(&query_within(face, &mut db, SHORT, SLEEP).unwrap_err());
            // It waits for the end of the cancel, not for that of the sleep.
            let rows = face.query(&mut db, "select $1::int4", (number,)).unwrap();
            assert_eq!(rows[0].get::<i32>(0).unwrap(), number);
        }
        assert_eq!(db.process_id(), process_id);
        assert_usable(&mut db);
    }
}

fn b25_h1_a_row_that_does_not_come_is_cancelled(face: Face) {
    let mut db = connect();
    // Rows have come when it gets stuck.
    let sql = "select n, case when n > 5000 then pg_sleep(600) end from generate_series(1, 6000) n";
    assert_timeout(&query_within(face, &mut db, 4 * SHORT, sql).unwrap_err());
    assert_usable(&mut db);
}

/// How requests ended, in a word each.
fn words(ends: &[(Ticket, PgResult<()>)], tickets: &[Ticket]) -> Vec<String> {
    let word = |ticket: &Ticket| {
        let (_, end) = ends.iter().find(|(ended, _)| ended == ticket).expect("each has ended");
        match end {
            Ok(()) => "complete".to_owned(),
            Err(PgError::NotRun(why)) => format!("not run: {}", why.sql_state().unwrap()),
            Err(PgError::Timeout(_)) => "timeout".to_owned(),
            Err(error) => error.to_string().split(':').next().unwrap_or_default().to_owned(),
        }
    };
    tickets.iter().map(word).collect()
}

/// Submits four requests, of which the one at `place` takes too long.
fn submit_four(db: &mut PgConnection, place: usize, together: bool) -> Vec<Ticket> {
    let tickets: Vec<_> = (0..4)
        .map(|index| {
            let sql = if index == place { SLEEP } else { "select 'quick'" };
            let time = if index == place { SHORT } else { LONG };
            let deadline = Deadline::after(Instant::now(), "within", time);
            let submit = Submit::new(Delivery::Events).deadline(deadline);
            let submit = if together { submit.no_sync() } else { submit };
            db.submit_with(Request::Query { sql, params: &() }, submit).unwrap()
        })
        .collect();
    db.end_group();
    tickets
}

#[test]
fn b25_h1_in_a_pipeline_only_what_takes_too_long_is_cancelled() {
    let mut db = connect();
    for place in 0..4 {
        let tickets = submit_four(&mut db, place, false);
        let ends = run(&mut db, 4).unwrap();
        let mut expected = vec!["complete"; 4];
        expected[place] = "timeout";
        assert_eq!(words(&ends, &tickets), expected, "{place}");
        assert_usable(&mut db);
    }
}

#[test]
fn b25_in_a_group_all_fails_with_what_takes_too_long() {
    let mut db = connect();
    for place in 0..4 {
        let tickets = submit_four(&mut db, place, true);
        let ends = run(&mut db, 4).unwrap();
        let expected: Vec<_> = (0..4)
            .map(|index| match index {
                index if index < place => "rolled back",
                index if index == place => "timeout",
                _ => "not run: 57014",
            })
            .collect();
        assert_eq!(words(&ends, &tickets), expected, "{place}");
        assert_usable(&mut db);
    }
}

#[test]
fn b25_the_check_at_a_sync_is_cancelled() {
    let mut db = connect();
    let name = testkit::unique("slow_check");
    db.execute_batch(&format!(
        "create temp table t (x int4);
         create function pg_temp.{name}() returns trigger language plpgsql as
             'begin perform pg_sleep(600); return null; end';
         create constraint trigger c after insert on t deferrable initially deferred
             for each row execute function pg_temp.{name}()"
    ))
    .unwrap();
    let deadline = Deadline::after(Instant::now(), "within", SHORT);
    let submit = Submit::new(Delivery::Events).no_sync();
    let mut tickets = Vec::new();
    for submit in [submit, submit.deadline(deadline)] {
        let request = Request::Query { sql: "insert into t values (1)", params: &() };
        tickets.push(db.submit_with(request, submit).unwrap());
    }
    db.end_group();
    let ends = run(&mut db, 2).unwrap();
    assert_eq!(words(&ends, &tickets), ["rolled back", "timeout"]);
    let count = db.query_one("select count(*) from t", &[]).unwrap();
    assert_eq!(count.get::<i64>(0).unwrap(), 0);
}

#[test]
fn s1_9_b25_an_event_loop_watches_the_cancel_too() {
    let mut event_loop = EventLoop::new().unwrap();
    event_loop.add(PgConnection::connect(&config()).unwrap());
    event_loop.add(PgConnection::connect(&unix_config()).unwrap());
    // Unless it has ended by then.
    let mut watched = 0;
    for index in [0, 1] {
        // One cancel after the other: each is a source of its own, whatever its number.
        let rounds = 10;
        for _ in 0..rounds {
            let db = &mut event_loop.members[index].connection;
            let deadline = Deadline::after(Instant::now(), "within", Duration::from_millis(10));
            let submit = Submit::new(Delivery::Events).deadline(deadline);
            let late = Request::Query { sql: SLEEP, params: &() };
            let _late = db.submit_with(late, submit).unwrap();
            db.flush();
            let mut ends = 0;
            let mut is_next = false;
            while ends < 2 {
                event_loop
                    .turn(index, |db| -> PgResult<()> {
                        while let Some(event) = db.next_event()? {
                            match event {
                                Event::Complete { .. } if is_next => ends += 1,
                                Event::Failed { error, .. } if ends == 0 => {
                                    assert_timeout(&error);
                                    ends += 1;
                                }
                                Event::Columns { .. } | Event::Row { .. } => assert!(is_next),
                                Event::CommandComplete { .. } => assert!(is_next),
                                other => panic!("{other:?}"),
                            }
                        }
                        if ends == 1 && !is_next {
                            is_next = true;
                            watched += usize::from(descriptors(db).len() == 2);
                            let next = Request::Query { sql: "select 1", params: &() };
                            let _next = db.submit(next, Delivery::Events)?;
                        }
                        Ok(())
                    })
                    .unwrap();
                if ends < 2 {
                    event_loop.wait().unwrap();
                }
            }
            let db = &event_loop.members[index].connection;
            assert_eq!(descriptors(db).len(), 1);
            assert_eq!(db.deadline(), None);
        }
    }
    assert!(watched > 0, "two sources: the session's and the cancel's");
}

#[test]
fn b25_a_discarded_request_is_done_and_a_stopped_stream_is_not() {
    let mut db = connect();
    db.execute_batch("create temp table t (x int4)").unwrap();
    let mut rows =
        db.stream("insert into t select generate_series(1, 1000) returning x", ()).unwrap();
    assert!(rows.next().unwrap().is_some());
    drop(rows);
    let count = |db: &mut PgConnection| -> i64 {
        db.query_one("select count(*) from t", &[]).unwrap().get(0).unwrap()
    };
    assert_eq!(count(&mut db), 1000, "it is only drained, as long as it does not take long");
    let slow = "insert into t select 1 from generate_series(1, 3), pg_sleep(0.2) returning x";
    let request = Request::Query { sql: slow, params: &() };
    let ticket = db.submit(request, Delivery::Events).unwrap();
    db.flush();
    db.discard(ticket);
    assert_eq!(count(&mut db), 1003);
    let stuck = "insert into t select 1 from pg_sleep(600) returning x";
    let process_id = db.process_id();
    let rows = db.stream(stuck, ()).unwrap();
    await_sleep(process_id);
    rows.cancel().unwrap();
    assert_eq!(count(&mut db), 1003, "nothing is left of it");
    assert_usable(&mut db);
}

#[test]
fn b25_a_blocking_call_collects_its_answer_while_others_are_cancelled() {
    let mut db = connect();
    let deadline = Deadline::after(Instant::now(), "within", SHORT);
    let submit = Submit::new(Delivery::Collect).deadline(deadline);
    let request = Request::Query { sql: SLEEP, params: &() };
    let late = db.submit_with(request, submit).unwrap();
    assert_usable(&mut db);
    let error = db.take(late).map(|outcome: Option<Outcome>| outcome.is_some()).unwrap_err();
    assert_timeout(&error);
}

#[test]
fn b7_b25_a_cancel_finds_its_way_through_a_pooler() {
    let pooler = Pooler::start(testkit::shared().tcp(), Pooling::default());
    let config = PgConfig::new("127.0.0.1", pooler.port(), "postgres", "", "postgres");
    let mut db = PgConnection::connect(&config.execution_mode(ExecutionMode::Unnamed)).unwrap();
    for _ in 0..3 {
        assert_timeout(&db.within(SHORT).query(SLEEP, &[]).unwrap_err());
        assert_usable(&mut db);
    }
}
