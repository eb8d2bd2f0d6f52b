//! The values of a Bind message.

use super::{Encoded, Oid, Out, ParamVisitor, ToSql, TypeMap, encode_text};
use crate::error::PgResult;

/// The values of a Bind message while they are written: each with its length before it, in the form
/// that the server reads right as the type that the statement has for it.
///
/// [`Params::bind`](super::Params::bind) hands them over, one after the other.
#[derive(Debug)]
pub struct BindValues<'b> {
    /// The send buffer, which ends with the values so far.
    buf: &'b mut Vec<u8>,
    /// Where the format codes of the values stand in it, which are all those of binary.
    formats: usize,
    /// The types of the statement's parameters.
    types: &'b [Oid],
    count: usize,
    result: Bound,
}

/// What became of the values of a Bind message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// They are written.
    Whole,
    /// The server would not read one right as the type that the statement has for it, or there are
    /// not as many of them.
    Misfit,
    /// One is longer than a message can be.
    TooLong,
}

const BUILTIN: &TypeMap = TypeMap::builtin();

/// The length of NULL.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

impl<'b> BindValues<'b> {
    /// Values for parameters of these types, at the end of `buf`, in which the format codes stand
    /// at `formats`: one for each type, that of binary.
    #[inline]
    pub(crate) fn new(buf: &'b mut Vec<u8>, formats: usize, types: &'b [Oid]) -> Self {
        Self { buf, formats, types, count: 0, result: Bound::Whole }
    }

    /// What became of them. Unless they are whole, what was written is of no use.
    #[inline]
    pub(crate) fn end(self) -> Bound {
        match self.result {
            Bound::Whole if self.count < self.types.len() => Bound::Misfit,
            result => result,
        }
    }

    /// Appends what `encode` writes, with its length before it.
    #[inline]
    fn put(&mut self, encode: impl FnOnce(&mut Out<'_>) -> PgResult<Encoded>) -> PgResult<()> {
        self.buf.extend_from_slice(&NULL);
        let start = self.buf.len();
        let mut out = Out::new(self.buf);
        let encoded = match encode(&mut out) {
            Ok(encoded) => encoded,
            Err(error) => return Err(error.at_parameter(self.count + 1)),
        };
        if out.overflowed() {
            self.result = Bound::TooLong;
            return Ok(());
        }
        match encoded {
            Encoded::Binary => self.put_length(start),
            Encoded::Text => {
                self.put_length(start);
                self.put_text_format();
            }
            Encoded::Null => {
                self.buf.truncate(start);
                // No server looks at it; it is that of text in every Bind of this driver.
                self.put_text_format();
            }
        }
        self.count += 1;
        Ok(())
    }

    /// The format code of the value that was just appended is that of text.
    #[inline]
    fn put_text_format(&mut self) {
        let format = self.formats + 2 * self.count;
        if let Some(place) = self.buf.get_mut(format..format + 2) {
            place.fill(0);
        }
    }

    /// The last value begins at `start`; its length stands before it.
    #[inline]
    fn put_length(&mut self, start: usize) {
        let length = i32::try_from(self.buf.len() - start);
        match (self.buf.get_mut(start - NULL.len()..start), length) {
            (Some(place), Ok(length)) => place.copy_from_slice(&length.to_be_bytes()),
            _ => self.result = Bound::TooLong,
        }
    }

    /// [`take`](ParamVisitor::take) of a value that declares another type than the expected one.
    #[cold]
    #[inline(never)]
    fn take_other<T: ToSql + ?Sized>(&mut self, value: &T, expected: Oid) -> PgResult<()> {
        if !reads_as(value.declare(BUILTIN), expected) {
            self.result = Bound::Misfit;
            return Ok(());
        }
        self.put(|out| encode_text(value, BUILTIN, out))
    }
}

impl ParamVisitor for BindValues<'_> {
    #[inline]
    fn take<T: ToSql + ?Sized>(&mut self, value: &T) -> PgResult<()> {
        if self.result != Bound::Whole {
            return Ok(());
        }
        let Some(expected) = self.types.get(self.count).copied() else {
            self.result = Bound::Misfit;
            return Ok(());
        };
        let declared = value.declare(BUILTIN);
        if declared != expected && declared != Oid::UNSPECIFIED {
            return self.take_other(value, expected);
        }
        self.put(|out| value.encode(BUILTIN, out))
    }
}

/// Whether a parameter that declares itself as `declared` means the same where the server expects
/// `expected`, if it goes as it is or as text.
///
/// A string is what the server makes of it. Of integers the text form is read as just what a cast
/// from the integer type gives, or refused. That is not so for other types: a cast of a float4
/// to float8, or of a timestamptz to timestamp, gives another value than reading its text.
#[inline]
pub(crate) fn reads_as(declared: Oid, expected: Oid) -> bool {
    const INTEGERS: [Oid; 3] = [Oid::INT2, Oid::INT4, Oid::INT8];
    const NUMBERS: [Oid; 6] =
        [Oid::INT2, Oid::INT4, Oid::INT8, Oid::FLOAT4, Oid::FLOAT8, Oid::NUMERIC];
    declared == expected
        || declared == Oid::UNSPECIFIED
        || (INTEGERS.contains(&declared) && NUMBERS.contains(&expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Params, PgValue};

    const TYPES: [Oid; 3] = [Oid::INT4, Oid::TEXT, Oid::INT8];

    /// What becomes of `params` for parameters of `TYPES`: the format codes, then the values.
    fn bind(params: &dyn Params) -> (Bound, Vec<u8>) {
        let mut buf = vec![0, 1, 0, 1, 0, 1];
        let mut values = BindValues::new(&mut buf, 0, &TYPES);
        params.bind(&mut values).expect("no parameter is refused");
        (values.end(), buf)
    }

    #[test]
    fn each_value_stands_behind_its_length_in_the_format_that_is_told() {
        let expected = b"\0\x01\0\0\0\0\0\0\0\x04\0\0\0\x07\0\0\0\x02ab\xff\xff\xff\xff";
        let whole = (Bound::Whole, expected.to_vec());
        assert_eq!(bind(&(7, "ab", None::<i64>)), whole);
        let dynamic: [&dyn ToSql; 3] = [&7, &"ab", &None::<i64>];
        assert_eq!(bind(&dynamic), whole);
        assert_eq!(bind(&dynamic.as_slice()), whole);
        assert_eq!(bind(&dynamic.to_vec()), whole);
    }

    #[test]
    fn h3_an_integer_of_another_width_goes_as_text() {
        let (result, bytes) = bind(&(7_i64, PgValue::Null, 8_i16));
        assert_eq!(result, Bound::Whole);
        assert_eq!(bytes, b"\0\0\0\0\0\0\0\0\0\x017\xff\xff\xff\xff\0\0\0\x018");
    }

    #[test]
    fn h3_values_that_do_not_fit_are_told() {
        assert_eq!(bind(&(7.5, "ab", 8_i64)).0, Bound::Misfit);
        assert_eq!(bind(&(7, "ab", 7.5)).0, Bound::Misfit);
        assert_eq!(bind(&(7, "ab")).0, Bound::Misfit);
        assert_eq!(bind(&(7, "ab", 8_i64, 9)).0, Bound::Misfit);
        assert_eq!(bind(&()).0, Bound::Misfit);
    }

    #[test]
    fn a_value_that_is_refused_is_told_by_its_number() {
        let mut buf = vec![0, 1, 0, 1, 0, 1];
        let mut values = BindValues::new(&mut buf, 0, &TYPES);
        let error = (7, "a\0b", 8_i64).bind(&mut values).unwrap_err();
        assert!(error.to_string().starts_with("parameter $2 "), "{error}");
    }
}
