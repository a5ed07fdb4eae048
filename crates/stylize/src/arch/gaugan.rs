//! The generator of GauGAN.

use candle_core::{Result, Tensor};
use candle_style_models::{NormStats, SpadeGenerator, SpadeGeneratorConfig};

use super::{Arch, Grid, Needs, Network, Upsampling};
use crate::pixels::Pixels;

pub const ARCH: Arch = Arch {
    name: "gaugan",
    signature: &[
        "fc.weight",
        "head_0.norm_0.mlp_shared.0.weight",
        "conv_img.weight",
    ],
    load: |weights, setup| {
        let network = weights.build(setup.dtype, &setup.device, |vb| {
            let mut config = SpadeGeneratorConfig::infer(&vb);
            match setup.upsampling {
                Some(Upsampling::Normal) => config.doublings = 5,
                Some(Upsampling::More) => config.doublings = 6,
                Some(Upsampling::Most) => config.doublings = 7,
                None => {}
            }
            SpadeGenerator::new(config, vb)
        })?;
        Ok(Box::new(network))
    },
};

impl Network for SpadeGenerator {
    fn pixels(&self) -> Pixels {
        Pixels::Labels(self.labels())
    }

    fn grid(&self) -> Grid {
        let multiple = self.multiple() as u32;
        Grid {
            multiple,
            // A side is padded to a multiple by reflection, which reaches by less than the side.
            min_side: multiple / 2 + 1,
            reach: self.reach() as u32,
        }
    }

    fn needs(&self) -> Needs {
        Needs::Labels(self.labels())
    }

    fn forward(&self, x: &Tensor, stats: &mut NormStats) -> Result<Tensor> {
        self.forward_with(x, stats)
    }
}
