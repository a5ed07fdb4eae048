//! The division of the planes among the threads of the CPU.

use crate::shapes::Planes;

/// Elements of a plane that one CPU task takes: 128 KiB of f32, so that two inputs and an output
/// stay in an L2 of 512 KiB, and enough work (some 5 us) to be worth handing to another thread.
pub const SEGMENT: usize = 32 * 1024;

/// Elements of small planes that the CPU takes through each step together: 16 KiB of f32, half of
/// an L1 cache.
pub const L1_ELEMENTS: usize = 4 * 1024;

/// Results of this size and more are written past the caches, which do not hold them until they are
/// read: a store into a cache reads the line first.
pub const STREAM_BYTES: usize = 32 << 20;

/// The division of the planes among threads. A group is the planes that share their statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuPlan {
    /// Tasks of `at_once` whole groups.
    WholeGroups { at_once: usize },
    /// One group after the other, each by all threads.
    Segments,
}

impl CpuPlan {
    pub fn new(planes: &Planes, planes_per_group: usize, threads: usize) -> Self {
        let groups = planes.count() / planes_per_group.max(1);
        let elements = planes_per_group * planes.spatial;
        // With fewer than 4 groups a thread, the last ones leave threads idle for a quarter of
        // the time; splitting a group costs two joins, which 2 segments a thread are worth.
        let few = groups < 4 * threads;
        if threads > 1 && few && elements >= 2 * threads * SEGMENT {
            return Self::Segments;
        }
        Self::WholeGroups {
            at_once: (SEGMENT / elements.max(1)).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_splits_few_large_groups_only() {
        let plan = |n, c, per_group, spatial| CpuPlan::new(&Planes { n, c, spatial }, per_group, 2);
        assert_eq!(plan(1, 3, 1, 2160 * 3840), CpuPlan::Segments);
        assert_eq!(
            plan(1, 64, 1, 256 * 256),
            CpuPlan::WholeGroups { at_once: 1 }
        );
        assert_eq!(plan(1, 3, 1, 64 * 64), CpuPlan::WholeGroups { at_once: 8 });
        assert_eq!(plan(0, 3, 1, 0), CpuPlan::WholeGroups { at_once: SEGMENT });
        assert_eq!(plan(2, 64, 2, 64 * 64), CpuPlan::WholeGroups { at_once: 4 });
        assert_eq!(plan(1, 128, 32, 512 * 512), CpuPlan::Segments);
    }
}
