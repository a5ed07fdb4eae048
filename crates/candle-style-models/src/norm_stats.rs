//! The statistics that the instance norms of a network use: those of their inputs, or recorded ones.

use candle_core::{Result, Tensor, bail};
use candle_instance_norm::{Normalization, PlaneStats};

/// The statistics that the instance norms of a network use in a forward pass.
///
/// - [`own`](Self::own): each norm uses the statistics of its input, as usual.
/// - [`record`](Self::record): the same, and keeps them.
/// - [`replay`](Self::replay): each norm uses the statistics that were recorded for it.
///
/// A network whose norms look at the whole picture cannot work on it in tiles: each tile would get
/// a contrast of its own. With statistics recorded once, from a reduced copy of the picture, it
/// can, and the tiles fit together: a tile that is read with the network's `reach` of pixels around
/// it gives what the whole picture with these statistics would give, up to rounding.
///
/// ```
/// # use std::collections::HashMap;
/// # use candle_core::{DType, Device, Tensor};
/// use candle_style_models::{NormStats, ResnetGenerator};
///
/// # let mut weights = HashMap::new();
/// # for (name, shape) in [
/// #     ("model.1", [4, 3, 7, 7]), ("model.4", [8, 4, 3, 3]), ("model.7", [8, 8, 3, 3]),
/// #     ("model.10.conv_block.1", [8, 8, 3, 3]), ("model.10.conv_block.5", [8, 8, 3, 3]),
/// #     ("model.11", [8, 8, 3, 3]), ("model.14", [8, 8, 3, 3]), ("model.18", [3, 8, 7, 7]),
/// # ] {
/// #     let weight = Tensor::randn(0f32, 0.1, &shape, &Device::Cpu)?;
/// #     weights.insert(format!("{name}.weight"), weight);
/// #     let bias = Tensor::zeros(shape[0], DType::F32, &Device::Cpu)?;
/// #     weights.insert(format!("{name}.bias"), bias);
/// # }
/// # let vb = candle_nn::VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
/// # let generator = ResnetGenerator::new(vb)?;
/// let reduced = Tensor::zeros((1, 3, 16, 16), DType::F32, &Device::Cpu)?;
/// let tile = Tensor::zeros((1, 3, 16, 32), DType::F32, &Device::Cpu)?;
///
/// let mut recorded = NormStats::record();
/// generator.forward_with(&reduced, &mut recorded)?;
/// let y = generator.forward_with(&tile, &mut recorded.replay())?;
/// assert_eq!(y.dims(), [1, 3, 16, 32]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NormStats(Source);

#[derive(Debug, Clone)]
enum Source {
    Own,
    /// The statistics of every norm so far, in the order of the forward pass.
    Record(Vec<PlaneStats>),
    /// The recorded statistics, and the index of the next norm's.
    Replay(Vec<PlaneStats>, usize),
}

impl NormStats {
    /// Each norm uses the statistics of its input.
    pub fn own() -> Self {
        Self(Source::Own)
    }

    /// Each norm uses the statistics of its input, which are kept for [`replay`](Self::replay).
    pub fn record() -> Self {
        Self(Source::Record(Vec::new()))
    }

    /// The recorded statistics, for the norms of one forward pass. They are constants: no gradient
    /// flows into them. Nothing is recorded in [`own`](Self::own): there, the first norm of the
    /// pass is an error.
    pub fn replay(&self) -> Self {
        let stats = match &self.0 {
            Source::Own => Vec::new(),
            Source::Record(stats) | Source::Replay(stats, _) => stats.clone(),
        };
        Self(Source::Replay(stats, 0))
    }

    /// Applies the next norm of the pass to x.
    pub(super) fn apply(&mut self, x: &Tensor, norm: Normalization) -> Result<Tensor> {
        match &mut self.0 {
            Source::Own => norm.forward(x),
            Source::Record(stats) => {
                let own = norm.measure(x)?;
                stats.push(own.clone());
                norm.stats(&own).forward(x)
            }
            Source::Replay(stats, next) => {
                let Some(recorded) = stats.get(*next) else {
                    bail!(
                        "NormStats: the statistics of {next} norms were recorded, and this network has more"
                    )
                };
                *next += 1;
                norm.stats(recorded).forward(x)
            }
        }
    }
}

/// AdaIN's norm: x gets the mean and the deviation of a style, `(N, C)` each or `(1, C)` for all
/// samples. The variance of x is the unbiased one.
pub(super) fn adain(
    x: &Tensor,
    (mean, std): (&Tensor, &Tensor),
    eps: f64,
) -> Result<Normalization> {
    let planes = (x.dim(0)?, x.dim(1)?);
    let (mean, std) = (mean.broadcast_as(planes)?, std.broadcast_as(planes)?);
    let norm = Normalization::instance(eps).correction(1);
    Ok(norm.weight(&std).bias(&mean))
}

/// The mean and the deviation `sqrt(var + eps)` of every plane of a style's features, with the
/// unbiased variance: `(N, C)` each, in f32 (f64 for f64).
pub(super) fn mean_and_std(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    Normalization::instance(eps).correction(1).mean_and_std(x)
}
