//! Vectors of the instruction set that is best at run time.
//!
//! A [`Job`] is written once for every [`Vector`] and compiled for each instruction set. Whatever it
//! calls is `#[inline(always)]`: a function that is compiled apart from the job would be compiled for
//! the baseline.

use std::sync::OnceLock;

/// Some numbers that one instruction works on.
pub trait Vector: Copy {
    type Scalar: Copy;
    const LEN: usize;
    /// True where 24 sums and what they are made of fit into the registers, and not only 12.
    const WIDE: bool;

    fn splat(value: Self::Scalar) -> Self;

    /// `self * b + c`.
    fn mul_add(self, b: Self, c: Self) -> Self;

    /// # Safety
    ///
    /// `from` is valid for reads of `LEN` numbers.
    unsafe fn load(from: *const Self::Scalar) -> Self;

    /// # Safety
    ///
    /// `to` is valid for writes of `LEN` numbers.
    unsafe fn store(self, to: *mut Self::Scalar);
}

/// Work on vectors of `A`.
pub trait Job<A> {
    fn run<V: Vector<Scalar = A>>(self);
}

/// The instruction sets that jobs are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// The target's own: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// AVX2 with FMA.
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
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            isas.extend(avx2.then_some(Self::Avx2));
            let avx512 = avx2 && is_x86_feature_detected!("avx512f");
            isas.extend(avx512.then_some(Self::Avx512));
        }
        isas
    }

    /// The best set of this machine, detected once.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().unwrap_or(Self::Baseline))
    }
}

/// A type that convolutions compute in.
pub trait Acc: Copy + Default + PartialOrd + Send + Sync + std::ops::AddAssign + 'static {
    /// Runs `job`, compiled for `isa`.
    fn run(isa: Isa, job: impl Job<Self>);
}

/// An array, in which the compiler finds the target's own vectors.
macro_rules! portable {
    ($scalar:ty, $len:literal) => {
        impl Vector for [$scalar; $len] {
            type Scalar = $scalar;
            const LEN: usize = $len;
            const WIDE: bool = false;

            #[inline(always)]
            fn splat(value: $scalar) -> Self {
                [value; $len]
            }

            #[inline(always)]
            fn mul_add(mut self, b: Self, c: Self) -> Self {
                for i in 0..$len {
                    // Without the instruction `mul_add` is a call into libm.
                    self[i] = if cfg!(target_arch = "aarch64") {
                        self[i].mul_add(b[i], c[i])
                    } else {
                        self[i] * b[i] + c[i]
                    };
                }
                self
            }

            #[inline(always)]
            unsafe fn load(from: *const $scalar) -> Self {
                // SAFETY: the caller promises as many numbers; arrays of them may be unaligned here.
                unsafe { from.cast::<Self>().read_unaligned() }
            }

            #[inline(always)]
            unsafe fn store(self, to: *mut $scalar) {
                // SAFETY: as in `load`.
                unsafe { to.cast::<Self>().write_unaligned(self) }
            }
        }
    };
}
portable!(f32, 4);
portable!(f64, 2);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Job, Vector};
    use std::arch::x86_64::*;

    macro_rules! vector {
        ($vector:ty, $scalar:ty, $len:literal, $wide:literal, $splat:ident, $fma:ident, $load:ident, $store:ident) => {
            impl Vector for $vector {
                type Scalar = $scalar;
                const LEN: usize = $len;
                const WIDE: bool = $wide;

                #[inline(always)]
                fn splat(value: $scalar) -> Self {
                    // SAFETY: a job works on this vector below `avx2` or `avx512` alone, whose callers
                    // have promised that the processor has the instructions.
                    unsafe { $splat(value) }
                }

                #[inline(always)]
                fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $fma(self, b, c) }
                }

                #[inline(always)]
                unsafe fn load(from: *const $scalar) -> Self {
                    // SAFETY: as in `splat`; the caller promises as many numbers at `from`.
                    unsafe { $load(from) }
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut $scalar) {
                    // SAFETY: as in `load`.
                    unsafe { $store(to, self) }
                }
            }
        };
    }
    vector!(
        __m512,
        f32,
        16,
        true,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps
    );
    vector!(
        __m512d,
        f64,
        8,
        true,
        _mm512_set1_pd,
        _mm512_fmadd_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd
    );
    vector!(
        __m256,
        f32,
        8,
        false,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps
    );
    vector!(
        __m256d,
        f64,
        4,
        false,
        _mm256_set1_pd,
        _mm256_fmadd_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd
    );

    /// # Safety
    ///
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<V: Vector>(job: impl Job<V::Scalar>) {
        job.run::<V>()
    }

    /// # Safety
    ///
    /// The processor has AVX-512 F, AVX2 and FMA.
    #[target_feature(enable = "avx512f,avx2,fma")]
    pub unsafe fn avx512<V: Vector>(job: impl Job<V::Scalar>) {
        job.run::<V>()
    }
}

macro_rules! acc {
    ($scalar:ty, $portable:literal, $avx2:ident, $avx512:ident) => {
        impl Acc for $scalar {
            fn run(isa: Isa, job: impl Job<Self>) {
                match isa {
                    Isa::Baseline => job.run::<[$scalar; $portable]>(),
                    // SAFETY: `available` alone makes values of `Isa` but the baseline's, and only
                    // those whose instructions the processor has reported.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => unsafe { x86::avx2::<std::arch::x86_64::$avx2>(job) },
                    // SAFETY: as for `Avx2`.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => unsafe { x86::avx512::<std::arch::x86_64::$avx512>(job) },
                }
            }
        }
    };
}
acc!(f32, 4, __m256, __m512);
acc!(f64, 2, __m256d, __m512d);
