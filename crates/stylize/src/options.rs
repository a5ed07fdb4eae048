//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device};
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand, ValueEnum};

use crate::arch::{ARCHES, Needs, Upsampling};
use crate::labels::Dataset;
use crate::train;

const EXAMPLES: &str = "\
Examples:
  A horse becomes a zebra, with the weights as CycleGAN's authors publish them:
    stylize --weights latest_net_G.pth --input horse.jpg --output zebra.png
  All pictures of a folder, at most 1024 pixels wide or high, in their own colours:
    stylize --weights candy.pth --input holiday --output painted --max-size 1024 --preserve-color
  A picture of any size, in tiles:
    stylize --weights latest_net_G.pth --input panorama.jpg --output zebras.png --tile
  In the oils of the network that is built in:
    stylize --input in.jpg --output painted.jpg
  A sheet with the picture in two styles, half applied and in full:
    stylize --weights microast --input in.jpg --style a.jpg --style b.jpg --alpha 0.5 1 --gallery all.png
  A cat as a dog, in the style of a picture, and in a random one:
    stylize --weights 100000_nets_ema.ckpt --input cat.jpg --output dog.png --domain 1 --style dog.jpg
    stylize --weights 100000_nets_ema.ckpt --input cat.jpg --output dog.png --domain 1 --seed 7
  A landscape from a map of labels:
    stylize --weights latest_net_G.pth --input labels.png --output landscape.png
  A network of your own for another style:
    stylize train --style wave.jpg --output wave.safetensors
  Weights from the Hugging Face Hub:
    stylize --weights hf://owner/name/candy.pth@main --input in.png --output out.png

The exit code is 0 when every picture was written, 1 otherwise.";

/// Give pictures another style with a network. Without arguments: paint a picture that is built in.
#[derive(Parser)]
#[command(name = "stylize", version, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The weights: .safetensors or a .pth of any age, as a file, a folder or
    /// hf://owner/name/file@revision, where file and revision are optional. Without them, the small
    /// network that is built in, which paints in oils.
    #[arg(long)]
    pub weights: Option<PathBuf>,
    /// The network of the weights. Default: detected from the names of the tensors.
    #[arg(long, value_parser = PossibleValuesParser::new(ARCHES.iter().map(|arch| arch.name)))]
    pub arch: Option<String>,
    /// Pictures to restyle, or folders of them: PNG, JPEG or WebP.
    #[arg(long, num_args = 1.., value_name = "PICTURE")]
    pub input: Vec<PathBuf>,
    /// The file of the result, whose ending decides the format; for several pictures, a folder.
    #[arg(long)]
    pub output: Option<PathBuf>,
    /// A picture to take the style from, for networks that do; repeat it to mix several.
    #[arg(long, value_name = "PICTURE")]
    pub style: Vec<PathBuf>,
    /// The weight of a style in the mix, one for each --style. Default: equal weights.
    #[arg(long, value_name = "WEIGHT")]
    pub style_weight: Vec<f64>,
    /// The part of the style to apply, from 0 to 1; several for a gallery. Default: 1.
    #[arg(long, num_args = 1..)]
    pub alpha: Vec<f64>,
    /// For StarGAN v2, the domain of the result: 0 cat, 1 dog, 2 wild animal; 0 female, 1 male. One
    /// for each --style, whose picture is of the same domain, or one for all.
    #[arg(long, value_name = "NUMBER")]
    pub domain: Vec<usize>,
    /// For StarGAN v2 without --style, the seed of a random style of the domain.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// For GauGAN, the dataset that defines the values in a map of labels. Default: detected from
    /// the number of labels.
    #[arg(long, value_enum, value_name = "DATASET")]
    pub labels: Option<Dataset>,
    /// For GauGAN, a map with another value for each thing, to separate things of the same label;
    /// or a folder of maps, named like the inputs.
    #[arg(long, value_name = "PICTURE")]
    pub instances: Option<PathBuf>,
    /// For GauGAN, the --num_upsampling_layers of its training: "more" for Cityscapes. Default:
    /// detected, but for "more".
    #[arg(long, value_enum, value_name = "LAYERS")]
    pub upsampling: Option<Upsampling>,
    /// Make one sheet with a row for each picture and style, and a column for each --alpha.
    #[arg(long, value_name = "PICTURE", conflicts_with_all = ["output", "style_weight"])]
    pub gallery: Option<PathBuf>,
    /// Keep the colours of the input, and take only the lightness from the result.
    #[arg(long)]
    pub preserve_color: bool,
    /// Reduce pictures whose longer side has more pixels than this.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_size: Option<u32>,
    /// Process the picture in tiles of this side, for pictures larger than memory.
    #[arg(long, value_name = "PIXELS", num_args = 0..=1, default_missing_value = "512",
          value_parser = clap::value_parser!(u32).range(16..))]
    pub tile: Option<u32>,
    #[arg(long, value_enum, default_value = "cpu")]
    pub device: DeviceKind,
    #[arg(long, value_enum, default_value = "f32")]
    pub dtype: Precision,
}

#[derive(Subcommand)]
pub enum Command {
    Train(train::Options),
}

impl Options {
    /// Checks the conditions that clap cannot express.
    pub fn check(&self) -> Result<()> {
        for alpha in &self.alpha {
            ensure!(
                (0. ..=1.).contains(alpha),
                "--alpha must be from 0 to 1, got {alpha}"
            );
        }
        ensure!(
            self.alpha.len() < 2 || self.gallery.is_some(),
            "only --gallery takes several values of --alpha"
        );
        let (styles, weights) = (self.style.len(), self.style_weight.len());
        ensure!(
            weights == 0 || weights == styles,
            "expected as many --style-weight as --style, got {weights} and {styles}"
        );
        let good = |weight: &f64| weight.is_finite() && *weight >= 0.;
        ensure!(
            self.style_weight.iter().all(good)
                && (weights == 0 || self.style_weight.iter().sum::<f64>() > 0.),
            "--style-weight must be 0 or more, and not 0 for all"
        );
        Ok(())
    }

    /// Checks that the options have everything that a network needs, and nothing that does not
    /// apply to it.
    pub fn suit(&self, needs: Needs) -> Result<()> {
        let (styles, domains) = (self.style.len(), self.domain.len());
        let labels = matches!(needs, Needs::Labels(_));
        let domain = matches!(needs, Needs::Domain { .. });
        let network = match needs {
            Needs::Picture => "has its style in its weights",
            Needs::Styles => "takes its style from pictures",
            Needs::Domain { .. } => "works by domains",
            Needs::Labels(_) => "takes a map of labels",
        };
        for (name, given, useful) in [
            ("--style", styles > 0, domain || needs == Needs::Styles),
            ("--domain", domains > 0, domain),
            ("--labels", self.labels.is_some(), labels),
            ("--instances", self.instances.is_some(), labels),
            ("--upsampling", self.upsampling.is_some(), labels),
            ("--alpha", !self.alpha.is_empty(), !labels),
            ("--preserve-color", self.preserve_color, !labels),
            ("--gallery", self.gallery.is_some(), !labels),
        ] {
            ensure!(
                useful || !given,
                "this network {network}: {name} does not apply"
            );
        }
        match needs {
            Needs::Styles => ensure!(styles > 0, "this network {network}: give --style"),
            Needs::Domain { domains: known, .. } => {
                let last = known - 1;
                ensure!(
                    domains > 0 && self.domain.iter().all(|&domain| domain <= last),
                    "this network {network}: give --domain, from 0 to {last}"
                );
                ensure!(
                    domains == 1 || domains == styles,
                    "expected one --domain, or as many as --style, got {domains} and {styles}"
                );
            }
            Needs::Picture | Needs::Labels(_) => {}
        }
        Ok(())
    }

    /// The domain of the style at a position.
    pub fn domain(&self, index: usize) -> usize {
        let domain = self.domain.get(index).or(self.domain.first());
        domain.copied().unwrap_or(0)
    }

    /// The part of the style to apply.
    pub fn alpha(&self) -> f64 {
        self.alpha.first().copied().unwrap_or(1.)
    }

    /// The job that the options ask for.
    pub fn job(&self) -> Result<Job<'_>> {
        match (&self.gallery, self.input.is_empty(), &self.output) {
            (Some(gallery), ..) => Ok(Job::Gallery(gallery)),
            (None, false, Some(output)) => Ok(Job::Pictures(output)),
            (None, true, None) if self.weights.is_none() => Ok(Job::Demo),
            (None, no_input, output) => {
                let given = [("--input", !no_input), ("--output", output.is_some())];
                let missing = given.iter().filter(|(_, given)| !given);
                let missing: Vec<_> = missing.map(|&(name, _)| name).collect();
                bail!("missing {}", missing.join(" and "))
            }
        }
    }
}

/// A job, with the path of its output.
pub enum Job<'a> {
    Demo,
    Gallery(&'a Path),
    Pictures(&'a Path),
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
