//! How far a picture is from the style, and from what it is to show.

use candle_core::{Result, Tensor};
use candle_instance_norm::instance_norm;

use super::bank::{FilterBank, LINES};

/// Each level has half the sides of the one before.
const LEVELS: usize = 4;

/// What the deviations count beside the products: of a flat picture, both are about as far off.
const DEVIATIONS: f64 = 0.1;

/// The side of a part, in pixels of its level: longer than most strokes are wide.
const PART: usize = 24;

/// Keeps the slope of the root finite.
const VAR_EPS: f64 = 1e-4;

/// Of the smallest deviation of an answer: none is divided by less.
const MIN_STD: f64 = 1e-3;

/// The statistics of a style, to be met by every picture.
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
            let answers = bank.answers(&x)?;
            let mean = answers.mean_keepdim((2, 3))?;
            let var = answers.broadcast_sub(&mean)?.sqr()?.mean_keepdim((2, 3))?;
            let std = (var.sqrt()? + MIN_STD)?;
            let mut level = Level {
                moments: std.zeros_like()?,
                mean,
                std,
            };
            level.moments = moments(&bank.rectify(&level.scale(&answers)?)?)?;
            levels.push(level);
        }
        Ok(Self { bank, levels })
    }

    /// The mean squared difference between the second moments of the features of `x` and those of
    /// the style, over all levels.
    pub fn loss(&self, x: &Tensor) -> Result<Tensor> {
        let mut losses = Vec::new();
        for (x, level) in pyramid(x)?.iter().zip(&self.levels) {
            let answers = self.bank.answers(x)?;
            let scaled = level.scale(&answers)?;
            let moments = moments(&self.bank.rectify(&scaled)?)?;
            let products = moments.broadcast_sub(&level.moments)?.sqr()?.mean_all()?;
            losses.push((products + (deviations(&scaled)? * DEVIATIONS)?)?);
        }
        Tensor::stack(&losses, 0)?.mean_all()
    }
}

impl Level {
    /// The answers, as they are with mean 0 and deviation 1 on the style.
    fn scale(&self, answers: &Tensor) -> Result<Tensor> {
        let centred = answers.broadcast_sub(&self.mean)?;
        centred.broadcast_div(&self.std)
    }
}

/// How far the deviations of the answers to lines are from those on the style, which are 1, in every
/// part of the picture. The products do not tell a flat surface where to go, for they grow with the
/// square of what it still lacks; and they would be content with all the strokes in one place.
fn deviations(scaled: &Tensor) -> Result<Tensor> {
    let (n, _, height, width) = scaled.dims4()?;
    let (rows, columns) = ((height / PART).max(1), (width / PART).max(1));
    let (height, width) = (height / rows, width / columns);
    let parts = scaled.narrow(1, 0, LINES)?;
    let parts = parts.narrow(2, 0, rows * height)?;
    let parts = parts.narrow(3, 0, columns * width)?;
    let parts = parts.reshape((n * LINES, rows, height, columns, width))?;
    // A flat surface has no answer: the mean is close enough to 0. candle takes means over the last
    // dimension, and over one, much faster than others.
    let var = parts.sqr()?.mean(4)?.mean(2)?;
    let std = (var + VAR_EPS)?.sqrt()?;
    (std - 1.)?.sqr()?.mean_all()
}

/// The products of every two features, averaged over the picture (their Gram matrix), for each
/// picture of the batch: `(N, C + 1, C + 1)`. One more feature, which is 1 everywhere, makes their
/// means part of it.
fn moments(features: &Tensor) -> Result<Tensor> {
    let features = features.flatten_from(2)?;
    let (n, _, positions) = features.dims3()?;
    let one = Tensor::ones((n, 1, positions), features.dtype(), features.device())?;
    let features = Tensor::cat(&[&features, &one], 1)?;
    features.matmul(&features.t()?)? / positions as f64
}

fn pyramid(x: &Tensor) -> Result<Vec<Tensor>> {
    let mut levels = vec![x.clone()];
    for level in 1..LEVELS {
        levels.push(shrink(&levels[level - 1], 2)?);
    }
    Ok(levels)
}

/// Averages squares of `by` by `by`.
fn shrink(x: &Tensor, by: usize) -> Result<Tensor> {
    let (n, c, height, width) = x.dims4()?;
    let x = x.reshape((n, c, height / by, by, width / by, by))?;
    x.mean(5)?.mean(3)
}

/// What is lost of the content: the mean squared difference between the light, and the hues, of
/// `x` and those of `content`, on small copies in which no stroke shows. An instance norm of both
/// takes the means and the contrasts away, which are the style's.
pub fn content_loss(x: &Tensor, content: &Tensor) -> Result<Tensor> {
    let x = opponent(&shrink(x, SHRINK)?)?;
    let content = opponent(&shrink(content, SHRINK)?)?;
    let norm = |x: &Tensor| instance_norm(x, None, None, CONTRAST_EPS);
    let difference = (norm(&x)? - norm(&content)?)?.sqr()?.mean((0, 2, 3))?;
    let shares = Tensor::new(&SHARES, x.device())?;
    (difference * shares)?.sum_all()
}

const SHRINK: usize = 8;

/// A contrast below 0.03 is not stretched as far as the others.
const CONTRAST_EPS: f64 = 1e-3;

/// Of light, of red against blue, and of green against magenta.
const SHARES: [f32; 3] = [0.5, 0.25, 0.25];

/// The colours in a basis in which they hardly correlate in natural pictures (Ohta, 1980).
fn opponent(x: &Tensor) -> Result<Tensor> {
    const BASIS: [[f32; 3]; 3] = [[1., 1., 1.], [1., 0., -1.], [-0.5, 1., -0.5]];
    let (n, c, height, width) = x.dims4()?;
    let basis = Tensor::new(&BASIS, x.device())?.broadcast_as((n, 3, 3))?;
    let x = basis.contiguous()?.matmul(&x.flatten_from(2)?)?;
    x.reshape((n, c, height, width))
}
