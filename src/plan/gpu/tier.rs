//! What a GPU has, and which of it computes a plane.

use crate::plan::Without;

/// The properties of a GPU, and of the kernels for it, that decide a plan.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Multiprocessors.
    pub sm_count: usize,
    /// The blocks of a cluster reach each other's shared memory (compute capability 9.0).
    pub clusters: bool,
    /// Bytes of shared memory that a block may have; 0 without kernels that keep planes there.
    pub shared: usize,
    /// There are kernels that keep groups of planes and strips of channels-last tensors on chip, for calls
    /// with nothing beside the normalization, and for AdaIN of content and style at once.
    pub every_kernel: bool,
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
            every_kernel: true,
            without: Without::NONE,
        }
    }

    /// An Apple GPU of so many cores, each of which runs about one threadgroup of the largest size.
    pub const fn metal(cores: usize) -> Self {
        Self {
            sm_count: cores,
            clusters: false,
            shared: 0,
            every_kernel: false,
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
