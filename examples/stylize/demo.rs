//! Moves the colours of one picture to another with a single instance norm.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, D};
use candle_instance_norm::instance_norm;
use image::{ImageFormat, Rgb, RgbImage};

use crate::picture::Picture;
use crate::scenes;

const SIDE: usize = 256;
const GAP: usize = 8;
const EPS: f64 = 1e-5;

/// Luma, red against blue, green against magenta: an orthonormal basis in which the channels of
/// natural pictures hardly correlate, so that each can be renormalized by itself (Reinhard et al.,
/// "Color Transfer between Images", 2001, with the basis of Ohta, 1980).
#[rustfmt::skip]
const OPPONENT: [[f32; 3]; 3] = [
    [ INV_SQRT_3,      INV_SQRT_3,  INV_SQRT_3],
    [ INV_SQRT_2,      0.,         -INV_SQRT_2],
    [-INV_SQRT_6, 2. * INV_SQRT_6, -INV_SQRT_6],
];
const INV_SQRT_2: f32 = std::f32::consts::FRAC_1_SQRT_2;
const INV_SQRT_3: f32 = 0.577_350_26;
const INV_SQRT_6: f32 = 0.408_248_3;

/// Draws content, style and the transfer side by side into `path`.
pub fn run(path: &Path, device: &Device) -> Result<()> {
    let content = scenes::draw(scenes::valley, SIDE, device)?;
    let style = scenes::draw(scenes::sunset_waves, SIDE, device)?;
    let result = transfer_colours(&content, &style)?;

    let rgb = side_by_side(&[content, style, result])?;
    Picture { rgb, alpha: None }.write(path, ImageFormat::Png)?;
    let folder = std::env::current_dir().context("cannot name the current directory")?;
    println!("content, style, result: {}", folder.join(path).display());
    Ok(())
}

/// Gives each opponent channel of `content` the mean and deviation it has in `style`: adaptive
/// instance norm (Huang & Belongie, 2017) on colours instead of features. Both are
/// `(1, 3, H, W)`.
fn transfer_colours(content: &Tensor, style: &Tensor) -> Result<Tensor> {
    let basis = Tensor::new(&OPPONENT, content.device())?;
    let content_channels = change_basis(content, &basis)?;
    let style = change_basis(style, &basis)?.flatten_from(2)?;
    let mean = style.mean(D::Minus1)?;
    let var = style.broadcast_sub(&mean.unsqueeze(2)?)?;
    let std = (var.sqr()?.mean(D::Minus1)? + EPS)?.sqrt()?;
    let restyled = instance_norm(&content_channels, Some(&std), Some(&mean), EPS)?;
    // The basis is orthonormal: its transpose leads back.
    Ok(change_basis(&restyled, &basis.t()?)?.clamp(0f32, 1f32)?)
}

/// Multiplies the colour of every pixel by the 3x3 `basis`, as a 1x1 convolution.
fn change_basis(x: &Tensor, basis: &Tensor) -> Result<Tensor> {
    Ok(x.conv2d(&basis.contiguous()?.reshape((3, 3, 1, 1))?, 0, 1, 1, 1)?)
}

fn side_by_side(pictures: &[Tensor]) -> Result<RgbImage> {
    let width = pictures.len() * (SIDE + GAP) - GAP;
    let mut sheet = RgbImage::from_pixel(width as u32, SIDE as u32, Rgb([255; 3]));
    for (index, picture) in pictures.iter().enumerate() {
        let planes: Vec<Vec<Vec<f32>>> = picture.squeeze(0)?.to_vec3()?;
        for y in 0..SIDE {
            for x in 0..SIDE {
                let byte = |plane: &Vec<Vec<f32>>| (plane[y][x] * 255.).round() as u8;
                let pixel = Rgb([byte(&planes[0]), byte(&planes[1]), byte(&planes[2])]);
                sheet.put_pixel((index * (SIDE + GAP) + x) as u32, y as u32, pixel);
            }
        }
    }
    Ok(sheet)
}
