//! The mean and the biased variance of every plane.

use super::{apply, FusedOp};
use crate::args::{stats_shape, View};
use crate::cpu;
use crate::shapes::{adjacent_planes, float_dtype, Planes};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, Result, Shape, Tensor};

/// The mean and the biased variance of every `(n, c)` plane, each of shape `(N, C)`, in f32 (f64
/// for f64). There is no gradient: x is detached, as it is for running averages.
pub fn plane_stats(x: &Tensor) -> Result<(Tensor, Tensor)> {
    float_dtype(x)?;
    let x = adjacent_planes(&x.detach())?;
    let stats = apply(PlaneStats, &[&x])?;
    Ok((stats.get(0)?, stats.get(1)?))
}

struct PlaneStats;

impl FusedOp for PlaneStats {
    const NAME: &'static str = "instance-norm-stats";

    fn cpu(&self, inputs: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)> {
        let x = inputs[0];
        Ok((cpu::stats(x)?, stats_shape(&Planes::new(x.1.dims())?)))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let x = inputs[0];
        Ok((
            crate::cuda::stats(x)?,
            stats_shape(&Planes::new(x.1.dims())?),
        ))
    }
}
