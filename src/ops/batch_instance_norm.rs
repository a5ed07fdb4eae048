//! Batch-instance norm: both norms in learned proportions, in one pass.

use super::stats::plane_stats;
use super::{Normalization, PlaneStats};
use crate::shapes::Planes;
use crate::spec::ScaleStat;
use candle_core::{Result, Tensor, bail};

/// Batch-instance normalization (Nam and Kim,
/// [1805.07925](https://arxiv.org/abs/1805.07925)), as the authors'
/// [hyeonseobnam/Batch-Instance-Normalization](https://github.com/hyeonseobnam/Batch-Instance-Normalization):
///
/// ```text
/// y = BN(x) * weight * gate + IN(x) * weight * (1 - gate) + bias
/// ```
///
/// Both norms take biased variances and the same eps. The statistics of the batch are merged from
/// those of the planes, so that x is read twice: once for all statistics, once for y. The gate is
/// not clamped; the authors clamp it to 0 to 1 after each step of the optimizer, see
/// [`nn::BatchInstanceNorm`](crate::nn::BatchInstanceNorm), the layer with running statistics.
/// Differentiable in every tensor.
///
/// The variances are tensors in f32 (f64 for f64): where x is so large that one of them is infinite,
/// some 1e19 in f32, its plane gives the bias alone.
///
/// # Shapes
///
/// - x: `(N, C, *)` in f32, f16, bf16 or f64.
/// - weight, bias: `(C)`, each optional; gate: `(C)`; in the dtype of x, or in f32 if x is of a half type.
/// - batch: the statistics for BN, `(C)` each: those of x if `None`; in evaluation the running ones,
///   see [`PlaneStats::from_var`].
/// - result: the shape and dtype of x.
///
/// # Errors
///
/// Shapes, dtypes or devices that do not fit, and an eps that is negative or not finite.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{batch_instance_norm, instance_norm};
///
/// let x = Tensor::randn(0f32, 1., (2, 3, 4, 4), &Device::Cpu)?;
/// let gate = Tensor::zeros(3, x.dtype(), &Device::Cpu)?;
/// let y = batch_instance_norm(&x, None, None, &gate, None, 1e-5)?;
/// let instance = instance_norm(&x, None, None, 1e-5)?;
/// assert!((y - instance)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn batch_instance_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    gate: &Tensor,
    batch: Option<&PlaneStats>,
    eps: f64,
) -> Result<Tensor> {
    let planes = BatchMoments::of_planes(x)?;
    let batch = match batch {
        Some(batch) => batch.clone(),
        None => planes.merged()?.stats(eps)?,
    };
    gated(x, weight, bias, gate, &planes, &batch, eps)
}

/// Means and biased variances, `(N, C)` of planes or `(C)` of a batch.
pub(crate) struct BatchMoments {
    pub mean: Tensor,
    pub var: Tensor,
}

impl BatchMoments {
    pub fn of_planes(x: &Tensor) -> Result<Self> {
        let (mean, var) = plane_stats(x, 0f64.into(), ScaleStat::Var)?;
        Ok(Self { mean, var })
    }

    /// The moments of all samples together, from planes of one size (Chan et al., 1979): the mean of
    /// the variances and the variance of the means.
    pub fn merged(&self) -> Result<Self> {
        let mean = self.mean.mean(0)?;
        let between = self.mean.broadcast_sub(&mean)?.sqr()?;
        let var = (&self.var + between)?.mean(0)?;
        Ok(Self { mean, var })
    }

    pub fn stats(&self, eps: f64) -> Result<PlaneStats> {
        PlaneStats::with_rule(&self.mean, &self.var, &eps.into())
    }
}

/// Both norms as one affine map of each plane: with the means m and reciprocal deviations r,
///
/// ```text
/// y = weight * (x - m_in) * (gate r_bn + (1 - gate) r_in) + weight * gate * r_bn (m_in - m_bn) + bias
/// ```
pub(crate) fn gated(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    gate: &Tensor,
    planes: &BatchMoments,
    batch: &PlaneStats,
    eps: f64,
) -> Result<Tensor> {
    let Planes { c, .. } = Planes::new(x.dims())?;
    let wide = planes.mean.dtype();
    let fits = |name: &str, t: &Tensor| -> Result<Tensor> {
        let dtype = t.dtype();
        if t.dims() != [c] || (dtype != x.dtype() && dtype != wide) {
            bail!(
                "norm: expected a {name} of shape [{c}] and dtype {:?} or {wide:?}, got {:?} and {dtype:?}",
                x.dtype(),
                t.dims()
            );
        }
        t.to_dtype(wide)
    };
    let gate = fits("gate", gate)?;
    let batch_mean = fits("batch mean", &batch.mean)?;
    let of_batch = (&gate * fits("batch rstd", &batch.rstd)?)?;
    let PlaneStats { mean, rstd } = planes.stats(eps)?;
    let of_planes = rstd.broadcast_mul(&gate.affine(-1., 1.)?)?;
    let rstd = of_planes.broadcast_add(&of_batch)?;
    let mut shift = mean.broadcast_sub(&batch_mean)?.broadcast_mul(&of_batch)?;
    // In one dtype for both of its uses, so that the sum of their gradients is rounded once.
    let weight = weight.map(|weight| fits("weight", weight)).transpose()?;
    if let Some(weight) = &weight {
        shift = shift.broadcast_mul(weight)?;
    }
    if let Some(bias) = bias {
        shift = shift.broadcast_add(&fits("bias", bias)?)?;
    }
    Normalization::instance(eps)
        .stats(&PlaneStats { mean, rstd })
        .affine(weight.as_ref(), Some(&shift))
        .forward(x)
}
