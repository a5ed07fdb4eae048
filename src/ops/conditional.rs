//! Conditional instance norm: the parameters of each sample are a row of two tables.

use super::Normalization;
use crate::shapes::acc_dtype;
use candle_core::{DType, Result, Tensor, bail};

/// Conditional instance normalization (Dumoulin et al., [A Learned Representation For Artistic
/// Style](https://arxiv.org/abs/1610.07629)): the weight and bias of each sample, gamma and beta in the
/// paper, are the rows of its style.
///
/// ```text
/// y[n] = (x[n] - mean) / sqrt(var + eps) * gamma[ids[n]] + beta[ids[n]]
/// ```
///
/// Magenta's `image_stylization` has it as `conditional_instance_norm`, with an eps of 1e-5. One pass
/// over x, differentiable in x, gamma and beta; the gradient of a row is the sum over the samples that
/// use it, in f32 for the half types. The layer is
/// [`nn::ConditionalInstanceNorm`](crate::nn::ConditionalInstanceNorm).
///
/// # Shapes
///
/// - x: `(N, C, *)` in f32, f16, bf16 or f64.
/// - gamma, beta: `(K, C)` for K styles, in f32 or a half type, or in f64 for an f64 x.
/// - ids: `(N)` in u32 or i64, from 0 to K - 1. They are checked before the pass; ids on a GPU are
///   copied to the host for that, and the call waits for them.
/// - result: the shape and dtype of x.
///
/// # Errors
///
/// An id outside the tables; tables and ids of another shape, dtype or device; and the errors of
/// [`Normalization`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::conditional_instance_norm;
///
/// let x = Tensor::new(&[[[1f32, 3.]], [[5., 9.]]], &Device::Cpu)?;
/// let gamma = Tensor::new(&[[1f32], [2.], [3.]], &Device::Cpu)?;
/// let beta = Tensor::new(&[[0f32], [10.], [20.]], &Device::Cpu)?;
/// let ids = Tensor::new(&[2u32, 0], &Device::Cpu)?;
/// let y = conditional_instance_norm(&x, &gamma, &beta, &ids, 0.)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[17., 23.]], [[-1., 1.]]]);
/// assert!(conditional_instance_norm(&x, &gamma, &beta, &Tensor::new(&[2u32, 3], &Device::Cpu)?, 0.).is_err());
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn conditional_instance_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    ids: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    by_ids(x, gamma, beta, ids, eps)?.forward(x)
}

/// [`conditional_instance_norm`] with a mixture of the styles for each sample.
///
/// ```text
/// y[n] = (x[n] - mean) / sqrt(var + eps) * sum_k(w[n, k] gamma[k]) + sum_k(w[n, k] beta[k])
/// ```
///
/// The weights are taken as they are, as Magenta's `weighted_instance_norm` does: those of an
/// interpolation add up to 1. Differentiable in x, gamma, beta and the weights; the mixtures are
/// computed in f32 for the half types.
///
/// # Shapes
///
/// - x, gamma, beta, result: as in [`conditional_instance_norm`].
/// - weights: `(N, K)`, in a dtype that the tables may have.
///
/// # Errors
///
/// The errors of [`conditional_instance_norm`], but for the ids; weights of another shape.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::conditional_instance_norm_mix;
///
/// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
/// let gamma = Tensor::new(&[[2f32], [4.]], &Device::Cpu)?;
/// let beta = Tensor::new(&[[0f32], [10.]], &Device::Cpu)?;
/// let weights = Tensor::new(&[[0.5f32, 0.5]], &Device::Cpu)?;
/// let y = conditional_instance_norm_mix(&x, &gamma, &beta, &weights, 0.)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[2., 8.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn conditional_instance_norm_mix(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    weights: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    by_weights(x, gamma, beta, weights, eps)?.forward(x)
}

pub(crate) fn by_ids(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    ids: &Tensor,
    eps: f64,
) -> Result<Normalization> {
    let (n, k) = samples_and_styles(x, gamma, beta)?;
    if !matches!(ids.dtype(), DType::U32 | DType::I64) || ids.dims() != [n] {
        bail!(
            "norm: expected ids of shape [{n}] and dtype U32 or I64, got {:?} and {:?}",
            ids.dims(),
            ids.dtype()
        );
    }
    for (sample, id) in ids
        .to_dtype(DType::I64)?
        .to_vec1::<i64>()?
        .into_iter()
        .enumerate()
    {
        if usize::try_from(id).map_or(true, |id| id >= k) {
            bail!("norm: expected ids below the {k} styles, got {id} for sample {sample}");
        }
    }
    let ids = &ids.contiguous()?;
    let rows = |table: &Tensor| wide(table, x)?.contiguous()?.index_select(ids, 0);
    let norm = Normalization::instance(eps);
    Ok(norm.weight(&rows(gamma)?).bias(&rows(beta)?))
}

pub(crate) fn by_weights(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    weights: &Tensor,
    eps: f64,
) -> Result<Normalization> {
    let (n, k) = samples_and_styles(x, gamma, beta)?;
    if weights.dims() != [n, k] {
        bail!(
            "norm: expected weights of shape [{n}, {k}] for {n} samples and {k} styles, got {:?}",
            weights.dims()
        );
    }
    let weights = wide(weights, x)?.contiguous()?;
    let mixed = |table: &Tensor| weights.matmul(&wide(table, x)?.contiguous()?);
    let norm = Normalization::instance(eps);
    Ok(norm.weight(&mixed(gamma)?).bias(&mixed(beta)?))
}

fn samples_and_styles(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<(usize, usize)> {
    match (x.dims(), gamma.dims(), beta.dims()) {
        ([n, c, _, ..], [k, width], of_beta) if c == width && of_beta == [*k, *c] => Ok((*n, *k)),
        (x, gamma, beta) => bail!(
            "norm: expected x of shape (N, C, *) and tables of shape (K, C), got {x:?}, {gamma:?} and {beta:?}"
        ),
    }
}

/// `t` in the dtype that the norm computes in: f32 for the half types. A dtype that no parameter of
/// `x` may have stays, for the norm to refuse.
fn wide(t: &Tensor, x: &Tensor) -> Result<Tensor> {
    match t.dtype() {
        DType::F16 | DType::BF16 if acc_dtype(x.dtype()) == DType::F32 => t.to_dtype(DType::F32),
        _ => Ok(t.clone()),
    }
}
