//! The messages that a server sends.

use std::fmt;

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

/// The secret that a CancelRequest must carry: whoever knows it can cancel the session's queries.
#[derive(Clone, Copy)]
pub struct SecretKey<'a>(&'a [u8]);

impl<'a> SecretKey<'a> {
    /// The key's bytes.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Not the bytes: messages are shown in logs and in failed tests.
impl fmt::Debug for SecretKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
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
        secret_key: SecretKey<'a>,
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

/// Makes the type bytes, [`Backend::MESSAGES`] and [`Backend::name`] of one list.
macro_rules! messages {
    ($($constant:ident = $byte:literal, $name:literal;)+) => {
        /// Message type bytes, named as the messages.
        pub mod tag {
            $(
                #[doc = concat!("The type byte of ", $name, ".")]
                pub const $constant: u8 = $byte;
            )+
        }

        const MESSAGES: &[(u8, &str)] = &[$((tag::$constant, $name)),+];

        impl Backend<'_> {
            /// The name of the message with this type byte, `None` for a byte that no message has.
            pub const fn name(tag: u8) -> Option<&'static str> {
                match tag {
                    $(tag::$constant => Some($name),)+
                    _ => None,
                }
            }
        }
    };
}

messages! {
    AUTHENTICATION = b'R', "Authentication";
    BACKEND_KEY_DATA = b'K', "BackendKeyData";
    BIND_COMPLETE = b'2', "BindComplete";
    CLOSE_COMPLETE = b'3', "CloseComplete";
    COMMAND_COMPLETE = b'C', "CommandComplete";
    COPY_DATA = b'd', "CopyData";
    COPY_DONE = b'c', "CopyDone";
    COPY_IN_RESPONSE = b'G', "CopyInResponse";
    COPY_OUT_RESPONSE = b'H', "CopyOutResponse";
    COPY_BOTH_RESPONSE = b'W', "CopyBothResponse";
    DATA_ROW = b'D', "DataRow";
    EMPTY_QUERY_RESPONSE = b'I', "EmptyQueryResponse";
    ERROR_RESPONSE = b'E', "ErrorResponse";
    FUNCTION_CALL_RESPONSE = b'V', "FunctionCallResponse";
    NEGOTIATE_PROTOCOL_VERSION = b'v', "NegotiateProtocolVersion";
    NO_DATA = b'n', "NoData";
    NOTICE_RESPONSE = b'N', "NoticeResponse";
    NOTIFICATION_RESPONSE = b'A', "NotificationResponse";
    PARAMETER_DESCRIPTION = b't', "ParameterDescription";
    PARAMETER_STATUS = b'S', "ParameterStatus";
    PARSE_COMPLETE = b'1', "ParseComplete";
    PORTAL_SUSPENDED = b's', "PortalSuspended";
    READY_FOR_QUERY = b'Z', "ReadyForQuery";
    ROW_DESCRIPTION = b'T', "RowDescription";
}

impl<'a> Backend<'a> {
    /// Every backend message: its type byte and its name. Tests walk this list, so that a new
    /// message without a sample is noticed.
    pub const MESSAGES: &'static [(u8, &'static str)] = MESSAGES;

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
                let count = reader.count_u16()?;
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
        4..=256 => {
            Ok(Backend::BackendKeyData { process_id, secret_key: SecretKey(reader.remaining()) })
        }
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
