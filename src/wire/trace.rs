//! Messages as lines of text, for bug reports and golden files: libpq's `PQtrace` form.
//!
//! One message is one line without a line feed: who sent it (`F`rontend or `B`ackend), its declared
//! length, its name and its fields, separated by tabs; a blank stands before each field. The time
//! that libpq can put in front is left out (its `PQTRACE_SUPPRESS_TIMESTAMPS`).
//!
//! ```
//! use chopin_pg::wire::trace::{self, Detail, Sender};
//! use chopin_pg::wire::{Frame, frontend};
//!
//! let mut buf = Vec::new();
//! frontend::parse(&mut buf, "", "select $1", [23].into_iter())?;
//! let parse = Frame { tag: b'P', body: &buf[5..] };
//! let line = trace::line(Sender::Frontend, parse, Detail::Full);
//! assert_eq!(line.to_string(), "F\t21\tParse\t \"\" \"select $1\" 1 23");
//!
//! let row = Frame { tag: b'D', body: b"\0\x02\0\0\0\x02a\n\xff\xff\xff\xff" };
//! let line = trace::line(Sender::Backend, row, Detail::Full);
//! assert_eq!(line.to_string(), "B\t16\tDataRow\t 2 2 'a\\x0a' -1");
//! # Ok::<(), chopin_pg::wire::frontend::Unwritable>(())
//! ```
//!
//! Fields read as libpq 18 shows them:
//!
//! * names and texts as they are in double quotes, cells and parameters behind their length in single
//!   quotes with `\xHH` for all but printable ASCII, NULL as the length -1, a byte as itself or `\xHH`;
//! * Int16 without a sign (the type length -1 is 65535), Int32 with one (so is an OID from 2^31 on).
//!
//! Where a line differs from libpq's, it is on purpose:
//!
//! * Secrets are `<masked>` in every [`Detail`]: passwords, SASL and GSSAPI data, the salt of MD5, the
//!   key of BackendKeyData and CancelRequest. The length of a password is hidden too, as `NN`. What an
//!   SQL text or a parameter contains is *not* known to be a secret: the password in an
//!   `alter role ... password '...'` is shown.
//! * A line is one line of UTF-8 text: control characters in names and texts, and bytes that are not
//!   UTF-8, are shown as `\xHH`, where libpq prints them raw.
//! * A malformed message ends with `<malformed: ...>` behind the fields that could be read.
//! * Messages that libpq handles without tracing them, such as AuthenticationOk, have lines as well.
//!
//! This module may assume nothing of the bytes and knows nothing of the messages before: the
//! frontend's authentication messages, which share a tag, are told apart by their shape.

mod backend;
mod fields;
mod frontend;
#[cfg(test)]
mod tests;

use std::fmt;

use self::fields::{Byte, Fields, Layout, Length};
use super::frame::Frame;
use super::reader::Reader;

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The client, `F`.
    Frontend,
    /// The server, `B`.
    Backend,
}

/// How much a line shows. Secrets are never in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Everything.
    Full,
    /// What is the same in every run, as libpq's `PQTRACE_REGRESS_MODE` has it: `NNNN` stands for
    /// OIDs and process ids, `'BBBB'` for COPY data, `"SSSS"` for the places in the server's
    /// source code that an error or notice names, and `NN` for the length of those two.
    Regress,
}

/// One message as one line; [`Display`](fmt::Display) writes it, without a line feed.
///
/// It borrows the message: what it writes is never held in memory as a whole, however long the
/// message is, unless the caller asks for a `String`.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    packet: Packet<'a>,
    detail: Detail,
}

#[derive(Clone, Copy)]
enum Packet<'a> {
    Tagged(Sender, Frame<'a>),
    First(&'a [u8]),
    SslResponse(u8),
}

/// The line of a message with a tag, which is every message but those of [`first_packet`] and
/// [`ssl_response`].
#[must_use]
pub const fn line(sender: Sender, frame: Frame<'_>, detail: Detail) -> Line<'_> {
    Line { packet: Packet::Tagged(sender, frame), detail }
}

/// The line of a packet without a tag, as the frontend opens a connection with: StartupMessage,
/// SSLRequest, GSSENCRequest or CancelRequest.
///
/// `body` is what follows the four bytes of the length.
#[must_use]
pub const fn first_packet(body: &[u8], detail: Detail) -> Line<'_> {
    Line { packet: Packet::First(body), detail }
}

/// The line of the one byte that answers an SSLRequest: `S` or `N`.
///
/// An `E` there is no such answer but the tag of an ErrorResponse.
#[must_use]
pub const fn ssl_response(answer: u8) -> Line<'static> {
    Line { packet: Packet::SslResponse(answer), detail: Detail::Full }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.packet {
            Packet::Tagged(sender, Frame { tag, body }) => {
                let mut reader = Reader::new("message", body);
                let (sender, layout) = match sender {
                    Sender::Frontend => ('F', frontend::layout(tag, reader)),
                    Sender::Backend => ('B', backend::layout(tag, &mut reader)),
                };
                let length = declared(body);
                match layout {
                    Some(layout) => self.write(f, sender, length, &layout, reader),
                    None => write!(f, "{sender}\t{length}\tUnknown message: {tag:02x}"),
                }
            }
            Packet::First(body) => {
                let reader = Reader::new("first packet", body);
                let layout = frontend::first_packet(reader);
                self.write(f, 'F', declared(body), &layout, reader)
            }
            Packet::SslResponse(answer) => write!(f, "B\t1\tSSLResponse\t {}", Byte(answer)),
        }
    }
}

/// The length as a message declares it: with its own four bytes.
fn declared(body: &[u8]) -> usize {
    body.len().saturating_add(4)
}

impl Line<'_> {
    fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        sender: char,
        length: usize,
        layout: &Layout,
        reader: Reader<'_>,
    ) -> fmt::Result {
        let hidden = match layout.length {
            Length::Shown => false,
            Length::Varies => self.detail == Detail::Regress,
            Length::Secret => true,
        };
        if hidden {
            write!(f, "{sender}\tNN\t{}", layout.name)?;
        } else {
            write!(f, "{sender}\t{length}\t{}", layout.name)?;
        }
        Fields::new(f, reader, self.detail).write(layout.body)
    }
}

/// As [`Display`](fmt::Display): the message's bytes stay out of logs.
impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({self})")
    }
}
