//! Run-time choice of the instruction set.
//!
//! The kernels are plain loops over arrays, written once; [`Isa::run`] compiles each of them for
//! every instruction set and picks one at run time. No fused multiply-add is used, so that every
//! set gives the same bits (a test holds them to it), and lane counts are fixed by the kernels.

use std::sync::OnceLock;

/// The instruction sets that the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// What the target always has: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// Every set that this machine runs, the best last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut isas = vec![Self::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                isas.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                isas.push(Self::Avx512);
            }
        }
        isas
    }

    /// The best set of this machine, detected once.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().unwrap_or(&Self::Baseline))
    }

    /// Runs `kernel`, whose loops must be `#[inline(always)]`, compiled for this set.
    #[inline(always)]
    pub fn run<R>(self, kernel: impl FnOnce() -> R) -> R {
        match self {
            Self::Baseline => kernel(),
            // SAFETY: the crate takes `Isa` values from `available` alone, which offers this one
            // only after the processor reported its features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2(kernel) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512(kernel) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2<R>(kernel: impl FnOnce() -> R) -> R {
    kernel()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512<R>(kernel: impl FnOnce() -> R) -> R {
    kernel()
}
