//! The architectures of networks, recognized by the names of their weights.

mod adain;
mod by_example;
mod cyclegan;
mod gaugan;
mod microast;
mod stargan_v2;
mod transformer_net;

use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor};
use candle_style_models::NormStats;
use candle_style_models::weights::Weights;
use clap::ValueEnum;

use crate::pixels::Pixels;

/// All architectures, in the order in which they are tried.
pub const ARCHES: &[Arch] = &[
    cyclegan::ARCH,
    transformer_net::ARCH,
    microast::ARCH,
    adain::ARCH,
    stargan_v2::ARCH,
    gaugan::ARCH,
];

/// An architecture.
pub struct Arch {
    pub name: &'static str,
    /// Names of tensors that no other architecture has all of.
    pub signature: &'static [&'static str],
    pub load: fn(&Weights, &Setup) -> candle_core::Result<Box<dyn Network>>,
}

/// The settings of a network besides its weights.
pub struct Setup {
    pub dtype: DType,
    pub device: Device,
    pub upsampling: Option<Upsampling>,
}

/// The option `--num_upsampling_layers` of GauGAN's training.
#[derive(Clone, Copy, ValueEnum)]
pub enum Upsampling {
    Normal,
    More,
    Most,
}

/// A network with its weights.
pub trait Network {
    /// The values that it uses for bytes.
    fn pixels(&self) -> Pixels;

    /// The sides that it takes.
    fn grid(&self) -> Grid;

    /// The inputs that it takes.
    fn needs(&self) -> Needs {
        Needs::Picture
    }

    /// Takes a style, if it does not have one in its weights.
    fn set_style(&mut self, _style: &Style) -> Result<()> {
        Ok(())
    }

    /// The picture `(1, 3, H, W)` for an input `(1, C, H, W)`, which has the channels of [`Pixels`]
    /// and sides that are multiples of the grid's.
    fn forward(&self, x: &Tensor, stats: &mut NormStats) -> candle_core::Result<Tensor>;
}

/// The inputs of a network.
#[derive(Clone, Copy, PartialEq)]
pub enum Needs {
    Picture,
    /// A picture, and pictures of a style, which it applies in full or in part.
    Styles,
    /// A picture and a domain, and for the style none or pictures of a fixed size.
    Domain {
        /// The number of domains.
        domains: usize,
        /// The width and height of a picture of a style.
        side: u32,
    },
    /// A map of labels with this number of channels.
    Labels(usize),
}

/// A style for a network.
pub struct Style<'a> {
    pub examples: &'a [Example],
    /// The part of the style to apply, from 0 to 1.
    pub alpha: f64,
    /// The domain of a style without examples.
    pub domain: usize,
    /// The seed of a style without examples.
    pub seed: u64,
}

/// A picture to take a style from.
pub struct Example {
    /// `(1, 3, H, W)`
    pub x: Tensor,
    /// Its weight in the mix.
    pub weight: f64,
    pub domain: usize,
}

/// The sides that a network takes.
pub struct Grid {
    /// The number that the sides must be multiples of.
    pub multiple: u32,
    pub min_side: u32,
    /// The number of pixels around a pixel of the output that it depends on.
    pub reach: u32,
}

/// Loads the network `name`, or without a name the one that the names in `weights` belong to.
pub fn load(weights: &Weights, name: Option<&str>, setup: &Setup) -> Result<Box<dyn Network>> {
    let weights = &weights.select(|name| Some(without_iteration(name)));
    let asked = |arch: &&Arch| name.is_none_or(|name| name == arch.name);
    for arch in ARCHES.iter().filter(asked) {
        if let Some(weights) = arch.find(weights) {
            return Ok((arch.load)(&weights, setup)?);
        }
    }
    match ARCHES.iter().find(|arch| Some(arch.name) == name) {
        // Fails with the names that are missing.
        Some(arch) => Ok((arch.load)(weights, setup)?),
        None => {
            let known: Vec<_> = ARCHES.iter().map(|arch| arch.name).collect();
            let names: Vec<_> = weights
                .names()
                .take(4)
                .map(str::escape_debug)
                .map(String::from_iter)
                .collect();
            bail!(
                "{} fits none of {}: it holds {}, ...",
                weights.origin(),
                known.join(", "),
                names.join(", ")
            )
        }
    }
}

/// Removes the number of iterations after which a file was saved: `decoder_iter_160000.1.weight`
/// becomes `decoder.1.weight`.
fn without_iteration(name: &str) -> String {
    let (file, rest) = name.split_once('.').unwrap_or((name, ""));
    match file.rsplit_once("_iter_") {
        Some((file, count)) if count.bytes().all(|digit| digit.is_ascii_digit()) => {
            format!("{file}.{rest}")
        }
        _ => name.to_string(),
    }
}

impl Arch {
    /// The weights of this architecture, under any prefix: `netG.model.1.weight` becomes
    /// `model.1.weight`.
    fn find(&self, weights: &Weights) -> Option<Weights> {
        let first = self.signature.first()?;
        let prefixes = weights.names().filter_map(|name| name.strip_suffix(first));
        let whole = |prefix: &&str| {
            let mut names = self.signature.iter().map(|name| format!("{prefix}{name}"));
            (prefix.is_empty() || prefix.ends_with('.'))
                && names.all(|name| weights.shape(&name).is_some())
        };
        let prefix = prefixes.filter(whole).min_by_key(|prefix| prefix.len())?;
        Some(weights.select(|name| Some(name.strip_prefix(prefix)?.to_string())))
    }
}
