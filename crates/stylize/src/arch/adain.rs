//! AdaIN, the style transfer of Huang and Belongie.

use candle_core::{Result, Tensor};
use candle_style_models::{AdaInStyle, AdaInStyleStats, NormStats};

use super::by_example::{ByExample, Styled};
use super::{Arch, Grid};
use crate::pixels::Pixels;

pub const ARCH: Arch = Arch {
    name: "adain",
    // In a folder with two files.
    signature: &["vgg_normalised.0.weight", "decoder.1.weight"],
    load: |weights, setup| {
        let weights = weights.select(AdaInStyle::original_name);
        let network = weights.build(setup.dtype, &setup.device, AdaInStyle::new)?;
        Ok(Box::new(Styled::new(network)))
    },
};

impl ByExample for AdaInStyle {
    type Style = AdaInStyleStats;

    fn pixels(&self) -> Pixels {
        Pixels::UnitRounded
    }

    fn grid(&self) -> Grid {
        Grid {
            multiple: 8,
            min_side: 9,
            reach: self.reach() as u32,
        }
    }

    fn style(&self, x: &Tensor) -> Result<AdaInStyleStats> {
        self.style(x)
    }

    fn mix(styles: &[(AdaInStyleStats, f64)]) -> Result<AdaInStyleStats> {
        AdaInStyleStats::mix(styles)
    }

    fn forward(
        &self,
        x: &Tensor,
        style: &AdaInStyleStats,
        alpha: f64,
        stats: &mut NormStats,
    ) -> Result<Tensor> {
        self.forward_with(x, style, alpha, stats)
    }
}
