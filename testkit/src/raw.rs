//! A small protocol client of its own, for set-up and as a second opinion.
//!
//! [`RawClient`] speaks protocol 3.0 over TCP or a unix socket, logs in by trust or by a cleartext
//! password, and runs simple queries whose results it gives as the server's text. It shares no code
//! with the driver under test: where both agree, neither is merely consistent with itself.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = testkit::Cluster::builder().start()?;
//! let mut client = cluster.client("postgres")?;
//! let results = client.simple("SELECT 1 AS one, NULL; SELECT 'a'")?;
//! assert_eq!(results[0].columns[0].name, "one");
//! assert_eq!(results[0].rows, [[Some("1".to_owned()), None]]);
//! assert_eq!(results[1].tag, "SELECT 1");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::frames::{Frame, FrameBuffer, Malformed, message, protocol_version};
use crate::socket::{Stream, Target, read_some};

/// How long the client waits for a connection, and for the next bytes of an answer, before it gives
/// up, so that no test hangs for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one statement returned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultSet {
    /// The columns; empty for a statement that returns no rows.
    pub columns: Vec<RawColumn>,
    /// The rows, each with a cell per column: the server's text, `None` for NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// The command tag, such as `INSERT 0 1`; empty for an empty statement.
    pub tag: String,
}

/// A column of a result, as the RowDescription tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawColumn {
    /// Its name.
    pub name: String,
    /// The object id of its type.
    pub type_oid: u32,
    /// Its type modifier, -1 for none.
    pub type_modifier: i32,
}

/// An ErrorResponse, field by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The fields in the server's order: field code and text, such as `('C', "42601")`.
    pub fields: Vec<(char, String)>,
}

impl ServerError {
    /// The text of the first field with this code, or nothing.
    pub fn field(&self, code: char) -> Option<&str> {
        self.fields.iter().find(|(found, _)| *found == code).map(|(_, text)| text.as_str())
    }

    /// SQLSTATE, such as `42601`.
    pub fn code(&self) -> &str {
        self.field('C').unwrap_or_default()
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        self.field('M').unwrap_or_default()
    }

    /// Severity in English, such as `FATAL`.
    pub fn severity(&self) -> &str {
        self.field('V').or(self.field('S')).unwrap_or_default()
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity(), self.code(), self.message())
    }
}

/// Why a [`RawClient`] did not get its answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum RawError {
    /// The connection broke, or there was none.
    Io(io::Error),
    /// The server said no.
    Server(ServerError),
    /// The server wants an authentication that this client does not speak: the code of its
    /// Authentication message (5: MD5, 10: SASL, that is SCRAM), or 3 when there is no password.
    Authentication(u32),
    /// The bytes are not what the protocol says.
    Protocol(String),
}

impl RawError {
    /// The server's SQLSTATE, if it was the server who said no.
    pub fn code(&self) -> Option<&str> {
        match self {
            RawError::Server(error) => Some(error.code()),
            _ => None,
        }
    }
}

impl fmt::Display for RawError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RawError::Io(error) => write!(f, "the connection failed: {error}"),
            RawError::Server(error) => error.fmt(f),
            RawError::Authentication(3) => {
                f.write_str("the server wants a password, none is given")
            }
            RawError::Authentication(code) => {
                write!(f, "the server wants authentication {code}, which RawClient does not speak")
            }
            RawError::Protocol(reason) => write!(f, "not PostgreSQL's protocol: {reason}"),
        }
    }
}

impl std::error::Error for RawError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RawError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for RawError {
    fn from(error: io::Error) -> RawError {
        RawError::Io(error)
    }
}

impl From<Malformed> for RawError {
    fn from(error: Malformed) -> RawError {
        RawError::Protocol(error.to_string())
    }
}

/// A logged-in connection, see the [module](self).
pub struct RawClient {
    stream: Arc<Stream>,
    received: FrameBuffer,
    process_id: u32,
    secret_key: Vec<u8>,
    parameters: Vec<(String, String)>,
    transaction_status: u8,
}

impl RawClient {
    /// Connects and logs in. A password is only sent when the server asks for it in cleartext.
    ///
    /// # Errors
    /// [`RawError::Server`] when the server refuses the login, [`RawError::Authentication`] when it
    /// asks for something else than trust or a cleartext password, [`RawError::Io`] when nobody
    /// answers.
    pub fn connect(
        target: &Target,
        user: &str,
        database: &str,
        password: Option<&str>,
    ) -> Result<RawClient, RawError> {
        let parameters = [("user", user), ("database", database), ("application_name", "testkit")];
        RawClient::connect_with(target, &parameters, password)
    }

    /// Connects and logs in with these parameters of the StartupMessage, such as `user`,
    /// `database`, `options`, `replication`. `client_encoding` is UTF8.
    ///
    /// # Errors
    /// As for [`RawClient::connect`].
    pub fn connect_with(
        target: &Target,
        parameters: &[(&str, &str)],
        password: Option<&str>,
    ) -> Result<RawClient, RawError> {
        let stream = target.connect(PATIENCE)?;
        stream.set_read_timeout(PATIENCE)?;
        let mut client = RawClient {
            stream: Arc::new(stream),
            received: FrameBuffer::new(),
            process_id: 0,
            secret_key: Vec::new(),
            parameters: Vec::new(),
            transaction_status: 0,
        };
        client.write(&startup_message(parameters))?;
        client.log_in(password)?;
        Ok(client)
    }

    fn log_in(&mut self, password: Option<&str>) -> Result<(), RawError> {
        loop {
            let frame = self.receive()?;
            let mut body = Body(&frame.body);
            match frame.tag {
                b'R' => match (body.u32()?, password) {
                    (0, _) => {}
                    (3, Some(password)) => self.send(b'p', &c_string(password))?,
                    (code, _) => return Err(RawError::Authentication(code)),
                },
                b'K' => {
                    self.process_id = body.u32()?;
                    self.secret_key = body.0.to_vec();
                }
                b'E' => return Err(RawError::Server(body.server_error()?)),
                b'Z' => return Ok(()),
                // What else the server tells: parameters (kept by `receive`), notices.
                _ => {}
            }
        }
    }

    /// Runs one or more statements by the simple query protocol.
    ///
    /// # Errors
    /// [`RawError::Server`] with the first error; the connection stays usable, and what earlier
    /// statements returned is dropped. A COPY from the client is refused.
    pub fn simple(&mut self, sql: &str) -> Result<Vec<ResultSet>, RawError> {
        // A server that has hung up may have said why; that is told rather than the failed write.
        let unsent = self.send(b'Q', &c_string(sql)).err();
        let mut results = Vec::new();
        let mut current = ResultSet::default();
        let mut failure = None;
        loop {
            let frame = match self.receive() {
                Ok(frame) => frame,
                Err(end) => return Err(failure.map(RawError::Server).or(unsent).unwrap_or(end)),
            };
            let mut body = Body(&frame.body);
            match frame.tag {
                b'T' => current.columns = body.columns()?,
                b'D' => current.rows.push(body.row()?),
                b'C' => {
                    current.tag = body.text()?;
                    results.push(std::mem::take(&mut current));
                }
                b'I' => results.push(std::mem::take(&mut current)),
                b'E' if failure.is_none() => failure = Some(body.server_error()?),
                b'G' => self.send(b'f', &c_string("RawClient sends no COPY data"))?,
                b'Z' => break,
                _ => {}
            }
        }
        match failure {
            Some(error) => Err(RawError::Server(error)),
            None => Ok(results),
        }
    }

    /// The first cell of the first row that the statement returns; `None` for NULL and for no row.
    ///
    /// # Errors
    /// As for [`RawClient::simple`].
    pub fn value(&mut self, sql: &str) -> Result<Option<String>, RawError> {
        let results = self.simple(sql)?;
        let first_row = results.into_iter().next().and_then(|set| set.rows.into_iter().next());
        Ok(first_row.and_then(|row| row.into_iter().next()).flatten())
    }

    /// Sends one message: type byte, length, body.
    ///
    /// # Errors
    /// [`RawError::Io`].
    pub fn send(&mut self, tag: u8, body: &[u8]) -> Result<(), RawError> {
        self.write(&message(tag, body))
    }

    /// Receives one message.
    ///
    /// # Errors
    /// [`RawError::Io`], also when the server has closed the connection; [`RawError::Protocol`] for
    /// a length that no message has.
    pub fn receive(&mut self) -> Result<Frame, RawError> {
        loop {
            if let Some(frame) = self.received.take_frame()? {
                self.take_note(&frame)?;
                return Ok(frame);
            }
            let mut piece = [0; 8192];
            match read_some(&self.stream, &mut piece)? {
                0 => return Err(RawError::Io(io::ErrorKind::UnexpectedEof.into())),
                length => self.received.push(piece.get(..length).unwrap_or_default()),
            }
        }
    }

    /// As [`RawClient::receive`] on a socket that was made non-blocking: `None` while no whole
    /// message is here.
    pub(crate) fn try_receive(&mut self) -> Result<Option<Frame>, RawError> {
        match self.receive() {
            Err(RawError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            received => received.map(Some),
        }
    }

    /// Keeps what the accessors tell, whoever reads the message.
    fn take_note(&mut self, frame: &Frame) -> Result<(), RawError> {
        let mut body = Body(&frame.body);
        match frame.tag {
            b'S' => {
                let (name, value) = (body.text()?, body.text()?);
                self.parameters.retain(|(known, _)| *known != name);
                self.parameters.push((name, value));
            }
            b'Z' => self.transaction_status = body.u8()?,
            _ => {}
        }
        Ok(())
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// [`RawError::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), RawError> {
        Ok((&*self.stream).write_all(bytes)?)
    }

    /// The process id of the server's backend.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// The key that a CancelRequest has to carry.
    pub fn secret_key(&self) -> &[u8] {
        &self.secret_key
    }

    /// The socket, for who waits on it or ends it from elsewhere.
    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// All parameters that the server reported, each with its latest value, latest last.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// A parameter that the server reported, such as `server_version`, with its latest value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The status byte of the last ReadyForQuery: `b'I'` idle, `b'T'` in a transaction, `b'E'` in a
    /// failed one.
    pub fn transaction_status(&self) -> u8 {
        self.transaction_status
    }
}

impl Drop for RawClient {
    fn drop(&mut self) {
        // Terminate, so that the server's log does not tell of a lost connection.
        let _ = self.send(b'X', &[]);
    }
}

impl fmt::Debug for RawClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawClient").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

/// A StartupMessage of protocol 3.0: like any message, without the type byte.
fn startup_message(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = protocol_version(3, 0).to_be_bytes().to_vec();
    for (name, value) in parameters.iter().chain(&[("client_encoding", "UTF8")]) {
        body.extend_from_slice(&c_string(name));
        body.extend_from_slice(&c_string(value));
    }
    body.push(0);
    message(0, &body).split_off(1)
}

fn c_string(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// The rest of a message's body, read from the front.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn bytes(&mut self, count: usize) -> Result<&[u8], RawError> {
        let (front, rest) = self.0.split_at_checked(count).ok_or_else(too_short)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RawError> {
        let bytes = self.bytes(N)?;
        bytes.try_into().map_err(|_| too_short())
    }

    fn u8(&mut self) -> Result<u8, RawError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, RawError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, RawError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, RawError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A string up to its zero byte.
    fn text(&mut self) -> Result<String, RawError> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(too_short)?;
        let text = utf8(self.bytes(end)?)?;
        self.u8()?;
        Ok(text)
    }

    fn columns(&mut self) -> Result<Vec<RawColumn>, RawError> {
        let count = self.u16()?;
        let column = |body: &mut Self| {
            let name = body.text()?;
            let (_table_oid, _attribute) = (body.u32()?, body.u16()?);
            let type_oid = body.u32()?;
            let _type_size = body.u16()?;
            let type_modifier = body.i32()?;
            let _format = body.u16()?;
            Ok(RawColumn { name, type_oid, type_modifier })
        };
        (0..count).map(|_| column(self)).collect()
    }

    fn row(&mut self) -> Result<Vec<Option<String>>, RawError> {
        let count = self.u16()?;
        let cell = |body: &mut Self| match usize::try_from(body.i32()?) {
            Ok(length) => utf8(body.bytes(length)?).map(Some),
            Err(_negative) => Ok(None),
        };
        (0..count).map(|_| cell(self)).collect()
    }

    fn server_error(&mut self) -> Result<ServerError, RawError> {
        let mut fields = Vec::new();
        loop {
            match self.u8()? {
                0 => return Ok(ServerError { fields }),
                code => fields.push((char::from(code), self.text()?)),
            }
        }
    }
}

fn too_short() -> RawError {
    RawError::Protocol("a message ends too soon".into())
}

fn utf8(bytes: &[u8]) -> Result<String, RawError> {
    String::from_utf8(bytes.to_vec())
        .map_err(|error| RawError::Protocol(format!("text that is not UTF-8: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_longer_than_its_message_is_an_error() {
        let mut body = Body(&[0, 1, 0, 0, 0, 9, b'a']);
        assert!(matches!(body.row(), Err(RawError::Protocol(_))));
    }

    #[test]
    fn null_and_empty_text_differ() {
        let mut body = Body(&[0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!(body.row().unwrap(), [None, Some(String::new())]);
    }

    #[test]
    fn an_error_tells_its_fields() {
        let mut body = Body(b"SERREUR\0VERROR\0C42601\0Mwrong\0P8\0\0");
        let error = body.server_error().unwrap();
        assert_eq!(error.to_string(), "ERROR 42601: wrong");
        assert_eq!(error.field('P'), Some("8"));
    }
}
