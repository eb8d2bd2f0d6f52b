//! What the server says without being asked, and what becomes of requests when the session ends.

use std::cell::RefCell;
use std::rc::Rc;

use chopin_pg::SqlState;
use testkit::fake::FakeServer;
use testkit::frames::Column;
use testkit::{Cluster, Shutdown};

use super::*;

#[test]
fn b23_messages_are_events_in_order_with_everything_else() {
    let notice = |text| frames::notice_response(&[(b'S', "NOTICE"), (b'C', "00000"), (b'M', text)]);
    let server = FakeServer::start(move |conn| {
        conn.login()?;
        conn.expect_query("play")?;
        conn.send_frames(&[
            notice("before"),
            frames::row_description(&[Column::text("a")]),
            notice("between"),
            text_row("1"),
            frames::notification_response(7, "hall", "applause"),
            frames::parameter_status("TimeZone", "Europe/Warsaw"),
            text_row("2"),
            notice("after"),
            frames::command_complete("SELECT 2"),
            frames::notification_response(7, "hall", ""),
            frames::ready_for_query(b'I'),
            // And while nothing is asked.
            notice("idle"),
            frames::parameter_status("TimeZone", "UTC"),
            frames::notification_response(7, "hall", "encore"),
        ])?;
        conn.drain()
    });
    let mut single = Single::connect(&fake_config(&server));
    let heard = Rc::new(RefCell::new(Vec::new()));
    let sink = Rc::clone(&heard);
    single.db().set_notice_handler(move |notice| sink.borrow_mut().push(notice.message.clone()));
    let _ticket = single.simple("play");
    assert_eq!(
        single.until("notification hall encore"),
        [
            "notice before",
            "1 columns",
            "notice between",
            "row 1",
            "notification hall applause",
            "parameter TimeZone = Europe/Warsaw",
            "row 2",
            "notice after",
            "command SELECT 2",
            "notification hall ",
            "complete",
            "notice idle",
            "parameter TimeZone = UTC",
            "notification hall encore",
        ]
    );
    assert_eq!(*heard.borrow(), ["before", "between", "after", "idle"], "the handler hears too");
    let db = single.db();
    assert_eq!(db.server_param("TimeZone"), Some("UTC"));
    assert_eq!((db.drain_notices().count(), db.drain_notifications().count()), (0, 0));
    drop(single);
    server.join();
}

#[test]
fn b23_a_notification_wakes_an_idle_connection() {
    let channel = testkit::unique("hall");
    let mut single = Single::connect(&config());
    let _ticket = single.simple(&format!("listen {channel}"));
    assert_eq!(single.until_ended(1), ["command LISTEN", "complete"]);
    assert_eq!(single.event_loop.poll(Some(Duration::ZERO)).unwrap(), 0);
    connect().execute_batch(&format!("notify {channel}, 'applause'")).unwrap();
    let wake_ups = single.event_loop.wake_ups;
    single.wait();
    let expected = format!("notification {channel} applause");
    assert_eq!(single.until(&expected), [expected]);
    assert_eq!(single.event_loop.wake_ups, wake_ups + 1);
}

#[test]
fn b23_what_gave_way_during_blocking_calls_is_told_once() {
    let mut single = Single::connect(&config());
    let raise = "do $$ begin for i in 1..5000 loop raise notice '%', i; end loop; end $$";
    single.db().execute_batch(raise).unwrap();
    single.turn().unwrap();
    assert_eq!(std::mem::take(&mut single.told), ["dropped 904"]);
    single.turn().unwrap();
    assert_eq!(single.told, [""; 0]);
    assert_eq!(single.db().drain_notices().count(), 4096);
    // Only what was lost since is told.
    single.db().execute_batch(&raise.replace("5000", "4099")).unwrap();
    single.turn().unwrap();
    assert_eq!(std::mem::take(&mut single.told), ["dropped 3"]);
    // As events nothing is kept, so nothing is lost.
    let _ticket = single.simple(raise);
    let told = single.until_ended(1);
    assert_eq!(told.iter().filter(|told| told.starts_with("notice ")).count(), 5000);
    assert_eq!(single.db().dropped_messages(), 904 + 3);
    assert_usable(single.db());
}

/// Many requests, the first of which waits for a lock that somebody else holds, all of them sent.
fn with_many_in_flight(single: &mut Single, lock: i64) -> usize {
    let wait = format!("select 'first' from pg_advisory_lock({lock})");
    let _first = single.query(&wait, Delivery::Events);
    for number in 0..50 {
        let delivery = if number % 2 == 0 { Delivery::Events } else { Delivery::Collect };
        let _ticket = single.query("select 'never'", delivery);
    }
    single.turn().unwrap();
    51
}

/// All requests have failed with this, each once.
#[track_caller]
fn assert_all_failed(told: &[String], count: usize, error: &str) {
    // The first was under way.
    let (first, told) = told.split_first().expect("events");
    assert_eq!(first, "1 columns");
    let failed = format!("failed: {error}");
    assert_eq!(told.len(), count);
    assert!(told.iter().all(|told| told.starts_with(&failed)), "{told:?}");
}

#[test]
fn b23_h28_a_terminated_session_fails_each_request_once() {
    let mut other = connect();
    let lock: i64 = other.query_one("select pg_backend_pid()::int8", &[]).unwrap().get(0).unwrap();
    other.execute("select pg_advisory_lock($1)", &[&lock]).unwrap();
    let mut single = Single::connect(&config());
    single.db().set_io_timeout(LONG);
    let count = with_many_in_flight(&mut single, lock);
    let pid = single.db().process_id();
    let waits = "select count(*) from pg_locks where pid = $1 and not granted";
    while other.query_one(waits, &[&pid]).unwrap().get::<i64>(0).unwrap() == 0 {}
    other.execute("select pg_terminate_backend($1)", &[&pid]).unwrap();
    loop {
        single.wait();
        if let Err(error) = single.turn() {
            assert_eq!(error.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "{error}");
            break;
        }
    }
    let fatal = "FATAL: 57P01: terminating connection due to administrator command";
    assert_all_failed(&single.told, count, fatal);
    // It stays so.
    let again = single.db().next_event().unwrap_err();
    assert_eq!(again.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "{again}");
    assert_eq!((single.db().in_flight(), single.db().deadline()), (0, None));
    let request = Request::Query { sql: "select 1", params: &() };
    let refused = single.db().submit(request, Delivery::Events).unwrap_err();
    assert!(matches!(&refused, PgError::NotSent(_)) && refused.is_safe_to_retry(), "{refused}");
    assert_eq!(refused.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "it says why");
}

#[test]
fn b23_h28_a_server_that_restarts_fails_each_request_once_and_takes_new_connections() {
    let server = Cluster::builder().start().unwrap();
    let config = PgConfig::new(server.host(), server.port(), server.superuser(), "", "postgres");
    let mut holder = PgConnection::connect(&config).unwrap();
    holder.execute("select pg_advisory_lock(1)", &[]).unwrap();
    let mut singles: Vec<Single> = (0..10).map(|_| Single::connect(&config)).collect();
    for single in &mut singles {
        single.db().set_io_timeout(LONG);
        with_many_in_flight(single, 1);
    }
    let waits = "select count(*) from pg_locks where not granted";
    while holder.query_one(waits, &[]).unwrap().get::<i64>(0).unwrap() < 10 {}
    server.stop(Shutdown::Fast).unwrap();
    for single in singles {
        let (told, error) = single.until_broken();
        assert_all_failed(&told, 51, "FATAL: 57P01: ");
        assert_eq!(error.sql_state(), Some(SqlState::ADMIN_SHUTDOWN), "{error}");
    }
    server.restart().unwrap();
    let mut single = Single::connect(&config);
    let _ticket = single.query("select 'again'", Delivery::Events);
    assert!(single.until_ended(1).contains(&"row again".to_owned()));
}
