//! Running statistics, as PyTorch's norms keep them.
//!
//! They are f32 beside parameters of a half type, as under PyTorch's autocast: in bf16 a step of
//! 1 % is lost as soon as the rest of the way is less than half an ulp.

use crate::PlaneStats;
use crate::ops::{BatchMoments, plane_stats};
use crate::shapes::{Planes, acc_dtype};
use crate::spec::{RstdRule, ScaleStat};
use candle_core::{DType, Result, Tensor, Var, bail};
use candle_nn::{Init, VarBuilder};

/// The running mean and unbiased variance of each channel.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub mean: Var,
    pub var: Var,
    momentum: f64,
}

impl Running {
    /// Kept from here on in f32 (f64 for f64); a variable of that type is moved itself.
    pub fn new(mean: &Tensor, var: &Tensor, momentum: f64) -> Result<Self> {
        let own = |t: &Tensor| Var::from_tensor(&t.to_dtype(acc_dtype(t.dtype()))?);
        Ok(Self {
            mean: own(mean)?,
            var: own(var)?,
            momentum: valid_momentum(momentum)?,
        })
    }

    /// The variables `running_mean` and `running_var` of `vb`, in f32 whatever half type the
    /// others have.
    pub fn of_vb(num_channels: usize, momentum: f64, vb: &VarBuilder) -> Result<Self> {
        let get = |name, init| {
            let (init, dtype) = (Init::Const(init), acc_dtype(vb.dtype()));
            vb.get_with_hints_dtype(num_channels, name, init, dtype)
        };
        Self::new(
            &get("running_mean", 0.)?,
            &get("running_var", 1.)?,
            momentum,
        )
    }

    /// Moves towards these, which are in the dtype that the norm computes in.
    fn track(&self, mean: &Tensor, unbiased_var: &Tensor) -> Result<()> {
        let towards = |old: &Var, new: &Tensor| {
            let old_wide = old.as_tensor().detach().to_dtype(new.dtype())?;
            let moved = ((old_wide * (1. - self.momentum))? + (new.detach() * self.momentum)?)?;
            old.set(&moved.to_dtype(old.dtype())?)
        };
        towards(&self.mean, mean)?;
        towards(&self.var, unbiased_var)
    }

    /// Moves towards the averages over N of the statistics of the planes of x: an instance norm in
    /// training.
    pub fn follow_planes(&self, x: &Tensor) -> Result<()> {
        let planes = Planes::new(x.dims())?;
        if planes.n == 0 || planes.spatial == 0 {
            return Ok(());
        }
        // One element has no unbiased variance; if that is allowed, its 0 is taken as it is.
        let rule = RstdRule {
            correction: (planes.spatial > 1).into(),
            ..0f64.into()
        };
        let (means, vars) = plane_stats(&x.detach(), rule, ScaleStat::Var)?;
        self.track(&means.mean(0)?, &vars.mean(0)?)
    }

    /// The moments of the batch, merged from those of its planes, towards which these move: a batch
    /// norm in training.
    pub fn follow(&self, planes: &BatchMoments, of: &Planes) -> Result<BatchMoments> {
        let batch = planes.merged()?;
        let elements = of.n * of.spatial;
        if elements > 1 {
            let unbiased = elements as f64 / (elements - 1) as f64;
            self.track(&batch.mean, &(&batch.var * unbiased)?)?;
        }
        Ok(batch)
    }

    /// The statistics of a batch norm in evaluation, in this dtype.
    pub fn stats(&self, rule: &RstdRule, dtype: DType) -> Result<PlaneStats> {
        let in_dtype = |t: &Var| t.as_tensor().detach().to_dtype(dtype);
        PlaneStats::with_rule(&in_dtype(&self.mean)?, &in_dtype(&self.var)?, rule)
    }
}

pub(super) fn valid_momentum(momentum: f64) -> Result<f64> {
    if !(0. ..=1.).contains(&momentum) {
        bail!("norm: expected a momentum from 0 to 1, got {momentum}");
    }
    Ok(momentum)
}
