//! The four element types, which loops compute on as slices of f32 or f64.

use super::activation::exp_f32;
use super::half::{narrow_bf16, widen_bf16};
use super::simd::Simd;
use ::half::{bf16, f16};
use candle_core::{CpuStorage, WithDType};
use std::mem::MaybeUninit;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Sub};

/// Elements computed on at once: 8 KiB in f32, so that x, dy and a result stay in a 32 KiB L1.
pub const CHUNK: usize = 2048;

/// The type that a chunk is computed and summed in, f32 or f64. Sums of chunks are kept in f64.
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
    /// A deviation of less than this times the mean comes of rounding alone, in a constant plane:
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

/// An element type of x, y and the gradients.
pub trait Element: WithDType + Send + Sync {
    type Acc: Acc + Element;

    /// Memory to convert one chunk in: empty for the types that need no conversion.
    fn scratch() -> Vec<MaybeUninit<Self::Acc>>;

    /// The values of `chunk` (at most [`CHUNK`] of them), in `scratch` where they need converting.
    fn widen<'a, S: Simd>(
        chunk: &'a [Self],
        scratch: &'a mut [MaybeUninit<Self::Acc>],
    ) -> &'a [Self::Acc];

    /// The values of `chunk` as a copy in `scratch`, which has [`CHUNK`] elements.
    fn widen_copy<'a, S: Simd>(
        chunk: &[Self],
        scratch: &'a mut [MaybeUninit<Self::Acc>],
    ) -> &'a [Self::Acc];

    /// The memory for the results of `chunk`: itself, or `scratch` where they need converting.
    fn out<'a>(
        chunk: &'a mut [MaybeUninit<Self>],
        scratch: &'a mut [MaybeUninit<Self::Acc>],
    ) -> &'a mut [MaybeUninit<Self::Acc>];

    /// Rounds the results in `scratch`, if that is where [`out`](Self::out) put them, into `chunk`.
    ///
    /// # Safety
    ///
    /// Every element of `out(chunk, scratch)` has been written.
    unsafe fn narrow<S: Simd>(
        chunk: &mut [MaybeUninit<Self>],
        scratch: &mut [MaybeUninit<Self::Acc>],
    );

    fn store(values: Vec<Self>) -> CpuStorage;
}

/// The numbers that `memory` has been filled with.
///
/// # Safety
///
/// Every element has been written.
#[inline(always)]
pub unsafe fn written<A>(memory: &mut [MaybeUninit<A>]) -> &mut [A] {
    // SAFETY: the layout is the same, and the caller promises that the elements are initialised.
    unsafe { &mut *(memory as *mut [MaybeUninit<A>] as *mut [A]) }
}

macro_rules! wide {
    ($t:ty, $variant:ident) => {
        impl Element for $t {
            type Acc = $t;

            fn scratch() -> Vec<MaybeUninit<$t>> {
                Vec::new()
            }

            #[inline(always)]
            fn widen<'a, S: Simd>(chunk: &'a [$t], _: &'a mut [MaybeUninit<$t>]) -> &'a [$t] {
                chunk
            }

            #[inline(always)]
            fn widen_copy<'a, S: Simd>(
                chunk: &[$t],
                scratch: &'a mut [MaybeUninit<$t>],
            ) -> &'a [$t] {
                let copy = &mut scratch[..chunk.len()];
                for (copy, &v) in copy.iter_mut().zip(chunk) {
                    copy.write(v);
                }
                // SAFETY: the loop has written every element.
                unsafe { written(copy) }
            }

            #[inline(always)]
            fn out<'a>(
                chunk: &'a mut [MaybeUninit<$t>],
                _: &'a mut [MaybeUninit<$t>],
            ) -> &'a mut [MaybeUninit<$t>] {
                chunk
            }

            #[inline(always)]
            unsafe fn narrow<S: Simd>(_: &mut [MaybeUninit<$t>], _: &mut [MaybeUninit<$t>]) {}

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

            fn scratch() -> Vec<MaybeUninit<f32>> {
                vec![MaybeUninit::uninit(); CHUNK]
            }

            #[inline(always)]
            fn widen<'a, S: Simd>(
                chunk: &'a [$t],
                scratch: &'a mut [MaybeUninit<f32>],
            ) -> &'a [f32] {
                Self::widen_copy::<S>(chunk, scratch)
            }

            #[inline(always)]
            fn widen_copy<'a, S: Simd>(
                chunk: &[$t],
                scratch: &'a mut [MaybeUninit<f32>],
            ) -> &'a [f32] {
                let wide = &mut scratch[..chunk.len()];
                $widen(chunk, wide);
                // SAFETY: the conversion writes as many elements as both slices have.
                unsafe { written(wide) }
            }

            #[inline(always)]
            fn out<'a>(
                chunk: &'a mut [MaybeUninit<$t>],
                scratch: &'a mut [MaybeUninit<f32>],
            ) -> &'a mut [MaybeUninit<f32>] {
                &mut scratch[..chunk.len()]
            }

            #[inline(always)]
            unsafe fn narrow<S: Simd>(
                chunk: &mut [MaybeUninit<$t>],
                scratch: &mut [MaybeUninit<f32>],
            ) {
                // SAFETY: the caller promises that the elements `out` returned are written: these.
                let wide = unsafe { written(&mut scratch[..chunk.len()]) };
                $narrow(wide, chunk);
            }

            fn store(values: Vec<$t>) -> CpuStorage {
                CpuStorage::$variant(values)
            }
        }
    };
}
half!(f16, F16, S::widen_f16, S::narrow_f16);
half!(bf16, BF16, widen_bf16, narrow_bf16);
