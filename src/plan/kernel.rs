//! The kernels of the GPU backends, by what they do. Their names are the same in every language.

use super::{Pass, Tier};

/// What a kernel does; the number is that of the vectors a thread keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    Warp(Pass, usize),
    Block(Pass, usize),
    /// Where the GPU has clusters.
    Cluster(Pass),
    /// Sets of planes, the forward pass.
    SetsBlock,
    SetsCluster,
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
            Tier::Warp { vectors } => Self::Warp(pass, vectors),
            Tier::Block { vectors } => Self::Block(pass, vectors),
            Tier::Cluster { .. } => Self::Cluster(pass),
            Tier::Sets { blocks: 1 } => Self::SetsBlock,
            Tier::Sets { .. } => Self::SetsCluster,
            Tier::Split(_) => Self::Split(pass, step),
            Tier::Columns(_) => Self::Columns(pass, step),
        }
    }

    /// The name of the entry.
    pub fn entry(self) -> String {
        let on_chip = |pass| match pass {
            Pass::Forward => "in_fwd",
            Pass::Backward => "in_bwd",
        };
        let step = |pass, step| match (pass, step) {
            (Pass::Forward, Step::Measure) => "moments",
            (Pass::Backward, Step::Measure) => "comoments",
            (Pass::Forward, Step::Write) => "write",
            (Pass::Backward, Step::Write) => "write_grad",
        };
        match self {
            Self::Warp(p, n) => format!("{}_warp{n}", on_chip(p)),
            Self::Block(p, n) => format!("{}_block{n}", on_chip(p)),
            Self::Cluster(p) => format!("{}_cluster{}", on_chip(p), p.max_vectors()),
            Self::SetsBlock => format!("in_sets_block{}", Pass::Forward.max_vectors()),
            Self::SetsCluster => format!("in_sets_cluster{}", Pass::Forward.max_vectors()),
            Self::Split(p, s) => format!("in_split_{}", step(p, s)),
            Self::Columns(p, s) => format!("in_columns_{}", step(p, s)),
            Self::Finish(Pass::Forward) => "in_finish".to_string(),
            Self::Finish(Pass::Backward) => "in_finish_grad".to_string(),
            Self::Stats => "in_stats".to_string(),
            Self::SumParams => "in_sum_params".to_string(),
        }
    }

    /// Every kernel that a plan can lead to, on a GPU with or without clusters.
    #[cfg(test)]
    pub fn all(sets: bool, clusters: bool) -> Vec<Self> {
        let mut all = vec![Self::Stats, Self::SumParams];
        if sets {
            all.push(Self::SetsBlock);
        }
        if sets && clusters {
            all.push(Self::SetsCluster);
        }
        for pass in [Pass::Forward, Pass::Backward] {
            let sizes = |least| {
                [1, 2, 4, 8]
                    .into_iter()
                    .filter(move |v| (least..=pass.max_vectors()).contains(v))
            };
            all.extend(sizes(1).map(|v| Self::Warp(pass, v)));
            all.extend(sizes(pass.few_vectors()).map(|v| Self::Block(pass, v)));
            if clusters {
                all.push(Self::Cluster(pass));
            }
            for step in [Step::Measure, Step::Write] {
                all.extend([Self::Split(pass, step), Self::Columns(pass, step)]);
            }
            all.push(Self::Finish(pass));
        }
        all
    }
}
