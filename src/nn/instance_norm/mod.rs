//! `InstanceNorm1d`, `2d` and `3d`.

mod config;

pub use config::{InstanceNormConfig, instance_norm1d, instance_norm2d, instance_norm3d};

use super::running::{Running, valid_momentum};
use crate::shapes::{acc_dtype, valid_eps};
use crate::{Activation, Normalization};
use candle_core::{Result, Tensor, bail};
use candle_nn::Module;

/// Instance normalization over inputs with `D` spatial dimensions.
///
/// ```text
/// y = activation((x - mean) / sqrt(var + eps) * weight + bias)
/// ```
///
/// `mean` and the biased `var` are those of each sample and channel (Ulyanov et al.,
/// [1607.08022](https://arxiv.org/abs/1607.08022)); in evaluation with
/// `track_running_stats` they are the running statistics of each channel. In training those take
/// `momentum` of the batch average of the mean and of the *unbiased* variance, as in PyTorch.
///
/// [`forward_t`](Self::forward_t) tells training from evaluation; without running statistics the two
/// are the same, and the layer is a [`Module`] for `candle_nn::seq()` and `Tensor::apply`. As a module,
/// a layer with running statistics is an error, since nothing would move them in training.
///
/// Parameters keep the dtype of the `VarBuilder`; an input of a half type may meet f32 parameters.
/// Running statistics are kept in f32 beside parameters of a half type.
///
/// # Shapes
///
/// - x: `(N, C, *)` with `D` spatial dimensions, or `(C, *)` for a single sample.
/// - result: that of x.
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_instance_norm::nn::{instance_norm2d, InstanceNormConfig};
/// use candle_nn::{Module, VarBuilder, VarMap};
///
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let config = InstanceNormConfig { affine: true, ..Default::default() };
/// let block = candle_nn::seq()
///     .add(candle_nn::conv2d_no_bias(3, 8, 3, Default::default(), vb.pp("conv"))?)
///     .add(instance_norm2d(8, config, vb.pp("norm"))?);
/// let y = block.forward(&Tensor::randn(5f32, 2., (2, 3, 8, 8), &Device::Cpu)?)?;
/// assert!(y.mean_all()?.to_scalar::<f32>()?.abs() < 1e-4);
/// assert!(vars.data().lock().unwrap().contains_key("norm.weight"));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct InstanceNorm<const D: usize> {
    num_channels: usize,
    config: InstanceNormConfig,
    norm: Normalization,
    running: Option<Running>,
}

/// [`InstanceNorm`] over `(N, C, L)` or `(C, L)`, `torch.nn.InstanceNorm1d`.
pub type InstanceNorm1d = InstanceNorm<1>;
/// [`InstanceNorm`] over `(N, C, H, W)` or `(C, H, W)`, `torch.nn.InstanceNorm2d`.
pub type InstanceNorm2d = InstanceNorm<2>;
/// [`InstanceNorm`] over `(N, C, D, H, W)` or `(C, D, H, W)`, `torch.nn.InstanceNorm3d`.
pub type InstanceNorm3d = InstanceNorm<3>;

impl<const D: usize> InstanceNorm<D> {
    /// The layer with this weight and bias, `(num_channels)` each, if any, and without running
    /// statistics. [`instance_norm1d`], [`instance_norm2d`] and [`instance_norm3d`] take them, and
    /// those, from a `VarBuilder`.
    ///
    /// # Errors
    ///
    /// An eps that is negative or not finite.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// # use candle_instance_norm::nn::InstanceNorm2d;
    /// let ones = Tensor::ones(6, DType::F32, &Device::Cpu)?;
    /// let norm = InstanceNorm2d::new(Some((ones.clone(), ones.zeros_like()?)), 6, 1e-5)?;
    /// assert!(norm.config().affine);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn new(
        weight_and_bias: Option<(Tensor, Tensor)>,
        num_channels: usize,
        eps: f64,
    ) -> Result<Self> {
        let config = InstanceNormConfig {
            affine: weight_and_bias.is_some(),
            ..eps.into()
        };
        Self::with_parts(num_channels, config, weight_and_bias, None)
    }

    fn with_parts(
        num_channels: usize,
        config: InstanceNormConfig,
        weight_and_bias: Option<(Tensor, Tensor)>,
        running: Option<Running>,
    ) -> Result<Self> {
        valid_eps(config.eps)?;
        valid_momentum(config.momentum)?;
        let (weight, bias) = weight_and_bias.as_ref().map(|(w, b)| (w, b)).unzip();
        Ok(Self {
            num_channels,
            config,
            norm: Normalization::instance(config.eps)
                .eps_mode(config.eps_mode)
                .affine(weight, bias),
            running,
        })
    }

    /// Adds an activation in the same pass.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self {
            norm: self.norm.activation(activation),
            ..self
        }
    }

    /// Forward in evaluation mode; uses running statistics if tracked.
    ///
    /// # Errors
    ///
    /// An input of another rank; another number of channels, if the layer has parameters or running
    /// statistics; one spatial element, unless
    /// [allowed](InstanceNormConfig::allow_single_element) or normalized by running statistics.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_t(x, false)
    }

    /// Forward in training or evaluation mode; in training, running statistics follow those of x.
    ///
    /// # Errors
    ///
    /// The errors of [`forward`](Self::forward); in training, one spatial element is an error also with
    /// running statistics.
    pub fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.run(x, None, train)
    }

    /// [`forward_t`](Self::forward_t) with a residual of the shape of x, which is added before the
    /// activation in the same pass: the end of a block of a ResNet.
    ///
    /// ```text
    /// y = activation((x - mean) / sqrt(var + eps) * weight + bias + residual)
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`forward_t`](Self::forward_t), and a residual of another shape, dtype or device.
    ///
    /// ```
    /// # use candle_core::{Device, Tensor};
    /// # use candle_instance_norm::{nn::InstanceNorm1d, Activation};
    /// let norm = InstanceNorm1d::new(None, 1, 0.)?.with_activation(Activation::Relu);
    /// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
    /// let y = norm.forward_residual(&x, &x, false)?;
    /// assert_eq!(y.to_vec3::<f32>()?, [[[0., 4.]]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor, train: bool) -> Result<Tensor> {
        self.run(x, Some(residual), train)
    }

    /// The configuration that the layer was made with.
    pub fn config(&self) -> &InstanceNormConfig {
        &self.config
    }

    /// The weight, `(C)`, if affine.
    pub fn weight(&self) -> Option<&Tensor> {
        self.norm.extras.weight.as_ref()
    }

    /// The bias, `(C)`, if affine.
    pub fn bias(&self) -> Option<&Tensor> {
        self.norm.extras.bias.as_ref()
    }

    /// The running mean, `(C)`, if tracked.
    pub fn running_mean(&self) -> Option<&Tensor> {
        self.running
            .as_ref()
            .map(|running| running.mean.as_tensor())
    }

    /// The running unbiased variance, `(C)`, if tracked.
    pub fn running_var(&self) -> Option<&Tensor> {
        self.running.as_ref().map(|running| running.var.as_tensor())
    }

    fn run(&self, x: &Tensor, residual: Option<&Tensor>, train: bool) -> Result<Tensor> {
        let unbatched = x.rank() == D + 1;
        if !unbatched && x.rank() != D + 2 {
            bail!(
                "norm: expected an input of rank {} or, for one sample, {}, got shape {:?}",
                D + 2,
                D + 1,
                x.dims()
            );
        }
        let channels = x.dim(x.rank() - D - 1)?;
        // A layer without parameters takes any number of channels, as in PyTorch.
        let bound = self.config.affine || self.config.track_running_stats;
        if bound && channels != self.num_channels {
            bail!(
                "norm: expected {} channels, got {channels} in shape {:?}",
                self.num_channels,
                x.dims()
            );
        }
        let batch = |t: &Tensor| {
            if unbatched {
                t.unsqueeze(0)
            } else {
                Ok(t.clone())
            }
        };
        let mut norm = self.norm.clone();
        if let Some(residual) = residual {
            norm = norm.residual(&batch(residual)?);
        }
        let y = self.batched(&batch(x)?, norm, train)?;
        if unbatched { y.squeeze(0) } else { Ok(y) }
    }

    fn batched(&self, x: &Tensor, norm: Normalization, train: bool) -> Result<Tensor> {
        if let (Some(running), false) = (&self.running, train) {
            // The pass of a batch norm in evaluation.
            let stats = running.stats(&norm.rule(), acc_dtype(x.dtype()))?;
            return norm.stats(&stats).forward(x);
        }
        let spatial: usize = x.dims()[2..].iter().product();
        if spatial == 1 && !self.config.allow_single_element {
            bail!(
                "norm: expected more than 1 spatial element, got input of shape {:?}; \
                 set allow_single_element to let it pass as the bias",
                x.dims()
            );
        }
        if let Some(running) = &self.running {
            running.follow_planes(x)?;
        }
        norm.forward(x)
    }
}

impl<const D: usize> Module for InstanceNorm<D> {
    /// # Errors
    ///
    /// The errors of [`InstanceNorm::forward`], and a layer that tracks running statistics: a [`Module`] is
    /// not told training from evaluation.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.running.is_some() {
            bail!(
                "norm: expected a layer without running statistics where training is not told from \
                 evaluation; call forward(x) or forward_t(x, train) of the InstanceNorm itself"
            );
        }
        self.forward_t(x, false)
    }
}
