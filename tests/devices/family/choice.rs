//! A random choice of everything that `Normalization` takes: its tensors, the fused op, and the same
//! composed of candle's own ops.

use crate::common::reference::Random;
use anyhow::Result;
use candle_core::{DType, Tensor};
use candle_instance_norm::{Activation, EpsMode, Normalization, PlaneStats};
use rand::{Rng, rngs::StdRng};

pub const EPS: f64 = 1e-2;

/// One combination.
#[derive(Debug, Clone)]
pub struct Choice {
    pub shape: Vec<usize>,
    pub groups: Option<usize>,
    pub params: Params,
    pub one_plus: bool,
    pub stats: bool,
    pub mode: EpsMode,
    pub correction: u32,
    pub alpha: f64,
    pub residual: bool,
    pub activation: Activation,
    pub channels_last: bool,
    /// f32 parameters beside a half x.
    pub wide_params: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Params {
    None,
    Channel,
    Sample,
    Element,
    BiasAlone,
    ElementBiasAlone,
}

impl Choice {
    pub fn random(rng: &mut StdRng) -> Self {
        let shapes: [&[usize]; 10] = [
            &[2, 4, 5],
            &[1, 6, 3, 7],
            &[3, 2, 33],
            &[2, 8, 16, 16],
            &[1, 4, 40, 41],
            &[2, 6, 2, 3, 4],
            &[1, 2, 95, 97],
            &[4, 36, 4, 4],
            &[2, 300, 3, 5],
            &[1, 4, 130, 131],
        ];
        let shape = shapes[rng.random_range(0..shapes.len())].to_vec();
        let kinds = [
            Params::None,
            Params::Channel,
            Params::Sample,
            Params::Element,
            Params::BiasAlone,
            Params::ElementBiasAlone,
        ];
        let params = kinds[rng.random_range(0..kinds.len())];
        let per_element = matches!(params, Params::Element | Params::ElementBiasAlone);
        let stats = rng.random_bool(0.2);
        let groups = [1, 2, shape[1] / 2, shape[1]];
        Self {
            groups: rng.random_bool(0.4).then(|| groups[rng.random_range(0..4)]),
            params,
            one_plus: rng.random_bool(0.3),
            stats,
            mode: [EpsMode::AddToVar, EpsMode::AddToStd, EpsMode::MaxWithVar]
                [rng.random_range(0..3)],
            correction: rng.random_range(0..2),
            alpha: if stats || per_element || rng.random_bool(0.6) {
                1.
            } else {
                0.3
            },
            residual: rng.random_bool(0.4),
            activation: [
                Activation::None,
                Activation::None,
                Activation::Relu,
                Activation::LeakyRelu(0.2),
                Activation::Silu,
            ][rng.random_range(0..5)],
            channels_last: rng.random_bool(0.3),
            wide_params: rng.random_bool(0.5),
            shape,
        }
    }
}

/// The tensors of a choice; the absent are `None`.
#[derive(Clone)]
pub struct Tensors {
    pub x: Tensor,
    pub weight: Option<Tensor>,
    pub bias: Option<Tensor>,
    pub residual: Option<Tensor>,
    pub stats: Option<PlaneStats>,
}

impl Tensors {
    pub fn random(choice: &Choice, dtype: DType, random: &mut Random) -> Result<Self> {
        let (n, c) = (choice.shape[0], choice.shape[1]);
        let of_params = if choice.wide_params && dtype.size_in_bytes() == 2 {
            DType::F32
        } else {
            dtype
        };
        let mut param = |mean| -> Result<Option<Tensor>> {
            let shape = match choice.params {
                Params::None => return Ok(None),
                Params::Channel | Params::BiasAlone => vec![c],
                Params::Sample => vec![n, c],
                Params::Element | Params::ElementBiasAlone => choice.shape.clone(),
            };
            let wide = if shape == choice.shape {
                dtype
            } else {
                of_params
            };
            Ok(Some(random.tensor(shape, wide, mean, 0.7)?))
        };
        let (weight, bias) = (param(0.8)?, param(0.1)?);
        let alone = matches!(choice.params, Params::BiasAlone | Params::ElementBiasAlone);
        let like_x = |random: &mut Random, mean| -> Result<Tensor> {
            if !choice.channels_last {
                return Ok(random.tensor(choice.shape.clone(), dtype, mean, 1.)?);
            }
            let mut shape = choice.shape.clone();
            shape[1..].rotate_left(1);
            first(&random.tensor(shape, dtype, mean, 1.)?)
        };
        let x = like_x(random, 2.)?;
        let residual = choice.residual.then(|| like_x(random, 0.)).transpose()?;
        let stats = if choice.stats {
            Some(PlaneStats {
                mean: random.tensor((n, c), of_params, 1.5, 0.5)?,
                rstd: random.tensor(c, of_params, 1., 0.1)?,
            })
        } else {
            None
        };
        Ok(Self {
            x,
            weight: weight.filter(|_| !alone),
            bias,
            residual,
            stats,
        })
    }

    /// In the order of `list`.
    pub fn map(&self, mut f: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let x = f(&self.x)?;
        let mut of = |t: &Option<Tensor>| t.as_ref().map(&mut f).transpose();
        let (weight, bias, residual) = (of(&self.weight)?, of(&self.bias)?, of(&self.residual)?);
        let stats = match &self.stats {
            Some(PlaneStats { mean, rstd }) => Some(PlaneStats {
                mean: f(mean)?,
                rstd: f(rstd)?,
            }),
            None => None,
        };
        Ok(Self {
            x,
            weight,
            bias,
            residual,
            stats,
        })
    }

    pub fn list(&self) -> Vec<(&'static str, &Tensor)> {
        let mut list = vec![("x", &self.x)];
        list.extend(self.weight.iter().map(|t| ("weight", t)));
        list.extend(self.bias.iter().map(|t| ("bias", t)));
        list.extend(self.residual.iter().map(|t| ("residual", t)));
        if let Some(PlaneStats { mean, rstd }) = &self.stats {
            list.extend([("mean", mean), ("rstd", rstd)]);
        }
        list
    }
}

pub fn fused(choice: &Choice, t: &Tensors) -> Normalization {
    let mut norm = match choice.groups {
        Some(groups) => Normalization::group(groups, EPS),
        None => Normalization::instance(EPS),
    };
    norm = norm
        .eps_mode(choice.mode)
        .correction(choice.correction)
        .blend(choice.alpha)
        .activation(choice.activation);
    if choice.one_plus {
        norm = norm.one_plus_weight();
    }
    if let Some(weight) = &t.weight {
        norm = norm.weight(weight);
    }
    if let Some(bias) = &t.bias {
        norm = norm.bias(bias);
    }
    if let Some(residual) = &t.residual {
        norm = norm.residual(residual);
    }
    match &t.stats {
        Some(stats) => norm.stats(stats),
        None => norm,
    }
}

pub fn composed(choice: &Choice, t: &Tensors) -> Result<Tensor> {
    let (n, c) = (choice.shape[0], choice.shape[1]);
    let x = t.x.contiguous()?.reshape((n, c, ()))?;
    let param = |p: &Tensor| match p.rank() {
        1 => p.reshape((1, c, 1)),
        2 => p.reshape((n, c, 1)),
        _ => p.contiguous()?.reshape((n, c, ())),
    };
    let z = match &t.stats {
        Some(PlaneStats { mean, rstd }) => x
            .broadcast_sub(&param(mean)?)?
            .broadcast_mul(&param(rstd)?)?,
        None => {
            let sets = x.reshape((n, choice.groups.unwrap_or(c), ()))?;
            let len = sets.dim(2)? as f64;
            let centred = sets.broadcast_sub(&sets.mean_keepdim(2)?)?;
            let var = (centred.sqr()?.sum_keepdim(2)? / (len - choice.correction as f64))?;
            let std = match choice.mode {
                EpsMode::AddToVar => (var + EPS)?.sqrt()?,
                EpsMode::AddToStd => (var.sqrt()? + EPS)?,
                EpsMode::MaxWithVar => var.maximum(EPS)?.sqrt()?,
                other => panic!("{other:?}"),
            };
            centred.broadcast_div(&std)?.reshape(x.shape())?
        }
    };
    let mut v = z;
    if let Some(weight) = &t.weight {
        let offset = if choice.one_plus { 1. } else { 0. };
        v = v.broadcast_mul(&(param(weight)? + offset)?)?;
    }
    if let Some(bias) = &t.bias {
        v = v.broadcast_add(&param(bias)?)?;
    }
    v = ((v * choice.alpha)? + (x * (1. - choice.alpha))?)?;
    if let Some(residual) = &t.residual {
        v = (v + residual.contiguous()?.reshape((n, c, ()))?)?;
    }
    let y = match choice.activation {
        Activation::None => v,
        Activation::Relu => v.relu()?,
        Activation::LeakyRelu(slope) => candle_nn::ops::leaky_relu(&v, slope)?,
        Activation::Silu => v.silu()?,
        other => panic!("{other:?}"),
    };
    Ok(y.reshape(choice.shape.as_slice())?)
}

/// `(N, C, *)` seen as `(N, *, C)`.
pub fn last(t: &Tensor) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..t.rank()).collect();
    order[1..].rotate_left(1);
    Ok(t.permute(order)?)
}

/// `(N, *, C)` seen as `(N, C, *)`.
pub fn first(t: &Tensor) -> Result<Tensor> {
    let mut order: Vec<usize> = (0..t.rank()).collect();
    order[1..].rotate_right(1);
    Ok(t.permute(order)?)
}
