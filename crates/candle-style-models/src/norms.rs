//! Instance norms whose statistics may come from another picture.

use candle_core::{bail, Result, Tensor};
use candle_instance_norm::{Normalization, PlaneStats};

/// Where the instance norms of a network take their statistics from.
///
/// A network whose norms look at the whole picture cannot work on it in tiles: each would come out
/// in a contrast of its own. With the statistics of a small copy of the picture, measured once, it
/// can, and the tiles fit: every tile that reaches far enough over its edges has inside them what
/// the whole picture would have, to the rounding.
///
/// ```
/// # use std::collections::HashMap;
/// # use candle_core::{DType, Device, Tensor};
/// use candle_style_models::{Norms, ResnetGenerator};
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
/// let mut measured = Norms::measuring();
/// generator.forward_with(&reduced, &mut measured)?;
/// let y = generator.forward_with(&tile, &mut measured.frozen())?;
/// assert_eq!(y.dims(), [1, 3, 16, 32]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Norms {
    mode: Mode,
    /// The mean and the reciprocal deviation, `(N, C)`, of every norm in its turn.
    stats: Vec<PlaneStats>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Mode {
    #[default]
    Own,
    Measuring,
    /// The number of norms that are done.
    Frozen(usize),
}

impl Norms {
    /// Each norm takes the statistics of its input: the usual.
    pub fn own() -> Self {
        Self::default()
    }

    /// As [`own`](Self::own), and the statistics are kept, for [`frozen`](Self::frozen).
    pub fn measuring() -> Self {
        Self {
            mode: Mode::Measuring,
            ..Self::default()
        }
    }

    /// The norms of one forward pass with the statistics that this one measured. They are
    /// constants: no gradient goes into them.
    pub fn frozen(&self) -> Self {
        Self {
            mode: Mode::Frozen(0),
            stats: self.stats.clone(),
        }
    }

    /// `norm` over x, with the statistics of this pass.
    pub(super) fn apply(&mut self, x: &Tensor, norm: Normalization) -> Result<Tensor> {
        match &mut self.mode {
            Mode::Own => norm.forward(x),
            Mode::Measuring => {
                let stats = norm.measure(x)?;
                self.stats.push(stats.clone());
                norm.stats(&stats).forward(x)
            }
            Mode::Frozen(done) => {
                let Some(stats) = self.stats.get(*done) else {
                    bail!("norms: the network that was measured had only {done} of them")
                };
                *done += 1;
                norm.stats(stats).forward(x)
            }
        }
    }
}

/// The norm of AdaIN's descendants, with the unbiased variance, over features that are to get the
/// mean and the deviation of a style: `(N, C)` each, or `(1, C)` for all.
pub(super) fn like_style(
    x: &Tensor,
    (mean, std): (&Tensor, &Tensor),
    eps: f64,
) -> Result<Normalization> {
    let planes = (x.dim(0)?, x.dim(1)?);
    let (mean, std) = (mean.broadcast_as(planes)?, std.broadcast_as(planes)?);
    let norm = Normalization::instance(eps).correction(1);
    Ok(norm.weight(&std).bias(&mean))
}

/// The mean and the deviation `sqrt(var + eps)`, with the unbiased variance, of every plane, as
/// styles have them: `(N, C)`, in f32 (f64 for f64).
pub(super) fn mean_and_std(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    Normalization::instance(eps).correction(1).mean_and_std(x)
}
