//! Statistics of planes as tensors.

use super::custom_op::{Backend, FusedOp, apply};
use super::double_backward::{Composed, gradient};
use super::norm_op::NormOp;
use super::off_graph::on_backend;
use super::reference;
use crate::shapes::{
    ParamShape, ParamSpec, Planes, acc_dtype, float_dtype, format_of, in_format, valid_eps,
};
use crate::spec::{Extras, NormSpec, Output, RstdRule, ScaleStat, View, stats_shape};
use candle_core::{Result, Shape, Storage, Tensor};
use std::sync::Arc;

/// The statistics that planes are normalized with, `(x - mean) * rstd`, measured by
/// [`instance_stats`](crate::instance_stats) or [`Normalization::measure`](crate::Normalization::measure), or
/// running ones.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{instance_stats, Normalization};
///
/// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
/// let stats = instance_stats(&x, 0.)?;
/// assert_eq!(stats.mean.to_vec2::<f32>()?, [[2.]]);
/// let y = Normalization::instance(0.).stats(&stats).forward(&(x * 2.)?)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[0., 4.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PlaneStats {
    /// The means, `[C]` or `[N, C]`.
    pub mean: Tensor,
    /// The reciprocal deviations, of the same shape or the other.
    pub rstd: Tensor,
}

impl PlaneStats {
    /// The statistics with `rstd = 1 / sqrt(var + eps)`: those of a batch norm in evaluation, from its
    /// running mean and variance. Differentiable.
    ///
    /// # Shapes
    ///
    /// - mean, var: `[C]` or `[N, C]`.
    /// - rstd: the shape of var, in f32, or f64 for f64.
    ///
    /// # Errors
    ///
    /// An eps that is negative or not finite.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use candle_instance_norm::PlaneStats;
    ///
    /// let (mean, var) = (Tensor::new(&[1f32], &Device::Cpu)?, Tensor::new(&[4f32], &Device::Cpu)?);
    /// let stats = PlaneStats::from_var(&mean, &var, 0.)?;
    /// assert_eq!(stats.rstd.to_vec1::<f32>()?, [0.5]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn from_var(mean: &Tensor, var: &Tensor, eps: f64) -> Result<Self> {
        valid_eps(eps)?;
        let var = var.to_dtype(acc_dtype(var.dtype()))?;
        Self::with_rule(mean, &var, &eps.into())
    }

    /// The statistics of a variance by a rule without a correction.
    pub(crate) fn with_rule(mean: &Tensor, var: &Tensor, rule: &RstdRule) -> Result<Self> {
        Ok(Self {
            mean: mean.clone(),
            rstd: reference::rstd(rule, var, 1.)?,
        })
    }
}

/// The mean and another statistic of every plane, `(N, C)` each.
pub fn plane_stats(x: &Tensor, rule: RstdRule, stat: ScaleStat) -> Result<(Tensor, Tensor)> {
    float_dtype(x)?;
    valid_eps(rule.eps)?;
    let stats = Stats::new(x, rule, stat)?;
    let stats = stats.of(&in_format(x, stats.spec.format)?)?;
    Ok((stats.get(0)?, stats.get(1)?))
}

/// The mean and another statistic of every plane of x, as one tensor `(2, N, C)`.
#[derive(Clone, Copy)]
pub struct Stats {
    pub spec: NormSpec,
    pub stat: ScaleStat,
}

impl Stats {
    pub fn new(x: &Tensor, rule: RstdRule, stat: ScaleStat) -> Result<Self> {
        let spec = NormSpec {
            planes: Planes::new(x.dims())?,
            format: format_of(x)?,
            ..NormSpec::instance(rule)
        };
        Ok(Self { spec, stat })
    }

    /// The statistics of `x`, which is in the format of the spec.
    pub fn of(&self, x: &Tensor) -> Result<Tensor> {
        apply(*self, &[x])
    }

    /// The gradient of x for that of its statistics, which is contiguous: a forward pass with another
    /// scale and shift.
    fn backward(&self, x: &Tensor, grad: &Tensor) -> Result<Storage> {
        let (of_mean, of_scale) = (grad.get(0)?, grad.get(1)?);
        let per_plane = Some(ParamSpec {
            shape: ParamShape::PerSample,
            dtype: grad.dtype(),
        });
        let op = NormOp {
            spec: NormSpec {
                output: Output::StatsGradient(self.stat),
                ..self.spec
            },
            params: Extras {
                weight: per_plane,
                bias: per_plane,
                ..Extras::none()
            },
        };
        on_backend!(&[x, &of_scale, &of_mean], |views| Ok(op
            .run(views)?
            .0
            .wrap()))
    }
}

impl FusedOp for Stats {
    const NAME: &'static str = "norm-stats";

    fn run<S: Backend>(&self, inputs: &[View<S>]) -> Result<(S, Shape)> {
        let stats = S::stats(inputs[0], &self.spec, self.stat)?;
        Ok((stats, stats_shape(&self.spec.planes)))
    }

    fn bwd(&self, inputs: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let grad = &grad.contiguous()?;
        let storage = self.backward(inputs[0], grad)?;
        let Self { spec, stat } = *self;
        let composed: Composed =
            Arc::new(move |inputs: &[Tensor]| reference::stats(&spec, stat, &inputs[0]));
        let dx = gradient(storage, inputs, grad, &composed, 0)?;
        Ok(vec![Some(dx)])
    }
}
