//! The part of HTTP/1.1 that this server speaks: requests without a body, and responses that know
//! their length. Bytes in and bytes out; it knows no socket.

use std::io::Write;

use httparse::Status::{Complete, Partial};
use serde::Serialize;

/// The most bytes that the head of a request may have.
pub(crate) const MAX_HEAD: usize = 8 * 1024;

/// The most header fields that a request may have.
const MAX_FIELDS: usize = 64;

/// A request. Whatever its header fields say beyond this does not matter here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The path, and the query behind a question mark.
    pub(crate) target: String,
    /// Whether another request may follow it.
    pub(crate) keep_alive: bool,
}

/// What the bytes that a client has sent begin with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A part of a request.
    Partial,
    /// A request, in so many bytes.
    Whole(Request, usize),
    /// Something that is answered like this. Where the next request would begin is not known, so it
    /// is the last answer.
    Refused(Response),
}

/// Reads the request that `input` begins with.
pub(crate) fn parse(input: &[u8]) -> Parsed {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(input) {
        Ok(Complete(length)) => length,
        Ok(Partial) if input.len() < MAX_HEAD => return Parsed::Partial,
        Ok(Partial) => MAX_HEAD + 1,
        Err(httparse::Error::TooManyHeaders) => return refused(Status::HeadTooLarge),
        Err(_) => return refused(Status::BadRequest),
    };
    if length > MAX_HEAD {
        return refused(Status::HeadTooLarge);
    }
    let is_1_1 = request.version == Some(1);
    let mut keep_alive = is_1_1;
    let mut has_host = false;
    for field in &*request.headers {
        let name = field.name;
        let tokens = || field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if name.eq_ignore_ascii_case("host") {
            has_host = true;
        } else if name.eq_ignore_ascii_case("connection") {
            let says = |word: &[u8]| tokens().any(|token| token.eq_ignore_ascii_case(word));
            keep_alive = !says(b"close") && (is_1_1 || says(b"keep-alive"));
        } else if name.eq_ignore_ascii_case("transfer-encoding")
            || (name.eq_ignore_ascii_case("content-length") && field.value != b"0")
        {
            return refused(Status::ContentTooLarge);
        }
    }
    if is_1_1 && !has_host {
        return refused(Status::BadRequest);
    }
    match (request.method, request.path) {
        (Some("GET"), Some(path)) => {
            Parsed::Whole(Request { target: path.to_owned(), keep_alive }, length)
        }
        _ => refused(Status::MethodNotAllowed),
    }
}

fn refused(status: Status) -> Parsed {
    Parsed::Refused(Response::status(status))
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    ContentTooLarge,
    HeadTooLarge,
    InternalServerError,
    ServiceUnavailable,
    GatewayTimeout,
}

impl Status {
    /// Its code and its name.
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::ContentTooLarge => "413 Content Too Large",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::InternalServerError => "500 Internal Server Error",
            Self::ServiceUnavailable => "503 Service Unavailable",
            Self::GatewayTimeout => "504 Gateway Timeout",
        }
    }

    /// Header fields that go with it.
    fn fields(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "Allow: GET\r\n",
            Self::ServiceUnavailable => "Retry-After: 1\r\n",
            _ => "",
        }
    }
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    status: Status,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Response {
    /// One that consists of its status.
    pub(crate) fn status(status: Status) -> Self {
        let body = format!("{}\n", status.line()).into_bytes();
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }

    /// A value as JSON.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status: Status::Ok, content_type: "application/json", body },
            Err(_) => Self::status(Status::InternalServerError),
        }
    }

    /// A page.
    pub(crate) fn html(page: String) -> Self {
        let content_type = "text/html; charset=utf-8";
        Self { status: Status::Ok, content_type, body: page.into_bytes() }
    }

    /// Appends its bytes to `out`; the last one says that it is so.
    pub(crate) fn write(&self, out: &mut Vec<u8>, date: &str, is_last: bool) {
        let Self { status, content_type, body } = self;
        let (line, fields, length) = (status.line(), status.fields(), body.len());
        let connection = if is_last { "Connection: close\r\n" } else { "" };
        // Writing into memory does not fail.
        let _ = write!(
            out,
            "HTTP/1.1 {line}\r\nServer: chopin-pg\r\nDate: {date}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\n{connection}{fields}\r\n"
        );
        out.extend_from_slice(body);
    }
}
