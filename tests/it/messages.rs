//! Malformed messages and the connection that meets them: an error, and neither a panic, a hang nor
//! an allocation that only a declared length asked for.

use std::time::{Duration, Instant};

use chopin_pg::engine::{
    Deadline, Delivery, Encryption, Engine, Interest, Request, Submit, TransportAction,
};
use chopin_pg::{PgConfig, PgError};
use rand::{Rng, SeedableRng, rngs::StdRng};
use testkit::frames::{self, Column};
use testkit::transport::{cuts, flips, prefixes};

use crate::support::{feed, send_all};

/// An engine that has logged in.
fn engine() -> Engine {
    let config = PgConfig::new("localhost", 5432, "frederic", "secret", "music");
    let mut engine = Engine::start(&config, Encryption::None, None).unwrap();
    send_all(&mut engine);
    feed(&mut engine, &frames::authentication_ok());
    feed(&mut engine, &frames::backend_key_data(1, &[1; 4]));
    feed(&mut engine, &frames::ready_for_query(b'I'));
    events(&mut engine).unwrap();
    assert!(engine.is_ready());
    engine
}

/// All events, as text.
fn events(engine: &mut Engine) -> Result<Vec<String>, PgError> {
    let mut all = Vec::new();
    while let Some(event) = engine.next_event()? {
        all.push(format!("{event:?}"));
    }
    Ok(all)
}

/// An engine in the middle of each kind of exchange: before, inside and behind the rows.
fn engines_in_exchange() -> Vec<(&'static str, Engine)> {
    let columns = [Column::int4("a").binary()];
    let mut list = vec![("idle", engine())];
    let mut add = |name, request: Request<'_>, bytes: &[Vec<u8>]| {
        let mut engine = engine();
        let delivery = match request {
            Request::Prepare { .. } => Delivery::Collect,
            _ => Delivery::Events,
        };
        let _ = engine.submit(request, Submit::new(delivery).deadline(None)).unwrap();
        send_all(&mut engine);
        bytes.iter().for_each(|bytes| feed(&mut engine, bytes));
        events(&mut engine).unwrap();
        list.push((name, engine));
    };
    let params: [i32; 0] = [];
    let query = Request::Query { sql: "select 1", params: &params };
    add("query", query, &[]);
    add("parsed", query, &[frames::parse_complete()]);
    let described =
        [frames::parse_complete(), frames::bind_complete(), frames::row_description(&columns)];
    add("rows", query, &described);
    let simple = Request::Simple { sql: "select 1" };
    add("simple", simple, &[]);
    add("simple rows", simple, &[frames::row_description(&columns)]);
    add("prepare", Request::Prepare { sql: "select 1", types: &[] }, &[frames::parse_complete()]);
    add("sync", Request::Sync, &[]);
    let copy_in = Request::CopyIn { sql: "copy t from stdin" };
    add("copy in", copy_in, &[]);
    add("copy in begun", copy_in, &[frames::copy_in_response(0, &[0])]);
    let copy_out = Request::CopyOut { sql: "copy t to stdout" };
    let begun = frames::copy_out_response(0, &[0]);
    add("copy out", copy_out, &[]);
    add("copy out begun", copy_out, std::slice::from_ref(&begun));
    add("copy out data", copy_out, &[begun.clone(), frames::copy_data(b"1\n")]);
    add("copy out done", copy_out, &[begun, frames::copy_done()]);
    list
}

#[test]
fn h18_every_message_in_every_state_is_taken_or_breaks_the_connection() {
    for (name, sample) in frames::samples() {
        for (state, mut engine) in engines_in_exchange() {
            feed(&mut engine, &sample);
            match events(&mut engine) {
                Ok(_) => assert!(engine.broken().is_none(), "{name} while {state}"),
                Err(error) => {
                    assert!(
                        matches!(error, PgError::Protocol(_) | PgError::Server(_)),
                        "{name} while {state}: {error}"
                    );
                    assert!(engine.broken().is_some());
                }
            }
        }
    }
}

#[test]
fn h18_every_flipped_byte_in_every_state_is_survived() {
    for (name, sample) in frames::samples() {
        let states = engines_in_exchange().len();
        for (index, flip) in flips(&sample).enumerate() {
            let (state, mut engine) = engines_in_exchange().swap_remove(index % states);
            feed(&mut engine, &flip.bytes);
            if let Err(error) = events(&mut engine) {
                assert!(engine.broken().is_some(), "{name} while {state}: {error}");
            }
        }
    }
}

#[test]
fn h18_h25_an_end_at_every_byte_of_every_sample_is_told_once() {
    for (_, sample) in frames::samples() {
        for prefix in prefixes(&sample) {
            let mut engine = engine();
            let ticket = engine
                .submit(Request::Sync, Submit::new(Delivery::Collect).deadline(None))
                .unwrap();
            send_all(&mut engine);
            feed(&mut engine, prefix);
            engine.hung_up(None);
            let mut terminal = 0;
            loop {
                match engine.next_event() {
                    Ok(Some(event)) => {
                        let event = format!("{event:?}");
                        terminal += usize::from(
                            event.starts_with("Complete") || event.starts_with("Failed"),
                        );
                    }
                    Ok(None) => panic!("the end was not told"),
                    Err(_) => break,
                }
            }
            assert_eq!(terminal, 1, "every ticket gets one terminal event");
            let _ = engine.take(ticket);
            assert!(matches!(
                engine.submit(Request::Sync, Submit::new(Delivery::Collect).deadline(None)),
                Err(PgError::NotSent(_))
            ));
        }
    }
}

#[test]
fn h18_random_messages_are_survived() {
    let mut random = StdRng::seed_from_u64(1810);
    let tags: Vec<u8> = frames::samples().iter().map(|(_, sample)| sample[0]).collect();
    for _ in 0..2_000 {
        let (_, mut engine) = engines_in_exchange().swap_remove(random.random_range(0..8));
        for _ in 0..50 {
            let mut body = vec![0; random.random_range(0..40)];
            random.fill(&mut body[..]);
            let tag = tags[random.random_range(0..tags.len())];
            feed(&mut engine, &frames::message(tag, &body));
            if events(&mut engine).is_err() {
                break;
            }
        }
    }
}

#[test]
fn h18_a_declared_length_allocates_nothing() {
    let mut engine = engine();
    let _ = engine.submit(Request::Sync, Submit::new(Delivery::Collect).deadline(None)).unwrap();
    // A message that claims almost a GiB, of which a few bytes come.
    feed(&mut engine, &frames::raw(b'N', (1 << 30) - 2, b"SERROR"));
    assert!(events(&mut engine).unwrap().is_empty());
    assert!(engine.recv_space().len() <= 16 * 1024, "the buffer grows with what came");
    // Counts inside a message claim what is not there.
    for body in [&b"\x7f\xff"[..], b"\x7f\xff\0\0\0\x01a", b"\xff\xff"] {
        for tag in [b'D', b'T', b't'] {
            let mut engine = engine_in_rows(tag);
            feed(&mut engine, &frames::message(tag, body));
            assert!(events(&mut engine).is_err());
        }
    }
}

/// An engine that takes a message with this tag next.
fn engine_in_rows(tag: u8) -> Engine {
    let state = match tag {
        b'D' => "rows",
        b'T' => "simple",
        _ => "prepare",
    };
    engines_in_exchange().into_iter().find(|(name, _)| *name == state).unwrap().1
}

#[test]
fn bytes_in_any_pieces_give_the_same_events() {
    let columns = [Column::int4("a").binary(), Column::text("b")];
    let row = |n: i32| frames::data_row(&[Some(&n.to_be_bytes()), (n % 2 == 0).then_some(b"even")]);
    let mut answer: Vec<u8> = [
        frames::parse_complete(),
        frames::notice_response(&[
            (b'S', "NOTICE"),
            (b'V', "NOTICE"),
            (b'C', "00000"),
            (b'M', "n"),
        ]),
        frames::bind_complete(),
        frames::parameter_status("TimeZone", "UTC"),
        frames::row_description(&columns),
    ]
    .concat();
    (0..20).for_each(|n| answer.extend(row(n)));
    answer.extend(frames::notification_response(7, "c", "p"));
    answer.extend(frames::command_complete("SELECT 20"));
    answer.extend(frames::ready_for_query(b'T'));

    let play = |pieces: &[&[u8]]| {
        let mut engine = engine();
        let params: [i32; 0] = [];
        let request = Request::Query { sql: "select", params: &params };
        let _ = engine.submit(request, Submit::new(Delivery::Events).deadline(None)).unwrap();
        send_all(&mut engine);
        let mut all = Vec::new();
        for piece in pieces {
            feed(&mut engine, piece);
            all.extend(events(&mut engine).unwrap());
        }
        all
    };
    let whole = play(&[&answer]);
    assert_eq!(whole.len(), 1 + 1 + 1 + 20 + 1 + 1 + 1);
    let bytes: Vec<&[u8]> = answer.chunks(1).collect();
    assert_eq!(play(&bytes), whole);
    for pieces in cuts(&answer, 1835, 300) {
        assert_eq!(play(&pieces), whole);
    }
}

#[test]
fn s10_11_a_streamed_cell_is_read_where_it_arrived() {
    let mut engine = engine();
    let request = Request::Simple { sql: "select" };
    let _ = engine.submit(request, Submit::new(Delivery::Events).deadline(None)).unwrap();
    send_all(&mut engine);
    let place = engine.recv_space().as_ptr_range();
    feed(&mut engine, &frames::row_description(&[Column::text("a")]));
    feed(&mut engine, &frames::data_row(&[Some(b"nocturne")]));
    let mut seen = false;
    while let Some(event) = engine.next_event().unwrap() {
        if let chopin_pg::engine::Event::Row { row, .. } = event {
            let text: &str = row.get("a").unwrap();
            assert_eq!(text, "nocturne");
            assert!(place.contains(&text.as_ptr()), "borrowed from the receive buffer");
            seen = true;
        }
    }
    assert!(seen);
}

#[test]
fn a_discarded_request_is_taken_back_or_drained() {
    let mut engine = engine();
    let first = engine
        .submit(Request::Simple { sql: "first" }, Submit::new(Delivery::Events).deadline(None))
        .unwrap();
    send_all(&mut engine);
    let second = engine
        .submit(Request::Simple { sql: "second" }, Submit::new(Delivery::Events).deadline(None))
        .unwrap();
    let third = engine
        .submit(Request::Simple { sql: "third" }, Submit::new(Delivery::Events).deadline(None))
        .unwrap();
    engine.discard(second, None);
    assert_eq!(engine.in_flight(), 2);
    assert_eq!(engine.send_pending(), b"Q\0\0\0\x0athird\0", "the second leaves no byte behind");
    engine.discard(first, None);
    assert_eq!(engine.in_flight(), 2, "what was sent is drained");
    feed(&mut engine, &frames::command_complete("FIRST"));
    feed(&mut engine, &frames::ready_for_query(b'I'));
    assert!(events(&mut engine).unwrap().is_empty());
    send_all(&mut engine);
    feed(&mut engine, &frames::command_complete("THIRD"));
    feed(&mut engine, &frames::ready_for_query(b'I'));
    let told = events(&mut engine).unwrap();
    assert_eq!(told.len(), 2);
    assert!(told[0].contains("THIRD") && told[1] == format!("Complete {{ ticket: {third:?} }}"));
}

#[test]
fn the_engine_reads_no_clock() {
    let now = Instant::now();
    let far = Deadline::after(now, "io_timeout", Duration::from_secs(3600)).unwrap();
    let mut engine = engine();
    let ticket =
        engine.submit(Request::Sync, Submit::new(Delivery::Collect).deadline(Some(far))).unwrap();
    send_all(&mut engine);
    assert_eq!(engine.deadline(), Some(far.at));
    engine.handle_timeout(now);
    assert!(events(&mut engine).unwrap().is_empty());
    // An hour later, if the caller says so.
    engine.handle_timeout(far.at);
    let error = engine.take(ticket).unwrap_err();
    assert!(error.to_string().contains("io_timeout = 3600 s"), "{error}");
    feed(&mut engine, &frames::ready_for_query(b'I'));
    assert_eq!(
        events(&mut engine).unwrap().len(),
        1,
        "the failure alone; the late answer is drained"
    );
    assert_eq!((engine.in_flight(), engine.deadline()), (0, None));
}

#[test]
fn reading_is_wanted_until_events_wait_and_always_inside_a_message() {
    let mut engine = engine();
    let ticket = engine
        .submit(Request::Simple { sql: "x" }, Submit::new(Delivery::Events).deadline(None))
        .unwrap();
    send_all(&mut engine);
    feed(&mut engine, &frames::row_description(&[Column::text("a")]));
    let row = frames::data_row(&[Some(&[b'x'; 200_000])]);
    feed(&mut engine, &row[..150_000]);
    assert_eq!(events(&mut engine).unwrap().len(), 1, "the columns");
    assert!(engine.interest().read, "the rest of a message is wanted, however long it is");
    feed(&mut engine, &row[150_000..]);
    assert!(!engine.interest().read, "an event that nobody has taken fills the buffer");
    assert!(events(&mut engine).unwrap()[0].starts_with(&format!("Row {{ ticket: {ticket:?}")));
    assert!(engine.interest().read);
}

#[test]
fn h37_an_engine_shows_no_bytes() {
    let config = PgConfig::new("localhost", 5432, "frederic", "hunter2", "music");
    let mut engine = Engine::start(&config, Encryption::None, None).unwrap();
    feed(&mut engine, &frames::authentication_cleartext_password());
    assert!(events(&mut engine).unwrap().is_empty());
    assert!(engine.send_pending().ends_with(b"hunter2\0"));
    feed(&mut engine, &frames::backend_key_data(1, b"hunter3!"));
    let shown = format!("{engine:?}");
    for secret in ["hunter2", "hunter3", &format!("{:?}", b"hunter2")[1..10]] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn tls_is_asked_for_first_and_plaintext_behind_the_answer_is_refused() {
    let config = PgConfig::new("localhost", 5432, "frederic", "hunter2", "music");
    let start = |encryption| {
        let mut engine = Engine::start(&config, encryption, None).unwrap();
        assert_eq!(send_all(&mut engine), b"\0\0\0\x08\x04\xd2\x16\x2f");
        engine
    };
    // Agreed: the transport's turn, then the StartupMessage.
    let mut engine = start(Encryption::Required);
    feed(&mut engine, b"S");
    assert!(events(&mut engine).unwrap().is_empty());
    assert_eq!(engine.transport_action(), Some(TransportAction::StartTls));
    assert_eq!(engine.interest(), Interest::default(), "the socket is the transport's now");
    engine.tls_started(None);
    assert_eq!(engine.transport_action(), None);
    assert!(send_all(&mut engine).windows(8).any(|bytes| bytes == b"frederic"));
    feed(&mut engine, &frames::authentication_ok());
    feed(&mut engine, &frames::ready_for_query(b'I'));
    assert_eq!(events(&mut engine).unwrap(), ["Ready"]);

    // Plaintext behind the S, at once or during the handshake.
    for late in [false, true] {
        let mut engine = start(Encryption::Required);
        feed(&mut engine, b"S");
        if late {
            assert!(events(&mut engine).unwrap().is_empty());
        }
        feed(&mut engine, &frames::authentication_cleartext_password());
        engine.tls_started(None);
        assert!(matches!(events(&mut engine), Err(PgError::Protocol(_))));
        assert!(engine.send_pending().is_empty(), "no password leaves");
    }

    // Not to be had.
    let mut engine = start(Encryption::Preferred);
    feed(&mut engine, b"N");
    assert!(events(&mut engine).unwrap().is_empty());
    assert!(send_all(&mut engine).windows(8).any(|bytes| bytes == b"frederic"));
    let mut engine = start(Encryption::Required);
    feed(&mut engine, b"N");
    assert!(events(&mut engine).unwrap_err().to_string().contains("does not support TLS"));
    let mut engine = start(Encryption::Preferred);
    feed(&mut engine, &frames::error_response(&[(b'S', "FATAL"), (b'C', "57P03"), (b'M', "lies")]));
    assert!(!events(&mut engine).unwrap_err().to_string().contains("lies"));
}

#[test]
fn a_drain_ends_whatever_waits_behind_it() {
    let now = Instant::now();
    let soon = Deadline::after(now, "io_timeout", Duration::from_secs(1)).unwrap();
    let mut engine = engine();
    let _ =
        engine.submit(Request::Sync, Submit::new(Delivery::Collect).deadline(Some(soon))).unwrap();
    send_all(&mut engine);
    engine.handle_timeout(soon.at);
    // A dropped handle queues its ROLLBACK: nobody wants the answer, and it is not sent yet.
    let rollback = Request::Simple { sql: "rollback" };
    let _ = engine.submit(rollback, Submit::new(Delivery::Discard).deadline(None)).unwrap();
    assert!(engine.send_pending().is_empty());
    feed(&mut engine, &frames::ready_for_query(b'I'));
    events(&mut engine).unwrap();
    assert!(!engine.send_pending().is_empty(), "the late answer came; sending goes on");
    assert_eq!(engine.deadline(), None);
}

#[test]
fn ready_for_query_alone_answers_no_query() {
    let mut engine = engine();
    let _ = engine
        .submit(Request::Simple { sql: "select 1" }, Submit::new(Delivery::Collect).deadline(None))
        .unwrap();
    send_all(&mut engine);
    feed(&mut engine, &frames::ready_for_query(b'I'));
    assert!(matches!(events(&mut engine), Err(PgError::Protocol(_))));
}

#[test]
fn a_fatal_error_is_blamed_on_the_request_that_met_it() {
    let mut engine = engine();
    let tickets = ["first", "second", "third"].map(|sql| {
        let ticket = engine
            .submit(Request::Simple { sql }, Submit::new(Delivery::Collect).deadline(None))
            .unwrap();
        if sql != "third" {
            send_all(&mut engine);
        }
        ticket
    });
    let fatal = [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "57P01"), (b'M', "going down")];
    feed(&mut engine, &frames::error_response(&fatal));
    assert!(events(&mut engine).is_err());
    let errors = tickets.map(|ticket| engine.take(ticket).unwrap_err());
    let query = |error: &PgError| error.as_server().unwrap().query.as_deref().map(str::to_owned);
    assert_eq!(query(&errors[0]).as_deref(), Some("first"));
    assert_eq!(query(&errors[1]), None, "sent, and not to blame");
    assert!(matches!(errors[2], PgError::NotSent(_)));
    assert_eq!(query(&errors[2]), None);
    // An error of its own is not covered by the end of the session.
    let mut engine = crate::messages::engine();
    let ticket = engine
        .submit(Request::Simple { sql: "x" }, Submit::new(Delivery::Collect).deadline(None))
        .unwrap();
    send_all(&mut engine);
    let own = [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', "22012"), (b'M', "division by zero")];
    feed(&mut engine, &frames::error_response(&own));
    feed(&mut engine, &frames::error_response(&fatal));
    assert!(events(&mut engine).is_err());
    assert!(engine.take(ticket).unwrap_err().to_string().contains("22012"));
}

#[test]
fn after_terminate_nothing_is_taken_and_every_ticket_is_told() {
    let mut engine = engine();
    let sent = engine.submit(Request::Sync, Submit::new(Delivery::Collect).deadline(None)).unwrap();
    send_all(&mut engine);
    let unsent =
        engine.submit(Request::Sync, Submit::new(Delivery::Collect).deadline(None)).unwrap();
    engine.terminate();
    assert_eq!(engine.send_pending(), b"X\0\0\0\x04");
    assert!(matches!(engine.take(unsent), Err(PgError::NotSent(_))));
    let refused = engine.submit(Request::Sync, Submit::new(Delivery::Collect).deadline(None));
    assert!(matches!(refused, Err(PgError::NotSent(_))));
    engine.discard(unsent, None);
    engine.hung_up(None);
    assert!(events(&mut engine).is_err());
    assert!(matches!(engine.take(sent), Err(PgError::ConnectionClosed(_))));
}

#[test]
fn a_statement_that_is_parsed_but_not_described_is_closed() {
    let mut engine = engine();
    let prepare = Request::Prepare { sql: "select 1", types: &[] };
    let ticket = engine.submit(prepare, Submit::new(Delivery::Collect).deadline(None)).unwrap();
    let sent = send_all(&mut engine);
    let name = sent[5..].split(|byte| *byte == 0).next().unwrap().to_vec();
    feed(&mut engine, &frames::parse_complete());
    let error = [(b'S', "ERROR"), (b'V', "ERROR"), (b'C', "57014"), (b'M', "canceled")];
    feed(&mut engine, &frames::error_response(&error));
    feed(&mut engine, &frames::ready_for_query(b'I'));
    events(&mut engine).unwrap();
    assert!(engine.take(ticket).is_err());
    let _ = engine.submit(Request::Sync, Submit::new(Delivery::Collect).deadline(None)).unwrap();
    let close =
        [b"C\0\0\0".as_slice(), &[u8::try_from(name.len() + 6).unwrap()], b"S", &name, b"\0"];
    assert!(send_all(&mut engine).starts_with(&close.concat()));
    // The same when the group that closes fails before it gets there.
    feed(&mut engine, &frames::error_response(&error));
    feed(&mut engine, &frames::ready_for_query(b'I'));
    events(&mut engine).unwrap();
    let _ = engine.submit(Request::Sync, Submit::new(Delivery::Collect).deadline(None)).unwrap();
    assert!(send_all(&mut engine).starts_with(&close.concat()));
}

#[test]
fn an_answer_before_the_question_is_out_of_place() {
    let mut engine = engine();
    let ticket =
        engine.submit(Request::Sync, Submit::new(Delivery::Collect).deadline(None)).unwrap();
    feed(&mut engine, &frames::ready_for_query(b'I'));
    assert!(matches!(events(&mut engine), Err(PgError::Protocol(_))));
    assert!(matches!(engine.take(ticket), Err(PgError::NotSent(_))));
    assert!(engine.send_pending().is_empty(), "nothing of it leaves any more");
}

#[test]
fn a_broken_engine_has_no_deadline() {
    let config = PgConfig::new("localhost", 5432, "frederic", "secret", "music");
    let soon = Deadline::after(Instant::now(), "connect_timeout", Duration::from_secs(1));
    let mut engine = Engine::start(&config, Encryption::None, soon).unwrap();
    engine.handle_timeout(soon.unwrap().at);
    assert!(matches!(events(&mut engine), Err(PgError::Timeout(_))));
    assert_eq!(engine.deadline(), None);
}

#[test]
fn before_the_login_is_over_nothing_is_believed() {
    for early in
        [frames::parameter_status("TimeZone", "UTC"), frames::notification_response(1, "c", "p")]
    {
        let config = PgConfig::new("localhost", 5432, "frederic", "secret", "music");
        let mut engine = Engine::start(&config, Encryption::None, None).unwrap();
        feed(&mut engine, &early);
        assert!(matches!(events(&mut engine), Err(PgError::Protocol(_))));
        assert_eq!(engine.session().parameter("TimeZone"), None);
    }
}
