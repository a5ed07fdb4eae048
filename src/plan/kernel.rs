//! The kernels of the GPU backends, by what they do. Their names are the same in every language.

use super::gpu::{LANE_VECTORS, LEAST_LANES, MANY_VECTORS};
use super::{Caps, Chunks, Pass, Tier};
use crate::tuning::WARP;
#[cfg(any(feature = "cuda", test))]
use candle_core::DType;

/// A kernel by its job; the number is that of the vectors a thread keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// So many lanes of a warp, and vectors.
    Lanes(Pass, usize, usize),
    Block(Pass, usize),
    /// For GPUs with clusters.
    Cluster(Pass),
    /// AdaIN, of content and style at once.
    AdaInLanes(usize, usize),
    AdaInBlock(usize),
    AdaInCluster,
    /// Groups of planes.
    GroupsBlock(Pass),
    GroupsCluster(Pass),
    /// Strips of a channels-last tensor.
    StripBlock(Pass),
    StripCluster(Pass),
    /// What registers have no room for in shared memory.
    Shared(Pass),
    GroupsShared(Pass),
    Split(Pass, Phase),
    Columns(Pass, Phase),
    /// From parts to the coefficients of planes.
    Finish(Pass),
    Stats,
    SumParams,
}

/// A launch over the elements, in the tiers that have two of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Measure,
    Write,
}

impl Kernel {
    /// The kernel of a tier for a phase; on chip there is but one.
    pub fn of(tier: Tier, pass: Pass, phase: Phase) -> Self {
        match tier {
            Tier::Lanes { lanes, vectors } => Self::Lanes(pass, lanes, vectors),
            Tier::Block { vectors } => Self::Block(pass, vectors),
            Tier::Cluster { .. } => Self::Cluster(pass),
            Tier::Groups { blocks: 1 } => Self::GroupsBlock(pass),
            Tier::Groups { .. } => Self::GroupsCluster(pass),
            Tier::Strip(Chunks { count: 1, .. }) => Self::StripBlock(pass),
            Tier::Strip(_) => Self::StripCluster(pass),
            Tier::Shared { .. } => Self::Shared(pass),
            Tier::GroupsShared { .. } => Self::GroupsShared(pass),
            Tier::Split(_) => Self::Split(pass, phase),
            Tier::Columns(_) => Self::Columns(pass, phase),
        }
    }

    /// The kernel that computes AdaIN of planes for whose gradients this tier has room: both keep two tensors.
    pub fn adain(tier: Tier) -> Option<Self> {
        match tier {
            Tier::Lanes { lanes, vectors } => Some(Self::AdaInLanes(lanes, vectors)),
            Tier::Block { vectors } => Some(Self::AdaInBlock(vectors)),
            Tier::Cluster { .. } => Some(Self::AdaInCluster),
            _ => None,
        }
    }

    /// The name of the entry.
    pub fn entry(self) -> String {
        let of = |pass| match pass {
            Pass::Forward => "fwd",
            Pass::Backward => "bwd",
        };
        let phase = |pass, phase| match (pass, phase) {
            (Pass::Forward, Phase::Measure) => "moments",
            (Pass::Backward, Phase::Measure) => "comoments",
            (Pass::Forward, Phase::Write) => "write",
            (Pass::Backward, Phase::Write) => "write_grad",
        };
        match self {
            Self::Lanes(p, lanes, n) => format!("in_{}_lanes{lanes}x{n}", of(p)),
            Self::Block(p, n) => format!("in_{}_block{n}", of(p)),
            Self::Cluster(p) => format!("in_{}_cluster{}", of(p), p.max_vectors()),
            Self::AdaInLanes(lanes, n) => format!("in_adain_lanes{lanes}x{n}"),
            Self::AdaInBlock(n) => format!("in_adain_block{n}"),
            Self::AdaInCluster => format!("in_adain_cluster{}", Pass::Backward.max_vectors()),
            Self::GroupsBlock(p) => format!("in_groups_{}_block{}", of(p), p.max_vectors()),
            Self::GroupsCluster(p) => format!("in_groups_{}_cluster{}", of(p), p.max_vectors()),
            Self::StripBlock(p) => format!("in_strip_{}_block{}", of(p), p.max_vectors()),
            Self::StripCluster(p) => format!("in_strip_{}_cluster{}", of(p), p.max_vectors()),
            Self::Shared(p) => format!("in_{}_shared{}", of(p), p.max_vectors()),
            Self::GroupsShared(p) => format!("in_groups_{}_shared{}", of(p), p.max_vectors()),
            Self::Split(p, s) => format!("in_split_{}", phase(p, s)),
            Self::Columns(p, s) => format!("in_columns_{}", phase(p, s)),
            Self::Finish(Pass::Forward) => "in_finish".to_string(),
            Self::Finish(Pass::Backward) => "in_finish_grad".to_string(),
            Self::Stats => "in_stats".to_string(),
            Self::SumParams => "in_sum_params".to_string(),
        }
    }

    /// The PTX that has it, for calls of a dtype, `plain` ones or all.
    #[cfg(any(feature = "cuda", test))]
    pub fn source(self, plain: bool, dtype: DType) -> String {
        let of_elements = match self {
            Self::Lanes(Pass::Forward, ..) | Self::Block(Pass::Forward, _) => "in_fwd",
            Self::Lanes(Pass::Backward, ..) | Self::Block(Pass::Backward, _) => "in_bwd",
            Self::Cluster(Pass::Forward) | Self::Shared(Pass::Forward) => "in_fwd",
            Self::Cluster(Pass::Backward) | Self::Shared(Pass::Backward) => "in_bwd",
            Self::GroupsBlock(pass) | Self::GroupsCluster(pass) | Self::GroupsShared(pass) => {
                match pass {
                    Pass::Forward => "in_groups_fwd",
                    Pass::Backward => "in_groups_bwd",
                }
            }
            Self::AdaInLanes(..) | Self::AdaInBlock(_) | Self::AdaInCluster => "in_adain",
            Self::StripBlock(_) | Self::StripCluster(_) => "strip",
            Self::Split(..) => "split",
            Self::Columns(..) => "channels_last",
            Self::Finish(_) | Self::Stats | Self::SumParams => {
                return format!("finish.{}", dtype.as_str());
            }
        };
        let variant = if plain { "plain" } else { "full" };
        format!("{of_elements}.{variant}.{}", dtype.as_str())
    }

    /// Every kernel that a plan can lead to.
    pub fn all(caps: Caps) -> Vec<Self> {
        let mut all = vec![Self::Stats, Self::SumParams];
        for pass in [Pass::Forward, Pass::Backward] {
            let max = pass.max_vectors();
            let sizes = |least| {
                [1, 2, 4, 8]
                    .into_iter()
                    .filter(move |v| (least..=max).contains(v))
            };
            for lanes in [LEAST_LANES, 8, 16, WARP] {
                // The fewest lanes have the small planes, the whole warp the large ones.
                let least = if lanes == LEAST_LANES {
                    1
                } else {
                    LANE_VECTORS
                };
                let most = if lanes == WARP { max } else { LANE_VECTORS };
                let some = sizes(least).filter(|v| *v <= most);
                all.extend(some.map(|v| Self::Lanes(pass, lanes, v)));
            }
            all.extend(sizes(pass.few_vectors()).map(|v| Self::Block(pass, v)));
            if pass == Pass::Backward && caps.every_kernel {
                all.push(Self::Block(pass, MANY_VECTORS));
            }
            if caps.every_kernel {
                all.extend([Self::GroupsBlock(pass), Self::StripBlock(pass)]);
            }
            if caps.clusters {
                all.push(Self::Cluster(pass));
            }
            if caps.every_kernel && caps.clusters {
                all.extend([Self::GroupsCluster(pass), Self::StripCluster(pass)]);
            }
            if caps.shared > 0 {
                all.extend([Self::Shared(pass), Self::GroupsShared(pass)]);
            }
            for phase in [Phase::Measure, Phase::Write] {
                all.extend([Self::Split(pass, phase), Self::Columns(pass, phase)]);
            }
            all.push(Self::Finish(pass));
        }
        if caps.every_kernel {
            let adain = all.iter().filter_map(|kernel| match *kernel {
                Self::Lanes(Pass::Backward, lanes, n) => Some(Self::AdaInLanes(lanes, n)),
                Self::Block(Pass::Backward, n) if n < MANY_VECTORS => Some(Self::AdaInBlock(n)),
                Self::Cluster(Pass::Backward) => Some(Self::AdaInCluster),
                _ => None,
            });
            let adain: Vec<_> = adain.collect();
            all.extend(adain);
        }
        all
    }
}
