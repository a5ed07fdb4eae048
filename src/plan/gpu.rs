//! Which tier computes a shape on a GPU, and with which launch. The constants that the kernels share
//! are in `tuning.rs`.
//!
//! # Memory traffic
//!
//! Bytes an element of x, in elements: `x`, `dy` and the outputs count 1 each, `b` is the number of
//! tensors beside x (residual, parameters per element), `w` is 1 with a weight per element, and `o`
//! the number of gradients per element besides dx (`dv`, the weight's).
//!
//! | tier | forward | backward | backward through an activation | statistics |
//! |---|---|---|---|---|
//! | lanes, block, cluster, shared, groups, strip | `1 + b` read, 1 written | `2 + w` read, `1 + o` written | `2 + b` read, `1 + o` written | 1, 0 |
//! | split, columns | `2 + b`, 1 | `4 + 2w`, `1 + o` | `5 + 2b`, `1 + o` | 1, 0 |
//! | the same, given statistics | `1 + b`, 1 | `4 + 2w`, `1 + o` | `4 + 2b`, `1 + o` | |
//! | ... with no sums wanted | | `2 + w`, `1 + o` | `2 + b`, `1 + o` | |
//!
//! Besides, each chunk of a plane leaves 16 bytes forward and 32 backward (f64: 32 and 64), written
//! and read once, and each plane as many of coefficients, which every thread reads that has elements of
//! it. tests/devices/traffic.rs counts it all on the emulated driver: in parts of 8 places a thread, the columns
//! tier reads 0.07 (forward) to 0.16 times more than the table has, for coefficients from the caches; in f64 twice
//! that. AdaIN of planes on chip reads content and style once, in one launch; else it is the statistics of the
//! style and then a forward pass with given parameters.

mod job;
mod on_chip;
mod tier;

use crate::shapes::{Format, Planes};
use crate::tuning::{
    MAX_COLUMNS, MOMENTS_NUMBERS, SPLIT_THREADS, SPLIT_VECTORS, VECTOR_BYTES, WARP,
};
use candle_core::{Result, bail};
pub(super) use job::MANY_VECTORS;
pub use job::{Job, Pass};
use job::{MAX_GRID, chunks};
pub(super) use on_chip::{LANE_VECTORS, LEAST_LANES};
pub use tier::{Caps, Chunks, Tier};

/// A chunk is a multiple of 128 bytes, a full line of the L2.
const CHUNK_VECTORS: usize = 8;
/// The least places of a thread, channels-last.
const MIN_PLACES: usize = 8;

/// A launch on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuPlan {
    pub tier: Tier,
    pub grid: u32,
    pub threads: u32,
}

impl GpuPlan {
    pub fn new(job: &Job, caps: Caps) -> Result<Self> {
        for of in [Self::of_groups, Self::of_strips, Self::of_planes] {
            if let Some(plan) = of(job, caps)? {
                return Ok(plan);
            }
        }
        Self::multi_pass(job, caps)
    }

    /// The split or the columns tier, whatever the shape.
    fn multi_pass(job: &Job, caps: Caps) -> Result<Self> {
        let (planes, blocks) = (job.count()?, job.blocks_per_sm() * caps.sm_count);
        let Planes { n, c, spatial } = job.planes;
        if job.format == Format::ChannelsLast {
            let vectors = c.div_ceil(VECTOR_BYTES / job.element).max(1);
            let team = vectors.next_power_of_two().min(MAX_COLUMNS);
            let (side_by_side, rows) = (vectors.div_ceil(team), SPLIT_THREADS / team);
            let wanted = blocks.div_ceil((n * side_by_side).max(1));
            // Each thread reads the coefficients of all its channels, so it has to have enough places.
            let (count, length) = chunks(spatial, wanted, rows * MIN_PLACES, rows);
            let tier = Tier::Columns(Chunks {
                count,
                length,
                team,
            });
            return Self::launch(tier, n * side_by_side * count, SPLIT_THREADS);
        }
        let lines = job.lines();
        // A warp is enough for what it loads at once.
        let team = if lines <= WARP * SPLIT_VECTORS {
            WARP
        } else {
            SPLIT_THREADS
        };
        // Rounded down: all blocks run at once.
        let wanted = (blocks / planes.max(1)).max(1);
        let least = SPLIT_THREADS * SPLIT_VECTORS;
        let (count, length) = chunks(lines, wanted, least, CHUNK_VECTORS);
        let tier = Tier::Split(Chunks {
            count,
            length,
            team,
        });
        let grid = (planes * count).div_ceil(SPLIT_THREADS / team);
        Self::launch(tier, grid, SPLIT_THREADS)
    }

    /// True if one launch does it all.
    pub fn is_on_chip(&self) -> bool {
        !matches!(self.tier, Tier::Split(_) | Tier::Columns(_))
    }

    /// True if each block that writes merges the parts of its group by itself, and a third launch is spared:
    /// as long as they are at most an eighth of what it reads anyway. Not timed.
    pub fn merges_as_it_writes(&self, job: &Job) -> bool {
        let Tier::Split(chunks) = self.tier else {
            return false;
        };
        let part = MOMENTS_NUMBERS * job.element.max(4) / VECTOR_BYTES;
        8 * part * chunks.count * job.channels_per_group <= chunks.length
    }

    fn launch(tier: Tier, grid: usize, threads: usize) -> Result<Self> {
        if grid > MAX_GRID {
            bail!("norm: expected at most {MAX_GRID} blocks of work, got {grid}");
        }
        Ok(Self {
            tier,
            grid: grid as u32,
            threads: threads as u32,
        })
    }
}

#[cfg(test)]
mod tests;
