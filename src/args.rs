//! What an op hands to a backend and gets back, for any kind of storage.

use crate::shapes::{Format, Param, Planes};
use candle_core::{bail, Layout, Result, Shape};

/// A storage and how a tensor lies in it.
pub type View<'a, S> = (&'a S, &'a Layout);

/// Something for each input of a pass: a tensor, a [`View`], or what is known of it.
///
/// `x`, the residual and the parameters per element are of the norm's [`Format`]: planes of
/// adjacent elements at any strides over N and C, or contiguous channels-last. The parameters per
/// channel and per sample, and given statistics, are contiguous.
#[derive(Debug, Clone)]
pub struct Inputs<T> {
    pub x: T,
    pub beside: Beside<T>,
}

/// Something for each input beside x; those that are absent have no effect.
#[derive(Debug, Clone)]
pub struct Beside<T> {
    pub weight: Option<T>,
    pub bias: Option<T>,
    /// Added before the activation.
    pub residual: Option<T>,
    /// The statistics to normalize with, mean and rstd, where they are not those of x.
    pub given: Option<[T; 2]>,
}

impl<T> Inputs<T> {
    /// One after the other, without the absent.
    pub fn list(&self) -> Vec<&T> {
        let beside = self.beside.list();
        [&self.x].into_iter().chain(beside).collect()
    }

    /// The same names for what [`list`](Self::list) lists.
    pub fn rename<U: Copy>(&self, list: &[U]) -> Inputs<U> {
        Inputs {
            x: list[0],
            beside: self.beside.rename(&list[1..]),
        }
    }
}

impl<T: Clone> Inputs<&T> {
    pub fn cloned(&self) -> Inputs<T> {
        let Beside {
            weight,
            bias,
            residual,
            given,
        } = &self.beside;
        Inputs {
            x: self.x.clone(),
            beside: Beside {
                weight: weight.cloned(),
                bias: bias.cloned(),
                residual: residual.cloned(),
                given: given.map(|given| given.map(T::clone)),
            },
        }
    }
}

impl<T> Beside<T> {
    pub fn none() -> Self {
        Self {
            weight: None,
            bias: None,
            residual: None,
            given: None,
        }
    }

    pub fn list(&self) -> Vec<&T> {
        let optional = [&self.weight, &self.bias, &self.residual];
        let given = self.given.iter().flatten();
        optional.into_iter().flatten().chain(given).collect()
    }

    pub fn rename<U: Copy>(&self, list: &[U]) -> Beside<U> {
        let mut rest = list.iter().copied();
        let mut next = |present: bool| if present { rest.next() } else { None };
        let given = self.given.is_some();
        Beside {
            weight: next(self.weight.is_some()),
            bias: next(self.bias.is_some()),
            residual: next(self.residual.is_some()),
            given: match [next(given), next(given)] {
                [Some(mean), Some(rstd)] => Some([mean, rstd]),
                _ => None,
            },
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

impl Rule {
    /// Of the biased variance itself.
    pub fn new(eps: f64, mode: EpsMode) -> Self {
        Self {
            eps,
            mode,
            correction: 0,
        }
    }
}

/// Where eps guards against a variance of 0.
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
    /// Whether a parameter of this layout has the shape of x, rather than `[C]` or `[N, C]`.
    pub fn is_per_element(&self, param: &Layout) -> bool {
        param.dims().len() > 2
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
