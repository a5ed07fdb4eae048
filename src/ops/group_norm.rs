//! Group norm.

use super::Normalization;
use candle_core::{Result, Tensor};

/// Group normalization (Wu and He, [1803.08494](https://arxiv.org/abs/1803.08494)):
/// `y = (x - mean) / sqrt(var + eps) * weight + bias`, with the mean and the biased variance of
/// each sample and group of neighbouring channels, as
/// [`torch.nn.functional.group_norm`](https://pytorch.org/docs/stable/generated/torch.nn.functional.group_norm.html).
///
/// C groups are instance norm, 1 group is layer norm over `(C, *)`. With an activation or a
/// residual in the same pass: [`Normalization::group`].
///
/// # Shapes
///
/// - x: `(N, C, *)`, or `(N, C)`, in f32, f16, bf16 or f64, of any layout.
/// - weight, bias: `[C]`, each optional, in the dtype of x, or in f32 if x is of a half type.
/// - result: the shape and dtype of x.
///
/// # Errors
///
/// The errors of [`Normalization`]: shapes, dtypes, devices and eps that do not fit, and a number of groups
/// that does not divide C.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::group_norm;
///
/// let x = Tensor::new(&[[[1f32], [3.], [5.], [9.]]], &Device::Cpu)?;
/// let y = group_norm(&x, 2, None, None, 0.)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[-1.], [1.], [-1.], [1.]]]);
/// assert!(group_norm(&x, 3, None, None, 0.).is_err());
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    Normalization::group(groups, eps)
        .affine(weight, bias)
        .forward(x)
}
