//! The default style: oil paint in brush strokes along a swirling flow.

use std::f32::consts::TAU;

use image::{Rgb, RgbImage, imageops};
use rand::Rng;
use rand::rngs::StdRng;

/// The size of the canvas in sizes of the picture, for smooth edges.
const OVERSAMPLING: u32 = 2;

/// The colours of the paint, in the order in which they lie next to each other on the canvas.
const PALETTE: [u32; 12] = [
    0x14213d, 0x1f4e8c, 0x2f7fc1, 0x86bfe0, 0xf3efdf, 0xf6d365, 0xf0a93b, 0xd9622b, 0x8c3b2a,
    0x2d5a34, 0x5f9440, 0xb7c65a,
];

/// Strokes of one size, in pixels of the picture, which cover it `coats` times.
struct Layer {
    width: f32,
    length: f32,
    coats: f32,
}

/// The coarse strokes come first, and show between the fine ones.
const LAYERS: [Layer; 3] = [
    Layer {
        width: 20.,
        length: 90.,
        coats: 4.,
    },
    Layer {
        width: 12.,
        length: 60.,
        coats: 1.5,
    },
    Layer {
        width: 7.,
        length: 36.,
        coats: 0.6,
    },
];

/// The strength of light and shadow on the relief of the paint.
const RELIEF: f32 = 0.55;

/// Paints a picture of `side` by `side` pixels.
pub fn paint(side: u32, rng: &mut StdRng) -> RgbImage {
    let (flow, hue) = (Waves::new(rng), Waves::new(rng));
    let mut canvas = Canvas::new((side * OVERSAMPLING) as usize, &hue);
    for layer in &LAYERS {
        let scale = OVERSAMPLING as f32;
        let (width, length) = (layer.width * scale, layer.length * scale);
        let area = (canvas.side as f32 + 2. * length).powi(2);
        for _ in 0..(layer.coats * area / (width * length)) as usize {
            canvas.stroke(width, length, &flow, &hue, rng);
        }
    }
    let lit = canvas.lit();
    imageops::resize(&lit, side, side, imageops::FilterType::Triangle)
}

/// A smooth random function of the unit square.
struct Waves([(f32, f32, f32, f32); 6]);

impl Waves {
    fn new(rng: &mut StdRng) -> Self {
        Self(std::array::from_fn(|index| {
            let angle = rng.random_range(0. ..TAU);
            let frequency = 4. + 2.5 * index as f32;
            let phase = rng.random_range(0. ..TAU);
            (
                frequency * angle.cos(),
                frequency * angle.sin(),
                phase,
                4. / frequency,
            )
        }))
    }

    fn at(&self, x: f32, y: f32) -> f32 {
        let wave = |&(fx, fy, phase, height): &(f32, f32, f32, f32)| {
            height * (fx * x + fy * y + phase).sin()
        };
        self.0.iter().map(wave).sum()
    }
}

struct Canvas {
    side: usize,
    colours: Vec<[f32; 3]>,
    /// The thickness of the paint.
    heights: Vec<f32>,
}

impl Canvas {
    /// A canvas with a thin ground of the colours that come over it.
    fn new(side: usize, hue: &Waves) -> Self {
        let at = |index: usize| {
            let (x, y) = (index % side, index / side);
            paint_at(hue.at(x as f32 / side as f32, y as f32 / side as f32)).map(|c| 0.8 * c)
        };
        Self {
            side,
            colours: (0..side * side).map(at).collect(),
            heights: vec![0.; side * side],
        }
    }

    fn stroke(&mut self, width: f32, length: f32, flow: &Waves, hue: &Waves, rng: &mut StdRng) {
        let side = self.side as f32;
        let mut place = || rng.random_range(-length..side + length);
        let mut at: [f32; 2] = [place(), place()];
        let width = width * rng.random_range(0.7..1.3);
        let length = length * rng.random_range(0.6..1.4);
        let light = rng.random_range(-0.07..0.07);
        let colour = paint_at(hue.at(at[0] / side, at[1] / side) + rng.random_range(-0.25..0.25));
        let colour = colour.map(|c| c + light);
        // The paint on each bristle.
        let bristles: Vec<f32> = (0..(width / 2.5) as usize + 2)
            .map(|_| rng.random_range(0. ..1.))
            .collect();
        const STEP: f32 = 0.7;
        let steps = (length / STEP) as usize;
        for step in 0..steps {
            let angle = 1.6 * flow.at(at[0] / side, at[1] / side);
            let along = [angle.cos(), angle.sin()];
            let t = step as f32 / steps as f32;
            // The brush is set down, drawn and lifted.
            let half = 0.5 * width * (t * 12.).min((1. - t) * 5.).min(1.).sqrt();
            let mut across = -half;
            while across < half {
                let bristle = (across / width + 0.5) * (bristles.len() - 1) as f32;
                let (left, share) = (bristle as usize, bristle.fract());
                let load = bristles[left] * (1. - share) + bristles[left + 1] * share;
                let point = [at[0] - across * along[1], at[1] + across * along[0]];
                // Towards its end, a stroke runs dry between the bristles.
                let cover = if load < 1.3 * (t - 0.45) { 0. } else { 0.75 };
                let edge = 1. - (across / half.max(1.)).powi(4);
                self.dab(
                    point,
                    colour.map(|c| c + 0.16 * (load - 0.5)),
                    load + edge,
                    cover,
                );
                across += STEP;
            }
            at = [at[0] + STEP * along[0], at[1] + STEP * along[1]];
        }
    }

    fn dab(&mut self, [x, y]: [f32; 2], colour: [f32; 3], height: f32, cover: f32) {
        let side = self.side as f32;
        if !(0. ..side).contains(&x) || !(0. ..side).contains(&y) {
            return;
        }
        let index = y as usize * self.side + x as usize;
        for (under, over) in self.colours[index].iter_mut().zip(colour) {
            *under += cover * (over - *under);
        }
        self.heights[index] += cover * (height - self.heights[index]);
    }

    /// The canvas in light from the upper left.
    fn lit(&self) -> RgbImage {
        RgbImage::from_fn(self.side as u32, self.side as u32, |x, y| {
            let height = |dx: i32, dy: i32| {
                let clamp = |at: u32, by: i32| (at as i32 + by).clamp(0, self.side as i32 - 1);
                self.heights[clamp(y, dy) as usize * self.side + clamp(x, dx) as usize]
            };
            let slope = height(1, 1) - height(-1, -1) + 0.5 * (height(2, 2) - height(-2, -2));
            let light = (RELIEF * 0.25 * slope).clamp(-0.2, 0.2);
            let colour = self.colours[(y * self.side as u32 + x) as usize];
            Rgb(colour.map(|c| ((c + light).clamp(0., 1.) * 255.).round() as u8))
        })
    }
}

/// The colours of the palette per unit of the height of the waves.
const HUES: f32 = 3.2;

/// A colour of the palette, or one between two neighbours. The palette repeats.
fn paint_at(at: f32) -> [f32; 3] {
    let at = (HUES * at).rem_euclid(PALETTE.len() as f32);
    let (index, share) = (at as usize % PALETTE.len(), at.fract());
    let (from, to) = (
        rgb(PALETTE[index]),
        rgb(PALETTE[(index + 1) % PALETTE.len()]),
    );
    std::array::from_fn(|c| from[c] + share * (to[c] - from[c]))
}

fn rgb(hex: u32) -> [f32; 3] {
    [16, 8, 0].map(|shift| ((hex >> shift) & 0xff) as f32 / 255.)
}
