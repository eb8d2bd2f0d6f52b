//! The fields of the messages that a server sends.

use super::fields::{Fields, Layout, Length, Step};
use crate::wire::backend::{Backend, tag};
use crate::wire::reader::Reader;

/// The layout of the message with this type byte; of an Authentication message, the number that
/// says which one it is is read.
pub(super) fn layout(tag: u8, reader: &mut Reader<'_>) -> Option<Layout> {
    let name = Backend::name(tag)?;
    Some(match tag {
        tag::AUTHENTICATION => authentication(reader),
        tag::ERROR_RESPONSE | tag::NOTICE_RESPONSE => {
            Layout { name, length: Length::Varies, body: diagnostics }
        }
        tag::BACKEND_KEY_DATA => Layout::new(name, |f| {
            f.id()?;
            f.secret_key()
        }),
        tag::COMMAND_COMPLETE => Layout::new(name, |f| f.string()),
        tag::COPY_DATA => Layout::new(name, |f| f.copy_data()),
        tag::COPY_IN_RESPONSE | tag::COPY_OUT_RESPONSE | tag::COPY_BOTH_RESPONSE => {
            Layout::new(name, |f| {
                f.byte()?;
                f.list(Fields::int16)
            })
        }
        tag::DATA_ROW => Layout::new(name, |f| f.list(Fields::value)),
        tag::FUNCTION_CALL_RESPONSE => Layout::new(name, |f| f.value()),
        tag::NEGOTIATE_PROTOCOL_VERSION => Layout::new(name, |f| {
            f.int32()?;
            f.long_list(Fields::string)
        }),
        tag::NOTIFICATION_RESPONSE => Layout::new(name, |f| {
            f.id()?;
            f.string()?;
            f.string()
        }),
        tag::PARAMETER_DESCRIPTION => Layout::new(name, |f| f.list(Fields::id)),
        tag::PARAMETER_STATUS => Layout::new(name, |f| {
            f.string()?;
            f.string()
        }),
        tag::READY_FOR_QUERY => Layout::new(name, |f| f.byte().map(drop)),
        tag::ROW_DESCRIPTION => Layout::new(name, |f| f.list(column)),
        // BindComplete, CloseComplete, CopyDone, EmptyQueryResponse, NoData, ParseComplete,
        // PortalSuspended.
        _ => Layout::bare(name),
    })
}

fn authentication(reader: &mut Reader<'_>) -> Layout {
    let mut behind = *reader;
    let Ok(kind) = behind.i32() else {
        return Layout::new("Authentication", |f| f.int32());
    };
    let layout = match kind {
        0 => Layout::bare("AuthenticationOk"),
        2 => Layout::bare("AuthenticationKerberosV5"),
        3 => Layout::bare("AuthenticationCleartextPassword"),
        5 => Layout::new("AuthenticationMD5Password", |f| f.secret_bytes(4)),
        6 => Layout::bare("AuthenticationSCMCredential"),
        7 => Layout::bare("AuthenticationGSS"),
        8 => Layout::new("AuthenticationGSSContinue", |f| f.secret()),
        9 => Layout::bare("AuthenticationSSPI"),
        10 => Layout::new("AuthenticationSASL", |f| f.strings()),
        11 => Layout::new("AuthenticationSASLContinue", |f| f.secret()),
        12 => Layout::new("AuthenticationSASLFinal", |f| f.secret()),
        _ => {
            return Layout::new("Unknown authentication message", |f| {
                f.int32()?;
                f.secret()
            });
        }
    };
    *reader = behind;
    layout
}

/// The fields of an error or notice. Where in the server's source code it arose (file, line,
/// routine) is another place in the next minor version.
fn diagnostics(f: &mut Fields<'_, '_>) -> Step {
    loop {
        match f.byte()? {
            0 => return Ok(()),
            b'F' | b'L' | b'R' => f.build_dependent_string()?,
            _ => f.string()?,
        }
    }
}

fn column(f: &mut Fields<'_, '_>) -> Step {
    f.string()?;
    f.id()?;
    f.int16()?;
    f.id()?;
    f.int16()?;
    f.int32()?;
    f.int16()
}
