//! The norm in candle's own ops: slow, and right for every variant. Second derivatives are taken of it.

use crate::shapes::{Format, Planes, acc_dtype};
use crate::spec::{Activation, EpsMode, Extras, NormSpec, RstdRule, ScaleStat};
use candle_core::{Result, Tensor};

/// The result of the fused forward pass, computed in f32 for the half types.
pub fn normalize(x: &Tensor, extras: &Extras<&Tensor>, spec: &NormSpec) -> Result<Tensor> {
    let of_x = x;
    let planes = &spec.planes;
    let wide = acc_dtype(of_x.dtype());
    let x = to_planes(&x.to_dtype(wide)?, spec)?;
    let per_plane = |t: &Tensor| -> Result<Tensor> {
        let t = t.to_dtype(wide)?;
        if spec.is_per_element(t.layout()) {
            to_planes(&t, spec)
        } else {
            t.reshape((t.elem_count() / planes.c, planes.c, 1))
        }
    };
    let z = match extras.stats {
        Some([mean, rstd]) => x
            .broadcast_sub(&per_plane(mean)?)?
            .broadcast_mul(&per_plane(rstd)?)?,
        None => {
            let groups = planes.c / spec.channels_per_group;
            let per_group = spec.channels_per_group * planes.spatial;
            let (_, centred, var) = moments(&x.reshape((planes.n, groups, per_group))?)?;
            let n = per_group as f64;
            let z = centred.broadcast_mul(&rstd(&spec.rule, &var, n)?)?;
            z.reshape(x.shape())?
        }
    };
    let mut v = z;
    if let Some(weight) = extras.weight {
        v = v.broadcast_mul(&(per_plane(weight)? + spec.weight_offset)?)?;
    }
    if let Some(bias) = extras.bias {
        v = v.broadcast_add(&per_plane(bias)?)?;
    }
    if spec.alpha != 1. {
        v = ((v * spec.alpha)? + (x * (1. - spec.alpha))?)?;
    }
    if let Some(residual) = extras.residual {
        v = (v + to_planes(&residual.to_dtype(wide)?, spec)?)?;
    }
    let y = activate(spec.activation, &v)?;
    from_planes(&y, spec, of_x.dims())?.to_dtype(of_x.dtype())
}

/// The plane statistics, of shape `(2, N, C)`.
pub fn stats(spec: &NormSpec, stat: ScaleStat, x: &Tensor) -> Result<Tensor> {
    let x = to_planes(&x.to_dtype(acc_dtype(x.dtype()))?, spec)?;
    let (mean, _, var) = moments(&x)?;
    let n = spec.planes.spatial as f64;
    let stat = match stat {
        ScaleStat::Var => corrected(&spec.rule, &var, n)?,
        ScaleStat::Std => rstd(&spec.rule, &var, n)?.recip()?,
        ScaleStat::Rstd => rstd(&spec.rule, &var, n)?,
    };
    Tensor::stack(&[mean.squeeze(2)?, stat.squeeze(2)?], 0)
}

/// The mean, what is left of x, and the biased variance, over the last dimension.
fn moments(x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let mean = x.mean_keepdim(2)?;
    let centred = x.broadcast_sub(&mean)?;
    let var = centred.sqr()?.mean_keepdim(2)?;
    Ok((mean, centred, var))
}

fn corrected(rule: &RstdRule, var: &Tensor, n: f64) -> Result<Tensor> {
    match rule.correction {
        0 => Ok(var.clone()),
        correction => var * (n / (n - correction as f64)),
    }
}

pub fn rstd(rule: &RstdRule, var: &Tensor, n: f64) -> Result<Tensor> {
    let var = corrected(rule, var, n)?;
    match rule.mode {
        EpsMode::AddToVar => (var + rule.eps)?.sqrt()?.recip(),
        EpsMode::AddToStd => (var.sqrt()? + rule.eps)?.recip(),
        EpsMode::MaxWithVar => var.maximum(rule.eps)?.sqrt()?.recip(),
    }
}

/// An activation in candle's own ops.
pub fn activate(activation: Activation, v: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::None => Ok(v.clone()),
        Activation::Relu => v.relu(),
        Activation::LeakyRelu(slope) => {
            let negative = (v - v.relu()?)?;
            v.relu()? + (negative * slope)?
        }
        Activation::Silu => v.silu(),
    }
}

/// `t` as `(N, C, S)`.
fn to_planes(t: &Tensor, spec: &NormSpec) -> Result<Tensor> {
    let Planes { n, c, spatial } = spec.planes;
    match spec.format {
        Format::Planar => t.contiguous()?.reshape((n, c, spatial)),
        Format::ChannelsLast => t
            .contiguous()?
            .reshape((n, spatial, c))?
            .transpose(1, 2)?
            .contiguous(),
    }
}

/// Back to these dimensions.
fn from_planes(t: &Tensor, spec: &NormSpec, dims: &[usize]) -> Result<Tensor> {
    match spec.format {
        Format::Planar => t.reshape(dims),
        Format::ChannelsLast => t.transpose(1, 2)?.contiguous()?.reshape(dims),
    }
}
