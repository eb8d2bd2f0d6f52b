//! Rows that outlive the receive buffer: one arena for a whole result.

use std::fmt;
use std::rc::Rc;

use super::cells::{Span, check_cells, spans_of};
use super::column::{Column, ColumnIndex};
use super::from_row::FromRow;
use super::reference::RowRef;
use crate::error::PgResult;
use crate::types::{Encoded, Format, FromSql, Oid, Out, PgValue, ToSql, TypeMap};
use crate::wire::Malformed;

/// All rows of one result: their bytes in one arena, the places of their cells beside it.
#[derive(Clone, Debug)]
pub(crate) struct RowSet {
    columns: Rc<[Column]>,
    bytes: Vec<u8>,
    /// For each row its place in the arena, then the spans of its cells if it is a wide one.
    spans: Vec<Span>,
    rows: usize,
}

impl RowSet {
    pub(crate) fn new(columns: Rc<[Column]>) -> Self {
        Self { columns, bytes: Vec::new(), spans: Vec::new(), rows: 0 }
    }

    pub(crate) fn columns(&self) -> &Rc<[Column]> {
        &self.columns
    }

    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Appends a row: the bytes of a DataRow behind its cell count, which the caller has compared
    /// with the columns.
    #[inline]
    pub(crate) fn push(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let first = self.spans.len();
        self.spans.push(Span::of_row(self.bytes.len()));
        let columns = self.columns.len();
        self.spans.resize(first + 1 + spans_of(columns), Span::default());
        let spans = self.spans.get_mut(first + 1..).unwrap_or_default();
        if let Err(error) = check_cells(body, columns, spans) {
            self.spans.truncate(first);
            return Err(error);
        }
        self.bytes.extend_from_slice(body);
        self.rows += 1;
        Ok(())
    }

    #[inline]
    pub(crate) fn row(&self, index: usize) -> RowRef<'_> {
        let stride = 1 + spans_of(self.columns.len());
        let spans = self.spans.get(index * stride..(index + 1) * stride).unwrap_or_default();
        let (place, spans) =
            spans.split_first().map_or((0, spans), |(row, rest)| (row.row(), rest));
        RowRef::new(&self.columns, self.bytes.get(place..).unwrap_or_default(), spans)
    }

    /// The rows as handles that share this set.
    pub(crate) fn rows(self: Rc<Self>) -> Vec<Row> {
        (0..self.rows).map(|index| Row { set: Rc::clone(&self), index }).collect()
    }
}

/// A row that owns its values.
///
/// All rows of a result share one allocation; a `Row` is a counted reference to it and an index, so
/// cloning is cheap, and one kept row keeps the whole result in memory: [`detach`](Row::detach)
/// copies a row out of it.
///
/// `Row` is not `Send`: it belongs to the thread of its connection.
///
/// ```
/// use chopin_pg::{PgValue, Row};
///
/// let row = Row::mock(&["id", "name"], &[PgValue::Int4(7), PgValue::Text("Frédéric".into())]);
/// assert_eq!(row.get::<i64>("id")?, 7);
/// assert_eq!(row.get::<&str>(1)?, "Frédéric");
/// let (id, name): (i32, String) = row.to()?;
/// assert_eq!((id, name.as_str()), (7, "Frédéric"));
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
#[derive(Clone)]
pub struct Row {
    set: Rc<RowSet>,
    index: usize,
}

impl Row {
    /// The row, borrowed.
    #[inline]
    pub fn as_ref(&self) -> RowRef<'_> {
        self.set.row(self.index)
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        self.set.columns.len()
    }

    /// Whether the row has no columns.
    pub fn is_empty(&self) -> bool {
        self.set.columns.is_empty()
    }

    /// The columns.
    pub fn columns(&self) -> &[Column] {
        &self.set.columns
    }

    /// The value of a column, by index or name.
    ///
    /// ```
    /// # use chopin_pg::{PgValue, Row};
    /// # let row = Row::mock(&["id"], &[PgValue::Int4(7)]);
    /// let id: i32 = row.get("id")?;
    /// let value: PgValue = row.get(0)?;
    /// assert_eq!(value, PgValue::Int4(id));
    /// # Ok::<(), chopin_pg::PgError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`RowRef::get`].
    #[inline]
    pub fn get<'a, T: FromSql<'a>>(&'a self, column: impl ColumnIndex) -> PgResult<T> {
        self.as_ref().get(column)
    }

    /// The value of a column by its index: [`get`](Self::get) for an index alone.
    ///
    /// # Errors
    ///
    /// As [`RowRef::get`].
    pub fn get_typed<'a, T: FromSql<'a>>(&'a self, index: usize) -> PgResult<T> {
        self.get(index)
    }

    /// The value of a column by its name: [`get`](Self::get) for a name alone.
    ///
    /// # Errors
    ///
    /// As [`RowRef::get`].
    pub fn get_by_name<'a, T: FromSql<'a>>(&'a self, name: &str) -> PgResult<T> {
        self.get(name)
    }

    /// Whether the value of a column is NULL.
    ///
    /// # Errors
    ///
    /// [`PgError::Column`](crate::PgError::Column) when there is no such column.
    pub fn is_null(&self, column: impl ColumnIndex) -> PgResult<bool> {
        self.as_ref().is_null(column)
    }

    /// The whole row as a tuple, or as any other type that implements [`FromRow`].
    ///
    /// # Errors
    ///
    /// As [`RowRef::to`].
    pub fn to<'a, T: FromRow<'a>>(&'a self) -> PgResult<T> {
        self.as_ref().to()
    }

    /// Copies this row out of its result, so that keeping it does not keep the other rows.
    pub fn detach(&self) -> Self {
        let row = self.as_ref();
        Self::alone(Rc::clone(&self.set.columns), (0..row.len()).map(|index| row.raw(index)))
    }

    /// A row of these cells, as the only one of its result.
    fn alone<'a>(columns: Rc<[Column]>, cells: impl Iterator<Item = Option<&'a [u8]>>) -> Self {
        let mut body = Vec::new();
        cells.for_each(|cell| push_cell(&mut body, cell));
        let mut set = RowSet::new(columns);
        let pushed = set.push(&body);
        debug_assert!(pushed.is_ok(), "a row that was just written is well-formed");
        Self { set: Rc::new(set), index: 0 }
    }

    /// A row made of values, for tests of code that reads rows.
    ///
    /// Each column has the type that its value declares as a parameter; text where it declares
    /// none. Where `names` and `values` differ in length, the shorter one decides.
    ///
    /// # Panics
    ///
    /// When a value could not be sent as a parameter either, such as a text with a NUL byte.
    pub fn mock(names: &[&str], values: &[PgValue]) -> Self {
        let types = TypeMap::builtin();
        let mut cells = Vec::new();
        let columns = names.iter().zip(values).map(|(name, value)| {
            let mut bytes = Vec::new();
            let (format, cell) = match value.encode(types, &mut Out::new(&mut bytes)) {
                Ok(Encoded::Binary) => (Format::Binary, Some(bytes)),
                Ok(Encoded::Text) => (Format::Text, Some(bytes)),
                Ok(Encoded::Null) => (Format::Text, None),
                Err(error) => panic!("the value of \"{name}\" cannot stand in a row: {error}"),
            };
            cells.push(cell);
            Column {
                name: (*name).into(),
                oid: match value.type_oid() {
                    Oid::UNSPECIFIED => Oid::TEXT,
                    oid => oid,
                },
                format,
                table_oid: 0,
                column_number: 0,
                type_length: -1,
                type_modifier: -1,
            }
        });
        let columns = columns.collect();
        Self::alone(columns, cells.iter().map(Option::as_deref))
    }
}

/// Appends a cell as it stands on the wire; a cell that came from there is never longer than its
/// length can say.
fn push_cell(body: &mut Vec<u8>, cell: Option<&[u8]>) {
    match cell.map(|cell| (cell, i32::try_from(cell.len()))) {
        Some((cell, Ok(length))) => {
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(cell);
        }
        Some((_, Err(_))) | None => body.extend_from_slice(&(-1i32).to_be_bytes()),
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}
