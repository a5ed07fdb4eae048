//! StarGAN v2.

use anyhow::Result;
use candle_core::{DType, Device, Tensor, bail};
use candle_style_models::{NormStats, StarGanV2};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rand_distr::StandardNormal;

use super::{Arch, Grid, Needs, Network, Style};
use crate::pixels::Pixels;

pub const ARCH: Arch = Arch {
    name: "stargan-v2",
    signature: &[
        "generator.from_rgb.weight",
        "mapping_network.unshared.0.0.weight",
        "style_encoder.unshared.0.weight",
    ],
    load: |weights, setup| {
        let weights = weights.select(StarGanV2::original_name);
        let networks = weights.build(setup.dtype, &setup.device, StarGanV2::new)?;
        Ok(Box::new(InDomain {
            networks,
            dtype: setup.dtype,
            device: setup.device.clone(),
            style: None,
        }))
    },
};

/// The networks with the last style that they were given.
struct InDomain {
    networks: StarGanV2,
    dtype: DType,
    device: Device,
    style: Option<Tensor>,
}

impl Network for InDomain {
    fn pixels(&self) -> Pixels {
        Pixels::SignedRounded
    }

    fn grid(&self) -> Grid {
        let multiple = self.networks.generator.multiple() as u32;
        Grid {
            multiple,
            // A side is padded to a multiple by reflection, which reaches by less than the side.
            min_side: multiple / 2 + 1,
            reach: self.networks.generator.reach() as u32,
        }
    }

    fn needs(&self) -> Needs {
        Needs::Domain {
            domains: self.networks.mapping.domains(),
            side: self.networks.style_encoder.side() as u32,
        }
    }

    fn set_style(&mut self, style: &Style) -> Result<()> {
        let StarGanV2 {
            mapping,
            style_encoder,
            ..
        } = &self.networks;
        let mut styles = style.examples.iter().map(|example| {
            let taken = style_encoder.forward(&example.x, &[example.domain])?;
            taken * example.weight
        });
        let mixed = match styles.next() {
            Some(first) => styles.try_fold(first?, |sum, next| sum + next?)?,
            None => {
                let noise = StdRng::seed_from_u64(style.seed).sample_iter(StandardNormal);
                let noise: Vec<f32> = noise.take(mapping.latent()).collect();
                let noise = Tensor::from_vec(noise, (1, mapping.latent()), &self.device)?;
                mapping.forward(&noise.to_dtype(self.dtype)?, &[style.domain])?
            }
        };
        self.style = Some(mixed);
        Ok(())
    }

    fn forward(&self, x: &Tensor, stats: &mut NormStats) -> candle_core::Result<Tensor> {
        match &self.style {
            Some(style) => self.networks.generator.forward_with(x, style, stats),
            None => bail!("no style has been set"),
        }
    }
}
