//! Sixteen comparisons at once: the last step of every search.
//!
//! Each function compares [`LANES`] unsigned numbers with a key, and returns a bit for each; the first number has the
//! lowest bit. `wide` has safe functions for the instructions of each platform (SSE2 and AVX2, NEON, SIMD128 of
//! WebAssembly), and a scalar fallback.

use wide::{u8x16, u16x16};

/// Numbers compared at once.
pub(crate) const LANES: usize = 16;

/// Which of sixteen little-endian u16 are above `key`.
#[inline]
pub(crate) fn above_u16(block: &[u8; 2 * LANES], key: u16) -> u32 {
    u16_lanes(block).simd_gt(u16x16::splat(key)).to_bitmask()
}

/// Which of sixteen little-endian u16 equal `key`.
#[inline]
pub(crate) fn equal_u16(block: &[u8; 2 * LANES], key: u16) -> u32 {
    u16_lanes(block).simd_eq(u16x16::splat(key)).to_bitmask()
}

/// Which of sixteen bytes are above `key`.
#[inline]
pub(crate) fn above_u8(block: &[u8; LANES], key: u8) -> u32 {
    u8x16::from(*block).simd_gt(u8x16::splat(key)).to_bitmask()
}

/// Which of sixteen bytes equal `key`.
#[inline]
pub(crate) fn equal_u8(block: &[u8; LANES], key: u8) -> u32 {
    u8x16::from(*block).simd_eq(u8x16::splat(key)).to_bitmask()
}

/// Unpacks sixteen 4-bit numbers into bytes; the low half of each byte comes before its high half.
#[inline]
pub(crate) fn nibbles(packed: &[u8; LANES / 2]) -> [u8; LANES] {
    let bits = u64::from_le_bytes(*packed);
    let bytes = |bits: u64| u8x16::from((u128::from(bits) & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes());
    u8x16::unpack_low(bytes(bits), bytes(bits >> 4)).to_array()
}

/// How many of the first `len` lanes come before the first one that is set in `above`; all of them if none is.
#[inline]
pub(crate) fn rank(above: u32, len: usize) -> usize {
    (above | 1 << len.min(LANES)).trailing_zeros() as usize
}

#[inline]
fn u16_lanes(block: &[u8; 2 * LANES]) -> u16x16 {
    let mut lanes = [0; LANES];
    for (lane, &number) in lanes.iter_mut().zip(block.as_chunks().0) {
        *lane = u16::from_le_bytes(number);
    }
    u16x16::from(lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs natively, and as wasm with and without SIMD128.
    #[wasm_bindgen_test::wasm_bindgen_test(unsupported = test)]
    fn comparisons_agree_with_scalar_ones() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32).to_le_bytes()
        };
        let edges = [0, 1, 0x7f, 0x80, 0x81, 0xfe, 0xff];
        for round in 0..2000 {
            let mut block = [0_u8; 32];
            for byte in &mut block {
                let [picked, other, ..] = random();
                // Every other round has boundary values only, so that numbers are often equal.
                *byte = if round % 2 == 0 { other } else { edges[usize::from(picked) % edges.len()] };
            }
            let [low, high, lane, ..] = random();
            let inside = usize::from(lane % 31);
            for key in [[low, high], [block[inside], block[inside + 1]], [0, 0], [0xff, 0xff]] {
                let (wide, narrow) = (u16::from_le_bytes(key), key[0]);
                for lane in 0..LANES {
                    let number = u16::from_le_bytes([block[2 * lane], block[2 * lane + 1]]);
                    assert_eq!(above_u16(&block, wide) >> lane & 1 == 1, number > wide, "{block:?} {wide} {lane}");
                    assert_eq!(equal_u16(&block, wide) >> lane & 1 == 1, number == wide, "{block:?} {wide} {lane}");
                    let first_half = block.first_chunk().unwrap();
                    assert_eq!(
                        above_u8(first_half, narrow) >> lane & 1 == 1,
                        block[lane] > narrow,
                        "{block:?} {narrow}"
                    );
                    assert_eq!(
                        equal_u8(first_half, narrow) >> lane & 1 == 1,
                        block[lane] == narrow,
                        "{block:?} {narrow}"
                    );
                }
                assert_eq!((above_u16(&block, wide) | equal_u16(&block, wide)) >> LANES, 0);
            }
            for (lane, nibble) in nibbles(block.first_chunk().unwrap()).into_iter().enumerate() {
                assert_eq!(nibble, block[lane / 2] >> (lane % 2 * 4) & 0xf, "{block:?} {lane}");
            }
        }
    }
}
