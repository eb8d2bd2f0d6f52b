//! The expected lines are those that libpq 18 writes for such messages, but for what the module's
//! documentation says is different. They are written with blanks for the tabs, see [`with_tabs`].

use testkit::frames::{self, Column};
use testkit::transport::{flips, prefixes};

use super::{Detail, Line, Sender, first_packet, line, ssl_response};
use crate::wire::backend::{Authentication, Backend};
use crate::wire::frame::{Frame, HEADER};
use crate::wire::frontend::{self, Bound, Target, Unwritable};
use crate::wire::reader::Malformed;

const DETAILS: [Detail; 2] = [Detail::Full, Detail::Regress];

/// Bytes of a message, its line, and its line in [`Detail::Regress`] if that is another one.
type Case = (Vec<u8>, &'static str, Option<&'static str>);

/// Puts the tabs where libpq has them: around the length, and before the blank of the first field.
fn with_tabs(line: &str) -> String {
    match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
        [sender, length, name] => format!("{sender}\t{length}\t{name}"),
        [sender, length, name, fields] => format!("{sender}\t{length}\t{name}\t {fields}"),
        _ => panic!("{line:?} has no sender, length and name"),
    }
}

/// A whole message with a tag.
fn tagged(bytes: &[u8]) -> Frame<'_> {
    match bytes {
        [tag, _, _, _, _, body @ ..] => Frame { tag: *tag, body },
        _ => panic!("{bytes:?} is no message"),
    }
}

fn assert_lines(sender: Sender, cases: Vec<Case>) {
    for (bytes, full, regress) in cases {
        let shown = |detail| line(sender, tagged(&bytes), detail).to_string();
        assert_eq!(shown(Detail::Full), with_tabs(full));
        assert_eq!(shown(Detail::Regress), with_tabs(regress.unwrap_or(full)));
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unwritable>) -> Vec<u8> {
    let mut buf = Vec::new();
    write(&mut buf).unwrap();
    buf
}

fn plain(write: fn(&mut Vec<u8>)) -> Vec<u8> {
    written(|buf| {
        write(buf);
        Ok(())
    })
}

/// Binds `values` to the statement `st` in the portal `po`.
fn bind(values: &[(Option<&[u8]>, i16)]) -> Vec<u8> {
    let value = |index: usize, buf: &mut Vec<u8>| match values.get(index) {
        Some((Some(value), format)) => {
            buf.extend_from_slice(value);
            Ok(Bound::Value(*format))
        }
        _ => Ok(Bound::Null),
    };
    written(|buf| frontend::bind(buf, "po", "st", values.len(), value, &[1, 0]))
}

#[test]
fn b26_queries_as_libpq_traces_them() {
    let four: [(Option<&[u8]>, i16); 4] =
        [(Some(b"\0\0\x01\0"), 1), (None, 0), (Some(b"a'b\0\xff"), 1), (Some(b""), 0)];
    let parse =
        |types: &[u32]| written(|buf| frontend::parse(buf, "", "select $1", types.iter().copied()));
    assert_lines(
        Sender::Frontend,
        vec![
            (written(|b| frontend::query(b, "")), r#"F 5 Query """#, None),
            (
                written(|b| frontend::query(b, r#"select '\' as "Näme""#)),
                r#"F 26 Query "select '\' as "Näme"""#,
                None,
            ),
            (parse(&[]), r#"F 17 Parse "" "select $1" 0"#, None),
            (
                parse(&[23, 0]),
                r#"F 25 Parse "" "select $1" 2 23 0"#,
                Some(r#"F 25 Parse "" "select $1" 2 NNNN NNNN"#),
            ),
            (bind(&[]), r#"F 20 Bind "po" "st" 0 0 2 1 0"#, None),
            (
                bind(&four),
                r#"F 53 Bind "po" "st" 4 1 0 1 0 4 4 '\x00\x00\x01\x00' -1 5 'a'b\x00\xff' 0 '' 2 1 0"#,
                None,
            ),
            (
                written(|b| frontend::describe(b, Target::Statement("st"))),
                r#"F 8 Describe S "st""#,
                None,
            ),
            (written(|b| frontend::describe(b, Target::Portal(""))), r#"F 6 Describe P """#, None),
            (written(|b| frontend::execute(b, "po", 100)), r#"F 11 Execute "po" 100"#, None),
            (written(|b| frontend::close(b, Target::Statement("st"))), r#"F 8 Close S "st""#, None),
            (written(|b| frontend::close(b, Target::Portal("cu"))), r#"F 8 Close P "cu""#, None),
            (plain(frontend::flush), "F 4 Flush", None),
            (plain(frontend::sync), "F 4 Sync", None),
            (plain(frontend::terminate), "F 4 Terminate", None),
            (
                written(|b| frontend::function_call(b, 177, &[Some(b"\0\0\0\x07"), None])),
                r"F 28 FunctionCall 177 1 1 2 4 '\x00\x00\x00\x07' -1 1",
                Some(r"F 28 FunctionCall NNNN 1 1 2 4 '\x00\x00\x00\x07' -1 1"),
            ),
        ],
    );
}

#[test]
fn b26_answers_as_libpq_traces_them() {
    let id = Column { table_oid: 16_407, attnum: 1, ..Column::int4("id") };
    let name = Column { typmod: 14, ..Column::new("my name", 1043, -1) }.binary();
    assert_lines(
        Sender::Backend,
        vec![
            (frames::parse_complete(), "B 4 ParseComplete", None),
            (frames::bind_complete(), "B 4 BindComplete", None),
            (frames::close_complete(), "B 4 CloseComplete", None),
            (frames::no_data(), "B 4 NoData", None),
            (frames::portal_suspended(), "B 4 PortalSuspended", None),
            (frames::empty_query_response(), "B 4 EmptyQueryResponse", None),
            (
                frames::parameter_description(&[23, 25]),
                "B 14 ParameterDescription 2 23 25",
                Some("B 14 ParameterDescription 2 NNNN NNNN"),
            ),
            (
                frames::row_description(&[id, name]),
                r#"B 53 RowDescription 2 "id" 16407 1 23 4 -1 0 "my name" 0 0 1043 65535 14 1"#,
                Some(
                    r#"B 53 RowDescription 2 "id" NNNN 1 NNNN 4 -1 0 "my name" NNNN 0 NNNN 65535 14 1"#,
                ),
            ),
            (frames::data_row(&[]), "B 6 DataRow 0", None),
            (
                frames::data_row(&[Some(b"1"), None, Some(b""), Some("tab\t\"q\" 'ä'".as_bytes())]),
                r#"B 35 DataRow 4 1 '1' -1 0 '' 12 'tab\x09"q" '\xc3\xa4''"#,
                None,
            ),
            (frames::command_complete("INSERT 0 1"), r#"B 15 CommandComplete "INSERT 0 1""#, None),
            (frames::ready_for_query(b'I'), "B 5 ReadyForQuery I", None),
            (frames::ready_for_query(b'T'), "B 5 ReadyForQuery T", None),
            (frames::ready_for_query(7), r"B 5 ReadyForQuery \x07", None),
            (
                frames::function_call_response(Some(b"\0\0\0\x03")),
                r"B 12 FunctionCallResponse 4 '\x00\x00\x00\x03'",
                None,
            ),
            (frames::function_call_response(None), "B 8 FunctionCallResponse -1", None),
        ],
    );
}

#[test]
fn b26_numbers_have_the_signs_that_libpq_gives_them() {
    let column = Column {
        table_oid: 4_000_000_000,
        attnum: -3,
        type_oid: 3_000_000_000,
        typmod: -5,
        ..Column::text("c")
    };
    assert_lines(
        Sender::Backend,
        vec![
            (
                frames::row_description(&[column]),
                r#"B 26 RowDescription 1 "c" -294967296 65533 -1294967296 65535 -5 0"#,
                Some(r#"B 26 RowDescription 1 "c" NNNN 65533 NNNN 65535 -5 0"#),
            ),
            (
                frames::parameter_description(&[4_000_000_000]),
                "B 10 ParameterDescription 1 -294967296",
                Some("B 10 ParameterDescription 1 NNNN"),
            ),
        ],
    );
}

#[test]
fn b26_errors_notices_and_news_as_libpq_traces_them() {
    let fields = [
        (b'S', "ERROR"),
        (b'M', "a \"quoted\" name"),
        (b'F', "int.c"),
        (b'L', "869"),
        (b'R', "int4div"),
    ];
    assert_lines(
        Sender::Backend,
        vec![
            (
                frames::error_response(&fields),
                r#"B 50 ErrorResponse S "ERROR" M "a "quoted" name" F "int.c" L "869" R "int4div" \x00"#,
                Some(
                    r#"B NN ErrorResponse S "ERROR" M "a "quoted" name" F "SSSS" L "SSSS" R "SSSS" \x00"#,
                ),
            ),
            (
                frames::notice_response(&[(b'S', "NOTICE"), (b'M', "hello 1"), (b'L', "3907")]),
                r#"B 28 NoticeResponse S "NOTICE" M "hello 1" L "3907" \x00"#,
                Some(r#"B NN NoticeResponse S "NOTICE" M "hello 1" L "SSSS" \x00"#),
            ),
            (
                frames::error_response(&[]),
                r"B 5 ErrorResponse \x00",
                Some(r"B NN ErrorResponse \x00"),
            ),
            (
                frames::notification_response(28_714, "jobs", "pay load"),
                r#"B 22 NotificationResponse 28714 "jobs" "pay load""#,
                Some(r#"B 22 NotificationResponse NNNN "jobs" "pay load""#),
            ),
            (
                frames::parameter_status("application_name", ""),
                r#"B 22 ParameterStatus "application_name" """#,
                None,
            ),
        ],
    );
}

#[test]
fn b26_copy_as_libpq_traces_it() {
    assert_lines(
        Sender::Frontend,
        vec![
            (
                written(|b| frontend::copy_data(b, b"1\tone\\n\n")),
                r"F 12 CopyData '1\x09one\n\x0a'",
                Some("F 12 CopyData 'BBBB'"),
            ),
            (plain(frontend::copy_done), "F 4 CopyDone", None),
            (written(|b| frontend::copy_fail(b, "no more")), r#"F 12 CopyFail "no more""#, None),
        ],
    );
    assert_lines(
        Sender::Backend,
        vec![
            (frames::copy_in_response(0, &[0, 0]), r"B 11 CopyInResponse \x00 2 0 0", None),
            (frames::copy_out_response(1, &[1, 1]), r"B 11 CopyOutResponse \x01 2 1 1", None),
            (frames::copy_both_response(1, &[1, 0]), r"B 11 CopyBothResponse \x01 2 1 0", None),
            (
                frames::copy_data(b"\xff\xff"),
                r"B 6 CopyData '\xff\xff'",
                Some("B 6 CopyData 'BBBB'"),
            ),
            (frames::copy_done(), "B 4 CopyDone", None),
        ],
    );
}

#[test]
fn b26_the_start_of_a_connection_as_libpq_traces_it() {
    let parameters = [("user", "f"), ("database", "music"), ("options", "")];
    let packets = [
        (
            written(|b| frontend::startup(b, frontend::PROTOCOL_3_2, parameters)),
            r#"F 40 StartupMessage 3 2 "user" "f" "database" "music" "options" """#,
            None,
        ),
        (plain(frontend::ssl_request), "F 8 SSLRequest 1234 5679", None),
        (plain(frontend::gss_enc_request), "F 8 GSSENCRequest 1234 5680", None),
        (
            written(|b| frontend::cancel_request(b, 28_744, b"\x01\x02\x03\x04")),
            "F 16 CancelRequest 1234 5678 28744 <masked>",
            Some("F 16 CancelRequest 1234 5678 NNNN <masked>"),
        ),
    ];
    for (bytes, full, regress) in packets {
        let shown = |detail| first_packet(&bytes[4..], detail).to_string();
        assert_eq!(shown(Detail::Full), with_tabs(full));
        assert_eq!(shown(Detail::Regress), with_tabs(regress.unwrap_or(full)));
    }
    assert_eq!(ssl_response(b'S').to_string(), "B\t1\tSSLResponse\t S");
    assert_eq!(ssl_response(0).to_string(), "B\t1\tSSLResponse\t \\x00");
    assert_lines(
        Sender::Backend,
        vec![
            (
                frames::backend_key_data(-77, &[7; 32]),
                "B 40 BackendKeyData -77 <masked>",
                Some("B 40 BackendKeyData NNNN <masked>"),
            ),
            (
                frames::negotiate_protocol_version(3 << 16, &["_pq_.x", "_pq_.y"]),
                r#"B 26 NegotiateProtocolVersion 196608 2 "_pq_.x" "_pq_.y""#,
                None,
            ),
        ],
    );
}

#[test]
fn b26_authentication_as_libpq_traces_it() {
    let mechanisms = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
    assert_lines(
        Sender::Backend,
        vec![
            (frames::authentication_ok(), "B 8 AuthenticationOk", None),
            (frames::authentication_kerberos_v5(), "B 8 AuthenticationKerberosV5", None),
            (
                frames::authentication_cleartext_password(),
                "B 8 AuthenticationCleartextPassword",
                None,
            ),
            (
                frames::authentication_md5_password(*b"salt"),
                "B 12 AuthenticationMD5Password <masked>",
                None,
            ),
            (frames::authentication_scm_credential(), "B 8 AuthenticationSCMCredential", None),
            (frames::authentication_gss(), "B 8 AuthenticationGSS", None),
            (
                frames::authentication_gss_continue(b"token"),
                "B 13 AuthenticationGSSContinue <masked>",
                None,
            ),
            (frames::authentication_sspi(), "B 8 AuthenticationSSPI", None),
            (
                frames::authentication_sasl(&mechanisms),
                r#"B 42 AuthenticationSASL "SCRAM-SHA-256-PLUS" "SCRAM-SHA-256" """#,
                None,
            ),
            (
                frames::authentication_sasl_continue(b"r=x,s=y,i=4096"),
                "B 22 AuthenticationSASLContinue <masked>",
                None,
            ),
            (
                frames::authentication_sasl_final(b"v=x"),
                "B 11 AuthenticationSASLFinal <masked>",
                None,
            ),
        ],
    );
}

#[test]
fn b26_authentication_responses_are_told_apart_by_their_shape() {
    let initial =
        |name| written(|buf| frontend::sasl_initial_response(buf, name, b"n,,n=,r=nonce"));
    assert_lines(
        Sender::Frontend,
        vec![
            (
                initial("SCRAM-SHA-256"),
                r#"F 35 SASLInitialResponse "SCRAM-SHA-256" 13 <masked>"#,
                None,
            ),
            (
                initial("SCRAM-SHA-256-PLUS"),
                r#"F 40 SASLInitialResponse "SCRAM-SHA-256-PLUS" 13 <masked>"#,
                None,
            ),
            (
                written(|b| frontend::sasl_response(b, b"c=biws,r=nonce,p=proof")),
                "F 26 SASLResponse <masked>",
                None,
            ),
            (
                written(|b| frontend::password(b, b"SCRAM-SHA-256")),
                "F NN PasswordMessage <masked>",
                None,
            ),
            (written(|b| frontend::password(b, b"c=")), "F NN PasswordMessage <masked>", None),
            // A mechanism that the driver does not speak, a GSSAPI token, and nothing at all.
            (initial("OAUTHBEARER"), "F NN AuthenticationResponse <masked>", None),
            (
                frames::message(b'p', b"\x60\x82\0\x01"),
                "F NN AuthenticationResponse <masked>",
                None,
            ),
            (frames::message(b'p', b""), "F NN AuthenticationResponse", None),
        ],
    );
}

#[test]
fn b26_what_the_protocol_does_not_know_is_named_and_not_shown() {
    let unknown = frames::message(b'x', b"abc");
    for detail in DETAILS {
        let shown = |sender| line(sender, tagged(&unknown), detail).to_string();
        assert_eq!(shown(Sender::Frontend), "F\t7\tUnknown message: 78");
        assert_eq!(shown(Sender::Backend), "B\t7\tUnknown message: 78");
        let authentication = frames::authentication(99, b"abc");
        assert_eq!(
            line(Sender::Backend, tagged(&authentication), detail).to_string(),
            "B\t11\tUnknown authentication message\t 99 <masked>"
        );
    }
}

#[test]
fn b26_a_line_is_one_line_of_text() {
    let query = written(|b| frontend::query(b, "select\n\t'\u{85}€\u{7f}'\r"));
    assert_lines(
        Sender::Frontend,
        vec![(query, r#"F 22 Query "select\x0a\x09'\xc2\x85€\x7f'\x0d""#, None)],
    );
    let latin1 = frames::message(b'C', b"caf\xe9 \xf0\x9f\xff\0");
    assert_lines(
        Sender::Backend,
        vec![(latin1, r#"B 13 CommandComplete "caf\xe9 \xf0\x9f\xff""#, None)],
    );
}

#[test]
fn b26_every_backend_message_has_a_line_with_its_name() {
    let samples = frames::samples();
    for (tag, name) in Backend::MESSAGES {
        assert!(samples.iter().any(|(_, sample)| sample.first() == Some(tag)), "no {name}");
    }
    for (name, sample) in samples {
        for detail in DETAILS {
            let shown = line(Sender::Backend, tagged(&sample), detail).to_string();
            assert_eq!(shown.split('\t').nth(2), Some(name), "{shown}");
            assert!(!shown.contains("malformed"), "{shown}");
            // What has a body shows something of it.
            let bare = sample.len() == HEADER
                || sample.starts_with(b"R") && sample.len() == frames::authentication_ok().len();
            assert_eq!(shown.split('\t').count(), if bare { 3 } else { 4 }, "{shown}");
        }
    }
}

/// Whether the parser of the messages finds nothing wrong with one.
fn is_well_formed(frame: Frame<'_>) -> bool {
    fn all<T>(mut list: impl Iterator<Item = Result<T, Malformed>>) -> bool {
        list.all(|item| item.is_ok())
    }
    match Backend::parse(frame) {
        Err(_) => false,
        Ok(Backend::Authentication(Authentication::Sasl(mechanisms))) => all(mechanisms),
        Ok(
            Backend::CopyInResponse(copy)
            | Backend::CopyOutResponse(copy)
            | Backend::CopyBothResponse(copy),
        ) => all(copy.columns),
        Ok(Backend::DataRow(cells)) => all(cells),
        Ok(Backend::NegotiateProtocolVersion { options, .. }) => all(options),
        Ok(Backend::ParameterDescription(types)) => all(types),
        Ok(Backend::RowDescription(fields)) => all(fields),
        Ok(_) => true,
    }
}

#[test]
fn b26_a_message_is_traced_as_malformed_when_the_parser_says_so() {
    let check = |frame: Frame<'_>| {
        // The parser leaves the fields of errors and notices to whoever reads them, and takes what
        // follows an Authentication code that it does not know for right; a trace shows any byte
        // for a transaction status.
        if matches!(frame.tag, b'E' | b'N' | b'Z')
            || matches!(
                Backend::parse(frame),
                Ok(Backend::Authentication(Authentication::Unknown(_)))
            )
        {
            return;
        }
        let shown = line(Sender::Backend, frame, Detail::Full).to_string();
        assert_eq!(!shown.contains("<malformed: "), is_well_formed(frame), "{frame:?}: {shown}");
    };
    for (_, sample) in frames::samples() {
        let Frame { tag, body } = tagged(&sample);
        prefixes(body).for_each(|body| check(Frame { tag, body }));
        flips(body).for_each(|flip| check(Frame { tag, body: &flip.bytes }));
        check(Frame { tag, body: &[body, b"\0"].concat() });
    }
}

#[test]
fn b26_a_malformed_message_shows_its_name_and_what_could_be_read() {
    let cases: [(u8, &[u8], &str); 8] = [
        (b'D', b"\0\x02\0\0\0\x01a", "B 11 DataRow 2 1 'a' <malformed: it ends inside a number>"),
        (
            b'D',
            b"\0\x01\0\0\0\x09a",
            "B 11 DataRow 1 9 <malformed: a length points beyond its end>",
        ),
        (b'D', b"\0\x01\xff\xff\xff\xfe", "B 10 DataRow 1 -2 <malformed: a length is negative>"),
        (b'1', b"x", "B 5 ParseComplete <malformed: bytes are left over at its end>"),
        (b'R', b"\0\0", "B 6 Authentication <malformed: it ends inside a number>"),
        (
            b'K',
            b"\0\0\0\x07key",
            "B 11 BackendKeyData 7 <malformed: its key is not 4 to 256 bytes long>",
        ),
        (
            b'v',
            b"\0\x03\0\0\xff\xff\xff\xff",
            "B 12 NegotiateProtocolVersion 196608 -1 <malformed: a count is negative>",
        ),
        (b'E', b"SERROR\0", r#"B 11 ErrorResponse S "ERROR" <malformed: it ends inside a number>"#),
    ];
    for (tag, body, expected) in cases {
        let shown = line(Sender::Backend, Frame { tag, body }, Detail::Full).to_string();
        assert_eq!(shown, with_tabs(expected));
    }
    assert_eq!(
        first_packet(b"\0\x03", Detail::Full).to_string(),
        "F\t6\tUnknown message\t <malformed: it ends inside a number>"
    );
    assert_eq!(
        first_packet(b"\0\x03\0\0user\0", Detail::Full).to_string(),
        with_tabs(r#"F 13 StartupMessage 3 0 "user" <malformed: a string has no NUL at its end>"#)
    );
}

/// One of every message that a frontend sends, tags included.
fn frontend_samples() -> Vec<Vec<u8>> {
    let bare = [frontend::copy_done, frontend::flush, frontend::sync, frontend::terminate];
    bare.into_iter()
        .map(plain)
        .chain([
            written(|b| frontend::query(b, "select 1")),
            written(|b| frontend::parse(b, "st", "select $1", [23, 25].into_iter())),
            bind(&[(Some(b"value"), 0), (None, 0)]),
            written(|b| frontend::describe(b, Target::Statement("st"))),
            written(|b| frontend::close(b, Target::Portal("po"))),
            written(|b| frontend::execute(b, "po", 5)),
            written(|b| frontend::function_call(b, 177, &[Some(b"x"), None])),
            written(|b| frontend::copy_data(b, b"1\tone\n")),
            written(|b| frontend::copy_fail(b, "why")),
            written(|b| frontend::password(b, b"password")),
            written(|b| frontend::sasl_initial_response(b, "SCRAM-SHA-256", b"n,,n=,r=x")),
            written(|b| frontend::sasl_response(b, b"c=biws,r=x,p=y")),
        ])
        .collect()
}

#[test]
fn h18_damaged_messages_are_traced_without_a_panic() {
    let is_one_line = |line: Line<'_>| {
        let shown = line.to_string();
        let parts: Vec<&str> = shown.split('\t').collect();
        assert!(matches!(parts.len(), 3 | 4), "{shown:?}");
        assert!(!parts.concat().contains(char::is_control), "{shown:?}");
    };
    let check = |bytes: &[u8]| {
        for detail in DETAILS {
            is_one_line(first_packet(bytes, detail));
            if let [tag, _, _, _, _, body @ ..] = bytes {
                is_one_line(line(Sender::Frontend, Frame { tag: *tag, body }, detail));
                is_one_line(line(Sender::Backend, Frame { tag: *tag, body }, detail));
            }
        }
    };
    let backend = frames::samples().into_iter().map(|(_, sample)| sample);
    let first = [
        written(|b| frontend::startup(b, frontend::PROTOCOL_3_0, [("user", "f")])),
        plain(frontend::ssl_request),
        written(|b| frontend::cancel_request(b, 7, b"key!")),
    ];
    // The length of a first packet is no part of what is traced.
    let first = first.into_iter().map(|packet| packet[4..].to_vec());
    for sample in backend.chain(frontend_samples()).chain(first) {
        prefixes(&sample).for_each(check);
        flips(&sample).for_each(|flip| check(&flip.bytes));
    }
    (0..=u8::MAX).for_each(|answer| is_one_line(ssl_response(answer)));
}

/// Secrets that no other part of a line looks like, each with the messages that carry it.
fn secrets() -> Vec<(&'static [u8], Vec<u8>)> {
    let secret: &[u8] = b"hunter22";
    vec![
        (secret, written(|b| frontend::password(b, secret))),
        (secret, written(|b| frontend::sasl_initial_response(b, "SCRAM-SHA-256", secret))),
        (secret, written(|b| frontend::sasl_initial_response(b, "OTHER", secret))),
        (secret, written(|b| frontend::sasl_response(b, b"c=biws,p=hunter22"))),
        (secret, frames::message(b'p', b"\x01hunter22\0hunter22")),
        (b"hunt", frames::authentication_md5_password(*b"hunt")),
        (secret, frames::authentication_gss_continue(secret)),
        (secret, frames::authentication_sasl_continue(secret)),
        (secret, frames::authentication_sasl_final(secret)),
        (secret, frames::authentication(99, secret)),
        (b"hunt", frames::backend_key_data(7, b"hunt")),
        (secret, frames::backend_key_data(7, &secret.repeat(32))),
    ]
}

/// No part of `secret` may be in the line, neither as it is nor in hexadecimal.
fn assert_hidden(secret: &[u8], line: Line<'_>) {
    for shown in [line.to_string(), format!("{line:?}"), format!("{line:#?}")] {
        for part in secret.windows(3) {
            let raw = String::from_utf8_lossy(part);
            let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            let numbers = part.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            let found = [&*raw, &hex, &hex.to_uppercase(), &numbers]
                .into_iter()
                .any(|form| shown.replace("\\x", "").contains(form));
            assert!(!found, "{shown}");
        }
    }
}

#[test]
fn h37_no_secret_is_ever_traced() {
    for (secret, message) in secrets() {
        let Frame { tag, body } = tagged(&message);
        let sender = if tag == b'p' { Sender::Frontend } else { Sender::Backend };
        for detail in DETAILS {
            let whole = line(sender, Frame { tag, body }, detail);
            assert!(whole.to_string().contains("<masked>"), "{whole}");
            assert_hidden(secret, whole);
            // Nor in a message that ends inside the secret, or goes on behind it.
            for cut in body.len().saturating_sub(secret.len())..body.len() {
                assert_hidden(secret, line(sender, Frame { tag, body: &body[..cut] }, detail));
            }
            let long = [body, b"\0"].concat();
            assert_hidden(secret, line(sender, Frame { tag, body: &long }, detail));
        }
    }
    for key in [&b"hunt"[..], b"hunter22", b"hun"] {
        let cancel = written(|b| frontend::cancel_request(b, 7, key));
        for detail in DETAILS {
            assert_hidden(key, first_packet(&cancel[4..], detail));
        }
    }
}

#[test]
fn h37_a_trace_does_not_tell_how_long_a_password_is() {
    let shown = |password: &[u8]| {
        let message = written(|b| frontend::password(b, password));
        line(Sender::Frontend, tagged(&message), Detail::Full).to_string()
    };
    assert_eq!(shown(b""), shown(b"correct horse battery staple"));
}
