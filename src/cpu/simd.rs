//! Run-time choice of the instruction set.
//!
//! A job is written once, generic over a [`Simd`], in registers of its types. [`Isa::run`] is
//! compiled with each job for every instruction set; [`Isa::best`] picks one at run time. All that
//! a job calls must be `#[inline(always)]`, without closures handed to `map`, `fold` and the like
//! where registers are computed on: a function that is compiled apart from the job is compiled for
//! the baseline. What several jobs have in common may be a job, too, which they run by
//! [`Simd::call`]: it is compiled once for each set, not in each of them.

use super::array::Array;
use super::vector::{Single, Vector};
use std::sync::OnceLock;

/// An instruction set, and the registers that it has.
pub trait Simd {
    type F32: Single;
    type F64: Vector<Item = f64>;

    /// Runs `job`, compiled as a function of its own for this set.
    fn call<J: SimdJob>(job: J) -> J::Output;

    /// Waits until other threads see what was [streamed](Vector::stream).
    #[inline(always)]
    fn fence() {}

    /// Asks for the cache line at an address, which may be any.
    #[inline(always)]
    fn prefetch<T>(_: *const T) {}
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
            Self::Avx2 => unsafe { super::x86::avx2(job) },
            // SAFETY: as for `Avx2`.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { super::x86::avx512(job) },
        }
    }
}

struct Baseline;

/// Two registers of SSE2 or NEON side by side, for two latencies at a time.
impl Simd for Baseline {
    type F32 = Array<f32, 8>;
    type F64 = Array<f64, 4>;

    #[inline(never)]
    fn call<J: SimdJob>(job: J) -> J::Output {
        job.run::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vector::{Pair, Part};
    use ::half::{bf16, f16};

    struct Check;

    impl SimdJob for Check {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self) {
            check::<S::F32>(|v| v as f32);
            check::<S::F64>(|v| v as f64);
            check::<Pair<S::F32>>(|v| v as f32);
        }
    }

    /// Every method of a register against the same of its lanes.
    #[inline(always)]
    fn check<V: Vector>(number: impl Fn(i32) -> V::Item)
    where
        V::Item: PartialEq + std::fmt::Debug + Default,
    {
        let numbers = |factor: i32| (1..=V::LEN as i32).map(|i| number(factor * i)).collect();
        let of = |values: &Vec<V::Item>, part| {
            // SAFETY: there are as many as a register has, and the job runs where it may.
            unsafe { V::load(values.as_ptr(), part) }
        };
        let lanes = |v: V, part| {
            let mut lanes = vec![number(-1); V::LEN];
            // SAFETY: as above.
            unsafe { v.store(lanes.as_mut_ptr(), part) };
            lanes
        };
        let whole = |v: V| lanes(v, Part::Whole);
        let (a, b): (Vec<_>, Vec<_>) = (numbers(1), numbers(10));
        let (va, vb) = (of(&a, Part::Whole), of(&b, Part::Whole));
        let ten = V::splat(number(10));
        assert_eq!(whole(va), a);
        assert_eq!(whole(vb / va), whole(ten));
        assert_eq!(whole(va * ten), b);
        assert_eq!(whole(va + va - va), a);
        assert_eq!(whole(va.mul_add(ten, vb)), numbers(20));
        let n = V::LEN as i32;
        let sum = (n * (n + 1) / 2) as f64;
        let ten_of_each = 10. * n as f64;
        assert_eq!(
            V::sums([va, vb, ten, va + va]),
            [sum, 10. * sum, ten_of_each, 2. * sum]
        );
        for count in 1..V::LEN {
            let part = Part::First(count);
            let mixed: Vec<_> = [&a[..count], &b[count..]].concat();
            assert_eq!(whole(va.first(count, vb)), mixed);
            let mut loaded = a[..count].to_vec();
            // What is behind the part is not loaded: it may be another page.
            let v = of(&loaded, part);
            loaded.resize(V::LEN, V::Item::default());
            assert_eq!(whole(v), loaded);
            let mut stored = a[..count].to_vec();
            stored.resize(V::LEN, number(-1));
            assert_eq!(lanes(va, part), stored);
            let bound = V::splat(number(count as i32 + 1));
            assert_eq!(whole(va.if_less(bound, va, vb)), mixed);
        }
    }

    #[test]
    fn registers_compute_lane_by_lane() {
        for isa in Isa::available() {
            isa.run(Check);
        }
    }

    struct Stream;

    impl SimdJob for Stream {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self) {
            #[repr(align(64))]
            struct Aligned([f32; 16], [u16; 32], [u16; 32]);

            let mut memory = Aligned([0.; 16], [0; 32], [0; 32]);
            let values: Vec<f32> = (1..17).map(|i| i as f32).collect();
            // SAFETY: all are large enough and aligned for any register.
            unsafe {
                let v = S::F32::load(values.as_ptr(), Part::Whole);
                v.stream(memory.0.as_mut_ptr());
                S::F32::stream_halves(v.narrow(), memory.1.as_mut_ptr());
                S::F32::stream_words(S::F32::join([v; 2]), memory.2.as_mut_ptr());
            }
            S::fence();
            for (i, v) in values.iter().enumerate().take(S::F32::LEN) {
                assert_eq!(memory.0[i], *v);
                assert_eq!(memory.1[i], f16::from_f32(*v).to_bits());
                let bits = bf16::from_f32(*v).to_bits();
                assert_eq!(memory.2[2 * i..2 * i + 2], [bits; 2]);
            }
        }
    }

    #[test]
    fn streaming_stores_all_lanes() {
        for isa in Isa::available() {
            isa.run(Stream);
        }
    }
}
