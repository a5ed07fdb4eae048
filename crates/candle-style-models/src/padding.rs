//! Reflection padding, which candle 0.11 does not have.

use candle_core::{Result, Tensor, bail};

/// Pads the two spatial dimensions by reflection, without repeating the edge, as PyTorch's
/// `ReflectionPad2d(pad)` does: a row `a b c d` padded by 2 becomes `c b a b c d c b`.
///
/// It is composed of `narrow` and `cat`, and so differentiable, on every device.
///
/// # Shapes
///
/// - `x`: `(N, C, H, W)`, of any dtype
/// - result: `(N, C, H + 2 pad, W + 2 pad)`, of the same
///
/// # Errors
///
/// `x` has another rank, or `pad` is not smaller than both `H` and `W`: there are not that many rows
/// or columns to reflect.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use candle_style_models::reflection_pad2d;
///
/// let x = Tensor::arange(0u32, 6, &Device::Cpu)?.reshape((1, 1, 2, 3))?;
/// let y = reflection_pad2d(&x, 1)?.reshape((4, 5))?;
/// assert_eq!(
///     y.to_vec2::<u32>()?,
///     [[4, 3, 4, 5, 4], [1, 0, 1, 2, 1], [4, 3, 4, 5, 4], [1, 0, 1, 2, 1]]
/// );
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn reflection_pad2d(x: &Tensor, pad: usize) -> Result<Tensor> {
    let &[_, _, height, width] = x.dims() else {
        bail!(
            "reflection_pad2d: x must have shape (N, C, H, W), got {:?}",
            x.dims()
        )
    };
    if pad >= height.min(width) {
        bail!(
            "reflection_pad2d: pad must be smaller than each side, got {pad} for {height}x{width}"
        )
    }
    reflect(&reflect(x, 2, pad)?, 3, pad)
}

/// Reflects `pad` slices over both ends of `dim`; `pad` is smaller than the dimension.
fn reflect(x: &Tensor, dim: usize, pad: usize) -> Result<Tensor> {
    let last = x.dim(dim)? - 1;
    let slice = |index| x.narrow(dim, index, 1);
    let mut parts = (1..=pad).rev().map(slice).collect::<Result<Vec<_>>>()?;
    parts.push(x.clone());
    for distance in 1..=pad {
        parts.push(slice(last - distance)?);
    }
    Tensor::cat(&parts, dim)
}
