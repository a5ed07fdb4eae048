//! A network with its style and options, and the pictures that it restyles.

use std::path::Path;

use anyhow::Result;
use candle_style_models::weights::Weights;
use image::RgbImage;
use image::imageops::{FilterType, resize};

use crate::arch::{self, Example, Needs, Network, Setup, Style};
use crate::labels::Labels;
use crate::options::Options;
use crate::picture::Picture;
use crate::tiles::Runner;
use crate::{builtin, colour};

/// A network, ready to restyle pictures.
pub struct Studio {
    network: Box<dyn Network>,
    runner: Runner,
    /// The labels of a network that takes maps of them.
    labels: Option<Labels>,
}

/// A picture to take a style from.
pub struct Sample<'a> {
    pub rgb: &'a RgbImage,
    /// Its weight in the mix; those of all samples add up to 1.
    pub weight: f64,
    /// The position of its `--style`.
    pub index: usize,
}

impl Studio {
    /// Loads the network that the options name, or the one that is built in.
    pub fn open(options: &Options) -> Result<Self> {
        let setup = Setup {
            dtype: options.dtype.into(),
            device: options.device.open()?,
            upsampling: options.upsampling,
        };
        let weights = match &options.weights {
            Some(path) => Weights::open(path)?,
            None => builtin::weights()?,
        };
        let network = arch::load(&weights, options.arch.as_deref(), &setup)?;
        options.suit(network.needs())?;
        let labels = match network.needs() {
            Needs::Labels(channels) => Some(Labels::new(channels, options.labels)?),
            _ => None,
        };
        let runner = Runner {
            device: setup.device,
            dtype: setup.dtype,
            tile: options.tile,
        };
        Ok(Self {
            network,
            runner,
            labels,
        })
    }

    /// Takes the styles of the options, mixed by their weights.
    pub fn take_styles(&mut self, options: &Options) -> Result<()> {
        let all: f64 = options.style_weight.iter().sum();
        let styles = options.style.iter().map(|path| picture(path, options));
        let styles = styles.collect::<Result<Vec<_>>>()?;
        let weight = |index: usize| match options.style_weight.get(index) {
            Some(weight) => weight / all,
            None => 1. / options.style.len() as f64,
        };
        let samples = styles.iter().enumerate().map(|(index, style)| Sample {
            rgb: &style.rgb,
            weight: weight(index),
            index,
        });
        let samples: Vec<_> = samples.collect();
        self.set_style(options, &samples, options.alpha())
    }

    /// Takes the style of the samples, to be applied by `alpha`, from 0 to 1.
    pub fn set_style(&mut self, options: &Options, samples: &[Sample], alpha: f64) -> Result<()> {
        let example = |sample: &Sample| {
            let x = match self.network.needs() {
                Needs::Domain { side, .. } => {
                    let rgb = resize(sample.rgb, side, side, FilterType::Triangle);
                    self.network.pixels().to_tensor(&rgb, 0..side, 0..side)?
                }
                _ => {
                    let (width, height) = sample.rgb.dimensions();
                    self.network
                        .pixels()
                        .to_tensor(sample.rgb, 0..width, 0..height)?
                }
            };
            let x = x.to_device(&self.runner.device)?;
            anyhow::Ok(Example {
                x: x.to_dtype(self.runner.dtype)?,
                weight: sample.weight,
                domain: options.domain(sample.index),
            })
        };
        let examples = samples.iter().map(example).collect::<Result<Vec<_>>>()?;
        self.network.set_style(&Style {
            examples: &examples,
            alpha,
            domain: options.domain(0),
            seed: options.seed,
        })
    }

    /// Reads an input: a picture, or a map of labels for a network that takes those.
    pub fn read(&self, path: &Path, options: &Options) -> Result<Picture> {
        let Some(labels) = self.labels else {
            return picture(path, options);
        };
        let instances = options
            .instances
            .as_ref()
            .map(|things| match path.file_name() {
                Some(name) if things.is_dir() => things.join(name),
                _ => things.clone(),
            });
        Ok(Picture {
            rgb: labels.read(path, instances.as_deref(), options.max_size)?,
            alpha: None,
        })
    }

    /// The picture in the style that was taken. The result of a network that cannot apply a part of
    /// a style is mixed with the picture.
    pub fn restyle(
        &self,
        options: &Options,
        original: &RgbImage,
        alpha: f64,
        step: &dyn Fn(usize, usize),
    ) -> Result<RgbImage> {
        let mut styled = self.runner.run(&*self.network, original, step)?;
        if alpha < 1. && self.network.needs() != Needs::Styles {
            colour::blend(&mut styled, original, alpha);
        }
        if options.preserve_color {
            colour::preserve(&mut styled, original);
        }
        Ok(styled)
    }
}

/// Reads a picture, reduced to `--max-size`.
fn picture(path: &Path, options: &Options) -> Result<Picture> {
    let picture = Picture::read(path)?;
    Ok(match options.max_size {
        Some(side) => picture.at_most(side),
        None => picture,
    })
}
