//! Upsampling that candle does not differentiate.

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
