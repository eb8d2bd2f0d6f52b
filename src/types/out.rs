//! Where a parameter writes its bytes: straight into the send buffer.

use crate::wire::frame::MAX_MESSAGE_SIZE;

/// The value under construction, at the end of the send buffer.
///
/// Numbers are written big-endian, as the protocol wants them. Once the value has grown past what a
/// server accepts (1 GiB) nothing more is appended and [`Out::overflowed`] says so: the caller
/// rolls the whole message back.
#[derive(Debug)]
pub struct Out<'a> {
    buf: &'a mut Vec<u8>,
    start: usize,
    overflowed: bool,
}

impl<'a> Out<'a> {
    /// A value that begins at the end of `buf`.
    #[inline]
    pub fn new(buf: &'a mut Vec<u8>) -> Self {
        let start = buf.len();
        Self { buf, start, overflowed: false }
    }

    /// Appends bytes as they are.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) {
        if self.overflowed || bytes.len() > MAX_MESSAGE_SIZE - self.len() {
            self.overflowed = true;
            return;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// Appends one byte.
    #[inline]
    pub fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Appends a 16-bit integer.
    #[inline]
    pub fn put_i16(&mut self, value: i16) {
        self.put(&value.to_be_bytes());
    }

    /// Appends a 32-bit integer.
    #[inline]
    pub fn put_i32(&mut self, value: i32) {
        self.put(&value.to_be_bytes());
    }

    /// Appends an unsigned 32-bit integer.
    #[inline]
    pub fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// Appends a 64-bit integer.
    #[inline]
    pub fn put_i64(&mut self, value: i64) {
        self.put(&value.to_be_bytes());
    }

    /// Appends an element with its 32-bit length before it; `write` returns `false` for NULL, which
    /// is length -1.
    ///
    /// # Errors
    ///
    /// Whatever `write` returns; the bytes written so far stay and are rolled back with the whole
    /// message.
    pub fn element<E>(
        &mut self,
        write: impl FnOnce(&mut Out<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        self.put_i32(-1);
        let body = self.buf.len();
        let mut inner = Out { buf: &mut *self.buf, start: self.start, overflowed: self.overflowed };
        let present = write(&mut inner)?;
        self.overflowed = inner.overflowed;
        match i32::try_from(self.buf.len() - body) {
            _ if self.overflowed => {}
            Ok(length) if present => patch_i32(self.buf, body - 4, length),
            Ok(_) => self.buf.truncate(body),
            Err(_) => self.overflowed = true,
        }
        Ok(())
    }

    /// Takes back what was written behind the first `length` bytes of this value.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.buf.truncate(self.start + length);
    }

    /// What was written behind the first `length` bytes of this value.
    pub(crate) fn written(&mut self, length: usize) -> &mut [u8] {
        self.buf.get_mut(self.start + length..).unwrap_or_default()
    }

    /// How many bytes this value has so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Whether nothing has been written yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the value outgrew 1 GiB and was cut off.
    #[inline]
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }
}

/// Overwrites the four bytes at `at`, which the caller wrote before.
fn patch_i32(buf: &mut [u8], at: usize, value: i32) {
    if let Some(place) = buf.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}
