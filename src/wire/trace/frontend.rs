//! The fields of the messages that a client sends.

use super::fields::{Fields, Layout, Length, Step};
use crate::wire::reader::Reader;

/// The layout of the message with this type byte.
pub(super) fn layout(tag: u8, reader: Reader<'_>) -> Option<Layout> {
    Some(match tag {
        b'B' => Layout::new("Bind", bind),
        b'C' => Layout::new("Close", target),
        b'D' => Layout::new("Describe", target),
        b'E' => Layout::new("Execute", |f| {
            f.string()?;
            f.int32()
        }),
        b'F' => Layout::new("FunctionCall", function_call),
        b'H' => Layout::bare("Flush"),
        b'P' => Layout::new("Parse", |f| {
            f.string()?;
            f.string()?;
            f.list(Fields::id)
        }),
        b'Q' => Layout::new("Query", |f| f.string()),
        b'S' => Layout::bare("Sync"),
        b'X' => Layout::bare("Terminate"),
        b'c' => Layout::bare("CopyDone"),
        b'd' => Layout::new("CopyData", |f| f.copy_data()),
        b'f' => Layout::new("CopyFail", |f| f.string()),
        b'p' => authentication_response(reader),
        _ => return None,
    })
}

/// The layout of a packet without a type byte, told by the number that it starts with; the number
/// of a request is shown as the halves that it is made of, like the version of a StartupMessage.
pub(super) fn first_packet(mut reader: Reader<'_>) -> Layout {
    const CANCEL: i32 = 80_877_102;
    const SSL: i32 = 80_877_103;
    const GSS_ENC: i32 = 80_877_104;

    match reader.i32() {
        Err(_) => Layout::new("Unknown message", |f| f.int32()),
        Ok(CANCEL) => Layout::new("CancelRequest", |f| {
            halves(f)?;
            f.id()?;
            f.secret_key()
        }),
        Ok(SSL) => Layout::new("SSLRequest", halves),
        Ok(GSS_ENC) => Layout::new("GSSENCRequest", halves),
        Ok(_) => Layout::new("StartupMessage", |f| {
            halves(f)?;
            f.parameters()
        }),
    }
}

/// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse share a type byte, and only
/// the messages before really say which one it is. The shape says it well enough: the name depends
/// on it, and whether the length and a mechanism are shown; the contents never are.
fn authentication_response(mut reader: Reader<'_>) -> Layout {
    if is_sasl_initial_response(reader) {
        return Layout::new("SASLInitialResponse", |f| {
            f.string()?;
            f.int32()?;
            f.secret()
        });
    }
    let body = reader.remaining();
    let nul = body.iter().position(|&byte| byte == 0);
    let (name, length) = match nul {
        None if body.starts_with(b"c=") => ("SASLResponse", Length::Shown),
        Some(nul) if nul + 1 == body.len() => ("PasswordMessage", Length::Secret),
        _ => ("AuthenticationResponse", Length::Secret),
    };
    Layout { name, length, body: |f| f.secret() }
}

/// Whether it is one, and of a mechanism that the driver speaks: these names are no secret, while
/// that of another could be bytes of something else.
fn is_sasl_initial_response(mut reader: Reader<'_>) -> bool {
    matches!(reader.string(), Ok(b"SCRAM-SHA-256" | b"SCRAM-SHA-256-PLUS"))
        && matches!(reader.value(), Ok(Some(_)))
        && reader.is_empty()
}

fn halves(f: &mut Fields<'_, '_>) -> Step {
    f.int16()?;
    f.int16()
}

fn bind(f: &mut Fields<'_, '_>) -> Step {
    f.string()?;
    f.string()?;
    f.list(Fields::int16)?;
    f.list(Fields::value)?;
    f.list(Fields::int16)
}

fn function_call(f: &mut Fields<'_, '_>) -> Step {
    f.id()?;
    f.list(Fields::int16)?;
    f.list(Fields::value)?;
    f.int16()
}

/// What a Describe or Close is about: `S` or `P`, and its name.
fn target(f: &mut Fields<'_, '_>) -> Step {
    f.byte()?;
    f.string()
}
