//! The style transfer of Huang & Belongie.

use anyhow::Result;
use candle_core::Tensor;
use candle_instance_norm::models::{AdaInStyle, AdaInStyleStats, Norms};

use super::{Arch, Grid, Network};
use crate::pixels::Pixels;

pub const ARCH: Arch = Arch {
    name: "adain",
    // Of a folder with two files.
    signature: &["vgg_normalised.0.weight", "decoder.1.weight"],
    load: |weights, dtype, device| {
        let weights = weights.select(AdaInStyle::original_name);
        let network = weights.build(dtype, device, AdaInStyle::new)?;
        Ok(Box::new(Styled {
            network,
            style: None,
            alpha: 1.,
        }))
    },
};

struct Styled {
    network: AdaInStyle,
    style: Option<AdaInStyleStats>,
    alpha: f64,
}

impl Network for Styled {
    fn pixels(&self) -> Pixels {
        Pixels::Unit
    }

    fn grid(&self) -> Grid {
        Grid {
            multiple: 8,
            min_side: 9,
            reach: self.network.reach() as u32,
        }
    }

    fn takes_style(&self) -> bool {
        true
    }

    fn set_style(&mut self, styles: &[(Tensor, f64)], alpha: f64) -> Result<()> {
        let styles = styles.iter();
        let styles = styles.map(|(x, share)| Ok((self.network.style(x)?, *share)));
        self.style = Some(AdaInStyleStats::mix(&styles.collect::<Result<Vec<_>>>()?)?);
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
