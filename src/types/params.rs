//! Lists of parameters: slices, arrays, vectors and tuples.

use super::{BindValues, ToSql};
use crate::error::PgResult;

/// The parameters of a query, `$1` first.
///
/// Implemented for slices, arrays and vectors of one parameter type (also of `&dyn ToSql`), for
/// tuples of up to 16 types, for `()` and for references to all of these. An iterator is collected
/// into a `Vec` first.
///
/// ```no_run
/// # fn main() -> chopin_pg::PgResult<()> {
/// # let mut connection = chopin_pg::PgConnection::connect(&chopin_pg::PgConfig::from_url("")?)?;
/// connection.execute_with("insert into t values ($1, $2)", (1, "one"))?;
/// connection.execute_with("insert into t values ($1, $2)", ["2", "two"])?;
/// # Ok(())
/// # }
/// ```
pub trait Params {
    /// How many there are.
    fn len(&self) -> usize;

    /// The parameter with this index, from 0; `None` past the end.
    fn param(&self, index: usize) -> Option<&dyn ToSql>;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands each one to `visitor`, in order, up to the first error: as the type that it is, where
    /// that is known, so that nothing has to be found out for each.
    ///
    /// # Errors
    ///
    /// What the visitor returns.
    #[inline]
    fn visit<V: ParamVisitor>(&self, visitor: &mut V) -> PgResult<()>
    where
        Self: Sized,
    {
        (0..self.len())
            .filter_map(|index| self.param(index))
            .try_for_each(|param| visitor.take(param))
    }

    /// [`visit`](Self::visit) by the values of a Bind message, for lists of which only this trait is
    /// known.
    ///
    /// # Errors
    ///
    /// [`PgError::Parameter`](crate::PgError::Parameter) for the first that cannot be sent.
    #[inline]
    fn bind(&self, values: &mut BindValues<'_>) -> PgResult<()> {
        (0..self.len())
            .filter_map(|index| self.param(index))
            .try_for_each(|param| values.take(param))
    }
}

/// What [`Params::visit`] hands the parameters to.
pub trait ParamVisitor {
    /// Takes the next parameter.
    ///
    /// # Errors
    ///
    /// Whatever ends the visit.
    fn take<T: ToSql + ?Sized>(&mut self, param: &T) -> PgResult<()>;
}

impl<T: ToSql> Params for [T] {
    fn len(&self) -> usize {
        <[T]>::len(self)
    }
    fn param(&self, index: usize) -> Option<&dyn ToSql> {
        self.get(index).map(|param| param as &dyn ToSql)
    }
    fn bind(&self, values: &mut BindValues<'_>) -> PgResult<()> {
        self.iter().try_for_each(|param| values.take(param))
    }
}

impl<T: ToSql, const N: usize> Params for [T; N] {
    fn len(&self) -> usize {
        N
    }
    fn param(&self, index: usize) -> Option<&dyn ToSql> {
        self.as_slice().param(index)
    }
    fn bind(&self, values: &mut BindValues<'_>) -> PgResult<()> {
        self.as_slice().bind(values)
    }
}

impl<T: ToSql> Params for Vec<T> {
    fn len(&self) -> usize {
        Vec::len(self)
    }
    fn param(&self, index: usize) -> Option<&dyn ToSql> {
        self.as_slice().param(index)
    }
    fn bind(&self, values: &mut BindValues<'_>) -> PgResult<()> {
        self.as_slice().bind(values)
    }
}

impl<P: Params + ?Sized> Params for &P {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn param(&self, index: usize) -> Option<&dyn ToSql> {
        (**self).param(index)
    }
    fn bind(&self, values: &mut BindValues<'_>) -> PgResult<()> {
        (**self).bind(values)
    }
}

impl Params for () {
    fn len(&self) -> usize {
        0
    }
    fn param(&self, _: usize) -> Option<&dyn ToSql> {
        None
    }
}

macro_rules! tuple {
    ($count:literal: $($name:ident $index:tt),+) => {
        impl<$($name: ToSql),+> Params for ($($name,)+) {
            fn len(&self) -> usize {
                $count
            }
            fn param(&self, index: usize) -> Option<&dyn ToSql> {
                match index {
                    $($index => Some(&self.$index),)+
                    _ => None,
                }
            }
            #[inline]
            fn visit<V: ParamVisitor>(&self, visitor: &mut V) -> PgResult<()> {
                $(visitor.take(&self.$index)?;)+
                Ok(())
            }
            fn bind(&self, values: &mut BindValues<'_>) -> PgResult<()> {
                self.visit(values)
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
