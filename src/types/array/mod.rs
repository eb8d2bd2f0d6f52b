//! Lists as one-dimensional arrays.
//!
//! An array's binary form is a header (number of dimensions, flags, element type), a length and a
//! lower bound per dimension, then each element with its length before it. A list has no lower
//! bound: it is sent with 1, and whatever the server sends is dropped. NULL elements need a list of
//! `Option`.
//!
//! The type of elements is checked with each element, so an empty array fits every list.
//!
//! Source: PostgreSQL's `array_send` and `array_recv`; documentation, "Arrays".

mod text;

pub(super) use self::text::escape_element;

use self::text::{Element, Elements};
use super::text::{is_text, unreadable};
use super::traits::unsendable;
use super::{Cell, Encoded, Format, FromSql, Oid, Out, PgValue, StaticType, ToSql, TypeMap};
use crate::error::{PgError, PgResult};
use crate::wire::{Malformed, Reader};

/// Flag of the header: elements may be NULL. The server looks for itself, so it is always set.
const MAY_HOLD_NULL: i32 = 1;

/// The index of the first element, as in every array that SQL makes.
const LOWER_BOUND: i32 = 1;

/// How many dimensions an array of the server can have at most (`MAXDIM`).
const MOST_DIMENSIONS: i32 = 6;

/// The array type of elements of type `element`; unspecified when there is none.
pub(super) fn array_type(element: Oid, types: &TypeMap) -> Oid {
    types.array_of(element).unwrap_or(Oid::UNSPECIFIED)
}

/// Writes `items` as an array of `element`.
pub(super) fn encode_list<T: ToSql>(
    items: &[T],
    element: Oid,
    types: &TypeMap,
    out: &mut Out<'_>,
) -> PgResult<Encoded> {
    let Some(array) = types.array_of(element) else {
        let why = match types.element_of(element) {
            Some(_) => "a list of lists cannot be sent: only arrays of one dimension are written"
                .to_owned(),
            None => format!("no array type of {} is known", types.describe(element)),
        };
        return Err(unsendable::<[T]>(None, why));
    };
    let Ok(count) = i32::try_from(items.len()) else {
        let why = format!("{} elements are more than an array can hold", items.len());
        return Err(unsendable::<[T]>(Some(&types.describe(array)), why));
    };
    put_array_header(element, count, out);
    let refused = |index: usize, why: &str| {
        unsendable::<[T]>(Some(&types.describe(array)), format!("element {index} is {why}"))
    };
    for (index, item) in items.iter().enumerate() {
        out.element(|out| match item.encode(types, out)? {
            Encoded::Null => Ok(false),
            Encoded::Text if is_text(element) => Ok(true),
            Encoded::Text => {
                Err(refused(index, "written as text, which an array of this type cannot hold"))
            }
            // The array names one type for all its elements: the server reads each as that type.
            Encoded::Binary => match item.declare(types) {
                declared if declared == element => Ok(true),
                declared => {
                    let (declared, element) = (types.describe(declared), types.describe(element));
                    Err(refused(index, &format!("declared as {declared}, not as {element}")))
                }
            },
        })?;
    }
    Ok(Encoded::Binary)
}

/// Writes what stands before the elements of an array: `count` of type `element`.
pub(crate) fn put_array_header(element: Oid, count: i32, out: &mut Out<'_>) {
    out.put_i32(i32::from(count > 0));
    out.put_i32(MAY_HOLD_NULL);
    out.put_u32(element.get());
    if count > 0 {
        out.put_i32(count);
        out.put_i32(LOWER_BOUND);
    }
}

/// A list whose elements declare no type of their own ([`PgValue`]s) is sent as [`PgValue::Array`]
/// is: by its first element that is not NULL.
impl<T: ToSql + StaticType> ToSql for [T] {
    fn declare(&self, types: &TypeMap) -> Oid {
        match T::element_type(types) {
            Oid::UNSPECIFIED => self.to_sql().declare(types),
            element => array_type(element, types),
        }
    }
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        match T::element_type(types) {
            Oid::UNSPECIFIED => self.to_sql().encode(types, out),
            element => encode_list(self, element, types, out),
        }
    }
    fn to_sql(&self) -> PgValue {
        PgValue::Array(self.iter().map(ToSql::to_sql).collect())
    }
}

impl<T: StaticType> StaticType for [T] {
    fn static_type(types: &TypeMap) -> Oid {
        array_type(T::element_type(types), types)
    }
}

impl<T: ToSql + StaticType> ToSql for Vec<T> {
    fn declare(&self, types: &TypeMap) -> Oid {
        self.as_slice().declare(types)
    }
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        self.as_slice().encode(types, out)
    }
    fn to_sql(&self) -> PgValue {
        self.as_slice().to_sql()
    }
}

impl<T: StaticType> StaticType for Vec<T> {
    fn static_type(types: &TypeMap) -> Oid {
        <[T]>::static_type(types)
    }
}

impl<T: ToSql + StaticType, const N: usize> ToSql for [T; N] {
    fn declare(&self, types: &TypeMap) -> Oid {
        self.as_slice().declare(types)
    }
    fn encode(&self, types: &TypeMap, out: &mut Out<'_>) -> PgResult<Encoded> {
        self.as_slice().encode(types, out)
    }
    fn to_sql(&self) -> PgValue {
        self.as_slice().to_sql()
    }
}

impl<T: StaticType, const N: usize> StaticType for [T; N] {
    fn static_type(types: &TypeMap) -> Oid {
        <[T]>::static_type(types)
    }
}

impl<'a, T: FromSql<'a>> FromSql<'a> for Vec<T> {
    fn from_sql(cell: Cell<'a>) -> PgResult<Self> {
        let Some(element) = TypeMap::builtin().element_of(cell.oid()) else {
            return Err(unreadable::<Self>(cell));
        };
        match (cell.format(), cell.oid()) {
            (Format::Binary, _) => read_binary(cell),
            (Format::Text, Oid::INT2VECTOR | Oid::OIDVECTOR) => read_vector(cell, element),
            (Format::Text, _) => read_text(cell, element),
        }
    }
}

impl<'a, T: FromSql<'a>> FromSql<'a> for Box<[T]> {
    fn from_sql(cell: Cell<'a>) -> PgResult<Self> {
        Vec::from_sql(cell).map(Vec::into_boxed_slice)
    }
}

/// Reads an array of exactly `N` elements.
impl<'a, T: FromSql<'a>, const N: usize> FromSql<'a> for [T; N] {
    fn from_sql(cell: Cell<'a>) -> PgResult<Self> {
        Vec::from_sql(cell)?.try_into().map_err(|list: Vec<T>| {
            let count = list.len();
            cell.invalid::<Self>(format!("the array has {count} elements instead of {N}"))
        })
    }
}

fn read_binary<'a, T: FromSql<'a>>(cell: Cell<'a>) -> PgResult<Vec<T>> {
    let invalid = |malformed: Malformed| cell.invalid::<Vec<T>>(malformed.what);
    let mut reader = Reader::new("array", cell.bytes());
    let (element, count) = read_header(&mut reader)
        .map_err(invalid)?
        .ok_or_else(|| several_dimensions::<Vec<T>>(cell))?;
    // Each element takes at least the four bytes of its length: a count beyond that is a lie.
    let mut list = Vec::with_capacity(count.min(reader.len() / 4));
    for index in 0..count {
        let value = match reader.value().map_err(invalid)? {
            Some(bytes) => T::from_sql(Cell::new(element, Format::Binary, bytes)),
            None => T::from_null(),
        };
        list.push(value.map_err(|error| in_element(index, error))?);
    }
    reader.finish().map_err(invalid)?;
    Ok(list)
}

/// The element type and the number of elements, `None` when there is more than one dimension.
fn read_header(reader: &mut Reader<'_>) -> Result<Option<(Oid, usize)>, Malformed> {
    let dimensions = reader.i32()?;
    let _flags = reader.i32()?;
    let element = Oid::new(reader.u32()?);
    match dimensions {
        0 => Ok(Some((element, 0))),
        1 => {
            let count = reader.i32()?;
            let _lower_bound = reader.i32()?;
            let count = usize::try_from(count)
                .map_err(|_| reader.malformed("the number of elements is negative"))?;
            Ok(Some((element, count)))
        }
        2..=MOST_DIMENSIONS => Ok(None),
        _ => Err(reader.malformed("the number of dimensions is not one from 0 to 6")),
    }
}

fn read_text<'a, T: FromSql<'a>>(cell: Cell<'a>, element: Oid) -> PgResult<Vec<T>> {
    let mut elements = Elements::new(cell.text::<Vec<T>>()?, delimiter(element))
        .map_err(|why| cell.invalid::<Vec<T>>(why))?
        .ok_or_else(|| several_dimensions::<Vec<T>>(cell))?;
    let mut list = Vec::new();
    while let Some(item) = elements.next().map_err(|why| cell.invalid::<Vec<T>>(why))? {
        let value = match &item {
            Element::Null => T::from_null(),
            Element::Plain(text) => T::from_sql(Cell::new(element, Format::Text, text.as_bytes())),
            Element::Escaped(text) => {
                T::from_sql_owned(Cell::new(element, Format::Text, text.as_bytes()))
            }
        };
        list.push(value.map_err(|error| in_element(list.len(), error))?);
    }
    Ok(list)
}

/// What stands between two elements in the text of an array (`typdelim`).
const fn delimiter(element: Oid) -> char {
    match element {
        Oid::BOX => ';',
        _ => ',',
    }
}

/// Reads int2vector and oidvector, types of the catalogues that have a text form of their own: `1 2
/// 3`.
fn read_vector<'a, T: FromSql<'a>>(cell: Cell<'a>, element: Oid) -> PgResult<Vec<T>> {
    let numbers = cell.text::<Vec<T>>()?.split_ascii_whitespace().enumerate();
    numbers
        .map(|(index, number)| {
            T::from_sql(Cell::new(element, Format::Text, number.as_bytes()))
                .map_err(|error| in_element(index, error))
        })
        .collect()
}

#[cold]
fn several_dimensions<T>(cell: Cell<'_>) -> PgError {
    cell.invalid::<T>("the array has more than one dimension")
}

/// Says in the error which element it was.
#[cold]
fn in_element(index: usize, mut error: PgError) -> PgError {
    if let PgError::TypeConversion(conversion) = &mut error {
        conversion.message = format!("element {index}: {}", conversion.message);
    }
    error
}

/// Whether the array in `cell` has more than one dimension.
pub(super) fn has_several_dimensions(cell: Cell<'_>) -> bool {
    match cell.format() {
        Format::Binary => matches!(read_header(&mut Reader::new("array", cell.bytes())), Ok(None)),
        Format::Text => std::str::from_utf8(cell.bytes())
            .is_ok_and(|text| matches!(Elements::new(text, ','), Ok(None))),
    }
}

#[cfg(test)]
mod tests;
