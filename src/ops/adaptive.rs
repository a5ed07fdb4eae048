//! Adaptive instance norm: the weight and bias of each sample are a style vector.

use super::Normalization;
use candle_core::{Result, Tensor, bail};

/// The order of weight and bias in a style vector of `2 * C` numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StyleOrder {
    /// The weight first: StyleGAN, StarGAN v2, StyleTTS 2, Kokoro.
    WeightBias,
    /// The bias first: MUNIT, FUNIT.
    BiasWeight,
}

/// The layout of a style vector for [`adaptive_instance_norm`]. Implementations differ in all three
/// fields, and a wrong choice gives no error, so there is no default.
///
/// ```
/// use candle_instance_norm::{AdaptiveConfig, StyleOrder};
///
/// let config = AdaptiveConfig::munit();
/// assert_eq!(config.order, StyleOrder::BiasWeight);
/// assert_eq!(AdaptiveConfig { eps: 1e-8, ..AdaptiveConfig::stargan_v2() }, AdaptiveConfig::stylegan());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveConfig {
    /// Added to the biased variance.
    pub eps: f64,
    /// True if the style has weight - 1.
    pub one_plus_weight: bool,
    /// The order of weight and bias.
    pub order: StyleOrder,
}

impl AdaptiveConfig {
    /// The official StyleGAN (Karras et al., [1812.04948](https://arxiv.org/abs/1812.04948)):
    /// `IN(x, 1e-8) * (style[:, 0] + 1) + style[:, 1]` of a style reshaped to `(N, 2, C)`.
    pub fn stylegan() -> Self {
        Self {
            eps: 1e-8,
            ..Self::stargan_v2()
        }
    }

    /// `(1 + gamma) * IN(x, 1e-5) + beta`, gamma first: StarGAN v2 (Choi et al.,
    /// [1912.01865](https://arxiv.org/abs/1912.01865)), and the `AdaIN1d` of StyleTTS 2 and Kokoro.
    pub fn stargan_v2() -> Self {
        Self {
            eps: 1e-5,
            one_plus_weight: true,
            order: StyleOrder::WeightBias,
        }
    }

    /// `gamma * IN(x, 1e-5) + beta`, beta first: MUNIT (Huang et al.,
    /// [1804.04732](https://arxiv.org/abs/1804.04732)) and FUNIT, which cut the vectors of all
    /// layers out of one, see [`StyleSlices`].
    pub fn munit() -> Self {
        Self {
            eps: 1e-5,
            one_plus_weight: false,
            order: StyleOrder::BiasWeight,
        }
    }

    /// The norm without its parameters, and its weight and bias, both views of `style`.
    pub(crate) fn parts(&self, x: &Tensor, style: &Tensor) -> Result<(Normalization, [Tensor; 2])> {
        let (n, c) = match x.dims() {
            [n, c, _, ..] => (*n, *c),
            dims => bail!("norm: expected x of rank 3 or more, (N, C, *), got shape {dims:?}"),
        };
        let style = match style.dims() {
            // One style for all samples is a parameter per channel.
            [1, width] if *width == 2 * c && n != 1 => style.squeeze(0)?,
            [samples, width] if *width == 2 * c && *samples == n => style.clone(),
            dims => bail!(
                "norm: expected a style of shape [{n}, {}] or [1, {}] for x of shape {:?}, got {dims:?}",
                2 * c,
                2 * c,
                x.dims()
            ),
        };
        let last = style.rank() - 1;
        let (first, second) = (style.narrow(last, 0, c)?, style.narrow(last, c, c)?);
        let norm = Normalization::instance(self.eps);
        let norm = if self.one_plus_weight {
            norm.one_plus_weight()
        } else {
            norm
        };
        Ok(match self.order {
            StyleOrder::WeightBias => (norm, [first, second]),
            StyleOrder::BiasWeight => (norm, [second, first]),
        })
    }
}

/// Instance norm with the weight and bias of each sample, gamma and beta in the papers, in a style
/// vector:
///
/// ```text
/// y = (x - mean) / sqrt(var + eps) * gamma + beta           or with 1 + gamma for gamma
/// ```
///
/// One pass over x, differentiable in x and in the style. [`AdaptiveConfig`] names the conventions
/// of StyleGAN, StarGAN v2, StyleTTS 2, Kokoro, MUNIT and FUNIT; the layer with the fully connected
/// map before it is [`nn::AdaptiveInstanceNorm`](crate::nn::AdaptiveInstanceNorm). For the
/// statistics of a style picture as gamma and beta see [`adain`](crate::adain).
///
/// # Shapes
///
/// - x: `(N, C, *)` in f32, f16, bf16 or f64.
/// - style: `(N, 2 * C)`, or `(1, 2 * C)` for all samples, in the dtype of x, or in f32 if x
///   is of a half type.
/// - result: the shape and dtype of x.
///
/// # Errors
///
/// A style of another shape, dtype or device, and the errors of [`Normalization`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_instance_norm::{adaptive_instance_norm, AdaptiveConfig};
///
/// let x = Tensor::new(&[[[1f32, 3.]]], &Device::Cpu)?;
/// let style = Tensor::new(&[[10f32, 2.]], &Device::Cpu)?; // beta 10, gamma 2
/// let config = AdaptiveConfig { eps: 0., ..AdaptiveConfig::munit() };
/// let y = adaptive_instance_norm(&x, &style, &config)?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[8., 12.]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn adaptive_instance_norm(
    x: &Tensor,
    style: &Tensor,
    config: &AdaptiveConfig,
) -> Result<Tensor> {
    let (norm, [weight, bias]) = config.parts(x, style)?;
    norm.weight(&weight).bias(&bias).forward(x)
}

/// A style vector for several layers, one after the other in `(N, the sum of 2 * C)`, as the MLPs
/// of MUNIT and FUNIT give it; each layer takes its slice, a view.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_instance_norm::{adaptive_instance_norm, AdaptiveConfig, StyleSlices};
///
/// let mut x = Tensor::randn(0f32, 1., (2, 8, 6, 6), &Device::Cpu)?;
/// let of_mlp = Tensor::randn(0f32, 1., (2, 3 * 16), &Device::Cpu)?;
/// let mut slices = StyleSlices::new(&of_mlp)?;
/// for _layer in 0..3 {
///     x = adaptive_instance_norm(&x, &slices.take(8)?, &AdaptiveConfig::munit())?;
/// }
/// slices.finish()?;
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct StyleSlices {
    styles: Tensor,
    taken: usize,
}

impl StyleSlices {
    /// Nothing taken yet of `styles`, `(N, numbers)`.
    ///
    /// # Errors
    ///
    /// A rank other than 2.
    pub fn new(styles: &Tensor) -> Result<Self> {
        if styles.rank() != 2 {
            bail!(
                "norm: expected styles of shape (N, numbers), got {:?}",
                styles.dims()
            );
        }
        Ok(Self {
            styles: styles.clone(),
            taken: 0,
        })
    }

    /// The style of the next layer, of this number of channels: `(N, 2 * channels)`.
    ///
    /// # Errors
    ///
    /// Fewer numbers left than that.
    pub fn take(&mut self, channels: usize) -> Result<Tensor> {
        let left = self.styles.dim(1)? - self.taken;
        if left < 2 * channels {
            bail!(
                "norm: expected {} numbers for a layer's style, got the last {left}",
                2 * channels
            );
        }
        let style = self.styles.narrow(1, self.taken, 2 * channels)?;
        self.taken += 2 * channels;
        Ok(style)
    }

    /// Checks that the layers took everything.
    ///
    /// # Errors
    ///
    /// Numbers that are left: the vector is not for these layers.
    pub fn finish(self) -> Result<()> {
        let numbers = self.styles.dim(1)?;
        if self.taken != numbers {
            bail!(
                "norm: expected layers that take all {numbers} numbers of the styles, got {}",
                self.taken
            );
        }
        Ok(())
    }
}
