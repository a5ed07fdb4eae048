//! The network in training, and its steps.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Module, VarBuilder, VarMap};
use candle_style_models::{TransformerNet, TransformerNetConfig};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::adam::Parameter;
use super::content::Content;
use super::filter_bank::FilterBank;
use super::loss::{Texture, content_loss};
use super::options::Settings;
use crate::pixels::Pixels;

/// Half the range of the saved network's output, 0 to 255, as in pytorch/examples. In training the
/// output is -1 to 1, so that one learning rate suits all layers.
const HALF_RANGE: f64 = 127.5;

/// The steps in which the learning rate rises to its height.
const WARM_UP: f64 = 20.;

/// The prefix of the last layer, which has the range of the output.
const LAST: &str = "deconv3.";

/// The use of random numbers. Those of a step follow from its number, so that a run can resume with
/// the same ones.
pub enum Stream {
    Style,
    Bank,
    Network,
    Step(usize),
}

/// The random numbers of a stream of a seed.
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
    /// The losses of texture and content of every step so far.
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
            // candle's random numbers take no seed on the CPU. The bounds are PyTorch's; a norm keeps
            // its weight of 1 and its bias of 0.
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

    /// The number of steps that are done.
    pub fn done(&self) -> usize {
        self.losses.len()
    }

    /// Takes a step on a batch of pictures, and records its losses.
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

    /// The learning rate of the next step: half a cosine, from the rate of the settings to a hundredth
    /// of it, with a linear rise in the first steps, where Adam has seen few gradients.
    fn rate(&self) -> f64 {
        let done = self.done() as f64 / self.settings.steps as f64;
        let wave = 0.5 + 0.5 * (std::f64::consts::PI * done).cos();
        let warm = ((self.done() + 1) as f64 / WARM_UP).min(1.);
        self.settings.rate * warm * (0.01 + 0.99 * wave)
    }

    /// The weights with the names and the range of pytorch/examples, in f16: sums of thousands of
    /// products need no more digits, and the file is half as large.
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
