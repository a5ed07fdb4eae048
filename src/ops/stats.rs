//! Statistics of planes as tensors.

use super::custom_op::{apply, FusedOp};
use super::double_backward::{gradient, Composed};
use super::reference;
use crate::cpu;
use crate::shapes::{float_dtype, format_of, in_format, valid_eps, Format, Planes};
use crate::spec::{stats_shape, Activation, Extras, NormSpec, Output, RstdRule, ScaleStat, View};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
#[cfg(feature = "metal")]
use candle_core::MetalStorage;
use candle_core::{bail, CpuStorage, Result, Shape, Storage, Tensor};
use std::sync::Arc;

/// What planes are normalized with: `(x - mean) * rstd`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{Normalization, PlaneStats};
///
/// // Running statistics, as a batch norm has them in evaluation.
/// let (mean, var) = (Tensor::new(&[1f32], &Device::Cpu)?, Tensor::new(&[4f32], &Device::Cpu)?);
/// let stats = PlaneStats { mean, rstd: (var + 1e-5)?.sqrt()?.recip()? };
/// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
/// let y = Normalization::instance(0.).stats(&stats).forward(&x)?;
/// assert!((y.max_all()?.to_scalar::<f32>()? - 1.).abs() < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PlaneStats {
    /// The means, `[C]` or `[N, C]`.
    pub mean: Tensor,
    /// The reciprocal deviations, of the same shape or the other.
    pub rstd: Tensor,
}

/// The mean and another statistic of every plane, `(N, C)` each.
pub fn plane_stats(x: &Tensor, rule: RstdRule, stat: ScaleStat) -> Result<(Tensor, Tensor)> {
    float_dtype(x)?;
    valid_eps(rule.eps)?;
    let spec = Stats::spec(Planes::new(x.dims())?, format_of(x)?, rule);
    let stats = Stats { spec, stat }.of(&in_format(x, spec.format)?)?;
    Ok((stats.get(0)?, stats.get(1)?))
}

/// The statistics of x, as one tensor `(2, N, C)`.
#[derive(Clone, Copy)]
pub struct Stats {
    pub spec: NormSpec,
    pub stat: ScaleStat,
}

impl Stats {
    /// A norm of instances, without parameters.
    pub fn spec(planes: Planes, format: Format, rule: RstdRule) -> NormSpec {
        NormSpec {
            planes,
            format,
            channels_per_group: 1,
            rule,
            weight_offset: 0.,
            alpha: 1.,
            activation: Activation::None,
            output: Output::Normalized,
        }
    }

    /// Those of `x`, which is in the format of the norm.
    pub fn of(&self, x: &Tensor) -> Result<Tensor> {
        apply(*self, &[x])
    }
}

impl FusedOp for Stats {
    const NAME: &'static str = "norm-stats";

    fn cpu(&self, inputs: &[View<CpuStorage>]) -> Result<(CpuStorage, Shape)> {
        let stats = cpu::stats(inputs[0], &self.spec, self.stat)?;
        Ok((stats, stats_shape(&self.spec.planes)))
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, inputs: &[View<CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let stats = crate::cuda::stats(inputs[0], &self.spec, self.stat)?;
        Ok((stats, stats_shape(&self.spec.planes)))
    }

    #[cfg(feature = "metal")]
    fn metal(&self, inputs: &[View<MetalStorage>]) -> Result<(MetalStorage, Shape)> {
        let stats = crate::metal::stats(inputs[0], &self.spec, self.stat)?;
        Ok((stats, stats_shape(&self.spec.planes)))
    }

    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let x = inputs[0];
        let grad = &grad.contiguous()?;
        let storage = stats_gradient(x, grad, &self.spec, self.stat)?;
        let (spec, stat) = (self.spec, self.stat);
        let composed: Composed =
            Arc::new(move |inputs: &[Tensor]| reference::stats(&spec, stat, &inputs[0]));
        let dx = gradient(storage, x.shape().clone(), &[x], grad, &composed, 0)?;
        Ok(vec![Some(dx)])
    }
}

/// The gradient of x, in its format, for those of its statistics, `(2, N, C)` and contiguous: a
/// pass like the forward one, with another scale and shift.
fn stats_gradient(x: &Tensor, grad: &Tensor, spec: &NormSpec, stat: ScaleStat) -> Result<Storage> {
    let spec = NormSpec {
        output: Output::StatsGradient(stat),
        ..*spec
    };
    let (of_mean, of_second) = (grad.get(0)?, grad.get(1)?);
    let (x, x_layout) = x.storage_and_layout();
    let (bias, bias_layout) = of_mean.storage_and_layout();
    let (weight, weight_layout) = of_second.storage_and_layout();
    macro_rules! forward {
        ($backend:ident, $x:ident, $weight:ident, $bias:ident) => {{
            let extras = Extras {
                weight: Some(($weight, weight_layout)),
                bias: Some(($bias, bias_layout)),
                ..Extras::none()
            };
            crate::$backend::forward(($x, x_layout), &extras, &spec)?
        }};
    }
    match (&*x, &*weight, &*bias) {
        (Storage::Cpu(x), Storage::Cpu(w), Storage::Cpu(b)) => {
            Ok(Storage::Cpu(forward!(cpu, x, w, b)))
        }
        #[cfg(feature = "cuda")]
        (Storage::Cuda(x), Storage::Cuda(w), Storage::Cuda(b)) => {
            Ok(Storage::Cuda(forward!(cuda, x, w, b)))
        }
        #[cfg(feature = "metal")]
        (Storage::Metal(x), Storage::Metal(w), Storage::Metal(b)) => {
            Ok(Storage::Metal(forward!(metal, x, w, b)))
        }
        _ => bail!("{}: no backend for these tensors", Stats::NAME),
    }
}
