//! The builder of the one op behind the family.

use super::stats::PlaneStats;
use crate::spec::{Activation, EpsMode, Extras, NormSpec, RstdRule};
use candle_core::Tensor;

/// A normalization with its parameters, a residual and an activation, all in one pass over memory:
///
/// ```text
/// z = (x - mean) / sqrt(var + eps)
/// v = alpha * (z * (weight_offset + weight) + bias) + (1 - alpha) * x + residual
/// y = activation(v)
/// ```
///
/// with the weight_offset 1 after [`one_plus_weight`](Self::one_plus_weight), else 0, and the alpha of
/// [`blend`](Self::blend), else 1; without a weight the factor is 1. The mean and
/// variance are those of each sample and channel ([`instance`](Self::instance)), of neighbouring
/// channels of a sample ([`group`](Self::group)), or given ones ([`stats`](Self::stats)).
///
/// Differentiable in every tensor that is part of it, twice with `CANDLE_GRAD_DO_NOT_DETACH=1`. The
/// statistics are accumulated in f32 (f64 for f64), with the mean kept to twice the digits; half
/// types are rounded once, at the end.
///
/// # Shapes
///
/// - x: `(N, C, *)` with one or more spatial dimensions, or, in groups, `(N, C)`, in f32, f16, bf16
///   or f64. Views made by `narrow`, `transpose` or `expand` over N and C are read in place, and so
///   is channels-last memory: an `(N, C, *)` view of a contiguous `(N, *, C)`. Other views are
///   copied first.
/// - weight, bias: `[C]`, `[N, C]`, or the shape of x, each optional. In the dtype of x; those of
///   the first two shapes also in f32 if x is of a half type.
/// - residual: the shape and dtype of x.
/// - result: the shape and dtype of x; channels-last where x is, else contiguous.
///
/// # Errors
///
/// Shapes, dtypes or devices that do not fit; an eps that is negative or not finite; a weight per
/// element with a bias that is not, or the other way round; a number of groups that does not divide
/// the channels; a correction above 1; an alpha or a slope that is not finite; an alpha other than 1
/// with parameters per element. The message says what was expected and what came.
/// Also f64 on Metal, and a tensor of a backend whose feature is off.
///
/// # Example
///
/// The end of a block of a residual network:
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{Activation, Normalization};
///
/// let x = Tensor::randn(0f32, 1., (1, 8, 16, 16), &Device::Cpu)?;
/// let skip = x.clone();
/// let y = Normalization::instance(1e-5)
///     .residual(&skip)
///     .activation(Activation::Relu)
///     .forward(&x)?;
/// assert!(y.min_all()?.to_scalar::<f32>()? >= 0.);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Normalization {
    /// The number of groups of channels; `None` for instance norm.
    pub(super) groups: Option<usize>,
    /// Without the planes, the format and the size of a group, which follow from x.
    pub(super) spec: NormSpec,
    pub(crate) extras: Extras<Tensor>,
}

impl Normalization {
    /// Instance norm (Ulyanov et al., [1607.08022](https://arxiv.org/abs/1607.08022)).
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
    /// let y = Normalization::instance(0.).forward(&x)?;
    /// assert_eq!(y.to_vec3::<f32>()?, [[[-1., 1.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn instance(eps: f64) -> Self {
        Self {
            groups: None,
            spec: NormSpec::instance(eps),
            extras: Extras::none(),
        }
    }

    /// Group norm (Wu and He, [1803.08494](https://arxiv.org/abs/1803.08494)): the channels of each of
    /// `groups` groups share their statistics. 1 group is layer norm over `(C, *)`. x may also be of
    /// shape `(N, C)`.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32], [3.]]], &Device::Cpu)?;
    /// let y = Normalization::group(1, 0.).forward(&x)?;
    /// assert_eq!(y.to_vec3::<f32>()?, [[[-1.], [1.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn group(groups: usize, eps: f64) -> Self {
        Self {
            groups: Some(groups),
            ..Self::instance(eps)
        }
    }

    /// A weight, which the normalized x is multiplied by: per channel `[C]`, per sample `[N, C]`
    /// (conditional and adaptive norms) or per element (SPADE).
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
    /// let (weight, bias) = (Tensor::new(&[2f32], &Device::Cpu)?, Tensor::new(&[5f32], &Device::Cpu)?);
    /// let y = Normalization::instance(0.).weight(&weight).bias(&bias).forward(&x)?;
    /// assert_eq!(y.to_vec3::<f32>()?, [[[3., 7.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn weight(mut self, weight: &Tensor) -> Self {
        self.extras.weight = Some(weight.clone());
        self
    }

    /// A bias, which is added after the weight; its shape is one that a weight may have.
    pub fn bias(mut self, bias: &Tensor) -> Self {
        self.extras.bias = Some(bias.clone());
        self
    }

    /// A weight and a bias, each optional.
    pub(crate) fn affine(mut self, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Self {
        self.extras.weight = weight.cloned();
        self.extras.bias = bias.cloned();
        self
    }

    /// Multiplies by 1 + weight, for the checkpoints of StyleGAN1, StarGAN v2 and SPADE, which store
    /// weight - 1.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
    /// let norm = Normalization::instance(0.).weight(&Tensor::new(&[2f32], &Device::Cpu)?);
    /// assert_eq!(norm.one_plus_weight().forward(&x)?.to_vec3::<f32>()?, [[[-3., 3.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn one_plus_weight(mut self) -> Self {
        self.spec.weight_offset = 1.;
        self
    }

    /// Given statistics, instead of those of x: for tiles, for video, for running statistics. The eps
    /// and the groups have no effect then.
    pub fn stats(mut self, stats: &PlaneStats) -> Self {
        self.extras.stats = Some([stats.mean.clone(), stats.rstd.clone()]);
        self
    }

    /// The place of eps; [`EpsMode::AddToVar`] by default.
    pub fn eps_mode(mut self, mode: EpsMode) -> Self {
        self.spec.rule.mode = mode;
        self
    }

    /// Variances divide by the number of elements less this: 0 by default, or 1, `torch.var`'s default.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32, 1., 1., 5.]]], &Device::Cpu)?;
    /// // The sum of squares is 12, the variance 12 / (4 - 1).
    /// let y = Normalization::instance(0.).correction(1).forward(&x)?;
    /// assert_eq!(y.to_vec3::<f32>()?, [[[-0.5, -0.5, -0.5, 1.5]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn correction(mut self, correction: u32) -> Self {
        self.spec.rule.correction = correction;
        self
    }

    /// Blends `alpha` of the normalized x with `1 - alpha` of x itself, before the residual and the
    /// activation: the strength of a style in AdaIN (Huang and Belongie,
    /// [1703.06868](https://arxiv.org/abs/1703.06868)).
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
    /// let y = Normalization::instance(0.).blend(0.5).forward(&x)?;
    /// assert_eq!(y.to_vec3::<f32>()?, [[[0., 2.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn blend(mut self, alpha: f64) -> Self {
        self.spec.alpha = alpha;
        self
    }

    /// A residual of the shape of x, added before the activation.
    pub fn residual(mut self, residual: &Tensor) -> Self {
        self.extras.residual = Some(residual.clone());
        self
    }

    /// An activation, applied after the residual.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.spec.activation = activation;
        self
    }

    /// The rule for rstd.
    pub(crate) fn rule(&self) -> RstdRule {
        self.spec.rule
    }
}
