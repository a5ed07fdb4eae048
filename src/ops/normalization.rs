//! The one op behind the family, with everything that can be chosen about it.

use super::checked::{from_format, in_format};
use super::stats::{plane_stats, PlaneStats};
use crate::args::{Activation, Beside, EpsMode, Gradients, Rule, Second, Wanted};
use candle_core::{bail, Result, Tensor};

/// A normalization, what it is scaled by, and what follows it, all in one pass over memory:
///
/// ```text
/// z = (x - mean) / sqrt(var + eps)
/// v = alpha * (z * (weight_offset + weight) + bias) + (1 - alpha) * x + residual
/// y = activation(v)
/// ```
///
/// where weight_offset is 1 with [`one_plus_weight`](Self::one_plus_weight) and else 0, alpha is that of
/// [`blend`](Self::blend) and else 1, and without a weight the factor is 1. The mean and
/// variance are those of each sample and channel ([`instance`](Self::instance)), of neighbouring channels of
/// a sample ([`group`](Self::group)), or given ones ([`stats`](Self::stats)). Differentiable in every tensor that is part of it, twice with
/// `CANDLE_GRAD_DO_NOT_DETACH=1`. The statistics are accumulated in f32 (f64 for f64), with the
/// mean kept to twice the digits; half types are rounded once, at the end.
///
/// # Shapes
///
/// - x: `(N, C, *)` with one or more spatial dimensions, or, in groups, `(N, C)`, in f32, f16, bf16 or
///   f64. Views made by
///   `narrow`, `transpose` or `expand` over N and C are read in place, and so is channels-last
///   memory: an `(N, C, *)` view of a contiguous `(N, *, C)`. Other views are copied first.
/// - weight, bias: `[C]`, `[N, C]`, or the shape of x, each optional. In the dtype of x; those of
///   the first two shapes also in f32 beside a half x.
/// - residual: the shape and dtype of x.
/// - result: the shape and dtype of x; channels-last where x is, else contiguous.
///
/// # Errors
///
/// Shapes, dtypes or devices that do not fit, an eps that is negative or not finite, a weight per
/// element beside a bias that is not (or the other way round), a number of groups that does not divide
/// the channels, a correction above 1, an alpha or a slope that is not finite, and an alpha other than 1
/// beside parameters per element or given statistics: the message says what was expected and what came.
/// On Metal, f64; a tensor of a backend whose feature is off.
///
/// # Example
///
/// What follows every convolution of a residual network:
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
    /// `None` where every channel has statistics of its own.
    pub(super) groups: Option<usize>,
    pub(super) rule: Rule,
    pub(super) weight_offset: f64,
    pub(super) alpha: f64,
    pub(super) activation: Activation,
    pub(super) beside: Beside<Tensor>,
}

/// The gradients of a [`Normalization`]; those of absent tensors are `None`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NormGrads {
    /// Of the shape and dtype of x.
    pub x: Tensor,
    /// Of the shape and dtype of the weight.
    pub weight: Option<Tensor>,
    /// Of the shape and dtype of the bias.
    pub bias: Option<Tensor>,
    /// Of the shape and dtype of the residual.
    pub residual: Option<Tensor>,
    /// Of given statistics: the gradients of the mean and of rstd, of their shapes and dtypes.
    pub stats: Option<PlaneStats>,
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
            rule: Rule::new(eps, EpsMode::AddToVar),
            weight_offset: 0.,
            alpha: 1.,
            activation: Activation::None,
            beside: Beside::none(),
        }
    }

    /// Group norm (Wu and He, [1803.08494](https://arxiv.org/abs/1803.08494)): `groups` parts of
    /// the channels share their statistics. 1 group is layer norm over `(C, *)`. An x of shape
    /// `(N, C)` will do: C / groups numbers of a sample share theirs.
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

    /// Multiplies by a weight: per channel `[C]`, per sample `[N, C]` (conditional and adaptive
    /// norms) or per element (SPADE).
    pub fn weight(mut self, weight: &Tensor) -> Self {
        self.beside.weight = Some(weight.clone());
        self
    }

    /// Adds a bias, of a shape as the weight's.
    pub fn bias(mut self, bias: &Tensor) -> Self {
        self.beside.bias = Some(bias.clone());
        self
    }

    /// Both or one of them, or none.
    pub(crate) fn affine(mut self, weight: Option<&Tensor>, bias: Option<&Tensor>) -> Self {
        self.beside.weight = weight.cloned();
        self.beside.bias = bias.cloned();
        self
    }

    /// The weight is stored as what it exceeds 1 by: StyleGAN1, StarGAN v2, SPADE.
    pub fn one_plus_weight(mut self) -> Self {
        self.weight_offset = 1.;
        self
    }

    /// Normalizes with these instead of the statistics of x: for tiles, for video, for running
    /// statistics. The eps and the groups have no effect then.
    pub fn stats(mut self, stats: &PlaneStats) -> Self {
        self.beside.given = Some([stats.mean.clone(), stats.rstd.clone()]);
        self
    }

    /// Where eps is added; [`EpsMode::AddToVar`] by default.
    pub fn eps_mode(mut self, mode: EpsMode) -> Self {
        self.rule.mode = mode;
        self
    }

    /// Divides the sum of squares by the number of elements less this, 0 or 1, for the variance.
    pub fn correction(mut self, correction: u32) -> Self {
        self.rule.correction = correction;
        self
    }

    /// `alpha` of the normalized x and `1 - alpha` of x itself, before the residual and the
    /// activation: the strength of AdaIN.
    pub fn blend(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Adds a tensor of the shape of x, before the activation.
    pub fn residual(mut self, residual: &Tensor) -> Self {
        self.beside.residual = Some(residual.clone());
        self
    }

    /// Applies this at last.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// The result, differentiable.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.is_of_vectors(x) {
            return self.of_planes()?.forward(&x.unsqueeze(2)?)?.squeeze(2);
        }
        let call = self.call(x)?;
        from_format(&call.forward()?, call.norm.format)
    }

    /// Overwrites x with the result: inference without an allocation.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), and where a gradient would be lost (x or another tensor is
    /// tracked), x is not contiguous (planar or channels-last), or it shares memory with another
    /// input.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
    /// Normalization::instance(0.).forward_in_place(&x)?;
    /// assert_eq!(x.to_vec3::<f32>()?, [[[-1., 1.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn forward_in_place(&self, x: &Tensor) -> Result<()> {
        if self.is_of_vectors(x) {
            return self.of_planes()?.forward_in_place(&x.unsqueeze(2)?);
        }
        let call = self.call(x)?;
        // A view whose planes are not adjacent was copied for the call: its result would be lost.
        let laid = &call.inputs.x;
        let (storage, of_x) = (laid.storage_and_layout().0, x.storage_and_layout().0);
        let copied = !std::ptr::eq(&*storage, &*of_x);
        drop((storage, of_x));
        if call.inputs.list().iter().any(|t| t.track_op()) {
            bail!("norm: expected tensors without gradients to work in place, got a tracked one; detach() it");
        }
        if copied || !laid.is_contiguous() {
            bail!(
                "norm: expected a contiguous x to work in place, got {:?}",
                x.layout()
            );
        }
        call.forward_in_place()
    }

    /// The gradients of all tensors for the gradient `dy` of the result: what
    /// [`Tensor::backward`] computes, without the passes that candle's autograd adds around it.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), and where `dy` differs from x in shape, dtype or device.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let x = Tensor::new(&[[[1f32, 3., 8.]]], &Device::Cpu)?;
    /// let dy = Tensor::new(&[[[2f32, 2., 2.]]], &Device::Cpu)?;
    /// let norm = Normalization::instance(1e-5).residual(&x);
    /// let grads = norm.backward(&x, &dy)?;
    /// // A gradient that is the same everywhere passes by the norm.
    /// assert_eq!(grads.x.to_vec3::<f32>()?, [[[0., 0., 0.]]]);
    /// assert_eq!(grads.residual.unwrap().to_vec3::<f32>()?, [[[2., 2., 2.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn backward(&self, x: &Tensor, dy: &Tensor) -> Result<NormGrads> {
        if self.is_of_vectors(x) {
            let planes = self.of_planes()?;
            let grads = planes.backward(&x.unsqueeze(2)?, &dy.unsqueeze(dy.rank())?)?;
            return Ok(NormGrads {
                x: grads.x.squeeze(2)?,
                residual: grads.residual.map(|t| t.squeeze(2)).transpose()?,
                ..grads
            });
        }
        let call = self.call(x)?;
        let params = &call.params;
        let wanted = Wanted {
            x: true,
            weight: params.weight,
            bias: params.bias,
            v: params.residual.is_some(),
            mean: params.given.map(|given| given[0]),
            rstd: params.given.map(|given| given[1]),
        };
        let format = call.norm.format;
        let Gradients {
            x: Some(dx),
            weight,
            bias,
            v,
            mean,
            rstd,
        } = call.backward(&in_format(dy, format)?, &wanted)?
        else {
            bail!("norm: the gradient of x is missing")
        };
        let param = |grad: Option<Tensor>| {
            grad.map(|t| match t.shape() == dx.shape() {
                true => from_format(&t, format),
                false => Ok(t),
            })
            .transpose()
        };
        Ok(NormGrads {
            weight: param(weight)?,
            bias: param(bias)?,
            residual: param(v)?,
            stats: mean.zip(rstd).map(|(mean, rstd)| PlaneStats { mean, rstd }),
            x: from_format(&dx, format)?,
        })
    }

    /// Whether x is `(N, C)`, which is grouped as planes of one element are.
    fn is_of_vectors(&self, x: &Tensor) -> bool {
        self.groups.is_some() && x.rank() == 2
    }

    /// The same of `(N, C, 1)`, where it is of `(N, C)`.
    fn of_planes(&self) -> Result<Self> {
        let mut this = self.clone();
        if let Some(residual) = &mut this.beside.residual {
            if residual.rank() == 2 {
                *residual = residual.unsqueeze(2)?;
            }
        }
        Ok(this)
    }

    /// The statistics of every `(n, c)` plane of x, with this eps and correction: what
    /// [`stats`](Self::stats) takes, to normalize another tensor like this one. `(N, C)` each, in
    /// f32, or f64 for f64; differentiable.
    ///
    /// # Errors
    ///
    /// As [`instance_stats`](crate::instance_stats), and where groups share their statistics.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let picture = Tensor::randn(3f32, 2., (1, 2, 8, 8), &Device::Cpu)?;
    /// let norm = Normalization::instance(1e-5);
    /// let of_picture = norm.measure(&picture)?;
    /// let tile = norm.stats(&of_picture).forward(&picture.narrow(3, 0, 4)?)?;
    /// assert_eq!(tile.dims(), [1, 2, 8, 4]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn measure(&self, x: &Tensor) -> Result<PlaneStats> {
        let (mean, rstd) = self.plane_stats(x, Second::Rstd)?;
        Ok(PlaneStats { mean, rstd })
    }

    /// The mean and the deviation `1 / rstd` of every plane, likewise: a style of AdaIN's, which
    /// other pictures get as their bias and weight.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::Normalization;
    /// let style = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
    /// let (mean, std) = Normalization::instance(0.).mean_and_std(&style)?;
    /// assert_eq!((mean.to_vec2::<f32>()?, std.to_vec2::<f32>()?), (vec![vec![2.]], vec![vec![1.]]));
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn mean_and_std(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        self.plane_stats(x, Second::Std)
    }

    fn plane_stats(&self, x: &Tensor, second: Second) -> Result<(Tensor, Tensor)> {
        if let Some(groups) = self.groups {
            bail!("norm: expected instances to measure, got {groups} groups");
        }
        plane_stats(x, self.rule, second)
    }
}
