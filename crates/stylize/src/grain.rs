//! Grain of several sizes, like that of photographs. A network paints no strokes on a perfectly flat
//! surface, where nothing in its input tells one place from another.

use image::RgbImage;

/// The sizes of the grain, in pixels.
const CELLS: [u32; 5] = [1, 2, 4, 8, 16];

/// Makes every pixel lighter or darker, by about `strength` of the whole range. The seed decides the
/// pattern.
pub fn add(image: &mut RgbImage, strength: f32, seed: u32) {
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let octave = |(index, &cell): (usize, &u32)| {
            smooth(
                x as f32 / cell as f32,
                y as f32 / cell as f32,
                seed + index as u32,
            )
        };
        let sum: f32 = CELLS.iter().enumerate().map(octave).sum();
        let lighter = 255. * strength * sum / (CELLS.len() as f32).sqrt();
        pixel.0 = pixel
            .0
            .map(|byte| (f32::from(byte) + lighter).round() as u8);
    }
}

/// Random numbers from -1 to 1 at whole coordinates, blended in between.
fn smooth(x: f32, y: f32, seed: u32) -> f32 {
    let (left, top) = (x as u32, y as u32);
    let ease = |t: f32| t * t * (3. - 2. * t);
    let (u, v) = (ease(x.fract()), ease(y.fract()));
    let row = |y: u32| {
        let (a, b) = (random(left, y, seed), random(left + 1, y, seed));
        a + u * (b - a)
    };
    let (a, b) = (row(top), row(top + 1));
    a + v * (b - a)
}

/// A number from -1 to 1 that looks random: the bits of the arguments, mixed by products (the
/// finalizer of MurmurHash3).
fn random(x: u32, y: u32, seed: u32) -> f32 {
    let mut bits = x
        .wrapping_mul(0x9e37_79b1)
        .wrapping_add(y.wrapping_mul(0x85eb_ca77))
        .wrapping_add(seed.wrapping_mul(0xc2b2_ae3d));
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x85eb_ca6b);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xc2b2_ae35);
    bits ^= bits >> 16;
    bits as f32 / u32::MAX as f32 * 2. - 1.
}
