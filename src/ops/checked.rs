//! What a [`Normalization`] is to compute of an x, with everything checked.

use super::call::Call;
use super::normalization::Normalization;
use crate::args::{Beside, Inputs, Norm, Target};
use crate::shapes::{
    channels_first, channels_last, float_dtype, format_of, same_device, to_format, valid_eps,
    Format, Granularity, Param, Planes,
};
use candle_core::{bail, Result, Tensor};

impl Normalization {
    /// What is to be computed of `x`.
    pub(super) fn norm(&self, x: &Tensor) -> Result<Norm> {
        if self.groups.is_some() && x.rank() < 3 {
            bail!(
                "norm: expected x of rank 2 or more, (N, C, *), got shape {:?}",
                x.dims()
            );
        }
        let planes = Planes::new(x.dims())?;
        float_dtype(x)?;
        valid_eps(self.rule.eps)?;
        self.activation.check()?;
        if self.rule.correction > 1 {
            bail!(
                "norm: expected a correction of 0 or 1, got {}",
                self.rule.correction
            );
        }
        let channels_per_group = match self.groups {
            None => 1,
            Some(groups) if groups > 0 && planes.c.is_multiple_of(groups) => planes.c / groups,
            Some(groups) => bail!(
                "norm: expected a number of groups that divides the {} channels, got {groups}",
                planes.c
            ),
        };
        if !self.alpha.is_finite() {
            bail!("norm: expected a finite alpha, got {}", self.alpha);
        }
        let stored = self.beside.weight.is_some();
        Ok(Norm {
            planes,
            format: format_of(x)?,
            channels_per_group,
            rule: self.rule,
            weight_offset: if stored { self.weight_offset } else { 0. },
            alpha: self.alpha,
            activation: self.activation,
            target: Target::Output,
        })
    }

    /// Checks everything against `x`.
    pub(super) fn call(&self, x: &Tensor) -> Result<Call> {
        let norm = self.norm(x)?;
        let Norm { planes, format, .. } = norm;
        let Beside {
            weight,
            bias,
            residual,
            given,
        } = &self.beside;
        let check = |name, param: &Option<Tensor>| {
            let param = param.as_ref().map(|p| Param::new(name, p, x, &planes));
            param.transpose()
        };
        let params = Beside {
            weight: check("weight", weight)?,
            bias: check("bias", bias)?,
            residual: residual.as_ref().map(|r| same_as_x(r, x)).transpose()?,
            given: match given {
                Some([mean, rstd]) => Some([
                    Param::per_plane("mean", mean, x, &planes)?,
                    Param::per_plane("rstd", rstd, x, &planes)?,
                ]),
                None => None,
            },
        };
        let per_element = |p: &Option<Param>| p.map(|p| p.is_per_element());
        let [of_weight, of_bias] = [&params.weight, &params.bias].map(per_element);
        if of_weight.is_some() && of_bias.is_some() && of_weight != of_bias {
            bail!("norm: expected weight and bias both per element or neither, got shapes {:?} and {:?}",
                weight.as_ref().map(|w| w.dims()), bias.as_ref().map(|b| b.dims()));
        }
        if self.alpha != 1. && (of_weight == Some(true) || of_bias == Some(true) || given.is_some())
        {
            bail!("norm: expected no blending beside parameters per element or given statistics, got alpha {}", self.alpha);
        }
        let lay = |t: &Tensor| match t.rank() == x.rank() {
            true => in_format(t, format),
            false => t.contiguous(),
        };
        let all = Inputs {
            x: x.clone(),
            beside: self.beside.clone(),
        };
        let laid: Vec<Tensor> = all.list().into_iter().map(lay).collect::<Result<_>>()?;
        Ok(Call {
            norm,
            inputs: all.rename(&laid.iter().collect::<Vec<_>>()).cloned(),
            params,
        })
    }
}

/// Of the shape, dtype and device of `x`; there is nothing to know of it beyond that.
fn same_as_x(residual: &Tensor, x: &Tensor) -> Result<Param> {
    if residual.shape() != x.shape() || residual.dtype() != x.dtype() {
        bail!(
            "norm: expected a residual of shape {:?} and dtype {:?}, got {:?} and {:?}",
            x.dims(),
            x.dtype(),
            residual.dims(),
            residual.dtype()
        );
    }
    same_device("the residual", residual, x)?;
    Ok(Param {
        granularity: Granularity::Element,
        dtype: x.dtype(),
    })
}

/// `(N, C, *)` as the backends read it.
pub fn in_format(t: &Tensor, format: Format) -> Result<Tensor> {
    match format {
        Format::Planar => to_format(t, format),
        Format::ChannelsLast => to_format(&channels_last(t)?, format),
    }
}

/// Back to `(N, C, *)`.
pub fn from_format(t: &Tensor, format: Format) -> Result<Tensor> {
    match format {
        Format::Planar => Ok(t.clone()),
        Format::ChannelsLast => channels_first(t),
    }
}
