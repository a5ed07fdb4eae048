//! Features that need no trained network: what fixed random filters answer, at several scales.
//! Their correlations are enough to tell one texture from another (Ustyuzhaninov et al., "What does
//! it take to generate natural textures?", 2017).

use std::f32::consts::TAU;

use candle_core::{Device, Result, Tensor};
use rand::rngs::StdRng;
use rand::Rng;
use rand_distr::StandardNormal;

/// Pixels on a side of a filter: a stroke and what lies beside it.
const KERNEL: usize = 7;

/// Filters that look for edges and lines, and those that only look at the colour.
pub const LINES: usize = 40;
const COLOURS: usize = 24;

pub struct FilterBank {
    /// `(LINES + COLOURS, 3, KERNEL, KERNEL)`
    filters: Tensor,
    /// What is taken off each answer before the negative ones are cut off: with one threshold for
    /// all, only the sign of an answer would be told from its size.
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

    /// The raw answers, `(N, filters, H - KERNEL + 1, W - KERNEL + 1)`.
    pub fn answers(&self, x: &Tensor) -> Result<Tensor> {
        x.conv2d(&self.filters, 0, 1, 1, 1)
    }

    /// The answers as far as they are above the thresholds, which are for answers with mean 0 and
    /// deviation 1.
    pub fn rectify(&self, scaled: &Tensor) -> Result<Tensor> {
        scaled.broadcast_sub(&self.thresholds)?.relu()
    }
}

/// A wave in a random direction of the plane and of the colours, under a bell.
fn line(rng: &mut StdRng) -> Vec<f32> {
    let angle = rng.random_range(0. ..TAU);
    let frequency = rng.random_range(0.3..1.8);
    let phase = rng.random_range(0. ..TAU);
    let (fx, fy) = (frequency * angle.cos(), frequency * angle.sin());
    let wave = plane(|x, y| (fx * x + fy * y + phase).cos() * bell(x, y, 1.8));
    // Without what a flat surface would answer.
    let bell = plane(|x, y| bell(x, y, 1.8));
    let share = wave.iter().sum::<f32>() / bell.iter().sum::<f32>();
    let wave: Vec<f32> = wave.iter().zip(bell).map(|(w, b)| w - share * b).collect();
    // Most of what the eye sees of strokes is light and dark.
    let tint: [f32; 3] = std::array::from_fn(|_| rng.sample(StandardNormal));
    let tint = tint.map(|c| 1. + 0.6 * c);
    tint.iter()
        .flat_map(|c| wave.iter().map(move |w| c * w))
        .collect()
}

/// A random direction of the colours.
fn colour(rng: &mut StdRng) -> Vec<f32> {
    let bell = plane(|x, y| bell(x, y, 0.7));
    let tint: [f32; 3] = std::array::from_fn(|_| rng.sample(StandardNormal));
    tint.iter()
        .flat_map(|c| bell.iter().map(move |b| c * b))
        .collect()
}

fn bell(x: f32, y: f32, deviation: f32) -> f32 {
    (-(x * x + y * y) / (2. * deviation * deviation)).exp()
}

fn plane(value: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    let centre = (KERNEL / 2) as f32;
    (0..KERNEL * KERNEL)
        .map(|at| value((at % KERNEL) as f32 - centre, (at / KERNEL) as f32 - centre))
        .collect()
}
