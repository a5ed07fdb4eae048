//! MicroAST.

use anyhow::Result;
use candle_core::Tensor;
use candle_instance_norm::models::{MicroAst, MicroAstStyle, Norms};

use super::{Arch, Grid, Network};
use crate::pixels::Pixels;

pub const ARCH: Arch = Arch {
    name: "microast",
    // Of a folder with four files.
    signature: &[
        "content_encoder.enc1.0.conv_layer.weight",
        "style_encoder.enc1.0.conv_layer.weight",
        "modulator.weight1.0.conv_layer.weight",
        "decoder.dec1.conv1.conv_layer.weight",
    ],
    load: |weights, dtype, device| {
        let network = weights.build(dtype, device, MicroAst::new)?;
        Ok(Box::new(Styled {
            network,
            style: None,
            alpha: 1.,
        }))
    },
};

struct Styled {
    network: MicroAst,
    style: Option<MicroAstStyle>,
    alpha: f64,
}

impl Network for Styled {
    fn pixels(&self) -> Pixels {
        Pixels::Unit
    }

    fn grid(&self) -> Grid {
        Grid {
            multiple: 4,
            min_side: 5,
            reach: self.network.reach() as u32,
        }
    }

    fn takes_style(&self) -> bool {
        true
    }

    fn set_style(&mut self, styles: &[(Tensor, f64)], alpha: f64) -> Result<()> {
        let styles = styles.iter();
        let styles = styles.map(|(x, share)| Ok((self.network.style(x)?, *share)));
        self.style = Some(MicroAstStyle::mix(&styles.collect::<Result<Vec<_>>>()?)?);
        self.alpha = alpha;
        Ok(())
    }

    fn forward(&self, x: &Tensor, norms: &mut Norms) -> candle_core::Result<Tensor> {
        match &self.style {
            Some(style) => self.network.forward_with(x, style, self.alpha, norms),
            None => candle_core::bail!("there is no style yet"),
        }
    }
}
