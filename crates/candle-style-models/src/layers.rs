//! Layers of the networks, with their widths read from the weights' shapes.

use candle_core::{bail, Error, Result, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig, Module, VarBuilder};

use super::reflection_pad2d;

/// A width that only the weights tell.
pub(super) const ANY: usize = 0;

/// Loads a `kernel`x`kernel` convolution and tells its number of output channels; `c_out` and
/// `c_in` may be [`ANY`]. It pads only where it has a stride: the others follow a reflection
/// padding of their own.
pub(super) fn conv2d(
    vb: &VarBuilder,
    [c_out, c_in]: [usize; 2],
    kernel: usize,
    stride: usize,
) -> Result<(Conv2d, usize)> {
    let weight = weight(vb, [c_out, c_in, kernel, kernel])?;
    let c_out = weight.dim(0)?;
    let config = Conv2dConfig {
        stride,
        padding: if stride > 1 { kernel / 2 } else { 0 },
        ..Default::default()
    };
    let conv = Conv2d::new(weight, Some(vb.get(c_out, "bias")?), config);
    Ok((conv, c_out))
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

/// Loads `weight`, any size above zero where [`ANY`] is expected.
///
/// Where it is missing or of another shape, that is an error; but
/// [`Weights::build`](crate::weights::Weights::build), which collects all of these, gives a blank
/// for what is asked of it by shape, with no elements where a width is not known.
pub(super) fn weight(vb: &VarBuilder, expected: [usize; 4]) -> Result<Tensor> {
    named_weight(vb, "weight", expected)
}

/// The same under another name.
pub(super) fn named_weight(vb: &VarBuilder, name: &str, expected: [usize; 4]) -> Result<Tensor> {
    let fits = |(&dim, want): (&usize, usize)| if want == ANY { dim > 0 } else { dim == want };
    // Not `get_unchecked`, which ignores the dtype given by `VarBuilder::to_dtype`.
    let found = match vb.get_unchecked_dtype(name, vb.dtype()) {
        Ok(weight) if weight.rank() == 4 && weight.dims().iter().zip(expected).all(fits) => {
            return Ok(weight)
        }
        Ok(weight) => weight.dims().to_vec(),
        Err(Error::CannotFindTensor { .. }) => return vb.get(&expected[..], name),
        // A `VarMap` would make one of no elements.
        Err(error) => return Err(error),
    };
    vb.get(&expected[..], name).or_else(|_| {
        let dim = |dim| match dim {
            ANY => "_".to_string(),
            dim => dim.to_string(),
        };
        bail!(
            "{} must have shape [{}], got {found:?}",
            vb.pp(name).prefix(),
            expected.map(dim).join(", ")
        )
    })
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
            // As published, [C, 1, 3, 3]; a tap of [1, C, 3, 3] broadcasts over the images.
            weight: vb.get((channels, 1, 3, 3), "weight")?.transpose(0, 1)?,
            bias: vb.get(channels, "bias")?.reshape((1, (), 1, 1))?,
        })
    }
}

impl Module for Depthwise {
    /// Adds up nine shifted products; `x` is at least 3x3. candle runs a grouped convolution group
    /// by group: 128 channels of 64x64 take 31 ms that way on two cores, against 2.4 ms this way,
    /// and on a GPU it is 128 launches or more, against 18.
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

/// A convolution after a reflection padding of half its kernel.
#[derive(Debug, Clone)]
pub(super) struct PaddedConv {
    conv: Conv2d,
    pad: usize,
}

impl PaddedConv {
    /// Loads a convolution with any number of groups, which follows from the shape of its weight.
    pub fn new(
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

    /// The number of output channels.
    pub fn width(&self) -> usize {
        self.conv.weight().dims()[0]
    }
}

impl Module for PaddedConv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.conv.forward(&reflection_pad2d(x, self.pad)?)
    }
}

/// The weight of a convolution without groups that does the same, zero from group to group. candle
/// runs groups one by one; for the 16 to 64 groups of 1 or 2 channels here, one matrix product
/// with the zeros in it is less work than that many.
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
        Tensor::cat(
            &[&before, &weight.narrow(0, group * rows, rows)?, &after],
            1,
        )
    };
    let rows = (0..groups).map(row).collect::<Result<Vec<_>>>()?;
    Tensor::cat(&rows, 0)
}

/// Loads a convolution of stride 1 that keeps the sides, with zeros around.
pub(super) fn same_conv2d(
    vb: &VarBuilder,
    [c_out, c_in]: [usize; 2],
    kernel: usize,
    bias: bool,
) -> Result<Conv2d> {
    same_conv2d_of(vb, weight(vb, [c_out, c_in, kernel, kernel])?, bias)
}

/// The same with a weight that is loaded.
pub(super) fn same_conv2d_of(vb: &VarBuilder, weight: Tensor, bias: bool) -> Result<Conv2d> {
    let config = Conv2dConfig {
        padding: weight.dim(3)? / 2,
        ..Default::default()
    };
    let bias = match bias {
        true => Some(vb.get(weight.dim(0)?, "bias")?),
        false => None,
    };
    Ok(Conv2d::new(weight, bias, config))
}
