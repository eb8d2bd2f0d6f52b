//! The messages that a server sends.

pub use super::description::{Field, List, Mechanisms};
use super::description::{cell, field};
use super::frame::Frame;
use super::reader::{Malformed, Reader};

/// The transaction status in a ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// Not in a transaction block (`I`).
    Idle,
    /// In a transaction block (`T`).
    InTransaction,
    /// In a failed transaction block: everything is refused until it ends (`E`).
    Failed,
}

/// An Authentication message.
#[derive(Clone, Copy, Debug)]
pub enum Authentication<'a> {
    /// The server is satisfied.
    Ok,
    /// Kerberos V5, no longer supported by any server.
    KerberosV5,
    /// The password as it is.
    CleartextPassword,
    /// The password hashed with MD5 and this salt.
    Md5Password {
        /// Four random bytes.
        salt: [u8; 4],
    },
    /// GSSAPI.
    Gss,
    /// GSSAPI or SSPI data.
    GssContinue(&'a [u8]),
    /// SSPI.
    Sspi,
    /// SASL, with the mechanisms that the server offers.
    Sasl(Mechanisms<'a>),
    /// A SASL challenge.
    SaslContinue(&'a [u8]),
    /// The outcome of SASL: with SCRAM, the proof that the server knows the password too.
    SaslFinal(&'a [u8]),
    /// A request of a kind that this driver does not know.
    Unknown(i32),
}

/// What a CopyInResponse, CopyOutResponse or CopyBothResponse announces.
#[derive(Clone, Copy, Debug)]
pub struct CopyResponse<'a> {
    /// The overall format: 0 textual, 1 binary.
    pub format: u8,
    /// The format code of each column.
    pub columns: List<'a, i16>,
}

/// A message from the server, borrowed from the receive buffer.
///
/// Variants have the names that the PostgreSQL documentation gives them ("Message Formats").
#[derive(Clone, Copy, Debug)]
pub enum Backend<'a> {
    /// Any of the Authentication messages.
    Authentication(Authentication<'a>),
    /// What a CancelRequest must carry.
    BackendKeyData {
        /// The server process that serves this connection.
        process_id: i32,
        /// The secret: 4 bytes in protocol 3.0, up to 256 in 3.2.
        secret_key: &'a [u8],
    },
    /// A portal was made.
    BindComplete,
    /// A portal or statement was closed.
    CloseComplete,
    /// A command is done; the tag says what it was and how many rows it touched.
    CommandComplete {
        /// For example `INSERT 0 5`.
        tag: &'a [u8],
    },
    /// A piece of a COPY stream.
    CopyData(&'a [u8]),
    /// The end of a COPY stream.
    CopyDone,
    /// The server wants COPY data.
    CopyInResponse(CopyResponse<'a>),
    /// COPY data follow.
    CopyOutResponse(CopyResponse<'a>),
    /// COPY data in both directions (replication).
    CopyBothResponse(CopyResponse<'a>),
    /// One row.
    DataRow(List<'a, Option<&'a [u8]>>),
    /// The query string was empty.
    EmptyQueryResponse,
    /// An error: its fields, for [`ServerError::parse`](crate::error::ServerError::parse).
    ErrorResponse(&'a [u8]),
    /// The answer to a FunctionCall.
    FunctionCallResponse(Option<&'a [u8]>),
    /// The server speaks an older minor version or does not know some protocol options.
    NegotiateProtocolVersion {
        /// The newest version that the server supports, as in the startup packet: major * 65536 +
        /// minor.
        newest: i32,
        /// The protocol options that the server does not know.
        options: List<'a, &'a [u8]>,
    },
    /// The statement or portal returns no rows.
    NoData,
    /// A notice: its fields, as those of an error.
    NoticeResponse(&'a [u8]),
    /// A notification that a NOTIFY has sent.
    NotificationResponse {
        /// The server process that notified.
        process_id: i32,
        /// The channel.
        channel: &'a [u8],
        /// The payload, may be empty.
        payload: &'a [u8],
    },
    /// The parameter types of a statement.
    ParameterDescription(List<'a, u32>),
    /// A run-time parameter has this value now.
    ParameterStatus {
        /// Its name.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// A statement was made.
    ParseComplete,
    /// An Execute reached its row limit.
    PortalSuspended,
    /// The server waits for the next request.
    ReadyForQuery(TransactionStatus),
    /// The columns of the rows that follow.
    RowDescription(List<'a, Field<'a>>),
}

/// Message type bytes, named as the messages.
pub mod tag {
    #![allow(missing_docs)]
    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY_DATA: u8 = b'K';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_IN_RESPONSE: u8 = b'G';
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub const ERROR_RESPONSE: u8 = b'E';
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE_RESPONSE: u8 = b'N';
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const READY_FOR_QUERY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

impl<'a> Backend<'a> {
    /// Every backend message: its type byte and its name. Tests walk this list, so that a new
    /// message without a sample is noticed.
    pub const MESSAGES: &'static [(u8, &'static str)] = &[
        (tag::AUTHENTICATION, "Authentication"),
        (tag::BACKEND_KEY_DATA, "BackendKeyData"),
        (tag::BIND_COMPLETE, "BindComplete"),
        (tag::CLOSE_COMPLETE, "CloseComplete"),
        (tag::COMMAND_COMPLETE, "CommandComplete"),
        (tag::COPY_DATA, "CopyData"),
        (tag::COPY_DONE, "CopyDone"),
        (tag::COPY_IN_RESPONSE, "CopyInResponse"),
        (tag::COPY_OUT_RESPONSE, "CopyOutResponse"),
        (tag::COPY_BOTH_RESPONSE, "CopyBothResponse"),
        (tag::DATA_ROW, "DataRow"),
        (tag::EMPTY_QUERY_RESPONSE, "EmptyQueryResponse"),
        (tag::ERROR_RESPONSE, "ErrorResponse"),
        (tag::FUNCTION_CALL_RESPONSE, "FunctionCallResponse"),
        (tag::NEGOTIATE_PROTOCOL_VERSION, "NegotiateProtocolVersion"),
        (tag::NO_DATA, "NoData"),
        (tag::NOTICE_RESPONSE, "NoticeResponse"),
        (tag::NOTIFICATION_RESPONSE, "NotificationResponse"),
        (tag::PARAMETER_DESCRIPTION, "ParameterDescription"),
        (tag::PARAMETER_STATUS, "ParameterStatus"),
        (tag::PARSE_COMPLETE, "ParseComplete"),
        (tag::PORTAL_SUSPENDED, "PortalSuspended"),
        (tag::READY_FOR_QUERY, "ReadyForQuery"),
        (tag::ROW_DESCRIPTION, "RowDescription"),
    ];

    /// The name of the message with this type byte, `None` for a byte that no message has.
    pub fn name(tag: u8) -> Option<&'static str> {
        Self::MESSAGES.iter().find(|(byte, _)| *byte == tag).map(|(_, name)| *name)
    }

    /// Parses one message. Lists inside are checked as they are iterated.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for an unknown type byte or a body that is not what the message must look
    /// like.
    pub fn parse(frame: Frame<'a>) -> Result<Self, Malformed> {
        let Some(name) = Self::name(frame.tag) else {
            return Err(Malformed { message: "message", what: "its type is not known" });
        };
        let mut reader = Reader::new(name, frame.body);
        let message = match frame.tag {
            tag::AUTHENTICATION => Self::Authentication(Authentication::parse(&mut reader)?),
            tag::BACKEND_KEY_DATA => backend_key_data(&mut reader)?,
            tag::BIND_COMPLETE => Self::BindComplete,
            tag::CLOSE_COMPLETE => Self::CloseComplete,
            tag::COMMAND_COMPLETE => Self::CommandComplete { tag: reader.string()? },
            tag::COPY_DATA => Self::CopyData(reader.remaining()),
            tag::COPY_DONE => Self::CopyDone,
            tag::COPY_IN_RESPONSE => Self::CopyInResponse(CopyResponse::parse(&mut reader)?),
            tag::COPY_OUT_RESPONSE => Self::CopyOutResponse(CopyResponse::parse(&mut reader)?),
            tag::COPY_BOTH_RESPONSE => Self::CopyBothResponse(CopyResponse::parse(&mut reader)?),
            tag::DATA_ROW => Self::DataRow(list(&mut reader, cell)?),
            tag::EMPTY_QUERY_RESPONSE => Self::EmptyQueryResponse,
            tag::ERROR_RESPONSE => Self::ErrorResponse(reader.remaining()),
            tag::FUNCTION_CALL_RESPONSE => Self::FunctionCallResponse(reader.value()?),
            tag::NEGOTIATE_PROTOCOL_VERSION => negotiate(&mut reader)?,
            tag::NO_DATA => Self::NoData,
            tag::NOTICE_RESPONSE => Self::NoticeResponse(reader.remaining()),
            tag::NOTIFICATION_RESPONSE => Self::NotificationResponse {
                process_id: reader.i32()?,
                channel: reader.string()?,
                payload: reader.string()?,
            },
            tag::PARAMETER_DESCRIPTION => {
                // The count is an Int16 that servers fill up to 65,535: it is unsigned in practice.
                let count = u16::from_be_bytes(reader.i16()?.to_be_bytes());
                Self::ParameterDescription(rest(&mut reader, usize::from(count), |r| r.u32()))
            }
            tag::PARAMETER_STATUS => {
                Self::ParameterStatus { name: reader.string()?, value: reader.string()? }
            }
            tag::PARSE_COMPLETE => Self::ParseComplete,
            tag::PORTAL_SUSPENDED => Self::PortalSuspended,
            tag::READY_FOR_QUERY => Self::ReadyForQuery(status(&mut reader)?),
            tag::ROW_DESCRIPTION => Self::RowDescription(list(&mut reader, field)?),
            _ => return Err(reader.malformed("it is listed but not parsed")),
        };
        reader.finish()?;
        Ok(message)
    }
}

impl<'a> Authentication<'a> {
    fn parse(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(match reader.i32()? {
            0 => Self::Ok,
            2 => Self::KerberosV5,
            3 => Self::CleartextPassword,
            5 => Self::Md5Password { salt: reader.u32()?.to_be_bytes() },
            7 => Self::Gss,
            8 => Self::GssContinue(reader.remaining()),
            9 => Self::Sspi,
            10 => Self::Sasl(Mechanisms { reader: split(reader), done: false }),
            11 => Self::SaslContinue(reader.remaining()),
            12 => Self::SaslFinal(reader.remaining()),
            other => {
                reader.remaining();
                Self::Unknown(other)
            }
        })
    }
}

impl<'a> CopyResponse<'a> {
    fn parse(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self { format: reader.u8()?, columns: list(reader, |r| r.i16())? })
    }
}

/// Hands what is left of the body over to a list.
fn split<'a>(reader: &mut Reader<'a>) -> Reader<'a> {
    let whole = *reader;
    reader.remaining();
    whole
}

fn rest<'a, T>(
    reader: &mut Reader<'a>,
    count: usize,
    item: fn(&mut Reader<'a>) -> Result<T, Malformed>,
) -> List<'a, T> {
    List::new(split(reader), count, item)
}

fn list<'a, T>(
    reader: &mut Reader<'a>,
    item: fn(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<List<'a, T>, Malformed> {
    let count = reader.count()?;
    Ok(rest(reader, count, item))
}

fn backend_key_data<'a>(reader: &mut Reader<'a>) -> Result<Backend<'a>, Malformed> {
    let process_id = reader.i32()?;
    match reader.len() {
        4..=256 => Ok(Backend::BackendKeyData { process_id, secret_key: reader.remaining() }),
        _ => Err(reader.malformed("its key is not 4 to 256 bytes long")),
    }
}

fn negotiate<'a>(reader: &mut Reader<'a>) -> Result<Backend<'a>, Malformed> {
    let newest = reader.i32()?;
    let count =
        usize::try_from(reader.i32()?).map_err(|_| reader.malformed("a count is negative"))?;
    Ok(Backend::NegotiateProtocolVersion { newest, options: rest(reader, count, |r| r.string()) })
}

fn status(reader: &mut Reader<'_>) -> Result<TransactionStatus, Malformed> {
    match reader.u8()? {
        b'I' => Ok(TransactionStatus::Idle),
        b'T' => Ok(TransactionStatus::InTransaction),
        b'E' => Ok(TransactionStatus::Failed),
        _ => Err(reader.malformed("its transaction status is not known")),
    }
}
