//! Group norm.

use crate::{Activation, Normalization};
use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, Module, VarBuilder};

/// Group normalization, in place of [`candle_nn::GroupNorm`] and with the names of
/// [`torch.nn.GroupNorm`](https://pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html):
///
/// ```text
/// y = activation((x - mean) / sqrt(var + eps) * weight + bias)
/// ```
///
/// with the mean and the biased variance of each sample and group of neighbouring channels (Wu and
/// He, [1803.08494](https://arxiv.org/abs/1803.08494)). One op, forward and backward, where candle
/// composes 13; half types are rounded once, where candle rounds before the weight, after it and
/// after the bias.
///
/// # Shapes
///
/// - x: `(N, C, *)`, or `(N, C)`, in f32, f16, bf16 or f64, with parameters in that dtype, or in f32 for
///   the half types.
/// - result: the shape and dtype of x.
///
/// # Example
///
/// The norm before the convolutions of a diffusion UNet:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_instance_norm::{nn, Activation};
/// use candle_nn::{Module, VarBuilder, VarMap};
///
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let norm = nn::group_norm(4, 8, 1e-5, vb.pp("norm1"))?.with_activation(Activation::Silu);
/// let y = norm.forward(&Tensor::randn(0f32, 1., (1, 8, 16, 16), &Device::Cpu)?)?;
/// assert_eq!(y.dims(), [1, 8, 16, 16]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GroupNorm {
    norm: Normalization,
    num_channels: usize,
}

/// A [`GroupNorm`] with the variables `weight` and `bias` of `vb`; the arguments are those of
/// [`candle_nn::group_norm()`].
///
/// # Errors
///
/// The errors of [`GroupNorm::new`] and of `vb`.
///
/// ```
/// # use candle_core::{DType, Device};
/// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
/// assert!(candle_instance_norm::nn::group_norm(32, 320, 1e-5, vb.clone()).is_ok());
/// assert!(candle_instance_norm::nn::group_norm(32, 100, 1e-5, vb).is_err());
/// ```
pub fn group_norm(
    num_groups: usize,
    num_channels: usize,
    eps: f64,
    vb: VarBuilder,
) -> Result<GroupNorm> {
    let weight = vb.get_with_hints(num_channels, "weight", Init::Const(1.))?;
    let bias = vb.get_with_hints(num_channels, "bias", Init::Const(0.))?;
    GroupNorm::new(weight, bias, num_channels, num_groups, eps)
}

impl GroupNorm {
    /// The layer with this weight and bias, `(num_channels)` each.
    ///
    /// # Errors
    ///
    /// A number of groups that does not divide the channels.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// # use candle_instance_norm::nn::GroupNorm;
    /// let ones = Tensor::ones(6, DType::F32, &Device::Cpu)?;
    /// let norm = GroupNorm::new(ones.clone(), ones.zeros_like()?, 6, 3, 0.)?;
    /// let x = Tensor::new(&[[1f32, 3., 5., 9., 2., 4.]], &Device::Cpu)?;
    /// let y = candle_nn::Module::forward(&norm, &x)?;
    /// assert_eq!(y.to_vec2::<f32>()?, [[-1., 1., -1., 1., -1., 1.]]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn new(
        weight: Tensor,
        bias: Tensor,
        num_channels: usize,
        num_groups: usize,
        eps: f64,
    ) -> Result<Self> {
        if num_groups == 0 || !num_channels.is_multiple_of(num_groups) {
            bail!(
                "norm: expected a number of groups that divides the {num_channels} channels, got {num_groups}"
            );
        }
        let norm = Normalization::group(num_groups, eps);
        Ok(Self {
            norm: norm.weight(&weight).bias(&bias),
            num_channels,
        })
    }

    /// Adds an activation in the same pass: SiLU in UNets and VAEs.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self {
            norm: self.norm.activation(activation),
            ..self
        }
    }
}

impl Module for GroupNorm {
    /// # Errors
    ///
    /// Another number of channels, and the errors of [`Normalization`].
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match x.dims() {
            [_, c, ..] if *c != self.num_channels => bail!(
                "norm: expected {} channels, got {c} in shape {:?}",
                self.num_channels,
                x.dims()
            ),
            _ => self.norm.forward(x),
        }
    }
}
