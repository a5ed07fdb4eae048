//! Layers that several networks share, with widths read from the shapes of the weights.

use candle_core::{Result, Tensor};
use candle_instance_norm::{Activation, Normalization};
use candle_nn::{Init, VarBuilder};

use super::conv::{Conv, DoublingConv, Form, dense};
use super::shapes::{ANY, weight};

/// The leaky ReLU of StarGAN v2 and GauGAN, in the pass of a norm.
pub(super) const LEAKY_RELU: Activation = Activation::LeakyRelu(0.2);

/// [`LEAKY_RELU`] by itself.
pub(super) fn leaky_relu(x: &Tensor) -> Result<Tensor> {
    candle_nn::ops::leaky_relu(x, 0.2)
}

/// Loads a `kernel`x`kernel` convolution; `c_out` and `c_in` may be [`ANY`].
pub(super) fn conv2d(
    vb: &VarBuilder,
    [c_out, c_in]: [usize; 2],
    kernel: usize,
    form: Form,
) -> Result<Conv> {
    let weight = weight(vb, [c_out, c_in, kernel, kernel])?;
    let bias = vb.get(weight.dim(0)?, "bias")?;
    Conv::new(weight, Some(bias), form)
}

/// Loads a convolution that keeps the sides, with zeros around the input.
pub(super) fn same_conv2d(
    vb: &VarBuilder,
    [c_out, c_in]: [usize; 2],
    kernel: usize,
    bias: bool,
) -> Result<Conv> {
    same_conv2d_of(vb, weight(vb, [c_out, c_in, kernel, kernel])?, bias)
}

/// [`same_conv2d`] with a weight that is already loaded.
pub(super) fn same_conv2d_of(vb: &VarBuilder, weight: Tensor, bias: bool) -> Result<Conv> {
    let form = Form::same(weight.dim(3)?);
    let bias = bias.then(|| vb.get(weight.dim(0)?, "bias")).transpose()?;
    Conv::new(weight, bias, form)
}

/// Loads a 3x3 transposed convolution that doubles the sides, and tells its number of output
/// channels.
pub(super) fn doubling_conv(vb: &VarBuilder, c_in: usize) -> Result<(DoublingConv, usize)> {
    let weight = weight(vb, [c_in, ANY, 3, 3])?;
    let c_out = weight.dim(1)?;
    Ok((DoublingConv::new(weight, vb.get(c_out, "bias")?)?, c_out))
}

/// Loads a 3x3 convolution of each channel by itself, over a reflection.
pub(super) fn depthwise(vb: &VarBuilder, channels: usize) -> Result<Conv> {
    let weight = vb.get((channels, 1, 3, 3), "weight")?;
    let form = Form::reflect(3).groups(channels);
    Conv::new(weight, Some(vb.get(channels, "bias")?), form)
}

/// Loads a convolution over a reflection of half its kernel; `c_out` and `c_in` may be [`ANY`], and it
/// may have any number of groups, which follows from the shape of its weight.
pub(super) fn reflecting_conv2d(
    vb: &VarBuilder,
    [c_out, c_in]: [usize; 2],
    kernel: usize,
    stride: usize,
) -> Result<Conv> {
    let mut weight = weight(vb, [c_out, ANY, kernel, kernel])?;
    let (c_out, per_group) = (weight.dim(0)?, weight.dim(1)?);
    let mut form = Form::reflect(kernel).stride(stride);
    if ![c_in, c_out, per_group].contains(&ANY) {
        let groups = c_in / per_group;
        if groups * per_group != c_in || c_out % groups != 0 {
            weight = self::weight(vb, [c_out, c_in, kernel, kernel])?;
        } else if groups > 1 && !weight.device().is_cpu() {
            weight = dense(&weight, groups)?;
        } else {
            form = form.groups(groups);
        }
    }
    Conv::new(weight, Some(vb.get(c_out, "bias")?), form)
}

/// A convolution of known widths over a reflection of half its kernel, whose variables `vb` may make.
pub(super) fn new_reflecting_conv2d(
    vb: VarBuilder,
    [c_out, c_in]: [usize; 2],
    kernel: usize,
    stride: usize,
) -> Result<Conv> {
    let conv = candle_nn::conv2d(c_in, c_out, kernel, Default::default(), vb)?;
    let form = Form::reflect(kernel).stride(stride);
    Conv::new(conv.weight().clone(), conv.bias().cloned(), form)
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
