//! The same through sockets, on both faces: fewer places, and everything that stands between the
//! engine and the server.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use chopin_pg::{
    Delivery, Event, Params, PgConfig, PgConnection, PgError, PgResult, Request, Row, SqlState,
    Submit, Ticket,
};
use testkit::fake::{Answer, FakeServer};
use testkit::frames::{self, Column};
use testkit::transport::{Ending, Policy, Relay};

use crate::support::{Face, assert_usable, connect, fake_config, on_both_faces, run_events};

on_both_faces!(
    h25_h29_a_disconnect_in_the_answers_to_a_pipeline,
    h1_a_deadline_in_the_middle_of_an_answer,
    h1_b10_a_discard_behind_every_row,
);

/// Two groups: two requests that succeed, and a request that fails with one behind it. Each returns
/// its number.
const PIPELINE: [(&str, i32); 4] = [
    ("select $1::int4 as number", 1),
    ("select $1::int4 as number, 'two' as word", 2),
    ("select 3 / ($1::int4 - 3) as number", 3),
    ("select $1::int4 as number, 'four' as word", 4),
];

/// The requests of each group of [`PIPELINE`].
const GROUPS: usize = 2;

/// The first number that each request of [`PIPELINE`] returns.
fn run_pipeline(face: Face, db: &mut PgConnection) -> Vec<PgResult<i32>> {
    match face {
        Face::Blocking => {
            let mut pipeline = db.pipeline();
            for (place, (sql, number)) in PIPELINE.into_iter().enumerate() {
                if let Err(error) = pipeline.query(sql, (number,)) {
                    return vec![Err(error)];
                }
                if (place + 1) % GROUPS == 0 {
                    pipeline.sync().unwrap();
                }
            }
            let results = pipeline.finish().unwrap().into_iter();
            results.map(|result| result?.rows()[0].get(0)).collect()
        }
        Face::NonBlocking => pipeline_by_events(db),
    }
}

fn pipeline_by_events(db: &mut PgConnection) -> Vec<PgResult<i32>> {
    let mut tickets: Vec<Ticket> = Vec::new();
    for (place, (sql, number)) in PIPELINE.into_iter().enumerate() {
        let submit = Submit::new(Delivery::Events);
        let submit = if (place + 1) % GROUPS == 0 { submit } else { submit.no_sync() };
        match db.submit_with(Request::Query { sql, params: &(number,) }, submit) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => return vec![Err(error)],
        }
    }
    let mut numbers: Vec<Option<i32>> = vec![None; tickets.len()];
    let mut results: Vec<Option<PgResult<i32>>> = tickets.iter().map(|_| None).collect();
    // What broke the connection comes behind all ends; whoever has no end is found below.
    let _broken = run_events(db, tickets.len(), |event| {
        let place = tickets.iter().position(|ticket| Some(*ticket) == event.ticket());
        let Some(place) = place else { return };
        assert!(results[place].is_none(), "nothing comes behind the end");
        match event {
            Event::Row { row, .. } => numbers[place] = Some(row.get(0).unwrap()),
            Event::Complete { .. } => results[place] = Some(Ok(numbers[place].unwrap())),
            Event::Failed { error, .. } => results[place] = Some(Err(error)),
            _ => {}
        }
    });
    results.into_iter().map(|result| result.expect("the end of each request")).collect()
}

fn h25_h29_a_disconnect_in_the_answers_to_a_pipeline(face: Face) {
    /// Not every byte: each costs a session of a real server.
    const STEP: usize = 5;
    let server = testkit::shared();
    let config = |relay: &Relay| {
        PgConfig::new("127.0.0.1", relay.port(), server.superuser(), "", "postgres")
    };
    let whole = Relay::start(server.tcp(), Policy::default());
    let mut db = PgConnection::connect(&config(&whole)).unwrap();
    let login = whole.bytes_from_server();
    check_pipeline(&run_pipeline(face, &mut db), false);
    let all = whole.bytes_from_server();
    for stop in (login..all).step_by(STEP) {
        let ending = if stop % 2 == 0 { Ending::Close } else { Ending::Reset };
        let relay = Relay::start(server.tcp(), Policy::default().stop_after(stop, ending));
        let Ok(mut db) = PgConnection::connect(&config(&relay)) else {
            assert_eq!(stop, login, "the login was over before");
            continue;
        };
        check_pipeline(&run_pipeline(face, &mut db), true);
        assert!(db.is_broken(), "{stop}");
        let error = db.query("select 1", &[]).unwrap_err();
        assert!(matches!(error, PgError::NotSent(_)), "{stop}: {error}");
    }
}

/// Each request has its own number or error; or what comes of a disconnect, if there was one.
#[track_caller]
fn check_pipeline(results: &[PgResult<i32>], is_cut: bool) {
    let is_end = |error: &PgError| match error {
        PgError::NotSent(error) => matches!(**error, PgError::Io(_) | PgError::ConnectionClosed(_)),
        error => matches!(error, PgError::Io(_) | PgError::ConnectionClosed(_)),
    };
    for (place, result) in results.iter().enumerate() {
        match (place, result) {
            (0 | 1, Ok(number)) => assert_eq!(*number, PIPELINE[place].1),
            (2, Err(PgError::Server(error))) => assert_eq!(error.code, SqlState::DIVISION_BY_ZERO),
            (3, Err(PgError::NotRun(_))) => {}
            (_, Err(error)) if is_cut => assert!(is_end(error), "{place}: {error}"),
            (_, result) => panic!("{place}: {result:?}"),
        }
    }
    assert!(results.len() == PIPELINE.len() || is_cut);
}

fn h1_a_deadline_in_the_middle_of_an_answer(face: Face) {
    /// Not every byte: each costs a deadline's time.
    const STEP: usize = 6;
    const SHORT: Duration = Duration::from_millis(15);
    const LONG: Duration = Duration::from_secs(20);
    let column = |name| Column::int4(name).binary();
    let row = |number: i32| frames::data_row(&[Some(&number.to_be_bytes())]);
    let late = [
        frames::parse_complete(),
        frames::bind_complete(),
        frames::row_description(&[column("late")]),
        row(-1),
        row(-2),
        frames::command_complete("SELECT 2"),
        frames::ready_for_query(b'I'),
    ]
    .concat();
    let stops: Vec<usize> = (0..late.len()).step_by(STEP).collect();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    // A place for each session; what comes between them are cancels.
    let places = Mutex::new(stops.clone().into_iter());
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        let place = places.lock().unwrap().next().ok_or("one session too many")?;
        let (before, after) = late.split_at(place);
        conn.expect_all(b"PBDES")?;
        conn.send(before)?;
        wait.lock().unwrap().recv().map_err(|error| error.to_string())?;
        conn.send(after)?;
        let answer = Answer::rows(&[column("answer")]).row(&[Some(&42_i32.to_be_bytes())]);
        conn.answer_extended(&answer)?;
        conn.drain()
    });
    let count = stops.len();
    for stop in stops {
        let mut db = PgConnection::connect(&fake_config(&server)).unwrap();
        db.set_io_timeout(SHORT);
        let error = query(face, &mut db, "select number from late", &()).unwrap_err();
        assert!(matches!(error, PgError::Timeout(_)), "{stop}: {error}");
        go.send(()).unwrap();
        db.set_io_timeout(LONG);
        let rows = query(face, &mut db, "select $1::int4 + 1 as answer", &(41,)).unwrap();
        let answers: Vec<i32> = rows.iter().map(|row| row.get("answer").unwrap()).collect();
        assert_eq!(answers, [42], "{stop}");
    }
    // Each was to be cancelled, over a connection of its own.
    assert_eq!(server.cancel_requests().len(), count);
    server.join();
}

/// A query within `io_timeout`.
fn query(face: Face, db: &mut PgConnection, sql: &str, params: &dyn Params) -> PgResult<Vec<Row>> {
    match face {
        Face::Blocking => db.query_with(sql, params),
        Face::NonBlocking => {
            let ticket = db.submit(Request::Query { sql, params }, Delivery::Collect)?;
            run_events(db, 1, |event| assert_eq!(event.ticket(), Some(ticket)))?;
            db.take(ticket).map(|outcome| outcome.expect("its result").into_rows())
        }
    }
}

fn h1_b10_a_discard_behind_every_row(face: Face) {
    const ROWS: i32 = 20;
    const SQL: &str = "select n, repeat('x', 5000) from generate_series(1, $1) n";
    let mut db = connect();
    for wanted in 0..=ROWS {
        match face {
            Face::Blocking => {
                let mut rows = db.stream(SQL, (ROWS,)).unwrap();
                for number in 1..=wanted {
                    assert_eq!(rows.next().unwrap().unwrap().get::<i32>(0).unwrap(), number);
                }
            }
            Face::NonBlocking => discard_behind(&mut db, SQL, ROWS, wanted),
        }
        assert_usable(&mut db);
    }
}

/// Takes so many rows, discards the rest, and asks for something else without waiting.
fn discard_behind(db: &mut PgConnection, sql: &str, rows: i32, wanted: i32) {
    let request = Request::Query { sql, params: &(rows,) };
    let ticket = db.submit(request, Delivery::Events).unwrap();
    let mut seen = 0;
    while seen < wanted {
        let _drive = db.drive();
        while seen < wanted {
            match db.next_event().unwrap() {
                Some(Event::Row { row, .. }) => {
                    seen += 1;
                    assert_eq!(row.get::<i32>(0).unwrap(), seen);
                }
                Some(_) => {}
                None => break,
            }
        }
    }
    db.discard(ticket);
    let request = Request::Query { sql: "select $1::int4", params: &(wanted,) };
    let next = db.submit(request, Delivery::Events).unwrap();
    let mut answers = Vec::new();
    run_events(db, 1, |event| {
        assert_eq!(event.ticket(), Some(next), "{event:?}");
        if let Event::Row { row, .. } = event {
            answers.push(row.get::<i32>(0).unwrap());
        }
    })
    .unwrap();
    assert_eq!(answers, [wanted]);
}
