//! Gives a picture the colours of another: adaptive instance norm on the pixels themselves.
//!
//! ```sh
//! cargo run --release --example adain
//! cargo run --release --example adain -- content.jpg style.jpg --alpha 0.7 --output out.png
//! ```

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_instance_norm::{AdaInConfig, adain, instance_stats};
use clap::Parser;
use image::RgbImage;
use std::path::{Path, PathBuf};

/// Gives a picture the mean and the deviation of another, in red, green and blue.
#[derive(Parser)]
struct Args {
    /// The content, by default a landscape drawn in code.
    #[arg(requires = "style")]
    content: Option<PathBuf>,
    /// The picture with the new colours, by default a sunset drawn in code.
    style: Option<PathBuf>,
    /// The share of the new colours, from 0 to 1.
    #[arg(long, default_value_t = 1.)]
    alpha: f64,
    #[arg(long, default_value = "adain.png")]
    output: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let content = tensor(&picture(args.content.as_deref(), landscape)?)?;
    let style = tensor(&picture(args.style.as_deref(), sunset)?)?;
    let config = AdaInConfig {
        alpha: args.alpha,
        ..Default::default()
    };
    let result = adain(&content, &style, &config)?;
    for (name, t) in [
        ("content", &content),
        ("style", &style),
        ("result", &result),
    ] {
        let stats = instance_stats(t, 1e-5)?;
        let (mean, std) = (
            stats.mean.to_vec2::<f32>()?,
            stats.rstd.recip()?.to_vec2::<f32>()?,
        );
        println!("{name:7} mean {:.3?}, deviation {:.3?}", mean[0], std[0]);
    }
    let output = args.output.display().to_string();
    image(&result)?.save(&args.output).context(output.clone())?;
    println!("wrote {output}");
    Ok(())
}

fn picture(path: Option<&Path>, drawn: fn() -> RgbImage) -> Result<RgbImage> {
    match path {
        Some(path) => {
            let read = || image::load_from_memory(&std::fs::read(path)?);
            Ok(read()
                .with_context(|| path.display().to_string())?
                .into_rgb8())
        }
        None => Ok(drawn()),
    }
}

/// `(1, 3, H, W)` from 0 to 1: a channels-last view, which is what the norm reads in place.
fn tensor(image: &RgbImage) -> Result<Tensor> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let pixels = Tensor::from_slice(image.as_raw(), (1, height, width, 3), &Device::Cpu)?;
    let pixels = (pixels.to_dtype(DType::F32)? / 255.)?;
    Ok(pixels.permute((0, 3, 1, 2))?)
}

fn image(t: &Tensor) -> Result<RgbImage> {
    let (_, _, height, width) = t.dims4()?;
    let bytes = (t.permute((0, 2, 3, 1))?.clamp(0f32, 1f32)? * 255.)?.round()?;
    let bytes = bytes.to_dtype(DType::U8)?.flatten_all()?.to_vec1()?;
    RgbImage::from_raw(width as u32, height as u32, bytes).context("a picture of these bytes")
}

/// Hills under a blue sky.
fn landscape() -> RgbImage {
    RgbImage::from_fn(256, 192, |x, y| {
        let (u, v) = (x as f32 / 256., y as f32 / 192.);
        let ridge = |height: f32, waves: f32| height + 0.07 * (waves * u).sin();
        let colour = match v {
            v if v < ridge(0.45, 9.) => [0.35 + 0.4 * v, 0.55 + 0.4 * v, 0.95],
            v if v < ridge(0.7, 5.) => [0.25, 0.45 + 0.2 * u, 0.35],
            _ => [0.2 + 0.2 * u, 0.6 - 0.2 * v, 0.15],
        };
        image::Rgb(colour.map(|c| (c * 255.) as u8))
    })
}

/// A low sun over the sea; of another size than the landscape.
fn sunset() -> RgbImage {
    RgbImage::from_fn(160, 160, |x, y| {
        let (u, v) = (x as f32 / 160., y as f32 / 160.);
        let sun = (u - 0.6).hypot(v - 0.5) < 0.12;
        let glitter = 0.15 * (60. * v).sin().max(0.);
        let colour = match v {
            v if sun && v < 0.55 => [1., 0.9, 0.5],
            v if v < 0.55 => [0.4 + v, 0.15 + 0.7 * v, 0.35 - 0.2 * v],
            _ => [0.5 + glitter, 0.2 + glitter, 0.25],
        };
        image::Rgb(colour.map(|c| (c * 255.) as u8))
    })
}
