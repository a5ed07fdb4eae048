//! Resampling that candle 0.11 does not differentiate, or wrongly: the gradient of its `max_pool2d` is
//! a quarter of what it should be, that of its `upsample_nearest2d` replaces others of the same
//! tensor.

use candle_core::{Result, Tensor};

/// Doubles the two spatial dimensions, as PyTorch's `Upsample(scale_factor=2, mode="bilinear")`
/// with `align_corners=False` does: every value becomes two, each a quarter of the way to the
/// neighbour on its side.
pub(super) fn bilinear2x(x: &Tensor) -> Result<Tensor> {
    double(&double(x, 2)?, 3)
}

fn double(x: &Tensor, dim: usize) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    let last = shape[dim] - 1;
    let before = Tensor::cat(&[&x.narrow(dim, 0, 1)?, &x.narrow(dim, 0, last)?], dim)?;
    let after = Tensor::cat(&[&x.narrow(dim, 1, last)?, &x.narrow(dim, last, 1)?], dim)?;
    let near = (x * 0.75)?;
    let pair = [(&near + (before * 0.25)?)?, (&near + (after * 0.25)?)?];
    shape[dim] *= 2;
    Tensor::stack(&pair, dim + 1)?.reshape(shape)
}

/// Doubles the two spatial dimensions: every value becomes four.
pub(super) fn nearest2x(x: &Tensor) -> Result<Tensor> {
    let (n, c, height, width) = x.dims4()?;
    let x = x.reshape((n, c, height, 1, width, 1))?;
    let x = x.broadcast_as((n, c, height, 2, width, 2))?;
    x.reshape((n, c, 2 * height, 2 * width))
}

/// The first value of every `step` by `step`, which divides the sides: what PyTorch's
/// `interpolate(mode="nearest")` leaves of them.
pub(super) fn every(x: &Tensor, step: usize) -> Result<Tensor> {
    let (n, c, height, width) = x.dims4()?;
    let (height, width) = (height / step, width / step);
    let x = x.reshape((n, c, height, step, width, step))?;
    let first = x.narrow(3, 0, 1)?.narrow(5, 0, 1)?;
    first.reshape((n, c, height, width))
}

/// The largest of every 2x2, and of what is left of it at an odd edge, as PyTorch's
/// `MaxPool2d(2, ceil_mode=True)` has it.
pub(super) fn max_pool2x(x: &Tensor) -> Result<Tensor> {
    let (n, c, height, width) = x.dims4()?;
    let x = x.pad_with_same(2, 0, height % 2)?;
    let x = x.pad_with_same(3, 0, width % 2)?;
    let x = x.reshape((n, c, height.div_ceil(2), 2, width.div_ceil(2), 2))?;
    x.max(5)?.max(3)
}
