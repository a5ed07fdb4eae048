//! The arguments of kernels: the structs of `kernels/shared/abi.h`, field for field.

use super::launch::Slot;
use crate::plan;
use crate::spec::{self, EpsMode, NormSpec, Output, ScaleStat};
use crate::tuning::{
    CALL_BYTES_F32, CALL_BYTES_F64, CALL_X_AT_F32, CALL_X_AT_F64, CHUNKS_BYTES, PARAM_SUM_BYTES,
};
use std::mem::offset_of;

/// The type of the numbers of a [`SpecArg`], that of the sums: f64 for f64, else f32.
pub trait Real: Copy {
    /// The bytes that C++ leaves unused behind a [`SpecArg`].
    type Filler: Copy + Default;

    fn from_f64(v: f64) -> Self;
}

impl Real for f32 {
    type Filler = i32;

    fn from_f64(v: f64) -> Self {
        v as f32
    }
}

impl Real for f64 {
    type Filler = [i32; 0];

    fn from_f64(v: f64) -> Self {
        v
    }
}

/// `origin` is the index of the first element in its storage; where kernels take addresses, a launch
/// makes it one.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TensorArg {
    pub origin: u64,
    pub stride_n: i64,
    pub stride_c: i64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ParamArg {
    pub origin: u64,
    pub period: i32,
    pub is_f32: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ShapeArg {
    pub spatial: i64,
    planes: i32,
    c: i32,
    channels_per_group: i32,
    pub present: u32,
}

#[repr(i32)]
#[derive(Clone, Copy, PartialEq)]
pub enum ActivationArg {
    None,
    Relu,
    LeakyRelu,
    Silu,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct SpecArg<R> {
    eps: R,
    n: R,
    bessel: R,
    alpha: R,
    one_minus_alpha: R,
    weight_offset: R,
    slope: R,
    mode: EpsMode,
    stats_gradient: i32,
    pub stat: ScaleStat,
    pub activation: ActivationArg,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SharesArg {
    pub weight: u64,
    pub bias: u64,
    pub mean: u64,
    pub rstd: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct CallArg<R: Real> {
    pub shape: ShapeArg,
    pub spec: SpecArg<R>,
    filler: R::Filler,
    pub x: TensorArg,
    pub dy: TensorArg,
    pub weights: TensorArg,
    pub biases: TensorArg,
    pub residual: TensorArg,
    pub weight: ParamArg,
    pub bias: ParamArg,
    pub mean: ParamArg,
    pub rstd: ParamArg,
    pub out: TensorArg,
    pub dv: TensorArg,
    pub dweights: TensorArg,
    pub shares: SharesArg,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ChunksArg {
    count: i32,
    length: i32,
    team: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct ParamSum {
    pub shares: u64,
    pub out: u64,
    pub n: i32,
    pub c: i32,
    pub columns: i32,
    pub is_f32: i32,
}

const _: () = assert!(size_of::<CallArg<f64>>() == CALL_BYTES_F64);
const _: () = assert!(size_of::<CallArg<f32>>() == CALL_BYTES_F32);
const _: () = assert!(offset_of!(CallArg<f64>, x) == CALL_X_AT_F64);
const _: () = assert!(offset_of!(CallArg<f32>, x) == CALL_X_AT_F32);
const _: () = assert!(size_of::<ChunksArg>() == CHUNKS_BYTES);
const _: () = assert!(size_of::<ParamSum>() == PARAM_SUM_BYTES);
const _: () = assert!(EpsMode::AddToVar as i32 == 0 && EpsMode::AddToStd as i32 == 1);
const _: () = assert!(EpsMode::MaxWithVar as i32 == 2);
const _: () = assert!(ScaleStat::Var as i32 == 0 && ScaleStat::Std as i32 == 1);
const _: () = assert!(ScaleStat::Rstd as i32 == 2);

impl<R: Real> SpecArg<R> {
    fn new(spec: &NormSpec) -> Self {
        let n = (spec.channels_per_group * spec.planes.spatial) as f64;
        let bessel = match spec.rule.correction {
            0 => 1.,
            correction => n / (n - correction as f64),
        };
        let (activation, slope) = match spec.activation {
            spec::Activation::None => (ActivationArg::None, 0.),
            spec::Activation::Relu => (ActivationArg::Relu, 0.),
            spec::Activation::LeakyRelu(slope) => (ActivationArg::LeakyRelu, slope),
            spec::Activation::Silu => (ActivationArg::Silu, 0.),
        };
        let (stats_gradient, stat) = match spec.output {
            Output::Normalized => (0, ScaleStat::Var),
            Output::StatsGradient(stat) => (1, stat),
        };
        Self {
            eps: R::from_f64(spec.rule.eps),
            n: R::from_f64(n),
            bessel: R::from_f64(bessel),
            alpha: R::from_f64(spec.alpha),
            one_minus_alpha: R::from_f64(1. - spec.alpha),
            weight_offset: R::from_f64(spec.weight_offset),
            slope: R::from_f64(slope),
            mode: spec.rule.mode,
            stats_gradient,
            stat,
            activation,
        }
    }
}

impl<R: Real + Into<f64>> SpecArg<R> {
    fn with<S: Real>(&self) -> SpecArg<S> {
        let number = |v: R| S::from_f64(v.into());
        SpecArg {
            eps: number(self.eps),
            n: number(self.n),
            bessel: number(self.bessel),
            alpha: number(self.alpha),
            one_minus_alpha: number(self.one_minus_alpha),
            weight_offset: number(self.weight_offset),
            slope: number(self.slope),
            mode: self.mode,
            stats_gradient: self.stats_gradient,
            stat: self.stat,
            activation: self.activation,
        }
    }
}

impl<R: Real> CallArg<R> {
    /// Without any tensor yet.
    pub fn new(spec: &NormSpec) -> Self {
        let (tensor, param) = (TensorArg::default(), ParamArg::default());
        Self {
            shape: ShapeArg {
                spatial: spec.planes.spatial as i64,
                // The plan has made sure that the number of planes fits.
                planes: spec.planes.count() as i32,
                c: spec.planes.c as i32,
                channels_per_group: spec.channels_per_group as i32,
                present: 0,
            },
            spec: SpecArg::new(spec),
            filler: R::Filler::default(),
            x: tensor,
            dy: tensor,
            weights: tensor,
            biases: tensor,
            residual: tensor,
            weight: param,
            bias: param,
            mean: param,
            rstd: param,
            out: tensor,
            dv: tensor,
            dweights: tensor,
            shares: SharesArg::default(),
        }
    }

    /// The same with numbers of another type.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    pub fn with<S: Real>(&self) -> CallArg<S>
    where
        R: Into<f64>,
    {
        CallArg {
            shape: self.shape,
            spec: self.spec.with(),
            filler: S::Filler::default(),
            x: self.x,
            dy: self.dy,
            weights: self.weights,
            biases: self.biases,
            residual: self.residual,
            weight: self.weight,
            bias: self.bias,
            mean: self.mean,
            rstd: self.rstd,
            out: self.out,
            dv: self.dv,
            dweights: self.dweights,
            shares: self.shares,
        }
    }

    /// The tensors that have an element for each of x.
    pub fn tensors(&mut self) -> [(Slot, &mut TensorArg); 8] {
        [
            (Slot::X, &mut self.x),
            (Slot::Dy, &mut self.dy),
            (Slot::Weights, &mut self.weights),
            (Slot::Biases, &mut self.biases),
            (Slot::Residual, &mut self.residual),
            (Slot::Out, &mut self.out),
            (Slot::Dv, &mut self.dv),
            (Slot::Dweights, &mut self.dweights),
        ]
    }
}

impl From<plan::Chunks> for ChunksArg {
    /// The plan has made sure that the numbers fit.
    fn from(chunks: plan::Chunks) -> Self {
        Self {
            count: chunks.count as i32,
            length: chunks.length as i32,
            team: chunks.team as i32,
        }
    }
}
