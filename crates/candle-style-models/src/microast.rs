//! MicroAST's arbitrary style transfer.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Module, VarBuilder};

use super::NormStats;
use super::conv::Conv;
use super::layers::reflecting_conv2d;
use super::norm_stats::{adain, mean_and_std};
use super::resample::bilinear2x;
use super::shapes::ANY;

/// The eps that the original adds to the variances of the content and of the style.
const EPS: f64 = 1e-5;

/// The smallest side that leaves two rows to reflect after two halvings.
const MIN_SIDE: usize = 5;

/// The style transfer of MicroAST (Wang et al., [MicroAST: Towards Super-Fast Ultra-Resolution
/// Arbitrary Style Transfer](https://arxiv.org/abs/2211.15313), 2023), as `TestNet` in
/// [EndyWon/MicroAST](https://github.com/EndyWon/MicroAST).
///
/// Two small encoders look at the content and at the style; the whole network has 0.5 million weights.
/// At two depths, the features of the content get the mean and the deviation of the style's
/// ([`adain`](candle_instance_norm::adain), with the unbiased variance and eps 1e-5), and the style
/// scales the convolutions and the shortcuts of the residual layer after them.
///
/// # Shapes
///
/// - content: `(N, 3, H, W)`, RGB from 0 to 1, at least 5x5, in the dtype of the weights
/// - style: likewise, of any size; one picture for the whole batch or N of them
/// - output: `(N, 3, H', W')`, RGB from about 0 to 1, to be clamped; `H'` and `W'` are `H` and `W` of
///   the content rounded up to multiples of 4
///
/// # Example
///
/// ```no_run
/// use candle_core::{DType, Device, Tensor};
/// use candle_style_models::MicroAst;
/// use candle_style_models::weights::Weights;
///
/// // A folder with content_encoder.pth, style_encoder.pth, modulator.pth and decoder.pth, which the
/// // feature `pth` reads.
/// let weights = Weights::open("microast")?;
/// let network = weights.build(DType::F32, &Device::Cpu, MicroAst::new)?;
/// let content = Tensor::rand(0f32, 1., (1, 3, 256, 384), &Device::Cpu)?;
/// let style = network.style(&Tensor::rand(0f32, 1., (1, 3, 200, 200), &Device::Cpu)?)?;
/// let y = network.forward(&content, &style, 1.)?;
/// assert_eq!(y.dims(), [1, 3, 256, 384]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MicroAst {
    content_encoder: Encoder,
    style_encoder: Encoder,
    /// For each depth, the convolutions whose means are the factors of the residual layer's
    /// convolutions and shortcuts.
    modulator: [[Conv; 2]; 2],
    residuals: [Residual; 2],
    tail: [Conv; 5],
}

/// A style for [`MicroAst`]: the statistics and the factors of the pictures that it was taken from.
#[derive(Debug, Clone)]
pub struct MicroAstStyle {
    depths: [Depth; 2],
}

/// The style at one depth.
#[derive(Debug, Clone)]
struct Depth {
    /// The mean and the deviation of the features, `(N, C)`, in f32 (f64 for f64).
    stats: [Tensor; 2],
    /// The factors of the convolutions and of the shortcuts, `(N, C, 1, 1)`.
    factors: [Tensor; 2],
}

impl MicroAst {
    /// Builds the network from four state dicts, below `content_encoder`, `style_encoder`,
    /// `modulator` and `decoder`. The widths and the groups are read from the shapes.
    ///
    /// # Errors
    ///
    /// A tensor is missing, or its shape does not fit the layer before it. The error names it.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let (content_encoder, width) = Encoder::new(&vb.pp("content_encoder"), ANY)?;
        let (style_encoder, _) = Encoder::new(&vb.pp("style_encoder"), width)?;
        let modulator = vb.pp("modulator");
        let modulator = |name| {
            let vb = modulator.pp(name).pp("0.conv_layer");
            reflecting_conv2d(&vb, [width, width], 3, 1)
        };
        let decoder = vb.pp("decoder");
        let residual = |name| Residual::new(&decoder.pp(name), width);
        let tail = decoder.pp("dec3");
        let tail = |index: usize, c_in, [c_out, kernel]: [usize; 2]| {
            reflecting_conv2d(&tail.pp(index).pp("conv_layer"), [c_out, c_in], kernel, 1)
        };
        let conv0 = tail(1, width, [ANY, 3])?.then_relu();
        let conv1 = tail(3, conv0.width(), [ANY, 1])?.then_relu();
        let conv2 = tail(6, conv1.width(), [ANY, 3])?.then_relu();
        let conv3 = tail(8, conv2.width(), [ANY, 1])?.then_relu();
        let conv4 = tail(10, conv3.width(), [3, 9])?;
        Ok(Self {
            content_encoder,
            style_encoder,
            modulator: [
                [modulator("weight1")?, modulator("bias1")?],
                [modulator("weight2")?, modulator("bias2")?],
            ],
            residuals: [residual("dec2")?, residual("dec1")?],
            tail: [conv0, conv1, conv2, conv3, conv4],
        })
    }

    /// Measures the style of pictures, for any number of calls of [`forward`](Self::forward).
    ///
    /// # Errors
    ///
    /// `x` is not `(N, 3, H, W)` of at least 5x5, or is of another dtype or on another device than
    /// the weights, or candle has no convolution for the dtype (f64 on Metal).
    pub fn style(&self, x: &Tensor) -> Result<MicroAstStyle> {
        check_input(x)?;
        let features = self.style_encoder.forward(x)?;
        let depth = |index: usize| -> Result<Depth> {
            let [weight, bias] = &self.modulator[index];
            let (mean, std) = mean_and_std(&features[index], EPS)?;
            // In f32: the sum of a plane may be beyond the range of f16.
            let pooled = |conv: &Conv| {
                let y = conv.forward(&features[index])?.to_dtype(std.dtype())?;
                y.mean_keepdim((2, 3))?.to_dtype(x.dtype())
            };
            let factors = [pooled(weight)?, pooled(bias)?];
            let stats = [mean, std];
            Ok(Depth { stats, factors })
        };
        let depths = [depth(0)?, depth(1)?];
        Ok(MicroAstStyle { depths })
    }

    /// The picture of the content `x` in a style. `alpha` mixes the features, from 0, those of the
    /// content, to 1, those with the style's statistics; the factors of the style apply in full.
    ///
    /// # Errors
    ///
    /// The errors of [`style`](Self::style), and `style` is of neither one picture nor as many as `x`.
    pub fn forward(&self, x: &Tensor, style: &MicroAstStyle, alpha: f64) -> Result<Tensor> {
        self.forward_with(x, style, alpha, &mut NormStats::own())
    }

    /// [`forward`](Self::forward) with the statistics of the content taken from `stats`.
    ///
    /// # Errors
    ///
    /// The errors of [`forward`](Self::forward), and `stats` [replays](NormStats::replay) those of fewer
    /// norms or of other numbers of samples or channels.
    pub fn forward_with(
        &self,
        x: &Tensor,
        style: &MicroAstStyle,
        alpha: f64,
        stats: &mut NormStats,
    ) -> Result<Tensor> {
        check_input(x)?;
        let [_, mut x] = self.content_encoder.forward(x)?;
        // The deeper features first.
        for (residual, depth) in self.residuals.iter().zip(&style.depths).rev() {
            let [mean, std] = &depth.stats;
            let norm = adain(&x, (mean, std), EPS)?.blend(alpha);
            x = stats.apply_to_own(x, norm)?;
            x = residual.modulated(&x, &depth.factors)?;
        }
        let [conv0, conv1, conv2, conv3, conv4] = &self.tail;
        let x = conv0.forward(&bilinear2x(&x)?)?;
        let x = conv1.forward(&x)?;
        let x = conv2.forward(&bilinear2x(&x)?)?;
        let x = conv3.forward(&x)?;
        conv4.forward(&x)
    }

    /// The number of pixels around a pixel of the output that it depends on, with [replayed
    /// statistics](NormStats::replay).
    pub fn reach(&self) -> usize {
        // In pixels of the input: 4, 1 and 2 for the convolutions on the way down; 8 for each of 4
        // residual layers; 4 and 2 for the interpolations and 2, 1 and 4 for the convolutions on
        // the way up.
        52
    }
}

impl MicroAstStyle {
    /// The weighted sum of styles, whose weights should add up to 1.
    ///
    /// # Errors
    ///
    /// There is none, or they are of different numbers of pictures.
    pub fn mix(styles: &[(Self, f64)]) -> Result<Self> {
        let Some(((first, weight), rest)) = styles.split_first() else {
            bail!("MicroAst: there is no style to mix")
        };
        let mut mixed = first.map(|tensor| tensor * *weight)?;
        for (style, weight) in rest {
            let scaled = style.map(|tensor| tensor * *weight)?;
            for (sum, part) in mixed.tensors_mut().zip(scaled.clone().tensors_mut()) {
                *sum = (&*sum + &*part)?;
            }
        }
        Ok(mixed)
    }

    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut mapped = self.clone();
        for tensor in mapped.tensors_mut() {
            *tensor = f(tensor)?;
        }
        Ok(mapped)
    }

    fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        let depths = self.depths.iter_mut();
        depths.flat_map(|depth| depth.stats.iter_mut().chain(&mut depth.factors))
    }
}

fn check_input(x: &Tensor) -> Result<()> {
    match *x.dims() {
        [_, 3, h, w] if h.min(w) >= MIN_SIDE => Ok(()),
        ref dims => bail!(
            "MicroAst: a picture must have shape (N, 3, H, W) of at least {MIN_SIDE}x{MIN_SIDE}, got {dims:?}"
        ),
    }
}

/// The encoder of the content or of the style: features at two depths, both with a quarter of the
/// picture's sides.
#[derive(Debug, Clone)]
struct Encoder {
    convs: [Conv; 5],
    residuals: [Residual; 2],
}

impl Encoder {
    fn new(vb: &VarBuilder, width: usize) -> Result<(Self, usize)> {
        let layers = vb.pp("enc1");
        let conv = |index: usize, widths, kernel, stride| {
            let vb = layers.pp(index).pp("conv_layer");
            Ok::<_, candle_core::Error>(reflecting_conv2d(&vb, widths, kernel, stride)?.then_relu())
        };
        let conv0 = conv(0, [ANY, 3], 9, 1)?;
        let conv1 = conv(2, [ANY, conv0.width()], 3, 2)?;
        let conv2 = conv(4, [ANY, conv1.width()], 1, 1)?;
        let conv3 = conv(6, [ANY, conv2.width()], 3, 2)?;
        let conv4 = conv(8, [width, conv3.width()], 1, 1)?;
        let width = conv4.width();
        let residuals = [
            Residual::new(&layers.pp(10), width)?,
            Residual::new(&vb.pp("enc2.0"), width)?,
        ];
        let convs = [conv0, conv1, conv2, conv3, conv4];
        Ok((Self { convs, residuals }, width))
    }

    fn forward(&self, x: &Tensor) -> Result<[Tensor; 2]> {
        let mut x = x.clone();
        for conv in &self.convs {
            x = conv.forward(&x)?;
        }
        let shallow = self.residuals[0].forward(&x)?;
        let deep = self.residuals[1].forward(&shallow)?;
        Ok([shallow, deep])
    }
}

/// `x + conv2(relu(conv1(x)))`.
#[derive(Debug, Clone)]
struct Residual {
    conv1: Conv,
    conv2: Conv,
}

impl Residual {
    fn new(vb: &VarBuilder, width: usize) -> Result<Self> {
        let conv = |name| reflecting_conv2d(&vb.pp(name).pp("conv_layer"), [width, width], 3, 1);
        Ok(Self {
            conv1: conv("conv1")?,
            conv2: conv("conv2")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x + self.conv2.forward(&self.conv1.forward(x)?.relu()?)?
    }

    /// [`forward`](Self::forward) with `weight * conv(x) + bias * x` in place of each convolution.
    fn modulated(&self, x: &Tensor, [weight, bias]: &[Tensor; 2]) -> Result<Tensor> {
        let modulate = |conv: &Conv, x: &Tensor| {
            let convolved = conv.forward(x)?.broadcast_mul(weight)?;
            convolved + x.broadcast_mul(bias)?
        };
        let inner = modulate(&self.conv1, x)?.relu()?;
        x + modulate(&self.conv2, &inner)?
    }
}
