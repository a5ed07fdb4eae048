//! The networks that can be run.

mod adain;
mod cyclegan;
mod microast;
mod styled;
mod transformer_net;

use anyhow::{bail, Result};
use candle_core::{DType, Device, Tensor};
use candle_instance_norm::models::Norms;
use candle_instance_norm::weights::Weights;

use crate::pixels::Pixels;

/// Every architecture, in the order in which they are tried.
pub const ARCHES: &[Arch] = &[
    cyclegan::ARCH,
    transformer_net::ARCH,
    microast::ARCH,
    adain::ARCH,
];

/// An architecture.
pub struct Arch {
    pub name: &'static str,
    /// Names of tensors that, together, no other has.
    pub signature: &'static [&'static str],
    pub load: fn(&Weights, DType, &Device) -> candle_core::Result<Box<dyn Network>>,
}

/// A network with its weights.
pub trait Network {
    fn pixels(&self) -> Pixels;

    fn grid(&self) -> Grid;

    /// Takes the style of pictures, `(1, 3, H, W)`, each with its share of the whole, and how much
    /// of it is to be applied. A network that has its style in its weights takes none.
    fn set_style(&mut self, _styles: &[(Tensor, f64)], _alpha: f64) -> Result<()> {
        bail!("this network has its style in its weights: --style does not apply")
    }

    /// Whether there is nothing to run before [`set_style`](Self::set_style).
    fn takes_style(&self) -> bool {
        false
    }

    /// `(1, 3, H, W)`, with sides that are multiples of the grid's.
    fn forward(&self, x: &Tensor, norms: &mut Norms) -> candle_core::Result<Tensor>;
}

/// What the sides of an input must be.
pub struct Grid {
    pub multiple: u32,
    pub min_side: u32,
    /// How many pixels around it a pixel of the output depends on.
    pub reach: u32,
}

/// Loads the network that the names in `weights` belong to, or the one that is asked for.
pub fn load(
    weights: &Weights,
    name: Option<&str>,
    dtype: DType,
    device: &Device,
) -> Result<Box<dyn Network>> {
    let weights = &weights.select(|name| Some(without_iteration(name)));
    let asked = |arch: &&Arch| name.is_none_or(|name| name == arch.name);
    for arch in ARCHES.iter().filter(asked) {
        if let Some(weights) = arch.find(weights) {
            return Ok((arch.load)(&weights, dtype, device)?);
        }
    }
    match ARCHES.iter().find(|arch| Some(arch.name) == name) {
        // To say what is missing.
        Some(arch) => Ok((arch.load)(weights, dtype, device)?),
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
