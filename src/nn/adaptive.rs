//! Adaptive instance norm with the fully connected layer that maps a style to its parameters.

use crate::shapes::{acc_dtype, valid_eps};
use crate::{Activation, AdaptiveConfig, Normalization};
use candle_core::{Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder};

/// Adaptive instance norm: a fully connected layer maps the style of each sample to its weight and
/// bias, gamma and beta in the papers. The AdaIN of StyleGAN (Karras et al.,
/// [1812.04948](https://arxiv.org/abs/1812.04948)), StarGAN v2 (Choi et al.,
/// [1912.01865](https://arxiv.org/abs/1912.01865)), StyleTTS 2 and Kokoro.
///
/// ```text
/// gamma, beta = fc(style)                           in the order of the configuration
/// y = activation((x - mean) / sqrt(var + eps) * (1 + gamma) + beta)
/// ```
///
/// without the `1 +` where the configuration says so. One pass over x; gamma and beta are computed
/// in f32 for the half types (candle's CPU matrix product has no bf16).
///
/// # Shapes
///
/// - x: `(N, C, *)` in f32, f16, bf16 or f64.
/// - style: `(N, style_dim)`, or `(1, style_dim)` for all samples.
/// - result: the shape and dtype of x.
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_instance_norm::{nn, Activation, AdaptiveConfig};
/// use candle_nn::{VarBuilder, VarMap};
///
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// // decode.0.norm1.fc.weight and decode.0.norm1.fc.bias of StarGAN v2.
/// let vb = vb.pp("decode.0.norm1");
/// let norm = nn::adaptive_instance_norm(64, 8, AdaptiveConfig::stargan_v2(), vb)?
///     .with_activation(Activation::LeakyRelu(0.2));
/// let x = Tensor::randn(0f32, 1., (2, 8, 4, 4), &Device::Cpu)?;
/// let style = Tensor::randn(0f32, 1., (2, 64), &Device::Cpu)?;
/// assert_eq!(norm.forward(&x, &style)?.dims(), x.dims());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct AdaptiveInstanceNorm {
    config: AdaptiveConfig,
    fc: Linear,
    weight: Option<Tensor>,
    bias: Option<Tensor>,
    activation: Activation,
}

/// An [`AdaptiveInstanceNorm`] for `num_channels` channels, with the variables `fc.weight` and
/// `fc.bias` of `vb`.
///
/// # Errors
///
/// An eps that is negative or not finite, and the errors of `vb`.
pub fn adaptive_instance_norm(
    style_dim: usize,
    num_channels: usize,
    config: AdaptiveConfig,
    vb: VarBuilder,
) -> Result<AdaptiveInstanceNorm> {
    let fc = candle_nn::linear(style_dim, 2 * num_channels, vb.pp("fc"))?;
    AdaptiveInstanceNorm::new(fc, config)
}

impl AdaptiveInstanceNorm {
    /// The layer with this fully connected layer of `2 * num_channels` outputs: one under another
    /// name, or with weights scaled as those of StyleGAN are.
    ///
    /// # Errors
    ///
    /// An eps that is negative or not finite.
    ///
    /// ```
    /// # use candle_core::{DType, Device};
    /// # use candle_instance_norm::{nn::AdaptiveInstanceNorm, AdaptiveConfig};
    /// let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
    /// let fc = candle_nn::linear(512, 2 * 64, vb.pp("style_mod.lin"))?;
    /// let norm = AdaptiveInstanceNorm::new(fc, AdaptiveConfig::stylegan())?;
    /// let x = candle_core::Tensor::ones((1, 64, 2, 2), DType::F32, &Device::Cpu)?;
    /// assert_eq!(norm.forward(&x, &x.zeros_like()?.reshape(256)?.repeat((1, 2))?)?.dims(), x.dims());
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn new(fc: Linear, config: AdaptiveConfig) -> Result<Self> {
        valid_eps(config.eps)?;
        Ok(Self {
            config,
            fc,
            weight: None,
            bias: None,
            activation: Activation::None,
        })
    }

    /// Adds parameters of the norm itself, applied before gamma and beta: `weight` and `bias` of `vb` if
    /// it has them, else 1 and 0. Kokoro's code has them, its checkpoint does not; `vb` is that of
    /// `norm`.
    ///
    /// ```text
    /// y = ((x - mean) / sqrt(var + eps) * weight + bias) * (1 + gamma) + beta
    /// ```
    ///
    /// # Errors
    ///
    /// Parameters of another shape.
    ///
    /// ```
    /// # use candle_core::{DType, Device};
    /// # use candle_instance_norm::{nn, AdaptiveConfig};
    /// # let vb = candle_nn::VarBuilder::zeros(DType::F32, &Device::Cpu);
    /// let norm = nn::adaptive_instance_norm(128, 512, AdaptiveConfig::stargan_v2(), vb.clone())?
    ///     .with_optional_affine(vb.pp("norm"))?;
    /// # let x = candle_core::Tensor::ones((1, 512, 2, 2), DType::F32, &Device::Cpu)?;
    /// # let style = candle_core::Tensor::ones((1, 128), DType::F32, &Device::Cpu)?;
    /// assert_eq!(norm.forward(&x, &style)?.dims(), x.dims());
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn with_optional_affine(self, vb: VarBuilder) -> Result<Self> {
        let channels = self.fc.weight().dim(0)? / 2;
        let get = |name| {
            let there = vb.contains_tensor(name);
            there.then(|| vb.get(channels, name)).transpose()
        };
        Ok(Self {
            weight: get("weight")?,
            bias: get("bias")?,
            ..self
        })
    }

    /// Adds an activation in the same pass.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The normalized `x` in this `style`.
    ///
    /// # Errors
    ///
    /// Another number of channels, styles that do not fit, and the errors of [`Normalization`].
    pub fn forward(&self, x: &Tensor, style: &Tensor) -> Result<Tensor> {
        self.modulation(x, style)?.forward(x)
    }

    /// The norm that [`forward`](Self::forward) applies to x, to which a residual or other statistics
    /// may be added.
    ///
    /// # Errors
    ///
    /// The errors of [`forward`](Self::forward).
    pub fn modulation(&self, x: &Tensor, style: &Tensor) -> Result<Normalization> {
        let wide = acc_dtype(x.dtype());
        let widen = |t: &Tensor| t.to_dtype(wide);
        let fc_bias = self.fc.bias().map(widen).transpose()?;
        let fc = Linear::new(widen(self.fc.weight())?, fc_bias);
        let (norm, [mut weight, mut bias]) = self.config.parts(x, &fc.forward(&widen(style)?)?)?;
        if self.weight.is_some() || self.bias.is_some() {
            // One weight and bias for both: (z w + b) gamma + beta = z (w gamma) + (b gamma + beta).
            let offset = if self.config.one_plus_weight { 1. } else { 0. };
            let gamma = (weight + offset)?;
            if let Some(own) = &self.bias {
                bias = (gamma.broadcast_mul(&widen(own)?)? + bias)?;
            }
            weight = match &self.weight {
                Some(own) => (gamma.broadcast_mul(&widen(own)?)? - offset)?,
                None => (gamma - offset)?,
            };
        }
        let norm = norm.weight(&weight).bias(&bias);
        Ok(norm.activation(self.activation))
    }
}
