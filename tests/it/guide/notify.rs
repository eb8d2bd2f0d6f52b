//! The section "LISTEN and NOTIFY" of docs/GUIDE.md.

use std::time::Duration;

use chopin_pg::{ListenerEvent, PgConfig, PgConnection, PgListener, PgResult};

use crate::support::*;

fn collect_jobs(connection: &mut PgConnection, channel: &str) -> PgResult<Vec<String>> {
    connection.listen(channel)?;
    let mut jobs = Vec::new();
    for notification in connection.notifications().timeout(Duration::from_millis(50)) {
        jobs.push(notification?.payload);
    }
    connection.unlisten(channel)?;
    Ok(jobs)
}

fn work_and_listen(connection: &mut PgConnection, channel: &str) -> PgResult<bool> {
    let dropped = connection.dropped_notifications();
    connection.execute("select pg_sleep(0)", &[])?;
    let mut is_stale = false;
    while let Some(notification) = connection.poll_notification()? {
        is_stale |= notification.channel == channel;
    }
    // What came with the answer, and was too much to keep, counts too.
    Ok(is_stale || connection.dropped_notifications() > dropped)
}

fn mirror(config: &PgConfig, channel: &str, mut reload: impl FnMut() -> bool) -> PgResult<()> {
    let mut listener = PgListener::connect(config, [channel])?;
    // It listens now, so nothing can be missed between this and the first event.
    let mut go_on = reload();
    while go_on {
        match listener.wait_event(Duration::from_secs(60)) {
            Some(ListenerEvent::Notification(_)) => go_on = reload(),
            Some(ListenerEvent::Lost { error }) => eprintln!("connecting again after: {error}"),
            // Whatever was notified in between is lost: read everything anew.
            Some(ListenerEvent::Reconnected) => go_on = reload(),
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn jobs_are_collected() {
    let mut connection = connect();
    let channel = testkit::unique("jobs");
    connection.listen(&channel).unwrap();
    for job in ["one", "two", "three"] {
        connection.notify(&channel, job).unwrap();
    }
    assert_eq!(collect_jobs(&mut connection, &channel).unwrap(), ["one", "two", "three"]);
    connection.notify(&channel, "nobody listens").unwrap();
    assert!(!connection.has_notifications());
}

#[test]
fn what_came_during_work_is_seen() {
    let mut connection =
        PgConnection::connect(&config().max_kept_messages(2)).expect("a connection");
    let channel = testkit::unique("stale");
    connection.listen(&channel).unwrap();
    assert!(!work_and_listen(&mut connection, &channel).unwrap());
    connection.notify(&channel, "").unwrap();
    assert!(work_and_listen(&mut connection, &channel).unwrap());
    assert!(!work_and_listen(&mut connection, &channel).unwrap());
    for number in 0..3 {
        connection.notify(&channel, &number.to_string()).unwrap();
    }
    assert_eq!(connection.dropped_notifications(), 1);
    assert!(work_and_listen(&mut connection, &channel).unwrap());
    assert!(!work_and_listen(&mut connection, &channel).unwrap());
}

#[test]
fn a_mirror_reloads_after_the_gap() {
    let channel = testkit::unique("mirror");
    let config = config().application_name(&channel);
    let mut other = connect();
    let mut reloads = 0;
    mirror(&config, &channel, || {
        reloads += 1;
        match reloads {
            1 => other.notify(&channel, "").unwrap(),
            2 => {
                let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
                     where application_name = $1";
                assert_eq!(other.query(sql, &[&channel]).unwrap().len(), 1);
            }
            _ => {}
        }
        reloads < 3
    })
    .unwrap();
    assert_eq!(reloads, 3);
}
