//! Features without a trained network: the responses of fixed random filters. Their correlations at
//! several scales are enough to tell textures apart (Ustyuzhaninov et al., "What does it take to
//! generate natural textures?", 2017).

use std::f32::consts::TAU;

use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand::rngs::StdRng;
use rand_distr::StandardNormal;

/// The side of a filter in pixels: a stroke and some of its surroundings.
const KERNEL: usize = 7;

/// The number of filters that respond to edges and lines.
pub const LINES: usize = 40;
/// The number of filters that respond to the colour alone.
const COLOURS: usize = 24;

pub struct FilterBank {
    /// `(LINES + COLOURS, 3, KERNEL, KERNEL)`
    filters: Tensor,
    /// The threshold below which each response is cut off. With one threshold for all, only the sign
    /// of a response would be told from its size.
    thresholds: Tensor,
}

impl FilterBank {
    pub fn new(rng: &mut StdRng, device: &Device) -> Result<Self> {
        let lines = (0..LINES).flat_map(|_| line(rng)).collect::<Vec<_>>();
        let colours = (0..COLOURS).flat_map(|_| colour(rng)).collect::<Vec<_>>();
        let values = [lines, colours].concat();
        let thresholds: Vec<f32> = (0..LINES + COLOURS)
            .map(|_| rng.random_range(-1. ..1.))
            .collect();
        let count = LINES + COLOURS;
        Ok(Self {
            filters: Tensor::from_vec(values, (count, 3, KERNEL, KERNEL), device)?,
            thresholds: Tensor::from_vec(thresholds, (1, count, 1, 1), device)?,
        })
    }

    /// The raw responses, `(N, filters, H - KERNEL + 1, W - KERNEL + 1)`.
    pub fn responses(&self, x: &Tensor) -> Result<Tensor> {
        x.conv2d(&self.filters, 0, 1, 1, 1)
    }

    /// The part of the responses above the thresholds, which suit responses of mean 0 and deviation
    /// 1.
    pub fn rectify(&self, scaled: &Tensor) -> Result<Tensor> {
        scaled.broadcast_sub(&self.thresholds)?.relu()
    }
}

/// A Gabor filter: a wave in a random direction of the plane and of the colours, under a Gaussian.
fn line(rng: &mut StdRng) -> Vec<f32> {
    let angle = rng.random_range(0. ..TAU);
    let frequency = rng.random_range(0.3..1.8);
    let phase = rng.random_range(0. ..TAU);
    let (fx, fy) = (frequency * angle.cos(), frequency * angle.sin());
    let wave = plane(|x, y| (fx * x + fy * y + phase).cos() * bell(x, y, 1.8));
    // Without the response to a flat surface.
    let bell = plane(|x, y| bell(x, y, 1.8));
    let share = wave.iter().sum::<f32>() / bell.iter().sum::<f32>();
    let wave: Vec<f32> = wave.iter().zip(bell).map(|(w, b)| w - share * b).collect();
    // Mostly light and dark, by which the eye sees strokes.
    let tint: [f32; 3] = std::array::from_fn(|_| rng.sample(StandardNormal));
    let tint = tint.map(|c| 1. + 0.6 * c);
    tint.iter()
        .flat_map(|c| wave.iter().map(move |w| c * w))
        .collect()
}

/// A Gaussian in a random direction of the colours.
fn colour(rng: &mut StdRng) -> Vec<f32> {
    let bell = plane(|x, y| bell(x, y, 0.7));
    let tint: [f32; 3] = std::array::from_fn(|_| rng.sample(StandardNormal));
    tint.iter()
        .flat_map(|c| bell.iter().map(move |b| c * b))
        .collect()
}

/// A Gaussian around the centre.
fn bell(x: f32, y: f32, deviation: f32) -> f32 {
    (-(x * x + y * y) / (2. * deviation * deviation)).exp()
}

/// The values of a function on the pixels of a filter, relative to its centre.
fn plane(value: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let centre = (KERNEL / 2) as f32;
    (0..KERNEL * KERNEL)
        .map(|at| value((at % KERNEL) as f32 - centre, (at / KERNEL) as f32 - centre))
        .collect()
}
