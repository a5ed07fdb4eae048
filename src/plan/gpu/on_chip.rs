//! The plans of one launch, which keeps on chip what it has read.

use super::job::{IDLE, MANY_VECTORS, MIN_THREADS, SPLIT_MIN_BYTES, block, blocks};
use super::{Caps, Chunks, GpuPlan, Job, Pass, Tier};
use crate::shapes::Format;
use crate::tuning::{
    MAX_CLUSTER, MAX_COLUMNS, MAX_SHARED_PLANES, MAX_THREADS, MIN_GROUP_VECTORS, VECTOR_BYTES,
    WARP, WARPS_PER_BLOCK,
};
use candle_core::Result;

/// The fewest lanes of a warp that kernels give a plane.
pub(in crate::plan) const LEAST_LANES: usize = 4;
/// Vectors of a lane before a plane takes more of them: 64 bytes in flight each.
pub(in crate::plan) const LANE_VECTORS: usize = 4;
/// Numbers that a block has in shared memory for sums. Backward through an activation these are 9 of each of
/// 16 warps; with groups 11 of each, and 3 of each of 128 planes, of which every warp may share one.
const SUMS: usize = 144;
const GROUP_SUMS: usize = 608;

impl GpuPlan {
    /// Planes of adjacent elements, each with statistics of its own, if they fit on chip.
    pub(super) fn of_planes(job: &Job, caps: Caps) -> Result<Option<Self>> {
        let own = match job.pass {
            Pass::Forward => job.channels_per_group == 1 || job.given,
            Pass::Backward => job.channels_per_group == 1 && !job.given,
        };
        if !own || job.format == Format::ChannelsLast {
            return Ok(None);
        }
        let (count, max) = (job.count()?, job.pass.max_vectors());
        let lines = job.lines();
        let bytes = job.planes.spatial.saturating_mul(job.element);
        let idle = count * IDLE <= caps.sm_count && bytes >= SPLIT_MIN_BYTES;
        if lines <= WARP * max && !caps.without.lanes {
            // The fewest lanes that have loads enough in flight: less of each is spent on sums.
            let lanes = lines.div_ceil(LANE_VECTORS).next_power_of_two();
            let lanes = lanes.clamp(LEAST_LANES, WARP);
            let tier = Tier::Lanes {
                lanes,
                vectors: lines.div_ceil(lanes).next_power_of_two(),
            };
            let threads = WARP * WARPS_PER_BLOCK;
            return Self::launch(tier, count.div_ceil(threads / lanes), threads).map(Some);
        }
        if lines <= MAX_THREADS * max && !idle && !caps.without.block {
            // Many planes fill the machine by themselves, and small blocks with full registers leave
            // several of them per multiprocessor.
            let (many, few) = (count >= 4 * caps.sm_count, job.pass.few_vectors());
            let (threads, vectors) = if many && job.has_many_vectors(lines) {
                block(lines, MANY_VECTORS)
            } else {
                block(lines, if many { max } else { few })
            };
            let vectors = vectors.max(few);
            return Self::launch(Tier::Block { vectors }, count, threads).map(Some);
        }
        let blocks = blocks(lines, max);
        if caps.clusters && blocks <= MAX_CLUSTER && !caps.without.cluster {
            // Eight blocks of half the threads instead of four: on an H200 planes of 256 KB took 0.94 to 0.96
            // of the time, the gradients of planes of 128 KB 0.87 to 0.90. With four instead of two, the
            // gradients of 64 KB took 1.10.
            let blocks = if idle || blocks == 4 {
                MAX_CLUSTER
            } else {
                blocks.max(2)
            };
            let (threads, _) = block(lines.div_ceil(blocks), max);
            return Self::launch(Tier::Cluster { blocks }, count * blocks, threads).map(Some);
        }
        // Given their statistics, planes are read once by several blocks each as well.
        if !idle
            && !job.given
            && let Some((threads, bytes)) = job.in_shared(lines, caps, SUMS)
        {
            return Self::launch(Tier::Shared { bytes }, count, threads).map(Some);
        }
        Ok(None)
    }

    /// Groups of several planes, each of which is whole vectors, if they fit on chip.
    pub(super) fn of_groups(job: &Job, caps: Caps) -> Result<Option<Self>> {
        let fit =
            caps.every_kernel && !caps.without.groups && job.adjacent && job.aligned && !job.given;
        if !fit || job.channels_per_group == 1 || job.format == Format::ChannelsLast {
            return Ok(None);
        }
        let (groups, max, lines) = (
            job.count()? / job.channels_per_group,
            job.pass.max_vectors(),
            job.lines(),
        );
        let most = if caps.clusters { MAX_CLUSTER } else { 1 };
        let size = lines.saturating_mul(job.channels_per_group);
        let (blocks, of_block) = match job.pass {
            Pass::Forward => {
                let blocks = blocks(size, max);
                (blocks, size.div_ceil(blocks))
            }
            // Whole planes a block; of half the threads where those are enough, so that one block
            // computes while another waits.
            Pass::Backward => {
                let of = |threads: usize| match threads * max / lines {
                    0 => usize::MAX,
                    planes => job.channels_per_group.div_ceil(planes),
                };
                let half = of(MAX_THREADS / 2);
                let blocks = if half <= most { half } else { of(MAX_THREADS) };
                (blocks, job.channels_per_group.div_ceil(blocks) * lines)
            }
        };
        let backward = job.pass == Pass::Backward;
        if blocks <= most && !(backward && lines < MIN_GROUP_VECTORS) {
            let threads = of_block.div_ceil(max).next_multiple_of(WARP);
            return Self::launch(Tier::Groups { blocks }, groups * blocks, threads).map(Some);
        }
        // A warp sums each plane that it meets by itself: with as many vectors as lanes it meets one more
        // than a lane has vectors.
        let many_planes = lines < WARP || job.channels_per_group > MAX_SHARED_PLANES;
        if groups * IDLE <= caps.sm_count || backward && many_planes {
            return Ok(None);
        }
        let plan = job.in_shared(size, caps, GROUP_SUMS);
        plan.map(|(threads, bytes)| Self::launch(Tier::GroupsShared { bytes }, groups, threads))
            .transpose()
    }

    /// Strips of a channels-last tensor, if they fit on chip with whole groups.
    pub(super) fn of_strips(job: &Job, caps: Caps) -> Result<Option<Self>> {
        let given = job.given && job.pass == Pass::Backward;
        if job.format == Format::Planar || !caps.every_kernel || caps.without.strip || given {
            return Ok(None);
        }
        let (planes, max) = (job.planes, job.pass.max_vectors());
        let per_vector = VECTOR_BYTES / job.element;
        let most = if caps.clusters { MAX_CLUSTER } else { 1 };
        // As wide as a line of the L2 where that fits; the least that memory moves are two vectors.
        let vectors = planes.c.div_ceil(per_vector);
        let widest = vectors.next_power_of_two().min(MAX_COLUMNS);
        let teams = std::iter::successors(Some(widest), |team| Some(team / 2));
        for team in teams.take_while(|&team| team >= widest.min(2)) {
            // Of half the threads where those are enough, so that one block computes while another waits.
            let of = |threads: usize| planes.spatial.div_ceil(threads / team * max);
            let fits = |&blocks: &usize| blocks <= most;
            let blocks = [MAX_THREADS / 2, MAX_THREADS]
                .map(of)
                .into_iter()
                .find(fits);
            let whole_groups =
                job.given || (team * per_vector).is_multiple_of(job.channels_per_group);
            let Some(blocks) = blocks.filter(|_| whole_groups) else {
                continue;
            };
            let strips = job.count()? / planes.c * vectors.div_ceil(team);
            let bytes = planes.spatial * team * VECTOR_BYTES;
            let idle = strips * IDLE <= caps.sm_count && bytes >= SPLIT_MIN_BYTES;
            if idle && most == 1 {
                continue;
            }
            let count = if idle {
                most
            } else {
                blocks.next_power_of_two()
            };
            let length = planes.spatial.div_ceil(count);
            let threads = (length * team).div_ceil(max).next_multiple_of(WARP);
            let tier = Tier::Strip(Chunks {
                count,
                length,
                team,
            });
            return Self::launch(tier, strips * count, threads.max(MIN_THREADS)).map(Some);
        }
        Ok(None)
    }
}
