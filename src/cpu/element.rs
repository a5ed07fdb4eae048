//! The four element types, which are computed on in registers of f32 or f64.

use super::simd::Simd;
use super::vector::{Pair, Part, Single, Vector};
use ::half::{bf16, f16};
use candle_core::{CpuStorage, WithDType};

/// The type that elements are computed and summed in, f32 or f64. Sums of [chunks](super::sums) are
/// kept in f64.
pub trait Acc: Copy + Default + Send + Sync + PartialOrd + 'static {
    /// A deviation of less than this times the mean comes of rounding alone, in a constant plane:
    /// one ulp in one element of a plane is more.
    const NOISE: f64;

    /// The variance from which on the gradient's coefficient of `x - mean`, some 1 / var, has lost
    /// digits or is 0.
    const LARGE: f64;

    fn from_f64(v: f64) -> Self;
    fn to_f64(self) -> f64;
}

macro_rules! acc {
    ($t:ident, $noise:expr, $large:expr) => {
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
        }
    };
}
// 2^-45 and 2^-50; less than the reciprocals of the smallest normal numbers.
acc!(f32, 1. / (1u64 << 45) as f64, 1e30);
acc!(f64, 1. / (1u64 << 50) as f64, 1e300);

/// The register that elements of a type are computed in.
pub type Register<S, T> = <T as Element>::Register<S>;

/// An element type of x, y and the gradients.
pub trait Element: WithDType + Send + Sync {
    type Acc: Acc + Element;
    type Register<S: Simd>: Vector<Item = Self::Acc>;

    /// # Safety
    ///
    /// See [`Vector`]. So for `store` and `stream`.
    unsafe fn load<S: Simd>(from: *const Self, part: Part) -> Register<S, Self>;

    /// Rounds to nearest even.
    ///
    /// # Safety
    ///
    /// See [`Vector`].
    unsafe fn store<S: Simd>(v: Register<S, Self>, to: *mut Self, part: Part);

    /// # Safety
    ///
    /// See [`Vector`]; `to` is aligned to as many elements as the register has.
    unsafe fn stream<S: Simd>(v: Register<S, Self>, to: *mut Self);

    fn storage(values: Vec<Self>) -> CpuStorage;
}

macro_rules! wide {
    ($t:ty, $variant:ident) => {
        impl Element for $t {
            type Acc = $t;
            type Register<S: Simd> = S::$variant;

            #[inline(always)]
            unsafe fn load<S: Simd>(from: *const $t, part: Part) -> Register<S, $t> {
                // SAFETY: promised by the caller.
                unsafe { Vector::load(from, part) }
            }

            #[inline(always)]
            unsafe fn store<S: Simd>(v: Register<S, $t>, to: *mut $t, part: Part) {
                // SAFETY: promised by the caller.
                unsafe { v.store(to, part) }
            }

            #[inline(always)]
            unsafe fn stream<S: Simd>(v: Register<S, $t>, to: *mut $t) {
                // SAFETY: promised by the caller.
                unsafe { v.stream(to) }
            }

            fn storage(values: Vec<$t>) -> CpuStorage {
                CpuStorage::$variant(values)
            }
        }
    };
}
wide!(f32, F32);
wide!(f64, F64);

// Both types of 16 bits are `repr(transparent)` over u16.
macro_rules! half {
    ($t:ty, $variant:ident: $register:ty, $load:expr, $store:expr, $stream:expr) => {
        impl Element for $t {
            type Acc = f32;
            type Register<S: Simd> = $register;

            #[inline(always)]
            unsafe fn load<S: Simd>(from: *const $t, part: Part) -> $register {
                // SAFETY: promised by the caller.
                unsafe { $load(from.cast(), part) }
            }

            #[inline(always)]
            unsafe fn store<S: Simd>(v: $register, to: *mut $t, part: Part) {
                // SAFETY: promised by the caller.
                unsafe { $store(v, to.cast(), part) }
            }

            #[inline(always)]
            unsafe fn stream<S: Simd>(v: $register, to: *mut $t) {
                // SAFETY: promised by the caller.
                unsafe { $stream(v, to.cast()) }
            }

            fn storage(values: Vec<$t>) -> CpuStorage {
                CpuStorage::$variant(values)
            }
        }
    };
}
half!(
    f16, F16: S::F32,
    |from, part| S::F32::widen(S::F32::load_halves(from, part)),
    |v: S::F32, to, part| S::F32::store_halves(v.narrow(), to, part),
    |v: S::F32, to| S::F32::stream_halves(v.narrow(), to)
);
half!(
    bf16, BF16: Pair<S::F32>,
    Pair::<S::F32>::load_words, Pair::<S::F32>::store_words, Pair::<S::F32>::stream_words
);
