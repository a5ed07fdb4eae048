//! The norm in candle's own ops: slow, and right for every variant. Second derivatives are taken of it.

use crate::args::{Activation, EpsMode, Inputs, Norm, Rule, Second};
use crate::shapes::{acc_dtype, Format, Planes};
use candle_core::{Result, Tensor};

/// What the fused pass computes, in f32 for the half types.
pub fn norm(norm: &Norm, inputs: &Inputs<&Tensor>) -> Result<Tensor> {
    let planes = &norm.planes;
    let wide = acc_dtype(inputs.x.dtype());
    let x = to_planes(&inputs.x.to_dtype(wide)?, norm)?;
    let per_plane = |t: &Tensor| -> Result<Tensor> {
        let t = t.to_dtype(wide)?;
        if norm.is_per_element(t.layout()) {
            to_planes(&t, norm)
        } else {
            t.reshape((t.elem_count() / planes.c, planes.c, 1))
        }
    };
    let z = match inputs.beside.given {
        Some([mean, rstd]) => x
            .broadcast_sub(&per_plane(mean)?)?
            .broadcast_mul(&per_plane(rstd)?)?,
        None => {
            let groups = planes.c / norm.channels_per_group;
            let sets = x.reshape((planes.n, groups, norm.channels_per_group * planes.spatial))?;
            let (_, centred, var) = moments(&sets)?;
            let n = sets.dim(2)? as f64;
            let z = centred.broadcast_mul(&rstd(&norm.rule, &var, n)?)?;
            z.reshape(x.shape())?
        }
    };
    let mut v = z;
    if let Some(weight) = inputs.beside.weight {
        v = v.broadcast_mul(&(per_plane(weight)? + norm.weight_offset)?)?;
    }
    if let Some(bias) = inputs.beside.bias {
        v = v.broadcast_add(&per_plane(bias)?)?;
    }
    if norm.alpha != 1. {
        v = ((v * norm.alpha)? + (x * (1. - norm.alpha))?)?;
    }
    if let Some(residual) = inputs.beside.residual {
        v = (v + to_planes(&residual.to_dtype(wide)?, norm)?)?;
    }
    let y = activate(norm.activation, &v)?;
    from_planes(&y, norm, inputs.x.dims())?.to_dtype(inputs.x.dtype())
}

/// The plane statistics, of shape `(2, N, C)`.
pub fn stats(norm: &Norm, second: Second, x: &Tensor) -> Result<Tensor> {
    let x = to_planes(&x.to_dtype(acc_dtype(x.dtype()))?, norm)?;
    let (mean, _, var) = moments(&x)?;
    let n = norm.planes.spatial as f64;
    let second = match second {
        Second::Var => corrected(&norm.rule, &var, n)?,
        Second::Std => rstd(&norm.rule, &var, n)?.recip()?,
        Second::Rstd => rstd(&norm.rule, &var, n)?,
    };
    Tensor::stack(&[mean.squeeze(2)?, second.squeeze(2)?], 0)
}

/// The mean, what is left of x, and the biased variance, over the last dimension.
fn moments(x: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let mean = x.mean_keepdim(2)?;
    let centred = x.broadcast_sub(&mean)?;
    let var = centred.sqr()?.mean_keepdim(2)?;
    Ok((mean, centred, var))
}

fn corrected(rule: &Rule, var: &Tensor, n: f64) -> Result<Tensor> {
    match rule.correction {
        0 => Ok(var.clone()),
        correction => var * (n / (n - correction as f64)),
    }
}

pub fn rstd(rule: &Rule, var: &Tensor, n: f64) -> Result<Tensor> {
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

/// As `(N, C, S)`.
fn to_planes(t: &Tensor, norm: &Norm) -> Result<Tensor> {
    let Planes { n, c, spatial } = norm.planes;
    match norm.format {
        Format::Planar => t.contiguous()?.reshape((n, c, spatial)),
        Format::ChannelsLast => t
            .contiguous()?
            .reshape((n, spatial, c))?
            .transpose(1, 2)?
            .contiguous(),
    }
}

/// Back to these dimensions.
fn from_planes(t: &Tensor, norm: &Norm, dims: &[usize]) -> Result<Tensor> {
    match norm.format {
        Format::Planar => t.reshape(dims),
        Format::ChannelsLast => t.transpose(1, 2)?.contiguous()?.reshape(dims),
    }
}
