//! Rows: columns, cells, and the two ways to hold them.
//!
//! * [`RowRef`] borrows a row from wherever its bytes are: the receive buffer while streaming, an
//!   arena afterwards.
//! * [`Row`] owns a share of its result: all rows of a result lie in one arena, a row is an `Rc`
//!   and an index.
//!
//! Both read a column by index or by name as any type that implements
//! [`FromSql`](crate::types::FromSql), and whole rows as tuples through [`FromRow`].
//!
//! This floor knows cells and columns, and no connection.

mod cells;
mod column;
mod from_row;
mod owned;
mod reference;

pub use self::column::{Column, ColumnIndex};
pub use self::from_row::FromRow;
pub use self::owned::Row;
pub use self::reference::RowRef;

pub(crate) use self::cells::{Span, check_cells, spans_of};
pub(crate) use self::owned::RowSet;
