//! MicroAST.

use candle_core::{Result, Tensor};
use candle_style_models::{MicroAst, MicroAstStyle, NormStats};

use super::by_example::{ByExample, Styled};
use super::{Arch, Grid};
use crate::pixels::Pixels;

pub const ARCH: Arch = Arch {
    name: "microast",
    // In a folder with four files.
    signature: &[
        "content_encoder.enc1.0.conv_layer.weight",
        "style_encoder.enc1.0.conv_layer.weight",
        "modulator.weight1.0.conv_layer.weight",
        "decoder.dec1.conv1.conv_layer.weight",
    ],
    load: |weights, setup| {
        let network = weights.build(setup.dtype, &setup.device, MicroAst::new)?;
        Ok(Box::new(Styled::new(network)))
    },
};

impl ByExample for MicroAst {
    type Style = MicroAstStyle;

    fn pixels(&self) -> Pixels {
        Pixels::Unit
    }

    fn grid(&self) -> Grid {
        Grid {
            multiple: 4,
            min_side: 5,
            reach: self.reach() as u32,
        }
    }

    fn style(&self, x: &Tensor) -> Result<MicroAstStyle> {
        self.style(x)
    }

    fn mix(styles: &[(MicroAstStyle, f64)]) -> Result<MicroAstStyle> {
        MicroAstStyle::mix(styles)
    }

    fn forward(
        &self,
        x: &Tensor,
        style: &MicroAstStyle,
        alpha: f64,
        stats: &mut NormStats,
    ) -> Result<Tensor> {
        self.forward_with(x, style, alpha, stats)
    }
}
