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
//! it. tests/devices/traffic.rs counts it all on the emulated driver: with 8 places a thread channels-last
//! reads 0.13 (forward) to 0.17 times more than the table has, for coefficients from the caches.

use super::Without;
use crate::shapes::{Format, Planes};
use crate::tuning::{
    MANY_VECTORS_THREADS, MAX_CLUSTER, MAX_COLUMNS, MAX_SHARED_PLANES, MAX_THREADS,
    MIN_GROUP_VECTORS, MOMENTS_NUMBERS, SPLIT_THREADS, SPLIT_VECTORS, VECTOR_BYTES, WARP,
    WARPS_PER_BLOCK,
};
use candle_core::{Result, bail};

const MIN_THREADS: usize = 64;
/// Vectors of x and of the gradient that the threads of small blocks keep where there are many planes.
pub(super) const MANY_VECTORS: usize = 8;
/// The fewest lanes of a warp that kernels give a plane.
pub(super) const LEAST_LANES: usize = 4;
/// Vectors of a lane before a plane takes more of them: 64 bytes in flight each.
pub(super) const LANE_VECTORS: usize = 4;
/// A chunk is a multiple of 128 bytes, a full line of the L2.
const CHUNK_VECTORS: usize = 8;
/// The least places of a thread, channels-last.
const MIN_PLACES: usize = 8;
/// The most vectors or places of a chunk: the kernels count its elements in an int.
const MAX_CHUNK: usize = 1 << 26;
/// Below this a plane is not worth a second launch: an estimate, on no GPU compared with more and less.
const SPLIT_MIN_BYTES: usize = 32 * 1024;
/// Numbers that a block has in shared memory for sums. Backward through an activation these are 9 of each of
/// 16 warps; with groups 11 of each, and 3 of each of 128 planes, of which every warp may share one.
const SUMS: usize = 144;
const GROUP_SUMS: usize = 608;
/// Below one of them for so many multiprocessors, planes are shared by several blocks each.
const IDLE: usize = 4;
/// The most blocks of a grid, and the most planes: the kernels count them in an int.
const MAX_GRID: usize = i32::MAX as usize;

/// The passes that a plan is made for; they differ in what a thread must keep in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pass {
    Forward,
    Backward,
}

impl Pass {
    /// Vectors per thread that the registers hold: 8 of x take 32 of the 64 registers that a thread has
    /// where two blocks of 512 share a multiprocessor; the backward pass keeps x and dy. On an H200
    /// planes of 3136 took 19.1 us with 8 in bf16, 21.2 with 4 and 27.7 with 2.
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

/// The shape of a call, for which a plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub pass: Pass,
    pub planes: Planes,
    pub format: Format,
    /// Neighbouring channels that share their statistics.
    pub channels_per_group: usize,
    /// The statistics are given, so that nothing has to be measured first.
    pub given: bool,
    /// The size of an element in bytes.
    pub element: usize,
    /// Every plane starts at a multiple of [`VECTOR_BYTES`].
    pub aligned: bool,
    /// The planes of a sample lie behind each other in every tensor of the call.
    pub adjacent: bool,
    /// Nothing goes beside the normalization, and the backend has kernels for this.
    pub plain: bool,
}

/// The properties of a GPU, and of the kernels for it, that decide a plan.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Multiprocessors.
    pub sm_count: usize,
    /// The blocks of a cluster reach each other's shared memory (compute capability 9.0).
    pub clusters: bool,
    /// Bytes of shared memory that a block may have; 0 without kernels that keep planes there.
    pub shared: usize,
    /// There are kernels that keep groups of planes on chip, and strips of channels-last tensors.
    pub groups_on_chip: bool,
    /// There are kernels for calls with nothing beside the normalization.
    pub plain_kernels: bool,
    /// There are kernels for AdaIN of content and style at once.
    pub adain: bool,
    /// Tiers that are not to be used.
    pub without: Without,
}

impl Caps {
    /// An NVIDIA GPU.
    pub const fn cuda(sm_count: usize, clusters: bool, shared: usize) -> Self {
        Self {
            sm_count,
            clusters,
            shared,
            groups_on_chip: true,
            plain_kernels: true,
            adain: true,
            without: Without::NONE,
        }
    }

    /// An Apple GPU of so many cores, each of which runs about one threadgroup of the largest size.
    pub const fn metal(cores: usize) -> Self {
        Self {
            sm_count: cores,
            clusters: false,
            shared: 0,
            groups_on_chip: false,
            plain_kernels: false,
            adain: false,
            without: Without::NONE,
        }
    }
}

/// Who computes a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Some lanes of a warp, the plane in their registers: `vectors` 16-byte vectors a thread.
    Lanes { lanes: usize, vectors: usize },
    /// A block, the plane in its registers.
    Block { vectors: usize },
    /// So many blocks of a cluster, the plane in their registers.
    Cluster { blocks: usize },
    /// A group of planes by a block or by so many of a cluster, in their registers.
    Groups { blocks: usize },
    /// Channels-last: `team` vectors of channels with all their places, by `count` blocks of a cluster, or by
    /// one block, in their registers.
    Strip(Chunks),
    /// A block, the plane in its registers and so many bytes of shared memory.
    Shared { bytes: usize },
    /// A group of planes by a block, in the same.
    GroupsShared { bytes: usize },
    /// Planes are cut in chunks: one launch measures those, one merges them, one maps the elements. Forward, the
    /// last one merges them itself where they are few.
    Split(Chunks),
    /// `Split` for adjacent channels.
    Columns(Chunks),
}

impl Tier {
    /// Blocks of a cluster; 1 without clusters.
    pub fn cluster(self) -> usize {
        match self {
            Self::Cluster { blocks } | Self::Groups { blocks } => blocks,
            Self::Strip(chunks) => chunks.count,
            _ => 1,
        }
    }

    /// Bytes of shared memory that a launch adds to what its kernel declares.
    pub fn shared(self) -> usize {
        match self {
            Self::Shared { bytes } | Self::GroupsShared { bytes } => bytes,
            _ => 0,
        }
    }
}

/// `count` chunks of `length` vectors each, for `team` threads, or, channels-last, of `length` places
/// with `team` vectors of channels side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    pub count: usize,
    pub length: usize,
    pub team: usize,
}

/// A launch on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuPlan {
    pub tier: Tier,
    pub grid: u32,
    pub threads: u32,
}

impl GpuPlan {
    pub fn new(job: &Job, caps: Caps) -> Result<Self> {
        let sm_count = caps.sm_count;
        if let Some(plan) = Self::of_groups(job, caps)? {
            return Ok(plan);
        }
        if let Some(plan) = Self::of_strips(job, caps)? {
            return Ok(plan);
        }
        // Otherwise only planes of adjacent elements are kept on chip, each with statistics of its own.
        let own = match job.pass {
            Pass::Forward => job.channels_per_group == 1 || job.given,
            Pass::Backward => job.channels_per_group == 1 && !job.given,
        };
        if !own || job.format == Format::ChannelsLast {
            return Self::multi_pass(job, caps);
        }
        let (count, max) = (job.count()?, job.pass.max_vectors());
        let lines = job.lines();
        let bytes = job.planes.spatial.saturating_mul(job.element);
        let idle = count * IDLE <= sm_count && bytes >= SPLIT_MIN_BYTES;
        if lines <= WARP * max && !caps.without.lanes {
            // The fewest lanes that have loads enough in flight: less of each is spent on sums.
            let lanes = lines.div_ceil(LANE_VECTORS).next_power_of_two();
            let lanes = lanes.clamp(LEAST_LANES, WARP);
            let tier = Tier::Lanes {
                lanes,
                vectors: lines.div_ceil(lanes).next_power_of_two(),
            };
            let threads = WARP * WARPS_PER_BLOCK;
            return Self::launch(tier, count.div_ceil(threads / lanes), threads);
        }
        if lines <= MAX_THREADS * max && !idle && !caps.without.block {
            // Many planes fill the machine by themselves, and small blocks with full registers leave
            // several of them per multiprocessor.
            let (many, few) = (count >= 4 * sm_count, job.pass.few_vectors());
            let (threads, vectors) = if many && job.has_many_vectors(lines) {
                block(lines, MANY_VECTORS)
            } else {
                block(lines, if many { max } else { few })
            };
            let vectors = vectors.max(few);
            return Self::launch(Tier::Block { vectors }, count, threads);
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
            return Self::launch(Tier::Cluster { blocks }, count * blocks, threads);
        }
        // Given their statistics, planes are read once by several blocks each as well.
        if !idle
            && !job.given
            && let Some((threads, bytes)) = job.in_shared(lines, caps, SUMS)
        {
            return Self::launch(Tier::Shared { bytes }, count, threads);
        }
        Self::multi_pass(job, caps)
    }

    /// Groups of several planes, each of which is whole vectors, if they fit on chip.
    fn of_groups(job: &Job, caps: Caps) -> Result<Option<Self>> {
        let fit = caps.groups_on_chip
            && !caps.without.groups
            && job.adjacent
            && job.aligned
            && !job.given;
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
    fn of_strips(job: &Job, caps: Caps) -> Result<Option<Self>> {
        let given = job.given && job.pass == Pass::Backward;
        if job.format == Format::Planar || !caps.groups_on_chip || caps.without.strip || given {
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
            let idle = strips * 4 <= caps.sm_count && bytes >= SPLIT_MIN_BYTES;
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

impl Job {
    /// Blocks per multiprocessor in which planes are cut, the fastest on an H200. A block keeps 16 KB
    /// in flight, 25 KB a multiprocessor hide the latency of its memory, and more blocks are more
    /// parts to merge. Planes of 2^20 to 2^23 elements took 61 us with 2 (geometric mean), 65 with 4
    /// and 73 with 1, their gradients 93, 108 and 98; group norm with SiLU, which has more to do
    /// with an element, 347 us with 4 and 456 with 2. Channels-last, a block that starts reads the
    /// coefficients of all its channels: 52 us with 1, 58 with 4.
    fn blocks_per_sm(&self) -> usize {
        match (self.format, self.pass) {
            (Format::ChannelsLast, _) => 1,
            (Format::Planar, Pass::Forward) if !self.plain => 4,
            (Format::Planar, _) => 2,
        }
    }

    /// True if the threads of a small block have `MANY_VECTORS` of a plane, so that less is spent on sums: by
    /// count a sixth of the instructions of gradients of planes of 3136 (33.7 an element in bf16, 40.2 with
    /// half as many vectors). Not timed.
    fn has_many_vectors(&self, lines: usize) -> bool {
        let threads = MIN_THREADS * MANY_VECTORS / 2..=MANY_VECTORS_THREADS * MANY_VECTORS;
        self.pass == Pass::Backward && self.plain && threads.contains(&lines)
    }

    /// Threads of a block that keeps so many vectors in its registers and shared memory, and its bytes of the
    /// latter, if a block may have these beside so many sums. On no GPU timed.
    fn in_shared(&self, lines: usize, caps: Caps, sums: usize) -> Option<(usize, usize)> {
        let max = self.pass.max_vectors();
        // Rows of 16 bytes a thread, for each vector: of x, and of dy and then the gradient of the normalized
        // elements, which is f32 where it is not dy itself.
        let rows = match self.pass {
            Pass::Forward => 1,
            Pass::Backward if self.plain => 2,
            Pass::Backward => 1 + (4 / self.element).max(1),
        };
        let (threads, _) = block(lines, lines.div_ceil(MAX_THREADS).max(max));
        let behind = lines.div_ceil(threads).saturating_sub(max);
        let bytes = behind * rows * threads * VECTOR_BYTES;
        let fits = !caps.without.shared && bytes + sums * self.element.max(4) <= caps.shared;
        fits.then_some((threads, bytes))
    }

    fn count(&self) -> Result<usize> {
        let count = self.planes.count();
        if count > MAX_GRID {
            bail!("norm: expected at most {MAX_GRID} planes, got {count}");
        }
        Ok(count)
    }

    fn lines(&self) -> usize {
        lines(self.planes.spatial, self.element, self.aligned)
    }
}

/// The number of chunks of `size` and their length: about `wanted` of them, none of which is smaller
/// than `least`, what a block loads at once; all but the last a multiple of `unit`.
fn chunks(size: usize, wanted: usize, least: usize, unit: usize) -> (usize, usize) {
    let most = size.div_ceil(least).max(1);
    let chunk = size
        .div_ceil(wanted.clamp(1, most))
        .next_multiple_of(unit)
        .clamp(unit, MAX_CHUNK);
    (size.div_ceil(chunk).max(1), chunk)
}

/// Vectors that a plane touches; one that starts anywhere may straddle one more.
fn lines(spatial: usize, element: usize, aligned: bool) -> usize {
    let per_vector = VECTOR_BYTES / element;
    let head = if aligned { 0 } else { per_vector - 1 };
    (spatial + head).div_ceil(per_vector).max(1)
}

/// Blocks whose registers hold so many vectors, `max` a thread: a power of two.
fn blocks(lines: usize, max: usize) -> usize {
    lines.div_ceil(MAX_THREADS * max).next_power_of_two()
}

/// Threads of a block and vectors of each, `target` of them where that many threads can be had.
fn block(lines: usize, target: usize) -> (usize, usize) {
    let threads = lines
        .div_ceil(target)
        .next_multiple_of(WARP)
        .clamp(MIN_THREADS, MAX_THREADS);
    (threads, lines.div_ceil(threads).next_power_of_two())
}

#[cfg(test)]
mod tests;
