//! Cutting a stream of bytes into the 64-byte blocks that SHA-256 and MD5 compress.
//!
//! Both are Merkle-Damgård constructions with the same block length and the same padding: a 1 bit,
//! zeros, and the message's length in bits in the last eight bytes. They differ in the byte order
//! of that length, which the caller supplies.

use super::wipe::wipe;

/// Bytes in a block.
pub(super) const BLOCK_LEN: usize = 64;

/// Where the length begins in the last block.
const LENGTH_AT: usize = BLOCK_LEN - size_of::<u64>();

/// The bytes that do not fill a block yet, and how many bytes there were in all.
#[derive(Clone)]
pub(super) struct BlockBuffer {
    bytes: [u8; BLOCK_LEN],
    /// How many of `bytes` are waiting; always less than [`BLOCK_LEN`] between calls.
    filled: usize,
    /// Bytes of the whole message so far.
    total: u64,
}

impl BlockBuffer {
    /// A buffer for a message of which `absorbed` bytes, whole blocks, were compressed already.
    pub(super) fn after(absorbed: u64) -> Self {
        Self { bytes: [0; BLOCK_LEN], filled: 0, total: absorbed }
    }

    /// Takes `data` and hands every block that becomes full to `compress`, in order.
    pub(super) fn update(&mut self, mut data: &[u8], mut compress: impl FnMut(&[u8; BLOCK_LEN])) {
        // 2^64 bytes cannot be fed to it; the standards define the length modulo 2^64 bits anyway.
        self.total = self.total.wrapping_add(data.len() as u64);
        if self.filled > 0 {
            let free = &mut self.bytes[self.filled..];
            let (head, rest) = data.split_at(free.len().min(data.len()));
            free[..head.len()].copy_from_slice(head);
            self.filled += head.len();
            if self.filled < BLOCK_LEN {
                return;
            }
            compress(&self.bytes);
            data = rest;
        }
        while let Some((block, rest)) = data.split_first_chunk() {
            compress(block);
            data = rest;
        }
        self.bytes[..data.len()].copy_from_slice(data);
        self.filled = data.len();
    }

    /// Pads the message and hands the last one or two blocks to `compress`; the buffer is spent.
    ///
    /// `length_bytes` writes the message's length in bits in the byte order of the hash.
    pub(super) fn finish(
        &mut self,
        length_bytes: fn(u64) -> [u8; 8],
        mut compress: impl FnMut(&[u8; BLOCK_LEN]),
    ) {
        self.bytes[self.filled] = 0x80;
        self.bytes[self.filled + 1..].fill(0);
        if self.filled >= LENGTH_AT {
            compress(&self.bytes);
            self.bytes.fill(0);
        }
        self.bytes[LENGTH_AT..].copy_from_slice(&length_bytes(self.total << 3));
        compress(&self.bytes);
    }
}

impl Drop for BlockBuffer {
    fn drop(&mut self) {
        wipe(&mut self.bytes);
    }
}

/// The sixteen 32-bit words of a block, read with `from_bytes` (the byte order of the hash).
#[inline]
pub(super) fn words(block: &[u8; BLOCK_LEN], from_bytes: fn([u8; 4]) -> u32) -> [u32; 16] {
    std::array::from_fn(|at| {
        let at = at * 4;
        from_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
    })
}
