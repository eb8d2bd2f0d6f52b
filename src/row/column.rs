//! Columns of a result, and finding one.

use crate::error::PgError;
use crate::types::{Format, Oid, TypeMap};

/// One column of a result, as RowDescription describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub(crate) name: Box<str>,
    pub(crate) oid: Oid,
    pub(crate) format: Format,
    pub(crate) table_oid: u32,
    pub(crate) column_number: i16,
    pub(crate) type_length: i16,
    pub(crate) type_modifier: i32,
}

impl Column {
    /// The column's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The column's type.
    pub fn type_oid(&self) -> Oid {
        self.oid
    }

    /// The name of the column's type for people: `int4`, or `oid 16385` for a type that is not in
    /// every server.
    pub fn type_name(&self) -> String {
        TypeMap::builtin().describe(self.oid)
    }

    /// The format in which the column's cells came.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The table that the column comes from, if it is a plain column of a table.
    pub fn table_oid(&self) -> Option<Oid> {
        (self.table_oid != 0).then(|| Oid::new(self.table_oid))
    }

    /// The column's number in its table, from 1.
    pub fn column_number(&self) -> Option<i16> {
        (self.column_number != 0).then_some(self.column_number)
    }

    /// The type's length in bytes, `None` for types of variable length.
    pub fn type_length(&self) -> Option<u16> {
        u16::try_from(self.type_length).ok()
    }

    /// The type modifier, such as the 10 of `varchar(10)` plus 4; `None` if there is none.
    pub fn type_modifier(&self) -> Option<i32> {
        (self.type_modifier != -1).then_some(self.type_modifier)
    }
}

/// What names a column: its index from 0, or its name.
///
/// Where several columns have the same name, the first is found.
pub trait ColumnIndex {
    /// The index of the column in `columns`.
    ///
    /// # Errors
    ///
    /// [`PgError::Column`] when there is no such column; the message lists those that there are.
    fn find(&self, columns: &[Column]) -> Result<usize, PgError>;
}

impl ColumnIndex for usize {
    #[inline]
    fn find(&self, columns: &[Column]) -> Result<usize, PgError> {
        if *self < columns.len() { Ok(*self) } else { Err(no_such_index(*self, columns)) }
    }
}

impl ColumnIndex for str {
    fn find(&self, columns: &[Column]) -> Result<usize, PgError> {
        columns.iter().position(|column| *column.name == *self).ok_or_else(|| {
            PgError::Column(format!(
                "there is no column named \"{self}\": the row has {} ({})",
                columns.len(),
                names(columns)
            ))
        })
    }
}

impl ColumnIndex for String {
    fn find(&self, columns: &[Column]) -> Result<usize, PgError> {
        ColumnIndex::find(self.as_str(), columns)
    }
}

impl<T: ColumnIndex + ?Sized> ColumnIndex for &T {
    #[inline]
    fn find(&self, columns: &[Column]) -> Result<usize, PgError> {
        (**self).find(columns)
    }
}

#[cold]
pub(super) fn no_such_index(index: usize, columns: &[Column]) -> PgError {
    PgError::Column(format!(
        "there is no column with index {index}: the row has {} ({})",
        columns.len(),
        names(columns)
    ))
}

/// The names of the first columns, for an error message.
fn names(columns: &[Column]) -> String {
    const SHOWN: usize = 20;
    let mut list: Vec<&str> = columns.iter().take(SHOWN).map(Column::name).collect();
    if columns.len() > SHOWN {
        list.push("...");
    }
    list.join(", ")
}
