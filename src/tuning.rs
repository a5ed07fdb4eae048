//! Launch constants that the kernels are compiled with, as macros of the same names: `build.rs`
//! includes this file and hands them to nvcc, `metal/module.rs` puts them before the Metal source.

/// Threads of a warp.
pub const WARP: usize = 32;
/// Planes per block in the warp tier.
pub const WARPS_PER_BLOCK: usize = 4;
/// The most threads of a block in the block tier. Two blocks of 512 fit on a multiprocessor with 64 registers
/// a thread, which 8 vectors with their sums take; of 1024 it would be one, and nothing would run while
/// that waits at a barrier.
pub const MAX_THREADS: usize = 512;
/// The most blocks of a cluster that every GPU with clusters can place.
pub const MAX_CLUSTER: usize = 8;
/// Threads of a block in the split tier.
pub const SPLIT_THREADS: usize = 256;
/// Vectors that a thread of the split tier loads before it computes: 16 KB in flight a block.
pub const SPLIT_VECTORS: usize = 4;
/// The most vectors of channels that a block has side by side, channels-last: 128 bytes, a full line
/// of the L2.
pub const MAX_COLUMNS: usize = 8;
/// Threads of a block that sums gradients over N.
pub const PARAM_THREADS: usize = 256;
/// The fewest vectors of a plane of a set whose gradients are kept on chip: a warp sums each plane that
/// it meets by itself.
pub const MIN_SET_VECTORS: usize = 4;
/// Bytes of one vector access.
pub const VECTOR_BYTES: usize = 16;

/// The name and value of each of them.
#[allow(dead_code)] // build.rs and the Metal backend use it
pub const ALL: [(&str, usize); 10] = [
    ("WARP", WARP),
    ("WARPS_PER_BLOCK", WARPS_PER_BLOCK),
    ("MAX_THREADS", MAX_THREADS),
    ("MAX_CLUSTER", MAX_CLUSTER),
    ("SPLIT_THREADS", SPLIT_THREADS),
    ("SPLIT_VECTORS", SPLIT_VECTORS),
    ("MAX_COLUMNS", MAX_COLUMNS),
    ("PARAM_THREADS", PARAM_THREADS),
    ("MIN_SET_VECTORS", MIN_SET_VECTORS),
    ("VECTOR_BYTES", VECTOR_BYTES),
];
