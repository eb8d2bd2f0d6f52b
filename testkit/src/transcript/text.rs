//! The text form of a transcript: one line a message, exact both ways.

use std::fmt::{self, Write};
use std::str::FromStr;

use super::{Direction, Entry, Shape, Transcript, TranscriptError, authentication_name};
use crate::frames::message_name;

const HEADER: &str = "# PostgreSQL wire transcript: direction, tag, name, length, body\n";

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADER)?;
        self.entries().iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.direction {
            Direction::Frontend => "F ",
            Direction::Backend => "B ",
        })?;
        match (self.shape, self.bytes.first()) {
            (Shape::Tagged, Some(tag)) if tag.is_ascii_alphanumeric() => {
                f.write_char(char::from(*tag))?;
            }
            (Shape::Tagged, Some(tag)) => write!(f, "\\x{tag:02x}")?,
            _ => f.write_char('-')?,
        }
        // The length word counts itself, not the tag.
        let length = match self.shape {
            Shape::Tagged => self.bytes.len() - 1,
            Shape::Untagged | Shape::Bare => self.bytes.len(),
        };
        write!(f, " {} {length} ", self.name)?;
        write_body(f, self.body())?;
        if self.masked { f.write_str(" masked") } else { Ok(()) }
    }
}

/// As text when most of it is text (NUL counts as such, it ends strings), else as hexadecimal.
fn write_body(f: &mut fmt::Formatter<'_>, body: &[u8]) -> fmt::Result {
    let is_text = |byte: &&u8| matches!(byte, 0 | b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let texty = body.iter().filter(is_text).count() * 2 >= body.len();
    f.write_str(if texty { "\"" } else { "x\"" })?;
    for byte in body {
        match byte {
            _ if !texty => write!(f, "{byte:02x}")?,
            b'\\' | b'"' => write!(f, "\\{}", char::from(*byte))?,
            0 => f.write_str("\\0")?,
            b'\n' => f.write_str("\\n")?,
            b'\r' => f.write_str("\\r")?,
            b'\t' => f.write_str("\\t")?,
            b' '..=b'~' => f.write_char(char::from(*byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    f.write_char('"')
}

impl FromStr for Transcript {
    type Err = TranscriptError;

    /// # Errors
    /// The first line that is not as the module's documentation says.
    fn from_str(text: &str) -> Result<Self, TranscriptError> {
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = parse_line(line)
                .map_err(|what| TranscriptError(format!("line {}: {what}", index + 1)))?;
            entries.push(entry);
        }
        Ok(Self { entries })
    }
}

fn parse_line(line: &str) -> Result<Entry, String> {
    let mut words = line.splitn(5, ' ');
    let mut word = |what: &str| words.next().ok_or(format!("no {what}"));
    let direction = match word("direction")? {
        "F" => Direction::Frontend,
        "B" => Direction::Backend,
        other => return Err(format!("direction {other:?}, not F or B")),
    };
    let tag = parse_tag(word("tag")?)?;
    let name = word("name")?;
    let (name, shape) = known_name(direction, tag, name)
        .ok_or_else(|| format!("{name:?} is not the name of such a message"))?;
    let length = word("length")?;
    let (body, masked) = parse_body(word("body")?)?;
    let bytes = framed(shape, tag.unwrap_or(0), &body);
    let entry = Entry { direction, shape, name, bytes, masked };
    let true_length = entry.bytes.len() - usize::from(shape == Shape::Tagged);
    if length.parse() != Ok(true_length) {
        return Err(format!("length {length}, but the body makes it {true_length}"));
    }
    Ok(entry)
}

/// `-` is no tag; a letter or digit is itself; any other byte is `\xHH`.
fn parse_tag(word: &str) -> Result<Option<u8>, String> {
    let wrong = || format!("tag {word:?}, not one character, \\xHH or -");
    match word.as_bytes() {
        b"-" => Ok(None),
        [tag] => Ok(Some(*tag)),
        [b'\\', b'x', high, low] => Ok(Some(hex_byte(*high, *low).ok_or_else(wrong)?)),
        _ => Err(wrong()),
    }
}

/// The name as the tape would give it, with the shape that goes with it.
fn known_name(direction: Direction, tag: Option<u8>, name: &str) -> Option<(&'static str, Shape)> {
    const UNTAGGED: [&str; 5] =
        ["StartupMessage", "SSLRequest", "GSSENCRequest", "CancelRequest", "Unknown"];
    const BARE: [&str; 2] = ["EncryptionAnswer", "Fragment"];
    const PASSWORDS: [&str; 4] =
        ["PasswordMessage", "SASLInitialResponse", "SASLResponse", "GSSResponse"];
    let among = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
    match (direction, tag) {
        (direction, None) => among(&BARE).map(|name| (name, Shape::Bare)).or_else(|| {
            let untagged = among(&UNTAGGED).filter(|_| direction == Direction::Frontend);
            untagged.map(|name| (name, Shape::Untagged))
        }),
        (Direction::Frontend, Some(b'p')) => among(&PASSWORDS).map(|name| (name, Shape::Tagged)),
        (Direction::Backend, Some(b'R')) => (-1..=12)
            .map(authentication_name)
            .find(|known| *known == name)
            .map(|name| (name, Shape::Tagged)),
        (direction, Some(tag)) => {
            let known = message_name(direction, tag).unwrap_or("Unknown");
            (known == name).then_some((known, Shape::Tagged))
        }
    }
}

/// The body's bytes, and whether the line says that they are masked.
fn parse_body(text: &str) -> Result<(Vec<u8>, bool), String> {
    let (text, masked) = match text.strip_suffix(" masked") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let quoted = |text: &str| -> Result<String, String> {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        inner.map(str::to_owned).ok_or_else(|| "the body is not within quotes".to_owned())
    };
    let body = match text.strip_prefix('x') {
        Some(hex) => parse_hex(quoted(hex)?.as_bytes())?,
        None => unescape(quoted(text)?.as_bytes())?,
    };
    Ok((body, masked))
}

fn parse_hex(digits: &[u8]) -> Result<Vec<u8>, String> {
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => hex_byte(*high, *low),
        _ => None,
    });
    pairs.collect::<Option<_>>().ok_or_else(|| "the body is not hexadecimal".to_owned())
}

fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        let (decoded, tail) = match (byte, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => (hex_byte(*high, *low), tail),
            (b'\\', [escaped, tail @ ..]) => (escaped_byte(*escaped), tail),
            (b'\\', []) => (None, tail),
            (b'"', _) => return Err("a quote within the body is not escaped".to_owned()),
            (byte, tail) => (Some(*byte), tail),
        };
        let shown = rest.get(..4).unwrap_or(rest).escape_ascii();
        body.push(decoded.ok_or_else(|| format!("no escape begins with \"{shown}\""))?);
        rest = tail;
    }
    Ok(body)
}

fn escaped_byte(letter: u8) -> Option<u8> {
    match letter {
        b'\\' | b'"' => Some(letter),
        b'0' => Some(0),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        _ => None,
    }
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Puts tag and length in front of a body, as the shape has them.
pub(super) fn framed(shape: Shape, tag: u8, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).expect("a body of less than 2 GiB").to_be_bytes();
    match shape {
        Shape::Tagged => [&[tag], &length[..], body].concat(),
        Shape::Untagged => [&length[..], body].concat(),
        Shape::Bare => body.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(direction: Direction, tag: u8, name: &'static str, body: &[u8]) -> String {
        let bytes = framed(Shape::Tagged, tag, body);
        Entry { direction, shape: Shape::Tagged, name, bytes, masked: false }.to_string()
    }

    #[test]
    fn lines_read_well() {
        let query = line_of(Direction::Frontend, b'Q', "Query", b"SELECT 'a', \"b\"\n\0");
        assert_eq!(query, r#"F Q Query 21 "SELECT 'a', \"b\"\n\0""#);
        let row = line_of(Direction::Backend, b'D', "DataRow", b"\0\x01\0\0\0\x02hi");
        assert_eq!(row, r#"B D DataRow 12 "\0\x01\0\0\0\x02hi""#);
        let binary = line_of(Direction::Backend, b'd', "CopyData", b"\xde\xad\xbe\xef\0");
        assert_eq!(binary, r#"B d CopyData 9 x"deadbeef00""#);
        let odd = line_of(Direction::Backend, b'-', "Unknown", b"");
        assert_eq!(odd, r#"B \x2d Unknown 4 """#);
    }

    #[test]
    fn every_byte_string_comes_back() {
        for first in 0..=u8::MAX {
            for body in [vec![first], vec![first, b'a', b'b'], vec![first, 0x80, 0x81, 0x82]] {
                let line = line_of(Direction::Backend, first, name_of(first), &body);
                let entry = parse_line(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                assert_eq!(entry.body(), body, "{line}");
                assert_eq!(entry.bytes()[0], first, "{line}");
            }
        }
    }

    fn name_of(tag: u8) -> &'static str {
        message_name(Direction::Backend, tag).unwrap_or("Unknown")
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let cases = [
            ("G Q Query 4 \"\"", "direction \"G\", not F or B"),
            ("F QQ Query 4 \"\"", "tag \"QQ\", not one character, \\xHH or -"),
            ("F \\xzz Query 4 \"\"", "tag \"\\\\xzz\", not one character, \\xHH or -"),
            ("F Q Parse 4 \"\"", "\"Parse\" is not the name of such a message"),
            ("B - StartupMessage 4 \"\"", "\"StartupMessage\" is not the name of such a message"),
            ("F Q Query", "no length"),
            ("F Q Query 4", "no body"),
            ("F Q Query 5 \"\"", "length 5, but the body makes it 4"),
            ("F Q Query 4 ab", "the body is not within quotes"),
            ("F Q Query 4 \"", "the body is not within quotes"),
            ("F Q Query 7 \"a\"b\"", "a quote within the body is not escaped"),
            ("F Q Query 5 x\"abc\"", "the body is not hexadecimal"),
            ("F Q Query 5 \"\\q\"", "no escape begins with \"\\\\q\""),
        ];
        for (line, what) in cases {
            assert_eq!(parse_line(line).unwrap_err(), what, "{line}");
        }
    }
}
