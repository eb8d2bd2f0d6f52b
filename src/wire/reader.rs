//! The one reader that takes received bytes apart, bounds-checked at every step.

use std::fmt;

/// A message whose bytes are not what the protocol says they must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The message, by its name in the protocol documentation.
    pub message: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed {}: {}", self.message, self.what)
    }
}

impl std::error::Error for Malformed {}

/// Reads a message body from front to back. Numbers are big-endian.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over the body of `message`, whose name goes into errors.
    #[inline]
    pub const fn new(message: &'static str, body: &'a [u8]) -> Self {
        Self { message, rest: body }
    }

    /// The error that this message is malformed.
    #[cold]
    pub const fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { message: self.message, what }
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(self.malformed("it ends inside a number")),
        }
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// [`Malformed`] at the end of the body; so for every method of this type.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// An Int16.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when less than two bytes are left.
    #[inline]
    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.array().map(i16::from_be_bytes)
    }

    /// An Int16 that counts something, so that it must not be negative.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when less than two bytes are left or the count is negative.
    #[inline]
    pub fn count(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.i16()?).map_err(|_| self.malformed("a count is negative"))
    }

    /// An Int16 that counts something and is unsigned, as the parameters of a Bind are.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when less than two bytes are left.
    #[inline]
    pub fn count_u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// An Int32.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when less than four bytes are left.
    #[inline]
    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_be_bytes)
    }

    /// An Int32 that holds an unsigned number, such as an OID.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when less than four bytes are left.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when less are left.
    #[inline]
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(self.malformed("a length points beyond its end")),
        }
    }

    /// A value with its Int32 length before it; length -1 is NULL.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when the length is below -1 or points beyond the end.
    #[inline]
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length =
                    usize::try_from(length).map_err(|_| self.malformed("a length is negative"))?;
                self.bytes(length).map(Some)
            }
        }
    }

    /// A String: the bytes up to the next NUL, which is consumed.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when there is no NUL.
    #[inline]
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.rest.iter().position(|&byte| byte == 0);
        match end.and_then(|end| self.rest.split_at_checked(end)) {
            Some((head, [_nul, rest @ ..])) => {
                self.rest = rest;
                Ok(head)
            }
            _ => Err(self.malformed("a string has no NUL at its end")),
        }
    }

    /// Everything that is left.
    #[inline]
    pub fn remaining(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Whether nothing is left.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes are left.
    #[inline]
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Ends the message: nothing may be left.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when something is.
    #[inline]
    pub const fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("bytes are left over at its end"))
        }
    }
}
