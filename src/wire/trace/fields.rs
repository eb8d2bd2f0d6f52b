//! The fields of a message, read one after the other and written as libpq shows them.

use std::fmt;

use super::Detail;
use crate::wire::reader::{Malformed, Reader};

/// How a message is shown.
pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) length: Length,
    pub(super) body: Body,
}

/// Reads and writes the fields of one kind of message, from the first to the last.
pub(super) type Body = fn(&mut Fields<'_, '_>) -> Step;

impl Layout {
    pub(super) const fn new(name: &'static str, body: Body) -> Self {
        Self { name, length: Length::Shown, body }
    }

    /// A message without fields.
    pub(super) const fn bare(name: &'static str) -> Self {
        Self::new(name, |_| Ok(()))
    }
}

/// Whether a message's declared length is shown.
pub(super) enum Length {
    Shown,
    /// It depends on what [`Detail::Regress`] hides.
    Varies,
    /// It would tell how long a password is.
    Secret,
}

/// Why a message is not read further.
pub(super) enum Stop {
    Malformed(Malformed),
    Write(fmt::Error),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<fmt::Error> for Stop {
    fn from(error: fmt::Error) -> Self {
        Self::Write(error)
    }
}

pub(super) type Step<T = ()> = Result<T, Stop>;

/// Reads a message's fields and writes each as it goes, so that a malformed message shows what came
/// before the mistake.
pub(super) struct Fields<'a, 'w> {
    out: &'w mut dyn fmt::Write,
    reader: Reader<'a>,
    detail: Detail,
    /// What stands before the next field: a tab before the first one, which ends the name.
    separator: &'static str,
}

impl<'a, 'w> Fields<'a, 'w> {
    pub(super) fn new(out: &'w mut dyn fmt::Write, reader: Reader<'a>, detail: Detail) -> Self {
        Self { out, reader, detail, separator: "\t " }
    }

    /// Writes all fields, and why there are no more if the message is malformed.
    pub(super) fn write(mut self, body: Body) -> fmt::Result {
        let read = body(&mut self).and_then(|()| Ok(self.reader.finish()?));
        match read {
            Ok(()) => Ok(()),
            Err(Stop::Malformed(malformed)) => {
                self.field(format_args!("<malformed: {}>", malformed.what))
            }
            Err(Stop::Write(error)) => Err(error),
        }
    }

    /// A byte, as itself if it can be printed.
    pub(super) fn byte(&mut self) -> Step<u8> {
        let byte = self.reader.u8()?;
        self.field(Byte(byte))?;
        Ok(byte)
    }

    pub(super) fn int16(&mut self) -> Step {
        self.unsigned16().map(drop)
    }

    pub(super) fn int32(&mut self) -> Step {
        self.signed32().map(drop)
    }

    /// An Int32 that names something in this run of this server: an OID or a process.
    pub(super) fn id(&mut self) -> Step {
        let number = self.reader.i32()?;
        match self.detail {
            Detail::Full => self.field(number)?,
            Detail::Regress => self.field("NNNN")?,
        }
        Ok(())
    }

    pub(super) fn string(&mut self) -> Step {
        let text = self.reader.string()?;
        Ok(self.field(Text(text))?)
    }

    /// A String that another build of the same server would not send.
    pub(super) fn build_dependent_string(&mut self) -> Step {
        let text = self.reader.string()?;
        match self.detail {
            Detail::Full => self.field(Text(text))?,
            Detail::Regress => self.field("\"SSSS\"")?,
        }
        Ok(())
    }

    /// Strings up to an empty one, which is shown too.
    pub(super) fn strings(&mut self) -> Step {
        loop {
            let text = self.reader.string()?;
            self.field(Text(text))?;
            if text.is_empty() {
                return Ok(());
            }
        }
    }

    /// Names and values up to an empty name, which only ends them.
    pub(super) fn parameters(&mut self) -> Step {
        loop {
            let name = self.reader.string()?;
            if name.is_empty() {
                return Ok(());
            }
            self.field(Text(name))?;
            self.string()?;
        }
    }

    /// An Int32 length and as many bytes; the length -1 is NULL.
    pub(super) fn value(&mut self) -> Step {
        let length = self.signed32()?;
        if length == -1 {
            return Ok(());
        }
        let length = usize::try_from(length).map_err(|_| self.malformed("a length is negative"))?;
        let bytes = self.reader.bytes(length)?;
        Ok(self.field(Data(bytes))?)
    }

    /// The rest of the message as a piece of a COPY stream.
    pub(super) fn copy_data(&mut self) -> Step {
        let bytes = self.reader.remaining();
        match self.detail {
            Detail::Full => self.field(Data(bytes))?,
            Detail::Regress => self.field("'BBBB'")?,
        }
        Ok(())
    }

    /// An Int16 that counts items, and the items.
    pub(super) fn list(&mut self, item: fn(&mut Self) -> Step) -> Step {
        let count = self.unsigned16()?;
        (0..count).try_for_each(|_| item(self))
    }

    /// An Int32 that counts items, and the items.
    pub(super) fn long_list(&mut self, item: fn(&mut Self) -> Step) -> Step {
        match self.signed32()? {
            ..0 => Err(self.malformed("a count is negative")),
            count => (0..count).try_for_each(|_| item(self)),
        }
    }

    /// The rest of the message, if there is any, which nobody may see.
    pub(super) fn secret(&mut self) -> Step {
        self.secret_bytes(self.reader.len())
    }

    /// `length` bytes that nobody may see.
    pub(super) fn secret_bytes(&mut self, length: usize) -> Step {
        match self.reader.bytes(length)? {
            [] => Ok(()),
            _ => Ok(self.field("<masked>")?),
        }
    }

    /// The rest of the message as the key of a BackendKeyData.
    pub(super) fn secret_key(&mut self) -> Step {
        match self.reader.len() {
            4..=256 => self.secret(),
            _ => Err(self.malformed("its key is not 4 to 256 bytes long")),
        }
    }

    fn field(&mut self, field: impl fmt::Display) -> fmt::Result {
        let separator = std::mem::replace(&mut self.separator, " ");
        write!(self.out, "{separator}{field}")
    }

    fn unsigned16(&mut self) -> Step<u16> {
        let number = u16::from_be_bytes(self.reader.i16()?.to_be_bytes());
        self.field(number)?;
        Ok(number)
    }

    fn signed32(&mut self) -> Step<i32> {
        let number = self.reader.i32()?;
        self.field(number)?;
        Ok(number)
    }

    fn malformed(&self, what: &'static str) -> Stop {
        self.reader.malformed(what).into()
    }
}

/// A byte: itself if it is printable ASCII, else `\xHH`.
pub(super) struct Byte(pub(super) u8);

impl fmt::Display for Byte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            printable @ b' '..=b'~' => write!(f, "{}", char::from(printable)),
            other => write!(f, "\\x{other:02x}"),
        }
    }
}

/// Bytes of any kind, in single quotes.
struct Data<'a>(&'a [u8]);

impl fmt::Display for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'")?;
        self.0.iter().try_for_each(|&byte| Byte(byte).fmt(f))?;
        f.write_str("'")
    }
}

/// A text in double quotes: as it is, but on one line and valid UTF-8.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
        };
        f.write_str("\"")?;
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                if char.is_control() {
                    escape(f, char.encode_utf8(&mut [0; 4]).as_bytes())?;
                } else {
                    write!(f, "{char}")?;
                }
            }
            escape(f, chunk.invalid())?;
        }
        f.write_str("\"")
    }
}
