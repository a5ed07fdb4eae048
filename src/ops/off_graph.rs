//! Passes over tensors outside candle's custom ops: backward, which has several results.

use super::custom_op::{view, Backend, Guard};
use crate::spec::View;
use candle_core::Result;

/// Evaluates `$run`, which is generic in the backend, with the views of some tensors.
macro_rules! on_backend {
    ($tensors:expr, |$views:ident| $run:expr) => {{
        use super::{custom_op::lock, off_graph};
        let tensors: &[&candle_core::Tensor] = $tensors;
        let guards: Vec<_> = tensors.iter().copied().map(lock).collect();
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

pub fn views<'a, S: Backend>(guards: &'a [Guard]) -> Result<Vec<View<'a, S>>> {
    guards.iter().map(view).collect()
}
