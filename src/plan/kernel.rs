//! The kernels of the GPU backends, by what they do. Their names are the same in every language.

use super::gpu::LANE_VECTORS;
use super::{Caps, Pass, Tier};
use crate::tuning::WARP;
#[cfg(feature = "cuda")]
use candle_core::DType;

/// What a kernel does; the number is that of the vectors a thread keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// So many lanes of a warp, and vectors.
    Lanes(Pass, usize, usize),
    Block(Pass, usize),
    /// Where the GPU has clusters.
    Cluster(Pass),
    /// Sets of planes.
    SetsBlock(Pass),
    SetsCluster(Pass),
    Split(Pass, Step),
    Columns(Pass, Step),
    /// From parts to the coefficients of planes.
    Finish(Pass),
    Stats,
    SumParams,
}

/// A launch over the elements, in the tiers that have two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Measure,
    Write,
}

impl Kernel {
    /// That of a tier for a step; on chip there is but one.
    pub fn of(tier: Tier, pass: Pass, step: Step) -> Self {
        match tier {
            Tier::Lanes { lanes, vectors } => Self::Lanes(pass, lanes, vectors),
            Tier::Block { vectors } => Self::Block(pass, vectors),
            Tier::Cluster { .. } => Self::Cluster(pass),
            Tier::Sets { blocks: 1 } => Self::SetsBlock(pass),
            Tier::Sets { .. } => Self::SetsCluster(pass),
            Tier::Split(_) => Self::Split(pass, step),
            Tier::Columns(_) => Self::Columns(pass, step),
        }
    }

    /// The name of the entry.
    pub fn entry(self) -> String {
        let of = |pass| match pass {
            Pass::Forward => "fwd",
            Pass::Backward => "bwd",
        };
        let step = |pass, step| match (pass, step) {
            (Pass::Forward, Step::Measure) => "moments",
            (Pass::Backward, Step::Measure) => "comoments",
            (Pass::Forward, Step::Write) => "write",
            (Pass::Backward, Step::Write) => "write_grad",
        };
        match self {
            Self::Lanes(p, lanes, n) => format!("in_{}_lanes{lanes}x{n}", of(p)),
            Self::Block(p, n) => format!("in_{}_block{n}", of(p)),
            Self::Cluster(p) => format!("in_{}_cluster{}", of(p), p.max_vectors()),
            Self::SetsBlock(p) => format!("in_sets_{}_block{}", of(p), p.max_vectors()),
            Self::SetsCluster(p) => format!("in_sets_{}_cluster{}", of(p), p.max_vectors()),
            Self::Split(p, s) => format!("in_split_{}", step(p, s)),
            Self::Columns(p, s) => format!("in_columns_{}", step(p, s)),
            Self::Finish(Pass::Forward) => "in_finish".to_string(),
            Self::Finish(Pass::Backward) => "in_finish_grad".to_string(),
            Self::Stats => "in_stats".to_string(),
            Self::SumParams => "in_sum_params".to_string(),
        }
    }

    /// The PTX that has it, for calls of a dtype, `plain` ones or all.
    #[cfg(feature = "cuda")]
    pub fn source(self, plain: bool, dtype: DType) -> String {
        let of_elements = match self {
            Self::Lanes(Pass::Forward, ..) | Self::Block(Pass::Forward, _) => "in_fwd",
            Self::Lanes(Pass::Backward, ..) | Self::Block(Pass::Backward, _) => "in_bwd",
            Self::Cluster(Pass::Forward) => "in_fwd",
            Self::Cluster(Pass::Backward) => "in_bwd",
            Self::SetsBlock(Pass::Forward) | Self::SetsCluster(Pass::Forward) => "in_sets_fwd",
            Self::SetsBlock(Pass::Backward) | Self::SetsCluster(Pass::Backward) => "in_sets_bwd",
            Self::Split(..) => "split",
            Self::Columns(..) => "channels_last",
            Self::Finish(_) | Self::Stats | Self::SumParams => {
                return format!("finish.{}", dtype.as_str())
            }
        };
        let variant = if plain { "plain" } else { "full" };
        format!("{of_elements}.{variant}.{}", dtype.as_str())
    }

    /// Every kernel that a plan can lead to, on a GPU with or without clusters, and `sets` or not.
    pub fn all(caps: Caps, sets: bool) -> Vec<Self> {
        let mut all = vec![Self::Stats, Self::SumParams];
        for pass in [Pass::Forward, Pass::Backward] {
            let max = pass.max_vectors();
            let sizes = |least| {
                [1, 2, 4, 8]
                    .into_iter()
                    .filter(move |v| (least..=max).contains(v))
            };
            for lanes in [4, 8, 16, WARP] {
                // The fewest lanes have the small planes, the whole warp the large ones.
                let least = if lanes == caps.least_lanes {
                    1
                } else {
                    LANE_VECTORS
                };
                let most = if lanes == WARP { max } else { LANE_VECTORS };
                let some = sizes(least).filter(|v| lanes >= caps.least_lanes && *v <= most);
                all.extend(some.map(|v| Self::Lanes(pass, lanes, v)));
            }
            all.extend(sizes(pass.few_vectors()).map(|v| Self::Block(pass, v)));
            if sets {
                all.push(Self::SetsBlock(pass));
            }
            if caps.clusters {
                all.push(Self::Cluster(pass));
            }
            if sets && caps.clusters {
                all.push(Self::SetsCluster(pass));
            }
            for step in [Step::Measure, Step::Write] {
                all.extend([Self::Split(pass, step), Self::Columns(pass, step)]);
            }
            all.push(Self::Finish(pass));
        }
        all
    }
}
