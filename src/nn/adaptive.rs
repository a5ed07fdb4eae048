//! Instance norm that a style vector scales and shifts, with the fully connected map before it.

use crate::shapes::{acc_dtype, valid_eps};
use crate::{Activation, AdaptiveConfig, Normalization};
use candle_core::{Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder};

/// Adaptive instance norm: a fully connected layer makes the scale and shift of every sample from
/// its style, the AdaIN of StyleGAN, StarGAN v2, StyleTTS 2 and Kokoro.
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
/// An eps that is negative or not finite, and what `vb` says of the variables.
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
    /// With this fully connected layer, of `2 * num_channels` outputs: one that goes by a name of its
    /// own, or whose weights have been multiplied as those of StyleGAN are.
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
    /// # let _ = norm; Ok::<(), candle_core::Error>(())
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

    /// With parameters of the norm itself, before gamma and beta: `weight` and `bias` of `vb` where
    /// it has them, else 1 and 0. Kokoro's code has them and its checkpoint has not; `vb` is that
    /// of `norm`.
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
    /// # let _ = norm; Ok::<(), candle_core::Error>(())
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

    /// Followed by an activation in the same pass.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The normalized `x` in this `style`.
    ///
    /// # Errors
    ///
    /// Another number of channels, styles that do not fit, and what
    /// [`Normalization`] says of x.
    pub fn forward(&self, x: &Tensor, style: &Tensor) -> Result<Tensor> {
        self.modulation(x, style)?.forward(x)
    }

    /// The norm that [`forward`](Self::forward) applies to x, to which a residual or other statistics
    /// may be added.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn modulation(&self, x: &Tensor, style: &Tensor) -> Result<Normalization> {
        let wide = acc_dtype(x.dtype());
        let widen = |t: &Tensor| t.to_dtype(wide);
        let fc_bias = self.fc.bias().map(widen).transpose()?;
        let fc = Linear::new(widen(self.fc.weight())?, fc_bias);
        let (norm, [mut scale, mut shift]) = self.config.parts(x, &fc.forward(&widen(style)?)?)?;
        if self.weight.is_some() || self.bias.is_some() {
            // One scale and shift for both: z (weight scale) + (bias scale + shift).
            let offset = if self.config.one_plus { 1. } else { 0. };
            let whole = (scale + offset)?;
            if let Some(bias) = &self.bias {
                shift = (whole.broadcast_mul(&widen(bias)?)? + shift)?;
            }
            scale = match &self.weight {
                Some(weight) => (whole.broadcast_mul(&widen(weight)?)? - offset)?,
                None => (whole - offset)?,
            };
        }
        let norm = norm.weight(&scale).bias(&shift);
        Ok(norm.activation(self.activation))
    }
}
