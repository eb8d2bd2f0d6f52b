//! Whole rows as Rust values.

use super::reference::{RowRef, read};
use crate::error::{PgError, PgResult};
use crate::types::FromSql;

/// A type that a whole row can be read as: tuples of up to 16 columns, and whatever implements it.
///
/// ```
/// use chopin_pg::row::{FromRow, RowRef};
/// use chopin_pg::{PgResult, PgValue, Row};
///
/// struct Pianist { id: i32, name: String }
///
/// impl FromRow<'_> for Pianist {
///     fn from_row(row: RowRef<'_>) -> PgResult<Self> {
///         Ok(Self { id: row.get("id")?, name: row.get("name")? })
///     }
/// }
///
/// let row = Row::mock(&["id", "name"], &[PgValue::Int4(1), PgValue::Text("Clara".into())]);
/// let pianist: Pianist = row.to()?;
/// assert_eq!((pianist.id, pianist.name.as_str()), (1, "Clara"));
/// # Ok::<(), chopin_pg::PgError>(())
/// ```
pub trait FromRow<'a>: Sized {
    /// Reads the row.
    ///
    /// # Errors
    ///
    /// As [`RowRef::get`] for each column, and when the number of columns is not the expected one.
    fn from_row(row: RowRef<'a>) -> PgResult<Self>;
}

#[cold]
fn wrong_width(row: RowRef<'_>, expected: usize) -> PgError {
    PgError::Column(format!(
        "the row has {} columns, but is read as a tuple of {expected}",
        row.len()
    ))
}

macro_rules! tuple {
    ($count:literal: $($name:ident $index:tt),+) => {
        impl<'a, $($name: FromSql<'a>),+> FromRow<'a> for ($($name,)+) {
            #[inline]
            fn from_row(row: RowRef<'a>) -> PgResult<Self> {
                let Some((columns, mut cells)) = row.parts::<$count>() else {
                    return Err(wrong_width(row, $count));
                };
                Ok(($(read::<$name>(&columns[$index], cells.next())?,)+))
            }
        }
    };
}

tuple!(1: A 0);
tuple!(2: A 0, B 1);
tuple!(3: A 0, B 1, C 2);
tuple!(4: A 0, B 1, C 2, D 3);
tuple!(5: A 0, B 1, C 2, D 3, E 4);
tuple!(6: A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
tuple!(13: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12);
tuple!(14: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13);
tuple!(15: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14);
tuple!(16: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11, M 12, N 13, O 14, P 15);
