//! Networks that take their style from pictures.

use anyhow::Result;
use candle_core::{Tensor, bail};
use candle_style_models::NormStats;

use super::{Grid, Needs, Network};
use crate::pixels::Pixels;

/// A network that takes its style from pictures, and the type of such a style.
pub trait ByExample {
    type Style;

    fn pixels(&self) -> Pixels;

    fn grid(&self) -> Grid;

    fn style(&self, x: &Tensor) -> candle_core::Result<Self::Style>;

    /// The weighted sum of styles.
    fn mix(styles: &[(Self::Style, f64)]) -> candle_core::Result<Self::Style>;

    fn forward(
        &self,
        x: &Tensor,
        style: &Self::Style,
        alpha: f64,
        stats: &mut NormStats,
    ) -> candle_core::Result<Tensor>;
}

/// A network with the last style that it was given.
pub struct Styled<N: ByExample> {
    network: N,
    style: Option<N::Style>,
    alpha: f64,
}

impl<N: ByExample> Styled<N> {
    pub fn new(network: N) -> Self {
        Self {
            network,
            style: None,
            alpha: 1.,
        }
    }
}

impl<N: ByExample> Network for Styled<N> {
    fn pixels(&self) -> Pixels {
        self.network.pixels()
    }

    fn grid(&self) -> Grid {
        self.network.grid()
    }

    fn needs(&self) -> Needs {
        Needs::Styles
    }

    fn set_style(&mut self, style: &super::Style) -> Result<()> {
        let taken = style.examples.iter();
        let taken = taken.map(|example| Ok((self.network.style(&example.x)?, example.weight)));
        self.style = Some(N::mix(&taken.collect::<Result<Vec<_>>>()?)?);
        self.alpha = style.alpha;
        Ok(())
    }

    fn forward(&self, x: &Tensor, stats: &mut NormStats) -> candle_core::Result<Tensor> {
        match &self.style {
            Some(style) => self.network.forward(x, style, self.alpha, stats),
            None => bail!("no style has been set"),
        }
    }
}
