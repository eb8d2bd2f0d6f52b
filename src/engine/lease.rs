//! Buffers that connections of a thread lend to each other.
//!
//! An idle connection owns no buffer: it leases one when bytes come or go, and gives it back when
//! it is empty. So a thread with ten thousand connections has as many buffers as are in use at one
//! time.

use std::cell::RefCell;

/// What a connection leases, in bytes.
pub(super) const SMALL: usize = 8 * 1024;

/// What a connection leases while it receives much, and the most that is kept for reuse, in bytes.
pub(super) const LARGE: usize = 64 * 1024;

/// How many buffers of each kind a thread keeps for its connections.
const KEPT: usize = 64;

/// The free buffers of a thread.
struct Free {
    /// For sending: empty, with room.
    send: Vec<Vec<u8>>,
    /// For receiving: [`SMALL`] bytes, initialised.
    small: Vec<Vec<u8>>,
    /// For receiving: [`LARGE`] bytes, initialised.
    large: Vec<Vec<u8>>,
}

thread_local! {
    static FREE: RefCell<Free> =
        const { RefCell::new(Free { send: Vec::new(), small: Vec::new(), large: Vec::new() }) };
}

/// Works on the thread's free buffers; `None` while the thread ends and they are gone.
#[inline]
fn with_free<T>(work: impl FnOnce(&mut Free) -> T) -> Option<T> {
    FREE.try_with(|free| work(&mut free.borrow_mut())).ok()
}

/// An empty buffer to write messages to.
#[inline]
pub(super) fn lease_send() -> Vec<u8> {
    with_free(|free| free.send.pop()).flatten().unwrap_or_else(|| Vec::with_capacity(SMALL))
}

/// Takes buffers back: one that was leased for sending and one for receiving. Those that have grown
/// too large are not kept.
#[inline]
pub(super) fn give_back(send: Vec<u8>, recv: Vec<u8>) {
    with_free(|free| {
        free.take_send(send);
        free.take_recv(recv);
    });
}

/// Takes a buffer back that was leased for sending, unless it has grown too large to keep.
pub(super) fn return_send(buffer: Vec<u8>) {
    with_free(|free| free.take_send(buffer));
}

/// A buffer to receive to, wholly initialised: of [`LARGE`] bytes or of [`SMALL`].
#[inline]
pub(super) fn lease_recv(large: bool) -> Vec<u8> {
    let found = with_free(|free| if large { free.large.pop() } else { free.small.pop() });
    found.flatten().unwrap_or_else(|| vec![0; if large { LARGE } else { SMALL }])
}

/// Takes a buffer back that was leased for receiving, unless it has grown.
pub(super) fn return_recv(buffer: Vec<u8>) {
    with_free(|free| free.take_recv(buffer));
}

impl Free {
    #[inline]
    fn take_send(&mut self, mut buffer: Vec<u8>) {
        if (1..=LARGE).contains(&buffer.capacity()) {
            buffer.clear();
            keep(&mut self.send, buffer);
        }
    }

    #[inline(always)]
    fn take_recv(&mut self, buffer: Vec<u8>) {
        match buffer.len() {
            SMALL => keep(&mut self.small, buffer),
            LARGE => keep(&mut self.large, buffer),
            _ => {}
        }
    }
}

#[inline]
fn keep(list: &mut Vec<Vec<u8>>, buffer: Vec<u8>) {
    if list.len() < KEPT {
        list.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b25_a_buffer_that_was_given_back_is_leased_again() {
        let buffer = lease_recv(false);
        let address = buffer.as_ptr();
        return_recv(buffer);
        let again = lease_recv(false);
        assert_eq!((again.as_ptr(), again.len()), (address, SMALL));

        let mut buffer = lease_send();
        buffer.extend_from_slice(b"sent");
        let address = buffer.as_ptr();
        return_send(buffer);
        let again = lease_send();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn h41_a_buffer_that_has_grown_is_not_kept() {
        return_send(Vec::with_capacity(LARGE + 1));
        return_recv(vec![0; LARGE * 2]);
        with_free(|free| {
            assert!(free.send.iter().all(|buffer| buffer.capacity() <= LARGE));
            assert!(free.large.iter().chain(&free.small).all(|buffer| buffer.len() <= LARGE));
        });
    }
}
