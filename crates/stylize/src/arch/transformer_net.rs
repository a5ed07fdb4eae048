//! The networks of fast neural style.

use candle_core::{Result, Tensor};
use candle_style_models::{NormStats, TransformerNet};

use super::{Arch, Grid, Network};
use crate::pixels::Pixels;

pub const ARCH: Arch = Arch {
    name: "transformer-net",
    signature: &["conv1.conv2d.weight", "deconv3.conv2d.weight"],
    load: |weights, setup| {
        let network = weights.build(setup.dtype, &setup.device, TransformerNet::new)?;
        Ok(Box::new(network))
    },
};

impl Network for TransformerNet {
    fn pixels(&self) -> Pixels {
        Pixels::Bytes
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
