//! The network of fast neural style transfer.

use candle_core::{bail, Result, Tensor};
use candle_instance_norm::{Activation, Normalization};
use candle_nn::{conv2d, Conv2d, Conv2dConfig, Init, Module, VarBuilder};

use super::resample::nearest2x;
use super::{conv, reflection_pad2d, Norms};

/// The smallest side that leaves two rows for the residual blocks to reflect after two halvings.
const MIN_SIDE: usize = 5;

/// How large a [`TransformerNet`] is; the defaults are those of `pytorch/examples`.
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

/// The feed-forward style network of Johnson et al., "Perceptual Losses for Real-Time Style
/// Transfer" (2016) with the instance norm of Ulyanov et al. (2016), as `TransformerNet` in
/// `pytorch/examples/fast_neural_style`.
///
/// A 9x9 convolution, two that halve the image, residual blocks, two nearest-neighbour upsamplings
/// each followed by a convolution, and a 9x9 convolution to the picture. All convolutions pad by
/// reflection, and all but the last are followed by an affine instance norm (eps 1e-5).
///
/// # Shapes
///
/// - input: `(N, 3, H, W)`, RGB from 0 to 255; `H` and `W` at least 5
/// - output: `(N, 3, H', W')`, RGB around 0 to 255, to be clamped; `H'` and `W'` are `H` and `W`
///   rounded up to multiples of 4
///
/// # Errors
///
/// `forward` fails on another rank or channel count, on a smaller image, on an input whose dtype
/// or device is not that of the weights, and where candle has no convolution for the dtype (bf16
/// on the CPU in candle 0.11). For `backward`, `H` and `W` should be multiples of 4: candle 0.11
/// takes the output padding of the height for the width too where a convolution has a stride.
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
    down: [(PaddedConv, Affine); 3],
    blocks: Vec<ResidualBlock>,
    up: [(PaddedConv, Affine); 2],
    tail: PaddedConv,
}

impl TransformerNet {
    /// Builds the network from a state dict with the original names (`conv1.conv2d.weight`,
    /// `in1.weight`, `res1.in1.weight`, ...), its width and number of blocks read from there. Running
    /// statistics in old files are not used, as upstream removes them too; the `scale` and `shift`
    /// of the oldest norms are, with their eps of 1e-9.
    ///
    /// `vb` needs existing weights: a `VarMap` cannot tell the shapes.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape than the width asks for; the error names it.
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

    /// Builds a network of a given size; `vb` may make the variables, as a `VarMap` does. The names
    /// are those of [`TransformerNet::new`].
    ///
    /// # Errors
    ///
    /// When the width is 0, and as for [`TransformerNet::new`].
    pub fn with_config(config: TransformerNetConfig, vb: VarBuilder) -> Result<Self> {
        let TransformerNetConfig { width, num_blocks } = config;
        if width == 0 {
            bail!("TransformerNet: the width must be at least 1, got 0")
        }
        let stage = |conv: &str, norm_name: &str, c_in, c_out, kernel, stride| {
            let conv = PaddedConv::new(&vb.pp(conv), c_in, c_out, kernel, stride)?;
            Ok::<_, candle_core::Error>((conv, Affine::new(vb.pp(norm_name), c_out)?))
        };
        let (w1, w2, w4) = (width, 2 * width, 4 * width);
        Ok(Self {
            config,
            down: [
                stage("conv1", "in1", 3, w1, 9, 1)?,
                stage("conv2", "in2", w1, w2, 3, 2)?,
                stage("conv3", "in3", w2, w4, 3, 2)?,
            ],
            blocks: (1..=num_blocks)
                .map(|index| ResidualBlock::new(&vb.pp(format!("res{index}")), w4))
                .collect::<Result<_>>()?,
            up: [
                stage("deconv1", "in4", w4, w2, 3, 1)?,
                stage("deconv2", "in5", w2, w1, 3, 1)?,
            ],
            tail: PaddedConv::new(&vb.pp("deconv3"), w1, 3, 9, 1)?,
        })
    }

    /// The size of the network.
    pub fn config(&self) -> TransformerNetConfig {
        self.config
    }

    /// How many pixels around it a pixel of the output depends on, where the statistics of the
    /// norms are given: 64 with 5 blocks.
    pub fn reach(&self) -> usize {
        // In pixels of the input: 4 for the first convolution, 1 and 2 on the way down, 2
        // convolutions of 4 in each block, 2 and 1 on the way up, 4 for the last, and the up to 4
        // and 2 by which a doubled pixel lies off.
        20 + 8 * self.blocks.len() + 4
    }

    /// [`forward`](Module::forward) with the statistics that `norms` says.
    pub fn forward_with(&self, x: &Tensor, norms: &mut Norms) -> Result<Tensor> {
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
            x = norms.apply(&conv.forward(&x)?, norm.relu())?;
        }
        for block in &self.blocks {
            x = block.forward(&x, norms)?;
        }
        for (conv, norm) in &self.up {
            x = norms.apply(&conv.forward(&nearest2x(&x)?)?, norm.relu())?;
        }
        self.tail.forward(&x)
    }
}

impl Module for TransformerNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, &mut Norms::own())
    }
}

/// The affine norm of these networks; in the files of their first months, before PyTorch had the
/// layer, `weight` is `scale`, `bias` is `shift`, and eps is 1e-9.
#[derive(Debug, Clone)]
struct Affine {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl Affine {
    fn new(vb: VarBuilder, channels: usize) -> Result<Self> {
        let (names, eps) = match vb.contains_tensor("scale") {
            true => (["scale", "shift"], 1e-9),
            false => (["weight", "bias"], 1e-5),
        };
        let get = |name, init| vb.get_with_hints(channels, name, Init::Const(init));
        Ok(Self {
            weight: get(names[0], 1.)?,
            bias: get(names[1], 0.)?,
            eps,
        })
    }

    fn norm(&self) -> Normalization {
        let norm = Normalization::instance(self.eps);
        norm.weight(&self.weight).bias(&self.bias)
    }

    fn relu(&self) -> Normalization {
        self.norm().activation(Activation::Relu)
    }
}

/// A convolution after a reflection padding of half its kernel, `ConvLayer` upstream.
#[derive(Debug, Clone)]
struct PaddedConv {
    conv: Conv2d,
    pad: usize,
}

impl PaddedConv {
    fn new(
        vb: &VarBuilder,
        c_in: usize,
        c_out: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<Self> {
        let config = Conv2dConfig {
            stride,
            ..Default::default()
        };
        Ok(Self {
            conv: conv2d(c_in, c_out, kernel, config, vb.pp("conv2d"))?,
            pad: kernel / 2,
        })
    }
}

impl Module for PaddedConv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv::forward(&self.conv, &reflection_pad2d(x, self.pad)?)
    }
}

/// `x + norm(conv(relu(norm(conv(x)))))`.
#[derive(Debug, Clone)]
struct ResidualBlock {
    conv1: PaddedConv,
    norm1: Affine,
    conv2: PaddedConv,
    norm2: Affine,
}

impl ResidualBlock {
    fn new(vb: &VarBuilder, channels: usize) -> Result<Self> {
        let conv = |name| PaddedConv::new(&vb.pp(name), channels, channels, 3, 1);
        Ok(Self {
            conv1: conv("conv1")?,
            norm1: Affine::new(vb.pp("in1"), channels)?,
            conv2: conv("conv2")?,
            norm2: Affine::new(vb.pp("in2"), channels)?,
        })
    }

    fn forward(&self, x: &Tensor, norms: &mut Norms) -> Result<Tensor> {
        let y = norms.apply(&self.conv1.forward(x)?, self.norm1.relu())?;
        norms.apply(&self.conv2.forward(&y)?, self.norm2.norm().residual(x))
    }
}
