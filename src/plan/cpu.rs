//! How the CPU shares planes among threads.

use crate::shapes::Planes;

/// Elements of a plane that one CPU task takes: 128 KiB of f32, so that two inputs and an output
/// stay in an L2 of 512 KiB, and enough work (some 5 us) to be worth handing to another thread.
pub const SEGMENT: usize = 32 * 1024;

/// Elements of small planes that the CPU takes through each step together: 16 KiB of f32, half of
/// an L1 cache.
pub const GROUP: usize = 4 * 1024;

/// How the CPU shares planes among threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuPlan {
    /// Whole planes per task, at least `at_once` of them.
    Planes { at_once: usize },
    /// One plane after the other, each by all threads.
    Segments,
}

impl CpuPlan {
    pub fn new(planes: &Planes, threads: usize) -> Self {
        // With fewer than 4 planes a thread, the last ones leave threads idle for a quarter of
        // the time; splitting a plane costs two joins, which 2 segments a thread are worth.
        let few = planes.count() < 4 * threads;
        if threads > 1 && few && planes.spatial >= 2 * threads * SEGMENT {
            return Self::Segments;
        }
        Self::Planes {
            at_once: (SEGMENT / planes.spatial.max(1)).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_splits_few_large_planes_only() {
        let plan = |n, c, spatial| CpuPlan::new(&Planes { n, c, spatial }, 2);
        assert_eq!(plan(1, 3, 2160 * 3840), CpuPlan::Segments);
        assert_eq!(plan(1, 64, 256 * 256), CpuPlan::Planes { at_once: 1 });
        assert_eq!(plan(1, 3, 64 * 64), CpuPlan::Planes { at_once: 8 });
        assert_eq!(plan(0, 3, 0), CpuPlan::Planes { at_once: SEGMENT });
    }
}
