//! Which tier computes a shape on a GPU, and with which launch. The constants that the kernels share
//! are in `tuning.rs`.

use crate::shapes::Planes;
use crate::tuning::{
    MAX_THREADS, SPLIT_THREADS, SPLIT_VECTORS, VECTOR_BYTES, WARP, WARPS_PER_BLOCK,
};
use candle_core::{bail, Result};

const MIN_THREADS: usize = 64;
/// Blocks per multiprocessor that the split tier aims for: enough loads in flight to hide the
/// latency of memory (25 KB a multiprocessor on an H200; a block keeps 16 KB in flight).
const SPLIT_BLOCKS_PER_SM: usize = 4;
/// A chunk is a multiple of 128 bytes, a full line of the L2.
const CHUNK_VECTORS: usize = 8;
/// The most vectors of a chunk: the kernels count its elements in an int.
const MAX_CHUNK_VECTORS: usize = 1 << 26;
/// Below this a plane is not worth a second launch: an estimate, no GPU has timed it yet.
const SPLIT_MIN_BYTES: usize = 32 * 1024;
/// The most blocks of a grid, and the most planes: the kernels count them in an int.
const MAX_GRID: usize = i32::MAX as usize;

/// The passes that a plan is made for; they differ in what a thread must keep in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    Forward,
    Backward,
}

impl Pass {
    /// Vectors per thread that the registers hold: 8 of x take 32 of the 128 registers that a
    /// thread has at 512 threads a block; the backward pass keeps x and dy.
    pub const fn max_vectors(self) -> usize {
        match self {
            Self::Forward => 8,
            Self::Backward => 4,
        }
    }

    /// Vectors per thread where planes are few: more threads a plane, each with less to do.
    pub const fn few_vectors(self) -> usize {
        self.max_vectors() / 4
    }
}

/// Who computes a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// A warp, the plane in its registers: `vectors` 16-byte vectors a thread.
    Warp { vectors: usize },
    /// A block, the plane in its registers.
    Block { vectors: usize },
    /// `chunks` blocks of `chunk` vectors each: one launch measures, the next writes.
    Split { chunks: usize, chunk: usize },
}

/// A launch on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuPlan {
    pub tier: Tier,
    pub grid: u32,
    pub threads: u32,
}

impl GpuPlan {
    /// `element` is the size of an element in bytes; `aligned` says that every plane starts at a
    /// multiple of [`VECTOR_BYTES`].
    pub fn new(
        pass: Pass,
        planes: &Planes,
        element: usize,
        aligned: bool,
        sm_count: usize,
    ) -> Result<Self> {
        let (count, max) = (planes.count(), pass.max_vectors());
        if count > MAX_GRID {
            bail!("instance-norm: expected at most {MAX_GRID} planes, got {count}");
        }
        let lines = lines(planes.spatial, element, aligned);
        let bytes = planes.spatial.saturating_mul(element);
        let idle = count * 4 <= sm_count && bytes >= SPLIT_MIN_BYTES;
        if lines <= WARP * max {
            let tier = Tier::Warp {
                vectors: lines.div_ceil(WARP).next_power_of_two(),
            };
            return Self::launch(
                tier,
                count.div_ceil(WARPS_PER_BLOCK),
                WARP * WARPS_PER_BLOCK,
            );
        }
        if lines <= MAX_THREADS * max && !idle {
            // Many planes fill the machine by themselves, and small blocks with full registers leave
            // several of them per multiprocessor.
            let many = count >= 4 * sm_count;
            let (threads, vectors) = block(lines, if many { max } else { pass.few_vectors() });
            return Self::launch(Tier::Block { vectors }, count, threads);
        }
        Self::split(planes, element, aligned, sm_count)
    }

    /// The split tier, whatever the shape: also how statistics alone are measured.
    pub fn split(planes: &Planes, element: usize, aligned: bool, sm_count: usize) -> Result<Self> {
        let lines = lines(planes.spatial, element, aligned);
        let wanted = (SPLIT_BLOCKS_PER_SM * sm_count).div_ceil(planes.count().max(1));
        // No chunk is smaller than what a block loads at once.
        let most = lines.div_ceil(SPLIT_THREADS * SPLIT_VECTORS).max(1);
        let chunk = lines
            .div_ceil(wanted.clamp(1, most))
            .next_multiple_of(CHUNK_VECTORS)
            .clamp(CHUNK_VECTORS, MAX_CHUNK_VECTORS);
        let chunks = lines.div_ceil(chunk).max(1);
        let tier = Tier::Split { chunks, chunk };
        Self::launch(tier, planes.count() * chunks, SPLIT_THREADS)
    }

    fn launch(tier: Tier, grid: usize, threads: usize) -> Result<Self> {
        if grid > MAX_GRID {
            bail!("instance-norm: expected at most {MAX_GRID} blocks of work, got {grid}");
        }
        Ok(Self {
            tier,
            grid: grid as u32,
            threads: threads as u32,
        })
    }
}

/// Vectors that a plane touches; one that starts anywhere may straddle one more.
fn lines(spatial: usize, element: usize, aligned: bool) -> usize {
    let per_vector = VECTOR_BYTES / element;
    let head = if aligned { 0 } else { per_vector - 1 };
    (spatial + head).div_ceil(per_vector).max(1)
}

/// Threads of a block and vectors of each, `target` of them where that many threads can be had.
fn block(lines: usize, target: usize) -> (usize, usize) {
    let threads = lines
        .div_ceil(target)
        .next_power_of_two()
        .clamp(MIN_THREADS, MAX_THREADS);
    (threads, lines.div_ceil(threads).next_power_of_two())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const H200: usize = 132;

    fn forward(n: usize, c: usize, spatial: usize, element: usize) -> GpuPlan {
        let planes = Planes { n, c, spatial };
        let aligned = (spatial * element).is_multiple_of(VECTOR_BYTES);
        GpuPlan::new(Pass::Forward, &planes, element, aligned, H200).unwrap()
    }

    #[test]
    fn tiers_change_where_the_registers_end() {
        let warp = |vectors| Tier::Warp { vectors };
        let block = |vectors| Tier::Block { vectors };
        // 32 lanes of 1, 2, 4 and 8 vectors of 4 floats.
        assert_eq!(forward(8, 512, 1, 4).tier, warp(1));
        assert_eq!(forward(8, 512, 128, 4).tier, warp(1));
        assert_eq!(forward(8, 512, 132, 4).tier, warp(2));
        assert_eq!(forward(8, 512, 1024, 4).tier, warp(8));
        // A plane that starts anywhere can touch one vector more.
        assert_eq!(forward(8, 512, 1023, 4).tier, block(8));
        assert_eq!(forward(8, 512, 1028, 4).tier, block(8));
        assert_eq!(forward(8, 512, 16 * 1024, 4).tier, block(8));
        assert_eq!(forward(8, 512, 16 * 1024, 4).threads, 512);
        assert!(matches!(
            forward(8, 512, 16 * 1024 + 4, 4).tier,
            Tier::Split { .. }
        ));
        // Few planes are shared by several blocks as soon as they are large enough.
        assert!(matches!(
            forward(1, 33, 8 * 1024, 4).tier,
            Tier::Split { .. }
        ));
        assert!(matches!(
            forward(1, 34, 8 * 1024, 4).tier,
            Tier::Block { .. }
        ));
        assert!(matches!(
            forward(1, 33, 8 * 1024 - 4, 4).tier,
            Tier::Block { .. }
        ));
    }

    #[test]
    fn a_4k_frame_fills_the_machine() {
        let plan = forward(1, 3, 2160 * 3840, 4);
        let Tier::Split { chunks, chunk } = plan.tier else {
            panic!("{plan:?}")
        };
        assert_eq!((chunks, plan.grid), (176, 528));
        assert!(chunk * chunks >= 2160 * 3840 / 4 && chunk % CHUNK_VECTORS == 0);
    }

    #[test]
    fn more_planes_than_a_grid_has_rows_and_more_elements_than_an_i32() {
        assert_eq!(forward(1000, 70, 49, 2).grid, 17_500);
        let plan = forward(1, 1, 3 << 31, 2);
        let Tier::Split { chunks, chunk } = plan.tier else {
            panic!("{plan:?}")
        };
        assert!(chunks * chunk * 8 >= 3 << 31);
        assert!(
            chunk * 8 < i32::MAX as usize,
            "offsets in a chunk are 32-bit"
        );
        let planes = Planes {
            n: 1 << 20,
            c: 1 << 20,
            spatial: 1,
        };
        assert!(GpuPlan::new(Pass::Forward, &planes, 4, false, H200).is_err());
    }

    proptest! {
        #[test]
        fn every_plan_covers_its_planes(
            n in 1usize..2000, c in 1usize..2000, spatial in 1usize..100_000_000,
            log_element in 1usize..4, aligned: bool, sm_count in 1usize..200,
            pass in prop_oneof![Just(Pass::Forward), Just(Pass::Backward)],
        ) {
            let (element, planes) = (1 << log_element, Planes { n, c, spatial });
            let plan = GpuPlan::new(pass, &planes, element, aligned, sm_count).unwrap();
            let (grid, threads) = (plan.grid as usize, plan.threads as usize);
            let lines = lines(spatial, element, aligned);
            prop_assert!(threads % WARP == 0 && threads <= MAX_THREADS);
            match plan.tier {
                Tier::Warp { vectors } => {
                    prop_assert!(vectors.is_power_of_two() && vectors <= pass.max_vectors());
                    prop_assert!(WARP * vectors >= lines);
                    prop_assert!(grid * WARPS_PER_BLOCK >= planes.count());
                    prop_assert!((grid - 1) * WARPS_PER_BLOCK < planes.count());
                }
                Tier::Block { vectors } => {
                    let kernels = pass.few_vectors()..=pass.max_vectors();
                    prop_assert!(vectors.is_power_of_two() && kernels.contains(&vectors));
                    prop_assert!(threads * vectors >= lines);
                    prop_assert_eq!(grid, planes.count());
                }
                Tier::Split { chunks, chunk } => {
                    prop_assert!(chunk * chunks >= lines);
                    prop_assert!(chunk * (chunks - 1) < lines, "an empty chunk");
                    prop_assert_eq!(grid, planes.count() * chunks);
                }
            }
        }
    }
}
