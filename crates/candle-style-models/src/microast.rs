//! MicroAST.

use candle_core::{bail, Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::layers::{PaddedConv, ANY};
use super::norms::{like_style, mean_and_std};
use super::resample::bilinear2x;
use super::Norms;

/// Added to the variances, of the content and of the style, by the original.
const EPS: f64 = 1e-5;

/// The smallest side that leaves two rows to reflect after two halvings.
const MIN_SIDE: usize = 5;

/// The arbitrary style transfer of MicroAST (Wang et al., "MicroAST: Towards Super-Fast
/// Ultra-Resolution Arbitrary Style Transfer", 2023), as `TestNet` in `EndyWon/MicroAST`.
///
/// Two small encoders, for the content and for the style; the style gives the mean and deviation
/// of features at two depths, put on the content by adaptive instance norm with the unbiased
/// variance (eps 1e-5), and a factor for the convolutions and the shortcuts of the residual layer
/// after each.
///
/// # Shapes
///
/// - pictures: `(N, 3, H, W)`, RGB in `[0, 1]`, at least 5x5; of the style one for all or N
/// - output: `(N, 3, H', W')`, about `[0, 1]`; `H'` and `W'` are `H` and `W` of the content rounded
///   up to multiples of 4
///
/// # Errors
///
/// Another rank, number of channels or a smaller picture, and what candle says of dtype and device.
///
/// ```no_run
/// use candle_core::{DType, Device, Tensor};
/// use candle_style_models::{MicroAst, Norms};
/// use candle_style_models::weights::Weights;
///
/// // A folder with content_encoder.pth, style_encoder.pth, modulator.pth and decoder.pth.
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
    /// The convolutions that give the factors of the convolutions and of the shortcuts.
    modulator: [[PaddedConv; 2]; 2],
    residuals: [Residual; 2],
    tail: [PaddedConv; 5],
}

/// What [`MicroAst`] takes from a picture of a style.
#[derive(Debug, Clone)]
pub struct MicroAstStyle {
    depths: [Depth; 2],
}

/// The style at one depth.
#[derive(Debug, Clone)]
struct Depth {
    /// Mean and deviation of the features, `(N, C)`, in f32 (f64 for f64).
    stats: [Tensor; 2],
    /// Factors of the convolutions and of the shortcuts, `(N, C, 1, 1)`.
    factors: [Tensor; 2],
}

impl MicroAst {
    /// Builds the network from the four state dicts, below `content_encoder`, `style_encoder`,
    /// `modulator` and `decoder`. Widths and groups follow from the shapes.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or its shape does not fit the layer before it; the error names it.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let (content_encoder, width) = Encoder::new(&vb.pp("content_encoder"), ANY)?;
        let (style_encoder, _) = Encoder::new(&vb.pp("style_encoder"), width)?;
        let modulator = vb.pp("modulator");
        let modulator = |name| {
            let vb = modulator.pp(name).pp("0.conv_layer");
            PaddedConv::new(&vb, [width, width], 3, 1)
        };
        let decoder = vb.pp("decoder");
        let residual = |name| Residual::new(&decoder.pp(name), width);
        let tail = decoder.pp("dec3");
        let tail = |index: usize, c_in, [c_out, kernel]: [usize; 2]| {
            PaddedConv::new(&tail.pp(index).pp("conv_layer"), [c_out, c_in], kernel, 1)
        };
        let conv0 = tail(1, width, [ANY, 3])?;
        let conv1 = tail(3, conv0.width(), [ANY, 1])?;
        let conv2 = tail(6, conv1.width(), [ANY, 3])?;
        let conv3 = tail(8, conv2.width(), [ANY, 1])?;
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

    /// Takes the style of a picture, once for any number of [`forward`](Self::forward).
    pub fn style(&self, x: &Tensor) -> Result<MicroAstStyle> {
        check_input(x)?;
        let features = self.style_encoder.forward(x)?;
        let depth = |index: usize| -> Result<Depth> {
            let [weight, bias] = &self.modulator[index];
            let (mean, std) = mean_and_std(&features[index], EPS)?;
            // In f32: a sum of so many halves would leave their range.
            let pooled = |conv: &PaddedConv| {
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

    /// The content in a style. `alpha` is how much of the style's statistics is applied, 0 to 1.
    pub fn forward(&self, x: &Tensor, style: &MicroAstStyle, alpha: f64) -> Result<Tensor> {
        self.forward_with(x, style, alpha, &mut Norms::own())
    }

    /// [`forward`](Self::forward) with the statistics of the content that `norms` says.
    pub fn forward_with(
        &self,
        x: &Tensor,
        style: &MicroAstStyle,
        alpha: f64,
        norms: &mut Norms,
    ) -> Result<Tensor> {
        check_input(x)?;
        let [_, mut x] = self.content_encoder.forward(x)?;
        // From the deeper features to the others.
        for (residual, depth) in self.residuals.iter().zip(&style.depths).rev() {
            let [mean, std] = &depth.stats;
            let styled = norms.apply(&x, like_style(&x, (mean, std), EPS)?)?;
            x = ((styled * alpha)? + (x * (1. - alpha))?)?;
            x = residual.modulated(&x, &depth.factors)?;
        }
        let [conv0, conv1, conv2, conv3, conv4] = &self.tail;
        let x = conv0.forward(&bilinear2x(&x)?)?.relu()?;
        let x = conv1.forward(&x)?.relu()?;
        let x = conv2.forward(&bilinear2x(&x)?)?.relu()?;
        let x = conv3.forward(&x)?.relu()?;
        conv4.forward(&x)
    }

    /// How many pixels around it a pixel of the output depends on, where the statistics of the
    /// norms are given.
    pub fn reach(&self) -> usize {
        // In pixels of the input: 4, 1 and 2 on the way down, 4 residual layers of 2 convolutions
        // of 4, and on the way up 4 and 2 for the interpolations, 2 and 1 and 4 for convolutions.
        52
    }
}

impl MicroAstStyle {
    /// A mixture of styles, each with its share of the whole: the sum of what they are made of.
    ///
    /// # Errors
    ///
    /// When there are none, or they are not of the same number of pictures.
    pub fn mix(styles: &[(Self, f64)]) -> Result<Self> {
        let Some(((first, share), rest)) = styles.split_first() else {
            bail!("MicroAst: there is no style to mix")
        };
        let mut mixed = first.map(|tensor| tensor * *share)?;
        for (style, share) in rest {
            let scaled = style.map(|tensor| tensor * *share)?;
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

/// Features at two depths, both a quarter of the picture's size.
#[derive(Debug, Clone)]
struct Encoder {
    convs: [PaddedConv; 5],
    residuals: [Residual; 2],
}

impl Encoder {
    fn new(vb: &VarBuilder, width: usize) -> Result<(Self, usize)> {
        let layers = vb.pp("enc1");
        let conv = |index: usize, widths, kernel, stride| {
            PaddedConv::new(&layers.pp(index).pp("conv_layer"), widths, kernel, stride)
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
            x = conv.forward(&x)?.relu()?;
        }
        let shallow = self.residuals[0].forward(&x)?;
        let deep = self.residuals[1].forward(&shallow)?;
        Ok([shallow, deep])
    }
}

/// `x + conv2(relu(conv1(x)))`.
#[derive(Debug, Clone)]
struct Residual {
    conv1: PaddedConv,
    conv2: PaddedConv,
}

impl Residual {
    fn new(vb: &VarBuilder, width: usize) -> Result<Self> {
        let conv = |name| PaddedConv::new(&vb.pp(name).pp("conv_layer"), [width, width], 3, 1);
        Ok(Self {
            conv1: conv("conv1")?,
            conv2: conv("conv2")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x + self.conv2.forward(&self.conv1.forward(x)?.relu()?)?
    }

    /// The same with `weight * conv(x) + bias * x` in the place of each convolution.
    fn modulated(&self, x: &Tensor, [weight, bias]: &[Tensor; 2]) -> Result<Tensor> {
        let modulate = |conv: &PaddedConv, x: &Tensor| {
            let convolved = conv.forward(x)?.broadcast_mul(weight)?;
            convolved + x.broadcast_mul(bias)?
        };
        let inner = modulate(&self.conv1, x)?.relu()?;
        x + modulate(&self.conv2, &inner)?
    }
}
