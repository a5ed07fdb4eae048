//! Layers that several networks share, with widths read from the shapes of the weights.

use candle_core::{Result, Tensor};
use candle_instance_norm::{Activation, Normalization};
use candle_nn::VarBuilder;
use candle_nn::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig, Init, Module};

use super::conv_grad;
use super::reflection_pad2d;
use super::shapes::{ANY, weight};

/// The leaky ReLU of StarGAN v2 and GauGAN, in the pass of a norm.
pub(super) const LEAKY_RELU: Activation = Activation::LeakyRelu(0.2);

/// [`LEAKY_RELU`] by itself.
pub(super) fn leaky_relu(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::leaky_relu(x, 0.2)
}

/// The number of output channels.
pub(super) fn width(conv: &Conv2d) -> usize {
    conv.weight().dims()[0]
}

/// Loads a `kernel`x`kernel` convolution with a bias; `c_out` and `c_in` may be [`ANY`]. It pads
/// only where it has a stride: the others follow a reflection padding of their own.
pub(super) fn conv2d(
    vb: &VarBuilder,
    [c_out, c_in]: [usize; 2],
    kernel: usize,
    stride: usize,
) -> Result<Conv2d> {
    let weight = weight(vb, [c_out, c_in, kernel, kernel])?;
    let config = Conv2dConfig {
        stride,
        padding: if stride > 1 { kernel / 2 } else { 0 },
        ..Default::default()
    };
    let bias = vb.get(weight.dim(0)?, "bias")?;
    Ok(Conv2d::new(weight, Some(bias), config))
}

/// Loads a convolution of stride 1 that keeps the sides, with zeros around the input.
pub(super) fn same_conv2d(
    vb: &VarBuilder,
    [c_out, c_in]: [usize; 2],
    kernel: usize,
    bias: bool,
) -> Result<Conv2d> {
    same_conv2d_of(vb, weight(vb, [c_out, c_in, kernel, kernel])?, bias)
}

/// [`same_conv2d`] with a weight that is already loaded.
pub(super) fn same_conv2d_of(vb: &VarBuilder, weight: Tensor, bias: bool) -> Result<Conv2d> {
    let config = Conv2dConfig {
        padding: weight.dim(3)? / 2,
        ..Default::default()
    };
    let bias = bias.then(|| vb.get(weight.dim(0)?, "bias")).transpose()?;
    Ok(Conv2d::new(weight, bias, config))
}

/// Loads a 3x3 transposed convolution that doubles the sides, and tells its number of output
/// channels.
pub(super) fn conv_transpose2d(vb: &VarBuilder, c_in: usize) -> Result<(ConvTranspose2d, usize)> {
    let weight = weight(vb, [c_in, ANY, 3, 3])?;
    let c_out = weight.dim(1)?;
    let config = ConvTranspose2dConfig {
        stride: 2,
        padding: 1,
        output_padding: 1,
        dilation: 1,
    };
    let conv = ConvTranspose2d::new(weight, Some(vb.get(c_out, "bias")?), config);
    Ok((conv, c_out))
}

/// A convolution after a reflection padding of half its kernel.
#[derive(Debug, Clone)]
pub(super) struct PaddedConv {
    conv: Conv2d,
    pad: usize,
}

impl PaddedConv {
    /// Loads a convolution; `c_out` and `c_in` may be [`ANY`], and it may have any number of groups,
    /// which follows from the shape of its weight.
    pub fn load(
        vb: &VarBuilder,
        [c_out, c_in]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Result<Self> {
        let mut weight = weight(vb, [c_out, ANY, kernel, kernel])?;
        let (c_out, per_group) = (weight.dim(0)?, weight.dim(1)?);
        if ![c_in, c_out, per_group].contains(&ANY) {
            let groups = c_in / per_group;
            weight = if groups * per_group == c_in && c_out % groups == 0 {
                dense(&weight, groups)?
            } else {
                self::weight(vb, [c_out, c_in, kernel, kernel])?
            };
        }
        let config = Conv2dConfig {
            stride,
            ..Default::default()
        };
        Ok(Self {
            conv: Conv2d::new(weight, Some(vb.get(c_out, "bias")?), config),
            pad: kernel / 2,
        })
    }

    /// A convolution of known widths, whose variables `vb` may make.
    pub fn new(
        vb: VarBuilder,
        [c_out, c_in]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Result<Self> {
        let config = Conv2dConfig {
            stride,
            ..Default::default()
        };
        Ok(Self {
            conv: candle_nn::conv2d(c_in, c_out, kernel, config, vb)?,
            pad: kernel / 2,
        })
    }

    /// The number of output channels.
    pub fn width(&self) -> usize {
        width(&self.conv)
    }
}

impl Module for PaddedConv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv_grad::forward(&self.conv, &reflection_pad2d(x, self.pad)?)
    }
}

/// The weight of a convolution without groups that computes the same, zero between the groups.
///
/// candle runs groups one by one ([issue 3389](https://github.com/huggingface/candle/issues/3389));
/// for the 16 to 64 groups of 1 or 2 channels here, one matrix product with the zeros in it is less
/// work. Remove this when candle runs a grouped convolution as one.
fn dense(weight: &Tensor, groups: usize) -> Result<Tensor> {
    let (c_out, per_group, height, width) = weight.dims4()?;
    let rows = c_out / groups;
    let row = |group: usize| {
        let zeros = |channels| {
            let shape = (rows, channels, height, width);
            Tensor::zeros(shape, weight.dtype(), weight.device())
        };
        let before = zeros(group * per_group)?;
        let after = zeros((groups - 1 - group) * per_group)?;
        let own = weight.narrow(0, group * rows, rows)?;
        Tensor::cat(&[&before, &own, &after], 1)
    };
    let rows = (0..groups).map(row).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&rows, 0)
}

/// A 3x3 convolution of each channel by itself, without padding.
#[derive(Debug, Clone)]
pub(super) struct Depthwise {
    weight: Tensor,
    bias: Tensor,
}

impl Depthwise {
    pub fn new(vb: &VarBuilder, channels: usize) -> Result<Self> {
        Ok(Self {
            // Published as [C, 1, 3, 3]; a tap of [1, C, 3, 3] broadcasts over the images.
            weight: vb.get((channels, 1, 3, 3), "weight")?.transpose(0, 1)?,
            bias: vb.get(channels, "bias")?.reshape((1, (), 1, 1))?,
        })
    }
}

impl Module for Depthwise {
    /// The sum of nine shifted products; `x` is at least 3x3.
    ///
    /// candle runs groups one by one ([issue
    /// 3389](https://github.com/huggingface/candle/issues/3389)): 128 channels of 64x64 take 31 ms
    /// that way on two cores and 2.4 ms this way, and on a GPU it is 128 launches or more against
    /// 18. Remove this when a candle release has [pull request
    /// 3531](https://github.com/huggingface/candle/pull/3531), which does the same inside `conv2d`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, c, height, width) = x.dims4()?;
        let mut y = self.bias.broadcast_as((n, c, height - 2, width - 2))?;
        for row in 0..3 {
            let x = x.narrow(2, row, height - 2)?;
            let weight = self.weight.narrow(2, row, 1)?;
            for col in 0..3 {
                let tap = weight.narrow(3, col, 1)?;
                y = (y + x.narrow(3, col, width - 2)?.broadcast_mul(&tap)?)?;
            }
        }
        Ok(y)
    }
}

/// The weight and the bias of an instance norm, for each channel.
#[derive(Debug, Clone)]
pub(super) struct AffineNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl AffineNorm {
    /// A norm whose tensors have the given `names`, that of the weight first.
    pub fn new(vb: &VarBuilder, names: [&str; 2], channels: usize, eps: f64) -> Result<Self> {
        let get = |name, init| vb.get_with_hints(channels, name, Init::Const(init));
        Ok(Self {
            weight: get(names[0], 1.)?,
            bias: get(names[1], 0.)?,
            eps,
        })
    }

    /// The norm followed by `activation`.
    pub fn then(&self, activation: Activation) -> Normalization {
        let norm = Normalization::instance(self.eps).activation(activation);
        norm.weight(&self.weight).bias(&self.bias)
    }
}
