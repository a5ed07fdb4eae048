//! Batch-instance norm.

use super::running::Running;
use crate::ops::{BatchMoments, gated};
use crate::shapes::{Planes, acc_dtype, valid_eps};
use candle_core::{Result, Tensor, Var, bail};
use candle_nn::{Init, ModuleT, VarBuilder};

/// The configuration of a [`BatchInstanceNorm`]; the defaults are the authors'.
///
/// ```
/// use candle_instance_norm::nn::BatchInstanceNormConfig;
///
/// assert_eq!(BatchInstanceNormConfig::from(1e-3).momentum, 0.1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchInstanceNormConfig {
    /// Added to the variances, 1e-5 by default.
    pub eps: f64,
    /// The share of the new value in the running statistics, 0.1 by default.
    pub momentum: f64,
    /// True, the default, for a `weight` and a `bias`.
    pub affine: bool,
}

impl Default for BatchInstanceNormConfig {
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: 0.1,
            affine: true,
        }
    }
}

impl From<f64> for BatchInstanceNormConfig {
    fn from(eps: f64) -> Self {
        Self {
            eps,
            ..Default::default()
        }
    }
}

/// Batch-instance norm (Nam and Kim, [1805.07925](https://arxiv.org/abs/1805.07925)), as the
/// authors' `BatchInstanceNorm1d`, `2d` and `3d`:
///
/// ```text
/// y = BN(x) * weight * gate + IN(x) * weight * (1 - gate) + bias
/// ```
///
/// In training the batch norm takes the statistics of the batch and moves `running_mean` and
/// `running_var` (unbiased) towards them; in evaluation it takes these. The instance norm takes the
/// statistics of each plane in both. The gate is not clamped in the pass: call
/// [`clamp_gate`](Self::clamp_gate) after each step of the optimizer, as the authors do.
///
/// # Shapes
///
/// - x: `(N, C, *)` in f32, f16, bf16 or f64, with more than one spatial element.
/// - result: the shape and dtype of x.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_instance_norm::nn;
/// use candle_nn::{ModuleT, VarBuilder, VarMap};
///
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let norm = nn::batch_instance_norm(3, 1e-5, vb)?;
/// let y = norm.forward_t(&Tensor::randn(0f32, 1., (2, 3, 8, 8), &Device::Cpu)?, true)?;
/// assert!(y.mean_all()?.to_scalar::<f32>()?.abs() < 1e-4);
/// norm.clamp_gate()?;
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchInstanceNorm {
    config: BatchInstanceNormConfig,
    weight_and_bias: Option<(Tensor, Tensor)>,
    gate: Tensor,
    running: Running,
}

/// A [`BatchInstanceNorm`] for `num_channels` channels, with the variables `gate`, `running_mean`,
/// `running_var` and, where affine, `weight` and `bias` of `vb`. A new gate is 1: batch norm.
///
/// # Errors
///
/// An eps that is negative or not finite, a momentum outside 0 to 1, and the errors of `vb`.
pub fn batch_instance_norm(
    num_channels: usize,
    config: impl Into<BatchInstanceNormConfig>,
    vb: VarBuilder,
) -> Result<BatchInstanceNorm> {
    let config = config.into();
    let get = |name, init| vb.get_with_hints(num_channels, name, Init::Const(init));
    let weight_and_bias = if config.affine {
        Some((get("weight", 1.)?, get("bias", 0.)?))
    } else {
        None
    };
    let running = Running::of_vb(num_channels, config.momentum, &vb)?;
    BatchInstanceNorm::with_running(get("gate", 1.)?, weight_and_bias, running, config)
}

impl BatchInstanceNorm {
    /// With these tensors, `(C)` each: the gate, a weight and a bias if any, and the running mean
    /// and unbiased variance.
    ///
    /// # Errors
    ///
    /// An eps that is negative or not finite, and a momentum outside 0 to 1.
    pub fn new(
        gate: Tensor,
        weight_and_bias: Option<(Tensor, Tensor)>,
        (running_mean, running_var): (Tensor, Tensor),
        config: impl Into<BatchInstanceNormConfig>,
    ) -> Result<Self> {
        let config = config.into();
        let running = Running::new(&running_mean, &running_var, config.momentum)?;
        Self::with_running(gate, weight_and_bias, running, config)
    }

    fn with_running(
        gate: Tensor,
        weight_and_bias: Option<(Tensor, Tensor)>,
        running: Running,
        config: BatchInstanceNormConfig,
    ) -> Result<Self> {
        valid_eps(config.eps)?;
        Ok(Self {
            config: BatchInstanceNormConfig {
                affine: weight_and_bias.is_some(),
                ..config
            },
            weight_and_bias,
            gate,
            running,
        })
    }

    /// The share of the batch norm, `(C)`.
    pub fn gate(&self) -> &Tensor {
        &self.gate
    }

    /// The running mean, `(C)`.
    pub fn running_mean(&self) -> &Tensor {
        &self.running.mean
    }

    /// The running unbiased variance, `(C)`.
    pub fn running_var(&self) -> &Tensor {
        &self.running.var
    }

    /// Clamps the gate to 0 to 1, after a step of the optimizer.
    ///
    /// # Errors
    ///
    /// A gate that is not a variable, which nothing trains.
    pub fn clamp_gate(&self) -> Result<()> {
        if !self.gate.is_variable() {
            bail!("norm: expected a gate that is a variable, to clamp it");
        }
        let clamped = self.gate.detach().clamp(0f32, 1f32)?;
        Var::from_tensor(&self.gate)?.set(&clamped)
    }
}

impl ModuleT for BatchInstanceNorm {
    /// # Errors
    ///
    /// The errors of [`batch_instance_norm`](crate::batch_instance_norm), and an input with one spatial
    /// element, which has no instance norm.
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let of_x = Planes::new(x.dims())?;
        if of_x.spatial == 1 {
            bail!(
                "norm: expected more than 1 spatial element, got input of shape {:?}",
                x.dims()
            );
        }
        let planes = BatchMoments::of_planes(x)?;
        let BatchInstanceNormConfig { eps, .. } = self.config;
        let batch = if train {
            self.running.follow(&planes, &of_x)?.stats(eps)?
        } else {
            self.running.stats(&eps.into(), acc_dtype(x.dtype()))?
        };
        let affine = self.weight_and_bias.as_ref();
        let (weight, bias) = affine.map(|(weight, bias)| (weight, bias)).unzip();
        gated(x, weight, bias, &self.gate, &planes, &batch, eps)
    }
}
