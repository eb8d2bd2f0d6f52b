//! Finding the next message: a tag byte, an Int32 length that counts itself, a body.

use super::reader::{Malformed, Reader};

/// Bytes before the body: the tag and the length.
pub const HEADER: usize = 5;

/// The longest body of a message that a PostgreSQL server builds or takes: 1 GiB - 1, the limit of
/// its allocator (`MaxAllocSize`), which has to hold it in one piece.
pub const MAX_MESSAGE_SIZE: usize = (1 << 30) - 1;

/// One whole message, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The message type byte.
    pub tag: u8,
    /// The body, without tag and length.
    pub body: &'a [u8],
}

/// What stands at the front of a run of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front<'a> {
    /// A whole message and the number of bytes that it takes.
    Whole(Frame<'a>, usize),
    /// The message is not complete yet; it needs this many bytes in all, as far as is known.
    Incomplete {
        /// Bytes of the message, header included; [`HEADER`] while the length has not come.
        needs: usize,
    },
    /// The message declares a body over the limit.
    TooLong {
        /// The declared length of the body, which is what the limit is about.
        declared: u64,
    },
}

/// Looks at the front of `bytes` for a message whose body, without tag and length, has at most
/// `limit` bytes.
///
/// # Errors
///
/// [`Malformed`] when the declared length is below the four bytes that it counts for itself.
///
/// ```
/// use chopin_pg::wire::frame::{Front, next};
///
/// assert!(matches!(next(b"Z\0\0\0\x05I", 1000)?, Front::Whole(frame, 6) if frame.body == b"I"));
/// assert_eq!(next(b"Z\0\0", 1000)?, Front::Incomplete { needs: 5 });
/// # Ok::<(), chopin_pg::wire::Malformed>(())
/// ```
#[inline]
pub fn next(bytes: &[u8], limit: usize) -> Result<Front<'_>, Malformed> {
    let Some((&[tag, a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(Front::Incomplete { needs: HEADER });
    };
    let declared = i32::from_be_bytes([a, b, c, d]);
    let Some(length) = declared.checked_sub(4).and_then(|body| usize::try_from(body).ok()) else {
        return Err(Reader::new("message header", &[]).malformed("its length is below 4"));
    };
    if length > limit {
        return Ok(Front::TooLong { declared: length as u64 });
    }
    Ok(match rest.get(..length) {
        Some(body) => Front::Whole(Frame { tag, body }, length + HEADER),
        None => Front::Incomplete { needs: length + HEADER },
    })
}
