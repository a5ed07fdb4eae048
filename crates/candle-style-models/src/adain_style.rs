//! The style transfer that adaptive instance norm was made for.

use candle_core::{bail, Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::layers::{PaddedConv, ANY};
use super::norms::{like_style, mean_and_std};
use super::resample::{max_pool2x, nearest2x};
use super::Norms;

/// Added to the variances, of the content and of the style, by the original.
const EPS: f64 = 1e-5;

/// The smallest side that leaves two rows to reflect after three halvings.
const MIN_SIDE: usize = 9;

/// Indices of the encoder's convolutions in its state dict, up to relu4_1, after the first of 1x1.
/// Each but the last of a group is followed by a ReLU, the last by a pooling as well.
const ENCODER: [&[usize]; 4] = [&[2, 5], &[9, 12], &[16, 19, 22, 25], &[29]];

/// The decoder's; each but the very last is followed by a ReLU, the last of a group by an
/// upsampling as well.
const DECODER: [&[usize]; 4] = [&[1], &[5, 8, 11, 14], &[18, 21], &[25, 28]];

/// Arbitrary style transfer in real time (Huang & Belongie, "Arbitrary Style Transfer in Real-time
/// with Adaptive Instance Normalization", 2017), as in `naoto0804/pytorch-AdaIN`.
///
/// A VGG-19 to relu4_1 encodes the content and the style; the features of the content get the mean
/// and deviation of the style's (unbiased variance, eps 1e-5), and a decoder makes a picture of
/// them.
///
/// # Shapes
///
/// - pictures: `(N, 3, H, W)`, RGB in `[0, 1]`, at least 9x9; of the style one for all or N
/// - output: `(N, 3, H', W')`, about `[0, 1]`; `H'` and `W'` are `H` and `W` of the content rounded
///   up to multiples of 8
///
/// # Errors
///
/// Another rank, number of channels or a smaller picture, and what candle says of dtype and device.
///
/// ```no_run
/// use candle_core::{DType, Device, Tensor};
/// use candle_style_models::AdaInStyle;
/// use candle_style_models::weights::Weights;
///
/// // A folder with vgg_normalised.pth and decoder.pth.
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
    colours: PaddedConv,
    encoder: Vec<Vec<PaddedConv>>,
    decoder: Vec<Vec<PaddedConv>>,
}

/// What [`AdaInStyle`] takes from a picture of a style: the mean and deviation of its features.
#[derive(Debug, Clone)]
pub struct AdaInStyleStats {
    mean: Tensor,
    std: Tensor,
}

impl AdaInStyle {
    /// Builds the network from the two state dicts, below `vgg_normalised` and `decoder`. Widths
    /// follow from the shapes.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or its shape does not fit the layer before it; the error names it.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let (vgg, decoder) = (vb.pp("vgg_normalised"), vb.pp("decoder"));
        let colours = PaddedConv::new(&vgg.pp(0), [3, 3], 1, 1)?;
        let mut width = 3;
        let mut conv = |vb: &VarBuilder, index: usize| {
            // The last convolution gives a picture.
            let c_out = if index == 28 { 3 } else { ANY };
            let conv = PaddedConv::new(&vb.pp(index), [c_out, width], 3, 1)?;
            width = conv.width();
            Ok(conv)
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

    /// The name itself, or nothing for those of the VGG beyond relu4_1, which is not used: for
    /// [`Weights::select`](crate::weights::Weights::select).
    pub fn original_name(name: &str) -> Option<String> {
        let index = name.strip_prefix("vgg_normalised.");
        let index = index.and_then(|rest| rest.split('.').next()?.parse().ok());
        (index.unwrap_or(0usize) <= 29).then(|| name.to_string())
    }

    /// Takes the style of a picture, once for any number of [`forward`](Self::forward).
    pub fn style(&self, x: &Tensor) -> Result<AdaInStyleStats> {
        let (mean, std) = mean_and_std(&self.encode(x)?, EPS)?;
        Ok(AdaInStyleStats { mean, std })
    }

    /// The content in a style. `alpha` is how much of the style is applied, 0 to 1.
    pub fn forward(&self, x: &Tensor, style: &AdaInStyleStats, alpha: f64) -> Result<Tensor> {
        self.forward_with(x, style, alpha, &mut Norms::own())
    }

    /// [`forward`](Self::forward) with the statistics of the content that `norms` says.
    pub fn forward_with(
        &self,
        x: &Tensor,
        style: &AdaInStyleStats,
        alpha: f64,
        norms: &mut Norms,
    ) -> Result<Tensor> {
        let x = self.encode(x)?;
        let styled = norms.apply(&x, like_style(&x, (&style.mean, &style.std), EPS)?)?;
        let mut x = ((styled * alpha)? + (x * (1. - alpha))?)?;
        for (index, group) in self.decoder.iter().enumerate() {
            if index > 0 {
                x = nearest2x(&x)?;
            }
            for (position, conv) in group.iter().enumerate() {
                // Between convolutions: neither the features nor the picture are to be cut.
                if index + position > 0 {
                    x = x.relu()?;
                }
                x = conv.forward(&x)?;
            }
        }
        Ok(x)
    }

    /// How many pixels around it a pixel of the output depends on, where the statistics of the
    /// norm are given.
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
                x = conv.forward(&x)?.relu()?;
            }
        }
        Ok(x)
    }
}

impl AdaInStyleStats {
    /// A mixture of styles, each with its share of the whole.
    ///
    /// # Errors
    ///
    /// When there are none, or they are not of the same number of pictures.
    pub fn mix(styles: &[(Self, f64)]) -> Result<Self> {
        let sum = |part: fn(&Self) -> &Tensor| {
            let parts = styles.iter().map(|(style, share)| part(style) * *share);
            let sum = parts.reduce(|sum, part| sum? + part?);
            sum.unwrap_or_else(|| bail!("AdaInStyle: there is no style to mix"))
        };
        Ok(Self {
            mean: sum(|style| &style.mean)?,
            std: sum(|style| &style.std)?,
        })
    }
}
