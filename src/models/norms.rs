//! Instance norms whose statistics may come from another picture.

use candle_core::{bail, DType, Result, Tensor};

use crate::instance_norm;
use crate::ops::plane_stats;
use crate::shapes::is_half;

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
/// use candle_instance_norm::models::{Norms, ResnetGenerator};
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
    stats: Vec<(Tensor, Tensor)>,
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

    /// [`instance_norm`], with the statistics of this pass.
    pub(super) fn instance_norm(
        &mut self,
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
    ) -> Result<Tensor> {
        self.apply(x, weight, bias, eps, false)
    }

    /// Adaptive instance norm (Huang & Belongie, 2017): x gets the mean and deviation of a style,
    /// each `(N, C)`, or `(1, C)` for all. The variance of x is the unbiased one, as in their code and its descendants.
    pub(super) fn adain(
        &mut self,
        x: &Tensor,
        (mean, std): (&Tensor, &Tensor),
        eps: f64,
    ) -> Result<Tensor> {
        let planes = (x.dim(0)?, x.dim(1)?);
        let (mean, std) = (mean.broadcast_as(planes)?, std.broadcast_as(planes)?);
        self.apply(x, Some(&std), Some(&mean), eps, true)
    }

    fn apply(
        &mut self,
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        eps: f64,
        unbiased: bool,
    ) -> Result<Tensor> {
        if let Mode::Frozen(done) = &mut self.mode {
            let Some((mean, rstd)) = self.stats.get(*done) else {
                bail!("norms: the network that was measured had only {done} of them")
            };
            *done += 1;
            return instance_norm_with_stats(x, mean, rstd, weight, bias);
        }
        // (x - mean) / sqrt(n / (n - 1) var + eps): instance norm with a smaller eps, and scaled.
        let n = x.dims()[2..].iter().product::<usize>() as f64;
        let share = if unbiased { (n - 1.) / n } else { 1. };
        if self.mode == Mode::Measuring {
            let (mean, var) = plane_stats(x)?;
            let rstd = ((var / share)? + eps)?.sqrt()?.recip()?;
            self.stats.push((mean, rstd));
        }
        match (weight, unbiased) {
            (Some(weight), true) => {
                let weight = (weight * share.sqrt())?;
                instance_norm(x, Some(&weight), bias, eps * share)
            }
            _ => instance_norm(x, weight, bias, eps),
        }
    }
}

/// `(x - mean) * rstd * weight + bias`, with a mean and reciprocal deviation of `(N, C)`.
fn instance_norm_with_stats(
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let wide = if is_half(x.dtype()) {
        DType::F32
    } else {
        x.dtype()
    };
    let per_plane = |t: &Tensor| {
        let (n, c) = match *t.dims() {
            [c] => (1, c),
            _ => t.dims2()?,
        };
        let mut dims = vec![1; x.rank()];
        (dims[0], dims[1]) = (n, c);
        t.to_dtype(wide)?.reshape(dims)
    };
    let mut scale = per_plane(rstd)?;
    if let Some(weight) = weight {
        scale = scale.broadcast_mul(&per_plane(weight)?)?;
    }
    let centred = x.to_dtype(wide)?.broadcast_sub(&per_plane(mean)?)?;
    let mut y = centred.broadcast_mul(&scale)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(&per_plane(bias)?)?;
    }
    y.to_dtype(x.dtype())
}

/// The mean and the deviation `sqrt(var + eps)`, with the unbiased variance, of every plane, as
/// styles have them: `(N, C)`, in f32 (f64 for f64).
pub(super) fn mean_and_std(x: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    let x = if is_half(x.dtype()) {
        x.to_dtype(DType::F32)?
    } else {
        x.clone()
    };
    let x = x.flatten_from(2)?;
    let n = x.dim(2)? as f64;
    let mean = x.mean_keepdim(2)?;
    let centred = x.broadcast_sub(&mean)?;
    // One element has no unbiased variance; its 0 is taken as it is.
    let var = (centred.sqr()?.sum(2)? / (n - 1.).max(1.))?;
    Ok((mean.squeeze(2)?, (var + eps)?.sqrt()?))
}
