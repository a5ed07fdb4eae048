//! The four element types, as the kernels see them: f32 or f64 slices to compute on.

use super::activation::exp_f32;
use super::half::{narrow_bf16, widen_bf16};
use super::simd::Simd;
use ::half::{bf16, f16};
use candle_core::{CpuStorage, WithDType};
use std::mem::MaybeUninit;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Sub};

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
    + Div<Output = Self>
    + AddAssign
    + MulAssign
    + PartialOrd
    + 'static
{
    fn from_f64(v: f64) -> Self;
    fn to_f64(self) -> f64;
    /// `self * b + c`, rounded once; a call into libm where there is no instruction for it.
    fn mul_add(self, b: Self, c: Self) -> Self;
    fn exp<S: Simd>(self) -> Self;
}

macro_rules! acc {
    ($t:ty, $exp:expr) => {
        impl Acc for $t {
            #[inline(always)]
            fn from_f64(v: f64) -> Self {
                v as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                <$t>::mul_add(self, b, c)
            }
            #[inline(always)]
            fn exp<S: Simd>(self) -> Self {
                $exp(self)
            }
        }
    };
}
acc!(f32, exp_f32::<S>);
acc!(f64, f64::exp);

/// Room to widen one chunk in; empty for the types that need none.
pub type Scratch<A> = Vec<A>;

/// An element type of x, y and the gradients.
pub trait Element: WithDType + Send + Sync {
    type Acc: Acc + Element;

    fn scratch() -> Scratch<Self::Acc>;

    /// The values of `chunk` (at most [`CHUNK`] of them), in `scratch` where they need converting.
    fn widen<'a, S: Simd>(
        chunk: &'a [Self],
        scratch: &'a mut Scratch<Self::Acc>,
    ) -> &'a [Self::Acc];

    /// As [`widen`](Self::widen), but always a copy, in `scratch` of [`CHUNK`] elements.
    fn widen_copy<'a, S: Simd>(
        chunk: &[Self],
        scratch: &'a mut Scratch<Self::Acc>,
    ) -> &'a [Self::Acc];

    /// Where to write the result that is to end up in `chunk`: there, or in `scratch`.
    fn room<'a>(
        chunk: &'a mut [MaybeUninit<Self>],
        scratch: &'a mut Scratch<Self::Acc>,
    ) -> &'a mut [MaybeUninit<Self::Acc>];

    /// Rounds what [`room`](Self::room) took in `scratch` into `chunk`.
    fn narrow<S: Simd>(chunk: &mut [MaybeUninit<Self>], scratch: &Scratch<Self::Acc>);

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
            fn widen<'a, S: Simd>(chunk: &'a [$t], _: &'a mut Scratch<$t>) -> &'a [$t] {
                chunk
            }
            #[inline(always)]
            fn widen_copy<'a, S: Simd>(chunk: &[$t], scratch: &'a mut Scratch<$t>) -> &'a [$t] {
                let copy = &mut scratch[..chunk.len()];
                copy.copy_from_slice(chunk);
                copy
            }
            #[inline(always)]
            fn room<'a>(
                chunk: &'a mut [MaybeUninit<$t>],
                _: &'a mut Scratch<$t>,
            ) -> &'a mut [MaybeUninit<$t>] {
                chunk
            }
            #[inline(always)]
            fn narrow<S: Simd>(_: &mut [MaybeUninit<$t>], _: &Scratch<$t>) {}
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
            fn widen<'a, S: Simd>(chunk: &'a [$t], scratch: &'a mut Scratch<f32>) -> &'a [f32] {
                let wide = &mut scratch[..chunk.len()];
                $widen(chunk, wide);
                wide
            }
            #[inline(always)]
            fn widen_copy<'a, S: Simd>(chunk: &[$t], scratch: &'a mut Scratch<f32>) -> &'a [f32] {
                let wide = &mut scratch[..chunk.len()];
                $widen(chunk, wide);
                wide
            }
            #[inline(always)]
            fn room<'a>(
                chunk: &'a mut [MaybeUninit<$t>],
                scratch: &'a mut Scratch<f32>,
            ) -> &'a mut [MaybeUninit<f32>] {
                as_room(&mut scratch[..chunk.len()])
            }
            #[inline(always)]
            fn narrow<S: Simd>(chunk: &mut [MaybeUninit<$t>], scratch: &Scratch<f32>) {
                $narrow(&scratch[..chunk.len()], chunk);
            }
            fn store(values: Vec<$t>) -> CpuStorage {
                CpuStorage::$variant(values)
            }
        }
    };
}
half!(f16, F16, S::widen_f16, S::narrow_f16);
half!(bf16, BF16, widen_bf16, narrow_bf16);

/// What has been written to the room.
///
/// # Safety
///
/// Every number of it has been.
#[inline(always)]
pub unsafe fn written<A: Acc>(room: &mut [MaybeUninit<A>]) -> &mut [A] {
    // SAFETY: of the same layout; the rest is promised by the caller.
    unsafe { &mut *(room as *mut [MaybeUninit<A>] as *mut [A]) }
}

/// Numbers that are about to be overwritten.
#[inline(always)]
pub fn as_room<A: Acc>(numbers: &mut [A]) -> &mut [MaybeUninit<A>] {
    // SAFETY: of the same layout, and whoever gets it writes numbers.
    unsafe { &mut *(numbers as *mut [A] as *mut [MaybeUninit<A>]) }
}
