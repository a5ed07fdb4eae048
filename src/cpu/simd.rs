//! Run-time choice of the instruction set.
//!
//! Jobs are plain loops over arrays, written once and generic over a [`Simd`]. [`Isa::run`] is
//! compiled with each job for every instruction set; [`Isa::best`] picks one at run time. All
//! loops of a job must be `#[inline(always)]`, without closures handed to `map`, `fold` and the
//! like: a function that is compiled apart from the job is compiled for the baseline. What several
//! jobs have in common is a job, too, which they run by [`Simd::call`]: it is compiled once for each
//! set, not in each of them.

use super::element::Acc;
use super::half::{narrow_f16, widen_f16};
use ::half::f16;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// The instructions that the compiler does not find by itself in a loop.
pub trait Simd {
    /// `a * b + c`, fused where that is one instruction.
    fn mul_add<A: Acc>(a: A, b: A, c: A) -> A;

    /// Runs `job`, compiled as a function of its own for this set.
    fn call<J: SimdJob>(job: J) -> J::Output;

    /// Converts as many elements as both slices have.
    #[inline(always)]
    fn widen_f16(from: &[f16], to: &mut [MaybeUninit<f32>]) {
        widen_f16(from, to)
    }

    /// Converts as many elements as both slices have, rounding to nearest even.
    #[inline(always)]
    fn narrow_f16(from: &[f32], to: &mut [MaybeUninit<f16>]) {
        narrow_f16(from, to)
    }
}

/// Work that [`Isa::run`] compiles for every instruction set.
pub trait SimdJob {
    type Output;
    fn run<S: Simd>(self) -> Self::Output;
}

/// The instruction sets that jobs are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// The target's own: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// With FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// Every set that this machine runs, the best last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)] // elsewhere there is just the one
        let mut isas = vec![Self::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            isas.extend(avx2.then_some(Self::Avx2));
            isas.extend((avx2 && avx512).then_some(Self::Avx512));
        }
        isas
    }

    /// The best set of this machine, detected once.
    #[inline]
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().unwrap_or(Self::Baseline))
    }

    /// Runs `job`, compiled for this set.
    #[inline]
    pub fn run<J: SimdJob>(self, job: J) -> J::Output {
        match self {
            Self::Baseline => Baseline::call(job),
            // SAFETY: the crate takes `Isa` values from `available` alone, which offers this one
            // only after the processor reported its features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::avx2(job) },
            // SAFETY: as for `Avx2`.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::avx512(job) },
        }
    }
}

struct Baseline;

impl Simd for Baseline {
    #[inline(always)]
    fn mul_add<A: Acc>(a: A, b: A, c: A) -> A {
        if cfg!(target_arch = "aarch64") {
            a.mul_add(b, c)
        } else {
            // Without the instruction `mul_add` is a call into libm.
            a * b + c
        }
    }

    #[inline(never)]
    fn call<J: SimdJob>(job: J) -> J::Output {
        job.run::<Self>()
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::*;

    /// # Safety
    ///
    /// The processor has AVX2, FMA and F16C.
    #[inline(never)]
    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn avx2<J: SimdJob>(job: J) -> J::Output {
        job.run::<Avx2>()
    }

    /// # Safety
    ///
    /// The processor has AVX-512 F, BW, DQ and VL, FMA and F16C.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
    pub unsafe fn avx512<J: SimdJob>(job: J) -> J::Output {
        job.run::<Avx512>()
    }

    /// Conversions in vectors of `$width`, and the rest one by one.
    macro_rules! simd {
        ($name:ident, $call:ident, $width:literal, $widen:expr, $narrow:expr) => {
            struct $name;

            impl Simd for $name {
                #[inline(always)]
                fn mul_add<A: Acc>(a: A, b: A, c: A) -> A {
                    a.mul_add(b, c)
                }

                #[inline(always)]
                fn call<J: SimdJob>(job: J) -> J::Output {
                    // SAFETY: `$name` is private to this module, and named outside of its `impl` only
                    // by `$call`, whose caller has promised what this call needs.
                    unsafe { $call(job) }
                }

                #[inline(always)]
                fn widen_f16(from: &[f16], to: &mut [MaybeUninit<f32>]) {
                    let (from, from_rest) = from.as_chunks::<$width>();
                    let (to, to_rest) = to.as_chunks_mut::<$width>();
                    for (from, to) in from.iter().zip(to) {
                        // SAFETY: both pointers are to `$width` elements, and the processor has the
                        // instructions, see `call`.
                        unsafe { $widen(from.as_ptr(), to.as_mut_ptr()) }
                    }
                    widen_f16(from_rest, to_rest);
                }

                #[inline(always)]
                fn narrow_f16(from: &[f32], to: &mut [MaybeUninit<f16>]) {
                    let (from, from_rest) = from.as_chunks::<$width>();
                    let (to, to_rest) = to.as_chunks_mut::<$width>();
                    for (from, to) in from.iter().zip(to) {
                        // SAFETY: as in `widen_f16`.
                        unsafe { $narrow(from.as_ptr(), to.as_mut_ptr()) }
                    }
                    narrow_f16(from_rest, to_rest);
                }
            }
        };
    }

    simd!(
        Avx2,
        avx2,
        8,
        |from: *const f16, to: *mut MaybeUninit<f32>| _mm256_storeu_ps(
            to.cast(),
            _mm256_cvtph_ps(_mm_loadu_si128(from.cast()))
        ),
        |from: *const f32, to: *mut MaybeUninit<f16>| _mm_storeu_si128(
            to.cast(),
            _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from))
        )
    );
    simd!(
        Avx512,
        avx512,
        16,
        |from: *const f16, to: *mut MaybeUninit<f32>| _mm512_storeu_ps(
            to.cast(),
            _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
        ),
        |from: *const f32, to: *mut MaybeUninit<f16>| _mm256_storeu_si256(
            to.cast(),
            _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm512_loadu_ps(from))
        )
    );
}
