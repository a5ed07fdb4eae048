//! The four element types, as the kernels see them: f32 or f64 slices to compute on.

use candle_core::{CpuStorage, WithDType};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::mem::MaybeUninit;
use std::ops::{Add, AddAssign, Mul, Sub};

/// Elements computed on at once: 8 KiB in f32, so that x, dy and a result stay in a 32 KiB L1.
pub const CHUNK: usize = 2048;

/// What sums are kept in within a chunk. Across chunks they are kept in f64.
pub trait Acc:
    Copy + Send + Sync + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + AddAssign
{
    const ZERO: Self;
    fn from_f64(v: f64) -> Self;
    fn to_f64(self) -> f64;
}

macro_rules! acc {
    ($t:ty) => {
        impl Acc for $t {
            const ZERO: Self = 0.;
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

// half's conversions use F16C and the like where the machine has them.
fn widen_f16(chunk: &[f16], wide: &mut [f32]) {
    chunk.convert_to_f32_slice(wide);
}

fn narrow_f16(wide: &[f32], chunk: &mut [MaybeUninit<f16>]) {
    chunk.fill(MaybeUninit::new(f16::ZERO));
    // SAFETY: every element was just written.
    let chunk = unsafe { &mut *(chunk as *mut [MaybeUninit<f16>] as *mut [f16]) };
    chunk.convert_from_f32_slice(wide);
}

// half converts bf16 one by one; these loops become vector code.
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

    #[test]
    fn bf16_conversion_agrees_with_half_on_every_high_part() {
        let mut wide = Vec::new();
        for high in 0..=u16::MAX as u32 {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                wide.push(f32::from_bits(high << 16 | low));
            }
        }
        let mut narrow = vec![MaybeUninit::uninit(); wide.len()];
        narrow_bf16(&wide, &mut narrow);
        for (w, n) in wide.iter().zip(&narrow) {
            // SAFETY: `narrow_bf16` wrote every element.
            let n = unsafe { n.assume_init() };
            assert_eq!(n.to_bits(), bf16::from_f32(*w).to_bits(), "{w:e}");
        }
    }
}
