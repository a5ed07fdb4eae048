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
/// The most threads of a block whose threads keep 8 vectors of x and 8 of the gradient.
pub const MANY_VECTORS_THREADS: usize = 128;
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
/// The most parameters whose gradients one launch sums: weight, bias, mean and rstd.
pub const MAX_PARAMS: usize = 4;
/// The fewest vectors of a plane of a group whose gradients are kept on chip: a warp sums each plane that
/// it meets by itself.
pub const MIN_GROUP_VECTORS: usize = 4;
/// The most planes of a group whose gradients take shared memory beside registers: it has their sums as well.
pub const MAX_SHARED_PLANES: usize = 128;
/// Bytes of one vector access.
pub const VECTOR_BYTES: usize = 16;

/// Sizes of the structs in kernels/shared/abi.h, and where `x` is in a `Call`, behind what may be padding:
/// with numbers of f64, and of f32 where there is no other.
pub const CALL_BYTES_F64: usize = 384;
pub const CALL_BYTES_F32: usize = 360;
pub const CALL_X_AT_F64: usize = 96;
pub const CALL_X_AT_F32: usize = 72;
pub const CHUNKS_BYTES: usize = 12;
pub const PARAM_SUM_BYTES: usize = 32;
/// `ParamSums` in kernels/cuda/finish.cu.
pub const PARAM_SUMS_BYTES: usize = 136;

/// Numbers of the type of sums that the structs between launches take at most, in whole vectors.
pub const MOMENTS_NUMBERS: usize = 4;
pub const COMOMENTS_NUMBERS: usize = 8;
pub const AFFINE_NUMBERS: usize = 4;
pub const GRADIENT_NUMBERS: usize = 8;

/// The name and value of each of them.
#[allow(dead_code)] // build.rs and the Metal backend use it
pub const ALL: [(&str, usize); 24] = [
    ("WARP", WARP),
    ("WARPS_PER_BLOCK", WARPS_PER_BLOCK),
    ("MAX_THREADS", MAX_THREADS),
    ("MANY_VECTORS_THREADS", MANY_VECTORS_THREADS),
    ("MAX_CLUSTER", MAX_CLUSTER),
    ("SPLIT_THREADS", SPLIT_THREADS),
    ("SPLIT_VECTORS", SPLIT_VECTORS),
    ("MAX_COLUMNS", MAX_COLUMNS),
    ("PARAM_THREADS", PARAM_THREADS),
    ("MAX_PARAMS", MAX_PARAMS),
    ("MIN_GROUP_VECTORS", MIN_GROUP_VECTORS),
    ("MAX_SHARED_PLANES", MAX_SHARED_PLANES),
    ("VECTOR_BYTES", VECTOR_BYTES),
    ("CALL_BYTES_F64", CALL_BYTES_F64),
    ("CALL_BYTES_F32", CALL_BYTES_F32),
    ("CALL_X_AT_F64", CALL_X_AT_F64),
    ("CALL_X_AT_F32", CALL_X_AT_F32),
    ("CHUNKS_BYTES", CHUNKS_BYTES),
    ("PARAM_SUM_BYTES", PARAM_SUM_BYTES),
    ("PARAM_SUMS_BYTES", PARAM_SUMS_BYTES),
    ("MOMENTS_NUMBERS", MOMENTS_NUMBERS),
    ("COMOMENTS_NUMBERS", COMOMENTS_NUMBERS),
    ("AFFINE_NUMBERS", AFFINE_NUMBERS),
    ("GRADIENT_NUMBERS", GRADIENT_NUMBERS),
];
