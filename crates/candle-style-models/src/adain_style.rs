//! AdaIN's arbitrary style transfer.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Module, VarBuilder};

use super::NormStats;
use super::conv::{Conv, max_pool2x};
use super::layers::reflecting_conv2d;
use super::norm_stats::{adain, mean_and_std};
use super::shapes::ANY;

/// The eps that the original adds to the variances of the content and of the style.
const EPS: f64 = 1e-5;

/// The smallest side that leaves two rows to reflect after three halvings.
const MIN_SIDE: usize = 9;

/// The indices of the encoder's convolutions in its state dict, up to relu4_1, after the first one,
/// of 1x1. A ReLU follows each, and a pooling each group but the last.
const ENCODER: [&[usize]; 4] = [&[2, 5], &[9, 12], &[16, 19, 22, 25], &[29]];

/// The indices of the decoder's convolutions. A ReLU follows each but the last of all, and an
/// upsampling each group but the last.
const DECODER: [&[usize]; 4] = [&[1], &[5, 8, 11, 14], &[18, 21], &[25, 28]];

/// The style transfer of AdaIN (Huang and Belongie, [Arbitrary Style Transfer in Real-time with
/// Adaptive Instance Normalization](https://arxiv.org/abs/1703.06868), 2017), with the weights of
/// [naoto0804/pytorch-AdaIN](https://github.com/naoto0804/pytorch-AdaIN).
///
/// A VGG-19 up to relu4_1 encodes the content and the style. The features of the content get the
/// mean and the deviation of the style's ([`adain`](candle_instance_norm::adain), with the unbiased
/// variance and eps 1e-5), and a decoder turns them into a picture.
///
/// # Shapes
///
/// - content: `(N, 3, H, W)`, RGB from 0 to 1, at least 9x9, in the dtype of the weights
/// - style: likewise, of any size; one picture for the whole batch or N of them
/// - output: `(N, 3, H', W')`, RGB from about 0 to 1, to be clamped; `H'` and `W'` are `H` and `W` of
///   the content rounded up to multiples of 8
///
/// # Example
///
/// ```no_run
/// use candle_core::{DType, Device, Tensor};
/// use candle_style_models::AdaInStyle;
/// use candle_style_models::weights::Weights;
///
/// // A folder with vgg_normalised.pth and decoder.pth, which the feature `pth` reads.
/// let weights = Weights::open("adain")?.select(AdaInStyle::original_name);
/// let network = weights.build(DType::F32, &Device::Cpu, AdaInStyle::new)?;
/// let content = Tensor::rand(0f32, 1., (1, 3, 256, 384), &Device::Cpu)?;
/// let style = network.style(&Tensor::rand(0f32, 1., (1, 3, 200, 200), &Device::Cpu)?)?;
/// let y = network.forward(&content, &style, 1.)?;
/// assert_eq!(y.dims(), [1, 3, 256, 384]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct AdaInStyle {
    colours: Conv,
    encoder: Vec<Vec<Conv>>,
    decoder: Vec<Vec<Conv>>,
}

/// A style for [`AdaInStyle`]: the mean and the deviation of each feature of the pictures that it
/// was taken from.
#[derive(Debug, Clone)]
pub struct AdaInStyleStats {
    mean: Tensor,
    std: Tensor,
}

impl AdaInStyle {
    /// Builds the network from two state dicts, below `vgg_normalised` and `decoder`. The widths
    /// are read from the shapes.
    ///
    /// # Errors
    ///
    /// A tensor is missing, or its shape does not fit the layer before it. The error names it.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let (vgg, decoder) = (vb.pp("vgg_normalised"), vb.pp("decoder"));
        let colours = reflecting_conv2d(&vgg.pp(0), [3, 3], 1, 1)?;
        let mut width = 3;
        let mut conv = |vb: &VarBuilder, index: usize| {
            let last = index == 28;
            let c_out = if last { 3 } else { ANY };
            let conv = reflecting_conv2d(&vb.pp(index), [c_out, width], 3, 1)?;
            width = conv.width();
            // The last convolution gives a picture, which is not to be cut.
            Ok(if last { conv } else { conv.then_relu() })
        };
        let mut groups = |vb: &VarBuilder, groups: [&[usize]; 4]| {
            let group = |indices: &[usize]| indices.iter().map(|&index| conv(vb, index)).collect();
            groups.into_iter().map(group).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            colours,
            encoder: groups(&vgg, ENCODER)?,
            decoder: groups(&decoder, DECODER)?,
        })
    }

    /// Leaves out the layers of the VGG beyond relu4_1, which the network has no use for: `None`
    /// for their tensors' names, and every other name as it is. For
    /// [`Weights::select`](crate::weights::Weights::select).
    pub fn original_name(name: &str) -> Option<String> {
        let index = name.strip_prefix("vgg_normalised.");
        let index = index.and_then(|rest| rest.split('.').next()?.parse().ok());
        (index.unwrap_or(0usize) <= 29).then(|| name.to_string())
    }

    /// Measures the style of pictures, for any number of calls of [`forward`](Self::forward).
    ///
    /// # Errors
    ///
    /// `x` is not `(N, 3, H, W)` of at least 9x9, or is of another dtype or on another device than
    /// the weights, or candle has no convolution for the dtype (f64 on Metal).
    pub fn style(&self, x: &Tensor) -> Result<AdaInStyleStats> {
        let (mean, std) = mean_and_std(&self.encode(x)?, EPS)?;
        Ok(AdaInStyleStats { mean, std })
    }

    /// The picture of the content `x` in a style. `alpha` mixes the features, from 0, those of the
    /// content, to 1, the full style.
    ///
    /// # Errors
    ///
    /// The errors of [`style`](Self::style), and `style` is of neither one picture nor as many as `x`.
    pub fn forward(&self, x: &Tensor, style: &AdaInStyleStats, alpha: f64) -> Result<Tensor> {
        self.forward_with(x, style, alpha, &mut NormStats::own())
    }

    /// [`forward`](Self::forward) with the statistics of the content taken from `stats`.
    ///
    /// # Errors
    ///
    /// The errors of [`forward`](Self::forward), and `stats` [replays](NormStats::replay) those of no
    /// norm or of other numbers of samples or channels.
    pub fn forward_with(
        &self,
        x: &Tensor,
        style: &AdaInStyleStats,
        alpha: f64,
        stats: &mut NormStats,
    ) -> Result<Tensor> {
        let x = self.encode(x)?;
        let norm = adain(&x, (&style.mean, &style.std), EPS)?;
        let mut x = stats.apply_to_own(x, norm.blend(alpha))?;
        for (index, group) in self.decoder.iter().enumerate() {
            for (position, conv) in group.iter().enumerate() {
                x = if index > 0 && position == 0 {
                    conv.upsampled(&x)?
                } else {
                    conv.forward(&x)?
                };
            }
        }
        Ok(x)
    }

    /// The number of pixels around a pixel of the output that it depends on, with [replayed
    /// statistics](NormStats::replay).
    pub fn reach(&self) -> usize {
        // In pixels of the input: 2, 4, 16 and 8 for the encoder's convolutions, as many for the
        // decoder's, and up to 7 for the three poolings and for the three upsamplings each.
        80
    }

    fn encode(&self, x: &Tensor) -> Result<Tensor> {
        match *x.dims() {
            [_, 3, h, w] if h.min(w) >= MIN_SIDE => {}
            ref dims => bail!(
                "AdaInStyle: a picture must have shape (N, 3, H, W) of at least {MIN_SIDE}x{MIN_SIDE}, got {dims:?}"
            ),
        }
        let mut x = self.colours.forward(x)?;
        for (index, group) in self.encoder.iter().enumerate() {
            if index > 0 {
                x = max_pool2x(&x)?;
            }
            for conv in group {
                x = conv.forward(&x)?;
            }
        }
        Ok(x)
    }
}

impl AdaInStyleStats {
    /// The weighted sum of styles, whose weights should add up to 1.
    ///
    /// # Errors
    ///
    /// There is none, or they are of different numbers of pictures.
    pub fn mix(styles: &[(Self, f64)]) -> Result<Self> {
        let sum = |part: fn(&Self) -> &Tensor| {
            let parts = styles.iter().map(|(style, weight)| part(style) * *weight);
            let sum = parts.reduce(|sum, part| sum? + part?);
            sum.unwrap_or_else(|| bail!("AdaInStyle: there is no style to mix"))
        };
        Ok(Self {
            mean: sum(|style| &style.mean)?,
            std: sum(|style| &style.std)?,
        })
    }
}
