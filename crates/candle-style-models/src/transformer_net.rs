//! The network of fast neural style.

use candle_core::{Result, Tensor, bail};
use candle_instance_norm::Activation;
use candle_nn::{Module, VarBuilder};

use super::NormStats;
use super::conv::Conv;
use super::layers::{AffineNorm, new_reflecting_conv2d};

/// The smallest side that leaves two rows for the residual blocks to reflect after two halvings.
const MIN_SIDE: usize = 5;

/// The size of a [`TransformerNet`]; the defaults are those of `pytorch/examples`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformerNetConfig {
    /// Channels at full resolution, 32 by default; twice and four times as many after the halvings.
    pub width: usize,
    /// Residual blocks, 5 by default.
    pub num_blocks: usize,
}

impl Default for TransformerNetConfig {
    fn default() -> Self {
        Self {
            width: 32,
            num_blocks: 5,
        }
    }
}

/// The network of fast neural style (Johnson et al., [Perceptual Losses for Real-Time Style Transfer
/// and Super-Resolution](https://arxiv.org/abs/1603.08155), 2016) with the instance norm of Ulyanov
/// et al. ([1607.08022](https://arxiv.org/abs/1607.08022)), as `TransformerNet` in
/// [pytorch/examples](https://github.com/pytorch/examples/tree/main/fast_neural_style).
///
/// A 9x9 convolution, two that halve the image, residual blocks, two nearest-neighbour upsamplings
/// each followed by a convolution, and a 9x9 convolution to the picture. All convolutions pad by
/// reflection, and all but the last are followed by an affine instance norm (eps 1e-5).
///
/// # Shapes
///
/// - input: `(N, 3, H, W)`, RGB from 0 to 255, in the dtype of the weights; `H` and `W` at least 5
/// - output: `(N, 3, H', W')`, RGB around 0 to 255, to be clamped; `H'` and `W'` are `H` and `W`
///   rounded up to multiples of 4
///
/// # Errors
///
/// `forward` fails on another rank or channel count, on a smaller image, on an input whose dtype
/// or device is not that of the weights, and where candle has no convolution for the dtype (f64
/// on Metal). For `backward` on a GPU, `H` and `W` should be multiples of 4: where a convolution has
/// a stride, [candle 0.11](https://docs.rs/crate/candle-core/0.11.1/source/src/backprop.rs) takes the
/// output padding of the height for the width too.
///
/// # Example
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_style_models::{TransformerNet, TransformerNetConfig};
/// use candle_nn::{Module, VarBuilder, VarMap};
///
/// // To train; for weights of a file, `TransformerNet::new` reads the size from their shapes.
/// let vars = VarMap::new();
/// let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
/// let config = TransformerNetConfig { width: 4, num_blocks: 1 };
/// let net = TransformerNet::with_config(config, vb)?;
/// let x = Tensor::zeros((1, 3, 16, 24), DType::F32, &Device::Cpu)?;
/// assert_eq!(net.forward(&x)?.dims(), [1, 3, 16, 24]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TransformerNet {
    config: TransformerNetConfig,
    down: [(Conv, AffineNorm); 3],
    blocks: Vec<ResidualBlock>,
    up: [(Conv, AffineNorm); 2],
    tail: Conv,
}

impl TransformerNet {
    /// Builds the network from a state dict with the original names (`conv1.conv2d.weight`,
    /// `in1.weight`, `res1.in1.weight`, ...). Its width and number of blocks are read from there.
    /// Running statistics in old files are not used, as upstream removes them too; the norms of the
    /// oldest files, `scale` and `shift` with an eps of 1e-9, are.
    ///
    /// `vb` needs existing weights: a `VarMap` cannot tell the shapes.
    ///
    /// # Errors
    ///
    /// A tensor is missing, or has another shape than the width asks for. The error names it.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let first = "conv1.conv2d.weight";
        let weight = vb.get_unchecked_dtype(first, vb.dtype())?;
        let &[width, 3, 9, 9] = weight.dims() else {
            bail!(
                "TransformerNet: {first} must have shape [_, 3, 9, 9], got {:?}",
                weight.dims()
            )
        };
        let block = |index: usize| format!("res{index}.conv1.conv2d.weight");
        let num_blocks = (1..)
            .take_while(|&index| vb.contains_tensor(&block(index)))
            .count();
        Self::with_config(TransformerNetConfig { width, num_blocks }, vb)
    }

    /// Builds a network of a given size, whose variables `vb` may make, as a `VarMap` does. The
    /// names are those of [`TransformerNet::new`].
    ///
    /// # Errors
    ///
    /// The width is 0, and the errors of [`TransformerNet::new`].
    pub fn with_config(config: TransformerNetConfig, vb: VarBuilder) -> Result<Self> {
        let TransformerNetConfig { width, num_blocks } = config;
        if width == 0 {
            bail!("TransformerNet: the width must be at least 1, got 0")
        }
        let stage = |conv: &str, norm: &str, [c_out, c_in]: [usize; 2], kernel, stride| {
            let conv =
                new_reflecting_conv2d(vb.pp(conv).pp("conv2d"), [c_out, c_in], kernel, stride)?;
            Ok::<_, candle_core::Error>((conv, affine_norm(&vb.pp(norm), c_out)?))
        };
        let (w1, w2, w4) = (width, 2 * width, 4 * width);
        Ok(Self {
            config,
            down: [
                stage("conv1", "in1", [w1, 3], 9, 1)?,
                stage("conv2", "in2", [w2, w1], 3, 2)?,
                stage("conv3", "in3", [w4, w2], 3, 2)?,
            ],
            blocks: (1..=num_blocks)
                .map(|index| ResidualBlock::new(&vb.pp(format!("res{index}")), w4))
                .collect::<Result<_>>()?,
            up: [
                stage("deconv1", "in4", [w2, w4], 3, 1)?,
                stage("deconv2", "in5", [w1, w2], 3, 1)?,
            ],
            tail: new_reflecting_conv2d(vb.pp("deconv3.conv2d"), [3, w1], 9, 1)?,
        })
    }

    /// The size of the network.
    pub fn config(&self) -> TransformerNetConfig {
        self.config
    }

    /// The number of pixels around a pixel of the output that it depends on, with [replayed
    /// statistics](NormStats::replay): 64 with 5 blocks.
    pub fn reach(&self) -> usize {
        // In pixels of the input: 4 for the first convolution, 1 and 2 on the way down, 2
        // convolutions of 4 in each block, 2 and 1 on the way up, 4 for the last convolution, up to
        // 3 for the two upsamplings, and 7 to spare.
        24 + 8 * self.blocks.len()
    }

    /// [`forward`](Module::forward) with statistics taken from `stats`.
    ///
    /// # Errors
    ///
    /// The errors of the [struct](Self), and `stats` [replays](NormStats::replay) those of fewer norms or
    /// of other numbers of samples or channels.
    pub fn forward_with(&self, x: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
        match *x.dims() {
            [_, 3, h, w] if h.min(w) >= MIN_SIDE => {}
            [_, 3, h, w] => {
                bail!(
                    "TransformerNet: the image must be at least {MIN_SIDE}x{MIN_SIDE}, got {h}x{w}"
                )
            }
            ref dims => {
                bail!("TransformerNet: the input must have shape (N, 3, H, W), got {dims:?}")
            }
        }
        let mut x = x.clone();
        for (conv, norm) in &self.down {
            x = stats.apply_to_own(conv.forward(&x)?, norm.then(Activation::Relu))?;
        }
        for block in &self.blocks {
            x = block.forward(&x, stats)?;
        }
        for (conv, norm) in &self.up {
            x = stats.apply_to_own(conv.upsampled(&x)?, norm.then(Activation::Relu))?;
        }
        self.tail.forward(&x)
    }
}

impl Module for TransformerNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, &mut NormStats::own())
    }
}

/// Loads a norm. In the files of the first months, before PyTorch had the layer, its weight is named
/// `scale`, its bias `shift`, and eps is 1e-9.
fn affine_norm(vb: &VarBuilder, channels: usize) -> Result<AffineNorm> {
    if vb.contains_tensor("scale") {
        AffineNorm::new(vb, ["scale", "shift"], channels, 1e-9)
    } else {
        AffineNorm::new(vb, ["weight", "bias"], channels, 1e-5)
    }
}

/// `x + norm(conv(relu(norm(conv(x)))))`.
#[derive(Debug, Clone)]
struct ResidualBlock {
    conv1: Conv,
    norm1: AffineNorm,
    conv2: Conv,
    norm2: AffineNorm,
}

impl ResidualBlock {
    fn new(vb: &VarBuilder, channels: usize) -> Result<Self> {
        let conv = |name| new_reflecting_conv2d(vb.pp(name), [channels, channels], 3, 1);
        Ok(Self {
            conv1: conv("conv1.conv2d")?,
            norm1: affine_norm(&vb.pp("in1"), channels)?,
            conv2: conv("conv2.conv2d")?,
            norm2: affine_norm(&vb.pp("in2"), channels)?,
        })
    }

    fn forward(&self, x: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
        let y = self.conv1.forward(x)?;
        let y = stats.apply_to_own(y, self.norm1.then(Activation::Relu))?;
        let norm2 = self.norm2.then(Activation::None).residual(x);
        stats.apply_to_own(self.conv2.forward(&y)?, norm2)
    }
}
