//! The shape of a call, and how it is cut.

use super::Caps;
use crate::shapes::{Format, Planes};
use crate::tuning::{MANY_VECTORS_THREADS, MAX_THREADS, VECTOR_BYTES, WARP};
use candle_core::{Result, bail};

pub(super) const MIN_THREADS: usize = 64;
/// Vectors of x and of the gradient that the threads of small blocks keep where there are many planes.
pub(in crate::plan) const MANY_VECTORS: usize = 8;
/// The most vectors or places of a chunk: the kernels count its elements in an int.
pub(super) const MAX_CHUNK: usize = 1 << 26;
/// Below one of them for so many multiprocessors, planes are shared by several blocks each.
pub(super) const IDLE: usize = 4;
/// Below this a plane is not worth a second launch: an estimate, on no GPU compared with more and less.
pub(super) const SPLIT_MIN_BYTES: usize = 32 * 1024;
/// The most blocks of a grid, and the most planes: the kernels count them in an int.
pub(super) const MAX_GRID: usize = i32::MAX as usize;

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

impl Job {
    /// Blocks per multiprocessor in which planes are cut, the fastest on an H200. A block keeps 16 KB
    /// in flight, 25 KB a multiprocessor hide the latency of its memory, and more blocks are more
    /// parts to merge. Planes of 2^20 to 2^23 elements took 61 us with 2 (geometric mean), 65 with 4
    /// and 73 with 1, their gradients 93, 108 and 98; group norm with SiLU, which has more to do
    /// with an element, 347 us with 4 and 456 with 2. Channels-last, a block that starts reads the
    /// coefficients of all its channels: 52 us with 1, 58 with 4.
    pub(super) fn blocks_per_sm(&self) -> usize {
        match (self.format, self.pass) {
            (Format::ChannelsLast, _) => 1,
            (Format::Planar, Pass::Forward) if !self.plain => 4,
            (Format::Planar, _) => 2,
        }
    }

    /// True if the threads of a small block have `MANY_VECTORS` of a plane, so that less is spent on sums: by
    /// count a sixth of the instructions of gradients of planes of 3136 (33.7 an element in bf16, 40.2 with
    /// half as many vectors). Not timed.
    pub(super) fn has_many_vectors(&self, lines: usize) -> bool {
        let threads = MIN_THREADS * MANY_VECTORS / 2..=MANY_VECTORS_THREADS * MANY_VECTORS;
        self.pass == Pass::Backward && self.plain && threads.contains(&lines)
    }

    /// Threads of a block that keeps so many vectors in its registers and shared memory, and its bytes of the
    /// latter, if a block may have these beside so many sums. On no GPU timed.
    pub(super) fn in_shared(
        &self,
        lines: usize,
        caps: Caps,
        sums: usize,
    ) -> Option<(usize, usize)> {
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

    pub(super) fn count(&self) -> Result<usize> {
        let count = self.planes.count();
        if count > MAX_GRID {
            bail!("norm: expected at most {MAX_GRID} planes, got {count}");
        }
        Ok(count)
    }

    pub(super) fn lines(&self) -> usize {
        lines(self.planes.spatial, self.element, self.aligned)
    }
}

/// The number of chunks of `size` and their length: about `wanted` of them, none of which is smaller
/// than `least`, what a block loads at once; all but the last a multiple of `unit`.
pub(super) fn chunks(size: usize, wanted: usize, least: usize, unit: usize) -> (usize, usize) {
    let most = size.div_ceil(least).max(1);
    let chunk = size
        .div_ceil(wanted.clamp(1, most))
        .next_multiple_of(unit)
        .clamp(unit, MAX_CHUNK);
    (size.div_ceil(chunk).max(1), chunk)
}

/// Vectors that a plane touches; one that starts anywhere may straddle one more.
pub(super) fn lines(spatial: usize, element: usize, aligned: bool) -> usize {
    let per_vector = VECTOR_BYTES / element;
    let head = if aligned { 0 } else { per_vector - 1 };
    (spatial + head).div_ceil(per_vector).max(1)
}

/// Blocks whose registers hold so many vectors, `max` a thread: a power of two.
pub(super) fn blocks(lines: usize, max: usize) -> usize {
    lines.div_ceil(MAX_THREADS * max).next_power_of_two()
}

/// Threads of a block and vectors of each, `target` of them where that many threads can be had.
pub(super) fn block(lines: usize, target: usize) -> (usize, usize) {
    let threads = lines
        .div_ceil(target)
        .next_multiple_of(WARP)
        .clamp(MIN_THREADS, MAX_THREADS);
    (threads, lines.div_ceil(threads).next_power_of_two())
}
