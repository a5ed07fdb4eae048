//! Passes over tensors outside candle's custom ops: backward, which has several results.

use super::custom_op::Backend;
use crate::spec::View;
use candle_core::{Layout, Result, StorageRef};

/// Evaluates `$run`, which is generic in the backend, with the views of some tensors.
macro_rules! on_backend {
    ($tensors:expr, |$views:ident| $run:expr) => {{
        use super::off_graph;
        let tensors: &[&candle_core::Tensor] = $tensors;
        let guards: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
        match tensors[0].device() {
            candle_core::Device::Cpu => {
                let $views = &off_graph::views::<candle_core::CpuStorage>(&guards)?;
                $run
            }
            #[cfg(feature = "cuda")]
            candle_core::Device::Cuda(_) => {
                let $views = &off_graph::views::<candle_core::CudaStorage>(&guards)?;
                $run
            }
            #[cfg(feature = "metal")]
            candle_core::Device::Metal(_) => {
                let $views = &off_graph::views::<candle_core::MetalStorage>(&guards)?;
                $run
            }
            #[cfg(not(all(feature = "cuda", feature = "metal")))]
            device => {
                candle_core::bail!("norm: no backend for {:?} in this build", device.location())
            }
        }
    }};
}
pub(super) use on_backend;

pub fn views<'a, S: Backend>(guards: &'a [(StorageRef, &Layout)]) -> Result<Vec<View<'a, S>>> {
    let view = |(storage, layout): &'a (StorageRef, &'a Layout)| Ok((S::of(storage)?, *layout));
    guards.iter().map(view).collect()
}
