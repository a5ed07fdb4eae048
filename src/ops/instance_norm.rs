//! Instance norm and its gradients.
//!
//! # How mean and rstd reach the backward pass
//!
//! They do not: the backward pass recomputes them. It needs `sum(dy)` and `sum(dy * xhat)` of a
//! plane before it can write dx, so it reads x and dy in full anyway, and the moments of x come
//! out of that same sweep (`CoMoments` on the CPU, `in_bwd` on CUDA, both merge them by Chan's
//! rule together with the co-moment of x and dy). Saved statistics would spare arithmetic on data
//! that is already in registers and no byte of memory traffic; they would cost a second output,
//! which candle's custom ops do not have, and state in the op.

use super::{NormGrads, Normalization, PlaneStats};
use candle_core::{Result, Tensor};

/// Instance normalization: every `(n, c)` plane is brought to mean 0 and variance 1, then scaled
/// and shifted.
///
/// ```text
/// y = (x - mean) / sqrt(var + eps) * weight + bias
/// ```
///
/// `mean` and the biased `var` are taken over the spatial dimensions of each sample and channel,
/// as [`torch.nn.functional.instance_norm`] does with `use_input_stats=True`
/// (Ulyanov et al., [Instance Normalization](https://arxiv.org/abs/1607.08022)). Differentiable
/// in `x`, `weight` and `bias` through [`Tensor::backward`].
///
/// Sums are kept in f32 for the half types and f32, in f64 for f64, and the mean is subtracted
/// beyond the digits of an f32, so that data with a mean of 1e4 and a deviation of 1e-2 loses
/// nothing. A plane of one element, or a constant one, gives `bias` (PyTorch raises an error
/// where there is one element; so do the layers of [`nn`](crate::nn)), also with an eps of 0, as in
/// PyTorch. On the CPU no finite x is too large: where squares are beyond the largest number, the
/// pass starts again in a larger unit.
///
/// # Shapes
///
/// - `x`: `(N, C, *)` with one or more spatial dimensions, in f32, f16, bf16 or f64, of any
///   layout. Views made by `narrow`, `transpose` or `expand` over N and C are read in place, and
///   so is channels-last memory; other strided views are copied first.
/// - `weight`, `bias`: `[C]`, `[N, C]` for parameters per sample (conditional and adaptive norms),
///   or the shape of `x` (SPADE), each optional, in the dtype of `x`; those of the first two
///   shapes also in f32 if `x` is of a half type.
/// - result: the shape and dtype of `x`; channels-last where `x` is, else contiguous. An empty `x`
///   gives an empty result.
///
/// # Errors
///
/// A rank below 3, an integer dtype, a weight or bias of another shape, dtype or device, and an
/// `eps` that is negative or not finite are errors that name what was expected and what came.
/// So are f64 on Metal and a tensor of a backend whose feature is off.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::instance_norm;
///
/// let x = Tensor::new(&[[[1f32, 3.], [10., 10.]]], &Device::Cpu)?;
/// let weight = Tensor::new(&[2f32, 2.], &Device::Cpu)?;
/// let bias = Tensor::new(&[0f32, 5.], &Device::Cpu)?;
/// let y = instance_norm(&x, Some(&weight), Some(&bias), 1e-5)?.to_vec3::<f32>()?;
/// assert!((y[0][0][1] - 2.).abs() < 1e-4);
/// assert_eq!(y[0][1], [5., 5.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// [`torch.nn.functional.instance_norm`]: https://pytorch.org/docs/stable/generated/torch.nn.functional.instance_norm.html
pub fn instance_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    Normalization::instance(eps).affine(weight, bias).forward(x)
}

/// [`instance_norm`] with given statistics: `y = (x - mean) * rstd * weight + bias`.
///
/// For tiles of a picture or frames of a video that share their statistics, which
/// [`instance_stats`](crate::instance_stats) measures, and for running statistics. Differentiable
/// in every tensor.
///
/// # Shapes
///
/// - x, weight, bias, result: as in [`instance_norm`].
/// - stats: a mean and an rstd of shape `[C]` or `[N, C]`, in the dtype of x, or in f32 if x is
///   of a half type.
///
/// # Errors
///
/// The errors of [`instance_norm`], and statistics of another shape, dtype or device.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{instance_norm_with_stats, PlaneStats};
///
/// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
/// let (mean, rstd) = (Tensor::new(&[1f32], &Device::Cpu)?, Tensor::new(&[2f32], &Device::Cpu)?);
/// let y = instance_norm_with_stats(&x, &PlaneStats { mean, rstd }, None, None)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[0., 4.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn instance_norm_with_stats(
    x: &Tensor,
    stats: &PlaneStats,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    Normalization::instance(0.)
        .stats(stats)
        .affine(weight, bias)
        .forward(x)
}

/// The mean and `rstd = 1 / sqrt(var + eps)` of every `(n, c)` plane, with the biased variance: the
/// statistics that [`instance_norm`] normalizes with. rstd is 0 for a constant plane with an eps of 0.
/// Differentiable, twice with `CANDLE_GRAD_DO_NOT_DETACH=1`.
///
/// # Shapes
///
/// - x: `(N, C, *)` in f32, f16, bf16 or f64.
/// - mean, rstd: `(N, C)`, in f32, or f64 for f64.
///
/// # Errors
///
/// A rank below 3, an integer dtype, and an eps that is negative or not finite.
///
/// # Example
///
/// A picture in tiles, each normalized with the statistics of the whole:
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{instance_norm, instance_norm_with_stats, instance_stats};
///
/// let x = Tensor::randn(3f32, 2., (1, 2, 8, 8), &Device::Cpu)?;
/// let stats = instance_stats(&x, 1e-5)?;
/// let tile = instance_norm_with_stats(&x.narrow(3, 0, 4)?, &stats, None, None)?;
/// let whole = instance_norm(&x, None, None, 1e-5)?.narrow(3, 0, 4)?;
/// let difference = (tile - whole)?.abs()?.max_all()?.to_scalar::<f32>()?;
/// assert!(difference < 1e-5);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn instance_stats(x: &Tensor, eps: f64) -> Result<PlaneStats> {
    Normalization::instance(eps).measure(x)
}

/// The gradients of [`instance_norm`] for an upstream gradient `dy`, in one fused pass.
///
/// ```text
/// dx      = weight * rstd * (dy - mean(dy) - xhat * mean(dy * xhat))
/// dweight = sum(dy * xhat)       over the plane, and over N for a weight of shape [C]
/// dbias   = sum(dy)              likewise
/// ```
///
/// with `xhat = (x - mean) * rstd`. [`Tensor::backward`] calls the same code; called directly it
/// spares the passes that candle's autograd adds around a custom op (it fills a tensor of zeros
/// and adds the gradient to it).
///
/// # Shapes
///
/// - `x`, `weight`, `bias`: as in [`instance_norm`]. Of `bias` only shape and dtype are used.
/// - `dy`: the shape and dtype of `x`, of any layout.
///
/// # Errors
///
/// The errors of [`instance_norm`], and a `dy` that differs from `x` in shape, dtype or device. The results
/// can be differentiated once more with `CANDLE_GRAD_DO_NOT_DETACH=1`, without it that is an
/// error, never zero.
///
/// # Example
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::instance_norm_backward;
///
/// let x = Tensor::new(&[[[1f32, 3., 8.]]], &Device::Cpu)?;
/// // A constant gradient moves only the bias.
/// let dy = Tensor::new(&[[[2f32, 2., 2.]]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0f32], &Device::Cpu)?;
/// let grads = instance_norm_backward(&x, None, Some(&bias), &dy, 1e-5)?;
/// assert_eq!(grads.x.to_vec3::<f32>()?, [[[0., 0., 0.]]]);
/// assert_eq!(grads.bias.unwrap().to_vec1::<f32>()?, [6.]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn instance_norm_backward(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    dy: &Tensor,
    eps: f64,
) -> Result<NormGrads> {
    Normalization::instance(eps)
        .affine(weight, bias)
        .backward(x, dy)
}
