//! A residual block on the fused ops, with its weights from a file as the Hugging Face Hub has them.
//!
//! ```sh
//! cargo run --release --example safetensors                       # writes and reads block.safetensors
//! cargo run --release --example safetensors -- model.safetensors decoder.block1
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::{DType, Device, Module, Tensor, safetensors};
use candle_instance_norm::Activation;
use candle_instance_norm::nn::{GroupNorm, group_norm};
use candle_nn::{Conv2d, Conv2dConfig, VarBuilder, conv2d};

const CHANNELS: usize = 32;
const GROUPS: usize = 8;
const EPS: f64 = 1e-5;

/// `x + conv2(silu(norm2(conv1(silu(norm1(x))))))`, with the names of diffusers' `ResnetBlock2D`.
/// Each norm and its SiLU are one pass over memory.
struct Block {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
}

impl Block {
    fn new(vb: VarBuilder) -> candle_core::Result<Self> {
        let same = Conv2dConfig {
            padding: 1,
            ..Default::default()
        };
        let norm = |name| {
            let norm = group_norm(GROUPS, CHANNELS, EPS, vb.pp(name))?;
            candle_core::Result::Ok(norm.with_activation(Activation::Silu))
        };
        let conv = |name| conv2d(CHANNELS, CHANNELS, 3, same, vb.pp(name));
        Ok(Self {
            norm1: norm("norm1")?,
            conv1: conv("conv1")?,
            norm2: norm("norm2")?,
            conv2: conv("conv2")?,
        })
    }
}

impl Module for Block {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = x.apply(&self.norm1)?.apply(&self.conv1)?;
        x + y.apply(&self.norm2)?.apply(&self.conv2)?
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (path, prefix) = match args.next() {
        Some(path) => (PathBuf::from(path), args.next()),
        None => (random_file("block.safetensors")?, None),
    };
    let device = Device::Cpu;
    // SAFETY: nobody changes the file while it is mapped.
    let mut vb = unsafe { VarBuilder::from_mmaped_safetensors(&[&path], DType::F32, &device)? };
    if let Some(prefix) = prefix {
        vb = vb.pp(prefix);
    }
    let block = Block::new(vb)?;
    let x = Tensor::randn(0f32, 1., (1, CHANNELS, 64, 64), &device)?;
    let y = block.forward(&x)?;
    println!("{:?} in, {:?} out", x.dims(), y.dims());
    Ok(())
}

/// A file with a random block.
fn random_file(path: impl AsRef<Path>) -> Result<PathBuf> {
    let mut tensors = HashMap::new();
    for part in ["norm1", "conv1", "norm2", "conv2"] {
        let weight = if part.starts_with("norm") {
            Tensor::ones(CHANNELS, DType::F32, &Device::Cpu)?
        } else {
            Tensor::randn(0f32, 0.05, (CHANNELS, CHANNELS, 3, 3), &Device::Cpu)?
        };
        tensors.insert(format!("{part}.weight"), weight);
        let bias = Tensor::zeros(CHANNELS, DType::F32, &Device::Cpu)?;
        tensors.insert(format!("{part}.bias"), bias);
    }
    safetensors::save(&tensors, &path)?;
    Ok(path.as_ref().to_path_buf())
}
