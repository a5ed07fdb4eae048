//! The description of a normalization, and the inputs and gradients that go with it, for every backend.

use crate::shapes::{Format, ParamSpec, Planes};
use candle_core::{Layout, Result, Shape, bail};

/// A storage and how a tensor lies in it.
pub type View<'a, S> = (&'a S, &'a Layout);

/// The optional inputs: tensors, [`View`]s, or their [`ParamSpec`]s.
///
/// x, the residual and parameters per element are in the [`NormSpec`]'s format: planes of
/// adjacent elements at any strides over N and C, or contiguous channels-last. The parameters per
/// channel and per sample, and the statistics, are contiguous.
#[derive(Debug, Clone)]
pub struct Extras<T> {
    pub weight: Option<T>,
    pub bias: Option<T>,
    /// Added before the activation.
    pub residual: Option<T>,
    /// The mean and rstd to normalize with instead of those of x.
    pub stats: Option<[T; 2]>,
}

impl<T> Extras<T> {
    pub fn none() -> Self {
        Self {
            weight: None,
            bias: None,
            residual: None,
            stats: None,
        }
    }

    /// The inputs that are present, in the order of the fields.
    pub fn list(&self) -> Vec<&T> {
        let optional = [&self.weight, &self.bias, &self.residual];
        let stats = self.stats.iter().flatten();
        optional.into_iter().flatten().chain(stats).collect()
    }

    /// The fields for as many values, in the order of [`list`](Self::list).
    pub fn with<U>(&self, values: impl IntoIterator<Item = U>) -> Extras<U> {
        let mut values = values.into_iter();
        let mut next = |present: bool| if present { values.next() } else { None };
        let stats = self.stats.is_some();
        Extras {
            weight: next(self.weight.is_some()),
            bias: next(self.bias.is_some()),
            residual: next(self.residual.is_some()),
            stats: next(stats)
                .zip(next(stats))
                .map(|(mean, rstd)| [mean, rstd]),
        }
    }
}

/// The computation of a pass:
///
/// ```text
/// z = (x - mean) * rstd
/// v = alpha * (z * (weight + weight_offset) + bias) + (1 - alpha) * x + residual
/// y = activation(v)
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormSpec {
    pub planes: Planes,
    pub format: Format,
    /// The number of neighbouring channels that share their statistics: 1 for instance norm.
    pub channels_per_group: usize,
    pub rule: RstdRule,
    /// Added to the weight: 1 if the checkpoint stores weight - 1, else 0.
    pub weight_offset: f64,
    pub alpha: f64,
    pub activation: Activation,
    pub output: Output,
}

/// The rule for rstd, which follows from the biased variance `var` of `n` elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RstdRule {
    pub eps: f64,
    pub mode: EpsMode,
    /// The variance counts as `var * n / (n - correction)`; 0 or 1.
    pub correction: u32,
}

impl RstdRule {
    /// A rule without a correction.
    pub fn new(eps: f64, mode: EpsMode) -> Self {
        Self {
            eps,
            mode,
            correction: 0,
        }
    }
}

impl From<f64> for RstdRule {
    /// The usual rule, with this eps.
    fn from(eps: f64) -> Self {
        Self::new(eps, EpsMode::AddToVar)
    }
}

/// The place of eps, which guards against a variance of 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{EpsMode, Normalization};
///
/// // A deviation of 1 and an eps of 1: halved, where eps is added to the deviation.
/// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
/// let y = Normalization::instance(1.).eps_mode(EpsMode::AddToStd).forward(&x)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[-0.5, 0.5]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
#[repr(i32)]
pub enum EpsMode {
    /// `1 / sqrt(var + eps)`: PyTorch and most others.
    #[default]
    AddToVar,
    /// `1 / (sqrt(var) + eps)`: keras_contrib and the networks made with it.
    AddToStd,
    /// `1 / sqrt(max(var, eps))`: reference AdaIN of Stable Diffusion pipelines.
    MaxWithVar,
}

/// The activation that follows the normalization in the same pass.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{Activation, Normalization};
///
/// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
/// let norm = Normalization::instance(0.).activation(Activation::LeakyRelu(0.25));
/// assert_eq!(norm.forward(&x)?.to_vec3::<f32>()?, [[[-0.25, 1.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// `v`
    #[default]
    None,
    /// `max(v, 0)`
    Relu,
    /// `v` where positive, else `slope * v`.
    LeakyRelu(f64),
    /// `v / (1 + exp(-v))`, also known as swish.
    Silu,
}

/// The result of a forward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The normalized planes.
    Normalized,
    /// The gradient of x of [`ScaleStat`] statistics, whose own gradients come as bias (the mean's)
    /// and weight (the other's): `(x - mean) * weight * d stat/d var * 2 / n + bias / n`.
    StatsGradient(ScaleStat),
}

/// The statistic that comes with the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum ScaleStat {
    /// `var * n / (n - correction)`
    Var,
    /// `1 / rstd`
    Std,
    Rstd,
}

/// The gradients that a backward pass computes.
#[derive(Debug, Clone, Copy, Default)]
pub struct GradMask {
    pub x: bool,
    pub weight: Option<ParamSpec>,
    /// A bias per channel or per sample: backends are not asked for one per element, whose gradient is
    /// that of `v`.
    pub bias: Option<ParamSpec>,
    /// The gradient of `v`, which is that of the residual. Backends are asked for it only with an
    /// activation; without one it is dy.
    pub v: bool,
    /// Given statistics.
    pub mean: Option<ParamSpec>,
    pub rstd: Option<ParamSpec>,
}

/// The gradients in a [`GradMask`]: contiguous storages in the dtype of their input, or tensors.
pub struct Gradients<S> {
    pub x: Option<S>,
    pub weight: Option<S>,
    pub bias: Option<S>,
    pub v: Option<S>,
    pub mean: Option<S>,
    pub rstd: Option<S>,
}

impl<S> Gradients<S> {
    pub fn map<R>(self, f: impl Fn(S) -> R) -> Gradients<R> {
        Gradients {
            x: self.x.map(&f),
            weight: self.weight.map(&f),
            bias: self.bias.map(&f),
            v: self.v.map(&f),
            mean: self.mean.map(&f),
            rstd: self.rstd.map(&f),
        }
    }
}

impl NormSpec {
    /// An instance norm without parameters; of no planes yet.
    pub fn instance(rule: impl Into<RstdRule>) -> Self {
        Self {
            planes: Planes::default(),
            format: Format::Planar,
            channels_per_group: 1,
            rule: rule.into(),
            weight_offset: 0.,
            alpha: 1.,
            activation: Activation::None,
            output: Output::Normalized,
        }
    }

    /// True for a parameter of the shape of x, rather than `[C]` or `[N, C]`.
    pub fn is_per_element(&self, param: &Layout) -> bool {
        param.dims().len() > 2
    }
}

/// The shape of plane statistics, `(2, N, C)`: means, then the other statistic.
pub fn stats_shape(planes: &Planes) -> Shape {
    Shape::from((2, planes.n, planes.c))
}

impl Activation {
    /// An error unless the slope is a finite number.
    pub fn check(self) -> Result<()> {
        match self {
            Self::LeakyRelu(slope) if !slope.is_finite() => {
                bail!("norm: expected a finite slope of the leaky ReLU, got {slope}")
            }
            _ => Ok(()),
        }
    }
}
