//! The messages that a client sends, written to the end of a buffer.
//!
//! Every function either appends one whole message or leaves the buffer as it was and says why.
//! Lengths are patched in when the body is there, through `try_from`: a value that is too long can
//! never wrap a length prefix.

use std::fmt;

use super::frame::MAX_MESSAGE_SIZE;
use super::reader::{Malformed, Reader};

/// The protocol version in a startup packet: major * 65536 + minor.
pub const PROTOCOL_3_0: i32 = 3 << 16;
/// Protocol 3.2, which PostgreSQL 18 introduced.
pub const PROTOCOL_3_2: i32 = (3 << 16) | 2;

/// The most parameters that a Parse or Bind can carry: an unsigned Int16 counts them.
pub const MAX_PARAMETERS: usize = u16::MAX as usize;

/// A message that cannot be written. Nothing of it is in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritable {
    /// A string contains a NUL byte, where the protocol ends a string at the first NUL.
    Nul {
        /// Which string.
        what: &'static str,
    },
    /// The message would be longer than [`MAX_MESSAGE_SIZE`], which no server accepts.
    TooLong,
    /// More than [`MAX_PARAMETERS`].
    TooManyParameters {
        /// How many.
        count: usize,
    },
    /// What was to be written again is no Bind message.
    NotABind,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nul { what } => write!(f, "the {what} contains a NUL byte"),
            Self::TooLong => {
                write!(
                    f,
                    "the message would be longer than a server accepts ({MAX_MESSAGE_SIZE} bytes)"
                )
            }
            Self::NotABind => f.write_str("the bytes are no Bind message"),
            Self::TooManyParameters { count } => {
                write!(f, "{count} parameters are more than the protocol allows ({MAX_PARAMETERS})")
            }
        }
    }
}

impl std::error::Error for Unwritable {}

/// A value in a Bind message, as the closure of [`bind`] left it at the end of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// NULL: the closure wrote nothing.
    Null,
    /// The closure wrote a value in this format (0 text, 1 binary).
    Value(i16),
}

/// What a Describe or Close message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement; the empty name is the unnamed one.
    Statement(&'a str),
    /// A portal; the empty name is the unnamed one.
    Portal(&'a str),
}

/// StartupMessage with `parameters` as (name, value).
///
/// # Errors
///
/// [`Unwritable::Nul`] for a NUL byte in a name or value; so for every function here that takes
/// strings.
pub fn startup<'a>(
    buf: &mut Vec<u8>,
    version: i32,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), Unwritable> {
    counted(buf, |buf| {
        buf.extend_from_slice(&version.to_be_bytes());
        for (name, value) in parameters {
            string(buf, "name of a startup parameter", name)?;
            string(buf, "value of a startup parameter", value)?;
        }
        buf.push(0);
        Ok(())
    })
}

/// SSLRequest.
pub fn ssl_request(buf: &mut Vec<u8>) {
    buf.extend_from_slice(&8i32.to_be_bytes());
    buf.extend_from_slice(&80_877_103i32.to_be_bytes());
}

/// GSSENCRequest.
pub fn gss_enc_request(buf: &mut Vec<u8>) {
    buf.extend_from_slice(&8i32.to_be_bytes());
    buf.extend_from_slice(&80_877_104i32.to_be_bytes());
}

/// CancelRequest for the server process `process_id` with the secret from its BackendKeyData.
///
/// # Errors
///
/// [`Unwritable::TooLong`] for a key that no BackendKeyData can have carried.
pub fn cancel_request(
    buf: &mut Vec<u8>,
    process_id: i32,
    secret_key: &[u8],
) -> Result<(), Unwritable> {
    counted(buf, |buf| {
        buf.extend_from_slice(&80_877_102i32.to_be_bytes());
        buf.extend_from_slice(&process_id.to_be_bytes());
        buf.extend_from_slice(secret_key);
        Ok(())
    })
}

/// PasswordMessage: a cleartext or MD5 password.
///
/// # Errors
///
/// [`Unwritable::Nul`].
pub fn password(buf: &mut Vec<u8>, password: &[u8]) -> Result<(), Unwritable> {
    message(buf, b'p', |buf| bytes_string(buf, "password", password))
}

/// SASLInitialResponse with the mechanism and the first client message.
///
/// # Errors
///
/// [`Unwritable::Nul`], [`Unwritable::TooLong`].
pub fn sasl_initial_response(
    buf: &mut Vec<u8>,
    mechanism: &str,
    data: &[u8],
) -> Result<(), Unwritable> {
    message(buf, b'p', |buf| {
        string(buf, "SASL mechanism", mechanism)?;
        buf.extend_from_slice(&length_i32(data.len())?.to_be_bytes());
        buf.extend_from_slice(data);
        Ok(())
    })
}

/// SASLResponse.
///
/// # Errors
///
/// [`Unwritable::TooLong`].
pub fn sasl_response(buf: &mut Vec<u8>, data: &[u8]) -> Result<(), Unwritable> {
    message(buf, b'p', |buf| {
        buf.extend_from_slice(data);
        Ok(())
    })
}

/// Query: the simple protocol.
///
/// # Errors
///
/// [`Unwritable::Nul`], [`Unwritable::TooLong`].
pub fn query(buf: &mut Vec<u8>, sql: &str) -> Result<(), Unwritable> {
    message(buf, b'Q', |buf| string(buf, "query", sql))
}

/// Parse: `sql` becomes the prepared statement `name` with these declared parameter types (0 =
/// unspecified).
///
/// # Errors
///
/// [`Unwritable::Nul`], [`Unwritable::TooLong`], [`Unwritable::TooManyParameters`].
pub fn parse(
    buf: &mut Vec<u8>,
    name: &str,
    sql: &str,
    types: impl ExactSizeIterator<Item = u32>,
) -> Result<(), Unwritable> {
    message(buf, b'P', |buf| {
        string(buf, "name of a statement", name)?;
        string(buf, "query", sql)?;
        buf.extend_from_slice(&count(types.len())?.to_be_bytes());
        types.for_each(|oid| buf.extend_from_slice(&oid.to_be_bytes()));
        Ok(())
    })
}

/// Bind: `portal` is made from `statement` with `parameters` values. `result_formats` is one format
/// code for all columns of the result, or one for each.
///
/// `value` is called once for each parameter, with its 0-based index and the buffer to append the
/// value to.
///
/// # Errors
///
/// What `value` returns, or an [`Unwritable`].
pub fn bind<E: From<Unwritable>>(
    buf: &mut Vec<u8>,
    portal: &str,
    statement: &str,
    parameters: usize,
    mut value: impl FnMut(usize, &mut Vec<u8>) -> Result<Bound, E>,
    result_formats: &[i16],
) -> Result<(), E> {
    message(buf, b'B', |buf| {
        let formats = write_bind_head(buf, portal, statement, parameters)?;
        write_values(buf, formats, parameters, &mut value)?;
        write_formats(buf, result_formats)?;
        Ok(())
    })
}

/// The beginning of a Bind message, up to the values; returns where their formats stand, which are
/// all text.
fn write_bind_head(
    buf: &mut Vec<u8>,
    portal: &str,
    statement: &str,
    parameters: usize,
) -> Result<usize, Unwritable> {
    string(buf, "name of a portal", portal)?;
    string(buf, "name of a statement", statement)?;
    let count = count(parameters)?.to_be_bytes();
    buf.extend_from_slice(&count);
    let formats = buf.len();
    buf.resize(formats + 2 * parameters, 0);
    buf.extend_from_slice(&count);
    Ok(formats)
}

/// The values of a Bind message. Their formats stand before them and are known after them.
#[inline]
fn write_values<E: From<Unwritable>>(
    buf: &mut Vec<u8>,
    formats: usize,
    parameters: usize,
    value: &mut impl FnMut(usize, &mut Vec<u8>) -> Result<Bound, E>,
) -> Result<(), E> {
    for index in 0..parameters {
        buf.extend_from_slice(&(-1i32).to_be_bytes());
        let start = buf.len();
        match value(index, buf)? {
            Bound::Null => buf.truncate(start),
            Bound::Value(format) => {
                let length = length_i32(buf.len() - start)?;
                patch(buf, start - 4, length.to_be_bytes());
                patch(buf, formats + 2 * index, format.to_be_bytes());
            }
        }
    }
    Ok(())
}

/// Bind, Execute and Sync of the unnamed portal, as far as they are the same each time that a
/// statement is run: everything but the values.
///
/// A message is [begun](Self::begin), the values are appended, and it is [ended](Self::end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindTemplate {
    /// Type byte, room for the length, and all that stands before the values.
    head: Vec<u8>,
    /// The formats of the result, the whole Execute, and a Sync.
    tail: Vec<u8>,
    /// How many bytes of the tail belong to Bind.
    bind_tail: usize,
    /// Where the formats of the values are.
    formats: usize,
}

/// How many bytes a Sync has.
const SYNC: usize = 5;

impl BindTemplate {
    /// For a statement with so many parameters; `result_formats` as for [`bind`].
    ///
    /// # Errors
    ///
    /// As [`bind`].
    pub fn new(
        statement: &str,
        parameters: usize,
        result_formats: &[i16],
    ) -> Result<Self, Unwritable> {
        let mut head = vec![b'B', 0, 0, 0, 0];
        let formats = write_bind_head(&mut head, "", statement, parameters)?;
        for format in
            head.get_mut(formats..).unwrap_or_default().chunks_exact_mut(2).take(parameters)
        {
            format.copy_from_slice(&1_i16.to_be_bytes());
        }
        let mut tail = Vec::new();
        write_formats(&mut tail, result_formats)?;
        let bind_tail = tail.len();
        execute(&mut tail, "", 0)?;
        sync(&mut tail);
        Ok(Self { head, tail, bind_tail, formats })
    }

    /// Appends what stands before the values, and returns where in `buf` their formats are: each is
    /// that of binary, and is to be overwritten for a value in text.
    #[inline]
    pub fn begin(&self, buf: &mut Vec<u8>) -> usize {
        let formats = buf.len() + self.formats;
        buf.extend_from_slice(&self.head);
        formats
    }

    /// Appends what stands behind the values, and a Sync if there is to be one. The message has
    /// begun at `start` in `buf`.
    ///
    /// # Errors
    ///
    /// [`Unwritable::TooLong`]; what was written is of no use then.
    #[inline(always)]
    pub fn end(&self, buf: &mut Vec<u8>, start: usize, has_sync: bool) -> Result<(), Unwritable> {
        // The length counts itself and not the type byte.
        let length = length_i32(buf.len() + self.bind_tail - start - 1)?;
        patch(buf, start + 1, length.to_be_bytes());
        let end = if has_sync { self.tail.len() } else { self.tail.len() - SYNC };
        buf.extend_from_slice(self.tail.get(..end).unwrap_or_default());
        Ok(())
    }
}

/// The end of a Bind message: the formats of the result.
fn write_formats(buf: &mut Vec<u8>, formats: &[i16]) -> Result<(), Unwritable> {
    buf.extend_from_slice(&count(formats.len())?.to_be_bytes());
    formats.iter().for_each(|format| buf.extend_from_slice(&format.to_be_bytes()));
    Ok(())
}

/// A Bind message written again from the body of an earlier one: the same portal and values, but
/// another statement and other formats of the result.
///
/// # Errors
///
/// [`Unwritable::Nul`], [`Unwritable::TooLong`]. A body that is no Bind's is
/// [`Unwritable::NotABind`].
pub fn bind_again(
    buf: &mut Vec<u8>,
    earlier: &[u8],
    statement: &str,
    result_formats: &[i16],
) -> Result<(), Unwritable> {
    let (portal, values) = split_bind(earlier).map_err(|_| Unwritable::NotABind)?;
    message(buf, b'B', |buf| {
        buf.extend_from_slice(portal);
        buf.push(0);
        string(buf, "name of a statement", statement)?;
        length_i32(values.len())?;
        buf.extend_from_slice(values);
        write_formats(buf, result_formats)
    })
}

/// The portal of a Bind, and everything between the statement's name and the formats of the result.
fn split_bind(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut reader = Reader::new("Bind", body);
    let portal = reader.string()?;
    reader.string()?;
    let mut rest = reader;
    for _ in 0..rest.count_u16()? {
        rest.i16()?;
    }
    for _ in 0..rest.count_u16()? {
        rest.value()?;
    }
    let values = reader.bytes(reader.len() - rest.len())?;
    Ok((portal, values))
}

/// Describe.
///
/// # Errors
///
/// [`Unwritable::Nul`].
pub fn describe(buf: &mut Vec<u8>, target: Target<'_>) -> Result<(), Unwritable> {
    message(buf, b'D', |buf| write_target(buf, target))
}

/// Close.
///
/// # Errors
///
/// [`Unwritable::Nul`].
pub fn close(buf: &mut Vec<u8>, target: Target<'_>) -> Result<(), Unwritable> {
    message(buf, b'C', |buf| write_target(buf, target))
}

/// Execute: at most `max_rows` rows of `portal`, 0 for all.
///
/// # Errors
///
/// [`Unwritable::Nul`].
pub fn execute(buf: &mut Vec<u8>, portal: &str, max_rows: i32) -> Result<(), Unwritable> {
    message(buf, b'E', |buf| {
        string(buf, "name of a portal", portal)?;
        buf.extend_from_slice(&max_rows.to_be_bytes());
        Ok(())
    })
}

/// FunctionCall of the function `oid` with arguments and result in binary.
///
/// # Errors
///
/// [`Unwritable::TooManyParameters`], [`Unwritable::TooLong`].
pub fn function_call(
    buf: &mut Vec<u8>,
    oid: u32,
    arguments: &[Option<&[u8]>],
) -> Result<(), Unwritable> {
    message(buf, b'F', |buf| {
        buf.extend_from_slice(&oid.to_be_bytes());
        buf.extend_from_slice(&1i16.to_be_bytes());
        buf.extend_from_slice(&1i16.to_be_bytes());
        buf.extend_from_slice(&count(arguments.len())?.to_be_bytes());
        for argument in arguments {
            match argument {
                None => buf.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(value) => {
                    buf.extend_from_slice(&length_i32(value.len())?.to_be_bytes());
                    buf.extend_from_slice(value);
                }
            }
        }
        buf.extend_from_slice(&1i16.to_be_bytes());
        Ok(())
    })
}

/// CopyData.
///
/// # Errors
///
/// [`Unwritable::TooLong`].
pub fn copy_data(buf: &mut Vec<u8>, data: &[u8]) -> Result<(), Unwritable> {
    message(buf, b'd', |buf| {
        buf.extend_from_slice(data);
        Ok(())
    })
}

/// The beginning of a CopyData with `length` bytes of data, which are sent from elsewhere.
///
/// # Errors
///
/// [`Unwritable::TooLong`].
pub(crate) fn copy_data_header(buf: &mut Vec<u8>, length: usize) -> Result<(), Unwritable> {
    // The length counts itself.
    let length = length_i32(length.saturating_add(4))?;
    buf.push(b'd');
    buf.extend_from_slice(&length.to_be_bytes());
    Ok(())
}

/// CopyFail: the COPY fails with `reason`.
///
/// # Errors
///
/// [`Unwritable::Nul`], [`Unwritable::TooLong`].
pub fn copy_fail(buf: &mut Vec<u8>, reason: &str) -> Result<(), Unwritable> {
    message(buf, b'f', |buf| string(buf, "reason of a CopyFail", reason))
}

/// CopyDone.
pub fn copy_done(buf: &mut Vec<u8>) {
    bare(buf, b'c');
}

/// Flush.
pub fn flush(buf: &mut Vec<u8>) {
    bare(buf, b'H');
}

/// Sync.
pub fn sync(buf: &mut Vec<u8>) {
    bare(buf, b'S');
}

/// Terminate.
pub fn terminate(buf: &mut Vec<u8>) {
    bare(buf, b'X');
}

fn bare(buf: &mut Vec<u8>, tag: u8) {
    buf.extend_from_slice(&[tag, 0, 0, 0, 4]);
}

/// Appends `tag`, then what [`counted`] appends; nothing at all when `body` fails.
fn message<E: From<Unwritable>>(
    buf: &mut Vec<u8>,
    tag: u8,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = buf.len();
    buf.push(tag);
    counted(buf, body).inspect_err(|_| buf.truncate(start))
}

/// Appends a length that counts itself and what `body` appends.
fn counted<E: From<Unwritable>>(
    buf: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = buf.len();
    buf.extend_from_slice(&[0; 4]);
    let written = body(buf).and_then(|()| length_i32(buf.len() - start).map_err(E::from));
    match written {
        Ok(length) => {
            patch(buf, start, length.to_be_bytes());
            Ok(())
        }
        Err(error) => {
            buf.truncate(start);
            Err(error)
        }
    }
}

fn write_target(buf: &mut Vec<u8>, target: Target<'_>) -> Result<(), Unwritable> {
    match target {
        Target::Statement(name) => {
            buf.push(b'S');
            string(buf, "name of a statement", name)
        }
        Target::Portal(name) => {
            buf.push(b'P');
            string(buf, "name of a portal", name)
        }
    }
}

fn string(buf: &mut Vec<u8>, what: &'static str, value: &str) -> Result<(), Unwritable> {
    bytes_string(buf, what, value.as_bytes())
}

fn bytes_string(buf: &mut Vec<u8>, what: &'static str, value: &[u8]) -> Result<(), Unwritable> {
    if value.contains(&0) {
        return Err(Unwritable::Nul { what });
    }
    // Checked before it is copied: a text of several GiB is refused without touching the buffer.
    length_i32(value.len())?;
    buf.extend_from_slice(value);
    buf.push(0);
    Ok(())
}

fn count(items: usize) -> Result<u16, Unwritable> {
    u16::try_from(items).map_err(|_| Unwritable::TooManyParameters { count: items })
}

/// A length as the wire has it. No longer message than [`MAX_MESSAGE_SIZE`] is ever built, so no
/// length wraps.
fn length_i32(bytes: usize) -> Result<i32, Unwritable> {
    match i32::try_from(bytes) {
        Ok(length) if bytes < MAX_MESSAGE_SIZE => Ok(length),
        _ => Err(Unwritable::TooLong),
    }
}

/// Overwrites bytes that were written before.
fn patch<const N: usize>(buf: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = buf.get_mut(at..at + N) {
        place.copy_from_slice(&bytes);
    }
}
