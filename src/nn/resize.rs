//! Nearest-neighbour resizing, for the maps of labels of SPADE.

use candle_core::{Result, Tensor};

/// `t` resized as by PyTorch's `interpolate(mode="nearest")`, differentiable. candle's own resizing computes in f64 where PyTorch has f32, which gives other
/// neighbours for some sizes, and has a gradient for whole factors only.
pub(super) fn resize_nearest(t: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let mut t = t.clone();
    for (dim, size) in [(2, height), (3, width)] {
        let from = t.dim(dim)?;
        if from != size {
            let ids = Tensor::new(nearest(from, size), t.device())?;
            t = t.contiguous()?.index_select(&ids, dim)?;
        }
    }
    Ok(t)
}

/// The index among `from` elements of each of `to`.
fn nearest(from: usize, to: usize) -> Vec<u32> {
    let scale = from as f32 / to as f32;
    let last = from.saturating_sub(1);
    (0..to)
        .map(|i| ((i as f32 * scale) as usize).min(last) as u32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    /// Expected: torch 2.15 in f32, `F.interpolate(torch.arange(float(a))[None, None], size=b)`.
    #[test]
    fn nearest_is_torchs() {
        assert_eq!(nearest(13, 6), [0, 2, 4, 6, 8, 10]);
        assert_eq!(nearest(3, 7), [0, 0, 0, 1, 1, 2, 2]);
        assert_eq!(nearest(1, 3), [0, 0, 0]);
        assert_eq!(nearest(5, 5), [0, 1, 2, 3, 4]);
        // In f64 it would be 41, 47 and 50.
        let begins = |to| nearest(2, to).iter().position(|&i| i == 1);
        assert_eq!([82, 94, 98].map(begins), [Some(42), Some(48), Some(49)]);
    }
}
