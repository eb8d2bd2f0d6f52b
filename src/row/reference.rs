//! A row, borrowed.

use super::cells::{Span, Walk};
use super::column::{Column, ColumnIndex, no_such_index};
use super::from_row::FromRow;
use crate::error::{PgError, PgResult};
use crate::types::{Cell, FromSql};

/// A row that borrows its bytes.
///
/// `Copy`: three slices. Values read from it may borrow from it too (`&str`, `&[u8]`).
#[derive(Clone, Copy)]
pub struct RowRef<'a> {
    columns: &'a [Column],
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> RowRef<'a> {
    /// `bytes` are those of the row behind its cell count, checked; `spans` where its cells are if it
    /// is a wide one, else none.
    #[inline]
    pub(crate) fn new(columns: &'a [Column], bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { columns, bytes, spans }
    }

    /// The number of columns.
    #[inline]
    pub fn len(self) -> usize {
        self.columns.len()
    }

    /// Whether the row has no columns, as those of `SELECT FROM t`.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.columns.is_empty()
    }

    /// The columns.
    #[inline]
    pub fn columns(self) -> &'a [Column] {
        self.columns
    }

    /// The value of a column, by index or name.
    ///
    /// # Errors
    ///
    /// [`PgError::Column`] when there is no such column. [`PgError::TypeConversion`] when the
    /// column's type is not one that `T` reads, or the value is NULL and `T` is not an `Option`;
    /// the error names the column and both types.
    #[inline]
    pub fn get<T: FromSql<'a>>(self, column: impl ColumnIndex) -> PgResult<T> {
        let index = column.find(self.columns)?;
        self.value(index)
    }

    /// The value of the column with this index.
    #[inline]
    pub(super) fn value<T: FromSql<'a>>(self, index: usize) -> PgResult<T> {
        match self.columns.get(index) {
            Some(column) => read(column, self.raw(index)),
            None => Err(no_such_index(index, self.columns)),
        }
    }

    /// The columns and the cells, if there are `N`.
    #[inline]
    pub(super) fn parts<const N: usize>(self) -> Option<(&'a [Column; N], Walk<'a>)> {
        Some((self.columns.try_into().ok()?, Walk::new(self.bytes)))
    }

    /// Whether the value of a column is NULL.
    ///
    /// # Errors
    ///
    /// [`PgError::Column`] when there is no such column.
    pub fn is_null(self, column: impl ColumnIndex) -> PgResult<bool> {
        let index = column.find(self.columns)?;
        Ok(self.raw(index).is_none())
    }

    /// The whole row as a tuple, or as any other type that implements [`FromRow`].
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get) for each column, and when the number of columns is not what `T`
    /// expects.
    #[inline]
    pub fn to<T: FromRow<'a>>(self) -> PgResult<T> {
        T::from_row(self)
    }

    /// The bytes of a cell as they came, `None` for NULL or no such column.
    #[inline]
    pub(crate) fn raw(self, index: usize) -> Option<&'a [u8]> {
        match self.spans.get(index) {
            Some(span) => span.cell(self.bytes),
            None => Walk::new(self.bytes).nth(index),
        }
    }
}

/// The value of a cell, `None` for NULL.
#[inline(always)]
pub(super) fn read<'a, T: FromSql<'a>>(column: &Column, cell: Option<&'a [u8]>) -> PgResult<T> {
    let value = match cell {
        Some(bytes) => T::from_sql(Cell::new(column.oid, column.format, bytes)),
        None => T::from_null(),
    };
    match value {
        Ok(value) => Ok(value),
        Err(error) => Err(in_column(error, column)),
    }
}

/// Adds to a conversion error the column that it happened in.
#[cold]
#[inline(never)]
fn in_column(mut error: PgError, column: &Column) -> PgError {
    if let PgError::TypeConversion(conversion) = &mut error {
        conversion.column = Some(column.name.to_string());
        // `FromSql::from_null` sees no cell, so it cannot know the type.
        if conversion.pg_type == "NULL" {
            conversion.pg_type = column.type_name();
        }
    }
    error
}

/// Shows the row as a struct of its columns.
impl std::fmt::Debug for RowRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::types::PgValue;
        let mut row = f.debug_struct("Row");
        for (index, column) in self.columns.iter().enumerate() {
            match self.get::<PgValue>(index) {
                Ok(value) => row.field(&column.name, &value),
                Err(error) => row.field(&column.name, &error.to_string()),
            };
        }
        row.finish()
    }
}
