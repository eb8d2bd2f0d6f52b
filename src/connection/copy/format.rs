//! Rows as lines: the text and CSV formats of COPY.
//!
//! What is written here the server reads as the same cells, and what the server writes is read here
//! as its cells, whatever the options. Bytes that are special are ASCII, and in UTF-8 no byte of
//! another character is.
//!
//! Source: PostgreSQL documentation, "COPY", "File Formats"; `CopyAttributeOutText`,
//! `CopyAttributeOutCSV`, `CopyReadAttributesText` in PostgreSQL's copyto.c and copyfromparse.c.

use super::statement::{CopyFormat, CopyOptions};
use crate::error::{PgError, PgResult};

/// Appends a cell of a line; `None` is NULL. `only` says that the line has no other cell.
///
/// # Errors
///
/// [`PgError::Usage`] for the empty string where the text format has it stand for NULL.
pub(super) fn write_cell(
    options: &CopyOptions,
    cell: Option<&[u8]>,
    only: bool,
    line: &mut Vec<u8>,
) -> PgResult<()> {
    let null = options.null.as_bytes();
    match cell {
        None => line.extend_from_slice(null),
        Some(cell) if options.format == CopyFormat::Csv => write_csv(options, cell, only, line),
        Some([]) if null.is_empty() => {
            return Err(PgError::Usage(
                "an empty string cannot be told from NULL in text format with an empty NULL: use \
                 CSV or another NULL"
                    .to_owned(),
            ));
        }
        Some(cell) => write_text(options, cell, line),
    }
    Ok(())
}

/// Appends a cell in text format.
fn write_text(options: &CopyOptions, cell: &[u8], line: &mut Vec<u8>) {
    let start = line.len();
    escape_text(options, cell, line);
    // It would be taken for NULL: the server compares before it takes the backslashes away.
    if line.get(start..) == Some(options.null.as_bytes()) {
        if let [first, rest @ ..] = cell {
            line.truncate(start);
            let digit = |shift: u32| b'0' + ((first >> shift) & 7);
            line.extend_from_slice(&[b'\\', digit(6), digit(3), digit(0)]);
            escape_text(options, rest, line);
        }
    }
}

fn escape_text(options: &CopyOptions, cell: &[u8], line: &mut Vec<u8>) {
    let mut rest = cell;
    let special = |byte: &u8| *byte < b' ' || *byte == b'\\' || *byte == options.delimiter;
    while let Some(at) = rest.iter().position(special) {
        let Some((plain, [byte, behind @ ..])) = rest.split_at_checked(at) else { break };
        line.extend_from_slice(plain);
        match byte {
            0x08 => line.extend_from_slice(b"\\b"),
            0x0c => line.extend_from_slice(b"\\f"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            0x0b => line.extend_from_slice(b"\\v"),
            byte if *byte == b'\\' || *byte == options.delimiter => {
                line.extend_from_slice(&[b'\\', *byte]);
            }
            byte => line.push(*byte),
        }
        rest = behind;
    }
    line.extend_from_slice(rest);
}

/// Appends a cell in CSV.
fn write_csv(options: &CopyOptions, cell: &[u8], only: bool, line: &mut Vec<u8>) {
    let CopyOptions { delimiter, quote, escape, null, .. } = options;
    let is_special =
        |byte: &u8| *byte == *delimiter || *byte == *quote || *byte == b'\n' || *byte == b'\r';
    // A line of nothing but `\.` ends the data.
    let needs_quotes = cell == null.as_bytes()
        || (only && (cell == b"\\." || cell.is_empty()))
        || cell.iter().any(is_special);
    if !needs_quotes {
        line.extend_from_slice(cell);
        return;
    }
    line.push(*quote);
    for byte in cell {
        if byte == quote || byte == escape {
            line.push(*escape);
        }
        line.push(*byte);
    }
    line.push(*quote);
}

/// Finds the ends of lines in data that come in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LineEnd {
    in_quotes: bool,
    /// The last byte was an escape character that is not a quote too.
    escaped: bool,
}

impl LineEnd {
    /// The place behind the first end of a line in `data`, which follows what was given before.
    pub(super) fn find(&mut self, options: &CopyOptions, data: &[u8]) -> Option<usize> {
        if options.format != CopyFormat::Csv {
            // In text format no newline stands for itself.
            return data.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        }
        for (at, byte) in data.iter().enumerate() {
            let was_escaped = std::mem::take(&mut self.escaped);
            if *byte == options.escape && options.escape != options.quote {
                self.escaped = self.in_quotes && !was_escaped;
            } else if *byte == options.quote && !was_escaped {
                self.in_quotes = !self.in_quotes;
            } else if *byte == b'\n' && !self.in_quotes {
                return Some(at + 1);
            }
        }
        None
    }
}

/// Takes a line apart, its end included, into a row as a DataRow has it: each cell with its length
/// before it, -1 for NULL. Returns the number of cells.
///
/// # Errors
///
/// [`PgError::Protocol`] when a cell is longer than a row can have it.
pub(super) fn read_line(options: &CopyOptions, line: &[u8], row: &mut Vec<u8>) -> PgResult<usize> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut line = line.strip_suffix(b"\r").unwrap_or(line);
    row.clear();
    let mut count = 0;
    loop {
        let start = row.len();
        row.extend_from_slice(&(-1_i32).to_be_bytes());
        let body = row.len();
        let (is_null, rest) = match options.format {
            CopyFormat::Csv => read_csv(options, line, row),
            _ => read_text(options, line, row),
        };
        count += 1;
        if is_null {
            row.truncate(body);
        } else {
            let Ok(length) = i32::try_from(row.len() - body) else {
                return Err(PgError::Protocol("a cell of a COPY has more than 2 GiB".to_owned()));
            };
            if let Some(place) = row.get_mut(start..body) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        }
        match rest {
            Some(rest) => line = rest,
            None => return Ok(count),
        }
    }
}

/// Appends the first cell of a line in text format; whether it is NULL, and what follows the
/// delimiter behind it.
fn read_text<'l>(
    options: &CopyOptions,
    line: &'l [u8],
    cell: &mut Vec<u8>,
) -> (bool, Option<&'l [u8]>) {
    let mut rest = line;
    loop {
        let special = |byte: &u8| *byte == b'\\' || *byte == options.delimiter;
        let Some(at) = rest.iter().position(special) else {
            cell.extend_from_slice(rest);
            return (line == options.null.as_bytes(), None);
        };
        let Some((plain, [byte, behind @ ..])) = rest.split_at_checked(at) else { break };
        cell.extend_from_slice(plain);
        if *byte == options.delimiter {
            let raw = line.get(..line.len() - behind.len() - 1).unwrap_or_default();
            return (raw == options.null.as_bytes(), Some(behind));
        }
        let (byte, behind) = unescape(behind);
        cell.push(byte);
        rest = behind;
    }
    (false, None)
}

/// The byte that stands behind a backslash, and what follows it.
fn unescape(text: &[u8]) -> (u8, &[u8]) {
    let number = |digits: &[u8], radix: u8| {
        digits.iter().fold(0u8, |number, digit| {
            let digit = char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            number.wrapping_mul(radix).wrapping_add(digit.unwrap_or_default())
        })
    };
    let leading = |text: &[u8], most: usize, is_digit: fn(&u8) -> bool| {
        text.iter().take(most).take_while(|byte| is_digit(byte)).count()
    };
    let Some((first, rest)) = text.split_first() else { return (b'\\', text) };
    let byte = match first {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'0'..=b'7' => {
            let (digits, rest) =
                text.split_at(leading(text, 3, |byte| matches!(byte, b'0'..=b'7')));
            return (number(digits, 8), rest);
        }
        b'x' if rest.first().is_some_and(u8::is_ascii_hexdigit) => {
            let (digits, rest) = rest.split_at(leading(rest, 2, u8::is_ascii_hexdigit));
            return (number(digits, 16), rest);
        }
        byte => *byte,
    };
    (byte, rest)
}

/// Appends the first cell of a line of CSV; whether it is NULL, and what follows the delimiter
/// behind it.
fn read_csv<'l>(
    options: &CopyOptions,
    line: &'l [u8],
    cell: &mut Vec<u8>,
) -> (bool, Option<&'l [u8]>) {
    let (start, mut in_quotes, mut had_quotes) = (cell.len(), false, false);
    let mut rest = line;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let next = behind.first();
        if in_quotes
            && *byte == options.escape
            && next.is_some_and(|next| *next == options.quote || *next == options.escape)
        {
            cell.extend(next);
            rest = behind.get(1..).unwrap_or_default();
        } else if *byte == options.quote {
            (in_quotes, had_quotes) = (!in_quotes, true);
        } else if *byte == options.delimiter && !in_quotes {
            return (is_null(options, had_quotes, cell, start), Some(rest));
        } else {
            cell.push(*byte);
        }
    }
    (is_null(options, had_quotes, cell, start), None)
}

/// Whether a cell of CSV is NULL: its text is, and stood outside of quotes.
fn is_null(options: &CopyOptions, had_quotes: bool, cell: &[u8], start: usize) -> bool {
    !had_quotes && cell.get(start..) == Some(options.null.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(options: &CopyOptions, cells: &[Option<&str>]) -> String {
        let mut line = Vec::new();
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                line.push(options.delimiter);
            }
            let cell = cell.map(str::as_bytes);
            write_cell(options, cell, cells.len() == 1, &mut line).unwrap();
        }
        String::from_utf8(line).unwrap()
    }

    /// The cells of a line.
    fn cells(options: &CopyOptions, line: &str) -> Vec<Option<String>> {
        let mut row = Vec::new();
        let count = read_line(options, line.as_bytes(), &mut row).unwrap();
        let mut reader = crate::wire::Reader::new("row", &row);
        let cells = (0..count)
            .map(|_| reader.value().unwrap().map(|cell| String::from_utf8(cell.to_vec()).unwrap()));
        cells.collect()
    }

    #[test]
    fn b12_text_is_escaped_as_the_server_does() {
        let text = CopyOptions::text();
        let row = [Some("a\tb\\c\nd\re"), None, Some(""), Some("\\N"), Some("é\u{8}\u{c}\u{b}")];
        let written = line(&text, &row);
        assert_eq!(written, "a\\tb\\\\c\\nd\\re\t\\N\t\t\\\\N\té\\b\\f\\v");
        assert_eq!(cells(&text, &written), row.map(|cell| cell.map(str::to_owned)));

        let odd = CopyOptions::text().delimiter(b'|').null("NULL");
        let row = [Some("a|b"), None, Some("NULL"), Some("x\ty")];
        let written = line(&odd, &row);
        assert_eq!(written, "a\\|b|NULL|\\116ULL|x\\ty");
        assert_eq!(cells(&odd, &written), row.map(|cell| cell.map(str::to_owned)));

        let empty = CopyOptions::text().null("");
        let error = write_cell(&empty, Some(b""), true, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("cannot be told from NULL"), "{error}");
    }

    #[test]
    fn b12_every_escape_of_the_text_format_is_read() {
        let text = CopyOptions::text();
        let found = cells(&text, "\\101\\x41\\x4a!\\q\\\\\\.\\x\\7\n");
        assert_eq!(found, [Some("AAJ!q\\.x\u{7}".to_owned())]);
        assert_eq!(cells(&text, "\r\n"), [Some(String::new())]);
    }

    #[test]
    fn b12_csv_is_quoted_where_it_has_to_be() {
        let csv = CopyOptions::csv();
        let row =
            [Some("a,b"), None, Some(""), Some("say \"hi\""), Some("two\nlines"), Some("\\.")];
        let written = line(&csv, &row);
        assert_eq!(written, "\"a,b\",,\"\",\"say \"\"hi\"\"\",\"two\nlines\",\\.");
        assert_eq!(cells(&csv, &written), row.map(|cell| cell.map(str::to_owned)));
        assert_eq!(line(&csv, &[Some("\\.")]), "\"\\.\"");

        let odd = CopyOptions::csv().delimiter(b';').quote(b'\'').escape(b'\\').null("-");
        let row = [Some("it's"), None, Some("-"), Some(""), Some("a\\;b"), Some("\"")];
        let written = line(&odd, &row);
        assert_eq!(written, "'it\\'s';-;'-';;'a\\\\;b';\"");
        assert_eq!(cells(&odd, &written), row.map(|cell| cell.map(str::to_owned)));
    }

    #[test]
    fn b12_the_end_of_a_line_is_found_in_pieces() {
        let odd = CopyOptions::csv().quote(b'\'').escape(b'\\');
        let mut end = LineEnd::default();
        assert_eq!(end.find(&odd, b"a,'b\n\\"), None);
        assert_eq!(end.find(&odd, b"'\n"), None, "an escaped quote does not end the quotes");
        assert_eq!(end.find(&odd, b"',c\nnext"), Some(4));
        let mut end = LineEnd::default();
        assert_eq!(end.find(&CopyOptions::csv(), b"\"a\"\"\n\"\nb"), Some(7));
        assert_eq!(LineEnd::default().find(&CopyOptions::text(), b"a\"\nb"), Some(3));
    }
}
