//! The command line.

use std::path::PathBuf;

use anyhow::{bail, ensure, Context, Result};
use candle_core::{DType, Device};
use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum};

use crate::arch::ARCHES;

const EXAMPLES: &str = "\
Examples:
  A horse becomes a zebra, with the weights as CycleGAN's authors publish them:
    stylize --weights latest_net_G.pth --input horse.jpg --output zebra.png
  All pictures of a folder, at most 1024 pixels wide or high, in their own colours:
    stylize --weights candy.pth --input holiday --output painted --max-size 1024 --preserve-color
  A picture of any size, in tiles:
    stylize --weights latest_net_G.pth --input panorama.jpg --output zebras.png --tile
  Weights from the Hugging Face Hub:
    stylize --weights hf://owner/name/candy.pth@main --input in.png --output out.png

The exit code is 0 when every picture was written, 1 otherwise.";

/// Give pictures another style with a network. Without arguments: draw a small demonstration.
#[derive(Parser)]
#[command(name = "stylize", version, after_help = EXAMPLES)]
pub struct Options {
    /// A file, a folder or hf://owner/name[/file][@revision]: .safetensors, or .pth of any age.
    #[arg(long)]
    pub weights: Option<PathBuf>,
    /// The network the weights belong to; told from the names in them where not given.
    #[arg(long, value_parser = PossibleValuesParser::new(ARCHES.iter().map(|arch| arch.name)))]
    pub arch: Option<String>,
    /// Pictures, or folders of them: PNG, JPEG or WebP.
    #[arg(long, num_args = 1.., value_name = "PICTURE")]
    pub input: Vec<PathBuf>,
    /// Where the result goes, its ending says in which format; for several pictures, the folder.
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// A picture to take the style from, for networks that take one; repeat it to mix several.
    #[arg(long, value_name = "PICTURE")]
    pub style: Vec<PathBuf>,
    /// The share of a style in the mix, one for each --style; equal ones where not given.
    #[arg(long, value_name = "SHARE")]
    pub style_weight: Vec<f64>,
    /// How much of the style to apply, from 0 to 1.
    #[arg(long, default_value_t = 1.)]
    pub alpha: f64,
    /// Keep the colours of the input and take only light and dark from the result.
    #[arg(long)]
    pub preserve_color: bool,
    /// Reduce pictures whose longer side has more pixels than this.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_size: Option<u32>,
    /// Work in tiles of this side, for pictures larger than memory.
    #[arg(long, value_name = "PIXELS", num_args = 0..=1, default_missing_value = "512",
          value_parser = clap::value_parser!(u32).range(16..))]
    pub tile: Option<u32>,
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: DeviceKind,
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Precision,
}

impl Options {
    /// What clap cannot check.
    pub fn check(&self) -> Result<()> {
        ensure!(
            (0. ..=1.).contains(&self.alpha),
            "--alpha must be from 0 to 1, got {}",
            self.alpha
        );
        let (styles, weights) = (self.style.len(), self.style_weight.len());
        ensure!(
            weights == 0 || weights == styles,
            "there are {styles} of --style and {weights} of --style-weight"
        );
        let good = |weight: &f64| weight.is_finite() && *weight >= 0.;
        ensure!(
            self.style_weight.iter().all(good)
                && (weights == 0 || self.style_weight.iter().sum::<f64>() > 0.),
            "--style-weight must be 0 or more, and not 0 for all"
        );
        Ok(())
    }

    /// The weights, and the output; without either and without an input, there is nothing to do.
    pub fn job(&self) -> Result<Option<(&PathBuf, &PathBuf)>> {
        match (&self.weights, self.input.is_empty(), &self.output) {
            (Some(weights), false, Some(output)) => Ok(Some((weights, output))),
            (None, true, None) => Ok(None),
            (weights, no_input, output) => {
                let given = [
                    ("--weights", weights.is_some()),
                    ("--input", !no_input),
                    ("--output", output.is_some()),
                ];
                let missing = given.iter().filter(|(_, given)| !given);
                let missing: Vec<_> = missing.map(|&(name, _)| name).collect();
                bail!("missing {}", missing.join(" and "))
            }
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum DeviceKind {
    Cpu,
    Cuda,
    Metal,
}

impl DeviceKind {
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda => Device::new_cuda(0).context("cannot use a CUDA device"),
            Self::Metal => Device::new_metal(0).context("cannot use a Metal device"),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Precision {
    F32,
    F16,
    Bf16,
}

impl From<Precision> for DType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }
}
