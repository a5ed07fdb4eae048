//! Comparing pictures, and the published networks that make them.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use image::RgbImage;

/// A picture as `(1, 3, H, W)`, with `value` applied to its bytes.
pub fn to_tensor(picture: &RgbImage, value: impl Fn(u8) -> f32) -> Result<Tensor> {
    let (width, height) = picture.dimensions();
    let values: Vec<f32> = picture.iter().map(|&byte| value(byte)).collect();
    let pixels = Tensor::from_vec(
        values,
        (1, height as usize, width as usize, 3),
        &Device::Cpu,
    )?;
    Ok(pixels.permute((0, 3, 1, 2))?.contiguous()?)
}

/// The picture of `(1, 3, H, W)`, with `byte` applied to its values.
pub fn from_tensor(y: &Tensor, byte: impl Fn(f32) -> u8) -> Result<RgbImage> {
    let (_, _, height, width) = y.dims4()?;
    let pixels = y.to_device(&Device::Cpu)?.permute((0, 2, 3, 1))?;
    let values = pixels.flatten_all()?.to_vec1::<f32>()?;
    let bytes = values.into_iter().map(byte).collect();
    RgbImage::from_vec(width as u32, height as u32, bytes).context("not three channels")
}

/// At least 99.9 % of the bytes are equal and none is off by more than `most`: where a value falls
/// on a border between two bytes, the last bit of f32 decides.
pub fn check_bytes(got: &RgbImage, expected: &RgbImage, most: u8) -> Result<()> {
    ensure!(got.dimensions() == expected.dimensions());
    let off = || got.iter().zip(expected.iter()).map(|(a, b)| a.abs_diff(*b));
    let max = off().max().context("empty picture")?;
    let equal = off().filter(|&off| off == 0).count() as f64 / got.len() as f64;
    println!("{:.4} % equal, largest difference {max}", 100. * equal);
    ensure!(max <= most, "a byte is {max} off");
    ensure!(equal >= 0.999, "only {:.4} % are equal", 100. * equal);
    Ok(())
}

/// The peak signal-to-noise ratio in dB.
pub fn psnr(got: &RgbImage, expected: &RgbImage) -> f64 {
    let off = got.iter().zip(expected.iter());
    let sum: f64 = off.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    10. * (255f64.powi(2) * got.len() as f64 / sum).log10()
}

/// The folder of a published network, which lies beside the repository where it is at hand.
pub fn published(name: &str) -> Option<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/models");
    let folder = PathBuf::from(folder).join(name);
    if !folder.is_dir() {
        println!("SKIPPED: {} is absent", folder.display());
        return None;
    }
    Some(folder)
}
