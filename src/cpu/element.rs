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
    /// A deviation of less than this times the mean is what rounding leaves of a constant plane:
    /// one ulp in one element of a plane is more.
    const NOISE: f64;

    /// The variance from which on the gradient's coefficient of `x - mean`, some 1 / var, has lost
    /// digits or is 0.
    const LARGE: f64;

    fn from_f64(v: f64) -> Self;
    fn to_f64(self) -> f64;
    /// `self * b + c`, rounded once; a call into libm where there is no instruction for it.
    fn mul_add(self, b: Self, c: Self) -> Self;
    fn exp<S: Simd>(self) -> Self;
}

macro_rules! acc {
    ($t:ty, $exp:expr, $noise:expr, $large:expr) => {
        impl Acc for $t {
            const NOISE: f64 = $noise;
            const LARGE: f64 = $large;

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
// 2^-45 and 2^-50; less than the reciprocals of the smallest normal numbers.
acc!(f32, exp_f32::<S>, 1. / (1u64 << 45) as f64, 1e30);
acc!(f64, f64::exp, 1. / (1u64 << 50) as f64, 1e300);

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
    fn out<'a>(
        chunk: &'a mut [MaybeUninit<Self>],
        scratch: &'a mut Scratch<Self::Acc>,
    ) -> Out<'a, Self::Acc>;

    /// Rounds what [`out`](Self::out) took in `scratch` into `chunk`.
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
            fn out<'a>(chunk: &'a mut [MaybeUninit<$t>], _: &'a mut Scratch<$t>) -> Out<'a, $t> {
                Out(chunk)
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
            fn out<'a>(
                chunk: &'a mut [MaybeUninit<$t>],
                scratch: &'a mut Scratch<f32>,
            ) -> Out<'a, f32> {
                Out::over(&mut scratch[..chunk.len()])
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

/// Numbers that can be written and not read: memory without a value yet, or numbers to replace.
pub struct Out<'a, A>(&'a mut [MaybeUninit<A>]);

impl<'a, A: Acc> Out<'a, A> {
    #[inline(always)]
    pub fn over(numbers: &'a mut [A]) -> Self {
        // SAFETY: the layout is the same, and `set`, all that writes through an `Out`, leaves a
        // number where a number was.
        Self(unsafe { &mut *(numbers as *mut [A] as *mut [MaybeUninit<A>]) })
    }

    /// The first `len` of them.
    #[inline(always)]
    pub fn cut(&mut self, len: usize) -> Out<'_, A> {
        Out(&mut self.0[..len])
    }

    #[inline(always)]
    pub fn set(&mut self, i: usize, v: A) {
        self.0[i].write(v);
    }

    /// # Safety
    ///
    /// The first `len` numbers have been [`set`](Self::set).
    #[inline(always)]
    pub unsafe fn written(self, len: usize) -> &'a mut [A] {
        let written = &mut self.0[..len];
        // SAFETY: the layout is the same, and the caller promises that they are numbers.
        unsafe { &mut *(written as *mut [MaybeUninit<A>] as *mut [A]) }
    }
}
