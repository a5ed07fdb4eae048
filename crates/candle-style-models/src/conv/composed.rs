//! The same convolutions of candle's ops, for GPUs.

use candle_core::{Result, Tensor};

use super::plan::{Form, Padding};
use crate::reflection_pad2d;
use crate::resample::nearest2x;

/// `conv(x, weight) + bias`.
pub fn conv(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, form: Form) -> Result<Tensor> {
    let upsampled = form.upsample.then(|| nearest2x(x)).transpose()?;
    let x = upsampled.as_ref().unwrap_or(x);
    let (reflected, zeros) = match form.padding {
        Padding::Zeros(width) => (None, width),
        Padding::Reflect(width) => (Some(reflection_pad2d(x, width)?), 0),
    };
    let x = reflected.as_ref().unwrap_or(x);
    let (outputs, per_group, ..) = weight.dims4()?;
    let y = if per_group == 1 && outputs == form.groups && form.stride == 1 {
        depthwise(x, weight, zeros)?
    } else {
        x.conv2d(weight, zeros, form.stride, 1, form.groups)?
    };
    let y = add(y, bias)?;
    if form.relu { y.relu() } else { Ok(y) }
}

/// The transposed convolution of stride 2 that doubles the sides.
pub fn doubling(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    add(x.conv_transpose2d(weight, 1, 1, 2, 1)?, bias)
}

fn add(y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
        None => Ok(y),
    }
}

/// A convolution of each channel by itself: the sum of shifted products.
///
/// candle runs groups one by one ([issue 3389](https://github.com/huggingface/candle/issues/3389)): on a
/// GPU that is 128 launches or more for 128 channels, against 18 this way. Remove this when a candle
/// release has [pull request 3531](https://github.com/huggingface/candle/pull/3531), which does the
/// same inside `conv2d`.
fn depthwise(x: &Tensor, weight: &Tensor, padding: usize) -> Result<Tensor> {
    let x = x.pad_with_zeros(2, padding, padding)?;
    let x = x.pad_with_zeros(3, padding, padding)?;
    // A tap of [1, C, 1, 1] broadcasts over the images.
    let weight = weight.transpose(0, 1)?;
    let (kernel_height, kernel_width) = (weight.dim(2)?, weight.dim(3)?);
    let (height, width) = (x.dim(2)? + 1 - kernel_height, x.dim(3)? + 1 - kernel_width);
    let mut sum: Option<Tensor> = None;
    for row in 0..kernel_height {
        let x = x.narrow(2, row, height)?;
        for column in 0..kernel_width {
            let tap = weight.narrow(2, row, 1)?.narrow(3, column, 1)?;
            let product = x.narrow(3, column, width)?.broadcast_mul(&tap)?;
            sum = Some(match sum {
                Some(sum) => (sum + product)?,
                None => product,
            });
        }
    }
    sum.map_or_else(|| candle_core::bail!("conv: a kernel of no taps"), Ok)
}

/// The weight of a convolution without groups that computes the same, zero between the groups.
///
/// candle runs groups one by one, see [`depthwise`]; for 16 to 64 groups of 1 or 2 channels, one matrix
/// product with the zeros in it is less work. Remove this when candle runs a grouped convolution as one.
pub fn dense(weight: &Tensor, groups: usize) -> Result<Tensor> {
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
