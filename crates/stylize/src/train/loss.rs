//! The losses of a picture: its distance from the style, and from the content.

use candle_core::{Result, Tensor};
use candle_instance_norm::instance_norm;

use super::filter_bank::{FilterBank, LINES};

/// The levels of the pyramid, each with half the sides of the one before.
const LEVELS: usize = 4;

/// The weight of the deviations in the loss, where that of the products is 1: for a flat picture, the
/// two terms are about as large.
const DEVIATIONS: f64 = 0.1;

/// The side of a part of a picture, in pixels of its level: more than the width of most strokes.
const PART: usize = 24;

/// Added to variances, to keep the slope of the root finite.
const VAR_EPS: f64 = 1e-4;

/// Added to the deviations that responses are divided by.
const MIN_STD: f64 = 1e-3;

/// The statistics of a style, on every level of its pyramid.
pub struct Texture {
    bank: FilterBank,
    levels: Vec<Level>,
}

struct Level {
    mean: Tensor,
    std: Tensor,
    moments: Tensor,
}

impl Texture {
    /// Measures `style`, `(1, 3, H, W)` from 0 to 1.
    pub fn new(bank: FilterBank, style: &Tensor) -> Result<Self> {
        let mut levels = Vec::new();
        for x in pyramid(style)? {
            let responses = bank.responses(&x)?;
            let mean = responses.mean_keepdim((2, 3))?;
            let var = responses
                .broadcast_sub(&mean)?
                .sqr()?
                .mean_keepdim((2, 3))?;
            let std = (var.sqrt()? + MIN_STD)?;
            let mut level = Level {
                moments: std.zeros_like()?,
                mean,
                std,
            };
            level.moments = moments(&bank.rectify(&level.scale(&responses)?)?)?;
            levels.push(level);
        }
        Ok(Self { bank, levels })
    }

    /// The mean squared difference between the second moments of the features of `x` and those of
    /// the style, over all levels.
    pub fn loss(&self, x: &Tensor) -> Result<Tensor> {
        let mut losses = Vec::new();
        for (x, level) in pyramid(x)?.iter().zip(&self.levels) {
            let responses = self.bank.responses(x)?;
            let scaled = level.scale(&responses)?;
            let moments = moments(&self.bank.rectify(&scaled)?)?;
            let products = moments.broadcast_sub(&level.moments)?.sqr()?.mean_all()?;
            losses.push((products + (deviations(&scaled)? * DEVIATIONS)?)?);
        }
        Tensor::stack(&losses, 0)?.mean_all()
    }
}

impl Level {
    /// The responses, scaled so that those to the style have mean 0 and deviation 1.
    fn scale(&self, responses: &Tensor) -> Result<Tensor> {
        let centred = responses.broadcast_sub(&self.mean)?;
        centred.broadcast_div(&self.std)
    }
}

/// The mean squared distance of the deviations of responses to lines, in every part of the picture,
/// from 1, which they are on the style. The products alone give a flat surface no direction, since
/// they grow with the square of the responses; and they are satisfied by all strokes in one place.
fn deviations(scaled: &Tensor) -> Result<Tensor> {
    let (n, _, height, width) = scaled.dims4()?;
    let (rows, columns) = ((height / PART).max(1), (width / PART).max(1));
    let (height, width) = (height / rows, width / columns);
    let parts = scaled.narrow(1, 0, LINES)?;
    let parts = parts.narrow(2, 0, rows * height)?;
    let parts = parts.narrow(3, 0, columns * width)?;
    let parts = parts.reshape((n * LINES, rows, height, columns, width))?;
    // The mean is taken as 0, the response to a flat surface. candle computes means over the last
    // dimension, and over a single one, much faster than others.
    let var = parts.sqr()?.mean(4)?.mean(2)?;
    let std = (var + VAR_EPS)?.sqrt()?;
    (std - 1.)?.sqr()?.mean_all()
}

/// The Gram matrix of the features of each picture, `(N, C + 1, C + 1)`: the mean over the picture of
/// the product of every two features. One more feature, of 1 everywhere, adds the means of the others.
fn moments(features: &Tensor) -> Result<Tensor> {
    let features = features.flatten_from(2)?;
    let (n, _, positions) = features.dims3()?;
    let one = Tensor::ones((n, 1, positions), features.dtype(), features.device())?;
    let features = Tensor::cat(&[&features, &one], 1)?;
    features.matmul(&features.t()?)? / positions as f64
}

/// The levels of a picture, from its full size on.
fn pyramid(x: &Tensor) -> Result<Vec<Tensor>> {
    let mut levels = vec![x.clone()];
    for level in 1..LEVELS {
        levels.push(shrink(&levels[level - 1], 2)?);
    }
    Ok(levels)
}

/// The means of squares of `by` by `by` pixels.
fn shrink(x: &Tensor, by: usize) -> Result<Tensor> {
    let (n, c, height, width) = x.dims4()?;
    let x = x.reshape((n, c, height / by, by, width / by, by))?;
    x.mean(5)?.mean(3)
}

/// The loss of the content: the mean squared difference of `x` and `content` in lightness and hues, on
/// copies so small that no stroke shows. An instance norm of both removes the means and contrasts,
/// which belong to the style.
pub fn content_loss(x: &Tensor, content: &Tensor) -> Result<Tensor> {
    let x = opponent(&shrink(x, SHRINK)?)?;
    let content = opponent(&shrink(content, SHRINK)?)?;
    let norm = |x: &Tensor| instance_norm(x, None, None, CONTRAST_EPS);
    let difference = (norm(&x)? - norm(&content)?)?.sqr()?.mean((0, 2, 3))?;
    let weights = Tensor::new(&WEIGHTS, x.device())?;
    (difference * weights)?.sum_all()
}

/// The pixels on a side that become one in the copies.
const SHRINK: usize = 8;

/// The eps of that norm: it keeps contrasts below 0.03 from being stretched to 1.
const CONTRAST_EPS: f64 = 1e-3;

/// The weights of lightness, red against blue, and green against magenta.
const WEIGHTS: [f32; 3] = [0.5, 0.25, 0.25];

/// The colours in Ohta's basis (1980), in which those of natural pictures hardly correlate.
fn opponent(x: &Tensor) -> Result<Tensor> {
    const BASIS: [[f32; 3]; 3] = [[1., 1., 1.], [1., 0., -1.], [-0.5, 1., -0.5]];
    let (n, c, height, width) = x.dims4()?;
    let basis = Tensor::new(&BASIS, x.device())?.broadcast_as((n, 3, 3))?;
    let x = basis.contiguous()?.matmul(&x.flatten_from(2)?)?;
    x.reshape((n, c, height, width))
}
