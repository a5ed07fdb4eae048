//! The CPU backend: rayon over planes or parts of planes, SIMD chosen at run time.

mod activation;
mod affine;
mod array;
mod buffer;
mod bwd;
mod channels_last;
mod element;
mod fwd;
mod gradient;
mod half;
mod inputs;
mod moments;
mod operand;
mod overflow;
mod pass;
mod pool;
mod rows;
mod rstd;
mod schedule;
mod simd;
mod sums;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::spec::{Extras, GradMask, Gradients, NormSpec, ScaleStat, View};
use ::half::{bf16, f16};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, bail};

/// Calls `$f::<T>($args)` with the `T` of a dtype.
macro_rules! dispatch {
    ($dtype:expr, $f:ident($($arg:expr),*)) => {{
        use ::half::{bf16, f16};
        match $dtype {
            candle_core::DType::F32 => $f::<f32>($($arg),*),
            candle_core::DType::F16 => $f::<f16>($($arg),*),
            candle_core::DType::BF16 => $f::<bf16>($($arg),*),
            candle_core::DType::F64 => $f::<f64>($($arg),*),
            other => candle_core::bail!("norm: no CPU implementation for dtype {other:?}"),
        }
    }};
}
use dispatch;

pub fn forward(
    x: View<CpuStorage>,
    extras: &Extras<View<CpuStorage>>,
    spec: &NormSpec,
) -> Result<CpuStorage> {
    use fwd::forward;
    dispatch!(x.0.dtype(), forward(x, extras, spec))
}

/// Overwrites `x`, which is contiguous, with the result of [`forward`].
pub fn forward_in_place(
    x: &mut CpuStorage,
    layout: &Layout,
    extras: &Extras<View<CpuStorage>>,
    spec: &NormSpec,
) -> Result<()> {
    use fwd::forward_in_place as run;
    match x {
        CpuStorage::F32(x) => run(x.as_mut_slice(), layout, extras, spec),
        CpuStorage::F16(x) => run::<f16>(x.as_mut_slice(), layout, extras, spec),
        CpuStorage::BF16(x) => run::<bf16>(x.as_mut_slice(), layout, extras, spec),
        CpuStorage::F64(x) => run(x.as_mut_slice(), layout, extras, spec),
        x => bail!("norm: no CPU implementation for dtype {:?}", x.dtype()),
    }
}

pub fn backward(
    x: View<CpuStorage>,
    extras: &Extras<View<CpuStorage>>,
    dy: View<CpuStorage>,
    spec: &NormSpec,
    wanted: &GradMask,
) -> Result<Gradients<CpuStorage>> {
    use bwd::backward;
    dispatch!(x.0.dtype(), backward(x, extras, dy, spec, wanted))
}

/// The mean of every plane, then the second statistic of every plane.
pub fn stats(x: View<CpuStorage>, spec: &NormSpec, stat: ScaleStat) -> Result<CpuStorage> {
    use fwd::stats;
    dispatch!(x.0.dtype(), stats(x, spec, stat))
}
