//! SHA-256 compression with the SHA extensions of x86-64 processors.
//!
//! Intel's instructions hold the eight variables in two registers, in the order that lets one
//! instruction do two rounds: `abef` and `cdgh`, named from the highest lane to the lowest.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128,
    _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi32,
    _mm_storeu_si128,
};

use super::{Block, ROUND_CONSTANTS, State};

/// Whether this processor can run [`compress`].
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1")
}

/// Mixes `block` into `state`.
///
/// # Safety
///
/// The processor must have the SHA, SSSE3 and SSE4.1 extensions: [`is_available`] said so.
#[allow(unsafe_code)]
#[target_feature(enable = "sha,ssse3,sse4.1")]
pub(super) unsafe fn compress(state: &mut State, block: &Block) {
    // SAFETY: the intrinsics need the features of this function, which the caller vouches for. The
    // loads and stores are the unaligned kind and stay within arrays: four words from 0 and from 4
    // of the eight in `state`, from 0, 4, 8 and 12 of the sixteen in `block`, and the four of each
    // line of constants.
    unsafe {
        let halves: *mut __m128i = state.as_mut_ptr().cast();
        let quarters: *const __m128i = block.as_ptr().cast();

        let cdab = _mm_shuffle_epi32(_mm_loadu_si128(halves), 0b10_11_00_01);
        let efgh = _mm_shuffle_epi32(_mm_loadu_si128(halves.add(1)), 0b00_01_10_11);
        let abef_before = _mm_alignr_epi8(cdab, efgh, 8);
        let cdgh_before = _mm_blend_epi16(efgh, cdab, 0b1111_0000);

        let mut abef = abef_before;
        let mut cdgh = cdgh_before;
        let mut schedule = [
            _mm_loadu_si128(quarters),
            _mm_loadu_si128(quarters.add(1)),
            _mm_loadu_si128(quarters.add(2)),
            _mm_loadu_si128(quarters.add(3)),
        ];
        for (group, constants) in ROUND_CONSTANTS.iter().enumerate() {
            let [w0, w1, w2, w3] = schedule;
            let input = _mm_add_epi32(w0, _mm_loadu_si128(constants.as_ptr().cast()));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, input);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(input, 0b00_00_11_10));
            // The last four groups of rounds use up what the twelve before them prepared.
            let w4 = if group < 12 {
                let seven_back = _mm_alignr_epi8(w3, w2, 4);
                let partial = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), seven_back);
                _mm_sha256msg2_epu32(partial, w3)
            } else {
                w0
            };
            schedule = [w1, w2, w3, w4];
        }

        let abef = _mm_add_epi32(abef, abef_before);
        let cdgh = _mm_add_epi32(cdgh, cdgh_before);
        let feba = _mm_shuffle_epi32(abef, 0b00_01_10_11);
        let dchg = _mm_shuffle_epi32(cdgh, 0b10_11_00_01);
        _mm_storeu_si128(halves, _mm_blend_epi16(feba, dchg, 0b1111_0000));
        _mm_storeu_si128(halves.add(1), _mm_alignr_epi8(dchg, feba, 8));
    }
}
