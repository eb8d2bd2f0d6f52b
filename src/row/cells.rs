//! Where the cells of a row are.
//!
//! A row is kept as it came: each cell is an Int32 length (-1 for NULL) and that many bytes. In a
//! narrow row a cell is found by walking over those before it. Beside a wide one stands the [`Span`]
//! of each cell, so that any is found in one step.

use crate::wire::Malformed;

/// The most columns of a row that is walked over. Walking over so few cells costs less than noting
/// where each is.
const NARROW: usize = 8;

/// How many spans a row of so many columns has: none if it is narrow.
#[inline]
pub(crate) fn spans_of(columns: usize) -> usize {
    if columns <= NARROW { 0 } else { columns }
}

/// The cells of a row, one after the other. The row has been [checked](check_cells).
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    #[inline]
    pub(super) fn new(row: &'a [u8]) -> Self {
        Self { rest: row }
    }

    /// The next cell; `None` for NULL, and past the end.
    #[inline]
    pub(super) fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        // That of NULL is beyond any end when it is taken for an unsigned number.
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (cell, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(cell)
    }

    /// The cell with this index.
    #[inline]
    pub(super) fn nth(mut self, index: usize) -> Option<&'a [u8]> {
        for _ in 0..index {
            self.next();
        }
        self.next()
    }
}

/// The bytes of a cell, by their place in the row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// NULL: no range at all.
    const NULL: Self = Self { start: 1, end: 0 };

    /// No place in a row is beyond `u32::MAX`: a message has at most 2 GiB.
    #[inline]
    fn new(start: usize, end: usize) -> Self {
        Self { start: low_half(start), end: low_half(end) }
    }

    /// The place of a row in an arena, kept among its spans.
    #[inline]
    pub(super) fn of_row(place: usize) -> Self {
        Self { start: low_half(place), end: low_half(place >> u32::BITS.min(usize::BITS - 1)) }
    }

    /// The place that [`of_row`](Self::of_row) was made of.
    #[inline]
    pub(super) fn row(self) -> usize {
        let place = u64::from(self.end) << u32::BITS | u64::from(self.start);
        usize::try_from(place).unwrap_or(usize::MAX)
    }

    /// The cell's bytes in those of its row; `None` for NULL.
    #[inline]
    pub(super) fn cell(self, row: &[u8]) -> Option<&[u8]> {
        let place = |half| usize::try_from(half).unwrap_or(usize::MAX);
        row.get(place(self.start)..place(self.end))
    }
}

/// The lower 32 bits.
#[inline]
fn low_half(number: usize) -> u32 {
    let mut bytes = [0; 4];
    number.to_le_bytes().iter().zip(&mut bytes).for_each(|(from, to)| *to = *from);
    u32::from_le_bytes(bytes)
}

/// Checks the cells of a DataRow: that there are `columns` of them and nothing else. Notes the span
/// of each if there are `spans`, which are as many as [`spans_of`] the columns.
///
/// `body` is what follows the cell count.
///
/// # Errors
///
/// [`Malformed`] when a length is negative or points beyond the end, or bytes are left over. Some
/// of the spans are those of this row then.
#[inline]
pub(crate) fn check_cells(
    body: &[u8],
    columns: usize,
    spans: &mut [Span],
) -> Result<(), Malformed> {
    let mut rest = body;
    if spans.is_empty() {
        for _ in 0..columns {
            (_, rest) = behind_cell(rest)?;
        }
    }
    for span in spans {
        let (is_null, behind) = behind_cell(rest)?;
        let (start, end) = (body.len() - rest.len() + LENGTH, body.len() - behind.len());
        *span = if is_null { Span::NULL } else { Span::new(start, end) };
        rest = behind;
    }
    if rest.is_empty() { Ok(()) } else { Err(malformed("bytes are left over at its end")) }
}

/// How many bytes the length of a cell takes.
const LENGTH: usize = 4;

/// The length of NULL: -1.
const NULL: [u8; LENGTH] = [0xff; LENGTH];

/// Whether the first cell is NULL, and what stands behind it.
#[inline(always)]
fn behind_cell(row: &[u8]) -> Result<(bool, &[u8]), Malformed> {
    let Some(length) = row.first_chunk::<LENGTH>() else {
        return Err(malformed("it ends inside a number"));
    };
    // Negative numbers, that of NULL too, are beyond any end when they are taken for unsigned ones.
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    match row.get(length.saturating_add(LENGTH)..) {
        Some(behind) => Ok((false, behind)),
        None => behind_null(row).map(|behind| (true, behind)),
    }
}

/// What stands behind the first cell, whose length points beyond the end: that of NULL does.
#[cold]
#[inline(never)]
fn behind_null(row: &[u8]) -> Result<&[u8], Malformed> {
    match row.split_first_chunk() {
        Some((&NULL, behind)) => Ok(behind),
        Some((length, _)) if i32::from_be_bytes(*length) >= 0 => {
            Err(malformed("a length points beyond its end"))
        }
        _ => Err(malformed("a length is negative")),
    }
}

#[cold]
fn malformed(what: &'static str) -> Malformed {
    Malformed { message: "DataRow", what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_found_by_its_span_and_null_is_none() {
        let body = b"\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0\0\0\0\x01c";
        let expected = [Some(&b"ab"[..]), None, Some(b""), Some(b"c")];
        let mut spans = [Span::default(); 4];
        check_cells(body, 4, &mut spans).unwrap();
        assert_eq!(spans.map(|span| span.cell(body)), expected);
        check_cells(body, 4, &mut []).unwrap();
        assert_eq!([0, 1, 2, 3].map(|index| Walk::new(body).nth(index)), expected);
        assert_eq!(Walk::new(body).nth(4), None);
    }

    #[test]
    fn h18_malformed_rows_are_told_with_spans_and_without() {
        for (body, what) in [
            (&b"\0\0\0"[..], "inside a number"),
            (b"\0\0\0\x02a", "beyond its end"),
            (b"\xff\xff\xff\xfe", "negative"),
            (b"\0\0\0\0x", "left over"),
        ] {
            for spans in [&mut [][..], &mut [Span::default()]] {
                let error = check_cells(body, 1, spans).unwrap_err();
                assert!(error.to_string().contains(what), "{error}");
            }
        }
    }

    #[test]
    fn the_place_of_a_row_may_be_beyond_4_gib() {
        for place in [0, 1, 0xffff_ffff, 0x1_0000_0000, 0x1234_5678_9abc] {
            assert_eq!(Span::of_row(place).row(), place);
        }
    }
}
