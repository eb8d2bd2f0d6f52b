//! Every message, byte for byte; every malformed one, without a panic.

use super::backend::{Authentication, Field, TransactionStatus, tag};
use super::frame::{self, Front, HEADER, MAX_MESSAGE_SIZE};
use super::frontend::{self, Bound, MAX_PARAMETERS, Target, Unwritable};
use super::{Backend, Frame, Malformed};

/// What a message is, in numbers: parses all of it, lists included.
fn read_whole(frame: Frame<'_>) -> Result<usize, Malformed> {
    fn count<T>(list: impl Iterator<Item = Result<T, Malformed>>) -> Result<usize, Malformed> {
        list.map(|item| item.map(|_| 1)).sum()
    }
    match Backend::parse(frame)? {
        Backend::Authentication(Authentication::Sasl(mechanisms)) => count(mechanisms),
        Backend::CopyInResponse(copy)
        | Backend::CopyOutResponse(copy)
        | Backend::CopyBothResponse(copy) => count(copy.columns),
        Backend::DataRow(cells) => count(cells),
        Backend::NegotiateProtocolVersion { options, .. } => count(options),
        Backend::ParameterDescription(types) => count(types),
        Backend::RowDescription(fields) => count(fields),
        _ => Ok(1),
    }
}

/// Reads all messages at the front of `bytes`; the number of those that were whole and well-formed.
fn read_all(mut bytes: &[u8]) -> Result<usize, Malformed> {
    let mut messages = 0;
    while let Front::Whole(frame, size) = frame::next(bytes, MAX_MESSAGE_SIZE)? {
        read_whole(frame)?;
        messages += 1;
        bytes = bytes.get(size..).unwrap_or_default();
    }
    Ok(messages)
}

#[test]
fn s8_3e_every_backend_message_is_known_by_its_tag() {
    let samples = testkit::frames::samples();
    for (tag, name) in Backend::MESSAGES {
        assert_eq!(Backend::name(*tag), Some(*name));
        assert!(
            samples.iter().any(|(_, sample)| sample.first() == Some(tag)),
            "there is no sample of {name}: add one to testkit's frames::samples"
        );
    }
    for (name, sample) in &samples {
        let known = sample.first().and_then(|tag| Backend::name(*tag));
        assert!(known.is_some_and(|known| name.starts_with(known)), "{name} is not in MESSAGES");
    }
    let known = |tag| Backend::MESSAGES.iter().any(|(known, _)| *known == tag);
    for unknown in (0..=u8::MAX).filter(|tag| !known(*tag)) {
        assert!(Backend::parse(Frame { tag: unknown, body: b"" }).is_err());
    }
}

#[test]
fn s8_2_every_sample_is_read_whole() {
    for (name, sample) in testkit::frames::samples() {
        assert_eq!(read_all(&sample), Ok(1), "{name}");
    }
    let all: Vec<u8> =
        testkit::frames::samples().into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(read_all(&all), Ok(testkit::frames::samples().len()));
}

#[test]
fn h18_every_prefix_of_every_sample_is_incomplete() {
    for (name, sample) in testkit::frames::samples() {
        for prefix in
            testkit::transport::prefixes(&sample).filter(|prefix| prefix.len() < sample.len())
        {
            match frame::next(prefix, MAX_MESSAGE_SIZE) {
                Ok(Front::Incomplete { needs }) => {
                    let known = if prefix.len() < HEADER { HEADER } else { sample.len() };
                    assert_eq!(needs, known, "{name}, {} bytes", prefix.len());
                }
                other => panic!("{name}, {} bytes: {other:?}", prefix.len()),
            }
        }
    }
}

#[test]
fn h18_every_shortened_body_of_every_sample_is_an_error_or_another_message() {
    for (name, sample) in testkit::frames::samples() {
        let (Some(&tag), Some(body)) = (sample.first(), sample.get(HEADER..)) else {
            panic!("{name} has no header");
        };
        for cut in 0..body.len() {
            // The length says what is there, but the body ends too early.
            let frame = Frame { tag, body: body.get(..cut).unwrap_or_default() };
            let read = read_whole(frame);
            // These end with bytes of any number; all others have a structure that the cut
            // destroys.
            let free = name.contains("CopyData")
                || name.contains("GSSContinue")
                || name.contains("SASLContinue")
                || name.contains("SASLFinal")
                || name.contains("Response")
                    && matches!(tag, tag::ERROR_RESPONSE | tag::NOTICE_RESPONSE)
                || name.contains("BackendKeyData")
                || name.contains("Unknown");
            assert!(read.is_err() || free, "{name} cut to {cut} bytes is {read:?}");
        }
        let long: Vec<u8> = body.iter().copied().chain([0]).collect();
        let _ = read_whole(Frame { tag, body: &long });
    }
}

#[test]
fn h18_every_flipped_byte_of_every_sample_is_read_without_a_panic() {
    for (_, sample) in testkit::frames::samples() {
        for flip in testkit::transport::flips(&sample) {
            let _ = read_all(&flip.bytes);
        }
    }
}

#[test]
fn h18_random_bytes_are_read_without_a_panic() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let mut random = StdRng::seed_from_u64(18);
    let mut bytes = [0u8; 64];
    for round in 0..100_000u32 {
        random.fill(&mut bytes[..]);
        let (tag, _) = Backend::MESSAGES[round as usize % Backend::MESSAGES.len()];
        let length = random.random_range(0..60usize);
        let body = bytes.get(..length).unwrap_or_default();
        let _ = read_whole(Frame { tag, body });
        let _ = read_all(&bytes);
    }
}

#[test]
fn h18_lengths_are_checked_before_anything_is_read() {
    for declared in [i32::MIN, -1, 0, 3] {
        let message = testkit::frames::raw(b'Z', declared, b"I");
        assert_eq!(
            frame::next(&message, MAX_MESSAGE_SIZE).unwrap_err().to_string(),
            "malformed message header: its length is below 4"
        );
    }
    let message = testkit::frames::raw(b'D', i32::MAX, b"");
    let too_long = Front::TooLong { declared: (1 << 31) - 5 };
    assert_eq!(frame::next(&message, MAX_MESSAGE_SIZE), Ok(too_long));
}

#[test]
fn h17_the_limit_is_one_of_the_body() {
    assert_eq!(
        frame::next(b"Z\0\0\0\x05I", 1),
        Ok(Front::Whole(Frame { tag: b'Z', body: b"I" }, 6))
    );
    assert_eq!(frame::next(b"Z\0\0\0\x05I", 0), Ok(Front::TooLong { declared: 1 }));
    assert_eq!(frame::next(b"Z\0\0\0\x05", 0), Ok(Front::TooLong { declared: 1 }));
    assert_eq!(frame::next(b"1\0\0\0\x04", 0), Ok(Front::Whole(Frame { tag: b'1', body: b"" }, 5)));
}

#[test]
fn h17_the_longest_message_of_a_server_passes_at_the_default() {
    let declaring = |body: usize| testkit::frames::raw(b'D', i32::try_from(body + 4).unwrap(), b"");
    assert_eq!(
        frame::next(&declaring(MAX_MESSAGE_SIZE), MAX_MESSAGE_SIZE),
        Ok(Front::Incomplete { needs: MAX_MESSAGE_SIZE + HEADER })
    );
    assert_eq!(
        frame::next(&declaring(MAX_MESSAGE_SIZE + 1), MAX_MESSAGE_SIZE),
        Ok(Front::TooLong { declared: 1 << 30 })
    );
}

#[test]
fn s8_2_backend_messages_mean_what_they_say() {
    use testkit::frames::{self, Column};
    let parse = |bytes: &[u8], check: &dyn Fn(Backend<'_>) -> bool| {
        let Ok(Front::Whole(frame, _)) = frame::next(bytes, MAX_MESSAGE_SIZE) else {
            panic!("not whole: {bytes:?}")
        };
        let message = Backend::parse(frame).unwrap();
        assert!(check(message), "{message:?}");
    };
    parse(&frames::ready_for_query(b'E'), &|m| {
        matches!(m, Backend::ReadyForQuery(TransactionStatus::Failed))
    });
    parse(&frames::data_row(&[Some(b"a"), None, Some(b"")]), &|m| {
        let Backend::DataRow(cells) = m else { return false };
        cells.map(Result::unwrap).eq([Some(&b"a"[..]), None, Some(&b""[..])])
    });
    let column = Column { table_oid: 16_384, attnum: 3, ..Column::text("naïve").binary() };
    parse(&frames::row_description(&[column]), &|m| {
        let Backend::RowDescription(fields) = m else { return false };
        fields.map(Result::unwrap).eq([Field {
            name: "naïve".as_bytes(),
            table_oid: 16_384,
            column_number: 3,
            type_oid: 25,
            type_length: -1,
            type_modifier: -1,
            format: 1,
        }])
    });
    parse(&frames::parameter_description(&[23, 4_000_000_000]), &|m| {
        let Backend::ParameterDescription(types) = m else { return false };
        types.map(Result::unwrap).eq([23, 4_000_000_000])
    });
    parse(&frames::backend_key_data(-7, &[1; 32]), &|m| {
        let Backend::BackendKeyData { process_id: -7, secret_key } = m else { return false };
        secret_key.as_bytes() == [1; 32]
    });
    parse(&frames::negotiate_protocol_version(196_608, &["_pq_.x"]), &|m| {
        let Backend::NegotiateProtocolVersion { newest: 196_608, options } = m else {
            return false;
        };
        options.map(Result::unwrap).eq([b"_pq_.x"])
    });
    parse(&frames::notification_response(3, "c", "p"), &|m| {
        matches!(m, Backend::NotificationResponse { process_id: 3, channel: b"c", payload: b"p" })
    });
    parse(&frames::copy_in_response(1, &[1, 0]), &|m| {
        let Backend::CopyInResponse(copy) = m else { return false };
        copy.format == 1 && copy.columns.map(Result::unwrap).eq([1, 0])
    });
    parse(&frames::authentication_sasl(&["A", "B"]), &|m| {
        let Backend::Authentication(Authentication::Sasl(list)) = m else { return false };
        list.map(Result::unwrap).eq([b"A", b"B"])
    });
    parse(&frames::authentication_md5_password([1, 2, 3, 4]), &|m| {
        let md5 = Authentication::Md5Password { salt: [1, 2, 3, 4] };
        format!("{m:?}") == format!("{:?}", Backend::Authentication(md5))
    });
}

#[test]
fn h37_the_secret_key_is_not_shown() {
    let message = testkit::frames::backend_key_data(7, &[0xab; 4]);
    let Ok(Front::Whole(frame, _)) = frame::next(&message, MAX_MESSAGE_SIZE) else {
        panic!("not whole: {message:?}")
    };
    let shown = format!("{:?}", Backend::parse(frame).unwrap());
    assert!(shown.contains("process_id: 7"), "{shown}");
    assert!(!shown.contains("171") && !shown.contains("ab, ab"), "{shown}");
}

/// What `write` appends.
fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unwritable>) -> Vec<u8> {
    let mut buf = b"before".to_vec();
    write(&mut buf).unwrap();
    buf.split_off(b"before".len())
}

#[test]
fn s8_2_frontend_messages_byte_for_byte() {
    type Write = Box<dyn FnOnce(&mut Vec<u8>) -> Result<(), Unwritable>>;
    let plain = |write: fn(&mut Vec<u8>)| -> Write {
        Box::new(move |buf| {
            write(buf);
            Ok(())
        })
    };
    let cases: Vec<(&[u8], Write)> = vec![
        (
            b"\0\0\0\x15\0\x03\0\x02user\0f\0a\0\xc3\xa9\0\0",
            Box::new(|b| frontend::startup(b, frontend::PROTOCOL_3_2, [("user", "f"), ("a", "é")])),
        ),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", plain(frontend::ssl_request)),
        (b"\0\0\0\x08\x04\xd2\x16\x30", plain(frontend::gss_enc_request)),
        (
            b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\x01\x02\x03\x04",
            Box::new(|b| frontend::cancel_request(b, 7, &[1, 2, 3, 4])),
        ),
        (b"p\0\0\0\x07pw\0", Box::new(|b| frontend::password(b, b"pw"))),
        (
            b"p\0\0\0\x0eM\0\0\0\0\x04n,,x",
            Box::new(|b| frontend::sasl_initial_response(b, "M", b"n,,x")),
        ),
        (b"p\0\0\0\x05c", Box::new(|b| frontend::sasl_response(b, b"c"))),
        (b"Q\0\0\0\x06s\0", Box::new(|b| frontend::query(b, "s"))),
        (
            b"P\0\0\0\x14n\0sql\0\0\x02\0\0\0\x17\0\0\0\0",
            Box::new(|b| frontend::parse(b, "n", "sql", [23, 0].into_iter())),
        ),
        (
            b"B\0\0\0\x24p\0s\0\0\x03\0\0\0\x01\0\0\0\x03\0\0\0\x01a\0\0\0\x01b\xff\xff\xff\xff\0\x01\0\x01",
            Box::new(|b| {
                let value = |index: usize, buf: &mut Vec<u8>| match [b"a", b"b"].get(index) {
                    None => Ok(Bound::Null),
                    Some(value) => {
                        buf.extend_from_slice(*value);
                        Ok(Bound::Value(i16::from(index == 1)))
                    }
                };
                frontend::bind(b, "p", "s", 3, value, &[1])
            }),
        ),
        (b"D\0\0\0\x07Sn\0", Box::new(|b| frontend::describe(b, Target::Statement("n")))),
        (b"D\0\0\0\x06P\0", Box::new(|b| frontend::describe(b, Target::Portal("")))),
        (b"C\0\0\0\x07Sn\0", Box::new(|b| frontend::close(b, Target::Statement("n")))),
        (b"E\0\0\0\x0ap\0\0\0\0\x05", Box::new(|b| frontend::execute(b, "p", 5))),
        (
            b"F\0\0\0\x19\0\0\x01\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\x01",
            Box::new(|b| frontend::function_call(b, 256, &[Some(b"x"), None])),
        ),
        (b"d\0\0\0\x07abc", Box::new(|b| frontend::copy_data(b, b"abc"))),
        (b"f\0\0\0\x08why\0", Box::new(|b| frontend::copy_fail(b, "why"))),
        (b"c\0\0\0\x04", plain(frontend::copy_done)),
        (b"H\0\0\0\x04", plain(frontend::flush)),
        (b"S\0\0\0\x04", plain(frontend::sync)),
        (b"X\0\0\0\x04", plain(frontend::terminate)),
    ];
    for (expected, write) in cases {
        let written = written(write);
        assert_eq!(
            written.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "the message as the documentation lays it out"
        );
    }
}

#[test]
fn s8_2_what_cannot_be_written_leaves_the_buffer_as_it_was() {
    let mut buf = b"before".to_vec();
    let nul = |what| Err(Unwritable::Nul { what });
    assert_eq!(frontend::query(&mut buf, "a\0b"), nul("query"));
    assert_eq!(frontend::copy_fail(&mut buf, "\0"), nul("reason of a CopyFail"));
    assert_eq!(
        frontend::startup(&mut buf, 0, [("user", "\0")]),
        nul("value of a startup parameter")
    );
    let types = vec![0u32; MAX_PARAMETERS + 1];
    let count = Unwritable::TooManyParameters { count: MAX_PARAMETERS + 1 };
    assert_eq!(frontend::parse(&mut buf, "", "", types.into_iter()), Err(count));
    let value = |_: usize, buf: &mut Vec<u8>| {
        buf.extend_from_slice(b"half a value");
        Err(Unwritable::TooLong)
    };
    assert_eq!(frontend::bind(&mut buf, "", "", 1, value, &[1]), Err(Unwritable::TooLong));
    assert_eq!(buf, b"before");
}

#[test]
fn h36_a_message_that_is_too_long_is_refused() {
    let mut buf = Vec::new();
    let data = vec![0; MAX_MESSAGE_SIZE];
    assert_eq!(frontend::copy_data(&mut buf, &data), Err(Unwritable::TooLong));
    assert!(buf.is_empty());
}
