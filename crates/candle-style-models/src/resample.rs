//! Resampling in ops that candle differentiates correctly. Of its own, in 0.11:
//!
//! - `upsample_nearest2d` replaces the gradient that other uses of the same tensor have left, in place
//!   of adding to it ([pull request 3507](https://github.com/huggingface/candle/pull/3507)).
//! - `upsample_bilinear2d` has no backward pass, and `max_pool2d` scales its gradient by the share of
//!   the maxima in a window, a quarter of 2x2 ([`Op::UpsampleBilinear2D` and `Op::MaxPool2D` in its
//!   backprop.rs]).
//!
//! Remove each function when candle's has the right gradient; [`every`] and the odd edges of
//! [`max_pool2x`] have no counterpart there.
//!
//! [`Op::UpsampleBilinear2D` and `Op::MaxPool2D` in its backprop.rs]: https://docs.rs/crate/candle-core/0.11.1/source/src/backprop.rs

use candle_core::{Result, Tensor};

/// Doubles the two spatial dimensions, as PyTorch's `Upsample(scale_factor=2, mode="bilinear")`
/// with `align_corners=False` does: along each dimension a value becomes two, each a quarter of the
/// way to the neighbour on its side.
pub(super) fn bilinear2x(x: &Tensor) -> Result<Tensor> {
    double(&double(x, 2)?, 3)
}

/// [`bilinear2x`] along one dimension.
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

/// Doubles the two spatial dimensions: every value becomes a square of four.
pub(super) fn nearest2x(x: &Tensor) -> Result<Tensor> {
    let (n, c, height, width) = x.dims4()?;
    let x = x.reshape((n, c, height, 1, width, 1))?;
    let x = x.broadcast_as((n, c, height, 2, width, 2))?;
    x.reshape((n, c, 2 * height, 2 * width))
}

/// Reduces the two spatial dimensions by `step`, which divides them, to the first value of each
/// `step`x`step` square, as PyTorch's `interpolate(mode="nearest")` does.
pub(super) fn every(x: &Tensor, step: usize) -> Result<Tensor> {
    let (n, c, height, width) = x.dims4()?;
    let (height, width) = (height / step, width / step);
    let x = x.reshape((n, c, height, step, width, step))?;
    let first = x.narrow(3, 0, 1)?.narrow(5, 0, 1)?;
    first.reshape((n, c, height, width))
}

/// The maximum of every 2x2 square, or of the part of it inside an odd edge, as PyTorch's
/// `MaxPool2d(2, ceil_mode=True)` has it.
pub(super) fn max_pool2x(x: &Tensor) -> Result<Tensor> {
    let (n, c, height, width) = x.dims4()?;
    let x = x.pad_with_same(2, 0, height % 2)?;
    let x = x.pad_with_same(3, 0, width % 2)?;
    let x = x.reshape((n, c, height.div_ceil(2), 2, width.div_ceil(2), 2))?;
    x.max(5)?.max(3)
}
