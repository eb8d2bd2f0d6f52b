//! Decoders of the frontend's messages, strict to the byte.

use super::{Direction, Frame, Malformed, describe_tag, message};

const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// What a client may send before the session begins: the packets without a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// StartupMessage: a session begins.
    Startup(Startup),
    /// SSLRequest: answered with one byte, after which the client goes on.
    SslRequest,
    /// GSSENCRequest: answered with one byte, after which the client goes on.
    GssEncRequest,
    /// CancelRequest: the only packet of its connection.
    CancelRequest {
        /// The process to interrupt, from its BackendKeyData.
        process_id: i32,
        /// The key from its BackendKeyData.
        secret_key: Vec<u8>,
    },
}

impl FirstPacket {
    /// Reads a whole packet, length word included, as `FrameBuffer::take_first_packet` gives it.
    ///
    /// # Errors
    /// The packet is cut short, has bytes left over, an unknown request code, or text that is no
    /// UTF-8.
    pub fn decode(packet: &[u8]) -> Result<Self, Malformed> {
        let mut body = Body::new("startup packet", packet);
        let length = body.int32("length")?;
        if usize::try_from(length) != Ok(packet.len()) {
            return Err(body.wrong(&format!("length {length} for {} bytes", packet.len())));
        }
        let code = body.int32("protocol version")?;
        let decoded = match code {
            SSL_REQUEST => Self::SslRequest,
            GSSENC_REQUEST => Self::GssEncRequest,
            CANCEL_REQUEST => Self::CancelRequest {
                process_id: body.int32("process id")?,
                secret_key: body.take_rest().to_vec(),
            },
            version => Self::Startup(Startup::decode(version, &mut body)?),
        };
        body.finish()?;
        Ok(decoded)
    }

    /// The documentation's name of this packet.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Startup(_) => "StartupMessage",
            Self::SslRequest => "SSLRequest",
            Self::GssEncRequest => "GSSENCRequest",
            Self::CancelRequest { .. } => "CancelRequest",
        }
    }
}

/// A CancelRequest for the process and key of a BackendKeyData.
///
/// ```
/// use testkit::frames::{FirstPacket, cancel_request};
///
/// let packet = cancel_request(4242, b"key!");
/// let secret_key = b"key!".to_vec();
/// assert_eq!(
///     FirstPacket::decode(&packet),
///     Ok(FirstPacket::CancelRequest { process_id: 4242, secret_key })
/// );
/// ```
///
/// # Panics
/// If the key is longer than an Int32 can say.
pub fn cancel_request(process_id: u32, secret_key: &[u8]) -> Vec<u8> {
    let code = CANCEL_REQUEST.to_be_bytes();
    let body = [&code, process_id.to_be_bytes().as_slice(), secret_key].concat();
    // Like any message, without the type byte.
    message(0, &body).split_off(1)
}

/// StartupMessage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// Major and minor protocol version.
    pub version: (u16, u16),
    /// The parameters in the order they came.
    pub params: Vec<(String, String)>,
}

impl Startup {
    /// The value of a parameter, the last one if it came twice.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn decode(version: i32, body: &mut Body<'_>) -> Result<Self, Malformed> {
        let [a, b, c, d] = version.to_be_bytes();
        let version = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if version.0 != 3 {
            return Err(body.wrong(&format!("protocol version {}.{}", version.0, version.1)));
        }
        let mut params = Vec::new();
        loop {
            let name = body.string("parameter name")?;
            if name.is_empty() {
                return Ok(Self { version, params });
            }
            params.push((name, body.string("parameter value")?));
        }
    }
}

/// Parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parse {
    /// The statement's name, empty for the unnamed one.
    pub name: String,
    /// The query text.
    pub sql: String,
    /// The declared parameter types, 0 for "unspecified".
    pub type_oids: Vec<u32>,
}

/// Bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The portal's name, empty for the unnamed one.
    pub portal: String,
    /// The statement's name, empty for the unnamed one.
    pub statement: String,
    /// None, one for all, or one per parameter; 0 is text, 1 is binary.
    pub param_formats: Vec<i16>,
    /// The parameter values; `None` is NULL.
    pub params: Vec<Option<Vec<u8>>>,
    /// None, one for all, or one per result column; 0 is text, 1 is binary.
    pub result_formats: Vec<i16>,
}

impl Bind {
    /// The format asked for result column `index` (from 0), by the rule of "none, one or all".
    pub fn result_format(&self, index: usize) -> i16 {
        match self.result_formats.as_slice() {
            [] => 0,
            [all] => *all,
            each => each.get(index).copied().unwrap_or(0),
        }
    }
}

/// Execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execute {
    /// The portal's name, empty for the unnamed one.
    pub portal: String,
    /// The most rows to send, 0 for all.
    pub max_rows: i32,
}

/// What a Describe or Close is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The prepared statement of this name.
    Statement(String),
    /// The portal of this name.
    Portal(String),
}

/// SASLInitialResponse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslInitialResponse {
    /// The mechanism the client chose.
    pub mechanism: String,
    /// The client's first message, if it sent one.
    pub data: Option<Vec<u8>>,
}

/// Decoders of what a client sends. Each checks the tag and that no byte is missing or left over.
impl Frame {
    /// Reads a Parse.
    ///
    /// # Errors
    /// Another message, or a malformed one.
    pub fn as_parse(&self) -> Result<Parse, Malformed> {
        let mut body = self.body_of(b'P')?;
        let name = body.string("statement name")?;
        let sql = body.string("query")?;
        let count = body.count("number of parameter types")?;
        let type_oids =
            (0..count).map(|_| body.uint32("parameter type")).collect::<Result<_, _>>()?;
        body.finish()?;
        Ok(Parse { name, sql, type_oids })
    }

    /// Reads a Bind.
    ///
    /// # Errors
    /// Another message, or a malformed one.
    pub fn as_bind(&self) -> Result<Bind, Malformed> {
        let mut body = self.body_of(b'B')?;
        let bind = Bind {
            portal: body.string("portal name")?,
            statement: body.string("statement name")?,
            param_formats: body.formats("parameter format")?,
            params: body.values("parameter value")?,
            result_formats: body.formats("result format")?,
        };
        if !matches!(bind.param_formats.len(), 0 | 1)
            && bind.param_formats.len() != bind.params.len()
        {
            return Err(body.wrong(&format!(
                "{} parameter formats for {} parameters",
                bind.param_formats.len(),
                bind.params.len()
            )));
        }
        body.finish()?;
        Ok(bind)
    }

    /// Reads an Execute.
    ///
    /// # Errors
    /// Another message, or a malformed one.
    pub fn as_execute(&self) -> Result<Execute, Malformed> {
        let mut body = self.body_of(b'E')?;
        let execute =
            Execute { portal: body.string("portal name")?, max_rows: body.int32("row limit")? };
        body.finish()?;
        Ok(execute)
    }

    /// Reads what a Describe is about.
    ///
    /// # Errors
    /// Another message, or a malformed one.
    pub fn as_describe(&self) -> Result<Subject, Malformed> {
        self.subject(b'D')
    }

    /// Reads what a Close is about.
    ///
    /// # Errors
    /// Another message, or a malformed one.
    pub fn as_close(&self) -> Result<Subject, Malformed> {
        self.subject(b'C')
    }

    /// Reads the text of a simple Query.
    ///
    /// # Errors
    /// Another message, or a malformed one.
    pub fn as_query(&self) -> Result<String, Malformed> {
        self.single_string(b'Q', "query")
    }

    /// Reads the reason of a CopyFail.
    ///
    /// # Errors
    /// Another message, or a malformed one.
    pub fn as_copy_fail(&self) -> Result<String, Malformed> {
        self.single_string(b'f', "reason")
    }

    /// Reads the password, plain or as `md5...`, of a PasswordMessage.
    ///
    /// # Errors
    /// Another message, or a malformed one.
    pub fn as_password(&self) -> Result<String, Malformed> {
        self.single_string(b'p', "password")
    }

    /// Reads a SASLInitialResponse.
    ///
    /// # Errors
    /// Another message, or a malformed one.
    pub fn as_sasl_initial_response(&self) -> Result<SaslInitialResponse, Malformed> {
        let mut body = self.body_of(b'p')?;
        let mechanism = body.string("mechanism")?;
        let data = body.value("initial response")?;
        body.finish()?;
        Ok(SaslInitialResponse { mechanism, data })
    }

    /// Reads the data of a SASLResponse: the whole body.
    ///
    /// # Errors
    /// Another message.
    pub fn as_sasl_response(&self) -> Result<&[u8], Malformed> {
        Ok(self.body_of(b'p')?.take_rest())
    }

    fn subject(&self, tag: u8) -> Result<Subject, Malformed> {
        let mut body = self.body_of(tag)?;
        let kind = body.bytes(1, "kind")?;
        let name = body.string("name")?;
        body.finish()?;
        match kind {
            b"S" => Ok(Subject::Statement(name)),
            b"P" => Ok(Subject::Portal(name)),
            other => Err(body.wrong(&format!("kind '{}', not S or P", other.escape_ascii()))),
        }
    }

    fn single_string(&self, tag: u8, what: &str) -> Result<String, Malformed> {
        let mut body = self.body_of(tag)?;
        let text = body.string(what)?;
        body.finish()?;
        Ok(text)
    }

    fn body_of(&self, tag: u8) -> Result<Body<'_>, Malformed> {
        let name = super::message_name(Direction::Frontend, tag).unwrap_or("message");
        if self.tag == tag {
            return Ok(Body::new(name, &self.body));
        }
        let other = describe_tag(Direction::Frontend, self.tag);
        Err(Malformed::new(format!("{other} is no {name}")))
    }
}

/// Reads a body from the front; every step that finds too little says what it looked for.
struct Body<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn new(message: &'static str, rest: &'a [u8]) -> Self {
        Self { message, rest }
    }

    fn wrong(&self, what: &str) -> Malformed {
        Malformed::new(format!("{}: {what}", self.message))
    }

    fn bytes(&mut self, count: usize, what: &str) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.wrong(&format!("the {what} is cut short")));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Malformed> {
        let bytes = self.bytes(N, what)?;
        bytes.try_into().map_err(|_| self.wrong(what))
    }

    fn int16(&mut self, what: &str) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array(what)?))
    }

    fn int32(&mut self, what: &str) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array(what)?))
    }

    fn uint32(&mut self, what: &str) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    /// An Int16 that counts; servers read it without a sign, so that 65,535 is the most.
    fn count(&mut self, what: &str) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    fn string(&mut self, what: &str) -> Result<String, Malformed> {
        let Some(end) = self.rest.iter().position(|byte| *byte == 0) else {
            return Err(self.wrong(&format!("no NUL ends the {what}")));
        };
        let text = self.bytes(end, what)?;
        self.bytes(1, what)?;
        String::from_utf8(text.to_vec()).map_err(|_| self.wrong(&format!("{what} is not UTF-8")))
    }

    fn formats(&mut self, what: &str) -> Result<Vec<i16>, Malformed> {
        let count = self.count(what)?;
        let formats: Vec<i16> =
            (0..count).map(|_| self.int16(what)).collect::<Result<_, Malformed>>()?;
        match formats.iter().find(|format| !matches!(format, 0 | 1)) {
            Some(format) => Err(self.wrong(&format!("{what} {format}, not 0 or 1"))),
            None => Ok(formats),
        }
    }

    fn values(&mut self, what: &str) -> Result<Vec<Option<Vec<u8>>>, Malformed> {
        let count = self.count(what)?;
        (0..count).map(|_| self.value(what)).collect()
    }

    fn value(&mut self, what: &str) -> Result<Option<Vec<u8>>, Malformed> {
        let length = self.int32(what)?;
        if length == -1 {
            return Ok(None);
        }
        let Ok(length) = usize::try_from(length) else {
            return Err(self.wrong(&format!("{what} has length {length}")));
        };
        Ok(Some(self.bytes(length, what)?.to_vec()))
    }

    fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn finish(&self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(self.wrong(&format!("{count} bytes are left over"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, body: &[u8]) -> Frame {
        Frame { tag, body: body.to_vec() }
    }

    fn error<T: std::fmt::Debug>(result: Result<T, Malformed>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn parse_gives_name_sql_and_types() {
        let parse = frame(b'P', b"s1\0SELECT $1\0\0\x02\0\0\0\x17\x80\0\0\0").as_parse().unwrap();
        assert_eq!(parse.name, "s1");
        assert_eq!(parse.sql, "SELECT $1");
        assert_eq!(parse.type_oids, [23, 0x8000_0000]);
    }

    #[test]
    fn bind_gives_every_part() {
        let body = b"p\0s\0\0\x02\0\x01\0\0\0\x02\0\0\0\x02hi\xff\xff\xff\xff\0\x01\0\x01";
        let bind = frame(b'B', body).as_bind().unwrap();
        assert_eq!((bind.portal.as_str(), bind.statement.as_str()), ("p", "s"));
        assert_eq!(bind.param_formats, [1, 0]);
        assert_eq!(bind.params, [Some(b"hi".to_vec()), None]);
        assert_eq!(bind.result_formats, [1]);
        assert_eq!((bind.result_format(0), bind.result_format(9)), (1, 1));
    }

    #[test]
    fn the_small_ones_are_read() {
        let execute = frame(b'E', b"p\0\0\0\0\x05").as_execute().unwrap();
        assert_eq!(execute, Execute { portal: "p".into(), max_rows: 5 });
        let describe = frame(b'D', b"Ss1\0").as_describe().unwrap();
        assert_eq!(describe, Subject::Statement("s1".into()));
        assert_eq!(frame(b'C', b"P\0").as_close().unwrap(), Subject::Portal(String::new()));
        assert_eq!(frame(b'Q', b"SELECT 1\0").as_query().unwrap(), "SELECT 1");
        assert_eq!(frame(b'f', b"enough\0").as_copy_fail().unwrap(), "enough");
        assert_eq!(frame(b'p', b"secret\0").as_password().unwrap(), "secret");
        let initial = frame(b'p', b"M\0\0\0\0\x03abc").as_sasl_initial_response().unwrap();
        assert_eq!(initial.mechanism, "M");
        assert_eq!(initial.data.as_deref(), Some(b"abc".as_slice()));
        assert_eq!(frame(b'p', b"c=biws").as_sasl_response().unwrap(), b"c=biws");
    }

    #[test]
    fn first_packets_are_told_apart() {
        let startup = b"\0\0\0\x19\0\x03\0\x02user\0me\0a\0b\0a\0c\0\0";
        let FirstPacket::Startup(startup) = FirstPacket::decode(startup).unwrap() else {
            panic!("no startup message");
        };
        assert_eq!(startup.version, (3, 2));
        assert_eq!(startup.param("user"), Some("me"));
        assert_eq!(startup.param("a"), Some("c"), "the last one counts");
        assert_eq!(startup.param("b"), None);
        let ssl = FirstPacket::decode(b"\0\0\0\x08\x04\xd2\x16\x2f").unwrap();
        assert_eq!(ssl, FirstPacket::SslRequest);
        let gss = FirstPacket::decode(b"\0\0\0\x08\x04\xd2\x16\x30").unwrap();
        assert_eq!(gss, FirstPacket::GssEncRequest);
        let cancel = FirstPacket::decode(b"\0\0\0\x12\x04\xd2\x16\x2e\0\0\0\x07longer").unwrap();
        let key = b"longer".to_vec();
        assert_eq!(cancel, FirstPacket::CancelRequest { process_id: 7, secret_key: key });
        assert_eq!(cancel.name(), "CancelRequest");
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(error(frame(b'Q', b"x").as_query()), "Query: no NUL ends the query");
        assert_eq!(error(frame(b'Q', b"x\0y").as_query()), "Query: 1 bytes are left over");
        assert_eq!(error(frame(b'Q', b"\xff\0").as_query()), "Query: query is not UTF-8");
        assert_eq!(error(frame(b'X', b"").as_query()), "Terminate ('X') is no Query");
        let huge = b"\0\0\0\0\0\x01\x7f\xff\xff\xff";
        assert_eq!(error(frame(b'B', huge).as_bind()), "Bind: the parameter value is cut short");
        let negative = b"\0\0\0\0\0\x01\xff\xff\xff\xfe";
        assert_eq!(error(frame(b'B', negative).as_bind()), "Bind: parameter value has length -2");
        let formats = b"\0\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0";
        assert_eq!(
            error(frame(b'B', formats).as_bind()),
            "Bind: 2 parameter formats for 1 parameters"
        );
        let format = b"\0\0\0\x01\0\x07\0\0\0\0";
        assert_eq!(error(frame(b'B', format).as_bind()), "Bind: parameter format 7, not 0 or 1");
        assert_eq!(error(frame(b'D', b"Xs\0").as_describe()), "Describe: kind 'X', not S or P");
        assert_eq!(
            error(FirstPacket::decode(b"\0\0\0\x09\0\x02\0\0\0")),
            "startup packet: protocol version 2.0"
        );
        assert_eq!(
            error(FirstPacket::decode(b"\0\0\0\x0a\0\x03\0\0\0\0")),
            "startup packet: 1 bytes are left over"
        );
    }
}
