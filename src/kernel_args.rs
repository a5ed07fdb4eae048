//! What the kernels of the GPU backends are told beside tensors: the structs that all languages have
//! field for field.

use crate::plan::Cut;
use crate::spec::{Activation, EpsMode, NormSpec, Output, ScaleStat};
use candle_core::DType;

/// `RstdRule` of the kernels, in numbers of type `A`: f64, or f32 where there is no other.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RuleArg<A> {
    eps: A,
    n: A,
    unbiased: A,
    alpha: A,
    beside_alpha: A,
    weight_offset: A,
    slope: A,
    mode: i32,
    of_stats: i32,
    stat: i32,
    /// 0 where nothing follows the normalization.
    pub activation: i32,
}

impl<A> RuleArg<A> {
    pub fn new(spec: &NormSpec, number: fn(f64) -> A) -> Self {
        let n = (spec.channels_per_group * spec.planes.spatial) as f64;
        let unbiased = match spec.rule.correction {
            0 => 1.,
            correction => n / (n - correction as f64),
        };
        let slope = match spec.activation {
            Activation::LeakyRelu(slope) => slope,
            _ => 0.,
        };
        let mut rule = Self {
            eps: number(spec.rule.eps),
            n: number(n),
            unbiased: number(unbiased),
            alpha: number(spec.alpha),
            beside_alpha: number(1. - spec.alpha),
            weight_offset: number(spec.weight_offset),
            slope: number(slope),
            mode: match spec.rule.mode {
                EpsMode::AddToVar => 0,
                EpsMode::AddToStd => 1,
                EpsMode::MaxWithVar => 2,
            },
            of_stats: 0,
            stat: 0,
            activation: match spec.activation {
                Activation::None => 0,
                Activation::Relu => 1,
                Activation::LeakyRelu(_) => 2,
                Activation::Silu => 3,
            },
        };
        if let Output::StatsGradient(which) = spec.output {
            rule.of_stats = 1;
            rule.set_stat(which);
        }
        rule
    }

    /// The statistic that is asked for beside the mean.
    pub fn set_stat(&mut self, which: ScaleStat) {
        self.stat = match which {
            ScaleStat::Var => 0,
            ScaleStat::Std => 1,
            ScaleStat::Rstd => 2,
        };
    }
}

/// `Cut` of the kernels.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CutArg {
    chunks: i32,
    chunk: i32,
    team: i32,
}

impl CutArg {
    /// The plan has made sure that the numbers fit.
    pub fn new(cut: Cut) -> Self {
        Self {
            chunks: cut.chunks as i32,
            chunk: cut.chunk as i32,
            team: cut.team as i32,
        }
    }
}

/// Whether a parameter is f32 beside an x that is not.
pub fn is_f32_beside(x: DType, param: DType) -> i32 {
    (param == DType::F32 && x != DType::F32) as i32
}
