//! What the environment says of plans: tiers that are left out, and whether plans are printed.

use super::{GpuPlan, Job};
use candle_core::{Result, bail};
use std::fmt;
use std::sync::OnceLock;

/// Names of tiers, separated by commas, that no plan may use.
const WITHOUT: &str = "CANDLE_INSTANCE_NORM_WITHOUT";
/// Set, it has every plan printed to the standard error.
const PLANS: &str = "CANDLE_INSTANCE_NORM_PLANS";

/// Tiers that are left out, so that the next one takes their planes. What is in several passes takes all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Without {
    pub lanes: bool,
    pub block: bool,
    pub cluster: bool,
    pub groups: bool,
    pub strip: bool,
    pub shared: bool,
}

impl Without {
    /// No tier.
    pub const NONE: Self = Self {
        lanes: false,
        block: false,
        cluster: false,
        groups: false,
        strip: false,
        shared: false,
    };

    /// What the environment names.
    #[cfg_attr(not(any(feature = "cuda", feature = "metal")), allow(dead_code))]
    pub fn from_env() -> Result<Self> {
        std::env::var(WITHOUT).map_or(Ok(Self::NONE), |names| Self::parse(&names))
    }

    fn parse(names: &str) -> Result<Self> {
        let mut without = Self::NONE;
        for name in names.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            match name {
                "lanes" => without.lanes = true,
                "block" => without.block = true,
                "cluster" => without.cluster = true,
                "groups" => without.groups = true,
                "strip" => without.strip = true,
                "shared" => without.shared = true,
                other => bail!(
                    "{WITHOUT}: expected names of `lanes`, `block`, `cluster`, `groups`, `shared` and `strip`, got {other:?}"
                ),
            }
        }
        Ok(without)
    }
}

/// Prints the plan of a job if the environment asks for it.
pub fn tell(job: &Job, plan: &GpuPlan) {
    static TELLS: OnceLock<bool> = OnceLock::new();
    if *TELLS.get_or_init(|| std::env::var_os(PLANS).is_some()) {
        eprintln!("candle-instance-norm: {job}: {plan}");
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let planes = &self.planes;
        let (n, c, spatial) = (planes.n, planes.c, planes.spatial);
        let (pass, format, element) = (self.pass, self.format, self.element);
        write!(
            f,
            "{pass:?} of {n} x {c} planes, {format:?}, of {spatial} elements of {element} bytes"
        )?;
        match self.channels_per_group {
            1 => {}
            size => write!(f, ", in groups of {size}")?,
        }
        f.write_str(if self.given { ", statistics given" } else { "" })?;
        f.write_str(if self.plain { ", nothing beside" } else { "" })
    }
}

impl fmt::Display for GpuPlan {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{:?}, {} blocks of {} threads",
            self.tier, self.grid, self.threads
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tiers() {
        let some = Without::parse("cluster, shared,").unwrap();
        let wanted = Without {
            cluster: true,
            shared: true,
            ..Without::NONE
        };
        assert_eq!(some, wanted);
        assert_eq!(Without::parse("").unwrap(), Without::NONE);
        let error = Without::parse("cluster,split").unwrap_err().to_string();
        assert!(error.contains("got \"split\""), "{error}");
    }
}
