//! The network that is trained, and a step of it.

use std::collections::HashMap;

use anyhow::{ensure, Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, VarBuilder, VarMap};
use candle_style_models::{TransformerNet, TransformerNetConfig};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::adam::Parameter;
use super::bank::FilterBank;
use super::content::Content;
use super::loss::{content_loss, Texture};
use super::options::Settings;
use crate::pixels::Pixels;

/// The network in training gives -1 to 1, so that one learning rate suits all its layers; the one
/// that is saved gives 0 to 255, as those of pytorch/examples do.
const HALF_RANGE: f64 = 127.5;

/// Over how many steps the learning rate rises to its height.
const WARM_UP: f64 = 20.;

/// The layer that makes the difference.
const LAST: &str = "deconv3.";

/// What random numbers are for. Those of a step follow from its number: nothing else is to be kept
/// to go on with the same ones.
pub enum Stream {
    Style,
    Bank,
    Network,
    Step(usize),
}

/// Random numbers of their own for each stream of each seed.
pub fn rng(seed: u64, stream: Stream) -> StdRng {
    let number = match stream {
        Stream::Style => 0,
        Stream::Bank => 1,
        Stream::Network => 2,
        Stream::Step(step) => 3 + step as u64,
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    StdRng::from_seed(bytes)
}

pub struct Trainer {
    settings: Settings,
    network: TransformerNet,
    pub parameters: Vec<Parameter>,
    texture: Texture,
    content: Content,
    /// Of every step that is done: of the texture and of the content.
    pub losses: Vec<[f32; 2]>,
}

impl Trainer {
    /// `style` is `(1, 3, H, W)` from 0 to 1.
    pub fn new(settings: Settings, style: &Tensor, content: Content) -> Result<Self> {
        let vars = VarMap::new();
        let config = TransformerNetConfig {
            width: settings.width,
            num_blocks: settings.blocks,
        };
        let vb = VarBuilder::from_varmap(&vars, DType::F32, &Device::Cpu);
        let network = TransformerNet::with_config(config, vb)?;
        let vars = vars.data().lock().expect("no other thread has it").clone();
        let mut parameters = vars
            .into_iter()
            .map(|(name, var)| Parameter::new(name, var))
            .collect::<candle_core::Result<Vec<_>>>()?;
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        let mut numbers = rng(settings.seed, Stream::Network);
        for parameter in &parameters {
            // candle's own random numbers take no seed on the CPU. These are PyTorch's bounds; a
            // norm keeps its weight of 1 and its bias of 0.
            let var = &parameter.var;
            if let &[_, c_in, height, width] = var.dims() {
                let bound = 1. / ((c_in * height * width) as f32).sqrt();
                let values: Vec<f32> = (0..var.elem_count())
                    .map(|_| numbers.random_range(-bound..bound))
                    .collect();
                var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
            } else if parameter.name.contains("conv2d") {
                var.set(&var.zeros_like()?)?;
            }
        }
        let bank = FilterBank::new(&mut rng(settings.seed, Stream::Bank), &Device::Cpu)?;
        Ok(Self {
            network,
            parameters,
            texture: Texture::new(bank, style)?,
            content,
            losses: Vec::new(),
            settings,
        })
    }

    /// How many steps are done.
    pub fn done(&self) -> usize {
        self.losses.len()
    }

    /// Trains on a few pictures, and adds to the losses.
    pub fn step(&mut self) -> Result<()> {
        let Settings {
            seed, side, batch, ..
        } = self.settings;
        let mut rng = rng(seed, Stream::Step(self.done()));
        let pictures = (0..batch)
            .map(|_| {
                let picture = self.content.picture(side, &mut rng)?;
                Pixels::Bytes.to_tensor(&picture, 0..side, 0..side)
            })
            .collect::<Result<Vec<_>>>()?;
        let x = Tensor::cat(&pictures, 0)?;
        let y = ((self.network.forward(&x)? + 1.)? * 0.5)?;

        let texture = self.texture.loss(&y)?;
        let content = content_loss(&y, &(x / 255.)?)?;
        let loss = ((&texture * self.settings.texture_weight)? + &content)?;
        let grads = loss.backward()?;
        let rate = self.rate();
        let number = self.done() + 1;
        for parameter in &mut self.parameters {
            parameter.step(&grads, number, rate)?;
        }
        let losses = [texture.to_scalar::<f32>()?, content.to_scalar()?];
        ensure!(
            losses.iter().all(|loss| loss.is_finite()),
            "the loss of step {number} is not finite; try a smaller --rate"
        );
        self.losses.push(losses);
        Ok(())
    }

    /// Half a cosine, from the rate of the settings to a hundredth of it. The first steps, for which
    /// Adam knows little of the gradients, are shorter.
    fn rate(&self) -> f64 {
        let done = self.done() as f64 / self.settings.steps as f64;
        let wave = 0.5 + 0.5 * (std::f64::consts::PI * done).cos();
        let warm = ((self.done() + 1) as f64 / WARM_UP).min(1.);
        self.settings.rate * warm * (0.01 + 0.99 * wave)
    }

    /// The weights, with the names and the range of pytorch/examples, in f16: a mean of thousands
    /// of products needs no more digits, and they take half the room.
    pub fn weights(&self) -> Result<HashMap<String, Tensor>> {
        let weight = |parameter: &Parameter| {
            let mut tensor = parameter.var.as_tensor().clone();
            if let Some(name) = parameter.name.strip_prefix(LAST) {
                let middle = if name.ends_with("bias") {
                    HALF_RANGE
                } else {
                    0.
                };
                tensor = tensor.affine(HALF_RANGE, middle)?;
            }
            Ok((parameter.name.clone(), tensor.to_dtype(DType::F16)?))
        };
        let weights: candle_core::Result<_> = self.parameters.iter().map(weight).collect();
        weights.context("cannot convert the weights")
    }
}
