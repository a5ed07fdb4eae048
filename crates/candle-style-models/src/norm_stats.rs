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
        self.next(x, norm)?.forward(x)
    }

    /// [`apply`](Self::apply) to an x that nothing else reads, in its own memory: the result of a
    /// convolution. Where a gradient is tracked, the result is a tensor of its own.
    pub(super) fn apply_to_own(&mut self, x: Tensor, norm: Normalization) -> Result<Tensor> {
        let norm = self.next(&x, norm)?;
        // The error of a tracked weight comes before any work, and `forward` has all the others.
        if !x.track_op() && norm.forward_in_place(&x).is_ok() {
            return Ok(x);
        }
        norm.forward(&x)
    }

    /// The next norm of the pass, with the statistics that it uses.
    fn next(&mut self, x: &Tensor, norm: Normalization) -> Result<Normalization> {
        match &mut self.0 {
            Source::Own => Ok(norm),
            Source::Record(stats) => {
                let own = norm.measure(x)?;
                stats.push(own.clone());
                Ok(norm.stats(&own))
            }
            Source::Replay(stats, next) => {
                let Some(recorded) = stats.get(*next) else {
                    bail!(
                        "NormStats: the statistics of {next} norms were recorded, and this network has more"
                    )
                };
                *next += 1;
                Ok(norm.stats(recorded))
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

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};

    /// The address of the first element.
    fn address(x: &Tensor) -> Result<*const f32> {
        let (storage, _) = x.storage_and_layout();
        match &*storage {
            candle_core::Storage::Cpu(storage) => Ok(storage.as_slice::<f32>()?.as_ptr()),
            _ => bail!("not on the CPU"),
        }
    }

    #[test]
    fn a_norm_stays_in_its_memory_unless_it_is_tracked() -> Result<()> {
        let norm = || Normalization::instance(1e-5);
        let x = Tensor::randn(0f32, 1., (1, 2, 4, 4), &Device::Cpu)?;
        let expected = norm().forward(&x)?.flatten_all()?.to_vec1::<f32>()?;
        for mut stats in [NormStats::own(), NormStats::record()] {
            let own = x.copy()?;
            let before = address(&own)?;
            let y = stats.apply_to_own(own, norm())?;
            assert_eq!(before, address(&y)?);
            let off = y.flatten_all()?.to_vec1::<f32>()?;
            let off = off.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0., f32::max) < 1e-6);
        }

        let weight = Var::ones(2, DType::F32, &Device::Cpu)?;
        let tracked = norm().weight(weight.as_tensor());
        let y = NormStats::own().apply_to_own(x.copy()?, tracked)?;
        assert!(y.sum_all()?.backward()?.get(&weight).is_some());
        let x = Var::from_tensor(&x)?;
        let y = NormStats::own().apply_to_own((x.as_tensor() * 1.)?, norm())?;
        assert!(y.sqr()?.sum_all()?.backward()?.get(&x).is_some());
        Ok(())
    }
}
