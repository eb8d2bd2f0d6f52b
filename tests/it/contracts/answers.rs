//! Contracts 2, 6, 8 and 9: whose answer it is, the transaction status, what breaks a connection,
//! and what can come at any time.

use chopin_pg::engine::{Interest, TransactionStatus};
use testkit::frames::Column;

use super::*;

const DELIVERIES: [Delivery; 4] =
    [Delivery::Events, Delivery::Rows, Delivery::Collect, Delivery::Discard];

#[test]
fn contract_2_h1_what_nobody_wants_is_drained_and_reaches_nobody_else() {
    for sql in ["select rows 3", "select run-error 3", "select deferred", "select noisy 1"] {
        let mut session = Session::new();
        session.query(sql);
        let first = session.last();
        session.send();
        session.query("select rows 1");
        session.engine.discard(first, None);
        assert_eq!(session.engine.in_flight(), 2, "it counts until its answer has come");
        session.receive();
        let lines = session.told();
        assert!(!lines.iter().any(|line| line.starts_with("1 ")), "{lines:?}");
        session.turn();
        assert_eq!(session.told(), ["2 columns 1", "2 row 2", "2 SELECT 1", "2 complete"]);
        session.assert_usable();
    }
}

#[test]
fn contract_2_h1_a_discard_among_the_rows_ends_them() {
    // After each of its events: the columns, two rows, the tag.
    for told in 0..4 {
        let mut session = Session::new();
        session.query("select rows 2");
        let first = session.last();
        session.query("select rows 1");
        session.turn();
        for _ in 0..told {
            assert!(session.told_one().unwrap().unwrap().starts_with("1 "));
        }
        session.engine.discard(first, None);
        assert_eq!(session.told(), ["2 columns 1", "2 row 2", "2 SELECT 1", "2 complete"]);
        session.assert_usable();
    }
}

#[test]
fn contract_2_a_result_or_an_end_that_nobody_wants_any_more_is_dropped() {
    let mut session = Session::with(config().max_in_flight(2));
    let number = session.submit_query("select rows 1", Submit::new(Delivery::Collect)).unwrap();
    session.turn();
    assert_eq!(session.told(), ["1 complete"]);
    session.engine.discard(session.tickets[number - 1], None);
    assert!(session.take(number).unwrap().is_none());
    // The ends of a group are told one by one.
    for discarded in [1, 0] {
        session.add("select rows 0");
        let first = session.last();
        session.add("select rows 0");
        let second = session.last();
        session.engine.end_group();
        session.turn();
        let last = session.tickets.len();
        while session.told_one().unwrap().unwrap() != format!("{last} SELECT 0") {}
        session.engine.discard([first, second][discarded], None);
        assert_eq!(session.told(), [format!("{} complete", last - discarded)]);
        session.assert_usable();
    }
    // Of a group that failed too.
    session.add("select rows 0");
    session.add("select run-error 0");
    let second = session.last();
    session.engine.end_group();
    session.turn();
    let last = session.tickets.len();
    while !session.told_one().unwrap().unwrap().ends_with("rolled back") {}
    session.engine.discard(second, None);
    session.assert_usable();
    assert_eq!(session.tickets.len(), last + 1);
}

#[test]
fn contract_2_what_is_drained_counts_against_the_limit() {
    let mut session = Session::with(config().max_in_flight(1));
    session.query("select rows 1");
    let first = session.last();
    session.send();
    session.engine.discard(first, None);
    let refused = session.submit_query("select rows 1", Submit::new(Delivery::Events));
    assert!(matches!(refused, Err(PgError::WouldBlock)));
    session.receive();
    session.assert_usable();
}

#[test]
fn contract_2_h46_a_row_of_another_shape_breaks_the_connection() {
    for delivery in DELIVERIES {
        for described_before in [false, true] {
            for cells in [0, 2, 100] {
                let mut session = Session::new();
                if described_before {
                    session.query("select rows 0");
                    session.turn();
                    session.told();
                }
                session.submit_query("select rows 0", Submit::new(delivery)).unwrap();
                let parses = tags(&session.send()).contains('P');
                assert_eq!(parses, !described_before);
                if parses {
                    session.hear(&[frames::parse_complete()]);
                }
                session.hear(&[frames::bind_complete()]);
                if parses {
                    let column = Column::text("tag").binary();
                    session.hear(&[frames::row_description(&[column])]);
                }
                let right = frames::data_row(&[Some(b"2")]);
                session.hear(&[right.clone(), right, frames::data_row(&vec![None; cells])]);
                let (lines, error) = session.told_to_the_end();
                assert!(
                    error.to_string().contains(&format!("{cells} cells, but 1 columns")),
                    "{delivery:?}: {error}"
                );
                assert_eq!(
                    lines.last().is_some_and(|line| line.ends_with("failed: protocol")),
                    delivery != Delivery::Discard,
                    "{lines:?}"
                );
                assert!(session.engine.broken().is_some());
            }
        }
    }
}

#[test]
fn contract_2_a_ready_for_query_before_the_sync_has_left_is_nobody_s_answer() {
    // Its rows have come, and the Sync is not sent to the last byte.
    for submitted_at_once in [true, false] {
        let mut session = Session::new();
        if submitted_at_once {
            session.query("select rows 0");
            let all = session.engine.send_pending().len();
            session.send_some(all - 1);
        } else {
            session.add("select rows 0");
            session.send();
            session.engine.end_group();
        }
        session.receive();
        session.hear(&[frames::ready_for_query(b'I')]);
        let (lines, error) = session.told_to_the_end();
        assert!(matches!(error, PgError::Protocol(_)), "{error}");
        assert_eq!(lines.last().unwrap(), "1 failed: protocol");
    }
}

#[test]
fn contract_6_the_transaction_status_is_what_the_server_said_last() {
    let mut session = Session::new();
    let status = |session: &Session| session.engine.session().transaction_status();
    assert_eq!(status(&session), TransactionStatus::Idle);
    let steps: [(&str, &str, TransactionStatus); 5] = [
        ("begin", "complete", TransactionStatus::InTransaction),
        ("select rows 1", "complete", TransactionStatus::InTransaction),
        ("select run-error 0", "failed: 22012", TransactionStatus::Failed),
        ("select rows 1", "failed: 25P02", TransactionStatus::Failed),
        ("rollback", "complete", TransactionStatus::Idle),
    ];
    for (number, (sql, end, after)) in (1..).zip(steps) {
        let before = status(&session);
        session.query(sql);
        session.send();
        let said = session.server.said();
        let ready = said.len() - frames::ready_for_query(b'I').len();
        feed(&mut session.engine, &said[..ready]);
        session.told();
        assert_eq!(status(&session), before, "{sql}: no tag and no error says it");
        feed(&mut session.engine, &said[ready..]);
        assert_eq!(session.told(), [format!("{number} {end}")]);
        assert_eq!(status(&session), after, "{sql}");
    }
    // Whatever the text and the tag.
    session.query("commit");
    session.engine.sent(session.engine.send_pending().len());
    session.hear(&[
        frames::parse_complete(),
        frames::bind_complete(),
        frames::no_data(),
        frames::command_complete("COMMIT"),
        frames::ready_for_query(b'T'),
    ]);
    session.told();
    assert_eq!(status(&session), TransactionStatus::InTransaction);
}

/// A way in which a connection breaks, and the error that tells it.
type Break = (fn(&mut Session), &'static str);

const BREAKS: [Break; 6] = [
    (|session| session.engine.hung_up(None), "closed"),
    (
        |session| session.engine.hung_up(Some(std::io::ErrorKind::ConnectionReset.into())),
        "ConnectionReset",
    ),
    (|session| session.hear(&[frames::authentication_ok()]), "protocol"),
    (|session| session.hear(&[frames::raw(b'D', 3, b"")]), "protocol"),
    (|session| session.hear(&[fatal("57P01")]), "57P01"),
    (|session| session.hear(&[frames::parameter_status("client_encoding", "LATIN1")]), "protocol"),
];

#[test]
fn contract_8_after_a_fatal_error_every_ticket_fails_and_nothing_is_sent() {
    for (breaks, end) in BREAKS {
        let mut session = Session::new();
        session.query("select rows 1");
        session.group(&["select rows 1", "select rows 1"]);
        session.send();
        let number = session.submit_query("select rows 1", Submit::new(Delivery::Collect)).unwrap();
        session.submit_query("select rows 1", Submit::new(Delivery::Discard)).unwrap();
        session.add("select rows 1");
        breaks(&mut session);
        let (lines, error) = session.told_to_the_end();
        assert_eq!(brief(&error), end);
        let sent = |number| format!("{number} failed: {end}");
        let unsent = |number| format!("{number} failed: not sent: {end}");
        assert_eq!(lines, [sent(1), sent(2), sent(3), unsent(4), unsent(6)]);
        assert_eq!(brief(&session.take(number).unwrap_err()), format!("not sent: {end}"));
        assert!(session.take(number).unwrap().is_none(), "once");

        session.engine.end_group();
        session.engine.terminate();
        session.engine.discard(session.last(), None);
        session.engine.handle_timeout(std::time::Instant::now());
        for submit in [Submit::new(Delivery::Events), Submit::new(Delivery::Discard).no_sync()] {
            let refused = session.submit_query("select rows 1", submit).unwrap_err();
            assert_eq!(brief(&refused), format!("not sent: {end}"));
            assert!(refused.is_safe_to_retry());
        }
        let engine = &mut session.engine;
        assert_eq!(engine.send_pending(), b"");
        assert_eq!(engine.interest(), Interest::default());
        assert_eq!((engine.in_flight(), engine.deadline()), (0, None));
        assert_eq!(engine.prepared_statements(), 0);
        assert!(engine.broken().is_some() && !engine.is_ready());
        assert_eq!(brief(&engine.next_event().unwrap_err()), end, "for good");
    }
}

#[test]
fn contract_8_a_message_over_the_limit_is_fatal_before_it_has_come() {
    const LIMIT: usize = 1 << 16;
    let mut session = Session::with(config().max_message_size(LIMIT));
    session.query("select rows 1");
    session.send();
    session.hear(&[frames::raw(b'D', i32::try_from(LIMIT).unwrap() + 5, b"")]);
    let (lines, error) = session.told_to_the_end();
    assert!(error.to_string().contains("max_message_size = 65536"), "{error}");
    assert_eq!(lines.len(), 1);
    // At the limit it is a message like any other.
    let mut session = Session::with(config().max_message_size(LIMIT));
    let channel = "c".repeat(LIMIT - 6);
    session.hear(&[frames::notification_response(7, &channel, "")]);
    assert_eq!(session.told(), ["notification "]);
    session.assert_usable();
}

#[test]
fn contract_8_h24_the_server_s_last_words_are_told_though_the_end_came_with_them() {
    for severity in ["FATAL", "PANIC"] {
        let words = [(b'S', severity), (b'V', severity), (b'C', "57P01"), (b'M', "going down")];
        for behind in [&[][..], b"garbage", b"Z\0\0\0\x05I"] {
            let mut session = Session::new();
            session.query("select rows 1");
            session.query("select rows 1");
            session.send();
            session.hear(&[frames::parse_complete(), frames::error_response(&words)]);
            feed(&mut session.engine, behind);
            session.engine.hung_up(Some(std::io::ErrorKind::ConnectionReset.into()));
            let (lines, error) = session.told_to_the_end();
            assert_eq!(lines, ["1 failed: 57P01", "2 failed: 57P01"]);
            assert_eq!(error.to_string(), format!("{severity}: 57P01: going down"));
        }
        // While nothing is asked, and while a group is open.
        let mut session = Session::new();
        session.hear(&[frames::error_response(&words)]);
        assert_eq!(brief(&session.told_to_the_end().1), "57P01");
        let mut session = Session::new();
        session.add("select rows 0");
        session.turn();
        session.told();
        session.hear(&[frames::error_response(&words)]);
        assert_eq!(session.told_to_the_end().0, ["1 failed: 57P01"]);
    }
}

#[test]
fn contract_8_an_error_is_not_fatal_and_what_was_received_before_the_end_counts() {
    let mut session = Session::new();
    session.query("select run-error 0");
    session.query("select rows 1");
    session.turn();
    session.engine.hung_up(None);
    let (lines, error) = session.told_to_the_end();
    assert_eq!(lines[1..].last().unwrap(), "2 complete", "{lines:?}");
    assert_eq!(lines[1], "1 failed: 22012");
    assert_eq!(brief(&error), "closed");
}

/// What `select noisy 2` is accompanied by.
const NOISE: [&str; 6] = [
    "notice 0",
    "notification 0",
    "parameter application_name = 0",
    "notice 1",
    "notification 1",
    "parameter application_name = 1",
];

#[test]
fn contract_9_h15_messages_come_in_order_among_the_rows() {
    let mut session = Session::new();
    session.query("select noisy 2");
    session.turn();
    let mut expected = vec!["1 columns 1"];
    expected.extend(&NOISE[..3]);
    expected.push("1 row 1");
    expected.extend(&NOISE[3..]);
    expected.extend(["1 row 1", "1 SELECT 2", "1 complete"]);
    assert_eq!(session.told(), expected);
    assert_eq!(session.engine.session().parameter("application_name"), Some("1"));
    session.assert_usable();
}

#[test]
fn contract_9_h15_messages_are_told_whoever_wants_the_answer() {
    for delivery in [Delivery::Collect, Delivery::Discard] {
        let mut session = Session::new();
        session.submit_query("select noisy 2", Submit::new(delivery)).unwrap();
        session.turn();
        let lines = session.told();
        assert_eq!(lines[..6], NOISE, "{delivery:?}");
        assert_eq!(lines.len() == 7, delivery == Delivery::Collect);
    }
}

#[test]
fn contract_9_h15_messages_are_told_between_any_two_messages() {
    let noise = |number: usize| {
        let text = number.to_string();
        let notice = [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', text.as_str())];
        frames::notice_response(&notice)
    };
    // Rows, an error and what is skipped behind it, an error at the Sync, a COPY that is dropped.
    for texts in [
        ["select rows 2", "select rows 1"],
        ["select run-error 1", "select rows 1"],
        ["select rows 1", "select deferred"],
        ["copy-out", "select rows 1"],
    ] {
        let mut quiet = Session::new();
        quiet.group(&texts);
        quiet.turn();
        let expected = quiet.told();

        let mut session = Session::new();
        session.group(&texts);
        session.send();
        let mut said = FrameBuffer::new();
        said.push(&session.server.said());
        let mut notices = 0;
        session.hear(&[noise(0)]);
        while let Some(frame) = said.take_frame().unwrap() {
            notices += 1;
            session.hear(&[frame.to_bytes(), noise(notices)]);
        }
        let (told, rest): (Vec<_>, Vec<_>) =
            session.told().into_iter().partition(|line| line.starts_with("notice"));
        let all: Vec<_> = (0..=notices).map(|number| format!("notice {number}")).collect();
        assert_eq!(told, all, "{texts:?}");
        assert_eq!(rest, expected);
        session.assert_usable();
    }
}

#[test]
fn contract_9_messages_before_the_break_are_told() {
    let mut session = Session::new();
    session.hear(&[frames::notification_response(7, "jobs", "last"), fatal("57P01")]);
    session.engine.hung_up(None);
    let (lines, error) = session.told_to_the_end();
    assert_eq!((lines, brief(&error)), (vec!["notification last".to_owned()], "57P01".to_owned()));
}

#[test]
fn h48_a_copy_that_nobody_saw_coming_fails_alone() {
    let mut session = Session::new();
    session.query("copy-in");
    let first = session.engine.send_pending().len();
    session.query("select rows 1");
    session.send_some(first);
    session.receive();
    session.told();
    let sent = session.send();
    assert_eq!(tags(&sent)[..2], *"fS", "CopyFail and Sync before what waited");
    session.receive();
    let lines = session.told();
    assert_eq!(lines.first().unwrap(), "1 failed: usage", "{lines:?}");
    assert_eq!(lines.last().unwrap(), "2 complete");
    session.assert_usable();
}

#[test]
fn h48_a_copy_inside_an_open_group_fails_the_group_and_nothing_else() {
    // The Sync of the group is still to come: the server must not get another one.
    for behind in [0, 2] {
        let mut session = Session::new();
        session.add("select rows 0");
        session.add("copy-in");
        session.send();
        for _ in 0..behind {
            session.add("select rows 1");
        }
        session.receive();
        session.told();
        session.turn();
        session.engine.end_group();
        session.turn();
        let mut expected = vec!["1 failed: rolled back".to_owned(), "2 failed: usage".to_owned()];
        expected.extend((0..behind).map(|index| format!("{} failed: not run: usage", 3 + index)));
        assert_eq!(session.told(), expected);
        session.assert_usable();
    }
}

#[test]
fn h48_a_copy_out_inside_a_group_fails_alone() {
    for at in 0..3 {
        let mut session = Session::new();
        let mut texts = ["select rows 1"; 3];
        texts[at] = "copy-out";
        session.group(&texts);
        session.turn();
        let ends: Vec<_> = session.told();
        let ends: Vec<_> =
            ends.iter().filter(|l| l.ends_with("complete") || l.contains("failed")).collect();
        let end = |index| if index == at { "failed: usage" } else { "complete" };
        let expected: Vec<_> =
            (0..3).map(|index| format!("{} {}", index + 1, end(index))).collect();
        assert_eq!(ends, expected.iter().collect::<Vec<_>>());
        session.assert_usable();
    }
    // Undone by an error behind it, it was refused all the same; its own error is the group's.
    let mut session = Session::new();
    session.group(&["copy-out", "select run-error 0"]);
    session.turn();
    let lines = session.told();
    assert_eq!(lines[lines.len() - 2..], ["1 failed: rolled back", "2 failed: 22012"]);
    session.assert_usable();
}

#[test]
fn h48_a_copy_in_with_something_sent_behind_it_breaks_the_connection() {
    // What was sent went into the data: nothing is certain any more.
    let mut session = Session::new();
    session.query("copy-in");
    session.query("select rows 1");
    session.send();
    session.receive();
    let (lines, error) = session.told_to_the_end();
    assert_eq!(lines, ["1 failed: protocol", "2 failed: protocol"]);
    assert!(error.to_string().contains("the requests behind it are lost"), "{error}");
}
