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
    ($count:literal: $($name:ident),+) => {
        impl<'a, $($name: FromSql<'a>),+> FromRow<'a> for ($($name,)+) {
            #[inline(always)]
            #[allow(non_snake_case, reason = "one list of names for types and values")]
            fn from_row(row: RowRef<'a>) -> PgResult<Self> {
                // The columns are named as their types: A, B ...
                let Some(([$($name),+], mut cells)) = row.parts::<$count>() else {
                    return Err(wrong_width(row, $count));
                };
                Ok(($(read::<$name>($name, cells.next())?,)+))
            }
        }
    };
}

tuple!(1: A);
tuple!(2: A, B);
tuple!(3: A, B, C);
tuple!(4: A, B, C, D);
tuple!(5: A, B, C, D, E);
tuple!(6: A, B, C, D, E, F);
tuple!(7: A, B, C, D, E, F, G);
tuple!(8: A, B, C, D, E, F, G, H);
tuple!(9: A, B, C, D, E, F, G, H, I);
tuple!(10: A, B, C, D, E, F, G, H, I, J);
tuple!(11: A, B, C, D, E, F, G, H, I, J, K);
tuple!(12: A, B, C, D, E, F, G, H, I, J, K, L);
tuple!(13: A, B, C, D, E, F, G, H, I, J, K, L, M);
tuple!(14: A, B, C, D, E, F, G, H, I, J, K, L, M, N);
tuple!(15: A, B, C, D, E, F, G, H, I, J, K, L, M, N, O);
tuple!(16: A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P);
