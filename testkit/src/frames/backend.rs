//! Builders of the backend's messages, protocol 3.0 and 3.2.
//!
//! Each returns one complete message. A count or length that the protocol cannot express is a
//! mistake in the test and panics; a message that lies on purpose is made with [`raw`].

/// Any tagged message with a true length: `tag`, length, `body`.
///
/// # Panics
/// If the body is longer than an Int32 can say.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).expect("a body of less than 2 GiB");
    raw(tag, length, body)
}

/// A tagged message whose length word says whatever you want.
///
/// ```
/// let lie = testkit::frames::raw(b'Z', 1_000_000, b"I");
/// assert_eq!(lie, b"Z\x00\x0f\x42\x40I");
/// ```
pub fn raw(tag: u8, declared_len: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 5);
    bytes.push(tag);
    bytes.extend_from_slice(&declared_len.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// A protocol version as it stands in StartupMessage and NegotiateProtocolVersion: `major` in the
/// upper, `minor` in the lower 16 bits.
pub const fn protocol_version(major: u16, minor: u16) -> i32 {
    let [a, b] = major.to_be_bytes();
    let [c, d] = minor.to_be_bytes();
    i32::from_be_bytes([a, b, c, d])
}

/// Any Authentication message: its Int32 code and the data behind it.
pub fn authentication(code: i32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes(), data].concat())
}

/// AuthenticationOk.
pub fn authentication_ok() -> Vec<u8> {
    authentication(0, b"")
}

/// AuthenticationKerberosV5.
pub fn authentication_kerberos_v5() -> Vec<u8> {
    authentication(2, b"")
}

/// AuthenticationCleartextPassword.
pub fn authentication_cleartext_password() -> Vec<u8> {
    authentication(3, b"")
}

/// AuthenticationMD5Password with its salt.
pub fn authentication_md5_password(salt: [u8; 4]) -> Vec<u8> {
    authentication(5, &salt)
}

/// AuthenticationSCMCredential.
pub fn authentication_scm_credential() -> Vec<u8> {
    authentication(6, b"")
}

/// AuthenticationGSS.
pub fn authentication_gss() -> Vec<u8> {
    authentication(7, b"")
}

/// AuthenticationGSSContinue.
pub fn authentication_gss_continue(data: &[u8]) -> Vec<u8> {
    authentication(8, data)
}

/// AuthenticationSSPI.
pub fn authentication_sspi() -> Vec<u8> {
    authentication(9, b"")
}

/// AuthenticationSASL: the mechanisms, the server's favourite first.
pub fn authentication_sasl(mechanisms: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    for mechanism in mechanisms {
        put_string(&mut data, mechanism);
    }
    data.push(0);
    authentication(10, &data)
}

/// AuthenticationSASLContinue: for SCRAM the server-first-message.
pub fn authentication_sasl_continue(data: &[u8]) -> Vec<u8> {
    authentication(11, data)
}

/// AuthenticationSASLFinal: for SCRAM the server-final-message.
pub fn authentication_sasl_final(data: &[u8]) -> Vec<u8> {
    authentication(12, data)
}

/// BackendKeyData; the key has 4 bytes in protocol 3.0 and up to 256 from 3.2 on.
pub fn backend_key_data(process_id: i32, secret_key: &[u8]) -> Vec<u8> {
    message(b'K', &[&process_id.to_be_bytes(), secret_key].concat())
}

/// BindComplete.
pub fn bind_complete() -> Vec<u8> {
    message(b'2', b"")
}

/// CloseComplete.
pub fn close_complete() -> Vec<u8> {
    message(b'3', b"")
}

/// CommandComplete with its tag, such as `INSERT 0 1`.
pub fn command_complete(tag: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, tag);
    message(b'C', &body)
}

/// CopyData.
pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

/// CopyDone.
pub fn copy_done() -> Vec<u8> {
    message(b'c', b"")
}

/// CopyInResponse; `format` and `column_formats` are 0 for text, 1 for binary.
pub fn copy_in_response(format: u8, column_formats: &[i16]) -> Vec<u8> {
    copy_response(b'G', format, column_formats)
}

/// CopyOutResponse; `format` and `column_formats` are 0 for text, 1 for binary.
pub fn copy_out_response(format: u8, column_formats: &[i16]) -> Vec<u8> {
    copy_response(b'H', format, column_formats)
}

/// CopyBothResponse; `format` and `column_formats` are 0 for text, 1 for binary.
pub fn copy_both_response(format: u8, column_formats: &[i16]) -> Vec<u8> {
    copy_response(b'W', format, column_formats)
}

fn copy_response(tag: u8, format: u8, column_formats: &[i16]) -> Vec<u8> {
    let mut body = vec![format];
    put_count(&mut body, column_formats.len());
    for format in column_formats {
        body.extend_from_slice(&format.to_be_bytes());
    }
    message(tag, &body)
}

/// DataRow; `None` is NULL.
pub fn data_row(cells: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = Vec::new();
    put_count(&mut body, cells.len());
    for cell in cells {
        put_value(&mut body, *cell);
    }
    message(b'D', &body)
}

/// EmptyQueryResponse.
pub fn empty_query_response() -> Vec<u8> {
    message(b'I', b"")
}

/// ErrorResponse from field codes and texts.
///
/// ```
/// use testkit::frames;
///
/// let gone = frames::error_response(&[
///     (b'S', "FATAL"),
///     (b'V', "FATAL"),
///     (b'C', "57P01"),
///     (b'M', "terminating connection due to administrator command"),
/// ]);
/// assert!(gone.starts_with(b"E") && gone.ends_with(b"command\0\0"));
/// ```
pub fn error_response(fields: &[(u8, &str)]) -> Vec<u8> {
    message(b'E', &diagnostic_fields(fields))
}

/// NoticeResponse from field codes and texts.
pub fn notice_response(fields: &[(u8, &str)]) -> Vec<u8> {
    message(b'N', &diagnostic_fields(fields))
}

fn diagnostic_fields(fields: &[(u8, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (code, text) in fields {
        body.push(*code);
        put_string(&mut body, text);
    }
    body.push(0);
    body
}

/// FunctionCallResponse; `None` is NULL.
pub fn function_call_response(value: Option<&[u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    put_value(&mut body, value);
    message(b'V', &body)
}

/// NegotiateProtocolVersion: the newest version the server speaks, and the `_pq_.` options of the
/// StartupMessage that it does not know.
///
/// The documentation speaks of the minor version; servers really send the whole word, so use
/// [`protocol_version`].
pub fn negotiate_protocol_version(version: i32, unrecognized: &[&str]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    put_length(&mut body, unrecognized.len());
    for option in unrecognized {
        put_string(&mut body, option);
    }
    message(b'v', &body)
}

/// NoData.
pub fn no_data() -> Vec<u8> {
    message(b'n', b"")
}

/// NotificationResponse.
pub fn notification_response(process_id: i32, channel: &str, payload: &str) -> Vec<u8> {
    let mut body = process_id.to_be_bytes().to_vec();
    put_string(&mut body, channel);
    put_string(&mut body, payload);
    message(b'A', &body)
}

/// ParameterDescription: the type of each parameter.
pub fn parameter_description(type_oids: &[u32]) -> Vec<u8> {
    let mut body = Vec::new();
    put_count(&mut body, type_oids.len());
    for oid in type_oids {
        body.extend_from_slice(&oid.to_be_bytes());
    }
    message(b't', &body)
}

/// ParameterStatus.
pub fn parameter_status(name: &str, value: &str) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, name);
    put_string(&mut body, value);
    message(b'S', &body)
}

/// ParseComplete.
pub fn parse_complete() -> Vec<u8> {
    message(b'1', b"")
}

/// PortalSuspended.
pub fn portal_suspended() -> Vec<u8> {
    message(b's', b"")
}

/// ReadyForQuery; `status` is `I` (idle), `T` (in a transaction) or `E` (in a failed one).
pub fn ready_for_query(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

/// RowDescription.
pub fn row_description(columns: &[Column<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    put_count(&mut body, columns.len());
    for column in columns {
        put_string(&mut body, column.name);
        body.extend_from_slice(&column.table_oid.to_be_bytes());
        body.extend_from_slice(&column.attnum.to_be_bytes());
        body.extend_from_slice(&column.type_oid.to_be_bytes());
        body.extend_from_slice(&column.typlen.to_be_bytes());
        body.extend_from_slice(&column.typmod.to_be_bytes());
        body.extend_from_slice(&column.format.to_be_bytes());
    }
    message(b'T', &body)
}

/// One field of a RowDescription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// The column's name.
    pub name: &'a str,
    /// The table it comes from, 0 for an expression.
    pub table_oid: u32,
    /// Its `pg_attribute.attnum` in that table, 0 for an expression.
    pub attnum: i16,
    /// Its type.
    pub type_oid: u32,
    /// `pg_type.typlen`: bytes, negative when variable.
    pub typlen: i16,
    /// `pg_attribute.atttypmod`, -1 for none.
    pub typmod: i32,
    /// 0 for text, 1 for binary.
    pub format: i16,
}

impl<'a> Column<'a> {
    /// An expression of the given type, in text format.
    pub const fn new(name: &'a str, type_oid: u32, typlen: i16) -> Self {
        Self { name, table_oid: 0, attnum: 0, type_oid, typlen, typmod: -1, format: 0 }
    }

    /// An `int4` in text format.
    pub const fn int4(name: &'a str) -> Self {
        Self::new(name, 23, 4)
    }

    /// A `text` in text format.
    pub const fn text(name: &'a str) -> Self {
        Self::new(name, 25, -1)
    }

    /// The same in binary format.
    #[must_use]
    pub const fn binary(self) -> Self {
        Self { format: 1, ..self }
    }
}

/// One well-formed sample of every backend message, every Authentication kind included, each with
/// the documentation's name: what a malformed-input test starts from.
pub fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut samples = authentication_samples();
    samples.extend([
        ("BackendKeyData", backend_key_data(4242, b"\x01\x02\x03\x04")),
        ("BackendKeyData", backend_key_data(4242, &[0xab; 256])),
        ("BindComplete", bind_complete()),
        ("CloseComplete", close_complete()),
        ("CommandComplete", command_complete("INSERT 0 1")),
        ("CopyData", copy_data(b"1\tone\n")),
        ("CopyDone", copy_done()),
        ("CopyInResponse", copy_in_response(0, &[0, 0])),
        ("CopyOutResponse", copy_out_response(1, &[1, 1, 1])),
        ("CopyBothResponse", copy_both_response(0, &[])),
        ("DataRow", data_row(&[Some(b"1"), None, Some(b"")])),
        ("EmptyQueryResponse", empty_query_response()),
        ("ErrorResponse", error_response(SAMPLE_FIELDS)),
        ("NoticeResponse", notice_response(SAMPLE_FIELDS)),
        ("FunctionCallResponse", function_call_response(Some(b"\0\0\0\x01"))),
        ("FunctionCallResponse", function_call_response(None)),
        (
            "NegotiateProtocolVersion",
            negotiate_protocol_version(protocol_version(3, 0), &["_pq_.unheard_of"]),
        ),
        ("NoData", no_data()),
        ("NotificationResponse", notification_response(4242, "jobs", "42")),
        ("ParameterDescription", parameter_description(&[23, 25])),
        ("ParameterStatus", parameter_status("client_encoding", "UTF8")),
        ("ParseComplete", parse_complete()),
        ("PortalSuspended", portal_suspended()),
        ("ReadyForQuery", ready_for_query(b'I')),
        ("RowDescription", row_description(&[Column::int4("id").binary(), Column::text("name")])),
    ]);
    samples
}

fn authentication_samples() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("AuthenticationOk", authentication_ok()),
        ("AuthenticationKerberosV5", authentication_kerberos_v5()),
        ("AuthenticationCleartextPassword", authentication_cleartext_password()),
        ("AuthenticationMD5Password", authentication_md5_password(*b"salt")),
        ("AuthenticationSCMCredential", authentication_scm_credential()),
        ("AuthenticationGSS", authentication_gss()),
        ("AuthenticationGSSContinue", authentication_gss_continue(b"token")),
        ("AuthenticationSSPI", authentication_sspi()),
        ("AuthenticationSASL", authentication_sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])),
        ("AuthenticationSASLContinue", authentication_sasl_continue(b"r=abc,s=c2FsdA==,i=4096")),
        ("AuthenticationSASLFinal", authentication_sasl_final(b"v=c2lnbmF0dXJl")),
    ]
}

/// The fields of a unique violation, as a server reports it.
const SAMPLE_FIELDS: &[(u8, &str)] = &[
    (b'S', "ERROR"),
    (b'V', "ERROR"),
    (b'C', "23505"),
    (b'M', "duplicate key value violates unique constraint \"t_pkey\""),
    (b'D', "Key (id)=(1) already exists."),
    (b's', "public"),
    (b't', "t"),
    (b'n', "t_pkey"),
    (b'F', "nbtinsert.c"),
    (b'L', "666"),
    (b'R', "_bt_check_unique"),
];

fn put_string(body: &mut Vec<u8>, text: &str) {
    assert!(!text.contains('\0'), "{text:?} cannot be a protocol string: NUL ends it early");
    body.extend_from_slice(text.as_bytes());
    body.push(0);
}

fn put_count(body: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("a count that fits 16 bits");
    body.extend_from_slice(&count.to_be_bytes());
}

fn put_length(body: &mut Vec<u8>, length: usize) {
    let length = i32::try_from(length).expect("a length that fits an Int32");
    body.extend_from_slice(&length.to_be_bytes());
}

fn put_value(body: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => body.extend_from_slice(&(-1i32).to_be_bytes()),
        Some(bytes) => {
            put_length(body, bytes.len());
            body.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Direction, FrameBuffer, message_name};

    /// Written out by hand from the documentation.
    #[test]
    fn messages_are_the_documented_bytes() {
        let cases: [(Vec<u8>, &[u8]); 17] = [
            (authentication_ok(), b"R\0\0\0\x08\0\0\0\0"),
            (authentication_md5_password(*b"abcd"), b"R\0\0\0\x0c\0\0\0\x05abcd"),
            (authentication_sasl(&["A", "B"]), b"R\0\0\0\x0d\0\0\0\x0aA\0B\0\0"),
            (authentication_sasl_continue(b"r=x"), b"R\0\0\0\x0b\0\0\0\x0br=x"),
            (authentication_sasl_final(b"v=x"), b"R\0\0\0\x0b\0\0\0\x0cv=x"),
            (backend_key_data(1, b"keys"), b"K\0\0\0\x0c\0\0\0\x01keys"),
            (command_complete("BEGIN"), b"C\0\0\0\x0aBEGIN\0"),
            (copy_in_response(1, &[1, 0]), b"G\0\0\0\x0b\x01\0\x02\0\x01\0\0"),
            (data_row(&[Some(b"ab"), None]), b"D\0\0\0\x10\0\x02\0\0\0\x02ab\xff\xff\xff\xff"),
            (error_response(&[(b'M', "no")]), b"E\0\0\0\x09Mno\0\0"),
            (function_call_response(None), b"V\0\0\0\x08\xff\xff\xff\xff"),
            (negotiate_protocol_version(196_610, &["o"]), b"v\0\0\0\x0e\0\x03\0\x02\0\0\0\x01o\0"),
            (notification_response(2, "c", "p"), b"A\0\0\0\x0c\0\0\0\x02c\0p\0"),
            (parameter_description(&[23]), b"t\0\0\0\x0a\0\x01\0\0\0\x17"),
            (parameter_status("a", "b"), b"S\0\0\0\x08a\0b\0"),
            (ready_for_query(b'T'), b"Z\0\0\0\x05T"),
            (
                row_description(&[Column {
                    table_oid: 7,
                    attnum: 2,
                    ..Column::int4("n").binary()
                }]),
                b"T\0\0\0\x1a\0\x01n\0\0\0\0\x07\0\x02\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01",
            ),
        ];
        for (built, documented) in cases {
            assert_eq!(
                built,
                documented,
                "{} is not {}",
                built.escape_ascii(),
                documented.escape_ascii()
            );
        }
    }

    #[test]
    fn every_backend_tag_has_a_sample_of_its_name() {
        let samples = samples();
        for (name, bytes) in &samples {
            let mut buffer = FrameBuffer::new();
            buffer.push(bytes);
            let frame = buffer.take_frame().unwrap().expect("a whole message");
            assert!(buffer.rest().is_empty(), "{name} is longer than it says");
            let tag_name = message_name(Direction::Backend, frame.tag).unwrap();
            assert!(name.starts_with(tag_name), "{name} has the tag of {tag_name}");
        }
        for tag in 0..=u8::MAX {
            let Some(name) = message_name(Direction::Backend, tag) else {
                continue;
            };
            assert!(samples.iter().any(|(_, bytes)| bytes[0] == tag), "no sample of {name}");
        }
    }

    #[test]
    #[should_panic(expected = "NUL ends it early")]
    fn a_nul_in_a_string_is_the_tests_mistake() {
        command_complete("a\0b");
    }
}
