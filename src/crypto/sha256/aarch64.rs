//! SHA-256 compression with the Armv8 SHA2 instructions.
//!
//! The variables stay in their natural order, `abcd` and `efgh`; a pair of instructions does four
//! rounds, another pair prepares the next four words of the message schedule.

use std::arch::aarch64::{
    vaddq_u32, vld1q_u32, vsha256h2q_u32, vsha256hq_u32, vsha256su0q_u32, vsha256su1q_u32,
    vst1q_u32,
};
use std::arch::is_aarch64_feature_detected;

use super::{Block, ROUND_CONSTANTS, State};

/// Whether this processor can run [`compress`].
///
/// Not in big-endian mode, where nobody has checked in which order lanes are loaded.
pub(super) fn is_available() -> bool {
    cfg!(target_endian = "little") && is_aarch64_feature_detected!("sha2")
}

/// Mixes `block` into `state`.
///
/// # Safety
///
/// The processor must have the SHA2 instructions: [`is_available`] said so. (NEON is part of every
/// AArch64 target that Rust has a standard library for.)
#[allow(unsafe_code)]
#[target_feature(enable = "neon,sha2")]
pub(super) unsafe fn compress(state: &mut State, block: &Block) {
    // SAFETY: the intrinsics need the features of this function, which the caller vouches for. The
    // loads and stores need only the alignment of a word and stay within arrays: four words from 0
    // and from 4 of the eight in `state`, from 0, 4, 8 and 12 of the sixteen in `block`, and the
    // four of each line of constants.
    unsafe {
        let words = block.as_ptr();
        let abcd_before = vld1q_u32(state.as_ptr());
        let efgh_before = vld1q_u32(state.as_ptr().add(4));

        let mut abcd = abcd_before;
        let mut efgh = efgh_before;
        let mut schedule = [
            vld1q_u32(words),
            vld1q_u32(words.add(4)),
            vld1q_u32(words.add(8)),
            vld1q_u32(words.add(12)),
        ];
        for (group, constants) in ROUND_CONSTANTS.iter().enumerate() {
            let [w0, w1, w2, w3] = schedule;
            let input = vaddq_u32(w0, vld1q_u32(constants.as_ptr()));
            let abcd_then = abcd;
            abcd = vsha256hq_u32(abcd, efgh, input);
            efgh = vsha256h2q_u32(efgh, abcd_then, input);
            // The last four groups of rounds use up what the twelve before them prepared.
            let w4 = if group < 12 { vsha256su1q_u32(vsha256su0q_u32(w0, w1), w2, w3) } else { w0 };
            schedule = [w1, w2, w3, w4];
        }

        vst1q_u32(state.as_mut_ptr(), vaddq_u32(abcd, abcd_before));
        vst1q_u32(state.as_mut_ptr().add(4), vaddq_u32(efgh, efgh_before));
    }
}
