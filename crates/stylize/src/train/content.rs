//! The content to train on: pictures that are drawn, or from a folder.

use std::f32::consts::TAU;
use std::path::{Path, PathBuf};

use anyhow::Result;
use image::{Rgb, RgbImage, imageops};
use rand::Rng;
use rand::rngs::StdRng;

use crate::grain;
use crate::picture::{Picture, in_folder};

/// The source of the pictures.
pub enum Content {
    /// Dead leaves: shapes of all sizes, one over the other. They are quick to draw and have edges and
    /// spectra like those of photographs (Lee, Mumford and Huang, "Occlusion Models for Natural
    /// Images", 2001).
    Drawn,
    Files(Vec<PathBuf>),
}

impl Content {
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder else {
            return Ok(Self::Drawn);
        };
        Ok(Self::Files(in_folder(folder)?))
    }

    /// A picture of `side` by `side` pixels; from a file, a random square of a random size.
    pub fn picture(&self, side: u32, rng: &mut StdRng) -> Result<RgbImage> {
        match self {
            Self::Drawn => {
                let mut picture = leaves(side, rng);
                let strength = rng.random_range(0.02..0.12);
                grain::add(&mut picture, strength, rng.random_range(0..u32::MAX / 2));
                Ok(picture)
            }
            Self::Files(files) => {
                let file = &files[rng.random_range(0..files.len())];
                let picture = Picture::read(file)?.rgb;
                let (width, height) = picture.dimensions();
                let shorter = width.min(height);
                let crop = rng.random_range(side.min(shorter)..=shorter);
                let x = rng.random_range(0..=width - crop);
                let y = rng.random_range(0..=height - crop);
                let crop = imageops::crop_imm(&picture, x, y, crop, crop).to_image();
                Ok(imageops::resize(
                    &crop,
                    side,
                    side,
                    imageops::FilterType::Triangle,
                ))
            }
        }
    }
}

type Colour = [f32; 3];

/// A shape in a frame of its own, with a gradient between two colours across it.
struct Leaf {
    centre: [f32; 2],
    turn: [f32; 2],
    half: [f32; 2],
    shape: Shape,
    colours: [Colour; 2],
    ripple: (f32, f32),
}

enum Shape {
    Ellipse,
    Box,
    /// Everything below a wavy line.
    Horizon(f32),
}

impl Leaf {
    /// A leaf for a picture of `side` pixels; `order` is its place among the leaves, from 0 to 1.
    fn random(side: f32, order: f32, rng: &mut StdRng) -> Self {
        // Radii with a density of 1/r^3 look the same at every scale; the large leaves come first,
        // so that they do not hide the small ones.
        let radius = side * 0.5 / (1. + 14. * order);
        let shape = match rng.random_range(0..10) {
            0 | 1 if order < 0.3 => Shape::Horizon(rng.random_range(0.3..6.) / side),
            0..6 => Shape::Ellipse,
            _ => Shape::Box,
        };
        let turned = !matches!(shape, Shape::Horizon(_)) && rng.random_bool(0.6);
        let angle = if turned {
            rng.random_range(0. ..TAU)
        } else {
            0.
        };
        let first: Colour = colour(rng);
        let shift = rng.random_range(-0.35..0.35);
        let tint: Colour = std::array::from_fn(|_| rng.random_range(-0.12..0.12));
        let second = std::array::from_fn(|c| (first[c] + shift + tint[c]).clamp(0., 1.));
        let ripple = if rng.random_bool(0.35) {
            (rng.random_range(0.2..1.2), rng.random_range(0.03..0.2))
        } else {
            (1., 0.)
        };
        Self {
            centre: [rng.random_range(0. ..side), rng.random_range(0. ..side)],
            turn: [angle.cos(), angle.sin()],
            half: [
                radius * rng.random_range(0.5..1.3),
                radius * rng.random_range(0.25..1.),
            ],
            shape,
            colours: [first, second],
            ripple,
        }
    }

    /// The coverage, from 0 to 1, and the colour at a point.
    fn at(&self, x: f32, y: f32) -> (f32, Colour) {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let u = dx * self.turn[0] + dy * self.turn[1];
        let v = dy * self.turn[0] - dx * self.turn[1];
        let [a, b] = self.half;
        let inside = match self.shape {
            Shape::Ellipse => (1. - (u / a).hypot(v / b)) * a.min(b),
            Shape::Box => (a - u.abs()).min(b - v.abs()),
            Shape::Horizon(frequency) => v - 0.3 * b * (frequency * TAU * u).sin(),
        };
        let ripple = self.ripple.1 * (self.ripple.0 * (u + 0.5 * v)).sin();
        let share = ((u / a + v / b) * 0.35 + 0.5 + ripple).clamp(0., 1.);
        let colour = std::array::from_fn(|c| {
            self.colours[0][c] + share * (self.colours[1][c] - self.colours[0][c])
        });
        ((inside + 0.5).clamp(0., 1.), colour)
    }
}

/// A picture of dead leaves over a vertical gradient.
fn leaves(side: u32, rng: &mut StdRng) -> RgbImage {
    let count = rng.random_range(25..90);
    let length = side as f32;
    let mut canvas = vec![colour(rng); (side * side) as usize];
    let (top, bottom): (Colour, Colour) = (colour(rng), colour(rng));
    for (index, pixel) in canvas.iter_mut().enumerate() {
        let share = index as f32 / (length * length);
        *pixel = std::array::from_fn(|c| top[c] + share * (bottom[c] - top[c]));
    }
    for index in 0..count {
        let leaf = Leaf::random(length, index as f32 / count as f32, rng);
        let reach = leaf.half[0].hypot(leaf.half[1]) + 1.;
        let range = |centre: f32| {
            if matches!(leaf.shape, Shape::Horizon(_)) {
                return 0..side as usize;
            }
            let clamp = |at: f32| at.clamp(0., length) as usize;
            clamp(centre - reach)..clamp(centre + reach)
        };
        for y in range(leaf.centre[1]) {
            for x in range(leaf.centre[0]) {
                let (cover, colour) = leaf.at(x as f32, y as f32);
                let pixel = &mut canvas[y * side as usize + x];
                for (under, over) in pixel.iter_mut().zip(colour) {
                    *under += cover * (over - *under);
                }
            }
        }
    }
    RgbImage::from_fn(side, side, |x, y| {
        Rgb(canvas[(y * side + x) as usize].map(|c| (c * 255.).round() as u8))
    })
}

/// A random colour that is close to grey.
fn colour(rng: &mut StdRng) -> Colour {
    let light = rng.random_range(0.05..0.95);
    let vivid = rng.random_range(0. ..0.25f32);
    let hue = rng.random_range(0. ..TAU);
    std::array::from_fn(|c| (light + vivid * (hue + TAU / 3. * c as f32).cos()).clamp(0., 1.))
}
