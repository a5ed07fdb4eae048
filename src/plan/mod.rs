//! The division of a call into work, as plain data: decided from the shape alone, without a device.

mod cpu;
// Without a GPU backend only tests use these, on purpose.
#[cfg_attr(not(any(feature = "cuda", feature = "metal")), allow(dead_code))]
mod gpu;
#[cfg_attr(not(any(feature = "cuda", feature = "metal")), allow(dead_code))]
mod kernel;
#[cfg_attr(not(any(feature = "cuda", feature = "metal")), allow(dead_code))]
mod overrides;

pub use cpu::{CpuPlan, L1_ELEMENTS, SEGMENT, STREAM_BYTES};
#[allow(unused_imports)] // likewise
pub use gpu::{Caps, Chunks, GpuPlan, Job, Pass, Tier};
#[allow(unused_imports)]
pub use kernel::{Kernel, Phase};
#[allow(unused_imports)]
pub use overrides::{Without, tell};
