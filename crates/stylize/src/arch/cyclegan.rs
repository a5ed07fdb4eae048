//! The generators of CycleGAN and pix2pix.

use candle_core::{Result, Tensor};
use candle_style_models::{NormStats, ResnetGenerator};

use super::{Arch, Grid, Network};
use crate::pixels::Pixels;

pub const ARCH: Arch = Arch {
    name: "cyclegan",
    signature: &["model.1.weight", "model.4.weight", "model.7.weight"],
    load: |weights, setup| {
        let network = weights.build(setup.dtype, &setup.device, ResnetGenerator::new)?;
        Ok(Box::new(network))
    },
};

impl Network for ResnetGenerator {
    fn pixels(&self) -> Pixels {
        Pixels::Signed
    }

    fn grid(&self) -> Grid {
        Grid {
            // Two halvings.
            multiple: 4,
            min_side: 5,
            reach: self.reach() as u32,
        }
    }

    fn forward(&self, x: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
        self.forward_with(x, stats)
    }
}
