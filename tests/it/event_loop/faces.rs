//! What a request is refused for, and the two faces of one connection.

use testkit::fake::FakeServer;

use super::*;

/// A query without parameters.
const QUERY: Request<'static> = Request::Query { sql: "select 'x'", params: &() };

#[test]
fn b23_nothing_is_taken_before_the_connection_is_ready() {
    let mut single = Single::start(&config()).unwrap();
    loop {
        let refused = single.db().submit(QUERY, Delivery::Events).unwrap_err();
        assert!(matches!(refused, PgError::WouldBlock), "{refused}");
        single.turn().unwrap();
        if single.told.contains(&"ready".to_owned()) {
            break;
        }
        single.wait();
    }
    single.told.clear();
    let _ticket = single.db().submit(QUERY, Delivery::Events).unwrap();
    assert_eq!(single.until_ended(1), ["1 columns", "row x", "command SELECT 1", "complete"]);
}

#[test]
fn b23_a_broken_connection_takes_nothing_and_says_why() {
    let server = FakeServer::start(|conn| {
        conn.login()?;
        conn.expect_query("play")?;
        conn.send(&frames::parse_complete())?;
        conn.drain()
    });
    let mut single = Single::connect(&fake_config(&server));
    let _ticket = single.simple("play");
    let error = loop {
        match single.turn() {
            Ok(()) => single.wait(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PgError::Protocol(_)), "{error}");
    assert_eq!(single.told, [format!("failed: {error}")]);
    let refused = single.db().submit(QUERY, Delivery::Events).unwrap_err();
    let PgError::NotSent(why) = &refused else { panic!("{refused}") };
    assert_eq!(why.to_string(), error.to_string());
    // The blocking face says the same.
    let refused = single.db().query("select 1", &[]).unwrap_err();
    assert!(matches!(refused, PgError::NotSent(_)), "{refused}");
    drop(single);
    server.join();
}

#[test]
fn b23_requests_have_a_limit_until_they_have_ended() {
    let mut single = Single::connect(&config().max_in_flight(3));
    for _ in 0..3 {
        for _ in 0..3 {
            let _ticket = single.db().submit(QUERY, Delivery::Events).unwrap();
        }
        let refused = single.db().submit(QUERY, Delivery::Events).unwrap_err();
        assert!(matches!(refused, PgError::WouldBlock), "{refused}");
        let told = single.until_ended(3);
        assert_eq!(told.iter().filter(|told| *told == "row x").count(), 3);
    }
    // Results that nobody has taken are held, too.
    let tickets: Vec<_> =
        (0..3).map(|_| single.db().submit(QUERY, Delivery::Collect).unwrap()).collect();
    assert_eq!(single.until_ended(3), ["complete"; 3]);
    let refused = single.db().submit(QUERY, Delivery::Events).unwrap_err();
    assert!(matches!(refused, PgError::WouldBlock), "{refused}");
    for ticket in tickets {
        let rows = single.db().take(ticket).unwrap().expect("a result").into_rows();
        assert_eq!(rows[0].get::<&str>(0).unwrap(), "x");
    }
    let _ticket = single.db().submit(QUERY, Delivery::Events).unwrap();
    assert_eq!(single.until_ended(1).len(), 4);
}

#[test]
fn b23_output_has_a_limit_until_it_is_sent() {
    let mut single = Single::connect(&config().max_send_buffer(1000));
    let text = "x".repeat(600);
    let submit = |single: &mut Single| {
        let request = Request::Query { sql: "select $1::text", params: &(text.as_str(),) };
        single.db().submit(request, Delivery::Events)
    };
    // The limit stops what comes after it is reached.
    let _tickets = [submit(&mut single).unwrap(), submit(&mut single).unwrap()];
    let refused = submit(&mut single).unwrap_err();
    assert!(matches!(refused, PgError::WouldBlock), "{refused}");
    // Room comes by sending; the answers need not be there.
    single.db().flush();
    let _ticket = submit(&mut single).unwrap();
    let told = single.until_ended(3);
    assert_eq!(told.iter().filter(|told| **told == format!("row {text}")).count(), 3);
}

#[test]
fn b23_blocking_calls_leave_the_ends_of_other_requests_to_next_event() {
    let mut single = Single::connect(&config());
    let db = single.db();
    let first = db.submit(QUERY, Delivery::Collect).unwrap();
    let zero = Request::Query { sql: "select 1 / 0", params: &() };
    let second = db.submit(zero, Delivery::Collect).unwrap();
    // It goes behind the others, and takes their answers in on the way.
    let row = db.query_one("select 'mine'", &[]).unwrap();
    assert_eq!(row.get::<&str>(0).unwrap(), "mine");
    assert_eq!(db.in_flight(), 0);
    let third = db.submit(QUERY, Delivery::Collect).unwrap();
    let tell_next = |db: &mut PgConnection| {
        let event = db.next_event().unwrap().expect("an event");
        (event.ticket().expect("an end"), tell(&event))
    };
    assert_eq!(tell_next(db), (first, "complete".to_owned()));
    let rows = db.take(first).unwrap().expect("a result").into_rows();
    assert_eq!(rows[0].get::<&str>(0).unwrap(), "x");
    let (ticket, told) = tell_next(db);
    assert_eq!(ticket, second);
    assert!(told.starts_with("failed: ERROR: 22012: division by zero"), "{told}");
    assert!(db.take(second).is_err());
    assert!(db.take(second).unwrap().is_none(), "once");
    assert_eq!(single.until_ended(1), ["complete"]);
    assert!(single.db().take(third).unwrap().is_some());
    // Who has taken the result early is told all the same: each ticket has its one end.
    let early = single.db().submit(QUERY, Delivery::Collect).unwrap();
    assert_usable(single.db());
    assert!(single.db().take(early).unwrap().is_some());
    assert_eq!(single.until_ended(1), ["complete"]);
    // The end of one that is discarded is not told, wherever it waits.
    let dull = single.db().submit(QUERY, Delivery::Collect).unwrap();
    assert_usable(single.db());
    single.db().discard(dull);
    single.turn().unwrap();
    assert_eq!(single.told, [""; 0]);
}

#[test]
fn b23_a_blocking_call_swallows_no_events() {
    let mut single = Single::connect(&config());
    let _ticket = single.db().submit(QUERY, Delivery::Events).unwrap();
    let refused = single.db().query("select 1", &[]).unwrap_err();
    assert!(matches!(refused, PgError::Busy), "{refused}");
    assert!(matches!(single.db().try_fill_read_buf(), Err(PgError::Busy)));
    assert_eq!(single.db().in_flight(), 1, "nothing was sent for it");
    assert_eq!(single.until_ended(1), ["1 columns", "row x", "command SELECT 1", "complete"]);
    assert_usable(single.db());
}
