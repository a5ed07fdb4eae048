//! The ResNet generator of CycleGAN and pix2pix.

use candle_core::{Result, Tensor, bail};
use candle_instance_norm::{Activation, Normalization};
use candle_nn::{Module, VarBuilder};

use super::NormStats;
use super::conv::{Conv, DoublingConv, Form};
use super::layers::{conv2d, depthwise, doubling_conv};
use super::shapes::ANY;

/// The default eps of `torch.nn.InstanceNorm2d`, with which all checkpoints were trained.
const EPS: f64 = 1e-5;

/// The index of the first residual block in the state dict, after two downsampling convolutions.
const FIRST_BLOCK: usize = 10;

/// The smallest side that leaves two rows for the residual blocks to reflect after two halvings.
const MIN_SIDE: usize = 5;

/// The ResNet generator of CycleGAN (Zhu et al., [Unpaired Image-to-Image Translation using
/// Cycle-Consistent Adversarial Networks](https://arxiv.org/abs/1703.10593), 2017) and pix2pix (Isola
/// et al., [Image-to-Image Translation with Conditional Adversarial
/// Networks](https://arxiv.org/abs/1611.07004), 2017), as `ResnetGenerator` in
/// [junyanz/pytorch-CycleGAN-and-pix2pix](https://github.com/junyanz/pytorch-CycleGAN-and-pix2pix)
/// with instance norm and reflection padding.
///
/// A 7x7 convolution, two that halve the image, residual blocks, two transposed convolutions that
/// double it again and a 7x7 convolution to a `tanh`. Each convolution but the last is followed by
/// [`instance_norm`](candle_instance_norm::instance_norm) without affine parameters (eps 1e-5).
///
/// # Shapes
///
/// - input: `(N, C_in, H, W)`, as published RGB from -1 to 1, `(byte / 255 - 0.5) / 0.5`; `H` and
///   `W` at least 5; in the dtype of the weights
/// - output: `(N, C_out, H', W')`, from -1 to 1; `H'` and `W'` are `H` and `W` rounded up to multiples
///   of 4
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
/// # use std::collections::HashMap;
/// # use candle_core::{DType, Device, Tensor};
/// use candle_style_models::ResnetGenerator;
/// use candle_nn::{Module, VarBuilder};
///
/// # let mut weights = HashMap::new();
/// # for (name, shape) in [
/// #     ("model.1", [4, 3, 7, 7]), ("model.4", [8, 4, 3, 3]), ("model.7", [8, 8, 3, 3]),
/// #     ("model.10.conv_block.1", [8, 8, 3, 3]), ("model.10.conv_block.5", [8, 8, 3, 3]),
/// #     ("model.11", [8, 8, 3, 3]), ("model.14", [8, 8, 3, 3]), ("model.18", [3, 8, 7, 7]),
/// # ] {
/// #     let weight = Tensor::randn(0f32, 0.1, &shape, &Device::Cpu)?;
/// #     weights.insert(format!("{name}.weight"), weight);
/// #     let bias = Tensor::zeros(shape[0], DType::F32, &Device::Cpu)?;
/// #     weights.insert(format!("{name}.bias"), bias);
/// # }
/// let vb = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
/// let generator = ResnetGenerator::new(vb)?;
/// let x = Tensor::zeros((1, 3, 16, 24), DType::F32, &Device::Cpu)?;
/// assert_eq!(generator.forward(&x)?.dims(), [1, 3, 16, 24]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ResnetGenerator {
    head: Conv,
    down: [Conv; 2],
    blocks: Vec<ResnetBlock>,
    up: [DoublingConv; 2],
    tail: Conv,
}

impl ResnetGenerator {
    /// Builds the generator from a state dict with the original names (`model.1.weight`, ...).
    /// The depth, the widths and the form of the blocks are read from the names and shapes: any
    /// number of blocks, with or without dropout (inactive, but it shifts the names), with 3x3
    /// convolutions or the depthwise-separable ones of GAN Compression (Li et al.,
    /// [2003.08936](https://arxiv.org/abs/2003.08936)). Running statistics in old files are not
    /// used, as upstream removes them too. `vb` needs existing weights: a `VarMap` cannot tell the
    /// shapes.
    ///
    /// # Errors
    ///
    /// A tensor is missing, or its shape does not fit the layer before it. The error names it.
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let model = vb.pp("model");
        let head = conv2d(&model.pp(1), [ANY; 2], 7, Form::reflect(7))?;
        let halving = Form::same(3).stride(2);
        let down0 = conv2d(&model.pp(4), [ANY, head.width()], 3, halving)?;
        let down1 = conv2d(&model.pp(7), [ANY, down0.width()], 3, halving)?;
        let inner = down1.width();

        let block = |index| model.pp(FIRST_BLOCK + index).pp("conv_block");
        let more = (1..).take_while(|&index| has_conv(&block(index), 1));
        let blocks = std::iter::once(0).chain(more);
        let blocks = blocks.map(|index| ResnetBlock::new(&block(index), inner));
        let blocks = blocks.collect::<Result<Vec<_>>>()?;

        // Each stage takes three indices: convolution, norm, ReLU; the last has its padding first.
        let next = FIRST_BLOCK + blocks.len();
        let (up0, half) = doubling_conv(&model.pp(next), inner)?;
        let (up1, outer) = doubling_conv(&model.pp(next + 3), half)?;
        let tail = conv2d(&model.pp(next + 7), [ANY, outer], 7, Form::reflect(7))?;
        Ok(Self {
            head,
            down: [down0, down1],
            blocks,
            up: [up0, up1],
            tail,
        })
    }

    /// The number of residual blocks.
    pub fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The number of pixels around a pixel of the output that it depends on, with [replayed
    /// statistics](NormStats::replay): 88 with 9 blocks.
    pub fn reach(&self) -> usize {
        // In pixels of the input: 3 for the head, 1 and 2 on the way down, 2 convolutions of 4 in
        // each block, 4 and 2 on the way up, 3 for the tail, and 1 since transposed convolutions
        // reach further to one side.
        16 + 8 * self.blocks.len()
    }

    /// [`forward`](Module::forward) with statistics taken from `stats`.
    ///
    /// # Errors
    ///
    /// The errors of the [struct](Self), and `stats` [replays](NormStats::replay) those of fewer norms or
    /// of other numbers of samples or channels.
    pub fn forward_with(&self, x: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
        self.check_input(x)?;
        let mut x = norm_relu(self.head.forward(x)?, stats)?;
        for down in &self.down {
            x = norm_relu(down.forward(&x)?, stats)?;
        }
        for block in &self.blocks {
            x = block.forward(&x, stats)?;
        }
        for up in &self.up {
            x = norm_relu(up.forward(&x)?, stats)?;
        }
        self.tail.forward(&x)?.tanh()
    }

    fn check_input(&self, x: &Tensor) -> Result<()> {
        let channels = self.head.inputs();
        match *x.dims() {
            [_, c, h, w] if c == channels && h.min(w) >= MIN_SIDE => Ok(()),
            [_, c, h, w] if c == channels => {
                bail!(
                    "ResnetGenerator: the image must be at least {MIN_SIDE}x{MIN_SIDE}, got {h}x{w}"
                )
            }
            ref dims => {
                bail!(
                    "ResnetGenerator: the input must have shape (N, {channels}, H, W), got {dims:?}"
                )
            }
        }
    }
}

impl Module for ResnetGenerator {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, &mut NormStats::own())
    }
}

/// The networks' instance norm, which has no parameters.
fn norm(x: Tensor, stats: &mut NormStats) -> Result<Tensor> {
    stats.apply_to_own(x, Normalization::instance(EPS))
}

/// [`norm`] and ReLU in one pass.
fn norm_relu(x: Tensor, stats: &mut NormStats) -> Result<Tensor> {
    stats.apply_to_own(x, Normalization::instance(EPS).activation(Activation::Relu))
}

/// True if a block's state dict has a convolution at `index`.
fn has_conv(block: &VarBuilder, index: usize) -> bool {
    let conv = block.pp(index);
    conv.contains_tensor("weight") || conv.contains_tensor("conv.0.weight")
}

/// `x + norm(conv(relu(norm(conv(x)))))`.
#[derive(Debug, Clone)]
struct ResnetBlock {
    conv1: BlockConv,
    conv2: BlockConv,
}

impl ResnetBlock {
    fn new(vb: &VarBuilder, width: usize) -> Result<Self> {
        let (conv1, inner) = BlockConv::load(&vb.pp(1), [ANY, width])?;
        // With dropout after the first ReLU, everything behind it moves up by one.
        let second = if has_conv(vb, 5) { 5 } else { 6 };
        let (conv2, _) = BlockConv::load(&vb.pp(second), [width, inner])?;
        Ok(Self { conv1, conv2 })
    }

    fn forward(&self, x: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
        let y = self.conv1.forward(x, stats)?;
        let y = norm_relu(y, stats)?;
        let y = self.conv2.forward(&y, stats)?;
        stats.apply_to_own(y, Normalization::instance(EPS).residual(x))
    }
}

/// A 3x3 convolution over a reflection, in full or as a depthwise and a pointwise one with a norm
/// between them.
#[derive(Debug, Clone)]
enum BlockConv {
    Full(Conv),
    Separable { depthwise: Conv, pointwise: Conv },
}

impl BlockConv {
    /// Loads a convolution in the form that the names tell, and tells its number of output
    /// channels.
    fn load(vb: &VarBuilder, [c_out, c_in]: [usize; 2]) -> Result<(Self, usize)> {
        let separable = vb.pp("conv");
        if !separable.contains_tensor("0.weight") {
            let conv = conv2d(vb, [c_out, c_in], 3, Form::reflect(3))?;
            let c_out = conv.width();
            return Ok((Self::Full(conv), c_out));
        }
        let depthwise = depthwise(&separable.pp(0), c_in)?;
        let pointwise = conv2d(&separable.pp(2), [c_out, c_in], 1, Form::same(1))?;
        let c_out = pointwise.width();
        let conv = Self::Separable {
            depthwise,
            pointwise,
        };
        Ok((conv, c_out))
    }

    fn forward(&self, x: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
        match self {
            Self::Full(conv) => conv.forward(x),
            Self::Separable {
                depthwise,
                pointwise,
            } => pointwise.forward(&norm(depthwise.forward(x)?, stats)?),
        }
    }
}
