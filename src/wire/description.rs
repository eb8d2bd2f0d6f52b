//! The lists inside backend messages: columns, parameter types, cells, formats, names.

use super::reader::{Malformed, Reader};

/// One column of a RowDescription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The column's name, in the client encoding.
    pub name: &'a [u8],
    /// The table that the column comes from, 0 if none.
    pub table_oid: u32,
    /// The column's number in that table, 0 if none.
    pub column_number: i16,
    /// The type.
    pub type_oid: u32,
    /// The type's length in bytes, negative for types of variable length.
    pub type_length: i16,
    /// The type modifier, as in `varchar(10)`; -1 if none.
    pub type_modifier: i32,
    /// The format code: 0 text, 1 binary.
    pub format: i16,
}

/// A counted list whose items are read one after the other.
///
/// The iterator yields an error for a list that ends too early or has bytes left over, and nothing
/// after it.
#[derive(Clone, Copy, Debug)]
pub struct List<'a, T> {
    reader: Reader<'a>,
    left: usize,
    item: fn(&mut Reader<'a>) -> Result<T, Malformed>,
    done: bool,
}

impl<'a, T> List<'a, T> {
    pub(super) fn new(
        reader: Reader<'a>,
        count: usize,
        item: fn(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Self {
        Self { reader, left: count, item, done: false }
    }

    /// How many items can be left at most, going by the bytes that are there.
    pub fn at_most(&self) -> usize {
        self.left.min(self.reader.len())
    }
}

impl<T> Iterator for List<'_, T> {
    type Item = Result<T, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.left == 0 {
            self.done = true;
            return self.reader.finish().err().map(Err);
        }
        self.left -= 1;
        let item = (self.item)(&mut self.reader);
        self.done = item.is_err();
        Some(item)
    }
}

pub(super) fn field<'a>(reader: &mut Reader<'a>) -> Result<Field<'a>, Malformed> {
    Ok(Field {
        name: reader.string()?,
        table_oid: reader.u32()?,
        column_number: reader.i16()?,
        type_oid: reader.u32()?,
        type_length: reader.i16()?,
        type_modifier: reader.i32()?,
        format: reader.i16()?,
    })
}

pub(super) fn cell<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    reader.value()
}

/// The mechanisms of an AuthenticationSASL message: strings up to an empty one.
#[derive(Clone, Copy, Debug)]
pub struct Mechanisms<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) done: bool,
}

impl<'a> Iterator for Mechanisms<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.reader.string() {
            Ok([]) => {
                self.done = true;
                self.reader.finish().err().map(Err)
            }
            other => {
                self.done = other.is_err();
                Some(other)
            }
        }
    }
}
