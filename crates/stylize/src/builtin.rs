//! The network and the picture that are built in.

use anyhow::Result;
use candle_core::Device;
use candle_style_models::weights::Weights;
use image::RgbImage;

use crate::{grain, scenes};

/// A `TransformerNet`; the README has the `stylize train` command that made it.
pub const WEIGHTS: &[u8] = include_bytes!("../default.safetensors");

/// The name of the network in errors.
pub const NAME: &str = "the built-in network";

const SIDE: u32 = 512;
const GRAIN: f32 = 0.05;

pub fn weights() -> Result<Weights> {
    let tensors = candle_core::safetensors::load_buffer(WEIGHTS, &Device::Cpu)?;
    Ok(Weights::from_tensors(tensors, NAME))
}

/// A drawing on rough paper.
pub fn picture() -> RgbImage {
    let mut picture = scenes::draw(scenes::valley, SIDE);
    grain::add(&mut picture, GRAIN, 0);
    picture
}
