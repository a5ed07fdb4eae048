//! The networks that can be run.

mod adain;
mod cyclegan;
mod gaugan;
mod microast;
mod stargan_v2;
mod styled;
mod transformer_net;

use anyhow::{bail, Result};
use candle_core::{DType, Device, Tensor};
use candle_style_models::weights::Weights;
use candle_style_models::NormStats;
use clap::ValueEnum;

use crate::pixels::Pixels;

/// Every architecture, in the order in which they are tried.
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
    /// Names of tensors that, together, no other has.
    pub signature: &'static [&'static str],
    pub load: fn(&Weights, &Setup) -> candle_core::Result<Box<dyn Network>>,
}

/// What a network is built with besides its weights.
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
    fn pixels(&self) -> Pixels;

    fn grid(&self) -> Grid;

    /// What it needs to know before it runs.
    fn needs(&self) -> Needs {
        Needs::Picture
    }

    /// Takes a style, where it does not have it in its weights.
    fn set_style(&mut self, _style: &Style) -> Result<()> {
        Ok(())
    }

    /// `(1, C, H, W)`, with the channels of [`Pixels`] and sides that are multiples of the grid's;
    /// `(1, 3, H, W)`.
    fn forward(&self, x: &Tensor, stats: &mut NormStats) -> candle_core::Result<Tensor>;
}

/// What a network makes its picture from.
#[derive(Clone, Copy, PartialEq)]
pub enum Needs {
    Picture,
    /// A picture, and others for the style, which it applies to any degree.
    Styles,
    /// A picture and one of so many domains, and for the style none or pictures of this side.
    Domain {
        domains: usize,
        side: u32,
    },
    /// A map of labels, with so many channels.
    Labels(usize),
}

/// What is told of a style.
pub struct Style<'a> {
    pub examples: &'a [Example],
    /// How much of it to apply.
    pub alpha: f64,
    /// Of a style without examples.
    pub domain: usize,
    pub seed: u64,
}

/// A picture in a style, `(1, 3, H, W)`.
pub struct Example {
    pub x: Tensor,
    /// Its part of the whole.
    pub share: f64,
    pub domain: usize,
}

/// What the sides of an input must be.
pub struct Grid {
    pub multiple: u32,
    pub min_side: u32,
    /// How many pixels around it a pixel of the output depends on.
    pub reach: u32,
}

/// Loads the network that the names in `weights` belong to, or the one that is asked for.
pub fn load(weights: &Weights, name: Option<&str>, setup: &Setup) -> Result<Box<dyn Network>> {
    let weights = &weights.select(|name| Some(without_iteration(name)));
    let asked = |arch: &&Arch| name.is_none_or(|name| name == arch.name);
    for arch in ARCHES.iter().filter(asked) {
        if let Some(weights) = arch.find(weights) {
            return Ok((arch.load)(&weights, setup)?);
        }
    }
    match ARCHES.iter().find(|arch| Some(arch.name) == name) {
        // To say what is missing.
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
                "{} is of none of {}: it holds {}, ...",
                weights.origin(),
                known.join(", "),
                names.join(", ")
            )
        }
    }
}

/// The name without the number of iterations after which a file was saved:
/// `decoder_iter_160000.1.weight` is `decoder.1.weight`.
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
    /// The weights of this architecture, wherever in a checkpoint they are: `netG.model.1.weight`
    /// is `model.1.weight`.
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
