//! The server's own words: the body of an ErrorResponse or a NoticeResponse.

use std::fmt;
use std::sync::Arc;

use super::{PgError, PgResult, Severity, SqlState};

/// An error or a notice as the server sent it, with all fields that the protocol knows.
///
/// Source: PostgreSQL documentation, "Error and Notice Message Fields". Optional fields are `None`
/// when the server did not send them; names of objects are given for a limited number of errors
/// only.
///
/// [`Display`](fmt::Display) gives severity, SQLSTATE, message, detail and hint, and of a batch the
/// parameter set; `{:#}` adds what psql shows: the line of SQL with a caret, the internal query,
/// the context.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerError {
    /// The severity (`V`; from `S` if a server before 9.6 did not send it).
    pub severity: Severity,
    /// The severity as the server worded it, maybe in its own language (`S`).
    pub localized_severity: String,
    /// The SQLSTATE (`C`).
    pub code: SqlState,
    /// The primary message, typically one line (`M`).
    pub message: String,
    /// More about the problem; may run to several lines (`D`).
    pub detail: Option<String>,
    /// A suggestion what to do about it (`H`).
    pub hint: Option<String>,
    /// Where in [`query`](Self::query) the error is, in characters (not bytes) from 1 (`P`).
    pub position: Option<u32>,
    /// Where in [`internal_query`](Self::internal_query) the error is, in characters from 1 (`p`).
    pub internal_position: Option<u32>,
    /// The text of a failed command that the server itself generated, such as one of a PL/pgSQL
    /// function (`q`).
    pub internal_query: Option<String>,
    /// The stack of functions and internal queries, one per line, the most recent first (`W`,
    /// "where").
    pub context: Option<String>,
    /// The schema of the object that the error is about (`s`).
    pub schema: Option<String>,
    /// The table that the error is about (`t`).
    pub table: Option<String>,
    /// The column that the error is about (`c`).
    pub column: Option<String>,
    /// The data type that the error is about (`d`).
    pub data_type: Option<String>,
    /// The constraint that was violated; unique indexes count as constraints (`n`).
    pub constraint: Option<String>,
    /// The server's source file that reported the error (`F`).
    pub file: Option<String>,
    /// The line in that file (`L`).
    pub line: Option<u32>,
    /// The server's routine that reported the error (`R`).
    pub routine: Option<String>,
    /// Fields of types that this version does not know, repeated fields, and positions and lines
    /// that are no numbers: type byte and value, in the order of the message.
    pub other_fields: Vec<(u8, String)>,
    /// The SQL text that was running, added by the driver. It is as confidential as the text that
    /// the program sent; the parameters are not part of it.
    pub query: Option<Arc<str>>,
    /// Which parameter set of a batch the error happened in, counted from 0, added by the driver;
    /// `None` outside batches.
    pub parameter_set: Option<usize>,
}

/// A message of the server that is not an error: the content of a NoticeResponse has the same
/// fields.
pub type Notice = ServerError;

impl ServerError {
    /// Reads the body of an ErrorResponse or NoticeResponse: fields, each a type byte and a
    /// NUL-terminated string, and a zero byte after the last one.
    ///
    /// Bytes that are not UTF-8 are replaced (U+FFFD): before a session has its `client_encoding`,
    /// a server may write in another encoding, and a message that is mostly readable is better
    /// than none.
    ///
    /// # Errors
    ///
    /// [`PgError::Protocol`] when the body is cut off or has bytes behind its end, or when one of
    /// the fields that are always present (severity, code, message) is missing or senseless.
    pub fn parse(body: &[u8]) -> PgResult<Self> {
        let mut fields = Vec::new();
        let mut rest = body;
        loop {
            let Some((&field_type, after_type)) = rest.split_first() else {
                return Err(malformed(body.len(), "the zero byte after the last field is missing"));
            };
            if field_type == 0 {
                return match after_type.len() {
                    0 => Self::from_fields(fields),
                    extra => Err(malformed(
                        body.len() - extra,
                        &format!("{extra} bytes after the end of the fields"),
                    )),
                };
            }
            let mut halves = after_type.splitn(2, |&byte| byte == 0);
            let (Some(value), Some(after_value)) = (halves.next(), halves.next()) else {
                return Err(malformed(
                    body.len() - rest.len(),
                    &format!("field {} has no terminating NUL", show_type(field_type)),
                ));
            };
            fields.push((field_type, String::from_utf8_lossy(value).into_owned()));
            rest = after_value;
        }
    }

    /// The error that the given fields describe: pairs of a type byte and a value.
    ///
    /// # Errors
    ///
    /// [`PgError::Protocol`] when one of the fields that are always present (`S`, `C`, `M`) is
    /// missing, or the code is not an SQLSTATE.
    pub fn from_fields<T: Into<String>>(
        fields: impl IntoIterator<Item = (u8, T)>,
    ) -> PgResult<Self> {
        let mut collected = Fields::default();
        for (field_type, value) in fields {
            collected.add(field_type, value.into());
        }
        collected.finish()
    }
}

/// Fields on their way into a [`ServerError`]: the same, but the mandatory ones may still be
/// missing.
#[derive(Default)]
struct Fields {
    texts: [Option<String>; TEXT_FIELDS.len()],
    position: Option<u32>,
    internal_position: Option<u32>,
    line: Option<u32>,
    other: Vec<(u8, String)>,
}

/// The type bytes of the fields that are texts.
const TEXT_FIELDS: [u8; 15] = *b"SVCMDHqWstcdnFR";

impl Fields {
    fn add(&mut self, field_type: u8, value: String) {
        let number = match field_type {
            b'P' => &mut self.position,
            b'p' => &mut self.internal_position,
            b'L' => &mut self.line,
            _ => return self.add_text(field_type, value),
        };
        match (&*number, value.parse()) {
            (None, Ok(parsed)) => *number = Some(parsed),
            _ => self.other.push((field_type, value)),
        }
    }

    fn add_text(&mut self, field_type: u8, value: String) {
        let types = TEXT_FIELDS.iter();
        let slot = types.zip(&mut self.texts).find(|(known, _)| **known == field_type);
        match slot {
            Some((_, text @ None)) => *text = Some(value),
            _ => self.other.push((field_type, value)),
        }
    }

    fn finish(self) -> PgResult<ServerError> {
        let [
            severity,
            plain_severity,
            code,
            message,
            detail,
            hint,
            internal_query,
            context,
            schema,
            table,
            column,
            data_type,
            constraint,
            file,
            routine,
        ] = self.texts;
        let Some(message) = message else {
            return Err(incomplete("no message (field M)", ""));
        };
        let Some(localized_severity) = severity else {
            return Err(incomplete("no severity (field S)", &message));
        };
        let Some(code) = code else {
            return Err(incomplete("no SQLSTATE (field C)", &message));
        };
        let Some(code) = SqlState::from_bytes(code.as_bytes()) else {
            return Err(incomplete(&format!("the SQLSTATE {code:?}, which is none"), &message));
        };
        Ok(ServerError {
            severity: Severity::from_word(plain_severity.as_deref().unwrap_or(&localized_severity)),
            localized_severity,
            code,
            message,
            detail,
            hint,
            position: self.position,
            internal_position: self.internal_position,
            internal_query,
            context,
            schema,
            table,
            column,
            data_type,
            constraint,
            file,
            line: self.line,
            routine,
            other_fields: self.other,
            query: None,
            parameter_set: None,
        })
    }
}

/// The error for a body that is no sequence of fields; `offset` counts from the body's first byte.
fn malformed(offset: usize, what: &str) -> PgError {
    PgError::Protocol(format!(
        "malformed ErrorResponse or NoticeResponse, at byte {offset}: {what}"
    ))
}

/// The error for fields that lack what every message has. It keeps what the server wanted to say.
fn incomplete(what: &str, message: &str) -> PgError {
    let said = match message {
        "" => String::new(),
        message => format!("; its message is: {message}"),
    };
    PgError::Protocol(format!("an ErrorResponse or NoticeResponse has {what}{said}"))
}

/// A field's type byte for people: `M`, or a number if it is not a letter.
fn show_type(field_type: u8) -> String {
    match field_type {
        byte if byte.is_ascii_graphic() => char::from(byte).to_string(),
        byte => format!("of type {byte}"),
    }
}

impl std::error::Error for ServerError {}

impl fmt::Debug for ServerError {
    /// Only the fields that are there, under the names that they have in the struct.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("ServerError");
        out.field("severity", &self.severity);
        if self.localized_severity != self.severity.to_string() {
            out.field("localized_severity", &self.localized_severity);
        }
        out.field("code", &self.code).field("message", &self.message);
        let texts = [
            ("detail", &self.detail),
            ("hint", &self.hint),
            ("internal_query", &self.internal_query),
            ("context", &self.context),
            ("schema", &self.schema),
            ("table", &self.table),
            ("column", &self.column),
            ("data_type", &self.data_type),
            ("constraint", &self.constraint),
            ("file", &self.file),
            ("routine", &self.routine),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                out.field(name, text);
            }
        }
        let numbers = [
            ("position", self.position),
            ("internal_position", self.internal_position),
            ("line", self.line),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                out.field(name, &number);
            }
        }
        if !self.other_fields.is_empty() {
            out.field("other_fields", &self.other_fields);
        }
        if let Some(query) = &self.query {
            out.field("query", query);
        }
        if let Some(set) = self.parameter_set {
            out.field("parameter_set", &set);
        }
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A body with every field of the protocol, a different value for each, and one of an unknown
    /// type.
    const EVERY_FIELD: &[u8] = b"SFEHLER\0VERROR\0C23505\0Mmessage\0Ddetail\0Hhint\0P7\0p8\0\
        qselect 1\0Wcontext\0sschema\0ttable\0ccolumn\0ddata type\0nconstraint\0Fnbtinsert.c\0\
        L666\0R_bt_check_unique\0zfuture\0\0";

    fn protocol_error(body: &[u8]) -> String {
        match ServerError::parse(body) {
            Err(PgError::Protocol(what)) => what,
            other => panic!("{:?} gives {other:?}", String::from_utf8_lossy(body)),
        }
    }

    #[test]
    fn s4_1_every_diagnostic_field_has_its_place() {
        let error = ServerError::parse(EVERY_FIELD).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let expected = ServerError {
            severity: Severity::Error,
            localized_severity: "FEHLER".to_owned(),
            code: SqlState::UNIQUE_VIOLATION,
            message: "message".to_owned(),
            detail: text("detail"),
            hint: text("hint"),
            position: Some(7),
            internal_position: Some(8),
            internal_query: text("select 1"),
            context: text("context"),
            schema: text("schema"),
            table: text("table"),
            column: text("column"),
            data_type: text("data type"),
            constraint: text("constraint"),
            file: text("nbtinsert.c"),
            line: Some(666),
            routine: text("_bt_check_unique"),
            other_fields: vec![(b'z', "future".to_owned())],
            query: None,
            parameter_set: None,
        };
        assert_eq!(error, expected);
    }

    #[test]
    fn s4_2_from_fields_takes_pairs_in_any_order() {
        let error = PgError::from_fields([(b'M', "gone"), (b'S', "FATAL"), (b'C', "57P01")]);
        let server = error.as_server().expect("a server error");
        assert_eq!(server.severity, Severity::Fatal);
        assert_eq!(server.code, SqlState::ADMIN_SHUTDOWN);
        assert_eq!(server.message, "gone");
        assert_eq!(server.detail, None);
    }

    #[test]
    fn s4_2_every_severity_is_known_and_two_end_the_session() {
        let words = ["PANIC", "FATAL", "ERROR", "WARNING", "NOTICE", "DEBUG", "INFO", "LOG"];
        for word in words {
            let severity = Severity::from_word(word);
            assert_eq!(severity.to_string(), word);
            assert_eq!(severity.ends_session(), ["PANIC", "FATAL"].contains(&word));
        }
        assert_eq!(Severity::from_word("FEHLER"), Severity::Other);
        assert!(!Severity::Other.ends_session());
    }

    #[test]
    fn s4_2_nothing_that_the_server_said_is_dropped() {
        let fields = b"SERROR\0C22P02\0Mfirst\0Msecond\0P-1\0Lmany\0\x01odd\0\0";
        let error = ServerError::parse(fields).unwrap();
        assert_eq!((error.message.as_str(), error.position, error.line), ("first", None, None));
        let others = [(b'M', "second"), (b'P', "-1"), (b'L', "many"), (1, "odd")];
        assert_eq!(error.other_fields, others.map(|(kind, text)| (kind, text.to_owned())));
    }

    #[test]
    fn s8_3_text_that_is_not_utf8_is_replaced() {
        let error = ServerError::parse(b"SFATAL\0C28P01\0Mpassword f\xfcr\0\0").unwrap();
        assert_eq!(error.message, "password f\u{fffd}r");
    }

    #[test]
    fn s8_3_debug_shows_what_is_there() {
        let error = ServerError::parse(b"SERROR\0VERROR\0C42P01\0Mno table\0P3\0\0").unwrap();
        assert_eq!(
            format!("{error:?}"),
            "ServerError { severity: Error, code: SqlState(42P01 undefined_table), \
             message: \"no table\", position: 3 }"
        );
        let mut every_field = ServerError::parse(EVERY_FIELD).unwrap();
        every_field.query = Some("select 2".into());
        every_field.parameter_set = Some(17);
        let all = format!("{every_field:?}");
        for value in ["FEHLER", "detail", "hint", "666", "_bt_check_unique", "future", "data type"]
        {
            assert!(all.contains(value), "{value} is not in {all}");
        }
        assert!(all.ends_with("query: \"select 2\", parameter_set: 17 }"), "{all}");
    }

    #[test]
    fn h18_a_malformed_body_says_what_is_wrong_and_where() {
        let cases: [(&[u8], &str); 6] = [
            (b"", "at byte 0: the zero byte after the last field is missing"),
            (b"SERROR\0", "at byte 7: the zero byte after the last field is missing"),
            (b"SERROR\0C4000", "at byte 7: field C has no terminating NUL"),
            (b"\x02x", "at byte 0: field of type 2 has no terminating NUL"),
            (b"SERROR\0\0\0", "at byte 8: 1 bytes after the end of the fields"),
            (b"SERROR\0\0C40001\0\0", "at byte 8: 8 bytes after the end of the fields"),
        ];
        for (body, what) in cases {
            let error = protocol_error(body);
            assert!(error.ends_with(what), "{error}");
        }
    }

    #[test]
    fn h18_a_body_without_the_mandatory_fields_is_an_error_that_keeps_the_message() {
        assert_eq!(
            protocol_error(b"\0"),
            "an ErrorResponse or NoticeResponse has no message (field M)"
        );
        let error = protocol_error(b"C42601\0Moops\0\0");
        assert!(error.ends_with("has no severity (field S); its message is: oops"), "{error}");
        let error = protocol_error(b"SERROR\0Moops\0\0");
        assert!(error.ends_with("has no SQLSTATE (field C); its message is: oops"), "{error}");
        for code in ["4260", "426011", "", "4260\u{e9}", "42 01"] {
            let error = protocol_error(format!("SERROR\0C{code}\0Moops\0\0").as_bytes());
            assert!(error.contains("which is none; its message is: oops"), "{error}");
        }
    }

    #[test]
    fn h18_every_prefix_of_a_body_is_an_error() {
        for end in 0..EVERY_FIELD.len() {
            let prefix = &EVERY_FIELD[..end];
            let error = protocol_error(prefix);
            assert!(error.starts_with("malformed ErrorResponse"), "{error}");
        }
    }

    #[test]
    fn h18_a_flipped_byte_never_panics_and_never_passes_unnoticed() {
        let original = ServerError::parse(EVERY_FIELD).unwrap();
        for at in 0..EVERY_FIELD.len() {
            for flip in 1..=u8::MAX {
                let mut body = EVERY_FIELD.to_vec();
                body[at] ^= flip;
                match ServerError::parse(&body) {
                    Ok(error) => assert_ne!(error, original, "byte {at} ^ {flip:#04x}"),
                    Err(PgError::Protocol(_)) => {}
                    Err(other) => panic!("byte {at} ^ {flip:#04x}: {other:?}"),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn h18_any_bytes_are_an_answer_or_a_protocol_error(
            body in proptest::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..64)
        ) {
            match ServerError::parse(&body) {
                Ok(error) => { let _ = format!("{error}{error:#}{error:?}"); }
                Err(error) => prop_assert!(matches!(error, PgError::Protocol(_))),
            }
        }
    }
}
