//! Where the cells of a row begin.
//!
//! A row is kept as it came: each cell is an Int32 length (-1 for NULL) and that many bytes. Beside
//! it stands the offset of each cell's length, so that any cell is found in one step.

use crate::wire::{Malformed, Reader};

/// Walks the cells of a DataRow and appends the offset of each to `offsets`, counted from `base`.
///
/// `body` is what follows the cell count; it must hold exactly `expected` cells.
///
/// # Errors
///
/// [`Malformed`] when a length is negative or points beyond the end, or bytes are left over.
/// `offsets` may hold some of the row's offsets then.
#[inline]
pub(crate) fn split_cells(
    body: &[u8],
    expected: usize,
    base: usize,
    offsets: &mut Vec<usize>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new("DataRow", body);
    for _ in 0..expected {
        offsets.push(base + (body.len() - reader.len()));
        reader.value()?;
    }
    reader.finish()
}

/// The cell whose length stands at `offset`; `None` for NULL.
///
/// The bytes have been walked by [`split_cells`], so nothing here fails; if it could, it would read
/// as NULL.
#[inline]
pub(super) fn cell_at(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    Reader::new("DataRow", bytes.get(offset..)?).value().ok()?
}
