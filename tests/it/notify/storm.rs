//! A hundred thousand notifications at once: bounded memory, and no loss is silent.

use chopin_pg::{Delivery, Event, ListenerEvent, PgConnection, PgListener, Request};

use super::LONG;
use crate::support::*;

const MANY: i32 = 100_000;

/// The query that notifies a channel of the numbers up to [`MANY`].
fn storm(channel: &str) -> String {
    format!("select count(pg_notify('{channel}', i::text)) from generate_series(1, {MANY}) i")
}

#[test]
fn h43_who_waits_for_notifications_hears_all() {
    // Of those that come together it asks for one, and none of the others has to be kept.
    let mut db = PgConnection::connect(&config().max_kept_messages(1)).unwrap();
    let channel = testkit::unique("storm");
    db.listen(&channel).unwrap();
    connect().execute(&storm(&channel), &[]).unwrap();
    let heard = db.notifications().timeout(LONG).take(100_000);
    let numbers = heard.map(|heard| heard.unwrap().payload.parse::<i32>().unwrap());
    assert!(numbers.eq(1..=MANY));
    assert_eq!((db.dropped_notifications(), db.notification_count()), (0, 0));
    assert_usable(&mut db);
}

#[test]
fn h43_during_other_calls_the_newest_are_kept_and_the_rest_is_counted() {
    for (most, config) in [
        (4096, config()),
        (10, config().max_kept_messages(10)),
        // A number of five or six digits, and the name of the channel.
        (100_000, config().max_kept_messages(1 << 20)),
    ] {
        let mut db = PgConnection::connect(&config).unwrap();
        db.set_io_timeout(LONG);
        db.listen("storm_on_itself").unwrap();
        db.execute(&storm("storm_on_itself"), &[]).unwrap();
        assert_eq!(db.notification_count(), most);
        assert_eq!(db.dropped_notifications(), 100_000 - most as u64);
        // The event says it too.
        let mut told = 0;
        while let Some(event) = db.next_event().unwrap() {
            match event {
                Event::MessagesDropped { count } => told += count,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, db.dropped_notifications());
        let numbers = db.drain_notifications().map(|heard| heard.payload.parse::<i32>().unwrap());
        assert!(numbers.eq(MANY + 1 - i32::try_from(most).unwrap()..=MANY));
        assert_usable(&mut db);
    }
}

#[test]
fn h43_as_events_all_come() {
    let mut db = connect();
    db.set_io_timeout(LONG);
    db.listen("storm_of_events").unwrap();
    let sql = storm("storm_of_events");
    let _ = db.submit(Request::Query { sql: &sql, params: &() }, Delivery::Events).unwrap();
    let mut numbers: Vec<i32> = Vec::new();
    run_events(&mut db, 1, |event| match event {
        Event::Notification(heard) => numbers.push(heard.payload.parse().unwrap()),
        Event::Failed { error, .. } => panic!("{error}"),
        _ => {}
    })
    .unwrap();
    // Some come behind the answer.
    while numbers.len() < 100_000 {
        numbers.push(Face::NonBlocking.heard(&mut db).payload.parse().unwrap());
    }
    assert!(numbers.into_iter().eq(1..=MANY));
    assert_eq!(db.dropped_messages(), 0);
    assert_usable(&mut db);
}

#[test]
fn h43_a_listener_hears_all() {
    let channel = testkit::unique("storm");
    let mut listener = PgListener::connect(&config(), [channel.as_str()]).unwrap();
    connect().execute(&storm(&channel), &[]).unwrap();
    for number in 1..=MANY {
        match listener.wait_event(LONG) {
            Some(ListenerEvent::Notification(heard)) => {
                assert_eq!(heard.payload, number.to_string());
            }
            other => panic!("{other:?}"),
        }
    }
}
