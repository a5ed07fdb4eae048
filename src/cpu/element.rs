//! The four element types, as the kernels see them: f32 or f64 slices to compute on.

use candle_core::{CpuStorage, WithDType};
use half::{bf16, f16};
use std::mem::MaybeUninit;
use std::ops::{Add, AddAssign, Mul, Sub};

/// Elements computed on at once: 8 KiB in f32, so that x, dy and a result stay in a 32 KiB L1.
pub const CHUNK: usize = 2048;

/// What sums are kept in within a chunk. Across chunks they are kept in f64.
pub trait Acc:
    Copy
    + Default
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + AddAssign
{
    fn from_f64(v: f64) -> Self;
    fn to_f64(self) -> f64;
}

macro_rules! acc {
    ($t:ty) => {
        impl Acc for $t {
            #[inline(always)]
            fn from_f64(v: f64) -> Self {
                v as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
        }
    };
}
acc!(f32);
acc!(f64);

/// Room to widen one chunk in; empty for the types that need none.
pub type Scratch<A> = Vec<A>;

/// An element type of x, y and the gradients.
pub trait Element: WithDType + Send + Sync {
    type Acc: Acc + Element;

    fn scratch() -> Scratch<Self::Acc>;

    /// The values of `chunk` (at most [`CHUNK`] of them), in `scratch` where they need converting.
    fn widen<'a>(chunk: &'a [Self], scratch: &'a mut Scratch<Self::Acc>) -> &'a [Self::Acc];

    /// Lets `fill` write every element of `chunk`, rounding once where the type is narrower.
    fn fill(
        chunk: &mut [MaybeUninit<Self>],
        scratch: &mut Scratch<Self::Acc>,
        fill: impl FnOnce(&mut [MaybeUninit<Self::Acc>]),
    );

    fn store(values: Vec<Self>) -> CpuStorage;
}

macro_rules! wide {
    ($t:ty, $variant:ident) => {
        impl Element for $t {
            type Acc = $t;
            fn scratch() -> Scratch<$t> {
                Vec::new()
            }
            #[inline(always)]
            fn widen<'a>(chunk: &'a [$t], _: &'a mut Scratch<$t>) -> &'a [$t] {
                chunk
            }
            #[inline(always)]
            fn fill(
                chunk: &mut [MaybeUninit<$t>],
                _: &mut Scratch<$t>,
                fill: impl FnOnce(&mut [MaybeUninit<$t>]),
            ) {
                fill(chunk)
            }
            fn store(values: Vec<$t>) -> CpuStorage {
                CpuStorage::$variant(values)
            }
        }
    };
}
wide!(f32, F32);
wide!(f64, F64);

macro_rules! half {
    ($t:ty, $variant:ident, $widen:expr, $narrow:expr) => {
        impl Element for $t {
            type Acc = f32;
            fn scratch() -> Scratch<f32> {
                vec![0.; CHUNK]
            }
            #[inline(always)]
            fn widen<'a>(chunk: &'a [$t], scratch: &'a mut Scratch<f32>) -> &'a [f32] {
                let wide = &mut scratch[..chunk.len()];
                $widen(chunk, wide);
                wide
            }
            #[inline(always)]
            fn fill(
                chunk: &mut [MaybeUninit<$t>],
                scratch: &mut Scratch<f32>,
                fill: impl FnOnce(&mut [MaybeUninit<f32>]),
            ) {
                let wide = &mut scratch[..chunk.len()];
                // SAFETY: `MaybeUninit<f32>` has the layout of f32, and `fill` only writes.
                fill(unsafe { &mut *(wide as *mut [f32] as *mut [MaybeUninit<f32>]) });
                $narrow(wide, chunk);
            }
            fn store(values: Vec<$t>) -> CpuStorage {
                CpuStorage::$variant(values)
            }
        }
    };
}
half!(f16, F16, widen_f16, narrow_f16);
half!(bf16, BF16, widen_bf16, narrow_bf16);

// The half crate converts bf16 one by one, and f16 through a call that the instruction set around
// it does not reach into; these loops have no branches and become vector code in either place.

#[inline(always)]
fn widen_f16(chunk: &[f16], wide: &mut [f32]) {
    const HIDDEN: u32 = 113 << 23; // 2^-14, the smallest normal f16
    for (w, v) in wide.iter_mut().zip(chunk) {
        let bits = v.to_bits() as u32;
        let magnitude = (bits & 0x7fff) << 13;
        // The exponent moves from a bias of 15 to one of 127, or to all ones for inf and NaN.
        let special = if magnitude >= 0x7c00 << 13 {
            112 << 23
        } else {
            0
        };
        let normal = magnitude + (112 << 23) + special;
        // A subnormal has no hidden bit: give it one and take it off again as a number.
        let subnormal = f32::from_bits(magnitude + HIDDEN) - f32::from_bits(HIDDEN);
        let is_subnormal = magnitude < 1 << 23;
        let unsigned = if is_subnormal {
            subnormal.to_bits()
        } else {
            normal
        };
        *w = f32::from_bits(unsigned | (bits & 0x8000) << 16);
    }
}

#[inline(always)]
fn narrow_f16(wide: &[f32], chunk: &mut [MaybeUninit<f16>]) {
    const OVERFLOW: u32 = (127 + 16) << 23; // 65536
    const NORMAL: u32 = 113 << 23; // 2^-14
                                   // Added to a number below 2^-14, 0.5 leaves its f16 bits in the last bits of the sum.
    const HALF: u32 = 126 << 23;
    for (c, w) in chunk.iter_mut().zip(wide) {
        let bits = w.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let odd = (magnitude >> 13) & 1;
        let normal = magnitude.wrapping_add(0xfff + odd).wrapping_sub(112 << 23) >> 13;
        let sum = f32::from_bits(magnitude) + f32::from_bits(HALF);
        let subnormal = sum.to_bits().wrapping_sub(HALF);
        let is_nan = magnitude > 0x7f80_0000;
        let special = if is_nan {
            0x7e00 | (magnitude >> 13 & 0x3ff)
        } else {
            0x7c00
        };
        let finite = if magnitude < NORMAL {
            subnormal
        } else {
            normal
        };
        let unsigned = if magnitude < OVERFLOW {
            finite
        } else {
            special
        };
        c.write(f16::from_bits((unsigned | (bits >> 16 & 0x8000)) as u16));
    }
}

#[inline(always)]
fn widen_bf16(chunk: &[bf16], wide: &mut [f32]) {
    for (w, v) in wide.iter_mut().zip(chunk) {
        *w = f32::from_bits((v.to_bits() as u32) << 16);
    }
}

#[inline(always)]
fn narrow_bf16(wide: &[f32], chunk: &mut [MaybeUninit<bf16>]) {
    for (c, w) in chunk.iter_mut().zip(wide) {
        let bits = w.to_bits();
        let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
        // A NaN whose payload sits in the lost bits must not round to infinity.
        let quiet = (bits >> 16) as u16 | 0x40;
        c.write(bf16::from_bits(if w.is_nan() { quiet } else { rounded }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every high part of an f32 with the low parts where rounding turns.
    fn samples() -> Vec<f32> {
        let lows = [
            0, 1, 0xfff, 0x1000, 0x1001, 0x2000, 0x3000, 0x7fff, 0x8000, 0x8001, 0xffff,
        ];
        (0..=u16::MAX as u32)
            .flat_map(|high| lows.map(|low| f32::from_bits(high << 16 | low)))
            .collect()
    }

    #[test]
    fn narrowing_agrees_with_the_half_crate() {
        let wide = samples();
        let mut halfs = vec![MaybeUninit::new(f16::ZERO); wide.len()];
        let mut brains = vec![MaybeUninit::new(bf16::ZERO); wide.len()];
        narrow_f16(&wide, &mut halfs);
        narrow_bf16(&wide, &mut brains);
        for ((w, h), b) in wide.iter().zip(halfs).zip(brains) {
            // SAFETY: initialised above.
            let (h, b) = unsafe { (h.assume_init(), b.assume_init()) };
            assert_eq!(
                h.to_bits(),
                f16::from_f32_const(*w).to_bits(),
                "f16 of {w:e}"
            );
            assert_eq!(b.to_bits(), bf16::from_f32(*w).to_bits(), "bf16 of {w:e}");
        }
    }

    #[test]
    fn widening_agrees_with_the_half_crate() {
        for bits in 0..=u16::MAX {
            let mut wide = [0.; 2];
            widen_f16(&[f16::from_bits(bits)], &mut wide[..1]);
            widen_bf16(&[bf16::from_bits(bits)], &mut wide[1..]);
            let f = f16::from_bits(bits);
            assert!(
                wide[0].to_bits() == f.to_f32_const().to_bits() || f.is_nan() && wide[0].is_nan()
            );
            assert_eq!(wide[1].to_bits(), (bits as u32) << 16);
        }
    }
}
