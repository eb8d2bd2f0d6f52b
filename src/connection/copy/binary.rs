//! What stands around and between the rows of a binary COPY.
//!
//! ```text
//! "PGCOPY\n" 0xFF "\r\n" 0x00   signature
//! Int32                         flags: bits 16 to 31 say what a reader must know
//! Int32, that many bytes        an extension that may be passed over
//! rows: Int16 number of cells, then each cell as in a DataRow
//! Int16 -1                      the end
//! ```
//!
//! Source: PostgreSQL documentation, "COPY", "Binary Format".

use crate::error::{PgError, PgResult};
use crate::wire::{Malformed, Reader};

/// Everything before the first row: the signature, no flags, no extension.
pub(super) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Behind the last row.
pub(super) const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// What stands at the front of some data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// A whole row of so many bytes, or a whole header.
    Whole(usize),
    /// The trailer.
    End,
    /// The beginning of something whose end has not come.
    Incomplete,
}

/// Looks for the header.
///
/// # Errors
///
/// [`PgError::Protocol`] when it is none, or one that this reader does not know.
pub(super) fn header(data: &[u8]) -> PgResult<Front> {
    let known = SIGNATURE.len().min(data.len());
    if data.get(..known) != SIGNATURE.get(..known) {
        return Err(malformed("it does not begin with the signature"));
    }
    let mut reader = Reader::new("COPY header", data.get(known..).unwrap_or_default());
    let (Ok(flags), Ok(extension)) = (reader.u32(), reader.i32()) else {
        return Ok(Front::Incomplete);
    };
    if flags >> 16 != 0 {
        return Err(malformed("its header has flags that are not known"));
    }
    let Ok(extension) = usize::try_from(extension) else {
        return Err(malformed("the length of its header is negative"));
    };
    Ok(match reader.bytes(extension) {
        Ok(_) => Front::Whole(data.len() - reader.len()),
        Err(_) => Front::Incomplete,
    })
}

/// Looks for a row with so many cells, or the trailer.
///
/// # Errors
///
/// [`PgError::Protocol`] when it has another number of cells, or a length is negative.
#[inline]
pub(super) fn row(data: &[u8], columns: usize) -> PgResult<Front> {
    let Some((count, mut rest)) = data.split_first_chunk::<2>() else {
        return Ok(Front::Incomplete);
    };
    let count = i16::from_be_bytes(*count);
    if usize::try_from(count) != Ok(columns) {
        return if count == -1 { Ok(Front::End) } else { Err(wrong_count(count, columns)) };
    }
    for _ in 0..columns {
        let Some((length, behind)) = rest.split_first_chunk::<4>() else {
            return Ok(Front::Incomplete);
        };
        let length = match i32::from_be_bytes(*length) {
            -1 => 0,
            length => match usize::try_from(length) {
                Ok(length) => length,
                Err(_) => return Err(malformed("the length of a cell is negative")),
            },
        };
        match behind.get(length..) {
            Some(behind) => rest = behind,
            None => return Ok(Front::Incomplete),
        }
    }
    Ok(Front::Whole(data.len() - rest.len()))
}

#[cold]
fn wrong_count(count: i16, columns: usize) -> PgError {
    PgError::Protocol(format!(
        "a row of the COPY has {count} cells, but there are {columns} columns"
    ))
}

#[cold]
pub(super) fn malformed(what: &'static str) -> PgError {
    Malformed { message: "binary COPY", what }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = b"\0\x02\0\0\0\x01a\xff\xff\xff\xff";

    #[test]
    fn b12_headers_and_rows_are_found_whole_and_in_pieces() {
        assert_eq!(header(HEADER).unwrap(), Front::Whole(19));
        let extended = [&HEADER[..15], b"\0\0\0\x02xyrest"].concat();
        assert_eq!(header(&extended).unwrap(), Front::Whole(21));
        for length in 0..19 {
            assert_eq!(header(&HEADER[..length]).unwrap(), Front::Incomplete);
        }
        assert_eq!(row(ROW, 2).unwrap(), Front::Whole(ROW.len()));
        assert_eq!(row(&[ROW, ROW].concat(), 2).unwrap(), Front::Whole(ROW.len()));
        for length in 0..ROW.len() {
            assert_eq!(row(&ROW[..length], 2).unwrap(), Front::Incomplete);
        }
        assert_eq!(row(&TRAILER, 2).unwrap(), Front::End);
        assert_eq!(row(b"\0\0\0\0", 0).unwrap(), Front::Whole(2));
    }

    #[test]
    fn h18_malformed_headers_and_rows_are_errors() {
        let with = |at: usize, byte: u8| {
            let mut header = *HEADER;
            header[at] = byte;
            header
        };
        for (data, what) in [
            (with(0, b'p'), "signature"),
            (with(7, 0xfe), "signature"),
            (with(12, 1), "flags"),
            (with(15, 0x80), "negative"),
        ] {
            let error = header(&data).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        for (data, what) in [
            (&b"\0\x03"[..], "3 cells, but there are 2"),
            (b"\xff\xfe", "-2 cells"),
            (b"\0\x02\xff\xff\xff\xfe", "negative"),
        ] {
            let error = row(data, 2).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
