//! Spatially adaptive normalization.

use super::resize::resize_nearest;
use super::running::Running;
use crate::ops::{BatchMoments, activate};
use crate::shapes::{Planes, acc_dtype, valid_eps};
use crate::{Activation, Normalization};
use candle_core::{Result, Tensor, bail};
use candle_nn::{Conv2d, Conv2dConfig, Module, VarBuilder};

/// The parameter-free norm inside a [`Spade`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParamFreeNorm {
    /// `spadeinstance`: each plane by its own statistics.
    Instance,
    /// `spadebatch` and `spadesyncbatch`: the statistics of the batch in training, in evaluation
    /// `param_free_norm.running_mean` and `param_free_norm.running_var`.
    Batch,
}

/// The configuration of a [`Spade`].
///
/// ```
/// use candle_instance_norm::nn::{SpadeConfig, ParamFreeNorm};
///
/// // MONAI's width.
/// let config = SpadeConfig { hidden: 64, ..SpadeConfig::new(ParamFreeNorm::Instance) };
/// assert_eq!(config.kernel_size, 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpadeConfig {
    /// The norm that is modulated. It is never guessed from the names in a checkpoint.
    pub norm: ParamFreeNorm,
    /// The side of the kernels, 3 by default.
    pub kernel_size: usize,
    /// The channels between the two convolutions, 128 by default.
    pub hidden: usize,
    /// The activation after the first convolution, ReLU by default; MONAI has a leaky one.
    pub hidden_activation: Activation,
    /// Added to the variance, 1e-5 by default.
    pub eps: f64,
    /// The share of the new value in the running statistics of the batch norm, 0.1 by default.
    pub momentum: f64,
}

impl SpadeConfig {
    /// The defaults of the authors' code.
    pub fn new(norm: ParamFreeNorm) -> Self {
        Self {
            norm,
            kernel_size: 3,
            hidden: 128,
            hidden_activation: Activation::Relu,
            eps: 1e-5,
            momentum: 0.1,
        }
    }
}

/// SPADE (Park et al., [Semantic Image Synthesis with Spatially-Adaptive
/// Normalization](https://arxiv.org/abs/1903.07291)): convolutions make a weight and a bias for every
/// element of x, gamma and beta in the paper, from a map of labels, as in
/// [NVlabs/SPADE](https://github.com/NVlabs/SPADE).
///
/// ```text
/// hidden = relu(mlp_shared(resized labels))
/// y = activation(norm(x) * (1 + mlp_gamma(hidden)) + mlp_beta(hidden))
/// ```
///
/// The labels are resized to x as `F.interpolate(mode='nearest')` does; the norm, weight, bias and
/// activation are one pass. `C` is the convolution, any [`Module`] that keeps the sides of a map; candle's,
/// which is the default, has no bf16 on the CPU.
///
/// # Shapes
///
/// - x: `(N, C, H, W)`.
/// - labels: `(N, label_channels, h, w)`, one-hot, in the dtype of the convolutions.
/// - result: the shape and dtype of x.
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_instance_norm::{nn::{spade, ParamFreeNorm, SpadeConfig}, Activation};
/// use candle_nn::{VarBuilder, VarMap};
///
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let config = SpadeConfig { hidden: 16, ..SpadeConfig::new(ParamFreeNorm::Instance) };
/// let norm = spade(8, 5, config, vb.pp("head_0.norm_0"))?
///     .with_activation(Activation::LeakyRelu(0.2));
/// let x = Tensor::randn(0f32, 1., (1, 8, 4, 6), &Device::Cpu)?;
/// let labels = Tensor::zeros((1, 5, 32, 48), DType::F32, &Device::Cpu)?;
/// assert_eq!(norm.forward(&x, &labels)?.dims(), x.dims());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Spade<C = Conv2d> {
    config: SpadeConfig,
    shared: C,
    gamma: C,
    beta: C,
    running: Option<Running>,
    activation: Activation,
}

/// A [`Spade`] for `num_channels` channels and maps of `label_channels`, with the variables `weight`
/// and `bias` of `mlp_shared.0`, `mlp_gamma` and `mlp_beta` and, for the batch norm,
/// `param_free_norm.running_mean` and `running_var` of `vb`.
///
/// # Errors
///
/// An even kernel size, an eps that is negative or not finite, a momentum outside 0 to 1, and the
/// errors of `vb`.
pub fn spade(
    num_channels: usize,
    label_channels: usize,
    config: SpadeConfig,
    vb: VarBuilder,
) -> Result<Spade> {
    if config.kernel_size.is_multiple_of(2) {
        bail!(
            "norm: expected an odd kernel size, got {}",
            config.kernel_size
        );
    }
    let conv = |from, to, name| {
        let padded = Conv2dConfig {
            padding: config.kernel_size / 2,
            ..Default::default()
        };
        candle_nn::conv2d(from, to, config.kernel_size, padded, vb.pp(name))
    };
    let convs = [
        conv(label_channels, config.hidden, "mlp_shared.0")?,
        conv(config.hidden, num_channels, "mlp_gamma")?,
        conv(config.hidden, num_channels, "mlp_beta")?,
    ];
    let running = if config.norm == ParamFreeNorm::Batch {
        let vb = vb.pp("param_free_norm");
        Some(Running::of_vb(num_channels, config.momentum, &vb)?)
    } else {
        None
    };
    Spade::with_running(convs, running, config)
}

impl<C: Module> Spade<C> {
    /// The layer with these convolutions, which keep the size of a map, and, for the batch norm alone, a
    /// running mean and unbiased variance, `(C)` each.
    ///
    /// # Errors
    ///
    /// Running statistics where the norm has none, or none where it has them; an eps that is
    /// negative or not finite, and a momentum outside 0 to 1.
    pub fn new(
        shared: C,
        gamma: C,
        beta: C,
        running: Option<(Tensor, Tensor)>,
        config: SpadeConfig,
    ) -> Result<Self> {
        let running = running.map(|(mean, var)| Running::new(&mean, &var, config.momentum));
        Self::with_running([shared, gamma, beta], running.transpose()?, config)
    }

    fn with_running(
        [shared, gamma, beta]: [C; 3],
        running: Option<Running>,
        config: SpadeConfig,
    ) -> Result<Self> {
        valid_eps(config.eps)?;
        config.hidden_activation.check()?;
        if running.is_some() != (config.norm == ParamFreeNorm::Batch) {
            bail!(
                "norm: expected running statistics for the batch norm alone, got {} for {:?}",
                if running.is_some() { "some" } else { "none" },
                config.norm
            );
        }
        Ok(Self {
            config,
            shared,
            gamma,
            beta,
            running,
            activation: Activation::None,
        })
    }

    /// Adds an activation in the same pass: a leaky ReLU of slope 0.2 in the authors' blocks.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Forward in evaluation mode: a batch norm takes its running statistics.
    ///
    /// # Errors
    ///
    /// Maps of another rank, batch or dtype, an empty map, and the errors of [`Normalization`].
    pub fn forward(&self, x: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.forward_t(x, labels, false)
    }

    /// [`forward`](Self::forward) in training or evaluation mode: in training a batch norm takes the
    /// statistics of the batch and moves the running ones.
    ///
    /// # Errors
    ///
    /// The errors of [`forward`](Self::forward).
    pub fn forward_t(&self, x: &Tensor, labels: &Tensor, train: bool) -> Result<Tensor> {
        let norm = self.modulation(x, labels)?;
        let Some(running) = &self.running else {
            return norm.forward(x);
        };
        let SpadeConfig { eps, .. } = self.config;
        let stats = if train {
            let planes = BatchMoments::of_planes(x)?;
            running
                .follow(&planes, &Planes::new(x.dims())?)?
                .stats(eps)?
        } else {
            running.stats(&eps.into(), acc_dtype(x.dtype()))?
        };
        norm.stats(&stats).forward(x)
    }

    /// The configuration that the layer was made with.
    pub fn config(&self) -> &SpadeConfig {
        &self.config
    }

    /// The norm that [`forward`](Self::forward) applies to x, but with the statistics of instances for
    /// either [`ParamFreeNorm`]; [`Normalization::stats`] gives it others.
    ///
    /// # Errors
    ///
    /// The errors of [`forward`](Self::forward).
    pub fn modulation(&self, x: &Tensor, labels: &Tensor) -> Result<Normalization> {
        let (n, _, height, width) = x.dims4()?;
        if labels.rank() != 4 || labels.dim(0)? != n || labels.elem_count() == 0 {
            bail!(
                "norm: expected labels of shape ({n}, channels, h, w) for x of shape {:?}, got {:?}",
                x.dims(),
                labels.dims()
            );
        }
        let labels = resize_nearest(labels, height, width)?;
        let hidden = self.shared.forward(&labels)?;
        let hidden = activate(self.config.hidden_activation, &hidden)?;
        let as_x = |conv: &C| conv.forward(&hidden)?.to_dtype(x.dtype());
        Ok(Normalization::instance(self.config.eps)
            .one_plus_weight()
            .weight(&as_x(&self.gamma)?)
            .bias(&as_x(&self.beta)?)
            .activation(self.activation))
    }
}
