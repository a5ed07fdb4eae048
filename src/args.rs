//! What an op hands to a backend and gets back, for any kind of storage.

use crate::shapes::{Format, Param, Planes};
use candle_core::{bail, Layout, Result, Shape};

/// A storage and how a tensor lies in it.
pub type View<'a, S> = (&'a S, &'a Layout);

/// The inputs of a pass.
///
/// `x`, `residual` and the parameters per element are of the norm's [`Format`]: planes of adjacent
/// elements at any strides over N and C, or contiguous channels-last. The parameters per channel
/// and per sample, and given statistics, are contiguous.
pub struct Inputs<'a, S> {
    pub x: View<'a, S>,
    pub weight: Option<View<'a, S>>,
    pub bias: Option<View<'a, S>>,
    /// Added before the activation.
    pub residual: Option<View<'a, S>>,
    /// The statistics to normalize with, mean and rstd, where they are not those of x.
    pub given: Option<[View<'a, S>; 2]>,
}

impl<'a, S> Inputs<'a, S> {
    pub fn new(x: View<'a, S>) -> Self {
        Self {
            x,
            weight: None,
            bias: None,
            residual: None,
            given: None,
        }
    }
}

/// What a pass computes:
///
/// ```text
/// z = (x - mean) * rstd
/// v = alpha * (z * (weight + weight_offset) + bias) + (1 - alpha) * x + residual
/// y = activation(v)
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    pub planes: Planes,
    pub format: Format,
    /// Neighbouring channels that share their statistics: 1 for instance norm.
    pub channels_per_group: usize,
    pub rule: Rule,
    /// 1 where the weight is stored as what it exceeds 1 by, else 0.
    pub weight_offset: f64,
    pub alpha: f64,
    pub activation: Activation,
    pub target: Target,
}

/// How rstd follows from the biased variance `var` of `n` elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    pub eps: f64,
    pub mode: EpsMode,
    /// The variance counts as `var * n / (n - correction)`; 0 or 1.
    pub correction: u32,
}

/// Where eps guards against a variance of 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EpsMode {
    /// `1 / sqrt(var + eps)`: PyTorch and most others.
    #[default]
    AddToVar,
    /// `1 / (sqrt(var) + eps)`: keras_contrib and the networks made with it.
    AddToStd,
    /// `1 / sqrt(max(var, eps))`: reference AdaIN of Stable Diffusion pipelines.
    MaxWithVar,
}

/// What follows the normalization in the same pass.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Activation {
    #[default]
    None,
    /// `max(v, 0)`
    Relu,
    /// `v` where positive, else `slope * v`.
    LeakyRelu(f64),
    /// `v / (1 + exp(-v))`, also known as swish.
    Silu,
}

/// What the scale and shift of a plane are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The normalized planes.
    Output,
    /// The gradient of x of [`Second`] statistics, whose own gradients come as bias (the mean's)
    /// and weight (the second's): `(x - mean) * weight * d second/d var * 2 / n + bias / n`.
    StatsGradient(Second),
}

/// The statistic that comes with the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Second {
    /// `var * n / (n - correction)`
    Var,
    /// `1 / rstd`
    Std,
    Rstd,
}

/// The gradients that are asked for. The weight's and bias's are those of parameters per channel
/// or per sample, or, per element, of the shape of x.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    pub x: bool,
    pub weight: Option<Param>,
    pub bias: Option<Param>,
    /// The gradient of `v`: that of the residual, and of a bias per element.
    pub v: bool,
    /// Those of given statistics.
    pub mean: Option<Param>,
    pub rstd: Option<Param>,
}

/// The gradients asked for, in contiguous storages with the dtypes of what they belong to.
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

impl Norm {
    /// The elements that share their statistics.
    pub fn set_elements(&self) -> usize {
        self.channels_per_group * self.planes.spatial
    }
}

/// The shape of plane statistics, `(2, N, C)`: means, then the second statistic.
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
